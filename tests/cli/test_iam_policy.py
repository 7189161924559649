"""``iam-policy``: valid by a policy linter, no more than the client calls, tags as conditions only where they work."""

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from batch_cancel.cli.iam_policy import LONGEST_POLICY, iam_policy, policy
from batch_cancel.core.errors import UsageError
from batch_cancel.glue import aws_api
from batch_cancel.glue.regions import glue_regions

EVERY_FLAG = {
    "alone": "",
    "audit": "--audit",
    "tags": "--tag env=dev --tag env=test --tag team=ml",
    "places": "--region eu-west-1 --region us-east-1 --account-id 222222222222 --account-id 333333333333",
    "china": "--region cn-north-1 --organization",
    "government": "--partition aws-us-gov --assume-role ops/BatchCancel",
    "all": "--region all --audit --tag env=dev --assume-role BatchCancel --organization",
    "caller": "--no-glue --assume-role BatchCancel --account-id 222222222222 --organization",
}

# In a process of its own: parliament leaves files open, which would be a warning and so an error here.
LINT = """
import json, sys
from parliament import analyze_policy_string
found = {}
for name, text in json.load(sys.stdin).items():
    found[name] = [repr(finding) for finding in analyze_policy_string(text).findings]
print(json.dumps(found))
"""


def invoke(arguments: str) -> Result:
    return CliRunner().invoke(iam_policy, arguments.split(), catch_exceptions=False)


def printed(arguments: str = "") -> dict[str, Any]:
    result = invoke(arguments)
    assert result.exit_code == 0, result.output
    assert not result.stderr
    document: dict[str, Any] = json.loads(result.stdout)
    return document


def statements(arguments: str = "") -> dict[str, Any]:
    return {statement["Sid"]: statement for statement in printed(arguments)["Statement"]}


def actions(arguments: str = "") -> set[str]:
    return {action for statement in statements(arguments).values() for action in statement["Action"]}


def findings(documents: dict[str, Any]) -> dict[str, list[str]]:
    texts = {name: json.dumps(document) for name, document in documents.items()}
    lint = subprocess.run(
        [sys.executable, "-c", LINT], input=json.dumps(texts), capture_output=True, text=True, check=True
    )
    found: dict[str, list[str]] = json.loads(lint.stdout)
    return found


def test_a_policy_linter_finds_nothing_in_any_of_them_and_something_where_there_is_something() -> None:
    documents = {name: printed(arguments) for name, arguments in EVERY_FLAG.items()}
    misspelt, misplaced = policy(), policy(tags=[("env", "dev")])
    misspelt["Statement"][0]["Action"].append("glue:CancelMLTaskRuns")
    misplaced["Statement"][1]["Resource"] = ["arn:aws:glue:*:*:job/*"]
    found = findings({**documents, "misspelt": misspelt, "misplaced": misplaced})
    assert "UNKNOWN_ACTION" in str(found.pop("misspelt"))
    assert "RESOURCE_MISMATCH" in str(found.pop("misplaced"))
    assert found == {name: [] for name in EVERY_FLAG}


def test_the_actions_are_the_operations_that_the_client_calls_and_no_others() -> None:
    # sts:GetCallerIdentity needs no permission, and AssumeRole is called inside the AWS library.
    called = set(
        re.findall(r'"((?:Get|List|Cancel)(?:ML|Account|Organ)[A-Za-z]*)"', Path(aws_api.__file__).read_text())
    )
    assert {action.split(":")[1] for action in actions("--organization")} == called


def test_cancelling_adds_one_action_to_an_audit() -> None:
    assert actions() - actions("--audit") == {"glue:CancelMLTaskRun"}
    assert not actions("--audit") - actions()


def test_a_tag_is_a_condition_of_what_names_one_transform_and_of_nothing_else() -> None:
    by_sid = statements("--tag env=dev --tag env=test --tag team=ml")
    expected = {"StringEquals": {"aws:ResourceTag/env": ["dev", "test"], "aws:ResourceTag/team": ["ml"]}}
    assert by_sid["CancelTaskRuns"]["Condition"] == by_sid["ReadTaskRuns"]["Condition"] == expected
    assert "Condition" not in by_sid["ListTransforms"]


def test_a_tags_value_is_no_policy_variable() -> None:
    condition = policy(tags=[("owner", "${aws:username}")])["Statement"][1]["Condition"]
    assert condition == {"StringEquals": {"aws:ResourceTag/owner": ["${$}{aws:username}"]}}


def test_regions_and_accounts_stand_in_the_resources() -> None:
    by_sid = statements(EVERY_FLAG["places"])
    assert by_sid["CancelTaskRuns"]["Resource"] == [
        f"arn:aws:glue:{region}:{account}:mlTransform/*"
        for region in ("eu-west-1", "us-east-1")
        for account in ("222222222222", "333333333333")
    ]


def test_without_places_it_is_for_any() -> None:
    assert statements("--region all")["CancelTaskRuns"]["Resource"] == ["arn:aws:glue:*:*:mlTransform/*"]
    assert printed("--region all") == printed()


def test_the_partition_is_that_of_the_regions() -> None:
    resources = [
        resource for statement in printed(EVERY_FLAG["china"])["Statement"] for resource in statement["Resource"]
    ]
    assert {resource.split(":")[1] for resource in resources} == {"aws-cn"}


def test_other_services_are_allowed_only_where_they_are_asked_for() -> None:
    assert {action.split(":")[0] for action in actions()} == {"glue"}
    by_sid = statements(EVERY_FLAG["caller"])
    assert set(by_sid) == {"AssumeRole", "LookUpUnits"}
    assert by_sid["AssumeRole"]["Resource"] == ["arn:aws:iam::222222222222:role/BatchCancel"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ("--no-glue", "--no-glue leaves nothing to allow: add --assume-role or --organization"),
        ("--no-glue --organization --tag a=b", "drop it, or drop them"),
        ("--region us-east-1 --region cn-north-1", "region cn-north-1 is in aws-cn, not in aws"),
        ("--region us-east-1 --partition aws-us-gov", "region us-east-1 is in aws, not in aws-us-gov"),
    ],
)
def test_what_does_not_fit_together_is_refused_with_the_mend(arguments: str, words: str) -> None:
    with pytest.raises(UsageError, match=re.escape(words)):
        invoke(arguments)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ("--tag env", "'env' is not KEY=VALUE"),
        ("--region us-esat-1", "did you mean 'us-east-1'?"),
        ("--account-id 123", "--account-id"),
        ("--partition aws-mars", "--partition"),
    ],
)
def test_a_word_that_is_off_is_named(arguments: str, words: str) -> None:
    result = invoke(arguments)
    assert result.exit_code == 2
    assert words in result.stderr
    assert not result.stdout


def test_a_policy_that_is_too_long_for_iam_is_printed_with_a_warning() -> None:
    places = " ".join(f"--region {region}" for region in glue_regions("aws"))
    result = invoke(f"{places} --account-id 222222222222 --account-id 333333333333")
    assert len(re.sub(r"\s", "", result.stdout)) > LONGEST_POLICY
    assert "name fewer regions or accounts" in result.stderr
