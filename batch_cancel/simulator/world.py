"""One made-up AWS: accounts, regions, transforms and runs behind limits and faults. Pure: no asyncio, no I/O.

A call goes in, its time read from the injected clock, and an :class:`Answer` comes out: what the service would send,
and how much of it arrives. The truth is kept beside it, for comparing reports with.
"""

import binascii
import heapq
import itertools
import math
import random
import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any, NamedTuple, TypeVar

from batch_cancel.core.task_run import Status
from batch_cancel.simulator.fleet import Fleet, MLTransform, Run
from batch_cancel.simulator.limits import Limits
from batch_cancel.simulator.organization import Organization
from batch_cancel.simulator.requests import Parameters, Refused, check
from batch_cancel.simulator.settings import (
    ORGANIZATION_OPERATIONS,
    CancelEnded,
    Fault,
    FaultKind,
    Limit,
    RetryAfter,
    TagsMatch,
    WorldSettings,
)
from batch_cancel.simulator.sts import EXPIRED, STS_OPERATIONS, Caller, Sts, in_its_words

T = TypeVar("T")

_BEFORE_ANYTHING = (FaultKind.REFUSED, FaultKind.DROP, FaultKind.HANG, FaultKind.UNAVAILABLE)
"""Faults of the way there: neither credentials nor limit are looked at."""


class Delivery(Enum):
    """How much of an answer reaches the caller."""

    WHOLE = "whole"
    REFUSED = "refused"
    RESET = "reset"
    CLOSED = "closed"
    HALF = "half"
    GARBAGE = "garbage"
    EMPTY = "empty"
    HTML_503 = "html_503"
    NEVER = "never"


_DELIVERIES = {
    FaultKind.REFUSED: Delivery.REFUSED,
    FaultKind.DROP: Delivery.RESET,
    FaultKind.HANG: Delivery.NEVER,
    FaultKind.UNAVAILABLE: Delivery.HTML_503,
    FaultKind.APPLIED_DROP: Delivery.CLOSED,
    FaultKind.APPLIED_HANG: Delivery.NEVER,
    FaultKind.HALF_BODY: Delivery.HALF,
    FaultKind.GARBAGE_200: Delivery.GARBAGE,
    FaultKind.EMPTY_200: Delivery.EMPTY,
}
_REFUSALS: dict[FaultKind | None, tuple[str, str, int]] = {
    FaultKind.TIMEOUT: ("OperationTimeoutException", "Operation timed out", 400),
    FaultKind.INTERNAL: ("InternalServiceException", "Internal service error", 500),
    FaultKind.DENIED: ("AccessDeniedException", "User is not authorized to perform this operation", 400),
    FaultKind.EXPIRED: EXPIRED,
    FaultKind.INVALID: ("InvalidInputException", "The input provided was not valid", 400),
}


@dataclass(frozen=True, slots=True)
class Answer:
    """What the service says to one call, and how much of it arrives.

    Attributes:
        body: of a 200; None where the call was refused.
        refused: the error, if there is one.
        fault: the fault that was drawn, if one was.
    """

    request_id: str
    delivery: Delivery = Delivery.WHOLE
    body: dict[str, Any] | None = None
    refused: Refused | None = None
    fault: FaultKind | None = None


class Call(NamedTuple):
    """One call as it was received: ``result`` is ``ok``, an error code, or the fault that hid the answer."""

    at: float
    account_id: str
    region: str
    operation: str
    transform_id: str | None
    task_run_id: str | None
    result: str


_Work = Callable[[Caller, Parameters], dict[str, Any]]


