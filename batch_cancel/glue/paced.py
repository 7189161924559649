"""One target's way to the service: every call in its turn, counted, and tried again by the error table.

Retries live here and nowhere else. Within a call the order is: the credentials' gate, a place in flight, the limiter's
turn, the wire under a time-out. What the service says goes back to the limiter and to the counts.
"""

import asyncio
import random
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Generic, TypeVar

from tenacity import AsyncRetrying, RetryCallState

from batch_cancel.core.errors import AccessStopped, CallFailed, ErrorKind
from batch_cancel.core.events import CallAnswered, OnEvent, RateChanged, Retrying
from batch_cancel.core.rate import Feedback
from batch_cancel.core.retry_budget import RetryBudget
from batch_cancel.core.task_run import Target
from batch_cancel.glue.api import GlueReader
from batch_cancel.glue.pace import InFlight, Pacer, Pacers, Priority
from batch_cancel.stop import Stop, StopCause, Stopped

ATTEMPT_SECONDS = 45.0
"""The whole of one attempt, connecting and reading included (GLUE.md, client library pitfalls)."""
THROTTLE_BACKOFF_SECONDS = (0.25, 2.0)
"""Short, because the limiter sets the pace of what comes back too; the grid (tests/bench) shows no more throttles by it
than by 1 to 20 seconds, and no long tail at the end of a job."""
TRANSIENT_BACKOFF_SECONDS = (0.2, 20.0)
LINE_LOOK_SECONDS = 0.25
"""How often a retry that waits for the budget looks whether successes have moved its line on."""
NO_PROGRESS_SECONDS = 120.0
"""A target that has let nothing through for so long is given up."""
MAX_REFRESHES = 2
"""Credentials are read anew so often before what refused them takes them; then the target stops."""

T = TypeVar("T")
G = TypeVar("G", bound=GlueReader)
"""A reader in a dry run, the whole GlueApi otherwise: what the connection gives is what its user can call."""


@dataclass(slots=True)
class Tally:
    """Calls of one operation since the counts were last written."""

    calls: int = 0
    throttled: int = 0
    failed: int = 0
    retries: int = 0


