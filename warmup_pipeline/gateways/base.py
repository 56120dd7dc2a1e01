"""The protocol every gateway speaks, in the domain's words.

Holds: what the cycle may ask of a gateway (:class:`Gateway`), the values that go in and come out,
and the one error that comes out instead (:class:`GatewayError`). Add here: a capability every
gateway has. Do not add: HTTP, paths, bodies (``evolution``, ``zapi``).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Protocol

from warmup_pipeline.domain.failures import Evidence
from warmup_pipeline.domain.values import ConnectionState, FailureClass, MessageKind, MessageState, Provider


@dataclass(frozen=True, slots=True)
class Channel:
    """One chip as its gateway knows it.

    Attributes:
        chip_id: our id of the chip.
        provider: which gateway.
        instance: Evolution's instance name, or Z-API's instance id.
        phone: the chip's own number, E.164 digits.
    """

    chip_id: str
    provider: Provider
    instance: str
    phone: str


@dataclass(frozen=True, slots=True)
class Text:
    """A text turn."""

    text: str


@dataclass(frozen=True, slots=True)
class Picture:
    """A picture turn: the file's bytes, its MIME type (``image/jpeg``, ``image/png``) and a caption."""

    data: bytes
    mime: str
    caption: str = ""


@dataclass(frozen=True, slots=True)
class AudioNote:
    """An audio note: the file's bytes and MIME type (``audio/ogg``)."""

    data: bytes
    mime: str


Content = Text | Picture | AudioNote


@dataclass(frozen=True, slots=True)
class Trace:
    """What a simulated gateway is told about a message, so that tests can ask it for the truth.

    Sent as ``X-Warmup-Message: <message_id>;conversation=<id>;turn=<n>`` and ``X-Warmup-At`` (ISO
    8601, UTC), in simulated mode only: a live gateway never learns these.
    """

    message_id: str
    conversation_id: str
    turn: int
    at: datetime


@dataclass(frozen=True, slots=True)
class Accepted:
    """A gateway took a message.

    Attributes:
        message_id: WhatsApp's id of the message; the same on the receiving side.
        queue_id: the id in the gateway's own queue (Z-API's ``zaapId``), ``None`` where there is none.
    """

    message_id: str
    queue_id: str | None = None


@dataclass(frozen=True, slots=True)
class Received:
    """A message a chip received, as its gateway needs it to mark it read or to react to it."""

    message_id: str
    sender_phone: str


@dataclass(frozen=True, slots=True)
class Observation:
    """What a gateway says of one session.

    Attributes:
        state: open, connecting, closed or unknown.
        detail: the gateway's words, or ours about its silence; one line, already redacted.
        needs_person: what a person must do (scan a QR code, mend credentials), ``None`` if nobody.
    """

    state: ConnectionState
    detail: str = ""
    needs_person: str | None = None


@dataclass(frozen=True, slots=True)
class Recovery:
    """What a recovery attempt did.

    Attributes:
        action: ``restart`` or ``connect``.
        taken: the gateway took the request (which does not yet mean that the session is up).
        detail: one line, already redacted.
        needs_person: what a person must do, ``None`` if nobody.
    """

    action: str
    taken: bool
    detail: str = ""
    needs_person: str | None = None


@dataclass(frozen=True, slots=True)
class Pairing:
    """What a person needs to log a session in.

    Attributes:
        connected: the session is open: there is nothing to scan.
        picture: the QR code as a PNG, ``None`` where the gateway has none yet.
        code: the code to type on the phone instead, ``None`` unless it was asked for.
        lasts: how long the gateway shows this one before it makes another.
    """

    connected: bool
    picture: bytes | None = field(default=None, repr=False)
    code: str | None = field(default=None, repr=False)
    lasts: timedelta = timedelta(0)


@dataclass(frozen=True, slots=True)
class Listed:
    """One message as a gateway lists it, at one of its two ends or in its queue.

    Attributes:
        message_id: WhatsApp's id; the same at both ends.
        queue_id: the id in the gateway's own queue, ``None`` where it stands in none.
        sent: the asked channel sent it (else it received it).
        addresses: where the other end is reached, as the gateway says it: a number with
            ``@s.whatsapp.net``, or a privacy id with ``@lid``. Holds full numbers: never shown.
        kind: what it carries, ``None`` where the gateway does not say.
        text: its text or caption, empty without one.
        at: when the gateway says that it was sent, UTC; ``None`` where it does not say.
        state: how far it got, where the gateway knows: of sent messages, by their receipts.
    """

    message_id: str
    sent: bool
    addresses: frozenset[str] = field(repr=False)
    kind: MessageKind | None
    text: str = field(repr=False)
    at: datetime | None = None
    state: MessageState = MessageState.ACCEPTED
    queue_id: str | None = None


