"""Z-API's routes through a real socket: a 200 that only means queued, and an error on a connected one.

Trap guarded: counting an accepted message as sent, and a queue that floods on reconnection.
"""

from __future__ import annotations

import base64
import itertools
from datetime import datetime
from typing import Any

import pytest

from .conftest import ANA, BIA, CAU, CLIENT_TOKEN, DRA, STRANGER, Sim, Start, redeclared

PNG = "data:image/png;base64," + base64.b64encode(b"\x89PNG\r\n\x1a\n0000").decode()
MP3 = "data:audio/mpeg;base64," + base64.b64encode(b"ID3" + b"0" * 30).decode()


def closed(sim: Sim, **changes: Any) -> None:
    sim.declare(redeclared("CAU", state="close", **changes))


def callbacks(sim: Sim, event: str) -> list[dict[str, Any]]:
    return [row["body"] for row in sim.events() if row["event"] == event]


def test_a_connected_status_carries_an_error_text(sim: Sim) -> None:
    assert sim.zapi("GET", "status").json() == {
        "connected": True,
        "error": "You are already connected",
        "smartphoneConnected": True,
    }


def test_a_disconnected_instance_comes_back_with_a_restart(sim: Sim) -> None:
    closed(sim)
    assert sim.zapi("GET", "status").json() == {
        "connected": False,
        "error": "You are not connected",
        "smartphoneConnected": False,
    }
    assert sim.zapi("GET", "restart").json() == {"value": True}
    assert sim.zapi("GET", "status").json()["connected"] is True


def test_an_instance_that_lost_its_pairing_stays_down_through_restarts(sim: Sim) -> None:
    closed(sim, needs_qr=True)
    for route in ("restart", "restore-session"):
        assert sim.zapi("GET", route).json() == {"value": True}
    assert sim.zapi("GET", "status").json()["error"] == "You need to restore the session"
    sim.http.post("/_sim/scan", json={"provider": "z-api", "instance": "CAU"})
    assert sim.zapi("GET", "status").json()["connected"] is True


def test_disconnect_needs_a_new_qr_code(sim: Sim) -> None:
    assert sim.zapi("GET", "disconnect").json() == {"value": True}
    sim.zapi("GET", "restart")
    assert sim.zapi("GET", "status").json()["connected"] is False


@pytest.mark.parametrize("route", ["qr-code", "qr-code/image"])
def test_a_qr_code_is_shown_only_while_disconnected(sim: Sim, route: str) -> None:
    assert sim.zapi("GET", route).json() == {"connected": True}
    closed(sim, needs_qr=True)
    first = sim.zapi("GET", route).json()["value"]
    assert first.startswith("data:image/png;base64,iVBOR")
    sim.clock.forward(20)
    assert sim.zapi("GET", route).json()["value"] != first


def test_a_pairing_code_is_ten_characters(sim: Sim) -> None:
    closed(sim, needs_qr=True)
    assert len(sim.zapi("GET", f"phone-code/{CAU}").json()["value"]) == 10


def test_the_device_tells_the_phone_and_me_the_account(sim: Sim) -> None:
    assert sim.zapi("GET", "device").json()["phone"] == CAU
    me = sim.zapi("GET", "me").json()
    assert (me["id"], me["connected"]) == ("CAU", True)


def test_client_tokens_are_checked_first(sim: Sim) -> None:
    url = "/instances/CAU/token/cau-token/status"
    missing, wrong = sim.http.get(url), sim.http.get(url, headers={"Client-Token": "wrong"})
    assert (missing.status_code, missing.json()) == (400, {"error": "your client-token is not configured"})
    assert (wrong.status_code, wrong.json()) == (403, {"error": "Client-Token wrong not allowed"})


def test_an_account_without_a_client_token_needs_none(start: Start) -> None:
    sim = start(zapi_client_token="")
    assert sim.http.get("/instances/CAU/token/cau-token/status").status_code == 200


def test_unknown_instances_tokens_and_routes_answer_as_configured(start: Start) -> None:
    sim = start(zapi_unknown_instance_status=400, zapi_unknown_route_status=200)
    headers = {"Client-Token": CLIENT_TOKEN}
    nobody = sim.http.get("/instances/NOPE/token/x/status", headers=headers)
    mistoken = sim.http.get("/instances/CAU/token/x/status", headers=headers)
    assert (nobody.status_code, mistoken.status_code) == (400, 400)
    assert nobody.json() == {"error": "Instance not found"}
    nowhere = sim.zapi("GET", "no-such-route")
    assert nowhere.status_code == 200
    assert nowhere.json()["error"] == "NOT_FOUND"
    assert sim.http.get("/instances/CAU").json()["error"] == "NOT_FOUND"