class Connection(Generic[G]):
    """A client that is there while somebody uses it, and can be made anew with fresh credentials under their hands.

    Use it as a context manager, as many at once as there are; the first opens it and the last closes it.

    Args:
        open_client: makes a client; called again after a refresh.
        forget: drops cached credentials before that.
    """

    def __init__(self, open_client: Callable[[], AbstractAsyncContextManager[G]], forget: Callable[[], None]) -> None:
        self._open_client = open_client
        self._forget = forget
        self._clients = AsyncExitStack()
        self._users = 0
        self._one_at_a_time = asyncio.Lock()
        self.client: G
        self.generation = 0

    async def __aenter__(self) -> None:
        """Open the client, if nobody else has it open.

        Raises:
            CallFailed: it cannot be made.
        """
        async with self._one_at_a_time:
            if not self._users:
                self.client = await self._clients.enter_async_context(self._open_client())
            self._users += 1

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close it, if nobody else uses it."""
        self._users -= 1
        async with self._one_at_a_time:
            if not self._users:
                await self._clients.aclose()

    async def renew(self) -> None:
        """Make a client from credentials that are read anew. Calls through the old one may end.

        Raises:
            CallFailed: it cannot be made.
        """
        async with self._one_at_a_time:
            self._forget()
            self.client = await self._clients.enter_async_context(self._open_client())
            self.generation += 1


@dataclass(slots=True)
class Trouble:
    """What has gone wrong at a target since its last success.

    Attributes:
        refusing: operations that have refused the credentials and not taken any since. What others take is no success
            of a refresh: with readings in between, a request that is refused for ever would be made for ever.
    """

    since: float | None = None
    refreshes: int = 0
    refusing: set[str] = field(default_factory=set)


class Line(Generic[G]):
    """One target's way to the service, shared by discovery, cancel and verify.

    Args:
        max_attempts: of one call, throttles not counted.
        stop: the target's; a call that has not left when it is requested raises Stopped.
        on_trouble: called once, with what stopped the target, before everybody at it is stopped.

    Attributes:
        let_in: some call was answered by somebody who had taken the credentials, AccessDenied included.
    """

    def __init__(
        self,
        target: Target,
        connection: Connection[G],
        *,
        pacers: Pacers,
        in_flight: InFlight,
        max_attempts: int,
        stop: Stop,
        on_event: OnEvent,
        on_trouble: Callable[[str, str, ErrorKind | None], None],
        jitter: random.Random,
    ) -> None:
        self.target = target
        self.connection = connection
        self.stop = stop
        self.on_event = on_event
        self.max_attempts = max_attempts
        self.jitter = jitter
        self.tallies: dict[str, Tally] = {}
        self.budget = RetryBudget()
        self._pacers = pacers
        self._in_flight = in_flight
        self._on_trouble = on_trouble
        self._lanes: dict[str, Pacer] = {}
        self._told_rps: dict[str, float] = {}
        self._trouble = Trouble()
        self._let_through: dict[str, float] = {}
        self._renewing: asyncio.Lock = asyncio.Lock()
        self.let_in = False

    def pacer(self, operation: str) -> Pacer:
        """The limiter of one operation here."""
        pacer = self._lanes.get(operation)
        if pacer is None:
            pacer = self._lanes[operation] = self._pacers.pacer(self.target, operation)
        return pacer

    async def call(self, operation: str, request: Callable[[G], Awaitable[T]]) -> T:
        """A read call, tried again as the error table has it.

        Raises:
            CallFailed: it was refused, or its attempts are used up.
            Stopped: a stop was asked for before it could leave.
        """
        return await self.tries(operation).run(lambda: self.attempt(operation, request))

    def tries(self, operation: str, stop: Stop | None = None, *, alone: bool = False) -> "Tries":
        """The retries of one call.

        Args:
            stop: where something nearer than the target's stop ends them too.
            alone: that other operations are let through is no reason to go on: what the target is there for is this.
        """
        return Tries(self, operation, stop or self.stop, alone)

    async def attempt(
        self,
        operation: str,
        request: Callable[[G], Awaitable[T]],
        *,
        priority: Priority = Priority.READ,
        stop: Stop | None = None,
    ) -> T:
        """Exactly one wire call, in its turn; for who keeps a record of each.

        Raises:
            CallFailed: it did not succeed.
            Stopped: a stop was asked for before it left.
        """
        stop = stop or self.stop
        pacer = self.pacer(operation)
        loop = asyncio.get_running_loop()
        with stop.interruptible():
            place = await self._in_flight.enter(pacer, priority)
        try:
            with stop.interruptible():
                sent_at = await pacer.turn()
            place.sent(sent_at)
            try:
                async with asyncio.timeout(ATTEMPT_SECONDS):
                    answer = await request(self.connection.client)
            except TimeoutError:
                message = f"no answer within {ATTEMPT_SECONDS:g} seconds"
                failure = CallFailed(ErrorKind.TRANSIENT, operation, "AttemptTimeout", message)
                self._heard(operation, pacer, sent_at, loop.time(), failure)
                raise failure from None
            except CallFailed as failure:
                self._heard(operation, pacer, sent_at, loop.time(), failure)
                raise
            self._heard(operation, pacer, sent_at, loop.time(), None)
            return answer
        finally:
            place.leave()

    def _heard(self, operation: str, pacer: Pacer, sent_at: float, now: float, failure: CallFailed | None) -> None:
        kind = failure.kind if failure else None
        tally = self.tallies.get(operation)
        if tally is None:
            tally = self.tallies[operation] = Tally()
        # A call that never left is none: who could not connect, or has no credentials, or no role, has not called.
        left = failure is None or failure.reached
        tally.calls += left
        if kind is ErrorKind.THROTTLE:
            tally.throttled += left
            feedback = Feedback.THROTTLED
        elif kind is ErrorKind.TRANSIENT or kind is ErrorKind.CREDENTIALS:
            tally.failed += left
            feedback = Feedback.SILENT
        else:
            tally.failed += left and kind is not None
            feedback = Feedback.ACCEPTED
            self.let_in = True
            self._let_through[operation] = now
            self._trouble.since = None
            self._trouble.refusing.discard(operation)
            if not self._trouble.refusing:
                self._trouble.refreshes = 0
            self.budget.succeeded()
        if kind is ErrorKind.CREDENTIALS:
            self._trouble.refusing.add(operation)
        if feedback is not Feedback.ACCEPTED and self._trouble.since is None:
            self._trouble.since = now
        pacer.answered(
            sent_at=sent_at, feedback=feedback, retry_after_seconds=failure.retry_after_seconds if failure else None
        )
        self.on_event(CallAnswered(self.target, operation, kind, now - sent_at, failure.code if failure else None))
        told = self._told_rps.get(operation, 0.0)
        if abs(pacer.rps - told) > 0.05 * told:
            self._told_rps[operation] = pacer.rps
            self.on_event(RateChanged(self.target, operation, pacer.rps, pacer.limit_found))

    def check_progress(self, now: float) -> None:
        """Stop the target if it has let nothing through for too long."""
        since = self._trouble.since
        if since is not None and now - since > NO_PROGRESS_SECONDS:
            self._no_progress("nothing")

    def check_let_through(self, operation: str, since: float, now: float) -> None:
        """The same where it has let no call of this operation through; ``since``: when the one in question failed."""
        if now - max(since, self._let_through.get(operation, since)) > NO_PROGRESS_SECONDS:
            self._no_progress(f"no {operation}")

    def _no_progress(self, what: str) -> None:
        message = f"{what} was accepted for {NO_PROGRESS_SECONDS:g} seconds"
        self.give_up(StopCause.NO_PROGRESS, "NoProgress", message)

    def give_up(self, cause: StopCause, code: str, message: str) -> None:
        """Stop this target alone, and say why."""
        if self.stop.cause is None:
            self._on_trouble(code, message, ErrorKind.CREDENTIALS if cause is StopCause.CREDENTIALS else None)
            self.stop.request(cause, AccessStopped(f"{self.target}: {code}: {message}"))

    async def renew(self, generation: int, failure: CallFailed) -> None:
        """Fresh credentials, once for all who wait; the target stops when they do not help.

        Raises:
            Stopped: the target has been given up.
        """
        async with self._renewing:
            self.stop.check()
            if self.connection.generation > generation:
                return
            if self._trouble.refreshes >= MAX_REFRESHES:
                self.give_up(StopCause.CREDENTIALS, failure.code, failure.message)
                raise Stopped(StopCause.CREDENTIALS)
            self._trouble.refreshes += 1
            try:
                await self.connection.renew()
            except CallFailed as error:
                self.give_up(StopCause.CREDENTIALS, error.code, error.message)
                raise Stopped(StopCause.CREDENTIALS) from error


@dataclass(slots=True)
class Tries:
    """One call's way through the error table; tenacity keeps the loop, this decides.

    A throttle is no failed attempt and neither is a refusal of the credentials: both may come as often as the target's
    own limits on them allow.
    """

    line: "Line[Any]"
    operation: str
    stop: Stop
    alone: bool
    throttles: int = 0
    failures: int = 0
    generation: int = 0
    last: CallFailed | None = None
    least_seconds: float = 0.0
    place: float = 0.0
    failing_since: float | None = None

    async def run(self, attempt: Callable[[], Awaitable[T]]) -> T:
        """Call until it succeeds, is refused for good, or the attempts are used up.

        The first attempt is made without tenacity, which costs as much as all else here: most calls need no second.
        """
        self.generation = self.line.connection.generation
        try:
            return await attempt()
        except CallFailed as failure:
            first: CallFailed | None = failure

        async def again() -> T:
            nonlocal first
            if first is not None:
                failure, first = first, None
                raise failure
            self.generation = self.line.connection.generation
            return await attempt()

        retrying = AsyncRetrying(
            retry=self._again, wait=self._wait, stop=self._used_up, sleep=self._pause, reraise=True
        )
        return await retrying(again)

    def _again(self, state: RetryCallState) -> bool:
        error = state.outcome.exception() if state.outcome else None
        if not isinstance(error, CallFailed):
            return False
        self.last = error
        match error.kind:
            case ErrorKind.THROTTLE:
                self.throttles += 1
            case ErrorKind.TRANSIENT:
                self.failures += 1
            case ErrorKind.CREDENTIALS:
                pass
            case ErrorKind.ACCESS | ErrorKind.NOT_FOUND | ErrorKind.INVALID | ErrorKind.OTHER:
                return False
        return True

    def _used_up(self, state: RetryCallState) -> bool:
        return self.failures >= self.line.max_attempts

    def _wait(self, state: RetryCallState) -> float:
        assert self.last is not None  # noqa: S101  # _again ran before
        if self.last.kind is ErrorKind.CREDENTIALS:
            return 0.0
        throttled = self.last.kind is ErrorKind.THROTTLE
        least, most = THROTTLE_BACKOFF_SECONDS if throttled else TRANSIENT_BACKOFF_SECONDS
        ceiling = min(most, least * 2.0 ** min(30, (self.throttles if throttled else self.failures) - 1))
        delay = self.line.jitter.uniform(0.0, ceiling)
        self.least_seconds = max(delay, self.last.retry_after_seconds or 0.0)
        if throttled:
            return self.least_seconds
        now = asyncio.get_running_loop().time()
        self.place = self.line.budget.withdraw(now)
        return max(self.least_seconds, self.line.budget.wait_seconds(self.place, now))

    async def _pause(self, seconds: float) -> None:
        line, failure = self.line, self.last
        assert failure is not None  # noqa: S101  # _again ran before
        now = asyncio.get_running_loop().time()
        line.check_progress(now)
        if self.alone:
            self.failing_since = now if self.failing_since is None else self.failing_since
            line.check_let_through(self.operation, self.failing_since, now)
        self.stop.check()
        tally = line.tallies.get(self.operation)
        if tally is not None:
            tally.retries += 1
        line.on_event(Retrying(line.target, self.operation, failure.code, seconds))
        if failure.kind is ErrorKind.CREDENTIALS:
            await line.renew(self.generation, failure)
            return
        with self.stop.interruptible():
            await asyncio.sleep(self.least_seconds)
            if failure.kind is ErrorKind.TRANSIENT:
                await self._turn_to_retry()

    async def _turn_to_retry(self) -> None:
        """Wait in the budget's line, which moves faster as soon as calls succeed."""
        budget, loop = self.line.budget, asyncio.get_running_loop()
        while left := budget.wait_seconds(self.place, loop.time()):  # noqa: ASYNC110  # time moves it, too
            await asyncio.sleep(min(max(left, 0.001), LINE_LOOK_SECONDS))  # less may not be seen on a clock
