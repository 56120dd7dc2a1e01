"""The trap: a connection to Dagster's history for every event, which is half of a run's time.

And what is stored is what Dagster's own storage stores.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
import sqlalchemy as sa
import yaml
from sqlalchemy import event

from warmup_pipeline.orchestration import launching
from warmup_pipeline.orchestration.kept_postgres import KeptPostgresStorage
from warmup_pipeline_tests.conftest import new_postgres_database
from warmup_pipeline_tests.deploy.farm import ROOT, open_farm
from warmup_pipeline_tests.orchestration.histories import JOB, run_them, written_to
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


@contextmanager
def instance_on(url: str, root: Path, *, stock: bool = False) -> Iterator[dg.DagsterInstance]:
    config = {"postgres_url": url.replace("postgresql://", "postgresql+psycopg2://", 1)}
    ours = {"module": KeptPostgresStorage.__module__, "class": KeptPostgresStorage.__name__, "config": config}
    storage: dict[str, Any] = {"postgres": config} if stock else {"custom": ours}
    root.mkdir()
    (root / "dagster.yaml").write_text(yaml.safe_dump({"storage": storage, "telemetry": {"enabled": False}}))
    with dg.DagsterInstance.from_config(str(root)) as instance:
        yield instance


def test_every_row_of_every_table_is_the_one_that_dagsters_own_storage_writes(
    tmp_path: Path, postgres_server: str
) -> None:
    rows = []
    for name in ("stock", "kept"):
        with new_postgres_database(postgres_server) as url:
            with instance_on(url, tmp_path / name, stock=name == "stock") as instance:
                run_them(instance)
            engine = sa.create_engine(url)
            with engine.connect() as connection:
                found = written_to(connection)
            engine.dispose()
            rows.append({table: found[table] for table in found if "asset" in table or table == "event_logs"})

    stock, kept = rows
    assert stock.keys() == kept.keys()
    for table, of_stock in stock.items():
        assert kept[table] == of_stock, table
    assert len(stock["event_logs"]) > 100
    assert len(stock["asset_check_executions"]) == 2 + 4 * 4 - 3


def test_an_event_does_not_wait_for_the_servers_disk_and_the_state_of_a_run_does(
    tmp_path: Path, postgres_server: str
) -> None:
    asked = "SHOW synchronous_commit"
    with new_postgres_database(postgres_server) as url:
        engine = sa.create_engine(url)
        with engine.begin() as connection:
            # As a server is by itself; the one of the tests never waits.
            connection.exec_driver_sql(f"ALTER DATABASE {engine.url.database} SET synchronous_commit = on")
        engine.dispose()
        with instance_on(url, tmp_path / "home") as instance:
            events: Any = instance.event_log_storage
            runs: Any = instance.run_storage
            with events.index_connection() as of_events, runs.connect() as of_runs:
                assert of_events.exec_driver_sql(asked).scalar_one() == "off"
                assert of_runs.exec_driver_sql(asked).scalar_one() == "on"


def test_an_event_is_stored_with_all_that_is_known_of_its_check_or_not_at_all(
    tmp_path: Path, postgres_server: str
) -> None:
    with (
        new_postgres_database(postgres_server) as url,
        instance_on(url, tmp_path / "home") as instance,
    ):
        engine = sa.create_engine(url)
        with engine.begin() as connection:
            connection.exec_driver_sql(
                "ALTER TABLE asset_check_executions ADD CHECK (check_name <> 'is_counted')"
            )
        with pytest.raises(sa.exc.IntegrityError):
            JOB.execute_in_process(instance=instance, run_id="11111111-1111-4111-8111-111111111111")
        with engine.connect() as connection:
            kinds = connection.exec_driver_sql("SELECT dagster_event_type FROM event_logs").scalars().all()
        engine.dispose()
    assert "ASSET_CHECK_EVALUATION_PLANNED" not in kinds
