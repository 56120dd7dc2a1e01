"""Taking back what was approved and certainly not begun: it is due again, and counts in nothing.

Holds: :func:`withdraw`, the reasons, and :func:`why_not_begun`. Do not add: what failed (``outcomes``).
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any, Final

from warmup_pipeline.domain.values import FailureClass
from warmup_pipeline.gateways.base import GatewayError
from warmup_pipeline.store import activities, conversations, message_writes, validations
from warmup_pipeline.store.activities import Deferral
from warmup_pipeline.store.cycles import Cycle
from warmup_pipeline.store.engine import Transaction
from warmup_pipeline.store.validations import Approval
from warmup_pipeline.warmup.approved import Approved
from warmup_pipeline.warmup.lifecycle import hold_pool
from warmup_pipeline.warmup.outcomes import message_id
from warmup_pipeline.warmup.pair import TRY_AGAIN_AFTER
from warmup_pipeline.warmup.validate import REPLY
from warmup_pipeline.warmup.world import World

GATEWAY_DOWN: Final = "gateway_down"
OUT_OF_TIME: Final = "cycle_out_of_time"
SWITCHED_OFF: Final = "kill_switch"
INTERRUPTED: Final = "run_interrupted"

_NEXT_CYCLE: Final = timedelta(minutes=5)

_NOT_BEGUN: Final = {
    GATEWAY_DOWN: "the gateway let nobody in, or could not be reached",
    OUT_OF_TIME: "the cycle is near its end and stopped sending",
    SWITCHED_OFF: "sending was switched off",
    INTERRUPTED: "the run was interrupted",
}


def why_not_begun(error: GatewayError) -> str:
    """Return why nothing was asked of the gateway: our own settings lack its key, or no time was left."""
    return GATEWAY_DOWN if error.failure is FailureClass.GATEWAY else OUT_OF_TIME


def withdraw(
    world: World, cycle: Cycle, approved: Approved, approvals: Sequence[Approval], reason: str
) -> str:
    """Take back what was certainly not begun; returns what is to be said of it, in one line.

    Doing it again changes nothing: who is cut off in the middle may not know whether it was done.

    Args:
        world: what the cycle works with.
        cycle: the cycle.
        approved: what its sending step works on.
        approvals: which of it; at least one.
        reason: why none of them was begun.
    """
    with world.store.write() as tx:
        hold_pool(world, tx, cycle)
        left = validations.not_lapsed(tx, [approval.id for approval in approvals])
        again = _take_back(tx, cycle, approved, [a for a in approvals if a.id in left], reason)
    return (
        f"{len(approvals)} not begun and due again at {again.astimezone(world.policy.zone):%H:%M}: "
        f"{_NOT_BEGUN[reason]}"
    )


def _take_back(
    tx: Transaction, cycle: Cycle, approved: Approved, approvals: Sequence[Approval], reason: str
) -> datetime:
    """Take back what was not taken back before; returns when it is due again."""
    again = cycle.tick + (_NEXT_CYCLE if reason in (OUT_OF_TIME, INTERRUPTED) else TRY_AGAIN_AFTER)
    put_off: list[Deferral] = []
    replies: list[dict[str, Any]] = []
    closed: dict[str, str] = {}
    released: list[str] = []
    for approval in approvals:
        conversation_id = approval.conversation_id or ""
        if approval.activity_id is not None:
            activity = approved.held[approval.activity_id]
            put_off.append(Deferral(activity.chip_id, activity.type, reason, again, activity_id=activity.id))
            if approval.subject == validations.OPENING:
                closed[conversation_id] = "not_sent"
            pair = approved.standing.pairs.get(conversation_id)
            if pair is not None and pair.partner_activity_id is not None:
                released.append(pair.partner_activity_id)
        else:
            put_off.append(
                Deferral(approval.sender_chip_id, REPLY, reason, again, conversation_id=conversation_id)
            )
            replies.append(
                {
                    "id": conversation_id,
                    "next_due_at": again,
                    "claimed_cycle_id": None,
                    "last_deferral": reason,
                }
            )
    message_writes.withdraw(tx, [message_id(a) for a in approvals if a.subject != validations.ACTION])
    validations.lapse(tx, [a.id for a in approvals])
    conversations.close(tx, closed, at=cycle.tick)
    conversations.change(tx, replies)
    activities.defer(tx, put_off, pool=cycle.pool, cycle_id=cycle.id, day=cycle.day, at=cycle.tick)
    activities.release(tx, released)
    return again
