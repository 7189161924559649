"""The reading side: what the engine asks on its way, and all that a report is made from. It never writes."""

import json
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

from batch_cancel.core.outcome import Outcome
from batch_cancel.core.selection import NOT_KNOWN
from batch_cancel.core.task_run import Access, Target, Transform
from batch_cancel.ledger import schema

VERDICT = """
CASE
    WHEN r.outcome IS NOT NULL THEN r.outcome
    WHEN r.state = 'pending' AND r.tainted = 0 THEN 'not_attempted'
    WHEN r.state = 'asked' AND r.accepted = 1 THEN 'stopping'
    WHEN r.state = 'asked' AND r.tainted = 0 AND r.refusal = 'invalid' THEN 'invalid'
    WHEN r.state = 'asked' AND r.tainted = 0 AND r.refusal = 'access' THEN 'denied'
    ELSE 'unknown'
END
"""
"""The outcome of any run at any instant: what is not settled is told as what can be said of it now
(:func:`batch_cancel.core.outcome.cut_short` in SQL; an intent without an answer is 'unknown')."""


@dataclass(frozen=True, slots=True)
class TargetRow:
    """A target as the ledger has it; fields as in the report's ``targets``.

    Attributes:
        listed: every listing that was needed ended well.
        complete: that, and no other trouble kept anything here from being done.
    """

    id: int
    target: Target
    identity_arn: str | None
    listed: bool
    complete: bool
    transforms: int | None
    active_runs: int | None
    error_code: str | None
    error_message: str | None


@dataclass(frozen=True, slots=True)
class RunRow:
    """A run as the ledger has it; fields as in the report's ``runs``, and what its cost is estimated from."""

    id: int
    target_id: int
    account_id: str | None
    region: str
    transform_id: str
    transform_name: str | None
    task_run_id: str
    task_type: str | None
    started_on: datetime | None
    status_before: str | None
    outcome: Outcome
    status_after: str | None
    rule: str | None
    attempts: int
    throttled: int
    error_code: str | None
    error_message: str | None
    request_id: str | None
    requested_at: datetime | None
    confirmed_at: datetime | None
    labels: dict[str, str]
    sweep_number: int
    execution_time_seconds: int | None
    max_capacity: float | None
    worker_type: str | None
    number_of_workers: int | None
    timeout_minutes: int | None
    glue_version: str | None
    returns: int


@dataclass(frozen=True, slots=True)
class PendingRun:
    """A run that waits to be claimed or looked at, with the evidence that an earlier process left."""

    id: int
    transform_id: str
    task_run_id: str
    wire_calls: int
    requested_at: datetime | None
    clock_offset: float | None
    tainted: bool
    attempts: int
    throttled: int


@dataclass(frozen=True, slots=True)
class AskedRun:
    """A run whose requests are over and whose end is to be read."""

    id: int
    transform_id: str
    task_run_id: str
    started_on: datetime | None
    requested_at: datetime | None
    clock_offset: float | None
    accepted: bool
    accepted_at: datetime | None
    tainted: bool
    refusal: str | None
    status_after: str | None
    returns: int


@dataclass(frozen=True, slots=True)
class RejectedRow:
    """A manifest row that was left out."""

    line: int | None
    text: str | None
    error: str


@dataclass(frozen=True, slots=True)
class PendingGroup:
    """The pending runs of one transform, as a person is asked about them.

    Attributes:
        oldest_started_on: None where no start is known.
        task_types: those that are known, in alphabetical order.
        used_runs: how many have a time of use that is known: ExecutionTime where Glue tells one, else from their start.
        used_seconds: those times added up, each start counted until ``now`` and not beyond the transform's time-out;
            both are zero if no ``now`` was given.
    """

    target: Target
    transform: Transform
    runs: int
    oldest_started_on: datetime | None
    task_types: tuple[str, ...]
    used_runs: int = 0
    used_seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class CallCount:
    """Calls of one operation of one target in one second."""

    target_id: int
    operation: str
    second: int
    calls: int
    throttled: int
    failed: int
    retries: int
    rps: float | None


