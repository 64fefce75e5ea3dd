"""From stored scores to a certificate and the accepted items; and back, to verify it."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from quintile.core import errors
from quintile.engine import draws
from quintile.engine.certify import bounds, certificate, table, target


@dataclass(frozen=True)
class Issued:
    """A certificate and the rows [A] ascending that it lets the machine label."""

    certificate: certificate.Certificate
    accepted: draws.IntArray


@dataclass(frozen=True)
class _Choice:
    """The most lenient rule whose bound holds; ``rows`` R rows accepted, -1 = none holds."""

    rows: int
    wrong: int
    upper: int
    error: float
    accepted: draws.IntArray


def certify(
    scores: table.ScoreTable, goal: target.Target, *, look: int = 1, commitment: str = ""
) -> Issued:
    """Return the certificate that follows from ``scores``, and the items it accepts.

    Args:
        scores: Stored scores.
        goal: Target of the job.
        look: Number of this look, 1 to ``goal.max_looks``; each spends its part of a.
        commitment: sha256 that was published for the draw of R.

    Raises:
        InvalidSpec: More looks than declared.
    """
    _check_look(look, goal)
    chosen = _choose(scores, goal)
    n_items = len(scores.scores)
    sample = len(scores.random_index)
    holds = chosen.rows > 0 and len(chosen.accepted) > 0
    open_rows = ~scores.human
    open_rows[chosen.accepted] = False
    outcome: certificate.Outcome = "Uncertified"
    if holds or not open_rows.any():
        outcome = "CertifiedPartial" if open_rows.any() else "Certified"
    words = target.WORDS[goal.mode]
    error = chosen.error if outcome != "Uncertified" else None
    low, middle, high = measured(scores, alpha=goal.alpha)
    issued = certificate.Certificate(
        outcome=outcome,
        mode=goal.mode,
        words=words,
        guarantee=goal.guarantee,
        target_error=goal.error,
        confidence=goal.confidence,
        alpha=goal.alpha,
        look=look,
        items=n_items,
        population=n_items - len(scores.trained),
        random_items=sample,
        random_wrong=chosen.wrong,
        upper_wrong=chosen.upper,
        certified_error=1.0 if error is None else error,
        accept_share=max(chosen.rows, 0) / sample if sample else 0.0,
        accepted=len(chosen.accepted) if holds else 0,
        measured_error=middle,
        measured_low=low,
        measured_high=high,
        commitment=commitment,
        lines=certificate.sentences(
            among=certificate.rows_meant(goal.guarantee),
            mode=goal.mode,
            words=words,
            confidence=goal.confidence,
            error=error,
            measured=(low, middle, high),
        ),
    )
    return Issued(issued, chosen.accepted if holds else draws.no_items())


def _check_look(look: int, goal: target.Target) -> None:
    if not 1 <= look <= goal.max_looks:
        raise errors.InvalidSpec(
            f"Look {look} at the random items exceeds the {goal.max_looks} declared.",
            hint="Declare more looks before round 1; a spent look cannot be taken back.",
            field="spec.target.looks",
        )


def measured(scores: table.ScoreTable, *, alpha: float) -> tuple[float, float, float]:
    """Return (low, estimate, high) of the machine's error with nothing rejected."""
    sample = len(scores.random_index)
    if sample == 0:
        return 0.0, 1.0, 1.0
    population = len(scores.scores) - len(scores.trained)
    wrong = int(scores.random_wrong.sum())
    low = bounds.lower_count(population, sample, wrong, alpha=alpha / 2)
    high = bounds.upper_count(population, sample, wrong, alpha=alpha / 2)
    return low / population, wrong / sample, high / population


def verify(issued: certificate.Certificate, scores: table.ScoreTable) -> tuple[str, ...]:
    """Return what in ``issued`` does not follow from ``scores``; empty = it all does.

    Settled certificates are compared by their integers; their outcome may have been raised to
    ``Certified`` by people, or re-based by ``settle``.
    """
    goal = target.Target(
        error=issued.target_error,
        confidence=issued.confidence,
        guarantee=issued.guarantee,  # type: ignore[arg-type]
        mode=issued.mode,  # type: ignore[arg-type]
        looks="final" if issued.alpha >= (1 - issued.confidence) * 0.999 else "each",
        max_looks=max(1, round((1 - issued.confidence) / issued.alpha)),
    )
    again = certify(scores, goal, look=issued.look, commitment=issued.commitment).certificate
    problems = []
    settled = issued.outcome != again.outcome
    if settled and again.outcome == "Uncertified":
        problems.append(f"outcome is {issued.outcome}; the scores give {again.outcome}")
    skipped = {"outcome", "lines"}
    if issued.outcome != "Certified" and _is_rebased(issued, again):
        skipped.add("certified_error")
    for name, value in again.document().items():
        stored = getattr(issued, name)
        same = math.isclose(stored, value) if isinstance(value, float) else stored == value
        if name not in skipped and not same:
            problems.append(f"{name} is {stored}; the scores give {value}")
    return tuple(problems)


