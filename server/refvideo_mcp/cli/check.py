"""One line of the doctor's."""

from dataclasses import dataclass

__all__ = ["Check"]


@dataclass(frozen=True)
class Check:
    """`ok` is None for what is not set up, which is fine, or could not be looked at."""

    name: str
    ok: bool | None
    found: str
    remedy: str = ""
