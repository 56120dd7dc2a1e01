"""``warmup doctor`` on broken set-ups: each names its problem and its remedy, and nothing is changed.

The gateways are the simulator on loopback, asked in live mode: over real sockets, with real credentials.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from warmup_pipeline.domain.values import Provider
from warmup_pipeline.gateways.simulator import (
    RunningSimulator,
    SimulatedInstance,
    SimulatorCore,
    SimulatorSettings,
    run_in_thread,
)
from warmup_pipeline_tests.cli.conftest import REPOSITORY, Project

KEY, CLIENT_TOKEN, TOKEN = "the-global-key-of-evolution", "the-account-token", "the-instance-token"
SECRET = "what-the-webhooks-must-bring"
EVOLUTION = [("chip-a", "5511987650001"), ("chip-b", "5511987650002")]
ZAPI = ("3C0000000001", "5511987650003")


@dataclass
class Live:
    project: Project
    core: SimulatorCore
    running: RunningSimulator
    environ: dict[str, str]
    patch: pytest.MonkeyPatch

    def set(self, **changes: str | None) -> None:
        for name, value in changes.items():
            if value is None:
                self.patch.delenv(name, raising=False)
            else:
                self.patch.setenv(name, value)

    def secrets(self, document: Any, mode: int = 0o600) -> None:
        path = self.project.root / "secrets.yaml"
        path.write_text(yaml.safe_dump(document))
        path.chmod(mode)

    def declare(self, provider: Provider, name: str, phone: str, **options: Any) -> None:
        token = TOKEN if provider is Provider.Z_API else f"own-key-of-{name}"
        self.core.declare(
            [SimulatedInstance(provider=provider, name=name, phone=phone, token=token, **options)],
            overwrite=True,
        )

    def examine(self) -> tuple[int, list[dict[str, str]]]:
        result = self.project.run("doctor", "--json")
        assert "Traceback" not in result.output
        document = json.loads(result.stdout)
        for secret in (KEY, CLIENT_TOKEN, TOKEN, SECRET, *(phone for _, phone in EVOLUTION), ZAPI[1]):
            assert secret not in result.output
        return result.exit_code, document["findings"]

    def worst(self) -> tuple[int, dict[str, str]]:
        """Return the exit code and the finding that must be fixed (or warns, where nothing must)."""
        code, findings = self.examine()
        by_verdict = {v: [f for f in findings if f["verdict"] == v] for v in ("fail", "warn", "ok")}
        return code, (by_verdict["fail"] or by_verdict["warn"] or by_verdict["ok"])[0]


@pytest.fixture
def live(project: Project, monkeypatch: pytest.MonkeyPatch) -> Iterator[Live]:
    """A set-up in which all is well: three chips on two gateways, webhooks set."""
    core = SimulatorCore(SimulatorSettings(evolution_key=KEY, zapi_client_token=CLIENT_TOKEN))
    with core, run_in_thread(core) as running:
        built = Live(project, core, running, {}, monkeypatch)
        built.secrets({"zapi": {ZAPI[0]: TOKEN}})
        built.set(
            WARMUP_GATEWAY_MODE="live",
            EVOLUTION_API_URL=running.base_url,
            EVOLUTION_API_KEY=KEY,
            ZAPI_BASE_URL=running.base_url,
            ZAPI_CLIENT_TOKEN=CLIENT_TOKEN,
            WARMUP_SECRETS_FILE="secrets.yaml",
            WARMUP_WEBHOOK_SECRET=SECRET,
        )
        for name, phone in EVOLUTION:
            built.declare(Provider.EVOLUTION, name, phone)
            assert project.run("chips", "add", name, "--phone", phone).exit_code == 0
        built.declare(Provider.Z_API, *ZAPI)
        added = project.run("chips", "add", ZAPI[0], "--phone", ZAPI[1], "--provider", "z-api")
        assert added.exit_code == 0, added.output
        names = [*(name for name, _ in EVOLUTION), ZAPI[0]]
        assert project.run("chips", "start", *names).exit_code == 0
        # Z-API takes https only, but for a listener on this machine.
        pointed = project.run("chips", "webhooks", *names, "--url", "http://127.0.0.1:3001")
        assert pointed.exit_code == 0, pointed.output
        yield built


def test_where_nothing_is_wrong_nothing_fails_and_only_silence_is_named(live: Live) -> None:
    code, findings = live.examine()
    assert code == 1
    assert {f["verdict"] for f in findings} == {"ok", "warn"}
    warned = [f for f in findings if f["verdict"] == "warn"]
    assert {f["says"] for f in warned} == {
        "no cycle has run yet",
        "it is set, and nothing was ever heard from it",
    }
    assert all(f["remedy"] for f in warned)
    assert {f["part"] for f in findings} == {
        *("environment", "policy", "dialogues", "database", "history", "pool", "cycles"),
        *("credentials", "instance", "number", "webhook"),
    }


def test_a_doctor_changes_nothing(live: Live) -> None:
    def everything() -> tuple[list[Any], list[Any]]:
        with sqlite3.connect(live.project.root / ".dagster" / "warmup.db") as connection:
            names = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()
            rows = [connection.execute(f'SELECT * FROM "{name}"').fetchall() for (name,) in sorted(names)]
        return rows, [(i.name, i.state, i.webhook) for i in live.core.state.instances()]

    before = everything()
    live.examine()
    assert everything() == before


def unreachable_database(live: Live) -> None:
    live.set(WARMUP_DATABASE_URL="postgresql://nobody:hidden@127.0.0.1:1/warmup")


def history_without_its_address(live: Live) -> None:
    live.set(DAGSTER_HOME=str(REPOSITORY / "deploy" / "postgres"), WARMUP_DAGSTER_DATABASE_URL=None)


def history_that_nobody_serves(live: Live) -> None:
    history_without_its_address(live)
    live.set(WARMUP_DAGSTER_DATABASE_URL="postgresql+psycopg2://nobody:hidden@127.0.0.1:1/dagster")


def no_database(live: Live) -> None:
    live.set(WARMUP_DATABASE_URL=f"sqlite:///{live.project.root / 'new.db'}")


def newer_database(live: Live) -> None:
    with sqlite3.connect(live.project.root / ".dagster" / "warmup.db") as connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")


def broken_policy(live: Live) -> None:
    (live.project.root / "mine.yaml").write_text("name: mine\n")
    live.set(WARMUP_POLICY="mine.yaml")


def broken_dialogues(live: Live) -> None:
    (live.project.root / "mine.yaml").write_text("dialogues: []\n")
    live.set(WARMUP_DIALOGUES="mine.yaml")


def no_gateway(live: Live) -> None:
    live.secrets({})
    live.set(EVOLUTION_API_URL=None, EVOLUTION_API_KEY=None, ZAPI_CLIENT_TOKEN=None)


def readable_secrets(live: Live) -> None:
    live.secrets({"zapi": {ZAPI[0]: TOKEN}}, mode=0o644)


def nobody_takes_part(live: Live) -> None:
    assert live.project.run("chips", "pause", *(name for name, _ in EVOLUTION)).exit_code == 0


def wrong_key(live: Live) -> None:
    live.set(EVOLUTION_API_KEY="another-key")


def server_down(live: Live) -> None:
    live.set(EVOLUTION_API_URL="http://127.0.0.1:1")


def no_instance(live: Live) -> None:
    live.core.state.begin()
    instance = live.core.state.instance("evolution", "chip-a")
    assert instance is not None
    instance.deleted = 1
    live.core.state.save_instance(instance)
    live.core.state.commit()


def logged_out(live: Live) -> None:
    live.declare(Provider.Z_API, *ZAPI, state="close", has_session=False, needs_qr=True)


def session_down(live: Live) -> None:
    live.declare(Provider.EVOLUTION, *EVOLUTION[0], state="close")


def another_number(live: Live) -> None:
    live.declare(Provider.EVOLUTION, EVOLUTION[0][0], "5511987659999")


def no_token(live: Live) -> None:
    live.secrets({"zapi": {"another": TOKEN}})


def wrong_token(live: Live) -> None:
    live.secrets({"zapi": {ZAPI[0]: "another-token"}})


def wrong_account_token(live: Live) -> None:
    live.set(ZAPI_CLIENT_TOKEN="another-account-token")


def another_secret(live: Live) -> None:
    live.set(WARMUP_WEBHOOK_SECRET="changed-since")


def no_webhook(live: Live) -> None:
    live.core.state.begin()
    instance = live.core.state.instance("z-api", ZAPI[0])
    assert instance is not None
    instance.webhook = ""
    live.core.state.save_instance(instance)
    live.core.state.commit()


BROKEN: dict[Callable[[Live], None], tuple[str, str, str]] = {
    unreachable_database: ("database", "127.0.0.1", "WARMUP_DATABASE_URL"),
    history_without_its_address: ("history", "WARMUP_DAGSTER_DATABASE_URL, which is not set", "DAGSTER_HOME"),
    history_that_nobody_serves: ("history", "start the server", "DAGSTER_HOME"),
    no_database: ("database", "there is no database yet", "warmup import"),
    newer_database: ("database", "newer than this program", "upgrade warmup_pipeline"),
    broken_policy: ("policy", "mine.yaml", "WARMUP_POLICY"),
    broken_dialogues: ("dialogues", "mine.yaml", "WARMUP_DIALOGUES"),
    no_gateway: ("environment", "EVOLUTION_API_URL", "correct the variable"),
    readable_secrets: ("environment", "chmod 600", "correct the variable"),
    nobody_takes_part: ("pool", "nobody can talk to anybody", "warmup chips start"),
    wrong_key: ("credentials", "401", "EVOLUTION_API_KEY"),
    server_down: ("credentials", "no connection", "EVOLUTION_API_URL"),
    no_instance: ("instance", "does not exist", "create the instance chip-a"),
    logged_out: ("instance", "closed", "QR code"),
    session_down: ("instance", "closed", "warmup chips reconnect 0001"),
    another_number: ("number", "…9999 is logged in instead of …0001", "pair it with …0001"),
    no_token: ("credentials", "no request was made", "zapi: in WARMUP_SECRETS_FILE"),
    wrong_token: ("instance", "Instance not found", "zapi: in WARMUP_SECRETS_FILE"),
    wrong_account_token: ("credentials", "not allowed", "ZAPI_CLIENT_TOKEN"),
    another_secret: ("webhook", "WARMUP_WEBHOOK_SECRET", "warmup chips webhooks"),
    no_webhook: ("webhook", "no webhook is set", "warmup chips webhooks 0003"),
}


@pytest.mark.parametrize("break_it", BROKEN, ids=lambda one: one.__name__)
def test_each_broken_set_up_is_named_with_its_remedy(live: Live, break_it: Callable[[Live], None]) -> None:
    part, says, remedy = BROKEN[break_it]
    break_it(live)
    code, finding = live.worst()
    assert code == 2, finding
    assert finding["part"] == part, finding
    assert says in finding["says"], finding
    assert remedy in finding["remedy"], finding
    plain = live.project.run("doctor")
    assert plain.exit_code == 2
    assert "→" in plain.output


def test_chips_with_the_same_last_digits_are_told_apart_and_the_remedy_is_about_one(live: Live) -> None:
    live.declare(Provider.EVOLUTION, "chip-c", "5521987650001", state="close")
    live.declare(Provider.EVOLUTION, *EVOLUTION[0], state="close")
    added = live.project.run("chips", "add", "chip-c", "--phone", "5521987650001", "--pool", "north")
    assert added.exit_code == 0, added.output
    _, findings = live.examine()
    down = [one for one in findings if one["part"] == "instance" and one["verdict"] == "fail"]
    assert {one["subject"] for one in down} == {"…0001 (evolution, default)", "…0001 (evolution, north)"}
    chips = live.project.json("chips", "list")
    ids = {chip["pool"]: chip["id"] for chip in chips if chip["last4"] == "0001"}
    for one in down:
        pool = one["subject"].rstrip(")").rpartition(", ")[2]
        assert f"warmup chips reconnect {ids[pool]}" in one["remedy"]


@pytest.mark.parametrize("name", ["WARMUP_WEBHOOK_SECRET", "WARMUP_GATEWAY_MODE"])
def test_what_works_but_is_not_live_is_a_warning(live: Live, name: str) -> None:
    live.set(**{name: None})
    code, findings = live.examine()
    assert code == 1
    said = " ".join(f["says"] for f in findings if f["verdict"] == "warn")
    assert ("refused" if name == "WARMUP_WEBHOOK_SECRET" else "simulated") in said


def test_an_empty_project_is_told_to_bring_chips(project: Project, tmp_path: Path) -> None:
    assert project.run("chips", "list").exit_code == 0
    result = project.run("doctor", "--json")
    assert result.exit_code == 2
    said = json.loads(result.stdout)["findings"]
    assert any("there are no chips" in finding["says"] for finding in said)
