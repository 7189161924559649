"""Charts as SVG, made here: a report needs neither network nor JavaScript. Colours come from the stylesheet."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

WIDTH, HEIGHT = 560, 230
"""Of the picture in its own units, which the page scales: a telephone's stylesheet makes the letters larger."""
_LEFT, _RIGHT, _TOP, _BOTTOM = 58, 12, 28, 34
_LINE = 20
_INNER_WIDTH = WIDTH - _LEFT - _RIGHT
_INNER_HEIGHT = HEIGHT - _TOP - _BOTTOM
MOST_BUCKETS = 72
MOST_BINS = 24
_FAR_ABOVE = 4
"""A pace so many times what was sent held nobody up; drawn to scale it would flatten the columns."""


@dataclass(slots=True)
class Bucket:
    """Requests in a stretch of time, each a second on average; ``limit`` is the pace that was allowed, if known."""

    start_seconds: float
    answered: float
    failed: float
    throttled: float
    limit: float | None = None

    @property
    def height(self) -> float:
        """All requests a second."""
        return self.answered + self.failed + self.throttled


@dataclass(frozen=True, slots=True)
class Bin:
    """How many values lie from ``low`` to below ``high`` seconds."""

    low: float
    high: float
    count: int


def bar(share: float, kind: str) -> Markup:
    """A bar of a table's row, ``share`` (0 to 1) of its cell wide; never too short to be seen."""
    width = f"{max(0.4, 100 * min(1.0, share)):.2f}%" if share > 0 else "0"
    return Markup(
        '<svg class="bar" width="100%" height="12" aria-hidden="true" focusable="false">'
        '<rect class="track" width="100%" height="12" rx="3"/><rect class="{}" width="{}" height="12" rx="3"/></svg>'
    ).format(kind, width)


def timeline(buckets: Sequence[Bucket], label: str) -> Markup:
    """Stacked columns of requests a second, with the allowed pace as a line over them where it was near."""
    step = buckets[1].start_seconds - buckets[0].start_seconds if len(buckets) > 1 else 1.0
    total_seconds = buckets[-1].start_seconds + step
    highest = max(*(bucket.height for bucket in buckets), *(pace for pace in paces_near(buckets) if pace), 0.0)
    top = nice_ceiling(highest)
    column = _INNER_WIDTH / len(buckets)
    gap = 0.0 if column < 3 else min(2.0, column * 0.15)
    parts = [_grid(top, "requests/s")]
    for at, bucket in enumerate(buckets):
        base = float(_INNER_HEIGHT + _TOP)
        for kind, value in (("calm", bucket.answered), ("bad", bucket.failed), ("warn", bucket.throttled)):
            height = value / top * _INNER_HEIGHT
            if height > 0:
                base -= height
                parts.append(_rect(kind, _LEFT + at * column, base, column - gap, height))
    parts.append(_limit_line(paces_near(buckets), column, top))
    parts.append(_axis([(0.0, "0 s"), (0.5, seconds_text(total_seconds / 2)), (1.0, seconds_text(total_seconds))]))
    return _svg(parts, label)


def paces_near(buckets: Sequence[Bucket]) -> list[float | None]:
    """The pace that was allowed in each of them, as far as :func:`timeline` draws it."""
    most = _FAR_ABOVE * max(bucket.height for bucket in buckets)
    return [None if bucket.limit is None or bucket.limit > most else bucket.limit for bucket in buckets]


def histogram(bins: Sequence[Bin], marks: Sequence[tuple[float, str]], label: str) -> Markup:
    """Columns of counts over seconds; ``marks`` are values to be pointed at, with their names."""
    low, high = bins[0].low, bins[-1].high
    top = nice_ceiling(1.3 * max(each.count for each in bins))  # room for the names of the marks
    column = _INNER_WIDTH / len(bins)
    parts = [_grid(top, "runs")]
    for at, each in enumerate(bins):
        height = each.count / top * _INNER_HEIGHT
        if height > 0:
            parts.append(_rect("good", _LEFT + at * column + 1, _TOP + _INNER_HEIGHT - height, column - 2, height))
    for row, (value, name) in enumerate(marks):
        x = _LEFT + (value - low) / (high - low) * _INNER_WIDTH
        anchor = "end" if x > WIDTH * 0.7 else "start"
        parts.append(
            Markup('<line class="mark" x1="{0}" x2="{0}" y1="{1}" y2="{2}"/>').format(
                _number(x), _TOP, _TOP + _INNER_HEIGHT
            )
            + _text(x + (-5 if anchor == "end" else 5), _TOP + 14 + _LINE * row, name, anchor, "note")
        )
    parts.append(_axis([(0.0, seconds_text(low)), (0.5, seconds_text((low + high) / 2)), (1.0, seconds_text(high))]))
    return _svg(parts, label)


