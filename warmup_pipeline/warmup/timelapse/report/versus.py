"""The section that sets two policies side by side.

Holds: :func:`versus`. Do not add: figures (``timelapse.compare`` has them), other sections.
"""

from __future__ import annotations

from markupsafe import Markup

from warmup_pipeline.warmup.timelapse.compare import Comparison, difference
from warmup_pipeline.warmup.timelapse.report import charts, words
from warmup_pipeline.warmup.timelapse.report.charts import Bar
from warmup_pipeline.warmup.timelapse.report.progress import phase_legend, phase_timeline
from warmup_pipeline.warmup.timelapse.report.shown import (
    NOTHING,
    number,
    percent,
    plural,
    short_day,
    signed,
)
from warmup_pipeline.warmup.timelapse.report.view import Section, View

Row = tuple[object, ...]


def versus(this: View, other: View, comparison: Comparison) -> Section:
    """Return the section about what the other policy would change.

    Args:
        this: the policy that was simulated.
        other: the one it is compared with.
        comparison: what it comes to.
    """
    mine, theirs = comparison.this, comparison.other
    left, right = _titles(comparison)
    head = ("Figure", left, right, "Difference")
    lead = (
        f"The same chips, days, faults and seed under two policies. {_pace(comparison, left, right)}"
        f" {_volume(theirs.messages - mine.messages, left, right)}"
    )
    body = charts.plain_table("The two policies", head, _figures(comparison))
    reasons: list[Row] = [
        (
            Markup("<code>{}</code> {}").format(reason, words.REASONS.get(reason, "")),
            number(a),
            number(b),
            signed(b - a),
        )
        for reason, a, b in comparison.by_reason()
    ]
    if reasons:
        body += charts.plain_table("Put off, by reason", ("Reason", *head[1:]), reasons)
    body += Markup("<h3>Phases</h3>") + phase_legend()
    for title, view in ((left, this), (right, other)):
        body += Markup("<h4>{}</h4>").format(title) + phase_timeline(view)
    body += Markup("<h3>Messages per day, with the sum of the limits</h3>")
    drawn = [(left, this.days, _bars(this)), (right, other.days, _bars(other))]
    top = max(bar.top for _, _, found in drawn for bar in found)
    for title, days, found in drawn:
        body += Markup("<h4>{}</h4>").format(title)
        body += charts.bars(days, found, f"Messages per day under {title}", at_least=top)
    chips: list[Row] = [
        (name, _day(a), _day(b), signed(difference(a, b))) for name, a, b in comparison.by_chip()
    ]
    by_chip = charts.plain_table(
        "Warming day on which each chip entered operacao", ("Chip", *head[1:]), chips
    )
    body += Markup("<details><summary>Each chip's days to operacao</summary>{}</details>").format(by_chip)
    return Section("versus", f"{left} against {right}", lead, body)


def _titles(comparison: Comparison) -> tuple[str, str]:
    mine, theirs = comparison.this, comparison.other
    if mine.policy != theirs.policy:
        return mine.policy, theirs.policy
    return f"{mine.policy} ({mine.fingerprint[:6]})", f"{theirs.policy} ({theirs.fingerprint[:6]})"


def _pace(comparison: Comparison, left: str, right: str) -> str:
    mine, theirs = comparison.this.median_days, comparison.other.median_days
    if mine is None and theirs is None:
        return "Under neither does the middle chip reach operacao in these days."
    if mine is None or theirs is None:
        name, day, lacking = (left, mine, right) if theirs is None else (right, theirs, left)
        return f"The middle chip reaches operacao on warming day {number(day)} under {name}, not under {lacking}."
    if mine == theirs:
        return f"Under both, the middle chip reaches operacao on warming day {number(mine)}."
    word = "later" if theirs > mine else "earlier"
    return f"Under {right} the middle chip reaches operacao {number(abs(theirs - mine))} days {word}."


def _volume(more: int, left: str, right: str) -> str:
    if not more:
        return f"{right} sends as many messages as {left}."
    return f"{right} sends {plural(abs(more), 'message')} {'more' if more > 0 else 'fewer'} than {left}."


def _day(day: float | None) -> str:
    return "not in these days" if day is None else number(day)


def _points(a: float | None, b: float | None) -> str:
    if a is None or b is None:
        return NOTHING
    points = round(100 * (b - a), 1)
    return f"{'−' if points < 0 else '+' if points > 0 else ''}{abs(points):g} points"


def _figures(comparison: Comparison) -> list[Row]:
    a, b = comparison.this, comparison.other
    counts = (
        ("chips in operacao", a.in_operacao, b.in_operacao),
        ("messages accepted", a.messages, b.messages),
        ("sends that failed", a.failed, b.failed),
        ("conversations", a.conversations, b.conversations),
        ("of them answered", a.answered, b.answered),
        ("times put off", sum(a.deferrals.values()), sum(b.deferrals.values())),
        ("times blocked", sum(a.blocks.values()), sum(b.blocks.values())),
        ("chip-days at the day limit", a.days_at_limit, b.days_at_limit),
        ("chip-days above the day limit", a.days_above_limit, b.days_above_limit),
        ("chip-days braked", a.braked_days, b.braked_days),
    )
    rows: list[Row] = [
        (
            "median days to operacao",
            _day(a.median_days),
            _day(b.median_days),
            signed(difference(a.median_days, b.median_days)),
        ),
        *((name, number(one), number(two), signed(two - one)) for name, one, two in counts),
        (
            "CONVERSA_PAR success",
            percent(a.success_rate),
            percent(b.success_rate),
            _points(a.success_rate, b.success_rate),
        ),
        (
            "day limit left unused, mean",
            percent(a.headroom),
            percent(b.headroom),
            _points(a.headroom, b.headroom),
        ),
    ]
    return rows


def _bars(view: View) -> list[Bar]:
    by_day = {row["day"]: row for row in view.data["pool_days"].to_dict("records")}
    return [
        Bar(
            ((float(row["sent"]), "sent"),),
            float(row["day_limit"]),
            f"{short_day(day)}: {row['sent']} of {row['day_limit']}",
        )
        if (row := by_day.get(day)) is not None
        else Bar((), None, f"{short_day(day)}: nothing")
        for day in view.days
    ]
