"""``validate`` names every fault of every file; ``schema`` prints JSON; the configurations to copy are sound."""

import json
import os
import subprocess
import sys
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from batch_cancel.cli import sample
from batch_cancel.cli.run import run
from batch_cancel.cli.validate import schema, validate
from batch_cancel.ledger import LEDGER_NAME
from batch_cancel.ledger.reader import LedgerReader
from batch_cancel.manifest import ManifestRow, read_manifest
from batch_cancel.plan import read_plan, write_plan
from batch_cancel.settings import Consent
from tests.sweeps import Play, settings

CONFIGS = sorted(Path(__file__).parents[2].joinpath("configs").glob("*.yaml"))


def check(*arguments: str | Path, stdin: str = "") -> Result:
    result = CliRunner().invoke(validate, [str(argument) for argument in arguments], input=stdin)
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.name)
def test_the_configurations_to_copy_are_sound(path: Path) -> None:
    result = check(path)
    kind, says = {
        "drill": ("scenario", "drill, 120 runs"),
        "organization-nightly": ("sweep file", "2 organizational units, 2 regions, discovery"),
    }.get(path.stem, ("sweep file", "the caller's account and region, discovery"))
    assert result.output == f"{path}: {kind} is fine: {says}\n"
    assert result.exit_code == 0


def test_the_sample_that_help_shows_is_a_manifest_in_both_its_forms(tmp_path: Path) -> None:
    listed = {}
    for name, text in (("runs.csv", sample.CSV), ("runs.yaml", sample.YAML)):
        (tmp_path / name).write_text(text)
        listed[name] = [
            row._replace(line=0) for row in read_manifest(str(tmp_path / name)) if isinstance(row, ManifestRow)
        ]
    assert listed["runs.csv"] == listed["runs.yaml"]
    assert listed["runs.csv"][0] == (0, "tfm-1f2e", "tsk-a1", "222222222222", "us-east-1", {"team": "search"})
    assert listed["runs.csv"][2] == (0, "tfm-9c3d", "tsk-c3", None, None, {})
    shown = {command: CliRunner().invoke(command, ["--help"]).output.splitlines() for command in (run, validate)}
    assert {f"    {line}" for line in sample.CSV.splitlines()} <= set(shown[run])
    assert {f"    {line}" for line in (sample.CSV + sample.YAML).splitlines()} <= set(shown[validate])


def test_one_page_of_a_longer_list_is_said_to_be_one(tmp_path: Path) -> None:
    text = '{"TaskRuns": [{"TransformId": "t", "TaskRunId": "r"}], "NextToken": %s}'
    path = tmp_path / "page.json"
    for token in ("null", '""'):
        path.write_text(text % token)
        assert check(path).output == f"{path}: manifest is fine: 1 row\n"
    path.write_text(text % '"more"')
    result = check(path)
    assert result.exit_code == 0
    assert result.output.startswith(
        f"{path}: manifest is fine: 1 row; holds a NextToken: it is one page of a longer list"
    )


def test_there_are_configurations() -> None:
    assert {path.name for path in CONFIGS} >= {"cost-control.yaml", "incident.yaml", "audit.yaml"}


def test_every_fault_of_every_file(tmp_path: Path) -> None:
    sweep, runs, listed = tmp_path / "s.yaml", tmp_path / "r.csv", tmp_path / "l.yaml"
    folder = tmp_path / "d.csv"
    folder.mkdir()
    (tmp_path / "runs").mkdir()
    sweep.write_text("nam: x\nrate: {rps: 0}\nsource: {manifest: a.csv}\n")
    runs.write_text("transform_id,task_run_id\nt,\nt,r\nt\n")
    listed.write_text("runs:\n- {transform_id: t, task_run_id: 5}\n")
    result = check(sweep, runs, listed, tmp_path / "none.yaml", tmp_path / "none.csv", folder, tmp_path / "runs")
    assert result.output.replace(f"{tmp_path}/", "").splitlines() == [
        "s.yaml:1:1: unknown key 'nam'; did you mean 'name'?",
        "s.yaml:2:13: rate.rps: 0 is not a number greater than zero",
        "r.csv:2:3: task_run_id is empty",
        "r.csv:4:1: 1 field where the header has 2",
        'l.yaml:2:34: task_run_id is a number: quote it, "5"',
        "none.yaml: there is no such file",
        "none.csv: there is no such file",
        "d.csv: is a directory, not a file",
        "runs: is a directory, not a file",
    ]
    assert result.exit_code == 2


