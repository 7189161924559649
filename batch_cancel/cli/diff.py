"""``diff``: what is new, gone, or still running between sweeps, from their ledgers alone."""

import sys
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click

from batch_cancel.cli.options import Value
from batch_cancel.cli.wording import cells, counted, padded, printable
from batch_cancel.core.outcome import Outcome
from batch_cancel.report.diff import Change, Comparison, RunChange, Sweep, TransformChange, TransformKey

MOST_SHOWN = 100
"""Runs of one kind, transforms, and warnings that the text shows; JSON has all."""

WORDS = {
    Change.NEW: "new",
    Change.GONE: "gone",
    Change.STILL_RUNNING: "still running",
    Change.NEWLY_SEEN: "newly seen",
    Change.NOT_SEEN: "not seen",
}

_EXAMPLES = """\b
Examples:
  batch-cancel diff audits/monday audits/tuesday
  batch-cancel diff audits/* --output json | jq '.runs[] | select(.sweeps >= 3)'

\b
What the words mean:
  active         the sweep found the run STARTING or RUNNING; or, where it did not read it first,
                 the outcome shows that it ran (would_cancel, stopped, stopping, stuck_stopping,
                 finished_first, failed)
  new            active in the last sweep alone
  gone           active earlier, and not in the last sweep, which listed its account and region
                 completely; or the last sweep saw it over, as when it stopped it
  still running  active in the last sweep and in earlier ones: in how many of them, is said
  newly seen     active in the last sweep; the one before did not list its target completely
  not seen       active earlier; the last sweep could not tell
"""


@click.command(epilog=_EXAMPLES)
@click.argument("directories", nargs=-1, required=True, metavar="RUN_DIR RUN_DIR...", type=Value("RUN_DIR", Path))
@click.option("--output", type=click.Choice(["text", "json"]), default="text", help="How to print the differences.")
def diff(directories: tuple[Path, ...], output: str) -> None:
    """Compare two run directories, or more: the oldest first.

    Calls nothing. Exit code 0 without differences and 1 with any; an incomplete listing, and sweeps that did not look
    at the same, count as differences, because there may be some. 2 if a directory cannot be read.
    """
    with Comparison(directories) as comparison:
        if output == "json":
            comparison.write_json(sys.stdout)
        else:
            for line in _text(comparison):
                click.echo(line)
        differs = comparison.differs
    if differs:
        sys.exit(1)


def _text(comparison: Comparison) -> Iterator[str]:
    yield from _table(_heading(at, sweep, comparison) for at, sweep in enumerate(comparison.sweeps))
    if comparison.cautions:
        yield ""
        yield "NOT COMPARABLE THROUGHOUT: these sweeps did not look at the same, or not to the end."
        yield from _cut([f"  {_caution(caution)}" for caution in comparison.cautions], "warning")
    yield ""
    totals = [f"{comparison.totals[change]:,} {WORDS[change]}" for change in Change]
    yield ", ".join(totals) if any(comparison.totals.values()) else "No run was active in any of them."
    if comparison.totals.total():
        yield ""
        yield "By transform:"
        transforms = sorted(comparison.transforms.items(), key=_most_changed_first)
        yield from _cut(
            _table(_transform(*item) for item in transforms[: MOST_SHOWN + 1]), "transform", len(transforms)
        )
        yield from _runs(comparison)


def _runs(comparison: Comparison) -> Iterator[str]:
    shown: dict[Change, list[RunChange]] = {change: [] for change in Change}
    for run in comparison.changes():
        if len(shown[run.change]) < MOST_SHOWN:
            shown[run.change].append(run)
    for change, runs in shown.items():
        if runs:
            yield ""
            yield f"{WORDS[change].capitalize()}:"
            yield from _cut(_table(_run(run, len(comparison.sweeps)) for run in runs), "run", comparison.totals[change])


def _heading(at: int, sweep: Sweep, comparison: Comparison) -> list[str]:
    place = "from" if at == 0 else "to" if at == len(comparison.sweeps) - 1 else ""
    mode, name = sweep.facts.get("mode"), sweep.facts.get("name")
    return [place, str(sweep.directory), _when(sweep.started_at), str(mode or ""), str(name or "")]


def _transform(key: TransformKey, transform: TransformChange) -> list[str]:
    counts = ", ".join(f"{transform.counts[change]:,} {WORDS[change]}" for change in Change if transform.counts[change])
    return [f"{key.place}/{key.region}", key.transform_id, transform.transform_name or "", counts]


def _most_changed_first(item: tuple[TransformKey, TransformChange]) -> tuple[int, int, TransformKey]:
    key, transform = item
    return transform.counts[Change.STILL_RUNNING] - transform.counts.total(), -transform.counts.total(), key


def _run(run: RunChange, sweeps: int) -> list[str]:
    key, latest = run.latest.key, run.latest
    started = f"started {_when(latest.started_on)}" if latest.started_on else ""
    says = [run.reason] if run.reason else []
    if run.change is Change.STILL_RUNNING:
        says.append(f"in {run.sweeps} of {counted(sweeps, 'sweep')}, since that of {_when(run.first_seen_at)}")
    elif run.change is Change.GONE:
        says.append(f"last seen by the sweep of {_when(run.last_seen_at)}")
    if latest.outcome not in (Outcome.WOULD_CANCEL, Outcome.EXCLUDED):
        says.append(f"there {latest.outcome}")
    return [
        f"{key.place}/{key.region}",
        key.transform_id,
        key.task_run_id,
        latest.task_type or "",
        started,
        "; ".join(says),
    ]


def _caution(caution: dict[str, Any]) -> str:
    parts = (caution["directory"], caution["target"], caution["message"])
    return ": ".join(printable(part) for part in parts if part)


def _cut(lines: Iterable[str], noun: str, count: int | None = None) -> Iterator[str]:
    """The first lines, and how many there are more."""
    every = list(lines)
    yield from every[:MOST_SHOWN]
    more = (len(every) if count is None else count) - MOST_SHOWN
    if more > 0:
        yield f"  and {counted(more, noun)} more; --output json has all"


def _table(rows: Iterable[list[str]]) -> list[str]:
    """Rows in columns, indented, each cell harmless to a terminal."""
    table = [[printable(cell) for cell in row] for row in rows]
    widths = [max(cells(cell) for cell in column) for column in zip(*table, strict=True)]
    return [
        "  " + "  ".join(padded(cell, width) for cell, width in zip(row, widths, strict=True) if width).rstrip()
        for row in table
    ]


def _when(moment: datetime | None) -> str:
    return "an unknown time" if moment is None else f"{moment.astimezone(UTC):%Y-%m-%d %H:%M:%SZ}"
