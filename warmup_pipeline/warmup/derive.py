"""The seventh step: what the log says of each chip.

Holds: metrics, trust, warming day, eligibility, transitions, degrading and return. Everything is
computed from the log for a whole pool at once; nothing is kept by hand (root causes 2 and 6).
Source: domain.md, "Metrics, trust, phases" and "Brake and hold".
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from operator import attrgetter
from typing import Any, Final

from warmup_pipeline.domain.degrade import (
    CONFIRMABLE_AFTER,
    JUDGED_DELIVERIES,
    RESTRICTED,
    SIGNALS_FROM_MISSING,
    UNCONFIRMED,
    BrakeSignal,
    Hold,
    brake_until,
    degraded_hold,
    delivery_signal,
    hold_of,
    may_return,
    returns_to,
    should_degrade,
)
from warmup_pipeline.domain.degrade import braked as is_braked
from warmup_pipeline.domain.localtime import local_day
from warmup_pipeline.domain.metrics import ChipMetrics, MessageCounts, OpeningBalance, chip_metrics
from warmup_pipeline.domain.phases import (
    Eligibility,
    PhaseFacts,
    age_reference,
    eligibility,
    status_after_entering,
    transition,
    warming_day,
)
from warmup_pipeline.domain.presend import ChipStanding, is_connected
from warmup_pipeline.domain.trust import TrustInputs, TrustScore, days_until_more, trust_score
from warmup_pipeline.domain.values import ChipStatus, ConnectionState, Phase, TrustLevel
from warmup_pipeline.store import (
    chips,
    connections,
    conversations,
    counts,
    derivations,
    rollup_counts,
    rollups,
)
from warmup_pipeline.store import derived as derived_store
from warmup_pipeline.store.chips import Chip
from warmup_pipeline.store.counts_kept import counts_kept
from warmup_pipeline.store.cycles import Cycle
from warmup_pipeline.store.engine import Transaction
from warmup_pipeline.store.scope import Scope
from warmup_pipeline.warmup.ids import derived_id
from warmup_pipeline.warmup.lifecycle import hold_pool
from warmup_pipeline.warmup.world import StepReport, World

_NOTHING: Final = MessageCounts()
_NO_BALANCE: Final = OpeningBalance()
_ONE_DAY: Final = timedelta(days=1)
_SIGNAL_LOOK_BACK: Final = timedelta(days=30)
"""The longest brake a policy can ask for."""

RECENT_DELIVERIES_DAYS: Final = 7
"""How far back a chip's last messages are looked for when its deliveries are judged."""


def reference_of(chip: Chip) -> datetime:
    """Return the chip's age reference (root cause 4)."""
    return age_reference(chip.warming_started_at, chip.phase_started_at, chip.created_at)


def brakes(tx: Transaction, world: World, pool: str, at: datetime) -> dict[str, datetime]:
    """Return when the brake (and hold) of each braked chip ends."""
    signals = chips.last_brake_signals(tx, pool, since=at - _SIGNAL_LOOK_BACK)
    ends = {
        chip_id: brake_until([BrakeSignal(kind, when) for kind, when in found], world.policy)
        for chip_id, found in signals.items()
    }
    return {chip_id: end for chip_id, end in ends.items() if end is not None and is_braked(end, at)}


def holds(tx: Transaction, world: World, scope: Scope, at: datetime) -> dict[str, Hold]:
    """Return why, and until when, each chip in a scope that is degraded or braked does not move on."""
    return _holds(tx, world, scope, at, chips.in_scope_of(tx, scope), derived_store.metrics_in(tx, scope))


def _holds(
    tx: Transaction,
    world: World,
    scope: Scope,
    at: datetime,
    every_chip: Sequence[Chip],
    metrics: Mapping[str, ChipMetrics],
) -> dict[str, Hold]:
    signals = chips.last_brake_signals(tx, scope.pool, since=at - _SIGNAL_LOOK_BACK)
    found: dict[str, Hold] = {}
    for chip in every_chip:
        if chip.status is ChipStatus.DEGRADED:
            measured = metrics.get(chip.id)
            errors = [chip.last_error_at, measured.last_error_at if measured else None]
            last = max((one for one in errors if one is not None), default=None)
            found[chip.id] = degraded_hold(chip.status_reason, last, chip.status_since)
            continue
        if chip.id not in signals:
            continue
        mine = [BrakeSignal(kind, when) for kind, when in signals[chip.id]]
        hold = hold_of(mine, world.policy, at)
        if hold is not None:
            found[chip.id] = hold
    return found


def braked_chips(tx: Transaction, world: World, pool: str, at: datetime) -> frozenset[str]:
    """Return the chips whose limits are braked and whose phase is held."""
    return frozenset(brakes(tx, world, pool, at))


