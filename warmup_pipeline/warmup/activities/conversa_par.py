"""CONVERSA_PAR: open a conversation with another chip of the pool, by text."""

from __future__ import annotations

from dataclasses import dataclass

from warmup_pipeline.domain.values import CONVERSA_PAR, MessageKind
from warmup_pipeline.gateways.base import Content
from warmup_pipeline.warmup.library import Library


@dataclass(frozen=True, slots=True)
class ConversaPar:
    """Opens a conversation whose first turn is a text."""

    type: str = CONVERSA_PAR
    opens_with: frozenset[MessageKind] = frozenset({MessageKind.TEXT})

    def first_turn(
        self, library: Library, dialogue_id: str, *, seed: str
    ) -> tuple[Content, MessageKind, str | None]:
        """Return the dialogue's first turn."""
        return library.content(dialogue_id, 1, seed=seed)
