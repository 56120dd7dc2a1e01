"""``warmup gateway-sim``: the simulator of both gateways as its own process.

Holds: the command. Do not add: what the simulator answers (``gateways.simulator``).
"""

from __future__ import annotations

import errno
import os
import signal
import threading
from pathlib import Path
from typing import Final

import click

from warmup_pipeline.cli import output
from warmup_pipeline.cli.session import InputError, InputFile, Session

_PORT: Final = 8085


@click.command("gateway-sim")
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=_PORT,
    show_default=True,
    help="Port; 0 for any free one.",
)
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option(
    "--latency-ms",
    type=click.FloatRange(0, 60_000),
    default=0.0,
    show_default=True,
    help="Added to every answer.",
)
@click.option("--seed", type=int, default=0, show_default=True, help="What looks random derives from it.")
@click.option(
    "--state", type=InputFile(), help="SQLite file that keeps its state; without one, it forgets at the end."
)
@click.option("--json", "as_json", is_flag=True, help="Say where it listens as JSON.")
@click.pass_obj
def gateway_sim(
    session: Session, port: int, host: str, latency_ms: float, seed: int, state: Path | None, as_json: bool
) -> None:
    """Serve Evolution's and Z-API's HTTP from a simulator, until interrupted.

    Its keys are EVOLUTION_API_KEY and ZAPI_CLIENT_TOKEN, or, where these are not set, the ones that
    simulated mode uses by itself: point EVOLUTION_API_URL at it and run cycles. GET /_sim/messages says
    what it accepted, POST /_sim/faults makes it misbehave, POST /_sim/reset makes it forget.
    """
    from warmup_pipeline.assembly import simulated_secret
    from warmup_pipeline.gateways.simulator import SimulatorCore, SimulatorSettings, run_in_thread
    from warmup_pipeline.gateways.simulator.state import IN_MEMORY

    del session
    settings = SimulatorSettings(
        evolution_key=os.environ.get("EVOLUTION_API_KEY") or simulated_secret("evolution"),
        zapi_client_token=os.environ.get("ZAPI_CLIENT_TOKEN") or simulated_secret("z-api"),
        latency_ms=latency_ms,
        seed=seed,
    )
    if state is not None and not state.parent.is_dir():
        raise InputError(f"--state: there is no folder {state.parent}")
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    with SimulatorCore(settings, IN_MEMORY if state is None else state) as core:
        try:
            running = run_in_thread(core, port, host=host)
        except OSError as error:
            taken = error.errno == errno.EADDRINUSE
            remedy = "; choose another with --port, or 0 for any" if taken else ""
            raise InputError(
                f"cannot listen on {host} port {port}: {os.strerror(error.errno or 0)}{remedy}"
            ) from None
        with running:
            if as_json:
                output.emit_json({"url": running.base_url, "port": running.port})
            else:
                click.echo(f"Both gateways at {running.base_url}; Ctrl-C ends it.")
            stop.wait()
