"""The printable plan of one trial attempt: what ``core.plan`` makes and an Executor carries out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

ReplicaState = Literal["pending", "running", "exited", "lost"]


@dataclass(frozen=True)
class ReplicaPlan:
    """One replica (a pod or a subprocess group): its agent's argv and environment.

    ``env`` holds everything the agent needs but the token; ``name`` is unique per attempt.
    """

    name: str
    role: str
    index: int
    argv: tuple[str, ...]
    env: tuple[tuple[str, str], ...]
    procs: int = 1
    cpu_millis: int = 0
    memory_bytes: int = 0
    gpus: int = 0


@dataclass(frozen=True)
class Pod:
    """What runtime and Experiment say about the pods of an attempt; empty = as the installation.

    ``tolerations``, ``volumes`` and ``mounts`` are written as JSON, so that equal ones are equal.
    ``variables_from`` are Secrets whose keys become environment variables.
    """

    image: str = ""
    node_selector: tuple[tuple[str, str], ...] = ()
    tolerations: tuple[str, ...] = ()
    priority_class: str = ""
    gpu_resource: str = ""
    shm_bytes: int = 0
    labels: tuple[tuple[str, str], ...] = ()
    annotations: tuple[tuple[str, str], ...] = ()
    volumes: tuple[str, ...] = ()
    mounts: tuple[str, ...] = ()
    pull_secrets: tuple[str, ...] = ()
    variables_from: tuple[str, ...] = ()


@dataclass(frozen=True)
class RunPlan:
    """One attempt of one trial; equal inputs give an equal plan.

    ``elastic``: replicas of the attempt may be lost, added and removed; see ``Executor.ensure``.
    ``pod``: what the trial and its runtime say; means nothing where replicas are no pods.
    """

    namespace: str
    trial: str
    trial_uid: str
    attempt: int
    mode: str
    replicas: tuple[ReplicaPlan, ...]
    token: str
    grace_s: int = 60
    elastic: bool = False
    pod: Pod | None = None


@dataclass(frozen=True)
class ObservedReplica:
    """What an Executor sees of one replica.

    ``lost``: the agent is gone and left no exit record. ``reason`` is the CamelCase word.
    ``started_s`` is since when its process lives (seconds since the epoch), 0 while it does not.
    """

    trial_uid: str
    attempt: int
    name: str
    role: str
    index: int
    state: ReplicaState
    exit_code: int | None = None
    reason: str = ""
    message: str = ""
    started_s: float = 0.0


@dataclass(frozen=True)
class Event:
    """Something worth telling people about a resource."""

    kind: str
    namespace: str
    name: str
    uid: str
    type: Literal["Normal", "Warning"]
    reason: str
    message: str


@dataclass(frozen=True)
class Change:
    """One change seen by a watch; ``document`` is the last known state, also of a deleted one."""

    type: Literal["ADDED", "MODIFIED", "DELETED"]
    document: dict[str, object]
    version: str