def test_each_fault_of_a_row_has_its_own_place(tmp_path: Path) -> None:
    listed = {
        "r.csv": "transform_id,task_run_id,account_id,region\nt,,12,us-esat-1\n",
        "r.json": '[\n {"transform_id": "t", "task_run_id": "",\n  "region": "us-esat-1", "account_id": "12"}\n]',
        "r.jsonl": '{"transform_id": "t", "task_run_id": "", "account_id": "12"}\n{"region": 7}\n',
        "r.yaml": "- {transform_id: t, task_run_id: '', account_id: '12'}\n",
        "m.yaml": "transforms:\n  5: [6]\n",
    }
    for name, text in listed.items():
        (tmp_path / name).write_text(text)
    result = check(*(tmp_path / name for name in listed))
    account = "account_id '12' is not twelve digits (was a leading zero lost?)"
    region = "unknown region 'us-esat-1'; did you mean 'us-east-1'?"
    assert result.output.replace(f"{tmp_path}/", "").splitlines() == [
        "r.csv:2:3: task_run_id is empty",
        f"r.csv:2:4: {account}",
        f"r.csv:2:7: {region}",
        "r.json:2:39: task_run_id is empty",
        f"r.json:3:13: {region}",
        f"r.json:3:40: {account}",
        "r.jsonl:1:38: task_run_id is empty",
        f"r.jsonl:1:56: {account}",
        "r.jsonl:2:1: there is no transform_id; there is no task_run_id",
        'r.jsonl:2:12: region is a number: quote it, "7"',
        "r.yaml:1:34: task_run_id is empty",
        f"r.yaml:1:50: {account}",
        'm.yaml:2:3: transform_id is a number: quote it, "5"',
        'm.yaml:2:7: task_run_id is a number: quote it, "6"',
    ]


def test_rows_of_one_run_are_counted_and_other_labels_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    runs = tmp_path / "r.csv"
    runs.write_text("transform_id,task_run_id,team\nt,a,search\nt,b,search\nt,a,search\nt,a,ads\n")
    result = check(runs)
    once = "a run is cancelled once, with the labels of its first row"
    assert result.output.splitlines() == [
        f"{runs}: manifest is fine: 4 rows, 2 of a run that stands there before ({once})",
        f"{runs}:5: the run of line 2 again, with other labels: the report will have those of line 2",
    ]
    assert result.exit_code == 0
    (told,) = json.loads(check(runs, "--output", "json").output)["files"]
    assert (told["ok"], told["repeated_rows"], [note["line"] for note in told["notes"]]) == (True, 2, [5])
    monkeypatch.setattr("batch_cancel.cli.validate.MOST_REMEMBERED", 1)
    assert "4 rows, at least 2 of a run" in check(runs).output


def test_a_plan_is_called_one_and_looked_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    play, path = Play(), tmp_path / "plan.json"
    play.sweep(settings(dry_run=True, consent=Consent()))
    now = datetime.now(UTC)

    def said(made_at: datetime = now, *, only_for_review: bool = False) -> str:
        with closing(LedgerReader(play.directory / LEDGER_NAME)) as reader:
            write_plan(reader, path, now=made_at, only_for_review=only_for_review)
        result = check(path)
        assert result.exit_code == (0 if "is fine" in result.output else 2)
        return result.output

    good = said()
    assert good.startswith(f"{path}: plan is fine: {play.active()} runs to cancel, good until ")
    assert f"batch-cancel apply {path}" in good
    assert "and not applied" in said(only_for_review=True)
    path.write_text(json.dumps(json.loads(path.read_text()), sort_keys=True))  # its schema is the last key but two
    assert f"{path}: plan is fine: {play.active()} runs" in check(path).output
    assert said(now - timedelta(days=2)).endswith(": make a new one with `batch-cancel plan`\n")
    said()
    read_plan(path).use_up(play.directory, now)
    assert check(path).output.endswith("; if that was cut short, `batch-cancel resume` goes on with it\n")
    path.write_text(path.read_text().replace('"plan_id": "', '"plan_id": "x'))
    assert check(path).output.endswith(
        "was edited after it was made: what was reviewed is not what it says now; make a new plan\n"
    )
    taken_for_a_list = check(path, "--manifest-format", "json").output
    assert f"{path}:2:13: this is a plan, not a list of runs: `batch-cancel apply`" in taken_for_a_list


