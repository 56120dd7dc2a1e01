"""The trap: HTTP 2xx taken for delivered. What was accepted must also be seen to arrive."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from warmup_pipeline.domain.health import Severity, Verdict
from warmup_pipeline.domain.health import messages_confirmed as judged
from warmup_pipeline.store import migrate
from warmup_pipeline.store.engine import Store
from warmup_pipeline.warmup.checks import CHECKS
from warmup_pipeline_tests.support import Lab, chip_row, due_openings, open_lab, rows_of, run_sql

JUDGE = next(spec.judge for spec in CHECKS if spec.name == "messages_confirmed")


@pytest.fixture(scope="module")
def lived(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Lab, list[dict[str, Any]]]]:
    """Forty chips have opened twenty conversations more than an hour ago, and every message arrived."""
    store = Store(f"sqlite:///{tmp_path_factory.mktemp('confirmed') / 'warmup.db'}")
    migrate.upgrade(store)
    with open_lab(store) as lab:
        rows = [chip_row(number, ddd=11) for number in range(1, 41)]
        lab.add(rows)
        lab.cycle()
        due_openings(lab, [row["id"] for row in rows])
        lab.cycle()
        lab.move_to(lab.now + timedelta(minutes=65))
        lab.cycle()
        yield lab, rows_of(store, "SELECT id, confirmed_at FROM messages ORDER BY sent_at, id LIMIT 20")
    store.close()


def of_the_first_twenty(lived: tuple[Lab, list[dict[str, Any]]], change: str, count: int) -> Verdict:
    """Change so many of the twenty messages, judge, and put them back."""
    lab, messages = lived
    assert len(messages) == 20
    kept = rows_of(lab.store, "SELECT id, state, confirmed_at, confirmable, failure_class FROM messages")
    for message in messages[:count]:
        run_sql(lab.store, f"UPDATE messages SET {change} WHERE id = :id", id=message["id"])
    try:
        return JUDGE(lab.world)
    finally:
        for row in kept:
            run_sql(
                lab.store,
                "UPDATE messages SET state = :state, confirmed_at = :confirmed_at, "
                "confirmable = :confirmable, failure_class = :failure_class WHERE id = :id",
                **row,
            )


UNCONFIRMED = "state = 'accepted', confirmed_at = NULL"


@pytest.mark.parametrize(
    ("unconfirmed", "passed", "severity"),
    [
        (0, True, None),
        (1, True, None),
        (2, False, Severity.WARN),
        (4, False, Severity.WARN),
        (5, False, Severity.ERROR),
    ],
)
def test_of_twenty_messages_19_pass_16_warn_and_15_fail(
    lived: tuple[Lab, list[dict[str, Any]]], unconfirmed: int, passed: bool, severity: Severity | None
) -> None:
    verdict = of_the_first_twenty(lived, UNCONFIRMED, unconfirmed)
    assert verdict.numbers["attempts"] == 20
    assert verdict.numbers["confirmed"] == 20 - unconfirmed
    assert verdict.passed is passed
    if not passed:
        assert verdict.severity is severity
        assert len(verdict.concerned) == unconfirmed
        assert not re.search(r"\d{10,}", f"{verdict.summary}{verdict.concerned}")


def test_what_nobody_could_confirm_is_not_held_against_anybody(
    lived: tuple[Lab, list[dict[str, Any]]],
) -> None:
    verdict = of_the_first_twenty(lived, f"{UNCONFIRMED}, confirmable = 0", 20)
    assert (verdict.passed, verdict.numbers["attempts"]) == (True, 0)


def test_a_late_failure_is_not_confirmed_unless_the_recipient_is_at_fault(
    lived: tuple[Lab, list[dict[str, Any]]],
) -> None:
    late = "state = 'failed', confirmed_at = NULL, failure_class = "
    assert not of_the_first_twenty(lived, late + "'transient'", 5).passed
    verdict = of_the_first_twenty(lived, late + "'recipient'", 5)
    assert (verdict.passed, verdict.numbers["attempts"]) == (True, 15)


def test_what_was_sent_less_than_an_hour_ago_is_not_judged_yet(
    lived: tuple[Lab, list[dict[str, Any]]],
) -> None:
    lab, _ = lived
    verdict = of_the_first_twenty(
        lived, f"{UNCONFIRMED}, accepted_at = '{lab.now:%Y-%m-%d %H:%M:%S.000000}'", 20
    )
    run_sql(lab.store, "UPDATE messages SET accepted_at = sent_at")
    assert (verdict.passed, verdict.numbers["attempts"]) == (True, 0)


@given(attempts=st.integers(0, 500), data=st.data())
def test_there_is_no_judgement_under_twenty_and_whole_numbers_decide_above(
    attempts: int, data: st.DataObject
) -> None:
    confirmed = data.draw(st.integers(0, attempts))
    verdict = judged(confirmed, attempts)
    share = confirmed / attempts if attempts else 1.0
    assert verdict.passed is (attempts < 20 or share >= 0.95)
    if not verdict.passed:
        assert verdict.severity is (Severity.WARN if share >= 0.8 else Severity.ERROR)
