"""Confirmed, not just accepted: receipts move a message up one scale, and a late failure takes back.

Holds: :func:`raised`, the one status scale of both gateways; :class:`Receipt` and
:func:`apply_receipts`, which any source of receipts uses (polling here, webhooks elsewhere); and
:func:`receipts_of`, what listed messages say. Do not add: requests (``asking``), messages whose
acceptance is not known (``resolve``).

Source: domain.md, "Confirmed, not just accepted"; gateway-contract.md 3.1.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from warmup_pipeline.domain.degrade import RESTRICTED, rest_until
from warmup_pipeline.domain.failures import SENDER_ERRORS
from warmup_pipeline.domain.localtime import local_day
from warmup_pipeline.domain.values import (
    CONFIRMED_STATES,
    ActivityState,
    FailureClass,
    MessageState,
)
from warmup_pipeline.store import chips, conversations, deliveries, message_writes
from warmup_pipeline.store.chips import Chip
from warmup_pipeline.store.deliveries import UNDELIVERED, OpenMessage
from warmup_pipeline.store.engine import Transaction
from warmup_pipeline.warmup.resolve import Answers, Question, candidates
from warmup_pipeline.warmup.world import World

SCALE: Final = (
    MessageState.UNKNOWN,
    MessageState.SENDING,
    MessageState.ACCEPTED,
    MessageState.AT_WHATSAPP,
    MessageState.FAILED,
    MessageState.DELIVERED,
    MessageState.READ,
)
"""What wins over what: a failure over anything before delivery, delivery over any failure.

