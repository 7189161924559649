"""What may stand in an event of the Lambda function: strict, as a sweep file is."""

import re
from collections.abc import Mapping
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


def checked(event: Mapping[str, Any]) -> dict[str, Any]:
    """The event, with a sweep and without keys that nobody knows.

    Raises:
        UsageError: it is none of ours.
    """
    if not isinstance(event, Mapping) or not isinstance(event.get("sweep"), Mapping | str):
        raise UsageError('the event names no sweep: {"sweep": {...}} or {"sweep": "s3://bucket/sweep.yaml"}')
    for key in event:
        if key not in KEYS:
            raise UsageError(f"the event has an unknown key {quoted(str(key))}{did_you_mean(str(key), KEYS)}")
    kinds: tuple[tuple[str, type | tuple[type, ...], str], ...] = (
        ("yes", bool, "true or false"),
        ("dry_run", bool, "true or false"),
        ("caps_per_shard", bool, "true or false"),
        ("confirm_count", int, "a whole number"),
        ("slice_runs", int, "a whole number"),
        ("reserve_seconds", (int, float), "a number of seconds"),
        ("reason", str, "text"),
        ("ledger", str, "an S3 place"),
        ("shard", dict, "an object"),
        ("invocation", int, "a whole number"),
        ("idle", int, "a whole number"),
    )
    for key, kind, words in kinds:
        value = event.get(key)
        if value is not None and (not isinstance(value, kind) or (kind is not bool and isinstance(value, bool))):
            raise UsageError(f"the event's {key} is not {words}")
    if event.get("action", "sweep") not in ("sweep", "shard", "merge"):
        raise UsageError(f"unknown action {quoted(str(event['action']))} (choose from sweep, shard, merge)")
    if event.get("yes") and event.get("confirm_count") is not None:
        raise UsageError("yes and confirm_count exclude each other: give one of them")
    _check_shard(event.get("shard"))
    try:
        datetime.fromisoformat(event.get("until") or "2026-01-01T00:00:00Z")
    except (TypeError, ValueError):
        raise UsageError("the event's until is not a moment such as 2026-11-24T02:15:00Z") from None
    sweep_id = event.get("sweep_id")
    if sweep_id is not None and not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,90}", str(sweep_id), re.ASCII):
        raise UsageError(f"the sweep_id {quoted(str(sweep_id))} is not letters, digits and _.- (at most 91 of them)")
    return {key: value for key, value in event.items() if value is not None}


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
