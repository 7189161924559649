"""``merge``: many records made into one report."""

import asyncio
import json
import sys
from contextlib import closing
from pathlib import Path

import click

from batch_cancel.cli.options import Value, report_formats
from batch_cancel.core.errors import InputError, LedgerError, Problem, UsageError
from batch_cancel.settings import ReportFormat

_EXAMPLES = """\b
Examples:
  batch-cancel merge runs/* --out whole/
  batch-cancel merge --sharding shards/sharding.json runs/* --out whole/
  batch-cancel merge a/report.json b/report.json --out whole/ --report json,md

\b
Each run stands in it once. Exit code: that of all parts where they agree, else the one that has to be known first
(130, 143, 5, 1). A part that is missing, by --sharding, makes it at least 1. Run directories make better reports than
report.json alone, which has no capacities to estimate costs from.
"""


@click.command(epilog=_EXAMPLES)
@click.argument("parts", metavar="RUN_DIR|REPORT.json...", nargs=-1, type=click.Path(path_type=Path))
@click.option("--out", metavar="DIR", required=True, type=click.Path(path_type=Path), help="The merged run directory.")
@click.option(
    "--sharding", metavar="FILE", type=click.Path(path_type=Path), help="What `shard` wrote: which parts there must be."
)
@click.option(
    "--report",
    "formats",
    type=Value("LIST", report_formats),
    default=tuple(ReportFormat),
    help="Which of json,csv,md,html (default: all).",
)
@click.option("--output", type=click.Choice(["text", "json"]), default="text", help="Format of the summary.")
def merge(
    parts: tuple[Path, ...], out: Path, sharding: Path | None, formats: tuple[ReportFormat, ...], output: str
) -> None:
    """Make one report of the run directories (or report.json files) of a sweep's parts. Calls no AWS."""
    from batch_cancel.cli.signals import say  # noqa: PLC0415  # --help does without
    from batch_cancel.execution import new_sweep_id  # noqa: PLC0415
    from batch_cancel.ledger.ledger import Ledger  # noqa: PLC0415
    from batch_cancel.report.document import summary  # noqa: PLC0415
    from batch_cancel.report.files import write_reports  # noqa: PLC0415
    from batch_cancel.report.merge import merge as make_one  # noqa: PLC0415
    from batch_cancel.report.merge import sweep_id_of  # noqa: PLC0415
    from batch_cancel.shards import Expected, merge_parts  # noqa: PLC0415

    if not parts and sharding is None:
        raise UsageError("which parts? Give their run directories, or what shard wrote with --sharding")
    for part in parts:
        if not part.exists():
            raise LedgerError(f"there is no {part}")
    if sharding is None:
        code = make_one(parts, out, sweep_id=new_sweep_id())
    else:
        expected = Expected.read(_read(sharding), str(sharding))
        found = {part: sweep_id_of(part) for part in parts}
        for part, sweep_id in found.items():
            if sweep_id not in expected.parts:
                click.echo(f"batch-cancel: warning: {part}, merged too, is no part of this sharding", err=True)
        code = asyncio.run(merge_parts(parts, set(found.values()), out, expected))
    reports = write_reports(out, formats)
    with closing(Ledger.look(out)) as reader:
        if output == "json":
            say(json.dumps(summary(reader), indent=2, ensure_ascii=False) + "\n")
        else:
            from batch_cancel.report.text import text_summary  # noqa: PLC0415  # as above

            say(text_summary(reader, out, reports))
    sys.exit(code)


def _read(path: Path) -> bytes:
    from batch_cancel.manifest.read import os_fault  # noqa: PLC0415  # --help does without

    try:
        return path.read_bytes()
    except OSError as error:
        raise InputError([Problem(str(path), os_fault(error))]) from error
