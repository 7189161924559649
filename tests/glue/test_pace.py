import asyncio
import math
import random
from collections.abc import Coroutine
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from batch_cancel.core.adaptive_rate import AdaptiveRate
from batch_cancel.core.rate import Feedback, FixedRate
from batch_cancel.core.task_run import Access, Target
from batch_cancel.glue.learned import LearnedRates
from batch_cancel.glue.pace import InFlight, Pacer, Pacers, Place, Priority
from tests.sim.virtual_time import run

CANCEL, READ = Priority.CANCEL, Priority.READ


def now() -> float:
    return asyncio.get_running_loop().time()


async def all_of(*coroutines: Coroutine[Any, Any, Any]) -> list[Any]:
    return await asyncio.gather(*coroutines)


async def cancelled(task: asyncio.Task[Any]) -> bool:
    task.cancel()
    await asyncio.wait([task])
    return task.cancelled()


# The pacer.


@pytest.mark.parametrize("rps", [5, 1000])
def test_turns_come_exactly_at_the_rate(rps: int) -> None:
    async def main() -> list[float]:
        pacer = Pacer(FixedRate(rps))
        return await all_of(*(pacer.turn() for _ in range(3 * rps)))

    turns = run(main())
    assert turns[-1] - turns[0] == pytest.approx((3 * rps - 1) / rps, rel=0.018)
    assert turns == sorted(turns)


def test_the_turn_is_the_time_at_which_it_is_given() -> None:
    async def main() -> None:
        pacer = Pacer(FixedRate(10))
        for _ in range(5):
            assert await pacer.turn() == now()

    run(main())


@settings(max_examples=60, deadline=None)
@given(leaving=st.sets(st.integers(0, 29)), at_ms=st.integers(0, 3_000))
def test_who_leaves_the_line_leaves_no_hole_and_the_others_keep_their_order(leaving: set[int], at_ms: int) -> None:
    async def main() -> list[tuple[int, float]]:
        pacer, served = Pacer(FixedRate(10)), []

        async def one(number: int) -> None:
            served.append((number, await pacer.turn()))

        tasks = [asyncio.create_task(one(number)) for number in range(30)]
        await asyncio.sleep(at_ms / 1000)
        for number in leaving:
            tasks[number].cancel()
        await asyncio.wait(tasks)
        return served

    served = run(main())
    assert [number for number, _ in served] == sorted(number for number, _ in served)
    # Each interval serves somebody, as if those who left had never come.
    assert served == [] or served[-1][1] <= len(served) * 0.1009 + 0.001
    assert len(served) >= 30 - len(leaving)


def test_a_turn_that_comes_in_the_moment_of_a_cancellation_goes_to_the_next() -> None:
    async def main() -> tuple[float, float]:
        pacer = Pacer(FixedRate(1))
        await pacer.turn()
        leaves, stays = asyncio.create_task(pacer.turn()), asyncio.create_task(pacer.turn())
        # The same loop step rings the timer and cancels: the turn is given first.
        asyncio.get_running_loop().call_later(1.0, leaves.cancel)
        turn = await stays
        assert leaves.cancelled()
        return turn, await pacer.turn()

    assert run(main()) == pytest.approx((1.001, 2.01), abs=0.02)


def test_a_turn_given_to_one_who_leaves_is_passed_on_at_once() -> None:
    async def main() -> None:
        pacer = Pacer(FixedRate(1))
        await pacer.turn()
        leaves, stays = asyncio.create_task(pacer.turn()), asyncio.create_task(pacer.turn())
        await asyncio.sleep(0)
        pacer._give(now())
        assert await cancelled(leaves)
        assert await stays == 0.0
        alone = asyncio.create_task(pacer.turn())
        await asyncio.sleep(0)
        pacer._give(now())
        assert await cancelled(alone)  # nobody to pass it on to

    run(main())


def test_a_pause_holds_everybody_and_retry_after_is_one() -> None:
    async def main() -> list[float]:
        pacer = Pacer(FixedRate(100))
        sent_at = await pacer.turn()
        waiting = asyncio.gather(*(pacer.turn() for _ in range(3)))
        pacer.answered(sent_at=sent_at, feedback=Feedback.THROTTLED, retry_after_seconds=7.0)
        pacer.pause_until(2.0)  # a shorter one does not shorten it
        return await waiting

    assert run(main()) == pytest.approx([7.0, 7.0, 7.01], abs=0.01)


