"""Routes that read a trial: metrics, logs (lines or live), checkpoints, artifacts."""

from __future__ import annotations

import json
import re
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Annotated, Final

import fastapi
import pydantic
from fastapi import concurrency, responses
from pydantic import Field

from quintile import ports
from quintile.core import errors, experiment, meta, names
from quintile.core.meta import Message
from quintile_api import access, context, objects, paging
from quintile_api.runs import checkpoints, logs, metrics

router = fastapi.APIRouter(prefix="/projects/{project}/trials/{name}", tags=["runs"])
KEEP_ALIVE_S: Final = 15.0
POLL_S: Final = 1.0
EVENT_STREAM: Final = "text/event-stream"
_FILE: Final = re.compile(r"^[A-Za-z0-9_-][A-Za-z0-9_.-]{0,127}$")


class CheckpointView(Message):
    """One committed checkpoint."""

    key: str
    attempt: int
    generation: int
    step: int
    epoch: int
    size_bytes: int
    metrics: dict[str, float]
    created: float


class ArtifactView(Message):
    """One file that a trial published, from its newest generation that did."""

    name: str
    size: int = Field(ge=0)
    attempt: int
    generation: int


class MetricQuery(pydantic.BaseModel):
    """Which metrics, how finely: names comma-separated (empty = all), most points per series."""

    model_config = pydantic.ConfigDict(extra="forbid", frozen=True)

    names: str = ""
    max_points: int = Field(default=1000, ge=1, le=10_000)
    rank: int = Field(default=0, ge=0)


class LogQuery(pydantic.BaseModel):
    """Which lines: of one rank (None = all), the last ``tail`` ones, live with ``follow``."""

    model_config = pydantic.ConfigDict(extra="forbid", frozen=True)

    rank: int | None = Field(default=None, ge=0)
    tail: int | None = Field(default=None, ge=0, le=100_000)
    follow: bool = False


@dataclass(frozen=True)
class Live:
    """What the headers say: whether a live stream is wanted, and the place after the last line."""

    wanted: bool
    place: logs.Place | None


def live_place(
    accept: Annotated[str, fastapi.Header()] = "",
    last_event_id: Annotated[str, fastapi.Header(max_length=64)] = "",
) -> Live:
    """Read the headers of a live stream."""
    place = logs.place_of(last_event_id) if last_event_id else None
    return Live(wanted=EVENT_STREAM in accept, place=place)


LivePlace = Annotated[Live, fastapi.Depends(live_place)]


@router.get("/metrics")
def read_metrics(
    _caller: access.Viewer,
    ctx: context.Current,
    project: str,
    name: str,
    query: Annotated[MetricQuery, fastapi.Query()],
) -> metrics.MetricsView:
    """Return metric series along the committed lineage, down-sampled."""
    uid = uid_of(ctx, project, name)
    wanted = [part for part in query.names.split(",") if part]
    with ctx.database.read() as session:
        series = metrics.read(
            session, uid, names=wanted, max_points=query.max_points, rank=query.rank
        )
    return metrics.MetricsView(trial=name, series=series)


@router.get("/logs", response_model=None)
def read_logs(
    _caller: access.Viewer,
    ctx: context.Current,
    project: str,
    name: str,
    query: Annotated[LogQuery, fastapi.Query()],
    live: LivePlace,
) -> fastapi.Response:
    """Return log lines as NDJSON, or as a live event stream (``Accept: text/event-stream``).

    A live stream begins at Last-Event-ID, else with the last ``tail`` lines, else at the start.
    """
    uid = uid_of(ctx, project, name)
    if live.wanted or query.follow:
        place = None if live.place is None and query.tail is not None else live.place or logs.START
        stream = _follow(
            ctx, (project, name, uid), rank=query.rank, place=place, tail=query.tail or 0
        )
        return responses.StreamingResponse(
            stream,
            media_type=EVENT_STREAM,
            headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"},
        )
    if query.tail is not None:
        lines = ctx.logs.tail(uid, lines=query.tail, rank=query.rank)
        return responses.Response(_ndjson(lines), media_type="application/x-ndjson")
    place = live.place or logs.START
    return responses.StreamingResponse(
        _all_lines(ctx, uid, rank=query.rank, place=place), media_type="application/x-ndjson"
    )


@router.get("/checkpoints")
def list_checkpoints(
    _caller: access.Viewer, ctx: context.Current, project: str, name: str
) -> paging.Listed[CheckpointView]:
    """Return the committed checkpoints, newest first."""
    uid = uid_of(ctx, project, name)
    with ctx.database.read() as session:
        rows = checkpoints.committed(session, uid)
    return paging.Listed(
        items=[
            CheckpointView(
                key=row.manifest_key,
                attempt=row.attempt,
                generation=row.generation,
                step=row.step,
                epoch=row.manifest["epoch"],
                size_bytes=sum(file["size"] for file in row.manifest["files"]),
                metrics=row.manifest["metrics"],
                created=row.created_s,
            )
            for row in rows
        ]
    )


