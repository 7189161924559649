"""One invocation of the function, from its event to its answer."""

import asyncio
import json
import sys
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, fields, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Protocol

from batch_cancel import shards
from batch_cancel.core.errors import (
    AccessStopped,
    BatchCancelError,
    CallFailed,
    ErrorKind,
    SweepInUse,
    UsageError,
)
from batch_cancel.core.events import Event as SweepEvent
from batch_cancel.core.events import PlaceFailed, TargetFailed, Warned
from batch_cancel.delivery.upload import place_of_sweep
from batch_cancel.engine.ending import Result
from batch_cancel.execution import Finished, aws, aws_outbox, carry_out, finish, new_sweep_id, tell_of_failure
from batch_cancel.glue.outbox import S3Place, SharedOutbox
from batch_cancel.lambda_handler import lock as locks
from batch_cancel.lambda_handler.event import checked
from batch_cancel.lambda_handler.outbox import LambdaOutbox
from batch_cancel.lambda_handler.settings_of_event import settings_of
from batch_cancel.ledger import LEDGER_NAME
from batch_cancel.ledger.ledger import Ledger
from batch_cancel.settings import DiscoverySource, ManifestSource, Settings, from_json
from batch_cancel.stop import Stop, StopCause, task_group

SCHEMA = "batch-cancel/lambda/1"
RESERVE_SECONDS = 60.0
RESERVE_SHARE = 0.25
"""So much of the time, at most, is kept for ending."""
LEAST_SECONDS = 1.0
DOWNLOADS_AT_ONCE = 16
MOST_IDLE = 3
"""So many invocations in a row that got nothing done: then one more would not either."""

CUT_OFF = (
    "an earlier invocation of this sweep was cut off before it could upload its ledger: what it asked for may stand in"
    " this one as already finished, or as not attempted; CloudTrail has its calls"
)


class Context(Protocol):
    """What is used of Lambda's context object."""

    def get_remaining_time_in_millis(self) -> int:
        """Milliseconds until the invocation is killed."""
        ...


def handler(event: Mapping[str, Any], context: Context) -> dict[str, Any]:
    """One invocation.

    Returns:
        For a sweep: sweep_id, exit_code, complete, stop_cause, totals, reports, ledger, next_event; never rows.

    Raises:
        BatchCancelError: it could not begin, and nothing was cancelled; or its record could not be kept.
    """
    with tempfile.TemporaryDirectory(prefix="batch-cancel-") as directory:
        invocation = _Invocation(checked(event), context, Path(directory))
        return asyncio.run(invocation.answer())


@dataclass(frozen=True, slots=True)
class _Left:
    """What a sweep has still to do: whether an invocation got anything done shows in it."""

    targets: int
    runs: int
    to_see_end: int


