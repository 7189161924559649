"""The question, at a terminal: only the count is a yes, and nothing from outside moves the cursor."""

import asyncio
import os
import re
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import FrameType

import pytest

from batch_cancel.cli.consent import consent, decision_text
from batch_cancel.cli.wording import cells
from batch_cancel.core.cost import dpu, estimated_dpu_hours
from batch_cancel.core.outcome import Outcome
from batch_cancel.core.selection import Protection
from batch_cancel.core.task_run import Status, Target, TaskRun, Transform
from batch_cancel.ledger import LEDGER_NAME
from batch_cancel.ledger.ledger import Ledger, NewRun
from batch_cancel.ledger.reader import LedgerReader
from batch_cancel.settings import Cost
from tests.cli.terminal import Terminal

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)
QUESTION = "leave them alone: "
HOSTILE = "\x1b]0;owned\x07\x1b[2J\r\n\u202e\u2066\x9b\\x1b"


def a_run(number: int, transform_id: str = "tfm-1", hours: float | None = 2.0) -> TaskRun:
    started_on = None if hours is None else NOW - timedelta(hours=hours)
    return TaskRun(transform_id, f"run-{number}", Status.RUNNING, "FIND_MATCHES", started_on)


def ledger_of(
    directory: Path,
    *targets: tuple[Target, list[Transform], list[NewRun]],
) -> LedgerReader:
    async def made() -> None:
        ledger = Ledger.create(directory / "sweep")
        for target, transforms, runs in targets:
            target_id = await ledger.add_target(target)
            ledger.add_transforms(target_id, transforms)
            await ledger.add_runs(target_id, runs)
        await ledger.close()

    asyncio.run(made())
    return LedgerReader(directory / "sweep" / LEDGER_NAME)


HERE = Target("eu-west-1", "222222222222")


@pytest.fixture
def reader(tmp_path: Path) -> Iterator[LedgerReader]:
    """Three runs to cancel and one that is spared."""
    runs = [NewRun(a_run(number)) for number in range(3)]
    spared = NewRun(a_run(9), rule="protect: transform name critical-*", outcome=Outcome.EXCLUDED)
    reader = ledger_of(tmp_path, (HERE, [Transform("tfm-1", "dedupe", 10.0)], [*runs, spared]))
    yield reader
    reader.close()


def answer(reader: LedgerReader, terminal: Terminal, user: Callable[[], None], *, no_color: bool = False) -> bool:
    """Ask, while a user sits at the terminal."""

    def use() -> None:
        try:
            user()
        except BaseException:
            terminal.hang_up()  # or the question would stand for ever
            raise

    hands = threading.Thread(target=use)
    hands.start()
    try:
        return consent(reader, stdin=terminal.stream("r"), terminal=terminal.stream(), no_color=no_color, now=NOW)
    finally:
        hands.join()


@pytest.mark.parametrize(
    ("keys", "yes"),
    [
        ("3\n", True),
        (" 3 \n", True),
        ("\n", False),
        ("\x04", False),  # the end of the input
        ("4\nthree\n", False),
        ("y\n3\n", True),
        ("yes\nyes\n3\n", False),
        ("y\n\n", False),
        ("03\n+3\n", False),
        ("3.\n,3\n", False),
        ("\uff13\n\u0663\n", False),  # the same number in other scripts is a slip of some input method
        (b"\xff\xfe\n", False),
    ],
)
def test_only_the_count_is_a_yes(reader: LedgerReader, keys: str | bytes, yes: bool) -> None:
    with Terminal() as terminal:

        def user() -> None:
            terminal.seen(QUESTION)
            terminal.type(keys)

        assert answer(reader, terminal, user) is yes


def test_a_wrong_number_is_named_and_asked_for_again_once(reader: LedgerReader) -> None:
    with Terminal() as terminal:

        def user() -> None:
            terminal.seen(QUESTION)
            terminal.type("4\n")
            terminal.seen("4 is not the number of runs.\r\nType ")
            terminal.type("3\n")

        assert answer(reader, terminal, user)


