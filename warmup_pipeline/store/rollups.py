"""Roll-ups: what a long message log comes to, by chip and local day, so that a cycle need not sum it all.

Holds: when a pool's log is rolled up, and until which conversation it is for the first time (:func:`is_due`,
:func:`begin`, :func:`go_on`); :func:`bring_up`, which puts in again what was touched since the last cycle; whether the
roll-up may be asked (:func:`serves`, :func:`speaks_for`). Do not add: what is summed (``rollup_sums``), what
is taken out (``rollup_touches``), what it comes to (``rollup_counts``), whether it is true (``rollup_proof``).

Only a pool whose log is long has a roll-up: below :data:`LONG_LOG` messages the log itself is summed. For
the first time it is rolled up in parts, a transaction each: all at once would be longer than a cycle's lease.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from functools import cache
from typing import Any, Final

import sqlalchemy as sa

from warmup_pipeline.domain.values import MessageState
from warmup_pipeline.store.bulk import upsert_rows
from warmup_pipeline.store.engine import Transaction
from warmup_pipeline.store.memory import remembered
from warmup_pipeline.store.rollup_sums import SUMS, not_searched_by
from warmup_pipeline.store.rollup_touches import Stage, add, keep_writers_waiting
from warmup_pipeline.store.schema import (
    chip_message_days,
    chip_message_totals,
    conversation_touches,
    conversations,
    message_rollups,
    messages,
    pools,
)

LONG_LOG: Final = 20_000
"""Messages of a pool from which on they are rolled up: fewer are summed in a few hundredths of a second."""

PART: Final = 20_000
"""Conversations that are rolled up for the first time in one transaction: a few seconds of work."""

_touches: Final = conversation_touches
_in_pool: Final[sa.BindParameter[str]] = sa.bindparam("in_pool", type_=pools.c.name.type)


_ALL: Final = None
"""How far a roll-up has got that is through the whole log."""


def is_rolled_up(tx: Transaction, pool: str) -> bool:
    """Whether the pool has a roll-up of its whole log."""
    return _reached(tx, pool) == (_ALL,)


@remembered(message_rollups)
def _reached(tx: Transaction, pool: str) -> tuple[str | None] | None:
    row = tx.connection.execute(_rollup(), {"in_pool": pool}).first()
    return None if row is None else (row[0],)


@cache
def _rollup() -> sa.Select[Any]:
    return sa.select(message_rollups.c.rolled_until).where(message_rollups.c.pool == _in_pool)


# -- for the first time --------------------------------------------------------------------------------


def is_due(tx: Transaction, pool: str) -> bool:
    """Whether the pool's log has become long, and nobody has begun to roll it up."""
    return _reached(tx, pool) is None and _is_long(tx, pool)


def is_waiting(tx: Transaction, pool: str) -> bool:
    """Whether there is something to be rolled up for the first time: a long log, or what is left of one."""
    reached = _reached(tx, pool)
    return _is_long(tx, pool) if reached is None else reached != (_ALL,)


def begin(tx: Transaction, pool: str, *, at: datetime) -> None:
    """Begin to roll up a pool's log, however short it is; nothing is rolled up yet.

    The caller holds the pool. On PostgreSQL :func:`go_on` belongs into transactions of its own: who asked
    before this one ended whether the pool is rolled up may still be writing.

    Args:
        tx: the transaction.
        pool: the pool.
        at: the tick that does it.
    """
    keep_writers_waiting(tx)
    for table in (conversation_touches, chip_message_totals, chip_message_days):
        tx.connection.execute(sa.delete(table).where(table.c.pool == pool))
    row = {"pool": pool, "since": at, "verified_on": None, "rolled_until": "", "derived_at": None}
    upsert_rows(tx, message_rollups, [row])


def go_on(tx: Transaction, pool: str, *, most: int = PART) -> bool:
    """Roll up the next part of a log that is not rolled up wholly; returns whether that was all of it.

    The caller holds the pool. Writers of messages wait on PostgreSQL until the transaction ends.
    """
    reached = _reached(tx, pool)
    if reached is None or reached == (_ALL,):
        return True
    keep_writers_waiting(tx)
    asked: dict[str, Any] = {"in_pool": pool, "after": reached[0], "skipped": most - 1}
    until = tx.connection.execute(_end_of_part(), asked).scalar()
    add(tx, _part(is_last=until is None), asked=asked | {"until": until}, totals=False)
    if until is None:
        tx.connection.execute(sa.delete(chip_message_totals).where(chip_message_totals.c.pool == pool))
        tx.connection.execute(_first_totals(), asked)
    tx.connection.execute(
        sa.update(message_rollups).where(message_rollups.c.pool == pool).values(rolled_until=until)
    )
    return until is None


def _is_long(tx: Transaction, pool: str) -> bool:
    query = sa.select(messages.c.pool).where(messages.c.pool == pool).offset(LONG_LOG - 1).limit(1)
    return tx.connection.execute(query).first() is not None


@cache
def _first_totals() -> sa.Insert:
    days = chip_message_days
    summed = (
        sa.select(days.c.chip_id, days.c.pool, *(sa.func.sum(days.c[name]) for name in SUMS))
        .where(days.c.pool == _in_pool)
        .group_by(days.c.chip_id, days.c.pool)
    )
    return sa.insert(chip_message_totals).from_select(["chip_id", "pool", *SUMS], summed)


