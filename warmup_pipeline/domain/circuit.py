"""The breaker of one chip's own sending channel.

Holds: its state and its moves. Add here: another rule of the breaker. Do not add: which failures
count (``failures.SENDER_ERRORS``; the caller filters), where the state is kept, the closing of a
breaker when its chip reconnects (the caller stores :data:`CLOSED`).

Source: domain.md, "Failures": three consecutive failures open it; after 300 s half-open, exactly one
probe: success closes it, failure opens it again.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from warmup_pipeline.domain.values import CircuitState

OPENS_AFTER: Final = 3
"""Consecutive failures that open a breaker."""

PROBE_AFTER: Final = timedelta(seconds=300)
"""How long a breaker stays open before one send may probe the channel."""


@dataclass(frozen=True, slots=True)
class Circuit:
    """One breaker.

    Attributes:
        state: closed, open, or half-open (one probe is under way).
        consecutive_failures: failures since the last success.
        opened_at: when it last opened; ``None`` while closed.
    """

    state: CircuitState
    consecutive_failures: int
    opened_at: datetime | None


CLOSED: Final = Circuit(CircuitState.CLOSED, 0, None)
"""A breaker without a failure: of a new chip, after a success, and of a chip that came back."""


def may_probe(circuit: Circuit, at: datetime) -> bool:
    """Whether an open breaker has waited long enough for one probe; false while one is under way."""
    return (
        circuit.state is CircuitState.OPEN
        and circuit.opened_at is not None
        and at - circuit.opened_at >= PROBE_AFTER
    )


def begin_probe(circuit: Circuit) -> Circuit:
    """Return the breaker with its one probe under way.

    Raises:
        ValueError: it is not open, so a probe would be a second one, or needless.
    """
    if circuit.state is not CircuitState.OPEN:
        raise ValueError(f"a probe begins on an open breaker, and this one is {circuit.state}")
    return Circuit(CircuitState.HALF_OPEN, circuit.consecutive_failures, circuit.opened_at)


def abandon_probe(circuit: Circuit) -> Circuit:
    """Return the breaker after a probe that proved nothing, so that the next cycle may probe again.

    Such are a probe of unknown outcome, one that failed for the recipient or the gateway, and one
    whose process ended before it was heard of. Any other breaker is returned as it is.
    """
    if circuit.state is not CircuitState.HALF_OPEN:
        return circuit
    return Circuit(CircuitState.OPEN, circuit.consecutive_failures, circuit.opened_at)


def after_success(circuit: Circuit) -> Circuit:
    """Return the breaker after a send that succeeded.

    An open breaker stays open: what succeeds there began before it opened, and only a probe closes it.
    """
    return circuit if circuit.state is CircuitState.OPEN else CLOSED


def after_failure(circuit: Circuit, at: datetime) -> Circuit:
    """Return the breaker after a failure at ``at`` of the sender's own channel.

    The caller passes only classes of ``failures.SENDER_ERRORS``. A failure heard of while the
    breaker is open began before it opened, and does not move its probe.
    """
    failures = circuit.consecutive_failures + 1
    if circuit.state is CircuitState.OPEN:
        return Circuit(CircuitState.OPEN, failures, circuit.opened_at)
    if circuit.state is CircuitState.HALF_OPEN or failures >= OPENS_AFTER:
        return Circuit(CircuitState.OPEN, failures, at)
    return Circuit(CircuitState.CLOSED, failures, None)
