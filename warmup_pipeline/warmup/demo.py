"""The demo: the audited pool on a clock of its own, and what its cycles are measured to have done.

Holds: preparing and removing the demo pool, reading the simulator's own log, :func:`measure`. Add
here: another fact worth showing, measured. Do not add: the running of cycles (``orchestration``),
words and tables (the command line).

What is measured about sends is measured from the gateway's side: the simulator's log says what was
accepted, when and from whom; the database says what was allowed. Nothing here is a fixed number.
Source: interface.md, "Command line" (demo) and issue 2, "What it must show".
"""

from __future__ import annotations

from collections import Counter, defaultdict, deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from importlib import resources
from pathlib import Path
from typing import Any, Final
from zoneinfo import ZoneInfo

import httpx

from warmup_pipeline.domain.localtime import in_window, local_day
from warmup_pipeline.domain.values import (
    ACCEPTED_STATES,
    DEFAULT_POOL,
    ClockKind,
    MessageState,
    Phase,
)
from warmup_pipeline.store import chips, pools
from warmup_pipeline.store import demo as demo_store
from warmup_pipeline.store import derived as derived_store
from warmup_pipeline.store.chips import Chip
from warmup_pipeline.store.cycles import Cycle
from warmup_pipeline.store.demo import LoggedSend
from warmup_pipeline.store.engine import Transaction
from warmup_pipeline.warmup.csvfiles import Problems, read_table
from warmup_pipeline.warmup.importing import NOT_IMPLEMENTED, ImportReport, import_pool
from warmup_pipeline.warmup.world import World

STARTS_AT: Final = datetime(2026, 2, 20, 8, 0, tzinfo=ZoneInfo("America/Sao_Paulo"))
"""The moment of the audit: the demo's first tick."""

AUTHOR: Final = "demo"

_HOUR: Final = timedelta(minutes=60)
_SHORTEST_REPLY: Final = timedelta(minutes=2)
_PAGE: Final = 10_000
_TIMEOUT_S: Final = 30.0


class DemoRefused(ValueError):
    """The demo cannot run here, and nothing was changed; the text is one line that says why."""


@contextmanager
def audit_files() -> Iterator[tuple[Path, Path, Path]]:
    """Give the bundled audit as files: chips, schedule, interactions."""
    folder = resources.files("warmup_pipeline") / "data" / "audit"
    with ExitStack() as stack:
        chips_file, schedule, interactions = (
            stack.enter_context(resources.as_file(folder / name))
            for name in ("chips.csv", "warmup_schedule.csv", "chip_interactions.csv")
        )
        yield chips_file, schedule, interactions


def _audited_ids(world: World) -> set[str]:
    with audit_files() as (chips_file, _, _):
        table = read_table(chips_file, needed=("id",), problems=Problems(world.redactor))
    return set() if table is None else {row.text("id") for row in table.rows}


def is_there(tx: Transaction, world: World) -> bool:
    """Return whether the database holds the demo pool, and nothing but it.

    Raises:
        DemoRefused: it holds something that is not the demo's, so the demo must not touch it.
    """
    held = dict(demo_store.chip_ids_by_pool(tx))
    ids = held.pop(DEFAULT_POOL, set())
    if held:
        raise DemoRefused(
            f"this database holds pool {sorted(held)[0]!r}; the demo runs only in a database of its own: "
            "set WARMUP_DATABASE_URL to another one"
        )
    if not ids:
        return False
    if pools.get(tx, DEFAULT_POOL).clock is not ClockKind.STEPPED or not ids <= _audited_ids(world):
        raise DemoRefused(
            f"pool {DEFAULT_POOL!r} of this database is not the demo's; the demo runs only in a database of "
            "its own: set WARMUP_DATABASE_URL to another one"
        )
    return True


def _require_simulated(world: World) -> None:
    if not world.is_simulated:
        raise DemoRefused("the demo runs against the simulator only: set WARMUP_GATEWAY_MODE=simulated")


def prepare(world: World) -> ImportReport | None:
    """Load the audited pool on a stepped clock, unless it is there; ``None`` where the demo goes on.

    Raises:
        DemoRefused: live mode, or the database holds another pool.
    """
    _require_simulated(world)
    with world.store.read() as tx:
        if is_there(tx, world):
            return None
    _forget_what_is_left(world)
    with audit_files() as (chips_file, schedule, interactions):
        return import_pool(world, chips_file, schedule, interactions, stepped_from=STARTS_AT, author=AUTHOR)


def remove(world: World) -> bool:
    """Remove the demo pool and what the simulator knows; returns whether there was one.

    Raises:
        DemoRefused: live mode, or the database holds another pool.
    """
    _require_simulated(world)
    with world.store.write() as tx:
        there = is_there(tx, world)
        if there:
            tx.lock_pool(DEFAULT_POOL)
            demo_store.erase_everything(tx)
    forget_gateway(world)
    return there


