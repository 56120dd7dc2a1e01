"""Questions the asset checks ask of the whole database.

Holds: one function per question, each answering with what is wrong and how much was looked at. They
believe nothing that a step wrote elsewhere: every answer comes from the rows themselves.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import GenericFunction

from warmup_pipeline.domain.values import (
    ACCEPTED_STATES,
    CONVERSA_PAR,
    LIMIT_STATES,
    OPEN_ACTIVITY_STATES,
    Decision,
    MessageState,
    Phase,
    RowSource,
)
from warmup_pipeline.store.engine import Transaction
from warmup_pipeline.store.schema import (
    activities,
    chips,
    messages,
    phase_transitions,
    presend_validations,
)

_accepted = messages.c.state.in_(sorted(ACCEPTED_STATES))


class seconds_of(GenericFunction[float]):  # noqa: N801 (a SQL function: named as it stands in SQL)
    """Seconds since 1970 of a stored time, on either database."""

    type = sa.Float()
    inherit_cache = True


@compiles(seconds_of, "sqlite")
def _seconds_sqlite(element: seconds_of, compiler: SQLCompiler, **kw: Any) -> str:
    return f"((julianday({compiler.process(element.clauses, **kw)}) - 2440587.5) * 86400.0)"


@compiles(seconds_of, "postgresql")
def _seconds_postgresql(element: seconds_of, compiler: SQLCompiler, **kw: Any) -> str:
    return f"EXTRACT(EPOCH FROM {compiler.process(element.clauses, **kw)})"


@dataclass(frozen=True, slots=True)
class Found:
    """What a question found: how many rows were looked at, how many are wrong, and whose they are."""

    looked_at: int
    wrong: int
    chip_ids: tuple[str, ...] = ()


def _found(tx: Transaction, looked_at: sa.Select[Any], wrong: sa.Select[Any]) -> Found:
    ids = list(tx.connection.execute(wrong).scalars())
    total = int(tx.connection.execute(looked_at).scalar_one())
    return Found(total, len(ids), tuple(sorted(set(ids))))


def _count(condition: sa.ColumnElement[bool]) -> sa.ColumnElement[int]:
    return sa.func.coalesce(sa.func.sum(sa.case((condition, 1), else_=0)), 0)


def open_activities_by_type(tx: Transaction) -> list[tuple[str, str, int]]:
    """Return (pool, type, how many) of all activities that may still be executed."""
    query = (
        sa.select(activities.c.pool, activities.c.type, sa.func.count())
        .where(activities.c.state.in_(sorted(OPEN_ACTIVITY_STATES)))
        .group_by(activities.c.pool, activities.c.type)
        .order_by(activities.c.pool, activities.c.type)
    )
    return [(row[0], row[1], int(row[2])) for row in tx.connection.execute(query)]


def unapproved_messages(tx: Transaction) -> Found:
    """Find messages whose approval is missing, is no approval, or was for something else."""
    approval = presend_validations
    wrong = (
        sa.select(messages.c.sender_chip_id)
        .outerjoin(approval, approval.c.id == messages.c.approval_id)
        .where(
            sa.or_(
                approval.c.id.is_(None),
                approval.c.decision != Decision.APPROVE,
                approval.c.used_at.is_(None),
                approval.c.lapsed.is_(sa.true()),
                approval.c.sender_chip_id != messages.c.sender_chip_id,
                sa.func.coalesce(approval.c.recipient_chip_id, "") != messages.c.recipient_chip_id,
                sa.func.coalesce(approval.c.conversation_id, "") != messages.c.conversation_id,
                sa.func.coalesce(approval.c.turn, 0) != messages.c.turn,
                approval.c.at != messages.c.sent_at,
            )
        )
    )
    return _found(tx, sa.select(sa.func.count()).select_from(messages), wrong)


def over_day_limit(tx: Transaction, limits: Mapping[Phase, int]) -> Found:
    """Find chips that on some local day sent more than the limit of the highest phase they were in."""
    limit = sa.func.max(sa.case(*[(messages.c.phase == p, n) for p, n in limits.items()], else_=0))
    counted = messages.c.state.in_(sorted(LIMIT_STATES))
    wrong = (
        sa.select(messages.c.sender_chip_id)
        .where(counted)
        .group_by(messages.c.sender_chip_id, messages.c.sent_day)
        .having(sa.func.count() > limit)
    )
    return _found(tx, sa.select(sa.func.count()).select_from(messages).where(counted), wrong)


def over_hour_limit(tx: Transaction, limits: Mapping[Phase, int]) -> Found:
    """Find chips that sent more than their phase's limit within some 60 minutes."""
    counted = messages.c.state.in_(sorted(LIMIT_STATES))
    wrong_ids: list[str] = []
    for limit in sorted(set(limits.values())):
        phases = [phase for phase, n in limits.items() if n == limit]
        ranked = (
            sa.select(
                messages.c.sender_chip_id,
                messages.c.phase,
                seconds_of(messages.c.sent_at).label("sent"),
                sa.func.lag(seconds_of(messages.c.sent_at), max(limit, 1))
                .over(partition_by=messages.c.sender_chip_id, order_by=messages.c.sent_at)
                .label("before"),
            )
            .where(counted)
            .subquery()
        )
        # With a limit of nothing, any send is one too many. A second's part is lost on SQLite.
        too_many = sa.true() if limit == 0 else ranked.c.sent - ranked.c.before < 3599.99
        query = sa.select(ranked.c.sender_chip_id).where(ranked.c.phase.in_(phases), too_many)
        wrong_ids += tx.connection.execute(query).scalars()
    total = int(
        tx.connection.execute(sa.select(sa.func.count()).select_from(messages).where(counted)).scalar_one()
    )
    return Found(total, len(wrong_ids), tuple(sorted(set(wrong_ids))))


