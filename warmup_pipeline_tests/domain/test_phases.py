"""Ages, eligibility and transitions."""

from __future__ import annotations

import csv
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from importlib.resources import files
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from warmup_pipeline.domain.metrics import MessageCounts, OpeningBalance, chip_metrics
from warmup_pipeline.domain.phases import (
    Criterion,
    Eligibility,
    Entered,
    PhaseFacts,
    age_reference,
    eligibility,
    status_after_entering,
    transition,
    warming_day,
)
from warmup_pipeline.domain.values import PHASE_ORDER, ChipStatus, Phase
from warmup_pipeline_tests.domain.presets import DEFAULT

ZONE = DEFAULT.zone
AT = datetime(2026, 2, 20, 15, tzinfo=UTC)
TODAY = date(2026, 2, 20)


def facts(
    phase: Phase,
    *,
    days: float = 0.0,
    sent: int = 0,
    received: int = 0,
    bidirectional: int = 0,
    errors: int = 0,
    trust: int = 0,
    age: timedelta | None = None,
) -> PhaseFacts:
    since = timedelta(days=days) if age is None else age
    metrics = chip_metrics(
        MessageCounts(
            sent_total=sent, received_total=received, bidirectional=bidirectional, errors_24h=errors
        ),
        OpeningBalance(),
        at=AT,
        today=TODAY,
        age_reference=AT - since,
    )
    return PhaseFacts(
        phase=phase,
        phase_started_at=None,
        warming_day=int(since / timedelta(days=1)),
        age=since,
        metrics=metrics,
        trust=trust,
    )


def explain(found: PhaseFacts) -> Eligibility:
    return eligibility(found, DEFAULT, at=AT, zone=ZONE)


def criterion(found: PhaseFacts, name: str) -> Criterion:
    return next(c for c in explain(found).criteria if c.name == name)


def moves(found: PhaseFacts, *, participating: bool = True, held: bool = False) -> Phase | None:
    return transition(found, DEFAULT, at=AT, zone=ZONE, participating=participating, held=held)


NEEDED = {
    # phase left: warming day, sent, received, response, trust, bidirectional (domain.md's table)
    Phase.SETUP: (3, 8, 4, 0.30, 50, 3),
    Phase.PRIMEIROS_CONTATOS: (7, 20, 10, 0.40, 55, 12),
    Phase.EXPANSAO: (14, 100, 40, 0.35, 60, 18),
    Phase.PRE_OPERACAO: (21, 150, 50, 0.30, 70, 23),
    Phase.TESTE_GRADUACAO: (28, 200, 60, 0.25, 75, 28),
}
LEAVABLE = st.sampled_from(sorted(NEEDED, key=PHASE_ORDER.index))


def just_enough(phase: Phase) -> PhaseFacts:
    day, sent, received, _, trust, bidirectional = NEEDED[phase]
    return facts(
        phase, days=day, sent=sent, received=received, bidirectional=bidirectional, trust=trust, errors=5
    )


def test_a_chip_ages_from_its_warming_start_else_its_phase_else_its_creation():
    created, phase, started = AT - timedelta(days=60), AT - timedelta(days=9), AT - timedelta(days=7)
    assert age_reference(started, phase, created) == started
    assert age_reference(None, phase, created) == phase
    assert age_reference(None, None, created) == created


def test_the_audits_chips_have_the_warming_days_of_the_page():
    expected = {
        "0121": 9,
        "7734": 8,
        "0945": 7,
        "7216": 6,
        "8850": 5,
        "8618": 94,
        "6402": 21,
        "5523": None,
        "7790": None,
        "6081": None,
    }
    at = datetime(2026, 2, 20, 11, tzinfo=UTC)
    text = files("warmup_pipeline").joinpath("data/audit/chips.csv").read_text(encoding="utf-8")

    def instant(cell: str) -> datetime | None:
        return datetime.fromisoformat(cell) if cell else None

    found = {}
    for row in csv.DictReader(text.splitlines()):
        created = datetime.fromisoformat(row["created_at"])
        reference = age_reference(
            instant(row["warming_started_at"]), instant(row["fase_iniciada_em"]), created
        )
        found[row["telefone"][-4:]] = warming_day(
            status=ChipStatus(row["status"]), role=row["tipo"], reference=reference, at=at, zone=ZONE
        )
    assert found == expected


