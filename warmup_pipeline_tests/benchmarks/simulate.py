"""How long a simulated month takes, and whether memory stays flat over its days.

Holds: :func:`run`, :func:`growth_mb`. The floor is as many state calls and sends, asked of a simulator in this process
without a client. Do not add: thresholds for tests (a benchmark is measured, not asserted).
"""

from __future__ import annotations

import asyncio
import resource
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, Final

import httpx

from warmup_pipeline.gateways.simulator.core import SimulatorCore
from warmup_pipeline.gateways.simulator.settings import SimulatedInstance, SimulatorSettings
from warmup_pipeline.gateways.simulator.state import SPILLED
from warmup_pipeline.warmup.collecting import collecting_seldom
from warmup_pipeline.warmup.policies import load_policy
from warmup_pipeline.warmup.timelapse import SimulationSettings, load_profile, shipped_profiles, simulate
from warmup_pipeline.warmup.timelapse.transport import SimulatorTransport
from warmup_pipeline_tests.benchmarks.options import AtLeast, OneOf
from warmup_pipeline_tests.support import EVOLUTION_KEY, chip_row

_TIMED: Final = 20_000
"""Calls that the floor makes at most of a kind; what so many take is reckoned for all."""


@dataclass(frozen=True, slots=True)
class Measured:
    """One simulation's cost.

    Attributes:
        days: simulated days.
        chips: chips of the fresh pool.
        wall_s: seconds of real time.
        cpu_s: seconds of this process's processor time.
        floor_s: seconds of its calls made bare: each chip's state in each cycle, each message.
        ratio: ``wall_s`` / ``floor_s``.
        cycles_run: cycles whose steps ran.
        messages: messages sent.
        peak_mb: peak resident memory of the process, MiB.
        growth_mb: see :func:`growth_mb`.
    """

    days: int
    chips: int
    wall_s: float
    cpu_s: float
    floor_s: float
    ratio: float
    cycles_run: int
    messages: int
    peak_mb: float
    growth_mb: float

    def document(self) -> dict[str, Any]:
        """Return it as JSON-ready data."""
        return {name: getattr(self, name) for name in self.__dataclass_fields__}


def _resident_mb() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 2**20


def growth_mb(seen: Sequence[tuple[datetime, float]]) -> float:
    """Return what memory grew by once the first third of the time was over, MiB.

    What a result is measured with after the last cycle is not in it, but in ``peak_mb``.

    Args:
        seen: virtual times in order, and the resident memory at each, MiB.
    """
    begins, ends = seen[0][0], seen[-1][0]
    early = next(mb for at, mb in seen if at - begins >= (ends - begins) / 3)
    return round(seen[-1][1] - early, 1)


def run(
    days: Annotated[int, AtLeast(1)] = 30,
    chips: Annotated[int, AtLeast(2)] = 5,
    *,
    faults: Annotated[str, OneOf(tuple(shipped_profiles()))] = "none",
    seed: Annotated[int, AtLeast(0)] = 0,
) -> Measured:
    """Simulate a fresh pool and measure what it costs.

    Args:
        days: simulated days.
        chips: chips of the pool.
        faults: fault profile.
        seed: what draws come from.
    """
    settings = SimulationSettings(
        policy=load_policy("default"), days=days, faults=load_profile(faults), chips=chips, seed=seed
    )
    seen: list[tuple[datetime, float]] = []

    def look(now: datetime) -> None:
        seen.append((now, _resident_mb()))

    begun, cpu = time.perf_counter(), time.process_time()
    with simulate(settings, progress=look) as (_, result):
        wall_s, cpu_s = time.perf_counter() - begun, time.process_time() - cpu
        peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    floor_s = asyncio.run(_bare(chips, result.cycles_run * chips, result.figures.messages))
    return Measured(
        days=days,
        chips=chips,
        wall_s=round(wall_s, 2),
        cpu_s=round(cpu_s, 2),
        floor_s=round(floor_s, 2),
        ratio=round(wall_s / floor_s, 2),
        cycles_run=result.cycles_run,
        messages=result.figures.messages,
        peak_mb=round(peak_mb, 1),
        growth_mb=growth_mb(seen),
    )


async def _bare(chips: int, states: int, sends: int) -> float:
    """Return how many seconds so many calls take by themselves; of very many, some are timed."""
    rows = [chip_row(number) for number in range(1, chips + 1)]
    declared = [
        SimulatedInstance(
            provider=row["provider"],
            name=row["instance"],
            phone=row["phone"],
            token=EVOLUTION_KEY,
            state="open",
        )
        for row in rows
    ]
    core = SimulatorCore(SimulatorSettings(evolution_key=EVOLUTION_KEY), SPILLED, declared)
    transport, headers = SimulatorTransport(core, set()), {"apikey": EVOLUTION_KEY}
    taken = 0.0
    # As the simulation does.
    with collecting_seldom():
        for count, is_send in ((states, False), (sends, True)):
            timed = min(count, _TIMED)
            begun = time.perf_counter()
            for number in range(timed):
                row, other = rows[number % chips], rows[(number + 1) % chips]
                asked = (
                    httpx.Request(
                        "POST",
                        f"http://gateway/message/sendText/{row['instance']}",
                        headers=headers,
                        json={"number": other["phone"], "text": "Oi, tudo bem?"},
                    )
                    if is_send
                    else httpx.Request(
                        "GET", f"http://gateway/instance/connectionState/{row['instance']}", headers=headers
                    )
                )
                answer = await transport.handle_async_request(asked)
                assert answer.is_success
            taken += (time.perf_counter() - begun) * (count / timed if timed else 0)
    core.close()
    return taken
