"""The simulator's Organizations and STS through the real client: the same as moto's, and a region that is disabled."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from batch_cancel.core.errors import CallFailed, ErrorKind
from batch_cancel.core.task_run import Access, Target
from batch_cancel.engine.closed_regions import closed_ones
from batch_cancel.engine.targets import Resolved, resolve
from batch_cancel.glue.aws import Aws
from batch_cancel.settings import TargetSettings
from batch_cancel.simulator.organization import ROOT_ID
from batch_cancel.simulator.server import serve
from batch_cancel.simulator.settings import AccessSettings, FleetSettings, OrganizationSettings, Unit, WorldSettings
from batch_cancel.simulator.world import World

HOME = "111111111111"
MEMBERS = tuple(f"{number:012}" for number in range(222222222222, 222222222252))  # more than a page of 20 holds
REGIONS = ("us-east-1", "af-south-1")


@pytest.fixture(autouse=True)
def _nothing_else_is_reached(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAIOSFODNN7EXAMPLE")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "made-up")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))


def at(access: AccessSettings, work: Callable[[Aws], Awaitable[None]], now: Callable[[], float] = time.time) -> None:
    units = (
        Unit("ou-sim1-top00000", "top", MEMBERS[:25]),
        Unit("ou-sim1-below000", "below", MEMBERS[25:], parent="ou-sim1-top00000"),
    )
    settings = WorldSettings(
        fleet=FleetSettings(accounts=(HOME, *MEMBERS), regions=REGIONS, transforms=1, runs=0),
        access=access,
        organization=OrganizationSettings(units, suspended_accounts=MEMBERS[:1]),
    )

    async def main() -> None:
        async with serve(World(settings, now=now)) as url:
            await work(Aws("s-1", endpoint_url=url))

    asyncio.run(main())


def units(*ids: str) -> tuple[TargetSettings]:
    return (TargetSettings(role_name="Sweep", organization_units=ids, external_id="x-1", regions=("us-east-1",)),)


def test_units_below_units_closed_accounts_and_every_page() -> None:
    async def work(aws: Aws) -> None:
        result = await resolve(units("ou-sim1-top00000"), aws)
        assert {target.account_id for target in result.targets} == set(MEMBERS[1:])
        assert [(told.account_id, told.left_out) for told in result.failed] == [(MEMBERS[0], True)]

    at(AccessSettings(), work)


def test_the_management_account_is_entered_without_a_role_that_is_denied_there() -> None:
    async def work(aws: Aws) -> None:
        result: Resolved = await resolve(units(ROOT_ID), aws)
        access = {target.account_id: target.access for target in result.targets}
        assert len(access) == len(MEMBERS)  # all but the closed one, and home
        assert access[HOME] == Access()
        assert access[MEMBERS[1]].role_arn == f"arn:aws:iam::{MEMBERS[1]}:role/Sweep"

    at(AccessSettings(untrusting_accounts=(HOME,)), work)


def test_a_disabled_region_is_told_from_credentials_that_are_wrong() -> None:
    async def work(aws: Aws) -> None:
        here, there = (Target(region) for region in REGIONS)
        async with aws.reader(here) as glue:
            await glue.list_transform_ids()
        async with aws.reader(there) as glue:
            with pytest.raises(CallFailed) as caught:
                await glue.list_transform_ids()
        assert closed_ones({there: caught.value.code}, [here]) == {there}
        assert closed_ones({there: caught.value.code}, []) == set()

    at(AccessSettings(disabled_regions=("af-south-1",)), work)


def test_a_session_that_expired_is_told_and_replaced_once_it_is_forgotten() -> None:
    passed = [0.0]
    access = Access(role_arn=f"arn:aws:iam::{MEMBERS[1]}:role/Sweep")

    async def work(aws: Aws) -> None:
        assert (await aws.identify(access, "us-east-1")).account_id == MEMBERS[1]
        passed[0] = 2 * 3600  # for the service; our own clock still takes the session for good
        with pytest.raises(CallFailed) as caught:
            await aws.identify(access, "us-east-1")
        assert (caught.value.kind, caught.value.code) == (ErrorKind.CREDENTIALS, "ExpiredToken")
        aws.forget(access)
        assert (await aws.identify(access, "us-east-1")).account_id == MEMBERS[1]

    at(AccessSettings(), work, lambda: time.time() + passed[0])
