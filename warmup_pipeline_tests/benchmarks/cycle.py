"""What a cycle costs beside the HTTP calls that it cannot do without.

Holds: :func:`run`: every chip of a pool has a reply due; the cycle's steps are run against a gateway
in a process of its own, and then the same state calls and sends are made bare, at the best of several
numbers of connections: by httpx's own client, which is the floor, and on the sockets that the gateway clients
stand on, which is a lower one. All are timed in one run, so that ratios hold on any machine. Do not add:
thresholds for tests (a benchmark is measured, not asserted).
"""

from __future__ import annotations

import asyncio
import resource
import statistics
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import cycle as endlessly
from typing import Annotated, Any, Final

import aiohttp
import httpx

from warmup_pipeline.domain.values import MessageState, Provider
from warmup_pipeline.store import activities
from warmup_pipeline.store.engine import Store
from warmup_pipeline.warmup import claim, connections, lifecycle, pair, plan, send, summary, validate
from warmup_pipeline.warmup.collecting import collecting_seldom
from warmup_pipeline.warmup.derive.age import derive_warming_day
from warmup_pipeline.warmup.derive.eligibility import derive_phase_eligibility
from warmup_pipeline.warmup.derive.metrics import derive_chip_metrics
from warmup_pipeline.warmup.derive.transitions import derive_phase_transitions
from warmup_pipeline.warmup.derive.trust import derive_trust_scores
from warmup_pipeline_tests.benchmarks.options import AtLeast, Database
from warmup_pipeline_tests.benchmarks.replies import let_everyone_reply
from warmup_pipeline_tests.soak.yard import POOL, Yard, open_yard
from warmup_pipeline_tests.support import EVOLUTION_KEY, ZAPI_CLIENT_TOKEN, rows_of, token_of

MORNING: Final = datetime(2026, 3, 2, 13, 0, tzinfo=UTC)
"""10:00 in America/Sao_Paulo on a Monday."""

BareCall = tuple[str, str, dict[str, str], Any]
"""Method, path, headers, what is sent as JSON."""

Caller = Callable[[Sequence[BareCall]], Awaitable[None]]
"""Makes calls, many at a time, and waits for the answers."""

CONNECTIONS: Final = (10, 20, 50, 100)
PER_CLIENT: Final = 10
SOCKETS: Final = (50, 100, 200)
"""As many as a cycle has at most: a hundred to each of the two gateways."""

_OUT_OF_THE_RACE: Final = 1.3
"""A number of connections with which the first floor took so many times the best one's is not tried again."""

_STEPS: Final = (
    connections.refresh_connections,
    plan.plan_day,
    claim.claim_due,
    pair.pair_chips,
    validate.validate_sends,
    send.send_messages,
    derive_chip_metrics,
    derive_trust_scores,
    derive_warming_day,
    derive_phase_eligibility,
    derive_phase_transitions,
    summary.summarise_cycle,
)


@dataclass(frozen=True, slots=True)
class Measured:
    """One pool's cycle beside its floor.

    Attributes:
        database: ``sqlite`` or ``postgresql``.
        chips: how many chips, each with one send due.
        latency_ms: of the gateway's answers.
        sent: messages that were accepted in a measured cycle (the smallest number, if they differ).
        look_ups: calls of the measured cycles that their floors do not make: 0, or the ratio says too much.
        cycle_s: seconds of the whole cycle, each round.
        cpu_s: of them, processor seconds of this process, each round.
        floor_s: seconds of the same calls made bare, each round, at the best number of connections.
        floor_cpu_s: processor seconds of this process for that.
        floor_connections: that number, each round.
        ratio: median of cycle / floor, round by round.
        sockets_floor_s: seconds of the same calls made bare on aiohttp's sockets, each round, at the best number.
        sockets_ratio: median of cycle / that, round by round.
        steps_s: median seconds of each step.
        peak_mb: peak resident memory of this process, MiB.
    """

    database: str
    chips: int
    latency_ms: int
    sent: int
    look_ups: int
    cycle_s: Sequence[float]
    cpu_s: Sequence[float]
    floor_s: Sequence[float]
    floor_cpu_s: Sequence[float]
    floor_connections: Sequence[int]
    ratio: float
    sockets_floor_s: Sequence[float]
    sockets_ratio: float
    steps_s: dict[str, float] = field(default_factory=dict)
    peak_mb: float = 0.0

    def document(self) -> dict[str, Any]:
        """Return it as JSON-ready data."""
        return {name: getattr(self, name) for name in self.__dataclass_fields__}