def test_a_warming_day_turns_at_local_midnight_and_is_0_on_the_first_day():
    start = datetime(2026, 2, 20, 23, 59, tzinfo=ZONE)
    day: dict[str, Any] = {"status": ChipStatus.WARMING, "role": "julia", "reference": start, "zone": ZONE}
    assert warming_day(at=start, **day) == 0
    assert warming_day(at=start + timedelta(minutes=1), **day) == 1


@pytest.mark.parametrize("status", ChipStatus)
def test_only_chips_that_have_begun_have_a_warming_day(status):
    begun = status not in (ChipStatus.PROVISIONED, ChipStatus.PENDING)
    day = warming_day(status=status, role="julia", reference=AT - timedelta(days=4), at=AT, zone=ZONE)
    assert day == (4 if begun else None)
    assert warming_day(status=status, role="listener", reference=AT, at=AT, zone=ZONE) is None


def test_a_reference_in_the_future_is_the_first_day():
    later = AT + timedelta(days=3)
    assert warming_day(status=ChipStatus.WARMING, role="julia", reference=later, at=AT, zone=ZONE) == 0


@given(
    start=st.integers(min_value=0, max_value=10_000_000),
    first=st.integers(min_value=0, max_value=10_000_000),
    more=st.integers(min_value=0, max_value=10_000_000),
)
def test_a_warming_day_never_goes_back(start, first, more):
    reference = AT + timedelta(seconds=start)
    chip: dict[str, Any] = {
        "status": ChipStatus.WARMING,
        "role": "julia",
        "reference": reference,
        "zone": ZONE,
    }
    earlier = warming_day(at=AT + timedelta(seconds=first), **chip)
    later = warming_day(at=AT + timedelta(seconds=first + more), **chip)
    assert earlier is not None
    assert later is not None
    assert 0 <= earlier <= later


def test_repouso_ends_by_itself_after_24_hours_and_no_sooner():
    assert moves(facts(Phase.REPOUSO, age=timedelta(hours=24))) is Phase.SETUP
    early = facts(Phase.REPOUSO, age=timedelta(hours=24) - timedelta(seconds=1))
    assert moves(early) is None
    waits = criterion(early, "hours_since_start")
    assert (waits.needed, waits.holds, waits.earliest_day) == (24, False, TODAY)
    assert "warming_day" not in [c.name for c in explain(early).criteria]


@pytest.mark.parametrize("phase", NEEDED)
def test_a_chip_with_just_enough_enters_the_next_phase(phase):
    found = explain(just_enough(phase))
    assert found.eligible
    assert found.limited_by is None
    assert found.earliest_day == TODAY
    assert moves(just_enough(phase)) is phase.next


@pytest.mark.parametrize("phase", NEEDED)
def test_each_criterion_alone_can_keep_a_chip_where_it_is(phase):
    enough = just_enough(phase)
    metrics = enough.metrics
    needed_rate = NEEDED[phase][3]
    lacking = {
        "warming_day": replace(enough, warming_day=NEEDED[phase][0] - 1),
        "sent": replace(enough, metrics=replace(metrics, sent_total=metrics.sent_total - 1)),
        "received": replace(enough, metrics=replace(metrics, received_total=metrics.received_total - 1)),
        "response_rate": replace(enough, metrics=replace(metrics, response_rate=needed_rate - 0.01)),
        "trust": replace(enough, trust=enough.trust - 1),
        "bidirectional": replace(enough, metrics=replace(metrics, bidirectional=metrics.bidirectional - 1)),
        "errors_24h": replace(enough, metrics=replace(metrics, errors_24h=6)),
    }
    assert [c.name for c in explain(enough).criteria] == list(lacking)
    for name, chip in lacking.items():
        found = explain(chip)
        assert [c.name for c in found.criteria if not c.holds] == [name]
        assert found.limited_by == name
        assert moves(chip) is None


def test_every_criterion_shows_its_value_what_is_needed_and_how_they_compare():
    chip = facts(Phase.SETUP, days=2, sent=5, received=4, bidirectional=1, errors=7, trust=61)
    shown = [(c.name, c.value, c.comparison, c.needed, c.holds) for c in explain(chip).criteria]
    assert shown == [
        ("warming_day", 2, ">=", 3, False),
        ("sent", 5, ">=", 8, False),
        ("received", 4, ">=", 4, True),
        ("response_rate", 0.8, ">=", 0.30, True),
        ("trust", 61, ">=", 50, True),
        ("bidirectional", 1, ">=", 3, False),
        ("errors_24h", 7, "<=", 5, False),
    ]