def _is_rebased(issued: certificate.Certificate, again: certificate.Certificate) -> bool:
    """Return whether the error is the same bound as a share of fewer rows, as ``settle`` writes."""
    bound = again.upper_wrong - again.random_wrong
    if issued.guarantee != "dataset" or bound <= 0 or issued.certified_error <= 0:
        return False
    exported = round(bound / issued.certified_error)
    return 1 <= exported <= again.items and math.isclose(bound / exported, issued.certified_error)


def _choose(scores: table.ScoreTable, goal: target.Target) -> _Choice:
    if goal.mode != "crossfit":
        _check_fixed_model(scores)
    if goal.guarantee == "precision":
        return _choose_precision(scores, goal)
    return _choose_dataset(scores, goal)


def _choose_dataset(scores: table.ScoreTable, goal: target.Target) -> _Choice:
    n_items, sample = len(scores.scores), len(scores.random_index)
    population = n_items - len(scores.trained)
    allowed = -1
    if sample:
        allowed = bounds.allowed_wrong(
            population, sample, rows=n_items, error=goal.error, alpha=goal.alpha
        )
    if allowed < 0:
        return _Choice(-1, 0, population, 1.0, draws.no_items())
    order = np.argsort(scores.random_rank, kind="stable")
    ranks, wrong = scores.random_rank[order], np.cumsum(scores.random_wrong[order])
    rows = int(np.searchsorted(wrong, allowed, side="right"))
    # Rows of one rank stand or fall together: the model cannot tell them apart.
    if rows < sample:
        rows = int(np.searchsorted(ranks, ranks[rows], side="left"))
    found = int(wrong[rows - 1]) if rows else 0
    upper = bounds.upper_count(population, sample, found, alpha=goal.alpha)
    limit = float(ranks[rows]) if rows < sample else np.inf
    accepted = _accept(scores, goal, share=rows / sample, limit=limit)
    return _Choice(rows, found, upper, (upper - found) / n_items, accepted)


def _choose_precision(scores: table.ScoreTable, goal: target.Target) -> _Choice:
    n_items, sample = len(scores.scores), len(scores.random_index)
    population = n_items - len(scores.trained)
    alpha = goal.alpha / len(bounds.PRECISION_LEVELS)
    for level in bounds.PRECISION_LEVELS if sample else ():
        inside = scores.random_rank < level if level < 1 else np.ones(sample, dtype=np.bool_)
        rows, found = int(inside.sum()), int(scores.random_wrong[inside].sum())
        limit = level if level < 1 else np.inf
        accepted = _accept(scores, goal, share=rows / sample, limit=limit)
        if rows == 0 or len(accepted) == 0:
            continue
        # Of the population, the part inside the set: counted for a fixed model, else by share.
        size = max(rows, round(population * rows / sample))
        if goal.mode != "crossfit":
            size = int((positions(scores.scores) < limit).sum()) - int(
                (positions(scores.scores)[scores.trained] < limit).sum()
            )
        upper = bounds.upper_count(size, rows, found, alpha=alpha)
        error = (upper - found) / len(accepted)
        if error <= goal.error + 1e-12:
            return _Choice(rows, found, upper, error, accepted)
    return _Choice(-1, 0, population, 1.0, draws.no_items())


def _accept(
    scores: table.ScoreTable, goal: target.Target, *, share: float, limit: float
) -> draws.IntArray:
    """Return the unlabelled items that the rule accepts, ascending.

    Cross-fit has no common scale between folds and the final model, so the surest ``share`` of
    the unlabelled items is taken; a fixed model uses its own ranks below ``limit``.
    """
    open_rows = np.flatnonzero(~scores.human)
    if goal.mode == "crossfit":
        ranked = open_rows[draws.descending(scores.scores[open_rows])]
        taken = ranked[: math.floor(share * len(ranked) + 1e-9)]
    else:
        taken = open_rows[positions(scores.scores)[open_rows] < limit]
    return np.sort(taken[~scores.blocked[taken]]).astype(np.int64)


def positions(scores: draws.FloatArray) -> draws.FloatArray:
    """Return each item's rank in [0, 1) [N]: the share of all items with a higher score."""
    found = np.empty(len(scores))
    found[draws.descending(scores)] = np.arange(len(scores))
    return found / len(scores)


def _check_fixed_model(scores: table.ScoreTable) -> None:
    expected = positions(scores.scores)[scores.random_index]
    if not np.allclose(expected, scores.random_rank, rtol=0, atol=1e-12):
        raise errors.InvalidSpec(
            "The ranks of the sealed items are not those of the final scores; "
            "expected the share of all items with a higher score.",
            hint="Score sealed items with the final model.",
        )
