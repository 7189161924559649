"""What a sweep has come to: its exit code by the contract, from what the ledger holds."""

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass

from batch_cancel.core.errors import ErrorKind
from batch_cancel.core.events import OnEvent, Warned
from batch_cancel.core.outcome import ACCEPTED, ERRORS, TROUBLE, Outcome
from batch_cancel.core.task_run import Target
from batch_cancel.engine.target_work import TargetWork
from batch_cancel.engine.targets import Refusal, refusals
from batch_cancel.ledger.ledger import Ledger
from batch_cancel.ledger.reader import LedgerReader, TargetRow
from batch_cancel.settings import DiscoverySource, Settings
from batch_cancel.stop import StopCause


@dataclass(frozen=True, slots=True)
class Result:
    """How a sweep ended; the ledger has the rest.

    Attributes:
        stop_cause: as in the report; None where it came to its natural end.
        says: a sentence for the user where the exit code needs one.
    """

    exit_code: int
    stop_cause: StopCause | None = None
    says: str | None = None


def result(
    settings: Settings,
    reader: LedgerReader,
    works: Sequence[TargetWork],
    *,
    cause: StopCause | None,
    unresolved: Sequence[ErrorKind | None],
    interrupted_code: Callable[[], int],
) -> Result:
    """The exit code.

    Args:
        cause: what stopped the sweep, or its cancelling, early.
        unresolved: what kept targets from being entered at all.
        interrupted_code: what to exit with after an interruption.
    """
    match cause:
        case StopCause.INTERRUPTED:
            return Result(interrupted_code(), cause)
        case StopCause.DEADLINE | StopCause.MAX_ERRORS if _work_is_left(settings, reader):
            return Result(5, cause)
        case _:
            pass
    incomplete = [row for row in reader.targets() if not row.complete]
    kept_out = sum(work.kept_out for work in works)
    kept_out += sum(kind in (ErrorKind.CREDENTIALS, ErrorKind.ACCESS) for kind in unresolved)
    if kept_out and kept_out == len(works) + len(unresolved) == len(incomplete) and not _gone_through(settings, reader):
        first = incomplete[0]
        return Result(4, StopCause.CREDENTIALS, f"{first.target}: {first.error_code}: {first.error_message}")
    forgiven = {Outcome.NOT_FOUND} if settings.ignore_not_found else set()
    bad = set(TROUBLE) - forgiven
    not_done = incomplete or reader.rejected_count() or any(outcome in bad for outcome in reader.outcomes())
    return Result(1 if not_done else 0)


def _gone_through(settings: Settings, reader: LedgerReader) -> bool:
    """Whether a list was asked for to its last run, and each waited for: what was denied were readings beside it."""
    told = set(reader.outcomes())
    left = {Outcome.NOT_ATTEMPTED, *ERRORS}
    if settings.verify.wait:
        left.add(Outcome.STOPPING)
    return bool(told & ACCEPTED) and not told & left and not isinstance(settings.source, DiscoverySource)


def _work_is_left(settings: Settings, reader: LedgerReader) -> bool:
    """Whether a stop has kept anything from being done: it may have come with the last verdict."""
    # Cut short before the targets, or the list, were entered to their last: nothing was looked at.
    entered = "left_out" if isinstance(settings.source, DiscoverySource) else "found"
    return (
        settings.until_clear
        or entered not in reader.facts()
        or not all(row.complete for row in reader.targets())
        or bool(reader.count("pending") + reader.count("claimed"))
        or (settings.verify.wait and bool(reader.count("asked")))
        or Outcome.UNKNOWN in reader.outcomes()
    )


def tell_regions_from_credentials(ledger: Ledger, works: Sequence[TargetWork], on_event: OnEvent) -> None:
    """A region that is not enabled refuses good credentials: where they were taken elsewhere, say so."""
    entered = {work.target_id for work in works}
    rows = [row for row in ledger.reader.targets() if row.id in entered]
    closed = explain_closed_regions(ledger, rows, [work.target for work in works if work.line.let_in])
    for region, targets in closed.items():
        of = "1 account that was" if targets == 1 else f"{targets:,} accounts that were"
        on_event(Warned(f"{region} is not enabled for {of} refused there: the credentials are not what is wrong"))


def explain_closed_regions(ledger: Ledger, rows: Collection[TargetRow], answered: Iterable[Target]) -> Counter[str]:
    """Write at each target whose region is not enabled that this is its trouble; how many there are in each region.

    Args:
        answered: the targets at which the credentials were taken.
    """
    refused = {row.target: row.error_code for row in rows if row.error_code}
    why = refusals(refused, answered)
    closed = [row for row in rows if why.get(row.target) is Refusal.REGION_UNAVAILABLE]
    for row in closed:
        ledger.explain_target_error(row.id, Refusal.REGION_UNAVAILABLE.value)
    return Counter(row.target.region for row in closed)
