"""Jobs as a table for people, as wide as the terminal; a program gets every cell whole."""

import textwrap
from collections.abc import Sequence
from pathlib import Path

from refvideo_mcp.cli.console import Console, shown
from refvideo_mcp.errors import clean
from refvideo_mcp.jobs import Found, failure, is_unusually_long, recipe_of, row_note, took, usage_in_words
from refvideo_mcp.ledger import Job

__all__ = ["print_jobs"]

GAP = "  "
INDENT = " " * 4
SHORTEST_ID = 8  # an id is found by six of its characters
SHORTEST_KEY = 12  # "job-" begins every key of ours
NARROWEST_PROMPT = 16
NARROWEST_FILE = 18
LONGEST = 300
LONGEST_PATH = 4096


def print_jobs(found: Found, console: Console, balance: str) -> None:
    """The jobs, newest first; below each whatever is wrong with it, and what to do."""
    rows = [_cells(job, found) for job in found.jobs]
    if console.is_terminal:
        for row, name in zip(rows, _short([row[0] for row in rows]), strict=True):
            row[0] = name
    heads = ["id", "state", "age", "length", "prompt", "file"]
    widths = _widths([heads, *rows], console.columns if console.is_terminal else None)
    console.line(_joined(heads, widths).rstrip(), "dim")
    for job, row in zip(found.jobs, rows, strict=True):
        start, prompt, file = _joined(row[:4], widths[:4]), _cut(row[4], widths[4]), _end(row[5], widths[5])
        console.line(f"{start}{GAP}", "", f"{prompt:<{widths[4]}}{GAP}{file}".rstrip(), "dim")
        _print_below(console, " ".join(filter(None, (_note(job, found), _step(job, found.now)))))
    if found.one:
        _print_recipe(found.one, console)
    for told in (_older(found), usage_in_words(found.usage), balance):
        if told and console.is_terminal:
            _print_words(console, told)


def _cells(job: Job, found: Found) -> list[str]:
    length = f"{job.seconds} s" if job.seconds else ""
    file = clean(shown(job.saved_to), LONGEST_PATH) if job.saved_to else ""
    return [job.handle, job.state, _age(found.now - job.opened_at), length, clean(job.prompt or "", LONGEST), file]


def _age(seconds: float) -> str:
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= length:
            return f"{seconds // length:.0f} {unit}"
    return f"{max(0.0, seconds):.0f} s"


def _short(handles: Sequence[str]) -> list[str]:
    """As much of each as tells it from the others."""

    def beginning(handle: str) -> str:
        for length in range(SHORTEST_KEY if handle.startswith("job-") else SHORTEST_ID, len(handle)):
            if sum(other.startswith(handle[:length]) for other in handles) == 1:
                return handle[:length]
        return handle

    return [beginning(handle) for handle in handles]


def _widths(rows: Sequence[Sequence[str]], columns: int | None) -> list[int]:
    """Of each column; prompt and file share what the others leave of a terminal."""
    widths = [max(map(len, cells)) for cells in zip(*rows, strict=True)]
    if columns is None:
        return widths
    room = columns - sum(widths[:4]) - 5 * len(GAP)
    if widths[4] + widths[5] > room:
        file = min(widths[5], max(NARROWEST_FILE, room - widths[4], room // 3))
        widths[4] = min(widths[4], max(NARROWEST_PROMPT, room - file))
        widths[5] = max(0, min(widths[5], room - widths[4]))
    if widths[5] < NARROWEST_FILE:  # it would show no name
        widths[4], widths[5] = min(max(map(len, (row[4] for row in rows))), max(room, NARROWEST_PROMPT)), 0
    return widths


def _joined(cells: Sequence[str], widths: Sequence[int]) -> str:
    return GAP.join(f"{cell[:width]:<{width}}" for cell, width in zip(cells, widths, strict=True))


def _cut(text: str, width: int) -> str:
    return text if len(text) <= width else text[: max(0, width - 1)].rstrip() + "…"


def _end(text: str, width: int) -> str:
    """The end of a path, which has the name."""
    return text if len(text) <= width else "…" + text[len(text) - width + 1 :] if width > 1 else ""


def _note(job: Job, found: Found) -> str:
    note = row_note(job, found.now) or ""
    return f"{note.rstrip('.')}." if note else ""


def _step(job: Job, now: float) -> str:
    """What a person can do about a job without a video."""
    match job.state:
        case "failed":
            return failure(job, job.gateway).advice.for_person
        case "rejected":
            return "Mend it, then make it again."
        case "uncertain" if not job.released:
            return f"Look for it in the console of {job.gateway}; see refvideo-mcp release {job.key}."
    return f"refvideo-mcp result {job.handle} asks again." if is_unusually_long(job, now) else ""


def _print_recipe(job: Job, console: Console) -> None:
    """What a single job was made of, and where its file is."""
    if (recipe := recipe_of(job)) is None:
        return
    subjects, prompt = recipe.pop("subjects"), recipe.pop("prompt")
    _print_below(console, clean(prompt, LONGEST_PATH))
    settings = [f"{name} {str(value).lower() if isinstance(value, bool) else value}" for name, value in recipe.items()]
    _print_below(console, f"{', '.join(settings)}; it took {took(job)} s of the allowance")
    for subject in subjects:
        pictures = ", ".join(clean(image, LONGEST_PATH) for image in subject.get("images", ["the cast"]))
        console.line(f"{INDENT}@{clean(subject['id'], 60)}: {pictures}", "dim")
    if job.saved_to:
        console.line(f"{INDENT}{clean(str(Path(job.saved_to)), LONGEST_PATH)}")


def _print_below(console: Console, text: str) -> None:
    """Words, broken between them where a terminal would break them anywhere."""
    _print_words(console, text, INDENT)


def _print_words(console: Console, text: str, indent: str = "") -> None:
    width = max(NARROWEST_PROMPT, console.columns - len(indent)) if console.is_terminal else LONGEST_PATH
    for line in textwrap.wrap(text, width, break_on_hyphens=False, break_long_words=False):
        console.line(f"{indent}{line}", "dim")


def _older(found: Found) -> str:
    if not 0 < len(found.jobs) < found.total:
        return ""
    return f"{len(found.jobs)} of {found.total} jobs. Older ones: refvideo-mcp list --before {found.jobs[-1].handle}"
