"""Whole sweeps in memory, on virtual time: what a test says goes in, the world and the ledger come out."""

import asyncio
import random
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from batch_cancel.core.events import Event
from batch_cancel.core.outcome import Outcome
from batch_cancel.engine.ending import Result
from batch_cancel.glue.pace import Pacers
from batch_cancel.ledger import LEDGER_NAME
from batch_cancel.ledger.ledger import Ledger
from batch_cancel.ledger.reader import LedgerReader, RunRow
from batch_cancel.settings import Consent, DiscoverySource, Settings, TargetSettings
from batch_cancel.simulator.latency import Latency, always
from batch_cancel.simulator.memory import SimulatedService
from batch_cancel.simulator.settings import FleetSettings, WorldSettings
from batch_cancel.simulator.world import World
from batch_cancel.stop import Stop
from batch_cancel.sweep import Ask, Sweep
from tests.scratch import kept_for_the_test
from tests.sim.virtual_time import run

BEGAN_AT = 1_790_000_000.0
HERE = (TargetSettings(regions=("us-east-1",)),)


def settings(**changes: Any) -> Settings:  # noqa: ANN401  # fields of Settings, each of its own type
    """A discovery that asks nobody, unless a test says otherwise."""
    defaults: dict[str, Any] = {"source": DiscoverySource(), "targets": HERE, "consent": Consent(yes=True)}
    return Settings(**(defaults | changes))


@dataclass
class Play:
    """A world, and what sweeps made of it.

    Attributes:
        at_once: called with the sweep's stop when it begins, to plan troubles on the loop's clock.
        ahead: by how many seconds the program's clock is ahead of the world's.
    """

    world_settings: WorldSettings = field(
        default_factory=lambda: WorldSettings(fleet=FleetSettings(transforms=6, runs=40))
    )
    latency: Latency = field(default_factory=lambda: always(0.05))
    at_once: Callable[[Stop, World], None] = lambda _stop, _world: None
    profiles: dict[str, str] = field(default_factory=dict)
    directory: Path = field(default_factory=lambda: kept_for_the_test() / "run")
    clock: float = BEGAN_AT
    ahead: float = 0.0
    events: list[Event] = field(default_factory=list)
    world: World = field(init=False)
    service: SimulatedService = field(init=False)

    def __post_init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        self.world = World(self.world_settings, now=self.now)
        self.service = SimulatedService(self.world, latency=self.latency, profiles=self.profiles)

    def now(self) -> float:
        """Seconds since the epoch; it stands between sweeps."""
        return self.clock + (self._loop.time() if self._loop else 0.0)

    def sweep(self, with_settings: Settings, *, ask: Ask | None = None) -> Result:
        """A new sweep in the play's directory."""
        return self._run(with_settings, Ledger.create, ask, resumed=False)

    def resume(self, with_settings: Settings, *, ask: Ask | None = None) -> Result:
        """Go on with it."""
        return self._run(with_settings, Ledger.open, ask, resumed=True)

    def _run(
        self, with_settings: Settings, open_ledger: Callable[..., Ledger], ask: Ask | None, *, resumed: bool
    ) -> Result:
        async def main() -> Result:
            self._loop = asyncio.get_running_loop()
            ledger = open_ledger(self.directory, offload=_inline)
            stop = Stop()
            self.at_once(stop, self.world)
            sweep = Sweep(
                with_settings,
                ledger,
                self.service,
                sweep_id="20261124T000000Z-000000",
                pacers=Pacers(with_settings.rate.rps),
                now=lambda: datetime.fromtimestamp(self.now() + self.ahead, UTC),
                on_event=self.events.append,
                ask=ask,
                stop=stop,
                jitter=random.Random(0),
            )
            try:
                return await (sweep.resume() if resumed else sweep.run())
            finally:
                await ledger.close()
                self.clock, self._loop = self.now(), None

        return run(main())

    def reader(self) -> LedgerReader:
        """The ledger as it stands; close it."""
        return LedgerReader(self.directory / LEDGER_NAME)

    def rows(self) -> list[RunRow]:
        """Every run of the ledger."""
        reader = self.reader()
        try:
            return list(reader.runs())
        finally:
            reader.close()

    def facts(self) -> dict[str, Any]:
        """The ledger's facts."""
        reader = self.reader()
        try:
            return reader.facts()
        finally:
            reader.close()

    def outcomes(self) -> dict[Outcome, int]:
        """How many runs have each outcome."""
        counts: dict[Outcome, int] = {}
        for row in self.rows():
            counts[row.outcome] = counts.get(row.outcome, 0) + 1
        return counts

    def calls(self, operation: str = "CancelMLTaskRun") -> int:
        """How many calls of an operation the world has received."""
        return sum(call.operation == operation for call in self.world.log)

    def active(self) -> int:
        """How many runs of the world are active now."""
        self.world.advance(self.now())
        now = self.now()
        return sum(run_.status(now).active for _, _, run_ in self.world.runs())


async def _inline(function: Callable[[], None]) -> None:
    function()


def yes() -> Coroutine[Any, Any, bool]:
    """An answer at the question."""

    async def answer() -> bool:
        return True

    return answer()


def no() -> Coroutine[Any, Any, bool]:
    """Another."""

    async def answer() -> bool:
        return False

    return answer()
