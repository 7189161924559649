"""The story of a sweep, top down: connect, find, decide, ask, cancel, verify; the report is made from what it leaves.

With a cap or a question in the way, everything is found before the first request leaves. Without, each target's runs
are asked to stop while others are still being listed.
"""

import asyncio
import contextlib
import random
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any, BinaryIO

from batch_cancel.core.errors import (
    ErrorKind,
    Guardrail,
    GuardrailRefused,
    LedgerError,
    UsageError,
)
from batch_cancel.core.events import (
    ManifestRead,
    OnEvent,
    Phase,
    PhaseBegan,
    PhaseEnded,
    PlaceFailed,
    Resumed,
    Stopping,
    SweepBegan,
    TargetOpened,
    ToAsk,
    Warned,
)
from batch_cancel.core.moment import rfc3339
from batch_cancel.core.outcome import NOT_STOPPED, Outcome
from batch_cancel.core.selection import max_percent_refusal, max_runs_refusal, past_max_errors
from batch_cancel.core.task_run import Target
from batch_cancel.engine.accounts import Accounts
from batch_cancel.engine.call_counts import CallCounts
from batch_cancel.engine.closed_regions import tell_regions_from_credentials
from batch_cancel.engine.ending import Result, result
from batch_cancel.engine.examination import Examination
from batch_cancel.engine.identities import Identities
from batch_cancel.engine.intake import Places, take_in, take_in_plan
from batch_cancel.engine.target_work import Surroundings, TargetWork, in_turn
from batch_cancel.engine.targets import Resolved, resolve
from batch_cancel.engine.until_clear import until_clear
from batch_cancel.glue.api import Service
from batch_cancel.glue.pace import InFlight, Pacers
from batch_cancel.glue.paced import Connection, Line
from batch_cancel.ledger.ledger import Ledger
from batch_cancel.manifest import name_of, read_manifest
from batch_cancel.plan import plan_of
from batch_cancel.settings import DiscoverySource, ManifestSource, PlanSource, Settings, to_json
from batch_cancel.stop import Stop, StopCause, Stopped, ended, task_group
from batch_cancel.version import __version__

TARGETS_AT_ONCE = 64
"""Targets that are listed side by side."""
OPTIONAL_AFTER_SECONDS = 0.5
"""Who we are and what transforms are called is nice to know: it does not compete with the first request."""
DRAIN_SECONDS = 30.0
"""Calls in flight may take so long to end after a stop."""

NOT_CONFIRMED = "not confirmed: nothing was cancelled"

Ask = Callable[[], Awaitable[bool]]
"""Shows the decision that stands in the ledger and asks; True for yes."""


