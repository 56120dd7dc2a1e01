"""``warmup serve``: health, status and the gateways' webhooks over HTTP.

Holds: the command. Do not add: routes (``warmup_pipeline.serve``).
"""

from __future__ import annotations

import asyncio
import errno
import os
import signal

import click

from warmup_pipeline.cli import output
from warmup_pipeline.cli.session import InputError, Session


@click.command("serve")
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=3001,
    show_default=True,
    help="Port; 0 for any free one.",
)
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--json", "as_json", is_flag=True, help="Say where it listens as JSON.")
@click.pass_obj
def serve(session: Session, port: int, host: str, as_json: bool) -> None:
    """Answer over HTTP until interrupted: health, status, and the gateways' webhooks.

    Listens on loopback unless told otherwise: put a reverse proxy with TLS before it. Webhooks need
    WARMUP_WEBHOOK_SECRET; without it every one of them is refused.
    """
    from warmup_pipeline.serve.app import Address
    from warmup_pipeline.serve.app import serve as listen
    from warmup_pipeline.serve.serving import Serving

    settings = session.settings()

    def started(address: Address) -> None:
        if as_json:
            output.emit_json({"url": address.url, "port": address.port})
            return
        click.echo(f"Listening at {address.url}; Ctrl-C ends it.")
        if settings.webhook_secret is None:
            click.echo("WARMUP_WEBHOOK_SECRET is not set: webhooks are refused.", err=True)

    async def run(serving: Serving) -> None:
        until = asyncio.Event()
        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(number, until.set)
        await listen(serving, host=host, port=port, until=until, started=started)

    with session.world(gateways=False) as world:
        try:
            asyncio.run(run(Serving(world, settings)))
        except OSError as error:
            taken = error.errno == errno.EADDRINUSE
            remedy = "; choose another with --port, or 0 for any" if taken else ""
            raise InputError(
                f"cannot listen on {host} port {port}: {os.strerror(error.errno or 0)}{remedy}"
            ) from None
