"""What every section of a report's page is made of and from.

Holds: :class:`Section`, :class:`Table`, and :class:`View`, which sections are made from. Do not add:
sections (``progress``, ``sending``, ``talking``, ``versus``), drawing (``charts``).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date
from typing import Any, Final

import pandas as pd
from markupsafe import Markup

from warmup_pipeline.domain.policy import Policy
from warmup_pipeline.domain.values import LISTENER_ROLE
from warmup_pipeline.warmup.timelapse.report import charts
from warmup_pipeline.warmup.timelapse.report.data import ReportData, takes_part
from warmup_pipeline.warmup.timelapse.report.shown import number

MOST_CHIPS: Final = 100
"""Chips that are drawn; of a larger pool the others stand in the tables and the export only."""

FEW_CHIPS: Final = 12
"""Up to so many chips, each has its own small chart on the page; of more they are folded away."""


@dataclass(frozen=True, slots=True)
class Table:
    """A table under a chart.

    Attributes:
        caption: what it is.
        columns: name in the report's table -> heading.
        rows: the rows, still as values.
    """

    caption: str
    columns: Mapping[str, str]
    rows: pd.DataFrame


@dataclass(frozen=True, slots=True)
class Section:
    """One section.

    Attributes:
        anchor: its place in the page's address.
        title: its heading.
        lead: what it shows, in a sentence or two.
        body: charts.
        tables: what the charts are drawn from, folded away.
    """

    anchor: str
    title: str
    lead: str
    body: Markup
    tables: tuple[Table, ...] = field(default=())


class View:
    """A report seen chip by chip: who is drawn, and each one's days.

    Args:
        data: the report.
        policy: its policy.
    """

    def __init__(self, data: ReportData, policy: Policy) -> None:
        self.data = data
        self.policy = policy
        self.days = data.days
        chips = data["chips"]
        began = chips["warming_day"].notna() | takes_part(chips)
        self.taking = chips[began & (chips["role"] != LISTENER_ROLE)]
        self.drawn = self.taking.head(MOST_CHIPS)
        self.names: list[str] = self.drawn["chip"].tolist()
        self.ids: list[str] = self.drawn["chip_id"].tolist()
        self._rows: dict[tuple[str, date], dict[str, Any]] = {
            (row["chip_id"], row["day"]): {str(name): value for name, value in row.items()}
            for row in data["chip_days"].to_dict("records")
        }

    def days_of(self, chip_id: str) -> list[dict[str, Any]]:
        """Return a chip's row of ``chip_days`` for every day."""
        return [self._rows[chip_id, day] for day in self.days]

    @property
    def note(self) -> str:
        """Say who is not drawn."""
        left = len(self.taking) - len(self.drawn)
        return (
            f" The first {MOST_CHIPS} chips are drawn; {number(left)} more are in the tables." if left else ""
        )


def shares(found: pd.DataFrame, code: str, caption: str, heading: str) -> Markup:
    """Return how often each code occurred, with its meaning and a bar, the commonest first."""
    sums = found.groupby([code, "meaning"], sort=False)["count"].sum()
    ordered = sums.sort_values(ascending=False, kind="stable").reset_index()
    top = max(1, int(sums.max())) if len(sums) else 1
    rows = [
        (Markup("<code>{}</code>").format(name or "open"), meaning, number(count), charts.meter(count / top))
        for name, meaning, count in ordered.itertuples(index=False, name=None)
    ]
    return charts.plain_table(caption, (heading, "Meaning", "Count", ""), rows) if rows else Markup("")
