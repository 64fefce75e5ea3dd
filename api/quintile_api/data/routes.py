"""Routes of datasets, uploads, imports, versions and splits; ``item_routes`` has the items."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Final

import fastapi
import sqlalchemy as sa
from fastapi import concurrency

from quintile.core import datasets, errors, messages, meta
from quintile_api import access, context, idempotency, paging
from quintile_api.data import (
    imports,
    item_routes,
    reading,
    repository,
    service,
    splits,
    tables,
    uploads,
    usage,
    versions,
)

LABELS_LIMIT_BYTES: Final = 512 * 1024 * 1024
"""Fits a label table of a million rows with all their provenance."""

NUMBER_LIMIT: Final = 2**31 - 1


@dataclass(frozen=True)
class Place:
    """The dataset that a path names."""

    project: str
    name: str


def read_place(project: str, name: str) -> Place:
    """Read the path of a dataset."""
    return Place(project, name)


Named = Annotated[Place, fastapi.Depends(read_place)]

router = fastapi.APIRouter(prefix="/projects/{project}", tags=["datasets"])
agent_router = fastapi.APIRouter(prefix="/internal/trials/{uid}", tags=["internal"])


def build_router() -> fastapi.APIRouter:
    """Return all data routes, to be included under the API's prefix."""
    whole = fastapi.APIRouter()
    for part in (router, item_routes.router, agent_router):
        whole.include_router(part)
    return whole


@router.post("/datasets", status_code=201, response_model=datasets.DatasetView)
def create_dataset(
    caller: access.Manager,
    ctx: context.Current,
    once: idempotency.Once,
    project: str,
    body: datasets.DatasetCreate,
) -> fastapi.Response:
    """Make an empty dataset."""

    def work() -> tuple[int, datasets.DatasetView]:
        with ctx.database.write() as session:
            row = repository.create_dataset(
                session,
                project,
                name=body.name,
                description=body.description,
                now_s=ctx.clock.now(),
            )
            return 201, repository.dataset_view(session, row)

    return once.run(caller, work)


@router.get("/datasets")
def list_datasets(
    _caller: access.Viewer, ctx: context.Current, project: str, page: paging.Page
) -> paging.Listed[datasets.DatasetView]:
    """Return the datasets of the project by name."""
    after = page.after[0] if page.after else ""
    query = (
        sa.select(tables.Dataset)
        .where(tables.Dataset.project == project, tables.Dataset.name > after)
        .order_by(tables.Dataset.name)
        .limit(page.limit + 1)
    )
    with ctx.database.read() as session:
        rows = session.scalars(query).all()
        items = [repository.dataset_view(session, row) for row in rows[: page.limit]]
    more = len(rows) > page.limit
    return paging.Listed(items=items, next_cursor=paging.encode(items[-1].name) if more else None)


@router.get("/datasets/{name}")
def get_dataset(
    _caller: access.Viewer, ctx: context.Current, project: str, name: str
) -> datasets.DatasetView:
    """Return one dataset."""
    with ctx.database.read() as session:
        return repository.dataset_view(session, repository.find_dataset(session, project, name))


@router.delete("/datasets/{name}", status_code=204)
def delete_dataset(
    _caller: access.Manager, ctx: context.Current, parts: service.Parts, project: str, name: str
) -> None:
    """Delete a dataset with all its versions; bytes are deleted in the background.

    Conflict while a labeling job or an experiment that has not ended works with it.
    """
    usage.check_unused(ctx.resources, project, name)
    with ctx.database.write() as session:
        repository.delete_dataset(session, project, name, now_s=ctx.clock.now())
    parts.worker.wake()


