"""Who may call when: a pacer for each operation of a target, and one cap on calls in flight for the whole process.

All on the event loop's own clock, so that a simulation with a virtual one runs the same code.
"""

import asyncio
import heapq
import math
from collections import deque
from dataclasses import dataclass
from enum import IntEnum
from itertools import count

from batch_cancel.core.rate import AdaptiveRate, Feedback, FixedRate, Rate
from batch_cancel.core.task_run import Access, Target
from batch_cancel.glue.learned import LearnedRates


class Priority(IntEnum):
    """Who goes first when places in flight are scarce; the smaller number."""

    CANCEL = 0
    READ = 1


class Pacer:
    """One operation's line at one target: first come, first served, each in its turn.

    One dispatcher and one timer: nobody else sleeps, so no two can wake up at once and both think that it is theirs.
    """

    def __init__(self, rate: Rate) -> None:
        self._rate = rate
        self._waiting: deque[asyncio.Future[float]] = deque()
        self._timer: asyncio.TimerHandle | None = None
        self._paused_until = -math.inf
        self._round_trips: deque[float] = deque(maxlen=100)
        self._slow_round_trip: float | None = None

    @property
    def rps(self) -> float:
        """The rate of now, in requests a second."""
        return self._rate.rps

    @property
    def limit_found(self) -> bool:
        """Whether the service has been seen to have a limit."""
        return self._rate.limit_found

    @property
    def most_in_flight(self) -> int:
        """Little's law with room to breathe: what this rate needs in flight when round trips are slow."""
        # Nothing measured yet: three seconds, so that a slow service does not hold back its own measurement.
        slow = 3.0 if self._slow_round_trip is None else self._slow_round_trip
        return math.ceil(1.5 * self.rps * slow) + 2

    def learned(self) -> float | None:
        """The limit that was found, if one was."""
        return self._rate.learned()

    async def turn(self) -> float:
        """Wait for the turn to send; returns its time.

        Who is cancelled while waiting leaves the line, and the turn goes to the next.
        """
        loop = asyncio.get_running_loop()
        now = loop.time()
        if not self._waiting and self._due(now) <= now:
            return self._rate.reserve(now)
        future: asyncio.Future[float] = loop.create_future()
        self._waiting.append(future)
        self._dispatch()
        # A turn given in the very moment of a cancellation is lost: one interval unused, nobody left waiting.
        return await future

    def answered(self, *, sent_at: float, feedback: Feedback, retry_after_seconds: float | None = None) -> None:
        """Tell how the request that left at ``sent_at`` was answered, just now."""
        now = asyncio.get_running_loop().time()
        self._round_trips.append(now - sent_at)
        ordered = sorted(self._round_trips)
        self._slow_round_trip = ordered[int(0.95 * (len(ordered) - 1))]
        self._rate.answered(sent_at=sent_at, now=now, feedback=feedback)
        if retry_after_seconds is not None:
            self.pause_until(now + retry_after_seconds)
        self._dispatch()

    def pause_until(self, when: float) -> None:
        """Send nothing before ``when``, on the loop's clock."""
        self._paused_until = max(self._paused_until, when)

    def _due(self, now: float) -> float:
        return max(self._rate.due(now), self._paused_until)

    def _dispatch(self) -> None:
        loop = asyncio.get_running_loop()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        while self._waiting:
            if self._waiting[0].done():  # cancelled
                self._waiting.popleft()
                continue
            now = loop.time()
            due = self._due(now)
            if due > now:
                self._timer = loop.call_at(due, self._dispatch)
                return
            self._waiting.popleft().set_result(self._rate.reserve(now))


@dataclass(slots=True, eq=False)
class Place:
    """A place in flight, held from before the request leaves until it is answered."""

    in_flight: "InFlight"
    pacer: Pacer

    def leave(self) -> None:
        """Give the place back."""
        self.in_flight.left(self.pacer)


class InFlight:
    """How many calls may be under way in the whole process, and for each pacer what Little's law asks for.

    A call first waits in its pacer's line, so that one that waits for a slow service keeps nobody from a quick one, and
    then for a place; there, cancelling goes before reading.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._taken = 0
        self._taken_of: dict[Pacer, int] = {}
        self._lines: dict[Pacer, list[tuple[Priority, int, asyncio.Future[None]]]] = {}
        self._ready: list[tuple[Priority, int, Pacer, asyncio.Future[None]]] = []
        self._number = count()

    async def enter(self, pacer: Pacer, priority: Priority) -> Place:
        """Wait for a place."""
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        heapq.heappush(self._lines.setdefault(pacer, []), (priority, next(self._number), future))
        self._admit(pacer)
        try:
            await future
        except asyncio.CancelledError:
            if future.done() and not future.cancelled():
                self.left(pacer)  # it was given in the moment of the cancellation
            else:
                self._admit(pacer)
            raise
        return Place(self, pacer)

    def left(self, pacer: Pacer) -> None:
        """A place is free again."""
        self._taken -= 1
        self._release(pacer)
        self._admit(pacer)

    def _release(self, pacer: Pacer) -> None:
        self._taken_of[pacer] -= 1
        if not self._taken_of[pacer]:
            del self._taken_of[pacer]

    def _admit(self, pacer: Pacer) -> None:
        line = self._lines.get(pacer, [])
        while line and self._taken_of.get(pacer, 0) < pacer.most_in_flight:
            priority, number, future = heapq.heappop(line)
            if not future.done():
                self._taken_of[pacer] = self._taken_of.get(pacer, 0) + 1
                heapq.heappush(self._ready, (priority, number, pacer, future))
        if not line:
            self._lines.pop(pacer, None)
        while self._ready and self._taken < self._most:
            _, _, owner, future = heapq.heappop(self._ready)
            if future.done():  # cancelled while it waited
                self._release(owner)
                if owner is not pacer:
                    self._admit(owner)
            else:
                self._taken += 1
                future.set_result(None)


class Pacers:
    """The process's pacers: one for each account (or way in, where the account is not known), region and operation.

    Args:
        rps: the user's ``--rps``; None finds the limit.
        learned: what was found in earlier sweeps.
    """

    def __init__(self, rps: float | None = None, *, learned: LearnedRates | None = None) -> None:
        self._rps = rps
        self._learned = learned
        self._pacers: dict[tuple[str | Access, str, str], Pacer] = {}

    def pacer(self, target: Target, operation: str) -> Pacer:
        """The pacer of an operation at a target, the same for everyone who asks."""
        key = (target.account_id or target.access, target.region, operation)
        pacer = self._pacers.get(key)
        if pacer is None:
            pacer = self._pacers[key] = Pacer(self._rate(*key))
        return pacer

    def save(self) -> None:
        """Keep what was found for the next sweep. Never fails: losing it only costs that sweep a moment."""
        found = {
            (account, region, operation): rps
            for (account, region, operation), pacer in self._pacers.items()
            if isinstance(account, str) and (rps := pacer.learned()) is not None
        }
        if self._learned is not None:
            self._learned.save(found)

    def _rate(self, account: str | Access, region: str, operation: str) -> Rate:
        if self._rps is not None:
            return FixedRate(self._rps)
        if isinstance(account, str) and self._learned is not None:
            return AdaptiveRate(start_rps=self._learned.get(account, region, operation))
        return AdaptiveRate()
