"""Everything CI asks for, in order: lint, format, types, layers, tests with coverage.

``python -m warmup_pipeline_tests`` runs it all and says at the end what failed. Arguments are given
to pytest, and then only the tests are run.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

_ROOT = Path(__file__).resolve().parent.parent
_PYTHON = sys.executable

_STEPS: tuple[tuple[str, list[str]], ...] = (
    ("lint", ["-m", "ruff", "check", "."]),
    ("format", ["-m", "ruff", "format", "--check", "."]),
    ("types", ["-m", "mypy"]),
    ("layers", ["-c", "import sys; from importlinter.cli import lint_imports_command as c; sys.exit(c())"]),
)
_TESTS = [
    "-m",
    "pytest",
    "-n",
    "2",
    "--dist",
    "loadfile",
    "-q",
    "--durations=30",
    "--cov",
    "--cov-report=term",
]


def main(arguments: list[str]) -> int:
    """Run the steps; returns the exit code."""
    steps = [("tests", ["-m", "pytest", *arguments])] if arguments else [*_STEPS, ("tests", _TESTS)]
    failed = []
    for name, command in steps:
        print(f"== {name}", flush=True)  # noqa: T201 (this is a command)
        if subprocess.run([_PYTHON, *command], cwd=_ROOT, check=False).returncode != 0:
            failed.append(name)
    if failed:
        print(f"failed: {', '.join(failed)}", flush=True)  # noqa: T201
        return 1
    print("all passed", flush=True)  # noqa: T201
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
