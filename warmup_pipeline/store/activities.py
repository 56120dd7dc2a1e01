"""Planned openings and markings, and the day plans they belong to.

Holds: inserting plans, claiming what is due, and moving activities to the next state. Every change
of state is conditional on the state it comes from, so that nothing final ever changes again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from functools import cache
from typing import Any

import sqlalchemy as sa

from warmup_pipeline.domain.values import OPEN_ACTIVITY_STATES, ActivityState, Phase, RowSource
from warmup_pipeline.store.bulk import insert_new_rows, insert_rows, update_rows
from warmup_pipeline.store.engine import Transaction
from warmup_pipeline.store.memory import remembered
from warmup_pipeline.store.schema import activities, activity_types, chips, day_plans, deferrals


@dataclass(frozen=True, slots=True)
class Activity:
    """One row of ``activities``: see the column comments there."""

    id: str
    pool: str
    chip_id: str
    type: str
    day: date
    planned_at: datetime
    due_at: datetime
    state: ActivityState
    reason: str | None
    deferrals: int
    cycle_id: str | None
    conversation_id: str | None
    source: RowSource


@dataclass(frozen=True, slots=True)
class StoredPlan:
    """The newest plan of a chip for a day."""

    revision: int
    phase: Phase


@dataclass(frozen=True, slots=True)
class Deferral:
    """Something due that is put off."""

    chip_id: str
    type: str
    reason: str
    until: datetime
    activity_id: str | None = None
    conversation_id: str | None = None


_columns = tuple(activities.c[name] for name in Activity.__dataclass_fields__)
_is_planned = activities.c.state == ActivityState.PLANNED
_is_claimed = activities.c.state == ActivityState.CLAIMED
_is_open = sa.or_(*(activities.c.state == state for state in sorted(OPEN_ACTIVITY_STATES)))


def _activity(row: sa.RowMapping) -> Activity:
    data = dict(row)
    data |= {"state": ActivityState(data["state"]), "source": RowSource(data["source"])}
    return Activity(**data)


@remembered(activity_types)
def _known_types(tx: Transaction) -> dict[str, tuple[bool, bool]]:
    return {
        row.name: (row.executable, row.opens_conversation)
        for row in tx.connection.execute(sa.select(activity_types)).all()
    }


def know_types(tx: Transaction, types: Mapping[str, tuple[bool, bool]]) -> None:
    """Keep ``activity_types`` equal to the registry: name -> (executable, opens a conversation)."""
    stored = _known_types(tx)
    new = [name for name in types if name not in stored]
    insert_new_rows(
        tx,
        activity_types,
        [{"name": n, "executable": types[n][0], "opens_conversation": types[n][1]} for n in new],
    )
    changed = [name for name, flags in types.items() if name in stored and stored[name] != flags]
    update_rows(
        tx,
        activity_types,
        [{"name": n, "executable": types[n][0], "opens_conversation": types[n][1]} for n in changed],
        key="name",
    )


@remembered(day_plans)
def plans_of(tx: Transaction, pool: str, day: date) -> dict[str, StoredPlan]:
    """Return the newest plan of each of the pool's chips for a day."""
    found = tx.connection.execute(_plans_of(), {"in_pool": pool, "on_day": day})
    return {row.chip_id: StoredPlan(row.revision, Phase(row.phase)) for row in found}


@cache
def _plans_of() -> sa.Select[Any]:
    return (
        sa.select(day_plans.c.chip_id, day_plans.c.revision, day_plans.c.phase)
        .join(chips, chips.c.id == day_plans.c.chip_id)
        .where(chips.c.pool == sa.bindparam("in_pool"), day_plans.c.day == sa.bindparam("on_day"))
        .order_by(day_plans.c.revision)
    )


def insert_plans(
    tx: Transaction, plans: Sequence[Mapping[str, Any]], rows: Sequence[Mapping[str, Any]]
) -> None:
    """Insert day plans and their activities."""
    insert_rows(tx, day_plans, plans)
    insert_rows(tx, activities, rows)


