"""The gateways' webhooks: ``POST /webhooks/evolution/{instance}`` and ``/webhooks/z-api/{instance}``.

Holds: who may call (a secret), how much is read, and what is answered. Add here: another gateway's
route. Do not add: what a body says (``gateways``), whom it is about (``warmup.hearing``), writing
(``intake``).

Answers: 200 when it is written down, or says nothing we need; 401 without the right secret; 400 for
what is no JSON or is too large (not 413: Evolution would send that ten times); 422 for JSON that is no
webhook of that gateway and instance; 404 for an instance that is no chip; 503 while the database cannot
take it. Nothing is written by a refusal. Evolution gives up at once after 400, 401, 404 and 422, and
tries again after 503, as it should.

Source: interface.md; gateway-contract.md 1.16 and 2.5.
"""

from __future__ import annotations

import hmac
import json
import time
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any, Final

from aiohttp import web

from warmup_pipeline.domain.values import Provider
from warmup_pipeline.gateways import evolution_webhooks, zapi_webhooks
from warmup_pipeline.gateways.http import SECRET_HEADER, SECRET_PARAMETER
from warmup_pipeline.gateways.webhooks import Heard, NotAWebhook
from warmup_pipeline.serve.intake import Intake, IntakeFull
from warmup_pipeline.serve.serving import Serving
from warmup_pipeline.store.chips import Chip
from warmup_pipeline.store.trouble import StoreError
from warmup_pipeline.warmup.hearing import Directory, written_down

DIRECTORY_LASTS_S: Final = 30.0
"""How long chips are remembered; an instance that is not among them is looked for again once a second."""
_LOOK_AGAIN_S: Final = 1.0

_READERS: Final[dict[Provider, Callable[[str, object], Sequence[Heard]]]] = {
    Provider.EVOLUTION: evolution_webhooks.hear,
    Provider.Z_API: zapi_webhooks.hear,
}


def install(app: web.Application, serving: Serving) -> None:
    """Add the webhook routes."""
    webhooks = _Webhooks(serving)
    app.cleanup_ctx.append(webhooks.running)
    for provider in _READERS:
        path = f"/webhooks/{provider.value}/{{instance}}"
        app.router.add_post(path, webhooks.handler(provider))
        if provider is Provider.EVOLUTION:
            # Where the instance is set to webhooks by event, the event's name is added to the address.
            app.router.add_post(f"{path}/{{event}}", webhooks.handler(provider))


class _Webhooks:
    def __init__(self, serving: Serving) -> None:
        self._serving = serving
        self._intake = Intake(serving.world.store)
        self._directory: Directory | None = None
        self._loaded_at = 0.0

    async def running(self, app: web.Application) -> AsyncIterator[None]:
        del app
        self._intake.start()
        yield
        await self._intake.stop()

    def handler(self, provider: Provider) -> Callable[[web.Request], Any]:
        async def handle(request: web.Request) -> web.Response:
            return await self._handle(provider, request)

        return handle

    async def _handle(self, provider: Provider, request: web.Request) -> web.Response:
        if not self._may_call(request):
            return _refused(401, "the secret is missing or wrong")
        try:
            body = json.loads(await request.read())
        except web.HTTPRequestEntityTooLarge:
            return _refused(400, "the body is too large")
        except (ValueError, RecursionError):
            return _refused(400, "the body is no JSON")
        try:
            return await self._take(provider, request.match_info["instance"], body)
        except (IntakeFull, StoreError):
            return _refused(503, "the database cannot take it now")

    async def _take(self, provider: Provider, instance: str, body: object) -> web.Response:
        try:
            heard = _READERS[provider](instance, body)
        except NotAWebhook as problem:
            return _refused(422, str(problem))
        chip = self._chip_of(provider, instance)
        if chip is None:
            return _refused(404, "no chip has this instance")
        world = self._serving.world
        rows, source = written_down(heard, chip, self._known(), world.redactor, at=world.now())
        await self._intake.put(rows, source)
        return web.json_response({"status": "ok", "taken": len(rows)})

    def _may_call(self, request: web.Request) -> bool:
        secret = self._serving.settings.webhook_secret
        given = request.headers.get(SECRET_HEADER) or request.query.get(SECRET_PARAMETER)
        if secret is None or given is None:
            return False
        return hmac.compare_digest(given.encode("utf-8", "surrogatepass"), secret.encode())

    def _known(self) -> Directory:
        if self._directory is None or time.monotonic() - self._loaded_at > DIRECTORY_LASTS_S:
            with self._serving.world.store.read() as tx:
                self._directory = Directory.load(tx)
            self._loaded_at = time.monotonic()
        return self._directory

    def _chip_of(self, provider: Provider, instance: str) -> Chip | None:
        chip = self._known().of_instance(provider, instance)
        if chip is None and time.monotonic() - self._loaded_at > _LOOK_AGAIN_S:
            self._loaded_at = float("-inf")
            chip = self._known().of_instance(provider, instance)
        return chip


def _refused(status: int, why: str) -> web.Response:
    return web.json_response({"error": why}, status=status)
