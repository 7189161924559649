"""``demo``: a simulator and a whole sweep against it, in one command; afterwards the two are compared."""

import json
import os
import re
import shlex
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any
from urllib.request import urlopen

import click

from batch_cancel.cli.options import ScenarioName, Value
from batch_cancel.cli.signals import exit_code_of
from batch_cancel.cli.wording import columns_of, paragraphs
from batch_cancel.core.errors import BatchCancelError, UsageError
from batch_cancel.core.wording import counted

DIRECTORY = Path("batch-cancel-demo")
PATIENCE_SECONDS = 10
CANCEL = "CancelMLTaskRun"
INTERRUPTED = (exit_code_of(signal.SIGINT), exit_code_of(signal.SIGTERM))
Key = tuple[str, str, str, str]
"""Account, region, transform and task run."""
OURS = ("AWS_PROFILE", "AWS_SESSION_TOKEN", "AWS_REGION", "AWS_ROLE_ARN", "AWS_WEB_IDENTITY_TOKEN_FILE")

_EXAMPLES = """\b
Examples:
  batch-cancel demo
  batch-cancel demo --scenario incident
  batch-cancel demo --scenario configs/drill.yaml

\b
Scenarios: demo, incident, throttled, outage, expired-credentials, restarts, organization, or a file.
Exit code 0 if every verdict of the report agrees with what really happened, whatever the sweep ended with.
"""


@dataclass(frozen=True, slots=True)
class Stage:
    """A simulator that runs: its address, and the story that it plays."""

    url: str
    variables: dict[str, str]
    command: list[str]


@click.command(epilog=_EXAMPLES)
@click.option(
    "--scenario", type=ScenarioName(), metavar="NAME_OR_FILE", default="demo", help="What to play (default: demo)."
)
@click.option("--out", type=Value("DIR", Path), help=f"Where to leave the reports (default {DIRECTORY}/<name>-<time>).")
def demo(scenario: str, out: Path | None) -> None:
    """Start a simulator, run a whole sweep against it with live progress, and compare the report with the truth."""
    from batch_cancel.simulator.scenarios import find_scenario  # noqa: PLC0415  # --help needs none of it

    play = find_scenario(scenario)
    directory = out or DIRECTORY / f"{play.name}-{datetime.now(UTC):%Y%m%dT%H%M%SZ}"
    with _simulator(scenario, play.command) as stage:
        told = f"{play.name}: {play.story.strip()}\nGoal: {play.goal.strip()}"
        click.echo(f"{paragraphs(told, columns_of(sys.stderr))}\n", err=True)
        click.echo(f"$ {shlex.join(['batch-cancel', *stage.command])}\n", err=True)
        code = _run_in(stage, [*stage.command, "--out", str(directory)])
        truth = json.load(urlopen(f"{stage.url}/_simulator/truth", timeout=PATIENCE_SECONDS))  # noqa: S310  # ours, http
    report = directory / "report.json"
    if not report.is_file() and code in INTERRUPTED:  # before there was anything to compare, or at once
        sys.exit(code)
    if not report.is_file():
        raise BatchCancelError(f"the sweep left no {report} (exit code {code})")
    agrees = _debrief(truth, json.loads(report.read_text(encoding="utf-8")), code)
    click.echo(f"\nOpen {directory / 'report.html'} in a browser.")
    click.echo(paragraphs(_farewell(directory), columns_of(sys.stdout)))
    click.echo(f"    {shlex.join(['batch-cancel', 'simulate', '--scenario', scenario])}")
    sys.exit(0 if agrees else 1)


def _farewell(directory: Path) -> str:
    """What became of the simulator; of what stands under Next only where something does."""
    from batch_cancel.report.advice import next_steps  # noqa: PLC0415  # --help needs none of it
    from batch_cancel.report.files import opened  # noqa: PLC0415

    with opened(directory) as document:
        advised = any(True for _ in next_steps(document, directory))
    ended = "The simulator has ended with the demo"
    if advised:
        ended += ": what stands under Next is for a service that is still there"
    return f"{ended}. One that keeps running, to go on by hand:"


def _run_in(stage: Stage, arguments: list[str]) -> int:
    """The sweep as a user would start it; it has the terminal."""
    environment = {name: value for name, value in os.environ.items() if name not in OURS}
    nowhere = {"AWS_CONFIG_FILE": os.devnull, "AWS_SHARED_CREDENTIALS_FILE": os.devnull}
    command = [sys.executable, "-m", "batch_cancel", *arguments]
    with subprocess.Popen(command, env=environment | nowhere | stage.variables) as sweep, _signals_for(sweep):  # noqa: S603  # this program, with the arguments of a scenario
        return sweep.wait()


@contextmanager
def _signals_for(sweep: "subprocess.Popen[bytes]") -> Iterator[None]:
    """Inside, signals are the sweep's to end by. A terminal sends it Ctrl-C itself; SIGTERM is handed on."""
    before = {
        signal.SIGINT: signal.signal(signal.SIGINT, lambda _signum, _frame: None),
        signal.SIGTERM: signal.signal(signal.SIGTERM, lambda signum, _frame: sweep.send_signal(signum)),
    }
    try:
        yield
    finally:
        for signum, handler in before.items():
            signal.signal(signum, handler)


