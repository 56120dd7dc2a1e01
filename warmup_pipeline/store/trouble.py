"""What a database in trouble means, in one line that says what to do.

Holds: :class:`StoreError`, :func:`is_out_of_room` and :func:`told`, which recognises the troubles that no
program error causes (a server that is down, a full disk, a refused login, a damaged file, a lost table).
Add here: a further trouble, as a line in one of the two tables. Do not add: integrity errors or wrong SQL,
which are our own bugs and keep their tracebacks.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from typing import Final

from sqlalchemy.exc import DBAPIError

POOL_DATABASE: Final = "WARMUP_DATABASE_URL"

_FULL: Final = "its disk is full: free some space (`warmup purge` removes old runs)"
_LOGIN: Final = "the server refused the login: correct user and password in {variable}"
_DOWN: Final = "nothing answers there: start the server, or correct {variable}"
_BROKEN_OFF: Final = "the server closed the connection: see that it runs; what was being written is undone"
_NOT_YET: Final = "the server is starting or shutting down: wait for it"
_DAMAGED: Final = "the file is damaged: stop everything, keep a copy of it, and restore a backup"

_COLLIDED: Final = (
    "two transactions got into each other's way: nothing of this one was kept; what asked is tried again"
)
_LOST: Final = (
    "a table is missing, so the database was damaged or changed by another program: stop everything and restore "
    "a backup"
)

_SQLITE: Final[Mapping[str, str]] = {
    "SQLITE_FULL": _FULL,
    "SQLITE_READONLY": "it is read-only: give this user write permission on the file and its folder",
    "SQLITE_CORRUPT": _DAMAGED,
    "SQLITE_NOTADB": "the file is no SQLite database, or is damaged: restore a backup, or correct {variable}",
    "SQLITE_CANTOPEN": "the file cannot be opened: see that its folder exists and this user may write there",
    "SQLITE_IOERR": "reading or writing the file failed: see that its disk is whole, mounted and not full",
    "SQLITE_BUSY": "another program has held it for longer than 30 s: close what has the file open",
    "SQLITE_LOCKED": "another program has held it for longer than 30 s: close what has the file open",
    "SQLITE_PERM": "this user may not open it: give this user permission on the file and its folder",
}
"""By the primary result code's name; extended codes (``SQLITE_IOERR_WRITE``) begin with it."""

_OUT_OF_ROOM: Final = ("SQLITE_FULL", "SQLITE_IOERR", "SQLITE_CANTOPEN")

_POSTGRESQL: Final[Mapping[str, str]] = {
    "08": _BROKEN_OFF,
    "28": _LOGIN,
    "3D000": "the server has no such database: create it, or correct {variable}",
    "25006": "the server is read-only (a standby?): point {variable} at the primary",
    "40001": _COLLIDED,
    "40P01": _COLLIDED,
    "42P01": _LOST,
    "42501": "its user may not do this: make the user the owner of the database",
    "53100": _FULL,
    "53200": "the server is out of memory: see what else runs on it",
    "53300": "the server has no connection left: raise max_connections, or close other programs",
    "55P03": "another transaction has held a lock for too long: see pg_stat_activity for what hangs",
    "57014": "a statement took too long and was ended: see pg_stat_activity for what it waited for",
    "57P01": _BROKEN_OFF,
    "57P02": _BROKEN_OFF,
    "57P03": _NOT_YET,
    "25P03": _BROKEN_OFF,
    "XX001": "the server reports damaged data: stop everything and restore a backup",
}
"""By SQLSTATE, or by its class (the first two characters)."""

_POSTGRESQL_WORDS: Final[tuple[tuple[str, str], ...]] = (
    ("password authentication failed", _LOGIN),
    ("no password supplied", _LOGIN),
    ("no pg_hba.conf entry", _LOGIN),
    ("role ", _LOGIN),
    ("database ", _POSTGRESQL["3D000"]),
    ("too many clients", _POSTGRESQL["53300"]),
    ("starting up", _NOT_YET),
    ("shutting down", _NOT_YET),
    ("not yet accepting connections", _NOT_YET),
    ("server closed the connection", _BROKEN_OFF),
    ("connection is closed", _BROKEN_OFF),
    ("terminating connection", _BROKEN_OFF),
    ("consuming input failed", _BROKEN_OFF),
    ("could not translate host name", "no such host: correct the host in {variable}"),
    ("failed to resolve host", "no such host: correct the host in {variable}"),
    ("Connection refused", _DOWN),
    ("No such file or directory", _DOWN),
    ("timeout", _DOWN),
    ("connection failed", _DOWN),
)
"""By what the driver says where no SQLSTATE comes with it: while a connection is being made. First match."""


class StoreError(RuntimeError):
    """The database cannot be used; the text is one line that says what to do."""


def is_out_of_room(error: BaseException) -> bool:
    """Whether a driver's error may mean a full disk: SQLite tells of some only as a failed read or write."""
    cause = _cause(error)
    return isinstance(cause, sqlite3.Error) and _code(cause).startswith(_OUT_OF_ROOM)


def told(error: BaseException, shown_url: str, *, variable: str = POOL_DATABASE) -> StoreError | None:
    """Return what a driver's error means, ``None`` where it is not the database that is in trouble.

    Args:
        error: what was raised, by SQLAlchemy or by SQLite's driver itself.
        shown_url: the database's URL without its password.
        variable: the variable that names the database, for the advice.
    """
    cause = _cause(error)
    advice = _advice(cause) if cause is not None else None
    if advice is None:
        return None
    said = next((line.strip() for line in str(cause).splitlines() if line.strip()), "no reason given")
    return StoreError(f"the database {shown_url} cannot be used ({said}); {advice.format(variable=variable)}")


def _cause(error: BaseException) -> BaseException | None:
    if isinstance(error, DBAPIError):
        return error.orig
    return error if isinstance(error, sqlite3.Error) else None


def _code(cause: sqlite3.Error) -> str:
    # An error that the driver itself raises has no code.
    return getattr(cause, "sqlite_errorname", None) or ""


def _advice(cause: BaseException) -> str | None:
    if isinstance(cause, sqlite3.Error):
        if str(cause).startswith("no such table"):
            # SQLite has no code of its own for it.
            return _LOST
        return next((advice for code, advice in _SQLITE.items() if _code(cause).startswith(code)), None)
    # psycopg says `sqlstate`, psycopg2 (Dagster's own storage) `pgcode`.
    state = getattr(cause, "sqlstate", None) or getattr(cause, "pgcode", None)
    if state:
        return _POSTGRESQL.get(state) or _POSTGRESQL.get(state[:2])
    words = str(cause)
    return next((advice for said, advice in _POSTGRESQL_WORDS if said in words), None)
