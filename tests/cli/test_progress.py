"""Progress at a terminal, in a pipe and in a log: what is seen, and what never is."""

import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import Any, TextIO, get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from batch_cancel.cli.progress import Progress
from batch_cancel.cli.progress.log import Level
from batch_cancel.core.errors import ErrorKind
from batch_cancel.core.events import (
    Accepted,
    Asked,
    Awaited,
    CallAnswered,
    Event,
    ManifestRead,
    OutcomeReached,
    Phase,
    PhaseBegan,
    PhaseEnded,
    PlaceFailed,
    RateChanged,
    Resumed,
    Retrying,
    RunsFound,
    Stopping,
    SweepBegan,
    SweepListed,
    SweepStarted,
    TargetFailed,
    TargetGivenUp,
    TargetIdentified,
    TargetOpened,
    TargetRecovered,
    ToAsk,
    TransformListed,
    TransformsDescribed,
    TransformsFound,
    Warned,
)
from batch_cancel.core.outcome import Outcome
from batch_cancel.core.task_run import Target, TaskRunKey, Transform
from tests.cli.terminal import Screen, Terminal

HERE = Target("eu-west-1", "222222222222")
THERE = Target("us-east-1", "333333333333")
HOSTILE = "\x1b[2J\x1b]0;owned\x07\r\n\u202e\x9b"
ROOT = Path(__file__).parents[2]


