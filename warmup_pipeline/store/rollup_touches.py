"""What a change of the message log takes out of its roll-up, until it is put in again.

Holds: :func:`take_out`, which every write of the log calls before it writes (``message_writes``), and
:func:`add`, by which sums are put in and taken out. Do not add: putting in again (``rollups``).

The roll-up holds, at every moment, what all conversations come to that are not out of it. One is taken out,
with what the log says of it just then, before the first change after a derivation, and noted; the next
derivation puts in what the log says of it by then. So what a cycle costs follows the conversations in which
something happened, however long the log is and however much a chip does in a day.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from enum import StrEnum
from functools import cache
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.schema import CreateTable

from warmup_pipeline.store.engine import ROWS_PER_STATEMENT, Transaction
from warmup_pipeline.store.memory import remembered
from warmup_pipeline.store.rollup_sums import SUMS, of_conversations, short_number
from warmup_pipeline.store.schema import (
    chip_message_days,
    chip_message_totals,
    conversation_touches,
    conversations,
    message_rollups,
    messages,
)


class Stage(StrEnum):
    """Where a conversation stands that was touched."""

    NOTED = "noted"
    """About to be taken out, by the transaction that sees it like this."""
    OUT = "out"
    """Not in the roll-up."""
    IN = "in"
    """In the roll-up, by the tick it says."""


_touches: Final = conversation_touches


def take_out(
    tx: Transaction, *, message_ids: Sequence[str] = (), conversation_ids: Sequence[str] = ()
) -> None:
    """Take out of the roll-ups what is about to change; a database without one pays no more than a question.

    Args:
        tx: the transaction, before it writes.
        message_ids: messages that will change, or go.
        conversation_ids: conversations to which messages will come.
    """
    if not (message_ids or conversation_ids) or not _any_rolled_up(tx):
        return
    dialect = tx.connection.dialect.name
    noted = 0
    for by_message, ids in ((True, message_ids), (False, conversation_ids)):
        statement = _noting(dialect, by_message=by_message)
        for start in range(0, len(ids), ROWS_PER_STATEMENT):
            some = {"touched": list(ids[start : start + ROWS_PER_STATEMENT])}
            noted += int(tx.connection.execute(statement, some).rowcount)
    if noted:
        add(tx, _staged(Stage.NOTED), sign=-1)
        tx.connection.execute(_out())


_LOG_LOCK: Final = 0x57_41_52_4E
"""What PostgreSQL knows the lock on the log by; any number that no other lock of this database has."""


def keep_writers_waiting(tx: Transaction) -> None:
    """Wait for whoever is writing messages, and keep others from it until the transaction ends.

    Whoever writes has asked first whether any pool is rolled up, and shares the log's lock for that. On SQLite a
    writing transaction already excludes every other.
    """
    if tx.connection.dialect.name == "postgresql":
        tx.connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_LOG_LOCK)))


def _any_rolled_up(tx: Transaction) -> bool:
    """Whether the log of any pool is rolled up; who has asked keeps the first roll-up waiting on PostgreSQL."""
    if tx.connection.dialect.name == "postgresql":
        # Before it is asked, in a statement of its own: the answer is of a moment after it.
        tx.connection.execute(_share())
    return _is_any(tx)


@cache
def _share() -> sa.Select[Any]:
    return sa.select(sa.func.pg_advisory_xact_lock_shared(_LOG_LOCK))


@remembered(message_rollups)
def _is_any(tx: Transaction) -> bool:
    return bool(tx.connection.execute(_any()).scalar_one())


@cache
def _any() -> sa.Select[Any]:
    return sa.select(sa.exists(sa.select(message_rollups.c.pool)))


@cache
def _noting(dialect: str, *, by_message: bool) -> sa.Insert:
    table = messages if by_message else conversations
    conversation_id = messages.c.conversation_id if by_message else conversations.c.id
    reached = sa.or_(
        message_rollups.c.rolled_until.is_(None), conversation_id <= message_rollups.c.rolled_until
    )
    found = (
        sa.select(conversation_id, table.c.pool, sa.literal_column(f"'{Stage.NOTED}'"))
        .select_from(table.join(message_rollups, message_rollups.c.pool == table.c.pool))
        .where(table.c.id.in_(sa.bindparam("touched", expanding=True)), reached)
        .distinct()
        .order_by(conversation_id)
    )
    insert_into = postgresql.insert if dialect == "postgresql" else sqlite.insert
    return (
        insert_into(_touches)
        .from_select(["conversation_id", "pool", "stage"], found)
        .on_conflict_do_update(
            index_elements=["conversation_id"],
            set_={"stage": Stage.NOTED, "rolled_at": None},
            where=_touches.c.stage == Stage.IN,
        )
    )


@cache
def _staged(stage: Stage) -> sa.Subquery:
    return (
        sa.select(_touches.c.conversation_id)
        .where(_touches.c.stage == sa.literal_column(f"'{stage}'"))
        .subquery("chosen")
    )


@cache
def _out() -> sa.Update:
    return sa.update(_touches).where(_touches.c.stage == Stage.NOTED).values(stage=Stage.OUT)


# -- putting in and taking out -------------------------------------------------------------------------


def add(
    tx: Transaction,
    chosen: sa.FromClause,
    *,
    sign: int = 1,
    asked: dict[str, Any] | None = None,
    totals: bool = True,
) -> None:
    """Add to the roll-up (or take from it) what the log says of some conversations, by day and in all.

    Args:
        tx: the transaction.
        chosen: a query with the column ``conversation_id``, each conversation once; the same object each time.
        sign: 1 to put in, -1 to take out.
        asked: the values of its parameters.
        totals: add to the sums over all days, too.
    """
    for statement in _adding(tx.connection.dialect.name, chosen, sign, totals=totals):
        tx.connection.execute(statement, asked or {})


_found: Final = sa.Table(
    "what_was_found",
    sa.MetaData(),
    *(sa.Column(name, chip_message_days.c[name].type) for name in ("chip_id", "day", "pool", *SUMS)),
    prefixes=["TEMPORARY"],
)
"""Where SQLite keeps what one look at the log has found: a table of the connection, empty between two looks."""


@cache
def _adding(dialect: str, chosen: sa.FromClause, sign: int, *, totals: bool) -> Sequence[sa.Executable]:
    look = of_conversations(chosen)
    if dialect == "postgresql":
        found = look.cte("found")
        days = _adding_to_days(postgresql.insert, found, sign)
        return [
            _adding_to_totals(postgresql.insert, found, sign).add_cte(days.cte("days")) if totals else days
        ]
    if not totals:
        return [_adding_to_days(sqlite.insert, look.cte("found"), sign)]
    return [
        # As text, which is made once.
        sa.text(str(CreateTable(_found, if_not_exists=True).compile(dialect=sqlite.dialect()))),
        sa.insert(_found).from_select([column.name for column in _found.c], look),
        _adding_to_days(sqlite.insert, _found, sign),
        _adding_to_totals(sqlite.insert, _found, sign),
        sa.delete(_found),
    ]


def _adding_to_days(insert_into: Callable[[Any], Any], found: sa.FromClause, sign: int) -> sa.Insert:
    rows = sa.select(found.c.chip_id, found.c.day, found.c.pool, *(sign * found.c[name] for name in SUMS))
    return _adding_to(chip_message_days, insert_into, rows, (found.c.chip_id, found.c.day))


def _adding_to_totals(insert_into: Callable[[Any], Any], found: sa.FromClause, sign: int) -> sa.Insert:
    sums = (sign * sa.func.sum(short_number(found.c[name])) for name in SUMS)
    rows = sa.select(found.c.chip_id, sa.func.max(found.c.pool), *sums).group_by(found.c.chip_id)
    return _adding_to(chip_message_totals, insert_into, rows, (found.c.chip_id,))


def _adding_to(
    table: sa.Table,
    insert_into: Callable[[Any], Any],
    rows: sa.Select[Any],
    keys: Sequence[sa.ColumnElement[Any]],
) -> sa.Insert:
    names = [str(key.name) for key in keys]
    # Without a WHERE of its own, SQLite reads ON CONFLICT as part of a join.
    adding = insert_into(table).from_select([*names, "pool", *SUMS], rows.where(sa.true()).order_by(*keys))
    upserting: sa.Insert = adding.on_conflict_do_update(
        index_elements=names, set_={name: table.c[name] + adding.excluded[name] for name in SUMS}
    )
    return upserting