def test_what_was_typed_by_mistake_is_shown_harmless(reader: LedgerReader) -> None:
    with Terminal() as terminal:

        def user() -> None:
            terminal.seen(QUESTION)
            terminal.type("\x1b[2J\u202e4\n")
            terminal.seen(r"\x1b[2J\u202e4 is not the number of runs.")
            terminal.type("\n")

        assert not answer(reader, terminal, user)


def test_after_the_second_wrong_number_it_says_that_nothing_was_cancelled(reader: LedgerReader) -> None:
    with Terminal() as terminal:

        def user() -> None:
            terminal.seen(QUESTION)
            terminal.type("4\n")
            terminal.seen("number of runs.\r\nType ")
            terminal.seen(QUESTION)
            terminal.type("5\n")
            terminal.seen("5 is not the number of runs either: nothing was cancelled.\r\n")

        assert not answer(reader, terminal, user)


def test_the_question_and_the_report_reckon_the_same_hours(tmp_path: Path) -> None:
    """ExecutionTime where Glue tells one, else the start, capped by the time-out; what is not known is left out."""

    def told(number: int, transform_id: str, seconds: int | None, hours: float | None) -> TaskRun:
        return replace(a_run(number, transform_id, hours), execution_time_seconds=seconds)

    transforms = [
        Transform("tfm-0", max_capacity=10.0),
        Transform("tfm-1", worker_type="G.2X", number_of_workers=3, timeout_minutes=90),
        Transform("tfm-2"),
    ]
    runs = [
        *(told(1, "tfm-0", 3600, 6), told(2, "tfm-0", 0, 2), told(3, "tfm-0", None, None), told(4, "tfm-0", 0, None)),
        *(told(5, "tfm-1", None, 50), told(6, "tfm-1", 7200, 50), told(7, "tfm-1", None, -1), told(8, "tfm-2", 60, 1)),
        TaskRun("tfm-0", "of a list that nobody looked into", started_on=NOW - timedelta(hours=1)),
    ]
    reader = ledger_of(tmp_path, (HERE, transforms, [NewRun(run) for run in runs]))
    estimated = 0.0
    known = 0
    for run in runs:
        transform = transforms[int(run.transform_id[-1])]
        active = NOW if run.status is not None else None
        hours = estimated_dpu_hours(transform, run.execution_time_seconds, started_on=run.started_on, now=active)
        estimated += hours or 0.0
        known += hours is not None
    groups = list(reader.pending_groups(NOW))
    reckoned = sum((dpu(group.transform) or 0.0) * group.used_seconds / 3600 for group in groups)
    text = decision_text(reader, columns=100, now=NOW)
    reader.close()
    assert reckoned == pytest.approx(estimated)
    assert f"an estimated {estimated:,.1f} DPU-hours by {known} of 9 runs (the rest is not known)." in text


def test_thousands_may_be_typed_as_they_are_shown(tmp_path: Path) -> None:
    reader = ledger_of(tmp_path, (HERE, [], [NewRun(a_run(number)) for number in range(1_200)]))
    for keys, yes in (("1200\n", True), ("1,200\n", True), ("12,00\n1,2,0,0\n", False)):
        with Terminal() as terminal:

            def user(terminal: Terminal = terminal, keys: str = keys) -> None:
                assert "1,200 task runs of 1 transform would be cancelled" in terminal.seen(QUESTION)
                terminal.type(keys)

            assert answer(reader, terminal, user) is yes
    reader.close()


def test_what_was_typed_before_the_question_is_no_answer_to_it(reader: LedgerReader) -> None:
    with Terminal() as terminal:
        terminal.type("3\n")
        terminal.seen("3\r\n")  # it is there to be read

        def user() -> None:
            terminal.seen(QUESTION)
            terminal.type("\n")

        assert not answer(reader, terminal, user)


