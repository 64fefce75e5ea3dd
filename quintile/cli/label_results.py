"""``quintile label``: what a job found out: rounds, certificate, labels, reasons."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from quintile.cli import label
from quintile.cli.label import Name
from quintile.cli.options import Output, OutputOption, ProjectOption

app = label.app


@app.command()
def rounds(name: Name, project: ProjectOption = None, output: OutputOption = Output.TABLE) -> None:
    """List the rounds of a job: what went in, how good it looked, what it cost."""
    from quintile.cli import connecting, rendering

    with connecting.session(project) as session:
        found = session.run(session.client.labeling.rounds(session.project, name))
    columns: dict[str, list[Any]] = {
        "round": [one.number for one in found],
        "step": [one.step for one in found],
        "state": [one.state for one in found],
        "human": [one.human for one in found],
        "random": [one.random_settled for one in found],
        "covered": [rendering.percent(one.coverage) for one in found],
        "seconds": [one.seconds for one in found],
        "experiment": [one.experiment for one in found],
    }
    rendering.write_list([one.model_dump() for one in found], columns, output, name="round")


@app.command()
def certificate(
    name: Name, project: ProjectOption = None, output: OutputOption = Output.TABLE
) -> None:
    """Show the certificate of a job: outcome, certified error, and what it follows from."""
    from quintile.cli import connecting, rendering

    with connecting.session(project) as session:
        found = session.run(session.client.labeling.certificate(session.project, name))
    facts = {
        "outcome": found.outcome + (" (stale)" if found.stale else ""),
        "certified error": rendering.percent(
            None if found.outcome == "Uncertified" else found.certified_error
        ),
        "target error": rendering.percent(found.target_error),
        "confidence": rendering.percent(found.confidence),
        "mode": f"{found.mode}: {found.words}",
        "guarantee": found.guarantee,
        "items": found.items,
        "by the machine": found.accepted,
        "random items": f"{found.random_items:,}, wrong among them {found.random_wrong:,}",
        "uncovered": found.uncovered,
        "id": found.id,
        "created": found.created,
    }
    rendering.write_one(found.model_dump(), facts, output, name=found.id)
    if output is Output.TABLE:
        rendering.write_lines(["", *found.lines])


@app.command()
def export(
    name: Name,
    to: Annotated[Path | None, typer.Option("--to", help="File; default: stdout.")] = None,
    uncertified: Annotated[
        bool, typer.Option("--uncertified", help="Fill other rows with the newest prediction.")
    ] = False,
    project: ProjectOption = None,
) -> None:
    """Write the labels of a job as CSV: item_id, name, label, source, confidence."""
    import sys

    from quintile.cli import connecting

    with connecting.session(project) as session:
        calls = session.client.labeling
        text = session.run(calls.labels_csv(session.project, name, uncertified=uncertified))
    if to is not None:
        to.write_bytes(text)
    else:
        sys.stdout.write(text.decode())


@app.command()
def why(
    name: Name,
    item: Annotated[str, typer.Argument(help="Item id, as `label export` shows.")],
    project: ProjectOption = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Say why an item has its label: every step behind it, oldest first."""
    from quintile.cli import connecting, rendering

    with connecting.session(project) as session:
        found = session.run(session.client.labeling.why(session.project, name, item))
    if output is not Output.TABLE:
        rendering.write_one(found.model_dump(), {}, output, name=item)
        return
    rendering.write_facts({"item": found.name, "label": found.label, "source": found.source})
    rendering.write_table(
        {
            "time": [one.time for one in found.steps],
            "what": [one.kind for one in found.steps],
            "who": [one.actor for one in found.steps],
            "label": [one.label for one in found.steps],
            "detail": [one.detail for one in found.steps],
        }
    )


@app.command()
def verify(
    name: Name,
    scores: Annotated[
        Path | None, typer.Option("--scores", help="Scores file kept from before; else downloaded.")
    ] = None,
    project: ProjectOption = None,
) -> None:
    """Compute a certificate again from its stored scores; exit code 1 when it does not follow."""
    from quintile.cli import connecting, rendering, verifying

    with connecting.session(project) as session:
        calls, place = session.client.labeling, session.project
        found = session.run(calls.certificate(place, name))
        data = (
            session.run(calls.certificate_scores(place, name))
            if scores is None
            else verifying.read(scores)
        )
    verifying.check(found, data)
    rendering.write_lines(
        [f"certificate {found.id}: every figure follows from the {found.items:,} stored scores"]
    )
