"""``quintile run``: submit a script or a built-in model, and watch it."""

from __future__ import annotations

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
    queue: run_options.Queue = None,
    priority: run_options.Priority = None,
    runtime: run_options.Runtime = None,
    image: run_options.Image = None,
    secrets: run_options.Secrets = None,
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

    submitting.run(
        submitting.Program(script, tuple(arguments or ()), folder, model),
        submitting.config(locals()),
        submitting.Words(name, dataset, submitting.pairs(settings, "--set"), description),
        submitting.Manner(project, output, dry_run, detach, rank, timeout),
    )