class Sweep:
    """One execution.

    Args:
        ledger: new and empty, or reopened.
        now: an aware datetime; the loop's own clock serves for the rest.
        ask: asks a person; None where there is none.
        stop: requested by signals; the deadline and the breaker request it themselves.
        interrupted_code: what to exit with after an interruption.
        command: how it was started, for the report's advice.
        manifest: where the list stands on this machine, if its settings name a place elsewhere.
    """

    def __init__(
        self,
        settings: Settings,
        ledger: Ledger,
        service: Service,
        *,
        sweep_id: str,
        pacers: Pacers,
        now: Callable[[], datetime],
        on_event: OnEvent,
        ask: Ask | None,
        stop: Stop,
        interrupted_code: Callable[[], int] = lambda: 130,
        command: str | None = None,
        manifest: Path | BinaryIO | None = None,
        jitter: random.Random | None = None,
    ) -> None:
        self._settings = settings
        self._ledger = ledger
        self._service = service
        self._sweep_id = sweep_id
        self._pacers = pacers
        self._now = now
        self._tell = on_event
        self._ask = ask
        self._stop = stop
        self._interrupted_code = interrupted_code
        self._command = command
        self._manifest = manifest
        self._jitter = jitter or random.Random()
        self._cancelling = Stop(stop)
        self._in_flight = InFlight(settings.rate.max_concurrency)
        self._works: list[TargetWork] = []
        self._unresolved: list[ErrorKind | None] = []
        self._errors = 0
        self._to_cancel = 0
        self._accounts = Accounts(settings, ledger, Identities(service), stop=stop, on_event=on_event)
        self._around = Surroundings(settings, ledger, now, self._cancelling, self._count_error, self._tell)
        self._call_counts = CallCounts(ledger, self._works, now)

    async def run(self) -> Result:
        """From the first step to the last verdict.

        Raises:
            InputError, UsageError: nothing was called.
            RecordLost: the ledger cannot be written; what is in it is true.
        """
        await self._begin()
        return await self._ended(self._steps(resumed=False))

    async def resume(self) -> Result:
        """Go on with what is left in the ledger.

        Raises:
            LedgerError: the manifest was never read to its end, or the ledger belongs to another account.
            GuardrailRefused: nothing had been asked for yet, and the plan has expired meanwhile.
            UsageError: nobody consented, and nobody can be asked.
            RecordLost: the ledger cannot be written; what is in it is true.
        """
        facts = self._ledger.reader.facts()
        if self._listed and not facts.get("found"):
            raise LedgerError("the list of runs had not been read to its end, and nothing was called: start anew")
        source = self._settings.source
        if isinstance(source, PlanSource) and not (facts.get("decided") or self._settings.dry_run):
            plan_of(source).check_fresh(self._now())  # it was when it was applied, and nothing came of that by now
        left = set(self._ledger.reader.outcomes()) & (NOT_STOPPED | {Outcome.STOPPING})
        if self._cleared and facts.get("finished_at") is not None and not left:
            await self._ledger.set_facts(exit_code=0, stop_cause=None)  # it had another if a delivery had failed
            return Result(0, says="this sweep had ended, with nothing left to stop: nothing was called")
        await self._ledger.reopen()
        if not self._listed and "left_out" not in facts:  # the targets were never entered to their last
            await self._unfinish()
            return await self._ended(self._steps(resumed=False))
        self._tell(PhaseBegan(Phase.CONNECT))
        for row in self._ledger.reader.targets():
            self._add_work(row.id, row.target)
            self._tell(TargetOpened(row.target))
        self._tell(PhaseEnded(Phase.CONNECT))
        if self._listed:
            self._tell_listed()
        self._tell_resumed()
        return await self._ended(self._steps(resumed=True))

    @property
    def _cleared(self) -> bool:
        """Whether ``--until-clear`` came to its end: what has begun since is a matter for another sweep."""
        return bool(self._ledger.reader.facts().get("clear"))

    async def _unfinish(self) -> None:
        """It goes on: how it ended before is no longer how it ends."""
        resumed_at = [*(self._ledger.reader.facts().get("resumed_at") or ()), rfc3339(self._now())]
        ended = dict.fromkeys(("finished_at", "stop_cause", "exit_code", "refusal", "refused_by"))
        await self._ledger.set_facts(resumed_at=resumed_at, **ended)

    def _tell_resumed(self) -> None:
        count = self._ledger.reader.count
        self._tell(
            Resumed(
                runs=self._ledger.reader.count_runs(),
                settled=count("done"),
                excluded=count("excluded"),
                to_read=count("asked"),
                to_ask=count("pending"),
                in_doubt=self._ledger.reader.in_doubt(),
            )
        )

    # The steps

    async def _steps(self, *, resumed: bool) -> Result | None:
        settings = self._settings
        if not await self._let_in(resumed=resumed):
            return None  # there is nothing to count, and nothing to ask about
        await self._accounts.identify(self._works, after_seconds=OPTIONAL_AFTER_SECONDS if self._hurries else 0.0)
        facts = self._ledger.reader.facts()
        decided = bool(facts.get("decided"))
        if self._listed:
            # Who stood before a closed door before the decision has still to look, whatever was decided meanwhile:
            # the decision counted all of those runs, and looking can only leave more of them alone.
            if self._has_to_look and (works := self._unlisted() if decided else self._works):
                await self._phase(Phase.DISCOVER, self._examine(works, consented=decided and self._count_matters))
        elif self._streams:
            await self._stream()
            return None
        elif not decided:
            await self._phase(Phase.DISCOVER, self._discover(self._unlisted(), lambda _: None))
        if not decided:
            await self._check_guardrails()
        if settings.dry_run:
            return None
        if not decided and not await self._consented():
            await self._ledger.set_facts(refusal=NOT_CONFIRMED, refused_by=Guardrail.QUESTION)
            return Result(2, says=NOT_CONFIRMED)
        if isinstance(settings.source, PlanSource) and not decided:
            plan_of(settings.source).use_up(self._ledger.directory, self._now())
        await self._ledger.set_facts(decided=True)
        await self._cancel_all(describe=self._listed)
        return None

    async def _let_in(self, *, resumed: bool) -> bool:
        """Enter the targets, as far as it is known whose they are; False where that is known of none."""
        if resumed:
            await self._accounts.check_same(self._works)
            await self._unfinish()
        else:
            await self._connect()
        await self._accounts.check(self._works)
        return not self._works or any(work.stop.cause is not StopCause.CREDENTIALS for work in self._works)

    @property
    def _listed(self) -> bool:
        """Whether the runs stand in a list, rather than having to be discovered."""
        return not isinstance(self._settings.source, DiscoverySource)

    @property
    def _has_to_look(self) -> bool:
        """Whether the listed runs have to be looked at before the decision; those of a plan always."""
        settings = self._settings
        return Examination.needed(
            settings.selection, settings.protection, dry_run=settings.dry_run, counted=self._count_matters
        )

    @property
    def _count_matters(self) -> bool:
        """Whether a cap, a consent or a plan's promise hangs on how many of the listed runs would be cancelled.

        Then they are read first: one that has ended is none of them, as a dry run tells it. A list that is no longer
        than ``max_runs`` cannot break it, whatever its runs are.
        """
        settings, guardrails = self._settings, self._settings.guardrails
        if guardrails.max_percent is not None or not settings.consent.yes or isinstance(settings.source, PlanSource):
            return True
        return guardrails.max_runs is not None and self._ledger.reader.count_runs() > guardrails.max_runs

    @property
    def _hurries(self) -> bool:
        """Whether the first request leaves as soon as there is a run to ask for."""
        return self._streams or (self._listed and self._settings.consent.yes and not self._has_to_look)

    @property
    def _streams(self) -> bool:
        """Whether requests may leave before everything is found."""
        settings = self._settings
        guardrails = settings.guardrails
        counted = (
            guardrails.max_runs is not None
            or guardrails.max_percent is not None
            or (guardrails.max_errors is not None and guardrails.max_errors.percent is not None)
        )
        return settings.consent.yes and not settings.dry_run and not counted

    async def _begin(self) -> None:
        settings = self._settings
        source = settings.source
        told = (
            {"kind": source.kind} if isinstance(source, DiscoverySource) else {"kind": source.kind, "path": source.path}
        )
        await self._ledger.set_facts(
            sweep_id=self._sweep_id,
            tool_version=__version__,
            name=settings.name,
            reason=settings.reason,
            mode="dry-run" if settings.dry_run else "cancel",
            started_at=rfc3339(self._now()),
            finished_at=None,
            stop_cause=None,
            exit_code=None,
            source=told,
            settings=to_json(settings),
            command=self._command,
        )

    async def _connect(self) -> None:
        """From the settings to the targets; a list is read whole, and has to be sound, before anything begins."""
        match self._settings.source:
            case ManifestSource() as source:
                # Closed here, and not whenever: standard input may be gone by then.
                listed = read_manifest(
                    source.path, source.format, at=self._manifest, on_remark=lambda says: self._tell(Warned(says))
                )
                with contextlib.closing(listed) as rows:
                    intake = await take_in(
                        rows,
                        name_of(source.path),
                        Places(self._settings.targets, self._service.default_region),
                        self._ledger,
                        skip_invalid=source.skip_invalid,
                        on_event=self._tell,
                    )
                self._tell(PhaseBegan(Phase.CONNECT))
                await self._take_up_listed(
                    duplicates=intake.duplicates,
                    source={"kind": source.kind, "path": source.path, "rows": intake.rows},
                )
            case PlanSource() as source:
                plan = plan_of(source)
                self._tell(PhaseBegan(Phase.CONNECT))
                await take_in_plan(plan.runs(), self._ledger)
                self._tell_listed()
                await self._take_up_listed(
                    duplicates=0,
                    source={"kind": source.kind, "path": source.path, "digest": source.digest, "plan_id": plan.plan_id},
                )
            case DiscoverySource():
                self._tell(PhaseBegan(Phase.CONNECT))
                resolved = await resolve(self._settings.targets, self._service, stop=self._stop)
                await self._enter(replace(resolved, targets=await self._accounts.told_apart(resolved.targets)))
        self._tell(PhaseEnded(Phase.CONNECT))
        if self._works or not self._listed:  # of an empty list nothing can be left to go on with
            self._tell(SweepBegan(self._sweep_id, str(self._ledger.directory)))

    def _tell_listed(self) -> None:
        self._tell(ManifestRead(self._ledger.reader.count_runs()))

    async def _take_up_listed(self, **facts: object) -> None:
        complete = not self._has_to_look
        for row in self._ledger.reader.targets():
            self._ledger.set_listed(row.id, transforms=None, active_runs=None, complete=complete)
            self._add_work(row.id, row.target)
            self._tell(TargetOpened(row.target))
        await self._ledger.set_facts(found=True, **facts)  # in one transaction with the above: all of it, or nothing

    async def _enter(self, resolved: Resolved) -> None:
        # What a process that died at this has entered; its identities may have been found out, or not.
        known = {(row.target.access, row.target.region): row.id for row in self._ledger.reader.targets()}
        for target in resolved.targets:
            place = target.access, target.region
            target_id = known[place] if place in known else await self._ledger.add_target(target)
            self._add_work(target_id, target)
            self._tell(TargetOpened(target))
        for failed in resolved.failed:
            if failed.left_out:
                self._tell(Warned(f"{failed.place}: left out: {failed.message}"))
            else:
                self._tell(PlaceFailed(failed.place, failed.code, failed.message))
                target = Target(failed.region or "*", failed.account_id, failed.access)
                place = target.access, target.region
                # Several accounts may stand behind one way in (a unit's): only the same one is the same target.
                same = failed.account_id is None and place in known
                target_id = known[place] if same else await self._ledger.add_target(target)
                # Where no account is known, its place is all that tells one row of the report from another.
                of_what = f" ({failed.place})" if failed.account_id is None else ""
                self._ledger.set_target_error(target_id, failed.code, failed.message + of_what)
                self._unresolved.append(failed.kind)
        await self._ledger.set_facts(
            left_out=[
                {"account_id": failed.account_id, "code": failed.code, "message": failed.message}
                for failed in resolved.failed
                if failed.left_out
            ]
        )

    # Finding

    def _add_work(self, target_id: int, target: Target) -> None:
        stop = Stop(self._stop)
        work = TargetWork(target_id, target, self._around, stop)
        service, dry_run = self._service, self._settings.dry_run
        connection: Connection[Any] = Connection(
            # A dry run gets a client without the call: it cannot cancel.
            lambda: service.reader(target) if dry_run else service.connect(target),
            lambda: service.forget(target.access),
        )
        work.line = Line(
            target,
            connection,
            pacers=self._pacers,
            in_flight=self._in_flight,
            max_attempts=self._settings.retry.max_attempts,
            stop=stop,
            on_event=self._tell,
            on_trouble=work.on_trouble,
            jitter=self._jitter,
        )
        self._works.append(work)

    def _unlisted(self) -> list[TargetWork]:
        """The targets whose listing has not ended well yet: all of them, unless an earlier process was here."""
        listed = {row.id for row in self._ledger.reader.targets() if row.listed}
        return [work for work in self._works if work.target_id not in listed]

    async def _discover(
        self, works: Sequence[TargetWork], on_pending: Callable[[TargetWork], None], sweep_number: int = 1
    ) -> bool:
        """List every target once; whether it found no active run at all, and every listing ended well."""
        clear = True

        async def one(work: TargetWork) -> None:
            nonlocal clear
            listing = None
            with contextlib.suppress(Stopped):
                listing = await work.discover(sweep_number, on_pending)
            clear = clear and listing is not None and listing.complete and not listing.active_runs

        await in_turn(works, one, TARGETS_AT_ONCE)
        missing = set.intersection(*(work.missing for work in works)) if works else set()
        for transform_id in sorted(missing):  # at none of the targets: a slip, and not "nothing to do"
            for work in works:
                work.on_trouble("EntityNotFoundException", f"there is no transform {transform_id}")
        return clear

    async def _examine(self, works: Sequence[TargetWork], *, consented: bool) -> None:
        """Look at the listed runs; ``consented``: to so many of them that no more may be cancelled."""
        counted = self._count_matters

        async def one(work: TargetWork) -> None:
            with contextlib.suppress(Stopped):
                await work.examine(counted=counted, consented=consented)

        await in_turn(works, one, TARGETS_AT_ONCE)

    # Deciding

    async def _check_guardrails(self) -> None:
        """Count what was found.

        Raises:
            GuardrailRefused: it is not as many as it may be.
        """
        reader, guardrails = self._ledger.reader, self._settings.guardrails
        await self._ledger.writer.commit()
        outcomes = reader.outcomes()
        to_cancel = reader.count("pending") + outcomes.get(Outcome.WOULD_CANCEL, 0)
        self._to_cancel = to_cancel
        active = to_cancel + reader.count("excluded")
        most, share = guardrails.max_runs, guardrails.max_percent
        all_looked_at = not any(work.cut_short for work in self._works)
        if most is not None and (says := max_runs_refusal(most, to_cancel, all_looked_at=all_looked_at)):
            raise GuardrailRefused(says, Guardrail.MAX_RUNS)
        if share is not None and (says := max_percent_refusal(share, to_cancel, active)):
            raise GuardrailRefused(says, Guardrail.MAX_PERCENT)
        expected = self._settings.consent.confirm_count
        if expected is not None and expected != to_cancel:
            says = f"{to_cancel:,} runs would be cancelled, and --confirm-count expects {expected:,}"
            raise GuardrailRefused(f"{says}: nothing was cancelled", Guardrail.CONFIRM_COUNT)

    async def _consented(self) -> bool:
        """Whether what was found may be cancelled.

        Raises:
            UsageError: nobody consented, and nobody can be asked.
        """
        consent = self._settings.consent
        if consent.yes or consent.confirm_count is not None or self._to_cancel == 0:
            return True
        if self._ask is None:
            raise UsageError("nobody consented, and there is no terminal to ask on: give --yes or --confirm-count N")
        with self._stop.interruptible():
            return await self._ask()

    # Cancelling and verifying

    async def _cancel_all(self, *, describe: bool) -> None:
        reader = self._ledger.reader
        if not reader.count("pending") and not reader.count("asked"):
            return
        self._to_cancel = self._to_cancel or reader.count_runs() - reader.count("excluded")
        self._tell(PhaseBegan(Phase.CANCEL, reader.count("pending")))
        self._tell(PhaseBegan(Phase.VERIFY, reader.count("asked")))
        works = []
        for work in self._works:
            self._tell_to_ask(work)
            if work.stop.cause is not None:
                await work.tell_if_given_up()
            elif reader.count("pending", work.target_id) or reader.count("asked", work.target_id):
                works.append(work)
        async with task_group() as group:
            for work in works:
                work.prepare()
                work.no_more()
                group.create_task(work.stop_runs())
                if describe:
                    group.create_task(self._describe(work))
            group.create_task(self._tell_all_asked(works))
        self._tell(PhaseEnded(Phase.VERIFY))

    def _tell_to_ask(self, work: TargetWork) -> None:
        if pending := self._ledger.reader.count("pending", work.target_id):
            self._tell(ToAsk(work.target, pending))

    async def _tell_all_asked(self, works: Sequence[TargetWork]) -> None:
        for work in works:
            await work.all_asked.wait()
        self._tell(PhaseEnded(Phase.CANCEL))

    async def _describe(self, work: TargetWork) -> None:
        with contextlib.suppress(Stopped):
            with work.stop.interruptible():
                await asyncio.sleep(OPTIONAL_AFTER_SECONDS)
            await work.describe()

    async def _stream(self) -> None:
        """Cancel while discovery goes on; with ``--until-clear`` again and again, until there is nothing to cancel."""
        await self._ledger.set_facts(decided=True)
        begun: set[int] = set()
        unlisted = self._unlisted()
        sweeps_again = self._settings.until_clear and not self._cleared
        discovers = sweeps_again or bool(unlisted)  # a sweep that goes on may have listed everything
        if discovers:
            self._tell(PhaseBegan(Phase.DISCOVER))
        self._tell(PhaseBegan(Phase.CANCEL))
        self._tell(PhaseBegan(Phase.VERIFY))
        async with task_group() as group:

            def pending(work: TargetWork) -> None:
                if work.target_id not in begun:
                    begun.add(work.target_id)
                    work.prepare()
                    group.create_task(work.stop_runs())
                    if self._settings.until_clear:  # otherwise its own discovery asks for names at its end
                        group.create_task(self._describe(work))
                work.more()

            reader = self._ledger.reader
            for work in self._works:  # of an earlier process
                if reader.count("pending", work.target_id) or reader.count("asked", work.target_id):
                    self._tell_to_ask(work)
                    pending(work)
            if sweeps_again:
                clear = await until_clear(
                    self._works,
                    self._ledger,
                    lambda number: self._discover(self._works, pending, number),
                    cancelling=self._cancelling,
                    on_event=self._tell,
                )
                await self._ledger.set_facts(clear=clear)
            else:
                await self._discover(unlisted, pending)
            if discovers:
                self._tell(PhaseEnded(Phase.DISCOVER))
            for work in self._works:
                work.no_more()
            group.create_task(self._tell_all_asked([work for work in self._works if work.target_id in begun]))
        self._tell(PhaseEnded(Phase.VERIFY))

    async def _phase(self, phase: Phase, step: Coroutine[Any, Any, object]) -> None:
        self._tell(PhaseBegan(phase))
        await step
        self._tell(PhaseEnded(phase))
        self._stop.check()

    # Ending

    async def _ended(self, steps: Coroutine[Any, Any, Result | None]) -> Result:
        """Run the steps under the deadline, within the drain's time once a stop is asked for, and settle the end."""
        loop = asyncio.get_running_loop()
        deadline = self._settings.retry.deadline_seconds
        timer = None if deadline is None else loop.call_later(deadline, self._stop.request, StopCause.DEADLINE)
        counting = asyncio.create_task(self._call_counts.run())
        try:
            before_its_end = await self._drained(asyncio.create_task(steps))
            if timer is not None:
                timer.cancel()  # the work is done: what comes now is for the report, and leaves nothing undone
            await self._accounts.wait()
        finally:
            if timer is not None:
                timer.cancel()
            await ended(counting)
            await self._accounts.close()
            self._pacers.save()
        self._call_counts.flush()
        await self._ledger.writer.commit()
        tell_regions_from_credentials(self._ledger, self._works, self._tell)
        await self._ledger.writer.commit()
        come_to = before_its_end or result(
            self._settings,
            self._ledger.reader,
            self._works,
            cause=self._stop.cause or self._cancelling.cause,
            unresolved=self._unresolved,
            interrupted_code=self._interrupted_code,
        )
        await self._ledger.set_facts(
            finished_at=rfc3339(self._now()),
            stop_cause=come_to.stop_cause,
            exit_code=come_to.exit_code,
        )
        return come_to

    async def _drained(self, steps: "asyncio.Future[Result | None]") -> Result | None:
        stopping = asyncio.create_task(self._stop.requested())
        try:
            either: set[asyncio.Future[Any]] = {steps, stopping}
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
            if not steps.done():
                self._tell(Stopping(str(self._stop.cause)))
                await asyncio.wait({steps}, timeout=DRAIN_SECONDS)
            if not steps.done():
                await ended(steps)
                return None
            return steps.result()
        except Stopped:
            return None
        except GuardrailRefused as refusal:
            await self._ledger.set_facts(refusal=str(refusal), refused_by=refusal.by)
            return Result(refusal.exit_code, StopCause.GUARDRAIL, str(refusal))
        finally:
            await ended(stopping)
            await ended(steps)

    # Counting

    def _count_error(self) -> None:
        limit = self._settings.guardrails.max_errors
        self._errors += 1
        if limit and past_max_errors(self._errors, self._to_cancel, count=limit.count, percent=limit.percent):
            if self._cancelling.cause is None:
                self._tell(Stopping(str(StopCause.MAX_ERRORS)))
            self._cancelling.request(StopCause.MAX_ERRORS)
