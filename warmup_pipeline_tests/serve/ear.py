"""``warmup serve`` on a real socket, for tests: in a thread of its own, on any free port."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx

from warmup_pipeline.domain.values import Provider
from warmup_pipeline.serve import webhooks
from warmup_pipeline.serve.app import Address, serve
from warmup_pipeline.serve.serving import Install, Serving
from warmup_pipeline.settings import Settings
from warmup_pipeline.warmup.world import World

SECRET = "the-secret-of-the-webhooks"


class Ear:
    """What listens, and how a gateway talks to it."""

    def __init__(self, address: Address) -> None:
        self.url = address.url
        self.client = httpx.Client(base_url=address.url, timeout=30)

    def post(self, provider: Provider, instance: str, body: Any, **how: Any) -> httpx.Response:
        return self.client.post(
            f"/webhooks/{provider.value}/{instance}", json=body, headers={"X-Warmup-Secret": SECRET}, **how
        )


def serving(world: World, root: Path, *, secret: str | None = SECRET) -> Serving:
    settings = Settings.from_environment(root, {})
    return Serving(world, replace(settings, webhook_secret=secret))


@contextmanager
def listening(
    world: World,
    root: Path,
    *,
    secret: str | None = SECRET,
    modules: Sequence[Install] = (webhooks.install,),
) -> Iterator[Ear]:
    """Serve until the block ends; what was taken is committed by then."""
    begun: list[Address] = []
    ready = threading.Event()
    loop = asyncio.new_event_loop()
    until = asyncio.Event()
    failure: list[BaseException] = []

    def started(address: Address) -> None:
        begun.append(address)
        ready.set()

    def run() -> None:
        try:
            loop.run_until_complete(
                serve(
                    serving(world, root, secret=secret),
                    host="127.0.0.1",
                    port=0,
                    until=until,
                    started=started,
                    modules=modules,
                )
            )
        except BaseException as error:  # noqa: BLE001 - raised again in the test
            failure.append(error)
            ready.set()
        finally:
            loop.close()

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    assert ready.wait(30)
    if failure:
        raise failure[0]
    ear = Ear(begun[0])
    try:
        yield ear
    finally:
        ear.client.close()
        loop.call_soon_threadsafe(until.set)
        thread.join(30)
        assert not failure
