import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from batch_cancel.core.adaptive_rate import LEAST_RPS, AdaptiveRate
from batch_cancel.core.rate import Feedback
from tests.bench.rate_grid import Client, World, paced_backoff, within

ACCEPTED, THROTTLED, SILENT = Feedback.ACCEPTED, Feedback.THROTTLED, Feedback.SILENT


# The adaptive rate against a simulated limit: tests/bench/rate_grid.py measures the same with more seeds and cases.


def ran(world: World, until: float, rate: AdaptiveRate | None = None, seed: int = 1) -> tuple[Client, AdaptiveRate]:
    rate = rate or AdaptiveRate()
    client = Client(rate, world.at_once)
    world.run([client], seed, until)
    return client, rate


@pytest.mark.parametrize(("limit", "burst"), [(5, 10), (20, 20), (100, 5), (300, 50)])
def test_an_unknown_limit_is_found_used_and_seldom_exceeded(limit: float, burst: float) -> None:
    client, rate = ran(World(limit, burst), 60.0)
    assert rate.limit_found
    assert client.rps(20.0, 60.0) >= 0.96 * limit
    assert client.share(20.0, 60.0) <= 4.0
    learned = rate.learned()
    assert learned is not None
    assert 0.85 * limit <= learned <= 1.15 * limit


def test_slow_round_trips_do_not_make_it_cut_for_what_it_sent_before_the_last_cut() -> None:
    client, _ = ran(World(100, 50, round_trip=1.5), 90.0)
    assert client.rps(40.0, 88.0) >= 0.95 * 100
    assert client.share(40.0, 88.0) <= 5.0


@pytest.mark.parametrize("limit", [20, 100, 300])
def test_half_the_limit_is_found_within_three_seconds(limit: float) -> None:
    client, _ = ran(World(limit, 20, changes=((30.0, limit / 2),)), 45.0)
    assert client.share(33.0, 45.0) <= 5.0
    assert client.rps(33.0, 45.0) >= 0.95 * limit / 2


@pytest.mark.parametrize(("limit", "within_seconds"), [(5, 60.0), (50, 20.0), (200, 20.0)])
def test_twice_the_limit_is_found(limit: float, within_seconds: float) -> None:
    client, _ = ran(World(limit, 20, changes=((30.0, 2.0 * limit),)), 30.0 + within_seconds + 5.0)
    assert client.rps(30.0 + within_seconds, 35.0 + within_seconds) >= 0.9 * 2.0 * limit


def test_ten_times_the_limit_is_found_the_sooner_the_longer_nothing_is_throttled() -> None:
    client, _ = ran(World(5, 10, changes=((60.0, 50.0),)), 110.0)
    grown = [client.rps(at, at + 5.0) for at in (60.0, 65.0, 70.0, 105.0)]
    assert grown[1] - grown[0] < grown[2] - grown[1]
    assert grown[-1] >= 0.9 * 50
    assert client.share(60.0, 110.0) <= 3.0


@pytest.mark.parametrize("seed", range(4))
def test_the_end_of_a_long_way_up_is_searched_as_at_the_start(seed: int) -> None:
    client, _ = ran(World(5, 10, changes=((60.0, 50.0),)), 140.0, seed=seed)
    heard = next(at for at in client.throttled if at > 62.0 and client.rps(at - 1.0, at) > 40.0)
    assert client.rps(heard + 3.0, heard + 10.0) >= 0.9 * 50
    assert client.share(heard + 3.0, heard + 10.0) <= 5.0


@pytest.mark.parametrize("round_trip", [0.002, 0.004, 0.05, 0.06])
def test_three_hundred_calls_at_an_unknown_twenty_a_second_take_fifteen_seconds(round_trip: float) -> None:
    shares = []
    for seed in range(5):
        client = Client(AdaptiveRate(), 50, calls=300, backoff=paced_backoff)
        World(20, 20, round_trip).run([client], seed)
        assert client.finished_at <= 15.0
        shares.append(client.share())
    assert math.fsum(shares) / len(shares) <= 5.0


def test_a_start_that_overshot_is_near_the_limit_as_soon_as_it_is_heard() -> None:
    client, _ = ran(World(500, 100), 4.0)
    assert client.rps(2.5, 4.0) >= 0.85 * 500
    assert client.share(2.5, 4.0) <= 5.0


@pytest.mark.parametrize("limit", [100, 300])
def test_throttles_by_chance_do_not_hold_it_down(limit: float) -> None:
    client, _ = ran(World(limit, 50, random_share=0.02), 90.0)
    assert client.rps(45.0, 90.0) >= 0.85 * limit
    assert client.share(45.0, 90.0) <= 6.0


def test_where_there_is_no_limit_a_second_is_enough_to_be_out_of_the_way() -> None:
    rate = AdaptiveRate()
    client = Client(rate, 256, calls=6_000)
    World(math.inf, 0, round_trip=0.004).run([client], 1)
    assert client.finished_at < 1.0
    assert (rate.limit_found, rate.learned()) == (False, None)


