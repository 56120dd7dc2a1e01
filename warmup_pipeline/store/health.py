"""Counts for the health document: what today's activities became.

Holds: :func:`activities_of_day`. Do not add: what the checks judge (``store.audit``).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date

import sqlalchemy as sa

from warmup_pipeline.domain.values import ActivityState
from warmup_pipeline.store.engine import Transaction
from warmup_pipeline.store.schema import activities


@dataclass(frozen=True, slots=True)
class TypeCounts:
    """What a day's activities of one type became.

    Attributes:
        planned: all of them, whatever became of them.
        deferred: those that were put off at least once.
    """

    planned: int
    executed: int
    failed: int
    deferred: int
    blocked: int
    expired: int
    unknown: int


def _count(condition: sa.ColumnElement[bool]) -> sa.ColumnElement[int]:
    return sa.func.coalesce(sa.func.sum(sa.case((condition, 1), else_=0)), 0)


def activities_of_day(tx: Transaction, days: Mapping[str, date]) -> dict[str, TypeCounts]:
    """Return the counts by activity type, each pool's on its own local day."""
    if not days:
        return {}
    state = activities.c.state
    query = (
        sa.select(
            activities.c.type,
            sa.func.count(),
            _count(state == ActivityState.EXECUTED),
            _count(state == ActivityState.FAILED),
            _count(activities.c.deferrals > 0),
            _count(state == ActivityState.BLOCKED),
            _count(state == ActivityState.EXPIRED),
            _count(state == ActivityState.UNKNOWN),
        )
        .where(
            sa.or_(
                *(
                    sa.and_(activities.c.pool == pool, activities.c.day == day)
                    for pool, day in sorted(days.items())
                )
            )
        )
        .group_by(activities.c.type)
        .order_by(activities.c.type)
    )
    return {row[0]: TypeCounts(*(int(count) for count in row[1:])) for row in tx.connection.execute(query)}
