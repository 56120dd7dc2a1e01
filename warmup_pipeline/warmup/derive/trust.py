"""Chips' trust scores, from their metrics.

Holds: :func:`trust_inputs` and the step :func:`derive_trust_scores`. Do not add: what a score is made of
(``domain.trust``).
"""

from __future__ import annotations

from collections import Counter
from datetime import datetime, timedelta
from typing import Any, Final

from warmup_pipeline.domain.metrics import ChipMetrics
from warmup_pipeline.domain.trust import TrustInputs, TrustScore, days_until_more, trust_score
from warmup_pipeline.domain.values import Phase, TrustLevel
from warmup_pipeline.store import chips, derivations
from warmup_pipeline.store import derived as derived_store
from warmup_pipeline.store.bulk import Columns
from warmup_pipeline.store.chips import Begun, Chip
from warmup_pipeline.store.cycles import Cycle
from warmup_pipeline.store.engine import Transaction
from warmup_pipeline.store.scope import Scope
from warmup_pipeline.warmup.collecting import collecting_later
from warmup_pipeline.warmup.derive.age import reference_of
from warmup_pipeline.warmup.lifecycle import hold_pool
from warmup_pipeline.warmup.world import StepReport, World

_ONE_DAY: Final = timedelta(days=1)
_COLUMNS: Final = ("chip_id", "pool", "computed_at", "score", "level", "parts")


def trust_inputs(chip: Chip | Begun, measured: ChipMetrics, at: datetime) -> TrustInputs:
    """Return what a chip's trust score is made of at a moment; days are of 24 hours."""
    return TrustInputs(
        age_days=max(0.0, (at - reference_of(chip)) / _ONE_DAY),
        response_rate=measured.response_rate,
        delivery_rate=measured.delivery_rate,
        has_sent=measured.attempted > 0,
        attempted=measured.attempted,
        restriction_failures=measured.restriction_failures,
        media_kinds=len(measured.media_kinds),
        errors_24h=measured.errors_24h,
        bidirectional=measured.bidirectional,
        days_without_error=measured.days_without_error,
        phase=chip.phase,
    )


@collecting_later
def derive_trust_scores(world: World, cycle: Cycle) -> StepReport:
    """Recompute chips' trust scores."""
    with world.store.write() as tx:
        hold_pool(world, tx, cycle)
        scope = derivations.scope(tx, cycle.pool, cycle.tick)
        found = write_trust(tx, world, scope, cycle.tick)
        scores = (
            derived_store.scores(tx, cycle.pool) if scope.marked else [(*one, 1) for one in found.values()]
        )
    levels: Counter[str] = Counter()
    for _, level, chip_count in scores:
        levels[level.value] += chip_count
    scored = levels.total()
    return StepReport(
        {
            "chips": scored,
            "mean": round(sum(score * n for score, _, n in scores) / scored, 1) if scored else None,
            "lowest": min((score for score, _, _ in scores), default=None),
            **{level.value: levels[level.value] for level in TrustLevel},
        }
    )


def write_trust(
    tx: Transaction, world: World, scope: Scope, at: datetime
) -> dict[str, tuple[int, TrustLevel]]:
    """Derive and store the trust scores of the chips in a scope; returns score and level of each."""
    pool = scope.pool
    metrics = derived_store.metrics_in(tx, scope)
    rows: list[tuple[Any, ...]] = []
    found = {}
    due: list[dict[str, Any]] = []
    for chip in chips.begun(tx, scope):
        measured = metrics.get(chip.id)
        if measured is None:
            continue
        inputs = trust_inputs(chip, measured, at)
        score = trust_score(inputs, world.policy)
        found[chip.id] = (score.score, score.level)
        if scope.marked:
            due.append({"chip_id": chip.id, "next_at": _next_at(world, chip, inputs, score, at)})
        rows.append((chip.id, pool, at, score.score, score.level, score.parts))
    derived_store.store_trust(tx, scope, Columns.of(_COLUMNS, rows))
    derivations.note(tx, due)
    return found


def _next_at(
    world: World, chip: Begun, inputs: TrustInputs, score: TrustScore, at: datetime
) -> datetime | None:
    """Return when time alone can next change what is derived of a chip on the same local day."""
    times = []
    days = days_until_more(inputs, score)
    if days is not None:
        times.append(at + timedelta(days=days))
    if chip.phase is Phase.REPOUSO:
        # What it has of its hours of rest goes on; at its end it may move on.
        rested = reference_of(chip) + timedelta(hours=world.policy.repouso_hours)
        if rested > at:
            times.append(rested)
    return min(times, default=None)
