import csv
import io
import json
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from batch_cancel.core.outcome import TROUBLE_FIRST, Outcome
from batch_cancel.core.task_run import Status, TaskRun, Transform
from batch_cancel.ledger.ledger import Ledger, NewRun
from batch_cancel.ledger.reader import LedgerReader
from batch_cancel.manifest import ManifestRow, read_manifest
from batch_cancel.report.csv import write_csv
from batch_cancel.report.document import RUN_FIELDS, summary
from batch_cancel.report.files import opened
from batch_cancel.report.story import cost_in_words
from tests.report.ledgers import (
    ACCOUNT,
    ARN,
    ODD_IDS,
    a_run,
    add_target,
    build,
    came_back,
    cancel,
    every_outcome,
    many,
    set_facts,
)

CONTRACT_FIELDS = [
    *("schema", "tool_version", "sweep_id", "name", "reason", "mode", "started_at", "finished_at", "complete"),
    *("stop_cause", "exit_code", "source", "targets", "totals", "rejected", "runs"),
]
CONTRACT_TOTALS = [
    *("runs", "duplicates", "rejected", "outcomes", "api_calls", "throttled", "retries"),
    *("estimated_dpu_hours", "estimated_cost"),
]
CONTRACT_RUN = (
    *("account_id", "region", "transform_id", "transform_name", "task_run_id", "task_type", "started_on"),
    *("status_before", "outcome", "status_after", "rule", "attempts", "throttled", "error_code", "error_message"),
    *("request_id", "requested_at", "confirmed_at", "labels"),
)


@pytest.fixture(scope="module")
def full(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("full") / "run dir", every_outcome)


def report_of(directory: Path) -> dict[str, Any]:
    with opened(directory) as document:
        out = io.StringIO()
        document.write_json(out)
    report: dict[str, Any] = json.loads(out.getvalue())
    return report


def test_the_document_has_the_contracts_fields_in_its_order(full: Path) -> None:
    report = report_of(full)
    assert [key for key in report if key in CONTRACT_FIELDS] == CONTRACT_FIELDS
    assert [key for key in report["totals"] if key in CONTRACT_TOTALS] == CONTRACT_TOTALS
    assert RUN_FIELDS[: len(CONTRACT_RUN)] == CONTRACT_RUN
    assert all(tuple(run) == RUN_FIELDS for run in report["runs"])
    assert list(report["targets"][0])[:7] == [
        *("account_id", "region", "identity_arn", "complete", "transforms", "active_runs", "error")
    ]
    assert list(report["rejected"][0]) == ["line", "text", "error"]


def test_every_outcome_is_there_and_counted(full: Path) -> None:
    report = report_of(full)
    counted = Counter(run["outcome"] for run in report["runs"])
    assert report["totals"]["outcomes"] == counted
    assert set(counted) == set(Outcome) == set(TROUBLE_FIRST)
    assert report["totals"]["runs"] == len(report["runs"]) == 13 + 2 * len(ODD_IDS)
    assert report["totals"]["rejected"] == len(report["rejected"]) == 1
    assert report["totals"]["duplicates"] == 2


def test_ids_are_exact(full: Path) -> None:
    runs = report_of(full)["runs"]
    assert [run["task_run_id"] for run in runs if run["sweep_number"] == 2] == list(ODD_IDS)
    assert [run["transform_id"] for run in runs if run["task_run_id"] == "in-transform"] == list(ODD_IDS)


def test_the_summary_is_the_report_without_its_runs(full: Path) -> None:
    report = report_of(full)
    del report["runs"]
    reader = LedgerReader(full / "ledger.db")
    assert summary(reader) == report
    reader.close()


def test_calls_throttles_failures_and_retries_add_up(full: Path) -> None:
    totals = report_of(full)["totals"]
    assert totals["api_calls"] == {"CancelMLTaskRun": sum(20 + at for at in range(30)), "GetMLTaskRuns": 200}
    assert totals["throttled"] == sum(at % 3 for at in range(30))
    assert totals["failed"] == sum(at % 2 for at in range(30))
    assert totals["retries"] == 30


def test_a_target_in_trouble_says_so(full: Path) -> None:
    good, bad = report_of(full)["targets"]
    assert (good["account_id"], good["region"], good["identity_arn"]) == (ACCOUNT, "us-east-1", ARN)
    assert (good["complete"], good["error"]) == (True, None)
    assert bad["complete"] is False
    assert bad["error"] == {"code": "AccessDeniedException", "message": "no <b>ListMLTransforms</b> | for\nyou"}


def test_times_are_utc_with_z(full: Path) -> None:
    run = next(run for run in report_of(full)["runs"] if run["outcome"] == "stopped")
    assert run["started_on"] == "2026-11-24T04:15:00.000Z"
    assert run["requested_at"] == "2026-11-24T10:15:00.000Z"
    assert run["confirmed_at"] == "2026-11-24T10:15:02.000Z"
    assert run["stopped_after_seconds"] == 2.0


