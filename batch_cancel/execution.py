"""A sweep from settings to exit code, for whoever starts one: the command line, a Lambda function, or Python.

What they share is here; how they look, ask and are interrupted is theirs.
"""

import asyncio
import contextlib
import os
import secrets
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, BinaryIO

from batch_cancel.core.errors import AccessStopped, BatchCancelError, LedgerError, RecordLost, UsageError
from batch_cancel.core.events import OnEvent
from batch_cancel.engine.ending import Result
from batch_cancel.glue.api import Service
from batch_cancel.glue.learned import LearnedRates, state_file
from batch_cancel.glue.outbox import Outbox, S3Place, SharedOutbox
from batch_cancel.glue.pace import Pacers
from batch_cancel.ledger.ledger import Ledger
from batch_cancel.settings import Settings
from batch_cancel.stop import Stop, StopCause
from batch_cancel.sweep import Ask, Sweep

LAST_WORD_SECONDS = 15.0
"""For copies that are made anew after a signal, or after another one failed, because they say another exit code."""

MakeOutbox = Callable[[], Outbox]


@dataclass(frozen=True, slots=True)
class Finished:
    """What a sweep left behind.

    Attributes:
        exit_code: the sweep's own, or 1 where that was 0 and its result could not be delivered.
        reports: the files in the run directory.
        place: where S3 has copies of them and of the ledger; None where it has not.
        faults: what could not be delivered, a sentence each.
    """

    exit_code: int
    reports: tuple[Path, ...]
    place: S3Place | None = None
    faults: tuple[str, ...] = ()


def new_sweep_id() -> str:
    """Sorts by time, and no two are the same: ``20261124T031500Z-7f3a2c``."""
    return f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}-{secrets.token_hex(3)}"


def facts_to_go_on_with(directory: Path) -> dict[str, Any]:
    """What the ledger of a sweep that is to be gone on with says of it; ``settings`` among it.

    Raises:
        LedgerError: the directory holds no such sweep.
    """
    with contextlib.closing(Ledger.look(directory)) as reader:
        facts = reader.facts()
    if facts.get("merged"):
        raise LedgerError(f"{directory} is a merged report: resume its parts")
    if "settings" not in facts:
        raise LedgerError(f"{directory}: the sweep had not begun, and nothing was called: start a new one")
    if not isinstance(facts["settings"], str):
        raise LedgerError(f"{directory} is damaged: its settings are not text; restore it from a copy")
    return facts


async def carry_out(
    settings: Settings,
    ledger: Ledger,
    service: Service,
    *,
    sweep_id: str,
    resumed: bool,
    on_event: OnEvent,
    stop: Stop,
    ask: Ask | None = None,
    interrupted_code: Callable[[], int] = lambda: 130,
    rates: Path | None = None,
    command: str | None = None,
    manifest: Path | BinaryIO | None = None,
) -> Result:
    """The sweep itself; afterwards its ledger is closed, whatever happened.

    Args:
        ledger: new and empty, or reopened. One in which nothing has happened yet is taken back.
        rates: where learned rates are kept; None for the user's state directory.
        command: how it was started, for the report's advice.
        manifest: where the list stands on this machine, or the open file, if its settings name a place elsewhere.

    Raises:
        BatchCancelError: it could not even begin, or its record could not be kept.
    """
    learned = LearnedRates(rates or state_file(), endpoint_url=_endpoint(settings))
    sweep = Sweep(
        settings,
        ledger,
        service,
        sweep_id=sweep_id,
        pacers=Pacers(settings.rate.rps, learned=learned),
        now=lambda: datetime.now(UTC),
        on_event=on_event,
        ask=ask,
        stop=stop,
        interrupted_code=interrupted_code,
        command=command,
        manifest=manifest,
    )
    try:
        result = await (sweep.resume() if resumed else sweep.run())
    except (UsageError, AccessStopped):
        await (ledger.close() if resumed else _taken_back(ledger))
        raise
    except BaseException:
        with contextlib.suppress(RecordLost):  # the failure under way says more
            await ledger.close()
        raise
    await ledger.close()
    return result


