"""What webhooks say, from the moment it is heard until a cycle has applied it.

Holds: :class:`Directory` (who is meant by an instance, a number, a privacy id), :func:`written_down`,
which turns what was heard into rows of the inbox, and :class:`Waiting`, what a cycle's first step takes
out of it. ``serve`` writes rows and nothing else; the cycle applies them, so that there is one writer
of messages and connections. Do not add: HTTP (``serve``), bodies (``gateways.webhooks``), what a
receipt does to a message (``confirm``).

Source: domain.md, "Confirmed, not just accepted": match by gateway message id, and by phone or LID.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final

from warmup_pipeline.domain.phones import same_line
from warmup_pipeline.domain.privacy import Redactor
from warmup_pipeline.domain.values import ConnectionState, FailureClass, MessageState, Provider
from warmup_pipeline.gateways.base import Listed
from warmup_pipeline.gateways.webhooks import Heard, HeardArrival, HeardConnection, HeardReceipt
from warmup_pipeline.store import chips, inbox
from warmup_pipeline.store.chips import Chip
from warmup_pipeline.store.engine import Transaction
from warmup_pipeline.store.inbox import Arrival, InboxRow, Matched, SaidConnection, Source
from warmup_pipeline.warmup.confirm import Receipt

KEEP_FOR: Final = timedelta(hours=24)
"""How long the inbox keeps what nothing of ours was found for: as long as a message is asked about."""

MATCH_FOR: Final = timedelta(days=7)
"""How old a message may be that a webhook is about: a queue may hold one that long."""

_LONGEST_WORDS: Final = 500
_END_DIGITS: Final = 8


class Directory:
    """Who is meant: chips by instance, by number and by privacy id, as the database has them now."""

    def __init__(self, every_chip: Iterable[Chip], privacy_ids: Mapping[str, str]) -> None:
        self._by_instance: dict[tuple[Provider, str], Chip] = {}
        self._by_id: dict[str, Chip] = {}
        self._by_end: dict[str, list[Chip]] = {}
        for chip in every_chip:
            self._by_instance[chip.provider, chip.instance] = chip
            self._by_id[chip.id] = chip
            self._by_end.setdefault(chip.phone[-_END_DIGITS:], []).append(chip)
        self._privacy_ids = dict(privacy_ids)

    @classmethod
    def load(cls, tx: Transaction) -> Directory:
        """Read everybody."""
        return cls(chips.of_pool(tx), inbox.known_privacy_ids(tx))

    def of_instance(self, provider: Provider, instance: str) -> Chip | None:
        """Return the chip of an instance."""
        return self._by_instance.get((provider, instance))

    def of_number(self, phone: str) -> Chip | None:
        """Return the chip with a number, in whichever form WhatsApp knows it."""
        for chip in self._by_end.get(phone[-_END_DIGITS:], ()):
            if same_line(chip.phone, phone):
                return chip
        return None

    def of_privacy_id(self, privacy_id: str) -> Chip | None:
        """Return the chip behind a privacy id, where that was ever learned."""
        return self._by_id.get(self._privacy_ids.get(privacy_id, ""))


def written_down(
    heard: Sequence[Heard], chip: Chip, directory: Directory, redactor: Redactor, *, at: datetime
) -> tuple[list[InboxRow], Source]:
    """Return the rows that what was heard from a chip's gateway comes down to, and the chip as a source.

    What a stranger wrote to the chip leaves no row, and no text is kept unless a chip of the pool is its
    sender.

    Args:
        heard: what one webhook says.
        chip: whose gateway says it.
        directory: who is meant.
        redactor: takes secrets and phones out of the gateway's words.
        at: real time of hearing it, UTC.
    """
    rows = []
    own_receipts = False
    for one in heard:
        match one:
            case HeardReceipt():
                own_receipts = True
                rows.append(_receipt(one, chip, redactor, at))
            case HeardArrival():
                row = _arrival(one, chip, directory, at)
                if row is not None:
                    rows.append(row)
            case HeardConnection():
                rows.append(_connection(one, chip, redactor, at))
    return rows, Source(chip.id, at, at, at if own_receipts else None)


def _key(chip: Chip, *said: str | None) -> str:
    return hashlib.sha256("\x00".join((chip.id, *(part or "" for part in said))).encode()).hexdigest()


def _words(redactor: Redactor, words: str) -> str:
    # Cleaned before it is cut to what is kept: half a number would not be known for one.
    return redactor.text(" ".join(words.split())[: 4 * _LONGEST_WORDS])[:_LONGEST_WORDS]


def _receipt(one: HeardReceipt, chip: Chip, redactor: Redactor, at: datetime) -> InboxRow:
    return InboxRow(
        key=_key(chip, inbox.RECEIPT, one.message_id, one.queue_id, one.state),
        pool=chip.pool,
        chip_id=chip.id,
        kind=inbox.RECEIPT,
        state=one.state,
        received_at=at,
        gateway_message_id=one.message_id,
        gateway_queue_id=one.queue_id,
        failure_class=one.failure,
        words=_words(redactor, one.words),
    )


def _arrival(one: HeardArrival, chip: Chip, directory: Directory, at: datetime) -> InboxRow | None:
    peer = None
    if one.phone is not None:
        peer = directory.of_number(one.phone)
        if peer is None:
            return None
    elif one.privacy_id is not None:
        peer = directory.of_privacy_id(one.privacy_id)
    if peer is not None and (peer.pool != chip.pool or peer.id == chip.id):
        return None
    return InboxRow(
        key=_key(chip, inbox.ARRIVAL, one.message_id),
        pool=chip.pool,
        chip_id=chip.id,
        kind=inbox.ARRIVAL,
        state=MessageState.DELIVERED,
        received_at=at,
        gateway_message_id=one.message_id,
        peer_chip_id=peer.id if peer is not None else None,
        peer_privacy_id=one.privacy_id,
        content=one.kind if peer is not None else None,
        text=one.text if peer is not None else None,
        said_at=one.at,
    )


def _connection(one: HeardConnection, chip: Chip, redactor: Redactor, at: datetime) -> InboxRow:
    # Without its time: a session that flips every second leaves one row per state, not thousands.
    return InboxRow(
        key=_key(chip, inbox.CONNECTION, one.state, one.words),
        pool=chip.pool,
        chip_id=chip.id,
        kind=inbox.CONNECTION,
        state=one.state,
        received_at=at,
        words=_words(redactor, one.words),
        needs_person=one.needs_person,
    )


@dataclass(frozen=True, slots=True)
class Waiting:
    """What waits for a cycle when it begins.

    Attributes:
        anything: whether the inbox holds anything of the pool.
        connections: what was said of connections, oldest first.
        arrivals: arrivals at chips to which a message of unknown outcome may have gone.
        privacy_ids: known privacy ids by chip id.
        receipts: what was said of messages so far; taken out, with what came meanwhile, when it is applied.
        last_heard_at: when each chip's gateway was last heard at all (real time), by chip id.
    """

    anything: bool = False
    connections: tuple[SaidConnection, ...] = ()
    arrivals: tuple[Arrival, ...] = ()
    privacy_ids: Mapping[str, str] = field(default_factory=dict)
    receipts: tuple[Receipt, ...] = ()
    last_heard_at: Mapping[str, datetime] = field(default_factory=dict)

    @property
    def reopened(self) -> frozenset[str]:
        """Chips whose session opened since the last cycle: another number may be logged in now."""
        return frozenset(one.chip_id for one in self.connections if one.state is ConnectionState.OPEN)

    def newest_connection(self) -> dict[str, SaidConnection]:
        """Return the last thing said of each chip's connection."""
        return {one.chip_id: one for one in self.connections}

    def listed(self, senders: Mapping[str, Chip]) -> dict[str, list[Listed]]:
        """Return arrivals as a message list would show them, by the receiving chip."""
        found: dict[str, list[Listed]] = {}
        for one in self.arrivals:
            sender = senders.get(one.peer_chip_id)
            if sender is None:
                continue
            found.setdefault(one.chip_id, []).append(
                Listed(
                    message_id=one.gateway_message_id,
                    sent=False,
                    addresses=frozenset({f"{sender.phone}@s.whatsapp.net"}),
                    kind=one.content,
                    text=one.text,
                    at=one.said_at,
                    state=MessageState.DELIVERED,
                )
            )
        return found


