"""Plays histories: one, or many on several processes."""

import gc
import multiprocessing
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, field

from tests.scratch import scratch
from tests.sim.checker import check
from tests.sim.histories import History, history
from tests.sim.lives import live_through, undisturbed
from tests.sim.story import Story

SEEDS_AT_ONCE = 50
COLLECT_AFTER = 10
"""Histories between two collections of garbage."""


@dataclass(slots=True)
class Tally:
    """What histories held."""

    histories: int = 0
    lives: int = 0
    resumes: int = 0
    calls: int = 0
    cancels: int = 0
    runs: int = 0
    steps: int = 0
    virtual_seconds: float = 0.0
    faults: Counter[str] = field(default_factory=Counter)
    blows: Counter[str] = field(default_factory=Counter)
    endings: Counter[str] = field(default_factory=Counter)
    outcomes: Counter[str] = field(default_factory=Counter)
    violations: dict[int, list[str]] = field(default_factory=dict)

    def take(self, seed: int, told: History, story: Story) -> None:
        """Count one."""
        self.histories += 1
        self.lives += len(story.lives)
        self.calls += len(story.wires)
        self.cancels += sum(len(wires) for wires in story.by_run.values())
        self.faults.update(story.faults)
        for life, trouble in zip(story.lives, told.troubles, strict=False):
            self.resumes += life.resumed
            self.steps += life.steps
            self.endings[life.ending if life.exit_code is None else f"exit code {life.exit_code}"] += 1
            if life.died or life.ledger_failed or life.stop_asked_at is not None:
                self.blows[trouble.blow.value] += 1
            self.virtual_seconds += life.ended - life.began
        last = story.lives[-1].recorded
        if last is not None:
            self.runs += len(last.runs)
            self.outcomes.update(str(row.outcome) for row in last.runs.values())
        if story.violations:
            self.violations[seed] = story.violations

    def add(self, other: "Tally") -> None:
        """Take in what another process counted."""
        for name in ("histories", "lives", "resumes", "calls", "cancels", "runs", "steps", "virtual_seconds"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        for name in ("faults", "blows", "endings", "outcomes", "violations"):
            getattr(self, name).update(getattr(other, name))

    def told(self, seconds: float) -> str:
        """In words."""
        died = sum(count for blow, count in self.blows.items() if blow.startswith("dies"))

        def listed(counts: Counter[str]) -> str:
            return ", ".join(f"{name} {count:,}" for name, count in counts.most_common())

        return (
            f"{self.histories:,} histories in {seconds:.1f} s: {self.lives:,} processes, {self.resumes:,} resumes,"
            f" {died:,} deaths, {self.virtual_seconds / 3600:,.0f} hours, {self.steps:,} steps\n"
            f"calls: {self.calls:,}, of them {self.cancels:,} to cancel; faults and refusals:"
            f" {self.faults.total():,} ({listed(self.faults)})\n"
            f"blows: {listed(self.blows)}\n"
            f"endings: {listed(self.endings)}\n"
            f"runs: {self.runs:,} ({listed(self.outcomes)})\n"
            f"violations: {sum(map(len, self.violations.values())):,} in {len(self.violations):,} histories\n"
        )


def play(seed: int) -> tuple[History, Story]:
    """One history, checked."""
    told = history(seed)
    with scratch() as directory, undisturbed():
        story = live_through(told, directory)
        check(told, story)
    return told, story


def play_some(seeds: range) -> Tally:
    """Histories one after the other."""
    tally = Tally()
    for count, seed in enumerate(seeds, 1):
        try:
            tally.take(seed, *play(seed))
        except Exception as error:  # of the simulation itself; it must not pass for a success
            tally.violations[seed] = [f"the simulation broke: {error!r}"]
        if count % COLLECT_AFTER == 0 or seed % COLLECT_AFTER == 0:
            gc.collect()
    return tally


def play_many(seeds: range, jobs: int, *, at_once: int = SEEDS_AT_ONCE) -> Iterator[Tally]:
    """Histories on several processes; a tally at a time."""
    some = [seeds[at : at + at_once] for at in range(0, len(seeds), at_once)]
    if jobs == 1:
        yield from map(play_some, some)
        return
    with ProcessPoolExecutor(jobs, mp_context=multiprocessing.get_context("spawn")) as pool:
        futures = [pool.submit(play_some, each) for each in some]
        try:
            for future in as_completed(futures):
                yield future.result()
        finally:
            pool.shutdown(cancel_futures=True)
