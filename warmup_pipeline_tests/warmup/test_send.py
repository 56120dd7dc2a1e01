"""The traps: a failure that is swallowed, counted wrongly, or sent again."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from typing import Any

import httpx
import pytest

from warmup_pipeline.domain.values import CONVERSA_PAR, ENVIAR_MIDIA, MARCAR_LIDO, Phase, Provider
from warmup_pipeline.store import messages
from warmup_pipeline.store.engine import Store
from warmup_pipeline.warmup import (
    claim,
    connections,
    lifecycle,
    noting,
    operating,
    pair,
    plan,
    send,
    validate,
)
from warmup_pipeline_tests.support import Lab, chip_row, due_openings, open_lab, rows_of, run_sql


@pytest.fixture
def lab(store: Store) -> Iterator[Lab]:
    """Two chips that know each other, on both databases."""
    with open_lab(store) as opened:
        opened.add([chip_row(1, ddd=11), chip_row(2, ddd=11)])
        opened.cycle()
        yield opened


def fault(lab: Lab, **rule: Any) -> None:
    rules = [{"match": {"route": "any-send"}} | rule] if rule else []
    answer = httpx.post(f"{lab.base_url}/_sim/faults", json={"rules": rules}, trust_env=False)
    assert answer.status_code < 300, answer.text


def seen_by_the_gateway(lab: Lab) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = httpx.get(f"{lab.base_url}/_sim/messages", trust_env=False).json()[
        "messages"
    ]
    return found


def one_opening(lab: Lab, kind: str = CONVERSA_PAR) -> dict[str, Any]:
    """Run a cycle in which chip 1 has one opening due; returns the message's row."""
    due_openings(lab, [chip_row(1)["id"]], kind=kind)
    lab.cycle()
    (message,) = rows_of(lab.store, "SELECT * FROM messages")
    return message


CASES = [
    ({"kind": "status", "code": 500}, "failed", "transient", 0),
    ({"kind": "status", "code": 503}, "failed", "transient", 5),
    ({"kind": "status", "code": 400}, "failed", "permanent", 15),
    ({"kind": "status", "code": 403}, "failed", "permanent", 60),
    ({"kind": "status", "code": 429, "retry_after": 600}, "failed", "rate_limited", 10),
    ({"kind": "status", "body": "restriction"}, "failed", "restriction", 24 * 60),
    ({"kind": "status", "body": "not_on_whatsapp"}, "failed", "recipient", 0),
    ({"kind": "status", "body": "connection_closed_500_string"}, "failed", "disconnected", 0),
    ({"kind": "status", "body": "connection_closed_400_array"}, "failed", "disconnected", 0),
    ({"kind": "status", "body": "connection_closed_500_array"}, "failed", "disconnected", 0),
    ({"kind": "reset_after"}, "unknown", "unknown", 0),
    ({"kind": "malformed_json"}, "unknown", "unknown", 0),
]


@pytest.mark.parametrize(("rule", "state", "failure", "minutes"), CASES)
def test_each_failure_has_its_class_its_rest_and_its_traceback(
    lab: Lab, rule: dict[str, Any], state: str, failure: str, minutes: int
) -> None:
    fault(lab, **rule)
    at = lab.now
    message = one_opening(lab)
    assert (message["state"], message["failure_class"]) == (state, failure)
    assert "Traceback (most recent call last)" in message["traceback"]
    assert any(message["traceback"] in entry for entry in lab.log.failures), "the log has it as well"
    (chip,) = rows_of(lab.store, f"SELECT cooldown_until FROM chips WHERE id = '{chip_row(1)['id']}'")
    if minutes:
        assert (
            str((at + timedelta(minutes=minutes)).replace(tzinfo=None))[:16]
            == str(chip["cooldown_until"])[:16]
        )
    else:
        assert chip["cooldown_until"] is None
    (activity,) = rows_of(lab.store, "SELECT state FROM activities WHERE conversation_id IS NOT NULL")
    assert activity["state"] == state
    (conversation,) = rows_of(lab.store, "SELECT state, reason FROM conversations")
    assert conversation["state"] == ("opening" if state == "unknown" else "closed")


def turns_seen(lab: Lab) -> list[tuple[str, int]]:
    """Return (conversation, turn) of everything the gateway accepted, in order."""
    return [(m["trace"]["conversation"], m["trace"]["turn"]) for m in seen_by_the_gateway(lab)]


