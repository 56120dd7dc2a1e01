"""Evolution's surface: routing, the order of checks, and the instance and webhook routes.

Holds: :class:`EvolutionGateway`. Add here: instance routes (1.2-1.6, 1.16). Do not add: sending
(``evolution_messages``), chat routes (``evolution_chat``), JSON shapes (``evolution_bodies``).

Source: gateway-contract.md 1.1: instance exists, (create) name free, key, schema, handler; and
malformed JSON before everything.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache
from typing import Any, Final
from urllib.parse import unquote

from warmup_pipeline.domain.values import Provider
from warmup_pipeline.gateways.simulator import body as bodies
from warmup_pipeline.gateways.simulator import evolution_chat, evolution_messages, ids
from warmup_pipeline.gateways.simulator.evolution_bodies import (
    DEFAULT_SETTINGS,
    WEBHOOK_TABLE,
    error,
    instance_row,
    invalid,
    iso,
    lies,
    named_failure,
    qr_object,
    reason_phrase,
    settings_of,
    state_body,
    unauthorized,
    uncaught,
    unknown_instance,
)
from warmup_pipeline.gateways.simulator.faults import FaultRule
from warmup_pipeline.gateways.simulator.jids import create_jid
from warmup_pipeline.gateways.simulator.network import QR_LIMIT, Call, Network
from warmup_pipeline.gateways.simulator.schema import violations
from warmup_pipeline.gateways.simulator.settings import SimulatedInstance
from warmup_pipeline.gateways.simulator.state import Instance
from warmup_pipeline.gateways.simulator.wire import Reply, Request, dumps, json_reply

Handler = Callable[[Network, Call, Instance, Any], Reply]

_PREFIXES: Final = ("/instance/", "/message/", "/chat/", "/webhook/")
_INTEGRATIONS: Final = ("WHATSAPP-BAILEYS", "WHATSAPP-BUSINESS", "EVOLUTION")
_ROUTES: Final = {
    "connectionState": "state",
    "restart": "restart",
    "connect": "connect",
    "sendText": "text",
    "sendMedia": "media",
    "sendWhatsAppAudio": "audio",
    "markMessageAsRead": "read",
}
_WEBHOOK_SCHEMA: Final = {
    "type": "object",
    "properties": {
        "webhook": {
            "type": "object",
            "properties": {
                "enabled": {"type": "boolean"},
                "url": {"type": "string"},
                "headers": {"type": "object"},
                "byEvents": {"type": "boolean"},
                "base64": {"type": "boolean"},
                "events": {"type": "array", "items": {"type": "string"}},
            },
            "required": ["enabled", "url"],
        }
    },
    "required": ["webhook"],
}
_NUMBER: Final = re.compile(r"[0-9]+[.@\w-]+")
_NO_EVENTS: Final = "Cannot read properties of undefined (reading 'length')"


class EvolutionGateway:
    """Everything under ``/instance/``, ``/message/``, ``/chat/`` and ``/webhook/``."""

    provider = Provider.EVOLUTION.value

    def __init__(self, network: Network) -> None:
        self._network = network
        self._handlers: dict[tuple[str, str, str], Handler] = {
            ("GET", "instance", "connectionState"): _connection_state,
            ("GET", "instance", "connect"): _connect,
            ("POST", "instance", "restart"): _restart,
            ("DELETE", "instance", "logout"): _logout,
            ("DELETE", "instance", "delete"): _delete,
            ("POST", "webhook", "set"): _set_webhook,
            ("GET", "webhook", "find"): _find_webhook,
            **evolution_messages.HANDLERS,
            **evolution_chat.HANDLERS,
        }

    def claims(self, path: str) -> bool:
        """Whether a path begins as Evolution's routes do (Z-API's begin with ``/instances/``)."""
        return path.startswith(_PREFIXES)

    def target(self, request: Request) -> tuple[str, str]:
        """Return the instance in the path (empty if none) and the fault route."""
        parts = request.path.split("/")
        route = _ROUTES.get(parts[2], "other") if len(parts) > 2 else "other"
        return (unquote(parts[3]) if len(parts) > 3 else "", route)

    def handle(self, call: Call) -> Reply:
        """Answer a request, in the real server's order of checks."""
        request = call.request
        try:
            body = bodies.parse(request)
        except bodies.MalformedBodyError as malformed:
            return uncaught(str(malformed), 400)
        parts = request.path.split("/")
        if parts[1:] == ["instance", "fetchInstances"] and request.method == "GET":
            return self._fetch_instances(call)
        if parts[1:] == ["instance", "create"] and request.method == "POST":
            return self._create(call, body)
        handler = self._handlers.get((request.method, parts[1], parts[2])) if len(parts) == 4 else None
        if handler is None or not parts[3]:
            return _unknown_route(request)
        name = unquote(parts[3])
        instance = self._network.state.instance(self.provider, name)
        if instance is None:
            return unknown_instance(name)
        if not self._key_opens(call, instance):
            return unauthorized()
        # The real server merges the query over the path after the guards: the handler then acts on
        # the other instance. A client must never send it; here it can be caught doing so.
        other = request.query.get("instanceName")
        if other is not None and other != name:
            found = self._network.state.instance(self.provider, other)
            instance = found if found is not None else replace(instance, name=other, loaded=0)
        return handler(self._network, call, instance, body)

    def drop(self, instance: str, now: int) -> None:
        """Drop a session, as a fault."""
        found = self._network.state.instance(self.provider, instance)
        if found is not None and found.state != "close":
            self._network.drop(found, now)

    def failure(self, call: Call, rule: FaultRule) -> Reply:
        """Return the answer of a ``status`` fault in Evolution's words."""
        if isinstance(rule.body, dict):
            reply = json_reply(rule.code or 500, rule.body)
        elif rule.body == "generic":
            status = rule.code or 500
            reply = error(status, [reason_phrase(status)])
        else:
            number = _number_in(call.request)
            named = named_failure(rule.body, self.target(call.request)[0], number, create_jid(number))
            reply = named if rule.code is None else replace(named, status=rule.code)
        if rule.retry_after is not None:
            reply = replace(reply, headers={**reply.headers, "Retry-After": str(rule.retry_after)})
        return reply

    def ok_with_error(self, call: Call) -> Reply:
        """Return a success that carries ``error: true``."""
        created = call.request.path.startswith("/message/") or call.request.path.startswith("/chat/markM")
        return replace(lies(), status=201 if created else 200)

    def _key_opens(self, call: Call, instance: Instance | None) -> bool:
        key = call.request.headers.get("apikey", "")
        if not key:
            return False
        if key == self._network.settings.evolution_key:
            return True
        return instance is not None and key == instance.token

    def _fetch_instances(self, call: Call) -> Reply:
        state, query = self._network.state, call.request.query
        key = call.request.headers.get("apikey", "")
        mine: str | None = None
        if not self._key_opens(call, None):
            if not key or not state.token_exists(self.provider, key):
                return unauthorized()
            mine = key
        name = query.get("instanceName")
        named = None if name is None else state.instance(self.provider, name)
        every = state.instances(self.provider) if name is None else [named] if named is not None else []
        rows = [i for i in every if mine is None or i.token == mine]
        if name is not None:
            rows = [i for i in rows if i.loaded]
            if not rows:
                return error(404, [f'Instance "{name}" not found'])
        if "instanceId" in query:
            rows = [i for i in rows if i.uuid == query["instanceId"]]
        if "number" in query:
            rows = [i for i in rows if query["number"] in (i.number, i.account, i.phone)]
        return json_reply(200, [instance_row(self._network, i) for i in rows])

    def _create(self, call: Call, body: Any) -> Reply:
        fields = body if isinstance(body, dict) else {}
        name = fields.get("instanceName")
        state = self._network.state
        if isinstance(name, str) and state.instance(self.provider, name) is not None:
            return error(403, [f'This name "{name}" is already in use.'])
        if not self._key_opens(call, None):
            return unauthorized()
        texts = violations({"type": "object", "properties": {"instanceName": {"type": "string"}}}, fields)
        number = fields.get("number")
        if number is not None and (not isinstance(number, str) or not _NUMBER.fullmatch(number)):
            texts.append("Invalid format")
        if texts:
            return invalid(texts)
        if fields.get("integration") not in _INTEGRATIONS:
            return error(400, ["Invalid integration"])
        webhook = fields.get("webhook")
        if isinstance(webhook, dict) and not isinstance(webhook.get("events"), list):
            return error(400, [_NO_EVENTS])
        return self._created(call, str(name or ""), fields)

    def _created(self, call: Call, name: str, fields: dict[str, Any]) -> Reply:
        network = self._network
        token = fields.get("token") or ids.uuid4(network.settings.seed, "token", name).upper()
        digits = "".join(c for c in str(fields.get("number") or "") if c.isdigit())
        known = 8 <= len(digits) <= 15
        declared = SimulatedInstance(
            provider=Provider.EVOLUTION,
            name=name or " ",
            phone=digits if known else "00000000",
            token=str(token),
            state="close",
            has_session=False,
            needs_qr=True,
        )
        row = network.new_instance(declared, call.now)
        row.name, row.number = name, fields.get("number")
        row.client_started = row.owner_known = 0
        row.declared = ""
        row.integration = fields["integration"]
        row.settings = dumps({k: v for k, v in fields.items() if k in DEFAULT_SETTINGS})
        row.webhook = _stored_webhook(fields["webhook"], call.now) if fields.get("webhook") else ""
        if fields.get("qrcode") is True:
            row.state, row.client_started, row.qr_since = "connecting", 1, call.now
        row.id = network.state.add_instance(row)
        network.emit(row, "instance.create", None, call.now)
        webhook = _webhook_row(row)
        answer: dict[str, Any] = {
            "instance": {
                "instanceName": name,
                "instanceId": row.uuid,
                "integration": row.integration,
                "webhookWaBusiness": None,
                "accessTokenWaBusiness": "",
                "status": row.state,
            },
            "hash": row.token,
            "webhook": {
                "webhookUrl": webhook.get("url"),
                "webhookByEvents": webhook.get("webhookByEvents"),
                "webhookBase64": webhook.get("webhookBase64"),
            }
            if webhook
            else {},
            "websocket": {},
            "rabbitmq": {},
            "nats": {},
            "sqs": {},
            "settings": settings_of(row),
        }
        if fields.get("qrcode") is True:
            answer["qrcode"] = qr_object(network, row, call.now, pairing=bool(fields.get("number")))
        return json_reply(201, answer)


