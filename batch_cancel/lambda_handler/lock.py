"""One invocation at a time for each sweep: a lock beside its ledger in S3.

Events are delivered at least once, and two invocations of one sweep would both cancel and keep only one record. The
lock is an object that is written only where nobody else has written meanwhile (S3's conditional writes). It ends by
itself when its invocation must have ended, so that one that was killed keeps the others out no longer than that; until
then they fail with :class:`~batch_cancel.core.errors.SweepInUse`, and their engine tries again.
"""

import json
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

from batch_cancel.core.errors import SweepInUse
from batch_cancel.glue.outbox import S3Place, SharedOutbox

SCHEMA = "batch-cancel/lock/1"
LOCK_NAME = "lock.json"


@dataclass(frozen=True, slots=True)
class Lock:
    """A lock that is held."""

    outbox: SharedOutbox
    place: S3Place
    tag: str
    now: Callable[[], datetime]

    async def release(self) -> None:
        """Let others in; where somebody else has it by now, it stays theirs.

        Raises:
            CallFailed: it is not known to be free. It frees itself in time.
        """
        await self.outbox.put_if(self.place, _written("", self.now()), "application/json", tag=self.tag)


async def take(outbox: SharedOutbox, place: S3Place, *, until: datetime, now: Callable[[], datetime]) -> Lock:
    """The lock of a sweep.

    Args:
        until: when it ends by itself, aware.

    Raises:
        SweepInUse: somebody else has it.
        CallFailed: it is not known to be ours.
    """
    holder = secrets.token_hex(8)
    found = await outbox.get_tagged(place)
    if found is None:
        tag = await outbox.put_if(place, _written(holder, until), "application/json", tag=None)
    else:
        _check_free(found[0], now())
        tag = await outbox.put_if(place, _written(holder, until), "application/json", tag=found[1])
    if tag is None:  # somebody was faster: or we were, and the answer to our first try got lost
        found = await outbox.get_tagged(place)
        if found is None or _read(found[0])[0] != holder:
            raise SweepInUse("another invocation has just begun this sweep")
        tag = found[1]
    return Lock(outbox, place, tag, now)


def _check_free(data: bytes, now: datetime) -> None:
    _, until = _read(data)
    if until > now:
        raise SweepInUse(f"another invocation is at this sweep: until {until:%Y-%m-%dT%H:%M:%SZ} at the latest")


def _read(data: bytes) -> tuple[str, datetime]:
    """Who has a lock, and until when; what is none of ours keeps nobody out."""
    try:
        told = json.loads(data)
        if told["schema"] == SCHEMA:
            return str(told["holder"]), datetime.fromisoformat(told["until"]).astimezone(UTC)
    except (ValueError, KeyError, TypeError):
        pass
    return "", datetime.min.replace(tzinfo=UTC)


def _written(holder: str, until: datetime) -> bytes:
    return json.dumps({"schema": SCHEMA, "holder": holder, "until": until.astimezone(UTC).isoformat()}).encode()
