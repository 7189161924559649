"""A region that is not enabled refuses good credentials: told apart from credentials that are wrong."""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence

from batch_cancel.core.errors import REGION_NOT_ENABLED
from batch_cancel.core.events import OnEvent, Warned
from batch_cancel.core.task_run import Access, Target
from batch_cancel.engine.target_work import TargetWork
from batch_cancel.ledger.ledger import Ledger
from batch_cancel.ledger.reader import TargetRow

OPT_IN = "OptInRequired"
"""Says it itself."""
AMBIGUOUS = frozenset({"UnrecognizedClientException", "InvalidClientTokenId", "AuthFailure"})
"""What a region that the account has not enabled answers, and so does any to keys that nobody knows. An expired token
or a wrong signature is never among them."""


def tell_regions_from_credentials(ledger: Ledger, works: Sequence[TargetWork], on_event: OnEvent) -> None:
    """Say where a region is what refused the credentials."""
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
    closed = closed_ones({row.target: row.error_code for row in rows if row.error_code}, answered)
    explained = [row for row in rows if row.target in closed]
    for row in explained:
        ledger.explain_target_error(row.id, REGION_NOT_ENABLED)
    return Counter(row.target.region for row in explained)


def closed_ones(codes: Mapping[Target, str], answered: Iterable[Target]) -> set[Target]:
    """Which targets' regions are not enabled, by what came of the others.

    Args:
        codes: the error code of each target in trouble.
        answered: the targets at which credentials were taken, AccessDenied being an answer to them too. Only the same
            credentials in another region speak for a target.
    """
    taken_in: dict[Access, set[str]] = {}
    for target in answered:
        taken_in.setdefault(target.access, set()).add(target.region)
    return {
        target
        for target, code in codes.items()
        if code == OPT_IN or (code in AMBIGUOUS and taken_in.get(target.access, set()) - {target.region})
    }
