"""What a check is, and how its verdict is made.

Holds: :class:`Judge`, :class:`CheckSpec`, :func:`verdict`, :func:`note_verdicts`. Do not add: a check (it goes to the
module of its asset), what checks look at (``scene``).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from warmup_pipeline.domain.health import Severity, Verdict, health_of
from warmup_pipeline.store import cycles
from warmup_pipeline.warmup.world import World


class Judge(Protocol):
    """Judges rows."""

    def __call__(self, world: World, only: str | None = None) -> Verdict:
        """Return the verdict on one pool, or on all of them for ``None``."""
        ...


@dataclass(frozen=True, slots=True)
class CheckSpec:
    """One check.

    Attributes:
        asset: the asset it belongs to.
        name: its name: a fact that must hold.
        description: what it means, for an operator.
        judge: judges one pool, or the whole database.
        remedy: what to do where it does not hold.
        of_silent: the verdicts on pools whose own runs may not come to judging them: every pool but the one
            that is judged, by name. ``None`` where a pool's own run is enough.
    """

    asset: str
    name: str
    description: str
    judge: Judge
    remedy: str
    of_silent: Callable[[World, str], dict[str, Verdict]] | None = None


def verdict(
    name: str,
    *,
    passed: bool,
    summary: str,
    numbers: Mapping[str, Any],
    concerned: tuple[str, ...] = (),
    severity: Severity = Severity.ERROR,
) -> Verdict:
    """Return a verdict; one that does not pass is an error unless it is said to be a warning."""
    return Verdict(name, passed, severity, summary, numbers, concerned)


def note_verdicts(world: World, cycle_id: str, verdicts: Iterable[Verdict]) -> None:
    """Let verdicts count in the health of the cycle that was judged."""
    health = health_of(verdicts)
    with world.store.write() as tx:
        cycles.worsen_health(tx, cycle_id, health)
