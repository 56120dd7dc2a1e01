"""How many requests are out at a time, and for how long their connections live, at real sockets.

Trap guarded: a slow instance delays the others, or an instance is asked two things at once.
"""

from __future__ import annotations

import asyncio

import pytest

from warmup_pipeline.domain.values import FailureClass
from warmup_pipeline.gateways.base import GatewayError
from warmup_pipeline_tests.gateways.conftest import (
    TAKEN,
    Seen,
    Wire,
    answer,
    chip,
    hub_for,
    run_sending,
    send,
    serving,
    wired,
)


def test_requests_of_one_instance_go_one_after_another() -> None:
    async def scenario() -> Wire:
        async with wired(TAKEN) as (wire, hub):
            await asyncio.gather(*(send(hub, chip(1)) for _ in range(10)))
            return wire

    wire = asyncio.run(scenario())
    assert (len(wire.seen), wire.most_in_flight, wire.connections) == (10, 1, 1)


def test_requests_at_a_server_are_as_many_at_a_time_as_allowed_and_no_more() -> None:
    async def scenario() -> Wire:
        seven = asyncio.Barrier(7)

        async def together(seen: Seen, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await seven.wait()
            await TAKEN(seen, reader, writer)

        async with wired(together, max_connections_per_server=7) as (wire, hub):
            await asyncio.gather(*(send(hub, chip(n)) for n in range(63)))
            return wire

    wire = asyncio.run(scenario())
    assert (len(wire.seen), wire.most_in_flight) == (63, 7)


def test_a_slow_instance_never_delays_the_others() -> None:
    async def scenario() -> tuple[int, int]:
        others_done = asyncio.Event()

        async def slow_for_the_first(
            seen: Seen, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
        ) -> None:
            if seen.path.endswith("/i-0"):
                await others_done.wait()
            await TAKEN(seen, reader, writer)

        # Two at a time: the slow instance's waiting requests must not hold the second place.
        async with wired(slow_for_the_first, max_connections_per_server=2) as (wire, hub):
            slow = [asyncio.create_task(send(hub, chip(0))) for _ in range(5)]
            await asyncio.gather(*(send(hub, chip(n)) for n in range(1, 20)))
            served_first = len(wire.seen)
            others_done.set()
            await asyncio.gather(*slow)
            return served_first, len(wire.seen)

    assert asyncio.run(scenario()) == (20, 24)


def test_a_retry_pause_gives_the_servers_place_to_another_instance() -> None:
    async def scenario() -> list[str]:
        busy_once = iter([answer(429, {}, headers={"Retry-After": "0.2"})])

        async def script(seen: Seen, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            first = seen.path.endswith("/i-0")
            await (next(busy_once, TAKEN) if first else TAKEN)(seen, reader, writer)

        async with wired(script, max_connections_per_server=1) as (wire, hub):
            await asyncio.gather(send(hub, chip(0)), send(hub, chip(1)))
            return [seen.path.rsplit("/", 1)[1] for seen in wire.seen]

    assert asyncio.run(scenario()) == ["i-0", "i-1", "i-0"]


def test_every_connection_is_closed_with_the_hub() -> None:
    async def scenario() -> int:
        closed = asyncio.Event()
        left = 12

        async def counted(seen: Seen, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            nonlocal left
            await TAKEN(seen, reader, writer)
            await reader.read()
            left -= 1
            if not left:
                closed.set()

        wire = Wire([counted])
        async with serving(wire):
            async with hub_for(wire.url) as hub:
                await asyncio.gather(*(send(hub, chip(n)) for n in range(12)))
            await asyncio.wait_for(closed.wait(), 10)
        return wire.connections

    assert asyncio.run(scenario()) == 12


def test_two_event_loops_after_each_other_each_have_their_own_connections() -> None:
    # Root cause 5: a client that outlived its loop failed with "Event loop is closed".
    for _ in range(2):
        _, accepted = run_sending(TAKEN)
        assert accepted.message_id


def test_a_retry_that_nobody_wants_any_more_is_not_waited_for() -> None:
    wanted = [True]

    async def refused(seen: Seen, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        wanted[0] = False
        await answer(429, {"message": "slow down"}, headers={"Retry-After": "3600"})(seen, reader, writer)

    async def scenario() -> tuple[Wire, GatewayError]:
        def may_begin(*_: object) -> bool:
            return wanted[0]

        end = asyncio.get_running_loop().time() + 100_000
        async with wired(refused, may_begin=may_begin, not_after=end) as (wire, hub):
            with pytest.raises(GatewayError) as raised:
                await send(hub)
            return wire, raised.value

    wire, error = asyncio.run(scenario())
    assert (len(wire.seen), error.attempts) == (1, 1)
    assert error.failure is FailureClass.RATE_LIMITED
