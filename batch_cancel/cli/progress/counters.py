"""What happened so far, in numbers: every event adds to them in about a microsecond, whoever draws reads them."""

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from batch_cancel.core.cost import dpu
from batch_cancel.core.errors import ErrorKind
from batch_cancel.core.events import (
    Accepted,
    Asked,
    Awaited,
    CallAnswered,
    Event,
    ManifestRead,
    OutcomeReached,
    Phase,
    PhaseBegan,
    PhaseEnded,
    PlaceFailed,
    RateChanged,
    Resumed,
    Retrying,
    RunsFound,
    Stopping,
    SweepListed,
    SweepStarted,
    TargetFailed,
    TargetGivenUp,
    TargetIdentified,
    TargetOpened,
    TargetRecovered,
    ToAsk,
    TransformListed,
    TransformsDescribed,
    TransformsFound,
)
from batch_cancel.core.outcome import Outcome
from batch_cancel.core.task_run import Access, Target

CANCEL = "CancelMLTaskRun"
NEVER_ASKED = (Outcome.EXCLUDED, Outcome.WOULD_CANCEL, Outcome.NOT_ATTEMPTED)
Place = tuple[Access, str]
"""A target: the way in and the region. (Its account may become known on the way.)"""
TransformPlace = tuple[Access, str, str]
"""A transform: the same, and its id."""


@dataclass(slots=True)
class PhaseState:
    """A phase that began."""

    total: int | None = None
    ended: bool = False


@dataclass(frozen=True, slots=True)
class Pace:
    """What the limiter of one target's cancel calls allows."""

    rps: float
    limit_found: bool


@dataclass(frozen=True, slots=True)
class Wait:
    """Runs of one transform that are waited for; the times are the clock's."""

    runs: int
    stopping: int
    began_at: float
    ends_at: float


@dataclass(frozen=True, slots=True)
class Waits:
    """All runs that are waited for: how many, and of them STOPPING; the longest wait, and when the last is given up."""

    runs: int
    stopping: int
    longest_seconds: float
    left_seconds: float


