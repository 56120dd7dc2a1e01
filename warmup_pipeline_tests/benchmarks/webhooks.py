"""How ``warmup serve`` bears webhooks: a steady rate from many instances, and whether any is lost.

Holds: :func:`run`. ``warmup serve`` is a process of its own, as an operator runs it, and the calls come
from this one, both on the same machine. The floor is a bare server in its place, which reads each call and keeps
nothing. Do not add: thresholds for tests (a benchmark is measured, not
asserted).
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import aiohttp
import sqlalchemy as sa

from warmup_pipeline.domain.values import Provider
from warmup_pipeline.store import chips, migrate, pools
from warmup_pipeline.store.engine import Store
from warmup_pipeline_tests.benchmarks.options import Anything, AtLeast
from warmup_pipeline_tests.serve import bodies
from warmup_pipeline_tests.support import MORNING, chip_row

SECRET = "the-secret-of-the-benchmark"
_COMMAND = "from warmup_pipeline.cli import main; main(prog_name='warmup')"
_BARE = """
import asyncio, json
from aiohttp import web

async def answer(request):
    await request.read()
    return web.Response()

async def main():
    runner = web.ServerRunner(web.Server(answer))
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    print(json.dumps({"url": "http://%s:%d" % runner.addresses[0][:2]}), flush=True)
    await asyncio.Event().wait()

