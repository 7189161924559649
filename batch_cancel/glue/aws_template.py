"""The same request with other ids: made from one that botocore made, and signed here.

botocore works out the endpoint, the user agent, every header and the signature of each request anew: two thirds of what
a call costs. All of it but the body, the time, the keys and the signature is the same for every call of an operation.
So botocore is asked once, and its request is the template of all others. A template is only used if it gives, for the
very request that it was taken from, every header and the signature as botocore gave them. Whatever a later version of
botocore does differently, it is either in the template, or there is none and botocore makes every request itself.
"""

import hashlib
import hmac
import re
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Protocol
from urllib.parse import urlsplit

_AUTHORIZATION = re.compile(
    r"AWS4-HMAC-SHA256 Credential=(?P<key>[^/]+)/[0-9]{8}/(?P<region>[^/,]+)/(?P<service>[^/,]+)/aws4_request,"
    r" SignedHeaders=(?P<signed>[a-z0-9;-]+), Signature=[0-9a-f]{64}"
)
_DATE, _TOKEN, _INVOCATION = "x-amz-date", "x-amz-security-token", "amz-sdk-invocation-id"  # a header
_OWN = frozenset({_DATE, _TOKEN, _INVOCATION, "authorization", "content-length"})
"""Headers that each request has its own of; the length is the transport's business."""
_UNFIT = frozenset({"x-amz-content-sha256", "content-encoding", "transfer-encoding", "expect", "date"})
"""Headers that say that the body is not sent as it is, or that it is signed in another way."""


class Keys(Protocol):
    """Credentials at one moment, as botocore freezes them."""

    access_key: str
    secret_key: str
    token: str | None


@dataclass(frozen=True, slots=True)
class Template:
    """What all requests of one operation in one region have in common.

    Attributes:
        headers: as they are sent, without those that each request has its own of.
        signed: the names of the signed headers in their order, each with its value, or None where it varies.
    """

    url: str
    path: str
    region: str
    service: str
    headers: Mapping[str, str]
    signed: tuple[tuple[str, str | None], ...]
    has_invocation: bool

    def sign(self, body: bytes, keys: Keys, stamp: str, invocation: str | None = None) -> dict[str, str]:
        """The headers of a request.

        Args:
            stamp: the time in UTC, ``20261124T101500Z``.
            invocation: the id of the call; a new one if it is left out.
        """
        own = {_DATE: stamp}
        headers = {**self.headers, "X-Amz-Date": stamp}
        if keys.token:
            own[_TOKEN] = headers["X-Amz-Security-Token"] = keys.token
        if self.has_invocation:
            own[_INVOCATION] = headers[_INVOCATION] = invocation or str(uuid.uuid4())
        signed = [
            (name, own[name] if value is None else value)
            for name, value in self.signed
            if value is not None or name in own
        ]
        names = ";".join([name for name, _ in signed])
        canonical = "\n".join(
            ["POST", self.path, "", *[f"{name}:{value}" for name, value in signed], "", names, _sha256(body)]
        )
        scope = f"{stamp[:8]}/{self.region}/{self.service}/aws4_request"
        to_sign = f"AWS4-HMAC-SHA256\n{stamp}\n{scope}\n{_sha256(canonical.encode())}"
        key = _signing_key(keys.secret_key, stamp[:8], self.region, self.service)
        signature = hmac.digest(key, to_sign.encode(), "sha256").hex()
        headers["Authorization"] = (
            f"AWS4-HMAC-SHA256 Credential={keys.access_key}/{scope}, SignedHeaders={names}, Signature={signature}"
        )
        return headers


def take_template(
    method: str, url: str, headers: Mapping[str, str | bytes], body: bytes, keys: Keys
) -> Template | None:
    """A template from a request that botocore made and signed with these keys; None where it cannot be imitated."""
    sent = {name: value.decode("latin-1") if isinstance(value, bytes) else value for name, value in headers.items()}
    by_name = {name.lower(): value for name, value in sent.items()}
    parts = urlsplit(url)
    match = _AUTHORIZATION.fullmatch(by_name.get("authorization", ""))
    if match is None or method != "POST" or parts.query or _UNFIT & by_name.keys():
        return None
    values = {"host": _host(parts.scheme, parts.netloc), **by_name}
    names = match["signed"].split(";")
    if not set(names) <= values.keys():
        return None
    template = Template(
        url=url,
        path=parts.path or "/",
        region=match["region"],
        service=match["service"],
        headers={name: value for name, value in sent.items() if name.lower() not in _OWN},
        signed=tuple((name, None if name in _OWN else " ".join(values[name].split())) for name in names),
        has_invocation=_INVOCATION in by_name,
    )
    again = template.sign(body, keys, by_name.get(_DATE, ""), by_name.get(_INVOCATION))
    length = by_name.pop("content-length", None)
    if {name.lower(): value for name, value in again.items()} != by_name or length not in (None, str(len(body))):
        return None
    return template


def _host(scheme: str, netloc: str) -> str:
    """As HTTP has it: without a name and password, and without a port that goes without saying."""
    host = netloc.rpartition("@")[2].lower()
    return host.removesuffix({"http": ":80", "https": ":443"}.get(scheme, ":"))


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


@lru_cache(maxsize=256)
def _signing_key(secret_key: str, day: str, region: str, service: str) -> bytes:
    key = f"AWS4{secret_key}".encode()
    for part in (day, region, service, "aws4_request"):
        key = hmac.digest(key, part.encode(), "sha256")
    return key
