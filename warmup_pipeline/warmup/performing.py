"""Performing a cycle's approved actions (MARCAR_LIDO and the like), which are no sends.

Holds: :func:`perform`. Do not add: an action (``activities``), sends (``send``).
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from warmup_pipeline.domain.values import ActivityState, FailureClass
from warmup_pipeline.gateways.base import GatewayError
from warmup_pipeline.gateways.hub import GatewayHub
from warmup_pipeline.store import activities, validations
from warmup_pipeline.store.activities import Ending
from warmup_pipeline.store.cycles import Cycle
from warmup_pipeline.store.validations import Approval
from warmup_pipeline.warmup.activities.registry import Work
from warmup_pipeline.warmup.approved import Approved, Tally
from warmup_pipeline.warmup.gateway_step import channel_of
from warmup_pipeline.warmup.lifecycle import hold_pool
from warmup_pipeline.warmup.withdrawing import why_not_begun
from warmup_pipeline.warmup.world import World


async def perform(
    world: World,
    cycle: Cycle,
    hub: GatewayHub,
    approved: Approved,
    wanted: Sequence[Approval],
    tally: Tally,
) -> dict[str, list[Approval]]:
    """Perform actions, concurrently across chips; returns those that were certainly not begun, by reason.

    Args:
        world: what the cycle works with.
        cycle: the cycle.
        hub: the gateways, open.
        approved: what the sending step works on.
        wanted: the actions that may be performed still.
        tally: is told how they ended.
    """
    if not wanted:
        return {}
    phones = {chip.id: chip.phone for chip in approved.standing.chips.values()}
    performer = _Performer(world, cycle, approved, tally, phones)
    with world.store.write() as tx:
        hold_pool(world, tx, cycle)
        validations.spend(tx, [a.id for a in wanted], at=cycle.tick)
    something = [a for a in wanted if approved.work.get(a.sender_chip_id)]
    results = await asyncio.gather(*(performer.act(hub, a) for a in something), return_exceptions=True)
    endings = [performer.nothing_to_do(a) for a in wanted if not approved.work.get(a.sender_chip_id)]
    done: dict[str, dict[str, Sequence[Any]]] = {}
    not_begun: dict[str, list[Approval]] = {}
    for approval, result in zip(something, results, strict=True):
        if isinstance(result, GatewayError) and result.attempts == 0:
            not_begun.setdefault(why_not_begun(result), []).append(approval)
        elif result is not None:
            endings.append(performer.failed(approval, result))
        else:
            of_type = done.setdefault(performer.type_of(approval), {})
            of_type[approval.sender_chip_id] = approved.work[approval.sender_chip_id]
            endings.append(Ending(approval.activity_id or "", ActivityState.EXECUTED, "accepted"))
    with world.store.write() as tx:
        tx.lock_pool(cycle.pool)
        for name, items in done.items():
            world.activities.actions[name].record(tx, items, at=cycle.tick)
        activities.finish(tx, endings, cycle_id=cycle.id, at=cycle.tick)
    tally.actions.update(ending.state.value for ending in endings)
    return not_begun


@dataclass(frozen=True, slots=True)
class _Performer:
    """Performs single actions, and says how they ended."""

    world: World
    cycle: Cycle
    approved: Approved
    tally: Tally
    phones: Mapping[str, str]

    def type_of(self, approval: Approval) -> str:
        """Return an action's activity type."""
        return self.approved.held[approval.activity_id or ""].type

    async def act(self, hub: GatewayHub, approval: Approval) -> None:
        """Ask the chip's gateway for an action."""
        chip = self.approved.standing.chips[approval.sender_chip_id]
        work = Work(channel_of(chip), self.approved.work[chip.id], self.cycle.tick)
        action = self.world.activities.actions[self.type_of(approval)]
        await action.perform(hub.gateway(chip.provider), work, self.phones)

    def nothing_to_do(self, approval: Approval) -> Ending:
        """Return how an action ends for which there was nothing to do."""
        reason = self.world.activities.actions[self.type_of(approval)].nothing_reason
        return Ending(approval.activity_id or "", ActivityState.NOTHING_TO_DO, reason)

    def failed(self, approval: Approval, error: BaseException) -> Ending:
        """Return how an action ends that failed, and say so where the operator looks."""
        traceback = self.world.redactor.traceback(error)
        last4 = self.approved.standing.chips[approval.sender_chip_id].last4
        text = self.world.redactor.text(str(error))
        if isinstance(error, GatewayError):
            reason = error.failure.value
        elif isinstance(error, Exception):
            reason = "our_own_bug"
            self.tally.bugs.append(error)
        else:
            raise error
        name = self.type_of(approval)
        self.world.log.failure(f"…{last4}: {name} failed ({reason}): {text}", traceback)
        self.tally.notes.append(f"…{last4}: {name} failed ({reason})")
        state = ActivityState.UNKNOWN if reason == FailureClass.UNKNOWN else ActivityState.FAILED
        return Ending(approval.activity_id or "", state, reason, traceback)
