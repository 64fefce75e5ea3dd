"""Hyperparameters: text to types, defaults, and refusals that name the field."""

from __future__ import annotations

import dataclasses

import pytest

from quintile_trainer import failures, hyper


def parsed(*, extra: bool = False, **texts: str) -> hyper.HyperParameters:
    return hyper.parse(texts, extra=extra)


def test_text_becomes_what_the_field_is() -> None:
    given = parsed(
        iterations="50_000", batch_size="64", learning_rate="1e-1", flip="True", optimizer="adamw"
    )
    assert (given.iterations, given.batch_size, given.learning_rate) == (50_000, 64, 0.1)
    assert (given.flip, given.optimizer) == (True, "adamw")
    assert parsed(epochs="3.0", momentum="0") == hyper.HyperParameters(epochs=3, momentum=0.0)
    assert parsed() == hyper.HyperParameters()


BAD = {
    "typo": ({"batchsize": "4"}, "hparam 'batchsize' is unknown; did you mean 'batch_size'?"),
    "unknown": ({"zzz": "4"}, "hparam 'zzz' is unknown; known are iterations, epochs,"),
    "no number": ({"batch_size": "ten"}, "hparam batch_size is 'ten'; expected a whole number"),
    "a fraction": ({"epochs": "1.5"}, "hparam epochs is '1.5'; expected a whole number"),
    "no yes or no": ({"flip": "maybe"}, "hparam flip is 'maybe'; expected true or false"),
    "a truth": ({"epochs": "true"}, "hparam epochs is 'true'; expected a whole number"),
    "negative": ({"iterations": "-1"}, "hparam iterations is -1; expected 0 or more"),
    "no epochs": ({"epochs": "0"}, "hparam epochs is 0; expected 1 or more"),
    "huge batch": ({"batch_size": "1000000"}, "hparam batch_size is 1000000; expected 1 to 65536"),
    "negative rate": ({"learning_rate": "-0.1"}, "hparam learning_rate is -0.1; expected 0 (der"),
    "nan": ({"learning_rate": "nan"}, "hparam learning_rate is nan; expected"),
    "infinite": ({"weight_decay": "inf"}, "hparam weight_decay is inf; expected"),
    "momentum": ({"momentum": "1"}, "hparam momentum is 1.0; expected 0 to below 1"),
    "smoothing": ({"label_smoothing": "1"}, "hparam label_smoothing is 1.0; expected 0 to below 1"),
    "warm-up": ({"warmup": "2"}, "hparam warmup is 2.0; expected a share from 0 to 1"),
    "clip": ({"clip_norm": "-1"}, "hparam clip_norm is -1.0; expected 0 (no limit) or above"),
    "parts": ({"batch_size": "4", "accumulate": "5"}, "hparam accumulate is 5; expected 1 to batc"),
    "seed": ({"seed": "-1"}, "hparam seed is -1; expected 0 to 2147483647"),
    "tiny image": ({"image_size": "4"}, "hparam image_size is 4; expected 0 or 8 to 2048"),
    "two channels": ({"channels": "2"}, "hparam channels is 2; expected 0, 1 or 3"),
    "shift": ({"shift": "-2"}, "hparam shift is -2; expected -1 (derived), 0 or more"),
    "patience": ({"patience": "-1"}, "hparam patience is -1; expected 0 or more"),
    "eval": ({"eval_every": "-1"}, "hparam eval_every is -1; expected 0 or more"),
    "optimizer": ({"optimizer": "sdg"}, "hparam optimizer is sdg; expected sgd or adamw"),
    "schedule": ({"schedule": "step"}, "hparam schedule is step; expected cosine or constant"),
}


@pytest.mark.parametrize(("texts", "words"), BAD.values(), ids=BAD)
def test_refusals_name_the_field_and_what_was_expected(texts: dict[str, str], words: str) -> None:
    with pytest.raises(failures.BadInput) as refused:
        hyper.parse(texts, extra=False)
    assert str(refused.value).startswith(words)


def test_every_field_has_a_rule() -> None:
    """A value far outside of every numeric field's range is refused: no field goes unchecked."""
    free = {"flip"}
    for field in dataclasses.fields(hyper.HyperParameters):
        if field.name in free:
            continue
        with pytest.raises(failures.BadInput, match=field.name):
            hyper.parse({field.name: "-99999999999"}, extra=False)


def test_names_of_the_users_functions_pass() -> None:
    given = parsed(extra=True, depth="12", batch_size="8")
    assert given.batch_size == 8
    found = hyper.values({"depth": "12", "name": "tiny", "rate": "0.5", "on": "true", "id": "1e2x"})
    assert found == {"depth": 12, "name": "tiny", "rate": 0.5, "on": True, "id": "1e2x"}


def test_the_rate_follows_the_global_batch_up_to_a_limit() -> None:
    given = hyper.HyperParameters()
    assert given.rate(128) == 2 * given.rate(32) == 4 * given.rate(8)
    assert given.rate(100_000) == hyper.RATE_LIMIT
    assert parsed(learning_rate="0.3").rate(64) == 0.3
    assert parsed(optimizer="adamw").rate(64) == hyper.ADAMW_RATE


def test_the_global_batch_counts_all_workers() -> None:
    assert hyper.global_batch(parsed(batch_size="10"), samples=1000, workers=20) == 200
    assert hyper.global_batch(parsed(), samples=1000, workers=2) == 64
    assert hyper.global_batch(parsed(), samples=20, workers=2) == 20


def test_a_batch_of_more_than_there_is_is_refused() -> None:
    with pytest.raises(failures.BadInput, match="256 samples a step.*100 training.*50 or less"):
        hyper.global_batch(parsed(batch_size="128"), samples=100, workers=2)
    with pytest.raises(failures.BadInput, match="use at most 3 workers"):
        hyper.global_batch(parsed(), samples=3, workers=4)
