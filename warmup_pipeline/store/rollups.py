"""Roll-ups: what a long message log comes to, by chip and local day, so that a cycle need not sum it all.

Holds: :func:`bring_up`, which rolls up again what was touched since the last cycle; :func:`counts`, the
same sums as ``counts.counts`` made of the roll-up; and what proves that it is true (:func:`wrong_days`,
:func:`wrong_totals`, :func:`verified`). Do not add: what a sum is (``counts``), who touches
(``message_writes``).

Only a pool whose log is long has a roll-up: below :data:`LONG_LOG` messages the log itself is summed.

A day of a chip is rolled up as it will be once nothing about it is provisional: a confirmable message
counts only if it is confirmed. What depends on the moment, messages that count unconfirmed for an hour
and errors of the last 24 hours, comes straight from the log each time; it is found by an index. So the
roll-up depends on the rows alone, and the time that passes makes no day of it stale.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from functools import cache
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import GenericFunction

from warmup_pipeline.domain.metrics import MessageCounts
from warmup_pipeline.domain.values import MessageKind, MessageState
from warmup_pipeline.store.attempts import succeeded as accepted
from warmup_pipeline.store.bulk import upsert_rows
from warmup_pipeline.store.counts import is_error, is_two_way, latest, of_recipients, of_senders
from warmup_pipeline.store.engine import Transaction
from warmup_pipeline.store.messages import UNCONFIRMED_COUNTS_FOR
from warmup_pipeline.store.schema import (
    chip_message_days,
    chip_message_totals,
    chip_message_touches,
    message_rollups,
    messages,
)
from warmup_pipeline.store.scope import Kind, in_scope

LONG_LOG: Final = 20_000
"""Messages of a pool from which on they are rolled up: fewer are summed in a few hundredths of a second."""

_SUMS: Final = (
    "sent",
    "received",
    "attempted",
    "succeeded",
    "unknown",
    "confirmable",
    "confirmed",
    "pictures",
    "audios",
    "restrictions",
    "two_way",
    "sends",
    "delivered",
    "failed",
    "heard",
)
_TIMES: Final = ("last_error_at", "last_sent_at")

_settled: Final = sa.and_(
    accepted, sa.or_(messages.c.confirmable.is_(sa.false()), messages.c.confirmed_at.is_not(None))
)
"""A message that counts whatever the time is."""

provisional: Final = sa.and_(
    accepted, messages.c.confirmable.is_(sa.true()), messages.c.confirmed_at.is_(None)
)
"""A message that counts for an hour, and then only once it is confirmed."""


class hours_after(GenericFunction[datetime]):  # noqa: N801 (a SQL function: named as it stands in SQL)
    """The instant so many hours after a day's beginning in UTC, on either database."""

    type = messages.c.sent_at.type
    inherit_cache = True


@compiles(hours_after, "sqlite")
def _hours_after_sqlite(element: hours_after, compiler: SQLCompiler, **kw: Any) -> str:
    day, hours = element.clauses
    return f"datetime({compiler.process(day, **kw)}, {compiler.process(hours, **kw)} || ' hours')"


@compiles(hours_after, "postgresql")
def _hours_after_postgresql(element: hours_after, compiler: SQLCompiler, **kw: Any) -> str:
    day, hours = element.clauses
    start = f"(CAST({compiler.process(day, **kw)} AS timestamp) AT TIME ZONE 'UTC')"
    return f"({start} + CAST({compiler.process(hours, **kw)} AS integer) * interval '1 hour')"


class not_searched_by(GenericFunction[Any]):  # noqa: N801 (a SQL function: named as it stands in SQL)
    """A column as it is, which SQLite shall not look for an index on.

    Its planner, where nobody has run ANALYZE, takes the index on (pool, day) for a chip's day and reads
    the day of the whole pool for each chip. PostgreSQL knows its tables.
    """

    inherit_cache = True


@compiles(not_searched_by, "sqlite")
def _not_searched_by_sqlite(element: not_searched_by, compiler: SQLCompiler, **kw: Any) -> str:
    return f"+{compiler.process(element.clauses, **kw)}"


