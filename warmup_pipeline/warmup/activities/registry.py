"""The registry of activity types that can be executed.

Holds: the two kinds of executor and :class:`ActivityRegistry`. The planner reads the registry, so a
type without an executor cannot be planned (root cause 3). To add a type: one new module beside
this one, and one line in :func:`default_registry`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

from warmup_pipeline.domain.values import KNOWN_ACTIVITY_TYPES, MessageKind
from warmup_pipeline.gateways.base import Channel, Content, Gateway
from warmup_pipeline.store.engine import Transaction
from warmup_pipeline.warmup.library import Library


class Opening(Protocol):
    """An activity that opens a conversation with another chip."""

    @property
    def type(self) -> str:
        """The activity type's name."""
        ...

    @property
    def opens_with(self) -> frozenset[MessageKind]:
        """What the first turn may be; a dialogue of such a kind is chosen."""
        ...

    def first_turn(
        self, library: Library, dialogue_id: str, *, seed: str
    ) -> tuple[Content, MessageKind, str | None]:
        """Return what the first turn sends: content, kind, and media file name."""
        ...


@dataclass(frozen=True, slots=True)
class Work:
    """What one chip has to do in an action.

    Attributes:
        channel: the chip as its gateway knows it.
        items: what the action loaded for the chip; empty means that there is nothing to do.
        at: the cycle's logical time.
    """

    channel: Channel
    items: Sequence[Any]
    at: datetime


class Action(Protocol):
    """An activity of one chip that is no send: it counts in no limit and no breaker."""

    @property
    def type(self) -> str:
        """The activity type's name."""
        ...

    @property
    def nothing_reason(self) -> str:
        """Reason code of the final state where there was nothing to do."""
        ...

    def load(
        self, tx: Transaction, pool: str, chip_ids: Sequence[str], *, at: datetime
    ) -> Mapping[str, Sequence[Any]]:
        """Return, in one query, what each chip has to do at the cycle's logical time."""
        ...

    async def perform(self, gateway: Gateway, work: Work, phone_of: Mapping[str, str]) -> None:
        """Do it. Raises ``GatewayError`` where the gateway did not take it."""
        ...

    def record(self, tx: Transaction, done: Mapping[str, Sequence[Any]], *, at: datetime) -> None:
        """Keep what was done: chip id -> the items performed."""
        ...


@dataclass(frozen=True, slots=True)
class ActivityRegistry:
    """The executable activity types."""

    openings: Mapping[str, Opening]
    actions: Mapping[str, Action]

    @property
    def executable(self) -> frozenset[str]:
        """Names of the types that may be planned."""
        return frozenset(self.openings) | frozenset(self.actions)

    def types(self) -> dict[str, tuple[bool, bool]]:
        """Return every known type as name -> (executable, opens a conversation)."""
        names = {*KNOWN_ACTIVITY_TYPES, *self.executable}
        return {name: (name in self.executable, name in self.openings) for name in sorted(names)}


def registry_of(openings: Iterable[Opening], actions: Iterable[Action]) -> ActivityRegistry:
    """Return a registry of these executors."""
    return ActivityRegistry({o.type: o for o in openings}, {a.type: a for a in actions})


def default_registry() -> ActivityRegistry:
    """Return the registry of everything that ships."""
    from warmup_pipeline.warmup.activities.conversa_par import ConversaPar
    from warmup_pipeline.warmup.activities.enviar_midia import EnviarMidia
    from warmup_pipeline.warmup.activities.marcar_lido import MarcarLido
    from warmup_pipeline.warmup.activities.reagir import Reagir

    return registry_of(openings=[ConversaPar(), EnviarMidia()], actions=[MarcarLido(), Reagir()])
