"""A worker begins a round: it gets one URL per object that it may read or write."""

from __future__ import annotations

import secrets
from typing import Final

from sqlalchemy import orm

from quintile.adapters import tokens_ed25519
from quintile.core import errors, names, tasks
from quintile_labeling import context, tables
from quintile_labeling.rounds import access

URL_TTL_S: Final = 24 * 3600
_OUTPUTS: Final = {
    "embed": ("features.npz", "predictions.npz"),
    "learn": ("predictions.npz",),
    "finalise": ("predictions.npz", "scores.npz"),
}


def open_round(
    ctx: context.Context,
    claims: tokens_ed25519.TrialClaims,
    *,
    job_uid: str,
    number: int,
    attempt: int,
) -> tasks.RoundAccess:
    """Return what the worker may read and write; every call gives fresh places for outputs.

    Raises:
        Forbidden: The token is not of this round's worker.
        Fenced: A newer attempt has begun.
        Conflict: The round still collects answers.
    """
    access.check(ctx, claims, job_uid=job_uid, number=number, attempt=attempt)
    with ctx.database.write() as session:
        job, row = find(session, job_uid, number)
        access.check_place(job, claims)
        fence(row, attempt)
        row.attempt = attempt
        header, step = row.header, row.step
        manifest_key, digest = row.manifest_key, row.manifest_sha256
    token = secrets.token_hex(4)
    uploads = {}
    for name in _OUTPUTS[step]:
        key = names.round_output_key(job_uid, number, attempt=attempt, token=token, name=name)
        url = ctx.objects.url(key, method="PUT", ttl_s=URL_TTL_S)
        uploads[name.partition(".")[0]] = tasks.RoundUpload(key=key, url=url)
    features = header["features_key"]
    return tasks.RoundAccess(
        manifest_url=ctx.objects.url(manifest_key, method="GET", ttl_s=URL_TTL_S),
        manifest_sha256=digest,
        features_url=ctx.objects.url(features, method="GET", ttl_s=URL_TTL_S) if features else "",
        uploads=uploads,
    )


def find(session: orm.Session, job_uid: str, number: int) -> tuple[tables.Job, tables.Round]:
    """Return a job, locked, and one of its rounds whose input is ready.

    Raises:
        NotFound: There is no such job or round.
        Conflict: The round still collects answers.
    """
    job = context.job_of(session, job_uid, lock=True)
    row = session.get(tables.Round, (job.id, number)) if job is not None else None
    if job is None or row is None:
        raise errors.NotFound(f"There is no round {number} of labeling job {job_uid}.")
    if row.state == "collecting" or not row.stored:
        raise errors.Conflict(
            f"Round {number} of labeling job {job.name!r} is not closed yet.",
            hint="Its worker begins once the manifest is stored.",
        )
    return job, row


def fence(row: tables.Round, attempt: int) -> None:
    """Check that no newer attempt has begun.

    Raises:
        Fenced: One has.
    """
    if attempt < row.attempt:
        raise errors.Fenced(
            f"Attempt {row.attempt} computes round {row.number} now, not attempt {attempt}.",
            hint="Stop; the newer attempt hands in the result.",
        )
