"""The Evolution client against the answers that a real server was observed to give.

Trap guarded: the gateway lies. HTTP 200 with ``error: true``, a state that is missing, one failure in
three forms, a 404 that does not mean "no such instance".
"""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from typing import Any, TypeVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from warmup_pipeline.domain.failures import Scope, Stage
from warmup_pipeline.domain.values import MESSAGE_SCALE, ConnectionState, FailureClass, MessageState, Provider
from warmup_pipeline.gateways.base import (
    Accepted,
    AudioNote,
    Content,
    Gateway,
    GatewayError,
    Observation,
    Picture,
    Received,
    Recovery,
    Text,
)
from warmup_pipeline.gateways.evolution import jid
from warmup_pipeline.gateways.evolution_answers import flatten, highest
from warmup_pipeline.gateways.simulator.jids import create_jid
from warmup_pipeline_tests.gateways.conftest import (
    AT,
    EVOLUTION_ACCEPTED,
    EVOLUTION_CHIP,
    EVOLUTION_KEY,
    EVOLUTION_OWN_KEY,
    RECIPIENT_PHONE,
    TRACE,
    Act,
    Wire,
    answer,
    states_of,
    wired,
)

T = TypeVar("T")
NO_INSTANCE = {
    "status": 404,
    "error": "Not Found",
    "response": {"message": ['The "julia-01" instance does not exist']},
}
UNAUTHORIZED = {"status": 401, "error": "Unauthorized", "response": {"message": "Unauthorized"}}
QR = {"pairingCode": None, "code": "2@secret,qr", "base64": "data:image/png;base64,iVBOR", "count": 1}


def ask(use: Callable[[Gateway], Awaitable[T]], *script: Act, **options: Any) -> tuple[Wire, T]:
    async def scenario() -> tuple[Wire, T]:
        async with wired(*script, **options) as (wire, hub):
            return wire, await use(hub.gateway(Provider.EVOLUTION))

    return asyncio.run(scenario())


def refuse(use: Callable[[Gateway], Awaitable[Any]], *script: Act, **options: Any) -> GatewayError:
    async def failing(gateway: Gateway) -> GatewayError:
        with pytest.raises(GatewayError) as caught:
            await use(gateway)
        return caught.value

    return ask(failing, *script, **options)[1]


async def state(gateway: Gateway) -> Observation:
    return await gateway.connection_state(EVOLUTION_CHIP)


async def send(gateway: Gateway, content: Content | None = None) -> Accepted:
    return await gateway.send(EVOLUTION_CHIP, RECIPIENT_PHONE, content or Text("Olá, tudo bem?"), TRACE)


def envelope(status: int, message: Any) -> dict[str, Any]:
    return {"status": status, "error": "Words", "response": {"message": message}}


# --- the connection's state


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("open", ConnectionState.OPEN),
        ("connecting", ConnectionState.CONNECTING),
        ("close", ConnectionState.CLOSED),
        ("refused", ConnectionState.CLOSED),
    ],
)
def test_the_state_is_read_under_instance(word: str, expected: ConnectionState) -> None:
    wire, seen = ask(state, answer(200, {"instance": {"instanceName": "julia-01", "state": word}}))
    assert seen.state is expected
    assert (wire.seen[0].method, wire.seen[0].path) == ("GET", "/instance/connectionState/julia-01")
    assert wire.seen[0].headers["apikey"] == EVOLUTION_KEY


@pytest.mark.parametrize(
    "body",
    [
        {"instance": {"instanceName": "ghost"}},
        {"state": "open"},
        {"instance": {"state": None}},
        {"instance": "open"},
        {},
        [],
        "open",
    ],
    ids=["missing", "top level", "null", "no object", "empty", "list", "text"],
)
def test_a_state_that_is_not_said_where_it_belongs_is_not_open(body: Any) -> None:
    _, seen = ask(state, answer(200, body))
    assert seen.state is ConnectionState.CLOSED
    assert "not loaded" in seen.detail


