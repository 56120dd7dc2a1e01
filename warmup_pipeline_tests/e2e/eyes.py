"""The three ways in which an operator sees health, each asked by itself.

Holds: :class:`Seen` and one function per way. Do not add: assertions.
"""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import dagster as dg
import httpx
from click.testing import CliRunner
from dagster._core.storage.asset_check_execution_record import AssetCheckExecutionRecordStatus

from warmup_pipeline.assembly import open_reading_world
from warmup_pipeline.cli import main
from warmup_pipeline.serve.app import Address, serve
from warmup_pipeline.serve.health import FRESH_FOR_S
from warmup_pipeline.serve.serving import Serving
from warmup_pipeline.settings import Settings
from warmup_pipeline.warmup.checks import CHECKS
from warmup_pipeline.warmup.world import StandardLog, World

_DONE = (AssetCheckExecutionRecordStatus.SUCCEEDED, AssetCheckExecutionRecordStatus.FAILED)


@dataclass(frozen=True, slots=True)
class Seen:
    """What one way shows.

    Attributes:
        status: healthy, degraded or critical; empty where the way says none.
        turned: the checks and signs of life that are not well.
        text: everything it says.
        code: exit code, or HTTP status.
    """

    status: str
    turned: frozenset[str]
    text: str
    code: int


def _of_document(text: str, code: int) -> Seen:
    document = json.loads(text)
    turned = {one["check"] for one in document["checks"] if not one["passed"] or one["stale"]}
    turned |= {one["name"] for one in document["vitals"] if not one["passed"]}
    return Seen(document["status"], frozenset(turned), text, code)


def by_command() -> Seen:
    """Ask ``warmup health --json`` in the working directory."""
    result = CliRunner().invoke(main, ["health", "--json"], prog_name="warmup")
    return _of_document(result.stdout, result.exit_code)


def by_ui(instance: dg.DagsterInstance) -> Seen:
    """Read what the UI shows of each check: its newest execution."""
    turned, texts = set(), []
    for spec in CHECKS:
        key = dg.AssetCheckKey(dg.AssetKey(spec.asset), spec.name)
        history = instance.event_log_storage.get_asset_check_execution_history(key, limit=30)
        # One that is only planned, of a run that waits, says nothing yet.
        done = [one for one in history if one.status in _DONE]
        if not done or done[0].status is not AssetCheckExecutionRecordStatus.SUCCEEDED:
            turned.add(spec.name)
        evaluation = done[0].evaluation if done else None
        if evaluation is not None:
            texts.append(f"{spec.name}: {evaluation.description} {evaluation.metadata}")
    return Seen("", frozenset(turned), "\n".join(texts), 0)


@dataclass
class Endpoint:
    """``warmup serve``, listening; each look is newer than what came before."""

    url: str

    def look(self) -> Seen:
        """Ask ``GET /warmer/health``."""
        answer = httpx.get(f"{self.url}/warmer/health", trust_env=False, timeout=60)
        return _of_document(answer.text, answer.status_code)


@contextmanager
def endpoint(settings: Settings) -> Iterator[Endpoint]:
    """Serve on a free port of loopback, in a thread."""
    ready, ends, listening = threading.Event(), [], []

    async def run(world: World) -> None:
        loop, until = asyncio.get_running_loop(), asyncio.Event()
        ends.append(lambda: loop.call_soon_threadsafe(until.set))

        def started(address: Address) -> None:
            listening.append(address.url)
            ready.set()

        await serve(Serving(world, settings), host="127.0.0.1", port=0, until=until, started=started)

    def work() -> None:
        with open_reading_world(settings, log=StandardLog()) as world:
            asyncio.run(run(world))

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    assert ready.wait(60)
    try:
        yield Endpoint(listening[0])
    finally:
        ends[0]()
        thread.join(30)


__all__ = ["FRESH_FOR_S", "Endpoint", "Seen", "by_command", "by_ui", "endpoint"]
