"""Twelve sabotages: each turns exactly what docs/operating.md says, however one looks, and repair turns it back.

Guards against: a check that is always green, one that turns for something else, a table nobody checked, and
health that freezes green when nothing evaluates it any more.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import httpx
import pytest
import sqlalchemy as sa
from dagster._core.remote_origin import RemoteInstigatorOrigin
from dagster._core.scheduler.instigation import InstigatorState, InstigatorStatus, InstigatorType
from dagster._core.storage.event_log.schema import AssetCheckExecutionsTable
from dagster._core.storage.event_log.sql_event_log import SqlEventLogStorage
from dagster._core.storage.runs.schema import RunsTable
from dagster._core.storage.runs.sql_run_storage import SqlRunStorage
from dagster._daemon.types import DaemonHeartbeat

from warmup_pipeline.assembly import open_world
from warmup_pipeline.build import build_defs
from warmup_pipeline.orchestration import launching
from warmup_pipeline.orchestration.names import CYCLE_JOB, CYCLE_SENSOR, RESOURCE
from warmup_pipeline.orchestration.resources import ChangeWorld, WarmupAccess, warmup_resource
from warmup_pipeline.settings import Settings
from warmup_pipeline.store import schema
from warmup_pipeline.store.engine import Store
from warmup_pipeline.warmup.checks import CHECKS
from warmup_pipeline.warmup.importing import import_pool
from warmup_pipeline.warmup.world import StandardLog
from warmup_pipeline_tests.e2e.eyes import Endpoint, Seen, by_command, by_ui, endpoint
from warmup_pipeline_tests.support import rows_of, run_sql
from warmup_pipeline_tests.warmup.offline import AUDITED_AT

ROOT = Path(__file__).resolve().parents[2]
AUDIT = ROOT / "warmup_pipeline" / "data" / "audit"
OLD = timedelta(minutes=11)
EVERY_CHECK = frozenset(spec.name for spec in CHECKS)


# -- the documented table --------------------------------------------------------------------------


@dataclass(frozen=True)
class Row:
    """One row of the table: what turns at once, how bad it is, what it says, and what turns by age."""

    sabotage: str
    turns: frozenset[str]
    health: str
    says: str
    later: frozenset[str]


def names(cell: str) -> frozenset[str]:
    listed = {part.strip().strip("`") for part in cell.split(",") if part.strip()}
    return frozenset(listed - {"every check"}) | (EVERY_CHECK if "every check" in listed else frozenset())


def documented() -> dict[str, Row]:
    lines = (ROOT / "docs" / "operating.md").read_text(encoding="utf-8").splitlines()
    start = next(n for n, line in enumerate(lines) if line.startswith("| sabotage |"))
    rows = {}
    for line in lines[start + 2 :]:
        if not line.startswith("|"):
            break
        name, turns, health, says, later = (cell.strip() for cell in line.strip("|").split("|"))
        rows[name] = Row(name, names(turns), health, says, names(later))
    return rows


TABLE = documented()


# -- the yard --------------------------------------------------------------------------------------


class Yard:
    """One project with the audited pool, made healthy; every sabotage is done in it and undone again."""

    def __init__(self, root: Path, instance: dg.DagsterInstance, settings: Settings) -> None:
        self.root, self.instance, self.settings = root, instance, settings
        self.store = Store(settings.database_url)
        self.defs = self._defs(settings)
        self.kept: dict[str, Any] = {}
        with open_world(settings, log=StandardLog()) as world:
            self.hidden = [*world.gateways.secrets()]
        self.hidden += [str(row["phone"]) for row in self.rows("SELECT phone FROM chips")]

    def sql(self, text: str, **values: Any) -> None:
        run_sql(self.store, text, **values)

    def rows(self, text: str) -> list[dict[str, Any]]:
        return rows_of(self.store, text)

    def cycle(self, change_world: ChangeWorld | None = None) -> None:
        """Run a cycle; in a changed world, for that one."""
        defs = self.defs if change_world is None else self._defs(self.settings, change_world)
        job = defs.resolve_job_def(CYCLE_JOB)
        assert launching.run_cycle(self.instance, "default", settings=self.settings, job=job).succeeded

    @staticmethod
    def _defs(settings: Settings, change_world: ChangeWorld | None = None) -> dg.Definitions:
        access = lambda: WarmupAccess(lambda: settings, change_world=change_world)  # noqa: E731
        return build_defs(resource_overrides={RESOURCE: warmup_resource(access)})

    def judge(self, asset: str, check: str) -> None:
        """Evaluate one check alone, as "Execute" on its page does."""
        chosen = dg.AssetSelection.checks(dg.AssetCheckKey(dg.AssetKey(asset), check))
        only = dg.Definitions(jobs=[dg.define_asset_job("judge", selection=chosen)])
        job = dg.Definitions.merge(self.defs, only).resolve_job_def("judge")
        assert job.execute_in_process(instance=self.instance).success

    def tick(self) -> datetime:
        """Return the last cycle's tick."""
        (row,) = self.rows("SELECT max(tick) AS tick FROM cycles")
        return datetime.fromisoformat(str(row["tick"])).replace(tzinfo=UTC)

    def chip(self, last4: str) -> str:
        return str(self.rows(f"SELECT id FROM chips WHERE last4 = '{last4}'")[0]["id"])

    def faults(self, *rules: dict[str, Any]) -> None:
        with open_world(self.settings, log=StandardLog()) as world:
            answer = httpx.post(
                f"{world.gateways.evolution_url}/_sim/faults", json={"rules": list(rules)}, trust_env=False
            )
            assert answer.status_code < 300, answer.text

    def age(self, by: timedelta) -> None:
        """Let what was done last be so long ago: the cycles' real times and the checks' verdicts."""
        for row in self.rows("SELECT id, began_at FROM cycles"):
            began = datetime.fromisoformat(str(row["began_at"])) - by
            ended = began + timedelta(seconds=2)
            self.sql(
                "UPDATE cycles SET began_at = :began, ended_at = :ended WHERE id = :id",
                began=f"{began:%Y-%m-%d %H:%M:%S.%f}",
                ended=f"{ended:%Y-%m-%d %H:%M:%S.%f}",
                id=row["id"],
            )
        storage, table = self.instance.event_log_storage, AssetCheckExecutionsTable
        assert isinstance(storage, SqlEventLogStorage)
        with storage.index_connection() as connection:
            for number, at in connection.execute(sa.select(table.c.id, table.c.create_timestamp)).all():
                connection.execute(
                    sa.update(table).where(table.c.id == number).values(create_timestamp=at - by)
                )

    def send_by_hand(self, last4: str, count: int, at: datetime, *, confirmable: bool) -> None:
        """Write messages that look like sent ones: approved, in conversations of their own."""
        sender, partner = self.chip(last4), self.chip("7216" if last4 != "7216" else "0945")
        (row,) = self.rows(f"SELECT phase, provider FROM chips WHERE id = '{sender}'")
        cycle = self.rows("SELECT id, day FROM cycles ORDER BY tick DESC LIMIT 1")[0]
        day = datetime.fromisoformat(str(cycle["day"])).date()
        made: dict[sa.Table, list[dict[str, Any]]] = {
            schema.conversations: [],
            schema.presend_validations: [],
            schema.messages: [],
        }
        for number in range(count):
            talk, approval, message = (f"by-hand-{uuid.uuid4()}"[:36] for _ in range(3))
            made[schema.conversations].append(
                {
                    "id": talk,
                    "pool": "default",
                    "opener_chip_id": sender,
                    "responder_chip_id": partner,
                    "pair_key": "|".join(sorted((sender, partner))),
                    "dialogue_id": "by-hand",
                    "opens_with": "text",
                    "turns": 2,
                    "turns_accepted": 1,
                    "state": "closed",
                    "reason": "by_hand",
                    "created_at": at,
                    "opened_at": at,
                    "last_accepted_at": at,
                    "closed_at": at,
                    "opened_day": day,
                }
            )
            made[schema.presend_validations].append(
                {
                    "id": approval,
                    "pool": "default",
                    "cycle_id": self._cycle_of(number),
                    "at": at,
                    "day": day,
                    "subject": "opening",
                    "conversation_id": talk,
                    "turn": 1,
                    "sender_chip_id": sender,
                    "recipient_chip_id": partner,
                    "decision": "approve",
                    "phase": row["phase"],
                    "hour_limit": 5,
                    "day_limit": 10,
                    "sent_in_hour": 0,
                    "sent_in_day": 0,
                    "used_at": at,
                }
            )
            made[schema.messages].append(
                {
                    "id": message,
                    "pool": "default",
                    "cycle_id": cycle["id"],
                    "approval_id": approval,
                    "conversation_id": talk,
                    "turn": 1,
                    "sender_chip_id": sender,
                    "recipient_chip_id": partner,
                    "provider": row["provider"],
                    "kind": "text",
                    "phase": row["phase"],
                    "state": "accepted",
                    "sent_at": at,
                    "sent_day": day,
                    "accepted_at": at,
                    "confirmable": confirmable,
                    "gateway_message_id": f"BYHAND{uuid.uuid4().hex[:20]}",
                    "http_attempts": 1,
                }
            )
        with self.store.write() as tx:
            for table, new in made.items():
                tx.connection.execute(sa.insert(table), new)

    def _cycle_of(self, number: int) -> str:
        """Return a cycle of its own for an approval: one chip has one approval per cycle."""
        name = f"by-hand-{number:04d}"
        (row,) = self.rows("SELECT * FROM cycles ORDER BY tick DESC LIMIT 1")
        tick = self.tick() - timedelta(hours=1, seconds=number + 30)
        values = {**row, "id": name, "tick": tick, "root_run_id": None, "counts": {}, "state": "finished"}
        for key in ("began_at", "lease_until", "ended_at"):
            values[key] = datetime.fromisoformat(str(row[key])).replace(tzinfo=UTC)
        values["day"] = datetime.fromisoformat(str(row["day"])).date()
        with self.store.write() as tx:
            tx.connection.execute(sa.insert(schema.cycles), [values])
        return name

    def undo_sends(self) -> None:
        self.sql("DELETE FROM messages WHERE id LIKE 'by-hand-%'")
        self.sql("DELETE FROM presend_validations WHERE id LIKE 'by-hand-%'")
        self.sql("DELETE FROM conversations WHERE id LIKE 'by-hand-%'")
        self.sql("DELETE FROM cycles WHERE id LIKE 'by-hand-%'")
        self.sql("DELETE FROM brake_signals")