def test_a_rate_that_rises_brings_the_next_turn_forward() -> None:
    class Rising(FixedRate):
        def answered(self, *, sent_at: float, now: float, feedback: Feedback) -> None:
            self._schedule._next = now

    async def main() -> float:
        pacer = Pacer(Rising(0.01))
        sent_at = await pacer.turn()
        waiting = asyncio.create_task(pacer.turn())
        await asyncio.sleep(1.0)
        pacer.answered(sent_at=sent_at, feedback=Feedback.ACCEPTED)
        return await waiting

    assert run(main()) == 1.0


def test_in_flight_is_what_little_asks_for_at_slow_round_trips() -> None:
    async def main() -> None:
        pacer = Pacer(FixedRate(100))
        assert pacer.most_in_flight == 1.5 * 100 * 3 + 2  # nothing measured
        randomness = random.Random(1)
        for _ in range(500):
            trip = 0.1 * math.exp(randomness.gauss(0.0, 0.3))
            pacer.answered(sent_at=now() - trip, feedback=Feedback.ACCEPTED)
        slow = 0.1 * math.exp(1.645 * 0.3)  # the 95th percentile
        assert 0.7 <= pacer.most_in_flight / (1.5 * 100 * slow) <= 1.4
        assert (pacer.rps, pacer.limit_found, pacer.learned()) == (100, False, None)

    run(main())


# Places in flight.


@settings(max_examples=80, deadline=None)
@given(
    most=st.integers(1, 12),
    asked=st.lists(
        st.tuples(
            st.integers(0, 2),  # whose
            st.sampled_from(Priority),
            st.integers(0, 5),  # when, in seconds
            st.integers(0, 3),  # for how long
            st.integers(0, 8),  # given up after
        ),
        max_size=40,
    ),
)
def test_the_caps_hold_everybody_is_served_and_every_place_comes_back(
    most: int, asked: list[tuple[int, Priority, int, int, int]]
) -> None:
    async def main() -> None:
        in_flight = InFlight(most)
        pacers = [Pacer(FixedRate(rps)) for rps in (0.2, 1.0, 2.0)]
        held: list[Pacer] = []
        patient_served = 0

        async def one(whose: int, priority: Priority, start: int, hold: int, patience: int) -> None:
            nonlocal patient_served
            pacer = pacers[whose]
            await asyncio.sleep(start)
            async with asyncio.timeout(patience or None):
                place = await in_flight.enter(pacer, priority)
            held.append(pacer)
            assert len(held) <= most
            assert held.count(pacer) <= pacer.most_in_flight
            try:
                await asyncio.sleep(hold)
            finally:
                held.remove(pacer)
                place.leave()
            patient_served += patience == 0

        results = await asyncio.gather(*(one(*each) for each in asked), return_exceptions=True)
        assert {type(result) for result in results} <= {type(None), TimeoutError}
        assert patient_served == sum(each[-1] == 0 for each in asked)
        assert in_flight._taken == 0
        assert not in_flight._taken_of
        assert not in_flight._lines

    run(main())


async def order_of(most: int, asked: list[Priority]) -> list[Priority]:
    """In which order those are served who all ask while the only places are held."""
    in_flight, pacer, served = InFlight(most), Pacer(FixedRate(100)), []
    holding = [await in_flight.enter(pacer, READ) for _ in range(most)]

    async def one(priority: Priority) -> None:
        place = await in_flight.enter(pacer, priority)
        served.append(priority)
        place.leave()

    tasks = [asyncio.create_task(one(priority)) for priority in asked]
    await asyncio.sleep(0)
    for place in holding:
        place.leave()
    await asyncio.gather(*tasks)
    return served


def test_cancels_go_before_reads_that_came_first() -> None:
    assert run(order_of(1, [READ, READ, CANCEL, CANCEL])) == [CANCEL, CANCEL, READ, READ]


def test_reads_do_not_starve() -> None:
    served = run(order_of(1, [READ] * 3 + [CANCEL] * 40))
    assert [number for number, priority in enumerate(served) if priority is READ] == [7, 15, 23]


def test_one_that_waits_for_a_slow_service_keeps_nobody_from_a_quick_one() -> None:
    async def main() -> None:
        in_flight, slow, quick = InFlight(100), Pacer(FixedRate(0.2)), Pacer(FixedRate(100))
        for _ in range(slow.most_in_flight):
            await in_flight.enter(slow, CANCEL)
        waits = asyncio.create_task(in_flight.enter(slow, CANCEL))
        place = await asyncio.wait_for(in_flight.enter(quick, READ), 1.0)
        assert isinstance(place, Place)
        assert await cancelled(waits)

    run(main())