@compiles(not_searched_by, "postgresql")
def _not_searched_by_postgresql(element: not_searched_by, compiler: SQLCompiler, **kw: Any) -> str:
    return compiler.process(element.clauses, **kw)


# -- rolling up --------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class RolledUp:
    """What :func:`bring_up` did.

    Attributes:
        days: days of chips that were rolled up (again).
        anew: the whole log was, for the first time.
    """

    days: int = 0
    anew: bool = False


def bring_up(tx: Transaction, pool: str, *, at: datetime) -> RolledUp:
    """Roll up what was touched since the last time; begin with it where the pool's log has become long.

    The caller holds the pool.

    Args:
        tx: the transaction.
        pool: the pool.
        at: the tick that does it.
    """
    if tx.memory is not None:
        # Nobody else writes there, and sums of days long over are remembered.
        return RolledUp()
    if not is_rolled_up(tx, pool):
        if not _is_long(tx, pool):
            return RolledUp()
        return start(tx, pool, at=at)
    asked = {"in_pool": pool, "now": at}
    run = tx.connection.execute
    run(_forget_done(), asked)
    touched = int(run(_number_touched(), asked).scalar_one())
    if touched:
        dialect = tx.connection.dialect.name
        run(_add_to_totals(dialect, -1), asked)
        run(_drop_touched(), asked)
        run(_roll_up(touched_only=True), asked)
        run(_add_to_totals(dialect, 1), asked)
        run(_done(), asked)
    return RolledUp(days=touched)


def start(tx: Transaction, pool: str, *, at: datetime) -> RolledUp:
    """Roll up a pool's whole log for the first time, however short it is."""
    asked = {"in_pool": pool, "now": at}
    run = tx.connection.execute
    upsert_rows(tx, message_rollups, [{"pool": pool, "since": at, "verified_on": None}])
    for table in (chip_message_touches, chip_message_totals, chip_message_days):
        run(sa.delete(table).where(table.c.pool == pool))
    days = int(run(_roll_up(touched_only=False), asked).rowcount)
    run(_first_totals(), asked)
    return RolledUp(days=days, anew=True)


def is_rolled_up(tx: Transaction, pool: str) -> bool:
    """Whether the pool has a roll-up."""
    return tx.connection.execute(_rollup(), {"in_pool": pool}).first() is not None


def _is_long(tx: Transaction, pool: str) -> bool:
    query = sa.select(messages.c.pool).where(messages.c.pool == pool).offset(LONG_LOG - 1).limit(1)
    return tx.connection.execute(query).first() is not None


def speaks_for(tx: Transaction, pool: str) -> bool:
    """Whether the pool has a roll-up, and it says what the log says of every day."""
    if tx.memory is not None:
        return False
    return bool(tx.connection.execute(_speaks_for(), {"in_pool": pool}).scalar_one())


@cache
def _speaks_for() -> sa.Select[Any]:
    has_one = sa.exists().where(message_rollups.c.pool == sa.bindparam("in_pool"))
    return sa.select(sa.and_(has_one, ~sa.exists().where(_is_touched)))


def accepted_by_chip(tx: Transaction, pool: str) -> dict[str, int]:
    """Return how many messages of each chip were accepted and have not failed, by the roll-up."""
    totals = chip_message_totals
    query = sa.select(totals.c.chip_id, totals.c.succeeded).where(totals.c.pool == pool)
    return {row[0]: int(row[1]) for row in tx.connection.execute(query).all()}


@cache
def _rollup() -> sa.Select[Any]:
    return sa.select(message_rollups.c.verified_on).where(message_rollups.c.pool == sa.bindparam("in_pool"))


_touches: Final = chip_message_touches
_is_touched: Final = sa.and_(_touches.c.pool == sa.bindparam("in_pool"), _touches.c.rolled_at.is_(None))


@cache
def _number_touched() -> sa.Select[Any]:
    return sa.select(sa.func.count()).select_from(_touches).where(_is_touched)


@cache
def _forget_done() -> sa.Delete:
    return sa.delete(_touches).where(
        _touches.c.pool == sa.bindparam("in_pool"), _touches.c.rolled_at < sa.bindparam("now")
    )


@cache
def _done() -> sa.Update:
    return sa.update(_touches).where(_is_touched).values(rolled_at=sa.bindparam("now"))


