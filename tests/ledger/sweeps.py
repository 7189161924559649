"""A ledger with a few runs, and what a canceller does to them, in short words."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from batch_cancel.core.task_run import Status, Target, TaskRun, TaskRunKey
from batch_cancel.ledger import LEDGER_NAME, schema
from batch_cancel.ledger.ledger import Answer, ClaimedRun, Ledger, NewRun
from batch_cancel.ledger.reader import LedgerReader, PendingRun

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)
TARGET = Target("eu-west-1", "222222222222")


async def new_ledger(directory: Path, runs: int) -> Ledger:
    """A ledger whose target has the id 1 and whose runs have the ids 1, 2, ..."""
    ledger = Ledger.create(directory)
    target_id = await ledger.add_target(TARGET)
    await ledger.add_runs(target_id, [NewRun(a_run(number)) for number in range(1, runs + 1)])
    return ledger


def a_run(number: int, status: Status | None = Status.RUNNING) -> TaskRun:
    return TaskRun("tfm-1", f"run-{number}", status)


def claimed(row: PendingRun) -> ClaimedRun:
    return ClaimedRun(
        row.id,
        TaskRunKey(row.transform_id, row.task_run_id),
        row.wire_calls + 1,
        intended=True,
        requested_at=row.requested_at,
        tainted=row.tainted,
        attempts=row.attempts,
        throttled=row.throttled,
    )


async def claim(ledger: Ledger, limit: int = 100) -> list[ClaimedRun]:
    runs = [claimed(row) for row in ledger.reader.pending(1, limit)]
    await ledger.claim(runs, NOW)
    return runs


def answer(verdict: str, code: str | None = None) -> Answer:
    return Answer(NOW, NOW, verdict, code, 200 if code is None else 400, "req")


def accept(ledger: Ledger, run: ClaimedRun) -> None:
    """The service accepted the request."""
    run.attempts += 1
    run.requested_at, run.accepted_at = run.requested_at or NOW, NOW
    ledger.answered(run, answer("accepted"))
    ledger.asked(run, accepted=True, refusal=None, status="STOPPING")


@contextmanager
def reading(directory: Path) -> Iterator[LedgerReader]:
    """What another process sees."""
    reader = LedgerReader(directory / LEDGER_NAME)
    try:
        yield reader
    finally:
        reader.close()


def rows(directory: Path, sql: str) -> list[tuple[object, ...]]:
    """The bytes' own truth."""
    connection = schema.open_read_only(directory / LEDGER_NAME)
    try:
        return [tuple(row) for row in connection.execute(sql)]
    finally:
        connection.close()
