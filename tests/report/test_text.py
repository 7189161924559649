import io
import re
from pathlib import Path
from typing import Any

import pytest

from batch_cancel.core.outcome import Outcome
from batch_cancel.core.selection import Protection
from batch_cancel.core.task_run import TaskRun, Transform
from batch_cancel.ledger.ledger import Ledger, NewRun
from batch_cancel.ledger.reader import LedgerReader
from batch_cancel.report.story import MEANING
from batch_cancel.report.text import (
    MOST_CAME_BACK,
    MOST_GROUPS,
    MOST_RULES,
    MOST_TROUBLES,
    NARROWEST,
    WIDEST,
    WIDTH,
    text_summary,
)
from batch_cancel.settings import DiscoverySource, Settings, to_json
from tests.report.ledgers import a_run, add_target, build, came_back, every_outcome, set_facts


def summary_of(tmp_path: Path, *outcomes: Outcome, complete: bool = True, rejected: int = 0, **facts: Any) -> str:  # noqa: ANN401
    async def fill(ledger: Ledger) -> None:
        await set_facts(ledger, **facts)
        target = await add_target(ledger, complete=complete)
        runs = [NewRun(a_run("t", str(at)), outcome=outcome) for at, outcome in enumerate(outcomes)]
        await ledger.add_runs(target, runs)
        for line in range(rejected):
            ledger.reject(line, "text", "why")

    reader = LedgerReader(build(tmp_path / "run", fill) / "ledger.db")
    try:
        return text_summary(reader, Path("runs/night's"), [Path("runs/report.html")])
    finally:
        reader.close()


STOPPED, FAILED = Outcome.STOPPED, Outcome.FAILED


def test_runs_that_were_only_accepted_do_not_hide_a_target_that_was_not_read(tmp_path: Path) -> None:
    text = summary_of(tmp_path, Outcome.STOPPING, complete=False, source={"kind": "discovery"})
    assert text.startswith("Not all is stopped: 1 of 1 run is, or may be, still running.")
    assert "There may be more" in " ".join(text.split())


@pytest.mark.parametrize(
    ("outcomes", "facts", "first_line"),
    [
        ([STOPPED], {}, "All stopped: nothing that was asked for is still running."),
        (
            [STOPPED],
            {"sweeps": 3, "clear": True},
            (
                "All stopped: nothing that was asked for is still running."
                " The last of 3 sweeps found nothing more to cancel."
            ),
        ),
        (
            [STOPPED, FAILED],
            {"sweeps": 4, "clear": True},
            (
                "Not all is stopped: 1 of 2 runs is, or may be, still running."
                " The last of 4 sweeps found nothing more to cancel."
            ),
        ),
        ([STOPPED], {"sweeps": 4, "clear": False}, "All stopped: nothing that was asked for is still running."),
        ([], {}, "Nothing to do: no run that was to be cancelled was found."),
        ([Outcome.EXCLUDED], {}, "Nothing to do: no run that was to be cancelled was found."),
        ([STOPPED, FAILED], {}, "Not all is stopped: 1 of 2 runs is, or may be, still running."),
        ([FAILED, Outcome.UNKNOWN], {}, "Not all is stopped: 2 of 2 runs are, or may be, still running."),
        ([Outcome.STOPPING], {}, "Accepted, not yet seen stopped: 1 of 1 run is, or may be, still running."),
        (
            [STOPPED, Outcome.NOT_ATTEMPTED],
            {"stop_cause": "deadline"},
            "Stopped early: its deadline came. 1 of 2 runs is, or may be, still running.",
        ),
        (
            [STOPPED, Outcome.NOT_ATTEMPTED],
            {"finished_at": None},
            "The sweep did not end: it was killed or cut short. 1 of 2 runs is, or may be, still running.",
        ),
        (
            [Outcome.NOT_ATTEMPTED],
            {"stop_cause": "guardrail", "refusal": "max-runs allows 0"},
            "Refused: max-runs allows 0. Nothing was cancelled.",
        ),
        (
            [Outcome.NOT_FOUND],
            {},
            "Nothing is known to be still running, but Glue does not know 1 run.",
        ),
        (
            [Outcome.NOT_FOUND],
            {"exit_code": 0},
            "Nothing had to be stopped: no run that was named is still running.",
        ),
        (
            [Outcome.WOULD_CANCEL],
            {"mode": "dry-run"},
            "Dry run: 1 run in 222222222222/us-east-1 would be cancelled; nothing was.",
        ),
        (
            [Outcome.WOULD_CANCEL],
            {"mode": "dry-run", "refusal": "max-runs allows 0"},
            (
                "Dry run: 1 run in 222222222222/us-east-1 would be cancelled; nothing was."
                " A guardrail would refuse: max-runs allows 0."
            ),
        ),
        (
            [Outcome.WOULD_CANCEL],
            {"mode": "dry-run", "finished_at": None},
            (
                "Dry run: 1 run in 222222222222/us-east-1 would be cancelled; nothing was."
                " It is unfinished: it was killed or cut short."
            ),
        ),
    ],
)
def test_the_first_sentence_says_whether_all_is_stopped(
    tmp_path: Path, outcomes: list[Outcome], facts: dict[str, Any], first_line: str
) -> None:
    assert " ".join(summary_of(tmp_path, *outcomes, **facts).split("\n\n")[0].split()) == first_line


