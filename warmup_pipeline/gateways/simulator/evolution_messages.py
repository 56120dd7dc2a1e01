"""Evolution's sending routes: text, media, audio notes, reactions.

Holds: the handlers of ``/message/*`` and the checks they share. Add here: another kind of message.
Do not add: JSON shapes (``evolution_bodies``), what becomes of a message (``network``).

Source: gateway-contract.md 1.7, 1.8, 1.9, 1.14b.
"""

from __future__ import annotations

import mimetypes
import re
import unicodedata
from collections.abc import Callable
from typing import Any, Final, Literal
from urllib.parse import urlsplit

from warmup_pipeline.gateways.simulator.body import FILE_FIELD
from warmup_pipeline.gateways.simulator.evolution_bodies import (
    CLOSED,
    CLOSED_ERROR,
    error,
    invalid,
    not_on_whatsapp,
    sent_body,
    uncaught,
)
from warmup_pipeline.gateways.simulator.jids import USER, create_jid, user_of
from warmup_pipeline.gateways.simulator.media import decoded_size, is_base64, is_url, looks_like_image
from warmup_pipeline.gateways.simulator.network import Call, Kind, Network
from warmup_pipeline.gateways.simulator.schema import Schema, violations
from warmup_pipeline.gateways.simulator.state import Instance, Message
from warmup_pipeline.gateways.simulator.wire import Reply, json_reply

NUMBER: Final = {"type": "string", "description": "Invalid format"}
_DELAY: Final = {"type": "integer", "description": "Enter a value in milliseconds"}
_QUOTED: Final = {
    "type": "object",
    "properties": {
        "key": {
            "type": "object",
            "properties": {
                "id": {"type": "string"},
                "remoteJid": {"type": "string"},
                "fromMe": {"type": "boolean"},
            },
            "required": ["id"],
        },
        "message": {"type": "object"},
    },
}
_MENTIONED: Final = {
    "type": "array",
    "minItems": 1,
    "uniqueItems": True,
    "items": {
        "type": "string",
        "pattern": r"^\d+",
        "description": '"mentioned" must be an array of numeric strings',
    },
}
_COMMON: Final = {
    "delay": _DELAY,
    "quoted": _QUOTED,
    "everyOne": {"type": "boolean"},
    "mentioned": _MENTIONED,
}
_TEXT_SCHEMA: Final[Schema] = {
    "type": "object",
    "properties": {
        "number": NUMBER,
        "text": {"type": "string"},
        "linkPreview": {"type": "boolean"},
        **_COMMON,
    },
    "required": ["number", "text"],
}
_MEDIA_SCHEMA: Final[Schema] = {
    "type": "object",
    "properties": {
        "number": NUMBER,
        "mediatype": {"type": "string", "enum": ["image", "document", "video", "audio"]},
        "mimetype": {"type": "string"},
        "media": {"type": "string"},
        "fileName": {"type": "string"},
        "caption": {"type": "string"},
        **_COMMON,
    },
    "required": ["number", "mediatype"],
}
_AUDIO_SCHEMA: Final[Schema] = {
    "type": "object",
    "properties": {"number": NUMBER, "audio": {"type": "string"}, **_COMMON},
    "required": ["number"],
}
_REACTION_SCHEMA: Final[Schema] = {
    "type": "object",
    "properties": {
        "key": {
            "type": "object",
            "properties": {
                "id": {"type": "string"},
                "remoteJid": {"type": "string"},
                "fromMe": {"type": "boolean", "enum": [True, False]},
            },
            "required": ["id", "remoteJid", "fromMe"],
        },
        "reaction": {"type": "string"},
    },
    "required": ["key", "reaction"],
}
_KIND_OF: Final[dict[str, Kind]] = {
    "image": "picture",
    "video": "video",
    "document": "document",
    "audio": "audio",
}
_USUAL_MIME: Final = {"image": "image/jpeg", "video": "video/mp4", "audio": "audio/mp4"}
_USUAL_NAME: Final = {"image": "image.jpg", "video": "video.mp4"}
_OGG: Final = "audio/ogg; codecs=opus"
_BASE64_ONLY: Final = "Owned media must be a url or base64"
_AUDIO_ONLY: Final = "Owned media must be a url, base64, or valid file with buffer"
_NOT_AN_IMAGE: Final = "Error: Input buffer contains unsupported image format"
_NEVER_CONNECTED: Final = "Cannot read properties of undefined (reading 'onWhatsApp')"


