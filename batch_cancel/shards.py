"""A sweep in parts, for engines that run many at once: Step Functions' Distributed Map, a job array, GNU parallel.

Each part is an event of :mod:`batch_cancel.lambda_handler`. With discovery it is one account and region: so every
service limit is known to one process alone. A list is cut into slices, each of one account and region too, and one that
is long is cut by a digest of the run's ids: rows that name a run twice stay in one slice.

``sharding.json`` says which parts there are, so that whoever merges their reports knows what is missing.
"""

import contextlib
import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from batch_cancel.core.errors import InputError, Problem, UsageError
from batch_cancel.core.private_file import private
from batch_cancel.core.task_run import Target
from batch_cancel.engine.intake import Places
from batch_cancel.engine.targets import resolve
from batch_cancel.glue.api import Service
from batch_cancel.glue.outbox import S3Place
from batch_cancel.manifest import ManifestRow, read_manifest
from batch_cancel.report.merge import Absent
from batch_cancel.settings import ManifestSource, Settings

SCHEMA = "batch-cancel/sharding/1"
ITEMS_NAME = "items.json"
SHARDING_NAME = "sharding.json"
SLICES_NAME = "slices"
SLICE_RUNS = 5_000
MOST_OPEN_FILES = 200
MOST_FAULTS_TOLD = 100