def test_a_target_that_was_not_read_is_never_clean(tmp_path: Path) -> None:
    text = " ".join(summary_of(tmp_path, complete=False).split())
    assert text.startswith("Not complete: 1 target was not read to the end, so what still runs there is not known.")


def test_what_was_not_seen_stopped_is_named_and_what_was_not_asked_for_is_not(tmp_path: Path) -> None:
    outcomes = [Outcome.STUCK_STOPPING, STOPPED, Outcome.NOT_ATTEMPTED, *[FAILED] * 12]
    lines = summary_of(tmp_path, *outcomes).splitlines()
    start = lines.index("Not seen stopped")
    told = [line.strip() for line in lines[start + 1 : lines.index("", start)]]
    assert told[0].startswith("0 of t in ") and told[0].endswith("stuck stopping")
    assert not any(line.startswith(("1 of t", "2 of t")) for line in told)
    assert told[-1] == "and 3 more; the reports have them all"


def test_the_last_of_those_that_are_not_named_is_counted(tmp_path: Path) -> None:
    assert "more; the reports" not in summary_of(tmp_path / "ten", *[FAILED] * 10)
    assert "and 1 more; the reports have them all" in summary_of(tmp_path / "eleven", *[FAILED] * 11)


def test_what_is_named_controls_no_terminal(tmp_path: Path) -> None:
    hostile = "\x1b]0;owned\x07\x1b[2J\r\n\u202e\u2066\x9b"

    async def fill(ledger: Ledger) -> None:
        await set_facts(ledger, sweeps=2)
        target = await add_target(ledger)
        ledger.add_transforms(target, [Transform("tfm-1", name=hostile)])
        for transform_id, task_run_id in (("tfm-1", hostile), (hostile, "tsk-1")):
            run = NewRun(TaskRun(transform_id, task_run_id), outcome=Outcome.FAILED)
            await ledger.add_runs(target, [run], sweep_number=2)

    reader = LedgerReader(build(tmp_path / "run", fill) / "ledger.db")
    text = text_summary(reader, tmp_path)
    reader.close()
    assert text.count("failed") > 2
    assert all(line.isprintable() for line in text.split("\n"))


def test_a_dry_run_that_could_look_at_nothing_counts_nothing(tmp_path: Path) -> None:
    async def fill(ledger: Ledger) -> None:
        await set_facts(ledger, mode="dry-run", exit_code=4)
        ledger.set_target_error(await add_target(ledger, complete=False), "NoCredentialsError", "none")

    reader = LedgerReader(build(tmp_path / "run", fill) / "ledger.db")
    text = text_summary(reader, Path("x"))
    reader.close()
    assert text.startswith("Dry run: nothing could be looked at.")


@pytest.mark.parametrize(
    ("outcomes", "told"),
    [
        (
            [Outcome.NOT_ATTEMPTED] * 3,
            "Dry run: nothing could be looked at. It is not known of any of 3 runs whether it would be cancelled. ",
        ),
        (
            [Outcome.WOULD_CANCEL, Outcome.NOT_ATTEMPTED, Outcome.UNKNOWN],
            (
                "Dry run: 1 run in 222222222222/us-east-1 would be cancelled; nothing was."
                " 2 of 3 runs were not looked at: there may be more. "
            ),
        ),
    ],
)
def test_a_dry_run_says_first_how_many_runs_it_did_not_look_at(
    tmp_path: Path, outcomes: list[Outcome], told: str
) -> None:
    async def fill(ledger: Ledger) -> None:
        await set_facts(ledger, mode="dry-run", exit_code=1)
        target = await add_target(ledger, complete=False)
        ledger.set_target_error(target, "EndpointConnectionError", "no way there")
        await ledger.add_runs(
            target, [NewRun(a_run("t", str(at)), outcome=outcome) for at, outcome in enumerate(outcomes)]
        )

    reader = LedgerReader(build(tmp_path / "run", fill) / "ledger.db")
    text = " ".join(text_summary(reader, Path("x")).split())
    reader.close()
    assert text.startswith(told)


