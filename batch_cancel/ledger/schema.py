"""What the ledger holds, and how a file becomes one.

Times are seconds since the epoch (REAL, UTC, by our clock unless said otherwise). A run moves through these states::

    excluded                              selection or protection left it alone (final)
    pending --claim--> claimed            the intent to cancel is on disk; from here a request may be out
    claimed --------> pending             the request certainly never left
    claimed --------> asked               requests are over; only reading can tell what became of the run
    claimed, asked -> done                the outcome is settled
"""

import contextlib
import glob
import sqlite3
from pathlib import Path

from batch_cancel.core.errors import LedgerError
from batch_cancel.ledger.contents import content_fault

SCHEMA_VERSION = 2
"""2 has no transforms.tags, which were never written; a ledger of version 1 keeps the column and is gone on with."""
APPLICATION_ID = 0x42434C31
"""Marks the file as ours (``PRAGMA application_id``): "BCL1"."""

TABLES = """
CREATE TABLE sweep (              -- facts about the whole: sweep_id, settings, mode, started_at, stop_cause, ...
    key   TEXT PRIMARY KEY,
    value TEXT NOT NULL           -- JSON
) WITHOUT ROWID;

CREATE TABLE targets (
    id            INTEGER PRIMARY KEY,
    account_id    TEXT,           -- what the role's ARN, sweep file, list, plan or organization names, or else
                                  -- sts:GetCallerIdentity said; NULL while and where none did
    region        TEXT NOT NULL,
    profile       TEXT,
    role_arn      TEXT,
    external_id   TEXT,
    identity_arn  TEXT,
    listed        INTEGER NOT NULL DEFAULT 0,  -- every listing that was needed ended well
    transforms    INTEGER,        -- how many were looked into; NULL where none had to be
    active_runs   INTEGER,        -- found STARTING or RUNNING; NULL where nothing was listed
    error_code    TEXT,
    error_message TEXT,
    clock_offset  REAL            -- seconds by which the service's clock is ahead of ours; NULL while not known
);

CREATE TABLE transforms (
    target_id         INTEGER NOT NULL REFERENCES targets(id),
    transform_id      TEXT NOT NULL,
    name              TEXT,
    max_capacity      REAL,       -- DPU
    worker_type       TEXT,
    number_of_workers INTEGER,
    timeout_minutes   INTEGER,
    glue_version      TEXT,
    PRIMARY KEY (target_id, transform_id)
) WITHOUT ROWID;

CREATE TABLE runs (
    id                     INTEGER PRIMARY KEY,
    target_id              INTEGER NOT NULL REFERENCES targets(id),
    transform_id           TEXT NOT NULL,
    task_run_id            TEXT NOT NULL,
    task_type              TEXT,
    started_on             REAL,  -- by Glue's clock
    status_before          TEXT,
    execution_time_seconds INTEGER,
    rule                   TEXT,
    labels                 TEXT,  -- JSON object of the manifest's other columns
    priority               REAL NOT NULL DEFAULT 0,  -- higher is cancelled first
    sweep_number           INTEGER NOT NULL DEFAULT 1,  -- which sweep of --until-clear found it (last)
    returns                INTEGER NOT NULL DEFAULT 0,  -- how often it was found active again
    state                  TEXT NOT NULL CHECK (state IN ('excluded', 'pending', 'claimed', 'asked', 'done')),
    requested_at           REAL,  -- first cancel request that may have reached the service
    accepted               INTEGER NOT NULL DEFAULT 0,
    accepted_at            REAL,
    tainted                INTEGER NOT NULL DEFAULT 0,
    refusal                TEXT,  -- ErrorKind of the definite refusal that ended the attempts
    outcome                TEXT,
    status_after           TEXT,
    confirmed_at           REAL,  -- when a reading settled the outcome
    attempts               INTEGER NOT NULL DEFAULT 0,  -- throttles not counted
    throttled              INTEGER NOT NULL DEFAULT 0,
    error_code             TEXT,
    error_message          TEXT,
    request_id             TEXT,
    clock_offset           REAL,  -- of the service, in seconds ahead of ours, as known at requested_at
    UNIQUE (target_id, transform_id, task_run_id),
    CHECK ((state IN ('done', 'excluded')) = (outcome IS NOT NULL))
);
CREATE INDEX runs_pending ON runs (target_id, priority DESC, id) WHERE state = 'pending';
CREATE INDEX runs_claimed ON runs (target_id, id) WHERE state = 'claimed';
CREATE INDEX runs_asked ON runs (target_id, transform_id, id) WHERE state = 'asked';

CREATE TABLE attempts (           -- the audit trail: one row for each CancelMLTaskRun that left or was about to
    run_id      INTEGER NOT NULL REFERENCES runs(id),
    number      INTEGER NOT NULL, -- counts every wire call, throttled ones too
    intent_at   REAL NOT NULL,    -- committed before the call could leave
    sent_at     REAL,
    ended_at    REAL,
    class       TEXT,             -- 'accepted', 'ambiguous', 'not_sent', an ErrorKind; NULL: no answer was recorded
    error_code  TEXT,
    http_status INTEGER,
    request_id  TEXT,
    PRIMARY KEY (run_id, number)
) WITHOUT ROWID;

CREATE TABLE calls (              -- every wire call of every operation, counted by the second
    target_id INTEGER NOT NULL REFERENCES targets(id),
    operation TEXT NOT NULL,
    second    INTEGER NOT NULL,
    calls     INTEGER NOT NULL,
    throttled INTEGER NOT NULL,
    failed    INTEGER NOT NULL,   -- errors other than throttles
    retries   INTEGER NOT NULL,
    rps       REAL,               -- the limiter's rate at the end of that second
    PRIMARY KEY (target_id, operation, second)
) WITHOUT ROWID;

CREATE TABLE rejected (           -- manifest rows that --skip-invalid left out
    line  INTEGER,
    text  TEXT,
    error TEXT NOT NULL
);
"""

