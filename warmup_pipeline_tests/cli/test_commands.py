"""Commands that only read and write the database, and how all commands refuse.

Guards against: a traceback where a line belongs, a wrong exit code, colours in a file, a full phone
number on a screen.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from warmup_pipeline.cli import main
from warmup_pipeline.store.engine import Store
from warmup_pipeline_tests.cli.conftest import REPOSITORY, Project, every_command
from warmup_pipeline_tests.support import rows_of

AUDIT = REPOSITORY / "warmup_pipeline" / "data" / "audit"
CHIPS, SCHEDULE, INTERACTIONS = (
    str(AUDIT / name) for name in ("chips.csv", "warmup_schedule.csv", "chip_interactions.csv")
)
FULL_NUMBER = re.compile(r"55\d{10,11}")


def load_audit(project: Project) -> None:
    assert project.run("import", "--chips", CHIPS).exit_code == 0


# --- every command


@pytest.mark.parametrize("words", every_command(main), ids=" ".join)
def test_every_command_explains_itself(project: Project, words: tuple[str, ...]) -> None:
    result = project.run(*words, "--help")
    assert result.exit_code == 0
    assert "Usage: warmup" in result.stdout
    assert len(result.stdout.split("Options:")[0].split()) > 6
    assert not (project.root / ".dagster").exists()


@pytest.mark.parametrize("words", every_command(main), ids=" ".join)
def test_every_command_refuses_an_unknown_option_in_one_line(
    project: Project, words: tuple[str, ...]
) -> None:
    line = project.refused(*words, "--no-such-option")
    assert "--no-such-option" in line or "Missing" in line
    assert "--help" in line


@pytest.mark.parametrize(
    ("args", "said"),
    [
        ((), "Missing command"),
        (("chips",), "Missing command"),
        (("dance",), "No such command 'dance'"),
        (("chips", "show"), "Missing argument 'ID'"),
        (("import",), "Missing option '--chips'"),
        (
            ("import", "--chips", CHIPS, "--rebase-to", "2026-02-20T08:00:00"),
            "has no time zone; add its offset",
        ),
        (("import", "--chips", CHIPS, "--rebase-to", "tomorrow"), "'tomorrow' is no timestamp"),
        (("demo", "--cycles", "0"), "0 is not in the range"),
        (("cycle", "--at", "noon"), "'noon' is no timestamp"),
        (("chips", "add", "x", "--phone", "1", "--provider", "twilio"), "'twilio' is not one of"),
        (("gateway-sim", "--port", "99999"), "99999 is not in the range"),
    ],
)
def test_wrong_usage_is_said_in_one_line(project: Project, args: tuple[str, ...], said: str) -> None:
    assert said in project.refused(*args)


@pytest.mark.parametrize(
    ("variable", "value", "said"),
    [
        ("WARMUP_DATABASE_URL", "mysql://x/y", "which is not supported; use sqlite"),
        ("WARMUP_DATABASE_URL", "nonsense", "is no database URL"),
        ("WARMUP_DATABASE_URL", "postgresql://u:hunter22@127.0.0.1:1/db", "correct WARMUP_DATABASE_URL"),
        (
            "WARMUP_POLICY",
            "nowhere.yaml",
            "is neither a preset (default, conservative) nor a file that exists",
        ),
        ("WARMUP_GATEWAY_MODE", "dreamt", "must be one of: live, simulated"),
        ("WARMUP_GATEWAY_MODE", "live", "live mode needs EVOLUTION_API_URL"),
        ("WARMUP_SECRETS_FILE", "absent.yaml", "names a file that does not exist"),
    ],
)
def test_a_bad_environment_is_said_in_one_line(
    project: Project, monkeypatch: pytest.MonkeyPatch, variable: str, value: str, said: str
) -> None:
    monkeypatch.setenv(variable, value)
    line = project.refused("chips", "list")
    assert said in line
    assert "hunter22" not in line


def test_the_real_program_exits_with_64_and_no_traceback(project: Project) -> None:
    for args in (["--nope"], ["chips", "show", "9999"], ["import", "--chips", "absent.csv"]):
        done = project.process(*args)
        assert done.returncode == 64, done.stderr
        assert done.stdout == ""
        assert len(done.stderr.splitlines()) == 1
        assert done.stderr.startswith("Error: ")


def test_an_error_of_our_own_shows_its_traceback_without_secrets(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EVOLUTION_API_KEY", "very-secret-key")
    # The program's data is broken, which no operator's input can do.
    code = (
        "from warmup_pipeline.cli import main; from warmup_pipeline.warmup import standing\n"
        "def broken(*_): raise ZeroDivisionError('very-secret-key of 5511987654321')\n"
        "standing.list_chips = broken\n"
        "main(['chips', 'list'], prog_name='warmup')"
    )
    done = project.python(code)
    assert done.returncode == 70
    assert "ZeroDivisionError: *** of …4321" in done.stderr
    assert "Traceback" in done.stderr


def test_a_command_works_from_a_folder_below_the_root(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    below = project.root / "some" / "where"
    below.mkdir(parents=True)
    (below / "mine.csv").write_bytes(Path(CHIPS).read_bytes())
    monkeypatch.chdir(below)
    assert project.run("import", "--chips", "mine.csv").exit_code == 0
    assert (project.root / ".dagster" / "warmup.db").exists()


def test_output_that_is_piped_has_no_colours(project: Project) -> None:
    load_audit(project)
    for args in (["chips", "list"], ["chips", "show", "0121"], ["policy", "show"]):
        assert "\x1b[" not in project.process(*args).stdout


# --- import


def test_import_says_what_it_did(project: Project) -> None:
    result = project.run("import", "--chips", CHIPS, "--schedule", SCHEDULE, "--interactions", INTERACTIONS)
    assert result.exit_code == 0
    assert re.search(r"chips +10 +0", result.stdout)
    assert re.search(r"expired: day_over +21", result.stdout)
    assert not FULL_NUMBER.search(result.output)
    again = project.run("import", "--chips", CHIPS, "--schedule", SCHEDULE, "--interactions", INTERACTIONS)
    assert "Nothing new" in again.stdout


def test_import_reports_as_json(project: Project) -> None:
    document = project.json(
        "import", "--chips", CHIPS, "--schedule", SCHEDULE, "--interactions", INTERACTIONS, "--dry-run"
    )
    assert document["dry_run"] is True
    assert document["chips_by_status"] == {"active": 2, "degraded": 1, "provisioned": 2, "warming": 5}
    assert document["stubs_cancelled"] == 3
    assert document["export_moment"] == "2026-02-20T11:00:00+00:00"
    assert project.json("chips", "list") == []


def test_a_bad_file_is_one_line_with_its_place(project: Project) -> None:
    text = Path(CHIPS).read_text(encoding="utf-8")
    bad = project.root / "bad.csv"
    bad.write_text(text.replace(",degraded,", ",connected,"), encoding="utf-8")
    line = project.refused("import", "--chips", "bad.csv")
    assert "nothing was imported: bad.csv line 8, column status: 'connected' is not one of" in line
    assert project.json("chips", "list") == []


def test_several_bad_rows_are_a_line_each(project: Project) -> None:
    text = Path(CHIPS).read_text(encoding="utf-8")
    (project.root / "bad.csv").write_text(text.replace(",warming,", ",warm,"), encoding="utf-8")
    result = project.run("import", "--chips", "bad.csv")
    lines = result.stderr.splitlines()
    assert result.exit_code == 64
    assert lines[0] == "Error: nothing was imported, 5 problems"
    assert [line.split(",")[0] for line in lines[1:]] == [f"Error: bad.csv line {n}" for n in range(2, 7)]


# --- chips


def test_the_list_shows_every_chip_by_its_last_digits(project: Project) -> None:
    load_audit(project)
    result = project.run("chips", "list")
    assert all(f"…{end}" in result.stdout for end in ("0121", "8618", "6402", "5523"))
    assert "active (listener)" in result.stdout
    assert not FULL_NUMBER.search(result.output)
    document = project.json("chips", "list", "--pool", "default")
    assert len(document) == 10
    assert {chip["last4"] for chip in document if chip["participating"]} == {
        "0121", "7734", "0945", "7216", "8850", "8618"
    }  # fmt: skip
    assert "no pool 'nowhere'" in project.refused("chips", "list", "--pool", "nowhere")


def test_an_empty_pool_says_how_to_fill_it(project: Project) -> None:
    assert "`warmup import`" in project.run("chips", "list").stdout


def test_show_says_where_a_chip_stands_and_what_it_needs(project: Project) -> None:
    load_audit(project)
    text = project.run("chips", "show", "8850").stdout
    for word in ("warming since", "phase", "trust", "connection", "To enter expansao"):
        assert word in text
    # Real time decides which: no gateway was ever asked, and the window may be closed.
    assert "sender_disconnected" in text or "outside_window" in text
    assert not FULL_NUMBER.search(text)
    document = project.json("chips", "show", "8850")
    assert document["next_phase"] == "expansao"
    assert {one["criterion"] for one in document["criteria"]} >= {
        "warming_day",
        "sent",
        "trust",
        "errors_24h",
    }
    assert document["day"]["limit"] == document["day"]["used"] + document["day"]["left"]


def test_a_chips_life_from_the_terminal(project: Project) -> None:
    added = project.json("chips", "add", "inst-1", "--phone", "+55 11 90000-4242", "--label", "first")
    assert [(one["last4"], one["before"], one["after"]) for one in added] == [("4242", None, "provisioned")]
    started = project.json("chips", "start", "4242", "--reason", "bought today")
    assert started[0]["after"] == "warming"
    assert project.json("chips", "show", "first")["phase"] == "repouso"
    assert "warming → paused" in project.run("chips", "pause", "inst-1").stdout
    assert "is paused" in project.refused("chips", "pause", "inst-1")
    assert project.json("chips", "resume", "first", "--author", "ana")[0]["after"] == "warming"
    shown = project.run("chips", "show", "first")
    assert not FULL_NUMBER.search(shown.output)


def test_a_chip_named_by_its_phone_is_never_shown_whole(project: Project) -> None:
    project.run("chips", "add", "5511900004242", "--phone", "5511900004242", "--label", "Ana 5511900004242")
    for words in (("list",), ("list", "--json"), ("show", "4242"), ("show", "4242", "--json")):
        shown = project.run("chips", *words).output
        assert "…4242" in shown
        assert not FULL_NUMBER.search(shown), words


def test_two_chips_are_started_together_or_not_at_all(project: Project) -> None:
    load_audit(project)
    assert "is warming" in project.refused("chips", "start", "5523", "0121")
    assert project.json("chips", "show", "5523")["status"] == "provisioned"
    assert [one["after"] for one in project.json("chips", "start", "5523", "7790")] == ["warming", "warming"]


def test_the_same_number_is_not_added_twice(project: Project) -> None:
    load_audit(project)
    line = project.refused("chips", "add", "new", "--phone", "5511900000121")
    assert "…0121 is the phone of chip" in line
    assert not FULL_NUMBER.search(line)


# --- policy


def test_policy_check_proves_the_presets_and_refuses_a_bad_number(project: Project) -> None:
    assert "warming day 28" in project.run("policy", "check").stdout
    assert project.run("policy", "check", "conservative").exit_code == 0
    text = (REPOSITORY / "warmup_pipeline" / "data" / "policies" / "default.yaml").read_text(encoding="utf-8")
    (project.root / "mine.yaml").write_text(
        text.replace("sends_per_day: 5", "sends_per_day: 6", 1), encoding="utf-8"
    )
    assert "exceeds the cap of 5" in project.refused("policy", "check", "mine.yaml")
    assert "neither a preset" in project.refused("policy", "check", "absent.yaml")
    (project.root / "twice.yaml").write_text("name: twice\nmax_errors_24h: 5\nmax_errors_24h: 500\n")
    assert "'max_errors_24h' is said twice" in project.refused("policy", "check", "twice.yaml")


def test_policy_show_tells_the_pace_that_is_in_force(project: Project) -> None:
    shown = project.run("policy", "show").stdout
    assert "Pace" in shown
    assert "any number" in shown
    text = (REPOSITORY / "warmup_pipeline/data/policies/default.yaml").read_text(encoding="utf-8")
    slow = yaml.safe_load(text) | {
        "pace": {"requests_per_second_per_server": 2.5, "connections_per_server": 7}
    }
    (project.root / "slow.yaml").write_text(yaml.safe_dump(slow))
    line = next(
        line for line in project.run("policy", "show", "slow.yaml").stdout.splitlines() if "2.5" in line
    )
    assert line.split() == ["7", "2.5", "any", "number", "10", "s"]


def test_a_chip_whose_pool_or_label_would_break_a_line_is_not_added(project: Project) -> None:
    asked = ("chips", "add", "odd", "--phone", "5511900000001")
    assert "pool must be one line, without" in project.refused(*asked, "--pool", "x\ny")
    assert "pool must be one line, without" in project.refused(*asked, "--pool", "x\x1b[31my")
    assert "label must be one line, without" in project.refused(*asked, "--label", "a\nb")


def test_policy_show_names_the_earliest_day_of_each_phase(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert project.json("policy", "show")["earliest_day"] == {
        "repouso": 0, "setup": 1, "primeiros_contatos": 3, "expansao": 7,
        "pre_operacao": 14, "teste_graduacao": 21, "operacao": 28,
    }  # fmt: skip
    monkeypatch.setenv("WARMUP_POLICY", "conservative")
    assert "Policy conservative@" in project.run("policy", "show").stdout
    document = json.loads(project.run("policy", "check", "--json").stdout)
    assert (document["valid"], document["name"]) == (True, "conservative")


@pytest.mark.parametrize("url", ["sqlite://", "sqlite:///", "sqlite:///:memory:", "sqlite://relative.db"])
def test_a_database_that_would_not_be_kept_is_refused(
    project: Project, monkeypatch: pytest.MonkeyPatch, url: str
) -> None:
    monkeypatch.setenv("WARMUP_DATABASE_URL", url)
    assert "names no file that would be kept" in project.refused("chips", "list")


@pytest.mark.parametrize("home", ["relative", "/nonexistent/folder"])
def test_a_dagster_home_that_is_no_folder_is_refused(
    project: Project, monkeypatch: pytest.MonkeyPatch, home: str
) -> None:
    monkeypatch.setenv("DAGSTER_HOME", home)
    assert "DAGSTER_HOME" in project.refused("health")


@pytest.mark.parametrize("moment", ["9999-12-31T23:59:59+00:00", "0001-01-01T00:00:00+14:00"])
def test_a_moment_out_of_reach_is_refused(project: Project, moment: str) -> None:
    assert "between the years" in project.refused("simulate", "--days", "1", "--chips", "2", "--from", moment)


_INTERRUPTED_WHILE_SOMETHING_IS_MADE = """
import click
from warmup_pipeline.cli.session import OneLineGroup

