"""What the last sweep of the same name and scope came to, and whether this one came to something else.

A change is: other runs that were found active, another outcome of one of them, another exit code, or another target in
trouble. Runs that a rule left alone and runs that had ended long before are none: they come and go every night. Where
nothing is known of an earlier sweep, everything is news.

The last sweep's mark is a small JSON document: in S3 under ``<prefix>/last/`` where reports are copied there (so that
it outlives containers), else in the user's state directory.
"""

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

from batch_cancel.core.errors import CallFailed, ErrorKind
from batch_cancel.core.outcome import Outcome
from batch_cancel.glue.learned import state_file
from batch_cancel.glue.outbox import Outbox, S3Place
from batch_cancel.private_file import replacing
from batch_cancel.report.document import Document

SCHEMA = "batch-cancel/last/1"

_NO_NEWS = frozenset({Outcome.EXCLUDED, Outcome.ALREADY_FINISHED})


@dataclass(frozen=True, slots=True)
class Mark:
    """A sweep as the next one compares itself with it.

    Attributes:
        fingerprint: of all that a change is about.
        outcomes: how many runs had each outcome; for people.
    """

    sweep_id: str
    finished_at: str | None
    fingerprint: str
    outcomes: dict[str, int]
    schema: str = SCHEMA

    @classmethod
    def of(cls, document: Document, exit_code: int) -> Self:
        """The mark of a finished sweep."""
        facts = document.facts
        return cls(
            str(facts.get("sweep_id")),
            facts.get("finished_at"),
            _fingerprint(document, exit_code),
            {str(outcome): count for outcome, count in document.outcomes.items()},
        )

    @classmethod
    def read(cls, data: bytes) -> Self | None:
        """A mark that was written earlier; None where it is none of ours: then everything is news."""
        try:
            found: dict[str, Any] = json.loads(data)
            if found["schema"] != SCHEMA:
                return None
            return cls(str(found["sweep_id"]), found["finished_at"], str(found["fingerprint"]), dict(found["outcomes"]))
        except (ValueError, KeyError, TypeError):
            return None

    def written(self) -> bytes:
        """The mark as :meth:`read` takes it."""
        return json.dumps(asdict(self), indent=1).encode()


class Marks:
    """Where the last mark of a sweep stands.

    Args:
        prefix: the S3 prefix of the reports; None for the state directory of this machine.
        name: what tells sweeps apart (:func:`scope`).
    """

    def __init__(self, outbox: Outbox, prefix: S3Place | None, name: str) -> None:
        self._outbox = outbox
        self._place = prefix.below("last", f"{name}.json") if prefix else None
        self._path = state_file().with_name("last") / f"{name}.json"

    async def last(self) -> Mark | None:
        """The last sweep's mark, if there is one.

        Raises:
            CallFailed: it may be there and cannot be read.
        """
        if self._place is not None:
            data = await self._outbox.get_bytes(self._place)
        else:
            data = _read(self._path)
        return None if data is None else Mark.read(data)

    async def save(self, mark: Mark) -> None:
        """Put this sweep's mark in the place of the last one's.

        Raises:
            CallFailed: it cannot be written.
        """
        if self._place is not None:
            await self._outbox.put_bytes(self._place, mark.written(), "application/json")
            return
        _write(self._path, mark.written())


def scope(document: Document) -> str:
    """What tells one kind of sweep from another: its name, its source, where it sweeps, and whether it is a dry run."""
    settings, facts = document.settings, document.facts
    source = settings.get("source") or {}
    told = [facts.get("name"), facts.get("mode"), settings.get("targets"), source.get("kind"), source.get("path")]
    return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()[:20]


def _fingerprint(document: Document, exit_code: int) -> str:
    """The same whatever the order in which runs were found; made in one pass, without holding them."""
    runs = 0
    for row in document.reader.runs():
        if row.outcome in _NO_NEWS:
            continue
        told = json.dumps([row.account_id, row.region, row.transform_id, row.task_run_id, row.outcome])
        runs = (runs + int.from_bytes(hashlib.sha256(told.encode()).digest())) % (1 << 256)
    troubles = sorted(
        [row.target.account_id or "", row.target.region, row.error_code or "", str(row.complete)]
        for row in document.targets.values()
        if not row.complete
    )
    whole = [f"{runs:064x}", troubles, exit_code, document.facts.get("stop_cause")]
    return hashlib.sha256(json.dumps(whole).encode()).hexdigest()


def _read(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise _local(error) from error


def _write(path: Path, data: bytes) -> None:
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with replacing(path) as new:
            new.write_bytes(data)
    except OSError as error:
        raise _local(error) from error


def _local(error: OSError) -> CallFailed:
    return CallFailed(ErrorKind.OTHER, "LastSweep", type(error).__name__, str(error), reached=False)
