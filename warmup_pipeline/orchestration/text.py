"""Tables as the UI's Markdown shows them.

Holds: :func:`markdown_table`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime


def markdown_table(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Return a Markdown table; nothing in a cell can end the cell, the row or the table."""
    lines = [header, ["---"] * len(header), *([_cell(value) for value in row] for row in rows)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _cell(value: object) -> str:
    if value is None:
        return "–"
    if isinstance(value, datetime):
        text = f"{value:%Y-%m-%d %H:%M}"
    else:
        text = f"{value:g}" if isinstance(value, float) else str(value)
    return " ".join(text.split()).replace("|", "\\|").replace("<", "&lt;")
