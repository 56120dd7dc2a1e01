"""The first step: is each chip reachable, and can one that is down be brought back?

Holds: :func:`refresh_connections`: what was learned of every observed chip is written down in one
transaction: its state and how it changed, what a recovery did, what its return means for breaker,
cooldown and errors, deliveries confirmed by polling and by webhook, and unknown messages resolved. Do
not add: asking the gateways (``watch``), what receipts and lists mean (``confirm``, ``resolve``), what
webhooks said (``hearing``).

Source: domain.md, "The cycle", step 1, and "Confirmed, not just accepted".
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from warmup_pipeline.domain.circuit import CLOSED, Circuit
from warmup_pipeline.domain.values import (
    LISTENER_ROLE,
    OBSERVED_STATUSES,
    CircuitState,
    ConnectionState,
    FailureClass,
    MessageState,
)
from warmup_pipeline.store import chips, connections, deliveries
from warmup_pipeline.store.chips import Chip
from warmup_pipeline.store.connections import Connection, Step
from warmup_pipeline.store.cycles import Cycle
from warmup_pipeline.store.engine import Transaction
from warmup_pipeline.store.inbox import SaidConnection
from warmup_pipeline.warmup.confirm import Confirmed, Receipt, apply_receipts
from warmup_pipeline.warmup.gateway_step import run_in_loop, to_its_end
from warmup_pipeline.warmup.hearing import Waiting, take_receipts, what_waits
from warmup_pipeline.warmup.lifecycle import hold_pool
from warmup_pipeline.warmup.resolve import (
    ASK_ABOUT_FOR,
    CLOCKS_DIFFER_BY,
    Finding,
    Question,
    Resolved,
    apply,
    judge,
    questions_of,
)
from warmup_pipeline.warmup.watch import ZOMBIE_AFTER, ZOMBIE_RESTART, Seen, Watch, Watched
from warmup_pipeline.warmup.world import StepReport, World

RECOVER_EVERY: Final = timedelta(minutes=15)
RECOVER_SELDOM: Final = timedelta(hours=1)
FREQUENT_ATTEMPTS: Final = 4
"""Attempts at the shorter pace: after an hour of trying, one an hour."""

DISCONNECTION: Final = "disconnected"
"""Reason code of a cooldown that a disconnection caused: it ends when the chip is back."""

_DEQUEUED: Final = "removed from the gateway's queue while the session was down: it never went"


def next_recovery(attempts: int, at: datetime) -> datetime:
    """Return when the next attempt may follow the ``attempts``-th."""
    return at + (RECOVER_EVERY if attempts < FREQUENT_ATTEMPTS else RECOVER_SELDOM)


def _soonest_recovery(last: datetime | None) -> datetime | None:
    """Return when a session that is back may be recovered again: one that flaps is not restarted each time."""
    return None if last is None else last + RECOVER_EVERY


@dataclass(frozen=True, slots=True)
class _Done:
    """What was written down."""

    seen: Sequence[Seen]
    rows: Sequence[Connection]
    returned: Sequence[Chip]
    confirmed: Confirmed
    resolved: Resolved
    told: int


@dataclass(frozen=True, slots=True)
class Looked:
    """What looking at the gateways showed, and what was waiting for it."""

    watched: Watched
    unknown: Sequence[Question]
    ours: set[str]
    heard: Waiting


def refresh_connections(world: World, cycle: Cycle) -> StepReport:
    """Observe every participating or degraded chip, recover what is down, confirm and resolve messages.

    Returns:
        The step's numbers; with ``bugs`` where our own code raised for some chips, which stay unobserved.

    Raises:
        BaseException: the run is to end. No other call began; what those that were out did and found is written down.
    """
    looking = _Looking(world, cycle, acts=True)

    async def look_and_write() -> StepReport:
        return take_up(world, cycle, await looking.look())

    return run_in_loop(world, to_its_end(world, look_and_write(), cut_off=looking.interrupt))


def look(world: World, cycle: Cycle) -> Looked:
    """Ask the gateways only: no session is recovered, no queue cleared, nothing written."""
    return run_in_loop(world, _Looking(world, cycle, acts=False).look())


class _Looking:
    """A look at a pool's chips: what is known of them is read at once, what the gateways say comes later.

    Args:
        world: what the step works with.
        cycle: the cycle.
        acts: recover sessions and clear queues; ``False`` asks only, and changes nothing at a gateway.
    """

    def __init__(self, world: World, cycle: Cycle, *, acts: bool) -> None:
        with world.store.read() as tx:
            everyone = {chip.id: chip for chip in chips.of_pool(tx, cycle.pool)}
            known = connections.of_pool(tx, cycle.pool)
            breakers = chips.breakers(tx, cycle.pool)
            since = cycle.tick - ASK_ABOUT_FOR
            waiting = deliveries.open_questions(tx, cycle.pool, since=since)
            silent = deliveries.silent_sends(
                tx,
                cycle.pool,
                since=since,
                until=cycle.tick - ZOMBIE_AFTER,
                recovered_at={chip_id: row.last_recovery_at for chip_id, row in known.items()},
            )
            questions = questions_of(world, cycle.tick, waiting, everyone)
            self._unknown = [question for question in questions if question.is_unknown]
            until = since - 2 * CLOCKS_DIFFER_BY
            self._ours = deliveries.known_ids(tx, cycle.pool, since=until) if self._unknown else set()
            self._heard = what_waits(
                tx,
                cycle.pool,
                unknown_at=(question.message.recipient_chip_id for question in self._unknown),
                at=cycle.tick,
            )
        observed = [c for c in everyone.values() if c.status in OBSERVED_STATUSES and c.role != LISTENER_ROLE]
        # Where a low rate lets not all of them be asked in time, it is not always the same ones that are left out.
        self._observed = sorted(observed, key=lambda chip: _asked_at(known.get(chip.id)))
        refused = [i for i, row in known.items() if _was_refused(row, breakers.get(i, CLOSED))]
        self._watch = Watch(
            world, cycle, everyone, known, questions, self._ours, silent, self._heard, refused, acts=acts
        )

    async def look(self) -> Looked:
        """Ask the gateways."""
        return Looked(await self._watch.look(self._observed), self._unknown, self._ours, self._heard)

    def interrupt(self) -> None:
        """Let no other call begin: the run is to end."""
        self._watch.interrupt()


def take_up(world: World, cycle: Cycle, looked: Looked) -> StepReport:
    """Write down what looking showed; see :func:`refresh_connections`."""
    watched, unknown, ours, heard = looked.watched, looked.unknown, looked.ours, looked.heard
    findings = judge(unknown, watched.asked.answers, ours) if unknown else []
    done = _write(world, cycle, watched, findings, heard)
    report = _report(world, watched, done, unknown)
    _log(world, watched, done, unknown)
    if watched.bugs:
        for bug in watched.bugs:
            world.log.failure(
                "Looking at a chip's connection failed in our own code", world.redactor.traceback(bug)
            )
    return replace(report, bugs=tuple(watched.bugs))


def _write(
    world: World, cycle: Cycle, watched: Watched, findings: Sequence[Finding], heard: Waiting
) -> _Done:
    said = heard.newest_connection()
    with world.store.write() as tx:
        hold_pool(world, tx, cycle)
        known = connections.of_pool(tx, cycle.pool)
        # Of one that was never asked, and told nothing by itself, there is nothing to write.
        seen = [s for s in watched.seen if not s.left_out or s.chip.id in known or s.chip.id in said]
        suspects = [row.chip_id for row in known.values() if row.last_recovery_action == ZOMBIE_RESTART]
        alive = deliveries.confirmed_since_recovery(tx, suspects)
        rows = [
            _shown(
                world,
                _connection_after(world, cycle, one, known.get(one.chip.id), alive, said.get(one.chip.id))
                if not one.left_out
                else _left_as_it_was(
                    cycle, one, known.get(one.chip.id), said.get(one.chip.id), heard.reopened
                ),
            )
            for one in seen
        ]
        connections.store(tx, rows)
        connections.note(tx, _history(world, cycle, seen, rows, known, heard))
        returned = [
            one.chip
            for one, row in zip(seen, rows, strict=True)
            if row.recovered_at == cycle.tick and row.state is ConnectionState.OPEN
        ]
        _welcome_back(tx, cycle, returned)
        gone = {i: one for one in seen if one.removed_while_down for i in one.removed}
        taken_out = [Receipt(i, MessageState.FAILED, _DEQUEUED, FailureClass.DISCONNECTED) for i in gone]
        told = take_receipts(tx, cycle.pool, heard, at=cycle.tick, now=world.now())
        receipts = [*watched.receipts, *taken_out, *told]
        confirmed = apply_receipts(tx, world, receipts, at=cycle.tick)
        settled = {finding.message_id for finding in findings}
        never = [Finding(i, None, _DEQUEUED) for i in gone if i not in settled]
        resolved = apply(tx, world, cycle, [*findings, *never])
    return _Done(seen, rows, returned, confirmed, resolved, len(told))


def _shown(world: World, row: Connection) -> Connection:
    """Return a row whose words may be shown: an instance may be named by its chip's number."""
    if row.needs_person is None:
        return row
    return replace(row, needs_person=world.redactor.text(row.needs_person))


