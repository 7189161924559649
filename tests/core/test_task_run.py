"""The nouns."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from batch_cancel.core.task_run import Access, Status, Target, TaskRun, TaskRunKey


@pytest.mark.parametrize("status", Status)
def test_a_run_can_be_cancelled_or_is_stopping_or_is_over(status: Status) -> None:
    assert [status.active, status is Status.STOPPING, status.ended].count(True) == 1


def test_a_run_is_named_by_its_two_ids_exactly_as_they_came() -> None:
    assert TaskRun("tfm ", "\u202erun").key == TaskRunKey("tfm ", "\u202erun")


@pytest.mark.parametrize(
    ("target", "name"),
    [
        (Target("eu-west-1", "123456789012", Access(profile="dev")), "123456789012/eu-west-1"),
        (Target("eu-west-1", access=Access("dev", "arn:aws:iam::123456789012:role/x")), "dev/eu-west-1"),
        (Target("eu-west-1", access=Access(role_arn="arn:aws:iam::1:role/x")), "arn:aws:iam::1:role/x/eu-west-1"),
        (Target("eu-west-1"), "default/eu-west-1"),
    ],
)
def test_a_target_is_called_by_the_best_name_that_is_known(target: Target, name: str) -> None:
    assert str(target) == name


def test_targets_differ_by_the_way_in() -> None:
    assert Target("eu-west-1", access=Access("a")) != Target("eu-west-1", access=Access("b"))
    assert len({Target("eu-west-1"), Target("eu-west-1")}) == 1


def test_a_run_has_started_once_more_only_where_its_start_is_known_to_be_another() -> None:
    before = datetime(2026, 11, 24, 12, 0, 0, 700_000, UTC)
    run = TaskRun("tfm-1", "tsk-1", Status.RUNNING)
    assert not run.started_since(before)
    assert not replace(run, started_on=before.replace(microsecond=0)).started_since(before)  # cut to the second
    assert not replace(run, started_on=before).started_since(before.replace(microsecond=0))
    assert replace(run, started_on=before + timedelta(seconds=2)).started_since(before)
