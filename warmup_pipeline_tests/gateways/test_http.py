"""Deadlines, retries and bounds of a request, at real sockets.

Trap guarded: a retry of something that was already sent doubles a real person's message.
"""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import aiohttp
import httpx
import pytest

from warmup_pipeline.domain.failures import Evidence, Stage
from warmup_pipeline.domain.values import FailureClass
from warmup_pipeline.gateways.base import Accepted, Channel, GatewayError
from warmup_pipeline.gateways.link import (
    MAX_ANSWER,
    Answer,
    Call,
    Silence,
)
from warmup_pipeline.gateways.sockets import SocketTransport
from warmup_pipeline_tests.broken import handing_out_reset
from warmup_pipeline_tests.gateways.conftest import (
    EVOLUTION_ACCEPTED,
    EVOLUTION_CHIP,
    TAKEN,
    Act,
    Wire,
    after,
    answer,
    ask_once,
    chip,
    close_after,
    drip,
    hang,
    hub_for,
    reset,
    reset_after,
    run_sending,
    send,
    truncated,
    wired,
)


async def failing(hub: Any, chip: Channel = EVOLUTION_CHIP) -> GatewayError:
    with pytest.raises(GatewayError) as caught:
        await send(hub, chip)
    return caught.value


def run_failing(*script: Act, **options: Any) -> tuple[Wire, GatewayError]:
    async def scenario() -> tuple[Wire, GatewayError]:
        async with wired(*script, **options) as (wire, hub):
            return wire, await failing(hub)

    return asyncio.run(scenario())


# --- what is retried, counted at the server


@pytest.mark.parametrize("status", [429, 503])
def test_a_busy_gateway_is_asked_exactly_once_more(status: int) -> None:
    wire, error = run_failing(answer(status, {"response": {"message": "busy"}}))
    assert len(wire.seen) == 2
    assert error.attempts == 2
    assert error.evidence.status == status


@pytest.mark.parametrize("status", [429, 503])
def test_the_one_retry_succeeds_where_the_gateway_is_free_again(status: int) -> None:
    wire, accepted = run_sending(answer(status, {}), TAKEN)
    assert len(wire.seen) == 2
    assert wire.seen[0].body == wire.seen[1].body
    assert accepted.message_id == EVOLUTION_ACCEPTED["key"]["id"]  # type: ignore[index] # a dict of mixed values


def test_what_nobody_wants_any_more_when_its_turn_has_come_is_not_made() -> None:
    wire, error = run_failing(TAKEN, may_begin=lambda channel, server: False)
    assert wire.seen == []
    assert error.attempts == 0
    assert "not wanted any more" in str(error)


def test_a_retry_that_nobody_wants_any_more_is_not_made_and_the_first_answer_stands() -> None:
    asked: list[tuple[Channel, str]] = []

    def may_begin(channel: Channel, server: str) -> bool:
        asked.append((channel, server))
        return len(asked) == 1

    wire, error = run_failing(answer(503, {}), TAKEN, may_begin=may_begin)
    assert len(wire.seen) == 1
    assert (error.attempts, error.evidence.status) == (1, 503)
    assert [channel for channel, _ in asked] == [EVOLUTION_CHIP] * 2
    assert {server for _, server in asked} == {error.server}


@pytest.mark.parametrize("status", [400, 401, 403, 404, 409, 500, 502, 504])
def test_any_other_refusal_is_not_asked_again(status: int) -> None:
    wire, error = run_failing(answer(status, {"response": {"message": "no"}}))
    assert len(wire.seen) == 1
    assert (error.attempts, error.evidence.stage) == (1, Stage.ANSWERED)


@pytest.mark.parametrize("act", [reset_after, close_after], ids=["reset", "closed"])
def test_a_connection_that_breaks_after_the_request_is_unknown_and_never_asked_again(act: Act) -> None:
    wire, error = run_failing(act, TAKEN)
    assert len(wire.seen) == 1
    assert error.failure is FailureClass.UNKNOWN
    assert error.evidence.stage is Stage.AFTER_WRITE


def test_a_read_timeout_is_unknown_and_never_asked_again() -> None:
    wire, error = run_failing(hang, TAKEN, deadline=0.3)
    assert len(wire.seen) == 1
    assert error.failure is FailureClass.UNKNOWN
    assert "no whole answer within 0.3 s" in str(error)


def test_an_answer_that_drips_past_the_deadline_is_unknown_and_ends() -> None:
    # Every byte comes well within a read timeout: only a deadline over all ends this.
    wire, error = run_failing(drip(201, EVOLUTION_ACCEPTED), TAKEN, deadline=0.3)
    assert len(wire.seen) == 1
    assert error.failure is FailureClass.UNKNOWN


def test_a_success_cut_short_is_unknown_and_never_asked_again() -> None:
    wire, error = run_failing(truncated(201, EVOLUTION_ACCEPTED), TAKEN)
    assert len(wire.seen) == 1
    assert error.failure is FailureClass.UNKNOWN
    assert error.evidence.status == 201


