"""A fresh pool: chips that look like an operator's, made from a seed.

Holds: :func:`fresh_pool`. Do not add: writing it down (``stage``), imported pools
(``warmup.importing``).
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from warmup_pipeline.domain.values import DEFAULT_POOL, ChipStatus, Phase, Provider
from warmup_pipeline.warmup.ids import derived_id

AREA_CODES: Final = ("11", "11", "11", "21", "21", "19", "31", "41", "51", "61", "71", "81")
"""Area codes that chips are drawn from, the large cities' more often."""

ZAPI_EVERY: Final = 4
"""One chip in so many is a Z-API instance; the first never is, for its deliveries can be confirmed."""

STAGGERED_OVER: Final = timedelta(hours=48)
"""Chips begin to warm up one after another within this time of the simulation's beginning."""

_STEP: Final = timedelta(minutes=5)
_SPREAD: Final = 37
"""Odd and no multiple of five: end digits in this distance never meet within ten thousand."""


@dataclass(frozen=True, slots=True)
class FreshChip:
    """One chip of a fresh pool.

    Attributes:
        row: its row of ``chips``, not yet started.
        starts_at: when an operator starts it, UTC.
    """

    row: dict[str, Any]
    starts_at: datetime


def fresh_pool(
    count: int, *, seed: int, begins_at: datetime, pool: str = DEFAULT_POOL, over: timedelta = STAGGERED_OVER
) -> Sequence[FreshChip]:
    """Return chips with mixed area codes and gateways and staggered starts; same seed, same chips.

    Args:
        count: how many.
        seed: what draws come from.
        begins_at: when the simulation begins; the first chip starts then.
        pool: the pool's name.
        over: within what time the others start.
    """
    draw = random.Random(f"pool|{seed}").random  # noqa: S311 - a pool is no secret
    base = int(draw() * 10_000)
    on_zapi = {1 + int(draw() * (ZAPI_EVERY - 1)) + ZAPI_EVERY * n for n in range(count // ZAPI_EVERY)}
    steps = over // _STEP
    found = []
    for number in range(count):
        area = AREA_CODES[int(draw() * len(AREA_CODES))]
        last4 = f"{(base + _SPREAD * number) % 10_000:04d}"
        phone = f"55{area}9{int(draw() * 10_000):04d}{last4}"
        offset = int(draw() * (steps + 1)) if number else 0
        provider = Provider.Z_API if number in on_zapi else Provider.EVOLUTION
        found.append(
            FreshChip(
                {
                    "id": derived_id("timelapse", seed, pool, number),
                    "pool": pool,
                    "phone": phone,
                    "last4": last4,
                    "provider": provider,
                    "instance": f"chip-{number + 1:02d}",
                    "label": f"chip-{number + 1:02d}",
                    "role": "chip",
                    "status": ChipStatus.PENDING,
                    "status_since": begins_at,
                    "phase": Phase.REPOUSO,
                    "created_at": begins_at,
                },
                begins_at + offset * _STEP,
            )
        )
    return found
