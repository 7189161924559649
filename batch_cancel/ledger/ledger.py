"""The writing side, in the words of the sweep: claim, answered, settle."""

import fcntl
import json
import os
import sqlite3
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from batch_cancel.core.errors import LedgerError
from batch_cancel.core.outcome import Outcome
from batch_cancel.core.task_run import Target, TaskRun, TaskRunKey, Transform
from batch_cancel.ledger import LEDGER_NAME, schema
from batch_cancel.ledger.reader import LEFT_UNKNOWN, MAY_RESTART, MAY_RETURN, LedgerReader
from batch_cancel.ledger.writer import LedgerWriter, Offload, Statement

LOCK_NAME = ".lock"
LOCK_TRIES = 5
"""Whoever looks whether it is held (:func:`in_use`) holds it for an instant, and must not cost anybody a resume."""

ADD_RUN = """
INSERT INTO runs (target_id, transform_id, task_run_id, task_type, started_on, status_before, execution_time_seconds,
                  rule, labels, priority, sweep_number, state, outcome)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT """
# What was left alone only because its names or tags could not be read then is decided about by who finds it anew.
DECIDED_ANEW = f"""
    DO UPDATE SET state = excluded.state, outcome = excluded.outcome, rule = excluded.rule,
        priority = excluded.priority, status_before = excluded.status_before
    WHERE {LEFT_UNKNOWN}
"""
# What had been asked may have reached the service, and a listing may lag behind what was seen: it is read before
# anything is sent again, and if it was over after all, its earlier request has its verdict back.
FOUND_AGAIN = f"""
    DO UPDATE SET state = excluded.state, outcome = excluded.outcome, rule = excluded.rule,
        priority = excluded.priority,
        sweep_number = CASE runs.state WHEN 'excluded' THEN sweep_number ELSE excluded.sweep_number END,
        returns = returns + (runs.state != 'excluded'),
        status_before = excluded.status_before, started_on = coalesce(excluded.started_on, started_on),
        accepted = 0, accepted_at = NULL, refusal = NULL,
        tainted = max(tainted, accepted, coalesce(runs.outcome, '') IN ('stopped', 'finished_first')),
        status_after = NULL, confirmed_at = NULL, error_code = NULL, error_message = NULL
    WHERE {LEFT_UNKNOWN} OR excluded.state = 'pending' AND ({MAY_RETURN} OR ? AND {MAY_RESTART})
"""
RECONSIDER = f"UPDATE runs SET state = 'pending', outcome = NULL, rule = NULL WHERE {LEFT_UNKNOWN} AND target_id = ?"  # noqa: S608  # constant
ADD_INTENT = "INSERT INTO attempts (run_id, number, intent_at) VALUES (?, ?, ?)"
RELEASE_INTENT = "UPDATE attempts SET class = 'not_sent' WHERE run_id = ? AND number = ?"
ANSWER = """
UPDATE attempts SET sent_at = ?, ended_at = ?, class = ?, error_code = ?, http_status = ?, request_id = ?
WHERE run_id = ? AND number = ?
"""
ADD_TARGET = """
INSERT INTO targets (id, account_id, region, profile, role_arn, external_id, identity_arn) VALUES (?, ?, ?, ?, ?, ?, ?)
"""
NOTE = """
UPDATE runs SET requested_at = ?, clock_offset = ?, tainted = ?, attempts = ?, throttled = ?, error_code = ?,
    error_message = ?, request_id = ? WHERE id = ?
"""
ASKED = NOTE.replace("SET", "SET state = 'asked', accepted = ?, accepted_at = ?, refusal = ?, status_after = ?,")
SETTLE = """
UPDATE runs SET state = 'done', outcome = ?, status_after = ?, confirmed_at = ?, task_type = coalesce(task_type, ?),
    started_on = coalesce(started_on, ?), execution_time_seconds = coalesce(?, execution_time_seconds)
    WHERE id = ? AND returns = ?
"""
REOPEN = (
    """
    UPDATE runs SET tainted = 1, attempts = attempts + 1, requested_at = coalesce(
        requested_at, (SELECT min(intent_at) FROM attempts a WHERE a.run_id = runs.id AND a.class IS NULL))
    WHERE state = 'claimed' AND EXISTS (SELECT 1 FROM attempts a WHERE a.run_id = runs.id AND a.class IS NULL)
    """,
    "UPDATE attempts SET class = 'lost' WHERE class IS NULL",
    # An answer that was recorded, and then nothing, or nothing that told what came of it: it may have been a yes.
    """
    UPDATE runs SET tainted = 1 WHERE (state = 'claimed' OR state = 'done' AND outcome = 'unknown' AND accepted = 0)
        AND EXISTS (SELECT 1 FROM attempts a WHERE a.run_id = runs.id AND a.class IN ('accepted', 'ambiguous'))
    """,
    "UPDATE runs SET state = 'pending' WHERE state = 'claimed'",
    """
    UPDATE runs SET state = 'pending', outcome = NULL, refusal = NULL, confirmed_at = NULL,
        requested_at = CASE WHEN tainted THEN requested_at END,
        clock_offset = CASE WHEN tainted THEN clock_offset END
    WHERE state = 'done' AND outcome IN ('denied', 'failed')
    """,
    # Nobody could say what became of its request: it is read, and asked again if that shows that it goes on.
    """
    UPDATE runs SET state = 'pending', outcome = NULL, refusal = NULL, confirmed_at = NULL,
        requested_at = CASE WHEN tainted THEN requested_at END,
        clock_offset = CASE WHEN tainted THEN clock_offset END
    WHERE accepted = 0 AND (state = 'done' AND outcome = 'unknown' OR state = 'asked' AND tainted)
    """,
    """
    UPDATE runs SET state = 'asked', outcome = NULL, confirmed_at = NULL
    WHERE state = 'done' AND outcome IN ('unknown', 'stuck_stopping')
    """,
    "UPDATE targets SET error_code = NULL, error_message = NULL",
)
COUNT_CALLS = """
INSERT INTO calls (target_id, operation, second, calls, throttled, failed, retries, rps) VALUES (?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (target_id, operation, second) DO UPDATE SET calls = calls + excluded.calls,
    throttled = throttled + excluded.throttled, failed = failed + excluded.failed,
    retries = retries + excluded.retries, rps = excluded.rps
"""


