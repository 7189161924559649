"""Whole sweeps in memory: every use, every way to stop early, and what each tells."""

import asyncio
import contextlib
import json
import shutil
import signal
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import closing
from dataclasses import replace
from datetime import timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from batch_cancel.cli.progress.counters import Counters
from batch_cancel.cli.progress.status import Status
from batch_cancel.core.errors import (
    REGION_NOT_ENABLED,
    AccessStopped,
    CallFailed,
    ErrorKind,
    InputError,
    LedgerError,
    UsageError,
)
from batch_cancel.core.events import (
    Awaited,
    Event,
    OutcomeReached,
    Phase,
    PhaseBegan,
    PhaseEnded,
    RateChanged,
    Resumed,
    SweepBegan,
    SweepStarted,
    TargetFailed,
    TargetRecovered,
    ToAsk,
    Warned,
)
from batch_cancel.core.outcome import Outcome
from batch_cancel.core.selection import Protection, Selection
from batch_cancel.core.task_run import Target
from batch_cancel.glue.api import GlueApi
from batch_cancel.report.document import summary
from batch_cancel.report.text import text_summary
from batch_cancel.settings import (
    Consent,
    Guardrails,
    ManifestSource,
    MaxErrors,
    Rate,
    Retry,
    Settings,
    TargetSettings,
    Verify,
)
from batch_cancel.simulator.latency import always
from batch_cancel.simulator.settings import (
    AccessSettings,
    Behaviour,
    CancelEnded,
    Fault,
    FaultKind,
    FleetSettings,
    Limit,
    WorldSettings,
)
from batch_cancel.simulator.world import World
from batch_cancel.stop import Stop, StopCause
from tests.sweeps import BEGAN_AT, Play, no, settings, yes

FLEET = FleetSettings(transforms=6, runs=40)
PROFILES = {"a": "111111111111", "b": "111111111111"}
ACCOUNTS = ("111111111111", "222222222222", "333333333333")


def world(*faults: Fault, fleet: FleetSettings = FLEET, **parts: object) -> WorldSettings:
    return WorldSettings(fleet=fleet, faults=faults, **parts)  # type: ignore[arg-type]  # a test's own words


def manifest_of(play: Play, *extra: str, active_only: bool = True) -> Settings:
    """A manifest in the play's directory that names the world's runs."""
    rows = [
        f"{run.transform_id},{run.task_run_id}"
        for _, _, run in play.world.runs()
        if not active_only or run.status(play.now()).active
    ]
    path = play.directory.parent / "runs.csv"
    path.write_text("\n".join(["transform_id,task_run_id", *rows, *extra]) + "\n", encoding="utf-8")
    return settings(source=ManifestSource(path=str(path)))


# The three uses


def test_a_sweep_stops_every_active_run_and_says_so() -> None:
    play = Play()
    active = play.active()
    result = play.sweep(settings())
    assert (result.exit_code, play.active()) == (0, 0)
    assert play.outcomes() == {Outcome.STOPPED: active}
    assert all(row.confirmed_at and row.requested_at and row.request_id for row in play.rows())


def counted(events: Sequence[Event]) -> Counters:
    """What the live view makes of these events."""
    counters = Counters()
    for event in events:
        counters.count(event)
    return counters


def test_what_the_live_view_says_was_used_is_what_the_report_says() -> None:
    play = Play()
    play.sweep(settings())
    counters = counted(play.events)
    assert set(play.outcomes()) == {Outcome.STOPPED}  # else the report's total counts more than the view's
    reader = play.reader()
    hours = summary(reader)["totals"]["estimated_dpu_hours"]
    reader.close()
    assert hours > 0
    assert counters.dpu_hours_stopped == pytest.approx(hours, rel=1e-3)


def test_cancelling_is_over_when_the_last_request_was_made_and_who_is_waited_for_is_told() -> None:
    play = Play(world(fleet=FLEET, behaviour=Behaviour(stuck_share=0.3)))
    play.sweep(settings(verify=Verify(timeout_seconds=30.0)))
    ended = play.events.index(PhaseEnded(Phase.CANCEL))
    before, after = play.events[:ended], play.events[ended:]
    assert counted(before).asked == counted(play.events).asked == len(play.rows())
    assert any(isinstance(event, OutcomeReached) for event in after)
    stuck = play.outcomes()[Outcome.STUCK_STOPPING]
    awaited = [event for event in after if isinstance(event, Awaited) and event.runs]
    assert all(abs(event.longest_seconds + event.left_seconds - 30.0) < 3.0 for event in awaited)
    first_given_up = next(
        at
        for at, event in enumerate(play.events)
        if isinstance(event, OutcomeReached) and event.outcome == "stuck_stopping"
    )
    waits = counted(play.events[:first_given_up]).waits()
    assert waits is not None and (waits.runs, waits.stopping) == (stuck, stuck)
    assert counted(play.events).waits() is None


def test_a_manifest_is_cancelled_without_a_read_before() -> None:
    play = Play()
    active = play.active()
    assert play.sweep(manifest_of(play)).exit_code == 0
    assert play.outcomes() == {Outcome.STOPPED: active}
    first = next(call.operation for call in play.world.log if call.operation != "GetCallerIdentity")
    assert first == "CancelMLTaskRun"


def test_a_list_that_is_one_page_of_more_is_carried_out_with_a_warning() -> None:
    play = Play()
    run = next(run for _, _, run in play.world.runs() if run.status(play.now()).active)
    page = {"TaskRuns": [{"TransformId": run.transform_id, "TaskRunId": run.task_run_id}], "NextToken": "more"}
    path = play.directory.parent / "page.json"
    path.write_text(json.dumps(page), encoding="utf-8")
    assert play.sweep(settings(source=ManifestSource(path=str(path)))).exit_code == 0
    assert play.outcomes() == {Outcome.STOPPED: 1}
    [warned] = [event.message for event in play.events if isinstance(event, Warned)]
    assert warned.startswith(f"{path}: holds a NextToken")


@pytest.mark.parametrize("from_manifest", [False, True])
def test_a_dry_run_cancels_nothing_and_names_what_it_would(from_manifest: bool) -> None:  # a parameter
    play = Play()
    active = play.active()
    chosen = manifest_of(play, active_only=False) if from_manifest else settings()
    assert play.sweep(replace(chosen, dry_run=True, consent=Consent())).exit_code == 0
    assert play.calls() == 0
    assert play.outcomes()[Outcome.WOULD_CANCEL] == active
    assert play.outcomes().get(Outcome.ALREADY_FINISHED, 0) == (40 - active if from_manifest else 0)


@pytest.mark.parametrize("answer", list(CancelEnded))
def test_runs_that_were_over_are_told_apart_whatever_the_service_answers(answer: CancelEnded) -> None:
    play = Play(world(behaviour=Behaviour(cancel_ended=answer)))
    active = play.active()
    assert play.sweep(manifest_of(play, active_only=False)).exit_code == 0
    assert play.outcomes() == {Outcome.STOPPED: active, Outcome.ALREADY_FINISHED: 40 - active}


@pytest.mark.parametrize("offset", [-600.0, -5.0, 5.0, 600.0])
def test_who_was_first_is_told_by_the_service_s_clock_and_not_by_ours(offset: float) -> None:
    play = Play(world(behaviour=Behaviour(stopping_seconds=(0.0, 0.0))))
    active = play.active()
    over = [run for _, _, run in play.world.runs() if not run.status(play.now()).active]
    chosen = manifest_of(play, active_only=False)
    play.clock += 60.0  # what is over has been for a while
    play.ahead = -offset
    assert play.sweep(chosen).exit_code == 0
    assert play.outcomes() == {Outcome.STOPPED: active, Outcome.ALREADY_FINISHED: len(over)}


@pytest.mark.parametrize("seconds", [18_000.0, -18_000.0])
def test_a_clock_that_is_set_meanwhile_ends_no_wait_and_prolongs_none(seconds: float) -> None:
    def set_after_a_while(play: Play) -> Play:
        def plan(_stop: Stop, _world: World) -> None:
            asyncio.get_running_loop().call_later(10.0, lambda: setattr(play, "ahead", seconds))

        play.at_once = plan
        return play

    fleet = FleetSettings(transforms=2, runs=8)
    slow = set_after_a_while(Play(world(fleet=fleet, behaviour=Behaviour(stopping_seconds=(20.0, 40.0)))))
    assert slow.sweep(settings(verify=Verify(timeout_seconds=300.0))).exit_code == 0
    assert set(slow.outcomes()) == {Outcome.STOPPED}
    stuck = set_after_a_while(Play(world(fleet=fleet, behaviour=Behaviour(stuck_share=1.0))))
    began = stuck.now()
    assert stuck.sweep(settings(verify=Verify(timeout_seconds=60.0))).exit_code == 1
    assert 55.0 < stuck.now() - began < 90.0


def test_readings_that_fail_for_a_while_use_up_none_of_a_run_s_attempts() -> None:
    lost = Fault(FaultKind.DROP, operations=("CancelMLTaskRun",), until_seconds=1.0)
    blind = Fault(FaultKind.INTERNAL, operations=("GetMLTaskRun",), until_seconds=50.0)
    play = Play(world(lost, blind, fleet=FleetSettings(transforms=1, runs=6)))
    active = play.active()
    assert play.sweep(manifest_of(play)).exit_code == 0
    assert play.outcomes() == {Outcome.STOPPED: active}
    assert {row.attempts for row in play.rows()} == {2}


