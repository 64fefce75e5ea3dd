"""Routes of the workers that compute rounds; the trial token says which round is theirs."""

from __future__ import annotations

from typing import Annotated

import fastapi

from quintile.core import errors, tasks
from quintile_labeling import access, context
from quintile_labeling.rounds import ingest, opening

router = fastapi.APIRouter(prefix="/internal/labeling/{job_uid}/rounds/{number}", tags=["internal"])
Number = Annotated[int, fastapi.Path(ge=0, le=2**31 - 1)]


@router.post("/open")
def open_round(
    claims: access.Trial, ctx: context.Current, job_uid: str, number: Number, body: tasks.RoundOpen
) -> tasks.RoundAccess:
    """Begin a round: URLs of everything that its worker may read and write."""
    return opening.open_round(ctx, claims, job_uid=job_uid, number=number, attempt=body.attempt)


@router.post("/result")
def hand_in(
    claims: access.Trial,
    ctx: context.Current,
    job_uid: str,
    number: Number,
    body: tasks.RoundResult,
) -> tasks.RoundAck:
    """Take the outputs of a round; the job goes on in the same transaction."""
    if body.number != number:
        raise errors.InvalidSpec(
            f"The result is of round {body.number} but was sent to round {number}.",
            field="number",
        )
    return ingest.ingest(ctx, claims, body, job_uid=job_uid)
