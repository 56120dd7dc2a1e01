"""Not asking twice: what was read of a database that nobody else can write to.

Holds: :class:`Memory`, and :func:`remembered`, which marks the reads that may be answered from it. Only
a database that belongs to one process alone is given a memory (``store.scratch.scratch_store``):
there every write passes this process, and a read whose tables have not been written to since gives
the same rows again. Nor is there anybody who would miss rows that are written anew in every cycle: they are
held back (:meth:`Memory.hold`) until a statement names their table. A database that others may write to has
none, and every read is asked. Do not add: results that depend on anything but the tables named and the
arguments.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import cache, wraps
from typing import Any, Concatenate, Final, ParamSpec, TypeVar, cast

import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.engine import Engine

from warmup_pipeline.store.engine import Transaction

Asked = ParamSpec("Asked")
Found = TypeVar("Found")

_WRITES: Final = re.compile(r"\s*(?:INSERT\s+(?:OR\s+\w+\s+)?INTO|UPDATE|DELETE\s+FROM)\s+\"?(\w+)", re.I)
# A table that one connection alone sees was never read before it was there.
_READS: Final = re.compile(
    r"\s*(?:SELECT|BEGIN|PRAGMA|CREATE\s+TEMPORARY|WITH\b(?!.*\b(?:INSERT\s+INTO|UPDATE|DELETE\s+FROM)\b))",
    re.I | re.S,
)
_WORDS: Final = re.compile(r"\w+")
_MOST: Final = 512

_Rows = dict[tuple[Any, ...], Mapping[str, Any]]
"""Rows by their primary key."""


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
        self._held: dict[str, tuple[sa.Table, _Rows]] = {}
        self._held_before: dict[str, tuple[sa.Table, _Rows]] | None = None
        self._undone_in_part = False
        self.write_held: Callable[[sa.Table, Sequence[Mapping[str, Any]]], None] | None = None
        """Writes rows that were held back, in the open transaction; ``None``: nothing is held back."""
        event.listen(engine, "begin", self.begin)
        event.listen(engine, "commit", self.end)
        event.listen(engine, "rollback", self.end)
        event.listen(engine, "before_cursor_execute", self._before)
        event.listen(engine, "after_cursor_execute", self._note)
        event.listen(engine, "rollback", self.forget)
        event.listen(engine, "savepoint", self._save)
        event.listen(engine, "rollback_savepoint", self.forget)

    def _before(self, _connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        if self._held:
            self.settle(words_of(statement))

    def _save(self, *_: Any) -> None:
        # What may be undone in part is not held back: nobody could say which part of it.
        self.settle()
        self._undone_in_part = True

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
        self._held_before = None

    def end(self, *_: Any) -> None:
        """Note that a transaction is over."""
        self._open -= 1
        if not self._open:
            self._overlap = self._undone_in_part = False

    def undo(self) -> None:
        """Take back what the transaction held back; nothing is known any more."""
        if self._held_before is not None:
            self._held = self._held_before
        self.forget()

    @property
    def is_holding(self) -> bool:
        """Whether rows are held back that no other transaction could see."""
        return bool(self._held)

    def hold(self, table: sa.Table, rows: Sequence[Mapping[str, Any]]) -> bool:
        """Keep rows back that replace those of their primary keys; ``False`` where they must be written now.

        Args:
            table: the table.
            rows: whole rows, all with the same keys.
        """
        if self.write_held is None or self._overlap or self._undone_in_part:
            return False
        self._remember_held()
        keys = _keys_of(table)
        _, held = self._held.get(table.name, (table, {}))
        # A mapping of its own: the one before may have to be gone back to.
        self._held[table.name] = (table, held | {tuple([row[name] for name in keys]): row for row in rows})
        self.note(table.name, len(rows))
        return True

    def _remember_held(self) -> None:
        if self._held_before is None:
            self._held_before = self._held.copy()

    def settle(self, names: Collection[str] | None = None) -> None:
        """Write what is held back of the tables named; of all by default.

        Writing a table may name another one, which is written first then.
        """
        named = [name for name in self._held if names is None or name in names]
        if named:
            self._remember_held()
        for name in named:
            table, rows = self._held.pop(name, (None, {}))
            written = self._written[name]
            if table is not None and self.write_held is not None:
                self.write_held(table, list(rows.values()))
            # What is known of the table was told with these rows.
            self._written[name] = written

    def forget(self, *_: Any) -> None:
        """Rely on nothing that is known any more."""
        self._known.clear()

    def know(self, question: Any, tables: tuple[str, ...], found: Any) -> None:
        """Note what a read of tables would find now; whoever tells it does not change it afterwards."""
        if not self._overlap:
            self._keep(question, (tuple([self._written[name] for name in tables]), found))

    def _keep(self, question: Any, known: tuple[tuple[int, ...], Any]) -> None:
        if len(self._known) >= _MOST:
            self._known.clear()
        self._known[question] = known

    def recall(self, question: Any, tables: tuple[str, ...], ask: Callable[[], Found]) -> Found:
        """Return what is known, or ask and remember.

        Args:
            question: what is asked, hashable.
            tables: an answer is true until one of them is written to.
            ask: asks the database.
        """
        if self._overlap:
            return ask()
        state = tuple([self._written[name] for name in tables])
        known = self._known.get(question)
        if known is None or known[0] != state:
            known = (state, ask())
            self._keep(question, known)
        found = known[1]
        # A list or a mapping may be changed by whoever gets it; a value cannot be.
        return cast("Found", found.copy() if isinstance(found, dict | list | set) else found)


@cache
def _keys_of(table: sa.Table) -> tuple[str, ...]:
    return tuple(column.name for column in table.primary_key)


def words_of(statement: str) -> frozenset[str]:
    """Return the words of a statement's text, among them the names of its tables."""
    return frozenset(_WORDS.findall(statement))


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

        _TABLES[read] = names
        return cast("Callable[Concatenate[Transaction, Asked], Found]", asked)

    return mark


_TABLES: Final[dict[Any, tuple[str, ...]]] = {}
"""What each remembered read depends on."""


def tell(tx: Transaction, read: Callable[..., Found], found: Found, *args: Any) -> None:
    """Tell the memory what a remembered read would find now, just after everything it reads was written.

    Args:
        tx: the transaction.
        read: the read, marked by :func:`remembered`.
        found: what it would give.
        *args: its arguments.
    """
    if tx.memory is not None:
        asked = cast("Any", read).__wrapped__
        tx.memory.know((asked, args, ()), _TABLES[asked], found)
