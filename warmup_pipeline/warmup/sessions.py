"""What an operator does about a chip's session: reconnect it, show its QR code, set its webhooks.

Holds: :func:`reconnect_chips`, :func:`pairing_of`, :func:`point_webhooks`. Each asks the gateways at
once, outside any cycle, and leaves a row per chip in ``operator_actions``. Do not add: what a cycle does
about connections by itself (``connections``, ``watch``).

A reconnection keeps the order of a cycle's recovery: a queue that would all go at once is cleared of
what was given up on before the session is brought back (domain.md, "Gateway queue guard").
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final, TypeVar
from urllib.parse import quote

from warmup_pipeline.domain.values import ConnectionState, FailureClass, MessageState
from warmup_pipeline.gateways.base import Gateway, GatewayError, Pairing
from warmup_pipeline.gateways.hub import GatewayHub
from warmup_pipeline.store import chips, connections, deliveries, operators, pools
from warmup_pipeline.store.chips import Chip
from warmup_pipeline.store.connections import Step
from warmup_pipeline.store.engine import Transaction
from warmup_pipeline.warmup.confirm import Receipt, apply_receipts
from warmup_pipeline.warmup.gateway_step import channel_of, run_in_loop, run_together
from warmup_pipeline.warmup.operating import OperatorError, checked_words, resolve
from warmup_pipeline.warmup.queue_guard import guard_queue
from warmup_pipeline.warmup.resolve import Question, questions_of
from warmup_pipeline.warmup.world import World

RECONNECT: Final = "reconnect_chips"
SHOW_QR: Final = "show_qr_code"
SET_WEBHOOK: Final = "set_webhook"
"""How each action stands in ``operator_actions``."""

QUEUED_FOR: Final = timedelta(days=7)
_TAKEN_OUT: Final = "removed from the gateway's queue while the session was down: it never went"

FoundT = TypeVar("FoundT")


@dataclass(frozen=True, slots=True)
class Reconnected:
    """What became of one chip's session.

    Attributes:
        before: its state when it was asked.
        action: what was done: ``restart``, ``connect``, ``restore`` or ``none``.
        after: its state afterwards; a session with its pairing may still be on its way.
        detail: the gateway's words, redacted.
        needs_person: what a person must do, ``None`` if nobody.
    """

    chip_id: str
    last4: str
    before: str
    action: str
    after: str
    detail: str = ""
    needs_person: str | None = None

    def document(self) -> dict[str, str | None]:
        """Return it as JSON-ready data."""
        return {
            "id": self.chip_id,
            "last4": self.last4,
            "before": self.before,
            "action": self.action,
            "after": self.after,
            "detail": self.detail,
            "needs_person": self.needs_person,
        }


@dataclass(frozen=True, slots=True)
class Shown:
    """A chip's QR code or pairing code, and until when it can be used (real time, UTC)."""

    chip: Chip
    pairing: Pairing
    until: datetime


def reconnect_chips(
    world: World, names: Sequence[str], *, author: str, reason: str = ""
) -> list[Reconnected]:
    """Bring chips' sessions back, each by what suits its state; one that is open is left alone.

    Raises:
        OperatorError: a name means no chip or several.
    """
    author, reason = checked_words(author, world.redactor.text(reason))
    with world.store.read() as tx:
        found = resolve(tx, names)
        at = {chip.id: pools.get(tx, chip.pool).now(world.now()) for chip in found}
        everyone = {chip.id: chip for chip in chips.of_pool(tx)}
        since = min(at.values()) - QUEUED_FOR
        queued = deliveries.may_be_queued(tx, [chip.id for chip in found], since=since)
        questions = {
            chip_id: questions_of(world, at[chip_id], sent, everyone) for chip_id, sent in queued.items()
        }
    attempts = _ask(
        world,
        found,
        at,
        lambda gateway, chip: _reconnect(gateway, chip, questions.get(chip.id, []), at[chip.id]),
    )
    done = [
        attempt[0]
        if isinstance(attempt, tuple)
        else Reconnected(chip.id, chip.last4, "unknown", "none", "unknown", str(attempt))
        for chip, attempt in zip(found, attempts, strict=True)
    ]
    gone = [i for attempt in attempts if isinstance(attempt, tuple) for i in attempt[1]]
    _record_reconnections(world, found, done, gone, at, author=author, reason=reason)
    return done


async def _reconnect(
    gateway: Gateway, chip: Chip, queued: Sequence[Question], at: datetime
) -> tuple[Reconnected, tuple[str, ...]]:
    """Return what was done, and our ids of the messages that certainly never go."""
    channel = channel_of(chip)
    seen = await gateway.connection_state(channel)
    if seen.state is ConnectionState.OPEN:
        return Reconnected(chip.id, chip.last4, seen.state, "none", seen.state, "it is open"), ()
    never: tuple[str, ...] = ()
    if queued and not gateway.polls_confirmations:
        removed = await guard_queue(gateway, channel, queued, at=at, is_down=True)
        if removed.error is not None:
            raise removed.error
        never = removed.message_ids if removed.while_down else ()
    # A session that asks for a person lost its pairing: a restart is nothing to it.
    recovery = await (gateway.restore(channel) if seen.needs_person else gateway.recover(channel, seen.state))
    after = await gateway.connection_state(channel)
    is_open = after.state is ConnectionState.OPEN
    return Reconnected(
        chip.id,
        chip.last4,
        seen.state,
        recovery.action,
        after.state,
        recovery.detail or after.detail,
        None if is_open else after.needs_person or recovery.needs_person,
    ), never


