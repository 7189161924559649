"""The shared pool of connections, on real sockets: who shares what, when it is closed, and whom TLS lets in."""

import asyncio
import datetime as dt
import ipaddress
import json
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from batch_cancel.core.errors import CallFailed
from batch_cancel.core.task_run import Access, Status, Target
from batch_cancel.glue.api import GlueApi
from batch_cancel.glue.aws import Aws

EAST, WEST = Target("us-east-1", None, Access()), Target("us-west-2", None, Access())
BODY = json.dumps({"TransformId": "tfm-1", "TaskRunId": "tr-1", "Status": "STOPPING"}).encode()
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(BODY), BODY)


@dataclass
class Seen:
    """Connections of a server."""

    opened: int = 0
    ended: int = 0
    changed: asyncio.Event = field(default_factory=asyncio.Event)

    async def all_ended(self) -> None:
        """Wait for the last connection's end."""
        while self.ended < self.opened:
            self.changed.clear()
            await self.changed.wait()


@asynccontextmanager
async def server(tls: ssl.SSLContext | None = None) -> AsyncIterator[tuple[str, Seen]]:
    """Answers every request with the same acceptance."""
    seen = Seen()

    async def converse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.opened += 1
        try:
            while head := (await reader.readuntil(b"\r\n\r\n")).lower():
                await reader.readexactly(int(head.partition(b"content-length: ")[2].partition(b"\r\n")[0]))
                writer.write(ANSWER)
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()
            seen.ended += 1
            seen.changed.set()

    async with await asyncio.start_server(converse, "127.0.0.1", 0, ssl=tls) as listening:
        port = listening.sockets[0].getsockname()[1]
        yield f"{'https' if tls else 'http'}://127.0.0.1:{port}", seen


@pytest.fixture(autouse=True)
def _made_up_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_PROFILE", "AWS_SESSION_TOKEN", "AWS_ENDPOINT_URL", "AWS_CA_BUNDLE", "HTTPS_PROXY", "HTTP_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIATRANSPORT0000000")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "made-up")
    monkeypatch.setenv("AWS_CONFIG_FILE", "/dev/null")


async def cancelled(glue: GlueApi) -> bool:
    return (await glue.cancel_task_run("tfm-1", "tr-1")).status is Status.STOPPING


def test_the_clients_of_two_regions_share_a_connection_and_the_last_one_closes_it() -> None:
    async def story() -> None:
        async with server() as (url, seen):
            aws = Aws("s-1", endpoint_url=url)
            async with aws.connect(EAST) as east:
                async with aws.connect(WEST) as west:
                    assert await cancelled(east) and await cancelled(west)
                assert await cancelled(east)
                assert (seen.opened, seen.ended) == (1, 0)
            await seen.all_ended()

    asyncio.run(story())


def test_a_pool_that_was_closed_opens_anew() -> None:
    async def story() -> None:
        async with server() as (url, seen):
            aws = Aws("s-1", endpoint_url=url)
            for _ in range(2):
                async with aws.connect(EAST) as glue:
                    assert await cancelled(glue)
                await seen.all_ended()
            assert seen.opened == 2

    asyncio.run(story())


def test_a_client_that_is_renewed_under_calls_leaves_no_connection_behind() -> None:
    async def story() -> None:
        async with server() as (url, seen):
            aws = Aws("s-1", endpoint_url=url)
            async with aws.connect(EAST) as old:
                aws.forget(EAST.access)
                async with aws.connect(EAST) as new:
                    assert await cancelled(old) and await cancelled(new)
            await seen.all_ended()

    asyncio.run(story())


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A certificate for 127.0.0.1 that signs itself, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "127.0.0.1")])
    now = dt.datetime.now(dt.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    directory = tmp_path_factory.mktemp("tls")
    (directory / "cert.pem").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    (directory / "key.pem").write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return directory / "cert.pem", directory / "key.pem"


@pytest.mark.parametrize(
    ("how", "let_in"), [("its own authority", True), ("not verified", True), ("the public authorities", False)]
)
def test_tls_is_verified_as_it_was_asked_for(
    authority: tuple[Path, Path], how: str, let_in: bool
) -> None:  # a parameter
    certificate, key = authority
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(certificate, key)

    async def story() -> None:
        async with server(tls) as (url, seen):
            aws = Aws(
                "s-1",
                endpoint_url=url,
                ca_bundle=str(certificate) if how == "its own authority" else None,
                verify_ssl=how != "not verified",
            )
            async with aws.connect(EAST) as glue:
                if let_in:
                    assert await cancelled(glue)
                    return
                with pytest.raises(CallFailed) as caught:
                    await cancelled(glue)
                assert (caught.value.code, seen.opened) == ("SSLError", 0)

    asyncio.run(story())


def test_clients_that_verify_differently_share_nothing(authority: tuple[Path, Path]) -> None:
    certificate, key = authority
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(certificate, key)

    async def story() -> None:
        async with server(tls) as (url, _):
            careless, careful = Aws("s-1", endpoint_url=url, verify_ssl=False), Aws("s-1", endpoint_url=url)
            async with careless.connect(EAST) as one, careful.connect(EAST) as other:
                assert await cancelled(one)
                with pytest.raises(CallFailed):
                    await cancelled(other)

    asyncio.run(story())