def _unknown_route(request: Request) -> Reply:
    url = request.path
    if request.query:
        url += "?" + "&".join(f"{k}={v}" for k, v in request.query.items())
    return error(404, [f"Cannot {request.method} {url}"])


def _number_in(request: Request) -> str:
    try:
        document = json.loads(request.body or b"{}")
    except ValueError:
        return ""
    number = document.get("number") if isinstance(document, dict) else None
    return number if isinstance(number, str) else ""


@lru_cache(maxsize=4096)
def _state_reply(name: str, state: str | None) -> Reply:
    # What is asked most, of every chip in every cycle.
    return json_reply(200, state_body(name, state))


def _connection_state(network: Network, call: Call, instance: Instance, body: Any) -> Reply:
    _end_stale_qr(network, call, instance)
    return _state_reply(instance.name, instance.state if instance.loaded else None)


def _end_stale_qr(network: Network, call: Call, instance: Instance) -> None:
    if instance.state == "connecting" and network.qr_count(instance, call.now) > QR_LIMIT:
        network.drop(instance, call.now)


def _connect(network: Network, call: Call, instance: Instance, body: Any) -> Reply:
    if not instance.loaded:
        return lies()
    if instance.state == "open":
        return json_reply(200, state_body(instance.name, "open"))
    _end_stale_qr(network, call, instance)
    wait = 0.0
    if instance.state == "close":
        network.connect(instance, call.now)
        wait = network.settings.connect_wait_ms
    pairing = bool(call.request.query.get("number"))
    return json_reply(200, qr_object(network, instance, call.now, pairing)).delayed(wait)


