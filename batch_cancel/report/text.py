"""The summary that ``run`` prints on standard output: calm, aligned, trouble first."""

import textwrap
from collections.abc import Iterator, Sequence
from pathlib import Path

from batch_cancel.ledger.reader import LedgerReader
from batch_cancel.report.document import Document
from batch_cancel.report.story import MEANING, facts_in_words, headline, next_steps, troubles

WIDTH = 100
MOST_TROUBLES = 12
"""So many causes are written out; the reports have them all."""
_LONGEST_DETAIL = 200


def text_summary(reader: LedgerReader, directory: Path, reports: Sequence[Path] = ()) -> str:
    """What a person reads at the end of a sweep; ``reports`` are the files that were written."""
    return "\n".join(_lines(Document(reader), directory, reports)) + "\n"


def _lines(document: Document, directory: Path, reports: Sequence[Path]) -> Iterator[str]:
    yield from _wrapped(_printable(headline(document).text))
    if document.outcomes:
        yield ""
    for outcome, count in document.outcomes.items():
        yield f"{count:>9,}  {outcome:<16}  {MEANING[outcome]}"
    yield from _headed("What went wrong", _troubles(document))
    yield from _headed("In figures", (_printable(words) for words in facts_in_words(document)))
    yield from _headed("Next", _steps(document, directory))
    yield from _headed("Reports", (_printable(str(path)) for path in reports), wrap=False)


def _headed(title: str, lines: Iterator[str], *, wrap: bool = True) -> Iterator[str]:
    first = next(lines, None)
    if first is None:
        return
    yield from ("", title)
    for line in (first, *lines):
        yield from _wrapped(line, "  ") if wrap else (f"  {line}",)


def _troubles(document: Document) -> Iterator[str]:
    more = 0
    for number, trouble in enumerate(troubles(document)):
        if number >= MOST_TROUBLES:
            more += 1
            continue
        detail = f" ({_printable(_cut(trouble.detail))})" if trouble.detail else ""
        yield f"{_printable(trouble.place)}: {trouble.what}{detail}"
    if more:
        yield f"and {more:,} more; the reports have them all"


def _steps(document: Document, directory: Path) -> Iterator[str]:
    for step in next_steps(document, directory):
        yield step.text
        if step.command is not None:
            yield "  " + _printable(step.command)


def _wrapped(line: str, indent: str = "") -> Iterator[str]:
    own = " " * (len(line) - len(line.lstrip()))
    if own or len(indent + line) <= WIDTH:  # a command stays on one line, to be copied
        yield indent + line
        return
    yield from textwrap.wrap(
        line,
        WIDTH,
        initial_indent=indent,
        subsequent_indent=indent + "  " if indent else "",
        break_long_words=False,
        break_on_hyphens=False,
    )


def _cut(text: str) -> str:
    return text if len(text) <= _LONGEST_DETAIL else text[: _LONGEST_DETAIL - 1] + "…"


def _printable(text: str) -> str:
    """Text from outside on one line, with nothing in it that could move a terminal's cursor or turn its text round."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape", "backslashreplace").decode() for c in text)
