"""Lives through a history: one process after the other at work on one ledger, in a world that outlives them all."""

import asyncio
import contextlib
import gc
import itertools
import json
import os
import random
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from io import StringIO
from pathlib import Path
from typing import Any

from batch_cancel.core.error_codes import kind_of
from batch_cancel.core.errors import BatchCancelError, LedgerError
from batch_cancel.core.events import Event, OutcomeReached, Stopping, SweepStarted
from batch_cancel.core.task_run import Access, Target
from batch_cancel.glue.pace import Pacers
from batch_cancel.ledger import LEDGER_NAME, schema
from batch_cancel.ledger.ledger import Ledger
from batch_cancel.ledger.reader import LedgerReader
from batch_cancel.report.document import Document
from batch_cancel.settings import Consent, ManifestSource, Settings
from batch_cancel.simulator.memory import READ_SECONDS, SimulatedService, _fields
from batch_cancel.simulator.requests import Parameters
from batch_cancel.simulator.settings import FaultKind
from batch_cancel.simulator.world import Answer, Delivery, World
from batch_cancel.stop import Stop, StopCause
from batch_cancel.sweep import Sweep
from tests.sim.histories import HOME, Blow, History, Manifest, Trouble, manifest_path, write_manifest
from tests.sim.mortal import Died, Endless, MortalLoop
from tests.sim.story import (
    ACCEPTED,
    AMBIGUOUS,
    CANCEL,
    CUT,
    LIST_RUNS,
    MISSING,
    NOT_SENT,
    READ_RUN,
    Key,
    Life,
    Recorded,
    Story,
    Wire,
)

EPOCH = 1_790_000_000.0
LONGEST_LIFE_SECONDS = 6 * 3600.0
"""No history holds anything that takes so long."""

_began: ContextVar[float] = ContextVar("began")


@dataclass(slots=True)
class Moment:
    """The world's time, in seconds since its beginning; the loop of the living process drives it."""

    seconds: float = 0.0
    loop: MortalLoop | None = None

    def __call__(self) -> float:
        return self.seconds if self.loop is None else self.loop.time()


@dataclass(slots=True)
class Flight:
    """A request on its way."""

    wire: Wire
    due: float
    key_id: str
    parameters: Parameters