def test_what_may_have_gone_is_looked_up_where_that_is_possible_and_never_sent_again(lab: Lab) -> None:
    fault(lab, kind="reset_after", times=1)
    message = one_opening(lab)
    assert message["state"] == "unknown"
    lab.cycles(12)
    seen = turns_seen(lab)
    assert seen[0] == (message["conversation_id"], 1)
    assert len(set(seen)) == len(seen)
    # Both chips are on Evolution, which lists what it was given: the turn is found, and answered.
    (first,) = rows_of(
        lab.store, f"SELECT state, failure_class, failure_text FROM messages WHERE id = '{message['id']}'"
    )
    assert first["state"] in ("delivered", "read")
    assert first["failure_class"] is None
    assert "its outcome was unknown" in first["failure_text"]
    assert (message["conversation_id"], 2) in seen


def test_what_may_have_gone_stays_unknown_where_nobody_can_be_asked_and_is_never_sent_again(
    store: Store,
) -> None:
    with open_lab(store) as lab:
        lab.add([chip_row(n, ddd=11, provider=Provider.Z_API) for n in (1, 2)])
        lab.cycle()
        fault(lab, kind="reset_after", times=1)
        message = one_opening(lab)
        lab.cycles(12)
        seen = [turn for turn in turns_seen(lab) if turn[0] == message["conversation_id"]]
        assert seen == [(message["conversation_id"], 1)]
        (row,) = rows_of(lab.store, f"SELECT state FROM messages WHERE id = '{message['id']}'")
        assert row["state"] == "unknown"


def test_receipts_of_several_messages_are_noted_at_once(lab: Lab) -> None:
    lab.add([chip_row(3, ddd=11), chip_row(4, ddd=11)])
    lab.cycle()
    due_openings(lab, [chip_row(n)["id"] for n in (1, 2, 3, 4)])
    lab.cycles(2)
    states = [row["state"] for row in rows_of(lab.store, "SELECT state FROM messages WHERE turn = 1")]
    assert states == ["delivered", "delivered"]


def test_three_failures_open_the_breaker_and_one_probe_closes_it(lab: Lab) -> None:
    fault(lab, kind="status", code=500, times=3)
    chip_id = chip_row(1)["id"]
    for _ in range(3):
        due_openings(lab, [chip_id])
        lab.cycle()
    (circuit,) = rows_of(lab.store, "SELECT state FROM circuits")
    assert circuit["state"] == "open"
    assert [row["kind"] for row in rows_of(lab.store, "SELECT kind FROM brake_signals")] == ["circuit_opened"]
    due_openings(lab, [chip_id])
    lab.cycle()
    (circuit,) = rows_of(lab.store, "SELECT state FROM circuits")
    assert circuit["state"] == "closed"


def test_a_gateway_that_refuses_our_key_is_no_chips_fault(lab: Lab) -> None:
    fault(lab, kind="status", body="unauthorized")
    message = one_opening(lab)
    assert message["failure_class"] == "gateway"
    assert rows_of(lab.store, "SELECT * FROM circuits") == []
    (metrics,) = rows_of(
        lab.store, f"SELECT errors_24h FROM chip_metrics WHERE chip_id = '{chip_row(1)['id']}'"
    )
    assert metrics["errors_24h"] == 0


def test_a_kill_switch_set_between_validation_and_sending_stops_the_send(lab: Lab) -> None:
    due_openings(lab, [chip_row(1)["id"]])
    cycle = lab.begin()
    for step in (
        connections.refresh_connections,
        plan.plan_day,
        claim.claim_due,
        pair.pair_chips,
        validate.validate_sends,
    ):
        step(lab.world, cycle)
    operating.set_kill_switch(lab.world, scope="all", reason="stop", author="test")
    report = send.send_messages(lab.world, cycle)
    assert report.numbers["withdrawn_by_reason"] == {"kill_switch": 1}
    assert seen_by_the_gateway(lab) == []
    assert rows_of(lab.store, "SELECT * FROM messages") == []
    assert rows_of(lab.store, "SELECT state FROM activities WHERE state = 'claimed'") == []