def test_an_instance_that_does_not_exist_needs_a_person() -> None:
    _, seen = ask(state, answer(404, NO_INSTANCE))
    assert seen.state is ConnectionState.CLOSED
    assert (
        seen.needs_person == "create the instance julia-01 in Evolution, or correct the chip's instance name"
    )


def test_a_404_of_another_kind_is_a_failure_and_not_a_missing_instance() -> None:
    error = refuse(state, answer(404, envelope(404, ["Cannot GET /instance/connectionState/julia-01"])))
    assert error.failure is FailureClass.PERMANENT


def test_a_state_that_cannot_be_read_is_a_failure() -> None:
    error = refuse(state, answer(200, raw=b"<html>maintenance</html>"))
    assert error.failure is FailureClass.UNKNOWN


def test_a_wrong_key_is_the_servers_trouble_and_names_the_variable() -> None:
    error = refuse(state, answer(401, UNAUTHORIZED))
    assert (error.failure, error.evidence.scope) == (FailureClass.GATEWAY, Scope.SERVER)
    assert error.evidence.bad_credentials
    assert "EVOLUTION_API_KEY" in str(error)


def test_a_wrong_key_of_one_instance_stops_no_other_instance() -> None:
    async def failing(gateway: Gateway) -> tuple[GatewayError, str]:
        with pytest.raises(GatewayError) as caught:
            await state(gateway)
        return caught.value, gateway.server_of(EVOLUTION_CHIP)

    own = {"evolution_instance_keys": {"julia-01": EVOLUTION_OWN_KEY}}
    wire, (error, server) = ask(failing, answer(401, UNAUTHORIZED), credentials=own)
    assert wire.seen[0].headers["apikey"] == EVOLUTION_OWN_KEY
    assert error.evidence.scope is Scope.INSTANCE
    assert error.server != server
    assert "WARMUP_SECRETS_FILE" in str(error)


# --- recovery


def recovering(seen: ConnectionState) -> Callable[[Gateway], Awaitable[Recovery]]:
    return lambda gateway: gateway.recover(EVOLUTION_CHIP, seen)


@pytest.mark.parametrize(
    ("seen", "request_line"),
    [
        (ConnectionState.CONNECTING, ("POST", "/instance/restart/julia-01")),
        (ConnectionState.OPEN, ("POST", "/instance/restart/julia-01")),
        (ConnectionState.CLOSED, ("GET", "/instance/connect/julia-01")),
        (ConnectionState.UNKNOWN, ("GET", "/instance/connect/julia-01")),
    ],
)
def test_a_closed_session_is_connected_and_any_other_restarted(
    seen: ConnectionState, request_line: tuple[str, str]
) -> None:
    wire, recovery = ask(recovering(seen), answer(200, {"instance": {"instanceName": "j", "state": "open"}}))
    assert (wire.seen[0].method, wire.seen[0].path) == request_line
    assert recovery.taken
    assert recovery.action in request_line[1]


@pytest.mark.parametrize("seen", [ConnectionState.CONNECTING, ConnectionState.CLOSED])
def test_an_http_200_with_an_error_is_not_taken(seen: ConnectionState) -> None:
    _, recovery = ask(recovering(seen), answer(200, {"error": True, "message": "[object Object]"}))
    assert not recovery.taken
    assert "[object Object]" in recovery.detail


def test_a_qr_code_means_that_a_person_must_scan_it_and_the_code_is_not_shown() -> None:
    _, recovery = ask(recovering(ConnectionState.CLOSED), answer(200, QR))
    assert recovery.needs_person is not None
    assert "scan the QR code" in recovery.needs_person
    assert "secret" not in repr(recovery)
    assert "iVBOR" not in repr(recovery)


def test_a_qr_object_without_a_code_yet_is_taken_and_needs_nobody() -> None:
    _, recovery = ask(recovering(ConnectionState.CONNECTING), answer(200, {"count": 0}))
    assert recovery.taken
    assert recovery.needs_person is None


def test_recovering_an_instance_that_does_not_exist_needs_a_person() -> None:
    _, recovery = ask(recovering(ConnectionState.CLOSED), answer(404, NO_INSTANCE))
    assert not recovery.taken
    assert recovery.needs_person is not None


