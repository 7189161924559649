"""The world in memory: what the engine sees of it is what the real client would show it."""

import ast
import asyncio
import subprocess
import sys
from collections.abc import Callable, Coroutine
from datetime import UTC, datetime
from typing import TypeVar

import pytest

from batch_cancel.core.errors import CallFailed, ErrorKind
from batch_cancel.core.task_run import Access, Identity, Status, Target
from batch_cancel.glue.api import CancelAnswer, GlueApi, Service
from batch_cancel.simulator import memory
from batch_cancel.simulator.latency import always, between, long_tailed
from batch_cancel.simulator.memory import SimulatedService
from batch_cancel.simulator.settings import (
    AccessSettings,
    Behaviour,
    Fault,
    FaultKind,
    FleetSettings,
    Limit,
    OrganizationSettings,
    RetryAfter,
    Unit,
)
from batch_cancel.simulator.world import World
from tests.simulator.worlds import BEGAN_AT, HOME, OTHER, REGION, Clock, active, world_of

T = TypeVar("T")
HERE = Target(REGION, HOME)


def with_glue(world: World, story: Callable[[GlueApi], Coroutine[None, None, T]], target: Target = HERE) -> T:
    async def tell() -> T:
        service: Service = SimulatedService(world, profiles={"other": OTHER})
        async with service.connect(target) as glue:
            return await story(glue)

    return asyncio.run(tell())


def failure(world: World, target: Target = HERE) -> CallFailed:
    run = active(world)

    async def story(glue: GlueApi) -> CallFailed:
        with pytest.raises(CallFailed) as caught:
            await glue.cancel_task_run(run.transform_id, run.task_run_id)
        return caught.value

    return with_glue(world, story, target)


def test_a_run_is_cancelled_and_read_with_aware_times() -> None:
    clock = Clock()
    world = world_of(clock=clock, behaviour=Behaviour(stopping_seconds=(5.0, 5.0)))
    run = active(world)

    async def story(glue: GlueApi) -> None:
        answer = await glue.cancel_task_run(run.transform_id, run.task_run_id)
        dated = datetime.fromtimestamp(int(BEGAN_AT), UTC)
        assert answer == CancelAnswer(run.transform_id, run.task_run_id, Status.STOPPING, answer.request_id, dated)
        assert answer.request_id
        clock.pass_(6)
        seen = await glue.get_task_run(run.transform_id, run.task_run_id)
        assert seen.status is Status.STOPPED
        assert seen.completed_on == datetime.fromtimestamp(BEGAN_AT + 5, UTC)

    with_glue(world, story)


def test_listings_names_and_tags() -> None:
    world = world_of()

    async def story(glue: GlueApi) -> None:
        transform_ids = (await glue.list_transform_ids()).items
        transforms = (await glue.list_transforms()).items
        assert [transform.transform_id for transform in transforms] == list(transform_ids)
        [tags] = [each.tags for *_, each in world.transforms() if each.transform_id == transform_ids[0]]
        assert transform_ids[0] in (await glue.list_transform_ids(tags=tags)).items
        runs = (await glue.list_task_runs(transform_ids[0], status=Status.RUNNING)).items
        assert runs
        assert all(run.status is Status.RUNNING for run in runs)
        middle = runs[0].started_on
        later = (await glue.list_task_runs(transform_ids[0], started_after=middle)).items
        assert all(run.started_on and middle and run.started_on > middle for run in later)

    with_glue(world, story)


