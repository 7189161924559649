"""One pool of connections, with one TLS context, for all clients that are set up alike.

botocore makes a transport for each client, and reading the certificate authorities alone takes longer than the rest of
a client. aiobotocore's ``http_session_cls`` lets the clients of a thousand targets share theirs.
"""

from types import TracebackType
from typing import Any

from aiobotocore.httpsession import AIOHTTPSession


class _NoRedirects:
    """An HTTP session that takes a redirect for the answer: it would lead elsewhere, with our credentials, as a GET."""

    def __init__(self, session: Any) -> None:  # noqa: ANN401  # aiohttp's, which aiobotocore keeps to itself
        self._session = session

    async def request(self, method: str, **arguments: object) -> Any:  # noqa: ANN401  # aiohttp's answer
        """One request, and only that."""
        return await self._session.request(method, allow_redirects=False, **arguments)


class StraightSession(AIOHTTPSession):  # type: ignore[misc]  # aiobotocore has no types
    """aiobotocore's transport, which would follow redirects."""

    async def _get_session(self, proxy_url: str | None) -> _NoRedirects:
        return _NoRedirects(await super()._get_session(proxy_url))


class Transports:
    """Open transports by how they are set up; each is closed when nobody uses it any more."""

    def __init__(self) -> None:
        self._open: dict[str, AIOHTTPSession] = {}
        self._users: dict[str, int] = {}

    def make(self, **arguments: object) -> "Transport":
        """Stands where a transport's class is asked for; the arguments are that class's own."""
        return Transport(self, arguments)

    async def take(self, arguments: dict[str, object]) -> AIOHTTPSession:
        """An open transport of this set-up, to be given back."""
        key = _key(arguments)
        session = self._open.get(key)
        if session is None:
            session = self._open[key] = StraightSession(**arguments)
            self._users[key] = 0
        self._users[key] += 1
        if self._users[key] == 1:
            await session.__aenter__()
        return session

    async def give_back(self, arguments: dict[str, object]) -> None:
        """One user less."""
        key = _key(arguments)
        self._users[key] -= 1
        if not self._users[key]:
            session = self._open.pop(key)
            await session.__aexit__(None, None, None)


class Transport:
    """A client's share of a pool; what aiobotocore asks of a transport (``AIOHTTPSession``)."""

    def __init__(self, transports: Transports, arguments: dict[str, object]) -> None:
        self._transports = transports
        self._session: AIOHTTPSession | None = None
        self.arguments = arguments

    async def __aenter__(self) -> "Transport":
        """Take part."""
        self._session = await self._transports.take(self.arguments)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None = None,
        error: BaseException | None = None,
        trace: TracebackType | None = None,
    ) -> None:
        """Let go, once."""
        if self._session is not None:
            self._session = None
            await self._transports.give_back(self.arguments)

    async def close(self) -> None:
        """Let go, once."""
        await self.__aexit__()

    async def send(self, request: Any) -> Any:  # noqa: ANN401  # botocore's types
        """One HTTP request; failures are botocore's own classes."""
        if self._session is None:  # a pattern's: whatever botocore does, its made-up keys stay here
            raise RuntimeError("the transport is closed")
        return await self._session.send(request)


def _key(arguments: dict[str, object]) -> str:
    return repr(sorted(arguments.items()))
