"""``demo``: what it says after the sweep, of the simulator's truth and of what to do next."""

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


@pytest.mark.parametrize(("outcome", "advised"), [(Outcome.STOPPED, False), (Outcome.STUCK_STOPPING, True)])
def test_next_is_spoken_of_only_where_it_stands(tmp_path: Path, outcome: Outcome, *, advised: bool) -> None:
    async def fill(ledger: Ledger) -> None:
        await set_facts(ledger)
        await ledger.add_runs(await add_target(ledger), [NewRun(a_run("t", "r"), outcome=outcome)])

    assert ("under Next" in _farewell(build(tmp_path / "run", fill))) is advised
