"""Folders that the user allowed, remembered in a file of this user's state folder."""

import contextlib
import json
import os
import tempfile
from pathlib import Path

__all__ = ["Grants"]


class Grants:
    """The folders in `file`; without a file, or while it cannot be written, this process alone remembers."""

    def __init__(self, file: Path | None):
        self._file = file
        self._here: list[Path] = []

    def folders(self) -> list[Path]:
        """All folders allowed so far, by this process or another one. A damaged file counts as empty."""
        stored: object = None
        if self._file is not None:
            with contextlib.suppress(OSError, ValueError, RecursionError):
                stored = json.loads(self._file.read_text("utf-8"))
        names = stored.get("folders") if isinstance(stored, dict) else None
        known = [Path(name) for name in names if isinstance(name, str)] if isinstance(names, list) else []
        return list(dict.fromkeys([folder for folder in known if folder.is_absolute()] + self._here))

    def add(self, folder: Path) -> None:
        self._here.append(folder)
        if self._file is None:
            return
        content = json.dumps({"folders": [str(known) for known in self.folders()]}, indent=2)
        with contextlib.suppress(OSError):
            self._file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            _replace(self._file, content)


def _replace(file: Path, content: str) -> None:
    """Write a file readable by its owner only, all of it or nothing."""
    with tempfile.NamedTemporaryFile("w", encoding="utf-8", dir=file.parent, prefix=".grants-", delete=False) as part:
        try:
            part.write(content)
            part.flush()
            os.fsync(part.fileno())
            part.close()
            Path(part.name).replace(file)  # NamedTemporaryFile made it 0600
        except BaseException:
            part.close()
            Path(part.name).unlink(missing_ok=True)
            raise
