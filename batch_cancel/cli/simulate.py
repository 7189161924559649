"""``simulate``: a made-up fleet behind a local Glue, STS and Organizations endpoint."""

import asyncio
import re
import shlex
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from enum import StrEnum
from typing import TYPE_CHECKING, Any, TypeVar

import click

from batch_cancel.cli.grouped import GroupedCommand, GroupedOption
from batch_cancel.cli.options import ScenarioName
from batch_cancel.cli.signals import SIGNALS, say
from batch_cancel.cli.wording import columns_of, paragraphs
from batch_cancel.core.duration import parse_duration
from batch_cancel.core.errors import UsageError
from batch_cancel.core.wording import counted, did_you_mean, quoted
from batch_cancel.glue.regions import partitions
from batch_cancel.simulator.settings import (
    OPERATIONS,
    CancelEnded,
    Fault,
    FaultKind,
    Limit,
    RetryAfter,
    TagsMatch,
    WorldSettings,
    trouble_in,
)
from batch_cancel.values import check_account, check_external_id, check_region

if TYPE_CHECKING:
    from batch_cancel.simulator.latency import Latency
    from batch_cancel.simulator.scenario_file import Scenario
    from batch_cancel.simulator.world import World

F = TypeVar("F", bound=Callable[..., Any])
S = TypeVar("S")
W = TypeVar("W", bound=StrEnum)

_OF_CANCELLING = ("--yes", "--until-clear")
"""Flags that say nothing to a dry run, or do not go with one."""
MOST_RUNS = 1_000_000
MOST_REGIONS = 4
"""So many are named one by one in the command that it suggests; of more, it suggests all that there are."""
FIRST_REGIONS = ("us-east-1", "eu-west-1", "us-west-2", "eu-central-1", "ap-southeast-2", "ap-northeast-1")

_EXAMPLES = """\b
Examples:
  batch-cancel simulate
  batch-cancel simulate --port 4566 --accounts 3 --regions us-east-1,eu-west-1 --runs 2000
  batch-cancel simulate --rps 20 --burst 40 --latency 20ms..80ms
  batch-cancel simulate --fault applied_500=0.05 --fault hang@GetMLTaskRun=0.01
  batch-cancel simulate --cancel-ended invalid --restart-share 0.2 --odd-ids
  batch-cancel simulate --scenario incident
  batch-cancel simulate --scenario configs/drill.yaml --seed 7

What happened is told by GET /_simulator/truth; POST /_simulator/faults takes other faults and limits while it runs.
"""


def _option(group: str, *names: str, **more: Any) -> Callable[[F], F]:  # noqa: ANN401  # click's own
    return click.option(*names, cls=GroupedOption, group=group, **more)


def _share(group: str, name: str, says: str) -> Callable[[F], F]:
    return _option(group, name, type=click.FloatRange(0, 1), metavar="SHARE", help=says)


def _choice(words: type[StrEnum]) -> click.Choice[str]:
    return click.Choice([str(word) for word in words])