def run(
    chips: Annotated[int, AtLeast(3)] = 1000,
    *,
    database: Database = "sqlite",
    latency_ms: Annotated[int, AtLeast(0)] = 50,
    rounds: Annotated[int, AtLeast(1)] = 5,
    at_connections: Sequence[int] = CONNECTIONS,
) -> Measured:
    """Measure cycles of a pool in which every chip has a reply due.

    Args:
        chips: chips of the pool; every third is a Z-API chip.
        database: ``sqlite`` or ``postgresql``.
        latency_ms: how long the gateway takes for each answer.
        rounds: cycles measured, each followed by its floor.
        at_connections: numbers of connections that the floor is tried with; in the first round all of them,
            then those that were near the best.
    """
    cycle_s, cpu_s = [], []
    floor, on_sockets = _Floor(_through_httpx, at_connections), _Floor(_on_sockets, SOCKETS)
    steps: dict[str, list[float]] = {}
    sent, look_ups = chips, 0
    with (
        open_yard(database, at=MORNING, chip_count=chips, latency_ms=latency_ms) as yard,
        yard.store() as store,
    ):
        tick = MORNING
        _plan_nothing(yard, store, tick)
        for number in range(rounds):
            tick += lifecycle.INTERVAL
            # It sends nothing, and confirms what the round before sent; the first one fills caches.
            _one_cycle(yard, store, tick, {})
            tick += lifecycle.INTERVAL
            with store.write() as tx:
                let_everyone_reply(tx, POOL, [row["id"] for row in yard.rows], tick, number)
            before, cpu = time.perf_counter(), time.process_time()
            accepted, looked_up = _one_cycle(yard, store, tick, steps)
            sent, look_ups = min(sent, accepted), look_ups + looked_up
            cycle_s.append(time.perf_counter() - before)
            cpu_s.append(time.process_time() - cpu)
            floor.measure(yard)
            on_sockets.measure(yard)
    return Measured(
        database=database,
        chips=chips,
        latency_ms=latency_ms,
        sent=sent,
        look_ups=look_ups,
        cycle_s=_rounded(cycle_s),
        cpu_s=_rounded(cpu_s),
        floor_s=_rounded(floor.seconds),
        floor_cpu_s=_rounded(floor.processor_s),
        floor_connections=floor.best_of,
        ratio=_ratio(cycle_s, floor.seconds),
        sockets_floor_s=_rounded(on_sockets.seconds),
        sockets_ratio=_ratio(cycle_s, on_sockets.seconds),
        steps_s={name: round(statistics.median(taken), 2) for name, taken in steps.items()},
        peak_mb=round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1),
    )


def _rounded(seconds: Sequence[float]) -> list[float]:
    return [round(one, 2) for one in seconds]


def _ratio(ours: Sequence[float], floor: Sequence[float]) -> float:
    return round(statistics.median(c / f for c, f in zip(ours, floor, strict=True)), 2)


class _Floor:
    """The same calls made bare, each round at the best of several numbers of connections.

    Args:
        caller: what makes calls at so many connections; opening and closing it is not measured.
        at: the numbers; after the first round those that were near the best.
    """

    def __init__(
        self, caller: Callable[[Yard, int], AbstractAsyncContextManager[Caller]], at: Sequence[int]
    ) -> None:
        self._caller = caller
        self._at = at
        self.seconds: list[float] = []
        self.processor_s: list[float] = []
        self.best_of: list[int] = []

    def measure(self, yard: Yard) -> None:
        """Make a round's calls."""
        tries = {count: self._try(yard, count) for count in self._at}
        best = min(tries, key=lambda count: tries[count][0])
        self.seconds.append(tries[best][0])
        self.processor_s.append(tries[best][1])
        self.best_of.append(best)
        self._at = [c for c, (taken, _) in tries.items() if taken <= _OUT_OF_THE_RACE * tries[best][0]]

    def _try(self, yard: Yard, count: int) -> tuple[float, float]:
        """Return (seconds, processor seconds)."""
        states, sends = _state_calls(yard), _sends(yard)

        async def both() -> tuple[float, float]:
            async with self._caller(yard, count) as make:
                before, processor = time.perf_counter(), time.process_time()
                # A cycle cannot send before it knows who can be reached.
                for calls in (states, sends):
                    await make(calls)
                return time.perf_counter() - before, time.process_time() - processor

        # As our own steps do.
        with collecting_seldom():
            return asyncio.run(both())


