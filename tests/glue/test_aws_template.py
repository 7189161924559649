"""Requests from templates beside botocore's own, byte for byte; and what happens when botocore changes."""

import asyncio
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from functools import cache
from typing import Any

import pytest
from aiobotocore.httpsession import AIOHTTPSession
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from botocore.loaders import JSONFileLoader

from batch_cancel.core.errors import CallFailed, ErrorKind
from batch_cancel.core.task_run import Access, Status, Target
from batch_cancel.glue import aws_calls
from batch_cancel.glue.aws import Aws
from batch_cancel.glue.aws_template import Template, take_template

HERE = Target("eu-central-1", None, Access())
ANSWER = {"TransformId": "tfm-1", "TaskRunId": "tr-1", "Status": "STOPPING"}


@pytest.fixture(autouse=True, scope="module")
def _models_are_read_once() -> Iterator[None]:
    """Each session of botocore reads the service models anew, most of what a test costs here."""
    read, loader = JSONFileLoader.load_file, JSONFileLoader()
    with pytest.MonkeyPatch.context() as patch:
        read_once = cache(lambda path: read(loader, path))
        patch.setattr(JSONFileLoader, "load_file", lambda self, path: read_once(path))
        yield


@dataclass
class Wire:
    """What was sent, in place of sending it."""

    sent: list[Any] = field(default_factory=list)
    status: int = 200
    body: bytes = json.dumps(ANSWER).encode()

    async def send(self, request: Any) -> Any:  # noqa: ANN401  # botocore's types
        self.sent.append(request)

        class Answer:
            status_code = self.status
            headers = {"x-amzn-requestid": "request-1", "retry-after": "7"}  # noqa: RUF012  # read once

            @property
            async def content(answer) -> bytes:  # noqa: N805  # self is the wire
                return self.body

        return Answer()

    def headers(self, at: int = -1) -> dict[str, str]:
        """Of a request, by lower name."""
        return {
            name.lower(): value.decode() if isinstance(value, bytes) else value
            for name, value in self.sent[at].headers.items()
        }


