"""Hyperparameters: text on the wire, typed and checked here. Unknown names are refused."""

from __future__ import annotations

import difflib
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import Literal, get_args

from quintile_trainer import failures

Value = bool | int | float | str
Optimizer = Literal["sgd", "adamw"]
Schedule = Literal["cosine", "constant"]
DEFAULT_EPOCHS = 15
DEFAULT_BATCH = 32
RATE_AT_32 = 0.07
RATE_LIMIT = 0.4
ADAMW_RATE = 0.002


@dataclass(frozen=True)
class HyperParameters:
    """What tunes the built-in loop; 0 or negative defaults mean: derived from data and batch.

    Attributes:
        iterations: Global steps; 0 = ``epochs`` over the data.
        epochs: Used when ``iterations`` is 0.
        batch_size: Samples per worker and step; 0 = 32, or fewer where there are not as many.
        learning_rate: Peak rate; 0 = derived: for sgd 0.07 at a global batch of 32, growing with
            its square root up to 0.4; for adamw 0.002.
        optimizer: sgd (Nesterov) or adamw.
        momentum, weight_decay: Of the optimizer.
        schedule: cosine (down to 0) or constant, after ``warmup`` (share of all steps).
        label_smoothing: In [0, 1).
        accumulate: Micro-batches per step and worker.
        clip_norm: Largest gradient norm; 0 = no limit.
        seed: Of weights, order and augmentation.
        image_size: Side in pixels; 0 = as the images are.
        channels: 1 or 3; 0 = as the images are.
        shift: Augmentation in pixels; -1 = a tenth of the side.
        flip: Mirror images in training.
        patience: Evaluations without a better result before an early stop; 0 = never.
        eval_every: Steps between evaluations; 0 = only at the end.
    """

    iterations: int = 0
    epochs: int = DEFAULT_EPOCHS
    batch_size: int = 0
    learning_rate: float = 0.0
    optimizer: Optimizer = "sgd"
    momentum: float = 0.9
    weight_decay: float = 5e-4
    schedule: Schedule = "cosine"
    warmup: float = 0.05
    label_smoothing: float = 0.05
    accumulate: int = 1
    clip_norm: float = 0.0
    seed: int = 0
    image_size: int = 0
    channels: int = 0
    shift: int = -1
    flip: bool = False
    patience: int = 0
    eval_every: int = 0

    def rate(self, global_batch: int) -> float:
        """Return the peak learning rate for a global batch."""
        if self.learning_rate > 0:
            return self.learning_rate
        if self.optimizer == "adamw":
            return ADAMW_RATE
        return min(RATE_LIMIT, RATE_AT_32 * math.sqrt(global_batch / 32))


def parse(texts: Mapping[str, str], *, extra: bool) -> HyperParameters:
    """Return typed hyperparameters.

    Args:
        texts: By name, as written.
        extra: Names that are not ours are for the user's functions.

    Raises:
        BadInput: A name is unknown or a value makes no sense; the message says what was expected.
    """
    known = {field.name: field for field in fields(HyperParameters)}
    given: dict[str, object] = {}
    for name, text in texts.items():
        if name not in known:
            if extra:
                continue
            near = difflib.get_close_matches(name, known, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"known are {', '.join(known)}"
            raise failures.BadInput(f"hparam {name!r} is unknown; {hint}")
        default = getattr(HyperParameters, name)
        given[name] = _typed(name, text, type(default))
    parsed = HyperParameters(**given)  # type: ignore[arg-type]
    _check(parsed)
    return parsed


def global_batch(given: HyperParameters, *, samples: int, workers: int) -> int:
    """Return the samples of a global step: those of one worker times the submitted workers. Pure.

    Raises:
        BadInput: There are fewer training samples than that.
    """
    share = samples // workers
    batch = given.batch_size or max(1, min(DEFAULT_BATCH, share))
    if batch * workers > samples:
        hint = f"use batch_size {share} or less" if share else f"use at most {samples} workers"
        raise failures.BadInput(
            f"hparam batch_size is {batch} on {workers} workers, {batch * workers} samples a step, "
            f"but there are only {samples} training samples; {hint}"
        )
    return batch * workers


def values(texts: Mapping[str, str]) -> dict[str, Value]:
    """Return hyperparameters for user functions: numbers and booleans where the text reads so."""
    return {name: _guess(text) for name, text in texts.items()}


def _typed(name: str, text: str, kind: type) -> object:
    value = _guess(text)
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        value = float(value)
    if kind is int and isinstance(value, float) and value.is_integer():
        value = int(value)
    if kind is str:
        value = text
    if type(value) is not kind:
        words = {int: "a whole number", float: "a number", bool: "true or false"}
        raise failures.BadInput(f"hparam {name} is {text!r}; expected {words.get(kind, 'text')}")
    return value


def _guess(text: str) -> Value:
    lowered = text.strip().lower()
    if lowered in ("true", "false"):
        return lowered == "true"
    kinds: tuple[Callable[[str], int | float], ...] = (int, float)
    for kind in kinds:
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def _check(given: HyperParameters) -> None:
    rules = {
        "iterations": (given.iterations >= 0, "0 or more"),
        "epochs": (given.epochs >= 1, "1 or more"),
        "batch_size": (0 <= given.batch_size <= 65_536, "1 to 65536"),
        "learning_rate": (0 <= given.learning_rate < 1e3, "0 (derived) or above"),
        "momentum": (0 <= given.momentum < 1, "0 to below 1"),
        "weight_decay": (0 <= given.weight_decay < 1e3, "0 or more"),
        "warmup": (0 <= given.warmup <= 1, "a share from 0 to 1"),
        "label_smoothing": (0 <= given.label_smoothing < 1, "0 to below 1"),
        "accumulate": (1 <= given.accumulate <= (given.batch_size or 1024), "1 to batch_size"),
        "clip_norm": (0 <= given.clip_norm < 1e9, "0 (no limit) or above"),
        "seed": (0 <= given.seed < 2**31, "0 to 2147483647"),
        "image_size": (given.image_size == 0 or 8 <= given.image_size <= 2048, "0 or 8 to 2048"),
        "channels": (given.channels in (0, 1, 3), "0, 1 or 3"),
        "shift": (given.shift >= -1, "-1 (derived), 0 or more"),
        "patience": (given.patience >= 0, "0 or more"),
        "eval_every": (given.eval_every >= 0, "0 or more"),
        "optimizer": (given.optimizer in get_args(Optimizer), "sgd or adamw"),
        "schedule": (given.schedule in get_args(Schedule), "cosine or constant"),
    }
    for name, (holds, expected) in rules.items():
        if not holds:
            raise failures.BadInput(f"hparam {name} is {getattr(given, name)}; expected {expected}")
