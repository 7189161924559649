"""The service's clock, as the dates of its answers tell it."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batch_cancel.core.service_clock import ServiceClock

NOON = datetime(2026, 11, 24, 12, tzinfo=UTC)
SECONDS = st.floats(0.0, 30.0)


def after(seconds: float) -> datetime:
    return NOON + timedelta(seconds=seconds)


def dated(at_service: datetime) -> datetime:
    return at_service.replace(microsecond=0)


def test_nothing_is_known_before_an_answer_has_a_date() -> None:
    clock = ServiceClock()
    clock.told(None, sent_at=NOON, heard_at=after(0.1))
    assert clock.offset_seconds is None


def test_clocks_that_may_be_the_same_are_taken_to_be() -> None:
    clock = ServiceClock()
    clock.told(dated(after(0.7)), sent_at=after(0.6), heard_at=after(0.8))
    assert clock.offset_seconds == 0.0


@pytest.mark.parametrize("offset", [-600.0, -5.0, 5.0, 600.0])
def test_a_clock_that_differs_is_told_by_one_answer_and_narrowed_by_more(offset: float) -> None:
    clock = ServiceClock()
    for number in range(20):
        sent = 0.13 * number
        clock.told(dated(after(sent + 0.05 + offset)), sent_at=after(sent), heard_at=after(sent + 0.1))
        assert offset - 1.1 <= (clock.offset_seconds or 0.0) <= offset
    assert offset - 0.2 <= (clock.offset_seconds or 0.0) <= offset


@given(offset=st.floats(-600, 600), calls=st.lists(st.tuples(SECONDS, SECONDS, SECONDS), min_size=1, max_size=5))
def test_the_difference_is_never_overrated_by_more_than_the_header_s_resolution_and_the_way(
    offset: float, calls: list[tuple[float, float, float]]
) -> None:
    clock = ServiceClock()
    for sent, there, back in calls:
        answered = dated(after(sent + there + offset))
        clock.told(answered, sent_at=after(sent), heard_at=after(sent + there + back))
        assert clock.offset_seconds is not None
        assert clock.offset_seconds <= max(offset, 0.0) + 1e-5
        assert clock.offset_seconds - offset <= 1.0 + there + back + 1e-5


def test_a_clock_that_is_set_is_learnt_anew() -> None:
    clock = ServiceClock()
    clock.told(after(0), sent_at=after(0), heard_at=after(0.1))
    clock.told(after(301), sent_at=after(1), heard_at=after(1.1))
    assert clock.offset_seconds == pytest.approx(299.9)
    clock.told(after(2), sent_at=after(302), heard_at=after(301))  # ours went back while the call was out
    assert clock.offset_seconds == pytest.approx(299.9)


@pytest.mark.parametrize("date", [datetime(1970, 1, 1, tzinfo=UTC), datetime(9999, 12, 31, tzinfo=UTC)])
def test_a_date_that_can_be_no_clock_s_says_nothing(date: datetime) -> None:
    clocks = [ServiceClock(), ServiceClock(-600.0)]
    for clock in clocks:
        clock.told(date, sent_at=NOON, heard_at=after(0.1))
    assert [clock.offset_seconds for clock in clocks] == [None, -600.0]


def test_what_an_earlier_process_knew_serves_until_an_answer_comes() -> None:
    known = [ServiceClock(-600.0), ServiceClock(-600.0)]
    known[1].told(after(0), sent_at=after(0), heard_at=after(0.1))
    assert [clock.offset_seconds for clock in known] == [-600.0, 0.0]
