"""The time-lapse: a month of warm-up in seconds, by production's own rules, store, clients and cycle.

Holds: the names other packages use. Add here: a further public name. Do not add: behaviour.

Only the clock and the sockets differ from production: cycles run on a virtual clock, and requests are
answered by the gateway simulator in this process.
"""

from warmup_pipeline.warmup.timelapse.engine import Timelapse
from warmup_pipeline.warmup.timelapse.profiles import (
    FaultProfile,
    ProfileError,
    load_profile,
    shipped_profiles,
)
from warmup_pipeline.warmup.timelapse.result import PhaseChange, SimulationResult
from warmup_pipeline.warmup.timelapse.settings import SimulationSettings
from warmup_pipeline.warmup.timelapse.stage import Simulation, open_timelapse, simulate

__all__ = [
    "FaultProfile",
    "PhaseChange",
    "ProfileError",
    "Simulation",
    "SimulationResult",
    "SimulationSettings",
    "Timelapse",
    "load_profile",
    "open_timelapse",
    "shipped_profiles",
    "simulate",
]
