"""Every fault through a real socket, with what the simulator really did behind it.

Trap guarded: a fault whose message was (or was not) accepted otherwise than the test believes.
"""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest

from .conftest import ANA, BIA, CAU, Sim, Start

CLOSED = "Connection Closed"


def texts_of(sim: Sim) -> int:
    return len(sim.messages())


def test_a_status_refuses_without_accepting(sim: Sim) -> None:
    sim.faults({"kind": "status", "code": 503, "match": {"route": "text"}})
    answer = sim.text("ana", BIA)
    assert (answer.status_code, answer.json()["status"], texts_of(sim)) == (503, 503, 0)
    assert sim.text("CAU", BIA).json() == {"error": "Error 503"}


def test_a_429_may_say_when_to_come_back(sim: Sim) -> None:
    sim.faults({"kind": "status", "code": 429, "retry_after": 7})
    for answer in (sim.text("ana", BIA), sim.text("CAU", BIA)):
        assert (answer.status_code, answer.headers["Retry-After"]) == (429, "7")
    sim.faults({"kind": "status", "code": 429})
    assert "Retry-After" not in sim.text("ana", BIA).headers


@pytest.mark.parametrize(
    ("name", "status", "message"),
    [
        ("restriction", 400, ["Error: this account has been restricted"]),
        ("connection_closed_500_string", 500, CLOSED),
        ("connection_closed_400_array", 400, [f"Error: {CLOSED}"]),
        ("connection_closed_500_array", 500, [f"Error: {CLOSED}"]),
        ("rate_overlimit", 400, ["Error: rate-overlimit"]),
        ("validation", 400, [['instance requires property "text"']]),
        (
            "not_on_whatsapp",
            400,
            [{"jid": f"{BIA}@s.whatsapp.net", "exists": False, "number": BIA}],
        ),
        ("unauthorized", 401, "Unauthorized"),
        ("instance_not_found", 404, ['The "ana" instance does not exist']),
    ],
)
def test_evolution_words_each_named_failure(sim: Sim, name: str, status: int, message: Any) -> None:
    sim.faults({"kind": "status", "body": name})
    answer = sim.text("ana", BIA)
    assert (answer.status_code, answer.json()["response"]["message"]) == (status, message)
    assert texts_of(sim) == 0


@pytest.mark.parametrize(
    ("name", "status", "error"),
    [
        ("restriction", 400, "The message was not sent due to a likely shadow ban"),
        ("connection_closed_500_string", 500, "You are not connected"),
        ("connection_closed_400_array", 400, "You need to be connected"),
        ("connection_closed_500_array", 500, "You need to restore the session"),
        ("rate_overlimit", 400, "rate-overlimit"),
        ("validation", 400, "Message has not been sent because it got invalid request params."),
        ("not_on_whatsapp", 400, "Phone number does not exist"),
        ("unauthorized", 403, "Client-Token client-token-91ab not allowed"),
        ("instance_not_found", 404, "Instance not found"),
    ],
)
def test_zapi_words_each_named_failure(sim: Sim, name: str, status: int, error: str) -> None:
    sim.faults({"kind": "status", "body": name})
    answer = sim.text("CAU", BIA)
    assert (answer.status_code, answer.json()["error"]) == (status, error)
    assert texts_of(sim) == 0


def test_a_body_of_ones_own_is_sent_as_it_is(sim: Sim) -> None:
    sim.faults({"kind": "status", "code": 418, "body": {"tea": True}})
    for answer in (sim.text("ana", BIA), sim.text("CAU", BIA)):
        assert (answer.status_code, answer.json()) == (418, {"tea": True})


def test_a_named_failure_may_come_with_another_status(sim: Sim) -> None:
    sim.faults({"kind": "status", "code": 500, "body": "rate_overlimit"})
    assert [sim.text(sender, BIA).status_code for sender in ("ana", "CAU")] == [500, 500]


def test_an_error_status_may_hide_an_accepted_message(sim: Sim) -> None:
    sim.faults({"kind": "status", "code": 500, "accepted": True})
    assert (sim.text("ana", BIA).status_code, texts_of(sim)) == (500, 1)


