"""A rate that finds the service's limit, stays at it, and follows it when it moves.

The limit is a token bucket of unknown rate and burst for each account, region and operation, shared with other clients.
Nothing here knows a clock: every method takes the time in seconds, on any one monotonic clock.
"""

import math
from collections import deque
from enum import Enum

from batch_cancel.core.chance import Chance, Volley
from batch_cancel.core.rate import Feedback, Schedule

LEAST_RPS = 0.2
"""However it goes, a request every five seconds still looks whether the service lets anything through."""
FIRST_RPS = 10.0
"""Where a start begins of which nothing is known."""


class _Phase(Enum):
    """What the adaptive rate is doing."""

    RAMP = "ramp"
    """Nothing was throttled yet, or nothing that meant anything: faster and faster."""
    JUDGE = "judge"
    """Something was throttled: is it the limit, or was it chance?"""
    TRACK = "track"
    """The limit is known: stay at it, and follow it."""


class _SentRates:
    """At what rate a request left: answers come a round trip later, and speak of the rate of then."""

    MOST = 200
    """Changes that are remembered: more than come in a round trip, even in the ramp."""

    def __init__(self, rps: float) -> None:
        self._changes: deque[tuple[float, float, bool]] = deque([(-math.inf, rps, True)], maxlen=self.MOST)

    def changed(self, now: float, rps: float, *, low: bool) -> None:
        """Note a change, unless it is so small that nothing depends on it."""
        _, last, was_low = self._changes[-1]
        if low is not was_low or not 0.98 * last < rps < 1.02 * last:
            self._changes.append((now, rps, low))

    def at(self, sent_at: float) -> tuple[float, bool]:
        """The rate of that time, and whether it was the lower half of a probe."""
        for since, rps, low in reversed(self._changes):
            if since <= sent_at:
                return rps, low
        _, rps, low = self._changes[0]
        return rps, low


class _Search:
    """Where the limit may be once something was throttled: how likely each of a ladder of limits is.

    While the bucket is empty a request at rate r is let through with probability L/r, so each answer speaks for some
    rungs and against others. The rungs at the rate of the first throttle and above stand for chance as well.
    """

    RUNGS = tuple(2.0 ** (step / 4.0) for step in range(-32, 3))
    """Times the rate of the first throttle. On loopback the start is at a hundredfold before anything is heard."""
    HIGHER_LIKELIER = 0.5
    """The power of a rung that it weighs before anything is known: a few throttles in a row are no hundredth yet."""
    CHANCE = 0.02
    """The share that is throttled below the limit. Not zero, or one throttle would rule out whatever lies above."""

    def __init__(self, peak_rps: float) -> None:
        self._logarithms = [math.log(peak_rps * rung) for rung in self.RUNGS]
        self._weights = [math.pow(rung, self.HIGHER_LIKELIER) for rung in self.RUNGS]

    def saw(self, *, throttled: bool, sent_rps: float) -> None:
        """Take in one answer, to a request that left at this rate."""
        for index, logarithm in enumerate(self._logarithms):
            share = max(self.CHANCE, 1.0 - math.exp(logarithm) / sent_rps)
            self._weights[index] *= share if throttled else 1.0 - share
        total = math.fsum(self._weights)
        self._weights = [weight / total for weight in self._weights]

    @property
    def limit_rps(self) -> float:
        """What the limit hardly exceeds: the mean of its logarithm and one deviation more.

        To begin too high costs a throttle or two, to begin too low costs the seconds of the way up.
        """
        pairs = list(zip(self._weights, self._logarithms, strict=True))
        mean = math.fsum(weight * logarithm for weight, logarithm in pairs)
        variance = math.fsum(weight * (logarithm - mean) ** 2 for weight, logarithm in pairs)
        return math.exp(mean + math.sqrt(variance))


