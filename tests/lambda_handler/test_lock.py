"""The lock of a sweep in S3: one holder, whoever was faster, and none for longer than an invocation lives."""

import asyncio
import json
from datetime import UTC, datetime, timedelta

import pytest

from batch_cancel.core.errors import BatchCancelError, CallFailed, ErrorKind, SweepInUse
from batch_cancel.glue.aws_outbox import AwsOutbox
from batch_cancel.glue.outbox import S3Place
from batch_cancel.lambda_handler import lock as locks
from tests.delivery.conftest import PREFIX, Cloud, _models_are_read_once, cloud, endpoint, server

__all__ = ["_models_are_read_once", "cloud", "endpoint", "server"]  # fixtures

PLACE = S3Place.of(f"{PREFIX}night/lock.json")
NOW = datetime(2026, 11, 24, 3, tzinfo=UTC)


async def take(outbox: AwsOutbox, now: datetime = NOW) -> locks.Lock:
    return await locks.take(outbox, PLACE, until=now + timedelta(minutes=15), now=lambda: now)


def test_it_has_one_holder_until_it_is_released_or_its_time_is_over(cloud: Cloud) -> None:
    async def story() -> None:
        first = await take(cloud.outbox())
        with pytest.raises(SweepInUse, match="until 2026-11-24T03:15:00Z at the latest"):
            await take(cloud.outbox(), NOW + timedelta(minutes=14))
        second = await take(cloud.outbox(), NOW + timedelta(minutes=15))
        await first.release()  # it is not its own any more
        with pytest.raises(SweepInUse):
            await take(cloud.outbox(), NOW + timedelta(minutes=16))
        await second.release()
        await take(cloud.outbox(), NOW - timedelta(minutes=1))  # by a clock that is behind, too

    asyncio.run(story())


class LookedBefore(AwsOutbox):
    """Looks once, before anybody has written."""

    looks = 0

    async def get_tagged(self, place: S3Place) -> tuple[bytes, str] | None:
        self.looks += 1
        return None if self.looks == 1 else await super().get_tagged(place)


class AnswerLost(AwsOutbox):
    """The answer to a write does not arrive, and the library writes once more."""

    async def put_if(self, place: S3Place, data: bytes, content_type: str, *, tag: str | None) -> str | None:
        await super().put_if(place, data, content_type, tag=tag)
        return await super().put_if(place, data, content_type, tag=tag)


def test_of_two_that_found_it_free_one_gets_it(cloud: Cloud) -> None:
    async def story() -> None:
        await take(cloud.outbox())
        with pytest.raises(SweepInUse, match="just begun"):
            await take(LookedBefore("s-1", endpoint_url=cloud.url))

    asyncio.run(story())


def test_a_write_whose_answer_was_lost_is_known_again(cloud: Cloud) -> None:
    async def story() -> None:
        lock = await take(AnswerLost("s-1", endpoint_url=cloud.url))
        await lock.release()
        await take(cloud.outbox())

    asyncio.run(story())


def test_what_is_no_lock_keeps_nobody_out(cloud: Cloud) -> None:
    async def story() -> None:
        for junk in (b"", b"[]", b"\xff", b'{"schema": "batch-cancel/lock/1", "holder": "x", "until": 5}'):
            await cloud.outbox().put_bytes(PLACE, junk, "application/json")
            await take(cloud.outbox())

    asyncio.run(story())


class TakesNoNotice(AwsOutbox):
    """A store that writes whatever the condition."""

    async def put_if(self, place: S3Place, data: bytes, content_type: str, *, tag: str | None) -> str | None:
        await self.put_bytes(place, data, content_type)
        found = await self.get_tagged(place)
        return found[1] if found else None


class HasNone(AwsOutbox):
    """A store that does not know conditional writes."""

    async def put_if(self, place: S3Place, data: bytes, content_type: str, *, tag: str | None) -> str | None:
        raise CallFailed(ErrorKind.OTHER, "PutObject", "NotImplemented", "A header is not implemented", reached=True)


@pytest.mark.parametrize(("store", "said"), [(TakesNoNotice, "takes no notice"), (HasNone, "NotImplemented")])
@pytest.mark.parametrize("there_was_one", [False, True])
def test_a_store_that_cannot_keep_a_lock_is_found_out(
    cloud: Cloud, store: type[AwsOutbox], said: str, *, there_was_one: bool
) -> None:
    async def story() -> None:
        if there_was_one:
            await (await take(cloud.outbox())).release()
        for _ in range(2):  # and it keeps nobody out: who comes next is told the same
            with pytest.raises(BatchCancelError, match=rf"{PLACE}.*{said}") as caught:
                await take(store("s-1", endpoint_url=cloud.url))
            assert not isinstance(caught.value, SweepInUse)

    asyncio.run(story())


@pytest.mark.parametrize(
    ("until", "held"),
    [
        ("2026-11-24T03:19:00+00:00", True),  # a clock that is ahead of ours
        ("2026-11-24T03:30:00+00:00", False),
        ("9999-12-31T23:59:59-14:00", False),
    ],
)
def test_a_lock_for_longer_than_an_invocation_lives_is_not_believed(cloud: Cloud, until: str, *, held: bool) -> None:
    written = json.dumps({"schema": locks.SCHEMA, "holder": "somebody", "until": until}).encode()

    async def story() -> None:
        await cloud.outbox().put_bytes(PLACE, written, "application/json")
        if held:
            with pytest.raises(SweepInUse):
                await take(cloud.outbox())
        else:
            await take(cloud.outbox())

    asyncio.run(story())
