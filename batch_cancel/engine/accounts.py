"""Whose accounts the targets are: nobody is let in where that decides something and cannot be told.

Where it decides nothing it is asked for on the side, for the report, and holds up no request.
"""

import asyncio
import contextlib
from collections.abc import Sequence
from dataclasses import replace

from batch_cancel.core.errors import (
    ENTERING,
    AccessStopped,
    CallFailed,
    ErrorKind,
    Guardrail,
    GuardrailRefused,
    LedgerError,
)
from batch_cancel.core.events import OnEvent, Warned
from batch_cancel.core.task_run import Access, Identity, Target
from batch_cancel.engine.identities import AT_ONCE, Identities
from batch_cancel.engine.target_work import TargetWork, in_turn
from batch_cancel.ledger.ledger import Ledger
from batch_cancel.settings import PlanSource, Settings
from batch_cancel.stop import Stop, StopCause, Stopped, ended

PATIENCE_SECONDS = 3.0
"""So long a sweep waits for what is only nice to know."""


class Accounts:
    """The accounts of one sweep's targets."""

    def __init__(
        self, settings: Settings, ledger: Ledger, identities: Identities, *, stop: Stop, on_event: OnEvent
    ) -> None:
        self._settings = settings
        self._ledger = ledger
        self._identities = identities
        self._stop = stop
        self._on_event = on_event
        self._on_the_side: asyncio.Task[None] | None = None

    async def told_apart(self, targets: list[Target]) -> list[Target]:
        """Each account and region once, although several ways lead there; the first way that was named stays.

        One single way in needs no identity before its first request. Of several the accounts are found out where they
        are not known: an account that is swept twice would be listed, counted and cancelled twice, at twice its rate.
        """
        unknown = list(dict.fromkeys(target.access for target in targets if target.account_id is None))
        if not unknown or len({target.access for target in targets}) == 1:
            return targets
        at = {target.access: target for target in reversed(targets)}
        accounts: dict[Access, str] = {}

        async def one(access: Access) -> None:
            try:
                with self._stop.interruptible():
                    accounts[access] = (await self._identities.of(at[access])).account_id
            except CallFailed as failure:
                self._on_event(
                    Warned(
                        f"{at[access]}: who we are there could not be found out ({failure.code}): if another way in"
                        " leads to the same account, its runs are listed and counted twice"
                    )
                )

        await in_turn(unknown, one, AT_ONCE)
        apart: dict[tuple[str | Access, str], Target] = {}
        for target in targets:
            account_id = target.account_id or accounts.get(target.access)
            first = apart.setdefault(
                (account_id or target.access, target.region), replace(target, account_id=account_id)
            )
            if first.access != target.access:
                self._on_event(
                    Warned(
                        f"{target} is account {account_id}, which {_way_in(first.access)} leads to as well:"
                        f" it is swept once, by {_way_in(first.access)}"
                    )
                )
        return list(apart.values())

    async def check(self, works: Sequence[TargetWork]) -> None:
        """Ask who we are where it decides something: accounts that are allowed, or that a manifest or plan names.

        Raises:
            GuardrailRefused: credentials lead to an account that is not allowed, or not the one that was meant.
        """
        allowed = self._settings.guardrails.allow_accounts
        planned = isinstance(self._settings.source, PlanSource)
        for work in works:  # whether or not its door is open: else it would be refused once it is, and not before
            if work.target.account_id is not None:
                self._check_allowed(work, work.target.account_id)
        asked = [
            work
            for work in works
            if work.stop.cause is None
            and (
                allowed is not None
                or _names_an_account_of_its_own(work.target)
                or (planned and work.target.account_id is not None)
            )
        ]
        await in_turn(asked, self._check_one, AT_ONCE)

    async def _check_one(self, work: TargetWork) -> None:
        try:
            with self._stop.interruptible():
                identity = await self._identities.of(work.target)
        except CallFailed as failure:
            self._keep_out(work, failure)
            return
        if work.target.account_id is not None and identity.account_id != work.target.account_id:
            says = f"the credentials for {work.target} belong to account {identity.account_id}"
            self._refuse(work, says, Guardrail.MEANT_ACCOUNT)
            return
        self._identified(work, identity)
        self._check_allowed(work, identity.account_id)

    def _check_allowed(self, work: TargetWork, account_id: str) -> None:
        allowed = self._settings.guardrails.allow_accounts
        if allowed is not None and account_id not in allowed:
            named = ", ".join(allowed) or "an empty list allows none"
            says = f"account {account_id} is not among the allowed accounts ({named})"
            self._refuse(work, says, Guardrail.ALLOW_ACCOUNTS)

    def _refuse(self, work: TargetWork, says: str, by: Guardrail) -> None:
        """Refuse the whole sweep; where requests may have gone out by an earlier process, this target alone.

        Raises:
            GuardrailRefused: nothing was cancelled.
        """
        if not self._ledger.reader.facts().get("decided"):
            raise GuardrailRefused(f"{says}: nothing was cancelled", by)
        work.on_trouble(str(by), says, ErrorKind.ACCESS)
        work.stop.request(StopCause.CREDENTIALS)

    async def check_same(self, works: Sequence[TargetWork]) -> None:
        """A sweep that goes on does so in the accounts in which it began; where that cannot be told it does not.

        Raises:
            AccessStopped: it cannot be told of any.
            LedgerError: the credentials are of another account.
        """
        rows = {row.id: row for row in self._ledger.reader.targets()}
        known = [work for work in works if rows[work.target_id].identity_arn is not None]
        closed: list[tuple[TargetWork, CallFailed]] = []

        async def one(work: TargetWork) -> None:
            try:
                with self._stop.interruptible():
                    identity = await self._identities.of(work.target)
            except CallFailed as failure:
                closed.append((work, failure))
                return
            before = rows[work.target_id].target.account_id
            if identity.account_id != before:
                raise LedgerError(
                    f"this sweep is of account {before}, and the credentials are of account {identity.account_id}:"
                    " use the credentials of that account"
                )

        await in_turn(known, one, AT_ONCE)
        if closed and len(closed) == len(works):
            work, failure = closed[0]
            raise AccessStopped(f"{work.target}: {failure.code}: {failure.message}; nothing was called") from failure
        for work, failure in closed:  # not before it is known that the others are who they were
            self._keep_out(work, failure)

    def _keep_out(self, work: TargetWork, failure: CallFailed) -> None:
        """Whose account it is decides, so that nobody is let in who cannot be told, whatever the cause."""
        why = f"who we are there could not be found out: {failure.message}"
        if failure.operation == ENTERING:  # then it is the role that has to be mended, and the report says how
            why = f"{ENTERING}: {why}"
        work.on_trouble(failure.code, why, ErrorKind.ACCESS)
        work.stop.request(StopCause.CREDENTIALS)

    async def identify(self, works: Sequence[TargetWork], *, after_seconds: float) -> None:
        """Begin to find out for the report who we are; it may fail without harm.

        Args:
            after_seconds: what goes first has so long; zero where everything has to be found before the first request,
                and perhaps a person asked: then it is waited for, though not for long.
        """

        async def one(work: TargetWork) -> None:
            with contextlib.suppress(CallFailed):
                self._identified(work, await self._identities.of(work.target))

        async def all_of_them() -> None:
            await asyncio.sleep(after_seconds)
            await in_turn(works, one, AT_ONCE)

        self._on_the_side = asyncio.create_task(all_of_them())
        if not after_seconds:
            with self._stop.interruptible():
                await asyncio.wait({self._on_the_side}, timeout=PATIENCE_SECONDS)

    async def wait(self) -> None:
        """Give what goes on on the side its time, unless a stop was asked for."""
        if self._on_the_side is not None and self._stop.cause is None:
            with contextlib.suppress(Stopped), self._stop.interruptible():
                await asyncio.wait({self._on_the_side}, timeout=PATIENCE_SECONDS)

    async def close(self) -> None:
        """Nothing that was asked outlives the sweep."""
        await ended(self._on_the_side)
        for question in tuple(self._identities.tasks()):
            await ended(question)

    def _identified(self, work: TargetWork, identity: Identity) -> None:
        self._ledger.set_identity(work.target_id, identity.account_id, identity.arn)
        work.identified(identity.account_id)


def _names_an_account_of_its_own(target: Target) -> bool:
    """Whether an account was named for credentials that say nothing of theirs."""
    return target.account_id is not None and target.access.role_arn is None


def _way_in(access: Access) -> str:
    return access.role_arn or (f"profile {access.profile}" if access.profile else "the default credentials")
