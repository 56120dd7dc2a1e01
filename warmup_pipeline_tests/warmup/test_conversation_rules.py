"""A conversation's rules: when its turns go, before what, when they move to another day, when it ends.

Guards against: a chip that sends twice in a cycle, a reply lost at the day's end, a thread that never ends.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta

import pytest

from warmup_pipeline.domain.conversation import Dialogue
from warmup_pipeline.store import schema
from warmup_pipeline.store.engine import Store
from warmup_pipeline.warmup.library import Library
from warmup_pipeline_tests.support import MORNING, Lab, chip_row, due_openings
from warmup_pipeline_tests.warmup.given import (
    SECOND,
    change,
    chip,
    dialogue_of,
    found,
    quiet_lab,
    session,
    talked,
    the,
)

NOON = MORNING + timedelta(hours=6)
EVENING = MORNING + timedelta(hours=11, minutes=50)
"""19:50 local: the window closes in ten minutes."""
NIGHT = MORNING + timedelta(hours=13)
TOMORROW = MORNING + timedelta(days=1)
DAWN = TOMORROW - timedelta(minutes=30)
CHIPS = [chip_row(number, ddd=11) for number in range(1, 9)]


@pytest.fixture
def lab(clean_store: Store) -> Iterator[Lab]:
    """Four chips, connected, at noon, on both databases."""
    with quiet_lab(clean_store, CHIPS[:4], at=NOON) as quiet:
        yield quiet


def open_one(lab: Lab, opener: int, responder: int, *, due: datetime, turns: int = 2) -> str:
    """Let a conversation be open whose second turn is due."""
    return talked(
        lab,
        opener,
        responder,
        at=due - timedelta(minutes=10),
        turns=turns,
        dialogue=dialogue_of(lab, turns),
        next_due_at=due,
    )


def senders_at(lab: Lab, at: datetime) -> list[tuple[str, int]]:
    """Return (chip id, turn) of every message sent at an instant."""
    return sorted((row["sender_chip_id"], row["turn"]) for row in found(lab, schema.messages, sent_at=at))


@pytest.mark.parametrize(
    ("age", "state", "reason"),
    [
        (timedelta(hours=24) - SECOND, "open", None),
        (timedelta(hours=24), "closed", "lifetime_over"),
    ],
    ids=["just under 24 h", "24 h"],
)
def test_a_conversation_is_closed_with_a_reason_when_it_is_24_hours_old(
    lab: Lab, age: timedelta, state: str, reason: str | None
) -> None:
    conversation = talked(lab, 1, 2, at=lab.now - age, next_due_at=lab.now + timedelta(hours=1))
    lab.cycle()
    row = the(lab, schema.conversations, id=conversation)
    assert (row["state"], row["reason"]) == (state, reason)


def test_a_turn_that_is_due_when_its_conversation_is_over_is_not_sent(lab: Lab) -> None:
    talked(lab, 1, 2, at=lab.now - timedelta(hours=24), dialogue=dialogue_of(lab, 2), next_due_at=lab.now)
    lab.cycle()
    assert found(lab, schema.messages) == []


def test_each_accepted_turn_schedules_the_next_one_of_the_other_chip_2_to_20_minutes_later(lab: Lab) -> None:
    long = Dialogue("a-long-one", ("oi", "tudo bem", "tudo", "que bom"))
    lab.with_library(Library((long,), lab.world.library.media))
    due_openings(lab, [chip(1)])
    turns = []
    for _ in range(4):
        at = lab.now
        lab.cycle()
        (conversation,) = found(lab, schema.conversations)
        turns += senders_at(lab, at)
        if conversation["next_due_at"] is not None:
            assert timedelta(minutes=2) <= conversation["next_due_at"] - at <= timedelta(minutes=20)
            lab.move_to(conversation["next_due_at"])
    other = conversation["responder_chip_id"]
    assert turns == [(chip(1), 1), (other, 2), (chip(1), 3), (other, 4)]
    assert (conversation["state"], conversation["reason"]) == ("closed", "completed")


def test_a_chip_with_a_reply_due_sends_that_and_opens_in_the_next_cycle(lab: Lab) -> None:
    open_one(lab, 1, 2, due=lab.now)
    (opening,) = due_openings(lab, [chip(2)])
    first = lab.now
    lab.cycle()
    assert senders_at(lab, first) == [(chip(2), 2)]
    assert the(lab, schema.activities, id=opening)["state"] == "planned"
    second = lab.now
    lab.cycle()
    assert (chip(2), 1) in senders_at(lab, second)
    assert the(lab, schema.activities, id=opening)["state"] == "executed"


def test_of_two_replies_due_a_chip_sends_the_one_that_waits_longest_and_the_other_one_cycle_later(
    lab: Lab,
) -> None:
    young = open_one(lab, 1, 2, due=lab.now - timedelta(minutes=1))
    old = open_one(lab, 3, 2, due=lab.now - timedelta(minutes=8))
    for expected in (old, young):
        at = lab.now
        lab.cycle()
        assert [row["conversation_id"] for row in found(lab, schema.messages, sent_at=at)] == [expected]


def test_of_two_openings_due_a_chip_sends_the_earlier_one_and_the_other_one_cycle_later(lab: Lab) -> None:
    (early,) = due_openings(lab, [chip(1)], at=lab.now - timedelta(minutes=9))
    (late,) = due_openings(lab, [chip(1)], at=lab.now - timedelta(minutes=1))
    change(lab, schema.activities, {"state": "planned", "reason": None, "final_at": None}, id=early)
    states = []
    for _ in range(2):
        at = lab.now
        lab.cycle()
        assert len([one for one in senders_at(lab, at) if one[0] == chip(1)]) == 1
        states.append([the(lab, schema.activities, id=one)["state"] for one in (early, late)])
    assert states == [["executed", "planned"], ["executed", "executed"]]


def rest(lab: Lab) -> None:
    """Let every chip that is to answer rest until late the next morning."""
    until = TOMORROW + timedelta(hours=2)
    for number in (2, 4, 6, 8):
        change(lab, schema.chips, {"cooldown_until": until, "cooldown_reason": "permanent"}, id=chip(number))


def disconnect(lab: Lab) -> None:
    """Log every chip out that is to be answered."""
    for number in (1, 3, 5, 7):
        session(lab, CHIPS[number - 1], state="close", has_session=False, needs_qr=True)


def nothing(lab: Lab) -> None:
    """Change nothing."""


@pytest.mark.parametrize(
    ("at", "trouble", "reason"),
    [
        (NOON, rest, "cooldown"),
        (EVENING, disconnect, "recipient_disconnected"),
        (NIGHT, nothing, "outside_window"),
        (DAWN, nothing, "outside_window"),
    ],
    ids=["rests until tomorrow", "no known end before the window's", "after the window", "before the window"],
)
def test_a_reply_that_cannot_go_before_the_next_window_moves_to_its_8_oclock_plus_2_to_20_minutes(
    clean_sqlite: Store, at: datetime, trouble: object, reason: str
) -> None:
    assert callable(trouble)
    with quiet_lab(clean_sqlite, CHIPS, at=at) as lab:
        for number in (1, 3, 5, 7):
            open_one(lab, number, number + 1, due=at)
        trouble(lab)
        lab.cycle()
        rows = found(lab, schema.conversations)
        assert {row["last_deferral"] for row in rows} == {reason}
        delays = [row["next_due_at"] - TOMORROW for row in rows]
        assert all(timedelta(minutes=2) <= delay <= timedelta(minutes=20) for delay in delays), delays
        assert len(set(delays)) > 1, "they do not all go at once"
        assert found(lab, schema.messages) == []
        if trouble is nothing:
            lab.move_to(TOMORROW + timedelta(minutes=20))
            lab.cycle()
            assert [row["turn"] for row in found(lab, schema.messages)] == [2, 2, 2, 2]


def test_a_reply_whose_obstacle_ends_today_is_due_when_it_ends(lab: Lab) -> None:
    conversation = open_one(lab, 1, 2, due=lab.now)
    until = lab.now + timedelta(minutes=47)
    change(lab, schema.chips, {"cooldown_until": until, "cooldown_reason": "permanent"}, id=chip(2))
    lab.cycle()
    assert the(lab, schema.conversations, id=conversation)["next_due_at"] == until
