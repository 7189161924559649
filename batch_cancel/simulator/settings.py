"""What a world is made of and how it behaves: plain facts, one document of YAML when they come from a file.

Every behaviour that the service's documentation leaves open (GLUE.md) is a setting here. Times that end in ``_seconds``
and stand alone count from the world's beginning.
"""

from dataclasses import dataclass, field, fields
from enum import StrEnum
from typing import Any

from batch_cancel.core.wording import did_you_mean, quoted

STRICT: dict[str, Any] = {"extra": "forbid", "strict": True}
"""How pydantic is to read these classes from a file; kept as data so that nothing here imports pydantic."""

GLUE_OPERATIONS = (
    "CancelMLTaskRun",
    "GetMLTaskRun",
    "GetMLTaskRuns",
    "ListMLTransforms",
    "GetMLTransforms",
    "GetMLTransform",
    "GetTags",
)
STS_OPERATIONS = ("GetCallerIdentity", "AssumeRole")
ORGANIZATION_OPERATIONS = (
    "DescribeOrganization",
    "ListAccounts",
    "ListAccountsForParent",
    "ListOrganizationalUnitsForParent",
    "ListRoots",
)
OPERATIONS = GLUE_OPERATIONS + STS_OPERATIONS + ORGANIZATION_OPERATIONS

Span = tuple[float, float]
"""From, to: each case draws its own value in between, evenly."""


class FaultKind(StrEnum):
    """What can go wrong with a call, and whether it was carried out all the same."""

    THROTTLE = "throttle"
    """Turned away for coming too fast, whatever the limit says."""
    TIMEOUT = "timeout"
    """OperationTimeoutException, HTTP 400, not carried out."""
    INTERNAL = "internal"
    """InternalServiceException, HTTP 500, not carried out."""
    UNAVAILABLE = "unavailable"
    """HTTP 503 with an HTML page, not carried out."""
    APPLIED_500 = "applied_500"
    """Carried out, and then InternalServiceException."""
    APPLIED_DROP = "applied_drop"
    """Carried out, and then the connection is closed without an answer."""
    APPLIED_HANG = "applied_hang"
    """Carried out, and then no answer."""
    DROP = "drop"
    """The connection is reset after the request was read; not carried out."""
    REFUSED = "refused"
    """The connection never comes about (in memory; the endpoint can only reset it)."""
    HALF_BODY = "half_body"
    """Carried out; the answer breaks off in its middle."""
    GARBAGE_200 = "garbage_200"
    """An HTML page with status 200; carried out unless ``behaviour.garbage_applies`` says otherwise."""
    EMPTY_200 = "empty_200"
    """Carried out; status 200 and not one byte."""
    NO_ECHO = "no_echo"
    """Carried out; status 200 and ``{}``."""
    HANG = "hang"
    """No answer, not carried out."""
    DENIED = "denied"
    """AccessDeniedException."""
    EXPIRED = "expired"
    """ExpiredTokenException."""
    INVALID = "invalid"
    """InvalidInputException."""


class CancelEnded(StrEnum):
    """What cancelling a run that is over answers."""

    STATUS = "status"
    """200 with its status."""
    INVALID = "invalid"
    """InvalidInputException."""
    NOT_FOUND = "not_found"
    """EntityNotFoundException."""


class TagsMatch(StrEnum):
    """What several tags in ListMLTransforms mean."""

    ANY = "any"
    ALL = "all"


class RetryAfter(StrEnum):
    """Whether a throttle says when to come again."""

    NEVER = "never"
    SECONDS = "seconds"
    """``Retry-After``, whole seconds."""
    MILLISECONDS = "milliseconds"
    """``x-amz-retry-after``."""