@router.post("/uploads", status_code=201, response_model=datasets.UploadView)
def create_upload(
    caller: access.Manager,
    ctx: context.Current,
    once: idempotency.Once,
    project: str,
    body: datasets.UploadCreate,
) -> fastapi.Response:
    """Begin an upload."""
    if body.size > uploads.UPLOAD_LIMIT_BYTES:
        raise errors.TooLarge(
            f"The upload has {body.size:,} bytes; at most {uploads.UPLOAD_LIMIT_BYTES:,} are "
            "taken.",
            hint="Send it in parts.",
            field="size",
        )

    def work() -> tuple[int, datasets.UploadView]:
        with ctx.database.write() as session:
            return 201, uploads.create(
                session, project, size=body.size, sha256=body.sha256, now_s=ctx.clock.now()
            )

    return once.run(caller, work)


@router.get("/uploads/{upload_id}")
def get_upload(
    _caller: access.Manager, ctx: context.Current, project: str, upload_id: str
) -> datasets.UploadView:
    """Return how far an upload is: send the byte at ``offset`` next."""
    with ctx.database.read() as session:
        return uploads.view(uploads.find(session, project, upload_id))


@router.put("/uploads/{upload_id}")
async def append_to_upload(
    _caller: access.Manager,
    parts: service.Parts,
    request: fastapi.Request,
    project: str,
    upload_id: str,
    offset: Annotated[int, fastapi.Query(ge=0)],
) -> datasets.UploadView:
    """Send the next piece (at most 64 MiB); 409 names the offset that is expected."""
    data = bytes(await _body(request, uploads.PIECE_LIMIT_BYTES))
    return await concurrency.run_in_threadpool(
        parts.uploads.append, project, upload_id, offset=offset, data=data
    )


@router.post("/datasets/{name}/imports", status_code=202, response_model=datasets.ImportView)
def create_import(
    caller: access.Manager,
    ctx: context.Current,
    parts: service.Parts,
    once: idempotency.Once,
    place: Named,
    body: datasets.ImportCreate,
) -> fastapi.Response:
    """Turn a complete upload into the next version, in the background."""

    def work() -> tuple[int, datasets.ImportView]:
        with ctx.database.write() as session:
            dataset = repository.find_dataset(session, place.project, place.name)
            row = imports.create(session, dataset, body, now_s=ctx.clock.now())
            return 202, imports.view(row, name=place.name)

    answer = once.run(caller, work)
    parts.worker.wake()
    return answer


@router.get("/datasets/{name}/imports/{import_id}")
def get_import(
    _caller: access.Viewer, ctx: context.Current, project: str, name: str, import_id: str
) -> datasets.ImportView:
    """Return progress and result of an import, with the files that were left out."""
    with ctx.database.read() as session:
        dataset = repository.find_dataset(session, project, name)
        return imports.view(imports.find(session, dataset, import_id), name=name)


@router.get("/datasets/{name}/versions")
def list_versions(
    _caller: access.Viewer, ctx: context.Current, project: str, name: str, page: paging.Page
) -> paging.Listed[datasets.VersionView]:
    """Return the versions of a dataset, oldest first."""
    text = page.after[0] if page.after else ""
    after = min(int(text), NUMBER_LIMIT) if text.isdecimal() else 0
    with ctx.database.read() as session:
        dataset = repository.find_dataset(session, project, name)
        rows = session.scalars(
            sa.select(tables.Version)
            .where(tables.Version.dataset_uid == dataset.uid, tables.Version.version > after)
            .order_by(tables.Version.version)
            .limit(page.limit + 1)
        ).all()
    items = [repository.version_view(row, name=name) for row in rows[: page.limit]]
    more = len(rows) > page.limit
    cursor = paging.encode(str(items[-1].version)) if more else None
    return paging.Listed(items=items, next_cursor=cursor)


@router.get("/datasets/{name}/versions/{version}")
def get_version(
    _caller: access.Viewer,
    ctx: context.Current,
    project: str,
    name: str,
    version: item_routes.Number,
) -> datasets.VersionView:
    """Return one version; number 0 means the newest."""
    with ctx.database.read() as session:
        row = repository.find_version(session, project, name, version)
    return repository.version_view(row, name=name)


