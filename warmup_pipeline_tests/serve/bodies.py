"""Webhook bodies as gateway-contract.md 1.16 and 2.5 show them."""

from __future__ import annotations

from typing import Any


def evolution(instance: str, event: str, data: Any) -> dict[str, Any]:
    return {
        "event": event,
        "instance": instance,
        "data": data,
        "destination": "http://127.0.0.1/hook",
        "date_time": "2026-11-23T07:48:46.224Z",
        "sender": "5511900000001@s.whatsapp.net",
        "server_url": "http://127.0.0.1",
        "apikey": "an-instance-token",
    }


def update(instance: str, message_id: str, status: str, **more: Any) -> dict[str, Any]:
    data = {
        "keyId": message_id,
        "remoteJid": "5511987654321@s.whatsapp.net",
        "fromMe": True,
        "participant": None,
        "status": status,
        "instanceId": "96f043b8-bf50-405c-909e-68f429254016",
        "messageId": "cmwsyrkyx00028c7dtgil905f",
    }
    return evolution(instance, "messages.update", data | more)


def upsert(
    instance: str,
    message_id: str,
    sender: str,
    text: str = "Oi, tudo bem?",
    lid: str | None = None,
    **key: Any,
) -> dict[str, Any]:
    address: dict[str, Any] = {"remoteJid": f"{sender}@s.whatsapp.net"}
    if lid is not None:
        address = {"remoteJid": lid, "addressingMode": "lid"}
        if sender:
            address["remoteJidAlt"] = f"{sender}@s.whatsapp.net"
    data = {
        "key": {**address, "fromMe": False, "id": message_id, **key},
        "pushName": "Ana",
        "status": "DELIVERY_ACK",
        "message": {"conversation": text},
        "contextInfo": None,
        "messageType": "conversation",
        "messageTimestamp": 1795420126,
        "instanceId": "96f043b8-bf50-405c-909e-68f429254016",
        "source": "ios",
    }
    return evolution(instance, "messages.upsert", data)


def connection(instance: str, state: str, reason: int = 200) -> dict[str, Any]:
    return evolution(
        instance, "connection.update", {"instance": instance, "state": state, "statusReason": reason}
    )


def delivery(instance: str, message_id: str, queue_id: str, error: str | None = None) -> dict[str, Any]:
    body: dict[str, Any] = {
        "phone": "554499999999",
        "messageId": message_id,
        "instanceId": instance,
        "zaapId": queue_id,
        "momment": 1777494009341,
        "type": "DeliveryCallback",
    }
    return body if error is None else body | {"error": error}


def status(instance: str, *ids: str, said: str = "RECEIVED") -> dict[str, Any]:
    return {
        "instanceId": instance,
        "status": said,
        "ids": list(ids),
        "momment": 1632234645000,
        "phoneDevice": 0,
        "phone": "5544999999999",
        "type": "MessageStatusCallback",
        "isGroup": False,
    }


def received(instance: str, message_id: str, phone: str, **more: Any) -> dict[str, Any]:
    return {
        "isStatusReply": False,
        "senderLid": "81896604192873@lid",
        "connectedPhone": "554499999999",
        "waitingMessage": False,
        "isEdit": False,
        "isGroup": False,
        "isNewsletter": False,
        "instanceId": instance,
        "messageId": message_id,
        "phone": phone,
        "fromMe": False,
        "momment": 1632228638000,
        "status": "RECEIVED",
        "chatName": "name",
        "senderName": "name",
        "participantPhone": None,
        "broadcast": False,
        "type": "ReceivedCallback",
        "text": {"message": "Oi, tudo bem?"},
    } | more


def disconnected(instance: str) -> dict[str, Any]:
    return {
        "momment": 1580163342,
        "error": "Device has been disconnected",
        "disconnected": True,
        "type": "DisconnectedCallback",
        "instanceId": instance,
    }


def connected(instance: str, phone: str) -> dict[str, Any]:
    return {
        "type": "ConnectedCallback",
        "connected": True,
        "momment": 1580163342000,
        "instanceId": instance,
        "phone": phone,
    }
