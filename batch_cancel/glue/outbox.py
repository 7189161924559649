"""What leaves the machine besides Glue's calls: files to S3, notifications to SNS. The seam, and the names of places.

:mod:`batch_cancel.glue.aws_outbox` stands behind it. Every method raises
:class:`~batch_cancel.core.errors.CallFailed` when what was asked for is not known to have been done.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple, Protocol, Self

from batch_cancel.core.errors import UsageError

SCHEME = "s3://"
NOT_ENCRYPTED = "NotEncrypted"
"""The code of a file that its bucket did not encrypt; it stores no other any better."""


class S3Place(NamedTuple):
    """A bucket, and a key or prefix in it (without a slash in front)."""

    bucket: str
    key: str = ""

    @classmethod
    def of(cls, uri: str) -> Self:
        """The place that ``s3://bucket/key`` names.

        Raises:
            UsageError: it names none.
        """
        bucket, _, key = uri.removeprefix(SCHEME).partition("/")
        if not uri.startswith(SCHEME) or not bucket:
            raise UsageError(f"{uri!r} is not an S3 place such as s3://bucket/key")
        return cls(bucket, key)

    def below(self, *names: str) -> Self:
        """A place below this prefix."""
        parts = [part for part in (self.key.rstrip("/"), *names) if part]
        return type(self)(self.bucket, "/".join(parts))

    def __str__(self) -> str:
        return f"{SCHEME}{self.bucket}/{self.key}"


class Outbox(Protocol):
    """Files to S3 and back, and notifications."""

    async def put_file(self, place: S3Place, path: Path, content_type: str) -> None:
        """Upload a file; returns when S3 has it whole (by its checksum) and encrypted."""
        ...

    async def put_bytes(self, place: S3Place, data: bytes, content_type: str) -> None:
        """The same for a few bytes."""
        ...

    async def get_bytes(self, place: S3Place) -> bytes | None:
        """A small object; None where there is none."""
        ...

    async def get_file(self, place: S3Place, path: Path) -> bool:
        """Download an object, whole or not at all; False where there is none."""
        ...

    async def publish(self, topic_arn: str, subject: str, messages: Mapping[str, str]) -> None:
        """Publish to an SNS topic: a message for each protocol, ``default`` among them."""
        ...


class SharedOutbox(Outbox, Protocol):
    """One with objects that several may be writing."""

    async def put_if(self, place: S3Place, data: bytes, content_type: str, *, tag: str | None) -> str | None:
        """A few bytes over the object with this tag, or (None) over nothing; the new tag, or None if it is not so."""
        ...

    async def get_tagged(self, place: S3Place) -> tuple[bytes, str] | None:
        """A small object with its tag (ETag), another one whenever it was written; None where there is none."""
        ...
