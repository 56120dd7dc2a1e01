"""The fifth step: approve, defer or block everything this cycle holds.

Holds: :func:`validate_sends`. The rules are ``domain.presend``. Facts are loaded, judged and the
slots taken in one transaction that holds the pool: an approval counts against the limits from the
moment it exists, and nothing is sent without one (root cause 7).
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from warmup_pipeline.domain.circuit import begin_probe
from warmup_pipeline.domain.conversation import next_day_reply_at
from warmup_pipeline.domain.localtime import local_day, next_window_start, window_bounds
from warmup_pipeline.domain.presend import Judgement, validate
from warmup_pipeline.domain.values import ActivityState, Decision
from warmup_pipeline.store import activities, chips, conversations, validations
from warmup_pipeline.store import pairings as pairing_store
from warmup_pipeline.store.activities import Activity, Deferral, Ending
from warmup_pipeline.store.conversations import Conversation
from warmup_pipeline.store.cycles import Cycle
from warmup_pipeline.store.pairings import StoredPairing
from warmup_pipeline.warmup.facts import PoolFacts, load_facts
from warmup_pipeline.warmup.ids import derived_id
from warmup_pipeline.warmup.lifecycle import hold_pool
from warmup_pipeline.warmup.pair import TRY_AGAIN_AFTER
from warmup_pipeline.warmup.world import StepReport, World

DIALOGUE_GONE = "dialogue_gone"
"""A conversation whose dialogue the operator's file no longer has ends."""

SENDS_ALREADY = "sends_already"
"""A chip that holds two sends in one cycle makes one of them."""

REPLY = "REPLY"
"""How a reply turn stands in ``deferrals.type``: it is no activity."""


def put_off_until(world: World, cycle: Cycle, judgement: Judgement) -> datetime:
    """Return the new due time of something deferred: when the reason is expected to end, else later.

    Never earlier than the next cycle could act on it.
    """
    if judgement.until is None or judgement.until <= cycle.tick:
        return cycle.tick + TRY_AGAIN_AFTER
    return judgement.until


def reply_put_off_until(world: World, cycle: Cycle, conversation: Conversation, until: datetime) -> datetime:
    """Return when a reply that cannot go now is due again.

    One that cannot go today moves to the window's opening on the next day plus 2-20 minutes
    (domain.md, "A conversation"); so does one that is put off before the window opens, or all that
    waited through the night would go at once.
    """
    opens, closes = window_bounds(cycle.day, world.policy)
    if opens < until < closes:
        return until
    if until <= opens:
        return next_day_reply_at(opens, conversation.id, conversation.next_turn)
    return next_day_reply_at(
        next_window_start(max(cycle.tick, closes), world.policy), conversation.id, conversation.next_turn
    )


@dataclass
class _Outcome:
    """What judging brings about, collected to be written in a few statements."""

    rows: list[dict[str, Any]] = field(default_factory=list)
    deferrals: list[Deferral] = field(default_factory=list)
    finished: list[Ending] = field(default_factory=list)
    released: list[str] = field(default_factory=list)
    closed: dict[str, str] = field(default_factory=dict)
    replies: list[dict[str, Any]] = field(default_factory=list)
    probes: dict[str, Any] = field(default_factory=dict)


