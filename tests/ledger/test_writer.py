"""Group commit: the order is kept, what is told as written is on disk, and a write that fails stops everything."""

import asyncio
import sqlite3
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from batch_cancel.core.errors import RecordLost
from batch_cancel.ledger import schema
from batch_cancel.ledger.writer import LedgerWriter, Statement

INSERT = "INSERT INTO rejected (line, text, error) VALUES (?, ?, ?)"
Story = Callable[[LedgerWriter], Coroutine[Any, Any, None]]


def row(line: int) -> Statement:
    return INSERT, (line, None, "bad")


class Disk:
    """Does the writing when it is told to, and counts how often it was asked."""

    def __init__(self) -> None:
        self.transactions = 0
        self.free = asyncio.Event()
        self.asked = asyncio.Event()
        self.failure: Exception | None = None

    async def __call__(self, function: Callable[[], None]) -> None:
        self.transactions += 1
        self.asked.set()
        await self.free.wait()
        if self.failure is not None:
            raise self.failure
        function()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "ledger.db"


def tell(path: Path, story: Story) -> None:
    """Run a story with a writer of its own, in a thread as in production."""

    async def told() -> None:
        writer = LedgerWriter(schema.create(path))
        try:
            await story(writer)
        finally:
            await writer.close()

    asyncio.run(told())


def lines(path: Path) -> list[int]:
    """What another process would see."""
    connection = schema.open_read_only(path)
    try:
        return [found[0] for found in connection.execute("SELECT line FROM rejected ORDER BY rowid")]
    finally:
        connection.close()


async def ready() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


def test_what_is_committed_is_on_disk_with_all_that_was_posted_before_in_order(path: Path) -> None:
    async def story(writer: LedgerWriter) -> None:
        writer.post(*_flat(row(1)))
        writer.post(*_flat(row(2)))
        await writer.commit([row(3), row(4)])
        assert lines(path) == [1, 2, 3, 4]

    tell(path, story)


def test_what_is_posted_is_written_soon_and_together(path: Path) -> None:
    async def story() -> None:
        disk = Disk()
        disk.free.set()
        writer = LedgerWriter(schema.create(path), offload=disk)
        for number in range(100):
            writer.post(*_flat(row(number)))
        assert disk.transactions == 0
        await disk.asked.wait()  # the post's own timer, and nobody's commit
        await ready()
        assert (lines(path), disk.transactions) == (list(range(100)), 1)
        await writer.close()

    asyncio.run(story())


def test_many_commits_share_a_transaction(path: Path) -> None:
    async def story() -> None:
        disk = Disk()
        writer = LedgerWriter(schema.create(path), offload=disk)
        commits = [asyncio.create_task(writer.commit([row(number)])) for number in range(50)]
        await ready()
        assert not any(commit.done() for commit in commits)
        disk.free.set()
        await asyncio.gather(*commits)
        assert disk.transactions <= 2
        assert lines(path) == list(range(50))
        await writer.close()

    asyncio.run(story())


def test_who_comes_while_the_disk_is_busy_is_written_next_and_told_only_then(path: Path) -> None:
    async def story() -> None:
        disk = Disk()
        writer = LedgerWriter(schema.create(path), offload=disk)
        first = asyncio.create_task(writer.commit([row(1)]))
        await disk.asked.wait()
        second = asyncio.create_task(writer.commit([row(2)]))
        await ready()
        writer.post(*_flat(row(3)))
        assert (first.done(), second.done(), lines(path)) == (False, False, [])
        disk.free.set()
        await asyncio.gather(first, second)
        await writer.close()
        assert lines(path) == [1, 2, 3]

    asyncio.run(story())


def test_a_committer_who_is_cancelled_changes_nothing_for_the_others(path: Path) -> None:
    async def story() -> None:
        disk = Disk()
        writer = LedgerWriter(schema.create(path), offload=disk)
        gone = asyncio.create_task(writer.commit([row(1)]))
        stays = asyncio.create_task(writer.commit([row(2)]))
        await disk.asked.wait()
        gone.cancel()
        await ready()
        disk.free.set()
        await stays
        assert lines(path) == [1, 2]
        await writer.close()

    asyncio.run(story())


def test_statements_that_cannot_all_be_made_are_not_written_in_part(path: Path) -> None:
    def breaks() -> Any:  # noqa: ANN401  # a generator that fails on its way
        yield row(1)
        raise ValueError("no more")

    async def story(writer: LedgerWriter) -> None:
        with pytest.raises(ValueError, match="no more"):
            await writer.commit(breaks())
        await writer.commit([row(2)])
        assert lines(path) == [2]

    tell(path, story)


