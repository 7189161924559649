"""A process that can die between any two steps: an event loop that counts its steps, and stops dead at one of them.

What dies leaves nothing behind but what is on disk and what is on the wire. No ``except`` and no ``finally`` of the
program runs on: SIGKILL and power loss do not call them either.
"""

import asyncio
import contextlib
import math
import selectors
from collections import deque
from collections.abc import Coroutine
from typing import Any, TypeVar

from tests.sim.virtual_time import NoWaiting, VirtualTimeLoop

T = TypeVar("T")

MOST_STEPS = 400_000
"""A history of a few dozen runs takes some thousand; one that takes so many never ends."""


class Died(Exception):
    """The process is gone."""


class Endless(Exception):
    """The process took :data:`MOST_STEPS` steps and still had something to do."""


class _Deaf(NoWaiting):
    """Nobody writes to a simulated process: a system call a step saved."""

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        self.should_wait = timeout
        return []


class _Steps(deque[asyncio.Handle]):
    """What is ready to run. Each time the loop takes the next from here, nothing of the program is under way."""

    def __init__(self) -> None:
        super().__init__()
        self.taken = 0
        self.last = math.inf

    def popleft(self) -> asyncio.Handle:
        self.taken += 1
        if self.taken > self.last:
            raise Died
        if self.taken > MOST_STEPS:
            raise Endless
        return super().popleft()


class _NumberedTask(asyncio.Task[Any]):
    """Sets of tasks (asyncio.TaskGroup keeps one) come in the same order each time: hashed by number, not by place."""

    def __init__(self, coro: Coroutine[Any, Any, Any], *, loop: "MortalLoop", **rest: Any) -> None:  # noqa: ANN401  # whatever asyncio gives to tasks
        loop.tasks += 1
        self.number = loop.tasks
        super().__init__(coro, loop=loop, **rest)

    def __hash__(self) -> int:
        return self.number

    def __eq__(self, other: object) -> bool:
        return self is other


class MortalLoop(VirtualTimeLoop):
    """One process's event loop."""

    def __init__(self, begins_at: float) -> None:
        super().__init__(begins_at, _Deaf())
        self.tasks = 0
        self.complaints: list[str] = []
        """What asyncio would have written to standard error."""
        self._ready = _Steps()
        self.set_exception_handler(lambda _, context: self.complaints.append(str(context.get("message"))))
        self.set_task_factory(_task)

    @property
    def steps(self) -> int:
        """Steps taken so far."""
        return self._ready.taken

    def die_after(self, steps: int) -> None:
        """Die when so many steps have been taken."""
        self._ready.last = min(self._ready.last, steps)

    def die(self) -> None:
        """Die before the next step."""
        self.die_after(self._ready.taken)
        self.call_soon(_nothing)  # so that there is a next step, and it is now

    def live(self, main: Coroutine[Any, Any, T]) -> T:
        """Run to the end, or die.

        Raises:
            Died, Endless: it did not come to its end.
        """
        return self.run_until_complete(main)

    def left_over(self) -> list["asyncio.Task[Any]"]:
        """Tasks that are not done."""
        return sorted(asyncio.all_tasks(self), key=hash)

    def bury(self) -> None:
        """Take apart what died, without letting any of it act. Its files must be closed by now."""
        for task in self.left_over():
            task._log_destroy_pending = False  # type: ignore[attr-defined]  # nobody is to be told
            _close(task.get_coro())
        for generator in list(self._asyncgens):  # type: ignore[attr-defined]  # closing who reads from one does not close it
            _close(generator.ag_await)
        self._ready.clear()
        self.close()


def _nothing() -> None:
    pass


def _close(coroutine: Any) -> None:  # noqa: ANN401  # asyncio does not say what it holds
    for _ in range(50):  # each close leaves one more of its waiting ``finally`` blocks
        with contextlib.suppress(BaseException):
            if hasattr(coroutine, "close"):
                coroutine.close()
            return


def _task(loop: asyncio.AbstractEventLoop, coroutine: Any, **rest: Any) -> "asyncio.Task[Any]":  # noqa: ANN401  # as above
    assert isinstance(loop, MortalLoop)
    return _NumberedTask(coroutine, loop=loop, **rest)