def test_a_cycle_near_its_end_sends_nothing_and_puts_off_what_was_due(lab: Lab) -> None:
    due_openings(lab, [chip_row(1)["id"]])
    cycle = lab.begin()
    for step in (
        connections.refresh_connections,
        plan.plan_day,
        claim.claim_due,
        pair.pair_chips,
        validate.validate_sends,
    ):
        step(lab.world, cycle)
    lab.move_to(lab.now + lifecycle.LEASE - timedelta(seconds=5))
    report = send.send_messages(lab.world, cycle)
    assert report.numbers["withdrawn_by_reason"] == {"cycle_out_of_time": 1}
    assert seen_by_the_gateway(lab) == []


def test_a_cycle_killed_while_sending_leaves_nothing_stuck_and_the_turn_goes_once(lab: Lab) -> None:
    due_openings(lab, [chip_row(1)["id"]])
    cycle = lab.begin()
    for step in (
        connections.refresh_connections,
        plan.plan_day,
        claim.claim_due,
        pair.pair_chips,
        validate.validate_sends,
        send.send_messages,
    ):
        step(lab.world, cycle)
    # As if the process had ended between the gateway's answer and our note of it.
    run_sql(lab.store, "UPDATE messages SET state = 'sending', gateway_message_id = NULL")
    run_sql(lab.store, "UPDATE activities SET state = 'claimed', reason = NULL WHERE state = 'executed'")
    run_sql(
        lab.store,
        "UPDATE conversations SET state = 'opening', next_due_at = NULL, turns_accepted = 0, "
        "last_accepted_at = NULL, opened_at = NULL, opened_day = NULL",
    )
    lab.move_to(lab.now + timedelta(minutes=5))
    lab.cycle()
    # The reconciler made it unknown; the same cycle asked both ends and found it.
    (message,) = rows_of(lab.store, "SELECT state, failure_class FROM messages WHERE turn = 1")
    assert message == {"state": "delivered", "failure_class": None}
    assert rows_of(lab.store, "SELECT state FROM activities WHERE state = 'claimed'") == []
    (dead,) = rows_of(lab.store, "SELECT state FROM cycles WHERE state = 'failed'")
    assert dead
    lab.cycles(12)
    seen = turns_seen(lab)
    assert len(set(seen)) == len(seen)
    assert [turn for _, turn in seen][:2] == [1, 2]


def test_an_interrupted_reply_is_not_due_again_until_the_truth_is_known(store: Store) -> None:
    """It stayed due, and every later cycle failed on the turn's own key."""
    with open_lab(store) as lab:
        lab.add([chip_row(n, ddd=11, provider=Provider.Z_API) for n in (1, 2)])
        lab.cycle()
        conversation = one_opening(lab)["conversation_id"]
        while len(turns_seen(lab)) < 2:
            (before,) = rows_of(lab.store, f"SELECT * FROM conversations WHERE id = '{conversation}'")
            lab.cycle()
        # As if the process had ended between the gateway's answer to the reply and our note of it.
        (sent,) = rows_of(lab.store, "SELECT cycle_id FROM messages WHERE turn = 2")
        run_sql(lab.store, "UPDATE messages SET state = 'sending', gateway_message_id = NULL WHERE turn = 2")
        run_sql(
            lab.store,
            "UPDATE conversations SET turns_accepted = 1, state = 'open', reason = NULL, closed_at = NULL, "
            f"next_due_at = '{before['next_due_at']}', claimed_cycle_id = '{sent['cycle_id']}' "
            f"WHERE id = '{conversation}'",
        )
        run_sql(lab.store, f"UPDATE cycles SET state = 'running' WHERE id = '{sent['cycle_id']}'")
        lab.cycles(6)
        assert [turn for turn in turns_seen(lab) if turn[0] == conversation] == [
            (conversation, 1),
            (conversation, 2),
        ]
        (message,) = rows_of(lab.store, "SELECT state FROM messages WHERE turn = 2")
        assert message["state"] == "unknown"
        (waiting,) = rows_of(
            lab.store, f"SELECT next_due_at, claimed_cycle_id FROM conversations WHERE id = '{conversation}'"
        )
        assert waiting == {"next_due_at": None, "claimed_cycle_id": None}


