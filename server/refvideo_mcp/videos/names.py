"""What a video is called."""

import hashlib
import re
import unicodedata
from datetime import datetime

__all__ = ["file_name"]

_LONGEST_SUBJECT = 40  # characters; at four bytes each the whole name still has less than 200


def file_name(task_id: str, made_at: float, prompt: str | None, seconds: int | None) -> str:
    """A name people recognise, without its ending: `2026-11-23 cat-on-skateboard 5s 7f3a`. `made_at` is epoch time."""
    # It begins with a date, so it is none of the names that Windows keeps for devices.
    length = f" {seconds}s" if seconds else ""
    tag = hashlib.sha256(task_id.encode("utf-8", "replace")).hexdigest()[:4]
    return f"{datetime.fromtimestamp(made_at):%Y-%m-%d} {_subject(prompt or '')}{length} {tag}"


def _subject(prompt: str) -> str:
    text = re.sub(r"@[0-9]+(?![A-Za-z0-9_-])", " ", unicodedata.normalize("NFC", prompt))
    text = re.sub(r"['\u2019]", "", text).lower()
    # Letters, digits and the marks that belong to them (Hindi has vowels that are marks): no control characters, no
    # changes of direction, no slashes.
    words = "".join(c if unicodedata.category(c)[0] in "LNM" else " " for c in text).split()[:5]
    return "-".join(words)[:_LONGEST_SUBJECT].strip("-") or "video"
