"""The control routes, logical time, the outbox, and determinism.

Trap guarded: a test that trusts its own client's word for what the gateway accepted.
"""

from __future__ import annotations

from typing import Any

import pytest

from .conftest import ANA, BIA, CAU, GLOBAL_KEY, START, STRANGER, Sim, Start, redeclared


def stamped(sim: Sim, at: str, *, message: str = "m-1;conversation=c-1;turn=2") -> int:
    answer = sim.http.post(
        "/message/sendText/ana",
        json={"number": BIA, "text": "oi"},
        headers={"apikey": GLOBAL_KEY, "X-Warmup-At": at, "X-Warmup-Message": message},
    )
    return answer.status_code


def state_at(sim: Sim, at: str | None) -> str:
    headers = {} if at is None else {"X-Warmup-At": at}
    rows = sim.http.get("/_sim/messages", headers=headers).json()["messages"]
    return str(rows[0]["state"])


def test_the_log_says_who_sent_what_to_whom_and_when(sim: Sim) -> None:
    assert stamped(sim, "2026-02-20T12:00:00Z") == 201
    row = sim.messages()[0]
    assert row == {
        "rowid": 1,
        "provider": "evolution",
        "instance": "ana",
        "sender": ANA,
        "recipient": BIA,
        "recipient_instance": "bia",
        "recipient_provider": "evolution",
        "kind": "text",
        "text": "oi",
        "media_mime": None,
        "media_bytes": None,
        "message_id": row["message_id"],
        "queue_id": None,
        "state": "accepted",
        "queued": False,
        "lost": False,
        "failure": None,
        "received_at": "2026-02-20T11:00:00.000+00:00",
        "at": "2026-02-20T12:00:00.000+00:00",
        "logical": True,
        "delivered_at": None,
        "read_at": None,
        "trace": {
            "raw": "m-1;conversation=c-1;turn=2",
            "message_id": "m-1",
            "conversation": "c-1",
            "turn": 2,
        },
    }


def test_a_message_without_trace_or_time_says_so(sim: Sim) -> None:
    sim.text("ana", BIA)
    row = sim.messages()[0]
    assert (row["trace"], row["logical"], row["at"]) == (
        None,
        False,
        START.isoformat(timespec="milliseconds"),
    )


def test_an_odd_trace_is_kept_as_it_came(sim: Sim) -> None:
    stamped(sim, "2026-02-20T12:00:00Z", message="m-9;turn=x")
    trace = sim.messages()[0]["trace"]
    assert (trace["raw"], trace["message_id"], trace["turn"]) == ("m-9;turn=x", "m-9", None)


def test_logical_time_moves_deliveries_and_the_wall_clock_does_not(sim: Sim) -> None:
    stamped(sim, "2026-02-20T12:00:00Z")
    sim.clock.forward(30 * 24 * 3600)
    assert state_at(sim, None) == "accepted"
    assert state_at(sim, "2026-02-20T09:05:00-03:00") == "delivered"


@pytest.mark.parametrize("at", ["yesterday", "2026-02-20T12:00:00", ""])
def test_a_logical_time_without_a_zone_or_sense_is_refused(sim: Sim, at: str) -> None:
    assert stamped(sim, at) == 400
    assert sim.messages() == []


def test_the_log_is_read_in_pages(sim: Sim) -> None:
    for n in range(5):
        sim.text("ana", BIA, str(n))
    first = sim.http.get("/_sim/messages?limit=2").json()
    rest = sim.http.get(f"/_sim/messages?since={first['next_since']}&limit=100").json()
    assert [row["text"] for row in first["messages"] + rest["messages"]] == ["0", "1", "2", "3", "4"]
    assert first["total"] == 5
    end = sim.http.get(f"/_sim/messages?since={rest['next_since']}").json()
    assert (end["messages"], end["next_since"]) == ([], rest["next_since"])


@pytest.mark.parametrize("query", ["since=x", "limit=0", "limit=-1", "limit=1000000"])
def test_a_page_that_is_none_is_refused(sim: Sim, query: str) -> None:
    assert sim.http.get(f"/_sim/messages?{query}").status_code == 400


def test_an_unknown_control_is_404_and_a_broken_body_400(sim: Sim) -> None:
    assert sim.http.get("/_sim/nothing").status_code == 404
    assert sim.http.post("/_sim/faults", content=b"{").status_code == 400
    unknown = sim.http.post("/_sim/scan", json={"provider": "evolution", "instance": "nope"})
    assert unknown.status_code == 404


