"""The program of built-in and functions estimators: make the task, join the group, run the loop."""

from __future__ import annotations

import random
import sys
import time
from typing import Any

import numpy as np
import torch

from quintile_trainer import (
    checkpoints,
    context,
    failures,
    functions,
    hyper,
    loop,
    modes,
    publish,
    reporter,
    stopping,
    task,
    worker_env,
)
from quintile_trainer.data import cache, dataset, feeds, images
from quintile_trainer.models import resnet
from quintile_trainer.modes import ddp, single


SMALL_SIDE = 16
"""Images up to this many pixels are trained by one thread: there is nothing to share out."""


def run(env: worker_env.WorkerEnv, *, threads: int) -> None:
    """Train in this rank.

    Raises:
        RankFailure: See ``failures``.
    """
    stop = stopping.StopSignal()
    begun = time.monotonic()
    user = functions.load(env.state.bundle) if "functions" in env.program["estimator"] else None
    given = hyper.parse(env.hparams, extra=user is not None)
    _fix(env, given.seed, threads)
    mode = _mode(env)
    work = _task(env, given, user, threads)
    resumed = checkpoints.read(env.resume_dir) if env.resume_dir is not None else None
    report = reporter.Reporter(env, resume_step=resumed.step if resumed is not None else 0)
    context.begin(env, report)
    saver = None
    if env.rank == 0:
        saver = checkpoints.Saver(env.state.checkpoints, checkpoints.identity_of(env))
    plan = _plan(env, given, work)
    running = loop.Loop(work, given, plan, loop.Tools(mode, report, saver, stop))
    if resumed is not None:
        running.restore(resumed)
    result = running.run()
    if saver is not None:
        saver.close()
        _publish(env, work, plan, result, seconds=time.monotonic() - begun)
    context.end()
    mode.close()


def _fix(env: worker_env.WorkerEnv, seed: int, threads: int) -> None:
    """Fix seeds and threads; equal on all ranks, so that all begin with equal weights."""
    deterministic = bool(env.run_spec.get("deterministic"))
    torch.set_num_threads(1 if deterministic else threads)
    torch.use_deterministic_algorithms(deterministic)
    torch.manual_seed(seed)
    np.random.seed(seed % 2**32)
    random.seed(seed)


def _mode(env: worker_env.WorkerEnv) -> modes.Mode:
    if env.mode == "ddp":
        return ddp.meet(env)
    if env.mode == "single":
        return single.Single()
    raise failures.BadInput(f"mode {env.mode} is not in this release; use single or ddp")


def _plan(env: worker_env.WorkerEnv, given: hyper.HyperParameters, work: task.Task) -> loop.Plan:
    # The global batch comes from the number of workers that was submitted, not from how many run.
    batch = given.batch_size * env.workers
    return loop.Plan(
        total_steps=loop.schedule(given, samples=len(work.train), global_batch=batch),
        global_batch=batch,
        checkpoint_every=env.checkpoint_every,
        report_every=env.summary_every,
        eval_every=given.eval_every,
    )


def _task(
    env: worker_env.WorkerEnv,
    given: hyper.HyperParameters,
    user: functions.Functions | None,
    threads: int,
) -> task.Task:
    if user is not None and user.inputs is not None:
        return _from_inputs(env, given, user)
    if env.access is None:
        raise failures.BadInput(
            "the experiment names no dataset and gives no input_fn; set spec.dataset, or give one"
        )
    return _from_dataset(env, given, user, threads)


