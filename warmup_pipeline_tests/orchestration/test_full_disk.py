"""The trap: a disk that fills up under Dagster's own history, and a pool that waits for what nobody can note."""

from __future__ import annotations

import os
import sqlite3
import uuid
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.engine import Connection, Engine

from warmup_pipeline.orchestration.room import make_room
from warmup_pipeline.store.trouble import StoreError, told
from warmup_pipeline_tests.orchestration.conftest import Project

EVERYTHING = 2**60


@dataclass
class Disk:
    """A disk that is full after so many transactions: from then on no SQLite file takes a page more."""

    left: int = EVERYTHING
    with_pool: bool = False

    def limit(self, connection: Connection) -> None:
        raw = connection.connection.driver_connection
        if not isinstance(raw, sqlite3.Connection):
            return
        if not self.with_pool and "history" not in str(connection.engine.url.database):
            return
        self.left -= 1
        pages = int(raw.execute("PRAGMA page_count").fetchone()[0]) if self.left < 0 else 2**30
        raw.execute(f"PRAGMA max_page_count = {max(1, pages)}").fetchone()


@contextmanager
def disk() -> Iterator[Disk]:
    one = Disk()
    event.listen(Engine, "begin", one.limit)
    try:
        yield one
    finally:
        event.remove(Engine, "begin", one.limit)


def test_whenever_the_disk_fills_up_the_cycle_ends_with_advice_and_the_next_one_goes_on(
    project: Project,
) -> None:
    """From before the run is created to its last steps; the pool's database is on that disk, too, in one."""
    advice = []
    with disk() as one:
        assert project.cycle().succeeded
        of_a_cycle = EVERYTHING - one.left
        assert of_a_cycle > 100
        late = [(int(of_a_cycle * share), False) for share in (0.4, 0.6, 0.8)]
        for transactions, with_pool in ((3, False), (90, True), *late):
            one.with_pool = with_pool
            one.left = transactions
            try:
                ran = project.cycle()
            except (sa.exc.SQLAlchemyError, StoreError) as error:
                advice.append(
                    str(error if isinstance(error, StoreError) else told(error, "of Dagster's own history"))
                )
            else:
                assert not ran.succeeded, transactions
                advice.append("\n".join(project.log(ran.run_id)))
            one.left = EVERYTHING
            assert project.cycle().succeeded, transactions
    assert all("disk is full: free some space" in text for text in advice), advice
    assert project.rows("SELECT id FROM messages WHERE state = 'sending'") == []
    project.instance.dispose()
    with sqlite3.connect(project.settings.simulator_state) as simulator:
        # <message id>;conversation=<id>;turn=<n>
        traces = [trace.split(";") for (trace,) in simulator.execute("SELECT trace FROM messages")]
    assert traces, "something was sent"
    assert max(Counter(tuple(turn) for _, *turn in traces).values()) == 1
    known = {row["id"] for row in project.rows("SELECT id FROM messages")}
    assert {message for message, *_ in traces} <= known


def test_room_is_made_from_the_oldest_event_files_only_where_it_is_needed(project: Project) -> None:
    ran = project.cycle()
    project.instance.dispose()
    folder = project.root / ".dagster" / "history" / "runs"
    now = datetime.now(UTC)
    old = [folder / f"{uuid.uuid4()}.db" for _ in range(3)]
    for days, path in enumerate(old, start=20):
        path.write_bytes(b"x" * 1000)
        at = (now - timedelta(days=days)).timestamp()
        os.utime(path, (at, at))
    assert make_room(project.root, keep_days=14, enough=0, now=now) == 0, "there is room"
    assert make_room(project.root, keep_days=30, enough=EVERYTHING, now=now) == 0, "nothing is that old"
    assert make_room(project.root, keep_days=21, enough=EVERYTHING, now=now) == 1000
    assert [path.exists() for path in old] == [True, True, False]
    assert make_room(project.root, keep_days=14, enough=EVERYTHING, now=now) == 2000
    assert (folder / f"{ran.run_id}.db").exists()
    assert (folder / "index.db").exists()
