"""Routes that read a job: numbers, rounds, certificate, items, labels."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated

import fastapi
from fastapi import responses
from sqlalchemy import orm

from quintile.core import labeling_job, tasks
from quintile_labeling import access, context, paging, tables
from quintile_labeling.views import certificates, items, rounds, stats, tables_csv, why

router = fastapi.APIRouter(
    prefix="/projects/{project}/labeling-jobs/{job}", tags=["labeling results"]
)
RoundNumber = Annotated[int | None, fastapi.Query(alias="round", ge=0, le=2**31 - 1)]
Read = tuple[orm.Session, tables.Job, labeling_job.LabelingJobSpec]


@router.get("/stats")
def get_stats(
    _caller: access.Viewer, ctx: context.Current, project: str, job: str
) -> tasks.JobStats:
    """Return the numbers of a job now."""
    with _reading(ctx, project, job) as (session, row, spec):
        return stats.view(session, row, spec)


@router.get("/rounds")
def list_rounds(
    _caller: access.Viewer, ctx: context.Current, project: str, job: str
) -> paging.Listed[tasks.RoundView]:
    """Return all rounds, oldest first."""
    with _reading(ctx, project, job) as (session, row, _spec):
        return paging.Listed(items=rounds.views(session, row))


@router.get("/curve")
def get_curve(
    _caller: access.Viewer, ctx: context.Current, project: str, job: str
) -> list[tasks.CurvePoint]:
    """Return people's work at each computed round."""
    with _reading(ctx, project, job) as (session, row, _spec):
        return rounds.curve(session, row)


@router.get("/certificate")
def get_certificate(
    _caller: access.Viewer, ctx: context.Current, project: str, job: str
) -> tasks.CertificateView:
    """Return the certificate with everything needed to check it again."""
    with _reading(ctx, project, job) as (session, row, _spec):
        return certificates.view(session, row)


@router.get("/certificate/scores", response_class=fastapi.Response)
def get_scores(
    _caller: access.Viewer, ctx: context.Current, project: str, job: str
) -> fastapi.Response:
    """Return the scores that the certificate follows from, as npz."""
    with _reading(ctx, project, job) as (session, row, _spec):
        key = certificates.view(session, row).scores_key
    return fastapi.Response(
        ctx.objects.get(key),
        media_type="application/octet-stream",
        headers={"Content-Disposition": "attachment; filename=scores.npz"},
    )


@router.get("/items")
def list_items(
    _caller: access.Viewer,
    ctx: context.Current,
    project: str,
    job: str,
    page: paging.Page,
    source: str = "",
    label: str = "",
) -> paging.Listed[tasks.JobItemView]:
    """Return items by id with the label that counts now.

    With a filter a page may hold fewer items than asked for while ``next_cursor`` continues.
    """
    with _reading(ctx, project, job) as (session, row, spec):
        return items.page(session, row, spec, asked=page, source=source, label=label)


@router.get("/items/{item_id}/why")
def get_why(
    _caller: access.Viewer, ctx: context.Current, project: str, job: str, item_id: str
) -> tasks.WhyView:
    """Return everything that led to the label of an item."""
    with _reading(ctx, project, job) as (session, row, spec):
        return why.view(session, row, spec, item_id=item_id)


@router.get("/labels.csv", response_class=responses.StreamingResponse)
def stream_labels(
    _caller: access.Viewer,
    ctx: context.Current,
    project: str,
    job: str,
    uncertified: bool = False,
    round_number: RoundNumber = None,
) -> responses.StreamingResponse:
    """Return item_id, name, label, source, confidence of every item as CSV.

    ``uncertified`` fills rows without a label with the machine's newest prediction; ``round``
    shows labels and predictions as they were in that round.
    """
    with _reading(ctx, project, job) as (session, row, _spec):
        job_id = row.id
        if round_number is not None:
            tables_csv.check_round(session, row, round_number)
    return responses.StreamingResponse(
        tables_csv.stream(ctx.database, job_id, guess=uncertified, round_number=round_number),
        media_type="text/csv; charset=utf-8",
        headers={"Content-Disposition": "attachment; filename=labels.csv"},
    )


@contextmanager
def _reading(ctx: context.Context, project: str, job: str) -> Iterator[Read]:
    with ctx.database.read() as session:
        row = context.job_named(session, project, job)
        yield session, row, context.spec_of(row)
