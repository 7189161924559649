"""``merge``: every run once, the sums of the parts, and what is missing named."""

import asyncio
import json
import shutil
import sqlite3
from collections import Counter
from collections.abc import Sequence
from contextlib import closing
from datetime import UTC, datetime
from itertools import product
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from batch_cancel.cli.merge import merge as command
from batch_cancel.cli.run import resume
from batch_cancel.core.errors import InputError, LedgerError, UsageError
from batch_cancel.core.outcome import Outcome
from batch_cancel.ledger import LEDGER_NAME
from batch_cancel.ledger.ledger import Ledger
from batch_cancel.ledger.reader import RejectedRow
from batch_cancel.report.document import SCHEMA as REPORT_SCHEMA
from batch_cancel.report.files import opened, write_reports
from batch_cancel.report.merge import STRENGTH, exit_code_of_all, merge, sweep_id_of
from batch_cancel.report.story import troubles
from batch_cancel.settings import Consent, Cost, Guardrails, ReportFormat, Settings, TargetSettings
from batch_cancel.shards import Part, Sharding
from batch_cancel.simulator.settings import Fault, FaultKind, FleetSettings, WorldSettings
from tests.scratch import scratch
from tests.sweeps import Play, settings

ACCOUNTS = ("111111111111", "222222222222", "333333333333")
WORLD = WorldSettings(
    fleet=FleetSettings(accounts=ACCOUNTS, transforms=6, runs=12),
    faults=(Fault(FaultKind.INTERNAL, 0.2, operations=("GetMLTaskRuns",)),),
)
COST = Cost(price_per_dpu_hour=0.44, currency="USD", source="sweep file")


def part(home: Path, number: int, **changes: Any) -> Path:  # noqa: ANN401  # fields of Settings, each of its own type
    """A sweep of one of the accounts, with its report.json."""
    play = Play(world_settings=WORLD, directory=home / f"part-{number}")
    there = (TargetSettings(role_name="R", accounts=(ACCOUNTS[number],), regions=("us-east-1",)),)
    wanted: Settings = settings(targets=there, name="nightly", cost=COST, **changes)
    _run(play, wanted, f"s-{number:04}")
    write_reports(play.directory, (ReportFormat.JSON,))
    return play.directory


def _run(play: Play, wanted: Settings, sweep_id: str) -> None:
    play.sweep(wanted)
    _facts(play.directory, sweep_id=sweep_id)  # Play gives all its sweeps one id


def _facts(directory: Path, **facts: object) -> None:
    async def write() -> None:
        ledger = Ledger.open(directory)
        await ledger.set_facts(**facts)
        await ledger.close()

    asyncio.run(write())


def report(directory: Path) -> dict[str, Any]:
    write_reports(directory, (ReportFormat.JSON,))
    found: dict[str, Any] = json.loads((directory / "report.json").read_text())
    return found


def keys(told: dict[str, Any]) -> Counter[tuple[str, ...]]:
    return Counter(
        (run["account_id"], run["region"], run["transform_id"], run["task_run_id"], run["outcome"])
        for run in told["runs"]
    )


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    home = tmp_path_factory.mktemp("parts")
    return [part(home, number) for number in range(3)]


@pytest.mark.parametrize("kept", ["directory", "ledger", "report", "both"])
def test_every_run_stands_in_the_whole_once_and_the_sums_are_the_parts(
    parts: list[Path], tmp_path: Path, kept: str
) -> None:
    paths = {
        "directory": parts,
        "ledger": [path / LEDGER_NAME for path in parts],
        "report": [path / "report.json" for path in parts],
        "both": [parts[0], parts[1] / "report.json", parts[2] / LEDGER_NAME],
    }[kept]
    assert merge(paths, tmp_path / "whole", sweep_id="whole") == 0
    whole, told = report(tmp_path / "whole"), [report(path) for path in parts]
    assert keys(whole) == sum((keys(one) for one in told), Counter())
    assert (whole["sweep_id"], whole["name"], whole["complete"], whole["exit_code"]) == ("whole", "nightly", True, 0)
    assert {target["account_id"] for target in whole["targets"]} == set(ACCOUNTS)
    calls = sum((Counter(one["totals"]["api_calls"]) for one in told), Counter())
    assert whole["totals"]["api_calls"] == calls
    for name in ("runs", "throttled", "failed", "retries"):
        assert whole["totals"][name] == sum(one["totals"][name] for one in told)
    assert whole["totals"]["failed"] > 0
    assert whole["source"] == {"kind": "discovery", "parts": 3}
    if kept in ("directory", "ledger"):  # a report has no capacities, and nothing is guessed
        hours = sum(one["totals"]["estimated_dpu_hours"] for one in told)
        assert whole["totals"]["estimated_dpu_hours"] == pytest.approx(hours, abs=0.01)
        assert whole["totals"]["estimated_cost"]["price_per_dpu_hour"] == 0.44
        strip = {"estimated_dpu_hours", "at_most_dpu_hours"}
        rows = {run["task_run_id"]: run for one in told for run in one["runs"]}
        for run in whole["runs"]:
            assert {k: v for k, v in run.items() if k not in strip} == {
                k: v for k, v in rows[run["task_run_id"]].items() if k not in strip
            }


