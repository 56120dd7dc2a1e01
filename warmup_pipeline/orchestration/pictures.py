"""Small pictures for an asset's page, where people would rather look than read.

Holds: the phase ladder (``phase_transitions``), sends against limits (``messages``) and who talks with
whom (``pairings``), as SVG in Markdown. Add here: a further asset's picture, as a function and its line in
:data:`_PICTURES`. Do not add: queries (``store.preview``).

Each is a few kilobytes, for Dagster keeps every one of them: at most :data:`CHIPS` chips are drawn.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping
from datetime import timedelta
from html import escape
from typing import Final

from warmup_pipeline.domain.values import Phase
from warmup_pipeline.store import preview
from warmup_pipeline.store.cycles import Cycle
from warmup_pipeline.store.engine import Transaction

CHIPS: Final = 24
"""Chips a picture shows; what is fullest or most frequent comes first."""

_PAIR_DAYS: Final = 7
_FONT: Final = "font-family='sans-serif' font-size='12'"
_INK, _PALE, _FILL, _FULL, _REST = "#3b3b58", "#e6e6f0", "#5b53d6", "#c0392b", "#b9b7d8"


def of_asset(tx: Transaction, name: str, cycle: Cycle) -> str | None:
    """Return an asset's picture as Markdown, ``None`` for one that has none or nothing to show."""
    draw = _PICTURES.get(name)
    drawn = draw(tx, cycle) if draw is not None else None
    if drawn is None:
        return None
    svg, words = drawn
    data = base64.b64encode(svg.encode()).decode()
    return f"![{words}](data:image/svg+xml;base64,{data})"


def _svg(width: int, height: int, body: list[str], title: str) -> tuple[str, str]:
    return (
        (
            f"<svg xmlns='http://www.w3.org/2000/svg' width='{width}' height='{height}' "
            f"viewBox='0 0 {width} {height}'><title>{escape(title)}</title>"
            f"<rect width='100%' height='100%' fill='#fff'/>{''.join(body)}</svg>"
        ),
        title,
    )


def _text(x: float, y: float, words: str, *, anchor: str = "start", fill: str = _INK) -> str:
    return f"<text x='{x:g}' y='{y:g}' {_FONT} fill='{fill}' text-anchor='{anchor}'>{escape(words)}</text>"


def _box(x: float, y: float, width: float, height: float, fill: str) -> str:
    return f"<rect x='{x:g}' y='{y:g}' width='{width:g}' height='{height:g}' rx='2' fill='{fill}'/>"


def _phase_ladder(tx: Transaction, cycle: Cycle) -> tuple[str, str] | None:
    """Draw how many chips stand in each phase, a step per phase."""
    found = preview.chips_by_phase(tx, cycle.pool)
    if not found:
        return None
    part = {phase: sum(n for p, takes, n in found if p == phase and takes) for phase in Phase}
    rest = {phase: sum(n for p, takes, n in found if p == phase and not takes) for phase in Phase}
    most = max(part[phase] + rest[phase] for phase in Phase)
    body = []
    for row, phase in enumerate(reversed(Phase)):
        y = 8 + row * 24
        taking, resting = 300 * part[phase] / most, 300 * rest[phase] / most
        body += [
            _text(140, y + 14, phase.value, anchor="end"),
            _box(150, y, max(taking, 1), 18, _FILL),
            _box(150 + taking, y, resting, 18, _REST),
            _text(
                158 + taking + resting,
                y + 14,
                f"{part[phase]}" + (f" + {rest[phase]}" if rest[phase] else ""),
            ),
        ]
    body.append(_text(150, 8 + 7 * 24 + 12, "dark: takes part · pale: paused, degraded or not started"))
    return _svg(560, 200, body, "Chips by phase")


def _sent_of_limits(tx: Transaction, cycle: Cycle) -> tuple[str, str] | None:
    """Draw what each chip has sent of its day's limit, fullest first."""
    found = preview.sent_of_limits(tx, cycle.pool, cycle.day, limit=CHIPS)
    if not found:
        return None
    body = []
    for row, one in enumerate(found):
        y = 8 + row * 20
        share = min(1.0, one.sent / one.limit) if one.limit else 0.0
        body += [
            _text(50, y + 12, f"…{one.last4}", anchor="end"),
            _box(58, y, 300, 14, _PALE),
            _box(58, y, max(300 * share, 0.5), 14, _FULL if one.sent >= one.limit > 0 else _FILL),
            _text(366, y + 12, f"{one.sent} of {one.limit}"),
        ]
    return _svg(460, 16 + 20 * len(found), body, "Sent today of each chip's effective limit")


def _pair_matrix(tx: Transaction, cycle: Cycle) -> tuple[str, str] | None:
    """Draw who opened conversations with whom in the last seven days."""
    first = cycle.day - timedelta(days=_PAIR_DAYS - 1)
    found = preview.pairs_since(tx, cycle.pool, first, limit=CHIPS * CHIPS)
    if not found:
        return None
    names = list(dict.fromkeys(name for opener, responder, _ in found for name in (opener, responder)))
    names = sorted(names[:CHIPS])
    place = {name: number for number, name in enumerate(names)}
    most = max(number for _, _, number in found)
    body = []
    for name, number in place.items():
        body.append(_text(48, 62 + number * 24, f"…{name}", anchor="end"))
        x, y = 68 + number * 24, 40
        body.append(
            f"<text x='{x}' y='{y}' {_FONT} fill='{_INK}' transform='rotate(-50 {x} {y})'>…{escape(name)}</text>"
        )
        body += [_box(56 + number * 24, 46 + row * 24, 22, 22, _PALE) for row in range(len(names))]
    for opener, responder, number in found:
        if opener not in place or responder not in place:
            continue
        x, y = 56 + place[responder] * 24, 46 + place[opener] * 24
        body.append(
            f"<rect x='{x}' y='{y}' width='22' height='22' rx='2' fill='{_FILL}' "
            f"fill-opacity='{0.25 + 0.75 * number / most:.2f}'/>"
        )
        body.append(_text(x + 11, y + 15, str(number), anchor="middle", fill="#fff"))
    size = 80 + 24 * len(names)
    return _svg(size, size - 20, body, "Conversations opened in 7 days: rows opened, columns answered")


_PICTURES: Final[Mapping[str, Callable[[Transaction, Cycle], tuple[str, str] | None]]] = {
    "phase_transitions": _phase_ladder,
    "messages": _sent_of_limits,
    "pairings": _pair_matrix,
}
