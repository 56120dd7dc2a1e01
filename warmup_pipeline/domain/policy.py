"""The policy: every number of warm-up, as validated data.

Holds: the models a policy file is read into, and the bounds they enforce. Add here: a number that
a rule needs. Do not add: the proof that phases can be reached (``reachability``), file reading
(``warmup.policies``), rules.

Source: domain.md, "Planning", "Pre-send validation", "Metrics, trust, phases", "Policy presets".
A policy may be stricter than the ``default`` preset; its phase limits may never exceed
:data:`HARD_CAPS`.
"""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Mapping
from datetime import time
from functools import cached_property
from typing import Annotated, Any, Final, Self
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, field_validator, model_validator

from warmup_pipeline.domain.values import PHASE_ORDER, Phase, TrustLevel

_LEVELS: Final = tuple(TrustLevel)

HARD_CAPS: Final[Mapping[Phase, tuple[int, int]]] = {
    Phase.REPOUSO: (0, 0),
    Phase.SETUP: (2, 5),
    Phase.PRIMEIROS_CONTATOS: (5, 10),
    Phase.EXPANSAO: (10, 30),
    Phase.PRE_OPERACAO: (15, 50),
    Phase.TESTE_GRADUACAO: (20, 70),
    Phase.OPERACAO: (30, 100),
}
"""Sends per hour and per day that no policy may exceed (the ``default`` preset's phase limits)."""

Count = Annotated[int, Field(ge=0, le=1000)]
Minutes = Annotated[int, Field(ge=1, le=24 * 60)]
Share = Annotated[float, Field(ge=0, le=1)]
Name = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9_-]{0,40}$")]
ActivityTypeName = Annotated[str, StringConstraints(pattern=r"^[A-Z][A-Z_]{1,40}$")]