def test_what_is_not_known_is_null(full: Path) -> None:
    run = next(run for run in report_of(full)["runs"] if run["task_run_id"] == "tsk-pending")
    unknown = {name for name, value in run.items() if value is None}
    assert unknown == set(RUN_FIELDS) - {
        *("account_id", "region", "transform_id", "task_run_id", "outcome", "attempts", "throttled", "labels"),
        *("sweep_number", "returns"),
    }
    assert (run["outcome"], run["labels"]) == ("not_attempted", {})


def test_a_run_tells_how_often_it_was_active_again(tmp_path: Path) -> None:
    directory = build(tmp_path / "run", came_back)
    runs = {run["task_run_id"]: (run["sweep_number"], run["returns"]) for run in report_of(directory)["runs"]}
    assert runs == {
        "tsk-again": (3, 1),
        "tsk-over": (1, 0),
        "tsk-second": (2, 0),
        "tsk-third": (3, 0),
    }


def test_the_csv_holds_the_same_runs(full: Path) -> None:
    with opened(full) as document:
        out = io.StringIO(newline="")
        write_csv(document, out)
    header, *lines = csv.reader(io.StringIO(out.getvalue(), newline=""))
    assert tuple(header) == RUN_FIELDS
    runs = report_of(full)["runs"]
    assert len(lines) == len(runs)
    for line, run in zip(lines, runs, strict=True):
        cells = dict(zip(header, line, strict=True))
        for name, value in run.items():
            shown = json.loads(cells[name] or "{}") if name == "labels" else cells[name]
            expected = value if name == "labels" else "" if value is None else str(value)
            assert shown in (expected, f"'{expected}"), name


def test_estimates_and_what_they_leave_out(tmp_path: Path) -> None:
    async def fill(ledger: Ledger) -> None:
        await set_facts(ledger)
        target = await add_target(ledger)
        ledger.add_transforms(target, [Transform("ten", max_capacity=10.0, timeout_minutes=600), Transform("none")])
        await cancel(ledger, target, a_run("ten", "told", execution_time_seconds=3600), Outcome.STOPPED)
        await cancel(ledger, target, a_run("ten", "reckoned", hours=5), Outcome.FAILED)
        await cancel(ledger, target, a_run("ten", "until it was seen", hours=1), Outcome.STOPPED)
        await cancel(ledger, target, a_run("ten", "stuck", hours=9.99), Outcome.STUCK_STOPPING)
        await cancel(ledger, target, a_run("none", "no capacity"), Outcome.STOPPED)
        ended = a_run("ten", "ended", status=Status.SUCCEEDED, execution_time_seconds=1800)
        await ledger.add_runs(target, [NewRun(ended, outcome=Outcome.ALREADY_FINISHED)])
        ended = a_run("ten", "ended, when is not told", status=Status.SUCCEEDED)
        await ledger.add_runs(target, [NewRun(ended, outcome=Outcome.ALREADY_FINISHED)])

    report = report_of(build(tmp_path / "run", fill))
    estimates = {run["task_run_id"]: (run["estimated_dpu_hours"], run["at_most_dpu_hours"]) for run in report["runs"]}
    assert estimates == {
        "told": (10.0, 100.0),
        "reckoned": (50.3333, 100.0),  # until the sweep's end, two minutes after the request
        "until it was seen": (10.0056, 100.0),  # two seconds after the request
        "stuck": (100.0, 100.0),  # never more than until the time-out
        "no capacity": (None, None),
        "ended": (5.0, None),
        "ended, when is not told": (None, None),
    }
    totals = report["totals"]
    assert totals["estimated_dpu_hours"] == pytest.approx(175.3389)
    assert totals["at_most_dpu_hours"] == 400.0
    assert totals["runs_without_estimate"] == 2
    assert totals["estimated_cost"] == {
        "amount": 77.15,
        "currency": "USD",
        "price_per_dpu_hour": 0.44,
        "source": "price list of 2026-11",
    }


def test_what_the_runs_that_were_left_alone_use_is_told_apart(tmp_path: Path) -> None:
    async def fill(ledger: Ledger) -> None:
        await set_facts(ledger)
        target = await add_target(ledger)
        ledger.add_transforms(target, [Transform("ten", max_capacity=10.0, timeout_minutes=600)])
        await cancel(ledger, target, a_run("ten", "ours", execution_time_seconds=3600), Outcome.STOPPED)
        others = a_run("ten", "theirs", execution_time_seconds=7200)
        await ledger.add_runs(target, [NewRun(others, outcome=Outcome.EXCLUDED, rule="younger than 1h")])

    directory = build(tmp_path / "run", fill)
    totals = report_of(directory)["totals"]
    selected = totals["selected"]
    assert (totals["estimated_dpu_hours"], totals["at_most_dpu_hours"]) == (30.0, 200.0)
    assert (selected["runs"], selected["estimated_dpu_hours"], selected["at_most_dpu_hours"]) == (1, 10.0, 100.0)
    assert (totals["estimated_cost"]["amount"], selected["estimated_cost"]["amount"]) == (13.2, 4.4)
    with opened(directory) as document:
        assert list(cost_in_words(document)) == [
            (
                "Estimated 10.0 DPU-hours used so far, without the runs that were left alone; estimated 4.40 USD at"
                " 0.44 a DPU-hour (price list of 2026-11)."
            ),
            "At most 100.0 DPU-hours, if each of them had gone on until its time-out.",
            "Estimated 20.0 DPU-hours used so far by the runs that were left alone.",
        ]


