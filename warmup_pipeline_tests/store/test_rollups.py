"""The trap: a roll-up that is nearly the log. Every sum made of it must equal the sum of the log itself.

Pasts are random: messages around local midnight, receipts in any order and days late, failures taken
back, sends withdrawn; the roll-up begins anywhere among them and goes on in parts, and time passes between.
"""

from __future__ import annotations

import ast
import itertools
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import warmup_pipeline
from warmup_pipeline.domain.localtime import local_day
from warmup_pipeline.domain.metrics import MessageCounts
from warmup_pipeline.domain.values import FailureClass, MessageKind, MessageState, Phase, Provider
from warmup_pipeline.store import (
    chips,
    conversations,
    counts,
    message_writes,
    migrate,
    pools,
    rollup_counts,
    rollup_proof,
    rollups,
    schema,
    summaries,
    validations,
)
from warmup_pipeline.store.bulk import insert_rows
from warmup_pipeline.store.conversations import pair_key
from warmup_pipeline.store.engine import Store, Transaction
from warmup_pipeline.store.rollup_sums import SUMS
from warmup_pipeline_tests.support import MORNING, chip_row, run_sql

ZONE = ZoneInfo("America/Sao_Paulo")
CHIPS = 4
_numbers = itertools.count(1)

# -- what may happen ---------------------------------------------------------------------------------

CLASSES = [
    FailureClass.TRANSIENT,
    FailureClass.RESTRICTION,
    FailureClass.RECIPIENT,
    FailureClass.BUG,
    FailureClass.GATEWAY,
    FailureClass.RATE_LIMITED,
]

talks = st.tuples(
    st.just("talk"),
    st.integers(0, CHIPS - 1),
    st.integers(1, CHIPS - 1),
    st.lists(st.sampled_from([0, 5, 20, 60, 6 * 60, 13 * 60]), min_size=1, max_size=4),
    st.sampled_from(list(MessageKind)),
    st.booleans(),
)
changes = st.tuples(
    st.just("change"),
    st.integers(0, 40),
    st.sampled_from([s for s in MessageState if s is not MessageState.SENDING]),
    st.sampled_from(CLASSES),
)
withdrawals = st.tuples(st.just("withdraw"), st.integers(0, 40))
waits = st.tuples(st.just("wait"), st.sampled_from([5, 30, 59, 60, 61, 3 * 60, 11 * 60, 24 * 60, 50 * 60]))
looks = st.tuples(st.just("look"))
parts = st.tuples(st.just("part"), st.integers(1, 3))
pasts = st.lists(
    st.one_of(talks, talks, changes, changes, changes, waits, looks, parts, withdrawals),
    min_size=4,
    max_size=30,
)


