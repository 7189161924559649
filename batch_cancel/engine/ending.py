"""What a sweep has come to: its exit code by the contract, from what the ledger holds."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from batch_cancel.core.errors import ErrorKind
from batch_cancel.core.outcome import ACCEPTED, ERRORS, TROUBLE, Outcome
from batch_cancel.engine.target_work import TargetWork
from batch_cancel.ledger.reader import LedgerReader
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
