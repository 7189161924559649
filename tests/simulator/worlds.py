"""Worlds for tests: a clock that stands until it is set, and the calls that tests make."""

from typing import Any

from batch_cancel.core.task_run import Status
from batch_cancel.simulator.fleet import Run
from batch_cancel.simulator.settings import (
    AccessSettings,
    Behaviour,
    Fault,
    FleetSettings,
    Limit,
    OrganizationSettings,
    WorldSettings,
)
from batch_cancel.simulator.sts import KEY_PREFIX
from batch_cancel.simulator.world import Answer, World

HOME = "111111111111"
OTHER = "222222222222"
REGION = "us-east-1"
KEY = KEY_PREFIX + HOME
BEGAN_AT = 1_790_000_000.0


class Clock:
    """Seconds since the epoch, that pass when a test says so."""

    def __init__(self) -> None:
        self.seconds = BEGAN_AT

    def __call__(self) -> float:
        return self.seconds

    def pass_(self, seconds: float) -> None:
        self.seconds += seconds


def world_of(
    *faults: Fault,
    clock: Clock | None = None,
    limits: tuple[Limit, ...] = (),
    access: AccessSettings | None = None,
    behaviour: Behaviour | None = None,
    fleet: FleetSettings | None = None,
    organization: OrganizationSettings | None = None,
    seed: int = 0,
) -> World:
    settings = WorldSettings(
        seed=seed,
        fleet=fleet or FleetSettings(transforms=4, runs=40),
        behaviour=behaviour or Behaviour(),
        limits=limits,
        faults=faults,
        access=access or AccessSettings(),
        organization=organization or OrganizationSettings(),
    )
    return World(settings, now=clock or Clock())


def run_with(world: World, *statuses: Status) -> Run:
    """Some run that has one of these statuses now."""
    now = world.now()
    return next(run for _, _, run in world.runs() if run.status(now) in statuses)


def active(world: World) -> Run:
    return run_with(world, Status.RUNNING)


def cancel(world: World, run: Run, key: str = KEY) -> Answer:
    return world.call(key, REGION, "CancelMLTaskRun", ids(run))


def ids(run: Run) -> dict[str, str]:
    return {"TransformId": run.transform_id, "TaskRunId": run.task_run_id}


def body(answer: Answer) -> dict[str, Any]:
    assert answer.refused is None, answer.refused
    assert answer.body is not None
    return answer.body


def code(answer: Answer) -> str:
    assert answer.refused is not None
    return answer.refused.code
