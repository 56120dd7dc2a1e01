"""The traps: a compose file, values or an image that name what is not there. None of them is run here:
Docker and Kubernetes are not part of the test line. What they start is: `test_celery` starts the same, and
`test_kubernetes_job` asks Kubernetes' programming interface for the job of a run."""

from __future__ import annotations

import copy
import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest
import yaml
from dagster._config import resolve_to_config_type, validate_config
from dagster._core.instance.config import dagster_instance_config
from dagster._core.instance.ref import InstanceRef
from dagster._core.run_coordinator import QueuedRunCoordinator
from dagster_k8s import K8sRunLauncher
from dagster_k8s.job import UserDefinedDagsterK8sConfig

from warmup_pipeline.orchestration.names import CODE_MODULE, POOL_TAG
from warmup_pipeline_tests.deploy.chart import values_problems
from warmup_pipeline_tests.deploy.chart_output import (
    RELEASE,
    instance_config,
    launcher_config,
    workspace,
)

ROOT: Final = Path(__file__).resolve().parents[2]
DEPLOY: Final = ROOT / "deploy"

OURS: Final = {"code", "webserver", "daemon", "worker", "webhooks"}
OTHERS: Final = {"postgres", "valkey"}
SERVICE_KEYS: Final = {
    "build",
    "command",
    "depends_on",
    "environment",
    "healthcheck",
    "image",
    "ports",
    "restart",
    "stop_grace_period",
    "volumes",
}


def read(name: str) -> Any:
    return yaml.safe_load((DEPLOY / name).read_text(encoding="utf-8"))


@pytest.fixture
def services() -> dict[str, Any]:
    found: dict[str, Any] = read("compose.yaml")["services"]
    return found


@pytest.fixture
def values() -> dict[str, Any]:
    found: dict[str, Any] = read("helm/values.yaml")
    return found


# --- the Celery worker


@pytest.mark.parametrize(
    ("home", "said"),
    [
        ("deploy/celery", "WARMUP_DAGSTER_DATABASE_URL, which is not set"),
        (".", "set DAGSTER_HOME to deploy/celery"),
        (None, "DAGSTER_HOME"),
    ],
)
def test_a_worker_in_the_wrong_environment_says_what_is_missing_in_one_line(
    home: str | None, said: str, tmp_path: Path
) -> None:
    environ = {
        name: value for name, value in os.environ.items() if not name.startswith(("WARMUP_", "DAGSTER_"))
    }
    folder = ROOT / (home or "")
    if home == ".":
        # An instance of its own: the project's own history is left alone.
        folder = tmp_path
        (tmp_path / "dagster.yaml").write_text("telemetry: {enabled: false}\n")
    ran = subprocess.run(
        [sys.executable, "-m", "celery", "--app=warmup_pipeline.celery_worker", "worker"],
        cwd=ROOT,
        env=environ if home is None else environ | {"DAGSTER_HOME": str(folder)},
        capture_output=True,
        text=True,
        check=False,
    )
    lines = [line for line in ran.stderr.splitlines() if "Warning" not in line and not line.startswith(" ")]
    assert ran.returncode != 0
    assert len(lines) == 1, ran.stderr
    assert said in lines[0]


# --- compose


def test_compose_has_every_part_and_nothing_that_compose_does_not_know(services: dict[str, Any]) -> None:
    assert set(services) == OURS | OTHERS
    for name, service in services.items():
        assert set(service) <= SERVICE_KEYS, name
        assert "image" in service, name


def test_what_a_service_of_compose_waits_for_can_say_that_it_is_well(services: dict[str, Any]) -> None:
    for name, service in services.items():
        for other, how in service.get("depends_on", {}).items():
            assert how == {"condition": "service_healthy"}, name
            assert services[other]["healthcheck"]["test"][0] == "CMD", other


