"""The sums that a day's summary is made of, and the summary's rows.

Holds: :func:`day_sums` and the table ``daily_summary``. Each sum is one grouped query over the log,
the same for the day that is running and for one long past.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import Any

import sqlalchemy as sa

from warmup_pipeline.domain.values import (
    ACCEPTED_STATES,
    CONVERSA_PAR,
    Decision,
    FailureClass,
    MessageState,
    RowSource,
)
from warmup_pipeline.store.bulk import insert_rows
from warmup_pipeline.store.engine import Transaction
from warmup_pipeline.store.schema import (
    activities,
    conversations,
    cycles,
    daily_summary,
    deferrals,
    imported_interactions,
    messages,
    phase_transitions,
    presend_validations,
)

_accepted = messages.c.state.in_(sorted(ACCEPTED_STATES))


@dataclass
class ChipDay:
    """What one chip did on one local day."""

    pool: str
    activities: dict[str, dict[str, int]] = field(default_factory=dict)
    succeeded: int = 0
    failed_attempts: int = 0
    deferrals: dict[str, int] = field(default_factory=dict)
    blocks: dict[str, int] = field(default_factory=dict)
    sent: int = 0
    received: int = 0
    delivered: int = 0
    failed: int = 0
    unknown: int = 0
    opened: int = 0
    transitions: int = 0


@dataclass(frozen=True, slots=True)
class PoolDay:
    """What the cycles of one pool were like on one local day."""

    run: int
    failed: int
    worst_s: float | None
    health: str | None


def _count(condition: sa.ColumnElement[bool]) -> sa.ColumnElement[int]:
    return sa.func.coalesce(sa.func.sum(sa.case((condition, 1), else_=0)), 0)


def day_sums(tx: Transaction, day: date) -> dict[str, ChipDay]:
    """Return what every chip did on a local day, by chip id; chips that did nothing are left out."""
    found: dict[str, ChipDay] = {}

    def of(chip_id: str, pool: str) -> ChipDay:
        return found.setdefault(chip_id, ChipDay(pool))

    run = tx.connection.execute
    planned = (
        sa.select(
            activities.c.chip_id, activities.c.pool, activities.c.type, activities.c.state, sa.func.count()
        )
        .where(activities.c.day == day)
        .group_by(activities.c.chip_id, activities.c.pool, activities.c.type, activities.c.state)
        .order_by(activities.c.chip_id, activities.c.type, activities.c.state)
    )
    for chip_id, pool, kind, state, count in run(planned):
        of(chip_id, pool).activities.setdefault(kind, {})[state] = int(count)
    sent = (
        sa.select(
            messages.c.sender_chip_id,
            messages.c.pool,
            _count(_accepted),
            _count(sa.and_(_accepted, messages.c.confirmed_at.is_not(None))),
            _count(messages.c.state == MessageState.FAILED),
            _count(messages.c.state == MessageState.UNKNOWN),
            _count(
                sa.and_(messages.c.state == MessageState.FAILED, messages.c.failure_class != FailureClass.BUG)
            ),
        )
        .where(messages.c.sent_day == day)
        .group_by(messages.c.sender_chip_id, messages.c.pool)
    )
    for chip_id, pool, accepted, delivered, failed, unknown, attempted_failed in run(sent):
        one = of(chip_id, pool)
        one.sent, one.delivered, one.failed, one.unknown = (
            int(accepted),
            int(delivered),
            int(failed),
            int(unknown),
        )
        one.succeeded, one.failed_attempts = int(accepted), int(attempted_failed)
    received = (
        sa.select(messages.c.recipient_chip_id, messages.c.pool, sa.func.count())
        .where(messages.c.sent_day == day, _accepted)
        .group_by(messages.c.recipient_chip_id, messages.c.pool)
    )
    for chip_id, pool, count in run(received):
        of(chip_id, pool).received = int(count)
    put_off = (
        sa.select(deferrals.c.chip_id, deferrals.c.pool, deferrals.c.reason, sa.func.count())
        .where(deferrals.c.day == day)
        .group_by(deferrals.c.chip_id, deferrals.c.pool, deferrals.c.reason)
        .order_by(deferrals.c.reason)
    )
    for chip_id, pool, reason, count in run(put_off):
        of(chip_id, pool).deferrals[reason] = int(count)
    refused = (
        sa.select(
            presend_validations.c.sender_chip_id,
            presend_validations.c.pool,
            presend_validations.c.reason,
            sa.func.count(),
        )
        .where(presend_validations.c.day == day, presend_validations.c.decision == Decision.BLOCK)
        .group_by(
            presend_validations.c.sender_chip_id, presend_validations.c.pool, presend_validations.c.reason
        )
        .order_by(presend_validations.c.reason)
    )
    for chip_id, pool, reason, count in run(refused):
        of(chip_id, pool).blocks[reason] = int(count)
    opened = (
        sa.select(conversations.c.opener_chip_id, conversations.c.pool, sa.func.count())
        .where(conversations.c.opened_day == day)
        .group_by(conversations.c.opener_chip_id, conversations.c.pool)
    )
    for chip_id, pool, count in run(opened):
        of(chip_id, pool).opened = int(count)
    moved = (
        sa.select(phase_transitions.c.chip_id, phase_transitions.c.pool, sa.func.count())
        .where(phase_transitions.c.day == day)
        .group_by(phase_transitions.c.chip_id, phase_transitions.c.pool)
    )
    for chip_id, pool, count in run(moved):
        of(chip_id, pool).transitions = int(count)
    # An import's history: what the old system attempted on a day before ours.
    history = (
        sa.select(activities.c.chip_id, activities.c.pool, activities.c.state, sa.func.count())
        .where(
            activities.c.day == day,
            activities.c.source == RowSource.IMPORT,
            activities.c.type == CONVERSA_PAR,
            activities.c.state.in_(["executed", "failed"]),
            activities.c.cycle_id.is_(None),
        )
        .group_by(activities.c.chip_id, activities.c.pool, activities.c.state)
    )
    for chip_id, pool, state, count in run(history):
        one = of(chip_id, pool)
        if state == "executed":
            one.succeeded += int(count)
        else:
            one.failed_attempts += int(count)
    return found


def imported_sends(tx: Transaction, day: date) -> dict[str, tuple[int, int]]:
    """Return what an import says chips sent on a past day: chip id -> (succeeded, failed)."""
    query = (
        sa.select(
            imported_interactions.c.chip_id,
            _count(imported_interactions.c.succeeded.is_(sa.true())),
            _count(imported_interactions.c.succeeded.is_(sa.false())),
        )
        .where(imported_interactions.c.day == day, imported_interactions.c.type == "msg_enviada")
        .group_by(imported_interactions.c.chip_id)
    )
    return {row[0]: (int(row[1]), int(row[2])) for row in tx.connection.execute(query)}


def cycles_of_day(tx: Transaction, day: date, *, before: datetime | None) -> dict[str, PoolDay]:
    """Return what the cycles of each pool were like on a local day, those before a tick only if given."""
    chosen = cycles.c.day == day
    if before is not None:
        chosen = sa.and_(chosen, cycles.c.tick < before)
    sums = (
        sa.select(
            cycles.c.pool,
            _count(cycles.c.state == "finished"),
            _count(cycles.c.state == "failed"),
            sa.func.max(cycles.c.duration_s),
            sa.func.max(cycles.c.tick).label("last"),
        )
        .where(chosen)
        .group_by(cycles.c.pool)
        .subquery()
    )
    query = sa.select(*list(sums.c)[:4], cycles.c.health).join(
        cycles, sa.and_(cycles.c.pool == sums.c.pool, cycles.c.tick == sums.c.last)
    )
    return {row[0]: PoolDay(int(row[1]), int(row[2]), row[3], row[4]) for row in tx.connection.execute(query)}


def first_tick(tx: Transaction) -> dict[str, datetime]:
    """Return each pool's first tick ever: before it no cycle can have been missed."""
    query = sa.select(cycles.c.pool, sa.func.min(cycles.c.tick)).group_by(cycles.c.pool)
    return {row[0]: row[1] for row in tx.connection.execute(query)}


def replace_day(tx: Transaction, day: date, rows: Sequence[Mapping[str, Any]]) -> None:
    """Replace the summary of a day."""
    tx.connection.execute(sa.delete(daily_summary).where(daily_summary.c.day == day))
    insert_rows(tx, daily_summary, rows)


def of_day(tx: Transaction, day: date) -> dict[tuple[str, str], dict[str, Any]]:
    """Return the stored summary of a day: (scope, id) -> row."""
    query = sa.select(daily_summary).where(daily_summary.c.day == day)
    return {(row["scope"], row["scope_id"]): dict(row) for row in tx.connection.execute(query).mappings()}


def unfinished_days(tx: Transaction, before: date) -> list[date]:
    """Return the days before a day whose summary was not yet made final."""
    query = (
        sa.select(daily_summary.c.day)
        .where(daily_summary.c.day < before, daily_summary.c.final.is_(sa.false()))
        .distinct()
        .order_by(daily_summary.c.day)
    )
    return list(tx.connection.execute(query).scalars())
