"""The outbox: webhook bodies of what happened, in each gateway's own form.

Holds: :func:`event_body`. Add here: the body of a further event. Do not add: calling webhooks
(``delivery`` reads the outbox in order and posts what it finds).

Source: gateway-contract.md 1.16 (Evolution) and 2.5 (Z-API). Events are stored as references and
worded when they are read, so that the outbox costs a send almost nothing.
"""

from __future__ import annotations

import json
from typing import Any, Final

from warmup_pipeline.domain.values import Provider
from warmup_pipeline.gateways.simulator import ids
from warmup_pipeline.gateways.simulator.evolution_bodies import (
    MESSAGE_TABLE,
    content,
    extra_of,
    iso,
    message_type,
    received_key,
    sent_body,
)
from warmup_pipeline.gateways.simulator.jids import GROUP, LID, USER, source_of
from warmup_pipeline.gateways.simulator.network import LOGGED_OUT, Network
from warmup_pipeline.gateways.simulator.state import Instance, Message

Row = tuple[int, int, str, int | None, int, str | None]


def event_body(network: Network, row: Row) -> dict[str, Any]:
    """Return an outbox row with its webhook body, and where it goes to (``None`` for nowhere).

    ``{"rowid", "at", "provider", "instance", "event", "body", "to": {"url", "headers"} | None}``.
    """
    rowid, instance_id, event, message_id, at, detail = row
    instance = network.state.instance_by_id(instance_id)
    message = None if message_id is None else network.state.message_by_id(message_id)
    make = _evolution if instance.provider == Provider.EVOLUTION.value else _zapi
    return {
        "rowid": rowid,
        "at": at,
        "provider": instance.provider,
        "instance": instance.name,
        "event": event,
        "body": make(network, instance, event, message, at, detail),
        "to": _destination(instance, event),
    }


_ADDRESS_OF: Final = {
    "ReceivedCallback": "receivedCallbackUrl",
    "DeliveryCallback": "deliveryCallbackUrl",
    "MessageStatusCallback": "messageStatusCallbackUrl",
    "DisconnectedCallback": "disconnectedCallbackUrl",
    "ConnectedCallback": "connectedCallbackUrl",
}
"""Z-API: each kind of event has an address of its own."""


def _destination(instance: Instance, event: str) -> dict[str, Any] | None:
    if not instance.webhook:
        return None
    stored: dict[str, Any] = json.loads(instance.webhook)
    if instance.provider != Provider.EVOLUTION.value:
        url = stored.get(_ADDRESS_OF[event])
        if url is None and event == "ReceivedCallback":
            url = stored.get("receivedAndDeliveryCallbackUrl")
        return {"url": url, "headers": None} if url else None
    wanted = stored["events"]
    if not stored["enabled"] or (wanted and event.upper().replace(".", "_") not in wanted):
        return None
    by_event = f"/{event.replace('.', '-')}" if stored["webhookByEvents"] else ""
    return {"url": f"{stored['url']}{by_event}", "headers": stored["headers"]}


def _evolution(
    network: Network, instance: Instance, event: str, message: Message | None, at: int, detail: str | None
) -> dict[str, Any]:
    body: dict[str, Any] = {
        "event": event,
        "instance": instance.name,
        "data": _evolution_data(network, instance, event, message, at, detail),
        "destination": json.loads(instance.webhook).get("url") if instance.webhook else None,
        "date_time": iso(at),
    }
    if instance.owner_known:
        body["sender"] = f"{instance.account}{USER}"
    body["server_url"] = "http://127.0.0.1"
    body["apikey"] = instance.token
    return body


def _evolution_data(
    network: Network, instance: Instance, event: str, message: Message | None, at: int, detail: str | None
) -> Any:
    if message is not None and event == "send.message":
        return sent_body(network.settings, instance, message)
    if message is not None and event == "messages.upsert":
        sender = network.state.instance_by_id(message.instance_id)
        return {
            "key": received_key(network, message, sender),
            "pushName": sender.profile_name,
            "status": "DELIVERY_ACK",
            "message": content(network.settings, message),
            "contextInfo": None,
            "messageType": message_type(message),
            "messageTimestamp": message.at // 1000,
            "instanceId": instance.uuid,
            "source": source_of(message.wa_id),
        }
    if message is not None:
        return {
            "keyId": message.wa_id,
            "remoteJid": message.remote_jid,
            "fromMe": True,
            "participant": None,
            "status": detail,
            "instanceId": instance.uuid,
            "messageId": ids.row_id(MESSAGE_TABLE, message.id * 2),
        }
    if event == "connection.update":
        return _connection(instance, json.loads(detail or "{}"))
    if event == "status.instance":
        return {
            "instance": instance.name,
            "status": "closed",
            "disconnectionAt": iso(at),
            "disconnectionReasonCode": LOGGED_OUT,
            "disconnectionObject": instance.disconnection_object,
        }
    if event == "logout.instance":
        return None
    return {"instanceName": instance.name, "instanceId": instance.uuid}


