"""Evolution's webhooks, read: ``messages.update``, ``messages.upsert``, ``connection.update``.

Holds: :func:`hear`. Add here: a further event of contract 1.16 that says something we need. Do not
add: HTTP, who is meant.

Source: gateway-contract.md 1.15 and 1.16.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from warmup_pipeline.domain.values import ConnectionState, FailureClass, MessageState
from warmup_pipeline.gateways.evolution_answers import KINDS, RECEIPTS, text_of
from warmup_pipeline.gateways.webhooks import (
    REFUSED,
    SCAN,
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

_USER: Final = "@s.whatsapp.net"
_PRIVATE: Final = "@lid"
_GROUP: Final = "@g.us"
_STATES: Final = {
    "open": ConnectionState.OPEN,
    "connecting": ConnectionState.CONNECTING,
    "close": ConnectionState.CLOSED,
    "refused": ConnectionState.CLOSED,
}
_NEEDED: Final = {401: SCAN, 403: REFUSED, 402: REFUSED, 406: REFUSED}
"""What a final disconnection asks of a person, by its reason (contract 1.16)."""


def hear(instance: str, body: object) -> Sequence[Heard]:
    """Return what a webhook says; nothing where it says nothing that matters here.

    Args:
        instance: the instance whose address was called; the body must name the same one.
        body: the parsed body.

    Raises:
        NotAWebhook: it is no webhook of this gateway, or another instance's.
    """
    envelope = the_object(body)
    event = the_text(envelope, "event").lower().replace("_", ".")
    if the_text(envelope, "instance") != instance:
        raise NotAWebhook("instance is another one than the address names")
    read = _READERS.get(event)
    return [] if read is None else read(the_object(envelope, "data"))


def _update(data: dict[str, Any]) -> Sequence[Heard]:
    # keyId is WhatsApp's id; messageId is a row of the gateway's own database.
    message_id, status = the_text(data, "keyId"), the_text(data, "status")
    if data.get("fromMe") is False:
        return []
    if status == "ERROR":
        failed = FailureClass.TRANSIENT
        return [HeardReceipt(message_id, None, MessageState.FAILED, "its receipts say ERROR", failed)]
    state = RECEIPTS.get(status)
    if state is None or state is MessageState.ACCEPTED:
        return []
    return [HeardReceipt(message_id, None, state)]


def _upsert(data: dict[str, Any]) -> Sequence[Heard]:
    key = the_object(data, "key")
    message_id, address = the_text(key, "id"), the_text(key, "remoteJid")
    if key.get("fromMe") is True or address.endswith(_GROUP):
        return []
    addresses = [address, *(one for one in [a_text(key, "remoteJidAlt")] if one is not None)]
    phones = [a.removesuffix(_USER).split(":", 1)[0] for a in addresses if a.endswith(_USER)]
    private = [a for a in addresses if a.endswith(_PRIVATE)]
    word = data.get("messageType")
    return [
        HeardArrival(
            message_id=message_id,
            phone=phones[0] if phones else None,
            privacy_id=private[0] if private else None,
            kind=KINDS.get(word) if isinstance(word, str) else None,
            text=storable(text_of(data.get("message"), word)),
            at=moment(data.get("messageTimestamp"), milliseconds=False),
        )
    ]


def _connection(data: dict[str, Any]) -> Sequence[Heard]:
    state = _STATES.get(the_text(data, "state"))
    if state is None:
        return []
    reason = data.get("statusReason")
    code = reason if isinstance(reason, int) and not isinstance(reason, bool) else None
    words = f"the gateway says {data['state']}" + (f" ({code})" if code not in (None, 200) else "")
    return [
        HeardConnection(state, words, _NEEDED.get(code or 0) if state is ConnectionState.CLOSED else None)
    ]


_READERS: Final = {
    "messages.update": _update,
    "messages.upsert": _upsert,
    "connection.update": _connection,
}
