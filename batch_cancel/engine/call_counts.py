"""How often the service was called, second by second, for the report's charts."""

import asyncio
from collections.abc import Callable, Sequence
from datetime import datetime

from batch_cancel.engine.target_work import TargetWork
from batch_cancel.ledger.ledger import Ledger

EVERY_SECONDS = 1.0


class CallCounts:
    """Brings the tallies of every target's line into the ledger; the last ones with :meth:`flush`."""

    def __init__(self, ledger: Ledger, works: Sequence[TargetWork], now: Callable[[], datetime]) -> None:
        self._ledger = ledger
        self._works = works
        self._now = now

    async def run(self) -> None:
        """Until it is cancelled."""
        while True:
            await asyncio.sleep(EVERY_SECONDS)
            self.flush()

    def flush(self) -> None:
        """What was counted since the last time."""
        second = int(self._now().timestamp())
        for work in self._works:
            tallies, work.line.tallies = work.line.tallies, {}
            self._ledger.count_calls(
                (
                    work.target_id,
                    operation,
                    second,
                    tally.calls,
                    tally.throttled,
                    tally.failed,
                    tally.retries,
                    work.line.pacer(operation).rps,
                )
                for operation, tally in tallies.items()
            )
