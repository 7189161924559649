"""Files that are their maker's alone: ids, accounts and reasons are nobody else's business."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


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
