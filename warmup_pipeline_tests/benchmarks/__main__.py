"""Running a benchmark by its name: ``python -m warmup_pipeline_tests.benchmarks simulate --json``.

Holds: :data:`BENCHMARKS`, one line per benchmark: a module whose ``run`` measures and returns something
with a ``document()``. Do not add: its options (``options``), what is measured, thresholds.
"""

from __future__ import annotations

import json
import signal
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import Final

from warmup_pipeline.store.engine import StoreUrlError
from warmup_pipeline.store.trouble import StoreError
from warmup_pipeline_tests.benchmarks.options import WRONG_USAGE, parser_of

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

_INTERRUPTED: Final = 130
_TERMINATED: Final = 143


def _overview() -> str:
    """Return what each benchmark measures, one line each."""
    lines = []
    for name, module in BENCHMARKS.items():
        about = (import_module(module).__doc__ or "").partition("\n")[0]
        lines.append(f"  {name:18}{about}")
    return "\n".join(
        [
            "usage: python -m warmup_pipeline_tests.benchmarks NAME [--json] [options]; NAME --help lists them",
            "",
            *lines,
        ]
    )


def _end(*_: object) -> None:
    # So that what was begun is ended and taken away, as on Ctrl-C.
    raise SystemExit(_TERMINATED)


def main(words: Sequence[str]) -> int:
    """Run the benchmark that the words name, and print what it measured."""
    if words[:1] in (["--help"], ["-h"]):
        print(_overview())
        return 0
    # Either way of writing a name is understood: dagster_overhead, dagster-overhead.
    words = [*(word.replace("_", "-") for word in words[:1]), *words[1:]]
    if not words or words[0] not in BENCHMARKS:
        print(f"say which benchmark: {', '.join(BENCHMARKS)}", file=sys.stderr)
        return WRONG_USAGE
    run = import_module(BENCHMARKS[words[0]]).run
    asked = vars(parser_of(words[0], run).parse_args(words[1:]))
    as_json = asked.pop("json")
    signal.signal(signal.SIGTERM, _end)
    try:
        document = run(**asked).document()
    except (StoreError, StoreUrlError) as error:
        print(error, file=sys.stderr)
        return WRONG_USAGE
    except KeyboardInterrupt:
        print("Interrupted.", file=sys.stderr)
        return _INTERRUPTED
    if as_json:
        print(json.dumps(document, indent=2, default=str, allow_nan=False))
    else:
        for name, value in document.items():
            print(f"{name}: {value}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
