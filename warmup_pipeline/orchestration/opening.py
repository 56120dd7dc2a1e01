"""Opening Dagster's own history; where it cannot be, in one line why, and what to do.

Holds: :func:`open_instance`, :class:`HistoryError`. Do not add: what is asked of it.
"""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import dagster as dg
import yaml
from dagster._check import CheckError
from sqlalchemy.exc import ArgumentError, DBAPIError, SQLAlchemyError

from warmup_pipeline.store.trouble import told


class HistoryError(RuntimeError):
    """Dagster's own history cannot be opened; the text is one line that says what to do."""


@contextmanager
def open_instance() -> Iterator[dg.DagsterInstance]:
    """Open the instance that DAGSTER_HOME names.

    Raises:
        HistoryError: its dagster.yaml cannot be used, or what that names.
    """
    # It takes a while to load, and Dagster has loaded it where the history is on PostgreSQL.
    from dagster_postgres.utils import DagsterPostgresException

    with ExitStack() as stack:
        try:
            with _quiet():
                instance = stack.enter_context(dg.DagsterInstance.get())
        except (
            *(CheckError, dg.DagsterError, DagsterPostgresException, SQLAlchemyError, yaml.YAMLError),
            # An address with a port that is no number or a driver that is not there, a folder that cannot be made.
            *(ValueError, ImportError, OSError),
        ) as error:
            raise HistoryError(_why_not(error)) from error
        yield instance


@contextmanager
def _quiet() -> Iterator[None]:
    """Have Dagster not print each of its tries to reach a database: what came of them is told once."""
    handler = logging.NullHandler()
    logging.root.addHandler(handler)
    try:
        yield
    finally:
        logging.root.removeHandler(handler)


def chain_of(error: BaseException) -> list[BaseException]:
    """Return an error with its causes."""
    chain: list[BaseException] = []
    link: BaseException | None = error
    while link is not None:
        chain.append(link)
        link = link.__cause__ or link.__context__
    return chain


def _why_not(error: BaseException) -> str:
    place = str(Path(os.environ.get("DAGSTER_HOME", ".")).expanduser() / "dagster.yaml")
    for one in chain_of(error):
        if unset := re.search(r'environment variable "(\w+)" which is not set', str(one)):
            return f"{place} needs {unset[1]}, which is not set: set it, or have DAGSTER_HOME name another folder"
        if isinstance(one, yaml.YAMLError):
            return f"{place} is no valid YAML: {' '.join(str(one).split())}"
        if isinstance(one, ArgumentError):
            return f"{place} names an address of Dagster's history that is none: {str(one).splitlines()[0]}"
        if isinstance(one, DBAPIError):
            trouble = told(one, "of Dagster's own history", variable=place)
            if trouble is not None:
                return str(trouble)
            error = one.orig or one
            break
    words = str(error).strip().splitlines() or ["no reason given"]
    return f"Dagster's own history cannot be opened ({type(error).__name__}: {words[0]}): see {place}"
