"""Evolution's routes as a warm-up uses them: the same cases against the simulator or a real server."""

from __future__ import annotations

import base64
from typing import Any

import httpx
import pytest

from warmup_pipeline.warmup.library import load_library
from warmup_pipeline_tests.contract import observed
from warmup_pipeline_tests.contract.conftest import Target, lost_instance
from warmup_pipeline_tests.contract.observed import differences

MEDIA = load_library().media
PICTURE = next(base64.b64encode(f.data).decode() for f in MEDIA.values() if f.mime == "image/jpeg")
AUDIO = next(base64.b64encode(f.data).decode() for f in MEDIA.values() if f.mime == "audio/ogg")


def same(answer: httpx.Response, status: int, body: Any) -> Any:
    assert answer.status_code == status, answer.text
    document = answer.json()
    assert differences(document, body) == []
    return document


def test_a_wrong_key_and_none_are_answered_alike(evolution: Target) -> None:
    evolution.needs("open")
    for headers in ({"apikey": "wrong"}, {"apikey": ""}):
        found = same(
            evolution.ask("GET", "/instance/connectionState/{open}", headers=headers),
            401,
            observed.UNAUTHORIZED,
        )
        assert found == observed.UNAUTHORIZED


def test_an_unknown_instance_is_told_before_the_key_is_looked_at(evolution: Target) -> None:
    for headers in ({}, {"apikey": "wrong"}):
        answer = evolution.ask("GET", "/instance/connectionState/nope", headers=headers)
        assert same(answer, 404, observed.NO_INSTANCE) == observed.NO_INSTANCE


def test_malformed_json_comes_before_everything(evolution: Target) -> None:
    answer = httpx.post(
        f"{evolution.url}/message/sendText/nope",
        content=b"{x",
        headers={"Content-Type": "application/json", "apikey": "wrong"},
        timeout=30,
    )
    same(answer, 400, observed.MALFORMED)


def test_the_state_is_nested(evolution: Target) -> None:
    evolution.needs("open")
    document = same(evolution.ask("GET", "/instance/connectionState/{open}"), 200, observed.STATE)
    assert document["instance"] == {"instanceName": evolution.open, "state": "open"}


def test_an_instance_is_listed_flat_with_its_owner(evolution: Target) -> None:
    evolution.needs("open")
    answer = evolution.ask("GET", f"/instance/fetchInstances?instanceName={evolution.open}")
    (row,) = same(answer, 200, [observed.INSTANCE])
    assert row["name"] == evolution.open
    assert row["ownerJid"].endswith("@s.whatsapp.net")


def test_a_closed_instance_cannot_be_restarted_although_the_answer_is_200(evolution: Target) -> None:
    evolution.needs("closed")
    if evolution.simulator is not None:
        # Another case may have asked for its QR code: that began to connect it.
        evolution.simulator.core.declare([lost_instance(evolution.closed)], overwrite=True)
    elif (
        evolution.ask("GET", "/instance/connectionState/{closed}").json()["instance"].get("state") != "close"
    ):
        pytest.skip("the instance is not closed any more: another case asked for its QR code")
    same(evolution.ask("POST", "/instance/restart/{closed}"), 200, observed.RESTART_REFUSED)


def test_connecting_a_logged_out_instance_shows_a_qr_code(evolution: Target) -> None:
    evolution.needs("closed")
    document: dict[str, Any] = {}
    for _ in range(5):
        document = evolution.ask("GET", "/instance/connect/{closed}").json()
        if document.get("code"):
            break
    assert differences(document, observed.QR) == []
    assert document["base64"].startswith("data:image/png;base64,iVBOR")


def test_a_pairing_code_is_asked_for_with_the_number(evolution: Target) -> None:
    evolution.needs("closed", "own_phone")
    evolution.ask("GET", "/instance/connect/{closed}")
    document = evolution.ask("GET", f"/instance/connect/{{closed}}?number={evolution.own_phone}").json()
    assert differences(document, observed.PAIRING) == []


