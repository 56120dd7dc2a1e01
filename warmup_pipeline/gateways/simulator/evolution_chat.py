"""Evolution's chat routes: read, look up, check numbers, show presence.

Holds: the handlers of ``/chat/*``. Add here: another chat route. Do not add: JSON shapes
(``evolution_bodies``), what becomes of a message (``network``).

Source: gateway-contract.md 1.10-1.14.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Final

from warmup_pipeline.gateways.simulator import ids
from warmup_pipeline.gateways.simulator.evolution_bodies import (
    CLOSED_ERROR,
    MESSAGE_TABLE,
    UPDATE_TABLE,
    error,
    invalid,
    message_type,
    number_check_closed,
    received_key,
    record,
    statuses,
    uncaught,
)
from warmup_pipeline.gateways.simulator.evolution_messages import NUMBER
from warmup_pipeline.gateways.simulator.jids import GROUP, LID, USER, create_jid, source_of, user_of
from warmup_pipeline.gateways.simulator.network import Call, Network
from warmup_pipeline.gateways.simulator.schema import Schema, violations
from warmup_pipeline.gateways.simulator.state import Instance, Message
from warmup_pipeline.gateways.simulator.wire import Reply, json_reply

_READ_SCHEMA: Final[Schema] = {
    "type": "object",
    "properties": {
        "readMessages": {
            "type": "array",
            "minItems": 1,
            "uniqueItems": True,
            "items": {
                "type": "object",
                "properties": {
                    "id": {"type": "string"},
                    "fromMe": {"type": "boolean", "enum": [True, False]},
                    "remoteJid": {"type": "string"},
                },
                "required": ["id", "fromMe", "remoteJid"],
            },
        }
    },
    "required": ["readMessages"],
}
_PRESENCE_SCHEMA: Final[Schema] = {
    "type": "object",
    "properties": {
        "number": NUMBER,
        "delay": {"type": "number"},
        "presence": {
            "type": "string",
            "enum": ["unavailable", "available", "composing", "recording", "paused"],
        },
    },
    "required": ["number", "presence", "delay"],
}
_NUMBERS_SCHEMA: Final[Schema] = {
    "type": "object",
    "properties": {
        "numbers": {
            "type": "array",
            "minItems": 1,
            "uniqueItems": True,
            "items": {"type": "string", "description": '"numbers" must be an array of numeric strings'},
        }
    },
}
_STATUS_WORDS: Final = ["ERROR", "PENDING", "SERVER_ACK", "DELIVERY_ACK", "READ", "PLAYED"]
_FIND_SCHEMA: Final[Schema] = {
    "type": "object",
    "properties": {
        "where": {
            "type": "object",
            "properties": {
                "id": {"type": "string"},
                "key": {
                    "type": "object",
                    "properties": {
                        "id": {"type": "string"},
                        "remoteJid": {"type": "string"},
                        "fromMe": {"type": "boolean"},
                    },
                },
                "status": {"type": "string", "enum": _STATUS_WORDS},
            },
        }
    },
}
_EMPTY: Final = "The property cannot be empty"
_PAGE_SIZE: Final = 50
_STATUS_RANKS: Final = {name: n for n, name in enumerate(_STATUS_WORDS)}


def _not_loaded(method: str) -> Reply:
    return uncaught(f"Cannot read properties of undefined (reading '{method}')")


def mark_read(network: Network, call: Call, instance: Instance, body: Any) -> Reply:
    """``POST /chat/markMessageAsRead``: privacy ids are skipped without a word (1.10)."""
    if texts := violations(_READ_SCHEMA, body):
        return invalid(texts)
    if not instance.loaded:
        return _not_loaded("markMessageAsRead")
    if instance.state != "open":
        return error(500, ["Read messages fail", CLOSED_ERROR])
    for key in body["readMessages"]:
        if key["remoteJid"].endswith((USER, GROUP)) and not key["fromMe"]:
            network.mark_read(instance, key["id"], call.now)
    return json_reply(201, {"message": "Read messages", "read": "success"})


def find_messages(network: Network, call: Call, instance: Instance, body: Any) -> Reply:
    """``POST /chat/findMessages``: sent and received, newest first, in pages (1.11)."""
    fields = body if isinstance(body, dict) else {}
    where = fields.get("where") or {}
    key = (where.get("key") or {}) if isinstance(where, dict) else {}
    if (
        violations(_FIND_SCHEMA, fields)
        or _has_empty(where, "id", "source", "messageType")
        or (isinstance(key, dict) and _has_empty(key, "id", "remoteJid", "participant", "remoteJidAlt"))
    ):
        return invalid([_EMPTY])
    page, size = fields.get("page", 1), fields.get("offset", _PAGE_SIZE)
    if not _whole(page) or not _whole(size):
        return uncaught("Argument `take` or `skip`: Invalid value provided. Expected Int, provided String.")
    if not instance.loaded:
        return _not_loaded("fetchMessages")
    page, size = page or 1, size or _PAGE_SIZE
    conditions, arguments = _conditions(where, key)
    found = network.state.conversation_view(instance.id, conditions, arguments)
    found = [m for m in found if _matches(network, instance, m, where, key)]
    shown = found[(page - 1) * size : page * size]
    return json_reply(
        200,
        {
            "messages": {
                "total": len(found),
                "pages": -(-len(found) // size),
                "currentPage": page,
                "records": [record(network, instance, m) for m in shown],
            }
        },
    )


def _whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _has_empty(fields: dict[str, Any], *names: str) -> bool:
    return any(name in fields and (not isinstance(fields[name], str) or not fields[name]) for name in names)


def _conditions(where: dict[str, Any], key: dict[str, Any]) -> tuple[str, list[Any]]:
    """Return the SQL of what can be asked of the rows themselves; times need both bounds to count."""
    conditions, arguments = ["1 = 1"], list[Any]()
    if "id" in key:
        conditions.append("wa_id = ?")
        arguments.append(key["id"])
    span = where.get("messageTimestamp")
    if isinstance(span, dict) and span.get("gte") and span.get("lte"):
        low, high = _seconds(span["gte"]), _seconds(span["lte"])
        if low is not None and high is not None:
            conditions.append("at >= ? AND at < ?")
            arguments += [low * 1000, (high + 1) * 1000]
    return " AND ".join(conditions), arguments


def _seconds(value: object) -> int | None:
    if isinstance(value, int | float) and not isinstance(value, bool):
        return int(value // 1000)
    try:
        moment = datetime.fromisoformat(str(value))
    except ValueError:
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return int(moment.timestamp() // 1)


def _matches(
    network: Network, instance: Instance, message: Message, where: dict[str, Any], key: dict[str, Any]
) -> bool:
    own = message.instance_id == instance.id
    if key.get("fromMe") is True and not own:
        return False
    if "id" in where and where["id"] != ids.row_id(MESSAGE_TABLE, message.id * 2 + (not own)):
        return False
    if "messageType" in where and where["messageType"] != message_type(message):
        return False
    if "source" in where and where["source"] != source_of(message.wa_id):
        return False
    if "remoteJid" not in key and "remoteJidAlt" not in key:
        return True
    shown = (
        {"remoteJid": message.remote_jid}
        if own
        else received_key(network, message, network.state.instance_by_id(message.instance_id))
    )
    return all(shown.get(name) == key[name] for name in ("remoteJid", "remoteJidAlt") if name in key)


def find_status(network: Network, call: Call, instance: Instance, body: Any) -> Reply:
    """``POST /chat/findStatusMessage``: a bare array, one row per status event (1.13)."""
    fields = body if isinstance(body, dict) else {}
    where = fields.get("where") or {}
    if texts := violations(_FIND_SCHEMA, fields):
        return invalid(texts)
    if _has_empty(where, "id", "remoteJid"):
        return invalid([_EMPTY])
    if not instance.loaded:
        return _not_loaded("fetchStatusMessage")
    page, size = fields.get("page") or 1, fields.get("offset") or _PAGE_SIZE
    if not _whole(page) or not _whole(size):
        return uncaught("Argument `take` or `skip`: Invalid value provided. Expected Int, provided String.")
    rows = [
        {
            "id": ids.row_id(UPDATE_TABLE, message.id * 8 + _STATUS_RANKS[status]),
            "keyId": message.wa_id,
            "remoteJid": message.remote_jid,
            "fromMe": True,
            "participant": None,
            "pollUpdates": None,
            "status": status,
            "messageId": ids.row_id(MESSAGE_TABLE, message.id * 2),
            "instanceId": instance.uuid,
        }
        for message in network.state.sent_by(instance.id, where.get("id"))
        if where.get("remoteJid") in (None, message.remote_jid)
        for status in statuses(message)
    ]
    return json_reply(200, rows[(page - 1) * size : page * size])


def check_numbers(network: Network, call: Call, instance: Instance, body: Any) -> Reply:
    """``POST /chat/whatsappNumbers``: errors come without the envelope (1.12)."""
    if not isinstance(body, dict) or "numbers" not in body or not instance.loaded:
        return json_reply(400, {})
    if texts := violations(_NUMBERS_SCHEMA, body):
        return json_reply(400, {"status": 400, "error": "Bad Request", "message": [texts]})
    pairs = [(number, create_jid(number)) for number in body["numbers"]]
    unseen = [jid for _, jid in pairs if not network.number_cached(jid, call.now)]
    if unseen and instance.state != "open":
        return number_check_closed()
    rows: list[dict[str, Any]] = []
    for number, jid in sorted(pairs, key=lambda pair: not pair[1].endswith(GROUP)):
        known = network.on_whatsapp(jid)
        row = {"jid": jid, "exists": known, "number": number}
        owner = network.lookup(jid) if known else None
        if owner is not None:
            row["name"] = owner.profile_name
            if owner.lid:
                row["lid"] = f"{owner.lid}{LID}"
        if known and jid.endswith(USER):
            network.state.remember_number(user_of(jid), call.now)
        rows.append(row)
    return json_reply(200, rows)


def send_presence(network: Network, call: Call, instance: Instance, body: Any) -> Reply:
    """``POST /chat/sendPresence``: answers after ``delay`` milliseconds (1.14)."""
    if texts := violations(_PRESENCE_SCHEMA, body):
        return invalid(texts)
    if not instance.loaded:
        return _not_loaded("sendPresence")
    if instance.state != "open":
        return error(400, [CLOSED_ERROR])
    if not network.on_whatsapp(create_jid(body["number"])):
        return error(400, ["[object Object]"])
    return json_reply(201, {"presence": body["presence"]}).delayed(body["delay"])


HANDLERS: Final[dict[tuple[str, str, str], Callable[[Network, Call, Instance, Any], Reply]]] = {
    ("POST", "chat", "markMessageAsRead"): mark_read,
    ("POST", "chat", "findMessages"): find_messages,
    ("POST", "chat", "findStatusMessage"): find_status,
    ("POST", "chat", "whatsappNumbers"): check_numbers,
    ("POST", "chat", "sendPresence"): send_presence,
}