@dataclass(frozen=True, slots=True)
class Listing:
    """What a gateway lists.

    Attributes:
        messages: the messages.
        complete: everything asked for is there: what is missing is not in the gateway's list.
    """

    messages: tuple[Listed, ...] = ()
    complete: bool = True


class GatewayError(Exception):
    """A gateway refused, failed, or did not answer in time.

    The text holds no secret and no full phone number: the client redacts it.

    Attributes:
        evidence: what was seen of the call; of its words the first, clean.
        failure: its class, by all its words.
        attempts: how many HTTP requests were made: 1, 2 after the one retry, 0 where none was (a
            missing credential, or the step's end too near): see :attr:`attempted`.
        server: key of the server or account concerned, for stopping a gateway in a cycle.
    """

    def __init__(
        self, message: str, *, evidence: Evidence, failure: FailureClass, server: str, attempts: int = 1
    ) -> None:
        super().__init__(message)
        self.evidence = evidence
        self.failure = failure
        self.attempts = attempts
        self.server = server

    @property
    def attempted(self) -> bool:
        """Whether a request was made. What was not attempted is no failure (domain.md, step 5)."""
        return self.attempts > 0


class Gateway(Protocol):
    """One gateway, for the length of one step. Every call ends within its deadline.

    Every method raises :class:`GatewayError` for anything but success.
    """

    @property
    def polls_confirmations(self) -> bool:
        """Whether :meth:`messages_of` shows both ends' messages with their receipts.

        Evolution's does, so every delivery can be confirmed by asking. Z-API tells them by webhook
        only, and lists no more than its queue (:meth:`queue_of`).
        """
        ...

    def server_of(self, channel: Channel) -> str:
        """Return the key of the server (or credential) that a channel's calls depend on."""
        ...

    async def connection_state(self, channel: Channel) -> Observation:
        """Ask for the session's state. An answer that lies or says nothing is not ``open``."""
        ...

    async def recover(self, channel: Channel, seen: ConnectionState) -> Recovery:
        """Make one recovery attempt suited to the state seen (domain.md, "The cycle", step 1)."""
        ...

    async def send(self, channel: Channel, to_phone: str, content: Content, trace: Trace) -> Accepted:
        """Send one message. At most one retry, and only where the gateway certainly did not act."""
        ...

    async def mark_read(self, channel: Channel, received: Sequence[Received], at: datetime) -> None:
        """Mark received messages as read; ``at`` is the logical time (told to a simulator only)."""
        ...

    async def react(self, channel: Channel, to: Received, emoji: str, at: datetime) -> None:
        """React to a received message with one emoji; a further reaction takes the former one's place.

        At most one retry, as with a send. ``at`` is the logical time (told to a simulator only).
        """
        ...

    async def messages_of(
        self, channel: Channel, since: datetime, until: datetime, *, sent_only: bool
    ) -> Listing:
        """Return what a channel sent in [since, until] (and received, unless ``sent_only``).

        Empty and not complete where the gateway lists no messages.
        """
        ...

    async def queue_of(self, channel: Channel) -> Listing:
        """Return what waits in the gateway's own queue; complete and empty where there is none."""
        ...

    async def drop_from_queue(self, channel: Channel, queue_id: str) -> None:
        """Take a message out of the gateway's queue. One that is not there any more is no error."""
        ...

    async def privacy_id(self, channel: Channel, phone: str) -> str | None:
        """Return the privacy id (``…@lid``) behind a number, ``None`` where the gateway knows none."""
        ...

    async def pairing(self, channel: Channel, *, by_code: bool = False) -> Pairing:
        """Return the QR code to scan with the chip's phone, or the code to type there.

        Asking begins to connect a session that is closed.
        """
        ...

    async def restore(self, channel: Channel) -> Recovery:
        """Ask for a session that lost its pairing to be taken up again, if the gateway still can."""
        ...

    async def on_whatsapp(self, channel: Channel, phones: Sequence[str]) -> Mapping[str, bool]:
        """Return, of each number (E.164 digits) that the gateway tells of, whether it is on WhatsApp."""
        ...

    async def status_of(self, channel: Channel, message_id: str) -> MessageState | None:
        """Return how far a sent message got; ``None`` where the gateway knows nothing of it or cannot tell."""
        ...

    async def set_webhook(self, channel: Channel, url: str, secret: str) -> None:
        """Have the instance's events that matter here told to ``url``, with the secret."""
        ...

    async def webhook_problem(self, channel: Channel, path: str, secret: str) -> str | None:
        """Return what keeps the instance's events from us, in words without secrets; ``None`` for nothing.

        Args:
            channel: the chip.
            path: what our address ends with; where the world reaches it is the operator's matter.
            secret: what the events must bring.
        """
        ...

    async def own_number(self, channel: Channel) -> str | None:
        """Return the number that is logged in, as digits; ``None`` where the gateway does not say."""
        ...
