"""Z-API's surface: routing, credentials, instance routes, queue and webhook configuration.

Holds: :class:`ZapiGateway`. Add here: an instance route (2.2), a queue route or a setting (2.3,
2.4). Do not add: sending (``zapi_messages``).

Source: gateway-contract.md part 2. Statuses that only third parties report are settings.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Final
from urllib.parse import unquote, urlsplit

from warmup_pipeline.domain.values import Provider
from warmup_pipeline.gateways.simulator import body as bodies
from warmup_pipeline.gateways.simulator import ids, zapi_messages
from warmup_pipeline.gateways.simulator.faults import FaultRule
from warmup_pipeline.gateways.simulator.jids import LID, USER, account, digits_of
from warmup_pipeline.gateways.simulator.media import qr_png
from warmup_pipeline.gateways.simulator.network import Call, Network
from warmup_pipeline.gateways.simulator.state import Instance, Message
from warmup_pipeline.gateways.simulator.wire import Reply, Request, dumps, empty_reply, json_reply

Handler = Callable[[Network, Call, Instance, list[str], Any], Reply]

PREFIX: Final = "/instances/"
_ROUTES: Final = {
    "status": "state",
    "restart": "restart",
    "restore-session": "connect",
    "qr-code": "connect",
    "phone-code": "connect",
    "send-text": "text",
    "send-image": "media",
    "send-audio": "audio",
    "read-message": "read",
}
_WEBHOOKS: Final = {
    "update-webhook-received": ("receivedCallbackUrl",),
    "update-webhook-received-delivery": ("receivedAndDeliveryCallbackUrl",),
    "update-webhook-delivery": ("deliveryCallbackUrl",),
    "update-webhook-message-status": ("messageStatusCallbackUrl",),
    "update-webhook-disconnected": ("disconnectedCallbackUrl",),
    "update-webhook-connected": ("connectedCallbackUrl",),
    "update-webhook-chat-presence": ("presenceChatCallbackUrl",),
}
_EVERY_WEBHOOK: Final = tuple(
    name for names in _WEBHOOKS.values() for name in names if name != "receivedAndDeliveryCallbackUrl"
)
_LOOPBACK: Final = ("127.0.0.1", "localhost", "::1")
_QR_LIFE_MS: Final = 20_000
_LARGEST_PAGE: Final = 30
_LARGEST_BATCH: Final = 50_000
_DONE: Final = {"value": True}
_NAMED: Final[dict[str, tuple[int, dict[str, Any]]]] = {
    "restriction": (
        400,
        {"error": "The message was not sent due to a likely shadow ban", "errorCode": "SHADOW_BAN"},
    ),
    "connection_closed_500_string": (500, {"error": "You are not connected"}),
    "connection_closed_400_array": (400, {"error": "You need to be connected"}),
    "connection_closed_500_array": (500, {"error": "You need to restore the session"}),
    "rate_overlimit": (400, {"error": "rate-overlimit"}),
    "validation": (400, {"error": "Message has not been sent because it got invalid request params."}),
    "not_on_whatsapp": (400, {"error": "Phone number does not exist"}),
    "instance_not_found": (404, {"error": "Instance not found"}),
}


class ZapiGateway:
    """Everything under ``/instances/{id}/token/{token}/``."""

    provider = Provider.Z_API.value

    def __init__(self, network: Network) -> None:
        self._network = network
        self._handlers: dict[str, dict[str, Handler]] = {
            "status": {"GET": _status},
            "restart": {"GET": _restart},
            "restore-session": {"GET": _restart},
            "disconnect": {"GET": _disconnect},
            "qr-code": {"GET": _qr_code},
            "phone-code": {"GET": _phone_code},
            "me": {"GET": _me},
            "device": {"GET": _device},
            "phone-exists": {"GET": _phone_exists},
            "phone-exists-batch": {"POST": _phone_exists_batch},
            "queue": {"GET": _queue, "POST": _queue, "DELETE": _clear_queue},
            "update-every-webhooks": {"PUT": _every_webhook},
            "update-notify-sent-by-me": {"PUT": _notify_sent_by_me},
            "update-filters": {"PUT": _filters},
            **{name: {"PUT": _webhook} for name in _WEBHOOKS},
            **zapi_messages.HANDLERS,
        }

    def claims(self, path: str) -> bool:
        """Whether a path is Z-API's."""
        return path.startswith(PREFIX)

    def target(self, request: Request) -> tuple[str, str]:
        """Return the instance id in the path and the fault route."""
        parts = request.path.split("/")
        name = unquote(parts[2]) if len(parts) > 2 else ""
        return name, _ROUTES.get(parts[5], "other") if len(parts) > 5 else "other"

    def handle(self, call: Call) -> Reply:
        """Answer a request: path, credentials, method, content type, handler."""
        request, settings = call.request, self._network.settings
        parts = request.path.split("/")
        if len(parts) < 6 or parts[3] != "token":
            return self._unknown_route()
        if settings.zapi_client_token:
            given = request.headers.get("client-token")
            if given is None:
                return json_reply(
                    settings.zapi_missing_token_status, {"error": "your client-token is not configured"}
                )
            if given != settings.zapi_client_token:
                return _wrong_token(settings.zapi_wrong_token_status, given)
        instance = self._network.state.instance(self.provider, unquote(parts[2]))
        if instance is None or instance.token != unquote(parts[4]):
            return json_reply(settings.zapi_unknown_instance_status, {"error": "Instance not found"})
        methods = self._handlers.get(parts[5])
        if methods is None:
            return self._unknown_route()
        handler = methods.get(request.method)
        if handler is None:
            return json_reply(405, {"error": "Method Not Allowed"})
        body: Any = {}
        if request.method in ("POST", "PUT"):
            if not request.headers.get("content-type", "").startswith("application/json"):
                return json_reply(415, {"error": "Unsupported Media Type"})
            try:
                body = bodies.parse(request)
            except bodies.MalformedBodyError:
                return json_reply(400, {"error": "Malformed JSON"})
            if not isinstance(body, dict):
                return json_reply(400, {"error": "Malformed JSON"})
        return handler(self._network, call, instance, [unquote(p) for p in parts[5:]], body)

    def drop(self, instance: str, now: int) -> None:
        """Drop a session, as a fault."""
        found = self._network.state.instance(self.provider, instance)
        if found is not None and found.state != "close":
            self._network.drop(found, now)

    def failure(self, call: Call, rule: FaultRule) -> Reply:
        """Return the answer of a ``status`` fault in Z-API's words."""
        if isinstance(rule.body, dict):
            reply = json_reply(rule.code or 500, rule.body)
        elif rule.body == "generic":
            status = rule.code or 500
            reply = json_reply(status, {"error": f"Error {status}"})
        elif rule.body == "unauthorized":
            given = call.request.headers.get("client-token", "null")
            reply = _wrong_token(rule.code or self._network.settings.zapi_wrong_token_status, given)
        else:
            status, document = _NAMED[rule.body]
            reply = json_reply(rule.code or status, document)
        if rule.retry_after is not None:
            reply = replace(reply, headers={**reply.headers, "Retry-After": str(rule.retry_after)})
        return reply

    def ok_with_error(self, call: Call) -> Reply:
        """Return a 200 with an error and no message id."""
        return json_reply(200, {"error": "Error on send message"})

    def _unknown_route(self) -> Reply:
        return json_reply(
            self._network.settings.zapi_unknown_route_status,
            {"error": "NOT_FOUND", "message": "Unable to find matching target resource method"},
        )