def test_a_missing_warming_day_is_known_to_the_day_and_errors_are_gone_tomorrow():
    chip = facts(Phase.SETUP, days=1, errors=6)
    assert criterion(chip, "warming_day").earliest_day == TODAY + timedelta(days=2)
    assert criterion(chip, "errors_24h").earliest_day == TODAY + timedelta(days=1)


def test_where_it_is_not_known_what_a_chip_entered_with_a_count_goes_on_at_its_average():
    # 40 in 8 days are 5 a day: the 60 still missing take 12 days.
    chip = facts(Phase.EXPANSAO, days=8, sent=40, received=40, bidirectional=9, trust=90)
    assert criterion(chip, "sent").earliest_day == TODAY + timedelta(days=12)
    # 9 in 8 days: the 9 still missing take 8 days.
    assert criterion(chip, "bidirectional").earliest_day == TODAY + timedelta(days=8)
    found = explain(chip)
    assert found.limited_by == "sent"
    assert found.earliest_day == TODAY + timedelta(days=12)


def test_the_day_after_a_chip_enters_a_faster_phase_its_plan_says_how_it_goes_on():
    # Expansao, verde: 7 openings of 4 turns on an ordinary day. 60 sends are missing at 28 a day, though
    # 40 in 8 days is all it has done.
    chip = facts(Phase.EXPANSAO, days=8, sent=40, received=40, bidirectional=12, trust=90)
    chip = replace(chip, phase_started_at=AT, entered=Entered(40, 40, 12))
    assert criterion(chip, "sent").earliest_day == TODAY + timedelta(days=2)
    # 6 two-way conversations at 14 a day: seven that it opens and seven that others do.
    assert criterion(chip, "bidirectional").earliest_day == TODAY


def test_a_chip_that_is_slower_than_planned_is_foreseen_by_what_it_does_the_longer_it_does_it():
    # 6 in 6 days beside two planned days of 28: 62 / 8 a day, so 60 take 7.7 days.
    chip = facts(Phase.EXPANSAO, days=14, sent=40, received=40, bidirectional=18, trust=90)
    chip = replace(chip, phase_started_at=AT - timedelta(days=6), entered=Entered(34, 40, 18))
    assert criterion(chip, "sent").earliest_day == TODAY + timedelta(days=8)
    # 16 days of nothing make it 56 / 18 a day.
    stuck = replace(chip, phase_started_at=AT - timedelta(days=16), entered=Entered(40, 40, 18))
    assert criterion(stuck, "sent").earliest_day == TODAY + timedelta(days=19)


def test_a_chip_of_hours_is_taken_at_what_it_did_not_at_that_times_twenty_four():
    # 4 in its first two hours; the 4 still missing take another day at 4 a day.
    young = facts(Phase.SETUP, age=timedelta(hours=2), sent=4)
    assert criterion(young, "sent").earliest_day == TODAY + timedelta(days=1)
    # 4 in two days are 2 a day.
    older = facts(Phase.SETUP, days=2, sent=4)
    assert criterion(older, "sent").earliest_day == TODAY + timedelta(days=2)


def test_a_count_without_a_past_goes_on_at_the_planned_pace():
    # Setup allows 5 a day and, three turns each, one opening a day; trust verde.
    chip = facts(Phase.SETUP, days=1, trust=85)
    assert criterion(chip, "sent").earliest_day == TODAY + timedelta(days=2)
    assert criterion(chip, "bidirectional").earliest_day == TODAY + timedelta(days=3)


def test_a_chip_that_may_not_send_has_no_date_for_what_it_must_send():
    chip = facts(Phase.SETUP, days=9, trust=5)
    for name in ("sent", "received", "response_rate", "bidirectional"):
        assert criterion(chip, name).earliest_day is None
    found = explain(chip)
    assert found.earliest_day is None
    assert found.limited_by == "sent"


def test_a_pace_too_slow_to_foresee_has_no_date():
    chip = facts(Phase.TESTE_GRADUACAO, days=300, sent=100, received=1, bidirectional=28, trust=90)
    assert criterion(chip, "received").earliest_day is None


def test_a_low_response_rate_can_rise_only_with_answered_sends():
    # 100 sent, 30 received, 0.35 needed: at 30 answered sends a day, 5 / (30 × 0.65) days.
    chip = facts(Phase.EXPANSAO, days=14, sent=100, received=30, bidirectional=18, trust=90)
    assert criterion(chip, "response_rate").earliest_day == TODAY
    poor = facts(Phase.EXPANSAO, days=14, sent=400, received=40, bidirectional=18, trust=90)
    # 100 / (30 × 0.65) = 5.1 days from noon.
    assert criterion(poor, "response_rate").earliest_day == TODAY + timedelta(days=5)


