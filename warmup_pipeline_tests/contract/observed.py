"""Bodies as the contract shows them, and how another body is compared with one, key by key.

Holds: the observed bodies of a warm-up's routes (gateway-contract.md, the section beside each), and
:func:`differences`. Values are examples: what counts is which keys there are, and of which type each is.
"""

from __future__ import annotations

from typing import Any, Final

ANY: Final = object()
"""Any value at all: the contract names the key only."""
OPTIONAL: Final = "?"
"""Ends the name of a key that need not be there (others release, or unknown yet)."""

# --- Evolution: errors (1.1)
UNAUTHORIZED: Final = {"status": 401, "error": "Unauthorized", "response": {"message": "Unauthorized"}}
NO_INSTANCE: Final = {
    "status": 404,
    "error": "Not Found",
    "response": {"message": ['The "nope" instance does not exist']},
}
INVALID: Final = {"status": 400, "error": "Bad Request", "response": {"message": [["…"]]}}
MALFORMED: Final = {"status": 400, "error": "Internal Server Error", "response": {"message": "Expected …"}}

# --- Evolution: instances (1.2 to 1.6)
STATE: Final = {"instance": {"instanceName": "chip1", "state": "open"}}
RESTART_REFUSED: Final = {"error": True, "message": "[object Object]"}
QR: Final = {"pairingCode": None, "code": "2@…", "base64": "data:image/png;base64,…", "count": 1}
PAIRING: Final = {"pairingCode": "ABCD1234", "code": "2@…", "base64": "data:image/png;base64,…", "count": 1}
INSTANCE: Final = {
    "id": "96f043b8-bf50-405c-909e-68f429254016",
    "name": "chip1",
    "connectionStatus": "open",
    "ownerJid": "5511900000001@s.whatsapp.net",
    "profileName": "Chip Teste",
    "profilePicUrl": None,
    "integration": "WHATSAPP-BAILEYS",
    "number": None,
    "businessId": None,
    "token": "…",
    "clientName": "evolution",
    "disconnectionReasonCode": None,
    "disconnectionObject": None,
    "disconnectionAt": None,
    "createdAt": "2026-11-23T07:45:30.005Z",
    "updatedAt": "2026-11-23T07:47:34.267Z",
    "Chatwoot": None,
    "Proxy": None,
    "Rabbitmq": None,
    "Nats?": None,
    "Sqs": None,
    "Websocket": None,
    "Setting": {
        "id": "cmw…",
        "rejectCall": False,
        "msgCall": "",
        "groupsIgnore": False,
        "alwaysOnline": False,
        "readMessages": False,
        "readStatus": False,
        "syncFullHistory": False,
        "wavoipToken": "",
        "createdAt": "…Z",
        "updatedAt": "…Z",
        "instanceId": "96f043b8-…",
    },
    "_count": {"Message": 25, "Contact": 2, "Chat": 0},
}

# --- Evolution: sending (1.7 to 1.9)
SENT_TEXT: Final = {
    "key": {"remoteJid": "5511987654321@s.whatsapp.net", "fromMe": True, "id": "3EB0D56198378BD13C866A"},
    "pushName?": "Você",
    "status": "PENDING",
    "message": {"conversation": "Olá, tudo bem?"},
    "contextInfo": {
        "mentionedJid": [],
        "groupMentions": [],
        "ephemeralSettingTimestamp": ANY,
        "disappearingMode": {"initiator": 0},
    },
    "messageType": "conversation",
    "messageTimestamp": 1795420091,
    "instanceId": "96f043b8-bf50-405c-909e-68f429254016",
    "source": "web",
}
_MEDIA: Final = {
    "url": "https://…",
    "mimetype": "image/jpeg",
    "fileSha256": ANY,
    "fileLength": ANY,
    "mediaKey": ANY,
    "fileEncSha256": ANY,
    "directPath": "/…",
    "mediaKeyTimestamp": ANY,
    "contextInfo?": ANY,
}
SENT_PICTURE: Final = SENT_TEXT | {
    "message": {
        "imageMessage": _MEDIA
        | {"caption?": "…", "fileName?": ANY, "jpegThumbnail": ANY, "height": 640, "width": 640},
        "mediaUrl?": ANY,
    },
    "contextInfo?": ANY,
    "messageType": "imageMessage",
}
SENT_AUDIO: Final = SENT_TEXT | {
    "message": {
        "audioMessage": _MEDIA | {"seconds": 2, "ptt": True, "waveform": ANY},
        "mediaUrl?": ANY,
    },
    "contextInfo?": ANY,
    "messageType": "audioMessage",
}
NOT_ON_WHATSAPP: Final = {
    "status": 400,
    "error": "Bad Request",
    "response": {
        "message": [{"jid": "5511900000000@s.whatsapp.net", "exists": False, "number": "5511900000000"}]
    },
}
CLOSED_SENDING: Final = {"status": 500, "error": "Internal Server Error", "response": {"message": "…"}}

