"""Reading CSV files of another system, strictly: every problem is a line that names where it is.

Holds: :func:`read_table` (bytes to rows), :class:`Row` (typed cells), :class:`Problems`. Add here: a
kind of cell. Do not add: what the columns mean (``importing``), any SQL.

A file is UTF-8 (a byte order mark is fine), separated by commas, with its columns named in the
first line. Anything else is refused with what to do about it; nothing is guessed.
"""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from pathlib import Path
from typing import Any, Final, TypeVar

from warmup_pipeline.domain.privacy import Redactor

_Value = TypeVar("_Value", bound=StrEnum)

_SHOWN: Final = 60
"""Characters of a bad value that a problem repeats."""

_LARGEST: Final = 999_999_999
"""Largest count a database integer holds, with room for what is added to it."""

_EARLIEST: Final = datetime(2009, 1, 1, tzinfo=UTC)
_LATEST: Final = datetime(2200, 1, 1, tzinfo=UTC)
"""Times outside these years are typing errors, and would not survive being shifted."""

_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f]+")
_EXPORT_ADVICE: Final = "export it again as CSV UTF-8"
_YES: Final = frozenset({"true", "t", "1"})
_NO: Final = frozenset({"false", "f", "0"})


class Problems:
    """What is wrong with the files, one line each, without a secret or a full phone number."""

    def __init__(self, redactor: Redactor) -> None:
        self._redactor = redactor
        self.lines: list[str] = []

    def __bool__(self) -> bool:
        """Whether there is any."""
        return bool(self.lines)

    def file(self, name: str, reason: str) -> None:
        """Add a problem of a whole file."""
        self._add(f"{name}: {reason}")

    def line(self, name: str, line: int, reason: str) -> None:
        """Add a problem of a whole line."""
        self._add(f"{name} line {line}: {reason}")

    def cell(self, name: str, line: int, column: str, reason: str) -> None:
        """Add a problem of one cell."""
        self._add(f"{name} line {line}, column {column}: {reason}")

    def _add(self, text: str) -> None:
        self.lines.append(self._redactor.text(_CONTROL.sub(" ", text)))


def _shown(value: str) -> str:
    return repr(value if len(value) <= _SHOWN else value[:_SHOWN] + "…")


@dataclass(frozen=True, slots=True)
class Row:
    """One line of a table. Each cell is asked for by its kind; a bad one becomes a problem.

    Attributes:
        file: the file's name, as problems show it.
        line: the line on which the row begins, counted from 1.
        cells: column -> text without surrounding spaces; a missing column is not there.
    """

    file: str
    line: int
    cells: Mapping[str, str]
    problems: Problems = field(repr=False)

    def problem(self, column: str, reason: str) -> None:
        """Say what is wrong with a cell."""
        self.problems.cell(self.file, self.line, column, reason)

    def text(self, column: str, *, longest: int | None = None) -> str:
        """Return a cell's text, empty where there is none."""
        value = self.cells.get(column, "")
        if longest is not None and len(value) > longest:
            self.problem(column, f"has {len(value)} characters; at most {longest} are kept")
            return ""
        return value

    def required(self, column: str, *, longest: int) -> str | None:
        """Return a cell's text; an empty one is a problem."""
        value = self.text(column, longest=longest)
        if not self.cells.get(column):
            self.problem(column, "is empty, but is needed")
        return value or None

    def word(self, column: str, words: type[_Value], default: _Value | None = None) -> _Value | None:
        """Return a cell as one of the words of an enum; empty means ``default``, where there is one."""
        value = self.cells.get(column, "")
        if not value and default is not None:
            return default
        try:
            return words(value)
        except ValueError:
            self.problem(column, f"{_shown(value)} is not one of {', '.join(words)}")
            return None

    def one_of(self, column: str, words: Collection[str]) -> str | None:
        """Return a cell that must be one of some words."""
        value = self.cells.get(column, "")
        if value in words:
            return value
        self.problem(column, f"{_shown(value)} is not one of {', '.join(words)}")
        return None

    def time(self, column: str) -> datetime | None:
        """Return a cell as an instant (aware), ``None`` where it is empty or bad."""
        value = self.cells.get(column, "")
        if not value:
            return None
        try:
            at = datetime.fromisoformat(value)
        except ValueError:
            self.problem(column, f"{_shown(value)} is no timestamp; write it as 2026-02-20T08:00:00-03:00")
            return None
        if at.tzinfo is None:
            self.problem(
                column, f"{_shown(value)} has no time zone; add its offset, as in 2026-02-20T08:00:00-03:00"
            )
            return None
        if not _EARLIEST <= at < _LATEST:
            self.problem(column, f"{_shown(value)} is not a time such a system can have known")
            return None
        return at.astimezone(UTC)

    def required_time(self, column: str) -> datetime | None:
        """Return a cell as an instant; an empty one is a problem."""
        if not self.cells.get(column):
            self.problem(column, "is empty, but is needed")
            return None
        return self.time(column)

    def count(self, column: str) -> int | None:
        """Return a cell as a whole number of 0 or more, ``None`` where it is empty or bad."""
        value = self.cells.get(column, "")
        if not value:
            return None
        if not re.fullmatch(r"[0-9]{1,12}", value) or int(value) > _LARGEST:
            self.problem(column, f"{_shown(value)} is not a whole number from 0 to {_LARGEST}")
            return None
        return int(value)

    def yes_no(self, column: str) -> bool | None:
        """Return a cell as true or false, ``None`` where it is empty or bad."""
        value = self.cells.get(column, "").lower()
        if not value:
            return None
        if value in _YES or value in _NO:
            return value in _YES
        self.problem(column, f"{_shown(value)} is not true or false")
        return None

    def json(self, column: str) -> Any:
        """Return a cell as the JSON object it holds, ``None`` where it is empty or bad."""
        value = self.cells.get(column, "")
        if not value:
            return None
        try:
            parsed = json.loads(value)
        except (ValueError, RecursionError) as error:
            self.problem(column, f"is no valid JSON ({_one_line(error)})")
            return None
        if not isinstance(parsed, dict):
            self.problem(column, "is no JSON object")
            return None
        return parsed

    def checked(self, column: str, parse: Callable[[str], str]) -> str | None:
        """Return a needed cell as ``parse`` makes it; its ``ValueError`` becomes the problem."""
        value = self.cells.get(column, "")
        if not value:
            self.problem(column, "is empty, but is needed")
            return None
        try:
            return parse(value)
        except ValueError as error:
            self.problem(column, _one_line(error))
            return None


