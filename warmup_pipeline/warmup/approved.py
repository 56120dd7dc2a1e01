"""What the sending step works on, loaded at once, and what it comes to.

Holds: :class:`Approved`, :func:`load_approved`, :class:`Tally`, :func:`say_safely`. Do not add: sending (``send``),
actions (``performing``), taking back what was not begun (``withdrawing``).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from warmup_pipeline.store import activities, chips, conversations, validations
from warmup_pipeline.store import pairings as pairing_store
from warmup_pipeline.store.activities import Activity
from warmup_pipeline.store.cycles import Cycle
from warmup_pipeline.store.validations import Approval
from warmup_pipeline.warmup.hearing import tell_receipts
from warmup_pipeline.warmup.lifecycle import hold_pool
from warmup_pipeline.warmup.outcomes import Standing
from warmup_pipeline.warmup.world import World


@dataclass(frozen=True)
class Approved:
    """Everything the step works on.

    Attributes:
        standing: chips, breakers, conversations and pairs as they are before it begins.
        held: the activities that the cycle has claimed, by id.
        sends: approved turns.
        actions: approved actions.
        work: what each action is to do, by chip id.
        tell_receipts: chips whose gateway tells by itself what became of a message.
    """

    standing: Standing
    held: Mapping[str, Activity]
    sends: Sequence[Approval]
    actions: Sequence[Approval]
    work: Mapping[str, Sequence[Any]]
    tell_receipts: frozenset[str]


@dataclass
class Tally:
    """What the step did, for its report."""

    sent: int = 0
    failed: Counter[str] = field(default_factory=Counter)
    unknown: int = 0
    withdrawn: Counter[str] = field(default_factory=Counter)
    actions: Counter[str] = field(default_factory=Counter)
    bugs: list[Exception] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def success_rate(self) -> float | None:
        """Sent / (sent + failed), ``None`` where nothing was; unknown ones are in neither."""
        known = self.sent + sum(self.failed.values())
        return self.sent / known if known else None


def say_safely(tally: Tally, say: Callable[[], None]) -> None:
    """Say something in the run's log; that it could not be said is raised at the step's end, when all else is said."""
    try:
        say()
    except Exception as error:  # noqa: BLE001 (see above)
        tally.bugs.append(error)


def load_approved(world: World, cycle: Cycle) -> Approved:
    """Load what a cycle approved, with everything that sending it needs: a fixed number of queries."""
    with world.store.write() as tx:
        hold_pool(world, tx, cycle)
        approvals = validations.spendable(tx, cycle.id)
        actions = [a for a in approvals if a.subject == validations.ACTION]
        held = {a.id: a for a in activities.claimed_by(tx, cycle.id)}
        work: dict[str, Sequence[Any]] = {}
        for name, action in world.activities.actions.items():
            mine = [a.sender_chip_id for a in actions if held[a.activity_id or ""].type == name]
            work |= action.load(tx, cycle.pool, mine, at=cycle.tick)
        return Approved(
            standing=Standing(
                chips={chip.id: chip for chip in chips.of_pool(tx, cycle.pool)},
                breakers=chips.breakers(tx, cycle.pool),
                conversations={c.id: c for c in conversations.unclosed(tx, cycle.pool)},
                pairs=pairing_store.of_cycle(tx, cycle.id),
            ),
            held=held,
            sends=[a for a in approvals if a.subject != validations.ACTION],
            actions=actions,
            work=work,
            tell_receipts=tell_receipts(tx),
        )
