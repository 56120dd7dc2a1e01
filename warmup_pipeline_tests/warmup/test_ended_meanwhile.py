"""The traps: an action done twice because its run was ended; what went wrong by then is told nowhere; a session
restarted again in the next cycle.
"""

from __future__ import annotations

import asyncio
import signal
import threading
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from dagster._core.errors import DagsterExecutionInterruptedError, raise_execution_interrupts
from dagster._utils.interrupts import capture_interrupts

from warmup_pipeline.domain.values import MARCAR_LIDO, Provider
from warmup_pipeline.gateways.sockets import SocketTransport
from warmup_pipeline.store import message_writes
from warmup_pipeline.store.cycles import Cycle
from warmup_pipeline.store.engine import Store
from warmup_pipeline.store.trouble import StoreError
from warmup_pipeline.warmup import connections, lifecycle, noting, operating, send
from warmup_pipeline.warmup.wanted import Wanted
from warmup_pipeline.warmup.world import StepReport, World
from warmup_pipeline_tests.serve import bodies
from warmup_pipeline_tests.serve.ear import listening
from warmup_pipeline_tests.support import Lab, chip_row, due_openings, open_lab, rows_of, run_sql
from warmup_pipeline_tests.warmup.test_sending_aside import SOON_S, one_at_a_time, ready_to_send
from warmup_pipeline_tests.warmup.test_troubles import BEFORE_SENDING, _Interrupting, seen

Then = Callable[[httpx.Response], Awaitable[None] | None]


class Asked(SocketTransport):
    """Real sockets; what is asked at one path is counted, and something happens once it was answered."""

    def __init__(self, path: str, then: Callable[[int], Awaitable[None]], asked: list[str]) -> None:
        super().__init__(secure=False)
        self.path, self.then, self.asked = path, then, asked

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        answer = await super().handle_async_request(request)
        if self.path in request.url.path:
            await answer.aread()
            self.asked.append(request.url.path)
            await self.then(len(self.asked))
        return answer


def end_the_run() -> None:
    """End it as Dagster is told to: its handler raises, wherever the main thread is."""
    signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)


def ended(step: Callable[[World, Cycle], StepReport], world: World, cycle: Cycle) -> BaseException:
    """Return what a step raises whose run is ended in the middle of it."""
    with (
        capture_interrupts(),
        pytest.raises(DagsterExecutionInterruptedError) as raised,
        raise_execution_interrupts(),
    ):
        step(world, cycle)
    return raised.value


def told(interruption: BaseException) -> str:
    """Return what an interruption says of what went wrong beside it."""
    words, link = [], interruption.__cause__ or interruption.__context__
    while link is not None:
        words.append(repr(link))
        link = link.__cause__ or link.__context__
    return " ".join(words)


def ready_to_mark(lab: Lab) -> Cycle:
    """Begin a cycle in which four chips have an action approved, and something to mark."""
    due_openings(lab, [chip_row(n)["id"] for n in range(1, 9)])
    lab.cycle()
    received = [
        row["recipient_chip_id"] for row in rows_of(lab.store, "SELECT recipient_chip_id FROM messages")
    ]
    due_openings(lab, received, kind=MARCAR_LIDO)
    cycle = lab.begin()
    for step in BEFORE_SENDING:
        step(lab.world, cycle)
    return cycle


MARKING = "markMessageAsRead"
STATE = "/instance/connectionState/"


def marks(lab: Lab) -> list[str]:
    """Return what became of the actions."""
    rows = rows_of(
        lab.store, f"SELECT state FROM activities WHERE type = '{MARCAR_LIDO}' AND state <> 'cancelled'"
    )
    return sorted(row["state"] for row in rows)


def marking(lab: Lab, then: Callable[[int], Awaitable[None]], asked: list[str]) -> World:
    return replace(lab.world, transport_factory=lambda: Asked(MARKING, then, asked))