class WatchedService(SimulatedService):
    """The simulated service, with everything that passes over its wire written down."""

    def __init__(self, world: World, story: Story, life: Life, history: History, on_blow: "Blows") -> None:
        super().__init__(
            world,
            latency=history.draw_latency(),
            region=world.settings.fleet.regions[0],
            seed=history.seed * 100 + life.number,
        )
        self._fresh = 100 * life.number  # another process, other keys
        self._story = story
        self._life = life
        self._blows = on_blow
        self.flights: dict[int, Flight] = {}
        self.intents: Callable[[str, str, str], tuple[int, int]] | None = None

    async def call(self, access: Access, region: str, operation: str, parameters: Parameters) -> dict[str, Any]:
        _began.set(asyncio.get_running_loop().time())
        return await super().call(access, region, operation, parameters)

    async def _send(self, key_id: str, region: str, operation: str, parameters: Parameters) -> dict[str, Any]:
        loop = asyncio.get_running_loop()
        now = loop.time()
        story = self._story
        wire = Wire(
            number=len(story.wires),
            life=self._life.number,
            operation=operation,
            account_id=self.world.sts.account_of(key_id),
            region=region,
            transform_id=parameters.get("TransformId"),
            task_run_id=parameters.get("TaskRunId"),
            status=(parameters.get("Filter") or {}).get("Status"),
            token=parameters.get("NextToken"),
            began=_began.get(),
            left=now,
        )
        story.wires.append(wire)
        if operation == CANCEL:
            story.by_run[wire.key].append(wire)
            self._check_intent(wire)
            self._blows.sent()
        seconds = self.latency(self.random)
        flight = self.flights[wire.number] = Flight(wire, now + seconds / 2, key_id, parameters)
        answer: Answer | None = None
        try:
            await asyncio.sleep(seconds / 2)
            del self.flights[wire.number]
            answer = self.arrive(flight)
            await asyncio.sleep(READ_SECONDS if answer.delivery is Delivery.NEVER else seconds / 2)
        except asyncio.CancelledError:  # its wait was ended; what was sent is not called back by that
            wire.heard, wire.ended = CUT, loop.time()
            if answer is None:
                del self.flights[wire.number]
                if self.random.random() < self.arrives_if_cancelled:
                    loop.call_at(flight.due, self.arrive, flight)
            raise
        self._hear(wire, answer)
        return _fields(operation, answer)

    def arrive(self, flight: Flight) -> Answer:
        """The world has it."""
        wire = flight.wire
        now = self.world._now() - EPOCH
        run = None
        if wire.operation == CANCEL:
            run = self.world.run(*wire.key)
        before = len(run.cancels) if run else 0
        answer = self.world.call(flight.key_id, wire.region, wire.operation, flight.parameters)
        wire.arrived = now
        wire.result = answer.fault.value if answer.fault else answer.refused.code if answer.refused else "ok"
        wire.carried_out = _carried_out(answer, garbage_applies=self.world.settings.behaviour.garbage_applies)
        wire.took = run is not None and len(run.cancels) > before
        if wire.result != "ok":
            self._story.faults[wire.result] += 1
        self._story.trace.add(wire.number, wire.operation, now, wire.result, wire.took)
        if wire.operation == CANCEL:
            self._blows.arrived()
        return answer

    def _hear(self, wire: Wire, answer: Answer) -> None:
        wire.ended = asyncio.get_running_loop().time()
        wire.heard = _heard(wire.operation, answer)
        body = answer.body if answer.delivery is Delivery.WHOLE else None
        if wire.operation == READ_RUN:
            assert wire.task_run_id is not None
            if body and "TaskRunId" in body:
                wire.told = {wire.task_run_id: body["Status"]}
            elif wire.heard == "not_found":
                wire.told = {wire.task_run_id: MISSING}
        elif wire.operation == LIST_RUNS and body and "TaskRuns" in body:
            wire.told = {run["TaskRunId"]: run["Status"] for run in body["TaskRuns"]}
            wire.last_page = "NextToken" not in body
        for task_run_id, status in wire.told.items():
            key = Key(wire.account_id, wire.region, str(wire.transform_id), task_run_id)
            self._story.reads[key].append((wire, status))

    def _check_intent(self, wire: Wire) -> None:
        """Each request that leaves has an intent on disk that is its own."""
        if self.intents is None:
            self._story.violated("a cancel request without a ledger", wire)
            return
        rows, unanswered = self.intents(wire.region, str(wire.transform_id), str(wire.task_run_id))
        sent = len(self._story.by_run[wire.key])
        if not unanswered or rows < sent:
            self._story.violated(
                "a cancel request left before its intent was committed",
                wire,
                f"{rows} intents on disk, {unanswered} of them open; this is request {sent}",
            )


def _carried_out(answer: Answer, *, garbage_applies: bool) -> bool:
    if answer.delivery in (Delivery.REFUSED, Delivery.RESET, Delivery.HTML_503):
        return False
    if answer.fault is FaultKind.HANG or (answer.fault is FaultKind.GARBAGE_200 and not garbage_applies):
        return False
    return answer.refused is None or answer.fault is FaultKind.APPLIED_500


def _heard(operation: str, answer: Answer) -> str:
    """What a right-minded client makes of an answer, by the table of GLUE.md."""
    match answer.delivery:
        case Delivery.REFUSED:
            return NOT_SENT
        case Delivery.WHOLE if answer.refused is not None:
            said = kind_of(answer.refused.code, answer.refused.http_status).value
            return AMBIGUOUS if said == "transient" else said
        case Delivery.WHOLE if answer.body:
            return ACCEPTED
        case Delivery.WHOLE if operation != CANCEL:
            return ACCEPTED
        case _:
            return AMBIGUOUS


