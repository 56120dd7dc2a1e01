"""Beginning and ending a cycle.

Holds: :func:`begin_cycle` (the only way a cycle comes into being), :func:`cycle_of_run` (what every
step after the first asks for), :func:`take_up_cycle` (what a run executed again asks for),
:func:`hold_pool` (what every step asks for before it decides anything), :func:`end_cycle`,
:func:`fail_cycle`. Do not add: what a step does.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import date, datetime, timedelta
from typing import Any, Final

from warmup_pipeline.domain.localtime import local_day
from warmup_pipeline.domain.values import ClockKind
from warmup_pipeline.store import activities, cycles, pools
from warmup_pipeline.store.cycles import Cycle
from warmup_pipeline.store.engine import PoolNotFound, Transaction
from warmup_pipeline.warmup.gateway_step import LONGEST
from warmup_pipeline.warmup.ids import derived_id
from warmup_pipeline.warmup.reconcile import Reconciled, reconcile
from warmup_pipeline.warmup.world import World

INTERVAL: Final = timedelta(minutes=5)
"""Time between two cycles of a pool."""

LEASE: Final = LONGEST
"""How long after its tick a cycle holds its pool (domain.md, "The cycle")."""


class CycleRefused(Exception):
    """A cycle may not begin, or a step has no cycle; the text says why and what to do."""


STEPPED_NEVER_LIVE: Final = (
    "has a clock of its own (the demo's), which is not the real time that limits and window go by: it never "
    "runs live. Give real chips a database of their own (WARMUP_DATABASE_URL), or a pool of their own"
)


def slot_of(at: datetime) -> datetime:
    """Return the five-minute slot that an instant is in."""
    return at - timedelta(minutes=at.minute % 5, seconds=at.second, microseconds=at.microsecond)


def begin_cycle(
    world: World,
    pool: str,
    *,
    root_run_id: str | None,
    asked_tick: datetime | None = None,
    asked_day: date | None = None,
    exact: bool = False,
) -> tuple[Cycle, Reconciled]:
    """Begin a cycle of a pool, or return the one that this run (or its parent) began already.

    Args:
        world: what the cycle works with.
        pool: the pool's name.
        root_run_id: the Dagster run's root id; ``None`` outside Dagster.
        asked_tick: the slot asked for, on the system clock. One that is over becomes now. A stepped
            clock gives its own tick and ignores this.
        exact: ``asked_tick`` is a logical time asked for by hand, past or not (``warmup cycle --at``).
        asked_day: the local day the run was started for; another one is refused before anything is sent.

    Raises:
        CycleRefused: no such pool, the wrong day, or another cycle holds the pool.
    """
    now = world.now()
    with world.store.write() as tx:
        try:
            tx.lock_pool(pool)
        except PoolNotFound as error:
            raise CycleRefused(
                f"{error}: import or add chips first, or start the cycle for an existing pool"
            ) from None
        activities.know_types(tx, world.activities.types())
        if root_run_id is not None:
            known = cycles.of_run(tx, root_run_id)
            if known is not None:
                return known, Reconciled()
        clock = pools.get(tx, pool)
        stepped = clock.clock is ClockKind.STEPPED and clock.next_tick is not None
        if stepped and not world.is_simulated:
            raise CycleRefused(f"pool {pool!r} {STEPPED_NEVER_LIVE}")
        if stepped:
            tick = clock.now(now)
        elif asked_tick is None or (not exact and asked_tick + LEASE <= now):
            tick = now.replace(microsecond=0)
        else:
            tick = asked_tick
        day = local_day(tick, world.policy.zone)
        if asked_day is not None and asked_day != day:
            raise CycleRefused(
                f"this run was started for {asked_day}, but in pool {pool!r} it is {day}: "
                f"start it for the partition {day}"
            )
        _refuse_overlap(world, pool, tick, tx, now)
        lease_until = now + LEASE if stepped or exact else max(tick, now - LEASE) + LEASE
        cycle = Cycle(
            id=derived_id("cycle", pool, tick.isoformat()),
            pool=pool,
            tick=tick,
            day=day,
            root_run_id=root_run_id,
            policy=world.policy_name,
            mode=world.mode,
            state="running",
            began_at=now,
            lease_until=lease_until,
            ended_at=None,
            duration_s=None,
            counts={},
            health=None,
        )
        cycles.insert(tx, cycle)
        if stepped:
            pools.move_clock(tx, pool, tick + INTERVAL)
        done = reconcile(tx, cycle)
    return cycle, done


def _refuse_overlap(world: World, pool: str, tick: datetime, tx: Any, now: datetime) -> None:
    unended = cycles.running(tx, pool)
    live = [c for c in unended if c.lease_until > now]
    if live:
        raise CycleRefused(
            f"the cycle of {live[0].tick.astimezone(world.policy.zone):%Y-%m-%d %H:%M} still holds pool {pool!r} "
            f"for {(live[0].lease_until - now).total_seconds():.0f} s; wait for it to end"
        )
    if cycles.at_tick(tx, pool, tick) is not None:
        raise CycleRefused(
            f"pool {pool!r} has had its cycle of {tick.astimezone(world.policy.zone):%Y-%m-%d %H:%M:%S} already"
        )
    newest = cycles.latest(tx, pool)
    if newest and newest[0].tick > tick:
        zone = world.policy.zone
        raise CycleRefused(
            f"pool {pool!r} already had a cycle at {newest[0].tick.astimezone(zone):%Y-%m-%d %H:%M:%S}, which is "
            f"later than {tick.astimezone(zone):%Y-%m-%d %H:%M:%S}: time does not go back, for limits are counted "
            "by it. If this machine's clock was set back, cycles go on by themselves once it has passed that time "
            "again; if it is wrong now, correct it"
        )
    cycles.abandon(tx, [c.id for c in unended], ended_at=now)


def hold_pool(world: World, tx: Transaction, cycle: Cycle) -> None:
    """Hold the cycle's pool for this transaction, and see that no later cycle has taken it over.

    Every step asks for this in the transaction in which it decides or writes anything down, so that a
    process that was believed dead (it hung, or its machine slept) does nothing any more once the
    next cycle has begun, however long ago it looked.

    Raises:
        CycleRefused: a later cycle holds the pool: it has put right what this one left.
    """
    tx.lock_pool(cycle.pool)
    newest = cycles.newest_id(tx, cycle.pool)
    if newest != cycle.id:
        later = cycles.get(tx, newest) if newest is not None else None
        zone = world.policy.zone
        by = f"the one of {later.tick.astimezone(zone):%Y-%m-%d %H:%M:%S}" if later else "another one"
        raise CycleRefused(
            f"the cycle of {cycle.tick.astimezone(zone):%Y-%m-%d %H:%M:%S} had to end, and pool {cycle.pool!r} "
            f"has gone on to {by}, which put right what was left: nothing more is done here"
        )


def cycle_of_run(world: World, root_run_id: str) -> Cycle:
    """Return the cycle a run belongs to.

    Raises:
        CycleRefused: the run never began one: its first step did not run.
    """
    with world.store.read() as tx:
        cycle = cycles.of_run(tx, root_run_id)
    if cycle is None:
        raise CycleRefused(
            "this run has no cycle: its first step, refresh_connections, did not begin one; start a new run"
        )
    return cycle


def take_up_cycle(world: World, root_run_id: str) -> Cycle:
    """Return the cycle of a run that is executed again, with a new lease if a step of it had failed.

    Its steps look at the pool as of its tick, so they may only run while no later cycle has gone on:
    they would undo what that one derived, and two cycles would act on the pool at once. On the system
    clock a cycle whose tick is long over gets no time to send: what its rules allowed then may be
    forbidden now. Its derivations can still run.

    Raises:
        CycleRefused: the run has no cycle, or a later one has begun.
    """
    cycle = cycle_of_run(world, root_run_id)
    now = world.now()
    with world.store.write() as tx:
        tx.lock_pool(cycle.pool)
        stepped = pools.get(tx, cycle.pool).clock is ClockKind.STEPPED
        newest = cycles.latest(tx, cycle.pool)[0]
        if newest.id != cycle.id:
            zone = world.policy.zone
            raise CycleRefused(
                f"pool {cycle.pool!r} has gone on to the cycle of {newest.tick.astimezone(zone):%Y-%m-%d %H:%M}: "
                f"that of {cycle.tick.astimezone(zone):%Y-%m-%d %H:%M} is not run again; start a new run"
            )
        if newest.state == "failed":
            # On the system clock a lease ends 290 s after its tick, whoever holds it.
            until = now + LEASE if stepped else max(now, cycle.tick + LEASE)
            cycles.reopen(tx, cycle.id, lease_until=until)
        return cycles.get(tx, cycle.id) or cycle


def add_counts(world: World, cycle: Cycle, counts: Mapping[str, Any]) -> None:
    """Keep what a step counted in the cycle's row."""
    with world.store.write() as tx:
        cycles.add_counts(tx, cycle, counts)