# --- the gateway's side


@dataclass(frozen=True, slots=True)
class SeenMessage:
    """One message as the gateway accepted it.

    Attributes:
        at: the logical time of its acceptance.
        instance: which instance sent it, as (provider, name).
        recipient_instance: which instance it is for, ``None`` if it is none of ours.
        message_id: our id of it, ``None`` where the gateway was not told.
        conversation_id: our conversation.
        turn: which turn of it.
    """

    at: datetime
    instance: tuple[str, str]
    recipient_instance: tuple[str, str] | None
    message_id: str | None
    conversation_id: str | None
    turn: int | None


def _simulator(world: World) -> str:
    _require_simulated(world)
    return str(world.gateways.evolution_url).rstrip("/")


def forget_gateway(world: World) -> None:
    """Let the simulator forget its messages, faults and instances: a demo begins with it, too."""
    httpx.post(
        f"{_simulator(world)}/_sim/reset", json={"instances": True}, timeout=_TIMEOUT_S
    ).raise_for_status()


def _forget_what_is_left(world: World) -> None:
    """Let a simulator that knows an earlier pool forget it; a fresh one keeps the faults it was given."""
    health = httpx.get(f"{_simulator(world)}/_sim/health", timeout=_TIMEOUT_S).raise_for_status().json()
    if health["instances"] or health["messages"]:
        forget_gateway(world)


def seen_by_gateway(world: World) -> list[SeenMessage]:
    """Return everything the simulator has accepted, in its order."""
    found: list[SeenMessage] = []
    since = 0
    with httpx.Client(base_url=_simulator(world), timeout=_TIMEOUT_S) as client:
        while True:
            answer = client.get("/_sim/messages", params={"since": since, "limit": _PAGE})
            page = answer.raise_for_status().json()
            found += [seen_message(row) for row in page["messages"]]
            if not page["messages"]:
                return found
            since = page["next_since"]


def seen_message(row: Mapping[str, Any]) -> SeenMessage:
    """Return one row of ``/_sim/messages``."""
    trace = row["trace"] or {}
    recipient = row["recipient_instance"]
    return SeenMessage(
        at=datetime.fromisoformat(row["at"]),
        instance=(row["provider"], row["instance"]),
        recipient_instance=None if recipient is None else (row["recipient_provider"], recipient),
        message_id=trace.get("message_id"),
        conversation_id=trace.get("conversation"),
        turn=trace.get("turn"),
    )


# --- what was measured


@dataclass(frozen=True, slots=True)
class ConversationSeen:
    """One conversation, both chips visible.

    Attributes:
        opener: the opener's end digits.
        responder: the other's.
        turns_accepted: turns that were accepted.
        turns: turns its dialogue has.
        bidirectional: each side has had a turn that counts.
    """

    opener: str
    responder: str
    turns_accepted: int
    turns: int
    bidirectional: bool


