"""An earlier sweep, as one side of a comparison: which runs it saw, and which it could not have seen.

A run is *active* in a sweep when the sweep found it STARTING or RUNNING, or, where it was not read before it was asked
to stop, when the outcome shows that it was running then.
"""

import json
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

from batch_cancel.core.errors import LedgerError
from batch_cancel.core.moment import moment_of
from batch_cancel.core.outcome import Outcome
from batch_cancel.core.selection import ACTIVE_STATUSES
from batch_cancel.core.task_run import Status
from batch_cancel.ledger import LEDGER_NAME, schema
from batch_cancel.ledger.reader import VERDICT
from batch_cancel.report.document import settings_kept_in

PLACE = """
coalesce(t.account_id, substr(t.role_arn, instr(t.role_arn, '::') + 2, 12), 'profile ' || t.profile, 'default')
"""
"""What tells accounts apart: their ids, and the ways in where nobody asked for the id."""

TARGETS = f"SELECT {PLACE} AS place, t.* FROM targets t ORDER BY t.id"  # noqa: S608  # constant
RUNS = f"""
SELECT {PLACE} AS place, t.account_id, t.region, r.transform_id, r.task_run_id, m.name AS transform_name, r.task_type,
       r.started_on, r.status_before, {VERDICT} AS verdict
FROM runs r JOIN targets t ON t.id = r.target_id
LEFT JOIN transforms m ON m.target_id = r.target_id AND m.transform_id = r.transform_id
ORDER BY place, t.region, r.transform_id, r.task_run_id
"""  # noqa: S608  # constants

_RAN = (
    *(Outcome.WOULD_CANCEL, Outcome.FAILED),
    *(Outcome.STOPPED, Outcome.STOPPING, Outcome.STUCK_STOPPING, Outcome.FINISHED_FIRST),
)
_OVER = (Outcome.ALREADY_FINISHED, Outcome.NOT_FOUND)
_SEEN_OVER = (Outcome.STOPPED, Outcome.FINISHED_FIRST, *_OVER)
_MAY_BE_STOPPING = (Outcome.STUCK_STOPPING, Outcome.STOPPING, Outcome.UNKNOWN)
_ASKED_IN_VAIN = (*_MAY_BE_STOPPING, Outcome.FAILED, Outcome.DENIED)


class RunKey(NamedTuple):
    """What names a run across ledgers; ``place`` is the account's id, or the way in where that is not known."""

    place: str
    region: str
    transform_id: str
    task_run_id: str


@dataclass(frozen=True, slots=True)
class Sighting:
    """A run as one sweep has it; ``active`` is None where the sweep cannot tell."""

    key: RunKey
    account_id: str | None
    transform_name: str | None
    task_type: str | None
    started_on: datetime | None
    status: str | None
    outcome: Outcome

    @property
    def active(self) -> bool | None:
        """Whether the run was active when the sweep found it."""
        if self.status is not None:
            return self.status in ACTIVE_STATUSES
        if self.outcome in _RAN:
            return True
        return False if self.outcome in _OVER else None

    @property
    def over(self) -> bool:
        """Whether the sweep knows that the run had ended: a STOPPING one is neither active nor over."""
        return self.outcome in _SEEN_OVER or (self.active is False and self.status != Status.STOPPING)

    @property
    def may_be_stopping(self) -> bool:
        """Whether it can be STOPPING, as far as the sweep knows: then no listing of active runs shows it."""
        return not self.over and (self.status == Status.STOPPING or self.outcome in _MAY_BE_STOPPING)

    @property
    def asked_in_vain(self) -> bool:
        """Whether it was asked to stop, and was not seen to have stopped."""
        return self.outcome in _ASKED_IN_VAIN


@dataclass(frozen=True, slots=True)
class _Listed:
    """How far a target was listed: ``fault`` is why not to the end, ``discovered`` False where only a list was."""

    fault: str | None
    discovered: bool