@dataclass(frozen=True, slots=True)
class Table:
    """A file that was read.

    Attributes:
        name: the file's name, as problems show it.
        columns: the columns it has.
        rows: its rows; one whose cells do not fit the columns is left out (and is a problem).
        whole: whether every row of the file is in ``rows``.
    """

    name: str
    columns: tuple[str, ...]
    rows: tuple[Row, ...]
    whole: bool


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())


def _decoded(data: bytes, name: str, problems: Problems) -> str | None:
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        problems.file(name, f"is UTF-16, not UTF-8; {_EXPORT_ADVICE}")
        return None
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        problems.line(name, line, f"is not UTF-8 (byte {data[error.start]:#04x}); {_EXPORT_ADVICE}")
        return None
    if "\x00" in text:
        line = text.count("\n", 0, text.index("\x00")) + 1
        problems.line(name, line, f"holds a NUL character, so this is no text; {_EXPORT_ADVICE}")
        return None
    if not text.strip():
        problems.file(name, "is empty; export it again, the first line names the columns")
        return None
    return text


def _columns(
    header: list[str], name: str, needed: Collection[str], problems: Problems
) -> tuple[str, ...] | None:
    columns = tuple(cell.strip() for cell in header)
    if len(columns) == 1:
        for separator, word in ((";", "semicolons"), ("\t", "tabs"), ("|", "bars")):
            if separator in columns[0]:
                problems.line(name, 1, f"is separated by {word}; save it separated by commas")
                return None
    missing = [column for column in needed if column not in columns]
    if missing:
        what = "column" if len(missing) == 1 else "columns"
        problems.line(name, 1, f"lacks the {what} {', '.join(missing)}; the first line names the columns")
        return None
    twice = sorted({column for column in columns if columns.count(column) > 1})
    if twice:
        problems.line(name, 1, f"names the column {_shown(twice[0])} twice; which one holds is not known")
        return None
    return columns


def read_table(path: Path, *, needed: Collection[str], problems: Problems) -> Table | None:
    """Read a CSV file.

    Args:
        path: the file.
        needed: columns it must have.
        problems: gets what is wrong.

    Returns:
        The table, or ``None`` where nothing of it can be read. Blank lines are skipped.
    """
    name = path.name
    try:
        data = path.read_bytes()
    except OSError as error:
        problems.file(name, f"cannot be read: {error.strerror or 'unknown error'}")
        return None
    text = _decoded(data, name, problems)
    if text is None:
        return None
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    columns: tuple[str, ...] | None = None
    rows: list[Row] = []
    whole = True
    begins = 1
    try:
        for cells in reader:
            line, begins = begins, reader.line_num + 1
            if not any(cell.strip() for cell in cells):
                continue
            if columns is None:
                columns = _columns(cells, name, needed, problems)
                if columns is None:
                    return None
            elif len(cells) != len(columns):
                hint = (
                    "; the file seems cut off here"
                    if len(cells) < len(columns) and _at_end(reader, text)
                    else ""
                )
                problems.line(
                    name, line, f"has {len(cells)} columns where the first line names {len(columns)}{hint}"
                )
                whole = False
            else:
                values = {column: cell.strip() for column, cell in zip(columns, cells, strict=True)}
                rows.append(Row(name, line, values, problems))
    except csv.Error as error:
        problems.line(
            name,
            begins,
            f"is no valid CSV ({_one_line(error)}): a quote is not closed, or the file is cut off",
        )
        whole = False
    return None if columns is None else Table(name, columns, tuple(rows), whole)


def _at_end(reader: Any, text: str) -> bool:
    return bool(reader.line_num >= text.count("\n") + (not text.endswith("\n")))


def moved(at: datetime | None, by: timedelta) -> datetime | None:
    """Return an instant shifted, ``None`` for none."""
    return None if at is None else at + by
