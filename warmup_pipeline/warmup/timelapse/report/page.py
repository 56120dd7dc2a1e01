"""The report as one HTML page that needs nothing else.

Holds: :func:`render`: the head of the page, its figures, and the sections in the template
``data/report/page.html`` with the style ``data/report/page.css``. Do not add: what is in a section,
scripts, anything a browser would have to fetch.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib import resources
from typing import Final
from zoneinfo import ZoneInfo

import jinja2
import pandas as pd
from markupsafe import Markup

from warmup_pipeline.domain.policy import Policy
from warmup_pipeline.warmup.timelapse.compare import Comparison, Outcome, outcome
from warmup_pipeline.warmup.timelapse.report import progress, sending, shown, talking
from warmup_pipeline.warmup.timelapse.report.data import ReportData
from warmup_pipeline.warmup.timelapse.report.shown import NOTHING, number, percent, plural
from warmup_pipeline.warmup.timelapse.report.versus import versus
from warmup_pipeline.warmup.timelapse.report.view import Section, Table, View

MOST_ROWS: Final = 2_000
"""Rows of one table on the page; the export has all of them."""

SECTIONS: Final[Sequence[Callable[[View], Section]]] = (
    progress.phases,
    progress.readiness,
    sending.sends,
    progress.trust,
    sending.refusals,
    sending.failures,
    talking.pairs,
    talking.balance,
    talking.conversations,
    sending.health,
)
"""Every section, in reading order. Add a section here."""

_SHARES: Final = frozenset({"conversa_par_success_rate"})


@dataclass(frozen=True, slots=True)
class Tile:
    """One figure at the top of the page."""

    value: str
    label: str
    look: str = ""


@lru_cache(maxsize=1)
def _template() -> jinja2.Template:
    environment = jinja2.Environment(
        loader=jinja2.FunctionLoader(_asset),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("page.html")


def _asset(name: str) -> str:
    return (resources.files("warmup_pipeline") / "data" / "report" / name).read_text(encoding="utf-8")


def render(
    data: ReportData,
    policy: Policy,
    *,
    other: tuple[ReportData, Policy, Comparison] | None = None,
) -> str:
    """Return a report as an HTML page.

    Args:
        data: the report.
        policy: the policy the pool ran under.
        other: the report and policy it is compared with, and the comparison.
    """
    view = View(data, policy)
    found = [section(view) for section in SECTIONS]
    if other is not None:
        theirs, their_policy, comparison = other
        found.insert(0, versus(view, View(theirs, their_policy), comparison))
    result = outcome(data)
    return _template().render(
        # The style is ours: nothing in it comes from data.
        style=Markup(_asset("page.css")),  # noqa: S704
        title=f"Warm-up of pool {data.pool}",
        span=f"{data.first:%Y-%m-%d} to {data.last:%Y-%m-%d}",
        data=data,
        facts=_facts(view),
        sentences=_sentences(view, result),
        tiles=_tiles(view, result),
        sections=found,
        rows_of=_rows_of,
        most_rows=MOST_ROWS,
        number=number,
    )


def _facts(view: View) -> list[tuple[str, str]]:
    data = view.data
    zone = ZoneInfo(data.zone)
    first, last = (at.astimezone(zone) for at in (data.begins_at, data.ends_at))
    facts = [
        ("cycles", f"{first:%Y-%m-%d %H:%M} to {last:%Y-%m-%d %H:%M}, {data.zone}"),
        ("policy", f"{data.policy} ({data.fingerprint})"),
        ("gateways", "simulated" if data.simulated else "live"),
        ("chips", f"{number(len(view.taking))} of {number(len(data['chips']))} took part"),
    ]
    return [*facts, *data.facts.items()]


def _tiles(view: View, result: Outcome) -> list[Tile]:
    days = view.data["chip_days"]
    hours_above = int((days["most_in_hour"] > days["hour_limit"]).sum())
    above = result.days_above_limit + hours_above
    target = result.success_rate is not None and result.success_rate > 0.9
    return [
        Tile(f"{result.in_operacao} of {len(result.days_to_operacao)}", "chips reached operacao"),
        Tile(
            NOTHING if result.median_days is None else number(result.median_days),
            "median warming day of getting there",
        ),
        Tile(number(result.messages), "messages accepted"),
        Tile(percent(result.success_rate), "CONVERSA_PAR success", "good" if target else "bad"),
        Tile(number(above), "chip-days above a limit", "bad" if above else "good"),
        Tile(percent(result.headroom), "of day limits left unused"),
    ]


def _sentences(view: View, result: Outcome) -> list[str]:
    """Return what came of it in plain words, and what that does not say."""
    data = view.data
    known = [day for day in result.days_to_operacao.values() if day is not None]
    if not known:
        ready = "No chip reached operacao in these days; the page says what each still lacks."
    elif len(known) == len(result.days_to_operacao):
        ready = f"All of {plural(len(known), 'chip')} reached operacao, on warming day {_range(known)}."
    else:
        ready = (
            f"{plural(len(known), 'chip')} of {len(result.days_to_operacao)} reached operacao, on warming"
            f" day {_range(known)}; the page says what the others lack."
        )
    troubled = data["chip_days"][data["chip_days"]["status"] == "degraded"]
    trouble = ""
    if len(troubled):
        who = troubled["chip"].unique().tolist()
        named = shown.clause(who) if len(who) <= 5 else plural(len(who), "chip")
        trouble = f"{named} spent {plural(len(troubled), 'day')} degraded."
    honest = (
        (
            "These figures come from simulated gateways: they show what the rules do with such gateways, and"
            " predict nothing about WhatsApp. "
            if data.simulated
            else ""
        )
        + "Nobody has shown that warm-up prevents restrictions; this page shows what was done, and what came of it."
    )
    return [sentence for sentence in (ready, trouble, honest) if sentence]


def _range(days: list[int]) -> str:
    return str(days[0]) if min(days) == max(days) else f"{min(days)} to {max(days)}"


def _rows_of(table: Table) -> list[list[str]]:
    """Return a table's rows as they are shown, the first of them only where there are very many."""
    names = list(table.columns)
    found: pd.DataFrame = table.rows.head(MOST_ROWS)[names]
    return [
        [
            percent(value) if name in _SHARES else shown.cell(value)
            for name, value in zip(names, row, strict=True)
        ]
        for row in found.astype(object).itertuples(index=False, name=None)
    ]