def test_the_audit_trail_is_kept(parts: list[Path], tmp_path: Path) -> None:
    merge(parts, tmp_path / "whole", sweep_id="whole")

    def attempts(directory: Path) -> int:
        with closing(sqlite3.connect(directory / LEDGER_NAME)) as connection:
            return int(connection.execute("SELECT count(*) FROM attempts").fetchone()[0])

    assert attempts(tmp_path / "whole") == sum(attempts(path) for path in parts) > 0


def test_a_part_of_the_first_version_is_taken_in(parts: list[Path], tmp_path: Path) -> None:
    """It has a column for tags, which no other ledger has."""
    old = tmp_path / LEDGER_NAME
    shutil.copy(parts[0] / LEDGER_NAME, old)
    with closing(sqlite3.connect(old)) as connection:
        connection.execute("ALTER TABLE transforms ADD COLUMN tags TEXT")
        connection.execute("PRAGMA user_version = 1")
        connection.commit()
    merge([old, *parts[1:]], tmp_path / "whole", sweep_id="whole")
    merge(parts, tmp_path / "the same", sweep_id="whole")
    assert report(tmp_path / "whole")["runs"] == report(tmp_path / "the same")["runs"]


def test_all_formats_are_made_of_it(parts: list[Path], tmp_path: Path) -> None:
    merge(parts, tmp_path / "whole", sweep_id="whole")
    assert len(write_reports(tmp_path / "whole", tuple(ReportFormat))) == 4


@pytest.mark.parametrize("first", [True, False])
def test_of_a_run_that_two_parts_know_the_stronger_verdict_stays(tmp_path: Path, *, first: bool) -> None:
    play = Play(world_settings=WORLD)
    there = (TargetSettings(role_name="R", accounts=ACCOUNTS[:1], regions=("us-east-1",)),)
    _run(play, settings(targets=there), "a")
    runs = report(play.directory)["runs"]
    again, play.directory = play.directory, play.directory.with_name("again")
    play.clock += 60.0  # beyond the doubt of two clocks
    listed = tmp_path / "runs.json"
    listed.write_text(json.dumps([{k: run[k] for k in ("transform_id", "task_run_id")} for run in runs]))
    from batch_cancel.settings import ManifestSource

    _run(play, settings(targets=there, source=ManifestSource(path=str(listed))), "b")
    assert {row.outcome for row in play.rows()} == {Outcome.ALREADY_FINISHED}
    order = [again, play.directory] if first else [play.directory, again]
    merge(order, tmp_path / "whole", sweep_id="whole")
    whole = report(tmp_path / "whole")
    assert whole["totals"]["outcomes"] == {"stopped": len(runs)}
    assert whole["totals"]["duplicates"] == len(runs)
    assert len(whole["targets"]) == 1


