"""The sums that a day's summary is made of, and the summary's rows.

Holds: :func:`day_sums` and the table ``daily_summary``. Each sum is one grouped query over the log,
the same for the day that is running and for one long past.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from functools import cache
from typing import Any, Final

import sqlalchemy as sa

from warmup_pipeline.domain.values import ActivityState, Decision, MessageState
from warmup_pipeline.store import rollups
from warmup_pipeline.store.attempts import count_of, failed, old_attempt, succeeded
from warmup_pipeline.store.bulk import column_of, insert_rows, write_changed
from warmup_pipeline.store.engine import Transaction
from warmup_pipeline.store.memory import remembered
from warmup_pipeline.store.rollup_sums import not_searched_by
from warmup_pipeline.store.schema import (
    activities,
    chip_message_days,
    chips,
    conversations,
    cycles,
    daily_summary,
    deferrals,
    messages,
    phase_transitions,
    pools,
    presend_validations,
)

RECEIPTS_COME_WITHIN: Final = timedelta(days=7)
"""How long after a day its summary still takes in what became of its sends."""


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
    """What the cycles of one pool were like on one local day.

    Attributes:
        run: cycles that finished.
        worst_s: the longest of them, in seconds.
        health: that of the day's last cycle.
    """

    run: int
    worst_s: float | None
    health: str | None


@remembered(activities, messages, deferrals, presend_validations, conversations, phase_transitions)
def day_sums(tx: Transaction, day: date, pool: str | None = None) -> dict[str, ChipDay]:
    """Return what every chip (of a pool) did on a local day, by chip id; chips that did nothing are left out.

    Of a pool by itself whose roll-up says what its messages come to, it is the roll-up that is read; of all
    pools together everything is summed straight from the log.
    """
    found: dict[str, ChipDay] = {}
    rolled_up = pool is not None and rollups.speaks_for(tx, pool)

    def of(chip_id: str, its_pool: str) -> ChipDay:
        one = found.get(chip_id)
        if one is None:
            one = found[chip_id] = ChipDay(its_pool)
        return one

    def run(query: str) -> Iterable[Any]:
        asked = {"on_day": day} if pool is None else {"on_day": day, "in_pool": pool}
        return tx.connection.execute(_day_queries(one_pool=pool is not None)[query], asked).all()

    for chip_id, its_pool, kind, state, count in run("planned"):
        of(chip_id, its_pool).activities.setdefault(kind, {})[state] = int(count)
    for chip_id, its_pool, accepted, delivered, lost, unknown in () if rolled_up else run("sent"):
        one = of(chip_id, its_pool)
        one.sent, one.delivered, one.failed, one.unknown = (
            int(accepted),
            int(delivered),
            int(lost),
            int(unknown),
        )
        one.succeeded, one.failed_attempts = one.sent, one.failed
    for chip_id, its_pool, count in () if rolled_up else run("received"):
        of(chip_id, its_pool).received = int(count)
    for chip_id, its_pool, accepted, delivered, lost, unknown, heard in run("rolled_up") if rolled_up else ():
        one = of(chip_id, its_pool)
        one.sent, one.delivered, one.failed, one.unknown = accepted, delivered, lost, unknown
        one.succeeded, one.failed_attempts, one.received = accepted, lost, heard
    for chip_id, its_pool, reason, count in run("put_off"):
        of(chip_id, its_pool).deferrals[reason] = int(count)
    for chip_id, its_pool, reason, count in run("refused"):
        of(chip_id, its_pool).blocks[reason] = int(count)
    for chip_id, its_pool, count in run("opened"):
        of(chip_id, its_pool).opened = int(count)
    for chip_id, its_pool, count in run("moved"):
        of(chip_id, its_pool).transitions = int(count)
    # An import's history: what the old system attempted on a day before ours.
    for chip_id, its_pool, state, count in run("history"):
        one = of(chip_id, its_pool)
        if state == ActivityState.EXECUTED:
            one.succeeded += int(count)
        else:
            one.failed_attempts += int(count)
    return found


def of_any_pool(table: sa.Table) -> sa.ColumnElement[bool]:
    """Return a condition that always holds, and lets an index on (pool, day) find a day of all pools."""
    return table.c.pool.in_(sa.select(pools.c.name))


@cache
def _day_queries(*, one_pool: bool) -> Mapping[str, sa.Select[Any]]:
    """Return the queries of :func:`day_sums` by name; each asks for the day ``on_day``.

    Args:
        one_pool: of the pool ``in_pool`` alone. Beside "of any pool" that would keep SQLite from the index
            on a pool's day, and have it go through the whole log.
    """

    def of(table: sa.Table) -> sa.ColumnElement[bool]:
        return table.c.pool == sa.bindparam("in_pool") if one_pool else of_any_pool(table)

    def by_day(table: sa.Table) -> sa.ColumnElement[bool]:
        """Return the same for a table that is found by its day."""
        return table.c.pool == sa.bindparam("in_pool") if one_pool else sa.true()

    day: sa.BindParameter[date] = sa.bindparam("on_day")
    planned = (
        sa.select(
            activities.c.chip_id, activities.c.pool, activities.c.type, activities.c.state, sa.func.count()
        )
        .where(by_day(activities), activities.c.day == day)
        # Not in the order of the index on chips: SQLite would look for the day chip by chip.
        .group_by(
            not_searched_by(activities.c.chip_id), activities.c.pool, activities.c.type, activities.c.state
        )
        .order_by(activities.c.chip_id, activities.c.type, activities.c.state)
    )
    sent = (
        sa.select(
            messages.c.sender_chip_id,
            messages.c.pool,
            count_of(succeeded),
            count_of(sa.and_(succeeded, messages.c.confirmed_at.is_not(None))),
            count_of(failed),
            count_of(messages.c.state == MessageState.UNKNOWN),
        )
        .where(of(messages), messages.c.sent_day == day)
        .group_by(messages.c.sender_chip_id, messages.c.pool)
    )
    received = (
        sa.select(messages.c.recipient_chip_id, messages.c.pool, sa.func.count())
        .where(of(messages), messages.c.sent_day == day, succeeded)
        .group_by(messages.c.recipient_chip_id, messages.c.pool)
    )
    rolled = chip_message_days
    rolled_up = sa.select(
        rolled.c.chip_id,
        rolled.c.pool,
        rolled.c.succeeded,
        rolled.c.delivered,
        rolled.c.failed,
        rolled.c.unknown,
        rolled.c.heard,
    ).where(
        of(rolled),
        rolled.c.day == day,
        # As in the log: a chip to which something was only attempted did nothing itself.
        sa.or_(rolled.c.sends > 0, rolled.c.heard > 0),
    )
    put_off = (
        sa.select(deferrals.c.chip_id, deferrals.c.pool, deferrals.c.reason, sa.func.count())
        .where(by_day(deferrals), deferrals.c.day == day)
        .group_by(deferrals.c.chip_id, deferrals.c.pool, deferrals.c.reason)
        .order_by(deferrals.c.reason)
    )
    refused = (
        sa.select(
            presend_validations.c.sender_chip_id,
            presend_validations.c.pool,
            presend_validations.c.reason,
            sa.func.count(),
        )
        .where(
            of(presend_validations),
            presend_validations.c.day == day,
            presend_validations.c.decision == Decision.BLOCK,
        )
        # Not in the order of the index on senders: SQLite would go through every decision ever made for it.
        .group_by(
            not_searched_by(presend_validations.c.sender_chip_id),
            presend_validations.c.pool,
            presend_validations.c.reason,
        )
        .order_by(presend_validations.c.reason)
    )
    opened = (
        sa.select(conversations.c.opener_chip_id, conversations.c.pool, sa.func.count())
        .where(of(conversations), conversations.c.opened_day == day)
        .group_by(conversations.c.opener_chip_id, conversations.c.pool)
    )
    moved = (
        sa.select(phase_transitions.c.chip_id, phase_transitions.c.pool, sa.func.count())
        .where(of(phase_transitions), phase_transitions.c.day == day)
        .group_by(phase_transitions.c.chip_id, phase_transitions.c.pool)
    )
    history = (
        sa.select(activities.c.chip_id, activities.c.pool, activities.c.state, sa.func.count())
        .where(by_day(activities), activities.c.day == day, old_attempt)
        .group_by(activities.c.chip_id, activities.c.pool, activities.c.state)
    )
    return {
        "planned": planned,
        "sent": sent,
        "received": received,
        "rolled_up": rolled_up,
        "put_off": put_off,
        "refused": refused,
        "opened": opened,
        "moved": moved,
        "history": history,
    }


def cycles_of_day(
    tx: Transaction, day: date, *, before: datetime | None, pool: str | None = None
) -> dict[str, PoolDay]:
    """Return what the cycles of each pool (or of one) were like on a local day, before a tick only if given."""
    chosen = cycles.c.day == day
    if pool is not None:
        chosen = sa.and_(chosen, cycles.c.pool == pool)
    if before is not None:
        chosen = sa.and_(chosen, cycles.c.tick < before)
    sums = (
        sa.select(
            cycles.c.pool,
            count_of(cycles.c.state == "finished"),
            sa.func.max(cycles.c.duration_s),
            sa.func.max(cycles.c.tick).label("last"),
        )
        .where(chosen)
        .group_by(cycles.c.pool)
        .subquery()
    )
    query = sa.select(*list(sums.c)[:3], cycles.c.health).join(
        cycles, sa.and_(cycles.c.pool == sums.c.pool, cycles.c.tick == sums.c.last)
    )
    return {row[0]: PoolDay(int(row[1]), row[2], row[3]) for row in tx.connection.execute(query).all()}


def first_tick(tx: Transaction, pool: str | None = None) -> dict[str, datetime]:
    """Return each pool's (or one's) first tick ever: before it no cycle can have been missed."""
    # By pool: grouping would go through every cycle there ever was.
    first = sa.select(sa.func.min(cycles.c.tick)).where(cycles.c.pool == pools.c.name).scalar_subquery()
    query = sa.select(pools.c.name, sa.type_coerce(first, cycles.c.tick.type))
    if pool is not None:
        query = query.where(pools.c.name == pool)
    return {row[0]: row[1] for row in tx.connection.execute(query).all() if row[1] is not None}


_SUMMARY_LOCK: Final = 0x57_41_52_4D
"""What PostgreSQL knows the summary's lock by; any number that no other lock of this database has."""


