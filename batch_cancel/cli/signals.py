"""SIGINT and SIGTERM for a sweep, and a standard output that nobody reads any more."""

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from batch_cancel.cli.failure import failure_line
from batch_cancel.core.errors import BatchCancelError
from batch_cancel.log_format import logs_json

SIGNALS = (signal.SIGINT, signal.SIGTERM)
STDERR = 2


def exit_code_of(signum: int) -> int:
    """What a shell calls the death by a signal: 130 for SIGINT, 143 for SIGTERM."""
    return 128 + signum


@contextmanager
def handle_signals(on_signal: Callable[[int], None], *, farewell: str = "") -> Iterator[None]:
    """Inside, the first signal calls ``on_signal(signum)`` in the running event loop; a second leaves at once.

    The second is caught by Python itself and not by the loop, so it works although the loop is stuck. It leaves with
    130 or 143, without any clean-up: the ledger is made for that. The live view needs none: it changes no mode of the
    terminal. A signal that was ignored on entering (``nohup``, a background job of a script) stays ignored.

    Args:
        on_signal: asks the sweep to stop; called once.
        farewell: a sentence for standard error when a second signal leaves: what mends it.
    """
    loop = asyncio.get_running_loop()
    before = _not_ignored()
    came: list[int] = []

    def hear(signum: int, frame: FrameType | None) -> None:
        _note_or_leave(came, signum, farewell)
        loop.call_soon_threadsafe(on_signal, signum)

    with _held_back(before):
        for signum in before:
            loop.add_signal_handler(signum, _nothing)  # for its other half: a loop that waits is woken by the signal
            signal.signal(signum, hear)
    try:
        yield
    finally:
        with _held_back(before):
            for signum in before:
                loop.remove_signal_handler(signum)
                signal.signal(signum, before[signum])


@contextmanager
def held_signals(*, farewell: str = "") -> Iterator[list[int]]:
    """Inside, the first signal is noted and no more; a second leaves at once.

    For what must not be cut in two: a ledger that is made, reports that are written. :func:`handle_signals` takes over
    while a sweep is at work. A signal that had to wait until now (:mod:`batch_cancel.__main__`) is the first.

    Args:
        farewell: a sentence for standard error when a second signal leaves.
    """
    before = _not_ignored()
    came: list[int] = []

    def hear(signum: int, frame: FrameType | None) -> None:
        _note_or_leave(came, signum, farewell)

    for signum in before:
        signal.signal(signum, hear)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, before)
    try:
        yield came
    finally:
        for signum in before:
            signal.signal(signum, before[signum])


@contextmanager
def _held_back(signals: Iterable[signal.Signals]) -> Iterator[None]:
    """Inside, these signals wait: between two handlers asyncio has its own, which loses one, or lets it kill."""
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, signals)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)


def _not_ignored() -> dict[signal.Signals, Any]:
    """Our signals with their handlers, but for those that are to stay ignored."""
    handlers = {signum: signal.getsignal(signum) for signum in SIGNALS}
    return {signum: handler for signum, handler in handlers.items() if handler is not signal.SIG_IGN}


def _note_or_leave(came: list[int], signum: int, farewell: str) -> None:
    """Note the first signal; leave at another."""
    came.append(signum)
    if len(came) > 1:
        if len(came) == 2:  # somebody who holds the key down gets one answer
            _say_last(farewell, exit_code_of(signum))
        os._exit(exit_code_of(signum))


def _nothing() -> None:
    """What is to be done is done by :func:`handle_signals`'s own handler."""


def _say_last(farewell: str, exit_code: int) -> None:
    """Below the live view, in the terminal's own colours; if nothing can be written without waiting, nothing is."""
    if not farewell:
        return
    if logs_json(sys.argv[1:], os.environ):
        said = failure_line("Interrupted", farewell, exit_code)
    else:
        said = f"\r\x1b[0m\nbatch-cancel: {farewell}" if os.isatty(STDERR) else f"batch-cancel: {farewell}"
    with contextlib.suppress(OSError):
        os.set_blocking(STDERR, False)
        os.write(STDERR, f"{said}\n".encode())
    with contextlib.suppress(OSError):
        os.set_blocking(STDERR, True)  # the terminal is shared with the shell that started us


def say(text: str) -> bool:
    """Write the result on standard output; False where nobody reads it any more (``| head``).

    A closed pipe is the reader's choice: it changes neither what the sweep did nor its exit code.

    Raises:
        BatchCancelError: it is read, but cannot be written: a full disk.
    """
    if sys.stdout is None:
        return False
    encoding = sys.stdout.encoding or "utf-8"
    try:
        sys.stdout.write(text.encode(encoding, "backslashreplace").decode(encoding))
        sys.stdout.flush()
    except BrokenPipeError:
        _forget_stdout()
        return False
    except ValueError:
        return False  # it was closed
    except OSError as error:
        _forget_stdout()
        raise BatchCancelError(f"standard output cannot be written: {error.strerror}") from error
    return True


def _forget_stdout() -> None:
    """What is left in the buffer goes nowhere, so that the interpreter does not stumble over it on its way out."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, sys.stdout.fileno())
    except (OSError, ValueError):
        pass
    finally:
        os.close(nowhere)
