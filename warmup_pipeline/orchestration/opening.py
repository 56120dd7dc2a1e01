"""Why Dagster's own history cannot be opened, in one line that says what to do.

Holds: :func:`history_troubles`, :func:`why_not_opened`. Do not add: opening it.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

import dagster as dg
from sqlalchemy.exc import ArgumentError, DBAPIError, SQLAlchemyError

from warmup_pipeline.store.trouble import told


def history_troubles() -> tuple[type[Exception], ...]:
    """Return what opening it raises where a dagster.yaml, or what that names, cannot be used."""
    # Only where something is wrong: it takes a while to load.
    from dagster_postgres.utils import DagsterPostgresException

    return (dg.DagsterError, DagsterPostgresException, SQLAlchemyError)


def why_not_opened(error: BaseException) -> str:
    """Return what an error of opening the instance of DAGSTER_HOME means."""
    place = str(Path(os.environ.get("DAGSTER_HOME", ".")).expanduser() / "dagster.yaml")
    chain: list[BaseException] = []
    link: BaseException | None = error
    while link is not None:
        chain.append(link)
        link = link.__cause__ or link.__context__
    for one in chain:
        if unset := re.search(r'environment variable "(\w+)" which is not set', str(one)):
            return f"{place} needs {unset[1]}, which is not set: set it, or have DAGSTER_HOME name another folder"
        if isinstance(one, ArgumentError):
            return f"{place} names an address of Dagster's history that is none: {str(one).splitlines()[0]}"
        if isinstance(one, DBAPIError):
            trouble = told(one, "of Dagster's own history", variable=place)
            if trouble is not None:
                return str(trouble)
    words = str(error).strip().splitlines() or ["no reason given"]
    return f"Dagster's own history cannot be opened ({words[0]}): see {place}"