def duplicate_messages(tx: Transaction) -> Found:
    """Find messages that a gateway knows under the same id, or turns of a conversation sent twice."""
    same_id = (
        sa.select(messages.c.provider, messages.c.gateway_message_id)
        .where(messages.c.gateway_message_id.is_not(None))
        .group_by(messages.c.provider, messages.c.gateway_message_id)
        .having(sa.func.count() > 1)
        .subquery()
    )
    wrong = sa.select(messages.c.sender_chip_id).join(
        same_id,
        sa.and_(
            same_id.c.gateway_message_id == messages.c.gateway_message_id,
            same_id.c.provider == messages.c.provider,
        ),
    )
    found = _found(tx, sa.select(sa.func.count()).select_from(messages), wrong)
    turns = (
        sa.select(sa.func.min(messages.c.sender_chip_id))
        .group_by(messages.c.conversation_id, messages.c.turn)
        .having(sa.func.count() > 1)
    )
    doubled = list(tx.connection.execute(turns).scalars())
    return Found(found.looked_at, found.wrong + len(doubled), tuple(sorted({*found.chip_ids, *doubled})))


def failures_without_traceback(tx: Transaction) -> Found:
    """Find failed or unknown messages, and failed activities that have no message, without a traceback."""
    bad_message = messages.c.state.in_([MessageState.FAILED, MessageState.UNKNOWN])
    bare = sa.func.length(sa.func.coalesce(messages.c.traceback, "")) == 0
    of_messages = _found(
        tx,
        sa.select(sa.func.count()).select_from(messages).where(bad_message),
        sa.select(messages.c.sender_chip_id).where(bad_message, bare),
    )
    failed = sa.and_(
        activities.c.state == "failed",
        activities.c.source == RowSource.WARMUP,
        ~sa.exists().where(messages.c.activity_id == activities.c.id),
    )
    # An imported activity that our own cycle executed is ours; one that came as failed is history.
    failed_here = sa.and_(
        activities.c.state == "failed",
        activities.c.source == RowSource.IMPORT,
        activities.c.cycle_id.is_not(None),
        ~sa.exists().where(messages.c.activity_id == activities.c.id),
    )
    none = sa.func.length(sa.func.coalesce(activities.c.traceback, "")) == 0
    ours = sa.or_(failed, failed_here)
    of_activities = _found(
        tx,
        sa.select(sa.func.count()).select_from(activities).where(ours),
        sa.select(activities.c.chip_id).where(ours, none),
    )
    return Found(
        of_messages.looked_at + of_activities.looked_at,
        of_messages.wrong + of_activities.wrong,
        tuple(sorted({*of_messages.chip_ids, *of_activities.chip_ids})),
    )


