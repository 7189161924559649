"""Durations as people write them: ``90s``, ``15m``, ``6h``, ``2d``, ``1h30m``."""

import re
from datetime import timedelta

from batch_cancel.core.errors import UsageError

LONGEST = timedelta(days=3650)
"""Ten years: past it a duration is a slip of the finger, and arithmetic with the present time could overflow."""

_SHAPE = re.compile(r"(?:([0-9]+)d)?(?:([0-9]+)h)?(?:([0-9]+)m)?(?:([0-9]+)s)?", re.ASCII)
_EXAMPLES = "write for example 90s, 15m, 6h, 2d or 1h30m"


def parse_duration(text: str) -> timedelta:
    """Read a positive duration.

    Raises:
        UsageError: a bare number, a fraction, a sign, an unknown unit, zero, or more than :data:`LONGEST`.
    """
    shown = repr(text if len(text) <= 40 else text[:40] + "…")
    if re.fullmatch(r"[0-9]+(\.[0-9]+)?", text):
        raise UsageError(f"{shown} has no unit: {_EXAMPLES}")
    if re.fullmatch(r"-[0-9].*", text, re.DOTALL):
        raise UsageError(f"{shown} is negative: {_EXAMPLES}")
    match = _SHAPE.fullmatch(text)
    if not text or match is None:
        raise UsageError(f"{shown} is not a duration: {_EXAMPLES}")
    if len(text) > 40:  # digits alone can make it so long; int() of very many of them is refused by Python itself
        raise UsageError(f"{shown} is longer than {LONGEST.days}d")
    days, hours, minutes, seconds = (int(part or 0) for part in match.groups())
    total_seconds = ((days * 24 + hours) * 60 + minutes) * 60 + seconds
    if total_seconds == 0:
        raise UsageError(f"{shown} is zero: {_EXAMPLES}")
    if total_seconds > LONGEST.total_seconds():
        raise UsageError(f"{shown} is longer than {LONGEST.days}d")
    return timedelta(seconds=total_seconds)


def format_duration(duration: timedelta) -> str:
    """The shortest way to write a duration of whole seconds, so that :func:`parse_duration` reads it back."""
    minutes, seconds = divmod(int(duration.total_seconds()), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    if days and hours and not minutes and not seconds and days < 3:
        days, hours = 0, hours + 24 * days  # people say 36h, not 1d12h
    parts = ((days, "d"), (hours, "h"), (minutes, "m"), (seconds, "s"))
    return "".join(f"{amount}{unit}" for amount, unit in parts if amount) or "0s"
