"""Every value of the chart `quintile`, with its type, default and meaning.

The single source: ``python deploy/chart`` writes charts/quintile/values.yaml, values.schema.json
and docs/reference/values.md from it. What pods and nodes alone understand (resources, tolerations)
is passed on as it is.
"""

from __future__ import annotations

from typing import Annotated, Literal

import parts
from parts import Closed, Egress, Image, NonEmpty, Objects, Pairs, Resources, Secret, Service, Url
from pydantic import Field


class Project(Closed):
    """One project: a namespace that you made and labelled."""

    namespace: Annotated[str, Field(pattern=parts.NAME, max_length=63)] = Field(
        description="Name of the namespace; it must exist."
    )
    secrets: list[Annotated[str, Field(pattern=parts.NAME)]] = Field(
        default=[],
        description="Secrets of the namespace that experiments may name in `secretRefs`; each is "
        "labelled `quintile.dev/use: workers`.",
    )


class Logs(Closed):
    """What the services log."""

    level: Literal["debug", "info", "warning", "error"] = Field(
        default="info", description="Least severe level that is logged."
    )
    format: Literal["text", "json"] = Field(
        default="json", description="`text` for people, `json` for log collectors."
    )


class Keys(Closed):
    """The secrets of the platform itself."""

    existing_secret: Secret = Field(
        default="",
        description="Secret with `trial.pem`, `trial-public.pem`, `session.key`, `urls.key` and "
        "`service-token`. Empty: made once by a Job and kept at every upgrade.",
    )


class Database(Closed):
    """The PostgreSQL database."""

    existing_secret: Secret = Field(
        default="", description="Secret with the address of the database."
    )
    url_key: NonEmpty = Field(
        default="url",
        description="Key in that Secret: `postgresql+psycopg2://USER:PASSWORD@HOST/NAME`.",
    )
    egress: Egress = Field(
        default=[],
        description="How pods reach the database: egress rules of a NetworkPolicy. Needed with "
        "`networkPolicies.enabled`.",
    )


class S3(Closed):
    """The object store."""

    endpoint: Url = Field(
        default="",
        description="Where it answers, for services and workers: `http[s]://HOST[:PORT]`.",
    )
    bucket: NonEmpty = Field(default="quintile", description="Bucket; it must exist.")
    region: NonEmpty = Field(
        default="us-east-1", description="Region that requests are signed for."
    )
    existing_secret: Secret = Field(default="", description="Secret with the keys of the store.")
    access_key_key: NonEmpty = Field(
        default="access-key", description="Key of the access key in that Secret."
    )
    secret_key_key: NonEmpty = Field(
        default="secret-key", description="Key of the secret key in that Secret."
    )
    egress: Egress = Field(
        default=[],
        description="How services and workers reach the store: egress rules of a NetworkPolicy. "
        "Needed with `networkPolicies.enabled`.",
    )


class Bundled(Closed):
    """A server for trying out: one pod, one volume, no backup."""

    enabled: bool = Field(default=False, description="Whether it is started.")
    image: Image = Field(default=Image(), description="Its image.")
    user: int = Field(default=999, ge=1, description="Numeric user it runs as; owns its volume.")
    size: NonEmpty = Field(default="5Gi", description="Size of its volume.")
    storage_class: str = Field(
        default="", description="Storage class of its volume; empty: the cluster's default."
    )
    resources: Resources = Field(
        default={
            "requests": {"cpu": "50m", "memory": "128Mi"},
            "limits": {"memory": "1Gi"},
        },
        description="Resources of its container.",
    )


class Api(Service):
    """The API: REST, the page, and what agents of workers call."""

    allowed_hosts: list[str] = Field(
        default=[],
        description="Host names that requests may name beside those of the Service, of "
        "`publicUrl`, of Ingress and HTTPRoute.",
    )
    allowed_origins: list[str] = Field(
        default=[], description="Origins beside our own that may send changing requests."
    )
    service_type: Literal["ClusterIP", "NodePort", "LoadBalancer"] = Field(
        default="ClusterIP", description="Type of its Service."
    )
    service_annotations: Pairs = Field(default={}, description="Annotations of its Service.")


