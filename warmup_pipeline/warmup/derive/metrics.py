"""Chips' metrics, from the message log.

Holds: :func:`compute_metrics` and the step :func:`derive_chip_metrics`, which also brings the roll-up of a long
log up to the cycle's tick. Everything is computed from the log for a whole pool at once (root cause 6).
Source: domain.md, "Metrics, trust, phases".
"""

from __future__ import annotations

from datetime import datetime, timedelta
from operator import attrgetter
from typing import Final

from warmup_pipeline.domain.localtime import local_day
from warmup_pipeline.domain.metrics import ChipMetrics, MessageCounts, OpeningBalance, chip_metrics
from warmup_pipeline.store import chips, conversations, counts, derivations, rollup_counts, rollups
from warmup_pipeline.store import derived as derived_store
from warmup_pipeline.store.cycles import Cycle
from warmup_pipeline.store.engine import Transaction
from warmup_pipeline.store.scope import Scope
from warmup_pipeline.warmup.collecting import collecting_later
from warmup_pipeline.warmup.derive.age import reference_of
from warmup_pipeline.warmup.derive.holds import SIGNAL_LOOK_BACK
from warmup_pipeline.warmup.lifecycle import hold_pool
from warmup_pipeline.warmup.world import StepReport, World

_NOTHING: Final = MessageCounts()
_NO_BALANCE: Final = OpeningBalance()
_ONE_DAY: Final = timedelta(days=1)


def compute_metrics(
    tx: Transaction,
    world: World,
    pool: str,
    at: datetime,
    *,
    wholly: bool = False,
    scope: Scope | None = None,
) -> dict[str, ChipMetrics]:
    """Return the metrics of the chips of a pool, from the log and the opening balances.

    Args:
        tx: the transaction.
        world: its policy and zone.
        pool: the pool.
        at: the moment.
        wholly: sum the whole log, although it is long and its roll-up says what it comes to.
        scope: only of the chips in it; ``None``: of every chip.
    """
    day = local_day(at, world.policy.zone)
    if scope is None:
        scope = Scope(pool)
    # Chips are marked where the roll-up serves.
    if wholly or not (scope.marked or rollups.serves(tx, pool, at=at)):
        summed = counts.counts(tx, pool, at=at, day=day)
    else:
        summed = rollup_counts.counts(tx, pool, at=at, day=day, scope=scope)
    balances = chips.balances(tx, pool)
    partners = conversations.partner_counts(tx, pool, day)
    return {
        chip.id: chip_metrics(
            summed.get(chip.id, _NOTHING),
            balances.get(chip.id, _NO_BALANCE),
            at=at,
            today=day,
            age_reference=reference_of(chip),
            partners_today=partners.get(chip.id, 0),
        )
        for chip in chips.begun(tx, scope)
    }


_JUDGED: Final = attrgetter(*derived_store.JUDGED)


def write_metrics(tx: Transaction, world: World, scope: Scope, at: datetime) -> dict[str, ChipMetrics]:
    """Derive and store the metrics of the chips in a scope; returns them."""
    before = derived_store.judged_in(tx, scope) if scope.marked else {}
    found = compute_metrics(tx, world, scope.pool, at, scope=scope)
    if scope.marked:
        judged = {i: (len(one.media_kinds), *_JUDGED(one)) for i, one in found.items()}
        derivations.also(tx, [i for i, one in judged.items() if before.get(i) != one], at)
    derived_store.store_metrics(tx, scope.pool, found, at=at, known=before)
    return found


ROLLING_UP_FOR: Final = timedelta(seconds=60)
"""How long a cycle rolls up a log that has become long; the next one goes on."""


def _roll_up(world: World, cycle: Cycle) -> None:
    """Roll up a log that has become long: in parts, so that neither the cycle's lease nor others wait for it."""
    with world.store.read() as tx:
        if not rollups.is_waiting(tx, cycle.pool):
            return
    with world.store.write() as tx:
        hold_pool(world, tx, cycle)
        if rollups.is_due(tx, cycle.pool):
            rollups.begin(tx, cycle.pool, at=cycle.tick)
    until = world.now() + ROLLING_UP_FOR
    is_done = False
    while not is_done and world.now() < until:
        with world.store.write() as tx:
            hold_pool(world, tx, cycle)
            is_done = rollups.go_on(tx, cycle.pool)


def _begin(tx: Transaction, world: World, pool: str, at: datetime) -> Scope:
    """Bring a long log's roll-up up to a tick, and note of which chips it derives; all, of a short one."""
    rollups.bring_up(tx, pool, at=at)
    if tx.memory is not None:
        return Scope(pool)
    if not rollups.serves(tx, pool, at=at):
        # What is noted of an earlier tick is no longer what this one leaves.
        derivations.forget(tx, pool)
        return Scope(pool)
    return derivations.mark(
        tx,
        pool,
        at=at,
        day=local_day(at, world.policy.zone),
        by=world.policy_name,
        # A day more: a chip whose brake has ended since the last tick is derived once again.
        signals_since=at - SIGNAL_LOOK_BACK - _ONE_DAY,
    )


@collecting_later
def derive_chip_metrics(world: World, cycle: Cycle) -> StepReport:
    """Recompute chips' metrics from the log: of a long one, those of chips of which anything has changed."""
    _roll_up(world, cycle)
    with world.store.write() as tx:
        hold_pool(world, tx, cycle)
        scope = _begin(tx, world, cycle.pool, cycle.tick)
        found = write_metrics(tx, world, scope, cycle.tick)
        if scope.marked:
            sums = derived_store.metric_sums(tx, cycle.pool)
        else:
            summed = {
                name: sum(getattr(one, name) for one in found.values()) for name in derived_store.SUMMED
            }
            sums = {"chips": len(found), **summed}
    return StepReport(sums)
