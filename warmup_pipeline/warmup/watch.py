"""Looking at every chip's gateway in one go: state, number, deliveries, recovery.

Holds: :class:`Watch`, the part of the first step that talks to gateways, and :class:`Seen`, what it
learned of one chip. Nothing is written down here: ``connections`` does, in one transaction, when
everything was asked. Do not add: what is asked about messages (``asking``), what a queue may keep
(``queue_guard``).

Order: every state; then look-ups, for they tell dead sessions from live ones; then recoveries, each
after a look at the queue of a chip that has one.

Source: domain.md, "The cycle", step 1, "Zombies", "Gateway queue guard".
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Final

from warmup_pipeline.domain.localtime import day_bounds
from warmup_pipeline.domain.phones import same_line
from warmup_pipeline.domain.privacy import mask_phone
from warmup_pipeline.domain.values import CONFIRMED_STATES, ConnectionState, FailureClass, MessageState
from warmup_pipeline.gateways.base import Channel, Gateway, GatewayError, Observation, Recovery
from warmup_pipeline.gateways.hub import GatewayHub
from warmup_pipeline.store import deliveries
from warmup_pipeline.store.chips import Chip
from warmup_pipeline.store.connections import Connection
from warmup_pipeline.store.cycles import Cycle
from warmup_pipeline.store.deliveries import SilentSend
from warmup_pipeline.warmup.asking import Asked, ask
from warmup_pipeline.warmup.confirm import Receipt, receipts_of
from warmup_pipeline.warmup.gateway_step import channel_of, open_hub, run_together
from warmup_pipeline.warmup.hearing import Waiting
from warmup_pipeline.warmup.queue_guard import guard_queue
from warmup_pipeline.warmup.resolve import Question, questions_of
from warmup_pipeline.warmup.world import World

LOOKING_TAKES: Final = timedelta(seconds=120)
"""At most, of a cycle's 290 s: with every gateway hanging, the sends still get their time."""

ZOMBIE_SENDS: Final = 2
ZOMBIE_AFTER: Final = timedelta(minutes=10)
"""A chip whose last two sends are unconfirmed 10 minutes after acceptance is dead, whatever it says."""

ZOMBIE_RESTART: Final = "restart_zombie"
"""The recovery of a session that says open: it keeps its place on the ladder until a delivery is seen."""

ZOMBIE_DETAIL: Final = (
    "the gateway says open, but the last two messages were not delivered 10 minutes after acceptance"
)

REFUSING_DETAIL: Final = (
    "the gateway says open, but refused one send after the other because the connection is closed"
)

QUEUED_FOR: Final = timedelta(days=7)
"""How far back what a queue may hold is looked for."""

_DOWN: Final = (ConnectionState.CLOSED, ConnectionState.CONNECTING)


@dataclass(frozen=True, slots=True)
class Seen:
    """What was learned of one chip.

    Attributes:
        observation: its state; ``None`` where its gateway could not be asked.
        is_zombie: its gateway says open, but nothing arrives.
        wrong_number: another number is logged in.
        was: its state as first seen, where a recovery may have changed it since.
        removed: our ids of messages that were taken out of its queue.
        removed_while_down: its session was down before and after that: none of them can have gone.
        left_out: its gateway was not asked, or not all that has to be asked before it is known how the chip is:
            no time was left for it, or the run is to end. The next cycle asks it first.
    """

    chip: Chip
    observation: Observation | None = None
    recovery: Recovery | None = None
    error: GatewayError | None = None
    recovery_error: GatewayError | None = None
    is_zombie: bool = False
    wrong_number: bool = False
    was: ConnectionState | None = None
    removed: tuple[str, ...] = ()
    removed_while_down: bool = False
    left_out: bool = False

    @property
    def is_down(self) -> bool:
        """Whether a recovery could help."""
        if self.wrong_number or self.observation is None:
            return False
        return self.is_zombie or self.observation.state in _DOWN


@dataclass
class Watched:
    """Everything that was learned, and the exceptions of our own code."""

    seen: list[Seen] = field(default_factory=list)
    receipts: list[Receipt] = field(default_factory=list)
    asked: Asked = field(default_factory=Asked)
    bugs: list[Exception] = field(default_factory=list)


def _was_not_asked(error: GatewayError) -> bool:
    """Whether no request was made, though it could have been: the chip keeps its turn."""
    return not error.attempted and error.failure is not FailureClass.GATEWAY


def recovery_is_due(known: Connection | None, at: datetime) -> bool:
    """Whether a recovery attempt may be made: one per 15 minutes, later one per hour."""
    return known is None or known.next_recovery_at is None or known.next_recovery_at <= at


