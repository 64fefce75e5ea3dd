"""Sends a source and waits until it is a dataset version; used by SDK and command line."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

from quintile.core import datasets, errors
from quintile.sdk import checking, sources
from quintile.sdk import client as clients

PIECE_BYTES: Final = 8 * 1024 * 1024
FIRST_WAIT_S: Final = 0.1
LONGEST_WAIT_S: Final = 1.0

Kind = Literal["zip", "csv", "numpy"]
LabelsFrom = Literal["auto", "none", "folders", "manifest"]
Step = Literal["reading", "sending", "importing"]
OnProgress = Callable[[Step, int, int], None]
"""Called with the step, what is done, and of how much: bytes while sending, files afterwards."""


@dataclass(frozen=True)
class Plan:
    """What is imported, and how: the fields of ``datasets.ImportCreate`` around a source."""

    source: sources.Source
    kind: Kind
    labels_from: LabelsFrom = "auto"
    manifest: str = ""
    classes: tuple[str, ...] = ()

    def request(self, upload_id: str) -> datasets.ImportCreate:
        """Return the request for an upload."""
        body: dict[str, Any] = {
            "upload_id": upload_id,
            "kind": self.kind,
            "manifest": self.manifest,
            "classes": list(self.classes),
            "labels_from": self.labels_from,
        }
        return checking.parse(datasets.ImportCreate, body, what="The import")


def plan(
    path: Path,
    *,
    labels_from: LabelsFrom = "auto",
    classes: tuple[str, ...] = (),
    images: Path | None = None,
) -> Plan:
    """Return how to import a folder, a zip, a CSV table or a NumPy file, told by its name.

    Args:
        path: The source.
        labels_from: Where labels come from.
        classes: All class names in order; empty = those that occur.
        images: With a CSV table: the folder or zip of its images; None = the table's folder.

    Raises:
        InvalidSpec: There is no such file, or it is of another kind.
    """
    source, kind, manifest = _opened(path, images)
    return Plan(source, kind, labels_from, manifest, classes)


def _opened(path: Path, images: Path | None) -> tuple[sources.Source, Kind, str]:
    if path.is_dir():
        return sources.folder(path), "zip", ""
    if not path.is_file():
        raise errors.InvalidSpec(
            f"There is no file or folder {str(path)!r}.",
            hint="Give a folder of images, or a .zip, .csv, .npz or .npy file.",
            field="source",
        )
    suffix = path.suffix.lower()
    if suffix == ".csv":
        manifest = _read_text(path)
        names = sources.names_of_csv(manifest)
        place = images or path.parent
        if place.is_dir():
            return sources.listed(place, names), "csv", manifest
        return sources.FileSource(place), "csv", manifest
    if suffix == ".zip":
        return sources.FileSource(path), "zip", ""
    if suffix in (".npz", ".npy"):
        return sources.FileSource(path), "numpy", ""
    raise errors.InvalidSpec(
        f"{path.name} is no source that can be imported.",
        hint="Give a folder of images, or a .zip, .csv, .npz or .npy file.",
        field="source",
    )


async def run(
    client: clients.AsyncClient,
    project: str,
    dataset: str,
    wanted: Plan,
    *,
    on_progress: OnProgress | None = None,
) -> datasets.ImportView:
    """Send a source and wait for its import; return the report, which may list rejected files.

    Raises:
        InvalidSpec: Nothing could be imported; says why.
    """
    tell = on_progress or (lambda _step, _done, _total: None)
    tell("reading", 0, 0)
    measured = await asyncio.to_thread(sources.measure, wanted.source)
    upload = await _send(client, project, wanted.source, measured, tell)
    found = await client.datasets.create_import(project, dataset, wanted.request(upload.id))
    wait_s = FIRST_WAIT_S
    while found.state in ("queued", "running"):
        tell("importing", found.done, found.total)
        await asyncio.sleep(wait_s)
        wait_s = min(LONGEST_WAIT_S, wait_s * 1.5)
        found = await client.datasets.get_import(project, dataset, found.id)
    tell("importing", found.done, found.total)
    if found.state == "failed":
        raise errors.InvalidSpec(
            f"Nothing was imported into {dataset!r}: {found.problem}", field="source"
        )
    return found


async def ensure_dataset(
    client: clients.AsyncClient, project: str, name: str, *, description: str = ""
) -> datasets.DatasetView:
    """Return a dataset, made when it is not there.

    Raises:
        InvalidSpec: The name cannot be one of a dataset.
    """
    view, _made = await _ensure(client, project, name, description)
    return view


async def into(
    client: clients.AsyncClient,
    project: str,
    name: str,
    wanted: Plan,
    *,
    on_progress: OnProgress | None = None,
) -> datasets.ImportView:
    """Import into a dataset that is made when it is not there; a failure leaves none behind.

    Raises:
        InvalidSpec: Nothing could be imported; says why.
    """
    _view, made = await _ensure(client, project, name, "")
    try:
        return await run(client, project, name, wanted, on_progress=on_progress)
    except errors.QuintileError:
        if made:
            with contextlib.suppress(errors.QuintileError):
                await client.datasets.delete(project, name)
        raise


async def _ensure(
    client: clients.AsyncClient, project: str, name: str, description: str
) -> tuple[datasets.DatasetView, bool]:
    """Return the dataset, and whether it was made here."""
    body = {"name": name, "description": description}
    wanted = checking.parse(datasets.DatasetCreate, body, what="The dataset")
    try:
        return await client.datasets.get(project, wanted.name), False
    except errors.NotFound:
        return await client.datasets.create(project, wanted), True


async def _send(
    client: clients.AsyncClient,
    project: str,
    source: sources.Source,
    measured: sources.Measured,
    tell: OnProgress,
) -> datasets.UploadView:
    wanted = datasets.UploadCreate(size=measured.size_bytes, sha256=measured.sha256)
    upload = await client.uploads.create(project, wanted)
    reading = sources.pieces(source, size_bytes=PIECE_BYTES, skip_bytes=upload.offset)
    while not upload.complete:
        data = await asyncio.to_thread(next, reading, b"")
        if not data and upload.offset < upload.size:
            raise errors.InvalidSpec(
                f"{source} became smaller while it was sent.", hint="Import it again."
            )
        tell("sending", upload.offset, upload.size)
        upload = await _append(client, project, upload, data)
    tell("sending", upload.size, upload.size)
    return upload


async def _append(
    client: clients.AsyncClient, project: str, upload: datasets.UploadView, data: bytes
) -> datasets.UploadView:
    """Send a piece; one whose answer was lost has arrived already."""
    try:
        return await client.uploads.append(project, upload.id, offset=upload.offset, data=data)
    except errors.Conflict:
        found = await client.uploads.get(project, upload.id)
        if found.offset != upload.offset + len(data):
            raise
        return found


def _read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise errors.InvalidSpec(
            f"{path} cannot be read as UTF-8 text: {error}.",
            hint="Save the table as UTF-8, with the columns file,label.",
            field="manifest",
        ) from error
