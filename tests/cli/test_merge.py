"""``merge``: every run once, the sums of the parts, and what is missing named."""

import asyncio
import json
import sqlite3
from collections import Counter
from contextlib import closing
from itertools import product
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from batch_cancel.cli.merge import merge as command
from batch_cancel.cli.run import resume
from batch_cancel.core.errors import InputError, LedgerError, UsageError
from batch_cancel.core.outcome import Outcome
from batch_cancel.ledger.ledger import LEDGER_NAME, Ledger
from batch_cancel.report.files import write_reports
from batch_cancel.report.merge import STRENGTH, exit_code_of_all, merge
from batch_cancel.settings import Consent, Cost, ReportFormat, Settings, TargetSettings
from batch_cancel.shards import Part, Sharding
from batch_cancel.simulator.settings import FleetSettings, WorldSettings
from tests.sweeps import Play, settings

ACCOUNTS = ("111111111111", "222222222222", "333333333333")
WORLD = WorldSettings(fleet=FleetSettings(accounts=ACCOUNTS, transforms=6, runs=12))
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

    async def rename() -> None:  # Play gives all its sweeps one id
        ledger = Ledger.open(play.directory)
        await ledger.set_facts(sweep_id=sweep_id)
        await ledger.close()

    asyncio.run(rename())


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
    for name in ("runs", "throttled", "retries"):
        assert whole["totals"][name] == sum(one["totals"][name] for one in told)
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


def test_every_outcome_has_its_strength_and_sent_goes_before_unsent() -> None:
    assert sorted(STRENGTH) == sorted(Outcome)
    may_be_sent = {Outcome.STOPPED, Outcome.STOPPING, Outcome.UNKNOWN, Outcome.FAILED, Outcome.STUCK_STOPPING}
    for sent, unsent in product(may_be_sent, {Outcome.NOT_ATTEMPTED, Outcome.ALREADY_FINISHED, Outcome.EXCLUDED}):
        assert STRENGTH.index(sent) < STRENGTH.index(unsent)


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


def test_a_part_that_is_missing_makes_the_whole_incomplete(parts: list[Path], tmp_path: Path) -> None:
    told = Sharding("s", tuple(Part(account, "us-east-1", {}) for account in ACCOUNTS))
    # the parts were named s-0000 to s-0002, and the sharding expects s-0001 to s-0003
    (tmp_path / "sharding.json").write_text(told.written())
    result = run("--sharding", tmp_path / "sharding.json", *parts[:3], "--out", tmp_path / "whole", "--report", "json")
    assert result.exit_code == 1, result.output
    whole = report(tmp_path / "whole")
    assert (whole["sweep_id"], whole["complete"]) == ("s", False)
    [trouble] = [target for target in whole["targets"] if target["error"]]
    assert (trouble["account_id"], trouble["error"]["code"]) == (ACCOUNTS[2], "ShardMissing")
    assert "s-0003" in trouble["error"]["message"]
    assert "resume" not in result.stdout  # its parts are gone on with, not the whole


def test_the_command_prints_the_summary_and_ends_with_the_whole_s_code(parts: list[Path], tmp_path: Path) -> None:
    result = run(*parts, "--out", tmp_path / "whole", "--output", "json", "--report", "json,csv")
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["totals"] == report(tmp_path / "whole")["totals"]
    assert sorted(path.name for path in (tmp_path / "whole").glob("report.*")) == ["report.csv", "report.json"]


def test_what_does_not_belong_together_is_refused_and_leaves_nothing(parts: list[Path], tmp_path: Path) -> None:
    dry = part(tmp_path, 0, dry_run=True, consent=Consent())
    other = tmp_path / "other.json"
    other.write_text('{"schema": "something/1"}')
    broken = tmp_path / "broken.json"
    broken.write_text('{"schema": "batch-cancel/report/1", "runs": [{"outcome": "stopped"}]}')
    for paths, kind, said in (
        ([parts[0], parts[0]], UsageError, "same sweep"),
        ([parts[1], dry], UsageError, "dry runs"),
        ([tmp_path / "empty"], LedgerError, "holds no ledger"),
        ([other], InputError, "is not a report.json"),
        ([broken], InputError, "is not a report.json"),
        ([tmp_path / "none.json"], InputError, "no such file"),
    ):
        with pytest.raises(kind, match=said):
            merge(paths, tmp_path / "whole", sweep_id="whole")
        assert not (tmp_path / "whole" / LEDGER_NAME).exists()
    merge(parts, tmp_path / "whole", sweep_id="whole")
    with pytest.raises(LedgerError, match="already holds a ledger"):
        merge(parts, tmp_path / "whole", sweep_id="whole")


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
