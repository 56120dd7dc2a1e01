"""Why chips do not move on: brakes, and what holds a degraded chip.

Holds: :func:`brakes`, :func:`holds` and :func:`braked_chips`. Do not add: what signals a brake (``transitions``).
Source: domain.md, "Brake and hold".
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Final

from warmup_pipeline.domain.degrade import BrakeSignal, Hold, brake_until, degraded_hold, hold_of
from warmup_pipeline.domain.degrade import braked as is_braked
from warmup_pipeline.domain.metrics import ChipMetrics
from warmup_pipeline.domain.values import ChipStatus
from warmup_pipeline.store import chips
from warmup_pipeline.store import derived as derived_store
from warmup_pipeline.store.chips import Begun, Chip
from warmup_pipeline.store.engine import Transaction
from warmup_pipeline.store.scope import Scope
from warmup_pipeline.warmup.world import World

SIGNAL_LOOK_BACK: Final = timedelta(days=30)
"""The longest brake a policy can ask for."""


def brakes(tx: Transaction, world: World, pool: str, at: datetime) -> dict[str, datetime]:
    """Return when the brake (and hold) of each braked chip ends."""
    signals = chips.last_brake_signals(tx, pool, since=at - SIGNAL_LOOK_BACK)
    ends = {
        chip_id: brake_until([BrakeSignal(kind, when) for kind, when in found], world.policy)
        for chip_id, found in signals.items()
    }
    return {chip_id: end for chip_id, end in ends.items() if end is not None and is_braked(end, at)}


def holds(tx: Transaction, world: World, scope: Scope, at: datetime) -> dict[str, Hold]:
    """Return why, and until when, each chip in a scope that is degraded or braked does not move on."""
    return holds_of(tx, world, scope, at, chips.begun(tx, scope), derived_store.metrics_in(tx, scope))


def holds_of(
    tx: Transaction,
    world: World,
    scope: Scope,
    at: datetime,
    every_chip: Sequence[Chip] | Sequence[Begun],
    metrics: Mapping[str, ChipMetrics],
) -> dict[str, Hold]:
    """Return the same of chips that were loaded already, with their stored metrics."""
    signals = chips.last_brake_signals(tx, scope.pool, since=at - SIGNAL_LOOK_BACK)
    found: dict[str, Hold] = {}
    degraded = [chip.id for chip in every_chip if chip.status is ChipStatus.DEGRADED]
    trouble_of = {chip.id: chip for chip in chips.of_ids(tx, degraded)} if degraded else {}
    for one in every_chip:
        chip = trouble_of.get(one.id)
        if chip is not None:
            measured = metrics.get(chip.id)
            errors = [chip.last_error_at, measured.last_error_at if measured else None]
            last = max((error for error in errors if error is not None), default=None)
            found[chip.id] = degraded_hold(chip.status_reason, last, chip.status_since)
            continue
        if one.id not in signals:
            continue
        mine = [BrakeSignal(kind, when) for kind, when in signals[one.id]]
        hold = hold_of(mine, world.policy, at)
        if hold is not None:
            found[one.id] = hold
    return found


def braked_chips(tx: Transaction, world: World, pool: str, at: datetime) -> frozenset[str]:
    """Return the chips whose limits are braked and whose phase is held."""
    return frozenset(brakes(tx, world, pool, at))