def written(folder: Path, sweep_id: str, runs: Sequence[dict[str, Any]], **changes: Any) -> Path:  # noqa: ANN401
    """A part of which a report.json is left, with a run for each of ``runs``' changes."""
    target = {"account_id": ACCOUNTS[0], "region": "us-east-1", "identity_arn": None, "complete": True, "error": None}
    unsaid = (
        *("transform_name", "task_type", "started_on", "status_before", "status_after", "rule", "error_code"),
        *("error_message", "request_id", "requested_at", "confirmed_at", "labels"),
    )
    run = dict.fromkeys(unsaid)
    place = {"account_id": ACCOUNTS[0], "region": "us-east-1", "transform_id": "t", "task_run_id": "r"}
    told: dict[str, Any] = {
        "schema": REPORT_SCHEMA,
        "sweep_id": sweep_id,
        "mode": "cancel",
        "started_at": "2026-11-25T00:00:00Z",
        "finished_at": "2026-11-25T00:01:00Z",
        "exit_code": 0,
        "source": {"kind": "discovery"},
        "totals": {"duplicates": 0, "throttled": 0, "retries": 0, "api_calls": {}},
        "targets": [target | {"transforms": 1, "active_runs": None}],
        "rejected": [],
        **changes,
        "runs": [run | place | {"outcome": "stopped", "attempts": 1, "throttled": 0} | one for one in runs],
    }
    path = folder / f"{sweep_id}.json"
    path.write_text(json.dumps(told))
    return path


def merged(folder: Path, name: str, *parts: Path) -> Path:
    merge(parts, folder / name, sweep_id=name)
    return folder / name


def runs_of(directory: Path) -> list[dict[str, Any]]:
    with opened(directory) as document:
        return sorted(document.runs(), key=lambda run: str(run["task_run_id"]))


@pytest.mark.parametrize(
    ("one", "other", "whole"),
    [
        ("failed", "already_finished", "already_finished"),  # one saw it ended
        ("unknown", "already_finished", "already_finished"),
        ("stopping", "already_finished", "already_finished"),
        ("stuck_stopping", "already_finished", "already_finished"),
        ("stopped", "already_finished", "stopped"),  # and it was we who asked
        ("finished_first", "already_finished", "finished_first"),
        ("stuck_stopping", "failed", "stuck_stopping"),  # Glue has accepted a request
        ("stopping", "not_found", "stopping"),
        ("unknown", "failed", "unknown"),  # the reading may be from before the request that may have arrived
        ("unknown", "not_found", "unknown"),
        ("unknown", "denied", "unknown"),  # a request may have arrived
        ("unknown", "not_attempted", "unknown"),
        ("denied", "not_attempted", "denied"),
        ("would_cancel", "excluded", "would_cancel"),
        ("excluded", "not_attempted", "excluded"),
    ],
)
def test_of_two_verdicts_one_stays_with_the_requests_of_both(tmp_path: Path, one: str, other: str, whole: str) -> None:
    asked = {"requested_at": "2026-11-25T00:00:20Z", "attempts": 2, "throttled": 3}
    parts = [written(tmp_path, "a", [{"outcome": one, **asked}]), written(tmp_path, "b", [{"outcome": other}])]
    for name, order in (("ab", parts), ("ba", parts[::-1])):
        [run_] = runs_of(merged(tmp_path, name, *order))
        assert run_["outcome"] == whole
        assert (run_["attempts"], run_["throttled"]) == (3, 3)
        assert run_["requested_at"].startswith("2026-11-25T00:00:20")


AT = "2026-11-25T00:00:{:02}Z"


@pytest.mark.parametrize("asked", ["stopping", "stuck_stopping", "unknown", "stopped", "finished_first"])
@pytest.mark.parametrize(
    ("seen_at", "status", "whole"),
    [
        (30, "STOPPED", "stopped"),
        (30, "SUCCEEDED", "finished_first"),
        (30, "FAILED", "finished_first"),
        (30, "TIMEOUT", "finished_first"),
        (10, "STOPPED", "already_finished"),  # it had ended before we asked
        (10, "SUCCEEDED", "already_finished"),
    ],
)
def test_what_one_part_asked_for_and_another_saw_ended_is_told_by_its_moments(
    tmp_path: Path, asked: str, seen_at: int, status: str, whole: str
) -> None:
    seen_by_both = {"stopped": "STOPPED", "finished_first": "SUCCEEDED"}.get(asked)
    one: dict[str, Any] = {"outcome": asked, "requested_at": AT.format(20), "request_id": "ours"}
    if seen_by_both:
        one |= {"status_after": seen_by_both, "confirmed_at": AT.format(40)}
    other = {"outcome": "already_finished", "status_after": status, "confirmed_at": AT.format(seen_at)}
    parts = [written(tmp_path, "a", [one]), written(tmp_path, "b", [other])]
    for name, order in (("ab", parts), ("ba", parts[::-1])):
        [run_] = runs_of(merged(tmp_path, name, *order))
        assert (run_["outcome"], run_["status_after"]) == (whole, status)
        assert (run_["confirmed_at"][:19], run_["requested_at"][:19]) == (AT.format(seen_at)[:19], AT.format(20)[:19])


