"""What happened, as it happens: typed events from which progress, log lines and counters are all drawn.

The engine emits and prints nothing. Ids and messages in events come from outside: whoever shows them escapes them.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum

from batch_cancel.core.errors import ErrorKind
from batch_cancel.core.outcome import Outcome
from batch_cancel.core.task_run import Target, TaskRunKey, Transform


class Phase(StrEnum):
    """Where a sweep is. With discovery, cancel and verify begin while discover goes on."""

    CONNECT = "connect"
    DISCOVER = "discover"
    CANCEL = "cancel"
    VERIFY = "verify"
    REPORT = "report"


@dataclass(frozen=True, slots=True)
class SweepBegan:
    """A sweep's record stands in a run directory: from here on it can be resumed."""

    sweep_id: str
    directory: str


@dataclass(frozen=True, slots=True)
class Resumed:
    """A sweep goes on from a ledger in which so many runs stand.

    Attributes:
        runs: all of them.
        settled: had their verdict before, those that a rule left alone not counted.
        excluded: left alone by a rule.
        to_read: asked for before; their end is still to be seen.
        to_ask: no request for them is over.
        in_doubt: those of ``to_ask`` whose request may have been sent all the same: they are read back first.
    """

    runs: int
    settled: int
    excluded: int
    to_read: int
    to_ask: int
    in_doubt: int = 0


@dataclass(frozen=True, slots=True)
class PhaseBegan:
    """A phase began; ``total`` is the number of things that it has to do where that is known."""

    phase: Phase
    total: int | None = None


@dataclass(frozen=True, slots=True)
class PhaseEnded:
    """A phase is over; that of cancelling as soon as every request has been made and no more can come."""

    phase: Phase


@dataclass(frozen=True, slots=True)
class TargetOpened:
    """A target answered; its account is known if it ever will be."""

    target: Target


@dataclass(frozen=True, slots=True)
class TargetIdentified:
    """Whose account a target is has been found out; it is the same target as before, by another name."""

    target: Target


@dataclass(frozen=True, slots=True)
class TargetFailed:
    """A target is in trouble: what was left there stays undone."""

    target: Target
    code: str
    message: str


@dataclass(frozen=True, slots=True)
class TargetGivenUp:
    """No more is sent to a target while the sweep goes on elsewhere.

    Attributes:
        unasked: runs there that will not be asked for.
        unsettled: runs there that were asked for, and will not be read again.
    """

    target: Target
    unasked: int
    unsettled: int


@dataclass(frozen=True, slots=True)
class TargetRecovered:
    """``--until-clear``: a target that was in trouble has been listed to its end after all."""

    target: Target


@dataclass(frozen=True, slots=True)
class PlaceFailed:
    """A unit, an account or a profile that was asked for did not become a target: what runs there stays undone."""

    place: str
    code: str
    message: str


@dataclass(frozen=True, slots=True)
class TransformsFound:
    """A page of transforms was listed: ``count`` more to look into."""

    target: Target
    count: int


@dataclass(frozen=True, slots=True)
class TransformsDescribed:
    """Names and capacity of some transforms are known."""

    target: Target
    transforms: Sequence[Transform]


@dataclass(frozen=True, slots=True)
class RunsFound:
    """Active runs have come into the ledger: ``to_cancel`` of them to be cancelled, ``excluded`` left alone.

    Those that an earlier listing has found do not count again, unless they have to be asked for once more: of these
    ``restarted`` have started again before their end was seen, and will have one verdict for both requests. Those that
    are left alone no longer are taken from ``excluded``.
    """

    target: Target
    to_cancel: int
    excluded: int
    restarted: int = 0


@dataclass(frozen=True, slots=True)
class ToAsk:
    """Cancelling begins at a target with so many runs of it to ask for; those that are found later come on top."""

    target: Target
    runs: int


@dataclass(frozen=True, slots=True)
class TransformListed:
    """A transform's active runs are all known: ``to_cancel`` of them to be cancelled, ``excluded`` left alone."""

    target: Target
    transform_id: str
    to_cancel: int
    excluded: int


@dataclass(frozen=True, slots=True)
class ManifestRead:
    """So many rows of the manifest stand in the ledger by now."""

    rows: int


@dataclass(frozen=True, slots=True)
class CallAnswered:
    """One wire call ended: ``kind`` and ``code`` are None for success. ``seconds`` is the round trip."""

    target: Target
    operation: str
    kind: ErrorKind | None
    seconds: float
    code: str | None = None


@dataclass(frozen=True, slots=True)
class Retrying:
    """A call will be tried again after ``delay_seconds``."""

    target: Target
    operation: str
    code: str
    delay_seconds: float


@dataclass(frozen=True, slots=True)
class RateChanged:
    """The limiter of one operation moved; ``limit_found`` once the service has been seen to have one."""

    target: Target
    operation: str
    rps: float
    limit_found: bool


@dataclass(frozen=True, slots=True)
class Asked:
    """The requests for a run are over, whatever was answered: what becomes of it is read, or known already."""

    target: Target
    key: TaskRunKey


@dataclass(frozen=True, slots=True)
class Accepted:
    """Glue accepted a cancel request (or was seen to have); its end is yet to be seen."""

    target: Target
    key: TaskRunKey


@dataclass(frozen=True, slots=True)
class OutcomeReached:
    """A run has its verdict.

    Attributes:
        used_seconds: how long a run that was stopped had used its capacity by then, as far as that is known.
    """

    target: Target
    key: TaskRunKey
    outcome: Outcome
    code: str | None = None
    used_seconds: float | None = None


@dataclass(frozen=True, slots=True)
class Awaited:
    """Runs of one transform that had not ended when they were last read, and are read again; ``runs`` 0: none is left.

    Attributes:
        stopping: how many of them were STOPPING.
        longest_seconds: how long the first of them has been waited for.
        left_seconds: when the wait for the last of them is given up.
    """

    target: Target
    transform_id: str
    runs: int
    stopping: int = 0
    longest_seconds: float = 0.0
    left_seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class SweepStarted:
    """``--until-clear``: sweep number ``number`` begins."""

    number: int


@dataclass(frozen=True, slots=True)
class SweepListed:
    """``--until-clear``: sweep number ``number`` has listed everything."""

    number: int


@dataclass(frozen=True, slots=True)
class Stopping:
    """No more is sent; calls in flight are let end. ``cause`` as in the report's stop_cause."""

    cause: str


@dataclass(frozen=True, slots=True)
class Warned:
    """Something that the user should know and that changes no outcome."""

    message: str


Event = (
    SweepBegan
    | Resumed
    | PhaseBegan
    | PhaseEnded
    | TargetOpened
    | TargetIdentified
    | TargetFailed
    | TargetGivenUp
    | TargetRecovered
    | PlaceFailed
    | TransformsFound
    | TransformsDescribed
    | RunsFound
    | ToAsk
    | TransformListed
    | ManifestRead
    | CallAnswered
    | Retrying
    | RateChanged
    | Asked
    | Accepted
    | OutcomeReached
    | Awaited
    | SweepStarted
    | SweepListed
    | Stopping
    | Warned
)

OnEvent = Callable[[Event], None]
