"""Files that nobody else reads, and that are whole or not there."""

import stat
from pathlib import Path

import pytest

from batch_cancel.private_file import private, replacing


def test_a_file_that_replaces_another_is_private_and_leaves_nothing_beside_it(tmp_path: Path) -> None:
    path = tmp_path / "report.json"
    path.write_text("old")
    path.chmod(0o644)
    with replacing(path) as new:
        new.write_text("new")
        assert path.read_text() == "old"
    assert path.read_text() == "new"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert list(tmp_path.iterdir()) == [path]


def test_what_fails_on_its_way_leaves_what_was_there_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "report.json"
    path.write_text("old")
    with pytest.raises(OSError, match="disk full"), replacing(path) as new:
        new.write_text("ne")
        raise OSError("disk full")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_an_opener_makes_files_private_and_leaves_the_mode_of_others(tmp_path: Path) -> None:
    for path, mode in ((tmp_path / "new", 0o600), (tmp_path / "old", 0o644)):
        if mode == 0o644:
            path.touch()
            path.chmod(mode)
        with open(path, "w", opener=private) as file:
            file.write("x")
        assert stat.S_IMODE(path.stat().st_mode) == mode
