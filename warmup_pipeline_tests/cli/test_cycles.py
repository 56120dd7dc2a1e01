"""Commands that run cycles through Dagster: demo, cycle, health; and the simulator as a process.

Guards against: a demo that is never two runs alike, one that touches another pool, a rehearsal that
sends, health that is green because nothing was looked at.
"""

from __future__ import annotations

import json
import os
import re
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
import pytest

from warmup_pipeline_tests.cli.conftest import REPOSITORY, Project

CHIPS = str(REPOSITORY / "warmup_pipeline" / "data" / "audit" / "chips.csv")
FULL_NUMBER = re.compile(r"55\d{10,11}")
HEALTH_KEYS = {"status", "at", "mode", "checks", "pool", "activities_today", "last_cycle"}


def document(done: subprocess.CompletedProcess[str], code: int = 0) -> Any:
    assert done.returncode == code, done.stderr
    return json.loads(done.stdout)


def test_the_demo_runs_goes_on_and_begins_again_alike(project: Project) -> None:
    first = document(project.process("demo", "--cycles", "9", "--json"))
    assert first["cycles"] == 9
    assert first["failed_runs"] == 0
    assert first["messages"] == first["conversa_par"]["executed"] > 0
    assert first["conversa_par"]["success_rate"] > 0.9
    assert first["recovered"] == ["8618"]
    assert first["stubs_cancelled"] == 3
    for rule in ("limit_violations", "sends_outside_window", "early_executions", "duplicate_sends"):
        assert first[rule] == 0
    assert first["unimplemented_planned"] == 0
    assert first["health"].keys() >= HEALTH_KEYS
    # Fewer than five attempts today: the last 24 hours are judged, and those are the old system's.
    assert first["health"]["status"] == "critical"
    assert [reason.split(":")[0] for reason in first["health"]["reasons"]] == ["conversa_par_success_rate"]
    assert all(not check["stale"] for check in first["health"]["checks"])

    # It goes on: these cycles' figures are their own.
    second = document(project.process("demo", "--cycles", "1", "--json"))
    assert second["cycles"] == 1
    assert second["recovered"] == []
    health = project.process("health", "--json")
    judged = json.loads(health.stdout)
    assert health.returncode == {"healthy": 0, "degraded": 1, "critical": 2}[judged["status"]]
    assert judged["last_cycle"]["tick"] == "2026-02-20T11:45:00+00:00"

    rehearsed = document(project.process("cycle", "--dry-run", "--json"))
    assert (rehearsed["run_id"], rehearsed["sent"], rehearsed["dry_run"]) == (None, 0, True)
    real = document(project.process("cycle", "--json"))
    assert real["tick"] == rehearsed["tick"] == "2026-02-20T11:50:00+00:00"
    assert (real["claimed"], real["approved"]) == (rehearsed["claimed"], rehearsed["approved"])

    # And begins again: the same figures, whatever was before.
    again = document(project.process("demo", "--reset", "--cycles", "9", "--json"))
    unlike = {"health"}
    assert {k: v for k, v in again.items() if k not in unlike} == {
        k: v for k, v in first.items() if k not in unlike
    }


def test_the_demo_reads_as_a_story_with_its_progress_beside_it(project: Project) -> None:
    shown = project.process("demo", "--cycles", "1")
    assert shown.returncode == 0, shown.stderr
    assert not FULL_NUMBER.search(shown.stdout + shown.stderr)
    assert "Warm-up cycles" in shown.stderr
    assert "Warm-up cycles" not in shown.stdout
    for words in (
        "…8618 was disconnected and is back",
        "MENSAGEM_GRUPO of …8618, planned by the old system, was cancelled",
        "conversa_par_success_rate",
        "dagster dev",
        "http://127.0.0.1:3000",
    ):
        assert words in shown.stdout


def test_the_demo_leaves_another_pool_alone(project: Project) -> None:
    assert project.run("import", "--chips", CHIPS, "--pool", "mine").exit_code == 0
    for args in (("demo",), ("demo", "--reset")):
        assert "this database holds pool 'mine'" in project.refused(*args)
    assert len(project.json("chips", "list")) == 10


def test_an_imported_pool_is_not_mistaken_for_the_demo(project: Project) -> None:
    assert project.run("import", "--chips", CHIPS).exit_code == 0
    assert "is not the demo's" in project.refused("demo", "--reset")
    assert len(project.json("chips", "list")) == 10


