"""Which subjects a prompt names, which names no subject has, and which can only be meant for one."""

import re
from collections.abc import Sequence

__all__ = ["is_mentioned", "meant", "unknown_mentions"]

# ASCII only: in "@1和@2" the mention is "1".
_MENTION = re.compile(r"(?<![A-Za-z0-9_])@([A-Za-z0-9_-]+)")
_END = "(?![A-Za-z0-9_])"
# A shorter name is too near to too many others.
SHORTEST_TO_MISTYPE = 3
MOST_COMPARED = 50


def is_mentioned(subject_id: str, prompt: str) -> bool:
    return re.search(rf"@{re.escape(subject_id)}{_END}", prompt) is not None


def unknown_mentions(prompt: str, ids: Sequence[str]) -> list[str]:
    """Names after an @ that no subject has; `@1-year` counts as the subject `1`."""
    known = set(ids)
    found = dict.fromkeys(_MENTION.findall(prompt))
    return [name for name in found if name not in known and not any(name.startswith(f"{i}-") for i in known)]


def meant(prompt: str, ids: Sequence[str]) -> dict[str, list[str]]:
    """What a prompt writes where it can only mean a subject that it does not name → the ids that it may mean."""
    found: dict[str, list[str]] = {}
    for name in unknown_mentions(prompt, ids)[:MOST_COMPARED]:
        if near := [
            subject_id for subject_id in ids[:MOST_COMPARED] if _is_near(name.casefold(), subject_id.casefold())
        ]:
            found[f"@{name}"] = near
    for subject_id in ids[:MOST_COMPARED]:
        # Also "@ fox", and the @ of Chinese keyboards.
        loosely = rf"(?:(?<![A-Za-z0-9_])@|\uff20)\s*{re.escape(subject_id)}{_END}"
        written = re.search(loosely, prompt, re.IGNORECASE)
        if written and not is_mentioned(subject_id, prompt):
            found[written[0]] = [subject_id]
    return found


def _is_near(name: str, other: str) -> bool:
    """Whether they are the same, or one letter was added, left out, taken for another or for its neighbour."""
    if name == other:
        return True
    shorter, longer = sorted((name, other), key=len)
    if len(shorter) < SHORTEST_TO_MISTYPE or len(longer) - len(shorter) > 1 or name.isdigit() or other.isdigit():
        return False
    start = next((i for i, (a, b) in enumerate(zip(shorter, longer, strict=False)) if a != b), len(shorter))
    one, two = shorter[start:], longer[start:]
    if len(one) < len(two):
        return one == two[1:]
    return one[1:] == two[1:] or one[1::-1] + one[2:] == two
