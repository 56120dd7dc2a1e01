"""The sections about sending: sends against limits, what did not go, failures, health.

Holds: one function per section. Do not add: drawing (``charts``), other matters (``progress``, ``talking``).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd
from markupsafe import Markup

from warmup_pipeline.warmup.timelapse.report import charts
from warmup_pipeline.warmup.timelapse.report.charts import Bar, Cell
from warmup_pipeline.warmup.timelapse.report.shown import NOTHING, number, percent, plural, short_day
from warmup_pipeline.warmup.timelapse.report.view import FEW_CHIPS, Section, Table, View, shares


def _said(value: Any) -> str:
    return NOTHING if pd.isna(value) else str(value)


def used_cell(used: Any, limit: Any, title: str) -> Cell | None:
    """Return how much of a limit was used, as one of six shades; above it is a colour of its own."""
    if pd.isna(limit):
        return None
    if used > limit:
        return Cell("over", f"{title}: {used} of {limit}, ABOVE THE LIMIT")
    if limit == 0:
        return None
    share = float(used) / float(limit)
    shade = 0 if share == 0 else 5 if share == 1 else 1 + int(share * 4)
    return Cell(f"u{shade}", f"{title}: {used} of {limit}")


def _send_bar(row: Mapping[str, Any]) -> Bar:
    limit = None if pd.isna(row["day_limit"]) else float(row["day_limit"])
    look = "over" if limit is not None and row["counted"] > limit else "sent"
    hour = f", at most {row['most_in_hour']} in 60 minutes (limit {_said(row['hour_limit'])})"
    title = f"{short_day(row['day'])}: {row['counted']} of {_said(row['day_limit'])}{hour}"
    return Bar(((float(row["counted"]), look),), limit, title)


def sends(view: View) -> Section:
    """Return what was sent against what might have been."""
    days = view.data["chip_days"]
    whole = days.groupby("day")["counted"].sum()
    limits = view.data["pool_days"].set_index("day")["day_limit"]
    pool = [
        Bar(
            ((float(whole.get(day, 0)), "sent"),),
            float(limits[day]) if day in limits.index else None,
            f"{short_day(day)}: {whole.get(day, 0)} of {limits.get(day, NOTHING)}",
        )
        for day in view.days
    ]
    by_day, by_hour, small = [], [], []
    for chip_id, name in zip(view.ids, view.names, strict=True):
        mine = view.days_of(chip_id)
        labels = [f"{name}, {short_day(row['day'])}" for row in mine]
        by_day.append([used_cell(r["counted"], r["day_limit"], t) for r, t in zip(mine, labels, strict=True)])
        by_hour.append(
            [used_cell(r["most_in_hour"], r["hour_limit"], t) for r, t in zip(mine, labels, strict=True)]
        )
        most = max(int(row["counted"]) for row in mine)
        hour = max(int(row["most_in_hour"]) for row in mine)
        small.append((name, f"at most {most} a day, {hour} in 60 minutes", [_send_bar(r) for r in mine]))
    above = int(((days["counted"] > days["day_limit"]) | (days["most_in_hour"] > days["hour_limit"])).sum())
    lead = (
        "Bars are sends that count against limits, the line is the sum of the effective day limits (phase"
        " limit, times trust, times brake). "
        + (
            "No chip went above a limit on any day."
            if not above
            else f"ABOVE A LIMIT: {plural(above, 'chip-day')}."
        )
    )
    shades = [("u0", "none"), ("u1", "under 25 %"), ("u2", "under 50 %"), ("u3", "under 75 %")]
    shades += [("u4", "under 100 %"), ("u5", "all of it"), ("over", "above the limit")]
    each = charts.small_bars(small)
    body = (
        charts.bars(view.days, pool, "Sends of the pool per day against the sum of its chips' limits")
        + Markup("<h3>How much of its day limit each chip used</h3>")
        + charts.legend(shades)
        + charts.grid(view.names, by_day, view.days, "Share of the day limit that each chip used, by day")
        + Markup("<h3>How much of its limit per 60 minutes each chip used in its fullest hour</h3>")
        + charts.grid(view.names, by_hour, view.days, "Share of the hour limit that each chip used, by day")
        + Markup("<details{}><summary>Each chip's sends against its own limit</summary>{}</details>").format(
            Markup(" open") if len(view.names) <= FEW_CHIPS else "", each
        )
    )
    columns = {
        "day": "Day",
        "chip": "Chip",
        "phase": "Phase",
        "status": "Status",
        "counted": "Sends",
        "day_limit": "Day limit",
        "most_in_hour": "Most in 60 min",
        "hour_limit": "Hour limit",
        "confirmed": "Confirmed",
        "failed": "Failed",
        "unknown": "Unknown",
    }
    began = days[days["chip_id"].isin(view.taking["chip_id"]) & days["warming_day"].notna()]
    table = Table("Sends and limits of every chip and day", columns, began)
    return Section("sends", "Sends against limits", lead, body, (table,))


def refusals(view: View) -> Section:
    """Return why sends were put off or blocked."""
    found = view.data["refusals"]
    put_off, blocked = (found[found["decision"] == decision] for decision in ("defer", "block"))
    counts = found.groupby(["reason", "day"])["count"].sum()
    ordered = (
        found.groupby("reason")["count"].sum().sort_values(ascending=False, kind="stable").index.tolist()
    )
    most = max(1, int(counts.max())) if len(counts) else 1
    cells = [
        [
            Cell(f"u{1 + min(4, int(4 * n / most))}", f"{reason}, {short_day(day)}: {n}") if n else None
            for day in view.days
            for n in [int(counts.get((reason, day), 0))]
        ]
        for reason in ordered
    ]
    lead = (
        f"{plural(int(put_off['count'].sum()), 'time')} something due was put off to a later time, and"
        f" {plural(int(blocked['count'].sum()), 'time')} it was blocked. Neither counts as a failure: nothing"
        " was sent. A deferred reply or opening may be put off more than once."
    )
    body = shares(put_off, "reason", "Put off, by reason", "Reason") + shares(
        blocked, "reason", "Blocked, by reason", "Reason"
    )
    if ordered:
        body += Markup("<h3>When</h3>") + charts.grid(
            ordered, cells, view.days, "How often each reason occurred, by day"
        )
    by_day = found.groupby(["day", "decision", "reason"])["count"].sum().reset_index()
    columns = {"day": "Day", "decision": "Decision", "reason": "Reason", "count": "Count"}
    return Section(
        "refusals",
        "Why sends were put off or blocked",
        lead,
        body,
        (Table("Reasons by day", columns, by_day),),
    )


def failures(view: View) -> Section:
    """Return what failed, by class."""
    found = view.data["failures"]
    known = found[found["failure_class"] != "unknown"]
    total, unknown = int(found["count"].sum()), int(found["count"].sum() - known["count"].sum())
    if not total:
        lead = "No send failed, and no outcome is unknown."
    else:
        lead = (
            f"{plural(total - unknown, 'send')} certainly failed and the outcome of {number(unknown)} is not"
            " known; those are never sent again."
        )
    columns = {
        "chip": "Chip",
        "failure_class": "Class",
        "failure_status": "HTTP status",
        "meaning": "Meaning",
        "count": "Count",
    }
    tables = (Table("Failures by chip", columns, found),) if total else ()
    return Section(
        "failures", "Failures", lead, shares(found, "failure_class", "Failures by class", "Class"), tables
    )


def health(view: View) -> Section:
    """Return the pool's health over time."""
    days = view.data["pool_days"]
    by_day = {row["day"]: row for row in days.to_dict("records")}
    row: list[Cell | None] = []
    for day in view.days:
        one = by_day.get(day)
        if one is None or pd.isna(one["health"]):
            row.append(None)
            continue
        mark = {"healthy": "✓", "degraded": "!", "critical": "✕"}.get(one["health"], "")
        title = f"{one['health']}; CONVERSA_PAR success {percent(one['conversa_par_success_rate'])}"
        row.append(Cell(f"h-{one['health']}", title, mark))
    rates = [
        Bar(
            ((100 * float(rate), "sent" if rate > 0.9 else "rest"),),
            90.0,
            f"{short_day(day)}: {percent(rate)}",
        )
        if not pd.isna(rate := by_day.get(day, {}).get("conversa_par_success_rate"))
        else Bar((), 90.0, f"{short_day(day)}: no attempt")
        for day in view.days
    ]
    lead = (
        "Health by the checks at each day's end (no mark: no verdict), and the share of CONVERSA_PAR attempts"
        " that succeeded; the line is the target of 90\u00a0%."
    )
    body = (
        charts.legend(
            [("h-healthy", "✓ healthy"), ("h-degraded", "! degraded"), ("h-critical", "✕ critical")]
        )
        + charts.timeline(["health"], [row], view.days)
        + charts.bars(view.days, rates, "CONVERSA_PAR success in per cent by day")
    )
    columns = {
        "day": "Day",
        "health": "Health",
        "conversa_par_success_rate": "Success rate",
        "planned": "Planned",
        "executed": "Executed",
        "sent": "Sent",
        "delivered": "Confirmed",
        "failed": "Failed",
        "unknown": "Unknown",
        "cycles_run": "Cycles",
        "cycles_missed": "Missed",
    }
    return Section("health", "Health", lead, body, (Table("The pool by day", columns, days),))
