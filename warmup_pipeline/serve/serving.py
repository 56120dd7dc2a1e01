"""What a module of routes is given.

Holds: :class:`Serving` and :data:`Install`. Add here: something that routes of several modules need.
Do not add: routes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from aiohttp import web

from warmup_pipeline.settings import Settings
from warmup_pipeline.warmup.world import World


@dataclass(frozen=True, slots=True)
class Serving:
    """What routes work with.

    Attributes:
        world: database, policy, redactor, clock, log. No gateway is asked from here.
        settings: the environment; the webhooks' secret is in it.
    """

    world: World
    settings: Settings


Install = Callable[[web.Application, Serving], None]
"""Adds a module's routes, and what they need while the application runs (``app.cleanup_ctx``)."""
