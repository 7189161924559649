"""A server that knows nothing of Glue: it reads a request whole and does with the connection what a test says."""

import asyncio
import json
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

Behaviour = Callable[[asyncio.StreamWriter], Awaitable[None]]


class Script:
    """What the server does with the next requests, and how many it has read."""

    def __init__(self) -> None:
        self.behaviour: Behaviour = close
        self.requests = 0


@asynccontextmanager
async def scripted_server() -> AsyncIterator[tuple[str, Script]]:
    """Serve a script on loopback while inside; gives the URL and the script."""
    script = Script()
    conversations: set[asyncio.Task[None]] = set()

    async def converse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        conversations.add(task)
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = next(
                    int(line.split(b":")[1])
                    for line in head.split(b"\r\n")
                    if line.lower().startswith(b"content-length:")
                )
                await reader.readexactly(length)
                script.requests += 1
                await script.behaviour(writer)
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            pass  # the other side has gone, or we have, or the test is over
        finally:
            writer.close()

    server = await asyncio.start_server(converse, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", script
    finally:
        server.close()
        for task in conversations:
            task.cancel()
        await asyncio.gather(*conversations)


def answer(status: int, body: bytes, *, headers: dict[str, str] | None = None, length: int | None = None) -> Behaviour:
    """An HTTP answer; with a ``length`` of more than the body, it breaks off there."""

    async def behave(writer: asyncio.StreamWriter) -> None:
        lines = [
            f"HTTP/1.1 {status} Whatever",
            "x-amzn-RequestId: request-1",
            *(f"{k}: {v}" for k, v in (headers or {}).items()),
        ]
        lines.append(f"Content-Length: {len(body) if length is None else length}")
        writer.write("\r\n".join(lines).encode() + b"\r\n\r\n" + body)
        await writer.drain()
        if length is not None:
            writer.close()

    return behave


def error(code: str, status: int = 400, *, message: str = "said", headers: dict[str, str] | None = None) -> Behaviour:
    """An error as Glue sends it."""
    return answer(status, json.dumps({"__type": code, "message": message}).encode(), headers=headers)


async def close(writer: asyncio.StreamWriter) -> None:
    """Close the connection without a word."""
    writer.close()


async def reset(writer: asyncio.StreamWriter) -> None:
    """Tear the connection down."""
    connection: socket.socket = writer.get_extra_info("socket")
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


async def nothing(writer: asyncio.StreamWriter) -> None:
    """No answer, and the connection stays."""
