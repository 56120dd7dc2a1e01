"""Evolution's sending routes through a real socket: bodies, order of checks, and every refusal.

Trap guarded: "Connection Closed" comes in three forms, and a 400 is not always the caller's fault.
"""

from __future__ import annotations

import base64
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from warmup_pipeline.gateways.simulator.evolution_messages import is_single_emoji

from .conftest import ANA, BIA, CAU, DRA, START, STRANGER, Sim, redeclared

PNG = base64.b64encode(b"\x89PNG\r\n\x1a\n" + b"0" * 40).decode()
OGG = base64.b64encode(b"OggS" + b"0" * 2000).decode()


def message_of(answer: Any) -> Any:
    return answer.json()["response"]["message"]


def test_a_sent_text_answers_the_contracts_envelope(sim: Sim) -> None:
    answer = sim.text("ana", BIA, "Olá, tudo bem?")
    assert answer.status_code == 201
    document = answer.json()
    seconds = int(START.timestamp())
    assert document["key"]["id"].startswith("3EB0")
    assert len(document["key"]["id"]) == 22
    assert document == {
        "key": {"remoteJid": f"{BIA}@s.whatsapp.net", "fromMe": True, "id": document["key"]["id"]},
        "pushName": "Você",
        "status": "PENDING",
        "message": {"conversation": "Olá, tudo bem?"},
        "contextInfo": {
            "mentionedJid": [],
            "groupMentions": [],
            "ephemeralSettingTimestamp": {
                "low": (seconds - 172800) & 0xFFFFFFFF,
                "high": 0,
                "unsigned": False,
            },
            "disappearingMode": {"initiator": 0},
        },
        "messageType": "conversation",
        "messageTimestamp": seconds,
        "instanceId": document["instanceId"],
        "source": "web",
    }


def test_the_answer_names_the_jid_without_the_ninth_digit(sim: Sim) -> None:
    assert sim.text("ana", DRA).json()["key"]["remoteJid"] == "558587654321@s.whatsapp.net"
    assert sim.messages()[0]["recipient"] == DRA


def test_a_group_message_has_no_context(sim: Sim) -> None:
    assert "contextInfo" not in sim.text("ana", "120363000000000000@g.us").json()


def test_a_quoted_message_is_named_in_the_context(sim: Sim) -> None:
    body = {"number": BIA, "text": "sim", "quoted": {"key": {"id": "3A00"}, "message": {"conversation": "?"}}}
    context = sim.evolution("POST", "/message/sendText/ana", body).json()["contextInfo"]
    assert (context["stanzaId"], context["quotedMessage"]) == ("3A00", {"conversation": "?"})


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({}, [['instance requires property "number"', 'instance requires property "text"']]),
        ({"number": 5511, "text": "x"}, [["Invalid format"]]),
        ({"number": BIA, "text": 5}, [["text is not of a type(s) string"]]),
        ({"number": BIA, "text": "x", "delay": "1"}, [["Enter a value in milliseconds"]]),
        ({"number": BIA, "text": "x", "delay": 1.5}, [["Enter a value in milliseconds"]]),
        ({"number": BIA, "text": "x", "mentioned": []}, [["mentioned does not meet minimum length of 1"]]),
        (
            {"number": BIA, "text": "x", "mentioned": ["5", "5"]},
            [["mentioned contains duplicate item"]],
        ),
        ({"number": BIA, "text": "x", "quoted": {"key": {}}}, [['quoted.key requires property "id"']]),
        ({"number": BIA, "textMessage": {"text": "v1"}}, [['instance requires property "text"']]),
        ([], [["instance is not of a type(s) object"]]),
    ],
)
def test_an_invalid_text_is_refused_in_nested_arrays(sim: Sim, body: Any, message: Any) -> None:
    answer = sim.evolution("POST", "/message/sendText/ana", body)
    assert (answer.status_code, message_of(answer)) == (400, message)
    assert answer.json()["error"] == "Bad Request"
    assert sim.messages() == []


def test_a_blank_text_is_refused_in_a_flat_array(sim: Sim) -> None:
    answer = sim.text("ana", BIA, "  ")
    assert (answer.status_code, message_of(answer)) == (400, ["Text is required"])


def test_plain_text_counts_as_an_empty_body(sim: Sim) -> None:
    answer = sim.http.post(
        "/message/sendText/ana",
        content=b'{"number":"1","text":"x"}',
        headers={"apikey": "ana-token", "Content-Type": "text/plain"},
    )
    assert answer.status_code == 400


