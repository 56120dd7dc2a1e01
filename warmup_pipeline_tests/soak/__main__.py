"""``python -m warmup_pipeline_tests.soak``: the long proofs, one command each.

Holds: the list of them. Each command's module says what it shows; docs/soak.md says what it showed.
"""

from __future__ import annotations

import click

from warmup_pipeline_tests.soak.faults import faults
from warmup_pipeline_tests.soak.growth import growth
from warmup_pipeline_tests.soak.kills import kills
from warmup_pipeline_tests.soak.races import races


@click.group()
def main() -> None:
    """Show from the gateway's side that nothing goes twice and nothing is lost."""


main.add_command(kills)
main.add_command(races)
main.add_command(faults)
main.add_command(growth)

if __name__ == "__main__":
    main()
