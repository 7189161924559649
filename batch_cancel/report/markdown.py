"""``report.md``: for a ticket, a pull request or ``$GITHUB_STEP_SUMMARY``; trouble first, long lists folded and cut."""

import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, TextIO

from batch_cancel.core.outcome import TROUBLE, Outcome, words_of
from batch_cancel.core.wording import one_line
from batch_cancel.report.advice import next_steps
from batch_cancel.report.document import Document, explains
from batch_cancel.report.story import (
    Level,
    came_back_in_words,
    came_back_title,
    facts_in_words,
    headline,
    how_it_came_back,
    meaning,
    runs,
    source_in_words,
    sparing_none_in_words,
    troubles,
)

LARGEST_BYTES = 850_000
"""GitHub takes a step summary of up to 1 MiB; past it, it shows nothing at all."""
MOST_ROWS = 500
"""Of one folded list."""
MOST_CAME_BACK = 100
MOST_TROUBLES = 50
MOST_RULES = 50
_LONGEST_CELL = 300
_KEPT_BYTES = 8_000
"""Of the room, for what closes a list and stands after the last one."""

_MARKS = {Level.GOOD: "✅", Level.WARN: "⚠️", Level.BAD: "❌"}
# Not an underscore or a dollar sign inside a word: they are plain text there.
_SPECIAL = re.compile(r"[\\`*\[\]|~<>&@$]|(?<!\w)_|_(?!\w)|:(?=//|[\w+-]+:)|(?<=[wW])\.")
_LISTED = (*TROUBLE, Outcome.STOPPING, Outcome.WOULD_CANCEL, Outcome.FINISHED_FIRST)
"""Outcomes whose runs are listed; the others are in the CSV."""


def write_markdown(document: Document, directory: Path, out: TextIO) -> None:
    """Write the report. ``directory`` is what its commands name."""
    _Page(out).write(document, directory)


class _Page:
    """Writes lines and knows how much room is left."""

    def __init__(self, out: TextIO) -> None:
        self._out = out
        self._room = LARGEST_BYTES

    def write(self, document: Document, directory: Path) -> None:
        first = headline(document)
        name = document.facts.get("name") or document.facts.get("sweep_id") or "sweep"
        self.line(f"## {_MARKS[first.level]} batch-cancel: {foreign(str(name))}", "", f"**{escaped(first.text)}**", "")
        if document.outcomes:
            self.line("| outcome | runs | what it means |", "|---|--:|---|")
            for outcome, count in document.outcomes.items():
                self.line(f"| {words_of(outcome)} | {count:,} | {meaning(document, outcome)} |")
        self._troubles(document)
        self._steps(document, directory)
        self._left_alone(document)
        words = list(facts_in_words(document))
        if words:
            self.line("", "### In figures", "", *(f"- {escaped(sentence)}" for sentence in words))
        self._came_back(document)
        self._targets(document)
        self._runs(document)
        self._rejected(document)
        self.line("", f"<sub>{' · '.join(_identity(document))}</sub>")

    def line(self, *lines: str) -> None:
        for line in lines:
            self._room -= len(line.encode("utf-8", "backslashreplace")) + 1
            self._out.write(line + "\n")

    def _left_alone(self, document: Document) -> None:
        rules, idle = document.left_alone, sparing_none_in_words(document)
        if rules or idle:
            self.line("", "### Left alone", "")
        if rules:
            rows = [(foreign(rule), f"{count:,}") for rule, count in rules]
            self._table(("rule", "runs"), rows, MOST_RULES, len(rows))
        if idle:
            self.line("", escaped(idle))

    def _troubles(self, document: Document) -> None:
        rows = [
            (foreign(trouble.place), trouble.what, foreign(trouble.detail) if trouble.detail else "")
            for trouble in troubles(document)
        ]
        if rows:
            self.line("", "### What went wrong", "")
            self._table(("where", "what", "why"), rows, MOST_TROUBLES, len(rows))

    def _steps(self, document: Document, directory: Path) -> None:
        steps = list(next_steps(document, directory))
        if steps:
            self.line("", "### Next")
        for step in steps:
            self.line("", escaped(step.text))
            if step.command is not None:
                command = one_line(step.command)
                fence = "`" * max(3, 1 + max((len(ticks) for ticks in re.findall("`+", command)), default=0))
                self.line("", f"{fence}sh", command, fence)

    def _came_back(self, document: Document) -> None:
        words = came_back_in_words(document)
        if words is None:
            return
        self.line("", f"### {came_back_title(document)}", "", words)
        count = document.active_again + document.started_meanwhile
        header = ("sweep", "how", "outcome", "target", "transform", "task run")
        rows = (
            (
                f"{run['sweep_number']:,}",
                how_it_came_back(run),
                words_of(run["outcome"]),
                *_cells(run)[:3],
            )
            for run in document.came_back()
        )
        self._folded(f"{runs(count)} of later sweeps", header, rows, count, MOST_CAME_BACK)

    def _targets(self, document: Document) -> None:
        targets = document.summary_of_targets()
        if not targets:
            return
        rows = (
            (
                foreign(f"{target['account_id'] or 'not known'}/{target['region']}"),
                "yes" if target["complete"] else "**no**",
                _number(target["active_runs"]),
                ", ".join(f"{count:,} {words_of(name)}" for name, count in target["outcomes"].items()),
                _number(target["estimated_dpu_hours"]),
                foreign(target["identity_arn"]) if target["identity_arn"] else "",
            )
            for target in targets
        )
        header = ("target", "read to the end", "active runs", "outcomes", "estimated DPU-hours", "identity")
        self._folded(f"Targets ({len(targets):,})", header, rows, len(targets))

    def _runs(self, document: Document) -> None:
        header = ("target", "transform", "task run", "type", "started", "status", "error")
        for outcome in _LISTED:
            count = document.outcomes.get(outcome, 0)
            if count:
                title = f"{runs(count)} {words_of(outcome)}"
                self._folded(title, header, (_cells(run) for run in document.runs(outcome)), count)

    def _rejected(self, document: Document) -> None:
        count = document.reader.rejected_count()
        if count:
            rows = (
                (_number(row["line"]), foreign(row["text"] or ""), foreign(row["error"])) for row in document.rejected()
            )
            self._folded(f"Rows of the manifest that were left out ({count:,})", ("line", "text", "why"), rows, count)

    def _folded(
        self, title: str, header: Sequence[str], rows: Iterable[Sequence[str]], count: int, most: int = MOST_ROWS
    ) -> None:
        if self._room < 2 * _KEPT_BYTES:  # hardly a row would fit
            self.line("", f"{title}: see report.csv.")
            return
        self.line("", f"<details><summary>{title}</summary>", "")
        self._table(header, rows, most, count)
        self.line("", "</details>")

    def _table(self, header: Sequence[str], rows: Iterable[Sequence[str]], most: int, count: int) -> None:
        self.line(f"| {' | '.join(header)} |", "|---" * len(header) + "|")
        shown = 0
        for cells in rows:
            line = f"| {' | '.join(cells)} |"
            if shown == most or self._room - len(line.encode("utf-8", "backslashreplace")) < _KEPT_BYTES:
                break
            self.line(line)
            shown += 1
        if shown < count:
            self.line("", f"… and {count - shown:,} more, in report.json and report.csv.")


