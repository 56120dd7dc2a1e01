"""The gateways' webhooks: ``POST /webhooks/evolution/{instance}`` and ``/webhooks/z-api/{instance}``."""

from __future__ import annotations

from aiohttp import web

from warmup_pipeline.serve.serving import Serving


def install(app: web.Application, serving: Serving) -> None:
    """Add the webhook routes."""
    del app, serving
