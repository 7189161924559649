"""Which runs are active at a target: ListMLTransforms, then GetMLTaskRuns for each transform.

For each transform STARTING is listed to its end before RUNNING, one after the other: the other order, or both at once,
can miss a run that starts in between. What was seen twice counts once. A listing that failed is never "nothing there".
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from batch_cancel.core.cost import dpu
from batch_cancel.core.errors import CallFailed, ErrorKind
from batch_cancel.core.events import TransformListed, TransformsFound
from batch_cancel.core.outcome import Outcome
from batch_cancel.core.selection import ACTIVE_STATUSES, Protection, Selection, decide
from batch_cancel.core.task_run import Status, TaskRun, Transform
from batch_cancel.engine.reading import R, pages
from batch_cancel.engine.transforms import Transforms
from batch_cancel.glue.paced import Line
from batch_cancel.ledger.ledger import NewRun
from batch_cancel.stop import task_group

TRANSFORMS_AT_ONCE = 64
"""How many transforms of one target are looked into side by side; the limiter sets the pace, this bounds the memory."""

MOST_REPEATS = 5
"""So often a listing of several pages is made at most, however much it changes under our hands."""

FIRST_AT_ONCE = 8
"""So many begin, and each that is done makes room for one more: while the rate is still being found, a few transforms
are looked into wholly, and the first run is found, before all have been looked into by half."""

OnFound = Callable[[Sequence[NewRun]], Awaitable[None]]


@dataclass(slots=True)
class Listing:
    """How a target's discovery ended.

    Attributes:
        described: transforms whose name and capacity became known.
        missing: transforms that were asked for by id and that Glue does not know here.
        failure: the first listing that failed; then the listing is not complete.
    """

    transforms: int = 0
    active_runs: int = 0
    described: tuple[Transform, ...] = ()
    missing: list[str] = field(default_factory=list)
    failure: CallFailed | None = None

    @property
    def complete(self) -> bool:
        """Whether every listing ended well."""
        return self.failure is None

    def failed(self, failure: CallFailed) -> None:
        """Note a listing that failed."""
        self.failure = self.failure or failure


class Discovery:
    """Lists one target's active runs and decides about each.

    Args:
        dry_run: a run to be cancelled enters with the outcome ``would_cancel``.
        describe: fetch names and capacity for the report too where no rule needs them; it may fail without harm.
        every: list every transform and every active status, whatever is selected: a share of all is to be known.
        on_found: gets the decided runs of one listing at a time.
    """

    def __init__(
        self,
        line: Line[Any],
        selection: Selection,
        protection: Protection,
        *,
        now: Callable[[], datetime],
        dry_run: bool,
        describe: bool,
        on_found: OnFound,
        every: bool = False,
    ) -> None:
        self._line = line
        self._selection = selection
        self._protection = protection
        self._now = now
        self._dry_run = dry_run
        self._describe = describe
        self._on_found = on_found
        self._every = every
        self._transforms = Transforms(line, selection, protection)
        self._queue: asyncio.Queue[str | None] = asyncio.Queue(maxsize=4 * TRANSFORMS_AT_ONCE)
        self._lookers = 0
        self._listing = Listing()

    async def run(self) -> Listing:
        """List everything; a transform without active runs costs two calls.

        Raises:
            Stopped: a stop was asked for.
        """
        listing = self._listing
        async with task_group() as group:
            try:
                missing = set(self._selection.transform_ids or ()) if self._every else set()
                async for transform_ids in self._transforms.ids(every=self._every):
                    missing.difference_update(transform_ids)
                    listing.transforms += len(transform_ids)
                    self._line.on_event(TransformsFound(self._line.target, len(transform_ids)))
                    for transform_id in transform_ids:
                        if self._lookers < FIRST_AT_ONCE:
                            self._one_more(group)
                        await self._queue.put(transform_id)
                listing.missing.extend(missing)
            except CallFailed as failure:
                listing.failed(failure)
            await self._queue.put(None)  # who takes it puts it back for the next
        if self._describe and listing.active_runs:
            await self._transforms.describe()
        listing.described = tuple(self._transforms.described.values())
        return listing

    def _one_more(self, group: asyncio.TaskGroup) -> None:
        self._lookers += 1
        group.create_task(self._look_into_all(group))

    async def _look_into_all(self, group: asyncio.TaskGroup) -> None:
        while (transform_id := await self._queue.get()) is not None:
            try:
                await self._look_into(transform_id)
            except CallFailed as failure:
                if failure.kind is not ErrorKind.NOT_FOUND:
                    self._listing.failed(failure)
                elif transform_id in (self._selection.transform_ids or ()):
                    self._listing.missing.append(transform_id)
                # Otherwise it was deleted since it was listed, and its runs went with it.
            if self._lookers < TRANSFORMS_AT_ONCE and not self._queue.empty():
                self._one_more(group)
        self._queue.put_nowait(None)

    async def _look_into(self, transform_id: str) -> None:
        """Hand on what each listing shows, before the next one is asked for."""
        found = excluded = 0
        statuses = ACTIVE_STATUSES if self._every else self._selection.statuses
        async for runs in _active_runs(self._line, transform_id, statuses):
            self._listing.active_runs += len(runs)
            transform = await self._transform(transform_id)
            new = [self._decided(run, transform) for run in runs]
            found += len(new)
            excluded += sum(run.outcome is Outcome.EXCLUDED for run in new)
            await self._on_found(new)
        self._line.on_event(TransformListed(self._line.target, transform_id, found - excluded, excluded))

    async def _transform(self, transform_id: str) -> Transform:
        try:
            return await self._transforms.transform(transform_id)
        except CallFailed as failure:
            # What cannot be shown to be unprotected is left alone, by name of the rule; and the listing failed.
            self._listing.failed(failure)
            return Transform(transform_id)

    def _decided(self, run: TaskRun, transform: Transform) -> NewRun:
        decision = decide(run, transform, self._selection, self._protection, self._now())
        if not decision.cancel:
            return NewRun(run, rule=decision.rule, outcome=Outcome.EXCLUDED)
        return NewRun(run, outcome=Outcome.WOULD_CANCEL if self._dry_run else None, priority=dpu(transform) or 0.0)


async def _active_runs(line: Line[R], transform_id: str, statuses: Sequence[Status]) -> AsyncIterator[list[TaskRun]]:
    """The active runs of one transform, listing by listing, each once, with the status that was seen first.

    Nothing is handed on before a listing has come to its end: what leaves the filtered list meanwhile (we cancel it, or
    it ends by itself) may shift the pages that follow, and a run that is active could fall between two of them. For the
    same reason a listing of several pages is repeated until it shows nothing new.

    Raises:
        CallFailed: a page could not be had; what the pages before it and the other listing showed was handed on.
    """
    seen: set[str] = set()
    first_failure: CallFailed | None = None
    for status in ACTIVE_STATUSES:  # STARTING first, to its end
        if status not in statuses:
            continue
        for _ in range(MOST_REPEATS):
            runs, page_count, failure = await _listed(line, transform_id, status)
            new = [run for run in runs if run.task_run_id not in seen]
            seen.update(run.task_run_id for run in new)
            if new:
                yield new
            if failure is not None and failure.kind is ErrorKind.NOT_FOUND:
                raise first_failure or failure
            first_failure = first_failure or failure
            if failure is not None or page_count <= 1 or not new:
                break
    if first_failure is not None:
        raise first_failure


async def _listed(line: Line[R], transform_id: str, status: Status) -> tuple[list[TaskRun], int, CallFailed | None]:
    """The runs that one listing shows as active, its pages, and what ended it before its end."""
    runs: dict[str, TaskRun] = {}
    page_count = 0
    listing = pages(
        line,
        "GetMLTaskRuns",
        lambda glue, token: glue.list_task_runs(transform_id, status=status, next_token=token),
    )
    try:
        async for items in listing:
            page_count += 1
            for run in items:
                # The filter is the service's; a run that it says is over needs nothing from us.
                if run.status is None or run.status.active:
                    runs[run.task_run_id] = run if run.status else replace(run, status=status)
    except CallFailed as failure:
        return list(runs.values()), page_count, failure
    return list(runs.values()), page_count, None