class _Invocation:
    def __init__(self, event: dict[str, Any], context: Context, directory: Path) -> None:
        self._event = event
        self._context = context
        self._work = directory
        self._began_at = datetime.now(UTC)
        self._sweep_id: str = event.get("sweep_id") or new_sweep_id()
        self._outbox: SharedOutbox | None = None
        self._prefix = ""

    async def answer(self) -> dict[str, Any]:
        try:
            settings = await settings_of(self._event, self._work, self._way)
        except CallFailed as failure:
            raise _stopped(failure) from failure
        self._prefix = settings.report.s3 or ""
        try:
            match self._event.get("action", "sweep"):
                case "shard":
                    return await self._shard(settings)
                case "merge":
                    return await self._merge(settings)
                case _:
                    return await self._sweep(settings)
        except SweepInUse:
            raise  # whoever is at it tells how it went
        except BatchCancelError as error:
            for fault in await tell_of_failure(settings, self._sweep_id, error, outbox=self._way):
                _log("warning", fault)
            raise
        except CallFailed as failure:
            raise _stopped(failure) from failure

    # A sweep, or a shard of one

    async def _sweep(self, settings: Settings) -> dict[str, Any]:
        """One invocation at a time: nobody else can know an id that was made here."""
        if "sweep_id" not in self._event:
            return await self._swept(settings)
        lock = await locks.take(
            self._way(),
            place_of_sweep(self._prefix, self._sweep_id).below(locks.LOCK_NAME),
            until=self._now() + timedelta(seconds=self._remaining()),
            now=self._now,
        )
        if lock.follows_a_death:
            _log("warning", CUT_OFF)
        try:
            return await self._swept(settings)
        finally:
            try:
                await lock.release()
            except CallFailed as failure:
                _log("warning", f"the sweep's lock was not released, and frees itself in time: {failure}")

    async def _swept(self, settings: Settings) -> dict[str, Any]:
        run_dir = self._work / "run"
        until = self._until(settings)
        known = await self._known(run_dir)
        manifest: Path | None = None
        if known is None:
            manifest = await self._manifest(settings)
        else:
            _check_same(settings, known, self._sweep_id)
            if "ledger" not in self._event and (over := _is_over(run_dir)) is not None:
                place = place_of_sweep(self._prefix, self._sweep_id)
                return self._told(run_dir, over, Finished(over.exit_code, (), place), None, _left(run_dir))
            settings = replace(known, report=replace(known.report, s3=self._prefix))
        settings = replace(settings, retry=replace(settings.retry, deadline_seconds=self._seconds(until)))
        ledger = Ledger.open(run_dir) if known is not None else Ledger.create(run_dir)
        result = await carry_out(
            settings,
            ledger,
            aws(settings, self._sweep_id),
            sweep_id=self._sweep_id,
            resumed=known is not None,
            on_event=_log_event,
            stop=Stop(),
            rates=Path(tempfile.gettempdir()) / "batch-cancel-rates.json",
            manifest=manifest,
        )
        left = _left(run_dir)
        next_event = self._next_event(result, until, left)
        finished = await finish(
            run_dir,
            settings,
            result.exit_code,
            sweep_id=self._sweep_id,
            outbox=self._way,
            emf=_to_stdout if next_event is None else None,
            notify=next_event is None,
            shown=Path(self._sweep_id),
        )
        if next_event is not None and finished.place is None:  # no ledger to go on with: it begins anew
            next_event = {key: value for key, value in next_event.items() if key != "ledger"}
        return self._told(run_dir, result, finished, next_event, left)

    async def _known(self, run_dir: Path) -> Settings | None:
        """The settings of the sweep that is gone on with, its ledger put in place; None for one that begins."""
        if "sweep_id" not in self._event:
            return None
        named = self._event.get("ledger")
        place = S3Place.of(named) if named else place_of_sweep(self._prefix, self._sweep_id).below(LEDGER_NAME)
        ledger = self._work / LEDGER_NAME
        if await self._way().get_file(place, ledger):
            return _taken_up(ledger, run_dir, self._sweep_id)
        if named:
            raise UsageError(f"there is no ledger {named}: give the event without 'ledger' to begin anew")
        return None

    def _until(self, settings: Settings) -> datetime | None:
        """When the sweep's own deadline comes, whatever the number of invocations."""
        if "until" in self._event:
            until = datetime.fromisoformat(self._event["until"])
            return until if until.tzinfo else until.replace(tzinfo=UTC)
        seconds = settings.retry.deadline_seconds
        if seconds is None or self._event.get("invocation", 1) > 1:
            return None
        return self._began_at + timedelta(seconds=seconds)

    def _seconds(self, until: datetime | None) -> float:
        """How long this invocation may sweep."""
        remaining = self._remaining()
        reserve = self._event.get("reserve_seconds", min(RESERVE_SECONDS, RESERVE_SHARE * remaining))
        seconds = remaining - float(reserve)
        if seconds < LEAST_SECONDS:
            raise UsageError(
                f"only {remaining:.0f} s are left, and {reserve:.0f} s are kept for ending:"
                " give the function a longer timeout, or the event a smaller reserve_seconds"
            )
        if until is None:
            return seconds
        return max(0.0, min(seconds, (until - datetime.now(UTC)).total_seconds()))

    def _next_event(self, result: Result, until: datetime | None, left: _Left) -> dict[str, Any] | None:
        """The event that goes on with what is left; None where nothing is, or nothing would come of it."""
        if result.stop_cause is not StopCause.DEADLINE or (until is not None and datetime.now(UTC) >= until):
            return None
        idle = self._event.get("idle", 0) + 1 if self._event.get("left") == asdict(left) else 0
        if idle >= MOST_IDLE:
            _log("warning", f"{MOST_IDLE} invocations in a row got nothing done: there is no next event")
            return None
        return {
            **self._event,
            "sweep_id": self._sweep_id,
            "ledger": str(place_of_sweep(self._prefix, self._sweep_id).below(LEDGER_NAME)),
            "invocation": self._event.get("invocation", 1) + 1,
            "until": until.isoformat() if until else None,
            "left": asdict(left),
            "idle": idle,
        }

    def _told(
        self, run_dir: Path, result: Result, finished: Finished, next_event: dict[str, Any] | None, left: _Left
    ) -> dict[str, Any]:
        from batch_cancel.report.files import opened  # noqa: PLC0415  # not before the first call

        with opened(run_dir) as document:
            summary = document.summary()
        return {
            "schema": SCHEMA,
            "sweep_id": self._sweep_id,
            "invocation": self._event.get("invocation", 1),
            "exit_code": finished.exit_code,
            "complete": summary["complete"],
            "stop_cause": summary["stop_cause"],
            "says": result.says,
            "totals": summary["totals"],
            "targets": len(summary["targets"]),
            "incomplete_targets": sum(not target["complete"] for target in summary["targets"]),
            "left": asdict(left),
            "reports": f"{finished.place}/" if finished.place else None,
            "ledger": str(finished.place.below(LEDGER_NAME)) if finished.place else None,
            "delivery_faults": list(finished.faults),
            "next_event": next_event,
        }

    async def _manifest(self, settings: Settings) -> Path | None:
        """The list on this machine; None where the runs are to be discovered."""
        if not isinstance(settings.source, ManifestSource):
            return None
        uri = settings.source.path
        path = self._work / "manifest"
        if not await self._way().get_file(S3Place.of(uri), path):
            raise UsageError(f"there is no manifest {uri}")
        return path

    def _way(self) -> SharedOutbox:
        if self._outbox is None:
            way = aws_outbox(Settings(source=DiscoverySource()), self._sweep_id)
            self._outbox = LambdaOutbox(way, self._remaining)
        return self._outbox

    def _remaining(self) -> float:
        """Seconds until the invocation is killed."""
        return self._context.get_remaining_time_in_millis() / 1000

    @staticmethod
    def _now() -> datetime:
        return datetime.now(UTC)

    # Many shards

    async def _shard(self, settings: Settings) -> dict[str, Any]:
        """Write the parts' events to S3, where a Distributed Map reads them."""
        shards.check_caps(settings, per_shard=bool(self._event.get("caps_per_shard")))
        base = self._shards()
        service = aws(settings, self._sweep_id)
        folder = self._work / shards.SLICES_NAME
        if isinstance(settings.source, ManifestSource):
            sharding = shards.parts_of_manifest(
                settings,
                settings.source,
                service,
                self._sweep_id,
                folder=folder,
                base=base,
                slice_runs=self._event.get("slice_runs", shards.SLICE_RUNS),
                at=await self._manifest(settings),
            )
            for path in sorted(folder.iterdir()):
                await self._way().put_file(base.below(folder.name, path.name), path, "application/jsonl")
        else:
            sharding = await shards.parts_of_targets(settings, service, self._sweep_id)
        common: dict[str, Any] = {
            key: self._event[key]
            for key in ("sweep", "yes", "dry_run", "reason", "reserve_seconds")
            if key in self._event
        }
        items, told = base.below(shards.ITEMS_NAME), base.below(shards.SHARDING_NAME)
        text = json.dumps(list(sharding.items(common)), ensure_ascii=False)
        await self._way().put_bytes(items, text.encode(), "application/json")
        await self._way().put_bytes(told, sharding.written().encode(), "application/json")
        return {
            "schema": SCHEMA,
            "sweep_id": self._sweep_id,
            "shards": len(sharding.parts),
            "failed": len(sharding.failed),
            "rejected": len(sharding.rejected),
            "items": {"bucket": items.bucket, "key": items.key},
            "merge_event": {**common, "action": "merge", "sweep_id": self._sweep_id},
        }

    async def _merge(self, settings: Settings) -> dict[str, Any]:
        """One report of what the parts left in S3; what left nothing is in trouble."""
        told = self._shards().below(shards.SHARDING_NAME)
        data = await self._way().get_bytes(told)
        if data is None:
            raise UsageError(f"there is no {told}: begin with the action shard, and the same sweep_id")
        expected = shards.Expected.read(data, str(told))
        found = [part for part in await self._fetch_parts(expected.parts) if part is not None]
        run_dir = self._work / "run"
        exit_code = await shards.merge_parts(found, {path.parent.name for path in found}, run_dir, expected)
        finished = await finish(
            run_dir,
            settings,
            exit_code,
            sweep_id=self._sweep_id,
            outbox=self._way,
            emf=_to_stdout,
            shown=Path(self._sweep_id),
        )
        return self._told(run_dir, Result(exit_code), finished, None, _left(run_dir))

    async def _fetch_parts(self, sweep_ids: Iterable[str]) -> list[Path | None]:
        at_once = asyncio.Semaphore(DOWNLOADS_AT_ONCE)

        async def one(sweep_id: str) -> Path | None:
            path = _new_folder(self._work / "parts" / sweep_id) / LEDGER_NAME
            async with at_once:
                there = await self._way().get_file(place_of_sweep(self._prefix, sweep_id).below(LEDGER_NAME), path)
            return path if there else None

        async with task_group() as group:
            tasks = [group.create_task(one(sweep_id)) for sweep_id in sweep_ids]
        return [task.result() for task in tasks]

    def _shards(self) -> S3Place:
        return place_of_sweep(self._prefix, self._sweep_id).below("shards")


