"""Writing many rows in few statements.

Holds: :func:`insert_rows`, :func:`update_rows`, :func:`upsert_rows`, :func:`replace_rows`; :func:`write_changed`, which
leaves alone what is there already, and :func:`stamp`; :class:`Columns`, rows that are kept column by column. One
statement carries up to ``ROWS_PER_STATEMENT`` rows or more: a query per chip is a bug here.

PostgreSQL gets the rows of a statement as an array of each column's values: one round trip, and a text that is
made once, which a list of values is not. SQLite is in
this process, where a round trip costs nothing and making the text of a long list costs more than the
work itself: it gets one short statement, prepared once, with many sets of parameters, past SQLAlchemy's
own handling of each row, which costs several times what SQLite does.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import repeat
from typing import Any, overload

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from warmup_pipeline.store.arrays import array_text
from warmup_pipeline.store.engine import ROWS_PER_STATEMENT, Transaction
from warmup_pipeline.store.types import JsonDocument

Row = Mapping[str, Any]


class Columns(Sequence[Row]):
    """Rows that are kept column by column: whoever makes or compares thousands of them touches no row by itself.

    Args:
        by_name: the values of each column, as many of each.
    """

    def __init__(self, by_name: Mapping[str, Sequence[Any]]) -> None:
        self.by_name = by_name

    @classmethod
    def of(cls, names: Sequence[str], rows: Sequence[Sequence[Any]]) -> Columns:
        """Return rows that were made as sequences of their values, in the order of the columns' names."""
        return cls(dict(zip(names, zip(*rows, strict=True), strict=True)) if rows else {})

    def __len__(self) -> int:
        return len(next(iter(self.by_name.values()), ()))

    @overload
    def __getitem__(self, place: int) -> Row: ...

    @overload
    def __getitem__(self, place: slice) -> Columns: ...

    def __getitem__(self, place: int | slice) -> Row | Columns:
        """Return one row, or some rows."""
        if isinstance(place, slice):
            return Columns({name: column[place] for name, column in self.by_name.items()})
        if not self.by_name:
            raise IndexError(place)
        return {name: column[place] for name, column in self.by_name.items()}

    def __iter__(self) -> Iterator[Row]:
        names = tuple(self.by_name)
        return (dict(zip(names, row, strict=True)) for row in zip(*self.by_name.values(), strict=True))


def column_of(rows: Sequence[Row], name: str) -> Sequence[Any]:
    """Return the values that rows have in a column."""
    return rows.by_name[name] if isinstance(rows, Columns) else [row[name] for row in rows]


def _those(rows: Sequence[Row], places: Sequence[int]) -> Sequence[Row]:
    if isinstance(rows, Columns):
        return Columns({name: [column[at] for at in places] for name, column in rows.by_name.items()})
    return [rows[at] for at in places]


ROWS_IN_ARRAYS = 5_000
"""Rows of one statement on PostgreSQL, which has one parameter a column, however many rows there are."""


def _chunks(tx: Transaction, rows: Sequence[Row]) -> Iterator[Sequence[Row]]:
    most = ROWS_PER_STATEMENT if _is_sqlite(tx) else ROWS_IN_ARRAYS
    for start in range(0, len(rows), most):
        yield rows[start : start + most]


def _is_sqlite(tx: Transaction) -> bool:
    return tx.connection.dialect.name == "sqlite"


@dataclass(frozen=True, slots=True)
class _Prepared:
    """A statement as SQLite's driver takes it, and how each of its values is made of a row.

    Attributes:
        statement: SQLAlchemy's own, and the row's column by the name of each parameter of it.
        text: the statement, with a question mark for each value.
        values: for each of them the row's column (``None`` for a value that is always the same), what
            makes a stored value of it (``None``: it is one), and that constant.
    """

    statement: sa.Insert | sa.Update
    columns: Mapping[str, str]
    text: str
    values: tuple[tuple[str | None, Callable[[Any], Any] | None, Any], ...]

    def run(self, tx: Transaction, rows: Sequence[Row]) -> int:
        """Run it for every row; returns how many rows of the table were met."""
        if tx.memory is not None:
            # Its connection makes statements ready itself (``prepared``), and tells the memory of them.
            given = [{name: row[column] for name, column in self.columns.items()} for row in rows]
            return int(tx.connection.execute(self.statement, given).rowcount)
        return int(tx.connection.exec_driver_sql(self.text, self.made_of(rows)).rowcount)

    def made_of(self, rows: Sequence[Row]) -> list[tuple[Any, ...]]:
        """Return the values of each row as they are stored."""
        # Column by column, in which nothing is decided for each value.
        columns: list[Iterable[Any]] = []
        for name, make, constant in self.values:
            if name is None:
                columns.append(repeat(constant, len(rows)))
            else:
                column = column_of(rows, name)
                columns.append(column if make is None else map(make, column))
        return list(zip(*columns, strict=True))


