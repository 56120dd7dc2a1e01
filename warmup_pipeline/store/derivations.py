"""Of which chips a cycle derives anew what is derived of chips, where a pool's log is long.

Holds: :func:`mark`, which notes them before metrics are computed, and :func:`also`, which notes those of which the
metrics came to something else; :func:`scope`, within which every later derivation of the cycle reads and writes;
:func:`judged`, which says that all of it is done. Do not add: what is derived (``derived``), when time alone changes
a score (``domain.trust``).

A chip is derived anew where anything that its derived rows are made of may have changed since the pool's
last derivation: its messages (the conversations that were just put into the roll-up again), a message of its that
counted for an hour and was not confirmed, an error that is a day old by now, its own row, a signal that
brakes it, or the time at which time alone changes its score or its phase's rest. Where it is only its
messages, the chip is measured anew, and the rest only if something that is judged came to something else. All
chips are derived
on the first tick of a local day, under another policy, and whenever it is not known what was derived
before. Everything else is, discretely, what it was: counts, rates, score, level, which criteria hold. What
goes on with every second (days without an error, a score's parts, the day a criterion can hold at the
chip's pace) is as of the row's own ``computed_at``.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import date, datetime, timedelta
from functools import cache
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from warmup_pipeline.domain.values import ChipStatus, TrustLevel
from warmup_pipeline.store.arrays import Ids, among
from warmup_pipeline.store.bulk import update_rows
from warmup_pipeline.store.counts import is_error
from warmup_pipeline.store.engine import ROWS_PER_STATEMENT, Transaction
from warmup_pipeline.store.messages import UNCONFIRMED_COUNTS_FOR
from warmup_pipeline.store.rollup_sums import provisional
from warmup_pipeline.store.rollup_touches import Stage
from warmup_pipeline.store.schema import (
    brake_signals,
    chip_derivations,
    chip_metrics,
    chips,
    conversation_touches,
    conversations,
    message_rollups,
    messages,
    trust_scores,
)
from warmup_pipeline.store.scope import Kind, Scope, in_scope

_SEEN: Final = ("status", "role", "phase", "phase_started_at", "warming_started_at")
"""What of a chip's own row is derived from."""

_A_DAY: Final = timedelta(hours=24)


def scope(tx: Transaction, pool: str, at: datetime) -> Scope:
    """Return of which chips of a pool a tick derives; all, where nothing was marked for it."""
    if tx.memory is None and _last(tx, pool)[0] == at:
        return Scope(pool, at)
    return Scope(pool)


def derived_at(tx: Transaction) -> dict[str, datetime]:
    """Return the tick that last derived each pool with marks."""
    query = sa.select(message_rollups.c.pool, message_rollups.c.derived_at).where(
        message_rollups.c.derived_at.is_not(None)
    )
    return {row[0]: row[1] for row in tx.connection.execute(query).all()}


def forget(tx: Transaction, pool: str) -> None:
    """Have every chip derived anew by the pool's next cycle."""
    tx.connection.execute(
        sa.update(message_rollups).where(message_rollups.c.pool == pool).values(derived_at=None)
    )


def look_again(tx: Transaction, chip_ids: Collection[str]) -> None:
    """Have some chips derived anew by their pool's next cycle."""
    every = sorted(chip_ids)
    for start in range(0, len(every), ROWS_PER_STATEMENT):
        some = every[start : start + ROWS_PER_STATEMENT]
        tx.connection.execute(
            sa.update(chip_derivations).where(chip_derivations.c.chip_id.in_(some)).values(judged_at=None)
        )


# -- marking -------------------------------------------------------------------------------------------


def mark(tx: Transaction, pool: str, *, at: datetime, day: date, by: str, signals_since: datetime) -> Scope:
    """Note the chips that a tick derives anew in any case; the roll-up has just been brought up to it.

    Returns the scope of the chips that the tick measures anew: these, and those of which it is messages alone that
    may come to something else. They are not noted before they have (:func:`also`): most come to the same.

    Args:
        tx: the transaction, which also writes their metrics.
        pool: the pool, whose roll-up serves.
        at: the tick.
        day: its local day.
        by: what derives: another policy derives every chip anew.
        signals_since: a chip with a brake signal since then is always derived.
    """
    before, on_day, by_whom = _last(tx, pool)
    # A tick that runs again has brought nothing up the second time: what it marked is still marked.
    anew = before is None or before > at or (on_day, by_whom) != (day, by)
    asked = {"in_pool": pool, "now": at}
    if not anew and before is not None:
        asked |= {
            "hour_before": before - UNCONFIRMED_COUNTS_FOR,
            "hour_now": at - UNCONFIRMED_COUNTS_FOR,
            "day_before": before - _A_DAY,
            "day_now": at - _A_DAY,
            "signals_since": signals_since,
        }
    tx.connection.execute(_mark_to_be_judged(tx.connection.dialect.name, whole=anew), asked)
    tx.connection.execute(
        sa.update(message_rollups)
        .where(message_rollups.c.pool == pool)
        .values(derived_at=at, derived_on=day, derived_by=by)
    )
    if anew:
        return Scope(pool, at)
    return Scope(pool, at, tuple(row[0] for row in tx.connection.execute(_measured(), asked).all()))