def test_compose_gives_every_part_the_variables_that_this_program_reads(services: dict[str, Any]) -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8") + (DEPLOY / "README.md").read_text(
        encoding="utf-8"
    )
    said = {name: services[name]["environment"] for name in OURS}
    assert all(environment == said["code"] for environment in said.values())
    for variable in said["code"]:
        assert f"`{variable}`" in readme, f"no page explains {variable}"
    # What an operator may set is passed on, or .env would say it to nobody.
    table = re.findall(r"^\| (`[^|]+`) \|", (ROOT / "README.md").read_text(encoding="utf-8"), re.MULTILINE)
    settable = {name for cell in table for name in re.findall(r"`([A-Z][A-Z_]+[A-Z])`", cell)}
    assert len(settable) > 10
    assert settable <= set(said["code"])
    needed = re.findall(r"env: (\w+)", (DEPLOY / "celery" / "dagster.yaml").read_text(encoding="utf-8"))
    assert set(needed) <= set(said["code"])
    assert said["code"]["DAGSTER_HOME"].endswith("/deploy/celery")


def test_compose_starts_programs_that_the_image_has(services: dict[str, Any]) -> None:
    for name in OURS:
        program, *words = services[name]["command"]
        assert (Path(sys.executable).parent / program).is_file(), f"{name}: there is no {program}"
        if "-w" in words:
            assert (ROOT / words[words.index("-w") + 1]).is_file()


def test_compose_opens_nothing_to_the_network_by_itself(services: dict[str, Any]) -> None:
    ports = [port for service in services.values() for port in service.get("ports", [])]
    assert ports
    assert all(port.startswith("127.0.0.1:") for port in ports)


def test_the_workspace_names_the_service_that_serves_the_code(services: dict[str, Any]) -> None:
    (location,) = read("celery/workspace.yaml")["load_from"]
    server = location["grpc_server"]
    command = services[server["host"]]["command"]
    assert command[command.index("--port") + 1] == str(server["port"])
    assert command[command.index("--module-name") + 1] == CODE_MODULE
    # Runs that a command makes (`warmup cycle`) are listed under the location of this name.
    assert server["location_name"] == CODE_MODULE


def said(document: Any, name: str = "") -> Iterator[tuple[str, str]]:
    """Yield every text of a document with the name it stands under."""
    if isinstance(document, dict):
        for key, value in document.items():
            yield from said(value, str(key))
    elif isinstance(document, list):
        for value in document:
            yield from said(value, name)
    elif isinstance(document, str):
        yield name, document


def test_no_secret_stands_in_a_file_of_deploy() -> None:
    secret = re.compile(r"(?i)password|token|_key|secret")
    looked_at = 0
    for path in sorted(DEPLOY.rglob("*.yaml")):
        for name, text in said(yaml.safe_load(path.read_text(encoding="utf-8"))):
            # A secret is a reference to the environment; Kubernetes' secrets are named, not told.
            if secret.search(name) and text:
                looked_at += 1
                assert text.startswith("${") or "secret" in name.lower(), f"{path.name}: {name}"
            in_url = re.search(r"://[^/@:]+:([^@]+)@", text)
            assert in_url is None or in_url[1].startswith("${"), f"{path.name}: {name}"
    assert looked_at


# --- the image


def test_the_image_copies_what_is_there_and_installs_extras_that_exist() -> None:
    text = (DEPLOY / "Dockerfile").read_text(encoding="utf-8")
    for sources in re.findall(r"^COPY (.+) \S+$", text, flags=re.MULTILINE):
        assert all((ROOT / source).exists() for source in sources.split())
    (extras,) = re.findall(r"'\.\[([\w,]+)\]'", text)
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert set(extras.split(",")) <= set(declared["optional-dependencies"])
    assert re.search(r"^USER \d+$", text, flags=re.MULTILINE), "it would run as root"
    ignored = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    assert {".env", ".git", ".dagster", "deploy/secrets"} <= set(ignored)


# --- the chart's values


def test_the_chart_understands_every_value(values: dict[str, Any]) -> None:
    assert values_problems(values) == []