def hold_summary(tx: Transaction) -> None:
    """Hold what the summary says of all pools for the length of this transaction.

    Pools end their cycles at the same time. Each writes its own rows as it likes, but the row for everything
    is one: of two that replaced it at once, the second would insert what the first had just inserted, or sum
    what it had not yet seen. On SQLite a writing transaction already excludes every other.
    """
    if tx.connection.dialect.name == "postgresql":
        tx.connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_SUMMARY_LOCK)))


def replace_day(tx: Transaction, day: date, rows: Sequence[Mapping[str, Any]]) -> None:
    """Replace the summary of a day."""
    _replace(tx, daily_summary.c.day == day, rows)


def replace_pool_day(tx: Transaction, day: date, pool: str, rows: Sequence[Mapping[str, Any]]) -> None:
    """Replace what the summary of a day says of a pool and its chips."""
    own_chips = sa.select(chips.c.id).where(chips.c.pool == pool)
    mine = sa.and_(
        daily_summary.c.day == day,
        sa.or_(
            sa.and_(daily_summary.c.scope == "pool", daily_summary.c.scope_id == pool),
            sa.and_(daily_summary.c.scope == "chip", daily_summary.c.scope_id.in_(own_chips)),
        ),
    )
    _replace(tx, mine, rows)