def _last(tx: Transaction, pool: str) -> tuple[datetime | None, date | None, str | None]:
    row = tx.connection.execute(_last_derivation(), {"in_pool": pool}).first()
    return (None, None, None) if row is None else (row[0], row[1], row[2])


@cache
def _last_derivation() -> sa.Select[Any]:
    own = message_rollups
    return sa.select(own.c.derived_at, own.c.derived_on, own.c.derived_by).where(
        own.c.pool == sa.bindparam("in_pool")
    )


@cache
def _mark_to_be_judged(dialect: str, *, whole: bool) -> sa.Insert:
    """Return what marks chips that are judged whatever their metrics come to."""
    own = chip_derivations
    now: sa.BindParameter[Any] = sa.bindparam("now", type_=own.c.computed_at.type)
    query = sa.select(chips.c.id, chips.c.pool, now, sa.null(), *(chips.c[name] for name in _SEEN)).where(
        chips.c.pool == sa.bindparam("in_pool")
    )
    if not whole:
        query = query.where(chips.c.id.in_(sa.union(*_otherwise())))
    insert_into = postgresql.insert if dialect == "postgresql" else sqlite.insert
    names = ("pool", "computed_at", "judged_at", *_SEEN)
    adding = insert_into(own).from_select(["chip_id", *names], query)
    return adding.on_conflict_do_update(
        index_elements=["chip_id"], set_={name: adding.excluded[name] for name in names}
    )


@cache
def _measured() -> sa.Select[Any]:
    """Return the query for the chips that are marked, and those whose messages may come to something else."""
    own = chip_derivations
    pool: sa.BindParameter[str] = sa.bindparam("in_pool")
    now: sa.BindParameter[Any] = sa.bindparam("now", type_=own.c.computed_at.type)
    marked = sa.select(own.c.chip_id).where(own.c.pool == pool, own.c.computed_at == now)
    measured = sa.union(marked, *_by_messages()).subquery("measured")
    return (
        sa.select(chips.c.id)
        .select_from(measured.join(chips, chips.c.id == measured.c.chip_id))
        .where(chips.c.pool == pool)
        .order_by(chips.c.id)
    )


def _by_messages() -> Sequence[sa.Select[tuple[str]]]:
    """Return the queries for chips whose messages come to something else, or may."""
    pool: sa.BindParameter[str] = sa.bindparam("in_pool")
    now: sa.BindParameter[Any] = sa.bindparam("now")
    touches = conversation_touches
    # Each conversation is looked up once, for both of its ends.
    touched = (
        sa.select(conversations.c.opener_chip_id, conversations.c.responder_chip_id)
        .select_from(touches.join(conversations, conversations.c.id == touches.c.conversation_id))
        .where(
            touches.c.pool == pool,
            touches.c.stage == sa.literal_column(f"'{Stage.IN}'"),
            touches.c.rolled_at == now,
        )
        .cte("touched")
    )
    no_longer = sa.and_(
        messages.c.pool == pool,
        messages.c.sent_at > sa.bindparam("hour_before"),
        messages.c.sent_at <= sa.bindparam("hour_now"),
        provisional,
    )
    return (
        sa.select(touched.c.opener_chip_id),
        sa.select(touched.c.responder_chip_id),
        sa.select(messages.c.sender_chip_id).where(no_longer),
        sa.select(messages.c.recipient_chip_id).where(no_longer),
        sa.select(messages.c.sender_chip_id).where(
            messages.c.pool == pool,
            is_error,
            messages.c.sent_at > sa.bindparam("day_before"),
            messages.c.sent_at <= sa.bindparam("day_now"),
        ),
    )


def _otherwise() -> Sequence[sa.Select[tuple[str]]]:
    """Return the queries for chips that are judged anew whatever their messages come to."""
    pool: sa.BindParameter[str] = sa.bindparam("in_pool")
    now: sa.BindParameter[Any] = sa.bindparam("now")
    own = chip_derivations
    return (
        sa.select(chips.c.id)
        .outerjoin(own, own.c.chip_id == chips.c.id)
        .where(
            chips.c.pool == pool,
            sa.or_(
                own.c.chip_id.is_(None),
                own.c.pool != chips.c.pool,
                *(own.c[name].is_distinct_from(chips.c[name]) for name in _SEEN),
                # When it returns depends on its connection, too; and there are few.
                chips.c.status == ChipStatus.DEGRADED,
                own.c.next_at <= now,
                # The last cycle that began with it did not come to its end.
                own.c.judged_at.is_(None),
                own.c.judged_at < own.c.computed_at,
            ),
        ),
        sa.select(brake_signals.c.chip_id).where(brake_signals.c.at >= sa.bindparam("signals_since")),
    )


