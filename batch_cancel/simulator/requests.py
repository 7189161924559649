"""What the service model demands of a request, and how Glue refuses one that does not keep to it.

From the botocore service model of Glue (2017-03-31): HashString, PageSize, TaskRunFilterCriteria and the rest.
"""

import re
from collections.abc import Mapping
from typing import Any

from batch_cancel.core.task_run import Status, TaskType

Parameters = Mapping[str, Any]

_NOT_IN_AN_ID = re.compile("[^\t\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_ID_PATTERN = r"[\u0020-\uD7FF\uE000-\uFFFD\uD800\uDC00-\uDBFF\uDFFF\t]*"
_LONGEST_ID = 255
_LARGEST_PAGE = 1000

RUN_COLUMNS = ("TASK_RUN_TYPE", "STATUS", "STARTED")
TRANSFORM_COLUMNS = ("NAME", "TRANSFORM_TYPE", "STATUS", "CREATED", "LAST_MODIFIED")
_DIRECTIONS = ("DESCENDING", "ASCENDING")
_IDS = {
    "CancelMLTaskRun": ("TransformId", "TaskRunId"),
    "GetMLTaskRun": ("TransformId", "TaskRunId"),
    "GetMLTaskRuns": ("TransformId",),
    "GetMLTransform": ("TransformId",),
}
_LISTINGS = frozenset({"GetMLTaskRuns", "GetMLTransforms", "ListMLTransforms"})


class Refused(Exception):
    """The service's no: an error code, its message, its HTTP status, and of a throttle when to come again."""

    def __init__(
        self, code: str, message: str, http_status: int = 400, retry_after_seconds: float | None = None
    ) -> None:
        super().__init__(f"{code}: {message}")
        self.retry_after_seconds = retry_after_seconds
        self.code = code
        self.message = message
        self.http_status = http_status


def check(operation: str, parameters: Parameters) -> None:
    """Hold a request to the service model.

    Raises:
        Refused: ValidationException with every fault, or SerializationException where a type is wrong.
    """
    faults: list[str] = []
    for name in _IDS.get(operation, ()):
        faults += _id_faults(name, parameters.get(name))
    if operation in _LISTINGS:
        faults += _listing_faults(operation, parameters)
    elif operation == "GetTags":
        _text("ResourceArn", parameters.get("ResourceArn"))
        if parameters.get("ResourceArn") is None:
            faults.append(_null("resourceArn"))
    if faults:
        count = f"{len(faults)} validation error{'' if len(faults) == 1 else 's'} detected: "
        raise Refused("ValidationException", count + "; ".join(faults))


def _id_faults(name: str, value: object) -> list[str]:
    member = name[0].lower() + name[1:]
    if value is None:
        return [_null(member)]
    text = _text(name, value)
    said = f"Value '{text}' at '{member}' failed to satisfy constraint: Member must"
    if not text:
        return [f"{said} have length greater than or equal to 1"]
    if len(text) > _LONGEST_ID:
        return [f"{said} have length less than or equal to {_LONGEST_ID}"]
    if _NOT_IN_AN_ID.search(text):
        return [f"{said} satisfy regular expression pattern: {_ID_PATTERN}"]
    return []


def _listing_faults(operation: str, parameters: Parameters) -> list[str]:
    _text("NextToken", parameters.get("NextToken"))
    for key, value in _mapping("Tags", parameters.get("Tags")).items():
        _text(f"Tags.{key}", value)
    conditions = _mapping("Filter", parameters.get("Filter"))
    for name in ("StartedBefore", "StartedAfter", "CreatedBefore", "CreatedAfter"):
        if not isinstance(conditions.get(name, 0), int | float):
            raise _not_a(name, "a number of seconds")
    return [
        *_page_size_faults(parameters.get("MaxResults")),
        *_filter_faults(operation, conditions),
        *_sort_faults(operation, parameters.get("Sort")),
    ]


def _page_size_faults(size: object) -> list[str]:
    if size is None:
        return []
    if not isinstance(size, int) or isinstance(size, bool):
        raise _not_a("MaxResults", "a number")
    if 1 <= size <= _LARGEST_PAGE:
        return []
    limit = "greater than or equal to 1" if size < 1 else f"less than or equal to {_LARGEST_PAGE}"
    return [f"Value '{size}' at 'maxResults' failed to satisfy constraint: Member must have value {limit}"]


def _filter_faults(operation: str, conditions: Parameters) -> list[str]:
    if operation == "GetMLTaskRuns":
        return [
            *_enum("filter.status", conditions.get("Status"), tuple(Status.__members__)),
            *_enum("filter.taskRunType", conditions.get("TaskRunType"), tuple(TaskType.__members__)),
        ]
    return [
        *_enum("filter.status", conditions.get("Status"), ("NOT_READY", "READY", "DELETING")),
        *_enum("filter.transformType", conditions.get("TransformType"), ("FIND_MATCHES",)),
    ]


def _sort_faults(operation: str, given: object) -> list[str]:
    if given is None:
        return []
    sort = _mapping("Sort", given)
    columns = RUN_COLUMNS if operation == "GetMLTaskRuns" else TRANSFORM_COLUMNS
    faults: list[str] = []
    for name, member, choices in (("Column", "column", columns), ("SortDirection", "sortDirection", _DIRECTIONS)):
        if sort.get(name) is None:
            faults.append(_null(f"sort.{member}"))
        faults += _enum(f"sort.{member}", sort.get(name), choices)
    return faults


def _enum(member: str, value: object, choices: tuple[str, ...]) -> list[str]:
    if value is None or value in choices:
        return []
    given = _text(member, value)
    known = ", ".join(choices)
    said = f"Value '{given}' at '{member}' failed to satisfy constraint: Member must"
    return [f"{said} satisfy enum value set: [{known}]"]


def _null(member: str) -> str:
    return f"Value null at '{member}' failed to satisfy constraint: Member must not be null"


def _text(name: str, value: object) -> str:
    if value is not None and not isinstance(value, str):
        raise _not_a(name, "a string")
    return value or ""


def _mapping(name: str, value: object) -> Mapping[str, Any]:
    if value is not None and not isinstance(value, dict):
        raise _not_a(name, "a structure")
    return value or {}


def _not_a(name: str, what: str) -> Refused:
    return Refused("SerializationException", f"{name} is not {what}")