@pytest.mark.parametrize(("kind", "accepted"), [("reset_before", 0), ("reset_after", 1)])
@pytest.mark.parametrize("sender", ["ana", "CAU"])
def test_a_reset_breaks_the_connection_and_only_the_late_one_accepts(
    sim: Sim, kind: str, accepted: int, sender: str
) -> None:
    sim.faults({"kind": kind})
    with pytest.raises((httpx.ReadError, httpx.RemoteProtocolError)):
        sim.text(sender, BIA)
    assert texts_of(sim) == accepted


def test_a_reset_is_a_tcp_reset(sim: Sim) -> None:
    sim.faults({"kind": "reset_before"})
    with pytest.raises(httpx.ReadError) as caught:
        sim.text("ana", BIA)
    cause: BaseException | None = caught.value
    while cause is not None and not isinstance(cause, ConnectionResetError):
        cause = cause.__cause__ or cause.__context__
    assert isinstance(cause, ConnectionResetError)


@pytest.mark.parametrize(("accepted", "rows"), [(None, 0), (True, 1)])
def test_a_hang_outlasts_a_client(sim: Sim, accepted: bool | None, rows: int) -> None:
    rule = {"kind": "hang", "seconds": 60}
    sim.faults(rule if accepted is None else {**rule, "accepted": accepted})
    with httpx.Client(base_url=sim.running.base_url, timeout=0.2) as hasty, pytest.raises(httpx.ReadTimeout):
        hasty.post(
            "/message/sendText/ana", json={"number": BIA, "text": "oi"}, headers={"apikey": "ana-token"}
        )
    assert texts_of(sim) == rows


def test_a_hang_that_ends_answers_only_what_was_acted_on(sim: Sim) -> None:
    sim.faults({"kind": "hang", "seconds": 0.01, "accepted": True})
    assert sim.text("ana", BIA).status_code == 201
    sim.faults({"kind": "hang", "seconds": 0.01})
    with pytest.raises((httpx.ReadError, httpx.RemoteProtocolError)):
        sim.text("ana", BIA)
    assert texts_of(sim) == 1


@pytest.mark.parametrize("sender", ["ana", "CAU"])
def test_malformed_json_is_announced_as_json(sim: Sim, sender: str) -> None:
    sim.faults({"kind": "malformed_json"})
    answer = sim.text(sender, BIA)
    assert answer.headers["Content-Type"].startswith("application/json")
    with pytest.raises(json.JSONDecodeError):
        answer.json()
    assert (answer.is_success, texts_of(sim)) == (True, 1)


@pytest.mark.parametrize("sender", ["ana", "CAU"])
def test_a_wrong_content_type_is_a_page(sim: Sim, sender: str) -> None:
    sim.faults({"kind": "wrong_content_type"})
    answer = sim.text(sender, BIA)
    assert answer.headers["Content-Type"].startswith("text/html")
    assert (answer.is_success, texts_of(sim)) == (True, 1)


def test_a_huge_body_is_whole_json_of_that_size(sim: Sim) -> None:
    sim.faults({"kind": "huge_body", "bytes": 5_000_000})
    answer = sim.text("ana", BIA)
    assert len(answer.content) > 5_000_000
    assert answer.json()["key"]["fromMe"] is True
    listed = sim.evolution("GET", "/instance/fetchInstances")
    assert len(listed.content) > 5_000_000


def test_a_spoiled_answer_may_belong_to_a_request_that_was_not_acted_on(sim: Sim) -> None:
    sim.faults({"kind": "malformed_json", "accepted": False})
    sim.text("ana", BIA)
    assert texts_of(sim) == 0


def test_a_slow_drip_arrives_in_pieces(sim: Sim) -> None:
    sim.faults({"kind": "slow_drip", "bytes_per_second": 20_000, "match": {"route": "state"}})
    assert sim.state("ana") == "open"
    sim.faults({"kind": "slow_drip", "bytes_per_second": 10})
    with sim.http.stream("GET", "/instance/connectionState/ana", headers={"apikey": "ana-token"}) as answer:
        first = next(answer.iter_raw())
    assert 0 < len(first) < int(answer.headers["Content-Length"])


@pytest.mark.parametrize("size", [1, 30])
def test_a_truncated_answer_ends_before_its_length(sim: Sim, size: int) -> None:
    sim.faults({"kind": "truncated", "bytes": size})
    with pytest.raises(httpx.RemoteProtocolError):
        sim.text("ana", BIA)
    assert texts_of(sim) == 1


