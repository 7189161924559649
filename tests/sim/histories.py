"""From a seed to a history: a world with its faults, a sweep with its settings, and what befalls the process."""

import csv
import io
import json
import math
import random
from dataclasses import dataclass, field
from datetime import timedelta
from enum import StrEnum
from pathlib import Path

from batch_cancel.core.selection import Protection, Selection
from batch_cancel.core.task_run import Status, TaskType
from batch_cancel.settings import (
    Consent,
    DiscoverySource,
    Guardrails,
    ManifestSource,
    MaxErrors,
    Rate,
    Retry,
    Settings,
    TargetSettings,
    Verify,
)
from batch_cancel.simulator.latency import Latency, always, between, long_tailed, no_latency
from batch_cancel.simulator.settings import (
    AccessSettings,
    Behaviour,
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
from tests.sim.story import Key

HOME = "111111111111"
ACCOUNTS = (HOME, "222222222222", "333333333333")
REGIONS = ("us-east-1", "eu-west-1")
ROLE = "BatchCancel"

PASSING = (
    FaultKind.THROTTLE,
    FaultKind.TIMEOUT,
    FaultKind.INTERNAL,
    FaultKind.UNAVAILABLE,
    FaultKind.APPLIED_500,
    FaultKind.APPLIED_DROP,
    FaultKind.APPLIED_HANG,
    FaultKind.DROP,
    FaultKind.REFUSED,
    FaultKind.HALF_BODY,
    FaultKind.GARBAGE_200,
    FaultKind.EMPTY_200,
    FaultKind.NO_ECHO,
    FaultKind.HANG,
)
"""Faults that another try may not meet."""
LASTING = (FaultKind.DENIED, FaultKind.EXPIRED, FaultKind.INVALID)
"""Faults that a right-minded client takes for an answer."""


class Blow(StrEnum):
    """What befalls a process."""

    NONE = "none"
    STEP = "dies at a step"
    TIME = "dies at a time"
    BEFORE_COMMIT = "dies before a commit"
    IN_COMMIT = "dies inside a commit"
    AFTER_COMMIT = "dies after a commit"
    SEND = "dies as a cancel request leaves"
    ARRIVAL = "dies as a cancel request arrives"
    INTERRUPT = "is interrupted"
    DISK_FULL = "finds the disk full"
    DISK_FULL_INSIDE = "finds the disk full inside a commit"
    DISK_LIES = "is told that a commit failed, which did not"


@dataclass(frozen=True, slots=True)
class Trouble:
    """One life's. ``at`` is a step, a time, or the number of the commit or request, by the blow."""

    blow: Blow = Blow.NONE
    at: float = 0.0
    arrives_share: float = 0.5
    """Of the requests on the wire when it dies, how many still arrive."""
    copied: bool = False
    """The directory is copied as it is: the next process finds a write-ahead log that nobody closed."""
    slow_disk_seconds: float = 0.0
    """A commit takes up to so long."""
    wait_seconds: float = 0.0
    """Before the next process is started."""


@dataclass(frozen=True, slots=True)
class Rival:
    """Somebody else who cancels some run, at a time."""

    at: float
    pick: float


@dataclass(frozen=True, slots=True)
class History:
    """Everything that follows from a seed.

    Attributes:
        hopeful: nothing in it lasts: everything that was to be stopped must have been, in the end.
        clock_steps: by when the processes' clock is off from the world's, from what time on.
        answer: what a person who is asked says; None where nobody can be asked.
    """

    seed: int
    world: WorldSettings
    settings: Settings
    hopeful: bool
    latency: tuple[str, float, float]
    troubles: tuple[Trouble, ...]
    clock_steps: tuple[tuple[float, float], ...] = ()
    answer: bool | None = None
    answer_seconds: float = 0.0
    manifest: "ManifestPlan | None" = None
    rivals: tuple[Rival, ...] = ()
    profiles: tuple[tuple[str, str], ...] = ()

    def draw_latency(self) -> Latency:
        kind, first, second = self.latency
        match kind:
            case "none":
                return no_latency
            case "always":
                return always(first)
            case "between":
                return between(first, second)
            case _:
                return long_tailed(first, second)

    def skew(self, now: float) -> float:
        """By how much the processes' clock is ahead of the world's."""
        off = 0.0
        for since, seconds in self.clock_steps:
            if now >= since:
                off = seconds
        return off

    @property
    def steady(self) -> bool:
        """The clocks always differ by the same."""
        return len(self.clock_steps) <= 1

    @property
    def most_skew(self) -> float:
        """The largest difference between two readings of the clocks."""
        offs = [0.0, *(seconds for _, seconds in self.clock_steps)]
        return max(offs) - min(offs)


@dataclass(frozen=True, slots=True)
class ManifestPlan:
    """How a manifest is made of a world's runs."""

    share: float
    duplicates: int
    unknown_runs: int
    unknown_transforms: int
    faulty_rows: int
    places: bool
    form: str
    counted: bool = False
    """``--confirm-count`` with the right number."""


@dataclass(slots=True)
class Manifest:
    """A manifest as it was written."""

    text: str
    keys: list[Key] = field(default_factory=list)
    rows: int = 0
    faulty: int = 0


def history(seed: int) -> History:
    """The history of a seed."""
    draw = random.Random(f"history {seed}")
    return _Maker(seed, draw).make()


class _Maker:
    def __init__(self, seed: int, draw: random.Random) -> None:
        self.seed = seed
        self.draw = draw
        self.hopeful = True
        self.mood = draw.choices(("calm", "rough", "wild"), (2, 5, 2))[0]
        self.many_accounts = self.chance(0.2)
        self.many_regions = self.chance(0.15)
        self.discovery = self.chance(0.6)

    def chance(self, share: float) -> bool:
        return self.draw.random() < share

    def log_uniform(self, least: float, most: float) -> float:
        return math.exp(self.draw.uniform(math.log(least), math.log(most)))

    def make(self) -> History:
        draw = self.draw
        dry_run = self.chance(0.08)
        manifest = None if self.discovery else self._manifest()
        settings = self._settings(dry_run=dry_run, manifest=manifest)
        troubles = self._troubles()
        answer: bool | None = None
        if not settings.consent.yes and settings.consent.confirm_count is None and self.chance(0.7):
            answer = self.chance(0.7)
        clock_steps: tuple[tuple[float, float], ...] = ()
        if self.chance(0.2):
            off = draw.uniform(-300, 300)
            clock_steps = ((0.0, off / 60 if int(off) % 3 == 0 else off),)
            if self.chance(0.5):
                clock_steps = (*clock_steps, (self.log_uniform(0.5, 60), draw.uniform(-300, 300)))
        rivals: tuple[Rival, ...] = ()
        if self.chance(0.1):
            rivals = tuple(Rival(self.log_uniform(0.2, 60), draw.random()) for _ in range(draw.randint(1, 4)))
        world, latency = self._world(), self._latency()
        return History(
            seed=self.seed,
            world=world,
            settings=settings,
            hopeful=self.hopeful,
            latency=latency,
            troubles=troubles,
            clock_steps=clock_steps,
            answer=answer,
            answer_seconds=draw.choice((0.0, 3.0, 40.0)),
            manifest=manifest,
            rivals=rivals,
        )

    # The world

    def _latency(self) -> tuple[str, float, float]:
        draw = self.draw
        match draw.choices(("none", "always", "between", "tail", "slow"), (10, 20, 20, 50, 3))[0]:
            case "none":
                return ("none", 0, 0)
            case "always":
                return ("always", draw.choice((0.01, 0.05, 0.3, 2.0)), 0)
            case "between":
                return ("between", 0.005, draw.choice((0.05, 0.5, 3.0)))
            case "slow":  # slower than an attempt may be, some of it
                self.hopeful = False
                return ("between", 0.1, 80.0)
            case _:
                return ("tail", draw.choice((0.03, 0.08, 0.4)), draw.choice((0.3, 0.7, 1.4)))

    def _world(self) -> WorldSettings:
        draw = self.draw
        fleet = FleetSettings(
            accounts=ACCOUNTS if self.many_accounts else (HOME,),
            regions=REGIONS if self.many_regions else REGIONS[:1],
            transforms=draw.choice((1, 2, 3, 4, 6)),
            runs=draw.choice((3, 6, 10, 15, 20, 30)),
            ended_share=draw.choice((0.0, 0.2, 0.5)),
            starting_share=draw.choice((0.0, 0.2, 0.5)),
            starting_seconds=draw.choice(((0.05, 1.0), (0.5, 10.0), (20.0, 180.0))),
            ends_in_seconds=draw.choice(((0.2, 20.0), (5.0, 600.0), (3600.0, 28800.0), (36000.0, 90000.0))),
            age_seconds=draw.choice(((1.0, 60.0), (300.0, 86400.0))),
            failing_share=draw.choice((0.0, 0.2)),
            odd_ids=self.chance(0.1),
        )
        stuck = draw.choice((0.1, 0.5)) if self.chance(0.12) else 0.0
        lag = draw.choice((0.5, 3.0, 10.0)) if self.chance(0.15) else 0.0
        self.hopeful = self.hopeful and not stuck
        stopping = draw.choice(((0.0, 0.0), (0.1, 2.0), (2.0, 10.0), (10.0, 90.0)))
        # What ends by itself in the very moment of our request is told by nobody from what had ended before it.
        finishes_first = draw.choice((0.0, 0.0, 0.15, 0.6)) if stopping[1] else 0.0
        behaviour = Behaviour(
            cancel_ended=draw.choice(tuple(CancelEnded)),
            stopping_seconds=stopping,
            stuck_share=stuck,
            finishes_first_share=finishes_first,
            restart_share=draw.choice((0.5, 1.0)) if self.chance(0.15) else 0.0,
            restart_after_seconds=(0.1, 5.0),
            max_restarts=draw.choice((1, 2)),
            new_runs_per_second=draw.choice((0.2, 2.0)) if self.chance(0.1) else 0.0,
            new_runs_until_seconds=draw.choice((2.0, 20.0)),
            tags_match=draw.choice(tuple(TagsMatch)),
            page_size_cap=draw.choice((1, 2, 5, 1000, 1000)),
            empty_page_share=draw.choice((0.0, 0.0, 0.2)),
            listing_lag_seconds=lag,
            retry_after=draw.choice(tuple(RetryAfter)),
            throttle_code=draw.choice(("ThrottlingException", "TooManyRequestsException", "429", "SlowDown")),
            garbage_applies=self.chance(0.6),
        )
        return WorldSettings(
            seed=self.seed,
            fleet=fleet,
            behaviour=behaviour,
            limits=self._limits(),
            faults=self._faults(),
            access=self._access(),
            keep_log=False,
        )

    def _limits(self) -> tuple[Limit, ...]:
        draw = self.draw
        if self.chance(0.4):
            return ()
        limits = [Limit(rps=draw.choice((2.0, 5.0, 20.0, 100.0)), burst=draw.choice((1.0, 2.0, 10.0, 50.0)))]
        if self.chance(0.3):
            limits.append(Limit(rps=draw.choice((1.0, 5.0, 50.0)), burst=5.0, operations=("CancelMLTaskRun",)))
        if self.chance(0.2):
            limits.append(Limit(rps=draw.choice((1.0, 10.0)), burst=2.0, from_seconds=draw.uniform(0.5, 20.0)))
        if self.chance(0.1):
            limits.append(Limit(rps=draw.choice((4.0, 20.0)), window_seconds=1.0))
        return tuple(limits)

    def _faults(self) -> tuple[Fault, ...]:
        draw = self.draw
        if self.mood == "calm":
            return ()
        most = 0.1 if self.mood == "rough" else 0.5
        kinds = draw.sample(PASSING, draw.randint(1, 5))
        total = draw.uniform(0.02, most)
        weights = [draw.random() for _ in kinds]
        faults = [
            Fault(kind, total * weight / sum(weights), operations=self._operations())
            for kind, weight in zip(kinds, weights, strict=True)
        ]
        if self.mood == "wild":
            self.hopeful = False
            if self.chance(0.4):
                faults.append(Fault(draw.choice(LASTING), draw.uniform(0.02, 0.3), operations=self._operations()))
        if self.chance(0.25):
            begin = self.log_uniform(0.05, 30.0)
            kind = draw.choice((*PASSING, FaultKind.EXPIRED))
            self.hopeful = False
            faults.insert(
                0,
                Fault(
                    kind,
                    operations=self._operations(),
                    from_seconds=begin,
                    until_seconds=begin + self.log_uniform(0.5, 200.0),
                ),
            )
        return tuple(faults)

    def _operations(self) -> tuple[str, ...]:
        return self.draw.choice(
            (
                (),
                (),
                ("CancelMLTaskRun",),
                ("CancelMLTaskRun",),
                ("GetMLTaskRun", "GetMLTaskRuns"),
                ("GetMLTaskRuns",),
                ("ListMLTransforms", "GetMLTransforms"),
                ("GetCallerIdentity", "AssumeRole"),
            )
        )

    def _access(self) -> AccessSettings:
        draw = self.draw
        denied: tuple[str, ...] = ()
        untrusting: tuple[str, ...] = ()
        disabled: tuple[str, ...] = ()
        if self.many_accounts and self.chance(0.3):
            denied = draw.choice(((HOME,), ACCOUNTS[1:2], ACCOUNTS[1:]))
        if self.many_accounts and self.chance(0.3):
            untrusting = draw.choice((ACCOUNTS[1:2], ACCOUNTS[1:]))
        if self.many_regions and self.chance(0.3):
            disabled = REGIONS[1:]
        keys_end = keys_live = None
        if self.chance(0.1):
            keys_end = self.log_uniform(0.2, 60.0)
        elif self.chance(0.04):
            keys_live = draw.choice((2.0, 30.0))
        if denied or untrusting or disabled or keys_live:
            self.hopeful = False
        return AccessSettings(
            denied_accounts=denied,
            untrusting_accounts=untrusting,
            disabled_regions=disabled,
            keys_end_at_seconds=keys_end,
            keys_live_seconds=keys_live,
            session_seconds=draw.choice((3600.0, 3600.0, 900.0)),
        )

    # The sweep

    def _settings(self, *, dry_run: bool, manifest: ManifestPlan | None) -> Settings:
        draw = self.draw
        consent, until_clear = self._consent(manifest), False
        guardrails = self._guardrails()
        if self.discovery and consent.yes and not dry_run and guardrails == Guardrails():
            until_clear = self.chance(0.25)
        retry = Retry(
            max_attempts=draw.choice((1, 2, 3, 5, 8)),
            deadline_seconds=self.log_uniform(0.3, 200.0) if self.chance(0.12) else None,
        )
        verify = Verify(wait=self.chance(0.85), timeout_seconds=draw.choice((1.0, 20.0, 900.0, 900.0)))
        if retry.deadline_seconds is not None or (retry.max_attempts < 8 and self.mood != "calm"):
            self.hopeful = False
        if verify.timeout_seconds < 900 or guardrails != Guardrails() or not (consent.yes or dry_run):
            self.hopeful = False
        selection, protection = self._rules(manifest)
        return Settings(
            source=DiscoverySource()
            if manifest is None
            else ManifestSource(path="", skip_invalid=bool(manifest.faulty_rows) and self.chance(0.8)),
            targets=self._targets(),
            selection=selection,
            protection=protection,
            guardrails=guardrails,
            consent=consent,
            rate=Rate(
                rps=draw.choice((1.0, 5.0, 50.0)) if self.chance(0.25) else None,
                max_concurrency=draw.choice((1, 2, 8, 64, 256)),
            ),
            retry=retry,
            verify=verify,
            until_clear=until_clear,
            ignore_not_found=self.chance(0.15),
            dry_run=dry_run,
        )

    def _consent(self, manifest: ManifestPlan | None) -> Consent:
        lot = self.draw.random()
        if lot < 0.8:
            return Consent(yes=True)
        if lot < 0.9:
            count = -1 if manifest is not None and manifest.counted else self.draw.randint(0, 25)
            return Consent(confirm_count=count)
        return Consent()

    def _guardrails(self) -> Guardrails:
        draw = self.draw
        max_errors = None
        if self.chance(0.15):
            max_errors = (
                MaxErrors(count=draw.randint(0, 4))
                if self.chance(0.6)
                else MaxErrors(percent=draw.choice((0.0, 5.0, 20.0)))
            )
        return Guardrails(
            max_runs=draw.randint(0, 40) if self.chance(0.1) else None,
            max_percent=draw.choice((0.0, 30.0, 80.0, 100.0)) if self.chance(0.08) else None,
            allow_accounts=draw.choice(((), (HOME,), ACCOUNTS, ACCOUNTS[1:])) if self.chance(0.06) else None,
            max_errors=max_errors,
        )

    def _rules(self, manifest: ManifestPlan | None) -> tuple[Selection, Protection]:
        draw = self.draw
        selection, protection = Selection(), Protection()
        if self.chance(0.25):
            kind = draw.choice(("names", "tags", "statuses", "types", "older", "newer", "nothing"))
            match kind:
                case "names":
                    selection = Selection(transform_names=("dedupe-*", "match-*"))
                case "tags":
                    selection = Selection(
                        tags={"env": ("dev", "test")} | ({"team": ("data",)} if self.chance(0.3) else {})
                    )
                case "statuses":
                    selection = Selection(statuses=draw.choice(((Status.STARTING,), (Status.RUNNING,))))
                case "types":
                    selection = Selection(task_types=(TaskType.FIND_MATCHES.value,))
                case "older":
                    selection = Selection(older_than=timedelta(seconds=draw.choice((30, 3600))))
                case "newer":
                    selection = Selection(newer_than=timedelta(seconds=draw.choice((60, 43200))))
                case _:
                    selection = Selection(transform_names=())
        if self.chance(0.25):
            protection = draw.choice(
                (
                    Protection(transform_names=("critical-*",)),
                    Protection(transforms=("link-*", "trial-*")),
                    Protection(tags={"protected": ("true",)}),
                    Protection(tags={"env": ("prod",), "team": ("crm",)}),
                )
            )
        return selection, protection

    def _targets(self) -> tuple[TargetSettings, ...]:
        regions = REGIONS if self.many_regions else REGIONS[:1]
        if not self.many_accounts:
            return (TargetSettings(regions=regions),)
        if not self.discovery:  # a row names its account, and one way leads there
            return (TargetSettings(role_name=ROLE, accounts=ACCOUNTS, regions=regions),)
        return (TargetSettings(regions=regions), TargetSettings(role_name=ROLE, accounts=ACCOUNTS[1:], regions=regions))

    def _manifest(self) -> ManifestPlan:
        draw = self.draw
        return ManifestPlan(
            share=draw.choice((0.3, 0.8, 1.0)),
            duplicates=draw.choice((0, 0, 1, 4)),
            unknown_runs=draw.choice((0, 0, 1, 3)),
            unknown_transforms=draw.choice((0, 0, 1, 2)),
            faulty_rows=draw.choice((0, 0, 0, 0, 2)),
            places=self.many_accounts or self.many_regions or self.chance(0.2),
            form=draw.choice(("csv", "jsonl")),
            counted=self.chance(0.7),
        )

    # The process

    def _troubles(self) -> tuple[Trouble, ...]:
        draw = self.draw
        lives = draw.choices((1, 2, 3, 5), (45, 30, 17, 8))[0]
        slow = draw.choice((0.0, 0.0, 0.004, 0.05, 1.5))
        troubles = [self._trouble(slow) for _ in range(lives - 1)]
        return (*troubles, Trouble(slow_disk_seconds=slow))

    def _trouble(self, slow: float) -> Trouble:
        draw = self.draw
        blow = draw.choices(
            (
                Blow.NONE,
                Blow.STEP,
                Blow.TIME,
                Blow.BEFORE_COMMIT,
                Blow.IN_COMMIT,
                Blow.AFTER_COMMIT,
                Blow.SEND,
                Blow.ARRIVAL,
                Blow.INTERRUPT,
                Blow.DISK_FULL,
                Blow.DISK_FULL_INSIDE,
                Blow.DISK_LIES,
            ),
            (3, 25, 10, 6, 5, 8, 10, 10, 18, 3, 3, 3),
        )[0]
        match blow:
            case Blow.STEP:
                at = float(int(self.log_uniform(20, 4000)))
            case Blow.TIME | Blow.INTERRUPT:
                at = self.log_uniform(0.01, 60.0)
            case Blow.SEND | Blow.ARRIVAL:
                at = float(int(self.log_uniform(1, 40)))
            case _:
                at = float(int(self.log_uniform(4, 60)))
        return Trouble(
            blow,
            at,
            arrives_share=draw.choice((0.0, 0.5, 1.0)),
            copied=self.chance(0.15),
            slow_disk_seconds=slow,
            wait_seconds=draw.choice((0.0, 0.0, 5.0, 2000.0)),
        )


def write_manifest(plan: ManifestPlan, world: World, seed: int) -> Manifest:
    """The manifest of a world, by a plan."""
    draw = random.Random(f"manifest {seed}")
    many = len(world.settings.fleet.accounts) > 1
    rows: list[dict[str, str]] = []
    for account_id, region, run in world.runs():
        if draw.random() < plan.share:
            rows.append(_row(plan, Key(account_id, region, run.transform_id, run.task_run_id)))
    home = (HOME, world.settings.fleet.regions[0])
    transforms = [
        transform.transform_id for account_id, region, transform in world.transforms() if (account_id, region) == home
    ]
    rows += [_row(plan, Key(*home, draw.choice(transforms), f"tsk-none-{n}")) for n in range(plan.unknown_runs)]
    rows += [_row(plan, Key(*home, f"tfm-none-{n}", "tsk-none")) for n in range(plan.unknown_transforms)]
    if rows:
        rows += [dict(draw.choice(rows)) for _ in range(plan.duplicates)]
    draw.shuffle(rows)
    keys = [
        Key(row.get("account_id") or HOME, row.get("region") or REGIONS[0], row["transform_id"], row["task_run_id"])
        for row in rows
    ]
    faulty = [{**row, "task_run_id": ""} for row in rows[: plan.faulty_rows]]
    if many and plan.faulty_rows:
        faulty += [{**row, "account_id": "999999999999"} for row in rows[:1] if row.get("account_id")]
    mixed = [*rows, *faulty]
    draw.shuffle(mixed)
    names = ["transform_id", "task_run_id", *(("account_id", "region") if plan.places else ())]
    out = io.StringIO(newline="")
    if plan.form == "csv":
        writer = csv.DictWriter(out, names)
        writer.writeheader()
        writer.writerows(mixed)
    else:
        out.writelines(json.dumps(row) + "\n" for row in mixed)
    return Manifest(out.getvalue(), list(dict.fromkeys(keys)), len(rows), len(faulty))


def _row(plan: ManifestPlan, key: Key) -> dict[str, str]:
    row = {"transform_id": key.transform_id, "task_run_id": key.task_run_id}
    if plan.places:
        row |= {"account_id": key.account_id, "region": key.region}
    return row


def manifest_path(directory: Path, plan: ManifestPlan) -> Path:
    """Where it stands."""
    return directory / f"runs.{plan.form}"
