"""Setting a simulation up, running it, and taking it down.

Holds: :func:`open_timelapse` (a pool in virtual time, ready to be moved on) and :func:`simulate` (the
whole of it, with its result). Do not add: how cycles run (``engine``), what is measured (``result``).
"""

from __future__ import annotations

import contextlib
import functools
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final, NamedTuple

from warmup_pipeline.domain.privacy import Redactor
from warmup_pipeline.domain.values import DEFAULT_POOL, ConnectionState, Provider
from warmup_pipeline.gateways.credentials import GatewaySettings
from warmup_pipeline.gateways.simulator.core import SimulatorCore
from warmup_pipeline.gateways.simulator.settings import SimulatedInstance, SimulatorSettings
from warmup_pipeline.gateways.simulator.state import SPILLED
from warmup_pipeline.store import activities, chips, connections, pools, rollups
from warmup_pipeline.store.chips import Chip
from warmup_pipeline.store.engine import Store
from warmup_pipeline.store.scratch import scratch_store
from warmup_pipeline.warmup.activities.registry import default_registry
from warmup_pipeline.warmup.collecting import collecting_seldom
from warmup_pipeline.warmup.demo import STARTS_AT
from warmup_pipeline.warmup.derive.standing import derive_standing
from warmup_pipeline.warmup.importing import import_pool
from warmup_pipeline.warmup.library import load_library
from warmup_pipeline.warmup.lifecycle import slot_of
from warmup_pipeline.warmup.timelapse.clock import VirtualClock
from warmup_pipeline.warmup.timelapse.engine import AUTHOR, Start, Timelapse
from warmup_pipeline.warmup.timelapse.pool import fresh_pool
from warmup_pipeline.warmup.timelapse.profiles import schedule
from warmup_pipeline.warmup.timelapse.result import SimulationResult, measure_result
from warmup_pipeline.warmup.timelapse.settings import SimulationSettings
from warmup_pipeline.warmup.timelapse.transport import SimulatorTransport
from warmup_pipeline.warmup.timelapse.weather import Weather
from warmup_pipeline.warmup.world import StepLog, World

_HOSTS: Final = {Provider.EVOLUTION: "evolution.simulated", Provider.Z_API: "z-api.simulated"}
_KEY: Final = "SIMULATED-KEY-OF-THE-TIME-LAPSE"
_CHIPS_FILE: Final = "chips.csv"
_OTHER_FILES: Final = ("warmup_schedule.csv", "chip_interactions.csv")


class Simulation(NamedTuple):
    """A finished simulation: its database, still open, and what came of it."""

    store: Store
    result: SimulationResult


class Quiet:
    """A log for a month of cycles: what matters of them is in the database."""

    def info(self, text: str) -> None:
        """Say nothing."""

    def warning(self, text: str) -> None:
        """Say nothing."""

    def failure(self, title: str, traceback: str) -> None:
        """Say nothing: the row it belongs to keeps the traceback."""


@contextmanager
def open_timelapse(
    settings: SimulationSettings, *, store: Store | None = None, log: StepLog | None = None
) -> Iterator[Timelapse]:
    """Open a pool in virtual time that stands before its first tick.

    Args:
        settings: what to simulate.
        store: an empty, migrated database to use; by default a scratch file that is removed at the end.
        log: where steps tell what they do; by default nowhere.

    Raises:
        warmup_pipeline.warmup.importing.ImportRefused: the imported files cannot be used.
    """
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="warmup-timelapse-")))
        if store is None:
            store = scratch_store(folder / "pool.db")
            stack.callback(store.close)
        begins_at = _beginning(settings, store)
        clock = VirtualClock(begins_at)
        core = stack.enter_context(
            SimulatorCore(
                SimulatorSettings(
                    evolution_key=_KEY, zapi_client_token=_KEY, seed=settings.seed, clock=clock.now
                ),
                SPILLED,
            )
        )
        unreachable: set[str] = set()
        world = replace(
            _world(settings, store, clock, log or Quiet()),
            transport_factory=functools.partial(SimulatorTransport, core, unreachable),
            loop=stack.enter_context(contextlib.closing(clock.event_loop())),
        )
        starts = _populate(settings, world, begins_at)
        _roll_up(store, begins_at)
        with store.read() as tx:
            every_chip = chips.of_pool(tx, DEFAULT_POOL)
            seen = {chip_id: row.state for chip_id, row in connections.of_pool(tx, DEFAULT_POOL).items()}
        instances = {chip.id: _instance(chip, seen.get(chip.id)) for chip in every_chip}
        core.declare(instances.values())
        begun = {start.chip_id for start in starts}
        named = [
            instances[chip.id]
            for chip in sorted(every_chip, key=lambda c: c.label)
            if chip.id in begun or chip.takes_part
        ]
        tokens = {c.instance: _KEY for c in every_chip if c.provider is Provider.Z_API}
        world = replace(world, gateways=replace(world.gateways, zapi_tokens=tokens))
        strikes = schedule(
            settings.faults,
            begins_at=begins_at,
            ends_at=begins_at + timedelta(days=settings.days),
            zone=settings.policy.zone,
        )
        yield Timelapse(
            world,
            core,
            clock,
            Weather(core, named, strikes, hosts=_HOSTS, unreachable=unreachable),
            starts,
            begins_at=begins_at,
            step_over=settings.step_over,
        )