def test_a_place_given_in_the_moment_of_a_cancellation_comes_back() -> None:
    async def main() -> None:
        in_flight, pacer = InFlight(1), Pacer(FixedRate(100))
        place = await in_flight.enter(pacer, CANCEL)
        leaves = asyncio.create_task(in_flight.enter(pacer, CANCEL))
        await asyncio.sleep(0)
        place.leave()
        assert await cancelled(leaves)
        await asyncio.wait_for(in_flight.enter(pacer, CANCEL), 1.0)

    run(main())


def test_a_cap_that_shrank_while_one_left_loses_nobody() -> None:
    async def main() -> None:
        rate = FixedRate(1.0)
        in_flight, pacer = InFlight(1), Pacer(rate)
        place = await in_flight.enter(pacer, CANCEL)
        waiting = [asyncio.create_task(in_flight.enter(pacer, CANCEL)) for _ in range(9)]
        await asyncio.sleep(0)
        rate.rps = 0.2  # three at once instead of seven: six wait past the cap already
        for task in waiting[:6]:
            task.cancel()
        place.leave()
        for task in waiting[6:]:
            (await asyncio.wait_for(task, 1.0)).leave()

    run(main())


# The process's pacers.

TARGET = Target("eu-west-1", "111111111111")


def test_everybody_at_a_target_shares_the_pacer_of_an_operation() -> None:
    pacers = Pacers()
    first = pacers.pacer(TARGET, "CancelMLTaskRun")
    assert pacers.pacer(TARGET, "CancelMLTaskRun") is first
    assert pacers.pacer(TARGET, "GetMLTaskRun") is not first
    assert pacers.pacer(Target("us-east-1", "111111111111"), "CancelMLTaskRun") is not first


def test_the_users_rate_is_fixed_and_nothing_is_kept_of_it(tmp_path: Path) -> None:
    pacers = Pacers(50.0, learned=LearnedRates(tmp_path / "rates.json"))
    assert pacers.pacer(TARGET, "CancelMLTaskRun").rps == 50.0
    pacers.save()
    assert not (tmp_path / "rates.json").exists()


class Found(AdaptiveRate):
    """A rate whose limit is known."""

    def learned(self) -> float | None:
        return 77.0


def test_what_was_found_is_where_the_next_sweep_starts(tmp_path: Path) -> None:
    learned = LearnedRates(tmp_path / "rates.json")
    pacers = Pacers(learned=learned)
    pacers.pacer(TARGET, "CancelMLTaskRun")._rate = Found()
    nameless = Target("eu-west-1")
    pacers.pacer(nameless, "CancelMLTaskRun")._rate = Found()  # kept by the way in, as long as nobody knows more
    pacers.save()
    again = Pacers(learned=LearnedRates(tmp_path / "rates.json"))
    assert again.pacer(TARGET, "CancelMLTaskRun").rps == 77.0
    assert again.pacer(TARGET, "GetMLTaskRun").rps == AdaptiveRate().rps
    assert again.pacer(nameless, "CancelMLTaskRun").rps == 77.0
    assert again.pacer(Target("eu-west-1", access=Access("ops")), "CancelMLTaskRun").rps == AdaptiveRate().rps


def test_without_a_place_to_keep_them_nothing_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    pacers = Pacers()
    pacers.pacer(TARGET, "CancelMLTaskRun")._rate = Found()
    pacers.save()
    assert list(tmp_path.iterdir()) == []
    assert Pacers().pacer(TARGET, "CancelMLTaskRun").rps == AdaptiveRate().rps


def test_a_few_requests_that_hang_do_not_stop_the_rest() -> None:
    async def main() -> list[float]:
        pacer, in_flight = Pacer(FixedRate(8.0)), InFlight(256)
        loop, left = asyncio.get_running_loop(), []

        async def call(number: int) -> None:
            place = await in_flight.enter(pacer, Priority.CANCEL)
            place.sent(sent_at := await pacer.turn())
            left.append(loop.time())
            await asyncio.sleep(45.0 if 20 <= number < 30 else 0.05)
            pacer.answered(sent_at=sent_at, feedback=Feedback.SILENT if 20 <= number < 30 else Feedback.ACCEPTED)
            place.leave()

        async with asyncio.TaskGroup() as group:
            for number in range(100):
                group.create_task(call(number))
        return left

    left = run(main())
    assert len(left) == 100
    assert max(later - earlier for earlier, later in pairwise(left)) < 2.0
