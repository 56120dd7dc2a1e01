"""The HTTP application of ``warmup serve``: what every route module is given, and how they are put together.

Holds: :class:`Serving`, :data:`MODULES` (one line per module of routes), :func:`build_app`, and
:func:`serve`, which listens until it is told to stop. Add here: a module's line in ``MODULES``. Do not
add: routes (each module installs its own).

Every answer is JSON. An error of our own code is a 500 that shows nothing, and its whole redacted
traceback is in the log.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from warmup_pipeline.serve import health, webhooks
from warmup_pipeline.serve.serving import Install, Serving

MODULES: Final[tuple[Install, ...]] = (webhooks.install, health.install)
"""What puts routes into the application. Each is called once, before it starts."""

LARGEST_BODY: Final = 1_000_000
"""Bytes of a request that are read; a gateway's event, a picture's thumbnail included, stays far below."""

_SHUTDOWN_S: Final = 5.0


def build_app(serving: Serving, modules: Sequence[Install] = MODULES) -> web.Application:
    """Return the application with every module's routes."""
    app = web.Application(middlewares=[_guard(serving)], client_max_size=LARGEST_BODY)
    for install in modules:
        install(app, serving)
    return app


def _guard(serving: Serving) -> Middleware:
    @web.middleware
    async def guard(request: web.Request, handler: Handler) -> web.StreamResponse:
        try:
            return await handler(request)
        except web.HTTPException as refusal:
            return web.json_response({"error": refusal.reason}, status=refusal.status)
        except Exception as error:  # noqa: BLE001 - the last stop: nothing unredacted may leave from here
            # The route's pattern, not the address: that may hold a key.
            resource = request.match_info.route.resource
            place = resource.canonical if resource is not None else "an unknown path"
            serving.world.log.failure(
                f"{request.method} {place} failed in our own code", serving.world.redactor.traceback(error)
            )
            return web.json_response({"error": "internal error"}, status=500)

    return guard


@dataclass(frozen=True, slots=True)
class Address:
    """Where the application listens."""

    host: str
    port: int

    @property
    def url(self) -> str:
        """Its base, without a final slash."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"http://{host}:{self.port}"


async def serve(
    serving: Serving,
    *,
    host: str,
    port: int,
    until: asyncio.Event,
    started: Callable[[Address], None] = lambda _: None,
    modules: Sequence[Install] = MODULES,
) -> None:
    """Listen until ``until`` is set; what was taken is written down before this returns.

    Args:
        serving: what the routes work with.
        host: address to listen on.
        port: 0 for any free one.
        until: ends it.
        started: told the address once it listens.
        modules: which modules of routes to install.

    Raises:
        OSError: the address cannot be had.
    """
    # No access log: Z-API's secret is part of the address.
    runner = web.AppRunner(
        build_app(serving, modules),
        access_log=None,
        shutdown_timeout=_SHUTDOWN_S,
        # No gateway packs its webhooks, and a small packed body can be a huge one.
        auto_decompress=False,
    )
    await runner.setup()
    try:
        await web.TCPSite(runner, host, port, backlog=2048).start()
        started(Address(host, runner.addresses[0][1]))
        await until.wait()
    finally:
        await runner.cleanup()
