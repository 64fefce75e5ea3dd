"""The Experiment that computes one round of a labeling job. Pure; called by ``core.cycle``."""

from __future__ import annotations

from quintile.core import experiment, facts, labeling_job, meta, names

JOB_LABEL = "quintile.dev/labeling-job"
RESTARTS = 5
DEADLINE_S = 24 * 3600


def name(job: labeling_job.LabelingJob, number: int) -> str:
    """Return the name of the Experiment of a round."""
    return names.round_experiment(job.metadata.name, uid=job.metadata.uid, number=number)


def render(job: labeling_job.LabelingJob, fact: facts.RoundFact) -> experiment.Experiment:
    """Return the Experiment of a closed round: one deterministic process, owned by the job."""
    place = job.metadata
    source = job.spec.dataset
    return experiment.Experiment(
        metadata=meta.ObjectMeta(
            name=name(job, fact.number),
            namespace=place.namespace,
            labels={JOB_LABEL: place.name},
            owner_references=[meta.OwnerReference(kind=job.kind, name=place.name, uid=place.uid)],
        ),
        spec=experiment.ExperimentSpec(
            description=f"Round {fact.number} ({fact.step}) of labeling job {place.name}",
            dataset=experiment.DatasetRef(name=source.name, version=source.version),
            estimator=experiment.EstimatorSpec(
                labeling_round=experiment.LabelingRound(
                    job=place.name,
                    job_uid=place.uid,
                    number=fact.number,
                    step=fact.step,
                    manifest_key=fact.manifest_key,
                    manifest_sha256=fact.manifest_sha256,
                )
            ),
            run=experiment.RunSpec(mode="single", deterministic=True, run_eval=False),
            failure=experiment.FailureSpec(max_restarts=RESTARTS),
            # A round reports no steps, so that silence is not a stall; the deadline ends it.
            telemetry=experiment.TelemetrySpec(progress_timeout_seconds=0, start_timeout_seconds=0),
            active_deadline_seconds=DEADLINE_S,
            suspend=job.spec.suspend,
            managed_by=job.spec.managed_by,
        ),
    )
