"""The health document: one text for the command, the demo and the endpoint.

Holds: :func:`health_report`, which joins the latest results of the asset checks with the signs of life
and with what the pool looks like now, and :func:`health_without_database`. Add here: another part of
the document. Do not add: judging (``checks``, ``domain.health``, ``domain.vitals``), where results are
read from (``orchestration``).

Source: domain.md, "Health" (a verdict older than 10 minutes is not a verdict; a last cycle whose run
failed is critical) and interface.md, "``--json`` documents".
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

from warmup_pipeline.domain.health import STALE_AFTER, Severity, Verdict, health_of
from warmup_pipeline.domain.localtime import local_day
from warmup_pipeline.domain.values import CONVERSA_PAR, HealthStatus
from warmup_pipeline.domain.vitals import LastCycle, SchedulerState, Vital, vitals
from warmup_pipeline.store import audit, cycles, operators, pools
from warmup_pipeline.store import health as health_store
from warmup_pipeline.store.cycles import Cycle
from warmup_pipeline.store.engine import Transaction
from warmup_pipeline.store.health import ChipGroup
from warmup_pipeline.store.operators import SwitchedOff
from warmup_pipeline.warmup.checks import CHECKS
from warmup_pipeline.warmup.world import World

EXIT_CODES: Final[Mapping[str, int]] = {
    HealthStatus.HEALTHY.value: 0,
    HealthStatus.DEGRADED.value: 1,
    HealthStatus.CRITICAL.value: 2,
}
"""Exit code of ``warmup health`` by status."""

VERDICTS_ARE_FRESH: Final = "verdicts_are_fresh"
"""The sign of life that stands for all checks without a verdict."""


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
        run_id: the run that judged.
    """

    asset: str
    check: str
    passed: bool
    severity: Severity
    description: str
    evaluated_at: datetime
    metadata: Mapping[str, Any] = field(default_factory=dict)
    run_id: str | None = None


def health_report(
    world: World, results: Iterable[CheckResult], scheduler: SchedulerState | None = None
) -> dict[str, Any]:
    """Return the health document.

    A check without a result, or with one that is older than ten minutes of real time, makes the pool
    critical: silence is never healthy. So do the signs of life (``vitals``).

    Args:
        world: whose database is described; nothing is changed.
        results: the last completed result of each check.
        scheduler: what Dagster says of itself; ``None`` where it is not what runs the cycles (the demo).
    """
    now = world.now()
    by_check = {(result.asset, result.check): result for result in results}
    shown, verdicts, reasons = _judged(by_check, now)
    with world.store.read() as tx:
        latest = cycles.latest_of_each_pool(tx)
        pool, today = _pool_and_today(world, tx, latest, now)
        times = {held.name: held.now(now) for held in pools.with_chips(tx)}
        off = [one for one in operators.switched_off(tx) if one.is_on(times)]
    signs = vitals(
        now=now,
        verdicts={check["check"]: _evaluated(by_check, check) for check in shown},
        last_cycles=[
            LastCycle(cycle.pool, _ended_as(cycle, scheduler), cycle.began_at, cycle.root_run_id)
            for _, cycle in sorted(latest.items())
        ],
        scheduler=scheduler,
    )
    verdicts += [Verdict(sign.name, sign.passed, sign.severity, sign.text) for sign in signs]
    # The checks' own reasons say which ones have no verdict.
    causes = [sign.text for sign in signs if not sign.passed and sign.name != VERDICTS_ARE_FRESH]
    return {
        "status": health_of(verdicts).value,
        "at": now.isoformat(),
        "mode": world.mode,
        "reasons": [world.redactor.text(reason) for reason in (*causes, *reasons)],
        "checks": shown,
        "vitals": [_sign(sign) for sign in signs],
        "switched_off": [_switch(world, one) for one in off],
        "pool": pool,
        "activities_today": today,
        "last_cycle": _last_cycle(latest.values(), now),
    }


