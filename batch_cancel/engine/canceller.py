"""Sends the cancel requests of one target: asks the ledger what is left, and writes down what happened.

Workers are bounded and live as long as there is work; a run's request leaves only when its intent is on disk. After an
ambiguous answer the run is read before anything is sent again, and before any verdict.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from batch_cancel.core.events import OnEvent
from batch_cancel.core.outcome import Outcome
from batch_cancel.core.task_run import TaskRun
from batch_cancel.glue.api import GlueApi
from batch_cancel.glue.paced import Line
from batch_cancel.ledger.ledger import ClaimedRun, Ledger
from batch_cancel.stop import Stopped, task_group

OPERATION = "CancelMLTaskRun"
CLAIM_SECONDS = 2.0
"""Runs are claimed for about so long ahead: the disk is never waited for, and a crash leaves few to be read back."""
CLAIM_LEAST, CLAIM_MOST = 16, 512
DENIED_STREAK = 5
"""So many first answers that all deny access, and nothing else: the permission is missing, not a run's tag."""


class Errors(Protocol):
    """Counts runs that ended in an error, and stops the sweep past its limit."""

    def count(self, outcome: Outcome) -> None:
        """Count one outcome that is an error."""
        ...


@dataclass(frozen=True, slots=True)
class _Settled:
    """A reading before another attempt made that attempt needless."""

    reading: TaskRun


class Canceller:
    """Cancels the pending runs of one target.

    Args:
        workers: how many runs are under way at most, those that wait for another attempt included.
        wait: leave ends to the verifier; else settle what one reading can settle.
        on_asked: called when a run's requests are over and its end has to be read.
    """

    def __init__(
        self,
        line: Line[GlueApi],
        ledger: Ledger,
        target_id: int,
        *,
        now: Callable[[], datetime],
        workers: int,
        wait: bool,
        errors: Errors,
        on_event: OnEvent,
        on_asked: Callable[[], None],
    ) -> None:
        self._line = line
        self._ledger = ledger
        self._target_id = target_id
        self._now = now
        self._most_workers = workers
        self._wait = wait
        self._errors = errors
        self._on_event = on_event
        self._on_asked = on_asked
        self._ready: deque[ClaimedRun] = deque()
        self._changed = asyncio.Event()
        self._no_more_to_come = False
        self._fed = False
        self._denied_in_a_row: int | None = 0

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
            try:
                await self._feed(group)
            except Stopped:
                pass
            finally:
                self._fed = True
                self._changed.set()
        for run in self._ready:  # claimed, never sent
            self._ledger.release(run)
        self._ready.clear()

    async def _feed(self, group: asyncio.TaskGroup) -> None:
        workers = 0
        while True:
            self._changed.clear()
            batch = int(min(CLAIM_MOST, max(CLAIM_LEAST, CLAIM_SECONDS * self._line.pacer(OPERATION).rps)))
            if len(self._ready) <= batch // 2:
                pending = self._ledger.reader.pending(self._target_id, batch)
                if pending:
                    runs = [_claimed(row) for row in pending]
                    self._line.stop.check()
                    await self._ledger.claim(runs, self._now())
                    self._ready.extend(runs)
                    for _ in range(min(len(runs), self._most_workers - workers)):
                        workers += 1
                        group.create_task(self._work())
                    continue
                if self._no_more_to_come:
                    return
            with self._line.stop.interruptible():
                await self._changed.wait()

    async def _work(self) -> None:
        while True:
            while self._ready and self._line.stop.cause is None:
                run = self._ready.popleft()
                self._changed.set()
                await self._cancel(run)
            if self._fed or self._line.stop.cause is not None:
                return
            await self._ready_or_fed()