@cache
def _drop_touched() -> sa.Delete:
    days = chip_message_days
    touched = sa.select(_touches.c.chip_id, _touches.c.day).where(_is_touched)
    return sa.delete(days).where(sa.tuple_(days.c.chip_id, days.c.day).in_(touched))


@cache
def _add_to_totals(dialect: str, sign: int) -> sa.Insert:
    days, totals = chip_message_days, chip_message_totals
    insert_into = postgresql.insert if dialect == "postgresql" else sqlite.insert
    of_touched = (
        sa.select(
            days.c.chip_id, sa.func.max(days.c.pool), *(sign * sa.func.sum(days.c[name]) for name in _SUMS)
        )
        .select_from(
            _touches.join(days, sa.and_(days.c.chip_id == _touches.c.chip_id, days.c.day == _touches.c.day))
        )
        .where(_is_touched)
        .group_by(days.c.chip_id)
    )
    adding = insert_into(totals).from_select(["chip_id", "pool", *_SUMS], of_touched)
    return adding.on_conflict_do_update(
        index_elements=["chip_id"],
        set_={name: totals.c[name] + adding.excluded[name] for name in _SUMS},
    )


@cache
def _first_totals() -> sa.Insert:
    days = chip_message_days
    return sa.insert(chip_message_totals).from_select(
        ["chip_id", "pool", *_SUMS],
        sa.select(days.c.chip_id, days.c.pool, *(sa.func.sum(days.c[name]) for name in _SUMS))
        .where(days.c.pool == sa.bindparam("in_pool"))
        .group_by(days.c.chip_id, days.c.pool),
    )


@cache
def _roll_up(*, touched_only: bool) -> sa.Insert:
    fresh = _fresh(_is_touched if touched_only else None)
    return sa.insert(chip_message_days).from_select(["chip_id", "day", "pool", *_SUMS, *_TIMES], fresh)


def _fresh(touched: sa.ColumnElement[bool] | None) -> sa.Select[Any]:
    """Return the query for days of chips as the log has them: those touched, or all of the pool."""
    pool: sa.BindParameter[str] = sa.bindparam("in_pool")

    def of(end: sa.ColumnElement[Any]) -> tuple[sa.FromClause, sa.ColumnElement[bool]]:
        if touched is None:
            return messages, messages.c.pool == pool
        # The index on (chip, time) finds a chip's day: every zone's day lies between these hours.
        found = sa.and_(
            end == _touches.c.chip_id,
            messages.c.sent_at >= hours_after(_touches.c.day, -14),
            messages.c.sent_at < hours_after(_touches.c.day, 36),
            not_searched_by(messages.c.sent_day) == _touches.c.day,
        )
        return _touches.join(messages, found), touched

    sender, recipient = messages.c.sender_chip_id, messages.c.recipient_chip_id
    parts = []
    nothing: dict[str, Any] = dict.fromkeys(_SUMS, sa.literal_column("0"))
    never: dict[str, Any] = dict.fromkeys(_TIMES, sa.null())
    for end, sums in (
        (
            sender,
            of_senders(_settled) | {"last_error_at": latest(is_error), "last_sent_at": latest(accepted)},
        ),
        (recipient, of_recipients(_settled)),
    ):
        source, where = of(end)
        parts.append(
            sa.select(
                end.label("chip_id"),
                messages.c.sent_day.label("day"),
                *(column.label(name) for name, column in (nothing | never | sums).items()),
            )
            .select_from(source)
            .where(where)
            .group_by(end, messages.c.sent_day)
        )
    parts.append(_fresh_two_way(touched, of, nothing | never))
    every, days = sa.union_all(*parts).subquery("parts"), chip_message_days
    return sa.select(
        every.c.chip_id,
        every.c.day,
        pool,
        *(sa.func.sum(every.c[name]).label(name) for name in _SUMS),
        *(sa.type_coerce(sa.func.max(every.c[name]), days.c[name].type).label(name) for name in _TIMES),
    ).group_by(every.c.chip_id, every.c.day)


