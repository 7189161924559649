"""``run`` as a scheduler starts it: sweep file in S3, reports to S3, a notification, metrics; and what goes wrong."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from batch_cancel.simulator.settings import Behaviour, FleetSettings, WorldSettings
from batch_cancel.simulator.world import World
from tests.delivery.conftest import BUCKET, PREFIX, Cloud
from tests.lambdas import around
from tests.served import active


@pytest.fixture
def world(cloud: Cloud) -> Iterator[World]:
    fleet = FleetSettings(accounts=("111111111111",), regions=("us-east-1",), transforms=3, runs=6)
    world = World(WorldSettings(fleet=fleet, behaviour=Behaviour(stopping_seconds=(0.1, 0.2))), now=time.time)
    with around(world, cloud.url):
        yield world


def run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "batch_cancel", "run", *arguments],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(Path.cwd())},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )


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
    done = run(tmp_path, "sweep.yaml", "--yes")
    assert done.returncode == 2
    [notification] = cloud.notifications()
    assert "did not begin" in notification["subject"]
    assert "runs.csv:2" in notification["error"]
    assert not world.log


def test_a_sweep_file_that_is_not_in_s3_or_is_wrong_there(cloud: Cloud, world: World, tmp_path: Path) -> None:
    place = f"s3://{BUCKET}/sweeps/nightly.yaml"
    done = run(tmp_path, place, "--yes")
    assert (done.returncode, f"{place}: there is no such file" in done.stderr) == (2, True)
    cloud.client("s3").put_object(Bucket=BUCKET, Key="sweeps/nightly.yaml", Body=b"nam: x\n")
    done = run(tmp_path, place, "--yes")
    assert (done.returncode, f"{place}:1:1: unknown key 'nam'" in done.stderr) == (2, True)
    assert not world.log
