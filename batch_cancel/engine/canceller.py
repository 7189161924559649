"""Sends the cancel requests of one target: asks the ledger what is left, and writes down what happened.

Workers are bounded and live as long as there is work; a run's request leaves only when its intent is on disk. After an
ambiguous answer the run is read before anything is sent again, and before any verdict.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from datetime import datetime
from typing import Protocol

from batch_cancel.core.errors import CallFailed, ErrorKind
from batch_cancel.core.events import Accepted, Asked, OnEvent, OutcomeReached
from batch_cancel.core.outcome import Outcome
from batch_cancel.core.service_clock import ServiceClock
from batch_cancel.core.task_run import Status, TaskRun, TaskRunKey
from batch_cancel.glue.api import CancelAnswer, GlueApi
from batch_cancel.glue.pace import Priority
from batch_cancel.glue.paced import Line
from batch_cancel.ledger.ledger import Answer, ClaimedRun, Ledger
from batch_cancel.ledger.reader import PendingRun
from batch_cancel.stop import Stop, StopCause, Stopped, task_group

OPERATION = "CancelMLTaskRun"
CLAIM_SECONDS = 0.3
"""Runs are claimed for about so long ahead: the disk is hardly waited for, and a crash leaves few of which nobody can
say whether they were asked."""
CLAIM_LEAST, CLAIM_MOST = 4, 256
READ_BACK_PAUSES = (1.0, 2.0, 4.0, 8.0, *(15.0,) * 8)
"""Seconds between readings that fail; each of them has had its own attempts. Two minutes, and somebody else may try."""
TOLD_OFFSET_SECONDS = 0.5
"""What is known of the service's clock is written down anew when it has changed by more."""
DENIED_STREAK = 5
"""So many first answers that all deny access, and nothing else: the permission is missing, not a run's tag."""
ENDED_BY_ITSELF = (Status.SUCCEEDED, Status.FAILED, Status.TIMEOUT)


class OnAsked(Protocol):
    """Told when a run's requests are over and only reading can say what became of it."""

    def __call__(self, transform_id: str, *, accepted: bool, seen: tuple[int, TaskRun] | None = None) -> None:
        """``accepted`` False: the sooner it is judged the better; ``seen``: its id here, and what was read since."""
        ...