def bins_of(values: Sequence[float]) -> list[Bin]:
    """Values (sorted, not empty, in seconds) in at most :data:`MOST_BINS` bins of a round width."""
    low = math.floor(values[0])
    width = nice_ceiling(max(values[-1] - low, 0.1) / MOST_BINS)
    count = max(1, math.floor((values[-1] - low) / width) + 1)
    counts = [0] * count
    for value in values:
        counts[min(count - 1, int((value - low) / width))] += 1
    return [Bin(low + at * width, low + (at + 1) * width, each) for at, each in enumerate(counts)]


def nice_ceiling(number: float) -> float:
    """The next round number: where an axis can end."""
    if number <= 0:
        return 1.0
    power = 10.0 ** math.floor(math.log10(number))
    return next(
        (step * power for step in (1, 1.2, 1.6, 2, 2.4, 3, 4, 5, 6, 8) if step * power >= number * (1 - 1e-9)),
        10 * power,
    )


def seconds_text(seconds: float) -> str:
    """Seconds as an axis names them."""
    if seconds < 120:
        return f"{seconds:.3g} s"
    minutes = seconds / 60
    return f"{minutes:.3g} min" if minutes < 120 else f"{minutes / 60:.3g} h"


def _limit_line(paces: Sequence[float | None], column: float, top: float) -> Markup:
    pieces: list[str] = []
    drawing = False
    for at, pace in enumerate(paces):
        if pace is None:
            drawing = False
            continue
        y = _number(_TOP + _INNER_HEIGHT * (1 - pace / top))
        pieces.append(
            f"{'L' if drawing else 'M'}{_number(_LEFT + at * column)} {y}H{_number(_LEFT + (at + 1) * column)}"
        )
        drawing = True
    return Markup('<path class="limit" d="{}"/>').format(" ".join(pieces)) if pieces else Markup()


def _grid(top: float, unit: str) -> Markup:
    parts = []
    for share in (0.0, 0.5, 1.0):
        y = _TOP + _INNER_HEIGHT * (1 - share)
        parts.append(
            Markup('<line class="grid" x1="{}" x2="{}" y1="{}" y2="{}"/>').format(
                _LEFT, WIDTH - _RIGHT, _number(y), _number(y)
            )
        )
        name = f"{top * share:,.3g}" if top < 1000 else f"{top * share:,.0f}"
        parts.append(_text(_LEFT - 8, y + 4, name, "end"))
    parts.append(_text(_LEFT, _TOP - 10, unit, "start"))  # above all that is drawn, so that nothing meets it
    return Markup().join(parts)


def _axis(labels: Sequence[tuple[float, str]]) -> Markup:
    anchors = {0.0: "start", 1.0: "end"}
    return Markup().join(
        _text(_LEFT + share * _INNER_WIDTH, HEIGHT - 10, name, anchors.get(share, "middle")) for share, name in labels
    )


def _rect(kind: str, x: float, y: float, width: float, height: float) -> Markup:
    return Markup('<rect class="{}" x="{}" y="{}" width="{}" height="{}"/>').format(
        kind, _number(x), _number(y), _number(max(0.5, width)), _number(height)
    )


def _text(x: float, y: float, text: str, anchor: str, kind: str = "tick") -> Markup:
    return Markup('<text class="{}" x="{}" y="{}" text-anchor="{}">{}</text>').format(
        kind, _number(x), _number(y), anchor, text
    )


def _svg(parts: Sequence[Markup], label: str) -> Markup:
    return Markup('<svg class="chart" viewBox="0 0 {} {}" role="img" aria-label="{}">{}</svg>').format(
        WIDTH, HEIGHT, label, Markup().join(parts)
    )


def _number(number: float) -> str:
    return f"{number:.1f}".removesuffix(".0")