def _closed_by_a_send(row: Connection) -> bool:
    """Whether a chip counts as disconnected only because a send was refused so.

    Its gateway may go on saying open; then it has not come back, for it was never away.
    """
    return row.state is ConnectionState.CLOSED and row.since == row.last_error_at == row.observed_at


def _asked_at(row: Connection | None) -> datetime:
    return datetime.min.replace(tzinfo=UTC) if row is None else row.asked_at


def _was_refused(row: Connection, breaker: Circuit) -> bool:
    """Whether sends were refused as disconnected one after the other, until the breaker opened by it."""
    return (
        breaker.state is CircuitState.OPEN
        and row.state is ConnectionState.CLOSED
        and row.since == row.last_error_at == breaker.opened_at
    )


def _history(
    world: World,
    cycle: Cycle,
    seen: Sequence[Seen],
    rows: Sequence[Connection],
    known: Mapping[str, Connection],
    heard: Waiting,
) -> list[Step]:
    """Return what this cycle adds to the history of connections: what changed, was tried, or was told."""
    steps = [
        Step(one.chip_id, cycle.pool, one.received_at, "webhook", one.state, one.words)
        for one in heard.connections
    ]
    for one, row in zip(seen, rows, strict=True):
        before = known.get(one.chip.id)
        if one.was is not None and (before is None or before.state is not one.was):
            steps.append(Step(row.chip_id, row.pool, cycle.tick, "asked", one.was, ""))
        tried = one.recovery or one.recovery_error
        if tried is not None:
            action = one.recovery.action if one.recovery else "attempt"
            words = f"{action}: {row.last_recovery_detail or 'taken'}"
            steps.append(Step(row.chip_id, row.pool, cycle.tick, "recovery", row.state, words))
        if before is None or before.state is not row.state:
            words = world.redactor.text(row.detail)
            steps.append(Step(row.chip_id, row.pool, cycle.tick, "asked", row.state, words))
    return steps