def test_a_terminal_that_is_gone_gives_no_consent(reader: LedgerReader) -> None:
    with Terminal() as terminal:

        def user() -> None:
            terminal.seen(QUESTION)
            terminal.hang_up()

        assert not answer(reader, terminal, user)


def test_a_closed_standard_input_gives_no_consent(reader: LedgerReader) -> None:
    with Terminal() as terminal:
        stdin = terminal.stream("r")
        stdin.close()
        assert not consent(reader, stdin=stdin, terminal=terminal.stream(), now=NOW)


@contextmanager
def hearing(signum: int) -> Iterator[list[int]]:
    heard: list[int] = []

    def note(signum: int, frame: FrameType | None) -> None:
        heard.append(signum)

    before = signal.signal(signum, note)
    try:
        yield heard
    finally:
        signal.signal(signum, before)


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_is_a_no_and_reaches_who_handled_it_before(reader: LedgerReader, signum: signal.Signals) -> None:
    with hearing(signum) as heard, Terminal() as terminal:

        def user() -> None:
            terminal.seen(QUESTION)
            os.kill(os.getpid(), signum)

        handler = signal.getsignal(signum)
        assert not answer(reader, terminal, user)
        assert heard == [signum]
        assert signal.getsignal(signum) is handler
        assert terminal.seen("alone: \r\n")


def test_a_signal_that_is_ignored_does_not_end_the_question(reader: LedgerReader) -> None:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with Terminal() as terminal:

            def user() -> None:
                terminal.seen(QUESTION)
                os.kill(os.getpid(), signal.SIGINT)
                terminal.type("3\n")

            assert answer(reader, terminal, user)
    finally:
        signal.signal(signal.SIGINT, before)


ASKS = """
import asyncio, sys
from pathlib import Path
from batch_cancel.cli.consent import consent
from batch_cancel.cli.signals import exit_code_of, handle_signals
from batch_cancel.ledger.reader import LedgerReader

async def story():
    got = asyncio.get_running_loop().create_future()
    with handle_signals(got.set_result):
        yes = consent(LedgerReader(Path(sys.argv[1])), stdin=sys.stdin, terminal=sys.stderr)
        print("yes" if yes else "no", flush=True)
        await asyncio.sleep(0)
        return 0 if yes else exit_code_of(got.result())

sys.exit(asyncio.run(story()))
"""


