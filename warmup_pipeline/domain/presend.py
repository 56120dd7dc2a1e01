"""Pre-send validation: may this chip send this, now?

Holds: what is asked about (:class:`SendFacts`), the rules in their order (:data:`RULES`) and
:func:`validate`. Add here: a rule: one function and one line in :data:`RULES`. Do not add: where
facts come from (store), or what happens after a refusal (warmup).

Source: domain.md, "Pre-send validation": the first rule that holds decides. Root cause 7 (the
breaker was never asked) is prevented by there being one way to send, which takes the approval that
only this validation issues.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from warmup_pipeline.domain.circuit import PROBE_AFTER, Circuit, may_probe
from warmup_pipeline.domain.limits import Limits
from warmup_pipeline.domain.localtime import day_bounds, in_window, local_day, next_window_start
from warmup_pipeline.domain.policy import Policy
from warmup_pipeline.domain.values import (
    LISTENER_ROLE,
    PARTICIPATING_STATUSES,
    ChipStatus,
    CircuitState,
    ConnectionState,
    Decision,
    Phase,
    Provider,
    TrustLevel,
)

CONNECTION_FRESH_FOR: Final = timedelta(minutes=15)
"""How long a definite answer about a connection is believed."""

GATEWAY_ERROR_REST: Final = timedelta(minutes=15)
"""How long a Z-API chip rests after a connection-class error."""

HOUR: Final = timedelta(minutes=60)


@dataclass(frozen=True, slots=True)
class ChipStanding:
    """What validation knows of one side of a send.

    Attributes:
        connection: last definite state; ``UNKNOWN`` if there never was one.
        observed_at: when that was observed (UTC), ``None`` if never.
    """

    chip_id: str
    status: ChipStatus
    role: str
    connection: ConnectionState
    observed_at: datetime | None


@dataclass(frozen=True, slots=True)
class SenderFacts:
    """What validation knows of the sender beyond its standing.

    Attributes:
        killed: sending is switched off for everything, its pool or itself.
        connection_error_at: last connection-class error of a send since it last came back.
        gateway_failed: its gateway failed authentication or was unreachable in this cycle.
        sent_in_hour: sends counting against limits in (at - 60 min, at].
        oldest_in_hour: send time of the oldest of those.
        sent_in_day: the same for the local calendar day, an import's opening balance included.
        minimum_gap: pause its trust level asks for between sends.
    """

    provider: Provider
    phase: Phase
    trust_level: TrustLevel
    killed: bool
    connection_error_at: datetime | None
    circuit: Circuit
    cooldown_until: datetime | None
    gateway_failed: bool
    limits: Limits
    sent_in_hour: int
    oldest_in_hour: datetime | None
    sent_in_day: int
    last_sent_at: datetime | None
    minimum_gap: timedelta


@dataclass(frozen=True, slots=True)
class SendFacts:
    """One send to be judged.

    Attributes:
        recipient: ``None`` where nobody is written to, or nobody has been chosen yet.
        is_send: ``False`` for an action that is no send (MARCAR_LIDO): only some rules apply.
    """

    at: datetime
    sender: ChipStanding
    facts: SenderFacts
    recipient: ChipStanding | None
    policy: Policy
    is_send: bool = True


@dataclass(frozen=True, slots=True)
class Judgement:
    """What validation decided.

    Attributes:
        reason: stable reason code, ``None`` for an approval.
        until: when the reason is expected to end, where it ends by itself at a known time.
        is_probe: the approval is the one probe of a half-open breaker.
    """

    decision: Decision
    reason: str | None = None
    until: datetime | None = None
    is_probe: bool = False


@dataclass(frozen=True, slots=True)
class _Refusal:
    until: datetime | None = None


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule: its stable code, what it decides, and when.

    Attributes:
        sends_only: it does not apply to an action that is no send.
        refuses: returns a refusal where the rule holds, else ``None``.
    """

    code: str
    decision: Decision
    refuses: Callable[[SendFacts], _Refusal | None]
    sends_only: bool = True


def takes_part(chip: ChipStanding) -> bool:
    """Whether a chip takes part in warm-up by status and role (domain.md, "Words and values")."""
    return chip.status in PARTICIPATING_STATUSES and chip.role != LISTENER_ROLE


def is_connected(chip: ChipStanding, at: datetime) -> bool:
    """Whether a chip's connection was definitely open within the last 15 minutes."""
    return (
        chip.connection is ConnectionState.OPEN
        and chip.observed_at is not None
        and at - chip.observed_at <= CONNECTION_FRESH_FOR
    )


