"""What the machine thought of every item after a round: packed rows, read by place.

Predictions of a million items are a few hundred rows; one item costs one small read.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import sqlalchemy as sa
from numpy.typing import NDArray
from sqlalchemy import orm

from quintile.core import errors
from quintile_labeling import tables

CHUNK: Final = 1024
_RECORD: Final = np.dtype([("class_id", "<i4"), ("confidence", "<f4"), ("score", "<f4")])

Records = NDArray[np.void]


@dataclass(frozen=True)
class Prediction:
    """Class, its probability, and how sure the machine is to be right."""

    class_id: int
    confidence: float
    score: float


def parse(data: bytes, *, item_ids: Sequence[str], classes: int) -> Records:
    """Return the predictions [N] of an npz as ``tasks.RoundResult`` describes it.

    Args:
        data: The npz.
        item_ids: All items of the job, sorted.
        classes: Number of classes.

    Raises:
        InvalidSpec: It is not such a file, or not about these items.
    """
    arrays = load_npz(data, ("item_ids", "probabilities", "predicted", "scores"))
    given, predicted = arrays["item_ids"], arrays["predicted"]
    probabilities, scores = arrays["probabilities"], arrays["scores"]
    if not np.array_equal(given.astype(str), np.asarray(item_ids, dtype=str)):
        raise _misfit(f"item_ids are not the {len(item_ids)} item ids of the job, sorted")
    if probabilities.shape != (len(given), classes):
        raise _misfit(f"probabilities have shape {probabilities.shape}, not [N, {classes}]")
    if predicted.shape != given.shape or scores.shape != given.shape:
        raise _misfit("predicted and scores must have one entry per item")
    kinds = (predicted.dtype.kind, probabilities.dtype.kind, scores.dtype.kind)
    if kinds[0] not in "iu" or kinds[1:] != ("f", "f"):
        raise _misfit("predicted must be whole numbers, probabilities and scores floats")
    if len(predicted) and not (predicted.min() >= 0 and predicted.max() < classes):
        raise _misfit(f"predicted holds classes outside 0 to {classes - 1}")
    if not (np.isfinite(probabilities).all() and np.isfinite(scores).all()):
        raise _misfit("probabilities or scores are not finite")
    records = np.empty(len(given), dtype=_RECORD)
    records["class_id"] = predicted
    records["confidence"] = probabilities[np.arange(len(given)), predicted]
    records["score"] = scores
    return records


def load_npz(data: bytes, names: Iterable[str]) -> dict[str, NDArray[Any]]:
    """Return arrays of an npz by name; never unpickles.

    Raises:
        InvalidSpec: The bytes are no npz, or an array is missing.
    """
    try:
        with np.load(io.BytesIO(data), allow_pickle=False) as file:
            return {name: file[name] for name in names}
    except (KeyError, ValueError, OSError, EOFError, zipfile.BadZipFile) as error:
        raise _misfit(f"the file cannot be read ({error})") from error


def store(session: orm.Session, job: tables.Job, number: int, records: Records) -> None:
    """Keep the predictions [N] of a round, in order of item ids."""
    rows = [
        {
            "job_id": job.id,
            "number": number,
            "chunk": start // CHUNK,
            "data": records[start : start + CHUNK].tobytes(),
        }
        for start in range(0, len(records), CHUNK)
    ]
    if rows:
        session.execute(sa.insert(tables.Prediction), rows)


def newest(session: orm.Session, job: tables.Job) -> int | None:
    """Return the newest round that predicted; None while none has."""
    query = sa.select(sa.func.max(tables.Prediction.number))
    return session.scalar(query.where(tables.Prediction.job_id == job.id))


def newest_at(
    session: orm.Session, job: tables.Job, ordinals: Sequence[int]
) -> dict[int, Prediction]:
    """Return the newest predictions of a few items by ordinal; empty while there are none."""
    number = newest(session, job)
    return {} if number is None else at(session, job, number, ordinals)


def at(
    session: orm.Session, job: tables.Job, number: int, ordinals: Sequence[int]
) -> dict[int, Prediction]:
    """Return the predictions that round ``number`` made of a few items, by ordinal."""
    chunks = sorted({ordinal // CHUNK for ordinal in ordinals})
    stored = dict(_chunks(session, job, number, chunks))
    found = {}
    for ordinal in ordinals:
        records = stored.get(ordinal // CHUNK)
        if records is not None and ordinal % CHUNK < len(records):
            found[ordinal] = _prediction(records[ordinal % CHUNK])
    return found


class Shelf:
    """The predictions of one round, fetched piece by piece as they are asked for."""

    def __init__(self, session: orm.Session, job: tables.Job, number: int | None) -> None:
        self._session = session
        self._job = job
        self.number = number
        self._pieces: dict[int, Records] = {}

    def of(self, ordinal: int) -> Prediction | None:
        """Return the prediction of an item; None when the round made none."""
        if self.number is None:
            return None
        chunk, place = divmod(ordinal, CHUNK)
        if chunk not in self._pieces:
            self._fetch(chunk)
        records = self._pieces[chunk]
        return _prediction(records[place]) if place < len(records) else None

    def _fetch(self, chunk: int) -> None:
        # Walks go upward: what lies behind is not asked for again.
        assert self.number is not None
        self._pieces = {chunk: np.empty(0, dtype=_RECORD)}
        self._pieces.update(_chunks(self._session, self._job, self.number, [chunk]))


def _chunks(
    session: orm.Session, job: tables.Job, number: int, chunks: Sequence[int]
) -> Iterator[tuple[int, Records]]:
    rows = tables.Prediction
    query = sa.select(rows.chunk, rows.data).where(
        rows.job_id == job.id, rows.number == number, rows.chunk.in_(chunks)
    )
    for chunk, data in session.execute(query.order_by(rows.chunk)):
        yield chunk, np.frombuffer(data, dtype=_RECORD)


def _prediction(record: np.void) -> Prediction:
    return Prediction(
        class_id=int(record["class_id"]),
        confidence=round(float(record["confidence"]), 6),
        score=round(float(record["score"]), 6),
    )


def _misfit(problem: str) -> errors.InvalidSpec:
    return errors.InvalidSpec(
        f"The outputs of the round do not fit: {problem}.",
        hint="See tasks.RoundResult for the format.",
    )
