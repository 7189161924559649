"""One target from its listing to its last verdict; its client is open while there is something to do, and no longer."""

import asyncio
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, TypeVar

from batch_cancel.core.errors import CallFailed, ErrorKind
from batch_cancel.core.events import (
    OnEvent,
    RunsFound,
    TargetFailed,
    TargetGivenUp,
    TargetIdentified,
    TargetRecovered,
    TransformsDescribed,
    Warned,
)
from batch_cancel.core.outcome import ERRORS, Outcome
from batch_cancel.core.service_clock import ServiceClock
from batch_cancel.core.task_run import Target, Transform
from batch_cancel.engine.canceller import Canceller
from batch_cancel.engine.discovery import Discovery, Listing
from batch_cancel.engine.examination import Examination
from batch_cancel.engine.transforms import Transforms
from batch_cancel.engine.verifier import Verifier
from batch_cancel.glue.paced import Line
from batch_cancel.ledger.ledger import Ledger, NewRun
from batch_cancel.settings import Settings
from batch_cancel.stop import Stop, StopCause, task_group

LEFT_ALONE_UNKNOWN = (
    "runs were left alone because what a rule asks for could not be read when they were counted, and no more may be"
    " cancelled than was agreed to then: start a new sweep for them"
)

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What all targets of a sweep share.

    Attributes:
        cancelling: ends the sending of cancel requests everywhere, and nothing else.
        on_error: called for each run that ended in an error.
    """

    settings: Settings
    ledger: Ledger
    now: Callable[[], datetime]
    cancelling: Stop
    on_error: Callable[[], None]
    on_event: OnEvent


class TargetWork:
    """What there is to do at one target.

    Attributes:
        kept_out: credentials or access were the first trouble that kept something here from being done.
        cut_short: not all listed runs were looked at, because more than the cap allows would be cancelled.
        missing: transforms that were asked for by id and are not here.
        all_asked: set once no further request will be made here.
    """

    def __init__(self, target_id: int, target: Target, surroundings: Surroundings, stop: Stop) -> None:
        self.target_id = target_id
        self.target = target
        self.kept_out = False
        self.cut_short = False
        self.missing: set[str] = set()
        self.all_asked = asyncio.Event()
        self.line: Line[Any]
        self.stop = stop
        self._around = surroundings
        self._failed_already = False
        self._failed_before = False
        self._canceller: Canceller | None = None
        self._verifier: Verifier | None = None

    def identified(self, account_id: str) -> None:
        """Whose account it is, found out: events name it from now on."""
        if account_id != self.target.account_id:
            self.target = self.line.target = replace(self.target, account_id=account_id)
            self._around.on_event(TargetIdentified(self.target))

    # What goes wrong

    def on_trouble(self, code: str, message: str, kind: ErrorKind | None = None) -> None:
        """Something here could not be done; the first cause stays."""
        if not self._failed_already:
            self._failed_already = True
            self.kept_out = kind in (ErrorKind.CREDENTIALS, ErrorKind.ACCESS)
            self._around.on_event(TargetFailed(self.target, code, message))
            self._around.ledger.set_target_error(self.target_id, code, message)

    def try_again(self) -> None:
        """Forget a trouble that another listing may not have."""
        if self._failed_already and self.stop.cause is None:
            self._failed_before = True
            self._failed_already = self.kept_out = False
            self._around.ledger.clear_target_error(self.target_id)

    def _failed(self, failure: CallFailed) -> None:
        self.on_trouble(failure.code, f"{failure.operation}: {failure.message}", failure.kind)

    # Finding

    async def discover(self, sweep_number: int, on_pending: Callable[["TargetWork"], None]) -> Listing | None:
        """List the active runs; None where the target could not be entered.

        Args:
            on_pending: called each time that new runs to be cancelled stand in the ledger.
        """
        around = self._around
        settings = around.settings

        async def found(runs: Sequence[NewRun]) -> None:
            again, reader, transform_id = settings.until_clear, around.ledger.reader, runs[0].run.transform_id
            known = reader.entered(self.target_id, transform_id, again=again)
            starts = reader.starts(self.target_id, transform_id) if again else {}
            runs = [_restarted(run, starts) for run in runs]
            restarted = sum(run.restarted and starts[run.run.task_run_id][1] for run in runs)
            unknown = reader.to_decide_anew(self.target_id, transform_id)
            new = [run for run in runs if run.restarted or run.run.task_run_id not in known]
            anew = sum(run.outcome is not Outcome.EXCLUDED and run.run.task_run_id in unknown for run in runs)
            excluded = sum(run.outcome is Outcome.EXCLUDED for run in new)
            to_cancel = len(new) - excluded + anew
            try:
                await around.ledger.add_runs(self.target_id, runs, sweep_number=sweep_number, again=again)
            finally:  # cut short by the target's stop, they stand in the ledger all the same
                around.on_event(RunsFound(self.target, to_cancel, excluded - anew, restarted))
            if any(run.outcome is None for run in runs):
                on_pending(self)

        try:
            async with self.line.connection:
                listing = await Discovery(
                    self.line,
                    settings.selection,
                    settings.protection,
                    now=around.now,
                    dry_run=settings.dry_run,
                    describe=not settings.until_clear,
                    every=settings.guardrails.max_percent is not None,
                    on_found=found,
                ).run()
        except CallFailed as failure:
            self._failed(failure)
            return None
        self.missing = set(listing.missing)
        self._described(listing.described)
        if listing.failure is not None:
            self._failed(listing.failure)
        elif self._failed_before and not self._failed_already:
            self._failed_before = False
            around.on_event(TargetRecovered(self.target))
        anything = listing.complete or listing.transforms > 0  # of what nobody could list, there are not "none"
        around.ledger.set_listed(
            self.target_id,
            transforms=listing.transforms if anything else None,
            active_runs=listing.active_runs if anything else None,
            complete=listing.complete,
        )
        return listing

    async def examine(self, *, counted: bool, consented: bool) -> None:
        """Decide about the runs that a manifest named.

        Args:
            counted: how many of them are active has a say.
            consented: their count has been agreed to: what was left alone stays so.
        """
        around, settings = self._around, self._around.settings
        transforms = Transforms(self.line, settings.selection, settings.protection)
        try:
            async with self.line.connection:
                examined = await Examination(
                    self.line,
                    around.ledger,
                    self.target_id,
                    selection=settings.selection,
                    protection=settings.protection,
                    transforms=transforms,
                    now=around.now,
                    dry_run=settings.dry_run,
                    counted=counted,
                    most=None if settings.dry_run else settings.guardrails.max_runs,
                    anew=not consented and not around.ledger.reader.listed(self.target_id),
                ).run()
        except CallFailed as failure:
            self._failed(failure)
            self.stop.request(StopCause.CREDENTIALS)  # what nobody has looked at is asked for by nobody
            return
        self._described(transforms.described.values())
        if examined.failure is not None:
            self._failed(examined.failure)
        not_known = consented and around.ledger.reader.left_unknown(self.target_id)
        if not_known:
            self.on_trouble("NotKnown", LEFT_ALONE_UNKNOWN)
        self.cut_short = examined.cut_short
        active_runs = None if examined.cut_short else examined.active_runs
        around.ledger.set_listed(
            self.target_id,
            transforms=None,
            active_runs=active_runs,
            complete=examined.failure is None and not not_known,
        )

    async def describe(self) -> None:
        """Names and capacity for the report, if they can be had; it may fail without harm."""
        transforms = Transforms(self.line, self._around.settings.selection, self._around.settings.protection)
        try:
            async with self.line.connection:
                await transforms.describe()
        except CallFailed as failure:
            self._around.on_event(Warned(f"{self.target}: names of transforms are not known: {failure}"))
        self._described(transforms.described.values())

    def _described(self, transforms: Collection[Transform]) -> None:
        self._around.ledger.add_transforms(self.target_id, transforms)
        if transforms:
            self._around.on_event(TransformsDescribed(self.target, tuple(transforms)))

    # Stopping

    def more(self) -> None:
        """The ledger has new pending runs."""
        if self._canceller is not None:
            self._canceller.more()

    def no_more(self) -> None:
        """No further runs will come."""
        if self._canceller is not None:
            self._canceller.no_more()

    @property
    def idle(self) -> bool:
        """Whether no run is on its way here; at a target that was given up none ever will be again."""
        if self._verifier is None or self.stop.cause is not None:
            return True
        reader = self._around.ledger.reader
        return (
            self._verifier.idle
            and not reader.count("pending", self.target_id)
            and not reader.count("claimed", self.target_id)
        )

    def prepare(self) -> None:
        """Make ready to stop runs, before the first of them is told of."""
        around, settings = self._around, self._around.settings
        clock = ServiceClock(around.ledger.reader.clock_offset(self.target_id))
        self._verifier = Verifier(
            self.line,
            around.ledger,
            self.target_id,
            now=around.now,
            clock=clock,
            wait=settings.verify.wait,
            timeout_seconds=settings.verify.timeout_seconds,
            on_error=self._count_error,
            on_event=around.on_event,
        )
        self._canceller = Canceller(
            self.line,
            around.ledger,
            self.target_id,
            now=around.now,
            clock=clock,
            workers=2 * settings.rate.max_concurrency,
            stop=Stop(self.stop, around.cancelling),
            on_error=around.on_error,
            on_event=around.on_event,
            on_asked=self._verifier.asked,
        )

    async def stop_runs(self) -> None:
        """Cancel what is pending and see it through, until :meth:`no_more` and everything has its verdict."""
        assert self._canceller is not None and self._verifier is not None  # noqa: S101  # prepare() came first
        self._verifier.take_up()
        try:
            async with self.line.connection, task_group() as group:
                group.create_task(self._verifier.run())
                await self._canceller.run()
                self.all_asked.set()
                self._verifier.no_more()
            if (denied := self._verifier.denied) is not None:  # the requests have gone out: nobody was kept out
                self.on_trouble(denied.code, f"{denied.operation}: no run could be read again: {denied.message}")
        except CallFailed as failure:
            self._failed(failure)
            self.stop.request(StopCause.CREDENTIALS)  # no client, no request
        finally:
            self.all_asked.set()
        await self.tell_if_given_up()

    async def tell_if_given_up(self) -> None:
        """What is left undone here, where the sweep goes on elsewhere."""
        around = self._around
        if self.stop.cause is None or around.cancelling.cause is not None:
            return
        await around.ledger.writer.commit()
        count = around.ledger.reader.count
        around.on_event(TargetGivenUp(self.target, count("pending", self.target_id), count("asked", self.target_id)))

    def _count_error(self, outcome: Outcome) -> None:
        if outcome in ERRORS:
            self._around.on_error()


def _restarted(new: NewRun, starts: Mapping[str, tuple[datetime | None, bool]]) -> NewRun:
    """Note of a run that is known by an earlier start that it has started once more."""
    before, _ = starts.get(new.run.task_run_id, (None, False))
    return replace(new, restarted=new.outcome is None and before is not None and new.run.started_since(before))


async def in_turn(works: Sequence[T], what: Callable[[T], Awaitable[object]], at_once: int) -> None:
    """Do something at every target (or way in), so many side by side."""
    waiting = iter(works)

    async def worker() -> None:
        for work in waiting:
            await what(work)

    async with task_group() as group:
        for _ in range(min(at_once, len(works))):
            group.create_task(worker())
