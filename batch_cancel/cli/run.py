"""``run`` and ``resume``: a sweep from its arguments to its exit code."""

import asyncio
import json
import re
import shlex
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager, nullcontext, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO

import click

from batch_cancel.cli import sample
from batch_cancel.cli.consent import consent
from batch_cancel.cli.grouped import GroupedCommand
from batch_cancel.cli.options import Value, resume_options, sweep_options
from batch_cancel.cli.progress import Progress
from batch_cancel.cli.progress.log import Level, Record, as_json
from batch_cancel.cli.settings_from import Output, output_from, renewed, restore_endpoints
from batch_cancel.cli.settings_in_s3 import settings_wherever
from batch_cancel.cli.signals import exit_code_of, handle_signals, held_signals, say
from batch_cancel.cli.wording import is_terminal
from batch_cancel.core.errors import BatchCancelError, UsageError
from batch_cancel.core.wording import printable
from batch_cancel.engine.ending import Result
from batch_cancel.execution import (
    Finished,
    amend_with_copies,
    aws,
    aws_outbox,
    carry_out,
    facts_to_go_on_with,
    finish,
    new_sweep_id,
    tell_of_failure,
)
from batch_cancel.glue.api import Service
from batch_cancel.ledger import LEDGER_NAME
from batch_cancel.ledger.ledger import Ledger
from batch_cancel.manifest.read import comes_from_a_pipe, copy_manifest
from batch_cancel.private_file import private
from batch_cancel.s3_inputs import fetch, folder_for, is_in_s3
from batch_cancel.settings import ManifestSource, Settings, from_json
from batch_cancel.stop import Stop, StopCause
from batch_cancel.sweep import Ask

RUNS_DIRECTORY = Path("batch-cancel-runs")

_RUN_EXAMPLES = f"""\b
Examples:
  batch-cancel run --discover --dry-run                    # what is running? reads only
  batch-cancel run --discover                              # asks, and you type the count
  batch-cancel run --discover --yes --until-clear          # incident: stop everything, now
  batch-cancel run --manifest runs.csv --confirm-count 40
  batch-cancel run configs/cost-control.yaml --yes --output json

\b
Exit codes: 0 done; 1 done, but not all stopped; 2 usage, or consent missing; 3 a guardrail refused;
4 no credentials or access; 5 stopped early with work left; 130, 143 interrupted.

{sample.for_help()}"""
_RESUME_EXAMPLES = """\b
Examples:
  batch-cancel resume batch-cancel-runs/20261124T031500Z-7f3a2c
  batch-cancel resume RUN_DIR --deadline 30m --rps 20
"""


@dataclass(slots=True)
class Execution:
    """What a sweep needs from the command line while it runs.

    Attributes:
        manifest: a list that is in S3, or came from a pipe, as a file on this machine.
        signum: the signal that ended it.
        finished: what it left behind, once it has.
    """

    directory: Path
    sweep_id: str
    settings: Settings
    output: Output
    manifest: BinaryIO | None = None
    signum: int | None = None
    finished: Finished | None = None


@click.command(cls=GroupedCommand, epilog=_RUN_EXAMPLES)
@sweep_options
@click.pass_context
def run(ctx: click.Context, /, **_: object) -> None:
    """Find the task runs, decide, ask, cancel, verify, report.

    The runs come from a manifest, from discovery, or from what SWEEP.yaml names. With --dry-run it ends after the
    decision and makes read calls only.
    """
    output = output_from(ctx)  # before any failure is counted: what refuses a place for that must not write there
    with _failure_counted(output.emf):
        settings = settings_wherever(ctx)
    with _failure_counted(output.emf, settings.name):
        _check_consent(settings)
    sweep_id = new_sweep_id()
    directory = output.directory or RUNS_DIRECTORY / sweep_id
    sys.exit(execute(Execution(directory, sweep_id, settings, output), Ledger.create, resumed=False))


@click.command(cls=GroupedCommand, epilog=_RESUME_EXAMPLES)
@click.argument("run_dir", type=Value("RUN_DIR", Path))
@resume_options
@click.pass_context
def resume(ctx: click.Context, /, run_dir: Path, **_: object) -> None:
    """Go on with a sweep that was interrupted, killed or stopped early.

    Settings, endpoint and consent come from its ledger; credentials never do. What may have reached the service is
    read back before anything is sent again.
    """
    output = output_from(ctx)
    facts = facts_to_go_on_with(run_dir)
    settings = renewed(from_json(facts["settings"]), ctx)
    restore_endpoints(settings.endpoint)
    if not facts.get("decided") and not _consented(settings):
        raise UsageError(
            f"{run_dir}: nobody had consented to it, and there is no terminal to ask on: resume it on a terminal, or"
            " start a new sweep with --yes or --confirm-count N"
        )
    execution = Execution(run_dir, facts["sweep_id"], settings, output)
    sys.exit(execute(execution, Ledger.open, resumed=True))


