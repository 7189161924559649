from pathlib import Path

import pytest

from tests.sim.planted import PLANTS, Edit, Plant, hunt, plant


def test_there_are_enough_of_them_and_no_two_the_same() -> None:
    assert len(PLANTS) >= 20
    assert len({bug.name for bug in PLANTS}) == len(PLANTS)


@pytest.mark.parametrize("bug", PLANTS, ids=lambda bug: bug.name.replace(" ", "-"))
def test_the_code_still_holds_what_the_bug_changes(bug: Plant, tmp_path: Path) -> None:
    plant(bug, tmp_path)


def test_a_bug_that_no_longer_fits_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"mend tests/sim/planted\.py"):
        plant(Plant("no such", (Edit("sweep.py", "this stands nowhere", ""),)), tmp_path)


@pytest.mark.parametrize("bug", [bug for bug in PLANTS if bug.quick], ids=lambda bug: bug.name.replace(" ", "-"))
def test_a_planted_bug_is_caught(bug: Plant) -> None:
    catch = hunt(bug)

    assert catch.caught, catch.told