class World:
    """The state machine.

    Args:
        now: seconds since the epoch; the world begins when it is made.
    """

    def __init__(self, settings: WorldSettings, *, now: Callable[[], float]) -> None:
        self.settings = settings
        self.began_at = now()
        self.calls: Counter[tuple[str, str, str, str]] = Counter()
        """By account, region, operation and result."""
        self.log: list[Call] = []
        self.sts = Sts(settings.access, settings.fleet.accounts)
        self._now = now
        self._random = random.Random(f"world {settings.seed}")
        self._fleet = Fleet(settings.fleet, settings.behaviour, settings.seed, self.began_at)
        self._limits = Limits(settings.limits)
        self._faults = tuple(settings.faults)
        self._organization = Organization(settings.organization, settings.fleet.accounts)
        self._serial = itertools.count(1)
        self._coming: list[tuple[float, int, Callable[[float], None]]] = []
        self._glue: dict[str, _Work] = {
            "CancelMLTaskRun": self._cancel_task_run,
            "GetMLTaskRun": self._get_task_run,
            "GetMLTaskRuns": self._get_task_runs,
            "ListMLTransforms": self._list_transforms,
            "GetMLTransforms": self._get_transforms,
            "GetMLTransform": self._get_transform,
            "GetTags": self._get_tags,
        }
        self._schedule_began_at = math.inf
        if not settings.waits_for_caller:
            self._begin_schedule(self.began_at)

    # -- what callers do ----------------------------------------------------------------------------------------------

    def call(self, key_id: str, region: str, operation: str, parameters: Parameters) -> Answer:
        """One call to Glue, Organizations or STS, from its arrival to its answer.

        Args:
            key_id: the caller's access key id (see :data:`batch_cancel.simulator.sts.KEY_PREFIX`).
            parameters: as in the API reference, times as epoch seconds.
        """
        now = self._now()
        if math.isinf(self._schedule_began_at):
            self._begin_schedule(now)
        self.advance(now)
        account_id = self.sts.account_of(key_id)
        caller = Caller(key_id, account_id, region, now)
        fault = self._draw(caller, operation) if self._faults else None
        request_id = f"{next(self._serial):08x}-5143-4000-8000-{self.settings.seed & 0xFFFFFFFFFFFF:012x}"
        if operation == "CancelMLTaskRun" and fault is not FaultKind.REFUSED:
            run = self.run(account_id, region, parameters.get("TransformId"), parameters.get("TaskRunId"))
            if run is not None:
                run.requests += 1
        answer = self._answer(caller, operation, parameters, fault, request_id)
        result = answer.fault.value if answer.fault else answer.refused.code if answer.refused else "ok"
        self.calls[account_id, region, operation, result] += 1
        if self.settings.keep_log:
            ids = parameters.get("TransformId"), parameters.get("TaskRunId")
            self.log.append(Call(now, account_id, region, operation, *ids, result))
        return answer

    def change_faults(self, faults: Sequence[Fault]) -> None:
        """Other faults from now on."""
        self._faults = tuple(faults)

    def change_limits(self, limits: Sequence[Limit]) -> None:
        """Other limits from now on."""
        self._limits.change(limits)

    def advance(self, now: float) -> None:
        """Let happen what was due until now: runs that are started, or started again."""
        while self._coming and self._coming[0][0] <= now:
            due, _, happen = heapq.heappop(self._coming)
            happen(due)

    # -- the truth ----------------------------------------------------------------------------------------------------

    def now(self) -> float:
        """The world's time, with everything that was due until then done."""
        now = self._now()
        self.advance(now)
        return now

    def transforms(self) -> Iterator[tuple[str, str, MLTransform]]:
        """Every transform, with its account and region."""
        for (account_id, region), transforms in self._fleet.transforms.items():
            for transform in transforms.values():
                yield account_id, region, transform

    def runs(self) -> Iterator[tuple[str, str, Run]]:
        """Every run, with its account and region."""
        for account_id, region, transform in self.transforms():
            for run in transform.runs:
                yield account_id, region, run

    def run(self, account_id: str, region: str, transform_id: object, task_run_id: object) -> Run | None:
        """One run, if there is such a one."""
        transform = self._fleet.transforms.get((account_id, region), {}).get(transform_id)  # type: ignore[call-overload]  # whatever a request holds
        return transform.by_id.get(task_run_id) if transform else None

    def truth(self) -> dict[str, Any]:
        """Everything, as plain data for JSON; :meth:`truth_of` gives it transform by transform."""
        now = self.now()
        return {
            **self.truth_in_short(),
            "transforms": [self.truth_of(*each, now) for each in self.transforms()],
            "log": [call._asdict() for call in self.log],
        }

    def truth_in_short(self) -> dict[str, Any]:
        """Times and counts of calls, without transforms, runs and log."""
        names = ("account_id", "region", "operation", "result")
        return {
            "began_at": self.began_at,
            "now": self.now(),
            "seed": self.settings.seed,
            "calls": [dict(zip(names, key, strict=True)) | {"count": count} for key, count in self.calls.items()],
        }

    def truth_of(self, account_id: str, region: str, transform: MLTransform, now: float) -> dict[str, Any]:
        """What is true of one transform and its runs."""
        return {
            "account_id": account_id,
            "region": region,
            "transform_id": transform.transform_id,
            "name": transform.name,
            "tags": transform.tags,
            "runs": [
                {
                    "task_run_id": run.task_run_id,
                    "task_type": run.task_type.value,
                    "status": run.status(now).value,
                    "origin": run.origin,
                    "replaces": run.replaces,
                    "cancel_requests": run.requests,
                    "accepted_cancels": list(run.cancels),
                    "stuck": bool(run.cancels) and math.isinf(run.stops_after),
                    "history": [
                        {"at": at, "status": status.value, "cause": cause} for at, status, cause in run.history(now)
                    ],
                }
                for run in transform.runs
            ],
        }

    # -- one call -----------------------------------------------------------------------------------------------------

    def _answer(
        self, caller: Caller, operation: str, parameters: Parameters, fault: FaultKind | None, request_id: str
    ) -> Answer:
        if fault in _BEFORE_ANYTHING:
            return Answer(request_id, _DELIVERIES[fault], fault=fault)
        try:
            self._let_in(caller, operation)
            self._take_a_place(caller, operation, throttled=fault is FaultKind.THROTTLE)
            _refuse_by(fault)
        except Refused as refused:
            return Answer(request_id, refused=in_its_words(operation, refused))
        if fault is FaultKind.GARBAGE_200 and not self.settings.behaviour.garbage_applies:
            return Answer(request_id, Delivery.GARBAGE, fault=fault)
        body: dict[str, Any] | None = None
        error: Refused | None = None
        try:
            body = self._carry_out(caller, operation, parameters)
        except Refused as refused:
            error = in_its_words(operation, refused)
        if fault is FaultKind.APPLIED_500:
            body, error = None, in_its_words(operation, Refused(*_REFUSALS[FaultKind.INTERNAL]))
        elif fault is FaultKind.NO_ECHO:
            body, error = {}, None
        delivery = Delivery.WHOLE if fault is None else _DELIVERIES.get(fault, Delivery.WHOLE)
        return Answer(request_id, delivery, body, error, fault)

    def _carry_out(self, caller: Caller, operation: str, parameters: Parameters) -> dict[str, Any]:
        work = self._glue.get(operation)
        if work is not None:
            check(operation, parameters)
            return work(caller, parameters)
        if operation in ORGANIZATION_OPERATIONS:
            return self._organization.answer(caller.account_id, operation, parameters)
        if operation in STS_OPERATIONS:
            return self.sts.answer(caller, operation, parameters)
        raise Refused("UnknownOperationException", f"{operation} is not an operation of this endpoint")

    def _let_in(self, caller: Caller, operation: str) -> None:
        self.sts.check(caller, self._schedule_began_at)
        if caller.account_id in self.sts.access.denied_accounts and operation in self._glue:
            message = f"User: {self.sts.arn_of(caller)} is not authorized to perform: glue:{operation}"
            raise Refused("AccessDeniedException", message)

    def _draw(self, caller: Caller, operation: str) -> FaultKind | None:
        lot = self._random.random()
        age = caller.now - self._schedule_began_at
        for fault in self._faults:
            if (
                fault.from_seconds <= age < fault.until_seconds
                and (operation in fault.operations if fault.operations else operation in self._glue)
                and (not fault.accounts or caller.account_id in fault.accounts)
                and (not fault.regions or caller.region in fault.regions)
            ):
                if lot < fault.probability:
                    return fault.kind
                lot -= fault.probability
        return None

    def _take_a_place(self, caller: Caller, operation: str, *, throttled: bool) -> None:
        wait = 0.0
        if operation in self._glue:
            age = caller.now - self._schedule_began_at
            wait = self._limits.wait_seconds(caller.account_id, caller.region, operation, age)
        if wait > 0 or throttled:
            code = self.settings.behaviour.throttle_code
            http_status = 429 if code == "429" else 400
            raise Refused(code, "Rate exceeded", http_status, self._retry_after(wait or 1.0))

    def _retry_after(self, wait: float) -> float | None:
        match self.settings.behaviour.retry_after:
            case RetryAfter.NEVER:
                return None
            case RetryAfter.SECONDS:
                return float(math.ceil(wait))
            case RetryAfter.MILLISECONDS:
                return math.ceil(wait * 1000) / 1000

    # -- Glue ---------------------------------------------------------------------------------------------------------

    def _cancel_task_run(self, caller: Caller, parameters: Parameters) -> dict[str, Any]:
        transform, run = self._find(caller, parameters)
        status = run.status(caller.now)
        if status.ended:
            match self.settings.behaviour.cancel_ended:
                case CancelEnded.STATUS:
                    pass
                case CancelEnded.INVALID:
                    raise Refused("InvalidInputException", f"Task run is not in a state to be cancelled: {status}")
                case CancelEnded.NOT_FOUND:
                    raise _no_run(run.task_run_id)
        else:
            first = not run.cancels
            status = run.cancel(caller.now)
            restart_at = self._fleet.restart_at(run) if first else None
            if restart_at is not None:
                self._expect(restart_at, lambda due: self._start(transform, due, run))
        return {"TransformId": transform.transform_id, "TaskRunId": run.task_run_id, "Status": status.value}

    def _get_task_run(self, caller: Caller, parameters: Parameters) -> dict[str, Any]:
        return self._find(caller, parameters)[1].described(caller.now)

    def _get_task_runs(self, caller: Caller, parameters: Parameters) -> dict[str, Any]:
        runs: Sequence[Run] = self._find_transform(caller, parameters).runs
        at = caller.now - self.settings.behaviour.listing_lag_seconds
        if (sort := parameters.get("Sort")) is not None:
            by = {
                "STARTED": lambda run: run.started_at,
                "STATUS": lambda run: run.status(at),
                "TASK_RUN_TYPE": lambda run: run.task_type,
            }
            runs = sorted(runs, key=by[sort["Column"]], reverse=sort["SortDirection"] == "DESCENDING")
        keep = _run_filter(parameters.get("Filter") or {}, at)
        found, token = self._page(runs, keep, parameters)
        return _listing("TaskRuns", [run.described(at) for run in found], token)

    def _list_transforms(self, caller: Caller, parameters: Parameters) -> dict[str, Any]:
        found, token = self._transform_page(caller, parameters)
        return _listing("TransformIds", [transform.transform_id for transform in found], token)

    def _get_transforms(self, caller: Caller, parameters: Parameters) -> dict[str, Any]:
        found, token = self._transform_page(caller, parameters)
        return _listing("Transforms", [transform.described(caller.account_id) for transform in found], token)

    def _get_transform(self, caller: Caller, parameters: Parameters) -> dict[str, Any]:
        return self._find_transform(caller, parameters).described(caller.account_id)

    def _get_tags(self, caller: Caller, parameters: Parameters) -> dict[str, Any]:
        arn = parameters["ResourceArn"]
        match = re.fullmatch(
            r"arn:aws[a-z-]*:glue:([a-z0-9-]+):([0-9]{12}):mlTransform/(.+)", arn, re.ASCII | re.DOTALL
        )
        if match is None or match[1] != caller.region or match[2] != caller.account_id:
            raise Refused("InvalidInputException", f"Resource Arn {arn} is invalid")
        return {"Tags": dict(self._find_transform(caller, {"TransformId": match[3]}).tags)}

    def _transform_page(self, caller: Caller, parameters: Parameters) -> tuple[list[MLTransform], str | None]:
        transforms: list[MLTransform] = list(
            self._fleet.transforms.get((caller.account_id, caller.region), {}).values()
        )
        if (sort := parameters.get("Sort")) is not None:
            by_time = sort["Column"] in ("CREATED", "LAST_MODIFIED")
            transforms.sort(key=lambda each: (each.created_at if by_time else 0.0, each.name))
            if sort["SortDirection"] == "DESCENDING":
                transforms.reverse()
        keep = _transform_filter(
            parameters.get("Filter") or {}, parameters.get("Tags") or {}, self.settings.behaviour.tags_match
        )
        return self._page(transforms, keep, parameters)

    def _find_transform(self, caller: Caller, parameters: Parameters) -> MLTransform:
        transform_id: str = parameters["TransformId"]
        transform = self._fleet.transforms.get((caller.account_id, caller.region), {}).get(transform_id)
        if transform is None:
            raise Refused("EntityNotFoundException", f"MLTransform with id {transform_id} not found")
        return transform

    def _find(self, caller: Caller, parameters: Parameters) -> tuple[MLTransform, Run]:
        transform = self._find_transform(caller, parameters)
        run = transform.by_id.get(parameters["TaskRunId"])
        if run is None:
            raise _no_run(parameters["TaskRunId"])
        return transform, run

    def _page(
        self, items: Sequence[T], keep: Callable[[T], bool], parameters: Parameters
    ) -> tuple[list[T], str | None]:
        """From where the token says, so many as fit; the token is a place, so that no page needs what came before."""
        behaviour = self.settings.behaviour
        size = min(parameters.get("MaxResults") or behaviour.default_page_size, behaviour.page_size_cap)
        place = _place_of(parameters.get("NextToken"))
        found: list[T] = []
        if place < len(items) and behaviour.empty_page_share and self._random.random() < behaviour.empty_page_share:
            return found, _token_of(place, next(self._serial))
        while place < len(items):
            item = items[place]
            if keep(item):
                if len(found) == size:
                    return found, _token_of(place, 0)
                found.append(item)
            place += 1
        return found, None

    # -- what happens by itself ---------------------------------------------------------------------------------------

    def _begin_schedule(self, now: float) -> None:
        self._schedule_began_at = now
        if self.settings.behaviour.new_runs_per_second > 0:
            self._expect(now + 1 / self.settings.behaviour.new_runs_per_second, self._start_new_run)

    def _expect(self, due: float, happen: Callable[[float], None]) -> None:
        heapq.heappush(self._coming, (due, next(self._serial), happen))

    def _start(self, transform: MLTransform, due: float, replaces: Run) -> None:
        self._fleet.start_run(transform, due, replaces=replaces)

    def _start_new_run(self, due: float) -> None:
        behaviour = self.settings.behaviour
        if due > self._schedule_began_at + behaviour.new_runs_until_seconds:
            return
        transform = self._fleet.any_transform()
        if transform is not None:
            self._fleet.start_run(transform, due)
            self._expect(due + 1 / behaviour.new_runs_per_second, self._start_new_run)


