"""The traps: a run that sends without a partition, a traceback that Dagster drops, a secret that leaves."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import dagster as dg
import httpx
import pytest

from warmup_pipeline.assembly import open_world
from warmup_pipeline.domain.values import CONVERSA_PAR, MessageKind
from warmup_pipeline.gateways.base import Channel, Content, Observation
from warmup_pipeline.gateways.evolution import Evolution
from warmup_pipeline.orchestration import history, launching
from warmup_pipeline.orchestration.names import CYCLE_JOB, PARTITION_TAG, POOL_TAG
from warmup_pipeline.store import audit
from warmup_pipeline.warmup.activities.enviar_midia import EnviarMidia
from warmup_pipeline.warmup.activities.marcar_lido import MarcarLido
from warmup_pipeline.warmup.activities.registry import registry_of
from warmup_pipeline.warmup.checks import CHECKS
from warmup_pipeline.warmup.health_report import health_report
from warmup_pipeline.warmup.library import Library
from warmup_pipeline.warmup.world import StandardLog, World
from warmup_pipeline_tests.orchestration.conftest import Project
from warmup_pipeline_tests.support import run_sql

ASSETS = {
    "chip_connections",
    "pairings",
    "presend_validations",
    "messages",
    "chip_metrics",
    "trust_scores",
    "warming_day",
    "phase_eligibility",
    "phase_transitions",
    "phase_forecast",
    "daily_summary",
}


@dataclass(frozen=True, slots=True)
class BrokenConversaPar:
    """A CONVERSA_PAR whose executor has a bug for one chip's conversations."""

    type: str = CONVERSA_PAR
    opens_with: frozenset[MessageKind] = frozenset({MessageKind.TEXT})
    broken_for: int = 1

    def first_turn(
        self, library: Library, dialogue_id: str, *, seed: str
    ) -> tuple[Content, MessageKind, str | None]:
        if int(seed[0], 16) % 2 == 0:
            raise RuntimeError("the executor's own bug") from KeyError(
                "the dialogue's cause, to 5511900000121"
            )
        return library.content(dialogue_id, 1, seed=seed)


def with_broken_executor(world: World) -> World:
    return replace(world, activities=registry_of([BrokenConversaPar(), EnviarMidia()], [MarcarLido()]))


def make_everything_due(project: Project) -> None:
    store = project.store()
    run_sql(store, "UPDATE activities SET due_at = '2026-02-20 11:00:00.000000' WHERE state = 'planned'")
    store.close()


def faults(project: Project, rules: list[dict[str, object]]) -> None:
    """Set the simulator's faults; they are kept in its state, which outlives this world."""
    with open_world(project.settings, log=StandardLog()) as world:
        assert world.gateways.evolution_url is not None
        answer = httpx.post(
            f"{world.gateways.evolution_url}/_sim/faults", json={"rules": rules}, trust_env=False
        )
        assert answer.status_code < 300, answer.text


def test_one_run_materializes_every_asset_and_completes_every_check(project: Project) -> None:
    ran = project.cycle()
    assert ran.succeeded
    run = project.instance.get_run_by_id(ran.run_id)
    assert run is not None
    assert run.tags[PARTITION_TAG] == "2026-02-20"
    materialized = {
        event.dagster_event.asset_key.to_user_string()
        for event in project.instance.all_logs(ran.run_id, of_type=dg.DagsterEventType.ASSET_MATERIALIZATION)
        if event.dagster_event is not None and event.dagster_event.asset_key is not None
    }
    assert materialized == ASSETS
    results = {result.check: result for result in launching.latest_results(project.instance)}
    assert set(results) == {spec.name for spec in CHECKS}
    # The old system's 17 failures are what the last 24 hours look like at first.
    assert not results["conversa_par_success_rate"].passed
    assert results["conversa_par_success_rate"].metadata["failed"] == 17
    assert results["pool_is_pairable"].passed
    (cycle,) = project.rows("SELECT state, health, root_run_id FROM cycles")
    assert cycle == {"state": "finished", "health": "critical", "root_run_id": ran.run_id}


def test_a_run_is_listed_under_its_job_with_the_code_locations_origin(project: Project) -> None:
    ran = project.cycle()
    (run,) = project.instance.get_runs(dg.RunsFilter(job_name=CYCLE_JOB))
    assert run.run_id == ran.run_id
    assert run.remote_job_origin is not None
    assert run.remote_job_origin.location_name == "warmup_pipeline.definitions"