_FLAGS = {True: 1, False: 0, None: None}
_DAYS_REMEMBERED = 4_096


def _quick(kind: sa.types.TypeEngine[Any], make: Callable[[Any], Any] | None) -> Callable[[Any], Any] | None:
    """Return what makes the same of a value of a kind of which thousands of rows have few different ones."""
    if isinstance(kind, sa.Boolean):
        return _FLAGS.__getitem__
    if isinstance(kind, sa.Date) and make is not None:
        return lru_cache(maxsize=_DAYS_REMEMBERED)(make)
    return make


def _prepared(statement: sa.Insert | sa.Update, columns: Mapping[str, sa.Column[Any]]) -> _Prepared:
    """Prepare a statement.

    Args:
        statement: the statement.
        columns: the table's column by the name of the parameter that stands for a row's value of it.
    """
    dialect = sqlite.dialect()
    compiled = statement.compile(dialect=dialect)
    values: list[tuple[str | None, Callable[[Any], Any] | None, Any]] = []
    for parameter in compiled.positiontup or ():
        kind = columns[parameter].type if parameter in columns else compiled.binds[parameter].type
        make = _quick(kind, kind.dialect_impl(dialect).bind_processor(dialect))
        if parameter in columns:
            values.append((columns[parameter].name, make, None))
        else:
            fixed = compiled.params[parameter]
            values.append((None, None, fixed if make is None else make(fixed)))
    named = {parameter: column.name for parameter, column in columns.items()}
    return _Prepared(statement, named, str(compiled), tuple(values))


@lru_cache(maxsize=256)
def _sqlite_insert(table: sa.Table, names: tuple[str, ...], *, only_new: bool) -> _Prepared:
    columns = {name: table.c[name] for name in names}
    statement = sqlite.insert(table).values(
        {name: sa.bindparam(name, type_=table.c[name].type) for name in names}
    )
    return _prepared(statement.on_conflict_do_nothing() if only_new else statement, columns)


@lru_cache(maxsize=128)
def _sqlite_upsert(table: sa.Table, names: tuple[str, ...]) -> _Prepared:
    keys = [column.name for column in table.primary_key]
    statement = sqlite.insert(table).values(
        {name: sa.bindparam(name, type_=table.c[name].type) for name in names}
    )
    changed = {name: statement.excluded[name] for name in names if name not in keys}
    return _prepared(
        statement.on_conflict_do_update(index_elements=keys, set_=changed),
        {name: table.c[name] for name in names},
    )


def _item(column: sa.Column[Any]) -> sa.types.TypeEngine[Any]:
    """Return the type that values of a column have in an array."""
    if isinstance(column.type, sa.String):
        # Not as long as the column: a cast would cut what is too long, which is refused as it is.
        return sa.Text()
    if isinstance(column.type, type(JsonDocument)):
        return sa.Text()
    return column.type


def _documents(column: Sequence[Any]) -> list[str]:
    """Return documents as their text; one that is a text was made before."""
    return [one if type(one) is str else "{}" if one == {} else json.dumps(one) for one in column]


def _plain(column: Sequence[Any]) -> list[Any]:
    """Return texts without the enum that a word may be a member of, which is found under another key."""
    return [one if one is None or type(one) is str else str.__str__(one) for one in column]