@router.get("/artifacts")
def list_artifacts(
    _caller: access.Viewer, ctx: context.Current, project: str, name: str
) -> paging.Listed[ArtifactView]:
    """Return the files that the trial published, by name."""
    found = _artifacts(ctx.objects, uid_of(ctx, project, name))
    return paging.Listed(items=[view for view, _ in found.values()])


@router.get("/artifacts/{file}")
def read_artifact(
    _caller: access.Viewer,
    ctx: context.Current,
    project: str,
    name: str,
    file: str,
    range: Annotated[str, fastapi.Header()] = "",  # noqa: A002 - the header's name
) -> fastapi.Response:
    """Return one published file as an attachment, whole or a range."""
    found = _artifacts(ctx.objects, uid_of(ctx, project, name))
    if file not in found:
        raise errors.NotFound(
            f"Trial {name!r} published no {file!r}.",
            hint=f"It published {', '.join(found) or 'nothing'}.",
        )
    return objects.serve(
        ctx.objects, found[file][1], range_header=range, media_type="application/octet-stream"
    )


def uid_of(ctx: context.Context, project: str, name: str) -> str:
    """Return the uid of a trial of a project.

    Raises:
        NotFound: The project has no such trial.
    """
    document = ctx.resources.get(meta.Key("Trial", project, name))
    return str(document["metadata"]["uid"])


def _artifacts(store: ports.ObjectStore, uid: str) -> dict[str, tuple[ArtifactView, str]]:
    prefix = f"{names.artifact_prefix(uid)}/"
    found: dict[str, tuple[ArtifactView, str]] = {}
    for info in store.list(prefix):
        folder, _, file = info.key.removeprefix(prefix).partition("/")
        attempt, _, generation = folder.partition("-")
        if not (attempt.isdigit() and generation.isdigit() and _FILE.match(file)):
            continue
        view = ArtifactView(
            name=file, size=info.size, attempt=int(attempt), generation=int(generation)
        )
        before = found.get(file)
        place = (view.attempt, view.generation)
        if before is None or place >= (before[0].attempt, before[0].generation):
            found[file] = (view, info.key)
    return dict(sorted(found.items()))


def _ndjson(lines: list[logs.LogView]) -> str:
    return "".join(f"{line.model_dump_json()}\n" for line in lines)


async def _all_lines(
    ctx: context.Context, uid: str, *, rank: int | None, place: logs.Place
) -> AsyncIterator[str]:
    while True:
        lines = await concurrency.run_in_threadpool(ctx.logs.read, uid, after=place, rank=rank)
        if not lines:
            return
        yield _ndjson(lines)
        place = logs.place_of(lines[-1].id)


async def _follow(
    ctx: context.Context,
    trial: tuple[str, str, str],
    *,
    rank: int | None,
    place: logs.Place | None,
    tail: int,
) -> AsyncIterator[str]:
    """Yield server-sent events until the trial has ended and every line was sent."""
    project, name, uid = trial
    if place is None:
        place = await concurrency.run_in_threadpool(ctx.logs.newest, uid)
        lines = await concurrency.run_in_threadpool(ctx.logs.tail, uid, lines=tail, rank=rank)
        if lines:
            yield _events(lines)
            place = max(place, logs.place_of(lines[-1].id))
    spoke_s = time.monotonic()
    while True:
        version = ctx.logs.arrived.version
        ended = await concurrency.run_in_threadpool(_has_ended, ctx, project, name, uid)
        lines = await concurrency.run_in_threadpool(ctx.logs.read, uid, after=place, rank=rank)
        if lines:
            yield _events(lines)
            place, spoke_s = logs.place_of(lines[-1].id), time.monotonic()
        elif ended:
            yield "event: end\ndata: {}\n\n"
            return
        else:
            await ctx.logs.arrived.wait_async(version, timeout_s=POLL_S)
            if time.monotonic() - spoke_s > KEEP_ALIVE_S:
                yield ": still here\n\n"
                spoke_s = time.monotonic()


def _events(lines: list[logs.LogView]) -> str:
    return "".join(f"id: {line.id}\ndata: {json.dumps(line.model_dump())}\n\n" for line in lines)


def _has_ended(ctx: context.Context, project: str, name: str, uid: str) -> bool:
    try:
        document = ctx.resources.get(meta.Key("Trial", project, name))
    except errors.NotFound:
        return True
    phase = (document.get("status") or {}).get("phase")
    return document["metadata"]["uid"] != uid or phase in experiment.TERMINAL
