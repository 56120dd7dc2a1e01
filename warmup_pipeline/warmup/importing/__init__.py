"""Importing the old system's tables: chips, schedule and interactions as CSV files, all or nothing.

Holds: :func:`import_pool`, what it reports and how it refuses, in modules by what they do: ``reading``
(files to ``records``), ``writing`` (records to the database), ``pool`` (both, in one transaction).
Add here: nothing; a column of the old system goes to ``reading``, what it means to us to ``writing``.
Do not add: the reading of CSV (``csvfiles``), SQL (``store.imports``).

Source: domain.md, "Importing the old system's tables". Every bad cell is named with its file, line,
column and reason before anything is written; everything is written in one transaction.
"""

from __future__ import annotations

from warmup_pipeline.warmup.importing.pool import import_pool
from warmup_pipeline.warmup.importing.reading import INTERACTION_TYPES
from warmup_pipeline.warmup.importing.report import ImportRefused, ImportReport
from warmup_pipeline.warmup.importing.writing import (
    ACTION,
    DAY_OVER,
    IMPORTED,
    NOT_IMPLEMENTED,
    NOT_PARTICIPATING,
    REPLANNED,
)

__all__ = [
    "ACTION",
    "DAY_OVER",
    "IMPORTED",
    "INTERACTION_TYPES",
    "NOT_IMPLEMENTED",
    "NOT_PARTICIPATING",
    "REPLANNED",
    "ImportRefused",
    "ImportReport",
    "import_pool",
]
