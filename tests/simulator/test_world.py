"""The world keeps its own laws: life cycles, limits, faults, and a truth that fits what it answered."""

import json
import math
import re
from collections.abc import Iterator

import pytest

from batch_cancel.core.task_run import Status
from batch_cancel.simulator.settings import (
    AccessSettings,
    Behaviour,
    CancelEnded,
    Fault,
    FaultKind,
    FleetSettings,
    Limit,
    RetryAfter,
    TagsMatch,
    WorldSettings,
    trouble_in,
)
from batch_cancel.simulator.world import Delivery, World
from tests.simulator.worlds import (
    BEGAN_AT,
    HOME,
    KEY,
    OTHER,
    REGION,
    Clock,
    active,
    body,
    cancel,
    code,
    ids,
    run_with,
    world_of,
)

PATTERN = re.compile("[\t\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]{1,255}")
ENDED = (Status.STOPPED, Status.SUCCEEDED, Status.FAILED, Status.TIMEOUT)


def read(world: World, run_ids: dict[str, str]) -> dict[str, object]:
    return body(world.call(KEY, REGION, "GetMLTaskRun", run_ids))


def everything(world: World, operation: str, name: str, **request: object) -> Iterator[object]:
    token = None
    while True:
        page = body(world.call(KEY, REGION, operation, {**request, **({"NextToken": token} if token else {})}))
        yield from page[name]
        token = page.get("NextToken")
        if token is None:
            return


# -- life cycle -------------------------------------------------------------------------------------------------------


def test_a_run_starts_runs_and_ends_by_itself_with_true_times() -> None:
    clock = Clock()
    world = world_of(clock=clock)
    run = run_with(world, Status.STARTING)
    clock.seconds = run.running_at - 0.001
    assert read(world, ids(run))["Status"] == "STARTING"
    clock.seconds = run.running_at + 60
    seen = read(world, ids(run))
    assert (seen["Status"], seen["ExecutionTime"], seen["LastModifiedOn"]) == ("RUNNING", 60, round(run.running_at, 3))
    assert "CompletedOn" not in seen
    clock.seconds = run.ends_at + 5
    seen = read(world, ids(run))
    assert seen["Status"] in ("SUCCEEDED", "FAILED", "TIMEOUT")
    assert seen["CompletedOn"] == seen["LastModifiedOn"] == round(run.ends_at, 3)
    assert seen["ExecutionTime"] == int(run.ends_at - run.running_at)
    assert [cause for _, _, cause in run.history(clock())] == ["fleet", "by itself", "by itself"]


@pytest.mark.parametrize("status", [Status.STARTING, Status.RUNNING])
def test_a_cancelled_run_is_stopping_and_then_stopped(status: Status) -> None:
    clock = Clock()
    world = world_of(clock=clock, behaviour=Behaviour(stopping_seconds=(5.0, 5.0)))
    run = run_with(world, status)
    assert body(cancel(world, run)) == {**ids(run), "Status": "STOPPING"}
    clock.pass_(4.999)
    assert read(world, ids(run))["Status"] == "STOPPING"
    assert read(world, ids(run))["LastModifiedOn"] == BEGAN_AT
    clock.pass_(0.001)
    assert read(world, ids(run))["CompletedOn"] == BEGAN_AT + 5
    assert [(status, cause) for _, status, cause in run.history(clock())][-2:] == [
        (Status.STOPPING, "cancelled"),
        (Status.STOPPED, "cancelled"),
    ]


def test_a_run_that_was_stopped_before_it_ran_took_no_time() -> None:
    clock = Clock()
    world = world_of(clock=clock)
    run = run_with(world, Status.STARTING)
    cancel(world, run)
    clock.seconds = run.running_at + 500
    assert read(world, ids(run))["ExecutionTime"] == 0