class Blows:
    """Strikes the process at the moment that its trouble says."""

    def __init__(self, trouble: Trouble, loop: MortalLoop, life: Life, draw: random.Random) -> None:
        self._trouble = trouble
        self._loop = loop
        self._life = life
        self._draw = draw
        self._sent = self._arrived = 0
        self._connection: sqlite3.Connection | None = None
        if trouble.blow is Blow.STEP:
            loop.die_after(int(trouble.at))
        elif trouble.blow is Blow.TIME:
            loop.call_at(loop.time() + trouble.at, loop.die)

    def sent(self) -> None:
        self._sent += 1
        if self._trouble.blow is Blow.SEND and self._sent == self._trouble.at:
            self._loop.die()

    def arrived(self) -> None:
        self._arrived += 1
        if self._trouble.blow is Blow.ARRIVAL and self._arrived == self._trouble.at:
            self._loop.die()

    async def offload(self, function: Callable[[], None]) -> None:
        """Write, as the disk of this life does."""
        life, trouble = self._life, self._trouble
        life.commits += 1
        now = life.commits == trouble.at
        slow = trouble.slow_disk_seconds
        if slow:
            await asyncio.sleep(self._draw.uniform(0, slow))
        if life.ledger_failed and trouble.blow in (Blow.DISK_FULL, Blow.DISK_FULL_INSIDE):
            raise sqlite3.OperationalError("database or disk is full")
        if now and trouble.blow is Blow.BEFORE_COMMIT:
            await self._die()
        elif now and trouble.blow is Blow.IN_COMMIT:
            await self._die()  # what is not committed is rolled back by whoever opens the file
        elif now and trouble.blow is Blow.DISK_FULL:
            life.ledger_failed = True
            raise sqlite3.OperationalError("database or disk is full")
        elif now and trouble.blow is Blow.DISK_FULL_INSIDE:
            life.ledger_failed = True
            self._without_room(function)
            return
        function()
        if now and trouble.blow is Blow.AFTER_COMMIT:
            await self._die()
        elif now and trouble.blow is Blow.DISK_LIES:
            life.ledger_failed = True
            raise sqlite3.OperationalError("disk I/O error")
        if slow:
            await asyncio.sleep(self._draw.uniform(0, slow))

    def watch(self, connection: sqlite3.Connection) -> None:
        """The writing connection."""
        self._connection = connection

    def _without_room(self, function: Callable[[], None]) -> None:
        """The transaction fails after some of its statements, by SQLite's own hand."""
        assert self._connection is not None
        steps = itertools.count(1)
        last = self._draw.randint(1, 12)
        self._connection.set_progress_handler(lambda: int(next(steps) >= last), 20)
        try:
            function()
        finally:
            self._connection.set_progress_handler(None, 0)

    async def _die(self) -> None:
        self._loop.die()
        await self._loop.create_future()


@dataclass(slots=True)
class _Grave:
    """What a dead process leaves on the wire."""

    flights: list[Flight] = field(default_factory=list)
    service: WatchedService | None = None


def live_through(history: History, directory: Path) -> Story:
    """All of a history's lives.

    Args:
        directory: an empty one, on a fast disk.
    """
    random.seed(f"process {history.seed}")  # what the program draws from the module's own generator
    moment = Moment()
    world = World(history.world, now=lambda: EPOCH + moment())
    story = Story(world, history.most_skew)
    manifest: Manifest | None = None
    settings = history.settings
    if history.manifest is not None:
        manifest = write_manifest(history.manifest, world, history.seed)
        path = manifest_path(directory, history.manifest)
        path.write_text(manifest.text, encoding="utf-8", newline="")
        assert isinstance(settings.source, ManifestSource)
        settings = replace(settings, source=replace(settings.source, path=str(path)))
        if settings.consent.confirm_count == -1:
            active = {
                Key(account_id, region, run.transform_id, run.task_run_id)
                for account_id, region, run in world.runs()
                if run.status(EPOCH).active
            }
            settings = replace(settings, consent=Consent(confirm_count=len(active.intersection(manifest.keys))))
        story.expected = dict.fromkeys(manifest.keys, True)
    run_directory = directory / "run"
    grave = _Grave()
    for number, trouble in enumerate(history.troubles):
        resumed = (run_directory / LEDGER_NAME).exists()
        one = _OneLife(
            history,
            settings=settings,
            story=story,
            moment=moment,
            directory=run_directory,
            life=Life(number, moment(), resumed),
            trouble=trouble,
        )
        story.lives.append(one.life)
        grave = one.live(grave)
        if one.life.died and trouble.copied:
            run_directory = one.copied or run_directory
        moment.seconds += trouble.wait_seconds
        if one.life.ending in ("LedgerError", "UsageError", "InputError") and one.life.recorded is None:
            break
    while grave.flights:  # what the last process left on the wire arrives too
        flight = grave.flights.pop(0)
        assert grave.service is not None
        moment.seconds = max(moment.seconds, flight.due)
        grave.service.arrive(flight)
    story.trace.add(moment.seconds, [life.steps for life in story.lives])
    return story


