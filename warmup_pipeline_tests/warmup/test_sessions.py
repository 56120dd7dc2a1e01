"""What an operator does about sessions, against the simulator; and the queue that must not flood."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from warmup_pipeline.domain.values import Phase, Provider
from warmup_pipeline.gateways.simulator import SimulatedInstance
from warmup_pipeline.store.engine import Store
from warmup_pipeline.warmup.operating import OperatorError
from warmup_pipeline.warmup.sessions import pairing_of, point_webhooks, reconnect_chips
from warmup_pipeline.warmup.standing import explain_chip
from warmup_pipeline_tests.serve.ear import SECRET, listening
from warmup_pipeline_tests.support import Lab, chip_row, due_openings, open_lab, rows_of, token_of

ONE, TWO, THREE = chip_row(1, ddd=11), chip_row(2, provider=Provider.Z_API, ddd=11), chip_row(3, ddd=11)


@pytest.fixture
def lab(sqlite_store: Store) -> Iterator[Lab]:
    with open_lab(sqlite_store) as opened:
        opened.add([ONE, TWO, THREE])
        yield opened


def declare(lab: Lab, row: dict[str, Any], **options: Any) -> None:
    lab.core.declare(
        [
            SimulatedInstance(
                provider=row["provider"],
                name=row["instance"],
                phone=row["phone"],
                token=token_of(row),
                **options,
            )
        ],
        overwrite=True,
    )


def state(lab: Lab, row: dict[str, Any]) -> str:
    lab.core.state.begin()
    instance = lab.core.state.instance(row["provider"].value, row["instance"])
    lab.core.state.commit()
    assert instance is not None
    return instance.state


@pytest.mark.parametrize(("row", "action"), [(ONE, "connect"), (TWO, "restart")], ids=["evolution", "z-api"])
def test_a_session_that_kept_its_pairing_is_brought_back_by_what_suits_it(
    lab: Lab, row: dict[str, Any], action: str
) -> None:
    declare(lab, row, state="close")
    lab.cycle()
    declare(lab, row, state="close")
    (done,) = reconnect_chips(lab.world, [row["id"]], author="ana", reason="it was down")
    assert (done.before, done.action, done.needs_person) == ("closed", action, None)
    lab.move_to(lab.now + timedelta(minutes=1))
    assert reconnect_chips(lab.world, [row["id"]], author="ana")[0].action == "none"
    assert state(lab, row) == "open"
    kept = rows_of(lab.store, "SELECT author, target, reason FROM operator_actions ORDER BY id")
    assert kept[0] == {"author": "ana", "target": row["id"], "reason": "it was down"}
    history = rows_of(
        lab.store, "SELECT source, detail FROM connection_history WHERE chip_id = :c ORDER BY id", c=row["id"]
    )
    assert history[-1]["source"] == "recovery"
    assert f"{action} by ana" in history[-1]["detail"]
    shown = explain_chip(lab.world, row["id"]).history
    assert [step.source for step in shown][:1] == ["recovery"]
    assert {step.state.value for step in shown} >= {"closed"} or row is TWO


@pytest.mark.parametrize("row", [ONE, TWO], ids=["evolution", "z-api"])
def test_a_session_that_lost_its_pairing_says_what_a_person_must_do(lab: Lab, row: dict[str, Any]) -> None:
    declare(lab, row, state="close", has_session=False, needs_qr=True)
    (done,) = reconnect_chips(lab.world, [row["last4"]], author="ana")
    assert done.after != "open"
    assert "QR code" in (done.needs_person or "")


def test_reconnecting_one_chip_that_cannot_be_asked_does_not_stop_the_other(lab: Lab) -> None:
    nobody = chip_row(7)
    lab.add([nobody])
    lab.core.state.begin()
    gone = lab.core.state.instance("evolution", nobody["instance"])
    assert gone is not None
    gone.deleted = 1
    lab.core.state.save_instance(gone)
    lab.core.state.commit()
    declare(lab, TWO, state="close")
    first, second = reconnect_chips(lab.world, [nobody["id"], TWO["id"]], author="ana")
    assert "does not exist" in first.detail
    assert "create the instance" in (first.needs_person or "")
    assert second.after == "open"


@pytest.mark.parametrize("row", [ONE, TWO], ids=["evolution", "z-api"])
def test_the_qr_code_is_a_png_with_its_expiry_and_the_pairing_code_a_text(
    lab: Lab, row: dict[str, Any]
) -> None:
    declare(lab, row, state="close", has_session=False, needs_qr=True)
    shown = pairing_of(lab.world, row["id"], author="ana")
    assert (shown.pairing.picture or b"").startswith(b"\x89PNG\r\n\x1a\n")
    assert shown.until == lab.now + timedelta(seconds=45 if row is ONE else 20)
    code = pairing_of(lab.world, row["id"], by_code=True, author="ana").pairing.code
    assert code
    # The code is a way in: it stands nowhere.
    assert code not in str(rows_of(lab.store, "SELECT * FROM operator_actions"))


@pytest.mark.parametrize("row", [ONE, TWO], ids=["evolution", "z-api"])
def test_a_connected_session_has_no_qr_code(lab: Lab, row: dict[str, Any]) -> None:
    assert pairing_of(lab.world, row["id"], author="ana").pairing.connected


def test_a_gateway_that_gives_no_code_is_one_clear_line(lab: Lab) -> None:
    lab.core.state.begin()
    gone = lab.core.state.instance("evolution", ONE["instance"])
    assert gone is not None
    gone.deleted = 1
    lab.core.state.save_instance(gone)
    lab.core.state.commit()
    with pytest.raises(OperatorError, match="create the instance"):
        pairing_of(lab.world, ONE["id"], author="ana")


def test_a_chip_in_whose_place_another_number_is_logged_in_is_stopped_and_named(lab: Lab) -> None:
    lab.cycle()
    other = chip_row(77)
    with_other = {**ONE, "phone": other["phone"]}
    declare(lab, with_other, state="open")
    due_openings(lab, [row["id"] for row in (ONE, TWO, THREE)])
    # The number is asked for when a session opens: here a webhook says that it has.
    lab.cycle()
    lab.move_to(lab.now + timedelta(days=1))
    lab.cycle()
    (row,) = rows_of(lab.store, "SELECT * FROM chip_connections WHERE chip_id = :c", c=ONE["id"])
    assert row["state"] == "closed"
    assert f"…{other['last4']}" in row["needs_person"]
    assert other["phone"] not in str(row)


def test_a_number_that_changed_within_a_cycle_is_noticed_by_the_webhook_that_told_of_it(
    lab: Lab, tmp_path: Path
) -> None:
    with listening(lab.world, tmp_path) as ear:
        lab.cycle()
        other = chip_row(77)
        declare(lab, {**ONE, "phone": other["phone"]}, state="open")
        lab.cycle()
        (row,) = rows_of(lab.store, "SELECT state FROM chip_connections WHERE chip_id = :c", c=ONE["id"])
        assert row["state"] == "open", "it is asked for once a day only, unless somebody tells"
        body = {
            "event": "connection.update",
            "instance": ONE["instance"],
            "data": {"instance": ONE["instance"], "state": "open", "statusReason": 200},
        }
        assert ear.post(Provider.EVOLUTION, ONE["instance"], body).status_code == 200
        lab.cycle()
    (row,) = rows_of(lab.store, "SELECT * FROM chip_connections WHERE chip_id = :c", c=ONE["id"])
    assert row["state"] == "closed"
    assert "another number is logged in" in row["detail"]


def test_a_final_disconnection_that_a_webhook_tells_names_what_a_person_must_do(
    lab: Lab, tmp_path: Path
) -> None:
    with listening(lab.world, tmp_path) as ear:
        lab.cycle()
        declare(lab, ONE, state="close", has_session=False, needs_qr=True)
        body = {
            "event": "connection.update",
            "instance": ONE["instance"],
            "data": {"instance": ONE["instance"], "state": "close", "statusReason": 403},
        }
        assert ear.post(Provider.EVOLUTION, ONE["instance"], body).status_code == 200
        lab.cycle()
    history = rows_of(
        lab.store,
        "SELECT source, state, detail FROM connection_history WHERE chip_id = :c ORDER BY id",
        c=ONE["id"],
    )
    assert ("webhook", "closed") in {(row["source"], row["state"]) for row in history}
    assert any("(403)" in row["detail"] for row in history)
    assert rows_of(lab.store, "SELECT * FROM webhook_inbox") == []


def test_webhooks_are_set_at_both_gateways_and_one_failure_stops_no_other(lab: Lab) -> None:
    done = point_webhooks(
        lab.world, [ONE["id"], TWO["id"]], base_url="http://127.0.0.1:1/", secret=SECRET, author="ana"
    )
    assert [problem for _, problem in done] == [None, None]
    # Z-API takes https only, but for a listener on this machine (the simulator's own licence).
    done = point_webhooks(
        lab.world, [ONE["id"], TWO["id"]], base_url="http://warmup.example.com", secret=SECRET, author="ana"
    )
    assert done[0][1] is None
    assert "https" in (done[1][1] or "")
    assert SECRET not in str(rows_of(lab.store, "SELECT * FROM operator_actions"))


def test_a_chip_that_was_offline_with_a_filled_queue_does_not_flood_when_it_returns(
    sqlite_store: Store,
) -> None:
    """Z-API keeps what it takes for an offline phone and fires all of it when the phone is back."""
    with open_lab(sqlite_store) as lab:
        rows = [
            chip_row(
                n,
                ddd=11,
                phase=Phase.EXPANSAO,
                days=9,
                provider=Provider.Z_API if n == 1 else Provider.EVOLUTION,
            )
            for n in range(1, 7)
        ]
        lab.add(rows)
        offline, ids = rows[0], [row["id"] for row in rows]
        lab.cycle()
        declare(lab, offline, state="close")
        lies = {
            "match": {"route": "state", "provider": "z-api"},
            "kind": "status",
            "code": 200,
            "body": {"connected": True, "error": "You are already connected", "smartphoneConnected": True},
        }
        # For three hours the gateway says that the phone is there, and takes every message.
        httpx.post(f"{lab.base_url}/_sim/faults", json={"rules": [lies]}).raise_for_status()
        for _ in range(36):
            due_openings(lab, ids)
            lab.cycle()

        def of_the_chip() -> list[dict[str, Any]]:
            every = httpx.get(f"{lab.base_url}/_sim/messages").json()["messages"]
            return [message for message in every if message["instance"] == offline["instance"]]

        queued = [message for message in of_the_chip() if message["queued"]]
        assert len(queued) >= 8
        back_at = lab.now
        httpx.delete(f"{lab.base_url}/_sim/faults").raise_for_status()
        for _ in range(6):
            lab.cycle()
        (connection,) = rows_of(
            lab.store, "SELECT state FROM chip_connections WHERE chip_id = :c", c=offline["id"]
        )
        assert connection["state"] == "open"
        after = {message["message_id"]: message for message in of_the_chip()}
        went = [after[m["message_id"]] for m in queued if after[m["message_id"]]["state"] != "removed"]
        removed = [m for m in queued if after[m["message_id"]]["state"] == "removed"]
        assert removed
        assert all(back_at - datetime.fromisoformat(m["at"]) <= timedelta(minutes=65) for m in went)
        assert all(back_at - datetime.fromisoformat(m["at"]) > timedelta(minutes=55) for m in removed)
        hourly = lab.world.policy.phases[Phase.EXPANSAO].sends_per_hour
        assert len(went) <= hourly
        # What was taken out certainly never went, and says so; nobody was written to twice.
        kept = {row["gateway_message_id"]: row for row in rows_of(lab.store, "SELECT * FROM messages")}
        for message in removed:
            assert kept[message["message_id"]]["state"] == "failed"
            assert kept[message["message_id"]]["failure_class"] == "disconnected"
        traces = [message["trace"]["message_id"] for message in of_the_chip()]
        assert len(traces) == len(set(traces))
