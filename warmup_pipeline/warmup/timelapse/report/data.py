"""A report's tables, from a database and a policy.

Holds: :class:`ReportData` and :func:`collect`. Each table is a DataFrame with the columns that
``tables`` names. Add here: how a further column is computed. Do not add: SQL (``store.report``), looks
(``page``, ``charts``).
"""

from __future__ import annotations

import string
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from typing import Any, Final

import numpy as np
import pandas as pd

from warmup_pipeline.domain.localtime import day_bounds
from warmup_pipeline.domain.policy import Policy
from warmup_pipeline.domain.privacy import Redactor
from warmup_pipeline.domain.values import DEFAULT_POOL, LISTENER_ROLE, PARTICIPATING_STATUSES, Decision, Phase
from warmup_pipeline.store import report as queries
from warmup_pipeline.store.engine import Store
from warmup_pipeline.store.report import Rows, Span
from warmup_pipeline.warmup.timelapse.report import words
from warmup_pipeline.warmup.timelapse.report.tables import TABLES

_HOUR: Final = np.timedelta64(60, "m")


class ReportError(ValueError):
    """There is nothing to report; the text is one line that says why."""


@dataclass(frozen=True)
class ReportData:
    """Everything a report shows.

    Attributes:
        pool: the pool.
        policy: name of the policy it ran under.
        fingerprint: short hash of that policy's numbers.
        zone: name of the time zone of local days.
        first: first local day.
        last: last local day.
        begins_at: first tick, UTC.
        ends_at: last tick, UTC.
        simulated: no real gateway was spoken to.
        facts: what the database does not know (seed, faults, ...), by name, as it is shown.
        tables: the tables that ``TABLES`` names.
    """

    pool: str
    policy: str
    fingerprint: str
    zone: str
    first: date
    last: date
    begins_at: datetime
    ends_at: datetime
    simulated: bool
    facts: Mapping[str, str]
    tables: Mapping[str, pd.DataFrame] = field(repr=False)

    @property
    def days(self) -> list[date]:
        """Every local day of the report."""
        return [self.first + timedelta(days=n) for n in range((self.last - self.first).days + 1)]

    def __getitem__(self, table: str) -> pd.DataFrame:
        """Return a table by its name."""
        return self.tables[table]


def collect(
    store: Store,
    policy: Policy,
    *,
    pool: str = DEFAULT_POOL,
    first: date | None = None,
    facts: Mapping[str, str] | None = None,
) -> ReportData:
    """Read a pool's report from its database.

    Args:
        store: a migrated database; it is only read.
        policy: the policy the pool ran under.
        pool: which pool.
        first: the first local day to report; by default that of the pool's first cycle.
        facts: what the database does not know, by name, to be shown beside it.

    Raises:
        ReportError: the pool has had no cycle in those days.
    """
    with store.read() as tx:
        seen = queries.cycles_seen(tx, pool)
        if seen is None or (first is not None and first > seen.last_day):
            raise ReportError(f"pool {pool!r} has had no cycle to report on")
        span = Span(pool, max(first or seen.first_day, seen.first_day), seen.last_day)
        since, _ = day_bounds(span.first, policy.zone)
        build = _Builder(span, queries.chips_now(tx, pool))
        tables = {
            "transitions": build.transitions(queries.transitions(tx, span)),
            "criteria": build.frame("criteria", queries.criteria(tx, pool)),
            "pairs": build.pairs(queries.pairs(tx, span)),
            "refusals": build.refusals(queries.put_off(tx, span), queries.blocked(tx, span)),
            "failures": build.failures(queries.failures(tx, span)),
            "signals": build.signals(queries.signals(tx, pool, since=since), policy),
            "conversation_ends": build.conversation_ends(queries.conversation_ends(tx, span)),
            "activity_ends": build.activity_ends(queries.activity_ends(tx, span)),
        }
        tables["chip_days"] = build.chip_days(
            standing=queries.standing(tx, span),
            sent=queries.sent_by_day(tx, span),
            received=queries.received_by_day(tx, span),
            times=queries.send_times(tx, span),
            imported=queries.imported_sends(tx, span),
            limits=queries.limits_in_force(tx, span),
            refusals=tables["refusals"],
        )
        tables["pool_days"] = build.pool_days(
            queries.pool_days(tx, span), queries.conversations_by_day(tx, span), tables["chip_days"]
        )
    tables["chips"] = build.chips(tables["chip_days"], tables["transitions"])
    return ReportData(
        pool=pool,
        policy=policy.name,
        fingerprint=policy.fingerprint,
        zone=policy.timezone,
        first=span.first,
        last=span.last,
        begins_at=seen.first,
        ends_at=seen.last,
        simulated=seen.simulated,
        facts=dict(facts or {}),
        tables={name: tables[name] for name in TABLES},
    )


