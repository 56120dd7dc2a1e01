"""The command line, ``warmup``: one module per group of commands.

Holds: :data:`main`, the program's entry point, with its commands. Add here: a command, written in a
module beside this one and registered below. Do not add: what a command does (``warmup``,
``orchestration``), how results look (``output``).

Source: interface.md, "Command line".
"""

from __future__ import annotations

import click

from warmup_pipeline.cli.chips import chips
from warmup_pipeline.cli.cycle import cycle
from warmup_pipeline.cli.demo import demo
from warmup_pipeline.cli.doctor import doctor
from warmup_pipeline.cli.gateway_sim import gateway_sim
from warmup_pipeline.cli.health import health
from warmup_pipeline.cli.importing import import_command
from warmup_pipeline.cli.policy import policy
from warmup_pipeline.cli.purge import purge
from warmup_pipeline.cli.serve import serve
from warmup_pipeline.cli.session import OneLineGroup, Session
from warmup_pipeline.cli.simulate import simulate

__all__ = ["main"]


@click.group(
    cls=OneLineGroup,
    no_args_is_help=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(package_name="warmup_pipeline", prog_name="warmup")
@click.pass_context
def main(context: click.Context) -> None:
    """Warm up an operator's own WhatsApp numbers, within hard limits, and see how it goes.

    Commands work on the project in the working directory (the nearest folder up that holds
    dagster.yaml) and on the database that WARMUP_DATABASE_URL names, else the embedded one. They exit
    with 64 and one line on bad input. NO_COLOR turns colours off; so does a pipe.
    """
    context.obj = Session.begin(context)


main.add_command(demo)
main.add_command(cycle)
main.add_command(import_command)
main.add_command(chips)
main.add_command(health)
main.add_command(gateway_sim)
main.add_command(policy)
main.add_command(purge)
main.add_command(simulate)
main.add_command(serve)
main.add_command(doctor)
