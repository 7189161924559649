"""The simulator's endpoint through the real clients: aioboto3 as this program uses it, and boto3 as everybody does."""

import asyncio
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import boto3
import pytest
from botocore.client import BaseClient
from botocore.config import Config

from batch_cancel.core.errors import CallFailed, ErrorKind
from batch_cancel.core.task_run import Access, Status, Target
from batch_cancel.glue import aws
from batch_cancel.glue.api import CancelAnswer, GlueApi, Service
from batch_cancel.glue.aws import Aws
from batch_cancel.simulator import memory
from batch_cancel.simulator.memory import SimulatedService
from batch_cancel.simulator.server import serve
from batch_cancel.simulator.settings import (
    AccessSettings,
    Behaviour,
    CancelEnded,
    Fault,
    FaultKind,
    FleetSettings,
    Limit,
    OrganizationSettings,
    RetryAfter,
    Unit,
)
from batch_cancel.simulator.world import World
from tests.simulator.worlds import HOME, KEY, OTHER, REGION, Clock, active, run_with, world_of

HERE = Target(REGION, HOME)
ENDED = (Status.STOPPED, Status.SUCCEEDED, Status.FAILED, Status.TIMEOUT)
TWO = FleetSettings(accounts=(HOME, OTHER), regions=(REGION, "eu-west-1"), transforms=3, runs=60)


def on_the_wire(world: World, story: Callable[[Service], Awaitable[None]]) -> None:
    async def main() -> None:
        async with serve(world) as url:
            await story(Aws("s-1", endpoint_url=url))

    asyncio.run(main())


def the_clients_time() -> Clock:
    """botocore looks at its own clock to see whether keys have run out."""
    clock = Clock()
    clock.seconds = time.time()
    return clock


def fields(failed: CallFailed) -> tuple[object, ...]:
    return (
        failed.kind,
        failed.operation,
        failed.code,
        failed.http_status,
        failed.reached,
        failed.ambiguous,
        failed.retry_after_seconds,
    )


async def tell(service: Service, world: World, target: Target = HERE) -> object:
    """What cancelling a running run and then reading it is answered, in our terms, and what really happened."""
    run = active(world)
    told: list[object] = []
    async with service.connect(target) as glue:
        calls: tuple[Callable[[], Awaitable[object]], ...] = (
            lambda: glue.cancel_task_run(run.transform_id, run.task_run_id),
            lambda: glue.get_task_run(run.transform_id, run.task_run_id),
            lambda: glue.list_task_runs(run.transform_id),
        )
        for call in calls:
            try:
                answer = await call()
                # On the wire the date is the HTTP server's, and this world has a clock of its own.
                told.append(replace(answer, answered_at=None) if isinstance(answer, CancelAnswer) else answer)
            except CallFailed as failed:
                told.append(fields(failed))
    return told, len(run.cancels), run.requests


# -- one world, two faces ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", sorted(set(FaultKind) - {FaultKind.REFUSED}))
def test_a_fault_looks_the_same_in_memory_and_on_the_wire(kind: FaultKind, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "READ_SECONDS", 0.05)
    monkeypatch.setattr(aws, "READ_SECONDS", 0.2)
    told: list[object] = []

    async def main() -> None:
        in_memory, served = world_of(Fault(kind)), world_of(Fault(kind))
        told.append(await tell(SimulatedService(in_memory), in_memory))
        async with serve(served) as url:
            told.append(await tell(Aws("s-1", endpoint_url=url), served))

    asyncio.run(main())
    assert told[0] == told[1]


@pytest.mark.parametrize(
    "setting",
    [
        {"limits": (Limit(rps=1.0),), "behaviour": Behaviour(retry_after=RetryAfter.SECONDS)},
        {"limits": (Limit(rps=1.0),), "behaviour": Behaviour(retry_after=RetryAfter.MILLISECONDS)},
        {"limits": (Limit(rps=1.0),), "behaviour": Behaviour(throttle_code="429")},
        {"limits": (Limit(rps=1.0),), "behaviour": Behaviour(throttle_code="TooManyRequestsException")},
        {"access": AccessSettings(denied_accounts=(HOME,))},
        {"access": AccessSettings(disabled_regions=(REGION,))},
        {"access": AccessSettings(keys_live_seconds=1e-9)},
        {},
    ],
    ids=["seconds", "milliseconds", "429", "other code", "denied", "disabled", "expired", "none"],
)
def test_a_setting_looks_the_same_in_memory_and_on_the_wire(setting: dict[str, Any]) -> None:
    told: list[object] = []

    async def main() -> None:
        clocks = Clock(), Clock()
        in_memory, served = (world_of(clock=clock, **setting) for clock in clocks)
        faces: list[tuple[Service, World, Clock]] = [(SimulatedService(in_memory), in_memory, clocks[0])]
        async with serve(served) as url:
            faces.append((Aws("s-1", endpoint_url=url), served, clocks[1]))
            for service, world, clock in faces:
                first = await tell(service, world)
                clock.pass_(0.3)
                told.append((first, await tell(service, world)))

    asyncio.run(main())
    assert told[0] == told[1]


