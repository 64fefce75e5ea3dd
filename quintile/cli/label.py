"""``quintile label``: labeling jobs, from creation to the certificate."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from quintile.cli import label_options as choose
from quintile.cli.options import Output, OutputOption, ProjectOption, TimeoutOption

app = typer.Typer(
    help="Labeling jobs: people label a few images, the platform the rest, with a certificate.",
    no_args_is_help=True,
)
Name = Annotated[str, typer.Argument(help="Name of the job.")]


@app.command()
def create(
    name: Name,
    dataset: choose.Dataset,
    labels: choose.Labels = "",
    error: choose.Error = 0.02,
    confidence: choose.Confidence = 0.95,
    mode: choose.ModeOption = choose.Mode.CROSSFIT,
    random: choose.Random = None,
    batch: choose.Batch = "5%",
    max_human: choose.MaxHuman = "20%",
    max_chosen: choose.MaxChosen = None,
    max_rounds: choose.MaxRounds = 8,
    uncovered: choose.UncoveredOption = choose.Uncovered.PEOPLE,
    strategy: choose.Strategy = "auto",
    overlap: choose.Overlap = "0%",
    lookahead: choose.Lookahead = 1,
    seed: choose.Seed = 0,
    project: ProjectOption = None,
) -> None:
    """Make a labeling job; people can answer at once."""
    from quintile.cli import connecting, rendering
    from quintile.sdk import labeling

    config = labeling.LabelingConfig(
        error=error,
        confidence=confidence,
        mode=mode.value,
        random=random,
        batch=batch,
        max_human_labels=max_human,
        max_chosen=max_chosen,
        max_rounds=max_rounds,
        uncovered=uncovered.value,
        strategy=strategy,
        overlap=overlap,
        lookahead=1 if lookahead else 0,
        seed=seed,
    )
    named = [one.strip() for one in labels.split(",") if one.strip()]
    with connecting.session(project):
        labeling.LabelingJob.create(name, dataset_version=dataset, labels=named, config=config)
    rendering.note(f"labeling job {name} created")


@app.command("list")
def list_jobs(project: ProjectOption = None, output: OutputOption = Output.TABLE) -> None:
    """List the labeling jobs of the project."""
    from quintile.cli import connecting, rendering
    from quintile.core import labeling_job

    with connecting.session(project) as session:
        found = session.collect(session.client.labeling.list(session.project))
    states = [one.status or labeling_job.LabelingJobStatus() for one in found]
    columns: dict[str, list[Any]] = {
        "name": [one.metadata.name for one in found],
        "phase": [state.phase for state in states],
        "dataset": [f"{one.spec.dataset.name}:{one.spec.dataset.version}" for one in found],
        "items": [state.counts.items for state in states],
        "human": [rendering.percent(state.human_fraction) for state in states],
        "covered": [rendering.percent(state.coverage) for state in states],
        "error": [rendering.percent(state.certified_error) for state in states],
        "round": [state.round for state in states],
        "age": [rendering.age(one.metadata.creation_timestamp) for one in found],
    }
    rendering.write_list([one.document() for one in found], columns, output, name="name")


@app.command()
def status(name: Name, project: ProjectOption = None, output: OutputOption = Output.TABLE) -> None:
    """Show how far a job is: phase, labels of people, coverage, certified error."""
    from quintile.cli import connecting, rendering
    from quintile.core import labeling_job

    with connecting.session(project) as session:
        calls, place = session.client.labeling, session.project
        job = session.run(calls.get(place, name))
        stats = session.run(calls.stats(place, name))
    state = job.status or labeling_job.LabelingJobStatus()
    facts = {
        "name": name,
        "phase": state.phase,
        "reason": f"{state.reason} {state.message}".strip(),
        "dataset": f"{job.spec.dataset.name}:{job.spec.dataset.version}",
        "target": f"error {job.spec.target.error} at {job.spec.target.confidence}",
        "items": stats.items,
        "human": f"{stats.human:,} ({rendering.percent(stats.human_fraction)})",
        "decisions": stats.decisions,
        "machine": stats.auto,
        "without": stats.uncovered,
        "round": state.round,
        "covered": rendering.percent(state.coverage),
        "certified": rendering.percent(state.certified_error),
        "labels left": state.labels_left,
        "output": state.output_version,
    }
    document = {**job.document(), "stats": stats.model_dump()}
    rendering.write_one(document, facts, output, name=name)


@app.command()
def wait(name: Name, timeout: TimeoutOption = None, project: ProjectOption = None) -> None:
    """Wait until a job has ended; exit code 1 when it failed."""
    from quintile.cli import connecting
    from quintile.sdk import labeling

    with connecting.session(project):
        labeling.LabelingJob.get(name).wait(timeout)


@app.command()
def simulate(
    name: Name,
    truth: Annotated[Path, typer.Option("--truth", help="CSV: name (or item_id), label.")],
    noise: Annotated[
        float, typer.Option("--noise", min=0.0, max=1.0, help="Share of wrong answers.")
    ] = 0.0,
    annotator: Annotated[
        str, typer.Option("--annotator", help="Name; another name errs elsewhere.")
    ] = "simulated",
    seconds: Annotated[
        float, typer.Option("--seconds", min=0.0, max=60.0, help="Time per answer.")
    ] = 0.0,
    seed: Annotated[int, typer.Option("--seed", help="Of the noise.")] = 0,
    patience: Annotated[
        float, typer.Option("--patience", min=0.0, help="Minutes to wait for a server away.")
    ] = 10.0,
    project: ProjectOption = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Answer as people would who know the truth, until the job has finished."""
    from quintile.cli import connecting, rendering, simulating
    from quintile.sdk import simulate as simulation

    chosen = simulation.Annotator(
        truth=simulation.read_truth(truth),
        name=annotator,
        noise=noise,
        seed=seed,
        seconds=seconds,
        patience_s=patience * 60,
    )
    with connecting.session(project) as session:
        tally = simulating.run(session, name, chosen)
    facts = {
        "job": name,
        "answered": tally.answered,
        "wrong on purpose": tally.wrong,
        **tally.outcomes,
    }
    document = {"job": name, "answered": tally.answered, "wrong": tally.wrong} | {
        "outcomes": dict(tally.outcomes)
    }
    rendering.write_one(document, facts, output, name=name)


@app.command()
def suspend(name: Name, project: ProjectOption = None) -> None:
    """Pause a job: nobody gets tasks until it is resumed."""
    from quintile.cli import connecting, rendering

    with connecting.session(project) as session:
        session.run(session.client.labeling.suspend(session.project, name))
    rendering.note(f"labeling job {name} is paused")


@app.command()
def resume(name: Name, project: ProjectOption = None) -> None:
    """Go on with a paused job."""
    from quintile.cli import connecting, rendering

    with connecting.session(project) as session:
        session.run(session.client.labeling.resume(session.project, name))
    rendering.note(f"labeling job {name} goes on")


@app.command()
def delete(name: Name, project: ProjectOption = None) -> None:
    """Delete a job with its answers; dataset versions stay."""
    from quintile.cli import connecting, rendering

    with connecting.session(project) as session:
        session.run(session.client.labeling.delete(session.project, name))
    rendering.note(f"labeling job {name} deleted")