ADDED_COLUMNS = (("targets", "clock_offset", "REAL"), ("runs", "clock_offset", "REAL"))
"""Columns that a ledger of version 1 may lack, because it was begun before there were any."""


def create(path: Path) -> sqlite3.Connection:
    """Make a new ledger, private to the user.

    Raises:
        LedgerError: there is one already, or the directory cannot be written.
    """
    if path.exists():
        message = f"{path.parent} already holds a ledger; resume it with `batch-cancel resume {path.parent}`, or choose"
        raise LedgerError(f"{message} another directory with --out")
    connection: sqlite3.Connection | None = None
    try:
        path.touch(mode=0o600)
        connection = _connect(path)
        connection.executescript(
            f"PRAGMA application_id = {APPLICATION_ID}; PRAGMA user_version = {SCHEMA_VERSION}; BEGIN;{TABLES}COMMIT;"
        )
    except (OSError, sqlite3.Error) as error:
        if connection is not None:
            connection.close()
        remove(path)  # half a ledger would stand in the way of the next try
        raise LedgerError(f"cannot create the ledger {path}: {error}; nothing was called") from error
    return connection


def remove(path: Path) -> None:
    """Take a ledger's files away, as far as they are there."""
    for suffix in ("", "-wal", "-shm", "-journal"):
        with contextlib.suppress(OSError):
            path.with_name(path.name + suffix).unlink()


def open_existing(path: Path) -> sqlite3.Connection:
    """Open a ledger for writing, after a look at whether it is one, whole, and of a version that we know.

    Raises:
        LedgerError: it is none, is damaged, or was written by a newer version.
    """
    check(path)
    try:
        connection = _connect(path)
    except sqlite3.Error as error:
        raise LedgerError(f"{path} cannot be opened for writing: {error}") from error
    try:
        for table, column, kind in ADDED_COLUMNS:
            if column not in {row["name"] for row in connection.execute(f"PRAGMA table_info({table})")}:
                connection.execute(f"ALTER TABLE {table} ADD COLUMN {column} {kind}")
    except sqlite3.Error as error:
        connection.close()
        raise LedgerError(f"{path} cannot be opened for writing: {error}") from error
    return connection


def open_read_only(path: Path) -> sqlite3.Connection:
    """Open a ledger for reading alone; another process may be writing it.

    Raises:
        LedgerError: it cannot be read.
    """
    if not path.is_file():
        raise no_ledger(path)
    try:
        connection = sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True, isolation_level=None)
        connection.row_factory = sqlite3.Row
    except sqlite3.Error as error:
        raise LedgerError(f"{path} cannot be opened: {error}") from error
    return connection


def no_ledger(path: Path) -> LedgerError:
    """A ledger that is not there: a file of its directory, a sweep's bare id, or the directory of all lead to one."""
    directory = path.parent
    inside = list(directory.glob(f"*/{path.name}"))
    if inside:
        latest = max(inside, key=lambda each: each.stat().st_mtime).parent
        return LedgerError(
            f"{directory} holds no ledger ({path.name}), but run directories; the latest of {len(inside):,} is {latest}"
        )
    near = [directory.parent / path.name]
    if directory.name:
        near += directory.parent.glob(f"*/{glob.escape(directory.name)}/{path.name}")
    meant = next((each.parent for each in near if each.is_file()), None)
    hint = f"did you mean {meant}?" if meant else "is it a run directory of batch-cancel?"
    return LedgerError(f"{directory} holds no ledger ({path.name}); {hint}")


def check(path: Path) -> None:
    """Raise LedgerError unless the file is a whole ledger of a version that this program knows."""
    connection = open_read_only(path)
    try:
        application_id = connection.execute("PRAGMA application_id").fetchone()[0]
        version = connection.execute("PRAGMA user_version").fetchone()[0]
        if application_id != APPLICATION_ID:
            raise LedgerError(f"{path} is not a ledger of batch-cancel")
        if version > SCHEMA_VERSION:
            raise LedgerError(
                f"{path} was written by a newer batch-cancel (ledger version {version}; this one knows up to"
                f" {SCHEMA_VERSION}); upgrade batch-cancel"
            )
        damage = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
        if damage != "ok":
            raise LedgerError(f"{path} is damaged: {damage}; restore it from a copy, or start a new sweep")
        if not connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
            raise LedgerError(f"{path} is empty: whoever made it died before the sweep had begun; start a new one")
        if fault := content_fault(connection):
            raise LedgerError(f"{path} is damaged: {fault}; restore it from a copy, or start a new sweep")
    except sqlite3.OperationalError as error:  # of the disk or the directory, not of what is in the file
        raise LedgerError(
            f"{path} cannot be read: {error}; is its directory writable, and the disk not full?"
        ) from error
    except sqlite3.DatabaseError as error:
        message = f"{path} is damaged or not a ledger: {error}; restore it from a copy, or start a new sweep"
        raise LedgerError(message) from error
    finally:
        connection.close()


def _connect(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=10.0)
    try:
        connection.row_factory = sqlite3.Row
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA foreign_keys = ON")
    except BaseException:
        connection.close()
        raise
    return connection
