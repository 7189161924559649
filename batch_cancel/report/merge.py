"""Many sweeps' records made into one: the ledgers of shards, or reports where only those were kept.

The result is a run directory like any other, from which every report is made; it is not to be gone on with. A run that
several parts know stands in it once, with the verdict that what they saw together supports (:func:`verdict`). A part
that is missing is a target in trouble: a merged report is complete only if every part is there and complete itself.
"""

import json
import sqlite3
import tempfile
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from batch_cancel.core.errors import InputError, LedgerError, Problem, RecordLost, UsageError
from batch_cancel.core.outcome import Outcome
from batch_cancel.core.task_run import Status
from batch_cancel.ledger import LEDGER_NAME, schema
from batch_cancel.ledger.reader import VERDICT, LedgerReader, RejectedRow
from batch_cancel.report.as_ledger import ledger_of

STRENGTH = (
    # Seen ended: that is final, whoever saw it. A stop that was asked for and seen says most.
    Outcome.STOPPED,
    Outcome.FINISHED_FIRST,
    Outcome.ALREADY_FINISHED,
    # Accepted, and not seen ended: one that was waited for in vain says more than one that nobody waited for.
    Outcome.STUCK_STOPPING,
    Outcome.STOPPING,
    # A request may have reached the service, and nobody saw what came of it. Another part's reading does not tell: it
    # may be from before that request, for of a part's requests a report has the first one's moment alone.
    Outcome.UNKNOWN,
    # Seen running; it goes before "no such run", for that is no end of a run that was seen.
    Outcome.FAILED,
    Outcome.WOULD_CANCEL,
    Outcome.NOT_FOUND,
    # Nobody could read it, and it was certainly refused.
    Outcome.DENIED,
    Outcome.INVALID,
    # Nothing was sent. What was decided goes before what was not got to.
    Outcome.EXCLUDED,
    Outcome.NOT_ATTEMPTED,
)
"""Which verdict of two stays: an end that was seen goes before everything, and what may have been sent, and so have
changed what others saw, before what never was. Only what one part asked for, and another saw ended, takes both to tell:
:func:`verdict`."""

_ENDED = (Outcome.STOPPED, Outcome.FINISHED_FIRST, Outcome.ALREADY_FINISHED)
"""Seen ended."""
_MAY_HAVE_STOPPED = (
    *(Outcome.STOPPED, Outcome.FINISHED_FIRST, Outcome.STOPPING, Outcome.STUCK_STOPPING),
    Outcome.UNKNOWN,  # an attempt nobody knows of, after which the run is seen ended, was accepted
)
"""Of whoever has one of these, the request counts as accepted once the run is seen ended after it."""

CAUSES = ("interrupted", "deadline", "max_errors", "credentials", "guardrail")
INTERRUPTED_CODES = (130, 143)
STOPPED_EARLY = 5

_SIGHTING = ("execution_time_seconds", "status_after", "confirmed_at")
"""Of the part that was the first to see the run ended; where none did, of the part whose verdict stays."""
_VERDICT_COLUMNS = (
    *("task_type", "started_on", "status_before", "rule", "labels", "priority", "sweep_number", "returns"),
    *("accepted_at", "tainted", "refusal", "error_code", "error_message", "request_id"),
)
"""Of the part whose verdict stays. What is left of a run's columns adds up: its requests were all made."""
_RUN_COLUMNS = ", ".join(
    ("transform_id", "task_run_id", "requested_at", "attempts", "throttled", *_SIGHTING, *_VERDICT_COLUMNS)
)
_COPIED = ", ".join(f"r.{name}" for name in _RUN_COLUMNS.split(", "))


def _of_both(function: str, *columns: str) -> str:
    return f"{function}({', '.join(f'{table}.{name}' for table in ('runs', 'excluded') for name in columns)})"