class Watch:
    """Asks the gateways about all chips of a cycle.

    Args:
        world: what the cycle works with.
        cycle: the cycle.
        chips: all chips of the pool, by id.
        known: their connections as they were.
        questions: messages whose end is not known.
        ours: gateway ids that are those of messages of ours already.
        silent: by chip, newest first, the sends after which nothing was ever confirmed.
        heard: what webhooks said and no cycle has applied yet.
        refused: chips whose sends were refused as disconnected until their breaker opened.
        acts: recover sessions and clear queues; else nothing is changed at any gateway.
    """

    def __init__(
        self,
        world: World,
        cycle: Cycle,
        chips: Mapping[str, Chip],
        known: Mapping[str, Connection],
        questions: Sequence[Question],
        ours: set[str],
        silent: Mapping[str, Sequence[SilentSend]],
        heard: Waiting,
        refused: Collection[str] = (),
        *,
        acts: bool = True,
    ) -> None:
        self._world = world
        self._cycle = cycle
        self._chips = chips
        self._known = known
        self._questions = questions
        self._ours = ours
        self._silent = silent
        self._heard = heard
        self._refused = refused
        self._reopened = heard.reopened
        self._day_begins, self._day_ends = day_bounds(cycle.day, world.policy.zone)
        self._acts = acts
        self._interrupted = False

    def interrupt(self) -> None:
        """Let no other call begin: the run is to end."""
        self._interrupted = True

    def _may_begin(self, channel: Channel, server: str) -> bool:
        del channel, server
        return not self._interrupted

    async def look(self, observed: Sequence[Chip]) -> Watched:
        """Look at every observed chip; see the module's text for the order."""
        watched = Watched()
        # In virtual time nobody ends the run.
        may_begin = self._may_begin if self._world.loop is None else None
        async with open_hub(self._world, self._cycle, at_most=LOOKING_TAKES, may_begin=may_begin) as hub:
            found = await run_together(
                observed, lambda chip: self._state_of(hub, chip), lane=lambda chip: chip.provider
            )
            seen = {one.chip.id: one for one in found if isinstance(one, Seen)}
            watched.bugs += [one for one in found if isinstance(one, Exception)]
            now = self._cycle.tick if self._world.is_simulated else self._world.now()
            watched.asked = await ask(
                hub,
                self._questions,
                reachable={one.chip.id: one.chip for one in seen.values() if one.observation is not None},
                known=self._ours,
                until=now + timedelta(hours=2),
                told=self._heard.listed(self._chips),
                privacy_ids=self._heard.privacy_ids,
            )
            watched.bugs += watched.asked.bugs
            watched.receipts = receipts_of(self._questions, watched.asked.answers)
            dead = dict.fromkeys(self._refusing(seen), REFUSING_DETAIL)
            dead |= dict.fromkeys(self._zombies(hub, seen, watched), ZOMBIE_DETAIL)
            for chip_id, detail in dead.items():
                seen[chip_id] = replace(
                    seen[chip_id], is_zombie=True, observation=Observation(ConnectionState.CLOSED, detail)
                )
            needing = [
                one for one in seen.values() if self._acts and (self._is_due(one) or self._has_returned(one))
            ]
            queued = self._queued(hub, needing)
            brought = await run_together(
                needing,
                lambda one: self._bring_back(hub, one, queued),
                lane=lambda one: one.chip.provider,
            )
            seen |= {one.chip.id: one for one in brought if isinstance(one, Seen)}
            watched.bugs += [one for one in brought if isinstance(one, Exception)]
        watched.seen = list(seen.values())
        return watched

    async def _state_of(self, hub: GatewayHub, chip: Chip) -> Seen:
        channel, gateway = channel_of(chip), hub.gateway(chip.provider)
        try:
            observation = await gateway.connection_state(channel)
        except GatewayError as error:
            if error.failure is FailureClass.DISCONNECTED:
                # Whatever was asked, the gateway said that the session is down.
                return Seen(chip, Observation(ConnectionState.CLOSED, error.evidence.text))
            return Seen(chip, left_out=True) if _was_not_asked(error) else Seen(chip, error=error)
        if observation.state is ConnectionState.OPEN and self._number_is_due(chip):
            try:
                number = await gateway.own_number(channel)
            except GatewayError as error:
                if _was_not_asked(error):
                    return Seen(chip, left_out=True)
                # The state stands; the number is asked for again when the session next opens.
                number = None
            if number is not None and not same_line(number, chip.phone):
                return Seen(chip, _wrong_number(chip, number), wrong_number=True)
        return Seen(chip, observation)

    def _number_is_due(self, chip: Chip) -> bool:
        """Asked when a session is first seen open, whenever it opens again, and once a local day."""
        known = self._known.get(chip.id)
        if known is None or known.state is not ConnectionState.OPEN or chip.id in self._reopened:
            return True
        return not self._day_begins <= known.asked_at < self._day_ends

    def _refusing(self, seen: Mapping[str, Seen]) -> list[str]:
        """Return the chips whose session says open and refuses sends as disconnected until the breaker opens."""
        return [
            chip_id
            for chip_id in self._refused
            if (one := seen.get(chip_id)) is not None
            and one.observation is not None
            and one.observation.state is ConnectionState.OPEN
        ]

    def _zombies(self, hub: GatewayHub, seen: Mapping[str, Seen], watched: Watched) -> list[str]:
        told = [*watched.receipts, *self._heard.receipts]
        confirmed = {receipt.message_id for receipt in told if receipt.state in CONFIRMED_STATES}
        failed = {receipt.message_id for receipt in told if receipt.state is MessageState.FAILED}
        found = []
        for chip_id, sends in self._silent.items():
            one = seen.get(chip_id)
            if one is None or one.observation is None or one.observation.state is not ConnectionState.OPEN:
                continue
            unheard: list[SilentSend] = []
            for send in sends:
                if send.message_id in confirmed:
                    break
                if send.message_id not in failed:
                    unheard.append(send)
            if len(unheard) >= ZOMBIE_SENDS and self._would_know(
                hub, one.chip, unheard[ZOMBIE_SENDS - 1], watched
            ):
                found.append(chip_id)
        return found

    def _would_know(self, hub: GatewayHub, chip: Chip, send: SilentSend, watched: Watched) -> bool:
        """Whether anybody could have told what became of a send: silence of the teller proves nothing.

        Polled gateways must have answered. Of the others some webhook of the pool must have been heard
        since, or it is our own ear that is shut.
        """
        if hub.gateway(chip.provider).polls_confirmations:
            return chip.id in watched.asked.answers.sent
        return any(
            self._chips[chip_id].provider is chip.provider and heard_at > send.accepted_at
            for chip_id, heard_at in self._heard.last_heard_at.items()
            if chip_id in self._chips
        )

    def _is_due(self, one: Seen) -> bool:
        return one.is_down and recovery_is_due(self._known.get(one.chip.id), self._cycle.tick)

    def _has_returned(self, one: Seen) -> bool:
        known = self._known.get(one.chip.id)
        return (
            one.observation is not None
            and one.observation.state is ConnectionState.OPEN
            and known is not None
            and known.state in _DOWN
        )

    def _queued(self, hub: GatewayHub, needing: Sequence[Seen]) -> Mapping[str, list[Question]]:
        """Return what chips that come back may have in their queues; one query, and only for those."""
        asked = [one.chip.id for one in needing if not hub.gateway(one.chip.provider).polls_confirmations]
        if not asked:
            return {}
        with self._world.store.read() as tx:
            found = deliveries.may_be_queued(tx, asked, since=self._cycle.tick - QUEUED_FOR)
        return {
            chip_id: questions_of(self._world, self._cycle.tick, sent, self._chips)
            for chip_id, sent in found.items()
        }

    async def _bring_back(self, hub: GatewayHub, one: Seen, queued: Mapping[str, Sequence[Question]]) -> Seen:
        gateway = hub.gateway(one.chip.provider)
        try:
            one = await self._clear_queue(gateway, one, queued.get(one.chip.id, ()))
            if one.recovery_error is not None:
                # Nothing is restarted over a queue that could not be cleared: it would all go at once.
                raise one.recovery_error
            if one.observation is None or not self._is_due(one):
                return one
            seen_as = ConnectionState.OPEN if one.is_zombie else one.observation.state
            one = replace(one, was=one.observation.state)
            recovery = await gateway.recover(channel_of(one.chip), seen_as)
            if one.is_zombie:
                recovery = replace(recovery, action=ZOMBIE_RESTART)
            one = replace(one, recovery=recovery)
            if recovery.taken:
                # A session with its credentials comes back at once; one that does not is looked at
                # again by the next cycle.
                one = replace(one, observation=await gateway.connection_state(channel_of(one.chip)))
        except GatewayError as error:
            one = replace(one, recovery_error=error)
        if one.recovery_error is None or not _was_not_asked(one.recovery_error):
            return one
        # What was not tried is no attempt. A session that came back has not, until its queue was looked at.
        unseen = one.recovery is None and self._has_returned(one)
        return replace(
            one, recovery_error=None, left_out=unseen, observation=None if unseen else one.observation
        )

    async def _clear_queue(self, gateway: Gateway, one: Seen, queued: Sequence[Question]) -> Seen:
        if not queued or one.observation is None:
            return one
        is_down = one.observation.state in _DOWN and not one.is_zombie
        removed = await guard_queue(
            gateway, channel_of(one.chip), queued, at=self._cycle.tick, is_down=is_down
        )
        if removed.error is not None:
            one = replace(one, recovery_error=removed.error)
        return replace(one, removed=removed.message_ids, removed_while_down=removed.while_down)


def _wrong_number(chip: Chip, number: str) -> Observation:
    return Observation(
        ConnectionState.CLOSED,
        f"another number is logged in: {mask_phone(number)} instead of …{chip.last4}",
        needs_person=f"log the instance {chip.instance} out and pair it with …{chip.last4}, "
        f"or correct the chip: {mask_phone(number)} is logged in there",
    )