# -- computing, for a whole pool -------------------------------------------------------------------


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
    if tx.memory is not None and not wholly:
        summed = counts_kept(tx, pool, at=at, day=day)
    elif wholly or not rollups.serves(tx, pool, at=at):
        summed = counts.counts(tx, pool, at=at, day=day)
    else:
        summed = rollup_counts.counts(tx, pool, at=at, day=day, derived_at=scope.at)
    balances = chips.balances(tx, pool)
    partners = conversations.partners_on(tx, pool, day, scope=scope)
    return {
        chip.id: chip_metrics(
            summed.get(chip.id, _NOTHING),
            balances.get(chip.id, _NO_BALANCE),
            at=at,
            today=day,
            age_reference=reference_of(chip),
            partners_today=len(partners.get(chip.id, ())),
        )
        for chip in chips.in_scope_of(tx, scope)
    }


_JUDGED: Final = attrgetter(
    "sent_total",
    "received_total",
    "delivery_rate",
    "attempted",
    "bidirectional",
    "errors_24h",
    "restriction_failures",
    "last_error_at",
)
"""What of the metrics, beside the number of media kinds, trust and phases are judged by."""


def _metrics(tx: Transaction, world: World, scope: Scope, at: datetime) -> dict[str, ChipMetrics]:
    before = derived_store.metrics_in(tx, scope) if scope.marked else {}
    found = compute_metrics(tx, world, scope.pool, at, scope=scope)
    derivations.spare(tx, [i for i, one in before.items() if i in found and _judged_alike(one, found[i])])
    derived_store.store_metrics(tx, scope.pool, found, at=at)
    return found


def _judged_alike(one: ChipMetrics, other: ChipMetrics) -> bool:
    return len(one.media_kinds) == len(other.media_kinds) and bool(_JUDGED(one) == _JUDGED(other))


ROLLING_UP_FOR: Final = timedelta(seconds=60)
"""How long a cycle rolls up a log that has become long; the next one goes on."""


def _roll_up(world: World, cycle: Cycle) -> None:
    """Roll up a log that has become long: in parts, so that neither the cycle's lease nor others wait for it."""
    if world.store.memory is not None:
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
        signals_since=at - _SIGNAL_LOOK_BACK - _ONE_DAY,
    )


def trust_inputs(chip: Chip, measured: ChipMetrics, at: datetime) -> TrustInputs:
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


def _trust(tx: Transaction, world: World, scope: Scope, at: datetime) -> dict[str, tuple[int, TrustLevel]]:
    pool = scope.pool
    metrics = derived_store.metrics_in(tx, scope)
    rows: list[dict[str, Any]] = []
    found = {}
    due: list[dict[str, Any]] = []
    for chip in chips.in_scope_of(tx, scope):
        measured = metrics.get(chip.id)
        if measured is None:
            continue
        inputs = trust_inputs(chip, measured, at)
        score = trust_score(inputs, world.policy)
        found[chip.id] = (score.score, score.level)
        if scope.marked:
            due.append({"chip_id": chip.id, "next_at": _next_at(world, chip, inputs, score, at)})
        rows.append(
            {
                "chip_id": chip.id,
                "pool": pool,
                "computed_at": at,
                "score": score.score,
                "level": score.level,
                "parts": dict(score.parts),
            }
        )
    derived_store.store_trust(tx, scope, rows)
    derivations.note(tx, due)
    return found


def _next_at(
    world: World, chip: Chip, inputs: TrustInputs, score: TrustScore, at: datetime
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


def _warming_days(tx: Transaction, world: World, scope: Scope, at: datetime) -> dict[str, int | None]:
    zone = world.policy.zone
    day = local_day(at, zone)
    every_chip = chips.in_scope_of(tx, scope)
    references = {chip.id: reference_of(chip) for chip in every_chip}
    found = {
        chip.id: warming_day(
            status=chip.status, role=chip.role, reference=references[chip.id], at=at, zone=zone
        )
        for chip in every_chip
    }
    derived_store.store_warming_days(
        tx,
        scope,
        [
            {
                "chip_id": chip_id,
                "pool": scope.pool,
                "computed_at": at,
                "computed_day": day,
                "age_reference": references[chip_id],
                "warming_day": days,
            }
            for chip_id, days in found.items()
        ],
        at=at,
        day=day,
    )
    return found


def phase_facts(tx: Transaction, pool: str, at: datetime) -> dict[str, PhaseFacts]:
    """Return what eligibility looks at, as it is stored, of every chip of a pool that was ever scored."""
    return {chip_id: facts for chip_id, (_, facts) in _facts(tx, Scope(pool), at).items()}


def _facts(tx: Transaction, scope: Scope, at: datetime) -> dict[str, tuple[Chip, PhaseFacts]]:
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
        for chip in chips.in_scope_of(tx, scope)
        if chip.id in metrics and chip.id in trust
    }