@dataclass(slots=True)
class ClaimedRun:
    """A run on its way through the canceller: what the ledger knew when it was claimed, and what happened since.

    Attributes:
        number: of the latest wire call, throttled ones included.
        intended: that call's intent is on disk, and it has not been made yet.
        requested_at: when the first request that may have arrived was sent.
        clock_offset: by how many seconds the service's clock was ahead of ours then, if that was known.
    """

    id: int
    key: TaskRunKey
    number: int
    intended: bool
    requested_at: datetime | None = None
    clock_offset: float | None = None
    accepted_at: datetime | None = None
    tainted: bool = False
    attempts: int = 0
    throttled: int = 0
    error_code: str | None = None
    error_message: str | None = None
    request_id: str | None = None


@dataclass(frozen=True, slots=True)
class NewRun:
    """A run as it enters the ledger.

    Attributes:
        rule: set where selection or protection left the run alone.
        outcome: set where it is settled on entering (excluded, or a dry run's verdict).
        restarted: it stands there already, and has started once more since.
    """

    run: TaskRun
    rule: str | None = None
    outcome: Outcome | None = None
    labels: Mapping[str, str] | None = None
    priority: float = 0.0
    restarted: bool = False


@dataclass(frozen=True, slots=True)
class Answer:
    """One wire call's end: ``verdict`` is ``accepted``, ``ambiguous``, ``not_sent`` or an ErrorKind's value."""

    sent_at: datetime | None
    ended_at: datetime
    verdict: str
    error_code: str | None = None
    http_status: int | None = None
    request_id: str | None = None


