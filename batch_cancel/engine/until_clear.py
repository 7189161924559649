"""``--until-clear``: listing after listing, until one finds nothing active, or nothing that could still be stopped."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence

from batch_cancel.core.events import OnEvent, SweepListed, SweepStarted
from batch_cancel.engine.target_work import TargetWork
from batch_cancel.ledger.ledger import Ledger
from batch_cancel.stop import Stop, Stopped

PAUSE_SECONDS = (1.0, 10.0)
"""Between two listings: the shortest and the longest."""
PAUSE_GROWTH = 1.5
FRUITLESS_SWEEPS = 3
"""So many in a row that found active runs and nothing more that could be done about them: then waiting for a clear one
would be waiting for ever."""


async def until_clear(
    works: Sequence[TargetWork],
    ledger: Ledger,
    discover: Callable[[int], Awaitable[bool]],
    *,
    cancelling: Stop,
    on_event: OnEvent,
) -> bool:
    """List again and again; what is found is cancelled meanwhile. Whether it came to a clear end.

    Args:
        discover: lists every target once, given the listing's number; whether it found no active run at all.
        cancelling: ends it.
    """
    number = int(ledger.reader.facts().get("sweeps") or 0)
    pause, fruitless = PAUSE_SECONDS[0], 0
    while cancelling.cause is None:
        number += 1
        on_event(SweepStarted(number))
        await ledger.set_facts(sweeps=number)
        for work in works:
            work.try_again()
        # A run that stops while others are listed may come back behind the listing: only one that began when nothing
        # was on its way any more can say that all is clear.
        settled = all(work.idle for work in works)
        clear = await discover(number)
        await ledger.writer.commit()
        on_event(SweepListed(number))
        if all(work.idle for work in works):
            fruitless += 1
            if clear and settled:
                return True
            if fruitless >= FRUITLESS_SWEEPS:
                return False
        else:
            fruitless = 0
        pause = min(PAUSE_SECONDS[1], PAUSE_GROWTH * pause)
        try:
            with cancelling.interruptible():
                await asyncio.sleep(pause)
                # What waits to be asked goes first: another listing would only find it again.
                # (The ledger has no event for it, and a second is soon enough.)
                while _requests_wait(works, ledger):  # noqa: ASYNC110  # as said
                    await asyncio.sleep(PAUSE_SECONDS[0])
        except Stopped:
            return False
    return False


def _requests_wait(works: Sequence[TargetWork], ledger: Ledger) -> bool:
    """Whether a target that is still at work has runs to be asked."""
    return any(
        work.stop.cause is None and any(ledger.reader.count(state, work.target_id) for state in ("pending", "claimed"))
        for work in works
    )
