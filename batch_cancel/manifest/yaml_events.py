"""YAML event by event, with the place of each: no object is built, nothing is run, nothing is endless.

Aliases, anchors and tags are refused: neither a list of runs nor a sweep file needs them, and with them a short file
can mean an endless one.
"""

import codecs
import re
from typing import BinaryIO, NoReturn

import yaml
from yaml.events import (
    AliasEvent,
    DocumentStartEvent,
    Event,
    MappingEndEvent,
    MappingStartEvent,
    NodeEvent,
    ScalarEvent,
    SequenceEndEvent,
    SequenceStartEvent,
    StreamStartEvent,
)

from batch_cancel.core.wording import quoted
from batch_cancel.manifest.rows import NOT_IN_AN_ID, NotText, unreadable

DEEPEST = 20
"""Levels of nesting; a row with labels that have parts needs five."""

_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # libyaml where PyYAML was built with it: eight times as fast
_RESOLVER = yaml.resolver.Resolver()
_NOT_ALLOWED = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u2028\u2029\ufffe\uffff]")
"""What YAML does not have unescaped, and what its versions do not agree about: in 1.1 U+0085, U+2028 and U+2029 are
line breaks, and a parser may silently make spaces of them."""
_KINDS = {
    "tag:yaml.org,2002:int": "a number",
    "tag:yaml.org,2002:float": "a number",
    "tag:yaml.org,2002:bool": "a truth value",
    "tag:yaml.org,2002:timestamp": "a date",
    "tag:yaml.org,2002:null": "null",
}
_MENDS = (
    ("node content", "write the value that belongs here, or close the bracket before it"),
    ("',' or ']'", "close the list with ], its items with commas between them"),
    ("',' or '}'", "close the mapping with }, its entries with commas between them"),
    ("mapping values", "quote text that holds ': ', and begin the keys of one mapping in the same column"),
    ("end of stream", "close the quote"),
    ("alphabetic or numeric", "quote text that begins with * or &"),
    ("start any token", "indent with spaces, not tabs, and quote text that begins with @, % or `"),
    ("indentation", "indent with spaces"),
    ("expected key", "begin the keys of one mapping in the same column, and write a ' inside '...' twice"),
    ("expected ':'", "end the key with a colon and a space"),
    ("sequence entries", "begin the list on a line of its own"),
    ("'-' indicator", "begin each item of the list with '- ', all in the same column"),
    ("escape character", "write the text in single quotes, where a backslash is one"),
)
"""What helps against a fault of YAML, by words of the parser's (libyaml's, and mostly PyYAML's own)."""

Place = tuple[int, int]


class _CheckedBytes:
    """Hands bytes on to the parser once it is known that they are UTF-8 without control characters."""

    def __init__(self, stream: BinaryIO, source: str) -> None:
        self._stream = stream
        self._source = source
        self._decoder = codecs.getincrementaldecoder("utf-8")("strict")
        self._line = 1
        self._column = 1

    def read(self, size: int = 1 << 16) -> bytes:
        chunk = self._stream.read(max(size, 1 << 16))
        if self._line == self._column == 1 and chunk[:2] in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE):
            raise unreadable(self._source, "the file is UTF-16: save it as UTF-8", 1, 1)
        try:
            text = self._decoder.decode(chunk, final=not chunk)
        except UnicodeDecodeError as error:
            self._count(error.object[: error.start].decode("utf-8", "replace"))
            message = f"byte 0x{error.object[error.start]:02X} is not UTF-8: save the file as UTF-8"
            raise unreadable(self._source, message, self._line, self._column) from error
        if not (text.isascii() and text.isprintable()) and (found := _NOT_ALLOWED.search(text)):
            self._count(text[: found.start()])
            code = ord(found[0])
            mend = (
                "no id can hold it either: take it out"
                if NOT_IN_AN_ID.match(found[0])
                else f'write "\\u{code:04X}" in double quotes'
            )
            message = f"U+{code:04X} may not stand in YAML as it is: {mend}"
            raise unreadable(self._source, message, self._line, self._column)
        self._count(text)
        return chunk

    def _count(self, text: str) -> None:
        newlines = text.count("\n")
        self._line += newlines
        self._column = len(text) - text.rfind("\n") if newlines else self._column + len(text)