def test_a_second_cancel_is_accepted_and_changes_nothing() -> None:
    clock = Clock()
    world = world_of(clock=clock, behaviour=Behaviour(stopping_seconds=(5.0, 5.0)))
    run = active(world)
    cancel(world, run)
    clock.pass_(3)
    assert body(cancel(world, run))["Status"] == "STOPPING"
    assert run.ended_at() == BEGAN_AT + 5
    assert run.cancels == (BEGAN_AT, BEGAN_AT + 3)


def test_a_stuck_run_is_stopping_for_ever() -> None:
    clock = Clock()
    world = world_of(clock=clock, behaviour=Behaviour(stuck_share=1.0))
    run = active(world)
    cancel(world, run)
    clock.pass_(1e9)
    assert read(world, ids(run))["Status"] == "STOPPING"
    told = [each for transform in world.truth()["transforms"] for each in transform["runs"] if each["stuck"]]
    assert [each["task_run_id"] for each in told] == [run.task_run_id]


def test_a_run_can_end_by_itself_although_a_cancel_was_accepted() -> None:
    clock = Clock()
    world = world_of(clock=clock, behaviour=Behaviour(finishes_first_share=1.0, restart_share=1.0))
    run = active(world)
    cancel(world, run)
    clock.pass_(3600)
    assert read(world, ids(run))["Status"] == run.ends_as != Status.STOPPED
    assert list(run.history(clock()))[-1][2] == "by itself"


@pytest.mark.parametrize(
    ("setting", "expected"),
    [(CancelEnded.INVALID, "InvalidInputException"), (CancelEnded.NOT_FOUND, "EntityNotFoundException")],
)
def test_cancelling_an_ended_run_answers_an_error_where_so_set(setting: CancelEnded, expected: str) -> None:
    world = world_of(behaviour=Behaviour(cancel_ended=setting))
    run = run_with(world, *ENDED)
    assert code(cancel(world, run)) == expected
    assert not run.cancels


def test_cancelling_an_ended_run_answers_its_status_by_default_and_accepts_nothing() -> None:
    world = world_of()
    run = run_with(world, *ENDED)
    assert body(cancel(world, run))["Status"] in ENDED
    assert not run.cancels
    assert run.requests == 1


def test_a_stopped_run_is_started_again_so_often_as_is_set() -> None:
    clock = Clock()
    behaviour = Behaviour(
        stopping_seconds=(2.0, 2.0), restart_share=1.0, restart_after_seconds=(3.0, 3.0), max_restarts=2
    )
    world = world_of(clock=clock, behaviour=behaviour, fleet=FleetSettings(transforms=1, runs=1, ended_share=0.0))
    for count in (1, 2, 3):
        (run,) = [run for _, _, run in world.runs() if not run.cancels]
        cancel(world, run)
        clock.pass_(4.9)
        assert sum(1 for _ in world.runs()) == count
        clock.pass_(0.1)
        world.now()
    runs = [run for _, _, run in world.runs()]
    assert [run.origin for run in runs] == ["fleet", "restarted", "restarted"]
    assert runs[2].replaces == runs[1].task_run_id
    assert runs[1].started_at == BEGAN_AT + 5


def test_new_runs_keep_starting_until_their_time() -> None:
    clock = Clock()
    world = world_of(clock=clock, behaviour=Behaviour(new_runs_per_second=2.0, new_runs_until_seconds=10.0))
    before = sum(1 for _ in world.runs())
    clock.pass_(5)
    world.now()
    assert sum(1 for _ in world.runs()) == before + 10
    clock.pass_(500)
    world.now()
    new = [run for _, _, run in world.runs() if run.origin == "new"]
    assert len(new) == 20
    assert max(run.started_at for run in new) == BEGAN_AT + 10


