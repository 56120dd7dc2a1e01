"""What most checks look at: pools with their time, their chips and their connections.

Holds: :class:`Scene`, :func:`load_scene`, and the verdict of a question that must find nothing
wrong. Do not add: a check, SQL.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from warmup_pipeline.domain.health import Verdict
from warmup_pipeline.domain.presend import ChipStanding
from warmup_pipeline.domain.values import ConnectionState
from warmup_pipeline.store import audit, chips, connections, cycles, pools
from warmup_pipeline.store.audit import Found
from warmup_pipeline.store.chips import Chip
from warmup_pipeline.store.connections import Connection
from warmup_pipeline.store.cycles import Cycle
from warmup_pipeline.store.engine import Transaction
from warmup_pipeline.store.pools import Pool
from warmup_pipeline.warmup.checks.spec import verdict
from warmup_pipeline.warmup.world import World

NAMED: Final = 10
"""How many chips a summary names; the metadata counts them all."""


@dataclass(frozen=True)
class Scene:
    """The pools to judge, each with its time; their chips and connections where a check judges chips.

    Attributes:
        world: what the check works with.
        only: the one pool that is judged, ``None`` where every pool is.
        pools: the judged pools that have chips.
        chips: every chip of these pools; empty in a scene without chips.
        connections: what is known of each chip's connection, by chip id; empty as well.
        latest: each pool's newest cycle; it may still be running.
        finished: the tick of each pool's newest cycle that finished.
        at: each pool's time: the tick of its newest cycle, else its clock.
    """

    world: World
    only: str | None
    pools: list[Pool]
    chips: list[Chip]
    connections: Mapping[str, Connection]
    latest: Mapping[str, Cycle]
    finished: Mapping[str, datetime]
    at: Mapping[str, datetime]

    def named(self, chip_ids: Iterable[str]) -> tuple[str, ...]:
        """Return chips as they may be shown, with their pools."""
        wanted = set(chip_ids)
        known = [chip for chip in self.chips if chip.id in wanted]
        if wanted and not self.chips:
            with self.world.store.read() as tx:
                known = chips.of_ids(tx, wanted)
        return tuple(
            f"…{chip.last4} ({chip.pool})" for chip in sorted(known, key=lambda c: (c.pool, c.last4))
        )

    @property
    def participants(self) -> list[Chip]:
        """The chips that take part."""
        return [chip for chip in self.chips if chip.takes_part]

    def standing(self, chip: Chip) -> ChipStanding:
        """Return the chip as validation sees it."""
        one = self.connections.get(chip.id)
        return ChipStanding(
            chip.id,
            chip.status,
            chip.role,
            one.state if one else ConnectionState.UNKNOWN,
            one.observed_at if one else None,
        )

    def is_running(self, pool: str) -> bool:
        """Whether a cycle of the pool is under way, so that its log may move while it is looked at."""
        return pool in self.latest and self.latest[pool].state == "running"

    def derives_later(self, pool: str, computed_at: datetime | None) -> bool:
        """Whether the pool's running cycle has yet to derive what was last computed at ``computed_at``.

        Checks run with every pool's cycle and judge all pools: another pool's cycle that is half-way
        through is no fault of anyone.
        """
        return self.is_running(pool) and (computed_at is None or computed_at < self.latest[pool].tick)


def load_scene(tx: Transaction, world: World, only: str | None = None, *, with_chips: bool = False) -> Scene:
    """Load what checks look at: a fixed number of queries.

    Args:
        tx: an open transaction.
        world: what the check works with.
        only: the one pool to judge; every pool for ``None``.
        with_chips: whether the check judges chips one by one; the others name a few at most.
    """
    held = pools.with_chips(tx, only)
    latest = cycles.latest_of_each_pool(tx, only)
    now = world.now()
    return Scene(
        world=world,
        only=only,
        pools=held,
        chips=chips.of_pool(tx, only) if with_chips else [],
        connections=connections.of_pool(tx, only) if with_chips else {},
        latest=latest,
        finished=audit.last_finished_ticks(tx, only),
        # What is judged is the state as of the last cycle: whether that is recent enough is for
        # cycle_is_on_time to say.
        at={pool.name: latest[pool.name].tick if pool.name in latest else pool.now(now) for pool in held},
    )


def few(names: tuple[str, ...]) -> str:
    """Return names as a list that stays short."""
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return ", ".join(names[:NAMED]) + more


def none_wrong(name: str, scene: Scene, found: Found, *, good: str, bad: str) -> Verdict:
    """Return the verdict of a question that must find nothing wrong."""
    named = scene.named(found.chip_ids)
    summary = (
        good.format(n=found.looked_at) if not found.wrong else f"{bad.format(n=found.wrong)}: {few(named)}"
    )
    return verdict(
        name,
        passed=not found.wrong,
        summary=summary,
        numbers={"looked_at": found.looked_at, "wrong": found.wrong},
        concerned=named,
    )
