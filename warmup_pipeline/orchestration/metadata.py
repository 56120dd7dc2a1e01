"""What assets show of themselves in the UI: columns, tables, row counts, a step's numbers.

Holds: :func:`definition_metadata` and :func:`materialization_metadata`.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

import dagster as dg
import sqlalchemy as sa

from warmup_pipeline.orchestration import pictures
from warmup_pipeline.orchestration.previews import PREVIEWS, daily_history
from warmup_pipeline.orchestration.text import markdown_table
from warmup_pipeline.store import preview, rows
from warmup_pipeline.store.cycles import Cycle
from warmup_pipeline.store.dictionary import column_description
from warmup_pipeline.store.engine import Transaction
from warmup_pipeline.store.schema import metadata as tables
from warmup_pipeline.warmup.world import StepReport, World

LOG_TABLES: Final = frozenset({"messages", "pairings", "presend_validations", "phase_transitions"})
"""Assets whose materialization means that this cycle appended."""


def tags_of(name: str) -> dict[str, str]:
    """Return an asset's tags: what kind of table it is (``log`` is appended to, ``state`` is replaced)."""
    return {"warmup/table": "log" if name in LOG_TABLES else "state"}


def definition_metadata(table_name: str) -> dict[str, Any]:
    """Return the metadata of an asset's definition: its table and columns."""
    table = tables.tables[table_name]
    columns = [
        dg.TableColumn(
            name=column.name,
            type=str(column.type).lower(),
            # The UI reads Markdown: a star at the front would become a bullet.
            description=column_description(column).replace("*", "\\*"),
            constraints=dg.TableColumnConstraints(
                nullable=bool(column.nullable), unique=bool(column.primary_key)
            ),
        )
        for column in table.columns
    ]
    return {
        "dagster/column_schema": dg.TableSchema(columns=columns),
        "dagster/table_name": table_name,
    }


def plain_metadata(numbers: Mapping[str, Any]) -> dict[str, Any]:
    """Return numbers as metadata: what has no value is left out, what is nested becomes JSON."""
    shown: dict[str, Any] = {}
    for name, value in numbers.items():
        if value is None:
            continue
        shown[name] = dg.MetadataValue.json(value) if isinstance(value, dict | list | tuple) else value
    return shown


def materialization_metadata(
    table_name: str, world: World, cycle: Cycle | None, report: StepReport
) -> dict[str, Any]:
    """Return what a materialization shows: row counts, the step's numbers, its first words."""
    shown = plain_metadata(report.numbers)
    table = tables.tables[table_name]
    with world.store.read() as tx:
        today = cycle.day if cycle is not None else None
        shown["dagster/row_count"] = counted = rows.count(tx, table, today=today)
        note = today is not None and rows.is_to_be_noted(tx, table, counted, today=today)
        if cycle is not None and table_name in LOG_TABLES:
            shown["rows_this_cycle"] = rows.count(tx, table, cycle_id=cycle.id)
        if cycle is not None:
            local = cycle.tick.astimezone(world.policy.zone)
            shown |= {"tick": f"{local:%Y-%m-%d %H:%M}", "pool": cycle.pool, "mode": cycle.mode}
            shown |= _opened(tx, world, cycle, table)
    if note and cycle is not None:
        with world.store.write() as tx:
            rows.note_counted(tx, table, counted, today=cycle.day)
    if report.notes:
        shown["notes"] = dg.MetadataValue.md("\n".join(f"- {note}" for note in report.notes))
    return shown


def _opened(tx: Transaction, world: World, cycle: Cycle, table: sa.Table) -> dict[str, Any]:
    """Return what somebody who opens the asset sees of it: some rows, and a picture where there is one."""
    what = PREVIEWS[table.name]
    of_cycle = cycle.id if table.name in LOG_TABLES else None
    shown: dict[str, Any] = {}
    found = preview.some_rows(
        tx,
        table,
        what.columns,
        pool=None if table.name == "daily_summary" else cycle.pool,
        cycle_id=of_cycle,
        day=cycle.day if table.name == "daily_summary" else None,
        order=what.order,
        limit=what.rows,
    )
    if found:
        # Local time, as everything that people read.
        local = [
            [value.astimezone(world.policy.zone) if isinstance(value, datetime) else value for value in row]
            for row in found
        ]
        shown["preview"] = dg.MetadataValue.md(
            world.redactor.text(markdown_table([n.removesuffix("_chip_id") for n in what.columns], local))
        )
    picture = pictures.of_asset(tx, table.name, cycle)
    if picture is not None:
        shown["picture"] = dg.MetadataValue.md(picture)
    if table.name == "daily_summary":
        shown |= daily_history(tx, cycle)
    return shown