def test_a_schedule_can_wait_for_the_first_call() -> None:
    clock = Clock()
    settings = WorldSettings(
        fleet=FleetSettings(transforms=2, runs=4),
        behaviour=Behaviour(new_runs_per_second=1.0, new_runs_until_seconds=10.0),
        faults=(Fault(FaultKind.DROP, from_seconds=5.0),),
        waits_for_caller=True,
    )
    world = World(settings, now=clock)
    clock.pass_(1000)
    world.now()
    assert sum(1 for _ in world.runs()) == 4
    assert world.call(KEY, REGION, "ListMLTransforms", {}).body is not None
    clock.pass_(5)
    assert world.call(KEY, REGION, "ListMLTransforms", {}).fault is FaultKind.DROP
    assert sum(1 for _ in world.runs()) == 9
    clock.pass_(1000)
    world.now()
    assert sum(1 for _ in world.runs()) == 14


# -- listings ---------------------------------------------------------------------------------------------------------


def test_every_page_together_is_every_run_once() -> None:
    world = world_of(fleet=FleetSettings(transforms=1, runs=2345), behaviour=Behaviour(page_size_cap=100))
    (_, _, transform) = next(world.transforms())
    found = [
        item["TaskRunId"]  # type: ignore[index]
        for status in Status
        for item in everything(
            world, "GetMLTaskRuns", "TaskRuns", TransformId=transform.transform_id, Filter={"Status": status.value}
        )
    ]
    assert sorted(found) == sorted(run.task_run_id for run in transform.runs)


def test_empty_pages_hide_nothing_from_who_follows_the_token() -> None:
    world = world_of(behaviour=Behaviour(empty_page_share=0.5, page_size_cap=1))
    assert len(list(everything(world, "ListMLTransforms", "TransformIds"))) == 4


def test_page_size_is_what_was_asked_for_up_to_the_cap() -> None:
    world = world_of(fleet=FleetSettings(transforms=30, runs=0), behaviour=Behaviour(page_size_cap=20))
    for asked, given in ((7, 7), (1000, 20)):
        page = body(world.call(KEY, REGION, "GetMLTransforms", {"MaxResults": asked}))
        assert len(page["Transforms"]) == given


def test_a_sorted_listing_is_sorted() -> None:
    world = world_of(fleet=FleetSettings(transforms=1, runs=50))
    (_, _, transform) = next(world.transforms())
    sort = {"Column": "STARTED", "SortDirection": "DESCENDING"}
    request = {"TransformId": transform.transform_id, "Sort": sort, "MaxResults": 7}
    times = [item["StartedOn"] for item in everything(world, "GetMLTaskRuns", "TaskRuns", **request)]  # type: ignore[index]
    assert times == sorted(times, reverse=True)
    assert len(times) == 50


def test_filters_by_time_and_type() -> None:
    world = world_of(fleet=FleetSettings(transforms=1, runs=200))
    (_, _, transform) = next(world.transforms())
    middle = sorted(run.started_at for run in transform.runs)[100]
    for conditions, expected in (
        ({"StartedAfter": middle}, [run for run in transform.runs if run.started_at > middle]),
        ({"StartedBefore": middle}, [run for run in transform.runs if run.started_at < middle]),
        ({"TaskRunType": "EVALUATION"}, [run for run in transform.runs if run.task_type == "EVALUATION"]),
    ):
        request = {"TransformId": transform.transform_id, "Filter": conditions}
        found = list(everything(world, "GetMLTaskRuns", "TaskRuns", **request))
        assert [item["TaskRunId"] for item in found] == [run.task_run_id for run in expected]  # type: ignore[index]
        assert 0 < len(found) < 200


def test_listings_lag_behind_and_single_reads_do_not() -> None:
    clock = Clock()
    world = world_of(clock=clock, behaviour=Behaviour(listing_lag_seconds=3.0, stopping_seconds=(1.0, 1.0)))
    run = active(world)
    cancel(world, run)
    clock.pass_(2)
    assert read(world, ids(run))["Status"] == "STOPPED"
    listed = everything(world, "GetMLTaskRuns", "TaskRuns", TransformId=run.transform_id)
    (seen,) = [item for item in listed if item["TaskRunId"] == run.task_run_id]  # type: ignore[index]
    assert seen["Status"] == "RUNNING"  # type: ignore[index]


