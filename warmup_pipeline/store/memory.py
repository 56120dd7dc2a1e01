"""Not asking twice: what was read of a database that nobody else can write to.

Holds: :class:`Memory`, and :func:`remembered`, which marks the reads that may be answered from it. Only
a database that belongs to one process alone is given a memory (``store.timelapse.scratch_store``):
there every write passes this process, and a read whose tables have not been written to since gives
the same rows again. A database that others may write to has none, and every read is asked. Do not
add: results that depend on anything but the tables named and the arguments.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from copy import copy
from functools import wraps
from typing import Any, Concatenate, Final, ParamSpec, TypeVar, cast

import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.engine import Engine

from warmup_pipeline.store.engine import Transaction

Asked = ParamSpec("Asked")
Found = TypeVar("Found")

_WRITES: Final = re.compile(r"\s*(?:INSERT\s+(?:OR\s+\w+\s+)?INTO|UPDATE|DELETE\s+FROM)\s+\"?(\w+)", re.I)
_MOST: Final = 512


class Memory:
    """What was read of one engine's database, as long as it is true.

    Args:
        engine: its only writer.
    """

    def __init__(self, engine: Engine) -> None:
        self._written: Counter[str] = Counter()
        self._known: dict[Any, tuple[tuple[int, ...], Any]] = {}
        self._open = 0
        self._overlap = False
        event.listen(engine, "begin", self._begin)
        event.listen(engine, "commit", self._end)
        event.listen(engine, "rollback", self._end)
        event.listen(engine, "after_cursor_execute", self._note)
        event.listen(engine, "rollback", self._forget)
        event.listen(engine, "rollback_savepoint", self._forget)

    def _note(self, _connection: Any, cursor: Any, statement: str, *_: Any) -> None:
        written = _WRITES.match(statement)
        if written is not None:
            # A statement that found no row has changed nothing; where the driver cannot tell, it has.
            self._written[written[1]] += cursor.rowcount != 0
        elif not statement.lstrip().upper().startswith(("SELECT", "BEGIN", "PRAGMA")):
            # Something else: whatever it does, nothing known is relied on any more.
            self._forget()

    def _begin(self, _connection: Any) -> None:
        self._open += 1
        # What two transactions at once see of each other depends on when each began: nothing is
        # remembered or recalled until both are over.
        self._overlap = self._overlap or self._open > 1

    def _end(self, _connection: Any) -> None:
        self._open -= 1
        if not self._open:
            self._overlap = False

    def _forget(self, *_: Any) -> None:
        self._known.clear()

    def recall(self, question: Any, tables: tuple[str, ...], ask: Callable[[], Found]) -> Found:
        """Return what is known, or ask and remember."""
        if self._overlap:
            return ask()
        state = tuple(self._written[name] for name in tables)
        known = self._known.get(question)
        if known is None or known[0] != state:
            if len(self._known) >= _MOST:
                self._known.clear()
            known = self._known[question] = (state, ask())
        found: Found = copy(known[1])
        return found


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
