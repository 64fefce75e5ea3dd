"""Routes of agents: ``/internal/trials/{uid}/...``, opened by the trial token alone."""

from __future__ import annotations

import logging
import time
from typing import Annotated, Final

import fastapi
import pydantic
from fastapi import concurrency

from quintile.adapters import problem_json
from quintile.core import errors, messages, names
from quintile.core.conditions import timestamp
from quintile.core.experiment import CheckpointRef, CheckpointSpec
from quintile.core.meta import Key
from quintile_api import access, context
from quintile_api.coordinator import fencing, retention, retiring, state
from quintile_api.runs import metrics

POLL_S: Final = 1.0
"""How often a waiting join looks for changes that another replica of the API made."""

_LOG = logging.getLogger("quintile.coordinator")
router = fastapi.APIRouter(prefix="/internal", tags=["agents"])
FileName = Annotated[
    str, pydantic.StringConstraints(pattern=r"^[A-Za-z0-9_-][A-Za-z0-9_.-]{0,127}$")
]


class ArtifactUrls(pydantic.BaseModel):
    """Body of POST artifacts/urls; an agent may send its envelope too."""

    model_config = pydantic.ConfigDict(extra="ignore", frozen=True)

    generation: int = 0
    files: list[FileName] = pydantic.Field(max_length=64)


def speaks(claims: access.Trial, message: messages.Envelope) -> None:
    """Check that an agent speaks for the attempt that its token was made for.

    Raises:
        Stale: It does not.
    """
    if message.attempt != claims.attempt:
        raise fencing.Stale(
            f"The token is of attempt {claims.attempt}, the message of attempt {message.attempt}.",
            directive="fenced",
            state="stopped",
            attempt=claims.attempt,
            generation=0,
        )


@router.post("/trials/{uid}/join")
async def join(
    claims: access.Trial, ctx: context.Current, message: messages.Join
) -> messages.JoinAnswer:
    """Join the newest generation; waits up to 20 s while it forms."""
    speaks(claims, message)
    coordinator = ctx.coordinator
    deadline = time.monotonic() + ctx.settings.join_wait_s
    version = coordinator.changed.version
    answer = await concurrency.run_in_threadpool(coordinator.join, claims, message)
    # Our own join raised the version; what matters is what changes after the answer was read.
    while answer.state == "forming" and (left := deadline - time.monotonic()) > 0:
        version = coordinator.changed.version
        answer = await concurrency.run_in_threadpool(coordinator.wait_on, claims, message)
        if answer.state == "forming":
            await coordinator.changed.wait_async(version, timeout_s=min(left, POLL_S))
    return answer


@router.post("/trials/{uid}/heartbeat")
def heartbeat(
    claims: access.Trial, ctx: context.Current, message: messages.Heartbeat
) -> messages.HeartbeatAnswer:
    """The agent lives; the answer says what it shall do."""
    speaks(claims, message)
    return ctx.coordinator.heartbeat(claims, message)


@router.post("/trials/{uid}/exits")
def exits(
    claims: access.Trial, ctx: context.Current, message: messages.RankExit
) -> messages.HeartbeatAnswer:
    """A rank ended. Idempotent."""
    speaks(claims, message)
    return ctx.coordinator.exited(claims, message)


@router.post("/trials/{uid}/metrics")
def ship_metrics(
    claims: access.Trial, ctx: context.Current, message: messages.MetricBatch
) -> messages.Ack:
    """Store metric points of any generation of the attempt. Idempotent."""
    speaks(claims, message)
    with ctx.database.write() as session:
        run = state.speaker(session, claims.uid, message, lock=True)
        seq = metrics.store(session, claims.uid, message)
        if message.rank == 0 and message.generation == state.current(session, run).generation:
            run.metrics = metrics.latest(run.metrics, message, acked=seq)
            run.updated_s = ctx.clock.now()
            ctx.coordinator.outbox_append(session, run)
    return messages.Ack(seq=seq)


