"""What a gateway tells by itself: the words a webhook's body comes down to, for both gateways.

Holds: the values a webhook may say (:class:`HeardReceipt`, :class:`HeardArrival`,
:class:`HeardConnection`), :class:`NotAWebhook`, and what the two gateways' readers share. Add here: a
further thing that may be said. Do not add: a gateway's bodies (``evolution_webhooks``,
``zapi_webhooks``), who is meant by an address (``warmup.hearing``).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final

from warmup_pipeline.domain.values import ConnectionState, FailureClass, MessageKind, MessageState

LONGEST_ID: Final = 128
"""Characters of the longest id that is one: longer ones are no gateway's."""

SCAN: Final = "scan the QR code with the chip's phone: the session was logged out"
REFUSED: Final = "look at the chip's phone: WhatsApp refuses this session, the number may be banned"


class NotAWebhook(ValueError):
    """A body that is no webhook of the gateway; the text says what is missing and holds nothing of it."""


@dataclass(frozen=True, slots=True)
class HeardReceipt:
    """The sender's gateway says how far a message got.

    Attributes:
        message_id: WhatsApp's id of the message, ``None`` where only the queue's is told.
        queue_id: the id in the gateway's own queue, ``None`` where there is none.
        state: ``at_whatsapp``, ``delivered``, ``read`` or ``failed``.
        words: the gateway's words where it failed; not redacted.
        failure: the failure's class where it failed.
    """

    message_id: str | None
    queue_id: str | None
    state: MessageState
    words: str = ""
    failure: FailureClass | None = None


@dataclass(frozen=True, slots=True)
class HeardArrival:
    """The receiver's gateway has seen a message.

    Attributes:
        message_id: WhatsApp's id; the same at both ends.
        phone: the sender's number, digits; ``None`` where only its privacy id is told. Never shown.
        privacy_id: the sender's ``…@lid`` address, where it is told.
        kind: what it carries, ``None`` where that is not told.
        text: its text or caption.
        at: the gateway's time of it, UTC.
    """

    message_id: str
    phone: str | None = field(repr=False)
    privacy_id: str | None
    kind: MessageKind | None
    text: str = field(repr=False)
    at: datetime | None


@dataclass(frozen=True, slots=True)
class HeardConnection:
    """A gateway says that a session's state changed; ``words`` are not redacted."""

    state: ConnectionState
    words: str = ""
    needs_person: str | None = None


Heard = HeardReceipt | HeardArrival | HeardConnection


def the_object(body: object, name: str = "") -> dict[str, Any]:
    """Return the body, or one of its fields, as an object.

    Raises:
        NotAWebhook: it is none.
    """
    found = body.get(name) if name and isinstance(body, dict) else body
    if not isinstance(found, dict):
        raise NotAWebhook(f"{name or 'the body'} must be an object")
    return found


def the_text(body: dict[str, Any], name: str) -> str:
    """Return a field that must be a text, not empty and not longer than an id.

    Raises:
        NotAWebhook: it is none.
    """
    found = body.get(name)
    if not isinstance(found, str) or not found or len(found) > LONGEST_ID or storable(found) != found:
        raise NotAWebhook(f"{name} must be a text of at most {LONGEST_ID} characters")
    return found


def a_text(body: dict[str, Any], name: str) -> str | None:
    """Return a field where it is a text that can be kept, else ``None``."""
    found = body.get(name)
    return storable(found) or None if isinstance(found, str) else None


def storable(text: str) -> str:
    """Return a text without what no database keeps: NUL, and halves of surrogate pairs."""
    return text.replace("\x00", "").encode("utf-8", "replace").decode("utf-8")


def moment(value: object, *, milliseconds: bool) -> datetime | None:
    """Return a gateway's time; ``None`` where it is none that can be read."""
    if isinstance(value, dict):
        value = value.get("low")
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    try:
        return datetime.fromtimestamp(value / 1000 if milliseconds else value, UTC)
    except (OverflowError, ValueError, OSError):
        return None