class Workers(Closed):
    """The pods of trials."""

    image: Image = Field(
        default=Image(name="quintile-trainer"), description="Image of workers that name none."
    )
    pull_secrets: list[Annotated[str, Field(pattern=parts.NAME)]] = Field(
        default=[], description="Secrets of a project's namespace that pull the image."
    )
    service_account: Annotated[str, Field(pattern=parts.NAME)] = Field(
        default="quintile-worker",
        description="Service account of workers, made in each project; it has no rights.",
    )
    user: int = Field(default=65532, ge=1, description="Numeric user that workers run as.")
    scratch_gib: float = Field(
        default=10, gt=0, description="Room for state, code and caches of a worker, in GiB."
    )
    memory_gib: float = Field(
        default=1, gt=0, description="Room for shared memory of a worker, in GiB."
    )
    pending_deadline_seconds: float = Field(
        default=600,
        ge=1,
        description="How long pods of an attempt may find no node before all of them give back "
        "what they have and are tried again later.",
    )
    egress: Egress = Field(
        default=[],
        description="What workers may reach beside each other, name service, API and object store.",
    )


class Dns(Closed):
    """Where the name service runs."""

    namespace_labels: Pairs = Field(
        default={"kubernetes.io/metadata.name": "kube-system"},
        description="Labels of its namespace.",
    )
    pod_labels: Pairs = Field(
        default={"k8s-app": "kube-dns"},
        description="Labels of its pods; empty: every pod of the namespace.",
    )


class KubernetesApi(Closed):
    """Where the API server of Kubernetes answers."""

    cidrs: list[NonEmpty] = Field(
        default=["0.0.0.0/0"],
        description="Its address ranges; link-local addresses (cloud metadata) are left out.",
    )
    ports: list[Annotated[int, Field(ge=1, le=65535)]] = Field(
        default=[443, 6443], description="Its ports."
    )


class NetworkPolicies(Closed):
    """Who may talk to whom."""

    enabled: bool = Field(
        default=True, description="Whether the platform and every trial get NetworkPolicies."
    )
    ingress_from: Objects = Field(
        default=[],
        description="Who reaches the API beside the platform and its workers, as peers of a "
        "NetworkPolicy: the ingress controller. Needed with `ingress` or `gateway`.",
    )
    metrics_from: Objects = Field(
        default=[], description="Who reads metrics, as peers of a NetworkPolicy: Prometheus."
    )
    dns: Dns = Field(default=Dns(), description="The name service.")
    kubernetes_api: KubernetesApi = Field(
        default=KubernetesApi(), description="The API server of Kubernetes."
    )


class Ingress(Closed):
    """An Ingress in front of the API."""

    enabled: bool = Field(default=False, description="Whether it is made.")
    class_name: str = Field(default="", description="Its class; empty: the cluster's default.")
    annotations: Pairs = Field(default={}, description="Its annotations.")
    hosts: list[NonEmpty] = Field(default=[], description="Its host names; one at least.")
    tls_secret: Secret = Field(
        default="", description="Secret with its certificate; empty: without TLS."
    )


class Gateway(Closed):
    """An HTTPRoute of the Gateway API in front of the API."""

    enabled: bool = Field(default=False, description="Whether it is made.")
    annotations: Pairs = Field(default={}, description="Its annotations.")
    parent_refs: Objects = Field(
        default=[], description="Gateways it belongs to, as `[{name: GATEWAY}]`; one at least."
    )
    hostnames: list[NonEmpty] = Field(default=[], description="Its host names.")


class Rbac(Closed):
    """Rights in the cluster."""

    create: bool = Field(
        default=True,
        description="Whether roles and bindings are made; false: somebody else makes them.",
    )
    aggregate: bool = Field(
        default=True,
        description="Whether the roles view, edit and admin of Kubernetes also cover our kinds.",
    )


