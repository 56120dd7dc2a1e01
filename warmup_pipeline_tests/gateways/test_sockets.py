"""What a kept connection may bring, at real sockets.

Trap guarded: a connection that is used again brings one chip's session, or a late answer, into another's request.
"""

from __future__ import annotations

import asyncio

import httpx
import pytest

from warmup_pipeline.domain.failures import Stage
from warmup_pipeline.gateways.link import Answer, Call, Link, LinkLimits, Reply, Silence
from warmup_pipeline_tests.gateways.conftest import (
    TAKEN,
    Seen,
    Wire,
    answer,
    ask_once,
    close_after,
    reset_after,
    serving,
)


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "POST"])
def test_a_request_whose_kept_connection_broke_is_made_once_whatever_its_method(method: str) -> None:
    async def scenario() -> list[str]:
        wire = Wire([TAKEN, close_after])
        async with serving(wire):
            link = Link(wire.url, LinkLimits(deadline=5.0, retry_pause=0.0))
            try:
                await link.ask(Call("GET", link.url("/first"), {}), instance="a")
                await link.ask(Call(method, link.url("/second"), {}), instance="a")
            finally:
                await link.aclose()
            return [seen.path for seen in wire.seen]

    assert asyncio.run(scenario()) == ["/first", "/second"]


def test_a_gateways_cookies_are_not_sent_back() -> None:
    async def scenario() -> list[dict[str, str]]:
        wire = Wire([answer(200, {}, headers={"Set-Cookie": "session=chip-1"}), TAKEN])
        async with serving(wire):
            link = Link(wire.url, LinkLimits(deadline=5.0, retry_pause=0.0))
            try:
                for _ in range(2):
                    await link.ask(Call("GET", link.url("/x"), {"Accept": "text/plain"}), instance="a")
            finally:
                await link.aclose()
            return [dict(seen.headers) for seen in wire.seen]

    first, second = asyncio.run(scenario())
    assert first == second
    assert set(first) == {"host", "accept"}


@pytest.mark.parametrize(
    "unasked", [b"HTTP/1.1 503 Late\r\n\r\n", b"HTTP/1.1 200 Late\r\nContent-Length: 2\r\n\r\n{}"]
)
@pytest.mark.parametrize(("method", "body"), [("POST", b"{}"), ("DELETE", None), ("GET", None)])
def test_an_answer_that_nobody_asked_for_is_not_taken_for_that_of_the_next_request(
    method: str, body: bytes | None, unasked: bytes
) -> None:
    async def scenario() -> tuple[Wire, Reply]:
        idle, said = asyncio.Event(), asyncio.Event()

        async def late(seen: Seen, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await TAKEN(seen, reader, writer)
            await idle.wait()
            writer.write(unasked)
            await writer.drain()
            said.set()

        wire = Wire([late, TAKEN])
        async with serving(wire):
            link = Link(wire.url, LinkLimits(deadline=5.0, retry_pause=0.0))
            try:
                await link.ask(Call("GET", link.url("/first"), {}), instance="a")
                idle.set()
                await said.wait()
                return wire, await link.ask(Call(method, link.url("/second"), {}, body), instance="a")
            finally:
                await link.aclose()

    wire, reply = asyncio.run(scenario())
    assert [seen.path for seen in wire.seen] == ["/first", "/second"]
    assert isinstance(reply, Answer)
    assert (reply.status, reply.attempts) == (201, 2)


def test_an_answer_with_a_long_head_is_read() -> None:
    wire, reply = ask_once(answer(200, {}, headers={"Content-Security-Policy": "x" * 20_000}))
    assert isinstance(reply, Answer)
    assert (reply.status, len(wire.seen)) == (200, 1)


def test_what_a_broken_connection_says_holds_no_address() -> None:
    _, reply = ask_once(reset_after)
    assert isinstance(reply, Silence)
    assert reply.stage is Stage.AFTER_WRITE
    assert "127.0.0.1" not in reply.words
    assert "/x" not in reply.words


class _Keeping(httpx.AsyncBaseTransport):
    """Keeps what it is asked."""

    def __init__(self) -> None:
        self.asked: list[httpx.Request] = []

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        self.asked.append(request)
        return httpx.Response(200, content=b"{}")


@pytest.mark.parametrize("method", ["GET", "DELETE", "POST"])
@pytest.mark.parametrize("base", ["http://gateway.test", "https://gateway.test:8443", "http://[::1]:80"])
def test_a_request_without_a_body_has_the_headers_that_httpx_gives_it(base: str, method: str) -> None:
    headers = {"apikey": "K", "Accept": "application/json"}
    keeping = _Keeping()

    async def ask() -> None:
        link = Link(base, LinkLimits(), lambda: keeping)
        await link.ask(Call(method, link.url("/instance/connectionState/one?x=1"), headers), instance="one")
        await link.aclose()

    asyncio.run(ask())
    (asked,) = keeping.asked
    plain = httpx.Request(method, f"{base}/instance/connectionState/one?x=1", headers=headers)
    assert asked.headers.raw == plain.headers.raw
    assert (asked.url, asked.read()) == (plain.url, b"")
