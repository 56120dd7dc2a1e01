"""Not asking twice: what was read of a database that nobody else can write to.

Holds: :class:`Memory`, and :func:`remembered`, which marks the reads that may be answered from it. Only
a database that belongs to one process alone is given a memory (``store.scratch.scratch_store``):
there every write passes this process, and a read whose tables have not been written to since gives
the same rows again. A database that others may write to has none, and every read is asked. Do not
add: results that depend on anything but the tables named and the arguments.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from datetime import date
from functools import wraps
from typing import Any, Concatenate, Final, ParamSpec, TypeVar, cast

import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.engine import Engine

from warmup_pipeline.store.engine import Transaction

Asked = ParamSpec("Asked")
Found = TypeVar("Found")

_WRITES: Final = re.compile(r"\s*(?:INSERT\s+(?:OR\s+\w+\s+)?INTO|UPDATE|DELETE\s+FROM)\s+\"?(\w+)", re.I)
_READS: Final = re.compile(
    r"\s*(?:SELECT|BEGIN|PRAGMA|WITH\b(?!.*\b(?:INSERT\s+INTO|UPDATE|DELETE\s+FROM)\b))", re.I | re.S
)
_MOST: Final = 512


class Memory:
    """What was read of one engine's database, as long as it is true.

    Args:
        engine: its only writer.
        by_day: names of tables of which :meth:`note_day` is told every changed row.
    """

    def __init__(self, engine: Engine, *, by_day: frozenset[str] = frozenset()) -> None:
        self.by_day = by_day
        self._written: Counter[str] = Counter()
        self._moved: Counter[str] = Counter()
        self._known: dict[Any, tuple[tuple[int, ...], Any]] = {}
        self._open = 0
        self._overlap = False
        event.listen(engine, "begin", self.begin)
        event.listen(engine, "commit", self.end)
        event.listen(engine, "rollback", self.end)
        event.listen(engine, "after_cursor_execute", self._note)
        event.listen(engine, "rollback", self.forget)
        event.listen(engine, "rollback_savepoint", self.forget)

    def _note(self, _connection: Any, cursor: Any, statement: str, *_: Any) -> None:
        written = _WRITES.match(statement)
        if written is not None:
            self.note(written[1], cursor.rowcount)
        elif _READS.match(statement) is None:
            # Something else: whatever it does, nothing known is relied on any more.
            self.forget()

    def note(self, table: str, rowcount: int) -> None:
        """Note that a table was written to, and how many rows of it; below 0 where that is not known."""
        # A statement that found no row has changed nothing; where the driver cannot tell, it has.
        self._written[table] += rowcount != 0

    def begin(self, *_: Any) -> None:
        """Note that a transaction begins."""
        self._open += 1
        # What two transactions at once see of each other depends on when each began: nothing is
        # remembered or recalled until both are over.
        self._overlap = self._overlap or self._open > 1

    def end(self, *_: Any) -> None:
        """Note that a transaction is over."""
        self._open -= 1
        if not self._open:
            self._overlap = False

    def forget(self, *_: Any) -> None:
        """Rely on nothing that is known any more."""
        self._known.clear()

    def note_day(self, day: str) -> None:
        """Note that a row of a local day has changed in the table that is watched by day."""
        self._moved[day] += 1

    def moves_until(self, day: date) -> int:
        """Return how often rows of a local day, or of one before it, have changed."""
        last = day.isoformat()
        return sum(count for moved, count in self._moved.items() if moved <= last)

    def recall(
        self, question: Any, tables: tuple[str, ...], ask: Callable[[], Found], *, moves: int = 0
    ) -> Found:
        """Return what is known, or ask and remember.

        Args:
            question: what is asked, hashable.
            tables: an answer is true until one of them is written to.
            ask: asks the database.
            moves: an answer is true until this is another number.
        """
        if self._overlap:
            return ask()
        state = (moves, *(self._written[name] for name in tables))
        known = self._known.get(question)
        if known is None or known[0] != state:
            if len(self._known) >= _MOST:
                self._known.clear()
            known = self._known[question] = (state, ask())
        found = known[1]
        # A list or a mapping may be changed by whoever gets it; a value cannot be.
        return cast("Found", found.copy() if isinstance(found, dict | list | set) else found)


def remembered(
    *tables: sa.Table,
) -> Callable[
    [Callable[Concatenate[Transaction, Asked], Found]], Callable[Concatenate[Transaction, Asked], Found]
]:
    """Mark a read that depends on its arguments and some tables alone.

    Args:
        *tables: every table that it reads. Its result is a list, a mapping or a value; whoever gets it
            may change it, but not what is in it.
    """
    names = tuple(table.name for table in tables)

    def mark(
        read: Callable[Concatenate[Transaction, Asked], Found],
    ) -> Callable[Concatenate[Transaction, Asked], Found]:
        @wraps(read)
        def asked(tx: Transaction, *args: Asked.args, **named: Asked.kwargs) -> Found:
            if tx.memory is None:
                return read(tx, *args, **named)
            question = (read, args, tuple(sorted(named.items())))
            return tx.memory.recall(question, names, lambda: read(tx, *args, **named))

        return cast("Callable[Concatenate[Transaction, Asked], Found]", asked)

    return mark


def remembered_until(
    table: sa.Table,
) -> Callable[
    [Callable[Concatenate[Transaction, Asked], Found]], Callable[Concatenate[Transaction, Asked], Found]
]:
    """Mark a read that depends on its arguments, and on a table's rows up to a local day, alone.

    The day is the argument ``until_day``. A memory must have been told to watch the table by day
    (``store.scratch.scratch_store``).

    Args:
        table: the table, which has the day of each row.
    """

    def mark(
        read: Callable[Concatenate[Transaction, Asked], Found],
    ) -> Callable[Concatenate[Transaction, Asked], Found]:
        @wraps(read)
        def asked(tx: Transaction, *args: Asked.args, **named: Asked.kwargs) -> Found:
            memory = tx.memory
            if memory is None or table.name not in memory.by_day:
                return read(tx, *args, **named)
            question = (read, args, tuple(sorted(named.items())))
            until = cast("date", named["until_day"])
            moves = memory.moves_until(until)
            return memory.recall(question, (), lambda: read(tx, *args, **named), moves=moves)

        return cast("Callable[Concatenate[Transaction, Asked], Found]", asked)

    return mark