@contextmanager
def _list_here(execution: Execution) -> Iterator[None]:
    """Inside, a list that is in S3, or still to come from a pipe, is in a file of this machine without a name.

    Whoever waits for a pipe hears nothing else, a signal least of all: here one leaves at once, and leaves nothing.
    """
    source = execution.settings.source
    if not isinstance(source, ManifestSource) or not (is_in_s3(source.path) or comes_from_a_pipe(source.path)):
        yield
        return
    with _failure_told(execution):
        if is_in_s3(source.path):
            outbox = aws_outbox(execution.settings, execution.sweep_id)
            with folder_for(source.path) as folder:
                execution.manifest = asyncio.run(fetch(outbox, source.path, folder)).open("rb")
        else:
            execution.manifest = copy_manifest(source.path, source.format)
    with execution.manifest:
        yield


@contextmanager
def _failure_told(execution: Execution) -> Iterator[None]:
    """A failure inside is told to whoever wants to hear of it."""
    try:
        yield
    except BatchCancelError as error:
        for fault in asyncio.run(tell_of_failure(execution.settings, execution.sweep_id, error)):
            tell(execution.output, fault)
        raise


@contextmanager
def _failure_counted(emf: str | None, name: str | None = None) -> Iterator[None]:
    """A failure inside, which leaves no report to make metrics of, is a metric by itself."""
    try:
        yield
    except Exception as error:
        if emf is not None:
            from batch_cancel.delivery.metrics import failure_line  # noqa: PLC0415  # for those who want it

            code = error.exit_code if isinstance(error, BatchCancelError) else 1
            with suppress(OSError):  # the failure under way says more
                _emf_writer(emf)([failure_line(name, code, datetime.now(UTC))])
        raise


def execute(execution: Execution, open_ledger: Callable[[Path], Ledger], *, resumed: bool) -> int:
    """Carry a sweep out, write and deliver its reports and say how it went; the exit code.

    Raises:
        BatchCancelError: it could not even begin, or its record could not be kept.
    """
    settings, sweep_id = execution.settings, execution.sweep_id
    list_here = nullcontext() if resumed else _list_here(execution)  # it stands in the ledger, or is no more wanted
    with _failure_counted(execution.output.emf, settings.name), list_here:
        # Its libraries take half a second, in which a signal may come: a sweep that is new leaves nothing.
        service = None if resumed else aws(settings, sweep_id)
        farewell = f"left at once; `batch-cancel report {_quoted(execution)}` writes the reports"
        with held_signals(farewell=farewell) as came:
            service = service or aws(settings, sweep_id)
            with _failure_told(execution):
                result = asyncio.run(_carry_out(execution, open_ledger, service, came, resumed=resumed))
            if execution.signum is not None and not came:
                came.append(execution.signum)  # the next one is the second
            if result.says:
                tell(execution.output, result.says)
            return _conclude(execution, result, came, farewell=farewell)


async def _carry_out(
    execution: Execution,
    open_ledger: Callable[[Path], Ledger],
    service: Service,
    came: Sequence[int],
    *,
    resumed: bool,
) -> Result:
    output, settings = execution.output, execution.settings
    stop = Stop()

    def interrupted(signum: int) -> None:
        execution.signum = signum
        stop.request(StopCause.INTERRUPTED)

    farewell = f"left at once; `batch-cancel resume {_quoted(execution)}` mends it"
    view = Progress(
        sys.stderr,
        quiet=output.quiet,
        verbose=output.verbose,
        no_progress=not output.progress,
        log_format=output.log_format,
        no_color=not output.color,
    )
    with view as on_event, handle_signals(interrupted, farewell=farewell):
        ledger = open_ledger(execution.directory)
        if came:  # before there was anything to interrupt
            interrupted(came[0])
        return await carry_out(
            settings,
            ledger,
            service,
            sweep_id=execution.sweep_id,
            resumed=resumed,
            on_event=on_event,
            stop=stop,
            ask=_asker(execution, ledger, view) if _can_ask(settings) else None,
            interrupted_code=lambda: exit_code_of(execution.signum or 2),
            command=_command_line(),
            manifest=execution.manifest,
        )


def _quoted(execution: Execution) -> str:
    """The run directory, as a shell takes it."""
    return shlex.quote(str(execution.directory))


def _command_line() -> str:
    """What was typed, fit to be typed again; a password in an address, or an external id, is nobody's business.

    What stands for an external id is none, so that a command that was not filled in is refused before any call.
    """
    typed = shlex.join(["batch-cancel", *sys.argv[1:]])
    without_id = re.sub(r"(--external-id[ =])\S+", r"\1'<external id>'", typed)  # none needs a shell's quotes
    return re.sub(r"(https?://)[^/@\s']*@", r"\1***@", without_id)