# --- sending


def test_a_text_is_sent_as_the_contract_says_and_its_whatsapp_id_returned() -> None:
    wire, accepted = ask(send, answer(201, EVOLUTION_ACCEPTED))
    assert (wire.seen[0].method, wire.seen[0].path) == ("POST", "/message/sendText/julia-01")
    assert wire.seen[0].json == {"number": RECIPIENT_PHONE, "text": "Olá, tudo bem?"}
    assert accepted == Accepted("3EB0D56198378BD13C866A", None)


def test_a_picture_is_bare_base64_without_a_file_name() -> None:
    picture = Picture(b"\xff\xd8bytes", "image/jpeg", "bom dia")
    wire, _ = ask(lambda gateway: send(gateway, picture), answer(201, EVOLUTION_ACCEPTED))
    assert wire.seen[0].path == "/message/sendMedia/julia-01"
    assert wire.seen[0].json == {
        "number": RECIPIENT_PHONE,
        "mediatype": "image",
        "media": base64.b64encode(b"\xff\xd8bytes").decode(),
        "caption": "bom dia",
    }


def test_an_audio_note_goes_in_the_field_audio_as_bare_base64() -> None:
    wire, _ = ask(
        lambda gateway: send(gateway, AudioNote(b"OggS", "audio/ogg")), answer(201, EVOLUTION_ACCEPTED)
    )
    assert wire.seen[0].path == "/message/sendWhatsAppAudio/julia-01"
    assert wire.seen[0].json == {"number": RECIPIENT_PHONE, "audio": base64.b64encode(b"OggS").decode()}


def test_an_instance_name_cannot_leave_its_place_in_the_path() -> None:
    odd = replace(EVOLUTION_CHIP, instance="a/../b?instanceName=c d")
    wire, _ = ask(lambda gateway: gateway.connection_state(odd), answer(200, {}))
    assert wire.seen[0].path == "/instance/connectionState/a%2F..%2Fb%3FinstanceName%3Dc%20d"


@pytest.mark.parametrize("instance", ["", ".", ".."])
def test_a_name_that_would_name_another_route_makes_no_request(instance: str) -> None:
    chip = replace(EVOLUTION_CHIP, instance=instance)
    error = refuse(lambda gateway: gateway.connection_state(chip), answer(200, {}))
    assert not error.attempted


@pytest.mark.parametrize(
    ("status", "message"),
    [
        (500, "Connection Closed"),
        (400, ["Error: Connection Closed"]),
        (500, ["Error: Connection Closed"]),
        (500, ["Read messages fail", "Error: Connection Closed"]),
        (500, "Cannot read properties of undefined (reading 'onWhatsApp')"),
        (500, "Cannot read properties of undefined (reading 'textMessage')"),
    ],
)
def test_a_closed_connection_is_known_in_each_of_its_forms(status: int, message: Any) -> None:
    error = refuse(send, answer(status, envelope(status, message)))
    assert error.failure is FailureClass.DISCONNECTED
    assert error.attempts == 1


def test_a_closed_connection_is_known_without_the_envelope() -> None:
    boom = {
        "data": None,
        "isBoom": True,
        "isServer": False,
        "output": {
            "statusCode": 428,
            "payload": {"statusCode": 428, "error": "Precondition Required", "message": "Connection Closed"},
        },
    }
    assert refuse(send, answer(400, boom)).failure is FailureClass.DISCONNECTED


def test_a_400_that_reads_undefined_is_our_fault_and_no_lost_connection() -> None:
    message = ["Cannot read properties of undefined (reading 'length')"]
    assert refuse(send, answer(400, envelope(400, message))).failure is FailureClass.PERMANENT


def test_a_number_without_whatsapp_is_the_recipients_matter_and_shows_no_number() -> None:
    objects = [{"jid": f"{RECIPIENT_PHONE}@s.whatsapp.net", "exists": False, "number": RECIPIENT_PHONE}]
    error = refuse(send, answer(400, envelope(400, objects)))
    assert error.failure is FailureClass.RECIPIENT
    assert error.evidence.text == "…7734 is not on WhatsApp"
    assert RECIPIENT_PHONE not in str(error)