@pytest.mark.parametrize("failure", [sqlite3.OperationalError("disk I/O error"), OSError("gone"), RuntimeError("odd")])
def test_a_write_that_fails_stops_everything_and_leaves_nobody_waiting(path: Path, failure: Exception) -> None:
    async def story() -> None:
        disk = Disk()
        writer = LedgerWriter(schema.create(path), offload=disk)
        disk.failure = failure
        first = asyncio.create_task(writer.commit([row(1)]))
        await disk.asked.wait()
        behind = asyncio.create_task(writer.commit([row(2)]))
        await ready()
        disk.free.set()
        for commit in (first, behind):
            with pytest.raises(RecordLost, match=f"cannot be written: {failure}"):
                await commit
        with pytest.raises(RecordLost):
            writer.post(*_flat(row(3)))
        with pytest.raises(RecordLost):
            await writer.commit()
        await writer.close()
        assert lines(path) == []

    asyncio.run(story())


def test_a_posted_write_that_fails_shows_in_the_next_call(path: Path) -> None:
    async def story() -> None:
        disk = Disk()
        writer = LedgerWriter(schema.create(path), offload=disk)
        disk.failure = sqlite3.OperationalError("disk I/O error")
        disk.free.set()
        writer.post(*_flat(row(1)))
        await disk.asked.wait()
        await ready()
        with pytest.raises(RecordLost):
            writer.post(*_flat(row(2)))
        await writer.close()

    asyncio.run(story())


def test_a_full_disk_loses_the_batch_that_did_not_fit_whole_and_keeps_what_was_there(path: Path) -> None:
    async def story() -> None:
        connection = schema.create(path)
        writer = LedgerWriter(connection)
        await writer.commit([row(1)])
        pages = connection.execute("PRAGMA page_count").fetchone()[0]
        connection.execute(f"PRAGMA max_page_count = {pages + 2}")
        with pytest.raises(RecordLost, match="full"):
            await writer.commit([row(2), (INSERT, (3, "x" * 100_000, "bad"))])
        await writer.close()
        assert lines(path) == [1]
        schema.check(path)

    asyncio.run(story())


def test_strange_words_from_outside_end_no_sweep(path: Path) -> None:
    async def story(writer: LedgerWriter) -> None:
        await writer.commit([(INSERT, (2**80, "lone \udc80 surrogate \ud83d", "nul \x00 stays"))])
        await writer.commit([(INSERT, (10**400, None, "too much for a float"))])
        connection = schema.open_read_only(path)
        found = [tuple(each) for each in connection.execute("SELECT line, text, error FROM rejected ORDER BY rowid")]
        connection.close()
        assert found == [
            (float(2**80), "lone \\udc80 surrogate \\ud83d", "nul \x00 stays"),
            (None, None, "too much for a float"),
        ]

    tell(path, story)


def test_closing_writes_what_was_posted_and_leaves_a_single_file(path: Path) -> None:
    async def story(writer: LedgerWriter) -> None:
        writer.post(*_flat(row(1)))

    tell(path, story)
    assert [file.name for file in path.parent.iterdir()] == ["ledger.db"]
    assert lines(path) == [1]


def test_closing_while_somebody_reads_loses_nothing(path: Path) -> None:
    async def story() -> None:
        writer = LedgerWriter(schema.create(path))
        reader = schema.open_read_only(path)
        cursor = reader.execute("SELECT name FROM sqlite_master")
        cursor.fetchone()  # and in the middle of it
        await writer.commit([row(1)])
        await writer.close()
        reader.close()
        assert lines(path) == [1]

    asyncio.run(story())


def _flat(statement: Statement) -> tuple[Any, ...]:
    sql, parameters = statement
    return sql, *parameters


def test_what_is_written_into_a_file_that_another_has_taken_the_place_of_is_lost(path: Path) -> None:
    def another_takes_its_place() -> None:
        path.rename(path.with_name("moved.db"))
        path.touch()

    async def story() -> None:
        writer = LedgerWriter(schema.create(path), path=path)
        await writer.commit([row(1)])
        another_takes_its_place()
        with pytest.raises(RecordLost, match="moved or deleted"):
            await writer.commit([row(2)])
        with pytest.raises(RecordLost):
            writer.post(*row(3))
        await writer.close()

    asyncio.run(story())