def _restart(network: Network, call: Call, instance: Instance, body: Any) -> Reply:
    if not instance.loaded or instance.state == "close":
        return lies()
    if instance.state == "connecting":
        return json_reply(200, qr_object(network, instance, call.now, pairing=False))
    # The answer shows the state before the restart; the session goes down and comes back behind it.
    network.connect(instance, call.now)
    return json_reply(200, state_body(instance.name, "open"))


def _logout(network: Network, call: Call, instance: Instance, body: Any) -> Reply:
    if not instance.loaded or instance.state == "close":
        return error(400, [f'The "{instance.name}" instance is not connected'])
    network.drop(instance, call.now, logged_out=True)
    return _success("Instance logged out")


def _delete(network: Network, call: Call, instance: Instance, body: Any) -> Reply:
    if instance.state != "close":
        network.drop(instance, call.now, logged_out=True)
    network.emit(instance, "instance.delete", None, call.now)
    instance.deleted = 1
    network.state.save_instance(instance)
    return _success("Instance deleted")


def _success(text: str) -> Reply:
    return json_reply(200, {"status": "SUCCESS", "error": False, "response": {"message": text}})


def _stored_webhook(fields: dict[str, Any], now: int) -> str:
    return dumps(
        {
            "url": fields.get("url"),
            "headers": fields.get("headers"),
            "enabled": fields.get("enabled", True),
            "events": fields["events"],
            "webhookByEvents": fields.get("byEvents", False),
            "webhookBase64": fields.get("base64", False),
            "createdAt": iso(now),
            "updatedAt": iso(now),
        }
    )


def _webhook_row(instance: Instance) -> dict[str, Any]:
    if not instance.webhook:
        return {}
    stored: dict[str, Any] = json.loads(instance.webhook)
    return {"id": ids.row_id(WEBHOOK_TABLE, instance.id), **stored, "instanceId": instance.uuid}


def _set_webhook(network: Network, call: Call, instance: Instance, body: Any) -> Reply:
    if texts := violations(_WEBHOOK_SCHEMA, body):
        return invalid(texts)
    if not isinstance(body["webhook"].get("events"), list):
        return uncaught(_NO_EVENTS)
    fresh = json.loads(_stored_webhook(body["webhook"], call.now))
    if instance.webhook:
        fresh["createdAt"] = json.loads(instance.webhook)["createdAt"]
    instance.webhook = dumps(fresh)
    network.state.save_instance(instance)
    return json_reply(201, _webhook_row(instance))


def _find_webhook(network: Network, call: Call, instance: Instance, body: Any) -> Reply:
    return json_reply(200, _webhook_row(instance) or None)
