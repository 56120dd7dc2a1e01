"""Since when chips age, and their warming days.

Holds: :func:`reference_of` and the step :func:`derive_warming_day`. Never kept by hand (root causes 2 and 4).
"""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime

from warmup_pipeline.domain.localtime import local_day
from warmup_pipeline.domain.phases import age_reference, warming_day
from warmup_pipeline.store import chips, derivations
from warmup_pipeline.store import derived as derived_store
from warmup_pipeline.store.chips import Begun, Chip
from warmup_pipeline.store.cycles import Cycle
from warmup_pipeline.store.engine import Transaction
from warmup_pipeline.store.scope import Scope
from warmup_pipeline.warmup.collecting import collecting_later
from warmup_pipeline.warmup.lifecycle import hold_pool
from warmup_pipeline.warmup.world import StepReport, World


def reference_of(chip: Chip | Begun) -> datetime:
    """Return the chip's age reference (root cause 4)."""
    return age_reference(chip.warming_started_at, chip.phase_started_at, chip.created_at)


@collecting_later
def derive_warming_day(world: World, cycle: Cycle) -> StepReport:
    """Recompute chips' warming days."""
    with world.store.write() as tx:
        hold_pool(world, tx, cycle)
        scope = derivations.scope(tx, cycle.pool, cycle.tick)
        # No message makes a chip older.
        found = write_warming_days(tx, world, replace(scope, otherwise=scope.marked), cycle.tick)
        if scope.marked:
            chip_count, warming, oldest = derived_store.age(tx, cycle.pool)
        else:
            days = [day for day in found.values() if day is not None]
            chip_count, warming, oldest = len(found), len(days), max(days, default=None)
    return StepReport({"chips": chip_count, "warming": warming, "oldest": oldest})


def write_warming_days(tx: Transaction, world: World, scope: Scope, at: datetime) -> dict[str, int | None]:
    """Derive and store the warming days of the chips in a scope; returns them."""
    zone = world.policy.zone
    day = local_day(at, zone)
    every_chip = chips.begun(tx, scope)
    references = {chip.id: reference_of(chip) for chip in every_chip}
    found = {
        chip.id: warming_day(
            status=chip.status, role=chip.role, reference=references[chip.id], at=at, zone=zone
        )
        for chip in every_chip
    }
    derived_store.store_warming_days(
        tx,
        scope,
        [
            {
                "chip_id": chip_id,
                "pool": scope.pool,
                "computed_at": at,
                "computed_day": day,
                "age_reference": references[chip_id],
                "warming_day": days,
            }
            for chip_id, days in found.items()
        ],
        at=at,
        day=day,
    )
    return found
