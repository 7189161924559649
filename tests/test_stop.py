"""Stopping early: who waits is woken at once, what is in flight ends, and nobody's own cancellation is swallowed."""

import asyncio

import pytest

from batch_cancel.core.errors import AccessStopped, RecordLost
from batch_cancel.stop import Stop, StopCause, Stopped, task_group


async def waits_under(stop: Stop) -> None:
    with stop.interruptible():
        await asyncio.Event().wait()


async def settle() -> None:
    """Let every task that is ready go on until it waits."""
    for _ in range(5):
        await asyncio.sleep(0)


def test_the_first_cause_stays() -> None:
    async def story() -> None:
        stop = Stop()
        stop.check()
        error = AccessStopped("no way in")
        stop.request(StopCause.CREDENTIALS, error)
        stop.request(StopCause.INTERRUPTED)
        assert (stop.cause, stop.error) == (StopCause.CREDENTIALS, error)
        with pytest.raises(Stopped):
            stop.check()
        await stop.requested()

    asyncio.run(story())


def test_who_waits_is_woken_at_once_and_who_comes_later_is_turned_away() -> None:
    async def story() -> None:
        stop = Stop()
        waiting = asyncio.create_task(waits_under(stop))
        await settle()
        stop.request(StopCause.DEADLINE)
        with pytest.raises(Stopped):
            await waiting
        assert waiting.cancelling() == 0
        with pytest.raises(Stopped), stop.interruptible():
            pytest.fail("went in after the stop")

    asyncio.run(story())


def test_what_is_not_declared_interruptible_ends_in_peace() -> None:
    async def story() -> None:
        stop, answer = Stop(), asyncio.Event()

        async def calls() -> str:
            with stop.interruptible():
                await asyncio.sleep(0)
            await answer.wait()
            return "answered"

        call = asyncio.create_task(calls())
        await settle()
        stop.request(StopCause.INTERRUPTED)
        await settle()
        answer.set()
        assert await call == "answered"

    asyncio.run(story())


def test_a_whole_stop_reaches_every_part_and_a_parts_stop_nobody_else() -> None:
    async def story() -> None:
        whole = Stop()
        one, other = Stop(whole), Stop(whole)
        one.request(StopCause.NO_PROGRESS)
        assert (whole.cause, other.cause) == (None, None)
        waiting = asyncio.create_task(waits_under(other))
        await settle()
        whole.request(StopCause.INTERRUPTED)
        with pytest.raises(Stopped):
            await waiting
        assert (one.cause, other.cause) == (StopCause.NO_PROGRESS, StopCause.INTERRUPTED)
        assert Stop(whole).cause is StopCause.INTERRUPTED

    asyncio.run(story())


def test_waiting_under_a_part_inside_the_whole_ends_with_stopped_too() -> None:
    async def story() -> None:
        for inner_is_part in (True, False):
            whole = Stop()
            part = Stop(whole)
            outer, inner = (whole, part) if inner_is_part else (part, whole)

            async def waits(outer: Stop = outer, inner: Stop = inner) -> None:
                with outer.interruptible():
                    await waits_under(inner)

            waiting = asyncio.create_task(waits())
            await settle()
            whole.request(StopCause.INTERRUPTED)
            with pytest.raises(Stopped):
                await waiting
            assert waiting.cancelling() == 0

    asyncio.run(story())


def test_who_asks_for_the_stop_goes_on_himself() -> None:
    async def story() -> None:
        stop = Stop()
        with stop.interruptible():
            stop.request(StopCause.MAX_ERRORS)
            await settle()

    asyncio.run(story())


def test_a_cancellation_from_elsewhere_stays_one_with_a_stop_and_without() -> None:
    async def story() -> None:
        for stops in (False, True):
            stop = Stop()
            waiting = asyncio.create_task(waits_under(stop))
            await settle()
            waiting.cancel()
            if stops:
                stop.request(StopCause.INTERRUPTED)
            with pytest.raises(asyncio.CancelledError):
                await waiting
            assert waiting.cancelled()

    asyncio.run(story())


def test_a_wait_that_is_over_in_the_moment_of_the_stop_is_still_told() -> None:
    async def story() -> None:
        stop, event = Stop(), asyncio.Event()

        async def waits() -> None:
            with stop.interruptible():
                await event.wait()

        waiting = asyncio.create_task(waits())
        await settle()
        event.set()
        stop.request(StopCause.DEADLINE)
        with pytest.raises(Stopped):
            await waiting

    asyncio.run(story())


def test_a_group_raises_the_trouble_and_not_the_stops_that_follow_from_it() -> None:
    async def story() -> None:
        stop = Stop()
        with pytest.raises(RecordLost, match="disk full"):
            async with task_group() as group:
                group.create_task(waits_under(stop))
                await settle()
                stop.request(StopCause.CREDENTIALS)
                group.create_task(_raises(RecordLost("disk full")))

    asyncio.run(story())


def test_a_group_in_which_all_was_stopped_raises_stopped() -> None:
    async def story() -> None:
        stop = Stop()
        with pytest.raises(Stopped):
            async with task_group() as group:
                for _ in range(3):
                    group.create_task(waits_under(stop))
                await settle()
                stop.request(StopCause.DEADLINE)

    asyncio.run(story())


def test_a_group_keeps_the_cause_of_what_it_raises() -> None:
    async def fails() -> None:
        raise RecordLost("lost") from OSError("the cause")

    async def story() -> None:
        with pytest.raises(RecordLost) as caught:
            async with task_group() as group:
                group.create_task(fails())
        assert isinstance(caught.value.__cause__, OSError)

    asyncio.run(story())


async def _raises(error: Exception) -> None:
    raise error
