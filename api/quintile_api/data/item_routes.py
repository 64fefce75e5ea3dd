"""Routes of items: lists, images, thumbnails, labels, provenance. All read-only.

Images come from strangers: they were decoded once before they were stored, their type is one of a
short list, and every answer is sandboxed; thumbnails are re-encoded and carry no metadata.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Final

import fastapi
from fastapi import responses

from quintile.adapters import dataset_tables
from quintile.core import datasets, errors
from quintile_api import access, context, objects, paging
from quintile_api.data import catalogue, reading, repository, service, tables

NDJSON: Final = "application/x-ndjson"
_SAFE: Final = {
    "Content-Security-Policy": "sandbox; default-src 'none'",
    "Cache-Control": "private, max-age=31536000, immutable",
    "X-Content-Type-Options": "nosniff",
}
Number = Annotated[int, fastapi.Path(ge=0, le=2**31 - 1)]
ItemId = Annotated[str, fastapi.Path(min_length=1, max_length=64)]

router = fastapi.APIRouter(
    prefix="/projects/{project}/datasets/{name}/versions/{version}", tags=["items"]
)


def find_version(project: str, name: str, version: Number, ctx: context.Current) -> tables.Version:
    """Return the version of the path; number 0 means the newest."""
    with ctx.database.read() as session:
        return repository.find_version(session, project, name, version)


Version = Annotated[tables.Version, fastapi.Depends(find_version)]


def find_item(found: Version, parts: service.Parts, item_id: ItemId) -> dataset_tables.Item:
    """Return the item of the path."""
    index = parts.catalogue.index(found)
    return index.manifest.item(index.row_of(item_id))


Item = Annotated[dataset_tables.Item, fastapi.Depends(find_item)]


@dataclass(frozen=True)
class ItemQuery:
    """Which items are asked for; ``split`` says of which split ``part`` is."""

    wanted: catalogue.Filter
    split: str


def read_query(
    label: str | None = None,
    source: str | None = None,
    part: str | None = None,
    split: str = "",
) -> ItemQuery:
    """Read the filters of a list of items; ``source=none`` means unlabelled."""
    return ItemQuery(catalogue.Filter(label=label, source=source, part=part), split)


Query = Annotated[ItemQuery, fastapi.Depends(read_query)]


@router.get("/items")
def list_items(
    _caller: access.Viewer,
    ctx: context.Current,
    parts: service.Parts,
    found: Version,
    page: paging.Page,
    query: Query,
) -> paging.Listed[datasets.ItemView]:
    """Return items by id, filtered by label, source and part of a split."""
    index = parts.catalogue.index(found)
    split = _split(ctx, parts, found, query) if query.wanted.part is not None else None
    rows = index.rows(
        query.wanted,
        after=page.after[0] if page.after else "",
        limit=page.limit + 1,
        split=split,
    )
    items = index.views(rows[: page.limit])
    more = len(rows) > page.limit
    return paging.Listed(
        items=items, next_cursor=paging.encode(items[-1].item_id) if more else None
    )


@router.get("/items.ndjson", response_class=responses.StreamingResponse)
def stream_items(
    _caller: access.Viewer, parts: service.Parts, found: Version
) -> responses.StreamingResponse:
    """Return all items in order of id, one ``ItemView`` a line."""
    return responses.StreamingResponse(parts.catalogue.index(found).lines(), media_type=NDJSON)


@router.get("/labels.csv", response_class=responses.StreamingResponse)
def stream_labels(
    _caller: access.Viewer, parts: service.Parts, found: Version
) -> responses.StreamingResponse:
    """Return the labels of all items with their provenance as CSV."""
    return responses.StreamingResponse(
        reading.labels_csv(parts.catalogue.index(found)),
        media_type="text/csv; charset=utf-8",
        headers={"Content-Disposition": "attachment; filename=labels.csv"},
    )


@router.get("/items/{item_id}")
def get_item(
    _caller: access.Viewer, parts: service.Parts, found: Version, item_id: ItemId
) -> datasets.ItemView:
    """Return one item."""
    index = parts.catalogue.index(found)
    return index.views([index.row_of(item_id)])[0]


@router.get("/why/{item_id}")
def why(
    _caller: access.Viewer,
    ctx: context.Current,
    parts: service.Parts,
    found: Version,
    item_id: ItemId,
) -> datasets.WhyView:
    """Return where an item and its label came from, newest version first."""
    with ctx.database.read() as session:
        return reading.why(session, parts.catalogue, found, item_id)


@router.get("/items/{item_id}/image", response_class=fastapi.Response)
def read_image(
    _caller: access.Viewer,
    ctx: context.Current,
    found: Version,
    item: Item,
    range: Annotated[str, fastapi.Header()] = "",
    if_none_match: Annotated[str, fastapi.Header()] = "",
) -> fastapi.Response:
    """Return the stored bytes of an image, whole or one range."""
    headers = {**_SAFE, "ETag": f'"{item.sha256}"', "Accept-Ranges": "bytes"}
    if headers["ETag"] in if_none_match:
        return fastapi.Response(status_code=304, headers=headers)
    span = objects.parse_range(range, item.size)
    if span is None:
        return fastapi.Response(
            status_code=416, headers={**headers, "Content-Range": f"bytes */{item.size}"}
        )
    start, end = span
    partial = (start, end) != (0, item.size)
    if partial:
        headers["Content-Range"] = f"bytes {start}-{end - 1}/{item.size}"
    data = reading.image_bytes(ctx.objects, found, item, start=start, length=end - start)
    return fastapi.Response(
        data,
        status_code=206 if partial else 200,
        headers=headers,
        media_type=reading.MEDIA_TYPES[item.format],
    )


@router.get("/items/{item_id}/thumbnail", response_class=fastapi.Response)
def read_thumbnail(
    _caller: access.Viewer,
    ctx: context.Current,
    parts: service.Parts,
    found: Version,
    item: Item,
    size: Annotated[int, fastapi.Query(ge=1, le=1024)] = 256,
) -> fastapi.Response:
    """Return a small WebP of an image, upright, without metadata."""
    data = reading.thumbnail(ctx.objects, parts.thumbnails, found, item, size=size)
    return fastapi.Response(data, headers=_SAFE, media_type="image/webp")


def _split(
    ctx: context.Context, parts: service.DataParts, found: tables.Version, query: ItemQuery
) -> dataset_tables.Split:
    with ctx.database.read() as session:
        if query.split:
            row = repository.find_split(session, found, query.split)
        else:
            rows = repository.splits_of(session, found)
            if len(rows) != 1:
                known = ", ".join(one.name for one in rows) or "none"
                raise errors.InvalidSpec(
                    f"The part {query.wanted.part!r} needs a split; this version has: {known}.",
                    hint="Add ?split=NAME.",
                    field="split",
                )
            row = rows[0]
    if query.wanted.part not in row.parts:
        raise errors.InvalidSpec(
            f"Split {row.name!r} has no part {str(query.wanted.part)[:40]!r}; it has: "
            f"{', '.join(row.parts)}.",
            field="part",
        )
    return parts.catalogue.split(row.key)
