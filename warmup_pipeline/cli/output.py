"""How results look: tables, colours of states, JSON.

Holds: :func:`table`, :func:`emit_json`, colours and times as people read them. Add here: how a
further kind of value is shown. Do not add: what is shown.

Colours are left out by click where the output is no terminal, and by ``NO_COLOR``.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, Final
from zoneinfo import ZoneInfo

import click

from warmup_pipeline.domain.privacy import Redactor

_COLOURS: Final[Mapping[str, str]] = {
    "healthy": "green",
    "degraded": "yellow",
    "critical": "red",
    "pass": "green",
    "warn": "yellow",
    "fail": "red",
    "open": "green",
    "closed": "red",
    "connecting": "yellow",
    "verde": "green",
    "amarelo": "yellow",
    "laranja": "yellow",
    "vermelho": "red",
    "critico": "red",
    "warming": "green",
    "ready": "green",
    "active": "green",
    "banned": "red",
    "paused": "yellow",
}


def coloured(word: str) -> str:
    """Return a state in its colour; other words as they are."""
    colour = _COLOURS.get(word)
    return click.style(word, fg=colour) if colour else word


def heading(text: str) -> None:
    """Begin a section."""
    click.echo()
    click.secho(text, bold=True)


def table(header: Sequence[str], rows: Iterable[Sequence[object]], *, indent: str = "  ") -> None:
    """Print rows in columns as wide as their longest cell; ``None`` shows as a dash."""
    cells = [["–" if cell is None else str(cell) for cell in row] for row in rows]
    widths = [max(len(click.unstyle(row[i])) for row in [list(header), *cells]) for i in range(len(header))]
    click.echo(indent + click.style(_line(header, widths), dim=True))
    for row in cells:
        click.echo(indent + _line(row, widths))


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    padded = (
        cell + " " * (width - len(click.unstyle(cell))) for cell, width in zip(cells, widths, strict=True)
    )
    return "  ".join(padded).rstrip()


def emit_json(document: Any) -> None:
    """Print a document as JSON, and nothing else, on standard output."""
    click.echo(json.dumps(document, ensure_ascii=False, indent=2, default=_plain))


def _plain(value: object) -> object:
    return value.isoformat() if isinstance(value, datetime) else str(value)


def named(name: str | None) -> str | None:
    """Return an operator's name for a chip as it may be shown: some name an instance by its phone number."""
    return None if name is None else Redactor().text(name)


def shown_time(at: datetime | None, zone: ZoneInfo) -> str | None:
    """Return an instant in local time, to the minute."""
    return None if at is None else f"{at.astimezone(zone):%Y-%m-%d %H:%M}"


def percent(share: float | None) -> str:
    """Return a fraction as a percentage."""
    return "–" if share is None else f"{share:.1%}"


def number(value: float | None) -> str:
    """Return a number without needless decimals."""
    return "–" if value is None else f"{value:.2f}".rstrip("0").rstrip(".")
