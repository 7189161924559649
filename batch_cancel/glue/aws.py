"""The real service through aioboto3: the only room that knows the AWS libraries.

botocore makes one attempt a call; whether there is another is decided in :mod:`batch_cancel.glue.paced`. Sessions are
shared by all regions of one set of credentials, so that a role is assumed once; clients are made one at a time, because
the first look-up of credentials by many at once is a stampede. What does not depend on the credentials (service model,
TLS context, connections, the look of a request) is shared by all.
"""

import asyncio
import gc
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import cache, lru_cache
from typing import Any

import aioboto3
from aiobotocore.config import AioConfig
from aiobotocore.credentials import (
    AioAssumeRoleCredentialFetcher,
    AioCredentialResolver,
    AioDeferredRefreshableCredentials,
)
from aiobotocore.session import AioSession
from botocore.exceptions import BotoCoreError, NoCredentialsError
from botocore.utils import parse_timestamp

from batch_cancel.core.errors import CallFailed, ErrorKind
from batch_cancel.core.task_run import Access, Identity, Status, Target, TaskRun, Transform
from batch_cancel.glue.api import Account, CancelAnswer, GlueApi, GlueReader, Organization, Page
from batch_cancel.glue.aws_calls import PATTERN_KEYS, Calls, Pattern
from batch_cancel.glue.aws_errors import translate, unsigned
from batch_cancel.glue.aws_transport import Transport, Transports
from batch_cancel.version import __version__

CONNECT_SECONDS = 5
READ_SECONDS = 25
CALLS_BESIDE = 64
"""Calls that no cap on calls in flight counts, at most: who we are, roles, organizations."""
PAGE_SIZE = 1000
"""The largest page that the listings give (Glue API reference, PageSize)."""
MOST = 2**31 - 1
"""The largest number that Glue's integers can be (Glue API reference)."""
EARLIEST, LATEST = datetime(1970, 1, 1, tzinfo=UTC), datetime(9999, 1, 1, tzinfo=UTC)
"""No run has started before, and no sum of times leaves the calendar after."""

Response = dict[str, Any]

for _library in ("aioboto3", "aiobotocore", "boto3", "botocore"):
    # What they log they raise as well; without a handler Python would write it, traceback and all, to standard error.
    logging.getLogger(_library).addHandler(logging.NullHandler())


