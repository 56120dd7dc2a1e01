"""``warmup health``: is the pool well, and if not, why not.

Holds: the command, and how a health document reads (the demo prints one, too). Do not add: judging
(``warmup.checks``), the document itself (``warmup.health_report``).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import click

from warmup_pipeline.cli import output
from warmup_pipeline.cli.session import InputError, Session
from warmup_pipeline.domain.privacy import Redactor


@click.command("health")
@click.option("--json", "as_json", is_flag=True, help="Report as JSON.")
@click.pass_context
def health(context: click.Context, as_json: bool) -> None:
    """Tell the pool's health from the latest results of the asset checks.

    Exits with 0 if healthy, 1 if degraded (something warns), 2 if critical (something fails, the last
    cycle failed, or a check is older than ten minutes: silence is never healthy). The sensor that is off,
    a cycle that is late and a database that cannot be used are said as well.
    """
    from warmup_pipeline.assembly import utc_now
    from warmup_pipeline.cli.runs import open_runner
    from warmup_pipeline.store.trouble import StoreError
    from warmup_pipeline.warmup.health_report import EXIT_CODES, health_report, health_without_database

    session = context.find_object(Session)
    if session is None:
        raise InputError("no session was begun")
    with open_runner() as runner:
        results = runner.latest_results()
        try:
            with session.world(gateways=False) as world:
                document = health_report(world, results, runner.scheduler_state())
        except StoreError as error:
            settings = session.settings()
            why = Redactor(settings.secrets()).text(str(error))
            document = health_without_database(why, results, now=utc_now(), mode=settings.mode)
    if as_json:
        output.emit_json(document)
    else:
        print_health(document)
    context.exit(EXIT_CODES[document["status"]])


def print_health(document: Mapping[str, Any]) -> None:
    """Print a health document: the status, every check, the pool, today's activities."""
    title = click.style("Health", bold=True)
    click.echo(f"{title}: {output.coloured(document['status'])}  ({document['mode']} gateways)")
    output.table(
        ("check", "verdict", "what it says"),
        [(check["check"], _verdict(check), check["description"]) for check in document["checks"]],
    )
    for switch in document["switched_off"]:
        whose = {"all": "everything", "pool": f"pool {switch['target']}"}.get(
            switch["scope"], f"chip {switch['target']}"
        )
        why = f" ({switch['reason']})" if switch["reason"] else ""
        until = f", until {switch['expires_at']}" if switch["expires_at"] else ""
        click.secho(
            f"  Sending is switched off for {whose}{until}, by {switch['author']} at {switch['set_at']}{why}: "
            "nothing goes there until `set_kill_switch` is launched with `lift: true`.",
            fg="yellow",
        )
    missing = [sign for sign in document["vitals"] if not sign["passed"]]
    if missing:
        output.heading("Do cycles go on?")
        output.table(
            ("sign of life", "verdict", "what it says"),
            [
                (
                    sign["name"],
                    output.coloured("warn" if sign["severity"] == "WARN" else "fail"),
                    sign["description"],
                )
                for sign in missing
            ],
        )
    remedies = [
        (one.get("check") or one["name"], one["what_to_do"])
        for one in (*missing, *document["checks"])
        if not one["passed"] and one.get("evaluated_at", "known") is not None
    ]
    if remedies:
        output.heading("What to do")
        for name, remedy in remedies:
            click.echo(f"  {name}: {remedy}")
    pool = document["pool"]
    taking_part = f"{pool['participating']} take part, {pool['connected']} of these are connected"
    click.echo(f"  {pool['total']} chips, {taking_part}")
    if document["activities_today"]:
        output.heading("Activities today")
        columns = ("planned", "executed", "failed", "deferred", "blocked", "expired", "unknown")
        output.table(
            ("type", *columns, "success"),
            [
                (name, *(counts[column] for column in columns), output.percent(counts["success_rate"]))
                for name, counts in document["activities_today"].items()
            ],
        )


def _verdict(check: Mapping[str, Any]) -> str:
    if check["stale"]:
        return output.coloured("fail") + (" (too old)" if check["evaluated_at"] else "")
    if check["passed"]:
        return output.coloured("pass")
    return output.coloured("warn" if check["severity"] == "WARN" else "fail")
