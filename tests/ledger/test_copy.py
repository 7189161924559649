"""A copy of a ledger is all of it, whoever was reading when its sweep ended."""

import asyncio
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from batch_cancel.core.errors import RecordLost
from batch_cancel.ledger import LEDGER_NAME, schema
from batch_cancel.ledger.copy import whole
from batch_cancel.ledger.ledger import Ledger


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / "run"


def write(directory: Path, *, reader: bool, transaction: bool = False) -> sqlite3.Connection | None:
    """A ledger with one fact, closed while another process reads it (in a transaction or between two)."""

    async def story() -> sqlite3.Connection | None:
        ledger = Ledger.create(directory)
        connection = None
        if reader:
            connection = schema.open_read_only(directory / LEDGER_NAME)
            if transaction:
                connection.execute("BEGIN")
            connection.execute("SELECT * FROM sweep").fetchall()
        await ledger.set_facts(sweep_id="s-1")
        await ledger.close()
        return connection

    return asyncio.run(story())


def facts(file: Path) -> list[tuple[str, str]]:
    with closing(sqlite3.connect(f"file:{file}?immutable=1", uri=True)) as connection:  # the file and nothing else
        return connection.execute("SELECT key, value FROM sweep").fetchall()


def test_a_ledger_that_nobody_reads_is_not_copied(directory: Path) -> None:
    write(directory, reader=False)
    with whole(directory / LEDGER_NAME) as file:
        assert file == directory / LEDGER_NAME
        assert facts(file) == [("sweep_id", '"s-1"')]


@pytest.mark.parametrize("transaction", [True, False])
def test_the_copy_of_one_that_is_being_read_is_whole_private_and_goes(directory: Path, *, transaction: bool) -> None:
    reader = write(directory, reader=True, transaction=transaction)
    assert reader is not None
    with closing(reader):
        if transaction:  # what copying the file alone would have come to
            with pytest.raises(sqlite3.DatabaseError):
                facts(directory / LEDGER_NAME)
        with whole(directory / LEDGER_NAME) as file:
            assert facts(file) == [("sweep_id", '"s-1"')]
            assert file.stat().st_mode & 0o777 == 0o600
            schema.check(file)
    assert not list(directory.glob(".ledger-*"))


def test_a_file_that_between_two_looks_is_whole_by_itself(directory: Path) -> None:
    """A dashboard that keeps its connection open holds nothing back."""
    reader = write(directory, reader=True)
    assert reader is not None
    with closing(reader):
        assert facts(directory / LEDGER_NAME) == [("sweep_id", '"s-1"')]


def test_what_cannot_be_copied_is_said(directory: Path) -> None:
    with pytest.raises(RecordLost, match="cannot be copied"), whole(directory / LEDGER_NAME):
        pass