def test_connecting_an_open_instance_is_its_state(evolution: Target) -> None:
    evolution.needs("open")
    same(evolution.ask("GET", "/instance/connect/{open}"), 200, observed.STATE)


SENDS = {
    "text": ("/message/sendText/{open}", {"text": "Olá, tudo bem?"}, observed.SENT_TEXT),
    "picture": (
        "/message/sendMedia/{open}",
        {"mediatype": "image", "media": PICTURE, "caption": "olha"},
        observed.SENT_PICTURE,
    ),
    "audio": ("/message/sendWhatsAppAudio/{open}", {"audio": AUDIO}, observed.SENT_AUDIO),
}


@pytest.mark.parametrize("kind", SENDS)
def test_what_is_sent_is_answered_with_201_pending_and_an_id(evolution: Target, kind: str) -> None:
    evolution.needs("open", "to")
    path, body, expected = SENDS[kind]
    document = same(evolution.ask("POST", path, {"number": evolution.to, **body}), 201, expected)
    assert document["status"] == "PENDING"
    assert document["key"]["id"].startswith("3EB0")


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/message/sendText/{open}", {"text": "x"}),
        ("/message/sendText/{open}", {"number": 5511, "text": "x"}),
        ("/message/sendMedia/{open}", {"number": "5511", "mediatype": "pdf"}),
        ("/chat/markMessageAsRead/{open}", {"readMessages": []}),
        ("/chat/markMessageAsRead/{open}", {"read_messages": [{}]}),
        ("/webhook/set/{open}", {"url": "http://127.0.0.1:1"}),
    ],
)
def test_a_violated_schema_is_a_list_in_a_list(evolution: Target, path: str, body: Any) -> None:
    evolution.needs("open")
    same(evolution.ask("POST", path, body), 400, observed.INVALID)


@pytest.mark.parametrize("media", [f"data:image/jpeg;base64,{PICTURE}", "http://localhost:9/a.png"])
def test_a_data_uri_and_a_host_without_a_dot_are_no_media(evolution: Target, media: str) -> None:
    evolution.needs("open", "to")
    answer = evolution.ask(
        "POST", "/message/sendMedia/{open}", {"number": evolution.to, "mediatype": "image", "media": media}
    )
    assert (answer.status_code, answer.json()["response"]["message"]) == (
        400,
        ["Owned media must be a url or base64"],
    )


def test_audio_under_the_name_of_media_is_refused(evolution: Target) -> None:
    evolution.needs("open", "to")
    answer = evolution.ask(
        "POST", "/message/sendWhatsAppAudio/{open}", {"number": evolution.to, "media": AUDIO}
    )
    assert answer.status_code == 400


def test_a_number_that_is_not_on_whatsapp_is_an_object_in_a_list(evolution: Target) -> None:
    evolution.needs("open")
    answer = evolution.ask("POST", "/message/sendText/{open}", {"number": "5511900000000", "text": "x"})
    same(answer, 400, observed.NOT_ON_WHATSAPP)


def test_numbers_are_looked_up_and_echoed(evolution: Target) -> None:
    evolution.needs("open", "to")
    asked = [evolution.to, "5511900000000"]
    found = same(
        evolution.ask("POST", "/chat/whatsappNumbers/{open}", {"numbers": asked}), 200, observed.NUMBERS
    )
    assert {row["number"]: row["exists"] for row in found} == {asked[0]: True, asked[1]: False}