def insert_history(
    tx: Transaction, plans: Sequence[Mapping[str, Any]], rows: Sequence[Mapping[str, Any]]
) -> None:
    """Insert an import's plans and activities; what is there already stays as it is."""
    insert_new_rows(tx, day_plans, plans)
    insert_new_rows(tx, activities, rows)


def known_ids(tx: Transaction) -> set[str]:
    """Return the ids of imported activities."""
    return set(
        tx.connection.execute(
            sa.select(activities.c.id).where(activities.c.source == RowSource.IMPORT)
        ).scalars()
    )


def cancel_rest_of_day(tx: Transaction, chip_days: Mapping[str, date], *, at: datetime, reason: str) -> None:
    """Cancel what is still planned of chips' days."""
    by_day: dict[date, list[str]] = {}
    for chip_id, day in chip_days.items():
        by_day.setdefault(day, []).append(chip_id)
    for day, ids in by_day.items():
        tx.connection.execute(
            sa.update(activities)
            .where(
                activities.c.chip_id.in_(ids),
                activities.c.day == day,
                activities.c.state == ActivityState.PLANNED,
            )
            .values(state=ActivityState.CANCELLED, reason=reason, final_at=at)
        )


def expire(
    tx: Transaction, pool: str, *, tick: datetime, day: date, late_after: timedelta, cycle_id: str
) -> int:
    """Expire what is too late: an hour past its due time, or of a day that is over. Returns how many."""
    asked = {
        "in_pool": pool,
        "due_before": tick - late_after,
        "today": day,
        "now": tick,
        "in_cycle": cycle_id,
    }
    return int(tx.connection.execute(_expire(), asked).rowcount)


@cache
def _expire() -> sa.Update:
    late = sa.and_(
        activities.c.due_at < sa.bindparam("due_before"), activities.c.day == sa.bindparam("today")
    )
    over = activities.c.day < sa.bindparam("today")
    return (
        sa.update(activities)
        .where(activities.c.pool == sa.bindparam("in_pool"), _is_planned, sa.or_(late, over))
        .values(
            state=ActivityState.EXPIRED,
            reason=sa.case((over, "day_over"), else_="late"),
            final_at=sa.bindparam("now"),
            cycle_id=sa.bindparam("in_cycle"),
        )
    )


def due(tx: Transaction, pool: str, *, tick: datetime, day: date) -> list[Activity]:
    """Return what is planned and due, earliest first, locked; what another process has locked is left to it."""
    found = tx.connection.execute(_due(), {"in_pool": pool, "now": tick, "today": day})
    return [_activity(row) for row in found.mappings()]


@cache
def _due() -> sa.Select[Any]:
    return (
        sa.select(*_columns)
        .where(
            activities.c.pool == sa.bindparam("in_pool"),
            _is_planned,
            activities.c.due_at <= sa.bindparam("now"),
            activities.c.day == sa.bindparam("today"),
        )
        .order_by(activities.c.due_at, activities.c.id)
        .with_for_update(skip_locked=True)
    )


def claim(tx: Transaction, ids: Sequence[str], cycle_id: str) -> None:
    """Give planned activities to a cycle."""
    update_rows(
        tx,
        activities,
        [{"id": i, "state": ActivityState.CLAIMED, "cycle_id": cycle_id} for i in ids],
        where=_is_planned,
    )


@remembered(activities)
def claimed_by(tx: Transaction, cycle_id: str) -> list[Activity]:
    """Return what a cycle holds, earliest due first."""
    found = tx.connection.execute(_claimed_by(), {"in_cycle": cycle_id})
    return [_activity(row) for row in found.mappings()]


@cache
def _claimed_by() -> sa.Select[Any]:
    return (
        sa.select(*_columns)
        .where(activities.c.cycle_id == sa.bindparam("in_cycle"), _is_claimed)
        .order_by(activities.c.due_at, activities.c.id)
    )