def _switch(world: World, one: SwitchedOff) -> dict[str, Any]:
    """Return a kill switch as it may be shown: a chip by its last four digits."""
    return {
        "scope": one.scope,
        "target": one.target if one.last4 is None else f"…{one.last4}",
        "author": world.redactor.text(one.author),
        "reason": world.redactor.text(one.reason),
        "set_at": one.set_at.isoformat(),
        "expires_at": None if one.expires_at is None else one.expires_at.isoformat(),
    }


def _ended_as(cycle: Cycle, scheduler: SchedulerState | None) -> str:
    """Return a cycle's state; failed, too, where its run failed after it had ended."""
    run_failed = scheduler is not None and cycle.root_run_id in scheduler.failed
    return "failed" if run_failed else cycle.state


def health_without_database(
    why: str, results: Iterable[CheckResult], *, now: datetime, mode: str
) -> dict[str, Any]:
    """Return the health document for a database that cannot be used: critical, saying why.

    Args:
        why: one redacted line that says what to do.
        results: the last completed result of each check, which Dagster keeps elsewhere.
        now: the real time.
        mode: ``live`` or ``simulated``.
    """
    shown, _, reasons = _judged({(result.asset, result.check): result for result in results}, now)
    sign = Vital("database_can_be_used", passed=False, severity=Severity.ERROR, text=why)
    return {
        "status": HealthStatus.CRITICAL.value,
        "at": now.isoformat(),
        "mode": mode,
        "reasons": [why, *reasons],
        "checks": shown,
        "vitals": [_sign(sign)],
        "switched_off": [],
        "pool": {"total": 0, "participating": 0, "connected": 0, "by_status": {}, "by_phase": {}},
        "activities_today": {},
        "last_cycle": None,
    }


def _evaluated(by_check: Mapping[tuple[str, str], CheckResult], shown: Mapping[str, Any]) -> datetime | None:
    result = by_check.get((shown["asset"], shown["check"]))
    return None if result is None else result.evaluated_at


def _sign(sign: Vital) -> dict[str, Any]:
    return {
        "name": sign.name,
        "passed": sign.passed,
        "severity": sign.severity.value.upper(),
        "description": sign.text,
        "what_to_do": sign.remedy,
        "concerned": list(sign.concerned),
        "run_id": sign.run_id,
    }


def _judged(
    by_check: Mapping[tuple[str, str], CheckResult], now: datetime
) -> tuple[list[dict[str, Any]], list[Verdict], list[str]]:
    """Return every check as it is shown, as it counts, and the reasons of those that are not well."""
    shown: list[dict[str, Any]] = []
    verdicts: list[Verdict] = []
    reasons: list[str] = []
    for spec in CHECKS:
        result = by_check.get((spec.asset, spec.name))
        stale = result is None or now - result.evaluated_at > STALE_AFTER
        shown.append({**_shown(spec.asset, spec.name, result, stale=stale), "what_to_do": spec.remedy})
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
    return shown, verdicts, reasons


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
            "run_id": None,
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
        "run_id": result.run_id,
        "stale": stale,
    }


def _pool_and_today(
    world: World, tx: Transaction, latest: Mapping[str, Cycle], now: datetime
) -> tuple[dict[str, Any], dict[str, Any]]:
    at = {pool.name: pool.now(now) for pool in pools.every(tx)}
    groups = health_store.chip_groups(tx, at)
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
    return counted(groups), today


def counted(groups: Sequence[ChipGroup]) -> dict[str, Any]:
    """Return chips that were counted by how they stand, as a document's ``pool`` shows them."""
    by_status: Counter[str] = Counter()
    by_phase: Counter[str] = Counter()
    for group in groups:
        by_status[group.status] += group.chips
        by_phase[group.phase] += group.chips
    taking_part = [group for group in groups if group.participating]
    return {
        "total": by_status.total(),
        "participating": sum(group.chips for group in taking_part),
        "connected": sum(group.connected for group in taking_part),
        "by_status": dict(sorted(by_status.items())),
        "by_phase": dict(sorted(by_phase.items())),
    }


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
