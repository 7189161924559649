"""How a terminal is spoken to: what fits into how many columns, times and rates as people read them."""

import os
import textwrap
import unicodedata
from datetime import timedelta
from typing import TextIO

from batch_cancel.core.duration import format_duration
from batch_cancel.core.wording import printable

_WIDEST = 100


def cause(code: str, message: str) -> str:
    """An error's code and message from outside, harmless, and the code once where the message brings it along."""
    return printable(message if f": {code}" in f": {message}" else f"{code}: {message}")


def cells(text: str) -> int:
    """How many columns of a terminal a printable text takes."""
    if text.isascii():
        return len(text)
    return sum(_cells_of(character) for character in text)


def _cells_of(character: str) -> int:
    if unicodedata.category(character) in ("Mn", "Me"):  # accents and the like stand on the character before
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1


def fit(text: str, width: int) -> str:
    """Text cut to so many columns, its loss shown by an ellipsis."""
    if cells(text) <= width:
        return text
    return _head(text, max(0, width - 1)) + "…" if width > 0 else ""


def fit_id(text: str, width: int) -> str:
    """An id or name cut in its middle: both of its ends tell it from its neighbours."""
    if cells(text) <= width or width < 8:
        return fit(text, width)
    head = _head(text, (width - 1 + 1) // 2)
    tail = _head(text[::-1], width - 1 - cells(head))[::-1]
    return f"{head}…{tail}"


def _head(text: str, width: int) -> str:
    used = 0
    for position, character in enumerate(text):
        used += _cells_of(character)
        if used > width:
            return text[:position]
    return text


def padded(text: str, width: int, *, right: bool = False) -> str:
    """Text filled with spaces to so many columns; ``right`` puts them before it."""
    blanks = " " * max(0, width - cells(text))
    return blanks + text if right else text + blanks


def ago(age: timedelta) -> str:
    """How long ago, in its two largest units: ``6d4h``, ``2h5m``, ``40s``."""
    seconds = max(0, int(age.total_seconds()))
    step = 3600 if seconds >= 86400 else 60 if seconds >= 3600 else 1
    return format_duration(timedelta(seconds=seconds - seconds % step))


def took(seconds: float) -> str:
    """How long something took: ``0.4 s``, ``24.3 s``, ``12m5s``."""
    return f"{seconds:.1f} s" if seconds < 60 else format_duration(timedelta(seconds=round(seconds)))


def clock(seconds: float) -> str:
    """A time as clocks show it: ``0:58``, ``14:02``, ``1:00:05``."""
    minutes, second = divmod(int(seconds), 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours}:{minute:02}:{second:02}" if hours else f"{minute}:{second:02}"


def wrapped(text: str, columns: int) -> str:
    """Text broken between words so that its lines fit; a word that is too long (an ARN, a path) is never broken."""
    if len(text) < columns:
        return text
    return textwrap.fill(
        text, max(20, columns - 1), subsequent_indent="  ", break_long_words=False, break_on_hyphens=False
    )


def paragraphs(text: str, columns: int) -> str:
    """Text of several lines, each wrapped by itself, and nowhere so wide that it is hard to read."""
    return "\n".join(wrapped(line, min(columns, _WIDEST)) for line in text.splitlines())


def rate(per_second: float, of: str = "") -> str:
    """A rate without digits that nobody reads: ``0.4/s``, ``118/s``; of something named, ``8.5 calls/s``."""
    number = f"{per_second:.1f}" if per_second < 9.95 else f"{per_second:,.0f}"
    return f"{number} {of}/s" if of else f"{number}/s"


def is_terminal(stream: TextIO | None) -> bool:
    """Whether a stream is open and a terminal."""
    try:
        return stream is not None and stream.isatty()
    except (ValueError, OSError):
        return False  # closed


def wants_colour(stream: TextIO | None, *, no_color: bool = False) -> bool:
    """Whether colours may be written: on a terminal that knows them, unless somebody said no (no-color.org)."""
    allowed = not no_color and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
    return allowed and is_terminal(stream)


def rows_of(stream: TextIO, default: int = 24) -> int:
    """How many lines a stream's terminal has, or the default where it is none."""
    try:
        return os.get_terminal_size(stream.fileno()).lines or default
    except (ValueError, OSError):
        return default


def columns_of(stream: TextIO | None, default: int = 80) -> int:
    """How wide a stream's terminal is, or the default where it is none."""
    try:
        return (os.get_terminal_size(stream.fileno()).columns if stream is not None else 0) or default
    except (ValueError, OSError):
        return default
