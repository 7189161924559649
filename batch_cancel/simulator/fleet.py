"""Transforms and task runs: what they are, how a run lives, and the fleet that a world begins with."""

import math
import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from batch_cancel.core.task_run import Status, TaskType
from batch_cancel.simulator.settings import Behaviour, FleetSettings, Span

LONGEST_ID = 255
_TYPES = (TaskType.FIND_MATCHES,) * 6 + tuple(TaskType)
"""Most task runs find matches."""
_NAMES = ("dedupe-customers", "dedupe-orders", "match-suppliers", "link-households", "critical-ledger", "trial-model")
_CAPACITIES: tuple[dict[str, Any], ...] = (
    {"MaxCapacity": 10.0},
    {"MaxCapacity": 2.0},
    {"WorkerType": "Standard", "NumberOfWorkers": 10},
    {"WorkerType": "G.1X", "NumberOfWorkers": 8},
    {"WorkerType": "G.2X", "NumberOfWorkers": 5},
)
_ODD_STEMS = (
    "a,b,c",
    'say "hi"',
    "it's",
    "tab\there",
    "=SUM(A1:A9)",
    "+1",
    "-2",
    "@cmd",
    "  spaces  ",
    "emoji 🚀🧯",
    "עברית \u200f",
    "\u202eright-to-left",
    "日本語",
    "<script>alert(1)</script>",
    "semi;colon|pipe",
    "back\\slash",
    "{{7*7}}",
    "$(touch x)",
    "#hash",
    "null",
    "007",
    "1e5",
    "~",
    "- dash",
    "a: b",
    "combining e\u0301",
    "\u0085next line",
    "\u2028separator",
    "\ufffd",
    "x" * LONGEST_ID,
    "🧯" * LONGEST_ID,
)


class Run:
    """A task run whose whole life follows from a few times, so that its status at any time is a calculation.

    Attributes:
        started_at, running_at, ends_at: seconds since the epoch; the last is when it ends if nobody cancels it.
        ends_as: its status when it ends by itself.
        stops_after: seconds from an accepted cancel request to its end; infinite for a run that gets stuck.
        finishes_first: it ends as it would have, although a cancel request was accepted.
        cancels: when cancel requests were accepted.
        requests: cancel requests that came for it, the ones that were turned away included.
        origin: ``fleet``, ``new`` or ``restarted``; with the last, ``replaces`` is the run that it follows.
    """

    __slots__ = (
        "cancels",
        "ends_as",
        "ends_at",
        "finishes_first",
        "origin",
        "replaces",
        "requests",
        "restarts",
        "running_at",
        "started_at",
        "stops_after",
        "task_run_id",
        "task_type",
        "transform_id",
    )

    def __init__(self, transform_id: str, task_run_id: str, task_type: TaskType, started_at: float) -> None:
        self.transform_id = transform_id
        self.task_run_id = task_run_id
        self.task_type = task_type
        self.started_at = started_at
        self.running_at = started_at
        self.ends_at = math.inf
        self.ends_as = Status.SUCCEEDED
        self.stops_after = 0.0
        self.finishes_first = False
        self.cancels: tuple[float, ...] = ()
        self.requests = 0
        self.origin = "fleet"
        self.replaces: str | None = None
        self.restarts = 0

    def status(self, at: float) -> Status:
        """Its status at a time."""
        return self._last_change(at)[1]

    def ended_at(self) -> float:
        """When it ends, by what is known so far."""
        return self.cancels[0] + self.stops_after if self.cancels else self.ends_at

    def cancel(self, at: float) -> Status:
        """Take a cancel request for an active or stopping run, and say its status after it."""
        self.cancels = (*self.cancels, at)
        return self.status(at)

    def history(self, until: float) -> Iterator[tuple[float, Status, str]]:
        """Every status that it had: since when, which, and by what cause."""
        asked_at = self.cancels[0] if self.cancels else math.inf
        steps = [(self.started_at, Status.STARTING, self.origin)]
        if self.running_at < min(asked_at, self.ends_at):
            steps.append((self.running_at, Status.RUNNING, "by itself"))
        if self.cancels:
            steps.append((asked_at, Status.STOPPING, "cancelled"))
            end = (self.ends_as, "by itself") if self.finishes_first else (Status.STOPPED, "cancelled")
            steps.append((asked_at + self.stops_after, *end))
        else:
            steps.append((self.ends_at, self.ends_as, "by itself"))
        return (step for step in steps if step[0] <= until)

    def described(self, at: float) -> dict[str, Any]:
        """The TaskRun structure of the Glue API reference, with times as epoch seconds."""
        changed_at, status = self._last_change(at)
        told: dict[str, Any] = {
            "TransformId": self.transform_id,
            "TaskRunId": self.task_run_id,
            "Status": status.value,
            "LogGroupName": "/aws-glue/mlTransforms",
            "Properties": {"TaskType": self.task_type.value},
            "StartedOn": round(self.started_at, 3),
            "LastModifiedOn": round(changed_at, 3),
            "ExecutionTime": self._execution_seconds(changed_at if status.ended else at),
        }
        if status.ended:
            told["CompletedOn"] = round(changed_at, 3)
        if status is Status.FAILED:
            told["ErrorString"] = "Command failed with exit code 1"
        elif status is Status.TIMEOUT:
            told["ErrorString"] = "Task run exceeded its timeout"
        return told

    def _execution_seconds(self, at: float) -> int:
        never_ran = bool(self.cancels) and self.cancels[0] <= self.running_at
        return 0 if never_ran else max(0, int(at - self.running_at))

    def _last_change(self, at: float) -> tuple[float, Status]:
        if self.cancels and at >= self.cancels[0]:
            gone_at = self.cancels[0] + self.stops_after
            if at < gone_at:
                return self.cancels[0], Status.STOPPING
            return gone_at, self.ends_as if self.finishes_first else Status.STOPPED
        if at >= self.ends_at:
            return self.ends_at, self.ends_as
        if at >= self.running_at:
            return self.running_at, Status.RUNNING
        return self.started_at, Status.STARTING


