"""The question before anything is cancelled: what it would be, what is spared and why, and then the count, typed.

Anything but the count is a no: another word, the end of the input, a terminal that is gone, a signal.
"""

import contextlib
import os
import select
import signal
import termios
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from types import FrameType
from typing import TextIO

import click

from batch_cancel.cli.wording import ago, cells, columns_of, fit, fit_id, is_terminal, padded, rows_of, wants_colour
from batch_cancel.core.cost import Tally, dpu, money
from batch_cancel.core.selection import Protection
from batch_cancel.core.wording import counted, printable
from batch_cancel.ledger.reader import LedgerReader, PendingGroup
from batch_cancel.settings import Cost

MOST_GROUPS = 15
MOST_RULES = 8
"""So many lines of each where the terminal has the room: what is asked about must not scroll away from the question."""
LEAST_LINES = 3
"""So many of each, however low it is."""
TRIES = 2
WIDEST = 120
NARROWEST = 12
"""Columns that a name gets at least; it is cut in its middle."""
NAME_BEFORE_TYPES = 36
"""A name gets so many columns, if it needs them, before the task types get any."""
LEAST_OF_TYPES = 20
GAP = "  "
NO_PROTECTION = Protection()


def consent(
    reader: LedgerReader,
    *,
    stdin: TextIO,
    terminal: TextIO,
    no_color: bool = False,
    now: datetime | None = None,
    cost: Cost | None = None,
    protection: Protection = NO_PROTECTION,
) -> bool:
    """Show what would be cancelled and ask; True only if the user typed the number of runs.

    Call it from the main thread. SIGINT (Ctrl-C) and SIGTERM end the question; they are then delivered to whoever
    handled them before, so that the sweep ends as an interrupted one: let the event loop turn once before going on.

    Args:
        reader: of a ledger in which the decision stands: runs to cancel are pending, the others excluded.
        stdin: where the answer is typed.
        terminal: where the question is written; standard error, so that standard output keeps the result alone.
        no_color: plain text even on a terminal that knows colours.
        now: the moment at which ages are told; an aware datetime.
        cost: the price at which what was used is told; None where none is known.
        protection: what was asked to be spared; which of it spared nothing is told.
    """
    runs = reader.count("pending")
    paint = wants_colour(terminal, no_color=no_color)
    columns = columns_of(terminal)
    # The question's lines stand below, the one for the answer's cursor among them.
    rows = rows_of(terminal) - 1 - len(_question(runs, paint=False)) // columns
    text = decision_text(
        reader,
        columns=min(columns, WIDEST),
        rows=rows,
        now=now or datetime.now(UTC),
        cost=cost,
        protection=protection,
        paint=paint,
    )
    try:
        with _signals_end_the_question() as signalled:
            terminal.write(text)
            return _asked(runs, stdin, terminal, signalled, paint=paint)
    except (OSError, ValueError):  # a terminal that is gone, or that sends no text, gives no consent
        return False
    except _Interrupted:
        with contextlib.suppress(OSError, ValueError):
            terminal.write("\n")  # below the question, where the cursor stood
        return False


def _asked(runs: int, stdin: TextIO, terminal: TextIO, signalled: int, *, paint: bool) -> bool:
    question = _question(runs, paint=paint)
    _forget_what_was_typed_before(stdin)
    for attempt in range(TRIES):
        terminal.write(question)
        terminal.flush()
        if is_terminal(stdin):  # a signal between a look for signals and the reading of a line would go unheard
            select.select([stdin.fileno(), signalled], [], [])
        line = stdin.readline()
        if not line:
            terminal.write("\n")
            return False
        answer = line.strip()
        if answer in (str(runs), f"{runs:,}"):
            return True
        if not answer:
            return False
        said = f"{fit(printable(answer), 40)} is not the number of runs"
        terminal.write(f"{said}.\n" if attempt < TRIES - 1 else f"{said} either: nothing was cancelled.\n")
    return False


def _question(runs: int, *, paint: bool) -> str:
    them = "it" if runs == 1 else "them"
    return f"Type {_bold(str(runs), paint=paint)} to cancel {them}, or press Enter to leave {them} alone: "


def _forget_what_was_typed_before(stdin: TextIO) -> None:
    """A key pressed while the runs were looked for is no answer to a question that nobody had read."""
    if is_terminal(stdin):
        with contextlib.suppress(termios.error):
            termios.tcflush(stdin.fileno(), termios.TCIFLUSH)


