"""Evaluation over all ranks: exact counts, whatever the number of ranks."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import torch
from torch import nn

from quintile_trainer import modes, task
from quintile_trainer.data import order

BLOCK = 256


@dataclass(frozen=True)
class Evaluation:
    """What a model does on the evaluation samples.

    Attributes:
        count: Samples.
        metrics: Means by name (``loss``, ``accuracy`` or ``agreement``, or the user's).
        confusion: [C][C] counts, rows = given label, columns = answer; empty without classes.
    """

    count: int
    metrics: dict[str, float]
    confusion: list[list[int]] = field(default_factory=list)


def evaluate(work: task.Task, model: nn.Module, mode: modes.Mode) -> Evaluation:
    """Evaluate over all ranks; every rank gets the same answer. The model is left in train mode."""
    assert work.evaluate is not None
    mode.align(model)
    model.eval()
    with torch.inference_mode():
        if work.metric is not None:
            found = _user_metrics(work, model, mode)
        else:
            found = _classification(work, model, mode)
    model.train()
    return found


def _classification(work: task.Task, model: nn.Module, mode: modes.Mode) -> Evaluation:
    feed = work.evaluate
    assert feed is not None
    size = len(work.classes)
    # Counts travel as float64: exact up to 2^53, and one reduction carries everything.
    totals = torch.zeros(3 + size * size, dtype=torch.float64)
    for block in order.blocks(len(feed), BLOCK, rank=mode.rank, world_size=mode.world_size):
        batch = feed.take(np.asarray(block, dtype=np.int64), None)
        outputs = model(batch.inputs)
        totals[0] += len(batch.targets)
        totals[1] += work.loss(outputs, batch.targets).double()
        if outputs.ndim == 2 and batch.targets.ndim == 1:
            answers = outputs.argmax(dim=1)
            totals[2] += (answers == batch.targets).sum()
            if size:
                # A model of the user's may have more outputs than there are classes.
                known = answers < size
                cells = (batch.targets * size + answers)[known]
                totals[3:] += torch.bincount(cells, minlength=size * size)
    totals = mode.total(totals)
    count = int(totals[0])
    metrics = {
        "loss": float(totals[1]) / count,
        work.agreement: float(totals[2]) / count,
    }
    cells = totals[3:].long().view(size, size).tolist() if size else []
    return Evaluation(count, metrics, cells)


def _user_metrics(work: task.Task, model: nn.Module, mode: modes.Mode) -> Evaluation:
    feed, metric = work.evaluate, work.metric
    assert feed is not None and metric is not None
    mine = list(order.blocks(len(feed), BLOCK, rank=mode.rank, world_size=mode.world_size))
    # A rank without a block computes the first one for the names, with no weight.
    weighted = [(block, 1.0) for block in mine] or [(range(min(BLOCK, len(feed))), 0.0)]
    sums: dict[str, float] = {}
    count = 0.0
    for block, weight in weighted:
        batch = feed.take(np.asarray(block, dtype=np.int64), None)
        outputs = model(batch.inputs)
        size = len(batch.targets) * weight
        values = dict(metric(outputs, batch.targets))
        values.setdefault("loss", float(work.loss(outputs, batch.targets)) / len(batch.targets))
        for name, value in values.items():
            sums[name] = sums.get(name, 0.0) + float(value) * size
        count += size
    names = sorted(sums)
    totals = mode.total(torch.tensor([count, *(sums[n] for n in names)], dtype=torch.float64))
    metrics = {name: float(totals[1 + place] / totals[0]) for place, name in enumerate(names)}
    return Evaluation(int(totals[0]), metrics)
