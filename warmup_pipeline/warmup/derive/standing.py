"""Deriving outside a cycle, for chips that just came in.

Holds: :func:`derive_standing`.
"""

from __future__ import annotations

from datetime import datetime

from warmup_pipeline.store import derivations, rollups
from warmup_pipeline.store.engine import Transaction
from warmup_pipeline.store.scope import Scope
from warmup_pipeline.warmup.derive.age import write_warming_days
from warmup_pipeline.warmup.derive.eligibility import write_eligibility
from warmup_pipeline.warmup.derive.metrics import write_metrics
from warmup_pipeline.warmup.derive.trust import write_trust
from warmup_pipeline.warmup.world import World


def derive_standing(tx: Transaction, world: World, pool: str, at: datetime) -> None:
    """Derive metrics, trust, warming day and eligibility of a pool in an open transaction.

    For chips that just came in (an import, a new chip), so that nothing has to wait for a cycle.
    """
    scope = Scope(pool)
    rollups.bring_up(tx, pool, at=at)
    # Whatever the roll-up was brought up to here, the next cycle would not see it move.
    if tx.memory is None:
        derivations.forget(tx, pool)
    write_metrics(tx, world, scope, at)
    write_trust(tx, world, scope, at)
    write_warming_days(tx, world, scope, at)
    write_eligibility(tx, world, scope, at)
