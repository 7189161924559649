"""How fast to ask: a fixed pace, and one that finds the service's limit and follows it.

The service's limit is a token bucket of unknown rate and burst for each account, region and operation, shared with
other clients. Nothing here knows a clock: every method takes the time in seconds, on any one monotonic clock.
"""

import math
from collections import deque
from enum import Enum
from typing import Protocol

LEAST_RPS = 0.2
"""However it goes, a request every five seconds still looks whether the service lets anything through."""


class Feedback(Enum):
    """What one answered request says about the service's limiter."""

    ACCEPTED = "accepted"
    """It was let through, whatever the service then thought of it."""
    THROTTLED = "throttled"
    """It was turned away for coming too fast."""
    SILENT = "silent"
    """It says nothing of the limiter: no answer, an error of the service's own, refused credentials."""


class Rate(Protocol):
    """When the next request may leave, and what the answers change about that."""

    rps: float
    limit_found: bool

    def due(self, now: float) -> float:
        """The earliest time at which the next request may leave; not before ``now``."""
        ...

    def reserve(self, now: float) -> float:
        """Book the next request and return the time at which it may leave."""
        ...

    def answered(self, *, sent_at: float, now: float, feedback: Feedback) -> None:
        """Take in one answer, to the request that left at ``sent_at``."""
        ...

    def learned(self) -> float | None:
        """The service's limit in requests a second, if it has been found: worth starting from next time."""
        ...


class _Schedule:
    """GCRA: requests evenly spaced, where one that left late lets the next catch up by ``slack_seconds`` at most.

    Without slack each late timer is lost time: at 500 a second a millisecond of lateness costs a third.
    """

    def __init__(self) -> None:
        self._next = -math.inf

    def due(self, now: float) -> float:
        return max(self._next, now)

    def reserve(self, now: float, rps: float, slack_seconds: float) -> float:
        at = max(self._next, now)
        self._next = max(self._next, at - slack_seconds) + 1.0 / rps
        return at


class FixedRate:
    """At most ``rps`` requests in any second, and never less than 99 % of that while there is something to send.

    Evenly spaced requests with slack S can crowd: ``rps + 1`` of them span at least ``rps / pace - S`` seconds. The
    pace is chosen so that this is a second, hence no window of a second ever holds more than ``rps``.
    """

    SLACK_SECONDS = 0.008

    def __init__(self, rps: float) -> None:
        self.rps = rps
        self.limit_found = False
        self._schedule = _Schedule()

    def due(self, now: float) -> float:
        """See :meth:`Rate.due`."""
        return self._schedule.due(now)

    def reserve(self, now: float) -> float:
        """See :meth:`Rate.reserve`."""
        return self._schedule.reserve(now, self.rps / (1.0 + self.SLACK_SECONDS), self.SLACK_SECONDS)

    def answered(self, *, sent_at: float, now: float, feedback: Feedback) -> None:
        """A fixed pace listens to nobody."""

    def learned(self) -> float | None:
        """Nothing: it was told, not found."""
        return None


