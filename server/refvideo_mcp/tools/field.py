"""What agents are told of pictures without a path, where the player has a field for them."""

from typing import Any

__all__ = ["FIELD", "with_field"]

FIELD = (
    "The user sees where to give the pictures, right here in the chat: "
    "when told that they are here, make the same call again, without images."
)
_ELSEWHERE_AND_HERE = {
    "cannot be read here: ask for a file path or URL.": "are given by the user here, once you leave images out.",
    "has no path: ask for it.": "has no path: leave images out.",
}


def with_field(told: Any) -> Any:
    """The same text, or texts in a structure."""
    match told:
        case str():
            for elsewhere, here in _ELSEWHERE_AND_HERE.items():
                told = told.replace(elsewhere, here)
            return told
        case dict():
            return {name: with_field(part) for name, part in told.items()}
        case list():
            return [with_field(part) for part in told]
    return told
