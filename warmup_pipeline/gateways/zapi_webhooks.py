"""Z-API's webhooks, read: deliveries, statuses, arrivals, connections. Told apart by ``type``.

Holds: :func:`hear`. Add here: a further callback of contract 2.5 that says something we need. Do not
add: HTTP, who is meant.

Source: gateway-contract.md 2.5.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final

from warmup_pipeline.domain.failures import classify
from warmup_pipeline.domain.values import ConnectionState, MessageKind, MessageState
from warmup_pipeline.gateways.webhooks import (
    Heard,
    HeardArrival,
    HeardConnection,
    HeardReceipt,
    NotAWebhook,
    a_text,
    moment,
    storable,
    the_object,
    the_text,
)
from warmup_pipeline.gateways.zapi import evidence_of_words

_STATES: Final = {
    "SENT": MessageState.AT_WHATSAPP,
    "RECEIVED": MessageState.DELIVERED,
    "READ": MessageState.READ,
    "PLAYED": MessageState.READ,
}
"""Of our own sends; READ_BY_ME is about what we received (contract 3.1)."""

_PRIVATE: Final = "@lid"
_KINDS: Final = {"text": MessageKind.TEXT, "image": MessageKind.PICTURE, "audio": MessageKind.AUDIO}
_SECONDS_END: Final = 100_000_000_000
"""``momment`` is in milliseconds in most bodies and in seconds in one: this tells them apart."""


def hear(instance: str, body: object) -> Sequence[Heard]:
    """Return what a webhook says; nothing where it says nothing that matters here.

    Args:
        instance: the instance whose address was called; the body must name the same one.
        body: the parsed body.

    Raises:
        NotAWebhook: it is no webhook of this gateway, or another instance's.
    """
    callback = the_object(body)
    kind = the_text(callback, "type")
    if the_text(callback, "instanceId") != instance:
        raise NotAWebhook("instanceId is another one than the address names")
    read = _READERS.get(kind)
    return [] if read is None else read(callback)


def _delivery(body: dict[str, Any]) -> Sequence[Heard]:
    message_id, queue_id = _id(body, "messageId"), _id(body, "zaapId")
    if message_id is None and queue_id is None:
        raise NotAWebhook("messageId or zaapId must be a text")
    error = body.get("error")
    if not error:
        return [HeardReceipt(message_id, queue_id, MessageState.AT_WHATSAPP)]
    code = a_text(body, "errorCode")
    words = "; ".join(part for part in (error if isinstance(error, str) else "it failed", code) if part)
    return [
        HeardReceipt(message_id, queue_id, MessageState.FAILED, words, classify(evidence_of_words(words)))
    ]


def _status(body: dict[str, Any]) -> Sequence[Heard]:
    status, ids = the_text(body, "status"), body.get("ids")
    # WhatsApp's ids, in an array: there is no messageId in this callback.
    if not isinstance(ids, list) or not all(isinstance(one, str) for one in ids):
        raise NotAWebhook("ids must be a list of texts")
    state = _STATES.get(status)
    if state is None:
        return []
    return [HeardReceipt(the_text({"id": one}, "id"), None, state) for one in dict.fromkeys(ids)]


def _received(body: dict[str, Any]) -> Sequence[Heard]:
    message_id, phone = the_text(body, "messageId"), the_text(body, "phone")
    if any(body.get(name) is True for name in ("fromMe", "isGroup", "isNewsletter", "broadcast")):
        return []
    private = [
        a for n in ("senderLid", "chatLid", "phone") if (a := a_text(body, n)) and a.endswith(_PRIVATE)
    ]
    carried = next((name for name in _KINDS if isinstance(body.get(name), dict)), None)
    content: dict[str, Any] = body[carried] if carried else {}
    words = content.get("message") if carried == "text" else content.get("caption")
    return [
        HeardArrival(
            message_id=message_id,
            phone=None if phone.endswith(_PRIVATE) else re.sub(r"[^0-9]", "", phone.split("@", 1)[0]),
            privacy_id=private[0] if private else None,
            kind=_KINDS[carried] if carried else None,
            text=storable(words) if isinstance(words, str) else "",
            at=_moment(body),
        )
    ]


def _connected(body: dict[str, Any]) -> Sequence[Heard]:
    state = ConnectionState.CLOSED if body.get("connected") is False else ConnectionState.OPEN
    return [HeardConnection(state, "the gateway says connected" if state is ConnectionState.OPEN else "")]


def _disconnected(body: dict[str, Any]) -> Sequence[Heard]:
    return [HeardConnection(ConnectionState.CLOSED, a_text(body, "error") or "the gateway says disconnected")]


def _id(body: dict[str, Any], name: str) -> str | None:
    return the_text(body, name) if body.get(name) not in (None, "") else None


def _moment(body: dict[str, Any]) -> datetime | None:
    at = body.get("momment")
    if isinstance(at, bool) or not isinstance(at, (int, float)):
        return None
    return moment(at, milliseconds=at > _SECONDS_END)


_READERS: Final = {
    "DeliveryCallback": _delivery,
    "MessageStatusCallback": _status,
    "ReceivedCallback": _received,
    "ConnectedCallback": _connected,
    "DisconnectedCallback": _disconnected,
}
