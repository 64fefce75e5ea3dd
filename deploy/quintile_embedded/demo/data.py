"""Steps of the demo that make data: the import without labels, and the held-out split."""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass
from typing import Final

from quintile.core import datasets, errors
from quintile.sdk import client as clients
from quintile.sdk import importing, sources
from quintile_embedded.demo import digits, show

DATASET: Final = "digits"
SPLIT: Final = "holdout"
TEST_PART: Final = "test"
TEST_ITEMS: Final = 360
FIRST_VERSION: Final = 1


@dataclass(frozen=True)
class Stage:
    """What every step of the demo works with."""

    client: clients.AsyncClient
    digits: digits.Digits
    seed: int
    project: str = "default"


async def import_images(stage: Stage, step: show.Step) -> datasets.VersionView:
    """Import the images as version 1: classes are known, labels are not.

    Raises:
        RunFailed: An image was left out.
    """
    await importing.ensure_dataset(
        stage.client, stage.project, DATASET, description="8x8 images of handwritten digits"
    )
    source = sources.MemorySource(stage.digits.archive)
    report = await importing.run(
        stage.client,
        stage.project,
        DATASET,
        importing.Plan(source, "zip", labels_from="none", classes=digits.CLASSES),
        on_progress=lambda word, done, total: step.update(done, total, word),
    )
    if report.rejected_total or report.version != FIRST_VERSION:
        raise errors.RunFailed(
            f"The import made version {report.version} and left {report.rejected_total} files out.",
            reason="ImportIncomplete",
        )
    found = await stage.client.datasets.version(stage.project, DATASET, FIRST_VERSION)
    step.update(1, 1, f"{found.items:,} images, {found.labelled} labels")
    return found


async def draw_split(stage: Stage, step: show.Step) -> datasets.SplitView:
    """Draw the test split before anything is chosen or labelled; its truth stays with it."""
    wanted = datasets.SplitCreate(
        name=SPLIT,
        seed=stage.seed,
        parts={TEST_PART: str(TEST_ITEMS)},
        rest="train",
        stratified=True,
        truth=stage.digits.truth_csv(),
        keep_truth=[TEST_PART],
    )
    made = await stage.client.datasets.create_split(stage.project, DATASET, FIRST_VERSION, wanted)
    step.update(1, 1, ", ".join(f"{part} {size:,}" for part, size in made.parts.items()))
    return made


def read_rows(table: bytes) -> list[dict[str, str]]:
    """Return the rows of a CSV answer by column name."""
    return list(csv.DictReader(io.StringIO(table.decode())))