@pytest.mark.parametrize(
    ("kind", "code"), [(FaultKind.DENIED, "AccessDeniedException"), (FaultKind.INVALID, "InvalidInputException")]
)
def test_a_run_that_cannot_be_read_back_names_what_kept_it_from_being_read(kind: FaultKind, code: str) -> None:
    lost = Fault(FaultKind.DROP, operations=("CancelMLTaskRun",))
    blind = Fault(kind, operations=("GetMLTaskRun",))
    play = Play(world(lost, blind, fleet=FleetSettings(transforms=1, runs=6)))
    play.sweep(manifest_of(play))
    assert set(play.outcomes()) == {Outcome.UNKNOWN}
    assert {row.error_code for row in play.rows()} == {code}
    assert all("could not be read back" in (row.error_message or "") for row in play.rows())


def test_a_run_that_glue_does_not_know_is_not_found() -> None:
    play = Play()
    chosen = manifest_of(play, "no-such-transform,tr-1")
    assert play.sweep(chosen).exit_code == 1
    assert play.outcomes()[Outcome.NOT_FOUND] == 1
    forgiving = Play()
    assert forgiving.sweep(replace(manifest_of(forgiving, "none,tr-1"), ignore_not_found=True)).exit_code == 0


def test_runs_that_finish_first_or_hang_are_told_apart() -> None:
    fleet = FleetSettings(transforms=6, runs=40, ends_in_seconds=(60.0, 300.0))
    play = Play(world(fleet=fleet, behaviour=Behaviour(stuck_share=0.3, finishes_first_share=0.3)))
    result = play.sweep(settings(verify=Verify(timeout_seconds=600.0)))
    truth = {run.task_run_id: run for _, _, run in play.world.runs()}
    for row in play.rows():
        run = truth[row.task_run_id]
        assert row.outcome is not Outcome.STOPPED or not (run.finishes_first or run.stops_after == float("inf"))
    assert set(play.outcomes()) == {Outcome.STOPPED, Outcome.FINISHED_FIRST, Outcome.STUCK_STOPPING}
    assert result.exit_code == 1


def test_without_waiting_accepted_runs_are_stopping() -> None:
    play = Play()
    assert play.sweep(settings(verify=Verify(wait=False))).exit_code == 0
    assert set(play.outcomes()) == {Outcome.STOPPING}


def test_times_to_stop_with_a_pause_in_which_nobody_looked_say_so() -> None:
    play = Play()
    play.sweep(settings(verify=Verify(wait=False)))
    assert PAUSES not in text_of(play)  # nobody has seen any stop yet
    play.clock += 3600.0
    assert play.resume(settings()).exit_code == 0
    assert PAUSES in text_of(play)
    whole = Play()
    whole.sweep(settings())
    whole.clock += 3600.0
    whole.resume(settings())
    assert "From request to" in text_of(whole) and PAUSES not in text_of(whole)  # all had been seen before


PAUSES = "Pauses before a resume, in which nobody looked, are part of these times."


def text_of(play: Play) -> str:
    """What standard output would have, a space for each line's end."""
    reader = play.reader()
    try:
        return " ".join(text_summary(reader, play.directory).split())
    finally:
        reader.close()


@pytest.mark.parametrize("kind", [FaultKind.INTERNAL, FaultKind.UNAVAILABLE, FaultKind.APPLIED_500])
def test_a_service_that_only_fails_is_not_said_to_have_a_request_limit(kind: FaultKind) -> None:
    play = Play(world(Fault(kind, operations=("CancelMLTaskRun",))))
    play.sweep(settings())
    paces = [event for event in play.events if isinstance(event, RateChanged)]
    assert paces and not any(event.limit_found for event in paces)
    assert not any("limit near" in says for says in Status(counted(play.events), 0.0).rates())


def test_the_calls_that_failed_are_as_many_in_the_live_view_as_in_every_report() -> None:
    play = Play(world(Fault(FaultKind.INTERNAL, 0.2), Fault(FaultKind.INVALID, 0.1), Fault(FaultKind.THROTTLE, 0.1)))
    play.sweep(settings())
    counters = counted(play.events)
    reader = play.reader()
    try:
        totals = summary(reader)["totals"]
    finally:
        reader.close()
    assert totals["failed"] == counters.failed == sum(counters.failure_codes.values()) > 0
    assert {"InternalServiceException", "InvalidInputException"} == set(counters.failure_codes)
    told = f"{totals['throttled']} throttled, {totals['failed']} failed, {totals['retries']} tried again."
    assert told in text_of(play)


def test_with_many_faults_every_verdict_is_true() -> None:
    kinds = (
        FaultKind.TIMEOUT,
        FaultKind.INTERNAL,
        FaultKind.UNAVAILABLE,
        FaultKind.APPLIED_500,
        FaultKind.APPLIED_DROP,
        FaultKind.DROP,
        FaultKind.GARBAGE_200,
        FaultKind.THROTTLE,
    )
    play = Play(world(*(Fault(kind, 0.05) for kind in kinds), limits=(Limit(20.0, 20.0),)))
    active = play.active()
    assert play.sweep(settings()).exit_code == 0
    assert play.outcomes() == {Outcome.STOPPED: active}


# Selection and protection


def test_protection_wins_and_names_its_rule() -> None:
    play = Play(world(fleet=FleetSettings(transforms=12, runs=80)))
    active = play.active()
    play.sweep(settings(protection=Protection(transform_names=("critical-*",))))
    spared = [row for row in play.rows() if row.outcome is Outcome.EXCLUDED]
    assert spared and len(spared) == play.active() < active
    assert all(row.rule and "critical-*" in row.rule for row in spared)


def test_a_run_that_does_not_stop_is_waited_for_as_long_as_was_said() -> None:
    play = Play(world(behaviour=Behaviour(stuck_share=1.0)))
    play.sweep(settings(verify=Verify(timeout_seconds=40.0)))
    waits = [
        (row.confirmed_at - row.requested_at).total_seconds()
        for row in play.rows()
        if row.outcome is Outcome.STUCK_STOPPING and row.confirmed_at and row.requested_at
    ]
    assert waits and all(40.0 <= wait < 43.0 for wait in waits), waits


def test_names_that_cannot_be_listed_protect_everything() -> None:
    play = Play(world(Fault(FaultKind.DENIED, 1.0, operations=("GetMLTransforms",))))
    result = play.sweep(settings(protection=Protection(transform_names=("critical-*",))))
    assert (result.exit_code, play.calls()) == (4, 0)
    assert set(play.outcomes()) == {Outcome.EXCLUDED}


def test_how_much_each_target_has_to_do_is_told_of_a_list_and_of_a_sweep_that_goes_on(tmp_path: Path) -> None:
    play = Play(world(fleet=FleetSettings(regions=("us-east-1", "eu-west-1"), transforms=3, runs=60)))
    rows = [
        f"{run.transform_id},{run.task_run_id},{region}"
        for _, region, run in play.world.runs()
        if run.status(play.now()).active
    ]
    path = tmp_path / "runs.csv"
    path.write_text("\n".join(["transform_id,task_run_id,region", *rows]), encoding="utf-8")

    def interrupt(stop: Stop, _: World) -> None:
        asyncio.get_running_loop().call_later(1.5, stop.request, StopCause.INTERRUPTED)

    play.at_once = interrupt
    source = ManifestSource(path=str(path))
    wanted = settings(source=source, targets=(TargetSettings(),), rate=Rate(rps=5.0), verify=Verify(wait=False))
    play.sweep(wanted)
    told = {event.target.region: event.runs for event in play.events if isinstance(event, ToAsk)}
    assert told == Counter(row.rpartition(",")[2] for row in rows)
    left = counted(play.events).left_to_ask()
    assert 0 < sum(left.values()) < len(rows)
    play.events.clear()
    play.at_once = lambda _stop, _world: None
    play.resume(wanted)
    again = [event.runs for event in play.events if isinstance(event, ToAsk)]
    assert sorted(again) == sorted(left.values())
    assert counted(play.events).left_to_ask() == {}


def test_where_there_is_nothing_to_cancel_no_cancelling_begins_and_nothing_is_to_be_resumed(tmp_path: Path) -> None:
    (tmp_path / "runs.csv").write_text("transform_id,task_run_id\n", encoding="utf-8")
    play = Play()
    assert play.sweep(settings(source=ManifestSource(path=str(tmp_path / "runs.csv")))).exit_code == 0
    assert not [event for event in play.events if isinstance(event, SweepBegan)]
    assert {event.phase for event in play.events if isinstance(event, PhaseBegan)} == {Phase.CONNECT}


def test_an_empty_list_selects_nothing() -> None:
    play = Play()
    assert play.sweep(settings(selection=Selection(transform_ids=()))).exit_code == 0
    assert (play.calls(), set(play.outcomes())) == (0, {Outcome.EXCLUDED})


def test_a_manifest_is_selected_from_by_age() -> None:
    play = Play()
    old = sum(run.status(play.now()).active and play.now() - run.started_at > 21600 for _, _, run in play.world.runs())
    chosen = replace(manifest_of(play), selection=Selection(older_than=timedelta(hours=6)))
    play.sweep(chosen)
    assert 0 < old == play.outcomes()[Outcome.STOPPED]
    assert play.outcomes()[Outcome.EXCLUDED] == len(play.rows()) - old