def _plan_nothing(yard: Yard, store: Store, tick: datetime) -> None:
    """Plan the chips' day and cancel it: nothing is sent but the replies that are measured."""
    world = yard.world(store, tick)
    cycle, _ = lifecycle.begin_cycle(world, POOL, root_run_id=None, asked_tick=tick)
    connections.refresh_connections(world, cycle)
    plan.plan_day(world, cycle)
    with store.write() as tx:
        chip_days = dict.fromkeys((row["id"] for row in yard.rows), cycle.day)
        activities.cancel_rest_of_day(tx, chip_days, at=tick, reason="replaced_by_a_benchmark")
    lifecycle.end_cycle(world, cycle)


def _one_cycle(yard: Yard, store: Store, tick: datetime, steps: dict[str, list[float]]) -> tuple[int, int]:
    """Run one cycle; returns how many messages it sent, and how many it asked about."""
    world = yard.world(store, tick)
    cycle, _ = lifecycle.begin_cycle(world, POOL, root_run_id=None, asked_tick=tick)
    look_ups = 0
    for step in _STEPS:
        before = time.perf_counter()
        look_ups += step(world, cycle).numbers.get("look_ups", 0)
        steps.setdefault(step.__name__, []).append(time.perf_counter() - before)
    lifecycle.end_cycle(world, cycle)
    counted = rows_of(
        store,
        "SELECT count(*) AS n FROM messages WHERE cycle_id = :cycle AND state <> :failed",
        cycle=cycle.id,
        failed=MessageState.FAILED.value,
    )
    return int(counted[0]["n"]), look_ups


@asynccontextmanager
async def _through_httpx(yard: Yard, connections_in_all: int) -> AsyncIterator[Caller]:
    """Give bare clients, each of which has few connections: with more of them it takes longer."""
    per_client = min(PER_CLIENT, connections_in_all)
    limits = httpx.Limits(max_connections=per_client, max_keepalive_connections=per_client)
    clients = [
        httpx.AsyncClient(base_url=yard.gateway_url, limits=limits, timeout=30, trust_env=False)
        for _ in range(max(1, connections_in_all // PER_CLIENT))
    ]

    async def make(calls: Sequence[BareCall]) -> None:
        work = iter(calls)

        async def work_off(client: httpx.AsyncClient) -> None:
            for method, path, headers, body in work:
                response = await client.request(method, path, headers=headers, json=body)
                response.raise_for_status()

        shared = zip(endlessly(clients), range(connections_in_all), strict=False)
        await asyncio.gather(*(work_off(client) for client, _ in shared))

    yield make
    for client in clients:
        await client.aclose()


@asynccontextmanager
async def _on_sockets(yard: Yard, connections_in_all: int) -> AsyncIterator[Caller]:
    """Give the sockets that the gateway clients stand on."""
    connector = aiohttp.TCPConnector(limit=connections_in_all)
    async with aiohttp.ClientSession(yard.gateway_url, connector=connector) as client:

        async def make(calls: Sequence[BareCall]) -> None:
            work = iter(calls)

            async def work_off() -> None:
                for method, path, headers, body in work:
                    async with client.request(method, path, headers=headers, json=body) as response:
                        response.raise_for_status()
                        await response.read()

            await asyncio.gather(*(work_off() for _ in range(connections_in_all)))

        yield make


def _state_calls(yard: Yard) -> list[BareCall]:
    return [
        ("GET", _path(row, "/instance/connectionState", "/status"), _headers(row), None) for row in yard.rows
    ]


def _sends(yard: Yard) -> list[BareCall]:
    calls = []
    for index, row in enumerate(yard.rows):
        phone = yard.rows[(index + 1) % len(yard.rows)]["phone"]
        body = (
            {"phone": phone, "message": "Oi, tudo bem?"}
            if row["provider"] is Provider.Z_API
            else {"number": phone, "text": "Oi, tudo bem?"}
        )
        calls.append(("POST", _path(row, "/message/sendText", "/send-text"), _headers(row), body))
    return calls


def _path(row: dict[str, Any], evolution: str, zapi: str) -> str:
    if row["provider"] is Provider.Z_API:
        return f"/instances/{row['instance']}/token/{token_of(row)}{zapi}"
    return f"{evolution}/{row['instance']}"


def _headers(row: dict[str, Any]) -> dict[str, str]:
    if row["provider"] is Provider.Z_API:
        return {"Client-Token": ZAPI_CLIENT_TOKEN}
    return {"apikey": EVOLUTION_KEY}
