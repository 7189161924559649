import random
from collections.abc import Callable

from hypothesis import given, settings
from hypothesis import strategies as st

from batch_cancel.core.rate import Feedback, FixedRate, Rate
from tests.bench.rate_grid import within


def times_sent(rate: Rate, until: float, lateness: Callable[[], float]) -> list[float]:
    """When requests leave that are always waiting, by a timer that is late."""
    now, sent = 0.0, []
    while now < until:
        now = max(rate.due(now), now) + lateness()
        while rate.due(now) <= now:
            sent.append(rate.reserve(now))
    return sent


def most_in_a_second(sent: list[float]) -> int:
    return max(within(sent, at, at + 1.0) for at in sent)


@settings(max_examples=25, deadline=None)
@given(rps=st.integers(1, 1000), late_ms=st.floats(0.0, 50.0), seed=st.integers(0, 9))
def test_no_second_ever_holds_more_than_the_fixed_rate_however_late_the_timer(
    rps: int, late_ms: float, seed: int
) -> None:
    randomness = random.Random(seed)
    sent = times_sent(FixedRate(rps), 2.0, lambda: randomness.random() * late_ms / 1000.0)
    assert most_in_a_second(sent) <= rps


@settings(max_examples=25, deadline=None)
@given(rps=st.floats(0.3, 1000.0), seed=st.integers(0, 9))
def test_the_fixed_rate_is_used_to_98_percent_by_a_timer_that_is_a_few_milliseconds_late(rps: float, seed: int) -> None:
    randomness = random.Random(seed)
    span = max(2.0, 100.0 / rps)
    sent = times_sent(FixedRate(rps), span, lambda: randomness.random() * 0.005)
    assert len(sent) >= 0.98 * rps * span


@settings(max_examples=30, deadline=None)
@given(gaps=st.lists(st.floats(0.0, 3.0), min_size=1, max_size=20))
def test_a_pause_saves_nothing_up_for_the_fixed_rate(gaps: list[float]) -> None:
    rate, now, sent = FixedRate(20), 0.0, []
    for gap in gaps:
        now += gap
        while rate.due(now) <= now:
            sent.append(rate.reserve(now))
    assert most_in_a_second(sent) <= 20


def test_a_fixed_rate_listens_to_nobody_and_learns_nothing() -> None:
    rate = FixedRate(7.0)
    rate.answered(sent_at=0.0, now=0.1, feedback=Feedback.THROTTLED)
    assert (rate.rps, rate.limit_found, rate.learned()) == (7.0, False, None)
