"""What became of a message whose outcome nobody noted, and what follows from it.

Holds: :class:`Question` and :class:`Answers` (what was asked of the gateways and what they list),
:func:`judge`, which finds a message among what is listed, or proves that it was never accepted, and
:func:`apply`, which moves the message, its conversation and its activities. Do not add: requests
(``asking``), receipts of messages that are known (``confirm``). Nothing here ever sends.

Source: domain.md, "Failures" (unknown: never sent again; asked about at the gateway where it can
answer, else left unknown) and "A conversation".
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final

from warmup_pipeline.domain.conversation import reply_delay
from warmup_pipeline.domain.localtime import local_day
from warmup_pipeline.domain.phones import same_line
from warmup_pipeline.domain.values import (
    CONFIRMED_STATES,
    ActivityState,
    ConversationState,
    FailureClass,
    MessageKind,
    MessageState,
    Provider,
)
from warmup_pipeline.gateways.base import Listed, Listing
from warmup_pipeline.store import conversations, deliveries, message_writes
from warmup_pipeline.store.chips import Chip
from warmup_pipeline.store.cycles import Cycle
from warmup_pipeline.store.deliveries import OpenMessage
from warmup_pipeline.store.engine import Transaction
from warmup_pipeline.warmup.world import World

ASK_ABOUT_FOR: Final = timedelta(hours=24)
"""How long a message is asked about. What is unknown by then stays so; its conversation ends with it."""

SETTLED_AFTER: Final = timedelta(minutes=10)
"""How long a gateway may still be at work on a request that we gave up: younger, nothing is proved."""

CLOCKS_DIFFER_BY: Final = timedelta(hours=2)
"""How far the gateway's clock may be from ours: what it lists within that is looked at."""

_USER: Final = "@s.whatsapp.net"
_PRIVATE: Final = "@lid"
_NOT_ACCEPTED: Final = "asked again, the gateways of both ends list no such message: it was never accepted"


@dataclass(frozen=True, slots=True)
class Question:
    """One message that a gateway is asked about.

    Attributes:
        text: what it said, ``None`` where that is not known any more (the operator changed the file).
        around: when it was handed over, in the gateway's time: logical for the simulator, else real.
        age: how long ago that is.
    """

    message: OpenMessage
    sender: Chip
    recipient: Chip
    text: str | None = field(repr=False)
    around: datetime
    age: timedelta

    @property
    def is_unknown(self) -> bool:
        """Whether not even its acceptance is known."""
        return self.message.state is MessageState.UNKNOWN


@dataclass
class Answers:
    """What the gateways list, by chip id. A chip that could not be asked is missing.

    Attributes:
        sent: what chips sent, by their own gateway's list.
        received: lists of receiving chips.
        queued: what stands in chips' queues.
        privacy_ids: addresses ``…@lid`` of chips, as far as they were needed.
        server: which server each chip's gateway is on.
    """

    sent: dict[str, Listing] = field(default_factory=dict)
    received: dict[str, Listing] = field(default_factory=dict)
    queued: dict[str, Listing] = field(default_factory=dict)
    privacy_ids: dict[str, str] = field(default_factory=dict)
    server: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Finding:
    """What is certain about one message.

    Attributes:
        message_id: our id of it.
        listed: what it is at the gateway; ``None`` where it was certainly never accepted.
        words: how we know, for its row.
    """

    message_id: str
    listed: Listed | None
    words: str


@dataclass(frozen=True, slots=True)
class Resolved:
    """What was settled."""

    accepted: int = 0
    failed: int = 0


def _is(listed: Listed, chip: Chip, privacy_id: str | None) -> bool:
    """Whether the other end of a listed message is a chip: by its number, or its privacy id."""
    return any(
        address == privacy_id
        or (address.endswith(_USER) and same_line(address.removesuffix(_USER).split(":", 1)[0], chip.phone))
        for address in listed.addresses
    )


def _is_anonymous(listed: Listed) -> bool:
    return all(address.endswith(_PRIVATE) for address in listed.addresses)


def _in_time(listed: Listed, question: Question) -> bool:
    return listed.at is None or abs(listed.at - question.around) <= CLOCKS_DIFFER_BY


def _same_content(listed: Listed, question: Question) -> bool:
    if question.text is None or listed.text != question.text:
        return False
    if listed.kind is None:
        # The queue does not say what a row carries: only words tell.
        return bool(question.text.strip())
    return listed.kind is question.message.kind