@dataclass
class Past:
    """A pool of its own in a database, in which things happen."""

    store: Store
    now: datetime
    pool: str = ""
    chip_ids: list[str] = field(default_factory=list)
    message_ids: list[str] = field(default_factory=list)
    looks: int = 0

    def begin(self) -> None:
        number = next(_numbers)
        self.pool = f"pool-{number}"
        rows = [chip_row(number * 10 + n, pool=self.pool) for n in range(CHIPS)]
        self.chip_ids = [row["id"] for row in rows]
        with self.store.write() as tx:
            pools.ensure(tx, self.pool, at=MORNING)
            chips.insert(tx, rows, [])

    def talk(
        self, opener: int, further: int, gaps: Sequence[int], kind: MessageKind, confirmable: bool
    ) -> None:
        one, other = self.chip_ids[opener], self.chip_ids[(opener + further) % CHIPS]
        conversation_id = f"conversation-{next(_numbers)}"
        created = self.now
        messages: list[dict[str, Any]] = []
        for turn, gap in enumerate(gaps, start=1):
            self.now += timedelta(minutes=gap)
            sender, recipient = (one, other) if turn % 2 else (other, one)
            messages.append(
                {
                    "id": f"message-{next(_numbers)}",
                    "pool": self.pool,
                    "cycle_id": f"cycle-{next(_numbers)}",
                    "approval_id": f"approval-{next(_numbers)}",
                    "conversation_id": conversation_id,
                    "turn": turn,
                    "sender_chip_id": sender,
                    "recipient_chip_id": recipient,
                    "provider": Provider.EVOLUTION,
                    "kind": kind,
                    "phase": Phase.OPERACAO,
                    "state": MessageState.SENDING,
                    "sent_at": self.now,
                    "sent_day": local_day(self.now, ZONE),
                    "confirmable": confirmable,
                }
            )
        with self.store.write() as tx:
            conversations.insert(
                tx,
                [
                    {
                        "id": conversation_id,
                        "pool": self.pool,
                        "opener_chip_id": one,
                        "responder_chip_id": other,
                        "pair_key": pair_key(one, other),
                        "dialogue_id": "d",
                        "opens_with": MessageKind.TEXT,
                        "turns": 4,
                        "turns_accepted": 0,
                        "state": "closed",
                        "reason": "over",
                        "created_at": created,
                    }
                ],
            )
            insert_rows(tx, schema.cycles, [self._cycle(message) for message in messages])
            validations.insert(tx, [self._approval(message) for message in messages])
            message_writes.insert(tx, messages)
        self.message_ids += [message["id"] for message in messages]

    def _cycle(self, message: dict[str, Any]) -> dict[str, Any]:
        return {
            "id": message["cycle_id"],
            "pool": self.pool,
            "tick": MORNING + timedelta(seconds=next(_numbers)),
            "day": message["sent_day"],
            "policy": "p",
            "mode": "simulated",
            "state": "finished",
            "began_at": MORNING,
            "lease_until": MORNING,
            "counts": {},
        }

    def _approval(self, message: dict[str, Any]) -> dict[str, Any]:
        return {
            "id": message["approval_id"],
            "pool": self.pool,
            "cycle_id": message["cycle_id"],
            "at": message["sent_at"],
            "day": message["sent_day"],
            "subject": "reply",
            "conversation_id": message["conversation_id"],
            "turn": message["turn"],
            "sender_chip_id": message["sender_chip_id"],
            "recipient_chip_id": message["recipient_chip_id"],
            "decision": "approve",
            "phase": Phase.OPERACAO,
            "hour_limit": 30,
            "day_limit": 100,
            "sent_in_hour": 0,
            "sent_in_day": 0,
        }

    def change(self, which: int, state: MessageState, failure: FailureClass) -> None:
        if not self.message_ids:
            return
        row: dict[str, Any] = {"id": self.message_ids[which % len(self.message_ids)], "state": state}
        fails = state in (MessageState.FAILED, MessageState.UNKNOWN)
        row["failure_class"] = failure if fails else None
        row["confirmed_at"] = self.now if state in (MessageState.DELIVERED, MessageState.READ) else None
        with self.store.write() as tx:
            message_writes.change(tx, [row])

    def withdraw(self, which: int) -> None:
        if self.message_ids:
            with self.store.write() as tx:
                message_writes.withdraw(tx, [self.message_ids[which % len(self.message_ids)]])

    def wait(self, minutes: int) -> None:
        self.now += timedelta(minutes=minutes)

    def part(self, most: int) -> bool:
        """Roll up some more conversations for the first time; returns whether nothing is left."""
        with self.store.write() as tx:
            return rollups.go_on(tx, self.pool, most=most)

    def look(self) -> None:
        """Do what a cycle does, and compare."""
        day = local_day(self.now, ZONE)
        with self.store.write() as tx:
            rollups.bring_up(tx, self.pool, at=self.now)
            if rollups.is_rolled_up(tx, self.pool):
                self.looks += 1
                assert rollups.serves(tx, self.pool, at=self.now)
                straight = counts.counts(tx, self.pool, at=self.now, day=day)
                rolled_up = rollup_counts.counts(tx, self.pool, at=self.now, day=day)
                # A chip all of whose messages were withdrawn has sums of nothing, or none.
                nothing = MessageCounts()
                assert {k: v for k, v in rolled_up.items() if v != nothing} == {
                    k: v for k, v in straight.items() if v != nothing
                }
                for past_day in (day, day - timedelta(days=1), day - timedelta(days=3)):
                    by_roll_up = summaries.day_sums(tx, past_day, self.pool)
                    straight_from_log = summaries.day_sums(tx, past_day)
                    assert by_roll_up == {k: v for k, v in straight_from_log.items() if v.pool == self.pool}
                assert rollup_proof.wrong_days(tx, self.pool) == set()
                assert rollup_proof.wrong_totals(tx, self.pool) == set()


def live(store: Store, past: Sequence[tuple[Any, ...]], begins_after: int) -> Past:
    """Let a past happen, with a roll-up from somewhere on."""
    lived = Past(store, MORNING)
    lived.begin()
    for number, (what, *how) in enumerate(past):
        if number == begins_after % len(past):
            with store.write() as tx:
                rollups.begin(tx, lived.pool, at=lived.now)
        getattr(lived, what)(*how)
    while not lived.part(3):
        pass
    lived.look()
    return lived


