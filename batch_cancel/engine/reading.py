"""Listings followed to their last page, and single runs read: what discovery, canceller and verifier all need."""

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import TypeVar

from batch_cancel.core.errors import CallFailed, ErrorKind
from batch_cancel.core.outcome import Reading, Unread
from batch_cancel.core.task_run import TaskRunKey
from batch_cancel.glue.api import GlueReader, Page
from batch_cancel.glue.paced import Line

T = TypeVar("T")
R = TypeVar("R", bound=GlueReader)


async def pages(
    line: Line[R], operation: str, request: Callable[[R, str | None], Awaitable[Page[T]]]
) -> AsyncIterator[Sequence[T]]:
    """Every page of a listing.

    Args:
        request: makes the call for a page token.

    Raises:
        CallFailed: a page could not be had, or the service gave the same token twice.
    """
    token: str | None = None
    seen: set[str] = set()
    while True:
        page = await line.call(operation, lambda glue, token=token: request(glue, token))  # type: ignore[misc]  # mypy cannot infer a lambda with a default
        yield page.items
        token = page.next_token
        if token is None:
            return
        if token in seen:
            raise CallFailed(ErrorKind.OTHER, operation, "RepeatedToken", "the service gave the same page token twice")
        seen.add(token)


async def look(line: Line[R], key: TaskRunKey, *, draining: bool = False) -> Reading:
    """What GetMLTaskRun says of a run.

    Raises:
        Stopped: a stop was asked for before the call could leave.
    """
    try:
        return await line.call(
            "GetMLTaskRun", lambda glue: glue.get_task_run(key.transform_id, key.task_run_id), draining=draining
        )
    except CallFailed as failure:
        return Unread.MISSING if failure.kind is ErrorKind.NOT_FOUND else Unread.UNREADABLE
