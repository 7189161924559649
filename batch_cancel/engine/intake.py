"""From a manifest to pending runs in the ledger: each row gets its target, and every fault its place.

Nothing is called. Rows go into the ledger as they are read, so that a million of them need no more memory than ten.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from batch_cancel.core.errors import AccessStopped, CallFailed, InputError, Problem, UsageError
from batch_cancel.core.events import ManifestRead, OnEvent
from batch_cancel.core.task_run import Access, Target, TaskRun
from batch_cancel.core.wording import counted
from batch_cancel.glue.regions import partition_of
from batch_cancel.ledger.ledger import Ledger, NewRun
from batch_cancel.manifest import ManifestRow
from batch_cancel.settings import TargetSettings

ROWS_AT_ONCE = 2_000
MOST_FAULTS_TOLD = 100

Place = tuple[str | None, str | None]
"""Account and region as a row names them."""


@dataclass(frozen=True, slots=True)
class Intake:
    """What a manifest came to."""

    rows: int
    runs: int
    rejected: int

    @property
    def duplicates(self) -> int:
        """Rows that name a run once more."""
        return self.rows - self.runs


class Places:
    """Where a row's run is: by the account and region that it names, and by the sweep's targets for what it does not.

    Args:
        default_region: the region that a way in is configured for, if it is.
    """

    def __init__(self, settings: tuple[TargetSettings, ...], default_region: Callable[[Access], str | None]) -> None:
        self._settings = settings
        self._default_region = default_region
        self._known: dict[Place, Target | str] = {}

    def target(self, place: Place) -> Target | str:
        """The target of a place, or the sentence that says why there is none.

        Raises:
            AccessStopped: the credentials that lead there are not configured.
        """
        found = self._known.get(place)
        if found is None:
            try:
                found = self._find(*place)
            except UsageError as fault:
                found = str(fault)
            self._known[place] = found
        return found

    def _find(self, account_id: str | None, region: str | None) -> Target:
        ways_in = [entry for entry in self._settings if _leads_to(entry, account_id)]
        if ways_in and region is not None:
            ways_in = [entry for entry in ways_in if _covers(entry, region)]
            if not ways_in:
                raise UsageError(f"region {region} is not among the sweep's regions")
        if len(ways_in) != 1:
            raise UsageError(_which_account(account_id, ways_in, self._settings))
        entry = ways_in[0]
        if entry.role_name and account_id is None:
            if entry.accounts is None or len(entry.accounts) != 1:
                raise UsageError("names no account_id, and the sweep has several accounts")
            account_id = entry.accounts[0]
        if region is None:
            region = self._region(entry)
        if entry.role_name:
            role_arn = f"arn:{partition_of(region)}:iam::{account_id}:role/{entry.role_name}"
            return Target(region, account_id, Access(entry.profile, role_arn, entry.external_id))
        known = entry.role_arn.split(":")[4] if entry.role_arn else account_id
        return Target(region, known, Access(entry.profile, entry.role_arn, entry.external_id))

    def _region(self, entry: TargetSettings) -> str:
        if isinstance(entry.regions, tuple) and len(entry.regions) == 1:
            return entry.regions[0]
        if entry.regions is not None:
            raise UsageError("names no region, and the sweep has several")
        try:
            configured = self._default_region(Access(entry.profile))
        except CallFailed as failure:  # not the row's fault, and the same for every other
            raise AccessStopped(f"{failure.code}: {failure.message}; nothing was called") from failure
        if not configured:
            raise UsageError(
                "names no region: add a region column, or give --region or AWS_DEFAULT_REGION for rows without one"
            )
        return configured


def _leads_to(entry: TargetSettings, account_id: str | None) -> bool:
    """Whether a way in may be meant; of credentials of one's own the account is known only later."""
    if account_id is None or entry.organization_units is not None:
        return True
    if entry.role_name:
        return account_id in (entry.accounts or ())
    return entry.role_arn is None or entry.role_arn.split(":")[4] == account_id


def _covers(entry: TargetSettings, region: str) -> bool:
    """Whether a region is in the scope of an entry; where it names none, the rows do."""
    return not isinstance(entry.regions, tuple) or "all" in entry.regions or region in entry.regions


