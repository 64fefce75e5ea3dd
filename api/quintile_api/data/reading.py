"""What is read from a version: image bytes, thumbnails, labels as CSV, provenance, trial access."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from typing import Final

from sqlalchemy import orm

from quintile import ports
from quintile.adapters import dataset_tables
from quintile.core import datasets, errors, messages, names
from quintile_api.data import catalogue, decoders, repository, tables

EDGES: Final = (64, 128, 256, 512, 1024)
"""Sizes in which thumbnails are made and kept; a request gets the next larger one."""

MEDIA_TYPES: Final = {
    "JPEG": "image/jpeg",
    "PNG": "image/png",
    "WEBP": "image/webp",
    "BMP": "image/bmp",
    "GIF": "image/gif",
    "TIFF": "image/tiff",
}
CSV_OF_ITEM: Final = ("name", "item_id")
CSV_OF_LABEL: Final = (
    "label",
    "source",
    "score",
    "round",
    "annotation_id",
    "model_sha256",
    "certificate_id",
    "time",
)


def dataset_access(
    session: orm.Session,
    objects: ports.ObjectStore,
    place: tuple[str, str],
    *,
    version: int,
    split: str,
    ttl_s: int,
) -> messages.DatasetAccess:
    """Return what a trial needs to read a version; ``place`` is (project, dataset name).

    Raises:
        NotFound: No such dataset, version or split.
    """
    project, name = place
    row = repository.find_version(session, project, name, version)

    def url(key: str) -> str:
        return objects.url(key, method="GET", ttl_s=ttl_s)

    return messages.DatasetAccess(
        name=name,
        version=row.version,
        digest=row.digest,
        items=row.items,
        classes=list(row.classes),
        manifest_url=url(row.manifest_key),
        manifest_sha256=row.manifest_sha256,
        labels_url=url(row.labels_key),
        labels_sha256=row.labels_sha256,
        split_url=url(repository.find_split(session, row, split).key) if split else "",
        shards=[
            messages.ShardAccess(
                index=index, size=shard["size"], sha256=shard["sha256"], url=url(shard["key"])
            )
            for index, shard in enumerate(row.shards)
        ],
    )


def image_bytes(
    objects: ports.ObjectStore,
    row: tables.Version,
    item: dataset_tables.Item,
    *,
    start: int = 0,
    length: int | None = None,
) -> bytes:
    """Return the stored bytes of an image, or a range of them."""
    left = item.size - start
    wanted = left if length is None else min(length, left)
    return objects.get(row.shards[item.shard]["key"], start=item.offset + start, length=wanted)


def thumbnail(
    objects: ports.ObjectStore,
    pool: decoders.DecoderPool,
    row: tables.Version,
    item: dataset_tables.Item,
    *,
    size: int,
) -> bytes:
    """Return a WebP of an item, re-encoded without metadata; made once, then kept.

    Raises:
        Unavailable: It could not be made.
    """
    edge = next((edge for edge in EDGES if edge >= size), EDGES[-1])
    key = names.thumbnail_key(row.dataset_uid, item.item_id, size=edge)
    try:
        return objects.get(key)
    except errors.NotFound:
        data = image_bytes(objects, row, item)
    with pool.borrow() as decoder:
        made = decoder.thumbnail(data, edge=edge)
    if isinstance(made, decoders.Refusal):
        raise errors.Unavailable(
            f"No thumbnail of {item.name!r} can be made: {made.message}.",
            hint="Open the image itself.",
        )
    try:
        objects.put(key, made)
    except errors.Conflict:
        # Another request, or another version of the encoder, was first: its picture is as good.
        return objects.get(key)
    except errors.StoreFull:
        # A full disk costs the copy that is kept, not the picture.
        return made
    return made


def labels_csv(index: catalogue.Index) -> Iterator[str]:
    """Yield the labels of all items as CSV; unlabelled items have empty columns."""
    yield ",".join((*CSV_OF_ITEM, *CSV_OF_LABEL)) + "\r\n"
    for rows in index.windows():
        sink = io.StringIO()
        columns = index.columns(rows, of_item=CSV_OF_ITEM, of_label=CSV_OF_LABEL)
        csv.writer(sink).writerows(zip(*columns, strict=True))
        yield sink.getvalue()


def why(
    session: orm.Session, held: catalogue.Catalogue, row: tables.Version, item_id: str
) -> datasets.WhyView:
    """Return where an item and its label came from, newest version first.

    Raises:
        NotFound: No such item.
    """
    index = held.index(row)
    item = index.views([index.row_of(item_id)])[0]
    steps: list[datasets.WhyStep] = []
    current: tables.Version | None = row
    while current is not None:
        steps.append(_step(held.index(current), current, item_id))
        parent = (current.dataset_uid, current.parent)
        current = session.get(tables.Version, parent) if current.parent is not None else None
    return datasets.WhyView(item=item, steps=steps)


def _step(index: catalogue.Index, row: tables.Version, item_id: str) -> datasets.WhyStep:
    label_row = int(index.label_rows[index.row_of(item_id)])
    label = index.labels.labels([label_row])[0] if label_row >= 0 else None
    return datasets.WhyStep(
        version=row.version,
        origin=row.origin,
        created=repository.stamp(row.created_s),
        label=datasets.LabelRow(
            item_id=label.item_id,
            label=label.label,
            source=label.source,
            annotation_id=label.annotation_id,
            round=label.round,
            model_sha256=label.model_sha256,
            score=label.score,
            certificate_id=label.certificate_id,
            schema_version=label.schema_version,
            time=label.time,
        )
        if label
        else None,
    )
