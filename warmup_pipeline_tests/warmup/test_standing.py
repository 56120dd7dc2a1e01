"""Why a chip is where it is: what is shown is what the next cycle would decide.

Guards against: an explanation made of other rules than the cycle's, a full number on the screen.
"""

from __future__ import annotations

import re
from datetime import date, timedelta

import pytest

from warmup_pipeline.domain.circuit import Circuit
from warmup_pipeline.domain.degrade import Hold
from warmup_pipeline.domain.values import CircuitState
from warmup_pipeline.store import chips
from warmup_pipeline.store.engine import PoolNotFound, Store
from warmup_pipeline.warmup import demo, operating
from warmup_pipeline.warmup.operating import OperatorError
from warmup_pipeline.warmup.standing import explain_chip, list_chips
from warmup_pipeline_tests.support import Lab, rows_of
from warmup_pipeline_tests.warmup.demo_lab import open_demo, run


def id_of(lab: Lab, end: str) -> str:
    with lab.store.read() as tx:
        return chips.find(tx, end)[0].id


def test_before_any_cycle_every_chip_waits_for_its_gateway_to_be_asked(store: Store) -> None:
    with open_demo(store) as lab:
        found = explain_chip(lab.world, "0121")
    assert found.at == demo.STARTS_AT
    assert found.obstacle is not None
    assert found.obstacle.code == "sender_disconnected"
    assert (found.hour.limit, found.day.limit, found.day.used) == (4, 8, 0)
    assert found.next_activity is not None
    assert found.next_activity.due_at == demo.STARTS_AT + timedelta(minutes=31)


def test_a_connected_chip_with_budget_has_no_obstacle(store: Store) -> None:
    with open_demo(store) as lab:
        run(lab, 1)
        found = explain_chip(lab.world, "…0121")
    assert found.obstacle is None
    assert found.at == demo.STARTS_AT + timedelta(minutes=5)
    assert (found.warming_day, found.breaker, found.braked_until) == (9, "closed", None)
    assert found.connection is not None
    assert found.connection.state == "open"


def test_what_it_used_of_its_limits_is_what_the_log_says(sqlite_store: Store) -> None:
    with open_demo(sqlite_store) as lab:
        figures = demo.measure(lab.world, run(lab, 30))
        for end, sent in figures.sent_by_chip.items():
            found = explain_chip(lab.world, end)
            assert found.day.used == sent
            assert found.day.left == found.day.limit - sent


def test_each_criterion_of_the_next_phase_has_its_value_and_its_day(store: Store) -> None:
    with open_demo(store) as lab:
        run(lab, 1)
        found = explain_chip(lab.world, "8850")
    assert {one.next_phase for one in found.criteria} == {"expansao"}
    by_name = {one.criterion: one for one in found.criteria}
    assert (by_name["warming_day"].value, by_name["warming_day"].needed) == (5, 7)
    assert by_name["warming_day"].earliest_day == date(2026, 2, 22)
    assert not by_name["sent"].holds
    assert by_name["errors_24h"].holds
    days = [one.earliest_day for one in found.criteria]
    assert found.eligible_on == (None if None in days else max(day for day in days if day is not None))


def test_a_chip_in_its_last_phase_needs_nothing(sqlite_store: Store) -> None:
    with open_demo(sqlite_store) as lab:
        found = explain_chip(lab.world, "8618")
    assert found.criteria == ()
    assert found.eligible_on is None


@pytest.mark.parametrize(
    ("end", "code"),
    [
        ("6402", "chip_not_participating"),
        ("5523", "chip_not_participating"),
        ("6081", "chip_not_participating"),
    ],
)
def test_a_chip_that_does_not_take_part_says_so(sqlite_store: Store, end: str, code: str) -> None:
    with open_demo(sqlite_store) as lab:
        run(lab, 1)
        found = explain_chip(lab.world, end)
    assert found.obstacle is not None
    assert (found.obstacle.code, found.obstacle.decision) == (code, "block")


def test_a_kill_switch_is_shown_with_its_reason_and_end(store: Store) -> None:
    with open_demo(store) as lab:
        run(lab, 1)
        until = demo.STARTS_AT + timedelta(hours=1)
        operating.set_kill_switch(
            lab.world, scope="chip", target="0121", reason="a test", author="ana", expires_at=until
        )
        found, other = explain_chip(lab.world, "0121"), explain_chip(lab.world, "7734")
    assert [(switch.scope, switch.reason, switch.expires_at) for switch in found.switches] == [
        ("chip", "a test", until)
    ]
    assert found.obstacle is not None
    assert found.obstacle.code == "kill_switch"
    assert other.switches == ()


