"""Judging one pool, and showing what is known of all.

Holds: :func:`judge_together`. Checks run with every pool's cycle. With hundreds of pools each run judges the
rows of its own one, keeps that, and shows it together with what was last said of the others: so the result
that everybody reads is about all pools, whichever run it came from. Do not add: a check, how Dagster
runs one.

Two runs that judge at the very same time may each miss what the other has just found; the next slot's
runs show it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from warmup_pipeline.domain.health import Verdict, together
from warmup_pipeline.store import verdicts
from warmup_pipeline.store.cycles import Cycle
from warmup_pipeline.warmup.checks.spec import CheckSpec
from warmup_pipeline.warmup.world import World


def judge_together(
    world: World, cycle: Cycle, specs: Sequence[CheckSpec], own: Mapping[str, Verdict]
) -> dict[str, Verdict]:
    """Keep what checks say of a cycle's pool; return what they say of all pools, by check.

    Args:
        world: what to work with.
        cycle: the cycle that was judged.
        specs: the checks.
        own: their verdicts on its pool, by check; those that could not judge are left out.
    """
    with world.store.write() as tx:
        verdicts.keep(tx, cycle.pool, list(own.values()), at=cycle.tick)
    with world.store.read() as tx:
        others = verdicts.of_other_pools(tx, cycle.pool, own.keys())
    for spec in specs:
        if spec.of_silent is not None and spec.name in others:
            others[spec.name].update(spec.of_silent(world, cycle.pool))
    return {name: together(cycle.pool, verdict, others[name]) for name, verdict in own.items()}
