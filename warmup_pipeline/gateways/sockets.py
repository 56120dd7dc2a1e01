"""The sockets beneath the gateway clients: an HTTP transport that knows how far a request got.

Holds: :class:`SocketTransport`. It speaks httpx to whoever uses it and lets aiohttp do the work, whose parser
and pool cost a fraction of httpcore's processor time (``docs/benchmarks.md``). Do not add: deadlines,
retries, whose turn it is (``link``), a gateway's bodies.

httpx transports for aiohttp exist, but call a connection that broke in the middle one that was never made; here
that difference decides whether a message may be sent again.
"""

from __future__ import annotations

import asyncio
import functools
import logging
import os
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextvars import ContextVar
from typing import Any, Final

import aiohttp
import httpx
from aiohttp.client_proto import ResponseHandler
from yarl import URL

KEEPALIVE_S: Final = 2.0
"""Seconds an idle connection is kept. Node (Evolution) closes one after 5 s; a request written into a
connection that is just being closed is lost with an unknown outcome, so we leave well before."""

_GONE: Final = "the connection was closed before the request was written"

_UNASKED: Final = "an answer came before the request was written"

_HEAD_BYTES: Final = 65_536
"""Bytes a line of an answer's head may have: some servers send long policies in it."""

_NOT_ADDED: Final = ("User-Agent", "Accept", "Accept-Encoding", "Content-Type")
"""Headers that aiohttp would add of its own accord: a request is what its caller made of it."""

# Their records hold whole requests, and the bodies and addresses of these hold phones and tokens.
for _name in ("httpx", "aiohttp.client"):
    logging.getLogger(_name).setLevel(logging.WARNING)


@functools.cache
def _public_tls() -> ssl.SSLContext:
    # About 20 ms each, so one for the process. It honours SSL_CERT_FILE: some operators have their own CA.
    return httpx.create_ssl_context()


def _no_tls() -> ssl.SSLContext:
    # For plain http: reading all public certificates would be for nothing.
    # It trusts no certificate at all, so a TLS connection made with it by mistake fails.
    return ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)


@functools.lru_cache(maxsize=4096)
def _address(url: str) -> URL:
    """Return an address as it is: each chip's few are asked for again in every cycle."""
    return URL(url, encoded=True)


