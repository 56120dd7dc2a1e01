"""A project of its own for each test of the command line: a root, a home, and nothing of the developer's."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner, Result

from warmup_pipeline.cli import main

REPOSITORY = Path(__file__).parents[2]


@dataclass(frozen=True)
class Project:
    """A root with Dagster's files; ``run`` runs a command in this process, ``process`` in its own."""

    root: Path

    def run(self, *args: str) -> Result:
        return CliRunner().invoke(main, args, prog_name="warmup")

    def json(self, *args: str) -> Any:
        result = self.run(*args, "--json")
        assert result.exit_code == 0, result.output
        return json.loads(result.stdout)

    def refused(self, *args: str) -> str:
        """Run what must be refused: exit code 64, one line, no traceback. Returns the line."""
        result = self.run(*args)
        assert result.exit_code == 64, result.output
        assert result.stdout == ""
        (line,) = result.stderr.splitlines()
        assert line.startswith("Error: ")
        return line

    def process(self, *args: str, **environ: str) -> subprocess.CompletedProcess[str]:
        return self.python("from warmup_pipeline.cli import main; main(prog_name='warmup')", *args, **environ)

    def python(self, code: str, *args: str, **environ: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-c", code, *args],
            cwd=self.root,
            env=os.environ | environ,
            capture_output=True,
            text=True,
            check=False,
            timeout=300,
        )


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    """An empty project in a folder of its own, which is the working directory."""
    root = tmp_path / "project"
    root.mkdir()
    for name in ("dagster.yaml", "workspace.yaml"):
        shutil.copy(REPOSITORY / name, root)
    for name in list(os.environ):
        if name.startswith(("WARMUP_", "EVOLUTION_", "ZAPI_", "DAGSTER_")):
            monkeypatch.delenv(name)
    # Set, so that what a command adopts of a .env is undone with the test.
    monkeypatch.setenv("DAGSTER_HOME", str(root))
    monkeypatch.setenv("PYTHONPATH", str(REPOSITORY))
    monkeypatch.chdir(root)
    return Project(root)


def every_command(group: click.Command, *path: str) -> list[tuple[str, ...]]:
    """Return every command of the program as the words that call it."""
    found = [path]
    if isinstance(group, click.Group):
        for name, command in group.commands.items():
            found += every_command(command, *path, name)
    return found
