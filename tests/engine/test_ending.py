"""What a sweep has come to: its exit code by what the ledger holds."""

import asyncio
from pathlib import Path

import pytest

from batch_cancel.core.outcome import Outcome
from batch_cancel.core.task_run import Target, TaskRun
from batch_cancel.engine.ending import Result, result
from batch_cancel.ledger.ledger import Ledger, NewRun
from batch_cancel.settings import Settings
from batch_cancel.stop import StopCause
from tests.sweeps import settings


async def come_to(directory: Path, outcome: Outcome, wanted: Settings, cause: StopCause | None = None) -> Result:
    """What a sweep has come to whose one run has this outcome, and that looked at everything."""
    ledger = Ledger.create(directory)
    target_id = await ledger.add_target(Target("us-east-1", "1" * 12))
    ledger.set_listed(target_id, transforms=1, active_runs=1, complete=True)
    await ledger.set_facts(left_out=[])
    settled = None if outcome is Outcome.NOT_ATTEMPTED else outcome
    await ledger.add_runs(target_id, [NewRun(TaskRun("tfm-1", "run-1"), outcome=settled)])
    assert ledger.reader.outcomes() == {outcome: 1}
    told = result(wanted, ledger.reader, [], cause=cause, unresolved=[], interrupted_code=lambda: 143)
    await ledger.close()
    return told


@pytest.mark.parametrize(
    ("outcome", "exit_code"),
    [
        (Outcome.STOPPED, 0),
        (Outcome.STOPPING, 0),
        (Outcome.FINISHED_FIRST, 0),
        (Outcome.ALREADY_FINISHED, 0),
        (Outcome.EXCLUDED, 0),
        (Outcome.WOULD_CANCEL, 0),
        (Outcome.FAILED, 1),
        (Outcome.UNKNOWN, 1),
        (Outcome.STUCK_STOPPING, 1),
        (Outcome.DENIED, 1),
        (Outcome.INVALID, 1),
        (Outcome.NOT_FOUND, 1),
        (Outcome.NOT_ATTEMPTED, 1),
    ],
)
def test_one_run_decides_the_exit_code(tmp_path: Path, outcome: Outcome, exit_code: int) -> None:
    assert asyncio.run(come_to(tmp_path / "a", outcome, settings())) == Result(exit_code)
    forgiving = settings(ignore_not_found=True)
    forgiven = 0 if outcome is Outcome.NOT_FOUND else exit_code
    assert asyncio.run(come_to(tmp_path / "b", outcome, forgiving)) == Result(forgiven)
    interrupted = asyncio.run(come_to(tmp_path / "c", outcome, settings(), StopCause.INTERRUPTED))
    assert interrupted == Result(143, StopCause.INTERRUPTED)


@pytest.mark.parametrize("cause", [StopCause.DEADLINE, StopCause.MAX_ERRORS])
def test_a_stop_that_left_nothing_undone_is_none(tmp_path: Path, cause: StopCause) -> None:
    left = {Outcome.NOT_ATTEMPTED, Outcome.UNKNOWN}  # nobody knows what became of it: reading it is left
    for outcome in Outcome:
        told = asyncio.run(come_to(tmp_path / outcome, outcome, settings(), cause))
        assert (told == Result(5, cause)) is (outcome in left), outcome
    endless = asyncio.run(come_to(tmp_path / "endless", Outcome.STOPPED, settings(until_clear=True), cause))
    assert endless == Result(5, cause)  # it was to go on until a listing was clear
