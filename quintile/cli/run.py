"""``quintile run``: submit a script or a built-in model, and watch it."""

from __future__ import annotations

from typing import Any

import typer

from quintile.cli import run_options
from quintile.cli.options import Output, OutputOption, ProjectOption, TimeoutOption

app = typer.Typer()


@app.command()
def run(
    script: run_options.ScriptArgument = None,
    arguments: run_options.Arguments = None,
    workers: run_options.Workers = 1,
    min_workers: run_options.MinWorkers = None,
    max_workers: run_options.MaxWorkers = None,
    servers: run_options.Servers = 0,
    consistency: run_options.Consistency = "sync",
    staleness: run_options.Staleness = None,
    mode: run_options.ModeOption = "auto",
    controller: run_options.Controller = "gloo",
    comm: run_options.Comm = "auto",
    model: run_options.Model = None,
    dataset: run_options.Data = None,
    name: run_options.NameOption = None,
    settings: run_options.Settings = None,
    env: run_options.Env = None,
    folder: run_options.Folder = None,
    description: run_options.Description = "",
    checkpoint_every: run_options.CheckpointEvery = 500,
    summary_every: run_options.SummaryEvery = 100,
    rules: run_options.Rules = None,
    progress_timeout: run_options.Patience = 600,
    start_timeout: run_options.StartPatience = None,
    gpu: run_options.Gpu = False,
    no_eval: run_options.NoEval = False,
    deterministic: run_options.Deterministic = False,
    rank: run_options.Rank = 0,
    detach: run_options.Detach = False,
    dry_run: run_options.DryRun = False,
    timeout: TimeoutOption = None,
    project: ProjectOption = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Train a script of yours, or a built-in model (--model), and watch it until the end.

    Example: quintile run train.py -w 4 --mode ddp -- --lr 0.1
    """
    from quintile.cli import submitting
    from quintile.sdk import run_config

    words: Any = {"mode": mode, "comm": comm, "horovod_controller": controller}  # checked later
    words |= {"min_workers": min_workers, "max_workers": max_workers, "no_of_workers": workers}
    words |= {"no_of_ps": servers, "consistency": consistency, "staleness": staleness}
    words |= {"deterministic": deterministic, "run_eval": not no_eval, "use_gpu": gpu}
    words |= {"progress_timeout_s": progress_timeout, "summary_save_frequency": summary_every}
    words |= {"start_timeout_s": start_timeout, "checkpoint_frequency_in_steps": checkpoint_every}
    words |= {"failure_rules": submitting.rules(rules), "env": submitting.pairs(env, "--env")}
    submitting.run(
        submitting.Program(script, tuple(arguments or ()), folder, model),
        run_config.RunConfig(**words),
        submitting.Words(name, dataset, submitting.pairs(settings, "--set"), description),
        submitting.Manner(project, output, dry_run, detach, rank, timeout),
    )