MERGE_RUNS = f"""
INSERT INTO runs (target_id, state, outcome, accepted, {_RUN_COLUMNS})
SELECT p.whole_id, CASE WHEN r.state = 'excluded' THEN 'excluded' ELSE 'done' END, {VERDICT},
    CASE WHEN EXISTS (SELECT 1 FROM part.sweep WHERE key = 'merged') THEN r.accepted
         ELSE {VERDICT} IN ({", ".join(f"'{outcome}'" for outcome in _MAY_HAVE_STOPPED)})
              OR {VERDICT} = '{Outcome.ALREADY_FINISHED}' AND coalesce(r.confirmed_at < r.requested_at, 0) END,
    {_COPIED}
FROM part.runs r JOIN temp.places p ON p.part_id = r.target_id WHERE true ORDER BY r.id
ON CONFLICT (target_id, transform_id, task_run_id) DO UPDATE SET
    (outcome, state, accepted, requested_at, {", ".join((*_SIGHTING, *_VERDICT_COLUMNS))}) = (
        WITH whole (sighted, stays, verdict) AS MATERIALIZED (SELECT
            {_of_both("sighted", "outcome", *_SIGHTING, *_VERDICT_COLUMNS)},
            {_of_both("stays", "outcome", *_SIGHTING, *_VERDICT_COLUMNS)},
            {_of_both("verdict", "outcome", "accepted", "requested_at", *_SIGHTING)}
        )
        SELECT verdict, iif(verdict = 'excluded', 'excluded', 'done'), max(runs.accepted, excluded.accepted),
            CASE WHEN runs.accepted = excluded.accepted
                 THEN coalesce(min(runs.requested_at, excluded.requested_at), runs.requested_at, excluded.requested_at)
                 WHEN runs.accepted THEN runs.requested_at ELSE excluded.requested_at END,
            {", ".join(f"iif(sighted, runs.{name}, excluded.{name})" for name in _SIGHTING)},
            {", ".join(f"iif(stays, runs.{name}, excluded.{name})" for name in _VERDICT_COLUMNS)}
        FROM whole
    ),
    attempts = runs.attempts + excluded.attempts, throttled = runs.throttled + excluded.throttled
"""  # noqa: S608  # constants
"""``accepted`` of a merged run: its request counts as accepted if it is seen ended, and ``requested_at`` is its.

A run that was seen ended before its own request is of an earlier merge, of which a report is left: it was one part's
accepted request, and another's sighting. No verdict hangs on it, for its end comes before that request.
"""
MERGE_ATTEMPTS = """
INSERT INTO attempts (run_id, number, intent_at, sent_at, ended_at, class, error_code, http_status, request_id)
SELECT w.id,
       row_number() OVER (PARTITION BY w.id ORDER BY a.run_id, a.number)
           + coalesce((SELECT max(number) FROM attempts b WHERE b.run_id = w.id), 0),
       a.intent_at, a.sent_at, a.ended_at, a.class, a.error_code, a.http_status, a.request_id
FROM part.attempts a JOIN part.runs r ON r.id = a.run_id JOIN temp.places p ON p.part_id = r.target_id
JOIN runs w ON w.target_id = p.whole_id AND w.transform_id = r.transform_id AND w.task_run_id = r.task_run_id
ORDER BY a.run_id, a.number
"""
ADD_TARGET = """
INSERT INTO targets (account_id, region, profile, role_arn, external_id, identity_arn, listed, transforms, active_runs,
                     error_code, error_message)
VALUES (:account_id, :region, :profile, :role_arn, :external_id, :identity_arn, :listed, :transforms, :active_runs,
        :error_code, :error_message)
"""
MERGE_TRANSFORMS = """
INSERT OR IGNORE INTO transforms (target_id, transform_id, name, max_capacity, worker_type, number_of_workers,
                                  timeout_minutes, glue_version)
SELECT p.whole_id, t.transform_id, t.name, t.max_capacity, t.worker_type, t.number_of_workers, t.timeout_minutes,
       t.glue_version
FROM part.transforms t JOIN temp.places p ON p.part_id = t.target_id
"""
MERGE_CALLS = """
INSERT INTO calls SELECT p.whole_id, c.operation, c.second, c.calls, c.throttled, c.failed, c.retries, c.rps
FROM part.calls c JOIN temp.places p ON p.part_id = c.target_id WHERE true
ON CONFLICT (target_id, operation, second) DO UPDATE SET calls = calls + excluded.calls,
    throttled = throttled + excluded.throttled, failed = failed + excluded.failed,
    retries = retries + excluded.retries, rps = coalesce(rps, 0) + coalesce(excluded.rps, 0)
"""


