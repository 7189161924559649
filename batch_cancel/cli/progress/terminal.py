"""Writing to standard error so that it can never hurt the sweep, and keeping a few lines of it up to date in place.

Nothing has to be put back afterwards: the cursor is never hidden and rests below the frame, there is no other screen,
and the keyboard is left as it was. A process that is killed leaves a healthy terminal.
"""

import fcntl
import os
import select
import sys
import termios
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TextIO

FALLBACK_SIZE = os.terminal_size((80, 24))


class Outlet:
    """A stream, written to past its buffers.

    A closed pipe or terminal is noticed once and then left in peace. ``os.write`` holds no lock that the end of the
    interpreter would wait for, so a thread that is stuck in it (a terminal stopped with Ctrl-S) can be left behind.
    """

    def __init__(self, stream: TextIO | None) -> None:
        self._stream = stream
        self._fd: int | None = None
        self.alive = stream is not None
        self.encoding = "utf-8"
        if stream is None:
            return
        self.encoding = getattr(stream, "encoding", None) or "utf-8"
        try:
            stream.flush()
            self._fd = stream.fileno()
        except ValueError:  # closed, or (io.UnsupportedOperation) a stream of the process alone
            self.alive = not stream.closed
        except OSError:
            self.alive = False

    @property
    def unicode(self) -> bool:
        """Whether more than ASCII can be written."""
        return self.encoding.lower().replace("-", "").startswith("utf")

    def size(self) -> os.terminal_size:
        """The terminal's size at this moment."""
        try:
            size = os.get_terminal_size(self._fd if self._fd is not None else -1)
        except OSError:
            return FALLBACK_SIZE
        return size if size.columns > 0 and size.lines > 0 else FALLBACK_SIZE

    def in_foreground(self) -> bool:
        """Whether the terminal is ours just now: a job in the background does not draw over the shell."""
        try:
            return self._fd is None or os.tcgetpgrp(self._fd) == os.getpgrp()
        except OSError:
            return True  # not our controlling terminal

    def typed(self) -> int:
        """How many characters were typed and read by nobody, up to the last Enter; it is told without reading them."""
        if self._fd is None:
            return 0
        try:
            return int.from_bytes(fcntl.ioctl(self._fd, termios.FIONREAD, bytes(4)), sys.byteorder)
        except OSError:
            return 0  # no terminal

    def write(self, text: str) -> None:
        """Write, or find out that nobody listens any more."""
        if not self.alive:
            return
        data = text.encode(self.encoding, "backslashreplace")
        try:
            if self._fd is None:
                assert self._stream is not None  # noqa: S101  # alive
                self._stream.write(text)
                self._stream.flush()
            while self._fd is not None and data:
                data = data[self._write_some(self._fd, data) :]
        except (OSError, ValueError):
            self.alive = False

    def _write_some(self, fd: int, data: bytes) -> int:
        try:
            return os.write(fd, data)
        except BlockingIOError:  # somebody who shares the terminal with us made it non-blocking
            poll = select.poll()
            poll.register(fd, select.POLLOUT)
            poll.poll()
            return 0


@dataclass(frozen=True, slots=True)
class Line:
    """One line of a frame: what is written, and how many columns it takes."""

    text: str
    cells: int


class Frame:
    """A few lines at the end of a terminal's output, drawn anew in place; only lines that changed are written."""

    def __init__(self, outlet: Outlet) -> None:
        self._outlet = outlet
        self._lines: list[Line] = []
        self._columns = 0
        self._typed = outlet.typed()
        self._below = 0
        """Lines by which the cursor was moved on from where it rested."""

    def draw(self, lines: Sequence[Line], columns: int, above: str = "") -> None:
        """Show these lines, none wider than the terminal, below whatever text goes ``above`` them for good."""
        self._heed_the_keyboard()
        moved = self._below > 0 or columns != self._columns
        up = self._to_its_top(columns)
        if above or moved:
            parts = [up, "\x1b[J" if self._lines else "", above, *(line.text + "\n" for line in lines)]
        else:
            parts = [up]
            for number, line in enumerate(lines):
                same = number < len(self._lines) and self._lines[number] == line
                parts.append("\n" if same else f"{line.text}\x1b[K\n")
            if len(lines) < len(self._lines):
                parts.append("\x1b[J")
        self._lines, self._columns = list(lines), columns
        self._outlet.write("".join(parts))

    def erase(self) -> None:
        """Take the frame away."""
        self._heed_the_keyboard()
        if self._lines:
            self._outlet.write(self._to_its_top(self._outlet.size().columns) + "\x1b[J")
        self.leave()

    def leave(self) -> None:
        """Let the frame stand where it is; the next one starts below."""
        self._lines = []
        self._below = 0

    def _heed_the_keyboard(self) -> None:
        """Who presses Enter to see whether it is still alive moves the cursor, as the terminal echoes it.

        By how many lines is certain where it was Enter and nothing else. What was typed otherwise stays readable.
        """
        before, self._typed = self._typed, self._outlet.typed()
        if self._typed == before + 1:
            self._below += 1
        elif self._typed > before:
            self.leave()

    def _to_its_top(self, columns: int) -> str:
        # A terminal that became narrower has folded the lines that no longer fitted.
        rows = sum(max(1, -(-line.cells // columns)) for line in self._lines)
        rows += self._below if self._lines else 0
        self._below = 0
        return f"\r\x1b[{rows}A" if rows else ""
