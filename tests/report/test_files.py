import json
import os
import sqlite3
import stat
import sys
import threading
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from batch_cancel.cli.report import report
from batch_cancel.core.errors import BatchCancelError, LedgerError, RecordLost, UsageError
from batch_cancel.ledger.ledger import Ledger
from batch_cancel.report import files
from batch_cancel.report.files import write_reports
from batch_cancel.settings import ReportFormat
from tests.report.ledgers import build, every_outcome, set_facts

ALL = tuple(ReportFormat)


@pytest.fixture
def run_dir(tmp_path: Path) -> Path:
    return build(tmp_path / "run", every_outcome)


def call(*arguments: str | Path) -> Result:
    return CliRunner().invoke(report, [str(argument) for argument in arguments])


def test_every_format_is_written_privately(run_dir: Path) -> None:
    paths = write_reports(run_dir, ALL)
    assert paths == [run_dir / f"report.{form}" for form in ("json", "csv", "md", "html")]
    assert all(stat.S_IMODE(path.stat().st_mode) == 0o600 for path in paths)
    assert sorted(path.name for path in run_dir.iterdir() if path.name.endswith(".tmp")) == []


def test_reports_of_the_same_ledger_are_the_same(run_dir: Path) -> None:
    first = [path.read_bytes() for path in write_reports(run_dir, ALL)]
    assert [path.read_bytes() for path in write_reports(run_dir, ALL)] == first


