"""The Lambda function: directly, and through Lambda's own runtime client against a stub of the Runtime API."""

import asyncio
import json
import os
import queue
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from batch_cancel.core.errors import AccessStopped, BatchCancelError, InputError, SweepInUse, UsageError
from batch_cancel.glue.aws_outbox import AwsOutbox
from batch_cancel.glue.outbox import S3Place
from batch_cancel.lambda_handler import handler, invocation
from batch_cancel.lambda_handler import lock as locks
from batch_cancel.simulator.settings import (
    AccessSettings,
    Behaviour,
    FleetSettings,
    OrganizationSettings,
    Unit,
    WorldSettings,
)
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
from tests.lambdas import Context, around
from tests.served import active

__all__ = ["_models_are_read_once", "cloud", "endpoint", "server"]  # fixtures

ACCOUNTS = ("111111111111", "222222222222")
QUICK = Behaviour(stopping_seconds=(0.1, 0.3))


@pytest.fixture
def world() -> World:
    fleet = FleetSettings(accounts=ACCOUNTS, regions=("us-east-1", "eu-west-1"), transforms=4, runs=16)
    return World(WorldSettings(fleet=fleet, behaviour=QUICK), now=time.time)


@pytest.fixture
def variables(world: World, cloud: Cloud) -> Iterator[dict[str, str]]:
    with around(world, cloud.url) as variables:
        yield variables


def sweep(**changes: Any) -> dict[str, Any]:  # noqa: ANN401  # values of a sweep file
    return {
        "name": "nightly",
        "source": "discovery",
        "targets": [{"role_name": "BatchCancel", "accounts": list(ACCOUNTS), "regions": ["us-east-1", "eu-west-1"]}],
        "report": {"formats": ["json"], "s3": PREFIX},
        **changes,
    }