@pytest.fixture(scope="module")
def yard(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Yard]:
    root = tmp_path_factory.mktemp("yard")
    shutil.copy(ROOT / "dagster.yaml", root / "dagster.yaml")
    with pytest.MonkeyPatch.context() as patch:
        for name in list(os.environ):
            if name.startswith(("WARMUP_", "EVOLUTION_", "ZAPI_", "DAGSTER_")):
                patch.delenv(name)
        patch.setenv("DAGSTER_HOME", str(root))
        patch.chdir(root)
        settings = Settings.from_environment(root)
        with open_world(settings, log=StandardLog()) as world:
            import_pool(
                world,
                AUDIT / "chips.csv",
                AUDIT / "warmup_schedule.csv",
                AUDIT / "chip_interactions.csv",
                stepped_from=AUDITED_AT,
            )
        with dg.DagsterInstance.get() as instance:
            found = Yard(root, instance, settings)
            # The old system's failures are no sabotage of ours.
            found.sql("UPDATE activities SET state = 'executed' WHERE source = 'import' AND state = 'failed'")
            found.cycle()
            yield found
            found.store.close()


@pytest.fixture(scope="module")
def served(yard: Yard) -> Iterator[Endpoint]:
    with endpoint(yard.settings) as found:
        yield found


# -- the sabotages: (do, undo) ------------------------------------------------------------------------


