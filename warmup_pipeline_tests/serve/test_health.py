"""The traps: an endpoint that is green because nobody looks, slow because of many chips, or that leaks."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from typing import Any

import httpx
import pytest

from warmup_pipeline.assembly import open_reading_world, utc_now
from warmup_pipeline.serve.app import Address, serve
from warmup_pipeline.serve.health import Kept
from warmup_pipeline.serve.serving import Serving
from warmup_pipeline.store import pools
from warmup_pipeline.warmup.world import StandardLog, World
from warmup_pipeline_tests.orchestration.conftest import Project, blank_home, empty_project, project
from warmup_pipeline_tests.support import chip_row, run_sql

__all__ = ["blank_home", "empty_project", "project"]


@contextmanager
def served(project: Project, change: Any = lambda world: world) -> Iterator[str]:
    """Serve a project on a free port of loopback, in a thread."""
    listening: list[str] = []
    ready, loops = threading.Event(), []
    until: list[asyncio.Event] = []

    async def run(world: World) -> None:
        loops.append(asyncio.get_running_loop())
        until.append(asyncio.Event())

        def started(address: Address) -> None:
            listening.append(address.url)
            ready.set()

        serving = Serving(change(world), project.settings)
        await serve(serving, host="127.0.0.1", port=0, until=until[0], started=started)

    def work() -> None:
        with open_reading_world(project.settings, log=StandardLog()) as world:
            asyncio.run(run(world))

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    assert ready.wait(60)
    try:
        yield listening[0]
    finally:
        loops[0].call_soon_threadsafe(until[0].set)
        thread.join(30)


def test_health_status_and_probe_answer_from_the_latest_check_results(project: Project) -> None:
    with served(project) as url:
        silent = httpx.get(f"{url}/warmer/health")
    assert silent.status_code == 503
    assert silent.json()["status"] == "critical"
    assert "has never been evaluated" in str(silent.json()["reasons"])
    ran = project.cycle()
    with served(project) as url:
        health = httpx.get(f"{url}/warmer/health")
        probe = httpx.get(f"{url}/warmer/health/probe")
        status = httpx.get(f"{url}/warmer/status")
    document = health.json()
    assert health.status_code == probe.status_code == 503, (
        "the old system's failures are in the last 24 hours"
    )
    assert document["last_cycle"]["run_id"] == ran.run_id
    assert probe.text.startswith("critical: conversa_par_success_rate: ")
    assert probe.text.count("\n") == 1
    pool = status.json()["pools"]["default"]
    assert pool["total"] == document["pool"]["total"] == 10
    assert pool["last_cycle"]["counts"]["refresh_connections"]
    assert {one["chip"] for one in status.json()["chips_to_look_at"]} <= {
        f"…{row['last4']}" for row in project.rows("SELECT last4 FROM chips")
    }
    everything = health.text + probe.text + status.text
    assert not any(row["phone"] in everything for row in project.rows("SELECT phone FROM chips"))
    store = project.store()
    run_sql(store, "UPDATE activities SET state = 'executed' WHERE source = 'import' AND state = 'failed'")
    store.close()
    project.cycle()
    with served(project) as url:
        healthy = httpx.get(f"{url}/warmer/health")
        line = httpx.get(f"{url}/warmer/health/probe").text
    assert (healthy.status_code, healthy.json()["status"], line) == (200, "healthy", "healthy\n")
    with served(project, lambda world: replace(world, now=lambda: utc_now() + timedelta(minutes=11))) as url:
        old = httpx.get(f"{url}/warmer/health")
    assert old.status_code == 503
    assert any("no cycle has begun for" in reason for reason in old.json()["reasons"])


def test_what_cannot_be_read_is_critical_and_says_why_without_a_traceback(project: Project) -> None:
    store = project.store()
    with served(project) as url:
        run_sql(store, "ALTER TABLE chips RENAME COLUMN status TO other_status")
        answer = httpx.get(f"{url}/warmer/health")
    assert answer.status_code == 503
    assert "health cannot be told (OperationalError)" in answer.text
    assert "Traceback" not in answer.text
    store.close()


def test_unknown_paths_and_other_methods_are_refused(project: Project) -> None:
    with served(project) as url:
        assert httpx.get(f"{url}/warmer/nothing").status_code == 404
        assert httpx.post(f"{url}/warmer/health").status_code == 405


@pytest.mark.parametrize("path", ["/warmer/health", "/warmer/status"])
def test_however_many_chips_an_answer_takes_the_same_few_queries(project: Project, path: str) -> None:
    """Under 50 ms at 1,000 chips (see docs/operating.md for what was measured): no query returns chips."""
    import sqlalchemy as sa

    from warmup_pipeline.store import chips
    from warmup_pipeline.warmup.derive.standing import derive_standing

    counts, rows = [], []
    undo: list[Callable[[], None]] = []
    for total in (0, 400):
        if total:
            with open_reading_world(project.settings, log=StandardLog()) as world, world.store.write() as tx:
                chips.insert(tx, [chip_row(n) for n in range(total)], [])
                derive_standing(tx, world, "default", pools.get(tx, "default").now(world.now()))

        def counting(world: World) -> World:
            asked: list[int] = []

            def after(*_: Any) -> None:
                asked.append(1)

            sa.event.listen(world.store.engine, "after_cursor_execute", after)
            undo.append(lambda: sa.event.remove(world.store.engine, "after_cursor_execute", after))
            counts.append(asked)
            return world

        with served(project, counting) as url:
            answer = httpx.get(f"{url}{path}")
        undo.pop()()
        rows.append(len(answer.content))
    assert len(counts[0]) == len(counts[1]) <= 20
    assert rows[1] < rows[0] + 1_000


def test_many_who_ask_at_once_are_answered_from_one_document() -> None:
    made: list[int] = []
    gate = threading.Barrier(8)

    def make() -> dict[str, Any]:
        made.append(1)
        return {"number": len(made)}

    kept = Kept(make)

    def ask(_: int) -> Any:
        gate.wait()
        return kept.get()["number"]

    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(ask, range(8))) == {1}
