"""Short forms of the soaks, as commands: what they show in full is in docs/soak.md.

They are processes of their own: a soak forks, and pytest's own process has threads.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

_ROOT = Path(__file__).resolve().parents[2]


def soak(*arguments: str) -> str:
    """Run a soak; its whole output shows where it fails, the seed that repeats it among it."""
    done = subprocess.run(
        [sys.executable, "-m", "warmup_pipeline_tests.soak", *arguments],
        cwd=_ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.parametrize("database", ["sqlite", "postgresql"])
def test_cycles_killed_at_any_point_send_nothing_twice_and_lose_nothing(database: str) -> None:
    said = soak(
        "kills", "--database", database, "--chips", "10", "--ticks", "9", "--kills", "16", "--seed", "4"
    )
    assert "killed 16 times" in said
    assert "duplicates: 0, lost: 0" in said


def test_two_and_four_cycles_at_once_send_nothing_twice_and_exceed_nothing() -> None:
    said = soak("races", "--rounds", "6")
    assert "duplicates: 0, lost: 0" in said
    assert "rounds with exactly one probe: 0" not in said


def test_the_history_stops_growing_once_old_runs_are_purged_and_everything_still_shows() -> None:
    said = soak("growth", "--cycles", "10", "--cycles-a-day", "2", "--keep-days", "1")
    assert "removed 2 runs" in said