def test_the_users_maximum_is_never_exceeded() -> None:
    _, rate = ran(World(math.inf, 0, round_trip=0.004), 3.0, AdaptiveRate(most_rps=30.0))
    assert rate.rps == 30.0
    client, _ = ran(World(100, 5), 20.0, AdaptiveRate(start_rps=500.0, most_rps=40.0))
    assert max(within(client.accepted, at, at + 1.0) for at in range(20)) <= 43


def test_it_starts_from_what_was_learned() -> None:
    assert AdaptiveRate(start_rps=123.0).rps == 123.0
    assert AdaptiveRate(start_rps=0.0).rps == LEAST_RPS
    client, _ = ran(World(200, 50), 5.0, AdaptiveRate(start_rps=200.0))
    unaware, _ = ran(World(200, 50), 5.0)
    assert client.rps(0.0, 5.0) > 1.1 * unaware.rps(0.0, 5.0)


def test_what_was_learned_may_be_wrong_by_far() -> None:
    client, _ = ran(World(5, 10), 60.0, AdaptiveRate(start_rps=500.0))
    assert client.share(20.0, 60.0) <= 6.0
    client, _ = ran(World(500, 50), 30.0, AdaptiveRate(start_rps=1.0))
    assert client.rps(20.0, 30.0) >= 0.9 * 500


def test_a_service_that_lets_nothing_through_is_asked_every_five_seconds_and_no_less() -> None:
    client, rate = ran(World(1e-9, 0), 300.0)
    assert rate.rps == pytest.approx(LEAST_RPS, rel=0.1)
    assert 15 <= within(client.throttled, 200.0, 300.0) <= 25


@pytest.mark.parametrize("limit", [5, 20, 100, 500])
@pytest.mark.parametrize("part", [0.0, 0.01])
def test_an_outage_is_left_behind_within_seconds(limit: float, part: float) -> None:
    client, _ = ran(World(limit, 20, changes=((30.0, part * limit), (60.0, limit))), 100.0)
    assert within(client.throttled, 32.0, 60.0) <= 40
    assert client.rps(69.0 if part == 0.0 else 90.0, 98.0) >= 0.9 * limit
    assert within(client.throttled, 60.0, 98.0) <= 20 + 0.03 * 38 * limit


@pytest.mark.parametrize(("limit", "low", "seeds"), [(20, 2, 6), (100, 5, 2), (300, 5, 2)])
def test_where_the_limit_is_down_for_good_it_is_looked_for_above_ever_more_seldom(
    limit: float, low: float, seeds: int
) -> None:
    soon, later = [], []
    for seed in range(seeds):
        client, _ = ran(World(limit, 20, changes=((30.0, low),)), 400.0, seed=seed)
        assert client.rps(60.0, 398.0) >= 0.97 * low
        soon.append(client.share(40.0, 130.0))
        later.append(client.share(200.0, 398.0))
    assert math.fsum(soon) / seeds <= 7.0
    assert math.fsum(later) / seeds <= 3.5


def test_an_outage_is_not_learned_as_a_limit() -> None:
    _, rate = ran(World(20, 20, changes=((30.0, 0.0),)), 60.0)
    assert rate.limit_found
    assert rate.learned() is None


def test_silence_changes_nothing() -> None:
    rate = AdaptiveRate()
    rate.reserve(0.0)
    rate.answered(sent_at=0.0, now=45.0, feedback=SILENT)
    assert (rate.rps, rate.limit_found) == (10.0, False)


def test_who_has_little_to_send_learns_nothing_from_its_being_accepted() -> None:
    rate = AdaptiveRate()
    for second in range(200):
        rate.reserve(float(second))
        rate.answered(sent_at=float(second), now=second + 0.06, feedback=ACCEPTED)
    assert rate.rps < 100.0


def test_who_has_little_to_send_does_not_grow_after_the_limit_was_found() -> None:
    _, rate = ran(World(20, 5), 20.0)
    found = rate.learned()
    assert found is not None
    for second in range(100, 300):
        rate.reserve(float(second))
        rate.answered(sent_at=float(second), now=second + 0.06, feedback=ACCEPTED)
    assert rate.learned() == pytest.approx(found, rel=0.1)


def part_of_the_way_back(throttles: int, seed: int) -> float:
    """After so many throttles in a row and forty accepted requests: of the logarithm of what they cost."""
    _, rate = ran(World(20, 20), 120.0, seed=seed)
    now, limits = 121.0, []
    for feedback, times in ((ACCEPTED, 40), (THROTTLED, throttles), (ACCEPTED, 40)):
        for _ in range(times):
            now = rate.due(now)
            rate.reserve(now)
            rate.answered(sent_at=now, now=now + 0.06, feedback=feedback)
        learned = rate.learned()
        assert learned is not None
        limits.append(math.log(learned))
    return (limits[2] - limits[1]) / (limits[0] - limits[1])