@dataclass(frozen=True, slots=True)
class FleetSettings:
    """Who and what there is when the world begins.

    Attributes:
        accounts: twelve digits each; the first is home, where callers without a known key belong.
        transforms: of each account and region.
        runs: in all, over every transform; those that are over included.
        ended_share, starting_share: of the runs, how many are over, and how many have only just been asked for.
        starting_seconds: how long a run stays STARTING.
        ends_in_seconds: when an active run ends by itself; for a later run counted from its start.
        age_seconds: how long ago the active runs were started.
        failing_share: of the runs that end by themselves, how many end FAILED or TIMEOUT.
        odd_ids: ids of every kind that Glue's pattern allows.
    """

    __pydantic_config__ = STRICT

    accounts: tuple[str, ...] = ("111111111111",)
    regions: tuple[str, ...] = ("us-east-1",)
    transforms: int = 20
    runs: int = 200
    ended_share: float = 0.25
    starting_share: float = 0.15
    starting_seconds: Span = (20.0, 180.0)
    ends_in_seconds: Span = (3600.0, 28800.0)
    age_seconds: Span = (300.0, 86400.0)
    failing_share: float = 0.2
    odd_ids: bool = False


@dataclass(frozen=True, slots=True)
class Behaviour:
    """What the service does where its documentation is silent.

    Attributes:
        stopping_seconds: how long a cancelled run stays STOPPING.
        stuck_share: of the runs, how many stay STOPPING for ever.
        finishes_first_share: of the runs, how many end by themselves although a cancel request was accepted.
        restart_share: of the stopped runs, how many are followed by a new run of the same transform.
        max_restarts: how often in a row that can happen.
        new_runs_per_second: runs that somebody keeps starting, until ``new_runs_until_seconds``.
        page_size_cap: the largest page, whatever MaxResults says.
        default_page_size: of a listing without MaxResults.
        empty_page_share: of the pages, how many are empty and yet have a token.
        listing_lag_seconds: listings of task runs show what was so long ago.
        throttle_code: the error code of a throttle.
    """

    __pydantic_config__ = STRICT

    cancel_ended: CancelEnded = CancelEnded.STATUS
    stopping_seconds: Span = (2.0, 10.0)
    stuck_share: float = 0.0
    finishes_first_share: float = 0.0
    restart_share: float = 0.0
    restart_after_seconds: Span = (1.0, 10.0)
    max_restarts: int = 1
    new_runs_per_second: float = 0.0
    new_runs_until_seconds: float = 0.0
    tags_match: TagsMatch = TagsMatch.ALL
    page_size_cap: int = 1000
    default_page_size: int = 100
    empty_page_share: float = 0.0
    listing_lag_seconds: float = 0.0
    retry_after: RetryAfter = RetryAfter.NEVER
    throttle_code: str = "ThrottlingException"
    garbage_applies: bool = True


@dataclass(frozen=True, slots=True)
class Limit:
    """How many requests each account and region may make of one operation.

    The last limit in a list that fits the operation and whose time has come is the one that holds.

    Attributes:
        operations: which; none named means all of Glue's.
        window_seconds: count in fixed windows of this length (``rps`` times its length each) instead of a token bucket.
    """

    __pydantic_config__ = STRICT

    rps: float
    burst: float = 1.0
    operations: tuple[str, ...] = ()
    from_seconds: float = 0.0
    window_seconds: float | None = None


@dataclass(frozen=True, slots=True)
class Fault:
    """A kind of failure, how often, of what, and when. An outage is a fault of probability 1 with an end.

    Attributes:
        operations, accounts, regions: which; none named means all (of Glue's operations: STS fails only by name).
    """

    __pydantic_config__ = STRICT

    kind: FaultKind
    probability: float = 1.0
    operations: tuple[str, ...] = ()
    accounts: tuple[str, ...] = ()
    regions: tuple[str, ...] = ()
    from_seconds: float = 0.0
    until_seconds: float = float("inf")


@dataclass(frozen=True, slots=True)
class AccessSettings:
    """Who is let in.

    Attributes:
        denied_accounts: Glue denies everything there.
        untrusting_accounts: their roles cannot be assumed.
        disabled_regions: keys are not known there.
        external_id: what AssumeRole must be given, if anything.
        session_seconds: how long an assumed role's keys live.
        keys_end_at_seconds: keys that were in use before this time are expired from then on; later ones are good.
        keys_live_seconds: any key is expired so long after its first use.
    """

    __pydantic_config__ = STRICT

    denied_accounts: tuple[str, ...] = ()
    untrusting_accounts: tuple[str, ...] = ()
    disabled_regions: tuple[str, ...] = ()
    external_id: str | None = None
    session_seconds: float = 3600.0
    keys_end_at_seconds: float | None = None
    keys_live_seconds: float | None = None