@contextmanager
def simulate(
    settings: SimulationSettings,
    *,
    store: Store | None = None,
    progress: Callable[[datetime], None] | None = None,
) -> Iterator[Simulation]:
    """Run a whole simulation and give its database and its result; the database goes at the end.

    Args:
        settings: what to simulate.
        store: as for :func:`open_timelapse`.
        progress: told the virtual time, at the beginning and after each cycle.

    Raises:
        warmup_pipeline.warmup.importing.ImportRefused: the imported files cannot be used.
    """
    began = time.perf_counter()
    with open_timelapse(settings, store=store) as timelapse:
        if progress is not None:
            progress(timelapse.begins_at)
        with collecting_seldom():
            timelapse.run_until(timelapse.begins_at + timedelta(days=settings.days), progress=progress)
        result = measure_result(timelapse, settings, wall_s=time.perf_counter() - began)
        yield Simulation(timelapse.world.store, result)


# --- putting it together


def _world(settings: SimulationSettings, store: Store, clock: VirtualClock, log: StepLog) -> World:
    gateways = GatewaySettings(
        evolution_url=f"http://{_HOSTS[Provider.EVOLUTION]}",
        evolution_key=_KEY,
        zapi_base_url=f"http://{_HOSTS[Provider.Z_API]}",
        zapi_client_token=_KEY,
    )
    return World(
        store=store,
        policy=settings.policy,
        library=load_library(),
        activities=default_registry(),
        gateways=gateways,
        mode="simulated",
        redactor=Redactor(gateways.secrets()),
        log=log,
        now=clock.now,
    )


def _beginning(settings: SimulationSettings, store: Store) -> datetime:
    """Return the first tick: as asked, else the moment of the files' export, else that of the audit."""
    begins_at = settings.begins_at
    if begins_at is None and settings.pool_dir is not None:
        world = _world(settings, store, VirtualClock(STARTS_AT), Quiet())
        begins_at = import_pool(world, *_files(settings.pool_dir), dry_run=True, author=AUTHOR).export_moment
    return slot_of(begins_at or STARTS_AT).astimezone(UTC)


def _files(folder: Path) -> tuple[Path, Path | None, Path | None]:
    schedule_file, interactions = (
        folder / name if (folder / name).is_file() else None for name in _OTHER_FILES
    )
    return folder / _CHIPS_FILE, schedule_file, interactions


def _populate(settings: SimulationSettings, world: World, begins_at: datetime) -> Sequence[Start]:
    """Put the pool into the database; returns who is to be started when."""
    if settings.pool_dir is not None:
        import_pool(world, *_files(settings.pool_dir), rebase_to=settings.begins_at, author=AUTHOR)
        return ()
    fresh = fresh_pool(settings.chips or 0, seed=settings.seed, begins_at=begins_at)
    with world.store.write() as tx:
        pools.ensure(tx, DEFAULT_POOL, at=begins_at)
        tx.lock_pool(DEFAULT_POOL)
        activities.know_types(tx, world.activities.types())
        chips.insert(tx, [chip.row for chip in fresh], [])
        derive_standing(tx, world, DEFAULT_POOL, begins_at)
    return [Start(chip.row["id"], chip.starts_at) for chip in fresh]


def _roll_up(store: Store, at: datetime) -> None:
    """Have the pool's log rolled up from the beginning, as production does with one that is long."""
    with store.write() as tx:
        tx.lock_pool(DEFAULT_POOL)
        rollups.begin(tx, DEFAULT_POOL, at=at)
        while not rollups.go_on(tx, DEFAULT_POOL):
            pass


def _instance(chip: Chip, known: ConnectionState | None) -> SimulatedInstance:
    """Return a chip as the simulator knows it: paired, and open unless an import said otherwise."""
    is_open = known in (None, ConnectionState.OPEN, ConnectionState.UNKNOWN)
    return SimulatedInstance(
        provider=chip.provider,
        name=chip.instance,
        phone=chip.phone,
        token=_KEY,
        state="open" if is_open else "close",
    )