class CallTotals(NamedTuple):
    """Sums of calls. ``failed``: without a good answer, throttles not counted (another error, or no answer at all)."""

    calls: int
    throttled: int
    failed: int
    retries: int


RUNS = f"""
SELECT r.id, r.target_id, t.account_id, t.region, r.transform_id, m.name, r.task_run_id, r.task_type,
       r.started_on, r.status_before, {VERDICT}, r.status_after, r.rule, r.attempts, r.throttled,
       r.error_code, r.error_message, r.request_id, r.requested_at, r.confirmed_at, r.labels, r.sweep_number,
       r.execution_time_seconds, m.max_capacity, m.worker_type, m.number_of_workers, m.timeout_minutes,
       m.glue_version, r.returns
FROM runs r JOIN targets t ON t.id = r.target_id
LEFT JOIN transforms m ON m.target_id = r.target_id AND m.transform_id = r.transform_id
"""  # noqa: S608  # VERDICT is a constant of this module
"""The columns stand in the order of RunRow's fields."""

LEFT_UNKNOWN = f"runs.state = 'excluded' AND runs.rule LIKE '%{NOT_KNOWN}%'"
"""Runs that were left alone only because what a rule asks for could not be read: they are decided about once more."""
MOST_RETURNS = 2
MAY_RETURN = f"""
runs.state = 'done'
    AND (runs.returns < {MOST_RETURNS}
        OR runs.outcome IN ('stopped', 'finished_first', 'already_finished') AND runs.attempts >= runs.returns)
"""
"""Runs that become pending once more when a listing of ``--until-clear`` finds them active after their verdict.

One that had ended comes back as often as it is started. Without a request for each return it was not: then a reading
said each time that it is over, and a listing that goes on telling another thing would be followed for ever.
"""
AWAITED = "runs.state = 'asked' AND runs.accepted = 1"
"""Runs whose request was accepted and whose end is waited for."""
MAY_RESTART = f"({AWAITED} OR runs.state = 'done')"
"""Runs that become pending once more when it finds that they have started once more; an earlier start was asked for."""

USED_SECONDS = """
CASE
    WHEN :now IS NULL THEN NULL
    WHEN r.execution_time_seconds > 0 THEN r.execution_time_seconds
    WHEN r.started_on IS NOT NULL AND r.status_before IN ('STARTING', 'RUNNING', 'STOPPING')
        THEN min(max(0, :now - r.started_on), CASE WHEN m.timeout_minutes > 0 THEN m.timeout_minutes * 60 ELSE 1e15 END)
    WHEN r.execution_time_seconds = 0 THEN 0
END
"""
"""How long a run has used its capacity, or NULL: :func:`batch_cancel.core.cost.estimated_dpu_hours` in SQL."""

STARTED_ON, REQUESTED_AT, CONFIRMED_AT, OUTCOME, LABELS = (
    RunRow.__match_args__.index(name) for name in ("started_on", "requested_at", "confirmed_at", "outcome", "labels")
)


