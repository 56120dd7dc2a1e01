"""The first step: is each chip reachable, and can one that is down be brought back?

Holds: :func:`refresh_connections`: asking every observed chip's gateway for its state, one
recovery attempt where one is due, asking about deliveries not yet confirmed, and what a return
means for breaker, cooldown and errors. Source: domain.md, "The cycle", step 1, and "Confirmed, not
just accepted".
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from itertools import groupby
from typing import Any, Final

from warmup_pipeline.domain.circuit import CLOSED
from warmup_pipeline.domain.values import (
    CONFIRMED_STATES,
    LISTENER_ROLE,
    MESSAGE_SCALE,
    OBSERVED_STATUSES,
    ConnectionState,
    FailureClass,
    MessageState,
)
from warmup_pipeline.gateways.base import Channel, GatewayError, Observation, Recovery
from warmup_pipeline.gateways.hub import GatewayHub
from warmup_pipeline.store import chips, connections, messages
from warmup_pipeline.store.chips import Chip
from warmup_pipeline.store.connections import Connection
from warmup_pipeline.store.cycles import Cycle
from warmup_pipeline.store.engine import Transaction
from warmup_pipeline.store.messages import Unconfirmed
from warmup_pipeline.warmup.gateway_step import channel_of, open_hub, run_together
from warmup_pipeline.warmup.world import StepReport, World

RECOVER_EVERY: Final = timedelta(minutes=15)
RECOVER_SELDOM: Final = timedelta(hours=1)
FREQUENT_ATTEMPTS: Final = 4
"""Attempts at the shorter pace: after an hour of trying, one an hour."""

ASK_ABOUT_FOR: Final = timedelta(hours=24)
"""How long a delivery is asked about."""

DISCONNECTION: Final = "disconnected"
"""Reason code of a cooldown that a disconnection caused: it ends when the chip is back."""


@dataclass(frozen=True, slots=True)
class _Seen:
    """What was learned of one chip."""

    chip: Chip
    observation: Observation | None = None
    recovery: Recovery | None = None
    error: GatewayError | None = None
    recovery_error: GatewayError | None = None
    deliveries: Mapping[str, MessageState] | None = None


def recovery_is_due(known: Connection | None, at: datetime) -> bool:
    """Whether a recovery attempt may be made: one per 15 minutes, later one per hour."""
    return known is None or known.next_recovery_at is None or known.next_recovery_at <= at


def next_recovery(attempts: int, at: datetime) -> datetime:
    """Return when the next attempt may follow the ``attempts``-th."""
    return at + (RECOVER_EVERY if attempts < FREQUENT_ATTEMPTS else RECOVER_SELDOM)


class _Watch:
    """Asks the gateways about all chips of a cycle."""

    def __init__(
        self,
        hub: GatewayHub,
        cycle: Cycle,
        known: Mapping[str, Connection],
        unconfirmed: Mapping[str, Sequence[Unconfirmed]],
    ) -> None:
        self._hub = hub
        self._cycle = cycle
        self._known = known
        self._unconfirmed = unconfirmed

    async def look_at(self, chip: Chip) -> _Seen:
        """Ask for the state; recover where it is down and due; ask about deliveries."""
        channel = channel_of(chip)
        gateway = self._hub.gateway(chip.provider)
        try:
            observation = await gateway.connection_state(channel)
        except GatewayError as error:
            return _Seen(chip, error=error)
        recovery, recovery_error = None, None
        down = observation.state in (ConnectionState.CLOSED, ConnectionState.CONNECTING)
        if down and recovery_is_due(self._known.get(chip.id), self._cycle.tick):
            try:
                recovery = await gateway.recover(channel, observation.state)
                if recovery.taken:
                    # A session with its credentials comes back at once; one that does not is looked at
                    # again by the next cycle.
                    observation = await gateway.connection_state(channel)
            except GatewayError as error:
                recovery_error = error
        deliveries = None
        waiting = self._unconfirmed.get(chip.id)
        if waiting and gateway.polls_confirmations:
            deliveries = await self._ask_about(channel, waiting)
        return _Seen(chip, observation, recovery, None, recovery_error, deliveries)

    async def _ask_about(
        self, channel: Channel, waiting: Sequence[Unconfirmed]
    ) -> Mapping[str, MessageState] | None:
        gateway = self._hub.gateway(channel.provider)
        # The gateway keeps whole seconds, and its clock need not be ours.
        since = waiting[0].sent_at - timedelta(minutes=5)
        until = self._cycle.tick + timedelta(minutes=10)
        try:
            return await gateway.delivery_states(channel, since, until)
        except GatewayError:
            # Nothing is lost: the next cycle asks again, and the state call above reports a gateway
            # that does not answer.
            return None


async def _look(
    world: World,
    cycle: Cycle,
    observed: Sequence[Chip],
    known: Mapping[str, Connection],
    unconfirmed: Mapping[str, Sequence[Unconfirmed]],
) -> list[_Seen | BaseException]:
    async with open_hub(world, cycle) as hub:
        watch = _Watch(hub, cycle, known, unconfirmed)
        return await run_together(observed, watch.look_at)


def refresh_connections(world: World, cycle: Cycle) -> StepReport:
    """Observe every participating or degraded chip, recover what is down, confirm deliveries.

    Raises:
        ExceptionGroup: our own code raised for some chips; the others were dealt with.
    """
    with world.store.read() as tx:
        observed = [
            chip
            for chip in chips.of_pool(tx, cycle.pool, statuses=OBSERVED_STATUSES)
            if chip.role != LISTENER_ROLE
        ]
        known = connections.of_pool(tx, cycle.pool)
        waiting = messages.unconfirmed(tx, cycle.pool, since=cycle.tick - ASK_ABOUT_FOR)
    unconfirmed = {key: list(group) for key, group in groupby(waiting, key=lambda m: m.sender_chip_id)}
    results = asyncio.run(_look(world, cycle, observed, known, unconfirmed))
    seen = [result for result in results if isinstance(result, _Seen)]
    bugs = [result for result in results if isinstance(result, Exception)]
    with world.store.write() as tx:
        tx.lock_pool(cycle.pool)
        known = connections.of_pool(tx, cycle.pool)
        rows = [_connection_after(world, cycle, one, known.get(one.chip.id)) for one in seen]
        connections.store(tx, rows)
        returned = [
            one.chip
            for one, row in zip(seen, rows, strict=True)
            if row.recovered_at == cycle.tick and row.state is ConnectionState.OPEN
        ]
        _welcome_back(tx, cycle, returned)
        confirmed, late_failures = _confirm(tx, cycle, seen, unconfirmed)
    report = _report(world, rows, seen, returned, confirmed, late_failures)
    _log(world, seen)
    if bugs:
        for bug in bugs:
            world.log.failure(
                "Looking at a chip's connection failed in our own code", world.redactor.traceback(bug)
            )
        raise ExceptionGroup("looking at connections failed in our own code", bugs)
    return report


def _connection_after(world: World, cycle: Cycle, one: _Seen, known: Connection | None) -> Connection:
    tick = cycle.tick
    before = known or Connection(
        chip_id=one.chip.id,
        pool=cycle.pool,
        state=ConnectionState.UNKNOWN,
        since=tick,
        observed_at=None,
        asked_at=tick,
        detail="",
        needs_person=None,
        recovery_attempts=0,
        last_recovery_at=None,
        last_recovery_action=None,
        last_recovery_detail=None,
        next_recovery_at=None,
        recovered_at=None,
        last_error_at=None,
        gateway_error=None,
        gateway_error_cycle_id=None,
    )
    if one.observation is None:
        error = one.error
        own = error is not None and error.failure is not FailureClass.GATEWAY
        return replace(
            before,
            asked_at=tick,
            detail=str(error),
            # Trouble of the gateway is no chip's fault; the last definite state stands until it is stale.
            gateway_error=None if own else str(error),
            gateway_error_cycle_id=None if own else cycle.id,
        )
    observation = one.observation
    definite = observation.state is not ConnectionState.UNKNOWN
    state = observation.state if definite else before.state
    was_down = before.state in (ConnectionState.CLOSED, ConnectionState.CONNECTING)
    after = replace(
        before,
        asked_at=tick,
        state=state,
        since=tick if state is not before.state else before.since,
        observed_at=tick if definite else before.observed_at,
        detail=observation.detail,
        needs_person=observation.needs_person or (one.recovery.needs_person if one.recovery else None),
        gateway_error=None,
        gateway_error_cycle_id=None,
    )
    if one.recovery is not None or one.recovery_error is not None:
        attempts = before.recovery_attempts + 1
        action = one.recovery.action if one.recovery else "attempt"
        detail = one.recovery.detail if one.recovery else str(one.recovery_error)
        after = replace(
            after,
            recovery_attempts=attempts,
            last_recovery_at=tick,
            last_recovery_action=action,
            last_recovery_detail=world.redactor.text(detail),
            next_recovery_at=next_recovery(attempts, tick),
        )
    if after.state is ConnectionState.OPEN:
        came_back = was_down or one.recovery is not None
        after = replace(
            after,
            needs_person=None,
            recovery_attempts=0,
            next_recovery_at=None,
            recovered_at=tick if came_back else before.recovered_at,
            last_error_at=None if came_back else before.last_error_at,
        )
    return after


def _welcome_back(tx: Transaction, cycle: Cycle, returned: Sequence[Chip]) -> None:
    """Close the breakers of chips that came back, and end cooldowns that a disconnection caused."""
    open_breakers = chips.breakers(tx, cycle.pool)
    chips.set_breakers(tx, {chip.id: CLOSED for chip in returned if chip.id in open_breakers})
    chips.change(
        tx,
        [
            {"id": chip.id, "cooldown_until": None, "cooldown_reason": None}
            for chip in returned
            if chip.cooldown_reason == DISCONNECTION
        ],
    )


def _confirm(
    tx: Transaction, cycle: Cycle, seen: Sequence[_Seen], unconfirmed: Mapping[str, Sequence[Unconfirmed]]
) -> tuple[int, int]:
    """Move messages up their scale by what their gateway says; returns (confirmed, failed late)."""
    rank = {state: place for place, state in enumerate(MESSAGE_SCALE)}
    moved: list[dict[str, Any]] = []
    confirmed: list[dict[str, Any]] = []
    failed: list[dict[str, Any]] = []
    for one in seen:
        for message in unconfirmed.get(one.chip.id, ()):
            state = (one.deliveries or {}).get(message.gateway_message_id)
            if state is None:
                continue
            if state is MessageState.FAILED:
                failed.append(
                    {
                        "id": message.id,
                        "state": MessageState.FAILED,
                        "failure_class": FailureClass.TRANSIENT,
                        "failure_text": "the gateway reported ERROR after it had accepted the message",
                    }
                )
            elif rank.get(state, 0) > rank[message.state]:
                moved.append({"id": message.id, "state": state})
                if state in CONFIRMED_STATES:
                    confirmed.append({"id": message.id, "confirmed_at": cycle.tick})
    messages.change(tx, moved)
    messages.change(tx, confirmed)
    messages.change(tx, failed)
    return len(confirmed), len(failed)


def _report(
    world: World,
    rows: Sequence[Connection],
    seen: Sequence[_Seen],
    returned: Sequence[Chip],
    confirmed: int,
    late_failures: int,
) -> StepReport:
    shown = {one.chip.id: one.chip.last4 for one in seen}
    notes = [f"…{chip.last4} is back" for chip in returned]
    notes += [f"…{shown[row.chip_id]} needs a person: {row.needs_person}" for row in rows if row.needs_person]
    return StepReport(
        {
            "observed": len(rows),
            "connected": sum(row.state is ConnectionState.OPEN for row in rows),
            "recovery_attempts": sum(o.recovery is not None or o.recovery_error is not None for o in seen),
            "recovered": len(returned),
            "gateway_errors": sum(row.gateway_error is not None for row in rows),
            "confirmed": confirmed,
            "failed_late": late_failures,
        },
        tuple(world.redactor.text(note) for note in notes),
    )


def _log(world: World, seen: Sequence[_Seen]) -> None:
    for one in seen:
        for title, error in (("state", one.error), ("recovery", one.recovery_error)):
            if error is not None:
                world.log.failure(
                    f"…{one.chip.last4}: asking for {title} failed: {error}", world.redactor.traceback(error)
                )
