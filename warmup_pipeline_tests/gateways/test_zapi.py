"""The Z-API client against the answers its documentation and its users report.

Trap guarded: a connected instance's status carries an ``error`` text, failures come as HTTP 200, and
the token stands in every address.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any, TypeVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from warmup_pipeline.domain.failures import Scope, Stage
from warmup_pipeline.domain.values import ConnectionState, FailureClass, Provider
from warmup_pipeline.gateways.base import (
    Accepted,
    AudioNote,
    Channel,
    Content,
    Gateway,
    GatewayError,
    Observation,
    Picture,
    Received,
    Recovery,
    Text,
)
from warmup_pipeline.gateways.link import Answer
from warmup_pipeline.gateways.zapi import understand
from warmup_pipeline_tests.gateways.conftest import (
    AT,
    CLIENT_TOKEN,
    RECIPIENT_PHONE,
    TRACE,
    ZAPI_ACCEPTED,
    ZAPI_CHIP,
    ZAPI_TOKEN,
    Act,
    Wire,
    answer,
    wired,
)

T = TypeVar("T")
ROOT = f"/instances/{ZAPI_CHIP.instance}/token/{ZAPI_TOKEN}"
NOT_FOUND = {"error": "NOT_FOUND", "message": "Unable to find matching target resource method"}


def ask(use: Callable[[Gateway], Awaitable[T]], *script: Act, **options: Any) -> tuple[Wire, T]:
    async def scenario() -> tuple[Wire, T]:
        async with wired(*script, **options) as (wire, hub):
            return wire, await use(hub.gateway(Provider.Z_API))

    return asyncio.run(scenario())


def refuse(use: Callable[[Gateway], Awaitable[Any]], *script: Act, **options: Any) -> GatewayError:
    async def failing(gateway: Gateway) -> GatewayError:
        with pytest.raises(GatewayError) as caught:
            await use(gateway)
        return caught.value

    return ask(failing, *script, **options)[1]


async def state(gateway: Gateway) -> Observation:
    return await gateway.connection_state(ZAPI_CHIP)


async def recover(gateway: Gateway) -> Recovery:
    return await gateway.recover(ZAPI_CHIP, ConnectionState.CLOSED)


async def send(gateway: Gateway, content: Content | None = None) -> Accepted:
    return await gateway.send(ZAPI_CHIP, RECIPIENT_PHONE, content or Text("Olá, tudo bem?"), TRACE)


# --- the connection's state


@pytest.mark.parametrize("stop", ["", "."])
def test_a_connected_instance_is_open_although_it_carries_an_error_text(stop: str) -> None:
    body = {"connected": True, "error": f"You are already connected{stop}", "smartphoneConnected": True}
    wire, seen = ask(state, answer(200, body))
    assert seen == Observation(ConnectionState.OPEN)
    assert (wire.seen[0].method, wire.seen[0].path) == ("GET", f"{ROOT}/status")
    assert wire.seen[0].headers["client-token"] == CLIENT_TOKEN


def test_a_connected_instance_whose_phone_is_offline_says_so() -> None:
    _, seen = ask(state, answer(200, {"connected": True, "error": "x", "smartphoneConnected": False}))
    assert (seen.state, seen.detail) == (ConnectionState.OPEN, "the chip's phone is offline")


def test_a_disconnected_instance_is_closed_and_needs_nobody_yet() -> None:
    body = {
        "connected": False,
        "session": False,
        "error": "You are not connected.",
        "smartphoneConnected": False,
    }
    _, seen = ask(state, answer(200, body))
    assert seen == Observation(ConnectionState.CLOSED, "You are not connected.")


@pytest.mark.parametrize("stop", ["", "."])
def test_a_lost_session_needs_a_person(stop: str) -> None:
    _, seen = ask(state, answer(200, {"connected": False, "error": f"You need to restore the session{stop}"}))
    assert seen.state is ConnectionState.CLOSED
    assert seen.needs_person is not None
    assert "QR code" in seen.needs_person


@pytest.mark.parametrize(
    "body", [{}, {"connected": "true"}, {"connected": None}, {"smartphoneConnected": True}]
)
def test_an_instance_that_does_not_say_connected_is_not_open(body: Any) -> None:
    _, seen = ask(state, answer(200, body))
    assert seen.state is ConnectionState.CLOSED


@pytest.mark.parametrize(
    ("status", "body", "needs"),
    [
        (200, NOT_FOUND, "instance id, or its token"),
        (404, NOT_FOUND, "instance id, or its token"),
        (400, {"error": "Instance not found"}, "instance id, or its token"),
        (
            400,
            {"error": "To continue sending a message, you must subscribe to this instance again"},
            "renew the subscription",
        ),
    ],
)
def test_an_instance_that_is_gone_or_unpaid_needs_a_person(status: int, body: Any, needs: str) -> None:
    _, seen = ask(state, answer(status, body))
    assert seen.state is ConnectionState.CLOSED
    assert seen.needs_person is not None
    assert needs in seen.needs_person


@pytest.mark.parametrize(
    ("status", "text"),
    [
        (400, "your client-token is not configured"),
        (403, f"Client-Token {CLIENT_TOKEN} not allowed"),
        (403, "null not allowed"),
        (200, "null not allowed"),
    ],
)
def test_a_wrong_account_token_stops_the_gateway_and_names_the_variable(status: int, text: str) -> None:
    error = refuse(state, answer(status, {"error": text}))
    assert (error.failure, error.evidence.scope) == (FailureClass.GATEWAY, Scope.SERVER)
    assert "ZAPI_CLIENT_TOKEN" in str(error)
    assert CLIENT_TOKEN not in str(error)


def test_a_status_of_no_shape_is_a_failure() -> None:
    assert refuse(state, answer(200, [])).failure is FailureClass.UNKNOWN


# --- recovery


@pytest.mark.parametrize("seen", list(ConnectionState))
def test_recovery_is_one_restart_whatever_was_seen(seen: ConnectionState) -> None:
    wire, recovery = ask(lambda gateway: gateway.recover(ZAPI_CHIP, seen), answer(200, {"value": True}))
    assert [(s.method, s.path) for s in wire.seen] == [("GET", f"{ROOT}/restart")]
    assert recovery == Recovery("restart", taken=True)


@pytest.mark.parametrize("body", [{"value": False}, {}])
def test_a_restart_that_is_not_confirmed_was_not_taken(body: Any) -> None:
    _, recovery = ask(recover, answer(200, body))
    assert not recovery.taken


def test_a_restart_of_a_lost_session_needs_a_person() -> None:
    _, recovery = ask(recover, answer(400, {"error": "You need to restore the session"}))
    assert not recovery.taken
    assert recovery.needs_person is not None


# --- sending


def test_a_text_is_sent_as_the_contract_says_and_both_ids_are_returned() -> None:
    wire, accepted = ask(send, answer(200, ZAPI_ACCEPTED))
    assert (wire.seen[0].method, wire.seen[0].path) == ("POST", f"{ROOT}/send-text")
    assert wire.seen[0].json == {"phone": RECIPIENT_PHONE, "message": "Olá, tudo bem?"}
    assert wire.seen[0].headers["content-type"] == "application/json"
    assert accepted == Accepted("D241732339502B68AA", "3999984263738042930CD6ECDE9VDWSA")


def test_a_picture_is_a_data_uri() -> None:
    picture = Picture(b"\x89PNG", "image/png", "bom dia")
    wire, _ = ask(lambda gateway: send(gateway, picture), answer(200, ZAPI_ACCEPTED))
    assert wire.seen[0].path == f"{ROOT}/send-image"
    assert wire.seen[0].json == {
        "phone": RECIPIENT_PHONE,
        "image": "data:image/png;base64,iVBORw==",
        "caption": "bom dia",
    }


def test_an_audio_note_is_a_data_uri() -> None:
    wire, _ = ask(lambda gateway: send(gateway, AudioNote(b"OggS", "audio/ogg")), answer(200, ZAPI_ACCEPTED))
    assert wire.seen[0].path == f"{ROOT}/send-audio"
    assert wire.seen[0].json == {"phone": RECIPIENT_PHONE, "audio": "data:audio/ogg;base64,T2dnUw=="}


def test_an_id_of_the_queue_is_not_needed_to_have_been_accepted() -> None:
    _, accepted = ask(send, answer(200, {"messageId": "D2"}))
    assert accepted == Accepted("D2", None)


def test_instance_and_token_cannot_leave_their_places_in_the_path() -> None:
    odd = replace(ZAPI_CHIP, instance="a/b")
    wire, _ = ask(
        lambda gateway: gateway.connection_state(odd),
        answer(200, {"connected": True}),
        credentials={"zapi_tokens": {"a/b": "c/../d?e"}},
    )
    assert wire.seen[0].path == "/instances/a%2Fb/token/c%2F..%2Fd%3Fe/status"


def test_no_client_token_is_sent_where_none_is_set() -> None:
    wire, _ = ask(send, answer(200, ZAPI_ACCEPTED), credentials={"zapi_client_token": None})
    assert "client-token" not in wire.seen[0].headers


@pytest.mark.parametrize(
    ("status", "body", "failure"),
    [
        (200, {"error": "anything"}, FailureClass.PERMANENT),
        (200, NOT_FOUND, FailureClass.PERMANENT),
        (404, {"error": "Instance not found"}, FailureClass.PERMANENT),
        (
            400,
            {"error": "Message has not been sent because it got invalid request params."},
            FailureClass.PERMANENT,
        ),
        (405, {}, FailureClass.PERMANENT),
        (415, {}, FailureClass.PERMANENT),
        (200, {"error": "Phone number does not exist"}, FailureClass.RECIPIENT),
        (400, {"error": "Invalid phone"}, FailureClass.RECIPIENT),
        (400, {"error": "You need to be connected"}, FailureClass.DISCONNECTED),
        (200, {"error": "You are not connected."}, FailureClass.DISCONNECTED),
        (403, {"error": "Client-Token null not allowed"}, FailureClass.GATEWAY),
        (401, {"error": "Unauthorized"}, FailureClass.GATEWAY),
        (429, {"error": "slow down"}, FailureClass.RATE_LIMITED),
        (
            400,
            {"error": "The message was not sent due to a likely problem", "errorCode": "SHADOW_BAN"},
            FailureClass.RESTRICTION,
        ),
        (400, {"error": "Whatsapp rejected sending this message"}, FailureClass.RESTRICTION),
        (500, {"error": "oops"}, FailureClass.TRANSIENT),
        (502, None, FailureClass.TRANSIENT),
    ],
)
def test_a_refusal_has_the_class_the_domain_gives_it(status: int, body: Any, failure: FailureClass) -> None:
    error = refuse(send, answer(status, body))
    assert (error.failure, error.evidence.stage) == (failure, Stage.ANSWERED)


def test_a_wrong_token_of_one_instance_stops_no_other_instance() -> None:
    async def both(gateway: Gateway) -> tuple[GatewayError, str]:
        with pytest.raises(GatewayError) as caught:
            await send(gateway)
        return caught.value, gateway.server_of(replace(ZAPI_CHIP, chip_id="other", instance="other"))

    _, (error, others) = ask(both, answer(401, {"error": "Unauthorized"}))
    assert error.evidence.scope is Scope.INSTANCE
    assert error.server != others


@pytest.mark.parametrize(
    "act",
    [
        answer(200, raw=b"{"),
        answer(200, raw=b""),
        answer(200, raw=b"<html>ok</html>", headers={"Content-Type": "text/html"}),
        answer(200, {}),
        answer(200, {"messageId": ""}),
        answer(200, {"messageId": None, "zaapId": "3999"}),
        answer(200, []),
        answer(204),
    ],
    ids=["malformed", "empty", "html", "object", "no id", "null id", "list", "no content"],
)
def test_a_success_without_a_message_id_is_unknown_and_never_sent_again(act: Act) -> None:
    async def failing(gateway: Gateway) -> GatewayError:
        with pytest.raises(GatewayError) as caught:
            await send(gateway)
        return caught.value

    wire, error = ask(failing, act)
    assert len(wire.seen) == 1
    assert (error.failure, error.evidence.stage) == (FailureClass.UNKNOWN, Stage.AFTER_WRITE)


# --- reading and confirming


@pytest.mark.parametrize("act", [answer(204), answer(200, {})], ids=["204", "older 200"])
def test_each_message_is_marked_read_once_and_no_content_is_success(act: Act) -> None:
    received = [
        Received("A", "5511900000002"),
        Received("B", "5511900000002"),
        Received("A", "5511900000002"),
    ]
    wire, _ = ask(lambda gateway: gateway.mark_read(ZAPI_CHIP, received, AT), act)
    assert [seen.json["messageId"] for seen in wire.seen] == ["A", "B"]
    assert {seen.path for seen in wire.seen} == {f"{ROOT}/read-message"}


def test_a_marking_of_which_a_part_was_made_was_attempted_though_the_rest_was_not_wanted_any_more() -> None:
    received = [Received("A", "5511900000002"), Received("B", "5511900000002")]
    asked: list[str] = []

    async def scenario() -> tuple[Wire, GatewayError]:
        def may_begin(channel: Channel, _: str) -> bool:
            asked.append(channel.chip_id)
            return len(asked) == 1

        async with wired(answer(204), may_begin=may_begin) as (wire, hub):
            with pytest.raises(GatewayError) as raised:
                await hub.gateway(ZAPI_CHIP.provider).mark_read(ZAPI_CHIP, received, AT)
            return wire, raised.value

    wire, error = asyncio.run(scenario())
    assert len(wire.seen) == 1
    assert error.attempted


def test_a_marking_that_is_refused_is_a_failure() -> None:
    error = refuse(
        lambda gateway: gateway.mark_read(ZAPI_CHIP, [Received("A", "5511900000002")], AT),
        answer(200, {"error": "You are not connected"}),
    )
    assert error.failure is FailureClass.DISCONNECTED


def test_a_marking_answered_with_a_page_was_not_certainly_taken() -> None:
    error = refuse(
        lambda gateway: gateway.mark_read(ZAPI_CHIP, [Received("A", "5511900000002")], AT),
        answer(200, raw=b"<html>It works</html>"),
    )
    assert error.failure is FailureClass.UNKNOWN


def test_there_is_no_route_to_list_messages_so_nothing_is_asked_and_nothing_is_claimed_complete() -> None:
    async def listing(gateway: Gateway) -> tuple[bool, Any]:
        return gateway.polls_confirmations, await gateway.messages_of(ZAPI_CHIP, AT, AT, sent_only=True)

    wire, (polls, found) = ask(listing, answer(500, {}))
    assert (polls, found.messages, found.complete, wire.seen) == (False, (), False, [])


# --- the rest


def test_a_simulator_is_told_our_message_and_times_and_a_live_gateway_is_not() -> None:
    wire, _ = ask(send, answer(200, ZAPI_ACCEPTED), simulated=True)
    assert wire.seen[0].headers["x-warmup-message"] == "m-1;conversation=c-1;turn=1"
    assert wire.seen[0].headers["x-warmup-at"] == "2026-02-20T11:00:00+00:00"
    wire, _ = ask(state, answer(200, {"connected": True}), simulated=True, at=AT)
    assert wire.seen[0].headers["x-warmup-at"] == "2026-02-20T11:00:00+00:00"
    wire, _ = ask(send, answer(200, ZAPI_ACCEPTED), simulated=False, at=AT)
    assert not [name for name in wire.seen[0].headers if name.startswith("x-")]


@given(st.binary(max_size=60), st.sampled_from([200, 400, 403, 500]))
def test_no_refusal_is_too_strange_to_be_understood(body: bytes, status: int) -> None:
    assert understand(Answer(status, body)).stage is Stage.ANSWERED
