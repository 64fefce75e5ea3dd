"""``quintile dataset``: images become immutable versions, versions get splits."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from quintile.cli.options import Output, OutputOption, ProjectOption

app = typer.Typer(help="Datasets, their immutable versions and splits.", no_args_is_help=True)
Name = Annotated[str, typer.Argument(help="Name of the dataset.")]
Version = Annotated[int, typer.Option("--version", "-v", min=0, help="0 = the newest.")]
REJECTED_SHOWN = 20


class LabelsFrom(StrEnum):
    """Where the labels of an import come from."""

    AUTO = "auto"
    NONE = "none"
    FOLDERS = "folders"
    MANIFEST = "manifest"


@app.command()
def create(
    name: Name,
    description: Annotated[str, typer.Option("--description", help="For people.")] = "",
    project: ProjectOption = None,
) -> None:
    """Make an empty dataset."""
    from quintile.cli import connecting, rendering
    from quintile.core import datasets
    from quintile.sdk import checking

    body = {"name": name, "description": description}
    wanted = checking.parse(datasets.DatasetCreate, body, what="The dataset")
    with connecting.session(project) as session:
        session.run(session.client.datasets.create(session.project, wanted))
    rendering.note(f"dataset {name} created")


@app.command("import")
def import_(
    name: Name,
    source: Annotated[Path, typer.Argument(help="Folder, .zip, .csv, .npz or .npy.")],
    labels: Annotated[
        LabelsFrom,
        typer.Option(
            "--labels", help="auto: those of a csv or npz; folders: folder names; none; manifest."
        ),
    ] = LabelsFrom.AUTO,
    classes: Annotated[
        str, typer.Option("--classes", help="All class names in order.", metavar="A,B,C")
    ] = "",
    images: Annotated[
        Path | None, typer.Option("--images", help="With a .csv: folder or zip of its images.")
    ] = None,
    project: ProjectOption = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Import images as the next version of a dataset, which is made when it is not there.

    Files that cannot be read are left out and listed; the others are imported.
    """
    from quintile.cli import connecting, rendering
    from quintile.sdk import importing, progress

    named = tuple(one.strip() for one in classes.split(",") if one.strip())
    wanted = importing.plan(source, labels_from=labels.value, classes=named, images=images)
    with connecting.session(project) as session:
        client, place = session.client, session.project
        with progress.Progress(f"import {source.name}") as shown:
            report = session.run(
                importing.into(
                    client,
                    place,
                    name,
                    wanted,
                    on_progress=lambda step, done, total: shown.update(done, total, step),
                )
            )
    for one in report.rejected[:REJECTED_SHOWN]:
        row = f" (row {one.row})" if one.row is not None else ""
        rendering.note(f"left out: {one.name}{row}: {one.message}")
    if report.rejected_total > REJECTED_SHOWN:
        rendering.note(f"left out: {report.rejected_total - REJECTED_SHOWN} more; see -o json")
    facts = {
        "dataset": name,
        "version": report.version,
        "imported": report.imported,
        "left out": report.rejected_total,
    }
    rendering.write_one(report.model_dump(), facts, output, name=f"{name}:{report.version}")


@app.command("list")
def list_datasets(project: ProjectOption = None, output: OutputOption = Output.TABLE) -> None:
    """List the datasets of the project."""
    from quintile.cli import connecting, rendering

    with connecting.session(project) as session:
        found = session.collect(session.client.datasets.list(session.project))
    columns: dict[str, list[Any]] = {
        "name": [one.name for one in found],
        "version": [one.newest_version for one in found],
        "items": [one.items for one in found],
        "description": [one.description for one in found],
    }
    rendering.write_list([one.model_dump() for one in found], columns, output, name="name")


