"""Who may call: access keys, the accounts that they are of, and roles that are assumed (AWS STS API, 2011-06-15)."""

import math
import re
from typing import Any, NamedTuple

from batch_cancel.simulator.requests import Parameters, Refused
from batch_cancel.simulator.settings import AccessSettings

STS_OPERATIONS = ("GetCallerIdentity", "AssumeRole")
KEY_PREFIX = "AKIASIM0"
"""An access key id is this and the account's twelve digits; with another last character it counts as a fresh key."""
SESSION_PREFIX = "ASIA"
EXPIRED = ("ExpiredTokenException", "The security token included in the request is expired", 400)

_REFUSALS = {
    "AccessDeniedException": ("AccessDenied", 403),
    "ExpiredTokenException": ("ExpiredToken", 403),
    "InternalServiceException": ("InternalFailure", 500),
    "ThrottlingException": ("Throttling", 400),
    "UnrecognizedClientException": ("InvalidClientTokenId", 403),
    "ValidationException": ("ValidationError", 400),
}
"""What STS, of an older protocol, calls these and with which HTTP status it sends them."""


class Caller(NamedTuple):
    """Who calls, where, and when."""

    key_id: str
    account_id: str
    region: str
    now: float


class Session(NamedTuple):
    """An assumed role."""

    role_arn: str
    name: str
    expires_at: float


class Sts:
    """The keys that were used and the roles that were assumed so far.

    Attributes:
        access: who is let in from now on.
    """

    def __init__(self, access: AccessSettings, accounts: tuple[str, ...]) -> None:
        self.access = access
        self._accounts = accounts
        self._first_use: dict[str, float] = {}
        self._sessions: dict[str, Session] = {}

    def account_of(self, key_id: str) -> str:
        """The account that a key is of: its last twelve digits say it; any other key is home's."""
        digits = key_id[-12:]
        if len(key_id) > 12 and digits.isascii() and digits.isdigit():
            return digits
        return self._accounts[0]

    def arn_of(self, caller: Caller) -> str:
        """Who a caller is."""
        session = self._sessions.get(caller.key_id)
        if session is not None:
            role_name = session.role_arn.rpartition("/")[2]
            return f"arn:{_partition(caller.region)}:sts::{caller.account_id}:assumed-role/{role_name}/{session.name}"
        return f"arn:{_partition(caller.region)}:iam::{caller.account_id}:user/operator"

    def check(self, caller: Caller, began_at: float) -> None:
        """Let a caller in.

        Args:
            began_at: when the schedule of keys that end began.

        Raises:
            Refused: nobody knows the key there, or it has expired.
        """
        access, key_id, now = self.access, caller.key_id, caller.now
        session = self._sessions.get(key_id)
        if (
            caller.account_id not in self._accounts
            or caller.region in access.disabled_regions
            or (key_id.startswith(SESSION_PREFIX) and session is None)
        ):
            raise Refused("UnrecognizedClientException", "The security token included in the request is invalid.")
        first_use = self._first_use.setdefault(key_id, now)
        ends_at = math.inf if session is None else session.expires_at
        if access.keys_live_seconds is not None:
            ends_at = min(ends_at, first_use + access.keys_live_seconds)
        if access.keys_end_at_seconds is not None and first_use < began_at + access.keys_end_at_seconds:
            ends_at = min(ends_at, began_at + access.keys_end_at_seconds)
        if now >= ends_at:
            raise Refused(*EXPIRED)

    def answer(self, caller: Caller, operation: str, parameters: Parameters) -> dict[str, Any]:
        """Carry out one of :data:`STS_OPERATIONS`.

        Raises:
            Refused: the request is off, or the role does not trust the caller.
        """
        if operation == "AssumeRole":
            return self._assume_role(caller, parameters)
        return {"Arn": self.arn_of(caller), "UserId": caller.key_id, "Account": caller.account_id}

    def _assume_role(self, caller: Caller, parameters: Parameters) -> dict[str, Any]:
        role_arn, name = parameters.get("RoleArn"), parameters.get("RoleSessionName")
        if not isinstance(role_arn, str) or not isinstance(name, str):
            raise Refused("ValidationException", "RoleArn and RoleSessionName are required")
        match = re.fullmatch(r"arn:aws[a-z-]*:iam::([0-9]{12}):role/([\w+=,.@/-]+)", role_arn, re.ASCII)
        if match is None:
            raise Refused("ValidationException", f"{role_arn} is invalid")
        access, account_id = self.access, match[1]
        if (
            account_id not in self._accounts
            or account_id in access.untrusting_accounts
            or (access.external_id is not None and parameters.get("ExternalId") != access.external_id)
        ):
            message = (
                f"User: {self.arn_of(caller)} is not authorized to perform: sts:AssumeRole on resource: {role_arn}"
            )
            raise Refused("AccessDeniedException", message)
        key_id = f"{SESSION_PREFIX}{len(self._sessions) % 0x10000:04X}{account_id}"
        expires_at = caller.now + min(access.session_seconds, _duration_seconds(parameters))
        self._sessions[key_id] = Session(role_arn, name, expires_at)
        self._first_use.pop(key_id, None)
        return {
            "Credentials": {
                "AccessKeyId": key_id,
                "SecretAccessKey": "simulated-secret",
                "SessionToken": "simulated-token",
                "Expiration": expires_at,
            },
            "AssumedRoleUser": {
                "AssumedRoleId": f"AROASIMULATED:{name}",
                "Arn": self.arn_of(caller._replace(key_id=key_id, account_id=account_id)),
            },
        }


def in_its_words(operation: str, refused: Refused) -> Refused:
    """A refusal as the operation's service tells it: STS has words of its own."""
    if operation in STS_OPERATIONS and refused.code in _REFUSALS:
        code, http_status = _REFUSALS[refused.code]
        return Refused(code, refused.message, http_status, refused.retry_after_seconds)
    return refused


def _duration_seconds(parameters: Parameters) -> int:
    """How long the caller wants a role's keys to live (STS API reference, AssumeRole)."""
    text = str(parameters.get("DurationSeconds", 3600))
    if not (text.isascii() and text.isdigit() and len(text) < 6 and 900 <= int(text) <= 43200):
        raise Refused("ValidationException", f"Value '{text}' at 'durationSeconds' is not within 900 and 43200")
    return int(text)


def _partition(region: str) -> str:
    """By the region's name, as far as Glue is offered: nothing here reads a file."""
    if region.startswith("cn-"):
        return "aws-cn"
    return "aws-us-gov" if region.startswith("us-gov-") else "aws"