class _WayBack:
    """When to start once more, because nothing was let through for a while and now something is.

    After an outage growth would take minutes for what a start finds out in seconds.
    """

    FLOOR_RPS = 1.5 * LEAST_RPS
    """Here no limit was measured: one accepted request is enough for a start, and it begins higher."""
    FIRST_PART = 0.15
    """Of the best rate there ever was, it begins at this part."""
    WAIT_SECONDS = 5.0
    """From one start to the next: hardly anything is let through meanwhile, and no more can be lost."""
    PROVED = 20
    """So many accepted requests after a start prove that it was right."""

    def __init__(self) -> None:
        self._again_at = 0.0

    def begin(self, now: float, rps: float) -> bool:
        """Begin now, after an accepted request, if it is time to; whether it is."""
        if rps > self.FLOOR_RPS or now < self._again_at:
            return False
        self._again_at = now + self.WAIT_SECONDS
        return True

    def first_rps(self, rps: float, *, highest_rps: float) -> float:
        """Where a start begins that is taken at this rate."""
        return max(rps, min(FIRST_RPS, self.FIRST_PART * highest_rps))

    def reached_rps(self, rps: float, *, from_rps: float, accepted: int) -> float:
        """The limit, where a start that was taken at ``from_rps`` ends at this rate: half of it, as far as proved."""
        half = max(from_rps, 0.5 * rps)
        reached: float = from_rps * (half / from_rps) ** min(1.0, accepted / self.PROVED)  # a power is Any to mypy
        return reached


class _Push:
    """When to try for much more at once, because growth is too slow for what there may be.

    Two occasions: the limit fell far, and may be back where it was. And who comes where others use the limit up finds
    next to nothing, and grows from there by a few percent a minute. A push tells: a limit that is as low as it seems
    throttles it within a few requests, and it was in vain; where others have ten times as much, it is theirs that are
    throttled, and they go slower.
    """

    FALLEN = 0.15
    """Of the best rate there ever was: below this part of it the limit fell far."""
    SLOW_RPS = 4.0
    """Faster callers grow in time without."""
    MOST_OF_PEAK = 0.5
    """Nor is there anything to win for slow ones whose start came to no more than this part above."""
    IN_A_ROW = 8
    """So many accepted requests come before it."""
    CALM = 0.05
    """And no surprise larger than this: a limit that is just falling is not pushed."""
    DOUBLINGS = 0.2
    """An accepted request's, at most: it goes up less steeply than a start, to cost less."""
    BEYOND = 3.5
    """So many accepted requests more than the limit of before lets through show that it was not in vain: a bucket has
    saved up one or two while the rate was just below."""
    HELD = 0.5
    """Then this part of the rate that was reached is held."""
    WAIT_SECONDS = 30.0
    """After one in vain, and after each more twice as long: each costs a throttle or two."""

    def __init__(self) -> None:
        self._next_at = 0.0
        self._wait_seconds = self.WAIT_SECONDS

    def begin(
        self, now: float, rps: float, *, highest_rps: float, peak_rps: float, surprise: float, in_a_row: int
    ) -> bool:
        """Begin now, if it is time to; whether it is."""
        fallen = rps < self.FALLEN * highest_rps
        slow = rps < min(self.SLOW_RPS, self.MOST_OF_PEAK * peak_rps)
        calm = in_a_row >= self.IN_A_ROW and abs(surprise) < self.CALM
        if not (fallen or slow) or not calm or now <= self._next_at:
            return False
        self._next_at = now + self._wait_seconds
        self._wait_seconds *= 2.0
        return True

    def reached_rps(self, sent_rps: float, *, from_rps: float, beyond: float, now: float) -> float:
        """What to go on with, where one of this rate was throttled: ``from_rps`` if it was in vain."""
        if beyond < self.BEYOND or self.HELD * sent_rps <= from_rps:
            return from_rps
        self._next_at, self._wait_seconds = now, self.WAIT_SECONDS
        return self.HELD * sent_rps