def test_a_cut_of_one_throttle_needs_no_way_back_as_one_of_several_does() -> None:
    alone, several = (math.fsum(part_of_the_way_back(throttles, seed) for seed in range(8)) for throttles in (1, 2))
    assert alone < several


def test_an_answer_to_a_request_of_long_ago_moves_nothing_much() -> None:
    _, rate = ran(World(100, 5), 400.0)
    before = rate.rps
    rate.answered(sent_at=0.0, now=400.0, feedback=THROTTLED)
    rate.answered(sent_at=0.0, now=400.0, feedback=ACCEPTED)
    assert rate.rps == pytest.approx(before, rel=0.2)


def test_answers_in_the_very_moment_of_sending_are_borne() -> None:
    rate = AdaptiveRate()
    for _ in range(50):
        at = rate.reserve(rate.due(5.0))
        rate.answered(sent_at=at, now=at, feedback=ACCEPTED)
    assert rate.rps > 10.0


@settings(max_examples=30, deadline=None)
@given(
    answers=st.lists(
        st.tuples(st.floats(0.0, 0.5), st.floats(0.0, 50.0), st.sampled_from(list(Feedback))), max_size=300
    ),
    start=st.one_of(st.none(), st.floats(0.01, 1e6)),
    most=st.floats(LEAST_RPS, 1e6),
)
def test_whatever_is_answered_the_rate_stays_between_its_bounds(
    answers: list[tuple[float, float, Feedback]], start: float | None, most: float
) -> None:
    rate, now = AdaptiveRate(start_rps=start, most_rps=most), 0.0
    for gap, trip, feedback in answers:
        now += gap
        at = rate.reserve(rate.due(now))
        assert at >= now
        rate.answered(sent_at=now, now=now + trip, feedback=feedback)
        assert LEAST_RPS <= rate.rps <= max(most, LEAST_RPS)


@pytest.mark.parametrize(("limit", "burst", "seeds", "part"), [(20, 20, 24, 0.7), (100, 50, 4, 0.6)])
def test_three_on_one_key_use_it_all_and_the_last_to_come_gets_a_share(
    limit: float, burst: float, seeds: int, part: float
) -> None:
    least = []
    for seed in range(seeds):
        clients = [Client(AdaptiveRate(), 50, begins=begins) for begins in (0.0, 7.0, 20.0)]
        World(limit, burst).run(clients, seed, 182.0)
        each = [client.rps(60.0, 180.0) for client in clients]
        assert sum(each) >= 0.97 * limit
        least.append(3.0 * min(each) / sum(each))
    assert math.fsum(least) / len(least) >= part


def test_others_throttles_are_not_taken_for_chance() -> None:
    shares = []
    for seed in range(24):
        clients = [Client(AdaptiveRate(), 50, begins=begins) for begins in (0.0, 7.0, 20.0)]
        World(20, 20).run(clients, seed, 182.0)
        throttled = sum(within(client.throttled, 60.0, 180.0) for client in clients)
        shares.append(throttled / (throttled + sum(within(client.accepted, 60.0, 180.0) for client in clients)))
    assert math.fsum(shares) / len(shares) <= 0.029


@pytest.mark.parametrize("limit", [5, 8, 10, 14, 20])
def test_a_slow_limit_is_used_though_two_in_a_hundred_are_throttled_by_chance(limit: float) -> None:
    world = World(limit, 20, random_share=0.02)
    uses = [ran(world, 180.0, seed=seed)[0].rps(60.0, 178.0) / limit for seed in range(8)]
    assert math.fsum(uses) / len(uses) >= 0.9


@pytest.mark.parametrize(("limit", "round_trip"), [(2, 0.06), (2, 1.5), (3, 2.0), (3, 3.0)])
def test_where_a_low_limit_is_ones_own_trying_for_more_costs_little(limit: float, round_trip: float) -> None:
    shares = []
    for seed in range(3):
        client, _ = ran(World(limit, 10, round_trip=round_trip), 402.0, seed=seed)
        assert client.rps(100.0, 395.0) >= 0.97 * limit
        shares.append(client.share(100.0, 395.0))
    assert math.fsum(shares) / len(shares) <= 4.5


@pytest.mark.parametrize("share", [0.05, 0.1])
def test_chance_alone_never_drives_it_to_a_standstill(share: float) -> None:
    client, _ = ran(World(100, 50, random_share=share), 240.0)
    assert client.rps(120.0, 240.0) >= 8.0


def test_five_in_a_hundred_throttled_by_chance_leave_most_of_the_limit() -> None:
    uses = [ran(World(20, 20, random_share=0.05), 180.0, seed=seed)[0].rps(60.0, 178.0) / 20 for seed in range(12)]
    assert math.fsum(uses) / len(uses) >= 0.7
