"""The traps: an asset page that shows nothing, a picture that grows with the pool, a number that leaks."""

from __future__ import annotations

import base64
import re

import dagster as dg

from warmup_pipeline.build import build_defs
from warmup_pipeline.orchestration.names import CYCLE_JOB, EVERY_CYCLE, STORY_TAG
from warmup_pipeline.orchestration.text import markdown_table
from warmup_pipeline_tests.orchestration.conftest import Project
from warmup_pipeline_tests.orchestration.test_cycle_run import ASSETS, make_everything_due

PICTURES = {"messages", "pairings", "phase_transitions"}


def test_every_asset_is_described_owned_tagged_and_turns_stale_by_the_ages_of_health() -> None:
    graph = build_defs().resolve_asset_graph()
    for key in map(dg.AssetKey, sorted(ASSETS)):
        node = graph.get(key)
        assert node.description
        assert node.owners == ["team:warmup"]
        assert node.kinds == {"table"}
        assert node.tags["warmup/table"] in ("log", "state")
        policy = node.freshness_policy
        assert policy == EVERY_CYCLE
    job = build_defs().resolve_job_def(CYCLE_JOB)
    assert {key.to_user_string() for key in job.asset_layer.executable_asset_keys} == ASSETS


def test_a_cycle_leaves_numbers_rows_pictures_and_its_story_on_the_pages(project: Project) -> None:
    make_everything_due(project)
    ran = project.cycle()
    assert ran.succeeded
    phones = [row["phone"] for row in project.rows("SELECT phone FROM chips")]
    shown = {}
    for event in project.instance.all_logs(ran.run_id, of_type=dg.DagsterEventType.ASSET_MATERIALIZATION):
        assert event.dagster_event is not None
        materialization = event.dagster_event.step_materialization_data.materialization
        shown[materialization.asset_key.to_user_string()] = materialization.metadata
    assert set(shown) == ASSETS
    for name, metadata in shown.items():
        text = str({key: value.value for key, value in metadata.items()})
        assert not any(phone in text for phone in phones), name
        numbers = [key for key, value in metadata.items() if isinstance(value.value, int | float)]
        assert len(numbers) >= 2, f"{name} has numbers that plot"
        assert "dagster/row_count" in metadata
        if metadata["dagster/row_count"].value:
            assert "preview" in metadata or metadata["rows_this_cycle"].value == 0, name
    drawn = {name for name, metadata in shown.items() if "picture" in metadata}
    assert drawn <= PICTURES
    assert "phase_transitions" in drawn
    for name in drawn:
        words, data = re.fullmatch(
            r"!\[(.+)\]\(data:image/svg\+xml;base64,(.+)\)", str(shown[name]["picture"].value)
        ).groups()  # type: ignore[union-attr]  # fullmatch or the test fails
        assert words
        svg = base64.b64decode(data).decode()
        assert svg.startswith("<svg")
        assert len(svg) < 40_000
    assert "last_days" in shown["daily_summary"]
    assert "cycle_seconds" in shown["daily_summary"]
    run = project.instance.get_run_by_id(ran.run_id)
    assert run is not None
    sent = project.rows("SELECT count(*) AS n FROM messages")[0]["n"]
    assert sent
    assert run.tags[STORY_TAG].startswith(f"{sent} sent")
    told = "\n".join(project.log(ran.run_id))
    assert f"done in {shown['daily_summary']['cycle_seconds'].value:.1f} s: {run.tags[STORY_TAG]}" in told


def test_a_cell_cannot_leave_its_table() -> None:
    assert markdown_table(("a",), [("x|y\n<b>",), (None,), (1.5,)]).splitlines() == [
        "| a |",
        "| --- |",
        "| x\\|y &lt;b> |",
        "| – |",
        "| 1.5 |",
    ]
