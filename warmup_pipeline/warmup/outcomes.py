"""What a send's outcome changes.

Holds: :class:`Outcome` and :func:`record_outcomes`, the one place where messages, conversations,
activities, breakers, cooldowns, connections and brake signals learn of a send's end, in one
transaction per batch. Source: domain.md, "Failures" and "A conversation".
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from warmup_pipeline.domain.circuit import CLOSED, Circuit, abandon_probe, after_failure, after_success
from warmup_pipeline.domain.conversation import reply_delay
from warmup_pipeline.domain.degrade import CIRCUIT_OPENED, RESTRICTED, rest_until
from warmup_pipeline.domain.failures import SENDER_ERRORS, Stage, cooldown
from warmup_pipeline.domain.localtime import local_day
from warmup_pipeline.domain.values import (
    ActivityState,
    CircuitState,
    ConnectionState,
    ConversationState,
    FailureClass,
    MessageState,
)
from warmup_pipeline.gateways.base import Accepted, GatewayError, Listed
from warmup_pipeline.store import activities, chips, connections, conversations, message_writes, messages
from warmup_pipeline.store.activities import Ending
from warmup_pipeline.store.chips import Chip
from warmup_pipeline.store.conversations import Conversation
from warmup_pipeline.store.cycles import Cycle
from warmup_pipeline.store.engine import Transaction
from warmup_pipeline.store.pairings import StoredPairing
from warmup_pipeline.store.validations import Approval
from warmup_pipeline.warmup.ids import derived_id
from warmup_pipeline.warmup.resolve import Finding, apply
from warmup_pipeline.warmup.world import World


@dataclass(frozen=True, slots=True)
class Outcome:
    """How one send ended: exactly one of accepted, error, bug, withdrawn.

    Attributes:
        withdrawn: reason code, where the send was certainly never begun.
        traceback: the whole traceback of error or bug, redacted.
    """

    approval: Approval
    accepted: Accepted | None = None
    error: GatewayError | None = None
    bug: Exception | None = None
    withdrawn: str | None = None
    traceback: str | None = None

    @property
    def failure(self) -> FailureClass:
        """The failure's class. A bug once the gateway had been asked leaves it open what happened."""
        return self.error.failure if self.error is not None else FailureClass.UNKNOWN

    @property
    def problem(self) -> Exception | None:
        """The error or bug."""
        return self.error or self.bug


@dataclass(frozen=True)
class Standing:
    """What the sending step loaded of its chips, conversations and pairs before it began."""

    chips: Mapping[str, Chip]
    breakers: Mapping[str, Circuit]
    conversations: Mapping[str, Conversation]
    pairs: Mapping[str, StoredPairing]


@dataclass
class _Changes:
    """Rows to write, by what they change."""

    accepted: list[dict[str, Any]]
    refused: list[dict[str, Any]]
    advanced: list[dict[str, Any]]
    opened: list[dict[str, Any]]
    completed: dict[str, str]
    stalled: list[dict[str, Any]]
    finished: list[Ending]
    released: list[str]
    breakers: dict[str, Circuit]
    chips: list[dict[str, Any]]
    rested: list[dict[str, Any]]
    connections: list[dict[str, Any]]
    connection_errors: list[dict[str, Any]]
    signals: list[tuple[str, str, datetime]]


def record_outcomes(
    world: World,
    cycle: Cycle,
    outcomes: Sequence[Outcome],
    standing: Standing,
) -> None:
    """Write down how sends ended: bulk writes only, nothing is read again.

    A chip sends at most once per cycle, so what the step loaded of breakers and cooldowns is still
    what they were before this chip's send.

    Doing it again changes nothing. Where a later cycle has taken the pool over (this process was
    believed dead), what it made ``unknown`` and this process knows to be accepted is told to it; of
    anything else it has the better knowledge by now.
    """
    if not outcomes:
        return
    try:
        with world.store.write() as tx:
            tx.lock_pool(cycle.pool)
            _write(tx, cycle, _changes(world, cycle, outcomes, standing))
    except _NotOursAnyMore:
        _record_late(world, cycle, outcomes, standing)


