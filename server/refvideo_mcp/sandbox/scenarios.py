"""What `[rehearse:NAME]` in a prompt makes the router do. The page, the documentation and the code share this table."""

import re
from dataclasses import dataclass

from .reasons import STATUS_OF, Refusal

_TAG = re.compile(r"\[rehearse:([^\]]*)\]")

ENDINGS = {
    "rate-limited-once": "The first POST gets 429 with `Retry-After: 1`; the same body again is accepted.",
    "slow-answer": "The job is accepted, the answer takes 20 s. `[rehearse:slow-answer:3]` takes 3 s.",
    "drop-before": "The connection closes without an answer; no job was made.",
    "drop-after": "A job was made, then the connection closes without an answer.",
    "html": "A job was made, but a 502 page in HTML comes instead of the answer.",
    "task-failed": "The task fails: HTTP 200, `TASK_STATUS_FAILED`, reason `ILLEGAL_IMAGE_CONTENT`. "
    "`[rehearse:task-failed:ANY WORDS]` chooses the reason.",
    "task-lost": "The job is accepted; asking for it answers `TASK_NOT_FOUND`.",
    "never-ends": "The task works up to 99 % and stays there.",
    "unknown-status": "After the queue the task says `TASK_STATUS_REVIEWING`, for ever.",
    "result-unavailable-once": "The first question for the result gets 503; later ones are answered.",
    "wrapped": 'The result comes inside `{"data": …}`.',
    "no-video": "The task succeeds, `videos` is null.",
    "zero-progress": "`progress_percent` is 0 all the way, even at success.",
    "ttl-zero": '`video_url_ttl` is `"0"`; the link lives as long as ever.',
    "expired-link": "Every link is expired when it is given.",
    "expired-link-once": "The first link is expired when it is given; asking again gives one that works.",
    "cut-link": "The connection closes half-way through the download.",
}
NAMES = (*ENDINGS, *STATUS_OF)

_TAKE_AN_ARGUMENT = {"slow-answer", "task-failed"}
_END_WITHOUT_VIDEO = {"task-failed", "task-lost", "never-ends", "unknown-status", "no-video"}
_LONGEST_ANSWER = 600.0


@dataclass(frozen=True)
class Scenario:
    """The ending a prompt asked for; `name` is empty for a job that simply goes well."""

    name: str = ""
    argument: str = ""

    @property
    def answer_seconds(self) -> float:
        """How long the answer to the POST takes."""
        return min(float(self.argument or 20), _LONGEST_ANSWER) if self.name == "slow-answer" else 0.0

    @property
    def renders(self) -> bool:
        """Whether the job ends with a video."""
        return self.name not in _END_WITHOUT_VIDEO


def find(prompt: str) -> Scenario:
    """The scenario that a prompt asks for. Raises Refusal if it asks for an unknown one, or for two."""
    tags = _TAG.findall(prompt)
    if not tags:
        return Scenario()
    name, _, argument = tags[0].partition(":")
    if len(tags) > 1:
        raise Refusal("INVALID_REQUEST_BODY", "prompt: one [rehearse:NAME] at a time")
    if name not in NAMES:
        raise Refusal("INVALID_REQUEST_BODY", f"prompt: no rehearsal is called {name!r}. Names: {', '.join(NAMES)}")
    if argument and name not in _TAKE_AN_ARGUMENT:
        raise Refusal("INVALID_REQUEST_BODY", f"prompt: the rehearsal {name} takes no argument")
    if name == "slow-answer" and argument and not re.fullmatch(r"\d{1,3}(\.\d{1,3})?", argument, re.ASCII):
        raise Refusal("INVALID_REQUEST_BODY", "prompt: [rehearse:slow-answer:SECONDS] takes a number of seconds")
    return Scenario(name, argument)


def without_tag(prompt: str) -> str:
    """The prompt as people read it in the film's caption."""
    return " ".join(_TAG.sub(" ", prompt).split())
