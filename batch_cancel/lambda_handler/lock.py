"""One invocation at a time for each sweep: a lock beside its ledger in S3.

Events are delivered at least once, and two invocations of one sweep would both cancel and keep only one record. The
lock is an object that is written only where nobody else has written meanwhile (S3's conditional writes; a store that
takes no notice of the conditions is found out, and refused). It ends by itself when its invocation must have ended, so
that one that was killed keeps the others out no longer than that; until then they fail with
:class:`~batch_cancel.core.errors.SweepInUse`, and their engine tries again.
"""

import json
import secrets
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

from batch_cancel.core.errors import BatchCancelError, CallFailed, SweepInUse
from batch_cancel.glue.outbox import S3Place, SharedOutbox

SCHEMA = "batch-cancel/lock/1"
LOCK_NAME = "lock.json"
NOT_IMPLEMENTED = "NotImplemented"
"""What a store answers that does not know the conditions."""
LONGEST = timedelta(minutes=15)
"""No invocation lives longer (AWS Lambda quotas)."""
CLOCKS = timedelta(minutes=5)
"""By so much, at most, two invocations' clocks are taken to differ."""
FREE = datetime.fromtimestamp(0, UTC)
"""Until when a lock that was released is held: over by every clock."""


@dataclass(frozen=True, slots=True)
class Lock:
    """A lock that is held.

    Attributes:
        follows_a_death: whoever had it before did not release it; its record is lost since its last upload.
    """

    outbox: SharedOutbox
    place: S3Place
    tag: str
    follows_a_death: bool = False

    async def release(self) -> None:
        """Let others in; where somebody else has it by now, it stays theirs.

        Raises:
            CallFailed: it is not known to be free. It frees itself in time.
        """
        await self.outbox.put_if(self.place, _written("", FREE), "application/json", tag=self.tag)


async def take(outbox: SharedOutbox, place: S3Place, *, until: datetime, now: Callable[[], datetime]) -> Lock:
    """The lock of a sweep.

    Args:
        until: when it ends by itself, aware.

    Raises:
        SweepInUse: somebody else has it.
        BatchCancelError: the store cannot keep a lock.
        CallFailed: it is not known to be ours.
    """
    holder = secrets.token_hex(8)
    found = await outbox.get_tagged(place)
    if found is not None:
        _check_free(found[0], now())
    before = found[1] if found else None
    follows_a_death = found is not None and _read(found[0])[0] != ""
    try:
        tag = await outbox.put_if(place, _written(holder, until), "application/json", tag=before)
    except CallFailed as failure:
        if failure.code != NOT_IMPLEMENTED:
            raise
        raise BatchCancelError(_no_lock(place, f"it has none ({failure.code})")) from failure
    if tag is None:  # somebody was faster: or we were, and the answer to our first try got lost
        found = await outbox.get_tagged(place)
        if found is None or _read(found[0])[0] != holder:
            raise SweepInUse("another invocation has just begun this sweep")
        return Lock(outbox, place, found[1], follows_a_death)
    lock = Lock(outbox, place, tag, follows_a_death)
    await _check_kept(lock, holder, until, before)
    return lock


async def _check_kept(lock: Lock, holder: str, until: datetime, before: str | None) -> None:
    """Write once more under the condition that our own write has ended: a store that takes that would take anybody's.

    To read back what was written would not do: whoever else is let in may write after that.
    """
    tag = await lock.outbox.put_if(lock.place, _written(holder, until), "application/json", tag=before)
    if tag is None:
        return
    await replace(lock, tag=tag).release()
    raise BatchCancelError(_no_lock(lock.place, "it takes no notice of their conditions"))


def _no_lock(place: S3Place, because: str) -> str:
    return (
        f"the sweep's lock {place} cannot be kept, and nothing was called: that takes a store with S3's conditional"
        f" writes (If-Match, If-None-Match), and {because}"
    )


def _check_free(data: bytes, now: datetime) -> None:
    """What would be held for longer than an invocation lives was written by none, or by a clock that is far off."""
    _, until = _read(data)
    if now < until <= now + LONGEST + CLOCKS:
        raise SweepInUse(f"another invocation is at this sweep: until {until:%Y-%m-%dT%H:%M:%SZ} at the latest")


def _read(data: bytes) -> tuple[str, datetime]:
    """Who has a lock, and until when; what is none of ours keeps nobody out."""
    try:
        told = json.loads(data)
        if told["schema"] == SCHEMA:
            return str(told["holder"]), datetime.fromisoformat(told["until"]).astimezone(UTC)
    except (ValueError, KeyError, TypeError, OverflowError):
        pass
    return "", datetime.min.replace(tzinfo=UTC)


def _written(holder: str, until: datetime) -> bytes:
    return json.dumps({"schema": SCHEMA, "holder": holder, "until": until.astimezone(UTC).isoformat()}).encode()