class HalfMade:
    def __init__(self):
        raise KeyboardInterrupt
    def __del__(self):
        raise AttributeError("not there yet")

@click.group(cls=OneLineGroup)
def group(): ...

@group.command()
def make():
    HalfMade()

group(["make"])
"""


def test_ctrl_c_is_told_in_one_word_whatever_was_half_made_just_then() -> None:
    done = subprocess.run(
        [sys.executable, "-c", _INTERRUPTED_WHILE_SOMETHING_IS_MADE],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr.strip()) == (130, "", "Interrupted.")


def test_a_ctrl_c_that_meets_a_callback_of_the_collector_ends_the_command_all_the_same() -> None:
    code = """
import os, signal
import click
from warmup_pipeline.cli.session import OneLineGroup

signal.signal(signal.SIGINT, signal.default_int_handler)

class Collected:
    def __del__(self):
        os.kill(os.getpid(), signal.SIGINT)
        for _ in range(1000):
            pass

@click.command()
def work():
    Collected()
    for number in range(10**9):
        pass
    print("went on")

OneLineGroup(commands={"work": work}).main(["work"], prog_name="warmup")
"""
    ran = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=60
    )
    assert (ran.returncode, ran.stderr.strip(), ran.stdout) == (130, "Interrupted.", "")


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("postgresql+psycopg2://bob:hidden@127.0.0.1:port/dagster", "port"),
        ("mysql://bob:hidden@127.0.0.1/dagster", "MySQLdb"),
        ("postgresql+psycopg2://bob:hidden@127.0.0.1:1/dagster?sslmode=bogus", "sslmode"),
    ],
)
def test_an_address_of_dagsters_history_that_cannot_be_used_is_told_in_one_line(
    project: Project, monkeypatch: pytest.MonkeyPatch, address: str, said: str
) -> None:
    monkeypatch.setenv("DAGSTER_HOME", str(REPOSITORY / "deploy" / "postgres"))
    monkeypatch.setenv("WARMUP_DAGSTER_DATABASE_URL", address)
    line = project.refused("health")
    assert said in line
    assert "hidden" not in line


def test_who_acts_and_why_are_kept_in_one_line_without_what_controls_a_terminal(project: Project) -> None:
    asked = ("chips", "add", "odd", "--phone", "5511900000001", "--label", "Zé 👨\u200d👩\u200d👧")
    assert project.run(*asked, "--author", "a\x1b[1mb", "--reason", "one\ntwo\x1b[31m").exit_code == 0
    (file,) = project.root.rglob("warmup.db")
    (action,) = rows_of(Store(f"sqlite:///{file}"), "SELECT author, reason FROM operator_actions")
    assert action == {"author": "a [1mb", "reason": "one two [31m"}
    assert "label must be one line" in project.refused(
        "chips", "add", "odder", "--phone", "5511900000002", "--label", "bad\udcff"
    )
