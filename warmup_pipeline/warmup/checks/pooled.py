"""Judging one pool, and showing what is known of all.

Holds: :func:`judge_together`, :func:`judge_each_pool`, :func:`cannot_judge`. Checks run with every pool's
cycle. With hundreds of pools each run judges the rows of its own one, keeps that, and shows it together with
what was last said of the others: so the result that everybody reads is about all pools, whichever run it
came from. What is no longer judged though its cycles go on is not taken for well. Do not add: a check, how
Dagster runs one.

Two runs that judge at the very same time may each miss what the other has just found; the next slot's
runs show it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from warmup_pipeline.domain.health import STALE_AFTER, Severity, Verdict, health_of, together
from warmup_pipeline.store import cycles, pools, verdicts
from warmup_pipeline.store.cycles import Cycle
from warmup_pipeline.store.verdicts import Kept
from warmup_pipeline.warmup.checks.spec import CheckSpec
from warmup_pipeline.warmup.world import World


def cannot_judge(name: str) -> Verdict:
    """Return what a check that raised says of its cycle: what is not known is not well."""
    return Verdict(name, passed=False, severity=Severity.ERROR, summary="the check itself failed")


def judge_together(
    world: World, cycle: Cycle, specs: Sequence[CheckSpec], own: Mapping[str, Verdict]
) -> dict[str, Verdict]:
    """Keep what checks say of a cycle's pool, in its health too; return what they say of all pools, by check.

    Args:
        world: what to work with.
        cycle: the cycle that was judged.
        specs: the checks.
        own: their verdicts on its pool, by check; of one that could not judge, that it could not.
    """
    # They stay: what a gateway said is in some of them.
    clean = [replace(one, summary=world.redactor.text(one.summary)) for one in own.values()]
    with world.store.write() as tx:
        verdicts.keep(tx, cycle.pool, clean, at=cycle.tick)
        cycles.worsen_health(tx, cycle.id, health_of(own.values()))
        kept = verdicts.of_other_pools(tx, cycle.pool, own.keys())
    shown = {}
    for spec in specs:
        if spec.name in own:
            others = {pool: _known(world, one) for pool, one in kept[spec.name].items()}
            if spec.of_silent is not None:
                others |= spec.of_silent(world, cycle.pool)
            shown[spec.name] = together(cycle.pool, own[spec.name], others)
    return shown


def _known(world: World, kept: Kept) -> Verdict:
    """Return what is known of another pool: nothing, where its cycles go on and it is no longer judged."""
    if kept.ended_at is None or kept.ended_at - kept.judged_at <= STALE_AFTER:
        return kept.verdict
    since = kept.judged_at.astimezone(world.policy.zone)
    return replace(
        kept.verdict,
        passed=False,
        severity=Severity.ERROR,
        summary=f"not judged since {since:%Y-%m-%d %H:%M}, though its cycles went on",
        concerned=(),
    )


def judge_each_pool(world: World, spec: CheckSpec) -> Verdict:
    """Return what a check says of all pools, each judged now and by itself: for checks launched by hand."""
    with world.store.read() as tx:
        names = [pool.name for pool in pools.with_chips(tx)]
    if len(names) < 2:
        return spec.judge(world)
    first, *rest = ((name, spec.judge(world, name)) for name in names)
    return together(*first, dict(rest))
