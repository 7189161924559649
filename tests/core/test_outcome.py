"""Verdicts: the contract's table, and what must hold for any evidence and any reading."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from batch_cancel.core.errors import ErrorKind
from batch_cancel.core.outcome import (
    CLOCK_TOLERANCE,
    ERRORS,
    NOT_STOPPED,
    TROUBLE,
    TROUBLE_FIRST,
    UNFINISHED,
    Evidence,
    Outcome,
    Reading,
    Unread,
    cut_short,
    ended_before_request,
    shows_acceptance,
    verdict,
)
from batch_cancel.core.task_run import Status, TaskRun

ASKED_AT = datetime(2026, 11, 24, 12, 0, 0, tzinfo=UTC)
BEFORE = ASKED_AT - timedelta(minutes=1)
AFTER = ASKED_AT + timedelta(minutes=1)

ACCEPTED = Evidence(requested_at=ASKED_AT, accepted=True)
TAINTED = Evidence(requested_at=ASKED_AT, tainted=True)
NEVER_SENT = Evidence()

ACCEPTED_WORDS = (Outcome.STOPPED, Outcome.STOPPING, Outcome.STUCK_STOPPING, Outcome.FINISHED_FIRST)


def refused(kind: ErrorKind, *, tainted: bool = False) -> Evidence:
    return Evidence(requested_at=ASKED_AT, tainted=tainted, refusal=kind)


def run(status: Status | None, ended_at: datetime | None = None, modified_at: datetime | None = None) -> TaskRun:
    return TaskRun("tfm", "run", status=status, completed_on=ended_at, last_modified_on=modified_at)


AT_ONCE: list[tuple[str, Evidence, Reading, Outcome]] = [
    ("accepted, seen stopped", ACCEPTED, run(Status.STOPPED, AFTER), Outcome.STOPPED),
    ("accepted, ended by itself", ACCEPTED, run(Status.SUCCEEDED, AFTER), Outcome.FINISHED_FIRST),
    ("accepted, but it was over", ACCEPTED, run(Status.FAILED, BEFORE), Outcome.ALREADY_FINISHED),
    ("accepted, no time told", ACCEPTED, run(Status.TIMEOUT), Outcome.FINISHED_FIRST),
    ("ambiguous, seen stopped", TAINTED, run(Status.STOPPED, AFTER), Outcome.STOPPED),
    ("ambiguous, ended by itself", TAINTED, run(Status.SUCCEEDED, AFTER), Outcome.FINISHED_FIRST),
    ("ambiguous, it was over", TAINTED, run(Status.STOPPED, BEFORE), Outcome.ALREADY_FINISHED),
    ("ambiguous, still running", TAINTED, run(Status.RUNNING), Outcome.FAILED),
    ("ambiguous, Glue knows no such run", TAINTED, Unread.MISSING, Outcome.NOT_FOUND),
    (
        "ambiguous, then refused because it had worked",
        refused(ErrorKind.INVALID, tainted=True),
        run(Status.STOPPED, AFTER),
        Outcome.STOPPED,
    ),
    (
        "not found, but it had ended",
        refused(ErrorKind.NOT_FOUND),
        run(Status.SUCCEEDED, BEFORE),
        Outcome.ALREADY_FINISHED,
    ),
    ("not found, nor by reading", refused(ErrorKind.NOT_FOUND), Unread.MISSING, Outcome.NOT_FOUND),
    ("not found, yet running", refused(ErrorKind.NOT_FOUND), run(Status.RUNNING), Outcome.FAILED),
    ("invalid, but it had ended", refused(ErrorKind.INVALID), run(Status.STOPPED, BEFORE), Outcome.ALREADY_FINISHED),
    ("invalid, and it runs", refused(ErrorKind.INVALID), run(Status.RUNNING), Outcome.INVALID),
    ("denied, and it runs", refused(ErrorKind.ACCESS), run(Status.STARTING), Outcome.DENIED),
    ("refused in words that no table knows", refused(ErrorKind.OTHER), run(Status.RUNNING), Outcome.FAILED),
    ("never got through, running", NEVER_SENT, run(Status.RUNNING), Outcome.FAILED),
    ("never got through, ended", NEVER_SENT, run(Status.STOPPED, AFTER), Outcome.ALREADY_FINISHED),
]
ONLY_TIME_TELLS: list[tuple[str, Evidence, Reading, Outcome]] = [
    # and what is said when there is no more time
    ("accepted, stopping", ACCEPTED, run(Status.STOPPING), Outcome.STUCK_STOPPING),
    ("accepted, still running", ACCEPTED, run(Status.RUNNING), Outcome.STUCK_STOPPING),
    ("accepted, status of tomorrow", ACCEPTED, run(None), Outcome.STUCK_STOPPING),
    ("accepted, unreadable", ACCEPTED, Unread.UNREADABLE, Outcome.STUCK_STOPPING),
    ("accepted, then gone", ACCEPTED, Unread.MISSING, Outcome.UNKNOWN),
    ("ambiguous, stopping", TAINTED, run(Status.STOPPING), Outcome.STUCK_STOPPING),
    ("ambiguous, unreadable", TAINTED, Unread.UNREADABLE, Outcome.UNKNOWN),
    (
        "ambiguous, then not found because it had worked",
        refused(ErrorKind.NOT_FOUND, tainted=True),
        run(Status.STOPPING),
        Outcome.STUCK_STOPPING,
    ),
    ("ambiguous, then denied, unreadable", refused(ErrorKind.ACCESS, tainted=True), Unread.UNREADABLE, Outcome.UNKNOWN),
    ("not found, unreadable", refused(ErrorKind.NOT_FOUND), Unread.UNREADABLE, Outcome.UNKNOWN),
    ("invalid, unreadable", refused(ErrorKind.INVALID), Unread.UNREADABLE, Outcome.INVALID),
    ("denied, reading too", refused(ErrorKind.ACCESS), Unread.UNREADABLE, Outcome.DENIED),
    ("denied, somebody else stops it", refused(ErrorKind.ACCESS), run(Status.STOPPING), Outcome.DENIED),
    ("never got through, unreadable", NEVER_SENT, Unread.UNREADABLE, Outcome.UNKNOWN),
]


@pytest.mark.parametrize(
    ("evidence", "reading", "outcome"), [case[1:] for case in AT_ONCE], ids=[c[0] for c in AT_ONCE]
)
def test_what_one_reading_can_tell_is_told_at_once(evidence: Evidence, reading: Reading, outcome: Outcome) -> None:
    assert verdict(evidence, reading, patience_over=False) is outcome
    assert verdict(evidence, reading, patience_over=True) is outcome


@pytest.mark.parametrize(
    ("evidence", "reading", "outcome"), [case[1:] for case in ONLY_TIME_TELLS], ids=[c[0] for c in ONLY_TIME_TELLS]
)
def test_what_only_time_can_tell_is_waited_for(evidence: Evidence, reading: Reading, outcome: Outcome) -> None:
    assert verdict(evidence, reading, patience_over=False) is None
    assert verdict(evidence, reading, patience_over=True) is outcome


def test_a_run_that_was_seen_active_was_not_over_before_we_asked_whatever_the_clocks_say() -> None:
    our_clock_is_fast = run(Status.STOPPED, BEFORE)
    assert verdict(ACCEPTED, our_clock_is_fast, patience_over=False) is Outcome.ALREADY_FINISHED
    seen = replace(ACCEPTED, seen_active=True)
    assert verdict(seen, our_clock_is_fast, patience_over=False) is Outcome.STOPPED
    assert verdict(seen, run(Status.FAILED, BEFORE), patience_over=False) is Outcome.FINISHED_FIRST


def test_an_end_within_a_second_of_the_request_is_not_before_it() -> None:
    assert not ended_before_request(ACCEPTED, run(Status.STOPPED, ASKED_AT - CLOCK_TOLERANCE))
    assert ended_before_request(ACCEPTED, run(Status.STOPPED, ASKED_AT - CLOCK_TOLERANCE - timedelta(microseconds=1)))


def test_the_last_change_tells_the_end_where_glue_does_not() -> None:
    assert ended_before_request(ACCEPTED, run(Status.STOPPED, None, BEFORE))
    assert not ended_before_request(ACCEPTED, run(Status.STOPPED, AFTER, BEFORE))


@pytest.mark.parametrize(
    ("evidence", "outcome"),
    [
        (ACCEPTED, Outcome.STOPPING),
        (TAINTED, Outcome.UNKNOWN),
        (refused(ErrorKind.INVALID), Outcome.INVALID),
        (refused(ErrorKind.INVALID, tainted=True), Outcome.UNKNOWN),
        (refused(ErrorKind.ACCESS), Outcome.DENIED),
        (refused(ErrorKind.NOT_FOUND), Outcome.UNKNOWN),
        (NEVER_SENT, Outcome.UNKNOWN),
    ],
)
def test_what_is_cut_short_is_told_as_what_is_known(evidence: Evidence, outcome: Outcome) -> None:
    assert cut_short(evidence) is outcome


def test_the_groups_of_outcomes_are_those_of_the_contract() -> None:
    assert {str(outcome) for outcome in NOT_STOPPED} == {
        "failed", "unknown", "stuck_stopping", "denied", "invalid", "not_found",
    }  # fmt: skip  # a list of words
    assert ERRORS < NOT_STOPPED
    assert set(TROUBLE) == NOT_STOPPED | {Outcome.NOT_ATTEMPTED}
    assert sorted(TROUBLE_FIRST) == sorted(Outcome)  # each once
    assert Outcome.NOT_FOUND not in ERRORS | UNFINISHED
    settled = {Outcome.STOPPED, Outcome.FINISHED_FIRST, Outcome.ALREADY_FINISHED, Outcome.EXCLUDED, Outcome.NOT_FOUND}
    assert settled.isdisjoint(UNFINISHED)
    assert settled | UNFINISHED == set(Outcome)


# What holds for all of them

moments = st.none() | st.integers(-300, 300).map(lambda seconds: ASKED_AT + timedelta(seconds=seconds))
readings: st.SearchStrategy[Reading] = st.sampled_from(Unread) | st.builds(
    run, st.none() | st.sampled_from(Status), moments, moments
)


@st.composite
def evidences(draw: st.DrawFn) -> Evidence:
    """Any that requests can leave: what was accepted or ambiguous may have arrived, and so has a moment."""
    requested_at = draw(moments)
    arrived = requested_at is not None
    accepted = arrived and draw(st.booleans())
    refusal = None if accepted else draw(st.none() | st.sampled_from(ErrorKind))
    return Evidence(requested_at, accepted, arrived and draw(st.booleans()), refusal, arrived and draw(st.booleans()))


@settings(deadline=None)
@given(evidences(), readings, st.booleans())
def test_stopped_is_said_only_of_what_was_seen_stopped_after_a_request_that_was_accepted(
    evidence: Evidence, reading: Reading, patience_over: bool
) -> None:
    outcome = verdict(evidence, reading, patience_over=patience_over)
    if outcome is Outcome.STOPPED:
        assert isinstance(reading, TaskRun)
        assert reading.status is Status.STOPPED
        assert not ended_before_request(evidence, reading)
    if outcome in ACCEPTED_WORDS:
        assert evidence.accepted or evidence.tainted
        assert shows_acceptance(evidence, reading)


@settings(deadline=None)
@given(evidences(), readings, st.booleans())
def test_a_verdict_never_says_that_nothing_was_sent_or_that_a_rule_spared_the_run(
    evidence: Evidence, reading: Reading, patience_over: bool
) -> None:
    never = {Outcome.NOT_ATTEMPTED, Outcome.EXCLUDED, Outcome.WOULD_CANCEL, None}
    assert verdict(evidence, reading, patience_over=True) not in never
    assert cut_short(evidence) not in never
    assert verdict(evidence, reading, patience_over=patience_over) is not Outcome.STOPPING


@settings(deadline=None)
@given(evidences(), readings)
def test_patience_changes_no_verdict_that_was_reached_before_it_ended(evidence: Evidence, reading: Reading) -> None:
    early = verdict(evidence, reading, patience_over=False)
    if early is not None:
        assert verdict(evidence, reading, patience_over=True) is early


@settings(deadline=None)
@given(evidences(), readings)
def test_an_ambiguous_attempt_is_never_told_as_a_plain_refusal_unless_a_reading_showed_the_run(
    evidence: Evidence, reading: Reading
) -> None:
    tainted = replace(evidence, requested_at=evidence.requested_at or ASKED_AT, tainted=True)
    outcome = verdict(tainted, reading, patience_over=True)
    if outcome in (Outcome.FAILED, Outcome.INVALID, Outcome.DENIED):
        assert isinstance(reading, TaskRun)
        assert reading.status is not None
        assert reading.status.active
    assert cut_short(tainted) in (Outcome.UNKNOWN, Outcome.STOPPING)


@settings(deadline=None)
@given(evidences(), readings)
def test_unknown_is_said_only_where_no_reading_could_tell(evidence: Evidence, reading: Reading) -> None:
    if verdict(evidence, reading, patience_over=True) is Outcome.UNKNOWN:
        assert isinstance(reading, Unread) or reading.status is None


@settings(deadline=None)
@given(evidences(), readings)
def test_acceptance_is_never_taken_back(evidence: Evidence, reading: Reading) -> None:
    assert shows_acceptance(evidence, reading) or not evidence.accepted
    if shows_acceptance(evidence, reading) and not evidence.accepted:
        later = replace(evidence, accepted=True)
        assert verdict(later, reading, patience_over=True) is verdict(evidence, reading, patience_over=True)


@pytest.mark.parametrize(
    ("reading", "shown"),
    [
        (run(Status.STOPPING), True),
        (run(Status.STOPPED, AFTER), True),
        (run(Status.SUCCEEDED, AFTER), True),
        (run(Status.STOPPED, BEFORE), False),  # not by us: it was over when we asked
        (run(Status.RUNNING), False),
        (run(None), False),
        (Unread.MISSING, False),
    ],
)
def test_an_ambiguous_request_is_shown_to_be_accepted_by_what_came_after_it(reading: Reading, shown: bool) -> None:
    assert shows_acceptance(TAINTED, reading) is shown
    assert not shows_acceptance(replace(TAINTED, tainted=False), reading)  # somebody else's


@pytest.mark.parametrize("offset", [-600.0, -5.0, 5.0, 600.0])
def test_our_request_is_put_on_the_service_s_clock(offset: float) -> None:
    evidence = replace(ACCEPTED, clock_offset_seconds=offset)
    there = ASKED_AT + timedelta(seconds=offset)
    ours = run(Status.STOPPED, there + timedelta(seconds=0.2))
    theirs = run(Status.STOPPED, there - timedelta(seconds=60))
    assert verdict(evidence, ours, patience_over=False) is Outcome.STOPPED
    assert verdict(evidence, theirs, patience_over=False) is Outcome.ALREADY_FINISHED
    cut = run(Status.STOPPED, there - CLOCK_TOLERANCE - timedelta(seconds=1))  # both times were cut to the second
    assert verdict(evidence, cut, patience_over=False) is Outcome.STOPPED
