"""Logging on stderr; the key never gets through, not even in a traceback."""

import logging
import sys

from refvideo_mcp.errors import is_invisible
from refvideo_mcp.settings import Settings

__all__ = ["configure_logging"]


class _Redacting(logging.Formatter):
    def __init__(self, key: str):
        super().__init__("%(asctime)s %(levelname)s %(name)s: %(message)s")
        self._key = key

    def format(self, record: logging.LogRecord) -> str:
        text = super().format(record)
        text = text.replace(self._key, "[key]") if self._key else text
        # What another program said must not move the cursor of the terminal that reads this.
        return "".join("?" if is_invisible(c) and c not in "\n\t" else c for c in text)


def configure_logging(settings: Settings) -> None:
    """Send every log line to stderr, from `settings.log_level` up."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Redacting("" if settings.sandbox else settings.api_key))
    logging.basicConfig(level=settings.log_level.upper(), handlers=[handler], force=True)
    for library in ("httpx2", "httpcore2"):  # they log whole URLs, and presigned links are secrets
        logging.getLogger(library).setLevel(logging.WARNING)
