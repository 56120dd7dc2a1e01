"""Checks on ``chip_metrics``: are the stored metrics what the message log says (root cause 6)?

Holds: the judges of that asset and their lines in :data:`CHECKS`. A pool whose cycle is running is
judged by what it last derived: its own run judges it again once it has derived anew.
"""

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from dataclasses import replace
from datetime import date
from operator import attrgetter
from typing import Final

from warmup_pipeline.domain.health import Verdict
from warmup_pipeline.domain.localtime import local_day
from warmup_pipeline.domain.metrics import ChipMetrics, days_without_error
from warmup_pipeline.store import audit, chips, derivations, rollup_proof, rollups
from warmup_pipeline.store import derived as derived_store
from warmup_pipeline.store.audit import Found
from warmup_pipeline.store.engine import Transaction
from warmup_pipeline.warmup.checks.scene import few, load_scene, none_wrong
from warmup_pipeline.warmup.checks.spec import CheckSpec, verdict
from warmup_pipeline.warmup.derive.age import reference_of
from warmup_pipeline.warmup.derive.metrics import compute_metrics
from warmup_pipeline.warmup.world import World


def metrics_match_log(world: World, only: str | None = None) -> Verdict:
    """Judge whether the stored metrics are what the log says (root cause 6).

    A long log (``store.rollups``) is summed wholly once a local day, in its first cycle, and in every cycle
    from then on until it agrees. In the other cycles the metrics must be what the roll-up comes to, and
    the roll-up of every day that the last cycle touched what the log says. A chip that is wrong has all
    its days rolled up anew by the next cycle.
    """
    wrong: set[str] = set()
    wrong_in: dict[str, set[str]] = {}
    agreed: dict[str, date] = {}
    compared = wholly = 0
    with world.store.read() as tx:
        scene = load_scene(tx, world, only)
        computed = audit.metrics_computed_at(tx, only)
        for pool in scene.pools:
            at = computed.get(pool.name)
            if at is None or scene.derives_later(pool.name, at):
                continue
            today = local_day(at, world.policy.zone)
            rolled_up = rollups.is_rolled_up(tx, pool.name)
            whole = not rolled_up or rollup_proof.verified_on(tx, pool.name) != today
            stored = derived_store.metrics(tx, pool.name)
            fresh = compute_metrics(tx, world, pool.name, at, wholly=whole)
            found = {i for i, one in fresh.items() if i not in stored or not _same(stored[i], one)}
            found |= _wrongly_aged(tx, pool.name, stored)
            compared += len(fresh)
            wholly += whole
            if rolled_up:
                found |= rollup_proof.wrong_days(tx, pool.name)
                if whole:
                    found |= rollup_proof.wrong_totals(tx, pool.name)
                if found:
                    wrong_in[pool.name] = found
                elif whole:
                    agreed[pool.name] = today
            wrong |= found
    _note(world, wrong_in, agreed)
    judged = none_wrong(
        "metrics_match_log",
        scene,
        Found(compared, len(wrong), tuple(sorted(wrong))),
        good="the metrics of all {n} chips are what the message log says",
        bad="the metrics of {n} chips are not what the message log says",
    )
    return replace(judged, numbers={**judged.numbers, "pools_summed_wholly": wholly})


def _note(world: World, wrong_in: Mapping[str, AbstractSet[str]], agreed: Mapping[str, date]) -> None:
    """Keep of which pools the whole log was summed and agreed, and of which chips it must be summed anew."""
    for pool, chip_ids in sorted(wrong_in.items()):
        with world.store.write() as tx:
            tx.lock_pool(pool)
            rollup_proof.roll_up_anew(tx, pool, chip_ids)
            derivations.look_again(tx, chip_ids)
    for pool, day in sorted(agreed.items()):
        with world.store.write() as tx:
            rollup_proof.verified(tx, pool, day)


_what_is_kept = attrgetter(*(name for name in derived_store.metric_columns if name != "days_without_error"))


def _same(kept: ChipMetrics, fresh: ChipMetrics) -> bool:
    """Whether two metrics are equal as far as they are stored: of media kinds, how many.

    Days without an error go on with the time and are as of the row's own tick: see :func:`_wrongly_aged`.
    """
    return len(kept.media_kinds) == len(fresh.media_kinds) and bool(
        _what_is_kept(kept) == _what_is_kept(fresh)
    )


def _wrongly_aged(tx: Transaction, pool: str, stored: Mapping[str, ChipMetrics]) -> set[str]:
    """Return the chips whose days without an error are not what they were at the tick of their row."""
    computed = derived_store.computed_at(tx, pool)
    return {
        chip.id
        for chip in chips.of_pool(tx, pool)
        if (kept := stored.get(chip.id)) is not None
        and kept.days_without_error
        != days_without_error(kept.last_error_at, reference_of(chip), computed[chip.id])
    }


def metrics_are_moving(world: World, only: str | None = None) -> Verdict:
    """Judge whether metrics follow the log: computed by the last cycle, and not zero where chips sent."""
    stale: list[str] = []
    still: list[str] = []
    counted = 0
    with world.store.read() as tx:
        scene = load_scene(tx, world, only)
        computed = audit.metrics_computed_at(tx, only)
        for pool in scene.pools:
            at = computed.get(pool.name)
            last = scene.latest.get(pool.name)
            since = None if last is None else last.tick
            if scene.derives_later(pool.name, at):
                since = scene.finished.get(pool.name)
            if since is not None and (at is None or at < since):
                stale.append(pool.name)
            stored = derived_store.metrics(tx, pool.name)
            accepted = audit.accepted_by_chip(tx, pool.name)
            counted += sum(accepted.values())
            still += [
                chip_id
                for chip_id, n in accepted.items()
                if n and (chip_id not in stored or stored[chip_id].attempted == 0)
            ]
    named = (*(f"pool {name}" for name in stale), *scene.named(still))
    return verdict(
        "metrics_are_moving",
        passed=not named,
        summary=(
            f"metrics follow the log: {counted} accepted messages are in them"
            if not named
            else f"metrics do not follow the log for {few(named)}"
        ),
        numbers={"accepted_messages": counted, "pools_stale": len(stale), "chips_still": len(still)},
        concerned=named,
    )


CHECKS: Final = (
    CheckSpec(
        "chip_metrics",
        "metrics_match_log",
        "The metrics of every chip equal a recomputation from the message log. A long log is summed wholly once a "
        "local day; in between, what its roll-up comes to, and every day of a chip that the last cycle touched.",
        metrics_match_log,
        remedy=(
            "Rows were edited behind the log; the next cycle computes metrics anew. If it stays, report it."
        ),
    ),
    CheckSpec(
        "chip_metrics",
        "metrics_are_moving",
        "Metrics were computed by the last cycle, and no chip that sent has none.",
        metrics_are_moving,
        remedy=("Open the last cycle's run: derivation failed or was skipped. Launch `warmup_cycle` again."),
    ),
)
