"""Listings followed to their last page, and single runs read: what discovery, canceller and verifier all need."""

from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Sequence
from datetime import datetime, timedelta
from typing import TypeVar

from batch_cancel.core.errors import CallFailed, ErrorKind
from batch_cancel.core.outcome import Reading, Unread
from batch_cancel.core.task_run import TaskRun, TaskRunKey
from batch_cancel.glue.api import GlueReader, Page
from batch_cancel.glue.paced import Line

FEW_RUNS = 3
"""So many runs of one transform are read one by one; for more, a listing costs less."""
SINCE_TOLERANCE = timedelta(seconds=2)
"""Glue's times may be cut to the second, and its filter's edge is not documented."""

SAME_PAGES = 100
"""So many pages in a row that say the same, or nothing, get nowhere, though each has a new token."""

T = TypeVar("T")
R = TypeVar("R", bound=GlueReader)


async def pages(
    line: Line[R], operation: str, request: Callable[[R, str | None], Awaitable[Page[T]]]
) -> AsyncIterator[Sequence[T]]:
    """Every page of a listing.

    Args:
        request: makes the call for a page token.

    Raises:
        CallFailed: a page could not be had, the service gave the same token twice or the same page again and again, or
            (once all pages were given) some of them held what was not asked for.
    """
    token: str | None = None
    last: list[object] | None = None
    same = 0
    foreign = False
    seen: set[str] = set()
    while True:
        page = await line.call(operation, lambda glue, token=token: request(glue, token))  # type: ignore[misc]  # mypy cannot infer a lambda with a default
        yield page.items
        foreign = foreign or page.foreign
        token = page.next_token
        if token is None:
            break
        # By name: in a run that goes on the times do, too.
        names: list[object] = [item.task_run_id if isinstance(item, TaskRun) else item for item in page.items]
        last, same = names, same + 1 if names == last else 1
        if same >= SAME_PAGES:
            raise CallFailed(ErrorKind.OTHER, operation, "RepeatedPage", "the service gave one page again and again")
        if token in seen:
            raise CallFailed(ErrorKind.OTHER, operation, "RepeatedToken", "the service gave the same page token twice")
        seen.add(token)
    if foreign:
        raise CallFailed(ErrorKind.OTHER, operation, "ForeignItem", "the service listed what was not asked for")


async def look(line: Line[R], key: TaskRunKey, failures: dict[str, CallFailed] | None = None) -> Reading:
    """What GetMLTaskRun says of a run.

    Args:
        failures: takes what kept the run from being read, by its id.

    Raises:
        Stopped: a stop was asked for before the call could leave.
    """
    try:
        return await line.call("GetMLTaskRun", lambda glue: glue.get_task_run(key.transform_id, key.task_run_id))
    except CallFailed as failure:
        if failure.kind is ErrorKind.NOT_FOUND:
            return Unread.MISSING
        if failures is not None:
            failures[key.task_run_id] = failure
        return Unread.UNREADABLE


async def readings(
    line: Line[R],
    transform_id: str,
    task_run_ids: Sequence[str],
    *,
    started_since: datetime | None = None,
    doubted: Collection[str] = (),
    failures: dict[str, CallFailed] | None = None,
) -> dict[str, Reading]:
    """What Glue says of some runs of one transform: read one by one where they are few, from a listing where not.

    Args:
        started_since: when the oldest of them started, where that is known of all: older history is not listed.
        doubted: runs of which a listing is believed only that they have ended: it may lag behind, and that one goes on
            is a verdict on these.
        failures: takes what kept each run that is UNREADABLE from being read.

    Raises:
        Stopped: a stop was asked for before all calls could leave.
    """
    found: dict[str, Reading] = {}
    if len(task_run_ids) > FEW_RUNS:
        try:
            listed = await _listed(line, transform_id, set(task_run_ids), started_since)
        except CallFailed:
            return dict.fromkeys(task_run_ids, Unread.MISSING)
        found.update((key, run) for key, run in listed.items() if key not in doubted or not _goes_on(run))
    for task_run_id in task_run_ids:  # what no listing showed is asked for by name before anything is said of it
        if task_run_id not in found:
            found[task_run_id] = await look(line, TaskRunKey(transform_id, task_run_id), failures)
    return found


async def _listed(
    line: Line[R], transform_id: str, wanted: set[str], started_since: datetime | None
) -> dict[str, TaskRun]:
    """The wanted runs that a listing shows; it is given up when it has taken as many calls as reading them would.

    Raises:
        CallFailed: of kind NOT_FOUND alone: Glue does not know the transform.
    """
    after = None if started_since is None else started_since - SINCE_TOLERANCE
    calls_left = len(wanted)
    found: dict[str, TaskRun] = {}
    listing = pages(
        line,
        "GetMLTaskRuns",
        lambda glue, token: glue.list_task_runs(transform_id, started_after=after, next_token=token),
    )
    try:
        async for items in listing:
            calls_left -= 1
            found.update(
                (run.task_run_id, run) for run in items if run.task_run_id in wanted and run.status is not None
            )
            if len(found) == len(wanted) or calls_left <= 0:
                break
    except CallFailed as failure:
        if failure.kind is ErrorKind.NOT_FOUND:
            raise
        # What the pages before it have shown is as good as any reading.
    return found


def _goes_on(run: TaskRun) -> bool:
    return run.status is not None and not run.status.ended
