"""Running a benchmark by its name: ``python -m warmup_pipeline_tests.benchmarks simulate --json``.

Holds: :data:`BENCHMARKS`, one line per benchmark: a module whose ``run`` measures and returns something
with a ``document()``; what ``run`` takes becomes an option. Do not add: what is measured, thresholds.
"""

from __future__ import annotations

import argparse
import inspect
import json
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import Any, Final

BENCHMARKS: Final = {
    "cycle": "warmup_pipeline_tests.benchmarks.cycle",
    "dagster-overhead": "warmup_pipeline_tests.benchmarks.dagster_overhead",
    "derive": "warmup_pipeline_tests.benchmarks.derive",
    "pairing": "warmup_pipeline_tests.benchmarks.pairing",
    "pools": "warmup_pipeline_tests.benchmarks.pools",
    "scale": "warmup_pipeline_tests.benchmarks.scale",
    "simulate": "warmup_pipeline_tests.benchmarks.simulate",
    "store": "warmup_pipeline_tests.benchmarks.store",
    "webhooks": "warmup_pipeline_tests.benchmarks.webhooks",
}

_WRONG_USAGE: Final = 64


def _options(run: Any, parser: argparse.ArgumentParser) -> None:
    """Add an option for each argument of ``run`` that a word can say."""
    for name, parameter in inspect.signature(run).parameters.items():
        if isinstance(parameter.default, int | float | str) and not isinstance(parameter.default, bool):
            parser.add_argument(
                f"--{name.replace('_', '-')}",
                type=type(parameter.default),
                default=parameter.default,
                help=f"default {parameter.default}",
            )


def main(words: Sequence[str]) -> int:
    """Run the benchmark that the words name, and print what it measured."""
    # Either way of writing a name is understood: dagster_overhead, dagster-overhead.
    words = [*(word.replace("_", "-") for word in words[:1]), *words[1:]]
    if not words or words[0] not in BENCHMARKS:
        print(f"say which benchmark: {', '.join(BENCHMARKS)}", file=sys.stderr)
        return _WRONG_USAGE
    run = import_module(BENCHMARKS[words[0]]).run
    parser = argparse.ArgumentParser(prog=f"python -m warmup_pipeline_tests.benchmarks {words[0]}")
    parser.add_argument("--json", action="store_true", help="print JSON")
    _options(run, parser)
    asked = vars(parser.parse_args(words[1:]))
    as_json = asked.pop("json")
    document = run(**asked).document()
    if as_json:
        print(json.dumps(document, indent=2, default=str))
    else:
        for name, value in document.items():
            print(f"{name}: {value}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
