"""A world as :class:`batch_cancel.glue.api.Service`, without a wire: for tests and for the deterministic simulation.

What fails here raises what :mod:`batch_cancel.glue.aws` raises for the same event on the wire; a test holds the two
together (``tests/wire``). Time passes on the event loop's clock.
"""

import asyncio
import random
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, NoReturn

from batch_cancel.core.error_codes import kind_of
from batch_cancel.core.errors import CallFailed, ErrorKind
from batch_cancel.core.task_run import Access, Identity, Status, Target, TaskRun, Transform
from batch_cancel.glue.api import Account, CancelAnswer, GlueApi, GlueReader, Organization, Page
from batch_cancel.simulator.latency import Latency, no_latency
from batch_cancel.simulator.requests import Parameters, Refused
from batch_cancel.simulator.sts import KEY_PREFIX
from batch_cancel.simulator.world import Answer, Delivery, World

PAGE_SIZE = 1000
READ_SECONDS = 25.0
"""The real client's read time-out: so long it waits for an answer that never comes."""

_TRANSPORT = {
    Delivery.REFUSED: ("EndpointConnectionError", False),
    Delivery.RESET: ("EndpointConnectionError", True),
    Delivery.CLOSED: ("ConnectionClosedError", True),
    Delivery.HALF: ("ConnectionClosedError", True),
    Delivery.NEVER: ("ReadTimeoutError", True),
}
"""What the real client raises, and whether the request may have been read (GLUE.md, transport table)."""


@dataclass(slots=True)
class _Keys:
    """What one access amounts to: base keys, and a role's once it was assumed."""

    base: str
    role: str | None = None


class SimulatedService:
    """A way in to a world.

    Args:
        profiles: the account of each profile; any other profile is not there.
        latency: of a round trip, half of it before the call arrives.
        arrives_if_cancelled: the share of calls that reach the world although their task was cancelled on their way.
    """

    def __init__(
        self,
        world: World,
        *,
        profiles: Mapping[str, str] | None = None,
        latency: Latency = no_latency,
        region: str | None = None,
        seed: int = 0,
        arrives_if_cancelled: float = 0.5,
    ) -> None:
        self.world = world
        self.latency = latency
        self.random = random.Random(f"wire {seed}")
        self.arrives_if_cancelled = arrives_if_cancelled
        self._profiles = dict(profiles or {})
        self._region = region or world.settings.fleet.regions[0]
        self._keys: dict[Access, _Keys] = {}
        self._fresh = 0

    async def identify(self, access: Access, region: str) -> Identity:
        """sts:GetCallerIdentity (see :class:`batch_cancel.glue.api.Service`)."""
        body = await self.call(access, region, "GetCallerIdentity", {})
        if not body.get("Account"):
            raise _no_answer("GetCallerIdentity")
        return Identity(account_id=body["Account"], arn=body["Arn"])

    def default_region(self, access: Access) -> str | None:
        """The world's first region, unless another was given.

        Raises:
            CallFailed: of kind CREDENTIALS where the profile is not there.
        """
        self._keys_of(access, "CreateSession")
        return self._region

    def forget(self, access: Access) -> None:
        """The next call comes with fresh keys."""
        self._keys.pop(access, None)
        self._fresh += 1

    @asynccontextmanager
    async def reader(self, target: Target) -> AsyncIterator[GlueReader]:
        """A client that can only read."""
        self._keys_of(target.access, "CreateSession")
        yield SimulatedReader(self, target)

    @asynccontextmanager
    async def connect(self, target: Target) -> AsyncIterator[GlueApi]:
        """A client that can cancel."""
        self._keys_of(target.access, "CreateSession")
        yield SimulatedGlue(self, target)

    @asynccontextmanager
    async def organization(self, access: Access, region: str) -> AsyncIterator[Organization]:
        """A client that can look into the organization."""
        self._keys_of(access, "CreateSession")
        yield SimulatedOrganization(self, access, region)

    async def call(self, access: Access, region: str, operation: str, parameters: Parameters) -> dict[str, Any]:
        """One wire call, with AssumeRole before it where a role's keys are not there yet.

        Returns:
            the fields of a 200; none where its body was cut, empty or no JSON, as botocore has it.

        Raises:
            CallFailed: everything else.
        """
        keys = self._keys_of(access, operation)
        if access.role_arn and keys.role is None:
            request = {"RoleArn": access.role_arn, "RoleSessionName": "batch-cancel"}
            if access.external_id:
                request["ExternalId"] = access.external_id
            try:
                assumed = await self._send(keys.base, region, "AssumeRole", request)
                if "Credentials" not in assumed:
                    raise _no_answer("AssumeRole")
            except CallFailed as failure:
                failure.kind = failure.kind.at_the_door
                failure.reached = False  # the call that it was for never left
                raise
            keys.role = str(assumed["Credentials"]["AccessKeyId"])
        return await self._send(keys.role or keys.base, region, operation, parameters)

    async def _send(self, key_id: str, region: str, operation: str, parameters: Parameters) -> dict[str, Any]:
        seconds = self.latency(self.random)
        try:
            await asyncio.sleep(seconds / 2)
        except asyncio.CancelledError:
            if self.random.random() < self.arrives_if_cancelled:  # cancelling a task does not call back what it sent
                self.world.call(key_id, region, operation, parameters)
            raise
        answer = self.world.call(key_id, region, operation, parameters)
        await asyncio.sleep(READ_SECONDS if answer.delivery is Delivery.NEVER else seconds / 2)
        return _fields(operation, answer)

    def _keys_of(self, access: Access, operation: str) -> _Keys:
        keys = self._keys.get(access)
        if keys is None:
            account_id = self.world.settings.fleet.accounts[0]
            if access.profile is not None:
                if access.profile not in self._profiles:
                    message = f"The config profile ({access.profile}) could not be found"
                    raise CallFailed(ErrorKind.CREDENTIALS, operation, "ProfileNotFound", message, reached=False)
                account_id = self._profiles[access.profile]
            keys = self._keys[access] = _Keys(f"{KEY_PREFIX[:4]}{self._fresh:04d}{account_id}")
        return keys