def candidates(question: Question, answers: Answers, known: Collection[str]) -> dict[str, Listed]:
    """Return what a message can be among what is listed: by gateway message id.

    The gateway's id where it is known; else the other end, the exact content, and the time. What is
    one of our messages already is none. Both ends list a message under one id, so it counts once.
    """
    found: dict[str, Listed] = {}
    message = question.message
    for end, chip_id, other in (
        (answers.queued, message.sender_chip_id, question.recipient),
        (answers.received, message.recipient_chip_id, question.sender),
        (answers.sent, message.sender_chip_id, question.recipient),
    ):
        listing = end.get(chip_id, Listing())
        privacy_id = answers.privacy_ids.get(other.id)
        for listed in listing.messages:
            if listed.sent is (end is answers.received):
                continue
            if message.gateway_message_id is not None:
                fits = listed.message_id == message.gateway_message_id or (
                    listed.queue_id is not None and listed.queue_id == message.gateway_queue_id
                )
            else:
                fits = (
                    listed.message_id not in known
                    and _in_time(listed, question)
                    and _same_content(listed, question)
                    and _is(listed, other, privacy_id)
                )
            if not fits:
                continue
            before = found.get(listed.message_id)
            # At the receiving end it has arrived, whatever the sender was told.
            if before is None or before.state not in CONFIRMED_STATES:
                found[listed.message_id] = listed
    return found


def anonymous_ends(question: Question, answers: Answers, known: Collection[str]) -> list[tuple[str, Chip]]:
    """Return the look-ups of privacy ids that would help: (chip whose gateway to ask, chip asked about)."""
    message = question.message
    wanted = []
    for listing, asked, other in (
        (answers.sent.get(message.sender_chip_id), message.sender_chip_id, question.recipient),
        (answers.received.get(message.recipient_chip_id), message.recipient_chip_id, question.sender),
    ):
        if (
            listing is not None
            and other.id not in answers.privacy_ids
            and any(
                _is_anonymous(listed) and listed.message_id not in known and _same_content(listed, question)
                for listed in listing.messages
            )
        ):
            wanted.append((asked, other))
    return wanted


def _never_accepted(question: Question, answers: Answers, known: Collection[str], proven: set[str]) -> bool:
    """Whether it is certain that a message was never accepted.

    Both ends must be on Evolution and list everything; the sender's server must be seen to keep what
    is sent (it lists one of ours); nothing that could be the message may stand there, whatever its
    text; and the request must be too old to be still at work.
    """
    message = question.message
    if message.gateway_message_id is not None or question.age < SETTLED_AFTER:
        return False
    if {question.sender.provider, question.recipient.provider} != {Provider.EVOLUTION}:
        return False
    if answers.server.get(message.sender_chip_id) not in proven:
        return False
    for end, chip_id, other in (
        (answers.sent, message.sender_chip_id, question.recipient),
        (answers.received, message.recipient_chip_id, question.sender),
    ):
        listing = end.get(chip_id)
        if listing is None or not listing.complete:
            return False
        privacy_id = answers.privacy_ids.get(other.id)
        if any(
            listed.sent is (end is answers.sent)
            and listed.message_id not in known
            and _in_time(listed, question)
            and (_is(listed, other, privacy_id) or _is_anonymous(listed))
            for listed in listing.messages
        ):
            return False
    return True


def judge(questions: Iterable[Question], answers: Answers, known: Collection[str]) -> list[Finding]:
    """Return what is certain about unknown messages; what is not certain stays unknown.

    Args:
        questions: the unknown messages.
        answers: what the gateways list.
        known: gateway ids that are those of other messages of ours.
    """
    asked = list(questions)
    fitting = {question.message.id: candidates(question, answers, known) for question in asked}
    claims = Counter(message_id for found in fitting.values() for message_id in found)
    proven = {
        answers.server[chip_id]
        for chip_id, listing in answers.sent.items()
        if any(listed.sent and listed.message_id in known for listed in listing.messages)
    }
    findings = []
    for question in asked:
        found = fitting[question.message.id]
        if len(found) == 1 and claims[next(iter(found))] == 1:
            (listed,) = found.values()
            place = "in the gateway's queue" if listed.queue_id else "in a gateway's message list"
            findings.append(Finding(question.message.id, listed, f"its outcome was unknown; found {place}"))
        elif not found and _never_accepted(question, answers, known, proven):
            findings.append(Finding(question.message.id, None, _NOT_ACCEPTED))
    return findings


def apply(tx: Transaction, world: World, cycle: Cycle, findings: Sequence[Finding]) -> Resolved:
    """Move messages that are still unknown, with their conversations and activities, by what was found."""
    if not findings:
        return Resolved()
    now_unknown = deliveries.among(tx, [f.message_id for f in findings], [MessageState.UNKNOWN])
    accepted: list[tuple[OpenMessage, Finding]] = []
    failed: list[tuple[OpenMessage, Finding]] = []
    for finding in findings:
        message = now_unknown.get(finding.message_id)
        if message is None:
            continue
        went = finding.listed is not None and finding.listed.state is not MessageState.FAILED
        (accepted if went else failed).append((message, finding))
    _accept(tx, world, cycle, accepted)
    _fail(tx, cycle, failed)
    return Resolved(len(accepted), len(failed))