def _eligibility(tx: Transaction, world: World, scope: Scope, at: datetime) -> dict[str, Eligibility]:
    zone = world.policy.zone
    facts_of = _facts(tx, scope, at)
    held = _holds(
        tx,
        world,
        scope,
        at,
        [chip for chip, _ in facts_of.values()],
        {chip_id: facts.metrics for chip_id, (_, facts) in facts_of.items()},
    )
    found = {
        chip_id: eligibility(facts, world.policy, at=at, zone=zone)
        for chip_id, (chip, facts) in facts_of.items()
        if chip.status not in (ChipStatus.BANNED, ChipStatus.CANCELLED)
    }
    rows = [
        {
            "chip_id": chip_id,
            "criterion": criterion.name,
            "pool": scope.pool,
            "computed_at": at,
            "phase": one.current,
            "next_phase": one.next,
            "value": criterion.value,
            "needed": criterion.needed,
            "comparison": criterion.comparison,
            "holds": criterion.holds,
            "earliest_day": criterion.earliest_day,
            "held_reason": held[chip_id].reason if chip_id in held else None,
            "held_until": held[chip_id].until if chip_id in held else None,
        }
        for chip_id, one in found.items()
        if one.next is not None
        for criterion in one.criteria
    ]
    derived_store.store_eligibility(tx, scope, rows)
    if scope.marked:
        standing = ((chip_id, found.get(chip_id)) for chip_id in facts_of)
        derivations.note(
            tx,
            [
                {
                    "chip_id": chip_id,
                    "eligible": None if one is None else one.eligible,
                    "limited_by": None if one is None else one.limited_by,
                }
                for chip_id, one in standing
            ],
        )
    return found


def derive_standing(tx: Transaction, world: World, pool: str, at: datetime) -> None:
    """Derive metrics, trust, warming day and eligibility of a pool in an open transaction.

    For chips that just came in (an import, a new chip), so that nothing has to wait for a cycle.
    """
    scope = Scope(pool)
    rollups.bring_up(tx, pool, at=at)
    # Whatever the roll-up was brought up to here, the next cycle would not see it move.
    if tx.memory is None:
        derivations.forget(tx, pool)
    _metrics(tx, world, scope, at)
    _trust(tx, world, scope, at)
    _warming_days(tx, world, scope, at)
    _eligibility(tx, world, scope, at)


# -- the cycle's steps -----------------------------------------------------------------------------


def derive_chip_metrics(world: World, cycle: Cycle) -> StepReport:
    """Recompute chips' metrics from the log: of a long one, those of chips of which anything has changed."""
    _roll_up(world, cycle)
    with world.store.write() as tx:
        hold_pool(world, tx, cycle)
        scope = _begin(tx, world, cycle.pool, cycle.tick)
        found = _metrics(tx, world, scope, cycle.tick)
        if scope.marked:
            sums = derived_store.metric_sums(tx, cycle.pool)
        else:
            summed = {
                name: sum(getattr(one, name) for one in found.values()) for name in derived_store.SUMMED
            }
            sums = {"chips": len(found), **summed}
    return StepReport(sums)


def derive_trust_scores(world: World, cycle: Cycle) -> StepReport:
    """Recompute chips' trust scores."""
    with world.store.write() as tx:
        hold_pool(world, tx, cycle)
        scope = derivations.scope(tx, cycle.pool, cycle.tick)
        found = _trust(tx, world, scope, cycle.tick)
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


def derive_warming_day(world: World, cycle: Cycle) -> StepReport:
    """Recompute chips' warming days."""
    with world.store.write() as tx:
        hold_pool(world, tx, cycle)
        scope = derivations.scope(tx, cycle.pool, cycle.tick)
        found = _warming_days(tx, world, scope, cycle.tick)
        if scope.marked:
            chip_count, warming, oldest = derived_store.age(tx, cycle.pool)
        else:
            days = [day for day in found.values() if day is not None]
            chip_count, warming, oldest = len(found), len(days), max(days, default=None)
    return StepReport({"chips": chip_count, "warming": warming, "oldest": oldest})


def derive_phase_eligibility(world: World, cycle: Cycle) -> StepReport:
    """Recompute what chips still need for their next phase."""
    with world.store.write() as tx:
        hold_pool(world, tx, cycle)
        scope = derivations.scope(tx, cycle.pool, cycle.tick)
        found = _eligibility(tx, world, scope, cycle.tick)
        if scope.marked:
            chip_count, eligible, limits = derivations.standing(tx, cycle.pool)
        else:
            chip_count, eligible = len(found), sum(one.eligible for one in found.values())
            limits = dict(Counter(one.limited_by for one in found.values() if one.limited_by))
    return StepReport({"chips": chip_count, "eligible": eligible, "limited_by": limits})


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
        facts = _facts(tx, scope, cycle.tick)
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
            _warming_days(tx, world, again, cycle.tick)
            _eligibility(tx, world, again, cycle.tick)
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
    signals = chips.last_brake_signals(tx, cycle.pool, since=cycle.tick - _SIGNAL_LOOK_BACK)
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
