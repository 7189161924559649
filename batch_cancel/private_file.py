"""Files that are their maker's alone: ids, accounts and reasons are nobody else's business."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO


def private(path: str, flags: int) -> int:
    """An ``opener`` for :func:`open`: a file that it makes has mode 0600; one that is there keeps its own."""
    return os.open(path, flags, 0o600)


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Inside, a new file of mode 0600 beside ``path``, which takes its place at the end, or goes if anything fails.

    Whoever reads meanwhile sees one whole file or the other.
    """
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".tmp", dir=path.parent)
    os.close(handle)
    new = Path(name)
    try:
        yield new
        new.replace(path)
    except BaseException:
        new.unlink(missing_ok=True)
        raise


@contextmanager
def written_to(path: Path) -> Iterator[TextIO]:
    """Inside, a stream to a file that takes the place of ``path`` once it is on disk.

    A link stays one, and so does what is no file: a pipe or a device is written to.
    """
    if path.exists() and not path.is_file():
        with _open(path) as out:
            yield out
        return
    with replacing(path.resolve() if path.is_file() else path) as new, _open(new) as out:
        yield out
        out.flush()
        os.fsync(out.fileno())


def _open(path: Path) -> TextIO:
    """Names and messages may hold lone surrogates (a byte of the command line): they are escaped rather than lost."""
    return path.open("w", encoding="utf-8", errors="backslashreplace", newline="")