def test_a_dry_run_that_saw_too_little_says_so(tmp_path: Path) -> None:
    text = " ".join(summary_of(tmp_path, Outcome.WOULD_CANCEL, complete=False, mode="dry-run").split())
    assert text.startswith(
        "Dry run: 1 run in 222222222222/us-east-1 would be cancelled; nothing was."
        " It is not complete: there may be more. "
    )


@pytest.mark.parametrize(("calls", "told"), [(1, "1 call to the service:"), (2, "2 calls to the service:")])
def test_calls_are_counted_in_words(tmp_path: Path, calls: int, told: str) -> None:
    async def fill(ledger: Ledger) -> None:
        await set_facts(ledger)
        ledger.count_calls([(await add_target(ledger), "ListMLTransforms", 1, calls, 0, 0, 0, None)])

    reader = LedgerReader(build(tmp_path / "run", fill) / "ledger.db")
    assert told in text_summary(reader, Path("x"))
    reader.close()


def test_rows_left_out_are_not_forgotten(tmp_path: Path) -> None:
    text = " ".join(summary_of(tmp_path, STOPPED, rejected=5).split())
    assert text.startswith(
        "Nothing that could be asked for is still running, but 5 rows of the manifest were left out."
    )
    assert "manifest: 5 rows left out (line 0: why; line 1: why; line 2: why; …)" in text


@pytest.mark.parametrize(
    ("outcome", "facts", "command"),
    [
        (FAILED, {}, "batch-cancel resume 'runs/night'\"'\"'s'"),
        (Outcome.UNKNOWN, {}, "batch-cancel resume"),
        (Outcome.STUCK_STOPPING, {}, "batch-cancel resume"),
        (Outcome.NOT_ATTEMPTED, {"stop_cause": "interrupted"}, "batch-cancel resume"),
        (Outcome.DENIED, {}, "batch-cancel iam-policy"),
        (Outcome.STOPPING, {}, "batch-cancel resume --wait 'runs/night'\"'\"'s'"),
        (Outcome.STOPPING, {"merged": ["a", "b"]}, "batch-cancel resume --wait PART_DIR"),
        (FAILED, {"merged": ["a", "b"]}, "batch-cancel run --manifest 'runs/night'\"'\"'s/report.json'"),
        (
            Outcome.STOPPING,
            {"merged": ["a"], "calls_are_sums": True},
            "batch-cancel run --manifest 'runs/night'\"'\"'s/report.json'",
        ),
    ],
)
def test_the_next_command_is_there_to_copy(
    tmp_path: Path, outcome: Outcome, facts: dict[str, Any], command: str
) -> None:
    lines = summary_of(tmp_path, outcome, **facts).splitlines()
    assert any(line.startswith("    " + command) for line in lines)


def test_a_deadline_that_came_holds_for_the_next_process_too_and_that_is_told(tmp_path: Path) -> None:
    told = "Go on with what is left, for as long again unless --deadline says otherwise:"
    assert told in " ".join(summary_of(tmp_path / "late", Outcome.NOT_ATTEMPTED, stop_cause="deadline").split())
    assert told not in " ".join(summary_of(tmp_path / "cut", Outcome.NOT_ATTEMPTED, stop_cause="interrupted").split())


@pytest.mark.parametrize(
    ("outcome", "facts", "hint"),
    [
        (Outcome.NOT_ATTEMPTED, {"stop_cause": "credentials"}, "Check the credentials"),
        (Outcome.NOT_ATTEMPTED, {"refusal": "too many"}, "Mend what the refusal names"),
        (Outcome.INVALID, {}, "Check the ids"),
    ],
)
def test_what_a_command_cannot_mend_is_told(tmp_path: Path, outcome: Outcome, facts: dict[str, Any], hint: str) -> None:
    assert hint in summary_of(tmp_path, outcome, **facts)


@pytest.mark.parametrize("outcome", [STOPPED, Outcome.EXCLUDED, Outcome.ALREADY_FINISHED, Outcome.FINISHED_FIRST])
def test_where_nothing_is_left_nothing_is_to_be_done(tmp_path: Path, outcome: Outcome) -> None:
    text = summary_of(tmp_path, outcome)
    assert "Next" not in text
    assert "What went wrong" not in text
    assert "runs/report.html" in text


