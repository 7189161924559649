"""The summary that ``run`` prints on standard output: calm, aligned, trouble first."""

import shutil
import sys
import textwrap
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path

from batch_cancel.core.outcome import NOT_STOPPED, Outcome, words_of
from batch_cancel.core.wording import counted, one_line
from batch_cancel.ledger.reader import LedgerReader, PendingGroup
from batch_cancel.report.advice import next_steps
from batch_cancel.report.document import Document
from batch_cancel.report.story import (
    came_back_in_words,
    came_back_title,
    facts_in_words,
    headline,
    how_it_came_back,
    meaning,
    runs,
    sparing_none_in_words,
    troubles,
)

WIDEST = 100
NARROWEST = 40
WIDTH = 80
"""Where standard output is no terminal."""
MOST_TROUBLES = 12
"""So many causes are written out; the reports have them all."""
MOST_CAME_BACK = 10
MOST_GROUPS = 10
MOST_RULES = 10
MOST_NAMED = 10
_LONGEST_DETAIL = 200
_LONGEST_ID = 72
"""Ids of AWS Glue are shorter; the API's pattern allows up to 255 characters."""


def text_summary(
    reader: LedgerReader, directory: Path, reports: Sequence[Path] = (), *, width: int | None = None
) -> str:
    """What a person reads at the end of a sweep.

    Args:
        directory: the run directory, as commands name it.
        reports: the files that were written.
        width: in columns; None for that of the terminal that standard output is.
    """
    return "\n".join(_lines(Document(reader), directory, reports, width or _width())) + "\n"


def _width() -> int:
    """The terminal's width within bounds: a line of more than a hundred columns is hard to read."""
    if sys.stdout is None or sys.stdout.closed or not sys.stdout.isatty():
        return WIDTH
    return max(NARROWEST, min(WIDEST, shutil.get_terminal_size((WIDTH, 24)).columns))


def _lines(document: Document, directory: Path, reports: Sequence[Path], width: int) -> Iterator[str]:
    yield from _wrapped(one_line(headline(document).text), width)
    yield from _outcomes(document, width)
    yield from _headed("What went wrong", _troubles(document), width)
    yield from _headed("Not seen stopped", _not_stopped(document), width)
    yield from _would_cancel(document, width)
    yield from _left_alone(document, width)
    yield from _headed(came_back_title(document), _came_back(document), width)
    yield from _headed("In figures", (one_line(words) for words in facts_in_words(document)), width)
    yield from _headed("Next", _steps(document, directory), width)
    yield from _headed("Reports", (one_line(str(path)) for path in reports), None)


def _outcomes(document: Document, width: int) -> Iterator[str]:
    if not document.outcomes:
        return
    yield ""
    digits = max(len(f"{count:,}") for count in document.outcomes.values())
    names = max(map(len, document.outcomes))
    for outcome, count in document.outcomes.items():
        start = f"  {count:>{digits},}  {words_of(outcome):<{names}}  "
        yield from _wrapped(meaning(document, outcome), width, start, " " * len(start))


def _headed(title: str, lines: Iterator[str], width: int | None) -> Iterator[str]:
    """A paragraph with its title; lines that begin with a space stay whole, as all do where there is no width."""
    first = next(lines, None)
    if first is None:
        return
    yield from ("", title)
    for line in (first, *lines):
        # A command stays on one line, to be copied.
        yield from (f"  {line}",) if width is None or line.startswith(" ") else _wrapped(line, width, "  ", "    ")


def _would_cancel(document: Document, width: int) -> Iterator[str]:
    """Of a dry run, the transforms of which it would cancel most."""
    if not document.whole.outcomes[Outcome.WOULD_CANCEL]:
        return
    yield from ("", "What would be cancelled")
    groups = document.reader.pending_groups(dry_run=True)
    rows = [(group.runs, one_line(_group(group))) for group in islice(groups, MOST_GROUPS)]
    yield from _counts(rows, width)
    if more := [group.runs for group in groups]:
        yield f"  and {counted(len(more), 'transform')} more with {runs(sum(more))}"


