"""What changed between sweeps: runs that are new, gone, or still running, made from the ledgers of two or more of them.

A run that the last sweep found active and then saw end (most often because it stopped it) is gone if an earlier sweep
had it too; else it is new, and its outcome tells the rest.

What a sweep did not look at it cannot tell: a run is gone only where the last sweep listed its target completely or saw
the run itself over, else it is *not seen*. A run that was asked to stop, and whose end nobody saw, is not gone by a
listing either, because STOPPING runs are in none. It is new only where the sweep before listed its target completely or
the run started after that sweep did, else it is *newly seen*.

The ledgers are read side by side, in the order of the runs' keys: memory does not grow with the number of runs.
"""

import heapq
import itertools
import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self, TextIO

from batch_cancel.core.errors import UsageError
from batch_cancel.core.moment import rfc3339
from batch_cancel.core.task_run import Status
from batch_cancel.report.past_sweep import PastSweep, RunKey, Sighting

SCHEMA = "batch-cancel/diff/1"


class Change(StrEnum):
    """What became of a run from the earlier sweeps to the last."""

    NEW = "new"
    GONE = "gone"
    STILL_RUNNING = "still_running"
    NEWLY_SEEN = "newly_seen"
    """Active now; the sweep before could not have told."""
    NOT_SEEN = "not_seen"
    """Active before; the last sweep could not tell."""


class TransformKey(NamedTuple):
    """What names a transform across ledgers."""

    place: str
    region: str
    transform_id: str


@dataclass(frozen=True, slots=True)
class RunChange:
    """A run that was active in one of the sweeps, and what became of it.

    Attributes:
        latest: the last sighting of it as active, whose facts are shown.
        sweeps: in how many of the sweeps it was active.
        first_seen_at, last_seen_at: the starts of the first and last of these.
        reason: why nothing better can be said, for ``newly_seen`` and ``not_seen``.
    """

    change: Change
    latest: Sighting
    sweeps: int
    first_seen_at: datetime | None
    last_seen_at: datetime | None
    transform_name: str | None
    reason: str | None = None

    @property
    def not_stopped(self) -> bool:
        """Whether it was asked to stop, in vain as far as is known, and need not be over."""
        unchanged = self.change in (Change.STILL_RUNNING, Change.NOT_SEEN)
        return unchanged and self.latest.asked_in_vain


@dataclass(slots=True)
class TransformChange:
    """How many runs of one transform changed how."""

    account_id: str | None
    transform_name: str | None = None
    counts: Counter[Change] = field(default_factory=Counter)


