"""What the demo asks of the database: what its own cycles did; and its removal.

Holds: the facts of a given set of cycles, beside which the demo lays what the gateway saw, and
:func:`erase_everything`. Add here: another fact that the demo measures. Do not add: judgements
(``warmup.demo``), anything a cycle needs.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

import sqlalchemy as sa

from warmup_pipeline.domain.values import ActivityState, Phase, RowSource
from warmup_pipeline.store.engine import ROWS_PER_STATEMENT, Transaction
from warmup_pipeline.store.messages import counting
from warmup_pipeline.store.schema import (
    activities,
    activity_types,
    chip_connections,
    chips,
    conversations,
    messages,
    metadata,
    pools,
    presend_validations,
)


@dataclass(frozen=True, slots=True)
class LoggedSend:
    """One message of the log with what allowed it.

    Attributes:
        hour_limit: the effective limit that validation found.
        day_limit: the same for the local day.
        planned_at: when its activity was first due; ``None`` for a reply.
        counts: it counts as sent and received (accepted, and confirmed where that can be asked).
    """

    id: str
    cycle_id: str
    conversation_id: str
    turn: int
    sender_chip_id: str
    recipient_chip_id: str
    activity_id: str | None
    phase: Phase
    state: str
    sent_at: datetime
    sent_day: date
    hour_limit: int
    day_limit: int
    planned_at: datetime | None
    counts: bool


@dataclass(frozen=True, slots=True)
class OpenedConversation:
    """A conversation whose first turn was accepted."""

    id: str
    opener_chip_id: str
    responder_chip_id: str
    turns: int
    turns_accepted: int
    state: str
    opened_at: datetime


def _chunks(ids: Sequence[str]) -> Iterator[Sequence[str]]:
    for start in range(0, len(ids), ROWS_PER_STATEMENT):
        yield ids[start : start + ROWS_PER_STATEMENT]


def sends_of_pool(tx: Transaction, pool: str, *, at: datetime) -> list[LoggedSend]:
    """Return every message of a pool's log, by time: limits look further back than one set of cycles."""
    query = (
        sa.select(
            messages.c.id,
            messages.c.cycle_id,
            messages.c.conversation_id,
            messages.c.turn,
            messages.c.sender_chip_id,
            messages.c.recipient_chip_id,
            messages.c.activity_id,
            messages.c.phase,
            messages.c.state,
            messages.c.sent_at,
            messages.c.sent_day,
            presend_validations.c.hour_limit,
            presend_validations.c.day_limit,
            activities.c.planned_at,
            counting(at).label("counts"),
        )
        .join(presend_validations, presend_validations.c.id == messages.c.approval_id)
        .outerjoin(activities, activities.c.id == messages.c.activity_id)
        .where(messages.c.pool == pool)
        .order_by(messages.c.sent_at, messages.c.id)
    )
    rows = (dict(row) for row in tx.connection.execute(query).mappings())
    return [
        LoggedSend(**(row | {"phase": Phase(row["phase"]), "counts": bool(row["counts"])})) for row in rows
    ]


def conversations_of(tx: Transaction, ids: Sequence[str]) -> list[OpenedConversation]:
    """Return those of some conversations that were opened, by time."""
    found: list[OpenedConversation] = []
    for chunk in _chunks(ids):
        query = sa.select(*(conversations.c[name] for name in OpenedConversation.__dataclass_fields__)).where(
            conversations.c.id.in_(chunk), conversations.c.opened_at.is_not(None)
        )
        found += [OpenedConversation(*row) for row in tx.connection.execute(query).all()]
    return sorted(found, key=lambda one: (one.opened_at, one.id))


def executed_early(tx: Transaction, cycle_ids: Sequence[str]) -> list[str]:
    """Return the activities that cycles ended as executed before they were first due."""
    early: list[str] = []
    for chunk in _chunks(cycle_ids):
        query = sa.select(activities.c.id).where(
            activities.c.cycle_id.in_(chunk),
            activities.c.state == ActivityState.EXECUTED,
            activities.c.final_at < activities.c.planned_at,
        )
        early += tx.connection.execute(query).scalars()
    return early


def unimplemented_planned(tx: Transaction, pool: str) -> int:
    """Return how many activities without an executor are planned, or were planned by our own planner."""
    open_states = [ActivityState.PLANNED, ActivityState.CLAIMED]
    query = (
        sa.select(sa.func.count())
        .select_from(activities.join(activity_types, activity_types.c.name == activities.c.type))
        .where(
            activities.c.pool == pool,
            activity_types.c.executable.is_(sa.false()),
            sa.or_(activities.c.state.in_(open_states), activities.c.source == RowSource.WARMUP),
        )
    )
    return int(tx.connection.execute(query).scalar_one())


def stubs_cancelled(tx: Transaction, pool: str, reason: str) -> list[tuple[str, str]]:
    """Return the imported activities cancelled for a reason, as (chip id, type)."""
    query = (
        sa.select(activities.c.chip_id, activities.c.type)
        .where(
            activities.c.pool == pool,
            activities.c.source == RowSource.IMPORT,
            activities.c.state == ActivityState.CANCELLED,
            activities.c.reason == reason,
        )
        .order_by(activities.c.planned_at, activities.c.id)
    )
    return [(row[0], row[1]) for row in tx.connection.execute(query).all()]


def recovered_between(tx: Transaction, pool: str, first: datetime, last: datetime) -> list[str]:
    """Return the chips that came back after being down, by id."""
    query = (
        sa.select(chip_connections.c.chip_id)
        .where(
            chip_connections.c.pool == pool,
            chip_connections.c.recovered_at >= first,
            chip_connections.c.recovered_at <= last,
        )
        .order_by(chip_connections.c.chip_id)
    )
    return list(tx.connection.execute(query).scalars().all())


def chip_ids_by_pool(tx: Transaction) -> Mapping[str, set[str]]:
    """Return the ids of each pool's chips; a pool without any has none."""
    found: dict[str, set[str]] = {
        name: set() for name in tx.connection.execute(sa.select(pools.c.name)).scalars()
    }
    for chip_id, pool in tx.connection.execute(sa.select(chips.c.id, chips.c.pool)).all():
        found[pool].add(chip_id)
    return found


def erase_everything(tx: Transaction) -> None:
    """Remove every row of every table. Whoever calls it has made sure that the demo is all there is."""
    for table in reversed(metadata.sorted_tables):
        statement: Any = sa.delete(table)
        tx.connection.execute(statement)