def test_trouble_comes_first_and_everything_is_printable(tmp_path: Path) -> None:
    reader = LedgerReader(build(tmp_path / "run", every_outcome) / "ledger.db")
    text = text_summary(reader, tmp_path / "run")
    reader.close()
    order = re.findall(r"(?m)^ +\d+  (\w+(?: \w+)?)  ", text)
    assert order[0] == "failed"
    assert order[-1] == "excluded"
    assert {name.replace(" ", "_") for name in order} == set(Outcome) == set(MEANING)
    assert "1 stuck stopping\n" in text  # one spelling, as in the other reports
    assert all(line.isprintable() for line in text.splitlines())
    assert all(len(line) <= WIDTH for line in text.splitlines() if "  batch-cancel " not in line)
    assert r"no <b>ListMLTransforms</b> | for\nyou" in " ".join(text.split())


@pytest.mark.parametrize("width", [60, 80, 100])
def test_lines_end_within_the_width_and_between_words(tmp_path: Path, width: int) -> None:
    directory = Path("runs") / ("long-" * 20)
    reader = LedgerReader(build(tmp_path / "run", every_outcome) / "ledger.db")
    whole = text_summary(reader, directory, [directory / "report.html"], width=10_000)
    text = text_summary(reader, directory, [directory / "report.html"], width=width)
    reader.close()
    assert f"\n    batch-cancel resume {directory}\n" in text
    assert f"\n  {directory / 'report.html'}\n" in text
    assert text.split() == whole.split()  # no word is broken, none lost
    long = [line for line in text.splitlines() if len(line) > width and str(directory) not in line]
    assert [line for line in long if max(map(len, line.split())) < width - 4] == []


