"""The trap: what is kept for all pools together (the summary of a day), written by two pools at the same moment."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import timedelta
from threading import Thread

import pytest

from warmup_pipeline.store import migrate
from warmup_pipeline.store.cycles import Cycle
from warmup_pipeline.store.engine import Store, Transaction
from warmup_pipeline.warmup import lifecycle, summary
from warmup_pipeline.warmup.chip_days import note_chip_days
from warmup_pipeline.warmup.world import World
from warmup_pipeline_tests.support import Lab, chip_row, open_lab, rows_of

POOLS = ("norte", "sul")


@pytest.fixture
def lab(postgres_url: str) -> Iterator[Lab]:
    """Two pools that have had a cycle, on PostgreSQL, where they really write at once."""
    store = Store(postgres_url)
    migrate.upgrade(store)
    with open_lab(store) as opened:
        for index, pool in enumerate(POOLS):
            opened.pool = pool
            opened.add([chip_row(n + 10 * index, pool=pool, ddd=11) for n in (1, 2)])
            opened.cycle()
        yield opened
    store.close()


def wait_until_it_waits(store: Store) -> None:
    """Return when another connection to the database waits for a lock."""
    waits = "SELECT count(*) AS n FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
    ends = time.monotonic() + 60
    while not rows_of(store, waits)[0]["n"]:
        assert time.monotonic() < ends, "the second pool neither waited nor failed"
        time.sleep(0.02)


def test_two_pools_that_end_their_cycles_at_once_are_both_in_the_days_summary(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun = {}
    for pool in POOLS:
        lab.pool = pool
        begun[pool] = lab.begin()
    failed: list[BaseException] = []

    def second() -> None:
        try:
            summary.summarise_cycle(lab.world, begun["sul"])
        except BaseException as error:  # noqa: BLE001 (a thread's failure is this test's)
            failed.append(error)

    thread = Thread(target=second)

    def the_second_comes_in_between(tx: Transaction, world: World, cycle: Cycle) -> None:
        """The first has replaced the day and not yet committed."""
        note_chip_days(tx, world, cycle)
        if cycle.pool == "norte":
            thread.start()
            wait_until_it_waits(lab.store)

    monkeypatch.setattr("warmup_pipeline.warmup.summary.note_chip_days", the_second_comes_in_between)
    summary.summarise_cycle(lab.world, begun["norte"])
    thread.join()
    assert failed == []
    for cycle in begun.values():
        lifecycle.end_cycle(lab.world, cycle)
    lab.move_to(lab.now + timedelta(minutes=5))
    rows = rows_of(lab.store, "SELECT scope_id FROM daily_summary WHERE scope = 'pool' ORDER BY scope_id")
    assert [row["scope_id"] for row in rows] == list(POOLS)
