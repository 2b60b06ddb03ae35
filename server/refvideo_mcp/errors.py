"""What can go wrong, by what a caller does next.

* RefvideoError
  * Refused            refused here, and nothing bought: the user, a setting or time has to change something first
    * InvalidCall        the call itself has to: correct it, then make it again
    * FolderNotAllowed, DestinationNotAllowed (of images, videos): the user may allow the folder
    * UncertainTwin (of jobs): the same job may exist already; only the user may have it sent again
    * LedgerTrouble (of ledger): what was submitted can be neither read nor written down now
  * SubmitRejected     the router refused the job: nothing bought; mend the cause, then submit again
  * ReadRefused        the router refuses to tell of a job, which goes on: mend the cause, then ask again
    * UnknownTask        it knows no such task, or not for this key: find the right id
  * JobFailed          a job that was bought ended without a video: only a new one can bring it
  * Uncertain          the router may have accepted and billed the job: never send it again
  * Unavailable        a free request did not get through, or a video not to disk: asking again is safe
    * NotReached (of videos): the video's link does not open
"""

import unicodedata
from dataclasses import dataclass

__all__ = [
    "REASONS",
    "Advice",
    "InvalidCall",
    "JobFailed",
    "ReadRefused",
    "Refused",
    "RefvideoError",
    "SubmitRejected",
    "Unavailable",
    "Uncertain",
    "UnknownTask",
    "ask_user",
    "ask_user_for",
    "clean",
    "is_invisible",
    "wait_for",
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


@dataclass(frozen=True)
class Advice:
    """What to do next, for each of two readers: an agent, who has tools and a user, or that user, who has commands."""

    for_agent: str
    for_person: str

    def __str__(self) -> str:
        return self.for_agent

    def __add__(self, more: "Advice | str") -> "Advice":
        more = _advice(more)
        return Advice(self.for_agent + more.for_agent, self.for_person + more.for_person)

    def __radd__(self, before: str) -> "Advice":
        return Advice(before + self.for_agent, before + self.for_person)

    def format(self, **names: str) -> "Advice":
        return Advice(self.for_agent.format(**names), self.for_person.format(**names))


def ask_user(to: str) -> Advice:
    """Advice about something that only the user can do, such as "check the key."."""
    return Advice(f"Ask the user to {to}", to[:1].upper() + to[1:])


def ask_user_for(what: str) -> Advice:
    """Advice about something that only the user has, such as "another path."."""
    return Advice(f"Ask the user for {what}", f"Give {what}")


def wait_for(handle: str) -> Advice:
    """The way to a job that has not ended."""
    return Advice(f'get_task_result with task_id "{handle}" waits for it', f"refvideo-mcp result {handle} waits for it")


def _advice(text: Advice | str) -> Advice:
    return text if isinstance(text, Advice) else Advice(text, text)


class RefvideoError(Exception):
    """An expected failure: what happened, then what to do. As text it is the agent's, `for_person` is the user's.

    `reason` is the router's own word for it, where it gave one. `task_id` names the job concerned, if there is one;
    `job` is that job as it stands, set by who knows it.
    """

    job: object | None = None

    def __init__(
        self, happened: str, advice: Advice | str = "", *, reason: str | None = None, task_id: str | None = None
    ):
        self.advice = _advice(advice)
        super().__init__(f"{happened} {self.advice.for_agent}".strip())
        self.happened = happened
        self.reason = reason
        self.task_id = task_id

    @property
    def for_person(self) -> str:
        return f"{self.happened} {self.advice.for_person}".strip()


class Refused(RefvideoError):
    """Refused here: this call bought nothing."""


class InvalidCall(Refused):
    """What the call says cannot be done, whoever allows what: an argument, a picture, a place."""


class SubmitRejected(RefvideoError):
    """The router refused the job; nothing was bought. `retry_after` is in seconds, set where waiting may help.

    `about_pictures`: it could not read the pictures in the form in which they were sent.
    """

    retry_after: float | None = None
    about_pictures = False


class ReadRefused(RefvideoError):
    """The router refuses to tell of a task, and will not by itself change its mind."""


class UnknownTask(ReadRefused):
    """The router knows no such task, or not for this key."""


class JobFailed(RefvideoError):
    """A job that was bought ended without a video. Whether it is billed is the router's affair."""


class Uncertain(RefvideoError):
    """The router may have accepted the job. It must not be sent again."""


class Unavailable(RefvideoError):
    """A read failed for now. `retry_after` is in seconds, set where the router gave it."""

    retry_after: float | None = None


_KEY = ask_user(
    "check MYROUTER_API_KEY: {host} refused it. A key belongs to one gateway, which MYROUTER_BASE_URL must name."
)
BALANCE_ADVICE = ask_user("top up the account at {host}. (Some gateways report a rate limit this way.)")
_ACCESS = ask_user("enable this model for the account in the console of {host}.")
_GATEWAY = ask_user("check MYROUTER_BASE_URL: {host} does not offer VIDU Q2 reference to video under this address.")
UNCERTAIN_ADVICE = Advice(
    "Do not submit again for this video. Tell the user, and ask them to look for the job in the console of {host} "
    "before anything else is made.",
    "Do not submit it again. Look for the job in the console of {host} before anything else is made.",
)
FINDABLE_ADVICE = (
    "Do not submit again for this video. "
    + Advice('Call get_task_result with task_id "{handle}"', "Run refvideo-mcp result {handle}")
    + ": it asks {host} for the job. "
    + Advice("Tell the user, who can", "You can")
    + " look for it in the console of {host}."
)
NO_REMEDY = "{host} gives no remedy. It may pass by itself; a new try is a new job" + Advice(": ask the user.", ".")
_LATER = "Wait a minute, then try once more."

# The router's documented reasons: what to do about each.
REASONS: dict[str, Advice | str] = {
    "INVALID_REQUEST_BODY": "Correct the argument it names and try again.",
    "IMAGE_FILE_EXCEEDS_MAX_SIZE": "Use a smaller picture file and try again.",
    "INVALID_IMAGE_FORMAT": "Use PNG, JPEG or WebP pictures and try again.",
    "IMAGE_EXCEEDS_MAX_RESOLUTION": "Scale the picture down and try again.",
    "INVALID_IMAGE_SIZE": "Use a picture of at least 128x128 pixels and between 1:4 and 4:1, then try again.",
    "ILLEGAL_PROMPT": "The content rules refused the prompt: reword it, then try again.",
    "ILLEGAL_IMAGE_CONTENT": "The content rules refused a picture: use another one, then try again.",
    "INVALID_AUDIO_FILE": "Leave voice_id out or choose another voice, then try again.",
    "IMAGE_NO_FACE_DETECTED": "Use a picture in which a face is plain to see, then try again.",
    "INVALID_CUSTOM_OUTPUT_PATH": ask_user("check the output path that is set for the account at {host}."),
    "MISSING_API_KEY": _KEY,
    "BILLING_BALANCE_NOT_ENOUGH": BALANCE_ADVICE,
    "FAILED_TO_AUTH": _KEY,
    "INVALID_API_KEY": _KEY,
    "NOT_ENOUGH_BALANCE": BALANCE_ADVICE,
    "BILLING_AUTH_FAILED": ask_user("check billing for the account at {host}."),
    "API_NOT_ALLOWED": _ACCESS,
    "FEATURE_NOT_ALLOWED": _ACCESS,
    "NEED_REAL_NAME_VERIFY": Advice(
        "Ask the user to verify their identity in the console of {host}.",
        "Verify your identity in the console of {host}.",
    ),
    "ACCESS_DENY": _ACCESS,
    "TASK_NOT_FOUND": "Check the task_id; a job is visible only to the key that submitted it.",
    "API_NOT_FOUND": _GATEWAY,
    "MODEL_NOT_FOUND": _GATEWAY,
    "RATE_LIMIT_EXCEEDED": _LATER,
    "TOKEN_LIMIT_EXCEEDED": _LATER,
    "BILLING_FAILED": "{host} could not bill the account. " + _LATER,
    "CREATE_TASK_FAILED": "{host} could not create the job. " + _LATER,
    "GET_RESULT_FAILED": "{host} could not read the job. " + _LATER,
    "SERVICE_NOT_AVAILABLE": "The service is down for now. " + _LATER,
    "TASK_FAILED": NO_REMEDY,
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
