"""How long a call takes there and back: distributions to draw from."""

import math
import random
from collections.abc import Callable

Latency = Callable[[random.Random], float]
"""Draws the seconds of one round trip."""


def no_latency(draw: random.Random) -> float:
    """Answers at once."""
    return 0.0


def always(seconds: float) -> Latency:
    """The same for each call."""
    return lambda draw: seconds


def between(least_seconds: float, most_seconds: float) -> Latency:
    """Evenly spread."""
    return lambda draw: draw.uniform(least_seconds, most_seconds)


def long_tailed(median_seconds: float, spread: float = 0.5) -> Latency:
    """Log-normal, as networks have it: half of the calls are faster than the median, a few are far slower."""
    return lambda draw: draw.lognormvariate(math.log(median_seconds), spread)
