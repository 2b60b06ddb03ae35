"""Errors are written for agents, who have a user and tools. Here the reader is the user, and has commands."""

import re

__all__ = ["to_people"]

_WORDS = [
    (r'(?:Call )?get_task_result with task_id "([^"]+)"', r"refvideo-mcp result \1"),
    (r'get_task_result, for example task_id "([^"]+)"', r"refvideo-mcp result \1"),
    (r"generate_reference_video", "refvideo-mcp generate"),
    (r"list_reference_videos", "refvideo-mcp list"),
    (r"Ask the user for ", "Give "),
    (r"`subjects`", "`--subject`"),
    (r"\bsave_to\b", "--save-to"),
    (r"unless the user allows it", "unless you allow it"),
    (r"call (?:again|once more)", "try again"),
]
_TO_THE_USER = re.compile(r"(Ask the user to|ask the user to|Tell the user, and ask them to|Tell the user:) ([^.;]*)")


def to_people(text: str) -> str:
    """An error's text as a person at a terminal reads it."""
    for words, instead in _WORDS:
        text = re.sub(words, instead, text)
    return _TO_THE_USER.sub(_directly, text)


def _directly(found: re.Match[str]) -> str:
    """What the user was to be asked to do, said to the user."""
    told = re.sub(r" (and|or) to (?=[a-z])", r" \1 ", found[2])
    return told if found[1].startswith("a") else told[:1].upper() + told[1:]
