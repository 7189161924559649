"""Reads that fail, or that say what was not asked: what is still done, and what is told of it."""

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from itertools import count
from typing import Any

import pytest

from batch_cancel.core.errors import CallFailed, ErrorKind
from batch_cancel.core.events import Warned
from batch_cancel.core.outcome import Outcome
from batch_cancel.core.task_run import Status, TaskRun
from batch_cancel.glue.api import Page
from batch_cancel.ledger.reader import TargetRow
from batch_cancel.settings import Consent, ManifestSource, Retry, Settings, Verify
from batch_cancel.simulator.memory import SimulatedReader
from batch_cancel.simulator.settings import Fault, FaultKind, FleetSettings, WorldSettings
from tests.sweeps import Play, settings

FLEET = FleetSettings(transforms=3, runs=24)
READS = ("GetMLTaskRun", "GetMLTaskRuns")
Listed = Callable[[Status | None, Page[TaskRun]], Page[TaskRun]]


def play(*faults: Fault) -> Play:
    return Play(WorldSettings(fleet=FLEET, faults=faults))


def manifest_of(played: Play) -> Settings:
    runs = [run for _, _, run in played.world.runs() if run.status(played.now()).active]
    path = played.directory.parent / "runs.csv"
    rows = [f"{run.transform_id},{run.task_run_id}" for run in runs]
    path.write_text("\n".join(["transform_id,task_run_id", *rows, ""]), encoding="utf-8")
    return settings(source=ManifestSource(path=str(path)))


def target(played: Play) -> TargetRow:
    reader = played.reader()
    try:
        return next(iter(reader.targets()))
    finally:
        reader.close()


def listings_as(monkeypatch: pytest.MonkeyPatch, change: Listed) -> None:
    """Every listing of runs comes changed."""
    listed = SimulatedReader.list_task_runs

    async def changed(
        self: SimulatedReader,
        transform_id: str,
        *,
        status: Status | None = None,
        started_after: datetime | None = None,
        next_token: str | None = None,
    ) -> Page[TaskRun]:
        page = await listed(self, transform_id, status=status, started_after=started_after, next_token=next_token)
        return change(status, page)

    monkeypatch.setattr(SimulatedReader, "list_task_runs", changed)


def test_a_listing_with_items_of_another_transform_is_a_listing_that_failed(monkeypatch: pytest.MonkeyPatch) -> None:
    listings_as(monkeypatch, lambda _, page: replace(page, foreign=True))
    played = play()
    active = played.active()
    assert played.sweep(settings()).exit_code == 1
    assert (target(played).complete, target(played).error_code) == (False, "ForeignItem")
    assert played.outcomes() == {Outcome.STOPPED: active}  # what was this transform's was believed


def test_a_listing_that_gives_one_page_for_ever_under_new_tokens_ends_and_is_one_that_failed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    listed, tokens = SimulatedReader.list_task_runs, count()

    async def first_page(self: SimulatedReader, transform_id: str, **asked: Any) -> Page[TaskRun]:  # noqa: ANN401  # as it is
        page = await listed(self, transform_id, **{**asked, "next_token": None})
        number = next(tokens)
        assert number < 5_000, "it goes on for ever"
        return replace(page, next_token=f"token-{number}")

    monkeypatch.setattr(SimulatedReader, "list_task_runs", first_page)
    played = play()
    assert played.sweep(settings()).exit_code == 1
    assert (target(played).complete, target(played).error_code) == (False, "RepeatedPage")


def test_what_a_listing_of_another_transform_left_out_is_read_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    listings_as(monkeypatch, lambda _, page: Page([], None, foreign=True))
    played = play()
    active = played.active()
    assert played.sweep(manifest_of(played)).exit_code == 0
    assert played.outcomes() == {Outcome.STOPPED: active}


def test_running_is_listed_although_starting_could_not_be(monkeypatch: pytest.MonkeyPatch) -> None:
    def change(status: Status | None, page: Page[TaskRun]) -> Page[TaskRun]:
        if status is Status.STARTING:
            raise CallFailed(ErrorKind.TRANSIENT, "GetMLTaskRuns", "InternalServiceException", "said")
        return page

    listings_as(monkeypatch, change)
    played = play()
    running = sum(run.status(played.now()) is Status.RUNNING for _, _, run in played.world.runs())
    assert running
    assert played.sweep(settings(retry=Retry(max_attempts=2))).exit_code == 1
    assert played.outcomes() == {Outcome.STOPPED: running}
    assert (target(played).complete, target(played).error_code) == (False, "InternalServiceException")


def test_runs_that_may_not_be_read_again_say_so_and_so_does_their_target() -> None:
    played = play(Fault(FaultKind.DENIED, operations=READS))
    active = played.active()
    asked = replace(manifest_of(played), verify=Verify(timeout_seconds=30.0))
    assert played.sweep(asked).exit_code == 1
    assert played.outcomes() == {Outcome.STUCK_STOPPING: active}
    assert {row.error_code for row in played.rows()} == {"AccessDeniedException"}
    assert all(row.error_message.startswith("GetMLTaskRun: ") for row in played.rows() if row.error_message)
    assert target(played).error_code == "AccessDeniedException"
    assert sum(isinstance(event, Warned) and "cannot be read" in event.message for event in played.events) == 1


def test_a_target_of_which_some_runs_can_be_read_is_in_no_trouble() -> None:
    played = play(Fault(FaultKind.DENIED, operations=READS, until_seconds=5.0))
    active = played.active()
    assert played.sweep(manifest_of(played)).exit_code == 0
    assert played.outcomes() == {Outcome.STOPPED: active}
    assert {row.error_code for row in played.rows()} == {None}
    assert target(played).error_code is None


def test_a_dry_run_that_may_not_read_says_why() -> None:
    played = play(Fault(FaultKind.DENIED, operations=READS))
    active = played.active()
    assert played.sweep(replace(manifest_of(played), dry_run=True, consent=Consent())).exit_code == 4
    assert played.outcomes() == {Outcome.UNKNOWN: active}
    assert {row.error_code for row in played.rows()} == {"AccessDeniedException"}
    assert target(played).error_code == "AccessDeniedException"


def test_calls_that_never_left_are_not_counted() -> None:
    played = play(Fault(FaultKind.REFUSED, operations=("CancelMLTaskRun",), until_seconds=0.5))
    active = played.active()
    assert played.sweep(manifest_of(played)).exit_code == 0
    assert played.outcomes() == {Outcome.STOPPED: active}
    reader = played.reader()
    try:
        totals = reader.call_totals()["CancelMLTaskRun"]
    finally:
        reader.close()
    assert (totals.calls, totals.failed, totals.retries > 0) == (active, 0, True)