def _wrong_token(status: int, given: str) -> Reply:
    return json_reply(status, {"error": f"Client-Token {given} not allowed"})


# The instance: section 2.2.


def _status(network: Network, call: Call, instance: Instance, path: list[str], body: Any) -> Reply:
    connected = instance.state == "open"
    if connected:
        text = "You are already connected"
    elif instance.has_session and not instance.needs_qr:
        text = "You are not connected"
    else:
        text = "You need to restore the session"
    return json_reply(200, {"connected": connected, "error": text, "smartphoneConnected": connected})


def _restart(network: Network, call: Call, instance: Instance, path: list[str], body: Any) -> Reply:
    if instance.has_session and not instance.needs_qr:
        network.connect(instance, call.now, delay_ms=0)
    return json_reply(200, _DONE)


def _disconnect(network: Network, call: Call, instance: Instance, path: list[str], body: Any) -> Reply:
    network.drop(instance, call.now, logged_out=True)
    return json_reply(200, _DONE)


def _qr_code(network: Network, call: Call, instance: Instance, path: list[str], body: Any) -> Reply:
    if instance.state == "open":
        return json_reply(200, {"connected": True})
    code = qr_png(network.settings.seed, instance.name, call.now // _QR_LIFE_MS)
    return json_reply(200, {"value": f"data:image/png;base64,{code}"})


def _phone_code(network: Network, call: Call, instance: Instance, path: list[str], body: Any) -> Reply:
    if instance.state == "open":
        return json_reply(200, {"connected": True})
    phone = path[1] if len(path) > 1 else ""
    code = ids.digest(network.settings.seed, "phone-code", instance.name, phone)[:10]
    return json_reply(200, {"value": code.upper()})


def _me(network: Network, call: Call, instance: Instance, path: list[str], body: Any) -> Reply:
    options = webhooks_of(instance)
    return json_reply(
        200,
        {
            "id": instance.name,
            "token": instance.token,
            "name": instance.profile_name,
            "due": 0,
            "connected": instance.state == "open",
            "paymentStatus": "PAID",
            "created": instance.created_at,
            **{name: options.get(name) for name in _EVERY_WEBHOOK},
            "receivedAndDeliveryCallbackUrl": options.get("receivedAndDeliveryCallbackUrl"),
            "receiveCallbackSentByMe": bool(options.get("notifySentByMe")),
            "callRejectAuto": False,
            "callRejectMessage": None,
            "autoReadMessage": False,
            "initialDataCallbackUrl": None,
        },
    )


def _device(network: Network, call: Call, instance: Instance, path: list[str], body: Any) -> Reply:
    return json_reply(
        200,
        {
            "phone": instance.account if instance.owner_known else None,
            "imgUrl": None,
            "about": None,
            "name": instance.profile_name,
            "device": {"sessionName": "Z-API", "device_model": "Z-API"},
            "originalDevice": "android",
            "sessionId": instance.id,
            "isBusiness": False,
        },
    )


def _phone_exists(network: Network, call: Call, instance: Instance, path: list[str], body: Any) -> Reply:
    phone = digits_of(path[1]) if len(path) > 1 else ""
    jid = f"{account(phone)}{USER}"
    owner = network.lookup(jid)
    row: dict[str, Any] = {"exists": network.on_whatsapp(jid), "phone": phone}
    if owner is not None and owner.lid:
        row["lid"] = f"{owner.lid}{LID}"
    return json_reply(200, row if network.settings.zapi_bare_phone_exists else [row])


def _phone_exists_batch(
    network: Network, call: Call, instance: Instance, path: list[str], body: Any
) -> Reply:
    phones = body.get("phones")
    if not isinstance(phones, list) or len(phones) > _LARGEST_BATCH:
        return json_reply(400, {"error": "Invalid phones"})
    rows = []
    for phone in map(str, phones):
        known = account(digits_of(phone))
        owner = network.lookup(f"{known}{USER}")
        rows.append(
            {
                "exists": network.on_whatsapp(f"{known}{USER}"),
                "inputPhone": phone,
                "outputPhone": known,
                "lid": f"{owner.lid}{LID}" if owner is not None and owner.lid else None,
            }
        )
    return json_reply(200, rows)


# The queue: section 2.3.


def _queue_row(instance: Instance, message: Message) -> dict[str, Any]:
    return {
        "_id": ids.digest(message.id, "queue-row")[:24].upper(),
        "DelayMessage": 1,
        "DelayTyping": 0,
        "Message": message.body,
        "InstanceId": instance.name,
        "Phone": message.recipient_phone,
        "ZaapId": message.queue_id,
        "MessageId": message.wa_id,
        "Created": message.at,
    }


def _queue(network: Network, call: Call, instance: Instance, path: list[str], body: Any) -> Reply:
    size = body.get("pageSize", _LARGEST_PAGE)
    start = body.get("pagingState") or "0"
    if not isinstance(size, int) or not 1 <= size <= _LARGEST_PAGE or not str(start).isdigit():
        return json_reply(400, {"error": "Invalid pageSize or pagingState"})
    held = network.state.held_by(instance.id)
    offset = int(start)
    rows = [_queue_row(instance, message) for message in held[offset : offset + size]]
    more = offset + size < len(held)
    return json_reply(
        200, {"messages": rows, "pagingState": str(offset + size) if more else None, "hasMore": more}
    )


def _clear_queue(network: Network, call: Call, instance: Instance, path: list[str], body: Any) -> Reply:
    wanted = path[1] if len(path) > 1 else None
    for message in network.state.held_by(instance.id):
        if wanted is None or message.queue_id == wanted:
            network.remove_queued(message, call.now)
    return empty_reply(204) if wanted is None else json_reply(200, _DONE)


# Webhooks: section 2.4.


def webhooks_of(instance: Instance) -> dict[str, Any]:
    """Return an instance's webhook URLs and options by name."""
    loaded: dict[str, Any] = json.loads(instance.webhook) if instance.webhook else {}
    return loaded


def _store(network: Network, instance: Instance, **values: Any) -> Reply:
    instance.webhook = dumps({**webhooks_of(instance), **values})
    network.state.save_instance(instance)
    return json_reply(200, _DONE)


def _usable(url: object) -> bool:
    """Whether a URL may be a webhook: https, or a listener on this machine (the simulator's own licence)."""
    if not isinstance(url, str):
        return False
    parts = urlsplit(url)
    return bool(parts.hostname) and (parts.scheme == "https" or parts.hostname in _LOOPBACK)


def _webhook(network: Network, call: Call, instance: Instance, path: list[str], body: Any) -> Reply:
    url = body.get("value")
    if not _usable(url):
        return json_reply(400, {"error": "Webhook must be https"})
    return _store(network, instance, **dict.fromkeys(_WEBHOOKS[path[0]], url))


def _every_webhook(network: Network, call: Call, instance: Instance, path: list[str], body: Any) -> Reply:
    url = body.get("value")
    if not _usable(url):
        return json_reply(400, {"error": "Webhook must be https"})
    return _store(
        network,
        instance,
        **dict.fromkeys(_EVERY_WEBHOOK, url),
        notifySentByMe=bool(body.get("notifySentByMe")),
    )


def _notify_sent_by_me(network: Network, call: Call, instance: Instance, path: list[str], body: Any) -> Reply:
    return _store(network, instance, notifySentByMe=bool(body.get("notifySentByMe")))


def _filters(network: Network, call: Call, instance: Instance, path: list[str], body: Any) -> Reply:
    return _store(
        network,
        instance,
        messageFilters=body.get("messageFilters") or [],
        callbackTypeFilters=body.get("callbackTypeFilters") or [],
    )
