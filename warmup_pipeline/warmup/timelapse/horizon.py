"""How far virtual time may leap: the next tick at which anything can change.

Holds: :func:`next_tick`. Do not add: what happens at a tick (``engine``).

A tick may be left out only where its cycle would leave everything that decides a later message as it
is. So everything that a clock alone brings about is asked for its time: what is due, what becomes too
old, what ends by itself, an episode of the fault profile, the day. In between, a chip's trust still
rises with its age: it is computed ahead by production's own rule, for a transition may wait for it,
and the cycle before one that acts must have derived it. ``test_timelapse`` shows that the result
equals that of a run that leaves out nothing, under faults, too.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Final

from warmup_pipeline.domain.conversation import CONVERSATION_LIFETIME
from warmup_pipeline.domain.degrade import RETURN_AFTER, RETURN_TRUST
from warmup_pipeline.domain.localtime import day_bounds, local_day
from warmup_pipeline.domain.metrics import ChipMetrics
from warmup_pipeline.domain.trust import trust_score
from warmup_pipeline.domain.values import (
    LISTENER_ROLE,
    OBSERVED_STATUSES,
    ChipStatus,
    ConnectionState,
    Phase,
)
from warmup_pipeline.store import activities, chips, connections
from warmup_pipeline.store import derived as derived_store
from warmup_pipeline.store import timelapse as timelapse_store
from warmup_pipeline.store.activities import StoredPlan
from warmup_pipeline.store.chips import Chip
from warmup_pipeline.store.connections import Connection
from warmup_pipeline.warmup.derive.age import reference_of
from warmup_pipeline.warmup.derive.holds import brakes
from warmup_pipeline.warmup.derive.trust import trust_inputs
from warmup_pipeline.warmup.lifecycle import INTERVAL

if TYPE_CHECKING:
    from warmup_pipeline.warmup.timelapse.engine import Timelapse

_ONE_DAY: Final = timedelta(days=1)
_SETTLED_AFTER: Final = timedelta(minutes=70)
"""Longer than anything a cycle decides by the age of a delivery that is still open (60 minutes)."""


def next_tick(timelapse: Timelapse, last: datetime, wake: datetime) -> datetime:
    """Return the next tick that must be run after ``last``.

    Args:
        timelapse: where the pool stands after the cycle of ``last``.
        last: the tick run last.
        wake: when a tick is run for something outside the pool.
    """
    soonest = last + INTERVAL
    if wake <= soonest:
        return soonest
    world, pool = timelapse.world, timelapse.pool
    _, day_ends = day_bounds(local_day(last, world.policy.zone), world.policy.zone)
    if day_ends - INTERVAL <= soonest:
        return soonest
    if not timelapse.weather.is_certain:
        return soonest
    with world.store.read() as tx:
        pending = timelapse_store.pending(tx, pool, at=last)
        open_send = pending.newest_open_send
        if open_send is not None and open_send + _SETTLED_AFTER > last:
            return soonest
        lately = pending.last_send is not None and pending.last_send + _SETTLED_AFTER > last
        if pending.late_unconfirmed and lately:
            return soonest
        times = [
            wake,
            day_ends - INTERVAL,
            pending.activity_due,
            pending.reply_due,
            pending.switch_ends,
            *(at + _ONE_DAY for at in pending.errors if at + _ONE_DAY > last),
        ]
        if pending.oldest_conversation is not None:
            times.append(pending.oldest_conversation + CONVERSATION_LIFETIME)
        if _first(times, last) <= soonest:
            return soonest
        observed = [
            chip
            for chip in chips.of_pool(tx, pool)
            if chip.status in OBSERVED_STATUSES and chip.role != LISTENER_ROLE
        ]
        if _is_settling(observed, activities.plans_of(tx, pool, local_day(last, world.policy.zone)), last):
            return soonest
        seen = connections.of_pool(tx, pool)
        held = brakes(tx, world, pool, last)
        if chips.last_brake_signals(tx, pool, since=last):
            # What has just been signalled may last, and then moves on with every cycle.
            return soonest
        measured = derived_store.metrics(tx, pool)
        trust = {chip_id: score for chip_id, (score, _) in derived_store.trust(tx, pool).items()}
    if _is_out_of_step(timelapse, observed, seen):
        return soonest
    times += held.values()
    down = [seen[c.id] for c in observed if seen[c.id].state is not ConnectionState.OPEN]
    times += [row.next_recovery_at or last for row in down]
    rested = timedelta(hours=world.policy.repouso_hours)
    ahead = [reference_of(chip) + rested for chip in observed if chip.phase is Phase.REPOUSO]
    for chip in observed:
        if chip.status is ChipStatus.DEGRADED:
            own = measured[chip.id].last_error_at if chip.id in measured else None
            ahead += [at + RETURN_AFTER for at in (own, chip.last_error_at) if at is not None]
    # What these bring about has happened where their time is over, or waits for something else.
    target = _first([*times, *(at for at in ahead if at > last)], last)
    return _trust_moves(timelapse, last, target, observed, measured, trust)


def _first(times: Iterable[datetime | None], last: datetime) -> datetime:
    """Return the first tick after ``last`` at or after the earliest of some times."""
    earliest = min((at for at in times if at is not None), default=last)
    if earliest <= last:
        return last + INTERVAL
    whole, rest = divmod(earliest - last, INTERVAL)
    return last + (whole + bool(rest)) * INTERVAL


def _is_settling(observed: Iterable[Chip], plans: Mapping[str, StoredPlan], last: datetime) -> bool:
    """Whether a chip has just changed and the next cycle has to take that up, in its plan or its trust."""
    return any(
        chip.status_since == last
        or (chip.takes_part and (chip.id not in plans or plans[chip.id].phase is not chip.phase))
        for chip in observed
    )


def _is_out_of_step(timelapse: Timelapse, observed: Iterable[Chip], seen: Mapping[str, Connection]) -> bool:
    """Whether a gateway would say something else of a chip than it last did, or is about to."""
    for chip in observed:
        one = timelapse.core.state.instance(chip.provider.value, chip.instance)
        row = seen.get(chip.id)
        if one is None or row is None or one.opens_at is not None or row.gateway_error is not None:
            return True
        if row.observed_at != row.asked_at:
            # It was asked and not answered: what is known of it grows old.
            return True
        if (one.state == "open") != (row.state is ConnectionState.OPEN):
            return True
    return False


def _trust_moves(
    timelapse: Timelapse,
    last: datetime,
    target: datetime,
    observed: Iterable[Chip],
    measured: Mapping[str, ChipMetrics],
    trust: Mapping[str, int],
) -> datetime:
    """Return ``target``, or an earlier tick that must be run because a chip's trust rises before it."""
    before = target - INTERVAL
    if before <= last:
        return target
    policy = timelapse.world.policy
    wanted = []
    moves = False
    for chip in observed:
        metrics = measured.get(chip.id)
        if metrics is None or chip.id not in trust:
            return last + INTERVAL
        if _score(timelapse, chip, metrics, last, before) == trust[chip.id]:
            continue
        moves = True
        following = chip.phase.next
        needs = RETURN_TRUST if chip.status is ChipStatus.DEGRADED else None
        if chip.takes_part and following is not None:
            needs = policy.to_enter[following].trust
        if needs is not None and trust[chip.id] < needs <= _score(timelapse, chip, metrics, last, before):
            wanted.append((chip, metrics, needs))
    for chip, metrics, needs in wanted:
        # The first tick at which it has what it needs: its score only rises while nothing happens.
        low, high = 1, (before - last) // INTERVAL
        while low < high:
            middle = (low + high) // 2
            if _score(timelapse, chip, metrics, last, last + middle * INTERVAL) >= needs:
                high = middle
            else:
                low = middle + 1
        before = min(before, last + low * INTERVAL)
    return before if moves else target


def _score(timelapse: Timelapse, chip: Chip, metrics: ChipMetrics, last: datetime, at: datetime) -> int:
    inputs = trust_inputs(chip, metrics, at)
    so_far = metrics.days_without_error + (at - last) / _ONE_DAY
    return trust_score(replace(inputs, days_without_error=so_far), timelapse.world.policy).score
