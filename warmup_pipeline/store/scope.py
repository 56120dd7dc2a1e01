"""Which chips a derivation is about: a pool's, or those of it that a tick derives anew.

Holds: :class:`Scope`, and the condition that it is in SQL. Do not add: which chips a tick derives anew
(``derivations``).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from enum import Enum
from typing import Any, Final

import sqlalchemy as sa

from warmup_pipeline.store.arrays import Ids, among
from warmup_pipeline.store.schema import chip_derivations, chips

_POOL: Final[sa.BindParameter[str]] = sa.bindparam("in_pool", type_=chip_derivations.c.pool.type)
_NAMED: Final[sa.BindParameter[Sequence[str]]] = sa.bindparam("named", type_=Ids())
_AT: Final[sa.BindParameter[datetime]] = sa.bindparam("derived_at", type_=chip_derivations.c.computed_at.type)


class Kind(Enum):
    """How a scope finds its chips."""

    POOL = "pool"
    MARKED = "marked"
    OTHERWISE = "otherwise"
    NAMED = "named"


@dataclass(frozen=True, slots=True)
class Scope:
    """The chips of a pool that a derivation is about.

    Attributes:
        pool: the pool.
        at: the tick that derives the chips that were marked for it; ``None``: all chips of the pool.
        chip_ids: only these of those; ``None``: all.
        otherwise: not those of them of which it is messages alone that may come to something else.
    """

    pool: str
    at: datetime | None = None
    chip_ids: tuple[str, ...] | None = None
    otherwise: bool = False

    @property
    def kind(self) -> Kind:
        """How its chips are found."""
        if self.chip_ids is not None:
            return Kind.NAMED
        if self.at is None:
            return Kind.POOL
        return Kind.OTHERWISE if self.otherwise else Kind.MARKED

    @property
    def marked(self) -> bool:
        """Whether it is of marked chips only."""
        return self.at is not None

    @property
    def asked(self) -> dict[str, Any]:
        """The parameters of a statement that has the condition :func:`in_scope`."""
        if self.chip_ids is not None:
            return {"named": self.chip_ids}
        return {"in_pool": self.pool} if self.at is None else {"in_pool": self.pool, "derived_at": self.at}

    def only(self, chip_ids: Iterable[str]) -> Scope:
        """Return the scope of these of its chips."""
        return replace(self, chip_ids=tuple(sorted(set(chip_ids))))

    def within(self, table: sa.Table) -> sa.ColumnElement[bool]:
        """Return the condition on the rows of a derived table, with its values in it."""
        if self.chip_ids is not None:
            return among(_of(table), self.chip_ids)
        if self.at is None:
            return table.c.pool == self.pool
        return _of(table).in_(_marked(self.kind, sa.literal(self.pool), sa.literal(self.at, _AT.type)))


def in_scope(table: sa.Table, kind: Kind) -> sa.ColumnElement[bool]:
    """Return the condition on rows of chips, for a statement that is made once: see ``Scope.asked``."""
    if kind is Kind.NAMED:
        return among(_of(table), _NAMED)
    if kind is Kind.POOL:
        return table.c.pool == _POOL
    return (
        _is_marked(kind, _POOL, _AT)
        if table is chip_derivations
        else _of(table).in_(_marked(kind, _POOL, _AT))
    )


def _of(table: sa.Table) -> sa.ColumnElement[str]:
    return table.c.id if table is chips else table.c.chip_id


def _marked(kind: Kind, pool: sa.ColumnElement[str], at: sa.ColumnElement[datetime]) -> sa.Select[tuple[str]]:
    return sa.select(chip_derivations.c.chip_id).where(_is_marked(kind, pool, at))


def _is_marked(
    kind: Kind, pool: sa.ColumnElement[str], at: sa.ColumnElement[datetime]
) -> sa.ColumnElement[bool]:
    own = chip_derivations.c
    marked = sa.and_(own.pool == pool, own.computed_at == at)
    # Until the tick has judged them, that says why they are marked: see ``derivations.mark``.
    return sa.and_(marked, own.judged_at.is_(None)) if kind is Kind.OTHERWISE else marked
