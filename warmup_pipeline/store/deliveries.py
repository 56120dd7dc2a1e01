"""What is still open about messages that were handed to a gateway, and what closes it.

Holds: the messages that a gateway can still be asked about, the signs of a dead session, and the
changes that later evidence makes: a message moves up its scale, fails late, or is found again after
an unknown outcome. Every change is conditional on the state it comes from, so that evidence that
comes twice or out of order changes nothing. Do not add: what the evidence means (``warmup.confirm``,
``warmup.resolve``), the log's sums (``store.messages``).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from typing import Any, Final, NamedTuple

import sqlalchemy as sa

from warmup_pipeline.domain.values import (
    ActivityState,
    ConversationState,
    FailureClass,
    MessageKind,
    MessageState,
    Provider,
)
from warmup_pipeline.store.bulk import update_rows
from warmup_pipeline.store.engine import ROWS_PER_STATEMENT, Transaction
from warmup_pipeline.store.message_states import has_state
from warmup_pipeline.store.messages import first_day
from warmup_pipeline.store.schema import (
    activities,
    chip_connections,
    chips,
    conversations,
    cycles,
    messages,
    pairings,
)

UNDELIVERED: Final = (MessageState.ACCEPTED, MessageState.AT_WHATSAPP)
"""States of a message that was accepted and has not arrived, as far as is known."""


@dataclass(frozen=True, slots=True)
class OpenMessage:
    """A message whose end is not known yet, with what is needed to ask about it and to move it on.

    Attributes:
        began_at: real time at which the cycle that sent it began, UTC; ``sent_at`` is logical time.
        http_attempts: 0 where our own process ended before the outcome was noted.
        conversation_state: of its conversation, with its turns and how many were accepted.
    """

    id: str
    pool: str
    cycle_id: str
    conversation_id: str
    turn: int
    activity_id: str | None
    sender_chip_id: str
    recipient_chip_id: str
    kind: MessageKind
    state: MessageState
    sent_at: datetime
    accepted_at: datetime | None
    confirmable: bool
    gateway_message_id: str | None
    gateway_queue_id: str | None
    http_attempts: int
    failure_class: FailureClass | None
    dialogue_id: str
    turns: int
    turns_accepted: int
    conversation_state: ConversationState
    began_at: datetime


def _columns() -> tuple[sa.ColumnElement[Any], ...]:
    others: dict[str, sa.ColumnElement[Any]] = {
        "dialogue_id": conversations.c.dialogue_id,
        "turns": conversations.c.turns,
        "turns_accepted": conversations.c.turns_accepted,
        "conversation_state": conversations.c.state.label("conversation_state"),
        "began_at": cycles.c.began_at,
    }
    return tuple(
        others[name] if name in others else messages.c[name] for name in OpenMessage.__dataclass_fields__
    )


def _with_context() -> sa.Select[Any]:
    return (
        sa.select(*_columns())
        .join(conversations, conversations.c.id == messages.c.conversation_id)
        .join(cycles, cycles.c.id == messages.c.cycle_id)
    )


def _open_message(row: sa.RowMapping) -> OpenMessage:
    data = dict(row)
    failure = data["failure_class"]
    data |= {
        "kind": MessageKind(data["kind"]),
        "state": MessageState(data["state"]),
        "conversation_state": ConversationState(data["conversation_state"]),
        "failure_class": None if failure is None else FailureClass(failure),
    }
    return OpenMessage(**data)


@cache
def _open_questions() -> sa.Select[Any]:
    can_be_seen = sa.or_(
        messages.c.confirmable.is_(sa.true()),
        messages.c.recipient_chip_id.in_(sa.select(chips.c.id).where(chips.c.provider == Provider.EVOLUTION)),
    )
    undelivered = sa.and_(
        sa.or_(*(has_state(state) for state in UNDELIVERED)),
        messages.c.confirmed_at.is_(None),
        messages.c.gateway_message_id.is_not(None),
        can_be_seen,
    )
    return (
        _with_context()
        .where(
            messages.c.pool == sa.bindparam("in_pool"),
            messages.c.state.in_([*UNDELIVERED, MessageState.UNKNOWN]),
            messages.c.sent_at >= sa.bindparam("since"),
            sa.or_(has_state(MessageState.UNKNOWN), undelivered),
        )
        .order_by(messages.c.sent_at, messages.c.id)
    )


def open_questions(tx: Transaction, pool: str, *, since: datetime) -> list[OpenMessage]:
    """Return the messages sent since an instant that some gateway can be asked about, oldest first.

    These are the unknown ones, and those accepted and not confirmed whose delivery can be seen: by
    the sender's own gateway, or in the message list of a receiver on Evolution.
    """
    rows = tx.connection.execute(_open_questions(), {"in_pool": pool, "since": since})
    return [_open_message(row) for row in rows.mappings()]


def among(tx: Transaction, ids: Collection[str], states: Collection[MessageState]) -> dict[str, OpenMessage]:
    """Return those of some messages that are in one of some states now, by id."""
    found: dict[str, OpenMessage] = {}
    wanted = sorted(ids)
    for start in range(0, len(wanted), ROWS_PER_STATEMENT):
        asked = {"ids": wanted[start : start + ROWS_PER_STATEMENT], "states": sorted(states)}
        found |= {row["id"]: _open_message(row) for row in tx.connection.execute(_among(), asked).mappings()}
    return found


@cache
def _among() -> sa.Select[Any]:
    return _with_context().where(
        messages.c.id.in_(sa.bindparam("ids", expanding=True)),
        messages.c.state.in_(sa.bindparam("states", expanding=True)),
    )


def known_ids(tx: Transaction, pool: str, *, since: datetime) -> set[str]:
    """Return the gateway ids of a pool's messages sent since an instant: what is already one of ours."""
    query = sa.select(messages.c.gateway_message_id).where(
        messages.c.pool == pool,
        messages.c.sent_day >= first_day(since),
        messages.c.sent_at >= since,
        messages.c.gateway_message_id.is_not(None),
    )
    return set(tx.connection.execute(query).scalars().all())


