"""Fault profiles: what goes wrong in a simulation, and when, as data.

Holds: reading a profile by name or from a file (:func:`load_profile`), and :func:`schedule`, which
says from when to when each episode of it strikes whom. Add a profile in ``data/fault_profiles.yaml``.
Do not add: how a fault is acted out (``gateways.simulator``, ``weather``).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, time, timedelta
from functools import lru_cache
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Final
from zoneinfo import ZoneInfo

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from warmup_pipeline.domain.localtime import local_day
from warmup_pipeline.domain.values import Provider
from warmup_pipeline.gateways.simulator.faults import FaultRule

_LONGEST_DAYS: Final = 3660


class ProfileError(ValueError):
    """A fault profile cannot be used; the text is one line that says what to do."""


def _clock_time(value: object) -> object:
    # YAML 1.1 reads 09:30 without quotes as a number in base 60.
    return time(value // 60, value % 60) if isinstance(value, int) else value


class Episode(BaseModel):
    """One thing that goes wrong; the words of ``data/fault_profiles.yaml``.

    Attributes:
        day: days after the simulation's first local day.
        at: local time of that day; ``None``: from the simulation's first moment on.
        hours: how long; ``None``: to the end.
        every_days: comes again so many days later, and again.
        chip: which of the chips that take part, by their order; ``None`` for all.
        next_chip: each time it comes again the next chip is struck.
        rules: faults of the simulator; they are matched with the chip's instance.
        unreachable: gateways that refuse connections.
        zombie: the chip's session is open but dead.
        down: the chip's session drops, and again whenever it is brought back.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    day: int = Field(default=0, ge=0, le=_LONGEST_DAYS)
    at: Annotated[time | None, BeforeValidator(_clock_time)] = None
    hours: float | None = Field(default=None, gt=0, le=24 * _LONGEST_DAYS)
    every_days: int | None = Field(default=None, ge=1)
    chip: int | None = Field(default=None, ge=0)
    next_chip: bool = False
    rules: tuple[FaultRule, ...] = ()
    unreachable: tuple[Provider, ...] = ()
    zombie: bool = False
    down: bool = False


class FaultProfile(BaseModel):
    """A named set of episodes.

    Attributes:
        name: what ``--faults`` calls it.
        description: what it is like, for people.
        episodes: what goes wrong.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    description: str
    episodes: tuple[Episode, ...] = ()


@dataclass(frozen=True, slots=True)
class Strike:
    """One time that an episode strikes.

    Attributes:
        episode: which.
        begins_at: from when, inclusive, UTC.
        ends_at: to when, exclusive; ``None`` to the end.
        chip: place of the struck chip among those that take part, not yet wrapped around.
    """

    episode: Episode
    begins_at: datetime
    ends_at: datetime | None
    chip: int | None

    def is_on(self, at: datetime) -> bool:
        """Whether it strikes at an instant."""
        return self.begins_at <= at and (self.ends_at is None or at < self.ends_at)


def _one_line(error: ValidationError, name: str) -> ProfileError:
    problem = error.errors(include_url=False)[0]
    where = ".".join(map(str, problem["loc"]))
    return ProfileError(f"fault profile {name!r}: {where}: {problem['msg']}")


def _parse(name: str, raw: Any) -> FaultProfile:
    if not isinstance(raw, dict):
        raise ProfileError(f"fault profile {name!r} must be a mapping with a description and episodes")
    try:
        return FaultProfile.model_validate({**raw, "name": name})
    except ValidationError as error:
        raise _one_line(error, name) from None


@lru_cache(maxsize=1)
def shipped_profiles() -> Mapping[str, FaultProfile]:
    """Return the profiles that ship with the package, by name."""
    text = (resources.files("warmup_pipeline") / "data" / "fault_profiles.yaml").read_text(encoding="utf-8")
    return {name: _parse(name, raw) for name, raw in yaml.safe_load(text).items()}


def load_profile(source: str) -> FaultProfile:
    """Return a shipped profile by its name, or the one of a YAML file by its path.

    Raises:
        ProfileError: there is neither, or the file cannot be used.
    """
    shipped = shipped_profiles()
    if source in shipped:
        return shipped[source]
    path = Path(source)
    try:
        raw = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ProfileError(
            f"fault profile {path.name!r} is neither shipped ({', '.join(shipped)}) nor a file that exists"
        ) from None
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ProfileError(
            f"fault profile {path.name!r} cannot be read: {' '.join(str(error).split())}"
        ) from None
    return _parse(path.stem, raw)


def schedule(
    profile: FaultProfile, *, begins_at: datetime, ends_at: datetime, zone: ZoneInfo
) -> Sequence[Strike]:
    """Return every time that a profile's episodes strike in a simulation, by their beginning."""
    first_day = local_day(begins_at, zone)
    strikes = []
    for episode in profile.episodes:
        day, chip = episode.day, episode.chip
        while True:
            if episode.at is None and day == 0:
                begins = begins_at
            else:
                local = datetime.combine(first_day + timedelta(days=day), episode.at or time(0), tzinfo=zone)
                begins = local.astimezone(begins_at.tzinfo)
            if begins >= ends_at:
                break
            ends = None if episode.hours is None else begins + timedelta(hours=episode.hours)
            strikes.append(Strike(episode, begins, ends, chip))
            if episode.every_days is None:
                break
            day += episode.every_days
            chip = chip + 1 if chip is not None and episode.next_chip else chip
    return sorted(strikes, key=lambda strike: strike.begins_at)
