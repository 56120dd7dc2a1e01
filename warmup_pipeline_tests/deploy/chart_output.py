"""What Dagster's chart makes of deploy/helm/values.yaml, as far as the values decide it.

Holds: :func:`instance_config`, :func:`launcher_config`, :func:`workspace`. They say what helm was seen to render;
``test_files`` compares both where helm and the chart are. Do not add: which values the chart understands
(:mod:`.chart`), what we want of them (the tests).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

RELEASE: Final = "warmup"
"""What ``helm install`` calls it in deploy/helm/values.yaml."""

_NAMESPACE: Final = "default"


def launcher_config(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the launcher's settings as the chart's template writes them into dagster.yaml."""
    said = values["runLauncher"]["config"]["k8sRunLauncher"]
    run = said["runK8sConfig"]
    return {
        "load_incluster_config": said["loadInclusterConfig"],
        "image_pull_policy": said["imagePullPolicy"],
        "job_namespace": _NAMESPACE,
        "service_account_name": f"{RELEASE}-dagster",
        "dagster_home": values["global"]["dagsterHome"],
        "instance_config_map": f"{RELEASE}-dagster-instance",
        "postgres_password_secret": values["global"]["postgresqlSecretName"],
        "env_config_maps": [one["name"] for one in said["envConfigMaps"]],
        "env_secrets": [one["name"] for one in said["envSecrets"]],
        "run_k8s_config": {
            "container_config": run["containerConfig"],
            "pod_spec_config": run["podSpecConfig"],
            "job_spec_config": run["jobSpecConfig"],
        },
    }


def instance_config(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return dagster.yaml as far as the values decide it."""
    history, daemon = values["postgresql"], values["dagsterDaemon"]
    queue = daemon["runCoordinator"]["config"]["queuedRunCoordinator"]
    monitoring, sensors = daemon["runMonitoring"], daemon["sensors"]
    config = {
        "postgres_db": {
            "username": history["postgresqlUsername"],
            "password": {"env": "DAGSTER_PG_PASSWORD"},
            "hostname": history["postgresqlHost"],
            "db_name": history["postgresqlDatabase"],
            "port": 5432,
            "params": {},
            "scheme": history["postgresqlScheme"],
        }
    }
    return {
        "run_storage": _class("dagster_postgres.run_storage", "PostgresRunStorage", config),
        "event_log_storage": _class("dagster_postgres.event_log", "PostgresEventLogStorage", config),
        "schedule_storage": _class("dagster_postgres.schedule_storage", "PostgresScheduleStorage", config),
        "run_launcher": _class("dagster_k8s", "K8sRunLauncher", launcher_config(values)),
        "run_coordinator": _class(
            "dagster.core.run_coordinator",
            "QueuedRunCoordinator",
            {
                "max_concurrent_runs": queue["maxConcurrentRuns"],
                "tag_concurrency_limits": queue["tagConcurrencyLimits"],
                "dequeue_interval_seconds": queue["dequeueIntervalSeconds"],
                "dequeue_use_threads": queue["dequeueUseThreads"],
                "dequeue_num_workers": queue["dequeueNumWorkers"],
            },
        ),
        "run_monitoring": {
            "enabled": monitoring["enabled"],
            "start_timeout_seconds": monitoring["startTimeoutSeconds"],
            "cancel_timeout_seconds": monitoring["cancelTimeoutSeconds"],
            "max_runtime_seconds": monitoring["maxRuntimeSeconds"],
            "max_resume_run_attempts": monitoring["maxResumeRunAttempts"],
            "poll_interval_seconds": monitoring["pollIntervalSeconds"],
        },
        "sensors": {
            "use_threads": sensors["useThreads"],
            "num_workers": sensors["numWorkers"],
            "num_submit_workers": sensors["numSubmitWorkers"],
        },
        "telemetry": values["telemetry"],
        "retention": {
            kind: {"purge_after_days": values["retention"][kind]["purgeAfterDays"]}
            for kind in ("sensor", "schedule")
        },
        **values["additionalInstanceConfig"],
    }


def _class(module: str, name: str, config: Mapping[str, Any]) -> dict[str, Any]:
    return {"module": module, "class": name, "config": dict(config)}


def workspace(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the workspace of webserver and daemon."""
    return {
        "load_from": [
            {"grpc_server": {"host": one["host"], "port": one["port"], "location_name": one["name"]}}
            for one in values["dagsterWebserver"]["workspace"]["servers"]
        ]
    }
