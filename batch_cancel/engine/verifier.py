"""Reads runs that were asked to stop until they have ended: groups of one transform at a time, not run by run.

The one place where requests and readings become a verdict (:func:`batch_cancel.core.outcome.verdict`). A run whose
request was accepted is given time to end; one whose request was refused, or whose answer was lost, is read at once.
"""

import asyncio
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime

from batch_cancel.core.cost import used_seconds
from batch_cancel.core.errors import CallFailed, ErrorKind
from batch_cancel.core.events import Accepted, Awaited, OnEvent, OutcomeReached, Warned
from batch_cancel.core.outcome import Evidence, Outcome, Reading, Unread, shows_acceptance, verdict
from batch_cancel.core.service_clock import ServiceClock
from batch_cancel.core.task_run import Status, TaskRun, TaskRunKey
from batch_cancel.engine.reading import readings
from batch_cancel.glue.api import GlueApi
from batch_cancel.glue.paced import Line
from batch_cancel.ledger.ledger import Ledger
from batch_cancel.ledger.reader import AskedRun
from batch_cancel.stop import Stopped, task_group

FIRST_POLL_SECONDS = 1.0
LONGEST_POLL_SECONDS = 15.0
POLL_GROWTH = 1.5
"""Most runs stop within seconds; those that do not are asked about less and less often."""
SOON_SECONDS = 0.05
"""A run that needs a verdict waits so long for company of the same transform."""
GROUPS_AT_ONCE = 64
GROUP_ROWS = 1000


@dataclass(slots=True)
class _Poll:
    """When the open runs of one transform are read next, on the loop's clock.

    Attributes:
        news: a run was asked since the last reading of the group began.
    """

    due: float
    interval: float = FIRST_POLL_SECONDS
    news: bool = False


@dataclass(slots=True)
class _Open:
    """Runs of one transform that were read and had not ended, and how long they are waited for."""

    runs: int = 0
    stopping: int = 0
    longest_seconds: float = 0.0
    shortest_seconds: float = math.inf

    def add(self, waited_seconds: float, *, stopping: bool) -> None:
        """One more."""
        self.runs += 1
        self.stopping += stopping
        self.longest_seconds = max(self.longest_seconds, waited_seconds)
        self.shortest_seconds = min(self.shortest_seconds, waited_seconds)


@dataclass(frozen=True, slots=True)
class _Wait:
    """Since when, on the loop's clock, an open run is waited for; anew where it has come back or was accepted since."""

    returns: int
    accepted: bool
    since: float