# Guardrails and consent


@pytest.mark.parametrize("guardrails", [Guardrails(max_runs=5), Guardrails(max_percent=50.0)])
def test_a_cap_refuses_whole(guardrails: Guardrails) -> None:
    play = Play()
    result = play.sweep(settings(guardrails=guardrails))
    assert (result.exit_code, result.stop_cause, play.calls()) == (3, StopCause.GUARDRAIL, 0)
    assert set(play.outcomes()) == {Outcome.NOT_ATTEMPTED}
    assert "nothing was cancelled" in play.facts()["refusal"]


def test_a_dry_run_tells_a_breach_and_still_lists_everything() -> None:
    play = Play()
    result = play.sweep(settings(guardrails=Guardrails(max_runs=5), dry_run=True))
    assert (result.exit_code, set(play.outcomes())) == (3, {Outcome.WOULD_CANCEL})


def test_an_account_that_is_not_allowed_is_not_even_listed() -> None:
    play = Play()
    result = play.sweep(settings(guardrails=Guardrails(allow_accounts=("999999999999",))))
    assert (result.exit_code, play.calls("ListMLTransforms")) == (3, 0)
    assert "111111111111" in (result.says or "")


@pytest.mark.parametrize(("more", "exit_code"), [(-1, 3), (0, 0), (1, 3)])
def test_the_count_that_was_consented_to_has_to_be_the_count(more: int, exit_code: int) -> None:
    play = Play()
    active = play.active()
    assert play.sweep(settings(consent=Consent(confirm_count=active + more))).exit_code == exit_code
    assert play.calls() == (active if exit_code == 0 else 0)


def test_a_list_is_counted_as_a_dry_run_tells_it_without_those_that_have_ended() -> None:
    play = Play()
    active, listed = play.active(), 40
    chosen = manifest_of(play, active_only=False)
    play.sweep(replace(chosen, dry_run=True, consent=Consent()))
    assert 0 < play.outcomes()[Outcome.WOULD_CANCEL] == active < listed
    play.directory = play.directory.with_name("second")
    chosen = replace(chosen, guardrails=Guardrails(max_runs=active), consent=Consent(confirm_count=active))
    assert play.sweep(chosen).exit_code == 0
    assert play.outcomes() == {Outcome.STOPPED: active, Outcome.ALREADY_FINISHED: listed - active}
    assert play.calls() == active


def test_a_list_no_longer_than_its_cap_is_asked_for_at_once() -> None:
    play = Play()
    active = play.active()
    chosen = manifest_of(play, active_only=False)
    assert play.sweep(replace(chosen, guardrails=Guardrails(max_runs=40))).exit_code == 0
    assert play.calls() == 40 > active
    first = next(call.operation for call in play.world.log if "TaskRun" in call.operation)
    assert first == "CancelMLTaskRun"


def test_a_list_longer_by_one_than_its_cap_is_looked_at_first() -> None:
    play = Play()
    active = play.active()
    result = play.sweep(replace(manifest_of(play, active_only=False), guardrails=Guardrails(max_runs=39)))
    assert (result.exit_code, play.calls()) == (0, active)
    assert play.outcomes() == {Outcome.STOPPED: active, Outcome.ALREADY_FINISHED: 40 - active}


def test_a_list_that_breaks_its_cap_is_not_looked_through_to_the_end() -> None:
    play = Play(world(fleet=FleetSettings(transforms=5, runs=2500)))
    listed = 2500
    result = play.sweep(replace(manifest_of(play, active_only=False), guardrails=Guardrails(max_runs=10)))
    outcomes = play.outcomes()
    assert (result.exit_code, play.calls(), sum(outcomes.values())) == (3, 0, listed)
    assert set(outcomes) == {Outcome.NOT_ATTEMPTED, Outcome.ALREADY_FINISHED}
    assert play.facts()["refusal"] == (
        f"up to {outcomes[Outcome.NOT_ATTEMPTED]:,} runs would be cancelled, and max-runs allows 10: "
        "nothing was cancelled"
    )
    assert sum(row.status_before is not None for row in play.rows()) == 1000


@pytest.mark.parametrize("guardrails", [Guardrails(), Guardrails(max_runs=40), Guardrails(max_percent=100.0)])
def test_where_all_was_asked_denied_readings_have_not_stopped_it(guardrails: Guardrails) -> None:
    """With a share they are denied before anything is asked, too."""
    play = Play(world(Fault(FaultKind.DENIED, operations=("GetMLTaskRun", "GetMLTaskRuns"))))
    active = play.active()
    result = play.sweep(replace(manifest_of(play), guardrails=guardrails, verify=Verify(timeout_seconds=30.0)))
    assert (result.exit_code, result.stop_cause, play.calls()) == (1, None, active)
    assert play.outcomes() == {Outcome.STUCK_STOPPING: active}


def test_credentials_that_expire_before_an_end_is_seen_have_stopped_it() -> None:
    play = Play(world(Fault(FaultKind.EXPIRED, operations=("GetMLTaskRun", "GetMLTaskRuns"))))
    active = play.active()
    result = play.sweep(manifest_of(play))
    assert (result.exit_code, result.stop_cause, play.calls()) == (4, StopCause.CREDENTIALS, active)
    assert play.outcomes() == {Outcome.STOPPING: active}


@pytest.mark.parametrize(
    "changes",
    [{"guardrails": Guardrails(max_runs=1)}, {"consent": Consent(confirm_count=40)}, {"consent": Consent()}],
    ids=["max_runs", "confirm_count", "question"],
)
def test_a_list_that_is_refused_still_tells_which_of_it_had_ended(changes: dict[str, Any]) -> None:
    play = Play()
    active = play.active()
    result = play.sweep(replace(manifest_of(play, active_only=False), **changes), ask=no)
    assert result.exit_code == (2 if changes == {"consent": Consent()} else 3)
    assert play.calls() == 0
    assert play.outcomes() == {Outcome.NOT_ATTEMPTED: active, Outcome.ALREADY_FINISHED: 40 - active}


def test_a_no_at_the_question_cancels_nothing() -> None:
    play = Play()
    assert play.sweep(settings(consent=Consent()), ask=no).exit_code == 2
    assert play.calls() == 0
    again = Play()
    assert again.sweep(settings(consent=Consent()), ask=yes).exit_code == 0


def test_nobody_to_ask_is_no_consent() -> None:
    with pytest.raises(UsageError, match="--confirm-count"):
        Play().sweep(settings(consent=Consent()))


def test_nothing_to_do_needs_no_consent() -> None:
    play = Play(world(fleet=FleetSettings(transforms=3, runs=0)))
    assert play.sweep(settings(consent=Consent())).exit_code == 0


# Stopping early, and going on


def test_an_interruption_leaves_the_rest_untouched_and_resume_finishes() -> None:
    def interrupt(stop: Stop, _world: World) -> None:
        import asyncio

        asyncio.get_running_loop().call_later(1.0, stop.request, StopCause.INTERRUPTED)

    play = Play(at_once=interrupt)
    result = play.sweep(settings(rate=Rate(rps=10.0)))
    assert (result.exit_code, result.stop_cause) == (130, StopCause.INTERRUPTED)
    assert {Outcome.NOT_ATTEMPTED, Outcome.STOPPING} >= set(play.outcomes())
    assert play.outcomes()[Outcome.NOT_ATTEMPTED] > 5
    play.at_once = lambda _stop, _world: None
    assert play.resume(settings(rate=Rate(rps=10.0))).exit_code == 0
    assert set(play.outcomes()) == {Outcome.STOPPED}
    assert all(row.attempts == 1 for row in play.rows())


def test_a_deadline_ends_with_five_and_resume_finishes() -> None:
    play = Play()
    result = play.sweep(settings(rate=Rate(rps=5.0), retry=Retry(deadline_seconds=3.0)))
    assert (result.exit_code, result.stop_cause) == (5, StopCause.DEADLINE)
    left = play.outcomes()[Outcome.NOT_ATTEMPTED]
    counters = counted(play.events)
    assert (counters.asked, counters.to_cancel) == (len(play.rows()) - left, len(play.rows()))
    play.events.clear()
    assert left > 0
    assert play.resume(settings(rate=Rate(rps=5.0))).exit_code == 0
    [resumed] = [event for event in play.events if isinstance(event, Resumed)]
    assert (resumed.to_ask, resumed.settled + resumed.to_read) == (left, resumed.runs - left)
    counters = counted(play.events)  # what is listed once more is not found once more
    assert counters.asked == counters.to_cancel == len(play.rows()) - (resumed.runs - left)
    assert counters.settled == counters.to_settle == counters.asked + resumed.to_read


