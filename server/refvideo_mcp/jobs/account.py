"""One account: its jobs, bought, waited for, listed and collected. Cheap: a process may have hundreds."""

import math
import uuid
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import datetime
from pathlib import Path

from refvideo_mcp.errors import Advice, ReadRefused, Refused, UnknownTask, clean
from refvideo_mcp.jobs.answers import bought, heard, not_the_account_s, unknown, unlisted, unreadable
from refvideo_mcp.jobs.casting import OwnCast, watch_guests
from refvideo_mcp.jobs.collector import Followers
from refvideo_mcp.jobs.follow import Follower, JobStatus
from refvideo_mcp.jobs.listing import Found
from refvideo_mcp.jobs.rules import Limits, Usage
from refvideo_mcp.jobs.save import save_again
from refvideo_mcp.jobs.services import Background, Services
from refvideo_mcp.jobs.submit import Submitter
from refvideo_mcp.jobs.waiting_calls import Caller, WaitingCalls
from refvideo_mcp.ledger import OPEN, Job, LedgerError
from refvideo_mcp.schemas import ChosenPicture, JobState, ListCall
from refvideo_mcp.videos import Chunk

__all__ = ["Account"]

# A call that does not want to wait still gets a fresh look, if the router is quick.
SHORTEST_WAIT_SECONDS = 10.0
FRESH_SECONDS = 2.0
MOST_PORTRAITS = 7

# Behind every id: of the jobs of a moment none is older than the moment.
LAST_ID = "~"

OnProgress = Callable[[Job, float], Awaitable[None]]


