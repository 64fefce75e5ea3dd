"""Certificates from stored scores: tables of cases, the promise on known pools, and verify."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quintile.core import errors
from quintile.engine import certify, draws


def table(
    wrong: list[bool], *, n_items: int = 400, ranks: list[float] | None = None, **changes: Any
) -> certify.ScoreTable:
    """R is the first rows, scores fall with the row, nothing else is labelled."""
    sample = len(wrong)
    human = np.zeros(n_items, dtype=bool)
    human[:sample] = True
    values: dict[str, Any] = {
        "scores": draws.rounded(np.linspace(1, 0.5, n_items)),
        "human": human,
        "blocked": np.zeros(n_items, dtype=bool),
        "random_index": np.arange(sample),
        "random_rank": np.array(ranks or [i / sample for i in range(sample)]),
        "random_wrong": np.array(wrong, dtype=bool),
        "trained": draws.no_items(),
    }
    return certify.ScoreTable(**{**values, **changes})


def fixed(truth_wrong: np.ndarray, sample: np.ndarray, trained: np.ndarray) -> certify.ScoreTable:
    """A fixed model whose score falls with the row; R is a random sample."""
    n_items = len(truth_wrong)
    human = np.zeros(n_items, dtype=bool)
    human[sample] = True
    human[trained] = True
    return certify.ScoreTable(
        scores=draws.rounded(np.linspace(1, 0, n_items)),
        human=human,
        blocked=np.zeros(n_items, dtype=bool),
        random_index=sample,
        random_rank=sample / n_items,
        random_wrong=truth_wrong[sample],
        trained=trained,
    )


def test_all_right_accepts_everything() -> None:
    issued = certify.certify(table([False] * 100), certify.Target(error=0.05))
    found = issued.certificate
    assert found.outcome == "Certified"
    assert issued.accepted.tolist() == list(range(100, 400))
    assert (found.random_items, found.random_wrong, found.accept_share) == (100, 0, 1.0)
    assert found.upper_wrong == certify.upper_count(400, 100, 0, alpha=0.05)
    assert found.certified_error == found.upper_wrong / 400
    assert "95 % confidence" in found.lines[0]
    assert "empirical" in found.lines[0]


def test_errors_cut_the_accepted_share() -> None:
    wrong = [False] * 100
    for row in (60, 70, 80, 90):
        wrong[row] = True
    issued = certify.certify(table(wrong), certify.Target(error=0.05))
    found = issued.certificate
    assert found.outcome == "CertifiedPartial"
    assert found.certified_error <= 0.05
    # Every error that the bound allows is spent, the next one is where acceptance ends.
    allowed = found.random_wrong
    assert certify.upper_count(400, 100, allowed + 1, alpha=0.05) - allowed - 1 > 20
    end = [60, 70, 80, 90][allowed]
    assert found.accept_share == end / 100
    assert len(issued.accepted) == end * 3
    assert issued.accepted.tolist() == list(range(100, 100 + end * 3))


def test_equal_ranks_stand_or_fall_together() -> None:
    ranks = [0.0] * 50 + [0.5] * 50
    wrong = [False] * 98 + [True] * 2
    issued = certify.certify(table(wrong, ranks=ranks), certify.Target(error=0.03))
    assert issued.certificate.accept_share == 0.5


@pytest.mark.parametrize(
    ("wrong", "error"),
    [([False] * 20, 0.02), ([True] * 100, 0.01), ([], 0.05)],
    ids=["too-few", "all-wrong", "no-stratum"],
)
def test_nothing_is_certified(wrong: list[bool], error: float) -> None:
    issued = certify.certify(table(wrong), certify.Target(error=error))
    found = issued.certificate
    assert found.outcome == "Uncertified"
    assert len(issued.accepted) == found.accepted == 0
    assert found.certified_error == 1.0
    assert "certified" not in " ".join(found.lines)
    assert f"{100 * found.measured_high:.1f} %" in found.lines[0]


def test_blocked_items_are_never_accepted() -> None:
    blocked = np.zeros(400, dtype=bool)
    blocked[[150, 399]] = True
    issued = certify.certify(table([False] * 100, blocked=blocked), certify.Target(error=0.05))
    assert not {150, 399} & set(issued.accepted.tolist())
    assert issued.certificate.outcome == "CertifiedPartial"


def test_uncovered_rows_answered_by_people_complete_it() -> None:
    wrong = [False] * 100
    wrong[60] = wrong[61] = wrong[62] = True
    partial = certify.certify(table(wrong), certify.Target(error=0.05)).certificate
    assert partial.outcome == "CertifiedPartial"
    assert certify.settle(partial, uncovered_left=0).outcome == "Certified"
    left = certify.settle(partial, uncovered_left=50)
    assert left.certified_error == (partial.upper_wrong - partial.random_wrong) / 350
    assert certify.settled_outcome(partial, uncovered_left=395) == "Uncertified"


def test_precision_is_among_machine_rows() -> None:
    goal = certify.Target(error=0.05, guarantee="precision")
    found = certify.certify(table([False] * 120), goal).certificate
    assert found.outcome == "Certified"
    assert found.certified_error == pytest.approx(found.upper_wrong / found.accepted)
    assert "rows that the machine labelled" in found.lines[0]
    wrong = [False] * 110 + [True] * 10
    less = certify.certify(table(wrong), replace(goal, error=0.06)).certificate
    assert less.accept_share < 1
    assert 0 < less.certified_error <= 0.06


def test_looks_split_what_may_be_spent() -> None:
    goal = certify.Target(error=0.05, looks="each", max_looks=5)
    assert goal.alpha == 0.01
    found = certify.certify(table([False] * 120), goal, look=2).certificate
    assert found.upper_wrong == certify.upper_count(400, 120, 0, alpha=0.01)
    assert certify.verify(found, table([False] * 120)) == ()
    with pytest.raises(errors.InvalidSpec, match="Look 6 at the random items exceeds"):
        certify.certify(table([False] * 120), goal, look=6)


def test_sealed_ranks_must_be_those_of_the_final_model() -> None:
    with pytest.raises(errors.InvalidSpec, match="ranks of the sealed items"):
        certify.certify(table([False] * 100), certify.Target(error=0.05, mode="strict"))


@st.composite
def tables(draw: st.DrawFn) -> certify.ScoreTable:
    sample = draw(st.integers(0, 60))
    wrong = draw(st.lists(st.booleans(), min_size=sample, max_size=sample))
    places = st.integers(0, 8).map(lambda place: place / 8)
    ranks = draw(st.lists(places, min_size=sample, max_size=sample))
    n_items = draw(st.integers(max(1, sample), 120))
    return table(wrong, n_items=n_items, ranks=ranks)


@given(tables(), st.sampled_from(["dataset", "precision"]), st.sampled_from([0.05, 0.1, 0.3]))
@settings(max_examples=80, deadline=None)
def test_certificates_verify_and_keep_their_own_rules(
    scores: certify.ScoreTable, guarantee: Any, error: float
) -> None:
    goal = certify.Target(error=error, guarantee=guarantee)
    issued = certify.certify(scores, goal)
    found = issued.certificate
    assert certify.verify(found, scores) == ()
    assert certify.Certificate.read(found.document()) == found
    assert not scores.human[issued.accepted].any()
    assert found.measured_low <= found.measured_error <= found.measured_high
    if found.accepted:
        assert found.certified_error <= error + 1e-12
    stored = certify.ScoreTable.read(scores.arrays())
    assert certify.certify(stored, goal).certificate == found


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"random_wrong": 0}, "random_wrong"),
        ({"certified_error": 0.001}, "certified_error"),
        ({"accepted": 300}, "accepted"),
        ({"upper_wrong": 3}, "upper_wrong"),
    ],
)
def test_verify_names_what_was_changed(change: dict[str, Any], named: str) -> None:
    wrong = [False] * 100
    wrong[50] = wrong[60] = wrong[70] = wrong[80] = True
    scores = table(wrong)
    found = certify.certify(scores, certify.Target(error=0.05)).certificate
    problems = certify.verify(replace(found, **change), scores)
    assert len(problems) == 1
    assert problems[0].startswith(f"{named} is {change[named]}; the scores give")


@pytest.mark.parametrize("left", [0, 9, 50, 395])
def test_settled_certificates_verify_whatever_stays_uncovered(left: int) -> None:
    wrong = [False] * 100
    wrong[60] = wrong[61] = wrong[62] = True
    scores = table(wrong)
    partial = certify.certify(scores, certify.Target(error=0.05)).certificate
    assert partial.outcome == "CertifiedPartial"
    settled = certify.settle(partial, uncovered_left=left)
    assert certify.verify(settled, scores) == ()
    smaller = replace(settled, certified_error=settled.certified_error * 0.97)
    assert "certified_error" in "".join(certify.verify(smaller, scores))


def test_verify_sees_other_scores() -> None:
    scores = table([False] * 100)
    found = certify.certify(scores, certify.Target(error=0.05)).certificate
    assert certify.verify(found, table([True] * 100))


def test_documents_with_other_fields_are_refused() -> None:
    found = certify.certify(table([False] * 100), certify.Target(error=0.05)).certificate
    document = found.document()
    del document["alpha"]
    with pytest.raises(errors.InvalidSpec, match="missing or unknown fields: alpha"):
        certify.Certificate.read(document)


@pytest.mark.parametrize(
    ("mode", "guarantee"), [("audit", "dataset"), ("strict", "dataset"), ("audit", "precision")]
)
def test_promise_holds_for_a_fixed_model(mode: Any, guarantee: Any) -> None:
    """Over 200 draws of R a certificate is wrong in at most a = 10 % of them (99 % limit 31)."""
    n_items, draw = 600, np.random.default_rng(7)
    # Errors crowd where the model is least sure: the worst place to stop is near the target.
    wrong = draw.random(n_items) < 0.5 * np.linspace(0, 1, n_items) ** 4
    goal = certify.Target(error=0.07, confidence=0.9, mode=mode, guarantee=guarantee)
    violations = issued_count = 0
    for _ in range(200):
        rows = draw.permutation(n_items)[:180]
        trained = draws.no_items() if mode == "audit" else np.sort(rows[:60])
        sample = rows if mode == "audit" else rows[60:]
        issued = certify.certify(fixed(wrong, sample, trained), goal)
        if not len(issued.accepted):
            continue
        issued_count += 1
        bad = int(wrong[issued.accepted].sum())
        rows_in = n_items if guarantee == "dataset" else len(issued.accepted)
        violations += bad / rows_in > issued.certificate.certified_error
    assert issued_count > 100
    assert violations <= 31


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"error": "0"}, "between 0 and 0.5"),
        ({"error": "x"}, "cannot be read"),
        ({"confidence": "1"}, "expected 0.5 to 1"),
        ({"mode": "lax"}, "expected one of strict|expected one of"),
        ({"colour": "red"}, "unknown fields colour"),
        ({"maxLooks": "3"}, "expected 1 for final"),
    ],
)
def test_targets_out_of_range_are_refused(fields: dict[str, str], message: str) -> None:
    with pytest.raises(errors.InvalidSpec, match=message):
        certify.Target.parse(fields)


def test_targets_are_read_from_manifests() -> None:
    goal = certify.Target.parse({"error": "0.01", "mode": "strict", "random": "220"})
    assert (goal.error, goal.mode, goal.alpha) == (0.01, "strict", 0.05)
