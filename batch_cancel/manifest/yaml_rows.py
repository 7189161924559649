"""Manifests in YAML, read event by event: no object is ever built of the whole, and nothing in it is run.

Aliases, anchors, tags and merge keys are refused: a list of runs needs none, and with them a short file can mean an
endless one.
"""

import codecs
import re
from collections.abc import Iterator
from typing import BinaryIO, NoReturn, cast

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

from batch_cancel.core.errors import Problem
from batch_cancel.core.wording import cut, did_you_mean, quoted
from batch_cancel.manifest.rows import Faults, ManifestRow, NotText, RepeatedKey, label_text, row_of, unreadable

DEEPEST = 20
"""Levels of nesting; a row with labels that have parts needs five."""

MOST_EVENTS_IN_A_ROW = 10_000

_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # libyaml where PyYAML was built with it: eight times as fast
_RESOLVER = yaml.resolver.Resolver()
_NOT_ALLOWED = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u2028\u2029\ufffe\uffff]")
"""What YAML does not have unescaped, and what its versions do not agree about: in 1.1 U+0085, U+2028 and U+2029 are
line breaks, and a parser may silently make spaces of them."""
_FORMS = (
    "a YAML manifest is a list of mappings, or has such a list under 'runs', or lists of run ids under 'transforms'"
)
_KINDS = {
    "tag:yaml.org,2002:int": "a number",
    "tag:yaml.org,2002:float": "a number",
    "tag:yaml.org,2002:bool": "a truth value",
    "tag:yaml.org,2002:timestamp": "a date",
    "tag:yaml.org,2002:null": "null",
}

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
            message = f'U+{code:04X} may not stand in YAML as it is: write "\\u{code:04X}" in double quotes'
            raise unreadable(self._source, message, self._line, self._column)
        self._count(text)
        return chunk

    def _count(self, text: str) -> None:
        newlines = text.count("\n")
        self._line += newlines
        self._column = len(text) - text.rfind("\n") if newlines else self._column + len(text)


class _Events:
    """The events of one document, with what no manifest may hold refused as it comes."""

    def __init__(self, stream: BinaryIO, source: str) -> None:
        self.source = source
        self._events = yaml.parse(_CheckedBytes(stream, source), Loader=_LOADER)
        self._depth = 0

    def next(self) -> Event:
        try:
            event = next(self._events)
        except yaml.MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            message = f"not YAML: {error.problem or error.context}"
            raise unreadable(self.source, message, *((mark.line + 1, mark.column + 1) if mark else ())) from error
        except yaml.YAMLError as error:
            raise unreadable(self.source, f"not YAML: {str(error).splitlines()[0]}") from error
        if isinstance(event, AliasEvent):
            self.fail(event, "aliases (*name) are not allowed: write the value out")
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

    def fail(self, event: Event, message: str) -> NoReturn:
        raise unreadable(self.source, message, *_place(event))

    def skip_rest(self, event: Event) -> None:
        """Step over the rest of a list or mapping whose start was read."""
        if isinstance(event, ScalarEvent):
            return
        outside = self._depth - 1
        while self._depth > outside:
            self.next()


def read_yaml(stream: BinaryIO, source: str) -> Iterator[ManifestRow | Problem]:
    """The rows of a YAML text, or what is wrong with them.

    Raises:
        InputError: the text is not YAML, or holds what no manifest may.
    """
    events = _Events(stream, source)
    while not isinstance(event := events.next(), NodeEvent):
        if not isinstance(event, StreamStartEvent | DocumentStartEvent):
            raise unreadable(source, f"the file is empty: {_FORMS}")
    match event:
        case SequenceStartEvent():
            yield from _rows(events)
        case MappingStartEvent():
            yield from _rows_in_mapping(events, event)
        case _ if isinstance(event, ScalarEvent) and _is_null(event):
            raise unreadable(source, f"the file is empty: {_FORMS}")
        case _:
            events.fail(event, f"neither a list nor a mapping: {_FORMS}")
    events.next()  # the document's end
    if isinstance(event := events.next(), DocumentStartEvent):
        events.fail(event, "a second document begins here: a manifest is one")


def _rows_in_mapping(events: _Events, start: Event) -> Iterator[ManifestRow | Problem]:
    known = ("runs", "TaskRuns", "transforms")
    seen: set[str] = set()
    while not isinstance(key := events.next(), MappingEndEvent):
        name = key.value if isinstance(key, ScalarEvent) else None
        if name not in known:
            hint = did_you_mean(name, known) if name else ""
            events.fail(key, f"unknown key {quoted(name or '')}: {_FORMS}{hint}")
        if name in seen:
            events.fail(key, f"{name} stands there twice")
        seen.add(name)
        value = events.next()
        if name == "transforms":
            if not isinstance(value, MappingStartEvent):
                events.fail(value, "transforms is not a mapping of transform ids to lists of run ids")
            yield from _rows_by_transform(events)
        elif isinstance(value, SequenceStartEvent):
            yield from _rows(events)
        else:
            events.fail(value, f"{name} is not a list (an empty one is written [])")
    if not seen:
        events.fail(start, f"the mapping is empty: {_FORMS}")


