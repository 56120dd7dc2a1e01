"""Statements made ready once, for a SQLite database that one process alone works on.

Holds: :class:`PreparedConnection`, which runs a statement that it has seen before straight on the driver:
its text, the binding of its values and the reading of their values are SQLAlchemy's, made once and kept.
What SQLAlchemy does around every single execution (events, contexts, caches by structure) costs four
times what SQLite itself does, and a time-lapse runs some hundred thousand. Whatever this cannot make ready
(a statement built anew each time, RETURNING, other plain text) goes through SQLAlchemy's own connection, on the same
transaction. Do not add: queries, what may be remembered (``memory``).
"""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final
from weakref import WeakKeyDictionary

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Dialect
from sqlalchemy.exc import DBAPIError
from sqlalchemy.sql.compiler import ExpandedState, SQLCompiler

from warmup_pipeline.store.fetched import Fetched, row_of
from warmup_pipeline.store.memory import Memory, words_of

Values = Mapping[str, Any]
_NO_VALUES: Values = {}
_ROOM: Final = re.compile(r"\s*CREATE TEMPORARY TABLE IF NOT EXISTS\b")
_Process = Callable[[Any], Any] | None


class CannotPrepareError(Exception):
    """A statement that must be made anew for each execution."""


class _Changed:
    """What is known of a statement that gives no rows."""

    def __init__(self, rowcount: int) -> None:
        self.rowcount = rowcount


class Prepared:
    """A statement's text, how its values are bound, and how its rows are read.

    Args:
        statement: made by SQLAlchemy.
        dialect: SQLite's.
        values: those of its first execution: their names say which columns an INSERT has.

    Raises:
        CannotPrepareError: it cannot be made ready once for all executions.
    """

    def __init__(self, statement: Any, dialect: Dialect, values: Values) -> None:
        reads = isinstance(statement, sa.Select)
        selects = _selects(statement)
        if not reads and not (
            isinstance(statement, sa.Insert | sa.Update | sa.Delete)
            and not statement.returning_column_descriptions
        ):
            raise CannotPrepareError
        compiled = statement.compile(
            dialect=dialect, column_keys=None if selects else list(values), for_executemany=not selects
        )
        if not isinstance(compiled, SQLCompiler) or compiled.insert_prefetch or compiled.update_prefetch:
            raise CannotPrepareError
        given_lists = [bind for bind in compiled.post_compile_params if bind.key in values]
        if given_lists and not selects:
            raise CannotPrepareError
        expanded = compiled.construct_expanded_state(dict(values), escape_names=False)
        self.text = expanded.statement
        self.words = words_of(self.text)
        # Elements of lists that are given with each execution: whose list, and which element.
        self._elements = {
            element: (bind.key, place)
            for bind in given_lists
            for place, element in enumerate(expanded.parameter_expansion[compiled.bind_names[bind]])
        }
        self._constant: list[Any] = []
        self._given: list[tuple[int, str, int | None, _Process]] = []
        for name in expanded.positiontup or ():
            self._bind(name, compiled, expanded, dialect, values)
        self.changes = None if reads else statement.table.name
        self.has_one_text = selects and not given_lists
        self._read: list[tuple[int, Callable[[Any], Any]]] = []
        self._names: tuple[str, ...] = ()
        self._row: Callable[[Sequence[Any]], Any] = tuple
        if reads:
            for place, column in enumerate(statement.column_descriptions):
                process = column["type"].dialect_impl(dialect).result_processor(dialect, None)
                if process is not None:
                    self._read.append((place, process))

    def bound(self, values: Values) -> list[Any]:
        """Return the values as the driver takes them, in their order."""
        found = self._constant.copy()
        for place, key, element, process in self._given:
            value = values[key] if element is None else values[key][element]
            found[place] = value if process is None else process(value)
        return found

    def result(self, cursor: sqlite3.Cursor) -> Fetched:
        """Return the rows."""
        if not self._names:
            self._names = tuple(column[0] for column in cursor.description)
            self._row = row_of(self._names)
        rows: list[Any] = cursor.fetchall()
        if self._read:
            rows = [self._values(row) for row in rows]
        return Fetched(self._names, list(map(self._row, rows)))

    def _bind(
        self, name: str, compiled: SQLCompiler, expanded: ExpandedState, dialect: Dialect, values: Values
    ) -> None:
        """Note how the text's next placeholder gets its value: from each execution, or always the same."""
        place = len(self._constant)
        process = expanded.processors.get(name)
        if name in self._elements:
            self._given.append((place, *self._elements[name], process))
            self._constant.append(None)
            return
        bind = compiled.binds.get(name)
        if bind is None:
            # An element of a list that the statement itself holds.
            value = expanded.parameters[name]
        else:
            if bind.callable is not None:
                raise CannotPrepareError
            process = bind.type.dialect_impl(dialect).bind_processor(dialect)
            if bind.required or bind.key in values:
                self._given.append((place, bind.key, None, process))
                self._constant.append(None)
                return
            value = bind.value
        self._constant.append(value if process is None else process(value))

    def _values(self, raw: tuple[Any, ...]) -> list[Any]:
        row = list(raw)
        for place, process in self._read:
            row[place] = process(row[place])
        return row


