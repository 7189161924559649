"""A way to S3 and SNS that leaves the function time to answer: what hangs must not use up an invocation.

Each call may take a share of what is left, so that there is time after it, too: for the report after a ledger that
could not be uploaded, and for telling that it could not. A call that has no answer by then is CallFailed.
"""

import asyncio
from collections.abc import Callable, Coroutine, Mapping
from pathlib import Path
from typing import Any, TypeVar

from batch_cancel.core.errors import CallFailed, ErrorKind
from batch_cancel.glue.outbox import S3Place, SharedOutbox

SHARE = 0.75
ENDING_SECONDS = 0.5
"""For what a call that is cut off has to tidy up."""

T = TypeVar("T")


class LambdaOutbox:
    """A :class:`~batch_cancel.glue.outbox.SharedOutbox`; ``remaining``: how many seconds the invocation has left."""

    def __init__(self, outbox: SharedOutbox, remaining: Callable[[], float]) -> None:
        self._outbox = outbox
        self._remaining = remaining

    async def put_file(self, place: S3Place, path: Path, content_type: str) -> None:
        """Upload a file."""
        await self._in_time("PutObject", self._outbox.put_file(place, path, content_type))

    async def put_bytes(self, place: S3Place, data: bytes, content_type: str) -> None:
        """Upload a few bytes."""
        await self._in_time("PutObject", self._outbox.put_bytes(place, data, content_type))

    async def put_if(self, place: S3Place, data: bytes, content_type: str, *, tag: str | None) -> str | None:
        """Upload a few bytes where nobody else has meanwhile."""
        return await self._in_time("PutObject", self._outbox.put_if(place, data, content_type, tag=tag))

    async def get_bytes(self, place: S3Place) -> bytes | None:
        """A small object."""
        return await self._in_time("GetObject", self._outbox.get_bytes(place))

    async def get_tagged(self, place: S3Place) -> tuple[bytes, str] | None:
        """A small object and its tag."""
        return await self._in_time("GetObject", self._outbox.get_tagged(place))

    async def get_file(self, place: S3Place, path: Path) -> bool:
        """Download an object."""
        return await self._in_time("GetObject", self._outbox.get_file(place, path))

    async def publish(self, topic_arn: str, subject: str, messages: Mapping[str, str]) -> None:
        """Publish to an SNS topic."""
        await self._in_time("Publish", self._outbox.publish(topic_arn, subject, messages))

    async def _in_time(self, operation: str, call: Coroutine[Any, Any, T]) -> T:
        seconds = max(0.0, SHARE * self._remaining())
        task = asyncio.ensure_future(call)
        try:
            await asyncio.wait([task], timeout=seconds)
            if task.done():
                return task.result()
        finally:
            if not task.done():
                task.cancel()
                await asyncio.wait([task], timeout=ENDING_SECONDS)
        message = f"no answer within {seconds:.1f} s, and the function's time runs out"
        raise CallFailed(ErrorKind.TRANSIENT, operation, "TimedOut", message)
