"""Evolution's JSON: envelopes, message records, instance rows, named failures.

Holds: every shape Evolution answers with. Add here: a further shape. Do not add: when it is
answered (``evolution``, ``evolution_messages``, ``evolution_chat``).

Source: gateway-contract.md part 1; each function names its section.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Any, Final

from warmup_pipeline.gateways.simulator import ids
from warmup_pipeline.gateways.simulator.jids import GROUP, LID, USER, source_of
from warmup_pipeline.gateways.simulator.media import qr_png
from warmup_pipeline.gateways.simulator.network import Network
from warmup_pipeline.gateways.simulator.settings import SimulatorSettings
from warmup_pipeline.gateways.simulator.state import Instance, Message
from warmup_pipeline.gateways.simulator.wire import Reply, json_reply

CLOSED: Final = "Connection Closed"
CLOSED_ERROR: Final = "Error: Connection Closed"
PUSH_NAME_OF_OWN: Final = "Você"
_TWO_DAYS_S: Final = 172_800
_TYPES: Final = {
    "text": "conversation",
    "picture": "imageMessage",
    "audio": "audioMessage",
    "video": "videoMessage",
    "document": "documentMessage",
    "reaction": "reactionMessage",
}
MESSAGE_TABLE, UPDATE_TABLE, SETTING_TABLE, WEBHOOK_TABLE = "m", "u", "s", "h"
DEFAULT_SETTINGS: Final[dict[str, Any]] = {
    "rejectCall": False,
    "msgCall": "",
    "groupsIgnore": False,
    "alwaysOnline": False,
    "readMessages": False,
    "readStatus": False,
    "syncFullHistory": False,
    "wavoipToken": "",
}


def iso(milliseconds: int) -> str:
    """Return a time as Evolution's rows show it: ISO 8601 with milliseconds and ``Z``."""
    moment = datetime.fromtimestamp(milliseconds / 1000, UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


# Errors: section 1.1.


def reason_phrase(status: int) -> str:
    """Return the reason phrase of a status."""
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "Error"


def error(status: int, message: object, *, phrase: str | None = None) -> Reply:
    """Return the error envelope; ``message`` is a string or an array of one of three kinds."""
    return json_reply(
        status,
        {"status": status, "error": phrase or reason_phrase(status), "response": {"message": message}},
    )


def uncaught(text: str, status: int = 500) -> Reply:
    """Return an error that nobody caught: always called "Internal Server Error"."""
    return error(status, text, phrase="Internal Server Error")


def unauthorized() -> Reply:
    """Return the answer to a missing or wrong key."""
    return error(401, "Unauthorized")


def unknown_instance(name: str) -> Reply:
    """Return the answer to an instance in the path that does not exist."""
    return error(404, [f'The "{name}" instance does not exist'])


def invalid(texts: list[str]) -> Reply:
    """Return the answer to a schema violation: an array in an array."""
    return error(400, [texts])


def not_on_whatsapp(jid: str, number: str) -> Reply:
    """Return the answer to a number without WhatsApp."""
    return error(400, [{"jid": jid, "exists": False, "number": number}])


def lies() -> Reply:
    """Return the success that is none (1.4, 1.5)."""
    return json_reply(200, {"error": True, "message": "[object Object]"})


def number_check_closed() -> Reply:
    """Return whatsappNumbers' answer without a connection: no envelope (1.12)."""
    payload = {"statusCode": 428, "error": "Precondition Required", "message": CLOSED}
    return json_reply(
        400,
        {
            "data": None,
            "isBoom": True,
            "isServer": False,
            "output": {"statusCode": 428, "payload": payload, "headers": {}},
        },
    )


def named_failure(name: str, instance: str, number: str, jid: str) -> Reply:
    """Return a body of the contract by its name in a fault rule."""
    if name == "restriction":
        return error(400, ["Error: this account has been restricted"])
    if name == "connection_closed_500_string":
        return uncaught(CLOSED)
    if name == "connection_closed_400_array":
        return error(400, [CLOSED_ERROR])
    if name == "connection_closed_500_array":
        return error(500, [CLOSED_ERROR])
    if name == "rate_overlimit":
        return error(400, ["Error: rate-overlimit"])
    if name == "validation":
        return invalid(['instance requires property "text"'])
    if name == "not_on_whatsapp":
        return not_on_whatsapp(jid, number)
    if name == "unauthorized":
        return unauthorized()
    return unknown_instance(instance)


# Instances: sections 1.2 to 1.6.


def state_body(name: str, state: str | None) -> dict[str, Any]:
    """Return the connection state, nested; without ``state`` if the process does not know it."""
    inner = {"instanceName": name}
    if state is not None:
        inner["state"] = state
    return {"instance": inner}


def qr_object(network: Network, instance: Instance, now: int, pairing: bool) -> dict[str, Any]:
    """Return the QR object: flat, only ``count`` while there is no code."""
    count = network.qr_count(instance, now)
    if count == 0:
        return {"count": 0}
    seed = network.settings.seed
    code = ids.digest(seed, "qr", instance.name, count)
    return {
        "pairingCode": code[:8].upper() if pairing else None,
        "code": f"2@{code[:32]},{code[32:48]},{code[48:56]},{code[56:]}",
        "base64": f"data:image/png;base64,{qr_png(seed, instance.name, count)}",
        "count": count,
    }


def settings_of(instance: Instance) -> dict[str, Any]:
    """Return an instance's settings."""
    return {**DEFAULT_SETTINGS, **json.loads(instance.settings)}


def instance_row(network: Network, instance: Instance) -> dict[str, Any]:
    """Return an instance as fetchInstances lists it: flat, state as the database knows it."""
    owner = f"{instance.account}{USER}" if instance.owner_known else None
    created, updated = iso(instance.created_at), iso(instance.updated_at)
    cut = instance.disconnected_at
    return {
        "id": instance.uuid,
        "name": instance.name,
        "connectionStatus": instance.db_state,
        "ownerJid": owner,
        "profileName": instance.profile_name if owner else None,
        "profilePicUrl": None,
        "integration": instance.integration,
        "number": instance.number,
        "businessId": None,
        "token": instance.token,
        "clientName": "evolution",
        "disconnectionReasonCode": instance.disconnection_code,
        "disconnectionObject": instance.disconnection_object,
        "disconnectionAt": None if cut is None else iso(cut),
        "createdAt": created,
        "updatedAt": updated,
        "Chatwoot": None,
        "Proxy": None,
        "Rabbitmq": None,
        "Nats": None,
        "Sqs": None,
        "Websocket": None,
        "Setting": {
            "id": ids.row_id(SETTING_TABLE, instance.id),
            **settings_of(instance),
            "createdAt": created,
            "updatedAt": updated,
            "instanceId": instance.uuid,
        },
        "_count": {"Message": network.state.count_list(instance.id), "Contact": 0, "Chat": 0},
    }


# Messages: sections 1.7 to 1.11.


def long(number: int, *, unsigned: bool = True) -> dict[str, Any]:
    """Return a 64-bit number as the real server shows it inside ``message``."""
    return {"low": number & 0xFFFFFFFF, "high": number >> 32, "unsigned": unsigned}


def byte_object(hexes: str) -> dict[str, int]:
    """Return bytes as the real server shows them inside ``message``: an object with index keys."""
    return {str(n): byte for n, byte in enumerate(bytes.fromhex(hexes))}


def extra_of(message: Message) -> dict[str, Any]:
    """Return what else was kept of a message."""
    loaded: dict[str, Any] = json.loads(message.extra) if message.extra else {}
    return loaded


def message_type(message: Message) -> str:
    """Return Evolution's word for a message's kind."""
    return _TYPES[message.kind]


def content(settings: SimulatorSettings, message: Message) -> dict[str, Any]:
    """Return the ``message`` object of any accepted message, whichever gateway sent it."""
    if message.kind == "text":
        return {"conversation": message.body}
    extra = extra_of(message)
    if message.kind == "reaction":
        key = extra.get("key", {})
        inner: dict[str, Any] = {
            "key": key,
            "text": message.body,
            "senderTimestampMs": long(message.at, unsigned=False),
        }
        return {"reactionMessage": inner}
    return {message_type(message): _media_content(settings, message, extra)}


def _media_content(settings: SimulatorSettings, message: Message, extra: dict[str, Any]) -> dict[str, Any]:
    marks = ids.digest(settings.seed, "media", message.wa_id)
    path = f"/v/t62.7118-24/{marks[:24]}.enc"
    inner: dict[str, Any] = {
        "url": f"https://mmg.whatsapp.net{path}",
        "mimetype": message.media_mime,
        "fileSha256": byte_object(marks),
        "fileLength": long(message.media_bytes or 0),
        "mediaKey": byte_object(ids.digest(settings.seed, "key", message.wa_id)),
        "fileEncSha256": byte_object(ids.digest(settings.seed, "enc", message.wa_id)),
        "directPath": path,
        "mediaKeyTimestamp": long(message.at // 1000, unsigned=False),
    }
    if message.kind == "audio":
        inner |= {"seconds": 1 + (message.media_bytes or 0) // 2000, "ptt": True}
        inner["waveform"] = byte_object(marks + marks)
        return inner
    if message.body:
        inner["caption"] = message.body
    if extra.get("fileName"):
        inner["fileName"] = extra["fileName"]
    if message.kind == "picture":
        inner |= {"height": 640, "width": 640, "jpegThumbnail": byte_object(marks[:32])}
    inner["contextInfo"] = {"mentionedJid": [], "groupMentions": []}
    return inner


def context_of(message: Message) -> dict[str, Any] | None:
    """Return the ``contextInfo`` of a sent message: none in groups."""
    if message.remote_jid.endswith(GROUP):
        return None
    context: dict[str, Any] = {}
    quoted = extra_of(message).get("quoted")
    if quoted:
        context["participant"] = quoted.get("key", {}).get("remoteJid", message.remote_jid)
        context["stanzaId"] = quoted.get("key", {}).get("id")
        context["quotedMessage"] = quoted.get("message") or {"conversation": ""}
    context["mentionedJid"] = []
    context["groupMentions"] = []
    context["ephemeralSettingTimestamp"] = long(message.at // 1000 - _TWO_DAYS_S, unsigned=False)
    context["disappearingMode"] = {"initiator": 0}
    return context


def sent_body(settings: SimulatorSettings, instance: Instance, message: Message) -> dict[str, Any]:
    """Return the answer to a send, which is also the data of ``send.message``."""
    body: dict[str, Any] = {
        "key": {"remoteJid": message.remote_jid, "fromMe": True, "id": message.wa_id},
        "pushName": PUSH_NAME_OF_OWN,
        "status": "PENDING",
        "message": content(settings, message),
    }
    context = context_of(message)
    if context is not None:
        body["contextInfo"] = context
    body["messageType"] = message_type(message)
    body["messageTimestamp"] = message.at // 1000
    body["instanceId"] = instance.uuid
    body["source"] = source_of(message.wa_id)
    return body


def received_key(network: Network, message: Message, sender: Instance) -> dict[str, Any]:
    """Return the key under which the receiving instance knows a message."""
    phone_jid = f"{sender.account}{USER}"
    if sender.lid:
        return {
            "id": message.wa_id,
            "fromMe": False,
            "remoteJid": f"{sender.lid}{LID}",
            "remoteJidAlt": phone_jid,
            "addressingMode": "lid",
        }
    return {"id": message.wa_id, "fromMe": False, "remoteJid": phone_jid}


def statuses(message: Message) -> list[str]:
    """Return the status events of a sent message so far; there is never a PENDING one."""
    events = (
        ("SERVER_ACK", message.server_ack_at),
        ("DELIVERY_ACK", message.delivered_at),
        ("READ", message.read_at),
        ("ERROR", message.failed_at),
    )
    return [name for name, at in events if at is not None]


def record(network: Network, instance: Instance, message: Message) -> dict[str, Any]:
    """Return a message as findMessages lists it for one of its two ends."""
    settings = network.settings
    own = message.instance_id == instance.id
    if own:
        key: dict[str, Any] = {"id": message.wa_id, "fromMe": True, "remoteJid": message.remote_jid}
        push_name, side = PUSH_NAME_OF_OWN, 0
        updates = statuses(message)
        context = context_of(message)
    else:
        sender = network.state.instance_by_id(message.instance_id)
        key, push_name, side = received_key(network, message, sender), sender.profile_name, 1
        updates = ["READ"] if message.read_at is not None else []
        context = None
    return {
        "id": ids.row_id(MESSAGE_TABLE, message.id * 2 + side),
        "key": key,
        "pushName": push_name,
        "messageType": message_type(message),
        "message": content(settings, message),
        "messageTimestamp": message.at // 1000,
        "instanceId": instance.uuid,
        "source": source_of(message.wa_id),
        "contextInfo": context,
        "MessageUpdate": [{"status": name} for name in updates],
    }
