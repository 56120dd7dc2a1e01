"""The trap: a run's pod without the settings, the secrets or the image that it needs. Kubernetes itself is not
here: what listens in its place takes the job that Dagster's launcher asks for and says that it was made."""

from __future__ import annotations

import json
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any, Final, NamedTuple

import dagster as dg
import pytest
import yaml
from dagster._core.code_pointer import ModuleCodePointer
from dagster._core.launcher import LaunchRunContext
from dagster._core.origin import DEFAULT_DAGSTER_ENTRY_POINT, JobPythonOrigin, RepositoryPythonOrigin
from dagster._core.remote_origin import RegisteredCodeLocationOrigin, RemoteJobOrigin, RemoteRepositoryOrigin

from warmup_pipeline.orchestration.names import CODE_MODULE, CYCLE_JOB
from warmup_pipeline_tests.deploy.chart_output import launcher_config

VALUES: Final = Path(__file__).resolve().parents[2] / "deploy" / "helm" / "values.yaml"


class Cluster(NamedTuple):
    """What listens in Kubernetes' place, and the jobs it was asked for."""

    url: str
    jobs: list[dict[str, Any]]


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    jobs: list[dict[str, Any]] = []

    class Taking(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            jobs.append({"path": self.path, **json.loads(body)})
            self.send_response(201)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Nothing into the test's output."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Taking) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield Cluster(f"http://127.0.0.1:{server.server_port}", jobs)
        server.shutdown()


@pytest.fixture
def values() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load(VALUES.read_text(encoding="utf-8"))
    return found


def access(folder: Path, url: str) -> Path:
    """Write a kubeconfig for a cluster that asks nobody who he is."""
    path = folder / "kubeconfig"
    one = "test"
    document = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": one,
        "clusters": [{"name": one, "cluster": {"server": url}}],
        "users": [{"name": one, "user": {}}],
        "contexts": [{"name": one, "context": {"cluster": one, "user": one}}],
    }
    path.write_text(yaml.safe_dump(document), encoding="utf-8")
    return path


@dg.op
def nothing() -> None:
    """Stands for a cycle: the launcher looks at a run's origin, never at its steps."""


@dg.job(name=CYCLE_JOB)
def stand_in() -> None:
    nothing()


def test_a_cycles_run_becomes_a_job_that_has_the_settings_the_secrets_and_the_image(
    values: dict[str, Any], cluster: Cluster, tmp_path: Path
) -> None:
    (location,) = values["dagster-user-deployments"]["deployments"]
    assert location["includeConfigInLaunchedRuns"] == {"enabled": False}
    image = f"{location['image']['repository']}:{location['image']['tag']}"
    # From outside, as nobody is inside of a cluster here.
    config = launcher_config(values) | {
        "load_incluster_config": False,
        "kubeconfig_file": str(access(tmp_path, cluster.url)),
    }
    overrides = {"run_launcher": {"module": "dagster_k8s", "class": "K8sRunLauncher", "config": config}}
    with dg.DagsterInstance.local_temp(str(tmp_path), overrides=overrides) as instance:
        run = instance.create_run_for_job(
            stand_in,
            remote_job_origin=RemoteJobOrigin(
                RemoteRepositoryOrigin(RegisteredCodeLocationOrigin(CODE_MODULE), "__repository__"), CYCLE_JOB
            ),
            job_code_origin=JobPythonOrigin(
                CYCLE_JOB,
                RepositoryPythonOrigin(
                    executable_path="python",
                    code_pointer=ModuleCodePointer(CODE_MODULE, "defs"),
                    container_image=image,
                    entry_point=DEFAULT_DAGSTER_ENTRY_POINT,
                    # The code location hands nothing down: its resources would win over the run's.
                    container_context=None,
                ),
            ),
        )
        instance.run_launcher.launch_run(LaunchRunContext(dagster_run=run, workspace=None))
    (job,) = cluster.jobs
    assert job["path"] == "/apis/batch/v1/namespaces/default/jobs"
    # Never again by itself, and gone when it has been long enough to look at.
    assert job["spec"]["backoffLimit"] == 0
    assert job["spec"]["ttlSecondsAfterFinished"] == 600
    pod = job["spec"]["template"]["spec"]
    assert pod["restartPolicy"] == "Never"
    assert pod["terminationGracePeriodSeconds"] == 30
    assert pod["securityContext"] == values["dagsterDaemon"]["podSecurityContext"]
    (container,) = pod["containers"]
    assert container["image"] == image
    assert container["args"][:3] == ["dagster", "api", "execute_run"]
    given = {name for source in container["envFrom"] for kind in source.values() for name in [kind["name"]]}
    assert {"warmup-settings", "warmup-secrets"} <= given
    variables = {one["name"]: one for one in container["env"]}
    password = variables["DAGSTER_PG_PASSWORD"]["valueFrom"]["secretKeyRef"]
    assert password == {"name": "warmup-postgresql", "key": "postgresql-password"}
    launcher = values["runLauncher"]["config"]["k8sRunLauncher"]["runK8sConfig"]
    assert container["resources"] == launcher["containerConfig"]["resources"]
    # The instance itself comes with the command; the home is where a run writes past days as files.
    assert variables["DAGSTER_HOME"]["value"] == values["global"]["dagsterHome"]