class Account:
    """`submitter` buys its jobs, which are followed in the background while the process runs; `name` owns the rows.

    `cast` is whom it keeps.
    """

    def __init__(self, services: Services, background: Background, name: str, limits: Limits):
        self.name = name
        self.host = services.router.host
        self.consent = services.consent
        self.cast = OwnCast(services, name)
        self._services = services
        self._clock = services.clock
        self._background = background
        self._calls = WaitingCalls(services.clock, background)
        self._most_calls, self._under_way = limits.calls, 0
        self._followers = Followers(services, background, name)
        self.submitter = Submitter(services, background, name, limits, self._calls, self._followers)

    def collect(self) -> None:
        """Follow its unfinished jobs from now on, whoever submitted them."""
        self._background.start_soon(self._followers.collect_later)

    @contextmanager
    def call(self) -> Iterator[None]:
        """While a call of it is under way.

        Raises:
            Refused: too many others are.
        """
        if 0 < self._most_calls <= self._under_way:
            raise Refused(
                f"This account has {self._under_way} calls under way, which is the most.",
                "Nothing was bought, and jobs are not affected: "
                + Advice("call again", "try again")
                + " when one of them has been answered.",
            )
        self._under_way += 1
        try:
            yield
        finally:
            self._under_way -= 1

    @property
    def is_idle(self) -> bool:
        """Whether nothing is under way: no job is followed or bought, no call waits."""
        return not (self._under_way or self._followers.busy or self._calls.concerned)

    def close(self) -> None:
        """Forget what is known of it beside the ledger."""
        self._services.news_read.pop(self.name, None)

    async def save(self, handle: str, to: str | None = None, roots: Sequence[Path] = ()) -> Job:
        """Fetch a finished video once more, by a fresh link, to a new file; `to` is a folder or an .mp4 path.

        Raises:
            Refused: `to` cannot be used, or there is no video yet.
            UnknownTask: neither we nor the router know the job.
            ReadRefused: the router refuses to tell.
            JobFailed: so it did.
            Unavailable: it could not be fetched or stored.
        """
        destination = await self.consent.destination(to, roots) if to else None
        known, unread = await self._known(handle)
        return await save_again(self._services, known or await self._adopted(handle, unread), destination)

    async def wait(
        self,
        handle: str,
        seconds: float,
        on_progress: OnProgress | None = None,
        *,
        caller: Caller | None = None,
        save_to: str | None = None,
        roots: Sequence[Path] = (),
        tell: bool = True,
    ) -> Job:
        """Wait for a job to end and its file to be saved, `seconds` at most; the deadline is not an error.

        `handle` is a task id or a key. `on_progress` gets the job and the seconds waited so far, at every news and at
        least every 5 s. `save_to`, a folder or an .mp4 path, is where the file is to go, too, whoever saves it; `roots`
        are the client's folders. Without `tell` the job stays news: whoever asks now is not the agent.

        Raises:
            Refused: `save_to` cannot be used.
            UnknownTask: neither we nor the router know it.
            SubmitRejected: the router refused the job.
            ReadRefused: the router refuses to tell.
            Uncertain: the job's submission was never answered.
            Unavailable: the router gave no answer in all that time, or no living link.
        """
        started = self._clock.steady()
        destination = await self.consent.destination(save_to, roots) if save_to else None
        follower, unread = await self._found(handle)
        if destination is not None:
            follower = await self._redirected(follower, str(destination))
        row = follower.row
        if tell and row.known and not row.job.delivered:  # its id or key came back, whatever comes of this
            self._background.start_soon(row.id_delivered)
        earlier = row.last_error
        follower.hurry()
        follower.waiting += 1
        try:

            def looked() -> bool:
                at = follower.poller.looked_at
                return at is not None and at >= started - FRESH_SECONDS

            def refused() -> bool:
                return isinstance(row.last_error, ReadRefused) and row.last_error is not earlier

            def in_vain() -> bool:
                tried = follower.save_tried_at
                next_try = (tried or 0.0) + follower.save_pause
                return tried is not None and tried >= started and (next_try > deadline or not follower.saves_soon)

            def over() -> bool:
                is_fresh = seconds == 0 and looked()
                return follower.over or is_fresh or refused() or in_vain() or self._services.pending_posts.ending

            async def report() -> None:
                if on_progress is not None:
                    await on_progress(row.job, self._clock.steady() - started)

            deadline = started + (seconds or SHORTEST_WAIT_SECONDS)
            await row.until(over, deadline, report)
        finally:
            follower.waiting -= 1
        if row.job.asked_in_vain and not looked():  # as it was when it was read: who asked may be answered by now
            await follower.poller.reread()
        if isinstance(row.last_error, UnknownTask):
            raise unreadable(self.host, handle, unread) if unread else await self._unknown(handle)
        job = bought(row, self.host)
        job = heard(row, job, looked=looked(), link_is_dead=follower.link_is_dead, now=self._clock.now())
        if follower.saver.note and not (job.is_placed or job.not_saved):
            job = replace(job, not_saved=follower.saver.note)
        if tell and row.is_news(job):
            self._calls.answer(row, job, caller or Caller(started))
        return job

    async def status(self, handle: str, *, tell: bool = True) -> JobStatus:
        """How the job stands, at once, for a caller who comes again; one that nobody follows is asked for.

        Without `tell` the job stays news: the caller may not get to know of it.

        Raises: as `wait`.
        """
        follower = await self._followers.that_can_tell(handle)
        if follower is None:
            job = await self.wait(handle, 0.0, tell=tell)
            follower = self._followers.named(handle)
        else:
            job = bought(follower.row, self.host)
            if tell:
                await follower.row.answered(job)
        return JobStatus.of(job, follower)

    async def chunk(self, handle: str, offset: int) -> Chunk:
        """Some of a finished job's saved video, from `offset` on.

        Raises:
            Refused: this account has no such video, or it cannot be shown.
        """
        job = await self._services.ask(self._services.ledger.find, self.name, handle)
        if job is None or job.state != "succeeded" or not job.saved_to:
            raise Refused(f"No video of job {clean(handle, 80)} is saved here.", "Its result tells how it stands.")
        return await self._services.videos.chunk(job.saved_to, offset)

    async def portraits(self, job: Job) -> dict[str, bytes]:
        """A small JPEG of each subject of a job, by its id, where there is one."""
        ids = [str(subject["id"]) for subject in (job.request or {}).get("subjects", [])][:MOST_PORTRAITS]
        found = await self._services.videos.previews.portraits(job.id, len(ids))
        return {id: portrait for id, portrait in zip(ids, found, strict=True) if portrait}

    async def add_pictures(
        self, subject: str, upload: str, files: Sequence[ChosenPicture], offset: int, data: str
    ) -> bool:
        """Take a piece of a subject's pictures from the player; whether they are all here now.

        Raises:
            Refused: it does not fit, is no picture that can be sent, or cannot be kept.
        """
        now = self._clock.steady()
        contents = self._services.uploads.add(self.name, upload, files, offset, data, now)
        if contents is None:
            return False
        named = [(file.name, content) for file, content in zip(files, contents, strict=True)]
        await self.cast.give(subject, await self._services.images.cleaned(named))
        self._background.start_soon(watch_guests, self._services)
        return True

    async def newest(self, limit: int, states: Sequence[JobState] = ()) -> list[Job]:
        """The account's jobs, newest first."""
        now = self._clock.now()
        found = await self._services.ask(self._services.ledger.newest, self.name, limit, states, now)
        return [job.at(now) for job in found]

    async def search(self, call: ListCall) -> Found:
        """The account's jobs that a call asks for, newest first; of a single one, what it was made of, too.

        Raises:
            UnknownTask: the ledger has no job of that name.
        """
        now, ledger = self._clock.now(), self._services.ledger
        if call.task_id is not None:
            return Found([await self._listed(call.task_id)], 1, now, is_one=True, usage=await self._usage())
        before = await self._place(call.before) if call.before else None
        words = [word.strip("@") or word for word in (call.query or "").split()]
        states = sorted(OPEN) if call.state == "open" else [call.state] if call.state else []
        jobs, total = await self._services.ask(
            ledger.search, self.name, call.limit, states=states, words=words, before=before, now=now
        )
        is_one = bool(words) and len(jobs) == total == 1
        return Found([job.at(now) for job in jobs], total, now, is_one, await self._usage())

    async def _usage(self) -> Usage | None:
        with suppress(LedgerError):
            return await self.submitter.usage()
        return None

    async def _place(self, before: str) -> tuple[float, str]:
        """The place in the list of jobs of a time or a job: its `opened_at`, and its id."""
        with suppress(ValueError, OverflowError):
            return datetime.fromisoformat(before).timestamp(), LAST_ID
        job = await self._listed(before)
        return job.opened_at, job.id

    async def _listed(self, handle: str) -> Job:
        job = await self._services.ask(self._services.ledger.find, self.name, handle)
        if job is None:
            newest = await self.newest(3)
            raise unlisted(handle, newest, self.host) if self._services.adopts else not_the_account_s(handle, newest)
        return job.at(self._clock.now())

    async def balance(self) -> float | None:
        """What the gateway says is left on its account, in its currency; None where it says nothing of it."""
        return await self._services.router.balance()

    async def news(self) -> list[Job]:
        """Videos finished since anyone last looked, each reported once; none while the ledger cannot tell.

        What other processes finished is looked up every two seconds at most.
        """
        now, news_read = self._clock.steady(), self._services.news_read
        if now - news_read.get(self.name, -math.inf) < FRESH_SECONDS:
            return []
        news_read[self.name] = now
        watched = self._followers.under_way() | self._calls.concerned
        try:
            found = await self._services.ask_briefly(self._services.ledger.pop_unreported, self.name, watched)
        except LedgerError:
            return []
        return found or []

    async def _known(self, handle: str) -> tuple[Job | None, LedgerError | None]:
        """What the ledger knows of a job, or why it cannot be read: a paid job can still be asked for without it."""
        account = self.name
        try:
            known = await self._services.ask(self._services.ledger.find, account, handle)
            if known is None and await self._services.ask(self._services.ledger.belongs_to_other, account, handle):
                raise await self._unknown(handle)
        except LedgerError as error:
            return None, error
        return known, None

    async def _found(self, handle: str) -> tuple[Follower, LedgerError | None]:
        """The follower of a job, and why the ledger could not be asked for it."""
        if settled := self._followers.settled(handle, self._clock.steady() - FRESH_SECONDS):
            return settled, None
        known, unread = await self._known(handle)
        if known is not None:
            return self._followers.of(known.at(self._clock.now())), None
        follower = self._followers.named(handle)
        if follower is not None and not isinstance(follower.row.last_error, UnknownTask):
            return self._followers.of(follower.job), unread
        return self._followers.of(await self._adopted(handle, unread), known=False), unread

    async def _redirected(self, follower: Follower, place: str) -> Follower:
        """The follower of a job whose video is wanted elsewhere from now on."""
        row = follower.row
        if row.job.redirected_to(place) == row.job:
            return follower
        if row.known:
            await row.change(lambda job: job.redirected_to(place), durable=True)
        else:  # perhaps there is no such job
            row.job = row.job.redirected_to(place)
        return self._followers.of(row.job, known=row.known)

    async def _adopted(self, task_id: str, unread: LedgerError | None) -> Job:
        """A job that another program submitted; `unread` says why the ledger could not be asked for it.

        Raises:
            UnknownTask, LedgerError: it may be another account's.
        """
        if not self._services.adopts:
            raise unread or await self._unknown(task_id)
        account, now = self.name, self._clock.now()
        return Job(
            uuid.uuid4().hex,
            account,
            state="processing",
            task_id=task_id,
            opened_at=now,
            changed_at=now,
            delivered=True,
        )

    async def _unknown(self, handle: str) -> UnknownTask:
        try:
            newest = await self.newest(3)
        except LedgerError:
            newest = []
        if not self._services.adopts:
            return not_the_account_s(handle, newest)
        return unknown(self.host, handle, newest, forgets=self._services.forgets)
