"""``run`` as a scheduler starts it: sweep file in S3, reports to S3, a notification, metrics; and what goes wrong."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, NoReturn

import pytest
from click.testing import CliRunner

from batch_cancel.cli.run import run as command
from batch_cancel.core.errors import UsageError
from batch_cancel.settings import Endpoint, Settings
from batch_cancel.simulator.settings import Behaviour, FleetSettings, WorldSettings
from batch_cancel.simulator.world import World
from tests.delivery.conftest import BUCKET, PREFIX, Cloud
from tests.endpoints import command_line
from tests.lambdas import around
from tests.served import active


@pytest.fixture
def world(cloud: Cloud) -> Iterator[World]:
    fleet = FleetSettings(accounts=("111111111111",), regions=("us-east-1",), transforms=3, runs=6)
    world = World(WorldSettings(fleet=fleet, behaviour=Behaviour(stopping_seconds=(0.1, 0.2))), now=time.time)
    with around(world, cloud.url):
        yield world


def run(
    folder: Path, *arguments: str, name: str = "run", stdout: int | IO[str] = subprocess.PIPE
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "batch_cancel", name, *arguments],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(Path.cwd())},
        stdin=subprocess.DEVNULL,
        stdout=stdout,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )


def here(folder: Path, *arguments: str, name: str = "run") -> subprocess.CompletedProcess[str]:
    return command_line([name, *arguments], folder, os.environ)


def sweep(cloud: Cloud, **changes: Any) -> str:  # noqa: ANN401  # values of a sweep file
    told = {
        "name": "nightly",
        "source": "discovery",
        "report": {"formats": ["json", "md"], "s3": PREFIX},
        "notify": {"sns_topic_arn": cloud.topic, "on": ["failure", "change"]},
    }
    return json.dumps(told | changes)


def test_a_sweep_whose_file_and_reports_are_in_s3(cloud: Cloud, world: World, tmp_path: Path) -> None:
    count = active(world)
    cloud.client("s3").put_object(Bucket=BUCKET, Key="sweeps/nightly.yaml", Body=sweep(cloud).encode())
    place = f"s3://{BUCKET}/sweeps/nightly.yaml"
    done = run(tmp_path, place, "--yes", "--out", "run", "--output", "json", "--emf", "metrics.log")
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    there = cloud.objects()
    assert there[f"batch-cancel/{told['sweep_id']}/report.json"] == (tmp_path / "run" / "report.json").read_bytes()
    assert f"{PREFIX}{told['sweep_id']}/" in done.stderr
    [notification] = cloud.notifications()
    assert notification["subject"] == "batch-cancel sweep nightly: done"
    assert notification["totals"]["outcomes"] == {"stopped": count}
    metrics = [json.loads(line) for line in (tmp_path / "metrics.log").read_text().splitlines()]
    assert [line["Stopped"] for line in metrics] == [count, count]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a device that is always full is Linux's")
def test_copies_have_the_exit_code_of_a_result_that_could_not_be_printed(
    cloud: Cloud, world: World, tmp_path: Path
) -> None:
    (tmp_path / "sweep.yaml").write_text(sweep(cloud))
    with Path("/dev/full").open("w") as full:
        done = run(tmp_path, "sweep.yaml", "--yes", "--out", "run", stdout=full)
    assert (done.returncode, active(world)) == (1, 0), done.stderr
    assert "standard output cannot be written" in done.stderr
    [copy] = [body for key, body in cloud.objects().items() if key.endswith("report.json")]
    assert copy == (tmp_path / "run" / "report.json").read_bytes()
    assert json.loads(copy)["exit_code"] == 1
    assert len(cloud.notifications()) == 1


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a device that is always full is Linux's")
def test_copies_have_the_exit_code_of_a_plan_that_could_not_be_saved(
    cloud: Cloud, world: World, tmp_path: Path
) -> None:
    (tmp_path / "sweep.yaml").write_text(sweep(cloud))
    done = here(tmp_path, "sweep.yaml", "--out", "run", "--plan-out", "/dev/full", name="plan")
    assert done.returncode == 1, done.stderr
    assert "cannot write the plan /dev/full" in done.stderr
    [copy] = [body for key, body in cloud.objects().items() if key.endswith("report.json")]
    assert copy == (tmp_path / "run" / "report.json").read_bytes()
    assert json.loads(copy)["exit_code"] == 1


def test_what_cannot_be_delivered_costs_the_exit_code_and_is_said(cloud: Cloud, world: World, tmp_path: Path) -> None:
    (tmp_path / "sweep.yaml").write_text(sweep(cloud, report={"formats": ["json"], "s3": "s3://no-such-bucket/x"}))
    done = run(tmp_path, "sweep.yaml", "--yes", "--out", "run", "--emf", "-")
    assert done.returncode == 1
    assert "no-such-bucket" in done.stderr
    assert "it is kept where it is" in done.stderr
    assert "Traceback" not in done.stderr
    assert json.loads((tmp_path / "run" / "report.json").read_text())["exit_code"] == 1
    assert active(world) == 0
    [whole] = [json.loads(line) for line in done.stderr.splitlines() if '"IncompleteTargets"' in line]
    assert whole["ExitCode"] == 1


def test_a_sweep_that_cannot_begin_is_told_too(cloud: Cloud, world: World, tmp_path: Path) -> None:
    (tmp_path / "sweep.yaml").write_text(sweep(cloud, source={"manifest": "runs.csv"}))
    (tmp_path / "runs.csv").write_text("transform_id,task_run_id\n,\n")
    done = here(tmp_path, "sweep.yaml", "--yes")
    assert done.returncode == 2
    [notification] = cloud.notifications()
    assert "did not begin" in notification["subject"]
    assert "runs.csv:2" in notification["error"]
    assert not world.log


def test_a_sweep_file_that_is_not_in_s3_or_is_wrong_there(cloud: Cloud, world: World, tmp_path: Path) -> None:
    place = f"s3://{BUCKET}/sweeps/nightly.yaml"
    done = here(tmp_path, place, "--yes")
    assert (done.returncode, f"{place}: there is no such file" in done.stderr) == (2, True)
    cloud.client("s3").put_object(Bucket=BUCKET, Key="sweeps/nightly.yaml", Body=b"nam: x\n")
    done = here(tmp_path, place, "--yes")
    assert (done.returncode, f"{place}:1:1: unknown key 'nam'" in done.stderr) == (2, True)
    assert not world.log


def test_a_list_that_a_sweep_file_in_s3_names_is_in_s3_too(cloud: Cloud, world: World, tmp_path: Path) -> None:
    rows = [
        f"{transform.transform_id},{run_.task_run_id}"
        for *_, transform in world.transforms()
        for run_ in transform.runs
    ][:2]
    s3 = cloud.client("s3")
    s3.put_object(
        Bucket=BUCKET, Key="sweeps/nightly.yaml", Body=sweep(cloud, source={"manifest": "lists/runs.csv"}).encode()
    )
    arguments = (f"s3://{BUCKET}/sweeps/nightly.yaml", "--dry-run", "--region", "us-east-1", "--out", "run")
    uri = f"s3://{BUCKET}/sweeps/lists/runs.csv"
    done = here(tmp_path, *arguments)
    assert (done.returncode, f"{uri}: there is no such file" in done.stderr) == (2, True)
    text = "\n".join(["transform_id,task_run_id", *rows, ","])
    s3.put_object(Bucket=BUCKET, Key="sweeps/lists/runs.csv", Body=text.encode())
    done = here(tmp_path, *arguments)
    assert (done.returncode, f"{uri}:4" in done.stderr) == (2, True)
    done = here(tmp_path, *arguments, "--skip-invalid")
    told = json.loads((tmp_path / "run" / "report.json").read_text())
    assert (len(told["runs"]), told["totals"]["rejected"], told["source"]["path"]) == (2, 1, uri)


def test_no_room_or_no_place_for_what_is_fetched_is_no_lack_of_access(
    cloud: Cloud, world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "tmp").mkdir()
    uri = f"s3://{BUCKET}/runs.csv"
    cloud.client("s3").put_object(Bucket=BUCKET, Key="runs.csv", Body=b"x" * 5_000)
    for source in (("--manifest", uri), (uri,)):  # a list, a sweep file
        done = subprocess.run(
            ["sh", "-c", 'ulimit -f 1; exec "$@"', "sh", sys.executable, "-m", "batch_cancel", "run", *source, "--yes"],
            cwd=tmp_path,
            env=os.environ
            | {"PYTHONPATH": str(Path.cwd()), "PYTHONDONTWRITEBYTECODE": "1", "TMPDIR": str(tmp_path / "tmp")},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        where = f"{uri} cannot be kept in {tmp_path / 'tmp'} while it is read"
        assert (done.returncode, done.stdout) == (2, "")
        assert done.stderr == f"batch-cancel: error: {where}: File too large; nothing was called\n"
        assert list((tmp_path / "tmp").iterdir()) == []
    monkeypatch.setattr("tempfile.tempdir", "/dev/null")
    done = here(tmp_path, "--manifest", uri, "--yes")
    assert (done.returncode, f"{uri} cannot be kept in /dev/null" in done.stderr) == (2, True), done.stderr
    assert not world.log


def test_a_plan_is_made_of_a_sweep_file_in_s3_and_its_list(cloud: Cloud, world: World, tmp_path: Path) -> None:
    [first, *_] = [
        f"{transform.transform_id},{run_.task_run_id}"
        for *_, transform in world.transforms()
        for run_ in transform.runs
        if run_.status(time.time()).active
    ]
    s3 = cloud.client("s3")
    s3.put_object(
        Bucket=BUCKET,
        Key="sweeps/a.yaml",
        Body=json.dumps({"source": {"manifest": f"s3://{BUCKET}/sweeps/runs.csv"}}).encode(),
    )
    s3.put_object(Bucket=BUCKET, Key="sweeps/runs.csv", Body=f"transform_id,task_run_id\n{first}\n".encode())
    place = f"s3://{BUCKET}/sweeps/a.yaml"
    done = here(tmp_path, place, "--plan-out", "plan.json", "--region", "us-east-1", name="plan")
    assert (done.returncode, "names 1 run to cancel" in done.stderr) == (0, True), done.stderr
    before = active(world)
    done = here(tmp_path, "plan.json", "--yes", name="apply")
    assert (done.returncode, active(world)) == (0, before - 1), done.stderr
    done = here(tmp_path, f"s3://{BUCKET}/none.yaml", "--plan-out", "other.json", name="plan")
    assert (done.returncode, f"s3://{BUCKET}/none.yaml: there is no such file" in done.stderr) == (2, True)


def test_how_a_sweep_file_in_s3_is_reached_is_as_the_flags_say(cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Endpoint] = []

    def refuse(settings: Settings, sweep_id: str) -> NoReturn:
        asked.append(settings.endpoint)
        raise UsageError("enough")

    monkeypatch.setattr("batch_cancel.cli.settings_in_s3.aws_outbox", refuse)
    CliRunner().invoke(command, ["s3://b/sweep.yaml", "--yes", "--no-verify-ssl", "--endpoint-url", "http://x:1"])
    assert asked == [Endpoint(url="http://x:1", verify_ssl=False)]


@pytest.mark.parametrize(
    ("place", "changes", "name"),
    [
        ("s3://ops-reports/none.yaml", {}, "unnamed"),
        ("sweep.yaml", {"source": {"manifest": "none.csv"}}, "nightly"),
    ],
)
def test_a_sweep_that_cannot_begin_is_a_metric_all_the_same(
    world: World, tmp_path: Path, place: str, changes: dict[str, Any], name: str
) -> None:
    (tmp_path / "sweep.yaml").write_text(json.dumps({"name": "nightly", **changes}))
    done = here(tmp_path, place, "--yes", "--emf", "metrics.log")
    assert done.returncode == 2, done.stderr
    [line] = [json.loads(line) for line in (tmp_path / "metrics.log").read_text().splitlines()]
    assert (line["Sweep"], line["ExitCode"], line["NoReport"]) == (name, 2, 1)
    assert (tmp_path / "metrics.log").stat().st_mode & 0o777 == 0o600
    assert not world.log


def test_the_first_signal_ends_a_delivery_that_hangs(world: World, tmp_path: Path) -> None:
    (tmp_path / "sweep.yaml").write_text("source: discovery\nreport: {formats: [json], s3: 's3://ops-reports/x'}\n")
    with socket.create_server(("127.0.0.1", 0)) as mute:  # takes connections, and never answers
        process = subprocess.Popen(
            [sys.executable, "-m", "batch_cancel", "run", "sweep.yaml", "--yes", "--out", "run"],
            cwd=tmp_path,
            env=os.environ
            | {"PYTHONPATH": str(Path.cwd()), "AWS_ENDPOINT_URL_S3": f"http://127.0.0.1:{mute.getsockname()[1]}"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        connection, _ = mute.accept()
        process.send_signal(signal.SIGINT)
        out, err = process.communicate()
        connection.close()
    assert process.returncode == 130, err
    assert "could not be uploaded" in err
    assert "Traceback" not in err
    assert json.loads((tmp_path / "run" / "report.json").read_text())["exit_code"] == 130
    assert active(world) == 0
    assert out
