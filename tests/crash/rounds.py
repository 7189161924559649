"""A real sweep against the loopback endpoint is killed at a random moment, resumed, and held to the truth."""

import asyncio
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from batch_cancel.core.task_run import Status
from batch_cancel.ledger.ledger import Ledger
from batch_cancel.simulator.fleet import Run
from batch_cancel.simulator.latency import between
from batch_cancel.simulator.server import serve
from batch_cancel.simulator.settings import (
    Behaviour,
    CancelEnded,
    Fault,
    FaultKind,
    FleetSettings,
    Limit,
    WorldSettings,
)
from batch_cancel.simulator.world import World
from tests.authorities import ONE_AUTHORITY

REGION = "us-east-1"
KEYS = {"AWS_ACCESS_KEY_ID": "AKIASIM0111111111111", "AWS_SECRET_ACCESS_KEY": "simulated", "AWS_DEFAULT_REGION": REGION}
LONGEST_SECONDS = 120.0
"""A process that takes longer hangs."""
FAULTS = (FaultKind.APPLIED_500, FaultKind.APPLIED_DROP, FaultKind.THROTTLE, FaultKind.NO_ECHO, FaultKind.UNAVAILABLE)


@dataclass(slots=True)
class Round:
    """What one round saw.

    Attributes:
        killed: by SIGKILL, while at work.
        wrong: everything that contradicts the endpoint's truth.
    """

    seed: int
    killed: int = 0
    runs: int = 0
    outcomes: dict[str, int] = field(default_factory=dict)
    wrong: list[str] = field(default_factory=list)


def play(seed: int) -> Round:
    """One round."""
    draw = random.Random(f"crash {seed}")
    world = World(_settings(seed, draw), now=time.time)
    told = Round(seed)
    with tempfile.TemporaryDirectory(prefix="batch-cancel-crash-") as name, served(world, seed) as url:
        directory = Path(name) / "run"
        arguments = ["run", "--discover", "--yes", "--region", REGION, "--endpoint-url", url, "--out", str(directory)]
        if draw.random() < 0.3:
            arguments = [*arguments[:3], "--no-wait", *arguments[3:]]
        kills = draw.choice((1, 1, 2, 3))
        for _ in range(kills):
            # From before the first call to after the last: what a start costs is slept through in most rounds.
            alive_seconds = draw.uniform(0.2, 2.5)
            if _run(arguments, name, alive_seconds) is not None:
                break
            told.killed += 1
            if _has_begun(directory):
                _hold(directory, world, told, at_the_end=False)
                arguments = ["resume", str(directory)]
            else:  # killed before it had a sweep: as its user would, begin anew
                arguments[arguments.index("--out") + 1] = str(directory := directory.with_name(f"run{told.killed}"))
        code = 0
        if told.killed:
            done = _run(arguments, name, None)
            code = -1 if done is None else done
        if code not in (0, 1):
            told.wrong.append(f"seed {seed}: the last process ended with {code}")
        _hold(directory, world, told, at_the_end=True)
    return told


def _settings(seed: int, draw: random.Random) -> WorldSettings:
    fleet = FleetSettings(
        transforms=draw.choice((3, 8)), runs=draw.choice((20, 60)), ended_share=0.2, starting_seconds=(0.5, 5.0)
    )
    faults = tuple(
        Fault(kind, 0.04, operations=draw.choice(((), ("CancelMLTaskRun",))))
        for kind in draw.sample(FAULTS, draw.randint(0, 3))
    )
    return WorldSettings(
        seed=seed,
        fleet=fleet,
        behaviour=Behaviour(cancel_ended=draw.choice(tuple(CancelEnded)), stopping_seconds=(0.2, 1.5)),
        limits=(Limit(rps=draw.choice((20.0, 60.0)), burst=10.0),),
        faults=faults,
        keep_log=False,
    )


