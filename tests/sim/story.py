"""What happened in one history, told by nobody with a stake in it: the wire, the world, and the files left behind."""

import hashlib
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from batch_cancel.core.events import Event
from batch_cancel.core.outcome import Outcome
from batch_cancel.ledger.reader import RunRow, TargetRow
from batch_cancel.simulator.fleet import Run
from batch_cancel.simulator.world import World
from batch_cancel.stop import StopCause

CANCEL = "CancelMLTaskRun"
READ_RUN = "GetMLTaskRun"
LIST_RUNS = "GetMLTaskRuns"

MISSING = "missing"
AMBIGUOUS = "ambiguous"
CUT = "cut"
NOT_SENT = "not_sent"
ACCEPTED = "accepted"


class Key(NamedTuple):
    """One task run anywhere."""

    account_id: str
    region: str
    transform_id: str
    task_run_id: str


@dataclass(slots=True, eq=False)
class Wire:
    """One wire call. Times are the loop's; None for what did not come to pass.

    Attributes:
        began: when the client was asked for it; ``left`` when its request left (AssumeRole may lie between).
        arrived, ended: when the world had it, and when the client was done with it.
        result: what the world made of it: ``ok``, an error code, or the fault.
        carried_out: the world did what was asked, whatever it then said.
        took: it made an active run stop (or was a further request for one that was stopping).
        heard: what a right-minded client makes of the answer: ``accepted`` (or ``ok``), ``ambiguous``, ``not_sent``,
            an ErrorKind's value, ``cut`` where its wait was ended; None where nobody lived to hear it.
        told: the status of each run of which the answer told; :data:`MISSING` for one that is not there.
    """

    number: int
    life: int
    operation: str
    account_id: str
    region: str
    transform_id: str | None
    task_run_id: str | None
    status: str | None
    token: str | None
    began: float
    left: float
    arrived: float | None = None
    ended: float | None = None
    result: str | None = None
    carried_out: bool = False
    took: bool = False
    heard: str | None = None
    told: dict[str, str] = field(default_factory=dict)
    last_page: bool = False

    @property
    def key(self) -> Key:
        assert self.transform_id is not None
        assert self.task_run_id is not None
        return Key(self.account_id, self.region, self.transform_id, self.task_run_id)

    @property
    def may_have_been_carried_out(self) -> bool:
        """As far as the client can know."""
        return self.heard in (None, AMBIGUOUS, CUT, ACCEPTED)

    def __str__(self) -> str:
        what = " ".join(str(each)[:12] for each in (self.transform_id, self.task_run_id, self.status) if each)
        times = "/".join("-" if each is None else f"{each:.3f}" for each in (self.left, self.arrived, self.ended))
        took = " TOOK" if self.took else ""
        told = ""
        if self.told:
            told = " told " + ", ".join(f"{rid[:12]}={status}" for rid, status in list(self.told.items())[:6])
        return (
            f"#{self.number} life {self.life} {self.account_id[:4]}/{self.region} {self.operation} {what} {times}"
            f" {self.result} -> {self.heard}{took}{told}"
        )


@dataclass(slots=True)
class Recorded:
    """The ledger as it is on disk when a life is over.

    Attributes:
        attempts: the classes of the attempts of each run, by its row's id, in order of their numbers.
        states: by the run's row id.
    """

    facts: dict[str, Any]
    targets: dict[int, TargetRow]
    runs: dict[Key, RunRow]
    doubles: list[Key]
    states: dict[int, str]
    returns: dict[int, int]
    attempts: dict[int, list[str | None]]
    document: dict[str, Any]


@dataclass(slots=True)
class Life:
    """One process: from its start to its end or its death.

    Attributes:
        stop_asked_at: when an interruption was asked for.
        stopping: each stop that the sweep told of, and when.
        ending: ``result``, an error's class, or ``died``.
        recorded: None where no ledger could be read.
    """

    number: int
    began: float
    resumed: bool
    ended: float = 0.0
    ending: str = ""
    says: str | None = None
    exit_code: int | None = None
    stop_cause: StopCause | None = None
    asked: bool | None = None
    stop_asked_at: float | None = None
    stopping: list[tuple[float, str]] = field(default_factory=list)
    verdicts: list[tuple[float, Key, Outcome]] = field(default_factory=list)
    sweeps: int = 0
    steps: int = 0
    commits: int = 0
    ledger_failed: bool = False
    left_over: int = 0
    recorded: Recorded | None = None

    @property
    def died(self) -> bool:
        return self.ending == "died"

    @property
    def natural(self) -> bool:
        """It came to a Result, whichever."""
        return self.ending == "result"


class Trace:
    """A digest of everything that was seen, in its order: two runs of one seed have the same."""

    def __init__(self) -> None:
        self._hash = hashlib.blake2b(digest_size=16)

    def add(self, *what: object) -> None:
        """One more thing."""
        self._hash.update(repr(what).encode("utf-8", "backslashreplace"))

    @property
    def digest(self) -> str:
        """Of all so far."""
        return self._hash.hexdigest()


@dataclass(slots=True)
class Story:
    """All of one history."""

    world: World
    skewed_seconds: float
    wires: list[Wire] = field(default_factory=list)
    lives: list[Life] = field(default_factory=list)
    faults: Counter[str] = field(default_factory=Counter)
    violations: list[str] = field(default_factory=list)
    trace: Trace = field(default_factory=Trace)
    by_run: dict[Key, list[Wire]] = field(default_factory=lambda: defaultdict(list))
    """Cancel calls."""
    reads: dict[Key, list[tuple[Wire, str]]] = field(default_factory=lambda: defaultdict(list))
    """Readings that reached their client: the call, and the status that it told."""
    expected: dict[Key, bool] = field(default_factory=dict)
    """What a manifest names."""
    rivals: set[Key] = field(default_factory=set)
    """Runs that somebody else cancelled too."""

    def violated(self, rule: str, *about: object) -> None:
        """Something that must not be."""
        self.violations.append(f"{rule}: " + "; ".join(str(each) for each in about))

    def event(self, life: Life, now: float, event: Event) -> None:
        """Take in what the sweep told."""
        self.trace.add(now, type(event).__name__)

    def run(self, key: Key) -> Run | None:
        """The truth about one run."""
        return self.world.run(*key)
