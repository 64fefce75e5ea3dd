"""A table of changes that a good spec cannot undergo: each immutable field, however it changes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from quintile.core import crd_rules, experiment, labeling_job, meta
from quintile.testing.invalid_specs import BASES, BUILTIN, JOB, Spec, having


@dataclass(frozen=True)
class Update:
    """A change of a good spec that is refused; ``field`` is the one below ``spec``."""

    kind: str
    before: Spec
    after: Spec
    field: str
    what: str

    @property
    def name(self) -> str:
        """How a test calls it."""
        return f"{self.kind}-{self.field}-{self.what}"


_CHANGED: Final[Mapping[str, Mapping[str, tuple[object, object]]]] = {
    "Experiment": {
        "description": ("one", "two"),
        "dataset": ({"name": "a", "version": 1}, {"name": "a", "version": 2}),
        "estimator": (BUILTIN["estimator"], {"builtin": {"model": "resnet18"}}),
        "hparams": ([{"name": "a", "value": "1"}], [{"name": "a", "value": "2"}]),
        "run": ({"mode": "ddp"}, {"mode": "horovod"}),
        "checkpoint": ({"everySteps": 5}, {"everySteps": 6}),
        "telemetry": ({"summaryEverySteps": 5}, {"summaryEverySteps": 6}),
        "failure": ({"maxRestarts": 5}, {"maxRestarts": 6}),
        "queue": ("a", "b"),
        "priority": ("a", "b"),
        "runtime": ("a", "b"),
        "image": ("a", "b"),
        "secretRefs": ([{"name": "a"}], [{"name": "a", "mountPath": "/secrets/a"}]),
        "podOverrides": (
            {"labels": [{"name": "a", "value": "1"}]},
            {"labels": [{"name": "a", "value": "2"}]},
        ),
        "activeDeadlineSeconds": (5, 6),
        "managedBy": ("a", "b"),
    },
    "LabelingJob": {
        "dataset": ({"name": "a", "version": 1}, {"name": "a", "version": 2}),
        "target": ({"error": "0.05"}, {"error": "0.03"}),
        "strategy": ({"name": "margin"}, {"name": "entropy"}),
        "finish": ({"uncovered": "autoUncertified"}, {"uncovered": "leave"}),
        "review": ({"overlap": "5%"}, {"overlap": "6%"}),
        "output": ({"version": 5}, {"version": 6}),
        "seed": (1, 2),
        "managedBy": ("a", "b"),
    },
    "Trial": {
        "experiment": ("a", "b"),
        "experimentUid": ("a", "b"),
        "number": (1, 2),
        "batchWorkers": (1, 2),
        "hparams": ([{"name": "a", "value": "1"}], [{"name": "a", "value": "2"}]),
    },
}
_MODELS: Final[Mapping[str, type[meta.Wire]]] = {
    "Experiment": experiment.ExperimentSpec,
    "LabelingJob": labeling_job.LabelingJobSpec,
    "Trial": experiment.TrialSpec,
}


def _updates() -> Iterator[Update]:
    for kind, fields in _CHANGED.items():
        model = _MODELS[kind]
        aliases = {info.alias or name: info for name, info in model.model_fields.items()}
        for field, (one, other) in fields.items():
            with_one = having(BASES[kind], field, one)
            yield Update(kind, with_one, having(BASES[kind], field, other), field, "changed")
            # A field that is left out of a spec that had it, then given another value again.
            if not aliases[field].is_required():
                without = having(BASES[kind], field, None)
                yield Update(kind, with_one, without, field, "removed")
                yield Update(kind, without, with_one, field, "added")
    for labels, what in ((["1", "0"], "reordered"), (["0"], "removed"), (["0", "2"], "renamed")):
        yield Update("LabelingJob", JOB, {**JOB, "labels": labels}, "labels", what)


UPDATES: Final = tuple(_updates())
IMMUTABLE: Final[Mapping[str, frozenset[str]]] = {
    kind: frozenset(
        info.alias or name
        for name, info in model.model_fields.items()
        if name not in crd_rules.MUTABLE[model]
    )
    for kind, model in _MODELS.items()
}
COVERED: Final[Mapping[str, frozenset[str]]] = {
    kind: frozenset(fields) for kind, fields in _CHANGED.items()
}