Place = tuple[str, str]
"""A target across ledgers: its region, and its account, or the way in where that is not known."""


@dataclass(frozen=True, slots=True)
class Absent:
    """A part that should be there and is not, or a place that no part could be made for."""

    account_id: str | None
    region: str
    code: str
    message: str


@dataclass(frozen=True, slots=True)
class Besides:
    """What is known of a sweep besides its parts, by whoever cut it into them.

    Attributes:
        settings: of the whole, as :func:`batch_cancel.settings.to_json` writes them.
        facts: of the whole where there is no part: then it is done, and these are what its ledger says.
        absent: what is missing.
        left_out: accounts that are closed to everybody, as the report has them.
        rejected: rows of the list that were left out.
    """

    settings: str
    facts: Mapping[str, Any]
    absent: Sequence[Absent] = ()
    left_out: Sequence[Mapping[str, Any]] = ()
    rejected: Sequence[RejectedRow] = ()


def merge(parts: Sequence[Path], directory: Path, *, sweep_id: str, besides: Besides | None = None) -> int:
    """Make one ledger of many, in a directory that holds none yet; the exit code that the whole has.

    Args:
        parts: run directories, their ledgers, or ``report.json`` files.
        besides: None where nothing but the parts is known: then the first part's settings stand for all.

    Raises:
        UsageError: the parts do not belong together, or there is none.
        LedgerError, InputError: a part cannot be read, or the directory is taken.
        RecordLost: the result cannot be written.
    """
    if not parts and besides is None:
        raise UsageError("there is nothing to merge: no part, and no word of what there should be")
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise RecordLost(f"cannot make the directory {directory}: {error.strerror}") from error
    if others := sorted(path.name for path in directory.glob("report.*")):
        raise LedgerError(f"{directory} already holds {others[0]}: choose another directory with --out")
    path = directory / LEDGER_NAME
    schema.create(path).close()
    try:
        with tempfile.TemporaryDirectory(prefix="batch-cancel-merge-") as folder:
            return _merge(parts, path, Path(folder), sweep_id, besides)
    except BaseException as error:
        schema.remove(path)
        if isinstance(error, sqlite3.Error):
            raise RecordLost(f"cannot write {path}: {error}") from error
        raise


def sweep_id_of(part: Path) -> str | None:
    """The sweep id of a part; None where it tells none.

    Raises:
        LedgerError, InputError: the part cannot be read.
    """
    with tempfile.TemporaryDirectory(prefix="batch-cancel-merge-") as folder:
        return _sweep_id_in(ledger_of(part, Path(folder) / "part.db"))


def _sweep_id_in(ledger: Path) -> str | None:
    schema.check(ledger)
    with closing(LedgerReader(ledger)) as reader:
        return reader.facts().get("sweep_id")


def _merge(parts: Sequence[Path], path: Path, folder: Path, sweep_id: str, besides: Besides | None) -> int:
    whole = sqlite3.connect(path.resolve().as_uri(), uri=True, isolation_level=None)
    try:
        whole.row_factory = sqlite3.Row
        for function in (sighted, stays, verdict):
            whole.create_function(function.__name__, -1, function, deterministic=True)
        facts: list[dict[str, Any]] = []
        places: dict[Place, int] = {}
        rows = 0
        ledgers = [(ledger_of(part, folder / f"{number}.db"), part) for number, part in enumerate(parts)]
        # In one order however they were given: what cannot be added up (a name, a trouble) is the first one's.
        ledgers.sort(key=lambda pair: (_sweep_id_in(pair[0]) or "", str(pair[1])))
        for ledger, part in ledgers:
            told, count = _add(whole, ledger, part, places)
            _check_facts(part, told)
            facts.append(told)
            rows += count
        _check_together([part for _, part in ledgers], facts)
        whole.execute("BEGIN")
        if besides is not None:
            for gap in besides.absent:
                _add_absent(whole, gap)
            rejected = [(row.line, row.text, row.error) for row in besides.rejected]
            whole.executemany("INSERT INTO rejected (line, text, error) VALUES (?, ?, ?)", rejected)
        runs = whole.execute("SELECT count(*) FROM runs").fetchone()[0]
        told = _facts(facts, sweep_id, besides, again=rows - runs)
        whole.executemany(
            "INSERT OR REPLACE INTO sweep (key, value) VALUES (?, ?)",
            [(key, json.dumps(value)) for key, value in told.items()],
        )
        whole.execute("COMMIT")
        whole.execute("PRAGMA journal_mode = DELETE")
        return int(told["exit_code"])
    finally:
        whole.close()