def test_a_wrong_method_and_a_missing_content_type_are_refused(sim: Sim) -> None:
    assert sim.zapi("GET", "send-text").status_code == 405
    url = "/instances/CAU/token/cau-token/send-text"
    bare = sim.http.post(url, content=b"{}", headers={"Client-Token": CLIENT_TOKEN})
    assert bare.status_code == 415
    for content in (b"{nope}", b"[]"):
        broken = sim.http.post(
            url,
            content=content,
            headers={"Client-Token": CLIENT_TOKEN, "Content-Type": "application/json"},
        )
        assert broken.status_code == 400


def test_an_accepted_text_has_three_ids(sim: Sim) -> None:
    answer = sim.text("CAU", ANA)
    assert answer.status_code == 200
    document = answer.json()
    assert set(document) == {"zaapId", "messageId", "id"}
    assert document["id"] == document["messageId"]
    row = sim.messages()[0]
    assert (row["message_id"], row["queue_id"]) == (document["messageId"], document["zaapId"])


def test_a_message_leaves_the_queue_then_arrives_then_is_read(sim: Sim) -> None:
    wa_id = sim.text("CAU", BIA).json()["messageId"]
    assert (sim.messages()[0]["queued"], sim.messages()[0]["state"]) == (True, "accepted")
    sim.clock.forward(15)
    assert (sim.messages()[0]["queued"], sim.messages()[0]["state"]) == (False, "delivered")
    found = sim.evolution("POST", "/chat/findMessages/bia", {}).json()["messages"]["records"]
    assert found[0]["key"] == {"id": wa_id, "fromMe": False, "remoteJid": f"{CAU}@s.whatsapp.net"}
    key = {"remoteJid": f"{CAU}@s.whatsapp.net", "fromMe": False, "id": wa_id}
    sim.evolution("POST", "/chat/markMessageAsRead/bia", {"readMessages": [key]})
    sent = callbacks(sim, "MessageStatusCallback")
    assert [row["status"] for row in sent] == ["SENT", "RECEIVED", "READ"]
    assert sent[0]["ids"] == [wa_id]
    assert "error" not in callbacks(sim, "DeliveryCallback")[0]


def test_a_received_message_is_announced_and_can_be_read(sim: Sim) -> None:
    wa_id = sim.text("ana", CAU, "oi").json()["key"]["id"]
    sim.clock.forward(15)
    received = callbacks(sim, "ReceivedCallback")[0]
    assert (received["messageId"], received["phone"], received["text"]) == (wa_id, ANA, {"message": "oi"})
    answer = sim.zapi("POST", "read-message", {"phone": ANA, "messageId": wa_id})
    assert (answer.status_code, answer.content) == (204, b"")
    assert sim.messages()[0]["state"] == "read"
    assert [row["status"] for row in callbacks(sim, "MessageStatusCallback")] == ["READ_BY_ME"]


def test_a_number_without_whatsapp_is_accepted_and_fails_later(sim: Sim) -> None:
    answer = sim.text("CAU", STRANGER)
    assert answer.status_code == 200
    sim.clock.forward(5)
    row = sim.messages()[0]
    assert (row["state"], row["failure"]) == ("failed", "Phone number does not exist")
    failure = callbacks(sim, "DeliveryCallback")[0]
    assert failure["error"] == "Phone number does not exist"
    assert failure["zaapId"] == failure["messageId"] == answer.json()["zaapId"]


def test_messages_are_spaced_by_one_to_three_seconds(sim: Sim) -> None:
    for n in range(5):
        sim.text("CAU", BIA, str(n))
    sim.clock.forward(60)
    left = [row["momment"] for row in callbacks(sim, "DeliveryCallback")]
    gaps = [b - a for a, b in itertools.pairwise(left)]
    assert len(left) == 5
    assert all(1000 <= gap <= 3000 for gap in gaps)