@pytest.mark.parametrize("access", [Access(), Access(role_arn=f"arn:aws:iam::{OTHER}:role/R", external_id="no")])
def test_who_is_not_let_in_looks_the_same_in_memory_and_on_the_wire(access: Access) -> None:
    told: list[object] = []

    async def main() -> None:
        settings = AccessSettings(external_id="sweep-7", keys_live_seconds=1e-9 if access == Access() else None)
        worlds = [world_of(fleet=TWO, access=settings, clock=Clock()) for _ in range(2)]
        async with serve(worlds[1]) as url:
            for service in (SimulatedService(worlds[0]), Aws("s-1", endpoint_url=url)):
                with pytest.raises(CallFailed) as caught:
                    await service.identify(access, REGION)
                told.append(fields(caught.value))

    asyncio.run(main())
    assert told[0] == told[1]


# -- accounts and regions ---------------------------------------------------------------------------------------------


def test_a_role_with_its_external_id_leads_to_the_other_account() -> None:
    world = world_of(fleet=TWO, access=AccessSettings(external_id="sweep-7"), clock=the_clients_time())
    access = Access(role_arn=f"arn:aws:iam::{OTHER}:role/BatchCancel", external_id="sweep-7")

    async def story(service: Service) -> None:
        identity = await service.identify(access, REGION)
        assert identity.account_id == OTHER
        assert identity.arn == f"arn:aws:sts::{OTHER}:assumed-role/BatchCancel/batch-cancel-s-1"
        for region in TWO.regions:
            async with service.connect(Target(region, OTHER, access)) as glue:
                seen = set((await glue.list_transform_ids()).items)
                theirs = {each.transform_id for *place, each in world.transforms() if place == [OTHER, region]}
                assert seen == theirs
        assert world.calls[HOME, REGION, "AssumeRole", "ok"] == 1, "a role is assumed once for all its regions"

    on_the_wire(world, story)


def test_a_role_whose_keys_are_expired_from_the_start_was_never_used() -> None:
    world = world_of(fleet=TWO, access=AccessSettings(session_seconds=-5.0), clock=the_clients_time())
    access = Access(role_arn=f"arn:aws:iam::{OTHER}:role/BatchCancel")

    async def story(service: Service) -> None:
        async with service.connect(Target(REGION, OTHER, access)) as glue:
            with pytest.raises(CallFailed) as caught:
                await glue.cancel_task_run("tfm-1", "tsk-1")
        assert (caught.value.kind, caught.value.reached) == (ErrorKind.CREDENTIALS, False)

    on_the_wire(world, story)


def test_what_the_libraries_log_of_a_refused_role_stays_off_the_users_screen() -> None:
    script = """
import asyncio, sys
from batch_cancel.core.errors import CallFailed
from batch_cancel.core.task_run import Access
from batch_cancel.glue.aws import Aws
access = Access(role_arn="arn:aws:iam::999999999999:role/R")
try:
    asyncio.run(Aws("s-1", endpoint_url=sys.argv[1]).identify(access, "us-east-1"))
except CallFailed as failed:
    print(failed.code)
"""

    async def main() -> subprocess.CompletedProcess[str]:
        async with serve(world_of()) as url:
            command = [sys.executable, "-c", script, url]
            return await asyncio.to_thread(subprocess.run, command, capture_output=True, text=True, check=False)

    done = asyncio.run(main())
    assert (done.stdout, done.stderr) == ("AccessDenied\n", "")


def test_a_role_whose_keys_run_out_is_assumed_again() -> None:
    clock = the_clients_time()
    world = world_of(fleet=TWO, clock=clock, access=AccessSettings(session_seconds=1000.0))
    access = Access(role_arn=f"arn:aws:iam::{OTHER}:role/BatchCancel")

    async def story(service: Service) -> None:
        async with service.connect(Target(REGION, OTHER, access)) as glue:
            await glue.list_transform_ids()
            clock.pass_(2000)
            with pytest.raises(CallFailed) as caught:
                await glue.list_transform_ids()
            assert caught.value.code == "ExpiredTokenException"
            service.forget(access)
        async with service.connect(Target(REGION, OTHER, access)) as glue:
            await glue.list_transform_ids()
        assert world.calls[HOME, REGION, "AssumeRole", "ok"] == 2

    on_the_wire(world, story)


