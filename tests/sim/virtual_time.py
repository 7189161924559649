"""An event loop whose clock jumps to the next timer: hours pass in milliseconds, and twice the same way."""

import asyncio
import math
import selectors
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


class NoWaiting(selectors.SelectSelector):
    """A selector that looks for events without ever waiting for one, and tells how long it should have waited."""

    def __init__(self) -> None:
        super().__init__()
        self.should_wait: float | None = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        self.should_wait = timeout
        return super().select(0)


class VirtualTimeLoop(asyncio.SelectorEventLoop):
    """Time stands still while anything can run, and jumps when nothing can.

    Args:
        begins_at: the loop's first time, in seconds.
    """

    def __init__(self, begins_at: float = 0.0, selector: NoWaiting | None = None) -> None:
        self._no_waiting = selector or NoWaiting()
        self._virtual_now = begins_at
        super().__init__(self._no_waiting)

    def time(self) -> float:
        return self._virtual_now

    def _run_once(self) -> None:
        # A timer that came a nanosecond early, as asyncio allows, would find the time standing still and wait for ever.
        self._clock_resolution = math.ulp(self._virtual_now)
        super()._run_once()  # type: ignore[misc]  # asyncio's own step; there is no public one
        wait = self._no_waiting.should_wait
        if wait is None and not self._ready:  # type: ignore[attr-defined]  # as above
            raise RuntimeError("everybody waits, and nobody for a time: a lost wake-up")
        if wait:
            self._virtual_now += wait


def run(main: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine to its end on a clock of its own."""
    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        return runner.run(main)
