"""JSON read value by value from a stream, with the line and column of each: the whole never stands in memory."""

import json
from typing import NoReturn, TextIO

from batch_cancel.manifest.rows import NotText, RepeatedKey, check_encoding, unreadable

CHUNK = 1 << 16
LONGEST_VALUE = 1 << 20
"""Characters that one value of a list may have; a row that is longer is none."""

_SPACE = " \t\r\n"


def _mapping(pairs: list[tuple[str, object]]) -> dict[str, object]:
    entries = dict(pairs)
    if len(entries) == len(pairs):
        return entries
    repeated = RepeatedKey(entries)
    seen: set[str] = set()
    repeated.key = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
    return repeated


def _number(text: str) -> NotText:
    return NotText("a number", text)


DECODER = json.JSONDecoder(
    object_pairs_hook=_mapping, parse_int=_number, parse_float=_number, parse_constant=_number, strict=True
)
"""Keeps numbers as they were written and tells of keys that stand twice."""


class JsonText:
    """A place in a JSON text, and what stands there."""

    def __init__(self, stream: TextIO, source: str) -> None:
        self.line = 1
        self._source = source
        self._stream = stream
        self._buffer = ""
        self._at = 0  # the next character
        self._seen = 0  # up to here lines are counted
        self._line_start = 0  # may be negative: before what is still held
        self._at_end = self._begun = False

    @property
    def column(self) -> int:
        """The next character's column, from 1."""
        return self._at - self._line_start + 1

    def fail(self, message: str) -> NoReturn:
        """Refuse the file because of what stands here."""
        raise unreadable(self._source, message, self.line, self.column)

    def peek(self) -> str:
        """The next character that is not white space; ``""`` at the end."""
        while True:
            buffer, at = self._buffer, self._at
            while at < len(buffer) and buffer[at] in _SPACE:
                at += 1
            self._move_to(at)
            if at < len(buffer):
                return buffer[at]
            if not self._read_more(CHUNK):
                return ""

    def take(self, character: str) -> bool:
        """Step over a character, if it is the next one."""
        if self.peek() != character:
            return False
        self._move_to(self._at + 1)
        return True

    def expect(self, character: str, where: str) -> None:
        """Step over a character that must be the next one."""
        if not self.take(character):
            found = self.peek()
            self.fail(f"expected {character!r} {where}, found " + (repr(found) if found else "the end of the file"))

    def value(self) -> object:
        """The whole value that begins here. :attr:`text` is what it was read from."""
        self.peek()
        while True:
            try:
                value, end = DECODER.raw_decode(self._buffer, self._at)
            except json.JSONDecodeError as error:
                if not self._grow():
                    self._refuse(error)
            except RecursionError:
                self.fail("the value is nested too deeply")
            else:
                # A number may go on behind what was read; everything else has its end.
                if end - self._at > LONGEST_VALUE:
                    self.fail(f"a value of more than {LONGEST_VALUE:,} characters")
                if end < len(self._buffer) or not self._grow():
                    self._value_text = (self._at, end)
                    self._move_to(end)
                    return value

    @property
    def text(self) -> str:
        """The text of the value that was read last."""
        start, end = self._value_text
        return self._buffer[start:end]

    def key(self) -> str:
        """A mapping's next key, and the colon behind it."""
        if self.peek() != '"':
            self.fail("expected a key in double quotes")
        key = self.value()
        self.expect(":", "after a key")
        return str(key)

    def skip(self) -> None:
        """Step over a value; the lists and mappings of a report may be long, what is in them is not."""
        if self.take("["):
            while not self.take("]"):
                self.value()
                self.comma_or("]")
        elif self.take("{"):
            while not self.take("}"):
                self.key()
                self.value()
                self.comma_or("}")
        else:
            self.value()

    def comma_or(self, closing: str) -> None:
        """Step over a comma that something follows, or stay before the closing bracket."""
        if self.peek() == closing:
            return
        self.expect(",", f"or {closing!r} after a value")
        if self.peek() == closing:
            self.fail(f"a comma before {closing!r}: nothing follows it")

    def _move_to(self, at: int) -> None:
        newlines = self._buffer.count("\n", self._seen, at)
        if newlines:
            self.line += newlines
            self._line_start = self._buffer.rfind("\n", self._seen, at) + 1
        self._at = self._seen = at

    def _grow(self) -> bool:
        held = len(self._buffer) - self._at
        return held < LONGEST_VALUE and self._read_more(max(CHUNK, held))

    def _read_more(self, size: int) -> bool:
        if self._at_end:
            return False
        more = self._stream.read(size)
        self._at_end = not more
        if not self._begun:
            self._begun = True
            check_encoding(more, self._source)
        self._buffer = self._buffer[self._at :] + more
        self._line_start -= self._at
        self._at = self._seen = 0
        return bool(more)

    def _refuse(self, error: json.JSONDecodeError) -> NoReturn:
        held = len(self._buffer) - self._at
        if held >= LONGEST_VALUE and (error.msg.startswith("Unterminated") or error.pos + 16 > len(self._buffer)):
            self.fail(f"a value of more than {LONGEST_VALUE:,} characters")
        self._move_to(min(error.pos, len(self._buffer)))
        what = error.msg[:1].lower() + error.msg[1:]
        self.fail(f"not JSON: {what}" + (" (the file ends here)" if self._at == len(self._buffer) else ""))