def test_a_form_is_read_as_a_body(sim: Sim) -> None:
    answer = sim.http.post(
        "/message/sendText/ana", data={"number": BIA, "text": "oi"}, headers={"apikey": "ana-token"}
    )
    assert answer.status_code == 201


@pytest.mark.parametrize(
    ("content", "shown"),
    [
        (b'{"number":"%s","text":"\\ud83d oi"}' % BIA.encode(), "\ufffd oi"),
        (b'{"number":"%s","text":"\\ud83d\\ude00"}' % BIA.encode(), "😀"),
        (b'{"number":"%s","text":"\xff"}' % BIA.encode(), "\ufffd"),
    ],
)
def test_half_characters_are_stored_as_replacements(sim: Sim, content: bytes, shown: str) -> None:
    headers = {"apikey": "ana-token", "Content-Type": "application/json", "X-Warmup-Message": b"\xff"}
    answer = sim.http.post("/message/sendText/ana", content=content, headers=headers)  # type: ignore[arg-type]  # httpx takes bytes among str values
    assert answer.status_code == 201
    assert sim.messages()[0]["text"] == shown


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b'{"number":', "Unexpected end of JSON input"),
        (b'{"number":?}', "Unexpected token '?' in JSON at position 10"),
        (b'"text"', "is not valid JSON"),
    ],
)
def test_malformed_json_is_worded_as_node_does(sim: Sim, content: bytes, words: str) -> None:
    headers = {"apikey": "ana-token", "Content-Type": "application/json"}
    answer = sim.http.post("/message/sendText/ana", content=content, headers=headers)
    assert answer.status_code == 400
    assert words in message_of(answer)


def test_media_by_url_is_taken_without_a_look_at_the_network(sim: Sim) -> None:
    for route, fields in (
        ("sendMedia", {"mediatype": "image", "media": "https://example.com/a.png"}),
        ("sendWhatsAppAudio", {"audio": "https://example.com/a.ogg"}),
    ):
        answer = sim.evolution("POST", f"/message/{route}/ana", {"number": BIA, **fields})
        assert answer.status_code == 201
    assert [row["media_bytes"] for row in sim.messages()] == [0, 0]


def test_a_number_without_whatsapp_is_refused_with_an_object(sim: Sim) -> None:
    answer = sim.text("ana", STRANGER)
    assert answer.status_code == 400
    assert message_of(answer) == [{"jid": f"{STRANGER}@s.whatsapp.net", "exists": False, "number": STRANGER}]


def test_a_number_of_letters_passes_validation_and_is_nobody(sim: Sim) -> None:
    answer = sim.text("ana", "abc")
    assert message_of(answer) == [{"jid": "@s.whatsapp.net", "exists": False, "number": "abc"}]


def test_a_known_phone_that_no_instance_owns_is_delivered(sim: Sim) -> None:
    sim.http.post("/_sim/instances", json={"known_phones": [STRANGER]})
    assert sim.text("ana", STRANGER).status_code == 201
    sim.clock.forward(15)
    assert sim.messages()[0]["state"] == "delivered"


def test_never_connected_is_a_javascript_error(sim: Sim) -> None:
    sim.evolution("POST", "/instance/create", {"instanceName": "eva", "integration": "WHATSAPP-BAILEYS"})
    answer = sim.text("eva", BIA)
    assert (answer.status_code, message_of(answer)) == (
        500,
        "Cannot read properties of undefined (reading 'onWhatsApp')",
    )


@pytest.mark.parametrize(
    ("route", "method"), [("sendText", "textMessage"), ("sendWhatsAppAudio", "audioWhatsapp")]
)
def test_an_unloaded_instance_is_a_javascript_error(sim: Sim, route: str, method: str) -> None:
    sim.declare(redeclared("ana", loaded=False))
    body = {"number": BIA, "text": "oi", "audio": OGG}
    answer = sim.evolution("POST", f"/message/{route}/ana", body)
    assert (answer.status_code, message_of(answer)) == (
        500,
        f"Cannot read properties of undefined (reading '{method}')",
    )


def test_connection_closed_changes_its_form_once_the_number_is_cached(sim: Sim) -> None:
    sim.declare(redeclared("ana", state="close"))
    unknown = sim.text("ana", BIA)
    assert (unknown.status_code, message_of(unknown)) == (500, "Connection Closed")
    sim.text("bia", BIA)
    known = sim.text("ana", BIA)
    assert (known.status_code, message_of(known)) == (400, ["Error: Connection Closed"])
    sim.clock.forward(7 * 24 * 3600 + 1)
    assert sim.text("ana", BIA).status_code == 500