def shown_names(chips: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """Return what each chip is called: its end digits, with a letter where two chips share them."""
    shared = Counter(chip["last4"] for chip in chips)
    nth: Counter[str] = Counter()
    found = {}
    for chip in chips:
        last4 = chip["last4"]
        letter = ""
        if shared[last4] > 1:
            letter = string.ascii_lowercase[nth[last4] % 26]
            nth[last4] += 1
        found[chip["chip_id"]] = f"…{last4}{letter}"
    return found


class _Builder:
    """Turns rows into tables. Chips stand in the order of their labels, days in theirs."""

    def __init__(self, span: Span, chips: Rows) -> None:
        self._span = span
        self._chips = chips
        self._names = shown_names(chips)
        self._order = {chip["chip_id"]: n for n, chip in enumerate(chips)}

    def frame(self, table: str, rows: Iterable[Mapping[str, Any]]) -> pd.DataFrame:
        """Return rows as the table they belong to, with the chip's name and the day's number added."""
        found = pd.DataFrame(list(rows))
        for one, name in (
            ("chip_id", "chip"),
            ("opener_chip_id", "opener"),
            ("responder_chip_id", "responder"),
        ):
            if one in found:
                found[name] = found[one].map(self._names)
        if "day" in found:
            found["day_number"] = [(day - self._span.first).days for day in found["day"]]
        return found.reindex(columns=list(TABLES[table].columns))

    def _by_chip(self, found: pd.DataFrame, *columns: str) -> pd.DataFrame:
        """Return a table in the order of given columns, chips by their labels."""

        def key(column: pd.Series[Any]) -> pd.Series[Any]:
            return column.map(self._order) if str(column.name).endswith("chip_id") else column

        return found.sort_values(list(columns), key=key, kind="stable").reset_index(drop=True)

    def transitions(self, rows: Rows) -> pd.DataFrame:
        return self.frame("transitions", rows)

    def pairs(self, rows: Rows) -> pd.DataFrame:
        return self._by_chip(self.frame("pairs", rows), "opener_chip_id", "responder_chip_id")

    def refusals(self, deferred: Rows, blocked: Rows) -> pd.DataFrame:
        rows = [
            row | {"decision": decision.value, "meaning": words.REASONS.get(row["reason"], row["reason"])}
            for decision, found in ((Decision.DEFER, deferred), (Decision.BLOCK, blocked))
            for row in found
        ]
        return self._by_chip(self.frame("refusals", rows), "day", "chip_id", "decision", "reason")

    def failures(self, rows: Rows) -> pd.DataFrame:
        found = self.frame(
            "failures",
            [
                row | {"meaning": words.FAILURES.get(row["failure_class"], row["failure_class"] or "")}
                for row in rows
            ],
        )
        found["failure_status"] = found["failure_status"].astype("Int64")
        return self._by_chip(found, "chip_id", "failure_class", "failure_status")

    def signals(self, rows: Rows, policy: Policy) -> pd.DataFrame:
        return self.frame(
            "signals",
            [
                row
                | {
                    "day": row["at"].astimezone(policy.zone).date(),
                    "meaning": words.SIGNALS.get(row["kind"], row["kind"]),
                }
                for row in rows
            ],
        )

    def conversation_ends(self, rows: Rows) -> pd.DataFrame:
        ends = [
            {"reason": reason, "meaning": words.CONVERSATION_ENDS.get(reason, reason), "count": row["count"]}
            for row in rows
            for reason in [row["reason"] or ""]
        ]
        return self.frame("conversation_ends", ends).sort_values(
            ["count", "reason"], ascending=[False, True], ignore_index=True
        )

    def activity_ends(self, rows: Rows) -> pd.DataFrame:
        plain = [row | {"reason": row["reason"] or ""} for row in rows]
        return self.frame("activity_ends", plain).sort_values(
            ["type", "count", "state", "reason"], ascending=[True, False, True, True], ignore_index=True
        )

    def chip_days(
        self,
        *,
        standing: Rows,
        sent: Rows,
        received: Rows,
        times: Rows,
        imported: Rows,
        limits: Rows,
        refusals: pd.DataFrame,
    ) -> pd.DataFrame:
        """Return a row for every chip and day: how it stood, what it sent, and what it might have sent."""
        days = (self._span.last - self._span.first).days + 1
        grid = pd.MultiIndex.from_product(
            [[self._span.first + timedelta(days=n) for n in range(days)], list(self._order)],
            names=["day", "chip_id"],
        )
        found = pd.DataFrame(index=grid)
        found = found.join(_indexed(standing).rename(columns={"trust_score": "trust"}))
        for rows in (sent, received, most_in_hour(times), imported):
            found = found.join(_indexed(rows))
        put_off = refusals.assign(
            deferrals=refusals["count"].where(refusals["decision"] == Decision.DEFER.value, 0),
            blocks=refusals["count"].where(refusals["decision"] == Decision.BLOCK.value, 0),
        )
        found = found.join(put_off.groupby(["day", "chip_id"])[["deferrals", "blocks"]].sum())
        # Trust may fall within a day, and with it the limit that earlier sends were rightly held against.
        found = found.join(_indexed(limits).add_suffix("_in_force"))
        for name in ("hour_limit", "day_limit"):
            both = found.reindex(columns=[name, f"{name}_in_force"]).astype("Float64")
            found[name] = both.max(axis=1)
        counts = ["counted", "sent", "received", "confirmed", "failed", "unknown", "most_in_hour"]
        found = found.reindex(columns=[*found.columns, *(c for c in [*counts, "imported"] if c not in found)])
        for name in [*counts, "imported", "deferrals", "blocks"]:
            found[name] = found[name].astype("Float64").fillna(0).astype("Int64")
        found["counted"] += found["imported"]
        for name in ("warming_day", "trust", "hour_limit", "day_limit"):
            found[name] = found.reindex(columns=[name])[name].astype("Float64").astype("Int64")
        for name in ("status", "phase", "trust_level", "braked"):
            found[name] = found.reindex(columns=[name])[name].astype(object)
        whole = found.reset_index().to_dict("records")
        return self.frame("chip_days", [{str(k): v for k, v in row.items()} for row in whole]).astype(
            # A chip may have no row on a day, so truth values are objects on the days they all have one, too.
            dict.fromkeys(("warming_day", "trust", "hour_limit", "day_limit", *counts), "Int64")
            | {"braked": object}
        )

    def pool_days(self, summary: Rows, conversations: Rows, chip_days: pd.DataFrame) -> pd.DataFrame:
        taking = chip_days[chip_days["status"].isin([status.value for status in PARTICIPATING_STATUSES])]
        limits = taking.groupby("day")["day_limit"].sum()
        talks = {row["day"]: row for row in conversations}
        nothing = dict.fromkeys(("opened", "answered", "whole", "turns"), 0)
        rows = [
            {**row, **nothing, **talks.get(row["day"], {}), "day_limit": int(limits.get(row["day"], 0))}
            for row in summary
        ]
        return self.frame("pool_days", rows)

    def chips(self, chip_days: pd.DataFrame, transitions: pd.DataFrame) -> pd.DataFrame:
        sums = chip_days.groupby("chip_id")[["sent", "received"]].sum()
        ready = transitions[transitions["to_phase"] == Phase.OPERACAO.value].set_index("chip_id")
        clean = Redactor()
        rows = []
        for chip in self._chips:
            reason = words.STATUS_REASONS.get(chip["status_reason"] or "", chip["status_reason"])
            is_ready = chip["chip_id"] in ready.index
            rows.append(
                chip
                | {
                    # Operators write reasons freely: a number in one would otherwise be shown.
                    "status_reason": clean.text(reason) if reason else None,
                    "sent": int(sums["sent"].get(chip["chip_id"], 0)),
                    "received": int(sums["received"].get(chip["chip_id"], 0)),
                    "ready_day": ready["day"][chip["chip_id"]] if is_ready else None,
                    "ready_warming_day": ready["warming_day"][chip["chip_id"]] if is_ready else None,
                }
            )
        found = self.frame("chips", rows)
        whole = ["warming_day", "trust", "sent_total", "received_total", "bidirectional", "errors_24h"]
        return found.astype(dict.fromkeys([*whole, "sent", "received", "ready_warming_day"], "Int64"))


def _indexed(rows: Rows) -> pd.DataFrame:
    found = pd.DataFrame(rows)
    if found.empty:
        return pd.DataFrame(index=pd.MultiIndex.from_arrays([[], []], names=["day", "chip_id"]))
    return found.set_index(["day", "chip_id"])


def most_in_hour(times: Rows) -> Rows:
    """Return the most sends of each chip within any 60 minutes, (t - 60 min, t], by the day of t.

    Args:
        times: ``chip_id``, ``day`` and ``sent_at`` of each send, by chip and time.
    """
    found = pd.DataFrame(times)
    if found.empty:
        return []
    found["sent_at"] = pd.to_datetime(found["sent_at"], utc=True)
    found["most_in_hour"] = 0
    for _, mine in found.groupby("chip_id", sort=False):
        at = mine["sent_at"].to_numpy(dtype="datetime64[us]")
        gone = np.searchsorted(at, at - _HOUR, side="right")
        # Of sends at the same instant the last one has all of them within its hour.
        there = np.searchsorted(at, at, side="right")
        found.loc[mine.index, "most_in_hour"] = there - gone
    rows = found.groupby(["chip_id", "day"])["most_in_hour"].max().reset_index().to_dict("records")
    return [{str(name): value for name, value in row.items()} for row in rows]


def takes_part(chips: pd.DataFrame) -> pd.Series[bool]:
    """Return which chips of the table ``chips`` take part in warm-up at the end, or are degraded."""
    statuses = [*(status.value for status in PARTICIPATING_STATUSES), "degraded"]
    return chips["status"].isin(statuses) & (chips["role"] != LISTENER_ROLE)
