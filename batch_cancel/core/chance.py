"""Whose throttles are they: the limit's, or chance's? Some services throttle now and then, however slowly one goes.

Whoever takes chance for the limit goes slower and slower for nothing. Whoever takes others on the same key for chance
aims at more throttles, they at more again, and whoever has least would stay there.
"""

import math


class Chance:
    """The share of requests that are throttled, as it was seen, and how much of it looks like chance.

    The rate swings a little above and below the limit. What the limit throttles, it throttles in the upper half; chance
    throttles in both. That costs nothing, and proves nothing: others' throttles come in both halves too.
    """

    UNTHROTTLED = 200
    """The belief to begin with: as if so many requests had been seen without a throttle."""
    MEMORY = 600
    """Requests that are remembered, and at high rates those of MEMORY_SECONDS."""
    MEMORY_SECONDS = 3.0
    SUSPICIOUS = 0.006
    """From this share of the lower half on it is worth a few throttles to find out whose they are."""

    def __init__(self) -> None:
        self.low = 0.0
        """The share in the lower half."""
        self.all = 0.0
        """The share in both halves."""
        self.suspected = 0.0
        """What looks like chance: less than the lower half saw where the upper half saw more."""
        self._high = 0.0
        self._low_seen = self._high_seen = self._all_seen = 0.0

    def saw(self, *, throttled: bool, low: bool, rps: float) -> None:
        """Take in one answer to a request of the lower or the upper half."""
        most = max(self.MEMORY, self.MEMORY_SECONDS * rps)
        self._all_seen = min(self._all_seen + 1.0, most)
        self.all += (throttled - self.all) / (self._all_seen + self.UNTHROTTLED)
        if low:
            self._low_seen = min(self._low_seen + 1.0, most)
            self.low += (throttled - self.low) / (self._low_seen + self.UNTHROTTLED)
        else:
            self._high_seen = min(self._high_seen + 1.0, most)
            self._high += (throttled - self._high) / (self._high_seen + self.UNTHROTTLED)
        self.suspected = max(0.0, self.low - 0.7 * (self._high - self.low))


class Volley:
    """A few requests at once, right after a throttle out of nowhere: was the service's bucket empty?

    An empty bucket throttles some of them, whoever emptied it: we, or others on the same key. A throttle by chance is
    hardly followed by another. So it costs nothing where the throttle was chance, and a throttle or two where it was
    not: then the next one waits, each time longer.
    """

    REQUESTS = 3
    """An empty bucket holds less than one token, and until they arrive it gets hardly more than another."""
    MORE = 0.5
    """For each request that is under way at this rate: the bucket gets as many tokens until then, and what is under way
    does not use up all of them."""
    CHANCE_IN = 8
    """Of so many answers one throttle may be chance, too."""
    LONGEST_TRIP_SECONDS = 0.4
    """When the answer takes longer, it tells of a bucket of long ago: what looks like chance is taken for it then."""
    FIRST_AFTER = 75
    """Requests after a start, whose own throttles look like chance; and short jobs are over by then."""
    WAIT = 400
    """Requests from one that found the bucket empty to the next, each time three times as many."""
    KEPT = 0.9
    """What a volley said counts for so much when the next one speaks."""
    ENOUGH = 1.5
    """Two volleys say something; one may have been luck."""
    BELIEVED = 0.2
    """Chance below this part of all throttles is none: the volleys cost more than it does."""

    def __init__(self) -> None:
        self._requests = self._left = self._missing = 0
        self._under_way = False
        self._began_at = self._sent_until = self._heard_until = 0.0
        self._seen = self._hits = 0
        self._next_at = 0.0
        self._wait = self.WAIT
        self._volleys = self._let_through = 0.0

    @property
    def chance(self) -> float:
        """The part of all throttles that came by chance, from 0 to 1; 0 as long as nothing proves it."""
        part = self._let_through / self._volleys if self._volleys >= self.ENOUGH else 0.0
        return part if part >= self.BELIEVED else 0.0

    def started(self, now: float, rps: float) -> None:
        """A start has just ended at this rate."""
        self._next_at = max(self._next_at, now + self.FIRST_AFTER / rps)

    def begin(self, now: float, rps: float, trip: float, *, most: float) -> bool:
        """Send one from now on, of no more than ``most`` requests, if it is time to; whether it is."""
        requests = self.REQUESTS + int(self.MORE * rps * trip)
        if self._under_way or now < self._next_at or requests > most or trip > self.LONGEST_TRIP_SECONDS:
            return False
        self._requests = self._left = self._missing = requests
        self._under_way = True
        self._began_at = now
        self._sent_until = now + max(0.25 / rps, 0.01)  # who has less to send just now proves nothing
        self._heard_until = self._sent_until + 4.0 * trip
        self._seen = self._hits = 0
        return True

    def pace(self, now: float, rps: float) -> float:
        """At what rate to book the request that leaves now, in place of ``rps``.

        After all but the last of a volley the next one follows at once; after that as much later as they came sooner,
        since a service that counts by the second would miss them at the second's end.
        """
        if not self._left or now > self._sent_until:
            return rps
        self._left -= 1
        return math.inf if self._left else rps / self._requests

    def saw(self, *, throttled: bool, sent_at: float, now: float, rps: float) -> bool:
        """Take in one answer; whether it was to one of a volley."""
        if not self._under_way:
            return False
        if sent_at > self._sent_until:
            self._under_way = now <= self._heard_until
            return False
        # What was under way when it began is heard as well: a service that counts by the second throttles that, too.
        own = sent_at >= self._began_at
        self._missing -= own
        self._seen += 1
        self._hits += throttled
        if not self._missing:
            self._under_way = False
            self._volleys = self.KEPT * self._volleys + 1.0
            self._let_through = self.KEPT * self._let_through + (self._hits <= self._seen // self.CHANCE_IN)
            if self._volleys >= self.ENOUGH and not self.chance:
                self._next_at = now + self._wait / rps
                self._wait *= 3
        return own
