"""Which worker may speak for a round: the trial of the Experiment that computes it, no other."""

from __future__ import annotations

from typing import Any

from quintile.adapters import tokens_ed25519
from quintile.core import errors, meta
from quintile_labeling import context, tables

KIND = "LabelingJob"


def check(
    ctx: context.Context,
    claims: tokens_ed25519.TrialClaims,
    *,
    job_uid: str,
    number: int,
    attempt: int,
) -> None:
    """Check that a trial token belongs to the Experiment of this round, and to this attempt.

    Raises:
        Forbidden: It belongs to something else, or its trial is gone.
        Fenced: The message names another attempt than the token.
    """
    if claims.attempt != attempt:
        raise errors.Fenced(
            f"The token is of attempt {claims.attempt}, the message of attempt {attempt}.",
            hint="Send the attempt that the token was made for.",
        )
    trial = _get(ctx, "Trial", claims.namespace, claims.trial)
    if trial["metadata"]["uid"] != claims.uid:
        raise _foreign(claims)
    spec = trial["spec"]
    experiment = _get(ctx, "Experiment", claims.namespace, str(spec["experiment"]))
    if experiment["metadata"]["uid"] != spec["experimentUid"]:
        raise _foreign(claims)
    block = (experiment["spec"].get("estimator") or {}).get("labelingRound") or {}
    owners = experiment["metadata"].get("ownerReferences") or []
    owned = any(one.get("kind") == KIND and one.get("uid") == job_uid for one in owners)
    if not owned or (block.get("jobUid"), block.get("number")) != (job_uid, number):
        raise errors.Forbidden(
            f"Trial {claims.trial} does not compute round {number} of this labeling job.",
            hint="A worker speaks only for the round that its experiment names.",
        )


def check_place(job: tables.Job, claims: tokens_ed25519.TrialClaims) -> None:
    """Check that job and trial live in the same project.

    Raises:
        Forbidden: They do not.
    """
    if job.namespace != claims.namespace:
        raise _foreign(claims)


def _get(ctx: context.Context, kind: str, namespace: str, name: str) -> dict[str, Any]:
    try:
        return ctx.resources.get(meta.Key(kind, namespace, name))
    except errors.NotFound as error:
        raise errors.Forbidden(
            f"There is no {kind} {name!r} behind this token any more.",
            hint="The round was deleted or is computed by another trial now.",
        ) from error


def _foreign(claims: tokens_ed25519.TrialClaims) -> errors.Forbidden:
    return errors.Forbidden(f"Trial {claims.trial} is another one than the token was made for.")