class Verifier:
    """Settles the asked runs of one target.

    Args:
        wait: give accepted runs time to end; else only those without an accepted request are read.
        clock: the service's; what the canceller learns of it.
        timeout_seconds: how long after its acceptance (or after the begin of this process) a run is waited for.
        on_error: called with each verdict that is one of :data:`~batch_cancel.core.outcome.ERRORS`.
    """

    def __init__(
        self,
        line: Line[GlueApi],
        ledger: Ledger,
        target_id: int,
        *,
        now: Callable[[], datetime],
        clock: ServiceClock,
        wait: bool,
        timeout_seconds: float,
        on_error: Callable[[Outcome], None],
        on_event: OnEvent,
    ) -> None:
        self._line = line
        self._ledger = ledger
        self._target_id = target_id
        self._now = now
        self._clock = clock
        self._wait = wait
        self._timeout_seconds = timeout_seconds
        self._began = asyncio.get_running_loop().time()
        self._waits: dict[int, _Wait] = {}
        self._on_error = on_error
        self._on_event = on_event
        self._polls: dict[str, _Poll] = {}
        self._seen: dict[int, TaskRun] = {}
        self._reading: set[str] = set()
        self._awaited: set[str] = set()
        self._changed = asyncio.Event()
        self._no_more_to_come = False
        self._has_read = False
        self._denied: CallFailed | None = None

    @property
    def denied(self) -> CallFailed | None:
        """What kept every run here from being read, where that was missing permission."""
        return None if self._has_read else self._denied

    def asked(self, transform_id: str, *, accepted: bool, seen: tuple[int, TaskRun] | None = None) -> None:
        """A run of this transform has had its last request; what was ``seen`` of it since is judged first."""
        if seen is not None:
            self._seen[seen[0]] = seen[1]
        if accepted and not self._wait:
            return
        delay = FIRST_POLL_SECONDS if accepted else SOON_SECONDS
        due = asyncio.get_running_loop().time() + delay
        poll = self._polls.get(transform_id)
        if poll is None:
            self._polls[transform_id] = _Poll(due)
        else:
            poll.due, poll.interval, poll.news = min(poll.due, due), FIRST_POLL_SECONDS, True
        self._changed.set()

    def take_up(self) -> None:
        """Look at what an earlier process left asked."""
        for transform_id in self._ledger.reader.asked_transforms(self._target_id):
            self.asked(transform_id, accepted=False)

    def no_more(self) -> None:
        """No further run will be asked."""
        self._no_more_to_come = True
        self._changed.set()

    @property
    def idle(self) -> bool:
        """Whether nothing is open just now."""
        return not self._polls

    async def run(self) -> None:
        """Read until every asked run has its verdict, or until a stop.

        Raises:
            RecordLost: the ledger cannot be written.
        """
        places = asyncio.Semaphore(GROUPS_AT_ONCE)
        async with task_group() as group:
            try:
                while self._polls or not self._no_more_to_come:
                    self._changed.clear()
                    now = asyncio.get_running_loop().time()
                    for transform_id in self._due(now):
                        with self._line.stop.interruptible():
                            await places.acquire()
                        self._reading.add(transform_id)
                        group.create_task(self._read_group(transform_id, places))
                    await self._sleep()
            except Stopped:
                pass
        for transform_id in list(self._awaited):  # cut short: nobody waits for them any longer
            self._tell_awaited(transform_id, _Open())

    def _due(self, now: float) -> list[str]:
        return [
            transform_id
            for transform_id, poll in self._polls.items()
            if poll.due <= now and transform_id not in self._reading
        ]

    async def _sleep(self) -> None:
        """Until the next group is due, or something changed."""
        due = min((poll.due for name, poll in self._polls.items() if name not in self._reading), default=None)
        loop = asyncio.get_running_loop()
        timer = None if due is None else loop.call_at(due, self._changed.set)
        try:
            with self._line.stop.interruptible():
                await self._changed.wait()
        finally:
            if timer is not None:
                timer.cancel()

    async def _read_group(self, transform_id: str, places: asyncio.Semaphore) -> None:
        poll = self._polls[transform_id]
        poll.news = False
        try:
            still_open = await self._judge_group(transform_id)
        except Stopped:
            return
        finally:
            self._reading.discard(transform_id)
            places.release()
            self._changed.set()
        self._tell_awaited(transform_id, still_open)
        if not still_open.runs and not poll.news:
            del self._polls[transform_id]
            return
        pause = poll.interval
        if still_open.runs:  # the oldest one's wait ends in between, perhaps
            pause = min(pause, max(self._timeout_seconds - still_open.longest_seconds, FIRST_POLL_SECONDS))
        poll.due = asyncio.get_running_loop().time() + pause
        poll.interval = min(LONGEST_POLL_SECONDS, poll.interval * POLL_GROWTH)

    def _tell_awaited(self, transform_id: str, still_open: _Open) -> None:
        """What is waited for in a transform, and once when nothing is any longer."""
        target = self._line.target
        if still_open.runs:
            longest, left = still_open.longest_seconds, self._timeout_seconds - still_open.shortest_seconds
            self._awaited.add(transform_id)
            self._on_event(Awaited(target, transform_id, still_open.runs, still_open.stopping, longest, left))
        elif transform_id in self._awaited:
            self._awaited.remove(transform_id)
            self._on_event(Awaited(target, transform_id, 0))

    async def _judge_group(self, transform_id: str) -> _Open:
        """Read and judge the open runs of a transform; those that stay open."""
        await self._ledger.writer.commit()  # what was posted about them is read below
        still_open, after_id = _Open(), 0
        while True:
            runs = self._ledger.reader.asked(self._target_id, transform_id, after_id=after_id, limit=GROUP_ROWS)
            if not runs:
                return still_open
            after_id = runs[-1].id
            if not self._wait:
                runs = [run for run in runs if not run.accepted]
            if runs:
                await self._judge(transform_id, runs, still_open)

    async def _judge(self, transform_id: str, runs: list[AskedRun], still_open: _Open) -> None:
        now = self._now()
        found: dict[str, Reading] = {run.task_run_id: self._seen.pop(run.id) for run in runs if run.id in self._seen}
        unread = [run for run in runs if run.task_run_id not in found]
        failures: dict[str, CallFailed] = {}
        found |= await readings(
            self._line,
            transform_id,
            [run.task_run_id for run in unread],
            started_since=_oldest_start(unread),
            # Nothing but a reading by name may say of these that they go on: it is their verdict.
            doubted={
                run.task_run_id
                for run in unread
                if not run.accepted or self._patience_over(run, now, accepted=run.accepted)
            },
            failures=failures,
        )
        self._has_read = self._has_read or any(reading is not Unread.UNREADABLE for reading in found.values())
        for failure in failures.values():
            self._tell_if_denied(failure)
        now = self._now()
        for run in runs:
            self._judge_one(run, found[run.task_run_id], failures.get(run.task_run_id), now, still_open)

    def _tell_if_denied(self, failure: CallFailed) -> None:
        """Once: what becomes of the runs cannot be seen, and whoever lets us in should know in time."""
        if failure.kind is ErrorKind.ACCESS and self._denied is None:
            self._denied = failure
            self._on_event(Warned(f"{self._line.target}: runs that were asked to stop cannot be read: {failure}"))

    def _judge_one(
        self, run: AskedRun, reading: Reading, failure: CallFailed | None, now: datetime, still_open: _Open
    ) -> None:
        """Settle a run, or leave it open; ``failure`` is what kept it from being read."""
        evidence = Evidence(
            requested_at=run.requested_at,
            accepted=run.accepted,
            tainted=run.tainted,
            refusal=ErrorKind(run.refusal) if run.refusal else None,
            seen_active=run.status_after is not None and not Status(run.status_after).ended,
            # The latest that is known where nothing was when it was asked.
            clock_offset_seconds=self._clock.offset_seconds if run.clock_offset is None else run.clock_offset,
        )
        key = TaskRunKey(run.transform_id, run.task_run_id)
        accepted = shows_acceptance(evidence, reading)
        if accepted and not run.accepted:
            self._ledger.accept(run.id, now)
            self._on_event(Accepted(self._line.target, key))
        outcome = verdict(evidence, reading, patience_over=self._patience_over(run, now, accepted=accepted))
        seen = reading if isinstance(reading, TaskRun) else None
        if outcome is None:
            if seen is not None and seen.status is not None:
                self._ledger.seen(run.id, str(seen.status))
            if self._wait or not accepted:
                stopping = seen is not None and seen.status is Status.STOPPING
                still_open.add(self._waited_seconds(run, now, accepted=accepted), stopping=stopping)
            return
        self._waits.pop(run.id, None)
        if failure is not None:
            self._ledger.unread(run.id, failure.code, f"{failure.operation}: {failure.message}")
        at = None if reading is Unread.UNREADABLE else now
        self._ledger.settle(run.id, outcome, seen, at=at, returns=run.returns)
        used = None
        if outcome is Outcome.STOPPED and seen is not None:
            used = used_seconds(seen.execution_time_seconds, started_on=seen.started_on or run.started_on, now=now)
        self._on_event(OutcomeReached(self._line.target, key, outcome, failure.code if failure else None, used))
        self._on_error(outcome)

    def _patience_over(self, run: AskedRun, now: datetime, *, accepted: bool) -> bool:
        if not self._wait:
            return not accepted
        return self._waited_seconds(run, now, accepted=accepted) >= self._timeout_seconds

    def _waited_seconds(self, run: AskedRun, now: datetime, *, accepted: bool) -> float:
        """How long this process has waited for a run's end: by the loop's clock, which nobody sets meanwhile."""
        loop_now = asyncio.get_running_loop().time()
        wait = self._waits.get(run.id)
        if wait is None or (wait.returns, wait.accepted) != (run.returns, accepted):
            # That it was accepted may have been seen just now: the wait for its end begins with that.
            since = run.accepted_at or (now if accepted else run.requested_at) or now
            waited = min(max((now - since).total_seconds(), 0.0), loop_now - self._began)
            wait = self._waits[run.id] = _Wait(run.returns, accepted, loop_now - waited)
        return loop_now - wait.since


def _oldest_start(runs: Iterable[AskedRun]) -> datetime | None:
    starts = [run.started_on for run in runs]
    known = [start for start in starts if start is not None]
    return min(known, default=None) if len(known) == len(starts) else None
