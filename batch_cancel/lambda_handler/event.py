"""What may stand in an event of the Lambda function: strict, as a sweep file is."""

import math
import re
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from typing import Any

from batch_cancel.core.errors import UsageError
from batch_cancel.core.wording import did_you_mean, quoted

KEYS = (
    "action",
    "sweep",
    "sweep_id",
    "yes",
    "confirm_count",
    "dry_run",
    "reason",
    "shard",
    "reserve_seconds",
    "slice_runs",
    "caps_per_shard",
    # of a next_event
    "ledger",
    "invocation",
    "until",
    "left",
    "idle",
)
"""Those from ``ledger`` on stand in a ``next_event``."""
SHARD_KEYS = ("targets", "manifest", "number", "of")
LEFT_KEYS = ("targets", "runs", "to_see_end")
ACTIONS = ("sweep", "shard", "merge")


def checked(event: Mapping[str, Any]) -> dict[str, Any]:
    """The event, with a sweep and without keys that nobody knows or that say nothing.

    Raises:
        UsageError: it is none of ours.
    """
    if not isinstance(event, Mapping) or not isinstance(event.get("sweep"), Mapping | str):
        raise UsageError('the event names no sweep: {"sweep": {...}} or {"sweep": "s3://bucket/sweep.yaml"}')
    if place := next(_half_characters(event, "event"), None):
        raise UsageError(f"{place} is not text: it holds half of a surrogate pair")
    for key in event:
        if key not in KEYS:
            raise UsageError(f"the event has an unknown key {quoted(str(key))}{did_you_mean(str(key), KEYS)}")
    given = {key: value for key, value in event.items() if value is not None}
    for key, value in given.items():
        fits, words = _KINDS.get(key, (None, ""))
        if fits is not None and not fits(value):
            raise UsageError(f"the event's {key} is not {words}")
    _check_shard(given.get("shard"))
    _check_together(given)
    return given


def _check_together(event: Mapping[str, Any]) -> None:
    if event.get("yes") and "confirm_count" in event:
        raise UsageError("yes and confirm_count exclude each other: give one of them")
    if event.get("yes") and event.get("dry_run"):
        raise UsageError("yes and dry_run exclude each other: give one of them")
    if "ledger" in event and "sweep_id" not in event:
        raise UsageError("the event's ledger is of a sweep that it does not name: give its sweep_id, too")
    if event.get("action") == "shard" and "confirm_count" in event:
        raise UsageError("confirm_count is of the whole sweep, and parts cannot see each other: consent with yes")


def _half_characters(value: object, place: str) -> Iterator[str]:
    """Where JSON's escapes left something that no file or request can hold."""
    match value:
        case str():
            if re.search("[\ud800-\udfff]", value):
                yield place
        case Mapping():
            for key, item in value.items():
                yield from _half_characters(key, f"a key of {place}")
                yield from _half_characters(item, f"{place}.{key}")
        case list():
            for number, item in enumerate(value):
                yield from _half_characters(item, f"{place}[{number}]")


def _is_truth(value: object) -> bool:
    return isinstance(value, bool)


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _is_positive(value: object) -> bool:
    return _is_count(value) and value != 0


def _is_seconds(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value) and value >= 0


def _is_text(value: object) -> bool:
    return isinstance(value, str)


def _is_sweep_id(value: object) -> bool:
    return isinstance(value, str) and bool(re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,90}", value, re.ASCII))


def _is_moment(value: object) -> bool:
    try:
        return isinstance(value, str) and bool(datetime.fromisoformat(value))
    except ValueError:
        return False


def _is_left(value: object) -> bool:
    return isinstance(value, dict) and set(value) == set(LEFT_KEYS) and all(map(_is_count, value.values()))


_KINDS: Mapping[str, tuple[Callable[[object], bool], str]] = {
    "action": (lambda value: value in ACTIONS, f"one of {', '.join(ACTIONS)}"),
    "sweep_id": (_is_sweep_id, "letters, digits and _.- (text of at most 91 characters)"),
    "yes": (_is_truth, "true or false"),
    "dry_run": (_is_truth, "true or false"),
    "caps_per_shard": (_is_truth, "true or false"),
    "confirm_count": (_is_count, "a whole number, 0 or more"),
    "slice_runs": (_is_positive, "a whole number, 1 or more"),
    "reserve_seconds": (_is_seconds, "a number of seconds, 0 or more"),
    "reason": (_is_text, "text"),
    "shard": (lambda value: isinstance(value, dict), "an object"),
    "ledger": (_is_text, "an S3 place"),
    "invocation": (_is_positive, "a whole number, 1 or more"),
    "until": (_is_moment, "a moment such as 2026-11-24T02:15:00Z"),
    "left": (_is_left, f"an object of {', '.join(LEFT_KEYS)}"),
    "idle": (_is_count, "a whole number, 0 or more"),
}


def _check_shard(shard: Mapping[str, Any] | None) -> None:
    """A part that is misspelt must not be the whole."""
    if shard is None:
        return
    for key in shard:
        if key not in SHARD_KEYS:
            raise UsageError(f"the event's shard has an unknown key {quoted(str(key))}{did_you_mean(key, SHARD_KEYS)}")
    if ("targets" in shard) is ("manifest" in shard):
        raise UsageError("the event's shard is either targets or a manifest")
    if not isinstance(shard.get("targets", []), list) or not isinstance(shard.get("manifest", ""), str):
        raise UsageError("the event's shard has targets, a list, or a manifest, an S3 place")
