"""A Glue and STS endpoint that costs next to nothing, so that the clients beside each other are what is measured.

A process of its own: ``python -m tests.bench.endpoint '{"rps": 20, "burst": 20}'`` prints its URL. It checks no
signature and keeps no life cycles (the simulator does); a run is active until it is cancelled, and then STOPPED.
``GET /stats`` tells what arrived.
"""

import asyncio
import json
import os
import sys
import time
from dataclasses import asdict, dataclass, field
from typing import Any

HEAD_END = b"\r\n\r\n"
TOKEN = "AQoDYXdzEJr" + "a1B2c3D4" * 60
"""As long as a real session token: it is signed and sent with every call."""


@dataclass(frozen=True, slots=True)
class Setting:
    """What the endpoint is made of.

    Attributes:
        rps: the limit of CancelMLTaskRun for each account and region, a token bucket; None is no limit.
        latency_seconds: of every answer.
        transforms: of each account and region that is not empty.
        active_runs: of each transform.
        full_every: one account-region in so many has transforms; 1 is all of them, 0 none.
    """

    rps: float | None = None
    burst: float = 1.0
    latency_seconds: float = 0.0
    transforms: int = 0
    active_runs: int = 0
    full_every: int = 1


@dataclass(slots=True)
class Stats:
    """What arrived, on the machine's monotonic clock."""

    calls: dict[str, int] = field(default_factory=dict)
    throttled: int = 0
    first_cancel_at: float | None = None
    last_accepted_at: float | None = None
    cancelled: int = 0
    connections: int = 0


class Bucket:
    """A token bucket."""

    def __init__(self, rps: float, burst: float) -> None:
        self._rps, self._burst = rps, burst
        self._tokens, self._at = burst, time.monotonic()

    def take(self) -> bool:
        now = time.monotonic()
        self._tokens = min(self._burst, self._tokens + (now - self._at) * self._rps)
        self._at = now
        if self._tokens < 1.0:
            return False
        self._tokens -= 1.0
        return True


class Glue:
    """Answers operations."""

    def __init__(self, setting: Setting) -> None:
        self.setting = setting
        self.stats = Stats()
        self._buckets: dict[str, Bucket] = {}
        self._cancelled: set[tuple[str, str, str]] = set()

    def answer(self, operation: str, scope: str, body: bytes) -> tuple[int, bytes]:
        """HTTP status and body; ``scope`` is key id and region, as they were signed."""
        self.stats.calls[operation] = self.stats.calls.get(operation, 0) + 1
        if not operation:
            return 200, self._sts(body)
        asked = json.loads(body)
        if operation == "CancelMLTaskRun":
            return self._cancel(scope, asked)
        return 200, json.dumps(self._read(operation, scope, asked)).encode()

    def _cancel(self, scope: str, asked: dict[str, Any]) -> tuple[int, bytes]:
        now = time.monotonic()
        stats, limit = self.stats, self.setting.rps
        stats.first_cancel_at = stats.first_cancel_at or now
        if limit is not None:
            bucket = self._buckets.setdefault(scope, Bucket(limit, self.setting.burst))
            if not bucket.take():
                stats.throttled += 1
                return 400, b'{"__type": "ThrottlingException", "message": "Rate exceeded"}'
        self._cancelled.add((scope, asked["TransformId"], asked["TaskRunId"]))
        stats.last_accepted_at = now
        stats.cancelled = len(self._cancelled)
        return 200, json.dumps({**asked, "Status": "STOPPING"}).encode()

    def _read(self, operation: str, scope: str, asked: dict[str, Any]) -> dict[str, Any]:
        match operation:
            case "ListMLTransforms":
                return {"TransformIds": self._transforms(scope)}
            case "GetMLTransforms":
                return {"Transforms": [{"TransformId": each, "Name": each} for each in self._transforms(scope)]}
            case "GetMLTaskRuns":
                return {"TaskRuns": self._runs(scope, asked)}
            case "GetMLTaskRun":
                return self._run(scope, asked["TransformId"], asked["TaskRunId"])
            case _:
                return {}

    def _transforms(self, scope: str) -> list[str]:
        every = self.setting.full_every
        if not every or sum(scope.encode()) % every:
            return []
        return [f"tfm-{number:032x}" for number in range(self.setting.transforms)]

    def _runs(self, scope: str, asked: dict[str, Any]) -> list[dict[str, Any]]:
        transform_id = asked["TransformId"]
        wanted = asked.get("Filter", {}).get("Status")
        runs = [
            self._run(scope, transform_id, f"tr-{transform_id[4:]}-{number:04x}")
            for number in range(self.setting.active_runs)
        ]
        return [run for run in runs if wanted in (None, run["Status"])]

    def _run(self, scope: str, transform_id: str, task_run_id: str) -> dict[str, Any]:
        cancelled = (scope, transform_id, task_run_id) in self._cancelled
        status = "STOPPED" if cancelled else "RUNNING"
        return {"TransformId": transform_id, "TaskRunId": task_run_id, "Status": status, "StartedOn": 1795000000.0}

    def _sts(self, body: bytes) -> bytes:
        if b"AssumeRole" not in body:
            inside, name = (
                "<Account>111111111111</Account><Arn>arn:aws:iam::111111111111:user/ops</Arn>",
                "GetCallerIdentity",
            )
        else:
            account = body.partition(b"iam%3A%3A")[2][:12].decode()
            name = "AssumeRole"
            inside = (
                f"<Credentials><AccessKeyId>ASIA{account}</AccessKeyId><SecretAccessKey>made-up</SecretAccessKey>"
                f"<SessionToken>{TOKEN}</SessionToken><Expiration>2099-01-01T00:00:00Z</Expiration></Credentials>"
            )
        return (
            f'<{name}Response xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><{name}Result>{inside}</{name}Result>'
            f"<ResponseMetadata><RequestId>r-1</RequestId></ResponseMetadata></{name}Response>"
        ).encode()


