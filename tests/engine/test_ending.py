"""What a sweep has come to: exit codes by what the ledger holds; closed regions, told from wrong credentials."""

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest

from batch_cancel.core.outcome import Outcome
from batch_cancel.core.task_run import Access, Target, TaskRun
from batch_cancel.engine.ending import Result, explain_closed_regions, result
from batch_cancel.ledger.ledger import Ledger, NewRun
from batch_cancel.settings import Settings
from batch_cancel.stop import StopCause
from tests.sweeps import settings

CLOSED = "eu-south-1"


class Counted(Target):
    """A target that counts how often it is compared with another."""

    compared = 0

    def __eq__(self, other: object) -> bool:
        Counted.compared += 1
        return super().__eq__(other)

    __hash__ = Target.__hash__


def test_closed_regions_of_many_accounts_are_explained_without_comparing_each_target_with_each(tmp_path: Path) -> None:
    accounts = [f"{number:012}" for number in range(300)]
    targets = [
        Counted(region, account, Access(role_arn=f"arn:aws:iam::{account}:role/X"))
        for account in accounts
        for region in ("us-east-1", CLOSED)
    ]

    async def main() -> None:
        ledger = Ledger.create(tmp_path / "run")
        for target in targets:
            target_id = await ledger.add_target(target)
            if target.region == CLOSED:
                ledger.set_target_error(target_id, "UnrecognizedClientException", "The token is invalid.")
        await ledger.writer.commit()
        rows = [replace(row, target=own) for row, own in zip(ledger.reader.targets(), targets, strict=True)]
        Counted.compared = 0
        closed = explain_closed_regions(ledger, rows, [target for target in targets if target.region != CLOSED])
        await ledger.writer.commit()
        assert closed == {CLOSED: len(accounts)}
        assert Counted.compared <= len(targets)
        explained = [row.error_message for row in ledger.reader.targets() if row.error_message is not None]
        said = "the region is not enabled for this account; in the service's words: The token is invalid."
        assert explained == [said] * len(accounts)
        await ledger.close()

    asyncio.run(main())


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
