"""A ledger's file: made private and whole, and refused with a clear word where it is not one."""

import os
import sqlite3
import stat
from contextlib import closing
from pathlib import Path

import pytest

from batch_cancel.core.errors import LedgerError
from batch_cancel.ledger import schema


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "ledger.db"
    schema.create(path).close()
    return path


def test_a_new_ledger_is_private_whole_and_careful(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    connection = schema.create(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE((tmp_path / "ledger.db-wal").stat().st_mode) == 0o600
    pragmas = [connection.execute(f"PRAGMA {name}").fetchone()[0] for name in ("journal_mode", "synchronous")]
    assert pragmas == ["wal", 2]  # 2 is FULL
    connection.close()
    schema.check(path)


def test_a_ledger_is_not_made_over_another(path: Path) -> None:
    before = path.read_bytes()
    with pytest.raises(LedgerError, match="already holds a ledger; resume it with `batch-cancel resume"):
        schema.create(path)
    assert path.read_bytes() == before


def test_a_ledger_that_cannot_be_made_leaves_nothing_behind(tmp_path: Path) -> None:
    with pytest.raises(LedgerError, match=r"cannot create the ledger .* nothing was called"):
        schema.create(tmp_path / "no such directory" / "ledger.db")
    (tmp_path / "ledger.db-journal").mkdir()  # SQLite cannot begin beside it
    with pytest.raises(LedgerError):
        schema.create(tmp_path / "ledger.db")
    assert not (tmp_path / "ledger.db").exists()


def test_a_ledger_of_a_newer_version_is_refused_by_both_numbers(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("PRAGMA user_version = 7")
    with pytest.raises(LedgerError, match=r"newer batch-cancel \(ledger version 7; this one knows up to 2\); upgrade"):
        schema.open_existing(path)


def test_somebody_elses_database_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("CREATE TABLE contacts (name TEXT)")
    with pytest.raises(LedgerError, match="is not a ledger of batch-cancel"):
        schema.open_existing(path)


def test_a_file_that_is_no_database_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    path.write_text("transform_id,task_run_id\n" * 100)
    with pytest.raises(LedgerError, match=r"damaged or not a ledger: .*restore it from a copy"):
        schema.open_existing(path)


def test_an_empty_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    path.touch()
    with pytest.raises(LedgerError, match="is not a ledger of batch-cancel"):
        schema.open_existing(path)


def test_a_ledger_whose_maker_died_over_it_is_not_called_damaged(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(f"PRAGMA journal_mode = WAL; PRAGMA application_id = {schema.APPLICATION_ID};")
    with pytest.raises(LedgerError, match="is empty: whoever made it died before the sweep had begun; start a new one"):
        schema.open_existing(path)


@pytest.mark.parametrize("where", [0.3, 0.6, 0.9])
def test_a_ledger_with_a_torn_page_is_refused(tmp_path: Path, where: float) -> None:
    path = tmp_path / "ledger.db"
    connection = schema.create(path)
    connection.execute("BEGIN")
    connection.execute("INSERT INTO targets (id, region) VALUES (1, 'eu-west-1')")
    for number in range(2_000):
        connection.execute(
            "INSERT INTO runs (target_id, transform_id, task_run_id, state) VALUES (1, 'tfm', ?, 'pending')", (number,)
        )
    connection.execute("COMMIT")
    connection.execute("PRAGMA journal_mode = DELETE")
    connection.close()
    whole = path.read_bytes()
    at = int(len(whole) * where) // 4096 * 4096
    path.write_bytes(whole[:at] + b"\xff" * 4096 + whole[at + 4096 :])
    with pytest.raises(LedgerError, match="is damaged"):
        schema.open_existing(path)
    path.write_bytes(whole[:at])
    with pytest.raises(LedgerError, match="damaged"):
        schema.open_existing(path)


def test_a_ledger_that_is_not_there_is_told_with_its_directory(tmp_path: Path) -> None:
    with pytest.raises(LedgerError, match="holds no ledger"):
        schema.open_read_only(tmp_path / "ledger.db")


def test_what_stands_in_a_run_directory_and_a_bare_id_lead_to_it(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tmp_path / "batch-cancel-runs" / "20261124T031500Z-7f3a2c"
    run.mkdir(parents=True)
    path.rename(run / "ledger.db")
    monkeypatch.chdir(tmp_path)
    there = Path("batch-cancel-runs", run.name)
    for given, hint in [
        (there / "ledger.db", f"did you mean {there}?"),
        (there / "report.html", f"did you mean {there}?"),
        (Path(run.name), f"did you mean {there}?"),
        (Path("[0-9]*"), "is it a run directory of batch-cancel?"),
        (Path(), "is it a run directory of batch-cancel?"),
    ]:
        with pytest.raises(LedgerError) as caught:
            schema.check(given / "ledger.db")
        assert str(caught.value) == f"{given} holds no ledger (ledger.db); {hint}"


def test_the_directory_of_all_runs_leads_to_the_latest(path: Path, tmp_path: Path) -> None:
    for number, name in enumerate(("b-later", "a-latest", "c-first")):
        there = tmp_path / "runs" / name / "ledger.db"
        there.parent.mkdir(parents=True)
        there.write_bytes(path.read_bytes())
        moment = 1_800_000_000 - 60 * (1, 0, 2)[number]
        os.utime(there, (moment, moment))
    with pytest.raises(LedgerError) as caught:
        schema.check(tmp_path / "runs" / "ledger.db")
    runs = tmp_path / "runs"
    assert (
        str(caught.value)
        == f"{runs} holds no ledger (ledger.db), but run directories; the latest of 3 is {runs / 'a-latest'}"
    )


def test_a_run_is_settled_if_and_only_if_it_has_an_outcome(path: Path) -> None:
    connection = sqlite3.connect(path)
    connection.execute("INSERT INTO targets (id, region) VALUES (1, 'eu-west-1')")
    insert = "INSERT INTO runs (target_id, transform_id, task_run_id, state, outcome) VALUES (1, 't', ?, ?, ?)"
    connection.execute(insert, ("a", "pending", None))
    connection.execute(insert, ("b", "done", "stopped"))
    for state, outcome in (("pending", "stopped"), ("claimed", "unknown"), ("done", None), ("excluded", None)):
        with pytest.raises(sqlite3.IntegrityError):
            connection.execute(insert, ("c", state, outcome))
    connection.close()