@pytest.mark.parametrize("day", [None, "2026-02-19"])
def test_a_run_without_the_right_partition_is_refused_before_anything_is_sent(
    project: Project, day: str | None
) -> None:
    job = project.defs().resolve_job_def(CYCLE_JOB)
    make_everything_due(project)
    tags = {POOL_TAG: "default"} | ({PARTITION_TAG: day} if day else {})
    result = job.execute_in_process(instance=project.instance, tags=tags, raise_on_error=False)
    assert not result.success
    told = "\n".join(project.log(result.run_id))
    assert "2026-02-20" in told
    assert project.rows("SELECT id FROM cycles") == []
    assert project.rows("SELECT id FROM messages") == []


def test_a_bug_in_one_executor_stops_nothing_else_and_every_traceback_is_in_the_runs_log(
    project: Project,
) -> None:
    make_everything_due(project)
    ran = project.cycle(with_broken_executor)
    assert not ran.succeeded
    sent = project.rows("SELECT state FROM messages")
    assert sent, "the sends that had no bug went out"
    assert {row["state"] for row in sent} <= {"accepted", "delivered"}
    failed = project.rows(
        "SELECT traceback, reason FROM activities WHERE state = 'failed' AND cycle_id IS NOT NULL"
    )
    assert failed
    told = "\n".join(project.log(ran.run_id))
    assert told.count("making a turn failed in our own code") == len(failed)
    assert "RuntimeError: the executor's own bug" in told
    assert "KeyError" in told, "the cause chain is there"
    assert "direct cause" in told
    assert "5511900000121" not in told
    assert all("the executor's own bug" in row["traceback"] for row in failed)
    (cycle,) = project.rows("SELECT state FROM cycles")
    assert cycle["state"] == "failed"


