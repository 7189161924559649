"""The real service through aioboto3: credentials, sessions and clients.

botocore makes one attempt a call; whether there is another is decided in :mod:`batch_cancel.glue.paced`. Sessions are
shared by all regions of one set of credentials, so that a role is assumed once; clients are made one at a time, because
the first look-up of credentials by many at once is a stampede. What does not depend on the credentials (service model,
TLS context, connections, the look of a request) is shared by all.
"""

import asyncio
import gc
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from functools import cache
from typing import Any

import aioboto3
from aiobotocore.config import AioConfig
from aiobotocore.credentials import (
    AioAssumeRoleCredentialFetcher,
    AioCredentialResolver,
    AioDeferredRefreshableCredentials,
)
from aiobotocore.session import AioSession
from botocore.exceptions import NoCredentialsError

from batch_cancel.core.task_run import Access, Identity, Target
from batch_cancel.glue.api import GlueApi, GlueReader, Organization
from batch_cancel.glue.aws_api import AwsGlue, AwsGlueReader, AwsOrganization, identity
from batch_cancel.glue.aws_calls import PATTERN_KEYS, Calls, Pattern
from batch_cancel.glue.aws_errors import translate, unsigned
from batch_cancel.glue.aws_transport import Transport, Transports
from batch_cancel.version import __version__

CONNECT_SECONDS = 5
READ_SECONDS = 25
CALLS_BESIDE = 64
"""Calls that no cap on calls in flight counts, at most: who we are, roles, organizations."""

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
            return await identity(client)

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
