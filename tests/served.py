"""A simulated world behind a URL, served from a thread: for what brings an event loop, or a process, of its own."""

import asyncio
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from batch_cancel.simulator.server import serve
from batch_cancel.simulator.world import World


@contextmanager
def served(world: World) -> Iterator[str]:
    """Inside, the world answers at the URL that is yielded. It has to run on ``time.time``."""
    started = threading.Event()
    found: list[tuple[str, asyncio.AbstractEventLoop, asyncio.Event]] = []

    async def main() -> None:
        over = asyncio.Event()
        async with serve(world) as url:
            found.append((url, asyncio.get_running_loop(), over))
            started.set()
            await over.wait()

    thread = threading.Thread(target=lambda: asyncio.run(main()), name="simulator")
    thread.start()
    started.wait()
    url, loop, over = found[0]
    try:
        yield url
    finally:
        loop.call_soon_threadsafe(over.set)
        thread.join()


def active(world: World) -> int:
    """How many runs of a served world are active now."""
    now = time.time()
    return sum(run.status(now).active for _, _, run in world.runs())
