from datetime import UTC, datetime, timedelta

import pytest

from batch_cancel.core.cost import (
    DPUS_OF_A_WORKER,
    Tally,
    at_most_dpu_hours,
    dpu,
    estimated_dpu_hours,
    money,
)
from batch_cancel.core.task_run import Transform

START = datetime(2026, 11, 24, 6, tzinfo=UTC)
TEN_DPUS = Transform("t", max_capacity=10.0, timeout_minutes=60)


def workers(worker_type: str | None, number: int | None) -> Transform:
    return Transform("t", worker_type=worker_type, number_of_workers=number)


@pytest.mark.parametrize(
    ("worker_type", "expected"), [("Standard", 5), ("G.025X", 1.25), ("G.1X", 5), ("G.2X", 10), ("G.16X", 80)]
)
def test_workers_have_the_dpus_of_their_type(worker_type: str, expected: float) -> None:
    assert dpu(workers(worker_type, 5)) == expected


def test_max_capacity_goes_before_workers() -> None:
    assert dpu(Transform("t", max_capacity=0.5, worker_type="G.2X", number_of_workers=5)) == 0.5


@pytest.mark.parametrize(
    "transform",
    [
        Transform("t"),
        workers("G.1X", None),
        workers("G.1X", 0),
        workers("G.1X", -1),
        workers(None, 3),
        workers("", 3),
        workers("R.1X", 3),  # M-DPUs, not DPUs
        workers("G.99X", 3),
        Transform("t", max_capacity=float("nan")),
        Transform("t", max_capacity=float("inf")),
        Transform("t", max_capacity=-2.0),
    ],
)
def test_capacity_that_is_not_known_is_never_guessed(transform: Transform) -> None:
    assert dpu(transform) is None
    assert estimated_dpu_hours(transform, 3600, started_on=START, now=START) is None
    assert at_most_dpu_hours(transform) is None


def test_no_memory_optimized_worker_has_a_number_of_dpus() -> None:
    assert not [name for name in DPUS_OF_A_WORKER if name.startswith(("R.", "Z."))]


def test_execution_time_is_what_counts() -> None:
    assert estimated_dpu_hours(TEN_DPUS, 1800) == 5.0
    assert estimated_dpu_hours(TEN_DPUS, 1800, started_on=START, now=START + timedelta(hours=9)) == 5.0


def test_without_execution_time_the_time_since_the_start_counts() -> None:
    assert estimated_dpu_hours(TEN_DPUS, None, started_on=START, now=START + timedelta(minutes=30)) == 5.0


def test_an_execution_time_of_zero_is_not_told_while_there_is_a_start() -> None:
    assert estimated_dpu_hours(TEN_DPUS, 0, started_on=START, now=START + timedelta(minutes=30)) == 5.0
    assert estimated_dpu_hours(TEN_DPUS, 0) == 0.0


def test_a_negative_execution_time_is_not_told() -> None:
    assert estimated_dpu_hours(TEN_DPUS, -5) is None


def test_the_time_since_the_start_ends_at_the_time_out() -> None:
    assert estimated_dpu_hours(TEN_DPUS, started_on=START, now=START + timedelta(hours=9)) == 10.0
    no_time_out = Transform("t", max_capacity=10.0)
    assert estimated_dpu_hours(no_time_out, started_on=START, now=START + timedelta(hours=9)) == 90.0


def test_a_start_that_lies_ahead_of_our_clock_has_used_nothing() -> None:
    assert estimated_dpu_hours(TEN_DPUS, started_on=START, now=START - timedelta(seconds=2)) == 0.0


@pytest.mark.parametrize(("started_on", "now"), [(None, START), (START, None), (None, None)])
def test_without_any_time_nothing_is_estimated(started_on: datetime | None, now: datetime | None) -> None:
    assert estimated_dpu_hours(TEN_DPUS, None, started_on=started_on, now=now) is None


def test_at_most_is_until_the_time_out() -> None:
    assert at_most_dpu_hours(Transform("t", max_capacity=10.0, timeout_minutes=2880)) == 480.0
    assert at_most_dpu_hours(Transform("t", max_capacity=10.0)) is None
    assert at_most_dpu_hours(Transform("t", max_capacity=10.0, timeout_minutes=0)) is None


def test_money_needs_hours_and_a_price() -> None:
    assert money(10.0, 0.44) == pytest.approx(4.4)
    assert money(None, 0.44) is None
    assert money(10.0, None) is None


def test_a_tally_says_what_it_leaves_out() -> None:
    tally = Tally()
    assert tally.total is None
    tally.add(None)
    assert (tally.total, tally.unknown) == (None, 1)
    tally.add(0.0)
    tally.add(2.5)
    assert tally == Tally(known=2, unknown=1, _sum=2.5)
    assert tally.total == pytest.approx(2.5)