@pytest.fixture
def wire(monkeypatch: pytest.MonkeyPatch) -> Iterator[Wire]:
    for name in ("AWS_PROFILE", "AWS_SESSION_TOKEN", "AWS_ENDPOINT_URL", "AWS_REGION"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIATEMPLATE00000000")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "a/secret+")
    monkeypatch.setenv("AWS_CONFIG_FILE", "/dev/null")
    wire = Wire()

    async def send(_: object, request: Any) -> Any:  # noqa: ANN401  # botocore's types
        return await wire.send(request)

    monkeypatch.setattr(AIOHTTPSession, "send", send)
    yield wire


def cancel(aws: Aws, *ids: str) -> None:
    async def all_of_them() -> None:
        async with aws.connect(HERE) as glue:
            for task_run_id in ids:
                answer = await glue.cancel_task_run("tfm-1", task_run_id)
                assert (answer.status, answer.request_id) == (Status.STOPPING, "request-1")

    asyncio.run(all_of_them())


def no_template(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(aws_calls, "take_template", lambda *_: None)


@pytest.mark.parametrize("endpoint_url", [None, "http://127.0.0.1:8099", "https://glue.example.org:443/behind"])
@pytest.mark.parametrize("token", [None, "a session token"])
def test_a_request_from_a_template_is_the_one_that_botocore_makes(
    wire: Wire, monkeypatch: pytest.MonkeyPatch, endpoint_url: str | None, token: str | None
) -> None:
    if token:
        monkeypatch.setenv("AWS_SESSION_TOKEN", token)
    cancel(Aws("s-1", endpoint_url=endpoint_url), "tr-1", "tr-2 \t/+é\U0001f600")
    no_template(monkeypatch)
    cancel(Aws("s-1", endpoint_url=endpoint_url), "tr-1", "tr-2 \t/+é\U0001f600")
    assert len(wire.sent) == 4
    for ours, theirs in ((0, 2), (1, 3)):
        assert wire.sent[ours].url == wire.sent[theirs].url
        assert wire.sent[ours].body == wire.sent[theirs].body
        one, other = wire.headers(ours), wire.headers(theirs)
        assert "content-length" not in one  # so it is from a template: there the transport adds it
        other.pop("content-length")
        for name in ("x-amz-date", "amz-sdk-invocation-id", "authorization"):
            assert len(one.pop(name)) == len(other.pop(name))
        agents = [set(headers.pop("user-agent").split()) for headers in (one, other)]
        assert all("sweep/s-1" in agent for agent in agents)
        assert one == other


def test_the_signature_is_the_one_that_botocore_computes(wire: Wire, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SESSION_TOKEN", "a session token")
    cancel(Aws("s-1"), "tr-1", "tr-2")
    for request in wire.sent:
        headers = {name: value for name, value in request.headers.items() if not name.startswith("amz-sdk-")}
        given = headers.pop("Authorization")
        stamp = datetime.strptime(headers.pop("X-Amz-Date"), "%Y%m%dT%H%M%SZ")  # noqa: DTZ007  # as botocore has it
        again = AWSRequest("POST", request.url, headers, request.body)
        keys = Credentials("AKIATEMPLATE00000000", "a/secret+", "a session token")
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("botocore.auth.get_current_datetime", lambda stamp=stamp: stamp)
            SigV4Auth(keys, "glue", "eu-central-1").add_auth(again)
        assert again.headers["Authorization"] == given


def test_no_two_requests_have_the_same_invocation_id(wire: Wire) -> None:
    cancel(Aws("s-1"), *(f"tr-{number}" for number in range(5)))
    assert len({wire.headers(at)["amz-sdk-invocation-id"] for at in range(5)}) == 5


@pytest.mark.parametrize(
    "change",
    [
        {"method": "PUT"},
        {"url": "https://glue.eu-central-1.amazonaws.com/?query=1"},
        {"url": "https://elsewhere.amazonaws.com/"},
        {"body": b"another body"},
        {"header": ("X-Amz-Content-SHA256", "UNSIGNED-PAYLOAD")},
        {"header": ("Content-Encoding", "gzip")},
        {"header": ("X-Amz-Date", "20261124T000000Z")},
        {"header": ("Authorization", "AWS4-ECDSA-P256-SHA256 Credential=x")},
        {"header": ("X-Amz-Target", "AWSGlue.Something")},
        {"header": ("Content-Length", "1")},
    ],
    ids=str,
)
def test_what_cannot_be_imitated_exactly_is_no_template(wire: Wire, change: dict[str, Any]) -> None:
    cancel(Aws("s-1"), "tr-1")
    request = wire.sent[0]
    keys = Credentials("AKIATEMPLATE00000000", "a/secret+")
    whole: Template | None = take_template("POST", request.url, request.headers, request.body, keys)
    assert whole is not None
    headers = {**request.headers, **dict([change["header"]] if "header" in change else [])}
    changed = (change.get("method", "POST"), change.get("url", request.url), headers, change.get("body", request.body))
    assert take_template(*changed, keys) is None


def test_without_a_template_the_client_makes_every_request(wire: Wire, monkeypatch: pytest.MonkeyPatch) -> None:
    no_template(monkeypatch)
    cancel(Aws("s-1"), "tr-1", "tr-2")
    assert [json.loads(request.body)["TaskRunId"] for request in wire.sent] == ["tr-1", "tr-2"]
    assert all("AKIATEMPLATE00000000/" in headers["authorization"] for headers in map(wire.headers, range(2)))


def test_a_botocore_that_hands_out_no_request_is_used_as_it_is(wire: Wire, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(aws_calls, "_catch", lambda **_: None)  # then only the pattern's closed transport holds it back
    cancel(Aws("s-1"), "tr-1", "tr-2")
    assert ["AKIATEMPLATE00000000/" in wire.headers(at)["authorization"] for at in range(len(wire.sent))] == [True] * 2


def test_an_aiobotocore_that_asks_for_no_transport_keeps_its_own(wire: Wire, monkeypatch: pytest.MonkeyPatch) -> None:
    config_with = Aws._config_with
    monkeypatch.setattr(Aws, "_config_with", lambda aws, _: config_with(aws, AIOHTTPSession))
    cancel(Aws("s-1"), "tr-1", "tr-2")
    assert ["AKIATEMPLATE00000000/" in wire.headers(at)["authorization"] for at in range(len(wire.sent))] == [True] * 2


@pytest.mark.parametrize("with_template", [True, False])
def test_a_refusal_is_told_alike_with_and_without_a_template(
    wire: Wire,
    monkeypatch: pytest.MonkeyPatch,
    with_template: bool,  # a parameter
) -> None:
    if not with_template:
        no_template(monkeypatch)
    wire.status, wire.body = 400, b'{"__type": "com.amazonaws#ThrottlingException", "message": "Rate exceeded"}'
    with pytest.raises(CallFailed) as caught:
        cancel(Aws("s-1"), "tr-1")
    failure = caught.value
    assert (failure.kind, failure.code, failure.message) == (
        ErrorKind.THROTTLE,
        "ThrottlingException",
        "Rate exceeded",
    )
    assert (failure.http_status, failure.request_id, failure.retry_after_seconds) == (400, "request-1", 7.0)


@pytest.mark.parametrize(
    "body",
    [
        json.dumps(ANSWER).encode(),
        json.dumps({**ANSWER, "Another": [1], "Status": "NEWEST"}).encode(),
        b'{"TransformId": "tfm-1"}',
        b'{"TransformId": null, "TaskRunId": "tr-1", "Status": "STOPPING"}',
        b'{"TransformId": 7, "TaskRunId": "tr-1", "Status": "STOPPING"}',
        b"{}",
        b"[]",
        b"null",
        b"",
        b"<html>",
        b'{"TransformId": "tfm-1", "Task',
        b'\xff{"a": 1}',
    ],
)
def test_an_answer_reads_alike_with_and_without_a_template(
    wire: Wire, monkeypatch: pytest.MonkeyPatch, body: bytes
) -> None:
    wire.body = body

    async def one() -> Any:  # noqa: ANN401  # an answer, or what was raised instead
        async with Aws("s-1").connect(HERE) as glue:
            try:
                return await glue._calls("CancelMLTaskRun", TransformId="tfm-1", TaskRunId="tr-1")  # type: ignore[attr-defined]  # below the seam
            except Exception as error:
                return type(error)

    ours = asyncio.run(one())
    no_template(monkeypatch)
    theirs = asyncio.run(one())
    if isinstance(theirs, dict):
        for name in ("RetryAttempts", "MaxAttemptsReached"):  # of botocore's own retries, of which there are none
            theirs["ResponseMetadata"].pop(name, None)
    assert ours == theirs


def test_without_keys_nothing_leaves(wire: Wire, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/dev/null")
    with pytest.raises(CallFailed) as caught:
        cancel(Aws("s-1"), "tr-1")
    assert (caught.value.kind, caught.value.reached, wire.sent) == (ErrorKind.CREDENTIALS, False, [])


def test_made_up_keys_never_reach_the_wire(wire: Wire) -> None:
    cancel(Aws("s-1"), "tr-1", "tr-2")
    assert not any("PATTERN" in wire.headers(at)["authorization"] for at in range(2))
