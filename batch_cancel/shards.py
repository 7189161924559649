"""A sweep in parts, for engines that run many at once: Step Functions' Distributed Map, a job array, GNU parallel.

Each part is an event of :mod:`batch_cancel.lambda_handler`. With discovery it is one account and region: so every
service limit is known to one process alone. A list is cut into slices, each of one account and region too, and one that
is long is cut by a digest of the run's ids: rows that name a run twice stay in one slice.

``sharding.json`` says which parts there are, and what belongs to none of them (accounts that are closed, rows of the
list that were left out): so whoever merges their reports knows what is missing, and what is to be told besides.
"""

import contextlib
import hashlib
import json
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any

from batch_cancel.core.errors import InputError, Problem, RecordLost, UsageError
from batch_cancel.core.moment import rfc3339
from batch_cancel.core.task_run import Target
from batch_cancel.engine.closed_regions import explain_closed_regions
from batch_cancel.engine.intake import Places
from batch_cancel.engine.targets import resolve
from batch_cancel.glue.api import Service
from batch_cancel.glue.outbox import S3Place
from batch_cancel.ledger import LEDGER_NAME
from batch_cancel.ledger.ledger import Ledger
from batch_cancel.ledger.reader import RejectedRow
from batch_cancel.manifest import ManifestRow, read_manifest
from batch_cancel.private_file import private
from batch_cancel.report.merge import Absent, Besides, merge
from batch_cancel.report.story import is_of_access, is_of_role
from batch_cancel.settings import ManifestSource, Settings, from_json, to_json
from batch_cancel.version import __version__

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
    """All parts, and what is to be told besides.

    Attributes:
        settings: of the whole.
        cut_at: when the parts were made, aware.
        failed: the places that none could be made for.
        left_out: accounts that are closed to everybody, as the report has them.
        rejected: rows of the list that were left out.
    """

    sweep_id: str
    settings: Settings
    cut_at: datetime
    parts: tuple[Part, ...]
    failed: tuple[Absent, ...] = ()
    left_out: tuple[dict[str, Any], ...] = ()
    rejected: tuple[RejectedRow, ...] = ()

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
        told = {
            "schema": SCHEMA,
            "sweep_id": self.sweep_id,
            "cut_at": rfc3339(self.cut_at),
            "settings": to_json(self.settings),
            "shards": shards,
            "failed": [asdict(gap) for gap in self.failed],
            "left_out": list(self.left_out),
            "rejected": [asdict(row) for row in self.rejected],
        }
        return json.dumps(told, ensure_ascii=False, indent=1) + "\n"


@dataclass(frozen=True, slots=True)
class Expected:
    """What ``sharding.json`` says: the parts by their sweep ids, and the rest as :class:`Sharding` has it."""

    sweep_id: str
    settings: Settings
    cut_at: datetime
    parts: Mapping[str, tuple[str | None, str]]
    failed: tuple[Absent, ...]
    left_out: tuple[dict[str, Any], ...]
    rejected: tuple[RejectedRow, ...]

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
            return cls(
                sweep_id=told["sweep_id"],
                settings=from_json(told["settings"]),
                cut_at=datetime.fromisoformat(told["cut_at"]),
                parts={shard["sweep_id"]: (shard["account_id"], shard["region"]) for shard in told["shards"]},
                failed=tuple(Absent(**gap) for gap in told["failed"]),
                left_out=tuple(dict(gap) for gap in told["left_out"]),
                rejected=tuple(RejectedRow(**row) for row in told["rejected"]),
            )
        except (ValueError, KeyError, TypeError, UsageError) as error:
            raise InputError([Problem(source, f"is not a {SHARDING_NAME} of this version of batch-cancel")]) from error

    def absent(self, found: Collection[str | None]) -> list[Absent]:
        """What is missing where only these parts were found."""
        missing = [
            Absent(account_id, region, "ShardMissing", f"the part {sweep_id} left no report")
            for sweep_id, (account_id, region) in self.parts.items()
            if sweep_id not in found
        ]
        return [*self.failed, *missing]


async def merge_parts(parts: Sequence[Path], found: Collection[str | None], directory: Path, expected: Expected) -> int:
    """One ledger of a sweep's parts, in a directory that holds none yet; the exit code that the whole has.

    Args:
        parts: run directories, ledgers, or ``report.json`` files.
        found: their sweep ids.

    Raises:
        UsageError, LedgerError, InputError, RecordLost: as :func:`batch_cancel.report.merge.merge`.
    """
    settings = expected.settings
    besides = Besides(
        settings=to_json(settings),
        facts={
            "mode": "dry-run" if settings.dry_run else "cancel",
            "name": settings.name,
            "reason": settings.reason,
            "tool_version": __version__,
            "started_at": rfc3339(expected.cut_at),
            "finished_at": rfc3339(datetime.now(UTC)),
            "exit_code": 0,
            "source": {"kind": settings.source.kind},
        },
        absent=expected.absent(found),
        left_out=expected.left_out,
        rejected=expected.rejected,
    )
    exit_code = merge(parts, directory, sweep_id=expected.sweep_id, besides=besides)
    if all(map(_is_ledger, parts)):  # a report does not tell by which credentials a target was entered
        await _tell_regions_from_credentials(directory)
    return exit_code


