import re
import xml.etree.ElementTree as ET
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batch_cancel.report.charts import (
    HEIGHT,
    MOST_BINS,
    WIDTH,
    Bin,
    Bucket,
    bar,
    bins_of,
    histogram,
    nice_ceiling,
    paces_near,
    seconds_text,
    timeline,
)

seconds = st.floats(0, 1e6, allow_nan=False)


def rects(svg: str, kind: str) -> list[tuple[float, float, float, float]]:
    root = ET.fromstring(svg)  # noqa: S314  # our own
    found = [each for each in root.iter("rect") if each.get("class") == kind]
    return [tuple(float(each.get(name, "0")) for name in ("x", "y", "width", "height")) for each in found]  # type: ignore[misc]  # four of them


@given(st.lists(seconds, min_size=1, max_size=200))
def test_every_value_is_in_exactly_one_bin(values: list[float]) -> None:
    bins = bins_of(sorted(values))
    assert sum(each.count for each in bins) == len(values)
    assert len(bins) <= MOST_BINS + 1
    assert all(one.high == pytest.approx(other.low) for one, other in pairwise(bins))
    assert bins[0].low <= min(values)
    assert bins[-1].high >= max(values) * (1 - 1e-9)


@given(st.floats(1e-6, 1e12))
def test_an_axis_ends_at_a_round_number_not_far_above(number: float) -> None:
    top = nice_ceiling(number)
    assert number * (1 - 1e-6) <= top <= number * 1.4
    assert float(f"{top:.2g}") == pytest.approx(top)


def test_an_axis_of_nothing_is_one() -> None:
    assert nice_ceiling(0) == 1.0


def test_columns_are_stacked_to_the_requests_of_their_time() -> None:
    svg = timeline([Bucket(0, 6, 1, 3, 10.0), Bucket(1, 0, 0, 0), Bucket(2, 5, 0, 0, 5.0)], "requests")
    (answered, later), (failed,), (throttled,) = (rects(svg, kind) for kind in ("calm", "bad", "warn"))
    assert answered[3] / later[3] == pytest.approx(6 / 5, rel=0.01)
    assert failed[1] + failed[3] == pytest.approx(answered[1], abs=0.11)
    assert throttled[1] + throttled[3] == pytest.approx(failed[1], abs=0.11)
    assert throttled[3] == pytest.approx(answered[3] / 2, rel=0.01)
    path = re.search('class="limit" d="([^"]*)"', svg)
    assert path is not None
    assert path[1].count("M") == 2  # the line is broken where no pace was known


def test_without_a_known_pace_there_is_no_line() -> None:
    assert "limit" not in timeline([Bucket(0, 1, 0, 0), Bucket(1, 1, 0, 0)], "requests")


def test_a_pace_far_above_what_was_sent_flattens_no_column() -> None:
    buckets = [Bucket(0, 10, 0, 0, 4000.0), Bucket(1, 5, 0, 0, 12.0)]
    near = [Bucket(0, 10, 0, 0), Bucket(1, 5, 0, 0, 12.0)]
    assert paces_near(buckets) == [None, 12.0]
    assert timeline(buckets, "requests") == timeline(near, "requests")
    assert rects(timeline(buckets, "requests"), "calm")[0][3] > HEIGHT / 2


@pytest.mark.parametrize("value", [0.1, 9.9])
def test_marks_stay_inside_the_picture(value: float) -> None:
    svg = histogram([Bin(0, 5, 3), Bin(5, 10, 0)], [(value, "<half> & more")], "time to stop")
    root = ET.fromstring(svg)  # noqa: S314  # our own
    note = next(each for each in root.iter("text") if each.get("class") == "note")
    assert note.text == "<half> & more"
    assert 0 < float(note.get("x", "0")) < WIDTH
    assert note.get("text-anchor") == ("start" if value < 5 else "end")
    assert len(rects(svg, "good")) == 1


def test_the_unit_stands_above_all_that_is_drawn() -> None:
    """At the left edge the names of marks would be printed over it."""
    bins = [Bin(0, 5, 3), Bin(5, 10, 1)]
    svgs = histogram(bins, [(0.1, "half"), (0.2, "95 %")], "h"), timeline([Bucket(0, 9, 0, 0), Bucket(1, 1, 0, 0)], "t")
    for svg, unit in zip(svgs, ("runs", "requests/s"), strict=True):
        root = ET.fromstring(svg)  # noqa: S314  # our own
        texts = {each.text: float(each.get("y", "0")) for each in root.iter("text")}
        drawn = [float(each.get("y", each.get("y1", "0"))) for each in root.iter() if each.tag in ("rect", "line")]
        assert 0 < texts[unit] < min(drawn)
        assert all(y - texts[unit] >= 18 for text, y in texts.items() if text in ("half", "95 %"))


def test_a_bar_is_as_wide_as_its_share_and_never_unseen() -> None:
    def width(share: float) -> str:
        return str(re.findall(r'width="([^"]*)"', bar(share, "good"))[-1])

    assert (width(0.5), width(1), width(2)) == ("50.00%", "100.00%", "100.00%")
    assert width(0.000001) == "0.40%"
    assert width(0) == "0"


@pytest.mark.parametrize(
    ("value", "text"), [(0.25, "0.25 s"), (3.4, "3.4 s"), (119, "119 s"), (600, "10 min"), (7200, "2 h")]
)
def test_seconds_are_named_as_people_do(value: float, text: str) -> None:
    assert seconds_text(value) == text
