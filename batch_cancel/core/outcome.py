"""How answers, errors and readings become one verdict for each run.

The rule above all others: never say stopped what was not seen stopped, nor untouched what may have been reached.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from batch_cancel.core.errors import ErrorKind
from batch_cancel.core.service_clock import RESOLUTION_SECONDS
from batch_cancel.core.task_run import Status, TaskRun


class Outcome(StrEnum):
    """A run's verdict; the words of the report."""

    STOPPED = "stopped"
    STOPPING = "stopping"
    STUCK_STOPPING = "stuck_stopping"
    FINISHED_FIRST = "finished_first"
    ALREADY_FINISHED = "already_finished"
    NOT_FOUND = "not_found"
    INVALID = "invalid"
    DENIED = "denied"
    FAILED = "failed"
    UNKNOWN = "unknown"
    EXCLUDED = "excluded"
    WOULD_CANCEL = "would_cancel"
    NOT_ATTEMPTED = "not_attempted"


def words_of(outcome: str) -> str:
    """An outcome's name in a sentence; report.json and report.csv have it with an underscore."""
    return outcome.replace("_", " ")


TROUBLE = (
    Outcome.FAILED,
    Outcome.UNKNOWN,
    Outcome.STUCK_STOPPING,
    Outcome.DENIED,
    Outcome.INVALID,
    Outcome.NOT_FOUND,
    Outcome.NOT_ATTEMPTED,
)
"""Outcomes that somebody has to look at, the most pressing first; a sweep that ends with any ends with exit code 1
(``--ignore-not-found`` takes that one out)."""

TROUBLE_FIRST = (
    *TROUBLE,
    Outcome.STOPPING,
    Outcome.WOULD_CANCEL,
    Outcome.STOPPED,
    Outcome.FINISHED_FIRST,
    Outcome.ALREADY_FINISHED,
    Outcome.EXCLUDED,
)
"""Every outcome, in the order in which progress and reports show them."""

NOT_STOPPED = frozenset(TROUBLE) - {Outcome.NOT_ATTEMPTED}
"""Outcomes of runs that were asked for, or looked for, in vain."""

ERRORS = frozenset({Outcome.FAILED, Outcome.UNKNOWN, Outcome.DENIED, Outcome.INVALID})
"""Outcomes that count towards ``--max-errors``: throttles, not-found and already-ended never do."""

ACCEPTED = frozenset({Outcome.STOPPED, Outcome.STOPPING, Outcome.STUCK_STOPPING, Outcome.FINISHED_FIRST})
"""Outcomes that need an accepted request: an error of one that stands there was got over."""

UNFINISHED = frozenset(NOT_STOPPED - {Outcome.NOT_FOUND}) | {
    Outcome.NOT_ATTEMPTED,
    Outcome.STOPPING,
    Outcome.WOULD_CANCEL,
}
"""Outcomes whose runs are (or may be) still active: what a ``report.json`` used as a manifest asks for again."""

CLOCK_TOLERANCE = timedelta(seconds=1)
"""Glue's times may be cut to the second and its clock is not ours: an end this close to our request is not "before"."""


@dataclass(frozen=True, slots=True)
class Evidence:
    """What our requests have shown so far about one run.

    Attributes:
        requested_at: when the first cancel request that may have reached the service was sent.
        accepted: a 200 with the same ids and a known status, or a reading after an ambiguous attempt that showed the
            run STOPPING or ended.
        tainted: some attempt was ambiguous: time-out, reset, 5xx, a 200 without the echo, a crash in between.
        refusal: the definite error that ended the attempts, if one did.
        seen_active: an answer or a reading since the first request showed the run STARTING, RUNNING or STOPPING. Then
            it was not over before we asked, whatever the two clocks say.
        clock_offset_seconds: by how much the service's clock was ahead of ours when we asked; None where no answer
            told. Then the two are taken to be the same.
    """

    requested_at: datetime | None = None
    accepted: bool = False
    tainted: bool = False
    refusal: ErrorKind | None = None
    seen_active: bool = False
    clock_offset_seconds: float | None = None


class Unread(StrEnum):
    """What a reading that showed no run means."""

    MISSING = "missing"
    """Glue says that there is no such run."""
    UNREADABLE = "unreadable"
    """No read call got an answer."""


Reading = TaskRun | Unread


def shows_acceptance(evidence: Evidence, reading: Reading) -> bool:
    """Whether a reading proves that the service has our request, though no answer said so."""
    if evidence.accepted or not evidence.tainted or not isinstance(reading, TaskRun) or reading.status is None:
        return evidence.accepted
    if reading.status is Status.STOPPING:
        return True
    return reading.status.ended and not ended_before_request(evidence, reading)


def ended_before_request(evidence: Evidence, run: TaskRun) -> bool:
    """Whether the run's own times say that it was over before we asked.

    Its times are by Glue's clock and ours is by our own, which may be off by minutes: our request is put on Glue's
    clock as far as answers told it, and what was seen goes before all times.
    """
    if evidence.seen_active:
        return False
    ended_at = run.completed_on or run.last_modified_on
    if ended_at is None or evidence.requested_at is None:
        return False
    asked_at, tolerance = evidence.requested_at, CLOCK_TOLERANCE
    if evidence.clock_offset_seconds is not None:
        asked_at += timedelta(seconds=evidence.clock_offset_seconds)
        tolerance += timedelta(seconds=RESOLUTION_SECONDS)
    return ended_at < asked_at - tolerance


def verdict(evidence: Evidence, reading: Reading, *, patience_over: bool) -> Outcome | None:
    """The outcome that requests and the latest reading support, or None while only time can tell.

    Args:
        evidence: what the requests showed; no further request will be sent.
        reading: the latest read of the run, made after the last request.
        patience_over: True when no further reading will be made.
    """
    if isinstance(reading, TaskRun) and reading.status is not None:
        accepted = shows_acceptance(evidence, reading)
        if reading.status.ended:
            return _ended(evidence, reading, accepted=accepted)
        if accepted:
            return Outcome.STUCK_STOPPING if patience_over else None
        if reading.status is Status.STOPPING and not patience_over:  # somebody else's request: ours was refused
            return None
        return _by_refusal(evidence, Outcome.FAILED)
    if reading is Unread.MISSING and not evidence.accepted:
        return Outcome.NOT_FOUND
    return _unread(evidence, missing=reading is Unread.MISSING) if patience_over else None


def _ended(evidence: Evidence, run: TaskRun, *, accepted: bool) -> Outcome:
    if not accepted or ended_before_request(evidence, run):
        return Outcome.ALREADY_FINISHED
    return Outcome.STOPPED if run.status is Status.STOPPED else Outcome.FINISHED_FIRST


def _unread(evidence: Evidence, *, missing: bool) -> Outcome:
    if evidence.accepted:  # a run that was accepted and then vanished is not "not seen ended": nobody can say
        return Outcome.UNKNOWN if missing else Outcome.STUCK_STOPPING
    return Outcome.UNKNOWN if evidence.tainted else _by_refusal(evidence, Outcome.UNKNOWN)


def _by_refusal(evidence: Evidence, otherwise: Outcome) -> Outcome:
    match evidence.refusal:
        case ErrorKind.INVALID:
            return Outcome.INVALID
        case ErrorKind.ACCESS:
            return Outcome.DENIED
        case _:
            return otherwise


def cut_short(evidence: Evidence) -> Outcome:
    """The outcome of a run whose requests went out and that no reading settled before the sweep ended."""
    if evidence.accepted:
        return Outcome.STOPPING
    return _unread(evidence, missing=False)
