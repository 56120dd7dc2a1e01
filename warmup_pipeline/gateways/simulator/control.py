"""The simulator's own routes, ``/_sim/*``: ask it for the truth, tell it what to do wrong.

Holds: :class:`Control`. Add here: a control for tests and demos. Do not add: anything a real
gateway would answer.

Source: interface.md, "Simulator, for tests and demos".
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any, Final

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from warmup_pipeline.domain.values import Provider
from warmup_pipeline.gateways.simulator.events import event_body
from warmup_pipeline.gateways.simulator.faults import FaultBook, FaultOrder, FaultRule
from warmup_pipeline.gateways.simulator.jids import account, digits_of
from warmup_pipeline.gateways.simulator.network import Call, Network
from warmup_pipeline.gateways.simulator.settings import SimulatedInstance
from warmup_pipeline.gateways.simulator.state import (
    ACCEPTED,
    AT_WHATSAPP,
    DELIVERED,
    FAILED,
    READ,
    REMOVED,
    Instance,
    Message,
)
from warmup_pipeline.gateways.simulator.wire import Reply, json_reply

_STATES: Final = {
    ACCEPTED: "accepted",
    AT_WHATSAPP: "at_whatsapp",
    DELIVERED: "delivered",
    READ: "read",
    FAILED: "failed",
    REMOVED: "removed",
}
_DEFAULT_LIMIT: Final = 1000
_LARGEST_LIMIT: Final = 100_000


class InstanceOrder(BaseModel):
    """Body of ``POST /_sim/instances``."""

    model_config = ConfigDict(extra="forbid")

    instances: list[SimulatedInstance] = Field(default_factory=list)
    overwrite: bool = False
    known_phones: list[str] = Field(default_factory=list)


class ScanOrder(BaseModel):
    """Body of ``POST /_sim/scan``: a person scans an instance's QR code."""

    model_config = ConfigDict(extra="forbid")

    provider: Provider
    instance: str


class ResetOrder(BaseModel):
    """Body of ``POST /_sim/reset``: ``instances`` forgets the instances too."""

    model_config = ConfigDict(extra="forbid")

    instances: bool = False


