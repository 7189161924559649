"""The story as a few functions, for services and notebooks. ``import batch_cancel`` has all of it and nothing else.

A sweep is an ordinary coroutine: it prints nothing and handles no signals. What happens meanwhile comes as typed events
(:mod:`batch_cancel.core.events`); what it came to stands in its run directory, as with the command line, and
``batch-cancel report`` and ``resume`` take that up.
"""

from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from batch_cancel.core.errors import BatchCancelError, UsageError
from batch_cancel.core.events import Event, OnEvent
from batch_cancel.core.outcome import Outcome
from batch_cancel.execution import aws, carry_out, facts_to_go_on_with, finish, new_sweep_id, tell_of_failure
from batch_cancel.glue.api import Service
from batch_cancel.ledger.ledger import Ledger
from batch_cancel.settings import Settings, from_json
from batch_cancel.settings_check import check_pace, check_settings
from batch_cancel.stop import Stop, StopCause


@dataclass(frozen=True, slots=True)
class Found:
    """What a person is asked about: so many runs would be cancelled, so many are left alone by a rule."""

    to_cancel: int
    excluded: int


AskAbout = Callable[[Found], Awaitable[bool]]
"""Asks somebody; True for yes."""


@dataclass(frozen=True, slots=True)
class Swept:
    """What a sweep came to.

    Attributes:
        exit_code: as the command line's: 0 is done, 1 not all stopped, 3 refused, 4 no access, 5 stopped early.
        stop_cause: why it stopped early; None where it came to its natural end.
        says: a sentence where the exit code needs one.
        directory: the run directory; :func:`read_report` and :func:`read_runs` read it.
        reports: the files in it.
        copies: where S3 has copies; None where they were not asked for or could not be made.
        faults: what could not be delivered, a sentence each.
    """

    exit_code: int
    stop_cause: StopCause | None
    says: str | None
    directory: Path
    reports: tuple[Path, ...]
    copies: str | None
    faults: tuple[str, ...]


async def run_sweep(
    settings: Settings,
    directory: str | Path,
    *,
    on_event: OnEvent | None = None,
    ask: AskAbout | None = None,
    stop: Stop | None = None,
    service: Service | None = None,
) -> Swept:
    """Find the runs, decide, ask, cancel, verify, report.

    Args:
        settings: what to do; without consent in them, ``ask`` is needed. ``dry_run`` makes it an audit.
        directory: the run directory; it must hold no ledger yet.
        on_event: is called in the event loop with everything that happens: it must be quick and must not raise.
        ask: asks before anything is cancelled, where ``settings.consent`` says nothing.
        stop: ``stop.request(StopCause.INTERRUPTED)`` ends it calmly: calls in flight end, reports are written and
            delivered. Once the sweep is over it ends the delivery instead; what is undelivered then stands in
            ``faults``, and the exit code is 130. To cancel the task leaves at once; :func:`resume_sweep` mends that.
        service: instead of AWS.

    Raises:
        UsageError: nothing was called: settings that cannot be followed, or nobody consented.
        BatchCancelError: it could not begin, or its record could not be kept.
    """
    check_settings(settings)
    ledger = Ledger.create(Path(directory))
    who = _Around(on_event or _nobody_listens, ask, stop or Stop(), service)
    return await _swept(settings, ledger, new_sweep_id(), who, resumed=False)


async def resume_sweep(
    directory: str | Path,
    *,
    on_event: OnEvent | None = None,
    ask: AskAbout | None = None,
    stop: Stop | None = None,
    service: Service | None = None,
    change: Callable[[Settings], Settings] = lambda settings: settings,
) -> Swept:
    """Go on with a sweep that was interrupted, killed or stopped early; arguments as in :func:`run_sweep`.

    Args:
        change: gets the sweep's own settings and returns those to go on with: another rate, deadline or verification.

    Raises:
        LedgerError: the directory holds no sweep that can be gone on with.
        UsageError: settings that cannot be followed; nothing was called.
    """
    directory = Path(directory)
    facts = facts_to_go_on_with(directory)
    before = from_json(facts["settings"])
    changed = change(before)
    if not isinstance(changed, Settings):
        raise UsageError(f"change has to return the settings, and returned {type(changed).__name__}")
    settings = replace(before, rate=changed.rate, retry=changed.retry, verify=changed.verify)
    check_pace(settings)
    ledger = Ledger.open(directory)
    who = _Around(on_event or _nobody_listens, ask, stop or Stop(), service)
    return await _swept(settings, ledger, str(facts["sweep_id"]), who, resumed=True)


def load_sweep_file(path: str | Path) -> Settings:
    """The settings of a sweep file. They hold no consent: that is ``dataclasses.replace(..., consent=Consent(...))``.

    Raises:
        InputError: with every fault, each at its line and column.
    """
    from batch_cancel.sweep_file import load_sweep_file as load  # noqa: PLC0415  # brings pydantic

    return load(str(path)).settings


def read_report(directory: str | Path) -> dict[str, Any]:
    """``report.json`` without its ``runs``, of a sweep that is over, was killed, or is still at work.

    Raises:
        LedgerError: the directory holds no ledger, or it cannot be read.
    """
    from batch_cancel.report.files import opened  # noqa: PLC0415  # not before the first call

    with opened(Path(directory)) as document:
        return document.summary()


def read_runs(directory: str | Path, *outcomes: Outcome) -> Iterator[dict[str, Any]]:
    """Every run of a sweep, or those with one of these outcomes, as report.json has them; streamed.

    Raises:
        LedgerError: the directory holds no ledger, or it cannot be read.
    """
    from batch_cancel.report.files import opened  # noqa: PLC0415  # as above

    with opened(Path(directory)) as document:
        yield from document.runs(*outcomes)


@dataclass(frozen=True, slots=True)
class _Around:
    """Whoever is told, asked, heard and called."""

    on_event: OnEvent
    ask: AskAbout | None
    stop: Stop
    service: Service | None


async def _swept(settings: Settings, ledger: Ledger, sweep_id: str, around: _Around, *, resumed: bool) -> Swept:
    async def ask_about_it() -> bool:
        assert around.ask is not None  # noqa: S101  # it is not called otherwise
        return await around.ask(Found(ledger.reader.count("pending"), ledger.reader.count("excluded")))

    stop = around.stop
    try:
        result = await carry_out(
            settings,
            ledger,
            around.service or aws(settings, sweep_id),
            sweep_id=sweep_id,
            resumed=resumed,
            on_event=around.on_event,
            ask=ask_about_it if around.ask else None,
            stop=Stop(stop),  # which may end for reasons of its own, and then the caller's can still end the delivery
        )
    except BatchCancelError as error:
        await tell_of_failure(settings, sweep_id, error)
        raise
    finished = await finish(
        ledger.directory,
        settings,
        result.exit_code,
        sweep_id=sweep_id,
        stop=stop if stop.cause is None else None,  # a sweep that was stopped is delivered all the same
    )
    return Swept(
        finished.exit_code,
        result.stop_cause,
        result.says,
        ledger.directory,
        finished.reports,
        f"{finished.place}/" if finished.place else None,
        finished.faults,
    )


def _nobody_listens(_: Event) -> None:
    """Events go nowhere."""