def gateway_down(yard: Yard) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        nobody = f"http://127.0.0.1:{free.getsockname()[1]}"
    # Real sockets to an address where nobody listens.
    yard.cycle(
        lambda world: replace(
            world, gateways=replace(world.gateways, evolution_url=nobody, zapi_base_url=nobody)
        )
    )


def bad_key(yard: Yard) -> None:
    yard.faults({"match": {"provider": "evolution"}, "kind": "status", "body": "unauthorized", "code": 401})
    yard.cycle()


def mend_gateway(yard: Yard) -> None:
    yard.faults()
    yard.sql("UPDATE chips SET cooldown_until = NULL, cooldown_reason = NULL")
    yard.cycle()


def all_degraded(yard: Yard) -> None:
    yard.kept["chips"] = yard.rows("SELECT id, status, last_error_at FROM chips")
    at = f"{yard.tick():%Y-%m-%d %H:%M:%S.%f}"
    yard.sql(
        "UPDATE chips SET status = 'degraded', status_reason = 'errors_24h', last_error_at = :at "
        "WHERE status IN ('warming', 'ready', 'active')",
        at=at,
    )
    yard.cycle()


def undo_degraded(yard: Yard) -> None:
    for row in yard.kept.pop("chips"):
        yard.sql(
            "UPDATE chips SET status = :status, status_reason = NULL, last_error_at = :last_error_at "
            "WHERE id = :id",
            **row,
        )
    yard.cycle()


