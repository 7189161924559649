"""Which events are worth a line of the log, how much each matters, and how the line reads."""

import json
import shlex
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import IntEnum
from typing import Any

from batch_cancel.cli.progress.status import Status
from batch_cancel.cli.wording import cause, rate, took
from batch_cancel.core.events import (
    Accepted,
    CallAnswered,
    OutcomeReached,
    Phase,
    PhaseBegan,
    PhaseEnded,
    PlaceFailed,
    RateChanged,
    Resumed,
    Retrying,
    Stopping,
    SweepBegan,
    SweepStarted,
    TargetFailed,
    TargetGivenUp,
    TargetIdentified,
    TargetOpened,
    TargetRecovered,
    Warned,
)
from batch_cancel.core.moment import rfc3339
from batch_cancel.core.outcome import NOT_STOPPED, Outcome, words_of
from batch_cancel.core.task_run import Target
from batch_cancel.core.wording import counted, printable

NAMED_TARGETS = 4
"""So many targets are named when they are connected to; more are counted."""
TROUBLE_LINES = 10
"""So many runs, or targets, with the same trouble get a line each; then they are counted, and the report has them."""
FURTHER = "; further ones like it are counted, and stand in the report"


class Level(IntEnum):
    """How much a line matters."""

    DEBUG = 10
    INFO = 20
    WARNING = 30
    ERROR = 40


@dataclass(frozen=True, slots=True)
class Record:
    """One line of the log: ``text`` for people, ``event`` and ``fields`` for collectors.

    Attributes:
        counted: told in the live view too, so that on a terminal no line is needed.
        lasting: a line of its own even above a live view.
        command: ends the text; on a terminal a line of its own, to be copied whole.
    """

    level: Level
    event: str
    fields: Mapping[str, Any]
    text: str
    counted: bool = False
    lasting: bool = False
    command: str | None = None