@click.command(cls=GroupedCommand, epilog=_EXAMPLES)
@_option(
    "endpoint",
    "--port",
    type=click.IntRange(0, 65535),
    metavar="N",
    default=0,
    help="Where to listen (default: a free port).",
)
@_option("endpoint", "--latency", metavar="TIME", help="Of a round trip: 50ms, or a span such as 20ms..80ms.")
@_option(
    "fleet",
    "--scenario",
    type=ScenarioName(),
    metavar="NAME_OR_FILE",
    help="A built-in scenario, or a file; other flags change it.",
)
@_option("fleet", "--seed", type=click.IntRange(min=0), metavar="N", help="The same seed is the same fleet.")
@_option("fleet", "--accounts", metavar="N_OR_IDS", help="How many accounts, or their ids with commas between.")
@_option("fleet", "--regions", metavar="N_OR_NAMES", help="How many regions, or their names with commas between.")
@_option(
    "fleet", "--transforms", type=click.IntRange(0, 100_000), metavar="N", help="Transforms in each account and region."
)
@_option(
    "fleet", "--runs", type=click.IntRange(0, MOST_RUNS), metavar="N", help="Task runs in all, ended ones included."
)
@_share("fleet", "--ended-share", "Of the runs, those that are over.")
@_option("fleet", "--odd-ids", is_flag=True, help="Ids with commas, quotes, tabs, emoji and 255 characters.")
@_option(
    "limits",
    "--rps",
    type=click.FloatRange(0, min_open=True),
    metavar="N",
    help="Requests a second for each operation.",
)
@_option("limits", "--burst", type=click.FloatRange(1), metavar="N", help="Requests at once (default: one second's).")
@_option("limits", "--retry-after", type=_choice(RetryAfter), help="Whether a throttle says when to come again.")
@_option("faults", "--fault", "faults", multiple=True, metavar="KIND[@OPERATION]=P", help=f"{', '.join(FaultKind)}.")
@_option("behaviour", "--cancel-ended", type=_choice(CancelEnded), help="Answer to cancelling an ended run.")
@_option("behaviour", "--stopping-seconds", metavar="SECONDS", help="How long a run is STOPPING: 5, or a span 2..10.")
@_share("behaviour", "--stuck-share", "Of the runs, those that are STOPPING for ever.")
@_share("behaviour", "--finishes-first-share", "Of the runs, those that end by themselves all the same.")
@_share("behaviour", "--restart-share", "Of the stopped runs, those that are started again.")
@_option(
    "behaviour",
    "--new-runs-per-second",
    type=click.FloatRange(0),
    metavar="N",
    help="Runs that somebody keeps starting.",
)
@_option(
    "behaviour", "--new-runs-until-seconds", type=click.FloatRange(0), metavar="N", help="Until when (default 20)."
)
@_option(
    "behaviour", "--listing-lag-seconds", type=click.FloatRange(0), metavar="N", help="How much listings lag behind."
)
@_option("behaviour", "--page-size", type=click.IntRange(1, 1000), metavar="N", help="The largest page of a listing.")
@_option("behaviour", "--tags-match", type=_choice(TagsMatch), help="What several tags in a listing mean.")
@_option("access", "--external-id", metavar="X", help="What AssumeRole must be given.")
@_option(
    "access", "--denied-account", "denied_accounts", multiple=True, metavar="A", help="Glue denies everything there."
)
@_option(
    "access", "--disabled-region", "disabled_regions", multiple=True, metavar="R", help="Keys are not known there."
)
@_option(
    "access",
    "--keys-live-seconds",
    type=click.FloatRange(0, min_open=True),
    metavar="N",
    help="Keys expire so long after their first use.",
)
def simulate(port: int, latency: str | None, scenario: str | None, **flags: Any) -> None:  # noqa: ANN401  # by name
    """Serve local Glue, STS and Organizations with a made-up fleet, for trying out, drills and tests.

    Listens on loopback alone and reaches nothing else. Ctrl-C ends it.
    """
    from batch_cancel.simulator.latency import between, no_latency  # noqa: PLC0415  # --help needs none of it
    from batch_cancel.simulator.scenario_file import Scenario  # noqa: PLC0415
    from batch_cancel.simulator.scenarios import find_scenario  # noqa: PLC0415
    from batch_cancel.simulator.world import World  # noqa: PLC0415

    play = find_scenario(scenario) if scenario is not None else Scenario(story="", goal="", world=WorldSettings())
    settings = settings_of(play.world, flags)
    if scenario is None:
        play = replace(play, command=_sweep_of_all(settings))
    span = play.latency_seconds if latency is None else parse_latency(latency)
    world = World(settings, now=time.time)
    asyncio.run(_serve(world, play, port, between(*span) if span[1] else no_latency))


async def _serve(world: "World", play: "Scenario", port: int, latency: "Latency") -> None:
    from batch_cancel.simulator.server import serve  # noqa: PLC0415  # brings aiohttp

    ended = asyncio.Event()
    loop = asyncio.get_running_loop()
    for signum in SIGNALS:
        loop.add_signal_handler(signum, ended.set)
    async with serve(world, port=port, latency=latency, seed=world.settings.seed) as url:
        say(_greeting(world, url, play))
        await ended.wait()


def _greeting(world: "World", url: str, play: "Scenario") -> str:
    from batch_cancel.simulator.sts import KEY_PREFIX  # noqa: PLC0415  # as above

    now = world.now()
    runs = [run.status(now) for _, _, run in world.runs()]
    fleet = world.settings.fleet
    told = f"{play.name}: {play.story.strip()}\nGoal: {play.goal.strip()}"
    story = f"{paragraphs(told, columns_of(sys.stdout))}\n\n" if play.story else ""
    active = sum(status.active for status in runs)
    return (
        f"{story}"
        f"Simulated Glue, STS and Organizations at {url}\n"
        f"{counted(len(fleet.accounts), 'account')} x {counted(len(fleet.regions), 'region')}, "
        f"{counted(sum(1 for _ in world.transforms()), 'transform')}, {counted(len(runs), 'task run')}, "
        f"{active:,} of them active.\nCtrl-C ends it.\n\n"
        f"In another terminal:\n\n"
        f"  export AWS_ENDPOINT_URL={url}\n"
        f"  export AWS_ACCESS_KEY_ID={KEY_PREFIX}{fleet.accounts[0]}\n"
        f"  export AWS_SECRET_ACCESS_KEY=simulated\n"
        f"  export AWS_DEFAULT_REGION={fleet.regions[0]}\n\n"
        f"{_looking_first(play.command)}"
        f"  {shlex.join(shlex.split(play.command))}\n"
        f"  curl {url}/_simulator/truth\n"
    )


