"""The traps: a backfill that differs from what was summarised live, an export nobody can read, a locked reader."""

from __future__ import annotations

import json
import sqlite3
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

import dagster as dg
import pandas as pd

from warmup_pipeline.orchestration.exports import export_daily_summary_schedule
from warmup_pipeline.orchestration.resources import WarmupAccess
from warmup_pipeline_tests.orchestration.conftest import Project
from warmup_pipeline_tests.orchestration.test_cycle_run import make_everything_due
from warmup_pipeline_tests.support import run_sql

DAYS = ["2026-02-20", "2026-02-21", "2026-02-22"]


def live_three_days(project: Project) -> None:
    """Run cycles on three days and the first one of the fourth, which makes the third final."""
    make_everything_due(project)
    store = project.store()
    for day in [*DAYS, "2026-02-23"]:
        run_sql(store, "UPDATE pools SET next_tick = :at", at=f"{day} 13:00:00.000000")
        assert project.cycle().succeeded
    store.close()


def materialize(project: Project, name: str, day: str) -> None:
    result = dg.materialize(
        [project.defs().resolve_assets_def(name)],
        partition_key=day,
        instance=project.instance,
    )
    assert result.success


def summary(project: Project) -> list[dict[str, Any]]:
    return project.rows("SELECT * FROM daily_summary ORDER BY day, scope, scope_id")


def test_a_backfill_of_days_gives_what_was_summarised_live_and_its_export_is_the_table(
    project: Project,
) -> None:
    live_three_days(project)
    live = [row for row in summary(project) if row["day"] in DAYS]
    assert {row["day"] for row in live if row["final"]} == set(DAYS)
    assert sum(row["sent"] for row in live if row["scope"] == "all") > 0
    messages = len(project.rows("SELECT id FROM messages"))
    store = project.store()
    run_sql(store, "DELETE FROM daily_summary WHERE day <= '2026-02-21'")
    run_sql(store, "UPDATE daily_summary SET sent = 999 WHERE day = '2026-02-22'")
    store.close()
    for day in DAYS:
        materialize(project, "daily_summary", day)
    assert [row for row in summary(project) if row["day"] in DAYS] == live
    assert len(project.rows("SELECT id FROM messages")) == messages, "nothing is sent"
    folder = project.settings.home / "export" / "daily_summary"
    for day in DAYS:
        materialize(project, "daily_summary_export", day)
        kept = [row for row in live if row["day"] == day]
        parquet = pd.read_parquet(folder / f"daily_summary_{day}.parquet")
        text = pd.read_csv(folder / f"daily_summary_{day}.csv")
        for frame in (parquet, text):
            assert list(frame.columns) == list(kept[0])
            assert list(frame["scope_id"]) == [row["scope_id"] for row in kept]
            assert list(frame["sent"]) == [row["sent"] for row in kept]
            assert [json.loads(one) for one in frame["activities"]] == [
                json.loads(row["activities"]) for row in kept
            ]
    assert not list(folder.glob(".*")), "nothing half-written is left"


def test_every_night_asks_for_the_files_of_the_day_before_if_it_has_a_summary(project: Project) -> None:
    project.cycle()

    def asked_on(day: int) -> dg.RunRequest | dg.SkipReason:
        context = dg.build_schedule_context(
            instance=project.instance,
            scheduled_execution_time=datetime(2026, 2, day, 0, 30, tzinfo=ZoneInfo("America/Sao_Paulo")),
            resources={"warmup": WarmupAccess(lambda: project.settings)},
        )
        answer = export_daily_summary_schedule(context)
        assert isinstance(answer, dg.RunRequest | dg.SkipReason)
        return answer

    request = asked_on(21)
    assert isinstance(request, dg.RunRequest)
    assert request.partition_key == "2026-02-20"
    skipped = asked_on(23)
    assert isinstance(skipped, dg.SkipReason)
    assert "2026-02-22 has no summary" in str(skipped.skip_message)
    job = project.defs().resolve_job_def("export_daily_summary")
    assert job.execute_in_process(instance=project.instance, partition_key="2026-02-20").success
    assert (project.settings.home / "export" / "daily_summary" / "daily_summary_2026-02-20.csv").exists()


def test_the_table_is_read_by_another_tool_while_a_cycle_writes(project: Project) -> None:
    make_everything_due(project)
    project.cycle()
    store = project.store()
    path = project.settings.home / "warmup.db"
    with store.write() as tx:
        tx.connection.exec_driver_sql("UPDATE daily_summary SET sent = 999")
        reader = sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=0)
        read = reader.execute("SELECT max(sent) FROM daily_summary").fetchone()
        reader.close()
    assert read[0] < 999
    store.close()
