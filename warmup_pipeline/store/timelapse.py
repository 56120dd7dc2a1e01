"""What the time-lapse asks of the database: when something is due next.

Holds: :func:`pending` (everything in a pool that a clock alone brings about)
and :func:`insert_stepped_over`. Do not add: what may be stepped over (``warmup.timelapse.horizon``),
anything a cycle needs.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from functools import cache
from typing import Any

import sqlalchemy as sa

from warmup_pipeline.domain.failures import SENDER_ERRORS
from warmup_pipeline.domain.values import ACCEPTED_STATES, ActivityState, ConversationState, MessageState
from warmup_pipeline.store.bulk import insert_rows
from warmup_pipeline.store.cycles import Cycle
from warmup_pipeline.store.engine import Transaction
from warmup_pipeline.store.message_states import has_state
from warmup_pipeline.store.schema import (
    activities,
    conversations,
    cycles,
    kill_switches,
    messages,
    phase_transitions,
)

_UNCLOSED = sorted(set(ConversationState) - {ConversationState.CLOSED})
_UNSETTLED = [MessageState.SENDING, MessageState.ACCEPTED, MessageState.AT_WHATSAPP, MessageState.UNKNOWN]


@dataclass(frozen=True, slots=True)
class Pending:
    """What of a pool a clock alone will bring about.

    Attributes:
        activity_due: the earliest due time of a planned activity.
        reply_due: the earliest due time of a reply turn.
        oldest_conversation: when the oldest unclosed conversation was made.
        newest_open_send: when the newest send was made whose delivery is not settled.
        errors: when the sender-side failures of the last day happened.
        late_unconfirmed: whether a confirmable send of the last week was never confirmed.
        last_send: when the newest send was made, if within a day.
        switch_ends: when the next kill switch ends by itself.
    """

    activity_due: datetime | None
    reply_due: datetime | None
    oldest_conversation: datetime | None
    newest_open_send: datetime | None
    errors: tuple[datetime, ...]
    late_unconfirmed: bool
    last_send: datetime | None
    switch_ends: datetime | None


def pending(tx: Transaction, pool: str, *, at: datetime) -> Pending:
    """Return what of a pool a clock alone will bring about after ``at``."""
    asked = {
        "in_pool": pool,
        "now": at,
        "week": at - timedelta(days=8),
        "a_day_ago": at - timedelta(hours=25),
    }
    query, failures = _pending()
    found = tx.connection.execute(query, asked).one()
    errors = tx.connection.execute(failures, asked).scalars()
    return Pending(
        activity_due=found[0],
        reply_due=found[1],
        oldest_conversation=found[2],
        newest_open_send=found[3],
        errors=tuple(errors),
        late_unconfirmed=bool(found[4]),
        last_send=found[5],
        switch_ends=found[6],
    )


@cache
def _pending() -> tuple[sa.Select[Any], sa.Select[Any]]:
    """Return the two queries of :func:`pending`: everything but errors, and errors."""
    pool: sa.BindParameter[str] = sa.bindparam("in_pool")
    confirmable = sa.and_(
        messages.c.state.in_([MessageState.ACCEPTED, MessageState.AT_WHATSAPP]),
        messages.c.confirmable.is_(sa.true()),
        messages.c.confirmed_at.is_(None),
    )
    everything = sa.select(
        sa.select(sa.func.min(activities.c.due_at))
        .where(activities.c.pool == pool, activities.c.state == ActivityState.PLANNED)
        .scalar_subquery(),
        sa.select(sa.func.min(conversations.c.next_due_at))
        .where(conversations.c.pool == pool, conversations.c.state == ConversationState.OPEN)
        .scalar_subquery(),
        sa.select(sa.func.min(conversations.c.created_at))
        .where(conversations.c.pool == pool, conversations.c.state.in_(_UNCLOSED))
        .scalar_subquery(),
        sa.select(sa.func.max(messages.c.sent_at))
        .where(
            messages.c.pool == pool,
            messages.c.state.in_(_UNSETTLED),
            messages.c.confirmable.is_(sa.true()),
        )
        .scalar_subquery(),
        sa.select(sa.func.count())
        .select_from(messages)
        .where(messages.c.pool == pool, confirmable, messages.c.sent_at > sa.bindparam("week"))
        .scalar_subquery(),
        sa.select(sa.func.max(messages.c.sent_at))
        .where(
            messages.c.pool == pool,
            messages.c.state.in_(sorted(MessageState)),
            messages.c.sent_at > sa.bindparam("a_day_ago"),
        )
        .scalar_subquery(),
        sa.select(sa.func.min(kill_switches.c.expires_at))
        .where(kill_switches.c.lifted_at.is_(None), kill_switches.c.expires_at > sa.bindparam("now"))
        .scalar_subquery(),
    )
    errors = sa.select(messages.c.sent_at).where(
        messages.c.pool == pool,
        has_state(MessageState.FAILED),
        messages.c.failure_class.in_(sorted(SENDER_ERRORS)),
        messages.c.sent_at > sa.bindparam("a_day_ago"),
    )
    return everything, errors


def insert_stepped_over(tx: Transaction, rows: Sequence[Cycle]) -> None:
    """Note cycles that were not run because nothing could change in them."""
    insert_rows(
        tx, cycles, [{name: getattr(row, name) for name in Cycle.__dataclass_fields__} for row in rows]
    )


@dataclass(frozen=True, slots=True)
class Transition:
    """One row of ``phase_transitions``, without its criteria."""

    chip_id: str
    from_phase: str
    to_phase: str
    at: datetime
    day: date
    warming_day: int | None


def transitions(tx: Transaction, pool: str) -> list[Transition]:
    """Return every phase change of a pool, by time."""
    query = (
        sa.select(*(phase_transitions.c[name] for name in Transition.__dataclass_fields__))
        .where(phase_transitions.c.pool == pool)
        .order_by(phase_transitions.c.at, phase_transitions.c.chip_id)
    )
    return [Transition(*row) for row in tx.connection.execute(query).all()]


def cycles_of(tx: Transaction, pool: str) -> list[Cycle]:
    """Return every cycle of a pool, by tick, without what its steps counted."""
    names = [name for name in Cycle.__dataclass_fields__ if name != "counts"]
    query = (
        sa.select(*(cycles.c[name] for name in names)).where(cycles.c.pool == pool).order_by(cycles.c.tick)
    )
    return [Cycle(**dict(row), counts={}) for row in tx.connection.execute(query).mappings()]


def attempts_by_day(tx: Transaction, pool: str) -> dict[date, tuple[int, int]]:
    """Return the CONVERSA_PAR attempts of each local day: day -> (succeeded, failed)."""
    query = (
        sa.select(
            messages.c.sent_day,
            sa.func.sum(sa.case((messages.c.state.in_(sorted(ACCEPTED_STATES)), 1), else_=0)),
            sa.func.sum(sa.case((messages.c.state == MessageState.FAILED, 1), else_=0)),
        )
        .where(messages.c.pool == pool)
        .group_by(messages.c.sent_day)
        .order_by(messages.c.sent_day)
    )
    return {row[0]: (int(row[1]), int(row[2])) for row in tx.connection.execute(query).all()}


def digest(tx: Transaction, pool: str) -> str:
    """Return a fingerprint of what a pool has done: each message, activity and phase change, whole."""
    found = hashlib.sha256()
    for table, order, left_out in (
        (messages, (messages.c.sent_at, messages.c.id), {"ended_at", "traceback"}),
        (activities, (activities.c.day, activities.c.id), {"traceback"}),
        (phase_transitions, (phase_transitions.c.at, phase_transitions.c.chip_id), set()),
    ):
        columns = [column for column in table.c if column.name not in left_out]
        query = sa.select(*columns).where(table.c.pool == pool).order_by(*order)
        for row in tx.connection.execution_options(yield_per=1000).execute(query):
            found.update(repr(tuple(row)).encode())
    return found.hexdigest()