class Records:
    """Makes records from events; None for those that are only counted."""

    def __init__(self, status: Status) -> None:
        self._status = status
        self._troubles: Counter[tuple[Outcome | None, str | None]] = Counter()
        self._failures: set[tuple[Target, str, str]] = set()
        self._makers: dict[type[Any], Callable[[Any], Record | None]] = {
            SweepBegan: _sweep_began,
            Resumed: self._resumed,
            PhaseBegan: self._phase_began,
            PhaseEnded: self._phase_ended,
            TargetOpened: _target_opened,
            TargetIdentified: self._target_identified,
            TargetFailed: self._target_failed,
            TargetGivenUp: _target_given_up,
            TargetRecovered: _target_recovered,
            PlaceFailed: _place_failed,
            CallAnswered: _call_answered,
            Retrying: _retrying,
            RateChanged: _rate_changed,
            Accepted: _accepted,
            OutcomeReached: self._outcome_reached,
            SweepStarted: _sweep_started,
            Stopping: _stopping,
            Warned: _warned,
        }

    def makers(self, least: Level, *, phases: bool = True) -> dict[type[Any], Callable[[Any], Record | None]]:
        """The events that can make a record of this level or more; the others need no look.

        Above INFO, what changes no outcome is no trouble either.
        """
        seldom: set[type[Any]] = {
            *(SweepBegan, Resumed, PhaseBegan, PhaseEnded, SweepStarted),
            *(TargetIdentified, TargetRecovered, Warned),
        }
        often = {TargetOpened, TargetGivenUp, CallAnswered, Retrying, RateChanged, Accepted}
        left_out: set[type[Any]] = set()
        if least > Level.DEBUG:
            left_out |= often
        if least > Level.INFO:
            left_out |= seldom
        if not phases:
            left_out |= {PhaseBegan, PhaseEnded, SweepStarted}
        return {kind: maker for kind, maker in self._makers.items() if kind not in left_out}

    def progress(self) -> Record:
        """Where the sweep stands now."""
        return Record(Level.INFO, "progress", self._status.fields(), self._status.line())

    def _phase_began(self, event: PhaseBegan) -> Record:
        return Record(Level.INFO, "phase_began", {"phase": event.phase, "total": event.total}, f"{event.phase}: begins")

    def _phase_ended(self, event: PhaseEnded) -> Record:
        return Record(Level.INFO, "phase_ended", {"phase": event.phase}, f"{event.phase}: {self._result(event.phase)}")

    def _result(self, phase: Phase) -> str:
        """What the phase came to, in the words of its line."""
        position = list(Phase).index(phase)
        lines = self._status.phase_lines()
        names = ("connect", ("discover", "list"), "cancel", "verify")
        if position < len(names):
            for line in lines:
                if line.name in names[position]:
                    stopped = self._status.counters.stop_cause is not None
                    how = "done" if line.complete else "stopped" if stopped else "over"
                    return f"{line.says}{self._named() if phase is Phase.CONNECT else ''}; {how}"
        return "done"

    def _named(self) -> str:
        """The names of a few targets; a single one has been told."""
        names = list(self._status.counters.targets.values())
        return f" ({', '.join(map(printable, names))})" if 1 < len(names) <= NAMED_TARGETS else ""

    def _resumed(self, event: Resumed) -> Record:
        fields = {
            "runs": event.runs,
            "settled": event.settled,
            "excluded": event.excluded,
            "to_read": event.to_read,
            "to_ask": event.to_ask,
            "in_doubt": event.in_doubt,
        }
        return Record(Level.INFO, "resumed", fields, f"resumed: {self._status.resumed()}", counted=True)

    def _target_identified(self, event: TargetIdentified) -> Record:
        target = str(event.target)
        few = len(self._status.counters.targets) <= NAMED_TARGETS
        level = Level.INFO if few else Level.DEBUG
        text = f"account: {printable(target)}"
        return Record(level, "target_identified", {"target": target}, text, counted=True)

    def _outcome_reached(self, event: OutcomeReached) -> Record | None:
        fields = {
            "target": str(event.target),
            "transform_id": event.key.transform_id,
            "task_run_id": event.key.task_run_id,
            "outcome": event.outcome,
            "error_code": event.code,
        }
        text = f"{_where(event)}: {words_of(event.outcome)}"
        if event.code:
            text += f" ({printable(event.code)})"
        if event.outcome not in NOT_STOPPED:
            return Record(Level.DEBUG, "outcome_reached", fields, text, counted=True)
        level, more = self._how_loud(Level.WARNING, event.outcome, event.code)
        return Record(level, "outcome_reached", fields, text + more, counted=True)

    def _target_failed(self, event: TargetFailed) -> Record:
        fields = {"target": str(event.target), "code": event.code, "message": event.message}
        text = f"{printable(str(event.target))}: {cause(event.code, event.message)}"
        failure = event.target, event.code, event.message
        if failure in self._failures:  # by an earlier listing of --until-clear too
            return Record(Level.DEBUG, "target_failed", fields, text)
        self._failures.add(failure)
        level, more = self._how_loud(Level.ERROR, None, event.code)
        return Record(level, "target_failed", fields, text + more)

    def _how_loud(self, level: Level, outcome: Outcome | None, code: str | None) -> tuple[Level, str]:
        """The level of one more trouble of a kind, and what its line says at its end."""
        self._troubles[outcome, code] += 1
        times = self._troubles[outcome, code]
        return (level if times <= TROUBLE_LINES else Level.DEBUG), (FURTHER if times == TROUBLE_LINES else "")


def _sweep_began(event: SweepBegan) -> Record:
    directory = printable(shlex.quote(event.directory))
    text = f"run directory {directory}; cut short, it goes on with:"
    fields = {"sweep_id": event.sweep_id, "directory": event.directory}
    command = f"batch-cancel resume {directory}"
    return Record(Level.INFO, "sweep_began", fields, text, lasting=True, command=command)


def _target_opened(event: TargetOpened) -> Record:
    target = str(event.target)
    return Record(Level.DEBUG, "target_opened", {"target": target}, f"{printable(target)}: connected")


