"""The trap: a run that hangs, and a sensor that waits for it for ever."""

from __future__ import annotations

import logging
import time
from pathlib import Path

import dagster as dg
import yaml
from dagster._core.workspace.context import WorkspaceProcessContext
from dagster._core.workspace.load_target import PythonFileTarget
from dagster._daemon.monitoring.run_monitoring import execute_run_monitoring_iteration

from warmup_pipeline.build import build_defs
from warmup_pipeline.orchestration.names import CYCLE_JOB, MAX_RUNTIME_S, MAX_RUNTIME_TAG, POOL_TAG
from warmup_pipeline.warmup.lifecycle import INTERVAL
from warmup_pipeline_tests.orchestration.conftest import Project
from warmup_pipeline_tests.orchestration.test_definitions import evaluate

_ROOT = Path(__file__).resolve().parents[2]

HANGING = """
import time
import dagster as dg

@dg.op
def hangs(context):
    context.log.info("begun")
    while True:
        time.sleep(0.05)

@dg.job(executor_def=dg.in_process_executor)
def hanging():
    hangs()

defs = dg.Definitions(jobs=[hanging])
"""


def test_every_cycle_run_carries_a_limit_that_ends_before_the_next_slot_is_over() -> None:
    tags = build_defs().resolve_job_def(CYCLE_JOB).tags
    assert tags[MAX_RUNTIME_TAG] == str(MAX_RUNTIME_S)
    for name in ("dagster.yaml", "deploy/postgres/dagster.yaml", "deploy/celery/dagster.yaml"):
        monitoring = yaml.safe_load((_ROOT / name).read_text())["run_monitoring"]
        assert monitoring["enabled"]
        assert MAX_RUNTIME_S + monitoring["poll_interval_seconds"] < INTERVAL.total_seconds()


def test_a_hung_run_is_ended_and_the_next_slot_gets_its_cycle(project: Project, tmp_path: Path) -> None:
    """Launched as the daemon does it, and ended by the daemon's own monitoring, as dagster.yaml sets it up."""
    code = tmp_path / "hanging.py"
    code.write_text(HANGING)
    instance = project.instance
    target = PythonFileTarget(
        python_file=str(code), attribute=None, working_directory=str(tmp_path), location_name="hanging"
    )
    with WorkspaceProcessContext(instance, target) as process:
        workspace = process.create_request_context()
        remote_job = (
            workspace.get_code_location("hanging").get_repository("__repository__").get_full_job("hanging")
        )
        run = instance.create_run_for_job(
            _job(code),
            tags={POOL_TAG: "default", MAX_RUNTIME_TAG: "1"},
            remote_job_origin=remote_job.get_remote_origin(),
            job_code_origin=remote_job.get_python_origin(),
        )
        instance.launch_run(run.run_id, workspace)
        assert instance.run_monitoring_enabled
        waited = evaluate(project).skip_reason
        assert waited is not None
        assert "still running" in (waited.skip_message or "")
        give_up = time.monotonic() + 60
        while not _ended(instance, run.run_id):
            assert time.monotonic() < give_up, "the monitoring did not end the run"
            list(execute_run_monitoring_iteration(process, logging.getLogger("monitoring")))
    ended = instance.get_run_by_id(run.run_id)
    assert ended is not None
    # Which of the two depends on who is first: the run that takes its interrupt, or the monitoring.
    assert ended.status in (dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED)
    told = [
        entry.dagster_event.message or "" for entry in instance.all_logs(run.run_id) if entry.dagster_event
    ]
    assert any("maximum runtime of 1 seconds" in text for text in told)
    assert evaluate(project).run_requests


def _job(code: Path) -> dg.JobDefinition:
    names: dict[str, dg.Definitions] = {}
    exec(compile(code.read_text(), str(code), "exec"), names)  # noqa: S102 (the text stands above)
    return names["defs"].resolve_job_def("hanging")


def _ended(instance: dg.DagsterInstance, run_id: str) -> bool:
    run = instance.get_run_by_id(run_id)
    return run is not None and run.is_finished
