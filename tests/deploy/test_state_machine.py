"""The template's state machine in moto's interpreter, over forty parts with faults, against the simulator.

moto ignores ToleratedFailurePercentage, so what is asserted is what arrived: the simulator's truth and the merged
report, besides the execution's own end.
"""

import json
import os
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NoReturn

import pytest
import requests
from moto.stepfunctions.parser.asl.component.state.exec.state_task import lambda_eval_utils

from batch_cancel import lambda_handler
from batch_cancel.core.errors import BatchCancelError
from batch_cancel.lambda_handler import invocation
from batch_cancel.simulator.settings import Behaviour, Fault, FaultKind, FleetSettings, Limit, WorldSettings
from batch_cancel.simulator.world import World
from tests.delivery.conftest import (
    BUCKET,
    PREFIX,
    Cloud,
    _models_are_read_once,
    cloud,
    endpoint,
    server,
)
from tests.deploy.templates import state_machine
from tests.lambdas import Context, around
from tests.served import active

__all__ = ["_models_are_read_once", "cloud", "endpoint", "server"]  # fixtures

ACCOUNTS = tuple(f"{number:012}" for number in range(111111111111, 111111111131))
REGIONS = ("us-east-1", "eu-west-1")
FUNCTION = "arn:aws:lambda:us-east-1:123456789012:function:sweep"
OPERATIONS = ("CancelMLTaskRun", "GetMLTaskRuns", "GetMLTaskRun", "GetMLTransforms")
FAULTS = (
    Fault(FaultKind.THROTTLE, probability=0.05, operations=OPERATIONS),
    Fault(FaultKind.INTERNAL, probability=0.03, operations=OPERATIONS),
    Fault(FaultKind.APPLIED_500, probability=0.03, operations=OPERATIONS),
    Fault(FaultKind.DROP, probability=0.02, operations=OPERATIONS),
)
WORLD = WorldSettings(
    fleet=FleetSettings(accounts=ACCOUNTS, regions=REGIONS, transforms=1, runs=80),
    behaviour=Behaviour(stopping_seconds=(0.05, 0.2)),
    limits=(Limit(rps=200.0, burst=50.0),),
    faults=FAULTS,
)


class Functions:
    """Lambda, as far as the interpreter sees it: our handler, with crashes and time-outs now and then."""

    def __init__(self, *, crash: Sequence[int] = (), cut: Sequence[int] = (), lost: Sequence[int] = ()) -> None:
        self.invoked: Counter[str] = Counter()
        self._crash = crash
        self._cut = cut
        self._lost = lost
        self._lock = threading.Lock()

    def invoke(self, parameters: dict[str, Any], **_: object) -> dict[str, Any]:
        assert parameters["FunctionName"] == FUNCTION
        payload = parameters["Payload"]
        event = json.loads(payload) if isinstance(payload, str | bytes) else payload
        number = (event.get("shard") or {}).get("number", 0)
        with self._lock:
            self.invoked[event["sweep_id"]] += 1
            first = self.invoked[event["sweep_id"]] == 1
        if number in self._lost:
            _fail("UsageError", "a fault that no retry mends")
        if number in self._crash and first:
            _fail("Runtime.ExitError", "the process was killed")
        # Cut off before anything could be called: the part goes on at its next event.
        context = Context(30.05 if number in self._cut and first else 60.0)
        if number in self._cut:
            event = {**event, "reserve_seconds": 30.0}
        try:
            answer = lambda_handler.handler(event, context)
        except BatchCancelError as error:
            _fail(type(error).__name__, str(error))
        return {"StatusCode": 200, "ExecutedVersion": "$LATEST", "Payload": answer}


def _fail(kind: str, message: str) -> NoReturn:
    payload = json.dumps({"errorType": kind, "errorMessage": message})
    raise lambda_eval_utils.LambdaFunctionErrorException("Unhandled", payload)


@pytest.fixture
def world() -> World:
    return World(WORLD, now=time.time)