class SocketTransport(httpx.AsyncBaseTransport):
    """Makes requests over sockets, each exactly once, in the event loop of the first of them.

    No cookies are kept (they are one chip's account), no redirect is followed (it would take credentials along),
    no proxy is read from the environment, and nothing is asked again silently.

    A request's ``trace`` extension is told, as httpx transports do, ``connect.started``,
    ``send_request_headers.started`` and, where certainly nothing of it was written,
    ``send_request_headers.failed`` with the exception. Its ``timeout`` extension bounds connecting alone.

    Args:
        secure: whether servers are asked by https, and their certificates verified.
    """

    def __init__(self, *, secure: bool = True) -> None:
        self._secure = secure
        self._session: aiohttp.ClientSession | None = None

    def connector(self) -> aiohttp.BaseConnector:
        """Return a new pool of connections; whoever uses this transport bounds their number."""
        return aiohttp.TCPConnector(
            limit=0,
            keepalive_timeout=KEEPALIVE_S,
            ssl=_public_tls() if self._secure else _no_tls(),
            # The system's own way to find a host, whatever else is installed.
            resolver=aiohttp.ThreadedResolver(),
        )

    def _open(self) -> aiohttp.ClientSession:
        session = aiohttp.ClientSession(
            connector=self.connector(),
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            request_class=_Request,
            max_line_size=_HEAD_BYTES,
            max_field_size=_HEAD_BYTES,
        )
        # It would make a GET or DELETE again whose kept connection broke, whatever had become of the first.
        session._retry_connection = False  # noqa: SLF001 (no public way; held by a test)
        return session

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Make a request; its answer's body is still to be read.

        Raises:
            httpx.TransportError: no answer came; of its subclass by what happened.
        """
        if self._session is None:
            self._session = self._open()
        writing = _Writing(request.extensions.get("trace") or _tell_nobody)
        await writing.tell("connect.started", {})
        # Twice: so long it takes until a connection is known to be closed whose end has arrived already.
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        _WRITING.set(writing)
        try:
            response = await self._session.request(
                request.method,
                _address(str(request.url)),
                headers=[
                    (name.decode("ascii"), value.decode("utf-8")) for name, value in request.headers.raw
                ],
                data=request.read() or None,
                allow_redirects=False,
                skip_auto_headers=_NOT_ADDED,
                timeout=_timeout(request.extensions.get("timeout", {}).get("connect")),
            )
        except (aiohttp.ClientError, OSError) as error:
            raise _translated(error) from error
        if not writing.begun:
            # It came in the moment between: whatever it answers, it is not this request, which is given up.
            response.close()
            await writing.give_up()
            raise httpx.RemoteProtocolError(_UNASKED)
        return httpx.Response(response.status, headers=response.raw_headers, stream=_Body(response))

    async def aclose(self) -> None:
        """Close every connection."""
        if self._session is not None:
            await self._session.close()
            self._session = None


@functools.cache
def _timeout(connecting: float | None) -> aiohttp.ClientTimeout:
    return aiohttp.ClientTimeout(total=None, sock_connect=connecting, ceil_threshold=float("inf"))


_Tell = Callable[[str, Mapping[str, Any]], Awaitable[None]]


async def _tell_nobody(_event: str, _info: Mapping[str, Any]) -> None:
    """Stands for the ``trace`` of a request that has none."""


class _Writing:
    """Whether a request has begun to be written.

    Args:
        tell: is told.
    """

    def __init__(self, tell: _Tell) -> None:
        self.tell = tell
        self.begun = False

    async def begin(self, protocol: ResponseHandler | None) -> None:
        """Note that it begins, unless it cannot.

        Raises:
            aiohttp.ClientConnectionResetError: the connection is gone, or holds what nobody has asked for: that
                would be taken for the answer. Nothing is written then.
        """
        if protocol is None or not protocol.is_connected() or protocol.should_close:
            await self.give_up()
            raise aiohttp.ClientConnectionResetError(_GONE)
        self.begun = True
        await self.tell("send_request_headers.started", {})

    async def give_up(self) -> None:
        """Tell that nothing of it was written, nor will be."""
        if not self.begun:
            await self.tell("send_request_headers.failed", {"exception": httpx.WriteError(_GONE)})


_WRITING: Final[ContextVar[_Writing]] = ContextVar("_WRITING")
"""The request that is being made: aiohttp makes its own of it in the same context."""


class _Request(aiohttp.ClientRequest):
    """Tells that it is about to be written, or that it cannot be: what aiohttp raises leaves that open."""

    async def send(self, conn: Any) -> aiohttp.ClientResponse:
        protocol = conn.protocol
        if not self._body:
            # It is written whole before anybody else has a turn.
            await _WRITING.get().begin(protocol)
        elif protocol is None or not protocol.is_connected() or protocol.should_close:
            # Its body is written by a task of its own, and an answer that is there already would be read before.
            await _WRITING.get().give_up()
            raise aiohttp.ClientConnectionResetError(_GONE)
        return await super().send(conn)

    async def write_bytes(self, writer: Any, conn: Any, content_length: int | None = None) -> None:
        if self._body:
            await _WRITING.get().begin(conn.protocol)
        await super().write_bytes(writer, conn, content_length)


class _Body(httpx.AsyncByteStream):
    """The body of an answer, as it comes."""

    def __init__(self, response: aiohttp.ClientResponse) -> None:
        self._response = response

    async def __aiter__(self) -> AsyncIterator[bytes]:
        try:
            async for chunk in self._response.content.iter_any():
                yield chunk
        except (aiohttp.ClientError, OSError) as error:
            raise _translated(error) from error

    async def aclose(self) -> None:
        """Close the connection, unless it was read to its end: then it is free for the next request."""
        self._response.close()


def _translated(error: Exception) -> httpx.TransportError:
    """Return an error as httpx transports raise it; its text holds no address."""
    if isinstance(error, aiohttp.ConnectionTimeoutError):
        return httpx.ConnectTimeout("no connection in time")
    if isinstance(error, (aiohttp.ClientConnectorError, aiohttp.ClientSSLError)):
        return httpx.ConnectError(str(error))
    if isinstance(error, aiohttp.ServerDisconnectedError):
        return httpx.RemoteProtocolError("the server closed the connection without an answer")
    if isinstance(error, aiohttp.ClientResponseError):
        # Its own text holds the whole address.
        return httpx.RemoteProtocolError(error.message)
    if isinstance(error, aiohttp.ClientPayloadError):
        return httpx.RemoteProtocolError(str(error))
    if isinstance(error, aiohttp.ClientConnectionResetError):
        return httpx.WriteError(_GONE)
    # The texts of some hold the whole address.
    number = error.errno if isinstance(error, OSError) else None
    words = type(error).__name__ if number is None else f"[Errno {number}] {os.strerror(number)}"
    return httpx.ReadError(words)
