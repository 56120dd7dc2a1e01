"""What Dagster loads."""

import dagster as dg

from warmup_pipeline.build import build_defs


@dg.definitions
def defs() -> dg.Definitions:
    """Return the project's definitions."""
    return build_defs()
