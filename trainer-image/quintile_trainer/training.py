"""The program of built-in and functions estimators: make the task, join the group, run the loop."""

from __future__ import annotations

import sys
import time
from typing import Any

import torch

from quintile_trainer import (
    assembly,
    breakdown,
    checkpoints,
    context,
    failures,
    functions,
    hyper,
    leased,
    loop,
    modes,
    publish,
    reporter,
    seeding,
    stopping,
    task,
    worker_env,
)
from quintile_trainer.modes import ddp, horovod, single
from quintile_trainer.ps import mode as ps_mode
from quintile_trainer.ps import program

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
    work = assembly.assemble(assembly.Order(env, given, user, threads))
    plan = _plan(env, given, samples=len(work.train))
    if 0 < work.side <= SMALL_SIDE:
        torch.set_num_threads(1)
    resumed = checkpoints.read(env.resume_dir) if env.resume_dir is not None else None
    report = reporter.Reporter(env, resume_step=resumed.step if resumed is not None else 0)
    context.begin(env, report)
    saver = None
    if env.rank == 0:
        saver = checkpoints.Saver(env)
    mode = _mode(env)
    times = breakdown.Breakdown(begun_s=env.begun_s or time.time())
    running = _loop(env, work, given, plan, loop.Tools(mode, report, saver, stop, times=times))
    if resumed is not None:
        running.restore(resumed)
    try:
        result = running.run()
    except failures.Yielded:
        if env.servers:
            # Servers end when their workers say goodbye.
            mode.close()
        raise
    if saver is not None:
        saver.close()
        _publish(env, work, plan, result, seconds=time.monotonic() - begun, servers=_servers(mode))
    context.end()
    mode.close()


def _fix(env: worker_env.WorkerEnv, seed: int, threads: int) -> None:
    """Fix seeds and threads; equal on all ranks, so that all begin with equal weights."""
    deterministic = bool(env.run_spec.get("deterministic"))
    torch.set_num_threads(1 if deterministic else threads)
    # The same as use_deterministic_algorithms, without loading torch's compiler (0.7 s).
    torch.set_deterministic_debug_mode("error" if deterministic else "default")
    seeding.seed_all(seed)


def _mode(env: worker_env.WorkerEnv) -> modes.Mode:
    if env.mode == "ddp":
        return ddp.meet(env)
    if env.mode == "single":
        return single.Single()
    if env.mode == "ps":
        return program.join(env)
    if env.mode in ("horovod", "mpi"):
        return horovod.meet(env)
    raise failures.Broken(f"mode {env.mode} is none that this program knows")


def _loop(
    env: worker_env.WorkerEnv,
    work: task.Task,
    given: hyper.HyperParameters,
    plan: loop.Plan,
    tools: loop.Tools,
) -> loop.Loop:
    if isinstance(tools.mode, ps_mode.ParameterServers):
        return leased.among_servers(work, given, plan, tools, program.consistency(env))
    return loop.Loop(work, given, plan, tools)


def _servers(mode: modes.Mode) -> dict[str, Any] | None:
    return mode.summary() if isinstance(mode, ps_mode.ParameterServers) else None


def _plan(env: worker_env.WorkerEnv, given: hyper.HyperParameters, *, samples: int) -> loop.Plan:
    # The global batch comes from the number of workers that was submitted, not from how many run.
    batch = hyper.global_batch(given, samples=samples, workers=env.workers)
    return loop.Plan(
        total_steps=loop.total_steps(given, samples=samples, global_batch=batch),
        global_batch=batch,
        checkpoint_every=env.checkpoint_every,
        report_every=env.summary_every,
        eval_every=given.eval_every,
    )


def _publish(
    env: worker_env.WorkerEnv,
    work: task.Task,
    plan: loop.Plan,
    result: loop.Result,
    *,
    seconds: float,
    servers: dict[str, Any] | None,
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
        "breakdown": result.breakdown,
        "metrics": result.metrics,
        "evaluation": None,
    }
    if servers is not None:
        report["parameter_servers"] = servers
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
