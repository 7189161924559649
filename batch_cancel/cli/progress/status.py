"""Where a sweep stands, in words and numbers: what the live view, the plain line and the JSON line have in common."""

from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from batch_cancel.cli.progress.counters import LONG_WINDOW_SECONDS, Counters, Speed
from batch_cancel.cli.wording import counted, printable, rate
from batch_cancel.core.duration import format_duration
from batch_cancel.core.events import Phase
from batch_cancel.core.outcome import ERRORS, NOT_STOPPED, Outcome

TITLES = {
    None: "Starting",
    Phase.CONNECT: "Connecting",
    Phase.DISCOVER: "Discovering",
    Phase.CANCEL: "Cancelling",
    Phase.VERIFY: "Waiting for the runs to end",
    Phase.REPORT: "Writing the reports",
}
OUTCOME_ORDER = (
    *sorted(ERRORS),
    Outcome.STUCK_STOPPING,
    Outcome.NOT_FOUND,
    Outcome.STOPPED,
    Outcome.FINISHED_FIRST,
    Outcome.ALREADY_FINISHED,
    Outcome.STOPPING,
    Outcome.WOULD_CANCEL,
    Outcome.EXCLUDED,
    Outcome.NOT_ATTEMPTED,
)
"""Trouble first."""
STILL_SECONDS = 3.0
"""So much longer than all that is left should take may nothing happen before an estimate is given up."""


@dataclass(frozen=True, slots=True)
class PhaseLine:
    """One phase: its name, how much is done (0 to 1, None where nobody can tell), and what there is to say."""

    name: str
    fraction: float | None
    says: str
    ended: bool


