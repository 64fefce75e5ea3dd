"""``quintile plan``: what would run, how fast, and what it would cost."""

from __future__ import annotations

import typer

from quintile.cli import plan_options
from quintile.cli.options import Output, OutputOption, ProjectOption

app = typer.Typer()


@app.command()
def plan(
    spec: plan_options.Spec = None,
    model: plan_options.Model = None,
    workers: plan_options.Workers = None,
    servers: plan_options.Servers = None,
    mode: plan_options.ModeOption = None,
    batch_size: plan_options.Batch = None,
    image: plan_options.Image = "28x28x1",
    calibrate: plan_options.Calibrate = False,
    calibration: plan_options.CalibrationFile = None,
    bandwidth: plan_options.Bandwidth = "10Gbit",
    latency: plan_options.Latency = "50us",
    per_host: plan_options.PerHost = 0,
    storage: plan_options.Storage = None,
    decode: plan_options.Decode = False,
    price: plan_options.Price = None,
    max_workers: plan_options.MaxWorkers = 1024,
    project: ProjectOption = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Print what would run, and predict images/s, efficiency and cost for 1 to 1,024 workers.

    Nothing is started. Predictions come from a calibration of this machine (--calibrate makes one)
    and say on which inputs they rest and how far off they were on runs that they did not see.

    Example: quintile plan --model resnet18 -w 8 --calibrate --price 0.12
    """
    from quintile.cli import plan_views, predicting, run_plans

    wanted = run_plans.wanted(
        spec,
        run_plans.Changes(model, workers, servers, mode, batch_size, image),
        project=project,
    )
    network = predicting.Network(bandwidth, latency, per_host, storage, decode, price, max_workers)
    prepared = predicting.prepare(wanted, network)
    planned = run_plans.find(wanted)
    source = predicting.Source(calibration, fresh=calibrate)
    plan_views.write(wanted, planned, predicting.predict(wanted, prepared, source), output)
