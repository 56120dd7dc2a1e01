"""The traps: what a gateway says later, or says wrongly, must not loosen a limit or hide a dead session."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import httpx
import pytest

from warmup_pipeline.domain.values import CONVERSA_PAR, ENVIAR_MIDIA, MessageState, Phase
from warmup_pipeline.store import audit
from warmup_pipeline.store.engine import Store
from warmup_pipeline.warmup import approved, claim, connections, gateway_step, pair, plan, send, validate
from warmup_pipeline.warmup.checks import CHECKS
from warmup_pipeline.warmup.confirm import Receipt, apply_receipts
from warmup_pipeline_tests.support import Lab, chip_row, due_openings, open_lab, rows_of

JUDGES = {spec.name: spec.judge for spec in CHECKS}


@pytest.fixture
def lab(store: Store) -> Iterator[Lab]:
    """Two chips in setup that know each other, on both databases."""
    with open_lab(store) as opened:
        opened.add([chip_row(n, ddd=11, phase=Phase.SETUP, days=2) for n in (1, 2)])
        opened.cycle()
        yield opened


def fault(lab: Lab, **rule: Any) -> None:
    answer = httpx.post(
        f"{lab.base_url}/_sim/faults",
        json={"rules": [{"match": {"route": "any-send"}} | rule] if rule else []},
        trust_env=False,
    )
    assert answer.status_code < 300, answer.text


def test_a_send_that_failed_late_keeps_its_place_in_the_limits(lab: Lab) -> None:
    chip_id = chip_row(1)["id"]
    due_openings(lab, [chip_id])
    lab.cycle()
    (message,) = rows_of(lab.store, "SELECT * FROM messages")
    assert message["state"] == "accepted"
    with lab.store.write() as tx:
        tx.lock_pool("default")
        apply_receipts(tx, lab.world, [Receipt(message["id"], MessageState.FAILED, "gone")], at=lab.now)
    (after,) = rows_of(lab.store, "SELECT * FROM messages")
    assert after["state"] == "failed"
    lab.cycle()
    (used,) = rows_of(
        lab.store,
        "SELECT max(sent_in_hour) AS hour FROM presend_validations WHERE sender_chip_id = :chip AND at < :now",
        chip=chip_id,
        now=lab.now,
    )
    due_openings(lab, [chip_id])
    lab.cycle()
    newest = rows_of(
        lab.store,
        "SELECT sent_in_hour FROM presend_validations WHERE sender_chip_id = :chip ORDER BY at DESC LIMIT 1",
        chip=chip_id,
    )
    assert used["hour"] == 0
    assert newest == [{"sent_in_hour": 1}]


def test_what_was_written_down_but_never_attempted_is_no_failure_of_the_success_rate(lab: Lab) -> None:
    lab.add([chip_row(n, ddd=11, phase=Phase.EXPANSAO, days=9) for n in (3, 4, 5)])
    # What was accepted proves that the gateway's list shows what is sent.
    due_openings(lab, [chip_row(3)["id"]])
    lab.cycle()
    due_openings(lab, [chip_row(3)["id"]])
    cycle = lab.begin(run="killed")
    for step in (
        connections.refresh_connections,
        plan.plan_day,
        claim.claim_due,
        pair.pair_chips,
        validate.validate_sends,
    ):
        step(lab.world, cycle)
    sender = send._Sender(lab.world, cycle, approved.load_approved(lab.world, cycle), approved.Tally())

    async def write_down_and_die() -> None:
        async with gateway_step.open_hub(lab.world, cycle) as hub:
            ready, broken = sender._compose(list(sender._approved.sends))
            assert not broken
            sender._write_down(hub, ready)

    gateway_step.run_in_loop(lab.world, write_down_and_die())
    lab.move_to(lab.now + timedelta(minutes=10))
    for _ in range(4):
        lab.cycle()
    never_begun = rows_of(
        lab.store, "SELECT state, failure_class FROM messages WHERE cycle_id = :cycle", cycle=cycle.id
    )
    assert never_begun == [{"state": "failed", "failure_class": "bug"}]
    with lab.store.read() as tx:
        today, _ = audit.attempts(
            tx, day={"default": cycle.day}, since={"default": lab.now - timedelta(days=1)}
        )
    assert today[0] > 0
    assert today[1] == 0


def test_a_session_that_says_open_and_refuses_every_send_trips_its_breaker_and_is_restarted(lab: Lab) -> None:
    fault(lab, kind="status", body="connection_closed_500_string")
    seen = []
    for _ in range(6):
        due_openings(lab, [chip_row(1)["id"]])
        reports = lab.cycle()
        lab.move_to(lab.now + timedelta(minutes=35))
        seen.append(reports["refresh_connections"].numbers)
    breakers = rows_of(lab.store, "SELECT kind FROM brake_signals")
    assert {"kind": "circuit_opened"} in breakers
    (row,) = rows_of(
        lab.store,
        "SELECT last_recovery_action FROM chip_connections WHERE chip_id = :chip",
        chip=chip_row(1)["id"],
    )
    assert row["last_recovery_action"] == "restart_zombie"
    # Until the breaker opened nobody had seen it away, so nobody claims to have seen it back.
    assert [numbers["recovered"] for numbers in seen[:3]] == [0, 0, 0]


@pytest.mark.parametrize(("text", "media"), [(1, 2), (2, 1)])
def test_a_chip_that_is_to_send_a_picture_opens_itself(sqlite_store: Store, text: int, media: int) -> None:
    with open_lab(sqlite_store) as lab:
        lab.add([chip_row(n, ddd=11, phase=Phase.EXPANSAO, days=9) for n in (1, 2)])
        lab.cycle()
        due_openings(lab, [chip_row(text)["id"]], kind=CONVERSA_PAR)
        due_openings(lab, [chip_row(media)["id"]], kind=ENVIAR_MIDIA)
        lab.cycle()
        (message,) = rows_of(lab.store, "SELECT sender_chip_id, kind FROM messages")
    assert message["sender_chip_id"] == chip_row(media)["id"]
    assert message["kind"] != "text"


def test_no_gateway_accepting_anything_for_20_minutes_is_told_though_sends_were_tried(lab: Lab) -> None:
    fault(lab, kind="status", code=500)
    lab.move_to(lab.now + timedelta(minutes=25))
    due_openings(lab, [chip_row(1)["id"]])
    lab.cycle()
    verdict = JUDGES["cycle_is_on_time"](lab.world)
    assert (verdict.passed, verdict.severity.value) == (False, "warn")
    assert "no gateway accepted" in verdict.summary