One order for all receipts, so their sequence and repetition change nothing.
"""

_RANK: Final = {state: rank for rank, state in enumerate(SCALE)}


def raised(current: MessageState, said: MessageState) -> MessageState:
    """Return the state of a message of which a receipt says something: only ever upward on the scale."""
    return max(current, said, key=_RANK.__getitem__)


@dataclass(frozen=True, slots=True)
class Receipt:
    """What a gateway says about a message that it had accepted.

    Attributes:
        message_id: our id of the message.
        state: ``at_whatsapp``, ``delivered``, ``read`` or ``failed``.
        words: the gateway's words where it failed; not yet redacted.
        failure: the failure's class where it failed.
    """

    message_id: str
    state: MessageState
    words: str = ""
    failure: FailureClass = FailureClass.TRANSIENT


@dataclass(frozen=True, slots=True)
class Confirmed:
    """What receipts changed (of those asked for; one that another process was first with counts too)."""

    moved: int = 0
    confirmed: int = 0
    failed_late: int = 0


def receipts_of(questions: Iterable[Question], answers: Answers) -> list[Receipt]:
    """Return what the gateways list about accepted messages, where that is news."""
    found = []
    for question in questions:
        if question.is_unknown:
            continue
        state = question.message.state
        for listed in candidates(question, answers, ()).values():
            state = raised(state, listed.state)
        if state is not question.message.state:
            words = "its receipts say ERROR" if state is MessageState.FAILED else ""
            found.append(Receipt(question.message.id, state, words))
    return found


def apply_receipts(tx: Transaction, world: World, receipts: Sequence[Receipt], *, at: datetime) -> Confirmed:
    """Move messages up the scale by receipts, whatever their order and number.

    A failure moves only what was accepted and not delivered, and takes back what it had counted for.
    The caller holds the pool (``tx.lock_pool``). Receipts of messages whose acceptance is unknown are
    passed over: those are looked up (``resolve``).

    Args:
        tx: the transaction.
        world: policy and redactor.
        receipts: what was said.
        at: the logical time of hearing it, UTC.
    """
    highest: dict[str, Receipt] = {}
    for receipt in receipts:
        before = highest.get(receipt.message_id)
        if before is None or raised(before.state, receipt.state) is not before.state:
            highest[receipt.message_id] = receipt
    by_state: dict[MessageState, list[dict[str, Any]]] = {}
    for receipt in highest.values():
        row: dict[str, Any] = {"id": receipt.message_id, "state": receipt.state}
        if receipt.state in CONFIRMED_STATES:
            row["confirmed_at"] = at
        by_state.setdefault(receipt.state, []).append(row)
    arrived = [r.message_id for r in highest.values() if r.state in CONFIRMED_STATES]
    given_up = deliveries.among(tx, arrived, [MessageState.FAILED]) if arrived else {}
    for state in (MessageState.AT_WHATSAPP, MessageState.DELIVERED, MessageState.READ):
        below = [s for s in SCALE[: _RANK[state]] if s not in (MessageState.UNKNOWN, MessageState.SENDING)]
        if state is MessageState.READ:
            # It was confirmed when it was delivered, if that was told.
            _read(tx, by_state.get(state, []), below)
        else:
            message_writes.change(tx, by_state.get(state, []), of=below)
    if given_up:
        _give_back(tx, world, given_up)
    failures = {r.message_id: r for r in highest.values() if r.state is MessageState.FAILED}
    failed = deliveries.among(tx, failures, UNDELIVERED) if failures else {}
    if failed:
        _fail_late(tx, world, failures, failed, at)
    return Confirmed(
        moved=sum(len(rows) for state, rows in by_state.items() if state is not MessageState.FAILED),
        confirmed=sum(len(by_state.get(state, ())) for state in CONFIRMED_STATES),
        failed_late=len(failed),
    )


def _read(tx: Transaction, rows: Sequence[Mapping[str, Any]], below: Sequence[MessageState]) -> None:
    undelivered = [state for state in below if state is not MessageState.DELIVERED]
    only_read = [{"id": row["id"], "state": row["state"]} for row in rows]
    message_writes.change(tx, only_read, of=[MessageState.DELIVERED])
    message_writes.change(tx, rows, of=undelivered)


def _give_back(tx: Transaction, world: World, arrived: Mapping[str, OpenMessage]) -> None:
    """Undo :func:`_fail_late` for messages that arrived after all: a failure with a delivery is noise.

    Turn, opening and activities count again, as if the failure had never been told. The conversation stays
    closed, and what its sender's chip has had of it (its last error, a rest) stays.
    """
    turns = [m for m in arrived.values() if m.turn > m.turns_accepted]
    message_writes.change(
        tx,
        [{"id": i, "failure_class": None} for i in sorted(arrived)],
        of=sorted(CONFIRMED_STATES),
    )
    deliveries.change_conversations(
        tx,
        [{"id": m.conversation_id, "turns_accepted": m.turn, "last_accepted_at": m.sent_at} for m in turns],
    )
    deliveries.change_conversations(
        tx,
        [
            {
                "id": m.conversation_id,
                "opened_at": m.sent_at,
                "opened_day": local_day(m.sent_at, world.policy.zone),
            }
            for m in turns
            if m.turn == 1
        ],
    )
    openings = {m.conversation_id: m for m in arrived.values() if m.activity_id is not None}
    done = {"state": ActivityState.EXECUTED, "reason": "accepted", "detail": None}
    deliveries.change_activities(
        tx,
        [{"id": m.activity_id, **done, "final_at": m.sent_at} for m in openings.values()],
        of=ActivityState.FAILED,
    )
    # The partner's own opening was due again; it is done, if it has not been used for another one since.
    partners = deliveries.partner_activities(tx, openings)
    deliveries.change_activities(
        tx,
        [
            {
                "id": activity_id,
                **done,
                "final_at": openings[conversation_id].sent_at,
                "cycle_id": openings[conversation_id].cycle_id,
                "conversation_id": conversation_id,
            }
            for conversation_id, activity_id in sorted(partners.items())
        ],
        of=ActivityState.PLANNED,
    )


def _fail_late(
    tx: Transaction,
    world: World,
    failures: Mapping[str, Receipt],
    failed: Mapping[str, OpenMessage],
    at: datetime,
) -> None:
    """Take back what messages counted for that were accepted and failed after all.

    Sums over the log follow by themselves. What else hung on the acceptance is undone: the turn, the
    opening (with the partner and the pause of the pair), the activities. The partner's own opening
    was not attempted: it is due again, or expires.
    """
    rows = []
    for message_id in sorted(failed):
        receipt = failures[message_id]
        words = world.redactor.text(f"accepted, and failed later: {receipt.words or 'no reason given'}")
        rows.append(
            {
                "id": message_id,
                "state": MessageState.FAILED,
                "failure_class": receipt.failure,
                "failure_text": words,
                "traceback": f"No exception was raised: {words}.\n"
                f"The gateway accepted the message at {failed[message_id].accepted_at} and told its failure "
                f"afterwards; this was recorded at {at}.",
                "confirmed_at": None,
            }
        )
    message_writes.change(tx, rows, of=UNDELIVERED)
    last_turns: dict[str, OpenMessage] = {}
    for message in failed.values():
        if message.turn == message.turns_accepted:
            last_turns[message.conversation_id] = message
    taken_back = [
        {"id": m.conversation_id, "turns_accepted": m.turn - 1} for m in last_turns.values() if m.turn > 1
    ]
    never_opened = [
        {
            "id": m.conversation_id,
            "turns_accepted": 0,
            "opened_at": None,
            "opened_day": None,
            "last_accepted_at": None,
        }
        for m in last_turns.values()
        if m.turn == 1
    ]
    deliveries.change_conversations(tx, taken_back)
    deliveries.change_conversations(tx, never_opened)
    conversations.close(tx, {m.conversation_id: "turn_failed" for m in failed.values()}, at=at)
    openings = {m.conversation_id: m for m in failed.values() if m.activity_id is not None}
    deliveries.change_activities(
        tx,
        [
            {
                "id": m.activity_id,
                "state": ActivityState.FAILED,
                "reason": failures[m.id].failure.value,
                "detail": "accepted, and failed later",
                "final_at": at,
            }
            for m in openings.values()
        ],
        of=ActivityState.EXECUTED,
    )
    partners = deliveries.partner_activities(tx, openings)
    again = {
        "state": ActivityState.PLANNED,
        "reason": None,
        "detail": None,
        "final_at": None,
        "cycle_id": None,
        "conversation_id": None,
    }
    deliveries.change_activities(
        tx, [{"id": a, **again} for a in sorted(partners.values())], of=ActivityState.EXECUTED
    )
    _blame(tx, world, failures, failed, at)


def _blame(
    tx: Transaction,
    world: World,
    failures: Mapping[str, Receipt],
    failed: Mapping[str, OpenMessage],
    at: datetime,
) -> None:
    """Note late failures of the sender's own channel on the chip; a restriction brakes it and rests it.

    The breaker is not touched: it counts consecutive failures of calls, and calls succeeded since.
    """
    pools = {message.pool for message in failed.values()}
    known: dict[str, Chip] = {chip.id: chip for pool in sorted(pools) for chip in chips.of_pool(tx, pool)}
    errors: dict[str, dict[str, Any]] = {}
    rests: dict[str, dict[str, Any]] = {}
    signals = []
    for message_id in sorted(failed):
        failure, chip_id = failures[message_id].failure, failed[message_id].sender_chip_id
        if failure not in SENDER_ERRORS:
            continue
        errors[chip_id] = {
            "id": chip_id,
            "last_error_at": at,
            "last_error_code": failure.value,
            "last_error_text": world.redactor.text(failures[message_id].words),
        }
        if failure is FailureClass.RESTRICTION:
            until = rest_until(at, world.policy)
            resting = known[chip_id].cooldown_until
            signals.append((chip_id, RESTRICTED, at))
            if resting is None or resting < until:
                rests[chip_id] = {"id": chip_id, "cooldown_until": until, "cooldown_reason": failure.value}
    chips.change(tx, list(errors.values()))
    chips.change(tx, list(rests.values()))
    chips.add_brake_signals(tx, signals)
