"""The sections about how far chips have come: phases, readiness, trust.

Holds: one function per section. Do not add: drawing (``charts``), other matters (``sending``, ``talking``).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import pandas as pd
from markupsafe import Markup

from warmup_pipeline.domain.phases import BIDIRECTIONAL, RECEIVED, SENT
from warmup_pipeline.domain.planning import most_openings
from warmup_pipeline.domain.values import PARTICIPATING_STATUSES, PHASE_ORDER, Phase, TrustLevel
from warmup_pipeline.warmup.timelapse.report import charts, words
from warmup_pipeline.warmup.timelapse.report.charts import Cell, Level
from warmup_pipeline.warmup.timelapse.report.shown import NOTHING, number, percent, plural, short_day
from warmup_pipeline.warmup.timelapse.report.view import Section, Table, View

_COUNTS: Final = frozenset({SENT, RECEIVED, BIDIRECTIONAL})
"""Criteria that take more conversations."""


def phase_cell(row: Mapping[str, Any], name: str) -> Cell | None:
    """Return a day of a chip as its phase; trouble shows as a pattern over it."""
    if pd.isna(row["phase"]) or pd.isna(row["warming_day"]):
        return None
    phase, status = Phase(row["phase"]), str(row["status"])
    trouble = "" if status in PARTICIPATING_STATUSES else status
    if not trouble and row["braked"] is True:
        trouble = "braked"
    look = f"p{phase.rank}" + (" trouble" if trouble else "")
    said = f"{name}: {phase}" + (f", {trouble}" if trouble else "")
    return Cell(look, said, str(phase.rank))


def phase_timeline(view: View) -> Markup:
    """Return the phases of every chip over time."""
    rows = [
        [phase_cell(row, name) for row in view.days_of(chip_id)]
        for chip_id, name in zip(view.ids, view.names, strict=True)
    ]
    return charts.timeline(view.names, rows, view.days)


def phase_legend() -> Markup:
    """Return what the colours and numbers of phases mean."""
    entries = [(f"p{phase.rank}", f"{phase.rank} {phase}") for phase in PHASE_ORDER]
    return charts.legend([*entries, ("p0 trouble", "striped: braked, degraded or paused")])


def phases(view: View) -> Section:
    """Return the phases of every chip over time."""
    moved = view.data["transitions"]
    signals = view.data["signals"]
    tables = [
        Table(
            "Phase changes",
            {
                "day": "Day",
                "chip": "Chip",
                "from_phase": "From",
                "to_phase": "To",
                "warming_day": "Warming day",
            },
            moved,
        )
    ]
    lead = "Each bar is a chip, from when it began to warm up; a colour is a phase." + view.note
    if len(signals):
        lead += (
            f" Bad signals: {number(len(signals))}; each multiplies its chip's limits by"
            f" {view.policy.brake.factor:g} and holds its phase for {plural(view.policy.brake.days, 'day')}."
        )
        tables.append(
            Table(
                "Bad signals", {"day": "Day", "chip": "Chip", "kind": "Signal", "meaning": "Meaning"}, signals
            )
        )
    return Section("phases", "Phases over time", lead, phase_legend() + phase_timeline(view), tuple(tables))


def lacking(row: Mapping[str, Any]) -> str:
    """Return a criterion that does not hold, in words."""
    rate = row["criterion"] == "response_rate"
    shown = percent if rate else number
    name = words.CRITERIA.get(row["criterion"], row["criterion"])
    have = NOTHING if pd.isna(row["value"]) else shown(row["value"])
    limit = "at most " if row["comparison"] == "<=" else ""
    when = "" if pd.isna(row["earliest_day"]) else f", {short_day(row['earliest_day'])} at its pace"
    return f"{name} {have} of {limit}{shown(row['needed'])}{when}"


def readiness(view: View) -> Section:
    """Return when each chip is ready, and what it still lacks."""
    criteria = view.data["criteria"]
    open_ones: dict[str, dict[str, str]] = {}
    for row in criteria[criteria["holds"] == False].to_dict("records"):  # noqa: E712 - a column of objects
        said = lacking({str(k): v for k, v in row.items()})
        open_ones.setdefault(row["chip_id"], {})[row["criterion"]] = said
    rows = []
    for chip in view.taking.to_dict("records"):
        since, day = "not yet", NOTHING
        if not pd.isna(chip["ready_day"]):
            since, day = short_day(chip["ready_day"]), number(chip["ready_warming_day"])
        elif chip["phase"] == Phase.OPERACAO.value:
            since = "earlier"
        why = _why_not(view, chip, open_ones.get(chip["chip_id"], {}))
        rows.append((chip["chip"], chip["phase"], since, day, why))
    rows.sort(key=lambda row: row[2] == "not yet", reverse=True)
    ready = sum(row[2] != "not yet" for row in rows)
    lead = f"{ready} of {plural(len(rows), 'chip')} {'stands' if ready == 1 else 'stand'} in operacao at the end."
    if ready < len(rows):
        lead += (
            " For the others: what each still lacks for its next phase, and the earliest day it can have that"
            " at its own pace."
        )
    head = ("Chip", "Phase", "In operacao", "Warming day", "Why not")
    body = charts.plain_table("When each chip is ready", head, rows)
    columns = {
        "chip": "Chip",
        "next_phase": "Next phase",
        "criterion": "Criterion",
        "value": "Has",
        "comparison": "Must be",
        "needed": "Needs",
        "holds": "Holds",
        "earliest_day": "Earliest day",
    }
    return Section(
        "ready", "When each chip is ready", lead, body, (Table("Every criterion", columns, criteria),)
    )


def _too_few_partners(view: View, phase: Phase) -> str:
    """Return how much less is planned because the pool is small; empty where it is large enough."""
    plan, rules = view.policy.phases[phase], view.policy.pairs
    others = max(0, len(view.taking) - 1)
    few, usual = (
        most_openings(plan, plan.sends_per_day, partners, rules.max_partners_per_day)
        for partners in (others, rules.max_partners_per_day)
    )
    if few >= usual:
        return ""
    return (
        f"with {plural(others, 'other chip')} to talk with, at most {plural(few, 'opening')} a day"
        f" {'is' if few == 1 else 'are'} planned, not {usual}"
    )


def _why_not(view: View, chip: Mapping[Any, Any], missing: Mapping[str, str]) -> str:
    if chip["phase"] == Phase.OPERACAO.value:
        return NOTHING
    last = view.days_of(chip["chip_id"])[-1]
    parts = list(missing.values())
    if _COUNTS & set(missing):
        parts += [said for said in [_too_few_partners(view, Phase(chip["phase"]))] if said]
    if chip["status"] not in PARTICIPATING_STATUSES:
        reason = "" if pd.isna(chip["status_reason"]) else f" ({chip['status_reason']})"
        parts.insert(0, f"is {chip['status']}{reason}")
    elif last["braked"] is True:
        parts.insert(0, "is held after a bad signal")
    return "; ".join(parts) or "nothing: it moves on with its next cycle"


def trust(view: View) -> Section:
    """Return the trust of every chip over time."""
    order = list(TrustLevel)
    bands = view.policy.trust_levels
    levels = [Level(bands[level].at_least, f"t{n}", level.value) for n, level in enumerate(order)]
    single, cells = [], []
    for chip_id, name in zip(view.ids, view.names, strict=True):
        mine = view.days_of(chip_id)
        single.append([None if pd.isna(r["trust"]) else float(r["trust"]) for r in mine])
        cells.append(
            [
                None
                if pd.isna(r["trust"])
                else Cell(
                    f"t{order.index(TrustLevel(r['trust_level']))}",
                    f"{name}, {short_day(r['day'])}: {r['trust']} {r['trust_level']}",
                )
                for r in mine
            ]
        )
    drawn = view.data["chip_days"]
    scores = drawn[drawn["chip_id"].isin(view.ids) & drawn["trust"].notna()]
    medians = scores.groupby("day")["trust"].median()
    middle = [float(medians[day]) if day in medians.index else None for day in view.days]
    lead = (
        "A thin line is a chip's score at the end of each day, the thick one their median. A level sets how"
        " much of the phase limit a chip may use."
    )
    body = (
        charts.lines(view.days, single, middle, levels, "Trust score of each chip by day, and their median")
        + charts.legend([(f"t{n}", f"{level} × {bands[level].factor:g}") for n, level in enumerate(order)])
        + charts.grid(view.names, cells, view.days, "Trust level of each chip by day")
    )
    wide = scores.assign(at=scores["day"].map(short_day)).pivot_table(
        index="chip", columns="at", values="trust", aggfunc="last", sort=False
    )
    wide = wide.reindex(index=view.names, columns=[short_day(day) for day in view.days]).reset_index()
    columns = {str(name): "Chip" if name == "chip" else str(name) for name in wide.columns}
    table = Table("Trust score at the end of each day", columns, wide)
    return Section("trust", "Trust over time", lead + view.note, body, (table,))
