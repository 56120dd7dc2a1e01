"""The Celery worker of the Celery route: ``celery -A warmup_pipeline.celery_worker worker``.

Holds: :data:`app`, whose one task is Dagster's own: it runs a whole run, steps in process, in one of the
worker's child processes. Needs the extra ``celery``. Add here: what every worker process needs before its
first run. Do not add: tasks of our own (Dagster decides what runs), settings: the worker takes them from
the ``run_launcher`` of the instance's ``dagster.yaml``, so that launcher and worker always name one broker.
"""

from __future__ import annotations

from typing import Any, Final

from dagster_celery.launcher import CeleryRunLauncher
from dagster_celery.make_app import make_app
from dagster_celery.tasks import create_execute_job_task

# Loaded once, before the worker forks: a run then starts without the seconds that the imports take.
import warmup_pipeline.definitions
from warmup_pipeline.orchestration.opening import HistoryError, open_instance


class NotForCelery(RuntimeError):
    """The environment's instance hands no runs to Celery workers."""


def launcher_settings() -> dict[str, Any]:
    """Return what the instance's launcher says of broker, result backend and queue.

    Raises:
        HistoryError: the instance cannot be opened.
        NotForCelery: it launches its runs otherwise, so nobody would ever give this worker one.
    """
    with open_instance() as instance:
        launcher = instance.run_launcher
        if not isinstance(launcher, CeleryRunLauncher):
            raise NotForCelery(
                f"the dagster.yaml of DAGSTER_HOME launches runs by {type(launcher).__name__}, not by Celery: "
                "set DAGSTER_HOME to deploy/celery"
            )
        return launcher.app_args()


def _app() -> Any:
    """Return the app, or end in one line: Celery would take what is wrong for a mistyped option."""
    try:
        return make_app(launcher_settings())  # type: ignore[no-untyped-call]  # dagster-celery's own has no types
    except (HistoryError, NotForCelery) as error:
        raise SystemExit(f"Error: {error}") from None


app: Final = _app()

execute_job: Final = create_execute_job_task(app)

CODE: Final = warmup_pipeline.definitions
"""What the runs of this worker execute."""
