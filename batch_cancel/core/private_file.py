"""Files that are their maker's alone: ids, accounts and reasons are nobody else's business."""

import os


def private(path: str, flags: int) -> int:
    """An ``opener`` for :func:`open`: a file that it makes has mode 0600; one that is there keeps its own."""
    return os.open(path, flags, 0o600)
