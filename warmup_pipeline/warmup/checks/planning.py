"""Checks on ``pairings``: can anybody be paired, and can everything planned be executed?

Holds: the judges of that asset and their lines in :data:`CHECKS`. Source: domain.md, root causes 1
and 3, and "Health".
"""

from __future__ import annotations

from typing import Final

from warmup_pipeline.domain.health import Verdict
from warmup_pipeline.domain.presend import is_connected
from warmup_pipeline.domain.values import CircuitState
from warmup_pipeline.store import audit, chips
from warmup_pipeline.warmup.checks.scene import load_scene
from warmup_pipeline.warmup.checks.spec import CheckSpec, verdict
from warmup_pipeline.warmup.world import World


def pool_is_pairable(world: World, only: str | None = None) -> Verdict:
    """Judge whether chips take part and at least two of each pool could talk now (root cause 1)."""
    with world.store.read() as tx:
        scene = load_scene(tx, world, only, with_chips=True)
        breakers = chips.every_breaker(tx, only)
        # A pool may rest while others warm up; nobody at all may not.
        idle = only is not None and chips.anybody_takes_part(tx)
    pairable: dict[str, int] = {}
    taking_part: dict[str, int] = {}
    for chip in scene.participants:
        at = scene.at[chip.pool]
        taking_part[chip.pool] = taking_part.get(chip.pool, 0) + 1
        breaker = breakers.get(chip.id)
        able = (
            is_connected(scene.standing(chip), at)
            and (breaker is None or breaker.state is not CircuitState.OPEN)
            and (chip.cooldown_until is None or chip.cooldown_until <= at)
        )
        pairable[chip.pool] = pairable.get(chip.pool, 0) + able
    stuck = tuple(sorted(pool for pool in taking_part if pairable.get(pool, 0) < 2))
    total, able_total = sum(taking_part.values()), sum(pairable.values())
    if not total and idle:
        summary = "no chip takes part in warm-up here"
    elif not total:
        summary = "no chip takes part in warm-up; start some with `warmup chips start`"
    elif stuck:
        summary = f"nobody can be paired in {', '.join(stuck)}: {able_total} of {total} participating chips can talk"
    else:
        summary = f"{able_total} of {total} participating chips can be paired"
    return verdict(
        "pool_is_pairable",
        passed=(bool(total) or idle) and not stuck,
        summary=summary,
        numbers={"participating": total, "pairable": able_total, "pools_stuck": len(stuck)},
        concerned=stuck,
    )


def only_executable_activities_planned(world: World, only: str | None = None) -> Verdict:
    """Judge whether everything that may still be executed has an executor (root cause 3)."""
    with world.store.read() as tx:
        open_types = audit.open_activities_by_type(tx, only)
    stubs = [(pool, kind, n) for pool, kind, n in open_types if kind not in world.activities.executable]
    planned = sum(n for _, _, n in open_types)
    listed = ", ".join(f"{n} {kind} ({pool})" for pool, kind, n in stubs)
    return verdict(
        "only_executable_activities_planned",
        passed=not stubs,
        summary=(
            f"all {planned} activities still to come have an executor"
            if not stubs
            else f"activities without an executor are planned: {listed}; cancel them"
        ),
        numbers={"planned": planned, "without_executor": sum(n for _, _, n in stubs)},
        concerned=tuple(sorted({pool for pool, _, _ in stubs})),
    )


CHECKS: Final = (
    CheckSpec(
        "pairings",
        "pool_is_pairable",
        "Chips take part, and in every pool at least two could talk now: connected, breaker closed, not resting.",
        pool_is_pairable,
        remedy=(
            "`warmup chips list` says who is where: launch `start_chips`, `resume_chips` or "
            "`reconnect_chips`; a degraded chip returns by itself after 24 hours without an error."
        ),
    ),
    CheckSpec(
        "pairings",
        "only_executable_activities_planned",
        "Everything still planned is of a type that this installation can execute.",
        only_executable_activities_planned,
        remedy=(
            "Cancel the rows it names (state `cancelled`, a reason) and find out who wrote them: the planner "
            "cannot."
        ),
    ),
)
