"""The sockets' stand-in: an HTTP transport that hands requests to the simulator in this process.

Holds: :class:`SimulatorTransport`. Everything above it (clients, headers, parsing, retries, error
classes) is production's. Waiting is done in the event loop, so that it takes virtual time. Do not
add: what the simulator answers (``gateways.simulator``), faults (``profiles``).
"""

from __future__ import annotations

import asyncio
import functools
import json
from collections.abc import AsyncIterator, Mapping
from typing import Any, Final

import httpx

from warmup_pipeline.gateways.simulator.core import SimulatorCore
from warmup_pipeline.gateways.simulator.wire import Reply, Request

_DRIPS_PER_SECOND: Final = 10
_KEPT_BYTES: Final = 1_000


class SimulatorTransport(httpx.AsyncBaseTransport):
    """Answers requests from a simulator's core, as its server on a socket would.

    Args:
        core: what answers; it is not closed.
        unreachable: hosts that refuse connections; may change between cycles.
    """

    def __init__(self, core: SimulatorCore, unreachable: set[str]) -> None:
        self._core = core
        self._unreachable = unreachable

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Answer a request.

        Raises:
            httpx.ConnectError: the host refuses connections.
            httpx.ReadError: the connection was reset after the request was written.
            httpx.RemoteProtocolError: the answer ends early.
        """
        if request.url.host in self._unreachable:
            raise httpx.ConnectError("connection refused")
        trace = request.extensions.get("trace")
        if trace is not None:
            await trace("http11.send_request_headers.started", {})
        reply = self._core.handle(
            Request(
                method=request.method,
                path=request.url.raw_path.partition(b"?")[0].decode("ascii"),
                query=dict(request.url.params) if request.url.query else {},
                headers=_read(tuple(request.headers.raw)),
                body=request.read(),
            )
        )
        wire = reply.wire
        if wire.delay_ms:
            await asyncio.sleep(wire.delay_ms / 1000)
        if wire.reset is not None:
            raise httpx.ReadError("connection reset by peer")
        if wire.truncate_at is None and wire.drip_bytes_per_s is None:
            whole = _kept if request.method == "GET" and len(reply.body) <= _KEPT_BYTES else _whole
            return whole(reply.status, tuple(reply.headers.items()), reply.body)
        return httpx.Response(reply.status, headers=dict(reply.headers), stream=_Halting(reply))


def _whole(status: int, headers: tuple[tuple[str, str], ...], body: bytes) -> httpx.Response:
    """Return an answer that came whole."""
    return httpx.Response(status, headers=headers, content=body)


_kept = functools.lru_cache(maxsize=2048)(_whole)
"""Most answers to a question say what the same chip's last one said: made once, and read to its end then, so that
nobody who reads it again changes it. A send's says something else each time."""


@functools.lru_cache(maxsize=256)
def _read(raw: tuple[tuple[bytes, bytes], ...]) -> Mapping[str, str]:
    """Return a request's headers as the simulator takes them; it changes none."""
    return {name.lower().decode(): value.decode() for name, value in raw}


class _Halting(httpx.AsyncByteStream):
    """A body that comes slowly, or ends before it is whole."""

    def __init__(self, reply: Reply) -> None:
        self._reply = reply

    async def __aiter__(self) -> AsyncIterator[bytes]:
        body, wire = self._reply.body, self._reply.wire
        if wire.truncate_at is not None:
            yield body[: wire.truncate_at]
            raise httpx.RemoteProtocolError("peer closed the connection before the whole body was sent")
        pace = wire.drip_bytes_per_s or 1.0
        step = max(1, round(pace / _DRIPS_PER_SECOND))
        for start in range(0, len(body), step):
            yield body[start : start + step]
            await asyncio.sleep(step / pace)

    async def aclose(self) -> None:
        """Nothing is held."""


def answer_of(core: SimulatorCore, path: str, **query: Any) -> Any:
    """Ask one of the simulator's own routes (``/_sim/...``) and return its JSON."""
    reply = core.handle(Request("GET", path, {name: str(value) for name, value in query.items()}))
    if reply.status != httpx.codes.OK:
        raise RuntimeError(f"the simulator refused {path}: {reply.body.decode()}")
    return json.loads(reply.body)
