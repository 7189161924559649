"""Everything in configs/deploy: read by the linters that know it, and by the program whose commands it names."""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click
import pytest
import yaml

from batch_cancel.cli import COMMANDS, batch_cancel
from batch_cancel.cli.iam_policy import policy
from batch_cancel.core.errors import AccessStopped, GuardrailRefused, UsageError
from batch_cancel.delivery.metrics import failure_line
from tests.deploy.templates import DEPLOY, state_machine, template

TEMPLATES = ("organization.yaml", "member-role.yaml", "ecs.yaml")
OPERATORS = re.compile(r"[|&;<>()]+")


def commands(text: str) -> Iterator[list[str]]:
    """Every call of batch-cancel in a shell text, as its arguments."""
    for line in text.replace("\\\n", " ").splitlines():
        for part in _parts(line):
            if part and part[0].rpartition("/")[2] == "batch-cancel":
                yield part[1:]


def _parts(line: str) -> Iterator[list[str]]:
    lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
    lexer.whitespace_split = True
    lexer.commenters = ""
    try:
        words = list(lexer)
    except ValueError:  # prose with an apostrophe
        return
    part: list[str] = []
    for word in words:
        if OPERATORS.fullmatch(word):
            yield _from_program(part)
            part = []
        else:
            part.append(word)
    yield _from_program(part)


def _from_program(words: list[str]) -> list[str]:
    """The words from ``batch-cancel COMMAND`` on: before it may stand flock, a user's name, a comment sign."""
    for place, word in enumerate(words[:-1]):
        if word.rpartition("/")[2] == "batch-cancel" and words[place + 1] in COMMANDS:
            return words[place:]
    return []


def of_ecs() -> Iterator[list[str]]:
    [container] = template("ecs.yaml")["Resources"]["Task"]["Properties"]["ContainerDefinitions"]
    for mode in (1, 2):
        yield [_word(word, mode) for word in container["Command"]]


def _word(word: Any, mode: int) -> str:  # noqa: ANN401  # text, or an intrinsic
    match word:
        case {"If": choices}:
            return str(choices[mode])
        case {"Sub": text}:
            return str(text)
        case _:
            return str(word)


def recipes() -> Iterator[tuple[str, list[str]]]:
    for name in ("Dockerfile", "crontab", "README.md", "batch-cancel.service"):
        text = (DEPLOY / name).read_text().replace("\\%", "%")
        for arguments in commands(re.sub(r"(?m)^Exec\w+=|^# *|^\$ ", "", text)):
            yield name, arguments
    workflow = yaml.safe_load((DEPLOY / "github-actions.yaml").read_text())
    for step in workflow["jobs"]["sweep"]["steps"]:
        for mode in workflow[True]["workflow_dispatch"]["inputs"]["mode"]["options"]:  # YAML reads "on" as true
            for arguments in commands(step.get("run", "")):
                yield "github-actions.yaml", [mode if word == "$MODE" else word for word in arguments]
    for arguments in of_ecs():
        yield "ecs.yaml", arguments


@pytest.mark.parametrize(
    ("name", "arguments"), list(recipes()), ids=lambda value: value if isinstance(value, str) else ""
)
def test_every_command_is_one_that_the_program_takes(name: str, arguments: list[str]) -> None:
    command = batch_cancel.get_command(click.Context(batch_cancel), arguments[0])
    assert command is not None, name
    command.make_context(arguments[0], arguments[1:])


def test_commands_are_found_in_each_recipe() -> None:
    found = [name for name, _ in recipes()]
    for name, least in {
        "Dockerfile": 1,
        "crontab": 2,
        "batch-cancel.service": 1,
        "github-actions.yaml": 8,
        "ecs.yaml": 2,
    }.items():
        assert found.count(name) >= least, name


def _cron_line(at: int) -> str:
    """A job's shell command as cron hands it to the shell."""
    jobs = [line for line in (DEPLOY / "crontab").read_text().splitlines() if re.match(r"\d", line)]
    return jobs[at].split(None, 6)[6].replace("\\%", "%")


