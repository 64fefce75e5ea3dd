"""Options of ``quintile run``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Final

import typer

ScriptArgument = Annotated[
    Path | None, typer.Argument(help="Python script; leave it out with --model.")
]
Arguments = Annotated[list[str] | None, typer.Argument(help="Arguments of the script, after --.")]
Workers = Annotated[int, typer.Option("--workers", "-w", min=1, help="Worker processes.")]
MinWorkers = Annotated[
    int | None,
    typer.Option("--min-workers", min=1, help="Makes it elastic: go on while so many are left."),
]
MaxWorkers = Annotated[
    int | None,
    typer.Option("--max-workers", min=1, help="Makes it elastic: it can be scaled up to so many."),
]
Servers = Annotated[
    int, typer.Option("--ps", min=0, help="Parameter servers; more than 0 means mode ps.")
]
Consistency = Annotated[
    str, typer.Option("--consistency", help="Of parameter servers: sync, ssp or async.")
]
Staleness = Annotated[
    int | None,
    typer.Option("--staleness", min=0, help="How far ahead a worker may be in ssp; default 4."),
]
ModeOption = Annotated[str, typer.Option("--mode", help="auto, single, ddp, horovod, mpi or ps.")]
Controller = Annotated[
    str, typer.Option("--controller", help="Mode horovod: gloo, or mpi (under Open MPI).")
]
Comm = Annotated[
    str,
    typer.Option(
        "--comm", help="Mode ddp: shm (memory of one host), gloo (TCP), auto: what works."
    ),
]
Rules = Annotated[
    list[str] | None,
    typer.Option(
        "--failure-rule",
        help="What follows when a rank ends with one of these codes, a text on stderr, or both: "
        "Restart, RestartUncounted or Fail. The first that fits.",
        metavar="ACTION=CODES[:TEXT]",
    ),
]
Patience = Annotated[
    int,
    typer.Option(
        "--progress-timeout", min=0, help="Seconds without a step that restart it; 0: never."
    ),
]
StartPatience = Annotated[
    int | None,
    typer.Option("--start-timeout", min=0, help="The same before the first step; default: 1800."),
]
Model = Annotated[
    str | None,
    typer.Option("--model", help="Built-in model: resnet8, resnet18, resnet34, resnet50."),
]
Data = Annotated[
    str | None, typer.Option("--dataset", help="Data, as NAME:VERSION/SPLIT.", metavar="REF")
]
NameOption = Annotated[
    str | None, typer.Option("--name", help="Name; default: made from the script.")
]
Settings = Annotated[
    list[str] | None, typer.Option("--set", help="Hyperparameter.", metavar="NAME=VALUE")
]
Env = Annotated[
    list[str] | None,
    typer.Option("--env", help="Environment variable of the ranks.", metavar="NAME=VALUE"),
]
Queue = Annotated[
    str | None, typer.Option("--queue", help="On a cluster: the queue that admits it.")
]
Priority = Annotated[str | None, typer.Option("--priority", help="A word of that queue.")]
Runtime = Annotated[
    str | None, typer.Option("--runtime", help="On a cluster: the ClusterRuntime of its pods.")
]
Image = Annotated[
    str | None, typer.Option("--image", help="Image of the pods, where the runtime allows it.")
]
Secrets = Annotated[
    list[str] | None,
    typer.Option(
        "--secret",
        help="Secret of the project for the ranks: as variables, or as files in a folder.",
        metavar="NAME[=FOLDER]",
    ),
]
Folder = Annotated[
    Path | None,
    typer.Option("--folder", help="What travels with the script; default: its folder."),
]
Description = Annotated[str, typer.Option("--description", help="For people.")]
CheckpointEvery = Annotated[
    int, typer.Option("--checkpoint-every", min=1, help="Steps between checkpoints.")
]
SummaryEvery = Annotated[int, typer.Option("--summary-every", min=1, help="Steps between metrics.")]
Gpu = Annotated[bool, typer.Option("--gpu", help="Workers get GPUs.")]
NoEval = Annotated[bool, typer.Option("--no-eval", help="Skip the evaluation.")]
Deterministic = Annotated[bool, typer.Option("--deterministic", help="Same seed, same result.")]
Rank = Annotated[int, typer.Option("--rank", help="Show the log of this rank; -1 = of all.")]
Detach = Annotated[bool, typer.Option("--detach", "-d", help="Submit only; print the name.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Print plan and files; run nothing.")]

FIELDS: Final = {
    "mode": "mode",
    "comm": "comm",
    "controller": "horovod_controller",
    "workers": "no_of_workers",
    "min_workers": "min_workers",
    "max_workers": "max_workers",
    "servers": "no_of_ps",
    "consistency": "consistency",
    "staleness": "staleness",
    "deterministic": "deterministic",
    "gpu": "use_gpu",
    "summary_every": "summary_save_frequency",
    "checkpoint_every": "checkpoint_frequency_in_steps",
    "progress_timeout": "progress_timeout_s",
    "start_timeout": "start_timeout_s",
    "queue": "queue",
    "priority": "priority",
    "runtime": "runtime",
    "image": "image",
}
"""Field of the RunConfig by option; its values are checked there."""