def _sweep_of_all(settings: WorldSettings) -> str:
    """The command that looks at every account and region of a world."""
    from batch_cancel.simulator.organization import ROOT_ID  # noqa: PLC0415  # as above

    words = ["batch-cancel", "run", "--discover"]
    if len(settings.fleet.accounts) > 1:
        words += ["--organization-unit", ROOT_ID, "--role-name", "BatchCancel"]
        if settings.access.external_id is not None:
            words += ["--external-id", settings.access.external_id]
    regions = settings.fleet.regions
    if len(regions) > MOST_REGIONS:
        words += ["--region", "all"]
    elif len(regions) > 1:
        words += [word for region in regions for word in ("--region", region)]
    return shlex.join([*words, "--yes"])


def _looking_first(command: str) -> str:
    """The same command as an audit, which looks where it looks; nothing where it is none that cancels."""
    words = shlex.split(command)
    if words[:2] != ["batch-cancel", "run"] or "--dry-run" in words:
        return ""
    return f"  {shlex.join([*(word for word in words if word not in _OF_CANCELLING), '--dry-run'])}\n"


# -- flags to settings ------------------------------------------------------------------------------------------------


def settings_of(base: WorldSettings, flags: dict[str, Any]) -> WorldSettings:
    """A world's settings with what the flags say in the place of what stands there.

    Raises:
        UsageError: a flag makes no sense, alone or with the others.
    """
    fleet = _with(
        base.fleet,
        accounts=flags["accounts"] and parse_accounts(flags["accounts"]),
        regions=flags["regions"] and parse_regions(flags["regions"]),
        transforms=flags["transforms"],
        runs=flags["runs"],
        ended_share=flags["ended_share"],
        odd_ids=flags["odd_ids"] or None,
    )
    if flags["ended_share"] is not None:
        fleet = replace(fleet, starting_share=min(fleet.starting_share, 1 - fleet.ended_share))
    new_runs = flags["new_runs_per_second"]
    behaviour = _with(
        base.behaviour,
        cancel_ended=_word(CancelEnded, flags["cancel_ended"]),
        stopping_seconds=flags["stopping_seconds"] and parse_span(flags["stopping_seconds"]),
        stuck_share=flags["stuck_share"],
        finishes_first_share=flags["finishes_first_share"],
        restart_share=flags["restart_share"],
        new_runs_per_second=new_runs,
        new_runs_until_seconds=flags["new_runs_until_seconds"] or (20.0 if new_runs else None),
        listing_lag_seconds=flags["listing_lag_seconds"],
        page_size_cap=flags["page_size"],
        tags_match=_word(TagsMatch, flags["tags_match"]),
        retry_after=_word(RetryAfter, flags["retry_after"]),
    )
    access = _with(
        base.access,
        external_id=flags["external_id"] and check_external_id(flags["external_id"]),
        denied_accounts=tuple(map(check_account, flags["denied_accounts"])) or None,
        disabled_regions=tuple(map(check_region, flags["disabled_regions"])) or None,
        keys_live_seconds=flags["keys_live_seconds"],
    )
    settings = _with(
        replace(base, fleet=fleet, behaviour=behaviour, access=access),
        seed=flags["seed"],
        limits=_limits(flags["rps"], flags["burst"]),
        faults=_faults(flags["faults"]),
    )
    _check(settings)
    return settings


def _with(section: S, **values: object) -> S:
    """A dataclass with those values in their places that are not None."""
    return replace(section, **{name: value for name, value in values.items() if value is not None})  # type: ignore[type-var]  # every section is a dataclass


def _word(words: type[W], text: str | None) -> W | None:
    return None if text is None else words(text)


def _limits(rps: float | None, burst: float | None) -> tuple[Limit, ...] | None:
    if rps is None:
        if burst is not None:
            raise UsageError("--burst needs --rps: a burst is what the limit lets through at once")
        return None
    return (Limit(rps=rps, burst=burst if burst is not None else max(1.0, rps)),)


