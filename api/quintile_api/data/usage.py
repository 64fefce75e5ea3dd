"""Who works with a dataset: what an Experiment names must exist, what is in use must stay."""

from __future__ import annotations

from typing import Final

from sqlalchemy import orm

from quintile import ports
from quintile.core import errors, experiment, meta
from quintile_api.data import repository

USERS: Final = ("LabelingJob", "Experiment")
SHOWN: Final = 5


def check_reference(session: orm.Session, project: str, wanted: experiment.DatasetRef) -> None:
    """Check that the version, and the split if one is named, are there.

    Raises:
        NotFound: One is not; names what there is.
    """
    version = repository.find_version(session, project, wanted.name, wanted.version)
    if wanted.split:
        repository.find_split(session, version, wanted.split)


def check_unused(resources: ports.ResourceStore, project: str, name: str) -> None:
    """Check that nothing that still runs reads or labels a dataset.

    Raises:
        Conflict: Something does; names it.
    """
    found = [
        f"{kind} {document['metadata']['name']}"
        for kind in USERS
        for document in resources.list(kind, namespace=project).items
        if _uses(document, name)
    ]
    if not found:
        return
    more = f" and {len(found) - SHOWN} more" if len(found) > SHOWN else ""
    raise errors.Conflict(
        f"Dataset {name!r} is in use by {', '.join(found[:SHOWN])}{more}.",
        hint="Wait until they have ended, or delete them first.",
    )


def _uses(document: meta.Document, name: str) -> bool:
    phase = (document.get("status") or {}).get("phase", "Pending")
    if phase in experiment.TERMINAL:
        return False
    return bool((document["spec"].get("dataset") or {}).get("name") == name)