def end_cycle(world: World, cycle: Cycle, counts: Mapping[str, Any] | None = None) -> Cycle:
    """End a cycle whose steps are done. Ending it twice changes nothing.

    Args:
        world: what the cycle worked with.
        cycle: the cycle.
        counts: what its steps counted and is not in its row yet.
    """
    now = world.now()
    with world.store.write() as tx:
        current = cycles.get(tx, cycle.id) or cycle
        if current.state != "running":
            return current
        duration = max(0.0, (now - cycle.began_at).total_seconds())
        counted = {**current.counts, **(counts or {})}
        cycles.end(tx, cycle.id, state="finished", ended_at=now, duration_s=duration, counts=counted)
        return replace(current, state="finished", ended_at=now, duration_s=duration, counts=counted)


def fail_cycle(world: World, cycle: Cycle) -> None:
    """Note that a step of the cycle failed. The pool is free for the next cycle at once."""
    now = world.now()
    with world.store.write() as tx:
        current = cycles.get(tx, cycle.id)
        if current is not None and current.state == "running":
            duration = max(0.0, (now - cycle.began_at).total_seconds())
            cycles.end(tx, cycle.id, state="failed", ended_at=now, duration_s=duration, counts=current.counts)


def pool_day(world: World, pool: str) -> date:
    """Return the local day that it is in a pool.

    Raises:
        CycleRefused: there is no such pool.
    """
    with world.store.read() as tx:
        try:
            clock = pools.get(tx, pool)
        except PoolNotFound as error:
            raise CycleRefused(f"{error}: import or add chips first") from None
    return local_day(clock.now(world.now()), world.policy.zone)


def latest_time(world: World) -> datetime:
    """Return the latest time of any pool's clock: what is over for it is over for all."""
    with world.store.read() as tx:
        clocks = pools.with_chips(tx)
    now = world.now()
    return max((clock.now(now) for clock in clocks), default=now)
