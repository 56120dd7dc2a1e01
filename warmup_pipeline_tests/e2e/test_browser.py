"""The operator's paths, walked in a real browser against a real ``dagster dev``.

Guards against: a page that looks right in the API and shows nothing, a Launchpad that cannot be launched.
Runs where Chromium and its driver are installed. ``WARMUP_PICTURES=docs/pictures`` keeps what is seen: README
shows those pictures.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import dagster as dg
import httpx
import pytest

from warmup_pipeline.assembly import open_world
from warmup_pipeline.build import build_defs
from warmup_pipeline.orchestration import launching
from warmup_pipeline.orchestration.names import CYCLE_JOB, RESOURCE
from warmup_pipeline.orchestration.resources import ChangeWorld, WarmupAccess, warmup_resource
from warmup_pipeline.settings import Settings
from warmup_pipeline.store.engine import Store
from warmup_pipeline.warmup.activities.registry import ActivityRegistry
from warmup_pipeline.warmup.importing import import_pool
from warmup_pipeline.warmup.world import StandardLog, World
from warmup_pipeline_tests.receiver import Receiver, receiving
from warmup_pipeline_tests.support import rows_of, run_sql
from warmup_pipeline_tests.warmup.offline import AUDITED_AT

ROOT = Path(__file__).resolve().parents[2]
AUDIT = ROOT / "warmup_pipeline" / "data" / "audit"
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
DRIVER = shutil.which("chromedriver")
FLAGS = [
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--window-size=1500,1000",
]
PATIENCE_S = 180.0
LOCATION = "warmup_pipeline.definitions"

pytestmark = pytest.mark.skipif(
    CHROMIUM is None or DRIVER is None, reason="not run: no chromium and chromedriver on this machine"
)


class BrokenRegistry(ActivityRegistry):
    """A registry with a bug, so that a run fails in our own code."""

    def types(self) -> dict[str, tuple[bool, bool]]:
        raise RuntimeError("a bug of our own")


def with_broken_registry(world: World) -> World:
    return replace(world, activities=BrokenRegistry({}, {}))


def until(holds: Callable[[], Any], what: str) -> Any:
    """Ask again until something holds; return it."""
    ends = time.monotonic() + PATIENCE_S
    while True:
        found = holds()
        if found:
            return found
        assert time.monotonic() < ends, f"it did not come to pass: {what}"
        time.sleep(0.25)


@dataclass
class Place:
    """A project of the test's own."""

    root: Path
    settings: Settings
    instance: dg.DagsterInstance

    def cycle(self, change_world: ChangeWorld | None = None) -> launching.RanCycle:
        make = lambda: WarmupAccess(lambda: self.settings, change_world=change_world)  # noqa: E731
        job = build_defs(resource_overrides={RESOURCE: warmup_resource(make)}).resolve_job_def(CYCLE_JOB)
        return launching.run_cycle(self.instance, "default", settings=self.settings, job=job)

    def sql(self, text: str) -> None:
        store = Store(self.settings.database_url)
        run_sql(store, text)
        store.close()

    def rows(self, text: str) -> list[dict[str, Any]]:
        store = Store(self.settings.database_url)
        try:
            return rows_of(store, text)
        finally:
            store.close()


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    for name in ("dagster.yaml", "workspace.yaml"):
        shutil.copy(ROOT / name, tmp_path)
    for name in list(os.environ):
        if name.startswith(("WARMUP_", "EVOLUTION_", "ZAPI_", "DAGSTER_")) and name != "WARMUP_PICTURES":
            monkeypatch.delenv(name)
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path))
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.chdir(tmp_path)
    settings = Settings.from_environment(tmp_path)
    with open_world(settings, log=StandardLog()) as world:
        import_pool(
            world,
            AUDIT / "chips.csv",
            AUDIT / "warmup_schedule.csv",
            AUDIT / "chip_interactions.csv",
            stepped_from=AUDITED_AT,
        )
    with dg.DagsterInstance.get() as instance:
        yield Place(tmp_path, settings, instance)


