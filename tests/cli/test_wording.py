"""What fits into how many columns; times and rates as people read them."""

import os
from datetime import timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from batch_cancel.cli.wording import ago, cells, columns_of, fit, fit_id, is_terminal, padded, rate, took, wants_colour
from tests.cli.terminal import Terminal


@settings(deadline=None)
@given(st.text(st.characters(exclude_categories=("C", "Zl", "Zp"))), st.integers(0, 30))
def test_what_is_fitted_fits_and_shows_that_something_is_missing(text: str, width: int) -> None:
    for fitted in (fit(text, width), fit_id(text, width)):
        assert cells(fitted) <= width
        assert fitted == text or width == 0 or "…" in fitted


def test_an_id_is_cut_in_its_middle() -> None:
    assert fit_id("tfm-0123456789abcdef", 12) == "tfm-01…bcdef"
    assert fit("tfm-0123456789abcdef", 12) == "tfm-0123456…"


def test_wide_characters_take_two_columns_and_accents_none() -> None:
    assert [cells(text) for text in ("abc", "名寄せ", "e\u0301", "🚀", "☎\ufe0f")] == [3, 6, 1, 2, 1]
    assert fit("名寄せ", 5) == "名寄…"
    assert padded("名", 4) == "名  "
    assert padded("名", 4, right=True) == "  名"


def test_times_and_rates_as_people_read_them() -> None:
    ages = [timedelta(seconds=40), timedelta(hours=2, minutes=5, seconds=9), timedelta(days=6, hours=4, minutes=3)]
    assert [ago(age) for age in ages] == ["40s", "2h5m", "6d4h"]
    assert ago(-timedelta(seconds=3)) == "0s"  # Glue's clock is ahead of ours
    assert [took(0.44), took(24.3), took(725.2)] == ["0.4 s", "24.3 s", "12m5s"]
    assert [rate(0.44), rate(9.94), rate(9.96), rate(1234.5)] == ["0.4/s", "9.9/s", "10/s", "1,234/s"]


def test_only_a_terminal_that_knows_colours_gets_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    with Terminal(columns=91) as terminal:
        stream = terminal.stream()
        assert is_terminal(stream)
        assert columns_of(stream) == 91
        assert wants_colour(stream)
        assert not wants_colour(stream, no_color=True)
        monkeypatch.setenv("TERM", "dumb")
        assert not wants_colour(stream)
        monkeypatch.setenv("TERM", "xterm")
        monkeypatch.setenv("NO_COLOR", "1")
        assert not wants_colour(stream)
        stream.close()
        assert not is_terminal(stream)
        assert columns_of(stream) == 80
    with open(os.devnull, "w") as nowhere:  # noqa: PTH123  # a stream as the interpreter makes one
        assert not is_terminal(nowhere)
        assert columns_of(nowhere, 100) == 100
    assert not is_terminal(None)
    assert columns_of(None) == 80
