"""``diff``: what is new, gone, or still running between sweeps, from their ledgers alone."""

import itertools
import shutil
import sys
import textwrap
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click

from batch_cancel.cli.options import Value
from batch_cancel.cli.wording import cells, is_terminal, padded
from batch_cancel.core.outcome import Outcome
from batch_cancel.core.wording import counted, printable
from batch_cancel.report.diff import Change, Comparison, RunChange, TransformChange, TransformKey
from batch_cancel.report.past_sweep import PastSweep

MOST_SHOWN = 100
"""Runs of one kind, transforms, and warnings that the text shows; JSON has all."""
NARROWEST = 60
WIDTH = 100
"""Where standard output is no terminal."""
QUIET = (Change.STILL_RUNNING, Change.NOT_SEEN)
"""What is counted, and listed only with ``--all``: nothing is known to have changed."""

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
  batch-cancel diff audits/monday audits/tuesday --all
  batch-cancel diff audits/* --output json | jq '.runs[] | select(.sweeps >= 3)'

\b
What the words mean:
  active         the sweep found the run STARTING or RUNNING; or, where it did not read it first,
                 the outcome shows that it ran (would_cancel, stopped, stopping, stuck_stopping,
                 finished_first, failed)
  new            active in the last sweep alone
  gone           active earlier, and not in the last sweep, which listed its account and region
                 completely; or the last sweep saw it over, as when it stopped it
                 (a run that was asked to stop, and whose end nobody saw, is not gone by a listing:
                 STOPPING runs are in none)
  still running  active in the last sweep and in earlier ones: in how many of them, is said
  newly seen     active in the last sweep; the one before did not list its target completely
  not seen       active earlier; the last sweep could not tell: its listing was not complete, or it
                 looked at the runs of a manifest or a plan alone, or the run may be STOPPING
"""


@click.command(epilog=_EXAMPLES)
@click.argument("directories", nargs=-1, required=True, metavar="RUN_DIR RUN_DIR...", type=Value("RUN_DIR", Path))
@click.option("--all", "everything", is_flag=True, help="List too what is still running, or was not seen.")
@click.option("--output", type=click.Choice(["text", "json"]), default="text", help="How to print the differences.")
def diff(directories: tuple[Path, ...], *, everything: bool, output: str) -> None:
    """Compare two run directories, or more: the oldest first.

    Calls nothing. Exit code 0 without differences and 1 with any; an incomplete listing, and sweeps that did not look
    at the same, count as differences, because there may be some. 2 if a directory cannot be read.
    """
    with Comparison(directories) as comparison:
        if output == "json":
            if sys.stdout is not None:  # closed: the exit code tells all the same
                comparison.write_json(sys.stdout)
        else:
            for line in _text(comparison, everything=everything, width=_width()):
                click.echo(line)
        differs = comparison.differs
    if differs:
        sys.exit(1)


def _width() -> int:
    if not is_terminal(sys.stdout):
        return WIDTH
    return max(NARROWEST, shutil.get_terminal_size((WIDTH, 24)).columns)


def _text(comparison: Comparison, *, everything: bool, width: int) -> Iterator[str]:
    yield from _table((_heading(at, sweep, comparison) for at, sweep in enumerate(comparison.sweeps)), width)
    if comparison.cautions:
        yield ""
        yield from _wrapped(
            "NOT COMPARABLE THROUGHOUT: these sweeps did not look at the same, or not to the end.", width
        )
        told = _cut(map(_caution, comparison.cautions), "warning")
        yield from (line for caution in told for line in _wrapped(caution, width, "  "))
    yield ""
    totals = [f"{comparison.totals[change]:,} {WORDS[change]}" for change in Change]
    yield ", ".join(totals) if any(comparison.totals.values()) else "No run was active in any of them."
    yield from _not_stopped(comparison, width)
    yield from _transforms(comparison, everything=everything, width=width)
    yield from _runs(comparison, everything=everything, width=width)


def _transforms(comparison: Comparison, *, everything: bool, width: int) -> Iterator[str]:
    shown = [item for item in comparison.transforms.items() if everything or _changed(item[1])]
    if not shown:
        return
    shown.sort(key=_most_changed_first)
    digits = _digits(transform for _, transform in shown[:MOST_SHOWN])
    rows = [_transform(*item, digits) for item in shown[:MOST_SHOWN]]
    places = {_place(key, None)[-1] for key in comparison.transforms}
    yield ""
    if len(places) == 1:
        yield f"By transform, in {printable(places.pop())}:"
        rows = [row[:-1] for row in rows]
    else:
        yield "By transform:"
    yield from _table(rows, width)
    yield from _more(len(shown) - MOST_SHOWN, "transform")
    if same := len(comparison.transforms) - len(shown):
        yield f"  and {counted(same, 'transform')} without a change that was seen"


def _runs(comparison: Comparison, *, everything: bool, width: int) -> Iterator[str]:
    shown: dict[Change, list[RunChange]] = {change: [] for change in Change}
    reasons: Counter[str] = Counter()
    for run in comparison.changes():
        if run.change is Change.NOT_SEEN:
            reasons[run.reason or ""] += 1
        if len(shown[run.change]) < MOST_SHOWN and (everything or run.change not in QUIET):
            shown[run.change].append(run)
    for change, runs in shown.items():
        if runs:
            yield from _listed(WORDS[change].capitalize(), runs, len(comparison.sweeps), width)
            yield from _more(comparison.totals[change] - MOST_SHOWN, "run")
    if not everything:
        yield from _unlisted(comparison, reasons, width)


def _not_stopped(comparison: Comparison, width: int) -> Iterator[str]:
    """What somebody has to look at, before all that changed."""
    shown: list[RunChange] = []
    count = 0
    for run in comparison.changes():
        if run.not_stopped:
            count += 1
            if len(shown) < MOST_SHOWN:
                shown.append(run)
    if shown:
        yield from _listed("Still running or STOPPING, although asked to stop", shown, len(comparison.sweeps), width)
        yield from _more(count - MOST_SHOWN, "run")


def _listed(title: str, runs: Sequence[RunChange], sweeps: int, width: int) -> Iterator[str]:
    """Runs below their transforms."""
    yield ""
    yield f"{title}:"
    for key, of_transform in itertools.groupby(runs, key=lambda run: run.latest.key[:3]):
        group = list(of_transform)
        yield from _table([_place(TransformKey(*key), group[-1].transform_name)], width)
        yield from _table((_run(run, sweeps) for run in group), width, "    ")


def _unlisted(comparison: Comparison, reasons: Counter[str], width: int) -> Iterator[str]:
    """What is counted only: runs of which no change was seen."""
    if not any(comparison.totals[change] for change in QUIET):
        return
    yield ""
    for reason, count in reasons.most_common(MOST_SHOWN):
        yield from _wrapped(f"{counted(count, 'run')} not seen: {printable(reason)}.", width)
    if running := comparison.totals[Change.STILL_RUNNING]:
        yield from _wrapped(f"{counted(running, 'run')} still running.", width)
    yield "--all lists them."


def _heading(at: int, sweep: PastSweep, comparison: Comparison) -> list[str]:
    place = "from" if at == 0 else "to" if at == len(comparison.sweeps) - 1 else ""
    mode, name = sweep.facts.get("mode"), sweep.facts.get("name")
    return [place, str(sweep.directory), _when(sweep.started_at), str(mode or ""), str(name or "")]


def _place(key: TransformKey, name: str | None) -> list[str]:
    return [name or "", key.transform_id, f"{key.place}/{key.region}"]


def _digits(transforms: Iterable[TransformChange]) -> dict[Change, int]:
    """How wide the numbers of each change are; a change that no transform has is left out."""
    counts = [transform.counts for transform in transforms]
    return {
        change: max(len(f"{each[change]:,}") for each in counts)
        for change in Change
        if any(each[change] for each in counts)
    }


def _transform(key: TransformKey, transform: TransformChange, digits: Mapping[Change, int]) -> list[str]:
    counts = [
        f"{transform.counts[change]:>{room},} {WORDS[change]}" if transform.counts[change] else ""
        for change, room in digits.items()
    ]
    return [*counts, *_place(key, transform.transform_name)]


def _changed(transform: TransformChange) -> bool:
    return any(transform.counts[change] for change in Change if change not in QUIET)


def _most_changed_first(item: tuple[TransformKey, TransformChange]) -> tuple[int, int, TransformKey]:
    key, transform = item
    quiet = sum(transform.counts[change] for change in QUIET)
    return quiet - transform.counts.total(), -transform.counts.total(), key


def _run(run: RunChange, sweeps: int) -> list[str]:
    latest = run.latest
    started = f"started {_when(latest.started_on)}" if latest.started_on else ""
    says = [run.reason] if run.reason else []
    if run.change is Change.STILL_RUNNING and sweeps > 2:
        says.append(f"in {run.sweeps} of {counted(sweeps, 'sweep')}, since that of {_when(run.first_seen_at)}")
    elif run.change is Change.GONE and sweeps > 2:
        says.append(f"last seen by the sweep of {_when(run.last_seen_at)}")
    if latest.outcome not in (Outcome.WOULD_CANCEL, Outcome.EXCLUDED):
        says.append(f"outcome in that sweep: {latest.outcome}")
    return [latest.key.task_run_id, latest.task_type or "", started, "; ".join(says)]


def _caution(caution: dict[str, Any]) -> str:
    parts = (caution["directory"], caution["target"], caution["message"])
    return ": ".join(printable(part) for part in parts if part)


def _cut(lines: Iterable[str], noun: str) -> Iterator[str]:
    """The first lines, and how many there are more."""
    every = list(lines)
    yield from every[:MOST_SHOWN]
    yield from (line.strip() for line in _more(len(every) - MOST_SHOWN, noun))


def _more(count: int, noun: str) -> Iterator[str]:
    if count > 0:
        yield f"  and {counted(count, noun)} more; --output json has all"


def _table(rows: Iterable[Sequence[str]], width: int, indent: str = "  ") -> Iterator[str]:
    """Rows in columns, each cell harmless to a terminal and never cut: a row that is too wide goes on below."""
    table = [[printable(cell) for cell in row] for row in rows]
    widths = [max(cells(cell) for cell in column) for column in zip(*table, strict=True)]
    for row in table:
        line = indent + "  ".join(padded(cell, room) for cell, room in zip(row, widths, strict=True) if room).rstrip()
        if cells(line) <= width:
            yield line
        else:
            yield from _flowed(row, width, indent)


def _flowed(row: Sequence[str], width: int, indent: str) -> Iterator[str]:
    """A row's cells on as many lines as they need."""
    line = ""
    for cell in filter(None, row):
        longer = f"{line}  {cell}" if line else indent + cell
        if line and cells(longer) > width:
            yield line
            longer = f"{indent}    {cell}"
        line = longer
    yield line


def _wrapped(text: str, width: int, indent: str = "") -> Iterator[str]:
    yield from textwrap.wrap(
        text,
        width,
        initial_indent=indent,
        subsequent_indent=f"{indent}  ",
        break_long_words=False,
        break_on_hyphens=False,
    )


def _when(moment: datetime | None) -> str:
    return "an unknown time" if moment is None else f"{moment.astimezone(UTC):%Y-%m-%d %H:%M:%SZ}"