@dataclass(slots=True)
class MLTransform:
    """A transform and its runs, the oldest first."""

    transform_id: str
    name: str
    created_at: float
    capacity: dict[str, Any]
    glue_version: str
    timeout_minutes: int
    max_retries: int
    tags: dict[str, str]
    runs: list[Run] = field(default_factory=list)
    by_id: dict[str, Run] = field(default_factory=dict)

    def add(self, run: Run) -> None:
        """Take in a run; the newest is the last."""
        self.runs.append(run)
        self.by_id[run.task_run_id] = run

    def described(self, account_id: str) -> dict[str, Any]:
        """The MLTransform structure of the Glue API reference, with times as epoch seconds."""
        return {
            "TransformId": self.transform_id,
            "Name": self.name,
            "Status": "READY",
            "CreatedOn": round(self.created_at, 3),
            "LastModifiedOn": round(self.created_at, 3),
            "InputRecordTables": [{"DatabaseName": "records", "TableName": "raw"}],
            "Parameters": {"TransformType": "FIND_MATCHES", "FindMatchesParameters": {"PrimaryKeyColumnName": "id"}},
            "LabelCount": 100,
            "Role": f"arn:aws:iam::{account_id}:role/GlueServiceRole",
            "GlueVersion": self.glue_version,
            "Timeout": self.timeout_minutes,
            "MaxRetries": self.max_retries,
            **self.capacity,
        }


Place = tuple[str, str]
"""An account and a region."""