@pytest.mark.parametrize("match", TagsMatch)
def test_several_tags_mean_what_is_set(match: TagsMatch) -> None:
    world = world_of(fleet=FleetSettings(transforms=60, runs=0), behaviour=Behaviour(tags_match=match))
    wanted = {"env": "dev", "team": "crm"}
    found = set(everything(world, "ListMLTransforms", "TransformIds", Tags=wanted))
    judge = all if match is TagsMatch.ALL else any
    assert found == {
        transform.transform_id
        for _, _, transform in world.transforms()
        if judge(transform.tags.get(key) == value for key, value in wanted.items())
    }
    assert found


def test_a_region_of_which_the_world_knows_nothing_is_empty() -> None:
    world = world_of()
    assert body(world.call(KEY, "eu-south-1", "ListMLTransforms", {})) == {"TransformIds": []}


def test_tags_by_resource_name() -> None:
    world = world_of(fleet=FleetSettings(transforms=3, runs=0, odd_ids=True))
    for _, _, transform in world.transforms():
        arn = f"arn:aws:glue:{REGION}:{HOME}:mlTransform/{transform.transform_id}"
        assert body(world.call(KEY, REGION, "GetTags", {"ResourceArn": arn})) == {"Tags": transform.tags}
    other = f"arn:aws:glue:{REGION}:{OTHER}:mlTransform/x"
    assert code(world.call(KEY, REGION, "GetTags", {"ResourceArn": other})) == "InvalidInputException"


# -- requests ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("operation", "request_", "expected", "says"),
    [
        ("CancelMLTaskRun", {}, "ValidationException", "2 validation errors"),
        ("CancelMLTaskRun", {"TransformId": "", "TaskRunId": "x"}, "ValidationException", "greater than or equal to 1"),
        ("GetMLTaskRun", {"TransformId": "x" * 256, "TaskRunId": "x"}, "ValidationException", "equal to 255"),
        ("GetMLTaskRun", {"TransformId": "a\nb", "TaskRunId": "x"}, "ValidationException", "regular expression"),
        ("GetMLTaskRun", {"TransformId": 7, "TaskRunId": "x"}, "SerializationException", "not a string"),
        ("GetMLTaskRuns", {"TransformId": "x", "MaxResults": 1001}, "ValidationException", "equal to 1000"),
        ("GetMLTaskRuns", {"TransformId": "x", "MaxResults": 0}, "ValidationException", "equal to 1"),
        ("GetMLTaskRuns", {"TransformId": "x", "Filter": {"Status": "GONE"}}, "ValidationException", "enum"),
        ("GetMLTaskRuns", {"TransformId": "x", "Filter": {"StartedAfter": "y"}}, "SerializationException", "seconds"),
        ("GetMLTransforms", {"Sort": {"Column": "NAME"}}, "ValidationException", "sortDirection"),
        ("ListMLTransforms", {"NextToken": "!"}, "InvalidInputException", "token"),
        ("ListMLTransforms", {"NextToken": "a"}, "InvalidInputException", "token"),
        ("ListMLTransforms", {"NextToken": "\u00e9\ud800"}, "InvalidInputException", "token"),
        ("ListMLTransforms", {"Tags": {"a": 1}}, "SerializationException", "not a string"),
        ("GetTags", {}, "ValidationException", "resourceArn"),
        ("GetTags", {"ResourceArn": "x"}, "InvalidInputException", "Arn"),
        ("GetMLTransform", {"TransformId": "gone"}, "EntityNotFoundException", "gone"),
        ("CancelMLTaskRun", {"TransformId": "gone", "TaskRunId": "x"}, "EntityNotFoundException", "gone"),
        ("DeleteMLTransform", {"TransformId": "x"}, "UnknownOperationException", "DeleteMLTransform"),
    ],
)
def test_a_request_that_breaks_the_service_model_is_refused(
    operation: str, request_: dict[str, object], expected: str, says: str
) -> None:
    answer = world_of().call(KEY, REGION, operation, request_)
    assert code(answer) == expected
    assert answer.refused is not None
    assert says in answer.refused.message


