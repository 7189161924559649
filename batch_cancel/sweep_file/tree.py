"""A small YAML file as plain data, with the place of every key and value."""

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from yaml.events import (
    Event,
    MappingEndEvent,
    MappingStartEvent,
    ScalarEvent,
    SequenceEndEvent,
    SequenceStartEvent,
)

from batch_cancel.core.errors import Problem
from batch_cancel.core.wording import quoted
from batch_cancel.manifest.read import os_fault
from batch_cancel.manifest.rows import NotText, unreadable
from batch_cancel.manifest.yaml_events import Place, YamlEvents, place_of, scalar

Keys = tuple[str | int, ...]

LARGEST_BYTES = 1 << 20
_OTHER_FILES = (
    (rb'\s*{\s*"schema"\s*:\s*"batch-cancel/plan/', "a plan", "batch-cancel apply cancels what it names"),
    (rb'\s*{\s*"schema"\s*:\s*"batch-cancel/report/', "a report", "--manifest takes its unfinished runs"),
    (rb"SQLite format 3\0", "a ledger", "batch-cancel resume takes the directory that it is in"),
)
"""How other files of this program begin, what they are, and what they are for."""


@dataclass(slots=True)
class Tree:
    """What a file holds.

    Attributes:
        root: mappings, lists, text, numbers, truth values; :class:`NotText` for what YAML means by no decimal number.
        values, keys: where each value, and its key, stands.
        texts: each scalar as it was written.
        problems: keys that stand twice or have no value; they are not in ``root``.
    """

    source: str
    root: object = None
    values: dict[Keys, Place] = field(default_factory=dict)
    keys: dict[Keys, Place] = field(default_factory=dict)
    texts: dict[Keys, str] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    without_value: set[Keys] = field(default_factory=set)


def read_small(path: str, what: str) -> bytes:
    """A file that people write by hand.

    Args:
        what: it should be, for the sentence about one that is something else, or too large.

    Raises:
        InputError: it cannot be read, is another kind of file, or is too large.
    """
    try:
        with Path(path).open("rb") as stream:
            data = stream.read(LARGEST_BYTES + 1)
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        raise unreadable(path, os_fault(error)) from error
    for begins, is_one, use in _OTHER_FILES:
        if re.match(begins, data):
            raise unreadable(path, f"is {is_one}, not {what}: {use}")
    if len(data) > LARGEST_BYTES:
        raise unreadable(path, f"the file is larger than {LARGEST_BYTES:,} bytes: is it {what}?")
    return data


def read_tree(stream: BinaryIO, source: str) -> Tree:
    """The one document of a YAML text.

    Raises:
        InputError: it is not YAML, it is empty, or it holds aliases, tags or a second document.
    """
    events = YamlEvents(stream, source)
    root = events.root()
    if root is None:
        raise unreadable(source, "the file is empty")
    tree = Tree(source)
    tree.root = _value(events, root, (), tree)
    events.end("a sweep file")
    return tree


def _value(events: YamlEvents, event: Event, path: Keys, tree: Tree) -> object:
    tree.values[path] = place_of(event)
    if isinstance(event, SequenceStartEvent):
        items: list[object] = []
        while not isinstance(item := events.next(), SequenceEndEvent):
            items.append(_value(events, item, (*path, len(items)), tree))
        return items
    if isinstance(event, MappingStartEvent):
        return _mapping(events, path, tree)
    assert isinstance(event, ScalarEvent)  # noqa: S101  # aliases were refused, and no other node is left
    tree.texts[path] = event.value
    value = scalar(event)
    if value is None:
        name = f"{path[-1]} has" if path and isinstance(path[-1], str) else "an item has" if path else "the file has"
        message = f"{name} no value: give one, or leave the key out ([] is an empty list)"
        tree.problems.append(Problem(tree.source, message, *place_of(event)))
        tree.without_value.add(path)
    return _number_or_truth(value) if isinstance(value, NotText) else value


def _mapping(events: YamlEvents, path: Keys, tree: Tree) -> dict[str, object]:
    entries: dict[str, object] = {}
    while not isinstance(key := events.next(), MappingEndEvent):
        if not isinstance(key, ScalarEvent):
            events.fail(key, "a key is text")
        name = key.value  # as it is written: YAML would make a truth value of "on"
        inner = (*path, name)
        if name in entries or inner in tree.without_value:
            tree.problems.append(Problem(tree.source, f"{quoted(name)} stands there twice", *place_of(key)))
            _value(events, events.next(), (*path, f"{name} (again)"), tree)
            continue
        tree.keys[inner] = place_of(key)
        value = _value(events, events.next(), inner, tree)
        if value is not None:
            entries[name] = value
    return entries


def _number_or_truth(value: NotText) -> object:
    if value.kind == "a truth value":
        return value.text.lower() in ("true", "yes", "on")
    if re.fullmatch(r"-?(0|[1-9][0-9]{0,15})", value.text, re.ASCII):
        return int(value.text)
    if re.fullmatch(r"-?[0-9]{1,15}\.[0-9]{1,15}", value.text, re.ASCII):
        return float(value.text)
    if value.kind == "a date":
        return value.text
    return value