def _add(whole: sqlite3.Connection, ledger: Path, part: Path, places: dict[Place, int]) -> tuple[dict[str, Any], int]:
    """Take one ledger in that was checked; its facts, and how many runs it has."""
    try:
        whole.execute("ATTACH DATABASE ? AS part", (f"{ledger.resolve().as_uri()}?mode=ro",))
        whole.execute("BEGIN")
        facts = {row["key"]: json.loads(row["value"]) for row in whole.execute("SELECT key, value FROM part.sweep")}
        whole.execute("CREATE TEMP TABLE places (part_id INTEGER PRIMARY KEY, whole_id INTEGER NOT NULL)")
        for row in whole.execute("SELECT * FROM part.targets ORDER BY id").fetchall():
            whole.execute("INSERT INTO temp.places VALUES (?, ?)", (row["id"], _target(whole, row, places)))
        for statement in (MERGE_TRANSFORMS, MERGE_RUNS, MERGE_ATTEMPTS, MERGE_CALLS):
            whole.execute(statement)
        whole.execute("INSERT INTO rejected SELECT line, text, error FROM part.rejected ORDER BY rowid")
        count = int(whole.execute("SELECT count(*) FROM part.runs").fetchone()[0])
        whole.execute("DROP TABLE temp.places")
        whole.execute("COMMIT")
        whole.execute("DETACH DATABASE part")
    except sqlite3.DatabaseError as error:
        raise LedgerError(f"{part} cannot be taken in: {error}") from error
    return facts, count


def _target(whole: sqlite3.Connection, row: sqlite3.Row, places: dict[Place, int]) -> int:
    """The target of the whole that a part's target is; ``places`` are those that the whole has."""
    account = row["account_id"] or _account_of(row["role_arn"])
    place = row["region"], account or row["profile"] or ""
    if place not in places:
        cursor = whole.execute(ADD_TARGET, {**dict(row), "account_id": account})
        places[place] = int(cursor.lastrowid or 0)
        return places[place]
    whole.execute(
        "UPDATE targets SET listed = min(listed, ?), identity_arn = coalesce(identity_arn, ?),"
        " transforms = max(coalesce(transforms, ?), coalesce(?, transforms)),"
        " active_runs = max(coalesce(active_runs, ?), coalesce(?, active_runs)),"
        " error_message = CASE WHEN error_code IS NULL THEN ? ELSE error_message END,"
        " error_code = coalesce(error_code, ?) WHERE id = ?",
        (
            row["listed"],
            row["identity_arn"],
            *[row["transforms"]] * 2,
            *[row["active_runs"]] * 2,
            row["error_message"],
            row["error_code"],
            places[place],
        ),
    )
    return places[place]


def _add_absent(whole: sqlite3.Connection, gap: Absent) -> None:
    changed = whole.execute(
        "UPDATE targets SET listed = 0, error_code = coalesce(error_code, ?),"
        " error_message = coalesce(error_message, ?) WHERE region = ? AND account_id IS ?",
        (gap.code, gap.message, gap.region, gap.account_id),
    ).rowcount
    if not changed:
        whole.execute(
            "INSERT INTO targets (account_id, region, listed, error_code, error_message) VALUES (?, ?, 0, ?, ?)",
            (gap.account_id, gap.region, gap.code, gap.message),
        )


def _account_of(role_arn: str | None) -> str | None:
    return role_arn.split(":")[4] if role_arn else None


