"""A report's tables as CSV files.

Holds: :func:`export`, and the names of the files it writes. A table of ``report.tables`` is a file of
its name; ``columns.csv`` says what each column means. Do not add: other formats, figures that are in
no table.
"""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any, Final

import pandas as pd

from warmup_pipeline.warmup.timelapse.report.data import ReportData
from warmup_pipeline.warmup.timelapse.report.files import check_folder, write_folder
from warmup_pipeline.warmup.timelapse.report.tables import TABLES

OTHER: Final = "other_policy_"
"""Begins the names of the files of the policy that was compared with."""

FILES: Final = frozenset(
    {"columns.csv", "about.csv", f"{OTHER}about.csv"}
    | {f"{prefix}{name}.csv" for name in TABLES for prefix in ("", OTHER)}
)
"""Every file an export may write, and therefore replace."""

_FORMULA: Final = ("=", "+", "-", "@", "\t", "\r")
"""A text that begins so is run as a formula by spreadsheets."""


def check_export(folder: Path) -> None:
    """Make sure that a folder can be exported to, before there is anything to export.

    Raises:
        OutputError: it cannot, or holds files that are no export.
    """
    check_folder(folder, FILES)


def export(data: ReportData, folder: Path, *, other: ReportData | None = None) -> None:
    """Write every table as a CSV file (UTF-8, comma, header), the folder at once.

    Args:
        data: the report.
        folder: new, empty, or an earlier export, which it replaces.
        other: the report of the policy that was compared with; its files begin with ``other_policy_``.

    Raises:
        OutputError: the folder cannot be written; nothing of it was changed.
    """
    texts = {"columns.csv": _csv(_columns())} | _texts(data, "")
    if other is not None:
        texts |= _texts(other, OTHER)
    write_folder(folder, texts, files=FILES)


def _texts(data: ReportData, prefix: str) -> dict[str, str]:
    about = {
        "pool": data.pool,
        "policy": data.policy,
        "fingerprint": data.fingerprint,
        "time_zone": data.zone,
        "first_day": data.first.isoformat(),
        "last_day": data.last.isoformat(),
        "first_tick": data.begins_at.isoformat(),
        "last_tick": data.ends_at.isoformat(),
        "simulated": str(data.simulated).lower(),
    } | dict(data.facts)
    texts = {f"{prefix}{name}.csv": _csv(table) for name, table in data.tables.items()}
    texts[f"{prefix}about.csv"] = _csv(pd.DataFrame(list(about.items()), columns=["name", "value"]))
    return texts


def _columns() -> pd.DataFrame:
    return pd.DataFrame(
        [
            {"table": name, "one_row_is": shape.meaning, "column": column, "meaning": meaning}
            for name, shape in TABLES.items()
            for column, meaning in shape.columns.items()
        ]
    )


def _harmless(value: Any) -> Any:
    return f"'{value}" if isinstance(value, str) and value.startswith(_FORMULA) else value


def _csv(table: pd.DataFrame) -> str:
    text = io.StringIO()
    safe = table.copy()
    for name in safe.columns:
        if safe[name].dtype == object or pd.api.types.is_string_dtype(safe[name].dtype):
            safe[name] = safe[name].map(_harmless)
    safe.to_csv(text, index=False, lineterminator="\n", date_format="%Y-%m-%dT%H:%M:%S%z")
    return text.getvalue()