@pytest.mark.parametrize("asked", ["failed", "denied", "invalid", "not_found", "not_attempted", "excluded"])
def test_what_nobody_s_request_can_have_stopped_had_ended(tmp_path: Path, asked: str) -> None:
    one = written(tmp_path, "a", [{"outcome": asked, "requested_at": AT.format(20)}])
    seen = {"outcome": "already_finished", "status_after": "STOPPED", "confirmed_at": AT.format(30)}
    [run_] = runs_of(merged(tmp_path, "whole", one, written(tmp_path, "b", [seen])))
    assert run_["outcome"] == "already_finished"


def test_every_outcome_has_its_strength_and_what_may_be_sent_goes_before_what_never_was() -> None:
    assert sorted(STRENGTH) == sorted(Outcome)
    may_be_sent = {Outcome.STOPPED, Outcome.STOPPING, Outcome.UNKNOWN, Outcome.FAILED, Outcome.STUCK_STOPPING}
    for sent, unsent in product(may_be_sent, {Outcome.NOT_ATTEMPTED, Outcome.EXCLUDED}):
        assert STRENGTH.index(sent) < STRENGTH.index(unsent)
    ended = {Outcome.STOPPED, Outcome.FINISHED_FIRST, Outcome.ALREADY_FINISHED}
    for seen, open_ in product(ended, set(Outcome) - ended):
        assert STRENGTH.index(seen) < STRENGTH.index(open_)


RUNS = st.fixed_dictionaries(
    {
        "outcome": st.sampled_from([str(outcome) for outcome in Outcome]),
        "task_run_id": st.sampled_from(["r1", "r2"]),
        "attempts": st.integers(0, 3),
        "throttled": st.integers(0, 3),
        "requested_at": st.sampled_from([None, "2026-11-25T00:00:01.000Z", "2026-11-25T00:00:02.000Z"]),
        "confirmed_at": st.sampled_from([None, *(f"2026-11-25T00:00:0{second}.500Z" for second in range(3))]),
        "status_after": st.sampled_from([None, "STOPPED", "SUCCEEDED", "RUNNING"]),
        "error_code": st.sampled_from([None, "Throttled"]),
    }
)


@hypothesis_settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.too_slow])
@given(told=st.lists(st.lists(RUNS, max_size=2, unique_by=lambda run: run["task_run_id"]), min_size=3, max_size=3))
def test_the_order_of_parts_changes_nothing_and_nothing_stops_by_it(told: list[list[dict[str, Any]]]) -> None:
    with scratch() as folder:
        a, b, c = (written(folder, name, runs) for name, runs in zip("abc", told, strict=True))
        whole = runs_of(merged(folder, "abc", a, b, c))
        assert runs_of(merged(folder, "cba", c, b, a)) == whole
        assert runs_of(merged(folder, "ab-c", merged(folder, "ab", a, b), c)) == whole
        assert runs_of(merged(folder, "a-bc", merged(folder, "bc", b, c), a)) == whole
    for run_ in whole:
        of_parts = [one for runs in told for one in runs if one["task_run_id"] == run_["task_run_id"]]
        said = {one["outcome"] for one in of_parts}
        if run_["outcome"] in ("stopped", "finished_first"):  # somebody asked, and somebody saw the end
            assert said & {"stopped", "finished_first", "stopping", "stuck_stopping", "unknown"}
            assert said & {"stopped", "finished_first", "already_finished"}
        else:
            assert run_["outcome"] in said or said & {"stopped", "finished_first"}
        assert run_["attempts"] == sum(one["attempts"] for one in of_parts)


def test_a_merged_report_keeps_the_first_accepted_request_of_a_run_that_had_ended_before(tmp_path: Path) -> None:
    asked = written(tmp_path, "a", [{"outcome": "stopping", "requested_at": AT.format(20)}])
    seen = {"outcome": "already_finished", "status_after": "STOPPED", "confirmed_at": AT.format(10)}
    refused = written(tmp_path, "b", [seen | {"requested_at": AT.format(9)}])
    later = {"outcome": "stopped", "status_after": "STOPPED", "requested_at": AT.format(30)}
    parts = (asked, refused, written(tmp_path, "c", [later | {"confirmed_at": AT.format(40)}]))
    in_one_go = merged(tmp_path, "abc", *parts)
    report(earlier := merged(tmp_path, "ab", *parts[:2]))
    for whole in (in_one_go, merged(tmp_path, "ab-c", earlier / "report.json", parts[2])):
        [run_] = runs_of(whole)
        assert (run_["outcome"], run_["requested_at"]) == ("already_finished", "2026-11-25T00:00:20.000Z")


