"""The history of chips: how each one stood at the end of each local day.

Holds: :func:`note_chip_days`, which keeps the row of the running day up to date. Add here: another
fact that has no log of its own. Do not add: what can be counted from the log (``summary``).

Trust, warming day and effective limits are derived for the present only; nothing else keeps what
they were, and they cannot be recomputed for the past, because messages do not keep when they failed.
"""

from __future__ import annotations

from typing import Any

from warmup_pipeline.domain.limits import Limits, effective_limits
from warmup_pipeline.domain.values import Phase, TrustLevel
from warmup_pipeline.store import chip_days, chips, derivations
from warmup_pipeline.store import derived as derived_store
from warmup_pipeline.store.bulk import Columns
from warmup_pipeline.store.cycles import Cycle
from warmup_pipeline.store.engine import Transaction
from warmup_pipeline.warmup.derive.holds import braked_chips
from warmup_pipeline.warmup.world import World


def note_chip_days(tx: Transaction, world: World, cycle: Cycle) -> None:
    """Note how every chip of the cycle's pool stands at its tick, in place of what its day said before.

    One of which nothing was derived anew stands as it stood.
    """
    scope = derivations.scope(tx, cycle.pool, cycle.tick)
    braked = braked_chips(tx, world, cycle.pool, cycle.tick)
    if scope.marked:
        scope = scope.only(chip_days.may_differ(tx, scope, cycle.day, braked))
    trust = derived_store.trust_in(tx, scope)
    days = derived_store.warming_days_in(tx, scope)
    rows: list[tuple[Any, ...]] = []
    limits_of: dict[tuple[Phase, TrustLevel, bool], Limits] = {}
    for chip in chips.begun(tx, scope):
        score, level = trust.get(chip.id, (None, None))
        # A chip that was never scored may send nothing, as in validation.
        standing = (chip.phase, level or TrustLevel.CRITICO, chip.id in braked)
        limits = limits_of.get(standing)
        if limits is None:
            phase, trusted, is_braked = standing
            limits = limits_of[standing] = effective_limits(world.policy, phase, trusted, braked=is_braked)
        # In the order of chip_days.COLUMNS.
        of_chip = (chip.id, cycle.day, cycle.pool, cycle.tick, chip.status, chip.phase, days.get(chip.id))
        rows.append((*of_chip, score, level, limits.hour, limits.day, chip.id in braked))
    chip_days.store(tx, scope, Columns.of(chip_days.COLUMNS, rows), as_of=cycle.tick, day=cycle.day)
