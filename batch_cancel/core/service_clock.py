"""By how much the service's clock differs from ours, learnt from the ``Date`` of its answers.

A run's end is by the service's clock and our request by ours. Which of them was first can be told only on one clock.
"""

from datetime import datetime

RESOLUTION_SECONDS = 1.0
"""A ``Date`` header is cut to the second."""
FARTHEST_SECONDS = 86_400.0
"""No two clocks that run are a day apart (AWS refuses signatures by one that is minutes off): such a date is wrong."""


class ServiceClock:
    """Learns one service's clock.

    Every answer says between which bounds the difference lies, and the next one narrows them. Where the two clocks may
    be the same they are taken to be; else the least difference counts: by it our requests come as early as they can
    have, and no run that we stopped was over before.

    Args:
        offset_seconds: what was known of it before.

    Attributes:
        offset_seconds: what to add to our time to have the service's; None while nothing is known.
    """

    def __init__(self, offset_seconds: float | None = None) -> None:
        self.offset_seconds = offset_seconds
        self._bounds: tuple[float, float] | None = None

    def told(self, date: datetime | None, *, sent_at: datetime, heard_at: datetime) -> None:
        """An answer was dated so, by the service; the request left and the answer came at these times, by us."""
        if date is None or heard_at < sent_at:  # our own clock was set back meanwhile: it says nothing
            return
        if abs((date - heard_at).total_seconds()) > FARTHEST_SECONDS:
            return
        least = (date - heard_at).total_seconds()
        most = (date - sent_at).total_seconds() + RESOLUTION_SECONDS
        # Bounds that do not meet: one of the clocks was set since, and what was known before is of no use.
        if self._bounds is not None and self._bounds[0] <= most and least <= self._bounds[1]:
            least, most = max(least, self._bounds[0]), min(most, self._bounds[1])
        self._bounds = least, most
        self.offset_seconds = 0.0 if least <= 0.0 <= most else least