@app.command()
def get(
    name: Name,
    version: Version = 0,
    project: ProjectOption = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Show one version of a dataset: items, labels by source, classes, splits."""
    from quintile.cli import connecting, rendering

    with connecting.session(project) as session:
        calls, place = session.client.datasets, session.project
        found = session.run(calls.version(place, name, version))
        splits = session.collect(calls.splits(place, name, found.version))
    facts = {
        "dataset": name,
        "version": found.version,
        "parent": found.parent,
        "items": found.items,
        "labelled": found.labelled,
        "sources": ", ".join(f"{key} {count:,}" for key, count in found.label_sources.items()),
        "classes": ", ".join(one.name for one in found.classes),
        "size": f"{found.bytes / 1e6:,.1f} MB",
        "digest": found.digest,
        "origin": found.origin,
        "created": found.created,
        "splits": "; ".join(
            f"{one.name}: " + ", ".join(f"{part} {count:,}" for part, count in one.parts.items())
            for one in splits
        ),
    }
    document = {**found.model_dump(), "splits": [one.model_dump() for one in splits]}
    rendering.write_one(document, facts, output, name=f"{name}:{found.version}")


@app.command()
def versions(
    name: Name, project: ProjectOption = None, output: OutputOption = Output.TABLE
) -> None:
    """List the versions of a dataset, oldest first."""
    from quintile.cli import connecting, rendering

    with connecting.session(project) as session:
        found = session.collect(session.client.datasets.versions(session.project, name))
    columns: dict[str, list[Any]] = {
        "version": [one.version for one in found],
        "parent": [one.parent for one in found],
        "items": [one.items for one in found],
        "labelled": [one.labelled for one in found],
        "classes": [len(one.classes) for one in found],
        "origin": [one.origin for one in found],
        "created": [one.created for one in found],
    }
    rendering.write_list([one.model_dump() for one in found], columns, output, name="version")


@app.command()
def split(
    name: Name,
    called: Annotated[str, typer.Option("--name", help="Name of the split.")],
    parts: Annotated[
        list[str],
        typer.Option("--part", help="Count, fraction or percentage.", metavar="PART=SIZE"),
    ],
    version: Version = 0,
    rest: Annotated[str, typer.Option("--rest", help="Part of all other items.")] = "train",
    seed: Annotated[int, typer.Option("--seed", help="Of the draw.")] = 0,
    truth: Annotated[
        Path | None, typer.Option("--truth", help="CSV name,label to stratify and evaluate by.")
    ] = None,
    keep_truth: Annotated[
        list[str] | None, typer.Option("--keep-truth", help="Part that keeps true labels.")
    ] = None,
    stratified: Annotated[bool, typer.Option(help="Equal class shares in all parts.")] = True,
    project: ProjectOption = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Split a version into named parts; versions made from it inherit the split.

    Example: quintile dataset split digits --name holdout --part test=360
    """
    from quintile.cli import connecting, rendering, submitting
    from quintile.core import datasets
    from quintile.sdk import checking, data

    body = {
        "name": called,
        "seed": seed,
        "parts": submitting.pairs(parts, "--part"),
        "rest": rest,
        "stratified": stratified,
        "truth": data.truth_text(truth) if truth is not None else "",
        "keep_truth": keep_truth or [],
    }
    wanted = checking.parse(datasets.SplitCreate, body, what="The split")
    with connecting.session(project) as session:
        calls, place = session.client.datasets, session.project
        number = session.run(calls.version(place, name, version)).version
        made = session.run(calls.create_split(place, name, number, wanted))
    facts = {"split": f"{name}:{number}/{made.name}", **made.parts}
    rendering.write_one(made.model_dump(), facts, output, name=str(facts["split"]))


@app.command()
def labels(
    name: Name,
    version: Version = 0,
    to: Annotated[Path | None, typer.Option("--to", help="File; default: stdout.")] = None,
    project: ProjectOption = None,
) -> None:
    """Write the labels of a version with their provenance as CSV."""
    import sys

    from quintile.cli import connecting

    with connecting.session(project) as session:
        text = session.run(session.client.datasets.labels_csv(session.project, name, version))
    if to is not None:
        to.write_bytes(text)
    else:
        sys.stdout.write(text.decode())


@app.command()
def delete(name: Name, project: ProjectOption = None) -> None:
    """Delete a dataset with all its versions."""
    from quintile.cli import connecting, rendering

    with connecting.session(project) as session:
        session.run(session.client.datasets.delete(session.project, name))
    rendering.note(f"dataset {name} deleted")
