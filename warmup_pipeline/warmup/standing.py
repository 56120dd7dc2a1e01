"""Why a chip is where it is: what it may do now, what stops it, and what it still needs.

Holds: :func:`list_chips` (one line per chip) and :func:`explain_chip` (everything about one). The
same facts and rules serve as in a cycle (``facts``, ``domain.presend``), so that what is said here is
what the next cycle would decide. Add here: another thing an operator asks about a chip. Do not add:
queries (``store.standing``), colours and columns (the command line has them), changes.

Source: domain.md, "Why, and until when". Phones show as their last four digits.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import date, datetime
from typing import Final

from warmup_pipeline.domain.circuit import CLOSED
from warmup_pipeline.domain.degrade import Hold
from warmup_pipeline.domain.localtime import local_day
from warmup_pipeline.domain.presend import validate
from warmup_pipeline.domain.values import Decision
from warmup_pipeline.store import chips, connections, cycles, pools, standing
from warmup_pipeline.store import derived as derived_store
from warmup_pipeline.store.chips import Chip
from warmup_pipeline.store.connections import Connection, Step
from warmup_pipeline.store.cycles import Cycle
from warmup_pipeline.store.engine import Transaction
from warmup_pipeline.store.scope import Scope
from warmup_pipeline.store.standing import FailedSend, NextActivity, StoredCriterion, StoredTrust, Switch
from warmup_pipeline.warmup.derive.holds import brakes, holds
from warmup_pipeline.warmup.facts import load_facts
from warmup_pipeline.warmup.operating import resolve
from warmup_pipeline.warmup.world import World

FAILURES_SHOWN: Final = 5
STEPS_SHOWN: Final = 5

_MEANINGS: Final = {
    "kill_switch": "sending is switched off",
    "chip_not_participating": "it does not take part in warm-up",
    "outside_window": "outside the sending window",
    "sender_disconnected": "its gateway has not confirmed an open connection in the last 15 minutes",
    "recent_gateway_error": "a connection error within the last 15 minutes",
    "circuit_open": "its breaker is open after repeated failures",
    "cooldown": "it rests after a failure",
    "gateway_down": "its gateway refused our credentials or could not be reached",
    "trust_critical": "its trust is critical",
    "hour_limit": "it has used what it may send in an hour",
    "day_limit": "it has used what it may send today",
    "min_gap": "its last send was a moment ago",
    "sends_already": "it sends something else in this cycle",
}
"""What reason codes mean, in words. A code without words stands for itself."""


@dataclass(frozen=True, slots=True)
class ChipLine:
    """One chip of a list.

    Attributes:
        chip: the chip.
        warming_day: local days since its age reference, ``None`` while it does not age.
        trust: its stored score and level, ``None`` before it was ever scored.
        connection: what its gateway last said, ``None`` if it was never asked.
    """

    chip: Chip
    warming_day: int | None
    trust: tuple[int, str] | None
    connection: Connection | None


@dataclass(frozen=True, slots=True)
class Allowance:
    """A limit and what is used of it."""

    limit: int
    used: int

    @property
    def left(self) -> int:
        """What may still be sent."""
        return max(0, self.limit - self.used)


@dataclass(frozen=True, slots=True)
class Obstacle:
    """Why a chip would not send now.

    Attributes:
        decision: ``defer`` or ``block``.
        code: the stable reason code.
        meaning: the code in words.
        until: when it ends by itself, ``None`` where that is not known.
    """

    decision: Decision
    code: str
    meaning: str
    until: datetime | None


@dataclass(frozen=True, slots=True)
class ChipStanding:
    """Everything an operator asks about one chip, at the pool clock's ``at``.

    Attributes:
        chip: the chip.
        at: the pool's time.
        warming_day: local days since its age reference.
        trust: score, level and parts.
        connection: what its gateway last said.
        breaker: state of its breaker.
        braked_until: when brake and hold end, ``None`` while there is none.
        hold: why its phase does not move, and until when: braked or degraded.
        brake_factor: what its limits are multiplied by while it is braked.
        switches: kill switches that cover it.
        hour: its effective limit of the last 60 minutes, and what is used of it.
        day: its effective limit of the local day, and what is used of it.
        next_activity: what it does next.
        next_reply: when its next reply turn is due.
        obstacle: why it would not send now; ``None`` where it would.
        criteria: what its next phase needs, what is lacking first.
        eligible_on: the earliest local day on which all of it can hold; ``None`` where none can be named.
        failures: its newest failed or unknown sends.
        last4_of: the end digits of the chips that ``failures`` name.
        history: the last steps of its connection, newest first.
    """

    chip: Chip
    at: datetime
    warming_day: int | None
    trust: StoredTrust | None
    connection: Connection | None
    breaker: str
    braked_until: datetime | None
    hold: Hold | None
    brake_factor: float
    switches: tuple[Switch, ...]
    hour: Allowance
    day: Allowance
    next_activity: NextActivity | None
    next_reply: datetime | None
    obstacle: Obstacle | None
    criteria: tuple[StoredCriterion, ...]
    eligible_on: date | None
    failures: tuple[FailedSend, ...]
    last4_of: dict[str, str]
    history: tuple[Step, ...] = ()


def list_chips(world: World, pool: str | None = None) -> list[ChipLine]:
    """Return the chips of a pool (of every pool for ``None``), by pool and label.

    Raises:
        PoolNotFound: there is no such pool.
    """
    with world.store.read() as tx:
        if pool is not None:
            pools.get(tx, pool)
        found = chips.of_pool(tx, pool)
        days = derived_store.warming_days(tx, pool)
        connected = connections.of_pool(tx, pool)
        trust = {
            chip_id: (score, level.value)
            for name in sorted({chip.pool for chip in found})
            for chip_id, (score, level) in derived_store.trust(tx, name).items()
        }
    lines = [ChipLine(chip, days.get(chip.id), trust.get(chip.id), connected.get(chip.id)) for chip in found]
    return sorted(
        lines, key=lambda line: (line.chip.pool, line.chip.label or line.chip.instance, line.chip.id)
    )


def _moment(tx: Transaction, world: World, pool: str) -> Cycle:
    """Return a cycle that is not stored, at the pool's time, for asking what the next one would decide."""
    at = pools.get(tx, pool).now(world.now())
    day = local_day(at, world.policy.zone)
    latest = cycles.latest(tx, pool)
    if latest:
        # Its id, so that a gateway that failed in it counts as failed.
        return replace(latest[0], tick=at, day=day)
    return Cycle(
        id="",
        pool=pool,
        tick=at,
        day=day,
        root_run_id=None,
        policy=world.policy_name,
        mode=world.mode,
        state="running",
        began_at=at,
        lease_until=at,
        ended_at=None,
        duration_s=None,
        counts={},
        health=None,
    )


