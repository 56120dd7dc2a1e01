"""What chips still need for their next phase.

Holds: :func:`phase_facts` and the step :func:`derive_phase_eligibility`. Do not add: criteria
(``domain.phases``), moving on (``transitions``).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from datetime import datetime
from operator import attrgetter
from typing import Any, Final, TypeVar

from warmup_pipeline.domain.phases import Eligibility, PhaseFacts, eligibility
from warmup_pipeline.domain.values import ChipStatus
from warmup_pipeline.store import chips, derivations
from warmup_pipeline.store import derived as derived_store
from warmup_pipeline.store.bulk import Columns
from warmup_pipeline.store.chips import Begun, Chip
from warmup_pipeline.store.cycles import Cycle
from warmup_pipeline.store.engine import Transaction
from warmup_pipeline.store.scope import Scope
from warmup_pipeline.warmup.collecting import collecting_later
from warmup_pipeline.warmup.derive.age import reference_of
from warmup_pipeline.warmup.derive.holds import holds_of
from warmup_pipeline.warmup.lifecycle import hold_pool
from warmup_pipeline.warmup.world import StepReport, World

_Chip = TypeVar("_Chip", Chip, Begun)

_OF_CRITERION: Final = {
    "criterion": "name",
    "value": "value",
    "needed": "needed",
    "comparison": "comparison",
    "holds": "holds",
    "earliest_day": "earliest_day",
}
"""Columns that stand for a criterion's fields."""
_STATED: Final = attrgetter(*_OF_CRITERION.values())
_OF_CHIP: Final = ("chip_id", "pool", "computed_at", "phase", "next_phase", "held_reason", "held_until")
_COLUMNS: Final = (*_OF_CHIP, *_OF_CRITERION)


def phase_facts(tx: Transaction, pool: str, at: datetime) -> dict[str, PhaseFacts]:
    """Return what eligibility looks at, as it is stored, of every chip of a pool that was ever scored."""
    scope = Scope(pool)
    return {i: facts for i, (_, facts) in facts_of(tx, scope, at, chips.begun(tx, scope)).items()}


def facts_of(
    tx: Transaction, scope: Scope, at: datetime, every_chip: Sequence[_Chip]
) -> dict[str, tuple[_Chip, PhaseFacts]]:
    """Return each of a scope's chips that was ever scored, with what eligibility looks at, as it is stored."""
    metrics = derived_store.metrics_in(tx, scope)
    trust = derived_store.trust_in(tx, scope)
    days = derived_store.warming_days_in(tx, scope)
    entered = derived_store.entered_with(tx, scope)
    return {
        chip.id: (
            chip,
            PhaseFacts(
                phase=chip.phase,
                phase_started_at=chip.phase_started_at,
                warming_day=days.get(chip.id),
                age=at - reference_of(chip),
                metrics=metrics[chip.id],
                trust=trust[chip.id][0],
                entered=entered.get((chip.id, chip.phase)),
            ),
        )
        for chip in every_chip
        if chip.id in metrics and chip.id in trust
    }


@collecting_later
def derive_phase_eligibility(world: World, cycle: Cycle) -> StepReport:
    """Recompute what chips still need for their next phase."""
    with world.store.write() as tx:
        hold_pool(world, tx, cycle)
        scope = derivations.scope(tx, cycle.pool, cycle.tick)
        found = write_eligibility(tx, world, scope, cycle.tick)
        if scope.marked:
            chip_count, eligible, limits = derivations.standing(tx, cycle.pool)
        else:
            chip_count, eligible = len(found), sum(one.eligible for one in found.values())
            limits = dict(Counter(one.limited_by for one in found.values() if one.limited_by))
    return StepReport({"chips": chip_count, "eligible": eligible, "limited_by": limits})


def write_eligibility(tx: Transaction, world: World, scope: Scope, at: datetime) -> dict[str, Eligibility]:
    """Derive and store what the chips in a scope need for their next phase; returns it."""
    zone = world.policy.zone
    facts = facts_of(tx, scope, at, chips.begun(tx, scope))
    held = holds_of(
        tx,
        world,
        scope,
        at,
        [chip for chip, _ in facts.values()],
        {chip_id: one.metrics for chip_id, (_, one) in facts.items()},
    )
    found = {
        chip_id: eligibility(one, world.policy, at=at, zone=zone)
        for chip_id, (chip, one) in facts.items()
        if chip.status not in (ChipStatus.BANNED, ChipStatus.CANCELLED)
    }
    # As sequences: there are several criteria of each of thousands of chips.
    rows: list[tuple[Any, ...]] = []
    for chip_id, one in found.items():
        if one.next is not None:
            hold = held.get(chip_id)
            until = (None, None) if hold is None else (hold.reason, hold.until)
            of_chip = (chip_id, scope.pool, at, one.current, one.next, *until)
            rows += [(*of_chip, *_STATED(criterion)) for criterion in one.criteria]
    derived_store.store_eligibility(tx, scope, Columns.of(_COLUMNS, rows))
    if scope.marked:
        standing = {
            chip_id: (None, None) if one is None else (one.eligible, one.limited_by)
            for chip_id, one in ((chip_id, found.get(chip_id)) for chip_id in facts)
        }
        known = derivations.standing_in(tx, scope)
        derivations.note(
            tx,
            [
                {"chip_id": chip_id, "eligible": eligible, "limited_by": limited_by}
                for chip_id, (eligible, limited_by) in standing.items()
                if known.get(chip_id) != (eligible, limited_by)
            ],
        )
    return found
