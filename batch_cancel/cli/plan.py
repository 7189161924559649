"""``plan`` and ``apply``: what was reviewed is what happens, or less."""

import shlex
import sys
from collections.abc import Collection
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import click

from batch_cancel.cli.grouped import GroupedCommand
from batch_cancel.cli.options import Value, apply_options, plan_options, sweep_options
from batch_cancel.cli.out_file import check_out_file
from batch_cancel.cli.progress.log import Level
from batch_cancel.cli.run import RUNS_DIRECTORY, Execution, end_otherwise, execute, tell
from batch_cancel.cli.settings_from import output_from, restore_endpoints, settings_of_plan
from batch_cancel.cli.settings_in_s3 import settings_wherever
from batch_cancel.core.errors import RecordLost, UsageError
from batch_cancel.core.wording import counted
from batch_cancel.execution import new_sweep_id
from batch_cancel.ledger import LEDGER_NAME
from batch_cancel.ledger.ledger import Ledger
from batch_cancel.ledger.reader import LedgerReader
from batch_cancel.settings import ManifestSource

_PLAN_EXAMPLES = """\b
Examples:
  batch-cancel plan configs/cost-control.yaml --plan-out plan.json
  batch-cancel plan --discover --older-than 6h --plan-out plan.json --expires-after 2h

It is a dry run: read calls only, the same exit codes, a run directory with reports. A plan that a guardrail refuses
is not saved. Review the file, then: batch-cancel apply plan.json

\b
Rate, retry and verify are kept in the plan, and hold when it is applied unless apply is told otherwise.
--confirm-count saves a plan of exactly so many runs, or none. The other options of run are taken, but
have no say: --yes and --dry-run here, and --ignore-not-found, which apply takes. --until-clear is refused.
"""
_APPLY_EXAMPLES = """\b
Examples:
  batch-cancel apply plan.json --dry-run                    # what would it do now? The plan stays good
  batch-cancel apply plan.json
  batch-cancel apply plan.json --confirm-count 40 --rps 20

\b
A plan can be applied once, until it expires, unedited, with credentials of the accounts that it names.
Exit code 3 where one of these is not so; then nothing was called.
It asks nothing, as the reviewed plan is the consent: --yes is taken, and has no say.
"""


@click.command(cls=GroupedCommand, epilog=_PLAN_EXAMPLES)
@sweep_options
@plan_options
@click.pass_context
def plan(ctx: click.Context, /, plan_out: str, expires_after: timedelta | None, **_: object) -> None:
    """Decide what would be cancelled, and save the decision for review.

    Every run to be cancelled, every run left alone with the rule that spares it, the settings, accounts and counts,
    under a digest. Nothing is cancelled, and nobody is asked.
    """
    path = Path(plan_out)
    asked_for, output = settings_wherever(ctx), output_from(ctx)
    source = asked_for.source
    read_from = (ctx.params["sweep_file"], source.path if isinstance(source, ManifestSource) else None)
    check_out_file(
        "--plan-out",
        path,
        read_from=[Path(name) for name in read_from if name is not None],
        run_directory=output.directory,
    )
    replaced = " (it replaces the one that was there)" if path.exists() else ""
    settings, only_for_review = replace(asked_for, dry_run=True), asked_for.dry_run_only
    if settings.until_clear:
        raise UsageError("--until-clear is for run: a plan names its runs beforehand")
    sweep_id = new_sweep_id()
    directory = output.directory or RUNS_DIRECTORY / sweep_id
    execution = Execution(directory, sweep_id, settings, output)
    code = execute(execution, Ledger.create, resumed=False)
    if code not in (0, 1):
        tell(output, f"no plan was saved (exit code {code})")
        sys.exit(code)
    from batch_cancel.plan import EXPIRES_AFTER, write_plan  # noqa: PLC0415  # with the reports, after the calls

    try:
        with closing(LedgerReader(directory / LEDGER_NAME)) as reader:
            count = write_plan(
                reader,
                path,
                now=datetime.now(UTC),
                expires_after=expires_after or EXPIRES_AFTER,
                only_for_review=only_for_review,
            )
            all_read = all(row.complete for row in reader.targets())
    except RecordLost as lost:
        end_otherwise(execution, lost.exit_code)
        raise
    if output.quiet:
        sys.exit(code)
    incomplete = "" if all_read else "; not everything could be read: it may not name all of them"
    then = f"review it, then: batch-cancel apply {shlex.quote(str(path))}"
    if only_for_review:
        then = "it can be reviewed, and not applied: its sweep file says dry_run: true"
    elif not count:
        then = "there is nothing to apply"
    names = f"{path} names {counted(count, 'run')} to cancel"
    tell(output, f"{names}{incomplete}{replaced}; {then}", Level.WARNING if incomplete else Level.INFO)
    sys.exit(code)


@click.command(cls=GroupedCommand, epilog=_APPLY_EXAMPLES)
@click.argument("plan_file", metavar="PLAN.json", type=Value("PLAN.json", Path))
@apply_options
@click.pass_context
def apply(ctx: click.Context, /, plan_file: Path, **_: object) -> None:
    """Cancel what a plan names and nothing else.

    Each run is read again and the plan's rules are checked again first, so that it can only shrink; what dropped out
    stands in the report with the reason.
    """
    from batch_cancel.plan import read_plan  # noqa: PLC0415

    reviewed = read_plan(plan_file)
    reviewed.check_unused()
    reviewed.check_fresh(datetime.now(UTC))
    settings, output = settings_of_plan(reviewed.settings, ctx), output_from(ctx)
    restore_endpoints(settings.endpoint)
    if not settings.dry_run:
        reviewed.check_may_cancel()
    if reviewed.names_no_account:
        tell(
            output,
            "the plan does not know whose account it is of (sts:GetCallerIdentity did not answer when it was made): in"
            " another one its runs are not found, and nothing else tells",
            Level.WARNING,
        )
    sweep_id = new_sweep_id()
    directory = output.directory or RUNS_DIRECTORY / sweep_id
    sys.exit(execute(Execution(directory, sweep_id, settings, output), Ledger.create, resumed=False))


def _adapt(command: click.Command, *, without_a_say: Collection[str], confirm_count: str) -> None:
    """Let the help of a command say what options of ``run`` do there; those without a say are taken, and not listed."""
    for option in command.params:
        if isinstance(option, click.Option):
            option.hidden = option.name in without_a_say
            if option.name == "confirm_count":
                option.help = confirm_count


_adapt(
    plan,
    without_a_say=("yes", "dry_run", "ignore_not_found", "until_clear"),
    confirm_count="Save the plan only if it names exactly N runs.",
)
_adapt(apply, without_a_say=("yes",), confirm_count="Go on only if exactly N runs would be cancelled.")