@pytest.mark.parametrize(
    ("status", "message", "failure"),
    [
        (400, [['instance requires property "text"', "Invalid format"]], FailureClass.PERMANENT),
        (400, ["Text is required"], FailureClass.PERMANENT),
        (400, ["Error: rate-overlimit"], FailureClass.RATE_LIMITED),
        (400, ["Error: account restricted"], FailureClass.RESTRICTION),
        (404, ['The "julia-01" instance does not exist'], FailureClass.PERMANENT),
        (404, "Request failed with status code 404", FailureClass.PERMANENT),
        (500, "anything", FailureClass.TRANSIENT),
        (500, None, FailureClass.TRANSIENT),
    ],
)
def test_a_refusal_has_the_class_the_domain_gives_it(
    status: int, message: Any, failure: FailureClass
) -> None:
    assert refuse(send, answer(status, envelope(status, message))).failure is failure


@pytest.mark.parametrize(
    "act",
    [
        answer(201, raw=b"{not json"),
        answer(201, raw=b""),
        answer(201, raw=b"<html>ok</html>", headers={"Content-Type": "text/html"}),
        answer(201, raw=b"[" * 100_000),
        answer(201, raw=b"\xff\xfe\xfd"),
        answer(201, {"key": {"id": ""}}),
        answer(201, {"key": None}),
        answer(201, {"key": {"id": 7}}),
        answer(201, []),
        answer(200, {}),
    ],
    ids=["malformed", "empty", "html", "deep", "bytes", "no id", "no key", "number", "list", "object"],
)
def test_a_success_without_a_message_id_is_unknown_and_never_sent_again(act: Act) -> None:
    async def failing(gateway: Gateway) -> GatewayError:
        with pytest.raises(GatewayError) as caught:
            await send(gateway)
        return caught.value

    wire, error = ask(failing, act)
    assert len(wire.seen) == 1
    assert (error.failure, error.evidence.stage) == (FailureClass.UNKNOWN, Stage.AFTER_WRITE)


def test_a_success_that_says_error_and_has_no_id_is_a_refusal() -> None:
    error = refuse(send, answer(200, {"error": True, "message": "Connection Closed"}))
    assert (error.failure, error.evidence.stage) == (FailureClass.DISCONNECTED, Stage.ANSWERED)


def test_a_success_under_a_wrong_content_type_is_a_success_if_it_holds_the_id() -> None:
    _, accepted = ask(send, answer(201, EVOLUTION_ACCEPTED, headers={"Content-Type": "text/html"}))
    assert accepted.message_id == "3EB0D56198378BD13C866A"


# --- reading


def test_messages_are_marked_read_by_the_address_the_gateway_knows_each_once() -> None:
    received = [Received("3A1", "5585987654321"), Received("3A1", "5585987654321"), Received("3A2", "1@lid")]
    wire, _ = ask(
        lambda gateway: gateway.mark_read(EVOLUTION_CHIP, received, AT),
        answer(201, {"message": "Read messages", "read": "success"}),
    )
    assert (wire.seen[0].method, wire.seen[0].path) == ("POST", "/chat/markMessageAsRead/julia-01")
    assert wire.seen[0].json == {
        "readMessages": [
            {"remoteJid": "1@lid", "fromMe": False, "id": "3A2"},
            {"remoteJid": "558587654321@s.whatsapp.net", "fromMe": False, "id": "3A1"},
        ]
    }


@pytest.mark.parametrize(
    ("body", "failure"),
    [
        ({"error": True, "message": "[object Object]"}, FailureClass.PERMANENT),
        ({"message": "Read messages"}, FailureClass.UNKNOWN),
        ([], FailureClass.UNKNOWN),
    ],
)
def test_a_marking_that_does_not_say_success_was_not_taken(body: Any, failure: FailureClass) -> None:
    error = refuse(lambda g: g.mark_read(EVOLUTION_CHIP, [Received("3A1", "551190")], AT), answer(201, body))
    assert error.failure is failure


