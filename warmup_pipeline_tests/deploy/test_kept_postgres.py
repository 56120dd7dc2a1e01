"""The trap: a connection to Dagster's history for every event, which is half of a run's time."""

from __future__ import annotations

from pathlib import Path

import pytest
import sqlalchemy as sa
from sqlalchemy import event

from warmup_pipeline.orchestration import launching
from warmup_pipeline_tests.conftest import new_postgres_database
from warmup_pipeline_tests.deploy.farm import ROOT, open_farm
from warmup_pipeline_tests.soak.yard import simulator


@pytest.mark.parametrize("home", ["postgres", "celery"])
def test_a_run_on_postgresql_opens_a_handful_of_connections_to_dagsters_history(
    home: str, tmp_path: Path, postgres_server: str
) -> None:
    opened: list[str] = []

    def note(connection: object, record: object) -> None:
        opened.append(str(connection))

    with (
        new_postgres_database(postgres_server) as database_url,
        new_postgres_database(postgres_server) as dagster_url,
        simulator(0) as gateway_url,
        open_farm(
            tmp_path / "farm",
            names=["only"],
            database_url=database_url,
            dagster_url=dagster_url,
            gateway_url=gateway_url,
            broker_url="redis://127.0.0.1:1",
            concurrent_runs=1,
            home=ROOT / "deploy" / home,
        ) as farm,
    ):
        farm.fill(4, due=4)
        with farm.instance() as instance:
            event.listen(sa.Pool, "connect", note)
            try:
                ran = launching.run_cycle(instance, "only", settings=farm.settings)
            finally:
                event.remove(sa.Pool, "connect", note)
            assert ran.succeeded
            events = instance.all_logs(ran.run_id)
        assert len(farm.accepted()) >= 2
    assert len(events) > 100
    assert len(opened) < 30, "a connection per event again"