def _given_values(table: sa.Table, rows: Sequence[Row]) -> dict[str, str]:
    """Return the parameters of a statement on :func:`_given` rows: an array of each column's values."""
    given = {}
    for name in rows[0]:
        column = column_of(rows, name)
        if isinstance(table.c[name].type, type(JsonDocument)):
            column = _documents(column)
        given[f"given_{name}"] = array_text(_item(table.c[name]), column)
    return given


@lru_cache(maxsize=256)
def _given(table: sa.Table, names: tuple[str, ...]) -> sa.TableValuedAlias:
    """Return rows as PostgreSQL makes them of arrays: a text that is the same however many they are."""
    arrays = [
        sa.cast(
            sa.bindparam(f"given_{name}", type_=sa.Text()),
            postgresql.ARRAY(_item(table.c[name]), dimensions=1),
        )
        for name in names
    ]
    columns = [sa.column(name, _item(table.c[name])) for name in names]
    return sa.func.unnest(*arrays).table_valued(*columns, name="given").render_derived()


def _taken(table: sa.Table, given: sa.TableValuedAlias, name: str) -> sa.ColumnElement[Any]:
    is_document = isinstance(table.c[name].type, type(JsonDocument))
    return sa.cast(given.c[name], postgresql.JSON) if is_document else given.c[name]


@lru_cache(maxsize=256)
def _postgresql_insert(table: sa.Table, names: tuple[str, ...]) -> postgresql.Insert:
    given = _given(table, names)
    rows = sa.select(*(_taken(table, given, name) for name in names))
    return postgresql.insert(table).from_select(list(names), rows)


@lru_cache(maxsize=128)
def _postgresql_upsert(table: sa.Table, names: tuple[str, ...]) -> postgresql.Insert:
    keys = [column.name for column in table.primary_key]
    statement = _postgresql_insert(table, names)
    changed = {name: statement.excluded[name] for name in names if name not in keys}
    return statement.on_conflict_do_update(index_elements=keys, set_=changed)


def insert_rows(tx: Transaction, table: sa.Table, rows: Sequence[Row]) -> None:
    """Insert rows that all have the same keys."""
    for chunk in _chunks(tx, rows):
        if _is_sqlite(tx):
            _sqlite_insert(table, tuple(chunk[0]), only_new=False).run(tx, chunk)
        else:
            tx.connection.execute(_postgresql_insert(table, tuple(chunk[0])), _given_values(table, chunk))


def insert_new_rows(tx: Transaction, table: sa.Table, rows: Sequence[Row]) -> None:
    """Insert rows; one whose primary key or unique key exists already is left as it is."""
    for chunk in _chunks(tx, rows):
        if _is_sqlite(tx):
            _sqlite_insert(table, tuple(chunk[0]), only_new=True).run(tx, chunk)
        else:
            statement = _postgresql_insert(table, tuple(chunk[0])).on_conflict_do_nothing()
            tx.connection.execute(statement, _given_values(table, chunk))


def upsert_rows(tx: Transaction, table: sa.Table, rows: Sequence[Row]) -> None:
    """Insert rows, or replace what stands under the same primary key."""
    for chunk in _chunks(tx, rows):
        if _is_sqlite(tx):
            _sqlite_upsert(table, tuple(chunk[0])).run(tx, chunk)
        else:
            tx.connection.execute(_postgresql_upsert(table, tuple(chunk[0])), _given_values(table, chunk))


def replace_rows(tx: Transaction, table: sa.Table, rows: Sequence[Row]) -> None:
    """Insert or replace rows that are written anew in every cycle.

    A database of one process alone writes them when a statement names the table (``memory``).
    """
    if rows and not (tx.memory is not None and tx.memory.hold(table, rows)):
        upsert_rows(tx, table, rows)


@dataclass(frozen=True, slots=True, eq=False)
class _Condition:
    """A condition that is the same as another only if it is the same object: ``==`` would make SQL."""

    of: sa.ColumnElement[bool] | None

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Condition) and self.of is other.of

    def __hash__(self) -> int:
        return id(self.of)


