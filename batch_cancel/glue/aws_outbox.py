"""S3 and SNS through aioboto3.

Other than Glue's calls these may simply be made again, so botocore's own retries serve. Credentials are the caller's
own: those of a target are for its account's Glue alone.
"""

import asyncio
import base64
import hashlib
import json
import os
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

import aioboto3
from aiobotocore.config import AioConfig
from botocore.exceptions import HTTPClientError

from batch_cancel.core.errors import CallFailed, ErrorKind
from batch_cancel.glue.aws_errors import translate
from batch_cancel.glue.outbox import NOT_ENCRYPTED, S3Place
from batch_cancel.private_file import replacing
from batch_cancel.version import __version__

PART_BYTES = 16 << 20
"""Files up to this size go in one request, larger ones in parts of it."""
MOST_PARTS = 9_000
"""S3 takes 10,000 (S3 user guide, multipart upload limits)."""
CHUNK_BYTES = 1 << 20
ATTEMPTS = 5
FALLBACK_REGION = "us-east-1"
"""S3 says itself where a bucket lives; a client wants some region to begin with."""


class AwsOutbox:
    """An :class:`~batch_cancel.glue.outbox.Outbox` in AWS; arguments as in :class:`batch_cancel.glue.aws.Aws`."""

    def __init__(
        self,
        sweep_id: str,
        *,
        endpoint_url: str | None = None,
        ca_bundle: str | None = None,
        verify_ssl: bool = True,
        part_bytes: int = PART_BYTES,
    ) -> None:
        self._endpoint_url = endpoint_url
        self._verify: bool | str | None = False if not verify_ssl else ca_bundle
        self._part_bytes = part_bytes
        self._config = AioConfig(
            retries={"total_max_attempts": ATTEMPTS, "mode": "standard"},
            connect_timeout=5,
            read_timeout=15,
            user_agent_extra=f"batch-cancel/{__version__} sweep/{sweep_id}",
        )
        self._session: aioboto3.Session | None = None
        self._closed: dict[tuple[str, str | None], list[Any]] = {}
        """Clients that were used before, by service and region."""

    async def put_file(self, place: S3Place, path: Path, content_type: str) -> None:
        """Upload a file, in parts where it is large; S3 checks each part's SHA-256 on its arrival."""
        try:
            with path.open("rb") as file:
                await self._put_open_file(place, file, content_type)
        except OSError as error:
            raise CallFailed(ErrorKind.OTHER, "PutObject", type(error).__name__, str(error), reached=False) from error

    async def _put_open_file(self, place: S3Place, file: BinaryIO, content_type: str) -> None:
        size = os.fstat(file.fileno()).st_size
        if size <= self._part_bytes:
            await self.put_bytes(place, await asyncio.to_thread(file.read), content_type)
            return
        async with self._client("s3", "CreateMultipartUpload") as s3:
            started = await s3.create_multipart_upload(
                Bucket=place.bucket, Key=place.key, ContentType=content_type, ChecksumAlgorithm="SHA256"
            )
            upload = {"Bucket": place.bucket, "Key": place.key, "UploadId": started["UploadId"]}
            try:
                answer = await _put_parts(s3, upload, file, max(self._part_bytes, -(-size // MOST_PARTS)))
                await _check(s3, place, size, *answer)
            except BaseException:
                with suppress(Exception):  # the failure under way says more; parts left behind would cost storage
                    await s3.abort_multipart_upload(**upload)
                raise

    async def put_bytes(self, place: S3Place, data: bytes, content_type: str) -> None:
        """Upload a few bytes; S3 checks their SHA-256 on arrival."""
        digest = hashlib.sha256(data).digest()
        async with self._client("s3", "PutObject") as s3:
            answer = await s3.put_object(
                Bucket=place.bucket,
                Key=place.key,
                Body=data,
                ContentType=content_type,
                ChecksumAlgorithm="SHA256",
                ChecksumSHA256=_base64(digest),
            )
            await _check(s3, place, len(data), answer, digest)

    async def put_if(self, place: S3Place, data: bytes, content_type: str, *, tag: str | None) -> str | None:
        """Upload a few bytes by a conditional write (S3 user guide, conditional requests); the new ETag."""
        condition = {"IfNoneMatch": "*"} if tag is None else {"IfMatch": tag}
        async with self._client("s3", "PutObject") as s3:
            try:
                answer = await s3.put_object(
                    Bucket=place.bucket, Key=place.key, Body=data, ContentType=content_type, **condition
                )
            except Exception as error:
                failure = translate("PutObject", error)
                if failure.code in _CONDITION_NOT_MET or (tag is not None and failure.code == "NoSuchKey"):
                    return None
                raise failure from error
            return str(answer["ETag"])

    async def get_bytes(self, place: S3Place) -> bytes | None:
        """A small object; None where there is none."""
        found = await self.get_tagged(place)
        return None if found is None else found[0]

    async def get_tagged(self, place: S3Place) -> tuple[bytes, str] | None:
        """A small object and its ETag; None where there is none."""
        async with self._client("s3", "GetObject") as s3:
            answer = await _answer(s3, place)
            if answer is None:
                return None
            body = answer["Body"]
            async with body:
                return bytes(await body.read()), str(answer["ETag"])

    async def get_file(self, place: S3Place, path: Path) -> bool:
        """Download an object beside ``path``, and put it there once it is whole."""
        async with self._client("s3", "GetObject") as s3:
            answer = await _answer(s3, place)
            if answer is None:
                return False
            body = answer["Body"]
            with replacing(path) as new, new.open("wb") as file:
                async with body:
                    async for chunk in body.iter_chunks(CHUNK_BYTES):
                        file.write(chunk)
        return True

    async def publish(self, topic_arn: str, subject: str, messages: Mapping[str, str]) -> None:
        """Publish to a topic, in the topic's own region."""
        parts = topic_arn.split(":")
        request = {"TopicArn": topic_arn, "Subject": subject, "Message": json.dumps(dict(messages))}
        if topic_arn.endswith(".fifo"):
            digest = hashlib.sha256(request["Message"].encode()).hexdigest()
            request |= {"MessageGroupId": "batch-cancel", "MessageDeduplicationId": digest}
        async with self._client("sns", "Publish", parts[3] if len(parts) > 3 else None) as sns:
            await sns.publish(**request, MessageStructure="json")

    @asynccontextmanager
    async def _client(self, service: str, operation: str, region: str | None = None) -> AsyncIterator[Any]:
        """A client of one's own; whatever goes wrong inside comes out as CallFailed.

        To make one takes longer than most calls: one that is over with is opened again. Its connections are closed in
        between, so that nobody has to close what is left at the end.
        """
        closed = self._closed.setdefault((service, region), [])
        try:
            async with closed.pop() if closed else self._new(service, region) as client:
                yield client
            closed.append(client)
        except Exception as error:  # every failure gets its kind
            if isinstance(error, OSError) and not isinstance(error, HTTPClientError):  # a file of ours
                raise CallFailed(ErrorKind.OTHER, operation, type(error).__name__, str(error), reached=False) from error
            raise translate(operation, error) from error

    def _new(self, service: str, region: str | None) -> Any:  # noqa: ANN401  # botocore's own types
        self._session = self._session or aioboto3.Session()
        return self._session.client(
            service,
            region_name=region or self._session.region_name or FALLBACK_REGION,
            endpoint_url=self._endpoint_url,
            verify=self._verify,
            config=self._config,
        )


async def _put_parts(
    s3: Any,  # noqa: ANN401  # botocore's client has no type
    upload: dict[str, str],
    file: BinaryIO,
    part_bytes: int,
) -> tuple[dict[str, Any], bytes]:
    """The answer that ended the upload, and the digest of the parts' digests."""
    parts: list[dict[str, Any]] = []
    digests = b""
    while data := await asyncio.to_thread(file.read, part_bytes):
        digest = (await asyncio.to_thread(hashlib.sha256, data)).digest()
        number = len(parts) + 1
        answer = await s3.upload_part(
            **upload, PartNumber=number, Body=data, ChecksumAlgorithm="SHA256", ChecksumSHA256=_base64(digest)
        )
        parts.append({"PartNumber": number, "ETag": answer["ETag"], "ChecksumSHA256": _base64(digest)})
        digests += digest
    ended = await s3.complete_multipart_upload(**upload, MultipartUpload={"Parts": parts})
    return ended, hashlib.sha256(digests).digest()


async def _check(s3: Any, place: S3Place, size: int, answer: dict[str, Any], digest: bytes) -> None:  # noqa: ANN401
    """Whether S3 has what was sent, and encrypted.

    Nothing is asked for besides the upload where its answer says all: then leave to write is enough. How it is
    encrypted is the bucket's to say (its default may be a key that its owner insists on): S3 always does, and answers
    how; a store that does not is no place for reports.
    """
    told = answer
    if "ChecksumSHA256" not in answer:
        told = answer | await s3.head_object(Bucket=place.bucket, Key=place.key, ChecksumMode="ENABLED")
        if told["ContentLength"] != size:
            raise _unsound("IncompleteUpload", f"{place} has {told['ContentLength']:,} bytes instead of {size:,}")
    checksum = str(told.get("ChecksumSHA256", "")).partition("-")[0]  # "-N" tells the number of parts
    if checksum and checksum != _base64(digest):
        raise _unsound("ChecksumMismatch", f"{place} is not what was sent, by its SHA-256")
    if not told.get("ServerSideEncryption"):
        raise _unsound(NOT_ENCRYPTED, f"{place} was stored without encryption: give the bucket a default encryption")


_CONDITION_NOT_MET = ("PreconditionFailed", "ConditionalRequestConflict", "412", "409")


async def _answer(s3: Any, place: S3Place) -> Any:  # noqa: ANN401  # botocore's own types
    try:
        return await s3.get_object(Bucket=place.bucket, Key=place.key)
    except Exception as error:
        failure = translate("GetObject", error)
        if failure.code in ("NoSuchKey", "404"):
            return None
        raise failure from error


def _unsound(code: str, message: str) -> CallFailed:
    return CallFailed(ErrorKind.OTHER, "PutObject", code, message)


def _base64(digest: bytes) -> str:
    return base64.b64encode(digest).decode()