def _not_loaded(method: str) -> Reply:
    return uncaught(f"Cannot read properties of undefined (reading '{method}')")


def _recipient_trouble(network: Network, call: Call, jid: str, number: str) -> Reply | None:
    """Return the answer if nobody is behind a number; else remember it as seen, for all instances."""
    if network.number_cached(jid, call.now):
        return None
    if not network.on_whatsapp(jid):
        return not_on_whatsapp(jid, number)
    if jid.endswith(USER):
        network.state.remember_number(user_of(jid), call.now)
    return None


def _answer(network: Network, instance: Instance, message: Message, body: dict[str, Any]) -> Reply:
    return json_reply(201, sent_body(network.settings, instance, message)).delayed(body.get("delay") or 0)


def send_text(network: Network, call: Call, instance: Instance, body: Any) -> Reply:
    """``POST /message/sendText``: checks in the order of 1.7."""
    if texts := violations(_TEXT_SCHEMA, body):
        return invalid(texts)
    if not instance.loaded:
        return _not_loaded("textMessage")
    if not body["text"].strip():
        return error(400, ["Text is required"])
    jid = create_jid(body["number"])
    if not instance.client_started:
        return uncaught(_NEVER_CONNECTED)
    if instance.state != "open":
        # The cache answers "is it on WhatsApp?" without the socket, so the failure comes one step
        # later and in another form.
        return error(400, [CLOSED_ERROR]) if network.number_cached(jid, call.now) else uncaught(CLOSED)
    if trouble := _recipient_trouble(network, call, jid, body["number"]):
        return trouble
    quoted = body.get("quoted")
    message = network.accept(
        instance, call, kind="text", jid=jid, body=body["text"], extra={"quoted": quoted} if quoted else None
    )
    return _answer(network, instance, message, body)


def send_media(network: Network, call: Call, instance: Instance, body: Any) -> Reply:
    """``POST /message/sendMedia``: the media is taken in before the number is looked at (1.8)."""
    fields = _numbers_from_form(body)
    if texts := violations(_MEDIA_SCHEMA, fields):
        return invalid(texts)
    upload, media = fields.get(FILE_FIELD), fields.get("media") or ""
    mediatype, name = fields["mediatype"], fields.get("fileName")
    if not isinstance(upload, bytes):
        upload = None
        if is_base64(media) and not name and mediatype == "document":
            return error(400, ["For base64 the file name must be informed."])
        if not is_url(media) and not is_base64(media):
            return error(400, [_BASE64_ONLY])
    if not instance.loaded:
        return _not_loaded("mediaMessage")
    if upload is None and is_url(media):
        if trouble := _fetch_trouble(media):
            return error(500, [f"Error: {trouble}"])
        size = 0
    elif upload is None:
        if mediatype == "image" and not looks_like_image(media):
            return error(500, [_NOT_AN_IMAGE])
        size = decoded_size(media)
    else:
        size = len(upload)
    if not instance.client_started:
        return uncaught(_NEVER_CONNECTED)
    if instance.state != "open":
        return error(500, [CLOSED_ERROR])
    jid = create_jid(fields["number"])
    if trouble_reply := _recipient_trouble(network, call, jid, fields["number"]):
        return trouble_reply
    message = network.accept(
        instance,
        call,
        kind=_KIND_OF[mediatype],
        jid=jid,
        body=fields.get("caption") or "",
        media_mime=_mime(mediatype, name, fields.get("mimetype")),
        media_bytes=size,
        extra=_without_nothing(
            fileName=name or _USUAL_NAME.get(mediatype), quoted=fields.get("quoted") or None
        ),
    )
    return _answer(network, instance, message, fields)


