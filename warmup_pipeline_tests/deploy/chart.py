"""What the values of Dagster's chart may be, as far as deploy/helm/values.yaml says them.

Holds: :func:`values_problems`. The shapes are facts of the chart's own schema (``helm/dagster/schema``):
names, types, what is required where it is said at all. The chart fills in everything that is not said. Do not
add: what we want the values to be (the test), what the chart makes of them (:mod:`.chart_output`).
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError


class _Part(BaseModel):
    """Part of the values: nothing that the chart does not know."""

    model_config = ConfigDict(extra="forbid", strict=True)


class Switch(_Part):
    """Something that is on or off."""

    enabled: bool


class Image(_Part):
    """An image."""

    repository: str
    tag: str
    pullPolicy: Literal["Always", "IfNotPresent", "Never"]


class Source(_Part):
    """A config map or secret whose entries become variables."""

    name: str


class Quantities(_Part):
    """CPU and memory as Kubernetes writes them."""

    cpu: Annotated[str, Field(pattern=r"^\d+m?$")] | None = None
    memory: Annotated[str, Field(pattern=r"^\d+(Mi|Gi)$")]


class Resources(_Part):
    """What a container asks for and may take."""

    requests: Quantities
    limits: Quantities


class Service(_Part):
    """A service."""

    type: Literal["ClusterIP", "NodePort", "LoadBalancer"]
    port: int


class PodSecurity(_Part):
    """Who the processes of a pod are."""

    runAsNonRoot: bool
    runAsUser: int


class _Container(_Part):
    image: Image
    podSecurityContext: PodSecurity
    envConfigMaps: list[Source]
    envSecrets: list[Source]
    resources: Resources


class Address(_Part):
    """What is asked of a process to know whether it is ready."""

    path: str
    port: int


class Probe(_Part):
    """Whether a process is ready."""

    httpGet: Address


class Server(_Part):
    """A code location's server as webserver and daemon know it."""

    host: str
    port: int
    name: str


class Workspace(_Part):
    """The servers, where they are not called as the deployments are."""

    enabled: bool
    servers: list[Server]


class Webserver(_Container):
    """The UI."""

    replicaCount: int
    service: Service
    readinessProbe: Probe
    workspace: Workspace


class CodeLocation(_Container):
    """A code location's server."""

    name: str
    dagsterApiGrpcArgs: list[str]
    port: int
    includeConfigInLaunchedRuns: Switch


class UserDeployments(_Part):
    """The code locations."""

    enabled: bool
    enableSubchart: bool
    deployments: list[CodeLocation]


class PostgreSQL(_Part):
    """Where Dagster's history is."""

    enabled: bool
    postgresqlHost: str
    postgresqlUsername: str
    postgresqlDatabase: str
    postgresqlScheme: str


class RunK8sConfig(_Part):
    """What is added to each run's job."""

    containerConfig: dict[str, Any]
    podSpecConfig: dict[str, Any]
    jobSpecConfig: dict[str, Any]


class K8sRunLauncher(_Part):
    """How a run becomes a job."""

    imagePullPolicy: Literal["Always", "IfNotPresent", "Never"]
    loadInclusterConfig: bool
    envConfigMaps: list[Source]
    envSecrets: list[Source]
    envVars: list[str]
    volumeMounts: list[dict[str, Any]]
    volumes: list[dict[str, Any]]
    runK8sConfig: RunK8sConfig


class LauncherConfig(_Part):
    """The launcher's settings, by its type."""

    k8sRunLauncher: K8sRunLauncher


class RunLauncher(_Part):
    """Who launches runs."""

    type: Literal["K8sRunLauncher"]
    config: LauncherConfig


class PerUniqueValue(_Part):
    """A limit for each value of a tag by itself."""

    applyLimitPerUniqueValue: bool


class TagLimit(_Part):
    """How many runs of a tag."""

    key: str
    value: PerUniqueValue | str
    limit: int


class Queue(_Part):
    """Dagster's queue."""

    maxConcurrentRuns: int
    tagConcurrencyLimits: list[TagLimit]
    dequeueIntervalSeconds: int
    dequeueUseThreads: bool
    dequeueNumWorkers: int


class CoordinatorConfig(_Part):
    """The coordinator's settings, by its type."""

    queuedRunCoordinator: Queue


class RunCoordinator(_Part):
    """Who decides which run begins when."""

    enabled: bool
    type: Literal["QueuedRunCoordinator"]
    config: CoordinatorConfig


class Monitoring(_Part):
    """What the chart's template takes of run monitoring."""

    enabled: bool
    startTimeoutSeconds: int
    maxRuntimeSeconds: int
    cancelTimeoutSeconds: int
    pollIntervalSeconds: int
    maxResumeRunAttempts: int


class Sensors(_Part):
    """How the daemon ticks sensors."""

    useThreads: bool
    numWorkers: int
    numSubmitWorkers: int


class Daemon(_Container):
    """The daemon."""

    enabled: bool
    runCoordinator: RunCoordinator
    runMonitoring: Monitoring
    runRetries: Switch
    sensors: Sensors


class ComputeLogs(_Part):
    """Where what steps print is kept."""

    type: Literal["NoOpComputeLogManager"]


class TickAges(_Part):
    """Days by kind of tick; -1 keeps them."""

    skipped: int
    success: int
    failure: int
    started: int


class SensorRetention(_Part):
    """When a sensor's ticks go: the chart's default is ages by kind, and helm overlays like with like."""

    purgeAfterDays: TickAges


class ScheduleRetention(_Part):
    """When a schedule's ticks go: the chart's default is a number."""

    purgeAfterDays: int


class Retention(_Part):
    """When ticks go, of sensors and schedules."""

    enabled: bool
    sensor: SensorRetention
    schedule: ScheduleRetention


class Global(_Part):
    """What all parts share."""

    postgresqlSecretName: str
    dagsterHome: str


class Values(_Part):
    """The values, as far as they are said."""

    global_: Annotated[Global, Field(alias="global")]
    generatePostgresqlPasswordSecret: bool
    generateCeleryConfigSecret: bool
    dagsterWebserver: Webserver
    dagster_user_deployments: Annotated[UserDeployments, Field(alias="dagster-user-deployments")]
    postgresql: PostgreSQL
    runLauncher: RunLauncher
    dagsterDaemon: Daemon
    computeLogManager: ComputeLogs
    retention: Retention
    telemetry: Switch
    rabbitmq: Switch
    redis: Switch
    flower: Switch
    ingress: Switch
    additionalInstanceConfig: dict[str, Any]


def values_problems(document: Any) -> list[str]:
    """Return what the chart would not understand, each as its path and why."""
    try:
        Values.model_validate(document)
    except ValidationError as error:
        return [f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in error.errors()]
    return []