def test_a_report_that_fails_leaves_the_old_one(run_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (path,) = write_reports(run_dir, [ReportFormat.JSON])
    before = path.read_bytes()

    def full_disk(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full_disk)
    with pytest.raises(
        RecordLost, match=r"cannot write the report .*report.json: No space left on device; .* writes it"
    ):
        write_reports(run_dir, [ReportFormat.JSON])
    assert path.read_bytes() == before
    assert [path.name for path in run_dir.glob(".report*")] == []


def test_a_pipe_is_written_to_and_stays_one(run_dir: Path, tmp_path: Path) -> None:
    pipe = tmp_path / "pipe.json"
    os.mkfifo(pipe)
    came: list[str] = []
    reader = threading.Thread(target=lambda: came.append(pipe.read_text(encoding="utf-8")), daemon=True)
    reader.start()
    assert call(run_dir, "--out", pipe).exit_code == 0
    assert pipe.is_fifo()
    reader.join(timeout=30)
    (path,) = write_reports(run_dir, [ReportFormat.JSON])
    assert came == [path.read_text(encoding="utf-8")]


def test_a_link_stays_one(run_dir: Path, tmp_path: Path) -> None:
    (tmp_path / "there.json").write_text("before", encoding="utf-8")
    (tmp_path / "link.json").symlink_to("there.json")
    assert call(run_dir, "--out", tmp_path / "link.json").exit_code == 0
    assert (tmp_path / "link.json").is_symlink()
    assert json.loads((tmp_path / "there.json").read_text(encoding="utf-8"))["schema"]


def test_a_directory_in_the_way_is_a_sentence(run_dir: Path) -> None:
    (run_dir / "report.csv").mkdir()
    with pytest.raises(RecordLost, match=r"report\.csv: Is a directory"):
        write_reports(run_dir, [ReportFormat.CSV])


def test_a_ledger_that_a_killed_process_left_is_read(run_dir: Path) -> None:
    # What a kill leaves: the write-ahead log stays beside the file.
    connection = sqlite3.connect(run_dir / "ledger.db")
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("DELETE FROM sweep WHERE key IN ('finished_at', 'exit_code')")
    connection.commit()
    copy = run_dir.parent / "copy"
    copy.mkdir()
    for name in ("ledger.db", "ledger.db-wal"):
        (copy / name).write_bytes((run_dir / name).read_bytes())
    connection.close()
    (path, *_) = write_reports(copy, ALL)
    assert json.loads(path.read_text())["finished_at"] is None


def test_a_sweep_at_work_can_be_reported(tmp_path: Path) -> None:
    written: list[Path] = []

    async def fill(ledger: Ledger) -> None:
        await set_facts(ledger, finished_at=None)
        written.extend(write_reports(ledger.directory, ALL))

    build(tmp_path / "run", fill)
    assert all(path.stat().st_size for path in written)
    assert len(written) == 4


def test_a_sweep_that_ends_while_it_is_looked_at_is_not_taken_for_one_that_was_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fill(ledger: Ledger) -> None:
        await set_facts(ledger, finished_at=None)

    directory = build(tmp_path / "run", fill)

    def gone_when_asked_for(_: Path) -> bool:
        with sqlite3.connect(directory / "ledger.db") as connection:
            connection.execute("UPDATE sweep SET value = '\"2026-11-24T10:17:00Z\"' WHERE key = 'finished_at'")
        return False

    monkeypatch.setattr(files, "in_use", gone_when_asked_for)
    with files.opened(directory) as document:
        assert document.facts["finished_at"] is not None


def test_bytes_that_are_no_text_do_not_break_a_report(tmp_path: Path) -> None:
    async def fill(ledger: Ledger) -> None:
        await set_facts(ledger, reason="caf\udce9", name="\udcff")

    paths = write_reports(build(tmp_path / "run", fill), ALL)
    assert json.loads(paths[0].read_text(encoding="utf-8"))["reason"] == "caf\udce9"


# -- the command ------------------------------------------------------------------------------------------------------


def test_without_a_format_all_are_rewritten_and_named(run_dir: Path) -> None:
    result = call(run_dir)
    assert result.exit_code == 0, result.output
    assert result.stdout.splitlines() == [str(run_dir / f"report.{form}") for form in ALL]


@pytest.mark.parametrize("form", ["json", "csv", "md", "html"])
def test_one_format_goes_to_standard_output(run_dir: Path, form: str) -> None:
    result = call(run_dir, "--format", form)
    (path,) = write_reports(run_dir, [ReportFormat(form)])
    assert result.stdout_bytes == path.read_bytes()
    assert call(run_dir, "--format", form, "--out", "-").stdout_bytes == path.read_bytes()


def test_out_names_the_file_and_its_ending_the_format(run_dir: Path, tmp_path: Path) -> None:
    out = tmp_path / "r.CSV"
    result = call(run_dir, "--out", out)
    assert result.stdout == f"{out}\n"
    (path,) = write_reports(run_dir, [ReportFormat.CSV])
    assert out.read_bytes() == path.read_bytes()


def test_wrong_words_are_sentences(run_dir: Path, tmp_path: Path) -> None:
    def fails(kind: type[BatchCancelError], words: str, *arguments: str | Path) -> None:
        error = call(*arguments).exception
        assert isinstance(error, kind), error
        assert words in str(error)

    fails(UsageError, "which format is 'x.pdf' to have? Say --format json, csv, md, html", run_dir, "--out", "x.pdf")
    fails(LedgerError, "holds no ledger", tmp_path / "nothing")
    fails(LedgerError, "holds no ledger", run_dir / "ledger.db")
    fails(UsageError, "no such directory", run_dir, "--out", tmp_path / "none" / "r.csv")
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / "ledger.db").write_bytes(b"no database " * 1000)
    fails(LedgerError, "damaged", broken)


def test_the_ledger_is_not_written(run_dir: Path, tmp_path: Path) -> None:
    before = (run_dir / "ledger.db").read_bytes()
    assert call(run_dir).exit_code == 0
    (tmp_path / "link.json").symlink_to(run_dir / "ledger.db")
    for out in (run_dir / "ledger.db", run_dir / "ledger.db-wal", tmp_path / "link.json"):
        error = call(run_dir, "--format", "json", "--out", out).exception
        assert isinstance(error, UsageError) and "a ledger is the record of a sweep" in str(error)
    assert (run_dir / "ledger.db").read_bytes() == before
    assert not (run_dir / "ledger.db-wal").exists()


def test_json_needs_no_template_library(run_dir: Path) -> None:
    import subprocess

    program = (
        "import sys; from pathlib import Path; from batch_cancel.report.files import write_reports;"
        "from batch_cancel.settings import ReportFormat as F; write_reports(Path(sys.argv[1]), [F.JSON, F.CSV, F.MD]);"
        "print([m for m in ('jinja2', 'pydantic', 'aioboto3', 'botocore', 'rich', 'aiohttp') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program, str(run_dir)], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
