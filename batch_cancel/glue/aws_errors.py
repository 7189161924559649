"""What the AWS libraries raise, told in our terms: an answer by its code (``core.error_codes``), the rest by its class.

The transport rows were measured through aiobotocore 2.25.1.
"""

import re
from collections.abc import Mapping
from typing import Any

import aiohttp
from botocore import exceptions

from batch_cancel.core.error_codes import kind_of
from batch_cancel.core.errors import CallFailed, ErrorKind

NO_CREDENTIALS = (
    exceptions.NoCredentialsError,
    exceptions.PartialCredentialsError,
    exceptions.CredentialRetrievalError,
    exceptions.TokenRetrievalError,
    exceptions.SSOTokenLoadError,
    exceptions.UnauthorizedSSOTokenError,
    exceptions.ProfileNotFound,
    exceptions.ConfigParseError,
    exceptions.InvalidConfigError,
    exceptions.UnknownCredentialError,
    exceptions.RefreshWithMFAUnsupportedError,
)
NEVER_SENT = (
    exceptions.NoRegionError,
    exceptions.ParamValidationError,
    exceptions.InvalidRegionError,
    exceptions.UnknownEndpointError,
)
_PASSING = (
    exceptions.ClientError,
    exceptions.HTTPClientError,
    exceptions.ConnectionError,
    TimeoutError,
    CallFailed,
)
"""What may keep somebody from credentials and be over at the next attempt."""
MESSAGE_CHARACTERS = 500
LONGEST_WISH_SECONDS = 120.0
"""A wish to come again later than that is granted so far: a target that accepts nothing is waited for no longer, and
what says "in an hour" is something on the way there rather than the service."""


def translate(operation: str, error: Exception) -> CallFailed:
    """The failure of one call, whatever the libraries raised for it."""
    if isinstance(error, CallFailed):
        return error
    if isinstance(error, exceptions.ClientError):
        return _from_answer(operation, error)
    code = type(error).__name__
    message = _cut(str(error))
    if isinstance(error, NO_CREDENTIALS) or _still_expired(error):
        return CallFailed(ErrorKind.CREDENTIALS, operation, code, message, reached=False)
    if isinstance(error, NEVER_SENT):
        return CallFailed(ErrorKind.OTHER, operation, code, message, reached=False)
    reached = _may_have_reached(error)
    if reached and isinstance(error, exceptions.EndpointConnectionError):
        message = _cut(f"the connection broke off: {error.kwargs.get('error')}")  # its own words are of one never made
    return CallFailed(ErrorKind.TRANSIENT, operation, code, message, reached=reached)


def unsigned(operation: str, error: Exception) -> CallFailed:
    """The failure of a call whose credentials could not be had: whatever it was, no request has left.

    Who hands them out may be out of reach for a while. Anything else is a configuration that leads to none: a token
    file or a program that is not there, a question for a code that nobody can answer.
    """
    failure = translate(operation, error)
    kind, message = failure.kind, failure.message
    if kind is ErrorKind.TRANSIENT and not isinstance(error, _PASSING):
        kind, message = ErrorKind.CREDENTIALS, _cut(f"there are no credentials: {message}".removesuffix(": "))
    return CallFailed(
        kind,
        failure.operation,
        failure.code,
        message,
        http_status=failure.http_status,
        request_id=failure.request_id,
        reached=False,
        retry_after_seconds=failure.retry_after_seconds,
    )


def _from_answer(operation: str, error: exceptions.ClientError) -> CallFailed:
    response: Mapping[str, Any] = error.response
    details = response.get("Error", {})
    metadata = response.get("ResponseMetadata", {})
    code = _code(str(details.get("Code", "Unknown")), metadata.get("HTTPHeaders", {}))
    http_status = metadata.get("HTTPStatusCode")
    # A role that cannot be assumed fails inside whatever call came first: name the one that was refused.
    refused = error.operation_name or operation
    kind = kind_of(code, http_status)
    kind = kind if refused == operation else kind.at_the_door
    # Signature errors quote the request, session token and all: the first sentence is all that anyone needs.
    message = str(details.get("Message", ""))
    return CallFailed(
        kind,
        refused,
        _writable(code),
        _cut(re.split(r"\n|(?<=\.) ", message, maxsplit=1)[0] if kind is ErrorKind.CREDENTIALS else message),
        http_status=http_status,
        request_id=metadata.get("RequestId"),
        reached=refused == operation,
        retry_after_seconds=_retry_after(metadata.get("HTTPHeaders", {})),
    )


def _code(code: str, headers: Mapping[str, str]) -> str:
    """The code of the body; where it has none, botocore gives the HTTP status, and a header may say more."""
    named = headers.get("x-amzn-errortype", "").partition(":")[0].rpartition("#")[2]
    return named if named and code.isdigit() else code


def _still_expired(error: Exception) -> bool:
    """Keys that were already over when they came, so that nothing was signed; botocore has no class for it."""
    return isinstance(error, RuntimeError) and "refreshed credentials are still expired" in str(error)


def _may_have_reached(error: Exception) -> bool:
    """False only for a connection that never came about: a reset, too, is raised as EndpointConnectionError."""
    if isinstance(error, exceptions.ConnectTimeoutError):
        return False
    if isinstance(error, exceptions.EndpointConnectionError):
        cause = error.kwargs.get("error")
        return not isinstance(cause, aiohttp.ClientConnectorError)
    return True


def _retry_after(headers: Mapping[str, str]) -> float | None:
    """Retry-After in seconds, or x-amz-retry-after in milliseconds; anything else is no wish."""
    for name, units_a_second in (("retry-after", 1), ("x-amz-retry-after", 1000)):
        text = headers.get(name, "")
        if re.fullmatch(r"\d{1,9}(\.\d{1,6})?", text):
            return min(float(text) / units_a_second, LONGEST_WISH_SECONDS)
    return None


def _cut(message: str) -> str:
    message = _writable(message)
    return message if len(message) <= MESSAGE_CHARACTERS else message[: MESSAGE_CHARACTERS - 1] + "…"


def _writable(text: str) -> str:
    """JSON can hold halves of characters, which no file and no database takes."""
    return text.encode("utf-8", "replace").decode()
