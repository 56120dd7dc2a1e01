"""MARCAR_LIDO: mark what a chip received as read, through its gateway."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from warmup_pipeline.domain.values import MARCAR_LIDO
from warmup_pipeline.gateways.base import Gateway, Received
from warmup_pipeline.store import message_writes, messages
from warmup_pipeline.store.engine import Transaction
from warmup_pipeline.store.messages import Unread
from warmup_pipeline.warmup.activities.registry import Work

_AT_ONCE: Final = 20
"""Messages marked in one go, newest first: more than a chip receives between two markings."""


@dataclass(frozen=True, slots=True)
class MarcarLido:
    """Marks the messages a chip has received and not yet read."""

    type: str = MARCAR_LIDO
    nothing_reason: str = "nothing_unread"

    def load(
        self, tx: Transaction, pool: str, chip_ids: Sequence[str], *, at: datetime
    ) -> Mapping[str, Sequence[Unread]]:
        """Return the unread messages of each chip."""
        return messages.unread(tx, pool, chip_ids, at=at, per_chip=_AT_ONCE)

    async def perform(self, gateway: Gateway, work: Work, phone_of: Mapping[str, str]) -> None:
        """Mark them read."""
        received = [Received(item.gateway_message_id, phone_of[item.sender_chip_id]) for item in work.items]
        await gateway.mark_read(work.channel, received, work.at)

    def record(self, tx: Transaction, done: Mapping[str, Sequence[Unread]], *, at: datetime) -> None:
        """Keep that they were marked."""
        message_writes.change(
            tx,
            [{"id": item.message_id, "marked_read_at": at} for items in done.values() for item in items],
        )
