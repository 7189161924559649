"""``python -m batch_cancel`` is the same program as ``batch-cancel``."""

import os
import signal
import sys
from types import FrameType


def main() -> None:
    """The console script. A signal ends it with 130 or 143 and a word, though it has hardly begun.

    So the command line is imported only when the handlers stand. A signal that was ignored stays ignored.
    """
    for signum in (signal.SIGINT, signal.SIGTERM):
        if signal.getsignal(signum) is not signal.SIG_IGN:
            signal.signal(signum, _leave)
    from batch_cancel.cli import main as command_line  # noqa: PLC0415  # as said

    command_line()


def _leave(signum: int, frame: FrameType | None) -> None:
    os.write(2, b"batch-cancel: interrupted\n")
    sys.exit(128 + signum)


if __name__ == "__main__":
    main()