@pytest.mark.parametrize(("how", "exit_code"), [("\x03", 130), (signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_in_a_sweep_the_question_ends_at_once_and_the_sweep_hears_the_signal(
    reader: LedgerReader, tmp_path: Path, how: str | signal.Signals, exit_code: int
) -> None:
    with Terminal() as terminal:
        process = terminal.start("-c", ASKS, str(tmp_path / "sweep" / LEDGER_NAME))
        terminal.seen(QUESTION)
        if isinstance(how, str):
            terminal.type(how)
        else:
            process.send_signal(how)
        out, _ = process.communicate(timeout=20)
        assert (out, process.returncode) == (b"no\n", exit_code)
        assert "Traceback" not in terminal.rest()


def test_two_signals_at_once_end_the_question_and_both_are_heard(reader: LedgerReader) -> None:
    with hearing(signal.SIGINT) as interrupts, hearing(signal.SIGTERM) as terminations, Terminal() as terminal:

        def user() -> None:
            terminal.seen(QUESTION)
            signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT, signal.SIGTERM])  # this thread's
            os.kill(os.getpid(), signal.SIGTERM)
            os.kill(os.getpid(), signal.SIGINT)

        handlers = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
        assert not answer(reader, terminal, user)
        assert (interrupts, terminations) == ([signal.SIGINT], [signal.SIGTERM])
        assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == handlers


# What is shown


def styled(text: str) -> str:
    return re.sub(r"\x1b\[[0-9;]*m", "", text)


@pytest.mark.parametrize("several", [False, True])
@pytest.mark.parametrize("columns", [40, 80, 200])
def test_nothing_from_outside_controls_the_terminal(tmp_path: Path, columns: int, several: bool) -> None:
    target = Target("eu-west-1", HOSTILE)
    run = TaskRun("tfm" + HOSTILE, "run" + HOSTILE, Status.RUNNING, "TYPE" + HOSTILE, NOW)
    spared = NewRun(a_run(1), rule="rule " + HOSTILE, outcome=Outcome.EXCLUDED)
    transforms = [Transform("tfm" + HOSTILE, name=HOSTILE)]
    others = [(HERE, list[Transform](), [NewRun(a_run(2))])] if several else []
    reader = ledger_of(tmp_path, (target, transforms, [NewRun(run), spared]), *others)
    idle = Protection(transform_names=(HOSTILE,))
    text = styled(decision_text(reader, columns=columns, now=NOW, protection=idle, paint=True))
    reader.close()
    assert "Protection that spares no run" in text
    assert all(character.isprintable() for line in text.split("\n") for character in line)


@pytest.mark.parametrize("columns", [40, 60, 80, 120])
def test_no_line_is_wider_than_the_terminal(tmp_path: Path, columns: int) -> None:
    long_id = "tfm-" + "0123456789abcdef" * 15
    names = ["dedupe-customers", "名寄せ" * 20, None]
    transforms = [Transform(f"{long_id}{number}", name, 10.0) for number, name in enumerate(names)]
    runs = [NewRun(a_run(number, transform.transform_id)) for number, transform in enumerate(transforms)]
    spared = [NewRun(a_run(n), rule=f"{n} {'long rule ' * 20}", outcome=Outcome.EXCLUDED) for n in range(20)]
    places = [HERE, Target("ap-southeast-2", "333333333333")]
    reader = ledger_of(tmp_path, *((place, transforms, [*runs, *spared]) for place in places))
    text = decision_text(reader, columns=columns, now=NOW)
    reader.close()
    assert [line for line in text.split("\n") if cells(line) >= columns] == []
    assert "Left alone: 40 runs" in text


def test_it_says_what_where_since_when_what_it_used_and_what_is_spared(reader: LedgerReader) -> None:
    assert decision_text(reader, columns=80, now=NOW) == (
        "\n"
        "3 task runs of 1 transform would be cancelled in 222222222222/eu-west-1:\n"
        "\n"
        "  transform       runs  oldest  DPU-hours  task types\n"
        "  dedupe (tfm-1)     3      2h       60.0  FIND_MATCHES\n"
        "\n"
        "Left alone: 1 run\n"
        "  1  protect: transform name critical-*\n"
        "\n"
        "Used so far: an estimated 60.0 DPU-hours.\n"
        "A cancelled run cannot be continued: its work has to be started anew.\n"
        "\n"
    )


def test_protection_that_is_misspelt_is_seen_before_the_question(reader: LedgerReader) -> None:
    protection = Protection(transforms=("crtical-*",), transform_names=("critical-*",))
    text = decision_text(reader, columns=80, now=NOW, protection=protection)
    assert "\n\nProtection that spares no run: transform crtical-*, transform_name" in text
    assert "spares" not in decision_text(reader, columns=80, now=NOW)


def test_what_is_not_known_is_a_question_mark_and_never_guessed(tmp_path: Path) -> None:
    known, no_capacity, no_start, capped = (
        Transform(f"tfm-{n}", max_capacity=c) for n, c in enumerate((2, None, 2, 2))
    )
    capped = Transform(capped.transform_id, max_capacity=2.0, timeout_minutes=60)
    runs = [
        NewRun(a_run(1, known.transform_id, 3)),
        NewRun(a_run(2, no_capacity.transform_id, 3)),
        NewRun(a_run(3, no_start.transform_id, 3)),
        NewRun(TaskRun(no_start.transform_id, "run-4")),
        NewRun(a_run(5, capped.transform_id, 50)),
    ]
    reader = ledger_of(tmp_path, (HERE, [known, no_capacity, no_start, capped], runs))
    text = decision_text(reader, columns=80, now=NOW)
    reader.close()
    rows = {row[0]: row[3] for row in (line.split() for line in text.splitlines()) if row and row[0].startswith("tfm")}
    assert rows == {"tfm-0": "6.0", "tfm-1": "?", "tfm-2": "?", "tfm-3": "2.0"}
    assert "an estimated 14.0 DPU-hours by 3 of 5 runs (the rest is not known)." in text.replace("\n", " ")


def test_a_long_list_is_cut_with_a_count_of_what_is_not_shown(tmp_path: Path) -> None:
    runs = [NewRun(a_run(n, f"tfm-{t:03}")) for t in range(40) for n in range(1 if t < 25 else 2)]
    reader = ledger_of(tmp_path, (HERE, [], runs))
    text = decision_text(reader, columns=80, rows=60, now=NOW)
    reader.close()
    assert text.count("  tfm-") == 15
    assert "and 25 transforms more with 25 runs" in text
    assert "Left alone" not in text


@pytest.mark.parametrize("columns", [58, 80])
@pytest.mark.parametrize("transforms", [1, 4, 9, 10, 11, 40])
@pytest.mark.parametrize("rules", [0, 1, 4, 5, 12])
def test_question_and_decision_fit_a_terminal_of_24_lines(
    tmp_path: Path, columns: int, transforms: int, rules: int
) -> None:
    runs = [NewRun(a_run(n, f"tfm-{n:03}")) for n in range(transforms)]
    spared = [NewRun(a_run(99 + n), rule=f"rule {n:02}", outcome=Outcome.EXCLUDED) for n in range(rules)]
    capacity = [Transform(f"tfm-{n:03}", max_capacity=10.0) for n in range(transforms)]
    reader = ledger_of(tmp_path, (HERE, capacity, [*runs, *spared]))
    with Terminal(columns, 24) as terminal:

        def user() -> None:
            terminal.seen("press Enter")
            terminal.type("\n")

        assert not answer(reader, terminal, user)
        text = styled(terminal.rest()).replace("\r\n", "\n").rstrip("\n")
    reader.close()
    lines = [part for line in text.split("\n") for part in re.findall(f".{{1,{columns}}}|^$", line)]
    assert len(lines) <= 24
    shown = text.count("  tfm-")
    assert shown == transforms or len(lines) == 24  # no room is wasted
    assert text.count("rule ") >= min(rules, 3)
    if shown < transforms:
        assert f"and {transforms - shown} transforms more with" in text


def test_a_price_that_is_known_is_told_with_what_it_comes_to(reader: LedgerReader) -> None:
    cost = Cost(price_per_dpu_hour=0.44, currency="USD", source="sweep file")
    told = " ".join(decision_text(reader, columns=80, now=NOW, cost=cost).split())
    assert "an estimated 60.0 DPU-hours; estimated 26.40 USD at 0.44 a DPU-hour (sweep file)." in told


def test_colours_are_for_terminals_that_know_them(reader: LedgerReader, monkeypatch: pytest.MonkeyPatch) -> None:
    def ask(*, no_color: bool = False) -> str:
        with Terminal() as terminal:

            def user() -> None:
                terminal.seen(QUESTION)
                terminal.type("\n")

            assert not answer(reader, terminal, user, no_color=no_color)
            return terminal.rest()

    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.delenv("NO_COLOR", raising=False)
    assert "\x1b[1m" in ask()
    assert "\x1b" not in ask(no_color=True)
    monkeypatch.setenv("TERM", "dumb")
    assert "\x1b" not in ask()
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\x1b" not in ask()