def test_the_demo_never_runs_live(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WARMUP_GATEWAY_MODE", "live")
    monkeypatch.setenv("EVOLUTION_API_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("EVOLUTION_API_KEY", "some-key")
    assert "WARMUP_GATEWAY_MODE=simulated" in project.refused("demo")


def test_health_without_a_single_result_is_critical(project: Project) -> None:
    done = project.run("health", "--json")
    assert done.exit_code == 2
    judged = json.loads(done.stdout)
    assert judged["status"] == "critical"
    assert judged["last_cycle"] is None
    assert "never evaluated" in project.run("health").stdout


def test_a_cycle_of_a_pool_that_is_not_there_is_refused(project: Project) -> None:
    assert "there is no pool 'default'" in project.refused("cycle")
    assert "there is no pool 'nowhere'" in project.refused("cycle", "--dry-run", "--pool", "nowhere")


def test_a_chosen_time_never_reaches_a_live_gateway(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WARMUP_GATEWAY_MODE", "live")
    monkeypatch.setenv("EVOLUTION_API_URL", "https://evolution.example.com")
    monkeypatch.setenv("EVOLUTION_API_KEY", "some-key")
    line = project.refused("cycle", "--at", "2026-02-20T10:00:00-03:00")
    assert "--at in live mode needs --dry-run, or gateways on loopback; EVOLUTION_API_URL is not" in line
    monkeypatch.setenv("EVOLUTION_API_URL", "http://127.0.0.1:9")
    assert "ZAPI_BASE_URL is not" in project.refused("cycle", "--at", "2026-02-20T10:00:00-03:00")
    monkeypatch.setenv("ZAPI_BASE_URL", "http://localhost:9")
    assert "there is no pool" in project.refused("cycle", "--at", "2026-02-20T10:00:00-03:00")


def test_a_missing_credential_in_live_mode_is_named_before_anything_runs(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert project.run("import", "--chips", CHIPS).exit_code == 0
    monkeypatch.setenv("WARMUP_GATEWAY_MODE", "live")
    monkeypatch.setenv("EVOLUTION_API_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("EVOLUTION_API_KEY", "some-key")
    line = project.refused("cycle")
    assert "WARMUP_SECRETS_FILE has no token for the Z-API instance of chip …8618" in line


@contextmanager
def gateway_sim(project: Project, *args: str) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """The simulator as its own process, on a free port; gives its address."""
    code = "from warmup_pipeline.cli import main; main(prog_name='warmup')"
    command = [sys.executable, "-c", code, "gateway-sim", "--port", "0", "--json", *args]
    with subprocess.Popen(command, cwd=project.root, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            told = "".join(iter(process.stdout.readline, "}\n")) + "}"
            yield json.loads(told)["url"], process
        finally:
            process.kill()


def test_the_simulator_serves_until_it_is_told_to_stop(project: Project) -> None:
    state = project.root / "sim.db"
    with gateway_sim(project, "--state", "sim.db", "--latency-ms", "1") as (url, process):
        assert httpx.get(f"{url}/_sim/health").json()["status"] == "ok"
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=30) == 0
    assert state.exists()


def test_cycles_talk_to_a_simulator_of_its_own_process(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    with gateway_sim(project) as (url, _):
        monkeypatch.setenv("EVOLUTION_API_URL", url)
        done = document(project.process("demo", "--cycles", "1", "--json"))
        names = {one["name"] for one in httpx.get(f"{url}/_sim/instances").json()["instances"]}
    assert done["recovered"] == ["8618"]
    assert "julia-01" in names


def test_a_port_that_is_taken_is_said_in_one_line(project: Project) -> None:
    with gateway_sim(project) as (url, _):
        line = project.refused("gateway-sim", "--port", url.rsplit(":", 1)[1])
    assert "cannot listen on 127.0.0.1" in line
    assert "--port" in line


def test_a_state_file_in_no_folder_is_refused(project: Project) -> None:
    assert "--state: there is no folder" in project.refused(
        "gateway-sim", "--state", str(Path("no") / "sim.db")
    )


def test_ctrl_c_ends_the_demo_in_one_word_and_leaves_its_pool_free(project: Project) -> None:
    database = project.root / ".dagster" / "warmup.db"

    def begun() -> int:
        if not database.exists():
            return 0
        with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as reader:
            try:
                found = reader.execute(
                    "SELECT count(*) FROM cycles HAVING sum(state = 'running') = 1 AND count(*) > 1"
                ).fetchone()
            except sqlite3.OperationalError:
                return 0
        return 0 if found is None else int(found[0])

    # As in a terminal: what is started in the background is born deaf to Ctrl-C.
    code = (
        "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); "
        "from warmup_pipeline.cli import main; main(prog_name='warmup')"
    )
    command = [sys.executable, "-c", code, "demo"]
    with subprocess.Popen(
        command, cwd=project.root, stderr=subprocess.PIPE, text=True, start_new_session=True
    ) as demo:
        give_up = time.monotonic() + 120
        while not begun():
            assert time.monotonic() < give_up
            assert demo.poll() is None
        for _ in range(3):
            # A terminal tells everybody that was started from it. One that comes while a signal is being handled
            # may be lost; at a terminal one presses again.
            os.killpg(demo.pid, signal.SIGINT)
            with suppress(subprocess.TimeoutExpired):
                _, said = demo.communicate(timeout=20)
                break
    assert demo.returncode == 130
    assert said.rstrip().endswith("Interrupted.")
    assert "Traceback" not in said
    with closing(sqlite3.connect(database)) as reader:
        states = {state for (state,) in reader.execute("SELECT state FROM cycles")}
    assert states <= {"finished", "failed"}
    assert project.run("demo", "--cycles", "1").exit_code in (0, 2)
