"""Alerts: when something is worth a message, and when the message goes out.

Holds: what is watched (:class:`Condition`, :class:`Failure`), what has been told of it
(:class:`AlertState`), and the rule between them: speak of changes only, merge what comes close
together, forget nothing until it is posted. Add here: another rule of when to speak. Do not add:
words of messages (``warmup.alerting``), posting and where the state is kept (``orchestration.alerts``).

Source: issue "Operated from the Dagster UI": a message when a check turns bad and when it is well
again, merged for at least five minutes, never lost, nothing twice.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any, Final

MERGE_FOR: Final = timedelta(minutes=5)
"""At most one message in this time; what happens meanwhile goes into the next one."""

FAILURES_KEPT: Final = 50
"""Failed runs that wait to be told of one by one; of more, their number is told."""

WELL: Final = "well"


@dataclass(frozen=True, slots=True)
class Condition:
    """How one watched thing stands.

    Attributes:
        key: the same from look to look: the check's name, or that of another thing watched.
        level: ``well``, or the severity of what is wrong (``warn``, ``error``).
        text: what it says, one line, redacted.
        concerned: pools and chips as they may be shown.
        run_id: the run that said it, ``None`` where no run did.
    """

    key: str
    level: str
    text: str = ""
    concerned: tuple[str, ...] = ()
    run_id: str | None = None


@dataclass(frozen=True, slots=True)
class Failure:
    """A run that failed.

    Attributes:
        run_id: the run.
        job: its job.
        text: why, one line, redacted.
    """

    run_id: str
    job: str
    text: str = ""


@dataclass(frozen=True, slots=True)
class Change:
    """A condition that is not any more what was told of it.

    Attributes:
        before: the level that was last told; ``well`` for what was never told of.
        now: how it stands.
    """

    before: str
    now: Condition


@dataclass(frozen=True, slots=True)
class AlertState:
    """What has been told, and what waits to be.

    Attributes:
        told: level by key, of everything that was told to be bad. What is not there was well.
        waiting: the changes not yet told, newest last; one may go bad and be well again in here.
        failures: the failed runs not yet told of, oldest first.
        left_out: how many more failed than are kept.
        posted_at: when the last message was posted; ``None`` before the first.
    """

    told: Mapping[str, str] = field(default_factory=dict)
    waiting: tuple[Change, ...] = ()
    failures: tuple[Failure, ...] = ()
    left_out: int = 0
    posted_at: datetime | None = None

    @property
    def is_quiet(self) -> bool:
        """Whether there is nothing to tell."""
        return not self.waiting and not self.failures

    def level_of(self, key: str) -> str:
        """Return how a thing stands as far as this state knows, told or waiting to be."""
        for change in reversed(self.waiting):
            if change.now.key == key:
                return change.now.level
        return self.told.get(key, WELL)


def notice(state: AlertState, conditions: Iterable[Condition], failures: Iterable[Failure]) -> AlertState:
    """Return the state after a look at everything watched.

    A level that differs from the last one known is a change; the same one again is nothing. While
    a message is held back (merging, or a receiver that is down), a thing that goes back and forth is kept
    as the change that brought it furthest from what was told, and the one that leads back.
    """
    waiting = list(state.waiting)
    for now in conditions:
        known = replace(state, waiting=tuple(waiting)).level_of(now.key)
        if now.level != known:
            waiting.append(Change(known, now))
            waiting = _shortened(waiting, now.key)
    kept = [*state.failures, *failures]
    over = max(0, len(kept) - FAILURES_KEPT)
    return replace(state, waiting=tuple(waiting), failures=tuple(kept[over:]), left_out=state.left_out + over)


def _shortened(waiting: list[Change], key: str) -> list[Change]:
    """Keep at most two changes of a key, so that an outage of any length keeps a state of this size."""
    mine = [change for change in waiting if change.now.key == key]
    if len(mine) <= 2:
        return waiting
    first, last = mine[0], mine[-1]
    if last.now.level == first.before:
        kept = [first, Change(first.now.level, last.now)]
    else:
        kept = [Change(first.before, last.now)]
    return [change for change in waiting if change.now.key != key] + kept


def is_due(state: AlertState, now: datetime) -> bool:
    """Whether a message goes out now: there is something to tell, and the last message is five minutes old.

    The five minutes begin when a message *was posted*: while the receiver is down, every look tries again.
    """
    if state.is_quiet:
        return False
    return state.posted_at is None or now - state.posted_at >= MERGE_FOR


def posted(state: AlertState, now: datetime) -> AlertState:
    """Return the state after everything that waited was told at ``now``."""
    told = dict(state.told)
    for change in state.waiting:
        if change.now.level == WELL:
            told.pop(change.now.key, None)
        else:
            told[change.now.key] = change.now.level
    return AlertState(told=told, posted_at=now)


# -- keeping it --------------------------------------------------------------------------------------


def to_document(state: AlertState) -> dict[str, Any]:
    """Return the state as JSON-ready data."""
    return {
        "told": dict(state.told),
        "waiting": [
            {
                "before": change.before,
                "key": change.now.key,
                "level": change.now.level,
                "text": change.now.text,
                "concerned": list(change.now.concerned),
                "run": change.now.run_id,
            }
            for change in state.waiting
        ],
        "failures": [{"run": one.run_id, "job": one.job, "text": one.text} for one in state.failures],
        "left_out": state.left_out,
        "posted_at": None if state.posted_at is None else state.posted_at.isoformat(),
    }


def from_document(document: Mapping[str, Any]) -> AlertState:
    """Return the state that :func:`to_document` kept.

    Raises:
        KeyError, TypeError, ValueError: it is no such document.
    """
    at = document["posted_at"]
    return AlertState(
        told={str(key): str(level) for key, level in document["told"].items()},
        waiting=tuple(
            Change(
                one["before"],
                Condition(one["key"], one["level"], one["text"], tuple(one["concerned"]), one["run"]),
            )
            for one in document["waiting"]
        ),
        failures=tuple(Failure(one["run"], one["job"], one["text"]) for one in document["failures"]),
        left_out=int(document["left_out"]),
        posted_at=None if at is None else datetime.fromisoformat(at),
    )