def _refuse_by(fault: FaultKind | None) -> None:
    if fault in _REFUSALS:
        raise Refused(*_REFUSALS[fault])


def _no_run(task_run_id: str) -> Refused:
    return Refused("EntityNotFoundException", f"MLTaskRun with id {task_run_id} not found")


def _listing(name: str, items: Sequence[object], token: str | None) -> dict[str, Any]:
    return {name: items} if token is None else {name: items, "NextToken": token}


def _run_filter(conditions: Parameters, at: float) -> Callable[[Run], bool]:
    status = Status(conditions["Status"]) if conditions.get("Status") else None
    task_type = conditions.get("TaskRunType")
    after, before = conditions.get("StartedAfter", -math.inf), conditions.get("StartedBefore", math.inf)

    def keep(run: Run) -> bool:
        return (
            after < run.started_at < before
            and run.started_at <= at
            and (task_type is None or run.task_type == task_type)
            and (status is None or run.status(at) is status)
        )

    return keep


def _transform_filter(conditions: Parameters, tags: Parameters, tags_match: TagsMatch) -> Callable[[MLTransform], bool]:
    after, before = conditions.get("CreatedAfter", -math.inf), conditions.get("CreatedBefore", math.inf)
    matches = all if tags_match is TagsMatch.ALL else any

    def keep(transform: MLTransform) -> bool:
        return (
            after < transform.created_at < before
            and conditions.get("Name") in (None, transform.name)
            and conditions.get("Status") in (None, "READY")
            and conditions.get("GlueVersion") in (None, transform.glue_version)
            and (not tags or matches(transform.tags.get(key) == value for key, value in tags.items()))
        )

    return keep


def _token_of(place: int, salt: int) -> str:
    return urlsafe_b64encode(f"{place}.{salt}".encode()).decode()


def _place_of(token: str | None) -> int:
    if token is None:
        return 0
    try:
        place, _, _ = urlsafe_b64decode(token.encode()).decode().partition(".")
        if place.isascii() and place.isdigit() and len(place) < 12:
            return int(place)
    except (binascii.Error, UnicodeError, ValueError):
        pass
    raise Refused("InvalidInputException", "Pagination token is invalid")
