"""The sensor that tells people: when a check turns bad, when it is well again, and when a run fails.

Holds: ``warmup_alert_sensor`` and the post to ``WARMUP_ALERT_WEBHOOK_URL``. When it speaks is
``domain.alerts``, what it says ``warmup.alerting``. Its state is the sensor's cursor, which Dagster
keeps; a tick therefore never raises, for a tick that raises loses its cursor.

A message counts as told when the receiver answered 2xx. Until then everything stays in the cursor and
each tick tries again. If the process dies between the answer and the keeping of the cursor, or the
answer is lost on its way, that one message comes twice: rather twice than never.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, Final

import dagster as dg
import httpx

from warmup_pipeline.domain.alerts import (
    AlertState,
    Failure,
    from_document,
    is_due,
    notice,
    posted,
    to_document,
)
from warmup_pipeline.domain.privacy import Redactor
from warmup_pipeline.orchestration import history, launching
from warmup_pipeline.orchestration.guard import RunLog
from warmup_pipeline.orchestration.names import ALERT_SENSOR
from warmup_pipeline.orchestration.resources import WarmupAccess
from warmup_pipeline.settings import Settings
from warmup_pipeline.store.trouble import StoreError
from warmup_pipeline.warmup.alerting import conditions_of, message
from warmup_pipeline.warmup.health_report import health_report, health_without_database

LOOK_EVERY_S: Final = 30
_TIMEOUT: Final = {"connect": 5.0, "read": 10.0, "write": 10.0, "pool": 5.0}
_KNOWN_RUNS: Final = 400


@dataclass(frozen=True, slots=True)
class Cursor:
    """What the sensor keeps from tick to tick.

    Attributes:
        state: what was told and what waits.
        runs_since: failures that ended before are known.
        known_runs: ids of the failed runs already taken up, newest last.
    """

    state: AlertState = field(default_factory=AlertState)
    runs_since: datetime | None = None
    known_runs: tuple[str, ...] = ()

    @classmethod
    def read(cls, text: str | None) -> Cursor:
        """Return what a cursor's text says; one that cannot be read is a new beginning."""
        try:
            document = json.loads(text or "")
            return cls(
                from_document(document["state"]),
                datetime.fromisoformat(document["runs_since"]),
                tuple(document["known_runs"]),
            )
        except (KeyError, TypeError, ValueError):
            return cls()

    def text(self) -> str:
        """Return it as it is kept."""
        return json.dumps(
            {
                "state": to_document(self.state),
                "runs_since": None if self.runs_since is None else self.runs_since.isoformat(),
                "known_runs": list(self.known_runs),
            },
            sort_keys=True,
        )


def post(url: str, text: str) -> str | None:
    """Post a message; returns ``None`` once it was taken, else why not, without the address.

    The transport is used without a client around it: a client's records hold the whole address.
    """
    try:
        request = httpx.Request("POST", url, json={"text": text}, extensions={"timeout": _TIMEOUT})
        with httpx.HTTPTransport() as transport:
            response = transport.handle_request(request)
            status = response.status_code
            response.close()
    except httpx.HTTPError as error:
        return f"it could not be reached ({type(error).__name__})"
    return None if httpx.codes.is_success(status) else f"it answered HTTP {status}"


@dg.sensor(
    name=ALERT_SENSOR,
    minimum_interval_seconds=LOOK_EVERY_S,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description=(
        "Tells WARMUP_ALERT_WEBHOOK_URL when a check turns bad and when it is well again, and of failed runs. What "
        "happens within five minutes goes into one message. Without that variable it is only logged."
    ),
)
def warmup_alert_sensor(
    context: dg.SensorEvaluationContext, warmup: dg.ResourceParam[WarmupAccess]
) -> dg.SensorResult:
    """Look at everything watched; tell what changed."""
    access: WarmupAccess = warmup
    cursor = Cursor.read(context.cursor)
    try:
        settings = access.settings()
    except ValueError as error:
        return _skip(Redactor().text(str(error)), cursor)
    redactor = Redactor(settings.secrets())
    now = access.now()
    document = _health(context, access, settings, redactor)
    failed = history.failed_since(
        context.instance, cursor.runs_since or now, but_not=frozenset(cursor.known_runs)
    )
    if cursor.runs_since is None:
        # What failed before anybody watched is in the UI.
        failed, known = [], tuple(one.run_id for one in failed)
    else:
        known = (*cursor.known_runs, *(one.run_id for one in failed))
    told = [
        Failure(one.run_id, one.job, redactor.text(history.why_failed(context.instance, one.run_id)))
        for one in failed
    ]
    cursor = Cursor(notice(cursor.state, conditions_of(document), told), now, known[-_KNOWN_RUNS:])
    if not is_due(cursor.state, now):
        waits = len(cursor.state.waiting) + len(cursor.state.failures)
        return _skip(f"{waits} wait to be told with the next message" if waits else "nothing changed", cursor)
    text = redactor.text(message(cursor.state, ui_url=settings.ui_url, mode=settings.mode))
    return _tell(context, settings, text, cursor, now)


def _tell(
    context: dg.SensorEvaluationContext, settings: Settings, text: str, cursor: Cursor, now: datetime
) -> dg.SensorResult:
    if settings.alert_webhook_url is None:
        context.log.warning(text)
        reason = "logged only, for WARMUP_ALERT_WEBHOOK_URL is not set"
    else:
        refused = post(settings.alert_webhook_url, text)
        if refused is not None:
            context.log.warning(
                f"The alert receiver took nothing: {refused}. What is to be told stays.\n{text}"
            )
            return _skip(f"the alert receiver took nothing: {refused}; the next tick tries again", cursor)
        context.log.info(text)
        reason = "told"
    first = text.splitlines()[0]
    return _skip(f"{reason}: {first}", replace(cursor, state=posted(cursor.state, now)))


def _health(
    context: dg.SensorEvaluationContext, access: WarmupAccess, settings: Settings, redactor: Redactor
) -> dict[str, Any]:
    results = launching.latest_results(context.instance)
    try:
        with access.reading(RunLog(context.log)) as (world, _):
            return health_report(world, results, history.scheduler_state(context.instance))
    except (StoreError, ValueError) as error:
        why = redactor.text(str(error))
    except Exception as error:  # noqa: BLE001 (a tick that raises loses its cursor; what is not known is not well)
        RunLog(context.log).failure("Health cannot be told", redactor.traceback(error))
        why = (
            f"health cannot be told ({type(error).__name__}): the log of this sensor's tick has the traceback"
        )
    return health_without_database(why, results, now=access.now(), mode=settings.mode)


def _skip(reason: str, cursor: Cursor) -> dg.SensorResult:
    return dg.SensorResult(skip_reason=dg.SkipReason(reason), cursor=cursor.text())