# -- what the program reads -------------------------------------------------------------------------------------------


def test_odd_ids_arrive_exactly_as_written_and_every_page_is_followed() -> None:
    world = world_of(fleet=FleetSettings(transforms=31, runs=400, odd_ids=True), behaviour=Behaviour(page_size_cap=3))

    async def pages(list_: Callable[[str | None], Awaitable[Any]]) -> list[Any]:
        found: list[Any] = []
        token = None
        while True:
            page = await list_(token)
            found += page.items
            token = page.next_token
            if token is None:
                return found

    async def story(service: Service) -> None:
        async with service.connect(HERE) as glue:
            transform_ids = await pages(lambda token: glue.list_transform_ids(next_token=token))
            assert transform_ids == [each.transform_id for *_, each in world.transforms()]
            for *_, transform in world.transforms():
                tagged = await pages(
                    lambda token, tags=transform.tags: glue.list_transform_ids(tags=tags, next_token=token)  # type: ignore[misc]  # as below
                )
                assert tagged == [
                    each.transform_id for *_, each in world.transforms() if transform.tags.items() <= each.tags.items()
                ]
                running = await pages(
                    lambda token, at=transform.transform_id: glue.list_task_runs(  # type: ignore[misc]  # mypy cannot infer a lambda with a default
                        at, status=Status.RUNNING, next_token=token
                    )
                )
                for run in running:
                    told = await glue.cancel_task_run(run.transform_id, run.task_run_id)
                    assert (told.transform_id, told.task_run_id) == run.key
        assert not [run for *_, run in world.runs() if run.status(world.now()) is Status.RUNNING]

    on_the_wire(world, story)


def test_times_are_aware_and_true_and_started_after_is_understood() -> None:
    world = world_of()
    run = active(world)

    async def story(service: Service) -> None:
        async with service.connect(HERE) as glue:
            seen = await glue.get_task_run(run.transform_id, run.task_run_id)
            assert seen.started_on is not None
            assert seen.started_on.timestamp() == run.started_at
            assert seen.started_on.tzinfo is not None
            cut = datetime.fromtimestamp(run.started_at - 1, UTC)
            later = await glue.list_task_runs(run.transform_id, started_after=cut)
            assert run.task_run_id in [each.task_run_id for each in later.items]
            latest = await glue.list_task_runs(run.transform_id, started_after=datetime(2100, 1, 1, tzinfo=UTC))
            assert latest.items == []

    on_the_wire(world, story)


def test_a_reader_cannot_cancel() -> None:
    async def story(service: Service) -> None:
        async with service.reader(HERE) as reader:
            assert not hasattr(reader, "cancel_task_run")

    on_the_wire(world_of(), story)


# -- boto3 as everybody uses it ---------------------------------------------------------------------------------------


def with_boto3(world: World, story: Callable[[BaseClient, str], None]) -> None:
    async def main() -> None:
        async with serve(world) as url:
            await asyncio.to_thread(speak, url)

    def speak(url: str) -> None:
        once = Config(retries={"total_max_attempts": 1})
        client = boto3.client(
            "glue",
            endpoint_url=url,
            region_name=REGION,
            aws_access_key_id=KEY,
            aws_secret_access_key="simulated",
            config=once,
        )
        try:
            story(client, url)
        finally:
            client.close()

    asyncio.run(main())


def test_boto3_lists_reads_and_cancels() -> None:
    world = world_of()

    def story(glue: Any, url: str) -> None:  # noqa: ANN401  # botocore's client has no type
        ids = glue.list_ml_transforms(Tags={}, Sort={"Column": "NAME", "SortDirection": "ASCENDING"})["TransformIds"]
        transforms = glue.get_ml_transforms(Filter={"GlueVersion": "2.0"})["Transforms"]
        assert {each["TransformId"] for each in transforms} <= set(ids)
        runs = glue.get_ml_task_runs(
            TransformId=ids[0],
            Filter={"Status": "RUNNING"},
            Sort={"Column": "STARTED", "SortDirection": "DESCENDING"},
        )["TaskRuns"]
        names = {"TransformId": ids[0], "TaskRunId": runs[0]["TaskRunId"]}
        assert isinstance(runs[0]["StartedOn"], datetime)
        assert glue.cancel_ml_task_run(**names)["Status"] == "STOPPING"
        assert glue.get_ml_task_run(**names)["Status"] == "STOPPING"
        run = world.run(HOME, REGION, ids[0], runs[0]["TaskRunId"])
        assert run is not None
        assert len(run.cancels) == 1

    with_boto3(world, story)