@cache
def _silent() -> sa.Select[Any]:
    later = messages.alias("later")
    heard_of = sa.exists().where(
        later.c.sender_chip_id == messages.c.sender_chip_id,
        later.c.sent_at >= messages.c.sent_at,
        later.c.confirmed_at.is_not(None),
    )
    return (
        sa.select(messages.c.sender_chip_id, messages.c.id, messages.c.accepted_at)
        .where(
            messages.c.pool == sa.bindparam("in_pool"),
            messages.c.state.in_(UNDELIVERED),
            messages.c.sent_at >= sa.bindparam("since"),
            messages.c.confirmable.is_(sa.true()),
            messages.c.confirmed_at.is_(None),
            messages.c.accepted_at <= sa.bindparam("until"),
            ~heard_of,
        )
        .order_by(messages.c.sender_chip_id, messages.c.sent_at.desc(), messages.c.id)
    )


class SilentSend(NamedTuple):
    """A send of which nothing was heard since it was accepted."""

    message_id: str
    accepted_at: datetime


def silent_sends(
    tx: Transaction,
    pool: str,
    *,
    since: datetime,
    until: datetime,
    recovered_at: Mapping[str, datetime | None],
) -> dict[str, list[SilentSend]]:
    """Return, by sender and newest first, the confirmable sends after which nothing was ever confirmed.

    Only those accepted up to ``until`` and not before the chip's last recovery attempt: what a dead
    session swallowed before it was restarted says nothing about the new one.

    Args:
        tx: the transaction.
        pool: the pool.
        since: how far back to look.
        until: only sends accepted until then.
        recovered_at: when each chip whose connection is known was last tried to be recovered.
    """
    found: dict[str, list[SilentSend]] = {}
    rows = tx.connection.execute(_silent(), {"in_pool": pool, "since": since, "until": until})
    for chip_id, message_id, accepted_at in rows:
        recovery = recovered_at.get(chip_id)
        if chip_id in recovered_at and (recovery is None or accepted_at >= recovery):
            found.setdefault(chip_id, []).append(SilentSend(message_id, accepted_at))
    return found


def confirmed_since_recovery(tx: Transaction, chip_ids: Collection[str]) -> set[str]:
    """Return those of some chips of which a send after their last recovery attempt was confirmed."""
    if not chip_ids:
        return set()
    query = sa.select(chip_connections.c.chip_id).where(
        chip_connections.c.chip_id.in_(sorted(chip_ids)),
        sa.exists().where(
            messages.c.sender_chip_id == chip_connections.c.chip_id,
            messages.c.sent_at >= chip_connections.c.last_recovery_at,
            messages.c.confirmed_at.is_not(None),
        ),
    )
    return set(tx.connection.execute(query).scalars().all())


def may_be_queued(
    tx: Transaction, chip_ids: Collection[str], *, since: datetime
) -> dict[str, list[OpenMessage]]:
    """Return, by sender, what chips sent since an instant that their gateway's queue may still hold."""
    if not chip_ids:
        return {}
    query = (
        _with_context()
        .where(
            messages.c.sender_chip_id.in_(sorted(chip_ids)),
            messages.c.sent_at >= since,
            messages.c.state.in_([MessageState.ACCEPTED, MessageState.UNKNOWN, MessageState.FAILED]),
            messages.c.confirmed_at.is_(None),
        )
        .order_by(messages.c.sent_at, messages.c.id)
    )
    found: dict[str, list[OpenMessage]] = {}
    for row in tx.connection.execute(query).mappings():
        found.setdefault(row["sender_chip_id"], []).append(_open_message(row))
    return found


def partner_activities(tx: Transaction, conversation_ids: Collection[str]) -> dict[str, str]:
    """Return the second activity that a conversation's opening served: conversation id -> activity id."""
    found: dict[str, str] = {}
    wanted = sorted(conversation_ids)
    for start in range(0, len(wanted), ROWS_PER_STATEMENT):
        query = sa.select(pairings.c.conversation_id, pairings.c.partner_activity_id).where(
            pairings.c.conversation_id.in_(wanted[start : start + ROWS_PER_STATEMENT]),
            pairings.c.partner_activity_id.is_not(None),
        )
        found |= {row[0]: row[1] for row in tx.connection.execute(query).all()}
    return found


def change_conversations(tx: Transaction, rows: Sequence[Mapping[str, Any]]) -> None:
    """Set columns of conversations, closed ones too: rows of id and the same further columns."""
    update_rows(tx, conversations, rows)


@cache
def _activity_is(state: ActivityState) -> sa.ColumnElement[bool]:
    return activities.c.state == state


def change_activities(tx: Transaction, rows: Sequence[Mapping[str, Any]], *, of: ActivityState) -> None:
    """Set columns of activities that are in a state: rows of id and the same further columns.

    The one place where a final state changes: the truth about a message came after its activity's end.
    """
    update_rows(tx, activities, rows, where=_activity_is(of))
