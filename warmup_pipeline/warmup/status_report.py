"""The status document: how each pool stands now, and what somebody may want to look at.

Holds: :func:`status_report`. Add here: another thing that is shown of a pool. Do not add: judging
(that is health), queries (``store.health``).

Phones show as their last four digits; texts are redacted.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

from warmup_pipeline.store import cycles, pools
from warmup_pipeline.store import health as health_store
from warmup_pipeline.store.cycles import Cycle
from warmup_pipeline.store.engine import Transaction
from warmup_pipeline.store.health import ChipGroup, ToLookAt
from warmup_pipeline.warmup.derive.holds import brakes
from warmup_pipeline.warmup.health_report import counted
from warmup_pipeline.warmup.world import World

SHOWN: Final = 100
"""Chips to look at that are listed; ``chips_to_look_at_total`` counts them all."""


def status_report(world: World) -> dict[str, Any]:
    """Return how each pool stands: a fixed number of queries and a small document, however many chips.

    Args:
        world: whose database is described; nothing is changed.
    """
    now = world.now()
    with world.store.read() as tx:
        held = pools.with_chips(tx)
        at = {pool.name: pool.now(now) for pool in held}
        latest = cycles.latest_of_each_pool(tx)
        groups = health_store.chip_groups(tx, at)
        look_at, total = health_store.to_look_at(tx, at, limit=SHOWN)
        switches = health_store.switched_off(tx, max(at.values(), default=now))
        return {
            "at": now.isoformat(),
            "mode": world.mode,
            "policy": world.policy_name,
            "pools": {
                name: _pool(
                    tx, world, name, moment, [g for g in groups if g.pool == name], latest.get(name), now
                )
                for name, moment in sorted(at.items())
            },
            "kill_switches": [
                {
                    "scope": one.scope,
                    "target": f"…{one.target}" if one.scope == "chip" else one.target,
                    "reason": world.redactor.text(one.reason),
                    "author": world.redactor.text(one.author),
                    "set_at": one.set_at.isoformat(),
                    "expires_at": _iso(one.expires_at),
                }
                for one in switches
            ],
            "chips_to_look_at": [_chip(world, one, at[one.pool]) for one in look_at],
            "chips_to_look_at_total": total,
        }


def _pool(
    tx: Transaction,
    world: World,
    name: str,
    at: datetime,
    groups: list[ChipGroup],
    cycle: Cycle | None,
    now: datetime,
) -> dict[str, Any]:
    trust: Counter[str] = Counter()
    for group in groups:
        trust[group.level or "not scored"] += group.chips
    return {
        "at": at.isoformat(),
        **counted(groups),
        "by_trust": dict(sorted(trust.items())),
        "held": len(brakes(tx, world, name, at)),
        "last_cycle": None
        if cycle is None
        else {
            "run_id": cycle.root_run_id,
            "tick": cycle.tick.isoformat(),
            "state": cycle.state,
            "health": cycle.health,
            "began_at": cycle.began_at.isoformat(),
            "ended_at": _iso(cycle.ended_at),
            "duration_s": cycle.duration_s,
            "age_s": (now - (cycle.ended_at or cycle.began_at)).total_seconds(),
            "counts": _numbers(cycle.counts),
        },
    }


def _numbers(counts: Mapping[str, Any]) -> dict[str, Any]:
    """Return what each step of a cycle counted."""
    return {step: dict(found) if isinstance(found, Mapping) else found for step, found in counts.items()}


def _chip(world: World, one: ToLookAt, at: datetime) -> dict[str, Any]:
    resting = one.cooldown_until is not None and one.cooldown_until > at
    return {
        "chip": f"…{one.last4}",
        "pool": one.pool,
        "status": one.status,
        "status_reason": None if one.status_reason is None else world.redactor.text(one.status_reason),
        "connection": one.connection,
        "connection_since": _iso(one.since),
        "needs_person": None if one.needs_person is None else world.redactor.text(one.needs_person),
        "breaker": one.breaker or "closed",
        "cooldown_until": _iso(one.cooldown_until) if resting else None,
        "cooldown_reason": one.cooldown_reason if resting else None,
    }


def _iso(at: datetime | None) -> str | None:
    return None if at is None else at.isoformat()
