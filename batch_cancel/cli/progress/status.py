"""Where a sweep stands, in words and numbers: what the live view, the plain line and the JSON line have in common."""

from collections import defaultdict
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from batch_cancel.cli.progress.counters import WINDOW_SECONDS, Counters, Place, Speed
from batch_cancel.cli.wording import clock, rate
from batch_cancel.core.duration import format_duration
from batch_cancel.core.events import Phase
from batch_cancel.core.outcome import NOT_STOPPED, TROUBLE_FIRST, Outcome, words_of
from batch_cancel.core.wording import counted, printable

TITLES = {
    None: "Starting",
    Phase.CONNECT: "Connecting",
    Phase.DISCOVER: "Discovering",
    Phase.CANCEL: "Cancelling",
    Phase.VERIFY: "Waiting for the runs to end",
    Phase.REPORT: "Writing the reports",
}
LEAST_STEPS = 20
"""An estimate rests on the speed of the last so many steps, where a few seconds have fewer."""


@dataclass(frozen=True, slots=True)
class PhaseLine:
    """One phase: its name, how much is done (0 to 1, None where nobody can tell), and what there is to say.

    Attributes:
        complete: nothing of it was left undone.
    """

    name: str
    fraction: float | None
    says: str
    ended: bool
    complete: bool