@pytest.mark.parametrize(
    ("path", "value", "told"),
    [
        (("runLauncher", "config", "k8sRunLauncher", "jobImage"), "x", "jobImage"),
        (
            ("dagsterDaemon", "runCoordinator", "config", "queuedRunCoordinator", "maxConcurrentRuns"),
            "50",
            "max",
        ),
        (("dagsterWebserver", "image", "tag"), None, "tag"),
        (("rabbit",), {"enabled": False}, "rabbit"),
    ],
)
def test_a_value_that_the_chart_would_not_understand_is_named(
    values: dict[str, Any], path: tuple[str, ...], value: Any, told: str
) -> None:
    wrong = copy.deepcopy(values)
    place = wrong
    for name in path[:-1]:
        place = place[name]
    place[path[-1]] = value
    (problem,) = values_problems(wrong)
    assert told in problem


def test_the_launcher_takes_what_the_chart_makes_of_the_values(values: dict[str, Any]) -> None:
    config = launcher_config(values)
    # dagster-k8s brings no types.
    shape = K8sRunLauncher.config_type()  # type: ignore[no-untyped-call]
    result = validate_config(resolve_to_config_type(shape), config)
    assert result.success, result.errors
    # Kubernetes' own names: an unknown one raises.
    of_run = UserDefinedDagsterK8sConfig.from_dict(config["run_k8s_config"])  # type: ignore[no-untyped-call]
    assert of_run.job_spec_config["backoff_limit"] == 0, "Kubernetes would run a cycle again by itself"


def test_dagster_takes_the_instance_that_the_chart_makes_of_the_values(
    values: dict[str, Any], tmp_path: Path
) -> None:
    (tmp_path / "dagster.yaml").write_text(yaml.safe_dump(instance_config(values)), encoding="utf-8")
    config, _ = dagster_instance_config(str(tmp_path))
    assert config["run_monitoring"]["max_runtime_seconds"] == 900
    coordinator = InstanceRef.from_dir(str(tmp_path)).run_coordinator
    assert isinstance(coordinator, QueuedRunCoordinator)
    (limit,) = coordinator.get_run_queue_config().tag_concurrency_limits
    assert (limit["key"], limit["limit"]) == (POOL_TAG, 1)


def test_webserver_and_daemon_of_the_chart_find_the_code_location_by_its_own_name(
    values: dict[str, Any],
) -> None:
    (location,) = values["dagster-user-deployments"]["deployments"]
    (known,) = workspace(values)["load_from"]
    # The chart's service is called as the deployment is.
    assert known["grpc_server"] == {
        "host": location["name"],
        "port": location["port"],
        "location_name": CODE_MODULE,
    }
    assert location["dagsterApiGrpcArgs"] == ["--module-name", CODE_MODULE]


def test_nothing_that_the_chart_starts_needs_root(values: dict[str, Any]) -> None:
    (user,) = re.findall(
        r"^USER (\d+)$", (DEPLOY / "Dockerfile").read_text(encoding="utf-8"), flags=re.MULTILINE
    )
    (location,) = values["dagster-user-deployments"]["deployments"]
    webserver = values["dagsterWebserver"]
    run = values["runLauncher"]["config"]["k8sRunLauncher"]["runK8sConfig"]["podSpecConfig"]
    for part in (
        webserver["podSecurityContext"],
        values["dagsterDaemon"]["podSecurityContext"],
        location["podSecurityContext"],
        run["securityContext"],
    ):
        assert part == {"runAsNonRoot": True, "runAsUser": int(user)}
    # Below 1024 only root may listen; what is asked whether it is ready must be what listens.
    assert webserver["service"]["port"] >= 1024
    assert webserver["readinessProbe"]["httpGet"]["port"] == webserver["service"]["port"]
    assert location["port"] >= 1024


