import pytest

from batch_cancel.core.retry_budget import RetryBudget


def test_an_outage_may_not_be_hammered_and_successes_pay_back() -> None:
    budget = RetryBudget()

    def waits(number: int, now: float) -> list[float]:
        return [budget.wait_seconds(budget.withdraw(now), now) for _ in range(number)]

    first = waits(100, 0.0)
    assert sum(wait == 0.0 for wait in first) == 35  # 500 tokens, 14 a retry
    assert first[-1] == pytest.approx((100 * 14 - 500) / 14 / 20)  # the rest stand in a line of 20 a second
    assert first[35:] == sorted(first[35:])
    assert waits(1, 3.3)[0] < 0.1  # the line has moved on
    for _ in range(10_000):
        budget.succeeded()
    assert sum(wait == 0.0 for wait in waits(100, 3.3)) == 35
    assert sum(wait == 0.0 for wait in waits(100, 1e6)) == 35  # and time alone fills it again


def test_who_stands_in_the_line_of_retries_goes_sooner_once_calls_succeed_and_no_later_for_who_comes_after() -> None:
    budget = RetryBudget()
    places = [budget.withdraw(0.0) for _ in range(300)]
    before = [budget.wait_seconds(place, 1.0) for place in places]
    assert max(before) == pytest.approx((300 * 14 - 500) / 14 / 20 - 1.0)
    for _ in range(500):
        budget.succeeded()
    assert sum(budget.wait_seconds(place, 1.0) == 0.0 for place in places) == 300  # 500 successes pay for 250
    budget.withdraw(1.0)
    assert budget.wait_seconds(places[0], 1.0) == 0.0
    places = [budget.withdraw(1.0) for _ in range(100)]
    left = [budget.wait_seconds(place, 1.0) for place in places]
    for _ in range(100):
        budget.withdraw(1.0)
    assert [budget.wait_seconds(place, 1.0) for place in places] == pytest.approx(left)
