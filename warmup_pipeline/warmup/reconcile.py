"""What a new cycle finds of those before it, and puts right.

Holds: :func:`reconcile`, run in the transaction that begins a cycle. By then no other cycle of the
pool is alive, so whatever others hold was left by a process that ended between two lines:

- an approval that was never spent lapses: nothing was sent for it;
- a message still ``sending`` may have gone or not: it becomes ``unknown`` and is never sent again; the
  same cycle's first step then asks the gateways about it (``resolve``);
- a conversation whose opening was never written down is closed as ``not_sent``;
- a claimed activity becomes what its first turn became, or is planned again if there was none;
- a reply turn that was held is free again;
- a breaker whose probe never reported back may be probed again.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from warmup_pipeline.domain.values import ACCEPTED_STATES, ActivityState, FailureClass, MessageState
from warmup_pipeline.store import activities, chips, conversations, message_writes, messages, validations
from warmup_pipeline.store.activities import Ending
from warmup_pipeline.store.cycles import Cycle
from warmup_pipeline.store.engine import Transaction

_INTERRUPTED: Final = (
    "No exception was raised: the process that was sending this message ended before it noted the outcome.\n"
    "Found by the cycle that began at {at}. Whether the message went is asked of the gateways; it is "
    "never sent again."
)


@dataclass(frozen=True, slots=True)
class Reconciled:
    """What was put right."""

    interrupted_sends: int = 0
    lapsed_approvals: int = 0
    unsent_conversations: int = 0
    settled_activities: int = 0
    released_replies: int = 0

    def numbers(self) -> dict[str, int]:
        """Return the counts by name."""
        return {name: getattr(self, name) for name in self.__dataclass_fields__}


def reconcile(tx: Transaction, cycle: Cycle) -> Reconciled:
    """Put right what earlier cycles of the pool left behind; see the module's text."""
    lapsed = validations.lapse_unused(tx, cycle.pool, but_not_of=cycle.id)
    interrupted = messages.interrupted(tx, cycle.pool, but_not_of=cycle.id)
    message_writes.record(
        tx,
        [
            {
                "id": message_id,
                "state": MessageState.UNKNOWN,
                "failure_class": FailureClass.UNKNOWN,
                "failure_text": "the process ended while this was being sent",
                "traceback": _INTERRUPTED.format(at=cycle.began_at.isoformat()),
                "ended_at": cycle.began_at,
            }
            for message_id, _ in interrupted
        ],
    )
    # What may have gone waits for the truth, as it does where the process lived to see it (outcomes).
    conversations.change(
        tx, [{"id": c, "next_due_at": None, "claimed_cycle_id": None} for _, c in interrupted]
    )
    unsent = conversations.unsent(tx, cycle.pool, but_not_of=cycle.id)
    conversations.close(tx, dict.fromkeys(unsent, "not_sent"), at=cycle.tick)
    held = activities.claimed_elsewhere(tx, cycle.pool, cycle.id)
    first_turns = messages.states_of_openings(tx, cycle.pool, [activity.id for activity in held])
    settled, free = [], []
    for activity in held:
        state = first_turns.get(activity.id)
        if state is None:
            free.append(activity.id)
        else:
            settled.append(_settled(activity.id, state))
    activities.finish(tx, settled, cycle_id=cycle.id, at=cycle.tick)
    activities.release(tx, free)
    released = conversations.release(tx, cycle.pool, but_not_of=cycle.id)
    chips.rest_half_open_breakers(tx, cycle.pool)
    return Reconciled(
        interrupted_sends=len(interrupted),
        lapsed_approvals=lapsed,
        unsent_conversations=len(unsent),
        settled_activities=len(held),
        released_replies=released,
    )


def _settled(activity_id: str, state: MessageState) -> Ending:
    if state in ACCEPTED_STATES:
        final, reason = ActivityState.EXECUTED, "accepted"
    elif state is MessageState.FAILED:
        final, reason = ActivityState.FAILED, "turn_failed"
    else:
        final, reason = ActivityState.UNKNOWN, "interrupted"
    return Ending(activity_id, final, reason)