class SimulatedReader:
    """The read calls of one account and region of a world."""

    def __init__(self, service: SimulatedService, target: Target) -> None:
        self._service = service
        self._target = target

    async def list_transform_ids(
        self, *, tags: Mapping[str, str] | None = None, next_token: str | None = None
    ) -> Page[str]:
        """ListMLTransforms."""
        request = _page_request(next_token)
        if tags:
            request["Tags"] = dict(tags)
        body = await self._call("ListMLTransforms", request)
        return Page(_items("ListMLTransforms", body, "TransformIds"), body.get("NextToken"))

    async def list_transforms(self, *, next_token: str | None = None) -> Page[Transform]:
        """GetMLTransforms."""
        body = await self._call("GetMLTransforms", _page_request(next_token))
        items = [_transform(item) for item in _items("GetMLTransforms", body, "Transforms")]
        return Page(items, body.get("NextToken"))

    async def list_task_runs(
        self,
        transform_id: str,
        *,
        status: Status | None = None,
        started_after: datetime | None = None,
        next_token: str | None = None,
    ) -> Page[TaskRun]:
        """GetMLTaskRuns."""
        conditions: dict[str, Any] = {}
        if status is not None:
            conditions["Status"] = status.value
        if started_after is not None:
            conditions["StartedAfter"] = started_after.timestamp()
        request = {"TransformId": transform_id, **_page_request(next_token)}
        if conditions:
            request["Filter"] = conditions
        body = await self._call("GetMLTaskRuns", request)
        items = [_task_run(item) for item in _items("GetMLTaskRuns", body, "TaskRuns")]
        return Page(items, body.get("NextToken"))

    async def get_task_run(self, transform_id: str, task_run_id: str) -> TaskRun:
        """GetMLTaskRun."""
        body = await self._call("GetMLTaskRun", {"TransformId": transform_id, "TaskRunId": task_run_id})
        if body.get("TaskRunId") != task_run_id:
            raise _no_answer("GetMLTaskRun")
        return _task_run(body)

    async def _call(self, operation: str, parameters: Parameters) -> dict[str, Any]:
        return await self._service.call(self._target.access, self._target.region, operation, parameters)