class Monitoring(Closed):
    """What watches the platform; needs Prometheus Operator, and Grafana with its sidecar."""

    service_monitor: bool = Field(default=False, description="Whether ServiceMonitors are made.")
    interval: NonEmpty = Field(default="30s", description="How often metrics are read.")
    rules: bool = Field(default=False, description="Whether a PrometheusRule with alerts is made.")
    dashboard: bool = Field(
        default=False, description="Whether a ConfigMap with the Grafana dashboard is made."
    )
    labels: Pairs = Field(
        default={}, description="Labels of all three, by which Prometheus and Grafana find them."
    )
    dashboard_labels: Pairs = Field(
        default={"grafana_dashboard": "1"}, description="Further labels of the dashboard."
    )


class Check(Closed):
    """What `helm test` does."""

    enabled: bool = Field(default=True, description="Whether the test pod exists.")
    train: bool = Field(
        default=True, description="Whether it also runs an Experiment in the first project."
    )


class Values(Closed):
    """The root of the tree."""

    name_override: Annotated[str, Field(pattern=parts.NAME_OR_EMPTY, max_length=40)] = Field(
        default="", description="Name of all objects; empty: the name of the release."
    )
    scope: Literal["namespace", "cluster"] = Field(
        default="namespace",
        description="Where the operator works: in `projects` alone, by a Role in each, or in every "
        "namespace, by a ClusterRole.",
    )
    projects: list[Project] = Field(
        default=[],
        description="The projects: namespaces that exist and carry the label "
        "`quintile.dev/project`.",
    )
    public_url: Url = Field(
        default="",
        description="Address of the platform as browsers reach it; needed with `ingress` or "
        "`gateway`.",
    )
    admin: Annotated[str, Field(pattern=parts.NAME, max_length=40)] = Field(
        default="admin", description="Name of the first administrator."
    )
    image: Image = Field(
        default=Image(name="quintile-control"),
        description="Image of API, operator and labeling service.",
    )
    image_registry: str = Field(
        default="", description="Registry in front of every image name that names none itself."
    )
    image_pull_secrets: list[Annotated[str, Field(pattern=parts.NAME)]] = Field(
        default=[], description="Secrets that pull the images of the platform."
    )
    logs: Logs = Field(default=Logs(), description="Logging.")
    keys: Keys = Field(default=Keys(), description="The secrets of the platform itself.")
    database: Database = Field(default=Database(), description="The PostgreSQL database.")
    s3: S3 = Field(default=S3(), description="The object store.")
    postgresql: Bundled = Field(
        default=Bundled(image=Image(name="postgres", tag="17")),
        description="A PostgreSQL for trying out, in place of `database`.",
    )
    minio: Bundled = Field(
        default=Bundled(image=Image(name="minio", tag="latest"), user=1000),
        description="A MinIO for trying out, in place of `s3`.",
    )
    api: Api = Field(default=Api(), description="The API.")
    operator: Service = Field(
        default=Service(
            replicas=2,
            resources={
                "requests": {"cpu": "50m", "memory": "160Mi"},
                "limits": {"memory": "512Mi"},
            },
        ),
        description="The operator; one of its replicas works, the others wait for its Lease.",
    )
    labeling: Service = Field(default=Service(), description="The labeling service.")
    workers: Workers = Field(default=Workers(), description="The pods of trials.")
    network_policies: NetworkPolicies = Field(
        default=NetworkPolicies(), description="Who may talk to whom."
    )
    ingress: Ingress = Field(default=Ingress(), description="An Ingress.")
    gateway: Gateway = Field(default=Gateway(), description="An HTTPRoute.")
    rbac: Rbac = Field(default=Rbac(), description="Rights in the cluster.")
    monitoring: Monitoring = Field(default=Monitoring(), description="Prometheus and Grafana.")
    check: Check = Field(default=Check(), description="`helm test`.")
