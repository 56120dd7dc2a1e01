"""The trap: a page of the operator's handbook that describes another program."""

from __future__ import annotations

from pathlib import Path

from warmup_pipeline.domain.vitals import REMEDIES
from warmup_pipeline.orchestration.jobs import OPERATOR_JOBS
from warmup_pipeline.warmup.checks import CHECKS

DOCS = Path(__file__).resolve().parents[1] / "docs"
OPERATING = (DOCS / "operating.md").read_text(encoding="utf-8")


def test_every_check_stands_in_the_handbook_with_what_it_means_and_what_to_do() -> None:
    for spec in CHECKS:
        assert f"| `{spec.name}` | {spec.description} | {spec.remedy} |" in OPERATING


def test_every_sign_of_life_stands_in_the_handbook_with_what_to_do() -> None:
    for name, remedy in REMEDIES.items():
        (line,) = [line for line in OPERATING.splitlines() if line.startswith(f"| `{name}` |")]
        assert line.endswith(f"| {remedy} |")


def test_every_operator_job_stands_in_the_handbook() -> None:
    for job in OPERATOR_JOBS:
        assert f"`{job.name}`" in OPERATING


def test_every_picture_that_is_shown_is_there() -> None:
    readme = (DOCS.parent / "README.md").read_text(encoding="utf-8")
    shown = [part.split(")")[0] for part in readme.split("](docs/pictures/")[1:]]
    assert shown
    assert all((DOCS / "pictures" / name).is_file() for name in shown)


def test_the_worked_example_is_the_module_itself() -> None:
    module = DOCS.parent / "warmup_pipeline" / "warmup" / "activities" / "reagir.py"
    assert module.read_text(encoding="utf-8") in (DOCS / "architecture.md").read_text(encoding="utf-8")
