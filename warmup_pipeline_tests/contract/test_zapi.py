"""Z-API's routes as a warm-up uses them: the same cases against the simulator or the real service."""

from __future__ import annotations

import base64
from typing import Any

import httpx
import pytest

from warmup_pipeline.gateways.simulator import SimulatedInstance
from warmup_pipeline.warmup.library import load_library
from warmup_pipeline_tests.contract import observed
from warmup_pipeline_tests.contract.conftest import SIMULATED, Target
from warmup_pipeline_tests.contract.observed import differences

MEDIA = load_library().media
PICTURE = next(f for f in MEDIA.values() if f.mime == "image/jpeg")
AUDIO = next(f for f in MEDIA.values() if f.mime == "audio/ogg")


def uri(file: Any) -> str:
    return f"data:{file.mime};base64,{base64.b64encode(file.data).decode()}"


def same(answer: httpx.Response, body: Any) -> Any:
    assert answer.status_code == 200, answer.text
    document = answer.json()
    assert differences(document, body) == []
    return document


def test_a_wrong_account_token_is_an_error_text(zapi: Target) -> None:
    zapi.needs("open")
    answer = zapi.ask("GET", "{open}/status", headers={"Client-Token": "wrong"})
    assert differences(answer.json(), observed.Z_ERROR) == []
    assert "not allowed" in answer.json()["error"]


def test_a_connected_instance_carries_an_error_text(zapi: Target) -> None:
    zapi.needs("open")
    document = same(zapi.ask("GET", "{open}/status"), observed.Z_STATUS)
    assert (document["connected"], document["error"].rstrip(".")) == (True, "You are already connected")


def test_a_disconnected_instance_says_why_and_shows_a_qr_code(zapi: Target) -> None:
    zapi.needs("closed")
    assert same(zapi.ask("GET", "{closed}/status"), observed.Z_STATUS)["connected"] is False
    shown = same(zapi.ask("GET", "{closed}/qr-code/image"), observed.Z_QR)
    assert shown["value"].startswith("data:image/png;base64,")


def test_a_code_for_the_phone_is_a_value(zapi: Target) -> None:
    zapi.needs("closed", "own_phone")
    same(zapi.ask("GET", f"{{closed}}/phone-code/{zapi.own_phone}"), observed.Z_CODE)


@pytest.mark.parametrize("route", ["restart", "restore-session"])
def test_a_restart_is_answered_with_true(zapi: Target, route: str) -> None:
    zapi.needs("closed")
    same(zapi.ask("GET", f"{{closed}}/{route}"), observed.Z_DONE)


def test_the_number_is_told_by_the_device(zapi: Target) -> None:
    zapi.needs("open")
    assert same(zapi.ask("GET", "{open}/device"), observed.Z_DEVICE)["phone"].isdigit()


SENDS = {
    "text": ("send-text", {"message": "Olá, tudo bem?"}),
    "picture": ("send-image", {"image": uri(PICTURE), "caption": "olha"}),
    "audio": ("send-audio", {"audio": uri(AUDIO)}),
}


@pytest.mark.parametrize("kind", SENDS)
def test_what_is_sent_is_queued_under_two_ids(zapi: Target, kind: str) -> None:
    zapi.needs("open", "to")
    route, body = SENDS[kind]
    document = same(zapi.ask("POST", f"{{open}}/{route}", {"phone": zapi.to, **body}), observed.Z_SENT)
    assert document["zaapId"] != document["messageId"]


def test_marking_as_read_has_no_content(zapi: Target) -> None:
    zapi.needs("open", "to")
    answer = zapi.ask(
        "POST", "{open}/read-message", {"phone": zapi.to, "messageId": "3A00000000000000000000"}
    )
    assert answer.status_code in {200, 204}
    assert answer.content in {b"", b"{}"}