def _conclude(execution: Execution, result: Result, came: Sequence[int], *, farewell: str) -> int:
    """The reports, to where they are wanted, and the result on standard output."""
    from batch_cancel.ledger.reader import LedgerReader  # noqa: PLC0415
    from batch_cancel.report.document import summary  # noqa: PLC0415  # not before the first cancel request
    from batch_cancel.report.text import text_summary  # noqa: PLC0415

    directory, output = execution.directory, execution.output
    finished = asyncio.run(_finish(execution, result, came, farewell))
    with closing(LedgerReader(directory / LEDGER_NAME)) as reader:
        if output.form == "json":
            text = json.dumps(summary(reader), indent=2, ensure_ascii=False) + "\n"
        else:
            text = text_summary(reader, directory, finished.reports)
    try:
        say(text)
    except BatchCancelError as error:  # a full disk: the reports have the result, and the code that this ends with
        tell(output, str(error))
        code = finished.exit_code or error.exit_code
        if code != finished.exit_code:
            finished = _with_another_code(execution, finished, code)
    execution.finished = finished
    if finished.place is not None and not output.quiet:
        tell(output, f"copies of the reports and the ledger are in {finished.place}/", Level.INFO)
    for fault in finished.faults:
        tell(output, fault)
    return finished.exit_code


def end_otherwise(execution: Execution, exit_code: int) -> None:
    """Let the reports of a sweep that has finished, and their copies, say another exit code.

    Raises:
        RecordLost: ledger or reports cannot be written.
    """
    assert execution.finished is not None  # noqa: S101  # execute() has come back
    told = len(execution.finished.faults)
    execution.finished = _with_another_code(execution, execution.finished, exit_code)
    for fault in execution.finished.faults[told:]:
        tell(execution.output, fault)


def _with_another_code(execution: Execution, finished: Finished, exit_code: int) -> Finished:
    return asyncio.run(
        amend_with_copies(execution.directory, execution.settings, finished, exit_code, sweep_id=execution.sweep_id)
    )


async def _finish(execution: Execution, result: Result, came: Sequence[int], farewell: str) -> Finished:
    """The reports and their delivery, which the first signal ends; of a sweep that a signal ended, it is the second."""
    stop = Stop()

    def interrupted(signum: int) -> None:
        execution.signum = signum
        tell(execution.output, "interrupted; the reports stay here", Level.WARNING)
        stop.request(StopCause.INTERRUPTED)

    interrupted_already = bool(came)
    with nullcontext() if interrupted_already else handle_signals(interrupted, farewell=farewell):
        if came and not interrupted_already:  # in between
            interrupted(came[0])
        return await finish(
            execution.directory,
            execution.settings,
            result.exit_code,
            sweep_id=execution.sweep_id,
            emf=_emf_writer(execution.output.emf) if execution.output.emf else None,
            stop=stop,
            interrupted_code=lambda: exit_code_of(execution.signum or 2),
        )


def tell(output: Output, says: str, level: Level = Level.ERROR) -> None:
    """A sentence on standard error besides the progress, in the form that the log has.

    Where it cannot be written, the reports and the exit code still tell.
    """
    if output.log_format == "json":
        said = as_json(Record(level, "told", {"message": says}, says), datetime.now(UTC))
    else:
        said = f"batch-cancel: {printable(says)}"
    with suppress(OSError):
        click.echo(said, err=True)


def _emf_writer(target: str) -> Callable[[Sequence[str]], None]:
    """Writes metrics to a file, behind what stands there; ``-`` is standard error: standard output has the result."""

    def write(lines: Sequence[str]) -> None:
        text = "".join(f"{line}\n" for line in lines)
        if target == "-":
            sys.stderr.write(text)
            sys.stderr.flush()
            return
        with open(target, "a", encoding="utf-8", opener=private) as file:  # Path.open has no opener
            file.write(text)

    return write


def _consented(settings: Settings) -> bool:
    """Whether there is a consent, or somebody to ask, or no need of either."""
    consent = settings.consent
    return settings.dry_run or consent.yes or consent.confirm_count is not None or _can_ask(settings)


def _check_consent(settings: Settings) -> None:
    if _consented(settings):
        return
    because = "standard input is the manifest" if _reads_stdin(settings) else "there is no terminal to ask on"
    raise UsageError(
        f"consent is missing, and {because}: give --yes, or --confirm-count N to go on only if it is exactly N runs"
        " (or --dry-run to look first)"
    )


def _can_ask(settings: Settings) -> bool:
    return is_terminal(sys.stdin) and is_terminal(sys.stderr) and not _reads_stdin(settings)


def _reads_stdin(settings: Settings) -> bool:
    return isinstance(settings.source, ManifestSource) and settings.source.path == "-"


def _asker(execution: Execution, ledger: Ledger, view: Progress) -> Ask:
    async def ask() -> bool:
        with view.paused():
            yes = consent(
                ledger.reader,
                stdin=sys.stdin,
                terminal=sys.stderr,
                no_color=not execution.output.color,
                cost=execution.settings.cost,
                protection=execution.settings.protection,
            )
        await asyncio.sleep(0)  # a signal that ended the question reaches the sweep, which then was interrupted
        return yes

    return ask