def _which_account(account_id: str | None, ways_in: list[TargetSettings], settings: tuple[TargetSettings, ...]) -> str:
    if not settings:
        return "the sweep has no targets: an empty list is nowhere"
    if account_id is None:
        return "names no account_id, and the sweep has several ways in"
    return f"account {account_id} is {'reached in several ways' if ways_in else 'not among the accounts'} of the sweep"


async def take_in(
    rows: Iterable[ManifestRow | Problem],
    source: str,
    places: Places,
    ledger: Ledger,
    *,
    skip_invalid: bool,
    on_event: OnEvent,
) -> Intake:
    """Read a manifest into the ledger.

    Raises:
        InputError: a row is wrong, and rows may not be skipped; or the file cannot be read on.
        AccessStopped: a way in is not configured (a profile that is not there).
        RecordLost: the ledger cannot be written.
    """
    targets = _Targets(ledger)
    batches: dict[int, list[NewRun]] = {}
    faults: list[Problem] = []
    count = rejected = waiting = 0
    for row in _located(rows, source, places):
        if isinstance(row, Problem):
            rejected += 1
            if skip_invalid:
                ledger.reject(row.line, row.text, row.in_its_line)
            elif len(faults) < MOST_FAULTS_TOLD:
                faults.append(row)
            continue
        target, run = row
        batches.setdefault(await targets.id_of(target), []).append(run)
        count += 1
        waiting += 1
        if waiting >= ROWS_AT_ONCE:
            await _write(ledger, batches)
            waiting = 0
            on_event(ManifestRead(count))
    if faults:
        raise InputError([*faults, *_more(source, rejected - len(faults))])
    await _write(ledger, batches)
    on_event(ManifestRead(count))
    return Intake(rows=count, runs=ledger.reader.count_runs(), rejected=rejected)


class _Targets:
    """The targets of a manifest, as they enter the ledger.

    Credentials are of one account. So rows that name it and rows that leave it out are of one target: of two, each of
    its runs could be listed, counted and cancelled twice.
    """

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._ids: dict[Target, int] = {}
        self._of_way_in: dict[tuple[Access, str], tuple[int, str | None]] = {}
        """By way in and region: the id of the target that rows without an account are of, and its account."""

    async def id_of(self, target: Target) -> int:
        """The target's id in the ledger, which it enters if it is new."""
        found = self._ids.get(target)
        if found is None:
            found = self._ids[target] = await self._enter(target)
        return found

    async def _enter(self, target: Target) -> int:
        way_in = (target.access, target.region)
        target_id, account_id = self._of_way_in.get(way_in, (None, None))
        if target_id is None or (account_id and target.account_id):  # two names contradict each other: one is refused
            target_id = await self._ledger.add_target(target)
        elif target.account_id:
            self._ledger.set_account(target_id, target.account_id)
        else:
            return target_id
        self._of_way_in[way_in] = target_id, target.account_id
        return target_id


async def take_in_plan(runs: Iterable[tuple[Target, TaskRun]], ledger: Ledger) -> None:
    """Enter what a plan would cancel, to be looked at once more.

    Raises:
        RecordLost: the ledger cannot be written.
    """
    target_ids: dict[Target, int] = {}
    batches: dict[int, list[NewRun]] = {}
    for target, run in runs:
        target_id = target_ids.get(target)
        if target_id is None:
            target_id = target_ids[target] = await ledger.add_target(target)
        batches.setdefault(target_id, []).append(NewRun(run))
    await _write(ledger, batches)


def _located(
    rows: Iterable[ManifestRow | Problem], source: str, places: Places
) -> Iterator[tuple[Target, NewRun] | Problem]:
    for row in rows:
        if isinstance(row, Problem):
            yield row
            continue
        target = places.target((row.account_id, row.region))
        if isinstance(target, str):
            yield Problem(source, target, row.line, None, f"{row.transform_id}, {row.task_run_id}")
        else:
            yield target, NewRun(TaskRun(row.transform_id, row.task_run_id), labels=row.labels)


async def _write(ledger: Ledger, batches: dict[int, list[NewRun]]) -> None:
    for target_id, runs in batches.items():
        await ledger.add_runs(target_id, runs)
    batches.clear()


def _more(source: str, count: int) -> list[Problem]:
    return [Problem(source, f"and {counted(count, 'row')} more")] if count > 0 else []
