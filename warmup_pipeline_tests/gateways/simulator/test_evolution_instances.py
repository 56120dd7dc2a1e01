"""Evolution's instance and webhook routes through a real socket, against the contract's bodies.

Trap guarded: an HTTP 200 that means nothing (restart, connect), and a state that is nested or missing.
"""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from warmup_pipeline.domain.values import Provider
from warmup_pipeline.gateways.simulator import SimulatedInstance

from .conftest import ANA, CLIENT_TOKEN, GLOBAL_KEY, Sim, Start, redeclared

UNAUTHORIZED = {"status": 401, "error": "Unauthorized", "response": {"message": "Unauthorized"}}
LIE = {"error": True, "message": "[object Object]"}


def test_the_state_is_nested_under_instance(sim: Sim) -> None:
    answer = sim.evolution("GET", "/instance/connectionState/ana")
    assert answer.status_code == 200
    assert answer.json() == {"instance": {"instanceName": "ana", "state": "open"}}


def test_an_instance_that_is_only_in_the_database_has_no_state(sim: Sim) -> None:
    sim.declare(redeclared("ana", loaded=False))
    answer = sim.evolution("GET", "/instance/connectionState/ana")
    assert (answer.status_code, answer.json()) == (200, {"instance": {"instanceName": "ana"}})


@pytest.mark.parametrize("headers", [{}, {"apikey": "wrong"}, {"Authorization": f"Bearer {GLOBAL_KEY}"}])
def test_a_missing_and_a_wrong_key_get_the_same_401(sim: Sim, headers: dict[str, str]) -> None:
    answer = sim.http.get("/instance/connectionState/ana", headers=headers)
    assert (answer.status_code, answer.json()) == (401, UNAUTHORIZED)


def test_an_instance_token_opens_its_own_instance_only(sim: Sim) -> None:
    own = sim.http.get("/instance/connectionState/ana", headers={"ApiKey": "ana-token"})
    other = sim.http.get("/instance/connectionState/bia", headers={"apikey": "ana-token"})
    assert (own.status_code, other.status_code) == (200, 401)


def test_without_a_global_key_an_empty_key_opens_nothing(start: Start) -> None:
    sim = start(evolution_key="")
    answer = sim.http.get("/instance/connectionState/ana", headers={"apikey": ""})
    assert answer.status_code == 401


def test_an_unknown_instance_is_404_even_without_a_key(sim: Sim) -> None:
    answer = sim.http.get("/instance/connectionState/nope")
    assert (answer.status_code, answer.json()) == (
        404,
        {
            "status": 404,
            "error": "Not Found",
            "response": {"message": ['The "nope" instance does not exist']},
        },
    )


def test_malformed_json_is_400_before_everything(sim: Sim) -> None:
    answer = sim.http.post(
        "/message/sendText/nope", content=b"{nope}", headers={"Content-Type": "application/json"}
    )
    assert answer.status_code == 400
    assert answer.json() == {
        "status": 400,
        "error": "Internal Server Error",
        "response": {"message": "Expected property name or '}' in JSON at position 1"},
    }


def test_a_wrong_key_is_refused_before_the_body_is_looked_at(sim: Sim) -> None:
    assert sim.http.post("/message/sendText/ana", json={}, headers={"apikey": "no"}).status_code == 401


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/message/sendText/ana"),
        ("PUT", "/instance/restart/ana"),
        ("GET", "/instance/fetchInstances/ana"),
        ("GET", "/nothing/here"),
        ("POST", "/message/sendText/"),
    ],
)
def test_an_unknown_route_or_method_is_404_naming_it(sim: Sim, method: str, path: str) -> None:
    answer = sim.evolution(method, path)
    assert answer.status_code == 404
    assert answer.json()["response"]["message"] == [f"Cannot {method} {path}"]


def test_an_instance_name_in_the_query_makes_the_handler_act_on_another_instance(sim: Sim) -> None:
    answer = sim.http.get("/instance/connectionState/ana?instanceName=bia", headers={"apikey": "ana-token"})
    assert answer.json()["instance"]["instanceName"] == "bia"
    ghost = sim.evolution("GET", "/instance/connectionState/ana?instanceName=nope")
    assert ghost.json() == {"instance": {"instanceName": "nope"}}