class Ledger:
    """A run directory, locked for this process, with its ledger open for writing.

    Attributes:
        made: the directories that were made for it, the innermost first; :meth:`discard` takes them back.
    """

    def __init__(
        self, directory: Path, connection: sqlite3.Connection, lock: int, *, offload: Offload | None = None
    ) -> None:
        self.directory = directory
        self.made: list[Path] = []
        self.writer = LedgerWriter(connection, path=directory / LEDGER_NAME, offload=offload)
        self.reader = LedgerReader(directory / LEDGER_NAME)
        self._connection = connection
        self._lock = lock
        self._next_target_id: int | None = None

    @classmethod
    def create(cls, directory: Path, *, offload: Offload | None = None) -> "Ledger":
        """A new ledger in a directory that is made, private, if it is not there.

        Raises:
            LedgerError: the directory holds a ledger already, another process is at work in it, or it cannot be
                written. Nothing was called.
        """
        try:
            made = [folder for folder in (directory, *directory.parents) if not folder.exists()]
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise LedgerError(
                f"cannot make the run directory {directory}: {error.strerror}; nothing was called"
            ) from error
        lock = _lock(directory)
        try:
            connection = schema.create(directory / LEDGER_NAME)
        except BaseException:
            os.close(lock)
            raise
        ledger = cls(directory, connection, lock, offload=offload)
        ledger.made = made
        return ledger

    @classmethod
    def open(cls, directory: Path, *, offload: Offload | None = None) -> "Ledger":
        """A ledger that is there already, to go on with.

        Raises:
            LedgerError: there is none, or it is in use, damaged, or of a newer version.
        """
        if not (directory / LEDGER_NAME).is_file():
            raise schema.no_ledger(directory / LEDGER_NAME)
        lock = _lock(directory)
        try:
            connection = schema.open_existing(directory / LEDGER_NAME)
        except BaseException:
            os.close(lock)
            raise
        return cls(directory, connection, lock, offload=offload)

    @staticmethod
    def look(directory: Path) -> LedgerReader:
        """The reading side alone, of a ledger that is one, whole, and of a version that we know.

        Raises:
            LedgerError: it is not.
        """
        schema.check(directory / LEDGER_NAME)
        return LedgerReader(directory / LEDGER_NAME)

    async def close(self) -> None:
        """Commit what is left, and let others in."""
        self.reader.close()
        try:
            await self.writer.close()
        finally:
            os.close(self._lock)

    def discard(self) -> None:
        """Take back a ledger in which nothing has happened yet, so that the same directory can be used again."""
        self.reader.close()
        self._connection.close()
        schema.remove(self.directory / LEDGER_NAME)
        (self.directory / LOCK_NAME).unlink(missing_ok=True)
        os.close(self._lock)
        for folder in self.made:
            if any(folder.iterdir()):
                break
            folder.rmdir()

    # Facts, targets, transforms

    async def set_facts(self, **facts: object) -> None:
        """Write facts about the whole sweep (JSON values)."""
        await self.writer.commit(
            ("INSERT OR REPLACE INTO sweep (key, value) VALUES (?, ?)", (key, json.dumps(value)))
            for key, value in facts.items()
        )

    async def add_target(self, target: Target, identity_arn: str | None = None) -> int:
        """Enter a target; its id in this ledger.

        It is on disk before anything that is committed later, and has no commit of its own: of a thousand targets that
        would be a thousand waits for the disk before the first request.
        """
        if self._next_target_id is None:
            self._next_target_id = self.reader.next_target_id()
        target_id = self._next_target_id
        access = target.access
        self.writer.post(
            ADD_TARGET,
            target_id,
            target.account_id,
            target.region,
            access.profile,
            access.role_arn,
            access.external_id,
            identity_arn,
        )
        self._next_target_id += 1
        return target_id

    def set_account(self, target_id: int, account_id: str) -> None:
        """A row of a manifest names the account of a target; that it is so has still to be found out."""
        self.writer.post("UPDATE targets SET account_id = ? WHERE id = ?", account_id, target_id)

    def set_identity(self, target_id: int, account_id: str, identity_arn: str) -> None:
        """What sts:GetCallerIdentity said, when it said it."""
        self.writer.post(
            "UPDATE targets SET account_id = ?, identity_arn = ? WHERE id = ?", account_id, identity_arn, target_id
        )

    def set_listed(self, target_id: int, *, transforms: int | None, active_runs: int | None, complete: bool) -> None:
        """How a target's listing ended."""
        self.writer.post(
            "UPDATE targets SET transforms = ?, active_runs = ?, listed = ? WHERE id = ?",
            transforms,
            active_runs,
            int(complete),
            target_id,
        )

    def set_target_error(self, target_id: int, code: str, message: str) -> None:
        """The first trouble of a target stays; later ones follow from it."""
        self.writer.post(
            "UPDATE targets SET error_code = ?, error_message = ? WHERE id = ? AND error_code IS NULL",
            code,
            message,
            target_id,
        )

    def explain_target_error(self, target_id: int, meaning: str) -> None:
        """What a target's trouble turned out to be; the service's own words stand behind it."""
        self.writer.post(
            "UPDATE targets SET error_message = ?1 || coalesce('; in the service''s words: ' || error_message, '')"
            " WHERE id = ?2 AND instr(coalesce(error_message, ''), ?1) != 1",
            meaning,
            target_id,
        )

    def clear_target_error(self, target_id: int) -> None:
        """The target is tried again."""
        self.writer.post("UPDATE targets SET error_code = NULL, error_message = NULL WHERE id = ?", target_id)

    def set_clock_offset(self, target_id: int, seconds: float) -> None:
        """By how much a target's clock is ahead of ours, as its answers tell."""
        self.writer.post("UPDATE targets SET clock_offset = ? WHERE id = ?", seconds, target_id)

    def add_transforms(self, target_id: int, transforms: Iterable[Transform]) -> None:
        """What is known of transforms, as far as anything but their ids is."""
        for transform in transforms:
            self.writer.post(
                "INSERT OR REPLACE INTO transforms (target_id, transform_id, name, max_capacity, worker_type,"
                " number_of_workers, timeout_minutes, glue_version) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                target_id,
                transform.transform_id,
                transform.name,
                transform.max_capacity,
                transform.worker_type,
                transform.number_of_workers,
                transform.timeout_minutes,
                transform.glue_version,
            )

    # Runs

    async def add_runs(
        self, target_id: int, runs: Iterable[NewRun], *, sweep_number: int = 1, again: bool = False
    ) -> None:
        """Enter runs; one that is there already stays as it is, unless it was left alone for want of knowledge.

        Args:
            again: a run that has its verdict, or was restarted, and was found active once more is pending once more;
                one that would not stop only :data:`~batch_cancel.ledger.reader.MOST_RETURNS` times.
        """
        await self.writer.commit(_add_run(target_id, run, sweep_number, again=again) for run in runs)

    def reject(self, line: int | None, text: str | None, error: str) -> None:
        """Enter a manifest row that was left out."""
        self.writer.post("INSERT INTO rejected (line, text, error) VALUES (?, ?, ?)", line, text, error)

    def decide(
        self, run_id: int, run: TaskRun, *, outcome: Outcome | None, rule: str | None = None, priority: float = 0.0
    ) -> None:
        """What was decided about a pending run before any request: without an outcome it stays to be cancelled.

        Args:
            run: what a reading showed of it; without a status where none was made.
        """
        status = str(run.status) if run.status else None
        self.writer.post(
            "UPDATE runs SET task_type = ?, started_on = ?, status_before = ?, status_after = ?, priority = ?,"
            " execution_time_seconds = ?, state = ?, outcome = ?, rule = ? WHERE id = ? AND state = 'pending'",
            run.task_type,
            _seconds(run.started_on),
            status,
            status if outcome in (Outcome.ALREADY_FINISHED, Outcome.NOT_FOUND) else None,
            priority,
            run.execution_time_seconds,
            _state(outcome),
            outcome,
            rule,
            run_id,
        )

    async def reconsider(self, target_id: int) -> None:
        """What was left alone for want of knowledge is pending again, to be decided about before any request."""
        await self.writer.commit([(RECONSIDER, (target_id,))])

    async def claim(self, runs: Sequence[ClaimedRun], at: datetime) -> None:
        """Put the intent to cancel these pending runs on disk; from here on their requests may leave."""
        statements: list[Statement] = []
        for run in runs:
            statements.append(("UPDATE runs SET state = 'claimed' WHERE id = ?", (run.id,)))
            statements.append((ADD_INTENT, (run.id, run.number, at.timestamp())))
        await self.writer.commit(statements)

    async def intend(self, run: ClaimedRun, at: datetime) -> None:
        """Put one more attempt's intent on disk."""
        await self.writer.commit([(ADD_INTENT, (run.id, run.number, at.timestamp()))])

    def answered(self, run: ClaimedRun, answer: Answer) -> None:
        """Write how an attempt ended and what the run's evidence is by now."""
        self.writer.post(
            ANSWER,
            _seconds(answer.sent_at),
            answer.ended_at.timestamp(),
            answer.verdict,
            answer.error_code,
            answer.http_status,
            answer.request_id,
            run.id,
            run.number,
        )
        self._note(run)

    def not_sent(self, run: ClaimedRun) -> None:
        """The latest intent certainly never left."""
        self.writer.post(RELEASE_INTENT, run.id, run.number)

    def unclaim(self, run: ClaimedRun) -> None:
        """A claimed run with no request under way: pending again, its evidence kept."""
        self._note(run)
        self.writer.post("UPDATE runs SET state = 'pending' WHERE id = ?", run.id)

    def asked(self, run: ClaimedRun, *, accepted: bool, refusal: str | None, status: str | None) -> None:
        """Requests are over; reading has to tell the rest."""
        self.writer.post(ASKED, int(accepted), _seconds(run.accepted_at), refusal, status, *_noted(run))

    def accept(self, run_id: int, at: datetime) -> None:
        """A reading showed that an ambiguous request had been accepted."""
        self.writer.post("UPDATE runs SET accepted = 1, accepted_at = ? WHERE id = ?", at.timestamp(), run_id)

    def refuse(self, run: ClaimedRun, outcome: Outcome) -> None:
        """A definite refusal that no reading could change: the run's verdict."""
        self._note(run)
        self.writer.post("UPDATE runs SET state = 'done', outcome = ? WHERE id = ?", outcome, run.id)

    def seen(self, run_id: int, status: str) -> None:
        """A reading after the requests showed this status, and no end."""
        self.writer.post("UPDATE runs SET status_after = ? WHERE id = ? AND state = 'asked'", status, run_id)

    def unread(self, run_id: int, code: str, message: str) -> None:
        """What kept a run from being read; what its own requests met with goes before it."""
        self.writer.post(
            "UPDATE runs SET error_code = ?, error_message = ? WHERE id = ? AND error_code IS NULL",
            code,
            message,
            run_id,
        )

    def settle(
        self, run_id: int, outcome: Outcome, reading: TaskRun | None, *, at: datetime | None, returns: int = 0
    ) -> None:
        """Write a run's verdict.

        Args:
            reading: what it rests on, if the run could be read.
            at: when that reading was made; None where there was none.
            returns: how often the run had come back when it was made: of one that came back since it says nothing.
        """
        status = str(reading.status) if reading and reading.status else None
        self.writer.post(
            SETTLE,
            outcome,
            status,
            _seconds(at),
            reading.task_type if reading else None,
            _seconds(reading.started_on) if reading else None,
            reading.execution_time_seconds if reading else None,
            run_id,
            returns,
        )

    def count_calls(self, rows: Iterable[tuple[int, str, int, int, int, int, int, float | None]]) -> None:
        """Add to the counts: (target id, operation, second, calls, throttled, failed, retries, rps)."""
        for row in rows:
            self.writer.post(COUNT_CALLS, *row)

    async def reopen(self) -> None:
        """Make a ledger ready to go on with: what was left is pending, what was lost is tainted, what is open is asked.

        An intent without an answer may have reached the service: its run is tainted and so is read before anything is
        sent again. So is one of which nobody could say whether it was accepted. Runs that were confirmed stay as they
        are.
        """
        await self.writer.commit((statement, ()) for statement in REOPEN)

    def _note(self, run: ClaimedRun) -> None:
        self.writer.post(NOTE, *_noted(run))


