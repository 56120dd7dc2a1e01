"""The facts that pairing and validation judge by, loaded for a whole pool at once.

Holds: :class:`PoolFacts` and :func:`load_facts`. The same facts serve both, so that what pairing
thinks possible is what validation approves; validation loads them again in the transaction that
takes the slots.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta

from warmup_pipeline.domain.circuit import CLOSED, Circuit
from warmup_pipeline.domain.limits import effective_limits
from warmup_pipeline.domain.metrics import OpeningBalance
from warmup_pipeline.domain.policy import Policy
from warmup_pipeline.domain.presend import ChipStanding, SenderFacts, SendFacts
from warmup_pipeline.domain.values import ConnectionState, TrustLevel
from warmup_pipeline.store import chips, connections, conversations, messages, operators, validations
from warmup_pipeline.store import derived as derived_store
from warmup_pipeline.store.chips import Chip
from warmup_pipeline.store.connections import Connection
from warmup_pipeline.store.conversations import Conversation
from warmup_pipeline.store.cycles import Cycle
from warmup_pipeline.store.engine import Transaction
from warmup_pipeline.store.messages import SendUse
from warmup_pipeline.store.operators import KillSwitches
from warmup_pipeline.warmup.derive.holds import braked_chips
from warmup_pipeline.warmup.world import World

_NOTHING_USED = SendUse(0, None, 0, None)


@dataclass(frozen=True)
class PoolFacts:
    """Everything the rules ask about the chips of one pool at one tick."""

    cycle: Cycle
    policy: Policy
    chips: Mapping[str, Chip]
    connections: Mapping[str, Connection]
    breakers: Mapping[str, Circuit]
    balances: Mapping[str, OpeningBalance]
    trust: Mapping[str, tuple[int, TrustLevel]]
    used: Mapping[str, SendUse]
    pending: Mapping[str, int]
    killed: KillSwitches
    braked: frozenset[str]
    unclosed: tuple[Conversation, ...]
    reserved: Mapping[str, int]

    def standing(self, chip_id: str) -> ChipStanding:
        """Return what validation knows of a chip as either side of a send."""
        chip = self.chips[chip_id]
        connection = self.connections.get(chip_id)
        return ChipStanding(
            chip_id=chip_id,
            status=chip.status,
            role=chip.role,
            connection=connection.state if connection else ConnectionState.UNKNOWN,
            observed_at=connection.observed_at if connection else None,
        )

    def sender(self, chip_id: str) -> SenderFacts:
        """Return what validation knows of a chip as a sender. A chip never scored has no trust."""
        chip = self.chips[chip_id]
        connection = self.connections.get(chip_id)
        _, level = self.trust.get(chip_id, (0, TrustLevel.CRITICO))
        use = self.used.get(chip_id, _NOTHING_USED)
        pending = self.pending.get(chip_id, 0)
        return SenderFacts(
            provider=chip.provider,
            phase=chip.phase,
            trust_level=level,
            killed=self.killed.covers(chip.pool, chip_id),
            connection_error_at=connection.last_error_at if connection else None,
            circuit=self.breakers.get(chip_id, CLOSED),
            cooldown_until=chip.cooldown_until,
            gateway_failed=connection is not None and connection.gateway_error_cycle_id == self.cycle.id,
            limits=effective_limits(self.policy, chip.phase, level, braked=chip_id in self.braked),
            sent_in_hour=use.in_hour + pending,
            oldest_in_hour=use.oldest_in_hour,
            sent_in_day=use.in_day + pending + self._imported_today(chip_id),
            last_sent_at=use.last_at,
            minimum_gap=timedelta(seconds=self.policy.trust_levels[level].minimum_gap_seconds),
        )

    def _imported_today(self, chip_id: str) -> int:
        balance = self.balances.get(chip_id)
        return balance.sent_on_day if balance is not None and balance.day == self.cycle.day else 0

    def send(self, sender: str, recipient: str | None, *, is_send: bool = True) -> SendFacts:
        """Return the facts of one send (or action), for ``presend.validate``."""
        return SendFacts(
            at=self.cycle.tick,
            sender=self.standing(sender),
            facts=self.sender(sender),
            recipient=None if recipient is None else self.standing(recipient),
            policy=self.policy,
            is_send=is_send,
        )

    def budget(self, chip_id: str) -> int:
        """Return the turns a chip can still promise today: its day limit less what is sent or reserved."""
        return self.budget_of(self.sender(chip_id), chip_id)

    def budget_of(self, sender: SenderFacts, chip_id: str) -> int:
        """Return the budget of a chip whose facts as a sender are at hand: they are not gathered again."""
        return max(0, sender.limits.day - sender.sent_in_day - self.reserved.get(chip_id, 0))


def load_facts(tx: Transaction, world: World, cycle: Cycle) -> PoolFacts:
    """Load the facts of a cycle's pool: a fixed number of queries, whatever the number of chips."""
    unclosed = tuple(conversations.unclosed(tx, cycle.pool))
    reserved: dict[str, int] = {}
    for conversation in unclosed:
        for chip_id, turns in conversation.turns_left().items():
            reserved[chip_id] = reserved.get(chip_id, 0) + turns
    return PoolFacts(
        cycle=cycle,
        policy=world.policy,
        chips={chip.id: chip for chip in chips.of_pool(tx, cycle.pool)},
        connections=connections.of_pool(tx, cycle.pool),
        breakers=chips.breakers(tx, cycle.pool),
        balances=chips.balances(tx, cycle.pool),
        trust=derived_store.trust(tx, cycle.pool),
        used=messages.use_of_limits(tx, cycle.pool, at=cycle.tick, day=cycle.day),
        pending=validations.pending_by_sender(tx, cycle.pool),
        killed=operators.kill_switches_at(tx, cycle.tick),
        braked=braked_chips(tx, world, cycle.pool, cycle.tick),
        unclosed=unclosed,
        reserved=reserved,
    )
