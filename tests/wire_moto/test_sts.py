"""Roles through the real client: assumed once, with external id and sweep id, denied, expired, and renewed in time."""

import asyncio
import json
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import boto3
import pytest
from moto.core.authorization import enable_iam_authentication
from moto.core.utils import utcnow
from moto.sts.models import AssumedRole, sts_backends

from batch_cancel.core.errors import CallFailed, ErrorKind
from batch_cancel.core.task_run import Access, Identity, Target
from batch_cancel.engine.targets import resolve
from batch_cancel.glue.aws import Aws
from batch_cancel.settings import TargetSettings

OWN, OTHER, THIRD = "123456789012", "222222222222", "333333333333"


def role_in(account_id: str, name: str = "Sweep") -> str:
    return f"arn:aws:iam::{account_id}:role/{name}"


def sessions(account_id: str, name: str = "Sweep") -> list[AssumedRole]:
    """The sessions that moto gave out for a role: what really happened there."""
    return [
        session
        for session in sts_backends[account_id]["aws"].assumed_roles
        if session.role_arn == role_in(account_id, name)
    ]


def identify(aws: Aws, *accesses: Access) -> list[Identity]:
    async def all_of_them() -> list[Identity]:
        return [await aws.identify(access, "us-east-1") for access in accesses]

    return asyncio.run(all_of_them())


def refusal(aws: Aws, access: Access) -> CallFailed:
    with pytest.raises(CallFailed) as caught:
        identify(aws, access)
    return caught.value


def user(endpoint: str, monkeypatch: pytest.MonkeyPatch, allowed: Sequence[str], denied: Sequence[str] = ()) -> None:
    """Become an IAM user who may assume some roles; from here on moto checks signatures and policies."""
    iam: Any = boto3.client("iam", endpoint_url=endpoint)
    iam.create_user(UserName="sweeper")
    statements = [{"Effect": "Allow", "Action": ["sts:AssumeRole"], "Resource": list(allowed)}]
    if denied:
        statements.append({"Effect": "Deny", "Action": ["sts:AssumeRole"], "Resource": list(denied)})
    document = json.dumps({"Version": "2012-10-17", "Statement": statements})
    iam.put_user_policy(UserName="sweeper", PolicyName="sweep", PolicyDocument=document)
    key = iam.create_access_key(UserName="sweeper")["AccessKey"]
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", key["AccessKeyId"])
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", key["SecretAccessKey"])


def test_the_callers_own_identity(endpoint: str) -> None:
    (identity,) = identify(Aws("s-1", endpoint_url=endpoint), Access())
    assert identity.account_id == OWN
    assert identity.arn.startswith("arn:aws:sts::")


def test_a_role_is_assumed_once_with_the_external_id_and_a_session_that_carries_the_sweep_id(endpoint: str) -> None:
    access = Access(role_arn=role_in(OTHER), external_id="sweep-7")
    identities = identify(Aws("20261124T101500Z-4f2a", endpoint_url=endpoint), access, access, access)
    assert {identity.account_id for identity in identities} == {OTHER}
    (session,) = sessions(OTHER)
    assert session.external_id == "sweep-7"
    assert session.session_name == "batch-cancel-20261124T101500Z-4f2a"
    assert identities[0].arn == f"arn:aws:sts::{OTHER}:assumed-role/Sweep/{session.session_name}"


