"""The traps: nobody listens while something is written; who interrupts leaves a batch half begun; a call begins that
nobody wants any more.
"""

from __future__ import annotations

import asyncio
import signal
import threading
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import httpx
import pytest
from dagster._core.errors import DagsterExecutionInterruptedError, raise_execution_interrupts
from dagster._utils.interrupts import capture_interrupts

from warmup_pipeline.store import message_writes
from warmup_pipeline.store.cycles import Cycle
from warmup_pipeline.warmup import approved, lifecycle, noting, operating, send
from warmup_pipeline.warmup.outcomes import record_outcomes
from warmup_pipeline.warmup.timelapse.clock import VirtualClock
from warmup_pipeline.warmup.timelapse.transport import SimulatorTransport
from warmup_pipeline.warmup.wanted import Wanted
from warmup_pipeline_tests.support import MORNING, Lab, chip_row, due_openings, rows_of
from warmup_pipeline_tests.warmup.test_troubles import (
    BEFORE_SENDING,
    _Interrupting,
    assert_nothing_lost,
    seen,
)

SOON_S = 30.0
"""Longer than anything here takes: only what would wait for ever runs into it."""


def ready_to_send(lab: Lab) -> Cycle:
    """Begin a cycle in which four chips have an opening approved."""
    due_openings(lab, [chip_row(n)["id"] for n in range(1, 9)])
    cycle = lab.begin()
    for step in BEFORE_SENDING:
        step(lab.world, cycle)
    return cycle