class _OneLife:
    def __init__(
        self,
        history: History,
        *,
        settings: Settings,
        story: Story,
        moment: Moment,
        directory: Path,
        life: Life,
        trouble: Trouble,
    ) -> None:
        self.history = history
        self.settings = settings
        self.story = story
        self.moment = moment
        self.directory = directory
        self.life = life
        self.trouble = trouble
        self.copied: Path | None = None
        self.ledger: Ledger | None = None

    def live(self, grave: _Grave) -> _Grave:
        history, life, story = self.history, self.life, self.story
        loop = MortalLoop(self.moment.seconds)
        self.moment.loop = loop
        blows = Blows(self.trouble, loop, life, random.Random(f"blows {history.seed} {life.number}"))
        service = WatchedService(story.world, story, life, history, blows)
        for flight in grave.flights:
            assert grave.service is not None
            loop.call_at(max(flight.due, loop.time()), grave.service.arrive, flight)
        self._call_rivals(loop)
        loop.call_at(loop.time() + LONGEST_LIFE_SECONDS, self._too_long, loop)
        left: list[Flight] = []
        try:
            loop.live(self._main(loop, service, blows))
        except Died:
            life.ending = "died"
            share, draw = self.trouble.arrives_share, random.Random(f"grave {history.seed} {life.number}")
            left = [each for each in service.flights.values() if draw.random() < share]
            left.sort(key=lambda flight: flight.due)
        except Endless:
            life.ending = "endless"
            story.violated("the process goes on without an end", f"life {life.number}", f"at {loop.time():.1f} s")
        except BatchCancelError as error:
            life.ending, life.says, life.exit_code = type(error).__name__, str(error), error.exit_code
        except Exception as error:  # whatever it is, it is a finding
            life.ending, life.says = type(error).__name__, str(error)
            story.violated("the program broke", repr(error), _place_of(error))
        left_over = loop.left_over()
        if life.ending not in ("died", "endless") and left_over:
            story.violated("a task is left behind", *[task.get_coro() for task in left_over[:3]])
        if life.ending != "died" and loop.complaints:
            story.violated("asyncio writes to standard error", *loop.complaints)
        life.steps, life.ended = loop.steps, loop.time()
        # What had already left and was cut off by a stop is still on its way when the process is gone.
        self._close_files()
        loop.bury()
        self.moment.seconds, self.moment.loop = loop.time(), None
        if life.ending == "endless" or self.ledger is not None or self.life.resumed:
            life.recorded = recorded(self.directory, story)
        says = (life.says or "").replace(str(self.directory.parent), "")  # where it was played is not part of it
        story.trace.add(life.ending, says, life.exit_code)
        return _Grave(left, service)

    async def _main(self, loop: MortalLoop, service: WatchedService, blows: Blows) -> None:
        history, life = self.history, self.life
        begin = Ledger.open if life.resumed else Ledger.create
        ledger = self.ledger = begin(self.directory, offload=blows.offload)
        blows.watch(ledger._connection)
        service.intents = _Intents(ledger.reader)
        stop = Stop()
        if self.trouble.blow is Blow.INTERRUPT:
            loop.call_at(loop.time() + self.trouble.at, self._interrupt, loop, stop)
        if life.resumed and "settings" not in ledger.reader.facts():
            await ledger.close()  # as `batch-cancel resume` has it
            raise LedgerError("the sweep had not begun, and nothing was called: start a new one")
        sweep = Sweep(
            self.settings,
            ledger,
            service,
            sweep_id=f"seed-{history.seed}",
            pacers=Pacers(self.settings.rate.rps),
            now=lambda: datetime.fromtimestamp(EPOCH + loop.time() + history.skew(loop.time()), UTC),
            on_event=lambda event: self._event(loop.time(), event),
            ask=self._ask if history.answer is not None else None,
            stop=stop,
            jitter=random.Random(f"jitter {history.seed} {life.number}"),
        )
        try:
            result = await (sweep.resume() if life.resumed else sweep.run())
        except BaseException:
            with contextlib.suppress(BatchCancelError):
                await ledger.close()
            raise
        life.ending = "result"
        life.exit_code, life.stop_cause, life.says = result.exit_code, result.stop_cause, result.says
        await ledger.close()

    async def _ask(self) -> bool:
        await asyncio.sleep(self.history.answer_seconds)
        assert self.history.answer is not None
        self.life.asked = self.history.answer
        return self.history.answer

    def _interrupt(self, loop: MortalLoop, stop: Stop) -> None:
        if self.life.ending == "":
            self.life.stop_asked_at = loop.time()
            stop.request(StopCause.INTERRUPTED)

    def _too_long(self, loop: MortalLoop) -> None:
        self.story.violated("the sweep does not end", f"life {self.life.number} goes on at {loop.time():.0f} s")
        loop.die()

    def _event(self, now: float, event: Event) -> None:
        life = self.life
        match event:
            case OutcomeReached():
                life.verdicts.append((now, _key(event.target, *event.key), event.outcome))
            case Stopping():
                life.stopping.append((now, event.cause))
            case SweepStarted():
                life.sweeps += 1
            case _:
                pass
        self.story.event(life, now, event)

    def _call_rivals(self, loop: MortalLoop) -> None:
        for rival in self.history.rivals:
            if rival.at >= loop.time():
                loop.call_at(rival.at, self._rival, rival.pick)

    def _rival(self, pick: float) -> None:
        world = self.story.world
        runs = list(world.runs())
        if not runs:
            return
        account_id, region, run = runs[int(pick * len(runs))]
        key = Key(account_id, region, run.transform_id, run.task_run_id)
        self.story.rivals.add(key)
        request = {"TransformId": run.transform_id, "TaskRunId": run.task_run_id}
        world.call(f"AKIARIVALS{account_id}", region, CANCEL, request)

    def _close_files(self) -> None:
        """As the kernel closes the files of a process that is gone: nothing more is written by it."""
        ledger = self.ledger
        if ledger is None:
            return
        if self.life.died and self.trouble.copied:
            self.copied = self.directory.with_name(f"copy-{self.life.number}")
            shutil.copytree(self.directory, self.copied)
        with contextlib.suppress(sqlite3.Error):
            ledger.reader.close()
            ledger._connection.close()
        with contextlib.suppress(OSError):
            os.close(ledger._lock)