def test_a_chain_of_roles_a_profiles_own_and_then_ours(
    endpoint: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("AWS_DEFAULT_REGION")
    (tmp_path / "config").write_text(
        "[profile base]\naws_access_key_id = AKIAIOSFODNN7EXAMPLE\naws_secret_access_key = made-up\n"
        f"[profile hub]\nregion = eu-west-1\nrole_arn = {role_in(OTHER, 'Hub')}\nsource_profile = base\n"
    )
    aws = Aws("s-1", endpoint_url=endpoint)
    entry = TargetSettings(profile="hub", role_name="Sweep", accounts=(THIRD,), external_id="x-1")
    (target,) = asyncio.run(resolve((entry,), aws)).targets
    assert target == Target("eu-west-1", THIRD, Access("hub", role_in(THIRD), "x-1"))
    (identity,) = identify(aws, target.access)
    assert identity.account_id == THIRD
    assert len(sessions(OTHER, "Hub")) == len(sessions(THIRD)) == 1


def test_a_denied_account_is_an_access_failure_that_names_the_call_and_keeps_no_other_back(
    endpoint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    user(endpoint, monkeypatch, allowed=["*"], denied=[role_in(THIRD)])
    aws = Aws("s-1", endpoint_url=endpoint)
    with enable_iam_authentication():
        denied = refusal(aws, Access(role_arn=role_in(THIRD)))
        (identity,) = identify(aws, Access(role_arn=role_in(OTHER)))
    assert (denied.kind, denied.code, denied.operation) == (ErrorKind.ACCESS, "AccessDenied", "AssumeRole")
    assert not denied.reached  # GetCallerIdentity itself never left
    assert identity.account_id == OTHER
    assert not sessions(THIRD)


def test_a_role_that_asks_for_an_external_id_lets_in_who_knows_it_alone(
    endpoint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    trust = {
        "Effect": "Allow",
        "Action": "sts:AssumeRole",
        "Principal": {"AWS": f"arn:aws:iam::{OWN}:user/sweeper"},
        "Condition": {"StringEquals": {"sts:ExternalId": "sweep-7"}},
    }
    iam: Any = boto3.client("iam", endpoint_url=endpoint)
    document = json.dumps({"Version": "2012-10-17", "Statement": [trust]})
    iam.create_role(RoleName="Sweep", AssumeRolePolicyDocument=document)
    user(endpoint, monkeypatch, allowed=["*"])
    aws = Aws("s-1", endpoint_url=endpoint)
    own = role_in(OWN)
    with enable_iam_authentication():
        assert refusal(aws, Access(role_arn=own, external_id="wrong")).kind is ErrorKind.ACCESS
        assert not sessions(OWN)
        identify(aws, Access(role_arn=own, external_id="sweep-7"))
    assert len(sessions(OWN)) == 1


def test_wrong_keys_are_a_credentials_failure(endpoint: str) -> None:
    aws = Aws("s-1", endpoint_url=endpoint)
    with enable_iam_authentication():
        failure = refusal(aws, Access())
    assert (failure.kind, failure.code) == (ErrorKind.CREDENTIALS, "InvalidClientTokenId")


def test_a_session_that_the_service_no_longer_takes_is_replaced_once_it_is_forgotten(
    endpoint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    user(endpoint, monkeypatch, allowed=["*"])
    aws, access = Aws("s-1", endpoint_url=endpoint), Access(role_arn=role_in(OTHER))
    with enable_iam_authentication():
        identify(aws, access)
        sts_backends[OTHER]["aws"].assumed_roles.clear()  # revoked, or expired by the service's own clock
        failure = refusal(aws, access)
        assert (failure.kind, failure.operation) == (ErrorKind.CREDENTIALS, "GetCallerIdentity")
        aws.forget(access)
        (identity,) = identify(aws, access)
    assert identity.account_id == OTHER
    assert len(sessions(OTHER)) == 1


def test_a_session_that_is_about_to_expire_is_renewed_before_the_next_call(
    endpoint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    give_out = AssumedRole.__init__

    def for_five_minutes(self: AssumedRole, *arguments: Any, **named: Any) -> None:  # noqa: ANN401  # moto's own
        give_out(self, *arguments, **named)
        self.expiration = utcnow() + timedelta(minutes=5)

    aws, access = Aws("s-1", endpoint_url=endpoint), Access(role_arn=role_in(OTHER))
    with monkeypatch.context() as patched:
        patched.setattr(AssumedRole, "__init__", for_five_minutes)
        identify(aws, access)
    assert len(sessions(OTHER)) == 1
    identify(aws, access)
    assert len(sessions(OTHER)) == 2
    identify(aws, access)  # this one lasts an hour
    assert len(sessions(OTHER)) == 2


@pytest.mark.parametrize(("region", "partition"), [("cn-north-1", "aws-cn"), ("us-gov-west-1", "aws-us-gov")])
def test_roles_of_other_partitions_are_assumed_there(endpoint: str, region: str, partition: str) -> None:
    entry = TargetSettings(role_name="Sweep", accounts=(OTHER,), regions=(region,))
    aws = Aws("s-1", endpoint_url=endpoint)

    async def swept() -> Identity:
        (target,) = (await resolve((entry,), aws)).targets
        return await aws.identify(target.access, target.region)

    assert asyncio.run(swept()).arn.split(":")[:5] == ["arn", partition, "sts", "", OTHER]
