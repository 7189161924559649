"""The files that an option names to be written to: what is wrong with such a place is told before anything is done."""

from collections.abc import Collection
from pathlib import Path

from batch_cancel.core.errors import UsageError
from batch_cancel.ledger import LEDGER_NAME
from batch_cancel.settings import ReportFormat

LEDGER_FILES = frozenset(f"{LEDGER_NAME}{ending}" for ending in ("", "-wal", "-shm", "-journal"))
"""A ledger is the only record of what was sent: nothing is written in its place, whatever an option says."""

REPORT_FILES = frozenset(f"report.{form}" for form in ReportFormat)


def check_out_file(
    option: str, path: Path, *, read_from: Collection[Path] = (), run_directory: Path | None = None
) -> None:
    """Refuse a place that cannot be written to, or where something would be lost.

    Args:
        option: as it was written.
        read_from: the files that the command reads.
        run_directory: the one that the command fills, and makes where it is not there yet, before it writes the file.

    Raises:
        UsageError: nothing was called, and nothing written.
    """
    if path.resolve().name in LEDGER_FILES:
        raise UsageError(f"{option} {path}: a ledger is the record of a sweep, and is not written over")
    if path.is_dir():
        raise UsageError(f"{option} {path}: is a directory")
    if run_directory is not None and path.resolve().parent == run_directory.resolve():
        if path.name in REPORT_FILES:
            raise UsageError(f"{option} {path}: a report goes there: name another file")
    elif not path.absolute().parent.is_dir():
        raise UsageError(f"{option} {path}: there is no such directory")
    if any(path.exists() and other.exists() and path.samefile(other) for other in read_from):
        raise UsageError(f"{option} {path}: this is what is read from, and it would be overwritten: name another file")
