"""What the cases run against: the simulator, or whatever the environment names."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import httpx
import pytest

from warmup_pipeline.domain.values import Provider
from warmup_pipeline.gateways.base import Channel
from warmup_pipeline.gateways.credentials import GatewaySettings
from warmup_pipeline.gateways.simulator import (
    RunningSimulator,
    SimulatedInstance,
    SimulatorCore,
    SimulatorSettings,
    run_in_thread,
)

PREFIX = "WARMUP_CONTRACT_"


@dataclass(frozen=True)
class Target:
    """One gateway's server, and what may be done with it.

    Attributes:
        open: a connected instance; empty where none is named.
        closed: one whose session is closed and logged out; empty where none is named.
        to: a number that messages may be sent to; empty where none is named.
        webhook: an address that webhooks may be pointed at; empty where none is named.
        simulator: the simulator, where that is what answers.
    """

    provider: Provider
    url: str
    settings: GatewaySettings
    open: str
    closed: str
    to: str
    webhook: str
    own_phone: str
    simulator: RunningSimulator | None

    def needs(self, *names: str) -> None:
        """Skip by name what a real server was not named for; the simulator has everything."""
        for name in names:
            if not getattr(self, name):
                pytest.skip(f"{PREFIX}{self.provider.name}_{name.upper()} is not set")

    def a_day_passes(self) -> None:
        """Let the simulator's time pass; a real server's does by itself."""
        if self.simulator is not None:
            now = datetime.fromisoformat(httpx.get(f"{self.url}/_sim/health", timeout=30).json()["now"])
            stamp = {"X-Warmup-At": (now + timedelta(days=1)).isoformat()}
            httpx.get(f"{self.url}/_sim/health", headers=stamp, timeout=30)

    def channel(self, instance: str) -> Channel:
        return Channel("the-chip", self.provider, instance, self.own_phone)

    def ask(self, method: str, path: str, body: Any = None, **how: Any) -> httpx.Response:
        """Make a request as the contract writes it: ``{open}`` and ``{closed}`` stand for the instances."""
        instance = self.closed if "{closed}" in path else self.open
        headers = {}
        if self.provider is Provider.EVOLUTION:
            path = path.replace("{open}", instance).replace("{closed}", instance)
            headers["apikey"] = self.settings.evolution_key or ""
        else:
            token = self.settings.zapi_tokens.get(instance, "")
            path = path.replace("{open}", "").replace("{closed}", "")
            path = f"/instances/{instance}/token/{token}{path}"
            if self.settings.zapi_client_token:
                headers["Client-Token"] = self.settings.zapi_client_token
        headers |= how.pop("headers", {})
        return httpx.request(method, f"{self.url}{path}", json=body, headers=headers, timeout=30, **how)


def _named(name: str) -> str:
    return os.environ.get(PREFIX + name, "")


SIMULATED = {"key": "the-global-key", "client_token": "the-account-token", "token": "the-instance-token"}
PHONES = {"evolution": "5511900000121", "z-api": "5511900008618", "to": "5511900007734"}


def lost_instance(name: str) -> SimulatedInstance:
    """The Evolution instance whose session is closed and logged out."""
    return SimulatedInstance(
        provider=Provider.EVOLUTION,
        name=name,
        phone="5511900000991",
        token=SIMULATED["token"],
        state="close",
        has_session=False,
        needs_qr=True,
    )


@pytest.fixture(scope="session")
def simulator() -> Iterator[RunningSimulator]:
    settings = SimulatorSettings(
        evolution_key=SIMULATED["key"], zapi_client_token=SIMULATED["client_token"], record_events=True
    )
    instances = [
        SimulatedInstance(
            provider=p, name=f"{p.value}-{name}", phone=phone, token=SIMULATED["token"], **options
        )
        for p, phone, number in (
            (Provider.EVOLUTION, PHONES["evolution"], "5511900000991"),
            (Provider.Z_API, PHONES["z-api"], "5511900000992"),
        )
        for name, phone, options in (
            ("open", phone, {}),
            ("closed", number, {"state": "close", "has_session": False, "needs_qr": True}),
        )
    ]
    instances.append(
        SimulatedInstance(provider=Provider.EVOLUTION, name="the-other", phone=PHONES["to"], token="other")
    )
    with SimulatorCore(settings, ":memory:", instances) as core, run_in_thread(core) as running:
        yield running


@pytest.fixture
def evolution(simulator: RunningSimulator) -> Target:
    url = _named("EVOLUTION_URL")
    if url:
        settings = GatewaySettings(evolution_url=url, evolution_key=_named("EVOLUTION_KEY"))
        return Target(
            Provider.EVOLUTION,
            url.rstrip("/"),
            settings,
            _named("EVOLUTION_OPEN"),
            _named("EVOLUTION_CLOSED"),
            _named("TO"),
            _named("WEBHOOK"),
            _named("EVOLUTION_PHONE"),
            None,
        )
    settings = GatewaySettings(evolution_url=simulator.base_url, evolution_key=SIMULATED["key"])
    return Target(
        Provider.EVOLUTION,
        simulator.base_url,
        settings,
        "evolution-open",
        "evolution-closed",
        PHONES["to"],
        "http://127.0.0.1:1/webhooks/evolution/evolution-open",
        PHONES["evolution"],
        simulator,
    )


@pytest.fixture
def zapi(simulator: RunningSimulator) -> Target:
    url = _named("ZAPI_URL")
    if url:
        tokens = {
            _named("ZAPI_OPEN"): _named("ZAPI_TOKEN"),
            _named("ZAPI_CLOSED"): _named("ZAPI_CLOSED_TOKEN"),
        }
        settings = GatewaySettings(
            zapi_base_url=url, zapi_client_token=_named("ZAPI_CLIENT_TOKEN"), zapi_tokens=tokens
        )
        return Target(
            Provider.Z_API,
            url.rstrip("/"),
            settings,
            _named("ZAPI_OPEN"),
            _named("ZAPI_CLOSED"),
            _named("TO"),
            _named("WEBHOOK"),
            _named("ZAPI_PHONE"),
            None,
        )
    settings = GatewaySettings(
        zapi_base_url=simulator.base_url,
        zapi_client_token=SIMULATED["client_token"],
        zapi_tokens=dict.fromkeys(("z-api-open", "z-api-closed"), SIMULATED["token"]),
    )
    return Target(
        Provider.Z_API,
        simulator.base_url,
        settings,
        "z-api-open",
        "z-api-closed",
        PHONES["to"],
        "http://127.0.0.1:1/webhooks/z-api/z-api-open",
        PHONES["z-api"],
        simulator,
    )