def explain_chip(world: World, name: str) -> ChipStanding:
    """Return where one chip stands and why.

    Args:
        world: what to work with; nothing is changed.
        name: its id, instance, label, or last four digits.

    Raises:
        OperatorError: the name means no chip or several.
    """
    with world.store.read() as tx:
        chip = resolve(tx, [name])[0]
        moment = _moment(tx, world, chip.pool)
        facts = load_facts(tx, world, moment)
        sender = facts.sender(chip.id)
        judgement = validate(facts.send(chip.id, None))
        failures = tuple(standing.failed_sends(tx, chip.id, limit=FAILURES_SHOWN))
        history = tuple(connections.history_of(tx, chip.id, limit=STEPS_SHOWN))
        criteria = tuple(standing.criteria_of(tx, chip.id))
        return ChipStanding(
            chip=chip,
            at=moment.tick,
            warming_day=derived_store.warming_days(tx, chip.pool).get(chip.id),
            trust=standing.trust_of(tx, chip.id),
            connection=facts.connections.get(chip.id),
            breaker=facts.breakers.get(chip.id, CLOSED).state.value,
            braked_until=brakes(tx, world, chip.pool, moment.tick).get(chip.id),
            hold=holds(tx, world, Scope(chip.pool), moment.tick).get(chip.id),
            brake_factor=world.policy.brake.factor,
            switches=tuple(standing.switches_on(tx, at=moment.tick, pool=chip.pool, chip_id=chip.id)),
            hour=Allowance(sender.limits.hour, sender.sent_in_hour),
            day=Allowance(sender.limits.day, sender.sent_in_day),
            next_activity=standing.next_activity(tx, chip.id),
            next_reply=standing.next_reply(tx, chip.id),
            obstacle=None
            if judgement.decision is Decision.APPROVE
            else _obstacle(judgement.decision, judgement.reason or "", judgement.until),
            criteria=criteria,
            eligible_on=_eligible_on(criteria),
            failures=failures,
            history=history,
            last4_of={one.recipient_chip_id: facts.chips[one.recipient_chip_id].last4 for one in failures},
        )


def _obstacle(decision: Decision, code: str, until: datetime | None) -> Obstacle:
    return Obstacle(decision, code, _MEANINGS.get(code, code), until)


def _eligible_on(criteria: tuple[StoredCriterion, ...]) -> date | None:
    days = [one.earliest_day for one in criteria]
    if not days or any(day is None for day in days):
        return None
    return max(day for day in days if day is not None)