def test_a_success_that_carries_an_error_accepts_nothing(sim: Sim) -> None:
    sim.faults({"kind": "ok_with_error"})
    evolution, zapi = sim.text("ana", BIA), sim.text("CAU", BIA)
    assert (evolution.status_code, evolution.json()["error"]) == (201, True)
    assert (zapi.status_code, "messageId" in zapi.json(), bool(zapi.json()["error"])) == (200, False, True)
    state = sim.evolution("GET", "/instance/connectionState/ana")
    assert (state.status_code, state.json()["error"]) == (200, True)
    assert texts_of(sim) == 0
    sim.faults({"kind": "ok_with_error", "code": 202})
    assert sim.text("ana", BIA).status_code == 202


def test_latency_adds_up_over_rules_and_holds_only_the_answer(start: Start) -> None:
    from warmup_pipeline.gateways.simulator import Request

    sim = start(latency_ms=5)
    sim.faults({"kind": "latency", "ms": 20}, {"kind": "latency", "ms": 7}, {"kind": "status", "code": 500})
    headers = {"apikey": "ana-token"}
    reply = sim.running.core.handle(Request("GET", "/instance/connectionState/ana", {}, headers))
    assert (reply.status, reply.wire.delay_ms) == (500, 32)
    assert sim.text("ana", BIA).status_code == 500


def test_a_dropped_session_is_found_closed_and_can_be_brought_back(sim: Sim) -> None:
    sim.faults({"kind": "disconnected", "times": 1, "match": {"instance": "ana"}})
    assert (sim.state("ana"), sim.state("bia")) == ("close", "open")
    sim.evolution("GET", "/instance/connect/ana")
    sim.clock.forward(1)
    assert sim.state("ana") == "open"


def test_a_session_that_keeps_dropping_is_never_found_open(sim: Sim) -> None:
    sim.faults({"kind": "disconnected", "match": {"instance": ["ana", "CAU"]}})
    for _ in range(3):
        assert sim.state("ana") == "close"
        assert sim.zapi("GET", "status").json()["connected"] is False
        sim.evolution("GET", "/instance/connect/ana")
        sim.zapi("GET", "restart")
        sim.clock.forward(60)


def test_a_lost_message_is_accepted_and_never_arrives(sim: Sim) -> None:
    sim.faults({"kind": "lost"})
    assert [sim.text("ana", BIA).status_code, sim.text("CAU", BIA).status_code] == [201, 200]
    sim.clock.forward(3600)
    assert [(row["state"], row["lost"]) for row in sim.messages()] == [("accepted", True)] * 2


ROUTES: list[tuple[str, Any]] = [
    ("state", lambda sim: sim.evolution("GET", "/instance/connectionState/ana")),
    ("state", lambda sim: sim.zapi("GET", "status")),
    ("text", lambda sim: sim.text("ana", BIA)),
    ("text", lambda sim: sim.text("CAU", BIA)),
    ("media", lambda sim: sim.evolution("POST", "/message/sendMedia/ana", {})),
    ("media", lambda sim: sim.zapi("POST", "send-image", {})),
    ("audio", lambda sim: sim.evolution("POST", "/message/sendWhatsAppAudio/ana", {})),
    ("audio", lambda sim: sim.zapi("POST", "send-audio", {})),
    ("read", lambda sim: sim.evolution("POST", "/chat/markMessageAsRead/ana", {})),
    ("read", lambda sim: sim.zapi("POST", "read-message", {})),
    ("restart", lambda sim: sim.evolution("POST", "/instance/restart/ana")),
    ("restart", lambda sim: sim.zapi("GET", "restart")),
    ("connect", lambda sim: sim.evolution("GET", "/instance/connect/ana")),
    ("connect", lambda sim: sim.zapi("GET", "qr-code")),
    ("other", lambda sim: sim.evolution("POST", "/chat/findMessages/ana", {})),
    ("other", lambda sim: sim.zapi("GET", "me")),
]


@pytest.mark.parametrize("struck", ["state", "text", "media", "audio", "read", "restart", "connect"])
def test_a_rule_strikes_its_route_and_no_other_on_both_gateways(sim: Sim, struck: str) -> None:
    sim.faults({"kind": "status", "code": 599, "match": {"route": struck}})
    assert [route for route, ask in ROUTES if ask(sim).status_code == 599] == [struck] * 2


