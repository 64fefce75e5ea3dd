"""Digits imported through the public API, with or without labels, for end-to-end tests."""

from __future__ import annotations

import io
import zipfile
from typing import Final

from quintile.core import datasets
from quintile.sdk import client as clients
from quintile.sdk import importing, sources
from quintile.testing import digits

PROJECT: Final = "default"
DATASET: Final = "digits"


def truth(items: int) -> dict[str, str]:
    """Return the true label by file name of the first ``items`` digits."""
    return {_name(place): str(digit) for place, (_, digit) in enumerate(digits.pngs()[:items])}


async def import_digits(
    client: clients.AsyncClient,
    *,
    items: int,
    labelled: bool,
    dataset: str = DATASET,
    project: str = PROJECT,
) -> datasets.ImportView:
    """Make the first version of a dataset from the first ``items`` digits."""
    await importing.ensure_dataset(client, project, dataset)
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as file:
        for place, (data, digit) in enumerate(digits.pngs()[:items]):
            file.writestr(f"{digit}/{_name(place)}" if labelled else _name(place), data)
    plan = importing.Plan(
        sources.MemorySource(archive.getvalue()),
        "zip",
        labels_from="folders" if labelled else "none",
        classes=digits.CLASSES,
    )
    return await importing.run(client, project, dataset, plan)


def _name(place: int) -> str:
    return f"{place:04d}.png"