@dataclass(frozen=True)
class Figures:
    """What a set of cycles did. Chips stand as their end digits.

    Attributes:
        cycles: how many cycles.
        messages: messages the gateway accepted from them.
        succeeded: CONVERSA_PAR attempts (openings and replies) that succeeded.
        failed: those that certainly did not.
        unknown: sends of unknown outcome, in neither.
        conversations: the conversations they opened, by time.
        limit_violations: messages above the limit of the hour or the day at the moment they were sent.
        sends_outside_window: messages outside the sending window.
        early_executions: activities executed, or replies sent, before they were due.
        duplicate_sends: messages the gateway got although it had that turn already.
        sends_not_in_log: messages the gateway got that the database does not know.
        unimplemented_planned: planned activities that nothing can execute.
        stubs_cancelled: the imported ones cancelled for that reason, as (chip, type).
        warming_day: each chip's warming day, ``None`` while it has none.
        recovered: chips that were down and came back in these cycles.
        sent_by_chip: messages of these cycles by sender, for chips that take part or sent.
        received_by_chip: the same by recipient.
        most_in_hour: most messages of one chip within 60 minutes, of all that was sent.
        most_in_day: most messages of one chip on a local day, an import's count included.
    """

    cycles: int
    messages: int
    succeeded: int
    failed: int
    unknown: int
    conversations: tuple[ConversationSeen, ...]
    limit_violations: int
    sends_outside_window: int
    early_executions: int
    duplicate_sends: int
    sends_not_in_log: int
    unimplemented_planned: int
    stubs_cancelled: tuple[tuple[str, str], ...]
    warming_day: Mapping[str, int | None]
    recovered: tuple[str, ...]
    sent_by_chip: Mapping[str, int]
    received_by_chip: Mapping[str, int]
    most_in_hour: int
    most_in_day: int

    @property
    def success_rate(self) -> float | None:
        """Succeeded of all attempts whose outcome is known, 0-1."""
        attempts = self.succeeded + self.failed
        return self.succeeded / attempts if attempts else None

    @property
    def broken_rules(self) -> int:
        """How often a rule was measured to be broken that must never be."""
        return (
            self.limit_violations
            + self.sends_outside_window
            + self.early_executions
            + self.duplicate_sends
            + self.sends_not_in_log
            + self.unimplemented_planned
        )

    def document(self) -> dict[str, Any]:
        """Return the figures as interface.md names them (``health`` is added by the command)."""
        return {
            "cycles": self.cycles,
            "messages": self.messages,
            "conversa_par": {
                "executed": self.succeeded,
                "failed": self.failed,
                "success_rate": self.success_rate,
            },
            "conversations": {
                "opened": len(self.conversations),
                "bidirectional": sum(one.bidirectional for one in self.conversations),
            },
            "limit_violations": self.limit_violations,
            "sends_outside_window": self.sends_outside_window,
            "early_executions": self.early_executions,
            "duplicate_sends": self.duplicate_sends,
            "sends_not_in_log": self.sends_not_in_log,
            "unknown": self.unknown,
            "unimplemented_planned": self.unimplemented_planned,
            "stubs_cancelled": len(self.stubs_cancelled),
            "warming_day": dict(self.warming_day),
            "recovered": list(self.recovered),
            "sent_by_chip": dict(self.sent_by_chip),
            "received_by_chip": dict(self.received_by_chip),
        }


class _Use:
    """Counts what each chip had sent before a moment, as limits count it. Sends come in the order of time."""

    def __init__(self, zone: ZoneInfo, imported: Mapping[tuple[str, date], int]) -> None:
        self._zone = zone
        self._imported = imported
        self._hour: dict[str, deque[datetime]] = defaultdict(deque)
        self._day: dict[str, tuple[date, int]] = {}
        self.most_in_hour = 0
        self.most_in_day = 0

    def add(self, chip_id: str, at: datetime) -> tuple[int, int]:
        """Count one send; returns how many there are of the hour (t - 60 min, t] and the day with it."""
        hour = self._hour[chip_id]
        hour.append(at)
        while hour[0] <= at - _HOUR:
            hour.popleft()
        day = local_day(at, self._zone)
        known, count = self._day.get(chip_id, (day, 0))
        self._day[chip_id] = (day, count + 1 if known == day else 1)
        in_day = self._day[chip_id][1] + self._imported.get((chip_id, day), 0)
        self.most_in_hour = max(self.most_in_hour, len(hour))
        self.most_in_day = max(self.most_in_day, in_day)
        return len(hour), in_day


def measure(
    world: World,
    ran: Sequence[Cycle],
    *,
    pool: str = DEFAULT_POOL,
    seen: Sequence[SeenMessage] | None = None,
) -> Figures:
    """Return what some cycles of a pool did, from the simulator's log and the database.

    Args:
        world: simulated; nothing is changed.
        ran: the cycles; figures of sends are theirs alone, while limits look at all that was sent.
        pool: their pool.
        seen: what the gateways accepted, where it was read already.
    """
    cycle_ids = {cycle.id for cycle in ran}
    seen = seen_by_gateway(world) if seen is None else seen
    with world.store.read() as tx:
        of_pool = {chip.id: chip for chip in chips.of_pool(tx, pool)}
        balances = chips.balances(tx, pool)
        at = max((cycle.tick for cycle in ran), default=STARTS_AT)
        log = {send.id: send for send in demo_store.sends_of_pool(tx, pool, at=at)}
        own = [send for send in log.values() if send.cycle_id in cycle_ids]
        opened = demo_store.conversations_of(tx, sorted({s.conversation_id for s in own if s.turn == 1}))
        early = set(demo_store.executed_early(tx, sorted(cycle_ids)))
        unimplemented = demo_store.unimplemented_planned(tx, pool)
        stubs = demo_store.stubs_cancelled(tx, pool, NOT_IMPLEMENTED)
        days = derived_store.warming_days(tx, pool)
        first = min((cycle.tick for cycle in ran), default=at)
        recovered = demo_store.recovered_between(tx, pool, first, at) if ran else []

    imported = {(i, b.day): b.sent_on_day for i, b in balances.items() if b.day is not None}
    use = _Use(world.policy.zone, imported)
    sight = _Sight(world, of_pool, log, cycle_ids, use)
    for message in sorted(seen, key=lambda m: m.at):
        sight.look_at(message)
    two_way = _bidirectional(own)
    last4 = {chip.id: chip.last4 for chip in of_pool.values()}
    return Figures(
        cycles=len(ran),
        messages=sight.messages,
        succeeded=sum(send.state in ACCEPTED_STATES for send in own),
        failed=sum(send.state == MessageState.FAILED for send in own),
        unknown=sum(send.state == MessageState.UNKNOWN for send in own),
        conversations=tuple(
            ConversationSeen(
                last4[one.opener_chip_id],
                last4[one.responder_chip_id],
                one.turns_accepted,
                one.turns,
                one.id in two_way,
            )
            for one in opened
        ),
        limit_violations=sight.limit_violations,
        sends_outside_window=sight.outside_window,
        early_executions=len(early | sight.early_activities) + sight.early_replies,
        duplicate_sends=sight.duplicates,
        sends_not_in_log=sight.not_in_log,
        unimplemented_planned=unimplemented,
        stubs_cancelled=tuple((last4[chip_id], name) for chip_id, name in stubs),
        warming_day={last4[i]: days.get(i) for i in sorted(of_pool, key=lambda i: last4[i])},
        recovered=tuple(sorted(last4[i] for i in recovered)),
        sent_by_chip=_by_chip(sight.sent, of_pool),
        received_by_chip=_by_chip(sight.received, of_pool),
        most_in_hour=use.most_in_hour,
        most_in_day=use.most_in_day,
    )


