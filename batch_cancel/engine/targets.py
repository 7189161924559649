"""From the targets' settings to the accounts and regions that are swept, and what could not be resolved.

Nothing is called where the settings name what they mean; only organization units have to be looked up. What cannot be
resolved stands beside the targets with its cause: it is never dropped in silence, and it stops no other.

The caller's own account among the accounts of a unit (the management account, as a rule) is entered through the role
where the caller may assume it there, and with the caller's own credentials where not: Organizations and StackSets make
their roles in member accounts only. Every other account, and every account that is named, is entered through the role.
"""

import asyncio
import random
from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass, field
from typing import TypeVar

from tenacity import AsyncRetrying, RetryCallState, stop_after_attempt

from batch_cancel.core.errors import CallFailed, ErrorKind, UsageError
from batch_cancel.core.task_run import Access, Target
from batch_cancel.glue.api import Account, Organization, Page, Service
from batch_cancel.glue.regions import DEFAULT_PARTITION, glue_regions, partition_of
from batch_cancel.settings import TargetSettings
from batch_cancel.stop import Stop, task_group

LOOKUPS_AT_ONCE = 4
"""Calls to Organizations side by side; its limits are low, and shared by the whole organization."""
LOOKUP_ATTEMPTS = 8
LOOKUP_BACKOFF_SECONDS = (0.5, 15.0)