async def _tell_regions_from_credentials(directory: Path) -> None:
    """A part has one region, and nothing to compare with: here it shows where the same credentials were taken."""
    ledger = Ledger.open(directory)
    try:
        rows = ledger.reader.targets()
        answered = ledger.reader.targets_that_answered()
        # Who was denied inside was let in: what the credentials may do is another question than whether they are taken.
        let_in = [
            row.target for row in rows if row.id in answered or (is_of_access(row.error_code) and not is_of_role(row))
        ]
        explain_closed_regions(ledger, rows, let_in)
    finally:
        await ledger.close()


def _is_ledger(part: Path) -> bool:
    return (part / LEDGER_NAME).is_file() or (part.is_file() and part.suffix.lower() != ".json")


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
    cut_at = datetime.now(UTC)
    resolved = await resolve(settings.targets, service)
    parts = tuple(Part(target.account_id, target.region, {"targets": [_keys(target)]}) for target in resolved.targets)
    failed = tuple(
        Absent(gap.account_id, gap.region or "*", gap.code, f"{gap.place}: {gap.message}")
        for gap in resolved.failed
        if not gap.left_out
    )
    left_out = tuple(
        {"account_id": gap.account_id, "code": gap.code, "message": gap.message}
        for gap in resolved.failed
        if gap.left_out
    )
    return Sharding(sweep_id, settings, cut_at, parts, failed, left_out)


def parts_of_manifest(
    settings: Settings,
    source: ManifestSource,
    service: Service,
    sweep_id: str,
    *,
    folder: Path,
    base: S3Place | None,
    slice_runs: int = SLICE_RUNS,
    at: Path | None = None,
) -> Sharding:
    """A part for each slice of a list; the slices are written into ``folder``.

    Args:
        base: where the folder will be in S3; None: events name local paths.
        slice_runs: about so many rows a slice, at most.
        at: where the list stands on this machine, if the source names its place elsewhere.

    Raises:
        InputError: rows are wrong and may not be skipped; all are told, and nothing is to be run.
        RecordLost: the slices cannot be written.
    """
    cut_at = datetime.now(UTC)
    places = Places(settings.targets, service.default_region)
    counts = Counter[tuple[str | None, str]]()
    faults: list[Problem] = []  # where they are skipped, all of them are held: sharding.json is to tell them
    # Twice through the list: how many rows a place has decides into how many slices they go.
    for row in _located(source, places, at):
        if isinstance(row, Problem):
            faults.append(row)
            if len(faults) >= MOST_FAULTS_TOLD and not source.skip_invalid:
                break
        else:
            counts[row[0].account_id, row[0].region] += 1
    if faults and not source.skip_invalid:
        raise InputError(faults)
    numbers: dict[tuple[str | None, str], int] = {}
    total = 0
    for place, count in counts.items():
        numbers[place] = total
        total += -(-count // slice_runs)
    names = [f"{number:04}.jsonl" for number in range(1, total + 1)]
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        _write_slices(
            (
                (numbers[place] + _digest(row) % (-(-counts[place] // slice_runs)), target, row)
                for target, row in _rows(source, places, at)
                for place in [(target.account_id, target.region)]
            ),
            [folder / name for name in names],
        )
    except OSError as error:
        raise RecordLost(f"cannot write the slices in {folder}: {error.strerror or error}") from error
    parts = []
    for place, count in counts.items():
        for number in range(numbers[place], numbers[place] + -(-count // slice_runs)):
            if (folder / names[number]).exists():  # by chance no digest may have led there
                where = str(base.below(folder.name, names[number])) if base else str(folder / names[number])
                parts.append(Part(*place, {"manifest": where}))
    rejected = tuple(RejectedRow(fault.line, fault.text, fault.in_its_line) for fault in faults)
    return Sharding(sweep_id, settings, cut_at, tuple(parts), rejected=rejected)


def _rows(source: ManifestSource, places: Places, at: Path | None) -> Iterator[tuple[Target, ManifestRow]]:
    for row in _located(source, places, at):
        if not isinstance(row, Problem):
            yield row


def _located(source: ManifestSource, places: Places, at: Path | None) -> Iterator[tuple[Target, ManifestRow] | Problem]:
    if source.path == "-":
        raise UsageError("standard input can be read only once: save the list, and name the file")
    for row in read_manifest(source.path, source.format, at=at):
        if isinstance(row, Problem):
            yield row
            continue
        target = places.target((row.account_id, row.region))
        if isinstance(target, str):
            yield Problem(source.path, target, row.line, None, f"{row.transform_id}, {row.task_run_id}")
        else:
            yield target, row


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