class Status:
    """Reads the counters now and then, and says what they mean."""

    def __init__(self, counters: Counters, began_at: float) -> None:
        self.counters = counters
        self._began_at = began_at
        self._now = began_at
        self._speeds = {name: Speed() for name in ("calls", "cancel")}
        self._speeds["listed"] = Speed(LEAST_STEPS)
        self._called: defaultdict[Place, Speed] = defaultdict(Speed)
        self._asked: defaultdict[Place, Speed] = defaultdict(lambda: Speed(LEAST_STEPS))
        self._ends_at: float | None = None

    def update(self, now: float) -> None:
        """Look at the counters; call it a few times a second for rates that mean something."""
        counters = self.counters
        self._now = now
        for name, value in (
            ("calls", counters.calls),
            ("cancel", counters.cancel_calls),
            ("listed", counters.transforms_listed),
        ):
            self._speeds[name].sample(now, value)
        for speeds, numbers in (
            (self._called, counters.cancel_calls_by_place),
            (self._asked, counters.asked_by_place),
        ):
            for place, number in dict(numbers).items():
                speeds[place].sample(now, number)

    def leave_out(self, seconds: float) -> None:
        """So long nothing could happen (a question stood): it is no part of any time or speed."""
        self._began_at += seconds
        self.forget_speeds()

    def forget_speeds(self) -> None:
        """Speeds and estimates begin anew."""
        self._ends_at = None
        for speed in (*self._speeds.values(), *self._called.values(), *self._asked.values()):
            speed.forget()

    @property
    def elapsed_seconds(self) -> float:
        """Since the sweep began, without the time at the question."""
        return self._now - self._began_at

    def title(self) -> str:
        """What is being done, in a word or two."""
        counters = self.counters
        if counters.stop_cause is not None:
            cause = printable(counters.stop_cause).replace("_", " ")
            return f"Stopping ({cause}): calls in flight may end"
        if counters.phase is Phase.DISCOVER and counters.sweeping_again:
            return f"A pause before sweep {counters.sweep_number + 1}"
        if counters.phase is None and counters.manifest_rows:
            return f"Reading the list: {counted(counters.manifest_rows, 'row')} so far"
        title = TITLES[counters.phase]
        if counters.phase is Phase.VERIFY and counters.waits() is None:
            title = "Reading what became of the runs"
        return f"{title}, sweep {counters.sweep_number}" if counters.sweep_number > 1 else title

    def eta_seconds(self) -> float | None:
        """How long what :meth:`title` names may still take, or None where that would be a guess.

        It is not of the whole sweep: how long runs are STOPPING, and whether a few hang, is the service's to say.
        """
        counters = self.counters
        if counters.stop_cause is not None:
            return None
        if counters.phase is Phase.CANCEL:
            return self._cancel_seconds()
        if counters.phase is Phase.DISCOVER:
            listed = self._speeds["listed"]
            left = counters.transforms_found - counters.transforms_listed
            return _seconds(left, listed, listed.per_second()) if listed.seconds >= WINDOW_SECONDS else None
        return None

    def _cancel_seconds(self) -> float | None:
        """As long as the target takes that takes longest: each has a limit of its own."""
        if not self.counters.listing_over:
            return None  # what is still to be found, nobody knows
        longest = 0.0
        for place, left in self.counters.left_to_ask().items():
            seconds = self._seconds_to_ask(place, left)
            if seconds is None:
                return None
            longest = max(longest, seconds)
        return longest or None

    def _seconds_to_ask(self, place: Place, left: int) -> float | None:
        speed, pace = self._asked[place], self.counters.paces.get(place)
        per_second = speed.per_second()
        if pace is not None and pace.limit_found:
            per_second = min(per_second, pace.rps)  # the burst that it lets through at first is no speed to go on with
        elif speed.seconds < WINDOW_SECONDS:
            return None
        return _seconds(left, speed, per_second)

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
                complete = ended and done >= (total or 0)
                fraction = 1.0 if complete else min(1.0, done / total) if total else None
                lines.append(PhaseLine(name, fraction, says, ended, complete))
        return lines

    def resumed(self) -> str | None:
        """What stood in the ledger when the sweep was taken up again; first what is to be done: a line may be cut."""
        resumed = self.counters.resumed
        if resumed is None:
            return None
        says = [counted(resumed.runs, "run")]
        for number, what in (
            (resumed.to_ask - resumed.in_doubt, "to ask"),
            (resumed.in_doubt, "to read back first"),
            (resumed.to_read, "asked before"),
            (resumed.settled, "settled before"),
            (resumed.excluded, "left alone"),
        ):
            if number:
                says.append(f"{number:,} {what}")
        return " · ".join(says)

    def waiting(self) -> str | None:
        """How many runs are waited for, and how long still, once that is all there is to do.

        With the runs that are settled they are all that were asked for: those that ended since they were last counted
        are left out, and those that nobody has read yet are told.
        """
        counters = self.counters
        waits = counters.waits()
        if waits is None or not counters.all_asked or counters.stop_cause is not None:
            return None
        unsettled = counters.will_be_settled - counters.settled
        read = min(waits.runs, unsettled)
        stopping = min(waits.stopping, read)
        if not read:
            return None
        says = f"{read:,} STOPPING" if stopping == read else f"{counted(read, 'run')}, {stopping:,} of them STOPPING"
        if unread := unsettled - read:
            says += f", {unread:,} not read yet"
        return f"{says}, longest {clock(waits.longest_seconds)}, gives up in {clock(waits.left_seconds)}"

    def rates(self) -> list[str]:
        """How fast it goes: of several targets the sum first, then what the busiest one takes, beside its own limit."""
        counters = self.counters
        busiest = counters.busiest()
        if busiest is None:
            per_second = self._speeds["calls"].per_second()
            return [rate(per_second, "calls")] if per_second else []
        targets = len(counters.cancel_calls_by_place)
        asking = counters.asked < (counters.will_be_asked or 0)  # otherwise there is nobody to ask for just now
        limit = self._limit(busiest, asking=asking)
        in_all = rate(self._speeds["cancel"].per_second(), "cancel requests")
        if targets == 1:
            return [" · ".join([in_all] * asking + limit)] if asking or limit else []
        says = [f"{in_all} at {counted(targets, 'target')}"] if asking else []
        if asking or limit:
            of_it = [rate(self._called[busiest].per_second())] if asking else []
            says.append(f"busiest {printable(counters.name(busiest))}: {' · '.join(of_it + limit)}")
        return says

    def _limit(self, place: Place, *, asking: bool) -> list[str]:
        """What a target's limiter has found."""
        pace = self.counters.paces.get(place)
        if pace is None:
            return []
        if pace.limit_found:
            return [f"limit near {rate(pace.rps)}"]
        # The pace is what would be allowed, and proves nothing.
        return ["limit not known yet" if self.counters.cancel_throttled else "no limit met so far"] if asking else []

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

    def failures(self) -> str | None:
        """How many calls had no good answer, and what came most often instead."""
        counters = self.counters
        codes = dict(counters.failure_codes)
        if not codes:
            return None
        most = max(codes, key=lambda code: codes[code])
        share = 100 * counters.failed / max(1, counters.calls)
        of_calls = f"{counters.failed:,} of {counted(counters.calls, 'call')} ({share:.0f} %)"
        return f"{of_calls}: {printable(most)}{' and others' if len(codes) > 1 else ''}"

    def outcomes(self) -> list[tuple[Outcome, int]]:
        """Outcomes so far, trouble first."""
        outcomes = dict(self.counters.outcomes)
        if self.counters.excluded:
            outcomes[Outcome.EXCLUDED] = self.counters.excluded
        return [(outcome, outcomes[outcome]) for outcome in TROUBLE_FIRST if outcomes.get(outcome)]

    def estimate(self) -> str | None:
        """What the runs that were stopped had used, as far as it is known."""
        hours = self.counters.dpu_hours_stopped
        if hours is None:
            return None
        return f"{hours:,.1f} DPU-hours" if hours < 100 else f"{hours:,.0f} DPU-hours"

    def line(self) -> str:
        """Everything in one plain line, for a log."""
        parts = [f"{line.name}: {line.says}" for line in self.phase_lines() if not line.ended]
        if waiting := self.waiting():
            parts.append(waiting)
        if self.counters.stop_cause is not None or not parts:
            parts.insert(0, self.title().lower())
        if self.counters.cancel_calls:
            parts += self.rates()
        if friction := self.friction():
            parts.append(f"slowed by {friction}")
        if failures := self.failures():
            parts.append(f"failed {failures}")
        trouble = [f"{n:,} {words_of(outcome)}" for outcome, n in self.outcomes() if outcome in NOT_STOPPED]
        if trouble:
            parts.append(", ".join(trouble))
        if in_trouble := len(self.counters.trouble()):
            parts.append(f"{counted(in_trouble, 'target')} in trouble")
        if eta := self.eta():
            parts.append(f"{self.title().lower()}: {eta}")
        return "; ".join(parts)

    def fields(self) -> dict[str, Any]:
        """Everything as numbers, for a log collector."""
        counters = self.counters
        eta = self.eta_seconds()
        busiest = counters.busiest()
        pace = counters.paces.get(busiest) if busiest else None
        waits = counters.waits()
        return {
            "phase": counters.phase,
            "sweep_number": counters.sweep_number,
            "elapsed_seconds": round(self.elapsed_seconds, 1),
            "eta_seconds": None if eta is None else round(eta, 1),
            "targets_opened": len(counters.targets),
            "targets_failed": len(counters.trouble()),
            "transforms_found": counters.transforms_found,
            "transforms_listed": counters.transforms_listed,
            "manifest_rows": counters.manifest_rows,
            "to_cancel": counters.to_cancel,
            "excluded": counters.excluded,
            "asked": counters.asked,
            "accepted": counters.accepted,
            "settled": counters.settled,
            "awaited": waits.runs if waits else 0,
            "awaited_stopping": waits.stopping if waits else 0,
            "longest_wait_seconds": round(waits.longest_seconds, 1) if waits else None,
            "wait_left_seconds": round(waits.left_seconds, 1) if waits else None,
            "outcomes": dict(self.outcomes()),
            "api_calls": counters.calls,
            "throttled": counters.throttled,
            "retries": counters.retries,
            "failed": counters.failed,
            "estimated_dpu_hours_stopped": None if (hours := counters.dpu_hours_stopped) is None else round(hours, 2),
            "cancel_rps": round(self._speeds["cancel"].per_second(), 2),
            "busiest_target": counters.name(busiest) if busiest else None,
            "busiest_cancel_rps": round(self._called[busiest].per_second(), 2) if busiest else None,
            "busiest_rps_allowed": round(pace.rps, 2) if pace else None,
            "busiest_limit_found": pace.limit_found if pace else None,
        }

    # One method a phase: name, done, total, words

    def _connect(self, total: int | None) -> tuple[str, int, int | None, str]:
        counters = self.counters
        names = list(dict(counters.targets).values())
        done = len(names)
        if done == 1 and (total or 1) == 1:
            says = printable(names[0])
        else:
            says = f"{done:,} of {counted(total, 'target')}" if total else counted(done, "target")
        if in_trouble := len(counters.trouble()):
            says += f" · {in_trouble:,} in trouble"
        return "connect", done, total, says

    def _discover(self, total: int | None) -> tuple[str, int, int | None, str]:
        counters = self.counters
        if counters.manifest_rows and not counters.transforms_found:
            rows = counters.manifest_rows
            return "list", rows, total, f"{counted(rows, 'row')} read"
        listed, found = counters.transforms_listed, counters.transforms_found
        says = f"{listed:,} of {counted(found, 'transform')} · {counters.found:,} to cancel"
        return "discover", listed, found, says

    def _cancel(self, _: int | None) -> tuple[str, int, int | None, str]:
        asked, total = self.counters.asked, self.counters.to_cancel
        return "cancel", asked, total, f"{asked:,} of {counted(total, 'run')} asked" if total else f"{asked:,} asked"

    def _verify(self, _: int | None) -> tuple[str, int, int | None, str]:
        settled, asked = self.counters.settled, self.counters.to_settle
        return "verify", settled, asked, f"{settled:,} of {counted(asked, 'run')} settled"


def _seconds(left: int, speed: Speed, per_second: float) -> float | None:
    """How long the rest takes at this rate; None where it does not move: the last few are stuck."""
    return left / per_second if left > 0 and per_second > 0.0 and not speed.stalled else None
