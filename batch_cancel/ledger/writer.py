"""One writer, group commit: many statements a transaction, so that the disk does not set the pace.

A statement that is *committed* is on disk when the await returns; one that is *posted* is on disk within about
:data:`POST_SECONDS` and a commit's time. The order of statements is the order of the calls. A write that fails stops
everything: from then on each call raises :class:`RecordLost`, because without a record nothing may be sent.
"""

import asyncio
import contextlib
import os
import sqlite3
from collections.abc import Awaitable, Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from batch_cancel.core.errors import RecordLost

POST_SECONDS = 0.02
"""How long a posted statement may wait for company."""

Statement = tuple[str, tuple[object, ...]]
Offload = Callable[[Callable[[], None]], Awaitable[None]]
"""Runs a blocking function somewhere that does not hold up the event loop."""


class LedgerWriter:
    """Owns the ledger's only writing connection while a sweep goes on.

    Args:
        path: the file that it writes. SQLite goes on writing one that was moved or deleted; for us, the record is lost.
    """

    def __init__(
        self,
        connection: sqlite3.Connection,
        *,
        path: Path | None = None,
        offload: Offload | None = None,
    ) -> None:
        self._connection = connection
        self._path = path
        self._file = None if path is None else path.stat()
        self._executor = None if offload else ThreadPoolExecutor(1, thread_name_prefix="ledger")
        self._offload = offload or self._in_thread
        self._batch: list[Statement] = []
        self._waiters: list[asyncio.Future[None]] = []
        self._timer: asyncio.TimerHandle | None = None
        self._flushing: asyncio.Task[None] | None = None
        self.failure: RecordLost | None = None

    def post(self, sql: str, *parameters: object) -> None:
        """Write soon; failure shows in the next call."""
        self._raise_if_lost()
        self._batch.append((sql, parameters))
        if self._flushing is None and self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(POST_SECONDS, self._flush)

    async def commit(self, statements: Iterable[Statement] = ()) -> None:
        """Write these and all that was posted before; return when they are on disk.

        Raises:
            RecordLost: they are not, and nothing ever will be again.
        """
        self._raise_if_lost()
        self._batch.extend(list(statements))  # all of them, or none where making one fails
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiters.append(done)
        if self._flushing is None:
            self._flush()
        await done

    async def close(self) -> None:
        """Commit what is left and close the file as a single one, fit for read-only media."""
        try:
            if self.failure is None:
                await self.commit()
        finally:
            if self._timer:
                self._timer.cancel()
            if self._executor:
                self._executor.shutdown()
            # Another process may be reading; then the write-ahead log stays, which is as good for SQLite. For whoever
            # copies the file alone, as much of it as the readers allow goes into the file.
            for statement in ("busy_timeout = 0", "wal_checkpoint(TRUNCATE)", "journal_mode = DELETE"):
                with contextlib.suppress(sqlite3.Error):
                    self._connection.execute(f"PRAGMA {statement}").fetchall()
            self._connection.close()

    def _flush(self) -> None:
        if self._timer:
            self._timer.cancel()
            self._timer = None
        if self._flushing is None:
            self._flushing = asyncio.get_running_loop().create_task(self._flush_all())

    async def _flush_all(self) -> None:
        try:
            while (self._batch or self._waiters) and self.failure is None:
                batch, self._batch = self._batch, []
                waiters, self._waiters = self._waiters, []
                try:
                    await self._offload(lambda batch=batch: self._apply(batch))  # type: ignore[misc]  # mypy cannot infer a lambda with a default
                except Exception as error:  # whatever it is, somebody waits for an answer
                    self._lose(error, waiters)
                    return
                for waiter in waiters:
                    if not waiter.done():
                        waiter.set_result(None)
                if not self._waiters and self._batch:
                    # Only posted statements came in meanwhile: let them have company.
                    self._timer = asyncio.get_running_loop().call_later(POST_SECONDS, self._flush)
                    return
        finally:
            self._flushing = None

    def _apply(self, batch: list[Statement]) -> None:
        execute = self._connection.execute
        execute("BEGIN IMMEDIATE")
        try:
            for sql, parameters in batch:
                try:
                    execute(sql, parameters)
                except (UnicodeEncodeError, OverflowError):
                    execute(sql, [_storable(parameter) for parameter in parameters])
            execute("COMMIT")
        except BaseException:
            if self._connection.in_transaction:
                execute("ROLLBACK")
            raise
        self._check_place()

    def _check_place(self) -> None:
        """Raise OSError unless what was written stands where it will be looked for."""
        if self._path is None or self._file is None:
            return
        try:
            there = os.path.samestat(self._path.stat(), self._file)
        except FileNotFoundError:
            there = False
        if not there:
            raise OSError(f"{self._path} was moved or deleted")

    def _lose(self, error: Exception, waiters: list[asyncio.Future[None]]) -> None:
        self.failure = RecordLost(f"the ledger cannot be written: {error}; nothing more was sent")
        for waiter in [*waiters, *self._waiters]:
            if not waiter.done():
                waiter.set_exception(self.failure)
        self._waiters = []

    async def _in_thread(self, function: Callable[[], None]) -> None:
        await asyncio.get_running_loop().run_in_executor(self._executor, function)

    def _raise_if_lost(self) -> None:
        if self.failure is not None:
            raise self.failure


def _storable(parameter: object) -> object:
    """What others sent us and SQLite cannot hold, as near as it can: lone surrogates escaped, huge integers rounded.

    A strange word in an error message must not end a sweep.
    """
    if isinstance(parameter, str):
        return parameter.encode("utf-8", "backslashreplace").decode()
    if isinstance(parameter, int) and not -(2**63) <= parameter < 2**63:
        return float(parameter) if abs(parameter) < 2**1000 else None
    return parameter