def test_a_killed_sweep_is_told_by_its_report_as_by_its_resume(tmp_path: Path) -> None:
    limit = Limit(rps=8.0, burst=4.0, operations=("CancelMLTaskRun",))
    play = Play(WorldSettings(fleet=FLEET, limits=(limit,)), latency=always(0.6))
    killed = tmp_path / "killed"
    requested: list[tuple[str | None, str]] = []

    def die(of: World) -> None:  # what is on disk now is all that a killed process leaves
        shutil.copytree(play.directory, killed)
        requested.extend((call.task_run_id, call.result) for call in of.log if call.operation == "CancelMLTaskRun")

    def plan_it(_stop: Stop, of: World) -> None:
        asyncio.get_running_loop().call_later(2.5, die, of)

    play.at_once = plan_it
    play.sweep(settings(verify=Verify(wait=False)))
    play.directory, play.at_once = killed, lambda _stop, _world: None
    rows, told = play.rows(), play.outcomes()
    with closing(play.reader()) as reader:
        in_doubt = reader.in_doubt()
    reached = {run_id for run_id, result in requested if result != "ThrottlingException"}
    play.events.clear()
    play.resume(settings())
    [resumed] = [event for event in play.events if isinstance(event, Resumed)]
    left = told[Outcome.NOT_ATTEMPTED]
    assert told == {Outcome.UNKNOWN: in_doubt, Outcome.STOPPING: resumed.to_read, Outcome.NOT_ATTEMPTED: left}
    assert (resumed.to_ask, resumed.in_doubt) == (left + in_doubt, in_doubt)
    unknown = {row.task_run_id for row in rows if row.outcome is Outcome.UNKNOWN}
    assert reached & unknown and unknown - reached  # of both kinds, and nothing on disk tells one from the other


def test_a_kill_leaves_few_runs_of_which_nobody_can_say_whether_they_were_asked() -> None:
    """Hundreds of workers may wait for their turn; what they wait with must not be in doubt for that."""
    limits = (Limit(rps=20.0, burst=20.0, operations=("CancelMLTaskRun",)),)
    play = Play(WorldSettings(fleet=FleetSettings(transforms=6, runs=900), limits=limits))
    found: list[dict[Outcome, int]] = []

    def plan_it(_stop: Stop, _world: World) -> None:
        asyncio.get_running_loop().call_later(8.0, lambda: found.append(play.outcomes()))

    play.at_once = plan_it
    assert play.sweep(settings(verify=Verify(wait=False))).exit_code == 0
    [outcomes] = found
    assert outcomes[Outcome.NOT_ATTEMPTED] > 300
    assert 0 < outcomes[Outcome.UNKNOWN] <= 20


def test_too_many_errors_stop_the_cancelling() -> None:
    play = Play(world(Fault(FaultKind.INVALID, 0.4, operations=("CancelMLTaskRun",))))
    guardrails = Guardrails(max_errors=MaxErrors(count=2))
    result = play.sweep(settings(guardrails=guardrails, rate=Rate(rps=4.0)))
    assert (result.exit_code, result.stop_cause) == (5, StopCause.MAX_ERRORS)
    assert 3 <= play.outcomes()[Outcome.INVALID] <= 5
    assert play.outcomes()[Outcome.NOT_ATTEMPTED] > 0
    assert Outcome.STOPPING not in play.outcomes()  # what was asked is seen through


def test_a_share_of_errors_is_of_the_runs_to_be_cancelled() -> None:
    play = Play(world(Fault(FaultKind.INVALID, 1.0, operations=("CancelMLTaskRun",))))
    active = play.active()
    result = play.sweep(settings(guardrails=Guardrails(max_errors=MaxErrors(percent=20)), rate=Rate(rps=2.0)))
    assert (result.exit_code, result.stop_cause) == (5, StopCause.MAX_ERRORS)
    assert active // 5 < play.outcomes()[Outcome.INVALID] <= active // 5 + 3  # two may be on their way
    assert play.outcomes()[Outcome.NOT_ATTEMPTED] > active // 2


@pytest.mark.parametrize("max_percent", [None, 100.0])  # with a share every transform is listed, whatever is asked for
def test_a_transform_that_no_target_knows_is_a_slip_and_one_that_some_know_is_none(max_percent: float | None) -> None:
    regions = ("us-east-1", "eu-west-1")
    play = Play(world(fleet=replace(FLEET, regions=regions)))
    _, _, known = next(each for each in play.world.runs() if each[2].status(play.now()).active)
    chosen = settings(
        targets=(TargetSettings(regions=regions),),
        selection=Selection(transform_ids=(known.transform_id,)),
        guardrails=Guardrails(max_percent=max_percent),
    )
    assert play.sweep(chosen).exit_code == 0
    assert play.outcomes()[Outcome.STOPPED] > 0
    play.directory = play.directory.with_name("misspelt")
    misspelt = replace(chosen, selection=Selection(transform_ids=(known.transform_id, "tfm-none")))
    assert play.sweep(misspelt).exit_code == 1
    with closing(play.reader()) as reader:
        assert {row.error_message for row in reader.targets()} == {"there is no transform tfm-none"}


def test_missing_permission_is_found_out_early() -> None:
    play = Play(world(Fault(FaultKind.DENIED, 1.0, operations=("CancelMLTaskRun",))))
    result = play.sweep(settings(rate=Rate(rps=5.0)))
    assert (result.exit_code, result.stop_cause) == (4, StopCause.CREDENTIALS)
    assert "glue:CancelMLTaskRun" in (result.says or "")
    assert play.calls() == 5 and play.outcomes()[Outcome.NOT_ATTEMPTED] > 5


def test_denials_after_something_was_accepted_are_each_run_s_own() -> None:
    play = Play(world(Fault(FaultKind.DENIED, 1.0, operations=("CancelMLTaskRun",), from_seconds=3.0)))
    active = play.active()
    result = play.sweep(settings(rate=Rate(rps=2.0)))
    assert (result.exit_code, result.stop_cause, play.calls()) == (1, None, active)
    assert set(play.outcomes()) == {Outcome.STOPPED, Outcome.DENIED}
    assert play.outcomes()[Outcome.DENIED] > 5


def test_credentials_are_read_anew_twice_in_vain_and_no_more() -> None:
    play = Play(world(Fault(FaultKind.EXPIRED, 1.0)))
    result = play.sweep(settings())
    assert (result.exit_code, result.stop_cause, play.calls()) == (4, StopCause.CREDENTIALS, 0)
    assert sum(call.operation == "ListMLTransforms" for call in play.world.log) == 3


def test_a_target_that_accepts_nothing_is_given_up_by_name_and_the_others_go_on() -> None:
    regions = ("us-east-1", "eu-west-1")
    throttled = Fault(FaultKind.THROTTLE, 1.0, regions=regions[1:])
    play = Play(world(throttled, fleet=replace(FLEET, regions=regions)))
    began = play.now()
    result = play.sweep(settings(targets=(TargetSettings(regions=regions),), retry=Retry(deadline_seconds=900.0)))
    assert (result.exit_code, result.stop_cause) == (1, None)
    assert 120.0 < play.now() - began < 150.0
    assert {region for _, region, run in play.world.runs() if run.status(play.now()).active} == {"eu-west-1"}
    with closing(play.reader()) as reader:
        assert {row.target.region: row.error_code for row in reader.targets()} == {
            "us-east-1": None,
            "eu-west-1": "NoProgress",
        }


def test_credentials_that_expire_stop_it_within_seconds_and_fresh_ones_finish_it() -> None:
    expired = Fault(FaultKind.EXPIRED, 1.0, from_seconds=3.0)
    play = Play(world(expired, fleet=FleetSettings(transforms=20, runs=300)))
    began = play.now()
    result = play.sweep(settings(rate=Rate(rps=20.0)))
    assert (result.exit_code, result.stop_cause) == (4, StopCause.CREDENTIALS)
    assert play.now() - began < 10.0
    assert set(play.outcomes()) == {Outcome.NOT_ATTEMPTED, Outcome.STOPPING}
    play.world.change_faults(())
    assert play.resume(settings(rate=Rate(rps=100.0))).exit_code == 0
    assert set(play.outcomes()) == {Outcome.STOPPED}


def test_requests_that_are_throttled_for_ever_are_given_up_though_readings_are_let_through() -> None:
    lost = Fault(FaultKind.DROP, operations=("CancelMLTaskRun",), until_seconds=0.5)
    throttled = Fault(FaultKind.THROTTLE, operations=("CancelMLTaskRun",))
    play = Play(world(lost, throttled, fleet=FleetSettings(transforms=1, runs=6)))
    active, began = play.active(), play.now()
    result = play.sweep(replace(manifest_of(play), retry=Retry(deadline_seconds=3600.0)))  # each is read back first
    assert (result.exit_code, result.stop_cause) == (1, None)
    assert play.now() - began < 200.0
    assert play.outcomes() == {Outcome.UNKNOWN: active}
    reader = play.reader()
    assert reader.targets()[0].error_message == "no CancelMLTaskRun was accepted for 120 seconds"
    reader.close()


def test_a_request_whose_credentials_are_refused_for_ever_is_given_up_though_readings_are_let_in() -> None:
    lost = Fault(FaultKind.DROP, operations=("CancelMLTaskRun",), until_seconds=0.5)
    refused = Fault(FaultKind.EXPIRED, operations=("CancelMLTaskRun",))
    play = Play(world(lost, refused, fleet=FleetSettings(transforms=1, runs=6)))
    active = play.active()
    result = play.sweep(replace(manifest_of(play), retry=Retry(deadline_seconds=600.0)))  # each is read back first
    assert (result.exit_code, result.stop_cause) == (4, StopCause.CREDENTIALS)
    assert play.outcomes() == {Outcome.UNKNOWN: active}
    assert play.calls() <= 4 * active


def test_keys_that_can_be_refreshed_are() -> None:
    play = Play(world(access=AccessSettings(keys_end_at_seconds=1.0)))
    assert play.sweep(settings(rate=Rate(rps=20.0))).exit_code == 0