def test_boto3_gets_modelled_exceptions() -> None:
    world = world_of(
        behaviour=Behaviour(cancel_ended=CancelEnded.INVALID),
        limits=(Limit(rps=0.001, burst=1.0, operations=("GetMLTransform",)),),
    )
    over = run_with(world, *ENDED)

    def story(glue: Any, url: str) -> None:  # noqa: ANN401  # botocore's client has no type
        with pytest.raises(glue.exceptions.EntityNotFoundException) as caught:
            glue.cancel_ml_task_run(TransformId=over.transform_id, TaskRunId="gone")
        assert caught.value.response["Error"]["Message"] == "MLTaskRun with id gone not found"
        assert caught.value.response["FromFederationSource"] is False
        assert caught.value.response["ResponseMetadata"]["RequestId"]
        with pytest.raises(glue.exceptions.InvalidInputException):
            glue.cancel_ml_task_run(TransformId=over.transform_id, TaskRunId=over.task_run_id)
        glue.get_ml_transform(TransformId=over.transform_id)
        with pytest.raises(glue.exceptions.ThrottlingException):
            glue.get_ml_transform(TransformId=over.transform_id)

    with_boto3(world, story)


def test_boto3_assumes_roles() -> None:
    world = world_of(fleet=TWO, clock=the_clients_time())

    def story(glue: Any, url: str) -> None:  # noqa: ANN401  # botocore's client has no type
        sts = boto3.client("sts", endpoint_url=url, region_name="eu-west-1")
        role = {"RoleArn": f"arn:aws:iam::{OTHER}:role/path/R", "RoleSessionName": "me", "DurationSeconds": 900}
        keys = sts.assume_role(**role)["Credentials"]
        assert 800 < keys["Expiration"].timestamp() - world.now() <= 901
        theirs = boto3.client(
            "sts",
            endpoint_url=url,
            region_name=REGION,
            aws_access_key_id=keys["AccessKeyId"],
            aws_secret_access_key=keys["SecretAccessKey"],
            aws_session_token=keys["SessionToken"],
        )
        assert theirs.get_caller_identity()["Arn"] == f"arn:aws:sts::{OTHER}:assumed-role/R/me"
        sts.close()
        theirs.close()

    with_boto3(world, story)


def test_boto3_walks_the_organization_by_its_paginators() -> None:
    accounts = (HOME, *(f"{number:012d}" for number in range(1, 46)))
    world = world_of(
        fleet=FleetSettings(accounts=accounts, transforms=0, runs=0),
        organization=OrganizationSettings((Unit("ou-sim1-unit0001", "unit", accounts[1:31]),), (accounts[1],)),
    )

    def story(glue: Any, url: str) -> None:  # noqa: ANN401  # botocore's client has no type
        organizations = boto3.client("organizations", endpoint_url=url, region_name=REGION)

        def everything(operation: str, name: str, **request: str) -> list[Any]:
            pages = organizations.get_paginator(operation).paginate(**request)
            return [item for page in pages for item in page[name]]

        (root,) = everything("list_roots", "Roots")
        (unit,) = everything("list_organizational_units_for_parent", "OrganizationalUnits", ParentId=root["Id"])
        assert [each["Id"] for each in everything("list_accounts", "Accounts")] == list(accounts)
        above = everything("list_accounts_for_parent", "Accounts", ParentId=root["Id"])
        inside = everything("list_accounts_for_parent", "Accounts", ParentId=unit["Id"])
        assert [each["Id"] for each in above + inside] == [HOME, *accounts[31:], *accounts[1:31]]
        assert [each["Id"] for each in inside if each["Status"] == "SUSPENDED"] == [accounts[1]]
        assert organizations.describe_organization()["Organization"]["MasterAccountId"] == HOME
        with pytest.raises(organizations.exceptions.ParentNotFoundException):
            organizations.list_accounts_for_parent(ParentId="ou-sim1-gone0001")
        with pytest.raises(organizations.exceptions.InvalidInputException):
            organizations.list_accounts(NextToken="x")
        organizations.close()

    with_boto3(world, story)


def test_a_cancel_that_the_connection_swallowed_is_sent_once() -> None:
    """Neither the pool nor botocore may repeat a request by itself: a second would be a call that nobody recorded."""
    world = world_of(Fault(FaultKind.APPLIED_DROP, operations=("CancelMLTaskRun",)))
    run = active(world)

    async def story(service: Service) -> None:
        async with service.connect(HERE) as glue:
            await warm(glue)
            with pytest.raises(CallFailed):
                await glue.cancel_task_run(run.transform_id, run.task_run_id)
        assert run.requests == 1

    async def warm(glue: GlueApi) -> None:
        await glue.get_task_run(run.transform_id, run.task_run_id)

    on_the_wire(world, story)