def test_numbers_are_looked_up_in_one_go(zapi: Target) -> None:
    zapi.needs("open", "to")
    found = same(
        zapi.ask("POST", "{open}/phone-exists-batch", {"phones": [zapi.to, "5511900000000"]}),
        observed.Z_EXISTS,
    )
    assert {row["inputPhone"]: row["exists"] for row in found} == {zapi.to: True, "5511900000000": False}


def test_the_queue_is_looked_at_and_cleared_of_one_message(zapi: Target) -> None:
    zapi.needs("closed", "to")
    sent = zapi.ask("POST", "{closed}/send-text", {"phone": zapi.to, "message": "espera"}).json()
    look = {"pageSize": 30}
    held = same(zapi.ask("POST", "{closed}/queue", look), observed.Z_QUEUE)["messages"]
    (row,) = [one for one in held if one["ZaapId"] == sent["zaapId"]]
    assert {
        "_id",
        "DelayMessage",
        "Message",
        "InstanceId",
        "Phone",
        "ZaapId",
        "DelayTyping",
        "MessageId",
        "Created",
    } <= set(row)
    assert zapi.ask("DELETE", f"{{closed}}/queue/{sent['zaapId']}").is_success
    held = zapi.ask("POST", "{closed}/queue", look).json()["messages"]
    assert sent["zaapId"] not in {one["ZaapId"] for one in held}


@pytest.mark.parametrize(
    "route",
    [
        "update-webhook-received",
        "update-webhook-delivery",
        "update-webhook-message-status",
        "update-webhook-disconnected",
        "update-webhook-connected",
    ],
)
def test_each_kind_of_webhook_is_set_by_its_own_route(zapi: Target, route: str) -> None:
    zapi.needs("open", "webhook")
    same(zapi.ask("PUT", f"{{open}}/{route}", {"value": zapi.webhook}), observed.Z_DONE)


def test_a_wrong_method_is_405_and_a_body_without_its_type_415(zapi: Target) -> None:
    zapi.needs("open")
    assert zapi.ask("DELETE", "{open}/status").status_code == 405
    answer = zapi.ask("POST", "{open}/send-text", headers={"Content-Type": "text/plain"})
    assert answer.status_code == 415


EVENTS = {
    "ReceivedCallback": observed.Z_RECEIVED,
    "DeliveryCallback": observed.Z_DELIVERY,
    "MessageStatusCallback": observed.Z_MESSAGE_STATUS,
    "DisconnectedCallback": observed.Z_DISCONNECTED,
    "ConnectedCallback": observed.Z_CONNECTED,
}


def test_the_simulators_callbacks_are_the_contracts(zapi: Target) -> None:
    """The service calls; only the simulator can be asked what it would say."""
    if zapi.simulator is None:
        pytest.skip("the service's webhooks are not seen from here")
    other = SimulatedInstance(
        provider=zapi.provider, name="z-api-other", phone="5511900000777", token=SIMULATED["token"]
    )
    zapi.simulator.core.declare([other])
    zapi.ask("POST", "{open}/send-text", {"phone": other.phone, "message": "evento"})
    zapi.a_day_passes()
    httpx.get(
        f"{zapi.url}/instances/z-api-other/token/{SIMULATED['token']}/disconnect",
        headers={"Client-Token": SIMULATED["client_token"]},
        timeout=30,
    )
    zapi.simulator.core.declare([other.model_copy(update={"state": "close"})], overwrite=True)
    httpx.get(
        f"{zapi.url}/instances/z-api-other/token/{SIMULATED['token']}/restart",
        headers={"Client-Token": SIMULATED["client_token"]},
        timeout=30,
    )
    events = httpx.get(f"{zapi.url}/_sim/events", params={"limit": 100000}, timeout=30).json()["events"]
    seen = {}
    for one in events:
        if one["provider"] != zapi.provider.value:
            continue
        if one["event"] == "ReceivedCallback" and "text" not in one["body"]:
            continue
        seen[one["event"]] = True
        assert differences(one["body"], EVENTS[one["event"]]) == [], one["event"]
    assert set(seen) == set(EVENTS)