def _replace(tx: Transaction, within: sa.ColumnElement[bool], rows: Sequence[Mapping[str, Any]]) -> None:
    instants = set(column_of(rows, "as_of")) if rows else ()
    stamps = {"as_of": rows[0]["as_of"]} if len(instants) == 1 else {}
    write_changed(tx, daily_summary, rows, within=within, stamps=stamps, whole=True)


def replace_everything(tx: Transaction, day: date, row: Mapping[str, Any]) -> None:
    """Replace what the summary of a day says of all pools together; see :func:`hold_summary`."""
    tx.connection.execute(
        sa.delete(daily_summary).where(daily_summary.c.day == day, daily_summary.c.scope == "all")
    )
    insert_rows(tx, daily_summary, [row])


def of_pools(tx: Transaction, day: date) -> list[dict[str, Any]]:
    """Return the stored summary of a day of each pool, by name."""
    query = (
        sa.select(daily_summary)
        .where(daily_summary.c.day == day, daily_summary.c.scope == "pool")
        .order_by(daily_summary.c.scope_id)
    )
    return [dict(row) for row in tx.connection.execute(query).mappings()]


def of_day(tx: Transaction, day: date, pool: str | None = None) -> dict[tuple[str, str], dict[str, Any]]:
    """Return the stored summary of a day: (scope, id) -> row.

    Args:
        tx: an open transaction.
        day: the local day.
        pool: only that pool's rows, its chips', and that for everything.
    """
    query = sa.select(daily_summary).where(daily_summary.c.day == day)
    if pool is not None:
        row = daily_summary.c
        its_chips = sa.select(chips.c.id).where(chips.c.pool == pool)
        query = query.where(
            sa.or_(
                row.scope == "all",
                sa.and_(row.scope == "pool", row.scope_id == pool),
                sa.and_(row.scope == "chip", row.scope_id.in_(its_chips)),
            )
        )
    return {(row["scope"], row["scope_id"]): dict(row) for row in tx.connection.execute(query).mappings()}