class AdaptiveRate:
    """Finds the service's limit, stays at it, and notices when it moves.

    While the service's bucket is empty, the rate of accepted calls *is* its refill rate: so that is measured, and the
    rate probes around it.

    Args:
        start_rps: where to begin; the rate learned last time.
        most_rps: never faster than this.
    """

    def __init__(self, *, start_rps: float | None = None, most_rps: float = math.inf) -> None:
        self.rps = min(10.0 if start_rps is None else max(start_rps, LEAST_RPS), most_rps)
        self.limit_found = False
        self._most_rps = most_rps
        self._schedule = _Schedule()
        self._round_trip = 0.1
        self._answers: deque[tuple[float, bool]] = deque()
        self._throttled_share = 0.0
        self._cut_at = -math.inf
        self._doubled_at: float | None = None
        self._target_rps = self.rps
        self._base_share = 0.95
        self._growing_seconds = 0.0
        self._grown_at = -math.inf

    def due(self, now: float) -> float:
        """See :meth:`Rate.due`."""
        return self._schedule.due(now)

    def reserve(self, now: float) -> float:
        """See :meth:`Rate.reserve`."""
        if self._doubled_at is None:
            self._doubled_at = now
        return self._schedule.reserve(now, self.rps, min(0.05, 8.0 / self.rps))

    def answered(self, *, sent_at: float, now: float, feedback: Feedback) -> None:
        """See :meth:`Rate.answered`."""
        self._round_trip += 0.1 * (now - sent_at - self._round_trip)
        if feedback is Feedback.SILENT:
            return
        throttled = feedback is Feedback.THROTTLED
        self._answers.append((sent_at, throttled))
        window = max(2.0, 40.0 / self.rps) + 2.0 * self._round_trip
        while self._answers[0][0] < sent_at - window:
            self._answers.popleft()
        if sent_at > self._cut_at:
            weight = 1.0 / min(max(2.0 * self.rps, 50.0), 500.0)
            self._throttled_share += weight * (throttled - self._throttled_share)
            first = throttled and not self.limit_found
            if first or self._throttled_share > 0.04:
                self._cut(now, first=first)
        self._grow(now)

    def learned(self) -> float | None:
        """See :meth:`Rate.learned`."""
        return self._target_rps if self.limit_found else None

    def _cut(self, now: float, *, first: bool) -> None:
        estimate = None if first else self._estimate()
        if estimate is not None and estimate < self.rps:
            self._target_rps, self._base_share = estimate, 0.95
        else:
            self._target_rps, self._base_share = self.rps, 0.7
        self.limit_found = True
        self._cut_at = now
        self._throttled_share = 0.0
        self._growing_seconds = 0.0
        self._set(self._target_rps * self._base_share)

    def _estimate(self) -> float | None:
        """Accepted calls a second between the first and the last throttle of the window, by send time."""
        throttles = [at for at, throttled in self._answers if throttled]
        begin, end = min(throttles), max(throttles)
        accepts = sum(not throttled and begin <= at <= end for at, throttled in self._answers)
        if accepts < 8 or end - begin < max(0.25, 2.0 * self._round_trip):
            return None
        return accepts / (end - begin)

    def _grow(self, now: float) -> None:
        if not self.limit_found:
            if self._doubled_at is not None and now - self._doubled_at >= max(0.5, 4.0 * self._round_trip):
                self._doubled_at = now
                self._set(2.0 * self.rps)
                self._target_rps = self.rps
            return
        since = now - max(self._grown_at, self._cut_at)
        self._grown_at = now
        if self._throttled_share > 0.015 or now <= self._cut_at:
            return
        self._growing_seconds += since
        scale = max(5.0, 100.0 / self._target_rps, 20.0 * self._round_trip)
        plateau = scale * math.cbrt((1.0 - self._base_share) / 0.1)
        self._set(self._target_rps * (1.0 + 0.1 * ((self._growing_seconds - plateau) / scale) ** 3))

    def _set(self, rps: float) -> None:
        self.rps = min(max(rps, LEAST_RPS), self._most_rps)


class RetryBudget:
    """How many transient failures a target may answer with a quick retry: an outage must not be hammered.

    The numbers are those of the AWS SDKs' standard retry quota: 500 tokens, 14 a retry after a transient failure, one
    back for each success.
    """

    FULL = 500
    RETRY_COSTS = 14

    def __init__(self) -> None:
        self._tokens = self.FULL

    def withdraw(self) -> bool:
        """Pay for one retry; False where the budget does not cover it."""
        if self._tokens < self.RETRY_COSTS:
            return False
        self._tokens -= self.RETRY_COSTS
        return True

    def succeeded(self) -> None:
        """A call succeeded: one token back."""
        self._tokens = min(self.FULL, self._tokens + 1)