@pytest.fixture
def machine(cloud: Cloud, world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The state machine in moto, with pauses of a second instead of two and more; its ARN."""
    Path(os.environ["AWS_CONFIG_FILE"]).write_text("[default]\ns3 =\n  addressing_style = path\n")
    monkeypatch.setenv("MOTO_PORT", cloud.url.rpartition(":")[2])  # where the interpreter looks for S3
    monkeypatch.setattr(invocation, "LEAST_SECONDS", 0.0)
    config = requests.get(f"{cloud.url}/moto-api/config", timeout=10).json()
    config["stepfunctions"] = {"execute_state_machine": True}
    requests.post(f"{cloud.url}/moto-api/config", json=config, timeout=10).raise_for_status()
    text = json.dumps(state_machine(FunctionArn=FUNCTION, MaxConcurrency="10", ReportBucket=BUCKET))
    definition = text.replace('"IntervalSeconds": 2', '"IntervalSeconds": 1')
    # moto's grammar takes a share only with a point in it
    definition = definition.replace('"ToleratedFailurePercentage": 100,', '"ToleratedFailurePercentage": 100.0,')
    with around(world, cloud.url):
        made = cloud.client("stepfunctions").create_state_machine(
            name="sweep", definition=definition, roleArn="arn:aws:iam::123456789012:role/r"
        )
        yield made["stateMachineArn"]


def execute(cloud: Cloud, machine: str, name: str, event: dict[str, Any]) -> dict[str, Any]:
    states = cloud.client("stepfunctions")
    started = states.start_execution(stateMachineArn=machine, name=name, input=json.dumps(event))
    pause = threading.Event()
    for _ in range(1200):
        told: dict[str, Any] = states.describe_execution(executionArn=started["executionArn"])
        if told["status"] != "RUNNING":
            return told
        pause.wait(0.1)
    raise AssertionError("the execution does not end")


def sweep(**changes: Any) -> dict[str, Any]:  # noqa: ANN401  # values of a sweep file
    return {
        "name": "nightly",
        "source": "discovery",
        "targets": [{"role_name": "BatchCancel", "accounts": list(ACCOUNTS), "regions": list(REGIONS)}],
        "report": {"formats": ["json"], "s3": PREFIX},
        **changes,
    }


def assert_whole_and_true(world: World, told: dict[str, Any]) -> None:
    """The report has every run that was active, once, and what it says of each is so."""
    keys = [(run["account_id"], run["region"], run["transform_id"], run["task_run_id"]) for run in told["runs"]]
    assert len(keys) == len(set(keys))
    for key, row in zip(keys, told["runs"], strict=True):
        run = world.run(*key)
        assert run is not None
        assert row["outcome"] == "stopped"
        assert run.status(time.time()) == "STOPPED"
        assert run.cancels


def test_forty_parts_with_faults_leave_no_active_run_and_one_true_report(
    cloud: Cloud, world: World, machine: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    functions = Functions(crash=[3, 17], cut=[5, 30])
    monkeypatch.setattr(lambda_eval_utils, "_invoke_lambda_function", functions.invoke)
    count = active(world)
    notify = {"sns_topic_arn": cloud.topic, "on": ["always"]}
    execution = execute(cloud, machine, "night-1", {"sweep": sweep(notify=notify), "yes": True})
    assert execution["status"] == "SUCCEEDED", execution
    assert active(world) == 0
    told = json.loads(cloud.objects()["batch-cancel/night-1/report.json"])
    assert (told["complete"], told["exit_code"], len(told["targets"])) == (True, 0, 40)
    assert told["totals"]["outcomes"] == {"stopped": count}
    assert len(told["runs"]) == count > 40  # several parts have more than one
    assert_whole_and_true(world, told)
    assert told["totals"]["throttled"] > 0  # the faults were there
    parts = {sweep_id: times for sweep_id, times in functions.invoked.items() if sweep_id != "night-1"}
    assert len(parts) == 40
    assert {sweep_id for sweep_id, times in parts.items() if times > 1} == {
        f"night-1-{number:04}" for number in (3, 5, 17, 30)
    }
    assert [notification["exit_code"] for notification in cloud.notifications()] == [0]  # one, of the whole


def test_a_part_that_never_comes_back_fails_the_execution_and_is_named(
    cloud: Cloud, world: World, machine: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    targets = [{"role_name": "BatchCancel", "accounts": list(ACCOUNTS[:3]), "regions": ["us-east-1"]}]
    monkeypatch.setattr(lambda_eval_utils, "_invoke_lambda_function", Functions(lost=[2]).invoke)
    execution = execute(cloud, machine, "night-2", {"sweep": sweep(targets=targets), "dry_run": True})
    assert execution["status"] == "FAILED"
    told = json.loads(cloud.objects()["batch-cancel/night-2/report.json"])
    assert (told["complete"], told["exit_code"]) == (False, 1)
    [trouble] = [target for target in told["targets"] if target["error"]]
    assert trouble["account_id"] == ACCOUNTS[1]
    assert trouble["error"]["code"] == "ShardMissing"


def test_a_list_is_cut_into_slices_and_merged(
    cloud: Cloud, world: World, machine: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lambda_eval_utils, "_invoke_lambda_function", Functions().invoke)
    runs = [
        (account_id, region, transform.transform_id, run.task_run_id)
        for account_id, region, transform in world.transforms()
        for run in transform.runs
        if account_id in ACCOUNTS[:2] and region == "us-east-1" and run.status(time.time()).active
    ]
    text = "account_id,region,transform_id,task_run_id\n" + "".join(",".join(run) + "\n" for run in runs)
    cloud.client("s3").put_object(Bucket=BUCKET, Key="sweeps/runs.csv", Body=text)
    listed = sweep(source={"manifest": f"s3://{BUCKET}/sweeps/runs.csv"})
    execution = execute(cloud, machine, "list-1", {"sweep": listed, "yes": True, "slice_runs": 1})
    assert execution["status"] == "SUCCEEDED", execution
    told = json.loads(cloud.objects()["batch-cancel/list-1/report.json"])
    assert sorted((r["account_id"], r["region"], r["transform_id"], r["task_run_id"]) for r in told["runs"]) == sorted(
        runs
    )
    assert_whole_and_true(world, told)
