"""The trap: sums that are kept from cycle to cycle and miss a change. They must equal sums of the log itself.

Pasts are the random ones of ``test_rollups``, in a database of one process; in between, transactions are
taken back after their sums were kept.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from warmup_pipeline.domain.localtime import local_day
from warmup_pipeline.domain.metrics import MessageCounts
from warmup_pipeline.domain.values import MessageKind, MessageState
from warmup_pipeline.store import counts, message_writes
from warmup_pipeline.store.counts_kept import counts_kept
from warmup_pipeline.store.engine import Store, Transaction
from warmup_pipeline.store.scratch import ScratchStore, scratch_store
from warmup_pipeline_tests.store.test_rollups import (
    CLASSES,
    ZONE,
    Past,
    changes,
    looks,
    talks,
    waits,
    withdrawals,
)
from warmup_pipeline_tests.support import MORNING, run_sql


@pytest.fixture(scope="module")
def scratch() -> Iterator[Store]:
    with TemporaryDirectory() as folder:
        store = scratch_store(Path(folder) / "scratch.db")
        yield store
        store.close()


def _something(sums: dict[str, MessageCounts]) -> dict[str, MessageCounts]:
    return {chip_id: one for chip_id, one in sums.items() if one != MessageCounts()}


@dataclass
class KeptPast(Past):
    """A past in which every look compares what is kept with the log."""

    def look(self) -> None:
        with self.store.read() as tx:
            self.compare(tx)
        self.looks += 1

    def compare(self, tx: Transaction) -> None:
        day = local_day(self.now, ZONE)
        kept = counts_kept(tx, self.pool, at=self.now, day=day)
        straight = counts.counts(tx, self.pool, at=self.now, day=day)
        # A chip all of whose messages were withdrawn has sums of nothing, or none.
        assert _something(kept) == _something(straight)

    def taken_back(self, which: int) -> None:
        """Change a message, look, and take all of it back."""
        if not self.message_ids:
            return
        with pytest.raises(KeyError):
            self._fail(self.message_ids[which % len(self.message_ids)])
        self.look()

    def _fail(self, message_id: str) -> None:
        row = {"id": message_id, "state": MessageState.UNKNOWN, "failure_class": CLASSES[0]}
        with self.store.write() as tx:
            message_writes.change(tx, [row])
            self.compare(tx)
            raise KeyError("taken back")

    def back(self, minutes: int) -> None:
        """Look at an earlier moment, and at this one again."""
        self.now -= timedelta(minutes=minutes)
        self.look()
        self.now += timedelta(minutes=minutes)
        self.look()


taken_back = st.tuples(st.just("taken_back"), st.integers(0, 40))
back = st.tuples(st.just("back"), st.sampled_from([5, 90, 26 * 60]))
lives = st.lists(
    st.one_of(talks, talks, changes, changes, changes, waits, looks, looks, withdrawals, taken_back, back),
    min_size=4,
    max_size=30,
)


@settings(max_examples=60, suppress_health_check=[HealthCheck.too_slow])
@given(life=lives)
def test_whatever_happened_the_sums_that_are_kept_are_those_of_the_log(
    scratch: Store, life: list[tuple[Any, ...]]
) -> None:
    lived = KeptPast(scratch, MORNING)
    lived.begin()
    for what, *how in life:
        getattr(lived, what)(*how)
    lived.look()


def test_only_conversations_that_have_changed_are_read_again(scratch: Store) -> None:
    lived = KeptPast(scratch, MORNING)
    lived.begin()
    lived.talk(0, 1, [5, 5], MessageKind.TEXT, confirmable=True)
    lived.talk(2, 1, [5, 5], MessageKind.PICTURE, confirmable=True)
    lived.change(0, MessageState.DELIVERED, CLASSES[0])
    lived.look()
    assert isinstance(scratch, ScratchStore)
    assert scratch._driver is not None
    asked: list[str] = []
    scratch._driver.set_trace_callback(asked.append)
    day = local_day(lived.now, ZONE)

    def read() -> int:
        asked.clear()
        with scratch.read() as tx:
            counts_kept(tx, lived.pool, at=lived.now, day=day)
        return sum("FROM messages" in text for text in asked)

    assert read() == 0
    lived.change(2, MessageState.READ, CLASSES[0])
    assert read() == 1
    assert "conversation_id IN" in next(text for text in asked if "FROM messages" in text)
    assert read() == 0
    scratch._driver.set_trace_callback(None)


def test_a_message_of_the_future_counts_for_nothing_yet(scratch: Store) -> None:
    lived = KeptPast(scratch, MORNING)
    lived.begin()
    lived.talk(0, 1, [5, 60], MessageKind.TEXT, confirmable=False)
    run_sql(scratch, "UPDATE messages SET state = 'accepted' WHERE pool = :pool", pool=lived.pool)
    lived.look()
    lived.back(30)
