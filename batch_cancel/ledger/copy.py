"""A ledger as one file that is whole by itself, fit to be sent away."""

import os
import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from batch_cancel.core.errors import RecordLost


@contextmanager
def whole(ledger: Path) -> Iterator[Path]:
    """Inside, a file with all that the ledger holds: the ledger itself, or a private copy that goes at the end.

    Whoever reads a ledger while its sweep ends (a dashboard, ``batch-cancel report``) keeps its last pages in the
    write-ahead log, and the file without that log is a ledger from some time before: it may even be empty.

    Raises:
        RecordLost: the ledger cannot be read, or no copy of it can be made.
    """
    copy: Path | None = None
    try:
        try:
            if _has_log(ledger):
                copy = _empty_beside(ledger)
                _back_up(ledger, copy)
        except (OSError, sqlite3.Error) as error:
            raise RecordLost(f"{ledger} cannot be copied: {error}") from error
        yield copy or ledger
    finally:
        if copy is not None:
            copy.unlink(missing_ok=True)


def _has_log(ledger: Path) -> bool:
    """Whether pages may stand beside the file (SQLite's file format, versions for writing and reading: 2 is WAL)."""
    with ledger.open("rb") as file:
        return 2 in file.read(20)[18:20]


def _empty_beside(ledger: Path) -> Path:
    handle, name = tempfile.mkstemp(dir=ledger.parent, prefix=f".{ledger.stem}-", suffix=ledger.suffix)  # mode 0600
    os.close(handle)
    return Path(name)


def _back_up(ledger: Path, copy: Path) -> None:
    with (
        closing(sqlite3.connect(f"{ledger.resolve().as_uri()}?mode=ro", uri=True)) as source,
        closing(sqlite3.connect(copy)) as target,
    ):
        source.backup(target)
        target.execute("PRAGMA journal_mode = DELETE")
