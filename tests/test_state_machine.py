"""Whatever happens in whatever order, no job is bought twice and none is lost: Hypothesis looks for a failing order."""

import os

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from jobs_model import ALLOWED, Bought, Call, Model
from jobs_world import World
from refvideo_mcp.errors import SubmitRejected, Uncertain
from refvideo_mcp.ledger import Job

DAY_SECONDS = 24 * 3600.0
SCENES = ["@1 runs", "@1 sleeps"]
KEYS = [None, None, "key-0123456789-a", "key-0123456789-b"]
PROCESSES = [0, 1]
HOW = ["accepted", "accepted", "accepted unheard", "rejected", "lost"]
ASLEEP = [3600.0, 26 * 3600.0]  # beyond the ten minutes, and beyond the ledger's day


class JobsMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.world = World(len(PROCESSES))
        self.model = Model(self.world.clock)
        self.rows: dict[str, Job] = {}  # of the ledger, as they were read when all was quiet

    def teardown(self) -> None:
        self.world.end()

    # What happens

    # Hypothesis leaves rules out at random: several ways to submit, so that hardly an order is without a job.

    @initialize(number=st.sampled_from(PROCESSES))
    def begin(self, number: int) -> None:
        self._submit(number, SCENES[0])

    @rule(
        number=st.sampled_from(PROCESSES),
        scene=st.sampled_from(SCENES),
        key=st.sampled_from(KEYS),
        release=st.booleans(),
    )
    def submit(self, number: int, scene: str, key: str | None, release: bool) -> None:
        self._submit(number, scene, key, release=release)

    @rule(number=st.sampled_from(PROCESSES), key=st.sampled_from(KEYS), accepted=st.booleans())
    def repeat(self, number: int, key: str | None, accepted: bool) -> None:
        self._submit(number, self.model.calls[-1].scene, key)
        if accepted and self.model.calls[-1].is_new:
            self._answer(self.model.jobs[-1], "accepted")

    @rule(
        before=st.sampled_from([0.4, 7.0, 33.0, 70.0]),
        how=st.sampled_from(HOW),
        after=st.sampled_from([0.4, 2.0, 33.0, 400.0]),
    )
    def answer_and_repeat(self, before: float, how: str, after: float) -> None:
        """What happens to people: an answer sooner or later, or none, and the same call again."""
        self._pass(before)
        if self.model.jobs[-1].answered_at is None:
            self._answer(self.model.jobs[-1], how)
        self._pass(after)
        self._submit(self.model.calls[-1].process, self.model.calls[-1].scene)

    @rule(
        number=st.sampled_from(PROCESSES),
        scene=st.sampled_from(SCENES),
        patience=st.integers(8, 24),  # the job is remembered at about the seventeenth turn
        repeats=st.booleans(),
    )
    def submit_and_cancel_at_once(self, number: int, scene: str, patience: int, repeats: bool) -> None:
        """A client in a hurry: its call buys nothing if its job was not remembered yet, else the POST goes on."""
        self._submit(number, scene, patience=patience)
        call = self.model.calls[-1]
        assert call.over_at is not None
        if repeats and call.is_new:
            self._answer(self.model.jobs[-1], "accepted")
            self._sleep(ASLEEP[0])
            self._submit(number, scene)

    @precondition(lambda self: any(call.over_at is None for call in self.model.calls))
    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        call = data.draw(st.sampled_from([call for call in self.model.calls if call.over_at is None]))
        self.world.cancel(call)
        self._observe()
        assert call.over_at is not None

    @precondition(lambda self: any(job.answered_at is None for job in self.model.jobs))
    @rule(data=st.data(), how=st.sampled_from(HOW))
    def answer(self, data: st.DataObject, how: str) -> None:
        self._answer(data.draw(st.sampled_from([job for job in self.model.jobs if job.answered_at is None])), how)

    @precondition(lambda self: any(self._is_heard_in_peace(job) for job in self.model.jobs))
    @rule(data=st.data(), how=st.sampled_from(HOW), seconds=st.sampled_from([0.4, 3.0]))
    def answer_while_the_ledger_fails(self, data: st.DataObject, how: str, seconds: float) -> None:
        """The process that hears the answer can write it down some seconds later only."""
        job = data.draw(st.sampled_from([job for job in self.model.jobs if self._is_heard_in_peace(job)]))
        ledger = self.world.processes[job.process].ledger
        ledger.fails = True
        self._answer(job, how)
        self._pass(seconds)
        ledger.fails = False
        self._pass(1.5)

    @rule(seconds=st.sampled_from([0.4, 2.0, 4.0, 7.0, 33.0, 70.0, 130.0, 610.0]))
    def time_passes(self, seconds: float) -> None:
        self._pass(seconds)

    @precondition(lambda self: len(self.model.jobs) > 5 or self._has_job_older_than_an_hour())
    @rule()
    def a_day_passes(self) -> None:
        self._pass(DAY_SECONDS - 1000)

    @rule(seconds=st.sampled_from(ASLEEP))
    def the_machine_sleeps(self, seconds: float) -> None:
        """The clock on the wall jumps; whoever waits, waits on."""
        self._sleep(seconds)

    @rule(
        patience=st.sampled_from([None, 0.4, 33.0]),
        seconds=st.sampled_from(ASLEEP),
        how=st.sampled_from(HOW),
        after=st.sampled_from([0.4, 400.0]),
        elsewhere=st.booleans(),
        release=st.booleans(),
    )
    def sleep_and_repeat(
        self, patience: float | None, seconds: float, how: str, after: float, elsewhere: bool, release: bool
    ) -> None:
        """What happens to people: the lid is closed over a call, and opened hours later."""
        call = self.model.calls[-1]
        if patience is not None:
            self._pass(patience)
            self.world.cancel(call)
        self._sleep(seconds)
        if self.model.jobs[-1].answered_at is None:
            self._answer(self.model.jobs[-1], how)
        self._pass(after)
        self._submit(PROCESSES[call.process - 1] if elsewhere else call.process, call.scene, release=release)

    @rule(number=st.sampled_from(PROCESSES))
    def crash_and_restart(self, number: int) -> None:
        self.world.crash(number)
        self._observe()
        self.model.crashed(number)
        self.world.restart(number)
        self._observe()

    @rule(data=st.data(), number=st.sampled_from(PROCESSES), by_key=st.booleans())
    def look(self, data: st.DataObject, number: int, by_key: bool) -> None:
        """Somebody asks for a job, and is told within 6 seconds."""
        job = data.draw(st.sampled_from(self.model.jobs))
        handle = job.key if by_key else self.rows[job.id].task_id or job.key
        later = self.model.jobs[self.model.jobs.index(job) + 1 :]
        if handle == job.key and any(other.key == job.key for other in later):
            return  # the key is a later job's by now
        found = self.world.look(number, handle)
        self._observe()
        job.delivered = True  # its id or key came back
        state = job.state(self.world.clock.now())
        if isinstance(found, Job):
            assert found.id == job.id
            assert found.state == "submitting" or found.task_id == job.task_id
        elif state == "uncertain":
            assert isinstance(found, Uncertain)
        else:
            assert state == "rejected"
            assert isinstance(found, SubmitRejected)

    @precondition(lambda self: any(self._is_doubtful(job) for job in self.model.jobs))
    @rule(data=st.data())
    def release(self, data: st.DataObject) -> None:
        """The user releases a job at a terminal."""
        job = data.draw(st.sampled_from([job for job in self.model.jobs if self._is_doubtful(job)]))
        self.world.release(job.id)
        job.released = True
        self._observe()

    # What must hold

    @invariant()
    def no_more_is_sent_than_was_asked_for(self) -> None:
        assert len(self.world.task_ids) == len(self.model.jobs) <= len(self.model.calls)

    @invariant()
    def every_job_that_was_bought_is_known_or_doubtful(self) -> None:
        now = self.world.clock.now()
        for job in self.model.jobs:
            row = self.rows[job.id].at(now)
            if job.exists:
                assert row.task_id == job.task_id or row.state in ("submitting", "uncertain")
            if job.heard == "accepted":
                assert row.task_id == job.task_id
            else:
                assert row.state == job.state(now)

    @invariant()
    def the_ledger_knows_who_was_told(self) -> None:
        delivered = {job_id: row.delivered for job_id, row in self.rows.items()}
        assert {job.id: job.delivered for job in self.model.jobs} == delivered

    @invariant()
    def the_allowance_is_never_overrun(self) -> None:
        assert self.model.used <= ALLOWED

    # How it happens

    def _submit(
        self, number: int, scene: str, key: str | None = None, *, release: bool = False, patience: int | None = None
    ) -> None:
        """A call becomes what it must be."""
        call = Call(number, scene, key, begun=self.world.clock.steady())
        if release:
            self.model.released_by_user(scene)
        ahead = self.model.ahead(call)
        self.model.calls.append(call)
        self.world.submit(call, release=release, patience=patience)
        sent = self.world.task_ids[len(self.model.jobs) :]
        opened = [row for row in self.world.rows() if row.id not in self.rows]
        assert len(sent) == len(opened) <= 1
        new = None
        for task_id, row in zip(sent, opened, strict=True):
            new = Bought(row.id, task_id, scene, row.key, number, opened=self.world.clock.now())
        self.model.made(call, ahead, new)
        ahead.judge(call, warned=any("may exist already" in warning for row in opened for warning in row.warnings))
        self._observe()
        assert call.cancelled or all(job.doubt_seen is not None for job in ahead.in_doubt), "the call has seen them"

    def _answer(self, job: Bought, how: str) -> None:
        self.model.answered(job, how)
        self.world.answer(job.task_id, how)
        self._observe()

    def _pass(self, seconds: float) -> None:
        self.world.wait(seconds)
        self._observe()

    def _sleep(self, seconds: float) -> None:
        self.world.clock.set_by += seconds
        self.model.clock_was_set()
        self._observe()

    def _observe(self) -> None:
        self.rows = {row.id: row for row in self.world.rows()}
        self.model.observe(self.rows)

    def _is_heard_in_peace(self, job: Bought) -> bool:
        return job.is_open and self.model.is_quiet(job.process)

    def _is_doubtful(self, job: Bought) -> bool:
        return job.state(self.world.clock.now()) == "uncertain" and not job.released

    def _has_job_older_than_an_hour(self) -> bool:
        return any(job.opened < self.world.clock.now() - 3600 for job in self.model.jobs)


def test_no_job_is_bought_twice_and_none_is_lost_whatever_happens() -> None:
    # The same orders every time, so that a change is judged by what it changes; EXPLORE=1 looks for new ones.
    explore = "EXPLORE" in os.environ
    run_state_machine_as_test(
        JobsMachine,
        settings=settings(
            max_examples=400 if explore else 40, stateful_step_count=30, deadline=None, derandomize=not explore
        ),
    )