# --- Evolution: chats (1.10 to 1.13)
READ: Final = {"message": "Read messages", "read": "success"}
FOUND_NONE: Final = {"messages": {"total": 0, "pages": 0, "currentPage": 1, "records": []}}
FOUND: Final = {
    "messages": {
        "total": 1,
        "pages": 1,
        "currentPage": 1,
        "records": [
            {
                "id": "cmwsyrkyx00028c7dtgil905f",
                "key": {"id": "3EB0…", "fromMe": True, "remoteJid": "5511987654321@s.whatsapp.net"},
                "pushName": "Você",
                "messageType": "conversation",
                "message": {"conversation": "Olá, tudo bem?"},
                "messageTimestamp": 1795420091,
                "instanceId": "96f043b8-…",
                "source": "web",
                "contextInfo": ANY,
                "MessageUpdate": ANY,
                "participant?": ANY,
            }
        ],
    }
}
NUMBERS: Final = [
    {
        "jid": "5511987654321@s.whatsapp.net",
        "exists": True,
        "number": "5511987654321",
        "name?": "",
        "lid?": "",
    }
]
STATUSES: Final = [
    {
        "id": "cmwsyrla600038c7dscj8j05e",
        "keyId": "3EB0D56198378BD13C866A",
        "remoteJid": "5511987654321@s.whatsapp.net",
        "fromMe": True,
        "participant": None,
        "pollUpdates": None,
        "status": "SERVER_ACK",
        "messageId": "cmwsyrkyx00028c7dtgil905f",
        "instanceId": "96f043b8-…",
    }
]

# --- Evolution: webhooks (1.16)
WEBHOOK: Final = {
    "id": "cmw…",
    "url": "http://…",
    "headers": ANY,
    "enabled": True,
    "events": ["MESSAGES_UPDATE"],
    "webhookByEvents": False,
    "webhookBase64": False,
    "createdAt": "…Z",
    "updatedAt": "…Z",
    "instanceId": "96f043b8-…",
}
_ENVELOPE: Final = {
    "event": "messages.upsert",
    "instance": "chip1",
    "destination": "http://…/hook",
    "date_time": "2026-11-23T07:48:46.224Z",
    "sender?": "5511900000001@s.whatsapp.net",
    "server_url": "http://…",
    "apikey": ANY,
}
EVENT_UPSERT: Final = _ENVELOPE | {
    "data": {
        "key": {
            "remoteJid": "5511987654321@s.whatsapp.net",
            "fromMe": False,
            "id": "3A1B…",
            "remoteJidAlt?": "",
            "addressingMode?": "lid",
        },
        "pushName": "Dra. Ana",
        "status": "DELIVERY_ACK",
        "message": {"conversation": "Oi", "messageContextInfo?": ANY},
        "contextInfo?": None,
        "messageType": "conversation",
        "messageTimestamp": 1795420126,
        "instanceId": "<uuid>",
        "source": "ios",
    }
}
EVENT_UPDATE: Final = _ENVELOPE | {
    "data": {
        "keyId": "3EB0…",
        "remoteJid": "5511987654321@s.whatsapp.net",
        "fromMe": True,
        "participant?": None,
        "status": "DELIVERY_ACK",
        "instanceId": "<uuid>",
        "messageId": "cmw…",
    }
}
EVENT_CONNECTING: Final = _ENVELOPE | {
    "data": {"instance": "chip1", "state": "connecting", "statusReason": 200}
}
EVENT_OPEN: Final = _ENVELOPE | {
    "data": {
        "instance": "chip1",
        "wuid": "5511900000001@s.whatsapp.net",
        "profileName": "Chip Teste",
        "profilePictureUrl": ANY,
        "state": "open",
        "statusReason": 200,
    }
}