def test_a_disconnected_instance_queues_and_flushes_on_reconnection(sim: Sim) -> None:
    closed(sim)
    ids = [sim.text("CAU", BIA, str(n)).json()["zaapId"] for n in range(3)]
    sim.clock.forward(3600)
    waiting = sim.zapi("GET", "queue").json()["messages"]
    assert [row["ZaapId"] for row in waiting] == ids
    assert {row["state"] for row in sim.messages()} == {"accepted"}
    sim.zapi("GET", "restart")
    sim.clock.forward(30)
    assert {row["state"] for row in sim.messages()} == {"delivered"}
    left = [row["momment"] for row in callbacks(sim, "DeliveryCallback")]
    assert all(1000 <= b - a <= 3000 for a, b in itertools.pairwise(left))


def test_a_queued_message_can_be_removed_and_is_never_sent(sim: Sim) -> None:
    closed(sim)
    first, second, third = (sim.text("CAU", BIA, str(n)).json()["zaapId"] for n in range(3))
    sim.zapi("DELETE", f"queue/{second}")
    left = sim.zapi("POST", "queue", {"pageSize": 30}).json()["messages"]
    assert [row["ZaapId"] for row in left] == [first, third]
    sim.zapi("DELETE", "queue")
    sim.zapi("GET", "restart")
    sim.clock.forward(60)
    assert {row["state"] for row in sim.messages()} == {"removed"}
    assert callbacks(sim, "DeliveryCallback") == []


def test_the_queue_is_shown_in_pages(sim: Sim) -> None:
    closed(sim)
    for n in range(5):
        sim.text("CAU", BIA, str(n))
    first = sim.zapi("POST", "queue", {"pageSize": 3}).json()
    rest = sim.zapi("POST", "queue", {"pageSize": 3, "pagingState": first["pagingState"]}).json()
    assert (len(first["messages"]), first["hasMore"]) == (3, True)
    assert (len(rest["messages"]), rest["hasMore"]) == (2, False)
    assert sim.zapi("POST", "queue", {"pageSize": 31}).status_code == 400


def test_a_full_queue_refuses_more(start: Start) -> None:
    sim = start(queue_limit=2)
    closed(sim)
    assert [sim.text("CAU", BIA).status_code for _ in range(3)] == [200, 200, 400]
    assert len(sim.messages()) == 2


def test_delays_are_in_seconds_and_hold_the_message_in_the_queue(sim: Sim) -> None:
    sim.zapi("POST", "send-text", {"phone": BIA, "message": "oi", "delayMessage": 15})
    sim.clock.forward(14)
    assert sim.messages()[0]["queued"] is True
    sim.clock.forward(1)
    assert sim.messages()[0]["queued"] is False


@pytest.mark.parametrize(
    ("route", "body", "kind"),
    [
        ("send-image", {"image": PNG, "caption": "oi"}, "picture"),
        ("send-image", {"image": "https://example.com/a.png"}, "picture"),
        ("send-audio", {"audio": MP3}, "audio"),
        ("send-document/pdf", {"document": "https://example.com/a.pdf", "fileName": "a.pdf"}, "document"),
        ("send-reaction", {"reaction": "❤️", "messageId": "3A00"}, "reaction"),
    ],
)
def test_media_and_reactions_are_queued_like_texts(
    sim: Sim, route: str, body: dict[str, str], kind: str
) -> None:
    answer = sim.zapi("POST", route, {"phone": ANA, **body})
    assert (answer.status_code, sim.messages()[0]["kind"]) == (200, kind)
    sim.clock.forward(20)
    assert sim.messages()[0]["state"] == "delivered"
    record = sim.evolution("POST", "/chat/findMessages/ana", {}).json()["messages"]["records"][0]
    assert record["key"]["id"] == answer.json()["messageId"]


@pytest.mark.parametrize(
    ("route", "body"),
    [
        ("send-text", {"phone": ANA}),
        ("send-text", {"phone": "+55 11", "message": "oi"}),
        ("send-text", {"phone": 5511, "message": "oi"}),
        ("send-image", {"phone": ANA, "image": PNG.split(",")[1]}),
        ("send-image", {"phone": ANA, "image": MP3}),
        ("send-image", {"phone": ANA}),
        ("send-audio", {"phone": ANA, "audio": MP3.split(",")[1]}),
        ("send-document", {"phone": ANA, "document": PNG}),
        ("send-reaction", {"phone": ANA, "reaction": "👍"}),
        ("read-message", {"phone": ANA}),
        ("read-message", {"messageId": "x"}),
    ],
)
def test_an_unusable_body_is_refused_with_an_error(sim: Sim, route: str, body: dict[str, Any]) -> None:
    answer = sim.zapi("POST", route, body)
    assert answer.status_code == 400
    assert answer.json()["error"]
    assert sim.messages() == []