# -- one run of two parts ---------------------------------------------------------------------------------------------
#
# Whatever two parts say of a run is joined so that neither their order nor any earlier merge has a say: every value is
# the least by some order, and the verdict is made of such values. These are functions of SQL: the columns of the one
# part, then those of the other.


def sighted(*columns: object) -> bool:
    """Whether the first's sighting of the run stays: of an end the earliest one, else that of the verdict."""
    one, other = _halves(columns)
    if one[0] in _ENDED and other[0] in _ENDED:
        return _sighting_key(one) <= _sighting_key(other)
    return stays(*columns)


def stays(*columns: object) -> bool:
    """Whether what else the first part says of the run stays: one that saw it end, and without an error, before all."""
    one, other = _halves(columns)
    return _verdict_key(one) <= _verdict_key(other)


def verdict(*columns: Any) -> str:  # noqa: ANN401  # SQL's values
    """The outcome that both together support.

    A run that is seen ended after a request that was, or may have been, accepted was stopped by that, or ended by
    itself although it was asked for; one that is seen ended before it had ended already. Where a moment or the status
    is not known that cannot be told, and the stronger of the two verdicts stays: it is one that a part could see.
    """
    halves = _halves(columns)
    strongest = min((half[0] for half in halves), key=lambda outcome: STRENGTH.index(Outcome(outcome)))
    # An end's moment and status are the earliest sighting's; the request's is the first that may have been accepted.
    ends = [half for half in halves if half[0] in _ENDED]
    asked_at = min((half[2] for half in halves if half[1] and half[2] is not None), default=None)
    if not ends or asked_at is None:
        return str(strongest)
    *_, status, seen_at = min(ends, key=lambda half: _sighting_key((half[0], *half[3:])))
    if seen_at is None:
        return str(strongest)
    if seen_at < asked_at or status is None or not Status(status).ended:
        return Outcome.ALREADY_FINISHED
    return Outcome.STOPPED if status == Status.STOPPED else Outcome.FINISHED_FIRST


