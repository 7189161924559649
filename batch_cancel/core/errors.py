"""Everything that can go wrong, drawn once.

::

    BatchCancelError                 exit code
     +-- UsageError                  2   the user's words are off; nothing was called
     |    +-- InputError             2   a file's are: a list of Problems, each with its place
     |    +-- LedgerError            2   a run directory that cannot be used, and why
     +-- GuardrailRefused            3   a cap, an account list or a plan said no; nothing was cancelled
     +-- AccessStopped               4   no credentials, or none that are let in
     +-- RecordLost                  1   the ledger or a report could not be written
     +-- SweepInUse                  1   another invocation of the function is at the same sweep; nothing was called
    CallFailed                       -   one call to the service failed; the engine decides what it means
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import Enum, StrEnum


class BatchCancelError(Exception):
    """A failure with a sentence for the user and an exit code for the scheduler."""

    exit_code = 1


class UsageError(BatchCancelError):
    """What was asked for cannot be done as it was asked. No call was made."""

    exit_code = 2


@dataclass(frozen=True, slots=True)
class Problem:
    """One fault in a file: where it is, what it is, and how to mend it.

    Attributes:
        line, column: counted from 1; None where the fault has no such place.
        text: the offending text, cut to a length that can be shown.
        further: other faults of the same row, each with its own place.
    """

    source: str
    message: str
    line: int | None = None
    column: int | None = None
    text: str | None = None
    further: tuple["Problem", ...] = ()

    def __str__(self) -> str:
        place = ":".join(str(part) for part in (self.source, self.line, self.column) if part is not None)
        return "\n".join([f"{place}: {self.message}", *map(str, self.further)])

    @property
    def apart(self) -> "tuple[Problem, ...]":
        """The row's faults, each by itself."""
        return replace(self, further=()), *self.further

    @property
    def in_its_line(self) -> str:
        """The row's faults as they are told beside its line: each with the column, where it has one."""
        first = self.message if self.column is None else f"column {self.column}: {self.message}"
        others = [
            other.in_its_line if other.line == self.line else f"line {other.line}, {other.in_its_line}"
            for other in self.further
        ]
        return "; ".join([first, *others])


class InputError(UsageError):
    """A sweep file, manifest or plan is wrong, in one place or in many."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        super().__init__("\n".join(str(problem) for problem in problems))
        self.problems = tuple(problems)


class LedgerError(UsageError):
    """A run directory that cannot be used: in use, damaged, of a newer version, or not empty."""


class Guardrail(StrEnum):
    """What can refuse a sweep as a whole."""

    MAX_RUNS = "max_runs"
    MAX_PERCENT = "max_percent"
    CONFIRM_COUNT = "confirm_count"
    ALLOW_ACCOUNTS = "allow_accounts"
    MEANT_ACCOUNT = "meant_account"
    """The account that a target, a manifest or a plan names."""
    PLAN = "plan"
    """It is too old, was edited or was applied before."""
    QUESTION = "question"
    """Somebody was asked, and said no."""


class GuardrailRefused(BatchCancelError):
    """A guardrail said no, and so nothing at all was cancelled.

    Attributes:
        by: which one.
    """

    exit_code = 3

    def __init__(self, message: str, by: Guardrail) -> None:
        super().__init__(message)
        self.by = by


class AccessStopped(BatchCancelError):
    """Credentials are missing, expired beyond refresh, or not allowed in."""

    exit_code = 4


class RecordLost(BatchCancelError):
    """The ledger or a report cannot be written: full disk, read-only directory. Without a record nothing is sent."""


class SweepInUse(BatchCancelError):
    """Another invocation of the function is at the same sweep. It may be tried again later; nothing was called."""


class ErrorKind(Enum):
    """What a failed call means for what to do next (GLUE.md's error table)."""

    THROTTLE = "throttle"
    """Slow down and try again; no attempt is used."""
    TRANSIENT = "transient"
    """Try again; unless it was never sent, it may have been applied."""
    CREDENTIALS = "credentials"
    """Pause the target and refresh."""
    ACCESS = "access"
    """No retry; permission is missing."""
    NOT_FOUND = "not_found"
    """No retry; re-read before the verdict."""
    INVALID = "invalid"
    """No retry; re-read to tell an ended run from a bad request."""
    OTHER = "other"
    """A definite refusal with a code that no table knows; no retry, re-read."""

    @property
    def at_the_door(self) -> "ErrorKind":
        """What it means where credentials were asked for: whatever does not pass with time does not let us in."""
        return self if self in (ErrorKind.THROTTLE, ErrorKind.TRANSIENT, ErrorKind.CREDENTIALS) else ErrorKind.ACCESS


REGION_NOT_ENABLED = "the region is not enabled for this account"
"""How a target's trouble is told, before the service's words: it refuses credentials there that it takes elsewhere."""

ENTERING = "AssumeRole"
"""The operation that enters an account; what kept a target closed begins with its name (``OPERATION: words``)."""


class CallFailed(Exception):
    """One call to the service that did not succeed.

    Attributes:
        operation: Glue's name, for example ``CancelMLTaskRun``.
        code: the service's error code, or the class of the transport failure.
        message: the service's words, untrusted text.
        reached: False only where the request certainly never left (connection refused, no credentials).
        retry_after_seconds: what the service asked for (Retry-After, x-amz-retry-after), if it did.
    """

    def __init__(
        self,
        kind: ErrorKind,
        operation: str,
        code: str,
        message: str = "",
        *,
        http_status: int | None = None,
        request_id: str | None = None,
        reached: bool = True,
        retry_after_seconds: float | None = None,
    ) -> None:
        super().__init__(f"{operation}: {code}: {message}")
        self.kind = kind
        self.operation = operation
        self.code = code
        self.message = message
        self.http_status = http_status
        self.request_id = request_id
        self.reached = reached
        self.retry_after_seconds = retry_after_seconds

    @property
    def ambiguous(self) -> bool:
        """Whether the service may have done what was asked although it did not say so."""
        return self.kind is ErrorKind.TRANSIENT and self.reached

    @property
    def kept_out(self) -> bool:
        """Whether whoever calls was refused, and not this call: by the credentials, or the role that leads to them."""
        return self.kind is ErrorKind.CREDENTIALS or (self.kind is ErrorKind.ACCESS and not self.reached)
