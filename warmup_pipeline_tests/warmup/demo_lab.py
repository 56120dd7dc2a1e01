"""The demo pool in a lab: loaded as the command loads it, its instances declared to a simulator."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

from warmup_pipeline.domain.values import ConnectionState, Provider
from warmup_pipeline.gateways.simulator.settings import SimulatedInstance
from warmup_pipeline.store import chips, connections
from warmup_pipeline.store.chips import Chip
from warmup_pipeline.store.cycles import Cycle
from warmup_pipeline.store.engine import Store
from warmup_pipeline.warmup import demo, lifecycle
from warmup_pipeline_tests.support import Lab, open_lab


def token(chip: Chip) -> str:
    return f"token-of-{chip.instance}"


def declare(lab: Lab) -> None:
    """Make the pool's instances exist at the simulator, as they were when the audit was made."""
    with lab.store.read() as tx:
        every = chips.of_pool(tx)
        seen = connections.of_pool(tx)
    lab.core.declare(
        SimulatedInstance(
            provider=chip.provider,
            name=chip.instance,
            phone=chip.phone,
            token=token(chip),
            state="open" if chip.id in seen and seen[chip.id].state is ConnectionState.OPEN else "close",
        )
        for chip in every
    )
    tokens = {chip.instance: token(chip) for chip in every if chip.provider is Provider.Z_API}
    lab.world = replace(lab.world, gateways=replace(lab.world.gateways, zapi_tokens=tokens))
    lab.world.redactor.learn(lab.world.gateways.secrets())


def run(lab: Lab, count: int) -> list[Cycle]:
    """Run cycles of the demo pool; its own clock moves."""
    ran = []
    for _ in range(count):
        cycle = lab.begin()
        lab.steps(cycle)
        ran.append(lifecycle.end_cycle(lab.world, cycle))
    return ran


@contextmanager
def open_demo(store: Store) -> Iterator[Lab]:
    with open_lab(store, at=demo.STARTS_AT) as lab:
        demo.prepare(lab.world)
        declare(lab)
        yield lab
