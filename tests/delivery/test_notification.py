"""The words of a notification: those of the reports, as they are to be read in this sweep."""

from pathlib import Path

from batch_cancel.core.outcome import Outcome
from batch_cancel.delivery.notification import messages
from batch_cancel.ledger.ledger import Ledger, NewRun
from batch_cancel.report.files import opened
from tests.report.ledgers import Fill, a_run, add_target, build, cancel, set_facts


def mail(directory: Path, fill: Fill) -> list[str]:
    """The lines that people get."""
    with opened(build(directory, fill)) as document:
        told = messages(document, 1, directory=directory, reports=None, before=None, faults=[])
    return told["default"].splitlines()


def test_an_audit_is_not_said_to_have_requested_anything(tmp_path: Path) -> None:
    async def fill(ledger: Ledger) -> None:
        await set_facts(ledger, mode="dry-run")
        target = await add_target(ledger)
        await ledger.add_runs(target, [NewRun(a_run("tfm-1", "tsk-1"), outcome=Outcome.UNKNOWN)])

    lines = mail(tmp_path / "run", fill)
    assert "1 unknown: it could not be read, so whether it is still running is not known" in lines
    assert not any("request" in line for line in lines)


def test_outcomes_are_words_and_not_field_names(tmp_path: Path) -> None:
    async def fill(ledger: Ledger) -> None:
        await set_facts(ledger)
        await cancel(ledger, await add_target(ledger), a_run("tfm-1", "tsk-1"), Outcome.STUCK_STOPPING)

    lines = mail(tmp_path / "run", fill)
    assert "1 stuck stopping: Glue accepted, but its end was not seen in time" in lines


def test_what_only_started_meanwhile_is_not_said_to_have_come_back(tmp_path: Path) -> None:
    async def fill(ledger: Ledger) -> None:
        await set_facts(ledger, sweeps=2, source={"kind": "discovery"})
        target = await add_target(ledger)
        run = NewRun(a_run("tfm-1", "tsk-1"), outcome=Outcome.STOPPED)
        await ledger.add_runs(target, [run], sweep_number=2)

    lines = mail(tmp_path / "run", fill)
    assert "What started meanwhile" in lines
    assert "What came back" not in lines
