"""The sixth step: send what was approved, and record what happened.

Holds: :func:`send_messages`. Protocol (docs/send-protocol.md has the whole of it):

1. Approvals are spent and messages written down as ``sending`` in one transaction, a batch at a
   time, before any HTTP call of the batch begins. A message without an approval cannot be written.
   Whether sending is switched off is asked before each batch and every second.
2. Calls go out concurrently; a batch is written down while the one before is out, so that neither a slow
   instance nor the database delays anybody else. An outcome is recorded at least every second or 500 outcomes.
3. What could not be begun (the gateway went down, the cycle is near its end, sending was switched off, the run
   was interrupted; asked of each call when its turn has come) is withdrawn: its message row is removed, its
   approval lapses, its activity is due again.
4. A bug in our own code stops nothing else: the step finishes the rest, then fails with every
   traceback.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, Final, TypeVar

from warmup_pipeline.domain.values import (
    ActivityState,
    FailureClass,
    MessageKind,
    MessageState,
    Phase,
)
from warmup_pipeline.gateways.base import Content, GatewayError, Trace
from warmup_pipeline.gateways.hub import GatewayHub
from warmup_pipeline.store import activities as activity_store
from warmup_pipeline.store import conversations, message_writes, validations
from warmup_pipeline.store.activities import Ending
from warmup_pipeline.store.chips import Chip
from warmup_pipeline.store.cycles import Cycle
from warmup_pipeline.store.engine import ROWS_PER_STATEMENT
from warmup_pipeline.store.validations import Approval
from warmup_pipeline.warmup.approved import Approved, Tally, load_approved
from warmup_pipeline.warmup.gateway_step import (
    aside,
    channel_of,
    is_interruption,
    open_hub,
    run_in_loop,
    seconds_left,
    to_its_end,
)
from warmup_pipeline.warmup.lifecycle import hold_pool
from warmup_pipeline.warmup.noting import Noting, Unnoted
from warmup_pipeline.warmup.outcomes import Outcome, message_id
from warmup_pipeline.warmup.performing import Performing
from warmup_pipeline.warmup.wanted import Wanted
from warmup_pipeline.warmup.withdrawing import OUT_OF_TIME, why_not_begun, withdraw
from warmup_pipeline.warmup.world import StepReport, World

ResultT = TypeVar("ResultT")

NEXT_BATCH_AT: Final = ROWS_PER_STATEMENT
"""Calls that may still be out when the next batch is written down: so many that some are while it is."""


def send_messages(world: World, cycle: Cycle) -> StepReport:
    """Send what this cycle approved and perform its actions.

    Raises:
        ExceptionGroup: our own code raised; everything else was sent and recorded all the same.
    """
    approved = load_approved(world, cycle)
    tally = Tally()
    if approved.sends or approved.actions:
        try:
            run_in_loop(world, _Sender(world, cycle, approved, tally).run())
        except Exception as error:
            if not tally.bugs:
                raise
            raise ExceptionGroup("sending failed, and our own code besides", [error, *tally.bugs]) from None
    if tally.bugs:
        raise ExceptionGroup(f"{len(tally.bugs)} of this step's sends failed in our own code", tally.bugs)
    return StepReport(
        {
            "sent": tally.sent,
            "failed": sum(tally.failed.values()),
            "unknown": tally.unknown,
            "success_rate": tally.success_rate,
            "withdrawn": sum(tally.withdrawn.values()),
            "failed_by_class": dict(tally.failed),
            "withdrawn_by_reason": dict(tally.withdrawn),
            "actions": dict(tally.actions),
        },
        tuple(tally.notes[:10]),
    )


class _UnderWay:
    """The calls that are out."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[None]] = set()
        self._problems: list[BaseException] = []
        self._few = asyncio.Event()

    def begin(self, call: Coroutine[Any, Any, None]) -> None:
        """Let a call go out."""
        task = asyncio.create_task(call)
        self._tasks.add(task)
        task.add_done_callback(self._end)

    def _end(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        problem = asyncio.CancelledError() if task.cancelled() else task.exception()
        if problem is not None:
            self._problems.append(problem)
        if len(self._tasks) <= NEXT_BATCH_AT:
            self._few.set()

    async def until_few(self) -> None:
        """Wait until so few are out that the next batch may begin."""
        if len(self._tasks) > NEXT_BATCH_AT:
            self._few.clear()
            await self._few.wait()

    async def ended(self) -> list[BaseException]:
        """Wait until none is out; returns what went wrong with any, in order of its end."""
        if self._tasks:
            await asyncio.wait(self._tasks)
        return self._problems


def _raise_them(problems: Sequence[BaseException]) -> None:
    """Raise what went wrong, if anything did: an interruption as it came, one trouble met often as the one it is."""
    for problem in problems:
        if is_interruption(problem):
            raise problem
    if len({type(problem) for problem in problems}) == 1:
        raise problems[0]
    if problems:
        raise BaseExceptionGroup("sending failed", problems)


class _Sender:
    """Sends one cycle's approvals, a batch at a time, in one event loop."""

    def __init__(self, world: World, cycle: Cycle, approved: Approved, tally: Tally) -> None:
        self._world = world
        self._cycle = cycle
        self._approved = approved
        self._tally = tally
        self._wanted = Wanted(world, cycle)
        self._phones = {chip.id: chip.phone for chip in approved.standing.chips.values()}
        self._database = asyncio.Lock()
        self._noting = Noting(world, cycle, approved, tally, self._database, self._wanted.ask_switches)

    async def run(self) -> None:
        """Send everything, then perform the actions.

        Raises:
            asyncio.CancelledError: the run is to end; told when what was out has come back and is noted. What went
                wrong by then is its cause.
        """
        async with open_hub(self._world, self._cycle, may_begin=self._wanted.may_begin) as hub:
            # No call is cut off in its middle, and what is written down is begun, or withdrawn.
            await to_its_end(self._world, self._all(hub), cut_off=self._wanted.interrupt)

    async def _all(self, hub: GatewayHub) -> None:
        problems: list[BaseException] = []
        noting = asyncio.create_task(self._noting.now_and_then())
        try:
            problems += await self._send_all(hub)
            if all(isinstance(problem, Unnoted) for problem in problems):
                # One outcome's own trouble keeps nothing else from going on.
                await self._act(hub)
        except Exception as error:  # noqa: BLE001 (raised below, with whatever else went wrong)
            problems.append(error)
        except asyncio.CancelledError:
            # All is given up: what is known by now is noted all the same, if it can be.
            await self._noting.if_possible()
            raise
        finally:
            self._noting.stop()
            ended = await asyncio.gather(noting, return_exceptions=True)
            problems += [error for error in ended if isinstance(error, BaseException)]
        _raise_them(problems)

    async def _aside(self, work: Callable[[], ResultT]) -> ResultT:
        """Do what waits for the database, one thing at a time, while the gateways are listened to."""
        # Two would only wait for each other there: each holds the pool.
        async with self._database:
            return await aside(self._world, work)

    async def _act(self, hub: GatewayHub) -> None:
        """Perform the actions that are wanted still."""
        wanted = await self._still_wanted(hub, list(self._approved.actions))
        performing = Performing(self._world, self._cycle, self._approved, self._wanted, self._tally)
        not_begun = await performing.perform(hub, wanted, self._aside)
        for reason, some in sorted(not_begun.items()):
            await self._withdraw(some, reason)

    # -- sends ---------------------------------------------------------------------------------

    async def _send_all(self, hub: GatewayHub) -> list[BaseException]:
        """Send batch by batch, and note what came of it; returns what went wrong.

        The next batch begins while calls of the one before are still out: so one slow instance holds up nobody
        but itself.
        """
        sends = self._approved.sends
        calls = _UnderWay()
        problems: list[BaseException] = []
        try:
            for start in range(0, len(sends), ROWS_PER_STATEMENT):
                await calls.until_few()
                if self._wanted.interrupted:
                    # Nothing of it is written down: the next cycle's reconciler frees it.
                    break
                await self._begin_batch(hub, sends[start : start + ROWS_PER_STATEMENT], calls)
        except Exception as error:  # noqa: BLE001 (returned, with whatever else went wrong)
            problems.append(error)
        problems += await calls.ended()
        try:
            await self._noting.for_good()
        except Exception as error:  # noqa: BLE001 (returned with the rest)
            problems.append(error)
        return problems

    async def _begin_batch(self, hub: GatewayHub, batch: Sequence[Approval], calls: _UnderWay) -> None:
        wanted = await self._still_wanted(hub, batch)
        if not wanted:
            return
        ready, broken = self._compose(wanted)
        await self._aside(lambda: self._write_down(hub, ready))
        for approval, content, *_ in ready:
            calls.begin(self._send_one(hub, approval, content))
        for approval, error in broken:
            await self._bug_before_sending(approval, error)

    async def _still_wanted(self, hub: GatewayHub, batch: Sequence[Approval]) -> list[Approval]:
        """Return what may still go; withdraw the rest. Asked before every batch."""
        if seconds_left(self._world, self._cycle) <= 0:
            await self._withdraw(batch, OUT_OF_TIME)
            return []
        await self._aside(self._wanted.ask_switches)
        by_reason: dict[str | None, list[Approval]] = {None: []}
        for approval in batch:
            why = self._wanted.why_not(approval.sender_chip_id, self._server_of(hub, approval))
            by_reason.setdefault(why, []).append(approval)
        wanted = by_reason.pop(None)
        for reason, some in by_reason.items():
            await self._withdraw(some, reason or "")
        return wanted

    def _server_of(self, hub: GatewayHub, approval: Approval) -> str:
        chip = self._approved.standing.chips[approval.sender_chip_id]
        return hub.gateway(chip.provider).server_of(channel_of(chip))

    def _compose(
        self, batch: Sequence[Approval]
    ) -> tuple[list[tuple[Approval, Content, MessageKind, str | None]], list[tuple[Approval, Exception]]]:
        ready: list[tuple[Approval, Content, MessageKind, str | None]] = []
        broken: list[tuple[Approval, Exception]] = []
        for approval in batch:
            try:
                ready.append((approval, *self._content(approval)))
            except Exception as error:  # noqa: BLE001 (one turn's bug must not stop the others; it is raised at the end)
                broken.append((approval, error))
        return ready, broken

    def _content(self, approval: Approval) -> tuple[Content, MessageKind, str | None]:
        conversation = self._approved.standing.conversations[approval.conversation_id or ""]
        turn = approval.turn or 1
        if turn == 1:
            activity = self._approved.held[approval.activity_id or ""]
            opening = self._world.activities.openings[activity.type]
            return opening.first_turn(self._world.library, conversation.dialogue_id, seed=conversation.id)
        return self._world.library.content(conversation.dialogue_id, turn, seed=conversation.id)

    def _write_down(
        self, hub: GatewayHub, ready: Sequence[tuple[Approval, Content, MessageKind, str | None]]
    ) -> None:
        rows = []
        for approval, _, kind, media in ready:
            chip = self._approved.standing.chips[approval.sender_chip_id]
            rows.append(
                {
                    "id": message_id(approval),
                    "pool": self._cycle.pool,
                    "cycle_id": self._cycle.id,
                    "approval_id": approval.id,
                    "conversation_id": approval.conversation_id,
                    "turn": approval.turn,
                    "activity_id": approval.activity_id,
                    "sender_chip_id": approval.sender_chip_id,
                    "recipient_chip_id": approval.recipient_chip_id,
                    "provider": chip.provider,
                    "kind": kind,
                    "media": media,
                    "phase": Phase(approval.phase),
                    "state": MessageState.SENDING,
                    "sent_at": approval.at,
                    "sent_day": self._cycle.day,
                    "confirmable": self._can_be_confirmed(hub, chip, approval.recipient_chip_id),
                }
            )
        with self._world.store.write() as tx:
            hold_pool(self._world, tx, self._cycle)
            validations.spend(tx, [approval.id for approval, *_ in ready], at=self._cycle.tick)
            message_writes.insert(tx, rows)

    def _can_be_confirmed(self, hub: GatewayHub, sender: Chip, recipient_id: str | None) -> bool:
        """Whether either end's gateway can be asked, or the sender's tells by itself."""
        recipient = self._approved.standing.chips.get(recipient_id or "")
        asked = [sender.provider, *([] if recipient is None else [recipient.provider])]
        polled = any(hub.gateway(provider).polls_confirmations for provider in asked)
        return polled or sender.id in self._approved.tell_receipts

    async def _send_one(self, hub: GatewayHub, approval: Approval, content: Content) -> None:
        chip = self._approved.standing.chips[approval.sender_chip_id]
        gateway = hub.gateway(chip.provider)
        channel = channel_of(chip)
        trace = Trace(
            message_id(approval), approval.conversation_id or "", approval.turn or 1, self._cycle.tick
        )
        try:
            accepted = await gateway.send(
                channel, self._phones[approval.recipient_chip_id or ""], content, trace
            )
        except GatewayError as error:
            if error.attempts == 0:
                stopped = self._wanted.why_not(chip.id, gateway.server_of(channel))
                self._noting.ended(Outcome(approval, withdrawn=stopped or why_not_begun(error)))
                return
            self._wanted.failed(error)
            self._noting.ended(
                Outcome(approval, error=error, traceback=self._world.redactor.traceback(error))
            )
        except Exception as error:  # noqa: BLE001 (our own bug: recorded, and raised when the rest is done)
            self._tally.bugs.append(error)
            self._noting.ended(Outcome(approval, bug=error, traceback=self._world.redactor.traceback(error)))
        else:
            self._noting.ended(Outcome(approval, accepted=accepted))

    async def _bug_before_sending(self, approval: Approval, error: Exception) -> None:
        """Our own code raised while a turn was being made: nothing was sent, nobody's fault but ours."""
        traceback = self._world.redactor.traceback(error)
        self._tally.bugs.append(error)
        self._tally.failed[FailureClass.BUG.value] += 1
        last4 = self._approved.standing.chips[approval.sender_chip_id].last4
        self._world.log.failure(f"…{last4}: making a turn failed in our own code", traceback)
        await self._aside(lambda: self._take_back_broken(approval, traceback))

    def _take_back_broken(self, approval: Approval, traceback: str) -> None:
        with self._world.store.write() as tx:
            validations.lapse(tx, [approval.id])
            conversations.close(tx, {approval.conversation_id or "": "our_own_bug"}, at=self._cycle.tick)
            if approval.activity_id is not None:
                ending = Ending(approval.activity_id, ActivityState.FAILED, "our_own_bug", traceback)
                activity_store.finish(tx, [ending], cycle_id=self._cycle.id, at=self._cycle.tick)
            pair = self._approved.standing.pairs.get(approval.conversation_id or "")
            if pair is not None and pair.partner_activity_id is not None:
                activity_store.release(tx, [pair.partner_activity_id])

    async def _withdraw(self, approvals: Sequence[Approval], reason: str) -> None:
        """Take back what was certainly not begun."""
        if approvals:
            text = await self._aside(
                lambda: withdraw(self._world, self._cycle, self._approved, approvals, reason)
            )
            self._tally.withdrawn[reason] += len(approvals)
            self._noting.say(text)