class Aws:
    """A way in to AWS (:class:`batch_cancel.glue.api.Service`).

    Args:
        sweep_id: shown in CloudTrail as part of the user agent and of the role's session name.
        endpoint_url: for every service; None leaves it to AWS_ENDPOINT_URL and the shared config files.
        max_connections: at least the number of calls in flight: nothing may wait inside the connection pool.
    """

    def __init__(
        self,
        sweep_id: str,
        *,
        endpoint_url: str | None = None,
        ca_bundle: str | None = None,
        verify_ssl: bool = True,
        max_connections: int = 256,
    ) -> None:
        self._sweep_id = sweep_id
        self._endpoint_url = endpoint_url
        self._verify: bool | str | None = False if not verify_ssl else ca_bundle
        self._user_agent = f"batch-cancel/{__version__} sweep/{sweep_id}"
        self._max_connections = max_connections
        self._transports = Transports()
        self._config = self._config_with(self._transports.make)
        self._sessions: dict[Access, aioboto3.Session] = {}
        self._patterns: dict[tuple[str | None, str], Pattern] = {}
        self._loaders: dict[str | None, Any] = {}
        self._one_at_a_time = asyncio.Lock()

    def default_region(self, access: Access) -> str | None:
        """The region that boto3 would use with these credentials, if any is set.

        Raises:
            CallFailed: of kind CREDENTIALS where the profile is not there.
        """
        try:
            region = self._session(access).region_name
        except Exception as error:
            raise translate("CreateSession", error) from error
        return None if region is None else str(region)

    def forget(self, access: Access) -> None:
        """Drop what is known of these credentials: the next client reads them anew."""
        self._sessions.pop(access, None)

    async def identify(self, access: Access, region: str) -> Identity:
        """sts:GetCallerIdentity (see :class:`batch_cancel.glue.api.Service`)."""
        async with self._client("sts", access, region) as client:
            response = await _answer("GetCallerIdentity", client.get_caller_identity)
        if not response.get("Account") or not response.get("Arn"):
            raise _no_answer("GetCallerIdentity")
        return Identity(account_id=str(response["Account"]), arn=str(response["Arn"]))

    @asynccontextmanager
    async def organization(self, access: Access, region: str) -> AsyncIterator[Organization]:
        """A client for AWS Organizations; botocore finds the partition's one endpoint by the region."""
        async with self._client("organizations", access, region) as client:
            yield AwsOrganization(client)

    @asynccontextmanager
    async def reader(self, target: Target) -> AsyncIterator[GlueReader]:
        """A client that can only read."""
        async with self._glue(target.access, target.region) as calls:
            yield AwsGlueReader(calls)

    @asynccontextmanager
    async def connect(self, target: Target) -> AsyncIterator[GlueApi]:
        """A client that can cancel."""
        async with self._glue(target.access, target.region) as calls:
            yield AwsGlue(calls)

    @asynccontextmanager
    async def _glue(self, access: Access, region: str) -> AsyncIterator[Calls]:
        async with self._one_at_a_time:
            try:
                credentials = await self._session(access).get_credentials()
            except Exception as error:
                raise unsigned("CreateClient", error) from error
            try:
                pattern = await self._pattern(access, region)
            except Exception as error:
                raise translate("CreateClient", error) from error
        client: Any = None
        opening = asyncio.Lock()
        async with AsyncExitStack() as stack:

            async def own_client() -> Any:  # noqa: ANN401  # botocore's client has no type
                nonlocal client
                async with opening:
                    if client is None:
                        client = await stack.enter_async_context(self._client("glue", access, region))
                return client

            arguments = pattern.transport_arguments
            transport = None
            if arguments is not None:
                transport = await self._transports.take(arguments)
                stack.push_async_callback(self._transports.give_back, arguments)
            yield Calls(pattern, transport, credentials, own_client)

    async def _pattern(self, access: Access, region: str) -> Pattern:
        """What requests look like with this configuration: a role's has no profile of its own."""
        key = ("", region) if access.role_arn else (access.profile, region)
        pattern = self._patterns.get(key)
        if pattern is None:
            made: list[Transport] = []

            def transport(**arguments: object) -> Transport:
                made.append(self._transports.make(**arguments))
                return made[-1]

            context = self._session(access).client(
                "glue",
                region_name=region,
                endpoint_url=self._endpoint_url,
                verify=self._verify,
                config=self._config_with(transport),
                aws_access_key_id=PATTERN_KEYS.access_key,
                aws_secret_access_key=PATTERN_KEYS.secret_key,
                aws_session_token=PATTERN_KEYS.token,
            )
            async with context as client:
                arguments = made[-1].arguments if made else None
                pattern = self._patterns[key] = Pattern(client, arguments)
            _keep_what_is_loaded()
        return pattern

    def _config_with(self, transport: Callable[..., Transport]) -> AioConfig:
        return AioConfig(
            retries={"total_max_attempts": 1, "mode": "standard"},
            connect_timeout=CONNECT_SECONDS,
            read_timeout=READ_SECONDS,
            max_pool_connections=self._max_connections + CALLS_BESIDE,
            http_session_cls=transport,
            parameter_validation=False,  # ids are checked where they come in; this saves its cost in every call
            user_agent_extra=self._user_agent,
        )

    @asynccontextmanager
    async def _client(self, service: str, access: Access, region: str) -> AsyncIterator[Any]:
        async with AsyncExitStack() as stack:
            try:
                async with self._one_at_a_time:
                    client = await stack.enter_async_context(
                        self._session(access).client(
                            service,
                            region_name=region,
                            endpoint_url=self._endpoint_url,
                            verify=self._verify,
                            config=self._config,
                        )
                    )
            except Exception as error:
                raise translate("CreateClient", error) from error
            yield client

    def _session(self, access: Access) -> aioboto3.Session:
        session = self._sessions.get(access)
        if session is None:
            session = self._source_session(access.profile)
            if access.role_arn:
                session = self._role_session(session, access.role_arn, access.external_id)
            self._sessions[access] = session
        return session

    def _source_session(self, profile: str | None) -> aioboto3.Session:
        core = self._core_session()
        session = aioboto3.Session(botocore_session=core, profile_name=profile)
        if self._endpoint_url:
            # A profile that assumes a role does so with a client of botocore's own, which reads its endpoint here.
            core.get_scoped_config()["endpoint_url"] = self._endpoint_url
        return session

    def _core_session(self) -> AioSession:
        """A session that reads no service model that another one has read."""
        core = AioSession()
        data_path = core.get_config_variable("data_path")
        if data_path not in self._loaders:
            self._loaders[data_path] = core.get_component("data_loader")
        core.register_component("data_loader", self._loaders[data_path])
        return core

    def _role_session(self, source: aioboto3.Session, role_arn: str, external_id: str | None) -> aioboto3.Session:
        """A session whose credentials are a role's, assumed when first needed and again before they expire."""
        core = self._core_session()
        region = source.region_name
        if region:
            core.set_config_variable("region", region)
        arguments = {"RoleSessionName": f"batch-cancel-{self._sweep_id}"[:64]}
        if external_id:
            arguments["ExternalId"] = external_id
        provider = _AssumedRole(source, role_arn, arguments, self._sts_client_maker(source))
        core.register_component("credential_provider", AioCredentialResolver(providers=[provider]))
        return aioboto3.Session(botocore_session=core, region_name=region)

    def _sts_client_maker(self, source: aioboto3.Session) -> Callable[..., Any]:
        def make(service: str, **credentials: object) -> Any:  # noqa: ANN401  # botocore's client has no type
            return source.client(
                service,
                endpoint_url=self._endpoint_url,
                verify=self._verify,
                config=self._config,
                region_name=source.region_name or "us-east-1",
                **credentials,
            )

        return make


@cache
def _keep_what_is_loaded() -> None:
    """Once in a process, with the service model loaded: a hundred thousand objects that stay.

    Looking through them for garbage again and again would cost a twentieth of a long sweep.
    """
    gc.freeze()


class _AssumedRole:
    """A credential provider of one role, for botocore's own chain (it needs METHOD, CANONICAL_NAME and load)."""

    METHOD = "assume-role"
    CANONICAL_NAME = None

    def __init__(
        self, source: aioboto3.Session, role_arn: str, arguments: dict[str, str], client_maker: Callable[..., Any]
    ) -> None:
        self._source = source
        self._role_arn = role_arn
        self._arguments = arguments
        self._client_maker = client_maker

    async def load(self) -> AioDeferredRefreshableCredentials:
        source = await self._source.get_credentials()
        if source is None:  # the fetcher would only find out as an AttributeError
            raise NoCredentialsError
        fetcher = AioAssumeRoleCredentialFetcher(
            client_creator=self._client_maker,
            source_credentials=source,
            role_arn=self._role_arn,
            extra_args=self._arguments,
        )
        return AioDeferredRefreshableCredentials(method=self.METHOD, refresh_using=fetcher.fetch_credentials)


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
        max_retries=_whole(item.get("MaxRetries")),
    )
