"""What can go wrong, by what a caller does next.

* RefvideoError
  * Refused      refused here: nothing was sent, nothing bought; change the call
  * Rejected     the router refused: nothing bought; try again once its cause is mended
    * UnknownTask  the router knows no such task
  * Uncertain    the router may have accepted and billed the job; never sent again
  * Unavailable  a free read did not get through; asking again is safe
"""

import unicodedata

__all__ = [
    "REASONS",
    "Refused",
    "RefvideoError",
    "Rejected",
    "Unavailable",
    "Uncertain",
    "UnknownTask",
    "clean",
    "is_invisible",
]

_INVISIBLE = {"Cc", "Cf", "Co", "Cs", "Cn", "Zl", "Zp"}


def is_invisible(character: str) -> bool:
    """Whether it moves the cursor, the reading direction or nothing at all, instead of being seen."""
    return unicodedata.category(character) in _INVISIBLE


def clean(text: str, limit: int = 300) -> str:
    """Text from elsewhere, made safe to show an agent: visible characters on one line, at most `limit` of them."""
    visible = "".join(" " if is_invisible(c) else c for c in text[: limit * 4])
    line = " ".join(visible.split())
    return line if len(line) <= limit else line[: limit - 1].rstrip() + "…"


class RefvideoError(Exception):
    """An expected failure. Its text is written for the agent: what happened, then what to do.

    `reason` is the router's own word for it, where it gave one. `task_id` names the job concerned, if there is one;
    `job` is that job as it stands, set by who knows it.
    """

    job: object | None = None

    def __init__(self, happened: str, advice: str = "", *, reason: str | None = None, task_id: str | None = None):
        super().__init__(f"{happened} {advice}".strip())
        self.happened = happened
        self.advice = advice
        self.reason = reason
        self.task_id = task_id


class Refused(RefvideoError):
    """Refused here, before anything left this machine."""


class Rejected(RefvideoError):
    """The router refused; nothing was bought. `retry_after` is in seconds, set where waiting may help.

    `about_pictures`: it could not read the pictures in the form in which they were sent.
    """

    retry_after: float | None = None
    about_pictures = False


class UnknownTask(Rejected):
    """The router knows no such task, or not for this key."""


class Uncertain(RefvideoError):
    """The router may have accepted the job. It must not be sent again."""


class Unavailable(RefvideoError):
    """A read failed for now. `retry_after` is in seconds, set where the router gave it."""

    retry_after: float | None = None


_KEY = (
    "Ask the user to check MYROUTER_API_KEY: {host} refused it. "
    "A key belongs to one gateway, which MYROUTER_BASE_URL must name."
)
_BALANCE = "Ask the user to top up the account at {host}. (Some gateways report a rate limit this way.)"
_ACCESS = "Ask the user to enable this model for the account in the console of {host}."
_GATEWAY = (
    "Ask the user to check MYROUTER_BASE_URL: {host} does not offer VIDU Q2 reference to video under this address."
)
UNCERTAIN_ADVICE = (
    "Do not submit it again. Tell the user, and ask them to look for the job in the console of {host} "
    "before anything else is made."
)
FINDABLE_ADVICE = (
    'Do not submit it again. Call get_task_result with task_id "{handle}": it asks the router for the job. '
    "Tell the user, who can look for it in the console of {host}."
)
_LATER = "Wait a minute, then call once more."

# The router's documented reasons: what to do about each.
REASONS: dict[str, str] = {
    "INVALID_REQUEST_BODY": "Correct the argument it names and call again.",
    "IMAGE_FILE_EXCEEDS_MAX_SIZE": "Use a smaller picture file and call again.",
    "INVALID_IMAGE_FORMAT": "Use PNG, JPEG or WebP pictures and call again.",
    "IMAGE_EXCEEDS_MAX_RESOLUTION": "Scale the picture down and call again.",
    "INVALID_IMAGE_SIZE": "Use a picture of at least 128x128 pixels and between 1:4 and 4:1, then call again.",
    "ILLEGAL_PROMPT": "The content rules refused the prompt: reword it, then call again.",
    "ILLEGAL_IMAGE_CONTENT": "The content rules refused a picture: use another one, then call again.",
    "INVALID_AUDIO_FILE": "Leave voice_id out or choose another voice, then call again.",
    "MISSING_API_KEY": _KEY,
    "BILLING_BALANCE_NOT_ENOUGH": _BALANCE,
    "FAILED_TO_AUTH": _KEY,
    "INVALID_API_KEY": _KEY,
    "NOT_ENOUGH_BALANCE": _BALANCE,
    "BILLING_AUTH_FAILED": "Ask the user to check billing for the account at {host}.",
    "API_NOT_ALLOWED": _ACCESS,
    "FEATURE_NOT_ALLOWED": _ACCESS,
    "NEED_REAL_NAME_VERIFY": "Ask the user to verify their identity in the console of {host}.",
    "ACCESS_DENY": _ACCESS,
    "TASK_NOT_FOUND": "Check the task_id; a job is visible only to the key that submitted it.",
    "API_NOT_FOUND": _GATEWAY,
    "MODEL_NOT_FOUND": _GATEWAY,
    "RATE_LIMIT_EXCEEDED": _LATER,
    "TOKEN_LIMIT_EXCEEDED": _LATER,
    "BILLING_FAILED": "The router could not bill the account. " + _LATER,
    "CREATE_TASK_FAILED": "The router could not create the job. " + _LATER,
    "GET_RESULT_FAILED": "The router could not read the job. " + _LATER,
    "SERVICE_NOT_AVAILABLE": "The service is down for now. " + _LATER,
    "TASK_FAILED": "Change the prompt or the pictures; asking again will not change the outcome.",
}

# The reason whose advice serves an error that has only an HTTP status. 408, 409 and 425 are not here: such a request
# may have been accepted.
BY_STATUS: dict[int, str] = {
    400: "INVALID_REQUEST_BODY",
    401: "FAILED_TO_AUTH",
    403: "ACCESS_DENY",
    404: "API_NOT_FOUND",
    413: "IMAGE_FILE_EXCEEDS_MAX_SIZE",
    415: "INVALID_REQUEST_BODY",
    422: "INVALID_REQUEST_BODY",
    429: "RATE_LIMIT_EXCEEDED",
}

# Said of pictures that were not read; who finds fault with their shape or content has read them.
UNREAD_PICTURES = frozenset({"INVALID_IMAGE_FORMAT", "IMAGE_FILE_EXCEEDS_MAX_SIZE"})

# A submission answered with one of these may have left a task behind.
IMPLY_A_TASK = frozenset({"TASK_FAILED", "GET_RESULT_FAILED"})

# A read answered with one of these may succeed a minute later; with any other reason it will not.
PASSING = frozenset(
    {
        "RATE_LIMIT_EXCEEDED",
        "TOKEN_LIMIT_EXCEEDED",
        "BILLING_FAILED",
        "CREATE_TASK_FAILED",
        "GET_RESULT_FAILED",
        "SERVICE_NOT_AVAILABLE",
    }
)
