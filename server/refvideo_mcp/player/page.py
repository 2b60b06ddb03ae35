"""The player's page: its files as one document, because a host loads nothing beside it."""

import re
from pathlib import Path

__all__ = ["page"]

_HERE = Path(__file__).parent
_STYLE = re.compile(r'<link rel="stylesheet" href="([a-z]+\.css)">')
_SCRIPT = re.compile(r'<script src="([a-z]+\.js)"></script>')


def page() -> str:
    """One HTML document that refers to nothing outside itself."""
    html = _STYLE.sub(lambda found: f"<style>\n{_text(found[1])}</style>", _text("index.html"))
    return _SCRIPT.sub(lambda found: f"<script>\n{_text(found[1])}</script>", html)


def _text(name: str) -> str:
    return (_HERE / name).read_text(encoding="utf-8")
