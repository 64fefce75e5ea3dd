"""``quintile experiment``: look at experiments, and end or continue them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from quintile.cli.options import Output, OutputOption, ProjectOption, TimeoutOption

app = typer.Typer(help="Training experiments.", no_args_is_help=True)
Name = Annotated[str, typer.Argument(help="Name of the experiment.")]
RankOption = Annotated[int | None, typer.Option("--rank", min=0, help="Only of this rank.")]


@app.command("list")
def list_experiments(project: ProjectOption = None, output: OutputOption = Output.TABLE) -> None:
    """List the experiments of the project."""
    from quintile.cli import connecting, rendering
    from quintile.core import experiment

    with connecting.session(project) as session:
        found = session.collect(session.client.experiments.list(session.project))
    states = [one.status or experiment.ExperimentStatus() for one in found]
    columns: dict[str, list[Any]] = {
        "name": [one.metadata.name for one in found],
        "phase": [state.phase for state in states],
        "mode": [state.mode or one.spec.run.mode for one, state in zip(found, states, strict=True)],
        "workers": [one.spec.run.workers.replicas for one in found],
        "step": [f"{state.progress.step}/{state.progress.total_steps}" for state in states],
        "age": [rendering.age(one.metadata.creation_timestamp) for one in found],
        "reason": [state.reason for state in states],
    }
    rendering.write_list([one.document() for one in found], columns, output, name="name")


@app.command()
def get(name: Name, project: ProjectOption = None, output: OutputOption = Output.TABLE) -> None:
    """Show one experiment: phase, reason, progress, metrics, newest events."""
    from quintile.cli import connecting, rendering
    from quintile.core import experiment
    from quintile.sdk import following

    with connecting.session(project) as session:
        calls = session.client.experiments
        found = session.run(calls.get(session.project, name))
        events = session.run(calls.events(session.project, kind="Experiment", name=name, limit=5))
    state = found.status or experiment.ExperimentStatus()
    facts = {
        "name": name,
        "description": found.spec.description,
        "phase": state.phase,
        "reason": f"{state.reason} {state.message}".strip(),
        "mode": state.mode or found.spec.run.mode,
        "workers": found.spec.run.workers.replicas,
        "progress": f"{state.progress.step:,} of {state.progress.total_steps:,} steps",
        "metrics": following.metric_words(state.progress),
        "restarts": state.restarts,
        "jobs": ", ".join(state.trials),
        "started": state.start_time,
        "ended": state.completion_time,
    }
    rendering.write_one(found.document(), facts, output, name=name)
    if output is Output.TABLE:
        rendering.write_lines(
            f"  {rendering.moment(one.last_time)}  {one.reason}: {one.message}" for one in events
        )


@app.command()
def logs(
    name: Name,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on until the end.")] = False,
    rank: RankOption = None,
    tail: Annotated[int | None, typer.Option(min=0, help="The last N lines only.")] = None,
    project: ProjectOption = None,
) -> None:
    """Print the log of an experiment."""
    from quintile.cli import connecting, rendering
    from quintile.sdk import following

    with connecting.session(project) as session:
        calls, place = session.client.trials, session.project
        trial = session.run(following.first_trial(session.client, place, name))
        read = calls.follow if follow else calls.logs
        for line in session.iterate(read(place, trial, rank=rank, tail=tail)):
            rendering.write_lines([line.line if rank is not None else f"[{line.rank}] {line.line}"])


@app.command()
def metrics(
    name: Name,
    names: Annotated[list[str] | None, typer.Option("--metric", help="Only this one.")] = None,
    points: Annotated[int, typer.Option(min=1, max=10_000, help="Most points a metric.")] = 1000,
    project: ProjectOption = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Show the metrics of an experiment: newest, least and greatest; json has every point."""
    from quintile.cli import connecting, rendering
    from quintile.sdk import following

    with connecting.session(project) as session:
        place = session.project
        trial = session.run(following.first_trial(session.client, place, name))
        found = session.run(
            session.client.trials.metrics(place, trial, names=names or (), max_points=points)
        )
    values = [[value for value in one.values if value is not None] for one in found.series]
    columns: dict[str, list[Any]] = {
        "metric": [one.name for one in found.series],
        "step": [one.steps[-1] if one.steps else 0 for one in found.series],
        "newest": [own[-1] if own else None for own in values],
        "least": [min(own, default=None) for own in values],
        "greatest": [max(own, default=None) for own in values],
        "points": [one.total for one in found.series],
    }
    rendering.write_list([one.model_dump() for one in found.series], columns, output, name="metric")