def test_odd_ids_are_all_different_and_all_within_the_pattern() -> None:
    world = world_of(fleet=FleetSettings(transforms=40, runs=2000, odd_ids=True))
    found = [run.task_run_id for _, _, run in world.runs()]
    found += [transform.transform_id for _, _, transform in world.transforms()]
    assert len(set(found)) == 2040
    assert all(PATTERN.fullmatch(each) for each in found)
    for odd in (",", '"', "\t", "🧯", "\u200f", "\\", "<"):
        assert any(odd in each for each in found)
    assert any(each.startswith("=") for each in found)
    assert any(len(each) == 255 for each in found)
    for _, _, run in world.runs():
        assert read(world, ids(run))["TaskRunId"] == run.task_run_id


# -- limits -----------------------------------------------------------------------------------------------------------


def let_through(world: World, clock: Clock, seconds: float, asked_rps: float) -> int:
    run = active(world)
    count = 0
    for _ in range(round(seconds * asked_rps)):
        count += world.call(KEY, REGION, "GetMLTaskRun", ids(run)).refused is None
        clock.pass_(1 / asked_rps)
    return count


def test_a_bucket_lets_its_burst_and_its_rate_through() -> None:
    clock = Clock()
    world = world_of(clock=clock, limits=(Limit(rps=10.0, burst=5.0),))
    assert let_through(world, clock, 10.0, 100.0) == pytest.approx(5 + 100, abs=1)


def test_a_fixed_window_lets_its_count_through() -> None:
    clock = Clock()
    world = world_of(clock=clock, limits=(Limit(rps=10.0, window_seconds=2.0),))
    assert let_through(world, clock, 10.0, 50.0) == 100


def test_limits_are_of_each_operation_and_region() -> None:
    world = world_of(limits=(Limit(rps=1.0),))
    run = active(world)
    for region in (REGION, "eu-west-1"):
        for operation in ("ListMLTransforms", "GetMLTransforms"):
            assert world.call(KEY, region, operation, {}).refused is None
            assert code(world.call(KEY, region, operation, {})) == "ThrottlingException"
    assert cancel(world, run).refused is None


def test_the_last_limit_that_fits_holds_and_limits_change_with_time() -> None:
    clock = Clock()
    limits = (Limit(rps=5.0), Limit(rps=50.0, from_seconds=100.0), Limit(rps=1.0, operations=("GetMLTransform",)))
    world = world_of(clock=clock, limits=limits)
    assert let_through(world, clock, 10.0, 200.0) == pytest.approx(50, abs=1)
    clock.pass_(100)
    assert let_through(world, clock, 10.0, 200.0) == pytest.approx(500, abs=1)


@pytest.mark.parametrize(
    ("setting", "expected"), [(RetryAfter.NEVER, None), (RetryAfter.SECONDS, 1.0), (RetryAfter.MILLISECONDS, 0.25)]
)
def test_a_throttle_says_when_to_come_again_where_so_set(setting: RetryAfter, expected: float | None) -> None:
    world = world_of(limits=(Limit(rps=4.0),), behaviour=Behaviour(retry_after=setting))
    world.call(KEY, REGION, "ListMLTransforms", {})
    refused = world.call(KEY, REGION, "ListMLTransforms", {}).refused
    assert refused is not None
    assert refused.retry_after_seconds == expected


def test_limits_and_faults_can_be_changed_while_the_world_runs() -> None:
    world = world_of()
    world.change_limits((Limit(rps=1.0),))
    world.change_faults((Fault(FaultKind.INTERNAL),))
    assert code(world.call(KEY, REGION, "ListMLTransforms", {})) == "InternalServiceException"
    assert code(world.call(KEY, REGION, "ListMLTransforms", {})) == "ThrottlingException"