def test_marking_nothing_asks_nothing() -> None:
    wire, _ = ask(lambda gateway: gateway.mark_read(EVOLUTION_CHIP, [], AT), answer(500, {}))
    assert wire.seen == []


def test_marking_read_while_disconnected_is_a_disconnection() -> None:
    body = envelope(500, ["Read messages fail", "Error: Connection Closed"])
    error = refuse(lambda g: g.mark_read(EVOLUTION_CHIP, [Received("3A1", "551190")], AT), answer(500, body))
    assert error.failure is FailureClass.DISCONNECTED


@pytest.mark.parametrize(
    ("phone", "expected"),
    [
        ("5585987654321", "558587654321@s.whatsapp.net"),
        ("5511987654321", "5511987654321@s.whatsapp.net"),
        ("5491123456789", "541123456789@s.whatsapp.net"),
        ("5231987654321", "521987654321@s.whatsapp.net"),
        ("5585967654321", "5585967654321@s.whatsapp.net"),
        ("+55 (11) 98765-4321", "5511987654321@s.whatsapp.net"),
        ("98765432109876@lid", "98765432109876@lid"),
        ("5511987654321:7@s.whatsapp.net", "5511987654321@s.whatsapp.net"),
        ("120363000000000000", "120363000000000000@g.us"),
    ],
)
def test_a_number_becomes_the_address_that_was_observed(phone: str, expected: str) -> None:
    assert jid(phone) == expected


_NUMBERS = st.from_regex(r"(55[1-9][0-9]{9,10}|5[24][0-9]{10,11}|[1-9][0-9]{7,14})", fullmatch=True)


@given(_NUMBERS)
def test_an_address_is_its_own_address(phone: str) -> None:
    assert jid(jid(phone)) == jid(phone)


@given(_NUMBERS)
def test_the_client_and_the_simulator_know_a_number_by_the_same_address(phone: str) -> None:
    # Written apart from each other from the same page: a slip in one shows here.
    assert jid(phone) == create_jid(phone)


# --- delivery states


def record(message_id: str, *statuses: str, **key: Any) -> dict[str, Any]:
    return {
        "id": "cmw",
        "key": {"id": message_id, "fromMe": True, "remoteJid": "x@s.whatsapp.net", **key},
        "MessageUpdate": [{"status": status} for status in statuses],
    }


def page(records: list[Any], *, pages: int = 1, current: int = 1) -> Act:
    return answer(
        200,
        {"messages": {"total": len(records), "pages": pages, "currentPage": current, "records": records}},
    )


def polling(since: datetime, until: datetime) -> Callable[[Gateway], Awaitable[Any]]:
    return lambda gateway: states_of(gateway, EVOLUTION_CHIP, since, until)


def test_what_was_sent_is_asked_for_with_both_bounds_in_utc_and_every_page_is_read() -> None:
    since = datetime(2026, 2, 20, 8, 0, 0, 700_000, tzinfo=timezone(timedelta(hours=-3)))
    until = datetime(2026, 2, 20, 11, 5, 0, 100, tzinfo=UTC)
    wire, states = ask(
        polling(since, until),
        page([record("A", "SERVER_ACK"), record("B")], pages=3),
        page([record("B", "READ"), record("C", "SERVER_ACK", "DELIVERY_ACK")], pages=3, current=2),
        page([record("D", "ERROR")], pages=3, current=3),
    )
    assert [seen.json["page"] for seen in wire.seen] == [1, 2, 3]
    assert wire.seen[0].json["where"] == {
        "key": {"fromMe": True},
        # The gateway keeps whole seconds: a message of 11:00:00.7 stands there as 11:00:00.
        "messageTimestamp": {"gte": "2026-02-20T11:00:00.000Z", "lte": "2026-02-20T11:05:01.000Z"},
    }
    assert wire.seen[0].json["offset"] == 20
    assert states == {
        "A": MessageState.AT_WHATSAPP,
        "B": MessageState.READ,
        "C": MessageState.DELIVERED,
        "D": MessageState.FAILED,
    }


