"""The trap: two processes that both do what one may. Here the lease is out of the way, and the database decides."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import timedelta
from threading import Thread

import pytest

from warmup_pipeline.domain.circuit import Circuit, begin_probe
from warmup_pipeline.domain.values import CONVERSA_PAR, CircuitState, MessageKind
from warmup_pipeline.gateways.base import Content
from warmup_pipeline.store import activities, chips, conversations, migrate, validations
from warmup_pipeline.store.chips import ProbeUnderWay
from warmup_pipeline.store.cycles import Cycle
from warmup_pipeline.store.engine import Store
from warmup_pipeline.store.validations import ApprovalGone
from warmup_pipeline.warmup import lifecycle, send
from warmup_pipeline.warmup.library import Library
from warmup_pipeline.warmup.lifecycle import LEASE, CycleRefused
from warmup_pipeline.warmup.timelapse.engine import STEPS
from warmup_pipeline_tests.support import Lab, chip_row, due_openings, open_lab, rows_of
from warmup_pipeline_tests.warmup.test_troubles import (
    BEFORE_SENDING,
    _Interrupting,
    assert_nothing_lost,
    seen,
)


@pytest.fixture
def lab(store: Store) -> Iterator[Lab]:
    """Two chips that know each other, on both databases, with an opening due."""
    with open_lab(store) as opened:
        opened.add([chip_row(n, ddd=11) for n in (1, 2)])
        opened.cycle()
        due_openings(opened, [chip_row(1)["id"]])
        yield opened


def approved(lab: Lab) -> Cycle:
    """Begin a cycle and bring it to where its send is approved."""
    cycle = lab.begin()
    for step in BEFORE_SENDING:
        step(lab.world, cycle)
    return cycle


def test_an_approval_is_spent_by_whoever_is_first_and_nothing_of_the_second_is_kept(lab: Lab) -> None:
    cycle = approved(lab)
    with lab.store.read() as tx:
        (approval,) = validations.spendable(tx, cycle.id)
    with lab.store.write() as tx:
        validations.spend(tx, [approval.id], at=cycle.tick)
    with pytest.raises(ApprovalGone, match="another process"), lab.store.write() as tx:
        validations.spend(tx, [approval.id], at=cycle.tick)


@dataclass(frozen=True)
class SlowOpening:
    """An opening whose making takes its time: another process acts between loading and writing down."""

    then: Callable[[], None]

    @property
    def type(self) -> str:
        """The type it stands for."""
        return CONVERSA_PAR

    @property
    def opens_with(self) -> frozenset[MessageKind]:
        """What its first turn may be."""
        return frozenset({MessageKind.TEXT})

    def first_turn(
        self, library: Library, dialogue_id: str, *, seed: str
    ) -> tuple[Content, MessageKind, str | None]:
        self.then()
        return library.content(dialogue_id, 1, seed=seed)


def test_a_run_executed_twice_at_once_sends_once(lab: Lab) -> None:
    """Both have loaded the approval; one comes to write down when the other has sent."""
    cycle = approved(lab)

    def the_other_sends() -> None:
        other = Thread(target=send.send_messages, args=(lab.world, cycle))
        other.start()
        other.join()

    registry = replace(lab.world.activities, openings={CONVERSA_PAR: SlowOpening(the_other_sends)})
    with pytest.raises(ApprovalGone):
        send.send_messages(replace(lab.world, activities=registry), cycle)
    assert len(seen(lab)) == 1
    assert_nothing_lost(lab)


def test_a_cycle_that_was_believed_dead_does_nothing_any_more(lab: Lab) -> None:
    old = approved(lab)
    lab.move_to(lab.now + LEASE)
    lab.begin()
    for step in STEPS:
        with pytest.raises(CycleRefused, match="has gone on to the one of"):
            step(lab.world, old)
    assert seen(lab) == []
    # What it had been allowed is free again: the new cycle sends it.
    lab.move_to(lab.now + timedelta(minutes=5))
    lab.cycle()
    assert len(seen(lab)) == 1
    assert_nothing_lost(lab)


def test_a_process_believed_dead_tells_late_what_was_accepted(lab: Lab) -> None:
    old = approved(lab)

    def the_next_cycle_begins() -> None:
        lab.move_to(lab.now + LEASE)
        lab.begin()
        (row,) = rows_of(lab.store, "SELECT state FROM messages")
        assert row["state"] == "unknown", "the reconciler believed its process dead"

    sending = replace(lab.world, transport_factory=lambda: _Interrupting(the_next_cycle_begins))
    send.send_messages(sending, old)
    (message,) = rows_of(lab.store, "SELECT state, gateway_message_id, failure_class FROM messages")
    assert message["state"] == "accepted"
    assert message["gateway_message_id"]
    assert message["failure_class"] is None
    (conversation,) = rows_of(lab.store, "SELECT state, turns_accepted FROM conversations")
    assert conversation == {"state": "open", "turns_accepted": 1}
    (activity,) = rows_of(lab.store, "SELECT state FROM activities WHERE conversation_id IS NOT NULL")
    assert activity["state"] == "executed"
    lab.move_to(lab.now + timedelta(minutes=5))
    lab.cycles(4)
    assert_nothing_lost(lab)


def test_a_probe_begins_once(lab: Lab) -> None:
    chip_id = chip_row(1)["id"]
    broken = Circuit(CircuitState.OPEN, 3, lab.now - timedelta(minutes=10))
    with lab.store.write() as tx:
        chips.set_breakers(tx, {chip_id: broken})
    with lab.store.write() as tx:
        chips.begin_probes(tx, {chip_id: begin_probe(broken)})
    with pytest.raises(ProbeUnderWay), lab.store.write() as tx:
        chips.begin_probes(tx, {chip_id: begin_probe(broken)})


def test_two_claims_at_once_leave_each_other_what_they_have_locked(postgres_url: str) -> None:
    """Even with nobody holding the pool: the rows themselves are locked, and skipped by the other."""
    store = Store(postgres_url)
    migrate.upgrade(store)
    with open_lab(store) as lab:
        lab.add([chip_row(n, ddd=11) for n in (1, 2)])
        lab.cycle()
        due_openings(lab, [chip_row(1)["id"]])
        lab.cycle()
        lab.move_to(lab.now + timedelta(minutes=20))
        due_openings(lab, [chip_row(2)["id"]])
        cycle = lab.begin()
        (conversation,) = rows_of(store, "SELECT id FROM conversations WHERE state = 'open'")
        with store.write() as one, store.write() as other:
            assert len(activities.due(one, "default", tick=lab.now, day=cycle.day)) == 1
            assert activities.due(other, "default", tick=lab.now, day=cycle.day) == []
            assert conversations.claim(one, [conversation["id"]], cycle.id) == {conversation["id"]}
            assert conversations.claim(other, [conversation["id"]], cycle.id) == set()
    store.close()


def test_cycles_begun_at_once_are_one(lab: Lab) -> None:
    first = lab.begin(run="one")
    with pytest.raises(CycleRefused, match="still holds pool"):
        lab.begin(run="two")
    assert lab.begin(run="one").id == first.id
    lifecycle.end_cycle(lab.world, first)
    with pytest.raises(CycleRefused, match="has had its cycle"):
        lab.begin(run="three")
