"""The command: what its flags make, what it prints, and how it ends."""

import json
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.request import urlopen

import pytest
from click.testing import CliRunner

from batch_cancel.cli import simulate as module
from batch_cancel.cli.run import run
from batch_cancel.cli.simulate import parse_accounts, parse_fault, parse_latency, parse_regions, parse_span, simulate
from batch_cancel.core.errors import UsageError
from batch_cancel.simulator.scenarios import find_scenario, scenario_names
from batch_cancel.simulator.settings import (
    AccessSettings,
    CancelEnded,
    Fault,
    FaultKind,
    FleetSettings,
    Limit,
    RetryAfter,
    TagsMatch,
    WorldSettings,
)
from batch_cancel.simulator.world import World
from tests.endpoints import served


def settings(*arguments: str, monkeypatch: pytest.MonkeyPatch) -> WorldSettings:
    """The world that a command line makes."""
    made: list[WorldSettings] = []

    async def serve_nothing(world: World, play: object, port: int, latency: object) -> None:
        made.append(world.settings)

    monkeypatch.setattr(module, "_serve", serve_nothing)
    result = CliRunner().invoke(simulate, arguments, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return made[0]


def test_without_flags_the_world_is_the_default_one(monkeypatch: pytest.MonkeyPatch) -> None:
    assert settings(monkeypatch=monkeypatch) == WorldSettings()


def test_every_flag_reaches_the_world(monkeypatch: pytest.MonkeyPatch) -> None:
    arguments = """--seed 7 --accounts 2 --regions us-east-1,eu-west-1 --transforms 3 --runs 50 --ended-share 0.9
        --odd-ids --rps 20 --burst 40 --retry-after milliseconds --fault drop=0.1 --fault hang@GetMLTaskRun=.01
        --cancel-ended not_found --stopping-seconds 2..5 --stuck-share 0.1 --finishes-first-share 0.2
        --restart-share 0.3 --new-runs-per-second 4 --listing-lag-seconds 2 --page-size 9 --tags-match any
        --external-id sweep-7 --denied-account 222222222222 --disabled-region eu-west-1 --keys-live-seconds 60"""
    made = settings(*arguments.split(), monkeypatch=monkeypatch)
    assert made.seed == 7
    assert made.fleet == FleetSettings(
        accounts=("111111111111", "222222222222"),
        regions=("us-east-1", "eu-west-1"),
        transforms=3,
        runs=50,
        ended_share=0.9,
        starting_share=1 - 0.9,
        odd_ids=True,
    )
    assert made.limits == (Limit(rps=20.0, burst=40.0),)
    assert made.faults == (
        Fault(FaultKind.DROP, 0.1),
        Fault(FaultKind.HANG, 0.01, operations=("GetMLTaskRun",)),
    )
    behaviour = made.behaviour
    assert (behaviour.cancel_ended, behaviour.stopping_seconds) == (CancelEnded.NOT_FOUND, (2.0, 5.0))
    assert (behaviour.stuck_share, behaviour.finishes_first_share, behaviour.restart_share) == (0.1, 0.2, 0.3)
    assert (behaviour.new_runs_per_second, behaviour.new_runs_until_seconds) == (4.0, 20.0)
    assert (behaviour.listing_lag_seconds, behaviour.page_size_cap) == (2.0, 9)
    assert (behaviour.tags_match, behaviour.retry_after) == (TagsMatch.ANY, RetryAfter.MILLISECONDS)
    access = made.access
    assert (access.external_id, access.denied_accounts) == ("sweep-7", ("222222222222",))
    assert (access.disabled_regions, access.keys_live_seconds) == (("eu-west-1",), 60.0)


@pytest.mark.parametrize("name", scenario_names())
def test_every_scenario_can_be_played(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert settings("--scenario", name, monkeypatch=monkeypatch) == find_scenario(name).world


def test_a_flag_changes_a_scenario_and_leaves_the_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    made = settings("--scenario", "throttled", "--runs", "10", monkeypatch=monkeypatch)
    assert made.fleet.runs == 10
    assert made.fleet.transforms == 40
    assert len(made.limits) == 3


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ("--accounts 0", "at least one"),
        ("--accounts 12x", "12"),
        ("--accounts 111111111111,111111111111", "twice"),
        ("--regions eu-wset-1", "did you mean 'eu-west-1'"),
        ("--regions 400", "regions can be had"),
        ("--burst 5", "--burst needs --rps"),
        ("--fault drp=0.1", "did you mean 'drop'"),
        ("--fault drop", "a probability"),
        ("--fault drop=2", "a probability"),
        ("--fault drop=-1", "a probability"),
        ("--fault drop@CancelMLTaskRuns=0.1", "did you mean 'CancelMLTaskRun'"),
        ("--fault drop=0.7 --fault hang=0.7", "1.4 together"),
        ("--latency 50", "50ms"),
        ("--latency 80ms..20ms", "lesser"),
        ("--stopping-seconds soon", "seconds"),
        ("--stopping-seconds 5..2", "lesser"),
        ("--transforms 0", "transforms to belong to"),
        ("--denied-account 999999999999", "none of the accounts"),
        ("--disabled-region mars", "unknown region"),
        ("--external-id !", "external id"),
        ("--scenario incidnt", "did you mean 'incident'"),
    ],
)
def test_flags_that_make_no_sense_are_refused_with_a_sentence(arguments: str, says: str) -> None:
    with pytest.raises(UsageError) as caught:
        CliRunner().invoke(simulate, arguments.split(), catch_exceptions=False)
    assert says in str(caught.value)