def _connection(instance: Instance, update: dict[str, Any]) -> dict[str, Any]:
    data: dict[str, Any] = {"instance": instance.name}
    if update.get("state") == "open":
        data |= {
            "wuid": f"{instance.account}{USER}",
            "profileName": instance.profile_name,
            "profilePictureUrl": None,
        }
    return data | update


def _zapi(
    network: Network, instance: Instance, event: str, message: Message | None, at: int, detail: str | None
) -> dict[str, Any]:
    if message is None:
        if event == "ConnectedCallback":
            return {
                "type": event,
                "connected": True,
                "momment": at,
                "instanceId": instance.name,
                "phone": instance.account,
            }
        return {
            "momment": at,
            "error": "Device has been disconnected",
            "disconnected": True,
            "type": event,
            "instanceId": instance.name,
        }
    if event == "ReceivedCallback":
        return _zapi_received(network, instance, message, at)
    if event == "DeliveryCallback":
        body: dict[str, Any] = {
            "phone": message.recipient_phone,
            "messageId": message.wa_id if detail is None else message.queue_id,
            "instanceId": instance.name,
            "zaapId": message.queue_id,
            "momment": at,
            "type": event,
        }
        return body if detail is None else {**body, "error": detail}
    other = message.recipient_phone
    if detail == "READ_BY_ME":
        other = message.sender_phone
    return {
        "instanceId": instance.name,
        "status": detail,
        "ids": [message.wa_id],
        "momment": at,
        "phoneDevice": 0,
        "phone": other,
        "type": event,
        "isGroup": message.remote_jid.endswith(GROUP),
    }


def _zapi_received(network: Network, instance: Instance, message: Message, at: int) -> dict[str, Any]:
    sender = network.state.instance_by_id(message.instance_id)
    lid = f"{sender.lid}{LID}" if sender.lid else None
    return {
        "isStatusReply": False,
        "chatLid": lid,
        "senderLid": lid,
        "connectedPhone": instance.account,
        "waitingMessage": False,
        "isEdit": False,
        "isGroup": False,
        "isNewsletter": False,
        "instanceId": instance.name,
        "messageId": message.wa_id,
        "phone": lid or sender.account,
        "fromMe": False,
        "momment": message.at,
        "status": "RECEIVED",
        "chatName": sender.profile_name,
        "senderPhoto": None,
        "senderName": sender.profile_name,
        "participantPhone": None,
        "participantLid": None,
        "photo": None,
        "broadcast": False,
        "type": "ReceivedCallback",
        **_zapi_content(message, at),
    }


def _zapi_content(message: Message, at: int) -> dict[str, Any]:
    url = f"https://f004.backblazeb2.com/file/temp-file-download/{message.wa_id}"
    if message.kind == "text":
        return {"text": {"message": message.body}}
    if message.kind == "reaction":
        referenced = {"messageId": extra_of(message).get("key", {}).get("id"), "fromMe": True}
        return {
            "reaction": {
                "value": message.body,
                "time": at,
                "reactionBy": message.sender_phone,
                "referencedMessage": {**referenced, "phone": message.sender_phone, "participant": None},
            }
        }
    if message.kind == "picture":
        return {
            "image": {
                "mimeType": message.media_mime,
                "imageUrl": url,
                "thumbnailUrl": url,
                "downloadError": False,
                "caption": message.body,
                "width": 640,
                "height": 640,
                "viewOnce": False,
            }
        }
    if message.kind == "audio":
        return {
            "audio": {
                "ptt": True,
                "seconds": 1 + (message.media_bytes or 0) // 2000,
                "audioUrl": url,
                "mimeType": message.media_mime,
                "viewOnce": False,
            }
        }
    return {
        "document": {
            "documentUrl": url,
            "mimeType": message.media_mime,
            "title": message.body,
            "pageCount": 1,
            "fileName": extra_of(message).get("fileName"),
        }
    }
