"""The one resource: access to the pool's world.

Holds: :class:`WarmupAccess` and :func:`warmup_resource`. The world (and, in simulated mode, the
simulator) is opened when a step first asks for it and closed with the run; a sensor that only reads
the database opens neither.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from datetime import datetime
from typing import Any

import dagster as dg

from warmup_pipeline.assembly import open_reading_world, open_store, open_world, utc_now
from warmup_pipeline.settings import Settings
from warmup_pipeline.store.cycles import Cycle
from warmup_pipeline.store.engine import Store
from warmup_pipeline.warmup.world import StandardLog, StepLog, World

ChangeWorld = Callable[[World], World]


class WarmupAccess:
    """Opens the world once per run, and hands it to each step with that step's log.

    Args:
        settings: reads the environment; called when first needed, so that defining the project
            needs no database and no secret.
        now: the real time, UTC.
        change_world: what a test changes of the world (a registry, a policy).
    """

    def __init__(
        self,
        settings: Callable[[], Settings] = Settings.from_environment,
        *,
        now: Callable[[], datetime] = utc_now,
        change_world: ChangeWorld | None = None,
    ) -> None:
        self._settings = settings
        self._change_world = change_world
        self._stack = ExitStack()
        self._world: World | None = None
        self.now = now
        self.bugs: list[Exception] = []
        """What our own code raised in a step of this run that went on with everybody else."""
        self.taken_up = False
        """A step of this run has asked for its cycle: see ``cycle.own_cycle``."""
        self.cycle: Cycle | None = None
        """This run's cycle as a step last found it, for those who only need to know which one it is."""

    def world(self, log: StepLog) -> World:
        """Return the world, opened on first use, with the log of the step that asks."""
        if self._world is None:
            opened = self._stack.enter_context(open_world(self._settings(), log=StandardLog(), now=self.now))
            self._world = self._change_world(opened) if self._change_world else opened
        return replace(self._world, log=log)

    @contextmanager
    def store(self) -> Iterator[tuple[Store, Settings]]:
        """Open the database alone, for a sensor's tick."""
        settings = self._settings()
        with open_store(settings) as store:
            yield store, settings

    @contextmanager
    def reading(self, log: StepLog) -> Iterator[tuple[World, Settings]]:
        """Open a world that asks no gateway, for a sensor's tick."""
        settings = self._settings()
        with open_reading_world(settings, log=log, now=self.now) as world:
            yield world, settings

    def settings(self) -> Settings:
        """Read the settings."""
        return self._settings()

    def close(self) -> None:
        """Close what was opened."""
        self._stack.close()
        self._world = None


def warmup_resource(make: Callable[[], WarmupAccess] = WarmupAccess) -> dg.ResourceDefinition:
    """Return the resource; ``make`` gives a new access for each run."""

    @dg.resource(description="The pool's database, policy, dialogues and gateways.")
    def access(_: Any) -> Iterator[WarmupAccess]:
        opened = make()
        try:
            yield opened
        finally:
            opened.close()

    return access