@dataclass(frozen=True, slots=True)
class Part:
    """One part: its place, and what its event's ``shard`` says."""

    account_id: str | None
    region: str
    shard: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Sharding:
    """All parts, and the places that none could be made for."""

    sweep_id: str
    parts: tuple[Part, ...]
    failed: tuple[Absent, ...] = ()

    def sweep_ids(self) -> list[str]:
        """Each part's own sweep id."""
        return [f"{self.sweep_id}-{number:04}" for number in range(1, len(self.parts) + 1)]

    def items(self, event: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
        """Each part's event; ``event`` is what they have in common."""
        for number, (part, sweep_id) in enumerate(zip(self.parts, self.sweep_ids(), strict=True), start=1):
            shard = {"number": number, "of": len(self.parts), **part.shard}
            yield {**event, "sweep_id": sweep_id, "shard": shard}

    def written(self) -> str:
        """``sharding.json``."""
        shards = [
            {"sweep_id": sweep_id, "account_id": part.account_id, "region": part.region}
            for part, sweep_id in zip(self.parts, self.sweep_ids(), strict=True)
        ]
        failed = [
            {"account_id": gap.account_id, "region": gap.region, "code": gap.code, "message": gap.message}
            for gap in self.failed
        ]
        told = {"schema": SCHEMA, "sweep_id": self.sweep_id, "shards": shards, "failed": failed}
        return json.dumps(told, ensure_ascii=False, indent=1) + "\n"


@dataclass(frozen=True, slots=True)
class Expected:
    """What ``sharding.json`` says: the parts by their sweep ids, and the places that none could be made for."""

    sweep_id: str
    parts: Mapping[str, tuple[str | None, str]]
    failed: tuple[Absent, ...]

    @classmethod
    def read(cls, text: str | bytes, source: str) -> "Expected":
        """What :meth:`Sharding.written` wrote.

        Raises:
            InputError: it is something else.
        """
        try:
            told = json.loads(text)
            if told["schema"] != SCHEMA:
                raise ValueError(told["schema"])  # noqa: TRY301  # told as the others
            parts = {shard["sweep_id"]: (shard["account_id"], shard["region"]) for shard in told["shards"]}
            failed = tuple(Absent(**gap) for gap in told["failed"])
            return cls(told["sweep_id"], parts, failed)
        except (ValueError, KeyError, TypeError) as error:
            raise InputError([Problem(source, f"is not a {SHARDING_NAME} of batch-cancel")]) from error

    def absent(self, found: Iterable[str | None]) -> list[Absent]:
        """What is missing where only these parts were found."""
        there = set(found)
        missing = [
            Absent(account_id, region, "ShardMissing", f"the part {sweep_id} left no report")
            for sweep_id, (account_id, region) in self.parts.items()
            if sweep_id not in there
        ]
        return [*self.failed, *missing]


def check_caps(settings: Settings, *, per_shard: bool) -> None:
    """Refuse caps that are of the whole, unless it was said that each part is to have them.

    Raises:
        UsageError: there are some.
    """
    guardrails = settings.guardrails
    errors = guardrails.max_errors is not None
    caps = {"max_runs": guardrails.max_runs, "max_percent": guardrails.max_percent, "max_errors": errors or None}
    found = [name for name, value in caps.items() if value is not None]
    if found and not per_shard:
        raise UsageError(
            f"guardrails.{found[0]} is of the whole sweep, and parts cannot see each other: take it out, or say that"
            " each part is to have it for itself (--caps-per-shard, or caps_per_shard in an event)"
        )


async def parts_of_targets(settings: Settings, service: Service, sweep_id: str) -> Sharding:
    """A part for each account and region.

    Raises:
        UsageError: no region is named and none is configured.
    """
    resolved = await resolve(settings.targets, service)
    parts = tuple(Part(target.account_id, target.region, {"targets": [_keys(target)]}) for target in resolved.targets)
    failed = tuple(
        Absent(gap.account_id, gap.region or "*", gap.code, f"{gap.place}: {gap.message}")
        for gap in resolved.failed
        if not gap.left_out
    )
    return Sharding(sweep_id, parts, failed)


def parts_of_manifest(
    settings: Settings,
    source: ManifestSource,
    service: Service,
    sweep_id: str,
    *,
    folder: Path,
    base: S3Place | None,
    slice_runs: int = SLICE_RUNS,
) -> Sharding:
    """A part for each slice of a list; the slices are written into ``folder``.

    Args:
        base: where the folder will be in S3; None: events name local paths.
        slice_runs: about so many rows a slice, at most.

    Raises:
        InputError: rows are wrong; all are told, and nothing is to be run.
    """
    places = Places(settings.targets, service.default_region)
    counts = Counter[tuple[str | None, str]]()
    faults: list[Problem] = []
    # Twice through the list: how many rows a place has decides into how many slices they go.
    for row in _located(source, places):
        if isinstance(row, Problem):
            faults.append(row)
            if len(faults) >= MOST_FAULTS_TOLD:
                break
        else:
            counts[row[0].account_id, row[0].region] += 1
    if faults:
        raise InputError(faults)
    numbers: dict[tuple[str | None, str], int] = {}
    total = 0
    for place, count in counts.items():
        numbers[place] = total
        total += -(-count // slice_runs)
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    names = [f"{number:04}.jsonl" for number in range(1, total + 1)]
    _write_slices(
        (
            (numbers[place] + _digest(row) % (-(-counts[place] // slice_runs)), target, row)
            for target, row in _rows(source, places)
            for place in [(target.account_id, target.region)]
        ),
        [folder / name for name in names],
    )
    parts = []
    for place, count in counts.items():
        for number in range(numbers[place], numbers[place] + -(-count // slice_runs)):
            if (folder / names[number]).exists():  # by chance no digest may have led there
                where = str(base.below(folder.name, names[number])) if base else str(folder / names[number])
                parts.append(Part(*place, {"manifest": where}))
    return Sharding(sweep_id, tuple(parts))


def _rows(source: ManifestSource, places: Places) -> Iterator[tuple[Target, ManifestRow]]:
    for row in _located(source, places):
        if not isinstance(row, Problem):
            yield row


def _located(source: ManifestSource, places: Places) -> Iterator[tuple[Target, ManifestRow] | Problem]:
    if source.path == "-":
        raise UsageError("standard input can be read only once: save the list, and name the file")
    for row in read_manifest(source.path, source.format):
        if isinstance(row, Problem):
            if not source.skip_invalid:
                yield row
            continue
        target = places.target((row.account_id, row.region))
        if not isinstance(target, str):
            yield target, row
        elif not source.skip_invalid:
            yield Problem(source.path, target, row.line, None, f"{row.transform_id}, {row.task_run_id}")


def _write_slices(rows: Iterable[tuple[int, Target, ManifestRow]], paths: Sequence[Path]) -> None:
    """Each row to its file; of many files only some are open at a time."""
    with contextlib.ExitStack() as stack:
        files: dict[int, IO[str]] = {}
        for number, target, row in rows:
            file = files.get(number)
            if file is None:
                if len(files) >= MOST_OPEN_FILES:
                    stack.close()
                    files.clear()
                file = files[number] = stack.enter_context(
                    open(paths[number], "a", encoding="utf-8", newline="", opener=private)
                )
            told = {
                "transform_id": row.transform_id,
                "task_run_id": row.task_run_id,
                "account_id": target.account_id,
                "region": target.region,
                **row.labels,
            }
            file.write(json.dumps({key: value for key, value in told.items() if value is not None}) + "\n")


def _digest(row: ManifestRow) -> int:
    told = json.dumps([row.transform_id, row.task_run_id]).encode()
    return int.from_bytes(hashlib.sha256(told).digest()[:8])


def _keys(target: Target) -> dict[str, Any]:
    """A target as a sweep file has it."""
    access = target.access
    keys = {"profile": access.profile, "role_arn": access.role_arn, "external_id": access.external_id}
    return {**{key: value for key, value in keys.items() if value is not None}, "regions": [target.region]}
