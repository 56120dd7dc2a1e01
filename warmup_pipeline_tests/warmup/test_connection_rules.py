"""Connections' rules: how often one is recovered, what its return ends, what its queue may keep, whose it is.

Guards against: a gateway hammered or forgotten, an obstacle that outlives its cause, a queue that fires
everything at once, messages sent by a stranger's number.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from datetime import timedelta
from typing import Any

import pytest

from warmup_pipeline.domain.values import Provider
from warmup_pipeline.store import schema
from warmup_pipeline.store.engine import Store
from warmup_pipeline_tests.support import MORNING, Lab, chip_row, due_openings
from warmup_pipeline_tests.warmup.given import (
    SECOND,
    at_gateway,
    change,
    chip,
    fault,
    found,
    hits,
    quiet_lab,
    session,
    the,
)

NOON = MORNING + timedelta(hours=6)
QUARTER = timedelta(minutes=15)
Z_API_CHIPS = [chip_row(number, ddd=11, provider=Provider.Z_API) for number in (1, 2, 3, 4)]
CHIPS = [chip_row(number, ddd=11) for number in (1, 2, 3, 4)]
LOGGED_OUT: dict[str, Any] = {"state": "close", "has_session": False, "needs_qr": True}
NO_RESTART = {"match": {"route": ["restart", "connect"]}, "kind": "status", "code": 500}


@pytest.fixture
def lab(clean_sqlite: Store) -> Iterator[Lab]:
    """Four chips on Evolution, connected, at 14:00 local."""
    with quiet_lab(clean_sqlite, CHIPS, at=NOON) as quiet:
        yield quiet


@pytest.fixture
def z_api(clean_sqlite: Store) -> Iterator[Lab]:
    """Four chips on Z-API."""
    with quiet_lab(clean_sqlite, Z_API_CHIPS, at=NOON) as quiet:
        yield quiet


def connection(lab: Lab, number: int = 1) -> dict[str, Any]:
    return the(lab, schema.chip_connections, chip_id=chip(number))


def test_a_chip_that_is_down_gets_an_attempt_per_quarter_of_an_hour_and_after_four_of_them_one_an_hour(
    lab: Lab,
) -> None:
    session(lab, CHIPS[0], **LOGGED_OUT)
    # A rule that changes nothing counts what really reaches the gateway.
    fault(lab, {"match": {"route": ["restart", "connect"]}, "kind": "latency", "ms": 0})
    began, tried = lab.now, 0
    attempts = []
    for minute in [*range(0, 60, 5), *range(75, 180, 15)]:
        lab.move_to(began + timedelta(minutes=minute))
        lab.cycle()
        if hits(lab) > tried:
            tried = hits(lab)
            attempts.append(minute)
    assert attempts == [0, 15, 30, 45, 105, 165]
    assert tried == len(attempts)
    assert connection(lab)["needs_person"]


def test_an_attempt_that_the_gateway_refuses_is_paced_like_any_other(lab: Lab) -> None:
    session(lab, CHIPS[0], state="close")
    fault(lab, NO_RESTART)
    lab.cycles(4)
    assert hits(lab) == 2, "at 0 and at 15 minutes"


def test_a_chip_that_came_back_is_tried_at_once_when_it_goes_down_hours_later(lab: Lab) -> None:
    session(lab, CHIPS[0], **LOGGED_OUT)
    for n in range(4):
        lab.move_to(NOON + n * QUARTER)
        lab.cycle()
    assert connection(lab)["recovery_attempts"] == 4
    session(lab, CHIPS[0])
    lab.move_to(lab.now + timedelta(hours=2))
    lab.cycles(2)
    assert (connection(lab)["state"], connection(lab)["needs_person"]) == ("open", None)
    lab.move_to(lab.now + timedelta(hours=2))
    lab.cycle()
    session(lab, CHIPS[0], **LOGGED_OUT)
    at = lab.now
    lab.cycle()
    again = connection(lab)
    assert (again["last_recovery_at"], again["next_recovery_at"]) == (at, at + QUARTER)


def test_a_session_that_comes_back_and_falls_again_is_not_restarted_each_time(lab: Lab) -> None:
    fault(lab, {"match": {"route": ["restart", "connect"]}, "kind": "latency", "ms": 0})
    attempts = []
    for state in ("close", "open", "close", "open", "close"):
        session(lab, CHIPS[0], state=state)
        lab.cycle()
        attempts.append(hits(lab))
    assert attempts == [1, 1, 1, 1, 2], "at 0 and at 20 minutes, not at 10"


def test_the_return_of_a_chip_clears_its_connection_error_so_that_it_may_send_at_once(z_api: Lab) -> None:
    error_at = z_api.now - timedelta(minutes=1)
    change(z_api, schema.chip_connections, {"last_error_at": error_at}, chip_id=chip(1))
    (opening,) = due_openings(z_api, [chip(1)])
    z_api.cycle()
    row = the(z_api, schema.activities, id=opening)
    assert (row["last_deferral"], row["due_at"]) == ("recent_gateway_error", error_at + QUARTER)
    assert connection(z_api)["last_error_at"] == error_at, "it was connected all the time: nothing returned"
    change(z_api, schema.chip_connections, {"state": "closed"}, chip_id=chip(1))
    (opening,) = due_openings(z_api, [chip(1)])
    z_api.cycle()
    assert connection(z_api)["last_error_at"] is None
    assert the(z_api, schema.activities, id=opening)["state"] == "executed"


@pytest.mark.parametrize(("reason", "ends"), [("disconnected", True), ("rate_limited", False)])
def test_the_return_of_a_chip_ends_the_cooldown_that_its_disconnection_caused_and_no_other(
    lab: Lab, reason: str, ends: bool
) -> None:
    until = lab.now + timedelta(hours=1)
    change(lab, schema.chips, {"cooldown_until": until, "cooldown_reason": reason}, id=chip(1))
    change(lab, schema.chip_connections, {"state": "closed"}, chip_id=chip(1))
    lab.cycle()
    assert connection(lab)["state"] == "open"
    assert the(lab, schema.chips, id=chip(1))["cooldown_until"] == (None if ends else until)


@pytest.mark.parametrize("row", [CHIPS[0], Z_API_CHIPS[0]], ids=["evolution", "z-api"])
def test_a_disconnected_chip_neither_sends_nor_is_written_to(
    clean_sqlite: Store, row: dict[str, Any]
) -> None:
    with quiet_lab(clean_sqlite, [row, CHIPS[1]], at=NOON) as lab:
        session(lab, row, **LOGGED_OUT)
        own, others = due_openings(lab, [chip(1), chip(2)])
        lab.cycles(3)
        assert at_gateway(lab) == []
        assert the(lab, schema.activities, id=own)["last_deferral"] == "sender_disconnected"
        assert the(lab, schema.activities, id=others)["last_deferral"] == "no_partner"


def queued(lab: Lab) -> dict[str, dict[str, Any]]:
    """Let two chips go offline with an accepted message each in their queues; returns it by chip."""
    due_openings(lab, [chip(number) for number in (1, 2, 3, 4)])
    fault(lab, {"match": {"route": "any-send"}, "kind": "disconnected"}, NO_RESTART)
    lab.cycle()
    assert [(one["state"], one["queued"]) for one in at_gateway(lab)] == [("accepted", True)] * 2
    return {row["sender_chip_id"]: row for row in found(lab, schema.messages)}


def states(lab: Lab, chips: Iterable[str]) -> list[str]:
    """Return how chips are connected."""
    return [the(lab, schema.chip_connections, chip_id=one)["state"] for one in chips]


def fate(lab: Lab, row: dict[str, Any]) -> str:
    """Return what became of a message at its gateway."""
    (one,) = (m for m in at_gateway(lab) if m["message_id"] == row["gateway_message_id"])
    return str(one["state"])


def test_on_reconnection_what_was_given_up_on_is_removed_from_the_queue_and_what_is_wanted_still_goes(
    z_api: Lab,
) -> None:
    rows = queued(z_api)
    given_up, wanted = sorted(rows)
    change(
        z_api,
        schema.conversations,
        {"state": "closed", "reason": "lifetime_over", "next_due_at": None},
        id=rows[given_up]["conversation_id"],
    )
    fault(z_api)
    z_api.move_to(z_api.now + QUARTER)
    z_api.cycles(2)
    assert (fate(z_api, rows[given_up]), fate(z_api, rows[wanted])) == ("removed", "delivered")
    assert states(z_api, rows) == ["open", "open"]
    # It was taken out while the session was down, so it certainly never went.
    assert the(z_api, schema.messages, id=rows[given_up]["id"])["state"] == "failed"
    assert the(z_api, schema.messages, id=rows[wanted]["id"])["state"] != "failed"


@pytest.mark.parametrize(
    ("waited", "expected"),
    [(timedelta(minutes=60), "delivered"), (timedelta(minutes=60) + SECOND, "removed")],
    ids=["60 min", "over 60 min"],
)
def test_what_has_stopped_counting_is_not_sent_from_the_queue_either(
    z_api: Lab, waited: timedelta, expected: str
) -> None:
    rows = queued(z_api)
    (sent_at,) = {row["sent_at"] for row in rows.values()}
    fault(z_api)
    z_api.move_to(sent_at + waited)
    z_api.cycles(2)
    assert [fate(z_api, row) for row in rows.values()] == [expected] * 2


def test_nothing_is_restarted_over_a_queue_that_could_not_be_cleared(z_api: Lab) -> None:
    rows = queued(z_api)
    change(z_api, schema.messages, {"state": "failed", "failure_class": "transient"})
    fault(z_api, {"match": {"route": "other"}, "kind": "status", "code": 500})
    z_api.move_to(z_api.now + QUARTER)
    z_api.cycle()
    assert states(z_api, rows) == ["closed", "closed"]
    assert [fate(z_api, row) for row in rows.values()] == ["accepted"] * 2


@pytest.mark.parametrize("row", [CHIPS[0], Z_API_CHIPS[0]], ids=["evolution", "z-api"])
def test_a_chip_in_whose_place_another_number_is_logged_in_sends_nothing_until_that_is_put_right(
    clean_sqlite: Store, row: dict[str, Any]
) -> None:
    with quiet_lab(clean_sqlite, [row, CHIPS[1]], at=NOON) as lab:
        # Looked at when a session opens: it was down for a moment, and somebody paired another phone.
        change(lab, schema.chip_connections, {"state": "closed"}, chip_id=chip(1))
        session(lab, row | {"phone": "5511987658888"})
        own, others = due_openings(lab, [chip(1), chip(2)])
        reports = lab.cycle()
        assert reports["refresh_connections"].numbers["wrong_numbers"] == 1
        assert at_gateway(lab) == []
        assert the(lab, schema.activities, id=own)["last_deferral"] == "sender_disconnected"
        assert the(lab, schema.activities, id=others)["last_deferral"] == "no_partner"
        stopped = connection(lab)
        assert stopped["state"] == "closed"
        assert "…8888" in stopped["needs_person"]
        assert not re.search(r"\d{10,}", stopped["needs_person"] + stopped["detail"])
        session(lab, row)
        (own,) = due_openings(lab, [chip(1)])
        lab.cycle()
        assert (connection(lab)["state"], connection(lab)["needs_person"]) == ("open", None)
        assert the(lab, schema.activities, id=own)["state"] == "executed"


def test_the_number_is_looked_at_once_a_day_even_if_a_session_never_closed(lab: Lab) -> None:
    session(lab, CHIPS[0] | {"phone": "5511987658888"})
    assert lab.cycle()["refresh_connections"].numbers["wrong_numbers"] == 0
    lab.move_to(lab.now + timedelta(days=1))
    assert lab.cycle()["refresh_connections"].numbers["wrong_numbers"] == 1
