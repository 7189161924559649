import json
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from batch_cancel.glue.learned import LONGEST_FILE, MOST_ENTRIES, STALE_SECONDS, LearnedRates, state_file

KEY = ("111111111111", "eu-west-1", "CancelMLTaskRun")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state" / "batch-cancel" / "rates.json"


def learned(path: Path, *, at: float = 1_000.0, endpoint_url: str | None = None) -> LearnedRates:
    return LearnedRates(path, endpoint_url=endpoint_url, now=lambda: at)


def test_what_was_found_is_known_next_time(path: Path) -> None:
    learned(path).save({KEY: 20.5})
    assert learned(path, at=2_000.0).get(*KEY) == 20.5


def test_another_account_region_operation_or_endpoint_is_another_limit(path: Path) -> None:
    learned(path).save({KEY: 20.5})
    account, region, operation = KEY
    again = learned(path)
    assert again.get("222222222222", region, operation) is None
    assert again.get(account, "us-east-1", operation) is None
    assert again.get(account, region, "GetMLTaskRun") is None
    assert learned(path, endpoint_url="http://127.0.0.1:4566").get(*KEY) is None


def test_what_is_a_week_old_or_of_the_future_is_forgotten(path: Path) -> None:
    learned(path).save({KEY: 20.5})
    assert learned(path, at=1_000.0 + STALE_SECONDS - 1.0).get(*KEY) == 20.5
    assert learned(path, at=1_000.0 + STALE_SECONDS).get(*KEY) is None
    assert learned(path, at=999.0).get(*KEY) is None


def test_a_lost_file_is_no_trouble(path: Path) -> None:
    assert learned(path).get(*KEY) is None
    learned(path).save({KEY: 20.5})
    path.unlink()
    assert learned(path).get(*KEY) is None


@pytest.mark.parametrize(
    "damage",
    [
        b"",
        b"{",
        b"\xff\xfe\x00",
        b"[]",
        b"null",
        b'{"rates": null}',
        b'{"rates": {"x": 3}}',
        b'{"rates": {"x": [1]}}',
        b'{"rates": {"x": ["fast", 0]}}',
        b'{"rates": {"aws 111111111111 eu-west-1 CancelMLTaskRun": [NaN, 999]}}',
        b'{"rates": {"aws 111111111111 eu-west-1 CancelMLTaskRun": [-5, 999]}}',
        b'{"rates": {"aws 111111111111 eu-west-1 CancelMLTaskRun": [1e300, 999]}}',
        b'{"rates": {"aws 111111111111 eu-west-1 CancelMLTaskRun": [5, Infinity]}}',
        b"[" * 200_000,
        b'{"rates": {}, "' + b"x" * LONGEST_FILE + b'": 1}',
    ],
    ids=lambda damage: repr(damage[:40]),
)
def test_a_damaged_file_is_as_good_as_none_and_is_replaced(path: Path, damage: bytes) -> None:
    path.parent.mkdir(parents=True)
    path.write_bytes(damage)
    assert learned(path).get(*KEY) is None
    learned(path).save({KEY: 7.0})
    assert learned(path).get(*KEY) == 7.0


@settings(max_examples=50, deadline=None)
@given(cut=st.integers(0, 200), put=st.binary(max_size=5))
def test_no_cut_and_no_stray_byte_makes_it_raise(
    tmp_path_factory: pytest.TempPathFactory, cut: int, put: bytes
) -> None:
    path = tmp_path_factory.mktemp("rates") / "rates.json"
    learned(path).save({KEY: 20.5})
    whole = path.read_bytes()
    path.write_bytes(whole[:cut] + put + whole[cut + len(put) :])
    rps = learned(path).get(*KEY)
    assert rps is None or 0.0 < rps < 1e6


def test_a_directory_in_its_place_or_above_a_file_is_borne(tmp_path: Path) -> None:
    (tmp_path / "rates.json").mkdir()
    learned(tmp_path / "rates.json").save({KEY: 1.0})
    assert learned(tmp_path / "rates.json").get(*KEY) is None
    (tmp_path / "file").write_text("")
    learned(tmp_path / "file" / "rates.json").save({KEY: 1.0})
    assert learned(tmp_path / "file" / "rates.json").get(*KEY) is None
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["file", "rates.json"]  # nothing half-written is left


def test_what_others_found_meanwhile_is_kept(path: Path) -> None:
    here, there = learned(path), learned(path)
    assert here.get(*KEY) is None
    there.save({("222222222222", "eu-west-1", "CancelMLTaskRun"): 9.0})
    here.save({KEY: 20.5})
    assert learned(path).get("222222222222", "eu-west-1", "CancelMLTaskRun") == 9.0
    assert learned(path).get(*KEY) == 20.5


def test_writers_at_once_leave_one_whole_file(path: Path) -> None:
    def write(number: int) -> None:
        learned(path).save({(f"{number:012}", "eu-west-1", "GetMLTaskRun"): float(number + 1)})

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(write, range(40)))
    rates = json.loads(path.read_text())["rates"]
    assert rates
    assert all(rps == int(key.split()[1]) + 1 for key, (rps, _) in rates.items())
    assert [entry.name for entry in path.parent.iterdir()] == ["rates.json"]


def test_it_is_for_the_user_alone(path: Path) -> None:
    learned(path).save({KEY: 20.5})
    assert path.stat().st_mode & 0o077 == 0
    assert path.parent.stat().st_mode & 0o077 == 0


def test_nothing_found_writes_nothing(path: Path) -> None:
    learned(path).save({})
    assert not path.exists()


def test_only_the_newest_are_kept(path: Path) -> None:
    learned(path, at=1_000.0).save({KEY: 20.5})
    many = {(f"{number:012}", "eu-west-1", "GetMLTaskRun"): 1.0 for number in range(MOST_ENTRIES)}
    learned(path, at=1_001.0).save(many)
    assert learned(path, at=1_001.0).get(*KEY) is None
    assert learned(path, at=1_001.0).get(*next(iter(many))) == 1.0
    assert path.stat().st_size < LONGEST_FILE


def test_an_interrupted_write_leaves_the_old_file_and_no_other(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    learned(path).save({KEY: 20.5})

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Path, "replace", interrupted)
        learned(path).save({KEY: 1.0})
    assert learned(path).get(*KEY) == 20.5
    assert [entry.name for entry in path.parent.iterdir()] == ["rates.json"]


def test_the_state_directory_is_xdgs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    assert state_file() == tmp_path / "batch-cancel" / "rates.json"
    monkeypatch.setenv("HOME", os.fspath(tmp_path / "home"))
    for nothing in ("", "relative/is/ignored"):
        monkeypatch.setenv("XDG_STATE_HOME", nothing)
        assert state_file() == tmp_path / "home/.local/state/batch-cancel/rates.json"