# -- faults -----------------------------------------------------------------------------------------------------------

APPLIED = {
    FaultKind.APPLIED_500: Delivery.WHOLE,
    FaultKind.APPLIED_DROP: Delivery.CLOSED,
    FaultKind.APPLIED_HANG: Delivery.NEVER,
    FaultKind.HALF_BODY: Delivery.HALF,
    FaultKind.GARBAGE_200: Delivery.GARBAGE,
    FaultKind.EMPTY_200: Delivery.EMPTY,
    FaultKind.NO_ECHO: Delivery.WHOLE,
}


@pytest.mark.parametrize("kind", FaultKind)
def test_a_fault_has_its_effect_or_has_it_not_as_it_says(kind: FaultKind) -> None:
    world = world_of(Fault(kind))
    run = active(world)
    answer = cancel(world, run)
    assert bool(run.cancels) is (kind in APPLIED)
    assert answer.delivery is APPLIED.get(kind, answer.delivery)
    if answer.delivery is Delivery.WHOLE:
        assert answer.body == {} if kind is FaultKind.NO_ECHO else answer.refused is not None
    assert run.requests == (0 if kind is FaultKind.REFUSED else 1)


def test_garbage_can_be_without_effect() -> None:
    world = world_of(Fault(FaultKind.GARBAGE_200), behaviour=Behaviour(garbage_applies=False))
    run = active(world)
    assert cancel(world, run).delivery is Delivery.GARBAGE
    assert not run.cancels


def test_faults_come_as_often_as_they_are_set_to() -> None:
    world = world_of(Fault(FaultKind.TIMEOUT, 0.2), Fault(FaultKind.DROP, 0.3))
    run = active(world)
    for _ in range(5000):
        world.call(KEY, REGION, "GetMLTaskRun", ids(run))
    counts = {result: count for (*_, result), count in world.calls.items()}
    assert counts["OperationTimeoutException"] == pytest.approx(1000, abs=150)
    assert counts["drop"] == pytest.approx(1500, abs=150)
    assert counts["ok"] == 5000 - counts["OperationTimeoutException"] - counts["drop"]


def test_an_outage_is_a_fault_with_an_end_and_a_place() -> None:
    clock = Clock()
    world = world_of(
        Fault(FaultKind.UNAVAILABLE, regions=("eu-west-1",), from_seconds=10.0, until_seconds=20.0), clock=clock
    )
    seen = []
    for _ in range(3):
        seen.append(
            [world.call(KEY, region, "ListMLTransforms", {}).delivery.value for region in (REGION, "eu-west-1")]
        )
        clock.pass_(10)
    assert seen == [["whole", "whole"], ["whole", "html_503"], ["whole", "whole"]]


def test_faults_leave_sts_alone_unless_they_name_it() -> None:
    assert world_of(Fault(FaultKind.DROP)).call(KEY, REGION, "GetCallerIdentity", {}).body is not None
    named = world_of(Fault(FaultKind.INTERNAL, operations=("GetCallerIdentity",)))
    assert code(named.call(KEY, REGION, "GetCallerIdentity", {})) == "InternalFailure"


# -- access -----------------------------------------------------------------------------------------------------------

TWO = FleetSettings(accounts=(HOME, OTHER), transforms=2, runs=8)


def assume(world: World, account_id: str, **more: str) -> str:
    request = {"RoleArn": f"arn:aws:iam::{account_id}:role/BatchCancel", "RoleSessionName": "s", **more}
    key_id: str = body(world.call(KEY, REGION, "AssumeRole", request))["Credentials"]["AccessKeyId"]
    return key_id


