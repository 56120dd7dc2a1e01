"""ENVIAR_MIDIA: open a conversation with a picture or an audio note, really sent as media."""

from __future__ import annotations

from dataclasses import dataclass

from warmup_pipeline.domain.values import ENVIAR_MIDIA, MEDIA_KINDS, MessageKind
from warmup_pipeline.gateways.base import Content
from warmup_pipeline.warmup.library import Library


@dataclass(frozen=True, slots=True)
class EnviarMidia:
    """Opens a conversation whose first turn is a picture or an audio note."""

    type: str = ENVIAR_MIDIA
    opens_with: frozenset[MessageKind] = MEDIA_KINDS

    def first_turn(
        self, library: Library, dialogue_id: str, *, seed: str
    ) -> tuple[Content, MessageKind, str | None]:
        """Return the dialogue's first turn."""
        return library.content(dialogue_id, 1, seed=seed)
