"""The simulated WhatsApp behind both gateways: sessions, deliveries, receipts, and their time.

Holds: :class:`Network` (accepts messages, moves them on as time passes, opens and drops sessions)
and :class:`Call` (one request with its time). Add here: something that WhatsApp or a phone does by
itself. Do not add: HTTP bodies (``evolution``, ``zapi``), SQL (``state``).

Nothing runs in the background. Whatever became due is worked off at the start of the next request
(:meth:`Network.advance`), as of that request's time, so that virtual time costs nothing and two runs
give the same result.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Final, Literal

from warmup_pipeline.domain.values import Provider
from warmup_pipeline.gateways.simulator import ids
from warmup_pipeline.gateways.simulator.jids import GROUP, LID, USER, account, user_of
from warmup_pipeline.gateways.simulator.settings import SimulatedInstance, SimulatorSettings
from warmup_pipeline.gateways.simulator.state import (
    ACCEPTED,
    AT_WHATSAPP,
    DELIVERED,
    FAILED,
    READ,
    REMOVED,
    Instance,
    Message,
    State,
)
from warmup_pipeline.gateways.simulator.wire import Request, dumps

Kind = Literal["text", "picture", "audio", "video", "document", "reaction"]

CACHE_MS: Final = 7 * 24 * 3600 * 1000
"""How long a number once seen on WhatsApp is trusted (gateway-contract.md 1.7)."""
QR_ROTATION_MS: Final = 45_000
QR_LIMIT: Final = 30
LOGGED_OUT: Final = 401
_BATCH: Final = 1000
_NO_NUMBER: Final = "Phone number does not exist"
_STATUS_OF_EVOLUTION: Final = {AT_WHATSAPP: "SERVER_ACK", DELIVERED: "DELIVERY_ACK", READ: "READ"}
_STATUS_OF_ZAPI: Final = {AT_WHATSAPP: "SENT", DELIVERED: "RECEIVED", READ: "READ"}


@dataclass(slots=True)
class Call:
    """One request being handled.

    Attributes:
        request: the request.
        now: its time in milliseconds since the epoch: logical if it brought ``X-Warmup-At``.
        real: the simulator's clock, same unit.
        logical: whether it brought a logical time.
        lost: a fault says that the message it brings is accepted but never arrives.
    """

    request: Request
    now: int
    real: int
    logical: bool
    lost: bool = False


def _ack_ms(wa_id: str) -> int:
    return 300 + int(wa_id[-4:], 16) % 1200


def _deliver_ms(wa_id: str) -> int:
    return 2000 + int(wa_id[-8:-4], 16) % 8000


def _spacing_ms(queue_id: str) -> int:
    return 1000 + int(queue_id[-4:], 16) % 2001


class Network:
    """Everything that happens behind the HTTP surface.

    Args:
        settings: the simulator's settings.
        state: where it is kept. The caller opens and commits the transactions.
    """

    def __init__(self, settings: SimulatorSettings, state: State) -> None:
        self.settings = settings
        self.state = state

    # --- instances

    def declare(self, declared: SimulatedInstance, now: int, *, overwrite: bool) -> None:
        """Make an instance exist. One that exists keeps its state unless ``overwrite``.

        Its token, phone, LID and profile name always follow the declaration.
        """
        provider = declared.provider.value
        existing = self.state.instance(provider, declared.name)
        fresh = self.new_instance(declared, now)
        if existing is None:
            self.state.add_instance(fresh)
            return
        if not overwrite:
            existing.token = declared.token
            existing.phone = declared.phone
            existing.account = fresh.account
            existing.lid = declared.lid
            existing.profile_name = fresh.profile_name
            existing.declared = fresh.declared
            self.state.save_instance(existing)
            return
        fresh.id, fresh.uuid = existing.id, existing.uuid
        fresh.sent, fresh.created_at, fresh.webhook = existing.sent, existing.created_at, existing.webhook
        self.state.save_instance(fresh)
        if fresh.state == "open":
            self._release(fresh, now)

    def new_instance(self, declared: SimulatedInstance, now: int) -> Instance:
        """Return the row of an instance as declared."""
        open_now = declared.state == "open"
        paired = open_now or (declared.has_session and not declared.needs_qr)
        connecting = declared.state == "connecting"
        return Instance(
            id=0,
            provider=declared.provider.value,
            name=declared.name,
            phone=declared.phone,
            account=account(declared.phone),
            token=declared.token,
            uuid=ids.uuid4(self.settings.seed, "instance", declared.provider.value, declared.name),
            lid=declared.lid,
            profile_name=declared.profile_name or declared.name,
            state=declared.state,
            db_state="open" if paired else declared.state,
            owner_known=int(open_now or declared.has_session),
            client_started=int(open_now or connecting or declared.has_session),
            has_session=int(open_now or declared.has_session),
            needs_qr=int(declared.needs_qr and not open_now),
            zombie=int(declared.zombie),
            zombie_until_restart=int(declared.zombie_until_restart),
            loaded=int(declared.loaded),
            opens_at=now + self._reconnect_ms if connecting and paired else None,
            qr_since=now if connecting and not paired else None,
            queue_free_at=0,
            sent=0,
            disconnected_at=None,
            disconnection_code=None,
            disconnection_object=None,
            number=None,
            integration="WHATSAPP-BAILEYS",
            settings="{}",
            webhook="",
            declared=declared.model_dump_json(),
            created_at=now,
            updated_at=now,
            deleted=0,
        )

    @property
    def _reconnect_ms(self) -> int:
        return round(self.settings.reconnect_s * 1000)

    def open_session(self, instance: Instance, now: int) -> None:
        """The session is up: whatever waited for it goes on."""
        instance.state = instance.db_state = "open"
        instance.opens_at = instance.qr_since = None
        instance.client_started = instance.owner_known = instance.has_session = 1
        instance.needs_qr = 0
        instance.updated_at = now
        self.state.save_instance(instance)
        if instance.provider == Provider.EVOLUTION.value:
            self._connection_event(instance, now, "open", 200)
        else:
            self.emit(instance, "ConnectedCallback", None, now)
        self._release(instance, now)

    def connect(self, instance: Instance, now: int, *, delay_ms: int | None = None) -> None:
        """Begin to connect: with a session it opens after ``delay_ms``, without one it shows a QR code."""
        delay = self._reconnect_ms if delay_ms is None else delay_ms
        instance.client_started = 1
        instance.state = "connecting"
        instance.updated_at = now
        if instance.has_session and not instance.needs_qr:
            instance.opens_at, instance.qr_since = now + delay, None
        else:
            instance.opens_at = None
            instance.qr_since = now
            instance.db_state = "connecting"
        if instance.zombie and instance.zombie_until_restart:
            instance.zombie = 0
        self.state.save_instance(instance)
        if instance.provider == Provider.EVOLUTION.value:
            self._connection_event(instance, now, "connecting", 200)
        if instance.opens_at is not None and instance.opens_at <= now:
            self.open_session(instance, now)

    def drop(self, instance: Instance, now: int, *, logged_out: bool = False) -> None:
        """The session is down. ``logged_out`` loses the pairing too, so that a QR code is needed."""
        was_open = instance.state == "open"
        instance.state = "close"
        instance.opens_at = instance.qr_since = None
        instance.updated_at = now
        if logged_out:
            instance.has_session, instance.needs_qr, instance.db_state = 0, 1, "close"
            instance.disconnected_at, instance.disconnection_code = now, LOGGED_OUT
            instance.disconnection_object = dumps(
                {"error": {"data": None, "isBoom": True, "output": {"statusCode": LOGGED_OUT}}}
            )
        self.state.save_instance(instance)
        if instance.provider == Provider.EVOLUTION.value:
            if logged_out:
                self._connection_event(instance, now, "close", LOGGED_OUT)
                self.emit(instance, "logout.instance", None, now)
                self.emit(instance, "status.instance", None, now)
        elif was_open:
            self.emit(instance, "DisconnectedCallback", None, now)

    def qr_count(self, instance: Instance, now: int) -> int:
        """Return how many QR codes were issued so far, 0 while there is none."""
        if instance.qr_since is None:
            return 0
        return 1 + max(0, now - instance.qr_since) // QR_ROTATION_MS

    def lookup(self, jid: str) -> Instance | None:
        """Return the instance behind a jid."""
        if jid.endswith(LID):
            return self.state.owner_of_lid(user_of(jid))
        if jid.endswith(USER):
            return self.state.owner_of(user_of(jid))
        return None

    def on_whatsapp(self, jid: str) -> bool:
        """Whether anybody is behind a jid (groups always are)."""
        if jid.endswith(GROUP):
            return True
        return self.lookup(jid) is not None or (
            jid.endswith(USER) and self.state.is_known_phone(user_of(jid))
        )

    def number_cached(self, jid: str, now: int) -> bool:
        """Whether the gateways' shared cache vouches for a number without asking WhatsApp."""
        seen = self.state.number_seen_at(user_of(jid))
        return seen is not None and now - seen < CACHE_MS

    # --- messages

    def accept(
        self,
        instance: Instance,
        call: Call,
        *,
        kind: Kind,
        jid: str,
        body: str,
        media_mime: str | None = None,
        media_bytes: int | None = None,
        extra: dict[str, Any] | None = None,
        wait_ms: int | None = None,
    ) -> Message:
        """Take a message. It is stored before this returns and moves on as time passes.

        Args:
            instance: who sends it.
            call: the request that brought it.
            kind: what it carries.
            jid: to whom.
            body: text, caption or emoji.
            media_mime: MIME type of a media message.
            media_bytes: size of the media in bytes.
            extra: what else its own gateway shows of it.
            wait_ms: Z-API: how long the queue holds it; ``None`` for the usual 1-3 s.
        """
        instance.sent += 1
        seed, now = self.settings.seed, call.now
        recipient = self.lookup(jid)
        dead = bool(call.lost or instance.zombie)
        next_at: int | None
        deliver_at: int | None = None
        queue_id: str | None = None
        if instance.provider == Provider.EVOLUTION.value:
            wa_id = ids.evolution_message_id(seed, instance.name, instance.sent)
            next_at = now + _ack_ms(wa_id)
            deliver_at = now + _deliver_ms(wa_id)
            queued = 0
        else:
            wa_id = ids.zapi_message_id(seed, instance.name, instance.sent)
            queue_id = ids.queue_id(seed, instance.name, instance.sent)
            next_at = max(now, instance.queue_free_at) + (
                _spacing_ms(queue_id) if wait_ms is None else wait_ms
            )
            queued = 1
            if instance.state == "open":
                instance.queue_free_at = next_at
            else:
                next_at = None
        if dead or (not queued and jid.endswith(GROUP)):
            # Nothing more is ever told of a message to a group, or of one that does not arrive.
            next_at, queued = None, 0
        self.state.count_send(instance)
        trace = call.request.headers.get("x-warmup-message")
        values: tuple[Any, ...] = (
            instance.id,
            kind,
            wa_id,
            queue_id,
            instance.phone,
            recipient.phone if recipient else user_of(jid),
            jid,
            recipient.id if recipient else None,
            body,
            media_mime,
            media_bytes,
            dumps(extra) if extra else None,
            trace,
            int(call.logical),
            now,
            call.real,
            ACCEPTED,
            queued,
            int(dead),
            next_at,
            deliver_at,
            None,
            None,
            None,
            None,
            None,
        )
        message = Message(self.state.add_message(values), *values)
        if instance.provider == Provider.EVOLUTION.value:
            self.emit(instance, "send.message", message.id, now)
        return message

    def mark_read(self, reader: Instance, wa_id: str, now: int) -> bool:
        """Mark a received message as read; tell its sender. Return whether there was one to mark."""
        message = self.state.received(reader.id, wa_id)
        if message is None or message.rank != DELIVERED:
            return False
        message.rank, message.read_at = READ, now
        self.state.move(message)
        self._receipt(self.state.instance_by_id(message.instance_id), message, now)
        if reader.provider == Provider.Z_API.value:
            self.emit(reader, "MessageStatusCallback", message.id, now, "READ_BY_ME")
        return True

    def remove_queued(self, message: Message, now: int) -> None:
        """Take a message out of its Z-API queue: it is never sent."""
        message.rank, message.queued, message.next_at, message.failed_at = REMOVED, 0, None, now
        self.state.move(message)

    def advance(self, now: int) -> None:
        """Do everything that became due up to ``now``."""
        if self.state.is_settled(now):
            return
        for instance in self.state.opening(now):
            self.open_session(instance, instance.opens_at or now)
        known: dict[int, Instance] = {}
        while due := self.state.due(now, _BATCH):
            for message in due:
                while message.next_at is not None and message.next_at <= now:
                    self._step(message, known)
                self.state.move(message)
        self.state.settle(now)

    def _step(self, message: Message, known: dict[int, Instance]) -> None:
        at = message.next_at or 0
        sender = self._instance(message.instance_id, known)
        if message.queued:
            self._leave_queue(message, sender, at)
        elif message.rank == ACCEPTED:
            message.rank, message.server_ack_at = AT_WHATSAPP, at
            message.next_at = max(at, message.deliver_at or at)
            self._receipt(sender, message, at)
        else:
            self._deliver(message, sender, at, known)

    def _leave_queue(self, message: Message, sender: Instance, at: int) -> None:
        if sender.state != "open":
            message.next_at = None
            return
        message.queued = 0
        if sender.zombie:
            message.next_at, message.lost = None, 1
            return
        if message.recipient_id is None and not self.on_whatsapp(message.remote_jid):
            message.rank, message.failed_at, message.failure = FAILED, at, _NO_NUMBER
            message.next_at = None
            self.emit(sender, "DeliveryCallback", message.id, at, _NO_NUMBER)
            return
        message.rank, message.server_ack_at = AT_WHATSAPP, at
        message.deliver_at = message.next_at = at + _deliver_ms(message.wa_id)
        self.emit(sender, "DeliveryCallback", message.id, at)
        self._receipt(sender, message, at)

    def _deliver(self, message: Message, sender: Instance, at: int, known: dict[int, Instance]) -> None:
        message.next_at = None
        if message.recipient_id is not None:
            receiver = self._instance(message.recipient_id, known)
            if receiver.deleted or receiver.state != "open" or receiver.zombie:
                return
            event = "messages.upsert" if receiver.provider == Provider.EVOLUTION.value else "ReceivedCallback"
            self.emit(receiver, event, message.id, at)
        message.rank, message.delivered_at = DELIVERED, at
        self._receipt(sender, message, at)

    def _instance(self, instance_id: int, known: dict[int, Instance]) -> Instance:
        instance = known.get(instance_id)
        if instance is None:
            instance = known[instance_id] = self.state.instance_by_id(instance_id)
        return instance

    def _release(self, instance: Instance, now: int) -> None:
        """Let go what waited for a session: mail for it, and what its own queue held."""
        if instance.zombie:
            return
        for message in self.state.waiting_for(instance.id):
            message.next_at = now
            self.state.move(message)
        held = self.state.held_by(instance.id)
        free_at = now
        for message in held:
            free_at += _spacing_ms(message.queue_id or "")
            message.next_at = free_at
            self.state.move(message)
        if held:
            instance.queue_free_at = free_at
            self.state.count_send(instance)

    # --- events

    def emit(
        self, instance: Instance, event: str, message_id: int | None, at: int, detail: str | None = None
    ) -> None:
        """Put an event into the outbox, if anybody wants this instance's events."""
        if self.settings.record_events or instance.webhook:
            self.state.add_event(instance.id, event, message_id, at, detail)

    def _receipt(self, sender: Instance, message: Message, at: int) -> None:
        if sender.provider == Provider.EVOLUTION.value:
            self.emit(sender, "messages.update", message.id, at, _STATUS_OF_EVOLUTION[message.rank])
        else:
            self.emit(sender, "MessageStatusCallback", message.id, at, _STATUS_OF_ZAPI[message.rank])

    def _connection_event(self, instance: Instance, at: int, state: str, reason: int) -> None:
        self.emit(
            instance,
            "connection.update",
            None,
            at,
            json.dumps({"state": state, "statusReason": reason}),
        )
