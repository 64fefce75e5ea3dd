"""Which trials an Experiment has. Pure.

Called by ``core.reconcile`` and by the API for a dry run. An Experiment without a search has one
trial, number 0, with the hyperparameters of its spec; a search adds more numbers at this seam.
"""

from __future__ import annotations

from quintile.core import experiment, meta, names

EXPERIMENT_LABEL = "quintile.dev/experiment"


def trials(parent: experiment.Experiment) -> tuple[experiment.Trial, ...]:
    """Return the trials that shall exist, complete but for what the store adds."""
    return (_trial(parent, number=0, hparams=parent.spec.hparams),)


def owner(parent: experiment.Experiment) -> meta.OwnerReference:
    """Return the reference by which an Experiment owns its trials."""
    return meta.OwnerReference(kind=parent.kind, name=parent.metadata.name, uid=parent.metadata.uid)


def _trial(
    parent: experiment.Experiment, *, number: int, hparams: list[experiment.Parameter]
) -> experiment.Trial:
    uid, workers = parent.metadata.uid, parent.spec.run.workers
    return experiment.Trial(
        metadata=meta.ObjectMeta(
            name=names.trial(parent.metadata.name, uid=uid, number=number),
            namespace=parent.metadata.namespace,
            labels={EXPERIMENT_LABEL: parent.metadata.name},
            owner_references=[owner(parent)],
        ),
        spec=experiment.TrialSpec(
            experiment=parent.metadata.name,
            experiment_uid=uid,
            number=number,
            hparams=hparams,
            batch_workers=workers.replicas if workers.elastic else None,
            template=parent.spec,
        ),
    )