CLOSED_STATES = ("SUSPENDED", "CLOSED", "PENDING_ACTIVATION")
"""Nobody can sign in there (Organizations API reference, Account). PENDING_CLOSURE is swept: its runs may go on."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class FailedTarget:
    """Something that was asked for and is not swept.

    Attributes:
        place: what a person would call it: a unit, an account, a profile.
        code: the service's error code, or a word of ours (``AccountSuspended``).
        region: None where it is every region that was asked for.
        account_id: None where it is not one account.
        left_out: an account that is closed to everybody: told, but no reason for an exit code of its own.
        kind: of the service's refusal, where it was one.
    """

    place: str
    code: str
    message: str
    region: str | None = None
    account_id: str | None = None
    access: Access = field(default_factory=Access)
    left_out: bool = False
    kind: ErrorKind | None = None


@dataclass(frozen=True, slots=True)
class Resolved:
    """What is swept, in the order of the settings and each account and region once, and what is not."""

    targets: list[Target]
    failed: list[FailedTarget]


@dataclass(frozen=True, slots=True)
class _WayIn:
    access: Access
    account_id: str | None = None


async def resolve(settings: tuple[TargetSettings, ...], service: Service, *, stop: Stop | None = None) -> Resolved:
    """The targets that these settings mean.

    Two ways into the same account and region are one target, as far as the accounts are known: the first one named.

    Raises:
        UsageError: no region is named and none is configured. Nothing was called.
        Stopped: a stop was asked for while an organization was looked up.
    """
    targets: dict[tuple[str | Access, str], Target] = {}
    failed: list[FailedTarget] = []
    in_regions: list[tuple[TargetSettings, tuple[str, ...]]] = []
    for entry in settings:  # all of them before the first call: a region that is missing is found out at once
        try:
            in_regions.append((entry, _regions(entry, service)))
        except CallFailed as failure:
            place = f"profile {entry.profile}" if entry.profile else "the default credentials"
            failed.append(
                FailedTarget(place, failure.code, failure.message, access=Access(entry.profile), kind=failure.kind)
            )
    lookup = _Lookup(service, stop or Stop(), failed)
    for entry, regions in in_regions:
        by_partition: dict[str, list[str]] = {}
        for region in regions:
            by_partition.setdefault(partition_of(region), []).append(region)
        for partition, names in by_partition.items():
            for way_in in await _ways_in(entry, partition, names[0], lookup):
                for region in names:
                    key = (way_in.account_id or way_in.access, region)
                    targets.setdefault(key, Target(region, way_in.account_id, way_in.access))
    return Resolved(list(targets.values()), list(dict.fromkeys(failed)))


def _regions(entry: TargetSettings, service: Service) -> tuple[str, ...]:
    """The regions of one entry; the configuration is read only where it has a say.

    Raises:
        UsageError: no region is named and none is configured.
        CallFailed: the profile is not there.
    """
    if isinstance(entry.regions, tuple) and "all" not in entry.regions:
        return tuple(dict.fromkeys(entry.regions))
    if entry.regions is not None:
        if entry.role_arn is not None:
            return glue_regions(entry.role_arn.split(":")[1])
        configured = service.default_region(Access(entry.profile))
        return glue_regions(partition_of(configured) if configured else DEFAULT_PARTITION)
    configured = service.default_region(Access(entry.profile))
    if configured is None:
        of = f"profile {entry.profile} has" if entry.profile else "there is"
        mend = "name one with --region, in AWS_DEFAULT_REGION, or under regions in the sweep file"
        raise UsageError(f"{of} no region: {mend}")
    return (configured,)


async def _ways_in(entry: TargetSettings, partition: str, region: str, lookup: "_Lookup") -> list[_WayIn]:
    """How the accounts of one entry are entered in one partition."""
    if entry.role_name is None:
        account_id = entry.role_arn.split(":")[4] if entry.role_arn else None
        return [_WayIn(Access(entry.profile, entry.role_arn, entry.external_id), account_id)]
    own = Access(entry.profile)

    def through_role(account_id: str) -> Access:
        return Access(entry.profile, f"arn:{partition}:iam::{account_id}:role/{entry.role_name}", entry.external_id)

    named = entry.accounts or ()
    ways_in = {account_id: _WayIn(through_role(account_id), account_id) for account_id in named}
    for account_id in await lookup.accounts(own, entry.organization_units or (), region):
        if account_id not in ways_in:
            needs_no_role = await lookup.is_own_without_role(own, account_id, through_role(account_id), region)
            ways_in[account_id] = _WayIn(own if needs_no_role else through_role(account_id), account_id)
    return list(ways_in.values())


class _Lookup:
    """What has to be asked of the service: who stands in a unit, and whether one of them is the caller's account."""

    def __init__(self, service: Service, stop: Stop, failed: list[FailedTarget]) -> None:
        self._service = service
        self._stop = stop
        self._failed = failed
        self._places = asyncio.Semaphore(LOOKUPS_AT_ONCE)
        self._own_accounts: dict[Access, str | None] = {}

    async def accounts(self, access: Access, units: Collection[str], region: str) -> list[str]:
        """The open accounts in these units and in all units below them."""
        found: dict[str, Account] = {}
        if units:
            try:
                async with self._service.organization(access, region) as organization:
                    seen: set[str] = set()
                    for unit in dict.fromkeys(units):
                        found |= await self._in_unit(organization, access, unit, seen)
            except CallFailed as failure:  # no client: the profile, or what it leads to, is not there
                self._failed.extend(_unit_failed(unit, access, failure) for unit in dict.fromkeys(units))
        for account in found.values():
            if account.state in CLOSED_STATES:
                self._failed.append(_left_out(account, access))
        return [account.account_id for account in found.values() if account.state not in CLOSED_STATES]

    async def is_own_without_role(self, own: Access, account_id: str, through_role: Access, region: str) -> bool:
        """Whether an account is the caller's own, and the role there is denied to the caller."""
        if own not in self._own_accounts:
            try:
                identity = await self._persistently(lambda: self._service.identify(own, region))
                self._own_accounts[own] = identity.account_id
            except CallFailed:
                self._own_accounts[own] = None  # then the sweep itself tells what is wrong with the credentials
        if account_id != self._own_accounts[own]:
            return False
        try:
            await self._persistently(lambda: self._service.identify(through_role, region))
        except CallFailed as failure:
            return failure.kind is ErrorKind.ACCESS
        return False

    async def _in_unit(
        self, organization: Organization, access: Access, unit: str, seen: set[str]
    ) -> dict[str, Account]:
        """Accounts by their ids. A unit that cannot be listed is told, and keeps none of its neighbours back."""
        if unit in seen:
            return {}
        seen.add(unit)
        try:
            members = await self._all_pages(
                lambda token: organization.accounts_of_unit(unit, next_token=token)  # one call each
            )
            found = {account.account_id: account for account in members}
        except CallFailed as failure:
            self._failed.append(_unit_failed(unit, access, failure))
            return {}
        try:
            children = await self._all_pages(lambda token: organization.units_of_unit(unit, next_token=token))
        except CallFailed as failure:
            self._failed.append(_unit_failed(unit, access, failure))
            return found
        async with task_group() as group:
            below = [group.create_task(self._in_unit(organization, access, child, seen)) for child in children]
        for task in below:
            found |= task.result()
        return found

    async def _all_pages(self, request: Callable[[str | None], Awaitable[Page[T]]]) -> list[T]:
        items: list[T] = []
        token: str | None = None
        seen: set[str] = set()
        while True:
            page = await self._persistently(lambda token=token: request(token))  # type: ignore[misc]  # mypy cannot infer a lambda with a default
            items.extend(page.items)
            token = page.next_token
            if token is None:
                return items
            if token in seen:
                raise CallFailed(ErrorKind.OTHER, "Organizations", "RepeatedToken", "the same page token came twice")
            seen.add(token)

    async def _persistently(self, request: Callable[[], Awaitable[T]]) -> T:
        """A read call, tried again after throttles and where nothing was heard."""

        async def once() -> T:
            self._stop.check()
            async with self._places:
                return await request()

        def again(state: RetryCallState) -> bool:
            error = state.outcome.exception() if state.outcome else None
            return isinstance(error, CallFailed) and error.kind in (ErrorKind.THROTTLE, ErrorKind.TRANSIENT)

        def wait(state: RetryCallState) -> float:
            error = state.outcome.exception() if state.outcome else None
            asked = error.retry_after_seconds if isinstance(error, CallFailed) else None
            least, most = LOOKUP_BACKOFF_SECONDS
            return max(random.uniform(0.0, min(most, least * 2.0 ** (state.attempt_number - 1))), asked or 0.0)

        async def pause(seconds: float) -> None:
            with self._stop.interruptible():
                await asyncio.sleep(seconds)

        tries = AsyncRetrying(
            retry=again, wait=wait, stop=stop_after_attempt(LOOKUP_ATTEMPTS), sleep=pause, reraise=True
        )
        return await tries(once)


def _unit_failed(unit: str, access: Access, failure: CallFailed) -> FailedTarget:
    message = failure.message
    if failure.kind is ErrorKind.ACCESS:
        message += (
            f" (looking up units needs organizations:{failure.operation}, in the management account or in that of a"
            " delegated administrator)"
        )
    return FailedTarget(f"unit {unit}", failure.code, message, access=access, kind=failure.kind)


def _left_out(account: Account, access: Access) -> FailedTarget:
    state = account.state or ""
    return FailedTarget(
        f"account {account.account_id}",
        "Account" + "".join(word.capitalize() for word in state.split("_")),
        f"Organizations says that the account is {state}",
        account_id=account.account_id,
        access=access,
        left_out=True,
    )
