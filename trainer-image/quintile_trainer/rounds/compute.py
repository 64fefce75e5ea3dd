"""One round as a pure function: manifest, item ids and features in, outcome out.

No files, no network, no clock. Equal inputs give equal outcomes, byte for byte on one image and
CPU architecture. Called by ``worker``, by tests of the labeling service and by benchmarks.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from quintile.core import tasks
from quintile.engine import certify, confidence, draws, forecast, propagate, strategies
from quintile_trainer.rounds import labels

Arrays = Mapping[str, npt.NDArray[Any]]
Features = npt.NDArray[np.floating[Any]]

_BATCHES_AHEAD = 3
_FEWEST_AHEAD = 20
_NO_PREDICTION = -2


@dataclass(frozen=True)
class Outcome:
    """What a round gives; fields that its step does not make are empty.

    Attributes:
        order: Item ids to ask next, best first.
        reasons: Why, one per id.
        accepted: Item ids that the machine may label, ascending.
        certificate: ``Certificate.document()``.
        predictions: ``item_ids``, ``probabilities``, ``predicted``, ``scores``.
        scores: ``ScoreTable.arrays()``.
        model_sha256: Digest of everything the model says about the pool.
        report: Figures for the round view; nothing measured on R.
    """

    order: tuple[str, ...] = ()
    reasons: tuple[str, ...] = ()
    accepted: tuple[str, ...] = ()
    certificate: Mapping[str, Any] = field(default_factory=dict)
    predictions: Arrays = field(default_factory=dict)
    scores: Arrays = field(default_factory=dict)
    model_sha256: str = ""
    report: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class _Round:
    manifest: tasks.RoundManifest
    item_ids: labels.Ids
    space: propagate.Space
    roles: labels.Roles

    @property
    def seed(self) -> int:
        # Each round draws anew, and the same when it is computed again.
        return self.manifest.seed * 1000 + self.manifest.number


def embed(manifest: tasks.RoundManifest, item_ids: labels.Ids, features: Features) -> Outcome:
    """Return the cold-start order of the items outside of R.

    Args:
        manifest: Of an ``embed`` round.
        item_ids: The pool, sorted [N].
        features: [N, D].
    """
    state = _prepare(manifest, item_ids, features)
    picks = _choose(state, None)
    return Outcome(order=_ids(item_ids, picks.rows), reasons=picks.reasons)


def learn(manifest: tasks.RoundManifest, item_ids: labels.Ids, features: Features) -> Outcome:
    """Return predictions, what to ask next, and a forecast. Arguments as ``embed``."""
    state = _prepare(manifest, item_ids, features)
    fitted = _fit(state)
    if fitted is None:
        picks = _choose(state, None)
        return Outcome(order=_ids(item_ids, picks.rows), reasons=picks.reasons)
    judged = confidence.judge(fitted)
    picks = _choose(state, judged.probabilities)
    return Outcome(
        order=_ids(item_ids, picks.rows),
        reasons=picks.reasons,
        predictions=_predictions(item_ids, judged),
        model_sha256=_digest(judged),
        report=_outlook(state, fitted),
    )


def finalise(manifest: tasks.RoundManifest, item_ids: labels.Ids, features: Features) -> Outcome:
    """Return the certificate with the items it accepts; uncovered items in order of doubt.

    Arguments as ``embed``.
    """
    state = _prepare(manifest, item_ids, features)
    goal = certify.Target.parse(manifest.target)
    fitted = _fit(state)
    judged = _know_nothing(state) if fitted is None else confidence.judge(fitted)
    table = _table(state, goal, fitted, judged)
    issued = certify.certify(table, goal, commitment=manifest.commitment)
    left = np.setdiff1d(np.flatnonzero(~table.human & ~table.blocked), issued.accepted)
    doubtful = left[draws.descending(-judged.scores[left])]
    return Outcome(
        order=_ids(item_ids, doubtful),
        reasons=tuple(f"the machine is {judged.scores[row]:.2f} sure" for row in doubtful),
        accepted=_ids(item_ids, issued.accepted),
        certificate=issued.certificate.document(),
        predictions=_predictions(item_ids, judged),
        scores=table.arrays(),
        model_sha256=_digest(judged),
        report=_settled(state, len(issued.accepted), len(left)),
    )


STEPS = {"embed": embed, "learn": learn, "finalise": finalise}


def _prepare(manifest: tasks.RoundManifest, item_ids: labels.Ids, features: Features) -> _Round:
    wide = np.ascontiguousarray(features, dtype=np.float64)
    space = propagate.build(wide, seed=manifest.seed)
    return _Round(manifest, item_ids, space, labels.roles(manifest, item_ids))


def _fit(state: _Round) -> propagate.Fitted | None:
    index, classes = state.roles.training()
    if len(index) == 0:
        return None
    known = propagate.Known(index, classes, len(state.manifest.classes))
    return propagate.fit(state.space, known, seed=state.seed)


def _choose(state: _Round, probabilities: draws.FloatArray | None) -> strategies.Picks:
    manifest = state.manifest
    ahead = max(_BATCHES_AHEAD * manifest.batch, manifest.batch + _FEWEST_AHEAD)
    chooser = strategies.State(
        features=state.space.features,
        scale=state.space.scale,
        covered=state.roles.covered(),
        open=state.roles.open(len(state.item_ids)),
        wanted=ahead,
        seed=state.seed,
        probabilities=probabilities,
    )
    return strategies.order(
        manifest.strategy, chooser, classes=manifest.classes, batch=manifest.batch
    )


def _outlook(state: _Round, fitted: propagate.Fitted) -> dict[str, Any]:
    manifest, roles = state.manifest, state.roles
    outside = ~np.isin(fitted.known.index, roles.withheld)
    pool, chosen = confidence.judge_apart(fitted, outside)
    answers = fitted.known.classes[outside][: len(chosen.scores)]
    evidence = forecast.Evidence(
        pool=pool.scores[roles.open(len(state.item_ids))],
        chosen=chosen.scores,
        chosen_wrong=chosen.predicted != answers,
    )
    plan = forecast.Plan(
        items=len(state.item_ids),
        labels=len(roles.settled),
        random_size=manifest.random_size,
        random_left=len(np.setdiff1d(roles.withheld, roles.settled)),
        batch=manifest.batch,
        history=manifest.history,
    )
    goal = certify.Target.parse(manifest.target)
    found = asdict(forecast.forecast(evidence, goal, plan, seed=state.seed))
    found["coverage_low"], found["coverage_high"] = found.pop("low"), found.pop("high")
    return found


def _settled(state: _Round, accepted: int, left: int) -> dict[str, Any]:
    coverage = round(accepted / max(1, accepted + left), 6)
    labels_made = len(state.roles.settled)
    return {
        "coverage": coverage,
        "coverage_low": coverage,
        "coverage_high": coverage,
        "labels_left": left,
        "labels_total": labels_made + left,
        "stop": "",
        "advice": "",
    }


def _table(
    state: _Round,
    goal: certify.Target,
    fitted: propagate.Fitted | None,
    judged: confidence.Judged,
) -> certify.ScoreTable:
    roles, n_items = state.roles, len(state.item_ids)
    human, blocked = np.zeros(n_items, dtype=np.bool_), np.zeros(n_items, dtype=np.bool_)
    human[roles.settled[roles.classes >= 0]] = True
    blocked[roles.settled[roles.classes < 0]] = True
    teaching = 0 if goal.mode == "crossfit" else labels.teaching_count(state.manifest)
    sample, answers = roles.random[teaching:], roles.random_classes[teaching:]
    if goal.mode == "crossfit":
        pool = np.flatnonzero(~human & ~blocked)
        predicted, rank = _held_out(fitted, judged, sample, pool=pool)
    else:
        predicted, rank = judged.predicted[sample], certify.positions(judged.scores)[sample]
    return certify.ScoreTable(
        scores=judged.scores,
        human=human,
        blocked=blocked,
        random_index=sample,
        random_rank=rank,
        random_wrong=predicted != answers,
        trained=roles.random[:teaching],
    )


def _held_out(
    fitted: propagate.Fitted | None,
    judged: confidence.Judged,
    sample: draws.IntArray,
    *,
    pool: draws.IntArray,
) -> tuple[draws.IntArray, draws.FloatArray]:
    """Return predictions [n] and ranks [n] of R items by models that never saw their labels."""
    if fitted is None or fitted.n_folds == 0:
        # Too few labels to hold any out: every answer of R counts as missed.
        return np.full(len(sample), _NO_PREDICTION), np.ones(len(sample))
    crossed = confidence.cross_fit(fitted, pool)
    # R items without a class taught nothing; the final model itself has not seen them.
    predicted, scores = judged.predicted.copy(), np.sort(judged.scores[pool])
    surer = len(pool) - np.searchsorted(scores, judged.scores, side="right")
    rank = surer / max(1, len(pool))
    predicted[crossed.index], rank[crossed.index] = crossed.predicted, crossed.rank
    return predicted[sample], rank[sample]


def _know_nothing(state: _Round) -> confidence.Judged:
    n_items, n_classes = len(state.item_ids), len(state.manifest.classes)
    return confidence.Judged(
        np.full((n_items, n_classes), 1.0 / n_classes),
        np.zeros(n_items, dtype=np.int64),
        np.full(n_items, draws.rounded(np.array(1.0 / n_classes))),
    )


def _predictions(item_ids: labels.Ids, judged: confidence.Judged) -> Arrays:
    return {
        "item_ids": item_ids,
        "probabilities": judged.probabilities.astype(np.float32),
        "predicted": judged.predicted,
        "scores": judged.scores,
    }


def _digest(judged: confidence.Judged) -> str:
    digest = hashlib.sha256(np.ascontiguousarray(judged.probabilities).tobytes())
    digest.update(judged.scores.tobytes())
    return digest.hexdigest()


def _ids(item_ids: labels.Ids, rows: draws.IntArray) -> tuple[str, ...]:
    return tuple(str(item_id) for item_id in item_ids[rows])