def _faults(texts: Sequence[str]) -> tuple[Fault, ...] | None:
    faults = tuple(map(parse_fault, texts))
    likely = sum(fault.probability for fault in faults if not fault.operations)
    if likely > 1:
        raise UsageError(f"the probabilities of --fault are {likely:g} together: at most 1 makes sense")
    return faults or None


def _check(settings: WorldSettings) -> None:
    if trouble := trouble_in(settings):
        raise UsageError("; ".join(f"{'.'.join(map(str, path))}: {said}" for path, said in trouble))
    if strange := [each for each in settings.access.denied_accounts if each not in settings.fleet.accounts]:
        raise UsageError(f"--denied-account {strange[0]} is none of the accounts: {_some(settings.fleet.accounts)}")


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:5]) + (", ..." if len(names) > 5 else "")


def parse_accounts(text: str) -> tuple[str, ...]:
    """``3``, or ``111111111111,222222222222``."""
    if re.fullmatch(r"[0-9]{1,4}", text, re.ASCII):
        if not (count := int(text)):
            raise UsageError("--accounts 0: at least one is needed, the caller's")
        return tuple(str(at) * 12 if at < 10 else f"{at:012d}" for at in range(1, count + 1))
    return _distinct("--accounts", [check_account(part.strip()) for part in text.split(",")])


def parse_regions(text: str) -> tuple[str, ...]:
    """``2``, or ``us-east-1,eu-west-1``."""
    if not re.fullmatch(r"[0-9]{1,3}", text, re.ASCII):
        return _distinct("--regions", [check_region(part.strip()) for part in text.split(",")])
    known = [*FIRST_REGIONS, *(region for region in partitions()["aws"] if region not in FIRST_REGIONS)]
    if not 1 <= int(text) <= len(known):
        raise UsageError(f"--regions {text}: from 1 to {len(known)} regions can be had")
    return tuple(known[: int(text)])


def _distinct(flag: str, names: Sequence[str]) -> tuple[str, ...]:
    if len(set(names)) < len(names):
        raise UsageError(f"{flag} names one of them twice")
    return tuple(names)


def parse_fault(text: str) -> Fault:
    """``drop=0.1``, or ``hang@GetMLTaskRun=0.01``."""
    kind_and_operation, equals, probability_text = text.partition("=")
    kind, _, operation = kind_and_operation.partition("@")
    if kind not in tuple(FaultKind):
        raise UsageError(
            f"--fault {quoted(text)}: unknown kind {quoted(kind)}{did_you_mean(kind, FaultKind)} "
            f"(choose from {', '.join(FaultKind)})"
        )
    if not equals or not re.fullmatch(r"0|1|1\.0+|0?\.[0-9]+", probability_text, re.ASCII):
        raise UsageError(f"--fault {quoted(text)}: write a probability from 0 to 1, such as {kind}=0.1")
    if operation and operation not in OPERATIONS:
        raise UsageError(
            f"--fault {quoted(text)}: unknown operation {quoted(operation)}{did_you_mean(operation, OPERATIONS)}"
        )
    return Fault(FaultKind(kind), float(probability_text), operations=(operation,) if operation else ())


def parse_span(text: str) -> tuple[float, float]:
    """Seconds: ``5``, or ``2..10``."""
    least, dots, most = text.partition("..")
    number = r"[0-9]{1,9}(\.[0-9]{1,9})?"
    if not re.fullmatch(number, least, re.ASCII) or (dots and not re.fullmatch(number, most, re.ASCII)):
        raise UsageError(f"--stopping-seconds {quoted(text)}: write seconds, such as 5, or a span, such as 2..10")
    return _span("--stopping-seconds", text, float(least), float(most) if dots else float(least))


def parse_latency(text: str) -> tuple[float, float]:
    """``50ms``, ``1s``, or ``20ms..80ms``; in seconds."""
    least, dots, most = text.partition("..")
    return _span("--latency", text, _latency(least), _latency(most) if dots else _latency(least))


def _span(flag: str, text: str, least: float, most: float) -> tuple[float, float]:
    if least > most:
        raise UsageError(f"{flag} {quoted(text)}: the lesser comes first")
    return least, most


def _latency(text: str) -> float:
    if match := re.fullmatch(r"([0-9]{1,6})ms", text, re.ASCII):
        return int(match[1]) / 1000
    try:
        return parse_duration(text).total_seconds()
    except UsageError:
        raise UsageError(f"--latency {quoted(text)}: write for example 50ms, 1s, or 20ms..80ms") from None
