"""Moving chips on: the next phase where it is earned, degrading and return.

Holds: the step :func:`derive_phase_transitions`, and the signals of chips whose deliveries are confirmed too
rarely. Source: domain.md, "Metrics, trust, phases" and "Brake and hold".
"""

from __future__ import annotations

from collections import Counter
from datetime import timedelta
from typing import Any, Final

from warmup_pipeline.domain.degrade import (
    CONFIRMABLE_AFTER,
    ERRORS_THAT_DEGRADE,
    JUDGED_DELIVERIES,
    RESTRICTED,
    SIGNALS_FROM_MISSING,
    UNCONFIRMED,
    delivery_signal,
    may_return,
    returns_to,
    should_degrade,
)
from warmup_pipeline.domain.phases import PhaseFacts, eligibility, status_after_entering, transition
from warmup_pipeline.domain.presend import ChipStanding, is_connected
from warmup_pipeline.domain.values import ChipStatus, ConnectionState, Phase
from warmup_pipeline.store import chips, connections, derivations
from warmup_pipeline.store import derived as derived_store
from warmup_pipeline.store.chips import Chip
from warmup_pipeline.store.cycles import Cycle
from warmup_pipeline.store.engine import Transaction
from warmup_pipeline.store.scope import Scope
from warmup_pipeline.warmup.collecting import collecting_later
from warmup_pipeline.warmup.derive.age import write_warming_days
from warmup_pipeline.warmup.derive.eligibility import facts_of, write_eligibility
from warmup_pipeline.warmup.derive.holds import SIGNAL_LOOK_BACK, braked_chips
from warmup_pipeline.warmup.ids import derived_id
from warmup_pipeline.warmup.lifecycle import hold_pool
from warmup_pipeline.warmup.world import StepReport, World

_ONE_DAY: Final = timedelta(days=1)
RECENT_DELIVERIES_DAYS: Final = 7
"""How far back a chip's last messages are looked for when its deliveries are judged."""


@collecting_later
def derive_phase_transitions(world: World, cycle: Cycle) -> StepReport:
    """Move chips that earned it one phase on; degrade those in trouble; let recovered ones return."""
    with world.store.write() as tx:
        hold_pool(world, tx, cycle)
        scope = derivations.scope(tx, cycle.pool, cycle.tick)
        signalled = _signal_unconfirmed(tx, cycle)
        if scope.marked:
            derivations.also(tx, signalled, cycle.tick)
        held = braked_chips(tx, world, cycle.pool, cycle.tick)
        done = derived_store.transitions_of_cycle(tx, cycle.id)
        looked_at = scope.only(_may_move(tx, scope, cycle)) if scope.marked else scope
        facts = facts_of(tx, looked_at, cycle.tick, chips.in_scope_of(tx, looked_at))
        phases = (
            chips.by_phase(tx, cycle.pool)
            if scope.marked
            else dict(Counter(chip.phase.value for chip, _ in facts.values()))
        )
        moved = _transitions(world, cycle, {k: v for k, v in facts.items() if k not in done}, held)
        derived_store.add_transitions(tx, [row for row, _ in moved])
        chips.change(tx, [change for _, change in moved])
        degraded, returned = _status_changes(tx, world, cycle, facts)
        chips.change(tx, [*degraded, *returned])
        other = {
            *signalled,
            *(row["chip_id"] for row, _ in moved),
            *(row["id"] for row in (*degraded, *returned)),
        }
        if other:
            # Of a short log all are summed up again, as in the steps before.
            again = scope.only(other) if scope.marked else scope
            write_warming_days(tx, world, again, cycle.tick)
            write_eligibility(tx, world, again, cycle.tick)
    shown = {chip.id: chip.last4 for chip, _ in facts.values()}
    notes = [f"…{shown[row['chip_id']]}: {row['from_phase']} → {row['to_phase']}" for row, _ in moved]
    notes += [f"…{shown[row['id']]} degraded: {row['status_reason']}" for row in degraded]
    notes += [f"…{shown[row['id']]} returns to {row['status']}" for row in returned]
    for note in notes:
        world.log.info(note)
    return StepReport(
        {
            "transitions": len(done) + len(moved),
            "degraded": len(degraded),
            "returned": len(returned),
            "held": len(held),
            "phases": phases,
        },
        tuple(notes),
    )


def _may_move(tx: Transaction, scope: Scope, cycle: Cycle) -> set[str]:
    """Return the chips of which a transition, degrading or a return is decided: of all others it is none."""
    since = cycle.tick - SIGNAL_LOOK_BACK
    return derivations.may_move(tx, scope, signals_since=since, errors=ERRORS_THAT_DEGRADE)


