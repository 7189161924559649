"""Bugs planted in a copy of the package: a checker that lets one of them pass proves nothing.

``python -m tests.sim.planted`` tries all of them. Each is a small change of text; where the code no longer holds the
text that it changes, that is an error: a bug that is not planted would never be caught.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
PACKAGE = "batch_cancel"
SEEDS = 1500
"""So many histories have to be enough."""


@dataclass(frozen=True, slots=True)
class Edit:
    """One change of text; ``file`` is within the package."""

    file: str
    old: str
    new: str
    times: int = 1


@dataclass(frozen=True, slots=True)
class Plant:
    """One bug.

    Attributes:
        near: a seed from which on it was caught soon when it was planted last.
        quick: it is caught within a second or two, and hunted whenever the tests run.
        rare: thousands of histories may pass before one meets it; hunted only when asked for.
    """

    name: str
    edits: tuple[Edit, ...]
    near: int = 0
    quick: bool = False
    rare: bool = False


@dataclass(frozen=True, slots=True)
class Catch:
    """What came of one."""

    plant: Plant
    caught: bool
    seconds: float
    told: str


def _one(name: str, file: str, old: str, new: str, *, near: int = 0, quick: bool = False, rare: bool = False) -> Plant:
    return Plant(name, (Edit(file, old, new),), near, quick, rare)


CANCELLER = "engine/canceller.py"
VERIFIER = "engine/verifier.py"
DISCOVERY = "engine/discovery.py"
READING = "engine/reading.py"
TARGET = "engine/target_work.py"
PACED = "glue/paced.py"
PACE = "glue/pace.py"
LEDGER = "ledger/ledger.py"
SWEEP = "sweep.py"
ENDING = "engine/ending.py"

PLANTS = (
    _one(
        "an ambiguous call is tried again without a reading",
        CANCELLER,
        "if run.tainted and (reading := await self._read_back(run)) is not None:",
        "if False and (reading := await self._read_back(run)) is not None:",
        quick=True,
    ),
    _one(
        "requests leave before the intents of their claim are committed",
        LEDGER,
        "        await self.writer.commit(statements)\n",
        "        for sql, parameters in statements:\n            self.writer.post(sql, *parameters)\n",
        quick=True,
    ),
    _one(
        "a further attempt's intent is posted, not committed",
        LEDGER,
        "        await self.writer.commit([(ADD_INTENT, (run.id, run.number, at.timestamp()))])\n",
        "        self.writer.post(ADD_INTENT, run.id, run.number, at.timestamp())\n",
        quick=True,
    ),
    _one(
        "a pacer's timer is not set again while others wait",
        PACE,
        "            self._give(self._rate.reserve(now))\n        self._arm(now)\n",
        "            self._give(self._rate.reserve(now))\n",
    ),
    _one(
        "a place in flight is kept after a failed call",
        PACED,
        "        finally:\n            place.leave()\n",
        "        except Stopped:\n            place.leave()\n            raise\n        finally:\n            pass\n",
    ),
    _one(
        "RUNNING is listed before STARTING",
        DISCOVERY,
        "for status in ACTIVE_STATUSES:",
        "for status in reversed(ACTIVE_STATUSES):",
        quick=True,
    ),
    _one(
        "a throttle counts as a failed attempt",
        PACED,
        "                self.throttles += 1\n",
        "                self.throttles += 1\n                self.failures += 1\n",
        near=76,
    ),
    _one(
        "the accepting answer's status is the verdict",
        CANCELLER,
        "        self._asked(run, accepted=accepted, status=answer.status)\n",
        "        self._ledger.refuse(run, Outcome.STOPPED)\n",
        quick=True,
    ),
    _one(
        "an end before our request is taken for ours",
        "core/outcome.py",
        "    return ended_at < asked_at - tolerance\n",
        "    return False\n",
        near=89,
    ),
    _one(
        "not found is taken at its word",
        CANCELLER,
        "        self._asked(run, accepted=False, refusal=failure.kind)\n",
        "        if failure.kind is ErrorKind.NOT_FOUND:\n"
        "            self._ledger.refuse(run, Outcome.NOT_FOUND)\n"
        "            return\n"
        "        self._asked(run, accepted=False, refusal=failure.kind)\n",
        quick=True,
    ),
    _one(
        "invalid is taken at its word",
        CANCELLER,
        "        self._asked(run, accepted=False, refusal=failure.kind)\n",
        "        if failure.kind is ErrorKind.INVALID:\n"
        "            self._ledger.refuse(run, Outcome.INVALID)\n"
        "            return\n"
        "        self._asked(run, accepted=False, refusal=failure.kind)\n",
        near=20,
    ),
    Plant(
        "a dry run cancels",
        (
            Edit(SWEEP, "service.reader(target) if dry_run else service.connect(target)", "service.connect(target)"),
            Edit(SWEEP, "        if settings.dry_run:\n            return None\n", ""),
            Edit(TARGET, "dry_run=settings.dry_run,", "dry_run=False,", times=2),
        ),
        quick=True,
    ),
    _one(
        "resume asks for stopped runs again",
        LEDGER,
        "WHERE state = 'done' AND outcome IN ('denied', 'failed')",
        "WHERE state = 'done' AND outcome IN ('denied', 'failed', 'stopped')",
        quick=True,
    ),
    _one(
        "resume does not taint what was under way",
        LEDGER,
        "UPDATE runs SET tainted = 1, attempts = attempts + 1,",
        "UPDATE runs SET attempts = attempts + 1,",
        quick=True,
    ),
    _one(
        "duplicates are not dropped",
        "ledger/schema.py",
        "    UNIQUE (target_id, transform_id, task_run_id),\n",
        "",
        quick=True,
    ),
    _one(
        "protection is forgotten",
        "core/selection.py",
        "        _protected_by(transform, protection)\n        or _transform_left_out_by",
        "        _transform_left_out_by",
        quick=True,
    ),
    _one(
        "the cap is looked at when the first requests have left",
        SWEEP,
        "return settings.consent.yes and not settings.dry_run and not counted",
        "return settings.consent.yes and not settings.dry_run",
    ),
    _one(
        "the drain has no end",
        SWEEP,
        "await asyncio.wait({steps}, timeout=DRAIN_SECONDS)",
        "await asyncio.wait({steps})",
        near=118,
    ),
    _one(
        "calls in flight are cut off by a stop",
        SWEEP,
        "await asyncio.wait({steps}, timeout=DRAIN_SECONDS)",
        "await asyncio.wait({steps}, timeout=0.01)",
        near=118,
    ),
    _one(
        "a cancelled task tries again",
        PACED,
        "            except TimeoutError:\n                message",
        "            except (TimeoutError, asyncio.CancelledError):\n                message",
        near=53,
    ),
    _one(
        "a listing that failed is an empty one",
        DISCOVERY,
        "is not ErrorKind.NOT_FOUND:\n                    self._listing.failed(failure)\n",
        "is not ErrorKind.NOT_FOUND:\n                    pass\n",
        near=36,
    ),
    _one("only the first page is read", READING, "        token = page.next_token\n", "        token = None\n"),
    _one(
        "a stop does not wake those who wait",
        "stop.py",
        "            task.cancel()\n        for child",
        "            pass\n        for child",
        near=45,
    ),
    _one(
        "a stop is not seen by those who come later",
        "stop.py",
        "        self.check()\n        task = asyncio.current_task()\n",
        "        task = asyncio.current_task()\n",
        near=30,
    ),
    _one(
        "the wait for the end has no end",
        VERIFIER,
        "        return self._waited_seconds(run, now, accepted=accepted) >= self._timeout_seconds\n",
        "        return False\n",
    ),
    _one(
        "the wait for the end is cut short",
        VERIFIER,
        "        return self._waited_seconds(run, now, accepted=accepted) >= self._timeout_seconds\n",
        "        return self._waited_seconds(run, now, accepted=accepted) >= self._timeout_seconds / 2\n",
    ),
    _one(
        "a 200 without the echo is accepted",
        CANCELLER,
        "if (answer.transform_id, answer.task_run_id) != run.key or answer.status is None:",
        "if answer.request_id is None:",
        near=89,
    ),
    _one(
        "an ambiguous answer leaves no taint",
        CANCELLER,
        "        run.tainted = run.tainted or failure.ambiguous\n",
        "",
        near=51,
    ),
    _one(
        "what was under way at a crash was not attempted",
        "ledger/reader.py",
        "WHEN r.state = 'pending' AND r.tainted = 0 THEN",
        "WHEN r.state IN ('pending', 'claimed') AND r.tainted = 0 THEN",
        quick=True,
    ),
    _one(
        "one attempt too many",
        PACED,
        "        return self.failures >= self.line.max_attempts\n",
        "        return self.failures > self.line.max_attempts\n",
    ),
    _one(
        "max-errors stops nothing",
        SWEEP,
        "            self._cancelling.request(StopCause.MAX_ERRORS)\n",
        "            pass\n",
        near=3200,
    ),
    _one(
        "the confirmed count is not compared",
        SWEEP,
        "expected is not None and expected != to_cancel:",
        "expected is not None and expected < 0:",
    ),
    _one(
        "exit code 0 whatever happened",
        ENDING,
        "    return Result(1 if not_done else 0)\n",
        "    return Result(0)\n",
    ),
    _one(
        "a write that failed leaves its waiters waiting",
        "ledger/writer.py",
        "                waiter.set_exception(self.failure)\n",
        "                pass\n",
    ),
    _one(
        "a write that failed is passed over",
        "ledger/writer.py",
        "                    self._lose(error, waiters)\n                    return\n",
        "                    del error\n",
    ),
    _one(
        "a listing that lags is believed that a run goes on",
        READING,
        "if key not in doubted or not _goes_on(run))",
        "if key)",
        near=183,
    ),
    _one(
        "what could not be looked at before the decision is asked by resume",
        SWEEP,
        "(works := self._unlisted() if decided else self._works)",
        "(works := [] if decided else self._works)",
        rare=True,
    ),
    _one(
        "resume forgets targets that were never entered",
        SWEEP,
        'if not self._listed and "left_out" not in facts:',
        "if False:",
        near=289,
    ),
    _one(
        "a sweep until clear waits for a target that was given up",
        TARGET,
        "if self._verifier is None or self.stop.cause is not None:",
        "if self._verifier is None:",
        near=1893,
    ),
    _one(
        "what comes back is asked without being read",
        LEDGER,
        "        tainted = max(tainted, accepted, coalesce(runs.outcome, '') IN ('stopped', 'finished_first')),\n",
        "        tainted = 0, requested_at = NULL,\n",
        near=198,
    ),
    _one(
        "an intent that a stop overtook stays open",
        CANCELLER,
        "        except Stopped:\n            self._let_go(run)\n            self._ledger.unclaim(run)\n",
        "        except Stopped:\n            self._ledger.unclaim(run)\n",
        rare=True,
    ),
    _one(
        "the deadline strikes when all is done",
        ENDING,
        "        case StopCause.DEADLINE | StopCause.MAX_ERRORS if _work_is_left(settings, reader):\n",
        "        case StopCause.DEADLINE | StopCause.MAX_ERRORS:\n",
        near=33,
    ),
)


def plant(bug: Plant, directory: Path) -> None:
    """Copy the package into a directory, with the bug in it.

    Raises:
        ValueError: the code does not hold the text that the bug changes.
    """
    changed = edited(bug)
    package = directory / PACKAGE
    shutil.copytree(ROOT / PACKAGE, package, ignore=shutil.ignore_patterns("__pycache__"))
    for file, text in changed.items():
        (package / file).write_text(text, encoding="utf-8")
    (directory / "tests").symlink_to(ROOT / "tests")


def edited(bug: Plant) -> dict[str, str]:
    """The files that the bug changes, with the bug in them.

    Raises:
        ValueError: the code does not hold the text that the bug changes.
    """
    changed: dict[str, str] = {}
    for edit in bug.edits:
        text = changed.get(edit.file) or (ROOT / PACKAGE / edit.file).read_text(encoding="utf-8")
        if text.count(edit.old) != edit.times:
            raise ValueError(
                f"{bug.name}: {edit.file} holds {text.count(edit.old)} times what the bug changes, not {edit.times}:"
                f" mend tests/sim/planted.py\n{edit.old}"
            )
        changed[edit.file] = text.replace(edit.old, edit.new)
    return changed


def hunt(bug: Plant, *, seeds: int = SEEDS) -> Catch:
    """Plant a bug and play histories until one is violated."""
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="batch-cancel-plant-") as name:
        directory = Path(name)
        plant(bug, directory)
        command = [sys.executable, "-m", "tests.sim", "--jobs", "1", "--first", "--seeds", str(seeds)]
        environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
        environment["PYTHONDONTWRITEBYTECODE"] = "1"  # tests/ is shared
        done = subprocess.run(
            [*command, "--start", str(bug.near)],
            cwd=directory,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
    told = done.stdout + done.stderr[-2000:]
    # A bug that breaks the simulation itself, rather than a promise, is planted badly.
    caught = done.returncode == 1 and "seed " in done.stdout and "the simulation broke" not in done.stdout
    return Catch(bug, caught, time.monotonic() - began, told)


def hunt_all(bugs: Iterable[Plant], jobs: int = 2) -> Iterator[Catch]:
    """All of them, some side by side."""
    with ThreadPoolExecutor(jobs) as pool:
        yield from pool.map(hunt, bugs)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.sim.planted", description=__doc__)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--only", help="bugs whose name holds this")
    parser.add_argument("--rare", action="store_true", help="those too that thousands of histories may not meet")
    options = parser.parse_args()
    bugs = [bug for bug in PLANTS if (options.rare or not bug.rare) and (not options.only or options.only in bug.name)]
    missed = 0
    for catch in hunt_all(bugs, options.jobs):
        missed += not catch.caught
        lines = catch.told.strip().splitlines()
        seed = next((line.split(":")[0] for line in lines if line.startswith("seed ")), "")
        rule = next(
            (line.strip()[:110] for line in lines if line.startswith("  ")), "" if catch.caught else catch.told[-600:]
        )
        verdict = "caught" if catch.caught else "MISSED"
        sys.stdout.write(f"{verdict} {catch.seconds:5.1f} s  {catch.plant.name}: {seed}: {rule}\n")
        sys.stdout.flush()
    sys.stdout.write(f"{len(bugs) - missed} of {len(bugs)} planted bugs caught\n")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