@app.command()
def breakdown(
    name: Name, project: ProjectOption = None, output: OutputOption = Output.TABLE
) -> None:
    """Show where the time of a step goes, and the goodput of the run."""
    from quintile.cli import connecting, rendering
    from quintile.sdk import experiments

    with connecting.session(project):
        found = experiments.Experiment.get(name).get_single_job().breakdown()
    shares = found.shares()
    columns: dict[str, list[Any]] = {
        "part": [*found.parts, "all"],
        "ms": [*found.parts.values(), found.total_ms],
        "share": [rendering.percent(share) for share in (*shares.values(), 1.0)],
    }
    if output is Output.TABLE:
        goodput = "" if found.goodput is None else rendering.percent(found.goodput)
        rendering.write_facts({"step": found.step, "goodput": goodput})
        rendering.write_table(columns)
    else:
        document = {"step": found.step, "goodput": found.goodput, "parts": dict(found.parts)}
        rendering.write_one(document, {}, output, name=name)


@app.command()
def wait(name: Name, timeout: TimeoutOption = None, project: ProjectOption = None) -> None:
    """Wait until an experiment has ended; exit code 1 when it failed."""
    from quintile.cli import connecting
    from quintile.sdk import experiments

    with connecting.session(project):
        experiments.Experiment.get(name).get_single_job().wait_until_finish(timeout)


@app.command()
def stop(
    name: Name,
    suspend: Annotated[bool, typer.Option("--suspend", help="So that `resume` can go on.")] = False,
    project: ProjectOption = None,
) -> None:
    """Stop an experiment: its workers save their state and end."""
    from quintile.cli import connecting, rendering

    with connecting.session(project) as session:
        session.run(session.client.experiments.stop(session.project, name, suspend=suspend))
    rendering.note(f"experiment {name} is asked to {'pause' if suspend else 'stop'}")


@app.command()
def resume(
    name: Name,
    best: Annotated[
        bool, typer.Option("--best", help="From the best checkpoint; work after it is given up.")
    ] = False,
    project: ProjectOption = None,
) -> None:
    """Go on with a suspended experiment from its newest checkpoint."""
    from quintile.cli import connecting, rendering

    start: Literal["newest", "best"] = "best" if best else "newest"
    with connecting.session(project) as session:
        session.run(session.client.experiments.resume(session.project, name, start=start))
    rendering.note(f"experiment {name} goes on")


@app.command()
def scale(
    name: Name,
    workers: Annotated[int, typer.Argument(min=1, max=1024, help="How many it shall have.")],
    project: ProjectOption = None,
) -> None:
    """Give an elastic experiment another number of workers; it goes on from a checkpoint."""
    from quintile.cli import connecting, rendering

    with connecting.session(project) as session:
        session.run(session.client.experiments.scale(session.project, name, workers=workers))
    rendering.note(f"experiment {name} is asked to go on with {workers} workers")


@app.command()
def tensorboard(name: Name, project: ProjectOption = None) -> None:
    """Start TensorBoard for an experiment; print a link that opens it once, for ten minutes."""
    from quintile.cli import connecting, rendering

    with connecting.session(project) as session:
        calls = session.client.experiments
        rendering.write_lines([session.run(calls.tensorboard(session.project, name))])


@app.command()
def delete(
    names: Annotated[list[str], typer.Argument(help="Names of experiments.")],
    project: ProjectOption = None,
) -> None:
    """Delete experiments with their jobs; running ones end."""
    from quintile.cli import connecting, rendering

    with connecting.session(project) as session:
        for name in names:
            session.run(session.client.experiments.delete(session.project, name))
            rendering.note(f"experiment {name} deleted")


@app.command()
def download(
    name: Name,
    to: Annotated[Path, typer.Option("--to", help="Folder to write into.")],
    project: ProjectOption = None,
) -> None:
    """Download what an experiment published: model, report, TensorBoard event files."""
    from quintile.cli import connecting, rendering
    from quintile.sdk import experiments

    with connecting.session(project):
        job = experiments.Experiment.get(name).get_single_job()
        rendering.write_lines(job.download_artifacts(to))