def test_actions_that_are_out_as_the_run_is_ended_are_noted_and_not_done_again(lab: Lab) -> None:
    cycle = ready_to_mark(lab)
    asked: list[str] = []
    all_out = asyncio.Event()

    async def once(number: int) -> None:
        if number == 1:
            end_the_run()
        if number == 4:
            all_out.set()
        await all_out.wait()

    ended(send.send_messages, marking(lab, once, asked), cycle)
    assert marks(lab) == ["executed"] * 4
    lifecycle.fail_cycle(lab.world, cycle)
    lab.move_to(lab.now + timedelta(minutes=5))
    lab.world = marking(lab, once, asked)
    lab.cycle()
    assert len(set(asked)) == len(asked) == 4


def test_actions_that_wait_for_their_turn_as_the_run_is_ended_are_due_again(lab: Lab) -> None:
    one_at_a_time(lab)
    cycle = ready_to_mark(lab)
    asked: list[str] = []

    async def at_first(number: int) -> None:
        if number == 1:
            await asyncio.to_thread(end_the_run)

    ended(send.send_messages, marking(lab, at_first, asked), cycle)
    assert 1 <= len(asked) <= 2, "one that is out, and one whose turn came before the signal was heard"
    assert marks(lab) == ["executed"] * len(asked) + ["planned"] * (4 - len(asked))


