"""Health and status over HTTP, from the same source as the UI and ``warmup health``.

Holds: ``GET /warmer/health`` (the health document; 200 healthy or degraded, 503 critical),
``GET /warmer/health/probe`` (the same in one line of text, for monitors), ``GET /warmer/status`` (how
each pool stands). Do not add: what the documents say (``warmup.health_report``,
``warmup.status_report``).

A document is made at most every :data:`FRESH_FOR_S` seconds, in a thread of its own, whoever asks and
however often; ``at`` says of when it is. An instance that cannot be read is critical like everything
else that is not known.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, Final

from aiohttp import web

from warmup_pipeline.domain.values import HealthStatus
from warmup_pipeline.serve.serving import Serving
from warmup_pipeline.store import migrate
from warmup_pipeline.store.trouble import StoreError
from warmup_pipeline.warmup.health_report import CheckResult, health_report, health_without_database
from warmup_pipeline.warmup.status_report import status_report

FRESH_FOR_S: Final = 3.0

_REASONS: Final = 3


@dataclass
class Kept:
    """A document that is made again when it is older than :data:`FRESH_FOR_S`."""

    make: Callable[[], dict[str, Any]]
    made_at: float = -FRESH_FOR_S
    document: dict[str, Any] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def get(self) -> dict[str, Any]:
        """Return the document; of several that ask at once, one makes it and the others wait for it."""
        with self._lock:
            if time.monotonic() - self.made_at >= FRESH_FOR_S:
                self.document = self.make()
                self.made_at = time.monotonic()
            return self.document


def install(app: web.Application, serving: Serving) -> None:
    """Add the routes; the Dagster instance is open for as long as the application runs."""
    routes = _Routes(serving)
    app.cleanup_ctx.append(routes.running)
    app.router.add_get("/warmer/health", routes.health)
    app.router.add_get("/warmer/health/probe", routes.probe)
    app.router.add_get("/warmer/status", routes.status)


class _Routes:
    def __init__(self, serving: Serving) -> None:
        self._serving = serving
        self._instance: Any = None
        self._version = migrate.newest()
        self._health = Kept(self._make_health)
        self._status = Kept(lambda: status_report(serving.world))

    async def running(self, app: web.Application) -> AsyncIterator[None]:
        """Hold the instance open while the application runs."""
        del app
        # Dagster takes seconds to import: only what serves health pays for it.
        from warmup_pipeline.orchestration.opening import open_instance

        with ExitStack() as stack:
            self._instance = await asyncio.to_thread(stack.enter_context, open_instance())
            yield

    async def health(self, request: web.Request) -> web.Response:
        """Answer with the health document."""
        del request
        document = await asyncio.to_thread(self._health.get)
        return web.json_response(document, status=_code(document))

    async def probe(self, request: web.Request) -> web.Response:
        """Answer with the status and the first reasons, in one line."""
        del request
        document = await asyncio.to_thread(self._health.get)
        reasons = "; ".join(document["reasons"][:_REASONS])
        return web.Response(
            text=f"{document['status']}{': ' if reasons else ''}{reasons}\n", status=_code(document)
        )

    async def status(self, request: web.Request) -> web.Response:
        """Answer with the status document."""
        del request
        try:
            return web.json_response(await asyncio.to_thread(self._status.get))
        except StoreError as error:
            words = self._serving.world.redactor.text(str(error))
            return web.json_response({"error": words}, status=HTTPStatus.SERVICE_UNAVAILABLE)

    def _make_health(self) -> dict[str, Any]:
        from warmup_pipeline.orchestration import history, launching

        world = self._serving.world
        results: list[CheckResult] = []
        try:
            results = launching.latest_results(self._instance)
            scheduler = history.scheduler_state(self._instance)
            if migrate.current(world.store) != self._version:
                migrate.check(world.store)
            return health_report(world, results, scheduler)
        except StoreError as error:
            why = world.redactor.text(str(error))
        except Exception as error:  # noqa: BLE001 (whatever keeps us from knowing is not health)
            world.log.failure("Health cannot be told", world.redactor.traceback(error))
            why = f"health cannot be told ({type(error).__name__}): this program's log has the traceback"
        return health_without_database(why, results, now=world.now(), mode=world.mode)


def _code(document: dict[str, Any]) -> int:
    critical = document["status"] == HealthStatus.CRITICAL
    return HTTPStatus.SERVICE_UNAVAILABLE if critical else HTTPStatus.OK
