"""What messages come to by chip and local day, as roll-ups keep it, in SQL.

Holds: :data:`SUMS`, the names of what is summed; :func:`of_conversations` and :func:`of_days`, the same sums
asked by conversation or by chip and day. Do not add: what a sum is (``counts``), when one is asked for
(``rollups``, ``rollup_touches``, ``rollup_proof``).

A message counts as it will once nothing about it is provisional: a confirmable one only if it is confirmed.
What depends on the moment, messages that count unconfirmed for an hour and errors of the last 24 hours,
comes straight from the log each time (``rollup_counts``). So these sums depend on the rows alone, and the
time that passes makes none of them stale.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import GenericFunction
from sqlalchemy.sql.util import ClauseAdapter

from warmup_pipeline.store.attempts import succeeded as accepted
from warmup_pipeline.store.counts import is_two_way, of_recipients, of_senders
from warmup_pipeline.store.schema import messages

OF_METRICS: Final = (
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
)
"""Those of the sums that metrics are made of."""

SUMS: Final = (*OF_METRICS, "sends", "delivered", "failed", "heard")
"""Columns of sums, in the order of every query here."""

settled: Final = sa.and_(
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


class short_number(GenericFunction[int]):  # noqa: N801 (a SQL function: named as it stands in SQL)
    """A count, or a sum of counts, that PostgreSQL sums up as a whole number.

    Its own sums are longer numbers, and those it sums as decimals: that takes several times as long, and so much
    memory that it writes to the disk.
    """

    type = sa.Integer()
    inherit_cache = True


@compiles(short_number, "sqlite")
def _short_number_sqlite(element: short_number, compiler: SQLCompiler, **kw: Any) -> str:
    return compiler.process(element.clauses, **kw)


@compiles(short_number, "postgresql")
def _short_number_postgresql(element: short_number, compiler: SQLCompiler, **kw: Any) -> str:
    return f"CAST({compiler.process(element.clauses, **kw)} AS INTEGER)"


_SUMMED: Final = (
    "pool",
    "conversation_id",
    "turn",
    "sender_chip_id",
    "recipient_chip_id",
    "sent_day",
    "kind",
    "state",
    "accepted_at",
    "confirmable",
    "confirmed_at",
    "failure_class",
    "http_attempts",
)
"""Columns of messages that the sums are made of."""

_NOTHING: Final[dict[str, sa.ColumnElement[Any]]] = dict.fromkeys(SUMS, sa.literal_column("0"))


def of_conversations(chosen: sa.FromClause) -> sa.Select[Any]:
    """Return the query for what all messages of some conversations come to: chip_id, day, pool, the sums.

    Args:
        chosen: a table or query with the column ``conversation_id``, each conversation once.
    """
    source = chosen.join(messages, messages.c.conversation_id == chosen.c.conversation_id)
    # Read once, and then summed three times.
    read = ClauseAdapter(sa.select(*(messages.c[name] for name in _SUMMED)).select_from(source).cte("read"))
    sides = _both_sides(read.traverse(_two_way()).cte("two_way"))
    ends = [read.traverse(part) for part in _both_ends(lambda _: (messages, sa.true()))]
    return _together(*ends, _number_of(sides))


def of_days(days: sa.FromClause) -> sa.Select[Any]:
    """Return the same by chip and day: what the messages of some days of chips come to.

    Args:
        days: a query with the columns ``chip_id`` and ``day``, each pair once.
    """

    def of(end: sa.ColumnElement[Any]) -> tuple[sa.FromClause, sa.ColumnElement[bool]]:
        # The index on (chip, time) finds a chip's day: every zone's day lies between these hours.
        found = sa.and_(
            end == days.c.chip_id,
            messages.c.sent_at >= hours_after(days.c.day, -14),
            messages.c.sent_at < hours_after(days.c.day, 36),
            not_searched_by(messages.c.sent_day) == days.c.day,
        )
        return days.join(messages, found), sa.true()

    talks = sa.union(
        *(
            sa.select(messages.c.conversation_id).select_from(of(end)[0])
            for end in (messages.c.sender_chip_id, messages.c.recipient_chip_id)
        )
    )
    two_way = _two_way().where(messages.c.conversation_id.in_(talks)).cte("two_way")
    sides = _both_sides(two_way)
    # A conversation of a day may have begun on another, which may not be asked for.
    asked = sa.exists().where(days.c.chip_id == sides.c.chip_id, days.c.day == sides.c.day)
    return _together(*_both_ends(of), _number_of(sides).where(asked))


def of_chips(chip_ids: sa.ColumnElement[Any], counted: sa.ColumnElement[bool]) -> sa.Select[Any]:
    """Return the same of all days of some chips.

    Args:
        chip_ids: the chips, as the right side of IN.
        counted: the condition on messages that all of a conversation hold, or none.
    """

    def of(end: sa.ColumnElement[Any]) -> tuple[sa.FromClause, sa.ColumnElement[bool]]:
        return messages, sa.and_(end.in_(chip_ids), counted)

    talks = sa.union(
        *(
            sa.select(messages.c.conversation_id).where(end.in_(chip_ids))
            for end in (messages.c.sender_chip_id, messages.c.recipient_chip_id)
        )
    )
    two_way = _two_way().where(messages.c.conversation_id.in_(talks), counted).cte("two_way")
    sides = _both_sides(two_way)
    return _together(*_both_ends(of), _number_of(sides).where(sides.c.chip_id.in_(chip_ids)))


def _both_ends(
    of: Callable[[sa.ColumnElement[Any]], tuple[sa.FromClause, sa.ColumnElement[bool]]],
) -> list[sa.Select[Any]]:
    parts = []
    for end, sums in (
        (messages.c.sender_chip_id, of_senders(settled)),
        (messages.c.recipient_chip_id, of_recipients(settled)),
    ):
        source, where = of(end)
        parts.append(
            sa.select(
                end.label("chip_id"),
                messages.c.sent_day.label("day"),
                sa.func.max(messages.c.pool).label("pool"),
                *(column.label(name) for name, column in (_NOTHING | sums).items()),
            )
            .select_from(source)
            .where(where)
            .group_by(end, messages.c.sent_day)
        )
    return parts


def _two_way() -> sa.Select[Any]:
    """Return the query for two-way conversations, each on the day of its first message."""
    return (
        sa.select(
            messages.c.conversation_id,
            sa.func.min(messages.c.sent_day).label("day"),
            sa.func.max(messages.c.pool).label("pool"),
            # Two chips are in it, and each message has both.
            sa.func.min(messages.c.sender_chip_id).label("one"),
            sa.func.max(messages.c.sender_chip_id).label("other"),
        )
        # Not in the order of the index on conversations: SQLite would go through the whole log for it.
        .group_by(not_searched_by(messages.c.conversation_id))
        .having(is_two_way(settled))
    )


def _both_sides(two_way: sa.CTE) -> sa.Subquery:
    return sa.union_all(
        sa.select(two_way.c.one.label("chip_id"), two_way.c.day, two_way.c.pool),
        sa.select(two_way.c.other.label("chip_id"), two_way.c.day, two_way.c.pool),
    ).subquery("sides")


def _number_of(sides: sa.Subquery) -> sa.Select[Any]:
    columns = _NOTHING | {"two_way": sa.func.count()}
    return sa.select(
        sides.c.chip_id,
        sides.c.day,
        sa.func.max(sides.c.pool).label("pool"),
        *(column.label(name) for name, column in columns.items()),
    ).group_by(sides.c.chip_id, sides.c.day)


def _together(*parts: sa.Select[Any]) -> sa.Select[Any]:
    every = sa.union_all(*parts).subquery("parts")
    return sa.select(
        every.c.chip_id,
        every.c.day,
        sa.func.max(every.c.pool).label("pool"),
        *(sa.func.sum(short_number(every.c[name])).label(name) for name in SUMS),
    ).group_by(every.c.chip_id, every.c.day)
