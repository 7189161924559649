"""The rate controller against limits of every kind, beside botocore's adaptive mode and AIMD, on a virtual clock.

``python -m tests.bench.rate_grid`` prints the table and keeps it in RATE_GRID.md; about a minute, nothing sleeps. The
same seed gives the same table. botocore's part is played by botocore's own classes, driven on the simulated clock.
"""

import heapq
import math
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import count
from typing import Any

from botocore.exceptions import CapacityNotAvailableError
from botocore.retries.adaptive import ClientRateLimiter, RateClocker
from botocore.retries.bucket import TokenBucket
from botocore.retries.throttling import CubicCalculator

from batch_cancel.core.rate import Feedback, Rate


@dataclass(slots=True)
class Service:
    """A limiter: a token bucket whose rate may change, or a count for each second of the clock.

    Attributes:
        changes: (time, new limit) in order.
        random_share: of the calls, throttled whatever the rate.
    """

    limit: float
    burst: float
    randomness: random.Random
    changes: list[tuple[float, float]] = field(default_factory=list)
    fixed_window: bool = False
    random_share: float = 0.0
    _tokens: float = field(init=False)
    _at: float = 0.0

    def __post_init__(self) -> None:
        self._tokens = self.limit if self.fixed_window else self.burst

    def accepts(self, now: float) -> bool:
        """Whether a call that arrives now is let through."""
        while self.changes and now >= self.changes[0][0]:
            at, limit = self.changes.pop(0)
            self._refill(at)
            self.limit = limit
        self._refill(now)
        if self.random_share and self.randomness.random() < self.random_share:
            return False
        if self._tokens < 1.0:
            return False
        self._tokens -= 1.0
        return True

    def _refill(self, now: float) -> None:
        if self.fixed_window:
            if math.floor(now) > math.floor(self._at):
                self._tokens = self.limit
        else:
            self._tokens = min(self.burst, self._tokens + self.limit * max(0.0, now - self._at))
        self._at = max(now, self._at)


class BotocoreAdaptive:
    """botocore's adaptive mode as a :class:`Rate`; threads that wait for the bucket are the simulation's queue."""

    limit_found = False

    def __init__(self) -> None:
        self.clock = self
        self._now = 0.0
        self._throttled = False
        self._bucket = TokenBucket(max_rate=1, clock=self)
        self._limiter = ClientRateLimiter(
            rate_adjustor=CubicCalculator(starting_max_rate=0, start_time=0.0),
            rate_clocker=RateClocker(self),
            token_bucket=self._bucket,
            throttling_detector=self,
            clock=self,
        )
        self._enabled = False
        self._has_token = False

    def current_time(self) -> float:
        """botocore's Clock."""
        return self._now

    def is_throttling_error(self, **_: Any) -> bool:
        """botocore's ThrottlingErrorDetector."""
        return self._throttled

    @property
    def rps(self) -> float:
        return float(self._bucket.max_rate) if self._enabled else math.inf

    def due(self, now: float) -> float:
        self._now = now
        if not self._enabled or self._has_token:
            return now
        try:
            self._bucket.acquire(block=False)
        except CapacityNotAvailableError:
            return now + max(1e-6, (1.0 - float(self._bucket.available_capacity)) / self.rps)
        self._has_token = True
        return now

    def reserve(self, now: float) -> float:
        self._has_token = False
        return now

    def answered(self, *, sent_at: float, now: float, feedback: Feedback) -> None:
        self._now = now
        self._throttled = feedback is Feedback.THROTTLED
        self._enabled = self._enabled or self._throttled
        self._limiter.on_receiving_response()

    def learned(self) -> None:
        return None


class Aimd:
    """One more a second every second; half after a throttle, once a round trip."""

    limit_found = False

    def __init__(self) -> None:
        self.rps = 10.0
        self._next = 0.0
        self._cut_at = -1.0
        self._grown_at = 0.0

    def due(self, now: float) -> float:
        return max(now, self._next)

    def reserve(self, now: float) -> float:
        self._next = max(self._next, now - min(0.05, 8.0 / self.rps)) + 1.0 / self.rps
        return now

    def answered(self, *, sent_at: float, now: float, feedback: Feedback) -> None:
        self.rps += now - self._grown_at
        self._grown_at = now
        if feedback is Feedback.THROTTLED and sent_at > self._cut_at:
            self.rps = max(0.5, 0.5 * self.rps)
            self._cut_at = now

    def learned(self) -> None:
        return None


