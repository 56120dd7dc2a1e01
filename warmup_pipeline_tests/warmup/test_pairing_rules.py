"""Pairing's rules on what is stored: pauses of a pair, partners of a day, dialogues of a fortnight.

Guards against: a look-back that is counted from something else, is an edge off, or sees one side only.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta

import pytest

from warmup_pipeline.domain.conversation import Dialogue
from warmup_pipeline.domain.values import ENVIAR_MIDIA, ChipStatus, Phase
from warmup_pipeline.store import schema
from warmup_pipeline.store.engine import Store
from warmup_pipeline.warmup.library import Library
from warmup_pipeline.warmup.standing import explain_chip
from warmup_pipeline_tests.support import MORNING, Lab, chip_row, due_openings
from warmup_pipeline_tests.warmup.given import (
    SECOND,
    at_gateway,
    change,
    chip,
    fault,
    found,
    quiet_lab,
    talked,
    the,
)

NOON = MORNING + timedelta(hours=6)
"""14:00 local: six hours of the day have passed, six are left."""


@pytest.fixture
def lab(clean_store: Store) -> Iterator[Lab]:
    """Two chips of one area, connected, with nobody else to talk to, on both databases."""
    with quiet_lab(clean_store, [chip_row(1, ddd=11), chip_row(2, ddd=11)], at=NOON) as quiet:
        yield quiet


@pytest.fixture
def one_database(clean_sqlite: Store) -> Iterator[Lab]:
    """The same on SQLite."""
    with quiet_lab(clean_sqlite, [chip_row(1, ddd=11), chip_row(2, ddd=11)], at=NOON) as quiet:
        yield quiet


def outcome(lab: Lab, number: int = 1) -> str:
    """Let one chip have an opening due; returns what became of it: its state, or why it was put off."""
    (activity_id,) = due_openings(lab, [chip(number)])
    lab.cycle()
    row = the(lab, schema.activities, id=activity_id)
    return str(row["last_deferral"] if row["state"] == "planned" else row["state"])


FOUR_HOURS = timedelta(hours=4)


@pytest.mark.parametrize("opener", [1, 2])
@pytest.mark.parametrize(
    ("ago", "expected"),
    [(FOUR_HOURS - SECOND, "no_partner"), (FOUR_HOURS, "executed")],
    ids=["just under 4 h", "4 h"],
)
def test_a_pair_opens_again_four_hours_after_its_last_opening_whoever_opened(
    lab: Lab, ago: timedelta, expected: str, opener: int
) -> None:
    talked(lab, opener, 3 - opener, at=lab.now - ago)
    assert outcome(lab) == expected


def test_the_four_hours_count_from_acceptance_and_not_from_pairing(lab: Lab) -> None:
    talked(lab, 1, 2, at=lab.now - FOUR_HOURS + SECOND, created_at=lab.now - 2 * FOUR_HOURS)
    assert outcome(lab) == "no_partner"


def test_an_opening_that_was_never_accepted_is_no_reason_to_wait(lab: Lab) -> None:
    talked(lab, 1, 2, at=lab.now - timedelta(hours=1), accepted=0)
    assert outcome(lab) == "executed"


def with_partners(lab: Lab, count: int, at: datetime) -> None:
    """Let chip 1 have talked with so many chips, none of which takes part any more."""
    numbers = range(11, 11 + count)
    lab.add([chip_row(number, ddd=11, status=ChipStatus.PAUSED) for number in numbers])
    for number in numbers:
        pair = (1, number) if number % 2 else (number, 1)
        talked(lab, *pair, at=at + timedelta(minutes=number))


@pytest.mark.parametrize("opener", [1, 2])
@pytest.mark.parametrize(("partners", "expected"), [(4, "executed"), (5, "no_partner")])
def test_a_chip_with_five_partners_today_gets_no_sixth_whoever_opens(
    lab: Lab, partners: int, expected: str, opener: int
) -> None:
    with_partners(lab, partners, NOON - timedelta(hours=6))
    assert outcome(lab, opener) == expected


def test_yesterdays_partners_are_none_of_today(lab: Lab) -> None:
    with_partners(lab, 5, NOON - timedelta(hours=15))
    assert outcome(lab) == "executed"


ONE_DAY = timedelta(hours=24)


def unanswered(lab: Lab, *, last: datetime, openers: tuple[int, ...] = (1, 1, 1)) -> None:
    """Let the pair have opened conversations that were never answered, five hours apart."""
    for number, opener in enumerate(reversed(openers)):
        talked(
            lab, opener, 3 - opener, at=last - number * timedelta(hours=5), dialogue=f"unanswered-{number}"
        )


@pytest.mark.parametrize("opener", [1, 2])
@pytest.mark.parametrize(
    ("ago", "expected"),
    [(ONE_DAY - SECOND, "no_partner"), (ONE_DAY, "executed")],
    ids=["just under 24 h", "24 h"],
)
def test_three_unanswered_turns_in_a_row_rest_the_pair_for_24_hours(
    lab: Lab, ago: timedelta, expected: str, opener: int
) -> None:
    unanswered(lab, last=lab.now - ago)
    assert outcome(lab, opener) == expected


@pytest.mark.parametrize("openers", [(1, 1), (1, 2, 1), (1, 1, 2)])
def test_two_unanswered_turns_or_three_that_are_not_one_sides_in_a_row_rest_nobody(
    lab: Lab, openers: tuple[int, ...]
) -> None:
    unanswered(lab, last=lab.now - timedelta(hours=5), openers=openers)
    assert outcome(lab) == "executed"


def test_an_answer_in_between_begins_the_row_anew(lab: Lab) -> None:
    for hours, accepted in ((20, 1), (15, 2), (10, 1), (5, 1)):
        at = lab.now - timedelta(hours=hours)
        talked(lab, 1, 2, at=at, accepted=accepted, turns=4, dialogue=f"{hours}-hours-ago")
    assert outcome(lab) == "executed"


def test_the_last_turn_of_a_conversation_is_the_first_of_a_row_if_nobody_answered_it(lab: Lab) -> None:
    for hours, accepted in ((15, 3), (10, 1), (5, 1)):
        at = lab.now - timedelta(hours=hours)
        talked(lab, 1, 2, at=at, accepted=accepted, turns=4, dialogue=f"{hours}-hours-ago")
    assert outcome(lab) == "no_partner"


FORTNIGHT = timedelta(days=14)
SHORT = Dialogue("the-only-one", ("oi", "tudo bem"))
LONG = Dialogue("a-long-one", ("oi", "tudo bem", "tudo", "que bom"))


def only(lab: Lab, *dialogues: Dialogue) -> None:
    lab.with_library(Library(dialogues, lab.world.library.media))


@pytest.mark.parametrize("opener", [1, 2])
@pytest.mark.parametrize(
    ("ago", "expected"),
    [(FORTNIGHT - SECOND, "no_dialogue"), (FORTNIGHT, "executed")],
    ids=["just under 14 days", "14 days"],
)
def test_two_chips_repeat_no_dialogue_within_14_days_whoever_opened(
    lab: Lab, ago: timedelta, expected: str, opener: int
) -> None:
    only(lab, SHORT)
    talked(lab, opener, 3 - opener, at=lab.now - ago, accepted=2, dialogue=SHORT.id)
    assert outcome(lab, 3 - opener) == expected


def test_a_dialogue_that_other_chips_held_is_not_used_up(lab: Lab) -> None:
    only(lab, SHORT)
    lab.add([chip_row(3, ddd=11, status=ChipStatus.PAUSED)])
    talked(lab, 1, 3, at=lab.now - timedelta(days=1), accepted=2, dialogue=SHORT.id)
    assert outcome(lab) == "executed"


@pytest.fixture
def poor(clean_sqlite: Store) -> Iterator[Lab]:
    """Two chips that may send twice a day, and a third that talks with chip 1 and never opens."""
    rows = [chip_row(n, ddd=11, phase=Phase.SETUP, days=2) for n in (1, 2, 3)]
    with quiet_lab(clean_sqlite, rows, at=NOON) as quiet:
        change(quiet, schema.chips, {"status": ChipStatus.PAUSED}, id=chip(3))
        assert [explain_chip(quiet.world, f"000{n}").day.limit for n in (1, 2)] == [2, 2]
        yield quiet


@pytest.mark.parametrize(
    ("turns", "dialogue", "opener", "expected"),
    [
        # Chip 1 owes one turn of two: one is left, enough for a short dialogue.
        (2, SHORT, 1, "executed"),
        (2, SHORT, 2, "executed"),
        # A long one takes two of each side.
        (2, LONG, 1, "no_dialogue"),
        (2, LONG, 2, "no_dialogue"),
        # Chip 1 owes both its turns: it neither opens nor is written to.
        (4, SHORT, 1, "budget_reserved"),
        (4, SHORT, 2, "no_partner"),
    ],
)
def test_what_an_open_conversation_still_owes_is_taken_off_the_budget_of_either_side(
    poor: Lab, turns: int, dialogue: Dialogue, opener: int, expected: str
) -> None:
    only(poor, dialogue)
    at = poor.now - timedelta(hours=1)
    talked(poor, 3, 1, at=at, turns=turns, next_due_at=poor.now + timedelta(hours=2))
    assert outcome(poor, opener) == expected


def both_due(lab: Lab) -> list[str]:
    return due_openings(lab, [chip(1), chip(2)])


def test_when_both_had_an_opening_due_one_conversation_opens_and_both_are_executed(
    one_database: Lab,
) -> None:
    lab = one_database
    ids = both_due(lab)
    lab.cycle()
    (conversation,) = found(lab, schema.conversations)
    for activity_id in ids:
        row = the(lab, schema.activities, id=activity_id)
        assert (row["state"], row["reason"]) == ("executed", "accepted")
        assert row["conversation_id"] == conversation["id"]
    assert len(at_gateway(lab)) == 1


def test_when_the_first_turn_fails_only_the_openers_activity_does_and_the_partners_is_due_again(
    one_database: Lab,
) -> None:
    lab = one_database
    ids = both_due(lab)
    fault(lab, {"match": {"route": "any-send"}, "kind": "status", "code": 500, "times": 1})
    lab.cycle()
    (message,) = found(lab, schema.messages)
    assert the(lab, schema.conversations)["reason"] == "turn_failed"
    rows = {row["chip_id"]: row["state"] for row in (the(lab, schema.activities, id=one) for one in ids)}
    assert rows == {message["sender_chip_id"]: "failed", message["recipient_chip_id"]: "planned"}


@pytest.mark.parametrize("asks", [1, 2])
def test_when_one_of_both_asked_for_media_the_one_conversation_that_serves_both_opens_with_it(
    clean_sqlite: Store, asks: int
) -> None:
    rows = [chip_row(n, ddd=11, phase=Phase.EXPANSAO, days=9) for n in (1, 2)]
    with quiet_lab(clean_sqlite, rows, at=NOON) as lab:
        ids = due_openings(lab, [chip(asks)], kind=ENVIAR_MIDIA) + due_openings(lab, [chip(3 - asks)])
        lab.cycle()
        assert the(lab, schema.conversations)["opens_with"] in ("picture", "audio")
        assert [the(lab, schema.activities, id=one)["state"] for one in ids] == ["executed", "executed"]