class Status:
    """Reads the counters now and then, and says what they mean."""

    def __init__(self, counters: Counters, began_at: float) -> None:
        self.counters = counters
        self._began_at = began_at
        self._now = began_at
        self._speeds = {name: Speed() for name in ("calls", "cancel", "listed", "rows", "asked")}
        self._speeds["settled"] = Speed(LONG_WINDOW_SECONDS)
        self._ends_at: float | None = None

    def update(self, now: float) -> None:
        """Look at the counters; call it a few times a second for rates that mean something."""
        counters = self.counters
        self._now = now
        for name, value in (
            ("calls", counters.calls),
            ("cancel", counters.cancel_calls),
            ("listed", counters.transforms_listed),
            ("rows", counters.manifest_rows),
            ("asked", counters.asked),
            ("settled", counters.settled),
        ):
            self._speeds[name].sample(now, value)

    @property
    def elapsed_seconds(self) -> float:
        """Since the sweep began."""
        return self._now - self._began_at

    def title(self) -> str:
        """What is being done, in a word or two."""
        counters = self.counters
        if counters.stop_cause is not None:
            cause = printable(counters.stop_cause).replace("_", " ")
            return f"Stopping ({cause}): calls in flight may end"
        title = TITLES[counters.phase]
        return f"{title}, sweep {counters.sweep_number}" if counters.sweep_number > 1 else title

    def eta_seconds(self) -> float | None:
        """How long it may still take, or None where that would be a guess."""
        counters = self.counters
        if counters.stop_cause is not None:
            return None
        phase = counters.phase
        if phase is Phase.CANCEL:
            state = counters.phases.get(Phase.DISCOVER)
            if state is not None and not state.ended:
                return None  # what is still to be found, nobody knows
            return _left(counters.to_cancel, counters.asked, self._speeds["asked"])
        if phase is Phase.VERIFY:
            return _left(counters.to_settle, counters.settled, self._speeds["settled"])
        if phase is Phase.DISCOVER:
            return _left(counters.transforms_found, counters.transforms_listed, self._speeds["listed"])
        return None

    def eta(self) -> str | None:
        """The same as words, calm: an estimate stands, and counts down, until a new one differs by a quarter."""
        seconds = self.eta_seconds()
        if seconds is None:
            self._ends_at = None
            return None
        if self._ends_at is None or abs(self._now + seconds - self._ends_at) > 1.0 + 0.25 * seconds:
            self._ends_at = self._now + seconds
        seconds = max(1.0, self._ends_at - self._now)
        step = 1 if seconds < 30 else 5 if seconds < 120 else 60
        rounded = max(step, round(seconds / step) * step)
        return f"about {format_duration(timedelta(seconds=rounded))} left"

    def phase_lines(self) -> list[PhaseLine]:
        """Every phase that began, in order; writing the reports is too short to be one."""
        phases = dict(self.counters.phases)
        sayings = {
            Phase.CONNECT: self._connect,
            Phase.DISCOVER: self._discover,
            Phase.CANCEL: self._cancel,
            Phase.VERIFY: self._verify,
        }
        lines = []
        for phase, say in sayings.items():
            state = phases.get(phase)
            if state is not None:
                name, done, total, says = say(state.total)
                ended = state.ended or (phase is Phase.CANCEL and self.counters.all_asked)
                fraction = 1.0 if ended else min(1.0, done / total) if total else None
                lines.append(PhaseLine(name, fraction, says, ended))
        return lines

    def rate(self) -> str | None:
        """How fast it goes, and what the busiest target's limiter has found."""
        counters = self.counters
        if not counters.cancel_calls:
            per_second = self._speeds["calls"].per_second()
            return f"{rate(per_second)} calls" if per_second else None
        says = [] if counters.all_asked else [f"{rate(self._speeds['cancel'].per_second())} asked"]
        busiest = counters.busiest()
        if busiest is not None and (pace := busiest[1]) is not None:
            target = busiest[0]
            where = f" at {printable(str(target))}" if len(counters.cancel_calls_by_target) > 1 else ""
            # Throttled, and yet no limit found: it may be another operation's, or nothing to do with the rate.
            found = "limit near" if pace.limit_found else "at most" if counters.throttled else "no limit up to"
            says.append(f"{found} {rate(pace.rps)}{where}")
        return " · ".join(says) or None

    def friction(self) -> str | None:
        """What slows the sweep down, where anything did: throttles and retries."""
        counters = self.counters
        says = []
        if counters.throttled:
            share = 100 * counters.throttled / max(1, counters.calls)
            of_calls = f"in {counted(counters.calls, 'call')} ({share:.1f} %)"
            says.append(f"{counted(counters.throttled, 'throttle')} {of_calls}")
        if counters.retries:
            says.append(counted(counters.retries, "retry", "retries"))
        return " · ".join(says) or None

    def outcomes(self) -> list[tuple[Outcome, int]]:
        """Outcomes so far, trouble first."""
        outcomes = dict(self.counters.outcomes)
        if self.counters.excluded:
            outcomes[Outcome.EXCLUDED] = self.counters.excluded
        return [(outcome, outcomes[outcome]) for outcome in OUTCOME_ORDER if outcomes.get(outcome)]

    def estimate(self) -> str | None:
        """What the runs that were stopped had used, as far as it is known."""
        hours = self.counters.dpu_hours_stopped
        if hours is None:
            return None
        return f"{hours:,.1f} DPU-hours" if hours < 100 else f"{hours:,.0f} DPU-hours"

    def line(self) -> str:
        """Everything in one plain line, for a log."""
        parts = [f"{line.name}: {line.says}" for line in self.phase_lines() if not line.ended]
        if self.counters.stop_cause is not None or not parts:
            parts.insert(0, self.title().lower())
        if self.counters.cancel_calls and (says := self.rate()):
            parts.append(says)
        if friction := self.friction():
            parts.append(f"slowed by {friction}")
        trouble = [f"{n:,} {words(outcome)}" for outcome, n in self.outcomes() if outcome in NOT_STOPPED]
        if trouble:
            parts.append(", ".join(trouble))
        if self.counters.targets_failed:
            parts.append(f"{counted(self.counters.targets_failed, 'target')} in trouble")
        if eta := self.eta():
            parts.append(eta)
        return "; ".join(parts)

    def fields(self) -> dict[str, Any]:
        """Everything as numbers, for a log collector."""
        counters = self.counters
        eta = self.eta_seconds()
        busiest = counters.busiest()
        pace = busiest[1] if busiest else None
        return {
            "phase": counters.phase,
            "sweep_number": counters.sweep_number,
            "elapsed_seconds": round(self.elapsed_seconds, 1),
            "eta_seconds": None if eta is None else round(eta, 1),
            "targets_opened": counters.targets_opened,
            "targets_failed": counters.targets_failed,
            "transforms_found": counters.transforms_found,
            "transforms_listed": counters.transforms_listed,
            "manifest_rows": counters.manifest_rows,
            "to_cancel": counters.to_cancel,
            "excluded": counters.excluded,
            "asked": counters.asked,
            "accepted": counters.accepted,
            "settled": counters.settled,
            "outcomes": dict(self.outcomes()),
            "api_calls": counters.calls,
            "throttled": counters.throttled,
            "retries": counters.retries,
            "estimated_dpu_hours_stopped": None if (hours := counters.dpu_hours_stopped) is None else round(hours, 2),
            "cancel_rps": round(self._speeds["cancel"].per_second(), 2),
            "busiest_target": str(busiest[0]) if busiest else None,
            "busiest_rps_allowed": round(pace.rps, 2) if pace else None,
            "busiest_limit_found": pace.limit_found if pace else None,
        }

    # One method a phase: name, done, total, words

    def _connect(self, total: int | None) -> tuple[str, int, int | None, str]:
        counters = self.counters
        done = counters.targets_opened
        says = f"{done:,} of {counted(total, 'target')}" if total else counted(done, "target")
        if counters.targets_failed:
            says += f" · {counters.targets_failed:,} in trouble"
        return "connect", done, total, says

    def _discover(self, total: int | None) -> tuple[str, int, int | None, str]:
        counters = self.counters
        if counters.manifest_rows and not counters.transforms_found:
            rows = counters.manifest_rows
            return "list", rows, total, f"{counted(rows, 'row')} read"
        listed, found = counters.transforms_listed, counters.transforms_found
        says = f"{listed:,} of {counted(found, 'transform')} · {counters.to_cancel_found:,} to cancel"
        return "discover", listed, found, says

    def _cancel(self, _: int | None) -> tuple[str, int, int | None, str]:
        asked, total = self.counters.asked, self.counters.to_cancel
        return "cancel", asked, total, f"{asked:,} of {counted(total, 'run')} asked" if total else f"{asked:,} asked"

    def _verify(self, _: int | None) -> tuple[str, int, int | None, str]:
        settled, asked = self.counters.settled, self.counters.to_settle
        return "verify", settled, asked, f"{settled:,} of {counted(asked, 'run')} settled"


def words(outcome: Outcome) -> str:
    """An outcome's name as words of a sentence."""
    return outcome.replace("_", " ")


def _left(total: int | None, done: int, speed: Speed) -> float | None:
    """Seconds until all is done; None where it does not move as fast as that would take: the last few are stuck."""
    per_second, still_for = speed.per_second(), speed.still_for()
    if not total or done >= total or per_second <= 0.0 or still_for is None:
        return None
    seconds = (total - done) / per_second
    return seconds if still_for <= STILL_SECONDS + seconds else None
