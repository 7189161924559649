"""``demo``: what it says after the sweep, of the simulator's truth and of what to do next."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from batch_cancel.cli.demo import _debrief, _farewell
from batch_cancel.core.outcome import Outcome
from batch_cancel.ledger.ledger import Ledger, NewRun
from tests.report.ledgers import a_run, add_target, build, set_facts


def world(**statuses: str) -> dict[str, Any]:
    """A simulator's truth: one transform with these runs, each asked once unless it is active."""
    runs = [
        {"task_run_id": name, "status": status, "accepted_cancels": int(status not in ("STARTING", "RUNNING"))}
        for name, status in statuses.items()
    ]
    place = {"account_id": "111111111111", "region": "us-east-1", "transform_id": "t"}
    return {"transforms": [place | {"runs": runs}], "calls": []}


def report(**outcomes: str) -> dict[str, Any]:
    """A report of the same transform."""
    place = {"account_id": None, "region": "us-east-1", "transform_id": "t"}
    return {"runs": [place | {"task_run_id": name, "outcome": outcome} for name, outcome in outcomes.items()]}


@pytest.mark.parametrize(
    ("statuses", "outcomes", "says"),
    [
        (
            {"a": "RUNNING", "b": "STARTING", "c": "STOPPING", "d": "STOPPED", "e": "SUCCEEDED"},
            {"a": "excluded", "b": "failed", "c": "stuck_stopping", "d": "stopped", "e": "finished_first"},
            "  2 runs are STARTING or RUNNING there (1 spared by a rule), 1 is STOPPING.",
        ),
        (
            {"a": "STOPPING", "b": "STOPPING"},
            {"a": "stuck_stopping", "b": "stopping"},
            "  0 runs are STARTING or RUNNING there, 2 are STOPPING.",
        ),
    ],
)
def test_what_is_stopping_is_told_apart_from_what_runs(
    statuses: dict[str, str], outcomes: dict[str, str], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _debrief(world(**statuses), report(**outcomes), 1)
    assert says in capsys.readouterr().out


def test_runs_that_the_scenario_keeps_stuck_are_told_as_its_doing(capsys: pytest.CaptureFixture[str]) -> None:
    truth = world(a="STOPPING", b="STOPPING", c="STOPPED")
    for run in truth["transforms"][0]["runs"][:2]:
        run["stuck"] = True
    assert _debrief(truth, report(a="stuck_stopping", b="stuck_stopping", c="stopped"), 1)
    assert "The scenario keeps 2 runs STOPPING for ever, on purpose" in capsys.readouterr().out
    assert _debrief(world(a="STOPPING"), report(a="stuck_stopping"), 1)
    assert "on purpose" not in capsys.readouterr().out


@pytest.mark.parametrize(("outcome", "advised"), [(Outcome.STOPPED, False), (Outcome.STUCK_STOPPING, True)])
def test_next_is_spoken_of_only_where_it_stands(tmp_path: Path, outcome: Outcome, *, advised: bool) -> None:
    async def fill(ledger: Ledger) -> None:
        await set_facts(ledger)
        await ledger.add_runs(await add_target(ledger), [NewRun(a_run("t", "r"), outcome=outcome)])

    assert ("under Next" in _farewell(build(tmp_path / "run", fill))) is advised


def test_a_signal_is_the_sweep_s_to_end_by_and_is_told_of_afterwards(tmp_path: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "batch_cancel", "demo", "--out", str(tmp_path / "out")],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        env=os.environ | {"XDG_STATE_HOME": str(tmp_path)},
    )
    assert process.stderr is not None
    while "cancel: begins" not in (line := process.stderr.readline()):
        assert line, process.communicate()
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 0, out  # every verdict is true
    assert "It ended with exit code 130." in out
    assert json.loads((tmp_path / "out" / "report.json").read_text())["stop_cause"] == "interrupted"


def test_a_sweep_that_a_signal_ended_before_there_was_a_report_is_no_error(tmp_path: Path) -> None:
    program = (
        "from batch_cancel.__main__ import main\n"
        "from batch_cancel.cli import demo\n"
        "import subprocess, sys\n"
        "demo._run_in = lambda *_: subprocess.call([sys.executable, '-c', 'raise SystemExit(143)'])\n"
        "main()\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, "demo", "--out", "out"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 143
    assert "error" not in done.stderr and not done.stdout