def test_nothing_found_is_an_empty_page_and_a_sent_message_is_found_by_its_id(evolution: Target) -> None:
    evolution.needs("open", "to")
    none = {"where": {"key": {"id": "3EB0NOSUCHMESSAGE00000"}}}
    same(evolution.ask("POST", "/chat/findMessages/{open}", none), 200, observed.FOUND_NONE)
    sent = evolution.ask("POST", "/message/sendText/{open}", {"number": evolution.to, "text": "achou"}).json()
    asked = {"where": {"key": {"id": sent["key"]["id"]}}}
    found = same(evolution.ask("POST", "/chat/findMessages/{open}", asked), 200, observed.FOUND)
    assert found["messages"]["records"][0]["key"]["id"] == sent["key"]["id"]


def test_statuses_are_a_bare_list_of_rows(evolution: Target) -> None:
    evolution.needs("open", "to")
    none = evolution.ask("POST", "/chat/findStatusMessage/{open}", {"where": {"id": "3EB0NOSUCH"}})
    assert (none.status_code, none.json()) == (200, [])
    sent = evolution.ask(
        "POST", "/message/sendText/{open}", {"number": evolution.to, "text": "chegou"}
    ).json()
    asked = {"where": {"id": sent["key"]["id"]}}
    rows: list[Any] = []
    for _ in range(100):
        rows = evolution.ask("POST", "/chat/findStatusMessage/{open}", asked).json()
        if rows:
            break
        evolution.a_day_passes()
    assert differences(rows, observed.STATUSES) == []
    assert all(row["keyId"] == sent["key"]["id"] for row in rows)


def test_marking_as_read_is_answered_with_201_even_for_unknown_ids(evolution: Target) -> None:
    evolution.needs("open", "to")
    keys = [{"remoteJid": f"{evolution.to}@s.whatsapp.net", "fromMe": False, "id": "3A00000000000000000000"}]
    answer = evolution.ask("POST", "/chat/markMessageAsRead/{open}", {"readMessages": keys})
    assert same(answer, 201, observed.READ) == observed.READ


def test_a_webhook_is_set_found_and_needs_its_events(evolution: Target) -> None:
    evolution.needs("open", "webhook")
    webhook = {
        "enabled": True,
        "url": evolution.webhook,
        "byEvents": False,
        "base64": False,
        "headers": {"X-Warmup-Secret": "s"},
        "events": ["MESSAGES_UPDATE"],
    }
    same(evolution.ask("POST", "/webhook/set/{open}", {"webhook": webhook}), 201, observed.WEBHOOK)
    found = same(evolution.ask("GET", "/webhook/find/{open}"), 200, observed.WEBHOOK)
    assert (found["url"], found["events"]) == (evolution.webhook, ["MESSAGES_UPDATE"])
    del webhook["events"]
    answer = evolution.ask("POST", "/webhook/set/{open}", {"webhook": webhook})
    assert answer.status_code == 500


EVENTS = {
    "messages.upsert": observed.EVENT_UPSERT,
    "messages.update": observed.EVENT_UPDATE,
}


@pytest.mark.parametrize("event", EVENTS)
def test_the_simulators_webhooks_are_the_contracts(evolution: Target, event: str) -> None:
    """A real server calls; only the simulator can be asked what it would say."""
    if evolution.simulator is None:
        pytest.skip("a real server's webhooks are not seen from here")
    for instance in (evolution.open, "the-other"):
        webhook = {"enabled": True, "url": evolution.webhook, "events": []}
        evolution.ask("POST", f"/webhook/set/{instance}", {"webhook": webhook})
    since = httpx.get(f"{evolution.url}/_sim/events", params={"limit": 100000}, timeout=30).json()[
        "next_since"
    ]
    evolution.ask("POST", "/message/sendText/{open}", {"number": evolution.to, "text": "evento"})
    evolution.a_day_passes()
    asked = {"since": since, "limit": 100000}
    events = httpx.get(f"{evolution.url}/_sim/events", params=asked, timeout=30).json()["events"]
    bodies = [
        one["body"]
        for one in events
        if one["event"] == event and one["body"]["data"].get("messageType", "conversation") == "conversation"
    ]
    assert bodies
    for body in bodies:
        assert differences(body, EVENTS[event]) == []