@dataclass(frozen=True, slots=True)
class Unit:
    """An organizational unit; ``parent`` is None directly under the root."""

    __pydantic_config__ = STRICT

    id: str
    name: str
    accounts: tuple[str, ...] = ()
    parent: str | None = None


@dataclass(frozen=True, slots=True)
class OrganizationSettings:
    """The organization of which home is the management account; accounts in no unit are directly under the root."""

    __pydantic_config__ = STRICT

    units: tuple[Unit, ...] = ()
    suspended_accounts: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class WorldSettings:
    """A world, whole.

    Attributes:
        seed: the same seed and the same calls at the same times give the same world.
        waits_for_caller: times that count from the world's beginning count from the first call instead: a drill waits
            until its story was read.
        keep_log: remember every call, not only their counts.
    """

    __pydantic_config__ = STRICT

    seed: int = 0
    fleet: FleetSettings = field(default_factory=FleetSettings)
    behaviour: Behaviour = field(default_factory=Behaviour)
    limits: tuple[Limit, ...] = ()
    faults: tuple[Fault, ...] = ()
    access: AccessSettings = field(default_factory=AccessSettings)
    organization: OrganizationSettings = field(default_factory=OrganizationSettings)
    waits_for_caller: bool = False
    keep_log: bool = True


Trouble = list[tuple[tuple[str | int, ...], str]]
"""Faults, each as the path of keys and a sentence."""


def trouble_in(settings: WorldSettings) -> Trouble:
    """What types alone do not tell."""
    found: Trouble = []
    for name in ("fleet", "behaviour", "access"):
        section = getattr(settings, name)
        for each in fields(section):
            found += [((name, each.name), said) for said in _number_trouble(each.name, getattr(section, each.name))]
    for at, limit in enumerate(settings.limits):
        if limit.rps <= 0 or limit.burst < 1 or (limit.window_seconds is not None and limit.window_seconds <= 0):
            found.append((("limits", at), "rps and window_seconds are more than 0, burst is at least 1"))
    for at, fault in enumerate(settings.faults):
        if not 0 <= fault.probability <= 1:
            found.append((("faults", at, "probability"), "a probability is from 0 to 1"))
    return found + _operation_trouble(settings) + _fleet_trouble(settings.fleet)


def _operation_trouble(settings: WorldSettings) -> Trouble:
    found: Trouble = []
    named: list[tuple[str, tuple[Limit | Fault, ...]]] = [("limits", settings.limits), ("faults", settings.faults)]
    for name, rules in named:
        for at, rule in enumerate(rules):
            for operation in rule.operations:
                if operation not in OPERATIONS:
                    message = f"unknown operation {quoted(operation)}{did_you_mean(operation, OPERATIONS)}"
                    found.append(((name, at, "operations"), message))
    return found


def _fleet_trouble(fleet: FleetSettings) -> Trouble:
    found: Trouble = [
        (("fleet", "accounts"), f"an account id has twelve digits, which {account_id!r} has not")
        for account_id in fleet.accounts
        if not (len(account_id) == 12 and account_id.isascii() and account_id.isdigit())
    ]
    if not fleet.accounts:
        found.append((("fleet", "accounts"), "at least one account is needed: the caller's"))
    if not fleet.regions:
        found.append((("fleet", "regions"), "at least one region is needed"))
    if fleet.ended_share + fleet.starting_share > 1:
        found.append((("fleet", "ended_share"), "ended_share and starting_share are more than 1 together"))
    if fleet.runs and not fleet.transforms:
        found.append((("fleet", "runs"), "runs need transforms to belong to"))
    return found


def _number_trouble(name: str, value: object) -> list[str]:
    if name.endswith("_share") and isinstance(value, float | int) and not 0 <= value <= 1:
        return ["a share is from 0 to 1"]
    if isinstance(value, tuple) and name.endswith("_seconds") and not 0 <= value[0] <= value[1]:
        return ["a span is [least, most], neither below 0"]
    if isinstance(value, int | float) and value < 0:
        return ["is below 0"]
    if "page_size" in name and value == 0:
        return ["a page has at least one place"]
    return []