@contextmanager
def dagster_dev(place: Place, **variables: str) -> Iterator[str]:
    """Run ``dagster dev`` on a free port of loopback until the test is done with it."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    log = (place.root / "dev.log").open("w")
    process = subprocess.Popen(
        [sys.executable, "-m", "dagster", "dev", "-h", "127.0.0.1", "-p", str(port)],
        cwd=place.root,
        env={**os.environ, **variables},
        stdout=log,
        stderr=subprocess.STDOUT,
        start_new_session=True,
        # From a shell that is not interactive it would ignore SIGINT.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    url = f"http://127.0.0.1:{port}"

    def answers() -> bool:
        assert process.poll() is None, (place.root / "dev.log").read_text()[-3000:]
        try:
            return httpx.get(f"{url}/server_info", trust_env=False, timeout=5).status_code == 200
        except httpx.HTTPError:
            return False

    try:
        until(answers, "dagster dev answers")
        yield url
    finally:
        process.send_signal(signal.SIGINT)
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait(30)
        log.close()


class Browser:
    """Chromium, as an operator uses it."""

    def __init__(self, url: str, pictures: Path) -> None:
        from selenium import webdriver

        options = webdriver.ChromeOptions()
        options.binary_location = CHROMIUM or ""
        for flag in FLAGS:
            options.add_argument(flag)
        self.url, self.pictures = url, pictures
        self.driver = webdriver.Chrome(
            options=options, service=webdriver.ChromeService(executable_path=DRIVER or "")
        )

    def open(self, path: str) -> None:
        self.driver.get(self.url + path)

    def text(self) -> str:
        return str(self.driver.execute_script("return document.body ? document.body.innerText : ''"))

    def see(self, *words: str) -> str:
        """Wait until all words are on the page."""
        return str(
            until(
                lambda: all(word in (found := self.text()) for word in words) and found,
                f"{words} on the page, which says: {self.text()[-1500:]}",
            )
        )

    def element(self, xpath: str) -> Any:
        """Wait for an element that can be seen and used."""
        from selenium.common.exceptions import WebDriverException
        from selenium.webdriver.common.by import By

        def found() -> Any:
            for one in self.driver.find_elements(By.XPATH, xpath):
                # Where the page changed meanwhile, it is looked for again.
                with suppress(WebDriverException):
                    if one.is_displayed() and one.is_enabled():
                        return one
            return None

        return until(found, f"{xpath} can be used")

    def click(self, xpath: str) -> None:
        self.driver.execute_script("arguments[0].click()", self.element(xpath))

    def shorten_paths(self) -> None:
        """Show paths as they are in any clone: a picture is no place for where this machine keeps things."""
        self.driver.execute_script(
            """
            const walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
            while (walk.nextNode()) for (const path of arguments)
                walk.currentNode.nodeValue = walk.currentNode.nodeValue.split(path + '/').join('');
            """,
            str(ROOT),
            sys.base_prefix,
        )

    def keep(self, name: str) -> None:
        """Keep what is seen as a picture."""
        self.pictures.mkdir(parents=True, exist_ok=True)
        assert self.driver.save_screenshot(str(self.pictures / f"{name}.png"))


@contextmanager
def browsing(url: str, pictures: Path) -> Iterator[Browser]:
    browser = Browser(url, pictures)
    try:
        yield browser
    except BaseException:
        browser.keep("failed")
        raise
    finally:
        browser.driver.quit()


def test_an_operators_paths(place: Place, tmp_path: Path) -> None:
    kept = os.environ.get("WARMUP_PICTURES")
    pictures = ROOT / kept if kept else tmp_path / "pictures"
    place.sql("UPDATE activities SET state = 'executed' WHERE source = 'import' AND state = 'failed'")
    place.cycle()
    place.sql("UPDATE activities SET due_at = '2026-02-20 11:05:00.000000' WHERE state = 'planned'")
    failed = place.cycle(with_broken_registry)
    assert not failed.succeeded
    plan_a_stub_by_hand(place)
    for _ in range(3):
        assert place.cycle().succeeded
    with ExitStack() as stack:
        receiver = stack.enter_context(receiving())
        url = stack.enter_context(dagster_dev(place, WARMUP_ALERT_WEBHOOK_URL=receiver.url))
        browser = stack.enter_context(browsing(url, pictures))
        see_the_asset_graph(browser)
        see_the_checks(browser)
        read_a_failed_runs_traceback(browser, failed.run_id)
        pause_a_chip_from_the_launchpad(browser, place)
        see_it_take_effect(browser, place)
        backfill_three_days(browser, place)
        hear_of_what_is_bad(receiver)


def plan_a_stub_by_hand(place: Place) -> None:
    place.sql(
        "INSERT INTO activities (id, pool, chip_id, type, day, planned_at, due_at, state, deferrals, source) "
        "SELECT 'by-hand', 'default', id, 'ENTRAR_GRUPO', '2026-02-20', '2026-02-20 11:00:00.000000', "
        "'2026-02-20 20:00:00.000000', 'planned', 0, 'warmup' FROM chips WHERE last4 = '8850'"
    )


def hear_of_what_is_bad(receiver: Receiver) -> None:
    """The daemon's own alert sensor has posted it meanwhile."""
    text = until(lambda: "\n".join(receiver.texts), "an alert arrives")
    assert "*CRITICAL* `only_executable_activities_planned`" in text
    assert "Do: " in text
    assert receiver.secret not in text