def also(tx: Transaction, chip_ids: Sequence[str], at: datetime) -> None:
    """Note some more chips for a tick, of which its later derivations are about, too."""
    if chip_ids:
        tx.connection.execute(_also(), {"more": chip_ids, "now": at})


@cache
def _also() -> sa.Update:
    own = chip_derivations
    more: sa.BindParameter[Any] = sa.bindparam("more", type_=Ids())
    now: sa.BindParameter[Any] = sa.bindparam("now", type_=own.c.computed_at.type)
    return sa.update(own).where(among(own.c.chip_id, more), own.c.computed_at != now).values(computed_at=now)


def note(tx: Transaction, rows: Sequence[Mapping[str, Any]]) -> None:
    """Note something of marked chips: rows of ``chip_id`` and the same further columns."""
    update_rows(tx, chip_derivations, rows, key="chip_id")


def judged(tx: Transaction, pool: str, at: datetime) -> None:
    """Say that everything derived of the chips marked for a tick is written."""
    tx.connection.execute(_judged(), {"in_pool": pool, "derived_at": at})


@cache
def _judged() -> sa.Update:
    own = chip_derivations
    at: sa.BindParameter[Any] = sa.bindparam("derived_at", type_=own.c.computed_at.type)
    return (
        sa.update(own)
        .where(own.c.pool == sa.bindparam("in_pool"), own.c.computed_at == at)
        .values(judged_at=own.c.computed_at)
    )


def standing_in(tx: Transaction, scope: Scope) -> dict[str, tuple[bool | None, str | None]]:
    """Return what is noted of each chip in a scope: whether it is eligible, and for which criterion it waits."""
    found = tx.connection.execute(_standing_in(scope.kind), scope.asked).all()
    return {row[0]: (row[1], row[2]) for row in found}


@cache
def _standing_in(kind: Kind) -> sa.Select[Any]:
    own = chip_derivations
    return sa.select(own.c.chip_id, own.c.eligible, own.c.limited_by).where(in_scope(own, kind))


def may_move(tx: Transaction, scope: Scope, *, signals_since: datetime, errors: int) -> set[str]:
    """Return the chips in a scope whose phase or status can be another after this tick, and maybe some others.

    Args:
        tx: the transaction.
        scope: the scope, of marked chips: it was just noted which of them are eligible.
        signals_since: since when a brake signal matters.
        errors: so many errors of a day, or more, matter.
    """
    asked = scope.asked | {"signals_since": signals_since, "errors": errors}
    return {str(row[0]) for row in tx.connection.execute(_may_move(scope.kind), asked).all()}


@cache
def _may_move(kind: Kind) -> sa.Select[tuple[str]]:
    own = chip_derivations
    signalled = sa.select(brake_signals.c.chip_id).where(brake_signals.c.at >= sa.bindparam("signals_since"))
    return (
        sa.select(own.c.chip_id)
        .join(chips, chips.c.id == own.c.chip_id)
        .join(chip_metrics, chip_metrics.c.chip_id == own.c.chip_id)
        .join(trust_scores, trust_scores.c.chip_id == own.c.chip_id)
        .where(
            in_scope(own, kind),
            sa.or_(
                own.c.eligible.is_(sa.true()),
                chips.c.status == ChipStatus.DEGRADED,
                trust_scores.c.level == TrustLevel.CRITICO,
                chip_metrics.c.errors_24h >= sa.bindparam("errors"),
                own.c.chip_id.in_(signalled),
            ),
        )
    )


def standing(tx: Transaction, pool: str) -> tuple[int, int, dict[str, int]]:
    """Return how many chips have an eligibility, how many are eligible, and how many wait for which criterion."""
    own = chip_derivations
    query = (
        sa.select(own.c.limited_by, own.c.eligible, sa.func.count())
        .where(own.c.pool == pool, own.c.eligible.is_not(None))
        .group_by(own.c.limited_by, own.c.eligible)
        .order_by(own.c.limited_by)
    )
    rows = tx.connection.execute(query).all()
    limits = {row[0]: int(row[2]) for row in rows if row[0] is not None}
    return sum(int(row[2]) for row in rows), sum(int(row[2]) for row in rows if row[1]), limits
