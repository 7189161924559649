"""``shard``: every place and every row in one part, as events that the function takes."""

import errno
import json
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from batch_cancel.cli.shard import shard
from batch_cancel.core.errors import InputError, LedgerError, RecordLost, UsageError
from batch_cancel.lambda_handler.event import checked
from batch_cancel.shards import Expected
from batch_cancel.sweep_file import load_sweep_file
from tests.delivery.conftest import BUCKET, Cloud, _models_are_read_once, cloud, endpoint, server

__all__ = ["_models_are_read_once", "cloud", "endpoint", "server"]  # fixtures

ACCOUNTS = ("111111111111", "222222222222", "333333333333")
PLACES = f"accounts: {json.dumps(ACCOUNTS)}, regions: [us-east-1, eu-west-1]"
TARGETS = f"targets: [{{role_name: Sweep, external_id: x-1, {PLACES}}}]"


@pytest.fixture(autouse=True)
def _no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")  # nothing is looked up without units
    monkeypatch.setenv("AWS_CONFIG_FILE", "/dev/null")


def run(folder: Path, sweep: str, *arguments: str) -> Result:
    (folder / "sweep.yaml").write_text(sweep)
    return CliRunner().invoke(shard, [str(folder / "sweep.yaml"), "--out", str(folder / "out"), *arguments])