async def finish(
    directory: Path,
    settings: Settings,
    exit_code: int,
    *,
    sweep_id: str,
    outbox: MakeOutbox | None = None,
    emf: Callable[[Sequence[str]], None] | None = None,
    notify: bool = True,
    shown: Path | None = None,
    stop: Stop | None = None,
    interrupted_code: Callable[[], int] = lambda: 130,
    delivery_seconds: float = 60.0,
) -> Finished:
    """Write the reports of a sweep that is over, and deliver them as its settings say.

    Args:
        outbox: makes the way to S3 and SNS where one is needed; AWS's own if None.
        emf: takes the lines of CloudWatch's embedded metric format; may raise OSError.
        notify: False where the sweep goes on elsewhere.
        shown: what the reports' commands call the run directory, where it will not stay.
        stop: ends the delivery; where that left something undelivered, the exit code is ``interrupted_code()``, also in
            copies that had been made by then, if S3 takes them soon. It is not the sweep's own: a sweep that was
            stopped is delivered all the same.
        delivery_seconds: for a delivery; large files get more.

    Raises:
        RecordLost: a report cannot be written.
    """
    try:
        reports = _write_reports(directory, settings, shown)
    except RecordLost as lost:
        await _amend_what_can_be(directory, settings, lost.exit_code, shown)
        await tell_of_failure(settings, sweep_id, lost, outbox=outbox)
        raise
    ending = _Ending(
        directory=directory,
        settings=settings,
        reports=reports,
        sweep_id=sweep_id,
        outbox=outbox or (lambda: aws_outbox(settings, sweep_id)),
        shown=shown,
        stop=stop,
        interrupted_code=interrupted_code,
        seconds=delivery_seconds,
        exit_code=exit_code,
    )
    await ending.deliver(reports, notify=notify, stop=stop, seconds=delivery_seconds)
    await ending.amend_if_not_well()
    if emf is not None and (fault := _emit(directory, emf)):
        ending.faults.append(fault)
        await ending.amend_if_not_well()
    return Finished(ending.exit_code, tuple(reports), ending.place, tuple(ending.faults))


@dataclass(slots=True, kw_only=True)
class _Ending:
    """Reports on their way to where they are wanted, and the exit code that they and their copies say.

    Attributes:
        copied: the reports that S3 has copies of; ``place`` is None as soon as it lacks one.
    """

    directory: Path
    settings: Settings
    reports: Sequence[Path]
    sweep_id: str
    outbox: MakeOutbox
    shown: Path | None
    stop: Stop | None
    interrupted_code: Callable[[], int]
    seconds: float
    exit_code: int
    place: S3Place | None = None
    copied: tuple[Path, ...] = ()
    faults: list[str] = field(default_factory=list)

    async def deliver(self, files: Sequence[Path], *, notify: bool, stop: Stop | None, seconds: float) -> None:
        """Upload these files and the ledger, and notify, as the settings say."""
        from batch_cancel.delivery.deliver import deliver, wanted  # noqa: PLC0415  # not before the first call

        if not wanted(self.settings):
            return
        delivered = await deliver(
            self.directory,
            self.settings,
            files,
            self.outbox(),
            sweep_id=self.sweep_id,
            exit_code=self.exit_code,
            notify=notify,
            stop=stop,
            seconds=seconds,
        )
        self.place, self.copied = delivered.place, delivered.copied
        self.faults.extend(fault for fault in delivered.faults if fault not in self.faults)

    async def amend_if_not_well(self) -> None:
        """Let reports and their copies say the code that the process ends with."""
        interrupted = bool(self.faults) and self.stop is not None and self.stop.cause is not None
        code = self.interrupted_code() if interrupted else self.exit_code or (1 if self.faults else 0)
        if code == self.exit_code:
            return
        self.exit_code = code
        await amend(self.directory, self.settings, code, self.shown)
        if self.copied:
            await self._copy_again(interrupted=interrupted)

    async def _copy_again(self, *, interrupted: bool) -> None:
        """What S3 has: a copy that it lacks is not made now."""
        whole = self.place is not None
        last_word = min(LAST_WORD_SECONDS, self.seconds)
        await self.deliver(
            [path for path in self.reports if path in self.copied],
            notify=False,
            stop=_last_stop(last_word, answered=whole) if interrupted else self.stop,
            seconds=self.seconds if whole and not interrupted else last_word,
        )
        self.place = self.place if whole else None


def _last_stop(seconds: float, *, answered: bool) -> Stop | None:
    """What ends copies that are made after a signal.

    Where S3 has just answered, it is another that was waited for, and large files get more time. Else it may be S3.
    """
    if answered:
        return None
    stop = Stop()
    asyncio.get_running_loop().call_later(seconds, stop.request, StopCause.INTERRUPTED)
    return stop