def _target_given_up(event: TargetGivenUp) -> Record:
    fields = {"target": str(event.target), "unasked": event.unasked, "unsettled": event.unsettled}
    left = f"{counted(event.unasked, 'run')} not asked for, {event.unsettled:,} not read again"
    return Record(
        Level.DEBUG, "target_given_up", fields, f"{printable(str(event.target))}: given up: {left}", counted=True
    )


def _target_recovered(event: TargetRecovered) -> Record:
    target = str(event.target)
    text = f"{printable(target)}: in trouble no more"
    return Record(Level.INFO, "target_recovered", {"target": target}, text, counted=True)


def _place_failed(event: PlaceFailed) -> Record:
    fields = {"place": event.place, "code": event.code, "message": event.message}
    text = f"{printable(event.place)}: {cause(event.code, event.message)}"
    return Record(Level.ERROR, "place_failed", fields, text)


def _call_answered(event: CallAnswered) -> Record:
    kind = event.kind.value if event.kind is not None else None
    came_of_it = (kind or "ok").replace("_", " ")
    fields = {
        "target": str(event.target),
        "operation": event.operation,
        "failure": kind,
        "seconds": round(event.seconds, 4),
    }
    text = f"{printable(str(event.target))}: {event.operation}: {came_of_it}, {event.seconds:.3f} s"
    return Record(Level.DEBUG, "call_answered", fields, text, counted=True)


def _retrying(event: Retrying) -> Record:
    fields = {
        "target": str(event.target),
        "operation": event.operation,
        "code": event.code,
        "delay_seconds": round(event.delay_seconds, 3),
    }
    text = f"{printable(str(event.target))}: {event.operation}: {printable(event.code)}, again in "
    return Record(Level.DEBUG, "retrying", fields, text + took(event.delay_seconds), counted=True)


def _rate_changed(event: RateChanged) -> Record:
    fields = {
        "target": str(event.target),
        "operation": event.operation,
        "rps": round(event.rps, 3),
        "limit_found": event.limit_found,
    }
    text = f"{printable(str(event.target))}: {event.operation}: now at most {rate(event.rps)}"
    return Record(Level.DEBUG, "rate_changed", fields, text, counted=True)


def _accepted(event: Accepted) -> Record:
    fields = {
        "target": str(event.target),
        "transform_id": event.key.transform_id,
        "task_run_id": event.key.task_run_id,
    }
    return Record(Level.DEBUG, "accepted", fields, f"{_where(event)}: accepted", counted=True)


def _sweep_started(event: SweepStarted) -> Record:
    return Record(Level.INFO, "sweep_started", {"number": event.number}, f"sweep {event.number} begins", counted=True)


def _stopping(event: Stopping) -> Record:
    cause = printable(event.cause).replace("_", " ")
    text = f"stopping ({cause}): nothing more is sent, calls in flight may end"
    return Record(Level.WARNING, "stopping", {"cause": event.cause}, text)


def _warned(event: Warned) -> Record:
    return Record(Level.WARNING, "warned", {"message": event.message}, printable(event.message))


def _where(event: Accepted | OutcomeReached) -> str:
    return f"{printable(str(event.target))} {printable(event.key.transform_id)} {printable(event.key.task_run_id)}"


def as_text(record: Record, at: datetime | None) -> str:
    """A line for people: the time in UTC if it is wanted, and the level where it is not the usual one."""
    time = f"{at:%H:%M:%S}Z " if at is not None else ""
    level = f"{record.level.name.lower()}: " if record.level >= Level.WARNING else ""
    command = f" {record.command}" if record.command is not None else ""
    return f"{time}{level}{record.text}{command}"


def as_json(record: Record, at: datetime) -> str:
    """A line for a log collector; ASCII, so that nothing in it is more than text."""
    document = {
        "ts": rfc3339(at),
        "level": record.level.name.lower(),
        "event": record.event,
        "fields": record.fields,
    }
    return json.dumps(document, ensure_ascii=True)
