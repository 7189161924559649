"""A simulated endpoint beside the test, in a thread of its own, and the program: as its users start it, or in here."""

import asyncio
import contextlib
import io
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

from batch_cancel.cli import main
from batch_cancel.core.task_run import Status
from batch_cancel.simulator.latency import Latency, no_latency
from batch_cancel.simulator.server import serve
from batch_cancel.simulator.settings import WorldSettings
from batch_cancel.simulator.sts import KEY_PREFIX
from batch_cancel.simulator.world import World
from tests.authorities import ONE_AUTHORITY

CANCEL = "CancelMLTaskRun"
PATIENCE_SECONDS = 60


@dataclass
class Endpoint:
    """A world that is served, and the environment in which a client finds it."""

    world: World
    url: str
    folder: Path

    @property
    def environment(self) -> dict[str, str]:
        """Nothing of the machine's own AWS set-up, and no terminal's wishes."""
        clean = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "BATCH_CANCEL_"))}
        return clean | {
            "AWS_ENDPOINT_URL": self.url,
            "AWS_ACCESS_KEY_ID": KEY_PREFIX + self.world.settings.fleet.accounts[0],
            "AWS_SECRET_ACCESS_KEY": "simulated",
            "AWS_DEFAULT_REGION": self.world.settings.fleet.regions[0],
            "AWS_CONFIG_FILE": os.devnull,
            "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
            "AWS_EC2_METADATA_DISABLED": "true",
            **ONE_AUTHORITY,
            "XDG_STATE_HOME": str(self.folder / "state"),
        }

    def start(self, *arguments: str, **more: Any) -> "subprocess.Popen[str]":  # noqa: ANN401  # Popen's own
        """The program, running."""
        pipes = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        return subprocess.Popen(
            [sys.executable, "-m", "batch_cancel", *arguments],
            cwd=self.folder,
            env=self.environment | more.pop("env", {}),
            text=True,
            **(pipes | more),
        )

    def run(self, *arguments: str, given: str | None = None, **more: Any) -> "subprocess.CompletedProcess[str]":  # noqa: ANN401
        """The program, from start to end."""
        if given is not None:
            more["stdin"] = subprocess.PIPE
        process = self.start(*arguments, **more)
        out, err = process.communicate(given, timeout=PATIENCE_SECONDS)
        return subprocess.CompletedProcess(process.args, process.returncode, out, err)

    def program(self, program: str, *arguments: str) -> "subprocess.CompletedProcess[str]":
        """Another program's text, from start to end: one that meddles with ours."""
        return subprocess.run(
            [sys.executable, "-c", program, *arguments],
            cwd=self.folder,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=PATIENCE_SECONDS,
            check=False,
        )

    def command(self, *arguments: str, env: Mapping[str, str] | None = None) -> "subprocess.CompletedProcess[str]":
        """The same in this process."""
        return command_line(arguments, self.folder, {**self.environment, **(env or {})})

    def statuses(self) -> dict[tuple[str, str], Status]:
        """The status of every run now."""
        now = self.world.now()
        return {(run.transform_id, run.task_run_id): run.status(now) for _, _, run in self.world.runs()}

    def active(self) -> list[tuple[str, str]]:
        """The runs that are active now."""
        return [key for key, status in self.statuses().items() if status.active]

    def cancels(self) -> int:
        """How many cancel calls have arrived."""
        return sum(call.operation == CANCEL for call in self.world.log)


def command_line(
    arguments: Sequence[str], folder: Path, environment: Mapping[str, str]
) -> "subprocess.CompletedProcess[str]":
    """The command line in this process, where a process is not what is tested: its start takes longer than a sweep."""
    out, err = io.StringIO(), io.StringIO()
    with (
        contextlib.chdir(folder),
        mock.patch.dict(os.environ, environment, clear=True),
        mock.patch("sys.argv", ["batch-cancel", *arguments]),
        mock.patch("sys.stdin", io.StringIO()),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
    ):
        try:
            main()
        except SystemExit as ended:
            assert isinstance(ended.code, int)
            return subprocess.CompletedProcess(arguments, ended.code, out.getvalue(), err.getvalue())
    raise AssertionError("it did not end")


@contextmanager
def served(settings: WorldSettings, folder: Path, *, latency: Latency = no_latency) -> Iterator[Endpoint]:
    """A world behind a loopback endpoint while inside."""
    world = World(settings, now=time.time)
    loop = asyncio.new_event_loop()
    ready: list[str] = []
    begun, ended = threading.Event(), asyncio.Event()

    async def main() -> None:
        async with serve(world, latency=latency) as url:
            ready.append(url)
            begun.set()
            await ended.wait()

    thread = threading.Thread(target=lambda: loop.run_until_complete(main()), daemon=True)
    thread.start()
    begun.wait(PATIENCE_SECONDS)
    try:
        yield Endpoint(world, ready[0], folder)
    finally:
        loop.call_soon_threadsafe(ended.set)
        thread.join(PATIENCE_SECONDS)
        loop.close()


def report_of(folder: Path, name: str = "out") -> dict[str, Any]:
    """The report of a run directory."""
    document: dict[str, Any] = json.loads((folder / name / "report.json").read_text(encoding="utf-8"))
    return document


def csv_of(keys: Sequence[tuple[str, str]]) -> str:
    """A manifest that names these runs, quoted as RFC 4180 has it."""
    quoted = [",".join('"' + part.replace('"', '""') + '"' for part in key) for key in keys]
    return "\r\n".join(["transform_id,task_run_id", *quoted]) + "\r\n"
