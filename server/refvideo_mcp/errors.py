"""What can go wrong, by what a caller does next.

* RefvideoError
  * Refused            refused here, and nothing bought: the user, a setting or time has to change something first
    * InvalidCall        the call itself has to: correct it, then make it again
      * NotInCast        (of jobs) give the pictures of a subject, or the name of one that the cast knows
    * FolderNotAllowed   (of files) the user may allow the folder
    * UncertainTwin      (of jobs) the same job may exist already; only the user may have it sent again
    * LedgerError        (of the ledger) what was submitted can be neither read nor written down now
    * CastError        (of the cast) what is kept can be neither read nor written now
  * SubmitRejected     the router refused the job: nothing bought; mend the cause, then submit again
  * ReadRefused        the router refuses to tell of a job, which goes on: mend the cause, then ask again
    * UnknownTask        it knows no such task, or not for this key: find the right id
  * JobFailed          a job that was bought ended without a video: only a new one can bring it
  * Uncertain          the router may have accepted and billed the job: never send it again
  * Unavailable        a free request did not get through, or a video not to disk: asking again is safe
    * NotReached         (of videos) the video's link does not open
"""

import unicodedata
from dataclasses import dataclass

__all__ = [
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
    """The router refused the job; nothing was bought. `retry_after` is in seconds, set where waiting may help."""

    retry_after: float | None = None


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
