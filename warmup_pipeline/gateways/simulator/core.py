"""The simulator without a transport: one request in, one answer out.

Holds: :class:`SimulatorCore`: time, transaction, faults, and which gateway answers. Add here: a
further gateway's entry in ``_gateways``. Do not add: a gateway's routes (``evolution``, ``zapi``),
sockets (``server``).
"""

from __future__ import annotations

import threading
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Final, Protocol, Self

from warmup_pipeline.gateways.simulator.control import Control
from warmup_pipeline.gateways.simulator.evolution import EvolutionGateway
from warmup_pipeline.gateways.simulator.faults import FaultBook, FaultRule, spoil
from warmup_pipeline.gateways.simulator.network import Call, Network
from warmup_pipeline.gateways.simulator.settings import SimulatedInstance, SimulatorSettings
from warmup_pipeline.gateways.simulator.state import IN_MEMORY, State
from warmup_pipeline.gateways.simulator.wire import Reply, Request, json_reply
from warmup_pipeline.gateways.simulator.zapi import ZapiGateway

CONTROL_PREFIX: Final = "/_sim/"
AT_HEADER: Final = "x-warmup-at"


class SimulatedGateway(Protocol):
    """What the core asks of a gateway's surface."""

    provider: str

    def claims(self, path: str) -> bool:
        """Whether a path belongs to this gateway."""
        ...

    def target(self, request: Request) -> tuple[str, str]:
        """Return the instance's name and the route (``faults.Route``) that a request is about."""
        ...

    def handle(self, call: Call) -> Reply:
        """Answer a request."""
        ...

    def drop(self, instance: str, now: int) -> None:
        """Drop an instance's session (a fault)."""
        ...

    def failure(self, call: Call, rule: FaultRule) -> Reply:
        """Return the answer of a ``status`` fault in this gateway's words."""
        ...

    def ok_with_error(self, call: Call) -> Reply:
        """Return a success that carries an error."""
        ...


class SimulatorCore:
    """The gateway simulator, free of transport. Thread-safe.

    Args:
        settings: keys, seed, latency, clock.
        path: the state's SQLite file, which several processes may share; or that of a state that is gone with
            this one (``state.IN_MEMORY``, ``state.SPILLED``).
        instances: declared at once, as by :meth:`declare`.
    """

    def __init__(
        self,
        settings: SimulatorSettings | None = None,
        path: str | Path = IN_MEMORY,
        instances: Iterable[SimulatedInstance] = (),
    ) -> None:
        self.settings = settings or SimulatorSettings()
        self.state = State(path)
        self.network = Network(self.settings, self.state)
        self.faults = FaultBook(self.state, self.settings.seed)
        self._control = Control(self.network, self.faults)
        evolution = EvolutionGateway(self.network)
        self._gateways: tuple[SimulatedGateway, ...] = (evolution, ZapiGateway(self.network))
        self._fallback = evolution
        self._lock = threading.RLock()
        self._last_logical = self.state.last_logical()
        self._parsed_at: tuple[str | None, int] = (None, 0)
        self._control.know_phones(self.settings.known_phones)
        self.declare(instances)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the state's database."""
        with self._lock:
            self.state.close()

    def declare(self, instances: Iterable[SimulatedInstance], *, overwrite: bool = False) -> None:
        """Make instances exist. Declaring one again changes nothing of its state, unless ``overwrite``."""
        with self._lock:
            self.state.begin()
            try:
                now = self._unstamped(_milliseconds(self.settings.clock()))
                for instance in instances:
                    self.network.declare(instance, now, overwrite=overwrite)
            except BaseException:
                self.state.rollback()
                raise
            self.state.commit()

    def handle(self, request: Request) -> Reply:
        """Answer one request. What it changed is committed when this returns."""
        with self._lock:
            call = self._call(request)
            if call is None:
                return json_reply(400, {"error": "X-Warmup-At must be an ISO 8601 time with a zone"})
            self.state.begin()
            try:
                self.network.advance(call.now)
                reply = self._answer(call)
            except BaseException:
                self.state.rollback()
                raise
            self.state.commit()
            return reply

    def _call(self, request: Request) -> Call | None:
        real = _milliseconds(self.settings.clock())
        stamp = request.headers.get(AT_HEADER)
        if stamp is None:
            return Call(request, self._unstamped(real), real, logical=False)
        if stamp != self._parsed_at[0]:
            try:
                moment = datetime.fromisoformat(stamp)
            except ValueError:
                return None
            if moment.tzinfo is None:
                return None
            self._parsed_at = (stamp, _milliseconds(moment))
        self._last_logical = self._parsed_at[1]
        return Call(request, self._last_logical, real, logical=True)

    def _unstamped(self, real: int) -> int:
        """The time of a request that brings none: where the logical time stands, if there is one.

        A question asked by hand in the middle of a virtual day must not jump to the wall clock's day
        and work off months of deliveries.
        """
        return real if self._last_logical is None else self._last_logical

    def _answer(self, call: Call) -> Reply:
        path = call.request.path
        if path.startswith(CONTROL_PREFIX):
            reply = self._control.handle(call)
            if path == "/_sim/reset" and reply.status == 200:
                self._last_logical = None
            return reply
        for gateway in self._gateways:
            if gateway.claims(path):
                return self._through(gateway, call)
        return self._fallback.handle(call)

    def _through(self, gateway: SimulatedGateway, call: Call) -> Reply:
        strike = self.faults.strike(gateway.provider, *gateway.target(call.request))
        if strike.disconnected:
            gateway.drop(gateway.target(call.request)[0], call.now)
        call.lost = strike.lost
        rule = strike.rule
        if rule is None:
            reply = gateway.handle(call)
        else:
            answer = gateway.handle(call) if rule.acts else None
            if rule.kind == "status":
                reply = gateway.failure(call, rule)
            else:
                reply = spoil(rule, answer, gateway.ok_with_error(call))
        return reply.delayed(self.settings.latency_ms + strike.latency_ms)


def _milliseconds(moment: datetime) -> int:
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return round(moment.timestamp() * 1000)
