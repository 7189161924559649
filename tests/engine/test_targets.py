"""From settings to targets: nothing called without need, nothing dropped in silence, no account entered twice."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field

import pytest

from batch_cancel.core.errors import CallFailed, ErrorKind, UsageError
from batch_cancel.core.task_run import Access, Identity, Target
from batch_cancel.engine import targets as subject
from batch_cancel.engine.targets import FailedTarget, Resolved, resolve
from batch_cancel.glue.api import Account, GlueApi, GlueReader, Organization, Page
from batch_cancel.glue.regions import glue_regions
from batch_cancel.settings import TargetSettings
from batch_cancel.stop import Stop, StopCause, Stopped

ROLE = "arn:aws:iam::222222222222:role/BatchCancel"
PAGE = 2


def failure(kind: ErrorKind, code: str, operation: str = "ListAccountsForParent") -> CallFailed:
    return CallFailed(kind, operation, code, f"{code} it says")


@dataclass
class MadeUpService:
    """An organization in memory, in pages of two; ``failing`` fails the listing of a unit so many times."""

    accounts: dict[str, list[Account]] = field(default_factory=dict)
    units: dict[str, list[str]] = field(default_factory=dict)
    failing: dict[str, list[CallFailed]] = field(default_factory=dict)
    regions: dict[str | None, str | None] = field(default_factory=dict)
    own_account: str = "111111111111"
    refused_roles: dict[str, CallFailed] = field(default_factory=dict)
    repeats_tokens: bool = False
    calls: Counter[str] = field(default_factory=Counter)
    at_once: int = 0
    most_at_once: int = 0

    async def identify(self, access: Access, region: str) -> Identity:
        self.calls["identify"] += 1
        if access.role_arn in self.refused_roles:
            raise self.refused_roles[access.role_arn]
        account_id = access.role_arn.split(":")[4] if access.role_arn else self.own_account
        return Identity(account_id, f"arn:aws:sts::{account_id}:somebody")

    def default_region(self, access: Access) -> str | None:
        self.calls["default_region"] += 1
        if access.profile == "missing":
            raise failure(ErrorKind.CREDENTIALS, "ProfileNotFound", "CreateSession")
        return self.regions.get(access.profile)

    def forget(self, access: Access) -> None:
        raise AssertionError

    @asynccontextmanager
    async def organization(self, access: Access, region: str) -> AsyncIterator[Organization]:
        if access.profile == "missing":
            raise failure(ErrorKind.CREDENTIALS, "ProfileNotFound", "CreateClient")
        yield self

    async def accounts_of_unit(self, unit_id: str, *, next_token: str | None = None) -> Page[Account]:
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        await asyncio.sleep(0)
        self.at_once -= 1
        if self.failing.get(unit_id):
            raise self.failing[unit_id].pop(0)
        return self._page("accounts", self.accounts.get(unit_id, []), next_token)

    async def units_of_unit(self, unit_id: str, *, next_token: str | None = None) -> Page[str]:
        if self.failing.get(f"below {unit_id}"):
            raise self.failing[f"below {unit_id}"].pop(0)
        return self._page("units", self.units.get(unit_id, []), next_token)

    def _page(self, what: str, items: list[subject.T], token: str | None) -> Page[subject.T]:
        self.calls[what] += 1
        start = int(token or 0)
        if self.repeats_tokens:
            return Page(items[:PAGE], "0")
        return Page(items[start : start + PAGE], str(start + PAGE) if start + PAGE < len(items) else None)

    def reader(self, target: Target) -> AbstractAsyncContextManager[GlueReader]:
        raise AssertionError

    def connect(self, target: Target) -> AbstractAsyncContextManager[GlueApi]:
        raise AssertionError


def resolved(*settings: TargetSettings, service: MadeUpService | None = None, stop: Stop | None = None) -> Resolved:
    return asyncio.run(resolve(settings, service or MadeUpService(), stop=stop))


def active(*numbers: int) -> list[Account]:
    return [Account(f"{number:012}", "ACTIVE") for number in numbers]


@pytest.fixture
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subject, "LOOKUP_BACKOFF_SECONDS", (0.0, 0.0))


# -- without any call -------------------------------------------------------------------------------------------------


def test_named_regions_of_the_callers_own_account_need_no_call() -> None:
    service = MadeUpService()
    result = resolved(TargetSettings(regions=("us-east-1", "eu-west-1", "us-east-1")), service=service)
    assert result == Resolved([Target("us-east-1"), Target("eu-west-1")], [])
    assert not service.calls


def test_without_a_region_the_configured_one_is_swept() -> None:
    service = MadeUpService(regions={None: "eu-west-3", "dev": "us-west-2"})
    result = resolved(TargetSettings(), TargetSettings(profile="dev"), service=service)
    assert result.targets == [Target("eu-west-3"), Target("us-west-2", access=Access("dev"))]


@pytest.mark.parametrize(
    ("settings", "words"),
    [(TargetSettings(), "there is no region"), (TargetSettings(profile="dev"), "profile dev has no region")],
)
def test_no_region_anywhere_is_refused_before_any_call_with_the_mend(settings: TargetSettings, words: str) -> None:
    service = MadeUpService(accounts={"r-root": active(1)})
    units = TargetSettings(role_name="Sweep", organization_units=("r-root",), regions=("us-east-1",))
    with pytest.raises(UsageError, match=rf"{words}.*--region.*AWS_DEFAULT_REGION"):
        resolved(units, settings, service=service)
    assert set(service.calls) == {"default_region"}


def test_a_role_arn_tells_its_account() -> None:
    result = resolved(TargetSettings(profile="ops", role_arn=ROLE, external_id="x-1", regions=("us-east-1",)))
    assert result.targets == [Target("us-east-1", "222222222222", Access("ops", ROLE, "x-1"))]


@pytest.mark.parametrize(
    ("region", "partition"), [("us-east-1", "aws"), ("cn-north-1", "aws-cn"), ("us-gov-west-1", "aws-us-gov")]
)
def test_a_role_name_becomes_a_role_of_the_regions_partition_in_each_account(region: str, partition: str) -> None:
    accounts = ("222222222222", "333333333333")
    entry = TargetSettings(role_name="ops/BatchCancel", accounts=accounts, external_id="x-1", regions=(region,))
    assert resolved(entry).targets == [
        Target(region, account, Access(None, f"arn:{partition}:iam::{account}:role/ops/BatchCancel", "x-1"))
        for account in accounts
    ]


def test_regions_of_two_partitions_are_entered_by_the_roles_of_each() -> None:
    entry = TargetSettings(role_name="S", accounts=("222222222222",), regions=("us-east-1", "cn-north-1"))
    roles = [target.access.role_arn for target in resolved(entry).targets]
    assert roles == ["arn:aws:iam::222222222222:role/S", "arn:aws-cn:iam::222222222222:role/S"]


@pytest.mark.parametrize(
    ("entry", "configured", "partition"),
    [
        (TargetSettings(regions="all"), None, "aws"),
        (TargetSettings(regions="all"), "cn-north-1", "aws-cn"),
        (TargetSettings(regions="all", role_arn=ROLE.replace("aws:iam", "aws-us-gov:iam")), "us-east-1", "aws-us-gov"),
        (TargetSettings(regions=("all",)), None, "aws"),
    ],
)
def test_all_is_every_region_of_the_partition_that_has_glue(
    entry: TargetSettings, configured: str | None, partition: str
) -> None:
    result = resolved(entry, service=MadeUpService(regions={None: configured}))
    assert [target.region for target in result.targets] == list(glue_regions(partition))


def test_regions_with_glue_are_real_regions_and_all_of_them() -> None:
    assert {"us-east-1", "eu-central-1", "ap-southeast-1", "af-south-1"} <= set(glue_regions("aws"))
    assert glue_regions("aws-cn") == ("cn-north-1", "cn-northwest-1")
    assert glue_regions("aws-us-gov") == ("us-gov-east-1", "us-gov-west-1")
    assert not [region for region in glue_regions("aws") if "fips" in region or "global" in region]
    assert glue_regions("aws-eusc") == ("eusc-de-east-1",)  # of which the data says nothing as to Glue


def test_regions_with_glue_are_those_that_botocore_itself_would_name() -> None:
    import botocore.session

    session = botocore.session.get_session()
    for partition in ("aws", "aws-cn", "aws-us-gov"):
        assert list(glue_regions(partition)) == sorted(session.get_available_regions("glue", partition))


@pytest.mark.parametrize(
    "entry",
    [
        TargetSettings(regions=()),
        TargetSettings(role_name="S", accounts=(), regions=("us-east-1",)),
        TargetSettings(role_name="S", organization_units=(), regions=("us-east-1",)),
    ],
)
def test_an_empty_list_is_nowhere(entry: TargetSettings) -> None:
    service = MadeUpService()
    assert resolved(entry, service=service) == Resolved([], [])
    assert not service.calls


def test_the_same_account_and_region_is_swept_once_by_the_way_in_that_is_named_first() -> None:
    by_arn = TargetSettings(role_arn=ROLE, regions=("us-east-1", "us-east-2"))
    by_name = TargetSettings(role_name="Other", accounts=("222222222222",), regions=("us-east-2", "eu-west-1"))
    result = resolved(by_arn, by_name, by_name)
    assert [(target.region, target.access.role_arn) for target in result.targets] == [
        ("us-east-1", ROLE),
        ("us-east-2", ROLE),
        ("eu-west-1", "arn:aws:iam::222222222222:role/Other"),
    ]


def test_a_profile_that_is_not_there_is_told_and_keeps_no_other_back() -> None:
    service = MadeUpService(regions={"dev": "us-east-1"})
    result = resolved(TargetSettings(profile="missing"), TargetSettings(profile="dev"), service=service)
    assert result.targets == [Target("us-east-1", access=Access("dev"))]
    assert [(told.place, told.code) for told in result.failed] == [("profile missing", "ProfileNotFound")]


def test_a_thousand_targets_are_made_without_a_call() -> None:
    service = MadeUpService()
    accounts = tuple(f"{number:012}" for number in range(50))
    result = resolved(
        TargetSettings(role_name="S", accounts=accounts, regions=glue_regions("aws")[:20]), service=service
    )
    assert len(result.targets) == len(set(result.targets)) == 1000
    assert not service.calls


# -- organization units -----------------------------------------------------------------------------------------------


def units(*names: str, role_name: str = "S", profile: str | None = None) -> TargetSettings:
    return TargetSettings(
        profile=profile, role_name=role_name, organization_units=names, external_id="x-1", regions=("us-east-1",)
    )


def accounts_of(result: Resolved) -> list[str | None]:
    return [target.account_id for target in result.targets]


def test_a_unit_is_its_accounts_and_those_of_all_units_below_it_page_by_page() -> None:
    service = MadeUpService(
        accounts={"ou-top": active(1, 2, 3, 4, 5), "ou-a": active(6), "ou-deep": active(7)},
        units={"ou-top": ["ou-a", "ou-b", "ou-c"], "ou-b": ["ou-deep"]},
    )
    result = resolved(units("ou-top"), service=service)
    assert accounts_of(result) == [f"{number:012}" for number in range(1, 8)]
    assert not result.failed
    assert result.targets[0].access == Access(None, "arn:aws:iam::000000000001:role/S", "x-1")
    assert service.calls["accounts"] == 3 + 4  # three pages of the top, one of each unit below


def test_accounts_that_are_closed_are_left_out_and_told_and_no_failure() -> None:
    states = ("SUSPENDED", "CLOSED", "PENDING_ACTIVATION", "PENDING_CLOSURE", None, "ACTIVE")
    members = [Account(f"{number:012}", state) for number, state in enumerate(states)]
    result = resolved(units("ou-1"), service=MadeUpService(accounts={"ou-1": members}))
    assert accounts_of(result) == ["000000000003", "000000000004", "000000000005"]
    assert [(told.account_id, told.code, told.left_out) for told in result.failed] == [
        ("000000000000", "AccountSuspended", True),
        ("000000000001", "AccountClosed", True),
        ("000000000002", "AccountPendingActivation", True),
    ]


def test_units_that_overlap_give_each_account_once_and_are_listed_once() -> None:
    service = MadeUpService(
        accounts={"r-1": active(1), "ou-a": [*active(2), Account("000000000009", "CLOSED")]}, units={"r-1": ["ou-a"]}
    )
    result = resolved(units("r-1", "ou-a"), service=service)
    assert accounts_of(result) == ["000000000001", "000000000002"]
    assert len(result.failed) == 1
    assert service.calls["accounts"] == 2


def test_named_accounts_stand_beside_those_of_a_unit() -> None:
    entry = TargetSettings(
        role_name="S", accounts=("000000000002",), organization_units=("ou-1",), regions=("us-east-1",)
    )
    result = resolved(entry, service=MadeUpService(accounts={"ou-1": active(1, 2)}))
    assert accounts_of(result) == ["000000000002", "000000000001"]


def test_a_unit_that_cannot_be_listed_is_told_with_the_mend_and_its_neighbours_are_swept() -> None:
    denied = failure(ErrorKind.ACCESS, "AccessDeniedException")
    below = failure(ErrorKind.OTHER, "ParentNotFoundException")
    service = MadeUpService(
        accounts={"ou-1": active(1), "ou-2": active(2)},
        units={"ou-1": ["ou-2", "ou-3"]},
        failing={"ou-3": [denied], "below ou-2": [below]},
    )
    result = resolved(units("ou-1"), service=service)
    assert accounts_of(result) == ["000000000001", "000000000002"]
    told = {failed.place: failed for failed in result.failed}
    assert told["unit ou-2"].code == "ParentNotFoundException"
    assert "organizations:ListAccountsForParent, in the management account" in told["unit ou-3"].message
    assert not any(failed.left_out for failed in result.failed)


def test_every_unit_is_told_when_the_credentials_that_look_them_up_are_not_there() -> None:
    result = resolved(units("ou-1", "ou-2", profile="missing"))
    assert [(told.place, told.code) for told in result.failed] == [
        ("unit ou-1", "ProfileNotFound"),
        ("unit ou-2", "ProfileNotFound"),
    ]


@pytest.mark.usefixtures("no_pauses")
def test_throttles_and_lost_answers_are_tried_again_until_the_attempts_are_used_up() -> None:
    throttled = [failure(ErrorKind.THROTTLE, "TooManyRequestsException")] * 3
    lost = [failure(ErrorKind.TRANSIENT, "ServiceException")] * subject.LOOKUP_ATTEMPTS
    service = MadeUpService(
        accounts={"ou-1": active(1), "ou-2": active(2)}, failing={"ou-1": list(throttled), "ou-2": list(lost)}
    )
    result = resolved(units("ou-1", "ou-2"), service=service)
    assert accounts_of(result) == ["000000000001"]
    assert [(told.place, told.code) for told in result.failed] == [("unit ou-2", "ServiceException")]


def test_a_listing_that_goes_in_a_circle_ends_and_is_told() -> None:
    result = resolved(units("ou-1"), service=MadeUpService(accounts={"ou-1": active(1)}, repeats_tokens=True))
    assert [told.code for told in result.failed] == ["RepeatedToken"]


def test_units_are_looked_up_side_by_side_but_few_at_once() -> None:
    below = [f"ou-{number}" for number in range(50)]
    service = MadeUpService(accounts={unit: active(at) for at, unit in enumerate(below)}, units={"r-1": below})
    assert len(resolved(units("r-1"), service=service).targets) == 50
    assert 1 < service.most_at_once <= subject.LOOKUPS_AT_ONCE


def test_a_stop_ends_the_look_up() -> None:
    stop = Stop()
    stop.request(StopCause.INTERRUPTED)
    service = MadeUpService(accounts={"ou-1": active(1)})
    with pytest.raises(Stopped):
        resolved(units("ou-1"), service=service, stop=stop)
    assert not service.calls


OWN = "arn:aws:iam::111111111111:role/S"


def test_the_callers_own_account_is_entered_through_the_role_where_that_works() -> None:
    service = MadeUpService(accounts={"r-1": active(1, 111111111111)})
    result = resolved(units("r-1"), service=service)
    assert result.targets[1] == Target("us-east-1", "111111111111", Access(None, OWN, "x-1"))


def test_the_callers_own_account_is_entered_without_the_role_where_that_is_denied() -> None:
    service = MadeUpService(
        accounts={"r-1": active(1, 111111111111)},
        refused_roles={OWN: failure(ErrorKind.ACCESS, "AccessDenied", "AssumeRole")},
    )
    result = resolved(units("r-1"), service=service)
    assert result.targets == [
        Target("us-east-1", "000000000001", Access(None, "arn:aws:iam::000000000001:role/S", "x-1")),
        Target("us-east-1", "111111111111", Access()),
    ]
    assert service.calls["identify"] == 2  # who we are, and whether the role works: once, not for each account


def test_credentials_that_fail_are_no_reason_to_go_without_the_role() -> None:
    service = MadeUpService(
        accounts={"r-1": active(111111111111)},
        refused_roles={OWN: failure(ErrorKind.CREDENTIALS, "ExpiredToken", "AssumeRole")},
    )
    assert resolved(units("r-1"), service=service).targets[0].access.role_arn == OWN


def test_an_account_that_is_named_is_entered_through_the_role_alone() -> None:
    service = MadeUpService(refused_roles={OWN: failure(ErrorKind.ACCESS, "AccessDenied")})
    entry = TargetSettings(role_name="S", accounts=("111111111111",), regions=("us-east-1",))
    assert resolved(entry, service=service).targets[0].access.role_arn == OWN


def test_what_is_told_of_a_failed_target_can_be_kept_in_a_set() -> None:
    told = FailedTarget("unit ou-1", "AccessDenied", "no")
    assert {told, FailedTarget("unit ou-1", "AccessDenied", "no")} == {told}
