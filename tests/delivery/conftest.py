"""moto's S3 and SNS on loopback, with a bucket that encrypts and a topic that fills a queue."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
import pytest

from batch_cancel.glue.aws_outbox import AwsOutbox
from tests.wire.conftest import _models_are_read_once
from tests.wire_moto.conftest import endpoint, server

__all__ = ["_models_are_read_once", "endpoint", "server"]  # fixtures

BUCKET = "ops-reports"
PREFIX = f"s3://{BUCKET}/batch-cancel/"


@dataclass
class Cloud:
    """A moto, with the eyes of whoever reads the reports."""

    url: str
    topic: str
    queue: str

    def client(self, service: str) -> Any:  # noqa: ANN401  # botocore's clients have no types
        return boto3.client(service, endpoint_url=self.url, region_name="us-east-1")

    def outbox(self, **options: Any) -> AwsOutbox:  # noqa: ANN401
        return AwsOutbox("s-1", endpoint_url=self.url, **options)

    def objects(self) -> dict[str, bytes]:
        s3 = self.client("s3")
        listed = s3.list_objects_v2(Bucket=BUCKET).get("Contents", [])
        return {item["Key"]: s3.get_object(Bucket=BUCKET, Key=item["Key"])["Body"].read() for item in listed}

    def notifications(self) -> list[dict[str, Any]]:
        """What the queue has got since it was last asked: subject, and the message's JSON."""
        told = []
        sqs = self.client("sqs")
        while received := sqs.receive_message(QueueUrl=self.queue, MaxNumberOfMessages=10).get("Messages"):
            for message in received:
                body = json.loads(message["Body"])
                told.append({"subject": body["Subject"], **json.loads(body["Message"])})
                sqs.delete_message(QueueUrl=self.queue, ReceiptHandle=message["ReceiptHandle"])
        return told


@pytest.fixture
def cloud(endpoint: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Cloud:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    cloud = Cloud(endpoint, "", "")
    s3, sns, sqs = (cloud.client(service) for service in ("s3", "sns", "sqs"))
    s3.create_bucket(Bucket=BUCKET)
    rule = {"ApplyServerSideEncryptionByDefault": {"SSEAlgorithm": "aws:kms"}}
    s3.put_bucket_encryption(Bucket=BUCKET, ServerSideEncryptionConfiguration={"Rules": [rule]})
    cloud.topic = sns.create_topic(Name="ops")["TopicArn"]
    cloud.queue = sqs.create_queue(QueueName="ops")["QueueUrl"]
    arn = sqs.get_queue_attributes(QueueUrl=cloud.queue, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    sns.subscribe(TopicArn=cloud.topic, Protocol="sqs", Endpoint=arn)
    return cloud