def test_a_closed_connection_has_its_own_form_for_media_audio_read_and_presence(sim: Sim) -> None:
    sim.declare(redeclared("ana", state="close"))
    media = sim.evolution(
        "POST", "/message/sendMedia/ana", {"number": BIA, "mediatype": "image", "media": PNG}
    )
    assert (media.status_code, message_of(media)) == (500, ["Error: Connection Closed"])
    audio = sim.evolution("POST", "/message/sendWhatsAppAudio/ana", {"number": BIA, "audio": OGG})
    assert (audio.status_code, message_of(audio)) == (500, "Connection Closed")
    key = {"remoteJid": f"{BIA}@s.whatsapp.net", "fromMe": False, "id": "3A"}
    read = sim.evolution("POST", "/chat/markMessageAsRead/ana", {"readMessages": [key]})
    assert (read.status_code, message_of(read)) == (500, ["Read messages fail", "Error: Connection Closed"])
    presence = {"number": BIA, "presence": "composing", "delay": 0}
    shown = sim.evolution("POST", "/chat/sendPresence/ana", presence)
    assert (shown.status_code, message_of(shown)) == (400, ["Error: Connection Closed"])


def test_a_delay_holds_the_answer_not_the_message(sim: Sim) -> None:
    from warmup_pipeline.gateways.simulator import Request
    from warmup_pipeline.gateways.simulator.wire import dumps

    body = {"number": BIA, "text": "oi", "delay": 1200}
    headers = {"apikey": "ana-token", "content-type": "application/json"}
    reply = sim.running.core.handle(
        Request("POST", "/message/sendText/ana", {}, headers, dumps(body).encode())
    )
    assert (reply.status, reply.wire.delay_ms) == (201, 1200)
    assert len(sim.messages()) == 1


def test_a_picture_is_accepted_as_bare_base64_and_shown_as_an_image_message(sim: Sim) -> None:
    body = {"number": BIA, "mediatype": "image", "media": PNG, "caption": "oi"}
    answer = sim.evolution("POST", "/message/sendMedia/ana", body)
    assert answer.status_code == 201
    document = answer.json()
    inner = document["message"]["imageMessage"]
    assert document["messageType"] == "imageMessage"
    assert (inner["mimetype"], inner["caption"]) == ("image/jpeg", "oi")
    assert inner["fileLength"] == {"low": 48, "high": 0, "unsigned": True}
    assert inner["mediaKey"]["0"] in range(256)
    row = sim.messages()[0]
    assert (row["kind"], row["media_bytes"], row["text"]) == ("picture", 48, "oi")


@pytest.mark.parametrize("media", ["data:image/png;base64," + PNG, "http://localhost:9/a.png", "", "x y"])
def test_media_that_is_neither_bare_base64_nor_a_url_is_refused(sim: Sim, media: str) -> None:
    body = {"number": BIA, "mediatype": "image", "media": media}
    answer = sim.evolution("POST", "/message/sendMedia/ana", body)
    assert (answer.status_code, message_of(answer)) == (400, ["Owned media must be a url or base64"])


@pytest.mark.parametrize(
    ("fields", "status", "message"),
    [
        (
            {"mediatype": "sticker", "media": PNG},
            400,
            [["mediatype is not one of enum values: image,document,video,audio"]],
        ),
        ({"media": PNG}, 400, [['instance requires property "mediatype"']]),
        (
            {"mediatype": "document", "media": PNG},
            400,
            ["For base64 the file name must be informed."],
        ),
        (
            {"mediatype": "image", "media": OGG},
            500,
            ["Error: Input buffer contains unsupported image format"],
        ),
        (
            {"mediatype": "image", "media": "http://127.0.0.1:9/a.png"},
            500,
            ["Error: connect ECONNREFUSED 127.0.0.1:9"],
        ),
        (
            {"mediatype": "image", "media": "http://a.invalid/a.png"},
            500,
            ["Error: getaddrinfo ENOTFOUND a.invalid"],
        ),
    ],
)
def test_media_is_refused_as_the_contract_says(
    sim: Sim, fields: dict[str, Any], status: int, message: Any
) -> None:
    answer = sim.evolution("POST", "/message/sendMedia/ana", {"number": BIA, **fields})
    assert (answer.status_code, message_of(answer)) == (status, message)


def test_media_is_taken_in_before_the_number_is_looked_at(sim: Sim) -> None:
    broken = {"number": STRANGER, "mediatype": "image", "media": OGG}
    assert sim.evolution("POST", "/message/sendMedia/ana", broken).status_code == 500
    whole = {"number": STRANGER, "mediatype": "image", "media": PNG}
    answer = sim.evolution("POST", "/message/sendMedia/ana", whole)
    assert message_of(answer)[0]["exists"] is False