@lru_cache(maxsize=256)
def _sqlite_update(
    table: sa.Table, names: tuple[str, ...], keys: tuple[str, ...], where: _Condition
) -> _Prepared:
    statement = (
        sa.update(table)
        .where(*(table.c[key] == sa.bindparam(f"new_{key}", type_=table.c[key].type) for key in keys))
        .values({n: sa.bindparam(f"new_{n}", type_=table.c[n].type) for n in names if n not in keys})
    )
    if where.of is not None:
        statement = statement.where(where.of)
    return _prepared(statement, {f"new_{name}": table.c[name] for name in names})


@lru_cache(maxsize=256)
def _postgresql_update(
    table: sa.Table, names: tuple[str, ...], keys: tuple[str, ...], where: _Condition
) -> sa.Update:
    given = _given(table, names)
    statement = (
        sa.update(table)
        .values({name: _taken(table, given, name) for name in names if name not in keys})
        .where(*(table.c[key] == given.c[key] for key in keys))
    )
    if where.of is None:
        return statement
    # The row is found by its key, and asked then. The bare condition would let PostgreSQL look through all rows
    # that meet it instead, of which it knows too few where they are new: once for each batch of them.
    return statement.where(sa.case((where.of, sa.true()), else_=sa.false()))


def update_rows(
    tx: Transaction,
    table: sa.Table,
    rows: Sequence[Row],
    *,
    key: str = "id",
    where: sa.ColumnElement[bool] | None = None,
) -> int:
    """Set columns of many rows, each to its own values; returns how many rows there were to change.

    Args:
        tx: the transaction.
        table: the table.
        rows: all with the same keys: ``key`` and the columns to set.
        key: the column that finds the row.
        where: a further condition on the table's row, without IN; a row that does not meet it is left alone.
    """
    changed = 0
    for chunk in _chunks(tx, rows):
        names = tuple(chunk[0])
        if _is_sqlite(tx):
            changed += _sqlite_update(table, names, (key,), _Condition(where)).run(tx, chunk)
            continue
        statement = _postgresql_update(table, names, (key,), _Condition(where))
        changed += int(tx.connection.execute(statement, _given_values(table, chunk)).rowcount)
    return changed


def write_changed(
    tx: Transaction,
    table: sa.Table,
    rows: Sequence[Row],
    *,
    within: sa.ColumnElement[bool],
    stamps: Mapping[str, Any],
    whole: bool = False,
    stamped: bool = True,
    asked: bool = True,
) -> int:
    """Write the rows that are not there already, as they are, and stamp the others; returns how many were written.

    What is derived in every cycle is mostly what it was in the cycle before. Reading it and stamping it by
    one statement costs less than writing it again, on PostgreSQL by far.

    Args:
        tx: the transaction.
        table: the table.
        rows: all with the same keys, the stamps among them.
        within: the condition that these rows hold, and those that they take the place of.
        stamps: columns that say when it was derived, with their value: they make no row another one.
        whole: remove rows within that are not among these.
        stamped: stamp those that are as they were; ``False``: the caller does that, with others, or leaves them so.
        asked: ``False``: nearly all of them are other rows than before. PostgreSQL is not asked which, but given all.
    """
    if tx.memory is not None:
        # Nothing waits for the disk there, and asking costs as much as writing.
        if whole:
            tx.connection.execute(sa.delete(table).where(within))
            insert_rows(tx, table, rows)
        else:
            replace_rows(tx, table, rows)
        return len(rows)
    if not rows:
        if whole:
            tx.connection.execute(sa.delete(table).where(within))
        return 0
    if not (asked or whole or _is_sqlite(tx)):
        upsert_rows(tx, table, rows)
        return len(rows)
    names = tuple(rows[0])
    keys = tuple(column.name for column in table.primary_key)
    said = tuple(name for name in names if name not in {*keys, *stamps})
    # As they are stored, of which nothing need be made: neither a date nor a document.
    raw = [_as_stored(tx, table.c[name]) for name in (*keys, *said)]
    given = _columns_as_stored(tx, table, rows, (*keys, *said))
    if not _is_sqlite(tx):
        given |= {name: _plain(given[name]) for name in keys if isinstance(table.c[name].type, sa.String)}
    there = list(zip(*tx.connection.execute(sa.select(*raw).where(within)).all(), strict=True))
    stored = dict(
        zip(zip(*there[: len(keys)], strict=True), zip(*there[len(keys) :], strict=True), strict=True)
    )
    # Column by column and list by list, in which nothing is decided for each of thousands of rows.
    of_keys = list(zip(*(given[name] for name in keys), strict=True))
    before = list(map(stored.get, of_keys))
    now = zip(*(given[name] for name in said), strict=True)
    added = [place for place, old in enumerate(before) if old is None]
    changed = [
        place for place, (old, new) in enumerate(zip(before, now, strict=True)) if old not in (None, new)
    ]
    if whole:
        _delete(tx, raw[: len(keys)], sorted(stored.keys() - set(of_keys)), table)
    if _is_sqlite(tx):
        # A chip that came from another pool has its row there. What is known to be here is not asked for again.
        upsert_rows(tx, table, _those(rows, added))
    else:
        # Each is found by its key: an update by arrays is a join, for which all days that a table has are read.
        stamping = {name: column_of(rows, name) for name in stamps}
        upsert_rows(tx, table, _those(Columns(given | stamping), sorted((*added, *changed))))
    if changed and _is_sqlite(tx):
        columns: dict[str, Sequence[Any]] = {
            name: [given[name][place] for place in changed] for name in (*keys, *said)
        }
        # A column of which nothing changes is left out: it would be taken out of its index and put in again.
        for name, old in zip(said, zip(*(before[place] for place in changed), strict=True), strict=True):
            if list(old) == columns[name]:
                del columns[name]
        fixed = _columns_as_stored(tx, table, rows[:1], tuple(stamps))
        columns |= {name: [*column] * len(changed) for name, column in fixed.items()}
        update = _sqlite_update(table, tuple(columns), keys, _Condition(None))
        values = [columns[str(name)] for name, _, _ in update.values]
        tx.connection.exec_driver_sql(update.text, list(zip(*values, strict=True)))
    if stamped and len(added) + len(changed) < len(rows):
        stamp(tx, table, within=within, stamps=stamps)
    return len(added) + len(changed)


