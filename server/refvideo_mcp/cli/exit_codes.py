"""What a command's exit code says, in one place for `--help` and for the code."""

__all__ = ["DONE", "FAILED", "INTERRUPTED", "NOT_OVER", "REFUSED", "UNCERTAIN", "in_words"]

DONE, FAILED, REFUSED, NOT_OVER, UNCERTAIN, INTERRUPTED = 0, 1, 2, 3, 4, 130

_MEANINGS = {
    DONE: "done",
    FAILED: "it failed",
    REFUSED: "refused here, nothing was sent: usage, settings, a picture, the allowance",
    NOT_OVER: "the job goes on",
    UNCERTAIN: "nobody knows whether the job was bought",
    INTERRUPTED: "Ctrl-C",
}


def in_words() -> str:
    return "; ".join(f"{code} = {meaning}" for code, meaning in _MEANINGS.items())
