"""Parts for the gateways' tests: a server that misbehaves byte by byte, chips, settings.

Holds: :class:`Wire` (a raw TCP server; the simulator cannot show every way a connection can break),
credentials and chips that no other test's text could hold by chance. Trap guarded: a mocked
transport proves nothing about when a socket breaks.
"""

from __future__ import annotations

import asyncio
import json
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import pytest

from warmup_pipeline.domain.privacy import Redactor
from warmup_pipeline.domain.values import MessageState, Provider
from warmup_pipeline.gateways.base import Accepted, Channel, Gateway, Text, Trace
from warmup_pipeline.gateways.credentials import GatewaySettings
from warmup_pipeline.gateways.hub import GatewayHub
from warmup_pipeline.gateways.link import Call, Link, LinkLimits, Reply

EVOLUTION_KEY = "evo-global-9f3c1d7a5b2e"
EVOLUTION_OWN_KEY = "evo-own-77aa88bb99cc"
CLIENT_TOKEN = "Fclient51aa0b3c4d5e6f"
ZAPI_TOKEN = "TKN0A1B2C3D4E5F60718293"
SECRETS = (EVOLUTION_KEY, EVOLUTION_OWN_KEY, CLIENT_TOKEN, ZAPI_TOKEN)

SENDER_PHONE = "5511900000121"
RECIPIENT_PHONE = "5511900007734"
PHONES = (SENDER_PHONE, RECIPIENT_PHONE)

EVOLUTION_CHIP = Channel("chip-e", Provider.EVOLUTION, "julia-01", SENDER_PHONE)
ZAPI_CHIP = Channel("chip-z", Provider.Z_API, "3C0FFEE1", SENDER_PHONE)
CHIPS = (EVOLUTION_CHIP, ZAPI_CHIP)

AT = datetime(2026, 2, 20, 11, 0, tzinfo=UTC)
TRACE = Trace("m-1", "c-1", 1, AT)

EVOLUTION_ACCEPTED = {
    "key": {"remoteJid": "5511900007734@s.whatsapp.net", "fromMe": True, "id": "3EB0D56198378BD13C866A"},
    "pushName": "Você",
    "status": "PENDING",
    "message": {"conversation": "Oi"},
    "messageType": "conversation",
    "messageTimestamp": 1771585200,
    "instanceId": "96f043b8-bf50-405c-909e-68f429254016",
    "source": "web",
}
ZAPI_ACCEPTED = {
    "zaapId": "3999984263738042930CD6ECDE9VDWSA",
    "messageId": "D241732339502B68AA",
    "id": "D241732339502B68AA",
}


async def states_of(
    gateway: Gateway, channel: Channel, since: datetime, until: datetime
) -> dict[str, MessageState]:
    """Return how far what a channel sent got, by the gateway's message id."""
    listing = await gateway.messages_of(channel, since, until, sent_only=True)
    return {listed.message_id: listed.state for listed in listing.messages}


@dataclass
class Seen:
    """One request as the server read it."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


Act = Callable[["Seen", asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


def answer(
    status: int, body: Any = None, *, headers: dict[str, str] | None = None, raw: bytes | None = None
) -> Act:
    """Answer with JSON (or ``raw`` bytes) and keep the connection."""
    content = raw if raw is not None else (b"" if body is None else json.dumps(body).encode())

    async def act(seen: Seen, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = {"Content-Type": "application/json", **(headers or {})}
        if status != 204:
            head["Content-Length"] = str(len(content))
        lines = "".join(f"{name}: {value}\r\n" for name, value in head.items())
        writer.write(f"HTTP/1.1 {status} Words\r\n{lines}\r\n".encode() + content)
        await writer.drain()

    return act


def reset(writer: asyncio.StreamWriter) -> None:
    """Tear the connection down with RST."""
    sock = writer.transport.get_extra_info("socket")
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


async def reset_after(seen: Seen, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Read the whole request, then RST."""
    reset(writer)