def _new_folder(path: Path) -> Path:
    path.mkdir(mode=0o700, parents=True)
    return path


def _taken_up(fetched: Path, run_dir: Path, sweep_id: str) -> Settings | None:
    """Put a ledger in the run directory and tell its settings; None where its list was not read to the end.

    Raises:
        LedgerError, UsageError: it is none, or another sweep's.
    """
    run_dir.mkdir(mode=0o700)
    fetched.replace(run_dir / LEDGER_NAME)
    with closing(Ledger.look(run_dir)) as reader:
        facts = reader.facts()
    if facts.get("sweep_id", sweep_id) != sweep_id:
        raise UsageError(f"the ledger is of sweep {facts['sweep_id']}, not of {sweep_id}")
    if "settings" in facts and (facts["source"]["kind"] == "discovery" or facts.get("found")):
        return from_json(facts["settings"])
    (run_dir / LEDGER_NAME).unlink()  # nothing was called
    run_dir.rmdir()
    return None


def _check_same(asked: Settings, known: Settings, sweep_id: str) -> None:
    """A sweep id names one sweep: its ledger may say neither more nor less than the event that is to go on with it.

    Raises:
        UsageError: it says something else.
    """
    known = replace(
        known,
        report=replace(known.report, s3=asked.report.s3),  # a function may have got another bucket meanwhile
        retry=replace(known.retry, deadline_seconds=asked.retry.deadline_seconds),  # an invocation has its own
    )
    others = [field.name for field in fields(Settings) if getattr(asked, field.name) != getattr(known, field.name)]
    if others:
        names = ", ".join("mode" if name == "dry_run" else name for name in others)
        raise UsageError(
            f"the sweep {sweep_id} was begun with other settings ({names}): an event that says something else needs"
            " another sweep_id"
        )


