"""The traps: an alert lost while the receiver is down, one told twice, a webhook address in a log."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import dagster as dg
import pytest

from warmup_pipeline.orchestration.alerts import Cursor, post, warmup_alert_sensor
from warmup_pipeline.orchestration.resources import WarmupAccess
from warmup_pipeline.warmup.world import World
from warmup_pipeline_tests.orchestration.conftest import Project
from warmup_pipeline_tests.receiver import Receiver, receiving
from warmup_pipeline_tests.support import run_sql


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as found:
        yield found


class Watcher:
    """The sensor's ticks, each with the cursor that the one before left."""

    def __init__(self, project: Project, url: str | None) -> None:
        self._project = project
        self._settings = replace(
            project.settings, alert_webhook_url=url, ui_url="http://dagster.example:3000"
        )
        self.cursor: str | None = None
        self.said: list[str] = []

    def tick(self, *, minutes: float = 0) -> str:
        now = datetime.now(UTC) + timedelta(minutes=minutes)
        context = dg.build_sensor_context(
            instance=self._project.instance,
            cursor=self.cursor,
            resources={"warmup": WarmupAccess(lambda: self._settings, now=lambda: now)},
        )
        result = warmup_alert_sensor(context)
        assert isinstance(result, dg.SensorResult)
        self.cursor = result.cursor
        assert result.skip_reason is not None
        self.said.append(result.skip_reason.skip_message or "")
        return self.said[-1]


def broken(world: World) -> World:
    run_sql(world.store, "DROP TABLE trust_scores")
    return world


def test_bad_and_well_again_are_told_once_each_with_meaning_remedy_chips_and_run_though_the_receiver_was_down(
    project: Project, receiver: Receiver, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    watcher = Watcher(project, receiver.url)
    ran = project.cycle()
    receiver.status = 503
    assert "HTTP 503" in watcher.tick()
    assert "HTTP 503" in watcher.tick(minutes=1)
    assert receiver.taken == []
    receiver.status = 200
    assert watcher.tick(minutes=2).startswith("told")
    (text,) = receiver.texts
    assert "*CRITICAL* `conversa_par_success_rate`" in text
    assert "Means: How many conversation turns" in text
    assert "Do: " in text
    assert "Concerns: pool default" in text
    assert f"http://dagster.example:3000/runs/{ran.run_id}" in text
    assert watcher.tick(minutes=2.5) == "nothing changed"
    # The old system's failures leave the last 24 hours: the check is well again.
    store = project.store()
    run_sql(store, "UPDATE activities SET state = 'executed' WHERE source = 'import' AND state = 'failed'")
    store.close()
    project.cycle()
    assert watcher.tick(minutes=3) == "1 wait to be told with the next message"
    watcher.tick(minutes=7.5)
    assert len(receiver.texts) == 2
    assert "*WELL AGAIN* `conversa_par_success_rate`" in receiver.texts[1]
    assert "CRITICAL" not in receiver.texts[1]
    assert watcher.tick(minutes=7.6) == "nothing changed"
    everything = "\n".join([caplog.text, *watcher.said, watcher.cursor or ""])
    assert receiver.secret not in everything
    assert receiver.url not in everything


def test_a_failed_run_is_told_once_with_its_reason_and_link(project: Project, receiver: Receiver) -> None:
    watcher = Watcher(project, receiver.url)
    old = project.cycle(broken)
    watcher.tick()
    told_before = "\n".join(receiver.texts)
    assert "`database_can_be_used`" in told_before
    assert "a table is missing" in told_before
    assert "FAILED RUN" not in told_before, "what failed before anybody watched is in the UI"
    again = project.cycle()
    assert not again.succeeded
    watcher.tick(minutes=5.5)
    (text,) = [one for one in receiver.texts if "FAILED RUN" in one]
    assert "`warmup_cycle`" in text
    assert "no such table: trust_scores" in text
    assert f"/runs/{again.run_id}" in text
    assert old.run_id not in text
    project.instance.add_run_tags(again.run_id, {"looked/at": "yes"})
    watcher.tick(minutes=11)
    assert sum(one.count("FAILED RUN") for one in receiver.texts) == 1


def test_without_a_receiver_alerts_are_logged_and_not_told_again(
    project: Project, caplog: pytest.LogCaptureFixture
) -> None:
    watcher = Watcher(project, None)
    project.cycle()
    assert "logged only" in watcher.tick()
    assert watcher.tick(minutes=6) == "nothing changed"


def test_a_database_that_cannot_be_used_is_told(project: Project, receiver: Receiver) -> None:
    watcher = Watcher(project, receiver.url)
    store = project.store()
    run_sql(store, "UPDATE alembic_version SET version_num = '9999'")
    store.close()
    watcher.tick()
    assert "`database_can_be_used`" in receiver.texts[0]
    assert "newer than this program" in receiver.texts[0]


def test_an_error_that_nobody_foresaw_is_told_and_the_tick_keeps_its_cursor(
    project: Project, receiver: Receiver
) -> None:
    watcher = Watcher(project, receiver.url)
    store = project.store()
    run_sql(store, "ALTER TABLE chips RENAME COLUMN status TO other_status")
    store.close()
    watcher.tick()
    assert "health cannot be told (OperationalError)" in receiver.texts[0]
    assert watcher.tick(minutes=6) == "nothing changed"


def test_nobody_listening_is_a_reason_without_the_address(receiver: Receiver) -> None:
    url = receiver.url.replace("127.0.0.1", "127.0.0.2")
    refused = post(url, "text")
    assert refused == "it could not be reached (ConnectError)"


def test_a_cursor_of_another_time_is_a_new_beginning() -> None:
    assert Cursor.read("{}") == Cursor() == Cursor.read(None) == Cursor.read("[1]")
    assert Cursor.read(Cursor(runs_since=datetime(2026, 3, 2, tzinfo=UTC)).text()).runs_since is not None
