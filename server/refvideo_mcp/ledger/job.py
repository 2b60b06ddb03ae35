"""What is remembered of one job."""

import re
import uuid
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from refvideo_mcp.errors import clean
from refvideo_mcp.schemas import JobState, TaskResult, TaskVideo, is_handle

__all__ = ["ENDED", "OPEN", "Day", "Draft", "Job", "Video"]

NO_VIDEO = "the router says that it succeeded but gives no video: ask its support"
OPEN: frozenset[JobState] = frozenset({"submitting", "queued", "processing"})
ENDED: frozenset[JobState] = frozenset({"succeeded", "failed", "rejected", "uncertain"})


@dataclass(frozen=True)
class Video:
    """A finished video's presigned link. `expires_at` is epoch seconds, by the router's last word about it.

    `stated_end` is the end that the router stated when it first gave this link (None: in a row that is older).
    """

    url: str
    expires_at: float
    type: str
    stated_end: float | None = None

    @property
    def first_end(self) -> float:
        return self.expires_at if self.stated_end is None else self.stated_end


@dataclass(frozen=True)
class Draft:
    """A job about to be submitted.

    `request` is the router's body with every picture replaced by its hash and size; `sources` says by hash where those
    that are no links came from. `fingerprint` is the same for identical requests, `pictures` for the same pictures
    under other words. `key` is the caller's own, or made here.
    """

    account: str
    request: dict[str, Any]
    fingerprint: str
    pictures: str
    seconds: int
    key: str = field(default_factory=lambda: f"job-{uuid.uuid4().hex}")
    key_given: bool = False
    save_to: str | None = None
    sources: dict[str, str] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    id: str = field(default_factory=lambda: uuid.uuid4().hex)


@dataclass(frozen=True)
class Day:
    """What an account's jobs of the last 24 hours mean for a new one.

    `jobs` are, newest first, those that are open or uncertain, those of the draft's key, and those that ask for the
    same and whose caller may not know of them. `seconds` of video were bought in all, or may have been. `spent` tells
    when, and how many at a time, oldest first; `includes`, which ids are of this day. Both may ask the ledger.
    """

    jobs: Sequence["Job"]
    seconds: int
    spent: Callable[[], Iterable[tuple[float, int]]]
    includes: Callable[[Collection[str]], Collection[str]]


