"""Planning's and claiming's rules: what is too late, what is put off until when, what is planned anew.

Guards against: a limit or a lateness that is an edge off in SQL, a plan that outlives its phase.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any

import pytest

from warmup_pipeline.domain.localtime import day_bounds, local_day
from warmup_pipeline.domain.values import ChipStatus, Phase
from warmup_pipeline.store import messages, schema
from warmup_pipeline.store.engine import Store
from warmup_pipeline.warmup.standing import explain_chip
from warmup_pipeline_tests.support import MORNING, Lab, chip_row, due_openings, open_lab
from warmup_pipeline_tests.warmup.given import (
    SECOND,
    change,
    chip,
    found,
    logged,
    quiet_lab,
    session,
    talked,
    the,
)

NOON = MORNING + timedelta(hours=6)
HOUR = timedelta(hours=1)
CHIPS = [chip_row(number, ddd=11) for number in (1, 2)]


@pytest.fixture
def lab(clean_store: Store) -> Iterator[Lab]:
    """Two chips that can talk, at 14:00 local, on both databases."""
    with quiet_lab(clean_store, CHIPS, at=NOON) as quiet:
        yield quiet


@pytest.fixture
def one_database(clean_sqlite: Store) -> Iterator[Lab]:
    """The same on SQLite."""
    with quiet_lab(clean_sqlite, CHIPS, at=NOON) as quiet:
        yield quiet


def become_of(lab: Lab, activity_id: str) -> dict[str, Any]:
    """Run a cycle; returns the activity's row."""
    lab.cycle()
    return the(lab, schema.activities, id=activity_id)


@pytest.mark.parametrize(
    ("late", "state", "reason"),
    [(HOUR, "executed", "accepted"), (HOUR + SECOND, "expired", "late")],
    ids=["60 min", "over 60 min"],
)
def test_what_is_more_than_60_minutes_late_is_expired_and_not_sent(
    lab: Lab, late: timedelta, state: str, reason: str
) -> None:
    (activity_id,) = due_openings(lab, [chip(1)], at=lab.now - late)
    row = become_of(lab, activity_id)
    assert (row["state"], row["reason"]) == (state, reason)
    assert len(found(lab, schema.messages)) == (state == "executed")


def test_nothing_runs_early(lab: Lab) -> None:
    (activity_id,) = due_openings(lab, [chip(1)], at=lab.now + SECOND)
    assert become_of(lab, activity_id)["state"] == "planned"


def test_lateness_counts_from_the_new_due_time_after_a_deferral(one_database: Lab) -> None:
    lab = one_database
    (activity_id,) = due_openings(lab, [chip(1)], at=lab.now - 3 * HOUR)
    change(lab, schema.activities, {"due_at": lab.now - HOUR}, id=activity_id)
    assert become_of(lab, activity_id)["state"] == "executed"


def test_what_is_left_of_a_day_that_is_over_is_expired(lab: Lab) -> None:
    (activity_id,) = due_openings(lab, [chip(1)], at=MORNING + 12 * HOUR - SECOND)
    # Half an hour into the next local day it is not late by more than four and a half hours.
    lab.move_to(MORNING + timedelta(hours=16, minutes=30))
    row = become_of(lab, activity_id)
    assert (row["state"], row["reason"]) == ("expired", "day_over")


def no_partner(lab: Lab) -> str:
    talked(lab, 1, 2, at=lab.now - HOUR)
    return "no_partner"


def disconnected(lab: Lab) -> str:
    session(lab, CHIPS[0], state="close", has_session=False, needs_qr=True)
    return "sender_disconnected"


@pytest.mark.parametrize("obstacle", [no_partner, disconnected])
def test_a_deferral_without_a_known_end_is_15_minutes_long_and_keeps_its_reason(
    lab: Lab, obstacle: Any
) -> None:
    reason = obstacle(lab)
    (activity_id,) = due_openings(lab, [chip(1)])
    at = lab.now
    row = become_of(lab, activity_id)
    assert (row["state"], row["due_at"]) == ("planned", at + timedelta(minutes=15))
    assert (row["last_deferral"], row["deferrals"]) == (reason, 1)
    (kept,) = found(lab, schema.deferrals, activity_id=activity_id)
    assert (kept["reason"], kept["at"], kept["until"]) == (reason, at, row["due_at"])


def test_a_deferral_whose_end_is_known_lasts_until_then(one_database: Lab) -> None:
    lab = one_database
    until = lab.now + timedelta(minutes=40)
    change(lab, schema.chips, {"cooldown_until": until, "cooldown_reason": "permanent"}, id=chip(1))
    (activity_id,) = due_openings(lab, [chip(1)])
    row = become_of(lab, activity_id)
    assert (row["state"], row["due_at"], row["last_deferral"]) == ("planned", until, "cooldown")


@pytest.mark.parametrize("obstacle", [no_partner, disconnected])
@pytest.mark.parametrize(
    ("left", "state"),
    [(timedelta(minutes=15), "expired"), (timedelta(minutes=15) + SECOND, "planned")],
    ids=["15 min left", "a second more"],
)
def test_an_opening_that_is_put_off_with_no_time_left_today_is_expired(
    one_database: Lab, obstacle: Any, left: timedelta, state: str
) -> None:
    lab = one_database
    lab.move_to(MORNING + 12 * HOUR - left)
    reason = obstacle(lab)
    (activity_id,) = due_openings(lab, [chip(1)])
    row = become_of(lab, activity_id)
    assert (row["state"], row["reason"] or row["last_deferral"]) == (state, reason)