class LedgerReader:
    """A read-only connection to one ledger. Every method sees what is committed at that moment.

    Raises:
        LedgerError: on opening, where there is no ledger or it cannot be read.
    """

    def __init__(self, path: Path) -> None:
        self._connection = schema.open_read_only(path)

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    # For the engine

    def next_target_id(self) -> int:
        """The id that the next target gets."""
        return self._one("SELECT coalesce(max(id), 0) + 1 FROM targets")

    def clock_offset(self, target_id: int) -> float | None:
        """By how many seconds a target's clock is ahead of ours, if its answers have told."""
        row = self._connection.execute("SELECT clock_offset FROM targets WHERE id = ?", (target_id,)).fetchone()
        return None if row is None else row[0]

    def count(self, state: str, target_id: int | None = None) -> int:
        """How many runs are in a state, in all or of one target."""
        if target_id is None:
            return self._one("SELECT count(*) FROM runs WHERE state = ?", state)
        return self._one("SELECT count(*) FROM runs WHERE state = ? AND target_id = ?", state, target_id)

    def in_doubt(self) -> int:
        """How many runs may have been asked for, of which nobody knows: a resume reads them back before it asks."""
        return self._one(f"SELECT count(*) FROM runs r WHERE state IN ('pending', 'claimed') AND {VERDICT} = 'unknown'")  # noqa: S608  # constant

    def entered(self, target_id: int, transform_id: str, *, again: bool) -> set[str]:
        """Runs of a transform that finding them anew does not change: they stand here already.

        Args:
            again: as in :meth:`~batch_cancel.ledger.ledger.Ledger.add_runs`.
        """
        but = f"AND NOT ({MAY_RETURN})" if again else ""
        rows = self._connection.execute(
            f"SELECT task_run_id FROM runs WHERE target_id = ? AND transform_id = ? {but}",  # noqa: S608  # constants
            (target_id, transform_id),
        )
        return {row[0] for row in rows}

    def listed(self, target_id: int) -> bool:
        """Whether every listing, or look, that a target needed has ended well."""
        return bool(self._one("SELECT listed FROM targets WHERE id = ?", target_id))

    def left_unknown(self, target_id: int) -> bool:
        """Whether runs of a target were left alone only because what a rule asks for could not be read."""
        return bool(self._one(f"SELECT count(*) FROM runs WHERE target_id = ? AND {LEFT_UNKNOWN}", target_id))  # noqa: S608  # constant

    def to_decide_anew(self, target_id: int, transform_id: str) -> set[str]:
        """The ids of those runs of a transform that :meth:`left_unknown` speaks of: who finds them decides anew."""
        rows = self._connection.execute(
            f"SELECT task_run_id FROM runs WHERE target_id = ? AND transform_id = ? AND {LEFT_UNKNOWN}",  # noqa: S608  # constant
            (target_id, transform_id),
        )
        return {row[0] for row in rows}

    def starts(self, target_id: int, transform_id: str) -> dict[str, tuple[datetime | None, bool]]:
        """When runs of a transform that were asked for, or have their verdict, had started; and which are awaited."""
        rows = self._connection.execute(
            f"SELECT task_run_id, started_on, {AWAITED} FROM runs"  # noqa: S608  # constants
            f" WHERE target_id = ? AND transform_id = ? AND {MAY_RESTART}",
            (target_id, transform_id),
        )
        return {row[0]: (_moment(row[1]), bool(row[2])) for row in rows}

    def count_runs(self) -> int:
        """How many distinct runs there are."""
        return self._one("SELECT count(*) FROM runs")

    def pending(self, target_id: int, limit: int, *, after_id: int | None = None) -> list[PendingRun]:
        """The next runs to cancel, highest priority first; with ``after_id`` in the order of ids, for a walk."""
        wire_calls = "(SELECT count(*) FROM attempts a WHERE a.run_id = r.id)"
        where, order, parameters = "", "priority DESC, id", [target_id]
        if after_id is not None:
            where, order = "AND id > ?", "id"
            parameters.append(after_id)
        rows = self._connection.execute(
            f"SELECT r.*, {wire_calls} AS wire_calls FROM runs r WHERE state = 'pending' AND target_id = ? {where}"  # noqa: S608  # constants
            f" ORDER BY {order} LIMIT ?",
            (*parameters, limit),
        )
        return [
            PendingRun(
                id=row["id"],
                transform_id=row["transform_id"],
                task_run_id=row["task_run_id"],
                wire_calls=row["wire_calls"],
                requested_at=_moment(row["requested_at"]),
                clock_offset=row["clock_offset"],
                tainted=bool(row["tainted"]),
                attempts=row["attempts"],
                throttled=row["throttled"],
            )
            for row in rows
        ]

    def asked_transforms(self, target_id: int) -> list[str]:
        """The transforms of a target that have open runs, by their ids."""
        rows = self._connection.execute(
            "SELECT DISTINCT transform_id FROM runs WHERE state = 'asked' AND target_id = ?", (target_id,)
        )
        return [row[0] for row in rows]

    def asked(self, target_id: int, transform_id: str, *, after_id: int = 0, limit: int = 1000) -> list[AskedRun]:
        """Open runs of one transform, in the order of ids."""
        rows = self._connection.execute(
            "SELECT * FROM runs WHERE state = 'asked' AND target_id = ? AND transform_id = ? AND id > ?"
            " ORDER BY id LIMIT ?",
            (target_id, transform_id, after_id, limit),
        )
        return [
            AskedRun(
                id=row["id"],
                transform_id=row["transform_id"],
                task_run_id=row["task_run_id"],
                started_on=_moment(row["started_on"]),
                requested_at=_moment(row["requested_at"]),
                clock_offset=row["clock_offset"],
                accepted=bool(row["accepted"]),
                accepted_at=_moment(row["accepted_at"]),
                tainted=bool(row["tainted"]),
                refusal=row["refusal"],
                status_after=row["status_after"],
                returns=row["returns"],
            )
            for row in rows
        ]

    # For consent

    def pending_groups(self, now: datetime | None = None, *, dry_run: bool = False) -> Iterator[PendingGroup]:
        """What would be cancelled, by target and transform, the largest first; streamed.

        Args:
            now: an aware datetime, until which active runs are taken to have used their capacity.
            dry_run: whether the decision was all that there was to be: its runs are settled, and none is pending.
        """
        decided = "r.outcome = 'would_cancel'" if dry_run else "r.state = 'pending'"
        rows = self._connection.execute(
            "SELECT t.account_id, t.region, t.profile, t.role_arn, t.external_id, r.transform_id, m.name,"  # noqa: S608  # constant
            " m.max_capacity, m.worker_type, m.number_of_workers, m.timeout_minutes, m.glue_version,"
            " count(*) AS runs, min(r.started_on) AS oldest, group_concat(DISTINCT r.task_type) AS task_types,"
            f" count({USED_SECONDS}) AS used_runs, total({USED_SECONDS}) AS used_seconds"
            " FROM runs r JOIN targets t ON t.id = r.target_id"
            " LEFT JOIN transforms m ON m.target_id = r.target_id AND m.transform_id = r.transform_id"
            f" WHERE {decided} GROUP BY r.target_id, r.transform_id"
            " ORDER BY runs DESC, r.target_id, r.transform_id",
            {"now": None if now is None else now.timestamp()},
        )
        for row in rows:
            yield PendingGroup(
                target=Target(
                    row["region"], row["account_id"], Access(row["profile"], row["role_arn"], row["external_id"])
                ),
                transform=Transform(
                    row["transform_id"],
                    name=row["name"],
                    max_capacity=row["max_capacity"],
                    worker_type=row["worker_type"],
                    number_of_workers=row["number_of_workers"],
                    timeout_minutes=row["timeout_minutes"],
                    glue_version=row["glue_version"],
                ),
                runs=row["runs"],
                oldest_started_on=_moment(row["oldest"]),
                task_types=tuple(sorted(row["task_types"].split(","))) if row["task_types"] else (),
                used_runs=row["used_runs"],
                used_seconds=row["used_seconds"],
            )

    def excluded_by_rule(self) -> list[tuple[str | None, int]]:
        """What is left alone, by the rule that spares it; the rule that spares most comes first."""
        rows = self._connection.execute(
            "SELECT rule, count(*) FROM runs WHERE state = 'excluded' GROUP BY rule ORDER BY 2 DESC, 1"
        )
        return [(row[0], row[1]) for row in rows]

    # For reports

    @contextmanager
    def snapshot(self) -> Iterator[None]:
        """Inside, everything is seen as it was at one moment, though another process goes on writing."""
        self._connection.execute("BEGIN")
        try:
            yield
        finally:
            self._connection.execute("ROLLBACK")

    def last_call(self) -> datetime | None:
        """The end of the last second in which the service was called, by our clock."""
        second = self._connection.execute("SELECT max(second) FROM calls").fetchone()[0]
        return None if second is None else _moment(second + 1)

    def facts(self) -> dict[str, Any]:
        """Facts about the whole sweep: sweep_id, settings, mode, started_at, ..."""
        return {row[0]: json.loads(row[1]) for row in self._connection.execute("SELECT key, value FROM sweep")}

    def targets(self) -> list[TargetRow]:
        """Every target, in the order in which they were entered."""
        return [
            TargetRow(
                id=row["id"],
                target=Target(
                    region=row["region"],
                    account_id=row["account_id"],
                    access=Access(row["profile"], row["role_arn"], row["external_id"]),
                ),
                identity_arn=row["identity_arn"],
                listed=bool(row["listed"]),
                complete=bool(row["listed"]) and row["error_code"] is None,
                transforms=row["transforms"],
                active_runs=row["active_runs"],
                error_code=row["error_code"],
                error_message=row["error_message"],
            )
            for row in self._connection.execute("SELECT * FROM targets ORDER BY id")
        ]

    def runs(self, *outcomes: Outcome) -> Iterator[RunRow]:
        """Every run, or those with one of these outcomes, in the order in which they were found; streamed."""
        marks = ", ".join("?" * len(outcomes))
        where = f"WHERE {VERDICT} IN ({marks})" if outcomes else ""
        for row in self._connection.execute(f"{RUNS} {where} ORDER BY r.id", outcomes):
            yield _run(row)

    def runs_of_later_sweeps(self) -> Iterator[RunRow]:
        """Runs that a later sweep of ``--until-clear`` found and did not leave alone; streamed."""
        where = "WHERE r.sweep_number > 1 AND r.state != 'excluded'"
        for row in self._connection.execute(f"{RUNS} {where} ORDER BY r.id"):
            yield _run(row)

    def outcomes(self) -> dict[Outcome, int]:
        """How many runs have each outcome; only those that occur."""
        rows = self._connection.execute(f"SELECT {VERDICT} AS verdict, count(*) FROM runs r GROUP BY verdict")  # noqa: S608  # constant
        counts = {Outcome(row[0]): int(row[1]) for row in rows}
        return {outcome: counts[outcome] for outcome in Outcome if outcome in counts}

    def calls(self) -> Iterator[CallCount]:
        """Every count of calls, oldest first."""
        for row in self._connection.execute("SELECT * FROM calls ORDER BY second, target_id, operation"):
            yield CallCount(**dict(row))

    def call_totals(self) -> dict[str, CallTotals]:
        """For each operation, the sums of all its calls."""
        rows = self._connection.execute(
            "SELECT operation, sum(calls), sum(throttled), sum(failed), sum(retries) FROM calls"
            " GROUP BY operation ORDER BY 1"
        )
        return {row[0]: CallTotals(*row[1:]) for row in map(tuple, rows)}

    def targets_that_answered(self) -> set[int]:
        """The targets at which some call was a success: there the credentials were taken."""
        rows = self._connection.execute(
            "SELECT target_id FROM calls GROUP BY target_id HAVING sum(calls) > sum(throttled) + sum(failed)"
        )
        return {row[0] for row in rows}

    def rejected(self) -> Iterator[RejectedRow]:
        """Manifest rows that were left out, in their order."""
        for row in self._connection.execute("SELECT line, text, error FROM rejected ORDER BY rowid"):
            yield RejectedRow(*row)

    def rejected_count(self) -> int:
        """How many manifest rows were left out."""
        return self._one("SELECT count(*) FROM rejected")

    def _one(self, sql: str, *parameters: object) -> int:
        return int(self._connection.execute(sql, parameters).fetchone()[0])


def _run(row: sqlite3.Row) -> RunRow:
    # By place: reports read every run, and looking up each column by its name took half of their time.
    values = list(row)
    values[STARTED_ON] = _moment(values[STARTED_ON])
    values[REQUESTED_AT] = _moment(values[REQUESTED_AT])
    values[CONFIRMED_AT] = _moment(values[CONFIRMED_AT])
    values[OUTCOME] = Outcome(values[OUTCOME])
    values[LABELS] = json.loads(values[LABELS]) if values[LABELS] else {}
    return RunRow(*values)


def _moment(seconds: float | None) -> datetime | None:
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC)
