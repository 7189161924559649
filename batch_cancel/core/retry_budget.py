"""How fast transient failures are answered with retries. Time is an argument here, too."""


class RetryBudget:
    """How fast a target may answer transient failures with retries: an outage must not be hammered.

    The numbers are those of the AWS SDKs' standard retry quota: 500 tokens, 14 a retry after a transient failure. A
    success gives back seven where the SDKs give one, so that a service that fails three times in ten is still asked as
    fast as its limit allows. Where the SDKs give up without tokens, here a retry waits for its turn in a line that
    moves at 20 a second, and faster as soon as calls succeed: nothing is lost by an outage, and little time after it.
    """

    FULL = 500.0
    RETRY_COSTS = 14.0
    SUCCESS_PAYS = 7.0
    RETRIES_PER_SECOND = 20.0

    PER_SECOND = RETRY_COSTS * RETRIES_PER_SECOND

    def __init__(self) -> None:
        self._tokens = self.FULL
        self._spent = 0.0
        self._at: float | None = None

    def withdraw(self, now: float) -> float:
        """Pay for one retry; returns its place in the line, for :meth:`wait_seconds`.

        Args:
            now: seconds on any one monotonic clock.
        """
        self._earn(now)
        self._tokens -= self.RETRY_COSTS
        self._spent += self.RETRY_COSTS
        return self._spent

    def wait_seconds(self, place: float, now: float) -> float:
        """How long the retry at this place has to wait from now on if nothing succeeds; 0 when it is its turn."""
        self._earn(now)
        missing = place - self._spent - self._tokens  # what came behind it in the line has not to be paid for
        return max(0.0, missing / self.PER_SECOND)

    def succeeded(self) -> None:
        """A call succeeded."""
        self._tokens = min(self.FULL, self._tokens + self.SUCCESS_PAYS)

    def _earn(self, now: float) -> None:
        if self._at is not None:
            self._tokens = min(self.FULL, self._tokens + self.PER_SECOND * (now - self._at))
        self._at = now
