"""Checks on ``warming_day``, ``phase_eligibility`` and ``phase_transitions``: do chips age and advance?

Holds: the judges of these assets and their lines in :data:`CHECKS`. Source: domain.md, "Metrics,
trust, phases", and root causes 2 and 4.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from warmup_pipeline.domain.health import Severity, Verdict
from warmup_pipeline.domain.localtime import local_day
from warmup_pipeline.domain.phases import warming_day
from warmup_pipeline.domain.values import Phase
from warmup_pipeline.store import audit, derivations
from warmup_pipeline.store import derived as derived_store
from warmup_pipeline.store.audit import Found
from warmup_pipeline.warmup.checks.scene import few, load_scene, none_wrong
from warmup_pipeline.warmup.checks.spec import CheckSpec, verdict
from warmup_pipeline.warmup.derive.age import reference_of
from warmup_pipeline.warmup.derive.holds import brakes
from warmup_pipeline.warmup.world import World

BEHIND_BY_DAYS: Final = 7
"""How many days past a phase's own day a chip may wait before ``phase_progress`` warns."""


def warming_day_is_current(world: World, only: str | None = None) -> Verdict:
    """Judge whether every chip's warming day is what its age reference says today (root causes 2, 4)."""
    wrong: list[str] = []
    wrong_in: dict[str, list[str]] = {}
    with world.store.read() as tx:
        scene = load_scene(tx, world, only, with_chips=True)
        stored = derived_store.warming_days(tx, only)
        days = audit.warming_days_are_of(tx, only)
    # Where the first cycle of a day is under way and has not come to its warming days, they are yesterday's yet.
    not_yet = {
        pool: tick
        for pool, tick in scene.finished.items()
        if scene.is_running(pool) and days.get(pool) != local_day(scene.latest[pool].tick, world.policy.zone)
    }
    as_of = {**scene.at, **not_yet}
    for chip in scene.chips:
        right = warming_day(
            status=chip.status,
            role=chip.role,
            reference=reference_of(chip),
            at=as_of[chip.pool],
            zone=world.policy.zone,
        )
        if chip.id not in stored or stored[chip.id] != right:
            wrong.append(chip.id)
            wrong_in.setdefault(chip.pool, []).append(chip.id)
    for pool, chip_ids in sorted(wrong_in.items()):
        # Of a long log only chips of which something may have changed are derived: these have to be, too.
        with world.store.write() as tx:
            tx.lock_pool(pool)
            derivations.look_again(tx, chip_ids)
    return none_wrong(
        "warming_day_is_current",
        scene,
        Found(len(scene.chips), len(wrong), tuple(wrong)),
        good="the warming day of all {n} chips is right",
        bad="the warming day of {n} chips is not what it should be",
    )


def phase_progress(world: World, only: str | None = None) -> Verdict:
    """Judge whether chips move on: nobody waits more than a week past the day its next phase asks for."""
    behind: list[str] = []
    waiting = 0
    with world.store.read() as tx:
        scene = load_scene(tx, world, only, with_chips=True)
        days = derived_store.warming_days(tx, only)
        held = {c for pool in scene.pools for c in brakes(tx, world, pool.name, scene.at[pool.name])}
    for chip in scene.participants:
        following = chip.phase.next
        day = days.get(chip.id)
        if following is None or day is None or chip.id in held:
            continue
        waiting += 1
        if day - world.policy.to_enter[following].warming_day > BEHIND_BY_DAYS:
            behind.append(chip.id)
    phases = {phase.value: sum(c.phase is phase for c in scene.participants) for phase in Phase}
    named = scene.named(behind)
    return verdict(
        "phase_progress",
        passed=not behind,
        summary=(
            f"{waiting} chips are on their way, {len(held)} held, none more than {BEHIND_BY_DAYS} days behind"
            if not behind
            else f"{len(behind)} chips are more than {BEHIND_BY_DAYS} days behind their next phase: {few(named)}; "
            "`warmup chips show` says what each lacks"
        ),
        numbers={"on_their_way": waiting, "behind": len(behind), "held": len(held), **phases},
        concerned=named,
        severity=Severity.WARN,
    )


def transitions_were_earned(world: World, only: str | None = None) -> Verdict:
    """Judge whether every phase change went one step, met its criteria, and is where the chip stands."""
    with world.store.read() as tx:
        scene = load_scene(tx, world, only, with_chips=True)
        moves = audit.all_transitions(tx, only)
    now_in = {chip.id: chip.phase for chip in scene.chips}
    last: dict[str, str] = {}
    wrong: set[str] = set()
    for move in moves:
        chip_id = move["chip_id"]
        one_step = Phase(move["from_phase"]).next == move["to_phase"]
        joined = last.get(chip_id, move["from_phase"]) == move["from_phase"]
        if not (one_step and joined and _criteria_hold(move["criteria"])):
            wrong.add(chip_id)
        last[chip_id] = move["to_phase"]
    wrong |= {chip_id for chip_id, phase in last.items() if now_in.get(chip_id) != phase}
    return none_wrong(
        "transitions_were_earned",
        scene,
        Found(len(moves), len(wrong), tuple(sorted(wrong))),
        good="all {n} phase changes were earned",
        bad="{n} chips are in a phase they did not earn",
    )


def _criteria_hold(criteria: Mapping[str, Mapping[str, Any]]) -> bool:
    def holds(one: Mapping[str, Any]) -> bool:
        value, needed = one.get("value"), one.get("needed")
        if value is None or needed is None:
            return False
        return bool(value <= needed if one.get("comparison") == "<=" else value >= needed)

    return bool(criteria) and all(holds(one) for one in criteria.values())


CHECKS: Final = (
    CheckSpec(
        "warming_day",
        "warming_day_is_current",
        "Every chip's warming day is the number of local days since its age reference.",
        warming_day_is_current,
        remedy=("The next cycle derives it anew. If it stays, report it with the run's link."),
    ),
    CheckSpec(
        "phase_eligibility",
        "phase_progress",
        "Chips advance: nobody waits more than a week past the day its next phase asks for.",
        phase_progress,
        remedy=(
            "`warmup chips show` says which criterion each chip lacks and when it can hold; pause a chip "
            "that is not meant to advance."
        ),
    ),
    CheckSpec(
        "phase_transitions",
        "transitions_were_earned",
        "Every phase change went one step, met its criteria, and is where the chip stands now.",
        transitions_were_earned,
        remedy=("Somebody edited a phase: put the chip back into the phase its last transition says."),
    ),
)