def planned(lab: Lab, number: int = 1) -> list[dict[str, Any]]:
    """Return what a chip has planned and not begun, by due time."""
    rows = found(lab, schema.activities, chip_id=chip(number), state="planned")
    return sorted(rows, key=lambda row: row["due_at"])


def test_a_phase_change_cancels_the_rest_of_the_day_and_plans_it_anew_in_the_new_phase(
    clean_store: Store,
) -> None:
    with open_lab(clean_store) as lab:
        lab.add([chip_row(n, ddd=11) for n in (1, 2, 3, 4)])
        lab.cycle()
        others = planned(lab, 2)
        before = planned(lab)
        assert before
        lab.move_to(NOON)
        change(lab, schema.activities, {"due_at": NOON + HOUR, "planned_at": NOON + HOUR}, state="planned")
        change(lab, schema.chips, {"phase": Phase.EXPANSAO}, id=chip(1))
        lab.cycle()
        for row in before:
            after = the(lab, schema.activities, id=row["id"])
            assert (after["state"], after["reason"]) == ("cancelled", "replanned")
        plans = found(lab, schema.day_plans, chip_id=chip(1))
        assert [(p["revision"], p["phase"]) for p in sorted(plans, key=lambda p: p["revision"])] == [
            (0, "primeiros_contatos"),
            (1, "expansao"),
        ]
        new = planned(lab)
        assert new
        assert all(row["planned_at"] >= NOON for row in new)
        assert found(lab, schema.activities, chip_id=chip(1), state="expired") == [], "of what is left"
        assert {row["id"] for row in planned(lab, 2)} == {row["id"] for row in others}, (
            "the others keep theirs"
        )
        again = [row["id"] for row in new]
        lab.cycle()
        assert [row["id"] for row in planned(lab)] == again, "and it is done once"


def whole_and_late(store: Store, at: datetime, since: datetime) -> list[datetime]:
    """Plan the day of six chips in a first cycle at an instant; returns when chip 1 is to do something."""
    with open_lab(store, at=at) as lab:
        rows = [chip_row(n, ddd=11, phase=Phase.EXPANSAO, days=9, status_since=since) for n in range(1, 7)]
        lab.add(rows)
        lab.cycle()
        return sorted(row["planned_at"] for row in found(lab, schema.activities, chip_id=chip(1)))


def test_a_chip_that_joins_late_in_the_day_gets_the_part_of_its_plan_that_is_left(
    sqlite_store: Store, clean_sqlite: Store
) -> None:
    whole = whole_and_late(sqlite_store, NOON, since=NOON - timedelta(days=1))
    assert whole[0] < NOON < whole[-1], "who was there before the day has the whole of it"
    assert whole_and_late(clean_sqlite, NOON, since=NOON - SECOND) == [at for at in whole if at >= NOON]


def test_the_hour_of_a_limit_begins_60_minutes_ago_exclusive_and_ends_now_inclusive(lab: Lab) -> None:
    at = lab.now
    moment = timedelta(milliseconds=1)
    inside = [at - HOUR + moment, at - HOUR / 2, at]
    logged(lab, 1, 2, [at - HOUR, *inside, at + moment])
    with lab.store.read() as tx:
        used = messages.use_of_limits(tx, lab.pool, at=at, day=at.date())[chip(1)]
    assert (used.in_hour, used.oldest_in_hour) == (len(inside), inside[0])


def test_the_hour_of_a_limit_reaches_back_over_midnight_and_the_day_of_one_does_not(lab: Lab) -> None:
    midnight, _ = day_bounds(local_day(lab.now, lab.world.policy.zone), lab.world.policy.zone)
    lab.move_to(midnight + timedelta(minutes=10))
    logged(lab, 1, 2, [midnight - HOUR, midnight - timedelta(minutes=49), midnight + SECOND])
    standing = explain_chip(lab.world, "0001")
    assert (standing.hour.used, standing.day.used) == (2, 1)


@pytest.mark.parametrize(
    ("zone", "at"), [("Asia/Tokyo", "2026-03-10T23:00:30Z"), ("UTC", "2026-03-11T01:01:00Z")]
)
def test_what_was_sent_in_the_last_hour_counts_after_the_policy_has_gone_to_another_zone(
    lab: Lab, zone: str, at: str
) -> None:
    lab.move_to(datetime.fromisoformat(at))
    sent = [lab.now - timedelta(minutes=minutes) for minutes in (50, 30, 1)]
    logged(lab, 1, 2, sent)
    lab.with_policy(lab.world.policy.model_copy(update={"timezone": zone}))
    assert explain_chip(lab.world, "0001").hour.used == len(sent)


@pytest.mark.parametrize(
    ("oldest", "state"),
    [(HOUR - SECOND, "planned"), (HOUR, "executed")],
    ids=["just under 60 min ago", "60 min ago"],
)
def test_a_chip_at_its_hour_limit_sends_again_when_the_oldest_send_is_60_minutes_old(
    lab: Lab, oldest: timedelta, state: str
) -> None:
    lab.add([chip_row(3, ddd=11, status=ChipStatus.PAUSED)])
    at = lab.now
    limit = explain_chip(lab.world, "0001").hour.limit
    logged(lab, 1, 3, [at - oldest, *(at - timedelta(minutes=10 * n) for n in range(1, limit))])
    (activity_id,) = due_openings(lab, [chip(1)])
    row = become_of(lab, activity_id)
    assert row["state"] == state
    if state == "planned":
        assert (row["last_deferral"], row["due_at"]) == ("hour_limit", at - oldest + HOUR)
