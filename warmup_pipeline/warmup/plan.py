"""The second step: every participating chip has a plan for the local day, made once and stored.

Holds: :func:`plan_day`. The plan itself is ``domain.planning``. Source: domain.md, "Planning" and
"The cycle", step 2: a phase change cancels what is left of the day and plans it anew.
"""

from __future__ import annotations

from collections import Counter
from datetime import datetime
from typing import Any

from warmup_pipeline.domain import planning
from warmup_pipeline.domain.localtime import local_day
from warmup_pipeline.domain.values import ActivityState, RowSource, TrustLevel
from warmup_pipeline.store import activities, chips
from warmup_pipeline.store import derived as derived_store
from warmup_pipeline.store.chips import Chip
from warmup_pipeline.store.cycles import Cycle
from warmup_pipeline.warmup.derive.holds import braked_chips
from warmup_pipeline.warmup.derive.standing import derive_standing
from warmup_pipeline.warmup.ids import derived_id
from warmup_pipeline.warmup.lifecycle import hold_pool
from warmup_pipeline.warmup.world import StepReport, World


def plan_day(world: World, cycle: Cycle) -> StepReport:
    """Plan the local day for every participating chip that has no plan for it in its phase."""
    with world.store.write() as tx:
        hold_pool(world, tx, cycle)
        participants = [chip for chip in chips.of_pool(tx, cycle.pool) if chip.takes_part]
        standing = derived_store.trust_levels(tx, cycle.pool)
        if any(chip.id not in standing for chip in participants):
            # Chips added since the last cycle: nothing is planned for a chip that was never looked at.
            derive_standing(tx, world, cycle.pool, cycle.tick)
            standing = derived_store.trust_levels(tx, cycle.pool)
        plans = activities.plans_of(tx, cycle.pool, cycle.day)
        braked = braked_chips(tx, world, cycle.pool, cycle.tick)
        missing = [chip for chip in participants if chip.id not in plans]
        changed = [
            chip for chip in participants if chip.id in plans and plans[chip.id].phase is not chip.phase
        ]
        activities.cancel_rest_of_day(
            tx, {chip.id: cycle.day for chip in changed}, at=cycle.tick, reason="replanned"
        )
        plan_rows: list[dict[str, Any]] = []
        activity_rows: list[dict[str, Any]] = []
        for chip in [*missing, *changed]:
            revision = plans[chip.id].revision + 1 if chip.id in plans else 0
            plan = planning.plan_day(
                chip_id=chip.id,
                day=cycle.day,
                phase=chip.phase,
                trust_level=standing.get(chip.id, TrustLevel.CRITICO),
                policy=world.policy,
                executable=world.activities.executable,
                openings=frozenset(world.activities.openings),
                others_in_pool=len(participants) - 1,
                braked=chip.id in braked,
                not_before=_not_before(world, chip, cycle, replanned=chip.id in plans),
                revision=revision,
            )
            rows = [_row(chip, plan, revision, number) for number in range(len(plan.items))]
            activity_rows += rows
            plan_rows.append(
                {
                    "chip_id": chip.id,
                    "day": cycle.day,
                    "revision": revision,
                    "phase": chip.phase,
                    "trust_level": plan.trust_level,
                    "policy": world.policy_name,
                    "source": RowSource.WARMUP,
                    "planned": len(rows),
                    "planned_at": cycle.tick,
                }
            )
        activities.insert_plans(tx, plan_rows, activity_rows)
    by_type = Counter(row["type"] for row in activity_rows)
    return StepReport(
        {
            "chips_planned": len(plan_rows),
            "chips_replanned": len(changed),
            "activities_planned": len(activity_rows),
            **{f"planned_{name}": count for name, count in sorted(by_type.items())},
        }
    )


def _not_before(world: World, chip: Chip, cycle: Cycle, *, replanned: bool) -> datetime | None:
    """A chip that joins late, or changes phase within the day, gets the part of the plan that is left.

    A chip that was there before the day began gets its whole plan even if the day's first cycle is
    late: what that makes too late expires, and is seen to.
    """
    joined_today = local_day(chip.status_since, world.policy.zone) == cycle.day
    return cycle.tick if replanned or joined_today else None


def _row(chip: Chip, plan: planning.DayPlan, revision: int, number: int) -> dict[str, Any]:
    item = plan.items[number]
    return {
        "id": derived_id("activity", chip.id, plan.day, revision, number),
        "pool": chip.pool,
        "chip_id": chip.id,
        "type": item.type,
        "day": plan.day,
        "planned_at": item.due_at,
        "due_at": item.due_at,
        "state": ActivityState.PLANNED,
        "source": RowSource.WARMUP,
    }