def _record_reconnections(
    world: World,
    found: Sequence[Chip],
    done: Sequence[Reconnected],
    gone: Sequence[str],
    at: Mapping[str, datetime],
    *,
    author: str,
    reason: str,
) -> None:
    with world.store.write() as tx:
        for pool in sorted({chip.pool for chip in found}):
            tx.lock_pool(pool)
        steps = [
            Step(
                chip.id,
                chip.pool,
                at[chip.id],
                "recovery",
                ConnectionState(one.after),
                world.redactor.text(f"{one.action} by {author}: {one.detail}"),
            )
            for chip, one in zip(found, done, strict=True)
            if one.action != "none"
        ]
        connections.note(tx, steps)
        never = [Receipt(i, MessageState.FAILED, _TAKEN_OUT, FailureClass.DISCONNECTED) for i in gone]
        apply_receipts(tx, world, never, at=max(at.values()))
        for chip, one in zip(found, done, strict=True):
            _record(tx, world, chip, at[chip.id], RECONNECT, author, reason, one.document())


def pairing_of(world: World, name: str, *, by_code: bool = False, author: str, reason: str = "") -> Shown:
    """Return the QR code of a chip's session, or a code to type on its phone.

    Raises:
        OperatorError: the name means no chip or several, or its gateway did not give one.
    """
    author, reason = checked_words(author, world.redactor.text(reason))
    with world.store.read() as tx:
        (chip,) = resolve(tx, [name])
        at = {chip.id: pools.get(tx, chip.pool).now(world.now())}
    (found,) = _ask(world, [chip], at, lambda gateway, one: gateway.pairing(channel_of(one), by_code=by_code))
    if isinstance(found, GatewayError):
        raise OperatorError(str(found)) from found
    with world.store.write() as tx:
        shown = "already open" if found.connected else "shown" if found.picture or found.code else "none yet"
        _record(tx, world, chip, at[chip.id], SHOW_QR, author, reason, {"code": shown})
    return Shown(chip, found, world.now() + found.lasts)


def webhook_path(chip: Chip) -> str:
    """Return where a chip's gateway calls ``warmup serve``: the end of the address, without the secret."""
    return f"/webhooks/{chip.provider.value}/{quote(chip.instance, safe='')}"


def point_webhooks(
    world: World, names: Sequence[str], *, base_url: str, secret: str, author: str, reason: str = ""
) -> list[tuple[Chip, str | None]]:
    """Have chips' gateways call ``warmup serve``; return each chip with what went wrong, ``None`` for nothing.

    Args:
        world: the world.
        names: the chips.
        base_url: where the gateways reach ``warmup serve``; Z-API takes https only.
        secret: what they bring.
        author: who does it.
        reason: why.

    Raises:
        OperatorError: a name means no chip or several.
    """
    author, reason = checked_words(author, world.redactor.text(reason))
    with world.store.read() as tx:
        found = resolve(tx, names)
        at = {chip.id: pools.get(tx, chip.pool).now(world.now()) for chip in found}

    async def point(gateway: Gateway, chip: Chip) -> None:
        await gateway.set_webhook(channel_of(chip), f"{base_url.rstrip('/')}{webhook_path(chip)}", secret)

    results = _ask(world, found, at, point)
    done = [
        (chip, str(result) if isinstance(result, GatewayError) else None)
        for chip, result in zip(found, results, strict=True)
    ]
    with world.store.write() as tx:
        for chip, problem in done:
            details = {"problem": problem, "base": world.redactor.text(base_url)}
            _record(tx, world, chip, at[chip.id], SET_WEBHOOK, author, reason, details)
    return done


def _record(
    tx: Transaction,
    world: World,
    chip: Chip,
    at: datetime,
    action: str,
    author: str,
    reason: str,
    details: Mapping[str, Any],
) -> None:
    operators.record_action(
        tx,
        at=at,
        recorded_at=world.now(),
        author=author,
        action=action,
        target=chip.id,
        reason=reason,
        details={"chip": f"…{chip.last4}", **details},
    )


def _ask(
    world: World,
    found: Sequence[Chip],
    at: Mapping[str, datetime],
    use: Callable[[Gateway, Chip], Awaitable[FoundT]],
) -> list[FoundT | GatewayError]:
    """Use each chip's gateway, all at once; a gateway's error stands in the place of its answer."""

    async def main() -> list[FoundT | Exception]:
        async with GatewayHub(
            world.gateways,
            world.redactor,
            simulated=world.is_simulated,
            at=max(at.values()),
            deadline=world.policy.pace.timeout_seconds,
            transport_factory=world.transport_factory,
        ) as hub:
            return await run_together(
                found, lambda chip: use(hub.gateway(chip.provider), chip), lane=lambda chip: chip.provider
            )

    answers: list[FoundT | GatewayError] = []
    for answer in run_in_loop(world, main()):
        if isinstance(answer, Exception) and not isinstance(answer, GatewayError):
            raise answer
        answers.append(answer)
    return answers