def _when(holds: bool, until: datetime | None = None) -> _Refusal | None:
    return _Refusal(until) if holds else None


def _kill_switch(send: SendFacts) -> _Refusal | None:
    return _when(send.facts.killed)


def _not_participating(send: SendFacts) -> _Refusal | None:
    sides = [send.sender] if send.recipient is None else [send.sender, send.recipient]
    return _when(not all(takes_part(chip) for chip in sides))


def _outside_window(send: SendFacts) -> _Refusal | None:
    if in_window(send.at, send.policy):
        return None
    return _Refusal(next_window_start(send.at, send.policy))


def _sender_disconnected(send: SendFacts) -> _Refusal | None:
    return _when(not is_connected(send.sender, send.at))


def _recipient_disconnected(send: SendFacts) -> _Refusal | None:
    return _when(send.recipient is not None and not is_connected(send.recipient, send.at))


def _recent_gateway_error(send: SendFacts) -> _Refusal | None:
    error_at = send.facts.connection_error_at
    if send.facts.provider is not Provider.Z_API or error_at is None:
        return None
    until = error_at + GATEWAY_ERROR_REST
    return _when(send.at < until, until)


def _circuit_open(send: SendFacts) -> _Refusal | None:
    circuit = send.facts.circuit
    if circuit.state is CircuitState.CLOSED or may_probe(circuit, send.at):
        return None
    return _Refusal(circuit.opened_at + PROBE_AFTER if circuit.opened_at else None)


def _cooldown(send: SendFacts) -> _Refusal | None:
    until = send.facts.cooldown_until
    return _when(until is not None and until > send.at, until)


def _gateway_down(send: SendFacts) -> _Refusal | None:
    return _when(send.facts.gateway_failed)


def _trust_critical(send: SendFacts) -> _Refusal | None:
    return _when(send.facts.trust_level is TrustLevel.CRITICO)


def _hour_limit(send: SendFacts) -> _Refusal | None:
    oldest = send.facts.oldest_in_hour
    # (t - 60 min, t]: a send exactly 60 minutes old no longer counts.
    return _when(send.facts.sent_in_hour >= send.facts.limits.hour, oldest + HOUR if oldest else None)


def _day_limit(send: SendFacts) -> _Refusal | None:
    if send.facts.sent_in_day < send.facts.limits.day:
        return None
    zone = send.policy.zone
    _, tomorrow = day_bounds(local_day(send.at, zone), zone)
    return _Refusal(next_window_start(tomorrow - timedelta(microseconds=1), send.policy))


def _min_gap(send: SendFacts) -> _Refusal | None:
    last = send.facts.last_sent_at
    if last is None:
        return None
    until = last + send.facts.minimum_gap
    return _when(send.at < until, until)


RULES: Final[tuple[Rule, ...]] = (
    Rule("kill_switch", Decision.BLOCK, _kill_switch, sends_only=False),
    Rule("chip_not_participating", Decision.BLOCK, _not_participating, sends_only=False),
    Rule("outside_window", Decision.DEFER, _outside_window, sends_only=False),
    Rule("sender_disconnected", Decision.DEFER, _sender_disconnected, sends_only=False),
    Rule("recipient_disconnected", Decision.DEFER, _recipient_disconnected),
    Rule("recent_gateway_error", Decision.DEFER, _recent_gateway_error),
    Rule("circuit_open", Decision.DEFER, _circuit_open),
    Rule("cooldown", Decision.DEFER, _cooldown),
    Rule("gateway_down", Decision.DEFER, _gateway_down),
    Rule("trust_critical", Decision.BLOCK, _trust_critical),
    Rule("hour_limit", Decision.DEFER, _hour_limit),
    Rule("day_limit", Decision.DEFER, _day_limit),
    Rule("min_gap", Decision.DEFER, _min_gap),
)
"""The rules in order. Their codes are stable: they stand in tables, summaries and documents."""


def validate(send: SendFacts) -> Judgement:
    """Return the decision on one send: that of the first rule that holds, else an approval."""
    for rule in RULES:
        if rule.sends_only and not send.is_send:
            continue
        refusal = rule.refuses(send)
        if refusal is not None:
            return Judgement(rule.decision, rule.code, refusal.until)
    probe = send.is_send and send.facts.circuit.state is not CircuitState.CLOSED
    return Judgement(Decision.APPROVE, is_probe=probe)
