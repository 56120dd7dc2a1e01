"""A world without gateways, for what only reads and writes the database."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from warmup_pipeline.domain.privacy import Redactor
from warmup_pipeline.gateways.credentials import GatewaySettings
from warmup_pipeline.store.engine import Store
from warmup_pipeline.store.schema import metadata
from warmup_pipeline.warmup.activities.registry import default_registry
from warmup_pipeline.warmup.library import load_library
from warmup_pipeline.warmup.policies import load_policy
from warmup_pipeline.warmup.world import StandardLog, World

AUDIT = Path(__file__).parents[2] / "warmup_pipeline" / "data" / "audit"
AUDITED_AT = datetime.fromisoformat("2026-02-20T08:00:00-03:00")

_LIBRARY = load_library()
_POLICY = load_policy("default")


def offline_world(store: Store, *, at: datetime = AUDITED_AT) -> World:
    return World(
        store=store,
        policy=_POLICY,
        library=_LIBRARY,
        activities=default_registry(),
        gateways=GatewaySettings(),
        mode="simulated",
        redactor=Redactor(["a-secret-token"]),
        log=StandardLog(),
        now=lambda: at,
    )


def rows(store: Store, sql: str, **values: Any) -> list[Any]:
    with store.read() as tx:
        return list(tx.connection.execute(sa.text(sql), values))


def contents(store: Store) -> dict[str, list[Any]]:
    """Everything in the database, table by table: two equal results mean that nothing was written."""
    with store.read() as tx:
        return {
            table.name: sorted(map(repr, tx.connection.execute(sa.select(table))))
            for table in metadata.sorted_tables
        }