def test_of_reports_as_of_ledgers_the_whole_has_refusal_guardrail_closed_accounts_and_what_came_back(
    tmp_path: Path,
) -> None:
    refused = part(tmp_path, 0, guardrails=Guardrails(max_runs=0))
    closed = [{"account_id": "444444444444", "code": "AccountClosed", "message": "left out: it is CLOSED"}]
    _facts(refused, left_out=closed)
    with closing(sqlite3.connect(refused / LEDGER_NAME)) as connection, connection:
        connection.execute("UPDATE runs SET returns = 1, sweep_number = 2")
    told = report(refused)
    assert (told["stop_cause"], told["refused_by"]) == ("guardrail", "max_runs")
    for name, path in (("of-ledger", refused), ("of-report", refused / "report.json")):
        whole = report(merged(tmp_path, name, path))
        assert {key: whole[key] for key in ("refusal", "refused_by", "left_out")} == {
            key: told[key] for key in ("refusal", "refused_by", "left_out")
        }
        assert {run_["returns"] for run_ in whole["runs"]} == {1}


def test_calls_that_are_known_as_sums_alone_are_no_chart(parts: list[Path], tmp_path: Path) -> None:
    for name, paths in (("charted", parts), ("told", [parts[0] / "report.json", *parts[1:]])):
        [_, page] = write_reports(merged(tmp_path, name, *paths), (ReportFormat.JSON, ReportFormat.HTML))
        assert ("pace allowed for cancel requests" in page.read_text(encoding="utf-8")) is (name == "charted")
        assert "calls to the service" in page.read_text(encoding="utf-8")


def test_a_target_that_nobody_could_list_is_not_said_to_have_been_by_its_report(tmp_path: Path) -> None:
    target = {"account_id": ACCOUNTS[0], "region": "us-east-1", "identity_arn": None, "complete": False}
    error = {"error": {"code": "AccessDenied", "message": "AssumeRole: no"}, "transforms": None, "active_runs": None}
    closed = written(tmp_path, "a", [], exit_code=4, targets=[target | error])
    with opened(merged(tmp_path, "whole", closed)) as document:
        assert [trouble.what for trouble in troubles(document)] == ["not read to the end"]


def test_a_run_that_a_report_has_twice_stands_in_the_whole_once(tmp_path: Path) -> None:
    twice = written(tmp_path, "a", [{"outcome": "failed"}, {"outcome": "already_finished"}])
    [run_] = runs_of(merged(tmp_path, "whole", twice, written(tmp_path, "b", [])))
    assert (run_["outcome"], run_["attempts"]) == ("already_finished", 2)


@pytest.mark.parametrize(
    "changes",
    [
        {"source": 5},
        {"source": "discovery"},
        {"exit_code": "zero"},
        {"exit_code": True},
        {"started_at": "x"},
        {"finished_at": "x"},
        {"finished_at": "2026-11-25T00:00:00"},
        {"stop_cause": []},
        {"name": {}},
        {"totals": None},
        {"totals": {"duplicates": "1", "throttled": 0, "retries": 0, "api_calls": {}}},
    ],
)
def test_a_report_that_was_edited_is_named(tmp_path: Path, changes: dict[str, Any]) -> None:
    parts = [written(tmp_path, "a", [{}], **changes), written(tmp_path, "b", [])]
    with pytest.raises(InputError, match=r"a\.json: is (damaged|not a report)"):
        merge(parts, tmp_path / "whole", sweep_id="whole")


def test_a_place_that_holds_another_sweep_s_report_is_left_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    first, second = written(tmp_path / "a", "report", [{}]), written(tmp_path / "b", "b", [])
    before = first.read_bytes()
    result = run(first, second, "--out", tmp_path / "a")
    assert isinstance(result.exception, LedgerError)
    assert "already holds report.json" in str(result.exception)
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["report.json"]
    assert first.read_bytes() == before