@pytest.mark.parametrize(
    ("kind", "code", "error_kind", "reached"),
    [
        (FaultKind.THROTTLE, "ThrottlingException", ErrorKind.THROTTLE, True),
        (FaultKind.TIMEOUT, "OperationTimeoutException", ErrorKind.TRANSIENT, True),
        (FaultKind.INTERNAL, "InternalServiceException", ErrorKind.TRANSIENT, True),
        (FaultKind.UNAVAILABLE, "503", ErrorKind.TRANSIENT, True),
        (FaultKind.APPLIED_500, "InternalServiceException", ErrorKind.TRANSIENT, True),
        (FaultKind.APPLIED_DROP, "ConnectionClosedError", ErrorKind.TRANSIENT, True),
        (FaultKind.DROP, "EndpointConnectionError", ErrorKind.TRANSIENT, True),
        (FaultKind.REFUSED, "EndpointConnectionError", ErrorKind.TRANSIENT, False),
        (FaultKind.HALF_BODY, "ConnectionClosedError", ErrorKind.TRANSIENT, True),
        (FaultKind.DENIED, "AccessDeniedException", ErrorKind.ACCESS, True),
        (FaultKind.EXPIRED, "ExpiredTokenException", ErrorKind.CREDENTIALS, True),
        (FaultKind.INVALID, "InvalidInputException", ErrorKind.INVALID, True),
    ],
)
def test_a_fault_is_raised_as_the_real_client_raises_it(
    kind: FaultKind, code: str, error_kind: ErrorKind, reached: bool
) -> None:
    found = failure(world_of(Fault(kind)))
    assert (found.code, found.kind, found.reached, found.operation) == (code, error_kind, reached, "CancelMLTaskRun")


@pytest.mark.parametrize("kind", [FaultKind.GARBAGE_200, FaultKind.EMPTY_200, FaultKind.NO_ECHO])
def test_a_200_that_is_none_has_no_fields_and_a_reading_of_it_fails(kind: FaultKind) -> None:
    world = world_of(Fault(kind))
    run = active(world)

    async def story(glue: GlueApi) -> None:
        answer = await glue.cancel_task_run(run.transform_id, run.task_run_id)
        assert (answer.transform_id, answer.task_run_id, answer.status) == (None, None, None)
        reads: list[Coroutine[None, None, object]] = [
            glue.get_task_run(run.transform_id, run.task_run_id),
            glue.list_task_runs(run.transform_id),
            glue.list_transform_ids(),
            glue.list_transforms(),
        ]
        for read in reads:
            with pytest.raises(CallFailed) as caught:
                await read
            assert caught.value.code == "IncompleteAnswer"
            assert caught.value.ambiguous

    with_glue(world, story)


def test_a_throttle_passes_on_when_to_come_again() -> None:
    world = world_of(
        Fault(FaultKind.THROTTLE), behaviour=Behaviour(retry_after=RetryAfter.SECONDS), limits=(Limit(9.0),)
    )
    assert failure(world).retry_after_seconds == 1.0


def test_a_reader_has_nothing_to_cancel_with() -> None:
    async def tell() -> bool:
        async with SimulatedService(world_of()).reader(HERE) as reader:
            return hasattr(reader, "cancel_task_run")

    assert asyncio.run(tell()) is False


TWO = FleetSettings(accounts=(HOME, OTHER), transforms=2, runs=8)


@pytest.mark.parametrize("access", [Access(profile="other"), Access(role_arn=f"arn:aws:iam::{OTHER}:role/BatchCancel")])
def test_a_profile_and_a_role_lead_to_their_account(access: Access) -> None:
    async def tell() -> Identity:
        return await SimulatedService(world_of(fleet=TWO), profiles={"other": OTHER}).identify(access, REGION)

    assert asyncio.run(tell()).account_id == OTHER


def test_a_profile_that_is_not_there_is_never_sent() -> None:
    service = SimulatedService(world_of())
    with pytest.raises(CallFailed) as caught:
        service.default_region(Access(profile="gone"))
    assert (caught.value.kind, caught.value.code, caught.value.reached) == (
        ErrorKind.CREDENTIALS,
        "ProfileNotFound",
        False,
    )
    assert service.default_region(Access()) == REGION


def test_a_role_that_cannot_be_assumed_fails_in_whatever_call_comes_first_and_is_named() -> None:
    world = world_of(fleet=TWO, access=AccessSettings(external_id="sweep-7"))
    arn = f"arn:aws:iam::{OTHER}:role/BatchCancel"
    found = failure(world, Target(REGION, OTHER, Access(role_arn=arn, external_id="other")))
    assert (found.operation, found.code, found.kind) == ("AssumeRole", "AccessDenied", ErrorKind.ACCESS)
    assert found.reached is False
    good = Target(REGION, OTHER, Access(role_arn=arn, external_id="sweep-7"))
    assert with_glue(world, lambda glue: glue.list_transform_ids(), good).items
    assert (
        sum(
            count
            for (*_, operation, result), count in world.calls.items()
            if (operation, result) == ("AssumeRole", "ok")
        )
        == 1
    )