def _fresh_two_way(touched: Any, of: Any, others: dict[str, Any]) -> sa.Select[Any]:
    """Return the query for two-way conversations by chip, each on the day of its first message."""
    chosen: sa.ColumnElement[bool]
    if touched is None:
        chosen = messages.c.pool == sa.bindparam("in_pool")
    else:
        on_day = [
            sa.select(messages.c.conversation_id).select_from(source).where(where)
            for source, where in (of(messages.c.sender_chip_id), of(messages.c.recipient_chip_id))
        ]
        chosen = messages.c.conversation_id.in_(sa.union(*on_day))
    two_way = (
        sa.select(
            messages.c.conversation_id,
            sa.func.min(messages.c.sent_day).label("day"),
            # Two chips are in it, and each message has both.
            sa.func.min(messages.c.sender_chip_id).label("one"),
            sa.func.max(messages.c.sender_chip_id).label("other"),
        )
        .where(chosen)
        .group_by(messages.c.conversation_id)
        .having(is_two_way(_settled))
        .cte("two_way")
    )
    sides = sa.union_all(
        sa.select(two_way.c.one.label("chip_id"), two_way.c.day),
        sa.select(two_way.c.other.label("chip_id"), two_way.c.day),
    ).subquery("sides")
    columns = others | {"two_way": sa.func.count()}
    query = sa.select(
        sides.c.chip_id, sides.c.day, *(column.label(name) for name, column in columns.items())
    ).group_by(sides.c.chip_id, sides.c.day)
    if touched is None:
        return query
    # A conversation of a touched day may have begun on another, which was touched with it or is as it was.
    return query.where(
        sa.exists().where(touched, _touches.c.chip_id == sides.c.chip_id, _touches.c.day == sides.c.day)
    )


# -- what it comes to --------------------------------------------------------------------------------


def serves(tx: Transaction, pool: str, *, at: datetime) -> bool:
    """Whether the roll-up says what the log says at an instant.

    It does not where the pool has none, where a touched day waits to be rolled up, and where the log has
    a message later than the instant, which counts for nothing yet.
    """
    return bool(tx.connection.execute(_serves(), {"in_pool": pool, "now": at}).scalar_one())


@cache
def _serves() -> sa.Select[Any]:
    later = sa.exists().where(
        messages.c.pool == sa.bindparam("in_pool"),
        # Every state there is: so that the index on (pool, state, time) answers.
        messages.c.state.in_([state.value for state in MessageState]),
        messages.c.sent_at > sa.bindparam("now"),
    )
    has_one = sa.exists().where(message_rollups.c.pool == sa.bindparam("in_pool"))
    return sa.select(sa.and_(has_one, ~sa.exists().where(_is_touched), ~later))


def counts(
    tx: Transaction, pool: str, *, at: datetime, day: date, derived_at: datetime | None = None
) -> dict[str, MessageCounts]:
    """Return what ``counts.counts`` returns, from the roll-up where it :func:`serves`.

    Args:
        tx: the transaction.
        pool: the pool.
        at: the moment.
        day: its local day.
        derived_at: only of the chips that this tick derives anew (``derivations``); ``None`` for all.
    """
    asked = {
        "in_pool": pool,
        "derived_at": derived_at,
        "today": day,
        "an_hour_ago": at - UNCONFIRMED_COUNTS_FOR,
        "a_day_ago": at - timedelta(hours=24),
    }
    sent: Counter[str] = Counter()
    sent_today: Counter[str] = Counter()
    received: Counter[str] = Counter()
    received_today: Counter[str] = Counter()
    media: set[tuple[str, MessageKind]] = set()
    for sender, recipient, its_day, kind in tx.connection.execute(_not_yet_confirmed(), asked).all():
        sent[sender] += 1
        received[recipient] += 1
        if its_day == day:
            sent_today[sender] += 1
            received_today[recipient] += 1
        media.add((sender, MessageKind(kind)))
    two_way: Counter[str] = Counter()
    for one, other in tx.connection.execute(_two_way_for_now(), asked).all():
        two_way.update((one, other))
    errors = {row[0]: int(row[1]) for row in tx.connection.execute(_errors_lately(), asked).all()}
    found = {}
    for row in tx.connection.execute(_totals(marked=derived_at is not None), asked).all():
        chip_id = row.chip_id
        kinds = {
            kind
            for kind, n in ((MessageKind.PICTURE, row.pictures), (MessageKind.AUDIO, row.audios))
            if n or (chip_id, kind) in media
        }
        found[chip_id] = MessageCounts(
            sent_total=row.sent + sent[chip_id],
            received_total=row.received + received[chip_id],
            sent_today=(row.sent_today or 0) + sent_today[chip_id],
            received_today=(row.received_today or 0) + received_today[chip_id],
            attempted=row.attempted,
            succeeded=row.succeeded,
            unknown=row.unknown,
            confirmable=row.confirmable,
            confirmed=row.confirmed,
            bidirectional=row.two_way + two_way[chip_id],
            media_kinds=frozenset(kinds),
            errors_24h=errors.get(chip_id, 0),
            restriction_failures=row.restrictions,
            last_error_at=row.last_error_at,
            last_sent_at=row.last_sent_at,
        )
    return found