def _accept(
    tx: Transaction, world: World, cycle: Cycle, found: Sequence[tuple[OpenMessage, Finding]]
) -> None:
    rows: list[dict[str, Any]] = []
    moved: list[dict[str, Any]] = []
    opened: list[dict[str, Any]] = []
    going_on: list[dict[str, Any]] = []
    completed: dict[str, str] = {}
    openings: dict[str, OpenMessage] = {}
    for message, finding in found:
        listed = finding.listed
        if listed is None:
            continue
        rows.append(
            {
                "id": message.id,
                "state": listed.state,
                "accepted_at": message.sent_at,
                "confirmed_at": cycle.tick if listed.state in CONFIRMED_STATES else None,
                "gateway_message_id": listed.message_id,
                "gateway_queue_id": listed.queue_id or message.gateway_queue_id,
                "failure_class": None,
                "failure_text": finding.words,
            }
        )
        if message.turn > message.turns_accepted:
            moved.append(
                {
                    "id": message.conversation_id,
                    "turns_accepted": message.turn,
                    "last_accepted_at": message.sent_at,
                }
            )
            if message.turn == 1:
                day = local_day(message.sent_at, world.policy.zone)
                opened.append(
                    {"id": message.conversation_id, "opened_at": message.sent_at, "opened_day": day}
                )
            if message.turn < message.turns:
                due = message.sent_at + reply_delay(message.conversation_id, message.turn + 1)
                going_on.append(
                    {
                        "id": message.conversation_id,
                        "state": ConversationState.OPEN,
                        "next_due_at": max(cycle.tick, due),
                        "claimed_cycle_id": None,
                    }
                )
            else:
                completed[message.conversation_id] = "completed"
        if message.activity_id is not None:
            openings[message.conversation_id] = message
    message_writes.change(tx, rows, of=[MessageState.UNKNOWN])
    deliveries.change_conversations(tx, moved)
    deliveries.change_conversations(tx, opened)
    conversations.change(tx, going_on)
    conversations.close(tx, completed, at=cycle.tick)
    partners = deliveries.partner_activities(tx, openings)
    done = {
        "state": ActivityState.EXECUTED,
        "reason": "accepted",
        "final_at": cycle.tick,
        "cycle_id": cycle.id,
    }
    deliveries.change_activities(
        tx, [{"id": m.activity_id, **done} for m in openings.values()], of=ActivityState.UNKNOWN
    )
    # The partner's own opening was due again; it is done, if it has not been used for another one since.
    deliveries.change_activities(
        tx,
        [{"id": a, "conversation_id": c, **done} for c, a in sorted(partners.items())],
        of=ActivityState.PLANNED,
    )


def _fail(tx: Transaction, cycle: Cycle, found: Sequence[tuple[OpenMessage, Finding]]) -> None:
    rows: list[dict[str, Any]] = []
    ended: list[dict[str, Any]] = []
    for message, finding in found:
        # Where our own process ended before it asked, no gateway and no chip is at fault.
        ours = message.http_attempts == 0 or message.failure_class is FailureClass.BUG
        failure = FailureClass.BUG if ours and finding.listed is None else FailureClass.TRANSIENT
        rows.append(
            {
                "id": message.id,
                "state": MessageState.FAILED,
                "failure_class": failure,
                "failure_text": finding.words
                if finding.listed is None
                else f"{finding.words}, where its receipts say that it failed",
                "gateway_message_id": finding.listed.message_id if finding.listed is not None else None,
            }
        )
        if message.activity_id is not None:
            ended.append(
                {
                    "id": message.activity_id,
                    "state": ActivityState.FAILED,
                    "reason": "interrupted" if failure is FailureClass.BUG else failure.value,
                    "detail": finding.words,
                    "final_at": cycle.tick,
                    "cycle_id": cycle.id,
                }
            )
    message_writes.change(tx, rows, of=[MessageState.UNKNOWN])
    conversations.close(tx, {m.conversation_id: "turn_failed" for m, _ in found}, at=cycle.tick)
    deliveries.change_activities(tx, ended, of=ActivityState.UNKNOWN)


def questions_of(
    world: World, tick: datetime, open_messages: Iterable[OpenMessage], chips: Mapping[str, Chip]
) -> list[Question]:
    """Return open messages as questions: with both chips, what they said, and when they were sent."""
    now = tick if world.is_simulated else world.now()
    found = []
    for message in open_messages:
        sender, recipient = chips.get(message.sender_chip_id), chips.get(message.recipient_chip_id)
        if sender is None or recipient is None:
            continue
        # A live gateway lists what it was given by its own clock, not by the cycle's logical time.
        around = message.sent_at if world.is_simulated else message.began_at
        text = _said(world, message)
        found.append(Question(message, sender, recipient, text, around, now - around))
    return found


def _said(world: World, message: OpenMessage) -> str | None:
    dialogue = world.library.by_id.get(message.dialogue_id)
    if dialogue is None or message.turn > len(dialogue.turns):
        return None
    return "" if message.kind is MessageKind.AUDIO else dialogue.turns[message.turn - 1]