def test_expired_keys_are_good_again_once_they_are_forgotten() -> None:
    clock = Clock()
    world = world_of(clock=clock, access=AccessSettings(keys_end_at_seconds=10.0))

    async def tell() -> None:
        service = SimulatedService(world)
        async with service.reader(HERE) as reader:
            await reader.list_transform_ids()
            clock.pass_(10)
            with pytest.raises(CallFailed) as caught:
                await reader.list_transform_ids()
            assert caught.value.kind is ErrorKind.CREDENTIALS
            service.forget(HERE.access)
            await reader.list_transform_ids()

    asyncio.run(tell())


@pytest.mark.parametrize("arrives", [0.0, 1.0])
def test_a_call_whose_task_is_cancelled_on_its_way_may_have_arrived(arrives: float) -> None:
    world = world_of()
    run = active(world)

    async def tell() -> None:
        service = SimulatedService(world, latency=always(60.0), arrives_if_cancelled=arrives)
        async with service.connect(HERE) as glue:
            task = asyncio.create_task(glue.cancel_task_run(run.transform_id, run.task_run_id))
            await asyncio.sleep(0)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

    asyncio.run(tell())
    assert bool(run.cancels) is bool(arrives)


def test_an_answer_that_never_comes_is_given_up_by_the_clients_own_time_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "READ_SECONDS", 0.01)
    found = failure(world_of(Fault(FaultKind.APPLIED_HANG)))
    assert (found.code, found.ambiguous) == ("ReadTimeoutError", True)


def test_units_and_their_accounts_in_pages() -> None:
    accounts = tuple(f"{number:012d}" for number in range(1, 31))
    units = (Unit("ou-1", "data", accounts[1:26]), Unit("ou-2", "inner", accounts[26:28], parent="ou-1"))
    world = world_of(
        fleet=FleetSettings(accounts=accounts, transforms=0, runs=0),
        organization=OrganizationSettings(units=units, suspended_accounts=(accounts[1],)),
    )

    async def tell() -> None:
        async with SimulatedService(world).organization(Access(), REGION) as organization:
            first = await organization.accounts_of_unit("ou-1")
            assert len(first.items) == 20
            assert first.items[0].state == "SUSPENDED"
            last = await organization.accounts_of_unit("ou-1", next_token=first.next_token)
            assert [each.account_id for each in (*first.items, *last.items)] == list(accounts[1:26])
            assert last.next_token is None
            assert (await organization.units_of_unit("ou-1")).items == ["ou-2"]
            assert (await organization.units_of_unit("r-sim1")).items == ["ou-1"]
            with pytest.raises(CallFailed) as caught:
                await organization.accounts_of_unit("ou-9")
            assert caught.value.code == "ParentNotFoundException"

    asyncio.run(tell())


def test_only_the_management_account_may_look_into_the_organization() -> None:
    async def tell() -> None:
        service = SimulatedService(world_of(fleet=TWO), profiles={"other": OTHER})
        async with service.organization(Access(profile="other"), REGION) as organization:
            with pytest.raises(CallFailed) as caught:
                await organization.units_of_unit("r-sim1")
            assert caught.value.kind is ErrorKind.ACCESS

    asyncio.run(tell())


def test_latencies_are_within_their_bounds() -> None:
    draw = SimulatedService(world_of()).random
    assert always(0.3)(draw) == 0.3
    assert all(0.1 <= between(0.1, 0.2)(draw) <= 0.2 for _ in range(100))
    drawn = sorted(long_tailed(0.1)(draw) for _ in range(1001))
    assert 0.08 < drawn[500] < 0.125
    assert drawn[0] > 0


def test_no_aws_library_is_needed() -> None:
    script = (
        "import sys; before = set(sys.modules); import batch_cancel.simulator.memory; "
        "print(sorted({name.partition('.')[0] for name in set(sys.modules) - before}))"
    )
    loaded = ast.literal_eval(
        subprocess.run([sys.executable, "-c", script], capture_output=True, check=True).stdout.decode()
    )
    assert "batch_cancel" in loaded
    assert not {"boto3", "botocore", "aiobotocore", "aiohttp", "pydantic"} & set(loaded)
