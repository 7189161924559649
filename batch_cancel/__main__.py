"""``python -m batch_cancel`` is the same program as ``batch-cancel``."""

import atexit
import os
import signal
import sys
from types import FrameType

from batch_cancel.log_format import interrupted

SIGNALS = (signal.SIGINT, signal.SIGTERM)


def main() -> None:
    """The console script. A signal ends it with 130 or 143 and a word, though it has hardly begun.

    So the command line is imported only when the handlers stand. A signal that was ignored stays ignored. One that
    comes to ``resume`` waits until there is a sweep to interrupt: its run directory has reports, which say how it ended
    (:func:`batch_cancel.cli.signals.held_signals` lets it in).
    """
    if sys.argv[1:2] == ["resume"]:
        signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    for signum in SIGNALS:
        if signal.getsignal(signum) is not signal.SIG_IGN:
            signal.signal(signum, _leave)
    atexit.register(_hear_nothing)
    from batch_cancel.cli import main as command_line  # noqa: PLC0415  # as said

    try:
        command_line()
    except SystemExit as end:
        _hear_nothing_but(end.code)
        raise


def _hear_nothing_but(code: object) -> None:
    """All is said and done: a signal from here on leaves at once, with the code that the reports have."""
    if isinstance(code, int):
        for signum in SIGNALS:
            if signal.getsignal(signum) is not signal.SIG_IGN:
                signal.signal(signum, lambda _signum, _frame: os._exit(code))


def _hear_nothing() -> None:
    """The interpreter takes itself apart: it would put back what a signal does by itself, and that is to kill."""
    for signum in SIGNALS:
        signal.signal(signum, signal.SIG_IGN)


def _leave(signum: int, frame: FrameType | None) -> None:
    try:  # noqa: SIM105  # contextlib would have to be imported before the handlers stand
        os.write(2, interrupted(128 + signum).encode())
    except OSError:
        pass  # nobody to tell changes no exit code
    _hear_nothing_but(128 + signum)
    sys.exit(128 + signum)


if __name__ == "__main__":
    main()
