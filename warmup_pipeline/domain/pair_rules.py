"""Who may talk with whom, and how well two chips fit.

Holds: a chip as pairing sees it, what it has behind it, :func:`score` and :func:`allowed`. Add here: a
rule that allows or scores a pair (its points as a constant, its part in :class:`ScoreParts`), and the
same rule in ``pairing._Pool``, which judges many pairs at once; a test holds the two together. Do not
add: which pairs are chosen (``domain.pairing``).

Source: domain.md, "Pairing".
"""

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field, fields
from types import MappingProxyType
from typing import Final, TypeAlias

from warmup_pipeline.domain.phones import area_code, region
from warmup_pipeline.domain.values import Phase

BASE_POINTS: Final = 50
SAME_AREA_POINTS: Final = 50
SAME_REGION_POINTS: Final = 30
COMPATIBLE_PHASE_POINTS: Final = 40
INCOMPATIBLE_PHASE_POINTS: Final = -20
NEAR_TRUST: Final = 10
NEAR_TRUST_POINTS: Final = 20
FAIR_TRUST: Final = 20
FAIR_TRUST_POINTS: Final = 10
OPPOSITE_DIRECTION_POINTS: Final = 20
RECENT_POINTS: Final = -50

MAX_PARTNERS_PER_DAY: Final = 5
"""Distinct partners a chip may have in one local day."""

ChipPair: TypeAlias = frozenset[str]
"""Two chip ids, in no order."""


def pair_key(one: str, other: str) -> ChipPair:
    """Return the two chip ids as the key :class:`PairHistory` uses."""
    return frozenset((one, other))


@dataclass(frozen=True, slots=True)
class Candidate:
    """A chip that may talk in this cycle, as pairing sees it.

    The caller passes only chips that take part, are no listeners, are connected, have no open breaker
    and no cooldown, and can afford the shortest dialogue; all of one pool.
    """

    chip_id: str
    phone: str = field(repr=False)
    """Normalised (``domain.phones.normalise``); never shown."""
    phase: Phase
    trust: int
    """Trust score, 0-100."""
    sent_today: int
    """Messages sent this local day."""
    received_today: int
    """Messages received this local day."""
    has_opening: bool
    """Whether a conversation of its own plan is due."""
    opens_with_media: bool = False
    """Its due opening begins with a picture or an audio note, which only it can send."""
    partners_today: frozenset[str] = frozenset()
    """Chip ids it opened with, or was opened by, this local day, from the opening's acceptance."""


@dataclass(frozen=True, slots=True)
class PairHistory:
    """What the past says about pairs. Chips that are no candidates may appear; they do not matter."""

    open_between: AbstractSet[ChipPair] = frozenset()
    """Pairs with an open conversation (also one whose opening is still under way): forbidden."""
    opened_within_4h: AbstractSet[ChipPair] = frozenset()
    """Pairs whose last opening was accepted less than 4 hours ago: forbidden."""
    paired_within_24h: AbstractSet[ChipPair] = frozenset()
    """Pairs that talked less than 24 hours ago: allowed, with fewer points."""
    resting: AbstractSet[ChipPair] = frozenset()
    """Pairs at rest after too many unanswered turns: forbidden."""


NO_HISTORY: Final = PairHistory()


@dataclass(frozen=True, slots=True)
class ScoreParts:
    """The points of a pair, rule by rule."""

    base: int
    place: int
    """Same area code, else same region."""
    phase: int
    trust: int
    direction: int
    """One mostly sends today, the other mostly receives."""
    recent: int
    """Paired within the last 24 hours."""

    @property
    def total(self) -> int:
        """The score; negative totals are possible and allowed."""
        return self.base + self.place + self.phase + self.trust + self.direction + self.recent

    def as_mapping(self) -> Mapping[str, int]:
        """The parts by name, e.g. to be stored with the conversation."""
        return MappingProxyType({name: getattr(self, name) for name in PART_NAMES})


PART_NAMES: Final = tuple(part.name for part in fields(ScoreParts))


BALANCED: Final = 0
MOSTLY_SENDS: Final = 1
MOSTLY_RECEIVES: Final = 2


def direction_of(chip: Candidate) -> int:
    """Class of the ratio (sent+1)/(received+1): over 1.5 mostly sends, under 0.7 mostly receives."""
    sent, received = chip.sent_today + 1, chip.received_today + 1
    if 2 * sent > 3 * received:
        return MOSTLY_SENDS
    if 10 * sent < 7 * received:
        return MOSTLY_RECEIVES
    return BALANCED


def score(a: Candidate, b: Candidate, history: PairHistory = NO_HISTORY) -> ScoreParts:
    """Return the points of the pair; ``score(a, b)`` equals ``score(b, a)``."""
    place = 0
    if area_code(a.phone) == area_code(b.phone):
        place = SAME_AREA_POINTS
    elif region(a.phone) == region(b.phone):
        place = SAME_REGION_POINTS
    compatible = abs(a.phase.rank - b.phase.rank) <= 1
    distance = abs(a.trust - b.trust)
    trust = (
        NEAR_TRUST_POINTS if distance <= NEAR_TRUST else FAIR_TRUST_POINTS if distance <= FAIR_TRUST else 0
    )
    opposite = {direction_of(a), direction_of(b)} == {MOSTLY_SENDS, MOSTLY_RECEIVES}
    recent = pair_key(a.chip_id, b.chip_id) in history.paired_within_24h
    return ScoreParts(
        base=BASE_POINTS,
        place=place,
        phase=COMPATIBLE_PHASE_POINTS if compatible else INCOMPATIBLE_PHASE_POINTS,
        trust=trust,
        direction=OPPOSITE_DIRECTION_POINTS if opposite else 0,
        recent=RECENT_POINTS if recent else 0,
    )


def allowed(
    a: Candidate, b: Candidate, history: PairHistory = NO_HISTORY, max_partners: int = MAX_PARTNERS_PER_DAY
) -> bool:
    """Whether the two may open a conversation now.

    Never a chip with itself, never a second open conversation of the pair, never again within 4 hours
    or while the pair rests, and no partner beyond the day's ``max_partners``: a partner the chip
    already had today is no new one.
    """
    if a.chip_id == b.chip_id:
        return False
    key = pair_key(a.chip_id, b.chip_id)
    if key in history.open_between or key in history.opened_within_4h or key in history.resting:
        return False
    return all(
        other.chip_id in chip.partners_today or len(chip.partners_today) < max_partners
        for chip, other in ((a, b), (b, a))
    )