async def tell_of_failure(
    settings: Settings, sweep_id: str, error: BatchCancelError, *, outbox: MakeOutbox | None = None
) -> list[str]:
    """Notify of a sweep that left no report, if its settings want that; what went wrong in telling."""
    if settings.notify is None:
        return []
    from batch_cancel.delivery import deliver  # noqa: PLC0415  # for those who have somebody to tell

    way = outbox() if outbox else aws_outbox(settings, sweep_id)
    return await deliver.tell_of_failure(settings, sweep_id, error, way)


def aws(settings: Settings, sweep_id: str) -> Service:
    """AWS, by the settings' endpoint."""
    from batch_cancel.glue.aws import Aws  # noqa: PLC0415  # half a second, and only for those who call AWS

    return Aws(
        sweep_id,
        endpoint_url=settings.endpoint.url,
        ca_bundle=settings.endpoint.ca_bundle,
        verify_ssl=settings.endpoint.verify_ssl,
        max_connections=settings.rate.max_concurrency,
    )


def aws_outbox(settings: Settings, sweep_id: str) -> SharedOutbox:
    """S3 and SNS in AWS, by the settings' endpoint."""
    from batch_cancel.glue.aws_outbox import AwsOutbox  # noqa: PLC0415  # as above

    endpoint = settings.endpoint
    return AwsOutbox(sweep_id, endpoint_url=endpoint.url, ca_bundle=endpoint.ca_bundle, verify_ssl=endpoint.verify_ssl)


async def _taken_back(ledger: Ledger) -> None:
    with contextlib.suppress(RecordLost):
        await ledger.writer.commit()  # nothing is on its way to the disk any more
    ledger.discard()


async def amend(directory: Path, settings: Settings, exit_code: int, shown: Path | None = None) -> None:
    """Let ledger and reports say the code that the process ends with after all.

    Raises:
        RecordLost: ledger or reports cannot be written.
    """
    with _no_wrong_input():
        ledger = Ledger.open(directory)
    try:
        await ledger.set_facts(exit_code=exit_code)
    finally:
        await ledger.close()
    _write_reports(directory, settings, shown)


async def amend_with_copies(
    directory: Path, settings: Settings, finished: Finished, exit_code: int, *, sweep_id: str
) -> Finished:
    """The same where all was delivered already: copies in S3 are made anew. A notification that is out stays as it is.

    Raises:
        RecordLost: as :func:`amend`.
    """
    from batch_cancel.delivery.deliver import deliver  # noqa: PLC0415  # not before the first call

    await amend(directory, settings, exit_code)
    if finished.place is None:
        return replace(finished, exit_code=exit_code)
    delivered = await deliver(
        directory,
        settings,
        finished.reports,
        aws_outbox(settings, sweep_id),
        sweep_id=sweep_id,
        exit_code=exit_code,
        notify=False,
        seconds=LAST_WORD_SECONDS,
    )
    faults = (*finished.faults, *delivered.faults)
    return replace(finished, exit_code=exit_code, place=delivered.place, faults=faults)


async def _amend_what_can_be(directory: Path, settings: Settings, exit_code: int, shown: Path | None) -> None:
    """The same where a report is known not to be writable: the others say the code all the same."""
    for form in settings.report.formats:
        one = replace(settings, report=replace(settings.report, formats=(form,)))
        with contextlib.suppress(RecordLost):
            await amend(directory, one, exit_code, shown)


@contextlib.contextmanager
def _no_wrong_input() -> Iterator[None]:
    """Behind a sweep, a ledger that is gone or in use is a lost record: wrong input says that nothing was called."""
    try:
        yield
    except LedgerError as error:
        raise RecordLost(str(error)) from error


def _write_reports(directory: Path, settings: Settings, shown: Path | None) -> list[Path]:
    from batch_cancel.report.files import opened, write_report  # noqa: PLC0415  # not before the first call

    formats = settings.report.formats
    with _no_wrong_input(), opened(directory) as document:
        return [write_report(document, form, shown or directory, directory / f"report.{form}") for form in formats]


def _emit(directory: Path, emf: Callable[[Sequence[str]], None]) -> str | None:
    from batch_cancel.delivery.metrics import metric_lines  # noqa: PLC0415  # for those who want it
    from batch_cancel.report.files import opened  # noqa: PLC0415

    with _no_wrong_input(), opened(directory) as document:
        lines = list(metric_lines(document, datetime.now(UTC)))
    try:
        emf(lines)
    except OSError as error:
        return f"the metrics could not be written: {error.strerror or error}"
    return None


def _endpoint(settings: Settings) -> str | None:
    return settings.endpoint.url or os.environ.get("AWS_ENDPOINT_URL_GLUE") or os.environ.get("AWS_ENDPOINT_URL")
