"""Capacity times time: estimated DPU-hours, and money.

What a task run is really billed is not documented (whether every task type is, whether there is a minimum), so the
words are "estimated" and "at most". What is not known is None, never guessed.
"""

import math
from dataclasses import dataclass
from datetime import datetime

from batch_cancel.core.task_run import Transform

DPUS_OF_A_WORKER = {
    "Standard": 1.0,
    "G.025X": 0.25,
    "G.1X": 1.0,
    "G.2X": 2.0,
    "G.4X": 4.0,
    "G.8X": 8.0,
    "G.12X": 12.0,
    "G.16X": 16.0,
}
"""AWS Glue Developer Guide, "AWS Glue worker types"; Standard, G.1X and G.2X also in the API reference, MLTransform.

The R types (and Z.2X) are left out on purpose: they are counted in M-DPUs, which have another price than DPUs.
"""


def dpu(transform: Transform) -> float | None:
    """How many DPUs a run of this transform takes, or None where that is not known.

    MaxCapacity goes first: where a worker type is set, Glue sets it by itself (Glue API reference, MLTransform).
    """
    if _positive(transform.max_capacity):
        return transform.max_capacity
    of_a_worker = DPUS_OF_A_WORKER.get(transform.worker_type or "")
    if of_a_worker is None or not _positive(transform.number_of_workers):
        return None
    return of_a_worker * (transform.number_of_workers or 0)


def estimated_dpu_hours(
    transform: Transform,
    execution_time_seconds: int | None = None,
    *,
    started_on: datetime | None = None,
    now: datetime | None = None,
) -> float | None:
    """DPU-hours that a run has used so far, as far as can be told.

    Args:
        transform: the run's, for its capacity.
        execution_time_seconds: Glue's ExecutionTime. Zero counts as not told, if there is a start to reckon from:
            whether Glue keeps it up to date while a run is active is not documented.
        started_on: where ExecutionTime is not told, the run is taken to have used its capacity from here ...
        now: ... until here, the latest moment at which it was still active, but not beyond its time-out.
    """
    capacity = dpu(transform)
    if capacity is None:
        return None
    seconds = used_seconds(execution_time_seconds, started_on=started_on, now=now)
    if seconds is None:
        return None
    most = None if execution_time_seconds else at_most_dpu_hours(transform)
    return capacity * seconds / 3600 if most is None else min(capacity * seconds / 3600, most)


def used_seconds(
    execution_time_seconds: int | None, *, started_on: datetime | None = None, now: datetime | None = None
) -> float | None:
    """How long a run has used its capacity; arguments as those of :func:`estimated_dpu_hours`."""
    told = execution_time_seconds if execution_time_seconds is not None and execution_time_seconds >= 0 else None
    if told or started_on is None or now is None:
        return told
    return max(0.0, (now - started_on).total_seconds())


def at_most_dpu_hours(transform: Transform) -> float | None:
    """DPU-hours that a run uses if nobody stops it and it lasts until its transform's time-out."""
    capacity = dpu(transform)
    if capacity is None or not _positive(transform.timeout_minutes):
        return None
    return capacity * (transform.timeout_minutes or 0) / 60


def money(dpu_hours: float | None, price_per_dpu_hour: float | None) -> float | None:
    """What so many DPU-hours cost, in the currency of the price; None without hours or without a price."""
    if dpu_hours is None or price_per_dpu_hour is None:
        return None
    return dpu_hours * price_per_dpu_hour


@dataclass(slots=True)
class Tally:
    """A sum that says what it leaves out.

    Attributes:
        known: how many amounts were added.
        unknown: how many things had no known amount.
    """

    known: int = 0
    unknown: int = 0
    _sum: float = 0.0

    def add(self, amount: float | None) -> None:
        """Count one more amount, or one more that is not known."""
        if amount is None:
            self.unknown += 1
        else:
            self.known += 1
            self._sum += amount

    @property
    def total(self) -> float | None:
        """The sum of what is known; None where nothing is."""
        return self._sum if self.known else None


def _positive(number: float | None) -> bool:
    """Whether a number that the service sent can be a capacity or a time."""
    return number is not None and math.isfinite(number) and number > 0