@pytest.mark.parametrize(
    "arguments",
    ["--rps 0", "--rps -1", "--burst 0", "--runs -1", "--runs 1e9", "--port 70000", "--stuck-share 2", "--what"],
)
def test_numbers_out_of_range_are_refused_by_the_flag(arguments: str) -> None:
    result = CliRunner().invoke(simulate, arguments.split())
    assert result.exit_code == 2
    assert "Error" in result.output


def test_values_as_people_write_them() -> None:
    assert parse_accounts("12")[8:] == ("999999999999", "000000000010", "000000000011", "000000000012")
    assert parse_accounts("333333333333, 444444444444") == ("333333333333", "444444444444")
    assert parse_regions("2") == ("us-east-1", "eu-west-1")
    assert len(set(parse_regions("20"))) == 20
    assert parse_fault("drop=1").probability == 1.0
    assert parse_latency("20ms..1s") == (0.02, 1.0)
    assert parse_latency("5ms") == (0.005, 0.005)
    assert parse_span("2.5") == (2.5, 2.5)


# -- the process ------------------------------------------------------------------------------------------------------

COMMAND = [sys.executable, "-m", "batch_cancel", "simulate"]


@contextmanager
def running(*arguments: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """The command as a process, and what it has printed once it serves."""
    process = subprocess.Popen([*COMMAND, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        printed = ""
        while "/_simulator/truth" not in printed:
            line = process.stdout.readline()
            assert line, f"it ended: {process.communicate()}"
            printed += line
        yield process, printed
    finally:
        process.kill()
        process.communicate()


@pytest.mark.parametrize("name", scenario_names())
def test_what_it_suggests_to_look_at_first_is_what_the_scenario_is_about(name: str) -> None:
    play = find_scenario(name)
    printed = module._greeting(World(play.world, now=time.time), "http://127.0.0.1:1", play)
    suggested = [shlex.split(line) for line in printed.splitlines() if line.startswith("  batch-cancel ")]
    assert suggested[-1] == shlex.split(play.command)
    assert [shlex.join(words) for words in suggested] == [
        line.strip() for line in printed.splitlines() if line.startswith("  batch-cancel ")
    ]  # quoted alike
    assert suggested[0][-1] == "--dry-run"
    assert set(suggested[-1]) - set(suggested[0]) <= {"--yes", "--until-clear"}
    assert not [line for line in printed.splitlines() if len(line) > 80 and not line.startswith("  batch-cancel ")]
    assert run.make_context("run", suggested[0][2:]).params["dry_run"]


@pytest.mark.parametrize(
    ("accounts", "regions", "external_id"),
    [("1", "1", None), ("1", "2", None), ("3", "2", "x-7"), ("2", "9", None)],
)
def test_what_it_suggests_looks_at_all_of_the_fleet(
    accounts: str, regions: str, external_id: str | None, tmp_path: Path
) -> None:
    settings = WorldSettings(
        fleet=FleetSettings(accounts=parse_accounts(accounts), regions=parse_regions(regions), transforms=2, runs=90),
        access=AccessSettings(external_id=external_id),
    )
    words = shlex.split(module._sweep_of_all(settings))
    with served(settings, tmp_path) as endpoint:
        active = len(endpoint.active())
        looked = endpoint.command(*words[1:-1], "--dry-run", "--output", "json")
    assert words[-1] == "--yes"
    assert (looked.returncode, json.loads(looked.stdout)["totals"]["outcomes"]) == (0, {"would_cancel": active})


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_it_says_where_it_is_and_ends_cleanly(signum: int) -> None:
    with running("--scenario", "incident", "--runs", "30", "--fault", "hang@ListMLTransforms=1") as (process, printed):
        exports = dict(re.findall(r"export (\w+)=(\S+)", printed))
        assert set(exports) == {"AWS_ENDPOINT_URL", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_DEFAULT_REGION"}
        assert printed.startswith("incident: ")
        assert "30 task runs" in printed
        with urlopen(f"{exports['AWS_ENDPOINT_URL']}/_simulator/truth") as told:  # noqa: S310  # our own loopback
            truth = json.load(told)
        assert sum(len(transform["runs"]) for transform in truth["transforms"]) >= 30
        process.send_signal(signum)
        rest, errors = process.communicate(timeout=10)
        assert (process.returncode, rest, errors) == (0, "", "")


def test_a_port_in_use_is_exit_code_2_and_a_sentence() -> None:
    with running() as (_, printed):
        match = re.search(r"http://127\.0\.0\.1:(\d+)", printed)
        assert match is not None
        second = subprocess.run([*COMMAND, "--port", match[1]], capture_output=True, text=True, check=False)
    assert second.returncode == 2
    assert second.stdout == ""
    assert re.fullmatch(r"batch-cancel: error: port \d+ cannot be had \(address already in use\): .*\n", second.stderr)
