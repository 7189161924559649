from pathlib import Path

import pytest

from tests.sim.planted import PLANTS, Edit, Plant, edited, hunt, hunt_all, plant


def test_there_are_enough_of_them_and_no_two_the_same() -> None:
    assert len(PLANTS) >= 20
    assert len({bug.name for bug in PLANTS}) == len(PLANTS)


@pytest.mark.parametrize("bug", PLANTS, ids=lambda bug: bug.name.replace(" ", "-"))
def test_the_code_still_holds_what_the_bug_changes(bug: Plant) -> None:
    edited(bug)


def test_a_bug_that_no_longer_fits_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"mend tests/sim/planted\.py"):
        plant(Plant("no such", (Edit("sweep.py", "this stands nowhere", ""),)), tmp_path)


def test_without_a_bug_nothing_is_caught() -> None:
    assert not hunt(Plant("none", ()), seeds=25).caught


def test_planted_bugs_are_caught() -> None:
    """Those that are caught soonest; `python -m tests.sim.planted` hunts all."""
    missed = [catch for catch in hunt_all(bug for bug in PLANTS if bug.quick) if not catch.caught]

    assert not missed, "\n\n".join(f"{catch.plant.name}\n{catch.told}" for catch in missed)
