"""The training loop: global steps over a fixed global batch, on any number of ranks.

A rank's loss is the *sum* over its samples, divided by the samples of the whole step, and gradients
are summed over the ranks: shares may differ by one, the last batch of an epoch has its true size,
and n workers compute what one computes.
"""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import nn

from quintile_trainer import (
    breakdown,
    checkpoints,
    evaluate,
    failures,
    hyper,
    modes,
    optimizing,
    reporter,
    seeding,
    stopping,
    task,
)
from quintile_trainer.data import order

Losses = list[torch.Tensor]
"""Of one rank in one step: the loss sum of each micro-batch; empty without a share of the step."""
DIVERGED_HINT = "lower learning_rate, or set clip_norm"


@dataclass(frozen=True)
class Plan:
    """How long and how often, in global steps. ``global_batch`` is fixed at submission."""

    total_steps: int
    global_batch: int
    checkpoint_every: int
    report_every: int
    eval_every: int


@dataclass(frozen=True)
class Tools:
    """What the loop works with; ``saver`` only on rank 0, ``optimizer`` where it is not ours.

    ``times``: where the time of the run goes, which is older than this generation.
    """

    mode: modes.Mode
    report: reporter.Reporter
    saver: checkpoints.Saver | None
    stop: stopping.StopSignal
    optimizer: optimizing.Stepper | None = None
    times: breakdown.Breakdown = field(default_factory=breakdown.Breakdown)


@dataclass
class Pace:
    """How fast training went in this generation, evaluation left out."""

    samples: int = 0
    seconds: float = 0.0
    window_samples: int = 0
    window_seconds: float = 0.0

    def note(self, samples: int, seconds: float) -> None:
        """Count one step."""
        self.samples += samples
        self.seconds += seconds
        self.window_samples += samples
        self.window_seconds += seconds

    def window(self) -> float:
        """Return the images per second since the last call."""
        rate = self.window_samples / max(self.window_seconds, 1e-9)
        self.window_samples, self.window_seconds = 0, 0.0
        return rate

    @property
    def images_per_second(self) -> float:
        """Return the images per second of the generation."""
        return self.samples / max(self.seconds, 1e-9)


@dataclass
class Best:
    """The best evaluation so far, for early stopping."""

    value: float = -math.inf
    misses: int = 0

    def state(self) -> dict[str, float | int | None]:
        """Return this as JSON; no evaluation yet is null."""
        return {"value": self.value if math.isfinite(self.value) else None, "misses": self.misses}

    def note(self, value: float) -> None:
        """Count one evaluation."""
        better = value > self.value
        self.value = max(value, self.value)
        self.misses = 0 if better else self.misses + 1


@dataclass
class Result:
    """How training ended."""

    step: int
    pace: Pace
    metrics: dict[str, float] = field(default_factory=dict)
    evaluation: evaluate.Evaluation | None = None
    breakdown: dict[str, object] = field(default_factory=dict)


