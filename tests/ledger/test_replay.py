"""Any history of calls, answers, crashes and resumes, beside a model of a few lines."""

import asyncio
import itertools
import tempfile
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from batch_cancel.core.errors import ErrorKind
from batch_cancel.core.outcome import Evidence, Outcome, cut_short
from batch_cancel.core.task_run import Status
from batch_cancel.ledger.ledger import ClaimedRun, Ledger
from tests.ledger.sweeps import NOW, a_run, accept, answer, claim, new_ledger, reading

RUNS = 3


@pytest.mark.parametrize(
    ("accepted", "tainted", "refusal"), list(itertools.product([False, True], [False, True], [None, *ErrorKind]))
)
def test_the_reader_says_of_an_open_run_what_the_rules_say(
    tmp_path: Path, accepted: bool, tainted: bool, refusal: ErrorKind | None
) -> None:
    async def story() -> Outcome:
        ledger = await new_ledger(tmp_path / "sweep", 1)
        [run] = await claim(ledger)
        run.tainted, run.requested_at, run.attempts = tainted, NOW, 1
        ledger.answered(run, answer("accepted" if accepted else "ambiguous"))
        ledger.asked(run, accepted=accepted, refusal=refusal.value if refusal else None, status=None)
        await ledger.writer.commit()
        [outcome] = ledger.reader.outcomes()
        assert [row.outcome for row in ledger.reader.runs(outcome)] == [outcome]
        await ledger.close()
        return outcome

    assert asyncio.run(story()) is cut_short(Evidence(NOW, accepted, tainted, refusal))


@dataclass
class Model:
    """What must be known of a run: the truth beside which the ledger is held."""

    state: str = "pending"
    intent_open: bool = False
    calls: int = 0
    tainted: bool = False
    accepted: bool = False
    outcome: Outcome | None = None

    def crash(self) -> None:
        if self.intent_open:
            self.tainted, self.intent_open = True, False
        if self.state == "claimed":
            self.state = "pending"
        if self.outcome in (Outcome.FAILED, Outcome.DENIED):
            self.state, self.outcome = "pending", None
        if self.outcome in (Outcome.UNKNOWN, Outcome.STUCK_STOPPING):
            self.state, self.outcome = "asked", None

    def verdict(self) -> Outcome:
        if self.outcome is not None:
            return self.outcome
        if self.state == "asked":
            return Outcome.STOPPING if self.accepted else Outcome.UNKNOWN
        return Outcome.NOT_ATTEMPTED if self.state == "pending" and not self.tainted else Outcome.UNKNOWN


class World:
    """A ledger and the model, both told of the same events; an event that cannot happen now does not."""

    def __init__(self, ledger: Ledger, directory: Path) -> None:
        self.ledger = _in_a_hurry(ledger)
        self.directory = directory
        self.models = {number: Model() for number in range(1, RUNS + 1)}
        self.claimed: dict[int, ClaimedRun] = {}

    async def happens(self, event: str, number: int, outcome: Outcome) -> None:
        model, run = self.models[number], self.claimed.get(number)
        if event == "crash":
            await self._crash()
        elif event == "claim":
            for each in await claim(self.ledger):
                self.claimed[each.id] = each
                known = self.models[each.id]
                known.state, known.intent_open, known.calls = "claimed", True, known.calls + 1
        elif event == "settle" and model.state == "asked":
            self.ledger.settle(number, outcome, a_run(number, Status.STOPPED), at=NOW)
            model.state, model.outcome = "done", outcome
        elif run is not None and model.state == "claimed":
            await self._of_claimed(event, run, model)

    async def _of_claimed(self, event: str, run: ClaimedRun, model: Model) -> None:
        if event in ("throttle", "ambiguous") and model.intent_open:
            run.throttled += event == "throttle"
            run.tainted = run.tainted or event == "ambiguous"
            self.ledger.answered(run, answer(event, "Code"))
            model.tainted, model.intent_open = run.tainted, False
        elif event == "intend" and not model.intent_open:
            run.number += 1
            await self.ledger.intend(run, NOW)
            model.intent_open, model.calls = True, model.calls + 1
        elif event == "accept" and model.intent_open:
            accept(self.ledger, run)
            model.state, model.accepted, model.intent_open = "asked", True, False
        elif event == "let go":
            if model.intent_open:
                self.ledger.not_sent(run)
            self.ledger.unclaim(run)
            model.state, model.intent_open = "pending", False

    async def _crash(self) -> None:
        await self.ledger.writer.commit()
        await self.ledger.close()  # how a kill leaves it is told in test_ledger.py
        self.ledger = _in_a_hurry(Ledger.open(self.directory))
        await self.ledger.reopen()
        self.claimed.clear()
        for model in self.models.values():
            model.crash()

    async def check(self) -> None:
        await self.ledger.writer.commit()
        with reading(self.directory) as reader:
            rows = {row.id: row for row in reader.runs()}
            pending = {row.id: row for row in reader.pending(1, 100)}
        assert {number: row.outcome for number, row in rows.items()} == {
            number: model.verdict() for number, model in self.models.items()
        }
        assert set(pending) == {number for number, model in self.models.items() if model.state == "pending"}
        for number, row in pending.items():
            assert (row.wire_calls, row.tainted) == (self.models[number].calls, self.models[number].tainted)


def _in_a_hurry(ledger: Ledger) -> Ledger:
    """What is written where is not this test's question, and the disk is slow."""
    ledger._connection.execute("PRAGMA synchronous = OFF")
    return ledger


EVENTS = ("claim", "throttle", "ambiguous", "intend", "accept", "let go", "settle", "crash")
VERDICTS = (Outcome.STOPPED, Outcome.FINISHED_FIRST, Outcome.STUCK_STOPPING, Outcome.UNKNOWN, Outcome.FAILED)


@settings(deadline=None, max_examples=30)
@given(st.lists(st.tuples(st.sampled_from(EVENTS), st.integers(1, RUNS), st.sampled_from(VERDICTS)), max_size=20))
def test_the_ledger_tells_the_same_as_the_model_after_any_history(history: list[tuple[str, int, Outcome]]) -> None:
    async def story(directory: Path) -> None:
        world = World(await new_ledger(directory, RUNS), directory)
        for event, number, outcome in history:
            await world.happens(event, number, outcome)
            await world.check()
        await world.ledger.close()

    with tempfile.TemporaryDirectory() as directory:
        asyncio.run(story(Path(directory) / "sweep"))