class Canceller:
    """Cancels the pending runs of one target.

    Args:
        clock: the service's, which its answers tell.
        workers: how many runs are under way at most, those that wait for another attempt included.
        stop: ends the cancelling, and with it only that; reached by the target's own stop.
        on_error: called with each outcome that it settles itself and that is an error.
    """

    def __init__(
        self,
        line: Line[GlueApi],
        ledger: Ledger,
        target_id: int,
        *,
        now: Callable[[], datetime],
        clock: ServiceClock,
        workers: int,
        stop: Stop,
        on_error: Callable[[], None],
        on_event: OnEvent,
        on_asked: OnAsked,
    ) -> None:
        self._line = line
        self._ledger = ledger
        self._target_id = target_id
        self._now = now
        self._clock = clock
        self._told_offset = clock.offset_seconds
        self._most_workers = workers
        self._stop = stop
        self._on_error = on_error
        self._on_event = on_event
        self._on_asked = on_asked
        self._queue: asyncio.Queue[ClaimedRun | None] = asyncio.Queue()
        self._unsent: set[int] = set()
        """Runs of which no request has left yet, and whose intent is on disk."""
        self._changed = asyncio.Event()
        self._no_more_to_come = False
        self._denied_streak: int | None = 0

    def more(self) -> None:
        """The ledger has new pending runs."""
        self._changed.set()

    def no_more(self) -> None:
        """No further runs will enter the ledger."""
        self._no_more_to_come = True
        self._changed.set()

    async def run(self) -> None:
        """Cancel until nothing is pending and nothing more is to come, or until a stop.

        Raises:
            RecordLost: the ledger cannot be written.
        """
        async with task_group() as group:
            workers = 0
            try:
                async for batch in self._claims():
                    for _ in range(min(len(batch), self._most_workers - workers)):
                        workers += 1
                        group.create_task(self._work())
                    for run in batch:
                        self._queue.put_nowait(run)
            except Stopped:
                pass  # what is claimed passes through the workers, which let go of it
            for _ in range(workers):
                self._queue.put_nowait(None)

    async def _claims(self) -> AsyncIterator[list[ClaimedRun]]:
        """Batches of runs whose intent is on disk, a new one when the last is half sent.

        Workers that only wait for their turn do not count as having used it: a crash would leave as many in doubt. A
        run that is in doubt already is read first, and counts as taken once a worker has it.
        """
        while True:
            self._changed.clear()
            size = int(min(CLAIM_MOST, max(CLAIM_LEAST, CLAIM_SECONDS * self._line.pacer(OPERATION).rps)))
            if max(self._queue.qsize(), len(self._unsent)) <= size // 2:
                batch = [_claimed(row) for row in self._ledger.reader.pending(self._target_id, size)]
                if batch:
                    self._stop.check()
                    await self._ledger.claim(batch, self._now())
                    self._unsent.update(run.id for run in batch if not run.tainted)
                    yield batch
                    continue
                if self._no_more_to_come:
                    return
            with self._stop.interruptible():
                await self._changed.wait()

    async def _work(self) -> None:
        while (run := await self._queue.get()) is not None:
            self._changed.set()
            await self._cancel(run)

    async def _cancel(self, run: ClaimedRun) -> None:
        try:
            answer = await self._line.tries(OPERATION, self._stop, alone=True).run(lambda: self._attempt(run))
        except Stopped:
            self._let_go(run)
            self._ledger.unclaim(run)
        except CallFailed as failure:
            self._refused(run, failure)
        else:
            self._accepted(run, answer)
        finally:
            self._leaves(run)

    def _leaves(self, run: ClaimedRun) -> None:
        """A request of the run leaves, or none ever will."""
        if run.id in self._unsent:
            self._unsent.remove(run.id)
            self._changed.set()

    async def _attempt(self, run: ClaimedRun) -> CancelAnswer | TaskRun:
        """One request, or the reading that shows that it need not be made."""
        if run.tainted and (reading := await self._read_back(run)) is not None:
            return reading
        if not run.intended:
            run.number += 1
            await self._ledger.intend(run, self._now())
        sent_at: datetime | None = None

        async def request(glue: GlueApi) -> CancelAnswer:
            nonlocal sent_at
            sent_at = self._now()
            self._leaves(run)
            answer = await glue.cancel_task_run(run.key.transform_id, run.key.task_run_id)
            if (answer.transform_id, answer.task_run_id) != run.key or answer.status is None:
                raise CallFailed(
                    ErrorKind.TRANSIENT,
                    OPERATION,
                    "IncompleteAnswer",
                    "the service answered 200 without naming the run and its status",
                    http_status=200,
                    request_id=answer.request_id,
                )
            return answer

        try:
            answer = await self._line.attempt(OPERATION, request, priority=Priority.CANCEL, stop=self._stop)
        except CallFailed as failure:
            self._note_failure(run, failure, sent_at)
            raise
        except Stopped:
            self._let_go(run)
            raise
        run.attempts += 1
        self._learn(answer, sent_at)
        self._requested(run, sent_at)
        run.error_code, run.error_message, run.request_id = None, None, answer.request_id
        self._answered(run, Answer(sent_at, self._now(), "accepted", None, 200, answer.request_id))
        return answer

    async def _read_back(self, run: ClaimedRun) -> TaskRun | None:
        """The run after an ambiguous attempt, unless it is still active and so has to be asked again.

        A reading that fails uses none of the run's attempts up: nothing is sent before there is one.

        Raises:
            CallFailed: it could not be read, or Glue does not know it; that is the end of this run's requests.
            Stopped: a stop was asked for.
        """
        pauses = iter(READ_BACK_PAUSES)
        while True:
            try:
                reading = await self._line.call(
                    "GetMLTaskRun", lambda glue: glue.get_task_run(run.key.transform_id, run.key.task_run_id)
                )
            except CallFailed as failure:
                if failure.kind is ErrorKind.NOT_FOUND:
                    message = "not found when read back"
                    raise CallFailed(failure.kind, failure.operation, "EntityNotFoundException", message) from failure
                pause = next(pauses, None)
                if failure.kind is not ErrorKind.TRANSIENT or pause is None:  # it would be refused again; or enough
                    # Of no kind that says anything of the request: whether that was accepted is as open as before.
                    message = f"could not be read back: {failure.message}"
                    raise CallFailed(
                        ErrorKind.OTHER, failure.operation, failure.code, message, reached=False
                    ) from failure
            else:
                return reading if reading.status is not None and not reading.status.active else None
            self._line.check_progress(asyncio.get_running_loop().time())
            self._stop.check()
            with self._stop.interruptible():
                await asyncio.sleep(self._line.jitter.uniform(pause / 2, pause))

    def _note_failure(self, run: ClaimedRun, failure: CallFailed, sent_at: datetime | None) -> None:
        run.error_code, run.error_message = failure.code, failure.message
        run.request_id = failure.request_id
        if failure.kind is ErrorKind.THROTTLE:
            run.throttled += 1
        elif not failure.kept_out:
            run.attempts += 1
            if failure.reached:
                self._requested(run, sent_at)
        run.tainted = run.tainted or failure.ambiguous
        verdict = "ambiguous" if failure.ambiguous else "not_sent" if not failure.reached else failure.kind.value
        self._answered(
            run, Answer(sent_at, self._now(), verdict, failure.code, failure.http_status, failure.request_id)
        )

    def _requested(self, run: ClaimedRun, sent_at: datetime | None) -> None:
        """A request has been made, the first perhaps; the clocks are compared as they were then, as far as is known."""
        if run.requested_at is None:
            run.requested_at, run.clock_offset = sent_at, self._clock.offset_seconds

    def _learn(self, answer: CancelAnswer, sent_at: datetime | None) -> None:
        if sent_at is None:
            return
        self._clock.told(answer.answered_at, sent_at=sent_at, heard_at=self._now())
        offset = self._clock.offset_seconds
        if offset is not None and (self._told_offset is None or abs(offset - self._told_offset) > TOLD_OFFSET_SECONDS):
            self._told_offset = offset
            self._ledger.set_clock_offset(self._target_id, offset)

    def _answered(self, run: ClaimedRun, answer: Answer) -> None:
        run.intended = False
        self._ledger.answered(run, answer)

    def _let_go(self, run: ClaimedRun) -> None:
        """The open intent certainly never left."""
        if run.intended:
            run.intended = False
            self._ledger.not_sent(run)

    def _accepted(self, run: ClaimedRun, answer: CancelAnswer | TaskRun) -> None:
        self._let_go(run)
        if isinstance(answer, TaskRun):  # its end is told by one judge alone: the verifier
            self._asked(run, accepted=False, seen=answer)
            return
        self._denied_streak = None
        # A run that the answer itself shows to have ended by itself was over before we asked: nothing was accepted.
        accepted = run.tainted or answer.status not in ENDED_BY_ITSELF
        if accepted:
            run.accepted_at = self._now()
            self._on_event(Accepted(self._line.target, run.key))
        self._asked(run, accepted=accepted, status=answer.status)

    def _refused(self, run: ClaimedRun, failure: CallFailed) -> None:
        self._let_go(run)
        if failure.kept_out:  # by the role, as all others will be: nothing has left, and this is the target's trouble
            self._line.give_up(StopCause.CREDENTIALS, failure.code, f"{failure.operation}: {failure.message}")
            run.error_code, run.error_message, run.request_id = None, None, None
            self._ledger.unclaim(run)
            return
        run.error_code, run.error_message = failure.code, failure.message
        self._count_denied(failure)
        if failure.kind is ErrorKind.ACCESS and not run.tainted:
            self._ledger.refuse(run, Outcome.DENIED)
            self._on_event(Asked(self._line.target, run.key))
            self._on_event(OutcomeReached(self._line.target, run.key, Outcome.DENIED, failure.code))
            self._on_error()
            return
        self._asked(run, accepted=False, refusal=failure.kind)

    def _asked(
        self,
        run: ClaimedRun,
        *,
        accepted: bool,
        refusal: ErrorKind | None = None,
        status: Status | None = None,
        seen: TaskRun | None = None,
    ) -> None:
        self._ledger.asked(
            run, accepted=accepted, refusal=refusal.value if refusal else None, status=str(status) if status else None
        )
        self._on_event(Asked(self._line.target, run.key))
        self._on_asked(run.key.transform_id, accepted=accepted, seen=(run.id, seen) if seen else None)

    def _count_denied(self, failure: CallFailed) -> None:
        """Stop the target where nothing but denials has come back: the permission is missing, not a run's tag."""
        if self._denied_streak is None:
            return
        if failure.kind is not ErrorKind.ACCESS:
            self._denied_streak = None
            return
        self._denied_streak += 1
        if self._denied_streak >= DENIED_STREAK:
            message = f"the first {DENIED_STREAK} requests were all denied; does the role allow glue:{OPERATION}?"
            self._line.give_up(StopCause.CREDENTIALS, failure.code, f"{message} {failure.message}")


def _claimed(row: PendingRun) -> ClaimedRun:
    return ClaimedRun(
        id=row.id,
        key=TaskRunKey(row.transform_id, row.task_run_id),
        number=row.wire_calls + 1,
        intended=True,
        requested_at=row.requested_at,
        clock_offset=row.clock_offset,
        tainted=row.tainted,
        attempts=row.attempts,
        throttled=row.throttled,
    )