def test_a_terminal_is_used_up_to_a_hundred_columns(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    class Tty(io.StringIO):
        def isatty(self) -> bool:
            return True

    reader = LedgerReader(build(tmp_path / "run", every_outcome) / "ledger.db")
    for columns, width in (("60", 60), ("200", WIDEST), ("9", NARROWEST)):
        monkeypatch.setattr("sys.stdout", Tty())
        monkeypatch.setenv("COLUMNS", columns)
        assert text_summary(reader, tmp_path) == text_summary(reader, tmp_path, width=width)
        monkeypatch.setattr("sys.stdout", io.StringIO())
        assert text_summary(reader, tmp_path) == text_summary(reader, tmp_path, width=WIDTH)
    reader.close()


def test_a_dry_run_names_what_it_would_cancel_and_what_left_the_others_alone(tmp_path: Path) -> None:
    async def fill(ledger: Ledger) -> None:
        protection = Protection(transforms=("crtical-*",), transform_names=("critical-*",))
        settings = Settings(source=DiscoverySource(), protection=protection)
        await set_facts(ledger, mode="dry-run", settings=to_json(settings))
        target = await add_target(ledger)
        ledger.add_transforms(target, [Transform("t", name="dedupe"), Transform("c", name="critical-ledger")])
        would, spared = Outcome.WOULD_CANCEL, Outcome.EXCLUDED
        runs = [NewRun(a_run("t", str(at), hours=at), outcome=would) for at in range(11)]
        runs += [NewRun(a_run(f"u{at}", "1"), outcome=would) for at in range(MOST_GROUPS + 1)]
        rule = "protect: transform_name critical-*"
        runs += [NewRun(a_run("c", str(at)), outcome=spared, rule=rule) for at in (1, 2)]
        runs += [NewRun(a_run("n", "1"), outcome=spared, rule="select: older_than 2h")]
        await ledger.add_runs(target, runs)

    reader = LedgerReader(build(tmp_path / "run", fill) / "ledger.db")
    text = text_summary(reader, tmp_path, width=80)
    reader.close()
    would = text.split("\nWhat would be cancelled\n")[1].split("\n\n")[0].split("\n")
    assert would[:2] == [
        "  11  dedupe in 222222222222/us-east-1, since 2026-11-24 00:15Z",
        "   1  u0 in 222222222222/us-east-1, since 2026-11-24 04:15Z",
    ]
    assert would[MOST_GROUPS:] == ["  and 2 transforms more with 2 runs"]
    assert text.split("\nLeft alone\n")[1].split("\n\n")[0].split("\n") == [
        "  2  protect: transform_name critical-*",
        "  1  select: older_than 2h",
        "  Protection that spares no run: transform crtical-*.",
    ]


def test_a_sweep_that_cancelled_tells_its_rules_and_leaves_idle_protection_to_dry_runs(tmp_path: Path) -> None:
    async def fill(ledger: Ledger) -> None:
        settings = Settings(source=DiscoverySource(), protection=Protection(transforms=("crtical-*",)))
        await set_facts(ledger, settings=to_json(settings))
        target = await add_target(ledger)
        rules = [f"select: rule {at}" for at in range(MOST_RULES + 2)]
        runs = [NewRun(a_run("t", rule), outcome=Outcome.EXCLUDED, rule=rule) for rule in rules]
        await ledger.add_runs(target, [*runs, NewRun(a_run("t", "s"), outcome=STOPPED)])

    reader = LedgerReader(build(tmp_path / "run", fill) / "ledger.db")
    text = text_summary(reader, tmp_path, width=80)
    reader.close()
    part = text.split("\nLeft alone\n")[1].split("\n\n")[0].splitlines()
    assert (part[0], part[-1], len(part)) == ("  1  select: rule 0", "  and 2 runs by 2 other rules", MOST_RULES + 1)
    assert "spares" not in text
    assert "would be" not in text


@pytest.mark.parametrize(("kind", "told"), [("discovery", True), ("manifest", True), ("plan", False)])
def test_a_plan_holds_no_run_that_its_protection_could_spare(kind: str, told: bool, tmp_path: Path) -> None:
    async def fill(ledger: Ledger) -> None:
        settings = Settings(source=DiscoverySource(), protection=Protection(transforms=("critical-*",)), dry_run=True)
        await set_facts(ledger, settings=to_json(settings), mode="dry-run", source={"kind": kind})
        await ledger.add_runs(await add_target(ledger), [NewRun(a_run("t", "s"), outcome=Outcome.WOULD_CANCEL)])

    reader = LedgerReader(build(tmp_path / "run", fill) / "ledger.db")
    assert ("Protection that spares no run" in text_summary(reader, tmp_path, width=80)) is told
    reader.close()


def test_what_came_back_is_named(tmp_path: Path) -> None:
    reader = LedgerReader(build(tmp_path / "run", came_back) / "ledger.db")
    text = text_summary(reader, tmp_path, width=100)
    reader.close()
    part = " ".join(text.split("What came back\n")[1].split("\n\n")[0].split())
    assert part == (
        "3 runs found by later sweeps: 1 active again, 2 started meanwhile."
        " tsk-again of dedupe-customers in 222222222222/us-east-1: sweep 3, active again, now stopped"
        " tsk-second of dedupe-customers in 222222222222/us-east-1: sweep 2, started meanwhile, now stopped"
        " tsk-third of dedupe-customers in 222222222222/us-east-1: sweep 3, started meanwhile, now failed"
    )


def test_a_long_list_of_what_came_back_is_cut_with_a_count(tmp_path: Path) -> None:
    async def fill(ledger: Ledger) -> None:
        await set_facts(ledger, sweeps=2)
        target = await add_target(ledger)
        runs = [NewRun(a_run("t", f"tsk-{at}"), outcome=Outcome.STOPPED) for at in range(MOST_CAME_BACK + 3)]
        spared = NewRun(a_run("t", "spared"), rule="protect", outcome=Outcome.EXCLUDED)
        await ledger.add_runs(target, [*runs, spared], sweep_number=2)

    reader = LedgerReader(build(tmp_path / "run", fill) / "ledger.db")
    text = text_summary(reader, tmp_path)
    reader.close()
    assert text.count("tsk-") == MOST_CAME_BACK
    assert "and 3 more; the reports have them all" in text
    assert "spared" not in text


def test_a_flood_of_troubles_is_counted(tmp_path: Path) -> None:
    async def fill(ledger: Ledger) -> None:
        await set_facts(ledger)
        for at in range(MOST_TROUBLES + 5):
            target = await add_target(ledger, f"region-{at}", complete=False)
            ledger.set_target_error(target, "AccessDeniedException", f"{at}" + "x" * 5000 + "\x1b[2J")
            await ledger.add_runs(target, [NewRun(TaskRun("t", str(at)))])

    reader = LedgerReader(build(tmp_path / "run", fill) / "ledger.db")
    text = text_summary(reader, tmp_path)
    reader.close()
    assert f"and {5 + MOST_TROUBLES + 5} more; the reports have them all" in text
    assert "\x1b" not in text
    assert len(text) < 8000
