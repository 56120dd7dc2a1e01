"""What a report of a pool asks of the database.

Holds: one query per table of the report, for a whole pool over a span of local days, as plain rows.
Add here: a query for another table. Do not add: a query per chip or per day, sums that a table can
do (``warmup.timelapse.report.data``), phone numbers: a chip is its id and its last four digits.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

import sqlalchemy as sa

from warmup_pipeline.domain.values import ACCEPTED_STATES, LIMIT_STATES, Decision, MessageState
from warmup_pipeline.store.chip_days import COLUMNS as CHIP_DAY_COLUMNS
from warmup_pipeline.store.engine import Transaction
from warmup_pipeline.store.schema import (
    activities,
    brake_signals,
    chip_connections,
    chip_days,
    chip_metrics,
    chips,
    conversations,
    cycles,
    daily_summary,
    deferrals,
    messages,
    opening_balances,
    phase_eligibility,
    phase_transitions,
    presend_validations,
    trust_scores,
    warming_day,
)

Rows = list[dict[str, Any]]

_accepted = messages.c.state.in_(sorted(ACCEPTED_STATES))


@dataclass(frozen=True, slots=True)
class Span:
    """What part of the database a report is about.

    Attributes:
        pool: the pool.
        first: first local day, inclusive.
        last: last local day, inclusive.
    """

    pool: str
    first: date
    last: date

    def covers(self, table: sa.Table, day: str = "day") -> sa.ColumnElement[bool]:
        """Return the condition that a row is of the pool and within the days."""
        return sa.and_(table.c.pool == self.pool, table.c[day].between(self.first, self.last))


@dataclass(frozen=True, slots=True)
class CyclesSeen:
    """What cycles a pool has had.

    Attributes:
        first: the first tick, UTC.
        last: the last tick, UTC.
        first_day: the local day of the first.
        last_day: the local day of the last.
        simulated: none of them spoke to a real gateway.
    """

    first: datetime
    last: datetime
    first_day: date
    last_day: date
    simulated: bool


def _rows(tx: Transaction, query: sa.Select[Any]) -> Rows:
    return [dict(row) for row in tx.connection.execute(query).mappings()]


def _count(condition: sa.ColumnElement[bool]) -> sa.ColumnElement[int]:
    return sa.func.coalesce(sa.func.sum(sa.case((condition, 1), else_=0)), 0)


def cycles_seen(tx: Transaction, pool: str) -> CyclesSeen | None:
    """Return what cycles a pool has had, ``None`` if there was none."""
    row = tx.connection.execute(
        sa.select(
            sa.func.min(cycles.c.tick),
            sa.func.max(cycles.c.tick),
            sa.func.min(cycles.c.day),
            sa.func.max(cycles.c.day),
            _count(cycles.c.mode != "simulated"),
        ).where(cycles.c.pool == pool)
    ).one()
    return None if row[0] is None else CyclesSeen(row[0], row[1], row[2], row[3], not row[4])


def chips_now(tx: Transaction, pool: str) -> Rows:
    """Return each chip with what is derived of it now, in the order people know them by."""
    joined = (
        chips.outerjoin(chip_metrics, chip_metrics.c.chip_id == chips.c.id)
        .outerjoin(trust_scores, trust_scores.c.chip_id == chips.c.id)
        .outerjoin(warming_day, warming_day.c.chip_id == chips.c.id)
        .outerjoin(chip_connections, chip_connections.c.chip_id == chips.c.id)
    )
    return _rows(
        tx,
        sa.select(
            chips.c.id.label("chip_id"),
            chips.c.last4,
            chips.c.provider,
            chips.c.role,
            chips.c.status,
            chips.c.status_reason,
            chips.c.phase,
            chips.c.warming_started_at,
            warming_day.c.warming_day,
            trust_scores.c.score.label("trust"),
            trust_scores.c.level.label("trust_level"),
            chip_metrics.c.sent_total,
            chip_metrics.c.received_total,
            chip_metrics.c.response_rate,
            chip_metrics.c.delivery_rate,
            chip_metrics.c.confirmed_share,
            chip_metrics.c.bidirectional,
            chip_metrics.c.errors_24h,
            chip_connections.c.state.label("connection"),
        )
        .select_from(joined)
        .where(chips.c.pool == pool)
        .order_by(chips.c.label, chips.c.instance, chips.c.id),
    )


def standing(tx: Transaction, span: Span) -> Rows:
    """Return how each chip stood at the end of each day."""
    names = [name for name in CHIP_DAY_COLUMNS if name not in ("pool", "as_of")]
    return _rows(
        tx,
        sa.select(*(chip_days.c[name] for name in names))
        .where(span.covers(chip_days))
        .order_by(chip_days.c.day, chip_days.c.chip_id),
    )


def sent_by_day(tx: Transaction, span: Span) -> Rows:
    """Return what became of each chip's sends, by local day."""
    return _rows(
        tx,
        sa.select(
            messages.c.sender_chip_id.label("chip_id"),
            messages.c.sent_day.label("day"),
            _count(messages.c.state.in_(sorted(LIMIT_STATES))).label("counted"),
            _count(_accepted).label("sent"),
            _count(sa.and_(_accepted, messages.c.confirmed_at.is_not(None))).label("confirmed"),
            _count(messages.c.state == MessageState.FAILED).label("failed"),
            _count(messages.c.state == MessageState.UNKNOWN).label("unknown"),
        )
        .where(span.covers(messages, "sent_day"))
        .group_by(messages.c.sender_chip_id, messages.c.sent_day),
    )


