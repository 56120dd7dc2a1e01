"""Parts for the simulator's tests: a simulator on a real socket whose clock the test turns.

Trap guarded: a test that calls handlers in-process proves nothing about what a client reads.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from warmup_pipeline.domain.values import Provider
from warmup_pipeline.gateways.simulator import (
    RunningSimulator,
    SimulatedInstance,
    SimulatorCore,
    SimulatorSettings,
    run_in_thread,
)

GLOBAL_KEY = "evo-global-key-5c1d"
CLIENT_TOKEN = "client-token-91ab"
ANA, BIA, CAU, DRA = "5511900000121", "5511900007734", "5511900008618", "5585987654321"
STRANGER = "5511900000000"
START = datetime(2026, 2, 20, 11, 0, tzinfo=UTC)

INSTANCES = (
    SimulatedInstance(provider=Provider.EVOLUTION, name="ana", phone=ANA, token="ana-token"),
    SimulatedInstance(provider=Provider.EVOLUTION, name="bia", phone=BIA, token="bia-token"),
    SimulatedInstance(provider=Provider.Z_API, name="CAU", phone=CAU, token="cau-token"),
    SimulatedInstance(provider=Provider.EVOLUTION, name="dra", phone=DRA, token="dra-token"),
)


class Clock:
    """A clock that stands still until it is moved."""

    def __init__(self) -> None:
        self.now = START

    def __call__(self) -> datetime:
        return self.now

    def forward(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)


@dataclass
class Sim:
    """A running simulator with a client that knows every key."""

    running: RunningSimulator
    clock: Clock
    http: httpx.Client

    def evolution(self, method: str, path: str, body: Any = None, **options: Any) -> httpx.Response:
        return self.http.request(method, path, json=body, headers={"apikey": GLOBAL_KEY}, **options)

    def zapi(
        self, method: str, route: str, body: Any = None, instance: str = "CAU", **options: Any
    ) -> httpx.Response:
        return self.http.request(
            method,
            f"/instances/{instance}/token/{instance.lower()}-token/{route}",
            json=body,
            headers={"Client-Token": CLIENT_TOKEN},
            **options,
        )

    def text(self, sender: str, to: str, text: str = "oi") -> httpx.Response:
        if sender.isupper():
            return self.zapi("POST", "send-text", {"phone": to, "message": text}, sender)
        return self.evolution("POST", f"/message/sendText/{sender}", {"number": to, "text": text})

    def state(self, instance: str) -> str:
        answer = self.evolution("GET", f"/instance/connectionState/{instance}")
        return str(answer.json()["instance"]["state"])

    def messages(self) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = self.http.get("/_sim/messages").json()["messages"]
        return rows

    def events(self) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = self.http.get("/_sim/events").json()["events"]
        return rows

    def faults(self, *rules: dict[str, Any]) -> None:
        answer = self.http.post("/_sim/faults", json=list(rules))
        assert answer.status_code == 200, answer.text

    def declare(self, *instances: SimulatedInstance, overwrite: bool = True) -> None:
        self.running.core.declare(instances, overwrite=overwrite)


Start = Callable[..., Sim]


def redeclared(name: str, **changes: Any) -> SimulatedInstance:
    """One of the usual instances with some of its declaration changed."""
    known = next(i for i in INSTANCES if i.name == name)
    return known.model_copy(update=changes)


@pytest.fixture
def start() -> Iterator[Start]:
    """Start simulators; all are stopped at the end."""
    running: list[Sim] = []

    def begin(
        path: str | Path = ":memory:",
        instances: tuple[SimulatedInstance, ...] = INSTANCES,
        clock: Clock | None = None,
        **settings: Any,
    ) -> Sim:
        clock = clock or Clock()
        options = {"evolution_key": GLOBAL_KEY, "zapi_client_token": CLIENT_TOKEN, **settings}
        core = SimulatorCore(SimulatorSettings(clock=clock, **options), path, instances)
        handle = run_in_thread(core)
        sim = Sim(handle, clock, httpx.Client(base_url=handle.base_url, timeout=30))
        running.append(sim)
        return sim

    yield begin
    for sim in running:
        sim.http.close()
        sim.running.stop()
        sim.running.core.close()


@pytest.fixture
def sim(start: Start) -> Sim:
    """A simulator of four instances: Evolution's ana, bia and dra, Z-API's CAU."""
    return start(record_events=True)