def _cells(run: dict[str, Any]) -> Sequence[str]:
    transform = foreign(run["transform_id"])
    if run["transform_name"]:
        transform = f"{foreign(run['transform_name'])} {transform}"
    before, after = run["status_before"], run["status_after"]
    explained = explains(run["outcome"], run["error_message"])
    error = (run["error_code"], run["error_message"]) if explained else ()
    return (
        foreign(f"{run['account_id'] or 'not known'}/{run['region']}"),
        transform,
        foreign(run["task_run_id"]),
        foreign(run["task_type"] or ""),
        (run["started_on"] or "")[:19].replace("T", " "),
        " → ".join(status for status in (before, after) if status),
        foreign(": ".join(word for word in error if word)),
    )


def _identity(document: Document) -> Iterator[str]:
    facts = document.facts
    for label, value in (
        ("sweep", facts.get("sweep_id")),
        ("mode", facts.get("mode")),
        ("reason", facts.get("reason")),
        ("source", source_in_words(document)),
        ("digest", document.digest),
    ):
        if value:
            yield f"{label} {foreign(str(value))}"
    for label, key in (("started", "started_at"), ("finished", "finished_at"), ("exit code", "exit_code")):
        value = facts.get(key)
        yield f"{label} {'not yet' if value is None else foreign(str(value))}"
    yield f"batch-cancel {escaped(str(facts.get('tool_version') or ''))}".rstrip()


def foreign(text: str) -> str:
    """Text from outside: cut, on one line, as code, in which GitHub looks for no mention, link or reference.

    A fence of backticks that is longer than any in it (CommonMark, "Code spans"). A pipe would end a table's cell even
    there, and how a backslash before it counts differs between renderers: such text stands as HTML instead.
    """
    if not text:
        return ""
    cut = one_line(text if len(text) <= _LONGEST_CELL else text[: _LONGEST_CELL - 1] + "…")
    if "|" in cut:
        return f"<code>{escaped(cut)}</code>"
    fence = "`" * (1 + max((len(ticks) for ticks in re.findall("`+", cut)), default=0))
    # One space is taken away at both ends if both have one, and a backtick there would lengthen the fence.
    pad = " " if cut.strip(" ") and (cut[0] in "` " or cut[-1] in "` ") else ""
    return f"{fence}{pad}{cut}{pad}{fence}"


def escaped(text: str) -> str:
    """Text in which nothing is taken for Markdown or HTML: every character that could be is a character reference."""
    return _SPECIAL.sub(lambda match: f"&#{ord(match[0])};", one_line(text))


def _number(number: float | None) -> str:
    return "" if number is None else f"{number:,.1f}" if isinstance(number, float) else f"{number:,}"
