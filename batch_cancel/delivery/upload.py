"""Reports and ledger to S3: ``<prefix>/<sweep id>/`` holds what the run directory holds."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from batch_cancel.core.errors import CallFailed, ErrorKind, RecordLost
from batch_cancel.delivery.bounded import INTERRUPTED
from batch_cancel.glue.outbox import NOT_ENCRYPTED, Outbox, S3Place
from batch_cancel.ledger import LEDGER_NAME
from batch_cancel.ledger.copy import whole

CONTENT_TYPES = {
    ".json": "application/json",
    ".csv": "text/csv; charset=utf-8",
    ".md": "text/markdown; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".db": "application/vnd.sqlite3",
}

_OF_ALL = frozenset({INTERRUPTED, NOT_ENCRYPTED, "NoSuchBucket"})
"""Codes of failures that every other file would meet with too."""


@dataclass(frozen=True, slots=True)
class Uploaded:
    """Which files S3 has copies of, and what could not be copied, a sentence each."""

    copied: tuple[Path, ...]
    faults: tuple[str, ...]


def place_of_sweep(prefix: str, sweep_id: str) -> S3Place:
    """Where a sweep's copies go."""
    return S3Place.of(prefix).below(sweep_id)


async def upload(outbox: Outbox, place: S3Place, directory: Path, reports: Sequence[Path]) -> Uploaded:
    """Copy a run directory.

    The ledger goes first and ``report.json`` last, and only after all the others: where that is, everything is. After
    a failure that the others would meet with too (no access, no answer, no bucket, no encryption) they are left where
    they are.
    """
    copied: list[Path] = []
    faults: list[str] = []
    files = [directory / LEDGER_NAME, *sorted(reports, key=lambda path: path.suffix == ".json")]
    for number, path in enumerate(files, start=1):
        if faults and path.suffix == ".json":
            faults.append(f"{place.below(path.name)} was not made, as it says that all the others are there")
            break
        try:
            await _put(outbox, place.below(path.name), path)
            copied.append(path)
        except RecordLost as lost:
            faults.append(f"{lost}; it is kept where it is, and {place.below(path.name)} was not made")
        except CallFailed as failure:
            of_all = failure.kind is not ErrorKind.OTHER or failure.code in _OF_ALL
            left = files[number:] if of_all else []
            others = f"; not tried: {', '.join(other.name for other in left)}" if left else ""
            faults.append(
                f"{path} could not be uploaded to {place.below(path.name)}: {_words(failure)}; it is kept where it is"
                f"{others}"
            )
            if left:
                break
    return Uploaded(tuple(copied), tuple(faults))


async def _put(outbox: Outbox, place: S3Place, path: Path) -> None:
    content_type = CONTENT_TYPES[path.suffix]
    if path.name != LEDGER_NAME:
        await outbox.put_file(place, path, content_type)
        return
    with whole(path) as ledger:
        await outbox.put_file(place, ledger, content_type)


def _words(failure: CallFailed) -> str:
    words = f"{failure.code}: {failure.message}".removesuffix(": ")
    if failure.kind is ErrorKind.ACCESS:
        return f"{words} (it needs s3:PutObject there, and the use of the bucket's key)"
    return words
