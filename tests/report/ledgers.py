"""Ledgers as a sweep leaves them: made by the ledger's own writing side, in real files."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from batch_cancel.core.outcome import Outcome
from batch_cancel.core.task_run import Status, Target, TaskRun, Transform
from batch_cancel.ledger.ledger import Ledger, NewRun
from batch_cancel.settings import Cost, ManifestSource, Settings, to_json

START = datetime(2026, 11, 24, 10, 15, tzinfo=UTC)
ACCOUNT = "222222222222"
ARN = f"arn:aws:sts::{ACCOUNT}:assumed-role/BatchCancel/sweep"
ODD_IDS = (
    "<script>alert(1)</script>",
    "\"quotes\" and 'quotes'",
    '=HYPERLINK("http://x","y")',
    "+1",
    "-1",
    "@SUM(A1)",
    "\t=1",
    "comma,semi;tab\tpipe|back`tick`",
    "\u202egnp.exe\u202c \u200f\u2067\u2028\u2029",
    "😀" * 255,
    "</script><img src=x onerror=alert(1)>",
    "{{ 7 * 7 }}",
    "*bold* _it_ [a](http://x) ![i](http://x) # h",
    " leading and trailing ",
    "日本語 العربية",
)
"""Ids that the API's pattern allows."""

Fill = Callable[[Ledger], Awaitable[None]]


def build(directory: Path, fill: Fill) -> Path:
    """A run directory, filled by an async function."""

    async def main() -> None:
        ledger = Ledger.create(directory)
        await fill(ledger)
        await ledger.close()

    asyncio.run(main())
    return directory


async def set_facts(ledger: Ledger, **facts: Any) -> None:  # noqa: ANN401  # JSON values
    """Facts of a sweep that ended well, unless said otherwise."""
    settings = Settings(
        source=ManifestSource(path="runs.csv"),
        cost=Cost(price_per_dpu_hour=0.44, currency="USD", source="price list of 2026-11"),
    )
    known = {
        "sweep_id": "20261124T101500Z-4f2a",
        "tool_version": "0.1.0",
        "name": "nightly",
        "reason": "older than six hours",
        "mode": "cancel",
        "started_at": "2026-11-24T10:15:00.000Z",
        "finished_at": "2026-11-24T10:17:00.000Z",
        "stop_cause": None,
        "exit_code": 1,
        "source": {"kind": "manifest", "path": "runs.csv"},
        "settings": to_json(settings),
        "duplicates": 2,
        "refusal": None,
        "sweeps": 1,
        "digest": None,
    } | facts
    await ledger.set_facts(**known)


async def add_target(ledger: Ledger, region: str = "us-east-1", *, complete: bool = True) -> int:
    target = await ledger.add_target(Target(region, ACCOUNT), ARN)
    ledger.set_listed(target, transforms=2, active_runs=9, complete=complete)
    return target


async def cancel(ledger: Ledger, target: int, run: TaskRun, outcome: Outcome, **evidence: Any) -> None:  # noqa: ANN401
    """One run that was asked for and settled; ``evidence`` are further columns of the ledger."""
    await ledger.add_runs(target, [NewRun(run, outcome=outcome)])
    after = {Outcome.STOPPED: "STOPPED", Outcome.FINISHED_FIRST: "SUCCEEDED", Outcome.FAILED: "RUNNING"}.get(outcome)
    columns = {
        "requested_at": START.timestamp(),
        "attempts": 1,
        "status_after": after,
        "confirmed_at": START.timestamp() + 2 if after else None,
    } | evidence
    assignments = ", ".join(f"{name} = ?" for name in columns)
    sql = f"UPDATE runs SET {assignments} WHERE transform_id = ? AND task_run_id = ?"  # noqa: S608  # our own names
    await ledger.writer.commit([(sql, (*columns.values(), run.transform_id, run.task_run_id))])


def a_run(transform_id: str, task_run_id: str, *, hours: float = 6, **fields: Any) -> TaskRun:  # noqa: ANN401  # of a TaskRun
    """A running task run that has gone on for so long."""
    known: dict[str, Any] = {
        "status": Status.RUNNING,
        "task_type": "FIND_MATCHES",
        "started_on": START - timedelta(hours=hours),
    }
    return TaskRun(transform_id, task_run_id, **(known | fields))