@cache
def _totals(*, marked: bool) -> sa.Select[Any]:
    totals, today = chip_message_totals, chip_message_days.alias("of_today")
    lately = chip_message_days.alias("lately")

    def newest(name: str) -> sa.ColumnElement[Any]:
        kind = lately.c[name].type
        query = sa.select(sa.type_coerce(sa.func.max(lately.c[name]), kind)).where(
            lately.c.chip_id == totals.c.chip_id
        )
        return sa.type_coerce(query.scalar_subquery(), kind).label(name)

    return (
        sa.select(
            totals.c.chip_id,
            *(totals.c[name] for name in _SUMS),
            today.c.sent.label("sent_today"),
            today.c.received.label("received_today"),
            *(newest(name) for name in _TIMES),
        )
        .select_from(
            totals.outerjoin(
                today, sa.and_(today.c.chip_id == totals.c.chip_id, today.c.day == sa.bindparam("today"))
            )
        )
        .where(in_scope(totals, Kind.MARKED if marked else Kind.POOL))
        .order_by(totals.c.chip_id)
    )


def _of_the_last_hour() -> tuple[sa.ColumnElement[bool], ...]:
    return (
        messages.c.pool == sa.bindparam("in_pool"),
        messages.c.sent_at > sa.bindparam("an_hour_ago"),
        provisional,
    )


@cache
def _not_yet_confirmed() -> sa.Select[Any]:
    return sa.select(
        messages.c.sender_chip_id, messages.c.recipient_chip_id, messages.c.sent_day, messages.c.kind
    ).where(*_of_the_last_hour())


@cache
def _two_way_for_now() -> sa.Select[Any]:
    """Return the query for conversations that are two-way only while their last hour's turns count."""
    some = sa.select(messages.c.conversation_id).where(*_of_the_last_hour())
    now = sa.or_(_settled, sa.and_(provisional, messages.c.sent_at > sa.bindparam("an_hour_ago")))
    return (
        sa.select(sa.func.min(messages.c.sender_chip_id), sa.func.max(messages.c.sender_chip_id))
        .where(messages.c.conversation_id.in_(some))
        .group_by(messages.c.conversation_id)
        .having(sa.and_(is_two_way(now), ~is_two_way(_settled)))
    )


@cache
def _errors_lately() -> sa.Select[Any]:
    return (
        sa.select(messages.c.sender_chip_id, sa.func.count())
        .where(
            messages.c.pool == sa.bindparam("in_pool"),
            is_error,
            messages.c.sent_at > sa.bindparam("a_day_ago"),
        )
        # Not in the order of the index on senders: SQLite would look at every sender's messages for it.
        .group_by(not_searched_by(messages.c.sender_chip_id))
    )


# -- whether it is true ------------------------------------------------------------------------------


def verified_on(tx: Transaction, pool: str) -> date | None:
    """Return the last local day on which the roll-up was found equal to the whole log."""
    found: date | None = tx.connection.execute(_rollup(), {"in_pool": pool}).scalar()
    return found


def verified(tx: Transaction, pool: str, day: date) -> None:
    """Note that the roll-up was found equal to the whole log."""
    tx.connection.execute(
        sa.update(message_rollups).where(message_rollups.c.pool == pool).values(verified_on=day)
    )