def test_keys_that_end_under_many_calls_are_refreshed_once_for_all_of_them() -> None:
    fleet = FleetSettings(transforms=4, runs=80, ended_share=0.0)
    play = Play(world(fleet=fleet, access=AccessSettings(keys_end_at_seconds=1.0)), latency=always(0.5))
    fresh = play.service._fresh
    assert play.sweep(replace(manifest_of(play), rate=Rate(rps=40.0))).exit_code == 0
    refused = sum(call.result == "ExpiredTokenException" for call in play.world.log)
    assert refused > 10
    assert play.service._fresh == fresh + 1


def test_a_resume_with_another_accounts_credentials_is_refused() -> None:
    fleet = FleetSettings(accounts=ACCOUNTS[:2], transforms=6, runs=80)
    play = Play(world(fleet=fleet), profiles={"ops": ACCOUNTS[0]})
    chosen = settings(
        targets=(TargetSettings(profile="ops", regions=("us-east-1",)),),
        retry=Retry(deadline_seconds=3.0),
        rate=Rate(rps=5.0),
    )
    assert play.sweep(chosen).exit_code == 5
    asked = play.calls()
    play.service._profiles["ops"] = ACCOUNTS[1]
    play.service.forget(next(iter(play.service._keys)))
    with pytest.raises(LedgerError, match=ACCOUNTS[1]):
        play.resume(chosen)
    assert play.calls() == asked


def test_a_resume_goes_on_where_it_is_let_in_and_leaves_alone_what_is_closed_meanwhile() -> None:
    fleet = FleetSettings(accounts=ACCOUNTS, transforms=3, runs=90)
    play = Play(world(fleet=fleet))
    targets = (TargetSettings(accounts=ACCOUNTS, role_name="BatchCancel", regions=("us-east-1",)),)
    chosen = settings(targets=targets, retry=Retry(deadline_seconds=3.0), rate=Rate(rps=2.0))
    assert play.sweep(chosen).exit_code == 5
    asked = play.calls()
    go_on = replace(chosen, retry=Retry(), rate=Rate(rps=50.0))

    def close(*accounts: str) -> None:
        play.world.sts.access = AccessSettings(untrusting_accounts=accounts)
        for access in tuple(play.service._keys):
            play.service.forget(access)

    close(*ACCOUNTS)
    with pytest.raises(AccessStopped, match="nothing was called"):
        play.resume(go_on)
    assert play.calls() == asked
    close(ACCOUNTS[1])
    assert play.resume(go_on).exit_code == 1
    left = {account for account, _, run in play.world.runs() if run.status(play.now()).active}
    assert left == {ACCOUNTS[1]}
    reader = play.reader()
    troubles = {row.target.account_id: row.error_message or "" for row in reader.targets() if not row.complete}
    reader.close()
    assert list(troubles) == [ACCOUNTS[1]] and troubles[ACCOUNTS[1]].startswith("AssumeRole: who we are there")
    close()
    assert (play.resume(go_on).exit_code, play.active()) == (0, 0)


# Many targets


def test_a_resume_asks_of_many_accounts_side_by_side_whose_they_are() -> None:
    accounts = tuple(f"{number:012}" for number in range(1, 49))
    play = Play(world(fleet=FleetSettings(accounts=accounts, transforms=1, runs=192)), latency=always(0.5))
    targets = (TargetSettings(accounts=accounts, role_name="BatchCancel", regions=("us-east-1",)),)
    chosen = settings(targets=targets, retry=Retry(deadline_seconds=4.0), rate=Rate(rps=2.0))
    assert play.sweep(chosen).exit_code == 5
    for access in tuple(play.service._keys):
        play.service.forget(access)
    asked, began = len(play.world.log), play.now()
    assert play.resume(replace(chosen, retry=Retry(), rate=Rate(rps=50.0))).exit_code == 0
    identified = [call.at - began for call in play.world.log[asked:] if call.operation == "GetCallerIdentity"]
    assert len(identified) == len(accounts)
    assert max(identified) < 10.0  # one after the other they would take a second each


def test_a_denied_account_stops_no_other() -> None:
    fleet = FleetSettings(accounts=ACCOUNTS, transforms=3, runs=60)
    play = Play(world(fleet=fleet, access=AccessSettings(denied_accounts=(ACCOUNTS[1],))))
    targets = (TargetSettings(accounts=ACCOUNTS, role_name="BatchCancel", regions=("us-east-1",)),)
    result = play.sweep(settings(targets=targets))
    assert result.exit_code == 1
    left = {account for account, _, run in play.world.runs() if run.status(play.now()).active}
    assert left == {ACCOUNTS[1]}
    reader = play.reader()
    counts = {row.target.account_id: (row.transforms, row.active_runs) for row in reader.targets()}
    reader.close()
    assert counts.pop(ACCOUNTS[1]) == (None, None)  # nobody could look: that is not "none"
    assert all(None not in told for told in counts.values())


def test_a_manifest_names_accounts_and_regions() -> None:
    fleet = FleetSettings(accounts=ACCOUNTS[:2], regions=("us-east-1", "eu-west-1"), transforms=2, runs=40)
    play = Play(world(fleet=fleet))
    rows = [
        f"{account},{region},{run.transform_id},{run.task_run_id}"
        for account, region, run in play.world.runs()
        if run.status(play.now()).active
    ]
    path = play.directory.parent / "runs.csv"
    path.write_text("\n".join(["account_id,region,transform_id,task_run_id", *rows]), encoding="utf-8")
    targets = (TargetSettings(accounts=ACCOUNTS[:2], role_name="BatchCancel"),)
    result = play.sweep(settings(source=ManifestSource(path=str(path)), targets=targets))
    assert (result.exit_code, play.active()) == (0, 0)


@pytest.mark.parametrize("kind", [None, FaultKind.INVALID])
def test_a_role_that_lets_nobody_in_denies_no_listed_run_and_is_knocked_at_no_further(kind: FaultKind | None) -> None:
    fleet = FleetSettings(accounts=ACCOUNTS[:2], transforms=2, runs=40)
    targets = (TargetSettings(accounts=ACCOUNTS[:2], role_name="BatchCancel", regions=("us-east-1",)),)
    for closed, exit_code in ((ACCOUNTS[1:2], 1), (ACCOUNTS[:2], 4))[1 if kind else 0 :]:
        if kind is None:
            play = Play(world(fleet=fleet, access=AccessSettings(untrusting_accounts=closed)))
        else:  # in another word than that access is denied: none of the runs was refused as invalid
            play = Play(world(Fault(kind, operations=("AssumeRole",)), fleet=fleet))
        # Fewer than a streak of denials: of one run that is denied, nobody could say that all are.
        rows = [
            (account, f"{account},{run.transform_id},{run.task_run_id}")
            for account, _, run in play.world.runs()
            if run.status(play.now()).active
        ]
        some = [row for account in ACCOUNTS[:2] for row in [row for of, row in rows if of == account][:3]]
        path = play.directory.parent / "runs.csv"
        path.write_text("\n".join(["account_id,transform_id,task_run_id", *some]), encoding="utf-8")
        result = play.sweep(settings(source=ManifestSource(path=str(path)), targets=targets))
        assert (result.exit_code, play.calls()) == (exit_code, 6 - 3 * len(closed))
        assert play.outcomes()[Outcome.NOT_ATTEMPTED] == 3 * len(closed)
        assert {(row.attempts, row.error_code) for row in play.rows() if row.outcome is Outcome.NOT_ATTEMPTED} == {
            (0, None)
        }
        reader = play.reader()
        troubles = {row.target.account_id: row.error_message for row in reader.targets() if not row.complete}
        reader.close()
        assert troubles.keys() == set(closed)
        assert all(str(message).startswith("AssumeRole: ") for message in troubles.values())


def test_a_manifest_for_another_account_than_ours_is_refused() -> None:
    play = Play()
    path = play.directory.parent / "runs.csv"
    path.write_text("account_id,transform_id,task_run_id\n999999999999,tfm-1,tr-1\n", encoding="utf-8")
    result = play.sweep(settings(source=ManifestSource(path=str(path))))
    assert (result.exit_code, play.calls()) == (3, 0)


def test_a_bad_row_calls_nothing_unless_it_may_be_skipped() -> None:
    play = Play()
    chosen = manifest_of(play, "only-one-field")
    with pytest.raises(InputError, match=r"runs\.csv:"):
        play.sweep(chosen)
    assert not play.world.log
    assert not [event for event in play.events if isinstance(event, PhaseBegan)]  # nothing begins before it is sound
    again = Play()
    chosen = manifest_of(again, "only-one-field")
    assert isinstance(chosen.source, ManifestSource)
    assert again.sweep(replace(chosen, source=replace(chosen.source, skip_invalid=True))).exit_code == 1
    assert set(again.outcomes()) == {Outcome.STOPPED}
    with closing(again.reader()) as reader:
        assert [row.error for row in reader.rejected()] == ["column 1: 1 field where the header has 2"]


def test_wrong_rows_that_are_not_told_one_by_one_are_counted_as_rows() -> None:
    for wrong, more in ((101, "and 1 row more"), (1200, "and 1,100 rows more")):
        play = Play()
        path = play.directory.parent / "runs.csv"
        path.write_text("transform_id,task_run_id,account_id\n" + "t,,12\n" * wrong, encoding="utf-8")
        with pytest.raises(InputError) as refused:
            play.sweep(settings(source=ManifestSource(path=str(path))))
        lines = str(refused.value).splitlines()
        assert (len(lines), lines[-1]) == (201, f"{path}: {more}")  # each of the hundred has two faults