@pytest.mark.parametrize(("code", "mail"), [(0, False), (5, False), (1, True), (2, True), (3, True), (4, True)])
def test_cron_mails_what_somebody_has_to_look_at(tmp_path: Path, code: int, mail: bool) -> None:
    tool = tmp_path / "batch-cancel"
    said = "warning: stopping (deadline): nothing more is sent"  # --quiet leaves that, too
    tool.write_text(f"#!/bin/sh\necho '{said}' >&2\nexit {code}\n")
    tool.chmod(0o755)
    line = _cron_line(0).replace("/var/lib/batch-cancel &&", f"{tmp_path} &&")
    done = subprocess.run(
        ["/bin/sh", "-c", line],
        env={"PATH": f"{tmp_path}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (f"ended with {code}" in done.stderr and said in done.stderr) is mail
    assert (done.stderr == "") is not mail


def test_an_audit_may_run_twice_a_day() -> None:
    assert "$(date +%FT%H%M%S)" in _cron_line(1)


def test_a_sweep_file_that_is_wrong_is_not_tried_again() -> None:
    """RestartPreventExitStatus= does not hold for ExecStartPre= (systemd.service(5))."""
    text = (DEPLOY / "batch-cancel.service").read_text()
    assert not re.search("(?m)^ExecStartPre=", text)
    prevented = re.findall("(?m)^RestartPreventExitStatus=(.*)", text)[0].split()
    assert set(prevented) == {"1", "2", "3", "4", "130", "143"}


def test_a_summary_without_a_ledger_is_no_second_failure(tmp_path: Path) -> None:
    workflow = yaml.safe_load((DEPLOY / "github-actions.yaml").read_text())
    [script] = [step["run"] for step in workflow["jobs"]["sweep"]["steps"] if step.get("name") == "Summary"]
    environment = {"RUN": str(tmp_path), "GITHUB_STEP_SUMMARY": str(tmp_path / "summary"), "PATH": os.environ["PATH"]}
    assert subprocess.run(["/bin/bash", "-e", "-c", script], env=environment, check=False).returncode == 0


def test_a_flag_that_is_gone_would_be_noticed() -> None:
    [arguments] = commands("flock .lock batch-cancel run sweep.yaml --yes --fast >> log || true")
    command = batch_cancel.get_command(click.Context(batch_cancel), "run")
    assert command is not None
    with pytest.raises(click.NoSuchOption):
        command.make_context("run", arguments[1:])


def test_cfn_lint_finds_nothing() -> None:
    paths = [str(DEPLOY / name) for name in TEMPLATES]
    cfn_lint = Path(sys.executable).with_name("cfn-lint")
    done = subprocess.run([cfn_lint, *paths], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "")


def test_hadolint_finds_nothing() -> None:
    hadolint = Path(sys.executable).with_name("hadolint")
    done = subprocess.run([hadolint, DEPLOY / "Dockerfile"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "")


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="there is no systemd here")
def test_systemd_finds_nothing(tmp_path: Path) -> None:
    text = (DEPLOY / "batch-cancel.service").read_text()
    (tmp_path / "batch-cancel.service").write_text(text.replace("/usr/local/bin/batch-cancel", "/bin/true"))
    shutil.copy(DEPLOY / "batch-cancel.timer", tmp_path)
    done = subprocess.run(
        [
            "systemd-analyze",
            "verify",
            "--man=no",
            str(tmp_path / "batch-cancel.timer"),
            tmp_path / "batch-cancel.service",
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    ours = [line for line in done.stderr.splitlines() if "batch-cancel" in line]
    assert ours == []


def test_the_container_is_not_root_and_its_base_is_pinned() -> None:
    lines = (DEPLOY / "Dockerfile").read_text().splitlines()
    bases = {line.split()[1] for line in lines if line.startswith("FROM")}
    assert len(bases) == 1
    assert re.fullmatch(r"python:3\.\d+\.\d+-slim-\w+", bases.pop())
    assert "USER 10001" in lines
    [container] = template("ecs.yaml")["Resources"]["Task"]["Properties"]["ContainerDefinitions"]
    assert container["ReadonlyRootFilesystem"]
    assert container["User"] == "10001"


def statements(resources: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for name, resource in resources.items():
        properties = resource["Properties"]
        documents = [entry["PolicyDocument"] for entry in properties.get("Policies", [])]
        if resource["Type"] == "AWS::IAM::Policy":
            documents.append(properties["PolicyDocument"])
        for document in documents:
            for statement in document["Statement"]:
                yield from ((name, choice) for choice in _choices(statement))


def _choices(statement: dict[str, Any]) -> Iterator[dict[str, Any]]:
    if "If" not in statement:
        yield statement
        return
    yield from (choice for choice in statement["If"][1:] if "Effect" in choice)


@pytest.mark.parametrize("name", TEMPLATES)
def test_roles_may_do_what_they_need_and_no_more(name: str) -> None:
    for role, statement in statements(template(name)["Resources"]):
        actions = statement["Action"] if isinstance(statement["Action"], list) else [statement["Action"]]
        assert not [action for action in actions if "*" in action], (role, actions)
        if statement["Resource"] == "*":  # services that know no resources for these actions
            assert all(action.startswith("logs:") for action in actions), (role, actions)


def test_the_member_role_is_the_policy_that_the_program_prints() -> None:
    actions: set[str] = set()
    for _, statement in statements(template("member-role.yaml")["Resources"]):
        actions |= set(statement["Action"]) if isinstance(statement["Action"], list) else {statement["Action"]}
    printed = {action for statement in policy()["Statement"] for action in statement["Action"]}
    assert actions == printed


@pytest.mark.parametrize("name", ["organization.yaml", "ecs.yaml"])
def test_logs_end_queues_encrypt_and_alarms_ring(name: str) -> None:
    resources = template(name)["Resources"]
    kinds: dict[str, list[dict[str, Any]]] = {}
    for resource in resources.values():
        kinds.setdefault(resource["Type"], []).append(resource["Properties"])
    assert all(log["RetentionInDays"] for log in kinds["AWS::Logs::LogGroup"])
    assert all(queue.get("KmsMasterKeyId") or queue["SqsManagedSseEnabled"] for queue in kinds["AWS::SQS::Queue"])
    assert all(schedule["Target"]["DeadLetterConfig"] for schedule in kinds["AWS::Scheduler::Schedule"])
    assert all(alarm["AlarmActions"] for alarm in kinds["AWS::CloudWatch::Alarm"])
    assert {"FailedAlarm", "DidNotRunAlarm", "DeadLetterAlarm"} <= set(resources)
    for bucket in kinds.get("AWS::S3::Bucket", []):
        assert bucket["BucketEncryption"]
        assert all(bucket["PublicAccessBlockConfiguration"].values())


def test_the_state_machine_names_states_that_are_there_and_reaches_them_all() -> None:
    """What asl-validator (npm) checks besides the schema, which cfn-lint has."""

    def walk(machine: dict[str, Any]) -> None:
        states, reached = machine["States"], {machine["StartAt"]}
        for state in states.values():
            targets = [state.get("Next"), state.get("Default")]
            targets += [choice["Next"] for choice in state.get("Choices", []) + state.get("Catch", [])]
            reached |= {target for target in targets if target}
            assert state.get("End") or any(targets) or state["Type"] in ("Succeed", "Fail")
            if state["Type"] == "Map":
                walk(state["ItemProcessor"])
            if state["Type"] == "Task":
                assert all(retry["JitterStrategy"] == "FULL" for retry in state["Retry"] if retry["MaxAttempts"])
        assert reached == set(states)

    walk(state_machine(FunctionArn="arn:aws:lambda:us-east-1:1:function:f", MaxConcurrency="4", ReportBucket="b"))


@pytest.mark.parametrize("alarm", ["FailedAlarm", "NoReportAlarm"])
def test_a_task_that_could_not_begin_rings(alarm: str) -> None:
    """With the sweep's name known or not, each alarm is on what the failure's one line makes."""
    told = template("ecs.yaml")["Resources"][alarm]["Properties"]
    dimensions = [dimension["Name"] for dimension in told.get("Dimensions", [])]
    line = json.loads(failure_line("nightly" if dimensions else None, 2, datetime.now(UTC)))
    made = [
        metric["Name"]
        for directive in line["_aws"]["CloudWatchMetrics"]
        if directive["Namespace"] == told["Namespace"] and dimensions in directive["Dimensions"]
        for metric in directive["Metrics"]
    ]
    assert told["MetricName"] in made
    assert line[told["MetricName"]] > told["Threshold"]
    assert told["TreatMissingData"] == "notBreaching"


def test_what_would_be_said_again_is_not_tried_again() -> None:
    """Every error of the function's that no retry mends, by the name that Step Functions sees."""

    def names(error: type[Exception]) -> set[str]:
        return {error.__name__}.union(*(names(kind) for kind in error.__subclasses__()))

    lasting = names(UsageError) | names(GuardrailRefused) | names(AccessStopped)
    retries = list(_retries(state_machine(FunctionArn="f", MaxConcurrency="1", ReportBucket="b")))
    assert len(retries) == 3
    for retry in retries:
        assert {name for rule in retry if rule["MaxAttempts"] == 0 for name in rule["ErrorEquals"]} == lasting


def _retries(state: Any) -> Iterator[list[dict[str, Any]]]:  # noqa: ANN401  # JSON
    if isinstance(state, dict):
        if "Retry" in state:
            yield state["Retry"]
        for item in state.values():
            yield from _retries(item)
