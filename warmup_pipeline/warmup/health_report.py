"""The health document: one text for the command, the demo and the endpoint.

Holds: :func:`health_report`, which joins the latest results of the asset checks with what the pool
looks like now. Add here: another part of the document. Do not add: judging (``checks`` and
``domain.health``), where results are read from (``orchestration``).

Source: domain.md, "Health" (a verdict older than 10 minutes is not a verdict; a last cycle whose run
failed is critical) and interface.md, "``--json`` documents".
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

from warmup_pipeline.domain.health import STALE_AFTER, Severity, Verdict, health_of
from warmup_pipeline.domain.localtime import local_day
from warmup_pipeline.domain.presend import ChipStanding, is_connected
from warmup_pipeline.domain.values import CONVERSA_PAR, HealthStatus
from warmup_pipeline.store import audit, chips, connections, cycles, pools
from warmup_pipeline.store import health as health_store
from warmup_pipeline.store.cycles import Cycle
from warmup_pipeline.store.engine import Transaction
from warmup_pipeline.warmup.checks import CHECKS
from warmup_pipeline.warmup.world import World

EXIT_CODES: Final[Mapping[str, int]] = {
    HealthStatus.HEALTHY.value: 0,
    HealthStatus.DEGRADED.value: 1,
    HealthStatus.CRITICAL.value: 2,
}
"""Exit code of ``warmup health`` by status."""


@dataclass(frozen=True, slots=True)
class CheckResult:
    """The last completed result of one asset check.

    Attributes:
        asset: the asset it belongs to.
        check: its name.
        passed: whether all was well.
        severity: what it means where it was not.
        description: what it said, in one line.
        evaluated_at: real time at which it was judged.
        metadata: the numbers it judged.
    """

    asset: str
    check: str
    passed: bool
    severity: Severity
    description: str
    evaluated_at: datetime
    metadata: Mapping[str, Any] = field(default_factory=dict)


def health_report(world: World, results: Iterable[CheckResult]) -> dict[str, Any]:
    """Return the health document.

    A check without a result, or with one that is older than ten minutes of real time, makes the pool
    critical: silence is never healthy.

    Args:
        world: whose database is described; nothing is changed.
        results: the last completed result of each check.
    """
    now = world.now()
    by_check = {(result.asset, result.check): result for result in results}
    shown: list[dict[str, Any]] = []
    verdicts: list[Verdict] = []
    reasons: list[str] = []
    for spec in CHECKS:
        result = by_check.get((spec.asset, spec.name))
        stale = result is None or now - result.evaluated_at > STALE_AFTER
        shown.append(_shown(spec.asset, spec.name, result, stale=stale))
        if result is None:
            reasons.append(f"{spec.name} has never been evaluated")
        elif stale:
            minutes = (now - result.evaluated_at).total_seconds() / 60
            reasons.append(f"{spec.name} was last evaluated {minutes:.0f} minutes ago")
        elif not result.passed:
            reasons.append(f"{spec.name}: {result.description}")
        passed = result is not None and not stale and result.passed
        severity = Severity.ERROR if result is None or stale else result.severity
        verdicts.append(Verdict(spec.name, passed, severity, "" if result is None else result.description))
    with world.store.read() as tx:
        latest = cycles.latest_of_each_pool(tx)
        pool, today = _pool_and_today(world, tx, latest, now)
    for failed in (cycle for cycle in latest.values() if cycle.state == "failed"):
        reasons.append(f"the last cycle of pool {failed.pool!r} failed")
        verdicts.append(Verdict("last_cycle", passed=False, severity=Severity.ERROR, summary=reasons[-1]))
    return {
        "status": health_of(verdicts).value,
        "at": now.isoformat(),
        "mode": world.mode,
        "reasons": [world.redactor.text(reason) for reason in reasons],
        "checks": shown,
        "pool": pool,
        "activities_today": today,
        "last_cycle": _last_cycle(latest.values(), now),
    }


def _shown(asset: str, check: str, result: CheckResult | None, *, stale: bool) -> dict[str, Any]:
    if result is None:
        return {
            "asset": asset,
            "check": check,
            "passed": False,
            "severity": Severity.ERROR.value.upper(),
            "description": "never evaluated; run a cycle",
            "evaluated_at": None,
            "metadata": {},
            "stale": True,
        }
    return {
        "asset": asset,
        "check": check,
        "passed": result.passed,
        "severity": result.severity.value.upper(),
        "description": result.description,
        "evaluated_at": result.evaluated_at.isoformat(),
        "metadata": dict(result.metadata),
        "stale": stale,
    }


def _pool_and_today(
    world: World, tx: Transaction, latest: Mapping[str, Cycle], now: datetime
) -> tuple[dict[str, Any], dict[str, Any]]:
    at = {pool.name: pool.now(now) for pool in pools.every(tx)}
    every_chip = chips.of_pool(tx)
    seen = connections.of_pool(tx)
    connected = 0
    for chip in every_chip:
        one = seen.get(chip.id)
        if one is None or not chip.takes_part:
            continue
        standing = ChipStanding(chip.id, chip.status, chip.role, one.state, one.observed_at)
        connected += is_connected(standing, at[chip.pool])
    days = {name: local_day(moment, world.policy.zone) for name, moment in at.items()}
    # The day of the last cycle, where a stepped clock has just stepped into the next one.
    days |= {name: cycle.day for name, cycle in latest.items()}
    (succeeded, failed), _ = audit.attempts(tx, day=days, since=at)
    today: dict[str, Any] = {}
    for name, counts in health_store.activities_of_day(tx, days).items():
        won, lost = (succeeded, failed) if name == CONVERSA_PAR else (counts.executed, counts.failed)
        today[name] = {
            "planned": counts.planned,
            "executed": counts.executed,
            "failed": counts.failed,
            "deferred": counts.deferred,
            "blocked": counts.blocked,
            "expired": counts.expired,
            "unknown": counts.unknown,
            "success_rate": won / (won + lost) if won + lost else None,
        }
    pool = {
        "total": len(every_chip),
        "participating": sum(chip.takes_part for chip in every_chip),
        "connected": connected,
        "by_status": dict(sorted(Counter(chip.status.value for chip in every_chip).items())),
        "by_phase": dict(sorted(Counter(chip.phase.value for chip in every_chip).items())),
    }
    return pool, today


def _last_cycle(latest: Iterable[Cycle], now: datetime) -> dict[str, Any] | None:
    newest = max(latest, key=lambda cycle: cycle.began_at, default=None)
    if newest is None:
        return None
    ended = newest.ended_at
    return {
        "run_id": newest.root_run_id,
        "tick": newest.tick.isoformat(),
        "ended_at": None if ended is None else ended.isoformat(),
        "age_s": (now - (ended or newest.began_at)).total_seconds(),
    }
