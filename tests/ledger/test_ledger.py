"""Intent before the call, answer after it, and what is made of both after a crash."""

import asyncio
import contextlib
import fcntl
import sqlite3
import subprocess
import sys
import threading
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from batch_cancel.core.errors import LedgerError
from batch_cancel.core.outcome import Outcome
from batch_cancel.core.task_run import Status, TaskRun, Transform
from batch_cancel.ledger import LEDGER_NAME
from batch_cancel.ledger.ledger import LOCK_NAME, Ledger, NewRun, in_use
from tests.ledger.sweeps import NOW, TARGET, a_run, accept, answer, claim, new_ledger, reading, rows

ROOT = Path(__file__).parents[2]
"""Where a process of its own finds ``tests``."""


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / "sweep"


def test_a_claim_is_on_disk_before_it_returns(directory: Path) -> None:
    async def story() -> None:
        ledger = await new_ledger(directory, 3)
        await claim(ledger, 2)
        assert rows(directory, "SELECT id, state FROM runs ORDER BY id") == [
            (1, "claimed"),
            (2, "claimed"),
            (3, "pending"),
        ]
        assert rows(directory, "SELECT run_id, number, class FROM attempts") == [(1, 1, None), (2, 1, None)]
        assert rows(directory, "SELECT DISTINCT intent_at FROM attempts") == [(NOW.timestamp(),)]
        await ledger.close()

    asyncio.run(story())


def test_the_most_expensive_runs_are_pending_first(directory: Path) -> None:
    async def story() -> None:
        ledger = Ledger.create(directory)
        target_id = await ledger.add_target(TARGET)
        await ledger.add_runs(target_id, [NewRun(a_run(n), priority=n % 3) for n in range(1, 7)])
        assert [row.id for row in ledger.reader.pending(target_id, 10)] == [2, 5, 1, 4, 3, 6]
        assert [row.id for row in ledger.reader.pending(target_id, 2, after_id=3)] == [4, 5]
        await ledger.close()

    asyncio.run(story())


def test_a_run_that_is_entered_twice_is_one_run_and_stays_as_it_was(directory: Path) -> None:
    async def story() -> None:
        ledger = await new_ledger(directory, 1)
        spared = NewRun(a_run(1), rule="late", outcome=Outcome.EXCLUDED)
        await ledger.add_runs(1, [spared, spared])
        assert rows(directory, "SELECT state, rule FROM runs") == [("pending", None)]
        await ledger.close()

    asyncio.run(story())


def test_a_run_that_came_back_is_pending_again_but_not_for_ever(directory: Path) -> None:
    async def story() -> None:
        ledger = await new_ledger(directory, 1)
        for returns in range(4):
            [run] = await claim(ledger)
            accept(ledger, run)
            ledger.settle(1, Outcome.STUCK_STOPPING, a_run(1, Status.STOPPING), at=NOW, returns=returns)
            await ledger.add_runs(1, [NewRun(a_run(1))], sweep_number=returns + 2, again=True)
            if not ledger.reader.count("pending"):
                break
        assert returns == 2
        assert ledger.reader.outcomes() == {Outcome.STUCK_STOPPING: 1}
        await ledger.close()

    asyncio.run(story())


@pytest.mark.parametrize("asked_again", [True, False])
def test_a_run_that_only_a_listing_calls_active_is_not_looked_at_for_ever(directory: Path, asked_again: bool) -> None:
    async def story() -> None:
        ledger = await new_ledger(directory, 1)
        for returns in range(6):
            [run] = await claim(ledger)
            if asked_again or not returns:
                accept(ledger, run)
            else:
                ledger.asked(run, accepted=False, refusal=None, status=None)  # read, and over
            ledger.settle(1, Outcome.STOPPED, a_run(1, Status.STOPPED), at=NOW, returns=returns)
            await ledger.add_runs(1, [NewRun(a_run(1))], sweep_number=returns + 2, again=True)
            if not ledger.reader.count("pending"):
                break
        assert returns == (5 if asked_again else 2)
        await ledger.add_runs(1, [NewRun(a_run(1), restarted=True)], sweep_number=9, again=True)
        assert ledger.reader.count("pending") == 1  # whatever was told of it before: this start is another
        await ledger.close()

    asyncio.run(story())


