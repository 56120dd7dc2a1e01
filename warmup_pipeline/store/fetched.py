"""What a query gave, all of it, without a cursor behind it.

Holds: :class:`Fetched`, which gives rows as SQLAlchemy's ``Result`` does, as far as this package asks a result:
its own machinery for each result costs more than reading the few rows that a prepared statement gives. Add
here: another of ``Result``'s ways to be asked, once somebody asks so. Do not add: any that ``Result`` has not.
"""

from __future__ import annotations

from collections import namedtuple
from collections.abc import Callable, Iterator, Sequence
from typing import Any, cast

from sqlalchemy.exc import MultipleResultsFound, NoResultFound


def row_of(names: Sequence[str]) -> Callable[[Sequence[Any]], Any]:
    """Return what makes a row of its values: a tuple that also knows them by their columns' names."""
    # A query's columns are known when it runs, not where this is checked.
    make: Any = namedtuple
    made = make("Row", names, rename=True)
    return cast("Callable[[Sequence[Any]], Any]", made._make)


class Fetched:
    """Rows, or the single values of a :meth:`scalars`.

    Args:
        names: the columns' names.
        rows: the rows.
    """

    def __init__(self, names: Sequence[str], rows: list[Any]) -> None:
        self._names = names
        self._rows = rows

    def __iter__(self) -> Iterator[Any]:
        return iter(self._rows)

    def all(self) -> list[Any]:
        """Return every row."""
        return self._rows

    def first(self) -> Any:
        """Return the first row, ``None`` where there is none."""
        return self._rows[0] if self._rows else None

    def one(self) -> Any:
        """Return the only row.

        Raises:
            sqlalchemy.exc.NoResultFound: there is none.
            sqlalchemy.exc.MultipleResultsFound: there are more.
        """
        if not self._rows:
            raise NoResultFound("No row was found when one was required")
        if len(self._rows) > 1:
            raise MultipleResultsFound("Multiple rows were found when exactly one was required")
        return self._rows[0]

    def scalar(self) -> Any:
        """Return the first value of the first row, ``None`` where there is none."""
        return self._rows[0][0] if self._rows else None

    def scalar_one(self) -> Any:
        """Return the first value of the only row; raises as :meth:`one`."""
        return self.one()[0]

    def scalars(self) -> Fetched:
        """Return the first value of each row."""
        return Fetched(self._names[:1], [row[0] for row in self._rows])

    def mappings(self) -> Fetched:
        """Return each row as a mapping of its columns' names."""
        names = self._names
        return Fetched(names, [dict(zip(names, row, strict=True)) for row in self._rows])