# --- Z-API: instances (2.1, 2.2)
Z_ERROR: Final = {"error": "…", "message?": "…"}
Z_STATUS: Final = {
    "connected": True,
    "error": "You are already connected",
    "smartphoneConnected": True,
    "session?": ANY,
    "created?": ANY,
}
Z_DONE: Final = {"value": True}
Z_QR: Final = {"value": "data:image/png;base64,…"}
Z_CODE: Final = {"value": "A1B2C3D4E5"}
Z_DEVICE: Final = {
    "phone": "5544999999999",
    "imgUrl": ANY,
    "about": ANY,
    "name": "…",
    "device": {"sessionName": "Z-API", "device_model": "Z-API"},
    "originalDevice": "…",
    "sessionId": 1,
    "isBusiness": False,
}

# --- Z-API: sending, numbers, queue (2.3)
Z_SENT: Final = {
    "zaapId": "3999984263738042930CD6ECDE9VDWSA",
    "messageId": "D241XXXX732339502B68",
    "id?": "D241…",
}
Z_EXISTS: Final = [{"exists": True, "inputPhone": "5544…", "outputPhone": "5544…", "lid": ANY}]
Z_QUEUE: Final = {"messages": ANY, "pagingState": ANY, "hasMore": False}

# --- Z-API: webhooks (2.5)
Z_RECEIVED: Final = {
    "isStatusReply": False,
    "chatLid?": ANY,
    "senderLid": ANY,
    "connectedPhone": "554499999999",
    "waitingMessage": False,
    "isEdit": False,
    "isGroup": False,
    "isNewsletter": False,
    "instanceId": "A20D…",
    "messageId": "A20D…",
    "phone": "5544999999999",
    "fromMe": False,
    "momment": 1632228638000,
    "status": "RECEIVED",
    "chatName": "name",
    "senderPhoto": ANY,
    "senderName": "name",
    "participantPhone": None,
    "participantLid": None,
    "photo": ANY,
    "broadcast": False,
    "type": "ReceivedCallback",
    "text": {"message": "test"},
}
Z_DELIVERY: Final = {
    "phone": "554499999999",
    "messageId": "A800…",
    "instanceId": "…",
    "zaapId": "A20D…",
    "momment": 1777494009341,
    "type": "DeliveryCallback",
}
Z_MESSAGE_STATUS: Final = {
    "instanceId": "…",
    "status": "SENT",
    "ids": ["999999999999999999999"],
    "momment": 1632234645000,
    "phoneDevice": 0,
    "phone": "5544999999999",
    "type": "MessageStatusCallback",
    "isGroup": False,
}
Z_DISCONNECTED: Final = {
    "momment": 1580163342,
    "error": "Device has been disconnected",
    "disconnected": True,
    "type": "DisconnectedCallback",
    "instanceId": "…",
}
Z_CONNECTED: Final = {
    "type": "ConnectedCallback",
    "connected": True,
    "momment": 1580163342,
    "instanceId": "…",
    "phone": "5544999999999",
}


def differences(actual: Any, observed: Any, place: str = "body") -> list[str]:
    """Return where a body is not of an observed one's form: keys missing or more, values of another type."""
    if observed is ANY:
        return []
    if isinstance(observed, dict):
        if not isinstance(actual, dict):
            return [f"{place} is no object"]
        wanted = {
            name.removesuffix(OPTIONAL): (name.endswith(OPTIONAL), value) for name, value in observed.items()
        }
        # A key that is optional in one body and not in the one it was made from is optional.
        may_lack = {name.removesuffix(OPTIONAL) for name in observed if name.endswith(OPTIONAL)}
        found = [
            f"{place}.{name} is missing" for name in wanted if name not in actual and name not in may_lack
        ]
        found += [f"{place}.{name} is not in the contract" for name in actual if name not in wanted]
        for name, (_, value) in wanted.items():
            if name in actual and name not in may_lack:
                found += differences(actual[name], value, f"{place}.{name}")
        return found
    if isinstance(observed, list):
        if not isinstance(actual, list):
            return [f"{place} is no list"]
        if observed and not actual:
            return [f"{place} is empty"]
        return [
            line
            for one in actual
            for line in (differences(one, observed[0], f"{place}[]") if observed else [])
        ]
    if observed is None:
        return []
    if isinstance(observed, bool) is not isinstance(actual, bool) or not isinstance(actual, type(observed)):
        return [f"{place} is {type(actual).__name__}, not {type(observed).__name__}"]
    return []