class SimulatedGlue(SimulatedReader):
    """The read calls and the one that cancels."""

    async def cancel_task_run(self, transform_id: str, task_run_id: str) -> CancelAnswer:
        """CancelMLTaskRun."""
        body = await self._call("CancelMLTaskRun", {"TransformId": transform_id, "TaskRunId": task_run_id})
        status = body.get("Status")
        return CancelAnswer(
            transform_id=body.get("TransformId"),
            task_run_id=body.get("TaskRunId"),
            status=Status(status) if status else None,
            answered_at=datetime.fromtimestamp(int(self._service.world.now()), UTC),
            request_id=body[_REQUEST_ID],
        )


class SimulatedOrganization:
    """The read calls of a world's organization."""

    def __init__(self, service: SimulatedService, access: Access, region: str) -> None:
        self._service = service
        self._access = access
        self._region = region

    async def accounts_of_unit(self, unit_id: str, *, next_token: str | None = None) -> Page[Account]:
        """ListAccountsForParent."""
        body = await self._call("ListAccountsForParent", unit_id, next_token)
        items = _items("ListAccountsForParent", body, "Accounts")
        accounts = [Account(item["Id"], item["State"]) for item in items]
        return Page(accounts, body.get("NextToken"))

    async def units_of_unit(self, unit_id: str, *, next_token: str | None = None) -> Page[str]:
        """ListOrganizationalUnitsForParent."""
        body = await self._call("ListOrganizationalUnitsForParent", unit_id, next_token)
        items = _items("ListOrganizationalUnitsForParent", body, "OrganizationalUnits")
        return Page([item["Id"] for item in items], body.get("NextToken"))

    async def _call(self, operation: str, unit_id: str, next_token: str | None) -> dict[str, Any]:
        request = {"ParentId": unit_id} | ({"NextToken": next_token} if next_token else {})
        return await self._service.call(self._access, self._region, operation, request)


_REQUEST_ID = "ResponseMetadata.RequestId"


def _fields(operation: str, answer: Answer) -> dict[str, Any]:
    if answer.delivery in _TRANSPORT:
        code, reached = _TRANSPORT[answer.delivery]
        raise CallFailed(ErrorKind.TRANSIENT, operation, code, "simulated", reached=reached)
    if answer.delivery is Delivery.HTML_503:
        _refuse(operation, answer.request_id, Refused("503", "Service Unavailable", 503))
    if answer.delivery is Delivery.WHOLE:
        if answer.refused is not None:
            _refuse(operation, answer.request_id, answer.refused)
        return {**(answer.body or {}), _REQUEST_ID: answer.request_id}
    return {_REQUEST_ID: answer.request_id}


def _refuse(operation: str, request_id: str, refused: Refused) -> NoReturn:
    raise CallFailed(
        kind_of(refused.code, refused.http_status),
        operation,
        refused.code,
        refused.message,
        http_status=refused.http_status,
        request_id=request_id,
        retry_after_seconds=refused.retry_after_seconds,
    )


def _no_answer(operation: str) -> CallFailed:
    message = "the service answered 200 without the fields of an answer"
    return CallFailed(ErrorKind.TRANSIENT, operation, "IncompleteAnswer", message)


def _items(operation: str, body: Mapping[str, Any], name: str) -> list[Any]:
    items = body.get(name)
    if not isinstance(items, list):
        raise _no_answer(operation)
    return items


def _page_request(next_token: str | None) -> dict[str, Any]:
    return {"MaxResults": PAGE_SIZE, "NextToken": next_token} if next_token else {"MaxResults": PAGE_SIZE}


def _time(seconds: float | None) -> datetime | None:
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC)


def _task_run(item: Mapping[str, Any]) -> TaskRun:
    return TaskRun(
        transform_id=item["TransformId"],
        task_run_id=item["TaskRunId"],
        status=Status(item["Status"]),
        task_type=item["Properties"]["TaskType"],
        started_on=_time(item["StartedOn"]),
        last_modified_on=_time(item["LastModifiedOn"]),
        completed_on=_time(item.get("CompletedOn")),
        execution_time_seconds=item["ExecutionTime"],
    )


def _transform(item: Mapping[str, Any]) -> Transform:
    return Transform(
        transform_id=item["TransformId"],
        name=item["Name"],
        max_capacity=item.get("MaxCapacity"),
        worker_type=item.get("WorkerType"),
        number_of_workers=item.get("NumberOfWorkers"),
        timeout_minutes=item["Timeout"],
        glue_version=item["GlueVersion"],
    )