def test_answers_are_taken_in_while_the_database_lets_their_outcomes_wait(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    cycle = ready_to_send(lab)
    monkeypatch.setattr(noting, "NOTE_AT", 1)
    begun, answers = threading.Event(), 0
    held = lab.store.write()

    def noted(*arguments: Any) -> None:
        begun.set()
        record_outcomes(*arguments)

    async def somebody_holds_the_pool() -> None:
        nonlocal answers
        answers += 1
        number = answers
        if number == 1:
            held.__enter__().lock_pool(lab.pool)
        elif number == 2:
            # The first one's outcome waits for the database by now; it goes on once this one was heard.
            assert await asyncio.to_thread(begun.wait, SOON_S)
            held.__exit__(None, None, None)

    monkeypatch.setattr(noting, "record_outcomes", noted)
    listening = replace(lab.world, transport_factory=lambda: _Interrupting(somebody_holds_the_pool))
    report = send.send_messages(listening, cycle)
    assert report.numbers["sent"] == answers == 4
    assert [text for _, text in lab.log.entries if "could not be noted" in text] == []
    assert_nothing_lost(lab)


@pytest.mark.parametrize("when", ["a batch is written down", "its calls are out", "outcomes are noted"])
def test_whoever_waits_for_an_interruption_to_end_leaves_nothing_written_down_and_not_sent_or_sent_and_not_noted(
    lab: Lab, monkeypatch: pytest.MonkeyPatch, when: str
) -> None:
    cycle = ready_to_send(lab)

    async def scenario() -> int:
        loop, cut_off, times = asyncio.get_running_loop(), threading.Event(), 0

        def interrupt() -> None:
            nonlocal times
            times += 1
            if times == 1:
                # As Ctrl-C does.
                sending.cancel()
            cut_off.set()

        def interrupting(real: Callable[..., Any]) -> Callable[..., Any]:
            def doing(*arguments: Any) -> Any:
                loop.call_soon_threadsafe(interrupt)
                assert cut_off.wait(SOON_S)
                return real(*arguments)

            return doing

        async def answered() -> None:
            if when == "its calls are out":
                interrupt()

        if when == "a batch is written down":
            monkeypatch.setattr(message_writes, "insert", interrupting(message_writes.insert))
        elif when == "outcomes are noted":
            monkeypatch.setattr(noting, "record_outcomes", interrupting(record_outcomes))
        world = replace(lab.world, transport_factory=lambda: _Interrupting(answered))
        sender = send._Sender(world, cycle, approved.load_approved(world, cycle), approved.Tally())
        sending = asyncio.create_task(sender.run())
        with pytest.raises(asyncio.CancelledError):
            await sending
        return times

    assert asyncio.run(scenario()) > 0
    monkeypatch.undo()
    states = rows_of(lab.store, "SELECT state FROM messages")
    assert [row["state"] for row in states] == ["accepted"] * len(seen(lab))
    # A call that is out is waited for, one that waits for its turn is not made.
    assert len(seen(lab)) == (0 if when == "a batch is written down" else 4)
    assert_nothing_lost(lab)
    lifecycle.fail_cycle(lab.world, cycle)
    lab.move_to(lab.now + timedelta(minutes=5))
    lab.cycle()
    assert len({conversation for conversation, turn in seen(lab) if turn == 1}) == 4


@pytest.mark.parametrize(
    "when",
    [
        "a batch is written down",
        "its calls wait for their turn",
        "the next batch waits",
        "outcomes are noted",
    ],
)
def test_a_run_that_is_terminated_waits_for_calls_that_are_out_and_begins_no_other(
    lab: Lab, monkeypatch: pytest.MonkeyPatch, when: str
) -> None:
    one_at_a_time(lab)
    cycle = ready_to_send(lab)
    main, told = threading.main_thread().ident or 0, threading.Event()

    def terminate() -> None:
        if not told.is_set():
            told.set()
            # As Dagster is told to end a run: its handler raises, wherever the main thread is.
            signal.pthread_kill(main, signal.SIGINT)

    def terminated(real: Callable[..., Any]) -> Callable[..., Any]:
        def doing(*arguments: Any) -> Any:
            terminate()
            return real(*arguments)

        return doing

    async def answered() -> None:
        if when in ("its calls wait for their turn", "the next batch waits"):
            await asyncio.to_thread(terminate)

    if when == "a batch is written down":
        monkeypatch.setattr(message_writes, "insert", terminated(message_writes.insert))
    elif when == "outcomes are noted":
        monkeypatch.setattr(noting, "NOTE_AT", 1)
        monkeypatch.setattr(noting, "record_outcomes", terminated(record_outcomes))
    elif when == "the next batch waits":
        monkeypatch.setattr(send, "ROWS_PER_STATEMENT", 2)
        monkeypatch.setattr(send, "NEXT_BATCH_AT", 0)
    world = replace(lab.world, transport_factory=lambda: _Interrupting(answered))
    with (
        capture_interrupts(),
        pytest.raises(DagsterExecutionInterruptedError),
        raise_execution_interrupts(),
    ):
        send.send_messages(world, cycle)
    assert told.is_set()
    monkeypatch.undo()
    states = [row["state"] for row in rows_of(lab.store, "SELECT state FROM messages")]
    assert states == ["accepted"] * len(seen(lab))
    if when != "outcomes are noted":
        assert len(seen(lab)) <= 2, "one that is out, and one whose turn came before the signal was heard"
    lifecycle.fail_cycle(lab.world, cycle)
    lab.move_to(lab.now + timedelta(minutes=5))
    lab.cycles(6)
    assert len({conversation for conversation, turn in seen(lab) if turn == 1}) == 4
    assert_nothing_lost(lab)


def test_calls_that_wait_for_a_server_that_went_down_meanwhile_are_not_made(lab: Lab) -> None:
    one_at_a_time(lab)
    cycle = ready_to_send(lab)
    asked = 0

    class LettingNobodyIn(httpx.AsyncBaseTransport):
        async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
            nonlocal asked
            asked += 1
            return httpx.Response(401, json={"message": "Unauthorized"})

    report = send.send_messages(replace(lab.world, transport_factory=LettingNobodyIn), cycle)
    assert asked == 1
    assert report.numbers["withdrawn_by_reason"] == {"gateway_down": 3}
    assert_nothing_lost(lab)


def test_a_call_that_waits_for_its_turn_while_sending_is_switched_off_is_not_made(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    one_at_a_time(lab)
    cycle = ready_to_send(lab)
    monkeypatch.setattr(noting, "NOTE_EVERY_S", 0.01)
    real, off, known = Wanted.ask_switches, threading.Event(), threading.Event()

    def asked(wanted: Wanted) -> None:
        was_off = off.is_set()
        real(wanted)
        if was_off:
            known.set()

    async def switched_off() -> None:
        operating.set_kill_switch(lab.world, scope="all", author="test", reason="stop")
        off.set()
        assert await asyncio.to_thread(known.wait, SOON_S)

    monkeypatch.setattr(Wanted, "ask_switches", asked)
    world = replace(lab.world, transport_factory=lambda: _Interrupting(switched_off))
    report = send.send_messages(world, cycle)
    assert report.numbers["sent"] == 1
    assert report.numbers["withdrawn_by_reason"] == {"kill_switch": 3}
    assert len(seen(lab)) == 1
    assert_nothing_lost(lab)


def test_between_telling_of_one_failure_and_the_next_the_others_are_listened_to(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    cycle = ready_to_send(lab)
    refuse_sends(lab)
    told: list[str] = []

    def failure(title: str, traceback: str) -> None:
        told.append(title)
        asyncio.get_running_loop().call_soon(told.append, "listened")

    monkeypatch.setattr(lab.log, "failure", failure)
    report = send.send_messages(lab.world, cycle)
    assert report.numbers["failed"] == 4
    assert [word for word in told if word == "listened"] == told[1::2]


def refuse_sends(lab: Lab) -> None:
    """Have the gateway refuse every send."""
    refusals = {"rules": [{"match": {"route": "any-send"}, "kind": "status", "code": 400}]}
    httpx.post(f"{lab.base_url}/_sim/faults", json=refusals, trust_env=False).raise_for_status()


def one_at_a_time(lab: Lab) -> None:
    """Let a server be asked one thing at a time."""
    pace = lab.world.policy.pace.model_copy(update={"connections_per_server": 1})
    lab.with_policy(lab.world.policy.model_copy(update={"pace": pace}))


def test_in_virtual_time_a_step_does_everything_in_its_own_thread(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    cycle = ready_to_send(lab)
    threads: set[int] = set()

    def noted(*arguments: Any) -> None:
        threads.add(threading.get_ident())
        record_outcomes(*arguments)

    monkeypatch.setattr(noting, "record_outcomes", noted)
    loop = VirtualClock(MORNING).event_loop()
    in_process = SimulatorTransport(lab.core, unreachable=set())
    try:
        report = send.send_messages(
            replace(lab.world, loop=loop, transport_factory=lambda: in_process), cycle
        )
    finally:
        loop.close()
    assert report.numbers["sent"] == 4
    assert threads == {threading.get_ident()}