def stamp(
    tx: Transaction, table: sa.Table, *, within: sa.ColumnElement[bool], stamps: Mapping[str, Any]
) -> None:
    """Set columns of all rows within; one that says so already is not written again."""
    other = sa.or_(*(table.c[name].is_distinct_from(value) for name, value in stamps.items()))
    tx.connection.execute(sa.update(table).where(within, other).values(**stamps))


def _as_stored(tx: Transaction, column: sa.Column[Any]) -> sa.ColumnElement[Any]:
    """Return a column of which a query gives the values that :func:`_columns_as_stored` makes."""
    if _is_sqlite(tx):
        return sa.type_coerce(column, sa.types.NullType())
    return sa.cast(column, sa.Text) if isinstance(column.type, type(JsonDocument)) else column


def _columns_as_stored(
    tx: Transaction, table: sa.Table, rows: Sequence[Row], names: tuple[str, ...]
) -> dict[str, Sequence[Any]]:
    """Return the values that rows have in some columns, column by column."""
    columns: dict[str, Sequence[Any]] = {name: column_of(rows, name) for name in names}
    if _is_sqlite(tx):
        makers = _sqlite_makers(table, names)
        return {
            name: columns[name] if make is None else list(map(make, columns[name])) for name, make in makers
        }
    return {
        name: _documents(column) if isinstance(table.c[name].type, type(JsonDocument)) else column
        for name, column in columns.items()
    }


@lru_cache(maxsize=256)
def _sqlite_makers(
    table: sa.Table, names: tuple[str, ...]
) -> tuple[tuple[str, Callable[[Any], Any] | None], ...]:
    dialect = sqlite.dialect()
    kinds = [(name, table.c[name].type) for name in names]
    return tuple(
        (name, _quick(kind, kind.dialect_impl(dialect).bind_processor(dialect))) for name, kind in kinds
    )


def _delete(tx: Transaction, keys: Sequence[Any], gone: Sequence[Any], table: sa.Table) -> None:
    for start in range(0, len(gone), ROWS_PER_STATEMENT):
        named = sa.tuple_(*keys).in_(gone[start : start + ROWS_PER_STATEMENT])
        tx.connection.execute(sa.delete(table).where(named))