@contextmanager
def served(world: World, seed: int) -> Iterator[str]:
    """The world's endpoint, from a thread of its own."""
    ready, over = threading.Event(), threading.Event()
    urls: list[str] = []

    async def main() -> None:
        async with serve(world, latency=between(0.005, 0.06), seed=seed) as url:
            urls.append(url)
            ready.set()
            await asyncio.to_thread(over.wait)

    thread = threading.Thread(target=asyncio.run, args=(main(),), daemon=True)
    thread.start()
    ready.wait(30.0)
    try:
        yield urls[0]
    finally:
        over.set()
        thread.join(30.0)


def _run(arguments: list[str], home: str, alive_seconds: float | None) -> int | None:
    """Run the program; its exit code, or None where it was killed before it came to its end."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith("AWS_")}
    environment |= KEYS | ONE_AUTHORITY | {"HOME": home, "XDG_STATE_HOME": home, "AWS_EC2_METADATA_DISABLED": "true"}
    process = subprocess.Popen(
        [sys.executable, "-m", "batch_cancel", *arguments, "--quiet", "--no-progress"],
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        return process.wait(LONGEST_SECONDS if alive_seconds is None else alive_seconds)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGKILL)
        process.wait()
        return None


def _has_begun(directory: Path) -> bool:
    if not (directory / "ledger.db").exists():
        return False
    try:
        reader = Ledger.look(directory)
    except Exception:  # killed while the file was made: there is nothing to resume
        return False
    try:
        return "settings" in reader.facts()
    finally:
        reader.close()


def _hold(directory: Path, world: World, told: Round, *, at_the_end: bool) -> None:
    """What the ledger says against what the endpoint knows."""
    reader = Ledger.look(directory)
    try:
        rows = {(row.transform_id, row.task_run_id): row for row in reader.runs()}
        attempts: dict[int, tuple[int, int]] = {
            run_id: (number, throttled)
            for run_id, number, throttled in reader._connection.execute(
                "SELECT run_id, count(*), coalesce(sum(class = 'throttle'), 0) FROM attempts GROUP BY run_id"
            )
        }
    finally:
        reader.close()
    now = world.now()
    for _, _, run in world.runs():
        row = rows.get((run.transform_id, run.task_run_id))
        outcome = None if row is None else str(row.outcome)
        intents, throttled = (0, 0) if row is None else attempts.get(row.id, (0, 0))
        wrong = _wrong(run, run.status(now), outcome, intents, throttled)
        if at_the_end and outcome in ("not_attempted", "unknown"):
            wrong.append(f"told as {outcome} in the end")
        if at_the_end and outcome is None and run.started_at < world.began_at and run.ends_at > now:
            wrong.append("never found")
        place = f"seed {told.seed}: {run.task_run_id[:12]} is {run.status(now)}, {run.requests} requests"
        told.wrong += [f"{place}: {each}" for each in wrong]
    if at_the_end:
        document: dict[str, Any] = json.loads((directory / "report.json").read_text(encoding="utf-8"))
        names = [(run["transform_id"], run["task_run_id"]) for run in document["runs"]]
        if len(set(names)) != len(names) or set(names) != set(rows):
            told.wrong.append(f"seed {told.seed}: the report's runs are not the ledger's, each once")
        told.runs = len(names)
        for each in document["runs"]:
            told.outcomes[each["outcome"]] = told.outcomes.get(each["outcome"], 0) + 1


def _wrong(run: Run, status: Status, outcome: str | None, intents: int, throttled: int) -> list[str]:
    """What contradicts the truth about one run. A throttled request was turned away: it is no attempt."""
    wrong = []
    if run.requests > intents:
        wrong.append(f"the ledger has {intents} intents")
    lies = {
        "not_attempted": run.requests > throttled,
        "stopped": not (run.cancels and status is Status.STOPPED),
        "stopping": not run.cancels,
        "already_finished": bool(run.cancels),
        **dict.fromkeys(("failed", "denied", "not_found", "invalid", "stuck_stopping"), True),
    }
    if outcome is not None and lies.get(outcome):
        wrong.append(f"told as {outcome}")
    return wrong
