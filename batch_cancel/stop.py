"""How a sweep is stopped early: nothing new is sent, what is in flight may end, and who only waits is woken at once."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from enum import StrEnum
from typing import Any

from batch_cancel.core.errors import BatchCancelError


class StopCause(StrEnum):
    """Why a sweep, or a part of it, sends no more; the words of the report's ``stop_cause``."""

    INTERRUPTED = "interrupted"
    DEADLINE = "deadline"
    MAX_ERRORS = "max_errors"
    CREDENTIALS = "credentials"
    GUARDRAIL = "guardrail"
    NO_PROGRESS = "no_progress"
    """A target that accepted nothing for two minutes; the report says so at the target."""


class Stopped(Exception):
    """Raised where something would have been sent or waited for, after a stop was asked for."""


class Stop:
    """A request to stop, seen by everyone who asks; the first cause stays.

    A stop of the whole sweep reaches the stops of its parts; a part's own stop leaves the others alone.

    Args:
        parents: whose stops reach this one too.
    """

    def __init__(self, *parents: "Stop") -> None:
        self.cause: StopCause | None = None
        self.error: BatchCancelError | None = None
        self._children: list[Stop] = []
        self._waiting: set[asyncio.Task[Any]] = set()
        self._event = asyncio.Event()
        for parent in parents:
            parent._children.append(self)  # noqa: SLF001  # its own class
            if parent.cause is not None:
                self.request(parent.cause, parent.error)

    def request(self, cause: StopCause, error: BatchCancelError | None = None) -> None:
        """Ask for the stop. Waits under :meth:`interruptible` end at once."""
        if self.cause is not None:
            return
        self.cause, self.error = cause, error
        self._event.set()
        for task in [task for task in self._waiting if task is not asyncio.current_task()]:
            task.cancel()
        for child in self._children:
            child.request(cause, error)

    async def requested(self) -> None:
        """Wait until the stop is asked for."""
        await self._event.wait()

    def check(self) -> None:
        """Raise Stopped if a stop was asked for."""
        if self.cause is not None:
            raise Stopped(self.cause)

    @contextmanager
    def interruptible(self) -> Iterator[None]:
        """Inside, waiting ends with Stopped as soon as a stop is asked for. Never put a wire call inside."""
        self.check()
        task = asyncio.current_task()
        assert task is not None  # noqa: S101  # the event loop runs only tasks here
        cancelling = task.cancelling()
        self._waiting.add(task)
        try:
            yield
        except asyncio.CancelledError:
            # Ours, unless somebody else cancelled the task too (then theirs goes on): asyncio.timeout's own way.
            if self.cause is not None and task.uncancel() <= cancelling:
                raise Stopped(self.cause) from None
            raise
        finally:
            self._waiting.discard(task)


@asynccontextmanager
async def task_group() -> AsyncIterator[asyncio.TaskGroup]:
    """An ``asyncio.TaskGroup`` that raises what went wrong itself rather than a group of it.

    Real trouble goes before Stopped, which the other tasks raise as a consequence.
    """
    try:
        async with asyncio.TaskGroup() as group:
            yield group
    except BaseExceptionGroup as errors:
        first, *_ = [error for error in errors.exceptions if not isinstance(error, Stopped)] or errors.exceptions
        raise first from first.__cause__


async def ended(task: "asyncio.Future[Any] | None") -> None:
    """End a task and wait for its end, whatever it says."""
    if task is None:
        return
    if not task.done():
        task.cancel()
    with suppress(asyncio.CancelledError, Exception):
        await task