def _noted(run: ClaimedRun) -> tuple[object, ...]:
    """A run's evidence and its id, in the order of the statements."""
    return (
        _seconds(run.requested_at),
        run.clock_offset,
        int(run.tainted),
        run.attempts,
        run.throttled,
        run.error_code,
        run.error_message,
        run.request_id,
        run.id,
    )


def _add_run(target_id: int, new: NewRun, sweep_number: int, *, again: bool) -> Statement:
    run = new.run
    labels = json.dumps(dict(new.labels), ensure_ascii=False) if new.labels else None
    entered = (
        target_id,
        run.transform_id,
        run.task_run_id,
        run.task_type,
        _seconds(run.started_on),
        run.status,
        run.execution_time_seconds,
        new.rule,
        labels,
        new.priority,
        sweep_number,
        _state(new.outcome),
        new.outcome,
    )
    return (ADD_RUN + FOUND_AGAIN, (*entered, new.restarted)) if again else (ADD_RUN + DECIDED_ANEW, entered)


def _state(outcome: Outcome | None) -> str:
    """Of a run of which no request was made."""
    return "pending" if outcome is None else "excluded" if outcome is Outcome.EXCLUDED else "done"


def _seconds(moment: datetime | None) -> float | None:
    return None if moment is None else moment.timestamp()


def in_use(directory: Path) -> bool:
    """Whether a process has a run directory's ledger open for writing just now."""
    try:
        lock = os.open(directory / LOCK_NAME, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return True
    else:
        return False
    finally:
        os.close(lock)


def _lock(directory: Path) -> int:
    try:
        lock = os.open(directory / LOCK_NAME, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise LedgerError(
            f"cannot write to the run directory {directory}: {error.strerror}; nothing was called"
        ) from error
    for _ in range(LOCK_TRIES):
        with suppress(OSError):
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return lock
        time.sleep(0.02)
    os.close(lock)
    raise LedgerError(f"{directory} is in use by another batch-cancel; wait for it to end, or stop it")
