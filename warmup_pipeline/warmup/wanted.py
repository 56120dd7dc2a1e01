"""Whether a call of the sending step is wanted still: much may have happened since it was approved.

Holds: :class:`Wanted`. Do not add: taking back what is not (``withdrawing``), calls (``send``, ``performing``).
"""

from __future__ import annotations

from warmup_pipeline.domain.values import FailureClass
from warmup_pipeline.gateways.base import Channel, GatewayError
from warmup_pipeline.store import operators
from warmup_pipeline.store.cycles import Cycle
from warmup_pipeline.warmup.withdrawing import GATEWAY_DOWN, INTERRUPTED, SWITCHED_OFF
from warmup_pipeline.warmup.world import World


class Wanted:
    """What keeps calls of a cycle from beginning: an interruption, a kill switch, a server that is down.

    Args:
        world: what the cycle works with.
        cycle: the cycle.
    """

    def __init__(self, world: World, cycle: Cycle) -> None:
        self._world = world
        self._cycle = cycle
        self._killed = operators.KillSwitches(everything=False, pools=frozenset(), chips=frozenset())
        self._down: set[str] = set()
        self._interrupted = False

    @property
    def interrupted(self) -> bool:
        """Whether the run is to end."""
        return self._interrupted

    def interrupt(self) -> None:
        """Let no other call begin: the run is to end."""
        self._interrupted = True

    def ask_switches(self) -> None:
        """Read the kill switches as they are now; it waits for the database."""
        with self._world.store.read() as tx:
            self._killed = operators.kill_switches_at(tx, self._cycle.tick)

    def failed(self, error: GatewayError) -> None:
        """Let no other call begin at a server that let nobody in."""
        if error.failure is FailureClass.GATEWAY:
            self._down.add(error.server)

    def why_not(self, chip_id: str, server: str) -> str | None:
        """Return why nothing may begin for a chip at its server any more, ``None`` where it may."""
        if self._interrupted:
            return INTERRUPTED
        if self._killed.covers(self._cycle.pool, chip_id):
            return SWITCHED_OFF
        return GATEWAY_DOWN if server in self._down else None

    def may_begin(self, channel: Channel, server: str) -> bool:
        """Whether a call is wanted still whose turn has come: it may have waited for long."""
        return self.why_not(channel.chip_id, server) is None
