"""A few rows and sums of a table, as people look at them in the UI.

Holds: :func:`some_rows` (chips by their last four digits), and what pictures are drawn from. Each is one
query that returns few rows, whatever the table's size. Do not add: what is judged or derived.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any

import sqlalchemy as sa

from warmup_pipeline.domain.values import LIMIT_STATES, PARTICIPATING_STATUSES
from warmup_pipeline.store.engine import Transaction
from warmup_pipeline.store.schema import chip_days, chips, conversations, daily_summary, messages


def some_rows(
    tx: Transaction,
    table: sa.Table,
    columns: Sequence[str],
    *,
    pool: str | None,
    cycle_id: str | None = None,
    day: date | None = None,
    order: Sequence[str] = (),
    limit: int,
) -> list[list[Any]]:
    """Return a few rows of a table.

    Args:
        tx: the transaction.
        table: the table.
        columns: which columns; a chip's id is shown as its last four digits.
        pool: rows of this pool only.
        cycle_id: rows of this cycle only, which is of one pool.
        day: rows of this local day only.
        order: columns to order by, ``-`` before the name for the largest first.
        limit: how many at most.
    """
    source: sa.FromClause = table
    shown: list[sa.ColumnElement[Any]] = []
    for name in columns:
        column = table.c[name]
        if name == "chip_id" or name.endswith("_chip_id"):
            named = chips.alias(f"of_{name}")
            source = source.outerjoin(named, named.c.id == column)
            shown.append(sa.literal("…") + named.c.last4)
        else:
            shown.append(column)
    query = sa.select(*shown).select_from(source).limit(limit)
    # Not both: for the order's sake SQLite would go through the pool to find the cycle.
    for name, value in (("pool", pool if cycle_id is None else None), ("cycle_id", cycle_id), ("day", day)):
        if value is not None:
            query = query.where(table.c[name] == value)
    for name in order:
        column = table.c[name.removeprefix("-")]
        query = query.order_by(column.desc() if name.startswith("-") else column)
    return [list(row) for row in tx.connection.execute(query).all()]


def chips_by_phase(tx: Transaction, pool: str) -> list[tuple[str, bool, int]]:
    """Return the chips of a pool as (phase, takes part, how many)."""
    part = sa.case((chips.c.status.in_(sorted(PARTICIPATING_STATUSES)), 1), else_=0)
    query = (
        sa.select(chips.c.phase, part, sa.func.count())
        .where(chips.c.pool == pool)
        .group_by(chips.c.phase, part)
        .order_by(chips.c.phase, part)
    )
    return [(row[0], bool(row[1]), int(row[2])) for row in tx.connection.execute(query).all()]


@dataclass(frozen=True, slots=True)
class SentOfLimit:
    """What a chip has sent on a local day, and what it may."""

    last4: str
    sent: int
    limit: int


def sent_of_limits(tx: Transaction, pool: str, day: date, *, limit: int) -> list[SentOfLimit]:
    """Return the chips that have used most of their day's limit, fullest first.

    The limit is the one that held at the day's last summarised tick; a chip without one is left out.
    """
    sent = (
        sa.select(messages.c.sender_chip_id, sa.func.count().label("sent"))
        .where(
            messages.c.pool == pool, messages.c.sent_day == day, messages.c.state.in_(sorted(LIMIT_STATES))
        )
        .group_by(messages.c.sender_chip_id)
        .subquery()
    )
    used = sa.func.coalesce(sent.c.sent, 0)
    query = (
        sa.select(chips.c.last4, used, chip_days.c.day_limit)
        .join(chip_days, sa.and_(chip_days.c.chip_id == chips.c.id, chip_days.c.day == day))
        .outerjoin(sent, sent.c.sender_chip_id == chips.c.id)
        .where(chips.c.pool == pool, chips.c.status.in_(sorted(PARTICIPATING_STATUSES)))
        .order_by((used * 1000 / sa.func.nullif(chip_days.c.day_limit, 0)).desc().nulls_last(), chips.c.last4)
        .limit(limit)
    )
    return [SentOfLimit(row[0], int(row[1]), int(row[2])) for row in tx.connection.execute(query).all()]


def pairs_since(tx: Transaction, pool: str, first: date, *, limit: int) -> list[tuple[str, str, int]]:
    """Return who opened conversations with whom from a local day on: (opener, responder, how many)."""
    opener, responder = chips.alias("opener"), chips.alias("responder")
    number = sa.func.count()
    query = (
        sa.select(opener.c.last4, responder.c.last4, number)
        .select_from(conversations)
        .join(opener, opener.c.id == conversations.c.opener_chip_id)
        .join(responder, responder.c.id == conversations.c.responder_chip_id)
        .where(conversations.c.pool == pool, conversations.c.opened_day >= first)
        .group_by(opener.c.id, responder.c.id, opener.c.last4, responder.c.last4)
        .order_by(number.desc(), opener.c.last4, responder.c.last4)
        .limit(limit)
    )
    return [(row[0], row[1], int(row[2])) for row in tx.connection.execute(query).all()]


def days_of_pool(tx: Transaction, pool: str, *, until: date, limit: int) -> list[dict[str, Any]]:
    """Return the daily summary of a pool's last days, newest first."""
    query = (
        sa.select(daily_summary)
        .where(
            daily_summary.c.scope == "pool", daily_summary.c.scope_id == pool, daily_summary.c.day <= until
        )
        .order_by(daily_summary.c.day.desc())
        .limit(limit)
    )
    return [dict(row) for row in tx.connection.execute(query).mappings()]