class Counters:
    """Plain numbers, written by the event loop's thread and read by the one that draws.

    Each is a single value or a dict whose copy is taken in one step, so a reader may see a run counted here and not
    yet there, and never anything worse. No lock stands in the sweep's way.

    Args:
        clock: a monotonic one, in seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self.events = 0
        self.resumed: Resumed | None = None
        self.phases: dict[Phase, PhaseState] = {}
        self.sweep_number = 1
        self.stop_cause: str | None = None
        self.targets: dict[Place, str] = {}
        """Those that were opened, by name."""
        self._names: dict[Place, str] = {}
        self._troubles: dict[Place | str, tuple[str, str, str]] = {}
        self._given_up: dict[Place, TargetGivenUp] = {}
        self._waits: dict[TransformPlace, Wait] = {}
        self._sweep_listed = False
        self.transforms_found = 0
        self.transforms_listed = 0
        self.to_cancel_found = 0
        self.excluded_found = 0
        self._excluded_before = 0
        self.restarted = 0
        self.manifest_rows = 0
        self.calls = 0
        self.cancel_calls = 0
        self.throttled = 0
        self.cancel_throttled = 0
        self.retries = 0
        self.failed = 0
        """Calls without a good answer; throttles are none of them."""
        self.failure_codes: dict[str, int] = {}
        self.asked = 0
        """Runs whose requests are over, whatever came of them; those that an earlier process asked for left out."""
        self.accepted = 0
        self.outcomes: dict[Outcome, int] = {}
        self.dpu_hours_stopped: float | None = None
        self._capacities: dict[TransformPlace, float | None] = {}
        self._seconds_stopped: dict[TransformPlace, float] = {}
        """Of runs whose transform's capacity is yet to be told."""
        self._verdicts_before = 0
        """Of runs for which a look was enough, before cancelling began."""
        self.cancel_calls_by_place: dict[Place, int] = {}
        self.asked_by_place: dict[Place, int] = {}
        self._to_ask_by_place: dict[Place, int] = {}
        self.paces: dict[Place, Pace] = {}
        self._handlers: dict[type[Any], Callable[[Any], None]] = {
            Resumed: self._resumed,
            PhaseBegan: self._phase_began,
            PhaseEnded: self._phase_ended,
            TargetOpened: self._target_opened,
            TargetIdentified: self._target_identified,
            TargetFailed: self._target_failed,
            TargetGivenUp: self._target_given_up,
            TargetRecovered: self._target_recovered,
            PlaceFailed: self._place_failed,
            RunsFound: self._runs_found,
            ToAsk: self._to_ask,
            TransformsFound: self._transforms_found,
            TransformListed: self._transform_listed,
            TransformsDescribed: self._transforms_described,
            ManifestRead: self._manifest_read,
            CallAnswered: self._call_answered,
            Retrying: self._retrying,
            RateChanged: self._rate_changed,
            Asked: self._asked,
            Accepted: self._accepted,
            OutcomeReached: self._outcome_reached,
            Awaited: self._awaited,
            SweepStarted: self._sweep_started,
            SweepListed: self._sweep_listed_now,
            Stopping: self._stopping,
        }

    def count(self, event: Event) -> None:
        """Take one event in."""
        self.events += 1
        handler = self._handlers.get(type(event))
        if handler is not None:
            handler(event)

    # What is derived, for whoever reads

    @property
    def phase(self) -> Phase | None:
        """The phase that people would name if asked: the furthest one under way, verification only when it is alone."""
        running = [phase for phase, state in list(self.phases.items()) if not state.ended]
        if self.all_asked or (self.sweep_number > 1 and self.asked >= (self.will_be_asked or 0)):
            running = [phase for phase in running if phase is not Phase.CANCEL or Phase.VERIFY not in running]
        if self.listing_over and Phase.VERIFY in running and self.settled < self.will_be_settled:
            running = [phase for phase in running if phase is not Phase.DISCOVER]  # until the next listing begins
        for phase in (Phase.REPORT, Phase.CANCEL, Phase.DISCOVER, Phase.VERIFY, Phase.CONNECT):
            if phase in running:
                return phase
        return next(reversed(list(self.phases)), None)

    @property
    def listing_over(self) -> bool:
        """Whether nothing is being listed; ``--until-clear`` pauses between its listings."""
        discover = self.phases.get(Phase.DISCOVER)
        return discover is None or discover.ended or self._sweep_listed

    @property
    def sweeping_again(self) -> bool:
        """Whether ``--until-clear`` has listings to come."""
        return self._sweep_listed and not self.phases.get(Phase.DISCOVER, PhaseState(ended=True)).ended

    @property
    def all_asked(self) -> bool:
        """Whether every run that is known has been asked for, and no listing can bring more: they are seen to end."""
        total = self.will_be_asked
        return total is not None and self.asked >= total and self.listing_over

    @property
    def excluded(self) -> int:
        """Runs that were left alone by a rule."""
        return self.excluded_found + self.outcomes.get(Outcome.EXCLUDED, 0)

    @property
    def found(self) -> int:
        """Runs that discovery has found to cancel, in all listings; never fewer than were asked for."""
        return max(self.to_cancel_found, self.asked)

    @property
    def to_cancel(self) -> int | None:
        """How many runs there are to ask for, as far as is known by now; None where nothing is."""
        state = self.phases.get(Phase.CANCEL)
        if state is not None and state.total is not None:
            return max(state.total, self.asked)
        if self.manifest_rows:
            return max(0, self.manifest_rows - self.outcomes.get(Outcome.EXCLUDED, 0))
        return self.found if self.found or (state is not None and self.listing_over) else None

    @property
    def to_settle(self) -> int:
        """Runs that were asked for, by this process or by an earlier one, and so will have a verdict."""
        state = self.phases.get(Phase.VERIFY)
        earlier = state.total if state is not None else None
        if earlier is None:
            earlier = self.resumed.to_read if self.resumed is not None else 0
        return self.asked + earlier - self.restarted

    @property
    def will_be_asked(self) -> int | None:
        """Those to cancel without the ones that were given up with their target; None where nothing is known."""
        unasked = sum(left.unasked for left in list(self._given_up.values()))
        return None if self.to_cancel is None else max(self.asked, self.to_cancel - unasked)

    @property
    def will_be_settled(self) -> int:
        """Those that were asked for, without the ones that were given up with their target."""
        unsettled = sum(left.unsettled for left in list(self._given_up.values()))
        return max(self.settled, self.to_settle - unsettled)

    @property
    def settled(self) -> int:
        """Runs that were asked for and have their verdict."""
        return max(0, self._verdicts() - self._verdicts_before)

    def _verdicts(self) -> int:
        return sum(n for outcome, n in dict(self.outcomes).items() if outcome not in NEVER_ASKED)

    def busiest(self) -> Place | None:
        """The target that got the most cancel calls."""
        counts = dict(self.cancel_calls_by_place)
        return max(counts, key=counts.__getitem__, default=None)

    def name(self, place: Place) -> str:
        """What a target that got cancel calls is called."""
        return self._names[place]

    def left_to_ask(self) -> dict[Place, int]:
        """How many runs there still are to ask for, of each target that has any and was not given up."""
        left = {place: runs - self.asked_by_place.get(place, 0) for place, runs in dict(self._to_ask_by_place).items()}
        return {place: runs for place, runs in left.items() if runs > 0 and place not in self._given_up}

    def trouble(self) -> list[tuple[str, str, str]]:
        """Every target in trouble, with code and message; each once."""
        return list(dict(self._troubles).values())

    def waits(self) -> Waits | None:
        """Runs whose end was looked for and not seen; None where there are none."""
        waits = list(dict(self._waits).values())
        if not waits:
            return None
        now = self._clock()
        return Waits(
            sum(wait.runs for wait in waits),
            sum(wait.stopping for wait in waits),
            now - min(wait.began_at for wait in waits),
            max(0.0, max(wait.ends_at for wait in waits) - now),
        )

    # One method an event

    def _resumed(self, event: Resumed) -> None:
        self.resumed = event
        self.to_cancel_found = event.to_ask
        self._excluded_before = event.excluded

    def _phase_began(self, event: PhaseBegan) -> None:
        if event.phase is Phase.CANCEL:
            self._verdicts_before = self._verdicts()
        self.phases[event.phase] = PhaseState(event.total)

    def _phase_ended(self, event: PhaseEnded) -> None:
        self.phases.setdefault(event.phase, PhaseState()).ended = True

    def _target_opened(self, event: TargetOpened) -> None:
        self.targets[_place(event.target)] = str(event.target)

    def _target_identified(self, event: TargetIdentified) -> None:
        place, name = _place(event.target), str(event.target)
        for names in (self.targets, self._names):
            if place in names:
                names[place] = name
        if (trouble := self._troubles.get(place)) is not None:
            self._troubles[place] = name, *trouble[1:]

    def _target_failed(self, event: TargetFailed) -> None:
        self._troubles.setdefault(_place(event.target), (str(event.target), event.code, event.message))

    def _target_given_up(self, event: TargetGivenUp) -> None:
        self._given_up[_place(event.target)] = event

    def _target_recovered(self, event: TargetRecovered) -> None:
        self._troubles.pop(_place(event.target), None)

    def _place_failed(self, event: PlaceFailed) -> None:
        self._troubles.setdefault(event.place, (event.place, event.code, event.message))

    def _transforms_found(self, event: TransformsFound) -> None:
        self.transforms_found += event.count

    def _transform_listed(self, event: TransformListed) -> None:
        self.transforms_listed += 1

    def _runs_found(self, event: RunsFound) -> None:
        self.to_cancel_found += event.to_cancel
        # Those that an earlier process left alone, and that are left alone no longer, were never counted here.
        earlier = min(self._excluded_before, max(0, -event.excluded))
        self._excluded_before -= earlier
        self.excluded_found += event.excluded + earlier
        self.restarted += event.restarted
        place = _place(event.target)
        self._to_ask_by_place[place] = self._to_ask_by_place.get(place, 0) + event.to_cancel

    def _to_ask(self, event: ToAsk) -> None:
        place = _place(event.target)
        self._to_ask_by_place[place] = self.asked_by_place.get(place, 0) + event.runs

    def _manifest_read(self, event: ManifestRead) -> None:
        self.manifest_rows = event.rows

    def _call_answered(self, event: CallAnswered) -> None:
        self.calls += 1
        if event.kind is ErrorKind.THROTTLE:
            self.throttled += 1
        elif event.kind is not None and event.code is not None:
            self.failed += 1
            self.failure_codes[event.code] = self.failure_codes.get(event.code, 0) + 1
        if event.operation == CANCEL:
            self.cancel_calls += 1
            self.cancel_throttled += event.kind is ErrorKind.THROTTLE
            place = _place(event.target)
            if place not in self._names:
                self._names[place] = str(event.target)
            self.cancel_calls_by_place[place] = self.cancel_calls_by_place.get(place, 0) + 1

    def _retrying(self, event: Retrying) -> None:
        self.retries += 1

    def _rate_changed(self, event: RateChanged) -> None:
        if event.operation == CANCEL:
            self.paces[_place(event.target)] = Pace(event.rps, event.limit_found)

    def _asked(self, event: Asked) -> None:
        self.asked += 1
        place = _place(event.target)
        self.asked_by_place[place] = self.asked_by_place.get(place, 0) + 1

    def _accepted(self, event: Accepted) -> None:
        self.accepted += 1

    def _outcome_reached(self, event: OutcomeReached) -> None:
        self.outcomes[event.outcome] = self.outcomes.get(event.outcome, 0) + 1
        if event.used_seconds is not None:
            place = (*_place(event.target), event.key.transform_id)
            self._seconds_stopped[place] = self._seconds_stopped.get(place, 0.0) + event.used_seconds
            self._reckon(place)

    def _transforms_described(self, event: TransformsDescribed) -> None:
        for transform in event.transforms:
            place = (*_place(event.target), transform.transform_id)
            self._capacities[place] = dpu(transform)
            self._reckon(place)

    def _reckon(self, place: TransformPlace) -> None:
        capacity = self._capacities.get(place)
        if capacity is not None and (seconds := self._seconds_stopped.pop(place, None)) is not None:
            self.dpu_hours_stopped = (self.dpu_hours_stopped or 0.0) + capacity * seconds / 3600

    def _awaited(self, event: Awaited) -> None:
        place = (*_place(event.target), event.transform_id)
        if not event.runs:
            self._waits.pop(place, None)
            return
        now = self._clock()
        self._waits[place] = Wait(
            event.runs, event.stopping, now - event.longest_seconds, now + max(0.0, event.left_seconds)
        )

    def _sweep_started(self, event: SweepStarted) -> None:
        self.sweep_number = event.number
        self._sweep_listed = False
        self.transforms_found = self.transforms_listed = 0  # those of this listing

    def _sweep_listed_now(self, event: SweepListed) -> None:
        self._sweep_listed = True

    def _stopping(self, event: Stopping) -> None:
        self.stop_cause = event.cause