def _is_over(run_dir: Path) -> Result | None:
    """How a sweep ended of which nothing is left for another invocation: its event has come once more."""
    with closing(Ledger.look(run_dir)) as reader:
        facts = reader.facts()
    cause = facts.get("stop_cause")
    if facts.get("finished_at") is None or facts.get("exit_code") is None or cause == StopCause.DEADLINE:
        return None
    return Result(int(facts["exit_code"]), StopCause(cause) if cause else None)


def _left(run_dir: Path) -> _Left:
    with closing(Ledger.look(run_dir)) as reader:
        targets = sum(not row.listed for row in reader.targets())
        return _Left(targets, reader.count("pending") + reader.count("claimed"), reader.count("asked"))


def _stopped(failure: CallFailed) -> BatchCancelError:
    sentence = f"{failure.operation}: {failure.code}: {failure.message}"
    access = failure.kind in (ErrorKind.ACCESS, ErrorKind.CREDENTIALS)
    return AccessStopped(sentence) if access else BatchCancelError(sentence)


def _to_stdout(lines: Sequence[str]) -> None:
    """Standard output goes to CloudWatch Logs, which makes metrics of these lines."""
    sys.stdout.write("".join(f"{line}\n" for line in lines))
    sys.stdout.flush()


def _log_event(event: SweepEvent) -> None:
    match event:
        case Warned(message):
            _log("warning", message)
        case PlaceFailed(place, code, message):
            _log("warning", f"{place}: {code}: {message}")
        case TargetFailed(target, code, message):
            _log("warning", f"{target}: {code}: {message}")
        case _:
            pass  # the report tells the rest


def _log(level: str, message: str) -> None:
    _to_stdout([json.dumps({"level": level, "message": message}, ensure_ascii=False)])