def report(cloud: Cloud, sweep_id: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(cloud.objects()[f"batch-cancel/{sweep_id}/report.json"])
    return found


def assert_told_truly(world: World, told: dict[str, Any]) -> None:
    """Every run that a report calls stopped was accepted by the world once, and is stopped there; no run is twice."""
    keys = [(run["account_id"], run["region"], run["transform_id"], run["task_run_id"]) for run in told["runs"]]
    assert len(keys) == len(set(keys))
    for key, told_run in zip(keys, told["runs"], strict=True):
        run = world.run(*key)
        assert run is not None
        if told_run["outcome"] == "stopped":
            assert run.status(time.time()) == "STOPPED"
            assert len(run.cancels) == 1


@pytest.mark.usefixtures("variables")
def test_a_sweep_answers_with_totals_and_never_rows(world: World, cloud: Cloud) -> None:
    count = active(world)
    answer = handler({"sweep": sweep(), "yes": True}, Context())
    assert (answer["exit_code"], answer["complete"], answer["next_event"]) == (0, True, None)
    assert answer["totals"]["outcomes"] == {"stopped": count}
    assert "runs" not in answer
    assert len(json.dumps(answer)) < 4_000
    assert active(world) == 0
    told = report(cloud, answer["sweep_id"])
    assert told["totals"] == answer["totals"]
    assert answer["ledger"] == f"{PREFIX}{answer['sweep_id']}/ledger.db"


@pytest.mark.usefixtures("variables")
def test_cut_off_three_times_in_a_row_it_finishes_at_the_fourth_event(
    world: World, cloud: Cloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(invocation, "LEAST_SECONDS", 0.1)
    count = active(world)
    # At two requests a second a place with three runs takes two seconds: the third cancel request leaves after one, and
    # its end is looked for a second later.
    rate = {"rps": 2}
    event: dict[str, Any] | None = {"sweep": sweep(rate=rate), "yes": True, "reserve_seconds": 30}
    answers = []
    for seconds in (30.3, 30.5, 30.5, 60.0):
        assert event is not None
        answers.append(handler(event, Context(seconds)))
        event = answers[-1]["next_event"]
    assert event is None
    for answer in answers[:3]:
        assert (answer["exit_code"], answer["complete"], answer["stop_cause"]) == (5, False, "deadline")
    assert [answer["invocation"] for answer in answers] == [1, 2, 3, 4]
    assert len({answer["sweep_id"] for answer in answers}) == 1
    last = answers[-1]
    assert (last["exit_code"], last["complete"]) == (0, True)
    assert last["totals"]["outcomes"] == {"stopped": count}
    assert active(world) == 0
    told = report(cloud, last["sweep_id"])
    assert len(told["runs"]) == count
    assert_told_truly(world, told)
    assert all(len(run.cancels) <= 1 for _, _, run in world.runs())


@pytest.mark.usefixtures("variables")
def test_an_event_that_comes_twice_does_nothing_the_second_time(world: World, cloud: Cloud) -> None:
    notify = {"sns_topic_arn": cloud.topic, "on": ["always"]}
    event = {"sweep": sweep(notify=notify), "yes": True, "sweep_id": "nightly-2026-11-24"}
    first = handler(event, Context())
    calls = len(world.log)
    assert handler(event, Context()) == first
    assert len(world.log) == calls
    assert len(cloud.notifications()) == 1
    assert report(cloud, "nightly-2026-11-24")["totals"]["runs"] == first["totals"]["runs"]


@pytest.mark.usefixtures("variables")
def test_a_sweep_file_and_its_manifest_in_s3(world: World, cloud: Cloud) -> None:
    runs = [
        (account_id, region, transform.transform_id, run.task_run_id)
        for account_id, region, transform in world.transforms()
        for run in transform.runs
        if run.status(time.time()).active
    ][:3]
    s3 = cloud.client("s3")
    text = "account_id,region,transform_id,task_run_id\n" + "".join(",".join(run) + "\n" for run in runs)
    s3.put_object(Bucket=BUCKET, Key="sweeps/lists/runs.csv", Body=text)
    body = json.dumps(sweep(source={"manifest": "lists/runs.csv"}))
    s3.put_object(Bucket=BUCKET, Key="sweeps/nightly.yaml", Body=body)
    before = active(world)
    answer = handler({"sweep": f"s3://{BUCKET}/sweeps/nightly.yaml", "yes": True}, Context())
    assert answer["totals"]["outcomes"] == {"stopped": 3}
    assert active(world) == before - 3
    assert report(cloud, answer["sweep_id"])["source"]["path"] == f"s3://{BUCKET}/sweeps/lists/runs.csv"


@pytest.mark.usefixtures("variables")
def test_a_shard_sweeps_its_targets_alone_and_tells_nobody(world: World, cloud: Cloud) -> None:
    role = f"arn:aws:iam::{ACCOUNTS[1]}:role/BatchCancel"
    shard = {"targets": [{"role_arn": role, "regions": ["eu-west-1"]}]}
    notify = {"sns_topic_arn": cloud.topic, "on": ["always"]}
    answer = handler({"sweep": sweep(notify=notify), "yes": True, "shard": shard}, Context())
    told = report(cloud, answer["sweep_id"])
    assert {(target["account_id"], target["region"]) for target in told["targets"]} == {(ACCOUNTS[1], "eu-west-1")}
    assert cloud.notifications() == []


@pytest.mark.usefixtures("variables")
def test_the_sweep_s_own_deadline_is_of_all_invocations_together(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(invocation, "LEAST_SECONDS", 0.1)
    event = {"sweep": sweep(rate={"rps": 1}, retry={"deadline": "1s"}), "yes": True, "reserve_seconds": 30}
    answer = handler(event, Context(60))
    assert (answer["exit_code"], answer["next_event"]) == (5, None)
    cut = handler(event | {"sweep": sweep(rate={"rps": 1}, retry={"deadline": "90s"})}, Context(30.3))
    assert cut["next_event"]["until"]


@pytest.mark.usefixtures("variables")
def test_invocations_that_get_nothing_done_come_to_an_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(invocation, "LEAST_SECONDS", 0.0)
    event: dict[str, Any] | None = {"sweep": sweep(), "yes": True, "reserve_seconds": 30}
    for _ in range(invocation.MOST_IDLE + 1):
        assert event is not None
        event = handler(event, Context(30.0))["next_event"]
    assert event is None


@pytest.mark.usefixtures("variables")
def test_metrics_are_printed_once_at_the_end(capsys: pytest.CaptureFixture[str]) -> None:
    answer = handler({"sweep": sweep(), "dry_run": True}, Context())
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    whole = [line for line in lines if line.get("Sweep") == "nightly" and "Region" not in line]
    assert [line["WouldCancel"] for line in whole] == [answer["totals"]["outcomes"]["would_cancel"]]


@pytest.mark.parametrize(
    ("event", "kind", "said"),
    [
        ({}, UsageError, "names no sweep"),
        ({"sweep": 3}, UsageError, "names no sweep"),
        ({"sweep": {}, "dryrun": True}, UsageError, "did you mean 'dry_run'"),
        ({"sweep": {}, "yes": "true"}, UsageError, "yes is not true or false"),
        ({"sweep": {}, "confirm_count": True}, UsageError, "confirm_count is not a whole number"),
        ({"sweep": {}, "yes": True, "confirm_count": 2}, UsageError, "exclude each other"),
        ({"sweep": {}, "yes": True, "dry_run": True}, UsageError, "exclude each other"),
        ({"sweep": {}, "confirm_count": -1}, UsageError, "confirm_count is not a whole number"),
        ({"sweep": {}, "sweep_id": "../x"}, UsageError, "sweep_id"),
        ({"sweep": {}, "sweep_id": 5}, UsageError, "sweep_id"),
        ({"sweep": {}, "sweep_id": True}, UsageError, "sweep_id"),
        ({"sweep": {}, "action": "erase"}, UsageError, "action is not one of sweep, shard, merge"),
        ({"sweep": {}, "action": ["x"]}, UsageError, "action is not one of"),
        ({"sweep": {}, "until": ""}, UsageError, "until is not a moment"),
        ({"sweep": {}, "slice_runs": 0}, UsageError, "slice_runs is not a whole number, 1 or more"),
        ({"sweep": {}, "slice_runs": -1}, UsageError, "slice_runs"),
        ({"sweep": {}, "reserve_seconds": -1000}, UsageError, "reserve_seconds is not a number of seconds"),
        ({"sweep": {}, "reserve_seconds": float("nan")}, UsageError, "reserve_seconds"),
        ({"sweep": {}, "invocation": 0}, UsageError, "invocation"),
        ({"sweep": {}, "idle": -1}, UsageError, "idle"),
        ({"sweep": {}, "left": "x"}, UsageError, "left is not an object"),
        ({"sweep": {}, "left": {"runs": 1}}, UsageError, "left is not an object"),
        ({"sweep": {"name": "\ud800"}}, UsageError, "event.sweep.name is not text"),
        ({"sweep": {}, "shard": {"targets": [{"regions": ["\udfff"]}]}}, UsageError, "regions[0] is not text"),
        ({"sweep": {}, "\ud800": 1}, UsageError, "a key of event is not text"),
        ({"sweep": {}, "ledger": f"{PREFIX}a/ledger.db"}, UsageError, "give its sweep_id"),
        ({"sweep": {}, "action": "shard", "confirm_count": 3}, UsageError, "confirm_count is of the whole sweep"),
        ({"sweep": sweep(), "yes": True, "shard": {"target": []}}, UsageError, "did you mean 'targets'"),
        ({"sweep": sweep(), "yes": True, "shard": {}}, UsageError, "either targets or a manifest"),
        ({"sweep": sweep(), "yes": True, "shard": {"targets": "x"}}, UsageError, "targets, a list"),
        ({"sweep": sweep(), "yes": True, "until": "soon"}, UsageError, "until is not a moment"),
        ({"sweep": {"nam": "x"}, "yes": True}, InputError, "the event's sweep:2:2: unknown key 'nam'"),
        ({"sweep": {"name": "x"}, "yes": True}, UsageError, "BATCH_CANCEL_REPORTS"),
        ({"sweep": sweep()}, UsageError, "consent is missing"),
        ({"sweep": sweep(source={"manifest": "runs.csv"}), "yes": True}, UsageError, "s3://bucket/runs.csv"),
        ({"sweep": f"s3://{BUCKET}/none.yaml", "yes": True}, UsageError, "there is no sweep file"),
        ({"sweep": "s3://no-such-bucket/x", "yes": True}, BatchCancelError, "NoSuchBucket"),
        (
            {"sweep": sweep(), "yes": True, "sweep_id": "a", "ledger": f"{PREFIX}a/ledger.db"},
            UsageError,
            "there is no ledger",
        ),
        ({"sweep": sweep(), "yes": True, "reserve_seconds": 59.5}, UsageError, "longer timeout"),
    ],
)
@pytest.mark.usefixtures("variables")
def test_what_cannot_begin_raises_and_calls_nothing(
    world: World, event: dict[str, Any], kind: type[Exception], said: str
) -> None:
    with pytest.raises(kind, match=said.replace("[", r"\[")):
        handler(event, Context())
    assert not world.log


@pytest.mark.usefixtures("variables")
def test_a_ledger_of_another_sweep_is_refused(cloud: Cloud) -> None:
    answer = handler({"sweep": sweep(), "dry_run": True}, Context())
    with pytest.raises(UsageError, match="the ledger is of sweep"):
        handler({"sweep": sweep(), "yes": True, "sweep_id": "other", "ledger": answer["ledger"]}, Context())
    assert not isinstance(AccessStopped, UsageError)


@pytest.mark.usefixtures("variables")
def test_parts_get_what_the_event_says_for_all(cloud: Cloud) -> None:
    event = {"sweep": sweep(), "yes": True, "action": "shard", "sweep_id": "s", "reserve_seconds": 7, "reason": "late"}
    cut = handler(event, Context())
    for part in json.loads(cloud.objects()[cut["items"]["key"]]):
        assert {key: part[key] for key in ("yes", "reserve_seconds", "reason")} == {
            "yes": True,
            "reserve_seconds": 7,
            "reason": "late",
        }


@pytest.mark.usefixtures("variables")
@pytest.mark.parametrize(
    ("first", "then", "what"),
    [
        ({"yes": True}, {"dry_run": True}, "consent, mode"),
        ({"dry_run": True}, {"yes": True}, "consent, mode"),
        ({"yes": True}, {"yes": True, "sweep": sweep(name="other")}, "name"),
        ({"yes": True}, {"yes": True, "sweep": sweep(source={"manifest": f"s3://{BUCKET}/runs.csv"})}, "source"),
        ({"yes": True}, {"yes": True, "shard": {"targets": [{"regions": ["us-east-1"]}]}}, "targets"),
        ({"yes": True}, {"yes": True, "reason": "another"}, "reason"),
    ],
)
def test_an_event_that_says_something_else_under_a_known_id_is_refused(
    world: World, monkeypatch: pytest.MonkeyPatch, first: dict[str, Any], then: dict[str, Any], what: str
) -> None:
    monkeypatch.setattr(invocation, "LEAST_SECONDS", 0.0)
    event = {"sweep": sweep(), "sweep_id": "night", "reserve_seconds": 30}
    cut = handler({**event, **first}, Context(30.0))  # no time for anything
    assert cut["stop_cause"] == "deadline"
    before = len(world.log)
    for ledger in ({}, {"ledger": cut["ledger"]}):
        with pytest.raises(UsageError, match=rf"begun with other settings \(.*{what}"):
            handler({**event, **then, **ledger}, Context())
    assert len(world.log) == before
    again = handler({**event, **first}, Context())
    assert (again["exit_code"], again["stop_cause"]) == (0, None)


@pytest.mark.usefixtures("variables")
def test_one_invocation_at_a_time_is_at_a_sweep(world: World, cloud: Cloud, capsys: pytest.CaptureFixture[str]) -> None:
    place = S3Place.of(f"{PREFIX}night/lock.json")
    notify = {"sns_topic_arn": cloud.topic, "on": ["always"]}
    event = {"sweep": sweep(notify=notify), "dry_run": True, "sweep_id": "night"}
    now = datetime.now(UTC)
    asyncio.run(locks.take(cloud.outbox(), place, until=now + timedelta(minutes=5), now=lambda: now))
    with pytest.raises(SweepInUse, match="another invocation"):
        handler(event, Context())
    assert not world.log
    assert cloud.notifications() == []
    # That one was killed: its time is over.
    held = json.loads(cloud.objects()["batch-cancel/night/lock.json"])
    held["until"] = now.isoformat()
    cloud.client("s3").put_object(Bucket=BUCKET, Key=place.key, Body=json.dumps(held))
    capsys.readouterr()
    assert handler(event, Context())["exit_code"] == 0
    assert "an earlier invocation of this sweep was cut off" in capsys.readouterr().out
    assert json.loads(cloud.objects()["batch-cancel/night/lock.json"])["holder"] == ""
    handler(event, Context())
    assert "was cut off" not in capsys.readouterr().out


class Ending(Context):
    """Next to nothing is left once the sweep is over."""

    asked = 0

    def get_remaining_time_in_millis(self) -> int:
        self.asked += 1
        return 60_000 if self.asked == 1 else 100


@pytest.mark.usefixtures("variables")
def test_an_upload_that_hangs_leaves_time_for_the_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    async def hang(*_: object) -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr(AwsOutbox, "put_file", hang)
    answer = handler({"sweep": sweep(), "dry_run": True}, Ending())
    assert (answer["exit_code"], answer["reports"]) == (1, None)
    assert "TimedOut: no answer within 0.1 s, and the function's time runs out" in answer["delivery_faults"][0]


def in_parts(cloud: Cloud, event: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """What a state machine does with an event: cuts it, sweeps each part and merges; the last answer, the report."""
    cut = handler({**event, "action": "shard"}, Context())
    for part in json.loads(cloud.objects()[cut["items"]["key"]]):
        handler(part, Context())
    answer = handler(cut["merge_event"], Context())
    return answer, report(cloud, cut["sweep_id"])


def test_parts_of_an_organization_tell_closed_accounts_and_regions_that_are_not_enabled(cloud: Cloud) -> None:
    accounts = ("111111111111", "222222222222", "333333333333", "444444444444")
    regions = ("us-east-1", "eu-south-1")
    world = World(
        WorldSettings(
            fleet=FleetSettings(accounts=accounts, regions=regions, transforms=2, runs=12),
            behaviour=QUICK,
            access=AccessSettings(disabled_regions=("eu-south-1",), denied_accounts=accounts[3:]),
            organization=OrganizationSettings((Unit("ou-sim1-unit0001", "unit", accounts[1:]),), (accounts[2],)),
        ),
        now=time.time,
    )
    targets = [{"role_name": "BatchCancel", "organization_units": ["ou-sim1-unit0001"], "regions": list(regions)}]
    with around(world, cloud.url):
        answer, told = in_parts(cloud, {"sweep": sweep(targets=targets), "dry_run": True})
    assert (answer["exit_code"], answer["stop_cause"]) == (1, None)
    assert [account["account_id"] for account in told["left_out"]] == [accounts[2]]
    troubles = {(it["account_id"], it["region"]): it["error"] for it in told["targets"] if it["error"]}
    denied = troubles.pop((accounts[3], "us-east-1"))
    assert denied["code"] == "AccessDeniedException"  # by Glue, which had taken the credentials
    assert troubles.keys() == {(account, "eu-south-1") for account in (accounts[1], accounts[3])}
    said = "the region is not enabled for this account; in the service's words: The security token"
    assert all(trouble["message"].startswith(said) for trouble in troubles.values())


@pytest.mark.usefixtures("variables")
def test_rows_that_parts_never_see_are_told_in_the_whole(world: World, cloud: Cloud) -> None:
    account_id, region, transform, run = next(
        (account_id, region, transform, run)
        for account_id, region, transform in world.transforms()
        for run in transform.runs
    )
    row = f"{account_id},{region},{transform.transform_id},{run.task_run_id}"
    text = f"account_id,region,transform_id,task_run_id\n{row}\n{account_id},{region},,x\n{account_id},us-west-2,t,r\n"
    cloud.client("s3").put_object(Bucket=BUCKET, Key="runs.csv", Body=text)
    source = {"manifest": f"s3://{BUCKET}/runs.csv", "skip_invalid": True}
    answer, told = in_parts(cloud, {"sweep": sweep(source=source), "dry_run": True})
    assert answer["exit_code"] == 1
    assert [row["line"] for row in told["rejected"]] == [3, 4]
    assert len(told["runs"]) == 1
    with pytest.raises(InputError, match=rf"s3://{BUCKET}/runs.csv:3"):
        handler(
            {"sweep": sweep(source=source | {"skip_invalid": False}), "dry_run": True, "action": "shard"}, Context()
        )


@pytest.mark.usefixtures("variables")
def test_a_list_without_rows_ends_in_a_report_of_nothing(cloud: Cloud) -> None:
    cloud.client("s3").put_object(Bucket=BUCKET, Key="runs.csv", Body="transform_id,task_run_id\n")
    answer, told = in_parts(cloud, {"sweep": sweep(source={"manifest": f"s3://{BUCKET}/runs.csv"}), "yes": True})
    assert (answer["exit_code"], answer["complete"], answer["targets"]) == (0, True, 0)
    assert (told["mode"], told["name"], told["runs"]) == ("cancel", "nightly", [])


@pytest.mark.parametrize(
    ("named", "key"),
    [
        (f"s3://{BUCKET}/a//b/../runs.csv", "a//b/../runs.csv"),
        ("../lists/runs.csv", "lists/runs.csv"),
        ("runs.csv", "sweeps/runs.csv"),
    ],
)
@pytest.mark.usefixtures("variables")
def test_a_list_s_place_is_taken_as_it_is_written(cloud: Cloud, named: str, key: str) -> None:
    s3 = cloud.client("s3")
    s3.put_object(Bucket=BUCKET, Key=key, Body="transform_id,task_run_id,account_id,region\n")
    s3.put_object(Bucket=BUCKET, Key="sweeps/nightly.yaml", Body=json.dumps(sweep(source={"manifest": named})))
    answer = handler({"sweep": f"s3://{BUCKET}/sweeps/nightly.yaml", "dry_run": True}, Context())
    assert report(cloud, answer["sweep_id"])["source"]["path"] == f"s3://{BUCKET}/{key}"


@pytest.mark.usefixtures("variables")
def test_the_same_list_on_another_night_is_no_change(cloud: Cloud) -> None:
    cloud.client("s3").put_object(Bucket=BUCKET, Key="runs.csv", Body="transform_id,task_run_id\n")
    notify = {"sns_topic_arn": cloud.topic, "on": ["change"]}
    event = {"sweep": sweep(source={"manifest": f"s3://{BUCKET}/runs.csv"}, notify=notify), "dry_run": True}
    for count in (1, 0):
        handler(event, Context())
        assert len(cloud.notifications()) == count
    in_parts(cloud, event)
    assert cloud.notifications() == []


# -- through Lambda's own runtime client ------------------------------------------------------------------------------


CLIENT = """
import runpy
from batch_cancel.lambda_handler import invocation
invocation.LEAST_SECONDS = 0.1  # however slow the machine, an event with two seconds can begin
runpy.run_module("awslambdaric", run_name="__main__")
"""


class RuntimeApi:
    """A stub of the Lambda Runtime API, version 2018-06-01: hands out events, takes answers."""

    def __init__(self, events: list[dict[str, Any]], seconds: float) -> None:
        self.answers: queue.Queue[tuple[str, dict[str, Any]]] = queue.Queue()
        waiting = queue.SimpleQueue[tuple[str, dict[str, Any]]]()
        for number, event in enumerate(events):
            waiting.put((f"request-{number}", event))
        api = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                try:
                    request_id, event = waiting.get(timeout=60)
                except queue.Empty:
                    return
                if not request_id:
                    self.close_connection = True
                    return
                body = json.dumps(event).encode()
                self.send_response(200)
                self.send_header("Lambda-Runtime-Aws-Request-Id", request_id)
                self.send_header("Lambda-Runtime-Deadline-Ms", str(int((time.time() + seconds) * 1000)))
                self.send_header("Lambda-Runtime-Invoked-Function-Arn", "arn:aws:lambda:us-east-1:1:function:f")
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                self.send_response(202)
                self.send_header("Content-Length", "0")
                self.end_headers()
                api.answers.put((self.path.rpartition("/")[2], body))

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # the standard library's name
                """Say nothing."""

        self.waiting = waiting
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)


@contextmanager
def runtime(variables: dict[str, str], events: list[dict[str, Any]], seconds: float = 60) -> Iterator[RuntimeApi]:
    """awslambdaric in a process of its own, as in Lambda: one process for all events."""
    api = RuntimeApi(events, seconds)
    thread = threading.Thread(target=api.server.serve_forever)
    thread.start()
    host, port = api.server.server_address[:2]
    process = subprocess.Popen(
        [sys.executable, "-c", CLIENT, "batch_cancel.lambda_handler.handler"],
        env=os.environ
        | variables
        | {
            "AWS_LAMBDA_RUNTIME_API": f"{host!s}:{port}",
            "LAMBDA_TASK_ROOT": ".",
            "AWS_LAMBDA_FUNCTION_NAME": "sweep",
            "AWS_LAMBDA_FUNCTION_VERSION": "1",
            "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "512",
            "AWS_REGION": "us-east-1",
        },
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        yield api
    finally:
        process.kill()
        process.wait()
        api.waiting.put(("", {}))
        api.server.shutdown()
        thread.join()
        api.server.server_close()


def test_the_runtime_client_runs_events_one_after_the_other_in_one_process(
    variables: dict[str, str], world: World, cloud: Cloud
) -> None:
    count = active(world)
    # At 1.5 requests a second the third cancel request of a place leaves after more than a second, and its end is
    # looked for a second later: more than the 1.8 seconds that the event has.
    cut = {"sweep": sweep(rate={"rps": 1.5}), "yes": True, "reserve_seconds": 28.2, "sweep_id": "cut"}
    warm = {"sweep": sweep(), "dry_run": True}  # the first event pays for all imports
    events = [warm, cut, {"sweep": {}, "yse": True}, cut | {"reserve_seconds": 1}]
    with runtime(variables, events, seconds=30) as api:
        kind, audit = api.answers.get(timeout=60)
        assert (kind, audit["totals"]["outcomes"]) == ("response", {"would_cancel": count})
        kind, first = api.answers.get(timeout=60)
        assert kind == "response", first
        kind, error = api.answers.get(timeout=60)
        assert (kind, error["errorType"]) == ("error", "UsageError")
        assert "did you mean 'yes'" in error["errorMessage"]
        kind, last = api.answers.get(timeout=60)
        assert kind == "response", last
    assert first["invocation"] == last["invocation"] == 1
    assert first["stop_cause"] == "deadline"
    assert last["totals"]["outcomes"] == {"stopped": count}
    assert_told_truly(world, report(cloud, "cut"))
