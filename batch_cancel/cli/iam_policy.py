"""``iam-policy``: the least that a sweep, or an audit alone, has to be allowed. Calls nothing."""

import itertools
import json
import re
from collections.abc import Sequence
from typing import Any

import click

from batch_cancel.cli.options import Value, offer_regions
from batch_cancel.core.errors import UsageError
from batch_cancel.glue.regions import DEFAULT_PARTITION, check_region, partition_of, partitions
from batch_cancel.values import check_account, check_role_name, parse_tag

LONGEST_POLICY = 6144
"""Characters of a managed policy, white space not counted (IAM quotas)."""

LIST_ACTIONS = ("glue:ListMLTransforms", "glue:GetMLTransforms")
READ_ACTIONS = ("glue:GetMLTaskRun", "glue:GetMLTaskRuns")
CANCEL_ACTION = "glue:CancelMLTaskRun"

_EXAMPLES = """\b
Examples:
  batch-cancel iam-policy > policy.json
  batch-cancel iam-policy --audit --region eu-west-1 --account-id 222222222222
  batch-cancel iam-policy --tag env=dev
  batch-cancel iam-policy --no-glue --assume-role BatchCancel --organization
"""

Statement = dict[str, Any]


def _region(text: str) -> str:
    return "*" if text == "all" else check_region(text)


@click.command("iam-policy", epilog=_EXAMPLES)
@click.option("--audit", is_flag=True, help="For dry runs alone: what reads, and nothing that cancels.")
@click.option(
    "--tag",
    "tags",
    type=Value("KEY=VALUE", parse_tag),
    multiple=True,
    help="Only transforms that carry it; repeatable, and read as the selection reads it. Sweep with the same --tag.",
)
@click.option(
    "--region",
    "regions",
    type=Value("REGION", _region, offer_regions),
    multiple=True,
    help="Repeatable (default: all).",
)
@click.option(
    "--account-id",
    "accounts",
    type=Value("ACCOUNT", check_account),
    multiple=True,
    help="Repeatable (default: any).",
)
@click.option(
    "--partition",
    type=click.Choice(sorted(partitions())),
    help=f"Default: that of the regions, else {DEFAULT_PARTITION}.",
)
@click.option(
    "--assume-role",
    type=Value("NAME", check_role_name),
    metavar="NAME",
    help="Also assume this role in the accounts (run --role-name).",
)
@click.option("--organization", is_flag=True, help="Also look up organization units (run --organization-unit).")
@click.option(
    "--no-glue", is_flag=True, help="Leave out Glue itself: for a caller whose roles in the accounts have that."
)
def iam_policy(
    *,
    audit: bool,
    tags: tuple[tuple[str, str], ...],
    regions: tuple[str, ...],
    accounts: tuple[str, ...],
    partition: str | None,
    assume_role: str | None,
    organization: bool,
    no_glue: bool,
) -> None:
    """Print the least-privilege IAM policy, as JSON."""
    if no_glue and not (assume_role or organization):
        raise UsageError("--no-glue leaves nothing to allow: add --assume-role or --organization")
    if no_glue and (audit or tags or regions):
        raise UsageError("--no-glue leaves out what --audit, --tag and --region are about: drop it, or drop them")
    document = policy(
        partition=_partition(partition, regions),
        regions=regions,
        accounts=accounts,
        tags=tags,
        glue=not no_glue,
        cancel=not audit,
        assume_role=assume_role,
        organization=organization,
    )
    text = json.dumps(document, indent=2)
    click.echo(text)
    size = len(re.sub(r"\s", "", text))
    if size > LONGEST_POLICY:
        click.echo(
            f"batch-cancel: warning: the policy has {size:,} characters and a managed policy holds {LONGEST_POLICY:,}:"
            " name fewer regions or accounts",
            err=True,
        )


def policy(
    *,
    partition: str = DEFAULT_PARTITION,
    regions: Sequence[str] = (),
    accounts: Sequence[str] = (),
    tags: Sequence[tuple[str, str]] = (),
    glue: bool = True,
    cancel: bool = True,
    assume_role: str | None = None,
    organization: bool = False,
) -> dict[str, Any]:
    """An IAM policy document.

    Args:
        regions, accounts: none of them means any.
        tags: keys with their values; values of one key are ORed, keys are ANDed.
        glue: allow the calls to Glue at all.
        cancel: allow CancelMLTaskRun.
        assume_role: a role's name, assumed in the accounts.
        organization: look up the accounts of organization units.
    """
    statements: list[Statement] = []
    if glue:
        statements += _glue_statements(partition, regions, accounts, tags, cancel=cancel)
    if assume_role:
        roles = [f"arn:{partition}:iam::{account}:role/{assume_role}" for account in _distinct(accounts)]
        statements.append(_allow("AssumeRole", ["sts:AssumeRole"], roles))
    if organization:
        # The service authorization reference has both actions take a unit or a root.
        parents = [f"arn:{partition}:organizations::*:{kind}" for kind in ("root/o-*/r-*", "ou/o-*/ou-*")]
        actions = ["organizations:ListAccountsForParent", "organizations:ListOrganizationalUnitsForParent"]
        statements.append(_allow("LookUpUnits", actions, parents))
    return {"Version": "2012-10-17", "Statement": statements}


def _glue_statements(
    partition: str, regions: Sequence[str], accounts: Sequence[str], tags: Sequence[tuple[str, str]], *, cancel: bool
) -> list[Statement]:
    transforms = [
        f"arn:{partition}:glue:{region}:{account}:mlTransform/*"
        for region, account in itertools.product(_distinct(regions), _distinct(accounts))
    ]
    by_tag = _tag_condition(tags)
    # A listing is of no one transform, so it has no tags that a condition could compare: with one it would be denied.
    statements = [
        _allow("ListTransforms", LIST_ACTIONS, transforms),
        _allow("ReadTaskRuns", READ_ACTIONS, transforms, by_tag),
    ]
    if cancel:
        statements.append(_allow("CancelTaskRuns", [CANCEL_ACTION], transforms, by_tag))
    return statements


def _allow(
    sid: str, actions: Sequence[str], resources: Sequence[str], condition: dict[str, list[str]] | None = None
) -> Statement:
    statement: Statement = {"Sid": sid, "Effect": "Allow", "Action": list(actions), "Resource": list(resources)}
    if condition:
        statement["Condition"] = {"StringEquals": condition}
    return statement


def _tag_condition(tags: Sequence[tuple[str, str]]) -> dict[str, list[str]]:
    condition: dict[str, list[str]] = {}
    for key, value in tags:
        # "${" would begin a policy variable (IAM guide, policy variables).
        condition.setdefault(f"aws:ResourceTag/{key}", []).append(value.replace("${", "${$}{"))
    return condition


def _distinct(names: Sequence[str]) -> list[str]:
    return ["*"] if not names or "*" in names else list(dict.fromkeys(names))


def _partition(named: str | None, regions: Sequence[str]) -> str:
    """The one partition that a policy is for.

    Raises:
        UsageError: the regions are of several, or of another than the one that is named.
    """
    of_regions = {region: partition_of(region) for region in regions if region != "*"}
    wanted = named or next(iter(of_regions.values()), DEFAULT_PARTITION)
    for region, partition in of_regions.items():
        if partition != wanted:
            raise UsageError(f"region {region} is in {partition}, not in {wanted}: a policy is for one partition")
    return wanted