def claimed_elsewhere(tx: Transaction, pool: str, cycle_id: str) -> list[Activity]:
    """Return what other cycles of the pool still hold: their processes are gone."""
    found = tx.connection.execute(_claimed_elsewhere(), {"in_pool": pool, "but_not_of": cycle_id})
    return [_activity(row) for row in found.mappings()]


@cache
def _claimed_elsewhere() -> sa.Select[Any]:
    return (
        sa.select(*_columns)
        .where(
            activities.c.pool == sa.bindparam("in_pool"),
            _is_claimed,
            activities.c.cycle_id != sa.bindparam("but_not_of"),
        )
        .order_by(activities.c.id)
    )


def attach_conversations(tx: Transaction, pairs: Mapping[str, str]) -> None:
    """Note which conversation each claimed opening opens: activity id -> conversation id."""
    update_rows(tx, activities, [{"id": a, "conversation_id": c} for a, c in pairs.items()])


def release(tx: Transaction, ids: Sequence[str]) -> None:
    """Give claimed activities back: planned as they were."""
    update_rows(
        tx,
        activities,
        [{"id": i, "state": ActivityState.PLANNED, "cycle_id": None, "conversation_id": None} for i in ids],
        where=_is_claimed,
    )


@dataclass(frozen=True, slots=True)
class Ending:
    """How an activity ended.

    Attributes:
        activity_id: which.
        state: its final state.
        reason: why, as a code.
        traceback: the whole traceback of a failure, redacted.
    """

    activity_id: str
    state: ActivityState
    reason: str
    traceback: str | None = None


def finish(tx: Transaction, endings: Sequence[Ending], *, cycle_id: str, at: datetime) -> None:
    """Move open activities to their final states; others are left as they are.

    Args:
        tx: an open transaction.
        endings: how they ended.
        cycle_id: the cycle that ends them.
        at: its tick.
    """
    rows = [
        {
            "id": one.activity_id,
            "state": one.state,
            "reason": one.reason,
            "detail": None,
            "final_at": at,
            "cycle_id": cycle_id,
            "traceback": one.traceback,
        }
        for one in endings
    ]
    update_rows(tx, activities, rows, where=_is_open)


def defer(
    tx: Transaction, put_off: Sequence[Deferral], *, pool: str, cycle_id: str, day: date, at: datetime
) -> None:
    """Put off claimed openings, and keep every deferral (those of replies, too) with its reason."""
    insert_rows(
        tx,
        deferrals,
        [
            {
                "pool": pool,
                "cycle_id": cycle_id,
                "day": day,
                "chip_id": d.chip_id,
                "type": d.type,
                "activity_id": d.activity_id,
                "conversation_id": d.conversation_id,
                "reason": d.reason,
                "at": at,
                "until": d.until,
            }
            for d in put_off
        ],
    )
    counts = {d.activity_id: d for d in put_off if d.activity_id is not None}
    update_rows(
        tx,
        activities,
        [
            {
                "id": activity_id,
                "state": ActivityState.PLANNED,
                "due_at": d.until,
                "last_deferral": d.reason,
                "cycle_id": None,
                "conversation_id": None,
            }
            for activity_id, d in counts.items()
        ],
        where=_is_claimed,
    )
    if counts:
        tx.connection.execute(_count_deferrals(), {"in_cycle": cycle_id, "put_off_at": at})


@cache
def _count_deferrals() -> sa.Update:
    just_put_off = sa.select(deferrals.c.activity_id).where(
        deferrals.c.cycle_id == sa.bindparam("in_cycle"), deferrals.c.at == sa.bindparam("put_off_at")
    )
    how_often = sa.select(sa.func.count()).where(deferrals.c.activity_id == activities.c.id)
    return (
        sa.update(activities)
        .where(activities.c.id.in_(just_put_off), activities.c.state == ActivityState.PLANNED)
        .values(deferrals=how_often.scalar_subquery())
    )
