"""What Evolution's answers mean: errors in every shape, receipts, listed messages.

Holds: functions of a parsed body; among them the understanding of answers that lie: "Connection
Closed" in three forms, a state that is missing. Add here: reading a further body. Do not add: calls
(``evolution``), webhooks (``evolution_webhooks``).

Source: gateway-contract.md 1.1, 1.12 and 3.1; domain.md, "Failures", where it classifies.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Final

from warmup_pipeline.domain.failures import Evidence, Stage
from warmup_pipeline.domain.values import MESSAGE_SCALE, MessageKind, MessageState
from warmup_pipeline.gateways.base import Listed
from warmup_pipeline.gateways.link import Answer

RECEIPTS: Final = {
    "PENDING": MessageState.ACCEPTED,
    "SERVER_ACK": MessageState.AT_WHATSAPP,
    "DELIVERY_ACK": MessageState.DELIVERED,
    "READ": MessageState.READ,
    "PLAYED": MessageState.READ,
}
"""Receipts by their place on the domain's scale (contract 3.1); ``ERROR`` is apart, others say nothing."""

KINDS: Final = {
    "conversation": MessageKind.TEXT,
    "extendedTextMessage": MessageKind.TEXT,
    "imageMessage": MessageKind.PICTURE,
    "audioMessage": MessageKind.AUDIO,
}

_NO_INSTANCE: Final = re.compile(r'instance "?.*"? ?(?:does not exist|not found)', re.IGNORECASE)
_CLOSED: Final = re.compile(r"connection closed", re.IGNORECASE)
_NO_SOCKET: Final = re.compile(r"cannot read propert(?:y|ies) of undefined", re.IGNORECASE)


def flatten(body: object) -> str:
    """Return the words of an error body as one text, whatever its shape.

    ``response.message`` is a string, a list of strings, a list of lists or a list of objects;
    ``whatsappNumbers`` has no envelope at all (contract 1.1, 1.12).
    """
    return "; ".join(dict.fromkeys(_words(_message(body))))


def _message(body: object) -> object:
    if not isinstance(body, dict):
        return body
    for path in (("response", "message"), ("output", "payload", "message"), ("message",), ("error",)):
        found: object = body
        for key in path:
            found = found.get(key) if isinstance(found, dict) else None
        if found:
            return found
    return body or None


def _words(message: object) -> Iterator[str]:
    if message is None:
        return
    if isinstance(message, str):
        yield message
    elif isinstance(message, list):
        for part in message:
            yield from _words(part)
    elif isinstance(message, dict) and message.get("exists") is False:
        yield f"{message.get('number') or message.get('jid') or 'the number'} is not on WhatsApp"
    else:
        yield json.dumps(message, ensure_ascii=False)


def understand(answer: Answer) -> Evidence:
    """Return what a refusal shows: who is at fault, in flags that the domain classifies."""
    body, unreadable = answer.parsed()
    text = answer.text() if unreadable else flatten(body)
    message = _message(body)
    missing = isinstance(message, list) and any(
        isinstance(part, dict) and part.get("exists") is False for part in message
    )
    return Evidence(
        stage=Stage.ANSWERED,
        status=answer.status,
        text=text,
        recipient_missing=missing,
        disconnected=bool(_CLOSED.search(text) or (answer.status >= 500 and _NO_SOCKET.search(text))),
        bad_credentials=answer.status == 401,
        retry_after=answer.retry_after,
    )


def highest(statuses: Sequence[str]) -> MessageState:
    """Return the state that a message's receipts amount to; their order means nothing.

    An error counts unless the message was delivered: after that it is noise (contract 3.1).
    """
    reached = max(
        (RECEIPTS[status] for status in statuses if status in RECEIPTS),
        key=MESSAGE_SCALE.index,
        default=MessageState.ACCEPTED,
    )
    delivered = MESSAGE_SCALE.index(reached) >= MESSAGE_SCALE.index(MessageState.DELIVERED)
    return MessageState.FAILED if "ERROR" in statuses and not delivered else reached


def instance_state(body: object) -> str | None:
    """Return ``instance.state``. At top level there never is one, though clients often look there."""
    instance = body.get("instance") if isinstance(body, dict) else None
    state = instance.get("state") if isinstance(instance, dict) else None
    return state if isinstance(state, str) and state else None


def is_no_instance(evidence: Evidence) -> bool:
    """Whether a refusal says that the server has no such instance; by its words too.

    A 404 alone can be a dead media address or a wrong path (contract 1.1).
    """
    return evidence.status == 404 and bool(_NO_INSTANCE.search(evidence.text))


def listed(record: object) -> Listed | None:
    """Return one record of findMessages, ``None`` where it is none that can be told apart."""
    if not isinstance(record, dict):
        return None
    key, updates, message = record.get("key"), record.get("MessageUpdate"), record.get("message")
    if not isinstance(key, dict) or not isinstance(key.get("id"), str):
        return None
    sent = key.get("fromMe") is True
    statuses = [
        update["status"]
        for update in (updates if isinstance(updates, list) else [])
        if isinstance(update, dict) and isinstance(update.get("status"), str)
    ]
    word = record.get("messageType")
    addresses = (key.get(name) for name in ("remoteJid", "remoteJidAlt"))
    return Listed(
        message_id=key["id"],
        sent=sent,
        addresses=frozenset(address for address in addresses if isinstance(address, str) and address),
        kind=KINDS.get(word) if isinstance(word, str) else None,
        text=text_of(message, word),
        at=_moment(record.get("messageTimestamp")),
        # What a chip has received has arrived.
        state=highest(statuses) if sent else MessageState.DELIVERED,
    )


def _moment(seconds: object) -> datetime | None:
    """Return a record's time: whole seconds; by some releases a long in two halves."""
    if isinstance(seconds, dict):
        seconds = seconds.get("low")
    if isinstance(seconds, bool) or not isinstance(seconds, int):
        return None
    try:
        return datetime.fromtimestamp(seconds, UTC)
    except (OverflowError, ValueError, OSError):
        return None


def text_of(message: object, word: object) -> str:
    """Return the words of a message's content, empty without any."""
    if not isinstance(message, dict) or not isinstance(word, str):
        return ""
    content = message.get(word)
    if isinstance(content, dict):
        content = content.get("text") or content.get("caption")
    if content is None and word == "extendedTextMessage":
        content = message.get("conversation")
    return content if isinstance(content, str) else ""
