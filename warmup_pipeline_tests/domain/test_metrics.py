"""Chip metrics from the log's sums and the opening balance."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from warmup_pipeline.domain.metrics import ChipMetrics, MessageCounts, OpeningBalance, chip_metrics
from warmup_pipeline.domain.values import MessageKind

AT = datetime(2026, 2, 20, 15, tzinfo=UTC)
TODAY = date(2026, 2, 20)
STARTED = AT - timedelta(days=9)
COUNTS = st.integers(min_value=0, max_value=100_000)


NO_MESSAGES = MessageCounts()
NOT_IMPORTED = OpeningBalance()


def metrics(counts: MessageCounts = NO_MESSAGES, balance: OpeningBalance = NOT_IMPORTED) -> ChipMetrics:
    return chip_metrics(counts, balance, at=AT, today=TODAY, age_reference=STARTED)


def test_a_chip_without_messages_has_no_rates_to_show():
    found = metrics()
    assert found.response_rate == 0
    assert found.delivery_rate is None
    assert found.confirmed_share is None
    assert found.sent_total == found.received_total == found.bidirectional == 0
    assert found.media_kinds == frozenset()
    assert found.last_error_at is None


def test_the_log_adds_to_the_opening_balance():
    counts = MessageCounts(sent_total=3, received_total=2, bidirectional=1, sent_today=3, received_today=2)
    balance = OpeningBalance(sent=412, received=268, bidirectional=61)
    found = metrics(counts, balance)
    assert (found.sent_total, found.received_total, found.bidirectional) == (415, 270, 62)
    assert found.response_rate == 270 / 415


def test_the_balances_day_counts_only_on_that_day():
    counts = MessageCounts(sent_today=3, received_today=2)
    balance = OpeningBalance(sent=10, received=10, day=TODAY, sent_on_day=4, received_on_day=5)
    today = metrics(counts, balance)
    later = metrics(counts, replace(balance, day=TODAY - timedelta(days=1)))
    assert (today.sent_today, today.received_today) == (7, 7)
    assert (later.sent_today, later.received_today) == (3, 2)
    assert today.sent_total == later.sent_total == 10


@pytest.mark.parametrize(
    ("sent", "received", "rate"), [(0, 0, 0), (0, 9, 0), (4, 1, 0.25), (4, 4, 1), (4, 9, 1)]
)
def test_the_response_rate_is_received_by_sent_at_most_one_and_zero_before_a_send(sent, received, rate):
    assert metrics(MessageCounts(sent_total=sent, received_total=received)).response_rate == rate


def test_delivery_and_confirmation_have_their_own_denominators():
    found = metrics(MessageCounts(attempted=10, succeeded=9, unknown=5, confirmable=8, confirmed=6))
    assert found.delivery_rate == 0.9
    assert found.confirmed_share == 0.75
    assert found.unknown == 5


@pytest.mark.parametrize(
    ("log", "imported", "days"),
    [
        (None, None, 9),
        (AT - timedelta(hours=36), None, 1.5),
        (None, AT - timedelta(days=2), 2),
        (AT - timedelta(days=1), AT - timedelta(days=2), 1),
        (AT - timedelta(days=3), AT - timedelta(days=2), 2),
        # A clock set back must not make days negative.
        (AT + timedelta(hours=1), None, 0),
    ],
)
def test_days_without_an_error_count_from_the_last_one_or_from_the_age_reference(log, imported, days):
    found = metrics(MessageCounts(last_error_at=log), OpeningBalance(last_error_at=imported))
    assert found.days_without_error == days


@given(
    sent=COUNTS,
    received=COUNTS,
    balance_sent=COUNTS,
    balance_received=COUNTS,
    attempted=COUNTS,
    failed=COUNTS,
)
def test_rates_are_fractions_whatever_the_counts(
    sent, received, balance_sent, balance_received, attempted, failed
):
    counts = MessageCounts(
        sent_total=sent,
        received_total=received,
        attempted=attempted,
        succeeded=max(0, attempted - failed),
        media_kinds=frozenset({MessageKind.AUDIO}),
    )
    found = metrics(counts, OpeningBalance(sent=balance_sent, received=balance_received))
    assert 0 <= found.response_rate <= 1
    assert (found.delivery_rate is None) == (attempted == 0)
    assert found.delivery_rate is None or 0 <= found.delivery_rate <= 1
    assert found.media_kinds == {MessageKind.AUDIO}
