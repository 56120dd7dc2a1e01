"""Charts as HTML and inline SVG: no script, no picture file, no network.

Holds: one function per kind of chart. They stretch with the page: SVG is drawn in days and rows and
scaled by the browser, all text is HTML beside it. Colours are classes of ``data/report/page.css``, so
that they follow the reader's light or dark setting. Add here: another kind of chart. Do not add: what
is drawn (``progress``, ``sending``, ``talking``).
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from typing import Final

from markupsafe import Markup, escape

from warmup_pipeline.warmup.timelapse.report.shown import number, short_day

MOST_TICKS: Final = 6
"""Labels on a day axis: as many as fit on a phone."""

MOST_TITLES: Final = 4_000
"""Cells of one chart that say what they are when pointed at; beyond, only their table does."""

ROW_PX: Final = 18
_LONG: Final = 24
"""Characters of a cell that gets a line of its own on a phone."""


@dataclass(frozen=True, slots=True)
class Cell:
    """One cell of a chart: its class of colour, and what it says when pointed at."""

    look: str
    title: str
    text: str = ""


def axis(days: Sequence[date]) -> Markup:
    """Return the labels under a chart whose width is its days."""
    step = max(1, -(-len(days) // MOST_TICKS))
    if len(days) > MOST_TICKS:
        step = -(-step // 7) * 7 if step > 3 else step
    ticks = Markup("").join(
        Markup('<span style="left:{:.2f}%">{}</span>').format(100 * n / len(days), short_day(day))
        for n, day in enumerate(days)
        # The last label may not stand out over the edge.
        if n % step == 0 and (n == 0 or n <= 0.85 * len(days))
    )
    return Markup('<div class="axis" aria-hidden="true">{}</div>').format(ticks)


def _plot(names: Markup, body: Markup, days: Sequence[date]) -> Markup:
    return Markup(
        '<div class="plot"><div class="names" aria-hidden="true">{}</div>'
        '<div class="scroll"><div style="min-width:{}px">{}{}</div></div></div>'
    ).format(names, 4 * len(days), body, axis(days))


def _row_names(names: Sequence[str]) -> Markup:
    return Markup("").join(Markup("<div>{}</div>").format(name) for name in names)


def timeline(names: Sequence[str], rows: Sequence[Sequence[Cell | None]], days: Sequence[date]) -> Markup:
    """Return one bar per row, cut where its cells change; equal neighbours become one piece.

    Args:
        names: what each row is called.
        rows: a cell for each day, ``None`` for nothing there.
        days: the days.
    """
    drawn = []
    for row in rows:
        pieces = []
        for cell, group in itertools.groupby(row):
            length = len(list(group))
            if cell is None:
                pieces.append(Markup('<i style="flex:{}"></i>').format(length))
            else:
                pieces.append(
                    Markup('<i class="{}" style="flex:{}" title="{}">{}</i>').format(
                        cell.look, length, cell.title, cell.text
                    )
                )
        drawn.append(Markup('<div class="bar">{}</div>').format(Markup("").join(pieces)))
    return _plot(_row_names(names), Markup("").join(drawn), days)


def grid(
    names: Sequence[str], rows: Sequence[Sequence[Cell | None]], days: Sequence[date], summary: str
) -> Markup:
    """Return a heat map of rows and days."""
    titled = sum(cell is not None for row in rows for cell in row) <= MOST_TITLES
    pieces = []
    for y, row in enumerate(rows):
        x = 0
        for key, group in itertools.groupby(row, key=lambda cell: cell if titled or not cell else cell.look):
            cells = list(group)
            if key is not None:
                title = Markup("<title>{}</title>").format(cells[0].title) if titled and cells[0] else ""
                width = len(cells) - 0.06
                look = cells[0].look if cells[0] else ""
                pieces.append(
                    Markup('<rect class="{}" x="{}" y="{}" width="{:g}">{}</rect>').format(
                        look, x, y, width, title
                    )
                )
            x += len(cells)
    body = Markup(
        '<svg class="grid" role="img" aria-label="{}" viewBox="0 0 {} {}" preserveAspectRatio="none"'
        ' style="height:{}px">{}</svg>'
    ).format(summary, len(days), max(1, len(rows)), ROW_PX * len(rows), Markup("").join(pieces))
    return _plot(_row_names(names), body, days)


@dataclass(frozen=True, slots=True)
class Bar:
    """One day of a bar chart.

    Attributes:
        parts: heights from the bottom up, each with its class of colour.
        limit: height of the line above it, ``None`` for none.
        title: what it says when pointed at.
    """

    parts: tuple[tuple[float, str], ...]
    limit: float | None
    title: str

    @property
    def top(self) -> float:
        """The height it needs."""
        return max(sum(height for height, _ in self.parts), self.limit or 0)


def _bars_svg(bars: Sequence[Bar], top: float, summary: str, look: str) -> Markup:
    pieces = []
    for x, bar in enumerate(bars):
        base = 0.0
        for height, colour in bar.parts:
            if height:
                pieces.append(
                    Markup('<rect class="{}" x="{:g}" y="{:g}" width=".8" height="{:g}"/>').format(
                        colour, x + 0.1, top - base - height, height
                    )
                )
            base += height
        pieces.append(
            Markup('<rect class="hit" x="{}" y="0" width="1" height="{:g}"><title>{}</title></rect>').format(
                x, top, bar.title
            )
        )
    line, joined = [], False
    for x, bar in enumerate(bars):
        if bar.limit is None:
            joined = False
            continue
        line.append(f"{'L' if joined else 'M'}{x} {top - bar.limit:g}H{x + 1}")
        joined = True
    limit = Markup('<path class="limit" d="{}"/>').format("".join(line)) if line else ""
    return Markup(
        '<svg class="{}" role="img" aria-label="{}" viewBox="0 {:g} {} {:g}" preserveAspectRatio="none">'
        "{}{}</svg>"
    ).format(look, summary, -0.02 * top, len(bars), 1.04 * top, Markup("").join(pieces), limit)


def bars(days: Sequence[date], found: Sequence[Bar], summary: str, *, at_least: float = 0) -> Markup:
    """Return a bar per day, with a step line where a limit is.

    Args:
        days: the days.
        found: a bar for each.
        summary: the chart in words.
        at_least: how high the scale goes at least, so that charts can be compared.
    """
    top = max((bar.top for bar in found), default=0)
    top = max(top, at_least) or 1
    names = Markup('<div class="ends"><b>{}</b><b>0</b></div>').format(number(top))
    return _plot(names, _bars_svg(found, top, summary, "bars"), days)


def small_bars(charts: Sequence[tuple[str, str, Sequence[Bar]]]) -> Markup:
    """Return many small bar charts with the same scale: (name, remark, bars)."""
    top = max((bar.top for _, _, found in charts for bar in found), default=0) or 1
    return Markup('<div class="small">{}</div>').format(
        Markup("").join(
            Markup("<figure><figcaption><b>{}</b> {}</figcaption>{}</figure>").format(
                name, remark, _bars_svg(found, top, f"{name}: {remark}", "tiny")
            )
            for name, remark, found in charts
        )
    )


@dataclass(frozen=True, slots=True)
class Level:
    """A band of the scale behind a line chart: from which value, its class of colour, its name."""

    at_least: int
    look: str
    name: str


def lines(
    days: Sequence[date],
    single: Sequence[Sequence[float | None]],
    middle: Sequence[float | None],
    levels: Sequence[Level],
    summary: str,
) -> Markup:
    """Return thin lines, a thick one for their middle, and named bands behind, on a scale of 0-100.

    Args:
        days: the days.
        single: a value for each day, ``None`` where there is none, for each thin line.
        middle: the same for the thick one.
        levels: bands, best first.
        summary: the chart in words.
    """
    pieces, names = [], []
    above = 100
    for level in levels:
        pieces.append(
            Markup('<rect class="band {}" x="0" y="{}" width="{}" height="{}"/>').format(
                level.look, 100 - above, len(days), above - level.at_least
            )
        )
        names.append(
            Markup('<b style="top:{}%">{}<br>{}+</b>').format(100 - above, level.name, level.at_least)
        )
        above = level.at_least
    pieces += [Markup('<path class="thin" d="{}"/>').format(_path(values)) for values in single]
    pieces.append(Markup('<path class="middle" d="{}"/>').format(_path(middle)))
    body = Markup(
        '<svg class="lines" role="img" aria-label="{}" viewBox="0 -2 {} 104" preserveAspectRatio="none">{}</svg>'
    ).format(summary, len(days), Markup("").join(pieces))
    return _plot(Markup('<div class="scale">{}</div>').format(Markup("").join(names)), body, days)


def _path(values: Sequence[float | None]) -> str:
    found, joined = [], False
    for x, value in enumerate(values):
        if value is None:
            joined = False
            continue
        found.append(f"{'L' if joined else 'M'}{x + 0.5} {100 - value:g}")
        if not joined:
            # A line of one point is drawn as the dot of its round cap.
            found.append("h0")
        joined = True
    return "".join(found)


def matrix(names: Sequence[str], cells: Sequence[Sequence[Cell | None]], caption: str) -> Markup:
    """Return a square table of rows and columns with the same names, its cells coloured."""
    head = Markup("").join(Markup('<th scope="col"><span>{}</span></th>').format(name) for name in names)
    rows = []
    for y, (name, row) in enumerate(zip(names, cells, strict=True)):
        drawn = Markup("").join(
            Markup('<td class="self"></td>')
            if x == y
            else Markup("<td></td>")
            if cell is None
            else Markup('<td class="{}" title="{}">{}</td>').format(cell.look, cell.title, cell.text)
            for x, cell in enumerate(row)
        )
        rows.append(Markup('<tr><th scope="row">{}</th>{}</tr>').format(name, drawn))
    return Markup(
        '<div class="scroll" tabindex="0" role="region" aria-label="{}"><table class="matrix">'
        "<caption>{}</caption><thead><tr><td></td>{}</tr></thead><tbody>{}</tbody></table></div>"
    ).format(caption, caption, head, Markup("").join(rows))


def legend(entries: Sequence[tuple[str, str]]) -> Markup:
    """Return what colours mean: (class, words)."""
    return Markup('<ul class="legend">{}</ul>').format(
        Markup("").join(Markup('<li><i class="{}"></i>{}</li>').format(look, text) for look, text in entries)
    )


def meter(share: float, look: str = "fill") -> Markup:
    """Return a bar that fills a table's cell to a share of it, 0-1."""
    return Markup('<span class="meter"><i class="{}" style="width:{:.1f}%"></i></span>').format(
        look, 100 * min(max(share, 0.0), 1.0)
    )


def plain_table(caption: str, head: Sequence[str], rows: Sequence[Sequence[object]]) -> Markup:
    """Return a table whose cells are text or finished markup; the first cell of a row names it.

    On a phone each row becomes a small card, with its columns' names in it: hence the roles, which
    tell a screen reader that it is still a table.
    """
    columns = Markup("").join(
        Markup('<th scope="col" role="columnheader">{}</th>').format(name) for name in head
    )
    drawn = []
    for row in rows:
        cells = Markup("").join(
            Markup('<td role="cell" data-head="{}"{}>{}</td>').format(
                name, Markup(' class="long"') if len(value.striptags()) > _LONG else "", value
            )
            for name, value in zip(head[1:], map(escape, row[1:]), strict=True)
        )
        drawn.append(
            Markup('<tr role="row"><th scope="row" role="rowheader">{}</th>{}</tr>').format(row[0], cells)
        )
    return Markup(
        '<div class="scroll" tabindex="0" role="region" aria-label="{}"><table class="list" role="table">'
        '<caption>{}</caption><thead role="rowgroup"><tr role="row">{}</tr></thead>'
        '<tbody role="rowgroup">{}</tbody></table></div>'
    ).format(caption, caption, columns, Markup("").join(drawn))
