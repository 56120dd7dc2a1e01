"""The traps: nobody listens while the database is waited for; who interrupts leaves a batch half begun."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import httpx
import pytest

from warmup_pipeline.gateways.sockets import SocketTransport
from warmup_pipeline.store import message_writes
from warmup_pipeline.store.engine import Store
from warmup_pipeline.warmup import approved, send
from warmup_pipeline.warmup.outcomes import record_outcomes
from warmup_pipeline.warmup.timelapse.clock import VirtualClock
from warmup_pipeline.warmup.timelapse.transport import SimulatorTransport
from warmup_pipeline_tests.support import MORNING, Lab, chip_row, due_openings, open_lab, rows_of
from warmup_pipeline_tests.warmup.test_troubles import BEFORE_SENDING, assert_nothing_lost, seen

SOON_S = 30.0
"""Longer than anything here takes: only what would wait for ever runs into it."""


@pytest.fixture
def lab(store: Store) -> Iterator[Lab]:
    """Eight chips that know each other, on both databases."""
    with open_lab(store) as opened:
        opened.add([chip_row(n, ddd=11) for n in range(1, 9)])
        opened.cycle()
        yield opened


class _Telling(SocketTransport):
    """Real sockets; tells when a send has been answered, before the answer is seen."""

    def __init__(self, answered: Callable[[], Any]) -> None:
        super().__init__(secure=False)
        self.answered = answered

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        answer = await super().handle_async_request(request)
        if "/message/sendText/" in request.url.path:
            await answer.aread()
            await self.answered()
        return answer


def test_answers_are_taken_in_while_the_database_lets_their_outcomes_wait(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    due_openings(lab, [chip_row(n)["id"] for n in range(1, 9)])
    cycle = lab.begin()
    for step in BEFORE_SENDING:
        step(lab.world, cycle)
    monkeypatch.setattr(send, "NOTE_AT", 1)
    noting, answers = threading.Event(), 0
    held = lab.store.write()

    def noted(*arguments: Any) -> None:
        noting.set()
        record_outcomes(*arguments)

    async def somebody_holds_the_pool() -> None:
        nonlocal answers
        answers += 1
        number = answers
        if number == 1:
            held.__enter__().lock_pool(lab.pool)
        elif number == 2:
            # The first one's outcome waits for the database by now; it goes on once this one was heard.
            assert await asyncio.to_thread(noting.wait, SOON_S)
            held.__exit__(None, None, None)

    monkeypatch.setattr(send, "record_outcomes", noted)
    listening = replace(lab.world, transport_factory=lambda: _Telling(somebody_holds_the_pool))
    report = send.send_messages(listening, cycle)
    assert report.numbers["sent"] == answers == 4
    assert [text for _, text in lab.log.entries if "could not be noted" in text] == []
    assert_nothing_lost(lab)


@pytest.mark.parametrize("when", ["a batch is written down", "its calls are out", "outcomes are noted"])
def test_an_interruption_leaves_nothing_that_was_written_down_and_not_sent_or_sent_and_not_noted(
    lab: Lab, monkeypatch: pytest.MonkeyPatch, when: str
) -> None:
    due_openings(lab, [chip_row(n)["id"] for n in range(1, 9)])
    cycle = lab.begin()
    for step in BEFORE_SENDING:
        step(lab.world, cycle)

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
            monkeypatch.setattr(send, "record_outcomes", interrupting(record_outcomes))
        world = replace(lab.world, transport_factory=lambda: _Telling(answered))
        sender = send._Sender(world, cycle, approved.load_approved(world, cycle), approved.Tally())
        sending = asyncio.create_task(sender.run())
        with pytest.raises(asyncio.CancelledError):
            await sending
        return times

    assert asyncio.run(scenario()) > 0
    assert len(seen(lab)) == 4
    assert rows_of(lab.store, "SELECT DISTINCT state FROM messages") == [{"state": "accepted"}]
    assert_nothing_lost(lab)


def test_in_virtual_time_a_step_does_everything_in_its_own_thread(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    due_openings(lab, [chip_row(n)["id"] for n in range(1, 9)])
    cycle = lab.begin()
    for step in BEFORE_SENDING:
        step(lab.world, cycle)
    threads: set[int] = set()

    def noted(*arguments: Any) -> None:
        threads.add(threading.get_ident())
        record_outcomes(*arguments)

    monkeypatch.setattr(send, "record_outcomes", noted)
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
