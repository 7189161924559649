"""Progress on standard error: a live view on a terminal, lines elsewhere, drawn by a thread of its own.

Why a thread and not the event loop: a write to a terminal can block for as long as somebody likes (Ctrl-S, a hung ssh
connection, a full pipe), and a loop that is blocked sends no cancel requests and hears no answers. The loop's part of
the work is to count, about a microsecond an event; whatever can block or compute happens in the thread, at most eight
times a second.
"""

import os
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from types import TracebackType
from typing import Literal, TextIO

from batch_cancel.cli.progress.counters import Counters
from batch_cancel.cli.progress.log import Level, Record, Records, as_json, as_text
from batch_cancel.cli.progress.status import Status
from batch_cancel.cli.progress.terminal import Frame, Outlet
from batch_cancel.cli.progress.view import View
from batch_cancel.cli.wording import is_terminal, wants_colour, wrapped
from batch_cancel.core.events import Event

FRAME_SECONDS = 0.125
LIVE_AFTER_SECONDS = 0.2
LIVE_AT_LAST_SECONDS = 1.5
"""The live view loads rich when the first call was answered, so as not to compete with the imports of the AWS library;
and after so long in any case."""
LINE_SECONDS = 5.0
"""How often a plain line says where things stand, whether or not anything happened."""
STOPPED_SECONDS = 1.5
"""A tick that comes so late tells that the process was stopped (Ctrl-Z): the shell wrote below the frame since."""
MOST_WAITING = 20_000
"""Lines that wait for a slow terminal; past it the oldest are dropped, and their number is told."""
PATIENCE_SECONDS = 1.0
"""How long the end of a sweep waits for a terminal that does not take what is written to it."""


