"""Who may call when: a pacer for each operation of a target, and one cap on calls in flight for the whole process.

All on the event loop's own clock, so that a simulation with a virtual one runs the same code.
"""

import asyncio
import math
from collections import Counter, deque
from dataclasses import dataclass
from enum import IntEnum

from batch_cancel.core.adaptive_rate import AdaptiveRate
from batch_cancel.core.rate import Feedback, FixedRate, Rate
from batch_cancel.core.task_run import Access, Target
from batch_cancel.glue.learned import LearnedRates

OVERDUE_SECONDS = 1.0
"""The least time without an answer after which a request is taken to hang."""
LOOK_SECONDS = 0.25


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
        self._round_trip: float | None = None
        self._deviation = 0.0

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
        return math.ceil(1.5 * self.rps * self._slow_round_trip) + 2

    @property
    def overdue_seconds(self) -> float:
        """A request that has been out so long is not slow, it hangs."""
        return max(OVERDUE_SECONDS, 4.0 * self._slow_round_trip)

    @property
    def _slow_round_trip(self) -> float:
        # Nothing measured yet: three seconds, so that a slow service does not hold back its own measurement. Otherwise
        # the 95th percentile, which lies about two and a half mean deviations above the mean.
        return 3.0 if self._round_trip is None else self._round_trip + 2.5 * self._deviation

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
        self._arm(now)
        try:
            return await future
        except asyncio.CancelledError:
            if future.done() and not future.cancelled():
                self._give(loop.time())  # the turn came in the very moment of the cancellation
            raise

    def answered(self, *, sent_at: float, feedback: Feedback, retry_after_seconds: float | None = None) -> None:
        """Tell how the request that left at ``sent_at`` was answered, just now."""
        now = asyncio.get_running_loop().time()
        if feedback is not Feedback.SILENT:  # a time-out tells of our patience, not of the service's speed
            self._measure(now - sent_at)
        self._rate.answered(sent_at=sent_at, now=now, feedback=feedback)
        if retry_after_seconds is not None:
            self.pause_until(now + retry_after_seconds)
        self._arm(now)

    def pause_until(self, when: float) -> None:
        """Send nothing before ``when``, on the loop's clock."""
        self._paused_until = max(self._paused_until, when)

    def _measure(self, round_trip: float) -> None:
        if self._round_trip is None:
            self._round_trip, self._deviation = round_trip, 0.5 * round_trip
        self._deviation += 0.05 * (abs(round_trip - self._round_trip) - self._deviation)
        self._round_trip += 0.05 * (round_trip - self._round_trip)

    def _due(self, now: float) -> float:
        return max(self._rate.due(now), self._paused_until)

    def _arm(self, now: float) -> None:
        """Have the timer ring in time for the next turn; one that rings early finds out and is set again."""
        if not self._waiting:
            return
        due = self._due(now)
        if self._timer is not None:
            if self._timer.when() <= due:
                return
            self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_at(due, self._ring)

    def _ring(self) -> None:
        self._timer = None
        now = asyncio.get_running_loop().time()
        while self._skip_cancelled() and self._due(now) <= now:
            self._give(self._rate.reserve(now))
        self._arm(now)

    def _skip_cancelled(self) -> bool:
        """Whether anybody still waits."""
        while self._waiting and self._waiting[0].done():
            self._waiting.popleft()
        return bool(self._waiting)

    def _give(self, turn: float) -> None:
        if self._skip_cancelled():
            self._waiting.popleft().set_result(turn)


@dataclass(slots=True, eq=False)
class Place:
    """A place in flight, held from before the request leaves until it is answered.

    Attributes:
        counted: against the pacer's own cap; no longer so once the request hangs.
    """

    in_flight: "InFlight"
    pacer: Pacer
    counted: bool = True

    def sent(self, at: float) -> None:
        """The request left, on the loop's clock."""
        self.in_flight.sent(self, at)

    def leave(self) -> None:
        """Give the place back."""
        self.in_flight.left(self)


@dataclass(slots=True, eq=False)
class _Asking:
    """Somebody who asked for a place.

    Attributes:
        admitted: past the pacer's own cap, and counted there until the place is left or no longer wanted.
    """

    given: asyncio.Future[None]
    admitted: bool = False