@pytest.mark.parametrize("act", [truncated(400, {"x": 1}), drip(400, {"x": 1})], ids=["cut", "drip"])
def test_a_refusal_whose_words_do_not_arrive_is_still_a_refusal(act: Act) -> None:
    wire, error = run_failing(act, deadline=0.3)
    assert len(wire.seen) == 1
    assert (error.failure, error.evidence.status) == (FailureClass.PERMANENT, 400)


def test_a_giant_success_is_unknown_and_not_read_to_its_end() -> None:
    body = b'{"key": {"id": "' + b"x" * (5 * MAX_ANSWER) + b'"}}'
    wire, error = run_failing(answer(201, raw=body), TAKEN)
    assert len(wire.seen) == 1
    assert error.failure is FailureClass.UNKNOWN
    assert f"larger than {MAX_ANSWER} bytes" in str(error)


def test_a_giant_refusal_is_a_refusal_with_the_beginning_of_its_words() -> None:
    _, error = run_failing(answer(500, raw=b"Oops " * MAX_ANSWER))
    assert error.failure is FailureClass.TRANSIENT
    assert "Oops" in str(error)
    assert len(str(error)) < 600


def test_a_refused_connection_is_the_servers_trouble_and_tried_twice(refused_port: int) -> None:
    async def scenario() -> GatewayError:
        async with hub_for(f"http://127.0.0.1:{refused_port}") as hub:
            return await failing(hub)

    error = asyncio.run(scenario())
    assert (error.failure, error.attempts) == (FailureClass.GATEWAY, 2)
    assert error.evidence.stage is Stage.CONNECT


class _Starting(SocketTransport):
    """Starts the server once a connection has been refused: the retry finds it up."""

    def __init__(self, wire: Wire, port: int) -> None:
        super().__init__(secure=False)
        self.wire, self.target = wire, port
        self.refusals = 0
        self.server: asyncio.Server | None = None

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        try:
            return await super().handle_async_request(request)
        except httpx.ConnectError:
            self.refusals += 1
            self.server = await asyncio.start_server(self.wire, "127.0.0.1", self.target)
            raise


def test_after_a_refused_connection_the_retry_reaches_a_server_that_came_up(refused_port: int) -> None:
    async def scenario() -> tuple[_Starting, Wire, Accepted]:
        wire = Wire([TAKEN])
        transport = _Starting(wire, refused_port)
        async with hub_for(f"http://127.0.0.1:{refused_port}", transport_factory=lambda: transport) as hub:
            accepted = await send(hub)
        assert transport.server is not None
        transport.server.close()
        return transport, wire, accepted

    transport, wire, accepted = asyncio.run(scenario())
    assert (transport.refusals, len(wire.seen)) == (1, 1)
    assert accepted.message_id


class _ResetSeen(SocketTransport):
    """Hands out the first connection only once its reset has arrived, so that writing must fail."""

    def __init__(self) -> None:
        super().__init__(secure=False)
        self.broken = 0

    def connector(self) -> aiohttp.BaseConnector:
        return handing_out_reset(super().connector(), self._connected)

    def _connected(self, _port: int) -> bool:
        self.broken += 1
        return self.broken == 1


def test_a_connection_reset_before_the_request_was_written_is_tried_once_more() -> None:
    transport = _ResetSeen()
    wire, accepted = run_sending(TAKEN, reset_on_accept=1, transport_factory=lambda: transport)
    assert transport.broken == 2
    assert (wire.connections, len(wire.seen)) == (2, 1)
    assert accepted.message_id


def test_a_kept_connection_that_died_while_idle_is_replaced_and_nothing_is_sent_twice() -> None:
    async def scenario() -> tuple[Wire, int]:
        died = asyncio.Event()

        def die(writer: asyncio.StreamWriter) -> None:
            reset(writer)
            died.set()

        async with wired(after(TAKEN, die), TAKEN) as (wire, hub):
            await send(hub)
            await died.wait()
            await send(hub)
            return wire, wire.connections

    wire, connections = asyncio.run(scenario())
    assert (len(wire.seen), connections) == (2, 2)


class _Silent(httpx.AsyncBaseTransport):
    """An in-process transport that tells nothing of its progress."""

    def __init__(self, error: Exception) -> None:
        self.error = error
        self.asked = 0

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        self.asked += 1
        raise self.error


@pytest.mark.parametrize(
    ("error", "asked"),
    [(httpx.ReadError("gone"), 1), (httpx.WriteError("gone"), 1), (httpx.ConnectError("no"), 2)],
)
def test_a_transport_that_tells_nothing_is_asked_again_only_if_it_never_connected(
    error: Exception, asked: int
) -> None:
    transport = _Silent(error)

    async def scenario() -> GatewayError:
        async with hub_for("http://127.0.0.1:9", transport_factory=lambda: transport) as hub:
            return await failing(hub)

    failed = asyncio.run(scenario())
    assert transport.asked == asked
    assert (failed.failure is FailureClass.UNKNOWN) is (asked == 1)


