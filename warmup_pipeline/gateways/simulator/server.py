"""The simulator on a socket: an HTTP server around the core.

Holds: :class:`SimulatorServer` (asynchronous), :func:`run_in_thread` (for synchronous code), and how
a misbehaving answer is acted out on TCP. Add here: another way to misbehave on the wire. Do not
add: what is answered (``core``).

The core is synchronous and quick; waiting (latency, hangs, slow bodies) happens here, so that one
process holds thousands of slow answers at once.
"""

from __future__ import annotations

import asyncio
import socket
import struct
import threading
from types import TracebackType
from typing import Final, Self

from aiohttp import web

from warmup_pipeline.gateways.simulator.core import SimulatorCore
from warmup_pipeline.gateways.simulator.evolution_bodies import uncaught
from warmup_pipeline.gateways.simulator.wire import Reply, Request

LARGEST_BODY: Final = 136 * 1024 * 1024
"""Bytes above which the real Evolution refuses a body (gateway-contract.md 1.1)."""
_LINGER_ZERO: Final = struct.pack("ii", 1, 0)
_DRIPS_PER_SECOND: Final = 10
_START_TIMEOUT_S: Final = 30.0


class SimulatorServer:
    """Serves a core over HTTP on one address, both gateways and the control routes together.

    Args:
        core: what answers. The server does not close it.
        host: address to listen on; loopback unless told.
        port: 0 for any free one.
    """

    def __init__(self, core: SimulatorCore, host: str = "127.0.0.1", port: int = 0) -> None:
        self.core = core
        self.host = host
        self.port = port
        self._runner: web.ServerRunner | None = None

    @property
    def base_url(self) -> str:
        """Base of every route, without a final slash; known once started."""
        return f"http://{self.host}:{self.port}"

    async def start(self) -> None:
        """Begin to listen.

        Raises:
            OSError: the address cannot be had.
        """
        # A client that gives up ends its handler: hangs must not pile up behind it.
        server = web.Server(self._respond, access_log=None, handler_cancellation=True)
        runner = web.ServerRunner(server, shutdown_timeout=0.1)
        await runner.setup()
        try:
            site = web.TCPSite(runner, self.host, self.port, backlog=2048)
            await site.start()
        except OSError:
            await runner.cleanup()
            raise
        self._runner = runner
        self.port = runner.addresses[0][1]

    async def stop(self) -> None:
        """Stop listening and drop what is still being answered."""
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    async def _respond(self, request: web.BaseRequest) -> web.StreamResponse:
        body = await _read(request)
        if body is None:
            return _response(uncaught("request entity too large", 413))
        reply = self.core.handle(
            Request(
                method=request.method,
                path=request.rel_url.raw_path,
                query=dict(request.query),
                headers={name.lower(): _storable(value) for name, value in request.headers.items()},
                body=body,
            )
        )
        wire = reply.wire
        if wire.delay_ms:
            await asyncio.sleep(wire.delay_ms / 1000)
        if wire.reset is not None:
            _reset(request)
            return web.Response(status=500)
        if wire.truncate_at is not None:
            return await _truncated(request, reply, wire.truncate_at)
        if wire.drip_bytes_per_s is not None:
            return await _dripped(request, reply, wire.drip_bytes_per_s)
        return _response(reply)


async def _read(request: web.BaseRequest) -> bytes | None:
    """Return the whole body, ``None`` if it is larger than the real server takes."""
    if not request.can_read_body:
        return b""
    if (request.content_length or 0) > LARGEST_BODY:
        return None
    chunks: list[bytes] = []
    size = 0
    async for chunk in request.content.iter_any():
        size += len(chunk)
        if size > LARGEST_BODY:
            return None
        chunks.append(chunk)
    return b"".join(chunks)


def _storable(value: str) -> str:
    """Return a header's value without the bytes that are no UTF-8."""
    return value if value.isascii() else value.encode("utf-8", "replace").decode()


def _response(reply: Reply) -> web.Response:
    return web.Response(status=reply.status, headers=dict(reply.headers), body=reply.body)


def _reset(request: web.BaseRequest) -> None:
    """End the connection with a TCP RST, as a crashing gateway does."""
    transport = request.transport
    if transport is None:
        return
    raw = transport.get_extra_info("socket")
    if raw is not None:
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_ZERO)
    transport.abort()


async def _open_stream(request: web.BaseRequest, reply: Reply) -> web.StreamResponse:
    stream = web.StreamResponse(status=reply.status, headers=dict(reply.headers))
    stream.content_length = len(reply.body)
    await stream.prepare(request)
    return stream


async def _truncated(request: web.BaseRequest, reply: Reply, size: int) -> web.StreamResponse:
    stream = await _open_stream(request, reply)
    if size:
        await stream.write(reply.body[:size])
    if request.transport is not None:
        request.transport.close()
    return stream


async def _dripped(request: web.BaseRequest, reply: Reply, bytes_per_s: float) -> web.StreamResponse:
    stream = await _open_stream(request, reply)
    step = max(1, round(bytes_per_s / _DRIPS_PER_SECOND))
    for start in range(0, len(reply.body), step):
        await stream.write(reply.body[start : start + step])
        await asyncio.sleep(step / bytes_per_s)
    await stream.write_eof()
    return stream


class RunningSimulator:
    """A simulator that serves from a thread of its own. Use as a context manager, or call ``stop``."""

    def __init__(self, core: SimulatorCore, host: str, port: int) -> None:
        self.core = core
        self._server = SimulatorServer(core, host, port)
        self._loop = asyncio.new_event_loop()
        self._started = threading.Event()
        self._stopping: asyncio.Event | None = None
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="gateway-simulator", daemon=True)
        self._thread.start()
        if not self._started.wait(_START_TIMEOUT_S):
            raise TimeoutError("the simulator did not start in time")
        if self._failure is not None:
            self._thread.join()
            raise self._failure

    @property
    def base_url(self) -> str:
        """Base of every route, without a final slash."""
        return self._server.base_url

    @property
    def port(self) -> int:
        """The port it listens on."""
        return self._server.port

    def stop(self) -> None:
        """Stop serving and wait until the port is free. The core stays open. May be called twice."""
        if self._thread.is_alive() and self._stopping is not None:
            self._loop.call_soon_threadsafe(self._stopping.set)
        self._thread.join()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _run(self) -> None:
        try:
            self._loop.run_until_complete(self._serve())
        finally:
            self._loop.close()

    async def _serve(self) -> None:
        self._stopping = asyncio.Event()
        try:
            await self._server.start()
        except OSError as error:
            self._failure = error
            self._started.set()
            return
        self._started.set()
        await self._stopping.wait()
        await self._server.stop()


def run_in_thread(core: SimulatorCore, port: int = 0, *, host: str = "127.0.0.1") -> RunningSimulator:
    """Serve a core from a background thread and return once it listens.

    Args:
        core: what answers; it outlives the server, so it can be served again.
        port: 0 for any free one.
        host: address to listen on.

    Raises:
        OSError: the address cannot be had.
    """
    return RunningSimulator(core, host, port)