def _place(target: Target) -> Place:
    return target.access, target.region


WINDOW_SECONDS = 5.0
LONGEST_WINDOW_SECONDS = 45.0
SAMPLE_SECONDS = 0.25
STILL_SECONDS = 3.0
"""So long, and as long as three steps take, may a number not grow before its speed is taken to be over."""


class Speed:
    """How fast a growing number grows, over the last few seconds.

    Args:
        least_growth: the window is widened until the number grew by so much in it: few steps tell no speed.
    """

    def __init__(self, least_growth: int = 0) -> None:
        self._least_growth = least_growth
        self._samples: deque[tuple[float, int]] = deque()
        self._grew_at: float | None = None

    def sample(self, now: float, value: int) -> None:
        """Note the number's value; too many samples a second are not kept."""
        if self._samples and now - self._samples[-1][0] < SAMPLE_SECONDS:
            return
        if self._samples and value > self._samples[-1][1]:
            if self.stalled:  # how long it stood still is no part of how fast it goes now
                self._samples = deque([self._samples[-1]])
            self._grew_at = now
        self._samples.append((now, value))
        while len(self._samples) > 2 and self._too_old(*self._samples[1], now, value):
            self._samples.popleft()

    def _too_old(self, then: float, value_then: int, now: float, value: int) -> bool:
        enough = value - value_then >= self._least_growth or now - then >= LONGEST_WINDOW_SECONDS
        return enough and now - then >= WINDOW_SECONDS

    def forget(self) -> None:
        """Begin anew: what lies between was no time in which it could grow."""
        self._samples.clear()
        self._grew_at = None

    @property
    def stalled(self) -> bool:
        """Whether it has stopped growing, as far as can be seen."""
        per_second = self.per_second()
        if self._grew_at is None or per_second <= 0.0:
            return True
        return self._samples[-1][0] - self._grew_at > max(STILL_SECONDS, 3.0 / per_second)

    @property
    def seconds(self) -> float:
        """How long a time it knows of."""
        return self._samples[-1][0] - self._samples[0][0] if self._samples else 0.0

    def per_second(self) -> float:
        """The rate; 0 while too little is known."""
        if self.seconds < SAMPLE_SECONDS:
            return 0.0
        return (self._samples[-1][1] - self._samples[0][1]) / self.seconds
