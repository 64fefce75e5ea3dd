"""Options of ``quintile plan``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

MOST_WORKERS = 1024

Spec = Annotated[
    Path | None, typer.Argument(help="YAML or JSON file of an Experiment; leave it out with -m.")
]
Model = Annotated[
    str | None,
    typer.Option("--model", "-m", help="Built-in model: resnet8, resnet18, resnet34, resnet50."),
]
Workers = Annotated[
    int | None, typer.Option("--workers", "-w", min=1, max=MOST_WORKERS, help="Worker processes.")
]
Servers = Annotated[int | None, typer.Option("--servers", min=0, help="Parameter servers.")]
ModeOption = Annotated[
    str | None, typer.Option("--mode", help="auto, single, ddp, horovod, mpi or ps.")
]
Batch = Annotated[
    int | None, typer.Option("--batch-size", min=1, help="Images of a worker's step; default: 32.")
]
Image = Annotated[
    str, typer.Option("--image", help="Size of the images.", metavar="HEIGHTxWIDTHxCHANNELS")
]
Calibrate = Annotated[
    bool, typer.Option("--calibrate", help="Measure this machine first; takes up to a minute.")
]
CalibrationFile = Annotated[
    Path | None,
    typer.Option("--calibration", help="Calibration to use (or write); default: one per model."),
]
Bandwidth = Annotated[
    str, typer.Option("--bandwidth", help="Of a host's network, each way.", metavar="RATE")
]
Latency = Annotated[str, typer.Option("--latency", help="Of the network, one way.", metavar="TIME")]
PerHost = Annotated[
    int,
    typer.Option(
        "--per-host", min=0, help="Workers of a host; 0 = as many as have processors of their own."
    ),
]
Storage = Annotated[
    str | None,
    typer.Option("--storage", help="What all workers together can read a second.", metavar="RATE"),
]
Decode = Annotated[
    bool, typer.Option("--decode", help="Images are decoded in every step, as in a first epoch.")
]
Price = Annotated[float | None, typer.Option("--price", min=0.0, help="Of one worker for an hour.")]
MaxWorkers = Annotated[
    int, typer.Option("--max-workers", min=1, max=MOST_WORKERS, help="End of the table.")
]
