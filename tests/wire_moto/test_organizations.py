"""Units of an organization through the real client: nested, paged, with closed accounts, and where there is none."""

import asyncio
from typing import Any

import boto3
import pytest
from moto.core.authorization import enable_iam_authentication

from batch_cancel.core.task_run import Access, Target
from batch_cancel.engine.targets import Resolved, resolve
from batch_cancel.glue.aws import Aws
from batch_cancel.settings import TargetSettings

OWN = "123456789012"
"""moto's account for whoever has no other."""


class Organization:
    """An organization in moto, built as an administrator would."""

    def __init__(self, endpoint: str) -> None:
        self.client: Any = boto3.client("organizations", endpoint_url=endpoint)
        self.client.create_organization(FeatureSet="ALL")
        self.root: str = self.client.list_roots()["Roots"][0]["Id"]

    def unit(self, name: str, parent: str | None = None) -> str:
        made = self.client.create_organizational_unit(ParentId=parent or self.root, Name=name)
        return str(made["OrganizationalUnit"]["Id"])

    def account(self, unit: str | None = None) -> str:
        made = self.client.create_account(AccountName="member", Email="member@example.org")
        account_id = str(made["CreateAccountStatus"]["AccountId"])
        if unit:
            self.client.move_account(AccountId=account_id, SourceParentId=self.root, DestinationParentId=unit)
        return account_id


@pytest.fixture
def organization(endpoint: str) -> Organization:
    return Organization(endpoint)


def resolved(endpoint: str, *units: str) -> Resolved:
    entry = TargetSettings(
        role_name="Sweep", organization_units=units, external_id="sweep-7", regions=("us-east-1", "eu-west-1")
    )
    return asyncio.run(resolve((entry,), Aws("s-1", endpoint_url=endpoint)))


def accounts_of(result: Resolved) -> list[str | None]:
    return list(dict.fromkeys(target.account_id for target in result.targets))


def test_a_unit_is_its_accounts_and_those_of_the_units_below(endpoint: str, organization: Organization) -> None:
    top, other = organization.unit("top"), organization.unit("other")
    middle = organization.unit("middle", top)
    deep = organization.unit("deep", middle)
    members = [organization.account(unit) for unit in (top, middle, deep)]
    organization.account(other)
    result = resolved(endpoint, top)
    assert set(accounts_of(result)) == set(members)
    assert not result.failed
    access = Access(None, f"arn:aws:iam::{members[0]}:role/Sweep", "sweep-7")
    assert result.targets[:2] == [
        Target("us-east-1", members[0], access),
        Target("eu-west-1", members[0], access),
    ]


def test_every_page_of_accounts_and_of_units_is_read(endpoint: str, organization: Organization) -> None:
    top = organization.unit("top")
    members = {organization.account(top) for _ in range(23)}  # pages are of 20
    members |= {organization.account(organization.unit(f"unit-{number}", top)) for number in range(22)}
    assert set(accounts_of(resolved(endpoint, top))) == members


def test_the_root_is_the_whole_organization_and_the_management_account_is_in_it(
    endpoint: str, organization: Organization
) -> None:
    members = {organization.account(), organization.account(organization.unit("a"))}
    assert set(accounts_of(resolved(endpoint, organization.root))) == members | {OWN}


def test_a_closed_account_is_left_out_and_told(endpoint: str, organization: Organization) -> None:
    unit = organization.unit("a")
    open_account, closed = organization.account(unit), organization.account(unit)
    organization.client.close_account(AccountId=closed)
    result = resolved(endpoint, unit)
    assert accounts_of(result) == [open_account]
    (told,) = result.failed
    assert (told.account_id, told.left_out) == (closed, True)
    assert told.code.startswith("Account")


def test_a_unit_that_is_not_there_is_told_and_the_others_are_swept(endpoint: str, organization: Organization) -> None:
    unit = organization.unit("a")
    member = organization.account(unit)
    result = resolved(endpoint, "ou-none-12345678", unit)
    assert accounts_of(result) == [member]
    assert [(told.place, told.code) for told in result.failed] == [("unit ou-none-12345678", "ParentNotFoundException")]


def test_who_may_not_look_into_the_organization_is_told_what_is_missing(
    endpoint: str, organization: Organization, monkeypatch: pytest.MonkeyPatch
) -> None:
    iam: Any = boto3.client("iam", endpoint_url=endpoint)
    iam.create_user(UserName="sweeper")
    key = iam.create_access_key(UserName="sweeper")["AccessKey"]
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", key["AccessKeyId"])
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", key["SecretAccessKey"])
    with enable_iam_authentication():
        result = resolved(endpoint, organization.root)
    assert not result.targets
    (told,) = result.failed
    assert told.code == "403"  # moto refuses in XML, which the client of a JSON service cannot read any further
    assert "needs organizations:ListAccountsForParent, in the management account" in told.message
    assert not told.left_out


def test_nothing_is_asked_of_organizations_where_accounts_are_named() -> None:
    entry = TargetSettings(role_name="Sweep", accounts=("222222222222",), regions=("us-east-1",))
    unreachable = Aws("s-1", endpoint_url="http://127.0.0.1:9")
    assert len(asyncio.run(resolve((entry,), unreachable)).targets) == 1
