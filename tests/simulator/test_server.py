"""The endpoint as bytes: what it refuses, how its errors are shaped, and what it tells of itself."""

import asyncio
import json
import random
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import aiohttp
import pytest

from batch_cancel.core.errors import UsageError
from batch_cancel.simulator.latency import Latency, no_latency
from batch_cancel.simulator.server import HOST, serve
from batch_cancel.simulator.settings import Behaviour, Fault, FaultKind, FleetSettings, Limit, RetryAfter
from batch_cancel.simulator.world import World
from tests.simulator.worlds import HOME, KEY, REGION, active, ids, world_of

SIGNED = (
    f"AWS4-HMAC-SHA256 Credential={KEY}/20261124/{REGION}/glue/aws4_request, "
    "SignedHeaders=content-type;host;x-amz-date, Signature=0123"
)


class Answered:
    def __init__(self, status: int, headers: Mapping[str, str], body: bytes) -> None:
        self.status, self.headers, self.body = status, headers, body

    def json(self) -> Any:  # noqa: ANN401  # whatever it is
        return json.loads(self.body)


class Caller:
    """Speaks HTTP to an endpoint."""

    def __init__(self, session: aiohttp.ClientSession, url: str) -> None:
        self._session, self._url = session, url

    async def __call__(self, method: str, path: str, body: bytes, headers: dict[str, str]) -> Answered:
        async with self._session.request(method, self._url + path, data=body, headers=headers) as response:
            return Answered(response.status, response.headers, await response.read())

    async def glue(self, operation: str, body: bytes, *, signed: str | None = SIGNED) -> Answered:
        headers = {"X-Amz-Target": f"AWSGlue.{operation}", "Content-Type": "application/x-amz-json-1.1"}
        return await self("POST", "/", body, headers | ({"Authorization": signed} if signed else {}))

    async def sts(self, body: bytes, *, signed: str | None = SIGNED) -> Answered:
        headers = {"Content-Type": "application/x-www-form-urlencoded"}
        return await self("POST", "/", body, headers | ({"Authorization": signed} if signed else {}))


def to(world: World, story: Callable[[Caller], Awaitable[None]], latency: Latency = no_latency) -> None:
    async def main() -> None:
        async with serve(world, latency=latency) as url, aiohttp.ClientSession() as session:
            await story(Caller(session, url))

    asyncio.run(main())


@pytest.mark.parametrize(
    ("operation", "body", "signed", "status", "code"),
    [
        ("ListMLTransforms", b"{}", None, 400, "MissingAuthenticationTokenException"),
        ("ListMLTransforms", b"{}", "AWS4-HMAC-SHA256 nonsense", 400, "IncompleteSignatureException"),
        ("ListMLTransforms", b"{", SIGNED, 400, "SerializationException"),
        ("ListMLTransforms", b"[]", SIGNED, 400, "SerializationException"),
        ("ListMLTransforms", b"\xff", SIGNED, 400, "SerializationException"),
        ("ListMLTransforms", b"[" * 100_000, SIGNED, 400, "SerializationException"),
        ("StartMLEvaluationTaskRun", b"{}", SIGNED, 400, "UnknownOperationException"),
        ("", b"{}", SIGNED, 400, "UnknownOperationException"),
        ("CancelMLTaskRun", b'{"TransformId": "\\ud800", "TaskRunId": "x"}', SIGNED, 400, "ValidationException"),
        ("CancelMLTaskRun", b'{"TransformId": "x", "TaskRunId": "x"}', SIGNED, 400, "EntityNotFoundException"),
    ],
)
def test_what_is_no_request_is_refused_as_the_service_refuses_it(
    operation: str, body: bytes, signed: str | None, status: int, code: str
) -> None:
    async def story(call: Caller) -> None:
        told = await call.glue(operation, body, signed=signed)
        assert (told.status, told.json()["__type"]) == (status, code)
        assert told.headers["x-amzn-ErrorType"] == code
        assert told.headers["x-amzn-RequestId"]
        assert told.headers["Content-Type"] == "application/x-amz-json-1.1"
        assert told.json().get("message") or told.json().get("Message")

    to(world_of(), story)


def test_another_services_target_is_not_known() -> None:
    async def story(call: Caller) -> None:
        headers = {"X-Amz-Target": "DynamoDB_20120810.ListTables", "Authorization": SIGNED}
        assert (await call("POST", "/", b"{}", headers)).json()["__type"] == "UnknownOperationException"

    to(world_of(), story)


def test_sts_speaks_xml() -> None:
    async def story(call: Caller) -> None:
        good = await call.sts(b"Action=GetCallerIdentity&Version=2011-06-15")
        assert (good.status, good.headers["Content-Type"].partition(";")[0]) == (200, "text/xml")
        assert f"<Account>{HOME}</Account>".encode() in good.body
        unsigned = await call.sts(b"Action=GetCallerIdentity", signed=None)
        assert unsigned.status == 403
        assert b"<Code>MissingAuthenticationToken</Code>" in unsigned.body
        unknown = await call.sts(b"Action=GetSessionToken")
        assert unknown.status == 400
        assert b"<Code>InvalidAction</Code>" in unknown.body
        wrong = await call.sts(b"Action=AssumeRole&RoleSessionName=%3Cx%3E&RoleArn=%3Cb%3E%26")
        assert b"<Code>ValidationError</Code><Message>&lt;b&gt;&amp; is invalid" in wrong.body
        many = await call.sts(
            b"Action=AssumeRole&RoleSessionName=x&DurationSeconds=soon&RoleArn=arn:aws:iam::111111111111:role/R"
        )
        assert many.status == 400

    to(world_of(), story)