class PastSweep:
    """One run directory, open for reading at one instant.

    Raises:
        LedgerError: on opening, where it holds no ledger that can be read.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        path = directory / LEDGER_NAME
        schema.check(path)
        self._connection = schema.open_read_only(path)
        try:
            self._connection.execute("BEGIN")  # what is read from here on is of one instant, whoever writes meanwhile
            facts = self._connection.execute("SELECT key, value FROM sweep")
            self.facts: dict[str, Any] = {row[0]: json.loads(row[1]) for row in facts}
            self.targets = self._read_targets()
        except (sqlite3.Error, ValueError) as error:
            self._connection.close()
            raise LedgerError(f"{path} cannot be read: {error}") from error
        self.started_at = moment_of(self.facts.get("started_at"))
        selection = settings_kept_in(self.facts).get("selection")
        self.selection: dict[str, Any] = selection if isinstance(selection, dict) else {}

    def close(self) -> None:
        """Close the ledger."""
        self._connection.close()

    @property
    def finished(self) -> bool:
        """Whether the sweep wrote its end."""
        return self.facts.get("finished_at") is not None

    @property
    def scope(self) -> tuple[str | None, ...]:
        """What decides which runs of a target are looked at; equal for sweeps that look at the same."""
        return (self._kind, *(json.dumps(part, sort_keys=True) for part in self._narrowed()))

    def sightings(self) -> Iterator[Sighting]:
        """Every run, in the order of its key; streamed."""
        try:
            for row in self._connection.execute(RUNS):
                yield _sighting(row)
        except sqlite3.Error as error:
            raise LedgerError(f"{self.directory / LEDGER_NAME} cannot be read: {error}") from error

    def blind_to(self, key: RunKey) -> str | None:
        """Why this sweep would not have found an active run, or None where it would have."""
        listed = self.targets.get((key.place, key.region))
        if listed is None:
            return "its account and region were not swept"
        if listed.fault is not None:
            return listed.fault
        if not listed.discovered:
            return "only the runs of a list were looked at"
        return self._passes_over(key)

    def _passes_over(self, key: RunKey) -> str | None:
        transform_ids, tags, statuses = self._narrowed()
        if transform_ids and key.transform_id not in transform_ids:
            return "only other transforms were looked at"
        if tags:
            return "only transforms with certain tags were looked at"
        if statuses:
            return f"only runs that are {' or '.join(statuses)} were looked at"
        return None

    def _narrowed(self) -> tuple[Sequence[str], Mapping[str, Sequence[str]], Sequence[str]]:
        """The parts of the selection that keep discovery from even listing a run; the other parts exclude it by name.

        Empty where a part narrows nothing (:meth:`batch_cancel.engine.transforms.Transforms.ids`).
        """
        tags = self.selection.get("tags") or {}
        statuses = self.selection.get("statuses") or ()
        return (
            self.selection.get("transform_ids") or (),
            tags if all(tags.values()) else {},
            () if set(statuses) >= set(ACTIVE_STATUSES) else statuses,
        )

    @property
    def _kind(self) -> str | None:
        source = self.facts.get("source")
        return source.get("kind") if isinstance(source, dict) else None

    def _read_targets(self) -> dict[tuple[str, str], _Listed]:
        targets: dict[tuple[str, str], _Listed] = {}
        for row in self._connection.execute(TARGETS):
            key = (row["place"], row["region"])
            # A manifest and a plan are looked at run by run: what else is active there they never list.
            discovered = row["active_runs"] is not None and self._kind not in ("manifest", "plan")
            fault = None
            # Trouble after a listing that ended well (say, in cancelling) hides no run.
            if not row["listed"] and (discovered or row["error_code"] is not None or not self.finished):
                code, message = row["error_code"], row["error_message"]
                fault = ": ".join(part for part in ("not listed completely", code, message) if part)
            known = targets.get(key)
            if known is None or known.fault is not None:  # of two ways in the one that worked tells
                targets[key] = _Listed(fault, discovered)
        return targets


def _sighting(row: sqlite3.Row) -> Sighting:
    place, started_on = row["place"], row["started_on"]
    return Sighting(
        key=RunKey(place, row["region"], row["transform_id"], row["task_run_id"]),
        account_id=row["account_id"] or (place if place.isdigit() else None),
        transform_name=row["transform_name"],
        task_type=row["task_type"],
        started_on=None if started_on is None else datetime.fromtimestamp(started_on, UTC),
        status=row["status_before"],
        outcome=Outcome(row["verdict"]),
    )
