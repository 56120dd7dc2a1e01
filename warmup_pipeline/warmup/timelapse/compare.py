"""Two policies on the same pool, days, faults and seed: what the other one would change.

Holds: :class:`Outcome` (what one policy came to), :class:`Comparison` and :func:`compare`. Add here:
another figure worth comparing. Do not add: running simulations (``stage``), looks (``report``).

Every figure comes from a report's tables, so that what is compared is what is shown.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

from warmup_pipeline.domain.values import PARTICIPATING_STATUSES, Decision
from warmup_pipeline.warmup.timelapse.report.data import ReportData, takes_part


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one policy came to.

    Attributes:
        policy: its name.
        fingerprint: short hash of its numbers.
        messages: messages the gateways accepted.
        failed: sends certainly not accepted.
        success_rate: CONVERSA_PAR attempts that succeeded, 0-1; ``None`` without an attempt.
        conversations: conversations opened.
        answered: of those, answered at least once.
        deferrals: how often something due was put off, by reason.
        blocks: how often validation blocked something, by reason.
        days_to_operacao: warming day on which each chip that takes part (or is degraded) entered
            ``operacao``, by the chip's name; ``None`` where it did not.
        median_days: their median; ``None`` where the middle chip did not get there.
        chip_days: days of chips that took part and might send.
        headroom: mean share of the effective day limit left unused on those, 0-1.
        days_at_limit: those on which the whole day limit was used.
        days_above_limit: those on which it was exceeded; must be 0.
        braked_days: days on which a chip was braked.
    """

    policy: str
    fingerprint: str
    messages: int
    failed: int
    success_rate: float | None
    conversations: int
    answered: int
    deferrals: Mapping[str, int]
    blocks: Mapping[str, int]
    days_to_operacao: Mapping[str, int | None]
    median_days: float | None
    chip_days: int
    headroom: float | None
    days_at_limit: int
    days_above_limit: int
    braked_days: int

    @property
    def in_operacao(self) -> int:
        """How many chips entered ``operacao``."""
        return sum(day is not None for day in self.days_to_operacao.values())

    def document(self) -> dict[str, Any]:
        """Return it with stable keys; rates and shares are fractions 0-1 or null."""
        return {
            "policy": self.policy,
            "fingerprint": self.fingerprint,
            "in_operacao": self.in_operacao,
            "median_days_to_operacao": self.median_days,
            "days_to_operacao": {name.lstrip("…"): day for name, day in self.days_to_operacao.items()},
            "messages": self.messages,
            "failed": self.failed,
            "success_rate": self.success_rate,
            "conversations": {"opened": self.conversations, "answered": self.answered},
            "deferrals": dict(self.deferrals),
            "blocks": dict(self.blocks),
            "limit_headroom": {
                "chip_days": self.chip_days,
                "mean_unused": self.headroom,
                "days_at_limit": self.days_at_limit,
                "days_above_limit": self.days_above_limit,
            },
            "braked_days": self.braked_days,
        }