class Comparison:
    """Two or more sweeps, oldest first. Close it, or use it as a context.

    Raises:
        LedgerError: a directory holds no ledger that can be read.
        UsageError: they are fewer than two, not in order, or the same sweep twice.
    """

    def __init__(self, directories: Sequence[Path]) -> None:
        if len(directories) < 2:
            raise UsageError("a comparison needs two run directories or more, the oldest first")
        with ExitStack() as opening:
            self.sweeps: list[PastSweep] = []
            for directory in directories:
                sweep = PastSweep(directory)
                opening.callback(sweep.close)
                self.sweeps.append(sweep)
            _check_order(self.sweeps)
            self.cautions = list(self._cautions())
            self.totals: Counter[Change] = Counter(dict.fromkeys(Change, 0))
            self.transforms: dict[TransformKey, TransformChange] = {}
            for run in self.changes():
                self._count(run)
            self._open = opening.pop_all()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the ledgers."""
        self._open.close()

    @property
    def differs(self) -> bool:
        """Whether anything changed, or could have changed without being seen."""
        return bool(self.cautions) or any(self.totals[change] for change in Change if change != Change.STILL_RUNNING)

    def changes(self) -> Iterator[RunChange]:
        """Every run that was active in one of the sweeps, in the order of its key; streamed."""
        streams = [_numbered(at, sweep) for at, sweep in enumerate(self.sweeps)]
        merged = heapq.merge(*streams, key=lambda item: item[:2])
        for _, group in itertools.groupby(merged, key=lambda item: item[0]):
            sightings: dict[int, Sighting] = {}
            for _, at, sighting in group:
                if at not in sightings or sighting.active:  # of two ways into one account, the one that saw it run
                    sightings[at] = sighting
            if change := self._change(sightings):
                yield change

    def write_json(self, out: TextIO) -> None:
        """Write the whole comparison as one JSON document, a run a line."""
        head = {
            "schema": SCHEMA,
            "differs": self.differs,
            "sweeps": [
                {
                    "directory": str(sweep.directory),
                    "sweep_id": sweep.facts.get("sweep_id"),
                    "name": sweep.facts.get("name"),
                    "mode": sweep.facts.get("mode"),
                    "started_at": sweep.facts.get("started_at"),
                    "finished_at": sweep.facts.get("finished_at"),
                }
                for sweep in self.sweeps
            ],
            "cautions": self.cautions,
            "totals": {str(change): self.totals[change] for change in Change},
            "transforms": [
                {
                    "account_id": transform.account_id,
                    "region": key.region,
                    "transform_id": key.transform_id,
                    "transform_name": transform.transform_name,
                    **{str(change): transform.counts[change] for change in Change},
                }
                for key, transform in self.transforms.items()
            ],
        }
        # ASCII alone: ids may hold what a terminal or another encoding could not show.
        out.write(json.dumps(head, indent=2).removesuffix("\n}"))
        out.write(',\n  "runs": [')
        separator = "\n    "
        for run in self.changes():
            out.write(separator + json.dumps(_as_json(run)))
            separator = ",\n    "
        out.write("]\n}\n" if separator[0] == "\n" else "\n  ]\n}\n")

    def _change(self, sightings: Mapping[int, Sighting]) -> RunChange | None:
        """What became of one run; None where no sweep saw it active."""
        seen = [at for at in sorted(sightings) if sightings[at].active]
        if not seen:
            return None
        last = len(self.sweeps) - 1
        if seen[-1] != last:
            change, reason = self._since(sightings, seen[-1])
        elif len(seen) > 1 and sightings[last].over:
            change, reason = Change.GONE, None
        elif len(seen) > 1:
            change, reason = Change.STILL_RUNNING, None
        else:
            change, reason = self._before(sightings)
        return RunChange(
            change=change,
            latest=sightings[seen[-1]],
            sweeps=len(seen),
            first_seen_at=self.sweeps[seen[0]].started_at,
            last_seen_at=self.sweeps[seen[-1]].started_at,
            transform_name=next((name for at in reversed(seen) if (name := sightings[at].transform_name)), None),
            reason=reason,
        )

    def _since(self, sightings: Mapping[int, Sighting], seen_at: int) -> tuple[Change, str | None]:
        """A run that was active, and is not seen so by the last sweep."""
        seen, now = sightings[seen_at], sightings.get(len(self.sweeps) - 1)
        if now is not None:
            if now.over:
                return Change.GONE, None
            if now.status == Status.STOPPING:
                return Change.STILL_RUNNING, "STOPPING by now"
            return Change.NOT_SEEN, f"its state was not read ({now.outcome})"
        since = [sightings[at] for at in sorted(sightings) if at >= seen_at]
        if any(sighting.over for sighting in since):
            return Change.GONE, None
        reason = self.sweeps[-1].blind_to(seen.key)
        if reason is None and since[-1].may_be_stopping:
            reason = "it may be STOPPING, and only STARTING and RUNNING runs are listed"
        return (Change.NOT_SEEN, reason) if reason else (Change.GONE, None)

    def _before(self, sightings: Mapping[int, Sighting]) -> tuple[Change, str | None]:
        """A run that the last sweep alone saw active."""
        before = self.sweeps[-2]
        earlier, now = sightings.get(len(self.sweeps) - 2), sightings[len(self.sweeps) - 1]
        if now.started_on and before.started_at and now.started_on > before.started_at:
            return Change.NEW, None
        if earlier is not None:
            if earlier.active is False:
                return Change.NEW, None
            return Change.NEWLY_SEEN, f"its state was not read before ({earlier.outcome})"
        reason = before.blind_to(now.key)
        return (Change.NEWLY_SEEN, f"in the sweep before: {reason}") if reason else (Change.NEW, None)

    def _count(self, run: RunChange) -> None:
        self.totals[run.change] += 1
        key = TransformKey(*run.latest.key[:3])
        transform = self.transforms.setdefault(key, TransformChange(run.latest.account_id))
        transform.counts[run.change] += 1
        transform.transform_name = transform.transform_name or run.transform_name

    def _cautions(self) -> Iterator[dict[str, Any]]:
        """Where the sweeps did not look at the same, or not to the end."""
        last = self.sweeps[-1]
        for sweep in self.sweeps:
            if not sweep.finished:
                yield _caution(sweep, "the sweep has not finished: what is compared is what it had found by now")
            for place, listed in sweep.targets.items():
                if listed.fault is not None:
                    yield _caution(sweep, listed.fault, place)
            if sweep is last:
                continue
            if sweep.scope != last.scope:
                yield _caution(sweep, f"it looked at other runs than {last.directory}: another source or selection")
            for place in sorted(sweep.targets.keys() - last.targets.keys()):
                yield _caution(last, f"not swept, although {sweep.directory} did", place)
            for place in sorted(last.targets.keys() - sweep.targets.keys()):
                yield _caution(sweep, f"not swept, although {last.directory} did", place)


def _numbered(at: int, sweep: PastSweep) -> Iterator[tuple[RunKey, int, Sighting]]:
    for sighting in sweep.sightings():
        yield sighting.key, at, sighting


def _caution(sweep: PastSweep, message: str, place: tuple[str, str] | None = None) -> dict[str, Any]:
    target = f"{place[0]}/{place[1]}" if place else None
    return {"directory": str(sweep.directory), "target": target, "message": message}


def _check_order(sweeps: Sequence[PastSweep]) -> None:
    for older, newer in itertools.pairwise(sweeps):
        if older.started_at and newer.started_at and older.started_at > newer.started_at:
            raise UsageError(f"{newer.directory} is older than {older.directory}: name the oldest first")
    by_id: dict[object, PastSweep] = {}
    for sweep in sweeps:
        sweep_id = sweep.facts.get("sweep_id")
        if sweep_id is not None and sweep_id in by_id:
            raise UsageError(f"{by_id[sweep_id].directory} and {sweep.directory} hold the same sweep: name two")
        by_id[sweep_id] = sweep


def _as_json(run: RunChange) -> dict[str, Any]:
    key, latest = run.latest.key, run.latest
    return {
        "change": str(run.change),
        "account_id": latest.account_id,
        "region": key.region,
        "transform_id": key.transform_id,
        "transform_name": run.transform_name,
        "task_run_id": key.task_run_id,
        "task_type": latest.task_type,
        "started_on": rfc3339(latest.started_on),
        "status": latest.status,
        "outcome": str(latest.outcome),
        "sweeps": run.sweeps,
        "first_seen_at": rfc3339(run.first_seen_at),
        "last_seen_at": rfc3339(run.last_seen_at),
        "reason": run.reason,
    }
