"""The demo: what it touches, and that its figures are measured and not told.

Guards against: a demo that erases somebody's pool, figures that stay zero whatever happens at the
gateway, a second run that differs from the first.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import httpx
import pytest

from warmup_pipeline.domain.values import ActivityState, Phase
from warmup_pipeline.store import activities, chips, migrate, pools
from warmup_pipeline.store.cycles import Cycle
from warmup_pipeline.store.engine import Store
from warmup_pipeline.warmup import demo
from warmup_pipeline.warmup.demo import DemoRefused, Figures
from warmup_pipeline_tests.support import EVOLUTION_KEY, Lab, chip_row, open_lab
from warmup_pipeline_tests.warmup.demo_lab import declare, open_demo, run
from warmup_pipeline_tests.warmup.offline import contents, offline_world, rows

ENDS = ["0121", "0945", "7216", "7734", "8618", "8850"]


def send_by_hand(lab: Lab, *, instance: str, to: str, at: str, message: str = "") -> None:
    """Send past everything this project has, as another program would that has the key."""
    headers = {"apikey": EVOLUTION_KEY, "X-Warmup-At": at}
    if message:
        headers["X-Warmup-Message"] = message
    httpx.post(
        f"{lab.base_url}/message/sendText/{instance}", json={"number": to, "text": "oi"}, headers=headers
    ).raise_for_status()


def measured(lab: Lab, ran: list[Cycle]) -> Figures:
    return demo.measure(lab.world, ran)


def test_a_morning_of_the_audited_pool_keeps_every_rule(sqlite_store: Store) -> None:
    with open_demo(sqlite_store) as lab:
        ran = run(lab, 30)
        figures = measured(lab, ran)
    document = figures.document()
    assert figures.broken_rules == 0
    assert document["cycles"] == 30
    assert document["conversa_par"]["success_rate"] > 0.9
    assert document["messages"] == document["conversa_par"]["executed"] > 8
    assert document["conversations"]["opened"] >= document["conversations"]["bidirectional"] > 2
    assert document["stubs_cancelled"] == 3
    assert document["recovered"] == ["8618"]
    assert document["warming_day"] == {
        "0121": 9, "7734": 8, "0945": 7, "7216": 6, "8850": 5, "8618": 94, "6402": 21,
        "5523": None, "7790": None, "6081": None,
    }  # fmt: skip
    assert sorted(document["sent_by_chip"]) == ENDS
    assert (
        sum(document["sent_by_chip"].values())
        == sum(document["received_by_chip"].values())
        == figures.messages
    )
    assert all(one.opener in ENDS and one.responder in ENDS for one in figures.conversations)


def test_running_it_twice_from_scratch_gives_the_same_figures(tmp_path: Path) -> None:
    documents = []
    for name in ("first", "second"):
        store = Store(f"sqlite:///{tmp_path / name}.db")
        migrate.upgrade(store)
        with open_demo(store) as lab:
            documents.append(measured(lab, run(lab, 14)).document())
        store.close()
    assert documents[0] == documents[1]
    assert documents[0]["messages"] > 0


def test_figures_are_those_of_the_cycles_asked_about(sqlite_store: Store) -> None:
    with open_demo(sqlite_store) as lab:
        first, second = run(lab, 14), run(lab, 14)
        whole = measured(lab, first + second)
        parts = [measured(lab, first), measured(lab, second)]
    assert sum(part.messages for part in parts) == whole.messages
    assert all(part.messages for part in parts)
    assert parts[1].recovered == ()


def test_what_the_gateway_saw_and_nobody_logged_is_found(sqlite_store: Store) -> None:
    with open_demo(sqlite_store) as lab:
        ran = run(lab, 14)
        clean = measured(lab, ran)
        with sqlite_store.read() as tx:
            phones = {chip.instance: chip.phone for chip in chips.of_pool(tx)}
        night = (ran[-1].tick + timedelta(hours=14)).isoformat()
        for _ in range(6):
            send_by_hand(lab, instance="julia-01", to=phones["julia-02"], at=night)
        figures = measured(lab, ran)
    assert clean.broken_rules == 0
    assert figures.sends_not_in_log == 6
    assert figures.sends_outside_window == 6
    # Five an hour are allowed in primeiros_contatos: the sixth is one too many.
    assert figures.limit_violations >= 1
    assert figures.messages == clean.messages + 6


def test_a_turn_that_reached_the_gateway_twice_is_found(sqlite_store: Store) -> None:
    with open_demo(sqlite_store) as lab:
        ran = run(lab, 14)
        sent = rows(
            sqlite_store,
            "SELECT m.id, m.conversation_id, m.turn, m.sent_at, s.instance, r.phone FROM messages m"
            " JOIN chips s ON s.id = m.sender_chip_id JOIN chips r ON r.id = m.recipient_chip_id"
            " WHERE s.provider = 'evolution' AND m.state <> 'failed' ORDER BY m.sent_at, m.id",
        )[0]
        send_by_hand(
            lab,
            instance=sent.instance,
            to=sent.phone,
            at=ran[-1].tick.isoformat(),
            message=f"{sent.id};conversation={sent.conversation_id};turn={sent.turn}",
        )
        figures = measured(lab, ran)
    assert figures.duplicate_sends == 1
    assert figures.sends_not_in_log == 0


def test_a_send_above_what_validation_allowed_is_found(sqlite_store: Store) -> None:
    with open_demo(sqlite_store) as lab:
        ran = run(lab, 14)
        with sqlite_store.write() as tx:
            tx.connection.exec_driver_sql(
                "UPDATE presend_validations SET day_limit = 0 WHERE used_at IS NOT NULL"
            )
        figures = measured(lab, ran)
    assert figures.limit_violations == figures.messages > 0


def test_what_was_executed_before_it_was_due_is_found(sqlite_store: Store) -> None:
    with open_demo(sqlite_store) as lab:
        ran = run(lab, 26)
        executed = rows(
            sqlite_store,
            "SELECT id FROM activities WHERE state = 'executed' AND source = 'import'"
            " AND cycle_id IS NOT NULL",
        )
        with sqlite_store.write() as tx:
            tx.connection.exec_driver_sql(
                "UPDATE activities SET planned_at = '2026-02-20 22:00:00' WHERE cycle_id IS NOT NULL"
            )
        figures = measured(lab, ran)
    assert len(executed) > 0
    assert figures.early_executions == len(executed)


def test_a_planned_type_that_nothing_executes_is_found(sqlite_store: Store) -> None:
    with open_demo(sqlite_store) as lab:
        with sqlite_store.write() as tx:
            tx.connection.exec_driver_sql(
                "UPDATE activities SET state = 'planned', reason = NULL WHERE reason = 'not_implemented'"
            )
        figures = measured(lab, [])
    assert figures.unimplemented_planned == 3
    assert figures.stubs_cancelled == ()


# --- what it touches


def test_the_demo_goes_on_where_it_is(sqlite_store: Store) -> None:
    with open_demo(sqlite_store) as lab:
        before = contents(sqlite_store)
        assert demo.prepare(lab.world) is None
    assert contents(sqlite_store) == before


def test_reset_removes_the_demo_and_what_the_gateway_knows(store: Store) -> None:
    with open_demo(store) as lab:
        begun = contents(store)
        run(lab, 14)
        assert demo.remove(lab.world)
        assert not any(contents(store).values())
        assert demo.seen_by_gateway(lab.world) == []
        assert demo.prepare(lab.world) is not None
        fresh = contents(store)
        declare(lab)
    # Apart from the numbering of operator actions, it is as if nothing had been.
    assert {name: found for name, found in fresh.items() if name != "operator_actions"} == {
        name: found for name, found in begun.items() if name != "operator_actions"
    }


@pytest.mark.parametrize("action", [demo.prepare, demo.remove])
@pytest.mark.parametrize(
    ("pool", "stepped", "said"),
    [
        ("mine", False, "this database holds pool 'mine'"),
        ("default", False, "pool 'default' of this database is not the demo's"),
        ("default", True, "pool 'default' of this database is not the demo's"),
    ],
)
def test_a_database_with_another_pool_is_left_alone(
    sqlite_store: Store, action: object, pool: str, stepped: bool, said: str
) -> None:
    with open_lab(sqlite_store, at=demo.STARTS_AT) as lab:
        with sqlite_store.write() as tx:
            pools.ensure(tx, pool, at=demo.STARTS_AT)
            if stepped:
                pools.step_from(tx, pool, demo.STARTS_AT, at=demo.STARTS_AT)
            chips.insert(tx, [chip_row(1, pool=pool)], [])
        before = contents(sqlite_store)
        with pytest.raises(DemoRefused, match=said):
            action(lab.world)  # type: ignore[operator]  # one of the two functions above
        assert contents(sqlite_store) == before


def test_a_demo_pool_with_another_chip_in_it_is_not_removed(sqlite_store: Store) -> None:
    with open_demo(sqlite_store) as lab:
        with sqlite_store.write() as tx:
            chips.insert(tx, [chip_row(1, phase=Phase.SETUP)], [])
        with pytest.raises(DemoRefused, match="is not the demo's"):
            demo.remove(lab.world)


def test_the_demo_never_runs_against_a_live_gateway(sqlite_store: Store) -> None:
    world = replace(offline_world(sqlite_store), mode="live")
    with pytest.raises(DemoRefused, match="WARMUP_GATEWAY_MODE=simulated"):
        demo.prepare(world)
    with pytest.raises(DemoRefused, match="WARMUP_GATEWAY_MODE=simulated"):
        demo.remove(world)


def test_faults_set_before_a_demo_stay_set(sqlite_store: Store) -> None:
    with open_lab(sqlite_store, at=demo.STARTS_AT) as lab:
        rule = {"kind": "status", "code": 500, "match": {"route": "any-send"}}
        httpx.post(f"{lab.base_url}/_sim/faults", json=[rule]).raise_for_status()
        demo.prepare(lab.world)
        kept = httpx.get(f"{lab.base_url}/_sim/faults").json()["rules"]
    assert len(kept) == 1


def test_activities_planned_by_the_audit_are_the_days_plan(sqlite_store: Store) -> None:
    with open_demo(sqlite_store) as lab:
        run(lab, 1)
        with sqlite_store.read() as tx:
            due = activities.due(
                tx, "default", tick=demo.STARTS_AT + timedelta(hours=12), day=demo.STARTS_AT.date()
            )
    assert len(due) == 21
    assert all(activity.state is ActivityState.PLANNED for activity in due)