class Clock:
    """A moment that moves when it is told to."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


class Watched:
    """Progress on a stream, drawn when the test says so."""

    def __init__(self, stream: TextIO | None, **options: Any) -> None:  # noqa: ANN401  # Progress's own
        self.clock = Clock()
        moment = datetime(2026, 11, 24, 12, 0, 0, 123_000, tzinfo=UTC)
        self.progress = Progress(stream, clock=self.clock, now=lambda: moment, threaded=False, **options)

    def tell(self, *events: Event) -> None:
        for event in events:
            self.progress(event)

    def wait(self, seconds: float) -> None:
        """Time passes, an eighth of a second at a time."""
        for _ in range(max(1, round(seconds * 8))):
            self.clock.now += 0.125
            self.progress.tick()


@pytest.fixture(autouse=True)
def _plain_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.delenv("NO_COLOR", raising=False)


@pytest.fixture
def terminal() -> Iterator[Terminal]:
    with Terminal() as terminal:
        yield terminal


def key(number: int) -> TaskRunKey:
    return TaskRunKey("tfm-1", f"run-{number}")


def asked(number: int) -> tuple[Event, Event]:
    """A request that was accepted."""
    return Asked(HERE, key(number)), Accepted(HERE, key(number))


def listed(transform_id: str, to_cancel: int, excluded: int = 0) -> tuple[Event, Event]:
    """A transform with these runs."""
    return RunsFound(HERE, to_cancel, excluded), TransformListed(HERE, transform_id, to_cancel, excluded)


def a_sweep(runs: int = 40) -> list[Event]:
    """The first half of a sweep: half of the runs are asked for, and a few have ended."""
    first_half = [
        event
        for number in range(runs // 2)
        for event in (CallAnswered(HERE, "CancelMLTaskRun", None, 0.03), *asked(number))
    ]
    return [
        PhaseBegan(Phase.CONNECT, 2),
        TargetOpened(HERE),
        TargetOpened(THERE),
        PhaseEnded(Phase.CONNECT),
        PhaseBegan(Phase.DISCOVER),
        TransformsFound(HERE, 4),
        *(event for number in range(4) for event in listed(f"tfm-{number}", runs // 4, 1)),
        TransformsDescribed(HERE, [Transform(f"tfm-{number}", max_capacity=1.0) for number in range(4)]),
        PhaseEnded(Phase.DISCOVER),
        PhaseBegan(Phase.CANCEL, runs),
        PhaseBegan(Phase.VERIFY),
        RateChanged(HERE, "CancelMLTaskRun", 42.0, True),
        CallAnswered(HERE, "CancelMLTaskRun", ErrorKind.THROTTLE, 0.02),
        Retrying(HERE, "CancelMLTaskRun", "ThrottlingException", 0.4),
        *first_half,
        *(OutcomeReached(HERE, key(number), Outcome.STOPPED, used_seconds=5400) for number in range(runs // 4)),
        Asked(HERE, key(runs)),
        OutcomeReached(HERE, key(runs), Outcome.DENIED, "AccessDeniedException"),
    ]


def screen(terminal: Terminal, columns: int = 80) -> list[str]:
    return Screen(columns).write(terminal.rest().replace("\r\n", "\n")).shown


# At a terminal


def test_the_live_view_tells_phases_rate_friction_outcomes_and_cost(terminal: Terminal) -> None:
    watched = Watched(terminal.stream())
    with watched.progress:
        watched.tell(*a_sweep())
        watched.wait(1)
        assert screen(terminal) == [
            "",
            "Cancelling · 0:01",
            "  connect    ━━━━━━━━━━━━━━━━  2 of 2 targets",
            "  discover   ━━━━━━━━━━━━━━━━  4 of 4 transforms · 40 to cancel",
            "  cancel     ━━━━━━━━━━━━━━━━  21 of 40 runs asked",
            "  verify     ━━━━━━━━━━━━━━━━  11 of 21 runs settled",
            "",
            "  rate       0.0 cancel requests/s · limit near 42/s",
            "  slowed by  1 throttle in 21 calls (4.8 %) · 1 retry",
            "  outcomes   1 denied · 10 stopped · 4 excluded",
            "  estimated  15.0 DPU-hours used by the runs that were stopped",
            "",
        ]
    assert screen(terminal) == [""]  # at the end it is taken away: the result is what stays


def test_only_what_changed_is_written_again(terminal: Terminal) -> None:
    watched = Watched(terminal.stream())
    with watched.progress:
        watched.tell(*a_sweep())
        watched.wait(1)
        drawn = len(terminal.rest())
        watched.wait(0.5)  # nothing happened, and the clock shows the same second
        assert len(terminal.rest()) == drawn
        watched.tell(OutcomeReached(HERE, key(30), Outcome.STOPPED))
        watched.wait(0.125)
        news = terminal.rest()[drawn:]
        assert "11 stopped" in news
        assert "discover" not in news


def press(terminal: Terminal, watched: Watched, keys: str) -> None:
    """Type, and wait until the terminal has taken and echoed it, which it does when it pleases."""
    outlet, before = watched.progress._outlet, terminal.rest()
    taken = outlet.typed() + len(keys)
    terminal.type(keys)
    while outlet.typed() < taken or terminal.rest() == before:
        os.sched_yield()


def test_enter_pressed_to_see_whether_it_is_alive_leaves_no_trace(terminal: Terminal) -> None:
    watched = Watched(terminal.stream())
    with watched.progress:
        watched.tell(*a_sweep())
        watched.wait(1)
        before = screen(terminal)
        for _ in range(3):
            press(terminal, watched, "\n")
            watched.wait(0.125)
        assert screen(terminal) == before
        press(terminal, watched, "\n")
        with watched.progress.paused():
            assert screen(terminal) == [""]
        watched.wait(0.125)
        press(terminal, watched, "\n")
    assert screen(terminal) == [""]


def test_what_is_typed_meanwhile_stays_below_the_view_that_was_there(terminal: Terminal) -> None:
    watched = Watched(terminal.stream())
    with watched.progress:
        watched.tell(*a_sweep())
        watched.wait(1)
        before = screen(terminal)[:-1]
        press(terminal, watched, "hello\n")
        watched.wait(0.125)
        assert screen(terminal) == [*before, "hello", *before, ""]
        assert watched.progress._outlet.typed() == len("hello\n")  # it is left for whoever comes after
    assert screen(terminal) == [*before, "hello", ""]


def test_lines_of_the_log_go_above_the_view(terminal: Terminal) -> None:
    watched = Watched(terminal.stream())
    with watched.progress:
        watched.tell(*a_sweep())
        watched.wait(1)
        watched.tell(TargetFailed(THERE, "ExpiredToken", "the token is over"), Warned("beware"))
        watched.wait(0.25)
        shown = screen(terminal)
        assert shown[:2] == ["error: 333333333333/us-east-1: ExpiredToken: the token is over", "warning: beware"]
        assert "  trouble    333333333333/us-east-1  ExpiredToken: the token is over" in shown
        assert sum("Cancelling" in line for line in shown) == 1
    assert screen(terminal) == [*shown[:2], ""]


@pytest.mark.parametrize("columns", [20, 40, 59, 80, 200])
def test_no_line_is_wider_than_the_terminal_and_the_view_not_higher(columns: int) -> None:
    with Terminal(columns, 9) as terminal:
        watched = Watched(terminal.stream())
        with watched.progress:
            watched.tell(
                *a_sweep(40_000), *(TargetFailed(Target("eu-west-1", f"{n}"), "E", "x" * 300) for n in range(9))
            )
            watched.progress._waiting.clear()
            watched.wait(1)
            shown = screen(terminal, columns)
            assert len(shown) <= 9
            assert all(len(line) < columns for line in shown)


def test_a_terminal_that_is_resized_keeps_one_view() -> None:
    with Terminal(120, 40) as terminal:
        watched = Watched(terminal.stream())
        with watched.progress:
            watched.tell(*a_sweep())
            watched.wait(1)
            before = screen(terminal, 120)
            for columns in (70, 30, 120):
                already = len(terminal.rest())
                terminal.resize(columns, 40)
                watched.wait(0.25)
                news = terminal.rest()[already:].replace("\r\n", "\n")
                # The terminal folds what has become too long for it, as terminals do; then the view is drawn anew.
                shown = Screen(columns).write("\n".join(before)).write(news).shown
                assert [sum(word in line for line in shown) for word in ("Cancelling", "connect", "verify")] == [
                    1,
                    1,
                    1,
                ]
                assert shown[-1] == ""
                before = shown


def test_nothing_from_outside_controls_the_terminal_or_a_log() -> None:
    hostile = Target("eu-west-1" + HOSTILE, "acc" + HOSTILE)
    events = [
        *a_sweep(8),  # no more than a terminal takes that nobody reads meanwhile
        TargetOpened(hostile),
        TargetFailed(hostile, "Code" + HOSTILE, "words" + HOSTILE),
        Warned("warned" + HOSTILE),
        Retrying(hostile, "Op", "Code" + HOSTILE, 1.0),
        Accepted(hostile, TaskRunKey("tfm" + HOSTILE, "run" + HOSTILE)),
        OutcomeReached(hostile, TaskRunKey("tfm" + HOSTILE, "run" + HOSTILE), Outcome.FAILED, "Code" + HOSTILE),
        *(CallAnswered(hostile, "CancelMLTaskRun", None, 0.1) for _ in range(6)),
        RateChanged(hostile, "CancelMLTaskRun", 3.0, False),
        Stopping("cause" + HOSTILE),
    ]
    for options in ({}, {"verbose": True}, {"no_progress": True}):
        with Terminal(300, 60) as terminal:
            watched = Watched(terminal.stream(), **options)
            with watched.progress:
                watched.tell(*events)
                watched.wait(6)
            text = re.sub(r"\x1b\[[\d;]*[mAJK]", "", terminal.rest())
            assert all(character.isprintable() or character in "\r\n" for character in text)
            assert "owned" in text


@pytest.mark.parametrize(("name", "value"), [("NO_COLOR", "1"), ("TERM", "dumb")])
def test_no_colour_where_it_is_not_wanted(
    terminal: Terminal, monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv(name, value)
    watched = Watched(terminal.stream())
    with watched.progress:
        watched.tell(*a_sweep(), TargetFailed(THERE, "E", "words"))
        watched.wait(6)
        text = terminal.rest()
    assert not re.search(r"\x1b\[[\d;]*m", text)
    if name == "TERM":
        assert "\x1b" not in text  # a terminal that knows nothing gets lines
        assert re.search(r"cancel: 21 of 40 runs asked", text)
    else:
        assert "━━━━━━━━┈┈┈┈┈┈┈┈  21 of 40" in text  # the bar is a bar without its colours too


def test_a_question_has_the_terminal_to_itself(terminal: Terminal) -> None:
    watched = Watched(terminal.stream())
    with watched.progress:
        watched.tell(*a_sweep())
        watched.wait(1)
        with watched.progress.paused():
            assert screen(terminal) == [""]
            before = terminal.rest()
            watched.tell(OutcomeReached(HERE, key(30), Outcome.STOPPED), Warned("later"))
            watched.wait(10)
            assert terminal.rest() == before
        watched.wait(0.25)
        assert any("11 stopped" in line for line in screen(terminal))
        assert "warning: later" in screen(terminal)


def test_a_stop_is_told_in_the_headline(terminal: Terminal) -> None:
    watched = Watched(terminal.stream())
    with watched.progress:
        watched.tell(*a_sweep(), Stopping("max_errors"))
        watched.wait(1)
        assert any(
            line.startswith("Stopping (max errors): calls in flight may end · 0:01") for line in screen(terminal)
        )


def test_a_job_in_the_background_does_not_draw_over_the_shell(
    terminal: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    watched = Watched(terminal.stream())
    with watched.progress:
        watched.tell(*a_sweep())
        monkeypatch.setattr(os, "tcgetpgrp", lambda _: os.getpgrp() + 1)
        watched.wait(3)
        assert terminal.rest() == ""
        monkeypatch.setattr(os, "tcgetpgrp", lambda _: os.getpgrp())
        watched.wait(0.25)
        assert "Cancelling" in terminal.rest()


def test_a_view_that_fails_is_a_view_less_and_nothing_else(terminal: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(progress: Progress) -> None:
        raise RuntimeError("of the view")

    monkeypatch.setattr(Progress, "tick", fails)
    with Progress(terminal.stream()) as progress:
        progress(Accepted(HERE, key(1)))
        terminal.seen("(progress is no longer shown: RuntimeError: of the view)")
        with progress.paused():
            pass
    assert progress.counters.accepted == 1


def test_a_terminal_that_somebody_made_non_blocking_gets_every_line(terminal: Terminal) -> None:
    stream = terminal.stream()
    os.set_blocking(stream.fileno(), False)
    watched = Watched(stream, verbose=True, no_progress=True)
    watched.tell(*(Accepted(HERE, key(number)) for number in range(3_000)))  # more than it takes at once
    writes = threading.Thread(target=watched.progress.tick)
    writes.start()
    text = terminal.seen("run-2999: accepted")
    writes.join()
    assert text.count("accepted") == 3_000


# Elsewhere


def pipe_of(events: list[Event], seconds: float, **options: Any) -> str:  # noqa: ANN401  # Progress's own
    reader, writer = os.pipe()
    with open(reader) as out:  # noqa: PTH123  # a file descriptor
        with open(writer, "w") as stream:  # noqa: PTH123  # a file descriptor
            watched = Watched(stream, **options)
            with watched.progress:
                watched.tell(*events)
                watched.wait(seconds)
        return out.read()


def test_off_a_terminal_a_line_every_few_seconds_says_where_things_stand() -> None:
    text = pipe_of(a_sweep(), 11)
    lines = [line for line in text.splitlines() if "asked" in line]
    assert len(lines) == 2
    assert lines[0] == (
        "12:00:00Z cancel: 21 of 40 runs asked; verify: 11 of 21 runs settled; 0.0 cancel requests/s · limit near 42/s;"
        " slowed by 1 throttle in 21 calls (4.8 %) · 1 retry; 1 denied"
    )
    assert "\x1b" not in text


def test_a_service_that_fails_is_named() -> None:
    failed = [CallAnswered(HERE, "CancelMLTaskRun", ErrorKind.TRANSIENT, 0.1, "InternalServiceException")] * 8
    text = pipe_of([*a_sweep(), *failed, CallAnswered(HERE, "Op", ErrorKind.TRANSIENT, 0.1, "Reset")], 6)
    assert "failed 9 of 30 calls (30 %): InternalServiceException and others" in text


def test_json_lines_are_json_and_ascii_with_every_number() -> None:
    text = pipe_of([*a_sweep(), Warned("ünïcode" + HOSTILE)], 6, log_format="json")
    documents = [json.loads(line) for line in text.splitlines()]
    assert text.isascii()
    assert all(set(document) == {"ts", "level", "event", "fields"} for document in documents)
    assert documents[0]["ts"] == "2026-11-24T12:00:00.123Z"
    [warned] = [document for document in documents if document["event"] == "warned"]
    assert (warned["level"], warned["fields"]["message"]) == ("warning", "ünïcode" + HOSTILE)
    [progress] = [document["fields"] for document in documents if document["event"] == "progress"]
    expected = {"asked": 21, "to_cancel": 40, "settled": 11, "throttled": 1, "estimated_dpu_hours_stopped": 15.0}
    assert {name: progress[name] for name in expected} == expected
    assert progress["outcomes"] == {"denied": 1, "stopped": 10, "excluded": 4}


def test_quiet_tells_trouble_alone_and_verbose_everything() -> None:
    events = [*a_sweep(), TargetFailed(THERE, "E", "words"), Warned("of no consequence")]
    quiet = pipe_of(events, 11, quiet=True)
    assert [line.split(": ")[0] for line in quiet.splitlines()] == ["12:00:00Z warning", "12:00:00Z error"]
    verbose = pipe_of(events, 11, verbose=True)
    assert "222222222222/eu-west-1 tfm-1 run-0: accepted" in verbose
    assert "ThrottlingException, again in 0.4 s" in verbose
    assert "now at most 42/s" in verbose
    plain = pipe_of(events, 11, no_progress=True)
    assert "runs asked;" not in plain
    assert "error: 333333333333/us-east-1: E: words" in plain


@pytest.mark.parametrize(
    "failures",
    [
        [OutcomeReached(HERE, key(n), Outcome.DENIED, "AccessDenied") for n in range(1_000)],
        [TargetFailed(Target("eu-west-1", f"{n}"), "AccessDenied", "words") for n in range(1_000)],
    ],
)
def test_a_thousand_failures_of_one_kind_are_ten_lines(failures: list[Event]) -> None:
    text = pipe_of(failures, 1, no_progress=True)
    assert len(text.splitlines()) == 10
    assert text.endswith("further ones like it are counted, and stand in the report\n")


def test_a_closed_pipe_is_noticed_once_and_left_in_peace() -> None:
    reader, writer = os.pipe()
    with open(writer, "w") as stream:  # noqa: PTH123  # a file descriptor
        watched = Watched(stream)
        with watched.progress:
            os.close(reader)
            watched.tell(*a_sweep(), Warned("nobody reads this"))
            watched.wait(11)
    assert watched.progress.counters.asked == 21


def test_a_standard_error_that_was_closed_is_no_trouble() -> None:
    for stream in (None, open(os.devnull, "w")):  # noqa: PTH123, SIM115  # a stream as the interpreter makes one
        if stream is not None:
            stream.close()
        watched = Watched(stream)
        with watched.progress:
            watched.tell(*a_sweep())
            watched.wait(11)
        assert watched.progress.counters.asked == 21


def test_a_terminal_that_takes_nothing_is_left_behind() -> None:
    """Ctrl-S: the thread hangs in its write; the sweep goes on, and the end does not wait for it."""
    with Terminal() as terminal:
        stream = terminal.stream()
        with Progress(stream, verbose=True) as progress:
            for number in range(20_000):  # far more than a terminal's buffer, and nobody reads
                progress(Accepted(HERE, key(number)))
        assert progress.counters.accepted == 20_000
        drawing = [thread for thread in threading.enumerate() if thread.name == "progress"]
        terminal.rest()  # Ctrl-Q
        while any(thread.is_alive() for thread in drawing):
            terminal.rest()


def test_lines_that_wait_for_ever_are_dropped_and_counted() -> None:
    reader, writer = os.pipe()
    with open(writer, "w") as stream, open(reader) as out:  # noqa: PTH123  # file descriptors
        watched = Watched(stream, verbose=True)
        watched.tell(*(Accepted(HERE, key(number)) for number in range(20_007)))
        reads = threading.Thread(target=lambda: watched.wait(0.125))
        reads.start()
        assert out.readline() == "(7 lines were left out: this output is read too slowly)\n"
        assert "run-7: accepted" in out.readline()
        for line in out:
            if "run-20006:" in line:
                break
        reads.join()


# What the numbers mean


def test_a_look_before_cancelling_is_not_counted_as_asking() -> None:
    watched = Watched(None)
    watched.tell(
        PhaseBegan(Phase.DISCOVER),
        *(OutcomeReached(HERE, key(number), Outcome.ALREADY_FINISHED) for number in range(40)),
        PhaseEnded(Phase.DISCOVER),
        PhaseBegan(Phase.CANCEL, 60),
        PhaseBegan(Phase.VERIFY),
        *(event for number in range(40, 50) for event in asked(number)),
    )
    counters = watched.progress.counters
    assert (counters.asked, counters.to_cancel, counters.settled) == (10, 60, 0)


def test_a_resumed_sweep_counts_what_an_earlier_process_asked_for_as_to_be_settled() -> None:
    watched = Watched(None)
    watched.tell(
        PhaseBegan(Phase.CANCEL, 5),
        PhaseBegan(Phase.VERIFY, 30),
        *(OutcomeReached(HERE, key(number), Outcome.STOPPED) for number in range(20)),
        *(event for number in range(30, 33) for event in asked(number)),
    )
    counters = watched.progress.counters
    assert (counters.asked, counters.to_cancel, counters.settled, counters.to_settle) == (3, 5, 20, 33)


def test_a_second_sweep_counts_what_it_finds_anew() -> None:
    watched = Watched(None)
    watched.tell(
        PhaseBegan(Phase.DISCOVER),
        PhaseBegan(Phase.CANCEL),
        SweepStarted(1),
        *listed("tfm-1", 10, 2),
        *(event for number in range(8) for event in asked(number)),
        TransformsFound(HERE, 1),
        SweepListed(1),
        SweepStarted(2),
        TransformsFound(HERE, 1),
        *listed("tfm-1", 2, 1),
    )
    counters = watched.progress.counters
    assert (counters.to_cancel, counters.excluded, counters.asked) == (12, 3, 8)
    assert (counters.transforms_listed, counters.transforms_found) == (1, 1)
    watched.tell(SweepListed(2), TargetFailed(THERE, "E", "words"), TargetFailed(THERE, "E", "words"))
    line = watched.progress._status.line()
    assert "discover: 1 of 1 transform · 12 to cancel; cancel: 8 of 12 runs asked" in line
    assert "1 target in trouble" in line  # the same one twice
    watched.tell(TargetRecovered(THERE))
    assert "in trouble" not in watched.progress._status.line()


def test_before_the_first_phase_a_list_is_read() -> None:
    watched = Watched(None)
    assert watched.progress._status.line() == "starting"
    watched.tell(ManifestRead(2_000))
    assert watched.progress._status.line() == "reading the list: 2,000 rows so far"


def test_the_time_at_a_question_is_no_part_of_times_and_speeds() -> None:
    watched = Watched(None)
    watched.tell(PhaseBegan(Phase.CONNECT))
    watched.wait(2)
    with watched.progress.paused():
        watched.wait(230)
    watched.tell(PhaseBegan(Phase.CANCEL, 900), ToAsk(HERE, 900))
    for number in range(60):
        watched.tell(CallAnswered(HERE, "CancelMLTaskRun", None, 0.1), *asked(number))
        watched.wait(0.125)
    status = watched.progress._status
    assert status.elapsed_seconds < 10
    assert status.rates() == ["8.0 cancel requests/s"]
    assert status.eta() == "about 1m45s left"


def test_what_is_waited_for_at_the_end_is_told_with_the_end_of_the_wait(terminal: Terminal) -> None:
    watched = Watched(terminal.stream())
    with watched.progress:
        watched.tell(PhaseBegan(Phase.CANCEL, 5), PhaseBegan(Phase.VERIFY), CallAnswered(HERE, "X", None, 0.1))
        watched.tell(*(event for number in range(5) for event in asked(number)))
        watched.tell(OutcomeReached(HERE, key(4), Outcome.STOPPED))
        watched.tell(Awaited(HERE, "tfm-1", 3, 3, 56.0, 844.0), Awaited(THERE, "tfm-1", 1, 1, 20.0, 874.0))
        watched.wait(2)
        assert "  waits for  4 STOPPING, longest 0:58, gives up in 14:32" in screen(terminal)
        assert "4 STOPPING, longest 0:58, gives up in 14:32" in watched.progress._status.line()
        watched.tell(Awaited(THERE, "tfm-1", 0), Awaited(HERE, "tfm-1", 3, 2, 60.0, 840.0))
        status = watched.progress._status
        assert "3 runs, 2 of them STOPPING, 1 not read yet, longest 1:00, gives up in 14:00" in status.line()
        watched.tell(*(OutcomeReached(HERE, key(number), Outcome.STOPPED) for number in (1, 2)))
        assert "verify: 3 of 5 runs settled; 2 STOPPING, longest 1:00" in status.line()  # before they are counted anew
        watched.tell(Awaited(HERE, "tfm-1", 0))
        assert "STOPPING" not in status.line()


def test_a_resumed_sweep_tells_what_stood_in_its_ledger() -> None:
    events = [
        Resumed(runs=274, settled=57, excluded=0, to_read=80, to_ask=137, in_doubt=90),
        PhaseBegan(Phase.CANCEL),
        PhaseBegan(Phase.VERIFY),
        *asked(1),
    ]
    lines = pipe_of(events, 6).splitlines()
    assert lines[0].endswith(
        "Z resumed: 274 runs · 47 to ask · 90 to read back first · 80 asked before · 57 settled before"
    )
    assert lines[-1].startswith("12:00:00Z cancel: 1 of 137 runs asked; verify: 0 of 81 runs settled")


def test_a_phase_that_left_something_undone_is_not_called_done() -> None:
    events = [
        PhaseBegan(Phase.DISCOVER),
        TransformsFound(HERE, 8),
        RunsFound(HERE, 7, 0),  # of a transform whose listing had not come to its end
        PhaseBegan(Phase.CANCEL),
        *asked(1),
        Stopping("deadline"),
        PhaseEnded(Phase.DISCOVER),
        PhaseEnded(Phase.CANCEL),
    ]
    text = pipe_of(events, 1)
    assert "discover: 0 of 8 transforms · 7 to cancel; stopped\n" in text
    assert "cancel: 1 of 7 runs asked; stopped\n" in text


def test_a_rate_is_told_with_the_targets_that_it_is_of_and_only_while_somebody_is_asked() -> None:
    watched = Watched(None)
    call = CallAnswered(HERE, "CancelMLTaskRun", None, 0.1)
    watched.tell(PhaseBegan(Phase.CANCEL, 2), RateChanged(HERE, "CancelMLTaskRun", 316.0, False), call, *asked(1))
    status = watched.progress._status
    assert status.rates() == ["0.0 cancel requests/s · no limit met so far"]  # what is allowed was not seen to go
    watched.tell(call, CallAnswered(THERE, "CancelMLTaskRun", None, 0.1))
    watched.tell(RateChanged(HERE, "CancelMLTaskRun", 32.0, True))
    for number in range(40):
        watched.tell(*([call] * 3), *([CallAnswered(THERE, "CancelMLTaskRun", None, 0.1)] * (number % 2)))
        watched.wait(0.125)
    assert status.rates() == [
        "28 cancel requests/s at 2 targets",  # three and a half, eight times a second
        "busiest 222222222222/eu-west-1: 24/s · limit near 32/s",  # what can be held against each other is of one
    ]
    assert status.fields()["busiest_cancel_rps"] == 24.0
    watched.tell(*asked(2))
    assert status.rates() == ["busiest 222222222222/eu-west-1: limit near 32/s"]


def test_a_target_is_named_as_soon_as_its_account_is_known() -> None:
    unknown = Target("eu-west-1")
    events: list[Event] = [
        PhaseBegan(Phase.CONNECT),
        TargetOpened(unknown),
        PhaseEnded(Phase.CONNECT),
        TargetIdentified(HERE),
        TargetFailed(HERE, "AccessDenied", "AccessDenied: not you"),
        TargetFailed(HERE, "AccessDenied", "AccessDenied: not you"),
        PlaceFailed("unit ou-1", "AccessDenied", "nor there"),
    ]
    lines = pipe_of(events, 1).splitlines()
    assert [line.removeprefix("12:00:00Z ") for line in lines] == [
        "connect: begins",
        "connect: default/eu-west-1; done",
        "account: 222222222222/eu-west-1",
        "error: 222222222222/eu-west-1: AccessDenied: not you",
        "error: unit ou-1: AccessDenied: nor there",
    ]


def test_on_a_terminal_lines_break_between_words_and_a_command_never(terminal: Terminal) -> None:
    watched = Watched(terminal.stream(), no_progress=True)
    directory = "runs of a night/" + "x" * 90
    arn = "arn:aws:iam::222222222222:role/" + "y" * 80
    watched.tell(SweepBegan("id", directory), TargetFailed(HERE, "AccessDenied", f"{'word ' * 20}{arn}"))
    watched.wait(1)
    lines = terminal.rest().replace("\r\n", "\n").splitlines()
    assert f"  batch-cancel resume '{directory}'" in lines
    assert f"  {arn}" in lines
    assert all(len(line) < 80 for line in lines if "x" * 90 not in line and arn not in line)


def test_verbose_tells_each_call_and_on_a_terminal_when(terminal: Terminal) -> None:
    watched = Watched(terminal.stream(), verbose=True, no_progress=True)
    watched.tell(
        CallAnswered(HERE, "GetMLTaskRuns", None, 0.0315),
        CallAnswered(HERE, "CancelMLTaskRun", ErrorKind.NOT_FOUND, 0.2),
        RateChanged(HERE, "CancelMLTaskRun", 1_100.0, False),
    )
    watched.wait(1)
    assert terminal.rest().replace("\r\n", "\n").splitlines() == [
        "12:00:00Z 222222222222/eu-west-1: GetMLTaskRuns: ok, 0.032 s",
        "12:00:00Z 222222222222/eu-west-1: CancelMLTaskRun: not found, 0.200 s",
        "12:00:00Z 222222222222/eu-west-1: CancelMLTaskRun: now at most 1,100/s",
    ]


def test_when_all_is_asked_the_view_says_what_is_waited_for(terminal: Terminal) -> None:
    watched = Watched(terminal.stream())
    with watched.progress:
        watched.tell(PhaseBegan(Phase.CANCEL, 8), PhaseBegan(Phase.VERIFY))
        watched.tell(*(event for number in range(8) for event in asked(number)))
        watched.tell(CallAnswered(HERE, "CancelMLTaskRun", None, 0.1))
        for number in range(4):
            watched.tell(OutcomeReached(HERE, key(number), Outcome.STOPPED))
            watched.wait(1)
        assert screen(terminal)[1] == "Reading what became of the runs · 0:04"  # how long they take, nobody knows


def test_an_estimate_counts_down_and_does_not_jump() -> None:
    watched = Watched(None)
    watched.tell(PhaseBegan(Phase.CANCEL, 1_000), ToAsk(HERE, 1_000))
    said: list[int] = []
    number = 0
    for second in range(40):
        for _ in range(10 + second % 3):  # a speed that is never quite the same
            watched.tell(*asked(number))
            number += 1
        watched.wait(1)
        match = re.search(r"cancelling: about (?:(\d+)m)?(?:(\d+)s)? left", watched.progress._status.line())
        if match is not None:
            said.append(60 * int(match[1] or 0) + int(match[2] or 0))
    assert all(later <= earlier for earlier, later in pairwise(said))
    assert abs(said[-1] - (1_000 - number) / 11) <= 6


def test_an_estimate_is_given_up_when_the_last_few_are_stuck() -> None:
    watched = Watched(None)
    watched.tell(PhaseBegan(Phase.CANCEL, 100), PhaseBegan(Phase.VERIFY), ToAsk(HERE, 100))
    for number in range(97):
        watched.tell(*asked(number))
        watched.wait(0.125)
    assert watched.progress._status.eta() is not None
    watched.wait(10)
    assert watched.progress._status.eta() is None


def test_an_estimate_leaves_out_the_runs_of_a_target_that_was_given_up() -> None:
    watched = Watched(None)
    watched.tell(PhaseBegan(Phase.CANCEL, 1_000), ToAsk(THERE, 760), ToAsk(HERE, 240), PhaseBegan(Phase.VERIFY))
    for number in range(80):
        watched.tell(*asked(number), Asked(THERE, key(number)))
        watched.wait(0.125)
    status = watched.progress._status
    assert status.eta() == "about 1m25s left"  # it goes on as long as the target that has most to do
    watched.tell(TargetGivenUp(THERE, 680, 40))
    watched.wait(0.25)
    assert status.eta() == "about 21s left"
    for number in range(80, 240):
        watched.tell(*asked(number))
        watched.wait(0.125)
    assert status.title() == "Reading what became of the runs"  # nothing that is left to be asked for ever will be
    assert "320 of 1,000 runs asked" in {line.name: line.says for line in status.phase_lines()}["cancel"]


def test_an_estimate_is_not_of_the_burst_that_a_limit_lets_through() -> None:
    watched = Watched(None)
    call = CallAnswered(HERE, "CancelMLTaskRun", None, 0.1)
    watched.tell(PhaseBegan(Phase.CANCEL, 500), ToAsk(HERE, 500), PhaseBegan(Phase.VERIFY))
    watched.tell(call, *asked(0))
    watched.wait(0.25)
    for number in range(1, 100):
        watched.tell(call, *asked(number))
    for number in range(100, 110):
        watched.tell(call, *asked(number))
        watched.wait(0.25)
    status = watched.progress._status
    assert status.eta() is None  # a few seconds with a burst among them tell no speed
    watched.tell(RateChanged(HERE, "CancelMLTaskRun", 4.0, True))
    assert status.eta_seconds() == 390 / 4
    for number in range(110, 130):  # every other request is in vain
        watched.tell(call, call, *asked(number))
        watched.wait(0.5)
    assert status.eta_seconds() == pytest.approx(370 / 2, rel=0.1)


def test_the_speed_before_an_outage_and_the_outage_are_no_estimate() -> None:
    watched = Watched(None)
    watched.tell(PhaseBegan(Phase.CANCEL, 1_000), ToAsk(HERE, 1_000), PhaseBegan(Phase.VERIFY))
    for number in range(80):
        watched.tell(*asked(number))
        watched.wait(0.125)
    status = watched.progress._status
    assert status.eta() is not None
    watched.wait(4)
    assert status.eta() is None
    watched.wait(8)
    for number in range(80, 120):
        watched.tell(*asked(number))
        watched.wait(0.125)
        assert status.eta() in (None, "about 1m55s left", "about 1m50s left")  # 920 to 880, eight a second
    assert status.eta() is not None


def test_an_estimate_of_listing_waits_for_its_speed(terminal: Terminal) -> None:
    watched = Watched(terminal.stream())
    with watched.progress:
        watched.tell(PhaseBegan(Phase.DISCOVER), TransformsFound(HERE, 400), CallAnswered(HERE, "X", None, 0.1))
        for number in range(32):
            watched.tell(*listed(f"tfm-{number}", 1))
            watched.wait(0.125)
        assert screen(terminal)[1] == "Discovering · 0:04"
        for number in range(32, 80):
            watched.tell(*listed(f"tfm-{number}", 1))
            watched.wait(0.125)
        assert screen(terminal)[1] == "Discovering: about 40s left · 0:10"


def test_no_estimate_while_nobody_can_know() -> None:
    watched = Watched(None)
    watched.tell(PhaseBegan(Phase.DISCOVER), PhaseBegan(Phase.CANCEL), *listed("tfm-1", 100))
    for number in range(50):
        watched.tell(*asked(number))
        watched.wait(0.125)
    assert watched.progress._status.eta() is None  # discovery goes on
    watched.tell(PhaseEnded(Phase.DISCOVER))
    assert watched.progress._status.eta() is not None
    watched.tell(Stopping("deadline"))
    assert watched.progress._status.eta() is None


targets = st.sampled_from([HERE, THERE])
outcomes = st.sampled_from(Outcome)
events: st.SearchStrategy[Event] = st.one_of(
    st.builds(PhaseBegan, st.sampled_from(Phase), st.none() | st.integers(0, 5)),
    st.builds(PhaseEnded, st.sampled_from(Phase)),
    st.builds(TargetOpened, targets),
    st.builds(TargetFailed, targets, st.text(max_size=5), st.text(max_size=5)),
    st.builds(TransformsFound, targets, st.integers(0, 5)),
    st.builds(TransformListed, targets, st.just("t"), st.integers(0, 5), st.integers(0, 5)),
    st.builds(CallAnswered, targets, st.just("CancelMLTaskRun"), st.none() | st.sampled_from(ErrorKind), st.just(0.1)),
    st.builds(RunsFound, targets, st.integers(0, 5), st.integers(0, 5)),
    st.builds(ToAsk, targets, st.integers(0, 9)),
    st.builds(Asked, targets, st.just(key(1))),
    st.builds(Accepted, targets, st.just(key(1))),
    st.builds(Awaited, targets, st.just("t"), st.integers(0, 5), st.integers(0, 5), st.just(3.0), st.just(9.0)),
    st.builds(Resumed, *[st.integers(0, 5)] * 6),
    st.builds(TargetIdentified, targets),
    st.builds(TargetGivenUp, targets, st.integers(0, 9), st.integers(0, 9)),
    st.builds(TargetRecovered, targets),
    st.builds(PlaceFailed, st.text(max_size=5), st.text(max_size=5), st.text(max_size=5)),
    st.builds(OutcomeReached, targets, st.just(key(1)), outcomes),
    st.builds(SweepStarted, st.integers(1, 3)),
    st.builds(SweepListed, st.integers(1, 3)),
    st.builds(Stopping, st.just("deadline")),
)


@settings(deadline=None, max_examples=40)
@given(st.lists(events, max_size=20), st.integers(2, 200), st.integers(1, 60))
def test_whatever_happens_in_whatever_order_can_be_shown(history: list[Event], columns: int, rows: int) -> None:
    from batch_cancel.cli.progress.view import View

    watched = Watched(None, verbose=True)
    view = View(watched.progress._status, colour=True, unicode=True)
    for event in history:
        watched.tell(event)
        watched.wait(0.5)
        lines = view.lines(columns, rows)
        assert len(lines) <= max(1, rows - 1)
        assert all(line.cells < columns for line in lines)
        json.dumps(watched.progress._status.fields())
        assert watched.progress._status.line()


def test_progress_costs_the_first_request_nothing() -> None:
    """rich comes in when the first call was answered, not before."""
    script = "import sys, batch_cancel.cli.progress; sys.exit('rich' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], check=False, cwd=ROOT).returncode == 0


KILLED = """
import os, signal, sys
from batch_cancel.cli.progress import Progress
from batch_cancel.core.events import CallAnswered, Phase, PhaseBegan
from batch_cancel.core.task_run import Target
with Progress(sys.stderr) as on_event:
    on_event(PhaseBegan(Phase.CANCEL, 10))
    on_event(CallAnswered(Target("eu-west-1"), "CancelMLTaskRun", None, 0.1))
    sys.stdin.readline()
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_process_that_is_killed_leaves_a_healthy_terminal(terminal: Terminal) -> None:
    process = terminal.start("-c", KILLED)
    terminal.seen("0 of 10 runs asked")
    terminal.type("\n")
    process.communicate(timeout=20)
    text = terminal.rest()
    assert "\x1b[?" not in text  # no cursor hidden, no other screen, no mode changed
    assert "Traceback" not in text


def test_a_terminal_without_unicode_gets_none(terminal: Terminal) -> None:
    from batch_cancel.cli.progress.view import View

    watched = Watched(terminal.stream(), no_color=True)
    watched.tell(*a_sweep())
    lines = View(watched.progress._status, colour=False, unicode=False).lines(60, 30)
    assert all(line.text.isascii() for line in lines)
    assert "  cancel     ========........  21 of 40 runs asked" in [line.text for line in lines]


def test_every_event_is_counted_or_told() -> None:
    counters, records = Watched(None).progress.counters, Watched(None).progress._records
    assert set(get_args(Event)) - set(counters._handlers) == {SweepBegan, Warned}
    told_by_the_counts_alone = {
        *(TransformsFound, TransformsDescribed, TransformListed, RunsFound, ToAsk),
        *(ManifestRead, Asked, Awaited, SweepListed),
    }
    assert set(get_args(Event)) - set(records.makers(Level.DEBUG)) == told_by_the_counts_alone