def _record_late(world: World, cycle: Cycle, outcomes: Sequence[Outcome], standing: Standing) -> None:
    with world.store.write() as tx:
        tx.lock_pool(cycle.pool)
        now = messages.states(tx, [message_id(o.approval) for o in outcomes])
        ours = [o for o in outcomes if now.get(message_id(o.approval)) is MessageState.SENDING]
        _write(tx, cycle, _changes(world, cycle, ours, standing))
        apply(tx, world, cycle, [f for o in outcomes if (f := _told_late(o)) is not None])


class _NotOursAnyMore(Exception):
    """Some of the messages are not ``sending`` any more."""


def message_id(approval: Approval) -> str:
    """Return the id of the message an approval allows: one per turn of a conversation."""
    return derived_id("message", approval.conversation_id, approval.turn)


def _told_late(outcome: Outcome) -> Finding | None:
    """Return what is certain of a message whose sender was believed dead: only that it was accepted."""
    if outcome.accepted is None:
        return None
    listed = Listed(
        message_id=outcome.accepted.message_id,
        queue_id=outcome.accepted.queue_id,
        sent=True,
        addresses=frozenset(),
        kind=None,
        text="",
    )
    return Finding(
        message_id(outcome.approval), listed, "its outcome was unknown; the process that sent it told it late"
    )


def _changes(world: World, cycle: Cycle, outcomes: Sequence[Outcome], standing: Standing) -> _Changes:
    changes = _Changes([], [], [], [], {}, [], [], [], {}, [], [], [], [], [])
    for outcome in outcomes:
        conversation = standing.conversations[outcome.approval.conversation_id or ""]
        chip_id = outcome.approval.sender_chip_id
        breaker = standing.breakers.get(chip_id, CLOSED)
        if outcome.accepted is not None:
            _accepted(world, cycle, outcome, conversation, breaker, changes)
        else:
            resting = standing.chips[chip_id].cooldown_until
            _not_accepted(world, cycle, outcome, conversation, breaker, resting, changes)
        _settle(outcome, standing.pairs.get(conversation.id), changes)
    return changes


def _write(tx: Transaction, cycle: Cycle, changes: _Changes) -> None:
    noted = message_writes.record(tx, changes.accepted) + message_writes.record(tx, changes.refused)
    if noted != len(changes.accepted) + len(changes.refused):
        raise _NotOursAnyMore
    conversations.change(tx, changes.opened)
    conversations.change(tx, changes.advanced)
    conversations.change(tx, changes.stalled)
    conversations.close(tx, changes.completed, at=cycle.tick)
    activities.finish(tx, changes.finished, cycle_id=cycle.id, at=cycle.tick)
    activities.release(tx, changes.released)
    chips.set_breakers(tx, changes.breakers)
    chips.change(tx, changes.chips)
    chips.change(tx, changes.rested)
    connections.change(tx, changes.connections)
    connections.change(tx, changes.connection_errors)
    chips.add_brake_signals(tx, changes.signals)


def _accepted(
    world: World,
    cycle: Cycle,
    outcome: Outcome,
    conversation: Conversation,
    breaker: Circuit,
    changes: _Changes,
) -> None:
    approval, accepted = outcome.approval, outcome.accepted
    if accepted is None:
        return
    turn = approval.turn or 1
    changes.accepted.append(
        {
            "id": message_id(approval),
            "state": MessageState.ACCEPTED,
            "accepted_at": cycle.tick,
            "gateway_message_id": accepted.message_id,
            "gateway_queue_id": accepted.queue_id,
            "http_attempts": 1,
            "ended_at": world.now(),
        }
    )
    if breaker.state is not CircuitState.CLOSED or breaker.consecutive_failures:
        changes.breakers[approval.sender_chip_id] = after_success(breaker)
    last = turn >= conversation.turns
    advanced = {
        "id": conversation.id,
        "turns_accepted": turn,
        "last_accepted_at": cycle.tick,
        "next_due_at": None if last else cycle.tick + reply_delay(conversation.id, turn + 1),
        "claimed_cycle_id": None,
    }
    if turn == 1:
        changes.opened.append(
            advanced
            | {
                "state": ConversationState.OPEN,
                "opened_at": cycle.tick,
                "opened_day": local_day(cycle.tick, world.policy.zone),
            }
        )
    else:
        changes.advanced.append(advanced)
    if last:
        changes.completed[conversation.id] = "completed"


