"""What happened so far, in numbers: every event adds to them in about a microsecond, whoever draws reads them."""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from batch_cancel.core.cost import dpu
from batch_cancel.core.errors import ErrorKind
from batch_cancel.core.events import (
    Accepted,
    CallAnswered,
    Event,
    ManifestRead,
    OutcomeReached,
    Phase,
    PhaseBegan,
    PhaseEnded,
    RateChanged,
    Retrying,
    Stopping,
    SweepStarted,
    TargetFailed,
    TargetOpened,
    TransformListed,
    TransformsDescribed,
    TransformsFound,
)
from batch_cancel.core.outcome import Outcome
from batch_cancel.core.task_run import Access, Target

CANCEL = "CancelMLTaskRun"
MOST_TROUBLE = 1_000
"""So many targets in trouble are remembered by name; the report has them all."""
NEVER_ASKED = (Outcome.EXCLUDED, Outcome.WOULD_CANCEL, Outcome.NOT_ATTEMPTED)
Place = tuple[Access, str, str]
"""A transform: the way in, the region, its id. (An account may become known on the way.)"""
AFTER_ACCEPTANCE = (Outcome.STOPPED, Outcome.STOPPING, Outcome.STUCK_STOPPING, Outcome.FINISHED_FIRST)


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


class Counters:
    """Plain numbers, written by the event loop's thread and read by the one that draws.

    Each is a single value or a dict whose copy is taken in one step, so a reader may see a run counted here and not
    yet there, and never anything worse. No lock stands in the sweep's way.
    """

    def __init__(self) -> None:
        self.events = 0
        self.phases: dict[Phase, PhaseState] = {}
        self.sweep_number = 1
        self.stop_cause: str | None = None
        self.targets_opened = 0
        self.target_trouble: dict[str, tuple[str, str]] = {}
        self.targets_failed = 0
        self.transforms_found = 0
        self.transforms_listed = 0
        self.to_cancel_found = 0
        self.excluded_found = 0
        self.manifest_rows = 0
        self.calls = 0
        self.cancel_calls = 0
        self.throttled = 0
        self.retries = 0
        self.accepted = 0
        self.outcomes: dict[Outcome, int] = {}
        self.dpu_hours_stopped: float | None = None
        self._capacities: dict[Place, float | None] = {}
        self._seconds_stopped: dict[Place, float] = {}
        """Of runs whose transform's capacity is yet to be told."""
        self._asked_before = 0
        """Runs that had their verdict before cancelling began: a look at them was enough."""
        self.cancel_calls_by_target: dict[Target, int] = {}
        self.paces: dict[Target, Pace] = {}
        self._handlers: dict[type[Any], Callable[[Any], None]] = {
            PhaseBegan: self._phase_began,
            PhaseEnded: self._phase_ended,
            TargetOpened: self._target_opened,
            TargetFailed: self._target_failed,
            TransformsFound: self._transforms_found,
            TransformListed: self._transform_listed,
            TransformsDescribed: self._transforms_described,
            ManifestRead: self._manifest_read,
            CallAnswered: self._call_answered,
            Retrying: self._retrying,
            RateChanged: self._rate_changed,
            Accepted: self._accepted,
            OutcomeReached: self._outcome_reached,
            SweepStarted: self._sweep_started,
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
        if self.all_asked:
            running = [phase for phase in running if phase is not Phase.CANCEL or Phase.VERIFY not in running]
        for phase in (Phase.REPORT, Phase.CANCEL, Phase.DISCOVER, Phase.VERIFY, Phase.CONNECT):
            if phase in running:
                return phase
        return next(reversed(list(self.phases)), None)

    @property
    def all_asked(self) -> bool:
        """Whether every run has been asked for and no more can come: what is left is to see them end."""
        total = self.to_cancel
        discover = self.phases.get(Phase.DISCOVER)
        return total is not None and self.asked >= total and (discover is None or discover.ended)

    @property
    def excluded(self) -> int:
        """Runs that were left alone by a rule."""
        return self.excluded_found + self.outcomes.get(Outcome.EXCLUDED, 0)

    @property
    def to_cancel(self) -> int | None:
        """How many runs there are to ask for, as far as is known by now."""
        state = self.phases.get(Phase.CANCEL)
        if state is not None and state.total is not None:
            return max(state.total, self.asked)
        if self.manifest_rows:
            return max(0, self.manifest_rows - self.outcomes.get(Outcome.EXCLUDED, 0))
        return max(self.to_cancel_found, self.asked) or None

    @property
    def asked(self) -> int:
        """Runs whose requests are over, whatever came of them; those that an earlier process asked for left out."""
        asked = self._asked_in_all() - self._asked_before
        # A request that was accepted may turn out to have come too late: the run counts once all the same.
        state = self.phases.get(Phase.CANCEL)
        return asked if state is None or state.total is None else min(asked, state.total)

    @property
    def to_settle(self) -> int:
        """Runs that were asked for, by this process or by an earlier one, and so will have a verdict."""
        return self.asked + self._asked_earlier()

    @property
    def settled(self) -> int:
        """Runs that were asked for and have their verdict."""
        verdicts = sum(n for outcome, n in dict(self.outcomes).items() if outcome not in NEVER_ASKED)
        return max(0, verdicts - self._asked_before)

    def _asked_in_all(self) -> int:
        outcomes = dict(self.outcomes)
        unaccepted = sum(n for outcome, n in outcomes.items() if outcome not in AFTER_ACCEPTANCE + NEVER_ASKED)
        ended = sum(outcomes.get(outcome, 0) for outcome in AFTER_ACCEPTANCE)
        return max(self.accepted, ended - self._asked_earlier()) + unaccepted

    def _asked_earlier(self) -> int:
        """By a process that this one goes on from: the runs that verification began with."""
        state = self.phases.get(Phase.VERIFY)
        return (state.total or 0) if state is not None else 0

    def busiest(self) -> tuple[Target, Pace | None] | None:
        """The target that got the most cancel calls, and what its limiter allows."""
        counts = dict(self.cancel_calls_by_target)
        if not counts:
            return None
        target = max(counts, key=counts.__getitem__)
        return target, self.paces.get(target)

    # One method an event

    def _phase_began(self, event: PhaseBegan) -> None:
        if event.phase is Phase.CANCEL:
            self._asked_before = self._asked_in_all()
        self.phases[event.phase] = PhaseState(event.total)

    def _phase_ended(self, event: PhaseEnded) -> None:
        self.phases.setdefault(event.phase, PhaseState()).ended = True

    def _target_opened(self, event: TargetOpened) -> None:
        self.targets_opened += 1

    def _target_failed(self, event: TargetFailed) -> None:
        self.targets_failed += 1
        if len(self.target_trouble) < MOST_TROUBLE:
            self.target_trouble.setdefault(str(event.target), (event.code, event.message))

    def _transforms_found(self, event: TransformsFound) -> None:
        self.transforms_found += event.count

    def _transform_listed(self, event: TransformListed) -> None:
        self.transforms_listed += 1
        self.to_cancel_found += event.to_cancel
        self.excluded_found += event.excluded

    def _manifest_read(self, event: ManifestRead) -> None:
        self.manifest_rows = event.rows

    def _call_answered(self, event: CallAnswered) -> None:
        self.calls += 1
        if event.kind is ErrorKind.THROTTLE:
            self.throttled += 1
        if event.operation == CANCEL:
            self.cancel_calls += 1
            target = event.target
            self.cancel_calls_by_target[target] = self.cancel_calls_by_target.get(target, 0) + 1

    def _retrying(self, event: Retrying) -> None:
        self.retries += 1

    def _rate_changed(self, event: RateChanged) -> None:
        if event.operation == CANCEL:
            self.paces[event.target] = Pace(event.rps, event.limit_found)

    def _accepted(self, event: Accepted) -> None:
        self.accepted += 1

    def _outcome_reached(self, event: OutcomeReached) -> None:
        self.outcomes[event.outcome] = self.outcomes.get(event.outcome, 0) + 1
        if event.used_seconds is not None:
            place = _place(event.target, event.key.transform_id)
            self._seconds_stopped[place] = self._seconds_stopped.get(place, 0.0) + event.used_seconds
            self._reckon(place)

    def _transforms_described(self, event: TransformsDescribed) -> None:
        for transform in event.transforms:
            place = _place(event.target, transform.transform_id)
            self._capacities[place] = dpu(transform)
            self._reckon(place)

    def _reckon(self, place: Place) -> None:
        capacity = self._capacities.get(place)
        if capacity is not None and (seconds := self._seconds_stopped.pop(place, None)) is not None:
            self.dpu_hours_stopped = (self.dpu_hours_stopped or 0.0) + capacity * seconds / 3600

    def _sweep_started(self, event: SweepStarted) -> None:
        self.sweep_number = event.number
        # What is still to be asked for, and what is spared, will be found once more and counted anew.
        self.to_cancel_found = self.asked
        self.excluded_found = 0

    def _stopping(self, event: Stopping) -> None:
        self.stop_cause = event.cause


def _place(target: Target, transform_id: str) -> Place:
    return target.access, target.region, transform_id


WINDOW_SECONDS = 5.0
LONG_WINDOW_SECONDS = 45.0
"""For what comes in bursts: runs are read in groups, with pauses between."""
SAMPLE_SECONDS = 0.25


class Speed:
    """How fast a growing number grows, over the last few seconds."""

    def __init__(self, window_seconds: float = WINDOW_SECONDS) -> None:
        self._window_seconds = window_seconds
        self._samples: deque[tuple[float, int]] = deque()
        self._grew_at: float | None = None

    def sample(self, now: float, value: int) -> None:
        """Note the number's value; too many samples a second are not kept."""
        if self._samples and now - self._samples[-1][0] < SAMPLE_SECONDS:
            return
        if self._samples and value > self._samples[-1][1]:
            self._grew_at = now
        self._samples.append((now, value))
        while len(self._samples) > 2 and now - self._samples[1][0] >= self._window_seconds:
            self._samples.popleft()

    def still_for(self) -> float | None:
        """How many seconds ago it last grew; None if it never did."""
        return None if self._grew_at is None else self._samples[-1][0] - self._grew_at

    def per_second(self) -> float:
        """The rate; 0 while too little is known."""
        if len(self._samples) < 2:
            return 0.0
        (began, first), (ended, last) = self._samples[0], self._samples[-1]
        return (last - first) / (ended - began) if ended - began >= SAMPLE_SECONDS else 0.0
