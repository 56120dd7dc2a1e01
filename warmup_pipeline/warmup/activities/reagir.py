"""REAGIR: react with an emoji to the newest message that came in, through the chip's gateway."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from warmup_pipeline.gateways.base import Gateway, Received
from warmup_pipeline.store import messages
from warmup_pipeline.store.engine import Transaction
from warmup_pipeline.store.messages import Unread
from warmup_pipeline.warmup.activities.registry import Work

REAGIR: Final = "REAGIR"

EMOJIS: Final = ("👍", "❤️", "😂", "🙏", "👏", "😊")


def emoji_for(message_id: str) -> str:
    """Return the emoji for a message: always the same for the same one."""
    return EMOJIS[hashlib.sha256(message_id.encode()).digest()[0] % len(EMOJIS)]


@dataclass(frozen=True, slots=True)
class Reagir:
    """Reacts to the newest message a chip received since it last reacted. It is no send, like a marking."""

    type: str = REAGIR
    nothing_reason: str = "nothing_received"

    def load(
        self, tx: Transaction, pool: str, chip_ids: Sequence[str], *, at: datetime
    ) -> Mapping[str, Sequence[Unread]]:
        """Return the newest message each chip received since its last reaction."""
        return messages.received_since_last(tx, pool, chip_ids, REAGIR, at=at, per_chip=1)

    async def perform(self, gateway: Gateway, work: Work, phone_of: Mapping[str, str]) -> None:
        """React to it."""
        for item in work.items:
            received = Received(item.gateway_message_id, phone_of[item.sender_chip_id])
            await gateway.react(work.channel, received, emoji_for(item.message_id), work.at)

    def record(self, tx: Transaction, done: Mapping[str, Sequence[Unread]], *, at: datetime) -> None:
        """Keep nothing more: the executed activity says when the chip last reacted."""