async def every_outcome(ledger: Ledger) -> None:
    """One run of each outcome, one of each odd id, rejected rows, two targets of which one is in trouble."""
    await set_facts(ledger)
    first = await add_target(ledger)
    second = await add_target(ledger, "eu-west-1", complete=False)
    ledger.set_target_error(second, "AccessDeniedException", "no <b>ListMLTransforms</b> | for\nyou")
    ledger.add_transforms(
        first,
        [
            Transform("tfm-ten", name="dedupe-customers", max_capacity=10.0, timeout_minutes=2880, glue_version="2.0"),
            Transform("tfm-five", name="=cmd|' /C calc'!A0", worker_type="G.1X", number_of_workers=5),
        ],
    )
    for outcome in (Outcome.STOPPED, Outcome.STUCK_STOPPING, Outcome.FINISHED_FIRST):
        await cancel(ledger, first, a_run("tfm-ten", f"tsk-{outcome}"), outcome, request_id="req-1")
    troubles: dict[Outcome, tuple[str, str]] = {
        Outcome.FAILED: ("InternalServiceException", "try | later\r\n<b>now</b> `x`"),
        Outcome.UNKNOWN: ("ReadTimeoutError", "no answer"),
        Outcome.DENIED: ("AccessDeniedException", "not yours"),
        Outcome.INVALID: ("InvalidInputException", "=bad"),
        Outcome.NOT_FOUND: ("EntityNotFoundException", "none such"),
    }
    for outcome, (code, message) in troubles.items():
        run = a_run("tfm-five", f"tsk-{outcome}")
        await cancel(ledger, first, run, outcome, error_code=code, error_message=message, throttled=3)
    settled = [
        NewRun(a_run("tfm-ten", "tsk-already", status=Status.SUCCEEDED), outcome=Outcome.ALREADY_FINISHED),
        NewRun(a_run("tfm-ten", "tsk-excluded"), outcome=Outcome.EXCLUDED, rule="protect: tag protected=true"),
        NewRun(a_run("tfm-ten", "tsk-would"), outcome=Outcome.WOULD_CANCEL),
        NewRun(TaskRun("tfm-unknown", "tsk-stopping"), outcome=Outcome.STOPPING, labels={"team": "=1+1", "né": "ü"}),
        NewRun(TaskRun("tfm-unknown", "tsk-pending")),
    ]
    await ledger.add_runs(first, settled)
    await ledger.add_runs(first, [NewRun(TaskRun(f"t{odd}"[:255], odd)) for odd in ODD_IDS], sweep_number=2)
    await ledger.add_runs(first, [NewRun(TaskRun(odd, "in-transform")) for odd in ODD_IDS])
    ledger.reject(7, "a,<b>,c", "task_run_id is empty")
    second_of_start = int(START.timestamp())
    ledger.count_calls(
        [(first, "CancelMLTaskRun", second_of_start + at, 20 + at, at % 3, at % 2, 1, 25.0 + at) for at in range(30)]
    )
    ledger.count_calls([(first, "GetMLTaskRuns", second_of_start + at, 5, 0, 0, 0, None) for at in range(40)])
    await ledger.writer.commit()


async def came_back(ledger: Ledger) -> None:
    """Three sweeps of --until-clear: one run that was active again after its verdict, and two that were new."""
    await set_facts(ledger, sweeps=3)
    target = await add_target(ledger)
    ledger.add_transforms(target, [Transform("tfm-ten", name="dedupe-customers", max_capacity=10.0)])
    again = NewRun(a_run("tfm-ten", "tsk-again"))
    await cancel(ledger, target, again.run, Outcome.STOPPED)
    over = {"error_code": "ReadTimeoutError", "error_message": "no answer"}
    await cancel(ledger, target, a_run("tfm-ten", "tsk-over"), Outcome.STOPPED, **over)
    await cancel(ledger, target, a_run("tfm-ten", "tsk-second"), Outcome.STOPPED, sweep_number=2)
    error = {"error_code": "InternalServiceException", "error_message": "later", "confirmed_at": None}
    await cancel(ledger, target, a_run("tfm-ten", "tsk-third"), Outcome.FAILED, sweep_number=3, **error)
    await ledger.add_runs(target, [again], sweep_number=3, again=True)
    await ledger.writer.commit(
        [("UPDATE runs SET state = 'done', outcome = 'stopped' WHERE task_run_id = 'tsk-again'", ())]
    )


async def many(ledger: Ledger, count: int, *, transforms: int = 40) -> None:
    """Stopped runs, with a few in trouble, as many as asked for."""
    await set_facts(ledger)
    targets: Sequence[int] = [await add_target(ledger, region) for region in ("us-east-1", "eu-west-1", "ap-south-1")]
    for target in targets:
        ledger.add_transforms(
            target,
            [
                Transform(f"tfm-{n:040x}", name=f"dedupe-{n}", max_capacity=float(n % 9 + 2), timeout_minutes=2880)
                for n in range(transforms)
            ],
        )
    await ledger.writer.commit()
    outcomes = [Outcome.STOPPED] * 47 + [Outcome.FAILED, Outcome.ALREADY_FINISHED, Outcome.EXCLUDED]
    for at in range(0, count, 10_000):
        for index, target in enumerate(targets):
            await ledger.add_runs(
                target,
                [
                    NewRun(
                        a_run(f"tfm-{n % transforms:040x}", f"tsk-{n:064x}", hours=n % 50),
                        outcome=outcomes[n * 7 % len(outcomes)],
                    )
                    for n in range(at, min(count, at + 10_000))
                    if n % len(targets) == index
                ],
            )
    start = START.timestamp()
    sql = "UPDATE runs SET requested_at = ? + id * 0.01, confirmed_at = ? + id * 0.01 + 1 + id % 97 * 0.1"
    await ledger.writer.commit([(sql + " WHERE outcome = 'stopped'", (start, start))])
    ledger.count_calls(
        [
            (targets[0], "CancelMLTaskRun", int(start) + at, 90 + at % 17, at % 5, 0, 0, 100.0 - at % 20)
            for at in range(count // 100 + 1)
        ]
    )
    await ledger.writer.commit()
