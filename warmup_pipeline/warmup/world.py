"""What every step is given: the database, the policy, the gateways, the clock, the log.

Holds: :class:`World`, :class:`StepLog` and :class:`StepReport`. Do not add: anything read from the
environment (settings does that), any rule.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Protocol

import httpx

from warmup_pipeline.domain.policy import Policy
from warmup_pipeline.domain.privacy import Redactor
from warmup_pipeline.gateways.credentials import GatewaySettings
from warmup_pipeline.store.engine import Store
from warmup_pipeline.warmup.activities.registry import ActivityRegistry
from warmup_pipeline.warmup.library import Library


class StepLog(Protocol):
    """Where a step tells what it does. In Dagster this is the run's own log."""

    def info(self, text: str) -> None:
        """Say something ordinary."""
        ...

    def warning(self, text: str) -> None:
        """Say something an operator may want to look at."""
        ...

    def failure(self, title: str, traceback: str) -> None:
        """Say that something failed, with its whole (redacted) traceback, as one entry at ERROR."""
        ...


class StandardLog:
    """A :class:`StepLog` on Python's own logging, for commands and tests without Dagster."""

    def __init__(self, name: str = "warmup_pipeline") -> None:
        self._log = logging.getLogger(name)

    def info(self, text: str) -> None:
        """Say something ordinary."""
        self._log.info("%s", text)

    def warning(self, text: str) -> None:
        """Say something an operator may want to look at."""
        self._log.warning("%s", text)

    def failure(self, title: str, traceback: str) -> None:
        """Say that something failed, with its whole traceback."""
        self._log.error("%s\n%s", title, traceback)


@dataclass(frozen=True, slots=True)
class World:
    """Everything a step works with.

    Attributes:
        mode: ``live`` or ``simulated``: stored with each cycle and shown with every summary.
        now: the real time, UTC. A cycle's logical time is its tick, never this.
        transport_factory: makes the HTTP transport of each client; ``None`` for real sockets.
        loop: in which every step talks to gateways (virtual time); ``None``: each step has one of its own.
    """

    store: Store
    policy: Policy
    library: Library
    activities: ActivityRegistry
    gateways: GatewaySettings
    mode: str
    redactor: Redactor
    log: StepLog
    now: Callable[[], datetime]
    transport_factory: Callable[[], httpx.AsyncBaseTransport] | None = None
    loop: asyncio.AbstractEventLoop | None = None

    @property
    def is_simulated(self) -> bool:
        """Whether the gateways are the simulator."""
        return self.mode == "simulated"

    @property
    def policy_name(self) -> str:
        """The policy as cycles and plans name it: its name and the fingerprint of its numbers."""
        return f"{self.policy.name}@{self.policy.fingerprint}"


@dataclass(frozen=True, slots=True)
class StepReport:
    """What a step did, for the run's page: numbers that plot over time, and a few words.

    Attributes:
        numbers: counts by name.
        notes: the first reasons and exceptions, one line each, already redacted.
        bugs: what our own code raised for some chips while the step dealt with the others; whoever runs the
            steps goes on and raises them once the cycle's sends are done.
    """

    numbers: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    bugs: tuple[Exception, ...] = ()

    def raise_bugs(self) -> None:
        """Raise what our own code raised for some chips, where nobody does so later.

        Raises:
            ExceptionGroup: there was something.
        """
        if self.bugs:
            raise ExceptionGroup("our own code failed for some chips; the others were dealt with", self.bugs)