def test_an_action_that_waits_for_its_turn_while_sending_is_switched_off_is_not_done(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    one_at_a_time(lab)
    cycle = ready_to_mark(lab)
    monkeypatch.setattr(noting, "NOTE_EVERY_S", 0.01)
    asked: list[str] = []
    real, known, off = Wanted.ask_switches, threading.Event(), threading.Event()

    def ask_switches(wanted: Wanted) -> None:
        was_off = off.is_set()
        real(wanted)
        if was_off:
            known.set()

    async def switched_off(_: int) -> None:
        operating.set_kill_switch(lab.world, scope="all", author="test", reason="stop")
        off.set()
        assert await asyncio.to_thread(known.wait, SOON_S)

    monkeypatch.setattr(Wanted, "ask_switches", ask_switches)
    report = send.send_messages(marking(lab, switched_off, asked), cycle)
    assert len(asked) == 1
    assert report.numbers["actions"] == {"executed": 1}
    assert report.numbers["withdrawn_by_reason"] == {"kill_switch": 3}


def test_actions_at_a_server_that_lets_nobody_in_are_not_asked_for_one_after_the_other(lab: Lab) -> None:
    one_at_a_time(lab)
    cycle = ready_to_mark(lab)
    asked = 0

    class LettingNobodyIn(httpx.AsyncBaseTransport):
        async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
            nonlocal asked
            asked += 1
            return httpx.Response(401, json={"message": "Unauthorized"})

    report = send.send_messages(replace(lab.world, transport_factory=LettingNobodyIn), cycle)
    assert asked == 1
    assert report.numbers["withdrawn_by_reason"] == {"gateway_down": 3}
    assert marks(lab) == ["failed", "planned", "planned", "planned"]


def away(*_: Any) -> None:
    raise StoreError("the database is away")


def broken(*_: Any) -> None:
    raise KeyError("our own bug")


@pytest.mark.parametrize("trouble", [away, broken])
def test_what_went_wrong_in_noting_is_told_with_the_interruption(
    lab: Lab, monkeypatch: pytest.MonkeyPatch, trouble: Callable[..., None]
) -> None:
    cycle = ready_to_send(lab)
    monkeypatch.setattr(noting, "DATABASE_MAY_BE_AWAY_S", 0.0)
    monkeypatch.setattr(noting, "record_outcomes", trouble)
    signals: list[int] = []

    async def answered() -> None:
        if not signals:
            signals.append(1)
            end_the_run()

    world = replace(lab.world, transport_factory=lambda: _Interrupting(answered))
    words = "the database is away" if trouble is away else "our own bug"
    assert words in told(ended(send.send_messages, world, cycle))


def test_a_batch_that_could_not_be_written_is_told_though_the_run_is_ended_meanwhile(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    cycle = ready_to_send(lab)
    monkeypatch.setattr(send, "ROWS_PER_STATEMENT", 2)
    real, refused, batches = message_writes.insert, threading.Event(), 0

    def insert(*arguments: Any) -> None:
        nonlocal batches
        batches += 1
        if batches == 2:
            refused.set()
            raise StoreError("the second batch could not be written")
        real(*arguments)

    async def answered() -> None:
        assert await asyncio.to_thread(refused.wait, SOON_S)
        end_the_run()

    monkeypatch.setattr(message_writes, "insert", insert)
    world = replace(lab.world, transport_factory=lambda: _Interrupting(answered))
    with pytest.MonkeyPatch.context() as once:
        once.setattr("warmup_pipeline_tests.warmup.test_ended_meanwhile.end_the_run", _only_once(end_the_run))
        assert "the second batch" in told(ended(send.send_messages, world, cycle))
    assert [row["state"] for row in rows_of(lab.store, "SELECT state FROM messages")] == ["accepted"] * len(
        seen(lab)
    )


def _only_once(real: Callable[[], None]) -> Callable[[], None]:
    done: list[int] = []

    def first() -> None:
        if not done:
            done.append(1)
            real()

    return first


def test_a_session_that_was_being_recovered_as_the_run_was_ended_keeps_its_pause(lab: Lab) -> None:
    name = chip_row(1)["instance"]
    state = f"/instance/connectionState/{name}"
    recoveries: list[str] = []

    class Down(SocketTransport):
        async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
            path = request.url.path
            if path == state:
                return httpx.Response(200, json={"instance": {"instanceName": name, "state": "close"}})
            if path.startswith(("/instance/connect/", "/instance/restart/")):
                recoveries.append(f"{lab.now:%H:%M}")
                if len(recoveries) == 1:
                    end_the_run()
                return httpx.Response(200, json={"instance": {"instanceName": name, "state": "connecting"}})
            return await super().handle_async_request(request)

    lab.world = replace(lab.world, transport_factory=lambda: Down(secure=False))
    cycle = lab.begin()
    began = lab.now
    ended(connections.refresh_connections, lab.world, cycle)
    lifecycle.fail_cycle(lab.world, cycle)
    for _ in range(3):
        lab.move_to(lab.now + timedelta(minutes=5))
        lab.cycle()
    assert recoveries == [f"{began + timedelta(minutes=minutes):%H:%M}" for minutes in (0, 15)]


def test_chips_that_were_not_asked_any_more_are_the_first_to_be_asked_in_the_next_cycle(lab: Lab) -> None:
    one_at_a_time(lab)
    asked: list[str] = []

    async def at_third(number: int) -> None:
        if number == 3:
            await asyncio.to_thread(end_the_run)

    transport = Asked(STATE, at_third, asked)
    cycle = lab.begin()
    ended(connections.refresh_connections, replace(lab.world, transport_factory=lambda: transport), cycle)
    first = [path.rsplit("/", 1)[1] for path in asked]
    assert 3 <= len(first) < 8
    assert "were not asked" in " ".join(text for _, text in lab.log.entries)
    known = rows_of(
        lab.store, "SELECT instance, asked_at FROM chip_connections JOIN chips ON chips.id = chip_id"
    )
    newest = max(row["asked_at"] for row in known)
    assert {row["instance"] for row in known if row["asked_at"] == newest} == set(first)
    lifecycle.fail_cycle(lab.world, cycle)
    lab.move_to(lab.now + timedelta(minutes=5))
    asked.clear()

    async def nothing(_: int) -> None:
        return None

    lab.world = replace(lab.world, transport_factory=lambda: Asked(STATE, nothing, asked))
    lab.cycle()
    assert not {path.rsplit("/", 1)[1] for path in asked[: 8 - len(first)]} & set(first)


def looking(lab: Lab, path: str, asked: list[str], *, end_at: int = 0) -> World:
    """Return a world in which the run is ended when a path has been asked for so many times (0: never)."""

    async def then(number: int) -> None:
        if number == end_at:
            await asyncio.to_thread(end_the_run)

    return replace(lab.world, transport_factory=lambda: Asked(path, then, asked))


def next_cycle(lab: Lab, cycle: Cycle) -> Cycle:
    lifecycle.fail_cycle(lab.world, cycle)
    lab.move_to(lab.now + timedelta(minutes=5))
    return lab.begin()


def test_a_chip_whose_number_was_not_asked_for_any_more_has_it_asked_for_in_the_next_cycle(
    store: Store,
) -> None:
    with open_lab(store) as lab:
        lab.add([chip_row(n, ddd=11) for n in range(1, 9)])
        one_at_a_time(lab)
        numbers: list[str] = []
        cycle = lab.begin()
        ended(
            connections.refresh_connections,
            looking(lab, "/instance/fetchInstances", numbers, end_at=2),
            cycle,
        )
        known = {row["chip_id"] for row in rows_of(store, "SELECT chip_id FROM chip_connections")}
        assert 2 <= len(numbers) == len(known) < 8, (
            "who was not wholly looked at is not known to be connected"
        )
        first = len(numbers)
        cycle = next_cycle(lab, cycle)
        connections.refresh_connections(looking(lab, "/instance/fetchInstances", numbers), cycle)
        assert len(numbers) - first == 8 - first


def test_what_a_gateway_told_of_a_chip_that_was_not_asked_any_more_is_not_lost(
    lab: Lab, tmp_path: Path
) -> None:
    one_at_a_time(lab)
    asked: list[str] = []
    with listening(lab.world, tmp_path) as ear:
        for number in range(1, 9):
            name = chip_row(number)["instance"]
            assert (
                ear.post(Provider.EVOLUTION, name, bodies.connection(name, "close", 401)).status_code == 200
            )
    cycle = lab.begin()
    ended(connections.refresh_connections, looking(lab, STATE, asked, end_at=3), cycle)
    rows = rows_of(lab.store, "SELECT instance, state FROM chip_connections JOIN chips ON chips.id = chip_id")
    told = {row["instance"]: row["state"] for row in rows}
    looked_at = {path.rsplit("/", 1)[1] for path in asked}
    assert 3 <= len(looked_at) < 8
    # The gateway's own word, now, is worth more than what it told before.
    assert {told[name] for name in looked_at} == {"open"}
    assert {state for name, state in told.items() if name not in looked_at} == {"closed"}


def test_a_session_that_came_back_has_its_queue_looked_at_though_the_run_was_ended_before(
    store: Store,
) -> None:
    with open_lab(store) as lab:
        lab.add([chip_row(n, ddd=11, provider=Provider.Z_API) for n in range(1, 4)])
        lab.cycle()
        due_openings(lab, [chip_row(1)["id"]])
        lab.cycle()
        (message,) = rows_of(store, "SELECT sender_chip_id AS sender FROM messages LIMIT 1")
        run_sql(
            store,
            "UPDATE chip_connections SET state = 'closed' WHERE chip_id = :chip",
            chip=message["sender"],
        )
        one_at_a_time(lab)
        queues: list[str] = []
        cycle = lab.begin()
        ended(connections.refresh_connections, looking(lab, "/status", [], end_at=3), cycle)
        state = "SELECT state FROM chip_connections WHERE chip_id = :chip"
        assert rows_of(store, state, chip=message["sender"]) == [{"state": "closed"}], (
            "not back until it is seen"
        )
        cycle = next_cycle(lab, cycle)
        connections.refresh_connections(looking(lab, "/queue", queues), cycle)
        assert queues
        assert rows_of(store, state, chip=message["sender"]) == [{"state": "open"}]


def test_a_session_that_only_its_gateway_called_open_is_back_once_it_was_asked(
    lab: Lab, tmp_path: Path
) -> None:
    one_at_a_time(lab)
    run_sql(lab.store, "UPDATE chip_connections SET state = 'closed'")
    asked: list[str] = []
    with listening(lab.world, tmp_path) as ear:
        for number in range(1, 9):
            name = chip_row(number)["instance"]
            assert ear.post(Provider.EVOLUTION, name, bodies.connection(name, "open")).status_code == 200
    cycle = lab.begin()
    ended(connections.refresh_connections, looking(lab, STATE, asked, end_at=3), cycle)
    rows = rows_of(lab.store, "SELECT instance, state FROM chip_connections JOIN chips ON chips.id = chip_id")
    looked_at = {path.rsplit("/", 1)[1] for path in asked}
    assert {row["state"] for row in rows if row["instance"] not in looked_at} == {"closed"}
    cycle = next_cycle(lab, cycle)
    report = connections.refresh_connections(lab.world, cycle)
    assert report.numbers["connected"] == 8
