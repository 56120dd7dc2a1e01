"""What an import says of itself: that it was refused, and why; or what it did.

Holds: :class:`ImportRefused` and :class:`ImportReport`. Do not add: how either comes about.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import date, datetime
from typing import Any


class ImportRefused(ValueError):
    """Nothing was imported.

    Attributes:
        problems: what is wrong, one line each; no full phone number in them.
    """

    def __init__(self, problems: Sequence[str]) -> None:
        self.problems = tuple(problems)
        super().__init__("nothing was imported: " + "; ".join(self.problems))


@dataclass(frozen=True)
class ImportReport:
    """What an import did (or, on a dry run, would do).

    Attributes:
        pool: the pool imported into.
        at: the moment of the import on the pool's clock.
        day: its local day: what was planned for it is kept.
        dry_run: whether everything was rolled back.
        export_moment: when the files were exported, as far as they tell; ``None`` without any time.
        shifted_s: seconds by which all times were shifted, 0 without ``rebase_to``.
        chips_new: chips inserted.
        chips_unchanged: chips that were there already, with the same phone and instance.
        chips_by_status: new chips by status.
        activities_new: activities inserted.
        activities_unchanged: activities that were there already.
        activities_by_outcome: new activities by what became of them: ``kept``, else their final
            state, with the reason where it was not the old system that ended them.
        stubs_cancelled: of those, the planned ones cancelled because nothing can execute their type.
        interactions_new: interactions inserted.
        interactions_unchanged: interactions that were there already.
        warnings: what an operator should know, one line each.
    """

    pool: str
    at: datetime
    day: date
    dry_run: bool
    export_moment: datetime | None
    shifted_s: float
    chips_new: int
    chips_unchanged: int
    chips_by_status: Mapping[str, int]
    activities_new: int
    activities_unchanged: int
    activities_by_outcome: Mapping[str, int]
    stubs_cancelled: int
    interactions_new: int
    interactions_unchanged: int
    warnings: tuple[str, ...]

    @property
    def changes_anything(self) -> bool:
        """Whether there was anything new in the files."""
        return bool(self.chips_new or self.activities_new or self.interactions_new)

    def document(self) -> dict[str, Any]:
        """Return the report as JSON-ready data; times in ISO 8601."""
        found = asdict(self)
        found["at"] = self.at.isoformat()
        found["day"] = self.day.isoformat()
        found["export_moment"] = None if self.export_moment is None else self.export_moment.isoformat()
        found["warnings"] = list(self.warnings)
        return found