class _Judge:
    """Judges everything one cycle holds."""

    def __init__(self, world: World, cycle: Cycle, facts: PoolFacts) -> None:
        self._world = world
        self._cycle = cycle
        self._facts = facts
        self._sends: set[str] = set()
        self.outcome = _Outcome()

    def reply(self, conversation: Conversation) -> None:
        """Judge the due turn of a conversation."""
        if not self._world.library.has_turn(conversation.dialogue_id, conversation.next_turn):
            # The operator's file was changed meanwhile: nothing is left to be said.
            self.outcome.closed[conversation.id] = DIALOGUE_GONE
            return
        sender, recipient = conversation.next_sender, conversation.next_recipient
        judgement = self._judge("reply", sender, recipient, conversation=conversation)
        if judgement.decision is Decision.DEFER:
            until = reply_put_off_until(
                self._world, self._cycle, conversation, put_off_until(self._world, self._cycle, judgement)
            )
            self.outcome.deferrals.append(
                Deferral(sender, REPLY, judgement.reason or "", until, conversation_id=conversation.id)
            )
            self.outcome.replies.append(
                {
                    "id": conversation.id,
                    "next_due_at": until,
                    "claimed_cycle_id": None,
                    "last_deferral": judgement.reason,
                }
            )
        elif judgement.decision is Decision.BLOCK:
            self.outcome.closed[conversation.id] = judgement.reason or ""

    def opening(
        self, activity: Activity, conversation: Conversation | None, pair: StoredPairing | None
    ) -> None:
        """Judge an opening, with the partner it was paired with or (where it has none) by itself."""
        recipient = conversation.responder_chip_id if conversation else None
        judgement = self._judge(
            "opening", activity.chip_id, recipient, activity=activity, conversation=conversation
        )
        if judgement.decision is Decision.APPROVE and conversation is not None:
            return
        if conversation is not None:
            self.outcome.closed[conversation.id] = "not_sent"
        if pair is not None and pair.partner_activity_id is not None:
            self.outcome.released.append(pair.partner_activity_id)
        self._refuse(activity, judgement)

    def action(self, activity: Activity) -> None:
        """Judge an action that is no send."""
        judgement = self._judge("action", activity.chip_id, None, activity=activity, is_send=False)
        if judgement.decision is not Decision.APPROVE:
            self._refuse(activity, judgement)

    def _refuse(self, activity: Activity, judgement: Judgement) -> None:
        reason = judgement.reason or "no_partner"
        if judgement.decision is Decision.BLOCK:
            self.outcome.finished.append(Ending(activity.id, ActivityState.BLOCKED, reason))
            return
        until = put_off_until(self._world, self._cycle, judgement)
        _, closes = window_bounds(self._cycle.day, self._world.policy)
        if until >= closes:
            # No time is left today; the reason stays with the activity.
            self.outcome.finished.append(Ending(activity.id, ActivityState.EXPIRED, reason))
            return
        self.outcome.deferrals.append(
            Deferral(activity.chip_id, activity.type, reason, until, activity_id=activity.id)
        )

    def _judge(
        self,
        subject: str,
        sender: str,
        recipient: str | None,
        *,
        activity: Activity | None = None,
        conversation: Conversation | None = None,
        is_send: bool = True,
    ) -> Judgement:
        send = self._facts.send(sender, recipient, is_send=is_send)
        judgement = validate(send)
        if judgement.decision is Decision.APPROVE and subject == "opening" and recipient is None:
            # It could send, but pairing found nobody in the moment before: tried again later.
            judgement = Judgement(Decision.DEFER, "no_partner")
        if is_send and judgement.decision is Decision.APPROVE:
            if sender in self._sends:
                # It holds a reply and an opening, as only a cycle executed again can find: one send a cycle.
                judgement = Judgement(Decision.DEFER, SENDS_ALREADY)
            self._sends.add(sender)
        if judgement.is_probe:
            self.outcome.probes[sender] = begin_probe(send.facts.circuit)
        turn = conversation.next_turn if conversation else None
        self.outcome.rows.append(
            {
                "id": derived_id("validation", self._cycle.id, sender, subject),
                "pool": self._cycle.pool,
                "cycle_id": self._cycle.id,
                "at": self._cycle.tick,
                "day": local_day(self._cycle.tick, self._world.policy.zone),
                "subject": subject,
                "activity_id": activity.id if activity else None,
                "conversation_id": conversation.id if conversation else None,
                "turn": turn,
                "sender_chip_id": sender,
                "recipient_chip_id": recipient,
                "decision": judgement.decision,
                "reason": judgement.reason,
                "until": judgement.until,
                "phase": send.facts.phase,
                "hour_limit": send.facts.limits.hour,
                "day_limit": send.facts.limits.day,
                "sent_in_hour": send.facts.sent_in_hour,
                "sent_in_day": send.facts.sent_in_day,
            }
        )
        return judgement


def validate_sends(world: World, cycle: Cycle) -> StepReport:
    """Judge every reply, opening and action this cycle holds. Doing it twice judges nothing anew."""
    with world.store.write() as tx:
        hold_pool(world, tx, cycle)
        claimed = activities.claimed_by(tx, cycle.id)
        holds_any = bool(claimed) or any(
            c.claimed_cycle_id == cycle.id for c in conversations.unclosed(tx, cycle.pool)
        )
        if holds_any and not validations.count_of_cycle(tx, cycle.id):
            facts = load_facts(tx, world, cycle)
            outcome = _judge_all(world, cycle, facts, claimed, pairing_store.of_cycle(tx, cycle.id))
            validations.insert(tx, outcome.rows)
            chips.begin_probes(tx, outcome.probes)
            activities.defer(
                tx, outcome.deferrals, pool=cycle.pool, cycle_id=cycle.id, day=cycle.day, at=cycle.tick
            )
            activities.finish(tx, outcome.finished, cycle_id=cycle.id, at=cycle.tick)
            activities.release(tx, outcome.released)
            conversations.change(tx, outcome.replies)
            conversations.close(tx, outcome.closed, at=cycle.tick)
        counted = validations.counts_of_cycle(tx, cycle.id)
    return _report(counted)


def _judge_all(
    world: World,
    cycle: Cycle,
    facts: PoolFacts,
    claimed: list[Activity],
    pairs: dict[str, StoredPairing],
) -> _Outcome:
    judge = _Judge(world, cycle, facts)
    held = {c.id: c for c in facts.unclosed if c.claimed_cycle_id == cycle.id}
    for conversation in held.values():
        if conversation.id not in pairs:
            judge.reply(conversation)
    partners = {pair.partner_activity_id for pair in pairs.values()}
    for activity in claimed:
        if activity.type not in world.activities.openings:
            judge.action(activity)
        elif activity.id not in partners:
            key = activity.conversation_id or ""
            judge.opening(activity, held.get(key), pairs.get(key))
    return judge.outcome


def _report(counted: list[tuple[str, str | None, str, int]]) -> StepReport:
    by_decision: Counter[str] = Counter()
    deferred: Counter[str] = Counter()
    blocked: Counter[str] = Counter()
    for decision, reason, _, count in counted:
        by_decision[decision] += count
        if decision == Decision.DEFER:
            deferred[reason or ""] += count
        elif decision == Decision.BLOCK:
            blocked[reason or ""] += count
    notes = [f"deferred {count}: {reason}" for reason, count in deferred.most_common()]
    notes += [f"blocked {count}: {reason}" for reason, count in blocked.most_common()]
    return StepReport(
        {
            "approved": by_decision[Decision.APPROVE],
            "deferred": by_decision[Decision.DEFER],
            "blocked": by_decision[Decision.BLOCK],
            "deferred_by_reason": dict(deferred),
            "blocked_by_reason": dict(blocked),
        },
        tuple(notes),
    )
