"""Where the images of a job are: with the API, under the same origin."""

from __future__ import annotations

from quintile.core import labeling_job
from quintile_labeling import tables


def url(job: tables.Job, spec: labeling_job.LabelingJobSpec, item_id: str) -> str:
    """Return the path of an image, without host."""
    source = spec.dataset
    return (
        f"/api/v1/projects/{job.namespace}/datasets/{source.name}/versions/{source.version}"
        f"/items/{item_id}/image"
    )