def test_a_role_gives_keys_of_its_account_until_they_expire() -> None:
    clock = Clock()
    world = world_of(clock=clock, fleet=TWO)
    key = assume(world, OTHER)
    assert body(world.call(key, REGION, "GetCallerIdentity", {}))["Arn"] == (
        f"arn:aws:sts::{OTHER}:assumed-role/BatchCancel/s"
    )
    theirs = {transform.transform_id for account_id, _, transform in world.transforms() if account_id == OTHER}
    assert set(body(world.call(key, REGION, "ListMLTransforms", {}))["TransformIds"]) == theirs
    clock.pass_(3600)
    assert code(world.call(key, REGION, "ListMLTransforms", {})) == "ExpiredTokenException"
    assert code(world.call(key, REGION, "GetCallerIdentity", {})) == "ExpiredToken"


@pytest.mark.parametrize(
    ("region", "partition"), [("us-east-1", "aws"), ("cn-north-1", "aws-cn"), ("us-gov-west-1", "aws-us-gov")]
)
def test_names_are_of_the_regions_partition(region: str, partition: str) -> None:
    told = body(world_of().call(KEY, region, "GetCallerIdentity", {}))
    assert told["Arn"] == f"arn:{partition}:iam::{HOME}:user/operator"


def test_a_role_wants_its_external_id() -> None:
    world = world_of(fleet=TWO, access=AccessSettings(external_id="sweep-7"))
    request = {"RoleArn": f"arn:aws:iam::{OTHER}:role/R", "RoleSessionName": "s"}
    assert code(world.call(KEY, REGION, "AssumeRole", request)) == "AccessDenied"
    assert code(world.call(KEY, REGION, "AssumeRole", {**request, "ExternalId": "no"})) == "AccessDenied"
    assert assume(world, OTHER, ExternalId="sweep-7").endswith(OTHER)


@pytest.mark.parametrize("account_id", [OTHER, "999999999999"])
def test_a_role_that_trusts_nobody_and_one_that_is_not_there_are_refused_alike(account_id: str) -> None:
    world = world_of(fleet=TWO, access=AccessSettings(untrusting_accounts=(OTHER,)))
    request = {"RoleArn": f"arn:aws:iam::{account_id}:role/R", "RoleSessionName": "s"}
    assert code(world.call(KEY, REGION, "AssumeRole", request)) == "AccessDenied"


def test_denied_accounts_and_disabled_regions() -> None:
    world = world_of(fleet=TWO, access=AccessSettings(denied_accounts=(OTHER,), disabled_regions=("eu-south-1",)))
    key = assume(world, OTHER)
    assert code(world.call(key, REGION, "ListMLTransforms", {})) == "AccessDeniedException"
    assert world.call(key, REGION, "GetCallerIdentity", {}).body is not None
    assert code(world.call(KEY, "eu-south-1", "ListMLTransforms", {})) == "UnrecognizedClientException"
    assert code(world.call(KEY, "eu-south-1", "GetCallerIdentity", {})) == "InvalidClientTokenId"


def test_keys_in_use_expire_at_their_time_and_fresh_ones_are_good() -> None:
    clock = Clock()
    world = world_of(clock=clock, access=AccessSettings(keys_end_at_seconds=60.0))
    assert world.call(KEY, REGION, "ListMLTransforms", {}).body is not None
    clock.pass_(60)
    assert code(world.call(KEY, REGION, "ListMLTransforms", {})) == "ExpiredTokenException"
    assert world.call(f"AKIASIM1{HOME}", REGION, "ListMLTransforms", {}).body is not None


def test_keys_that_live_only_so_long() -> None:
    clock = Clock()
    world = world_of(clock=clock, access=AccessSettings(keys_live_seconds=5.0))
    clock.pass_(1000)
    assert world.call(KEY, REGION, "ListMLTransforms", {}).body is not None
    clock.pass_(5)
    assert code(world.call(KEY, REGION, "ListMLTransforms", {})) == "ExpiredTokenException"