def _signal_unconfirmed(tx: Transaction, cycle: Cycle) -> list[str]:
    """Signal chips whose deliveries are confirmed too rarely, in every cycle while it lasts; returns them.

    What lasts is one signal that moves on, not one row a cycle: brake and hold end three days after the
    last cycle that saw it.
    """
    known = chips.last_brake_signals(tx, cycle.pool, since=cycle.tick - _ONE_DAY)
    lately = derived_store.recent_confirmations(
        tx,
        cycle.pool,
        sent_before=cycle.tick - CONFIRMABLE_AFTER,
        since_day=cycle.day - timedelta(days=RECENT_DELIVERIES_DAYS),
        last=JUDGED_DELIVERIES,
        missing=SIGNALS_FROM_MISSING,
    )
    bad = [i for i, (confirmed, looked_at) in sorted(lately.items()) if delivery_signal(confirmed, looked_at)]
    lasting = {i: at for i in bad for kind, at in known.get(i, ()) if kind == UNCONFIRMED}
    moving = [(i, UNCONFIRMED, at) for i, at in lasting.items() if at < cycle.tick]
    chips.move_brake_signals(tx, moving, at=cycle.tick)
    chips.add_brake_signals(tx, [(i, UNCONFIRMED, cycle.tick) for i in bad if i not in lasting])
    return bad


def _transitions(
    world: World, cycle: Cycle, facts: dict[str, tuple[Chip, PhaseFacts]], held: frozenset[str]
) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    zone = world.policy.zone
    moved = []
    for chip_id, (chip, one) in sorted(facts.items()):
        entered = transition(
            one,
            world.policy,
            at=cycle.tick,
            zone=zone,
            participating=chip.takes_part,
            held=chip_id in held,
        )
        if entered is None:
            continue
        why = eligibility(one, world.policy, at=cycle.tick, zone=zone)
        moved.append(
            (
                {
                    "id": derived_id("transition", cycle.id, chip_id),
                    "pool": cycle.pool,
                    "cycle_id": cycle.id,
                    "chip_id": chip_id,
                    "from_phase": chip.phase,
                    "to_phase": entered,
                    "at": cycle.tick,
                    "day": cycle.day,
                    "warming_day": one.warming_day,
                    "criteria": {
                        c.name: {"value": c.value, "needed": c.needed, "comparison": c.comparison}
                        for c in why.criteria
                    },
                },
                _entering(chip, entered, cycle),
            )
        )
    return moved


def _entering(chip: Chip, phase: Phase, cycle: Cycle) -> dict[str, Any]:
    status = status_after_entering(phase, chip.status)
    return {
        "id": chip.id,
        "phase": phase,
        "phase_started_at": cycle.tick,
        "status": status,
        "status_since": cycle.tick if status is not chip.status else chip.status_since,
        "status_reason": chip.status_reason if status is chip.status else None,
    }


def _status_changes(
    tx: Transaction, world: World, cycle: Cycle, facts: dict[str, tuple[Chip, PhaseFacts]]
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    degraded_now = any(chip.status is ChipStatus.DEGRADED for chip, _ in facts.values())
    seen = connections.of_pool(tx, cycle.pool) if degraded_now else {}
    signals = chips.last_brake_signals(tx, cycle.pool, since=cycle.tick - SIGNAL_LOOK_BACK)
    degraded, returned = [], []
    for chip_id, (chip, one) in sorted(facts.items()):
        if chip.takes_part:
            restricted = any(
                kind == RESTRICTED and at >= chip.status_since for kind, at in signals.get(chip_id, ())
            )
            reason = should_degrade(
                trust_level=world.policy.level_of(one.trust),
                restriction_since_return=restricted,
                errors_24h=one.metrics.errors_24h,
            )
            if reason is not None:
                degraded.append(_status(chip, ChipStatus.DEGRADED, reason, cycle))
        elif chip.status is ChipStatus.DEGRADED:
            connection = seen.get(chip_id)
            standing = ChipStanding(
                chip_id,
                chip.status,
                chip.role,
                connection.state if connection else ConnectionState.UNKNOWN,
                connection.observed_at if connection else None,
            )
            errors = [at for at in (one.metrics.last_error_at, chip.last_error_at) if at is not None]
            if may_return(
                last_error_at=max(errors, default=None),
                at=cycle.tick,
                connected=is_connected(standing, cycle.tick),
                trust=one.trust,
            ):
                returned.append(_status(chip, returns_to(chip.phase), None, cycle))
    return degraded, returned


def _status(chip: Chip, status: ChipStatus, reason: str | None, cycle: Cycle) -> dict[str, Any]:
    return {"id": chip.id, "status": status, "status_reason": reason, "status_since": cycle.tick}
