"""A world as a Glue, STS and Organizations endpoint on loopback, for the AWS CLI, any SDK, and this program itself.

What the world cannot do is done here: answers that break off, never come, or come from a connection that is gone. Under
``/_simulator/`` the endpoint tells the truth and takes other faults and limits while it runs.
"""

import asyncio
import json
import os
import random
import socket
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from aiohttp import web

from batch_cancel.core.errors import InputError, UsageError
from batch_cancel.simulator import wire
from batch_cancel.simulator.latency import Latency, no_latency
from batch_cancel.simulator.requests import Refused
from batch_cancel.simulator.world import Answer, Delivery, World

HOST = "127.0.0.1"
LONGEST_SILENCE_SECONDS = 300.0
"""A connection whose answer never comes is closed after so long; every client gave up before."""
_RESET_ON_CLOSE = struct.pack("ii", 1, 0)
_REQUEST_ID = "00000000-5143-4000-8000-000000000000"
"""Of a request that no operation could be read from."""


@asynccontextmanager
async def serve(world: World, *, port: int = 0, latency: Latency = no_latency, seed: int = 0) -> AsyncIterator[str]:
    """Serve a world on loopback while inside; gives the URL.

    Args:
        port: 0 takes a free one.
        latency: of a round trip, half of it before the call arrives.

    Raises:
        UsageError: the port cannot be had.
    """
    endpoint = Endpoint(world, latency, random.Random(f"wire {seed}"))
    runner = web.ServerRunner(web.Server(endpoint.answer, access_log=None), shutdown_timeout=0.1)
    await runner.setup()
    try:
        site = web.TCPSite(runner, HOST, port, backlog=1024)
        try:
            await site.start()
        except OSError as error:
            why = os.strerror(error.errno or 0).lower()  # asyncio's own sentence says the address twice
            raise UsageError(f"port {port} cannot be had ({why}): choose another with --port") from error
        yield f"http://{HOST}:{runner.addresses[0][1]}"
    finally:
        endpoint.ended.set()
        await runner.cleanup()


class Endpoint:
    """Answers requests from a world."""

    def __init__(self, world: World, latency: Latency, draw: random.Random) -> None:
        self.ended = asyncio.Event()
        self._world = world
        self._latency = latency
        self._random = draw

    async def answer(self, request: web.BaseRequest) -> web.StreamResponse:
        """One HTTP request."""
        if request.path.startswith("/_simulator/"):
            return await self._about_itself(request)
        if request.method != "POST":
            return web.Response(status=404, text="This is a simulated AWS endpoint: point AWS_ENDPOINT_URL at it.\n")
        body = await request.read()
        seconds = self._latency(self._random)
        if seconds:
            await asyncio.sleep(seconds / 2)
        try:
            call = wire.read_request(request.headers, body)
        except Refused as refused:
            return _whole(wire.refusal(refused, _REQUEST_ID, query=wire.is_query(request.headers)))
        answer = self._world.call(call.key_id, call.region, call.operation, call.parameters)
        if seconds:
            await asyncio.sleep(seconds / 2)
        if answer.refused is not None:
            retry_after = self._world.settings.behaviour.retry_after
            response = wire.refusal(answer.refused, answer.request_id, query=call.query, retry_after=retry_after)
        else:
            response = wire.answered(call.operation, answer.body or {}, answer.request_id, query=call.query)
        if answer.delivery is Delivery.WHOLE:
            return _whole(response)
        return await self._in_part(request, answer, response)

    async def _in_part(self, request: web.BaseRequest, answer: Answer, response: wire.Response) -> web.StreamResponse:
        headers = {"x-amzn-RequestId": answer.request_id}
        match answer.delivery:
            case Delivery.HTML_503:
                return web.Response(status=503, body=wire.HTML_503, content_type=wire.HTML_TYPE, headers=headers)
            case Delivery.GARBAGE:
                return web.Response(body=wire.HTML_200, content_type=wire.HTML_TYPE, headers=headers)
            case Delivery.EMPTY:
                return web.Response(body=b"", content_type=wire.JSON_TYPE, headers=headers)
            case Delivery.HALF:
                return await _half(request, response)
            case Delivery.NEVER:
                with suppress(TimeoutError):
                    await asyncio.wait_for(self.ended.wait(), LONGEST_SILENCE_SECONDS)
        return _gone(request, reset=answer.delivery in (Delivery.RESET, Delivery.REFUSED))

    # -- what only a simulator tells ----------------------------------------------------------------------------------

    async def _about_itself(self, request: web.BaseRequest) -> web.StreamResponse:
        match request.method, request.path.removeprefix("/_simulator/"):
            case "GET", "truth":
                try:
                    return await self._truth(request)
                except ConnectionResetError:  # whoever asked has read enough: curl ... | head
                    return _gone(request, reset=False)
            case "GET", "summary":
                return web.json_response(self._world.truth_in_short())
            case "POST", "faults":
                return await self._change(request)
            case _:
                return web.json_response({"error": "GET truth, GET summary, or POST faults"}, status=404)

    async def _truth(self, request: web.BaseRequest) -> web.StreamResponse:
        """Streamed, transform by transform: a hundred thousand runs need not be one text."""
        response = web.StreamResponse(headers={"Content-Type": "application/json"})
        await response.prepare(request)
        head = json.dumps(self._world.truth_in_short())
        await response.write(f'{head[:-1]}, "transforms": [\n'.encode())
        now = self._world.now()
        between = b""
        for each in list(self._world.transforms()):
            await response.write(between + json.dumps(self._world.truth_of(*each, now)).encode())
            between = b",\n"
        await response.write(b'\n], "log": [\n')
        log = list(self._world.log)
        for begin in range(0, len(log), 1000):
            lines = ",\n".join(json.dumps(call._asdict()) for call in log[begin : begin + 1000])
            await response.write((b",\n" if begin else b"") + lines.encode())
        await response.write(b"\n]}\n")
        return response

    async def _change(self, request: web.BaseRequest) -> web.StreamResponse:
        from batch_cancel.simulator.scenario_file import read_changes  # noqa: PLC0415  # brings pydantic, for this alone

        try:
            changes = read_changes(await request.read())
        except InputError as error:
            return web.json_response({"error": str(error)}, status=400)
        if changes.faults is not None:
            self._world.change_faults(changes.faults)
        if changes.limits is not None:
            self._world.change_limits(changes.limits)
        return web.json_response({"faults": changes.faults is not None, "limits": changes.limits is not None})


def _whole(response: wire.Response) -> web.Response:
    return web.Response(
        status=response.http_status,
        body=response.body,
        headers={**response.headers, "Content-Type": response.content_type},
    )


async def _half(request: web.BaseRequest, response: wire.Response) -> web.StreamResponse:
    """The length of all of it, and then only half."""
    stream = web.StreamResponse(
        status=response.http_status,
        headers={
            **response.headers,
            "Content-Type": response.content_type,
            "Content-Length": str(len(response.body)),
        },
    )
    await stream.prepare(request)
    await stream.write(response.body[: len(response.body) // 2])
    if request.transport is not None:
        request.transport.close()
    return stream


def _gone(request: web.BaseRequest, *, reset: bool) -> web.StreamResponse:
    """Close the connection without a word, or tear it down so that the other side sees a reset."""
    transport = request.transport
    if transport is not None:
        connection = transport.get_extra_info("socket")
        if reset and connection is not None:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
            transport.abort()
        else:
            transport.close()
    return web.Response()  # it goes nowhere: the transport is closing
