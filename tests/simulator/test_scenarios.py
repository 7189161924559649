"""Scenarios: the built-in ones stand, and a file that is wrong is told every fault at its place."""

from itertools import pairwise
from math import inf
from pathlib import Path

import pytest

from batch_cancel.core.errors import InputError, UsageError
from batch_cancel.simulator.fleet import Run
from batch_cancel.simulator.latency import between
from batch_cancel.simulator.scenario_file import load_scenario, parse_scenario
from batch_cancel.simulator.scenarios import find_scenario, scenario_names, scenario_text
from batch_cancel.simulator.settings import CancelEnded, FaultKind, Limit
from batch_cancel.simulator.world import World
from tests.simulator.worlds import Clock
from tests.sweeps import Play, settings

DRILLS = ("expired-credentials", "incident", "organization", "outage", "restarts", "throttled")


def world_of(name: str) -> World:
    return World(find_scenario(name).world, now=Clock())


def test_the_drills_are_there() -> None:
    assert set(DRILLS) <= set(scenario_names())


@pytest.mark.parametrize("name", scenario_names())
def test_a_built_in_scenario_has_a_story_a_goal_and_something_to_cancel(name: str) -> None:
    scenario = find_scenario(name)
    assert scenario.name == name
    assert len(scenario.story) > 40
    assert len(scenario.goal) > 20
    assert scenario.command.startswith("batch-cancel run")
    world = World(scenario.world, now=Clock())
    now = world.now()
    assert any(run.status(now).active for _, _, run in world.runs())


def test_what_the_stories_tell_is_in_their_worlds() -> None:
    clock = Clock()
    incident = World(find_scenario("incident").world, now=clock)
    incident.call("", "us-east-1", "ListMLTransforms", {})
    clock.pass_(60)
    incident.now()
    assert any(run.origin == "new" for *_, run in incident.runs())
    assert len(find_scenario("throttled").world.limits) == 3
    outage = find_scenario("outage").world
    assert outage.behaviour.cancel_ended is CancelEnded.INVALID
    assert {fault.kind for fault in outage.faults} >= {FaultKind.APPLIED_500, FaultKind.UNAVAILABLE}
    assert find_scenario("expired-credentials").world.access.keys_live_seconds == 15
    assert find_scenario("restarts").world.behaviour.restart_share == 0.3
    organization = find_scenario("organization").world
    units = {account_id for unit in organization.organization.units for account_id in unit.accounts}
    assert units == set(organization.fleet.accounts[1:])


def played(name: str) -> Play:
    """A drill, from its world's first call to the sweep's end, on virtual time."""
    scenario = find_scenario(name)
    play = Play(scenario.world, between(*scenario.latency_seconds))
    assert play.sweep(settings()).exit_code == 0
    assert play.active() == 0
    return play


def cancels_since(play: Play, *bounds: float) -> list[list[str]]:
    """The results of the cancel requests that came from each of these seconds on, before the next of them."""
    began = play.world.log[0].at
    results = [
        [
            call.result
            for call in play.world.log
            if call.operation == "CancelMLTaskRun" and low <= call.at - began < high
        ]
        for low, high in pairwise((*bounds, inf))
    ]
    assert play.now() - began < 60, "a drill takes a minute at most"
    return results


def test_the_outage_comes_in_the_middle_of_the_sweep() -> None:
    before, meanwhile, after = cancels_since(played("outage"), 0, 5, 15)
    assert meanwhile and set(meanwhile) == {"unavailable"}
    assert len(before) > 50 and len(after) > 50


def test_the_others_take_most_of_the_limit_in_the_middle_of_the_sweep() -> None:
    before, meanwhile, after = cancels_since(played("throttled"), 0, 10, 25)
    assert "ThrottlingException" in meanwhile
    assert len(meanwhile) / 15 < len(before) / 10 / 2
    assert len(after) > 100


def test_a_copy_of_a_built_in_scenario_is_the_same_scenario(tmp_path: Path) -> None:
    copy = tmp_path / "ours.yaml"
    copy.write_text(scenario_text("outage"))
    assert find_scenario(str(copy)) == find_scenario("outage")


def test_an_unknown_name_is_told_the_nearest() -> None:
    with pytest.raises(UsageError, match=r"no scenario 'incidnt'; did you mean 'incident'\?"):
        find_scenario("incidnt")


@pytest.mark.parametrize("path", ["gone.yaml", "./gone"])
def test_a_file_that_is_not_there_is_named(path: str) -> None:
    with pytest.raises(InputError, match="gone"):
        find_scenario(path)


SMALL = "story: It was late.\ngoal: To sleep.\n"


def faults(text: str) -> list[str]:
    with pytest.raises(InputError) as caught:
        parse_scenario(text.encode(), "s.yaml")
    return [str(problem) for problem in caught.value.problems]


def test_a_small_scenario_needs_only_what_it_changes() -> None:
    scenario = parse_scenario(f"{SMALL}world: {{limits: [{{rps: 5}}]}}".encode(), "s.yaml")
    assert scenario.world.limits == (Limit(rps=5.0),)
    assert isinstance(next(World(scenario.world, now=Clock()).runs())[2], Run)


def test_every_fault_is_told_at_its_line_and_column() -> None:
    text = f"""{SMALL}world:
  fleet: {{accounts: [111111111111], trnsforms: 3, runs: many, ended_share: 7}}
  behaviour: {{cancel_ended: statuss, stopping_seconds: [5, 1]}}
  faults:
    - {{kind: thottle}}
    - {{probability: 0.5}}
nme: x
"""
    told = faults(text)
    assert [each.partition(" ")[0] for each in told] == [
        "s.yaml:4:22:",
        "s.yaml:4:37:",
        "s.yaml:4:57:",
        "s.yaml:5:29:",
        "s.yaml:7:14:",
        "s.yaml:8:7:",
        "s.yaml:9:1:",
    ]
    joined = "\n".join(told)
    for said in ("'transforms'", "'status'", "'throttle'", "the key kind is missing", "'name'"):
        assert said in joined


def test_what_types_do_not_tell_is_told_at_its_place_too() -> None:
    assert faults(f"{SMALL}world:\n  fleet: {{runs: -5, ended_share: 2}}\n  limits: [{{rps: 0}}]\n") == [
        "s.yaml:4:17: world.fleet.runs: is below 0",
        "s.yaml:4:34: world.fleet.ended_share: a share is from 0 to 1",
        "s.yaml:4:34: world.fleet.ended_share: ended_share and starting_share are more than 1 together",
        "s.yaml:5:12: world.limits.0: rps and window_seconds are more than 0, burst is at least 1",
    ]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "- a",
        "7",
        "story: [",
        "a: &x b",
        "story: !!python/none x",
        f"{SMALL}world: 5",
        f"{SMALL}world: {{seed: 007}}",
    ],
)
def test_what_is_no_scenario_is_refused(text: str) -> None:
    assert faults(text)


def test_a_file_that_is_far_too_large_is_not_read(tmp_path: Path) -> None:
    large = tmp_path / "large.yaml"
    large.write_bytes(b"#" * ((1 << 20) + 1))
    with pytest.raises(InputError, match="larger than"):
        load_scenario(str(large))