def test_fetch_instances_lists_flat_rows_with_the_owners_jid(sim: Sim) -> None:
    answer = sim.evolution("GET", "/instance/fetchInstances")
    rows = answer.json()
    assert [row["name"] for row in rows] == ["ana", "bia", "dra"]
    assert set(rows[0]) == {
        "id",
        "name",
        "connectionStatus",
        "ownerJid",
        "profileName",
        "profilePicUrl",
        "integration",
        "number",
        "businessId",
        "token",
        "clientName",
        "disconnectionReasonCode",
        "disconnectionObject",
        "disconnectionAt",
        "createdAt",
        "updatedAt",
        "Chatwoot",
        "Proxy",
        "Rabbitmq",
        "Nats",
        "Sqs",
        "Websocket",
        "Setting",
        "_count",
    }
    assert rows[0]["ownerJid"] == f"{ANA}@s.whatsapp.net"
    assert rows[0]["createdAt"] == "2026-02-20T11:00:00.000Z"
    assert rows[2]["ownerJid"] == "558587654321@s.whatsapp.net"


def test_fetch_instances_with_an_instance_token_lists_that_one(sim: Sim) -> None:
    rows = sim.http.get("/instance/fetchInstances", headers={"apikey": "bia-token"}).json()
    assert [row["name"] for row in rows] == ["bia"]


def test_fetch_instances_words_an_unknown_name_in_its_own_way(sim: Sim) -> None:
    answer = sim.evolution("GET", "/instance/fetchInstances?instanceName=nope")
    assert answer.status_code == 404
    assert answer.json()["response"]["message"] == ['Instance "nope" not found']


def test_fetch_instances_filters_by_id_and_number(sim: Sim) -> None:
    rows = sim.evolution("GET", "/instance/fetchInstances").json()
    by_id = sim.evolution("GET", f"/instance/fetchInstances?instanceId={rows[1]['id']}").json()
    by_number = sim.evolution("GET", f"/instance/fetchInstances?number={ANA}").json()
    assert ([r["name"] for r in by_id], [r["name"] for r in by_number]) == (["bia"], ["ana"])


def test_an_unloaded_instance_is_listed_but_not_found_by_name(sim: Sim) -> None:
    sim.declare(redeclared("ana", loaded=False))
    listed = sim.evolution("GET", "/instance/fetchInstances").json()
    named = sim.evolution("GET", "/instance/fetchInstances?instanceName=ana")
    assert "ana" in [row["name"] for row in listed]
    assert named.status_code == 404


@pytest.mark.parametrize("key", ["", "wrong", "cau-token"])
def test_fetch_instances_refuses_any_other_key(sim: Sim, key: str) -> None:
    assert sim.http.get("/instance/fetchInstances", headers={"apikey": key}).status_code == 401


def test_restarting_a_closed_instance_answers_200_and_does_nothing(sim: Sim) -> None:
    sim.declare(redeclared("ana", state="close"))
    answer = sim.evolution("POST", "/instance/restart/ana")
    sim.clock.forward(60)
    assert (answer.status_code, answer.json(), sim.state("ana")) == (200, LIE, "close")


def test_restarting_an_open_instance_answers_the_old_state_and_reconnects(sim: Sim) -> None:
    answer = sim.evolution("POST", "/instance/restart/ana")
    assert answer.json() == {"instance": {"instanceName": "ana", "state": "open"}}
    assert sim.state("ana") == "connecting"
    sim.clock.forward(1)
    assert sim.state("ana") == "open"


def test_restarting_a_connecting_instance_answers_the_qr_object(sim: Sim) -> None:
    sim.declare(redeclared("ana", state="connecting"))
    assert sim.evolution("POST", "/instance/restart/ana").json() == {"count": 0}


@pytest.mark.parametrize(("method", "route"), [("POST", "restart"), ("GET", "connect")])
def test_an_unloaded_instance_cannot_be_revived(sim: Sim, method: str, route: str) -> None:
    sim.declare(redeclared("ana", loaded=False))
    answer = sim.evolution(method, f"/instance/{route}/ana")
    assert (answer.status_code, answer.json()) == (200, LIE)