@settings(max_examples=12, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(past=pasts, begins_after=st.integers(0, 29))
def test_whatever_happened_the_roll_up_says_what_the_log_says(
    store: Store, past: list[tuple[Any, ...]], begins_after: int
) -> None:
    assert live(store, past, begins_after).looks


def some_past(store: Store) -> Past:
    """A day's talk, rolled up."""
    past: list[tuple[Any, ...]] = [
        ("talk", 0, 1, [5, 5, 5], MessageKind.TEXT, True),
        ("talk", 2, 1, [5, 5], MessageKind.PICTURE, False),
        *(("change", n, MessageState.DELIVERED, CLASSES[0]) for n in range(5)),
    ]
    return live(store, past, 0)


def test_a_row_edited_behind_a_rolled_up_log_makes_the_whole_sum_differ(store: Store) -> None:
    lived = some_past(store)
    run_sql(store, "UPDATE messages SET state = 'failed', failure_class = 'transient' WHERE turn = 1")
    day = local_day(lived.now, ZONE)
    with store.read() as tx:
        assert counts.counts(tx, lived.pool, at=lived.now, day=day) != rollup_counts.counts(
            tx, lived.pool, at=lived.now, day=day
        )


@pytest.mark.parametrize(
    "sabotage",
    [
        "UPDATE chip_message_days SET sent = sent + 1",
        "UPDATE chip_message_totals SET two_way = two_way + 1",
        "DELETE FROM chip_message_totals",
        "DELETE FROM chip_message_days",
    ],
)
def test_a_roll_up_that_was_edited_is_found_and_put_right(store: Store, sabotage: str) -> None:
    lived = some_past(store)
    run_sql(store, sabotage)
    with store.write() as tx:
        wrong = rollup_proof.wrong_totals(tx, lived.pool) | rollup_proof.wrong_days(tx, lived.pool)
        assert wrong == set(lived.chip_ids)
        rollup_proof.roll_up_anew(tx, lived.pool, wrong)
    lived.wait(5)
    lived.look()


def test_while_a_touched_day_waits_or_a_message_is_of_the_future_the_log_itself_is_summed(
    store: Store,
) -> None:
    lived = some_past(store)
    with store.read() as tx:
        assert rollups.serves(tx, lived.pool, at=lived.now)
        assert not rollups.serves(tx, lived.pool, at=lived.now - timedelta(minutes=16))
    lived.change(0, MessageState.READ, CLASSES[0])
    with store.read() as tx:
        assert not rollups.serves(tx, lived.pool, at=lived.now)


def test_a_log_is_rolled_up_once_it_is_long_and_not_before(
    sqlite_store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    lived = Past(sqlite_store, MORNING)
    lived.begin()
    lived.talk(0, 1, [5, 5], MessageKind.TEXT, confirmable=True)
    monkeypatch.setattr(rollups, "LONG_LOG", 3)
    with sqlite_store.read() as tx:
        assert not rollups.is_due(tx, lived.pool)
    lived.talk(0, 1, [5], MessageKind.TEXT, confirmable=True)
    with sqlite_store.read() as tx:
        assert rollups.is_due(tx, lived.pool)


def to_version(store: Store, version: str) -> None:
    folder = Path(warmup_pipeline.__file__).parent / "store" / "migrations"
    config = Config()
    config.set_main_option("script_location", str(folder))
    with store.write() as tx:
        config.attributes["connection"] = tx.connection
        command.downgrade(config, version)


def test_what_was_rolled_up_before_an_upgrade_is_forgotten_and_rolled_up_anew(store: Store) -> None:
    lived = some_past(store)
    to_version(store, "0009")
    number = "(chip_id, day, pool, {0}) SELECT id, '2026-03-02', pool, {1} FROM chips"
    zeros = ", ".join(["7"] * len(SUMS))
    run_sql(store, "INSERT INTO chip_message_days " + number.format(", ".join(SUMS), zeros))
    run_sql(
        store,
        "INSERT INTO chip_message_touches (chip_id, day, pool) SELECT id, '2026-03-02', pool FROM chips",
    )
    run_sql(
        store,
        "INSERT INTO message_rollups (pool, since, verified_on) SELECT name, created_at, NULL FROM pools",
    )
    migrate.upgrade(store)
    with store.write() as tx:
        assert not rollups.is_rolled_up(tx, lived.pool)
        rollups.begin(tx, lived.pool, at=lived.now)
    while not lived.part(1):
        pass
    lived.look()
    assert lived.looks == 2


def test_who_writes_while_a_roll_up_is_brought_up_is_put_in_by_the_next_one(postgres_url: str) -> None:
    store = Store(postgres_url)
    migrate.upgrade(store)
    lived = some_past(store)
    for _ in range(2):
        lived.wait(5)
        lived.look()
    one, other = lived.message_ids[0], lived.message_ids[-1]
    arrived = {"state": MessageState.READ, "failure_class": None, "confirmed_at": lived.now}
    with store.write() as tx:
        message_writes.change(tx, [{"id": other, **arrived}])
    with store.write() as writer:
        message_writes.change(
            writer, [{"id": one, "state": MessageState.UNKNOWN, "failure_class": CLASSES[0]}]
        )
        with store.write() as tx:
            assert rollups.bring_up(tx, lived.pool, at=lived.now) == 1
    with store.read() as tx:
        assert not rollups.speaks_for(tx, lived.pool)
    lived.look()
    # It runs again at the same tick: nothing is put in twice.
    lived.look()
    store.close()


@contextmanager
def being_rolled_up(postgres_url: str) -> Iterator[Past]:
    store = Store(postgres_url)
    migrate.upgrade(store)
    lived = some_past(store)
    with store.write() as tx:
        rollups.begin(tx, lived.pool, at=lived.now)
    yield lived
    store.close()


def change_a_message(tx: Transaction, lived: Past) -> None:
    row = {"id": lived.message_ids[0], "state": MessageState.UNKNOWN, "failure_class": CLASSES[0]}
    message_writes.change(tx, [row])


def test_the_first_roll_up_waits_for_who_is_writing(postgres_url: str) -> None:
    with being_rolled_up(postgres_url) as lived, ThreadPoolExecutor(max_workers=1) as pool:
        with lived.store.write() as writer:
            change_a_message(writer, lived)
            rolling_up = pool.submit(lived.part, 100)
            until_it_waits(lived.store, rolling_up)
        assert rolling_up.result()
        lived.look()


def test_marking_as_read_has_nothing_summed_again(sqlite_store: Store) -> None:
    lived = some_past(sqlite_store)
    lived.look()
    touched = "SELECT conversation_id FROM conversation_touches WHERE stage <> 'in'"
    for row, taken_out in (({"marked_read_at": lived.now}, 0), ({"state": MessageState.READ}, 1)):
        with sqlite_store.write() as tx:
            message_writes.change(tx, [{"id": lived.message_ids[0], **row}])
            assert len(tx.connection.exec_driver_sql(touched).all()) == taken_out


def test_who_writes_messages_holds_no_other_pool(postgres_url: str) -> None:
    with being_rolled_up(postgres_url) as lived:
        with lived.store.write() as tx:
            pools.ensure(tx, "another", at=lived.now)
        with lived.store.write() as writer, lived.store.write() as other:
            change_a_message(writer, lived)
            held = other.connection.exec_driver_sql("SELECT name FROM pools FOR UPDATE SKIP LOCKED").scalars()
            assert "another" in set(held)


def until_it_waits(store: Store, what: Future[bool]) -> None:
    """Return once a transaction waits for another one's lock, or is through."""
    waiting = sa.text("SELECT count(*) FROM pg_locks WHERE NOT granted")
    found = 0
    while not found and not what.done():
        with store.read() as tx:
            found = tx.connection.execute(waiting).scalar_one()


def test_a_message_never_moves_to_another_chip_or_day(sqlite_store: Store) -> None:
    with sqlite_store.write() as tx, pytest.raises(ValueError, match="sent_day"):
        message_writes.change(tx, [{"id": "any", "sent_day": MORNING.date()}])


WRITERS = {"insert", "update", "delete", "insert_rows", "insert_new_rows", "upsert_rows", "update_rows"}


def test_one_module_alone_writes_to_the_message_log() -> None:
    package = Path(warmup_pipeline.__file__).parent
    found = set()
    for file in sorted(package.rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Call):
                name = (
                    node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
                )
                if name in WRITERS and any(
                    (isinstance(one, ast.Name) and one.id == "messages")
                    or (isinstance(one, ast.Attribute) and one.attr == "messages")
                    for one in node.args[:2]
                ):
                    found.add(file.relative_to(package).as_posix())
    assert found == {"store/message_writes.py"}
