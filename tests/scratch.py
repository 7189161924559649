"""Directories that are soon gone, in memory where the machine has such a place: a commit waits for no disk."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_kept: list[Path] = []


def kept_for_the_test() -> Path:
    """A directory that is there until the test is over."""
    _kept.append(_made())
    return _kept[-1]


def forget() -> None:
    """Remove what was kept."""
    while _kept:
        shutil.rmtree(_kept.pop(), ignore_errors=True)


@contextmanager
def scratch() -> Iterator[Path]:
    """A directory that is gone afterwards."""
    directory = _made()
    try:
        yield directory
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def _made() -> Path:
    memory = Path("/dev/shm")
    base = memory if memory.is_dir() and os.access(memory, os.W_OK) else None
    return Path(tempfile.mkdtemp(prefix="batch-cancel-test-", dir=base))
