"""A rehearsed cycle decides what a real one would, and leaves no trace here nor at the gateways.

Guards against: a dry run that writes, sends, restarts a session, or decides by other rules.
"""

from __future__ import annotations

from datetime import timedelta

import httpx
import pytest

from warmup_pipeline.domain.values import Provider
from warmup_pipeline.store import cycle_report
from warmup_pipeline.store.engine import Store
from warmup_pipeline.warmup import demo
from warmup_pipeline.warmup.lifecycle import CycleRefused
from warmup_pipeline.warmup.rehearsal import rehearse_cycle
from warmup_pipeline_tests.support import Lab, chip_row, due_openings, open_lab, run_sql
from warmup_pipeline_tests.warmup.demo_lab import open_demo, run
from warmup_pipeline_tests.warmup.offline import contents


def states(lab: Lab) -> dict[str, str]:
    found = httpx.get(f"{lab.base_url}/_sim/instances").json()["instances"]
    return {instance["name"]: instance["state"] for instance in found}


def test_a_rehearsal_leaves_nothing_behind(store: Store) -> None:
    with open_demo(store) as lab:
        before, sessions = contents(store), states(lab)
        rehearsal = rehearse_cycle(lab.world, "default", at=demo.STARTS_AT + timedelta(minutes=45))
        assert contents(store) == before
        assert states(lab) == sessions
        assert demo.seen_by_gateway(lab.world) == []
    # At 08:45 two openings are due, and they are paired: one send would serve both.
    assert (rehearsal.facts.claimed, rehearsal.facts.approved, rehearsal.facts.sent) == (2, 1, 0)
    # Unlike a real cycle, it does not restart the session of the Z-API chip.
    assert sessions["3C06E7A9B5D1F06"] != "open"


def test_a_rehearsal_decides_what_the_cycle_then_does(store: Store) -> None:
    compared = 0
    with open_demo(store) as lab:
        run(lab, 1)
        for _ in range(14):
            rehearsal = rehearse_cycle(lab.world, "default")
            cycle = run(lab, 1)[0]
            with store.read() as tx:
                real = cycle_report.facts_of_cycle(tx, cycle.id)
            assert rehearsal.tick == cycle.tick
            assert (rehearsal.facts.claimed, rehearsal.facts.approved) == (real.claimed, real.approved)
            assert rehearsal.facts.deferred == real.deferred
            compared += real.approved
    assert compared > 0


def test_a_rehearsal_takes_nothing_out_of_the_queue_of_a_chip_that_is_back(sqlite_store: Store) -> None:
    with open_lab(sqlite_store) as lab:
        rows = [chip_row(1, ddd=11, provider=Provider.Z_API), chip_row(2, ddd=11)]
        lab.add(rows)
        lab.cycle()
        due_openings(lab, [rows[0]["id"]])
        lab.cycle()
        lab.core.state._db.execute("UPDATE messages SET next_at = 9000000000000")
        # Seen down by the last cycle, and back by now; an old message of ours stands in its queue.
        run_sql(lab.store, "UPDATE chip_connections SET state = 'closed'")
        run_sql(
            lab.store, "UPDATE messages SET accepted_at = '2026-03-02 01:00:00.000000', state = 'accepted'"
        )
        run_sql(lab.store, "UPDATE messages SET confirmed_at = NULL")
        before = httpx.get(f"{lab.base_url}/_sim/messages").json()
        rehearse_cycle(lab.world, "default", at=lab.now)
        after = httpx.get(f"{lab.base_url}/_sim/messages").json()
    assert [m["queued"] for m in before["messages"]] == [True]
    assert after["messages"] == before["messages"]


def test_outside_the_window_everything_is_put_off(sqlite_store: Store) -> None:
    with open_demo(sqlite_store) as lab:
        rehearsal = rehearse_cycle(lab.world, "default", at=demo.STARTS_AT - timedelta(hours=4))
    assert rehearsal.facts.approved == 0


def test_a_pool_that_is_not_there_is_refused(sqlite_store: Store) -> None:
    with open_demo(sqlite_store) as lab, pytest.raises(CycleRefused, match="no pool 'nowhere'"):
        rehearse_cycle(lab.world, "nowhere")
