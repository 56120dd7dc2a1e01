"""The breaker, as a state machine."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from warmup_pipeline.domain.circuit import (
    CLOSED,
    OPENS_AFTER,
    PROBE_AFTER,
    Circuit,
    abandon_probe,
    after_failure,
    after_success,
    begin_probe,
    may_probe,
)
from warmup_pipeline.domain.values import CircuitState

AT = datetime(2026, 2, 20, 11, tzinfo=UTC)
OPEN = Circuit(CircuitState.OPEN, 3, AT)


def test_the_third_failure_in_a_row_opens_it():
    first = after_failure(CLOSED, AT)
    second = after_failure(first, AT)
    third = after_failure(second, AT)
    assert [c.state for c in (first, second, third)] == [
        CircuitState.CLOSED,
        CircuitState.CLOSED,
        CircuitState.OPEN,
    ]
    assert third.opened_at == AT


def test_a_success_between_failures_starts_the_count_anew():
    circuit = after_success(after_failure(after_failure(CLOSED, AT), AT))
    assert circuit == CLOSED
    assert after_failure(circuit, AT).state is CircuitState.CLOSED


def test_a_probe_is_due_after_exactly_300_seconds():
    assert not may_probe(OPEN, AT + timedelta(seconds=299))
    assert may_probe(OPEN, AT + timedelta(seconds=300))


def test_there_is_one_probe_at_a_time():
    probing = begin_probe(OPEN)
    assert probing.state is CircuitState.HALF_OPEN
    assert not may_probe(probing, AT + timedelta(days=1))
    with pytest.raises(ValueError, match="half_open"):
        begin_probe(probing)


def test_a_closed_breaker_needs_no_probe():
    assert not may_probe(CLOSED, AT)
    with pytest.raises(ValueError, match="closed"):
        begin_probe(CLOSED)


def test_a_probe_that_succeeds_closes_it_and_one_that_fails_opens_it_again():
    later = AT + timedelta(minutes=5)
    assert after_success(begin_probe(OPEN)) == CLOSED
    again = after_failure(begin_probe(OPEN), later)
    assert again == Circuit(CircuitState.OPEN, 4, later)
    assert not may_probe(again, later + timedelta(seconds=299))


def test_a_probe_that_proved_nothing_may_be_followed_by_another():
    abandoned = abandon_probe(begin_probe(OPEN))
    assert abandoned == OPEN
    assert may_probe(abandoned, AT + PROBE_AFTER)
    assert abandon_probe(CLOSED) == CLOSED


def test_answers_that_come_late_neither_close_an_open_breaker_nor_move_its_probe():
    assert after_success(OPEN) == OPEN
    late = after_failure(OPEN, AT + timedelta(minutes=4))
    assert late.opened_at == AT
    assert may_probe(late, AT + PROBE_AFTER)


class Breaker(RuleBasedStateMachine):
    """Drives a breaker beside the plainest model of it: what was seen, and when."""

    def __init__(self):
        super().__init__()
        self.circuit = CLOSED
        self.now = AT
        self.in_a_row = 0
        self.blocked_since: datetime | None = None
        self.probing = False

    @rule(seconds=st.integers(min_value=0, max_value=700))
    def time_passes(self, seconds):
        self.now += timedelta(seconds=seconds)

    def sending(self) -> bool:
        return self.blocked_since is None or self.probing

    @precondition(lambda self: self.sending())
    @rule()
    def a_send_succeeds(self):
        self.circuit = after_success(self.circuit)
        self.in_a_row, self.blocked_since, self.probing = 0, None, False

    @precondition(lambda self: self.sending())
    @rule()
    def a_send_fails(self):
        self.circuit = after_failure(self.circuit, self.now)
        self.in_a_row += 1
        if self.probing or self.in_a_row >= OPENS_AFTER:
            self.blocked_since = self.now
        self.probing = False

    @precondition(lambda self: self.probing)
    @rule()
    def the_probe_proves_nothing(self):
        self.circuit = abandon_probe(self.circuit)
        self.probing = False

    @precondition(lambda self: may_probe(self.circuit, self.now))
    @rule()
    def a_probe_begins(self):
        self.circuit = begin_probe(self.circuit)
        self.probing = True

    @rule()
    def the_chip_comes_back(self):
        self.circuit = CLOSED
        self.in_a_row, self.blocked_since, self.probing = 0, None, False

    @invariant()
    def it_is_as_the_model_says(self):
        if self.probing:
            expected = CircuitState.HALF_OPEN
        elif self.blocked_since is not None:
            expected = CircuitState.OPEN
        else:
            expected = CircuitState.CLOSED
        assert self.circuit.state is expected
        assert self.circuit.opened_at == self.blocked_since
        assert self.circuit.consecutive_failures == self.in_a_row

    @invariant()
    def a_probe_is_allowed_only_after_the_wait_and_only_one(self):
        waited = self.blocked_since is not None and self.now - self.blocked_since >= PROBE_AFTER
        assert may_probe(self.circuit, self.now) == (waited and not self.probing)


TestBreaker = Breaker.TestCase
TestBreaker.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
