"""Counts for the health and status documents, cheap for pools of any size.

Holds: what today's activities became (:func:`activities_of_day`), how the chips stand
(:func:`chip_groups`), and the few chips that somebody should look at (:func:`to_look_at`). Each is one
query that returns few rows. Do not add: what the checks judge (``store.audit``).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime

import sqlalchemy as sa

from warmup_pipeline.domain.presend import CONNECTION_FRESH_FOR
from warmup_pipeline.domain.values import (
    LISTENER_ROLE,
    OBSERVED_STATUSES,
    PARTICIPATING_STATUSES,
    ActivityState,
    ChipStatus,
    CircuitState,
    ConnectionState,
)
from warmup_pipeline.store.attempts import is_history
from warmup_pipeline.store.engine import Transaction
from warmup_pipeline.store.schema import (
    activities,
    chip_connections,
    chips,
    circuits,
    kill_switches,
    trust_scores,
)


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
            ~is_history,
            sa.or_(
                *(
                    sa.and_(activities.c.pool == pool, activities.c.day == day)
                    for pool, day in sorted(days.items())
                )
            ),
        )
        .group_by(activities.c.type)
        .order_by(activities.c.type)
    )
    return {
        row[0]: TypeCounts(*(int(count) for count in row[1:])) for row in tx.connection.execute(query).all()
    }


@dataclass(frozen=True, slots=True)
class ChipGroup:
    """How many chips of a pool stand alike.

    Attributes:
        level: their trust level, ``None`` where they were never scored.
        participating: they take part in warm-up.
        connected: how many of them are connected, as validation sees it.
    """

    pool: str
    status: str
    phase: str
    level: str | None
    participating: bool
    chips: int
    connected: int


def chip_groups(tx: Transaction, at: Mapping[str, datetime]) -> list[ChipGroup]:
    """Return the chips of every pool, counted by how they stand at each pool's time."""
    fresh = sa.or_(
        sa.false(),
        *(
            sa.and_(chips.c.pool == pool, chip_connections.c.observed_at >= moment - CONNECTION_FRESH_FOR)
            for pool, moment in sorted(at.items())
        ),
    )
    takes_part = sa.and_(chips.c.status.in_(sorted(PARTICIPATING_STATUSES)), chips.c.role != LISTENER_ROLE)
    part = sa.case((takes_part, 1), else_=0)
    columns = (chips.c.pool, chips.c.status, chips.c.phase, trust_scores.c.level, part)
    query = (
        sa.select(
            *columns,
            sa.func.count(),
            _count(sa.and_(chip_connections.c.state == ConnectionState.OPEN, fresh)),
        )
        .outerjoin(chip_connections, chip_connections.c.chip_id == chips.c.id)
        .outerjoin(trust_scores, trust_scores.c.chip_id == chips.c.id)
        .group_by(*columns)
        .order_by(*columns)
    )
    return [
        ChipGroup(row[0], row[1], row[2], row[3], bool(row[4]), int(row[5]), int(row[6]))
        for row in tx.connection.execute(query).all()
    ]


@dataclass(frozen=True, slots=True)
class ToLookAt:
    """A chip that somebody may want to look at, and what is known of why."""

    pool: str
    last4: str
    status: str
    status_reason: str | None
    connection: str | None
    since: datetime | None
    needs_person: str | None
    breaker: str | None
    cooldown_until: datetime | None
    cooldown_reason: str | None


def to_look_at(tx: Transaction, at: Mapping[str, datetime], *, limit: int) -> tuple[list[ToLookAt], int]:
    """Return the chips that are degraded, down, resting or stopped by their breaker, and how many there are."""
    resting = sa.or_(
        sa.false(),
        *(
            sa.and_(chips.c.pool == pool, chips.c.cooldown_until > moment)
            for pool, moment in sorted(at.items())
        ),
    )
    watched = sa.and_(chips.c.status.in_(sorted(OBSERVED_STATUSES)), chips.c.role != LISTENER_ROLE)
    concerns = sa.and_(
        watched,
        sa.or_(
            chips.c.status == ChipStatus.DEGRADED,
            chip_connections.c.state != ConnectionState.OPEN,
            chip_connections.c.needs_person.is_not(None),
            circuits.c.state != CircuitState.CLOSED,
            resting,
        ),
    )
    joined = chips.outerjoin(chip_connections, chip_connections.c.chip_id == chips.c.id).outerjoin(
        circuits, circuits.c.chip_id == chips.c.id
    )
    total = tx.connection.execute(sa.select(sa.func.count()).select_from(joined).where(concerns)).scalar_one()
    query = (
        sa.select(
            chips.c.pool,
            chips.c.last4,
            chips.c.status,
            chips.c.status_reason,
            chip_connections.c.state,
            chip_connections.c.since,
            chip_connections.c.needs_person,
            circuits.c.state,
            chips.c.cooldown_until,
            chips.c.cooldown_reason,
        )
        .select_from(joined)
        .where(concerns)
        .order_by(chips.c.pool, chips.c.last4)
        .limit(limit)
    )
    return [ToLookAt(*list(row)) for row in tx.connection.execute(query).all()], int(total)


@dataclass(frozen=True, slots=True)
class SwitchedOff:
    """A kill switch that is on: for a chip, its target is shown by the last four digits."""

    scope: str
    target: str
    reason: str
    author: str
    set_at: datetime
    expires_at: datetime | None


def switched_off(tx: Transaction, at: datetime) -> list[SwitchedOff]:
    """Return the kill switches that are neither lifted nor expired."""
    query = (
        sa.select(
            kill_switches.c.scope,
            sa.func.coalesce(chips.c.last4, kill_switches.c.target),
            kill_switches.c.reason,
            kill_switches.c.author,
            kill_switches.c.set_at,
            kill_switches.c.expires_at,
        )
        .outerjoin(chips, sa.and_(kill_switches.c.scope == "chip", chips.c.id == kill_switches.c.target))
        .where(
            kill_switches.c.lifted_at.is_(None),
            sa.or_(kill_switches.c.expires_at.is_(None), kill_switches.c.expires_at > at),
        )
        .order_by(kill_switches.c.set_at)
    )
    return [SwitchedOff(*row) for row in tx.connection.execute(query).all()]
