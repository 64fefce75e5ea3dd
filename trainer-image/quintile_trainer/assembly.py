"""Puts a task together: from a built-in model or the user's functions, over a dataset or arrays.

Called by ``training``; every rank makes the same task.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import torch
from torch import nn

from quintile_trainer import failures, functions, hyper, memory, task, worker_env
from quintile_trainer.data import cache, dataset, feeds, images
from quintile_trainer.models import resnet

DECODERS = 2
"""At least this many threads decode: they wait for the disk, too."""


@dataclass(frozen=True)
class Order:
    """What was ordered: who runs, with which hyperparameters, functions and threads."""

    env: worker_env.WorkerEnv
    given: hyper.HyperParameters
    user: functions.Functions | None
    threads: int

    @property
    def evaluates(self) -> bool:
        """Return whether the run evaluates its model."""
        return bool(self.env.run_spec.get("runEval", True))


def assemble(wanted: Order) -> task.Task:
    """Return the task of this run.

    Raises:
        BadInput: Data, functions or hyperparameters are not as they must be.
        Broken: The dataset cannot be read.
    """
    if wanted.user is not None and wanted.user.inputs is not None:
        return _from_inputs(wanted, wanted.user, wanted.user.inputs)
    if wanted.env.access is None:
        raise failures.BadInput(
            "the experiment names no dataset and gives no input_fn; set spec.dataset, or give one"
        )
    return _from_dataset(wanted, wanted.env.access)


def _from_dataset(wanted: Order, access: worker_env.Json) -> task.Task:
    env, given = wanted.env, wanted.given
    files = cache.Cache(env.cache_dir)
    reference = env.program.get("dataset") or {}
    opened = dataset.open_dataset(access, reference, files, seed=given.seed)
    shape = _shape(opened, given)
    budget = memory.budget_bytes(free_bytes=memory.free_bytes(), ranks_on_host=env.ranks_on_host)
    means = images.Means(threads=max(wanted.threads, DECODERS), keep_bytes=budget)
    source = images.ImageSource(opened, opened.train, shape, means)
    mean, spread = images.statistics(source)
    shift = shape.side // 10 if given.shift < 0 else given.shift
    look = feeds.Look(mean=mean, spread=spread, shift=shift, flip=given.flip)
    evaluated = None
    if wanted.evaluates and len(opened.evaluate):
        evaluated = feeds.ImageFeed(images.ImageSource(opened, opened.evaluate, shape, means), look)
    name, model = _image_model(wanted, opened, shape)
    return task.Task(
        model=model,
        train=feeds.ImageFeed(source, look),
        evaluate=evaluated,
        loss=_loss(wanted),
        metric=wanted.user.metric if wanted.user is not None else None,
        classes=opened.classes,
        agreement="accuracy" if opened.evaluate.trusted else "agreement",
        side=shape.side,
        about={
            "model": name,
            "task": "classification",
            "classes": list(opened.classes),
            "channels": shape.channels,
            "size": [shape.height, shape.width],
            "mean": mean,
            "std": spread,
            "dataset": {"name": opened.name, "version": opened.version, "digest": opened.digest},
        },
    )


def _shape(opened: dataset.Dataset, given: hyper.HyperParameters) -> images.Shape:
    height, width = images.natural_size(opened)
    channels = given.channels or images.natural_channels(opened)
    shape = images.Shape(height, width, channels)
    if not given.image_size:
        return shape
    return dataclasses.replace(shape, height=given.image_size, width=given.image_size)


def _image_model(
    wanted: Order, opened: dataset.Dataset, shape: images.Shape
) -> tuple[str, nn.Module]:
    classes = len(opened.classes)
    if wanted.user is not None:
        facts: dict[str, hyper.Value] = {"classes": classes, "channels": shape.channels}
        return "functions", _user_model(wanted.user, {**facts, **hyper.values(wanted.env.hparams)})
    name = wanted.env.program["estimator"]["builtin"].get("model", "resnet8")
    model = resnet.build(name, channels=shape.channels, classes=classes, size=shape.side)
    return name, model


def _from_inputs(wanted: Order, user: functions.Functions, inputs: functions.Function) -> task.Task:
    hparams = hyper.values(wanted.env.hparams)
    train = feeds.from_user(inputs("train", hparams), split="train")
    evaluated = None
    if wanted.evaluates:
        found = inputs("eval", hparams)
        evaluated = feeds.from_user(found, split="eval") if found is not None else None
    return task.Task(
        model=_user_model(user, hparams),
        train=train,
        evaluate=evaluated,
        loss=_loss(wanted),
        metric=user.metric,
        about={"model": "functions", "task": "classification"},
    )


def _user_model(user: functions.Functions, hparams: dict[str, hyper.Value]) -> nn.Module:
    model = user.model(hparams)
    if not isinstance(model, torch.nn.Module):
        raise failures.BadInput(
            f"model_fn returned {type(model).__name__}; expected a torch.nn.Module"
        )
    return model


def _loss(wanted: Order) -> task.LossFunction:
    if wanted.user is not None and wanted.user.loss is not None:
        return task.summed(wanted.user.loss)
    return task.cross_entropy_sum(wanted.given.label_smoothing)