def test_a_refused_declaration_does_not_repeat_its_token(sim: Sim) -> None:
    bad = {"provider": "evolution", "name": "eva", "phone": "not-a-phone", "token": "s3cret-token"}
    answer = sim.http.post("/_sim/instances", json={"instances": [bad]})
    assert answer.status_code == 400
    assert "s3cret-token" not in answer.text


def test_instances_are_declared_and_listed_without_their_tokens(sim: Sim) -> None:
    eva: dict[str, Any] = {
        "provider": "evolution",
        "name": "eva",
        "phone": "5521900000001",
        "token": "eva-token-1",
    }
    answer = sim.http.post("/_sim/instances", json={"instances": [eva]})
    listed = sim.http.get("/_sim/instances")
    assert answer.status_code == listed.status_code == 200
    assert [row["name"] for row in listed.json()["instances"]] == ["ana", "bia", "CAU", "dra", "eva"]
    assert "eva-token-1" not in listed.text
    assert sim.state("eva") == "open"


def test_a_declaration_resets_the_state_only_when_asked(sim: Sim) -> None:
    declared = {"provider": "evolution", "name": "ana", "phone": ANA, "token": "ana-token", "state": "close"}
    sim.http.post("/_sim/instances", json={"instances": [declared]})
    assert sim.state("ana") == "open"
    sim.http.post("/_sim/instances", json={"instances": [declared], "overwrite": True})
    assert sim.state("ana") == "close"


def test_health_counts(sim: Sim) -> None:
    sim.text("ana", BIA)
    sim.faults({"kind": "latency", "ms": 0})
    document = sim.http.get("/_sim/health").json()
    assert (document["status"], document["instances"], document["messages"], document["faults"]) == (
        "ok",
        4,
        1,
        1,
    )


def test_a_reset_returns_to_the_declarations(sim: Sim) -> None:
    first = sim.text("ana", BIA).json()["key"]["id"]
    sim.evolution("DELETE", "/instance/delete/bia")
    sim.evolution("POST", "/instance/create", {"instanceName": "eva", "integration": "WHATSAPP-BAILEYS"})
    sim.zapi("GET", "disconnect")
    sim.faults({"kind": "status", "code": 500})
    assert sim.http.post("/_sim/reset").json() == {"status": "ok", "instances": 4}
    assert (sim.messages(), sim.events()) == ([], [])
    assert sim.zapi("GET", "status").json()["connected"] is True
    assert sim.text("ana", BIA).json()["key"]["id"] == first
    assert sim.http.get("/_sim/faults").json()["rules"] == []
    assert sim.evolution("GET", "/instance/connectionState/eva").status_code == 404


def test_phones_known_by_the_settings_stay_known_through_a_reset(start: Start) -> None:
    sim = start(known_phones=frozenset({STRANGER}))
    assert sim.text("ana", STRANGER).status_code == 201
    sim.http.post("/_sim/reset")
    assert sim.text("ana", STRANGER).status_code == 201


def test_a_reset_may_forget_the_instances_too(sim: Sim) -> None:
    sim.http.post("/_sim/reset", json={"instances": True})
    assert sim.http.get("/_sim/instances").json() == {"instances": []}


def test_a_reset_ends_logical_time(sim: Sim) -> None:
    stamped(sim, "2026-02-21T12:00:00Z")
    sim.http.post("/_sim/reset")
    assert sim.http.get("/_sim/health").json()["now"].startswith("2026-02-20T11:00")


def test_two_runs_from_scratch_give_the_same_ids_and_another_seed_others(start: Start) -> None:
    def run(seed: int) -> list[tuple[Any, ...]]:
        sim = start(seed=seed)
        for n in range(4):
            sim.text("ana", BIA, str(n))
            sim.text("CAU", ANA, str(n))
            sim.clock.forward(4)
        sim.clock.forward(60)
        return [(r["message_id"], r["queue_id"], r["delivered_at"]) for r in sim.messages()]

    first = run(7)
    assert run(7) == first
    assert run(8) != first
    assert len({row[0] for row in first}) == 8


def test_an_instances_ids_do_not_depend_on_what_others_send_meanwhile(start: Start) -> None:
    alone, crowded = start(), start()
    expected = [alone.text("ana", BIA).json()["key"]["id"] for _ in range(3)]
    seen = []
    for _ in range(3):
        crowded.text("bia", ANA)
        seen.append(crowded.text("ana", BIA).json()["key"]["id"])
    assert seen == expected