def test_connect_brings_a_paired_closed_instance_back(sim: Sim) -> None:
    sim.declare(redeclared("ana", state="close"))
    assert sim.evolution("GET", "/instance/connect/ana").json() == {"count": 0}
    assert sim.state("ana") == "connecting"
    sim.clock.forward(1)
    assert sim.state("ana") == "open"
    assert sim.evolution("GET", "/instance/connect/ana").json() == {
        "instance": {"instanceName": "ana", "state": "open"}
    }


def test_connect_shows_a_qr_code_to_an_unpaired_instance_and_it_stays_so(sim: Sim) -> None:
    sim.declare(redeclared("ana", state="close", needs_qr=True))
    shown = sim.evolution("GET", "/instance/connect/ana").json()
    assert set(shown) == {"pairingCode", "code", "base64", "count"}
    assert shown["count"] == 1
    assert shown["pairingCode"] is None
    assert shown["base64"].startswith("data:image/png;base64,iVBOR")
    sim.clock.forward(45)
    assert sim.evolution("GET", "/instance/connect/ana").json()["count"] == 2
    paired = sim.evolution("GET", "/instance/connect/ana?number=5511900000121").json()
    assert len(paired["pairingCode"]) == 8
    assert sim.state("ana") == "connecting"


def test_a_qr_code_nobody_scans_ends_the_attempt(sim: Sim) -> None:
    sim.declare(redeclared("ana", state="close", needs_qr=True))
    sim.evolution("GET", "/instance/connect/ana")
    sim.clock.forward(45 * 31)
    assert sim.state("ana") == "close"


def test_scanning_the_qr_code_opens_the_session(sim: Sim) -> None:
    sim.declare(redeclared("ana", state="close", needs_qr=True))
    sim.evolution("GET", "/instance/connect/ana")
    answer = sim.http.post("/_sim/scan", json={"provider": "evolution", "instance": "ana"})
    assert (answer.status_code, sim.state("ana")) == (200, "open")


def test_the_database_keeps_saying_open_through_a_transient_drop(sim: Sim) -> None:
    sim.declare(redeclared("ana", state="close"))
    row = sim.evolution("GET", "/instance/fetchInstances?instanceName=ana").json()[0]
    assert (sim.state("ana"), row["connectionStatus"]) == ("close", "open")


def test_logout_closes_for_good_and_says_so_in_the_row(sim: Sim) -> None:
    answer = sim.evolution("DELETE", "/instance/logout/ana")
    assert answer.json() == {
        "status": "SUCCESS",
        "error": False,
        "response": {"message": "Instance logged out"},
    }
    row = sim.evolution("GET", "/instance/fetchInstances?instanceName=ana").json()[0]
    assert (row["connectionStatus"], row["disconnectionReasonCode"]) == ("close", 401)
    assert isinstance(row["disconnectionObject"], str)
    assert row["ownerJid"] == f"{ANA}@s.whatsapp.net"
    again = sim.evolution("DELETE", "/instance/logout/ana")
    assert again.status_code == 400
    assert again.json()["response"]["message"] == ['The "ana" instance is not connected']
    assert sim.evolution("GET", "/instance/connect/ana").json()["count"] == 1


def test_create_delete_and_create_again(sim: Sim) -> None:
    body = {
        "instanceName": "eva",
        "integration": "WHATSAPP-BAILEYS",
        "token": "EVA-TOKEN",
        "webhook": {"url": "http://127.0.0.1:1/hook", "events": []},
    }
    created = sim.evolution("POST", "/instance/create", body)
    assert created.status_code == 201
    document = created.json()
    assert document["hash"] == "EVA-TOKEN"
    assert document["instance"]["status"] == "close"
    assert document["webhook"] == {
        "webhookUrl": "http://127.0.0.1:1/hook",
        "webhookByEvents": False,
        "webhookBase64": False,
    }
    row = sim.evolution("GET", "/instance/fetchInstances?instanceName=eva").json()[0]
    assert (row["ownerJid"], row["profileName"]) == (None, None)
    taken = sim.http.post("/instance/create", json=body)
    assert (taken.status_code, taken.json()["response"]["message"]) == (
        403,
        ['This name "eva" is already in use.'],
    )
    deleted = sim.evolution("DELETE", "/instance/delete/eva")
    assert deleted.json()["response"] == {"message": "Instance deleted"}
    assert sim.evolution("GET", "/instance/connectionState/eva").status_code == 404
    assert sim.evolution("POST", "/instance/create", body).status_code == 201


