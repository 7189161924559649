"""How fast to ask: what a rate is, and a fixed one. One that finds the limit is in ``core.adaptive_rate``.

Nothing here knows a clock: every method takes the time in seconds, on any one monotonic clock.
"""

import math
from enum import Enum
from typing import Protocol


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


class Schedule:
    """GCRA: requests evenly spaced, where one that left late lets the next catch up by ``slack_seconds`` at most.

    Without slack each late timer is lost time: at 500 a second a millisecond of lateness costs a third.
    """

    def __init__(self) -> None:
        self._next = -math.inf

    def due(self, now: float) -> float:
        """The earliest time at which the next request may leave."""
        return max(self._next, now)

    def late(self, now: float, slack_seconds: float) -> bool:
        """Whether time was lost that cannot be caught up: nobody wanted to send."""
        return self._next < now - slack_seconds

    def hasten(self, at: float) -> None:
        """The next may leave at ``at``, if it had to wait longer: it was booked at a rate of before."""
        self._next = min(self._next, at)

    def reserve(self, now: float, rps: float, slack_seconds: float) -> float:
        """Book the next request at this rate, and return the time at which it may leave."""
        at = max(self._next, now)
        self._next = max(self._next, at - slack_seconds) + 1.0 / rps
        return at


class FixedRate:
    """At most ``rps`` requests in any second, and never less than 98 % of that while there is something to send.

    Evenly spaced requests with slack S can crowd: ``rps + 1`` of them span at least ``rps / pace - S`` seconds. The
    pace is chosen so that this is a second and a little, hence no window of a second ever holds more than ``rps``. The
    little is for the way: requests that arrive some milliseconds nearer to each other than they left.
    """

    SLACK_SECONDS = 0.006
    SECOND = 1.009

    def __init__(self, rps: float) -> None:
        self.rps = rps
        self.limit_found = False
        self._schedule = Schedule()

    def due(self, now: float) -> float:
        """See :meth:`Rate.due`."""
        return self._schedule.due(now)

    def reserve(self, now: float) -> float:
        """See :meth:`Rate.reserve`."""
        return self._schedule.reserve(now, self.rps / (self.SECOND + self.SLACK_SECONDS), self.SLACK_SECONDS)

    def answered(self, *, sent_at: float, now: float, feedback: Feedback) -> None:
        """A fixed pace listens to nobody."""

    def learned(self) -> float | None:
        """Nothing: it was told, not found."""
        return None