def _rows(events: _Events) -> Iterator[ManifestRow | Problem]:
    """The rows of a list of mappings, after its start."""
    while not isinstance(event := events.next(), SequenceEndEvent):
        line, column = _place(event)
        if not isinstance(event, MappingStartEvent):
            text = event.value if isinstance(event, ScalarEvent) else None
            events.skip_rest(event)
            message = "not a mapping with transform_id and task_run_id"
            yield Problem(events.source, message, line, column, cut(text) if text is not None else None)
            continue
        entries, places = _mapping(events, event)
        row = row_of(line, entries)
        if isinstance(row, Faults):
            place = places.get(row.field or "", (line, column))
            yield Problem(events.source, row.message, *place, _shown(entries))
        else:
            yield row


def _rows_by_transform(events: _Events) -> Iterator[ManifestRow | Problem]:
    """The rows of a mapping of transform ids to lists of run ids, after its start."""
    while not isinstance(key := events.next(), MappingEndEvent):
        transform_id = _scalar(key) if isinstance(key, ScalarEvent) else None
        if not isinstance(key, ScalarEvent):
            events.fail(key, "a transform id is text")
        runs = events.next()
        if not isinstance(runs, SequenceStartEvent):
            events.fail(runs, f"the runs of {quoted(key.value)} are not a list (an empty one is written [])")
        while not isinstance(event := events.next(), SequenceEndEvent):
            line, column = _place(event)
            run_id = _value(events, event, [MOST_EVENTS_IN_A_ROW])
            row = row_of(line, {"transform_id": transform_id, "task_run_id": run_id})
            if isinstance(row, Faults):
                place = _place(key) if row.field == "transform_id" else (line, column)
                yield Problem(events.source, row.message, *place, _shown({key.value: run_id}))
            else:
                yield row


def _mapping(events: _Events, start: Event) -> tuple[dict[str, object], dict[str, Place]]:
    """A row's keys with their values, and where each value stands."""
    entries: dict[str, object] = {}
    places: dict[str, Place] = {}
    budget = [MOST_EVENTS_IN_A_ROW]
    while not isinstance(key := events.next(), MappingEndEvent):
        if not isinstance(key, ScalarEvent):
            events.fail(key, "a key is text")
        if key.value == "<<" and key.implicit[0]:
            events.fail(key, "merge keys (<<) are not allowed: write the values out")
        value_event = events.next()
        if key.value in entries:
            repeated = entries if isinstance(entries, RepeatedKey) else RepeatedKey(entries)
            repeated.key = key.value
            entries = repeated
        places[key.value] = _place(value_event)
        entries[key.value] = _value(events, value_event, budget)
    return entries, places


def _value(events: _Events, event: Event, budget: list[int]) -> object:
    """A value of a row, whatever its shape; ``budget`` bounds how much of it is held."""
    budget[0] -= 1
    if budget[0] < 0:
        events.fail(event, "a row with so many parts is none")
    if isinstance(event, SequenceStartEvent):
        items: list[object] = []
        while not isinstance(item := events.next(), SequenceEndEvent):
            items.append(_value(events, item, budget))
        return items
    if isinstance(event, MappingStartEvent):
        entries: dict[str, object] = {}
        while not isinstance(key := events.next(), MappingEndEvent):
            if not isinstance(key, ScalarEvent):
                events.fail(key, "a key is text")
            entries[key.value] = _value(events, events.next(), budget)
        return entries
    return _scalar(cast("ScalarEvent", event))


def _scalar(event: ScalarEvent) -> str | NotText | None:
    """Text as it was written, or what YAML takes it for: an unquoted 123 is a number there."""
    if not event.implicit[0]:
        return str(event.value)
    tag = _RESOLVER.resolve(yaml.ScalarNode, event.value, (True, False))  # type: ignore[no-untyped-call]
    if tag == "tag:yaml.org,2002:str":
        return str(event.value)
    if tag == "tag:yaml.org,2002:null":
        return None
    return NotText(_KINDS.get(tag, "a special word in YAML"), str(event.value))


def _is_null(event: ScalarEvent) -> bool:
    return _scalar(event) is None


def _place(event: Event) -> Place:
    mark = event.start_mark
    return (mark.line + 1, mark.column + 1) if mark else (1, 1)  # the parser gives every event one


def _shown(entries: dict[str, object]) -> str:
    """A row as its fault shows it; the file's own text is gone by then."""
    return cut(", ".join(f"{key}: {label_text(value)}" for key, value in entries.items()))
