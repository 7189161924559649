"""The live view: a status as a few lines that fit the terminal. The one place that knows rich, and loads it late."""

from typing import Any

from batch_cancel.cli.progress.status import Status
from batch_cancel.cli.progress.terminal import Line
from batch_cancel.cli.wording import cause, clock
from batch_cancel.core.outcome import NOT_STOPPED, Outcome, words_of
from batch_cancel.core.wording import printable

LABEL = 11
BAR_FROM, WIDE_FROM = 60, 120
"""Columns from which there is room for a bar, and for a long one."""
TARGETS_SHOWN = 4
ASCII = str.maketrans({"━": "=", "╸": "-", "┈": ".", "·": "-", "…": "~"})
GOOD = (Outcome.STOPPED, Outcome.FINISHED_FIRST, Outcome.ALREADY_FINISHED)


class View:
    """Draws a status with rich's text and colours; lines that did not change are not rendered anew.

    Only the sixteen colours that every terminal's theme sets are used, and no background, so that the view is legible
    on light and on dark.
    """

    def __init__(self, status: Status, *, colour: bool, unicode: bool) -> None:
        from rich.console import Console  # noqa: PLC0415  # 60 ms that the first cancel call does not wait for
        from rich.text import Text  # noqa: PLC0415

        self._status = status
        self._text = Text
        self._unicode = unicode
        self._console = Console(
            width=1_000, force_terminal=True, color_system="standard" if colour else None, highlight=False, markup=False
        )
        self._colour = colour
        self._rendered: dict[tuple[tuple[str, str], ...], Line] = {}

    def lines(self, columns: int, rows: int) -> list[Line]:
        """The frame: at most a line less than the terminal has, each at least a column narrower."""
        width = max(1, columns - 1)
        content = [self._headline(), *self._phases(columns), *self._figures(width)]
        if content and rows > len(content) + 2:
            content = [[("", "")], *content]
        return self._rendered_lines(content[: max(1, rows - 1)], width)

    # What is said, as (text, style) pieces

    def _headline(self) -> list[tuple[str, str]]:
        status = self._status
        style = "bold magenta" if status.counters.stop_cause else "bold"
        pieces = [(status.title(), style)]
        if eta := status.eta():
            pieces.append((f": {eta}", ""))
        return [*pieces, (f" · {clock(status.elapsed_seconds)}", "dim")]

    def _phases(self, columns: int) -> list[list[tuple[str, str]]]:
        bar = 0 if columns < BAR_FROM else 40 if columns >= WIDE_FROM else 16
        lines: list[list[tuple[str, str]]] = []
        if resumed := self._status.resumed():
            lines.append([(_label("resumed"), "dim"), (resumed, "dim")])
        for line in self._status.phase_lines():
            pieces = [(f"  {line.name:<{LABEL}}", "dim" if line.ended else "")]
            if bar:
                pieces += self._bar(line.fraction, bar, ended=line.complete)
                pieces.append(("  ", ""))
            pieces.append((line.says, "dim" if line.ended else ""))
            lines.append(pieces)
        return lines

    def _bar(self, fraction: float | None, width: int, *, ended: bool) -> list[tuple[str, str]]:
        filled = int((fraction or 0.0) * width * 2)
        done = "━" * (filled // 2) + ("╸" if filled % 2 else "")
        rest = "━" if self._colour else "┈"
        return [(done, "green" if ended else "cyan"), (rest * (width - len(done)), "bright_black")]

    def _figures(self, width: int) -> list[list[tuple[str, str]]]:
        status = self._status
        lines: list[list[tuple[str, str]]] = []
        if waiting := status.waiting():
            lines.append([(_label("waits for"), "dim"), (waiting, "")])
        lines += [[(_label("" if number else "rate"), "dim"), (says, "")] for number, says in enumerate(status.rates())]
        if friction := status.friction():
            lines.append([(_label("slowed by"), "dim"), (friction, "")])
        if failures := status.failures():
            lines.append([(_label("failed"), "dim"), (failures, "")])
        lines += self._outcomes(width)
        if estimate := status.estimate():
            lines.append([(_label("estimated"), "dim"), (estimate, ""), (" used by the runs that were stopped", "dim")])
        trouble = status.counters.trouble()
        for number, (target, code, message) in enumerate(trouble[:TARGETS_SHOWN]):
            pieces = [(_label("trouble" if number == 0 else ""), "dim"), (printable(target), "bold red")]
            lines.append([*pieces, (f"  {cause(code, message)}", "")])
        more = len(trouble) - TARGETS_SHOWN
        if more > 0:
            lines.append([(_label(""), ""), (f"and {more:,} more", "dim")])
        return [[("", "")], *lines] if lines else []

    def _outcomes(self, width: int) -> list[list[tuple[str, str]]]:
        """As many lines as the outcomes need; none is cut."""
        lines: list[list[tuple[str, str]]] = []
        room = 0
        for outcome, number in self._status.outcomes():
            text = f"{number:,} {words_of(outcome)}"
            style = "bold red" if outcome in NOT_STOPPED else "green" if outcome in GOOD else ""
            if not lines or len(text) + 3 > room:
                lines.append([(_label("" if lines else "outcomes"), "dim"), (text, style)])
                room = width - LABEL - 2 - len(text)
            else:
                lines[-1] += [(" · ", "dim"), (text, style)]
                room -= len(text) + 3
        return lines

    # How it becomes characters

    def _rendered_lines(self, content: list[list[tuple[str, str]]], width: int) -> list[Line]:
        known, self._rendered = self._rendered, {}
        lines = []
        for pieces in content:
            key = ((str(width), ""), *pieces)
            line = self._rendered[key] = known.get(key) or self._render(pieces, width)
            lines.append(line)
        return lines

    def _render(self, pieces: list[tuple[str, str]], width: int) -> Line:
        text: Any = self._text.assemble(*(piece if self._colour else piece[0] for piece in pieces))
        text.truncate(width, overflow="ellipsis")
        with self._console.capture() as capture:
            self._console.print(text, end="", soft_wrap=True)
        written = capture.get()
        return Line(written if self._unicode else written.translate(ASCII), text.cell_len)


def _label(text: str) -> str:
    return f"  {text:<{LABEL}}"