@contextmanager
def _simulator(scenario: str, command: str) -> Iterator[Stage]:
    process = subprocess.Popen(  # noqa: S603  # this program
        [sys.executable, "-m", "batch_cancel", "simulate", "--scenario", scenario],
        stdout=subprocess.PIPE,
        stdin=subprocess.DEVNULL,
        text=True,
        start_new_session=True,  # Ctrl-C is for the sweep: the simulator is still needed to compare with
    )
    try:
        assert process.stdout is not None  # noqa: S101  # a pipe was asked for
        variables = _variables(process.stdout)
        program, *arguments = shlex.split(command)
        if program != "batch-cancel":
            raise UsageError(f"the scenario's command is not one of batch-cancel: {command}")
        yield Stage(variables["AWS_ENDPOINT_URL"], variables, arguments)
    finally:
        process.terminate()
        process.wait(PATIENCE_SECONDS)


def _variables(output: IO[str]) -> dict[str, str]:
    """What the simulator says to set."""
    found: dict[str, str] = {}
    for line in output:
        if match := re.fullmatch(r"\s*export (\w+)=(.*)\n", line):
            found[match[1]] = match[2]
        elif len(found) >= 4:  # endpoint, two keys, region
            return found
    raise BatchCancelError("the simulator did not start")


def _debrief(truth: dict[str, Any], report: dict[str, Any], code: int) -> bool:
    """How the drill went: by the simulator's own truth, beside what the report says."""
    states = {
        (transform["account_id"], transform["region"], transform["transform_id"], run["task_run_id"]): run
        for transform in truth["transforms"]
        for run in transform["runs"]
    }
    home = next(iter(states), ("", "", "", ""))[0]
    wrong = [
        run
        for run in report["runs"]
        if not _is_true(
            run["outcome"],
            states.get(_key(run, home)),
        )
    ]
    calls = Counter[str]()
    for entry in truth["calls"]:
        if entry["operation"] == CANCEL:
            calls[entry["result"]] += entry["count"]
    click.echo("\nHow it went, by the simulator's own truth")
    spared = {_key(run, home) for run in report["runs"] if run["outcome"] == "excluded"}
    click.echo(f"  It ended with exit code {code}.")
    click.echo(f"  {_left(states, spared)}.")
    if stuck := sum(run.get("stuck", False) for run in states.values()):
        those = "1 run" if stuck == 1 else f"{stuck:,} runs"
        click.echo(f"  The scenario keeps {those} STOPPING for ever, on purpose: no sweep could have seen the end.")
    throttled = calls.get("ThrottlingException", 0)
    click.echo(f"  {calls.total():,} cancel requests arrived, {throttled:,} of them throttled.")
    told = len(report["runs"])
    click.echo(f"  {told - len(wrong):,} of the report's {told:,} verdicts agree with it.")
    for run in wrong[:10]:
        click.echo(f"    not so: {run['transform_id']} {run['task_run_id']}: {run['outcome']}")
    return not wrong


def _left(states: Mapping[Key, dict[str, Any]], spared: Collection[Key]) -> str:
    """What has not ended in the simulator: ``12 runs are STARTING or RUNNING there (10 ...), 5 are STOPPING``."""
    active = {key for key, run in states.items() if run["status"] in ("STARTING", "RUNNING")}
    stopping = sum(run["status"] == "STOPPING" for run in states.values())
    text = f"{counted(len(active), 'run')} {'is' if len(active) == 1 else 'are'} STARTING or RUNNING there"
    if by_rule := len(active & set(spared)):
        text += f" ({by_rule:,} spared by a rule)"
    return f"{text}, {stopping:,} {'is' if stopping == 1 else 'are'} STOPPING"


def _key(run: Mapping[str, Any], home: str) -> Key:
    return run["account_id"] or home, run["region"], run["transform_id"], run["task_run_id"]


ENDED_BY_ITSELF = frozenset({"SUCCEEDED", "FAILED", "TIMEOUT"})
BORNE_OUT = {
    "stopped": (True, frozenset({"STOPPED"})),
    "finished_first": (True, ENDED_BY_ITSELF),
    "already_finished": (False, ENDED_BY_ITSELF | {"STOPPED"}),
    "stopping": (True, None),
    "stuck_stopping": (True, None),
    "excluded": (False, None),
    "would_cancel": (False, None),
    "not_attempted": (False, None),
}
"""For each verdict, whether the world must have accepted a request, and the statuses that fit (None: any)."""


def _is_true(outcome: str, run: dict[str, Any] | None) -> bool:
    """Whether the world's history of a run bears a verdict out."""
    if run is None or outcome == "not_found":
        return run is None and outcome == "not_found"
    if outcome not in BORNE_OUT:
        return True  # failed, unknown, denied, invalid claim nothing about what the world did
    accepted, statuses = BORNE_OUT[outcome]
    return bool(run["accepted_cancels"]) is accepted and (statuses is None or run["status"] in statuses)