def test_a_run_that_is_listed_twice_is_cancelled_once() -> None:
    play = Play()
    run = next(run for _, _, run in play.world.runs() if run.status(play.now()).active)
    play.sweep(manifest_of(play, f"{run.transform_id},{run.task_run_id}"))
    assert play.facts()["duplicates"] == 1
    assert all(row.attempts == 1 for row in play.rows())


# Incident


def test_until_clear_goes_on_until_nothing_is_active() -> None:
    behaviour = Behaviour(new_runs_per_second=0.7, new_runs_until_seconds=20.0, restart_share=0.3)
    play = Play(world(behaviour=behaviour))
    result = play.sweep(settings(until_clear=True))
    assert (result.exit_code, play.active()) == (0, 0)
    came_back = [row for row in play.rows() if row.sweep_number > 1]
    known = {row.task_run_id for row in play.rows()}
    started = {run.task_run_id for _, _, run in play.world.runs() if run.origin != "fleet"}
    assert came_back and started <= known
    assert play.facts()["sweeps"] == sum(isinstance(event, SweepStarted) for event in play.events) > 2
    counters = counted(play.events)
    assert counters.asked == counters.to_cancel_found >= len(play.rows())
    assert counters.transforms_listed == counters.transforms_found == FLEET.transforms


def test_until_clear_tells_that_a_target_is_in_trouble_no_more() -> None:
    play = Play(world(Fault(FaultKind.DENIED, operations=("ListMLTransforms",), until_seconds=0.5)))
    result = play.sweep(settings(until_clear=True))
    assert (result.exit_code, play.active()) == (0, 0)
    kinds = [type(event) for event in play.events if isinstance(event, TargetFailed | TargetRecovered)]
    assert kinds == [TargetFailed, TargetRecovered]
    assert counted(play.events).trouble() == []


@pytest.mark.parametrize("seed", [8, 11, 12])
def test_until_clear_is_not_deceived_by_a_run_that_comes_back_behind_its_listing(seed: int) -> None:
    behaviour = Behaviour(restart_share=1.0, restart_after_seconds=(0.1, 1.0), stopping_seconds=(4.0, 9.0))
    slow = (Limit(rps=20.0, burst=20.0, operations=("GetMLTaskRuns",)),)
    fleet = FleetSettings(transforms=60, runs=3)
    play = Play(WorldSettings(seed=seed, fleet=fleet, behaviour=behaviour, limits=slow))
    assert (play.sweep(settings(until_clear=True)).exit_code, play.active()) == (0, 0)


@pytest.mark.parametrize(
    "rules", [{"protection": Protection(transform_names=("prod-*",))}, {"selection": Selection(transform_names=("*",))}]
)
@pytest.mark.parametrize("until_clear", [True, False])
def test_what_was_left_alone_only_because_its_name_could_not_be_read_is_decided_about_anew(
    rules: dict[str, Any], *, until_clear: bool
) -> None:
    fleet = FleetSettings(transforms=2, runs=8)
    play = Play(world(Fault(FaultKind.INTERNAL, operations=("GetMLTransforms",), until_seconds=0.9), fleet=fleet))
    active = play.active()
    chosen = settings(until_clear=until_clear, retry=Retry(max_attempts=1), **rules)
    result = play.sweep(chosen)
    if not until_clear:  # then it is the resumed sweep that lists the target again
        assert result.exit_code == 1 and play.outcomes() == {Outcome.EXCLUDED: active}
        play.world.change_faults(())
        play.events.clear()  # another process has another live view
        result = play.resume(chosen)
    assert (result.exit_code, play.active(), play.outcomes()) == (0, 0, {Outcome.STOPPED: active})
    assert {(row.rule, row.returns, row.sweep_number) for row in play.rows()} == {(None, 0, 1)}
    counters = counted(play.events)
    assert (counters.to_cancel_found, counters.excluded) == (active, 0)


@pytest.mark.parametrize("counted", [False, True])
def test_a_listed_run_that_was_left_alone_as_nothing_was_known_of_it_is_looked_at_again_or_never_clean(
    *, counted: bool
) -> None:
    blind = Fault(FaultKind.INTERNAL, operations=("GetMLTransforms",))
    play = Play(world(blind, fleet=FleetSettings(transforms=2, runs=8)))
    active = play.active()
    consent = Consent(confirm_count=0) if counted else Consent(yes=True)
    protection = Protection(transform_names=("prod-*",))
    chosen = replace(manifest_of(play), protection=protection, consent=consent, retry=Retry(max_attempts=1))
    assert (play.sweep(chosen).exit_code, play.outcomes()) == (1, {Outcome.EXCLUDED: active})
    play.world.change_faults(())
    result = play.resume(chosen)
    if counted:  # to cancel none was what was agreed to
        assert (result.exit_code, play.outcomes()) == (1, {Outcome.EXCLUDED: active})
        reader = play.reader()
        assert "start a new sweep for them" in (reader.targets()[0].error_message or "")
        reader.close()
    else:
        assert (result.exit_code, play.outcomes()) == (0, {Outcome.STOPPED: active})