def days_to_finish(tx: Transaction, today: date, pool: str) -> list[date]:
    """Return the earlier days to summarise again for a pool.

    These are the days not made final, and the day before today where its log has moved since: a
    delivery was confirmed or failed late, the pool's last cycle ended or expired what was left. In a day's
    first cycle the days before that are looked at, too: a phone that was off for days delivers late.
    """
    yesterday = today - timedelta(days=1)
    query = (
        sa.select(daily_summary.c.day)
        .where(
            daily_summary.c.day < today,
            daily_summary.c.final.is_(sa.false()),
            daily_summary.c.scope == "pool",
            daily_summary.c.scope_id == pool,
        )
        .order_by(daily_summary.c.day)
    )
    days = list(tx.connection.execute(query).scalars().all())
    if yesterday not in days and _has_moved(tx, yesterday, pool):
        days.append(yesterday)
    begun = sa.select(daily_summary.c.day).where(
        daily_summary.c.day == today, daily_summary.c.scope == "pool", daily_summary.c.scope_id == pool
    )
    if tx.connection.execute(begun).first() is None:
        days += _with_late_receipts(tx, pool, today - RECEIPTS_COME_WITHIN, yesterday).difference(days)
    return sorted(days)


def _with_late_receipts(tx: Transaction, pool: str, since: date, until: date) -> set[date]:
    """Return the summarised days in [since, until) whose sends came to something else since."""
    names = ("sent", "delivered", "failed", "unknown")
    row = daily_summary.c
    stored = sa.select(row.day, *(row[name] for name in names)).where(
        row.scope == "pool", row.scope_id == pool, row.day >= since, row.day < until
    )
    sends = (
        sa.select(messages.c.sent_day, *_fates())
        .where(messages.c.pool == pool, messages.c.sent_day >= since, messages.c.sent_day < until)
        .group_by(messages.c.sent_day)
    )
    if rollups.speaks_for(tx, pool):
        rolled = chip_message_days.c
        sends = (
            sa.select(rolled.day, *_rolled_fates())
            .where(rolled.pool == pool, rolled.day >= since, rolled.day < until)
            .group_by(rolled.day)
        )
    found = {day: tuple(counts) for day, *counts in tx.connection.execute(sends).all()}
    return {
        day
        for day, *counts in tx.connection.execute(stored).all()
        if found.get(day, (0,) * len(names)) != tuple(counts)
    }


def _fates() -> Sequence[sa.ColumnElement[int]]:
    return (
        count_of(succeeded),
        count_of(sa.and_(succeeded, messages.c.confirmed_at.is_not(None))),
        count_of(failed),
        count_of(messages.c.state == MessageState.UNKNOWN),
    )


def _rolled_fates() -> Sequence[sa.ColumnElement[int]]:
    names = ("succeeded", "delivered", "failed", "unknown")
    return [sa.func.coalesce(sa.func.sum(chip_message_days.c[name]), 0) for name in names]


def _has_moved(tx: Transaction, day: date, pool: str) -> bool:
    """Whether a pool's log of a day that was summarised has another number of anything than its summary."""
    stored = (
        tx.connection.execute(
            sa.select(daily_summary).where(
                daily_summary.c.day == day, daily_summary.c.scope == "pool", daily_summary.c.scope_id == pool
            )
        )
        .mappings()
        .first()
    )
    if stored is None:
        return False
    sends = sa.select(*_fates()).where(messages.c.pool == pool, messages.c.sent_day == day)
    if rollups.speaks_for(tx, pool):
        rolled = chip_message_days.c
        sends = sa.select(*_rolled_fates()).where(rolled.pool == pool, rolled.day == day)
    if tuple(tx.connection.execute(sends).one()) != tuple(
        stored[name] for name in ("sent", "delivered", "failed", "unknown")
    ):
        return True
    kept: Counter[str] = Counter()
    for states in stored["activities"].values():
        kept.update(states)
    by_state = (
        sa.select(activities.c.state, sa.func.count())
        .where(activities.c.pool == pool, activities.c.day == day)
        .group_by(activities.c.state)
    )
    if Counter({row[0]: int(row[1]) for row in tx.connection.execute(by_state).all()}) != kept:
        return True
    ran = cycles_of_day(tx, day, before=None, pool=pool).values()
    worst = max((one.worst_s for one in ran if one.worst_s is not None), default=None)
    return (sum(one.run for one in ran), worst) != (stored["cycles_run"], stored["worst_cycle_s"])
