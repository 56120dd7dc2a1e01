"""The trap: an import that points up, which nobody sees until two layers cannot be told apart."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

_ROOT = Path(__file__).resolve().parents[1]
_LINT = "import sys; from importlinter.cli import lint_imports_command as c; sys.exit(c())"

_UPWARD = """
[importlinter]
root_package = warmup_pipeline

[importlinter:contract:upside-down]
name = Upside down
type = layers
layers =
    warmup_pipeline.domain
    warmup_pipeline.store
"""


def lint(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", _LINT, "--no-cache", *arguments],
        cwd=_ROOT,
        capture_output=True,
        text=True,
        check=False,
    )


def test_imports_point_down_only() -> None:
    result = lint()
    assert result.returncode == 0, result.stdout + result.stderr


def test_an_import_that_points_up_would_be_found(tmp_path: Path) -> None:
    contract = tmp_path / "contract.cfg"
    contract.write_text(_UPWARD)
    result = lint("--config", str(contract))
    assert result.returncode != 0
    assert "warmup_pipeline.store" in result.stdout


@pytest.mark.parametrize("heavy", ["pandas", "aiohttp", "matplotlib", "dagster_webserver"])
def test_loading_the_code_location_does_not_load_what_only_some_commands_need(heavy: str) -> None:
    """Import time is start-up time of every run (architecture.md, fact 14)."""
    found = subprocess.run(
        [sys.executable, "-c", f"import sys, warmup_pipeline.definitions; print({heavy!r} in sys.modules)"],
        cwd=_ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert found.stdout.strip() == "False"
