"""Decides about the runs of a manifest before anything is asked: what the rules, or a dry run, want to know is read.

A manifest says which runs are meant, not what they are. Where only ids have a say nothing is read, and every run is
decided as it stands; a dry run reads each, because what it would do depends on what each is. So does a sweep that
counts before it cancels: its count has to be the one that a dry run tells.
"""

import asyncio
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from batch_cancel.core.cost import dpu
from batch_cancel.core.errors import CallFailed
from batch_cancel.core.events import OutcomeReached
from batch_cancel.core.outcome import Outcome, Reading, Unread
from batch_cancel.core.selection import Protection, Selection, decide
from batch_cancel.core.task_run import TaskRun, TaskRunKey, Transform
from batch_cancel.engine.reading import readings
from batch_cancel.engine.transforms import Transforms
from batch_cancel.glue.paced import Line
from batch_cancel.ledger.ledger import Ledger
from batch_cancel.ledger.reader import PendingRun
from batch_cancel.stop import task_group

ROWS_AT_ONCE = 1000
GROUPS_AT_ONCE = 64


@dataclass(slots=True)
class Examined:
    """How it went.

    Attributes:
        to_cancel: runs that no rule left alone.
        cut_short: more than the cap allows, so that the others were not looked at.
        failure: the first read that a decision needed and that could not be had; what hung on it was left alone.
    """

    active_runs: int = 0
    to_cancel: int = 0
    cut_short: bool = False
    failure: CallFailed | None = None


class Examination:
    """Looks through the pending runs of one target once, in the order of the manifest.

    Args:
        dry_run: a run to be cancelled gets the outcome ``would_cancel``.
        counted: how many of the runs are active has a say, so that which ones are is read.
        most: once more than so many are to be cancelled none will be, and looking at the others is of no use.
        anew: what an earlier process left alone is decided about once more: it may have lacked what a rule asks for.
    """

    def __init__(
        self,
        line: Line[Any],
        ledger: Ledger,
        target_id: int,
        *,
        selection: Selection,
        protection: Protection,
        transforms: Transforms,
        now: Callable[[], datetime],
        dry_run: bool,
        counted: bool = False,
        most: int | None = None,
        anew: bool = True,
    ) -> None:
        self._line = line
        self._ledger = ledger
        self._target_id = target_id
        self._selection = selection
        self._protection = protection
        self._transforms = transforms
        self._now = now
        self._dry_run = dry_run
        self._reads_runs = dry_run or counted or selection.needs_run
        self._most = most
        self._anew = anew
        self._examined = Examined()

    @staticmethod
    def needed(selection: Selection, protection: Protection, *, dry_run: bool, counted: bool = False) -> bool:
        """Whether these rules can leave any listed run alone, or its state has to be told."""
        rules = (selection.transform_ids, selection.transform_names, selection.tags)
        protecting = (protection.transforms, protection.transform_ids, protection.transform_names, protection.tags)
        return dry_run or counted or selection.needs_run or any(rule is not None for rule in rules) or any(protecting)

    async def run(self) -> Examined:
        """Decide about every pending run.

        Raises:
            Stopped: a stop was asked for.
            RecordLost: the ledger cannot be written.
        """
        if self._anew:
            await self._ledger.reconsider(self._target_id)
        places = asyncio.Semaphore(GROUPS_AT_ONCE)
        after_id = 0
        while rows := self._ledger.reader.pending(self._target_id, ROWS_AT_ONCE, after_id=after_id):
            if self._most is not None and self._examined.to_cancel > self._most:
                self._examined.cut_short = True
                break
            after_id = rows[-1].id
            by_transform: dict[str, list[PendingRun]] = defaultdict(list)
            for row in rows:
                if not row.wire_calls:  # what an earlier process has asked for was decided by it
                    by_transform[row.transform_id].append(row)
            async with task_group() as group:
                for transform_id, members in by_transform.items():
                    group.create_task(self._examine(transform_id, members, places))
            await self._ledger.writer.commit()
        return self._examined

    async def _examine(self, transform_id: str, rows: list[PendingRun], places: asyncio.Semaphore) -> None:
        async with places:
            transform = await self._transform(transform_id)
            found: dict[str, Reading] = {}
            failures: dict[str, CallFailed] = {}
            if self._reads_runs:
                task_run_ids = [row.task_run_id for row in rows]
                found = await readings(self._line, transform_id, task_run_ids, failures=failures)
        for row in rows:
            self._decide(row, transform, found.get(row.task_run_id), failures.get(row.task_run_id))

    async def _transform(self, transform_id: str) -> Transform:
        try:
            return await self._transforms.transform(transform_id)
        except CallFailed as failure:
            # What cannot be shown to be unprotected is left alone, by name of the rule.
            self._examined.failure = self._examined.failure or failure
            return Transform(transform_id)

    def _decide(
        self, row: PendingRun, transform: Transform, reading: Reading | None, failure: CallFailed | None
    ) -> None:
        key = TaskRunKey(row.transform_id, row.task_run_id)
        run = reading if isinstance(reading, TaskRun) else TaskRun(*key)
        outcome, rule = self._outcome(run, transform, reading)
        if failure is not None:
            self._examined.failure = self._examined.failure or _unreadable(key, failure)
            if outcome is Outcome.UNKNOWN:
                self._ledger.unread(row.id, failure.code, f"{failure.operation}: {failure.message}")
        if run.status is None or run.status.active:
            self._examined.active_runs += reading is not Unread.MISSING
        self._examined.to_cancel += outcome is None
        self._ledger.decide(row.id, run, outcome=outcome, rule=rule, priority=dpu(transform) or 0.0)
        if outcome is not None:
            self._line.on_event(OutcomeReached(self._line.target, key, outcome))

    def _outcome(
        self, run: TaskRun, transform: Transform, reading: Reading | None
    ) -> tuple[Outcome | None, str | None]:
        if reading is Unread.MISSING:
            return Outcome.NOT_FOUND, None
        decision = decide(run, transform, self._selection, self._protection, self._now())
        if run.status is not None and run.status.ended:
            return Outcome.ALREADY_FINISHED, None
        if not decision.cancel:
            return Outcome.EXCLUDED, decision.rule
        if reading is Unread.UNREADABLE and self._dry_run:
            return Outcome.UNKNOWN, None
        return (Outcome.WOULD_CANCEL if self._dry_run else None), None


def _unreadable(key: TaskRunKey, failure: CallFailed) -> CallFailed:
    message = f"{key.task_run_id} could not be read: {failure.message}"
    return CallFailed(failure.kind, failure.operation, failure.code, message)