def test_keys_of_strangers_are_not_known() -> None:
    world = world_of()
    assert code(world.call("AKIASIM0" + "9" * 12, REGION, "ListMLTransforms", {})) == "UnrecognizedClientException"
    assert code(world.call("ASIA0000" + HOME, REGION, "ListMLTransforms", {})) == "UnrecognizedClientException"
    assert world.call("test", REGION, "ListMLTransforms", {}).body is not None


# -- truth ------------------------------------------------------------------------------------------------------------


def test_the_truth_holds_every_run_every_accepted_cancel_and_every_call() -> None:
    clock = Clock()
    world = world_of(clock=clock, limits=(Limit(rps=1.0, burst=2.0),), behaviour=Behaviour(stopping_seconds=(1.0, 1.0)))
    first, second, third = [run for _, _, run in world.runs() if run.status(clock()) is Status.RUNNING][:3]
    for run in (first, second, third):
        cancel(world, run)
    clock.pass_(1)
    truth = json.loads(json.dumps(world.truth()))
    runs = {run["task_run_id"]: run for transform in truth["transforms"] for run in transform["runs"]}
    assert len(runs) == 40
    told = [runs[run.task_run_id] for run in (first, second, third)]
    assert [run["status"] for run in told] == ["STOPPED", "STOPPED", "RUNNING"]
    assert [run["accepted_cancels"] for run in told] == [[BEGAN_AT], [BEGAN_AT], []]
    assert [run["cancel_requests"] for run in told] == [1, 1, 1]
    assert not any(run["stuck"] for run in runs.values())
    assert told[0]["history"][-1] == {"at": BEGAN_AT + 1, "status": "STOPPED", "cause": "cancelled"}
    assert [call["result"] for call in truth["log"]] == ["ok", "ok", "ThrottlingException"]
    assert truth["log"][2]["task_run_id"] == third.task_run_id
    counts = {(call["operation"], call["result"]): call["count"] for call in truth["calls"]}
    assert counts == {("CancelMLTaskRun", "ok"): 2, ("CancelMLTaskRun", "ThrottlingException"): 1}


def test_the_same_seed_is_the_same_world_and_another_is_another() -> None:
    fleets = [
        [(run.task_run_id, run.ends_at, run.stops_after) for _, _, run in world_of(seed=seed).runs()]
        for seed in (3, 3, 4)
    ]
    assert fleets[0] == fleets[1] != fleets[2]


def test_the_fleet_is_as_large_and_as_mixed_as_it_is_set_to_be() -> None:
    world = world_of(fleet=FleetSettings(accounts=(HOME, OTHER), regions=("us-east-1", "eu-west-1"), runs=4000))
    assert sum(1 for _ in world.transforms()) == 4 * 20
    now = world.now()
    counts = dict.fromkeys(Status, 0)
    for _, _, run in world.runs():
        counts[run.status(now)] += 1
        assert run.started_at <= now
        assert math.isfinite(run.ends_at)
    assert sum(counts.values()) == 4000
    assert counts[Status.STARTING] == pytest.approx(600, abs=120)
    assert counts[Status.RUNNING] == pytest.approx(2400, abs=200)
    assert counts[Status.STOPPED] > 100


def test_settings_that_make_no_sense_are_named() -> None:
    settings = WorldSettings(
        fleet=FleetSettings(accounts=("12",), ended_share=0.9, starting_share=0.9, runs=-1),
        behaviour=Behaviour(stuck_share=2.0, stopping_seconds=(5.0, 1.0), page_size_cap=0),
        limits=(Limit(rps=0.0),),
        faults=(Fault(FaultKind.DROP, 1.5),),
    )
    assert {".".join(map(str, path)) for path, _ in trouble_in(settings)} == {
        "fleet.accounts",
        "fleet.ended_share",
        "fleet.runs",
        "behaviour.stuck_share",
        "behaviour.stopping_seconds",
        "behaviour.page_size_cap",
        "limits.0",
        "faults.0.probability",
    }
    assert trouble_in(WorldSettings()) == []