def test_create_with_qrcode_brings_the_code(sim: Sim) -> None:
    body = {"instanceName": "eva", "integration": "WHATSAPP-BAILEYS", "qrcode": True}
    document = sim.evolution("POST", "/instance/create", body).json()
    assert document["qrcode"]["count"] == 1
    assert document["hash"] == document["hash"].upper()
    assert sim.state("eva") == "connecting"


@pytest.mark.parametrize(
    ("body", "status", "message"),
    [
        ({"instanceName": "eva"}, 400, ["Invalid integration"]),
        ({"instanceName": "eva", "integration": "SMOKE"}, 400, ["Invalid integration"]),
        ({"instanceName": 5, "integration": "EVOLUTION"}, 400, [["instanceName is not of a type(s) string"]]),
        ({"instanceName": "eva", "integration": "EVOLUTION", "number": "+55"}, 400, [["Invalid format"]]),
        (
            {"instanceName": "eva", "integration": "EVOLUTION", "webhook": {"url": "http://x.y"}},
            400,
            ["Cannot read properties of undefined (reading 'length')"],
        ),
    ],
)
def test_create_refuses_what_the_real_server_refuses(
    sim: Sim, body: dict[str, Any], status: int, message: list[Any]
) -> None:
    answer = sim.evolution("POST", "/instance/create", body)
    assert (answer.status_code, answer.json()["response"]["message"]) == (status, message)
    assert sim.evolution("GET", "/instance/connectionState/eva").status_code == 404


def test_create_wants_the_global_key(sim: Sim) -> None:
    body = {"instanceName": "eva", "integration": "EVOLUTION"}
    assert sim.http.post("/instance/create", json=body, headers={"apikey": "ana-token"}).status_code == 401


def test_a_webhook_is_stored_and_found(sim: Sim) -> None:
    assert sim.evolution("GET", "/webhook/find/ana").json() is None
    hook = {"enabled": True, "url": "http://127.0.0.1:1/hook", "events": ["MESSAGES_UPDATE"]}
    stored = sim.evolution("POST", "/webhook/set/ana", {"webhook": hook})
    assert stored.status_code == 201
    assert set(stored.json()) == {
        *("id", "url", "headers", "enabled", "events"),
        *("webhookByEvents", "webhookBase64", "createdAt", "updatedAt", "instanceId"),
    }
    assert sim.evolution("GET", "/webhook/find/ana").json() == stored.json()


def test_a_webhook_without_its_wrapper_or_events_is_refused(sim: Sim) -> None:
    bare = sim.evolution("POST", "/webhook/set/ana", {"enabled": True, "url": "http://x.y"})
    assert (bare.status_code, bare.json()["response"]["message"]) == (
        400,
        [['instance requires property "webhook"']],
    )
    eventless = sim.evolution("POST", "/webhook/set/ana", {"webhook": {"enabled": True, "url": "http://x.y"}})
    assert (eventless.status_code, eventless.json()["response"]["message"]) == (
        500,
        "Cannot read properties of undefined (reading 'length')",
    )


def test_both_gateways_share_one_port(sim: Sim) -> None:
    with httpx.Client(base_url=sim.running.base_url) as client:
        evolution = client.get("/instance/connectionState/ana", headers={"apikey": GLOBAL_KEY})
        zapi = client.get("/instances/CAU/token/cau-token/status", headers={"Client-Token": CLIENT_TOKEN})
    assert (evolution.status_code, zapi.status_code) == (200, 200)


def test_a_declared_instance_keeps_its_state_when_declared_again(sim: Sim) -> None:
    sim.declare(redeclared("ana", state="close"))
    sim.declare(redeclared("ana", token="new-token"), overwrite=False)
    assert sim.state("ana") == "close"
    answer = sim.http.get("/instance/connectionState/ana", headers={"apikey": "new-token"})
    assert answer.status_code == 200


def test_an_evolution_and_a_zapi_instance_may_share_a_name(sim: Sim) -> None:
    twin = SimulatedInstance(provider=Provider.Z_API, name="ana", phone="5511900009999", token="ana-token")
    sim.declare(twin)
    assert sim.zapi("GET", "status", instance="ana").json()["connected"] is True
    assert sim.state("ana") == "open"