def test_the_outbox_holds_each_step_of_a_message_in_evolutions_words(sim: Sim) -> None:
    sent = sim.text("ana", BIA, "olá").json()
    sim.clock.forward(15)
    key = {"remoteJid": f"{ANA}@s.whatsapp.net", "fromMe": False, "id": sent["key"]["id"]}
    sim.evolution("POST", "/chat/markMessageAsRead/bia", {"readMessages": [key]})
    events = sim.events()
    assert [(e["instance"], e["event"], e["body"]["data"].get("status")) for e in events] == [
        ("ana", "send.message", "PENDING"),
        ("ana", "messages.update", "SERVER_ACK"),
        ("bia", "messages.upsert", "DELIVERY_ACK"),
        ("ana", "messages.update", "DELIVERY_ACK"),
        ("ana", "messages.update", "READ"),
    ]
    assert events[0]["body"]["data"] == sent
    update = events[1]["body"]
    assert update["data"]["keyId"] == sent["key"]["id"]
    assert set(update) == {
        *("event", "instance", "data", "destination", "date_time", "sender", "server_url", "apikey")
    }
    upsert = events[2]["body"]["data"]
    assert (upsert["key"], upsert["message"]) == (
        {"id": sent["key"]["id"], "fromMe": False, "remoteJid": f"{ANA}@s.whatsapp.net"},
        {"conversation": "olá"},
    )


def test_the_outbox_tells_of_connections(sim: Sim) -> None:
    sim.evolution("POST", "/instance/restart/ana")
    sim.clock.forward(1)
    sim.evolution("DELETE", "/instance/logout/ana")
    sim.evolution("DELETE", "/instance/delete/ana")
    events = [(e["event"], e["body"]["data"]) for e in sim.events()]
    assert [name for name, _ in events] == [
        "connection.update",
        "connection.update",
        "connection.update",
        "logout.instance",
        "status.instance",
        "instance.delete",
    ]
    assert events[0][1] == {"instance": "ana", "state": "connecting", "statusReason": 200}
    assert events[1][1]["wuid"] == f"{ANA}@s.whatsapp.net"
    assert events[2][1] == {"instance": "ana", "state": "close", "statusReason": 401}
    assert events[3][1] is None
    assert events[4][1]["disconnectionReasonCode"] == 401


def test_the_outbox_stays_empty_for_instances_without_a_webhook(start: Start) -> None:
    sim = start()
    sim.text("ana", BIA)
    sim.clock.forward(15)
    assert sim.events() == []
    hook = {"enabled": True, "url": "http://127.0.0.1:1/hook", "events": []}
    sim.evolution("POST", "/webhook/set/ana", {"webhook": hook})
    sim.text("ana", BIA)
    sim.clock.forward(15)
    assert {e["instance"] for e in sim.events()} == {"ana"}
    assert sim.events()[0]["body"]["destination"] == "http://127.0.0.1:1/hook"


@pytest.mark.parametrize(
    ("route", "fields", "key"),
    [
        ("sendMedia", {"mediatype": "image", "media": "https://example.com/a.png"}, "image"),
        ("sendMedia", {"mediatype": "document", "media": "https://example.com/a.pdf"}, "document"),
        ("sendWhatsAppAudio", {"audio": "https://example.com/a.ogg"}, "audio"),
    ],
)
def test_zapi_announces_received_media_by_its_kind(
    sim: Sim, route: str, fields: dict[str, str], key: str
) -> None:
    assert sim.evolution("POST", f"/message/{route}/ana", {"number": CAU, **fields}).status_code == 201
    sim.clock.forward(15)
    received = [e["body"] for e in sim.events() if e["event"] == "ReceivedCallback"]
    assert key in received[0]
    assert "text" not in received[0]


def test_zapi_announces_a_reaction_with_what_it_is_about(sim: Sim) -> None:
    key = {"id": "3A00", "remoteJid": f"{CAU}@s.whatsapp.net", "fromMe": False}
    sim.evolution("POST", "/message/sendReaction/ana", {"key": key, "reaction": "👍"})
    sim.clock.forward(15)
    body = next(e["body"] for e in sim.events() if e["event"] == "ReceivedCallback")
    assert (body["reaction"]["value"], body["reaction"]["referencedMessage"]["messageId"]) == ("👍", "3A00")


def test_a_sender_with_a_privacy_id_is_announced_under_it(sim: Sim) -> None:
    sim.declare(redeclared("ana", lid="987654"))
    sim.text("ana", CAU)
    sim.clock.forward(15)
    body = next(e["body"] for e in sim.events() if e["event"] == "ReceivedCallback")
    assert (body["phone"], body["chatLid"]) == ("987654@lid", "987654@lid")
