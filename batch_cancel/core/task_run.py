"""The nouns: task runs, transforms, targets and the words that Glue uses for their states."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import NamedTuple

CUT_TO = timedelta(seconds=1)
"""Glue's times may be cut to the second, here and not there."""


class Status(StrEnum):
    """A task run's status, as the Glue API reference lists it (TaskStatusType)."""

    STARTING = "STARTING"
    RUNNING = "RUNNING"
    STOPPING = "STOPPING"
    STOPPED = "STOPPED"
    SUCCEEDED = "SUCCEEDED"
    FAILED = "FAILED"
    TIMEOUT = "TIMEOUT"

    @property
    def active(self) -> bool:
        """Whether a cancel request can still change what becomes of the run."""
        return self in (Status.STARTING, Status.RUNNING)

    @property
    def ended(self) -> bool:
        """Whether the run is over, by whatever cause."""
        return self in (Status.STOPPED, Status.SUCCEEDED, Status.FAILED, Status.TIMEOUT)


class TaskType(StrEnum):
    """What a task run does (Glue API reference, TaskType)."""

    EVALUATION = "EVALUATION"
    LABELING_SET_GENERATION = "LABELING_SET_GENERATION"
    IMPORT_LABELS = "IMPORT_LABELS"
    EXPORT_LABELS = "EXPORT_LABELS"
    FIND_MATCHES = "FIND_MATCHES"


class TaskRunKey(NamedTuple):
    """What names a task run within an account and region. Ids are kept exactly as they came."""

    transform_id: str
    task_run_id: str


@dataclass(frozen=True, slots=True)
class TaskRun:
    """A task run as Glue told it. What Glue did not tell, or told in a word we do not know, is None.

    Attributes:
        status: None when the service sent none or one that is not in its own reference.
        task_type: Glue's word, kept as text so that a type of tomorrow still reaches the report.
        started_on, last_modified_on, completed_on: aware datetimes.
        execution_time_seconds: Glue's ExecutionTime.
    """

    transform_id: str
    task_run_id: str
    status: Status | None = None
    task_type: str | None = None
    started_on: datetime | None = None
    last_modified_on: datetime | None = None
    completed_on: datetime | None = None
    execution_time_seconds: int | None = None

    @property
    def key(self) -> TaskRunKey:
        """The pair that names this run."""
        return TaskRunKey(self.transform_id, self.task_run_id)

    def started_since(self, earlier_start: datetime) -> bool:
        """Whether it has started once more since a start that was seen; both times are by Glue's clock."""
        return self.started_on is not None and self.started_on - earlier_start > CUT_TO


@dataclass(frozen=True, slots=True)
class Transform:
    """A machine-learning transform; only its id is always known.

    Attributes:
        tags: None when they were not fetched, an empty mapping when there are none.
        max_capacity: DPUs, for transforms without worker types.
        timeout_minutes: after so long Glue ends a task run itself.
    """

    transform_id: str
    name: str | None = None
    max_capacity: float | None = None
    worker_type: str | None = None
    number_of_workers: int | None = None
    timeout_minutes: int | None = None
    glue_version: str | None = None
    tags: Mapping[str, str] | None = None


@dataclass(frozen=True, slots=True)
class Access:
    """Where credentials come from: nothing set means boto3's default chain."""

    profile: str | None = None
    role_arn: str | None = None
    external_id: str | None = None


@dataclass(frozen=True, slots=True)
class Identity:
    """Who sts:GetCallerIdentity says that we are."""

    account_id: str
    arn: str


@dataclass(frozen=True, slots=True)
class Target:
    """An account and a region, and how to get in.

    Attributes:
        account_id: None until sts:GetCallerIdentity told it, and for ever when it would not.
    """

    region: str
    account_id: str | None = None
    access: Access = field(default_factory=Access)

    def __str__(self) -> str:
        return f"{self.account_id or self.access.profile or self.access.role_arn or 'default'}/{self.region}"
