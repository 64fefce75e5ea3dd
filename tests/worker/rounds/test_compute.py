"""A round as a pure function: what each step gives, replay, and who may be learned from."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
import pytest

from quintile.core import errors, tasks
from quintile.engine import certify
from quintile.testing import blobs
from quintile_trainer.rounds import compute, labels, worker

POOL = blobs.blobs(400, spread=0.35)
CLASSES = ["ant", "bee", "cat", "dog"]
R = np.random.default_rng(1).permutation(400)[:120]
CHOSEN = np.setdiff1d(np.arange(0, 400, 9), R)[:24]


def manifest(step: str, **changes: Any) -> tasks.RoundManifest:
    ids = POOL.item_ids
    labelled = np.sort(np.concatenate([R, CHOSEN])) if step != "embed" else []
    values: dict[str, Any] = {
        "job_uid": "u",
        "number": 2,
        "step": step,
        "dataset": "d",
        "version": 1,
        "pool_sha256": "",
        "features_key": "",
        "features_sha256": "",
        "labels": [(str(ids[row]), "a", int(POOL.truth[row])) for row in labelled],
        "random": [(str(ids[row]), int(POOL.truth[row])) for row in R] if step != "embed" else [],
        "exclude": [] if step == "finalise" else sorted(str(ids[row]) for row in R),
        "classes": CLASSES,
        "schema_version": 1,
        "engine_version": "1",
        "seed": 5,
        "batch": 12,
        "strategy": "auto",
        "target": {"error": "0.05", "confidence": "0.95"},
        "random_size": 120,
        "commitment": "c0ffee",
        "history": [],
    }
    return tasks.RoundManifest.model_validate({**values, **changes})


def run(step: str, **changes: Any) -> compute.Outcome:
    return compute.STEPS[step](manifest(step, **changes), POOL.item_ids, POOL.features)


def digest(outcome: compute.Outcome) -> str:
    found = hashlib.sha256()
    for arrays in (outcome.predictions, outcome.scores):
        found.update(worker.npz(arrays))
    rest = (outcome.order, outcome.reasons, outcome.accepted, outcome.model_sha256)
    found.update(repr((rest, dict(outcome.certificate), dict(outcome.report))).encode())
    return found.hexdigest()


def test_embed_orders_items_outside_of_the_stratum() -> None:
    outcome = run("embed")
    assert len(outcome.order) == len(outcome.reasons) == 36
    assert not set(outcome.order) & {str(POOL.item_ids[row]) for row in R}
    assert outcome.reasons[0].startswith("stands for ")
    assert not outcome.predictions


def test_learn_predicts_all_and_orders_what_is_open() -> None:
    outcome = run("learn")
    asked = np.searchsorted(POOL.item_ids, np.array(outcome.order))
    assert len(set(outcome.order)) == len(outcome.order) >= 2 * 12
    assert not np.isin(asked, np.concatenate([R, CHOSEN])).any()
    found = outcome.predictions
    assert found["item_ids"].tolist() == POOL.item_ids.tolist()
    assert found["probabilities"].shape == (400, 4)
    assert found["probabilities"].dtype == np.float32
    assert (found["predicted"] == POOL.truth).mean() > 0.9
    assert found["scores"].shape == (400,)
    assert set(outcome.report) == {
        "coverage",
        "coverage_low",
        "coverage_high",
        "labels_left",
        "labels_total",
        "stop",
        "advice",
    }
    assert len(outcome.model_sha256) == 64


def test_finalise_certifies_and_the_certificate_verifies() -> None:
    outcome = run("finalise")
    found = certify.Certificate.read(outcome.certificate)
    assert found.outcome in ("Certified", "CertifiedPartial")
    assert found.accepted == len(outcome.accepted) > 100
    assert found.certified_error <= 0.05
    assert (found.random_items, found.commitment) == (120, "c0ffee")
    assert certify.verify(found, certify.ScoreTable.read(dict(outcome.scores))) == ()
    accepted = np.searchsorted(POOL.item_ids, np.array(outcome.accepted))
    assert list(outcome.accepted) == sorted(outcome.accepted)
    assert not np.isin(accepted, np.concatenate([R, CHOSEN])).any()
    wrong = outcome.predictions["predicted"][accepted] != POOL.truth[accepted]
    assert wrong.sum() / 400 <= found.certified_error
    everything = set(outcome.order) | set(outcome.accepted)
    assert len(everything) == 400 - len(R) - len(CHOSEN)


@pytest.mark.parametrize("step", ["embed", "learn", "finalise"])
def test_equal_manifests_give_equal_bytes(step: str) -> None:
    assert digest(run(step)) == digest(run(step))


@pytest.mark.parametrize("mode", ["crossfit", "strict"])
def test_arrival_order_never_enters(mode: str) -> None:
    target = {"error": "0.05", "mode": mode}
    given = manifest("finalise").labels
    shuffled = [given[place] for place in np.random.default_rng(0).permutation(len(given))]
    assert digest(run("finalise", target=target)) == digest(
        run("finalise", target=target, labels=shuffled)
    )


def test_sealed_answers_teach_nothing() -> None:
    target = {"error": "0.05", "mode": "strict"}
    sealed = {str(POOL.item_ids[row]) for row in R[60:]}
    turned = [
        (item_id, annotation, (label + 1) % 4 if item_id in sealed else label)
        for item_id, annotation, label in manifest("learn").labels
    ]
    before, after = run("learn", target=target), run("learn", target=target, labels=turned)
    assert digest(before) == digest(after)
    assert digest(run("learn")) != digest(run("learn", labels=turned))


def test_strict_certifies_with_the_sealed_half() -> None:
    outcome = run("finalise", target={"error": "0.08", "mode": "strict"})
    found = certify.Certificate.read(outcome.certificate)
    assert (found.random_items, found.population) == (60, 400 - 60)
    assert found.words.startswith("exact for a fixed model")
    assert certify.verify(found, certify.ScoreTable.read(dict(outcome.scores))) == ()


def test_items_settled_without_a_class_count_as_missed_and_stay_out() -> None:
    skipped = {str(POOL.item_ids[row]) for row in [*R[:3], *CHOSEN[:2]]}

    def hide(label: int, item_id: str) -> int:
        return -1 if item_id in skipped else label

    base = manifest("finalise")
    outcome = run(
        "finalise",
        labels=[(item_id, a, hide(label, item_id)) for item_id, a, label in base.labels],
        random=[(item_id, hide(label, item_id)) for item_id, label in base.random],
    )
    table = certify.ScoreTable.read(dict(outcome.scores))
    assert table.blocked.sum() == 5
    assert table.random_wrong[:3].all()
    assert not skipped & set(outcome.accepted)


@pytest.mark.parametrize("labelled", [0, 1, 3])
def test_hardly_any_labels_certify_nothing_but_work(labelled: int) -> None:
    base = manifest("finalise")
    rows = [entry for entry in base.labels if entry[0] in dict(base.random[:labelled])]
    few = {"labels": rows, "random": base.random[:labelled]}
    assert run("finalise", **few).certificate["outcome"] == "Uncertified"
    assert len(run("learn", **few).order) == 36


def test_rounds_draw_anew() -> None:
    first = run("learn", strategy="random", number=2)
    assert first.order != run("learn", strategy="random", number=3).order


def test_training_rows_of_a_manifest() -> None:
    roles = labels.roles(manifest("learn"), POOL.item_ids)
    index, classes = roles.training()
    assert index.tolist() == sorted([*R.tolist(), *CHOSEN.tolist()])
    assert classes.tolist() == POOL.truth[index].tolist()
    assert roles.random.tolist() == R.tolist()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"labels": [("f" * 16, "a", 0)]}, "The pool has no item 'ffffffffffffffff'"),
        ({"labels": [(f"{3:016x}", "a", 4)]}, "class ids outside of -1 to 3"),
        ({"strategy": "best"}, "no strategy 'best'"),
        ({"target": {"error": "2"}}, "target.error is 2.0"),
    ],
)
def test_manifests_that_do_not_fit_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(errors.InvalidSpec, match=message):
        run("learn", **changes)