def received_by_day(tx: Transaction, span: Span) -> Rows:
    """Return how many accepted messages were for each chip, by local day."""
    return _rows(
        tx,
        sa.select(
            messages.c.recipient_chip_id.label("chip_id"),
            messages.c.sent_day.label("day"),
            sa.func.count().label("received"),
        )
        .where(span.covers(messages, "sent_day"), _accepted)
        .group_by(messages.c.recipient_chip_id, messages.c.sent_day),
    )


def send_times(tx: Transaction, span: Span) -> Rows:
    """Return when each chip made each send that counts against its limits, by chip and time."""
    return _rows(
        tx,
        sa.select(
            messages.c.sender_chip_id.label("chip_id"), messages.c.sent_day.label("day"), messages.c.sent_at
        )
        .where(span.covers(messages, "sent_day"), messages.c.state.in_(sorted(LIMIT_STATES)))
        .order_by(messages.c.sender_chip_id, messages.c.sent_at),
    )


def imported_sends(tx: Transaction, span: Span) -> Rows:
    """Return what an import counted against its own day's limit."""
    return _rows(
        tx,
        sa.select(
            opening_balances.c.chip_id,
            opening_balances.c.day,
            opening_balances.c.sent_on_day.label("imported"),
        )
        .join(chips, chips.c.id == opening_balances.c.chip_id)
        .where(chips.c.pool == span.pool, opening_balances.c.day.between(span.first, span.last)),
    )


def limits_in_force(tx: Transaction, span: Span) -> Rows:
    """Return the highest limits that each chip's approved sends were held against, by local day."""
    return _rows(
        tx,
        sa.select(
            presend_validations.c.sender_chip_id.label("chip_id"),
            presend_validations.c.day,
            sa.func.max(presend_validations.c.hour_limit).label("hour_limit"),
            sa.func.max(presend_validations.c.day_limit).label("day_limit"),
        )
        .where(
            span.covers(presend_validations),
            presend_validations.c.decision == Decision.APPROVE,
            presend_validations.c.subject != "action",
        )
        .group_by(presend_validations.c.sender_chip_id, presend_validations.c.day),
    )


def transitions(tx: Transaction, span: Span) -> Rows:
    """Return every phase change, by time."""
    names = ("chip_id", "day", "at", "from_phase", "to_phase", "warming_day")
    return _rows(
        tx,
        sa.select(*(phase_transitions.c[name] for name in names))
        .where(span.covers(phase_transitions))
        .order_by(phase_transitions.c.at, phase_transitions.c.chip_id),
    )


def pairs(tx: Transaction, span: Span) -> Rows:
    """Return, of each ordered pair, the conversations opened and how many of them were answered."""
    return _rows(
        tx,
        sa.select(
            conversations.c.opener_chip_id,
            conversations.c.responder_chip_id,
            sa.func.count().label("opened"),
            _count(conversations.c.turns_accepted >= 2).label("answered"),
            sa.func.sum(conversations.c.turns_accepted).label("turns"),
        )
        .where(span.covers(conversations, "opened_day"))
        .group_by(conversations.c.opener_chip_id, conversations.c.responder_chip_id),
    )