class Loop:
    """Trains one task. Made and run by every rank alike."""

    def __init__(
        self, work: task.Task, given: hyper.HyperParameters, plan: Plan, tools: Tools
    ) -> None:
        self._work = work
        self._given = given
        self._plan = plan
        self._tools = tools
        self._peak = given.rate(plan.global_batch)
        self._optimizer = tools.optimizer or optimizing.Optimizer(work.model, given)
        schedule = order.Schedule(len(work.train), plan.global_batch)
        place = {"rank": tools.mode.rank, "world_size": tools.mode.world_size}
        self._sampler = order.Sampler(schedule, given.seed, **place)
        self._scale = torch.ones(())
        self._times = tools.times
        self._best = Best()
        self._step = 0
        self._next: order.Samples | None = None
        self._metrics: dict[str, float] = {}

    def restore(self, snapshot: checkpoints.Snapshot) -> None:
        """Continue from a checkpoint.

        Raises:
            Broken: It is of another model or another order of samples.
        """
        self._take_place(snapshot)
        try:
            self._work.model.load_state_dict(snapshot.model)
        except RuntimeError as error:
            raise failures.Broken(f"the checkpoint is of another model: {error}") from error
        self._optimizer.restore(snapshot.optimizer)
        best = snapshot.state["best"]
        known = best["value"] if best["value"] is not None else -math.inf
        self._best = Best(known, best["misses"])
        self._step = snapshot.step
        self._metrics = dict(snapshot.metrics)
        self._times.restore(snapshot.state.get("spent", {}))

    def _take_place(self, snapshot: checkpoints.Snapshot) -> None:
        expected = self._sampler.schedule.cursor(snapshot.step)
        if (expected.epoch, expected.position) != (snapshot.epoch, snapshot.cursor):
            raise failures.Broken(
                f"the checkpoint of step {snapshot.step} stands at epoch {snapshot.epoch}, sample "
                f"{snapshot.cursor}; this run would stand at {expected.epoch}, {expected.position}"
            )

    def run(self) -> Result:
        """Train to the end, evaluate, and save the final state.

        Raises:
            Yielded: All ranks were asked to leave; the state is saved.
            Diverged: The loss is no finite number.
            PeerLost: Another rank left.
        """
        mode, report, total = self._tools.mode, self._tools.report, self._plan.total_steps
        self._optimizer.begin(self._step)
        mode.prepare(self._work.model)
        self._work.model.train()
        agreement = stopping.StopAgreement(self._tools.stop, mode, first_step=self._step)
        pace = Pace()
        saved = self._step
        # A restart after an early stop has nothing left to train.
        while self._step < total and not self._is_out():
            begun = time.perf_counter()
            loss, samples = self._train_step()
            self._step += 1
            self._count(pace, samples, time.perf_counter() - begun)
            report.progress(self._step, total)
            if self._step % self._plan.report_every == 0:
                self._report(loss, samples, pace)
            if self._step % self._plan.checkpoint_every == 0 and self._step < total:
                self._save()
                saved = self._step
            if self._is_due():
                self._compare()
            if self._step < total and agreement.reached(self._step):
                self._yield(saved)
        return self._finish(pace)

    def _count(self, pace: Pace, samples: int, seconds: float) -> None:
        pace.note(samples, seconds)
        self._times.training += seconds

    def _train_step(self) -> tuple[Losses, int]:
        """Do one global step; return this rank's losses and the samples of all ranks."""
        step, mode = self._step, self._tools.mode
        # A step's random numbers depend on (seed, step, rank) alone: resuming needs no state.
        seeding.seed_torch(order.mix(self._given.seed, step, mode.rank))
        share = self._sampler.take(step) if self._next is None else self._next
        more = step + 1 < self._plan.total_steps
        self._next = self._sampler.take(step + 1) if more else None
        self._optimizer.zero()
        loss = self._backward(share, self._optimizer.weight / share.whole)
        if self._given.clip_norm > 0:
            nn.utils.clip_grad_norm_(self._work.model.parameters(), self._given.clip_norm)
        self._update(self._rate(step))
        return loss, share.whole

    def _update(self, rate: float) -> None:
        begun = time.perf_counter()
        self._optimizer.step(rate)
        seconds, spent = time.perf_counter() - begun, self._times.spent
        if self._optimizer.is_remote:
            spent.communication += seconds
        else:
            spent.optimizer += seconds
        self._times.step()

    def _rate(self, step: int) -> float:
        return optimizing.rate_at(step, self._plan.total_steps, self._given, peak=self._peak)

    def _backward(self, share: order.Samples, scale: float) -> Losses:
        items, seeds = share.items, share.seeds
        if not len(items):
            # A rank without a share of a small last batch still takes part in the sum, with one
            # sample and no weight.
            items = seeds = np.zeros(1, dtype=np.int64)
            scale = 0.0
        size = -(-len(items) // self._given.accumulate)
        losses: Losses = []
        spent, clock = self._times.spent, time.perf_counter
        for start in range(0, len(items), size):
            stop = start + size
            last = stop >= len(items)
            begun = clock()
            batch = self._work.train.take(items[start:stop], seeds[start:stop])
            if last and self._next is not None:
                self._work.train.expect(self._next.items)
            taken = clock()
            loss = self._work.loss(self._work.model(batch.inputs), batch.targets)
            passed = clock()
            # The gradient of the sum begins at ``scale``: what multiplying the loss would cost.
            with self._tools.mode.sync(last=last):
                torch.autograd.backward(loss, self._scale.to(loss).fill_(scale))
                done = clock()
            spent.data += taken - begun
            spent.forward += passed - taken
            spent.backward += done - passed
            spent.communication += clock() - done
            losses.append(loss.detach())
        return losses if len(share.items) else []

    def _report(self, losses: Losses, samples: int, pace: Pace) -> None:
        mine = torch.stack([torch.zeros(()), *losses]).double().sum()
        total = self._tools.mode.total(mine.reshape(1))
        self._report_loss(float(total[0]) / samples, pace)

    def _report_loss(self, mean: float, pace: Pace) -> None:
        self._metrics["train/loss"] = mean
        values = {
            "train/loss": mean,
            "learning_rate": self._rate(self._step - 1),
            "images_per_second": pace.window(),
            "goodput": self._times.goodput(),
            **self._times.window(),
        }
        self._log(values)
        if not math.isfinite(mean):
            raise failures.Diverged(f"the loss is {mean} at step {self._step}; {DIVERGED_HINT}")

    def _is_due(self) -> bool:
        every = self._plan.eval_every
        return bool(every) and self._step % every == 0 and self._step < self._plan.total_steps

    def _compare(self) -> None:
        """Evaluate and note whether that was the best so far."""
        if self._work.evaluate is None:
            return
        found = self._evaluate()
        key = self._work.agreement if self._work.agreement in found.metrics else "loss"
        value = found.metrics[key]
        self._best.note(-value if key == "loss" else value)

    def _is_out(self) -> bool:
        """Return whether evaluations brought nothing better for too long."""
        return 0 < self._given.patience <= self._best.misses

    def _evaluate(self) -> evaluate.Evaluation:
        with self._times.evaluation():
            found = evaluate.evaluate(self._work, self._work.model, self._tools.mode)
        self._note(found)
        return found

    def _note(self, found: evaluate.Evaluation) -> None:
        values = {f"eval/{name}": value for name, value in found.metrics.items()}
        self._metrics.update(values)
        self._log(values)

    def _log(self, values: dict[str, float]) -> None:
        if self._tools.mode.rank == 0:
            self._tools.report.log(self._step, values)

    def _save(self) -> None:
        with self._times.checkpoint():
            self._store()

    def _store(self) -> None:
        # Equal on all ranks: none of them can save, or go on from, weights that are no numbers.
        if not all(bool(value.isfinite().all()) for value in self._work.model.parameters()):
            raise failures.Diverged(
                f"weights are no finite numbers at step {self._step}; {DIVERGED_HINT}"
            )
        if self._tools.saver is not None:
            # One at a time: parameter servers hold the copies of a snapshot until it is written.
            self._tools.saver.wait()
            self._tools.saver.save(self._snapshot())

    def _snapshot(self) -> Callable[[], checkpoints.Snapshot | None]:
        """Take the state now; what is returned may be called in another thread."""
        remembered = self._optimizer.remember()
        taken = self._taken()
        return lambda: dataclasses.replace(taken, optimizer=remembered())

    def _taken(self) -> checkpoints.Snapshot:
        """Return the state without the optimizer's."""
        cursor = self._sampler.schedule.cursor(self._step)
        finite = {name: value for name, value in self._metrics.items() if math.isfinite(value)}
        return checkpoints.Snapshot(
            step=self._step,
            epoch=cursor.epoch,
            cursor=cursor.position,
            model=copied(self._work.model),
            optimizer={},
            state={
                "format": checkpoints.FORMAT,
                "seed": self._given.seed,
                "rng": "by step",
                "total_steps": self._plan.total_steps,
                "global_batch": self._plan.global_batch,
                "best": self._best.state(),
                "spent": self._times.state(),
                "scaler": None,
            },
            metrics=finite,
        )

    def _yield(self, saved: int) -> None:
        if self._tools.saver is not None:
            if saved != self._step:
                self._save()
            self._tools.saver.wait()
        raise failures.Yielded(f"asked to leave after step {self._step}; the state is saved")

    def _finish(self, pace: Pace) -> Result:
        found = self._evaluate() if self._work.evaluate is not None else None
        if pace.samples:
            self._metrics["images_per_second"] = pace.images_per_second
            self._log({"images_per_second": pace.images_per_second, "seconds": pace.seconds})
        self._tools.report.progress(self._step, self._step)
        self._save()
        if self._tools.saver is not None:
            self._tools.saver.wait()
        return Result(self._step, pace, dict(self._metrics), found, self._times.document())


def copied(model: nn.Module) -> dict[str, torch.Tensor]:
    """Return copies of a model's tensors by name."""
    return {
        name: value.detach().clone().contiguous().cpu()
        for name, value in model.state_dict().items()
    }


def total_steps(given: hyper.HyperParameters, *, samples: int, global_batch: int) -> int:
    """Return the number of global steps that hyperparameters ask for. Pure."""
    if given.iterations > 0:
        return given.iterations
    return given.epochs * order.Schedule(samples, global_batch).steps_per_epoch
