"""The service's request limits, as it might keep them: token buckets, or counts in fixed windows."""

import math
from collections.abc import Sequence

from batch_cancel.simulator.settings import Limit


class Bucket:
    """One limiter. Times are seconds since the world began."""

    __slots__ = ("_tokens", "_updated", "_window")

    def __init__(self) -> None:
        self._tokens = math.inf
        self._updated = 0.0
        self._window = -1

    def wait_seconds(self, limit: Limit, now: float) -> float:
        """Take a place: 0.0 where there was one, else how long until there is."""
        if limit.window_seconds is not None:
            return self._window_wait(limit, limit.window_seconds, now)
        self._tokens = min(limit.burst, self._tokens + max(0.0, now - self._updated) * limit.rps)
        self._updated = now
        if self._tokens >= 1.0 - 1e-9:  # refills add up in floating point: an exact interval is enough
            self._tokens -= 1.0
            return 0.0
        return (1.0 - self._tokens) / limit.rps

    def _window_wait(self, limit: Limit, length: float, now: float) -> float:
        window = int(now // length)
        if window != self._window:
            self._window, self._tokens = window, limit.rps * length
        if self._tokens >= 1.0:
            self._tokens -= 1.0
            return 0.0
        return (window + 1) * length - now


class Limits:
    """A limiter for each account, region and operation, under limits that may change with time."""

    def __init__(self, limits: Sequence[Limit]) -> None:
        self._limits = tuple(limits)
        self._buckets: dict[tuple[str, str, str], Bucket] = {}

    def change(self, limits: Sequence[Limit]) -> None:
        """Other limits from now on; what the buckets hold stays."""
        self._limits = tuple(limits)

    def wait_seconds(self, account_id: str, region: str, operation: str, now: float) -> float:
        """Take a place: 0.0 where the call is let through, else how long until the next would be."""
        for limit in reversed(self._limits):
            if limit.from_seconds <= now and (not limit.operations or operation in limit.operations):
                key = (account_id, region, operation)
                bucket = self._buckets.get(key)
                if bucket is None:
                    bucket = self._buckets[key] = Bucket()
                return bucket.wait_seconds(limit, now)
        return 0.0
