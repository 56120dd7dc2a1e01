"""``warmup simulate``: what it prints, and what it refuses."""

from __future__ import annotations

from pathlib import Path

import pytest

from warmup_pipeline_tests.cli.conftest import Project

AUDIT = str(Path(__file__).parents[2] / "warmup_pipeline" / "data" / "audit")


def test_the_document_has_the_keys_of_the_interface(project: Project) -> None:
    document = project.json("simulate", "--days", "2", "--chips", "2")
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


def test_it_says_what_happened_and_shows_no_bar_without_a_terminal(project: Project) -> None:
    result = project.run("simulate", "--days", "1", "--pool", AUDIT, "--faults", "flaky")
    assert result.exit_code == 0, result.output
    assert "CONVERSA_PAR success" in result.stdout
    assert result.stderr == ""


def test_the_pool_of_the_database_is_not_touched(project: Project) -> None:
    project.json("simulate", "--days", "1", "--chips", "2")
    assert project.json("chips", "list") == []


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
