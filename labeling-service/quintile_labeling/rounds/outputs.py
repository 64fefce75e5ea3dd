"""The outputs of a round, read from the store and held against what the round asked for."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

from quintile import ports
from quintile.core import errors, names, tasks
from quintile.engine import certify
from quintile_labeling.rounds import predictions


@dataclass(frozen=True)
class Outputs:
    """Outputs that fit. ``records`` [N] in order of item ids, None when nothing was predicted."""

    records: predictions.Records | None
    certificate: certify.Certificate | None


def check(
    objects: ports.ObjectStore,
    job_uid: str,
    result: tasks.RoundResult,
    *,
    item_ids: Sequence[str],
    classes: int,
) -> Outputs:
    """Return the outputs that a result names.

    Args:
        objects: Where they lie.
        job_uid: Whose round it is.
        result: What the worker handed in.
        item_ids: All items of the job, sorted.
        classes: Number of classes when the round closed.

    Raises:
        InvalidSpec: One is missing, differs from its digest, or does not fit.
    """
    if len(result.reasons) not in (0, len(result.order)):
        raise misfit(f"{len(result.order)} items are ranked with {len(result.reasons)} reasons")
    known = set(item_ids)
    foreign = [item for item in (*result.order, *result.accepted) if item not in known]
    if foreign:
        raise misfit(f"item {foreign[0][:40]!r} is not one of the job's")
    read = _Reader(objects, names.round_outputs(job_uid, result.number, attempt=result.attempt))
    if result.step == "embed":
        read.check_stored(result.features_key, what="features")
    records = None
    # Before anybody gave a class there is nothing to learn from; later steps must predict.
    if result.predictions_key or result.step == "finalise":
        data = read(result.predictions_key, result.predictions_sha256, what="predictions")
        records = predictions.parse(data, item_ids=item_ids, classes=classes)
    certificate = None
    if result.step == "finalise":
        scores = read(result.scores_key, result.scores_sha256, what="scores")
        certificate = _certificate(result, scores, item_ids=item_ids)
    return Outputs(records=records, certificate=certificate)


def _certificate(
    result: tasks.RoundResult, scores: bytes, *, item_ids: Sequence[str]
) -> certify.Certificate:
    """Return the certificate of a result, held against the scores that it must follow from."""
    fields = certify.ScoreTable.__dataclass_fields__
    table = certify.ScoreTable.read(predictions.load_npz(scores, fields))
    try:
        found = certify.Certificate.read(result.certificate)
        problems = certify.verify(found, table)
    except (errors.InvalidSpec, TypeError, ValueError, IndexError) as error:
        raise misfit(f"the certificate cannot be read ({error})") from error
    if problems:
        raise misfit(f"the certificate does not follow from its scores: {problems[0]}")
    if found.items != len(item_ids):
        raise misfit(f"the certificate is about {found.items} items, not {len(item_ids)}")
    if found.accepted != len(set(result.accepted)) or found.accepted != len(result.accepted):
        raise misfit(
            f"the certificate accepts {found.accepted} items, the list holds {len(result.accepted)}"
        )
    return found


class _Reader:
    """Reads outputs of one attempt from the store."""

    def __init__(self, objects: ports.ObjectStore, beginning: str) -> None:
        self._objects = objects
        self._beginning = beginning

    def __call__(self, key: str, sha256: str, *, what: str) -> bytes:
        """Return an output whose digest was given."""
        self._check_key(key, what)
        try:
            data = self._objects.get(key)
        except errors.NotFound as error:
            raise misfit(f"{what} are not stored under {key!r}") from error
        if hashlib.sha256(data).hexdigest() != sha256:
            raise misfit(f"{what} have another SHA-256 than {what}_sha256 says")
        return data

    def check_stored(self, key: str, *, what: str) -> None:
        """Check that an output exists, without reading it."""
        self._check_key(key, what)
        if not any(info.key == key for info in self._objects.list(key)):
            raise misfit(f"{what} are not stored under {key!r}")

    def _check_key(self, key: str, what: str) -> None:
        if not key.startswith(self._beginning):
            raise misfit(f"{what}_key {key[:80]!r} is not a place of this attempt")


def misfit(problem: str) -> errors.InvalidSpec:
    """Return the error for a result that does not fit its round."""
    return errors.InvalidSpec(
        f"The result of the round does not fit: {problem}.",
        hint="See tasks.RoundResult for what each step hands in.",
    )