class AdaptiveRate:
    """Finds the service's limit, stays at it, and follows it when it moves.

    Three thoughts. (1) Above the limit L a request at rate r is throttled with probability 1 - L/r; each answer that
    was more, or less, throttled than that moves the belief in L, by so much that throttles balance at a small share of
    all. The expectation is that of the rate at which the request *left*, so that what is still in flight after a cut
    does not cut again. (2) A faster caller aims at a smaller share: hence several on one key drift towards equal parts.
    (3) Throttles that come however slow one goes are found by probing (:class:`Chance`), told from those that others
    bring about by a few requests at once (:class:`Volley`), and do not count.

    The start doubles every few round trips and so overshoots by a fixed small part of the bucket, whatever its size.
    After an outage there is another start (:class:`_WayBack`), and where the limit looks far too low a try for more
    (:class:`_Push`).

    Args:
        start_rps: where to begin; the rate learned last time.
        most_rps: never faster than this.
    """

    FIRST_IN_FLIGHT = 2.0
    """From the first round trip on the start goes at least as fast as keeps so many in flight: it costs no more."""
    DOUBLING_ROUND_TRIPS = 5.0
    CAREFUL_ROUND_TRIPS = 7.0
    CAREFUL_RPS = 50.0
    """Below it each throttle is a larger part of the job, and time is a smaller one."""
    QUICKEST_DOUBLING_SECONDS, SLOWEST_DOUBLING_SECONDS = 0.03, 1.5
    """With round trips of a few milliseconds a quicker start is far beyond a small bucket before that is empty."""
    JUDGED_AFTER = 12
    """Answers from the first throttle on: where 2 % are throttled by chance, three in twelve are so once in fifty."""
    LIMIT_HITS = 3
    FAR_BELOW = 0.15
    """A limit below this part of the start's rate: what was accepted came out of the bucket, and bounds the limit."""
    SWING = 0.015
    """How far a probe goes above and below, beside the share that is aimed at."""
    OWN_SHARE = 0.0135
    """The share of throttles that 5/s and less aim at where none come by chance; faster callers aim lower."""
    MOST_AIM = 0.025
    """Nor is a larger share aimed at because of chance: if it was none after all, that drives others up as well."""
    OF_LOW = 0.8
    """Unless this part of what the lower half sees is larger."""
    MOST_CHANCE_SLOW = 0.1
    SLOW = 0.3
    """Unless going at this part of the best rate there was did not help either: then it is not ours to mend."""
    GROWTH_A_ROUND_TRIP = 0.03
    """As long as nothing was heard of the last step."""
    CALM_SECONDS = 1.5
    """A service that counts by the second is silent for one; a silence longer than that may be a higher limit."""
    CALM_RPS_A_SECOND = 50.0
    """And the faster, the longer: at 500/s it takes ten seconds, since a second or two below such a window's count are
    no news there, and the answers are many enough to make for haste without."""
    LONG_WAY_UP = 4.0
    """So many times the last rate that was known to be near the limit: what comes after such a silence is a new limit,
    and it is searched as at the start. Shorter ways are common where several call, and there a search costs shares."""
    ABOVE_PROVEN = 1.2
    """From here on times the last rate that was known to be near the limit, each request that is not throttled speaks
    against that limit, and the more the faster it left."""
    UNSURE, SURER = 0.15, 0.9
    """Right after a start that was searched the limit is known by a third only: so large a share of throttles is what
    was to be expected, and each answer makes it less. Others who have to make room for a start throttle it, too."""
    SETTLED = 1.1
    """Times the last rate that was known to be near the limit: whoever is further up stands back only down to it."""
    CUT_A_SECOND = 3.0
    """In powers of e: a service that counts by the second throttles a whole half second, and does not mean it."""

    def __init__(self, *, start_rps: float | None = None, most_rps: float = math.inf) -> None:
        self.rps = min(FIRST_RPS if start_rps is None else max(start_rps, LEAST_RPS), most_rps)
        self.limit_found = False
        self._most_rps = most_rps
        self._limit_rps = self.rps
        self._phase = _Phase.RAMP
        self._schedule = Schedule()
        self._sent = _SentRates(self.rps)
        self._chance = Chance()
        self._volley = Volley()
        self._round_trip: float | None = None
        self._answers = 0
        # The share of requests that left later than the schedule had them: whoever sends less than he may learns
        # nothing from its being accepted.
        self._idle = 0.0
        # Ramp and judgement.
        self._began_at = self._grown_at = 0.0
        self._accepted = 0
        self._peak_rps = self.rps
        self._suspect_at = self._cut_at = 0.0
        self._search = _Search(self.rps)
        self._seen = self._hits = 0
        # Tracking.
        self._aim = self._own_share()
        self._low = True
        self._swing_at = -math.inf
        self._best_rps = self._highest_rps = 0.0
        self._slow = False
        self._surprise = 0.0
        self._unsure = 0.0
        self._missing = 0.0
        self._proven_rps = math.inf
        self._throttled_at = 0.0
        self._calm = 0
        self._ceiling_rps = 0.0
        self._cut_in_a_row = True  # the last throttle followed on another, or on a way up
        self._room = 1.0
        self._stepped_at = 0.0
        self._way_back = _WayBack()
        self._push = _Push()
        self._pushing = False
        self._up_since = self._beyond = 0.0
        self._from_rps: float | None = None  # where the way back or the push began, while it is under way

    def due(self, now: float) -> float:
        """See :meth:`Rate.due`."""
        return self._schedule.due(now)

    def reserve(self, now: float) -> float:
        """See :meth:`Rate.reserve`."""
        if self._phase is _Phase.TRACK and now >= self._swing_at:
            self._low = not self._low
            # Long enough to move the bucket by more than a token, and to be seen through the round trips' jitter.
            self._swing_at = now + max(1.0, 2.0 * self._trip, 80.0 / self._limit_rps)
            self._apply(now)
        slack = min(0.05, 8.0 / self.rps)
        self._idle += 0.12 * (self._schedule.late(now, slack) - self._idle)
        return self._schedule.reserve(now, self._volley.pace(now, self.rps), slack)

    def answered(self, *, sent_at: float, now: float, feedback: Feedback) -> None:
        """See :meth:`Rate.answered`."""
        if feedback is Feedback.SILENT:
            return
        throttled = feedback is Feedback.THROTTLED
        trip = max(now - sent_at, 0.001)
        if self._round_trip is None:
            self._round_trip = trip
            self._began_at, self._grown_at = sent_at, now
        self._answers += 1
        self._round_trip += max(0.1, 1.0 / self._answers) * (trip - self._round_trip)
        if self._phase is _Phase.RAMP:
            self._ramp(sent_at, now, throttled=throttled)
        elif self._phase is _Phase.JUDGE:
            self._judge(sent_at, now, throttled=throttled)
        else:
            self._track(sent_at, now, throttled=throttled)
        self._apply(now)

    def learned(self) -> float | None:
        """See :meth:`Rate.learned`."""
        return self._limit_rps if self.limit_found and self._limit_rps > _WayBack.FLOOR_RPS else None

    @property
    def _trip(self) -> float:
        return self._round_trip or 0.1

    def _apply(self, now: float) -> None:
        self._limit_rps = min(max(self._limit_rps, LEAST_RPS), self._most_rps)
        rps = self._limit_rps
        if self._phase is _Phase.TRACK:
            self._best_rps = max(self._best_rps, min(self._limit_rps, self._proven_rps))
            self._highest_rps = max(self._highest_rps, self._best_rps)
            self._slow = self._limit_rps < self.SLOW * self._best_rps
            if self._slow:
                self._aim = self._own_share() + min(self._chance.suspected, self.MOST_CHANCE_SLOW)
            else:
                own = self._own_share()
                most = max(self.MOST_AIM - own, self.OF_LOW * self._chance.low)
                self._aim = own + min(self._chance_share(), most)
            # Where chance throttles too, only a wider swing tells it from the limit in time.
            swing = self.SWING + self._aim + self._chance.suspected
            rps *= 1.0 - swing if self._low else 1.0 + swing
        self.rps = min(max(rps, LEAST_RPS), self._most_rps)
        self._sent.changed(now, self.rps, low=self._low)

    def _ramp(self, sent_at: float, now: float, *, throttled: bool) -> None:
        if throttled:
            self._end_of_the_way_up(sent_at, now)
            return
        if self._pushing and self._from_rps is not None:
            if sent_at < self._up_since:
                return  # it left before the push, and proves nothing of it
            sent_rps, _ = self._sent.at(sent_at)
            self._beyond += max(0.0, 1.0 - self._from_rps / sent_rps)
        self._accepted += 1
        self._chance.saw(throttled=False, low=True, rps=self._limit_rps)
        if self._idle < 0.5:
            trips = self.CAREFUL_ROUND_TRIPS if self._limit_rps < self.CAREFUL_RPS else self.DOUBLING_ROUND_TRIPS
            slowest = math.inf if self._pushing else self.SLOWEST_DOUBLING_SECONDS
            doubling = min(max(trips * self._trip, self.QUICKEST_DOUBLING_SECONDS), slowest)
            most = 0.5 if self._from_rps is None else _Push.DOUBLINGS if self._pushing else 1.0
            self._limit_rps *= 2.0 ** min(most, (now - self._grown_at) / doubling)
        if self._from_rps is None:
            # One answer may have been quick by luck.
            in_flight = min(self.FIRST_IN_FLIGHT, 0.5 + 0.5 * self._accepted)
            self._limit_rps = max(self._limit_rps, in_flight / self._trip)
        else:
            self._schedule.hasten(now + 1.0 / self._limit_rps)
        self._grown_at = now

    def _end_of_the_way_up(self, sent_at: float, now: float) -> None:
        """A throttle on it; what it means depends on why the way was taken."""
        from_rps = self._from_rps
        if from_rps is None:
            self._suspect(sent_at, now)
        elif self._pushing:
            sent_rps, _ = self._sent.at(sent_at)
            reached = self._push.reached_rps(sent_rps, from_rps=from_rps, beyond=self._beyond, now=now)
            self._limit_rps = reached
            if reached > from_rps:
                self._found(now, ceiling_rps=reached)
            else:
                self._found(now, ceiling_rps=self._ceiling_rps, surprise=0.0)
        else:
            reached = self._way_back.reached_rps(self._limit_rps, from_rps=from_rps, accepted=self._accepted)
            self._limit_rps = reached
            self._found(now, ceiling_rps=reached)

    def _suspect(self, sent_at: float, now: float) -> None:
        """The first throttle on a way up: go slower until it is known what it means."""
        self._phase = _Phase.JUDGE
        self._peak_rps = self._limit_rps
        self._limit_rps *= 0.4
        self._suspect_at = sent_at
        self._cut_at = now
        self._seen = self._hits = 1
        self._search = _Search(self._peak_rps)
        self._search.saw(throttled=True, sent_rps=self._sent.at(sent_at)[0])

    def _judge(self, sent_at: float, now: float, *, throttled: bool) -> None:
        if throttled:
            self._suspect_at = min(self._suspect_at, sent_at)
        elif sent_at < self._suspect_at:
            return
        self._accepted += not throttled
        self._seen += 1
        self._hits += throttled
        self._search.saw(throttled=throttled, sent_rps=self._sent.at(sent_at)[0])
        if self._hits >= self.LIMIT_HITS:
            self._limit_rps = self._searched(now)
            if sent_at >= self._cut_at:  # all that left at the start's rates has been heard
                self._found(now, ceiling_rps=self._peak_rps, unsure=self.UNSURE)
        elif self._seen >= self.JUDGED_AFTER:
            for _ in range(self._hits):
                self._chance.saw(throttled=True, low=True, rps=self._limit_rps)
            self._phase = _Phase.RAMP
            self._limit_rps = self._peak_rps
            self._grown_at = now

    def _searched(self, now: float) -> float:
        limit_rps = self._search.limit_rps
        if self.limit_found or limit_rps > self.FAR_BELOW * self._peak_rps:
            return limit_rps
        # At the start all that was accepted came from the bucket's first filling and the limit times the time: a bound
        # on the limit, and about twice of it if the filling was half. In less than a moment it was nearly all filling
        # (round trips of a millisecond get that far).
        return min(limit_rps, 0.45 * self._accepted / max(now - self._began_at, 0.3))

    def _go_up(self, now: float, first_rps: float, *, pushing: bool) -> None:
        """From where it is up, much as at the start; what is throttled on the way ends it."""
        self._phase = _Phase.RAMP
        self._pushing = pushing
        self._from_rps = self._limit_rps
        self._limit_rps = first_rps
        self._schedule.hasten(now + 1.0 / self._limit_rps)
        if not pushing:
            self._best_rps = 0.0  # what comes next may be the limit for good, and is no slow one then
        self._accepted = 0
        self._beyond = 0.0
        self._up_since = self._grown_at = now

    def _found(self, now: float, *, ceiling_rps: float, surprise: float = 0.3, unsure: float = 0.0) -> None:
        """Stay at the limit from now on. It is mostly known by a third: the next answers count for much."""
        self._phase = _Phase.TRACK
        self._from_rps = None
        self._pushing = False
        self.limit_found = True
        self._ceiling_rps = ceiling_rps
        self._cut_in_a_row = True
        self._surprise, self._unsure = surprise, unsure
        self._missing = 0.0
        self._stepped_at = self._throttled_at = now
        self._volley.started(now, max(self._limit_rps, LEAST_RPS))

    def _track(self, sent_at: float, now: float, *, throttled: bool) -> None:
        if self._volley.saw(throttled=throttled, sent_at=sent_at, now=now, rps=self._limit_rps):
            return
        sent_rps, low = self._sent.at(sent_at)
        aim = self._aim
        expected = max(aim, 1.0 - 1.06 * self._limit_rps / sent_rps, self._unsure)
        self._unsure *= self.SURER
        alone = self._calm >= 8
        if throttled and alone and self._in_doubt():
            self._ask_at_once(now)
        self._calm = 0 if throttled else self._calm + 1
        # One that follows on another is the limit's, unless we are far below all that it was.
        if expected == aim and self._surprise < 0.05 and (alone or not throttled or self._slow):
            self._chance.saw(throttled=throttled, low=low, rps=self._limit_rps)
        # Half a second of answers; at low rates as few as can tell a halving from bad luck; and never fewer than are
        # still to come from before the last step.
        memory = max(12.0, 0.4 * self._limit_rps, self._limit_rps * self._trip)
        surprise = throttled - expected
        step = -(0.5 + 7.0 * abs(self._surprise)) / memory * surprise
        self._surprise += (surprise - self._surprise) / memory
        self._room = min(1.0, self._room + self.CUT_A_SECOND * (now - self._stepped_at))
        self._stepped_at = now
        calm = now - self._throttled_at > max(self.CALM_SECONDS, self._limit_rps / self.CALM_RPS_A_SECOND)
        if throttled and calm and self._limit_rps > self.LONG_WAY_UP * self._proven_rps:
            self._suspect(sent_at, now)
            return
        if throttled:
            self._throttled_at = now
            self._missing = max(0.0, 0.5 * self._missing - 0.5)
            self._cut_in_a_row = not alone
            if alone:
                self._lower_ceiling(sent_rps, now)
            if calm and self._proven_rps < self._limit_rps:
                # The end of a quick way up: half of it back at once.
                step = min(step, 0.5 * math.log(self._proven_rps / self._limit_rps))
            step = max(step, -self._room)
            self._room += min(step, 0.0)
        elif self._idle < 0.5:
            unseen = max(aim, 1.0 - self.ABOVE_PROVEN * self._proven_rps / sent_rps) if calm else aim
            step = self._growth(step, unseen, memory, pressed=expected > aim, calm=calm)
        else:
            step = 0.0
        self._limit_rps *= math.exp(step)
        if not throttled:
            self._go_up_if_due(now)

    def _in_doubt(self) -> bool:
        """Whether some throttles may be chance, and nothing else is going on."""
        settled = self._surprise < 0.05 and not self._slow and self._limit_rps < self.SETTLED * self._proven_rps
        return settled and self._chance.low > Chance.SUSPICIOUS

    def _ask_at_once(self, now: float) -> None:
        most = self._most_rps - self._limit_rps  # or the user's own maximum would be exceeded for a second
        if self._volley.begin(now, self._limit_rps, self._trip, most=most):
            self._schedule.hasten(now)

    def _chance_share(self) -> float:
        """The share of requests that are throttled by chance, as far as is known."""
        if self._trip > Volley.LONGEST_TRIP_SECONDS:
            return self._chance.suspected
        return self._volley.chance * self._chance.all

    def _go_up_if_due(self, now: float) -> None:
        rps = self._limit_rps
        if self._way_back.begin(now, rps):
            self._go_up(now, self._way_back.first_rps(rps, highest_rps=self._highest_rps), pushing=False)
        elif self._push.begin(
            now,
            rps,
            highest_rps=self._highest_rps,
            peak_rps=self._peak_rps,
            surprise=self._surprise,
            in_a_row=self._calm,
        ):
            self._go_up(now, rps, pushing=True)

    def _growth(self, step: float, unseen: float, memory: float, *, pressed: bool, calm: bool) -> float:
        """What an accepted answer adds: ``step``, and more the longer throttles that were aimed at have not come.

        Many times as much where time has passed without one, too: then the limit is probably another than it was. The
        sixth power: where one is missing it adds little, since that is luck; where three are, about all that it may.

        After a cut of several in a row, which went too deep, the way back is quick, as far as where it came from. After
        one alone it would only bring the next one sooner, to who has least as to who has most.

        Args:
            unseen: how likely it was that this request is throttled, if the limit is still where it was.
        """
        self._missing += unseen
        if self._missing < 1.0:
            self._proven_rps = self._limit_rps
        if not pressed:
            most = self.GROWTH_A_ROUND_TRIP / (max(self._trip, 0.01) * self._limit_rps)
            haste = (self._missing / 1.15) ** 6 if calm else (self._missing / 1.5) ** 3
            step = min(step * (1.0 + haste), most)
        if self._cut_in_a_row and self._calm > 8 and self._ceiling_rps > self._limit_rps:
            step += 0.1 / memory * math.log(self._ceiling_rps / self._limit_rps)
        return min(step, 0.2)

    def _lower_ceiling(self, sent_rps: float, now: float) -> None:
        """One throttle out of nowhere: the limit, as likely as throttles of that kind are the limit's."""
        if self._ceiling_rps > sent_rps:
            own, chance = self._own_share(), min(self._chance.low, self._chance_share())
            self._ceiling_rps += own / (own + chance) * (sent_rps - self._ceiling_rps)

    def _own_share(self) -> float:
        share: float = self.OWN_SHARE * (5.0 / self._limit_rps) ** 0.55  # mypy: a float to a power is Any
        return min(max(share, 0.001), self.OWN_SHARE)