class InFlight:
    """How many calls may be under way in the whole process, and for each pacer what Little's law asks for.

    A call first waits in its pacer's line, so that one that waits for a slow service keeps nobody from a quick one, and
    then for a place; there, cancelling goes before reading, except that every eighth place goes to a read that waits:
    without discovery there would soon be nothing to cancel.

    Little's law counts what is under way, not what hangs: a request without an answer for far longer than answers take
    keeps its place in the process, and gives up the one among its pacer's, or a few of them would stop the rest.
    """

    READ_EVERY = 8

    def __init__(self, most: int) -> None:
        self._most = most
        self._taken = 0
        self._taken_of: Counter[Pacer] = Counter()
        self._lines: dict[Pacer, dict[Priority, deque[_Asking]]] = {}
        self._ready: dict[Priority, deque[_Asking]] = {priority: deque() for priority in Priority}
        self._cancels_since_read = 0
        self._out: dict[Pacer, dict[Place, float]] = {}
        self._watched: set[Pacer] = set()

    async def enter(self, pacer: Pacer, priority: Priority) -> Place:
        """Wait for a place."""
        if self._free(pacer):
            self._taken += 1
            self._taken_of[pacer] += 1
            return Place(self, pacer)
        asking = _Asking(asyncio.get_running_loop().create_future())
        lines = self._lines.setdefault(pacer, {priority: deque() for priority in Priority})
        lines[priority].append(asking)
        self._admit(pacer)
        self._watch(pacer)
        try:
            await asking.given
        except asyncio.CancelledError:
            if not asking.given.cancelled():
                self.left(Place(self, pacer))  # it was given in the very moment of the cancellation
            elif asking.admitted:
                self._release(pacer)
            raise
        return Place(self, pacer)

    def sent(self, place: Place, at: float) -> None:
        """The request of a place left."""
        self._out.setdefault(place.pacer, {})[place] = at

    def left(self, place: Place) -> None:
        """A place is free again."""
        self._taken -= 1
        if (out := self._out.get(place.pacer)) is not None:
            out.pop(place, None)
            if not out:
                del self._out[place.pacer]
        if place.counted:
            self._release(place.pacer)
        else:
            self._admit(place.pacer)

    def _watch(self, pacer: Pacer) -> None:
        """While somebody waits for the pacer's own cap, look now and then for what hangs."""
        if pacer in self._lines and pacer not in self._watched:
            self._watched.add(pacer)
            asyncio.get_running_loop().call_later(LOOK_SECONDS, self._look_for_overdue, pacer)

    def _look_for_overdue(self, pacer: Pacer) -> None:
        self._watched.discard(pacer)
        latest = asyncio.get_running_loop().time() - pacer.overdue_seconds
        hanging = [place for place, at in self._out.get(pacer, {}).items() if at <= latest and place.counted]
        for place in hanging:
            place.counted = False
            self._release(pacer)
        self._watch(pacer)

    def _free(self, pacer: Pacer) -> bool:
        """Whether a place can be had without passing anybody over."""
        # Who is ready waits only while all places are taken.
        return self._taken < self._most and pacer not in self._lines and self._taken_of[pacer] < pacer.most_in_flight

    def _release(self, pacer: Pacer) -> None:
        self._taken_of[pacer] -= 1
        if not self._taken_of[pacer]:
            del self._taken_of[pacer]
        self._admit(pacer)

    def _admit(self, pacer: Pacer) -> None:
        """Let the pacer's own line forward as far as its cap, and then whoever is ready as far as the process's."""
        if lines := self._lines.get(pacer):
            for priority, line in lines.items():
                while self._taken_of[pacer] < pacer.most_in_flight and (asking := _first(line)):
                    asking.admitted = True
                    self._taken_of[pacer] += 1
                    self._ready[priority].append(asking)
            if not any(lines.values()):
                del self._lines[pacer]
        while self._taken < self._most and (asking := self._next_ready()):
            self._taken += 1
            asking.given.set_result(None)

    def _next_ready(self) -> _Asking | None:
        cancels, reads = self._ready[Priority.CANCEL], self._ready[Priority.READ]
        if self._cancels_since_read >= self.READ_EVERY - 1 and (read := _first(reads)):
            self._cancels_since_read = 0
            return read
        if cancel := _first(cancels):
            # Only while a read waits: who comes later has not been passed over.
            self._cancels_since_read = self._cancels_since_read + 1 if reads else 0
            return cancel
        return _first(reads)


def _first(line: deque[_Asking]) -> _Asking | None:
    """Take the first who still wants a place; who was cancelled takes care of what he was counted for himself."""
    while line:
        asking = line.popleft()
        if not asking.given.done():
            return asking
    return None


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
            (_name(account), region, operation): rps
            for (account, region, operation), pacer in self._pacers.items()
            if (rps := pacer.learned()) is not None
        }
        if self._learned is not None:
            self._learned.save(found)

    def _rate(self, account: str | Access, region: str, operation: str) -> Rate:
        if self._rps is not None:
            return FixedRate(self._rps)
        learned = self._learned.get(_name(account), region, operation) if self._learned is not None else None
        return AdaptiveRate(start_rps=learned)


def _name(account: str | Access) -> str:
    """What a limiter is remembered by: the account, or the way in while nobody has had time to ask whose it is."""
    return account if isinstance(account, str) else account.profile or "default"
