"""``warmup doctor``: looks a set-up over and says what to fix.

Holds: the command, and looking at what must be right before anything can be opened: the environment,
the policy, the dialogues, the database, Dagster's own history. Do not add: looking at the pool and the gateways
(``warmup.doctor``), changing anything.
"""

from __future__ import annotations

import os
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import click

from warmup_pipeline.cli import output
from warmup_pipeline.cli.session import InputError, Session

if TYPE_CHECKING:
    from warmup_pipeline.settings import Settings
    from warmup_pipeline.warmup.doctor import Finding


@click.command("doctor")
@click.option("--json", "as_json", is_flag=True, help="Report as JSON.")
@click.pass_context
def doctor(context: click.Context, as_json: bool) -> None:
    """Look the set-up over, down to each chip's session, number and webhook, and say what to fix.

    Nothing is changed, here or at the gateways. Exits with 0 if all is well, 1 if something warns, 2 if
    something must be fixed before a cycle can work.
    """
    from warmup_pipeline.warmup.doctor import EXIT_CODES, FAILS, worst_of

    session = context.find_object(Session)
    if session is None:
        raise InputError("no session was begun")
    findings = _look(session)
    worst = worst_of(findings)
    if as_json:
        output.emit_json({"verdict": worst, "findings": [finding.document() for finding in findings]})
    else:
        for one in findings:
            subject = f" {one.subject}" if one.subject else ""
            mark = output.coloured("pass" if one.verdict == "ok" else one.verdict)
            click.echo(f"{mark}  {one.part}{subject}: {one.says}")
            if one.remedy:
                click.echo(f"      → {one.remedy}")
        wrong = sum(one.verdict == FAILS for one in findings)
        click.echo(f"{len(findings)} things looked at, {wrong} to fix.")
    context.exit(EXIT_CODES[worst])


def _look(session: Session) -> list[Finding]:
    """Look from the outside in, and as far as one thing allows to look at the next."""
    from warmup_pipeline.settings import SettingsError
    from warmup_pipeline.warmup.doctor import FAILS, WARNS, WELL, Finding

    try:
        settings = session.settings()
    except SettingsError as error:
        return [Finding("environment", "", FAILS, str(error), "correct the variable it names, or .env")]
    findings = [
        Finding(
            "environment",
            "",
            WARNS,
            "the gateways are simulated: no real number is asked or written to",
            "WARMUP_GATEWAY_MODE=live, once everything else here is well",
        )
        if settings.is_simulated
        else Finding("environment", "", WELL, "live gateways")
    ]
    findings += [_policy(settings), _dialogues(settings), _database(settings)]
    cannot_be_opened = any(finding.verdict == FAILS for finding in findings)
    findings.append(_history(settings))
    if cannot_be_opened:
        return findings
    return findings + _pool_and_gateways(settings)


def _policy(settings: Settings) -> Finding:
    from warmup_pipeline.warmup.doctor import FAILS, WELL, Finding
    from warmup_pipeline.warmup.policies import PolicyError, load_policy

    try:
        policy = load_policy(settings.policy)
    except PolicyError as error:
        return Finding("policy", "", FAILS, str(error), "correct the file, or WARMUP_POLICY")
    return Finding("policy", "", WELL, f"{policy.name}: every phase can be reached")


def _dialogues(settings: Settings) -> Finding:
    from warmup_pipeline.warmup.doctor import FAILS, WELL, Finding
    from warmup_pipeline.warmup.library import LibraryError, load_library

    try:
        library = load_library(settings.dialogues, settings.media)
    except LibraryError as error:
        return Finding(
            "dialogues", "", FAILS, str(error), "correct what WARMUP_DIALOGUES and WARMUP_MEDIA name"
        )
    return Finding(
        "dialogues", "", WELL, f"{len(library.dialogues)} dialogues, {len(library.media)} media files"
    )


def _database(settings: Settings) -> Finding:
    from warmup_pipeline.store import migrate
    from warmup_pipeline.store.engine import Store, StoreUrlError
    from warmup_pipeline.warmup.doctor import FAILS, WELL, Finding

    try:
        store = Store(settings.database_url)
    except StoreUrlError as error:
        return Finding("database", "", FAILS, str(error), "correct WARMUP_DATABASE_URL")
    file = store.url.database if store.is_sqlite else None
    if file is not None and not Path(file).exists():
        # Connecting would make it.
        return Finding(
            "database",
            file,
            FAILS,
            "there is no database yet",
            "`warmup import` or `warmup chips add` makes it",
        )
    try:
        migrate.check(store)
    except migrate.StoreNewerError as error:
        return Finding("database", store.shown_url, FAILS, str(error), "upgrade warmup_pipeline")
    except migrate.StoreVersionError as error:
        return Finding(
            "database", store.shown_url, FAILS, str(error), "`warmup chips list` creates or migrates it"
        )
    except migrate.StoreError as error:
        return Finding(
            "database", store.shown_url, FAILS, str(error), "see that it can be reached: WARMUP_DATABASE_URL"
        )
    finally:
        store.close()
    return Finding("database", store.shown_url, WELL, f"schema {migrate.newest()}")


def _history(settings: Settings) -> Finding:
    from warmup_pipeline.cli.runs import open_runner
    from warmup_pipeline.orchestration.opening import HistoryError
    from warmup_pipeline.warmup.doctor import FAILS, WELL, Finding

    is_embedded = Path(os.environ["DAGSTER_HOME"]).expanduser().resolve() == settings.root
    if is_embedded and not (settings.home / "history").exists():
        # Opening would make it.
        return Finding("history", "", WELL, "Dagster's own is made by the first run")
    try:
        with open_runner():
            return Finding("history", "", WELL, "Dagster's own can be opened")
    except HistoryError as error:
        return Finding("history", "", FAILS, str(error), "correct what it names, or DAGSTER_HOME")


def _pool_and_gateways(settings: Settings) -> list[Finding]:
    from warmup_pipeline import assembly
    from warmup_pipeline.settings import SettingsError
    from warmup_pipeline.warmup.doctor import FAILS, Finding, look_at_gateways, look_at_pool
    from warmup_pipeline.warmup.world import StandardLog

    with ExitStack() as stack:
        try:
            world = stack.enter_context(assembly.open_world(settings, log=StandardLog()))
        except SettingsError as error:
            return [Finding("environment", "", FAILS, str(error), "correct what it names")]
        findings, every_chip = look_at_pool(world)
        with click.progressbar(
            length=len(every_chip), label="Asking gateways", file=sys.stderr, show_pos=True
        ) as bar:
            return findings + look_at_gateways(
                world,
                every_chip,
                webhook_secret=settings.webhook_secret,
                progress=lambda: bar.update(1),
            )