def items(folder: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads((folder / "out" / "items.json").read_text())
    return found


def test_where_there_is_no_room_for_the_slices_they_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make = Path.mkdir

    def full_disk(path: Path, **how: Any) -> None:  # noqa: ANN401  # as Path.mkdir has it
        if path.name == "slices":
            raise OSError(errno.ENOSPC, "No space left on device")
        make(path, **how)

    monkeypatch.setattr(Path, "mkdir", full_disk)
    (tmp_path / "runs.csv").write_text("transform_id,task_run_id,account_id,region\nt,r,,us-east-1\n")
    result = run(tmp_path, f"source: {{manifest: {tmp_path / 'runs.csv'}}}\n", "--yes")
    assert isinstance(result.exception, RecordLost), result.exception
    assert "cannot write the slices in" in str(result.exception)


def test_each_account_and_region_is_one_part_by_its_own_role(tmp_path: Path) -> None:
    result = run(tmp_path, f"source: discovery\nname: 'nightly'\nselect: {{older_than: 6h}}\n{TARGETS}\n", "--yes")
    assert result.exit_code == 0, result.output
    found = items(tmp_path)
    assert [item["shard"]["number"] for item in found] == [1, 2, 3, 4, 5, 6]
    places = [(target["role_arn"], *target["regions"]) for item in found for target in item["shard"]["targets"]]
    assert sorted(places) == sorted(
        (f"arn:aws:iam::{account}:role/Sweep", region) for account in ACCOUNTS for region in ("us-east-1", "eu-west-1")
    )
    assert {target["external_id"] for item in found for target in item["shard"]["targets"]} == {"x-1"}
    assert len({item["sweep_id"] for item in found}) == 6
    for item in found:
        assert checked(item)["yes"]
        path = tmp_path / "again.yaml"
        path.write_text(json.dumps(item["sweep"]))
        assert load_sweep_file(str(path)) == load_sweep_file(str(tmp_path / "sweep.yaml"))
    expected = Expected.read((tmp_path / "out" / "sharding.json").read_bytes(), "x")
    assert list(expected.parts) == [item["sweep_id"] for item in found]
    assert expected.absent(list(expected.parts)) == []
    assert {gap.account_id for gap in expected.absent([])} == set(ACCOUNTS)


def rows(folder: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    for path in sorted((folder / "out" / "slices").iterdir()):
        for line in path.read_text().splitlines():
            yield path.name, json.loads(line)


def test_every_row_is_in_one_slice_and_a_run_named_twice_in_the_same(tmp_path: Path) -> None:
    lines = [f"{ACCOUNTS[n % 3]},us-east-1,tfm-{n % 7},tsk-{n % 300},note {n}" for n in range(400)]
    (tmp_path / "runs.csv").write_text("account_id,region,transform_id,task_run_id,note\n" + "\n".join(lines) + "\n")
    result = run(tmp_path, f"source: {{manifest: runs.csv}}\n{TARGETS}\n", "--yes", "--slice-runs", "50")
    assert result.exit_code == 0, result.output
    found = list(rows(tmp_path))
    assert Counter(row["note"] for _, row in found) == Counter(f"note {n}" for n in range(400))
    where: dict[tuple[str, ...], set[str]] = {}
    places: dict[str, set[tuple[str, str]]] = {}
    for name, row in found:
        where.setdefault((row["account_id"], row["transform_id"], row["task_run_id"]), set()).add(name)
        places.setdefault(name, set()).add((row["account_id"], row["region"]))
    assert all(len(names) == 1 for names in where.values())
    assert all(len(place) == 1 for place in places.values())
    assert len(places) > 6
    assert {Path(item["shard"]["manifest"]).name for item in items(tmp_path)} == set(places)


def test_bad_rows_are_all_told_and_nothing_is_written(tmp_path: Path) -> None:
    (tmp_path / "runs.csv").write_text("transform_id,task_run_id,region\ntfm,,us-east-1\n,tsk,us-east-1\n")
    result = run(tmp_path, "source: {manifest: runs.csv}\n", "--yes")
    assert isinstance(result.exception, InputError)
    assert len(result.exception.problems) == 2
    assert not (tmp_path / "out" / "items.json").exists()
    skipped = run(tmp_path, "source: {manifest: runs.csv, skip_invalid: true}\n", "--yes")
    assert skipped.exit_code == 1
    assert "2 rows left out" in skipped.stderr
    expected = Expected.read((tmp_path / "out" / "sharding.json").read_bytes(), "x")
    assert [row.line for row in expected.rejected] == [2, 3]
    assert (expected.settings.dry_run, expected.settings.consent.yes) == (False, True)
    assert items(tmp_path) == []


@pytest.mark.parametrize("cap", ["max_runs: 5", "max_percent: 50", "max_errors: 5%"])
def test_caps_of_the_whole_are_refused_unless_each_part_is_to_have_them(tmp_path: Path, cap: str) -> None:
    sweep = f"source: discovery\nguardrails: {{{cap}}}\n{TARGETS}\n"
    result = run(tmp_path, sweep, "--yes")
    assert isinstance(result.exception, UsageError)
    assert "of the whole sweep" in str(result.exception)
    assert run(tmp_path, sweep, "--yes", "--caps-per-shard").exit_code == 0


def test_the_example_with_the_file_that_comes_along_works(tmp_path: Path) -> None:
    example = re.search(r"batch-cancel shard configs/(\S+) (.*) --out shards/", shard.epilog or "")
    assert example is not None
    sweep = (Path(__file__).parents[2] / "configs" / example[1]).read_text()
    result = run(tmp_path, f"{sweep}\n{TARGETS}\n", *example[2].split())
    assert result.exit_code == 0, result.exception
    assert "6 parts of sweep" in result.stderr


def test_what_does_not_go_together(tmp_path: Path) -> None:
    sweep = f"source: discovery\n{TARGETS}\n"
    for arguments, said in (((), "give --yes"), (("--yes", "--dry-run"), "exclude each other")):
        result = run(tmp_path, sweep, *arguments)
        assert isinstance(result.exception, UsageError)
        assert said in str(result.exception)
    assert run(tmp_path, sweep, "--dry-run").exit_code == 0
    assert Expected.read((tmp_path / "out" / "sharding.json").read_bytes(), "x").settings.dry_run
    again = run(tmp_path, sweep, "--dry-run")
    assert isinstance(again.exception, LedgerError)
    assert "not empty" in str(again.exception)


def test_items_that_the_function_would_refuse_are_warned_of_with_the_mend(
    tmp_path: Path, cloud: Cloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", cloud.url)
    (tmp_path / "runs.csv").write_text(f"account_id,region,transform_id,task_run_id\n{ACCOUNTS[0]},us-east-1,t,r\n")
    nowhere, here = "the sweep file has no report.s3", "they name slices on this machine"
    kept = f"report: {{s3: 's3://{BUCKET}/reports/'}}"
    upload = ("--s3", f"s3://{BUCKET}/shards/")
    for number, (sweep, arguments, said) in enumerate(
        (
            ("source: discovery", (), {nowhere}),
            (f"source: discovery\n{kept}", (), set()),
            ("source: {manifest: ../runs.csv}", (), {nowhere, here}),
            (f"source: {{manifest: ../runs.csv}}\n{kept}", upload, set()),
        )
    ):
        folder = tmp_path / str(number)
        folder.mkdir()
        result = run(folder, f"{sweep}\n{TARGETS}\n", "--yes", *arguments)
        assert result.exit_code == 0, result.output
        assert {words for words in (nowhere, here) if words in result.stderr} == said
        assert result.stderr.count("warning") == len(said)


def test_lines_for_engines_that_want_lines(tmp_path: Path) -> None:
    assert run(tmp_path, f"source: discovery\n{TARGETS}\n", "--yes", "--format", "jsonl").exit_code == 0
    lines = (tmp_path / "out" / "items.jsonl").read_text().splitlines()
    assert [json.loads(line)["shard"]["number"] for line in lines] == list(range(1, 7))


def test_the_directory_goes_to_s3_and_the_items_name_it_there(
    tmp_path: Path, cloud: Cloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", cloud.url)
    (tmp_path / "runs.csv").write_text(f"account_id,region,transform_id,task_run_id\n{ACCOUNTS[0]},us-east-1,t,r\n")
    sweep = f"source: {{manifest: runs.csv}}\n{TARGETS}\n"
    result = run(tmp_path, sweep, "--yes", "--s3", f"s3://{BUCKET}/shards/")
    assert result.exit_code == 0, result.output
    assert result.stdout.strip() == f"s3://{BUCKET}/shards/items.json"
    here = {
        f"shards/{path.relative_to(tmp_path / 'out')}": path.read_bytes() for path in (tmp_path / "out").rglob("*.*")
    }
    assert cloud.objects() == here
    assert [item["shard"]["manifest"] for item in items(tmp_path)] == [f"s3://{BUCKET}/shards/slices/0001.jsonl"]


def test_what_it_writes_is_its_maker_s_alone(tmp_path: Path) -> None:
    (tmp_path / "runs.csv").write_text("transform_id,task_run_id,account_id,region\nt,r,111111111111,us-east-1\n")
    result = run(tmp_path, f"source: {{manifest: runs.csv}}\n{TARGETS}\n", "--yes")
    assert result.exit_code == 0, result.output
    made = [path for path in (tmp_path / "out").rglob("*") if path.is_file()]
    assert len(made) == 3
    assert {path.stat().st_mode & 0o777 for path in made} == {0o600}
