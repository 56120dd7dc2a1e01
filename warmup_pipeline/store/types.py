"""Column types that mean the same on SQLite and PostgreSQL.

Holds: :class:`UtcDateTime`, and :func:`one_of` for columns whose values are an enum of the domain.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from enum import StrEnum
from functools import lru_cache
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.engine import Dialect


class UtcDateTime(sa.TypeDecorator[datetime]):
    """An instant, kept in UTC. Takes and gives aware datetimes only.

    SQLite has no zone and would give back naive values; PostgreSQL gives aware ones.
    """

    impl = sa.DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Refuse a naive datetime; convert to UTC."""
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError("a time without a zone cannot be stored")
        utc = value.astimezone(UTC)
        return utc.replace(tzinfo=None) if dialect.name == "sqlite" else utc

    def bind_processor(self, dialect: Dialect) -> Callable[[Any], Any] | None:
        """Return what makes a stored value. On SQLite the text that SQLAlchemy stores, made in one step."""
        return _to_text if dialect.name == "sqlite" else super().bind_processor(dialect)

    def result_processor(self, dialect: Dialect, coltype: object) -> Callable[[Any], Any] | None:
        """Return what reads a stored value. On SQLite from that text, in one step.

        PostgreSQL's driver gives instants in the session's zone, which is UTC (``engine``).
        """
        return _from_text if dialect.name == "sqlite" else _in_utc

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Give back an aware datetime in UTC."""
        return _in_utc(value)


_REMEMBERED: Final = 65_536
"""Instants whose text is remembered: a cycle reads the same ones of each chip again and again, and thousands
of rows have its tick. Remembering takes a tenth of what making and reading the text does."""


def _in_utc(value: datetime | None) -> datetime | None:
    if value is None or value.tzinfo is UTC:
        return value
    return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


def _to_text(value: datetime | None) -> str | None:
    if value is None:
        return None
    if value.tzinfo is UTC:
        return _text_of(value)
    if value.tzinfo is None:
        raise ValueError("a time without a zone cannot be stored")
    # In a zone, the two instants of an hour that comes twice equal each other: they are no key.
    return _text_of(value.astimezone(UTC))


def utc_text(value: datetime) -> str:
    """Return an instant as PostgreSQL reads it.

    Raises:
        ValueError: it has no time zone.
    """
    return f"{_to_text(value)}+00"


@lru_cache(maxsize=_REMEMBERED)
def _text_of(utc: datetime) -> str:
    return utc.replace(tzinfo=None).isoformat(" ", "microseconds")


def _from_text(value: str | None) -> datetime | None:
    return None if value is None else _instant_of(value)


@lru_cache(maxsize=_REMEMBERED)
def _instant_of(value: str) -> datetime:
    return datetime.fromisoformat(value + "+00:00")


def forget_instants() -> None:
    """Remember no instant's text any more: for whoever goes through days that do not come back."""
    _text_of.cache_clear()
    _instant_of.cache_clear()


def one_of(column: str, values: type[StrEnum]) -> sa.CheckConstraint:
    """Return the constraint that ``column`` holds a value of the enum ``values``."""
    words = ", ".join(f"'{v.value}'" for v in values)
    return sa.CheckConstraint(f"{column} IN ({words})", name=f"{column}_known")


class _Document(sa.TypeDecorator[Any]):
    """JSON, of which an empty document is made without an encoder: most counts by reason are empty."""

    impl = sa.JSON
    cache_ok = True

    def bind_processor(self, dialect: Dialect) -> Callable[[Any], Any] | None:
        """Return what makes a stored value."""
        make = super().bind_processor(dialect)
        if make is None:
            return None
        empty = make({})
        return lambda value: empty if value == {} else make(value)


JsonDocument = _Document()
"""A small document: counts by reason, parts of a score. Never a list that grows."""

Json = dict[str, Any]