# --- Retry-After and the step's end


def test_a_retry_waits_for_what_the_gateway_asked_where_that_fits() -> None:
    wire, reply = ask_once(answer(429, {}, headers={"Retry-After": "0.05"}), answer(200, {}))
    assert len(wire.seen) == 2
    assert isinstance(reply, Answer)
    assert (reply.status, reply.attempts) == (200, 2)


@pytest.mark.parametrize("seconds_left", [None, 30.0], ids=["no end", "an end"])
def test_a_retry_that_would_come_too_late_is_not_made(seconds_left: float | None) -> None:
    wire, reply = ask_once(
        answer(429, {}, headers={"Retry-After": "60"}), answer(200, {}), seconds_left=seconds_left
    )
    assert len(wire.seen) == 1
    assert isinstance(reply, Answer)
    assert (reply.status, reply.retry_after, reply.attempts) == (429, 60.0, 1)


def test_a_retry_after_date_counts_from_the_gateways_own_clock() -> None:
    # A clock that is years off would otherwise make every date too late, or already past.
    now = datetime(2019, 5, 1, 12, 0, tzinfo=UTC)
    headers = {
        "Date": format_datetime(now, usegmt=True),
        "Retry-After": format_datetime(now + timedelta(seconds=90), usegmt=True),
    }
    _, reply = ask_once(answer(429, {}, headers=headers))
    assert isinstance(reply, Answer)
    assert reply.retry_after == 90.0


@pytest.mark.parametrize("value", ["soon", "-5", "inf", "nan", "", "1e9"])
def test_a_senseless_retry_after_is_no_wait_at_all(value: str) -> None:
    wire, reply = ask_once(answer(429, {}, headers={"Retry-After": value}), answer(200, {}))
    assert len(wire.seen) == 2
    assert isinstance(reply, Answer)
    assert reply.status == 200


def test_a_request_that_could_not_have_its_whole_deadline_is_not_begun() -> None:
    async def scenario() -> tuple[Wire, GatewayError]:
        not_after = asyncio.get_running_loop().time() + 4.0
        async with wired(TAKEN, deadline=5.0, not_after=not_after) as (wire, hub):
            return wire, await failing(hub)

    wire, error = asyncio.run(scenario())
    assert wire.connections == 0
    assert (error.attempts, error.attempted) == (0, False)
    assert "it was not attempted" in str(error)


def test_a_request_still_waiting_for_its_turn_at_the_end_is_not_begun() -> None:
    async def scenario() -> tuple[Wire, GatewayError]:
        not_after = asyncio.get_running_loop().time() + 1.2
        async with wired(hang, deadline=1.0, not_after=not_after) as (wire, hub):
            first = asyncio.create_task(failing(hub))
            while not wire.seen:  # noqa: ASYNC110 # the server is in this very loop
                await asyncio.sleep(0)
            second = await failing(hub)
            # It gave up by itself, not because its turn came after all.
            assert not first.done()
            first.cancel()
            return wire, second

    wire, second = asyncio.run(scenario())
    assert len(wire.seen) == 1
    assert not second.attempted


# --- what is kept, followed and shown


def test_no_cookie_of_a_gateway_is_ever_sent_back() -> None:
    # A shared cookie jar would carry one account's session into another's requests.
    async def scenario() -> Wire:
        async with wired(answer(201, EVOLUTION_ACCEPTED, headers={"Set-Cookie": "session=abc; Path=/"})) as (
            wire,
            hub,
        ):
            await send(hub, chip(1))
            await send(hub, chip(2))
            return wire

    wire = asyncio.run(scenario())
    assert [seen.headers.get("cookie") for seen in wire.seen] == [None, None]


def test_a_redirect_is_a_refusal_and_credentials_do_not_follow_it() -> None:
    wire, error = run_failing(answer(301, {}, headers={"Location": "/elsewhere"}))
    assert len(wire.seen) == 1
    assert "EVOLUTION_API_URL" in str(error)


def test_a_call_shows_no_address_and_no_header() -> None:
    shown = repr(Call("GET", "http://h/token/SECRET", {"apikey": "SECRET"}, b"SECRET"))
    assert "SECRET" not in shown


def test_a_silence_keeps_the_exception_it_came_from() -> None:
    _, reply = ask_once(reset_after)
    assert isinstance(reply, Silence)
    assert isinstance(reply.cause, (httpx.ReadError, httpx.RemoteProtocolError))
    assert Evidence(reply.stage).stage is Stage.AFTER_WRITE


def test_a_restriction_is_one_however_late_in_the_words_it_is_named() -> None:
    words = (
        "The server says at length why it did not take it. " * 12 + "Your account is restricted right now."
    )
    _, error = run_failing(answer(400, {"response": {"message": [f"Error: {words}"]}}))
    assert error.failure is FailureClass.RESTRICTION
    assert len(error.evidence.text) <= 300