def test_a_target_that_could_not_be_entered_to_look_at_its_runs_has_none_cancelled(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    play = Play(world(fleet=FleetSettings(transforms=2, runs=8)))
    enter, tries = play.service.connect, 0

    @contextlib.asynccontextmanager
    async def connect(target: Target) -> AsyncIterator[GlueApi]:
        nonlocal tries
        tries += 1
        if tries == 1:
            raise CallFailed(ErrorKind.TRANSIENT, "AssumeRole", "ConnectTimeoutError", "for a moment", reached=False)
        async with enter(target) as glue:
            yield glue

    monkeypatch.setattr(play.service, "connect", connect)
    result = play.sweep(replace(manifest_of(play), protection=Protection(transform_names=("*",))))
    assert (result.exit_code, play.calls(), set(play.outcomes())) == (1, 0, {Outcome.NOT_ATTEMPTED})


def test_what_turns_out_to_be_protected_is_left_alone_by_the_rule_that_spares_it() -> None:
    blind = Fault(FaultKind.INTERNAL, operations=("GetMLTransforms",), until_seconds=0.9)
    play = Play(world(blind, fleet=FleetSettings(transforms=2, runs=8)))
    protection = Protection(transform_names=("*",))
    result = play.sweep(settings(until_clear=True, retry=Retry(max_attempts=1), protection=protection))
    assert (result.exit_code, play.calls()) == (0, 0)
    assert {(row.outcome, row.rule) for row in play.rows()} == {(Outcome.EXCLUDED, "protect: transform_name *")}


def test_until_clear_asks_again_for_a_run_that_started_once_more_before_its_end_was_seen() -> None:
    play = Play(world(fleet=FleetSettings(transforms=1, runs=3), behaviour=Behaviour(stopping_seconds=(0.2, 0.2))))

    def started_once_more(_stop: Stop, world: World) -> None:
        run = next(run for _, _, run in world.runs() if run.status(play.now()).active)

        def look() -> None:
            if not run.status(play.now()).ended:
                loop.call_later(0.05, look)
                return
            run.cancels, run.started_at, run.running_at, run.stops_after = (), play.now(), play.now(), 30.0
            began_at.append(play.now())

        loop = asyncio.get_running_loop()
        look()

    began_at: list[float] = []
    play.at_once = started_once_more
    result = play.sweep(settings(until_clear=True))
    assert (result.exit_code, play.active(), set(play.outcomes())) == (0, 0, {Outcome.STOPPED})
    [again] = [row for row in play.rows() if row.returns]
    [call] = [call for call in play.world.log if call.operation == "CancelMLTaskRun" and call.at > began_at[0]]
    assert (call.task_run_id, call.at - began_at[0] < 10.0) == (again.task_run_id, True)
    assert again.confirmed_at is not None and again.confirmed_at.timestamp() > began_at[0] + 30.0
    counters = counted(play.events)
    assert counters.asked == counters.to_cancel_found == len(play.rows()) + 1
    assert counters.settled == counters.will_be_settled == len(play.rows())


def test_a_target_that_is_given_up_holds_up_no_listing_of_another() -> None:
    regions = ("us-east-1", "us-west-2")
    denied = Fault(FaultKind.DENIED, operations=("CancelMLTaskRun",), regions=regions[:1])
    play = Play(world(denied, fleet=replace(FLEET, regions=regions), behaviour=Behaviour(stuck_share=0.2)))
    targets = (TargetSettings(regions=regions),)
    play.sweep(settings(until_clear=True, targets=targets, verify=Verify(timeout_seconds=300.0)))
    began = [call.at for call in play.world.log if call.operation == "ListMLTransforms" and call.region == regions[1]]
    assert max(later - earlier for earlier, later in pairwise(began)) < 60.0


@pytest.mark.parametrize("disk_seconds", [0.05, 0.2])
@pytest.mark.parametrize("from_manifest", [False, True])
def test_the_view_leaves_out_what_was_given_up_with_its_target(
    from_manifest: bool,  # a parameter
    disk_seconds: float,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def written(write: Callable[[], None]) -> None:
        await asyncio.sleep(disk_seconds)
        write()

    monkeypatch.setattr("tests.sweeps._inline", written)
    regions = ("us-east-1", "us-west-2")
    denied = Fault(FaultKind.DENIED, operations=("CancelMLTaskRun",), regions=regions[:1])
    play = Play(world(denied, fleet=FleetSettings(regions=regions, transforms=40, runs=400)))
    chosen = settings(targets=(TargetSettings(regions=regions),))
    if from_manifest:
        rows = [f"{run.transform_id},{run.task_run_id},{region}" for _, region, run in play.world.runs()]
        path = play.directory.parent / "runs.csv"
        path.write_text("\n".join(["transform_id,task_run_id,region", *rows]) + "\n", encoding="utf-8")
        chosen = replace(chosen, source=ManifestSource(path=str(path)))
    play.sweep(chosen)
    counters = counted(play.events)
    left = play.outcomes()[Outcome.NOT_ATTEMPTED]
    assert left > 0
    assert counters.to_cancel == len(play.rows())
    assert counters.will_be_asked == counters.asked == counters.to_cancel - left
    assert counters.will_be_settled == counters.settled


def test_a_sweep_until_clear_that_was_clear_is_over_for_good() -> None:
    play = Play()
    until_clear = settings(until_clear=True)
    assert play.sweep(until_clear).exit_code == 0
    later = Play(world(fleet=replace(FLEET, transforms=7)))  # another fleet, at the same address
    later.directory = play.directory
    result = later.resume(until_clear)
    assert (result.exit_code, later.calls(), len(later.world.log)) == (0, 0, 0)
    assert "nothing was called" in (result.says or "")


def test_until_clear_ends_although_a_run_cannot_be_stopped() -> None:
    play = Play(world(Fault(FaultKind.INVALID, 1.0, operations=("CancelMLTaskRun",))))
    result = play.sweep(settings(until_clear=True))
    assert result.exit_code == 1
    assert set(play.outcomes()) == {Outcome.INVALID}


def test_the_first_request_leaves_while_discovery_goes_on() -> None:
    play = Play(world(fleet=FleetSettings(transforms=200, runs=400)), latency=always(0.2))
    play.sweep(settings(until_clear=True))
    first_cancel = next(call.at for call in play.world.log if call.operation == "CancelMLTaskRun")
    listings = [call for call in play.world.log if call.operation == "GetMLTaskRuns"]
    looked: set[str | None] = set()
    for call in listings:  # STARTING comes first at each transform, then RUNNING
        status = "RUNNING" if call.transform_id in looked else "STARTING"
        looked.add(call.transform_id)
        if any(
            run.transform_id == call.transform_id and run.status(call.at) == status for _, _, run in play.world.runs()
        ):
            break
    assert first_cancel - call.at <= 2 * 0.2
    assert first_cancel < listings[399].at


def test_signals_have_their_own_exit_codes() -> None:
    from batch_cancel.cli.signals import exit_code_of

    assert [exit_code_of(signal.SIGINT), exit_code_of(signal.SIGTERM)] == [130, 143]


def test_a_region_that_is_not_enabled_is_told_from_wrong_credentials() -> None:
    fleet = FleetSettings(regions=("us-east-1", "eu-south-1"), transforms=3, runs=40)
    play = Play(world(fleet=fleet, access=AccessSettings(disabled_regions=("eu-south-1",))))
    result = play.sweep(settings(targets=(TargetSettings(regions=("us-east-1", "eu-south-1")),)))
    assert result.exit_code == 1
    reader = play.reader()
    there, disabled = reader.targets()
    reader.close()
    assert there.complete and not disabled.complete
    [said] = [event.message for event in play.events if isinstance(event, TargetFailed)]
    assert disabled.error_message == f"{REGION_NOT_ENABLED}; in the service's words: {said}"
    [warned] = [event.message for event in play.events if isinstance(event, Warned)]  # the log says what it was, too
    assert warned.startswith("eu-south-1 is not enabled for 1 account that was refused there")


def test_units_that_cannot_be_looked_up_are_told_apart_in_the_report() -> None:
    play = Play(world())
    targets = (TargetSettings(organization_units=("ou-sim1-none0001", "ou-sim1-none0002"), role_name="R"),)
    assert play.sweep(settings(targets=targets)).exit_code != 0
    reader = play.reader()
    told = [(row.target.account_id, row.error_message) for row in reader.targets()]
    reader.close()
    said = "You specified parent that doesn't exist."
    assert told == [(None, f"{said} (unit ou-sim1-none0001)"), (None, f"{said} (unit ou-sim1-none0002)")]


def test_a_large_organization_is_swept_and_what_is_denied_is_named() -> None:
    accounts = tuple(f"{number:012d}" for number in range(1, 51))
    regions = ("us-east-1", "eu-west-1", "eu-south-1", "us-west-2")
    fleet = FleetSettings(accounts=accounts, regions=regions, transforms=2, runs=1200)
    access = AccessSettings(denied_accounts=accounts[3:6], disabled_regions=("eu-south-1",))
    play = Play(world(fleet=fleet, access=access))
    targets = (TargetSettings(accounts=accounts, role_name="BatchCancel", regions=regions),)
    assert play.sweep(settings(targets=targets)).exit_code == 1
    left = {(account, region) for account, region, run in play.world.runs() if run.status(play.now()).active}
    assert left and all(account in accounts[3:6] or region == "eu-south-1" for account, region in left)
    reader = play.reader()
    failed = {(row.target.account_id, row.target.region) for row in reader.targets() if not row.complete}
    reader.close()
    assert failed == {(a, r) for a in accounts for r in regions if a in accounts[3:6] or r == "eu-south-1"}


def test_an_empty_target_costs_one_call_of_glue() -> None:
    accounts = tuple(f"{number:012d}" for number in range(1, 101))
    play = Play(world(fleet=FleetSettings(accounts=accounts, transforms=0, runs=0)))
    targets = (TargetSettings(accounts=accounts, role_name="BatchCancel", regions=("us-east-1",)),)
    assert play.sweep(settings(targets=targets)).exit_code == 0
    assert play.calls("ListMLTransforms") == play.calls("AssumeRole") == 100
    assert play.calls("GetMLTaskRuns") == play.calls("GetMLTransforms") == 0


def test_a_profile_that_is_not_there_stops_it_with_four() -> None:
    for regions in (None, ("us-east-1",)):
        play = Play()
        result = play.sweep(settings(targets=(TargetSettings(profile="nobody", regions=regions),)))
        assert (result.exit_code, result.stop_cause) == (4, StopCause.CREDENTIALS)
        assert "nobody" in (result.says or "")


def test_a_sweep_of_nowhere_has_nothing_to_do() -> None:
    assert Play().sweep(settings(targets=())).exit_code == 0


def test_pages_that_shift_while_their_runs_are_cancelled_hide_no_run() -> None:
    fleet = FleetSettings(transforms=3, runs=300, starting_share=0.5, starting_seconds=(5.0, 30.0))
    play = Play(world(fleet=fleet, behaviour=Behaviour(page_size_cap=7)), latency=always(0.3))
    assert play.sweep(settings()).exit_code == 0
    assert play.active() == 0


def test_a_transform_that_is_nowhere_is_no_empty_sweep() -> None:
    play = Play()
    known = next(transform.transform_id for _, _, transform in play.world.transforms())
    assert play.sweep(settings(selection=Selection(transform_ids=("tfm-none",)))).exit_code == 1
    again = Play()
    assert again.sweep(settings(selection=Selection(transform_ids=(known,)))).exit_code == 0


def test_what_could_not_be_looked_at_before_the_decision_is_looked_at_before_it_is_cancelled() -> None:
    closed = Fault(FaultKind.EXPIRED, 1.0, accounts=(ACCOUNTS[1],))
    play = Play(world(closed, fleet=FleetSettings(accounts=ACCOUNTS[:2], transforms=12, runs=160)))
    rows = [
        f"{account},{run.transform_id},{run.task_run_id}"
        for account, _, run in play.world.runs()
        if run.status(play.now()).active
    ]
    path = play.directory.parent / "runs.csv"
    path.write_text("\n".join(["account_id,transform_id,task_run_id", *rows]), encoding="utf-8")
    chosen = settings(
        source=ManifestSource(path=str(path)),
        targets=(TargetSettings(accounts=ACCOUNTS[:2], role_name="BatchCancel", regions=("us-east-1",)),),
        protection=Protection(transform_names=("critical-*",)),
    )
    assert play.sweep(chosen).exit_code == 1
    assert play.outcomes()[Outcome.NOT_ATTEMPTED] > 0
    play.world.change_faults(())
    assert play.resume(chosen).exit_code == 0
    spared = {row.task_run_id for row in play.rows() if row.outcome is Outcome.EXCLUDED}
    left = {run.task_run_id for _, _, run in play.world.runs() if run.status(play.now()).active}
    names = {transform.transform_id: transform.name for _, _, transform in play.world.transforms()}
    critical = {
        run.task_run_id
        for _, _, run in play.world.runs()
        if run.status(play.now()).active and names[run.transform_id].startswith("critical-")
    }
    assert spared == left == critical


# Whose accounts, and which regions


@pytest.mark.parametrize("first", [TargetSettings(regions=("us-east-1",)), TargetSettings(profile="a", regions="all")])
def test_an_account_that_several_ways_lead_to_is_swept_once(first: TargetSettings) -> None:
    play = Play(world(fleet=FleetSettings(accounts=ACCOUNTS[:1], transforms=3, runs=60)), profiles=PROFILES)
    active = play.active()
    same = (
        TargetSettings(profile="b", regions=("us-east-1",)),
        TargetSettings(role_name="BatchCancel", accounts=ACCOUNTS[:1], regions=("us-east-1",)),
    )
    result = play.sweep(settings(targets=(first, *same), guardrails=Guardrails(max_runs=active)))
    assert (result.exit_code, play.active(), play.calls()) == (0, 0, active)
    assert play.outcomes() == {Outcome.STOPPED: active}
    warned = [event.message for event in play.events if isinstance(event, Warned)]
    assert sum("it is swept once" in message for message in warned) == 2


def test_ways_in_whose_accounts_cannot_be_found_out_are_named_and_swept() -> None:
    play = Play(world(Fault(FaultKind.INTERNAL, 1.0, operations=("GetCallerIdentity",))), profiles=PROFILES)
    targets = tuple(TargetSettings(profile=name, regions=("us-east-1",)) for name in PROFILES)
    assert play.sweep(settings(targets=targets)).exit_code == 0
    assert play.active() == 0
    warned = [event.message for event in play.events if isinstance(event, Warned)]
    assert sum("could not be found out" in message for message in warned) == 2


def test_a_row_outside_the_sweep_s_regions_is_a_bad_row() -> None:
    play = Play()
    path = play.directory.parent / "runs.csv"
    path.write_text("region,transform_id,task_run_id\neu-west-1,tfm-1,tr-1\n", encoding="utf-8")
    source = ManifestSource(path=str(path))
    with pytest.raises(InputError, match="region eu-west-1 is not among the sweep's regions"):
        play.sweep(settings(source=source))
    assert not play.world.log
    rows_rule = Play()
    assert rows_rule.sweep(settings(source=source, targets=(TargetSettings(),))).exit_code == 1
    assert {call.region for call in rows_rule.world.log if call.operation == "CancelMLTaskRun"} == {"eu-west-1"}


@pytest.mark.parametrize("from_manifest", [False, True])
def test_an_account_that_cannot_be_found_out_is_none_that_is_allowed(from_manifest: bool) -> None:  # a parameter
    play = Play(world(Fault(FaultKind.INTERNAL, 1.0, operations=("GetCallerIdentity",))))
    chosen = manifest_of(play) if from_manifest else settings()
    result = play.sweep(replace(chosen, guardrails=Guardrails(allow_accounts=("111111111111",))))
    assert (result.exit_code, result.stop_cause) == (4, StopCause.CREDENTIALS)
    assert play.facts()["stop_cause"] == "credentials"
    assert {call.operation for call in play.world.log} == {"GetCallerIdentity"}


def test_an_account_that_a_row_names_and_nobody_can_confirm_is_not_touched() -> None:
    play = Play(world(Fault(FaultKind.INTERNAL, 1.0, operations=("GetCallerIdentity",))))
    path = play.directory.parent / "runs.csv"
    path.write_text("account_id,transform_id,task_run_id\n111111111111,tfm-1,tr-1\n", encoding="utf-8")
    assert play.sweep(settings(source=ManifestSource(path=str(path)))).exit_code == 4
    assert play.calls() == 0
    assert play.outcomes() == {Outcome.NOT_ATTEMPTED: 1}


def test_an_account_that_is_not_allowed_is_refused_though_its_door_is_closed() -> None:
    fleet = FleetSettings(accounts=ACCOUNTS[:2], transforms=2, runs=20)
    play = Play(world(fleet=fleet, access=AccessSettings(untrusting_accounts=ACCOUNTS[1:2])))
    targets = (TargetSettings(accounts=ACCOUNTS[:2], role_name="BatchCancel", regions=("us-east-1",)),)
    result = play.sweep(settings(targets=targets, guardrails=Guardrails(allow_accounts=ACCOUNTS[:1])))
    assert (result.exit_code, result.stop_cause, play.calls()) == (3, StopCause.GUARDRAIL, 0)


def test_an_account_that_is_found_out_after_requests_elsewhere_not_to_be_allowed_is_left_alone_by_itself() -> None:
    fleet = FleetSettings(accounts=ACCOUNTS[:2], transforms=2, runs=40)
    play = Play(world(fleet=fleet), profiles={"a": ACCOUNTS[0], "b": ACCOUNTS[1]})
    nobody_knows = Fault(FaultKind.DENIED, operations=("GetCallerIdentity",), accounts=ACCOUNTS[1:2])
    play.world.change_faults((nobody_knows,))
    chosen = settings(
        targets=tuple(TargetSettings(profile=name, regions=("us-east-1",)) for name in ("a", "b")),
        guardrails=Guardrails(allow_accounts=ACCOUNTS[:1]),
        retry=Retry(deadline_seconds=3.0),
        rate=Rate(rps=2.0),
    )
    assert play.sweep(chosen).exit_code == 5
    assert play.calls() > 0
    play.world.change_faults(())
    result = play.resume(replace(chosen, retry=Retry(), rate=Rate()))
    assert (result.exit_code, result.stop_cause) == (1, None)  # and not 3: it has cancelled
    assert {call.account_id for call in play.world.log if call.operation == "CancelMLTaskRun"} == {ACCOUNTS[0]}
    assert set(play.outcomes()) == {Outcome.STOPPED}
    reader = play.reader()
    [closed] = [row for row in reader.targets() if not row.complete]
    reader.close()
    assert closed.error_message == f"account {ACCOUNTS[1]} is not among the allowed accounts ({ACCOUNTS[0]})"


def test_the_account_that_is_not_allowed_is_told() -> None:
    play = Play()
    assert play.sweep(settings(guardrails=Guardrails(allow_accounts=("999999999999",)))).exit_code == 3
    reader = play.reader()
    told = reader.targets()[0]
    reader.close()
    assert told.target.account_id == play.world.settings.fleet.accounts[0] and told.identity_arn


def test_a_profile_that_is_not_there_is_no_fault_of_every_row() -> None:
    play = Play()
    chosen = replace(manifest_of(play), targets=(TargetSettings(profile="nobody"),))
    with pytest.raises(AccessStopped, match="nobody") as stopped:
        play.sweep(chosen)
    assert str(stopped.value).count("nobody") == 1 and not play.world.log


def test_a_share_of_the_active_runs_is_the_same_however_the_selection_is_spelled() -> None:
    fleet = FleetSettings(transforms=6, runs=60)
    known = {transform.transform_id: transform for _, _, transform in Play(world(fleet=fleet)).world.transforms()}
    chosen = next(iter(known))
    said: set[str | None] = set()
    for selection in (Selection(transform_ids=(chosen,)), Selection(transform_names=(known[chosen].name or "",))):
        play = Play(world(fleet=fleet))
        result = play.sweep(settings(selection=selection, guardrails=Guardrails(max_percent=0.1)))
        assert (result.exit_code, play.calls()) == (3, 0)
        assert len(play.rows()) == play.active()
        said.add(result.says)
    assert len(said) == 1


def test_a_share_of_a_manifest_is_of_the_active_runs_among_its_rows() -> None:
    play = Play(world(fleet=FleetSettings(transforms=6, runs=60)))
    ids = [transform.transform_id for _, _, transform in play.world.transforms()]
    chosen = replace(
        manifest_of(play, active_only=False),
        selection=Selection(transform_ids=tuple(ids[:3])),
        guardrails=Guardrails(max_percent=0.1),
    )
    result = play.sweep(chosen)
    assert result.exit_code == 3 and f" of {play.active()} active runs" in (result.says or "")


def test_a_deadline_before_the_targets_are_known_is_no_clean_end() -> None:
    fleet = FleetSettings(accounts=ACCOUNTS[:2], transforms=3, runs=40)
    play = Play(world(fleet=fleet), latency=always(1.0))
    several = (
        TargetSettings(regions=("us-east-1",)),
        TargetSettings(accounts=ACCOUNTS[1:2], role_name="BatchCancel", regions=("us-east-1",)),
    )
    result = play.sweep(settings(targets=several, retry=Retry(deadline_seconds=0.3)))
    assert (result.exit_code, result.stop_cause, play.calls()) == (5, StopCause.DEADLINE, 0)
    assert play.active() > 0
    assert play.resume(settings(targets=several)).exit_code == 0
    assert play.active() == 0


@pytest.mark.parametrize("seed", range(3))
def test_an_outage_is_not_hammered_and_those_who_wait_go_on_as_soon_as_it_is_over(seed: int) -> None:
    asked = ("CancelMLTaskRun", "GetMLTaskRun")
    outage = Fault(FaultKind.UNAVAILABLE, operations=asked, from_seconds=1.0, until_seconds=11.0)
    friction = Fault(FaultKind.INTERNAL, 0.25, operations=asked)
    fleet = FleetSettings(transforms=6, runs=400, ended_share=0.0)
    play = Play(WorldSettings(seed=seed, fleet=fleet, faults=(outage, friction)))
    play.sweep(settings())
    seconds = [entry.at - BEGAN_AT for entry in play.world.log if entry.operation in asked]
    assert 70 <= sum(4.0 <= at < 8.0 for at in seconds) <= 120  # 20 a second
    assert sum(12.0 <= at < 17.0 for at in seconds) >= 350
