"""Rules across fields in CEL, by wire model, so that the API server refuses bad specs by itself.

Each repeats a validator of its model (or of ``core.topology``); a test holds both against one
corpus of good and bad documents. Every immutable field is compared by presence and by value: a
rule on the value alone does not see a field that is removed and added again.
"""

from __future__ import annotations

from dataclasses import dataclass

from pydantic.alias_generators import to_camel

from quintile.core import admin_kinds, experiment, labeling_job, meta, names, pod_spec


@dataclass(frozen=True)
class Rule:
    """One CEL rule; ``path`` is the field that the message is about."""

    rule: str
    message: str
    path: str = ""

    def document(self) -> dict[str, str]:
        """Return the rule as a CRD writes it."""
        shown = {"rule": self.rule, "message": self.message}
        if self.path:
            shown["fieldPath"] = self.path
        return shown


MUTABLE: dict[type[meta.Wire], frozenset[str]] = {
    experiment.ExperimentSpec: frozenset({"suspend", "run"}),
    experiment.RunSpec: frozenset({"workers"}),
    experiment.Workers: frozenset({"replicas"}),
    experiment.TrialSpec: frozenset({"template"}),
    labeling_job.LabelingJobSpec: frozenset({"suspend", "labels", "budget"}),
}

PLACES: dict[type[meta.Wire], str] = {
    experiment.RunSpec: "spec.run",
    experiment.Workers: "spec.run.workers",
}
"""Where a model with immutable fields lies when it is not a spec."""

_PHASE = "oldSelf.status.phase"
_ENDED = ", ".join(f"'{phase}'" for phase in sorted(experiment.TERMINAL))
TERMINAL_LOCK = Rule(
    f"!has(oldSelf.status) || !has({_PHASE}) || !({_PHASE} in [{_ENDED}]) || "
    f"(has(self.status) && has(self.status.phase) && self.status.phase == {_PHASE})",
    "status.phase is final and cannot change",
)


def name_rule(limit: int) -> Rule:
    """Return the rule that leaves room for the suffixes of child names."""
    return Rule(
        f"self.metadata.name.size() <= {limit} && self.metadata.name.matches('^[a-z]')",
        f"metadata.name must begin with a letter and have at most {limit} characters",
    )


