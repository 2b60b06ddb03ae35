"""Why a command cannot go on."""

__all__ = ["Failed"]


class Failed(Exception):
    """Its text is what the person at the terminal reads."""