def test_breaker_cooldown_and_brake_are_shown_with_their_ends(store: Store) -> None:
    with open_demo(store) as lab:
        run(lab, 1)
        chip_id, now = id_of(lab, "0121"), demo.STARTS_AT + timedelta(minutes=5)
        with store.write() as tx:
            chips.set_breakers(tx, {chip_id: Circuit(CircuitState.OPEN, 3, now)})
            chips.add_brake_signals(tx, [(chip_id, "circuit_opened", now)])
            chips.change(
                tx,
                [
                    {
                        "id": chip_id,
                        "cooldown_until": now + timedelta(hours=1),
                        "cooldown_reason": "rate_limited",
                    }
                ],
            )
        found = explain_chip(lab.world, "0121")
    assert found.breaker == "open"
    assert found.braked_until == now + timedelta(days=3)
    assert found.obstacle is not None
    assert (found.obstacle.code, found.obstacle.until) == ("circuit_open", now + timedelta(seconds=300))
    # 10 an hour ... × amarelo 0.8 × brake 0.75, rounded down.
    assert (found.hour.limit, found.day.limit) == (3, 6)


def test_failures_are_shown_newest_first_without_numbers(sqlite_store: Store) -> None:
    with open_demo(sqlite_store) as lab:
        ran = run(lab, 20)
        with sqlite_store.write() as tx:
            tx.connection.exec_driver_sql(
                "UPDATE messages SET state = 'failed', failure_class = 'transient', failure_status = 500,"
                " failure_text = 'HTTP 500: Connection Closed'"
            )
        senders = {end for end, sent in demo.measure(lab.world, ran).sent_by_chip.items() if sent}
        found = explain_chip(lab.world, sorted(senders)[0])
    assert found.failures
    times = [one.at for one in found.failures]
    assert times == sorted(times, reverse=True)
    assert found.failures[0].text == "HTTP 500: Connection Closed"
    assert all(re.fullmatch(r"\d{4}", found.last4_of[one.recipient_chip_id]) for one in found.failures)


def test_an_open_conversation_says_whose_turn_is_next(sqlite_store: Store) -> None:
    with open_demo(sqlite_store) as lab:
        run(lab, 8)
        waiting = [
            end
            for end in ("0121", "7734", "0945", "7216", "8850", "8618")
            if explain_chip(lab.world, end).next_reply
        ]
        with sqlite_store.read() as tx:
            due = tx.connection.exec_driver_sql(
                "SELECT count(*) FROM conversations WHERE state = 'open' AND next_due_at IS NOT NULL"
            ).scalar_one()
    assert 0 < len(waiting) <= due


def test_the_list_has_every_chip_with_its_day_trust_and_connection(store: Store) -> None:
    with open_demo(store) as lab:
        run(lab, 1)
        lines = {line.chip.last4: line for line in list_chips(lab.world)}
        assert list_chips(lab.world, "default") == list_chips(lab.world)
        with pytest.raises(PoolNotFound):
            list_chips(lab.world, "nowhere")
    assert len(lines) == 10
    assert lines["8618"].warming_day == 94
    assert lines["8618"].connection is not None
    assert lines["8618"].connection.recovered_at == demo.STARTS_AT
    assert lines["5523"].warming_day is None
    assert all(line.trust is not None for line in lines.values())


def test_a_chip_nobody_knows_is_refused(sqlite_store: Store) -> None:
    with open_demo(sqlite_store) as lab, pytest.raises(OperatorError, match="there is no chip '9999'"):
        explain_chip(lab.world, "9999")


def test_a_hold_stands_on_the_chip_with_its_reason_and_end_and_so_does_a_degraded_chips_return(
    store: Store,
) -> None:
    with open_demo(store) as lab:
        run(lab, 1)
        braked, degraded = id_of(lab, "0121"), id_of(lab, "7734")
        now = demo.STARTS_AT + timedelta(minutes=5)
        with store.write() as tx:
            chips.add_brake_signals(
                tx, [(braked, "restriction", now - timedelta(days=1)), (braked, "circuit_opened", now)]
            )
            change = {
                "id": degraded,
                "status": "degraded",
                "status_reason": "errors_24h",
                "last_error_at": now,
            }
            chips.change(tx, [change])
        run(lab, 1)
        found, other = explain_chip(lab.world, "0121").hold, explain_chip(lab.world, "7734").hold
        rows = rows_of(
            store,
            "SELECT DISTINCT chip_id, held_reason FROM phase_eligibility WHERE held_until IS NOT NULL",
        )
    assert found == Hold("restriction, circuit_opened", now + timedelta(days=3))
    assert other == Hold("degraded: errors_24h", now + timedelta(hours=24))
    held = {row["chip_id"]: row["held_reason"] for row in rows}
    assert held[braked] == "restriction, circuit_opened"
    assert held[degraded] == "degraded: errors_24h"
    assert id_of(lab, "0945") not in held
