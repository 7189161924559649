"""Glue's operations, each by the shortest way there is: from a template where there is one, through a client where not.

The two are the same to whoever calls: the same requests on the wire, the same answers, the same exceptions.
"""

import asyncio
import json
import time
from collections.abc import Awaitable, Callable
from typing import Any

from aiobotocore.httpsession import AIOHTTPSession
from botocore.awsrequest import AWSPreparedRequest
from botocore.credentials import ReadOnlyCredentials
from botocore.exceptions import ClientError, NoCredentialsError
from botocore.parsers import create_parser
from botocore.serialize import create_serializer

from batch_cancel.glue.aws_errors import unsigned
from batch_cancel.glue.aws_template import Template, take_template

Response = dict[str, Any]

PATTERN_KEYS = ReadOnlyCredentials("AKIAPATTERN000000000", "the secret of a pattern", "the token of a pattern", None)
"""Made up: what is signed with them is never sent."""


class _Caught(Exception):
    """Carries a finished request out of botocore, in the moment in which it would be sent."""

    def __init__(self, request: AWSPreparedRequest) -> None:
        super().__init__("not to be sent")
        self.request = request


class Pattern:
    """How the requests of one configuration and region look; shared by all credentials that are used there.

    Args:
        client: made with :data:`PATTERN_KEYS`; nothing is ever sent through it.
        transport_arguments: what its transport was to be set up with.
    """

    def __init__(self, client: Any, transport_arguments: dict[str, object] | None) -> None:  # noqa: ANN401  # botocore's client has no type
        self.transport_arguments = transport_arguments
        self._client = client
        self._model = client.meta.service_model
        self._templates: dict[str, Template | None] = {}
        self._names: dict[str, frozenset[str]] = {}
        self._one_at_a_time = asyncio.Lock()
        protocol = self._model.metadata.get("protocol")
        self._serializer = create_serializer(protocol, include_validation=False)
        self._parser = create_parser(protocol)
        self.fit = transport_arguments is not None and protocol == "json"
        client.meta.events.register("before-send", _catch)

    async def template(self, operation: str, parameters: Response) -> Template | None:
        """The operation's template, made when it is first asked for; None where there can be none."""
        try:
            return self._templates[operation]
        except KeyError:
            async with self._one_at_a_time:
                if operation not in self._templates:
                    self._templates[operation] = await self._made(operation, parameters) if self.fit else None
            return self._templates[operation]

    def body(self, operation: str, parameters: Response) -> bytes:
        """The body of a request. Where all is text the serializer changes nothing; the template's check holds it so."""
        if all(type(value) is str for value in parameters.values()):
            return json.dumps(parameters).encode()
        body = self._serializer.serialize_to_request(parameters, self._model.operation_model(operation))["body"]
        return body if isinstance(body, bytes) else str(body).encode()

    def read(self, operation: str, http_status: int, headers: dict[str, str], body: bytes) -> Response:
        """What an answer says; its fields as JSON has them, times as numbers, so that an odd one costs itself alone.

        Raises:
            ClientError: the service refused.
        """
        if http_status == 200 and (names := self._names_of(operation)) and (found := _fields(body, names)) is not None:
            request_id = headers.get("x-amzn-requestid")
            metadata = {"RequestId": request_id} if request_id is not None else {}
            return {**found, "ResponseMetadata": {**metadata, "HTTPStatusCode": 200, "HTTPHeaders": headers}}
        model = self._model.operation_model(operation)
        answer = {
            "status_code": http_status,
            "headers": headers,
            "body": body,
            "context": {"operation_name": operation},
        }
        parsed: Response = self._parser.parse(answer, model.output_shape)
        if http_status >= 300:
            raise ClientError(parsed, operation)
        return parsed

    def _names_of(self, operation: str) -> frozenset[str]:
        """The fields of an answer; none where one is called otherwise on the wire than in botocore's hands."""
        names = self._names.get(operation)
        if names is None:
            shape = self._model.operation_model(operation).output_shape
            fields = {} if shape is None else shape.members
            plain = not any(each.serialization for each in fields.values())
            names = self._names[operation] = frozenset(fields) if plain else frozenset()
        return names

    async def _made(self, operation: str, parameters: Response) -> Template | None:
        """Let botocore make the request, and take it before it leaves.

        Whatever goes wrong here says only that there is no template: then the client is used, and says it in its way.
        """
        try:
            await _method(self._client, operation)(**parameters)
        except _Caught as caught:
            request = caught.request
            body = request.body if isinstance(request.body, bytes) else str(request.body).encode()
            if body != self.body(operation, parameters):
                return None
            return take_template(request.method, request.url, dict(request.headers.items()), body, PATTERN_KEYS)
        except Exception:
            return None
        return None


class Calls:
    """Calls of Glue's operations with one set of credentials in one region.

    Args:
        credentials: botocore's, which refresh themselves; None where there are none.
        client: opens a client of its own for where there is no template.
    """

    def __init__(
        self,
        pattern: Pattern,
        transport: AIOHTTPSession | None,
        credentials: Any,  # noqa: ANN401  # botocore's credentials have no type
        client: Callable[[], Awaitable[Any]],
    ) -> None:
        self._pattern = pattern
        self._transport = transport
        self._credentials = credentials
        self._client = client

    async def __call__(self, operation: str, **parameters: object) -> Response:
        """One call, one request.

        Raises:
            botocore's exceptions: as its clients raise them.
            CallFailed: there was nothing to sign it with.
        """
        pattern = self._pattern
        template = await pattern.template(operation, parameters)
        if template is None or self._transport is None:
            client = await self._client()
            response: Response = await _method(client, operation)(**parameters)
            return response
        if self._credentials is None:
            raise NoCredentialsError
        try:
            keys = await self._credentials.get_frozen_credentials()
        except Exception as error:
            raise unsigned(operation, error) from error
        body = pattern.body(operation, parameters)
        headers = template.sign(body, keys, time.strftime("%Y%m%dT%H%M%SZ", time.gmtime()))
        request = AWSPreparedRequest("POST", template.url, headers, body, stream_output=False)
        answer = await self._transport.send(request)
        return pattern.read(operation, answer.status_code, answer.headers, await answer.content)


def _catch(request: AWSPreparedRequest, **_: object) -> None:
    raise _Caught(request)


def _fields(body: bytes, names: frozenset[str]) -> Response | None:
    """Those fields of an answer that it has; None where botocore has to say what to make of it."""
    try:
        answer = json.loads(body)
    except (ValueError, RecursionError):
        return None
    if not isinstance(answer, dict):
        return None
    return {name: value for name, value in answer.items() if name in names and value is not None}


def _method(client: Any, operation: str) -> Callable[..., Awaitable[Response]]:  # noqa: ANN401  # botocore's client has no type
    names = client.meta.method_to_api_mapping
    method: Callable[..., Awaitable[Response]] = getattr(
        client, next(name for name in names if names[name] == operation)
    )
    return method