@pytest.mark.parametrize("name", ["runs.json", "runs.yaml"])
def test_a_pipe_is_read_once(tmp_path: Path, name: str) -> None:
    os.mkfifo(tmp_path / name)
    listed = json.dumps([{"transform_id": "t", "task_run_id": "r"}])
    command = [sys.executable, "-m", "batch_cancel", "validate", str(tmp_path / name)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as reader:
        with (tmp_path / name).open("w") as pipe:
            pipe.write(listed)
        try:
            out, _ = reader.communicate(timeout=30)
        finally:
            reader.kill()
    assert (reader.returncode, out) == (0, f"{tmp_path / name}: manifest is fine: 1 row\n")


def test_what_is_fine_is_counted(tmp_path: Path) -> None:
    runs, sweep = tmp_path / "r.csv", tmp_path / "s.yaml"
    runs.write_text("transform_id,task_run_id,region,account_id\nt,a,us-east-1,111111111111\nt,b,us-east-1,\n")
    sweep.write_text("source: {manifest: r.csv}\ntargets: []\n")
    result = check(runs, sweep)
    assert result.output.splitlines() == [
        f"{runs}: manifest is fine: 2 rows, 1 account, 1 region",
        f"{sweep}: sweep file is fine: no target, manifest {tmp_path / 'r.csv'}",
    ]
    assert result.exit_code == 0
    runs.unlink()
    result = check(sweep)
    assert (result.exit_code, result.output.endswith("r.csv (which is not there)\n")) == (0, True)
    sweep.write_text("source: {manifest: s3://bucket/r.csv}\n")
    assert check(sweep).output.endswith("manifest s3://bucket/r.csv\n")


@pytest.mark.parametrize(
    ("targets", "says"),
    [
        ("[{regions: all}]", "all regions"),
        ("[{profile: a, regions: [us-east-1]}, {profile: a}]", "1 profile, 1 region"),
        (
            (
                "[{accounts: ['111111111111', '222222222222'], role_name: R, regions: [us-east-1, eu-west-1]},"
                " {role_arn: 'arn:aws:iam::333333333333:role/R', regions: [eu-west-1]}]"
            ),
            "1 role, 2 accounts, 2 regions",
        ),
    ],
)
def test_where_a_sweep_file_goes_is_counted_as_people_count(tmp_path: Path, targets: str, says: str) -> None:
    sweep = tmp_path / "s.yaml"
    sweep.write_text(f"source: discovery\ntargets: {targets}\n")
    assert check(sweep).output == f"{sweep}: sweep file is fine: {says}, discovery\n"


def test_a_name_without_an_ending_that_nothing_has_is_no_matter_of_its_ending(tmp_path: Path) -> None:
    missing = tmp_path / "runs"
    assert check(missing).output == f"{missing}: there is no such file\n"
    missing.write_text("x")
    assert "the file has no ending" in check(missing).output


def test_standard_input_and_a_given_format(tmp_path: Path) -> None:
    line = '{"transform_id": "t", "task_run_id": "r"}'
    assert check("-", "--manifest-format", "jsonl", stdin=line).output == "standard input: manifest is fine: 1 row\n"
    assert check("-", stdin=line).output.startswith("standard input: its format is not known: give --manifest-format")
    said = check("-", "--manifest-format", "csv", stdin="transform_id,task_run_id\nt,\n").output
    assert said == "standard input:2:3: task_run_id is empty\n"
    path = tmp_path / "list.yaml"
    path.write_text("")
    assert "the file is empty: a YAML manifest" in check(path, "--manifest-format", "yaml").output
    assert "the file is empty" in check(path).output


def test_as_json(tmp_path: Path) -> None:
    runs = tmp_path / "r.csv"
    runs.write_text("transform_id,task_run_id\nt,\nt,r\n")
    result = check(runs, CONFIGS[0], "--output", "json")
    document = json.loads(result.output)
    assert document["ok"] is False
    wrong, fine = document["files"]
    assert (wrong["kind"], wrong["rows"], wrong["ok"], wrong["problem_count"]) == ("manifest", 1, False, 1)
    assert wrong["problems"] == [{"line": 2, "column": 3, "message": "task_run_id is empty", "text": "t,"}]
    assert (fine["kind"], fine["rows"], fine["ok"], fine["problems"]) == ("sweep file", None, True, [])
    assert result.exit_code == 2


def test_very_many_faults_are_counted_not_listed(tmp_path: Path) -> None:
    runs = tmp_path / "r.csv"
    runs.write_text("transform_id,task_run_id\n" + "t,\n" * 1500)
    lines = check(runs).output.splitlines()
    assert len(lines) == 1001
    assert lines[-1].endswith("and 500 faults more")


def test_names_from_outside_cannot_move_the_cursor(tmp_path: Path) -> None:
    runs = tmp_path / "a\x1b[2J.csv"
    runs.write_text("transform_id,task_run_id,\x1b[31m,\x1b[31m\n")
    assert "\x1b" not in check(runs).output


def test_what_is_in_s3_is_not_called_missing() -> None:
    for name in ("s3://ops-reports/nightly.yaml", "s3://ops-reports/runs.csv"):
        result = CliRunner().invoke(validate, [name])
        assert result.exit_code == 2
        assert f"{name}: is in S3, and validate calls nothing: copy it here first" in result.output


def test_the_schema_is_json() -> None:
    document = json.loads(CliRunner().invoke(schema).output)
    assert document["properties"]["guardrails"]["description"]


def test_help_is_light() -> None:
    code = """
import sys
from batch_cancel.cli import batch_cancel
batch_cancel(["validate", "--help"], standalone_mode=False)
heavy = {"pydantic", "aioboto3", "botocore", "boto3", "aiohttp", "yaml", "jinja2", "rich"} & set(sys.modules)
assert not heavy, heavy
"""
    subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.DEVNULL)