def test_reading_while_disconnected_is_refused(sim: Sim) -> None:
    closed(sim)
    answer = sim.zapi("POST", "read-message", {"phone": ANA, "messageId": "x"})
    assert (answer.status_code, answer.json()) == (400, {"error": "You need to be connected"})


def test_a_zombie_accepts_and_nothing_leaves_it(sim: Sim) -> None:
    sim.declare(redeclared("CAU", zombie=True))
    assert sim.text("CAU", ANA).status_code == 200
    sim.clock.forward(60)
    assert sim.messages()[0]["state"] == "accepted"
    assert sim.zapi("GET", "status").json()["connected"] is True
    assert callbacks(sim, "DeliveryCallback") == []


def test_phone_exists_answers_a_list_or_by_setting_an_object(start: Start, sim: Sim) -> None:
    assert sim.zapi("GET", f"phone-exists/{ANA}").json() == [{"exists": True, "phone": ANA}]
    assert sim.zapi("GET", f"phone-exists/{STRANGER}").json()[0]["exists"] is False
    bare = start(zapi_bare_phone_exists=True)
    assert bare.zapi("GET", f"phone-exists/{ANA}").json() == {"exists": True, "phone": ANA}


def test_phone_exists_batch_answers_what_whatsapp_knows(sim: Sim) -> None:
    sim.declare(redeclared("ana", lid="987654"))
    rows = sim.zapi("POST", "phone-exists-batch", {"phones": [DRA, ANA, STRANGER]}).json()
    assert rows[0] == {"exists": True, "inputPhone": DRA, "outputPhone": "558587654321", "lid": None}
    assert (rows[1]["lid"], rows[2]["exists"]) == ("987654@lid", False)
    assert sim.zapi("POST", "phone-exists-batch", {"phones": "x"}).status_code == 400
    assert sim.zapi("GET", f"phone-exists/{ANA}").json()[0]["lid"] == "987654@lid"


@pytest.mark.parametrize(
    ("route", "name"),
    [
        ("update-webhook-received", "receivedCallbackUrl"),
        ("update-webhook-delivery", "deliveryCallbackUrl"),
        ("update-webhook-message-status", "messageStatusCallbackUrl"),
        ("update-webhook-disconnected", "disconnectedCallbackUrl"),
        ("update-every-webhooks", "connectedCallbackUrl"),
    ],
)
def test_a_webhook_is_stored_and_shown_by_me(sim: Sim, route: str, name: str) -> None:
    url = "https://hooks.example.com/z"
    assert sim.zapi("PUT", route, {"value": url}).json() == {"value": True}
    assert sim.zapi("GET", "me").json()[name] == url


def test_a_webhook_without_tls_is_refused_unless_it_stays_on_this_machine(sim: Sim) -> None:
    for route in ("update-webhook-received", "update-every-webhooks"):
        assert sim.zapi("PUT", route, {"value": "http://hooks.example.com/z"}).status_code == 400
        assert sim.zapi("PUT", route, {}).status_code == 400
        assert sim.zapi("PUT", route, {"value": "http://127.0.0.1:3001/z"}).status_code == 200


def test_notifications_and_filters_are_stored(sim: Sim) -> None:
    assert sim.zapi("PUT", "update-notify-sent-by-me", {"notifySentByMe": True}).status_code == 200
    assert sim.zapi("PUT", "update-filters", {"callbackTypeFilters": ["x"]}).status_code == 200
    assert sim.zapi("GET", "me").json()["receiveCallbackSentByMe"] is True


def test_connection_changes_are_announced(sim: Sim) -> None:
    sim.zapi("GET", "disconnect")
    sim.http.post("/_sim/scan", json={"provider": "z-api", "instance": "CAU"})
    assert callbacks(sim, "DisconnectedCallback")[0]["error"] == "Device has been disconnected"
    connected = callbacks(sim, "ConnectedCallback")[0]
    assert (connected["phone"], connected["connected"]) == (CAU, True)
    assert datetime.fromtimestamp(connected["momment"] / 1000, sim.clock.now.tzinfo) == sim.clock.now