class _Intents:
    """How many intents of a run are on disk, and how many of them are open."""

    def __init__(self, reader: LedgerReader) -> None:
        self._connection = reader._connection

    def __call__(self, region: str, transform_id: str, task_run_id: str) -> tuple[int, int]:
        row = self._connection.execute(
            "SELECT count(*), total(a.class IS NULL) FROM attempts a JOIN runs r ON r.id = a.run_id"
            " JOIN targets t ON t.id = r.target_id WHERE r.transform_id = ? AND r.task_run_id = ? AND t.region = ?",
            (transform_id, task_run_id, region),
        ).fetchone()
        return int(row[0]), int(row[1])


def _key(target: Target, transform_id: str, task_run_id: str) -> Key:
    return Key(_account(target), target.region, transform_id, task_run_id)


def _account(target: Target) -> str:
    """Where these credentials lead, whatever is known of it."""
    return target.access.role_arn.split(":")[4] if target.access.role_arn else HOME


def recorded(directory: Path, story: Story) -> Recorded | None:
    """The ledger as it is on disk."""
    try:
        schema.check(directory / LEDGER_NAME)
        reader = LedgerReader(directory / LEDGER_NAME)
    except LedgerError as error:
        story.violated("the ledger cannot be read", error)
        return None
    try:
        targets = {row.id: row for row in reader.targets()}
        document = Document(reader)
        text = StringIO()
        document.write_json(text)
        runs: dict[Key, Any] = {}
        doubles: list[Key] = []
        for row in reader.runs():
            key = _key(targets[row.target_id].target, row.transform_id, row.task_run_id)
            if key in runs:
                doubles.append(key)
            runs[key] = row
        execute = reader._connection.execute
        attempts: dict[int, list[str | None]] = {}
        for run_id, verdict in execute("SELECT run_id, class FROM attempts ORDER BY run_id, number"):
            attempts.setdefault(run_id, []).append(verdict)
        states = {}
        returns = {}
        for run_id, state, came_back in execute("SELECT id, state, returns FROM runs"):
            states[run_id], returns[run_id] = state, came_back
        return Recorded(
            facts=document.facts,
            targets=targets,
            runs=runs,
            doubles=doubles,
            states=states,
            returns=returns,
            attempts=attempts,
            document=json.loads(text.getvalue()),
        )
    finally:
        reader.close()


def _place_of(error: BaseException) -> str:
    trace = error.__traceback__
    place = "nowhere"
    while trace is not None:
        code = trace.tb_frame.f_code
        if "batch_cancel" in code.co_filename:
            place = f"{Path(code.co_filename).name}:{trace.tb_lineno} {code.co_name}"
        trace = trace.tb_next
    return place


@contextlib.contextmanager
def undisturbed() -> Iterator[None]:
    """Without the cyclic collector: when it comes depends on what came before, and what it finds may have a say."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()