# What is shown


@dataclass(frozen=True, slots=True)
class _Column:
    title: str
    values: list[str]
    right: bool = False

    @property
    def width(self) -> int:
        return max(cells(self.title), *(cells(value) for value in self.values))


def decision_text(
    reader: LedgerReader,
    *,
    columns: int,
    now: datetime,
    rows: int = 24,
    cost: Cost | None = None,
    protection: Protection = NO_PROTECTION,
    paint: bool = False,
) -> str:
    """The decision as a table by target and transform, and what is spared by which rule, in so many rows if it can."""
    largest: list[PendingGroup] = []
    runs = transforms = known = 0
    targets = set()
    hours = Tally()
    for group in reader.pending_groups(now):
        runs += group.runs
        transforms += 1
        targets.add(group.target)
        used = _dpu_hours(group)
        known += 0 if used is None else group.used_runs
        hours.add(used)
        if transforms <= MOST_GROUPS:
            largest.append(group)
    headline = f"{counted(runs, 'task run')} of {counted(transforms, 'transform')} would be cancelled"
    headline = f"{headline} in {_place(largest, len(targets))}:"
    first = ["", *(_bold(line, paint=paint) for line in _wrapped(headline, columns)), ""]
    last = []
    if hours.total is not None:
        part = "" if known == runs else f" by {known:,} of {counted(runs, 'run')} (the rest is not known)"
        used_so_far = f"an estimated {_amount(hours.total)} DPU-hours{part}{_price(hours, cost)}"
        last += _wrapped(f"Used so far: {used_so_far}.", columns)
    last += [*_wrapped("A cancelled run cannot be continued: its work has to be started anew.", columns), ""]
    rules = reader.excluded_by_rule()
    if (idle := protection.sparing_none([rule for rule, _ in rules])) is not None:
        last = [fit(f"Protection that spares no run: {printable(idle)}", columns - 1), "", *last]
    room = rows - len(first) - len(last) - 2 * (1 + bool(rules))  # a line above and one below each list
    rules_shown = _shown(len(rules), max(room // 3, room - transforms), MOST_RULES)
    groups_shown = _shown(transforms, room - rules_shown - (len(rules) > rules_shown), MOST_GROUPS)
    lines = [*first, *_table(largest[:groups_shown], now, columns, paint=paint)]
    if transforms > groups_shown:
        rest = runs - sum(group.runs for group in largest[:groups_shown])
        lines.append(f"{GAP}and {counted(transforms - groups_shown, 'transform')} more with {counted(rest, 'run')}")
    lines += ["", *_spared(rules, rules_shown, columns, paint=paint), *last]
    return "\n".join([*lines, ""])


def _shown(items: int, room: int, most: int) -> int:
    """How many items of a list get a line; one more tells the number of the others."""
    return items if items <= min(room, most) else min(items, most, max(LEAST_LINES, room - 1))


def _price(hours: Tally, cost: Cost | None) -> str:
    amount = money(hours.total, cost.price_per_dpu_hour) if cost is not None else None
    if cost is None or amount is None:
        return ""
    price = f"{cost.price_per_dpu_hour:g} a DPU-hour ({printable(cost.source)})"
    return f"; estimated {amount:,.2f} {printable(cost.currency)} at {price}"


def _place(groups: list[PendingGroup], targets: int) -> str:
    return printable(str(groups[0].target)) if targets == 1 else counted(targets, "target")


def _table(groups: list[PendingGroup], now: datetime, columns: int, *, paint: bool) -> list[str]:
    """A line for each group. What is told last gives way first where the terminal is narrow."""
    if not groups:
        return []
    room = columns - 1
    oldest = [group.oldest_started_on for group in groups]
    hours = [_dpu_hours(group) if group.used_runs == group.runs else None for group in groups]
    figures = [
        _Column("runs", [f"{group.runs:,}" for group in groups], right=True),
        _Column("oldest", ["?" if start is None else ago(now - start) for start in oldest], right=True),
        _Column("DPU-hours", ["?" if hour is None else _amount(hour) for hour in hours], right=True),
    ]
    several = len({group.target for group in groups}) > 1
    while len(figures) > 1 and _width(figures) + (1 + several) * (NARROWEST + len(GAP)) > room:
        figures.pop()
    left = room - _width(figures)
    where: list[_Column] = []
    if several:
        names = [printable(str(group.target)) for group in groups]
        most = max(NARROWEST, min(40, left - NARROWEST - 2 * len(GAP)))
        where = [_Column("target", [fit_id(name, most) for name in names])]
        left -= _width(where)
    types = _Column("task types", [printable(", ".join(group.task_types)) or "?" for group in groups])
    wanted = max(cells(_transform(group, WIDEST)) for group in groups)
    spare = left - max(NARROWEST, min(wanted, NAME_BEFORE_TYPES)) - 2 * len(GAP)
    if spare >= min(types.width, LEAST_OF_TYPES):
        types = _Column(types.title, [fit(value, spare) for value in types.values])
        figures.append(types)
        left -= _width([types])
    transforms = _Column("transform", [_transform(group, max(NARROWEST, left - len(GAP))) for group in groups])
    table = [*where, transforms, *figures]
    header = _row(table, [column.title for column in table])
    rows = [_row(table, list(values)) for values in zip(*(column.values for column in table), strict=True)]
    return [_dim(fit(header, room), paint=paint), *(fit(row, room) for row in rows)]


def _width(columns: list[_Column]) -> int:
    return sum(column.width + len(GAP) for column in columns)


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


def _dpu_hours(group: PendingGroup) -> float | None:
    """What the runs have used so far, as the report will reckon it; None where nothing is known of any."""
    capacity = dpu(group.transform)
    if capacity is None or not group.used_runs:
        return None
    return capacity * group.used_seconds / 3600


def _amount(hours: float) -> str:
    return f"{hours:,.1f}" if hours < 100 else f"{hours:,.0f}"


def _wrapped(sentence: str, columns: int) -> list[str]:
    return textwrap.wrap(sentence, max(20, columns - 1), break_on_hyphens=False)


def _spared(rules: list[tuple[str | None, int]], shown: int, columns: int, *, paint: bool) -> list[str]:
    if not rules:
        return []
    total = sum(number for _, number in rules)
    lines = [_bold(f"Left alone: {counted(total, 'run')}", paint=paint)]
    width = max(len(f"{number:,}") for _, number in rules[:shown])
    lines += [
        fit(f"{GAP}{number:>{width},}  {printable(rule or 'no rule named')}", columns - 1)
        for rule, number in rules[:shown]
    ]
    more = rules[shown:]
    if more:
        rest = counted(sum(number for _, number in more), "run")
        lines.append(f"{GAP}and {rest} by {counted(len(more), 'other rule')}")
    return [*lines, ""]


def _bold(text: str, *, paint: bool) -> str:
    return click.style(text, bold=True) if paint else text


def _dim(text: str, *, paint: bool) -> str:
    return click.style(text, dim=True) if paint else text


# Signals at the question


class _Interrupted(Exception):
    """A signal came while the question stood."""


@contextmanager
def _signals_end_the_question() -> Iterator[int]:
    """Let SIGINT and SIGTERM interrupt the reading of a line; one that was ignored before stays ignored.

    asyncio's handlers only wake its loop, which is not running while a line is read: the question would outlast them.
    The first ends the question, and no other interrupts that; afterwards all of them go to whoever handled them before.
    Gives a file descriptor that can be read from as soon as a signal came.
    """
    before = {signum: signal.getsignal(signum) for signum in (signal.SIGINT, signal.SIGTERM)}
    heard = [signum for signum, handler in before.items() if handler is not signal.SIG_IGN]
    came: list[int] = []
    asking = True

    def interrupt(signum: int, frame: FrameType | None) -> None:
        came.append(signum)
        if asking and len(came) == 1:
            raise _Interrupted

    signalled, wakeup = os.pipe()
    os.set_blocking(wakeup, False)
    wakeup_before = signal.set_wakeup_fd(wakeup)
    try:
        try:
            for signum in heard:
                signal.signal(signum, interrupt)
            yield signalled
        finally:
            asking = False
    finally:
        for signum in heard:
            signal.signal(signum, before[signum])
        signal.set_wakeup_fd(wakeup_before, warn_on_full_buffer=False)
        os.close(signalled)
        os.close(wakeup)
        for one in came:
            signal.raise_signal(one)