class PreparedConnection:
    """Stands for SQLAlchemy's connection in one database's transactions.

    Args:
        connection: SQLAlchemy's, for everything that cannot be made ready.
        driver: the driver's connection beneath it.
        memory: is told what is written.
    """

    def __init__(self, connection: Connection, driver: sqlite3.Connection, memory: Memory) -> None:
        self._connection = connection
        self._driver = driver
        self._memory = memory
        self.dialect = connection.dialect
        self._seen: WeakKeyDictionary[Any, Prepared | dict[Any, Prepared | None]] = WeakKeyDictionary()

    def __getattr__(self, name: str) -> Any:
        """Everything else is SQLAlchemy's."""
        return getattr(self._connection, name)

    def execute(self, statement: Any, values: Values | Sequence[Values] | None = None) -> Any:
        """Run a statement, as ``Connection.execute`` does.

        Raises:
            sqlalchemy.exc.DBAPIError: the database refused it.
        """
        first: Values
        several: Sequence[Values] | None = None
        if values is None:
            first = _NO_VALUES
        elif type(values) is dict or isinstance(values, Mapping):
            first = values
        else:
            several = values
            first = values[0] if values else _NO_VALUES
        prepared = self._prepared(statement, first)
        if prepared is None:
            if isinstance(statement, sa.TextClause) and _ROOM.match(statement.text):
                # Nothing is bound or read, and nobody knows anything of the table: it is the connection's own.
                return self._make_room(statement.text)
            return self._connection.execute(statement, values)
        if self._memory.is_holding:
            self._memory.settle(prepared.words)
        cursor = self._driver.cursor()
        try:
            if several is not None:
                cursor.executemany(prepared.text, _all_bound(prepared, several))
            else:
                cursor.execute(prepared.text, prepared.bound(first))
        except sqlite3.Error as error:
            raise self._told(prepared.text, error) from error
        if prepared.changes is None:
            return prepared.result(cursor)
        self._memory.note(prepared.changes, cursor.rowcount)
        return _Changed(cursor.rowcount)

    def _make_room(self, text: str) -> sqlite3.Cursor:
        try:
            return self._driver.execute(text)
        except sqlite3.Error as error:
            raise self._told(text, error) from error

    def _told(self, text: str, error: sqlite3.Error) -> Exception:
        """Return the driver's error as SQLAlchemy tells it."""
        return DBAPIError.instance(
            text, None, error, sqlite3.Error, hide_parameters=True, dialect=self.dialect
        )

    def _prepared(self, statement: Any, values: Values) -> Prepared | None:
        """Return a statement made ready, where it has been seen before and can be."""
        known = self._seen.get(statement)
        if isinstance(known, Prepared):
            return known
        if known is None:
            # One that is made anew each time is not worth it.
            self._seen[statement] = {}
            return None
        shape = _shape_of(statement, values)
        if shape not in known:
            try:
                found = Prepared(statement, self.dialect, values)
            except CannotPrepareError:
                found = None
            known[shape] = found
            if found is not None and found.has_one_text:
                self._seen[statement] = found
        return known[shape]


def _selects(statement: Any) -> bool:
    """Whether a statement is a SELECT, or writes what one finds: its values are that one's."""
    return isinstance(statement, sa.Select) or (
        isinstance(statement, sa.Insert) and statement.select is not None
    )


def _shape_of(statement: Any, values: Values) -> Any:
    """Return what makes another text of the same statement: its columns, or how long its lists are."""
    if not _selects(statement):
        return tuple(values)
    return tuple((key, len(value)) for key, value in values.items() if isinstance(value, list | tuple))


def _all_bound(prepared: Prepared, rows: Sequence[Values]) -> Iterator[list[Any]]:
    return (prepared.bound(row) for row in rows)