@pytest.mark.parametrize("provider", [Provider.EVOLUTION, Provider.Z_API])
def test_media_is_really_sent_as_media_and_what_was_received_is_marked_read(
    sqlite_store: Store, provider: Provider
) -> None:
    with open_lab(sqlite_store) as lab:
        lab.add([chip_row(n, ddd=11, phase=Phase.EXPANSAO, provider=provider) for n in (1, 2)])
        lab.cycle()
        message = one_opening(lab, ENVIAR_MIDIA)
        assert message["state"] in ("accepted", "delivered")
        assert message["kind"] in ("picture", "audio")
        (at_gateway,) = seen_by_the_gateway(lab)
        assert at_gateway["kind"] == message["kind"]
        due_openings(lab, [chip_row(2)["id"]], kind=MARCAR_LIDO)
        lab.cycle()
        states = rows_of(
            lab.store, f"SELECT state FROM activities WHERE type = '{MARCAR_LIDO}' AND state = 'executed'"
        )
        assert len(states) == 1
        (marked,) = rows_of(lab.store, "SELECT marked_read_at FROM messages WHERE turn = 1")
        assert marked["marked_read_at"] is not None


@pytest.mark.parametrize(("days", "is_marked"), [(6, True), (8, False)])
def test_what_came_more_than_a_week_ago_is_left_unread(
    sqlite_store: Store, days: int, *, is_marked: bool
) -> None:
    with open_lab(sqlite_store) as lab:
        lab.add([chip_row(n, ddd=11, phase=Phase.EXPANSAO) for n in (1, 2)])
        lab.cycle()
        one_opening(lab, CONVERSA_PAR)
        lab.cycle()
        lab.move_to(lab.now + timedelta(days=days))
        with lab.store.write() as tx:
            found = messages.unread(tx, lab.pool, [chip_row(2)["id"]], at=lab.now, per_chip=5)
        assert bool(found) is is_marked


def test_nothing_unread_is_its_own_final_state(lab: Lab) -> None:
    due_openings(lab, [chip_row(2)["id"]], kind=MARCAR_LIDO)
    lab.cycle()
    (activity,) = rows_of(lab.store, "SELECT state, reason FROM activities WHERE state = 'nothing_to_do'")
    assert activity["reason"] == "nothing_unread"


def test_a_chip_that_comes_back_has_its_breaker_closed(lab: Lab) -> None:
    chip_id = chip_row(1)["id"]
    run_sql(
        lab.store,
        f"INSERT INTO circuits (chip_id, state, consecutive_failures, opened_at) "
        f"VALUES ('{chip_id}', 'open', 3, '2026-03-02 11:00:00.000000')",
    )
    run_sql(lab.store, f"UPDATE chip_connections SET state = 'closed' WHERE chip_id = '{chip_id}'")
    lab.cycle()
    (circuit,) = rows_of(lab.store, "SELECT state FROM circuits")
    assert circuit["state"] == "closed"
    (one,) = rows_of(
        lab.store, f"SELECT state, recovered_at FROM chip_connections WHERE chip_id = '{chip_id}'"
    )
    assert one["state"] == "open"
    assert one["recovered_at"] is not None


def test_a_cycle_refuses_to_begin_while_another_holds_the_pool(lab: Lab) -> None:
    lab.begin(run="one")
    lab.move_to(lab.now + timedelta(minutes=1))
    with pytest.raises(lifecycle.CycleRefused, match="still holds pool"):
        lab.begin(run="two")
    again = lab.begin(run="one")
    assert again.root_run_id == "one"
    lab.world = replace(lab.world, now=lambda: lab.clock[0] + lifecycle.LEASE)
    lab.move_to(lab.now + timedelta(minutes=5))
    lab.begin(run="two")
    assert [
        row["state"] for row in rows_of(lab.store, "SELECT state FROM cycles WHERE root_run_id = 'one'")
    ] == ["failed"]


def test_the_next_batch_begins_while_a_slow_call_is_out_and_none_is_left_behind_when_one_breaks() -> None:
    async def work() -> tuple[list[str], list[BaseException]]:
        calls, answered = send._UnderWay(), asyncio.Event()
        said: list[str] = []

        async def slow() -> None:
            await answered.wait()
            said.append("slow")

        async def quick(name: str) -> None:
            said.append(name)

        async def broken() -> None:
            raise KeyError("a bug")

        calls.begin(slow())
        for _ in range(send.NEXT_BATCH_AT + 20):
            calls.begin(quick("first batch"))
        await calls.until_few()
        assert not answered.is_set()
        calls.begin(broken())
        calls.begin(quick("second batch"))
        asyncio.get_running_loop().call_soon(answered.set)
        problems = await calls.ended()
        return said, problems

    said, problems = asyncio.run(work())
    assert said.count("first batch") == send.NEXT_BATCH_AT + 20
    assert {"slow", "second batch"} <= set(said)
    assert [type(problem) for problem in problems] == [KeyError]