@pytest.mark.parametrize(
    ("codes", "incomplete", "whole"),
    [
        ([0, 0], False, 0),
        ([0, 0], True, 1),
        ([0, 1], False, 1),
        ([3, 3], False, 3),
        ([3, 0], False, 1),
        ([4, 4], False, 4),
        ([4, 4], True, 1),
        ([5, 1], False, 5),
        ([5, 143], False, 143),
        ([0, None], False, 1),
        ([], False, 0),
    ],
)
def test_exit_codes(codes: list[int | None], *, incomplete: bool, whole: int) -> None:
    assert exit_code_of_all(codes or [0], incomplete=incomplete) == whole


def run(*arguments: object) -> Result:
    return CliRunner().invoke(command, [str(argument) for argument in arguments])


def sharding(*parts: Part, **besides: Any) -> Sharding:  # noqa: ANN401  # fields of Sharding
    wanted = settings(name="nightly", dry_run=True, consent=Consent())
    return Sharding("s", wanted, datetime(2026, 11, 24, 3, tzinfo=UTC), parts, **besides)


def test_a_part_that_is_missing_makes_the_whole_incomplete(parts: list[Path], tmp_path: Path) -> None:
    told = sharding(*(Part(account, "us-east-1", {}) for account in ACCOUNTS))
    # the parts were named s-0000 to s-0002, and the sharding expects s-0001 to s-0003
    (tmp_path / "sharding.json").write_text(told.written())
    result = run("--sharding", tmp_path / "sharding.json", *parts[:3], "--out", tmp_path / "whole", "--report", "json")
    assert [str(part) in result.stderr for part in parts[:3]] == [True, False, False]
    assert result.exit_code == 1, result.output
    whole = report(tmp_path / "whole")
    assert (whole["sweep_id"], whole["complete"]) == ("s", False)
    [trouble] = [target for target in whole["targets"] if target["error"]]
    assert (trouble["account_id"], trouble["error"]["code"]) == (ACCOUNTS[2], "ShardMissing")
    assert "s-0003" in trouble["error"]["message"]
    assert "resume" not in result.stdout  # its parts are gone on with, not the whole


def test_without_any_part_there_is_a_report_all_the_same(tmp_path: Path) -> None:
    (tmp_path / "nothing.json").write_text(sharding().written())
    result = run("--sharding", tmp_path / "nothing.json", "--out", tmp_path / "nothing", "--report", "json")
    assert result.exit_code == 0, result.output
    told = report(tmp_path / "nothing")
    assert (told["complete"], told["mode"], told["name"], told["runs"]) == (True, "dry-run", "nightly", [])
    assert told["started_at"] == "2026-11-24T03:00:00.000Z"
    (tmp_path / "lost.json").write_text(sharding(Part(ACCOUNTS[0], "us-east-1", {})).written())
    result = run("--sharding", tmp_path / "lost.json", "--out", tmp_path / "lost", "--report", "json")
    assert result.exit_code == 1, result.output
    told = report(tmp_path / "lost")
    assert told["complete"] is False
    assert [target["error"]["code"] for target in told["targets"]] == ["ShardMissing"]
    assert "which parts?" in str(run("--out", tmp_path / "x").exception)


def test_what_belongs_to_no_part_is_told_in_the_whole(parts: list[Path], tmp_path: Path) -> None:
    closed = {"account_id": "444444444444", "code": "AccountSuspended", "message": "left out: it is SUSPENDED"}
    rejected = (RejectedRow(7, "x,", "task_run_id is empty"),)
    told = sharding(left_out=(closed,), rejected=rejected)
    (tmp_path / "sharding.json").write_text(told.written())
    result = run("--sharding", tmp_path / "sharding.json", *parts, "--out", tmp_path / "whole", "--report", "json")
    assert result.exit_code == 1, result.output
    whole = report(tmp_path / "whole")
    assert whole["left_out"] == [closed]
    assert whole["rejected"] == [{"line": 7, "text": "x,", "error": "task_run_id is empty"}]
    assert whole["exit_code"] == 1
    assert whole["complete"] is True


def test_credentials_stopped_the_whole_only_if_they_stopped_every_part(parts: list[Path], tmp_path: Path) -> None:
    refused = part(tmp_path, 1)
    _facts(refused, sweep_id="refused", stop_cause="credentials", exit_code=4)
    other = part(tmp_path, 2)
    _facts(other, sweep_id="other", stop_cause="credentials", exit_code=4)
    assert merge([parts[0], refused], tmp_path / "some", sweep_id="some") == 1
    assert report(tmp_path / "some")["stop_cause"] is None
    assert merge([refused, other], tmp_path / "all", sweep_id="all") == 4
    assert report(tmp_path / "all")["stop_cause"] == "credentials"


