"""What an answer that is not a success means: submission rejected, read refused, uncertain or unavailable.

Classified by the envelope's `reason` first, then by HTTP status, because gateways disagree about the status.
"""

import json
import re
from dataclasses import dataclass, field
from functools import cached_property
from math import ceil
from typing import Any

from refvideo_mcp.errors import (
    Advice,
    ReadRefused,
    RefvideoError,
    SubmitRejected,
    Unavailable,
    Uncertain,
    UnknownTask,
    clean,
)
from refvideo_mcp.router.reasons import (
    BY_STATUS,
    MAY_HAVE_CREATED_TASK,
    REASONS,
    TRANSIENT,
    UNCERTAIN_ADVICE,
    UNREAD_PICTURES,
    WANTS_LINKS,
)

__all__ = ["Reply", "failed_read", "failed_submit", "uncertain"]

# A shorter key is a word such as "sandbox", and no secret.
SHORTEST_KEY = 8
# The query of an address is what makes a presigned link work.
_QUERY = re.compile(r"""(\?|%3F)[\w.~-]*(=|%3D)[^\s"'<>]*""", re.IGNORECASE)
_PICTURES = re.compile(r"image|\bur[li]s?\b", re.IGNORECASE)


@dataclass(frozen=True)
class Reply:
    """An HTTP answer, as far as it arrived. `json` is {} where the body is not a JSON object."""

    host: str
    status: int
    body: bytes
    retry_after: float | None = None
    key: str = field(default="", repr=False)

    @property
    def ok(self) -> bool:
        return 200 <= self.status < 300

    @cached_property
    def json(self) -> dict[str, Any]:
        try:
            # Half a character, as a cut emoji leaves it, must not cost us the rest.
            text = json.dumps(json.loads(self.body), ensure_ascii=False)
            value = json.loads(text.encode(errors="replace"))
        except (ValueError, RecursionError):
            return {}
        return value if isinstance(value, dict) else {}

    @property
    def task_id(self) -> str | None:
        """Wherever it stands: an error may hold it too."""
        within = [self.json, _inner(self.json, "data")]
        within += [_inner(answer, name) for answer in within for name in ("task", "error", "metadata")]
        for found in (answer.get("task_id") for answer in within):
            if isinstance(found, str | int) and not isinstance(found, bool) and str(found).strip():
                return str(found)
        return None

    @property
    def reason(self) -> str | None:
        """The documented reason it carries, if any."""
        return next((word for word in self._reasons if word in REASONS), None)

    @property
    def summary(self) -> str:
        """What was answered, in the router's own words: support asks for the trace id in them."""
        named = self.reason or next(iter(self._reasons), "")
        answered = f"{self.status} {clean(self.without_secrets(named), 60)}" if named else f"HTTP {self.status}"
        return f"{self.host} answered {answered}{self.said}."

    @property
    def said(self) -> str:
        """The router's message, as the end of a sentence."""
        details = _inner(self.json, "metadata").get("details")
        words = [
            self.json.get("message"),
            _inner(self.json, "error").get("message"),
            *(details if isinstance(details, list) else [details]),
        ]
        text = " ".join(dict.fromkeys(word for word in words if isinstance(word, str)))
        message = clean(self.without_secrets(text))
        return f': "{message}"' if message else ""

    def without_secrets(self, text: str) -> str:
        """A gateway may echo the request: neither the key nor a presigned link must reach an agent that way."""
        text = _QUERY.sub("?…", text)
        return text.replace(self.key, "[key]") if len(self.key) >= SHORTEST_KEY else text

    @property
    def _reasons(self) -> list[str]:
        named = (self.json.get("reason"), _inner(self.json, "error").get("code"))
        return [word for word in named if isinstance(word, str) and word]


def _inner(answer: dict[str, Any], name: str) -> dict[str, Any]:
    value = answer.get(name)
    return value if isinstance(value, dict) else {}


def uncertain(host: str, cause: str, task_id: str | None = None) -> Uncertain:
    """The error for a submission that may have been accepted."""
    return Uncertain(
        f"{cause.rstrip('.')}. The job may have been accepted and billed all the same.",
        UNCERTAIN_ADVICE.format(host=host),
        task_id=task_id,
    )


def failed_submit(reply: Reply, *, with_data_uris: bool = False) -> RefvideoError:
    """Why a submission was not accepted, or that nobody can tell: an error that names a task may have made it."""
    reason = _cause(reply)
    if reason and reason not in MAY_HAVE_CREATED_TASK and not reply.task_id:
        names_pictures = reason == "INVALID_REQUEST_BODY" and _PICTURES.search(reply.said)
        advice = _advice(reason, reply)
        if with_data_uris and (reason in UNREAD_PICTURES or names_pictures):
            advice += f" {WANTS_LINKS}"
        rejected = SubmitRejected(f"{reply.summary} Nothing was bought.", advice, reason=reply.reason)
        rejected.retry_after = (reply.retry_after or 0.0) if _limited(reply) else None
        return rejected
    lacking = " It gave no task id." if reply.ok else ""
    naming = f" It names the task {clean(reply.task_id, 80)}." if reply.task_id else lacking
    return uncertain(reply.host, reply.summary + naming, reply.task_id)


def failed_read(reply: Reply, task_id: str) -> RefvideoError:
    """Why the result of a task could not be read."""
    reason = _cause(reply)
    if reason == "TASK_NOT_FOUND" or (reply.status == 404 and not reply.reason):
        return UnknownTask(
            f"{reply.host} does not know the task {clean(task_id, 80)}{reply.said}.",
            _advice("TASK_NOT_FOUND", reply),
            reason=reply.reason,
            task_id=task_id,
        )
    if reason and reason not in TRANSIENT and not _limited(reply):
        return ReadRefused(reply.summary, _advice(reason, reply), reason=reply.reason, task_id=task_id)
    happened = reply.summary
    advice: Advice | str = f"The job is not affected: ask again in {_pause(reply)}."
    if reply.ok:
        happened += " It told nothing about the job."
    if 300 <= reply.status < 400:
        advice = _advice("API_NOT_FOUND", reply)
    unavailable = Unavailable(happened, advice, reason=reply.reason, task_id=task_id)
    unavailable.retry_after = reply.retry_after
    return unavailable


def _cause(reply: Reply) -> str | None:
    """The documented reason, or the one that the status stands for."""
    return reply.reason or BY_STATUS.get(reply.status)


def _limited(reply: Reply) -> bool:
    return reply.status == 429 or reply.reason in ("RATE_LIMIT_EXCEEDED", "TOKEN_LIMIT_EXCEEDED")


def _pause(reply: Reply) -> str:
    return f"{ceil(reply.retry_after)} s" if reply.retry_after else "a minute"


def _advice(reason: str, reply: Reply) -> Advice | str:
    if reason in ("RATE_LIMIT_EXCEEDED", "TOKEN_LIMIT_EXCEEDED"):
        return f"Wait {_pause(reply)}, then try once more."
    return REASONS[reason].format(host=reply.host)