@dataclass(frozen=True, slots=True)
class Comparison:
    """What the other policy would change.

    Attributes:
        this: the policy that was simulated.
        other: the one it is compared with.
    """

    this: Outcome
    other: Outcome

    def document(self) -> dict[str, Any]:
        """Return it with stable keys; differences are the other policy's figure less this one's."""
        pairs = {
            "in_operacao": (self.this.in_operacao, self.other.in_operacao),
            "median_days_to_operacao": (self.this.median_days, self.other.median_days),
            "messages": (self.this.messages, self.other.messages),
            "deferrals": (sum(self.this.deferrals.values()), sum(self.other.deferrals.values())),
            "mean_unused": (self.this.headroom, self.other.headroom),
        }
        return {
            "this": self.this.document(),
            "other": self.other.document(),
            "difference": {name: difference(*pair) for name, pair in pairs.items()},
            "days_to_operacao_by_chip": {
                name.lstrip("…"): {"this": mine, "other": theirs, "difference": difference(mine, theirs)}
                for name, mine, theirs in self.by_chip()
            },
            "deferrals_by_reason": {
                reason: {"this": mine, "other": theirs, "difference": theirs - mine}
                for reason, mine, theirs in self.by_reason()
            },
        }

    def by_chip(self) -> list[tuple[str, int | None, int | None]]:
        """Return each chip with its days to ``operacao`` under either policy."""
        names = dict.fromkeys([*self.this.days_to_operacao, *self.other.days_to_operacao])
        return [
            (name, self.this.days_to_operacao.get(name), self.other.days_to_operacao.get(name))
            for name in names
        ]

    def by_reason(self) -> list[tuple[str, int, int]]:
        """Return each reason with how often it deferred a send under either policy, the commonest first."""
        mine, theirs = self.this.deferrals, self.other.deferrals
        found = [(reason, mine.get(reason, 0), theirs.get(reason, 0)) for reason in {*mine, *theirs}]
        return sorted(found, key=lambda one: (-max(one[1:]), one[0]))


def difference(this: float | None, other: float | None) -> float | None:
    """Return the other figure less this one; ``None`` where either is missing."""
    return None if this is None or other is None else round(other - this, 6)


def compare(this: ReportData, other: ReportData) -> Comparison:
    """Return what another policy would change.

    Args:
        this: the report of the policy that was simulated.
        other: that of the other policy, on the same pool, days, faults and seed.
    """
    return Comparison(outcome(this), outcome(other))


def outcome(data: ReportData) -> Outcome:
    """Return what a report's policy came to."""
    pool_days, chip_days = data["pool_days"], data["chip_days"]
    succeeded, failed = (int(pool_days[f"conversa_par_{name}"].sum()) for name in ("succeeded", "failed"))
    taking = chip_days["status"].isin([status.value for status in PARTICIPATING_STATUSES])
    able = chip_days[taking & (chip_days["day_limit"] > 0).fillna(value=False).astype(bool)]
    used = (able["counted"] / able["day_limit"]).astype(float)
    chips = data["chips"][takes_part(data["chips"])]
    days = {
        str(row["chip"]): None if pd.isna(row["ready_warming_day"]) else int(row["ready_warming_day"])
        for row in chips.to_dict("records")
    }
    return Outcome(
        policy=data.policy,
        fingerprint=data.fingerprint,
        messages=int(pool_days["sent"].sum()),
        failed=int(pool_days["failed"].sum()),
        success_rate=round(succeeded / (succeeded + failed), 6) if succeeded + failed else None,
        conversations=int(pool_days["opened"].sum()),
        answered=int(pool_days["answered"].sum()),
        deferrals=_by_reason(data, Decision.DEFER),
        blocks=_by_reason(data, Decision.BLOCK),
        days_to_operacao=days,
        median_days=median_days(days),
        chip_days=len(able),
        headroom=round(float((1 - used).clip(lower=0).mean()), 6) if len(able) else None,
        days_at_limit=int((used >= 1).sum()),
        days_above_limit=int((used > 1).sum()),
        braked_days=int((chip_days["braked"] == True).sum()),  # noqa: E712 - the column may hold nothing
    )


def median_days(days: Mapping[str, int | None]) -> float | None:
    """Return the median of days of which some are not known yet, but later than all that are."""
    known = sorted(math.inf if day is None else day for day in days.values())
    if not known:
        return None
    middle = (known[(len(known) - 1) // 2] + known[len(known) // 2]) / 2
    return None if math.isinf(middle) else middle


def _by_reason(data: ReportData, decision: Decision) -> dict[str, int]:
    found = data["refusals"]
    sums = found[found["decision"] == decision.value].groupby("reason")["count"].sum()
    ordered = sorted(sums.items(), key=lambda one: (-int(one[1]), str(one[0])))
    return {str(reason): int(count) for reason, count in ordered}