@dataclass(slots=True)
class Client:
    """Somebody who calls: a rate, a number of calls at once, and what it saw.

    Attributes:
        calls: how many are to be made; infinite where only the rate is of interest.
        threads: a throttled call keeps its place while it backs off, as a thread would.
        sent, accepted, throttled: the times at which calls left, by what became of them.
    """

    rate: Rate
    at_once: int
    calls: float = math.inf
    threads: bool = False
    begins: float = 0.0
    in_flight: int = 0
    dispatching_at: float = math.inf
    accepted: list[float] = field(default_factory=list)
    throttled: list[float] = field(default_factory=list)
    lost: int = 0
    finished_at: float = math.nan
    again: list[int] = field(default_factory=list)

    def share(self, since: float, until: float) -> float:
        """Throttled calls in percent of those that left in a span."""
        throttled = within(self.throttled, since, until)
        return 100.0 * throttled / max(1, throttled + within(self.accepted, since, until))


def within(times: Sequence[float], since: float, until: float) -> int:
    """How many of the times lie in [since, until)."""
    return sum(since <= at < until for at in times)


def simulate(
    service: Service,
    clients: Sequence[Client],
    *,
    round_trip: float,
    randomness: random.Random,
    until: float = math.inf,
    background_rps: float = 0.0,
    most_attempts: int = 10,
) -> None:
    """Run until all calls are made, or until a time. Round trips are log-normal; half of one is the way there."""
    number = count()
    events: list[tuple[float, int, Callable[..., None], tuple[Any, ...]]] = []

    def at(when: float, what: Callable[..., None], *arguments: Any) -> None:
        heapq.heappush(events, (when, next(number), what, arguments))

    now = 0.0

    def dispatch(client: Client) -> None:
        client.dispatching_at = math.inf
        offer(client)

    def offer(client: Client) -> None:
        while client.in_flight < client.at_once and (client.again or client.calls > 0):
            due = client.rate.due(now)
            if due > now:
                if due < client.dispatching_at - 1e-9:
                    client.dispatching_at = due
                    at(due, dispatch, client)
                return
            client.rate.reserve(now)
            if client.again:
                attempt = client.again.pop()
            else:
                attempt = 1
                client.calls -= 1
            client.in_flight += 1
            trip = round_trip * math.exp(randomness.gauss(0.0, 0.3))
            at(now + trip / 2, arrive, client, now, trip / 2, attempt)

    def arrive(client: Client, sent_at: float, back: float, attempt: int) -> None:
        at(now + back, answer, client, sent_at, service.accepts(now), attempt)

    def answer(client: Client, sent_at: float, accepted: bool, attempt: int) -> None:
        client.rate.answered(sent_at=sent_at, now=now, feedback=Feedback.ACCEPTED if accepted else Feedback.THROTTLED)
        (client.accepted if accepted else client.throttled).append(sent_at)
        wait = None if accepted else min(20.0, randomness.random() * 2.0 ** (attempt - 1))
        if wait is not None and client.threads:
            at(now + wait, back_again, client, attempt)
        else:
            client.in_flight -= 1
            if wait is not None:
                at(now + wait, back_again, client, attempt)
        if client.calls <= 0 and client.in_flight == 0:
            client.finished_at = now
        offer(client)

    def back_again(client: Client, attempt: int) -> None:
        client.in_flight -= client.threads
        if client.threads and attempt >= most_attempts:
            client.lost += 1
        elif client.calls < math.inf:
            client.again.append(attempt + 1)
        offer(client)

    def background() -> None:
        service.accepts(now)
        at(now + randomness.expovariate(background_rps), background)

    for client in clients:
        at(client.begins, offer, client)
    if background_rps:
        at(0.0, background)
    while events and events[0][0] <= until:
        now, _, what, arguments = heapq.heappop(events)
        what(*arguments)
