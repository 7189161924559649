"""A sound database with broken contents is refused with a sentence, by everybody who opens it."""

import sqlite3
from pathlib import Path

import pytest

from batch_cancel.core.errors import LedgerError
from batch_cancel.ledger import LEDGER_NAME
from batch_cancel.ledger.ledger import Ledger
from batch_cancel.report.diff import Comparison
from batch_cancel.report.files import opened
from tests.sweeps import Play, settings


@pytest.mark.parametrize(
    ("statement", "says"),
    [
        ("UPDATE sweep SET value = '{' WHERE key = 'source'", "its fact 'source' is not JSON"),
        ("UPDATE sweep SET value = '7' WHERE key = 'sweep_id'", "its fact 'sweep_id' is not text"),
        ("UPDATE runs SET outcome = 'gone' WHERE id = 1", "an outcome that nobody knows, 'gone'"),
        ("UPDATE runs SET labels = '[]' WHERE id = 1", "labels of a run are not a JSON object"),
        ("DROP TABLE calls", "it has no table calls"),
    ],
)
def test_broken_contents_are_named(statement: str, says: str) -> None:
    play = Play()
    play.sweep(settings())
    connection = sqlite3.connect(play.directory / LEDGER_NAME)
    connection.execute(statement)
    connection.commit()
    connection.close()

    def report(directory: Path) -> None:
        with opened(directory):
            pass

    def diff(directory: Path) -> None:
        with Comparison([directory, directory]):
            pass

    for use in (Ledger.open, Ledger.look, report, diff):
        with pytest.raises(LedgerError, match="is damaged") as refused:
            use(play.directory)
        assert says in str(refused.value)