class _Data(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _no_yes_or_no(cls, values: Any) -> Any:
        """Refuse true and false, which YAML makes of yes and no, and Python would take for 1 and 0."""
        if isinstance(values, Mapping):
            for name, value in values.items():
                if isinstance(value, bool):
                    raise ValueError(f"{name} must be a number or a word, not {str(value).lower()}")  # noqa: TRY004 (pydantic's way)
        return values


class PhasePlan(_Data):
    """What a chip in this phase plans and may send.

    Attributes:
        sends_per_hour: phase limit over the last 60 minutes; replies count.
        sends_per_day: phase limit over the local calendar day.
        activities_min: fewest openings and markings a day, before the trust factor.
        activities_max: most openings and markings a day, before the trust factor.
        minimum_gap_minutes: between two planned activities of one chip.
        mean_dialogue_turns: for turning the day limit into a number of openings.
        mix: weight of each activity type; types without a registered executor are never planned.
    """

    sends_per_hour: Count
    sends_per_day: Count
    activities_min: Count = 0
    activities_max: Count = 0
    minimum_gap_minutes: Minutes = 60
    mean_dialogue_turns: Annotated[int, Field(ge=2, le=6)] = 4
    mix: Mapping[ActivityTypeName, Annotated[int, Field(ge=0, le=100)]] = {}

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if self.activities_min > self.activities_max:
            raise ValueError(
                f"activities_min {self.activities_min} is above activities_max {self.activities_max}; "
                f"set it to {self.activities_max} or less"
            )
        if self.sends_per_hour > self.sends_per_day:
            raise ValueError(
                f"sends_per_hour {self.sends_per_hour} is above sends_per_day {self.sends_per_day}; "
                f"set it to {self.sends_per_day} or less"
            )
        if self.activities_max and not any(self.mix.values()):
            raise ValueError(
                "activities are planned but mix gives every type the weight 0; give one a weight"
            )
        return self


class TrustBand(_Data):
    """One trust level: from which score, with which factor on limits and which pause between sends."""

    at_least: Annotated[int, Field(ge=0, le=100)]
    factor: Share
    # No longer than the hour of a limit: what was sent before it is not looked for (`messages.use_of_limits`).
    minimum_gap_seconds: Annotated[int, Field(ge=0, le=3600)]


class Criteria(_Data):
    """What a chip needs to enter a phase; all must hold."""

    warming_day: Count = 0
    sent: Annotated[int, Field(ge=0, le=100_000)] = 0
    received: Annotated[int, Field(ge=0, le=100_000)] = 0
    response_rate: Share | None = None
    trust: Annotated[int, Field(ge=0, le=100)] | None = None
    bidirectional: Count = 0


class Window(_Data):
    """The sending window in local time, and how its hours are weighted for planning."""

    start_hour: Annotated[int, Field(ge=0, le=23)] = 8
    end_hour: Annotated[int, Field(ge=1, le=24)] = 20
    hour_weights: Mapping[Annotated[int, Field(ge=0, le=23)], Annotated[float, Field(ge=0, le=10)]]

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if self.start_hour >= self.end_hour:
            raise ValueError(f"start_hour {self.start_hour} is not before end_hour {self.end_hour}")
        missing = [h for h in range(self.start_hour, self.end_hour) if h not in self.hour_weights]
        if missing:
            raise ValueError(f"hour_weights lacks hour {missing[0]}; give every hour of the window a weight")
        outside = [h for h in self.hour_weights if not self.start_hour <= h < self.end_hour]
        if outside:
            raise ValueError(f"hour_weights has hour {outside[0]}, which is outside the window; remove it")
        if not any(self.hour_weights.values()):
            raise ValueError("hour_weights are all 0; give one hour of the window a weight")
        return self

    @property
    def opens(self) -> time:
        """Local time of day at which sending begins."""
        return time(self.start_hour)


class PairRules(_Data):
    """How often the same chips may meet."""

    max_partners_per_day: Annotated[int, Field(ge=1, le=50)] = 5
    hours_between_openings: Annotated[int, Field(ge=0, le=72)] = 4
    unanswered_turns: Annotated[int, Field(ge=1, le=10)] = 3
    unanswered_rest_hours: Annotated[int, Field(ge=1, le=168)] = 24


class BrakeRules(_Data):
    """What a bad signal does to a chip's limits (domain.md, "Brake and hold")."""

    factor: Annotated[float, Field(gt=0, le=1)] = 0.75
    days: Annotated[int, Field(ge=1, le=30)] = 3
    restriction_rest_hours: Annotated[int, Field(ge=1, le=168)] = 24


class Pace(_Data):
    """How hard the gateways may be asked, by one run of a pool.

    Attributes:
        connections_per_server: requests in flight at one server at the same time; an instance has one.
        requests_per_second_per_server: requests that may begin at one server in a second, evenly spaced;
            ``None``: as many as its connections allow.
        requests_per_second_per_instance: the same of each instance; ``None``: as fast as it answers.
        timeout_seconds: how long one request may take.
    """

    connections_per_server: Annotated[int, Field(ge=1, le=1000)] = 100
    requests_per_second_per_server: Annotated[float, Field(ge=0.1, le=10_000)] | None = None
    requests_per_second_per_instance: Annotated[float, Field(ge=0.1, le=1_000)] | None = None
    timeout_seconds: Annotated[float, Field(ge=1, le=10)] = 10.0


class Policy(_Data):
    """Every number of warm-up. Loaded from YAML; the ``default`` preset is domain.md's page.

    Attributes:
        name: shown in runs and summaries.
        timezone: zone in which days, hours and windows are local.
    """

    name: Name
    timezone: str = "America/Sao_Paulo"
    window: Window
    phases: Mapping[Phase, PhasePlan]
    trust_levels: Mapping[TrustLevel, TrustBand]
    to_enter: Mapping[Phase, Criteria]
    max_errors_24h: Count = 5
    repouso_hours: Annotated[int, Field(ge=1, le=24 * 14)] = 24
    late_after_minutes: Minutes = 60
    pairs: PairRules = PairRules()
    brake: BrakeRules = BrakeRules()
    pace: Pace = Pace()

    @field_validator("timezone")
    @classmethod
    def _known_zone(cls, value: str) -> str:
        try:
            ZoneInfo(value)
        except (ZoneInfoNotFoundError, ValueError, OSError) as error:
            # OSError: "America" is a folder of the zone database, and a long name no file name at all.
            raise ValueError(f"{value!r} is no time zone name; e.g. America/Sao_Paulo") from error
        return value

    @model_validator(mode="after")
    def _complete_and_capped(self) -> Self:
        for phase in PHASE_ORDER:
            if phase not in self.phases:
                raise ValueError(f"phases lacks {phase}; every phase needs its numbers")
            if phase is not Phase.REPOUSO and phase not in self.to_enter:
                raise ValueError(f"to_enter lacks {phase}; every phase after repouso needs its criteria")
            hour_cap, day_cap = HARD_CAPS[phase]
            plan = self.phases[phase]
            if plan.sends_per_hour > hour_cap:
                raise ValueError(
                    f"phases.{phase}.sends_per_hour {plan.sends_per_hour} exceeds the cap of {hour_cap}; "
                    f"set it to {hour_cap} or less"
                )
            if plan.sends_per_day > day_cap:
                raise ValueError(
                    f"phases.{phase}.sends_per_day {plan.sends_per_day} exceeds the cap of {day_cap}; "
                    f"set it to {day_cap} or less"
                )
        if Phase.REPOUSO in self.to_enter:
            raise ValueError("to_enter has repouso, which nobody enters by criteria; remove it")
        return self

    @model_validator(mode="after")
    def _bands_in_order(self) -> Self:
        for level in TrustLevel:
            if level not in self.trust_levels:
                raise ValueError(f"trust_levels lacks {level}")
        bands = [self.trust_levels[level] for level in TrustLevel]
        for (better, upper), (worse, lower) in zip(
            zip(TrustLevel, bands, strict=True), list(zip(TrustLevel, bands, strict=True))[1:], strict=False
        ):
            if lower.at_least >= upper.at_least:
                raise ValueError(
                    f"trust_levels.{worse}.at_least {lower.at_least} must be below "
                    f"{better}'s {upper.at_least}"
                )
            if lower.factor > upper.factor:
                raise ValueError(
                    f"trust_levels.{worse}.factor {lower.factor} must not be above {better}'s {upper.factor}"
                )
        if self.trust_levels[TrustLevel.CRITICO].at_least != 0:
            raise ValueError("trust_levels.critico.at_least must be 0, so that every score has a level")
        if self.trust_levels[TrustLevel.CRITICO].factor != 0:
            raise ValueError("trust_levels.critico.factor must be 0: a chip without trust does not send")
        return self

    @model_validator(mode="after")
    def _criteria_in_order(self) -> Self:
        days = [(phase, self.to_enter[phase].warming_day) for phase in PHASE_ORDER[2:]]
        for (before, earlier), (after, later) in itertools.pairwise(days):
            if later < earlier:
                raise ValueError(
                    f"to_enter.{after}.warming_day {later} is before {before}'s {earlier}; "
                    f"set it to {earlier} or more"
                )
        return self

    @cached_property
    def zone(self) -> ZoneInfo:
        """The zone of local days and hours."""
        return ZoneInfo(self.timezone)

    @cached_property
    def fingerprint(self) -> str:
        """Short hash of the whole policy: two policies with the same numbers have the same one."""
        numbers = self.model_dump(mode="json")
        # A rate that nobody said leaves it as it was before there were rates: an upgrade changes no plan.
        numbers["pace"] = {name: value for name, value in numbers["pace"].items() if value is not None}
        return hashlib.sha256(json.dumps(numbers, sort_keys=True).encode()).hexdigest()[:12]

    def level_of(self, score: int) -> TrustLevel:
        """Return the trust level of a score in 0-100."""
        for level in _LEVELS:
            if score >= self.trust_levels[level].at_least:
                return level
        raise ValueError(f"a trust score is never below 0: {score}")
