"""What one cycle did, read back from the log.

Holds: :func:`facts_of_cycle`, for the summary that ``warmup cycle`` prints. Do not add: the cycle's
own row (``cycles``).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import sqlalchemy as sa

from warmup_pipeline.domain.values import ACCEPTED_STATES, Decision, MessageState
from warmup_pipeline.store.engine import Transaction
from warmup_pipeline.store.schema import messages, pairings, phase_transitions
from warmup_pipeline.store.validations import counts_of_cycle


@dataclass(frozen=True, slots=True)
class CycleFacts:
    """What a cycle judged and did.

    Attributes:
        claimed: openings, replies and actions it held.
        approved: those that validation approved.
        deferred: how many it deferred, by reason code.
        blocked: how many it blocked, by reason code.
        sent: messages accepted.
        failed: messages certainly not accepted.
        unknown: messages whose outcome is not known.
        transitions: phase changes.
    """

    claimed: int
    approved: int
    deferred: Mapping[str, int]
    blocked: Mapping[str, int]
    sent: int
    failed: int
    unknown: int
    transitions: int


def facts_of_cycle(tx: Transaction, cycle_id: str) -> CycleFacts:
    """Return what a cycle did."""
    judged = counts_of_cycle(tx, cycle_id)
    deferred: dict[str, int] = {}
    blocked: dict[str, int] = {}
    for decision, reason, _, count in judged:
        if decision == Decision.DEFER:
            deferred[reason or ""] = deferred.get(reason or "", 0) + count
        elif decision == Decision.BLOCK:
            blocked[reason or ""] = blocked.get(reason or "", 0) + count
    # The other side of a pair had an opening due, too: one send serves both.
    served = sa.select(sa.func.count()).where(
        pairings.c.cycle_id == cycle_id, pairings.c.partner_activity_id.is_not(None)
    )
    by_state = {
        MessageState(row[0]): int(row[1])
        for row in tx.connection.execute(
            sa.select(messages.c.state, sa.func.count())
            .where(messages.c.cycle_id == cycle_id)
            .group_by(messages.c.state)
        ).all()
    }
    moved = sa.select(sa.func.count()).where(phase_transitions.c.cycle_id == cycle_id)
    return CycleFacts(
        claimed=sum(count for *_, count in judged) + int(tx.connection.execute(served).scalar_one()),
        approved=sum(count for decision, _, _, count in judged if decision == Decision.APPROVE),
        deferred=deferred,
        blocked=blocked,
        sent=sum(count for state, count in by_state.items() if state in ACCEPTED_STATES),
        failed=by_state.get(MessageState.FAILED, 0),
        unknown=by_state.get(MessageState.UNKNOWN, 0) + by_state.get(MessageState.SENDING, 0),
        transitions=int(tx.connection.execute(moved).scalar_one()),
    )
