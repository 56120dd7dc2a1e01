"""The one place that writes the message log.

Holds: :func:`insert`, :func:`record`, :func:`change` and :func:`withdraw`, and what every write of the log
brings with it: where a pool's log is rolled up (``rollups``), the conversations that change are first taken
out of the roll-up (``rollup_touches``), in the same transaction. Do not add: questions (``messages``,
``deliveries``), what a change means (``warmup``). No other module may write to ``messages``: a test reads
the sources.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from functools import cache
from typing import Any

import sqlalchemy as sa

from warmup_pipeline.domain.values import MessageState
from warmup_pipeline.store.bulk import insert_rows, update_rows
from warmup_pipeline.store.engine import Transaction
from warmup_pipeline.store.rollup_touches import take_out
from warmup_pipeline.store.schema import messages

_PLACED = frozenset({"pool", "conversation_id", "sender_chip_id", "recipient_chip_id", "sent_day"})
"""What decides in which sums a message counts: it never changes."""

_NEVER_SUMMED = frozenset({"id", "marked_read_at"})
"""What no sum is made of: a change of nothing else leaves the roll-up as it is."""


def insert(tx: Transaction, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write messages down as ``sending``: they take their place in the limits before any HTTP call."""
    take_out(tx, conversation_ids=sorted({row["conversation_id"] for row in rows}))
    insert_rows(tx, messages, rows)


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
    if not rows[0].keys() <= _NEVER_SUMMED:
        take_out(tx, message_ids=[row["id"] for row in rows])
    return update_rows(tx, messages, rows, where=where)


def withdraw(tx: Transaction, ids: Sequence[str]) -> None:
    """Remove messages that are ``sending`` although their HTTP call was certainly never begun."""
    if ids:
        take_out(tx, message_ids=ids)
        tx.connection.execute(
            sa.delete(messages).where(messages.c.id.in_(ids), messages.c.state == MessageState.SENDING)
        )


@cache
def _in_one_of(states: frozenset[MessageState]) -> sa.ColumnElement[bool]:
    # Not IN: its list is spelled out at execution, which a statement with many sets of parameters forbids.
    return sa.or_(sa.false(), *(messages.c.state == state for state in sorted(states)))
