"""What gateways told by webhook, between the moment they said it and the cycle that applies it.

Holds: the inbox (``webhook_inbox``), whose webhooks were ever heard (``webhook_sources``), and which
chip stands behind a privacy id (``privacy_ids``). Writing is idempotent: what is said twice stands
once. Do not add: what is said (``gateways.webhooks``), what follows from it (``warmup.hearing``).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from functools import cache
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from warmup_pipeline.domain.values import ConnectionState, FailureClass, MessageKind, MessageState
from warmup_pipeline.store.bulk import upsert_rows
from warmup_pipeline.store.engine import ROWS_PER_STATEMENT, Transaction
from warmup_pipeline.store.memory import remembered
from warmup_pipeline.store.schema import messages, privacy_ids, webhook_inbox, webhook_sources

RECEIPT: Final = "receipt"
ARRIVAL: Final = "arrival"
CONNECTION: Final = "connection"


@dataclass(frozen=True, slots=True)
class InboxRow:
    """One row of ``webhook_inbox``: see the column comments there."""

    key: str
    pool: str
    chip_id: str
    kind: str
    state: str
    received_at: datetime
    gateway_message_id: str | None = None
    gateway_queue_id: str | None = None
    failure_class: str | None = None
    words: str = ""
    needs_person: str | None = None
    peer_chip_id: str | None = None
    peer_privacy_id: str | None = None
    content: str | None = None
    text: str | None = None
    said_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Source:
    """Whose webhooks were heard, and when: real times, UTC."""

    chip_id: str
    first_heard_at: datetime
    last_heard_at: datetime
    receipts_since: datetime | None


@dataclass(frozen=True, slots=True)
class Matched:
    """A row that is about one of our messages.

    Attributes:
        key: the row's key, and when it was (last) received: only that much of it may be deleted.
        message_id: our id of the message.
        state: what it is said to be.
        learned: the privacy id that turned out to be the sender's, with the sender's id.
    """

    key: tuple[str, datetime]
    message_id: str
    state: MessageState
    failure: FailureClass | None
    words: str
    learned: tuple[str, str] | None


@dataclass(frozen=True, slots=True)
class SaidConnection:
    """What a webhook said of a chip's connection."""

    key: tuple[str, datetime]
    chip_id: str
    state: ConnectionState
    words: str
    needs_person: str | None
    received_at: datetime


@dataclass(frozen=True, slots=True)
class Arrival:
    """A message from a chip of the pool that a receiving chip's gateway has seen."""

    chip_id: str
    gateway_message_id: str
    peer_chip_id: str
    content: MessageKind | None
    text: str
    said_at: datetime | None


def put(tx: Transaction, rows: Iterable[InboxRow], heard: Iterable[Source]) -> None:
    """Write down what was said, and who said something. Said before, it changes no more than a time."""
    by_key = {row.key: asdict(row) for row in rows}
    # In one order everywhere: two writers that meet wait for each other instead of forming a ring.
    upsert_rows(tx, webhook_inbox, [by_key[key] for key in sorted(by_key)])
    _hear(tx, list(heard))


def _hear(tx: Transaction, heard: Sequence[Source]) -> None:
    if heard:
        rows = [asdict(source) for source in heard]
        tx.connection.execute(_note_sources(tx.connection.dialect.name), rows)


@cache
def _note_sources(dialect: str) -> sa.Insert:
    statement = (sqlite.insert if dialect == "sqlite" else postgresql.insert)(webhook_sources)
    new = statement.excluded
    return statement.on_conflict_do_update(
        index_elements=["chip_id"],
        set_={
            "last_heard_at": new.last_heard_at,
            "receipts_since": sa.func.coalesce(webhook_sources.c.receipts_since, new.receipts_since),
        },
    )


@remembered(webhook_sources)
def sources(tx: Transaction) -> dict[str, Source]:
    """Return whose webhooks were ever heard, by chip id, of every pool."""
    rows = tx.connection.execute(_sources())
    return {row[0]: Source(*row) for row in rows}


@cache
def _sources() -> sa.Select[Any]:
    return sa.select(*(webhook_sources.c[name] for name in Source.__dataclass_fields__))


@remembered(privacy_ids)
def known_privacy_ids(tx: Transaction) -> dict[str, str]:
    """Return which chip stands behind each known privacy id."""
    return {row[0]: row[1] for row in tx.connection.execute(_privacy_ids()).all()}


@cache
def _privacy_ids() -> sa.Select[Any]:
    return sa.select(privacy_ids.c.privacy_id, privacy_ids.c.chip_id)


def learn_privacy_ids(tx: Transaction, found: Mapping[str, str], *, at: datetime) -> None:
    """Remember which chip stands behind each privacy id."""
    upsert_rows(
        tx,
        privacy_ids,
        [{"privacy_id": p, "chip_id": c, "learned_at": at} for p, c in sorted(found.items())],
    )


@remembered(webhook_inbox)
def oldest(tx: Transaction, pool: str) -> datetime | None:
    """Return when the oldest row of a pool was received, ``None`` while nothing waits."""
    found: datetime | None = tx.connection.execute(_oldest(), {"in_pool": pool}).scalar_one()
    return found


