"""Thousands of values as one parameter: a text, which both databases take apart themselves.

Holds: :func:`array_text`, a column's values as the text of a PostgreSQL array; :class:`Ids` and :func:`among`, the
condition that a column has one of many ids. One text for thousands of values costs a tenth of what the driver takes
to look at each of them. Source: PostgreSQL's documentation, "Array Input and Output Syntax".
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from datetime import date
from functools import lru_cache
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.engine import Dialect
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import GenericFunction

from warmup_pipeline.store.types import UtcDateTime, utc_text

_DAYS_REMEMBERED: Final = 4_096


def array_text(kind: sa.types.TypeEngine[Any], values: Sequence[Any]) -> str:
    """Return values of a column's type as an array of them; ``None`` is SQL's NULL.

    Raises:
        ValueError: an instant has no time zone.
    """
    write = _WRITERS.get(type(kind))
    if write is not None:
        return "{" + ",".join(["NULL" if value is None else write(value) for value in values]) + "}"
    return _quoted(values)


def _quoted(values: Sequence[Any]) -> str:
    try:
        # Ids and words, as nearly always: neither empty places among them nor anything that is to be escaped.
        joined = '","'.join(values)
    except TypeError:
        pass
    else:
        if "\\" not in joined and joined.count('"') == 2 * (len(values) - 1):
            return '{"' + joined + '"}' if values else "{}"
    return "{" + ",".join(["NULL" if value is None else _escaped(value) for value in values]) + "}"


def _escaped(value: str) -> str:
    return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'


@lru_cache(maxsize=_DAYS_REMEMBERED)
def _day(value: date) -> str:
    return value.isoformat()


_WRITERS: Final[dict[type[sa.types.TypeEngine[Any]], Callable[[Any], str]]] = {
    sa.Integer: str,
    sa.BigInteger: str,
    sa.Boolean: str,
    # Of a whole number, too, that stands for one.
    sa.Float: str,
    sa.Date: _day,
    UtcDateTime: utc_text,
}
"""What writes a value of a type whose text needs no quotes."""


class Ids(sa.TypeDecorator[Sequence[str]]):
    """Any number of ids as one parameter."""

    impl = sa.Text
    cache_ok = True

    def process_bind_param(self, value: Sequence[str] | None, dialect: Dialect) -> str:
        """Return the text that the database takes them out of."""
        ids = list(value or ())
        return array_text(sa.Text(), ids) if dialect.name == "postgresql" else json.dumps(ids)


class each_of(GenericFunction[str]):  # noqa: N801 (a SQL function: named as it stands in SQL)
    """The query for the ids in a parameter of the type :class:`Ids`, each a row."""

    inherit_cache = True


@compiles(each_of, "sqlite")
def _each_of_sqlite(element: each_of, compiler: SQLCompiler, **kw: Any) -> str:
    ids = compiler.process(element.clauses, **kw)
    return f"(SELECT value FROM json_each({ids}))"  # noqa: S608 (a parameter)


@compiles(each_of, "postgresql")
def _each_of_postgresql(element: each_of, compiler: SQLCompiler, **kw: Any) -> str:
    # As rows: each row of the table would be compared with one member of an array after the other.
    return "(SELECT unnest(CAST(" + compiler.process(element.clauses, **kw) + " AS TEXT[])))"


def among(
    column: sa.ColumnElement[str], ids: sa.BindParameter[Sequence[str]] | Sequence[str]
) -> sa.ColumnElement[bool]:
    """Return the condition that a column has one of some ids: of a parameter of the type :class:`Ids`, or of these."""
    given = ids if isinstance(ids, sa.BindParameter) else sa.literal(ids, Ids())
    return column.bool_op("IN")(each_of(given))