def test_trust_rises_with_age_calm_and_conversations_and_its_day_is_foreseen():
    chip = facts(Phase.SETUP, days=3, sent=8, trust=30)
    chip = replace(chip, metrics=replace(chip.metrics, attempted=8, delivery_rate=0.0))
    # Six days on: 30 + 4.5 (age 9) + 4.5 (6 conversations, one a day) + 10 (calm) + 1.5 (setup) = 50.5;
    # five days on it is 49.25.
    assert criterion(chip, "trust").earliest_day == TODAY + timedelta(days=6)


def test_trust_that_nothing_will_bring_has_no_date():
    # Nobody answers and every tenth attempt is a restriction: those points do not come by waiting.
    chip = facts(Phase.TESTE_GRADUACAO, days=40, sent=10, bidirectional=0, trust=5)
    chip = replace(
        chip, metrics=replace(chip.metrics, attempted=10, restriction_failures=1, delivery_rate=0.0)
    )
    assert criterion(chip, "trust").earliest_day is None


def test_a_chip_without_a_warming_day_cannot_advance_and_has_no_date():
    chip = replace(just_enough(Phase.SETUP), warming_day=None)
    found = explain(chip)
    assert not found.eligible
    assert found.earliest_day is None
    assert found.limited_by == "warming_day"


def test_after_operacao_there_is_no_next_phase():
    found = explain(facts(Phase.OPERACAO, days=400, sent=9999, received=9999, trust=100))
    assert found == Eligibility(Phase.OPERACAO, None, (), eligible=False, earliest_day=None, limited_by=None)
    assert moves(facts(Phase.OPERACAO, days=400)) is None


@pytest.mark.parametrize("phase", NEEDED)
def test_a_held_chip_and_one_that_takes_no_part_stay_where_they_are(phase):
    assert moves(just_enough(phase), held=True) is None
    assert moves(just_enough(phase), participating=False) is None


def test_entering_operacao_makes_a_warming_chip_ready_and_changes_no_other_status():
    assert status_after_entering(Phase.OPERACAO, ChipStatus.WARMING) is ChipStatus.READY
    assert status_after_entering(Phase.OPERACAO, ChipStatus.ACTIVE) is ChipStatus.ACTIVE
    assert status_after_entering(Phase.EXPANSAO, ChipStatus.WARMING) is ChipStatus.WARMING


CHIPS = st.builds(
    facts,
    st.sampled_from(Phase),
    days=st.floats(min_value=0, max_value=400),
    sent=st.integers(min_value=0, max_value=400),
    received=st.integers(min_value=0, max_value=400),
    bidirectional=st.integers(min_value=0, max_value=60),
    errors=st.integers(min_value=0, max_value=12),
    trust=st.integers(min_value=0, max_value=100),
)


@given(chip=CHIPS, participating=st.booleans(), held=st.booleans())
def test_a_chip_moves_one_phase_at_most_and_only_when_everything_holds(chip, participating, held):
    entered = moves(chip, participating=participating, held=held)
    earned = bool(explain(chip).criteria) and all(c.holds for c in explain(chip).criteria)
    assert (entered is not None) == (participating and not held and earned)
    if entered is not None:
        assert PHASE_ORDER.index(entered) == PHASE_ORDER.index(chip.phase) + 1


@given(chip=CHIPS)
def test_no_criterion_is_promised_for_the_past_and_the_slowest_sets_the_date(chip):
    found = explain(chip)
    days = [c.earliest_day for c in found.criteria]
    dated = [day for day in days if day is not None]
    for c in found.criteria:
        assert c.value is not None
        assert c.holds == (c.value <= c.needed if c.comparison == "<=" else c.value >= c.needed)
        assert c.earliest_day is None or c.earliest_day >= TODAY
        if c.holds:
            assert c.earliest_day == TODAY
    if found.next is not None:
        assert found.earliest_day == (None if None in days else max(dated))
        assert found.eligible == (found.limited_by is None)


@given(chip=CHIPS, more=st.integers(min_value=0, max_value=200))
def test_having_more_never_makes_a_chip_less_eligible(chip, more):
    richer = replace(
        chip,
        trust=min(100, chip.trust + more),
        metrics=replace(
            chip.metrics,
            sent_total=chip.metrics.sent_total + more,
            received_total=chip.metrics.received_total + more,
            bidirectional=chip.metrics.bidirectional + more,
        ),
    )
    assert explain(richer).eligible >= explain(chip).eligible
