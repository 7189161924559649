"""Manifests in YAML, read event by event: no object is ever built of the whole."""

from collections.abc import Iterator
from typing import BinaryIO, cast

from yaml.events import (
    Event,
    MappingEndEvent,
    MappingStartEvent,
    ScalarEvent,
    SequenceEndEvent,
    SequenceStartEvent,
)

from batch_cancel.core.errors import Problem
from batch_cancel.core.wording import cut, did_you_mean, quoted
from batch_cancel.manifest.rows import Faults, ManifestRow, RepeatedKey, label_text, row_of, unreadable
from batch_cancel.manifest.yaml_events import Place, YamlEvents, is_null, place_of, scalar

KEYS = ("runs", "TaskRuns", "transforms")
"""What a manifest that is a mapping holds."""

_KEYS_OF_SWEEP_FILES = ("version", "name", "targets", "source", "select", "protect", "guardrails")
"""What a mapping begins with that is the other file a command takes."""

MOST_EVENTS_IN_A_ROW = 10_000

_FORMS = (
    "a YAML manifest is a list of mappings, or has such a list under 'runs', or lists of run ids under 'transforms'"
)


def read_yaml(stream: BinaryIO, source: str) -> Iterator[ManifestRow | Problem]:
    """The rows of a YAML text, or what is wrong with them.

    Raises:
        InputError: the text is not YAML, or holds what no manifest may.
    """
    events = YamlEvents(stream, source)
    root = events.root()
    match root:
        case SequenceStartEvent():
            yield from _rows(events)
        case MappingStartEvent():
            yield from _rows_in_mapping(events, root)
        case ScalarEvent() if not is_null(root):
            events.fail(root, f"neither a list nor a mapping: {_FORMS}")
        case _:
            raise unreadable(source, f"the file is empty: {_FORMS}")
    events.end("a manifest")


def looks_like_rows(stream: BinaryIO, source: str) -> bool:
    """Whether a YAML text is meant to be a manifest: a list, or a mapping that begins with a manifest's key.

    Raises:
        InputError: the text is not YAML from its beginning.
    """
    events = YamlEvents(stream, source)
    root = events.root()
    if not isinstance(root, MappingStartEvent):
        return isinstance(root, SequenceStartEvent)
    key = events.next()
    return isinstance(key, ScalarEvent) and key.value in KEYS


def _rows_in_mapping(events: YamlEvents, start: Event) -> Iterator[ManifestRow | Problem]:
    seen: set[str] = set()
    while not isinstance(key := events.next(), MappingEndEvent):
        name = key.value if isinstance(key, ScalarEvent) else None
        if name in _KEYS_OF_SWEEP_FILES and not seen:
            events.fail(key, "this is a sweep file, not a list of runs: it goes without --manifest")
        if name not in KEYS:
            hint = did_you_mean(name, KEYS) if name else ""
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


def _rows(events: YamlEvents) -> Iterator[ManifestRow | Problem]:
    """The rows of a list of mappings, after its start."""
    while not isinstance(event := events.next(), SequenceEndEvent):
        line, column = place_of(event)
        if not isinstance(event, MappingStartEvent):
            text = event.value if isinstance(event, ScalarEvent) else None
            events.skip_rest(event)
            message = "not a mapping with transform_id and task_run_id"
            yield Problem(events.source, message, line, column, cut(text) if text is not None else None)
            continue
        entries, places = _mapping(events)
        row = row_of(line, entries)
        if isinstance(row, Faults):
            yield _problem(events, row, places, (line, column), _shown(entries))
        else:
            yield row


def _rows_by_transform(events: YamlEvents) -> Iterator[ManifestRow | Problem]:
    """The rows of a mapping of transform ids to lists of run ids, after its start."""
    while not isinstance(key := events.next(), MappingEndEvent):
        transform_id = scalar(key) if isinstance(key, ScalarEvent) else None
        if not isinstance(key, ScalarEvent):
            events.fail(key, "a transform id is text")
        runs = events.next()
        if not isinstance(runs, SequenceStartEvent):
            events.fail(runs, f"the runs of {quoted(key.value)} are not a list (an empty one is written [])")
        while not isinstance(event := events.next(), SequenceEndEvent):
            line, column = place_of(event)
            run_id = _value(events, event, [MOST_EVENTS_IN_A_ROW])
            row = row_of(line, {"transform_id": transform_id, "task_run_id": run_id})
            if isinstance(row, Faults):
                yield _problem(
                    events, row, {"transform_id": place_of(key)}, (line, column), _shown({key.value: run_id})
                )
            else:
                yield row


def _problem(events: YamlEvents, faults: Faults, places: dict[str, Place], row: Place, text: str) -> Problem:
    """Each fault at the place of its value; of the row where there is none."""
    return faults.problem(events.source, lambda field: places.get(field or "", row), text)


def _mapping(events: YamlEvents) -> tuple[dict[str, object], dict[str, Place]]:
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
        places[key.value] = place_of(value_event)
        entries[key.value] = _value(events, value_event, budget)
    return entries, places


def _value(events: YamlEvents, event: Event, budget: list[int]) -> object:
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
    return scalar(cast("ScalarEvent", event))


def _shown(entries: dict[str, object]) -> str:
    """A row as its fault shows it; the file's own text is gone by then."""
    return cut(", ".join(f"{key}: {label_text(value)}" for key, value in entries.items()))