def _not_accepted(
    world: World,
    cycle: Cycle,
    outcome: Outcome,
    conversation: Conversation,
    breaker: Circuit,
    resting: datetime | None,
    changes: _Changes,
) -> None:
    approval, failure, error = outcome.approval, outcome.failure, outcome.error
    chip_id = approval.sender_chip_id
    text = world.redactor.text(str(outcome.problem))
    evidence = error.evidence if error is not None else None
    unknown = failure is FailureClass.UNKNOWN
    changes.refused.append(
        {
            "id": message_id(approval),
            "state": MessageState.UNKNOWN if unknown else MessageState.FAILED,
            "http_attempts": error.attempts if error is not None else 1,
            "failure_class": FailureClass.BUG if outcome.bug is not None else failure,
            "failure_status": evidence.status if evidence is not None else None,
            "failure_text": text,
            "traceback": outcome.traceback,
            "ended_at": world.now(),
        }
    )
    if unknown:
        # It may have gone: the conversation waits for the truth, or for its lifetime to end.
        changes.stalled.append({"id": conversation.id, "next_due_at": None, "claimed_cycle_id": None})
    else:
        changes.completed[conversation.id] = "turn_failed"
    if failure not in SENDER_ERRORS or error is None or evidence is None:
        if breaker.state is CircuitState.HALF_OPEN:
            # The probe said nothing about the sender's channel: another one may go.
            changes.breakers[chip_id] = abandon_probe(breaker)
        return
    after = after_failure(breaker, cycle.tick)
    changes.breakers[chip_id] = after
    if after.state is CircuitState.OPEN and breaker.state is not CircuitState.OPEN:
        changes.signals.append((chip_id, CIRCUIT_OPENED, cycle.tick))
    changes.chips.append(
        {
            "id": chip_id,
            "last_error_at": cycle.tick,
            "last_error_code": str(evidence.status or failure.value),
            "last_error_text": text,
        }
    )
    rest = cycle.tick + cooldown(failure, evidence)
    if failure is FailureClass.RESTRICTION:
        rest = max(rest, rest_until(cycle.tick, world.policy))
        changes.signals.append((chip_id, RESTRICTED, cycle.tick))
    if rest > cycle.tick and (resting is None or rest > resting):
        changes.rested.append({"id": chip_id, "cooldown_until": rest, "cooldown_reason": failure.value})
    if failure is FailureClass.DISCONNECTED:
        changes.connections.append(
            {
                "chip_id": chip_id,
                "state": ConnectionState.CLOSED,
                "since": cycle.tick,
                "observed_at": cycle.tick,
                "detail": text,
            }
        )
    if failure is FailureClass.DISCONNECTED or evidence.stage is not Stage.ANSWERED:
        changes.connection_errors.append({"chip_id": chip_id, "last_error_at": cycle.tick})


def _settle(outcome: Outcome, pair: StoredPairing | None, changes: _Changes) -> None:
    """End the activities that a first turn belongs to: the opener's, and the partner's if it had one due."""
    activity_id = outcome.approval.activity_id
    if activity_id is None:
        return
    if outcome.accepted is not None:
        state, reason = ActivityState.EXECUTED, "accepted"
    elif outcome.failure is FailureClass.UNKNOWN:
        state, reason = ActivityState.UNKNOWN, FailureClass.UNKNOWN.value
    else:
        state, reason = ActivityState.FAILED, outcome.failure.value
    ended = [activity_id]
    if pair is not None and pair.partner_activity_id is not None:
        if outcome.accepted is not None:
            ended.append(pair.partner_activity_id)
        else:
            # The partner's own opening was not attempted: it is due again.
            changes.released.append(pair.partner_activity_id)
    changes.finished += [Ending(ended_id, state, reason) for ended_id in ended]