def _from_dataset(
    env: worker_env.WorkerEnv,
    given: hyper.HyperParameters,
    user: functions.Functions | None,
    threads: int,
) -> task.Task:
    assert env.access is not None
    files = cache.Cache(env.cache_dir)
    reference = env.program.get("dataset") or {}
    opened = dataset.open_dataset(env.access, reference, files, seed=given.seed)
    height, width = images.natural_size(opened)
    if given.image_size:
        height = width = given.image_size
    channels = given.channels or images.natural_channels(opened)
    shape = {"size": (height, width), "channels": channels, "threads": max(threads, 2)}
    source = images.ImageSource(opened, opened.train, **shape)
    mean, spread = images.statistics(source)
    side = min(height, width)
    if side <= SMALL_SIDE:
        torch.set_num_threads(1)
    shift = side // 10 if given.shift < 0 else given.shift
    look = {"mean": mean, "spread": spread, "shift": shift, "flip": given.flip}
    evaluated = None
    if env.run_spec.get("runEval", True) and len(opened.evaluate):
        evaluated = feeds.ImageFeed(images.ImageSource(opened, opened.evaluate, **shape), **look)
    about = {
        "task": "classification",
        "classes": list(opened.classes),
        "channels": channels,
        "size": [height, width],
        "mean": mean,
        "std": spread,
        "dataset": {"name": opened.name, "version": opened.version, "digest": opened.digest},
    }
    name = "functions"
    if user is None:
        name = env.program["estimator"]["builtin"].get("model", "resnet8")
        model = resnet.build(name, channels=channels, classes=len(opened.classes), size=side)
    else:
        facts: dict[str, hyper.Value] = {"classes": len(opened.classes), "channels": channels}
        model = _model(user, {**facts, **hyper.values(env.hparams)})
    return task.Task(
        model=model,
        train=feeds.ImageFeed(source, **look),
        evaluate=evaluated,
        loss=_loss(given, user),
        metric=user.metric if user is not None else None,
        classes=opened.classes,
        agreement="accuracy" if opened.evaluate.trusted else "agreement",
        digest=opened.digest,
        about={"model": name, **about},
    )


def _from_inputs(
    env: worker_env.WorkerEnv, given: hyper.HyperParameters, user: functions.Functions
) -> task.Task:
    assert user.inputs is not None
    hparams = hyper.values(env.hparams)
    train = feeds.from_user(user.inputs("train", hparams), split="train")
    evaluated = None
    if env.run_spec.get("runEval", True):
        found = user.inputs("eval", hparams)
        evaluated = feeds.from_user(found, split="eval") if found is not None else None
    return task.Task(
        model=_model(user, hparams),
        train=train,
        evaluate=evaluated,
        loss=_loss(given, user),
        metric=user.metric,
        about={"model": "functions", "task": "classification"},
    )


def _model(user: functions.Functions, hparams: dict[str, hyper.Value]) -> torch.nn.Module:
    model = user.model(hparams)
    if not isinstance(model, torch.nn.Module):
        raise failures.BadInput(
            f"model_fn returned {type(model).__name__}; expected a torch.nn.Module"
        )
    return model


def _loss(given: hyper.HyperParameters, user: functions.Functions | None) -> task.LossFunction:
    if user is not None and user.loss is not None:
        return task.summed(user.loss)
    return task.cross_entropy_sum(given.label_smoothing)


def _publish(
    env: worker_env.WorkerEnv,
    work: task.Task,
    plan: loop.Plan,
    result: loop.Result,
    *,
    seconds: float,
) -> None:
    found = result.evaluation
    report: dict[str, Any] = {
        "steps": result.step,
        "global_batch": plan.global_batch,
        "world_size": env.world_size,
        "train_samples": len(work.train),
        "images_per_second": result.pace.images_per_second,
        "train_seconds": result.pace.seconds,
        "seconds": seconds,
        "metrics": result.metrics,
        "evaluation": None,
    }
    if found is not None:
        report["evaluation"] = {
            "count": found.count,
            "metrics": found.metrics,
            "classes": list(work.classes),
            "confusion": found.confusion,
        }
    publish.publish(env, loop.copied(work.model), about=work.about, report=report)
    words = ", ".join(f"{name} {value:.4g}" for name, value in sorted(result.metrics.items()))
    sys.stdout.write(f"trained {result.step} steps in {result.pace.seconds:.1f} s: {words}\n")
