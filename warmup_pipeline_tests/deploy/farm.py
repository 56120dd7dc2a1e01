"""Several pools and everything that runs them on loopback: PostgreSQL, Valkey, gateways, daemon, workers.

Holds: :func:`open_farm`, with the repository's own ``deploy/celery/dagster.yaml``, and the processes that it
starts. Do not add: what is proved of them (the tests), what is measured (``benchmarks``).
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, TypeVar

import dagster as dg
import httpx
import yaml

from warmup_pipeline.assembly import open_reading_world, simulated_secret
from warmup_pipeline.domain.localtime import local_day
from warmup_pipeline.domain.values import CONVERSA_PAR, ActivityState, Phase, Provider, RowSource
from warmup_pipeline.settings import Settings
from warmup_pipeline.store import activities, chips, pools
from warmup_pipeline.warmup.derive.standing import derive_standing
from warmup_pipeline.warmup.ids import derived_id
from warmup_pipeline.warmup.world import StandardLog
from warmup_pipeline_tests.support import EVOLUTION_KEY, ZAPI_CLIENT_TOKEN, chip_row

ROOT: Final = Path(__file__).resolve().parents[2]
CELERY_HOME: Final = ROOT / "deploy" / "celery"
MORNING: Final = datetime(2026, 3, 2, 13, 0, tzinfo=UTC)
"""10:00 in America/Sao_Paulo on a Monday: the pools' clocks are stepped, so a test runs at any hour."""

PATIENCE_S: Final = 240.0
"""How long anything may take before it counts as never; a machine that is busy with other tests is slow."""

T = TypeVar("T")


def until(found: Callable[[], T], what: str, *, patience_s: float = PATIENCE_S) -> T:
    """Return what is found, as soon as it is something.

    Raises:
        AssertionError: nothing was, for longer than anybody would wait.
    """
    ends = time.monotonic() + patience_s
    while True:
        if something := found():
            return something
        assert time.monotonic() < ends, f"it did not come to pass: {what}"
        time.sleep(0.1)