def _halves(columns: Sequence[Any]) -> tuple[Sequence[Any], Sequence[Any]]:
    return columns[: len(columns) // 2], columns[len(columns) // 2 :]


def _sighting_key(told: Sequence[Any]) -> tuple[Any, ...]:
    """Of an outcome and a sighting: by its moment, where that is known."""
    _, seconds, status, seen_at, *_ = told
    return seen_at is None, seen_at or 0.0, status or "~", json.dumps(seconds)


def _verdict_key(told: Sequence[Any]) -> tuple[Any, ...]:
    """By the verdict's strength; those that saw the end are equals, for joining makes one of the other."""
    outcome, columns = told[0], told[1 + len(_SIGHTING) :]
    if outcome not in _ENDED:
        return STRENGTH.index(Outcome(outcome)), False, json.dumps(told[1:])
    of_verdict = dict(zip(_VERDICT_COLUMNS, columns, strict=True))
    return 0, of_verdict["error_code"] is not None, json.dumps(columns)


# -- the facts of the whole -------------------------------------------------------------------------------------------


_KINDS: dict[str, tuple[type, ...]] = {
    "name": (str,),
    "reason": (str,),
    "stop_cause": (str,),
    "exit_code": (int,),
    "duplicates": (int,),
    "sweeps": (int,),
    "source": (dict,),
    "left_out": (list,),
    "resumed_at": (list,),
    "refused_by": (str,),
    "settings": (str,),
}
"""What each fact is, where it is there: a report or a ledger may have been edited."""
_MOMENTS = ("started_at", "finished_at")


def _check_facts(part: Path, told: dict[str, Any]) -> None:
    for key, kinds in _KINDS.items():
        value = told.get(key)
        if value is not None and (not isinstance(value, kinds) or isinstance(value, bool)):
            raise InputError([Problem(str(part), f"is damaged: its {key} is {json.dumps(value)[:40]}")])
    for key in _MOMENTS:
        value = told.get(key)
        if value is not None and not _is_moment(value):
            raise InputError([Problem(str(part), f"is damaged: its {key} is {json.dumps(value)[:40]}")])


def _is_moment(value: object) -> bool:
    try:
        return isinstance(value, str) and datetime.fromisoformat(value).tzinfo is not None
    except ValueError:
        return False


def _check_together(parts: Sequence[Path], facts: Sequence[dict[str, Any]]) -> None:
    seen: dict[object, Path] = {}
    for part, told in zip(parts, facts, strict=True):
        if told.get("sweep_id") in seen:
            raise UsageError(f"{part} is of the same sweep as {seen[told.get('sweep_id')]}: give each part once")
        seen[told.get("sweep_id")] = part
    modes = {told.get("mode") for told in facts}
    if len(modes) > 1:
        raise UsageError("some parts are dry runs and some are not: merge them apart")


def _facts(parts: Sequence[dict[str, Any]], sweep_id: str, besides: Besides | None, *, again: int) -> dict[str, Any]:
    facts = parts if parts or besides is None else [{"sweep_id": sweep_id, **besides.facts}]
    incomplete = besides is not None and bool(besides.absent)
    exit_code = exit_code_of_all([told.get("exit_code") for told in facts], incomplete=incomplete)
    causes = {told.get("stop_cause") for told in facts}
    sources = [told.get("source") or {} for told in facts]
    kinds = {source.get("kind") for source in sources}
    refused: dict[str, Any] = next((told for told in facts if told.get("refusal")), {})
    stored = besides.settings if besides else next((told["settings"] for told in facts if told.get("settings")), None)
    return {
        "sweep_id": sweep_id,
        "tool_version": _shared(facts, "tool_version"),
        "name": _shared(facts, "name"),
        "reason": _shared(facts, "reason"),
        "mode": facts[0].get("mode"),
        "started_at": _moment(facts, "started_at", min),
        # Where one part has not finished, the whole has not.
        "finished_at": _moment(facts, "finished_at", max) if all(t.get("finished_at") for t in facts) else None,
        "stop_cause": _cause(causes, incomplete=incomplete),
        "exit_code": exit_code or int(besides is not None and bool(besides.rejected)),
        "source": {"kind": kinds.pop() if len(kinds) == 1 else None, "parts": len(parts)},
        "duplicates": sum(told.get("duplicates") or 0 for told in facts) + again,
        "refusal": refused.get("refusal"),
        "refused_by": refused.get("refused_by"),
        "calls_are_sums": any(told.get("calls_are_sums") for told in facts),
        "resumed_at": [moment for told in facts for moment in told.get("resumed_at") or ()],
        "sweeps": max((told.get("sweeps") or 1 for told in facts), default=1),
        "left_out": [
            *(gap for told in facts for gap in told.get("left_out") or []),
            *(dict(gap) for gap in (besides.left_out if besides else ())),
        ],
        "settings": stored,
        "found": True,
        "decided": True,
        "merged": [told.get("sweep_id") for told in facts],
    }


def _cause(causes: AbstractSet[str | None], *, incomplete: bool) -> str | None:
    """What stopped the whole: what a person has to know first. Credentials did only if no part was let in."""
    for cause in CAUSES:
        if cause in causes and (cause != "credentials" or (len(causes) == 1 and not incomplete)):
            return cause
    return None


def exit_code_of_all(codes: Sequence[int | None], *, incomplete: bool) -> int:
    """The exit code of the whole: what all parts agree on; else what a person has to know first."""
    told = {1 if code is None else code for code in codes} | ({1} if incomplete else set())
    if len(told) == 1:
        return told.pop()
    for code in (*INTERRUPTED_CODES, STOPPED_EARLY):
        if code in told:
            return code
    return 1 if told - {0} else 0


def _shared(facts: Sequence[dict[str, Any]], key: str) -> object:
    values = {json.dumps(told.get(key)) for told in facts}
    return json.loads(values.pop()) if len(values) == 1 else None


def _moment(facts: Sequence[dict[str, Any]], key: str, choose: Any) -> str | None:  # noqa: ANN401  # min or max
    moments = [told[key] for told in facts if told.get(key)]
    return str(choose(moments, key=datetime.fromisoformat)) if moments else None
