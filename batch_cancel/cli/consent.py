"""The question before anything is cancelled: what it would be, what is spared and why, and then the count, typed.

Anything but the count is a no: another word, the end of the input, Ctrl-C.
"""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from types import FrameType
from typing import TextIO

import click

from batch_cancel.cli.wording import ago, cells, columns_of, counted, fit, fit_id, padded, printable, wants_colour
from batch_cancel.ledger.reader import LedgerReader, PendingGroup

MOST_GROUPS = 15
MOST_RULES = 8
TRIES = 2
WIDEST = 120
GAP = "  "


def consent(
    reader: LedgerReader,
    *,
    stdin: TextIO,
    terminal: TextIO,
    no_color: bool = False,
    now: datetime | None = None,
) -> bool:
    """Show what would be cancelled and ask; True only if the user typed the number of runs.

    Call it from the main thread: while it asks, Ctrl-C means no, and SIGTERM ends the question and is then delivered
    to whoever handled it before.

    Args:
        reader: of a ledger in which the decision stands: runs to cancel are pending, the others excluded.
        stdin: where the answer is typed.
        terminal: where the question is written; standard error, so that standard output keeps the result alone.
        no_color: plain text even on a terminal that knows colours.
        now: the moment at which ages are told; an aware datetime.
    """
    runs = reader.count("pending")
    paint = wants_colour(terminal, no_color=no_color)
    text = decision_text(reader, columns=min(columns_of(terminal), WIDEST), now=now or datetime.now(UTC), paint=paint)
    try:
        with _signals_end_the_question():
            terminal.write(text)
            return _asked(runs, stdin, terminal, paint=paint)
    except (KeyboardInterrupt, OSError):  # a terminal that is gone gives no consent
        return False
    except _Terminated:
        os.kill(os.getpid(), signal.SIGTERM)
        return False


def _asked(runs: int, stdin: TextIO, terminal: TextIO, *, paint: bool) -> bool:
    question = (
        f"Type {_bold(str(runs), paint=paint)} to cancel {'it' if runs == 1 else 'them'}, or press Enter to leave "
    )
    question += f"{'it' if runs == 1 else 'them'} alone: "
    for attempt in range(TRIES):
        terminal.write(question)
        terminal.flush()
        line = stdin.readline()
        if not line:
            terminal.write("\n")
            return False
        answer = line.strip()
        if answer.replace(",", "") == str(runs) and answer[0] != ",":
            return True
        if not answer or attempt == TRIES - 1:
            return False
        terminal.write(f"{fit(printable(answer), 40)} is not the number of runs.\n")
    return False


# What is shown


@dataclass(frozen=True, slots=True)
class _Column:
    title: str
    values: list[str]
    right: bool = False

    @property
    def width(self) -> int:
        return max(cells(self.title), *(cells(value) for value in self.values))


def decision_text(reader: LedgerReader, *, columns: int, now: datetime, paint: bool = False) -> str:
    """The decision as a table by target and transform, and what is spared by which rule."""
    largest: list[PendingGroup] = []
    runs = transforms = 0
    targets = set()
    for group in reader.pending_groups():
        runs += group.runs
        transforms += 1
        targets.add(group.target)
        if transforms <= MOST_GROUPS:
            largest.append(group)
    headline = f"{counted(runs, 'task run')} of {counted(transforms, 'transform')} would be cancelled"
    lines = ["", _bold(f"{headline} in {_place(largest, len(targets))}", paint=paint) + ":", ""]
    lines += _table(largest, now, columns, paint=paint)
    if transforms > len(largest):
        rest = runs - sum(group.runs for group in largest)
        lines.append(f"{GAP}and {counted(transforms - len(largest), 'transform')} more with {counted(rest, 'run')}")
    lines += ["", *_spared(reader.excluded_by_rule(), columns, paint=paint)]
    lines += ["A cancelled run cannot be continued: its work has to be started anew.", ""]
    return "\n".join(lines) + "\n"


def _place(groups: list[PendingGroup], targets: int) -> str:
    return printable(str(groups[0].target)) if targets == 1 else counted(targets, "target")


