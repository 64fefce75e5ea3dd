"""Settings of the services when each is a process of its own: database, object store, Kubernetes.

An embedded instance reads none of them.
"""

from __future__ import annotations

from typing import Any, Literal

import pydantic
from pydantic import Field

from quintile.settings.words import Words


class DatabaseSettings(pydantic.BaseModel):
    """The database of the API and of the labeling service."""

    model_config = pydantic.ConfigDict(frozen=True, extra="forbid")

    url: pydantic.SecretStr = Field(
        default=pydantic.SecretStr(""),
        description="Address of the database: `postgresql+psycopg2://USER:PASSWORD@HOST/NAME`. "
        "The API keeps its tables in the schema `api`, the labeling service in `labeling`.",
    )
    pool_size: int = Field(
        default=40,
        ge=2,
        le=500,
        description="Connections that one process holds at most; the server "
        "needs room for those of all replicas of both services.",
    )


class S3Settings(pydantic.BaseModel):
    """The object store."""

    model_config = pydantic.ConfigDict(frozen=True, extra="forbid")

    endpoint: str = Field(
        default="",
        description="Where the object store answers, as services and workers reach it: "
        "`http[s]://HOST[:PORT]`.",
    )
    bucket: str = Field(default="quintile", description="Bucket of all objects; it must exist.")
    access_key: pydantic.SecretStr = Field(
        default=pydantic.SecretStr(""), description="Access key of the object store."
    )
    secret_key: pydantic.SecretStr = Field(
        default=pydantic.SecretStr(""), description="Secret key of the object store."
    )
    region: str = Field(default="us-east-1", description="Region that requests are signed for.")


class KubernetesSettings(pydantic.BaseModel):
    """The cluster. Credentials come from the pod's service account, else from the kubeconfig."""

    model_config = pydantic.ConfigDict(frozen=True, extra="forbid")

    namespaces: Words = Field(
        default=(),
        description="Namespaces that are projects. Empty: every namespace, for an operator with "
        "rights in the whole cluster; API and labeling service need the list.",
    )
    namespace: str = Field(
        default="quintile", description="Namespace in which the platform itself runs."
    )
    lease_name: str = Field(
        default="quintile-operator", description="Lease that the operator at work holds."
    )
    lease_s: float = Field(
        default=15.0,
        ge=3.0,
        description="How long the Lease lasts without renewal, in seconds.",
    )
    worker_image: str = Field(default="", description="Image of workers that name none.")
    worker_pull_policy: Literal["Always", "IfNotPresent", "Never"] = Field(
        default="IfNotPresent", description="When nodes pull the image of workers."
    )
    worker_pull_secrets: Words = Field(
        default=(), description="Secrets of a project's namespace that pull the image of workers."
    )
    worker_service_account: str = Field(
        default="quintile-worker", description="Service account of workers; it needs no rights."
    )
    worker_user: int = Field(default=65532, ge=1, description="Numeric user that workers run as.")
    worker_scratch_gib: float = Field(
        default=10.0, gt=0.0, description="Room for state, code and caches of a worker, in GiB."
    )
    worker_memory_gib: float = Field(
        default=1.0, gt=0.0, description="Room for shared memory of a worker, in GiB."
    )
    worker_pending_deadline_s: float = Field(
        default=600.0,
        ge=1.0,
        description="How long pods of an attempt may find no node before all of them give back "
        "what they have and are tried again later, in seconds.",
    )
    network_policies: bool = Field(
        default=True, description="Whether each trial gets a NetworkPolicy of its own."
    )
    egress: tuple[dict[str, Any], ...] = Field(
        default=(),
        description="What workers may reach beside each other, as a JSON list of egress rules of a "
        "NetworkPolicy: name service, API, object store.",
    )