@dataclass(frozen=True)
class Job:
    """One row of the ledger. Times are epoch seconds."""

    id: str  # ours, and no key: a key may name several jobs one after another
    account: str
    key: str = ""  # the caller's idempotency key or one made here; "" for a job that another program submitted
    key_given: bool = False  # by the caller
    state: JobState = "submitting"
    task_id: str | None = None  # the router's
    request: dict[str, Any] | None = None  # as in `Draft`; None for a job that another program submitted
    sources: dict[str, str] = field(default_factory=dict)  # as in `Draft`; empty in a row that is older
    fingerprint: str = ""
    pictures: str = ""
    seconds: int = 0  # of video
    opened_at: float = 0.0  # when the row was made, just before its POST
    submit_deadline: float = 0.0  # when a POST without an answer becomes uncertain
    changed_at: float = 0.0  # the last change of `state`; of an uncertain job, when the doubt was first seen
    last_asked_at: float | None = None  # when a process last asked the router: the others wait their turn
    answered_at: float | None = None  # when the router last answered
    saving_until: float | None = None  # the lease of the process that saves the video
    delivered: bool = False  # a caller knows the task id: an identical call is a new job
    told: bool = False  # a caller knows how it ended: no news any more
    released: bool = False  # by the user, to be sent again: it gives up its key
    save_to: str | None = None  # the folder or file that a call named, absolute
    redirected: bool = False  # by a later call than the one that bought it
    saved_to: str | None = None  # the file
    not_saved: str | None = None  # why there is none yet
    progress_percent: int | None = None
    eta_seconds: int | None = None
    raw_status: str | None = None  # the router's word, where it is none that we know
    reason: str | None = None  # why it failed, was rejected or is uncertain
    seed: int | None = None  # the one that was used
    videos: tuple[Video, ...] = ()
    warnings: tuple[str, ...] = ()
    preview: str | None = None  # the path of the film strip
    last_frame: str | None = None  # the path of a PNG
    expired_at: float | None = None  # when the last link died, before there was a copy

    @property
    def ended(self) -> bool:
        return self.state in ENDED

    @property
    def may_be_found(self) -> bool:
        """Whether the router can be asked what became of a submission that nobody is sure of."""
        return self.state == "uncertain" and self.task_id is not None

    @property
    def holds_key(self) -> bool:
        """Whether its key still means this job: not once it was rejected, nor while it is in doubt and released."""
        return self.state != "rejected" and not (self.state == "uncertain" and self.released)

    @property
    def is_placed(self) -> bool:
        """Whether its video was saved, and where a later call wanted it, if one did."""
        return self.saved_to is not None and not (self.redirected and not self._is_at(self.save_to))

    def redirected_to(self, place: str) -> "Job":
        """The job as a call leaves it that names a place for its video."""
        if self.save_to == place and (self.saved_to is None or self._is_at(place)):
            return self
        return replace(self, save_to=place, redirected=True, not_saved=None)

    def _is_at(self, place: str | None) -> bool:
        """Whether its file is in a folder, or has a name, be it with a number behind because there was one before."""
        file, wanted = Path(self.saved_to or ""), Path(place or "")
        if file.parent == wanted:
            return True
        is_named = re.fullmatch(re.escape(wanted.stem) + r"( \(\d+\))?", file.stem) is not None
        return wanted.suffix.lower() == ".mp4" and file.parent == wanted.parent and is_named

    @property
    def asked_in_vain(self) -> bool:
        """Whether somebody asked the router for it since the router last answered."""
        return self.last_asked_at is not None and self.last_asked_at > (self.answered_at or 0.0)

    def link_lives(self, at: float) -> bool:
        """Whether a link to its video still leads somewhere then, as far as the router said."""
        return any(video.expires_at > at for video in self.videos)

    @property
    def gateway(self) -> str:
        """The host that it was sent to."""
        return self.account.rpartition("@")[2] or "the service"

    @property
    def prompt(self) -> str | None:
        return self.request.get("prompt") if self.request else None

    @property
    def handle(self) -> str:
        """What an agent can ask for it by: the task id, or the key where there is none that can be written."""
        return self.task_id if self.task_id and is_handle(self.task_id) else self.key

    def at(self, now: float) -> "Job":
        """The job as it is seen at `now`: a submission without an answer by its deadline is uncertain from then on."""
        if self.state == "submitting" and now > self.submit_deadline:
            return replace(
                self,
                state="uncertain",
                changed_at=now,
                reason="The answer to this submission never arrived. "
                "The job may have been accepted and billed all the same.",
            )
        return self

    def after(self, result: TaskResult, asked_at: float, *, settled: bool = False) -> "Job":
        """The job as the router's answer of `asked_at` leaves it. A finished job stays finished.

        An end that is doubtful counts only once it is `settled`: said often enough.
        """
        state: JobState = "processing" if result.is_doubtful and not settled else result.state
        links = tuple(self._link(video, asked_at) for video in result.links)
        reason = result.task.reason if result.raw_status or state == "failed" else ""
        if state == "succeeded" and not links:
            state, reason = "failed", NO_VIDEO
        if self.state in ("succeeded", "failed") and state != "succeeded":
            return replace(self, answered_at=asked_at)
        percent = result.task.progress_percent
        return replace(
            self,
            state=state,
            changed_at=self.changed_at if state == self.state else asked_at,
            answered_at=asked_at,
            progress_percent=None if percent is None else min(percent, 100),
            eta_seconds=result.task.eta or None,
            raw_status=result.raw_status if state == "processing" else None,
            reason=None if state == "succeeded" else reason or ("no reason given" if state == "failed" else None),
            seed=result.extra.seed if result.extra.seed is not None else self.seed,
            videos=links,
            expired_at=self.expired_at if links and links[0].first_end <= asked_at else None,
        )

    def _link(self, found: TaskVideo, asked_at: float) -> Video:
        end = found.expires_at(asked_at).timestamp()
        earlier = [video.first_end for video in self.videos if video.url == found.video_url]
        kind = clean(found.video_type, 20).lower() or "mp4"
        return Video(found.video_url, end, kind, min(end, *earlier) if earlier else end)