@pytest.mark.parametrize(
    ("fields", "mime"),
    [
        ({"mediatype": "document", "fileName": "contrato.pdf", "mimetype": "a/b"}, "application/pdf"),
        ({"mediatype": "document", "fileName": "contrato"}, "false"),
        ({"mediatype": "image", "fileName": "x.png"}, "image/png"),
        ({"mediatype": "audio", "mimetype": "audio/mpeg"}, "audio/mpeg"),
        ({"mediatype": "video"}, "video/mp4"),
    ],
)
def test_the_mime_type_follows_the_file_name(sim: Sim, fields: dict[str, Any], mime: str) -> None:
    body = {"number": BIA, "media": PNG, **fields}
    document = sim.evolution("POST", "/message/sendMedia/ana", body).json()
    assert document["message"][document["messageType"]]["mimetype"] == mime


def test_media_may_come_as_a_multipart_upload(sim: Sim) -> None:
    answer = sim.http.post(
        "/message/sendMedia/ana",
        data={"number": BIA, "mediatype": "image", "delay": "0"},
        files={"file": ("a.png", base64.b64decode(PNG), "image/png")},
        headers={"apikey": "ana-token"},
    )
    assert answer.status_code == 201
    assert sim.messages()[0]["media_bytes"] == 48


def test_an_audio_note_is_an_ogg_push_to_talk(sim: Sim) -> None:
    answer = sim.evolution("POST", "/message/sendWhatsAppAudio/ana", {"number": BIA, "audio": OGG})
    assert answer.status_code == 201
    inner = answer.json()["message"]["audioMessage"]
    assert (inner["ptt"], inner["mimetype"]) == (True, "audio/ogg; codecs=opus")
    assert inner["seconds"] > 0
    assert sim.messages()[0]["kind"] == "audio"


@pytest.mark.parametrize("fields", [{"media": OGG}, {"audio": "data:audio/ogg;base64," + OGG}, {}])
def test_an_audio_note_wants_its_own_field_in_bare_base64(sim: Sim, fields: dict[str, str]) -> None:
    answer = sim.evolution("POST", "/message/sendWhatsAppAudio/ana", {"number": BIA, **fields})
    assert (answer.status_code, message_of(answer)) == (
        400,
        ["Owned media must be a url, base64, or valid file with buffer"],
    )


def test_bytes_that_are_no_audio_are_accepted(sim: Sim) -> None:
    answer = sim.evolution("POST", "/message/sendWhatsAppAudio/ana", {"number": BIA, "audio": PNG})
    assert answer.status_code == 201


def test_a_dead_audio_url_is_a_404_that_does_not_mean_no_such_instance(sim: Sim) -> None:
    body = {"number": BIA, "audio": "http://127.0.0.1:1/404.ogg"}
    answer = sim.evolution("POST", "/message/sendWhatsAppAudio/ana", body)
    assert (answer.status_code, message_of(answer)) == (404, "Request failed with status code 404")


def test_a_reaction_answers_like_a_send(sim: Sim) -> None:
    key = {"id": "3A00", "remoteJid": f"{CAU}@s.whatsapp.net", "fromMe": False}
    answer = sim.evolution("POST", "/message/sendReaction/ana", {"key": key, "reaction": "👍"})
    assert answer.status_code == 201
    assert answer.json()["messageType"] == "reactionMessage"
    assert answer.json()["message"]["reactionMessage"]["key"] == key
    assert (sim.messages()[0]["kind"], sim.messages()[0]["text"]) == ("reaction", "👍")


@pytest.mark.parametrize("reaction", ["👍👍", "ok", " "])
def test_a_reaction_of_more_or_less_than_one_emoji_is_refused(sim: Sim, reaction: str) -> None:
    key = {"id": "3A00", "remoteJid": f"{ANA}@s.whatsapp.net", "fromMe": False}
    answer = sim.evolution("POST", "/message/sendReaction/bia", {"key": key, "reaction": reaction})
    assert message_of(answer) == ["Reaction must be a single emoji or empty string"]


@pytest.mark.parametrize("emoji", ["", "👍", "👍🏽", "❤️", "👨‍👩‍👧", "🇧🇷", "1️⃣"])
def test_one_emoji_may_have_many_code_points(emoji: str) -> None:
    assert is_single_emoji(emoji)


@given(st.text("abcdefghijklmnopqrstuvwxyz áéíóú0123456789", min_size=1))
def test_no_word_is_an_emoji(text: str) -> None:
    assert not is_single_emoji(text)