class Fleet:
    """Every transform of every account and region, and the way to start more runs.

    Args:
        began_at: seconds since the epoch.
    """

    def __init__(self, settings: FleetSettings, behaviour: Behaviour, seed: int, began_at: float) -> None:
        self._settings = settings
        self._behaviour = behaviour
        self._random = random.Random(f"fleet {seed}")
        self._ids = 0
        self.transforms: dict[Place, dict[str, MLTransform]] = {}
        for account_id in settings.accounts:
            for region in settings.regions:
                transforms = [self._new_transform(at, began_at) for at in range(settings.transforms)]
                self.transforms[account_id, region] = {each.transform_id: each for each in transforms}
        homes = [transform for place in self.transforms.values() for transform in place.values()]
        self._random.shuffle(homes)
        for at in range(settings.runs):
            self._add_first_run(homes[at % len(homes)], began_at)

    def start_run(self, transform: MLTransform, at: float, *, replaces: Run | None = None) -> Run:
        """Start one more run of a transform."""
        run = self._new_run(transform, at)
        run.running_at = at + self._between(self._settings.starting_seconds)
        run.ends_at = run.running_at + self._between(self._settings.ends_in_seconds)
        run.origin = "new"
        if replaces is not None:
            run.origin, run.replaces, run.restarts = "restarted", replaces.task_run_id, replaces.restarts + 1
        transform.add(run)
        return run

    def any_transform(self) -> MLTransform | None:
        """One of all, drawn by lot."""
        places = [transforms for transforms in self.transforms.values() if transforms]
        if not places:
            return None
        return self._random.choice(list(self._random.choice(places).values()))

    def restart_at(self, run: Run) -> float | None:
        """When a cancelled run is to be started again, if it is."""
        behaviour = self._behaviour
        if run.restarts >= behaviour.max_restarts or run.finishes_first or math.isinf(run.stops_after):
            return None
        if self._random.random() >= behaviour.restart_share:
            return None
        return run.ended_at() + self._between(behaviour.restart_after_seconds)

    def _add_first_run(self, transform: MLTransform, began_at: float) -> None:
        settings = self._settings
        run = self._new_run(transform, began_at - self._between(settings.age_seconds))
        kind = self._random.random()
        if kind < settings.ended_share:
            run.ends_at = run.started_at + self._random.uniform(0.2, 0.9) * (began_at - run.started_at)
            run.running_at = run.started_at + 0.1 * (run.ends_at - run.started_at)
            if self._random.random() < 0.2:
                run.ends_as = Status.STOPPED  # somebody else's doing, before this world began
        elif kind < settings.ended_share + settings.starting_share:
            run.started_at = round(began_at - self._random.uniform(0.0, 30.0), 3)
            run.running_at = began_at + self._between(settings.starting_seconds)
            run.ends_at = run.running_at + self._between(settings.ends_in_seconds)
        else:
            run.running_at = run.started_at + 0.1 * (began_at - run.started_at)
            run.ends_at = began_at + self._between(settings.ends_in_seconds)
        transform.add(run)

    def _new_run(self, transform: MLTransform, started_at: float) -> Run:
        draw, behaviour = self._random, self._behaviour
        started_at = round(started_at, 3)  # what the service tells of times, and filters by, is milliseconds
        run = Run(transform.transform_id, self._new_id("tsk-"), draw.choice(_TYPES), started_at)
        if draw.random() < self._settings.failing_share:
            run.ends_as = draw.choice((Status.FAILED, Status.TIMEOUT))
        run.stops_after = (
            math.inf if draw.random() < behaviour.stuck_share else self._between(behaviour.stopping_seconds)
        )
        run.finishes_first = not math.isinf(run.stops_after) and draw.random() < behaviour.finishes_first_share
        return run

    def _new_transform(self, number: int, began_at: float) -> MLTransform:
        draw = self._random
        tags = {"env": draw.choice(("dev", "dev", "test", "prod")), "team": draw.choice(("data", "crm", "risk"))}
        if draw.random() < 0.1:
            tags["protected"] = "true"
        return MLTransform(
            transform_id=self._new_id("tfm-"),
            name=f"{_NAMES[number % len(_NAMES)]}-{number}",
            created_at=began_at - draw.uniform(30, 600) * 86400,
            capacity=draw.choice(_CAPACITIES),
            glue_version=draw.choice(("0.9", "1.0", "2.0", "2.0")),
            timeout_minutes=draw.choice((2880, 2880, 2880, 480)),
            max_retries=draw.choice((0, 0, 0, 1, 2)),
            tags=tags,
        )

    def _new_id(self, prefix: str) -> str:
        self._ids += 1
        if not self._settings.odd_ids:
            return f"{prefix}{self._random.getrandbits(160):040x}"
        stem = _ODD_STEMS[self._ids % len(_ODD_STEMS)]
        suffix = f"{self._ids:x}"
        return stem[: LONGEST_ID - len(suffix)] + suffix

    def _between(self, span: Span) -> float:
        return self._random.uniform(*span)
