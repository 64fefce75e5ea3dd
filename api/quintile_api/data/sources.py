"""Kinds of sources: which fields go with which kind, and which reader opens it."""

from __future__ import annotations

import io

from quintile.core import datasets, errors
from quintile_api.data import archives, arrays, candidates, tables_csv


def find(source: io.BufferedReader, request: datasets.ImportCreate) -> candidates.Found:
    """Return what an upload holds, before any image is decoded.

    Raises:
        InvalidSpec, TooLarge: The source as a whole cannot be taken.
    """
    labelled = request.labels_from != "none"
    if request.kind == "numpy":
        return arrays.images(source, classes=request.classes, labelled=labelled)
    archive = archives.open_archive(source)
    if request.kind == "zip":
        return archives.images(
            archive, classes=request.classes, from_folders=request.labels_from == "folders"
        )
    table = tables_csv.read(request.manifest, key="file", field="manifest")
    if request.labels_from == "manifest" and not table.labelled:
        raise errors.InvalidSpec(
            "The manifest has no column 'label', but labels_from is 'manifest'.",
            hint="Begin the manifest with a header row: file,label",
            field="manifest",
        )
    rows = table.rows if labelled else [(row, name, None) for row, name, _ in table.rows]
    found = archives.listed(archive, rows, classes=request.classes)
    return candidates.Found(found.candidates, (*table.rejected, *found.rejected), found.classes)


def check_fields(request: datasets.ImportCreate) -> None:
    """Check that the fields of a request fit together.

    Raises:
        InvalidSpec: They do not.
    """
    if request.kind == "csv" and not request.manifest.strip():
        raise errors.InvalidSpec(
            "An import of kind 'csv' needs the manifest, and it is empty.",
            hint="Send the text of the CSV with the columns file,label as manifest.",
            field="manifest",
        )
    if request.kind != "csv" and request.manifest:
        raise errors.InvalidSpec(
            f"An import of kind {request.kind!r} takes no manifest.",
            hint="Use kind 'csv', or leave the manifest out.",
            field="manifest",
        )
    if request.labels_from == "folders" and request.kind != "zip":
        raise errors.InvalidSpec(
            f"labels_from 'folders' does not fit kind {request.kind!r}; expected kind 'zip'.",
            field="labels_from",
        )
    if request.labels_from == "manifest" and request.kind != "csv":
        raise errors.InvalidSpec(
            f"labels_from 'manifest' does not fit kind {request.kind!r}; expected kind 'csv'.",
            field="labels_from",
        )