def test_runs_of_the_chart_may_write_into_their_dagster_home(values: dict[str, Any]) -> None:
    text = (DEPLOY / "Dockerfile").read_text(encoding="utf-8")
    (root,) = re.findall(r"^WORKDIR (\S+)$", text, flags=re.MULTILINE)
    (folder,) = re.findall(r"install -d -o warmup -g warmup (\S+)$", text, flags=re.MULTILINE)
    assert values["global"]["dagsterHome"] == f"{root}/{folder}"
    artifacts = values["additionalInstanceConfig"]["local_artifact_storage"]
    assert artifacts["config"]["base_dir"] == values["global"]["dagsterHome"]


def test_the_chart_gets_the_same_rules_for_runs_as_every_other_way(values: dict[str, Any]) -> None:
    daemon = values["dagsterDaemon"]
    (limit,) = daemon["runCoordinator"]["config"]["queuedRunCoordinator"]["tagConcurrencyLimits"]
    (celery,) = read("celery/dagster.yaml")["run_coordinator"]["config"]["tag_concurrency_limits"]
    assert limit == celery == {"key": POOL_TAG, "value": {"applyLimitPerUniqueValue": True}, "limit": 1}
    assert not daemon["runRetries"]["enabled"]
    assert daemon["runMonitoring"]["enabled"]
    assert daemon["runMonitoring"]["maxResumeRunAttempts"] == 0
    assert read("celery/dagster.yaml")["run_monitoring"]["max_resume_run_attempts"] == 0
    celery_app = read("celery/dagster.yaml")["run_launcher"]["config"]["config_source"]
    assert celery_app["task_acks_late"] is False, "a run would be given out again when a worker dies"


CHART: Final = os.environ.get("WARMUP_DAGSTER_CHART")
HELM: Final = shutil.which("helm")


@pytest.mark.skipif(
    not (HELM and CHART),
    reason="needs helm and Dagster's chart (WARMUP_DAGSTER_CHART): deploy/README.md has the command",
)
def test_helm_renders_the_chart_with_these_values(values: dict[str, Any], tmp_path: Path) -> None:
    rendered = subprocess.run(
        [str(HELM), "template", RELEASE, str(CHART), "-f", str(DEPLOY / "helm" / "values.yaml")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert rendered.returncode == 0, rendered.stderr
    found = {
        (document["kind"], document["metadata"]["name"]): document
        for document in yaml.safe_load_all(rendered.stdout)
        if document
    }
    deployed = [name for kind, name in found if kind == "Deployment"]
    assert len(deployed) == 3, "webserver, daemon, code location"

    told = found["ConfigMap", f"{RELEASE}-dagster-instance"]["data"]["dagster.yaml"]
    (tmp_path / "dagster.yaml").write_text(told, encoding="utf-8")
    dagster_instance_config(str(tmp_path))
    assert nothing_else(instance_config(values), yaml.safe_load(told)) == instance_config(values)
    assert yaml.safe_load(
        found["ConfigMap", f"{RELEASE}-dagster-workspace-yaml"]["data"]["workspace.yaml"]
    ) == workspace(values)

    for name in deployed:
        (container,) = found["Deployment", name]["spec"]["template"]["spec"]["containers"]
        given = [source.get("secretRef", {}).get("name") for source in container["envFrom"]]
        assert "warmup-secrets" in given, name
    (container,) = found["Deployment", f"{RELEASE}-dagster-user-deployments-warmup"]["spec"]["template"][
        "spec"
    ]["containers"]
    assert container["args"][-2:] == ["--module-name", CODE_MODULE]
    variables = {one["name"]: one.get("value") for one in container["env"]}
    assert variables["DAGSTER_CURRENT_IMAGE"] == container["image"], "its runs would have another image"
    assert not any(name.endswith("CONTAINER_CONTEXT") for name in variables), "runs would get what it has"


def nothing_else(wanted: Any, found: Any) -> Any:
    """Return what was found without the keys that the values do not decide, at any depth."""
    if isinstance(wanted, dict) and isinstance(found, dict):
        return {key: nothing_else(wanted[key], found[key]) for key in wanted if key in found}
    return found
