"""Which rows and columns of an asset's table its page shows, and the health of the last days.

Holds: :data:`PREVIEWS`, one line per asset, and :func:`daily_history`. Add here: a new asset's line.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import dagster as dg

from warmup_pipeline.domain.values import HealthStatus
from warmup_pipeline.orchestration.text import markdown_table
from warmup_pipeline.store import preview
from warmup_pipeline.store.cycles import Cycle
from warmup_pipeline.store.engine import Transaction

_ROWS: Final = 10
_DAYS: Final = 14


@dataclass(frozen=True, slots=True)
class Preview:
    """What is shown of a table: its columns, their order (``-`` for the largest first), how many rows."""

    columns: tuple[str, ...]
    order: tuple[str, ...] = ()
    rows: int = _ROWS


PREVIEWS: Final[Mapping[str, Preview]] = {
    "chip_connections": Preview(
        ("chip_id", "state", "since", "observed_at", "needs_person", "next_recovery_at"), ("state", "-since")
    ),
    "pairings": Preview(("opener_chip_id", "responder_chip_id", "score", "parts"), ("-score",)),
    "presend_validations": Preview(
        ("sender_chip_id", "recipient_chip_id", "subject", "decision", "reason", "until", "phase"),
        ("-decision",),
    ),
    "messages": Preview(
        ("sender_chip_id", "recipient_chip_id", "turn", "kind", "state", "failure_class", "failure_status"),
        ("-state",),
    ),
    "chip_metrics": Preview(
        (
            "chip_id",
            "sent_today",
            "received_today",
            "sent_total",
            "response_rate",
            "delivery_rate",
            "errors_24h",
            "bidirectional",
        ),
        ("-errors_24h", "-sent_today"),
    ),
    "trust_scores": Preview(("chip_id", "score", "level", "parts"), ("score",)),
    "warming_day": Preview(("chip_id", "warming_day", "age_reference"), ("-warming_day",)),
    "phase_eligibility": Preview(
        (
            "chip_id",
            "next_phase",
            "criterion",
            "value",
            "comparison",
            "needed",
            "holds",
            "earliest_day",
            "held_reason",
            "held_until",
        ),
        ("holds", "earliest_day"),
        20,
    ),
    "phase_transitions": Preview(("chip_id", "from_phase", "to_phase", "at", "warming_day"), ("-at",)),
    "phase_forecast": Preview(
        ("chip_id", "day", "phase", "next_phase", "earliest_date", "limited_by"),
        ("-day", "earliest_date"),
        20,
    ),
    "daily_summary": Preview(
        (
            "scope",
            "scope_id",
            "planned",
            "executed",
            "sent",
            "received",
            "failed",
            "unknown",
            "conversa_par_success_rate",
        ),
        ("scope", "-sent"),
    ),
}

_RANK: Final = {health.value: number for number, health in enumerate(HealthStatus)}


def daily_history(tx: Transaction, cycle: Cycle) -> dict[str, Any]:
    """Return the health of a pool's last days, as a table and as a number that plots.

    The number is that of the last day whose health is known: 0 healthy, 1 degraded, 2 critical.
    """
    days = preview.days_of_pool(tx, cycle.pool, until=cycle.day, limit=_DAYS)
    if not days:
        return {}
    table = markdown_table(
        ("day", "health", "success rate", "sent", "delivered", "failed", "cycles", "missed", "worst cycle s"),
        [
            (
                day["day"],
                day["health"],
                day["conversa_par_success_rate"],
                day["sent"],
                day["delivered"],
                day["failed"],
                day["cycles_run"],
                day["cycles_missed"],
                day["worst_cycle_s"],
            )
            for day in days
        ],
    )
    shown: dict[str, Any] = {"last_days": dg.MetadataValue.md(table)}
    health = next((day["health"] for day in days if day["health"] is not None), None)
    if health is not None:
        shown["health_0_is_healthy"] = _RANK[health]
    return shown
