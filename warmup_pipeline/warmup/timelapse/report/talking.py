"""The sections about conversations: who with whom, how much either way, how they went.

Holds: one function per section. Do not add: drawing (``charts``), other matters (``progress``, ``sending``).
"""

from __future__ import annotations

from markupsafe import Markup

from warmup_pipeline.warmup.timelapse.report import charts
from warmup_pipeline.warmup.timelapse.report.charts import Bar, Cell
from warmup_pipeline.warmup.timelapse.report.shown import NOTHING, number, percent, plural, short_day
from warmup_pipeline.warmup.timelapse.report.view import Section, Table, View, shares


def pairs(view: View) -> Section:
    """Return who talked with whom."""
    found = view.data["pairs"]
    counts = {(r["opener_chip_id"], r["responder_chip_id"]): r for r in found.to_dict("records")}
    most = max(1, int(found["opened"].max())) if len(found) else 1
    cells = [
        [
            None
            if one is None
            else Cell(
                f"u{1 + min(4, int(4 * (one['opened'] - 1) / most))}",
                f"{one['opener']} opened {one['opened']} with {one['responder']}, {one['answered']} answered",
                str(one["opened"]),
            )
            for responder in view.ids
            for one in [counts.get((opener, responder))]
        ]
        for opener in view.ids
    ]
    possible = len(view.taking) * (len(view.taking) - 1) // 2
    met = len({frozenset(pair) for pair in counts})
    lead = (
        f"Conversations opened by the chip of the row with that of the column; {number(met)} of"
        f" {number(possible)} possible pairs talked." + view.note
    )
    columns = {
        "opener": "Opened by",
        "responder": "With",
        "opened": "Conversations",
        "answered": "Answered",
        "turns": "Turns",
    }
    body = charts.matrix(view.names, cells, "Conversations by opener (row) and partner (column)")
    return Section("pairs", "Who talked with whom", lead, body, (Table("Pairs", columns, found),))


def balance(view: View) -> Section:
    """Return what each chip sent and received."""
    most = max(1, *(int(view.taking[name].max()) for name in ("sent", "received"))) if len(view.taking) else 1
    rows = [
        (
            chip["chip"],
            chip["phase"],
            Markup("{}{}").format(number(chip["sent"]), charts.meter(chip["sent"] / most)),
            Markup("{}{}").format(number(chip["received"]), charts.meter(chip["received"] / most, "in")),
            percent(min(1, chip["received"] / chip["sent"])) if chip["sent"] else NOTHING,
            percent(chip["delivery_rate"]),
            percent(chip["confirmed_share"]),
        )
        for chip in view.taking.to_dict("records")
    ]
    head = ("Chip", "Phase", "Sent", "Received", "Response", "Delivery", "Confirmed")
    sent = view.taking["received"]
    spread = ""
    if len(sent) and float(sent.mean()) > 0:
        spread = (
            f" The chip that received most got {float(sent.max()) / float(sent.mean()):.1f} times the mean."
        )
    return Section(
        "balance",
        "Messages in and out",
        "Messages that a gateway accepted, by sender and recipient, within these days." + spread,
        charts.plain_table("Messages sent and received by each chip", head, rows),
    )


def conversations(view: View) -> Section:
    """Return the conversations of each day, and how they ended."""
    days = view.data["pool_days"]
    by_day = {row["day"]: row for row in days.to_dict("records")}
    found = []
    for day in view.days:
        row = by_day.get(day, {"opened": 0, "answered": 0, "whole": 0})
        rest = row["opened"] - row["answered"]
        title = (
            f"{short_day(day)}: {row['opened']} opened, {row['answered']} answered, {row['whole']} to the end"
        )
        found.append(Bar(((float(row["answered"]), "sent"), (float(rest), "rest")), None, title))
    opened, answered, turns = (int(days[name].sum()) for name in ("opened", "answered", "turns"))
    lead = f"{plural(opened, 'conversation')}, {number(answered)} of them answered at least once"
    lead += f", {turns / opened:.1f} turns each on average." if opened else "."
    ends = view.data["conversation_ends"]
    body = (
        charts.legend([("sent", "answered"), ("rest", "not answered (yet)")])
        + charts.bars(view.days, found, "Conversations opened per day, answered or not")
        + shares(ends, "reason", "How conversations ended", "Reason")
    )
    columns = {
        "day": "Day",
        "opened": "Opened",
        "answered": "Answered",
        "whole": "To the end",
        "turns": "Turns",
    }
    ended = {"type": "Activity", "state": "State", "reason": "Reason", "count": "Count"}
    tables = (
        Table("Conversations by day", columns, days),
        Table("How planned activities ended", ended, view.data["activity_ends"]),
    )
    return Section("conversations", "Conversations", lead, body, tables)
