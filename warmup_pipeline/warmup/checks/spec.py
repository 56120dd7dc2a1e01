"""What a check is, and how its verdict is made.

Holds: :class:`CheckSpec`, :func:`verdict`, :func:`note_verdict`. Do not add: a check (it goes to the
module of its asset), what checks look at (``scene``).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from warmup_pipeline.domain.health import Severity, Verdict
from warmup_pipeline.domain.values import HealthStatus
from warmup_pipeline.store import cycles
from warmup_pipeline.warmup.world import World


@dataclass(frozen=True, slots=True)
class CheckSpec:
    """One check.

    Attributes:
        asset: the asset it belongs to.
        name: its name: a fact that must hold.
        description: what it means, for an operator.
        judge: judges the whole database.
        remedy: what to do where it does not hold.
    """

    asset: str
    name: str
    description: str
    judge: Callable[[World], Verdict]
    remedy: str


def verdict(
    name: str,
    *,
    passed: bool,
    summary: str,
    numbers: Mapping[str, Any],
    concerned: tuple[str, ...] = (),
    severity: Severity = Severity.ERROR,
) -> Verdict:
    """Return a verdict; one that does not pass is an error unless it is said to be a warning."""
    return Verdict(name, passed, severity, summary, numbers, concerned)


def note_verdict(world: World, cycle_id: str, verdict: Verdict) -> None:
    """Let a verdict count in the health of the cycle that was judged."""
    if verdict.passed:
        health = HealthStatus.HEALTHY
    elif verdict.severity is Severity.ERROR:
        health = HealthStatus.CRITICAL
    else:
        health = HealthStatus.DEGRADED
    with world.store.write() as tx:
        cycles.worsen_health(tx, cycle_id, health)