def test_nothing_found_is_an_empty_answer_after_one_request() -> None:
    wire, states = ask(polling(AT, AT), page([], pages=0))
    assert (len(wire.seen), states) == (1, {})


def test_received_messages_and_records_of_no_shape_are_left_out() -> None:
    records = [record("A", fromMe=False), {"key": None}, "x", {}, record("B", "DELETED")]
    _, states = ask(polling(AT, AT), page(records))
    assert states == {"B": MessageState.ACCEPTED}


@pytest.mark.parametrize("body", [{}, [], {"messages": []}, {"messages": {"records": None, "pages": 1}}])
def test_an_answer_without_messages_is_a_failure_and_not_an_empty_list(body: Any) -> None:
    assert refuse(polling(AT, AT), answer(200, body)).failure is FailureClass.UNKNOWN


_STATUSES = st.lists(
    st.sampled_from(["PENDING", "SERVER_ACK", "DELIVERY_ACK", "READ", "PLAYED", "ERROR", "DELETED", "EDITED"])
)


@given(_STATUSES, st.randoms(use_true_random=False))
def test_receipts_in_any_order_and_number_say_the_same(statuses: list[str], random: Any) -> None:
    shuffled = statuses * 2
    random.shuffle(shuffled)
    assert highest(shuffled) is highest(statuses)


@given(_STATUSES, st.sampled_from(["SERVER_ACK", "DELIVERY_ACK", "READ"]))
def test_a_further_receipt_never_moves_a_message_down(statuses: list[str], further: str) -> None:
    before, now = highest(statuses), highest([*statuses, further])
    if before is not MessageState.FAILED:
        assert MESSAGE_SCALE.index(now) >= MESSAGE_SCALE.index(before)


@given(_STATUSES)
def test_an_error_counts_unless_the_message_was_delivered(statuses: list[str]) -> None:
    delivered = bool({"DELIVERY_ACK", "READ", "PLAYED"} & set(statuses))
    assert (highest([*statuses, "ERROR"]) is MessageState.FAILED) is not delivered


# --- errors' words


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (envelope(500, "Connection Closed"), "Connection Closed"),
        (envelope(400, ["a", "b", "a"]), "a; b"),
        (envelope(400, [["a", "b"]]), "a; b"),
        (envelope(400, [{"exists": False, "number": "55"}]), "55 is not on WhatsApp"),
        ({"status": 400, "error": "Bad Request", "message": [["a"]]}, "a"),
        ({"status": 400, "error": "Bad Request"}, "Bad Request"),
        ({"error": True, "message": "[object Object]"}, "[object Object]"),
        ({}, ""),
        (None, ""),
        ("plain", "plain"),
    ],
)
def test_the_words_of_an_error_are_found_in_every_shape(body: Any, words: str) -> None:
    assert flatten(body) == words


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


@given(_JSON | st.fixed_dictionaries({"response": st.fixed_dictionaries({"message": _JSON})}))
def test_no_error_body_is_too_strange_for_words(body: Any) -> None:
    assert isinstance(flatten(body), str)


# --- what only a simulator is told


def test_a_simulator_is_told_our_message_and_the_logical_time() -> None:
    wire, _ = ask(send, answer(201, EVOLUTION_ACCEPTED), simulated=True)
    assert wire.seen[0].headers["x-warmup-message"] == "m-1;conversation=c-1;turn=1"
    assert wire.seen[0].headers["x-warmup-at"] == "2026-02-20T11:00:00+00:00"


def test_a_simulator_is_told_the_steps_time_with_other_calls() -> None:
    wire, _ = ask(state, answer(200, {}), simulated=True, at=AT)
    assert wire.seen[0].headers["x-warmup-at"] == "2026-02-20T11:00:00+00:00"
    assert "x-warmup-message" not in wire.seen[0].headers


def test_a_live_gateway_is_told_neither() -> None:
    wire, _ = ask(send, answer(201, EVOLUTION_ACCEPTED), simulated=False, at=AT)
    assert not [name for name in wire.seen[0].headers if name.startswith("x-")]
