"""A cycle that decides everything and keeps nothing: what would be sent now, and what not, and why.

Holds: :func:`rehearse_cycle`. The cycle's own steps run, up to and without the sending, inside one
transaction that is rolled back at the end. Gateways are asked for connection states, which changes
nothing there; no recovery is attempted, no queue is cleared, and nothing is sent or marked. Do not
add: rules, another way to decide.

Source: interface.md, "Command line" (``warmup cycle --dry-run``).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime

from warmup_pipeline.domain.values import ClockKind
from warmup_pipeline.store import pools
from warmup_pipeline.store.cycle_report import CycleFacts, facts_of_cycle
from warmup_pipeline.store.cycles import Cycle
from warmup_pipeline.store.engine import PoolNotFound, Store, Transaction
from warmup_pipeline.warmup.claim import claim_due
from warmup_pipeline.warmup.connections import look, take_up
from warmup_pipeline.warmup.lifecycle import CycleRefused, begin_cycle
from warmup_pipeline.warmup.pair import pair_chips
from warmup_pipeline.warmup.plan import plan_day
from warmup_pipeline.warmup.validate import validate_sends
from warmup_pipeline.warmup.world import World


@dataclass(frozen=True, slots=True)
class Rehearsal:
    """What a cycle would have done.

    Attributes:
        pool: the pool.
        tick: the cycle's logical time.
        facts: what it held and decided; nothing of it was sent.
    """

    pool: str
    tick: datetime
    facts: CycleFacts


class _OneTransaction(Store):
    """A store whose transactions are all parts of one, which its owner rolls back."""

    def __init__(self, store: Store, outer: Transaction) -> None:
        # Not opened anew: it is the same database, seen from inside the one transaction.
        self.url = store.url
        self.engine = store.engine
        self._outer = outer

    @contextmanager
    def write(self) -> Iterator[Transaction]:
        """Open a part of the one transaction; undone by itself on an exception."""
        with self._outer.connection.begin_nested():
            yield self._outer

    @contextmanager
    def read(self) -> Iterator[Transaction]:
        """Read inside the one transaction."""
        yield self._outer


class _Undo(Exception):
    """The rehearsal is over."""


def rehearse_cycle(world: World, pool: str, *, at: datetime | None = None) -> Rehearsal:
    """Decide what a cycle would do, and keep nothing of it.

    The gateways are asked while nothing is held. What follows is decided in one transaction, which is undone.

    Args:
        world: what to work with.
        pool: the pool.
        at: the cycle's logical time; now (on the pool's clock) unless given.

    Raises:
        CycleRefused: there is no such pool, or its time does not allow a cycle then.
    """
    if at is not None:
        moment = at
        world = replace(world, now=lambda: moment)
    with _undone(world, pool, at) as (_, _, cycle):
        pass
    looked = look(world, cycle)
    with _undone(world, pool, at) as (inner, tx, cycle):
        take_up(inner, cycle, looked).raise_bugs()
        for step in (plan_day, claim_due, pair_chips, validate_sends):
            step(inner, cycle)
        return Rehearsal(pool, cycle.tick, facts_of_cycle(tx, cycle.id))


@contextmanager
def _undone(world: World, pool: str, at: datetime | None) -> Iterator[tuple[World, Transaction, Cycle]]:
    """Begin a cycle in a transaction of which nothing is kept."""
    try:
        with world.store.write() as tx:
            inner = replace(world, store=_OneTransaction(world.store, tx))
            _prepare(tx, pool, at)
            cycle, _ = begin_cycle(inner, pool, root_run_id=None, asked_tick=at)
            yield inner, tx, cycle
            _undo()
    except _Undo:
        pass


def _prepare(tx: Transaction, pool: str, at: datetime | None) -> None:
    """Put a stepped clock where it is asked to stand."""
    try:
        tx.lock_pool(pool)
    except PoolNotFound as error:
        raise CycleRefused(f"{error}: import or add chips first") from None
    clock = pools.get(tx, pool)
    if at is not None and clock.clock is ClockKind.STEPPED:
        pools.move_clock(tx, pool, at)


def _undo() -> None:
    raise _Undo
