import asyncio
import contextlib
import math
import os
import subprocess
import sys
from collections.abc import Callable

import pytest

from batch_cancel.core.outcome import Outcome
from tests.scratch import scratch
from tests.sim.checker import check
from tests.sim.histories import Blow, history
from tests.sim.lives import live_through
from tests.sim.mortal import Died, MortalLoop
from tests.sim.run import SEEDS_AT_ONCE, Tally, play, play_many
from tests.sim.story import AMBIGUOUS, Story

SEEDS = 500


def test_no_history_breaks_a_promise() -> None:
    tally = Tally()
    for done in play_many(range(SEEDS), jobs=2):
        tally.add(done)

    assert tally.violations == {}
    assert tally.histories == SEEDS
    # And they were worth playing: everything that can befall a process did, and every kind of verdict was given.
    assert {blow.value for blow in Blow} - {Blow.NONE.value} == set(tally.blows)
    assert {str(outcome) for outcome in Outcome} == set(tally.outcomes)
    assert tally.resumes > SEEDS / 2


def test_histories_that_once_told_of_a_bug_are_well() -> None:
    """Beyond the seeds above, as long as the generator makes the same histories of them."""
    once = (864, 1212, 1363, 1498, 2727, 3485, 3735, 4238, 4550, 5254, 6529, 10045, 11213, 11328, 12577, 17567, 18800)

    violations = {seed: play(seed)[1].violations for seed in once}

    assert {seed: found for seed, found in violations.items() if found} == {}


@pytest.mark.parametrize("hash_seed", ["0", "4711"])
def test_a_seed_is_replayed_step_by_step(hash_seed: str) -> None:
    seeds = range(40, 52)
    here = [play(seed)[1].trace.digest for seed in seeds]
    code = f"from tests.sim.run import play\nfor seed in {seeds!r}: print(play(seed)[1].trace.digest)"
    environment = {**os.environ, "PYTHONHASHSEED": hash_seed}

    there = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)

    assert there.stdout.split() == here


def test_a_batch_of_seeds_is_split_without_loss() -> None:
    seeds = range(3, 3 + 2 * SEEDS_AT_ONCE + 7)
    some = [seeds[at : at + SEEDS_AT_ONCE] for at in range(0, len(seeds), SEEDS_AT_ONCE)]

    assert [seed for each in some for seed in each] == list(seeds)


def test_what_dies_runs_no_finally() -> None:
    loop = MortalLoop(0.0)
    told: list[str] = []

    async def work() -> None:
        try:
            loop.call_later(5.0, loop.die)
            await asyncio.sleep(10.0)
        finally:
            told.append("finally")

    with pytest.raises(Died):
        loop.live(work())

    assert told == []
    assert loop.time() == 5.0
    loop.bury()


Falsify = Callable[[Story], None]


def _drop_readings(story: Story) -> None:
    story.reads.clear()


def _forget_that_it_took(story: Story) -> None:
    for wires in story.by_run.values():
        for wire in wires:
            wire.took = wire.carried_out = False
            wire.heard = "throttle"


def _lose_the_order(story: Story) -> None:
    for wire in story.wires:
        if wire.status == "STARTING":
            wire.ended = math.inf


def _ambiguous_twice(story: Story) -> None:
    for key, wires in story.by_run.items():
        wires[0].heard = AMBIGUOUS
        story.by_run[key] = [wires[0], wires[0]]


@pytest.mark.parametrize(
    ("falsify", "rule"),
    [
        (_drop_readings, "no reading showed"),
        (_forget_that_it_took, "not the calls on the wire"),
        (_lose_the_order, "RUNNING is listed before STARTING"),
        (_ambiguous_twice, "without being read in between"),
    ],
)
def test_a_story_that_is_tampered_with_is_found_out(falsify: Falsify, rule: str) -> None:
    for seed in range(60):
        told = history(seed)
        with scratch() as directory:
            story = live_through(told, directory)
        falsify(story)
        with contextlib.suppress(AssertionError, ValueError):  # it may make no sense at all any more
            check(told, story)
        if any(rule in violation for violation in story.violations):
            return
    pytest.fail(f"nobody noticed: {rule}")
