"""Evolution's chat routes through a real socket: look-ups, reads, number checks.

Trap guarded: filters that do not filter, a page size called ``offset``, statuses without an order.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import httpx
import pytest

from .conftest import ANA, BIA, CAU, DRA, START, STRANGER, Sim, redeclared


def find(sim: Sim, instance: str, **body: Any) -> dict[str, Any]:
    answer = sim.evolution("POST", f"/chat/findMessages/{instance}", body)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()["messages"]
    return found


def status_rows(sim: Sim, instance: str, wa_id: str) -> list[str]:
    answer = sim.evolution("POST", f"/chat/findStatusMessage/{instance}", {"where": {"id": wa_id}})
    return [row["status"] for row in answer.json()]


def read(sim: Sim, instance: str, jid: str, wa_id: str) -> httpx.Response:
    key = {"remoteJid": jid, "fromMe": False, "id": wa_id}
    return sim.evolution("POST", f"/chat/markMessageAsRead/{instance}", {"readMessages": [key]})


def test_a_message_moves_from_accepted_to_delivered_to_read(sim: Sim) -> None:
    wa_id = sim.text("ana", BIA).json()["key"]["id"]
    assert status_rows(sim, "ana", wa_id) == []
    assert find(sim, "bia")["total"] == 0
    sim.clock.forward(1.6)
    assert status_rows(sim, "ana", wa_id) == ["SERVER_ACK"]
    sim.clock.forward(10)
    assert status_rows(sim, "ana", wa_id) == ["SERVER_ACK", "DELIVERY_ACK"]
    answer = read(sim, "bia", f"{ANA}@s.whatsapp.net", wa_id)
    assert (answer.status_code, answer.json()) == (201, {"message": "Read messages", "read": "success"})
    assert status_rows(sim, "ana", wa_id) == ["SERVER_ACK", "DELIVERY_ACK", "READ"]
    assert sim.messages()[0]["state"] == "read"


def test_both_ends_list_a_message_under_the_same_whatsapp_id(sim: Sim) -> None:
    wa_id = sim.text("ana", BIA, "olá").json()["key"]["id"]
    sim.clock.forward(15)
    sent, received = find(sim, "ana")["records"][0], find(sim, "bia")["records"][0]
    assert sent["key"] == {"id": wa_id, "fromMe": True, "remoteJid": f"{BIA}@s.whatsapp.net"}
    assert received["key"] == {"id": wa_id, "fromMe": False, "remoteJid": f"{ANA}@s.whatsapp.net"}
    assert sent["MessageUpdate"] == [{"status": "SERVER_ACK"}, {"status": "DELIVERY_ACK"}]
    assert received["message"] == {"conversation": "olá"}
    assert set(sent) == {
        *("id", "key", "pushName", "messageType", "message", "messageTimestamp"),
        *("instanceId", "source", "contextInfo", "MessageUpdate"),
    }
    assert sent["id"] != received["id"]
    assert len(sent["id"]) == 25


def test_nothing_found_has_no_pages(sim: Sim) -> None:
    assert find(sim, "ana") == {"total": 0, "pages": 0, "currentPage": 1, "records": []}


def test_messages_come_newest_first_in_pages_of_offset(sim: Sim) -> None:
    for n in range(5):
        sim.text("ana", BIA, str(n))
        sim.clock.forward(1)
    first = find(sim, "ana", offset=2)
    assert [r["message"]["conversation"] for r in first["records"]] == ["4", "3"]
    assert (first["total"], first["pages"]) == (5, 3)
    past = find(sim, "ana", offset=2, page=9)
    assert past == {"total": 5, "pages": 3, "currentPage": 9, "records": []}
    assert len(find(sim, "ana", limit=1)["records"]) == 5


def test_a_page_given_as_text_is_a_server_error(sim: Sim) -> None:
    assert sim.evolution("POST", "/chat/findMessages/ana", {"page": "1"}).status_code == 500


def test_times_filter_only_with_both_bounds(sim: Sim) -> None:
    for n in range(3):
        sim.text("ana", BIA, str(n))
        sim.clock.forward(60)
    low, high = START + timedelta(seconds=30), START + timedelta(seconds=90)
    one_bound = find(sim, "ana", where={"messageTimestamp": {"gte": low.isoformat()}})
    both = find(sim, "ana", where={"messageTimestamp": {"gte": low.isoformat(), "lte": high.isoformat()}})
    assert (one_bound["total"], both["total"]) == (3, 1)
    assert both["records"][0]["message"]["conversation"] == "1"
    milliseconds = {"gte": low.timestamp() * 1000, "lte": high.timestamp() * 1000}
    assert find(sim, "ana", where={"messageTimestamp": milliseconds})["total"] == 1


def test_from_me_false_does_not_filter_and_true_does(sim: Sim) -> None:
    sim.text("ana", BIA)
    sim.text("bia", ANA)
    sim.clock.forward(15)
    assert find(sim, "ana", where={"key": {"fromMe": False}})["total"] == 2
    assert find(sim, "ana", where={"key": {"fromMe": True}})["total"] == 1


def test_messages_are_found_by_each_of_their_marks(sim: Sim) -> None:
    wa_id = sim.text("ana", BIA).json()["key"]["id"]
    sim.text("ana", DRA)
    row_id = find(sim, "ana", where={"key": {"id": wa_id}})["records"][0]["id"]
    assert find(sim, "ana", where={"id": row_id})["records"][0]["key"]["id"] == wa_id
    assert find(sim, "ana", where={"key": {"remoteJid": f"{BIA}@s.whatsapp.net"}})["total"] == 1
    assert find(sim, "ana", where={"messageType": "imageMessage"})["total"] == 0
    assert find(sim, "ana", where={"source": "web"})["total"] == 2
    assert find(sim, "ana", where={"source": "ios"})["total"] == 0


@pytest.mark.parametrize("where", [{"key": {"id": ""}}, {"key": {"remoteJid": 5}}, {"id": ""}, "x"])
def test_an_empty_filter_is_refused(sim: Sim, where: Any) -> None:
    answer = sim.evolution("POST", "/chat/findMessages/ana", {"where": where})
    assert (answer.status_code, answer.json()["response"]["message"]) == (
        400,
        [["The property cannot be empty"]],
    )


def test_look_ups_work_without_a_connection(sim: Sim) -> None:
    sim.text("ana", BIA)
    sim.declare(redeclared("ana", state="close"))
    assert find(sim, "ana")["total"] == 1


def test_a_message_waits_for_its_receivers_session(sim: Sim) -> None:
    sim.declare(redeclared("bia", state="close"))
    wa_id = sim.text("ana", BIA).json()["key"]["id"]
    sim.clock.forward(3600)
    assert status_rows(sim, "ana", wa_id) == ["SERVER_ACK"]
    sim.evolution("GET", "/instance/connect/bia")
    sim.clock.forward(2)
    assert status_rows(sim, "ana", wa_id) == ["SERVER_ACK", "DELIVERY_ACK"]
    assert find(sim, "bia")["total"] == 1


def test_a_zombie_accepts_and_nothing_leaves_it(sim: Sim) -> None:
    sim.declare(redeclared("ana", zombie=True))
    wa_id = sim.text("ana", BIA).json()["key"]["id"]
    sim.clock.forward(3600)
    assert (sim.state("ana"), status_rows(sim, "ana", wa_id)) == ("open", [])
    assert find(sim, "ana")["records"][0]["MessageUpdate"] == []
    assert sim.messages()[0]["lost"] is True


def test_nothing_reaches_a_zombie_until_a_restart_heals_it(sim: Sim) -> None:
    sim.declare(redeclared("bia", zombie=True, zombie_until_restart=True))
    wa_id = sim.text("ana", BIA).json()["key"]["id"]
    sim.clock.forward(3600)
    assert status_rows(sim, "ana", wa_id) == ["SERVER_ACK"]
    sim.evolution("POST", "/instance/restart/bia")
    sim.clock.forward(2)
    assert status_rows(sim, "ana", wa_id) == ["SERVER_ACK", "DELIVERY_ACK"]


def test_reading_under_a_privacy_id_is_skipped_without_a_word(sim: Sim) -> None:
    sim.declare(redeclared("ana", lid="98765432109876"))
    wa_id = sim.text("ana", BIA).json()["key"]["id"]
    sim.clock.forward(15)
    key = find(sim, "bia")["records"][0]["key"]
    assert key == {
        "id": wa_id,
        "fromMe": False,
        "remoteJid": "98765432109876@lid",
        "remoteJidAlt": f"{ANA}@s.whatsapp.net",
        "addressingMode": "lid",
    }
    assert find(sim, "bia", where={"key": {"remoteJidAlt": f"{ANA}@s.whatsapp.net"}})["total"] == 1
    assert read(sim, "bia", key["remoteJid"], wa_id).status_code == 201
    assert sim.messages()[0]["state"] == "delivered"
    read(sim, "bia", key["remoteJidAlt"], wa_id)
    assert sim.messages()[0]["state"] == "read"


def test_a_privacy_id_reaches_its_owner(sim: Sim) -> None:
    sim.declare(redeclared("bia", lid="98765432109876"))
    assert sim.text("ana", "98765432109876@lid").status_code == 201
    assert sim.messages()[0]["recipient"] == BIA


def test_reading_unknown_ids_succeeds(sim: Sim) -> None:
    assert read(sim, "ana", f"{BIA}@s.whatsapp.net", "3A00").status_code == 201


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({"readMessages": []}, [["readMessages does not meet minimum length of 1"]]),
        (
            {"readMessages": [{"id": "a", "remoteJid": "b"}]},
            [['readMessages[0] requires property "fromMe"']],
        ),
        ({"read_messages": []}, [['instance requires property "readMessages"']]),
    ],
)
def test_an_invalid_read_is_refused(sim: Sim, body: Any, message: Any) -> None:
    answer = sim.evolution("POST", "/chat/markMessageAsRead/ana", body)
    assert (answer.status_code, answer.json()["response"]["message"]) == (400, message)


def test_status_rows_name_the_whatsapp_id_as_key_id(sim: Sim) -> None:
    wa_id = sim.text("ana", BIA).json()["key"]["id"]
    sim.clock.forward(15)
    rows = sim.evolution("POST", "/chat/findStatusMessage/ana", {"where": {"id": wa_id}}).json()
    assert set(rows[0]) == {
        *("id", "keyId", "remoteJid", "fromMe", "participant"),
        *("pollUpdates", "status", "messageId", "instanceId"),
    }
    assert rows[0]["keyId"] == wa_id
    assert rows[0]["messageId"] == find(sim, "ana")["records"][0]["id"]
    unfiltered = sim.evolution("POST", "/chat/findStatusMessage/ana", {"where": {"status": "READ"}})
    assert len(unfiltered.json()) == 2
    other = {"where": {"id": wa_id, "remoteJid": "1@s.whatsapp.net"}}
    assert sim.evolution("POST", "/chat/findStatusMessage/ana", other).json() == []


def test_an_unknown_status_word_is_refused(sim: Sim) -> None:
    answer = sim.evolution("POST", "/chat/findStatusMessage/ana", {"where": {"status": "SENT"}})
    assert answer.status_code == 400


def test_number_checks_list_groups_first_and_echo_the_number_asked(sim: Sim) -> None:
    numbers = [DRA, STRANGER, "120363000000000000@g.us"]
    rows = sim.evolution("POST", "/chat/whatsappNumbers/ana", {"numbers": numbers}).json()
    assert [(r["number"], r["jid"], r["exists"]) for r in rows] == [
        ("120363000000000000@g.us", "120363000000000000@g.us", True),
        (DRA, "558587654321@s.whatsapp.net", True),
        (STRANGER, f"{STRANGER}@s.whatsapp.net", False),
    ]


@pytest.mark.parametrize(
    ("body", "document"),
    [
        (
            {"numbers": []},
            {
                "status": 400,
                "error": "Bad Request",
                "message": [["numbers does not meet minimum length of 1"]],
            },
        ),
        (
            {"numbers": [5]},
            {
                "status": 400,
                "error": "Bad Request",
                "message": [['"numbers" must be an array of numeric strings']],
            },
        ),
        (
            {"numbers": ["1", "1"]},
            {"status": 400, "error": "Bad Request", "message": [["numbers contains duplicate item"]]},
        ),
        ({}, {}),
    ],
)
def test_number_checks_refuse_without_the_envelope(sim: Sim, body: Any, document: Any) -> None:
    answer = sim.evolution("POST", "/chat/whatsappNumbers/ana", body)
    assert (answer.status_code, answer.json()) == (400, document)


def test_number_checks_without_a_connection_answer_the_bare_error_object(sim: Sim) -> None:
    sim.declare(redeclared("ana", state="close"))
    answer = sim.evolution("POST", "/chat/whatsappNumbers/ana", {"numbers": [CAU]})
    assert answer.status_code == 400
    assert answer.json()["output"]["payload"] == {
        "statusCode": 428,
        "error": "Precondition Required",
        "message": "Connection Closed",
    }


def test_presence_is_shown_and_its_errors_are_lost(sim: Sim) -> None:
    body = {"number": BIA, "presence": "composing", "delay": 0}
    shown = sim.evolution("POST", "/chat/sendPresence/ana", body)
    assert (shown.status_code, shown.json()) == (201, {"presence": "composing"})
    lost = sim.evolution("POST", "/chat/sendPresence/ana", {**body, "number": STRANGER})
    assert (lost.status_code, lost.json()["response"]["message"]) == (400, ["[object Object]"])
    undelayed = sim.evolution("POST", "/chat/sendPresence/ana", {"number": BIA, "presence": "typing"})
    assert undelayed.json()["response"]["message"] == [
        [
            "presence is not one of enum values: unavailable,available,composing,recording,paused",
            'instance requires property "delay"',
        ]
    ]


@pytest.mark.parametrize(
    ("route", "body"),
    [
        ("findMessages", {}),
        ("findStatusMessage", {}),
        ("sendPresence", {"number": BIA, "presence": "paused", "delay": 0}),
        ("markMessageAsRead", {"readMessages": [{"remoteJid": "a", "fromMe": False, "id": "b"}]}),
    ],
)
def test_chat_routes_of_an_unloaded_instance_are_javascript_errors(sim: Sim, route: str, body: Any) -> None:
    sim.declare(redeclared("ana", loaded=False))
    answer = sim.evolution("POST", f"/chat/{route}/ana", body)
    assert answer.status_code == 500
    assert "Cannot read properties of undefined" in answer.json()["response"]["message"]
