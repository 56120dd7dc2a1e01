"""Making room on a disk so full that no database can be opened.

Holds: :func:`make_room`. On a disk without a free byte SQLite cannot even read a file with a write-ahead
log, so :mod:`~warmup_pipeline.orchestration.retention` cannot begin. What is removed here needs no
database: the event files of runs that have not changed within the days kept, the oldest first, until there
is room for the purge, which then removes all else that was theirs. Do not add: anything that looks
into a database.
"""

from __future__ import annotations

import shutil
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from dagster._core.instance.ref import InstanceRef

from warmup_pipeline.orchestration.retention import EVENT_FILE_SUFFIXES, RUN_ID

ENOUGH: Final = 16_000_000
"""Bytes that a purge works well with: three write-ahead logs of 4 MB and what it writes down."""


def make_room(home: Path, *, keep_days: int, enough: int = ENOUGH, now: datetime | None = None) -> int:
    """Remove event files of old runs until the disk has room for a purge; returns the bytes given back.

    Of a run that a purge would keep (each day's newest success) the pages then show no events any more; what
    it materialized stays known.

    Args:
        home: Dagster's home.
        keep_days: files that changed within so many days stay.
        enough: bytes that have to be free; where they are, nothing is removed.
        now: the time that ages are counted from; the real one unless given.
    """
    folder = _event_files(home)
    if folder is None or not folder.is_dir():
        return 0
    before = ((now or datetime.now(UTC)) - timedelta(days=keep_days)).timestamp()
    of_runs: dict[str, list[tuple[float, int, Path]]] = {}
    for path in folder.iterdir():
        run_id = path.name.split(".", 1)[0]
        if RUN_ID.fullmatch(run_id) and path.name.endswith(EVENT_FILE_SUFFIXES):
            # What a purge at work has just removed is no longer there.
            with suppress(FileNotFoundError):
                found = path.stat()
                of_runs.setdefault(run_id, []).append((found.st_mtime, found.st_size, path))
    # A run's files go together: its database without its log would lack what was written last.
    changed = {run_id: max(at for at, _, _ in files) for run_id, files in of_runs.items()}
    freed = 0
    for run_id in sorted(changed, key=changed.__getitem__):
        if changed[run_id] >= before or shutil.disk_usage(folder).free >= enough:
            break
        for _, size, path in of_runs[run_id]:
            path.unlink(missing_ok=True)
            freed += size
    return freed


def _event_files(home: Path) -> Path | None:
    """Return the folder of the event files, ``None`` where Dagster's storage is not in files."""
    storage = InstanceRef.from_dir(str(home)).storage_data
    base = storage.config_dict.get("base_dir") if storage is not None else None
    # A relative folder counts from the working directory, as it does for the storage itself.
    return Path(str(base)) / "history" / "runs" if base else None
