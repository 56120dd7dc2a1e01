"""How values read on the page: numbers, shares, days.

Holds: one function per kind of value. Do not add: values.
"""

from __future__ import annotations

from datetime import date, datetime
from typing import Any, Final

import pandas as pd

NOTHING: Final = "–"


def number(value: Any) -> str:
    """Return a number with thousands set off, at most two decimals."""
    if pd.isna(value):
        return NOTHING
    if float(value).is_integer():
        return f"{int(value):,}"
    return f"{float(value):,.2f}"


def signed(value: Any) -> str:
    """Return a difference with its sign."""
    if pd.isna(value):
        return NOTHING
    text = number(abs(value))
    return f"−{text}" if value < 0 else f"+{text}" if value > 0 else "0"


def percent(share: Any) -> str:
    """Return a share 0-1 as a percentage with one decimal; never 100 % for anything less than all."""
    if pd.isna(share):
        return NOTHING
    tenths = round(float(share) * 1000)
    if tenths == 1000 and share < 1:
        tenths = 999
    return f"{tenths / 10:g}\u00a0%"


def short_day(day: date) -> str:
    """Return a day as an axis shows it."""
    return f"{day.day} {day:%b}"


def cell(value: Any) -> str:
    """Return a value as a table shows it."""
    if value is None or (not isinstance(value, str) and pd.isna(value)):
        return NOTHING
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, datetime):
        return f"{value:%Y-%m-%d %H:%M}"
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, str):
        return value or NOTHING
    return number(value)


def plural(count: int, one: str, several: str | None = None) -> str:
    """Return a count with its noun."""
    return f"{number(count)} {one if count == 1 else several or one + 's'}"


def clause(parts: list[str]) -> str:
    """Return parts as a list in a sentence."""
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"
