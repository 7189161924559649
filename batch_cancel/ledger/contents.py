"""Whether a sound database holds what a ledger holds: reports and resume rely on it, whoever has edited the file."""

import json
import sqlite3
from collections.abc import Callable, Iterator

from batch_cancel.core.outcome import Outcome

TABLES = ("sweep", "targets", "transforms", "runs", "attempts", "calls", "rejected")
TEXTS = ("sweep_id", "mode")
"""Facts on which everything rests, where they are there."""


def content_fault(connection: sqlite3.Connection) -> str | None:
    """What is wrong with a ledger's contents, or None."""
    for faults in (_tables, _facts, _outcomes, _labels):  # each relies on those before it
        if fault := next(faults(connection), None):
            return fault
    return None


def _tables(connection: sqlite3.Connection) -> Iterator[str]:
    made = {row[0] for row in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    yield from (f"it has no table {table}" for table in TABLES if table not in made)


def _facts(connection: sqlite3.Connection) -> Iterator[str]:
    for key, value in connection.execute("SELECT key, value FROM sweep"):
        if not _is_json(value, lambda _: True):
            yield f"its fact {str(key)[:40]!r} is not JSON"
        elif key in TEXTS and not _is_json(value, lambda fact: isinstance(fact, str)):
            yield f"its fact {key!r} is not text"


def _outcomes(connection: sqlite3.Connection) -> Iterator[str]:
    for (word,) in connection.execute("SELECT DISTINCT outcome FROM runs WHERE outcome IS NOT NULL"):
        if word not in tuple(Outcome):
            yield f"it holds an outcome that nobody knows, {str(word)[:40]!r}"


def _labels(connection: sqlite3.Connection) -> Iterator[str]:
    for (labels,) in connection.execute("SELECT labels FROM runs WHERE labels IS NOT NULL"):
        if not _is_json(labels, lambda value: isinstance(value, dict)):
            yield "labels of a run are not a JSON object"


def _is_json(text: object, kind: Callable[[object], bool]) -> bool:
    try:
        return isinstance(text, str) and kind(json.loads(text))
    except (ValueError, RecursionError):
        return False
