"""The sandbox's own page: how to point a server at it, and what can be rehearsed."""

import html
import re
from pathlib import Path

from .reasons import STATUS_OF
from .rehearsals import ENDINGS


def page(base_url: str, submit_path: str, result_path: str) -> str:
    """The page as HTML, with its tables from the code's own."""
    text = Path(__file__).with_name("page.html").read_text(encoding="utf-8")
    values = {
        "base_url": html.escape(base_url),
        "submit_path": submit_path,
        "result_path": result_path,
        "endings": "".join(_row(name, says) for name, says in ENDINGS.items()),
        "reasons": "".join(_row(name, f"HTTP {status}") for name, status in STATUS_OF.items()),
    }
    return re.sub(r"\{\{(\w+)\}\}", lambda match: values[match[1]], text)


def _row(name: str, says: str) -> str:
    words = re.sub(r"`([^`]+)`", r"<code>\1</code>", html.escape(says))
    return f"<tr><td><code>[rehearse:{name}]</code></td><td>{words}</td></tr>"