def _table(groups: list[PendingGroup], now: datetime, columns: int, *, paint: bool) -> list[str]:
    if not groups:
        return []
    room = columns - 1
    oldest = [group.oldest_started_on for group in groups]
    figures = [
        _Column("runs", [f"{group.runs:,}" for group in groups], right=True),
        _Column("oldest", ["?" if start is None else ago(now - start) for start in oldest], right=True),
    ]
    hours = [_dpu_hours(group, now) for group in groups]
    if any(hour is not None for hour in hours):
        figures.append(_Column("DPU-h", ["?" if hour is None else f"{hour:,.1f}" for hour in hours], right=True))
    types = _Column("task types", [fit(printable(", ".join(group.task_types)) or "?", 40) for group in groups])
    figures.append(types)
    if len({group.target for group in groups}) > 1:
        where = [_Column("target", [fit_id(printable(str(group.target)), 40) for group in groups])]
    else:
        where = []
    taken = sum(column.width + len(GAP) for column in [*where, *figures])
    width = max(12, room - taken - len(GAP))
    names = _Column("transform", [_transform(group, width) for group in groups])
    table = [*where, names, *figures]
    excess = sum(column.width + len(GAP) for column in table) - room
    if excess > 0:  # task types are the first to give way
        short = max(len(types.title), types.width - excess)
        table[-1] = _Column(types.title, [fit(value, short) for value in types.values])
    header = _row(table, [column.title for column in table])
    rows = [_row(table, list(values)) for values in zip(*(column.values for column in table), strict=True)]
    return [_dim(fit(header, room), paint=paint), *(fit(row, room) for row in rows)]


def _row(table: list[_Column], values: list[str]) -> str:
    parts = [padded(value, column.width, right=column.right) for column, value in zip(table, values, strict=True)]
    return (GAP + GAP.join(parts)).rstrip()


def _transform(group: PendingGroup, width: int) -> str:
    """Name and id where there is room for both; otherwise the name, which people know."""
    transform_id = printable(group.transform.transform_id)
    if not group.transform.name:
        return fit_id(transform_id, width)
    name = printable(group.transform.name)
    both = f"{name} ({transform_id})"
    if cells(both) <= width:
        return both
    room = width - cells(name) - 3
    return f"{name} ({fit_id(transform_id, room)})" if room >= 12 else fit_id(name, width)


def _dpu_hours(group: PendingGroup, now: datetime) -> float | None:
    """What the runs have used so far, as far as their capacity and starts are known."""
    return None


def _spared(rules: list[tuple[str | None, int]], columns: int, *, paint: bool) -> list[str]:
    if not rules:
        return []
    total = sum(number for _, number in rules)
    lines = [_bold(f"Left alone: {counted(total, 'run')}", paint=paint)]
    width = max(len(f"{number:,}") for _, number in rules[:MOST_RULES])
    lines += [
        fit(f"{GAP}{number:>{width},}  {printable(rule or 'no rule named')}", columns - 1)
        for rule, number in rules[:MOST_RULES]
    ]
    more = rules[MOST_RULES:]
    if more:
        rest = counted(sum(number for _, number in more), "run")
        lines.append(f"{GAP}and {rest} by {counted(len(more), 'other rule')}")
    return [*lines, ""]


def _bold(text: str, *, paint: bool) -> str:
    return click.style(text, bold=True) if paint else text


def _dim(text: str, *, paint: bool) -> str:
    return click.style(text, dim=True) if paint else text


# Signals at the question


class _Terminated(Exception):
    """SIGTERM came while the question stood."""


@contextmanager
def _signals_end_the_question() -> Iterator[None]:
    """Let Ctrl-C and SIGTERM interrupt the reading of a line.

    asyncio's handlers only wake its loop, which is not running while a line is read: the question would outlast them.
    """
    handlers = {signal.SIGINT: signal.default_int_handler, signal.SIGTERM: _terminated}
    wakeup_fd = signal.set_wakeup_fd(-1)
    before = {signum: signal.signal(signum, handler) for signum, handler in handlers.items()}
    try:
        yield
    finally:
        for signum, handler in before.items():
            signal.signal(signum, handler)
        signal.set_wakeup_fd(wakeup_fd, warn_on_full_buffer=False)


def _terminated(signum: int, frame: FrameType | None) -> None:
    raise _Terminated