asyncio.run(main())
"""


@dataclass(frozen=True, slots=True)
class Measured:
    """What a rate of webhooks cost.

    Attributes:
        asked_per_s: the rate that was asked for.
        sent: webhooks sent.
        per_s: the rate that was reached.
        statuses: answers by HTTP status; 0 where none came.
        kept: rows in the inbox afterwards.
        lost: webhooks answered with 200 of which there is no row.
        p50_ms: half of the answers came within so many milliseconds of their call.
        p99_ms: 99 % of them did.
        max_ms: all of them did.
        over_50_ms: how many took longer than 50 ms.
        cpu_ms_each: processor time of ``warmup serve`` per webhook, milliseconds: what one core bears is
            1,000 divided by it, however busy the machine is with other things.
        floor_cpu_ms_each: the same of a bare server that answers the same calls at the same rate and keeps nothing.
        ratio: ``cpu_ms_each`` / ``floor_cpu_ms_each``.
    """

    asked_per_s: int
    sent: int
    per_s: float
    statuses: dict[str, int]
    kept: int
    lost: int
    p50_ms: float
    p99_ms: float
    max_ms: float
    over_50_ms: int
    cpu_ms_each: float
    floor_cpu_ms_each: float
    ratio: float

    def document(self) -> dict[str, Any]:
        """Return it as JSON-ready data."""
        return {name: getattr(self, name) for name in self.__dataclass_fields__}


@contextmanager
def _serving(folder: Path, database_url: str) -> Iterator[tuple[str, int]]:
    (folder / "dagster.yaml").write_text("telemetry: {enabled: false}\n")
    environ = {
        **os.environ,
        "WARMUP_DATABASE_URL": database_url,
        "WARMUP_WEBHOOK_SECRET": SECRET,
        "DAGSTER_HOME": str(folder),
    }
    words = [sys.executable, "-c", _COMMAND, "serve", "--port", "0", "--json"]
    with _process(words, cwd=folder, env=environ) as found:
        yield found


@contextmanager
def _bare() -> Iterator[tuple[str, int]]:
    with _process([sys.executable, "-c", _BARE]) as found:
        yield found


@contextmanager
def _process(words: list[str], **options: Any) -> Iterator[tuple[str, int]]:
    """Start a server that says its address as JSON; gives the address and its process."""
    process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, **options)
    try:
        assert process.stdout is not None
        said = ""
        while not said.rstrip().endswith("}"):
            line = process.stdout.readline()
            if not line:
                raise RuntimeError(f"the server did not start: {words[-1][:80]}")
            said += line
        yield str(json.loads(said)["url"]), process.pid
    finally:
        process.terminate()
        process.wait(30)


def _cpu_s(process: int) -> float:
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _calls(rows: list[dict[str, Any]], count: int) -> list[tuple[str, bytes]]:
    made = []
    for number in range(count):
        chip = rows[number % len(rows)]
        instance, provider = chip["instance"], chip["provider"]
        message_id = f"3EB0{number:018X}"
        body = (
            bodies.update(instance, message_id, "DELIVERY_ACK")
            if provider is Provider.EVOLUTION
            else bodies.status(instance, message_id)
        )
        made.append((f"/webhooks/{provider.value}/{instance}", json.dumps(body).encode()))
    return made


async def _send(
    url: str, calls: list[tuple[str, bytes]], per_s: int
) -> tuple[Counter[int], list[float], float]:
    statuses: Counter[int] = Counter()
    took: list[float] = []
    headers = {"X-Warmup-Secret": SECRET, "Content-Type": "application/json"}
    connector = aiohttp.TCPConnector(limit=200)
    async with aiohttp.ClientSession(url, headers=headers, connector=connector) as client:

        async def one(path: str, body: bytes) -> None:
            begun = time.perf_counter()
            try:
                async with client.post(path, data=body) as answer:
                    await answer.read()
                    statuses[answer.status] += 1
            except aiohttp.ClientError:
                statuses[0] += 1
            took.append((time.perf_counter() - begun) * 1000)

        tasks = []
        begun = time.perf_counter()
        for number, (path, body) in enumerate(calls):
            # Each at its own moment, whether or not earlier ones were answered.
            wait = begun + number / per_s - time.perf_counter()
            if wait > 0:
                await asyncio.sleep(wait)
            tasks.append(asyncio.create_task(one(path, body)))
        await asyncio.gather(*tasks)
        wall = time.perf_counter() - begun
    return statuses, sorted(took), wall


def run(
    per_s: Annotated[int, AtLeast(1)] = 500,
    seconds: Annotated[int, AtLeast(1)] = 20,
    *,
    chips_count: Annotated[int, AtLeast(2)] = 20,
    database_url: Annotated[str, Anything()] = "",
) -> Measured:
    """Send webhooks at a rate and look what was kept.

    Args:
        per_s: webhooks a second.
        seconds: for how long.
        chips_count: instances they come from, half of them on each gateway.
        database_url: an empty database; a SQLite file of its own unless given.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        database_url = database_url or f"sqlite:///{folder / 'warmup.db'}"
        rows = [
            chip_row(number, provider=Provider.EVOLUTION if number % 2 else Provider.Z_API)
            for number in range(1, chips_count + 1)
        ]
        store = Store(database_url)
        migrate.upgrade(store)
        with store.write() as tx:
            pools.ensure(tx, "default", at=MORNING)
            chips.insert(tx, rows, [])
        calls = _calls(rows, per_s * seconds)
        with _serving(folder, database_url) as (url, process):
            before = _cpu_s(process)
            statuses, took, wall = asyncio.run(_send(url, calls, per_s))
            spent = _cpu_s(process) - before
        with _bare() as (url, process):
            before = _cpu_s(process)
            asyncio.run(_send(url, calls, per_s))
            floor = _cpu_s(process) - before
        with store.read() as tx:
            kept = tx.connection.execute(sa.text("SELECT count(*) FROM webhook_inbox")).scalar_one()
        store.close()
    return Measured(
        asked_per_s=per_s,
        sent=len(took),
        per_s=round(len(took) / wall, 1),
        statuses={str(status): count for status, count in sorted(statuses.items())},
        kept=int(kept),
        lost=statuses[200] - int(kept),
        p50_ms=round(took[len(took) // 2], 1),
        p99_ms=round(took[len(took) * 99 // 100], 1),
        max_ms=round(took[-1], 1),
        over_50_ms=sum(one > 50 for one in took),
        cpu_ms_each=round(spent * 1000 / len(took), 3),
        floor_cpu_ms_each=round(floor * 1000 / len(took), 3),
        ratio=round(spent / max(floor, 1 / os.sysconf("SC_CLK_TCK")), 2),
    )
