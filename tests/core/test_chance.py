import math
from itertools import pairwise

import pytest

from batch_cancel.core.adaptive_rate import AdaptiveRate
from batch_cancel.core.chance import Chance, Volley
from tests.bench.rate_grid import Client, World, within

RPS, TRIP = 10.0, 0.06
PLENTY = 1_000.0


def sent(volley: Volley, now: float, throttled: int) -> None:
    """One volley, all of whose requests are sent and answered, so many of them by throttles."""
    assert volley.begin(now, RPS, TRIP, most=PLENTY)
    requests = 1
    while volley.pace(now, RPS) == math.inf:
        requests += 1
    for number in range(requests):
        assert volley.saw(throttled=number < throttled, sent_at=now, now=now + TRIP, rps=RPS)


def test_who_is_let_through_at_once_was_throttled_by_chance() -> None:
    volley = Volley()
    sent(volley, 0.0, throttled=0)
    assert volley.chance == 0.0  # one may have been luck
    sent(volley, 1.0, throttled=0)
    assert volley.chance == 1.0
    sent(volley, 2.0, throttled=1)
    assert volley.chance == pytest.approx((0.81 + 0.9) / (0.81 + 0.9 + 1.0))


def test_an_empty_bucket_is_no_chance_and_the_next_volley_waits_each_time_longer() -> None:
    volley = Volley()
    sent(volley, 0.0, throttled=2)
    sent(volley, 1.0, throttled=1)
    assert volley.chance == 0.0
    waits, now = [], 1.0
    for _ in range(3):
        began = now
        while not volley.begin(now, RPS, TRIP, most=PLENTY):
            now += 1.0
        for _ in range(Volley.REQUESTS):
            volley.saw(throttled=True, sent_at=now, now=now + TRIP, rps=RPS)
        waits.append(now - began)
    assert waits[1] == pytest.approx(3.0 * waits[0], rel=0.1)
    assert waits[2] == pytest.approx(3.0 * waits[1], rel=0.1)


def test_of_a_large_volley_one_throttle_may_be_chance_itself() -> None:
    volley = Volley()
    for now in (0.0, 1.0):
        assert volley.begin(now, 200.0, TRIP, most=PLENTY)
        for number in range(Volley.REQUESTS + 6):
            volley.saw(throttled=number == 0, sent_at=now, now=now + TRIP, rps=200.0)
    assert volley.chance == 1.0


def test_who_has_too_little_to_send_proves_nothing() -> None:
    volley = Volley()
    for now in (0.0, 10.0, 20.0):
        assert volley.begin(now, RPS, TRIP, most=PLENTY)
        assert volley.saw(throttled=False, sent_at=now, now=now + TRIP, rps=RPS)
        assert not volley.saw(throttled=False, sent_at=now + 5.0, now=now + 5.0 + TRIP, rps=RPS)
        assert volley.pace(now + 5.0, RPS) == RPS
    assert volley.chance == 0.0


def test_answers_to_what_left_before_or_after_it_are_none_of_its_own() -> None:
    volley = Volley()
    assert volley.begin(5.0, RPS, TRIP, most=PLENTY)
    assert not volley.saw(throttled=True, sent_at=4.9, now=5.01, rps=RPS)
    assert not volley.saw(throttled=True, sent_at=5.1, now=5.16, rps=RPS)


def test_where_what_was_under_way_is_throttled_too_it_was_no_chance() -> None:
    volley = Volley()
    for now in (0.0, 1.0):
        assert volley.begin(now, RPS, TRIP, most=PLENTY)
        assert not volley.saw(throttled=True, sent_at=now - 0.05, now=now + 0.01, rps=RPS)
        for _ in range(Volley.REQUESTS):
            volley.saw(throttled=False, sent_at=now, now=now + TRIP, rps=RPS)
    assert volley.chance == 0.0


def test_one_volley_at_a_time_and_none_of_more_than_the_user_allows() -> None:
    volley = Volley()
    assert not volley.begin(0.0, RPS, TRIP, most=2.0)
    assert volley.begin(0.0, RPS, TRIP, most=3.0)
    assert not volley.begin(0.0, RPS, TRIP, most=3.0)


def test_after_a_start_whose_throttles_are_its_own_there_is_none_for_a_while() -> None:
    volley = Volley()
    volley.started(0.0, RPS)
    assert not volley.begin(7.0, RPS, TRIP, most=PLENTY)
    assert volley.begin(8.0, RPS, TRIP, most=PLENTY)


def test_throttles_in_both_halves_look_like_chance_and_those_in_the_upper_half_do_not() -> None:
    chance, limit = Chance(), Chance()
    for number in range(600):
        throttled = number % 30 == 0
        chance.saw(throttled=throttled, low=number % 60 < 30, rps=RPS)
        limit.saw(throttled=throttled, low=not throttled and number % 2 == 0, rps=RPS)
    assert chance.suspected > 2.0 * Chance.SUSPICIOUS
    assert limit.suspected == 0.0
    assert chance.all == pytest.approx(limit.all)


def at_one_moment(client: Client) -> int:
    """So many requests left together with another one."""
    at = sorted([*client.accepted, *client.throttled])
    return sum(later - earlier < 1e-6 for earlier, later in pairwise(at) if earlier > 30.0)


def test_volleys_are_sent_where_chance_throttles_and_not_where_the_limit_is_all_there_is() -> None:
    together = []
    for share in (0.02, 0.0):
        client = Client(AdaptiveRate(), 50)
        World(8, 10, random_share=share).run([client], 1, 180.0)
        together.append(at_one_moment(client))
    assert together[0] >= 10
    assert together[1] == 0


def test_volleys_do_not_exceed_the_users_maximum() -> None:
    client = Client(AdaptiveRate(most_rps=12.0), 50)
    World(20, 20, random_share=0.02).run([client], 1, 180.0)
    at = sorted([*client.accepted, *client.throttled])
    assert max(within(at, start / 4.0, start / 4.0 + 1.0) for start in range(4, 700)) <= 13