class Control:
    """Answers the control routes."""

    def __init__(self, network: Network, faults: FaultBook) -> None:
        self._network = network
        self._state = network.state
        self._faults = faults
        self._routes = {
            ("GET", "messages"): self._messages,
            ("GET", "events"): self._events,
            ("GET", "faults"): self._list_faults,
            ("POST", "faults"): self._set_faults,
            ("DELETE", "faults"): self._clear_faults,
            ("POST", "reset"): self._reset,
            ("GET", "instances"): self._list_instances,
            ("POST", "instances"): self._declare,
            ("POST", "scan"): self._scan,
            ("GET", "health"): self._health,
        }

    def know_phones(self, phones: Iterable[str]) -> None:
        """Say that numbers are on WhatsApp although no instance owns them (before the first request)."""
        self._state.begin()
        for phone in sorted(phones):
            self._state.add_known_phone(account(digits_of(phone)))
        self._state.commit()

    def handle(self, call: Call) -> Reply:
        """Answer a control request; bad input is 400 with the reasons."""
        name = call.request.path.removeprefix("/_sim/").rstrip("/")
        handler = self._routes.get((call.request.method, name))
        if handler is None:
            return json_reply(404, {"error": f"no control {call.request.method} /_sim/{name}"})
        try:
            return handler(call)
        except ValidationError as invalid:
            reasons = invalid.errors(include_url=False, include_input=False, include_context=False)
            return json_reply(400, {"error": "invalid", "reasons": reasons})
        except ValueError as invalid:
            return json_reply(400, {"error": str(invalid)})

    def _health(self, call: Call) -> Reply:
        return json_reply(
            200,
            {
                "status": "ok",
                "instances": len(self._state.instances()),
                "messages": self._state.count_messages(),
                "faults": len(self._faults.rules()),
                "now": _iso(call.now),
            },
        )

    def _messages(self, call: Call) -> Reply:
        since, limit = _paging(call)
        owners: dict[int, Instance] = {}
        rows = [self._message_row(m, owners) for m in self._state.messages_since(since, limit)]
        return json_reply(
            200,
            {
                "messages": rows,
                "total": self._state.count_messages(),
                "next_since": rows[-1]["rowid"] if rows else since,
            },
        )

    def _owner(self, instance_id: int, owners: dict[int, Instance]) -> Instance:
        if instance_id not in owners:
            owners[instance_id] = self._state.instance_by_id(instance_id)
        return owners[instance_id]

    def _message_row(self, message: Message, owners: dict[int, Instance]) -> dict[str, Any]:
        sender = self._owner(message.instance_id, owners)
        receiver = None if message.recipient_id is None else self._owner(message.recipient_id, owners)
        return {
            "rowid": message.id,
            "provider": sender.provider,
            "instance": sender.name,
            "sender": message.sender_phone,
            "recipient": message.recipient_phone,
            "recipient_instance": receiver.name if receiver else None,
            "recipient_provider": receiver.provider if receiver else None,
            "kind": message.kind,
            "text": message.body,
            "media_mime": message.media_mime,
            "media_bytes": message.media_bytes,
            "message_id": message.wa_id,
            "queue_id": message.queue_id,
            "state": _STATES[message.rank],
            "queued": bool(message.queued),
            "lost": bool(message.lost),
            "failure": message.failure,
            "received_at": _iso(message.received_at),
            "at": _iso(message.at),
            "logical": bool(message.logical),
            "delivered_at": _iso(message.delivered_at),
            "read_at": _iso(message.read_at),
            "trace": _trace(message.trace),
        }

    def _events(self, call: Call) -> Reply:
        since, limit = _paging(call)
        rows = [event_body(self._network, row) for row in self._state.events_since(since, limit)]
        return json_reply(200, {"events": rows, "next_since": rows[-1]["rowid"] if rows else since})

    def _list_faults(self, call: Call) -> Reply:
        rows = []
        for fault_id, rule in self._faults.rules():
            matched, hits = self._state.fault_totals(fault_id)
            document = rule.model_dump(mode="json", exclude_defaults=True)
            rows.append({"id": fault_id, **document, "matched": max(matched, hits), "hits": hits})
        return json_reply(200, {"rules": rows})

    def _set_faults(self, call: Call) -> Reply:
        document = _body(call)
        order = FaultOrder.model_validate({"rules": document} if isinstance(document, list) else document)
        if order.add is not None:
            self._faults.add(order.add)
        else:
            self._faults.replace(order.rules or [])
        return self._list_faults(call)

    def _clear_faults(self, call: Call) -> Reply:
        self._faults.replace([])
        return self._list_faults(call)

    def _reset(self, call: Call) -> Reply:
        order = ResetOrder.model_validate(_body(call))
        declared = [] if order.instances else self._state.declarations()
        self._state.wipe(instances=True)
        self._faults.touch()
        for phone in sorted(self._network.settings.known_phones):
            self._state.add_known_phone(account(digits_of(phone)))
        for instance in declared:
            self._network.declare(SimulatedInstance.model_validate_json(instance), call.real, overwrite=True)
        return json_reply(200, {"status": "ok", "instances": len(self._state.instances())})

    def _list_instances(self, call: Call) -> Reply:
        rows = [
            {
                "provider": instance.provider,
                "name": instance.name,
                "phone": instance.phone,
                "state": instance.state,
                "has_session": bool(instance.has_session),
                "needs_qr": bool(instance.needs_qr),
                "zombie": bool(instance.zombie),
                "loaded": bool(instance.loaded),
                "sent": instance.sent,
                "queued": self._state.count_queued(instance.id),
            }
            for instance in self._state.instances()
        ]
        return json_reply(200, {"instances": rows})

    def _declare(self, call: Call) -> Reply:
        order = InstanceOrder.model_validate(_body(call))
        for instance in order.instances:
            self._network.declare(instance, call.now, overwrite=order.overwrite)
        for phone in order.known_phones:
            self._state.add_known_phone(account(digits_of(phone)))
        return self._list_instances(call)

    def _scan(self, call: Call) -> Reply:
        order = ScanOrder.model_validate(_body(call))
        instance = self._state.instance(order.provider.value, order.instance)
        if instance is None:
            return json_reply(404, {"error": "no such instance"})
        self._network.open_session(instance, call.now)
        return self._list_instances(call)


def parse_rules(document: object) -> list[FaultRule]:
    """Return validated fault rules of a parsed JSON or YAML list, for profiles kept as files.

    Raises:
        pydantic.ValidationError: a rule is not one.
    """
    return FaultOrder.model_validate({"rules": document}).rules or []


def _body(call: Call) -> Any:
    try:
        return json.loads(call.request.body or b"{}")
    except ValueError as error:
        raise ValueError("the body is not JSON") from error


def _paging(call: Call) -> tuple[int, int]:
    query = call.request.query
    since, limit = query.get("since", "0"), query.get("limit", str(_DEFAULT_LIMIT))
    if not since.isdigit() or not limit.isdigit() or not 1 <= int(limit) <= _LARGEST_LIMIT:
        raise ValueError(f"since and limit are whole numbers, limit at most {_LARGEST_LIMIT}")
    return int(since), int(limit)


def _trace(header: str | None) -> dict[str, Any] | None:
    """Return ``X-Warmup-Message`` taken apart: ``<message_id>;conversation=<id>;turn=<n>``."""
    if header is None:
        return None
    message_id, *rest = header.split(";")
    options = dict(part.strip().split("=", 1) for part in rest if "=" in part)
    turn = options.get("turn", "")
    return {
        "raw": header,
        "message_id": message_id.strip(),
        "conversation": options.get("conversation"),
        "turn": int(turn) if turn.isdigit() else None,
    }


def _iso(milliseconds: int | None) -> str | None:
    if milliseconds is None:
        return None
    return datetime.fromtimestamp(milliseconds / 1000, UTC).isoformat(timespec="milliseconds")
