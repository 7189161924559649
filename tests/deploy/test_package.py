"""What is installed: everything that the program opens while it runs, and nothing else."""

import tarfile
import zipfile
from pathlib import Path

import pytest
from hatchling.builders.sdist import SdistBuilder
from hatchling.builders.wheel import WheelBuilder

from batch_cancel.version import __version__
from tests.deploy.templates import template
from tests.release import LAMBDA_PYTHON, TREE, check_contents, digest, version_of


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return Path(next(WheelBuilder(str(TREE)).build(directory=str(tmp_path_factory.mktemp("wheel")))))


def test_wheel_and_sdist_hold_templates_drills_and_types(wheel: Path, tmp_path: Path) -> None:
    sdist = Path(next(SdistBuilder(str(TREE)).build(directory=str(tmp_path))))
    check_contents(wheel, sdist, __version__)
    ours = {str(path.relative_to(TREE)) for path in (TREE / "batch_cancel").rglob("*") if path.suffix != ".pyc"}
    files = {name for name in ours if (TREE / name).is_file()}
    with zipfile.ZipFile(wheel) as archive:
        assert files == {name for name in archive.namelist() if ".dist-info/" not in name}
    with tarfile.open(sdist) as tar:
        assert not [name for name in tar.getnames() if ".venv" in name or name.endswith(".pyc")]


def test_a_second_build_is_the_same_to_the_byte(wheel: Path, tmp_path: Path) -> None:
    again = Path(next(WheelBuilder(str(TREE)).build(directory=str(tmp_path))))
    assert digest(again) == digest(wheel)


def test_the_version_stands_in_one_place() -> None:
    assert version_of(TREE / "batch_cancel" / "version.py") == __version__
    assert f'"{__version__}"' not in (TREE / "pyproject.toml").read_text()


def test_the_function_s_package_is_for_the_runtime_that_the_template_names() -> None:
    function = template("organization.yaml")["Resources"]["Function"]["Properties"]
    assert (function["Runtime"], function["Architectures"]) == (f"python{LAMBDA_PYTHON}", ["arm64"])