def conversations_by_day(tx: Transaction, span: Span) -> Rows:
    """Return the conversations opened on each local day and what became of them."""
    whole = conversations.c.turns_accepted == conversations.c.turns
    return _rows(
        tx,
        sa.select(
            conversations.c.opened_day.label("day"),
            sa.func.count().label("opened"),
            _count(conversations.c.turns_accepted >= 2).label("answered"),
            _count(whole).label("whole"),
            sa.func.sum(conversations.c.turns_accepted).label("turns"),
        )
        .where(span.covers(conversations, "opened_day"))
        .group_by(conversations.c.opened_day)
        .order_by(conversations.c.opened_day),
    )


def conversation_ends(tx: Transaction, span: Span) -> Rows:
    """Return why conversations were closed; those still going on have no reason."""
    return _rows(
        tx,
        sa.select(conversations.c.reason, sa.func.count().label("count"))
        .where(span.covers(conversations, "opened_day"))
        .group_by(conversations.c.reason),
    )


def put_off(tx: Transaction, span: Span) -> Rows:
    """Return how often something due was deferred, by local day, chip and reason."""
    return _rows(
        tx,
        sa.select(deferrals.c.day, deferrals.c.chip_id, deferrals.c.reason, sa.func.count().label("count"))
        .where(span.covers(deferrals))
        .group_by(deferrals.c.day, deferrals.c.chip_id, deferrals.c.reason),
    )


def blocked(tx: Transaction, span: Span) -> Rows:
    """Return how often validation blocked something, by local day, chip and reason."""
    table = presend_validations
    return _rows(
        tx,
        sa.select(
            table.c.day,
            table.c.sender_chip_id.label("chip_id"),
            table.c.reason,
            sa.func.count().label("count"),
        )
        .where(span.covers(table), table.c.decision == Decision.BLOCK)
        .group_by(table.c.day, table.c.sender_chip_id, table.c.reason),
    )


def failures(tx: Transaction, span: Span) -> Rows:
    """Return the sends that failed or whose outcome is unknown, by class, status and chip."""
    return _rows(
        tx,
        sa.select(
            messages.c.failure_class,
            messages.c.failure_status,
            messages.c.sender_chip_id.label("chip_id"),
            sa.func.count().label("count"),
        )
        .where(
            span.covers(messages, "sent_day"),
            messages.c.state.in_([MessageState.FAILED, MessageState.UNKNOWN]),
        )
        .group_by(messages.c.failure_class, messages.c.failure_status, messages.c.sender_chip_id),
    )


def signals(tx: Transaction, pool: str, *, since: datetime) -> Rows:
    """Return the bad signals of a pool's chips since an instant, by time."""
    return _rows(
        tx,
        sa.select(brake_signals.c.chip_id, brake_signals.c.kind, brake_signals.c.at)
        .join(chips, chips.c.id == brake_signals.c.chip_id)
        .where(chips.c.pool == pool, brake_signals.c.at >= since)
        .order_by(brake_signals.c.at, brake_signals.c.chip_id),
    )


def criteria(tx: Transaction, pool: str) -> Rows:
    """Return each criterion for the next phase of each chip."""
    names = ("chip_id", "next_phase", "criterion", "value", "needed", "comparison", "holds", "earliest_day")
    return _rows(
        tx,
        sa.select(*(phase_eligibility.c[name] for name in names))
        .where(phase_eligibility.c.pool == pool)
        .order_by(phase_eligibility.c.chip_id, phase_eligibility.c.criterion),
    )


def pool_days(tx: Transaction, span: Span) -> Rows:
    """Return the pool's own daily summary."""
    names = (
        "day",
        "final",
        "planned",
        "executed",
        "conversa_par_succeeded",
        "conversa_par_failed",
        "conversa_par_success_rate",
        "sent",
        "delivered",
        "failed",
        "unknown",
        "conversations_opened",
        "transitions",
        "health",
        "cycles_run",
        "cycles_missed",
    )
    return _rows(
        tx,
        sa.select(*(daily_summary.c[name] for name in names))
        .where(
            daily_summary.c.scope == "pool",
            daily_summary.c.scope_id == span.pool,
            daily_summary.c.day.between(span.first, span.last),
        )
        .order_by(daily_summary.c.day),
    )


def activity_ends(tx: Transaction, span: Span) -> Rows:
    """Return how planned activities ended, by type, state and reason; those still planned have none."""
    names = (activities.c.type, activities.c.state, activities.c.reason)
    return _rows(
        tx,
        sa.select(*names, sa.func.count().label("count"))
        .where(span.covers(activities), activities.c.source == "warmup")
        .group_by(*names),
    )
