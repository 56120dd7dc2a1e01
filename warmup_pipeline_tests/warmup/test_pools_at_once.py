"""The trap: what is kept for all pools together (the summary of a day), written by two pools at the same moment."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from datetime import date, timedelta
from threading import Thread
from typing import Any

import pytest

from warmup_pipeline.store import migrate, summaries
from warmup_pipeline.store.engine import Store, Transaction
from warmup_pipeline.warmup import summary
from warmup_pipeline.warmup.checks.summary import summary_matches_log
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
    replace = summaries.replace_everything

    def the_second_comes_in_between(tx: Transaction, day: date, row: Mapping[str, Any]) -> None:
        """The first has replaced the row for everything and not yet committed."""
        replace(tx, day, row)
        if thread.ident is None:
            thread.start()
            wait_until_it_waits(lab.store)

    monkeypatch.setattr(summaries, "replace_everything", the_second_comes_in_between)
    summary.summarise_cycle(lab.world, begun["norte"])
    thread.join()
    assert failed == []
    rows = rows_of(lab.store, "SELECT scope, scope_id, planned, cycles_run FROM daily_summary")
    of_pools = {row["scope_id"]: row for row in rows if row["scope"] == "pool"}
    (everything,) = [row for row in rows if row["scope"] == "all"]
    assert set(of_pools) == set(POOLS)
    assert {row["cycles_run"] for row in of_pools.values()} == {1}
    assert everything["cycles_run"] == 2
    assert everything["planned"] == sum(row["planned"] for row in of_pools.values()) > 0


def test_a_cycle_writes_nothing_of_another_pools_summary(lab: Lab) -> None:
    """With 500 pools it would be 500 times the work, and each would wait for all others."""
    others = "SELECT * FROM daily_summary WHERE scope_id <> '*' ORDER BY scope, scope_id"
    ids = {row["id"] for row in rows_of(lab.store, "SELECT id FROM chips WHERE pool = 'sul'")} | {"sul"}
    before = [row for row in rows_of(lab.store, others) if row["scope_id"] in ids]
    lab.move_to(lab.now + timedelta(minutes=20))
    lab.pool = "norte"
    lab.cycle()
    assert [row for row in rows_of(lab.store, others) if row["scope_id"] in ids] == before
    assert before
    assert summary_matches_log(lab.world).passed, "each pool as of its own tick"
