"""Signals to a process of its own: the first asks, the second leaves. Standard output: a closed pipe is no error."""

import contextlib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.terminal import Terminal

SWEEP = """
import asyncio, sys, time
from batch_cancel.cli.signals import exit_code_of, handle_signals

async def story():
    got = asyncio.get_running_loop().create_future()
    def asked(signum):
        print("asked", signum, flush=True)
        got.set_result(signum)
    with handle_signals(asked, farewell="mend it"):
        print("ready", flush=True)
        STORY

sys.exit(asyncio.run(story()))
"""
ENDS = "return exit_code_of(await got)"
DRAINS_FOR_EVER = "await asyncio.Event().wait()"
IS_STUCK = """
        while True:
            pass
"""


def start(story: str, **keywords: object) -> "subprocess.Popen[bytes]":
    process: subprocess.Popen[bytes] = subprocess.Popen(
        [sys.executable, "-c", SWEEP.replace("STORY", story.strip())],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        **keywords,  # type: ignore[call-overload]  # what a test wants of it
    )
    assert process.stdout is not None
    assert process.stdout.readline() == b"ready\n"
    return process


def ended(process: "subprocess.Popen[bytes]") -> tuple[int, bytes, bytes]:
    out, err = process.communicate(timeout=20)
    return process.returncode, out, err


