"""Durations need a unit."""

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batch_cancel.core.duration import format_duration, parse_duration
from batch_cancel.core.errors import UsageError


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90s", 90), ("15m", 900), ("6h", 21600), ("2d", 172800), ("1h30m", 5400), ("1d2h3m4s", 93784)],
)
def test_durations(text: str, seconds: int) -> None:
    assert parse_duration(text) == timedelta(seconds=seconds)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("90", "'90' has no unit: write for example 90s"),
        ("1.5", "has no unit"),
        ("-5m", "is negative"),
        ("0s", "is zero"),
        ("0d0h", "is zero"),
        ("", "is not a duration"),
        ("6 h", "is not a duration"),
        ("6H", "is not a duration"),
        ("30m1h", "is not a duration"),
        ("1.5h", "is not a duration"),
        ("5w", "is not a duration"),
        ("٣h", "is not a duration"),
        ("4000d", "is longer than 3650d"),
        ("9" * 5000 + "d", "is longer than 3650d"),
        ("x" * 5000, "is not a duration"),
        ("6h\n", "is not a duration"),
    ],
)
def test_what_is_not_a_duration(text: str, said: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_duration(text)
    assert said in str(caught.value)
    assert len(str(caught.value)) < 150


@given(st.integers(1, 3650 * 86400))
def test_a_duration_that_was_written_is_read_back(seconds: int) -> None:
    duration = timedelta(seconds=seconds)
    assert parse_duration(format_duration(duration)) == duration


def test_how_durations_are_written() -> None:
    assert [format_duration(timedelta(hours=hours)) for hours in (0, 6, 24, 36, 48, 100)] == [
        "0s",
        "6h",
        "1d",
        "36h",
        "2d",
        "4d4h",
    ]
