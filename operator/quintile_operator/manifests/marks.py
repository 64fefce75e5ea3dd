"""Labels and annotations of everything that belongs to a trial in the cluster. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from quintile.core import meta, names, runplan

TRIAL: Final = "quintile.dev/trial"
TRIAL_UID: Final = "quintile.dev/trial-uid"
ATTEMPT: Final = "quintile.dev/attempt"
ROLE: Final = "quintile.dev/role"
MANAGED_BY: Final = "quintile.dev/managed-by"
OPERATOR: Final = "quintile-operator"
INDEX: Final = "batch.kubernetes.io/job-completion-index"
JOB_NAME: Final = "batch.kubernetes.io/job-name"

WORDS: Final = "quintile.dev/unschedulable"
"""Annotation of a Job that was suspended because its pods found no node: the scheduler's words."""

RESUME: Final = "quintile.dev/resume-after"
"""Annotation: when such a Job is tried again (seconds since the epoch)."""

TRIES: Final = "quintile.dev/placements"
"""Annotation: how often its pods were taken back."""

OURS: Final = f"{MANAGED_BY}={OPERATOR}"
"""Selects all objects of all trials."""


def of_trial(run: runplan.RunPlan) -> dict[str, str]:
    """Return the labels of what belongs to a trial, whichever attempt."""
    return {TRIAL: run.trial, TRIAL_UID: run.trial_uid, MANAGED_BY: OPERATOR}


def of_role(run: runplan.RunPlan, role: str) -> dict[str, str]:
    """Return the labels of a role of an attempt."""
    return {**of_trial(run), ATTEMPT: str(run.attempt), ROLE: role}


def selector(trial_uid: str, attempt: int | None = None) -> str:
    """Return what selects the objects of a trial, or of one attempt."""
    one = "" if attempt is None else f",{ATTEMPT}={attempt}"
    return f"{TRIAL_UID}={trial_uid}{one}"


def metadata(
    run: runplan.RunPlan, part: str, *, attempt: int | None, labels: Mapping[str, str]
) -> meta.Document:
    """Return name, labels and owner of an object; it goes when its Trial does."""
    return {
        "name": names.cluster_child(run.trial, uid=run.trial_uid, attempt=attempt, part=part),
        "namespace": run.namespace,
        "labels": dict(sorted(labels.items())),
        "ownerReferences": [
            {
                "apiVersion": meta.API_VERSION,
                "kind": "Trial",
                "name": run.trial,
                "uid": run.trial_uid,
                "controller": True,
                "blockOwnerDeletion": False,
            }
        ],
    }