def test_a_run_that_came_back_is_in_doubt_if_it_was_asked_before_and_only_then(directory: Path) -> None:
    async def story() -> None:
        ledger = await new_ledger(directory, 2)
        stopped, over = await claim(ledger)
        accept(ledger, stopped)
        ledger.settle(stopped.id, Outcome.STOPPED, a_run(1, Status.STOPPED), at=NOW)
        ledger.settle(over.id, Outcome.ALREADY_FINISHED, a_run(2, Status.SUCCEEDED), at=NOW)
        await ledger.add_runs(1, [NewRun(a_run(1)), NewRun(a_run(2))], sweep_number=2, again=True)
        assert [(row.id, row.tainted) for row in ledger.reader.pending(1, 10)] == [(stopped.id, True), (over.id, False)]
        await ledger.close()

    asyncio.run(story())


def test_a_reading_that_comes_late_or_fails_does_not_take_the_place_of_what_says_more(directory: Path) -> None:
    async def story() -> None:
        ledger = await new_ledger(directory, 2)
        settled, refused = await claim(ledger)
        accept(ledger, settled)
        ledger.settle(settled.id, Outcome.STOPPED, a_run(1, Status.STOPPED), at=NOW)
        ledger.seen(settled.id, "STOPPING")
        refused.error_code, refused.error_message = "InvalidInputException", "what its own request met with"
        ledger.asked(refused, accepted=False, refusal="invalid", status=None)
        ledger.unread(refused.id, "ReadTimeoutError", "GetMLTaskRun: no answer")
        await ledger.writer.commit()
        assert [(row.status_after, row.error_code) for row in ledger.reader.runs()] == [
            ("STOPPED", None),
            (None, "InvalidInputException"),
        ]
        await ledger.close()

    asyncio.run(story())


def test_on_resume_a_refused_request_is_forgotten_unless_another_may_have_arrived(directory: Path) -> None:
    async def story() -> None:
        ledger = await new_ledger(directory, 2)
        for run, tainted in zip(await claim(ledger), (False, True), strict=True):
            run.attempts, run.requested_at, run.tainted, run.clock_offset = 1, NOW, tainted, -5.0
            ledger.answered(run, answer("access", "AccessDeniedException"))
            ledger.asked(run, accepted=False, refusal="access", status=None)
            ledger.settle(run.id, Outcome.FAILED, a_run(run.id), at=NOW)
        ledger.set_target_error(1, "AccessDeniedException", "no")
        await ledger.reopen()
        assert [(row.tainted, row.requested_at, row.clock_offset) for row in ledger.reader.pending(1, 10)] == [
            (False, None, None),
            (True, NOW, -5.0),
        ]
        [target] = ledger.reader.targets()
        assert (target.error_code, target.error_message) == (None, None)  # it is tried again
        await ledger.close()

    asyncio.run(story())


def test_a_run_that_started_once_more_before_its_end_was_seen_is_pending_again(directory: Path) -> None:
    async def story() -> None:
        ledger = await new_ledger(directory, 3)
        runs = await claim(ledger)
        accept(ledger, runs[0])
        ledger.asked(runs[1], accepted=False, refusal="invalid", status=None)
        await ledger.writer.commit()
        assert ledger.reader.starts(1, "tfm-1") == {"run-1": (None, True)}
        found = [NewRun(a_run(number), restarted=True) for number in (1, 2, 3)]
        await ledger.add_runs(1, [replace(run, restarted=False) for run in found], sweep_number=2, again=True)
        assert ledger.reader.count("pending") == 0
        await ledger.add_runs(1, found, sweep_number=2, again=True)
        [again] = ledger.reader.pending(1, 9)
        assert (again.task_run_id, again.tainted) == ("run-1", True)  # it is read before anything is sent again
        # A verdict by what was read of its earlier start comes too late.
        ledger.settle(1, Outcome.STOPPED, a_run(1, Status.STOPPED), at=NOW, returns=0)
        await ledger.writer.commit()
        assert ledger.reader.count("pending") == 1
        await ledger.close()

    asyncio.run(story())