def recipients_outside_pool(tx: Transaction) -> Found:
    """Find messages between chips of different pools, or of another pool than the message's."""
    sender, recipient = chips.alias("sender"), chips.alias("recipient")
    wrong = (
        sa.select(messages.c.sender_chip_id)
        .outerjoin(sender, sender.c.id == messages.c.sender_chip_id)
        .outerjoin(recipient, recipient.c.id == messages.c.recipient_chip_id)
        .where(
            sa.or_(
                recipient.c.id.is_(None),
                sender.c.id.is_(None),
                recipient.c.pool != messages.c.pool,
                sender.c.pool != messages.c.pool,
            )
        )
    )
    return _found(tx, sa.select(sa.func.count()).select_from(messages), wrong)


def attempts(
    tx: Transaction, *, day: Mapping[str, date], since: Mapping[str, datetime]
) -> tuple[tuple[int, int], tuple[int, int]]:
    """Return CONVERSA_PAR attempts as (succeeded, failed) of each pool's day, and since an instant.

    Those since the instant include the history an import brought (domain.md, "Importing").
    """
    failed = messages.c.state == MessageState.FAILED
    today_total, lately_total = [0, 0], [0, 0]
    for pool, its_day in sorted(day.items()):
        today = messages.c.sent_day == its_day
        lately = messages.c.sent_at > since[pool]
        query = sa.select(
            _count(sa.and_(today, _accepted)),
            _count(sa.and_(today, failed)),
            _count(sa.and_(lately, _accepted)),
            _count(sa.and_(lately, failed)),
        ).where(messages.c.pool == pool, sa.or_(today, lately))
        row = tx.connection.execute(query).one()
        history = sa.select(
            _count(activities.c.state == "executed"), _count(activities.c.state == "failed")
        ).where(
            activities.c.pool == pool,
            activities.c.source == RowSource.IMPORT,
            activities.c.type == CONVERSA_PAR,
            activities.c.cycle_id.is_(None),
            sa.func.coalesce(activities.c.final_at, activities.c.due_at) > since[pool],
        )
        old = tx.connection.execute(history).one()
        today_total = [today_total[0] + int(row[0]), today_total[1] + int(row[1])]
        lately_total = [
            lately_total[0] + int(row[2]) + int(old[0]),
            lately_total[1] + int(row[3]) + int(old[1]),
        ]
    return (today_total[0], today_total[1]), (lately_total[0], lately_total[1])


def openings_due(tx: Transaction, pool: str, day: date, at: datetime, types: Sequence[str]) -> int:
    """Return how many openings of a pool's day fell due until an instant, cancelled ones left out."""
    query = sa.select(sa.func.count()).where(
        activities.c.pool == pool,
        activities.c.day == day,
        activities.c.planned_at <= at,
        activities.c.type.in_(types),
        activities.c.state != "cancelled",
    )
    return int(tx.connection.execute(query).scalar_one())


def sends_since(tx: Transaction, pool: str, since: datetime) -> tuple[int, int]:
    """Return (approvals to send, messages written down) of a pool since an instant."""
    approved = sa.select(sa.func.count()).where(
        presend_validations.c.pool == pool,
        presend_validations.c.at > since,
        presend_validations.c.subject != "action",
        presend_validations.c.decision == Decision.APPROVE,
    )
    sent = sa.select(sa.func.count()).where(messages.c.pool == pool, messages.c.sent_at > since)
    run = tx.connection.execute
    return int(run(approved).scalar_one()), int(run(sent).scalar_one())


def all_transitions(tx: Transaction) -> list[Mapping[str, Any]]:
    """Return every phase change, oldest first."""
    query = sa.select(phase_transitions).order_by(phase_transitions.c.at, phase_transitions.c.chip_id)
    return [dict(row) for row in tx.connection.execute(query).mappings()]


def accepted_by_chip(tx: Transaction, pool: str) -> dict[str, int]:
    """Return how many messages of each chip a gateway has accepted, ever."""
    query = (
        sa.select(messages.c.sender_chip_id, sa.func.count())
        .where(messages.c.pool == pool, _accepted)
        .group_by(messages.c.sender_chip_id)
    )
    return {row[0]: int(row[1]) for row in tx.connection.execute(query)}


def computed_at(tx: Transaction, table: sa.Table, pool: str) -> tuple[datetime | None, int]:
    """Return the oldest computation among a pool's rows of a derived table, and how many rows it has."""
    query = sa.select(sa.func.min(table.c.computed_at), sa.func.count()).where(table.c.pool == pool)
    row = tx.connection.execute(query).one()
    return row[0], int(row[1])