@dataclass
class Farm:
    """Pools and what runs them.

    Attributes:
        root: the project's root of this farm: working directory of every process.
        environment: what every process is told.
        names: the pools.
        gateway_url: the simulator that speaks for both gateways.
    """

    root: Path
    environment: dict[str, str]
    names: Sequence[str]
    gateway_url: str
    processes: list[tuple[str, subprocess.Popen[bytes]]] = field(default_factory=list)

    @property
    def settings(self) -> Settings:
        """What the environment says, as every process reads it."""
        return Settings.from_environment(self.root, environ=self.environment)

    def accepted(self) -> list[dict[str, Any]]:
        """Return everything the gateway accepted, in order."""
        found: list[dict[str, Any]] = []
        since = 0
        while True:
            query = {"since": since, "limit": 1000}
            page = httpx.get(f"{self.gateway_url}/_sim/messages", params=query, timeout=30).json()
            if not page["messages"]:
                return found
            found += page["messages"]
            since = page["next_since"]

    def start(self, name: str, words: Sequence[str]) -> None:
        """Start a program of this environment; what it says goes to a file of its name."""
        log = (self.root / f"{name}.log").open("wb")
        with log:
            process = subprocess.Popen(
                [str(Path(sys.executable).parent / words[0]), *words[1:]],
                cwd=self.root,
                env=dict(self.environment),
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self.processes.append((name, process))

    def start_worker(self, name: str, *, concurrency: int = 1) -> None:
        """Start a Celery worker as deploy/compose.yaml does."""
        self.start(
            name,
            [
                "celery",
                "--app=warmup_pipeline.celery_worker",
                "worker",
                "--queues=dagster",
                f"--concurrency={concurrency}",
                f"--hostname={name}@loopback",
                "--loglevel=INFO",
            ],
        )

    def start_daemon(self) -> None:
        """Start Dagster's daemon: the sensor, the queue, the monitoring."""
        self.start("daemon", ["dagster-daemon", "run", "-w", str(ROOT / "workspace.yaml")])

    def processor_s(self) -> float:
        """Return the processor seconds of every process started here, and of their children that live."""
        sessions = {process.pid for _, process in self.processes}
        ticks = 0
        for stat in Path("/proc").glob("[0-9]*/stat"):
            try:
                # What stands after the name, which may hold anything: state, parent, group, session, ...
                fields = stat.read_text().rpartition(")")[2].split()
            except OSError:
                continue  # it has ended meanwhile
            if int(fields[3]) in sessions:
                ticks += int(fields[11]) + int(fields[12])
        return ticks / os.sysconf("SC_CLK_TCK")

    def peak_mb(self) -> float:
        """Return the peak resident memory of the largest process of those, in MiB."""
        sessions = {process.pid for _, process in self.processes}
        found = 0
        for status in Path("/proc").glob("[0-9]*/status"):
            try:
                lines = dict(line.split(":", 1) for line in status.read_text().splitlines() if ":" in line)
                own = os.getsid(int(status.parent.name)) in sessions
            except OSError:
                continue  # it has ended meanwhile
            if own:
                found = max(found, int(lines.get("VmHWM", "0 kB").split()[0]))
        return found / 1024

    def told(self) -> str:
        """Return the end of what each process said, for a test that fails."""
        return "\n".join(
            f"--- {name} ({'ended' if process.poll() is not None else 'runs'})\n"
            + (self.root / f"{name}.log").read_text(errors="replace")[-1500:]
            for name, process in self.processes
        )

    def stop(self) -> None:
        """End every process: asked first, then told."""
        for _, process in self.processes:
            process.send_signal(signal.SIGTERM)
        for _, process in self.processes:
            try:
                process.wait(timeout=20)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()

    def pace(self, connections: int) -> None:
        """Let runs have at most so many requests at a gateway at once: a policy of the farm's own."""
        policy = yaml.safe_load((ROOT / "warmup_pipeline/data/policies/default.yaml").read_text("utf-8"))
        policy |= {"name": "paced", "pace": {"connections_per_server": connections, "timeout_seconds": 10}}
        path = self.root / "paced.yaml"
        path.write_text(yaml.safe_dump(policy), encoding="utf-8")
        self.environment["WARMUP_POLICY"] = str(path)

    def fill(self, chips_each: int, *, due: int) -> None:
        """Make the pools: each has chips that may all talk, and so many openings due at its first tick."""
        with open_reading_world(self.settings, log=StandardLog()) as world, world.store.write() as tx:
            activities.know_types(tx, world.activities.types())
            day = local_day(MORNING, world.policy.zone)
            every: list[dict[str, Any]] = []
            for index, name in enumerate(self.names):
                rows = [
                    chip_row(
                        1 + index * chips_each + number,
                        pool=name,
                        at=MORNING,
                        phase=Phase.EXPANSAO,
                        days=8,
                        provider=Provider.Z_API if number % 3 == 2 else Provider.EVOLUTION,
                    )
                    for number in range(chips_each)
                ]
                every += rows
                pools.step_from(tx, name, MORNING, at=MORNING)
                chips.insert(tx, rows, [])
                derive_standing(tx, world, name, MORNING)
                activities.insert_plans(
                    tx,
                    [],
                    [
                        {
                            "id": derived_id("test-activity", row["id"]),
                            "pool": name,
                            "chip_id": row["id"],
                            "type": CONVERSA_PAR,
                            "day": day,
                            "planned_at": MORNING,
                            "due_at": MORNING,
                            "state": ActivityState.PLANNED,
                            "source": RowSource.WARMUP,
                        }
                        for row in rows[:due]
                    ],
                )
        self.connect(every)

    def connect(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Tell the gateways of chips, connected: one that nobody has seen yet would begin closed."""
        instances = [
            {
                "provider": row["provider"].value,
                "name": row["instance"],
                "phone": row["phone"],
                "token": simulated_secret(f"{row['provider']}/{row['instance']}"),
                "state": "open",
            }
            for row in rows
        ]
        httpx.post(
            f"{self.gateway_url}/_sim/instances", json={"instances": instances}, timeout=60
        ).raise_for_status()

    @contextmanager
    def instance(self) -> Iterator[dg.DagsterInstance]:
        """Open the farm's Dagster instance in this process."""
        keep, here = dict(os.environ), Path.cwd()
        os.environ.update(self.environment)
        os.chdir(self.root)
        try:
            with dg.DagsterInstance.get() as instance:
                yield instance
        finally:
            os.chdir(here)
            os.environ.clear()
            os.environ.update(keep)


@contextmanager
def open_farm(
    folder: Path,
    *,
    names: Sequence[str],
    database_url: str,
    dagster_url: str,
    gateway_url: str,
    broker_url: str,
    concurrent_runs: int,
    home: Path = CELERY_HOME,
) -> Iterator[Farm]:
    """Open a farm in a folder; every process it started is ended with it.

    Args:
        folder: becomes the project's root.
        names: the pools' names.
        database_url: an empty PostgreSQL database for the pools.
        dagster_url: another one for Dagster's history.
        gateway_url: the simulator.
        broker_url: the broker, without the number of a database.
        concurrent_runs: how many processes all workers will have together.
        home: the folder of ``deploy`` whose ``dagster.yaml`` counts.
    """
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copy(ROOT / "dagster.yaml", folder / "dagster.yaml")
    environment = {
        # Nothing of the developer's own environment decides what happens here.
        **{
            k: v
            for k, v in os.environ.items()
            if not k.startswith(("WARMUP_", "DAGSTER_", "EVOLUTION_", "ZAPI_"))
        },
        "DAGSTER_HOME": str(home),
        "WARMUP_DATABASE_URL": database_url,
        "WARMUP_DAGSTER_DATABASE_URL": dagster_url.replace("postgresql://", "postgresql+psycopg2://", 1),
        "WARMUP_CELERY_BROKER_URL": f"{broker_url}/0",
        "WARMUP_CELERY_BACKEND_URL": f"{broker_url}/1",
        "WARMUP_MAX_CONCURRENT_RUNS": str(concurrent_runs),
        "WARMUP_GATEWAY_MODE": "simulated",
        "EVOLUTION_API_URL": gateway_url,
        "ZAPI_BASE_URL": gateway_url,
        "EVOLUTION_API_KEY": EVOLUTION_KEY,
        "ZAPI_CLIENT_TOKEN": ZAPI_CLIENT_TOKEN,
    }
    farm = Farm(folder, environment, list(names), gateway_url)
    with ExitStack() as stack:
        stack.callback(farm.stop)
        yield farm