def test_no_price_and_no_capacity_make_no_estimate(tmp_path: Path) -> None:
    async def fill(ledger: Ledger) -> None:
        await set_facts(ledger, settings="not JSON")
        target = await add_target(ledger)
        await cancel(ledger, target, a_run("t", "r"), Outcome.STOPPED)

    totals = report_of(build(tmp_path / "run", fill))["totals"]
    assert (totals["estimated_dpu_hours"], totals["at_most_dpu_hours"], totals["estimated_cost"]) == (None, None, None)


async def _one_stopped(ledger: Ledger, **facts: Any) -> int:  # noqa: ANN401  # JSON values
    await set_facts(ledger, **facts)
    target = await add_target(ledger)
    await cancel(ledger, target, a_run("t", "r"), Outcome.STOPPED)
    return target


@pytest.mark.parametrize(
    ("facts", "complete"),
    [({}, True), ({"stop_cause": "deadline"}, False), ({"finished_at": None}, False)],
)
def test_complete_is_what_ended_by_itself(tmp_path: Path, facts: dict[str, Any], complete: bool) -> None:
    async def fill(ledger: Ledger) -> None:
        await _one_stopped(ledger, **facts)

    assert report_of(build(tmp_path / "run", fill))["complete"] is complete


def test_work_left_or_a_listing_that_failed_is_not_complete(tmp_path: Path) -> None:
    async def left(ledger: Ledger) -> None:
        target = await _one_stopped(ledger)
        await ledger.add_runs(target, [NewRun(TaskRun("t", "left"))])

    async def failed(ledger: Ledger) -> None:
        await _one_stopped(ledger)
        await add_target(ledger, "eu-west-1", complete=False)

    assert report_of(build(tmp_path / "left", left))["complete"] is False
    assert report_of(build(tmp_path / "failed", failed))["complete"] is False


def test_a_ledger_of_a_killed_process_is_reported_as_it_stands(tmp_path: Path) -> None:
    async def fill(ledger: Ledger) -> None:
        await ledger.set_facts(sweep_id="s", mode="cancel", started_at="2026-11-24T10:15:00Z")
        target = await add_target(ledger)
        ledger.add_transforms(target, [Transform("t", max_capacity=1.0)])
        await ledger.add_runs(target, [NewRun(a_run("t", name)) for name in ("claimed", "asked", "pending")])
        await ledger.writer.commit(
            [
                ("UPDATE runs SET state = 'claimed' WHERE task_run_id = 'claimed'", ()),
                ("UPDATE runs SET state = 'asked', accepted = 1 WHERE task_run_id = 'asked'", ()),
            ]
        )

    report = report_of(build(tmp_path / "run", fill))
    assert [run["outcome"] for run in report["runs"]] == ["unknown", "stopping", "not_attempted"]
    assert report["totals"]["estimated_dpu_hours"] is None  # nobody knows how long they went on
    unknown = {key for key, value in report.items() if value is None}
    assert unknown >= {"tool_version", "name", "reason", "finished_at", "stop_cause", "exit_code", "source"}
    assert report["complete"] is False


def test_an_empty_ledger_makes_a_report(tmp_path: Path) -> None:
    async def fill(_: Ledger) -> None:
        return

    report = report_of(build(tmp_path / "run", fill))
    assert (report["targets"], report["rejected"], report["runs"]) == ([], [], [])
    assert report["totals"]["runs"] == 0


def test_a_report_serves_as_the_manifest_of_what_is_left(full: Path, tmp_path: Path) -> None:
    path = tmp_path / "report.json"
    path.write_text(json.dumps(report_of(full), ensure_ascii=False))
    rows = list(read_manifest(str(path), None))
    assert all(isinstance(row, ManifestRow) for row in rows)
    left = {
        (run["transform_id"], run["task_run_id"])
        for run in report_of(full)["runs"]
        if run["outcome"] not in ("stopped", "finished_first", "already_finished", "excluded", "not_found")
    }
    assert {(row.transform_id, row.task_run_id) for row in rows if isinstance(row, ManifestRow)} == left


def test_many_runs_are_streamed_in_bounded_memory(tmp_path: Path) -> None:
    directory = build(tmp_path / "run", lambda ledger: many(ledger, 20_000))
    program = """
import resource, sys
from pathlib import Path
from batch_cancel.report.files import write_reports
from batch_cancel.settings import ReportFormat
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
write_reports(Path(sys.argv[1]), [ReportFormat.JSON])
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""
    done = subprocess.run([sys.executable, "-c", program, str(directory)], capture_output=True, text=True, check=True)
    assert int(done.stdout) < 6_000, f"{done.stdout} KiB more"
    size = (directory / "report.json").stat().st_size
    assert size > 14_000_000