def test_what_never_left_is_released_with_its_evidence_kept(directory: Path) -> None:
    async def story() -> None:
        ledger = await new_ledger(directory, 1)
        [run] = await claim(ledger)
        run.throttled, run.error_code = 2, "ThrottlingException"
        ledger.not_sent(run)
        ledger.unclaim(run)
        await ledger.writer.commit()
        assert rows(directory, "SELECT class FROM attempts") == [("not_sent",)]
        assert ledger.reader.outcomes() == {Outcome.NOT_ATTEMPTED: 1}
        [again] = await claim(ledger)
        assert (again.number, again.throttled, again.tainted) == (2, 2, False)
        await ledger.close()

    asyncio.run(story())


def test_a_tainted_run_is_never_told_as_not_attempted(directory: Path) -> None:
    async def story() -> None:
        ledger = await new_ledger(directory, 1)
        [run] = await claim(ledger)
        run.tainted, run.requested_at, run.attempts = True, NOW, 1
        ledger.answered(run, answer("ambiguous", "ReadTimeoutError"))
        ledger.unclaim(run)
        await ledger.writer.commit()
        assert ledger.reader.outcomes() == {Outcome.UNKNOWN: 1}
        await ledger.close()

    asyncio.run(story())


def test_an_answer_is_the_audit_trail_of_its_call(directory: Path) -> None:
    async def story() -> None:
        ledger = await new_ledger(directory, 1)
        [run] = await claim(ledger)
        ledger.answered(run, answer("throttle", "ThrottlingException"))
        run.number += 1
        await ledger.intend(run, NOW + timedelta(seconds=1))
        accept(ledger, run)
        ledger.settle(1, Outcome.STOPPED, a_run(1, Status.STOPPED), at=NOW)
        await ledger.close()

    asyncio.run(story())
    at = NOW.timestamp()
    assert rows(directory, "SELECT * FROM attempts ORDER BY number") == [
        (1, 1, at, at, at, "throttle", "ThrottlingException", 400, "req"),
        (1, 2, at + 1, at, at, "accepted", None, 200, "req"),
    ]
    with reading(directory) as reader:
        [row] = reader.runs()
        assert (row.outcome, row.status_after, row.confirmed_at, row.requested_at) == ("stopped", "STOPPED", NOW, NOW)


def test_calls_are_counted_by_the_second(directory: Path) -> None:
    async def story() -> None:
        ledger = await new_ledger(directory, 0)
        ledger.count_calls([(1, "CancelMLTaskRun", 7, 10, 1, 2, 1, 5.0), (1, "CancelMLTaskRun", 7, 5, 0, 0, 0, 6.0)])
        ledger.count_calls([(1, "CancelMLTaskRun", 8, 1, 0, 0, 0, None)])
        await ledger.close()

    asyncio.run(story())
    with reading(directory) as reader:
        assert [(c.second, c.calls, c.throttled, c.failed, c.retries, c.rps) for c in reader.calls()] == [
            (7, 15, 1, 2, 1, 6.0),
            (8, 1, 0, 0, 0, None),
        ]
        assert reader.call_totals() == {"CancelMLTaskRun": (16, 1, 2, 1)}


def test_the_first_trouble_of_a_target_stays(directory: Path) -> None:
    async def story() -> None:
        ledger = await new_ledger(directory, 0)
        ledger.set_listed(1, transforms=3, active_runs=2, complete=True)
        ledger.set_target_error(1, "ExpiredToken", "first")
        ledger.set_target_error(1, "NoProgress", "second")
        ledger.add_transforms(1, [Transform("tfm-1", name="a")])
        await ledger.close()

    asyncio.run(story())
    with reading(directory) as reader:
        [row] = reader.targets()
        assert (row.error_code, row.error_message, row.complete, row.transforms) == ("ExpiredToken", "first", False, 3)


# One process at a time

HOLDS = """
import asyncio, sys
from pathlib import Path
from batch_cancel.ledger.ledger import Ledger

async def hold():
    ledger = Ledger.open(Path(sys.argv[1]))
    print("open", flush=True)
    sys.stdin.read()
    await ledger.close()

asyncio.run(hold())
"""