@router.post("/trials/{uid}/logs")
def ship_logs(
    claims: access.Trial, ctx: context.Current, message: messages.LogBatch
) -> messages.Ack:
    """Store log lines of any generation of the attempt. Idempotent."""
    speaks(claims, message)
    with ctx.database.read() as session:
        state.speaker(session, claims.uid, message)
    return messages.Ack(seq=ctx.logs.store(claims.uid, message))


@router.post("/trials/{uid}/checkpoints/urls")
def checkpoint_urls(
    claims: access.Trial, ctx: context.Current, message: messages.UrlRequest
) -> messages.UrlAnswer:
    """Return URLs to put the files of one checkpoint that may be committed."""
    speaks(claims, message)
    _check_files(message.files)
    ctx.coordinator.check_saving(claims, message)
    prefix = names.checkpoint_prefix(
        claims.uid, attempt=message.attempt, generation=message.generation, step=message.step
    )
    return _urls(ctx, prefix, message.files)


@router.post("/trials/{uid}/checkpoints")
def commit(
    claims: access.Trial, ctx: context.Current, message: messages.CheckpointCommit
) -> CheckpointRef:
    """Commit a checkpoint whose files and manifest lie in the store. Idempotent."""
    speaks(claims, message)
    row = ctx.coordinator.commit(claims, message)
    _retire(ctx, claims)
    return CheckpointRef(key=row.manifest_key, step=row.step, time=timestamp(row.created_s))


@router.post("/trials/{uid}/artifacts/urls")
def artifact_urls(
    claims: access.Trial, ctx: context.Current, message: ArtifactUrls
) -> messages.UrlAnswer:
    """Return URLs to put artifacts. Each generation has its own folder; readers see the newest."""
    prefix = f"{names.artifact_prefix(claims.uid)}/{claims.attempt}-{message.generation}"
    return _urls(ctx, prefix, list(message.files))


@router.get("/bundles/{sha256}")
def bundle(claims: access.Trial, ctx: context.Current, sha256: str) -> fastapi.Response:
    """Return the code bundle that the trial's own spec names.

    Raises:
        Forbidden: The spec names another one.
    """
    document = ctx.resources.get(Key("Trial", claims.namespace, claims.trial))
    estimator = document["spec"]["template"]["estimator"]
    named = {
        block["bundle"]
        for block in (estimator.get("functions"), estimator.get("script"))
        if block is not None
    }
    if document["metadata"]["uid"] != claims.uid or sha256 not in named:
        raise errors.Forbidden(f"Trial {claims.trial} does not run bundle {sha256[:12]}.")
    data = ctx.objects.get(names.bundle_key(sha256))
    return fastapi.Response(data, media_type="application/octet-stream")


async def on_stale(request: fastapi.Request, error: Exception) -> fastapi.Response:
    """Answer 409 with what is current, for agents that are behind."""
    assert isinstance(error, fencing.Stale)
    return problem_json.response(
        error, trace_id=problem_json.trace_id_of(request), extra=error.members
    )


def _retire(ctx: context.Context, claims: access.Trial) -> None:
    """Make room after a commit; what goes wrong is done by the next one."""
    try:
        document = ctx.resources.get(Key("Trial", claims.namespace, claims.trial))
        given = CheckpointSpec.model_validate(document["spec"]["template"].get("checkpoint") or {})
        keep = retention.Keep(given.keep_last, given.keep_best)
        retiring.retire(ctx.database, ctx.objects, claims.uid, keep)
    except errors.QuintileError:
        _LOG.warning("old checkpoints of trial %s could not be deleted", claims.uid, exc_info=True)


def _urls(ctx: context.Context, prefix: str, files: list[str]) -> messages.UrlAnswer:
    ttl_s = ctx.settings.url_ttl_s
    urls = {name: ctx.objects.url(f"{prefix}/{name}", method="PUT", ttl_s=ttl_s) for name in files}
    return messages.UrlAnswer(prefix=prefix, urls=urls)


def _check_files(files: list[str]) -> None:
    adapter: pydantic.TypeAdapter[list[str]] = pydantic.TypeAdapter(list[FileName])
    try:
        adapter.validate_python(files)
    except pydantic.ValidationError as error:
        raise problem_json.invalid_fields(error.errors(), what="The list of files") from error
