"""Reports and ledger to S3: ``<prefix>/<sweep id>/`` holds what the run directory holds."""

from collections.abc import Sequence
from pathlib import Path

from batch_cancel.core.errors import CallFailed, ErrorKind
from batch_cancel.glue.outbox import Outbox, S3Place
from batch_cancel.ledger.ledger import LEDGER_NAME

CONTENT_TYPES = {
    ".json": "application/json",
    ".csv": "text/csv; charset=utf-8",
    ".md": "text/markdown; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".db": "application/vnd.sqlite3",
}


def place_of_sweep(prefix: str, sweep_id: str) -> S3Place:
    """Where a sweep's copies go."""
    return S3Place.of(prefix).below(sweep_id)


async def upload(outbox: Outbox, place: S3Place, directory: Path, reports: Sequence[Path]) -> list[str]:
    """Copy a run directory; what could not be copied, a sentence each.

    The ledger goes first and ``report.json`` last, and only after all the others: where that is, everything is.
    """
    faults: list[str] = []
    files = [directory / LEDGER_NAME, *sorted(reports, key=lambda path: path.suffix == ".json")]
    for path in files:
        if faults and path.suffix == ".json":
            break
        try:
            await outbox.put_file(place.below(path.name), path, CONTENT_TYPES[path.suffix])
        except CallFailed as failure:
            faults.append(
                f"{path} could not be uploaded to {place.below(path.name)}: {_words(failure)}; it is kept where it is"
            )
            if failure.kind in (ErrorKind.CREDENTIALS, ErrorKind.ACCESS):
                break  # the others would be told the same
    return faults


def _words(failure: CallFailed) -> str:
    words = f"{failure.code}: {failure.message}".removesuffix(": ")
    if failure.kind is ErrorKind.ACCESS:
        return f"{words} (it needs s3:PutObject there, and the use of the bucket's key)"
    return words