RULES: dict[type[meta.Wire], tuple[Rule, ...]] = {
    experiment.Experiment: (name_rule(names.EXPERIMENT_NAME_LIMIT), TERMINAL_LOCK),
    experiment.Trial: (TERMINAL_LOCK,),
    labeling_job.LabelingJob: (name_rule(names.LABELING_JOB_NAME_LIMIT), TERMINAL_LOCK),
    experiment.EstimatorSpec: (
        Rule(
            "[has(self.builtin), has(self.functions), has(self.script), "
            "has(self.labelingRound)].filter(x, x).size() == 1",
            "exactly one of builtin, functions, script, labelingRound is expected",
        ),
        Rule(
            "!has(self.env) || self.env.all(e, !("
            + " || ".join(f"e.name.startsWith('{start}')" for start in experiment.RESERVED_ENV)
            + "))",
            "env names must not begin with a reserved prefix",
            ".env",
        ),
    ),
    experiment.ExperimentSpec: (
        Rule(
            "has(oldSelf.run) == has(self.run)",
            "spec.run cannot change; create a new resource",
        ),
        Rule(
            "!has(self.run) || !has(self.run.workers) || "
            "!(has(self.run.workers.min) || has(self.run.workers.max)) || "
            "has(self.estimator.builtin) || has(self.estimator.functions) || "
            "(has(self.estimator.script) && self.estimator.script.elastic)",
            "elastic runs (workers.min, workers.max) are for built-in models, functions, and "
            "scripts with script.elastic, which keep their state by hvd.elastic or "
            "quintile.checkpoint",
        ),
        Rule(
            "!has(self.secretRefs) || self.secretRefs.all(one, !has(one.mountPath) || "
            "self.secretRefs.exists_one(other, has(other.mountPath) && "
            "other.mountPath == one.mountPath) && "
            "(!has(self.podOverrides) || !has(self.podOverrides.volumeMounts) || "
            "!self.podOverrides.volumeMounts.exists(mount, mount.mountPath == one.mountPath)))",
            "secretRefs has a mountPath where another volume lies",
            ".secretRefs",
        ),
    ),
    experiment.RunSpec: (
        Rule(
            "has(oldSelf.workers) == has(self.workers)",
            "spec.run.workers cannot change; create a new resource",
        ),
        Rule(
            "!(has(self.workers.min) || has(self.workers.max)) || "
            "(self.mode in ['auto', 'ddp'] && self.ps.replicas == 0) || "
            "(self.mode == 'horovod' && self.horovod.controller == 'gloo')",
            "elastic runs (workers.min, workers.max) are for modes ddp and horovod (gloo)",
            ".workers",
        ),
        Rule("self.mode != 'ps' || self.ps.replicas >= 1", "mode ps needs ps.replicas >= 1"),
        Rule(
            "self.mode in ['ps', 'auto'] || self.ps.replicas == 0",
            "ps.replicas is for mode ps alone",
        ),
        Rule(
            "self.mode != 'single' || self.workers.replicas == 1",
            "mode single runs one worker; workers.replicas is above 1",
        ),
        Rule(
            "self.mode == 'horovod' || self.horovod.controller == 'gloo'",
            "horovod.controller is for mode horovod alone",
        ),
        Rule(
            "self.comm == 'auto' || self.mode in ['auto', 'ddp']",
            "comm is for mode ddp alone",
        ),
    ),
    experiment.ParameterServers: (
        Rule(
            "!has(self.staleness) || self.consistency == 'ssp'",
            "staleness is for consistency ssp alone",
            ".staleness",
        ),
        Rule(
            "self.replicas >= 1 || self.consistency == 'sync'",
            "consistency needs replicas >= 1",
            ".consistency",
        ),
    ),
    experiment.Workers: (
        Rule("!has(self.min) || self.min <= self.replicas", "min is above replicas", ".min"),
        Rule("!has(self.max) || self.max >= self.replicas", "max is below replicas", ".max"),
        Rule(
            "self.replicas == oldSelf.replicas || "
            "((has(self.min) || has(self.max)) && "
            "self.replicas >= (has(self.min) ? self.min : oldSelf.replicas) && "
            "self.replicas <= (has(self.max) ? self.max : oldSelf.replicas))",
            "replicas can change between min and max, of an elastic run alone",
            ".replicas",
        ),
    ),
    experiment.FailureRule: (
        Rule(
            "(has(self.exitCodes) && self.exitCodes.size() > 0) || "
            "(has(self.logPattern) && self.logPattern.matches('[^* ]'))",
            "a failure rule needs exitCodes, or a logPattern with more in it than *",
        ),
    ),
    pod_spec.Volume: (
        Rule(
            "has(self.emptyDir) != has(self.persistentVolumeClaim)",
            "exactly one of emptyDir, persistentVolumeClaim is expected",
        ),
    ),
    pod_spec.PodOverrides: (
        Rule(
            "!has(self.volumeMounts) || self.volumeMounts.all(mount, has(self.volumes) && "
            "self.volumes.exists(volume, volume.name == mount.name))",
            "volumeMounts names a volume that volumes lacks",
            ".volumeMounts",
        ),
    ),
    pod_spec.AllowedOverrides: tuple(
        Rule(
            f"!has(self.{field}) || "
            f"!self.{field}.exists(name, name.matches('{pod_spec.RESERVED}'))",
            f"{field} holds a name that no user may set",
            f".{field}",
        )
        for field in ("labels", "annotations")
    ),
    admin_kinds.Toleration: (
        Rule(
            "(has(self.key) && self.key != '') || self.operator == 'Exists'",
            "a toleration without a key needs operator Exists",
            ".operator",
        ),
        Rule(
            "!has(self.value) || self.value == '' || self.operator == 'Equal'",
            "a toleration with operator Exists has no value",
            ".value",
        ),
    ),
    labeling_job.Target: (
        Rule(
            "double(self.error) > 0.0 && double(self.error) < 0.5",
            "error must lie between 0 and 0.5, as 0.02",
            ".error",
        ),
        Rule(
            "double(self.confidence) >= 0.5 && double(self.confidence) < 1.0",
            "confidence must lie between 0.5 and 1, as 0.95",
            ".confidence",
        ),
    ),
    labeling_job.LabelingJobSpec: (
        Rule(
            "oldSelf.labels.all(i, label, i < self.labels.size() && self.labels[i] == label)",
            "labels can only grow at its end; known labels keep their places",
            ".labels",
        ),
        Rule(
            "self.labels.all(label, label.matches('[^ ]'))",
            "labels holds an empty name; give every class a name",
            ".labels",
        ),
        Rule(
            "!has(self.output.version) || self.output.version != self.dataset.version",
            "output.version is the input version; versions are immutable",
        ),
    ),
}


def of(model: type[meta.Wire]) -> list[Rule]:
    """Return the rules of one model: immutable fields first, then its own."""
    fixed: list[Rule] = []
    if model in MUTABLE:
        aliases = [to_camel(name) for name in model.model_fields if name not in MUTABLE[model]]
        fixed = [
            Rule(
                f"has(self.{alias}) == has(oldSelf.{alias}) && "
                f"(!has(self.{alias}) || self.{alias} == oldSelf.{alias})",
                f"{PLACES.get(model, 'spec')}.{alias} cannot change; create a new resource",
            )
            for alias in aliases
        ]
    return [*fixed, *RULES.get(model, ())]
