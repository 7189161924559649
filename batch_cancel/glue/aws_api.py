"""The protocols of :mod:`batch_cancel.glue.api` as AWS's calls: our words in, our nouns out of what it answers."""

from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import lru_cache
from typing import Any

from botocore.exceptions import BotoCoreError
from botocore.utils import parse_timestamp

from batch_cancel.core.errors import CallFailed, ErrorKind
from batch_cancel.core.task_run import Identity, Status, TaskRun, Transform
from batch_cancel.glue.api import Account, CancelAnswer, Page
from batch_cancel.glue.aws_calls import Calls, Response
from batch_cancel.glue.aws_errors import translate

PAGE_SIZE = 1000
"""The largest page that the listings give (Glue API reference, PageSize)."""
MOST = 2**31 - 1
"""The largest number that Glue's integers can be (Glue API reference)."""
EARLIEST, LATEST = datetime(1970, 1, 1, tzinfo=UTC), datetime(9999, 1, 1, tzinfo=UTC)
"""No run has started before, and no sum of times leaves the calendar after."""


async def identity(client: Any) -> Identity:  # noqa: ANN401  # botocore's client has no type
    """sts:GetCallerIdentity."""
    response = await _answer("GetCallerIdentity", client.get_caller_identity)
    if not response.get("Account") or not response.get("Arn"):
        raise _no_answer("GetCallerIdentity")
    return Identity(account_id=str(response["Account"]), arn=str(response["Arn"]))


class AwsOrganization:
    """AWS Organizations through aioboto3. Its pages are of 20 and may come short, even empty, before the last."""

    def __init__(self, client: Any) -> None:  # noqa: ANN401  # botocore's client has no type
        self._client = client

    async def accounts_of_unit(self, unit_id: str, *, next_token: str | None = None) -> Page[Account]:
        """ListAccountsForParent. ``State`` took the place of ``Status``, which was to go on 2026-09-09."""
        response = await _answer(
            "ListAccountsForParent", self._client.list_accounts_for_parent, ParentId=unit_id, **_token(next_token)
        )
        with _reading("ListAccountsForParent"):
            accounts = [
                Account(str(item["Id"]), item.get("State") or item.get("Status"))
                for item in _items("ListAccountsForParent", response, "Accounts")
            ]
        return Page(accounts, _next_token("ListAccountsForParent", response))

    async def units_of_unit(self, unit_id: str, *, next_token: str | None = None) -> Page[str]:
        """ListOrganizationalUnitsForParent."""
        operation = "ListOrganizationalUnitsForParent"
        response = await _answer(
            operation, self._client.list_organizational_units_for_parent, ParentId=unit_id, **_token(next_token)
        )
        with _reading(operation):
            units = [str(item["Id"]) for item in _items(operation, response, "OrganizationalUnits")]
        return Page(units, _next_token(operation, response))


class AwsGlueReader:
    """The read calls of one account and region through aioboto3."""

    def __init__(self, calls: Calls) -> None:
        self._calls = calls

    async def list_transform_ids(
        self, *, tags: Mapping[str, str] | None = None, next_token: str | None = None
    ) -> Page[str]:
        """ListMLTransforms."""
        request: Response = {"MaxResults": PAGE_SIZE, **_token(next_token)}
        if tags:
            request["Tags"] = dict(tags)
        response = await _call(self._calls, "ListMLTransforms", **request)
        with _reading("ListMLTransforms"):
            items = [_id(item) for item in _items("ListMLTransforms", response, "TransformIds")]
        return Page(items, _next_token("ListMLTransforms", response))

    async def list_transforms(self, *, next_token: str | None = None) -> Page[Transform]:
        """GetMLTransforms."""
        request = {"MaxResults": PAGE_SIZE, **_token(next_token)}
        response = await _call(self._calls, "GetMLTransforms", **request)
        with _reading("GetMLTransforms"):
            items = [_transform(item) for item in _items("GetMLTransforms", response, "Transforms")]
        return Page(items, _next_token("GetMLTransforms", response))

    async def list_task_runs(
        self,
        transform_id: str,
        *,
        status: Status | None = None,
        started_after: datetime | None = None,
        next_token: str | None = None,
    ) -> Page[TaskRun]:
        """GetMLTaskRuns."""
        conditions: Response = {}
        if status is not None:
            conditions["Status"] = str(status)
        if started_after is not None:
            conditions["StartedAfter"] = started_after
        request: Response = {"TransformId": transform_id, "MaxResults": PAGE_SIZE, **_token(next_token)}
        if conditions:
            request["Filter"] = conditions
        response = await _call(self._calls, "GetMLTaskRuns", **request)
        with _reading("GetMLTaskRuns"):
            items = _items("GetMLTaskRuns", response, "TaskRuns")
            own = [item for item in items if item.get("TransformId") in (None, transform_id)]
            runs = [_task_run(item, transform_id) for item in own]
        return Page(runs, _next_token("GetMLTaskRuns", response), foreign=len(own) < len(items))

    async def get_task_run(self, transform_id: str, task_run_id: str) -> TaskRun:
        """GetMLTaskRun."""
        response = await _call(self._calls, "GetMLTaskRun", TransformId=transform_id, TaskRunId=task_run_id)
        with _reading("GetMLTaskRun"):
            run = _task_run(response, transform_id)
        if response.get("TransformId") != transform_id or run.task_run_id != task_run_id or run.status is None:
            raise _no_answer("GetMLTaskRun")
        return run


