"""What an event tells the function to do: its sweep file, what the event says besides, and the part that it is of."""

import json
import os
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from batch_cancel.core.errors import InputError, UsageError
from batch_cancel.glue.outbox import Outbox, S3Place
from batch_cancel.s3_inputs import beside, is_in_s3
from batch_cancel.settings import Consent, ManifestSource, ReportFormat, Settings, Source

REPORTS_VARIABLE = "BATCH_CANCEL_REPORTS"
"""The S3 prefix of reports where the sweep names none."""


async def settings_of(event: Mapping[str, Any], work: Path, way: Callable[[], Outbox]) -> Settings:
    """The settings of an event's sweep, or of the part of it that the event is about; ``report.s3`` is always set.

    Args:
        work: a directory of this machine, for the sweep file.
        way: to S3.

    Raises:
        UsageError: there is no such sweep file, consent is missing, or a place is not in S3.
        InputError: the sweep file is wrong.
        CallFailed: it could not be read.
    """
    settings = await _from_file(event, work, way)
    shard = event.get("shard") or {}
    consent = Consent(yes=bool(event.get("yes")), confirm_count=event.get("confirm_count"))
    consented = consent.yes or consent.confirm_count is not None
    if settings.dry_run and consented:
        raise UsageError("the sweep says dry_run: true, so that nothing is cancelled: the event cannot consent")
    settings = replace(
        settings,
        consent=consent,
        dry_run=settings.dry_run or bool(event.get("dry_run")),
        reason=event.get("reason", settings.reason),
        source=_source(event, settings, work),
        report=replace(settings.report, s3=_prefix(settings)),
    )
    if shard:  # the whole is reported, and told of, once it is merged
        settings = replace(settings, report=replace(settings.report, formats=(ReportFormat.JSON,)), notify=None)
    if not (settings.dry_run or consented or event.get("action") == "merge"):
        raise UsageError('consent is missing: the event needs "yes": true, "confirm_count": N or "dry_run": true')
    return settings


async def _from_file(event: Mapping[str, Any], work: Path, way: Callable[[], Outbox]) -> Settings:
    """What the sweep file says, written out in the event or in S3; of a part the targets are the event's."""
    from batch_cancel.sweep_file import load_sweep_file  # noqa: PLC0415  # brings pydantic

    sweep, shard = event["sweep"], event.get("shard") or {}
    path = work / "sweep.yaml"
    if not isinstance(sweep, str):
        _write_json(path, sweep)
    elif not await way().get_file(S3Place.of(sweep), path):
        raise UsageError(f"there is no sweep file {sweep}")
    try:
        settings = load_sweep_file(str(path)).settings
        if "targets" in shard:
            part = work / "shard.yaml"
            _write_json(part, {"targets": shard["targets"]})
            settings = replace(settings, targets=load_sweep_file(str(part)).settings.targets)
    except InputError as error:
        named = sweep if isinstance(sweep, str) else "the event's sweep"
        raise InputError([replace(problem, source=named) for problem in error.problems]) from None
    return settings


def _source(event: Mapping[str, Any], settings: Settings, work: Path) -> Source:
    """A list by its place in S3, wherever this invocation puts it."""
    sweep, shard = event["sweep"], (event.get("shard") or {}).get("manifest")
    if shard is not None:
        return ManifestSource(path=str(S3Place.of(shard)))
    if not isinstance(settings.source, ManifestSource):
        return settings.source
    sweep_file = S3Place.of(sweep) if isinstance(sweep, str) else None
    return replace(settings.source, path=_uri(settings.source.path, work, sweep_file))


def _prefix(settings: Settings) -> str:
    prefix = settings.report.s3 or os.environ.get(REPORTS_VARIABLE)
    if not prefix:
        raise UsageError(
            "a function leaves nothing behind but what is in S3: name a prefix under report.s3, or in"
            f" {REPORTS_VARIABLE}"
        )
    return prefix


def _uri(path: str, work: Path, sweep_file: S3Place | None) -> str:
    """Where in S3 a list stands that a sweep file names: beside the sweep file where it is a relative path."""
    if is_in_s3(path):
        return path
    relative = path.removeprefix(f"{work}/")
    if sweep_file is None or relative == path:
        raise UsageError(f"source.manifest: a function reads lists from S3 alone: write s3://bucket/{Path(path).name}")
    return beside(sweep_file, relative)


def _write_json(path: Path, value: object) -> None:
    path.write_text(json.dumps(value, ensure_ascii=False, indent=1), encoding="utf-8")