def stub_planned(yard: Yard) -> None:
    tick = yard.tick()
    yard.sql(
        "INSERT INTO activities (id, pool, chip_id, type, day, planned_at, due_at, state, deferrals, source) "
        "VALUES ('by-hand', 'default', :chip, 'ENTRAR_GRUPO', :day, :due, :due, 'planned', 0, 'warmup')",
        chip=yard.chip("0121"),
        day=str(tick.date()),
        due=f"{tick + timedelta(hours=8):%Y-%m-%d %H:%M:%S.%f}",
    )
    yard.cycle()


def undo_stub(yard: Yard) -> None:
    yard.sql("DELETE FROM activities WHERE id = 'by-hand'")
    yard.cycle()


def limit_exceeded(yard: Yard) -> None:
    yard.send_by_hand("8850", 12, yard.tick(), confirmable=False)
    yard.cycle()


def undo_sends(yard: Yard) -> None:
    yard.undo_sends()
    yard.cycle()


def row_edited(yard: Yard) -> None:
    yard.sql("UPDATE chip_metrics SET sent_total = 999 WHERE chip_id = :chip", chip=yard.chip("0121"))
    yard.judge("chip_metrics", "metrics_match_log")


def sensor_off(yard: Yard, *, status: InstigatorStatus = InstigatorStatus.STOPPED) -> None:
    origin = RemoteInstigatorOrigin(launching._ORIGIN.repository_origin, CYCLE_SENSOR)
    state = InstigatorState(origin, InstigatorType.SENSOR, status)
    known = yard.instance.get_instigator_state(origin.get_id(), origin.get_selector().get_id())
    if known is None:
        yard.instance.add_instigator_state(state)
    else:
        yard.instance.update_instigator_state(known.with_status(status))


def sensor_on(yard: Yard) -> None:
    sensor_off(yard, status=InstigatorStatus.RUNNING)
    yard.cycle()


def heartbeat(yard: Yard, ago: timedelta) -> None:
    at = (datetime.now(UTC) - ago).timestamp()
    yard.instance.add_daemon_heartbeat(DaemonHeartbeat(at, "SENSOR", "daemon", None))


def daemon_off(yard: Yard) -> None:
    heartbeat(yard, timedelta(minutes=3))


def daemon_on(yard: Yard) -> None:
    heartbeat(yard, timedelta())
    yard.cycle()


def zombie(yard: Yard) -> None:
    yard.send_by_hand("7734", 2, yard.tick() - timedelta(minutes=12), confirmable=True)
    yard.cycle()


def revive(yard: Yard) -> None:
    """Let the chip send again, until a delivery is seen."""
    yard.undo_sends()
    for _ in range(8):
        yard.sql(
            "UPDATE activities SET due_at = :at WHERE chip_id = :chip AND state = 'planned'",
            at=f"{yard.tick():%Y-%m-%d %H:%M:%S.%f}",
            chip=yard.chip("7734"),
        )
        yard.cycle()
        if not by_ui(yard.instance).turned:
            return


def future_row(yard: Yard) -> None:
    yard.send_by_hand("0121", 2, yard.tick(), confirmable=False)
    later = yard.tick() + timedelta(days=2)
    yard.sql(
        "UPDATE messages SET sent_at = :at WHERE id = (SELECT max(id) FROM messages WHERE id LIKE 'by-hand-%')",
        at=f"{later:%Y-%m-%d %H:%M:%S.%f}",
    )
    yard.cycle()