def _connection_after(
    world: World,
    cycle: Cycle,
    one: Seen,
    known: Connection | None,
    alive: Collection[str],
    said: SaidConnection | None,
) -> Connection:
    tick = cycle.tick
    before = known or _never_asked(cycle, one)
    if one.observation is None:
        error = one.error
        own = error is not None and error.failure is not FailureClass.GATEWAY
        return replace(
            _as_told(before, said, tick),
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
    was_away = was_down and not _closed_by_a_send(before)
    tried = _attempted(world, before, one, tick)
    after: dict[str, Any] = {
        "asked_at": tick,
        "state": state,
        "since": tick if state is not before.state else before.since,
        "observed_at": tick if definite else before.observed_at,
        "detail": observation.detail,
        "needs_person": observation.needs_person
        or (one.recovery.needs_person if one.recovery else None)
        # A final disconnection says why by webhook only (contract 1.16).
        or (said.needs_person if said is not None and said.state is state else None)
        # What the last attempt asked of a person stands until the next one.
        or (before.needs_person if was_down and one.recovery is None else None),
        "gateway_error": None,
        "gateway_error_cycle_id": None,
        **tried,
    }
    if state is ConnectionState.OPEN:
        came_back = was_away or one.recovery is not None
        action = tried.get("last_recovery_action", before.last_recovery_action)
        after |= {
            "needs_person": None,
            "recovered_at": tick if came_back else before.recovered_at,
            "last_error_at": None if came_back else before.last_error_at,
        }
        # A session that was dead though it said open is not alive because it says so.
        if action != ZOMBIE_RESTART or one.chip.id in alive:
            last = tried.get("last_recovery_at", before.last_recovery_at)
            after |= {"recovery_attempts": 0, "next_recovery_at": _soonest_recovery(last)}
    return replace(before, **after)


def _never_asked(cycle: Cycle, one: Seen) -> Connection:
    return Connection(
        chip_id=one.chip.id,
        pool=cycle.pool,
        state=ConnectionState.UNKNOWN,
        since=cycle.tick,
        observed_at=None,
        asked_at=cycle.tick,
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


def _as_told(before: Connection, said: SaidConnection | None, tick: datetime) -> Connection:
    """Return what is known of a chip that could not be asked: its gateway may have told since it last answered."""
    if said is None or (before.observed_at is not None and said.received_at <= before.observed_at):
        return before
    return replace(
        before,
        state=said.state,
        since=tick if said.state is not before.state else before.since,
        observed_at=said.received_at,
        needs_person=said.needs_person,
    )


def _left_as_it_was(
    cycle: Cycle, one: Seen, known: Connection | None, said: SaidConnection | None, reopened: Collection[str]
) -> Connection:
    """Return what is known of a chip that was left out: what its gateway told by itself, and that it keeps its turn."""
    before = known or _never_asked(cycle, one)
    is_back = said is not None and said.state is ConnectionState.OPEN
    # One that came back is so once it is asked: its number and its queue are looked at then.
    row = before if is_back else _as_told(before, said, cycle.tick)
    if known is None or one.chip.id in reopened:
        # Its number is asked for again, as on a new day.
        row = replace(row, asked_at=cycle.tick - timedelta(days=1))
    return row


def _attempted(world: World, before: Connection, one: Seen, tick: datetime) -> dict[str, Any]:
    """Return what an attempt to bring a session back changes; nothing where none was made."""
    if one.recovery is None and one.recovery_error is None:
        return {}
    attempts = before.recovery_attempts + 1
    detail = one.recovery.detail if one.recovery else str(one.recovery_error)
    return {
        "recovery_attempts": attempts,
        "last_recovery_at": tick,
        "last_recovery_action": one.recovery.action if one.recovery else "attempt",
        "last_recovery_detail": world.redactor.text(detail),
        "next_recovery_at": next_recovery(attempts, tick),
    }


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


def _report(world: World, watched: Watched, done: _Done, unknown: Sequence[Question]) -> StepReport:
    seen, rows = watched.seen, done.rows
    shown = {one.chip.id: one.chip.last4 for one in seen}
    notes = [f"…{chip.last4} is back" for chip in done.returned]
    notes += [f"…{shown[row.chip_id]} needs a person: {row.needs_person}" for row in rows if row.needs_person]
    return StepReport(
        {
            "observed": sum(not one.left_out for one in seen),
            "left_out": sum(one.left_out for one in seen),
            "connected": sum(row.state is ConnectionState.OPEN for row in rows),
            "recovery_attempts": sum(o.recovery is not None or o.recovery_error is not None for o in seen),
            "recovered": len(done.returned),
            "zombies": sum(one.is_zombie for one in seen),
            "wrong_numbers": sum(one.wrong_number for one in seen),
            "removed_from_queues": sum(len(one.removed) for one in seen),
            "gateway_errors": sum(row.gateway_error is not None for row in rows),
            "webhook_receipts": done.told,
            "confirmed": done.confirmed.confirmed,
            "failed_late": done.confirmed.failed_late,
            "look_ups": watched.asked.calls,
            "resolved_accepted": done.resolved.accepted,
            "resolved_failed": done.resolved.failed,
            "still_unknown": max(0, len(unknown) - done.resolved.accepted - done.resolved.failed),
        },
        tuple(world.redactor.text(note) for note in notes),
    )


def _log(world: World, watched: Watched, done: _Done, unknown: Sequence[Question]) -> None:
    for one in watched.seen:
        for title, error in (("state", one.error), ("recovery", one.recovery_error)):
            if error is not None:
                world.log.failure(
                    f"…{one.chip.last4}: asking for {title} failed: {error}", world.redactor.traceback(error)
                )
        if one.is_zombie or one.wrong_number:
            detail = one.observation.detail if one.observation is not None else ""
            world.log.warning(world.redactor.text(f"…{one.chip.last4} cannot be trusted to send: {detail}"))
        if one.removed:
            told = f"…{one.chip.last4}: {len(one.removed)} messages given up on were taken out of its queue"
            world.log.warning(told)
    left_out = sum(one.left_out for one in watched.seen)
    if left_out:
        told = f"{left_out} chips were not asked: no time was left, or the run was ended"
        told += "; the next cycle asks them first"
        world.log.warning(told)
    if unknown:
        found, never = done.resolved.accepted, done.resolved.failed
        told = f"Of {len(unknown)} messages of unknown outcome {found} were accepted and {never} were not"
        world.log.info(told)