@router.post("/datasets/{name}/versions", status_code=201, response_model=datasets.VersionView)
async def create_version(
    _caller: access.Manager,
    ctx: context.Current,
    parts: service.Parts,
    request: fastapi.Request,
    place: Named,
    response: fastapi.Response,
) -> datasets.VersionView:
    """Make a version from labels: NDJSON, first ``VersionCreate``, then one ``LabelRow`` a line.

    201 when it is new, 200 when the same key made the same version before.
    """
    body = await _body(request, LABELS_LIMIT_BYTES)
    made, new = await concurrency.run_in_threadpool(_create_version, ctx, parts, place, body)
    response.status_code = 201 if new else 200
    return repository.version_view(made, name=place.name)


@router.post(
    "/datasets/{name}/versions/{version}/splits",
    status_code=201,
    response_model=datasets.SplitView,
)
def create_split(
    caller: access.Manager,
    ctx: context.Current,
    parts: service.Parts,
    once: idempotency.Once,
    found: item_routes.Version,
    body: datasets.SplitCreate,
) -> fastapi.Response:
    """Split a version into named parts, seeded and stratified; splits are immutable."""

    def work() -> tuple[int, datasets.SplitView]:
        return 201, splits.create(
            ctx.database,
            ctx.objects,
            found,
            parts.catalogue.index(found),
            body,
            now_s=ctx.clock.now(),
        )

    return once.run(caller, work)


@router.get("/datasets/{name}/versions/{version}/splits")
def list_splits(
    _caller: access.Viewer, ctx: context.Current, found: item_routes.Version
) -> paging.Listed[datasets.SplitView]:
    """Return the splits of a version by name."""
    with ctx.database.read() as session:
        rows = repository.splits_of(session, found)
    return paging.Listed(items=[repository.split_view(row) for row in rows])


@agent_router.get("/dataset")
def read_access(
    claims: access.Trial,
    ctx: context.Current,
    uid: str,
    name: str,
    version: Annotated[int, fastapi.Query(ge=1, le=NUMBER_LIMIT)],
    split: str = "",
) -> messages.DatasetAccess:
    """Return URLs and digests of the dataset version that the trial's own spec names."""
    document = ctx.resources.get(meta.Key("Trial", claims.namespace, claims.trial))
    wanted = document["spec"]["template"].get("dataset") or {}
    own = document["metadata"]["uid"] == uid
    if not own or (wanted.get("name"), wanted.get("version")) != (name, version):
        raise errors.Forbidden(
            f"Trial {claims.trial} does not train on version {version} of dataset {name!r}.",
            hint="A trial reads only the dataset version that its spec names.",
        )
    with ctx.database.read() as session:
        return reading.dataset_access(
            session,
            ctx.objects,
            (claims.namespace, name),
            version=version,
            split=split,
            ttl_s=ctx.settings.url_ttl_s,
        )


def _create_version(
    ctx: context.Context, parts: service.DataParts, place: Place, body: bytearray
) -> tuple[tables.Version, bool]:
    lines = _lines(body)
    head = versions.parse_head(next(lines, bytearray()))
    with ctx.database.read() as session:
        parent = repository.find_version(session, place.project, place.name, head.parent)
    labels = versions.parse_rows(lines, parts.catalogue.index(parent), head.classes)
    return versions.create(ctx.database, ctx.objects, parent, head, labels, now_s=ctx.clock.now())


def _lines(body: bytearray) -> Iterator[bytearray]:
    start = 0
    while start < len(body):
        end = body.find(b"\n", start)
        end = len(body) if end < 0 else end
        yield body[start:end]
        start = end + 1


async def _body(request: fastapi.Request, limit_bytes: int) -> bytearray:
    pieces = bytearray()
    async for piece in request.stream():
        pieces += piece
        if len(pieces) > limit_bytes:
            raise errors.TooLarge(
                f"The body has more than {limit_bytes:,} bytes.", hint="Send less at once."
            )
    return pieces
