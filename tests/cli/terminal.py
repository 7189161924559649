"""A terminal to test with: a pseudo-terminal whose keyboard and screen the test holds."""

import contextlib
import fcntl
import os
import re
import select
import struct
import subprocess
import sys
import termios
from collections.abc import Mapping
from typing import Literal, TextIO

PATIENCE_SECONDS = 20.0
"""How long something that has to come is waited for; no test is about time."""
LEADER = """
import fcntl, os, sys, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
os.execv(sys.executable, sys.argv[1:])
"""
"""Makes the terminal the controlling one of a program before it starts."""
CONTROL = re.compile(r"\x1b\[([\d;]*)([A-Za-z])")


class Terminal:
    """Both ends of a pseudo-terminal."""

    def __init__(self, columns: int = 80, rows: int = 24) -> None:
        self.master, self.slave = os.openpty()
        self._streams: list[TextIO] = []
        self.text = ""
        self.resize(columns, rows)

    def __enter__(self) -> "Terminal":
        return self

    def __exit__(self, *_: object) -> None:
        for stream in self._streams:
            with contextlib.suppress(OSError):  # its terminal was hung up, and something is left to be written
                stream.close()
        for fd in (self.slave, self.master):
            if fd >= 0:
                os.close(fd)

    def resize(self, columns: int, rows: int) -> None:
        fcntl.ioctl(self.slave, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def stream(self, mode: Literal["r", "w"] = "w") -> TextIO:
        """What a program has as sys.stdin or sys.stderr."""
        stream: TextIO = os.fdopen(
            os.dup(self.slave), mode, encoding="utf-8", errors=None if mode == "r" else "replace"
        )
        self._streams.append(stream)
        return stream

    def type(self, keys: str | bytes) -> None:
        os.write(self.master, keys.encode() if isinstance(keys, str) else keys)

    def seen(self, expected: str) -> str:
        """All that was written so far, as soon as it holds what is expected."""
        while expected not in self.text:
            if not self._read(PATIENCE_SECONDS):
                raise AssertionError(f"{expected!r} did not come; this did: {self.text!r}")
        return self.text

    def rest(self) -> str:
        """All that was written by programs that wrote it before."""
        while self._read(0.0):
            pass
        return self.text

    def hang_up(self) -> None:
        """The window is closed: whoever reads or writes gets an error."""
        os.close(self.master)
        self.master = -1

    def start(self, *arguments: str, env: Mapping[str, str] | None = None) -> "subprocess.Popen[bytes]":
        """A Python program at this terminal, which is its controlling one, so that Ctrl-C is a signal."""
        return subprocess.Popen(
            [sys.executable, "-c", LEADER, sys.executable, *arguments],
            stdin=self.slave,
            stdout=subprocess.PIPE,
            stderr=self.slave,
            start_new_session=True,
            env={**os.environ, "TERM": "xterm-256color", **(env or {})},
        )

    def _read(self, timeout_seconds: float) -> bool:
        ready, _, _ = select.select([self.master], [], [], timeout_seconds)
        if not ready:
            return False
        try:
            data = os.read(self.master, 65536)
        except OSError:  # the last program closed its side
            return False
        self.text += data.decode(errors="replace")
        return bool(data)


class Screen:
    """What a terminal shows: as much of ECMA-48 as this program uses, and an AssertionError for anything else."""

    def __init__(self, columns: int = 80) -> None:
        self.columns = columns
        self.lines: list[str] = [""]
        self._row = self._column = 0

    def write(self, text: str) -> "Screen":
        """Take in what was written to the terminal."""
        at = 0
        while at < len(text):
            if text[at] == "\x1b":
                match = CONTROL.match(text, at)
                assert match is not None, f"not known to this terminal: {text[at : at + 10]!r}"
                self._control(match[2], int(match[1]) if match[1].isdigit() else 0)
                at = match.end()
            else:
                self._put(text[at])
                at += 1
        return self

    @property
    def shown(self) -> list[str]:
        """Its lines, from the first that was ever written."""
        return [line.rstrip() for line in self.lines]

    def _control(self, what: str, number: int) -> None:
        row, column = self._row, self._column
        if what == "A":
            self._row = max(0, row - number)
        elif what == "J":
            self.lines[row:] = [self.lines[row][:column]]
        elif what == "K":
            self.lines[row] = self.lines[row][:column]
        else:
            assert what == "m", f"not known to this terminal: {what}"

    def _put(self, character: str) -> None:
        if character == "\r":
            self._column = 0
            return
        if character == "\n" or self._column == self.columns:
            self._row, self._column = self._row + 1, 0
        self.lines += [""] * (self._row + 1 - len(self.lines))
        if character != "\n":
            assert character.isprintable(), f"a control character reached the terminal: {character!r}"
            line = self.lines[self._row].ljust(self._column)
            self.lines[self._row] = line[: self._column] + character + line[self._column + 1 :]
            self._column += 1
