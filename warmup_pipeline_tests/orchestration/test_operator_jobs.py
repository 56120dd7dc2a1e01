"""The traps: a Launchpad that explains nothing, an action nobody recorded, bad input that half happens."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest

from warmup_pipeline.assembly import open_world
from warmup_pipeline.build import build_defs
from warmup_pipeline.orchestration.jobs import OPERATOR_JOBS
from warmup_pipeline.orchestration.session_jobs import SESSION_JOBS
from warmup_pipeline.warmup.world import StandardLog
from warmup_pipeline_tests.orchestration.conftest import _AUDIT, Project
from warmup_pipeline_tests.orchestration.test_cycle_run import make_everything_due

NAMES = [job.name for job in [*OPERATOR_JOBS, *SESSION_JOBS]]


def launch(project: Project, name: str, **config: Any) -> tuple[bool, str]:
    """Launch a job as the Launchpad does; returns whether it succeeded, and everything its log says."""
    job = project.defs().resolve_job_def(name)
    run_config = {"ops": {f"{name}_op": {"config": config}}} if config else None
    result = job.execute_in_process(instance=project.instance, run_config=run_config, raise_on_error=False)
    return result.success, "\n".join(project.log(result.run_id))


def actions(project: Project) -> list[tuple[str, str, str]]:
    return [
        (row["author"], row["action"], row["reason"])
        for row in project.rows("SELECT author, action, reason FROM operator_actions ORDER BY id")
        if row["action"] != "import_pool"
    ]


@pytest.mark.parametrize("name", NAMES)
def test_every_field_of_a_job_is_explained_has_a_default_and_stands_in_its_launchpad(name: str) -> None:
    job = build_defs().resolve_job_def(name)
    assert job.description
    (op,) = (node for node in job.nodes)
    shape: Any = op.definition.config_schema.config_type  # type: ignore[union-attr]  # every one has a schema
    assert shape.fields
    for key, field in shape.fields.items():
        assert field.description, f"{name}.{key}"
        assert field.default_provided, f"{name}.{key}"
    opened = job.run_config
    assert opened is not None
    assert set(opened["ops"][op.name]["config"]) == set(shape.fields)


def test_pausing_is_recorded_and_the_next_cycle_goes_by_it(project: Project) -> None:
    succeeded, told = launch(project, "pause_chips", chips=["0121"], reason="on holiday", author="ana")
    assert succeeded
    assert "…0121: warming → paused" in told
    assert actions(project) == [("ana", "pause_chips", "on holiday")]
    project.cycle()
    planned = project.rows(
        "SELECT c.last4 FROM activities a JOIN chips c ON c.id = a.chip_id WHERE a.state = 'claimed'"
    )
    assert "0121" not in {row["last4"] for row in planned}
    (chip,) = project.rows("SELECT status, status_reason FROM chips WHERE last4 = '0121'")
    assert chip["status"] == "paused"
    assert "on holiday" in chip["status_reason"]
    results = {row["last4"] for row in project.rows("SELECT last4 FROM chips WHERE status = 'warming'")}
    assert "0121" not in results
    assert launch(project, "resume_chips", chips=["0121"])[0]
    assert project.rows("SELECT status FROM chips WHERE last4 = '0121'") == [{"status": "warming"}]


@pytest.mark.parametrize(
    ("name", "config", "said"),
    [
        ("pause_chips", {}, "name at least one chip"),
        ("pause_chips", {"chips": ["0121", "9999"]}, "there is no chip '9999'"),
        ("start_chips", {"chips": ["0121"]}, "only provisioned, pending or ready chips start"),
        ("resume_chips", {"chips": ["0121"]}, "only paused chips are resumed"),
        ("set_kill_switch", {}, "say a reason"),
        ("set_kill_switch", {"reason": "x", "scope": "pool"}, "name the pool that is to be switched"),
        ("set_kill_switch", {"reason": "x", "scope": "pool", "target": "nowhere"}, "no pool 'nowhere'"),
        ("set_kill_switch", {"reason": "x", "expires_at": "soon"}, "write it like 2026-02-20T18:00:00-03:00"),
        ("set_kill_switch", {"reason": "x", "lift": True}, "no kill switch is on"),
        ("import_pool", {}, "name the path of chips.csv"),
        ("import_pool", {"chips": "/nowhere/chips.csv"}, "nothing was imported"),
        ("purge_old_runs", {"keep_days": 0}, "it is at least 1"),
    ],
)
def test_bad_input_is_one_clear_line_and_nothing_happens(
    project: Project, name: str, config: dict[str, Any], said: str
) -> None:
    before = project.rows("SELECT * FROM chips")
    succeeded, told = launch(project, name, **config)
    assert not succeeded
    assert said in told
    assert "OperatorError" not in told
    assert project.rows("SELECT * FROM chips") == before
    assert actions(project) == []


def test_the_kill_switch_is_recorded_and_stops_the_next_sends(project: Project) -> None:
    make_everything_due(project)
    assert launch(project, "set_kill_switch", reason="drill", author="ana")[0]
    project.cycle()
    refused = project.rows("SELECT DISTINCT reason FROM presend_validations WHERE decision = 'block'")
    assert refused == [{"reason": "kill_switch"}]
    assert project.rows("SELECT id FROM messages") == []
    assert launch(project, "set_kill_switch", reason="over", author="ana", lift=True)[0]
    assert actions(project) == [("ana", "set_kill_switch", "drill"), ("ana", "lift_kill_switch", "over")]


def test_import_pool_imports_the_old_tables_and_records_it(empty_project: Project) -> None:
    files = {
        "chips": str(_AUDIT / "chips.csv"),
        "schedule": str(_AUDIT / "warmup_schedule.csv"),
        "interactions": str(_AUDIT / "chip_interactions.csv"),
    }
    assert launch(empty_project, "import_pool", **files, dry_run=True)[0]
    assert empty_project.rows("SELECT id FROM chips") == []
    succeeded, told = launch(empty_project, "import_pool", **files, author="ana")
    assert succeeded
    assert len(empty_project.rows("SELECT id FROM chips")) == 10
    assert "imported" in told
    (action,) = empty_project.rows("SELECT DISTINCT author FROM operator_actions")
    assert action == {"author": "ana"}


def test_purging_and_resetting_are_recorded(project: Project) -> None:
    assert launch(project, "purge_old_runs", keep_days=14)[0]
    assert launch(project, "reset_circuit", chips=["0121"])[0]
    assert [action for _, action, _ in actions(project)] == ["purge_old_runs", "reset_circuit"]
    (purged,) = project.rows("SELECT details FROM operator_actions WHERE action = 'purge_old_runs'")
    assert json.loads(purged["details"])["removed"] == 0


def sessions_lost(project: Project) -> str:
    """Have one chip's session logged out at the simulator; returns the chip's last four digits."""
    asked = "SELECT * FROM chips WHERE provider = 'evolution' AND status = 'warming' ORDER BY id LIMIT 1"
    (chip,) = project.rows(asked)
    with open_world(project.settings, log=StandardLog()) as world:
        httpx.delete(
            f"{world.gateways.evolution_url}/instance/logout/{chip['instance']}",
            headers={"apikey": world.gateways.evolution_key or ""},
        )
    return str(chip["last4"])


def test_a_reconnected_session_shows_what_was_done_and_what_a_person_must_do(project: Project) -> None:
    last4 = sessions_lost(project)
    succeeded, told = launch(project, "reconnect_chips", chips=[last4], reason="it is out", author="ana")
    assert succeeded
    assert f"…{last4}: closed →" in told
    assert "scan the QR code" in json.dumps(metadata_of(project))
    assert actions(project) == [("ana", "reconnect_chips", "it is out")]
    succeeded, told = launch(project, "reconnect_chips", chips=["9999"])
    assert not succeeded
    assert "there is no chip '9999'" in told


def test_the_qr_code_is_a_picture_on_the_runs_page_with_its_expiry(project: Project) -> None:
    last4 = sessions_lost(project)
    succeeded, told = launch(project, "show_qr_code", chip=last4)
    assert succeeded, told
    shown = metadata_of(project)
    assert "](data:image/png;base64,iVBOR" in shown["qr_code"]
    assert "Expires at" in shown["qr_code"]
    assert shown["expires_at"]
    assert "base64" not in told
    succeeded, told = launch(project, "show_qr_code", chip=last4, by_code=True)
    assert succeeded
    assert metadata_of(project)["pairing_code"].startswith("`")
    succeeded, told = launch(project, "show_qr_code", chip="")
    assert not succeeded
    assert "there is no chip" in told


def metadata_of(project: Project) -> dict[str, Any]:
    """Return the metadata of the last run's output, as texts."""
    run = project.instance.get_runs(limit=1)[0]
    found: dict[str, Any] = {}
    for entry in project.instance.all_logs(run.run_id):
        event = entry.dagster_event
        if event is not None and event.event_type_value == "STEP_OUTPUT":
            found |= {key: value.value for key, value in event.step_output_data.metadata.items()}
    return found