def wrong_days(tx: Transaction, pool: str) -> set[str]:
    """Return the chips of which a day that was rolled up last is not what the log says."""
    days = chip_message_days
    last = sa.and_(_touches.c.pool == sa.bindparam("in_pool"), _touches.c.rolled_at.is_not(None))
    kept = (
        sa.select(days.c.chip_id, days.c.day, *(days.c[name] for name in (*_SUMS, *_TIMES)))
        .select_from(
            _touches.join(days, sa.and_(days.c.chip_id == _touches.c.chip_id, days.c.day == _touches.c.day))
        )
        .where(last)
    )
    fresh = _fresh(last).subquery("fresh")
    asked = {"in_pool": pool}
    stored = {tuple(row) for row in tx.connection.execute(kept, asked).all()}
    columns = [fresh.c.chip_id, fresh.c.day, *(fresh.c[name] for name in (*_SUMS, *_TIMES))]
    found = {tuple(row) for row in tx.connection.execute(sa.select(*columns), asked).all()}
    return {row[0] for row in stored ^ found}


def wrong_totals(tx: Transaction, pool: str) -> set[str]:
    """Return the chips whose totals are not the sums of their days."""
    days, totals = chip_message_days, chip_message_totals
    summed = (
        sa.select(days.c.chip_id, *(sa.func.sum(days.c[name]) for name in _SUMS))
        .where(days.c.pool == pool)
        .group_by(days.c.chip_id)
    )
    kept = sa.select(totals.c.chip_id, *(totals.c[name] for name in _SUMS)).where(totals.c.pool == pool)
    right = {(row[0], *map(int, row[1:])) for row in tx.connection.execute(summed).all()}
    nothing = (0,) * len(_SUMS)
    return {
        row[0]
        for row in right ^ {tuple(row) for row in tx.connection.execute(kept).all()}
        if row[1:] != nothing
    }


_CHIPS_AT_ONCE: Final = 5_000


def touch_chips(tx: Transaction, pool: str, chip_ids: Collection[str]) -> None:
    """Have every day of some chips rolled up again: theirs is not what the log says."""
    if not is_rolled_up(tx, pool):
        return
    every = sorted(chip_ids)
    for start in range(0, len(every), _CHIPS_AT_ONCE):
        asked = {"in_pool": pool, "chosen": every[start : start + _CHIPS_AT_ONCE]}
        for statement in _anew(tx.connection.dialect.name):
            tx.connection.execute(statement, asked)


@cache
def _anew(dialect: str) -> tuple[sa.Executable, ...]:
    """Return what touches every day of chips, and makes their totals of their days as these are now."""
    days, totals = chip_message_days, chip_message_totals
    pool: sa.BindParameter[str] = sa.bindparam("in_pool", type_=days.c.pool.type)
    chosen: sa.BindParameter[Any] = sa.bindparam("chosen", expanding=True)
    sources = (
        (messages, messages.c.sender_chip_id, messages.c.sent_day),
        (messages, messages.c.recipient_chip_id, messages.c.sent_day),
        (days, days.c.chip_id, days.c.day),
    )
    every = sa.union(
        *(
            sa.select(chip.label("chip_id"), day.label("day"), table.c.pool.label("pool")).where(
                chip.in_(chosen), table.c.pool == pool
            )
            for table, chip, day in sources
        )
    ).subquery("every")
    insert_into = postgresql.insert if dialect == "postgresql" else sqlite.insert
    touch = (
        insert_into(_touches)
        # Without a WHERE of its own, SQLite reads ON CONFLICT as part of a join.
        .from_select(["chip_id", "day", "pool"], sa.select(*every.c).where(sa.true()).order_by(*every.c))
        .on_conflict_do_update(index_elements=["chip_id", "day"], set_={"rolled_at": None})
    )
    forget = sa.delete(totals).where(totals.c.pool == pool, totals.c.chip_id.in_(chosen))
    summed = (
        sa.select(days.c.chip_id, days.c.pool, *(sa.func.sum(days.c[name]) for name in _SUMS))
        .where(days.c.pool == pool, days.c.chip_id.in_(chosen))
        .group_by(days.c.chip_id, days.c.pool)
    )
    return touch, forget, sa.insert(totals).from_select(["chip_id", "pool", *_SUMS], summed)