def see_the_asset_graph(browser: Browser) -> None:
    # Wide enough for the names to be read.
    browser.driver.set_window_size(2500, 900)
    browser.open("/asset-groups")
    browser.see("chip_connections", "pairings", "messages", "trust_scores", "daily_summary")
    browser.element("//*[@aria-label='run_success']")
    browser.keep("lineage")
    browser.driver.set_window_size(1500, 1000)


def see_the_checks(browser: Browser) -> None:
    browser.open("/assets/messages?view=checks&checkDetail=conversa_par_success_rate")
    browser.see("conversa_par_success_rate", "phase_limits_respected", "no_duplicate_sends")
    browser.see("What to do:")
    browser.keep("checks")


def read_a_failed_runs_traceback(browser: Browser, run_id: str) -> None:
    browser.open(f"/runs/{run_id}")
    browser.see("refresh_connections")
    browser.click("(//*[contains(text(), 'View full message')])[last()]")
    browser.see("RuntimeError: a bug of our own", "lifecycle.begin_cycle(", "in types")
    cause = browser.element("(//*[contains(text(), 'RuntimeError: a bug of our own')])[last()]")
    browser.driver.execute_script("arguments[0].scrollIntoView()", cause)
    browser.shorten_paths()
    browser.keep("failed-run")


def pause_a_chip_from_the_launchpad(browser: Browser, place: Place) -> None:
    browser.open(f"/locations/{LOCATION}/jobs/pause_chips/playground")
    browser.see("pause_chips", "Launch Run")
    until(
        lambda: browser.driver.execute_script(
            "const e = document.querySelector('.CodeMirror'); return e && e.CodeMirror.getValue().includes('chips')"
        ),
        "the Launchpad opens with the job's fields filled in",
    )
    config = json.dumps(
        {"ops": {"pause_chips_op": {"config": {"chips": ["0121"], "reason": "on holiday", "author": "ana"}}}},
        indent=2,
    )
    browser.driver.execute_script(
        "document.querySelector('.CodeMirror').CodeMirror.setValue(arguments[0])", config
    )
    browser.keep("launchpad")
    browser.click("//button[contains(., 'Launch Run') and not(@disabled)]")
    until(
        lambda: place.rows("SELECT id FROM chips WHERE last4 = '0121' AND status = 'paused'"),
        "the chip is paused",
    )
    actions = place.rows(
        "SELECT author, reason FROM operator_actions WHERE action = 'pause_chips' ORDER BY id DESC"
    )
    assert actions[0] == {"author": "ana", "reason": "on holiday"}


def cycled_since_the_pause(place: Place) -> bool:
    return bool(
        place.rows(
            "SELECT id FROM cycles WHERE state = 'finished' "
            "AND tick >= (SELECT status_since FROM chips WHERE last4 = '0121')"
        )
    )


def see_it_take_effect(browser: Browser, place: Place) -> None:
    # The sensor's cycle or, where none is under way, one of our own.
    until(lambda: cycled_since_the_pause(place) or place.cycle().succeeded, "a cycle after the pause")
    assert (
        place.rows(
            "SELECT decision FROM presend_validations v JOIN chips c ON c.id = v.sender_chip_id "
            "WHERE c.last4 = '0121' AND v.at >= c.status_since AND v.decision = 'approve'"
        )
        == []
    )
    browser.open("/assets/phase_transitions?view=events")
    browser.see("picture", "[Show Markdown]")
    browser.click("(//*[text()='[Show Markdown]'])[last()]")
    picture = browser.element("//img[@alt='Chips by phase']")
    until(
        lambda: browser.driver.execute_script("return arguments[0].naturalWidth", picture),
        "the picture shows",
    )
    browser.keep("phase-ladder")


def backfill_three_days(browser: Browser, place: Place) -> None:
    browser.open("/assets/daily_summary")
    browser.see("daily_summary", "Materialize")
    browser.click("//button[contains(., 'Materialize') and not(@disabled)]")
    # Only the last 90 days are offered until one asks for more.
    browser.click("//*[text()='Show all partitions']")
    field = browser.element("//div[contains(@class, 'dialog')]//input[@type='text']")
    from selenium.webdriver.common.keys import Keys

    field.send_keys(Keys.CONTROL, "a")
    field.send_keys("[2026-02-17...2026-02-19]", Keys.ENTER)
    launch = "//button[contains(., 'Launch') and contains(., 'backfill') and not(@disabled)]"
    browser.element(launch)
    browser.keep("backfill")
    browser.click(launch)
    until(
        lambda: (
            len(place.rows("SELECT day FROM daily_summary WHERE scope = 'all' AND day < '2026-02-20'")) == 3
        ),
        "three days are summarised",
    )
    assert place.rows("SELECT DISTINCT final FROM daily_summary WHERE day < '2026-02-20'") == [{"final": 1}]
