"""The third step: what is due belongs to this cycle.

Holds: :func:`claim_due`: expiring what is too late, closing conversations that are over, and giving
due activities and due reply turns to the cycle. Source: domain.md, "The cycle", steps 3 and 6 (at
most one send per chip per cycle, replies before openings), and "A conversation".
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta

from warmup_pipeline.domain.conversation import CONVERSATION_LIFETIME
from warmup_pipeline.domain.values import ConversationState
from warmup_pipeline.store import activities, conversations
from warmup_pipeline.store.activities import Activity
from warmup_pipeline.store.conversations import Conversation
from warmup_pipeline.store.cycles import Cycle
from warmup_pipeline.warmup.lifecycle import hold_pool
from warmup_pipeline.warmup.world import StepReport, World


def due_replies(unclosed: Iterable[Conversation], cycle: Cycle) -> list[Conversation]:
    """Return the conversations whose next turn goes in this cycle: one per sender, the longest waiting."""
    waiting = sorted(
        (
            conversation
            for conversation in unclosed
            if conversation.state is ConversationState.OPEN
            and conversation.next_due_at is not None
            and conversation.next_due_at <= cycle.tick
            and conversation.claimed_cycle_id in (None, cycle.id)
        ),
        key=lambda c: (c.next_due_at, c.id),
    )
    chosen: dict[str, Conversation] = {}
    for conversation in waiting:
        chosen.setdefault(conversation.next_sender, conversation)
    return list(chosen.values())


def due_activities(world: World, due: Iterable[Activity], busy: set[str]) -> list[Activity]:
    """Return the activities that go in this cycle: one opening and one action per chip, the earliest.

    A chip with a reply to send (``busy``) opens nothing in this cycle: its opening stays planned.
    """
    taken: set[tuple[str, bool]] = set()
    chosen = []
    for activity in due:
        opens = activity.type in world.activities.openings
        key = (activity.chip_id, opens)
        if key in taken or (opens and activity.chip_id in busy):
            continue
        taken.add(key)
        chosen.append(activity)
    return chosen


def claim_due(world: World, cycle: Cycle) -> StepReport:
    """Give this cycle what is due at its tick. Doing it twice claims the same."""
    late_after = timedelta(minutes=world.policy.late_after_minutes)
    with world.store.write() as tx:
        hold_pool(world, tx, cycle)
        expired = activities.expire(
            tx, cycle.pool, tick=cycle.tick, day=cycle.day, late_after=late_after, cycle_id=cycle.id
        )
        over = conversations.close_older_than(
            tx,
            cycle.pool,
            created_before=cycle.tick - CONVERSATION_LIFETIME,
            at=cycle.tick,
            reason="lifetime_over",
        )
        replies = due_replies(conversations.unclosed(tx, cycle.pool), cycle)
        got = conversations.claim(tx, [c.id for c in replies], cycle.id)
        replies = [c for c in replies if c.id in got]
        held = activities.claimed_by(tx, cycle.id)
        busy = {conversation.next_sender for conversation in replies}
        due = activities.due(tx, cycle.pool, tick=cycle.tick, day=cycle.day)
        # A step run again keeps what it held: only chips that hold nothing of the kind get more.
        chosen = [a for a in due_activities(world, [*held, *due], busy) if a not in held]
        activities.claim(tx, [activity.id for activity in chosen], cycle.id)
        claimed = [*held, *chosen]
    openings = sum(activity.type in world.activities.openings for activity in claimed)
    return StepReport(
        {
            "replies_due": len(replies),
            "openings_due": openings,
            "actions_due": len(claimed) - openings,
            "claimed": len(claimed) + len(replies),
            "expired": expired,
            "conversations_over": over,
        }
    )