@cache
def _oldest() -> sa.Select[Any]:
    return sa.select(sa.func.min(webhook_inbox.c.received_at)).where(
        webhook_inbox.c.pool == sa.bindparam("in_pool")
    )


def about_messages(tx: Transaction, pool: str, *, since: datetime) -> list[Matched]:
    """Return what waits that is about one of our messages (sent since an instant), oldest first.

    A receipt comes from the sender's gateway and names the message by its own id or by the queue's; an
    arrival comes from the receiver's, and its sender, where that is known, must be ours.
    """
    inbox, known = webhook_inbox, privacy_ids
    recent = sa.and_(messages.c.sent_at >= since, inbox.c.pool == pool)
    columns = (
        inbox.c.key,
        inbox.c.received_at,
        messages.c.id,
        inbox.c.state,
        inbox.c.failure_class,
        inbox.c.words,
        inbox.c.kind,
        inbox.c.peer_privacy_id,
        messages.c.sender_chip_id,
        known.c.chip_id,
    )
    of_sender = messages.c.sender_chip_id == inbox.c.chip_id
    found: dict[tuple[str, str], Matched] = {}
    for join in (
        sa.and_(
            inbox.c.kind == RECEIPT,
            of_sender,
            messages.c.gateway_message_id == inbox.c.gateway_message_id,
        ),
        sa.and_(
            inbox.c.kind == RECEIPT,
            of_sender,
            messages.c.gateway_queue_id == inbox.c.gateway_queue_id,
        ),
        sa.and_(
            inbox.c.kind == ARRIVAL,
            messages.c.recipient_chip_id == inbox.c.chip_id,
            messages.c.gateway_message_id == inbox.c.gateway_message_id,
            sa.or_(inbox.c.peer_chip_id.is_(None), inbox.c.peer_chip_id == messages.c.sender_chip_id),
        ),
    ):
        query = (
            sa.select(*columns)
            .select_from(
                inbox.join(messages, join).outerjoin(known, known.c.privacy_id == inbox.c.peer_privacy_id)
            )
            .where(recent)
            .order_by(inbox.c.received_at, inbox.c.key)
        )
        for (
            key,
            received,
            message_id,
            state,
            failure,
            words,
            kind,
            lid,
            sender,
            behind,
        ) in tx.connection.execute(query).all():
            if kind == ARRIVAL and behind is not None and behind != sender:
                # That privacy id is another chip's: it is not this message, whatever its id.
                continue
            found[key, message_id] = Matched(
                key=(key, received),
                message_id=message_id,
                state=MessageState(state),
                failure=None if failure is None else FailureClass(failure),
                words=words,
                learned=(lid, sender) if kind == ARRIVAL and lid is not None and behind is None else None,
            )
    return list(found.values())


def about_connections(tx: Transaction, pool: str) -> list[SaidConnection]:
    """Return what was said of a pool's connections, oldest first."""
    inbox = webhook_inbox
    query = (
        sa.select(
            inbox.c.key,
            inbox.c.received_at,
            inbox.c.chip_id,
            inbox.c.state,
            inbox.c.words,
            inbox.c.needs_person,
        )
        .where(inbox.c.pool == pool, inbox.c.kind == CONNECTION)
        .order_by(inbox.c.received_at, inbox.c.key)
    )
    return [
        SaidConnection((key, received), chip_id, ConnectionState(state), words, needs, received)
        for key, received, chip_id, state, words, needs in tx.connection.execute(query).all()
    ]


def arrivals_at(tx: Transaction, pool: str, chip_ids: Collection[str]) -> list[Arrival]:
    """Return what waits of arrivals at some chips, from chips of the pool."""
    if not chip_ids:
        return []
    inbox = webhook_inbox
    query = sa.select(
        inbox.c.chip_id,
        inbox.c.gateway_message_id,
        inbox.c.peer_chip_id,
        inbox.c.content,
        inbox.c.text,
        inbox.c.said_at,
    ).where(
        inbox.c.pool == pool,
        inbox.c.kind == ARRIVAL,
        inbox.c.peer_chip_id.is_not(None),
        inbox.c.chip_id.in_(sorted(chip_ids)),
    )
    return [
        Arrival(chip_id, message_id, peer, None if kind is None else MessageKind(kind), text or "", said_at)
        for chip_id, message_id, peer, kind, text, said_at in tx.connection.execute(query).all()
    ]


def take_out(tx: Transaction, keys: Collection[tuple[str, datetime]]) -> None:
    """Delete rows that were applied, unless the same was said again since."""
    wanted = sorted(keys)
    for start in range(0, len(wanted), ROWS_PER_STATEMENT // 2):
        tx.connection.execute(
            sa.delete(webhook_inbox).where(
                sa.tuple_(webhook_inbox.c.key, webhook_inbox.c.received_at).in_(
                    wanted[start : start + ROWS_PER_STATEMENT // 2]
                )
            )
        )


def forget_older(tx: Transaction, pool: str, *, than: datetime) -> int:
    """Delete rows that nothing of ours was found for; return how many."""
    inbox = webhook_inbox
    query = sa.delete(inbox).where(inbox.c.pool == pool, inbox.c.received_at < than)
    return int(tx.connection.execute(query).rowcount)
