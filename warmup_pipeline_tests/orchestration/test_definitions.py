"""The traps: a renamed asset, job or check that operators and tools rely on."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import dagster as dg
import pytest

from warmup_pipeline.build import build_defs
from warmup_pipeline.orchestration.names import CYCLE_JOB, POOL_TAG, RESOURCE, TICK_TAG
from warmup_pipeline.orchestration.previews import PREVIEWS
from warmup_pipeline.orchestration.resources import WarmupAccess
from warmup_pipeline.orchestration.sensors import warmup_cycle_sensor
from warmup_pipeline_tests.orchestration.conftest import Project
from warmup_pipeline_tests.orchestration.test_cycle_run import ASSETS

CHECKS = {
    "chip_connections": {"providers_connected", "gateway_credentials_valid"},
    "pairings": {"pool_is_pairable", "only_executable_activities_planned"},
    "presend_validations": {"every_send_was_approved"},
    "messages": {
        "conversa_par_success_rate",
        "messages_confirmed",
        "phase_limits_respected",
        "no_duplicate_sends",
        "failures_carry_traceback",
        "recipients_in_pool",
    },
    "chip_metrics": {"metrics_match_log", "metrics_are_moving"},
    "warming_day": {"warming_day_is_current"},
    "phase_eligibility": {"phase_progress"},
    "phase_transitions": {"transitions_were_earned"},
    "phase_forecast": {"forecasts_were_close"},
    "daily_summary": {"summary_matches_log", "cycle_is_on_time"},
}


def test_assets_checks_ops_and_jobs_have_their_fixed_names() -> None:
    defs = build_defs()
    graph = defs.resolve_asset_graph()
    assert {key.to_user_string() for key in graph.get_all_asset_keys()} == ASSETS | {"daily_summary_export"}
    found: dict[str, set[str]] = {}
    for key in graph.asset_check_keys:
        found.setdefault(key.asset_key.to_user_string(), set()).add(key.name)
    assert found == CHECKS
    job = defs.resolve_job_def(CYCLE_JOB)
    ops = _op_names(job)
    assert {
        "refresh_connections",
        "plan_day",
        "claim_due",
        "pair_chips",
        "validate_sends",
        "send_messages",
    } <= ops
    jobs = {job.name for job in defs.jobs or ()}
    assert {
        "warmup_cycle",
        "import_pool",
        "start_chips",
        "pause_chips",
        "resume_chips",
        "reset_circuit",
        "reconnect_chips",
        "show_qr_code",
        "set_kill_switch",
        "purge_old_runs",
    } <= jobs


def _op_names(job: dg.JobDefinition) -> set[str]:
    return {op.name for op in job.graph.iterate_op_defs()}


def test_every_asset_names_its_table_and_describes_every_column() -> None:
    graph = build_defs().resolve_asset_graph()
    for key in map(dg.AssetKey, sorted(ASSETS)):
        metadata = graph.get(key).metadata
        assert metadata["dagster/table_name"] == key.to_user_string()
        for column in metadata["dagster/column_schema"].columns:
            assert column.description, f"{key.to_user_string()}.{column.name}"


def test_every_asset_has_a_line_that_says_which_rows_its_page_shows() -> None:
    keys = build_defs().resolve_asset_graph().get_all_asset_keys()
    # The export is files: it has no rows of its own.
    assert set(PREVIEWS) == {key.to_user_string() for key in keys} - {"daily_summary_export"}


def evaluate(project: Project, cursor: str | None = None) -> dg.SensorResult:
    context = dg.build_sensor_context(
        instance=project.instance,
        cursor=cursor,
        definitions=project.defs(),
        resources={RESOURCE: WarmupAccess(lambda: project.settings)},
    )
    result = warmup_cycle_sensor(context)
    assert isinstance(result, dg.SensorResult)
    return result


def test_the_sensor_asks_once_per_slot_and_then_says_why_it_does_not(project: Project) -> None:
    first = evaluate(project)
    (request,) = first.run_requests or []
    assert request.tags[POOL_TAG] == "default"
    assert request.tags[TICK_TAG] == "2026-02-20T11:00:00+00:00"
    assert request.partition_key == "2026-02-20"
    assert request.run_key is not None
    assert request.run_key.startswith("default:")
    slot = json.loads(first.cursor or "{}")["default"]
    assert request.run_key == f"default:{slot}"
    second = evaluate(project, first.cursor)
    if json.loads(second.cursor or "{}")["default"] == slot:
        assert not second.run_requests
        assert second.skip_reason is not None
        assert "has its cycle" in (second.skip_reason.skip_message or "")


def test_the_sensor_waits_in_words_while_a_cycle_runs(project: Project) -> None:
    job = project.defs().resolve_job_def(CYCLE_JOB)
    run = project.instance.create_run_for_job(
        job, tags={POOL_TAG: "default"}, status=dg.DagsterRunStatus.STARTED
    )
    assert run.status is dg.DagsterRunStatus.STARTED
    result = evaluate(project)
    assert not result.run_requests
    assert result.skip_reason is not None
    assert "still running" in (result.skip_reason.skip_message or "")
    assert json.loads(result.cursor or "{}") == {}, "the slot is asked for once the cycle has ended"


def test_the_sensor_says_that_the_clock_went_back_and_asks_for_no_slot_twice(project: Project) -> None:
    ahead = json.dumps({"default": (datetime.now(UTC) + timedelta(hours=1)).isoformat()})
    result = evaluate(project, ahead)
    assert not result.run_requests
    assert result.skip_reason is not None
    assert "clock went back" in (result.skip_reason.skip_message or "")
    assert result.cursor == ahead


def test_the_sensor_says_what_to_do_where_there_are_no_chips(empty_project: Project) -> None:
    result = evaluate(empty_project)
    assert result.skip_reason is not None
    assert "warmup import" in (result.skip_reason.skip_message or "")


def test_the_sensor_never_runs_a_pool_on_the_demos_clock_live(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    live = replace(project.settings, mode="live", evolution_url="http://127.0.0.1:1", evolution_key="A" * 32)
    result = evaluate(Project(project.root, live, project.instance))
    assert not result.run_requests
    assert result.skip_reason is not None
    assert "never runs live" in (result.skip_reason.skip_message or "")
