"""What an alert is made of: the things watched, from the health document, and the words of a message.

Holds: :func:`conditions_of` and :func:`message`. Add here: another thing said in a message. Do not
add: when a message goes out (``domain.alerts``), posting it (``orchestration.alerts``).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from warmup_pipeline.domain.alerts import WELL, AlertState, Change, Condition, Failure
from warmup_pipeline.domain.vitals import REMEDIES
from warmup_pipeline.warmup.checks import CHECKS

NAMED: Final = 10
"""Chips and pools a message names; the check's metadata has them all."""

_TOLD: Final = 25
"""Changes and runs told one by one in a message."""

_CHECKS: Final = {spec.name: spec for spec in CHECKS}
_MARKS: Final = {WELL: ":white_check_mark:", "warn": ":warning:", "error": ":rotating_light:"}
_WORDS: Final = {WELL: "WELL AGAIN", "warn": "WARNING", "error": "CRITICAL"}


def conditions_of(document: Mapping[str, Any]) -> list[Condition]:
    """Return how everything watched stands, from a health document.

    A check without a verdict of the last ten minutes says nothing: what was told of it stands, and
    the signs of life speak in its place.
    """
    found = [
        Condition(
            key=check["check"],
            level=WELL if check["passed"] else check["severity"].lower(),
            text=check["description"],
            concerned=tuple(str(one) for one in check["metadata"].get("concerned", ())),
            run_id=check["run_id"],
        )
        for check in document["checks"]
        if not check["stale"]
    ]
    found += [
        Condition(
            key=sign["name"],
            level=WELL if sign["passed"] else sign["severity"].lower(),
            text=sign["description"],
            concerned=tuple(f"pool {name}" for name in sign["concerned"]),
            run_id=sign["run_id"],
        )
        for sign in document["vitals"]
    ]
    return found


def message(state: AlertState, *, ui_url: str, mode: str) -> str:
    """Return the message that tells everything a state holds back, in Slack's markup.

    Args:
        state: what waits to be told; not quiet.
        ui_url: base address of Dagster's UI, for the links.
        mode: ``live`` or ``simulated``, said in the first line.
    """
    bad = sum(change.now.level != WELL for change in state.waiting)
    well = len(state.waiting) - bad
    failed = len(state.failures) + state.left_out
    counts = [
        f"{number} {words}"
        for number, words in ((bad, "bad"), (well, "well again"), (failed, "failed runs"))
        if number
    ]
    # What is worst is read first.
    order = {"error": 0, "warn": 1, WELL: 2}
    changes = sorted(state.waiting, key=lambda change: order[change.now.level])
    parts = [f"*warmup* ({mode} gateways): {', '.join(counts)}"]
    parts += [_change(change, ui_url) for change in changes]
    parts += [_failure(one, ui_url) for one in state.failures[:_TOLD]]
    more = max(0, len(state.failures) - _TOLD) + state.left_out
    if more:
        parts.append(f"... and {more} more failed runs: {ui_url}/runs")
    return "\n\n".join(parts)


def _change(change: Change, ui_url: str) -> str:
    now = change.now
    spec = _CHECKS.get(now.key)
    lines = [f"{_MARKS[now.level]} *{_WORDS[now.level]}* `{now.key}`: {_plain(now.text)}"]
    if now.level != WELL:
        if now.concerned:
            more = len(now.concerned) - NAMED
            named = ", ".join(now.concerned[:NAMED]) + (f" and {more} more" if more > 0 else "")
            lines.append(f"Concerns: {_plain(named)}")
        if spec is not None:
            lines.append(f"Means: {_plain(spec.description)}")
        lines.append(f"Do: {_plain(spec.remedy if spec is not None else REMEDIES[now.key])}")
    if now.run_id is not None:
        lines.append(f"Run: {ui_url}/runs/{now.run_id}")
    elif spec is not None:
        lines.append(f"Check: {ui_url}/assets/{spec.asset}?view=checks")
    return "\n".join(lines)


def _failure(one: Failure, ui_url: str) -> str:
    return f"{_MARKS['error']} *FAILED RUN* `{one.job}`: {_plain(one.text)}\nRun: {ui_url}/runs/{one.run_id}"


def _plain(text: str) -> str:
    """Return a text without Slack's control characters: nothing in it becomes a mention or a link."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
