"""What is there to be copied runs as it stands."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from batch_cancel.simulator.scenarios import find_scenario, scenario_names
from batch_cancel.simulator.settings import Behaviour, FleetSettings, WorldSettings
from batch_cancel.sweep_file import load_sweep_file
from tests.endpoints import Endpoint, report_of, served

CONFIGS = Path(__file__).parent.parent / "configs"
SWEEPS = ("audit", "cost-control", "incident", "organization-nightly", "review")


@pytest.fixture
def organization(tmp_path: Path) -> Iterator[Endpoint]:
    """The organization that the nightly sweep is written for, and old runs enough."""
    world = find_scenario("organization").world
    fleet = FleetSettings(
        accounts=world.fleet.accounts, regions=world.fleet.regions, transforms=3, runs=120, age_seconds=(1e3, 2e5)
    )
    settings = WorldSettings(
        fleet=fleet,
        behaviour=Behaviour(stopping_seconds=(0.1, 0.3)),
        access=world.access,
        organization=world.organization,
    )
    with served(settings, tmp_path) as serving:
        yield serving


def test_every_sweep_file_is_known_here() -> None:
    assert {path.stem for path in CONFIGS.glob("*.yaml")} == {*SWEEPS, "drill"}


@pytest.mark.parametrize("name", SWEEPS)
def test_a_sweep_file_runs_as_it_stands(organization: Endpoint, name: str) -> None:
    path = str(CONFIGS / f"{name}.yaml")
    load_sweep_file(path)
    looked = organization.command("run", path, "--dry-run", "--out", "audit")
    expected = 1 if name == "organization-nightly" else 0  # two accounts and a region do not let it in
    assert looked.returncode == expected, looked.stderr
    assert organization.cancels() == 0
    would = report_of(organization.folder, "audit")["totals"]["outcomes"].get("would_cancel", 0)
    assert would > 0
    if name == "audit":
        return
    done = organization.command("run", path, "--yes", "--out", "out")
    assert done.returncode == expected, done.stderr
    assert report_of(organization.folder)["totals"]["outcomes"].get("stopped", 0) == would


@pytest.mark.parametrize("name", [*scenario_names(), str(CONFIGS / "drill.yaml")])
def test_every_scenario_has_a_story_and_a_command(name: str) -> None:
    scenario = find_scenario(name)
    assert scenario.story and scenario.goal and scenario.command.startswith("batch-cancel run ")