def _after() -> tuple[sa.ColumnElement[bool], ...]:
    # By the key: an index on the pool would have every part go through all of the pool's conversations.
    return not_searched_by(conversations.c.pool) == _in_pool, conversations.c.id > sa.bindparam("after")


@cache
def _end_of_part() -> sa.Select[Any]:
    query = sa.select(conversations.c.id).where(*_after()).order_by(conversations.c.id)
    return query.offset(sa.bindparam("skipped", type_=sa.Integer)).limit(1)


@cache
def _part(*, is_last: bool) -> sa.Subquery:
    query = sa.select(conversations.c.id.label("conversation_id")).where(*_after())
    if not is_last:
        query = query.where(conversations.c.id <= sa.bindparam("until"))
    return query.subquery("chosen")


# -- cycle by cycle ------------------------------------------------------------------------------------


def bring_up(tx: Transaction, pool: str, *, at: datetime) -> int:
    """Put in again what was touched since the last time; returns how many conversations.

    The caller holds the pool. Nothing happens where the log is not rolled up wholly.

    Args:
        tx: the transaction.
        pool: the pool.
        at: the tick that does it.
    """
    if not is_rolled_up(tx, pool):
        return 0
    asked = {"in_pool": pool, "now": at}
    run = tx.connection.execute
    run(_forget_done(), asked)
    run(_set_back(), asked | {"earlier": at - _A_MOMENT})
    # What somebody else takes out meanwhile is the next cycle's.
    touched = int(run(_take_up(), asked).rowcount)
    if touched:
        add(tx, _taken_up(), asked=asked)
    return touched


_A_MOMENT: Final = timedelta(microseconds=1)


@cache
def _forget_done() -> sa.Delete:
    return sa.delete(_touches).where(
        _touches.c.pool == _in_pool,
        _touches.c.stage == Stage.IN,
        _touches.c.rolled_at < sa.bindparam("now"),
    )


@cache
def _set_back() -> sa.Update:
    """Return what tells those that a tick put in already, which runs again, from those that it puts in now."""
    put_in = sa.and_(
        _touches.c.pool == _in_pool, _touches.c.stage == Stage.IN, _touches.c.rolled_at == sa.bindparam("now")
    )
    earlier = sa.bindparam("earlier", type_=_touches.c.rolled_at.type)
    return sa.update(_touches).where(put_in).values(rolled_at=earlier)


@cache
def _take_up() -> sa.Update:
    out = sa.and_(_touches.c.pool == _in_pool, _touches.c.stage == Stage.OUT)
    now = sa.bindparam("now", type_=_touches.c.rolled_at.type)
    return sa.update(_touches).where(out).values(stage=Stage.IN, rolled_at=now)


@cache
def _taken_up() -> sa.Subquery:
    return (
        sa.select(_touches.c.conversation_id)
        .where(
            _touches.c.pool == _in_pool,
            _touches.c.stage == sa.literal_column(f"'{Stage.IN}'"),
            _touches.c.rolled_at == sa.bindparam("now"),
        )
        .subquery("chosen")
    )


# -- whether it may be asked -----------------------------------------------------------------------------


def speaks_for(tx: Transaction, pool: str) -> bool:
    """Whether the pool has a roll-up, and it says what the log says of every day."""
    return bool(tx.connection.execute(_speaks_for(), {"in_pool": pool}).scalar_one())


@cache
def _speaks_for() -> sa.Select[Any]:
    return sa.select(_is_whole())


def _is_whole() -> sa.ColumnElement[bool]:
    has_one = sa.exists().where(message_rollups.c.pool == _in_pool, message_rollups.c.rolled_until.is_(None))
    out = sa.exists().where(_touches.c.pool == _in_pool, _touches.c.stage == Stage.OUT)
    return sa.and_(has_one, ~out)


def serves(tx: Transaction, pool: str, *, at: datetime) -> bool:
    """Whether the roll-up says what the log says at an instant.

    It does not where the pool has none, where a conversation is out of it, and where the log has a message
    later than the instant, which counts for nothing yet.
    """
    return bool(tx.connection.execute(_serves(), {"in_pool": pool, "now": at}).scalar_one())


@cache
def _serves() -> sa.Select[Any]:
    # The newest of each state there is, by the index on (pool, state, time). Not whether there is a later one: of a
    # statement that is planned once for all instants, PostgreSQL expects a third of the log to be later, and goes
    # through all of it to find the first.
    by_state = sa.union_all(
        *(
            sa.select(sa.func.max(messages.c.sent_at).label("sent_at")).where(
                messages.c.pool == _in_pool, messages.c.state == sa.literal_column(f"'{state}'")
            )
            for state in MessageState
        )
    ).subquery("by_state")
    newest = sa.select(sa.func.max(by_state.c.sent_at)).scalar_subquery()
    now = sa.bindparam("now", type_=messages.c.sent_at.type)
    return sa.select(sa.and_(_is_whole(), sa.func.coalesce(newest <= now, sa.true())))