def send_audio(network: Network, call: Call, instance: Instance, body: Any) -> Reply:
    """``POST /message/sendWhatsAppAudio``: the field is ``audio``, and bytes that are none pass (1.9)."""
    fields = _numbers_from_form(body)
    if texts := violations(_AUDIO_SCHEMA, fields):
        return invalid(texts)
    upload, audio = fields.get(FILE_FIELD), fields.get("audio") or ""
    if not isinstance(upload, bytes):
        upload = None
        if not is_url(audio) and not is_base64(audio):
            return error(400, [_AUDIO_ONLY])
    if not instance.loaded:
        return _not_loaded("audioWhatsapp")
    size = len(upload) if upload is not None else 0
    if upload is None and is_url(audio):
        # An axios error that nobody wraps keeps the status of the download: a 404 here does not mean
        # that the instance is unknown.
        if "/404" in urlsplit(audio).path:
            return uncaught("Request failed with status code 404", 404)
        if trouble := _fetch_trouble(audio):
            return uncaught(trouble)
    elif upload is None:
        size = decoded_size(audio)
    if not instance.client_started:
        return uncaught(_NEVER_CONNECTED)
    if instance.state != "open":
        return uncaught(CLOSED)
    jid = create_jid(fields["number"])
    if trouble_reply := _recipient_trouble(network, call, jid, fields["number"]):
        return trouble_reply
    message = network.accept(
        instance, call, kind="audio", jid=jid, body="", media_mime=_OGG, media_bytes=size
    )
    return _answer(network, instance, message, fields)


def send_reaction(network: Network, call: Call, instance: Instance, body: Any) -> Reply:
    """``POST /message/sendReaction``: one emoji, or an empty string to take it back (1.14b)."""
    if texts := violations(_REACTION_SCHEMA, body):
        return invalid(texts)
    if not is_single_emoji(body["reaction"]):
        return error(400, ["Reaction must be a single emoji or empty string"])
    if not instance.loaded:
        return _not_loaded("reactionMessage")
    if not instance.client_started:
        return uncaught(_NEVER_CONNECTED)
    jid = create_jid(body["key"]["remoteJid"])
    if instance.state != "open":
        return error(400, [CLOSED_ERROR]) if network.number_cached(jid, call.now) else uncaught(CLOSED)
    if trouble := _recipient_trouble(network, call, jid, body["key"]["remoteJid"]):
        return trouble
    message = network.accept(
        instance, call, kind="reaction", jid=jid, body=body["reaction"], extra={"key": body["key"]}
    )
    return _answer(network, instance, message, {})


HANDLERS: Final[
    dict[tuple[Literal["POST"] | str, str, str], Callable[[Network, Call, Instance, Any], Reply]]
] = {
    ("POST", "message", "sendText"): send_text,
    ("POST", "message", "sendMedia"): send_media,
    ("POST", "message", "sendWhatsAppAudio"): send_audio,
    ("POST", "message", "sendReaction"): send_reaction,
}

_JOINER, _VARIATION, _KEYCAP = "\u200d", "\ufe0f", "\u20e3"
_FLAG: Final = re.compile("[\U0001f1e6-\U0001f1ff]{2}")
_KEYCAPS: Final = re.compile(f"[0-9#*]{_VARIATION}?{_KEYCAP}")
_MODIFIER: Final = re.compile("[\U0001f3fb-\U0001f3ff\U000e0020-\U000e007f]")


def is_single_emoji(text: str) -> bool:
    """Whether a text is one emoji (with its modifiers and joined parts), or empty."""
    if not text or _FLAG.fullmatch(text) or _KEYCAPS.fullmatch(text):
        return True
    parts = text.replace(_VARIATION, "").split(_JOINER)
    bare = [_MODIFIER.sub("", part) or part for part in parts]
    return all(len(part) == 1 and unicodedata.category(part) == "So" for part in bare)


def _mime(mediatype: str, name: str | None, given: str | None) -> str:
    if name:
        return mimetypes.guess_type(name)[0] or "false"
    if mediatype == "document":
        return "false"
    return given if given and mediatype == "audio" else _USUAL_MIME[mediatype]


def _fetch_trouble(url: str) -> str | None:
    """Return why the gateway could not download, as far as that can be told without a network.

    Nothing is ever fetched: a name under ``.invalid`` does not resolve, port 9 refuses, all else works.
    """
    parts = urlsplit(url)
    host = parts.hostname or ""
    if host.endswith(".invalid"):
        return f"getaddrinfo ENOTFOUND {host}"
    if parts.port == 9:
        return f"connect ECONNREFUSED {host}:9"
    return None


def _numbers_from_form(body: Any) -> dict[str, Any]:
    """Return the fields of a body; a form's ``delay`` is text and stands for a number."""
    fields: dict[str, Any] = dict(body) if isinstance(body, dict) else {}
    if FILE_FIELD in fields and isinstance(fields.get("delay"), str) and fields["delay"].isdigit():
        fields["delay"] = int(fields["delay"])
    return fields


def _without_nothing(**values: Any) -> dict[str, Any]:
    return {key: value for key, value in values.items() if value is not None}