def missing_migration(yard: Yard) -> None:
    yard.kept["version"] = yard.rows("SELECT version_num FROM alembic_version")[0]["version_num"]
    yard.sql("UPDATE alembic_version SET version_num = '9999'")


def migration_back(yard: Yard) -> None:
    yard.sql("UPDATE alembic_version SET version_num = :version", version=yard.kept.pop("version"))
    yard.cycle()


def full_queue(yard: Yard) -> None:
    # The daemon lives for as long as the test looks, however slow the machine.
    heartbeat(yard, timedelta(minutes=-30))
    job = yard.defs.resolve_job_def(CYCLE_JOB)
    storage = yard.instance.run_storage
    assert isinstance(storage, SqlRunStorage)
    made = [
        yard.instance.create_run_for_job(
            job, status=dg.DagsterRunStatus.QUEUED, remote_job_origin=launching._ORIGIN
        ).run_id
        for _ in range(10)
    ]
    asked_at = datetime.now(UTC).replace(tzinfo=None) - timedelta(minutes=4)
    with storage.connect() as connection:
        connection.execute(
            sa.update(RunsTable).where(RunsTable.c.run_id.in_(made)).values(create_timestamp=asked_at)
        )
    yard.kept["runs"] = made


def empty_queue(yard: Yard) -> None:
    for run_id in yard.kept.pop("runs"):
        yard.instance.delete_run(run_id)
    yard.cycle()


SABOTAGES: dict[str, tuple[Callable[[Yard], None], Callable[[Yard], None]]] = {
    "a gateway down": (gateway_down, mend_gateway),
    "a bad key": (bad_key, mend_gateway),
    "all chips degraded": (all_degraded, undo_degraded),
    "a stub type planned by hand": (stub_planned, undo_stub),
    "a limit exceeded by hand": (limit_exceeded, undo_sends),
    "a row edited behind the log": (row_edited, Yard.cycle),
    "the sensor off": (sensor_off, sensor_on),
    "the daemon off": (daemon_off, daemon_on),
    "a zombie chip": (zombie, revive),
    "a future-dated row": (future_row, undo_sends),
    "a missing migration": (missing_migration, migration_back),
    "a full queue": (full_queue, empty_queue),
}
EXIT_CODES = {"healthy": 0, "degraded": 1, "critical": 2}


# -- looking ------------------------------------------------------------------------------------------


def look(yard: Yard, served: Endpoint) -> tuple[Seen, Seen, Seen]:
    """Look in all three ways; none of them may show a secret or a full number."""
    seen = (by_ui(yard.instance), by_command(), served.look())
    assert yard.hidden
    for one in seen:
        assert not [value for value in yard.hidden if value in one.text]
    return seen


def assert_seen(seen: tuple[Seen, Seen, Seen], turned: frozenset[str], status: str, says: str) -> None:
    ui, command, http = seen
    assert command.turned == http.turned == turned
    assert command.status == http.status == status
    assert command.code == EXIT_CODES[status]
    assert http.code == (503 if status == "critical" else 200)
    for one in (command, http):
        reasons = " ".join(json.loads(one.text)["reasons"])
        assert says in reasons
    if turned & EVERY_CHECK and turned & EVERY_CHECK != EVERY_CHECK:
        assert ui.turned == turned & EVERY_CHECK
        assert says in ui.text


def test_the_table_has_all_twelve() -> None:
    assert list(TABLE) == list(SABOTAGES)
    assert len(TABLE) == 12


@pytest.mark.parametrize("name", SABOTAGES)
def test_a_sabotage_turns_exactly_what_the_table_says_and_repair_turns_it_back(
    yard: Yard, served: Endpoint, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("warmup_pipeline.serve.health.FRESH_FOR_S", 0.0)
    row, (do, undo) = TABLE[name], SABOTAGES[name]
    assert_seen(look(yard, served), frozenset(), "healthy", "")
    do(yard)
    try:
        assert_seen(look(yard, served), row.turns, row.health, row.says)
        if row.later:
            yard.age(OLD)
            assert_seen(look(yard, served), row.later, "critical", "no cycle has begun for 1")
    finally:
        undo(yard)
    assert_seen(look(yard, served), frozenset(), "healthy", "")