def test_a_marking_that_was_never_begun_is_due_again_and_no_failure(lab: Lab) -> None:
    one_opening(lab)
    lab.cycle()
    due_openings(lab, [chip_row(2)["id"]], kind=MARCAR_LIDO)
    cycle = lab.begin()
    for step in (
        connections.refresh_connections,
        plan.plan_day,
        claim.claim_due,
        pair.pair_chips,
        validate.validate_sends,
    ):
        step(lab.world, cycle)
    keyless = replace(lab.world, gateways=replace(lab.world.gateways, evolution_key=None))
    report = send.send_messages(keyless, cycle)
    assert report.numbers["withdrawn_by_reason"] == {"gateway_down": 1}
    (marking,) = rows_of(
        lab.store,
        f"SELECT state, last_deferral FROM activities WHERE type = '{MARCAR_LIDO}' AND last_deferral IS NOT NULL",
    )
    assert marking == {"state": "planned", "last_deferral": "gateway_down"}


def test_a_conversation_whose_dialogue_the_operator_has_removed_ends_and_fails_nothing(lab: Lab) -> None:
    message = one_opening(lab)
    library = lab.world.library
    gone = rows_of(lab.store, "SELECT dialogue_id FROM conversations")[0]["dialogue_id"]
    left = tuple(one for one in library.dialogues if one.id != gone)
    lab.with_library(replace(library, dialogues=left))
    lab.cycles(6)
    (conversation,) = rows_of(
        lab.store, f"SELECT state, reason FROM conversations WHERE id = '{message['conversation_id']}'"
    )
    assert conversation == {"state": "closed", "reason": "dialogue_gone"}


def test_a_chip_that_holds_a_reply_and_an_opening_sends_one_of_them(lab: Lab) -> None:
    message = one_opening(lab)
    conversation = message["conversation_id"]
    run_sql(lab.store, f"UPDATE conversations SET next_due_at = NULL WHERE id = '{conversation}'")
    lab.add([chip_row(3, ddd=11)])
    lab.cycle()
    due_openings(lab, [chip_row(2)["id"]])
    cycle = lab.begin()
    for step in (connections.refresh_connections, plan.plan_day, claim.claim_due, pair.pair_chips):
        step(lab.world, cycle)
    # As a cycle executed again finds it: the answer of chip 2 has become due while it holds an opening.
    run_sql(
        lab.store,
        f"UPDATE conversations SET claimed_cycle_id = '{cycle.id}', next_due_at = '2026-03-02 13:00:00.000000' "
        f"WHERE id = '{conversation}'",
    )
    validate.validate_sends(lab.world, cycle)
    send.send_messages(lab.world, cycle)
    sent = rows_of(
        lab.store,
        "SELECT id FROM messages WHERE cycle_id = :cycle AND sender_chip_id = :chip",
        cycle=cycle.id,
        chip=chip_row(2)["id"],
    )
    assert len(sent) == 1
    reasons = rows_of(
        lab.store, "SELECT reason FROM presend_validations WHERE cycle_id = :cycle", cycle=cycle.id
    )
    assert {"reason": "sends_already"} in reasons


def test_the_kill_switch_is_asked_every_second_and_stops_what_has_not_begun(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(noting, "NOTE_EVERY_S", 0.01)
    lab.add([chip_row(n, ddd=11) for n in range(3, 31)])
    lab.cycle()
    due_openings(lab, [chip_row(n)["id"] for n in range(1, 31)])
    cycle = lab.begin()
    for step in (
        connections.refresh_connections,
        plan.plan_day,
        claim.claim_due,
        pair.pair_chips,
        validate.validate_sends,
    ):
        step(lab.world, cycle)
    begun = []
    real = send._Sender._send_one

    async def switching_off(self: Any, *arguments: Any) -> None:
        begun.append(1)
        if len(begun) == 1:
            operating.set_kill_switch(lab.world, scope="all", author="test", reason="stop")
        # Every other call is about to begin when the switch is looked at again.
        await asyncio.sleep(0.05)
        await real(self, *arguments)

    monkeypatch.setattr(send._Sender, "_send_one", switching_off)
    report = send.send_messages(lab.world, cycle)
    assert len(begun) == 15
    assert report.numbers["sent"] == 0
    assert report.numbers["withdrawn_by_reason"] == {"kill_switch": 15}