def test_a_ledger_in_use_by_another_process_is_refused_and_read_all_the_same(directory: Path) -> None:
    async def make() -> None:
        await (await new_ledger(directory, 1)).close()

    asyncio.run(make())
    with subprocess.Popen(
        [sys.executable, "-c", HOLDS, str(directory)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == b"open\n"
        for take in (Ledger.open, Ledger.create):
            with pytest.raises(LedgerError, match="is in use by another batch-cancel"):
                take(directory)
        with reading(directory) as reader:
            assert reader.count("pending") == 1
        other.communicate(b"")
    asyncio.run(Ledger.open(directory).close())


def test_who_only_looks_whether_a_ledger_is_in_use_keeps_nobody_from_opening_it(directory: Path) -> None:
    async def make() -> None:
        await (await new_ledger(directory, 1)).close()

    asyncio.run(make())
    with (directory / LOCK_NAME).open() as lock:
        fcntl.flock(lock, fcntl.LOCK_SH)  # as in_use does, but longer
        timer = threading.Timer(0.03, fcntl.flock, (lock, fcntl.LOCK_UN))
        timer.start()
        ledger = Ledger.open(directory)
        assert in_use(directory)
        timer.join()
    asyncio.run(ledger.close())
    assert not in_use(directory)


def test_a_directory_with_a_ledger_is_not_written_over_and_one_without_not_opened(directory: Path) -> None:
    async def make() -> None:
        await (await new_ledger(directory, 1)).close()

    with pytest.raises(LedgerError, match="holds no ledger"):
        Ledger.open(directory)
    asyncio.run(make())
    with pytest.raises(LedgerError, match="already holds a ledger"):
        Ledger.create(directory)
    with reading(directory) as reader:
        assert reader.count("pending") == 1
    asyncio.run(Ledger.open(directory).close())  # the refused one left no lock behind


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(LedgerError, match=r"cannot make the run directory .*file/sweep"):
        Ledger.create(tmp_path / "file" / "sweep")


def test_a_ledger_in_which_nothing_happened_can_be_taken_back(directory: Path) -> None:
    async def story() -> None:
        (await new_ledger(directory, 1)).discard()

    for _ in range(2):
        asyncio.run(story())
        assert not directory.exists()


# After a crash

DIES = """
import asyncio, os, signal, sys
from pathlib import Path
from batch_cancel.core.outcome import Outcome
from batch_cancel.core.task_run import Status
from tests.ledger.sweeps import NOW, a_run, accept, answer, claim, new_ledger

async def story():
    ledger = await new_ledger(Path(sys.argv[1]), 6)
    runs = await claim(ledger, 5)
    accept(ledger, runs[0])
    ledger.settle(1, Outcome.STOPPED, a_run(1, Status.STOPPED), at=NOW)
    accept(ledger, runs[1])
    runs[2].tainted, runs[2].requested_at = True, NOW
    ledger.answered(runs[2], answer("ambiguous", "ReadTimeoutError"))
    await ledger.writer.commit()
    accept(ledger, runs[3])  # posted, and the power goes before it is written
    os.kill(os.getpid(), signal.SIGKILL)

asyncio.run(story())
"""


def test_after_a_kill_what_was_told_as_written_is_there_and_an_intent_without_an_answer_is_lost(
    directory: Path,
) -> None:
    killed = subprocess.run([sys.executable, "-c", DIES, str(directory)], check=False, cwd=ROOT)
    assert killed.returncode == -9
    with reading(directory) as reader:  # a report of what is there, before anything is mended
        assert reader.outcomes() == {
            Outcome.STOPPED: 1,
            Outcome.STOPPING: 1,
            Outcome.UNKNOWN: 3,  # claimed: their requests may have left
            Outcome.NOT_ATTEMPTED: 1,
        }

    async def resume() -> None:
        ledger = Ledger.open(directory)
        await ledger.reopen()
        await ledger.close()

    asyncio.run(resume())
    assert rows(directory, "SELECT id, state, outcome, tainted, accepted, attempts FROM runs ORDER BY id") == [
        (1, "done", "stopped", 0, 1, 1),
        (2, "asked", None, 0, 1, 1),
        (3, "pending", None, 1, 0, 0),
        (4, "pending", None, 1, 0, 1),
        (5, "pending", None, 1, 0, 1),
        (6, "pending", None, 0, 0, 0),
    ]
    assert rows(directory, "SELECT run_id, class FROM attempts ORDER BY run_id") == [
        (1, "accepted"),
        (2, "accepted"),
        (3, "ambiguous"),
        (4, "lost"),
        (5, "lost"),
    ]
    assert rows(directory, "SELECT requested_at FROM runs WHERE id = 4") == [(NOW.timestamp(),)]

    before = rows(directory, "SELECT * FROM runs")
    asyncio.run(resume())
    assert rows(directory, "SELECT * FROM runs") == before  # once more changes nothing


COMMITS = """
import asyncio, sys
from pathlib import Path
from tests.ledger.sweeps import accept, claim, new_ledger

async def story():
    ledger = await new_ledger(Path(sys.argv[1]), 500)
    while runs := await claim(ledger, 5):
        print("claimed", *(run.id for run in runs), flush=True)
        for run in runs:
            accept(ledger, run)
        await ledger.writer.commit()
        print("accepted", *(run.id for run in runs), flush=True)

asyncio.run(story())
"""


@pytest.mark.parametrize("lines", [1, 2, 7, 40])
def test_a_process_killed_at_any_moment_has_on_disk_all_that_it_said(directory: Path, lines: int) -> None:
    said: dict[int, str] = {}
    with subprocess.Popen([sys.executable, "-c", COMMITS, str(directory)], stdout=subprocess.PIPE, cwd=ROOT) as it:
        assert it.stdout is not None
        for number, line in enumerate(it.stdout):
            if number == lines:
                it.kill()  # and what is still in the pipe was said before
            word, *ids = line.decode().split()
            said.update(dict.fromkeys(map(int, ids), word))
    on_disk = {row[0]: row[1] for row in rows(directory, "SELECT run_id, coalesce(class, 'claimed') FROM attempts")}
    assert len(said) >= 5
    for run_id, word in said.items():
        assert on_disk[run_id] in ((word, "accepted") if word == "claimed" else (word,))
    assert rows(directory, "PRAGMA quick_check") == [("ok",)]


def test_a_crash_leaves_a_ledger_that_opens_from_a_copy(directory: Path, tmp_path: Path) -> None:
    """The write-ahead log goes with the file: a run directory that is copied whole is whole."""

    async def story() -> None:
        ledger = await new_ledger(directory, 3)
        await claim(ledger)
        copy = tmp_path / "copy"
        copy.mkdir()
        for suffix in ("", "-wal"):
            (copy / (LEDGER_NAME + suffix)).write_bytes((directory / (LEDGER_NAME + suffix)).read_bytes())
        resumed = Ledger.open(copy)
        await resumed.reopen()
        assert [row.tainted for row in resumed.reader.pending(1, 10)] == [True] * 3
        await resumed.close()
        await ledger.close()

    asyncio.run(story())


def test_what_was_refused_or_not_known_is_looked_at_again_on_resume_and_what_is_confirmed_never(
    directory: Path,
) -> None:
    fates = list(Outcome)

    async def story() -> None:
        ledger = await new_ledger(directory, len(fates))
        for run, outcome in zip(await claim(ledger), fates, strict=True):
            run.attempts, run.requested_at = 1, NOW
            ledger.answered(run, answer("invalid", "X"))
            ledger.settle(run.id, outcome, None, at=NOW)
        await ledger.reopen()
        states = dict(
            zip(fates, (row[0] for row in rows(directory, "SELECT state FROM runs ORDER BY id")), strict=True)
        )
        assert {outcome for outcome, state in states.items() if state == "pending"} == {
            Outcome.DENIED,
            Outcome.FAILED,
            Outcome.UNKNOWN,
        }
        assert {outcome for outcome, state in states.items() if state == "asked"} == {Outcome.STUCK_STOPPING}
        await ledger.close()

    asyncio.run(story())


def test_on_resume_a_run_of_which_nobody_could_say_whether_it_was_accepted_is_pending_and_tainted(
    directory: Path,
) -> None:
    async def story() -> None:
        ledger = await new_ledger(directory, 3)
        settled, asked, accepted = await claim(ledger)
        for run in (settled, asked, accepted):
            run.attempts, run.requested_at, run.tainted, run.clock_offset = 1, NOW, True, -5.0
            ledger.answered(run, answer("ambiguous", "ReadTimeoutError"))
            ledger.asked(run, accepted=run is accepted, refusal="transient", status=None)
        ledger.settle(settled.id, Outcome.UNKNOWN, None, at=None)
        ledger.settle(accepted.id, Outcome.UNKNOWN, None, at=None)
        await ledger.reopen()
        left = ledger.reader.pending(1, 10)
        assert [(row.id, row.tainted, row.requested_at, row.clock_offset) for row in left] == [
            (settled.id, True, NOW, -5.0),
            (asked.id, True, NOW, -5.0),
        ]
        assert [(row.id, row.clock_offset) for row in ledger.reader.asked(1, "tfm-1")] == [(accepted.id, -5.0)]
        await ledger.close()

    asyncio.run(story())


def test_on_resume_a_run_that_was_answered_with_a_yes_and_could_not_be_read_then_is_in_doubt(directory: Path) -> None:
    """A service that knows it to have ended says yes as well: told as not attempted later, that would be untrue."""

    async def story() -> None:
        ledger = await new_ledger(directory, 2)
        taken, refused = await claim(ledger)
        for run, word in ((taken, "accepted"), (refused, "invalid")):
            run.attempts, run.requested_at, run.clock_offset = 1, NOW, -5.0
            ledger.answered(run, answer(word))
            ledger.asked(run, accepted=False, refusal=None, status=None)
            ledger.settle(run.id, Outcome.UNKNOWN, None, at=None)
        await ledger.reopen()
        assert [(row.id, row.tainted, row.requested_at, row.clock_offset) for row in ledger.reader.pending(1, 10)] == [
            (taken.id, True, NOW, -5.0),
            (refused.id, False, None, None),
        ]
        await ledger.close()

    asyncio.run(story())


def test_what_is_known_of_a_target_s_clock_is_kept(directory: Path) -> None:
    async def story() -> None:
        ledger = await new_ledger(directory, 1)
        assert ledger.reader.clock_offset(1) is None
        ledger.set_clock_offset(1, -600.5)
        await ledger.writer.commit()
        assert ledger.reader.clock_offset(1) == -600.5
        await ledger.close()

    asyncio.run(story())


def test_a_ledger_of_the_first_version_can_be_gone_on_with(directory: Path) -> None:
    """Begun before clocks were compared, and with a column for tags."""

    async def begin() -> None:
        await (await new_ledger(directory, 2)).close()

    asyncio.run(begin())
    with contextlib.closing(sqlite3.connect(directory / LEDGER_NAME)) as connection:
        for table in ("runs", "targets"):
            connection.execute(f"ALTER TABLE {table} DROP COLUMN clock_offset")
        connection.execute("ALTER TABLE transforms ADD COLUMN tags TEXT")
        connection.execute("PRAGMA user_version = 1")
        connection.commit()

    async def resume() -> None:
        ledger = Ledger.open(directory)
        await ledger.reopen()
        assert [row.clock_offset for row in ledger.reader.pending(1, 10)] == [None, None]
        ledger.add_transforms(1, [Transform("tfm-1", name="dedupe", glue_version="2.0")])
        await ledger.writer.commit()
        assert [(row.transform_name, row.glue_version) for row in ledger.reader.runs()] == [("dedupe", "2.0")] * 2
        await ledger.close()

    asyncio.run(resume())


def test_a_decision_holds_only_for_a_run_that_nobody_has_claimed(directory: Path) -> None:
    async def story() -> None:
        ledger = await new_ledger(directory, 2)
        await claim(ledger, 1)
        for run_id in (1, 2):
            seen = TaskRun("tfm-1", f"run-{run_id}", Status.STOPPED)
            ledger.decide(run_id, seen, outcome=Outcome.ALREADY_FINISHED)
        await ledger.writer.commit()
        assert rows(directory, "SELECT state, status_after FROM runs") == [("claimed", None), ("done", "STOPPED")]
        await ledger.close()

    asyncio.run(story())
