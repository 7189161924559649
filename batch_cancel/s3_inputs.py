"""Sweep files and manifests that stand in S3: containers and functions have no files of their own."""

import posixpath
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from batch_cancel.core.errors import AccessStopped, CallFailed, ErrorKind, InputError, Problem, UsageError
from batch_cancel.glue.outbox import SCHEME, Outbox, S3Place
from batch_cancel.manifest.read import no_room


def is_in_s3(path: str) -> bool:
    """Whether it is a place in S3 rather than a path."""
    return path.startswith(SCHEME)


def beside(sweep_file: S3Place, path: str) -> str:
    """The place of a list that a sweep file in S3 names: beside it, unless the name says where.

    Raises:
        UsageError: the name leads out of the bucket.
    """
    if is_in_s3(path):
        return path
    key = posixpath.normpath(posixpath.join(posixpath.dirname(sweep_file.key), path))
    if key.startswith("../"):
        raise UsageError(f"source.manifest: {path} leads out of the bucket {sweep_file.bucket}")
    return str(S3Place(sweep_file.bucket, key))


@contextmanager
def folder_for(uri: str) -> Iterator[Path]:
    """A folder for a file from S3, for as long as it has a name.

    Raises:
        UsageError: no directory takes one.
    """
    try:
        folder = tempfile.TemporaryDirectory(prefix="batch-cancel-")
    except OSError as error:
        raise no_room(error, uri) from error
    with folder as name:
        yield Path(name)


async def fetch(outbox: Outbox, uri: str, folder: Path) -> Path:
    """The file on this machine, in a folder of its own name's.

    Raises:
        AccessStopped: it cannot be read.
        InputError: there is none.
        UsageError: there is no room for it.
    """
    place = S3Place.of(uri)
    path = folder / (posixpath.basename(place.key) or "object")
    try:
        there = await outbox.get_file(place, path)
    except CallFailed as failure:
        if failure.kind is ErrorKind.OTHER and isinstance(failure.__cause__, OSError):  # our file, and not S3's
            raise no_room(failure.__cause__, uri) from failure
        raise AccessStopped(f"{uri} cannot be read: {failure.code}: {failure.message}") from failure
    if not there:
        raise InputError([Problem(uri, "there is no such file")])
    return path
