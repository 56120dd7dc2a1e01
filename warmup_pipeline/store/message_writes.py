"""The one place that writes the message log.

Holds: :func:`insert`, :func:`record`, :func:`change` and :func:`withdraw`, and what every write of the log
brings with it: where a pool's log is rolled up (``rollups``), each chip's day that is touched is noted in
the same transaction. Do not add: questions (``messages``, ``deliveries``), what a change means
(``warmup``). No other module may write to ``messages``: a test reads the sources.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from functools import cache
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from warmup_pipeline.domain.values import MessageState
from warmup_pipeline.store.bulk import insert_rows, update_rows
from warmup_pipeline.store.engine import ROWS_PER_STATEMENT, Transaction
from warmup_pipeline.store.schema import chip_message_touches, message_rollups, messages

_PLACED = frozenset({"pool", "conversation_id", "sender_chip_id", "recipient_chip_id", "sent_day"})
"""What decides in which sums a message counts: it never changes."""


def insert(tx: Transaction, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write messages down as ``sending``: they take their place in the limits before any HTTP call."""
    insert_rows(tx, messages, rows)
    _touch(tx, [row["id"] for row in rows])


def record(tx: Transaction, rows: Sequence[Mapping[str, Any]]) -> int:
    """Record outcomes of messages that are ``sending``: rows of id and the same further columns.

    Returns how many there were: fewer than asked where a later cycle has taken them over.
    """
    return change(tx, rows, of=[MessageState.SENDING])


def change(
    tx: Transaction, rows: Sequence[Mapping[str, Any]], *, of: Collection[MessageState] | None = None
) -> int:
    """Set columns of many messages; returns how many there were to change.

    Args:
        tx: the transaction.
        rows: rows of id and the same further columns.
        of: only messages in one of these states now, so that evidence that comes twice or out of order
            changes nothing; ``None`` for all.

    Raises:
        ValueError: a message would be moved to another chip, day, conversation or pool.
    """
    if not rows:
        return 0
    moved = _PLACED & rows[0].keys()
    if moved:
        raise ValueError(f"a message keeps its {', '.join(sorted(moved))}")
    where = None if of is None else _in_one_of(frozenset(of))
    changed = update_rows(tx, messages, rows, where=where)
    _touch(tx, [row["id"] for row in rows])
    return changed


def withdraw(tx: Transaction, ids: Sequence[str]) -> None:
    """Remove messages that are ``sending`` although their HTTP call was certainly never begun."""
    if ids:
        _touch(tx, ids)
        tx.connection.execute(
            sa.delete(messages).where(messages.c.id.in_(ids), messages.c.state == MessageState.SENDING)
        )


@cache
def _in_one_of(states: frozenset[MessageState]) -> sa.ColumnElement[bool]:
    # Not IN: its list is spelled out at execution, which a statement with many sets of parameters forbids.
    return sa.or_(sa.false(), *(messages.c.state == state for state in sorted(states)))


def _touch(tx: Transaction, ids: Sequence[str]) -> None:
    """Note the days of chips whose sums these messages are in.

    A message counts on its own day for both its ends, and its conversation on the conversation's first
    day: so the days of all messages of its conversation are noted.
    """
    if tx.memory is not None or not ids or not _rolled_up(tx):
        return
    statement = _noting(tx.connection.dialect.name)
    for start in range(0, len(ids), ROWS_PER_STATEMENT):
        tx.connection.execute(statement, {"touched": list(ids[start : start + ROWS_PER_STATEMENT])})


def _rolled_up(tx: Transaction) -> bool:
    """Whether the log of any pool is rolled up; a database of short logs pays no more than this question."""
    return tx.connection.execute(_any_rolled_up()).first() is not None


@cache
def _any_rolled_up() -> sa.Select[Any]:
    return sa.select(message_rollups.c.pool).limit(1)


@cache
def _noting(dialect: str) -> sa.Insert:
    of_ids = (
        sa.select(messages.c.conversation_id)
        .where(messages.c.id.in_(sa.bindparam("touched", expanding=True)))
        .distinct()
        .subquery("of_ids")
    )
    thread = messages.alias("thread")
    ends = [
        sa.select(end.label("chip_id"), thread.c.sent_day.label("day"), thread.c.pool.label("pool"))
        .select_from(of_ids.join(thread, thread.c.conversation_id == of_ids.c.conversation_id))
        .where(thread.c.pool.in_(sa.select(message_rollups.c.pool)))
        for end in (thread.c.sender_chip_id, thread.c.recipient_chip_id)
    ]
    both = sa.union(*ends).subquery("ends")
    insert_into = postgresql.insert if dialect == "postgresql" else sqlite.insert
    return (
        insert_into(chip_message_touches)
        # Without a WHERE of its own, SQLite reads ON CONFLICT as part of a join.
        .from_select(["chip_id", "day", "pool"], sa.select(*both.c).where(sa.true()).order_by(*both.c))
        .on_conflict_do_update(index_elements=["chip_id", "day"], set_={"rolled_at": None})
    )