def test_any_send_is_text_media_and_audio(sim: Sim) -> None:
    sim.faults({"kind": "status", "code": 599, "match": {"route": "any-send", "provider": "z-api"}})
    assert [r for r, ask in ROUTES if ask(sim).status_code == 599] == ["text", "media", "audio"]


def test_several_routes_may_be_named(sim: Sim) -> None:
    sim.faults({"kind": "status", "code": 599, "match": {"route": ["read", "state"], "instance": "ana"}})
    assert [r for r, ask in ROUTES if ask(sim).status_code == 599] == ["state", "read"]


def test_a_rule_stops_after_its_times(sim: Sim) -> None:
    sim.faults({"kind": "status", "code": 500, "times": 2})
    assert [sim.text(s, BIA).status_code for s in ("ana", "CAU", "ana", "CAU")] == [500, 500, 201, 200]
    rules = sim.http.get("/_sim/faults").json()["rules"]
    assert rules[0]["hits"] == 2


def test_chances_repeat_with_the_seed_and_do_not_depend_on_other_instances(start: Start) -> None:
    def struck(sim: Sim, others: bool) -> list[int]:
        sim.faults({"kind": "status", "code": 500, "probability": 0.5})
        outcomes = []
        for _ in range(40):
            if others:
                sim.evolution("GET", "/instance/connectionState/bia")
            outcomes.append(sim.evolution("GET", "/instance/connectionState/ana").status_code)
        return outcomes

    alone, crowded, reseeded = start(seed=1), start(seed=1), start(seed=2)
    expected = struck(alone, others=False)
    assert struck(crowded, others=True) == expected
    assert struck(reseeded, others=False) != expected
    assert 5 < expected.count(500) < 35


def test_a_third_of_requests_is_about_a_third(sim: Sim) -> None:
    sim.faults({"kind": "status", "code": 500, "probability": 1 / 3, "match": {"route": "state"}})
    hits = sum(sim.evolution("GET", "/instance/connectionState/ana").status_code == 500 for _ in range(300))
    assert 70 < hits < 130


def test_the_first_rule_that_strikes_decides_the_answer(sim: Sim) -> None:
    sim.faults(
        {"kind": "status", "code": 500, "times": 1},
        {"kind": "status", "code": 503, "times": 1},
    )
    assert [sim.text("ana", BIA).status_code for _ in range(3)] == [500, 503, 201]


def test_rules_are_replaced_added_to_and_cleared(sim: Sim) -> None:
    def count() -> int:
        return len(sim.http.get("/_sim/faults").json()["rules"])

    sim.faults({"kind": "status", "code": 500})
    sim.http.post("/_sim/faults", json={"add": [{"kind": "latency", "ms": 1}]})
    assert count() == 2
    sim.faults({"kind": "status", "code": 503})
    assert count() == 1
    sim.faults()
    assert (count(), sim.text("ana", BIA).status_code) == (0, 201)
    sim.http.post("/_sim/faults", json={"rules": [{"kind": "status", "code": 500}]})
    assert sim.http.delete("/_sim/faults").json() == {"rules": []}
    assert sim.text("CAU", ANA).status_code == 200


@pytest.mark.parametrize(
    "document",
    [
        [{"kind": "explode"}],
        [{"kind": "status"}],
        [{"kind": "status", "code": 99}],
        [{"kind": "status", "code": 500, "probability": 1.5}],
        [{"kind": "status", "code": 500, "times": 0}],
        [{"kind": "status", "code": 500, "match": {"route": "nowhere"}}],
        [{"kind": "status", "code": 500, "match": {"provider": "carrier-pigeon"}}],
        [{"kind": "status", "code": 500, "surprise": 1}],
        [{"kind": "reset_before", "accepted": True}],
        {"rules": [], "add": []},
        {},
        "faults",
    ],
)
def test_a_rule_that_is_none_is_refused_and_changes_nothing(sim: Sim, document: Any) -> None:
    sim.faults({"kind": "status", "code": 503})
    answer = sim.http.post("/_sim/faults", json=document)
    assert answer.status_code == 400
    assert answer.json()["error"]
    assert sim.text("ana", CAU).status_code == 503


def test_faults_do_not_touch_the_control_routes(sim: Sim) -> None:
    sim.faults({"kind": "reset_before"})
    assert sim.http.get("/_sim/health").status_code == 200
