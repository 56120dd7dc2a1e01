"""Performing a cycle's approved actions (MARCAR_LIDO and the like), which are no sends.

Holds: :class:`Performing`. Do not add: an action (``activities``), sends (``send``).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from warmup_pipeline.domain.values import ActivityState, FailureClass
from warmup_pipeline.gateways.base import GatewayError
from warmup_pipeline.gateways.hub import GatewayHub
from warmup_pipeline.store import activities, validations
from warmup_pipeline.store.activities import Ending
from warmup_pipeline.store.cycles import Cycle
from warmup_pipeline.store.validations import Approval
from warmup_pipeline.warmup.activities.registry import Work
from warmup_pipeline.warmup.approved import Approved, Tally, say_safely
from warmup_pipeline.warmup.gateway_step import channel_of, run_together
from warmup_pipeline.warmup.lifecycle import hold_pool
from warmup_pipeline.warmup.wanted import Wanted
from warmup_pipeline.warmup.withdrawing import why_not_begun
from warmup_pipeline.warmup.world import World

Aside = Callable[[Callable[[], None]], Awaitable[None]]
"""Does what waits for the database, while the gateways are listened to."""


@dataclass(frozen=True, slots=True)
class _NotBegun:
    """An action that no request was made for."""

    reason: str


class Performing:
    """Performs a cycle's actions.

    Args:
        world: what the cycle works with.
        cycle: the cycle.
        approved: what its sending step works on.
        wanted: whether calls may begin still.
        tally: is told how actions ended.
    """

    def __init__(self, world: World, cycle: Cycle, approved: Approved, wanted: Wanted, tally: Tally) -> None:
        self._world = world
        self._cycle = cycle
        self._approved = approved
        self._wanted = wanted
        self._tally = tally
        self._phones = {chip.id: chip.phone for chip in approved.standing.chips.values()}

    async def perform(
        self, hub: GatewayHub, actions: Sequence[Approval], aside: Aside
    ) -> dict[str, list[Approval]]:
        """Perform actions, concurrently across chips; returns those that were certainly not begun, by reason.

        Args:
            hub: the gateways, open.
            actions: those that were wanted a moment ago.
            aside: does what waits for the database.
        """
        if not actions:
            return {}
        await aside(lambda: self._spend(actions))
        work = self._approved.work
        something = [a for a in actions if work.get(a.sender_chip_id)]
        chips = self._approved.standing.chips
        results = await run_together(
            something, lambda a: self._act(hub, a), lane=lambda a: chips[a.sender_chip_id].provider
        )
        endings = [self._nothing_to_do(a) for a in actions if not work.get(a.sender_chip_id)]
        done: dict[str, dict[str, Sequence[Any]]] = {}
        not_begun: dict[str, list[Approval]] = {}
        failures: list[tuple[Approval, Exception, Ending]] = []
        for approval, result in zip(something, results, strict=True):
            if isinstance(result, _NotBegun):
                not_begun.setdefault(result.reason, []).append(approval)
            elif result is not None:
                failures.append((approval, result, self._failed(approval, result)))
            else:
                of_type = done.setdefault(self._type_of(approval), {})
                of_type[approval.sender_chip_id] = work[approval.sender_chip_id]
                endings.append(Ending(approval.activity_id or "", ActivityState.EXECUTED, "accepted"))
        endings += [ending for *_, ending in failures]
        await aside(lambda: self._record(done, endings))
        self._tally.actions.update(ending.state.value for ending in endings)
        for failure in failures:
            self._say_failure(*failure)
        return not_begun

    def _spend(self, actions: Sequence[Approval]) -> None:
        with self._world.store.write() as tx:
            hold_pool(self._world, tx, self._cycle)
            validations.spend(tx, [a.id for a in actions], at=self._cycle.tick)

    def _record(self, done: Mapping[str, Mapping[str, Sequence[Any]]], endings: Sequence[Ending]) -> None:
        with self._world.store.write() as tx:
            tx.lock_pool(self._cycle.pool)
            for name, items in done.items():
                self._world.activities.actions[name].record(tx, items, at=self._cycle.tick)
            activities.finish(tx, endings, cycle_id=self._cycle.id, at=self._cycle.tick)

    async def _act(self, hub: GatewayHub, approval: Approval) -> _NotBegun | None:
        """Ask the chip's gateway for an action."""
        chip = self._approved.standing.chips[approval.sender_chip_id]
        channel, gateway = channel_of(chip), hub.gateway(chip.provider)
        work = Work(channel, self._approved.work[chip.id], self._cycle.tick)
        action = self._world.activities.actions[self._type_of(approval)]
        try:
            await action.perform(gateway, work, self._phones)
        except GatewayError as error:
            if error.attempts == 0:
                stopped = self._wanted.why_not(chip.id, gateway.server_of(channel))
                return _NotBegun(stopped or why_not_begun(error))
            self._wanted.failed(error)
            raise
        return None

    def _type_of(self, approval: Approval) -> str:
        """Return an action's activity type."""
        return self._approved.held[approval.activity_id or ""].type

    def _nothing_to_do(self, approval: Approval) -> Ending:
        """Return how an action ends for which there was nothing to do."""
        reason = self._world.activities.actions[self._type_of(approval)].nothing_reason
        return Ending(approval.activity_id or "", ActivityState.NOTHING_TO_DO, reason)

    def _failed(self, approval: Approval, error: Exception) -> Ending:
        """Return how an action ends that failed."""
        if isinstance(error, GatewayError):
            reason = error.failure.value
        else:
            reason = "our_own_bug"
            self._tally.bugs.append(error)
        state = ActivityState.UNKNOWN if reason == FailureClass.UNKNOWN else ActivityState.FAILED
        return Ending(approval.activity_id or "", state, reason, self._world.redactor.traceback(error))

    def _say_failure(self, approval: Approval, error: Exception, ending: Ending) -> None:
        """Tell the operator where and how an action failed."""
        last4 = self._approved.standing.chips[approval.sender_chip_id].last4
        title = f"…{last4}: {self._type_of(approval)} failed ({ending.reason})"
        self._tally.notes.append(title)
        said = f"{title}: {self._world.redactor.text(str(error))}"
        say_safely(self._tally, partial(self._world.log.failure, said, ending.traceback or ""))
