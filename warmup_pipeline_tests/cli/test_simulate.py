"""``warmup simulate``: what it prints, and what it refuses."""

from __future__ import annotations

import errno
import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest

from warmup_pipeline_tests.cli.conftest import Project

AUDIT = str(Path(__file__).parents[2] / "warmup_pipeline" / "data" / "audit")


def test_the_document_has_the_keys_of_the_interface_and_the_pool_of_the_database_is_not_touched(
    project: Project,
) -> None:
    document = project.json(
        *("simulate", "--days", "2", "--chips", "2"),
        *("--compare", "conservative", "--report", "what-if.html", "--export", "tables"),
    )
    assert set(document) >= {
        "days",
        "chips",
        "cycles",
        "messages",
        "conversa_par",
        "limit_violations",
        "duplicate_sends",
        "transitions",
        "phases_at_end",
        "max_sends_per_chip_hour",
        "max_sends_per_chip_day",
        "wall_s",
    }
    assert set(document["conversa_par"]) == {"executed", "failed", "success_rate"}
    assert document["cycles"] == 2 * 288
    assert set(document["transitions"][0]) == {"chip", "from", "to", "day", "warming_day"}
    assert document["limit_violations"] == document["duplicate_sends"] == 0
    comparison = document["comparison"]
    assert (comparison["this"]["policy"], comparison["other"]["policy"]) == ("default", "conservative")
    assert "conservative" in (project.root / "what-if.html").read_text()
    tables = {path.stem for path in (project.root / "tables").iterdir()}
    assert tables >= {"chips", "transitions", "columns", "other_policy_transitions"}
    assert project.json("chips", "list") == []


def test_it_says_what_happened_and_shows_no_bar_without_a_terminal(project: Project) -> None:
    result = project.run("simulate", "--days", "1", "--pool", AUDIT, "--faults", "flaky")
    assert result.exit_code == 0, result.output
    assert "CONVERSA_PAR success" in result.stdout
    assert result.stderr == ""


def test_on_a_terminal_a_bar_runs_to_its_end(project: Project) -> None:
    ours, theirs = pty.openpty()
    words = ["simulate", "--days", "1", "--chips", "2"]
    code = "from warmup_pipeline.cli import main; main(prog_name='warmup')"
    with subprocess.Popen(
        [sys.executable, "-c", code, *words], cwd=project.root, stdout=subprocess.DEVNULL, stderr=theirs
    ) as command:
        os.close(theirs)
        shown = b""
        try:
            while more := os.read(ours, 4096):
                shown += more
        except OSError as error:
            # Linux tells so that the other side of a terminal is closed.
            if error.errno != errno.EIO:
                raise
        assert command.wait() == 0
    os.close(ours)
    frames = [frame for frame in shown.decode().split("\r") if "%" in frame]
    assert len(frames) > 2
    assert " 100%" in frames[-1]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--days", "1"), "--chips"),
        (("--days", "1", "--chips", "2", "--pool", AUDIT), "--pool"),
        (("--days", "0", "--chips", "2"), "--days"),
        (("--days", "1", "--chips", "2", "--faults", "no-such"), "flaky"),
        (("--days", "1", "--chips", "2", "--policy", "no-such"), "no-such"),
        (("--days", "1", "--chips", "2", "--from", "2026-02-20T08:00:00"), "zone"),
        (("--days", "1", "--pool", "no-such-folder"), "chips.csv"),
        (("--days", "1", "--chips", "2", "--report", "no/such/folder/x.html"), "no/such/folder"),
    ],
)
def test_bad_input_is_one_line_and_64(project: Project, arguments: tuple[str, ...], said: str) -> None:
    assert said in project.refused("simulate", *arguments)