@pytest.mark.parametrize(("signum", "exit_code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_the_first_signal_asks_the_sweep_which_ends_by_itself(signum: signal.Signals, exit_code: int) -> None:
    process = start(ENDS)
    process.send_signal(signum)
    assert ended(process) == (exit_code, b"asked %d\n" % signum, b"")


@pytest.mark.parametrize("first", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize(("second", "exit_code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_the_second_signal_leaves_at_once_with_a_word_on_what_mends_it(
    first: signal.Signals, second: signal.Signals, exit_code: int
) -> None:
    process = start(DRAINS_FOR_EVER)
    process.send_signal(first)
    assert process.stdout is not None
    assert process.stdout.readline() == b"asked %d\n" % first
    process.send_signal(second)
    assert ended(process) == (exit_code, b"", b"batch-cancel: mend it\n")


def test_where_the_log_is_json_the_last_word_is_a_line_of_it() -> None:
    process = start(DRAINS_FOR_EVER, env=os.environ | {"BATCH_CANCEL_LOG_FORMAT": "json"})
    process.send_signal(signal.SIGINT)
    assert process.stdout is not None
    assert process.stdout.readline() == b"asked %d\n" % signal.SIGINT
    process.send_signal(signal.SIGTERM)
    code, _, told = ended(process)
    line = json.loads(told)
    assert (code, line["event"]) == (143, "failed")
    assert line["fields"] == {"type": "Interrupted", "message": "mend it", "exit_code": 143}


def test_the_second_signal_leaves_although_the_loop_is_stuck_and_never_heard_the_first() -> None:
    process = start(IS_STUCK)
    process.send_signal(signal.SIGINT)
    while process.poll() is None:
        process.send_signal(signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):  # a flood of them would fill the loop's own pipe
            process.wait(timeout=1)
    code, out, err = ended(process)
    assert (code, out) == (143, b"")
    assert err in (b"batch-cancel: mend it\n", b"")  # a third may cut the word short


def test_what_was_ignored_stays_ignored() -> None:
    def ignore() -> None:
        signal.signal(signal.SIGINT, signal.SIG_IGN)

    process = start(ENDS, preexec_fn=ignore)
    process.send_signal(signal.SIGINT)
    process.send_signal(signal.SIGTERM)
    assert ended(process) == (143, b"asked 15\n", b"")


def test_ctrl_c_at_a_terminal_leaves_a_healthy_screen() -> None:
    with Terminal() as terminal:
        process = terminal.start("-c", SWEEP.replace("STORY", DRAINS_FOR_EVER))
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        terminal.type("\x03")
        assert process.stdout.readline() == b"asked 2\n"
        terminal.type("\x03")
        process.communicate(timeout=20)
        assert process.returncode == 130
        assert terminal.seen("mend it\r\n").endswith("\x1b[0m\r\nbatch-cancel: mend it\r\n")


def test_handlers_are_put_back() -> None:
    script = SWEEP.replace("STORY", "return 0").replace(
        "sys.exit(asyncio.run(story()))",
        "import signal; before = [signal.getsignal(s) for s in (2, 15)]; asyncio.run(story());"
        "sys.exit(before != [signal.getsignal(s) for s in (2, 15)])",
    )
    assert subprocess.run([sys.executable, "-c", script], check=False, capture_output=True).returncode == 0


@pytest.mark.parametrize("between", ["add_signal_handler", "remove_signal_handler"])
def test_a_signal_between_two_handlers_is_heard(between: str) -> None:
    script = f"""
import asyncio, os, signal
from batch_cancel.cli.signals import handle_signals, held_signals

heard = []
async def story():
    loop = asyncio.get_running_loop()
    change = loop.{between}
    def changed(signum, *arguments):
        change(signum, *arguments)
        if signum == signal.SIGTERM:
            os.kill(os.getpid(), signum)
    loop.{between} = changed
    with handle_signals(heard.append):
        await asyncio.sleep(0)

with held_signals() as came:
    asyncio.run(story())
print(heard, came)
"""
    done = subprocess.run([sys.executable, "-c", script], check=False, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "[15] []\n" if between.startswith("add") else "[] [15]\n"), done.stderr


def test_little_is_imported_before_a_signal_is_heard() -> None:
    script = """
import os, signal, sys
before = set(sys.modules)  # whoever handles signals waits for these
import batch_cancel.__main__
print(*sorted(set(sys.modules) - before))
"""
    # Without site: what other packages import at every start is not ours.
    done = subprocess.run([sys.executable, "-S", "-c", script], check=True, capture_output=True, text=True)
    assert "batch_cancel.__main__" in done.stdout.split()
    assert not {"typing", "re", "contextlib", "importlib", "asyncio", "click"} & set(done.stdout.split())


def test_a_signal_after_all_is_done_changes_no_exit_code() -> None:
    script = (
        "import atexit, os, signal, sys; from batch_cancel.__main__ import main;"
        "atexit.register(os.kill, os.getpid(), signal.SIGTERM); sys.argv[1:] = ['report', 'nowhere']; main()"
    )
    done = subprocess.run([sys.executable, "-c", script], check=False, capture_output=True, text=True)
    assert done.returncode == 2
    assert "holds no ledger" in done.stderr and len(done.stderr.splitlines()) == 1


def test_nor_does_one_that_comes_while_the_interpreter_takes_itself_apart() -> None:
    script = """
import os, signal, sys
from batch_cancel.__main__ import main
class Last:
    def __del__(self, kill=os.kill, pid=os.getpid(), signum=signal.SIGTERM):
        kill(pid, signum)
last = Last()
sys.argv[1:] = ["report", "nowhere"]
main()
"""
    done = subprocess.run([sys.executable, "-c", script], check=False, capture_output=True, text=True)
    assert done.returncode == 2
    assert "holds no ledger" in done.stderr and len(done.stderr.splitlines()) == 1


def test_signals_that_follow_the_first_while_nothing_has_begun_end_it_as_the_first_does() -> None:
    script = """
import atexit, os, signal, sys
from batch_cancel import __main__
atexit.register(os.kill, os.getpid(), signal.SIGINT)
class Finder:
    def find_spec(self, name, path=None, target=None):
        if name == "batch_cancel.cli":
            try:
                os.kill(os.getpid(), signal.SIGTERM)
            finally:
                os.kill(os.getpid(), signal.SIGINT)
sys.meta_path.insert(0, Finder())
__main__.main()
"""
    done = subprocess.run([sys.executable, "-c", script], check=False, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (143, "batch-cancel: interrupted\n")


def test_a_standard_error_that_cannot_be_written_to_changes_no_exit_code_of_a_signal() -> None:
    script = """
import os, signal, sys
from batch_cancel.__main__ import main
class Finder:
    def find_spec(self, name, path=None, target=None):
        if name == "batch_cancel.cli":
            os.kill(os.getpid(), signal.SIGTERM)
sys.meta_path.insert(0, Finder())
main()
"""
    reading, writing = os.pipe()
    os.close(reading)
    try:
        done = subprocess.run([sys.executable, "-c", script], check=False, stderr=writing)
    finally:
        os.close(writing)
    assert done.returncode == 143


# Standard output

SAYS = """
import sys
from batch_cancel.cli.signals import say
from batch_cancel.core.errors import BatchCancelError
try:
    heard = say(TEXT)
except BatchCancelError as error:
    print("error:", error, file=sys.stderr)
    sys.exit(7)
sys.exit(0 if heard else 5)
"""


def says(text: str, **keywords: object) -> "subprocess.Popen[bytes]":
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    process: subprocess.Popen[bytes] = subprocess.Popen(
        [sys.executable, "-c", SAYS.replace("TEXT", text)],
        stderr=subprocess.PIPE,
        **{"env": environment, **keywords},  # type: ignore[call-overload]  # what a test wants of it
    )
    return process


@pytest.mark.parametrize("characters", [1, 100_000])  # what fits into a buffer is what could make trouble at the end
def test_a_reader_who_left_changes_nothing(characters: int) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    process = says(f"'x' * {characters}", stdout=writer)
    os.close(writer)
    assert ended(process)[::2] == (5, b"")


def test_a_closed_standard_output_changes_nothing() -> None:
    assert ended(says("'x'", preexec_fn=lambda: os.close(1)))[::2] == (5, b"")


@pytest.mark.parametrize("characters", [1, 100_000])
def test_a_full_disk_is_an_error_with_a_sentence(characters: int) -> None:
    with Path("/dev/full").open("wb") as full:
        code, _, err = ended(says(f"'x' * {characters}", stdout=full))
    assert (code, err) == (7, b"error: standard output cannot be written: No space left on device\n")


@pytest.mark.parametrize(
    ("encoding", "written"),
    [("utf-8", b"\xc3\xa9 \\udc80\n"), ("ascii", b"\\xe9 \\udc80\n"), ("latin-1", b"\xe9 \\udc80\n")],
)
def test_what_the_terminals_encoding_has_not_is_escaped(encoding: str, written: bytes) -> None:
    environment = {**os.environ, "PYTHONIOENCODING": encoding}
    process = says(r"'\xe9 \udc80\n'", stdout=subprocess.PIPE, env=environment)
    assert ended(process) == (0, written, b"")
