"""A way to S3 and SNS that ends: nobody waits long for an endpoint that hangs, nor after a signal.

The sweep is over and its run directory whole by then; what cannot be delivered soon is told as a fault.
"""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

from batch_cancel.core.errors import CallFailed, ErrorKind
from batch_cancel.glue.outbox import Outbox, S3Place
from batch_cancel.stop import Stop, Stopped

DELIVERY_SECONDS = 60.0
"""For a whole delivery; files get :data:`LEAST_BYTES_A_SECOND` besides."""
LEAST_BYTES_A_SECOND = 1 << 20
FILES_SHARE, NOTE_SHARE, NOTICE_SHARE = 8 / 12, 1 / 12, 2 / 12
"""Of the time: all files together, each of the two calls for the last sweep's mark, and the notification. One that
hangs leaves the others theirs: that S3 cannot be reached is what somebody wants to be told."""

INTERRUPTED = "Interrupted"
"""The code of a call that a signal ended."""


class Bounded:
    """An :class:`~batch_cancel.glue.outbox.Outbox` in which every call ends in time, if need be with CallFailed.

    Args:
        stop: ends the call under way, and lets none begin.
        seconds: for all that is delivered through it.
    """

    def __init__(self, outbox: Outbox, *, stop: Stop | None = None, seconds: float = DELIVERY_SECONDS) -> None:
        self._outbox = outbox
        self._stop = stop or Stop()
        self._seconds = seconds
        self._files_end: float | None = None

    async def put_file(self, place: S3Place, path: Path, content_type: str) -> None:
        """Upload a file; its size earns it time, and so does the haste of those before it."""
        now = asyncio.get_running_loop().time()
        begun = now + self._seconds * FILES_SHARE if self._files_end is None else self._files_end
        self._files_end = begun + _size(path) / LEAST_BYTES_A_SECOND
        async with self._within("PutObject", max(0.0, self._files_end - now)):
            await self._outbox.put_file(place, path, content_type)

    async def put_bytes(self, place: S3Place, data: bytes, content_type: str) -> None:
        """The same for a few bytes."""
        async with self._within("PutObject", self._seconds * NOTE_SHARE):
            await self._outbox.put_bytes(place, data, content_type)

    async def get_bytes(self, place: S3Place) -> bytes | None:
        """A small object; None where there is none."""
        async with self._within("GetObject", self._seconds * NOTE_SHARE):
            return await self._outbox.get_bytes(place)

    async def get_file(self, place: S3Place, path: Path) -> bool:
        """Download an object; False where there is none."""
        async with self._within("GetObject", self._seconds):
            return await self._outbox.get_file(place, path)

    async def publish(self, topic_arn: str, subject: str, messages: Mapping[str, str]) -> None:
        """Publish to an SNS topic."""
        async with self._within("Publish", self._seconds * NOTICE_SHARE):
            await self._outbox.publish(topic_arn, subject, messages)

    @asynccontextmanager
    async def _within(self, operation: str, seconds: float) -> AsyncIterator[None]:
        try:
            with self._stop.interruptible():
                async with asyncio.timeout(seconds):
                    yield
        except Stopped:
            raise CallFailed(ErrorKind.OTHER, operation, INTERRUPTED, "a signal ended the delivery") from None
        except TimeoutError:
            raise CallFailed(ErrorKind.TRANSIENT, operation, "TimedOut", f"no answer within {seconds:.0f} s") from None


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:  # whoever opens it tells what is wrong
        return 0
