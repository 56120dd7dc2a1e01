"""The trap: a cycle that goes on into the next one because gateways hang.

Gateways that never answer are waited for in virtual time, by the clients, deadlines and steps of production.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import replace

import httpx
import pytest

from warmup_pipeline.store.engine import Store
from warmup_pipeline.warmup import lifecycle
from warmup_pipeline.warmup.timelapse.clock import VirtualClock
from warmup_pipeline.warmup.watch import LOOKING_TAKES
from warmup_pipeline_tests.support import MORNING, Lab, chip_row, due_openings, open_lab, rows_of

CHIPS = 120
AT_ONCE = 2


class Hanging(httpx.AsyncBaseTransport):
    """Takes every request and never answers, but those of the routes named."""

    def __init__(self, *answers: str) -> None:
        self._answers = answers

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        await request.extensions["trace"]("http11.send_request_headers.started", {})
        if any(route in request.url.path for route in self._answers):
            return httpx.Response(200, json={"instance": {"state": "open"}})
        await asyncio.sleep(86_400)
        raise AssertionError("waited for longer than any deadline")


@pytest.fixture
def clock() -> VirtualClock:
    return VirtualClock(MORNING)


@pytest.fixture
def lab(sqlite_store: Store, clock: VirtualClock) -> Iterator[Lab]:
    """Many chips, and few requests at once, so that the gateway's silence adds up."""
    with open_lab(sqlite_store) as opened:
        opened.add([chip_row(n, ddd=11) for n in range(1, CHIPS + 1)])
        pace = opened.world.policy.pace.model_copy(update={"connections_per_server": AT_ONCE})
        opened.world = replace(
            opened.world,
            policy=opened.world.policy.model_copy(update={"pace": pace}),
            now=clock.now,
            loop=clock.event_loop(),
        )
        yield opened


def test_with_every_gateway_hanging_a_cycle_ends_and_sends_nothing(lab: Lab, clock: VirtualClock) -> None:
    lab.world = replace(lab.world, transport_factory=Hanging)
    due_openings(lab, [chip_row(n)["id"] for n in range(1, CHIPS + 1)])
    began = clock.now()
    cycle = lab.begin()
    lab.steps(cycle)
    lifecycle.end_cycle(lab.world, cycle)
    assert clock.now() - began <= LOOKING_TAKES
    assert rows_of(lab.store, "SELECT * FROM messages") == []
    assert rows_of(lab.store, "SELECT id FROM activities WHERE state = 'claimed'") == []


def test_a_cycle_in_which_every_send_hangs_stops_sending_near_its_end_and_says_so(
    lab: Lab, clock: VirtualClock
) -> None:
    lab.world = replace(lab.world, transport_factory=lambda: Hanging("connectionState", "fetchInstances"))
    due_openings(lab, [chip_row(n)["id"] for n in range(1, CHIPS + 1)])
    began = clock.now()
    cycle = lab.begin()
    reports = lab.steps(cycle)
    lifecycle.end_cycle(lab.world, cycle)
    assert clock.now() - began <= lifecycle.LEASE
    numbers = reports["send_messages"].numbers
    assert numbers["unknown"] > AT_ONCE
    put_off = numbers["withdrawn_by_reason"]["cycle_out_of_time"]
    assert put_off > 0
    assert numbers["unknown"] + put_off == CHIPS // 2
    said = [text for kind, text in lab.log.entries if kind == "warning" and "near its end" in text]
    assert said, "the run's log says so"
    assert any("near its end" in note for note in reports["send_messages"].notes)
    # What was not begun is due again, with its reason; what may have gone waits for the truth.
    again = rows_of(lab.store, "SELECT reason FROM deferrals")
    assert [row["reason"] for row in again].count("cycle_out_of_time") == put_off
