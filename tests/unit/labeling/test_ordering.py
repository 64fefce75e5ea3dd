"""The order of the queue, the size of a job, packed predictions."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest

from quintile.core import cycle, datasets, errors, labeling_job
from quintile_labeling.admission import plan
from quintile_labeling.queue import ordering
from quintile_labeling.rounds import predictions


def test_lockstep_asks_all_random_items_first() -> None:
    kinds: tuple[ordering.Kind, ...] = ("random", "batch", "reserve", "uncovered")
    tiers = [ordering.place(kind, lookahead=0, ordinal=0).tier for kind in kinds]
    assert tiers == sorted(set(tiers))
    ahead = [ordering.place(kind, lookahead=1, ordinal=0).tier for kind in kinds]
    assert ahead[0] == ahead[1] < ahead[2] < ahead[3]


def test_random_and_second_answers_are_blind() -> None:
    assert ordering.place("random", lookahead=1, ordinal=0).blind
    assert not ordering.place("batch", lookahead=1, ordinal=0).blind
    second = ordering.place("batch", lookahead=1, ordinal=1)
    assert (second.purpose, second.blind) == ("overlap", True)


def test_a_mix_spreads_a_batch_evenly() -> None:
    mix = ordering.Mix(start=5, share=2.5)
    assert [mix.position(index) for index in range(4)] == [7, 10, 12, 15]
    assert [ordering.Mix().position(index) for index in range(3)] == [0, 1, 2]


def test_draws_by_hash_have_their_share() -> None:
    items = [f"{number:016x}" for number in range(4000)]
    doubled = sum(ordering.is_doubled(0, item, share=0.1) for item in items)
    blind = sum(ordering.is_blind(0, item) for item in items)
    assert 330 <= doubled <= 470
    assert 400 <= blind <= 600
    assert not any(ordering.is_doubled(0, item, share=0.0) for item in items)
    assert ordering.fraction(1, "a", use="x") != ordering.fraction(2, "a", use="x")


def spec(**changes: Any) -> labeling_job.LabelingJobSpec:
    return labeling_job.LabelingJobSpec.model_validate(
        {
            "dataset": {"name": "digits", "version": 1},
            "labels": ["a", "b"],
            "budget": {"maxHumanLabels": "25%"},
            **changes,
        }
    )


def version(items: int) -> datasets.VersionView:
    return datasets.VersionView(
        dataset="digits",
        dataset_uid="u",
        version=1,
        parent=None,
        digest="d",
        items=items,
        labelled=0,
        bytes=0,
        classes=[],
        label_sources={},
        manifest_key="m",
        manifest_sha256="m",
        labels_key="l",
        labels_sha256="l",
        origin="",
        created="",
    )


def test_the_size_of_a_job() -> None:
    assert plan.size(spec(target={"random": "220"}), version(1797)) == cycle.Limits(
        decisions=450, random=220, chosen=230, batch=90
    )
    roomy = plan.size(spec(), version(1797))
    tight = plan.size(spec(budget={"maxHumanLabels": "170"}), version(1797))
    assert tight.random < roomy.random
    assert tight.chosen == 170 - tight.random
    with pytest.raises(errors.InvalidSpec, match=f"alone take {tight.random}"):
        plan.size(spec(budget={"maxHumanLabels": str(tight.random - 1)}), version(1797))


def test_a_changed_budget_leaves_the_draw_alone() -> None:
    before = cycle.Limits(decisions=450, random=220, chosen=230, batch=90)
    after = plan.resize(spec(budget={"maxHumanLabels": "500"}), before, items=1797)
    assert after == cycle.Limits(decisions=500, random=220, chosen=280, batch=90)
    less = plan.resize(spec(budget={"maxHumanLabels": "100"}), before, items=1797)
    assert less == cycle.Limits(decisions=100, random=220, chosen=0, batch=90)


@pytest.mark.parametrize("labels", [["b", "a"], ["a"], ["c", "a", "b"]])
def test_labels_keep_the_places_of_the_classes(labels: list[str]) -> None:
    with pytest.raises(errors.InvalidSpec, match="must begin with the 2 classes"):
        plan.check_labels(spec(labels=[*labels, "z"]), ["a", "b"])
    plan.check_labels(spec(labels=["a", "b", "z"]), ["a", "b"])
    plan.check_labels(spec(labels=labels if len(labels) > 1 else ["a", "z"]), [])


def test_labels_are_names_that_a_dataset_takes() -> None:
    with pytest.raises(errors.InvalidSpec, match=r"spec.labels\[1\] is 'b\\nc'; expected"):
        plan.check_labels(spec(labels=["a", "b\nc"]), ["a"])


def packed(**changes: Any) -> bytes:
    arrays = {
        "item_ids": np.array(["a", "b"]),
        "probabilities": np.array([[0.9, 0.1], [0.2, 0.8]], dtype=np.float32),
        "predicted": np.array([0, 1]),
        "scores": np.array([0.5, 0.75]),
        **changes,
    }
    buffer = io.BytesIO()
    np.savez(buffer, **{name: array for name, array in arrays.items() if array is not None})
    return buffer.getvalue()


def test_predictions_are_read() -> None:
    records = predictions.parse(packed(), item_ids=["a", "b"], classes=2)
    assert records["class_id"].tolist() == [0, 1]
    assert records["confidence"].tolist() == pytest.approx([0.9, 0.8])
    assert records["score"].tolist() == [0.5, 0.75]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"item_ids": np.array(["a", "c"])}, "item_ids are not the 2 item ids"),
        ({"item_ids": np.array(["a"])}, "item_ids are not the 2 item ids"),
        ({"probabilities": np.ones((2, 3))}, "have shape"),
        ({"predicted": np.array([0])}, "one entry per item"),
        ({"predicted": np.array([0, 2])}, "outside 0 to 1"),
        ({"predicted": np.array([0.5, 0.5])}, "whole numbers"),
        ({"scores": np.array([0.5, np.nan])}, "not finite"),
        ({"scores": None}, "cannot be read"),
        ({"scores": np.array([{}, {}], dtype=object)}, "cannot be read"),
    ],
)
def test_predictions_that_do_not_fit(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(errors.InvalidSpec, match=words):
        predictions.parse(packed(**changes), item_ids=["a", "b"], classes=2)


def test_bytes_that_are_no_npz() -> None:
    for data in (b"", b"no", b"PK\x03\x04broken"):
        with pytest.raises(errors.InvalidSpec, match="cannot be read"):
            predictions.load_npz(data, ["scores"])