class Conversation(asyncio.Protocol):
    """One connection: requests in, answers out in their order, kept alive."""

    def __init__(self, glue: Glue) -> None:
        self._glue = glue
        self._came = b""
        self._transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Part of asyncio's protocol."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._glue.stats.connections += 1

    def data_received(self, data: bytes) -> None:
        """Part of asyncio's protocol."""
        self._came += data
        while (end := self._came.find(HEAD_END)) >= 0:
            head = self._came[:end].decode("latin-1")
            fields = dict(line.split(": ", 1) for line in head.split("\r\n")[1:])
            headers = {name.lower(): value for name, value in fields.items()}
            length = int(headers.get("content-length", 0))
            begin = end + len(HEAD_END)
            if len(self._came) < begin + length:
                return
            body, self._came = self._came[begin : begin + length], self._came[begin + length :]
            self._answer(head, headers, body)

    def _answer(self, head: str, headers: dict[str, str], body: bytes) -> None:
        if head.startswith("GET"):
            self._send(200, json.dumps(asdict(self._glue.stats)).encode())
            return
        operation = headers.get("x-amz-target", "").rpartition(".")[2]
        key, _, region, *_ = headers["authorization"].partition("Credential=")[2].split("/")
        status, answer = self._glue.answer(operation, f"{key}/{region}", body)
        latency = self._glue.setting.latency_seconds
        if latency:
            asyncio.get_running_loop().call_later(latency, self._send, status, answer)
        else:
            self._send(status, answer)

    def _send(self, status: int, body: bytes) -> None:
        if not self._transport.is_closing():
            self._transport.write(
                b"HTTP/1.1 %d OK\r\nx-amzn-RequestId: 11111111-2222-4333-8444-555555555555\r\n"
                b"Content-Type: application/x-amz-json-1.1\r\nContent-Length: %d\r\n\r\n%b" % (status, len(body), body)
            )


async def main() -> None:
    """Serve until standard input ends: nobody who goes away leaves one behind."""
    if hasattr(os, "sched_setaffinity") and (os.cpu_count() or 1) > 1:
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})  # its own processor, as far as there is one
    loop = asyncio.get_running_loop()
    glue = Glue(Setting(**json.loads(sys.argv[1])))
    server = await loop.create_server(lambda: Conversation(glue), "127.0.0.1", 0, backlog=2048)
    sys.stdout.write(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}\n")
    sys.stdout.flush()
    await loop.run_in_executor(None, sys.stdin.read)
    server.close()


if __name__ == "__main__":
    asyncio.run(main())
