"""How a world's answers look on the wire: awsJson1.1 for Glue and Organizations, the query protocol's XML for STS."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qsl
from xml.sax.saxutils import escape

from batch_cancel.simulator.requests import Parameters, Refused
from batch_cancel.simulator.settings import RetryAfter

JSON_TYPE = "application/x-amz-json-1.1"
XML_TYPE = "text/xml"
HTML_TYPE = "text/html"
HTML_503 = b"<html><body><h1>503 Service Temporarily Unavailable</h1></body></html>"
HTML_200 = b"<!DOCTYPE html><html><body><h1>Welcome</h1>Please log in to the network.</body></html>"

_TARGETS = ("AWSGlue.", "AWSOrganizationsV20161128.")
_STS_NAMESPACE = "https://sts.amazonaws.com/doc/2011-06-15/"
_CREDENTIAL = re.compile(r"AWS4-HMAC-SHA256 .*?Credential=([^/,\s]+)/[0-9]{8}/([a-z0-9-]+)/[a-z0-9-]+/aws4_request")
_WITH_FEDERATION = frozenset({"EntityNotFoundException", "InvalidInputException"})


@dataclass(frozen=True, slots=True)
class Request:
    """A call as it was read from the wire; ``query`` where it came in the query protocol."""

    key_id: str
    region: str
    operation: str
    parameters: Parameters
    query: bool


@dataclass(frozen=True, slots=True)
class Response:
    """An answer as it is written."""

    http_status: int
    body: bytes
    content_type: str
    headers: Mapping[str, str]


def read_request(headers: Mapping[str, str], body: bytes) -> Request:
    """Find out who calls what, where.

    Raises:
        Refused: it is not signed, it names no operation, or its body cannot be read.
    """
    query = is_query(headers)
    key_id, region = _signer(headers.get("Authorization"), query=query)
    if query:
        parameters = dict(parse_qsl(body.decode("utf-8", "replace"), keep_blank_values=True))
        return Request(key_id, region, parameters.get("Action", ""), parameters, query=True)
    service, dot, operation = headers["X-Amz-Target"].partition(".")
    if service + dot not in _TARGETS:
        raise Refused("UnknownOperationException", "The requested operation is not recognized by the service.")
    try:
        parameters = json.loads(body or b"{}")
    except (ValueError, RecursionError):
        raise Refused("SerializationException", "Unable to parse the request's body as JSON") from None
    if not isinstance(parameters, dict):
        raise Refused("SerializationException", "The request's body is not a structure")
    return Request(key_id, region, operation, parameters, query=False)


def is_query(headers: Mapping[str, str]) -> bool:
    """Whether a request is in the query protocol: it names its operation in its body."""
    return "X-Amz-Target" not in headers


def answered(operation: str, body: dict[str, Any], request_id: str, *, query: bool) -> Response:
    """A 200."""
    if query:
        return Response(200, _xml_answer(operation, body, request_id), XML_TYPE, {"x-amzn-RequestId": request_id})
    return Response(200, json.dumps(body).encode(), JSON_TYPE, {"x-amzn-RequestId": request_id})


def refusal(
    refused: Refused, request_id: str, *, query: bool, retry_after: RetryAfter = RetryAfter.SECONDS
) -> Response:
    """An error; a code that is a number is a bare HTTP status, as a load balancer sends it."""
    headers = {"x-amzn-RequestId": request_id}
    if refused.retry_after_seconds is not None:
        if retry_after is RetryAfter.MILLISECONDS:
            headers["x-amz-retry-after"] = f"{refused.retry_after_seconds * 1000:.0f}"
        else:
            headers["Retry-After"] = f"{refused.retry_after_seconds:.0f}"
    if refused.code.isdigit():
        return Response(refused.http_status, b"", HTML_TYPE, headers)
    if query:
        return Response(refused.http_status, _xml_error(refused, request_id), XML_TYPE, headers)
    headers["x-amzn-ErrorType"] = refused.code
    # Glue's own exceptions say Message, the common ones of every service say message.
    shape: dict[str, Any] = {"__type": refused.code}
    if refused.code in _WITH_FEDERATION:
        shape |= {"FromFederationSource": False, "Message": refused.message}
    elif refused.code in ("OperationTimeoutException", "InternalServiceException"):
        shape["Message"] = refused.message
    else:
        shape["message"] = refused.message
    return Response(refused.http_status, json.dumps(shape).encode(), JSON_TYPE, headers)


def _signer(authorization: str | None, *, query: bool) -> tuple[str, str]:
    """Access key id and region. The signature itself is not checked: nobody here has a secret."""
    if not authorization:
        if query:
            raise Refused("MissingAuthenticationToken", "Request is missing Authentication Token", 403)
        raise Refused("MissingAuthenticationTokenException", "Request is missing Authentication Token")
    match = _CREDENTIAL.match(authorization)
    if match is None:
        code = "IncompleteSignature" if query else "IncompleteSignatureException"
        raise Refused(code, "Authorization header requires 'Credential' parameter and its scope.")
    return match[1], match[2]


def _xml_answer(operation: str, body: dict[str, Any], request_id: str) -> bytes:
    return (
        f'<{operation}Response xmlns="{_STS_NAMESPACE}"><{operation}Result>{_xml(body)}</{operation}Result>'
        f"<ResponseMetadata><RequestId>{request_id}</RequestId></ResponseMetadata></{operation}Response>"
    ).encode()


def _xml(fields: Mapping[str, Any]) -> str:
    parts = []
    for name, value in fields.items():
        if isinstance(value, dict):
            text = _xml(value)
        elif name == "Expiration":
            text = datetime.fromtimestamp(value, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        else:
            text = escape(str(value))
        parts.append(f"<{name}>{text}</{name}>")
    return "".join(parts)


def _xml_error(refused: Refused, request_id: str) -> bytes:
    sender = "Sender" if refused.http_status < 500 else "Receiver"
    code = "InvalidAction" if refused.code == "UnknownOperationException" else refused.code
    return (
        f'<ErrorResponse xmlns="{_STS_NAMESPACE}"><Error><Type>{sender}</Type><Code>{code}</Code>'
        f"<Message>{escape(refused.message)}</Message></Error><RequestId>{request_id}</RequestId></ErrorResponse>"
    ).encode()
