"""Runs a program beside an endpoint, each in a process of its own, and says what it took."""

import csv
import json
import os
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

PROGRAM = [sys.executable, "-m", "batch_cancel"]
PEER = [sys.executable, "-m", "tests.bench.peers"]
ROOT = Path(__file__).parents[2]


@dataclass(frozen=True, slots=True)
class Took:
    """What a process took and what the endpoint saw of it.

    Attributes:
        seconds: of the whole process.
        cpu_seconds: of all its threads, user and system.
        peak_megabytes: of resident memory.
        stats: the endpoint's, see :class:`tests.bench.endpoint.Stats`.
        began_at: on the monotonic clock that the endpoint shares.
    """

    seconds: float
    cpu_seconds: float
    peak_megabytes: float
    exit_code: int
    output: str
    stats: dict[str, Any]
    began_at: float

    @property
    def first_cancel_seconds(self) -> float:
        """From the start of the process to the first cancel request."""
        return float(self.stats["first_cancel_at"] or float("nan")) - self.began_at

    @property
    def cancelling_seconds(self) -> float:
        """From the first cancel request to the last accepted one."""
        return float(self.stats["last_accepted_at"]) - float(self.stats["first_cancel_at"])

    @property
    def throttled_percent(self) -> float:
        """Of all cancel requests."""
        return 100.0 * float(self.stats["throttled"]) / max(1, int(self.stats["calls"].get("CancelMLTaskRun", 0)))


class Endpoint:
    """A running endpoint."""

    def __init__(self, url: str) -> None:
        self.url = url

    def stats(self) -> dict[str, Any]:
        """What has arrived so far."""
        with urllib.request.urlopen(f"{self.url}/stats") as answer:  # noqa: S310  # loopback
            told: dict[str, Any] = json.load(answer)
        return told


@contextmanager
def endpoint(**setting: object) -> Iterator[Endpoint]:
    """An endpoint while inside (see :class:`tests.bench.endpoint.Setting`)."""
    command = [sys.executable, "-m", "tests.bench.endpoint", json.dumps(setting)]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None and process.stdout is not None
        yield Endpoint(process.stdout.readline().strip())
        process.stdin.close()


def took(command: Sequence[str], home: Path, at: Endpoint | None = None) -> Took:
    """Run a command to its end, with made-up keys and nothing of the user's own."""
    environment = {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": str(ROOT),
        "HOME": str(home),
        "XDG_STATE_HOME": str(home / "state"),
        "AWS_ACCESS_KEY_ID": "AKIABENCH00000000000",
        "AWS_SECRET_ACCESS_KEY": "made-up",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
        **({"AWS_ENDPOINT_URL": at.url} if at else {}),
    }
    with tempfile.TemporaryFile("w+") as said:
        began_at = time.monotonic()
        process = subprocess.Popen(
            command, cwd=home, env=environment, stdout=said, stderr=said, stdin=subprocess.DEVNULL
        )
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.monotonic() - began_at
        process.returncode = os.waitstatus_to_exitcode(status)  # waited for here, so not by Popen
        said.seek(0)
        output = said.read()
    return Took(
        seconds=seconds,
        cpu_seconds=usage.ru_utime + usage.ru_stime,
        peak_megabytes=usage.ru_maxrss / 1024,
        exit_code=process.returncode,
        output=output,
        stats=at.stats() if at else {},
        began_at=began_at,
    )


def manifest(path: Path, runs: int, *, of_each_transform: int = 60) -> Path:
    """A CSV of so many runs that the endpoint takes for active."""
    with path.open("w", encoding="utf-8", newline="") as lines:
        writer = csv.writer(lines)
        writer.writerow(["transform_id", "task_run_id"])
        for number in range(runs):
            transform, run = divmod(number, of_each_transform)
            writer.writerow([f"tfm-{transform:032x}", f"tr-{transform:032x}-{run:04x}"])
    return path