class AwsGlue(AwsGlueReader):
    """The read calls and the one that cancels."""

    async def cancel_task_run(self, transform_id: str, task_run_id: str) -> CancelAnswer:
        """CancelMLTaskRun."""
        response = await _call(self._calls, "CancelMLTaskRun", TransformId=transform_id, TaskRunId=task_run_id)
        metadata = response.get("ResponseMetadata", {})
        return CancelAnswer(
            transform_id=response.get("TransformId"),
            task_run_id=response.get("TaskRunId"),
            status=_status(response.get("Status")),
            request_id=metadata.get("RequestId"),
            answered_at=_dated(metadata.get("HTTPHeaders", {}).get("date")),
        )


@lru_cache(maxsize=8)  # thousands of answers come within one second
def _dated(header: str | None) -> datetime | None:
    """A ``Date`` header's time; None where there is none that can be read."""
    try:
        moment = parsedate_to_datetime(header or "")
    except (ValueError, OverflowError):  # the latter of a year or an hour of many digits
        return None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


async def _answer(operation: str, method: Callable[..., Awaitable[Response]], **request: object) -> Response:
    try:
        return await method(**request)
    except Exception as error:  # every failure gets its kind; what nobody knows is "perhaps sent"
        raise translate(operation, error) from error


_PARSER_BROKE = AttributeError, LookupError, TypeError, ValueError
"""JSON of another shape, or none, breaks botocore's parser wherever it happens to look first."""


async def _call(calls: Calls, operation: str, **request: object) -> Response:
    try:
        return await calls(operation, **request)
    except Exception as error:
        if isinstance(error, _PARSER_BROKE) and not isinstance(error, BotoCoreError):
            message = f"the answer cannot be read: {error}"
            raise CallFailed(ErrorKind.TRANSIENT, operation, "ResponseParserError", message) from error
        raise translate(operation, error) from error


def _no_answer(operation: str) -> CallFailed:
    """A 200 that is none: a truncated, empty or HTML body parses as success with no fields (GLUE.md)."""
    return CallFailed(
        ErrorKind.TRANSIENT, operation, "IncompleteAnswer", "the service answered 200 without the fields of an answer"
    )


@contextmanager
def _reading(operation: str) -> Iterator[None]:
    """Inside, a field that is missing or of the wrong kind makes the answer none."""
    try:
        yield
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise _no_answer(operation) from error


def _items(operation: str, response: Response, name: str) -> list[Any]:
    items = response.get(name)
    if not isinstance(items, list):  # never taken for "nothing there"
        raise _no_answer(operation)
    return items


def _token(next_token: str | None) -> dict[str, str]:
    return {"NextToken": next_token} if next_token else {}


def _next_token(operation: str, response: Response) -> str | None:
    """The token of the page that follows; none, or an empty one, on the last."""
    token = response.get("NextToken")
    if not (token is None or isinstance(token, str)):  # never taken for "that was all"
        raise _no_answer(operation)
    return token or None


def _id(value: object) -> str:
    if not value or _text(value) is None:
        raise TypeError("an id is text")
    return str(value)


def _status(text: object) -> Status | None:
    return Status(text) if isinstance(text, str) and text in Status.__members__ else None


# What may be missing may be odd as well: then it is not known, and the rest of the answer is.


def _text(value: object) -> str | None:
    """Text that can be written down: JSON can hold halves of characters, which no file and no database takes."""
    if not isinstance(value, str):
        return None
    try:
        value.encode()
    except UnicodeEncodeError:
        return None
    return value


def _number(value: object) -> float | None:
    """A number that a count or a capacity can be: Glue's own are 32 bits wide."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return value if 0 <= value <= MOST else None


def _whole(value: object) -> int | None:
    number = _number(value)
    return None if number is None else int(number)


def _moment(value: object) -> datetime | None:
    """A time as it is sent (seconds since the epoch, or text), or as botocore has read it."""
    try:
        match value:
            case bool():
                return None
            case int() | float():
                moment = datetime.fromtimestamp(value, UTC)
            case datetime():
                moment = value
            case str():
                moment = parse_timestamp(value)
            case _:
                return None
    except (ValueError, OverflowError, OSError, TypeError, RuntimeError):
        return None
    aware = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment
    return aware if EARLIEST <= aware <= LATEST else None


def _task_run(item: Response, transform_id: str) -> TaskRun:
    properties = item.get("Properties")
    return TaskRun(
        transform_id=transform_id,
        task_run_id=_id(item.get("TaskRunId")),
        status=_status(item.get("Status")),
        task_type=_text(properties.get("TaskType")) if isinstance(properties, dict) else None,
        started_on=_moment(item.get("StartedOn")),
        last_modified_on=_moment(item.get("LastModifiedOn")),
        completed_on=_moment(item.get("CompletedOn")),
        execution_time_seconds=_whole(item.get("ExecutionTime")),
    )


def _transform(item: Response) -> Transform:
    return Transform(
        transform_id=_id(item.get("TransformId")),
        name=_text(item.get("Name")),
        max_capacity=_number(item.get("MaxCapacity")),
        worker_type=_text(item.get("WorkerType")),
        number_of_workers=_whole(item.get("NumberOfWorkers")),
        timeout_minutes=_whole(item.get("Timeout")),
        glue_version=_text(item.get("GlueVersion")),
    )
