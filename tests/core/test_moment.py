from datetime import UTC, datetime, timedelta, timezone

import pytest

from batch_cancel.core.moment import moment_of, rfc3339

NOON = datetime(2026, 11, 24, 12, 0, 0, 999_999, tzinfo=UTC)


def test_a_moment_is_written_in_utc_and_cut_to_the_millisecond() -> None:
    assert rfc3339(NOON) == "2026-11-24T12:00:00.999Z"
    assert rfc3339(NOON.astimezone(timezone(timedelta(hours=-5)))) == "2026-11-24T12:00:00.999Z"
    assert rfc3339(None) is None


def test_what_was_written_is_read_back() -> None:
    moment = NOON.replace(microsecond=999_000)
    assert moment_of(rfc3339(moment)) == moment
    assert moment_of("2026-11-24T12:00:00") == NOON.replace(microsecond=0)  # without an offset it is UTC


@pytest.mark.parametrize("text", [None, 20261124, "", "yesterday", ["2026-11-24"]])
def test_what_is_no_moment_is_none(text: object) -> None:
    assert moment_of(text) is None