def what_waits(tx: Transaction, pool: str, *, unknown_at: Iterable[str], at: datetime) -> Waiting:
    """Return what waits for a cycle of a pool.

    Args:
        tx: the transaction.
        pool: the pool.
        unknown_at: chips to which a message of unknown outcome may have gone.
        at: the cycle's tick.
    """
    last_heard_at = {chip_id: source.last_heard_at for chip_id, source in inbox.sources(tx).items()}
    privacy_ids = {chip_id: lid for lid, chip_id in inbox.known_privacy_ids(tx).items()}
    if inbox.oldest(tx, pool) is None:
        return Waiting(privacy_ids=privacy_ids, last_heard_at=last_heard_at)
    return Waiting(
        anything=True,
        connections=tuple(inbox.about_connections(tx, pool)),
        arrivals=tuple(inbox.arrivals_at(tx, pool, set(unknown_at))),
        privacy_ids=privacy_ids,
        receipts=tuple(receipts_heard(inbox.about_messages(tx, pool, since=at - MATCH_FOR))),
        last_heard_at=last_heard_at,
    )


def tell_receipts(tx: Transaction) -> frozenset[str]:
    """Return the chips whose receipts were ever heard by webhook: their gateway can confirm."""
    return frozenset(
        source.chip_id for source in inbox.sources(tx).values() if source.receipts_since is not None
    )


def receipts_heard(matched: Iterable[Matched]) -> list[Receipt]:
    """Return what the inbox says about messages as receipts."""
    return [
        Receipt(one.message_id, one.state, one.words, one.failure or FailureClass.TRANSIENT)
        for one in matched
    ]


def take_receipts(
    tx: Transaction, pool: str, waiting: Waiting, *, at: datetime, now: datetime
) -> list[Receipt]:
    """Take what is about messages and connections out of the inbox, and return the receipts in it.

    The caller holds the pool and applies the receipts in the same transaction.

    Args:
        tx: the transaction.
        pool: the pool.
        waiting: what was seen waiting; of connections no more than that is taken out.
        at: the cycle's tick.
        now: real time, UTC.
    """
    if not waiting.anything:
        return []
    matched = inbox.about_messages(tx, pool, since=at - MATCH_FOR)
    learned = dict(one.learned for one in matched if one.learned is not None)
    inbox.learn_privacy_ids(tx, learned, at=now)
    inbox.take_out(tx, {*(one.key for one in matched), *(one.key for one in waiting.connections)})
    inbox.forget_older(tx, pool, than=now - KEEP_FOR)
    return receipts_heard(matched)