class _Sight:
    """Looks at what the gateway accepted, message by message in the order of time."""

    def __init__(
        self,
        world: World,
        of_pool: Mapping[str, Chip],
        log: Mapping[str, LoggedSend],
        cycle_ids: set[str],
        use: _Use,
    ) -> None:
        self._world = world
        self._log = log
        self._cycle_ids = cycle_ids
        self._use = use
        self._chips = {(chip.provider.value, chip.instance): chip for chip in of_pool.values()}
        self._turns: dict[tuple[str | None, int | None], datetime] = {}
        self.messages = 0
        self.limit_violations = 0
        self.outside_window = 0
        self.duplicates = 0
        self.not_in_log = 0
        self.early_replies = 0
        self.early_activities: set[str] = set()
        self.sent: Counter[str] = Counter()
        self.received: Counter[str] = Counter()

    def look_at(self, message: SeenMessage) -> None:
        """Count one message, and what is wrong with it."""
        sender = self._chips.get(message.instance)
        send = self._log.get(message.message_id or "")
        used = (0, 0) if sender is None else self._use.add(sender.id, message.at)
        turn = (message.conversation_id, message.turn)
        again = message.turn is not None and turn in self._turns
        self._turns.setdefault(turn, message.at)
        if send is None:
            # Nobody's cycle accounts for it, so it is everybody's.
            self.not_in_log += 1
        elif send.cycle_id not in self._cycle_ids:
            return
        self.messages += 1
        if sender is not None:
            self.sent[sender.id] += 1
            self.limit_violations += self._is_above(used, send, sender.phase)
        if message.recipient_instance in self._chips:
            self.received[self._chips[message.recipient_instance].id] += 1
        self.outside_window += not in_window(message.at, self._world.policy)
        self.duplicates += again
        if send is not None:
            self._note_early(message, send)

    def _is_above(self, used: tuple[int, int], send: LoggedSend | None, phase: Phase) -> bool:
        in_hour, in_day = used
        plan = self._world.policy.phases[phase if send is None else send.phase]
        hour = plan.sends_per_hour if send is None else min(plan.sends_per_hour, send.hour_limit)
        day = plan.sends_per_day if send is None else min(plan.sends_per_day, send.day_limit)
        return in_hour > hour or in_day > day

    def _note_early(self, message: SeenMessage, send: LoggedSend) -> None:
        if send.planned_at is not None and send.activity_id is not None and message.at < send.planned_at:
            self.early_activities.add(send.activity_id)
        before = self._turns.get((message.conversation_id, send.turn - 1))
        self.early_replies += before is not None and message.at < before + _SHORTEST_REPLY


def _bidirectional(own: Sequence[LoggedSend]) -> set[str]:
    sides: dict[str, set[int]] = defaultdict(set)
    for send in own:
        if send.counts:
            sides[send.conversation_id].add(send.turn % 2)
    return {conversation_id for conversation_id, heard in sides.items() if len(heard) > 1}


def _by_chip(counts: Mapping[str, int], of_pool: Mapping[str, Chip]) -> dict[str, int]:
    shown = [chip for chip in of_pool.values() if chip.takes_part or chip.id in counts]
    return {chip.last4: counts.get(chip.id, 0) for chip in sorted(shown, key=lambda c: c.last4)}