class Progress:
    """A context manager, and the ``on_event`` callable for a sweep.

    Args:
        stream: standard error; None where it was closed.
        quiet: errors, and what was stopped or not done; no warning that changes no outcome.
        verbose: each call, retry, acceptance and outcome too, with times.
        no_progress: no live view, no line every few seconds, none for each phase.
        log_format: ``json`` writes one object a line: ts, level, event, fields.
        threaded: False leaves it to the caller to call :meth:`tick`.
    """

    def __init__(
        self,
        stream: TextIO | None,
        *,
        quiet: bool = False,
        verbose: bool = False,
        no_progress: bool = False,
        log_format: Literal["text", "json"] = "text",
        no_color: bool = False,
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        threaded: bool = True,
    ) -> None:
        self.counters = Counters(clock)
        self._count = self.counters.count
        self._clock = clock
        self._now = now
        self._outlet = Outlet(stream)
        self._frame = Frame(self._outlet)
        self._status = Status(self.counters, clock())
        self._records = Records(self._status)
        self._least = Level.WARNING if quiet else Level.DEBUG if verbose else Level.INFO
        self._makers = self._records.makers(self._least, phases=not no_progress)
        self._json = log_format == "json"
        shown = not quiet and not no_progress
        smart = is_terminal(stream) and os.environ.get("TERM") != "dumb"
        self._live = shown and smart and not self._json
        self._lines = shown and not self._live
        self._on_terminal = smart and not self._json
        self._colour = wants_colour(stream, no_color=no_color)
        self._view: View | None = None
        self._waiting: deque[str] = deque()
        self._dropped = 0
        self._began_at = clock()
        self._next_frame_at = self._began_at + LIVE_AFTER_SECONDS
        self._next_line_at = self._began_at + LINE_SECONDS
        self._drawn: tuple[int, int, os.terminal_size, int] | None = None
        self._threaded = threaded
        self._thread: threading.Thread | None = None
        self._wake = threading.Event()
        self._pausing = False
        self._paused = threading.Event()
        self._paused_at: float | None = None
        self._closing = False

    # The event loop's side

    def __call__(self, event: Event) -> None:
        """Count an event; at once, and never raising."""
        self._count(event)
        maker = self._makers.get(type(event))
        if maker is not None:
            record = maker(event)
            if record is not None:
                self._write_record(record)

    def _write_record(self, record: Record) -> None:
        if record.level < self._least:
            return
        told = record.counted or record.level < Level.WARNING
        if self._live and self._least > Level.DEBUG and told and not record.lasting:
            return  # the live view tells it
        self._post(self._formatted(record))

    def _formatted(self, record: Record) -> str:
        if self._json:
            return as_json(record, self._now())
        if not self._on_terminal:
            return as_text(record, self._now())
        # With a line for each call it matters when; otherwise people see it as it happens.
        line = as_text(replace(record, command=None), self._now() if self._least is Level.DEBUG else None)
        line = wrapped(line, self._outlet.size().columns)
        return line if record.command is None else f"{line}\n  {record.command}"

    def _post(self, line: str) -> None:
        if len(self._waiting) >= MOST_WAITING:
            self._waiting.popleft()
            self._dropped += 1
        self._waiting.append(line)
        self._wake.set()

    def __enter__(self) -> "Progress":
        """Begin; on a terminal the live view appears a moment later."""
        if self._threaded and self._outlet.alive:
            self._thread = threading.Thread(target=self._run, name="progress", daemon=True)
            self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Write what waits, and take the live view away; a terminal that is stuck is left behind after a second."""
        self._closing = True
        if self._thread is None:
            self._finish()
            return
        self._wake.set()
        self._thread.join(PATIENCE_SECONDS)

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Inside, the terminal belongs to the caller: for a question. Counting goes on."""
        self._pausing = True
        if self._thread is None:
            self.tick()
        else:
            self._wake.set()
            self._paused.wait(PATIENCE_SECONDS)
        try:
            yield
        finally:
            self._pausing = False
            self._paused.clear()
            self._drawn = None
            self._wake.set()

    # The thread's side

    def _run(self) -> None:
        try:
            self._keep_drawing()
        except Exception as error:  # a view that fails is a view less, and nothing else
            self._outlet.write(f"\n(progress is no longer shown: {type(error).__name__}: {error})\n")
            self._paused.set()

    def _keep_drawing(self) -> None:
        while not self._closing and self._outlet.alive:
            before = self._clock()
            self._wake.wait(FRAME_SECONDS)
            self._wake.clear()
            if self._clock() - before > STOPPED_SECONDS:
                self._frame.leave()
                self._drawn = None
                self._status.forget_speeds()
            self.tick()
            if self._least is Level.DEBUG:
                time.sleep(FRAME_SECONDS / 2)  # lines come in hundreds a second: write them together
        self._finish()

    def tick(self) -> None:
        """Look at the clock, and draw or write what is due."""
        if self._pausing:
            if not self._paused.is_set():
                self._write_waiting()
                self._frame.erase()
                self._paused_at = self._clock()
                self._paused.set()
            return
        now = self._clock()
        if self._paused_at is not None:
            self._status.leave_out(now - self._paused_at)
            self._paused_at = None
        self._status.update(now)
        if self._lines and now >= self._next_line_at:
            self._next_line_at = now + LINE_SECONDS
            self._waiting.append(self._formatted(self._records.progress()))
        if self._live and now >= self._next_frame_at and self._may_go_live(now):
            self._draw(now)
        elif self._waiting and (not self._live or self._view is None):
            self._write_waiting()

    def _may_go_live(self, now: float) -> bool:
        return self._view is not None or self.counters.calls > 0 or now - self._began_at >= LIVE_AT_LAST_SECONDS

    def _draw(self, now: float) -> None:
        if self._view is None:
            self._view = View(self._status, colour=self._colour, unicode=self._outlet.unicode)
        self._next_frame_at = now + FRAME_SECONDS
        if not self._outlet.in_foreground():
            self._frame.leave()
            self._drawn = None
            return
        size = self._outlet.size()
        shown = (self.counters.events, int(self._status.elapsed_seconds), size, self._outlet.typed())
        if shown == self._drawn and not self._waiting:
            return
        self._drawn = shown
        self._frame.draw(self._view.lines(size.columns, size.lines), size.columns, self._taken())

    def _write_waiting(self) -> None:
        if text := self._taken():
            self._outlet.write(text)

    def _taken(self) -> str:
        """The lines that wait, as one text."""
        lines = [self._waiting.popleft() for _ in range(len(self._waiting))]
        if self._dropped:
            lines.insert(0, f"({self._dropped:,} lines were left out: this output is read too slowly)")
            self._dropped = 0
        return "".join(f"{line}\n" for line in lines)

    def _finish(self) -> None:
        self._status.update(self._clock())
        self._frame.erase()
        self._write_waiting()
