"""``report``: renders a run directory again from its ledger. Calls nothing."""

import io
import sys
from pathlib import Path

import click

from batch_cancel.cli.out_file import check_out_file
from batch_cancel.core.errors import UsageError
from batch_cancel.settings import ReportFormat

_EXAMPLES = """\b
Examples:
  batch-cancel report batch-cancel-runs/20261124T031500Z-7f3a2c
  batch-cancel report RUN_DIR --format md >> "$GITHUB_STEP_SUMMARY"
  batch-cancel report RUN_DIR --format html --out /tmp/sweep.html
  batch-cancel report RUN_DIR --format json | jq '.runs[] | select(.outcome == "failed")'
"""


@click.command(epilog=_EXAMPLES)
@click.argument("run_dir", metavar="RUN_DIR", type=click.Path(path_type=Path))
@click.option(
    "--format",
    "form",
    type=click.Choice([str(form) for form in ReportFormat]),
    help="One report alone (default: by --out's ending; else all of them, into RUN_DIR).",
)
@click.option(
    "--out", metavar="FILE", help="Where to write it; - is standard output (default with --format).", type=click.Path()
)
def report(run_dir: Path, form: str | None, out: str | None) -> None:
    """Render the reports of a finished or unfinished run again, from its ledger.

    Calls no AWS. A run that was killed, or is still at work, is reported as it stands.
    """
    from batch_cancel.report import files  # noqa: PLC0415  # SQLite, which --help can do without

    chosen = _chosen(form, out)
    if out is not None and out != "-":
        check_out_file("--out", Path(out))
    if chosen is None:
        for path in files.write_reports(run_dir, tuple(ReportFormat)):
            click.echo(str(path))
        return
    with files.opened(run_dir) as document:
        if out is not None and out != "-":
            click.echo(str(files.write_report(document, chosen, run_dir, Path(out))))
            return
        if sys.stdout is None:  # it was closed: nobody reads it
            return
        # UTF-8 whatever the terminal's encoding is, as in the files.
        text = io.TextIOWrapper(sys.stdout.buffer, "utf-8", "backslashreplace", newline="")
        try:
            files.render(document, chosen, run_dir, text)
            text.flush()
        finally:
            text.detach()  # standard output stays open for others


def _chosen(form: str | None, out: str | None) -> ReportFormat | None:
    if form is not None:
        return ReportFormat(form)
    if out is None:
        return None
    ending = Path(out).suffix.removeprefix(".").lower()
    if ending not in tuple(ReportFormat):
        raise UsageError(f"which format is {out!r} to have? Say --format {', '.join(ReportFormat)}")
    return ReportFormat(ending)