def _group(group: PendingGroup) -> str:
    transform = _id(group.transform.name or group.transform.transform_id)
    start = group.oldest_started_on
    oldest = "" if start is None else f", since {start:%Y-%m-%d %H:%M}Z"
    return f"{transform} in {group.target.account_id or 'account not known'}/{group.target.region}{oldest}"


def _left_alone(document: Document, width: int) -> Iterator[str]:
    """How many runs each rule left alone: a rule that is wrong shows in its number."""
    rules, idle = document.left_alone, sparing_none_in_words(document)
    if rules or idle:
        yield from ("", "Left alone")
    yield from _counts([(count, one_line(_cut(rule))) for rule, count in rules[:MOST_RULES]], width)
    if more := rules[MOST_RULES:]:
        yield f"  and {runs(sum(count for _, count in more))} by {counted(len(more), 'other rule')}"
    if idle:
        yield from _wrapped(one_line(idle), width, "  ", "    ")


def _counts(rows: Sequence[tuple[int, str]], width: int) -> Iterator[str]:
    """Numbers below each other, each with what it counts."""
    digits = max((len(f"{count:,}") for count, _ in rows), default=0)
    for count, text in rows:
        start = f"  {count:>{digits},}  "
        # The indent is given apart, because a line that is wrapped has no run of spaces to keep.
        yield from _wrapped(text, width, start, " " * len(start))


def _troubles(document: Document) -> Iterator[str]:
    more = 0
    for number, trouble in enumerate(troubles(document)):
        if number >= MOST_TROUBLES:
            more += 1
            continue
        detail = f" ({one_line(_cut(trouble.detail))})" if trouble.detail else ""
        yield f"{one_line(trouble.place)}: {trouble.what}{detail}"
    if more:
        yield f"and {more:,} more; the reports have them all"


def _not_stopped(document: Document) -> Iterator[str]:
    """The first runs, by name, that somebody has to look after; those that nobody asked for are no news."""
    of_interest = [outcome for outcome in NOT_STOPPED if document.whole.outcomes[outcome]]
    if not of_interest:
        return
    for run in islice(document.runs(*of_interest), MOST_NAMED):
        where = f"{run['account_id'] or 'account not known'}/{run['region']}"
        transform = run["transform_name"] or run["transform_id"]
        status = f", {run['status_after']} when last read" if run["status_after"] else ""
        outcome = words_of(run["outcome"])
        yield one_line(f"{_id(run['task_run_id'])} of {_id(transform)} in {where}: {outcome}{status}")
    more = sum(document.whole.outcomes[outcome] for outcome in of_interest) - MOST_NAMED
    if more > 0:
        yield f"and {more:,} more; the reports have them all"


def _came_back(document: Document) -> Iterator[str]:
    words = came_back_in_words(document)
    if words is None:
        return
    yield words
    for run in islice(document.came_back(), MOST_CAME_BACK):
        where = f"{run['account_id'] or 'account not known'}/{run['region']}"
        outcome = words_of(run["outcome"])
        transform = run["transform_name"] or run["transform_id"]
        told = f"sweep {run['sweep_number']}, {how_it_came_back(run)}, now {outcome}"
        yield one_line(f"{_id(run['task_run_id'])} of {_id(transform)} in {where}: {told}")
    more = document.active_again + document.started_meanwhile - MOST_CAME_BACK
    if more > 0:
        yield f"and {more:,} more; the reports have them all"


def _steps(document: Document, directory: Path) -> Iterator[str]:
    for step in next_steps(document, directory):
        yield step.text
        if step.command is not None:
            yield "  " + one_line(step.command)


def _wrapped(line: str, width: int, first: str = "", others: str = "") -> Iterator[str]:
    yield from textwrap.wrap(
        line,
        width,
        initial_indent=first,
        subsequent_indent=others,
        break_long_words=False,
        break_on_hyphens=False,
    )


def _id(text: str) -> str:
    """An overlong id cut in its middle: its two ends tell it from its neighbours."""
    return text if len(text) <= _LONGEST_ID else f"{text[: _LONGEST_ID // 2]}…{text[1 - _LONGEST_ID // 2 :]}"


def _cut(text: str) -> str:
    return text if len(text) <= _LONGEST_DETAIL else text[: _LONGEST_DETAIL - 1] + "…"