@pytest.mark.parametrize(
    ("setting", "header", "value"),
    [(RetryAfter.SECONDS, "Retry-After", "2"), (RetryAfter.MILLISECONDS, "x-amz-retry-after", "2000")],
)
def test_a_throttle_says_in_its_header_when_to_come_again(setting: RetryAfter, header: str, value: str) -> None:
    world = world_of(limits=(Limit(rps=0.5),), behaviour=Behaviour(retry_after=setting))

    async def story(call: Caller) -> None:
        await call.glue("ListMLTransforms", b"{}")
        told = await call.glue("ListMLTransforms", b"{}")
        assert told.json()["__type"] == "ThrottlingException"
        assert told.headers[header] == value

    to(world, story)


def test_the_truth_is_told_whole() -> None:
    world = world_of(fleet=FleetSettings(transforms=30, runs=2500, odd_ids=True))
    run = active(world)

    async def story(call: Caller) -> None:
        await call.glue("CancelMLTaskRun", json.dumps(ids(run)).encode())
        for _ in range(3):
            await call.glue("GetMLTaskRun", json.dumps(ids(run)).encode())
        told = (await call("GET", "/_simulator/truth", b"", {})).json()
        assert told == json.loads(json.dumps(world.truth()))
        assert len(told["log"]) == 4
        summary = (await call("GET", "/_simulator/summary", b"", {})).json()
        assert summary["calls"] == told["calls"]

    to(world, story)


def test_faults_and_limits_change_while_it_runs() -> None:
    world = world_of()

    async def story(call: Caller) -> None:
        body = {"faults": [{"kind": "denied", "operations": ["GetTags"]}], "limits": [{"rps": 0.001}]}
        told = await call("POST", "/_simulator/faults", json.dumps(body).encode(), {})
        assert (told.status, told.json()) == (200, {"faults": True, "limits": True})
        assert (await call.glue("GetTags", b'{"ResourceArn": "x"}')).json()["__type"] == "AccessDeniedException"
        assert (await call.glue("GetTags", b'{"ResourceArn": "x"}')).json()["__type"] == "ThrottlingException"
        await call("POST", "/_simulator/faults", b'{"faults": [], "limits": []}', {})
        assert (await call.glue("GetTags", b'{"ResourceArn": "x"}')).json()["__type"] == "InvalidInputException"

    to(world, story)


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b"", "body"),
        (b"7", "body"),
        (b'{"fault": []}', "did you mean 'faults'"),
        (b'{"faults": [{"kind": "thottle"}]}', "did you mean 'throttle'"),
        (b'{"faults": [{"kind": "throttle", "probability": 2}]}', "from 0 to 1"),
        (b'{"faults": [{"kind": "throttle", "operations": ["CancelMLTaskRuns"]}]}', "did you mean 'CancelMLTaskRun'"),
        (b'{"limits": [{"rps": 0}]}', "more than 0"),
        (b'{"limits": [{}]}', "rps"),
    ],
)
def test_changes_that_make_no_sense_change_nothing_and_say_why(body: bytes, says: str) -> None:
    async def story(call: Caller) -> None:
        told = await call("POST", "/_simulator/faults", body, {})
        assert told.status == 400
        assert says in told.json()["error"]
        assert (await call.glue("ListMLTransforms", b"{}")).status == 200

    to(world_of(), story)


def test_a_browser_is_told_what_this_is() -> None:
    async def story(call: Caller) -> None:
        assert (await call("GET", "/", b"", {})).status == 404
        assert (await call("GET", "/_simulator/else", b"", {})).status == 404

    to(world_of(), story)


def test_calls_that_never_get_an_answer_do_not_hold_up_the_end() -> None:
    world = world_of(Fault(FaultKind.HANG))

    async def story(call: Caller) -> None:
        task = asyncio.create_task(call.glue("ListMLTransforms", b"{}"))
        while not world.log:  # noqa: ASYNC110  # the world is pure and has no event to wait for
            await asyncio.sleep(0)
        task.cancel()

    to(world, story)


def test_each_call_draws_its_own_latency() -> None:
    drawn: list[float] = []

    def draw(lot: random.Random) -> float:
        drawn.append(lot.uniform(0.001, 0.002))
        return drawn[-1]

    async def story(call: Caller) -> None:
        for _ in range(3):
            assert (await call.glue("ListMLTransforms", b"{}")).status == 200

    to(world_of(), story, latency=draw)
    assert len(set(drawn)) == 3


def test_a_port_in_use_is_a_sentence() -> None:
    async def main() -> None:
        async with serve(world_of()) as url:
            port = int(url.rpartition(":")[2])
            with pytest.raises(UsageError, match=f"port {port} cannot be had .*--port"):
                async with serve(world_of(), port=port):
                    pass

    asyncio.run(main())
    assert HOST == "127.0.0.1"