async def close_after(seen: Seen, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Read the whole request, then close in good order without a word."""
    writer.close()


async def hang(seen: Seen, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Never answer; end when the client goes away."""
    await reader.read()


def drip(status: int, body: Any) -> Act:
    """Announce a long body and send a byte at a time, more often than any read timeout."""
    content = json.dumps(body).encode()

    async def act(seen: Seen, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(f"HTTP/1.1 {status} Slow\r\nContent-Length: {len(content) + 5000}\r\n\r\n".encode())
        writer.write(content)
        gone = asyncio.ensure_future(reader.read())
        while not gone.done():
            writer.write(b" ")
            await asyncio.wait([gone], timeout=0.02)

    return act


def truncated(status: int, body: Any) -> Act:
    """Announce more than is sent, then close."""
    content = json.dumps(body).encode()

    async def act(seen: Seen, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(
            f"HTTP/1.1 {status} Cut\r\nContent-Length: {len(content) + 10}\r\n\r\n".encode() + content
        )
        await writer.drain()
        writer.close()

    return act


def echo(status: int) -> Act:
    """Refuse, and repeat the whole request in the refusal: the worst a server can do to secrets."""

    async def act(seen: Seen, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        words = f"{seen.method} {seen.path} {seen.headers} {seen.body.decode()}"
        body = {"status": status, "error": words, "response": {"message": [words]}}
        await answer(status, body)(seen, reader, writer)

    return act


def after(first: Act, *then: Callable[[asyncio.StreamWriter], None]) -> Act:
    """Do ``first``, then something to the connection."""

    async def act(seen: Seen, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await first(seen, reader, writer)
        for step in then:
            step(writer)

    return act


@dataclass
class Wire:
    """A raw server on loopback that does to each request what its script says (the last act repeats)."""

    script: Sequence[Act]
    seen: list[Seen] = field(default_factory=list)
    connections: int = 0
    reset_on_accept: int = 0
    """How many of the first connections are reset before anything is read."""
    port: int = 0
    in_flight: int = 0
    most_in_flight: int = 0
    serving: dict[asyncio.Task[Any], asyncio.StreamWriter] = field(default_factory=dict)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        task = asyncio.current_task()
        assert task is not None
        self.serving[task] = writer
        task.add_done_callback(self.serving.pop)
        if self.connections <= self.reset_on_accept:
            reset(writer)
            return
        try:
            while (seen := await _read(reader)) is not None:
                act = self.script[min(len(self.seen), len(self.script) - 1)]
                self.seen.append(seen)
                self.in_flight += 1
                self.most_in_flight = max(self.most_in_flight, self.in_flight)
                try:
                    await act(seen, reader, writer)
                finally:
                    self.in_flight -= 1
                if writer.is_closing():
                    break
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()


async def _read(reader: asyncio.StreamReader) -> Seen | None:
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError:
        return None
    first, *lines = head.decode("latin-1").strip().split("\r\n")
    method, path, _ = first.split(" ", 2)
    headers = {k.strip().lower(): v.strip() for k, v in (line.split(":", 1) for line in lines)}
    body = await reader.readexactly(int(headers.get("content-length", 0)))
    return Seen(method, path, headers, body)


@asynccontextmanager
async def serving(wire: Wire, port: int = 0) -> AsyncIterator[Wire]:
    """Serve ``wire`` on loopback."""
    server = await asyncio.start_server(wire, "127.0.0.1", port)
    wire.port = server.sockets[0].getsockname()[1]
    try:
        yield wire
    finally:
        server.close()
        # Handlers end by themselves once their connection is gone: nothing is left to the loop's end.
        handlers = dict(wire.serving)
        for writer in handlers.values():
            writer.transport.abort()
        await asyncio.gather(*handlers)


def settings_for(url: str, **changes: Any) -> GatewaySettings:
    """Return settings with both gateways at ``url``."""
    values: dict[str, Any] = {
        "evolution_url": url,
        "evolution_key": EVOLUTION_KEY,
        "zapi_base_url": url,
        "zapi_client_token": CLIENT_TOKEN,
        "zapi_tokens": {ZAPI_CHIP.instance: ZAPI_TOKEN},
    }
    return GatewaySettings(**{**values, **changes})


def hub_for(url: str, *, settings: GatewaySettings | None = None, **options: Any) -> GatewayHub:
    """Return a hub on ``url`` with a short deadline and pause."""
    given = {"simulated": False, "deadline": 5.0, "retry_pause": 0.0, **options}
    return GatewayHub(settings or settings_for(url), Redactor(), **given)


@asynccontextmanager
async def wired(
    *script: Act,
    reset_on_accept: int = 0,
    credentials: dict[str, Any] | None = None,
    **options: Any,
) -> AsyncIterator[tuple[Wire, GatewayHub]]:
    """Serve a script and open a hub on it, with other ``credentials`` than usual if given."""
    wire = Wire(script, reset_on_accept=reset_on_accept)
    async with serving(wire):
        settings = settings_for(wire.url, **(credentials or {}))
        async with hub_for(wire.url, settings=settings, **options) as hub:
            yield wire, hub


@pytest.fixture
def refused_port() -> int:
    """A port on loopback where nobody listens."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port


TAKEN = answer(201, EVOLUTION_ACCEPTED)


def ask_once(*script: Act, **limits: Any) -> tuple[Wire, Reply]:
    """Make one call to a server that plays a script; gives what it saw, and how the call ended."""

    async def scenario() -> tuple[Wire, Reply]:
        wire = Wire(script)
        async with serving(wire):
            left = limits.pop("seconds_left", None)
            if left is not None:
                limits["not_after"] = asyncio.get_running_loop().time() + left
            link = Link(wire.url, LinkLimits(**{"deadline": 5.0, "retry_pause": 0.0, **limits}))
            try:
                return wire, await link.ask(Call("GET", link.url("/x"), {}), instance="a")
            finally:
                await link.aclose()

    return asyncio.run(scenario())


def chip(number: int) -> Channel:
    """Return one of many chips, each with an instance of its own."""
    return Channel(f"chip-{number}", Provider.EVOLUTION, f"i-{number}", SENDER_PHONE)


async def send(hub: GatewayHub, channel: Channel = EVOLUTION_CHIP) -> Accepted:
    """Send a text; the hub must be open."""
    return await hub.gateway(channel.provider).send(channel, RECIPIENT_PHONE, Text("Oi"), TRACE)


def run_sending(*script: Act, **options: Any) -> tuple[Wire, Accepted]:
    """Send a text to a server that plays a script; gives what it saw, and what was accepted."""

    async def scenario() -> tuple[Wire, Accepted]:
        async with wired(*script, **options) as (wire, hub):
            return wire, await send(hub)

    return asyncio.run(scenario())