class YamlEvents:
    """The events of one document, with what no manifest may hold refused as it comes."""

    def __init__(self, stream: BinaryIO, source: str) -> None:
        self.source = source
        self._events = yaml.parse(_CheckedBytes(stream, source), Loader=_LOADER)
        self._depth = 0

    def next(self) -> Event:
        """The next event.

        Raises:
            InputError: what comes next is not YAML, or not allowed.
        """
        try:
            event = next(self._events)
        except yaml.MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            message = f"not YAML: {error.problem or error.context}{_mend(error)}"
            raise unreadable(self.source, message, *((mark.line + 1, mark.column + 1) if mark else ())) from error
        except yaml.YAMLError as error:
            raise unreadable(self.source, f"not YAML: {str(error).splitlines()[0]}") from error
        if isinstance(event, AliasEvent):
            self.fail(event, "aliases (*name) are not allowed: write the value out, or quote text that begins with *")
        if isinstance(event, NodeEvent):
            if event.anchor is not None:
                self.fail(event, "anchors (&name) are not allowed: write the value out")
            if (tag := getattr(event, "tag", None)) is not None:
                self.fail(event, f"tags ({quoted(tag)}) are not allowed: write plain or quoted text")
        if isinstance(event, MappingStartEvent | SequenceStartEvent):
            self._depth += 1
            if self._depth > DEEPEST:
                self.fail(event, f"nested more than {DEEPEST} levels deep")
        elif isinstance(event, MappingEndEvent | SequenceEndEvent):
            self._depth -= 1
        return event

    def root(self) -> NodeEvent | None:
        """The event with which what the document holds begins; None where the file is empty."""
        while not isinstance(event := self.next(), NodeEvent):
            if not isinstance(event, StreamStartEvent | DocumentStartEvent):
                return None
        return event

    def end(self, what: str) -> None:
        """Step over the document's end, and refuse a second one; ``what`` is what the file is: ``a manifest``."""
        self.next()
        if isinstance(event := self.next(), DocumentStartEvent):
            self.fail(event, f"a second document begins here: {what} is one")

    def fail(self, event: Event, message: str) -> NoReturn:
        """Refuse the file because of this event."""
        raise unreadable(self.source, message, *place_of(event))

    def skip_rest(self, event: Event) -> None:
        """Step over the rest of a list or mapping whose start was read."""
        if isinstance(event, ScalarEvent):
            return
        outside = self._depth - 1
        while self._depth > outside:
            self.next()


def _mend(error: yaml.MarkedYAMLError) -> str:
    """The end of a sentence about a fault: what to do, and where that began which has no end."""
    mend = next((mend for words, mend in _MENDS if words in (error.problem or "")), None)
    if mend is None:
        return ""
    began = error.context_mark
    if began is None or not mend.startswith("close"):
        return f": {mend}"
    return f": {mend} (opened at {began.line + 1}:{began.column + 1})"


def scalar(event: ScalarEvent) -> str | NotText | None:
    """Text as it was written, or what YAML takes it for: an unquoted 123 is a number there."""
    if not event.implicit[0]:
        return str(event.value)
    tag = _RESOLVER.resolve(yaml.ScalarNode, event.value, (True, False))  # type: ignore[no-untyped-call]
    if re.fullmatch("0[0-9]+", event.value, re.ASCII):  # text to YAML 1.1 where it is not octal, a number to others
        return NotText("a number", str(event.value))
    if tag == "tag:yaml.org,2002:str":
        return str(event.value)
    if tag == "tag:yaml.org,2002:null":
        return None
    return NotText(_KINDS.get(tag, "a special word in YAML"), str(event.value))


def is_null(event: ScalarEvent) -> bool:
    """Whether a scalar stands for nothing."""
    return scalar(event) is None


def place_of(event: Event) -> Place:
    """Line and column, from 1."""
    mark = event.start_mark
    return (mark.line + 1, mark.column + 1) if mark else (1, 1)  # the parser gives every event one
