"""The seam to the service: what the program needs of Glue, STS and Organizations, and nothing more.

Two things stand behind it: :mod:`batch_cancel.glue.aws` (the real service through aioboto3) and
:mod:`batch_cancel.simulator` (a made-up one, in memory). Every method makes exactly one wire call, follows no page and
retries nothing; what fails raises :class:`~batch_cancel.core.errors.CallFailed`.
"""

from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import datetime
from typing import Generic, Protocol, TypeVar

from batch_cancel.core.task_run import Access, Identity, Status, Target, TaskRun, Transform

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Page(Generic[T]):
    """One page of a listing; ``next_token`` is None on the last.

    Attributes:
        foreign: it held items of something else than was asked for, which are not among ``items``: what else it may
            have left out nobody knows.
    """

    items: Sequence[T]
    next_token: str | None = None
    foreign: bool = False


@dataclass(frozen=True, slots=True)
class CancelAnswer:
    """A 200 from CancelMLTaskRun, as it came: a cut or empty body leaves fields None.

    Attributes:
        answered_at: the answer's ``Date``, by the service's clock and cut to the second.
    """

    transform_id: str | None
    task_run_id: str | None
    status: Status | None
    request_id: str | None = None
    answered_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Account:
    """A member of an organization.

    Attributes:
        state: Organizations' word (``ACTIVE``, ``SUSPENDED``, ``CLOSED``, ...); None where it told none.
    """

    account_id: str
    state: str | None = None


class Organization(Protocol):
    """The read calls of AWS Organizations that lead from a unit to its accounts."""

    async def accounts_of_unit(self, unit_id: str, *, next_token: str | None = None) -> Page[Account]:
        """ListAccountsForParent: the accounts that stand directly in a unit or root."""
        ...

    async def units_of_unit(self, unit_id: str, *, next_token: str | None = None) -> Page[str]:
        """ListOrganizationalUnitsForParent: the ids of the units that stand directly in a unit or root."""
        ...


class GlueReader(Protocol):
    """The read calls of one account and region. A dry run holds only this: it has nothing to cancel with."""

    async def list_transform_ids(
        self, *, tags: Mapping[str, str] | None = None, next_token: str | None = None
    ) -> Page[str]:
        """ListMLTransforms: ids only, filtered by tags in the service."""
        ...

    async def list_transforms(self, *, next_token: str | None = None) -> Page[Transform]:
        """GetMLTransforms: names, capacity and time-outs; no tags."""
        ...

    async def list_task_runs(
        self,
        transform_id: str,
        *,
        status: Status | None = None,
        started_after: datetime | None = None,
        next_token: str | None = None,
    ) -> Page[TaskRun]:
        """GetMLTaskRuns: one transform, one status a call, history included."""
        ...

    async def get_task_run(self, transform_id: str, task_run_id: str) -> TaskRun:
        """GetMLTaskRun."""
        ...


class GlueApi(GlueReader, Protocol):
    """The read calls and the one that cancels."""

    async def cancel_task_run(self, transform_id: str, task_run_id: str) -> CancelAnswer:
        """CancelMLTaskRun. A 200 means accepted; the Status tells the state."""
        ...


class Service(Protocol):
    """A way in: who we are there, and clients for it."""

    async def identify(self, access: Access, region: str) -> Identity:
        """sts:GetCallerIdentity with these credentials.

        Raises:
            CallFailed: of kind CREDENTIALS or ACCESS where the credentials are the trouble.
        """
        ...

    def default_region(self, access: Access) -> str | None:
        """The region that these credentials' configuration names, if it names one.

        Raises:
            CallFailed: of kind CREDENTIALS where the profile is not there.
        """
        ...

    def forget(self, access: Access) -> None:
        """Drop what is known of these credentials: the next client reads them anew."""
        ...

    def organization(self, access: Access, region: str) -> AbstractAsyncContextManager[Organization]:
        """A client that can look into the organization of these credentials; any region of its partition serves."""
        ...

    def reader(self, target: Target) -> AbstractAsyncContextManager[GlueReader]:
        """A client that can only read."""
        ...

    def connect(self, target: Target) -> AbstractAsyncContextManager[GlueApi]:
        """A client that can cancel."""
        ...