def test_checks_that_cannot_judge_fail_the_run_with_each_traceback_and_the_others_are_judged(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    def bug(*_: object, **__: object) -> object:
        raise KeyError("the check's own bug, at 5511900000121")

    monkeypatch.setattr(audit, "duplicate_messages", bug)
    monkeypatch.setattr(audit, "recipients_outside_pool", bug)
    ran = project.cycle()
    assert not ran.succeeded
    told = "\n".join(project.log(ran.run_id))
    for name in ("no_duplicate_sends", "recipients_in_pool"):
        assert f"the check {name} cannot judge" in told
    assert "the check's own bug" in told
    assert "5511900000121" not in told
    results = launching.latest_results(project.instance)
    assert {one.check for one in results} == {spec.name for spec in CHECKS} - {
        "no_duplicate_sends",
        "recipients_in_pool",
    }
    (cycle,) = project.rows("SELECT health, state FROM cycles")
    assert cycle == {"health": "critical", "state": "finished"}
    monkeypatch.undo()
    monkeypatch.chdir(project.root)
    with open_world(project.settings, log=StandardLog()) as world:
        document = health_report(world, results, history.scheduler_state(project.instance))
    assert "the last cycle of pool 'default' failed" in document["reasons"], "its row says finished"
    assert project.cycle().succeeded
    assert history.scheduler_state(project.instance).failed == {ran.run_id}


def test_a_bug_in_looking_at_one_chip_stops_nobody_else_and_fails_the_run_with_its_traceback(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = Evolution.connection_state
    (broken,) = project.rows("SELECT instance FROM chips WHERE label = 'julia-01' OR instance = 'julia-01'")

    async def breaking(self: Evolution, channel: Channel) -> Observation:
        if channel.instance == broken["instance"]:
            raise LookupError("our own bug at 5511900000121")
        return await real(self, channel)

    monkeypatch.setattr(Evolution, "connection_state", breaking)
    make_everything_due(project)
    ran = project.cycle()
    assert not ran.succeeded
    assert project.rows("SELECT id FROM messages"), "the others talk"
    told = "\n".join(project.log(ran.run_id))
    assert "our own bug" in told
    assert "in breaking" in told
    assert "5511900000121" not in told


def test_a_gateways_refusal_is_data_with_its_traceback_in_the_log_and_in_the_row(project: Project) -> None:
    faults(project, [{"match": {"route": "any-send"}, "kind": "status", "code": 500}])
    make_everything_due(project)
    ran = project.cycle()
    assert ran.succeeded
    failed = project.rows("SELECT failure_class, traceback FROM messages WHERE state = 'failed'")
    assert failed
    assert {row["failure_class"] for row in failed} == {"transient"}
    told = "\n".join(project.log(ran.run_id))
    assert told.count("send failed (transient)") >= len(failed)
    assert told.count("Traceback (most recent call last)") >= len(failed)
    assert all("Traceback" in row["traceback"] for row in failed)


EVERY_WAY: list[dict[str, object]] = [
    {"kind": "status", "code": 403},
    {"kind": "status", "code": 500},
    {"kind": "status", "code": 503},
    {"kind": "status", "code": 429, "retry_after": 1},
    {"kind": "status", "body": "restriction"},
    {"kind": "status", "body": "validation"},
    {"kind": "status", "body": "not_on_whatsapp"},
    {"kind": "status", "body": "connection_closed_500_string"},
    {"kind": "status", "body": "instance_not_found"},
    {"kind": "reset_before"},
    {"kind": "reset_after"},
    {"kind": "malformed_json"},
    {"kind": "wrong_content_type"},
    {"kind": "ok_with_error"},
    {"kind": "huge_body"},
]


def test_with_sends_failing_in_every_way_each_failure_is_told_and_the_rest_goes_out(project: Project) -> None:
    # Each way strikes a send in forty-five: together a third of them.
    faults(project, [{"match": {"route": "any-send"}, "probability": 1 / 45} | way for way in EVERY_WAY])
    make_everything_due(project)
    texts = []
    for _ in range(12):
        ran = project.cycle()
        assert ran.succeeded
        texts += project.log(ran.run_id)
        make_everything_due(project)
    bad = project.rows("SELECT failure_class, traceback FROM messages WHERE state IN ('failed', 'unknown')")
    good = project.rows("SELECT id FROM messages WHERE state NOT IN ('failed', 'unknown')")
    assert bad
    assert good
    assert all(row["failure_class"] for row in bad)
    told = "\n".join(texts)
    assert all(row["traceback"] in told for row in bad)


def test_no_secret_and_no_full_phone_number_is_anywhere_but_where_it_belongs(project: Project) -> None:
    faults(project, [{"match": {"route": "any-send"}, "probability": 0.2} | way for way in EVERY_WAY])
    make_everything_due(project)
    project.cycle(with_broken_executor)
    project.cycle()
    with open_world(project.settings, log=StandardLog()) as world:
        secrets = [secret.encode() for secret in world.gateways.secrets()]
    phones = [row["phone"].encode() for row in project.rows("SELECT phone FROM chips")]
    assert secrets
    home = project.settings.home
    belongs = {home / "warmup.db", home / "warmup.db-wal", project.settings.simulator_state}
    looked_at = 0
    for path in sorted(p for p in home.rglob("*") if p.is_file()):
        if path in belongs or path.is_relative_to(project.settings.simulator_state.parent):
            continue
        looked_at += 1
        content = path.read_bytes()
        assert not any(secret in content for secret in secrets), path
        assert not any(phone in content for phone in phones), path
    assert looked_at
    tables = [row["name"] for row in project.rows("SELECT name FROM sqlite_master WHERE type = 'table'")]
    for table in tables:
        if table == "chips":
            continue
        text = str(project.rows(f"SELECT * FROM {table}")).encode()
        assert not any(phone in text for phone in phones), table
        assert not any(secret in text for secret in secrets), table


def test_daily_summary_alone_computes_a_past_day_and_sends_nothing(project: Project) -> None:
    result = dg.materialize(
        [project.defs().resolve_assets_def("daily_summary")],
        partition_key="2026-02-19",
        instance=project.instance,
    )
    assert result.success
    rows = project.rows("SELECT * FROM daily_summary WHERE day = '2026-02-19' AND scope = 'all'")
    assert rows[0]["conversa_par_failed"] == 17
    assert rows[0]["final"] == 1
    assert project.rows("SELECT id FROM messages") == []


def test_nothing_is_kept_of_a_step_that_another_would_need(project: Project) -> None:
    ran = project.cycle()
    storage = Path(project.instance.storage_directory())
    assert not (storage / ran.run_id).exists() or not list((storage / ran.run_id).rglob("result"))
