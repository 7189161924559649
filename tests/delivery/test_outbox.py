"""S3 and SNS through the real client, against moto."""

import asyncio
import hashlib
from pathlib import Path

import aioboto3
import pytest
from aiobotocore.response import AioReadTimeoutError

from batch_cancel.core.errors import CallFailed, ErrorKind, UsageError
from batch_cancel.glue.aws_outbox import _check
from batch_cancel.glue.outbox import S3Place
from tests.delivery.conftest import BUCKET, Cloud

PLACE = S3Place(BUCKET, "a/file")
PART = 5 << 20  # the least that S3 takes for a part that is not the last


def test_places_are_read_and_written() -> None:
    assert S3Place.of("s3://b/a/c") == ("b", "a/c")
    assert str(S3Place.of("s3://b").below("x", "y")) == "s3://b/x/y"
    assert str(S3Place.of("s3://b/p/").below("x")) == "s3://b/p/x"
    for text in ("b/a", "s3://", "https://b/a"):
        with pytest.raises(UsageError, match="is not an S3 place"):
            S3Place.of(text)


@pytest.mark.parametrize("size", [0, 100, PART, PART + 1, 2 * PART + 5])
def test_files_small_and_large_arrive_whole_and_come_back(cloud: Cloud, tmp_path: Path, size: int) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"x" * size)

    async def main() -> None:
        outbox = cloud.outbox(part_bytes=PART)
        await outbox.put_file(PLACE, file, "application/json")
        assert await outbox.get_file(PLACE, tmp_path / "back")
        assert await outbox.get_bytes(PLACE) == file.read_bytes()

    asyncio.run(main())
    assert hashlib.sha256((tmp_path / "back").read_bytes()).digest() == hashlib.sha256(b"x" * size).digest()
    told = cloud.client("s3").head_object(Bucket=BUCKET, Key="a/file", ChecksumMode="ENABLED")
    assert (told["ContentType"], told["ServerSideEncryption"]) == ("application/json", "aws:kms")
    assert told["ETag"].count("-") == (1 if size > PART else 0)  # in parts only where it is large


def test_one_client_serves_one_call_after_the_other_and_two_serve_two_at_once(
    cloud: Cloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    make, made = aioboto3.Session.client, list[str]()

    def counted(self: aioboto3.Session, service: str, **options: object) -> object:
        made.append(service)
        return make(self, service, **options)

    monkeypatch.setattr(aioboto3.Session, "client", counted)
    outbox = cloud.outbox()

    async def many() -> None:
        for number in range(3):
            await outbox.put_bytes(PLACE, str(number).encode(), "text/plain")
        with pytest.raises(CallFailed):
            await outbox.put_bytes(S3Place("no-such-bucket", "k"), b"x", "text/plain")
        assert await asyncio.gather(*(outbox.get_bytes(PLACE) for _ in range(2))) == [b"2", b"2"]

    for _ in range(2):
        asyncio.run(many())  # in another event loop, too
    assert made == ["s3"] * 4  # what failed is not used again: one, then two at once, then one more


def test_an_object_that_is_not_there_is_none_and_leaves_no_file(cloud: Cloud, tmp_path: Path) -> None:
    async def main() -> None:
        outbox = cloud.outbox()
        assert await outbox.get_bytes(PLACE) is None
        assert not await outbox.get_file(PLACE, tmp_path / "back")

    asyncio.run(main())
    assert not list(tmp_path.glob("*back*"))


def test_a_bucket_that_is_not_there_is_a_failed_call(cloud: Cloud) -> None:
    with pytest.raises(CallFailed) as caught:
        asyncio.run(cloud.outbox().put_bytes(S3Place("no-such-bucket", "k"), b"x", "text/plain"))
    assert caught.value.code == "NoSuchBucket"


def test_a_store_that_does_not_encrypt_is_refused(cloud: Cloud) -> None:
    cloud.client("s3").create_bucket(Bucket="plain")  # moto encrypts only where it was told to
    with pytest.raises(CallFailed, match="default encryption"):
        asyncio.run(cloud.outbox().put_bytes(S3Place("plain", "k"), b"x", "text/plain"))


@pytest.mark.parametrize(
    ("answer", "held", "code"),
    [
        ({"ChecksumSHA256": "AAAA", "ServerSideEncryption": "AES256"}, {}, "ChecksumMismatch"),
        ({"ServerSideEncryption": "AES256"}, {"ContentLength": 3}, "IncompleteUpload"),
        ({"ServerSideEncryption": "AES256"}, {"ContentLength": 4, "ChecksumSHA256": "AAAA-2"}, "ChecksumMismatch"),
    ],
)
def test_what_is_stored_other_than_it_was_sent_is_refused(
    answer: dict[str, str], held: dict[str, object], code: str
) -> None:
    class Store:
        async def head_object(self, **_: object) -> dict[str, object]:
            return held

    with pytest.raises(CallFailed) as caught:
        asyncio.run(_check(Store(), PLACE, 4, answer, hashlib.sha256(b"sent").digest()))
    assert caught.value.code == code
    assert caught.value.kind is ErrorKind.OTHER


def test_a_large_upload_that_fails_leaves_no_parts_behind(
    cloud: Cloud, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"x" * (PART + 1))

    async def refuse(*_: object) -> None:
        raise RuntimeError("cut off")

    monkeypatch.setattr("batch_cancel.glue.aws_outbox._check", refuse)
    monkeypatch.setattr("batch_cancel.glue.aws_outbox._put_parts", refuse)
    with pytest.raises(CallFailed, match="cut off"):
        asyncio.run(cloud.outbox(part_bytes=PART).put_file(PLACE, file, "text/plain"))
    assert "Uploads" not in cloud.client("s3").list_multipart_uploads(Bucket=BUCKET)


def test_a_file_that_cannot_be_read_is_a_failed_call(cloud: Cloud, tmp_path: Path) -> None:
    with pytest.raises(CallFailed) as caught:
        asyncio.run(cloud.outbox().put_file(PLACE, tmp_path / "none", "text/plain"))
    assert (caught.value.code, caught.value.reached) == ("FileNotFoundError", False)


def test_an_answer_that_does_not_come_is_no_fault_of_our_files(cloud: Cloud) -> None:
    async def main() -> None:
        async with cloud.outbox()._client("s3", "GetObject"):
            raise AioReadTimeoutError(endpoint_url=cloud.url, error=TimeoutError())  # an OSError to Python

    with pytest.raises(CallFailed) as caught:
        asyncio.run(main())
    assert caught.value.kind is ErrorKind.TRANSIENT


def test_a_topic_that_is_not_there_is_a_failed_call(cloud: Cloud) -> None:
    with pytest.raises(CallFailed, match="Publish"):
        asyncio.run(cloud.outbox().publish(cloud.topic + "x", "s", {"default": "d"}))


def test_a_first_in_first_out_topic_takes_it_too(cloud: Cloud) -> None:
    topic = cloud.client("sns").create_topic(Name="ops.fifo", Attributes={"FifoTopic": "true"})["TopicArn"]
    asyncio.run(cloud.outbox().publish(topic, "s", {"default": "d"}))