def test_the_command_prints_the_summary_and_ends_with_the_whole_s_code(parts: list[Path], tmp_path: Path) -> None:
    result = run(*parts, "--out", tmp_path / "whole", "--output", "json", "--report", "json,csv")
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["totals"] == report(tmp_path / "whole")["totals"]
    assert sorted(path.name for path in (tmp_path / "whole").glob("report.*")) == ["report.csv", "report.json"]


def test_what_does_not_belong_together_is_refused_and_leaves_nothing(parts: list[Path], tmp_path: Path) -> None:
    dry = part(tmp_path, 0, dry_run=True, consent=Consent())
    other = tmp_path / "other.json"
    other.write_text('{"schema": "something/1"}')
    summary = tmp_path / "summary.json"
    summary.write_text(json.dumps({key: value for key, value in report(parts[0]).items() if key != "runs"}))
    broken = tmp_path / "broken.json"
    broken.write_text('{"schema": "batch-cancel/report/1", "runs": [{"outcome": "stopped"}]}')
    for paths, kind, said in (
        ([parts[0], parts[0]], UsageError, "same sweep"),
        ([parts[1], dry], UsageError, "dry runs"),
        ([tmp_path / "empty"], LedgerError, "holds no ledger"),
        ([other], InputError, "is not a report.json"),
        ([broken], InputError, "is not a report.json"),
        ([parts[1], summary], InputError, "has no list of runs"),
        ([tmp_path / "none.json"], InputError, "no such file"),
    ):
        with pytest.raises(kind, match=said):
            merge(paths, tmp_path / "whole", sweep_id="whole")
        assert not (tmp_path / "whole" / LEDGER_NAME).exists()
    merge(parts, tmp_path / "whole", sweep_id="whole")
    with pytest.raises(LedgerError, match="already holds a ledger"):
        merge(parts, tmp_path / "whole", sweep_id="whole")


@pytest.mark.parametrize(
    ("key", "value"), [("task_run_id", None), ("attempts", None), ("labels", [1]), ("labels", "x"), ("outcome", "x")]
)
def test_a_report_that_was_edited_is_named_as_what_is_wrong(
    parts: list[Path], tmp_path: Path, key: str, value: object
) -> None:
    edited = tmp_path / "edited.json"
    told = report(parts[0])
    told["runs"][0][key] = value
    edited.write_text(json.dumps(told), encoding="utf-8")
    for read in (lambda: sweep_id_of(edited), lambda: merge([edited], tmp_path / "whole", sweep_id="whole")):
        with pytest.raises(InputError) as refused:
            read()
        assert f"{edited}: is not a report.json of batch-cancel" in str(refused.value)
        assert "part.db" not in str(refused.value) and "0.db" not in str(refused.value)


def test_a_merged_report_is_not_gone_on_with(parts: list[Path], tmp_path: Path) -> None:
    merge(parts, tmp_path / "whole", sweep_id="whole")
    result = CliRunner().invoke(resume, [str(tmp_path / "whole")])
    assert isinstance(result.exception, LedgerError)
    assert "resume its parts" in str(result.exception)


def test_a_part_that_was_cut_short_tells_what_can_be_said(tmp_path: Path) -> None:
    cut = part(tmp_path, 0)
    with (
        closing(sqlite3.connect(cut / LEDGER_NAME)) as connection,
        connection,
    ):  # as a process that was killed leaves it
        connection.execute("UPDATE runs SET state = 'claimed', outcome = NULL WHERE id = 1")
        connection.execute("UPDATE runs SET state = 'pending', outcome = NULL WHERE id = 2")
        connection.execute("UPDATE sweep SET value = 'null' WHERE key IN ('finished_at', 'exit_code')")
    assert merge([cut, part(tmp_path, 1)], tmp_path / "whole", sweep_id="whole") == 1
    whole = report(tmp_path / "whole")
    assert (whole["finished_at"], whole["complete"]) == (None, False)
    assert {whole["totals"]["outcomes"][name] for name in ("unknown", "not_attempted")} == {1}
