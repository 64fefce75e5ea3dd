"""A table of specs that can never work: refused by the models, and by the API server itself.

Each entry names the field that the refusal must name.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from quintile.core import meta

Spec = dict[str, Any]
SHA: Final = "a" * 64
BUILTIN: Final[Spec] = {"estimator": {"builtin": {"model": "resnet8"}}}
SCRIPT: Final[Spec] = {"script": {"bundle": SHA, "entry": "train.py"}}
JOB: Final[Spec] = {"dataset": {"name": "digits", "version": 1}, "labels": ["0", "1"]}
OWNED: Final[Spec] = {"experiment": "digits", "experimentUid": "uid-1", "template": BUILTIN}
ROUND: Final[Spec] = {
    "job": "parts",
    "jobUid": "uid-1",
    "number": 0,
    "step": "embed",
    "manifestKey": "rounds/a/0/manifest.json",
    "manifestSha256": SHA,
}
RUNTIME: Final[Spec] = {"image": "example.com/trainer@sha256:1"}
BASES: Final[Mapping[str, Spec]] = {
    "Experiment": BUILTIN,
    "Trial": OWNED,
    "LabelingJob": JOB,
    "Queue": {},
    "ClusterRuntime": RUNTIME,
}
FULL: Final[Mapping[str, Spec]] = {
    **BASES,
    "Experiment": {**BUILTIN, "dataset": {"name": "digits", "version": 1}},
}


@dataclass(frozen=True)
class Create:
    """A spec that is refused; ``field`` is what the refusal must name.

    ``loose``: by the API server only.
    """

    kind: str
    spec: Spec
    field: str
    loose: bool = False

    @property
    def name(self) -> str:
        """How a test calls it."""
        return f"{self.kind}-{self.field}"


def having(base: Spec, path: str, value: object) -> Spec:
    """Return a copy of a spec with a value at a dotted path; None removes the field."""
    made = copy.deepcopy(base)
    place = made
    *outer, last = path.split(".")
    for part in outer:
        place = place.setdefault(part, {})
    if value is None:
        place.pop(last, None)
    else:
        place[last] = value
    return made


def document(kind: str, spec: Spec, *, name: str = "digits") -> meta.Document:
    """Return a document of a kind, in namespace ``default`` where it has one."""
    metadata: Spec = {"name": name}
    return {"apiVersion": meta.API_VERSION, "kind": kind, "metadata": metadata, "spec": spec}


_LONG: Final = "x" * 5000
_NAMES: Final = ("Digits", "1digits", "a_b", "-a", "a-", "")
_EXPERIMENT: Final[tuple[tuple[str, object], ...]] = (
    ("description", _LONG),
    ("description", 5),
    ("dataset.name", "Digits"),
    ("dataset.version", 0),
    ("dataset.split", "Train"),
    ("dataset.minConfidence", "sure"),
    ("dataset.train", "x" * 300),
    ("dataset.sources", ["x"] * 17),
    ("estimator", None),
    ("estimator.builtin.model", "resnet9"),
    ("estimator.builtin.task", "detection"),
    ("hparams", [{"name": "lr", "value": "0.1"}, {"name": "lr", "value": "0.2"}]),
    ("hparams", [{"name": "lr", "value": _LONG}]),
    ("hparams", [{"name": "lr", "value": 0.1}]),
    ("hparams", [{"value": "0.1"}]),
    ("hparams", [{"name": f"p{number}", "value": "1"} for number in range(101)]),
    ("run.mode", "tpu"),
    ("run.comm", "nccl"),
    ("run.workers.replicas", 0),
    ("run.workers.replicas", -1),
    ("run.workers.replicas", 1025),
    ("run.workers.min", 0),
    ("run.workers.max", 1025),
    ("run.ps.replicas", -1),
    ("run.ps.replicas", 257),
    ("run.ps.consistency", "eventual"),
    ("run.resources.gpu", -1),
    ("run.resources.gpu", 17),
    ("run.resources.cpu", "x" * 300),
    ("run.resources.memory", 5),
    ("run.horovod.controller", "nccl"),
    ("checkpoint.everySteps", 0),
    ("checkpoint.keepLast", 0),
    ("checkpoint.keepLast", 101),
    ("checkpoint.keepBest", -1),
    ("checkpoint.keepBest", 101),
    ("checkpoint.resume", "From"),
    ("checkpoint.graceSeconds", 0),
    ("checkpoint.graceSeconds", 3601),
    ("telemetry.summaryEverySteps", 0),
    ("telemetry.progressTimeoutSeconds", -1),
    ("telemetry.startTimeoutSeconds", -1),
    ("failure.maxRestarts", -1),
    ("failure.maxRestarts", 101),
    ("failure.maxInPlaceRestarts", -1),
    ("failure.maxInPlaceRestarts", 1001),
    ("failure.rules", [{"action": "Retry", "exitCodes": [1]}]),
    ("failure.rules", [{"exitCodes": [1]}]),
    ("failure.rules", [{"action": "Fail", "exitCodes": [0]}]),
    ("failure.rules", [{"action": "Fail", "exitCodes": [256]}]),
    ("failure.rules", [{"action": "Fail", "exitCodes": list(range(1, 66))}]),
    ("failure.rules", [{"action": "Fail", "logPattern": "x" * 257}]),
    ("failure.rules", [{"action": "Fail", "exitCodes": [1]}] * 33),
    ("queue", "GPU"),
    ("priority", "Very High"),
    ("runtime", "-cuda"),
    ("image", ""),
    ("image", "a b"),
    ("image", "x" * 513),
    ("secretRefs", [{"name": "Wandb"}]),
    ("secretRefs", [{"name": "../wandb"}]),
    ("secretRefs", [{"mountPath": "/secrets/wandb"}]),
    ("secretRefs", [{"name": "wandb"}, {"name": "wandb"}]),
    ("secretRefs", [{"name": f"s{number}"} for number in range(17)]),
    ("secretRefs", [{"name": "wandb", "mountPath": "/var/run/secrets"}]),
    ("secretRefs", [{"name": "wandb", "mountPath": "/secrets/../etc"}]),
    ("secretRefs", [{"name": name, "mountPath": "/secrets/one"} for name in ("a", "b")]),
    ("activeDeadlineSeconds", 0),
    ("activeDeadlineSeconds", "1h"),
    ("managedBy", "x" * 300),
    ("workers", 3),
)
_SCRATCH: Final[Spec] = {"name": "scratch", "emptyDir": {}}
_OVERRIDES: Final[tuple[tuple[Spec, str], ...]] = (
    ({"labels": [{"name": "a b"}]}, "name"),
    ({"labels": [{"name": "/team"}]}, "name"),
    ({"labels": [{"name": "team", "value": "a b"}]}, "value"),
    ({"labels": [{"name": "team"}, {"name": "team"}]}, "labels"),
    ({"labels": [{"name": f"t{number}"} for number in range(17)]}, "labels"),
    ({"annotations": [{"name": "team", "value": _LONG}]}, "value"),
    ({"annotations": [{"name": "team"}, {"name": "team"}]}, "annotations"),
    ({"volumes": [{"name": "data"}]}, "emptyDir"),
    ({"volumes": [{**_SCRATCH, "persistentVolumeClaim": {"claimName": "a"}}]}, "emptyDir"),
    ({"volumes": [{"name": "data", "persistentVolumeClaim": {}}]}, "claimName"),
    ({"volumes": [_SCRATCH, _SCRATCH]}, "volumes"),
    ({"volumes": [{"name": "keys", "hostPath": {"path": "/etc"}}]}, "hostPath"),
    ({"volumes": [{"name": "keys", "secret": {"secretName": "keys"}}]}, "secret"),
    ({"volumes": [{"name": "keys", "projected": {"sources": []}}]}, "projected"),
    ({"volumes": [{"name": "keys", "csi": {"driver": "example.com"}}]}, "csi"),
    ({"volumes": [{"name": "keys", "configMap": {"name": "keys"}}]}, "configMap"),
    ({"volumeMounts": [{"name": "data", "mountPath": "/data"}]}, "volumeMounts"),
    ({"volumes": [_SCRATCH], "volumeMounts": [{"name": "scratch"}]}, "mountPath"),
    *(
        ({"volumes": [_SCRATCH], "volumeMounts": [{"name": "scratch", "mountPath": path}]}, field)
        for path, field in (
            ("data", "mountPath"),
            ("/", "mountPath"),
            ("/dev/shm", "mountPath"),
            ("/usr/lib", "mountPath"),
            ("/database", "mountPath"),
            ("/data/../etc", "mountPath"),
            ("/data/", "mountPath"),
        )
    ),
    ({"imagePullSecrets": [{"name": "A"}]}, "name"),
    ({"serviceAccountName": "admin"}, "serviceAccountName"),
    ({"securityContext": {"runAsUser": 0}}, "securityContext"),
    ({"hostNetwork": True}, "hostNetwork"),
)
_ESTIMATOR: Final[tuple[tuple[Spec, str], ...]] = (
    ({}, "builtin"),
    ({"builtin": {}, **SCRIPT}, "builtin"),
    ({"builtin": {}, "functions": {"bundle": SHA}}, "functions"),
    ({"functions": {"bundle": "sha256"}}, "bundle"),
    ({"functions": {}}, "bundle"),
    ({"functions": {"bundle": SHA, "task": "ranking"}}, "task"),
    ({"script": {"bundle": SHA}}, "entry"),
    ({"script": {"bundle": SHA.upper(), "entry": "a.py"}}, "bundle"),
    ({"script": {"bundle": SHA, "entry": "x" * 1025}}, "entry"),
    ({"script": {"bundle": SHA, "entry": "a.py", "args": ["x"] * 257}}, "args"),
    ({"labelingRound": having(ROUND, "job", None)}, "job"),
    ({"labelingRound": having(ROUND, "number", -1)}, "number"),
    ({"labelingRound": having(ROUND, "step", "train")}, "step"),
    ({"labelingRound": having(ROUND, "manifestSha256", "x")}, "manifestSha256"),
    ({"builtin": {}, "env": [{"name": "QUINTILE_TOKEN", "value": "x"}]}, "env"),
    ({"builtin": {}, "env": [{"name": "HOROVOD_RANK", "value": "0"}]}, "env"),
    ({"builtin": {}, "env": [{"name": "PET_NNODES", "value": "0"}]}, "env"),
    ({"builtin": {}, "env": [{"name": "OMPI_COMM", "value": "0"}]}, "env"),
    ({"builtin": {}, "env": [{"name": "TF_CONFIG", "value": "{}"}]}, "env"),
    ({"builtin": {}, "env": [{"name": "1A", "value": "x"}]}, "env"),
    ({"builtin": {}, "env": [{"name": "A-B", "value": "x"}]}, "env"),
    ({"builtin": {}, "env": [{"name": "A", "value": "x" * 1025}]}, "env"),
    ({"builtin": {}, "env": [{"name": f"A{n}", "value": ""} for n in range(129)]}, "env"),
)
_RUN: Final[tuple[tuple[Spec, str], ...]] = (
    ({"mode": "ps"}, "ps.replicas"),
    ({"mode": "ddp", "ps": {"replicas": 1}}, "ps.replicas"),
    ({"mode": "single", "workers": {"replicas": 2}}, "workers"),
    ({"mode": "single", "workers": {"replicas": 1}, "ps": {"replicas": 1}}, "ps.replicas"),
    ({"mode": "ddp", "horovod": {"controller": "mpi"}}, "horovod.controller"),
    ({"horovod": {"controller": "mpi"}}, "horovod.controller"),
    ({"mode": "horovod", "comm": "shm"}, "comm"),
    ({"mode": "ps", "ps": {"replicas": 1}, "comm": "gloo"}, "comm"),
    ({"workers": {"replicas": 2, "min": 3}}, "min"),
    ({"workers": {"replicas": 3, "max": 2}}, "max"),
    ({"mode": "ps", "ps": {"replicas": 1, "staleness": 2}}, "staleness"),
    (
        {"mode": "ps", "ps": {"replicas": 1, "consistency": "async", "staleness": 2}},
        "staleness",
    ),
    (
        {"mode": "ps", "ps": {"replicas": 1, "consistency": "ssp", "staleness": 1001}},
        "staleness",
    ),
    ({"ps": {"consistency": "ssp"}}, "consistency"),
)
_RULES: Final[tuple[Spec, ...]] = (
    {"action": "Fail"},
    {"action": "Fail", "exitCodes": []},
    {"action": "Fail", "logPattern": "*"},
    {"action": "Fail", "logPattern": " * "},
)
_JOB: Final[tuple[tuple[str, object], ...]] = (
    ("dataset", None),
    ("dataset.name", "Digits"),
    ("dataset.version", 0),
    ("task", "detection"),
    ("labels", None),
    ("labels", ["a"]),
    ("labels", [f"l{number}" for number in range(1001)]),
    ("labels", ["a", "x" * 300]),
    ("labels", ["a", "a"]),
    ("labels", ["a", ""]),
    ("labels", ["a", "  "]),
    ("labels", "a,b"),
    ("target.error", "0"),
    ("target.error", "0.5"),
    ("target.error", "-0.1"),
    ("target.error", "2%"),
    ("target.error", 0.02),
    ("target.confidence", "0.4"),
    ("target.confidence", "1"),
    ("target.confidence", "sure"),
    ("target.guarantee", "none"),
    ("target.mode", "loose"),
    ("target.looks", "many"),
    ("target.random", "5 %"),
    ("target.random", "101%"),
    ("strategy.name", "best"),
    ("strategy.batch", "0"),
    ("strategy.batch", "0%"),
    ("strategy.batch", "many"),
    ("strategy.lookahead", 2),
    ("strategy.lookahead", -1),
    ("budget.maxHumanLabels", "-5"),
    ("budget.maxHumanLabels", "120%"),
    ("budget.maxRounds", 0),
    ("budget.maxRounds", 101),
    ("budget.maxChosen", "all"),
    ("finish.uncovered", "drop"),
    ("review.overlap", "half"),
    ("review.annotators", ["x"] * 1001),
    ("model.features", "magic"),
    ("output.version", 1),
    ("seed", -1),
    ("seed", 2**31),
    ("managedBy", 7),
)
_TRIAL: Final[tuple[tuple[str, object], ...]] = (
    ("experiment", None),
    ("experiment", "Digits"),
    ("experimentUid", None),
    ("experimentUid", "x" * 300),
    ("number", -1),
    ("template", None),
    ("template.run.workers.replicas", 0),
    ("template.estimator.builtin.model", "vgg"),
)
_QUEUE: Final[tuple[tuple[str, object], ...]] = (
    ("namespaces", ["Team"]),
    ("namespaces", [f"n{number}" for number in range(257)]),
    ("quota", [{"resource": "disk", "amount": "1"}]),
    ("quota", [{"resource": "gpu"}]),
    ("quota", [{"resource": "gpu", "amount": 8}]),
    ("quota", [{"resource": "gpu", "amount": "8"}, {"resource": "gpu", "amount": "9"}]),
    ("priorities", [{"name": "High", "value": 1}]),
    ("priorities", [{"name": "high", "value": 1_000_001}]),
    ("priorities", [{"name": "high"}]),
    ("priorities", [{"name": "high", "value": 1}, {"name": "high", "value": 2}]),
    ("preemption", "Always"),
    ("maxPendingPerNamespace", 0),
)
_RUNTIME: Final[tuple[tuple[str, object], ...]] = (
    ("image", None),
    ("image", ""),
    ("image", "a b"),
    ("image", "x" * 513),
    ("modes", ["tpu"]),
    ("nodeSelector", {"pool": 5}),
    ("tolerations", [{"operator": "Equal"}]),
    ("tolerations", [{"key": "gpu", "operator": "Exists", "value": "x"}]),
    ("tolerations", [{"key": "gpu", "effect": "Never"}]),
    ("defaults.gpu", -1),
    ("limits.gpu", 65),
    ("priorityClass", "High"),
    ("allowOverrides.labels", ["quintile.dev/trial-uid"]),
    ("allowOverrides.labels", ["batch.kubernetes.io/job-name"]),
    ("allowOverrides.labels", ["controller-uid"]),
    ("allowOverrides.labels", ["x" * 64]),
    ("allowOverrides.annotations", ["container.apparmor.security.beta.kubernetes.io/agent"]),
    ("allowOverrides.annotations", ["sub.k8s.io/a"]),
    ("allowOverrides.volumeClaims", ["Data"]),
    ("allowOverrides.imagePullSecrets", ["a/b"]),
    ("allowOverrides.hostPaths", ["/etc"]),
)


_LOOSE: Final[tuple[tuple[str, str, object], ...]] = (
    ("Experiment", "dataset.version", "1"),
    ("Experiment", "run.useGpu", "yes"),
    ("Experiment", "run.runEval", 1),
    ("Experiment", "run.deterministic", "true"),
    ("Experiment", "run.workers.replicas", "2"),
    ("Experiment", "suspend", "yes"),
    ("LabelingJob", "suspend", 1),
    ("Trial", "number", "0"),
    ("Trial", "hparams", [{"name": "a", "value": "1"}] * 2),
    ("ClusterRuntime", "allowImage", "yes"),
)
"""What the models read generously, and the API server does not."""


def _creates() -> Iterator[Create]:
    for kind, rows in (
        ("Experiment", _EXPERIMENT),
        ("LabelingJob", _JOB),
        ("Trial", _TRIAL),
        ("Queue", _QUEUE),
        ("ClusterRuntime", _RUNTIME),
    ):
        for path, value in rows:
            yield Create(kind, having(FULL[kind], path, value), path.rpartition(".")[2])
    for kind, path, value in _LOOSE:
        field = path.rpartition(".")[2]
        yield Create(kind, having(FULL[kind], path, value), field, loose=True)
    for spec, field in _ESTIMATOR:
        yield Create("Experiment", {"estimator": spec}, field)
    for spec, field in _OVERRIDES:
        yield Create("Experiment", {**BUILTIN, "podOverrides": spec}, field)
    for spec, field in _RUN:
        yield Create("Experiment", {**BUILTIN, "run": spec}, field)
    for rule in _RULES:
        yield Create("Experiment", having(BUILTIN, "failure.rules", [rule]), "failure")
    same = having(having(JOB, "dataset.version", 3), "output.version", 3)
    yield Create("LabelingJob", same, "output.version")


CREATES: Final = tuple(_creates())
