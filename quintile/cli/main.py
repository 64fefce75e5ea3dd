"""``quintile``: every command, and the one place where errors become exit codes.

Commands import what they need when they run, so that ``quintile --help`` is quick.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from quintile.cli import apply, dataset, experiment, label_results, planning, run, token

app = typer.Typer(
    name="quintile",
    help="Label a fifth, certify the rest, train on all of it.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
app.add_typer(run.app)
app.add_typer(planning.app)
app.add_typer(apply.app)
app.add_typer(experiment.app, name="experiment")
app.add_typer(dataset.app, name="dataset")
app.add_typer(label_results.app, name="label")
app.add_typer(token.app, name="token")


@app.callback()
def options(
    debug: Annotated[bool, typer.Option("--debug", help="Show where an error comes from.")] = False,
) -> None:
    """Label a fifth, certify the rest, train on all of it."""
    del debug  # ``main`` looks for it before anything else is read


@app.command()
def up(
    home: Annotated[
        Path | None, typer.Option("--home", help="Folder of the instance; default: ~/.quintile.")
    ] = None,
    host: Annotated[str | None, typer.Option("--host", help="Address to listen on.")] = None,
    port: Annotated[
        int | None, typer.Option("--port", min=0, max=65535, help="0 takes any free one.")
    ] = None,
) -> None:
    """Run the platform on this machine: one process, one port."""
    from quintile_embedded import up as embedded

    raise typer.Exit(embedded.run(home, host, port))


@app.command()
def demo(
    seed: Annotated[int, typer.Option("--seed", min=0, help="Of every draw.")] = 0,
    keep: Annotated[bool, typer.Option("--keep", help="Leave the platform running.")] = False,
    connect: Annotated[
        bool, typer.Option("--connect", help="Use the platform that QUINTILE_URL names.")
    ] = False,
    report: Annotated[Path, typer.Option("--report", help="Where the report goes.")] = Path(
        "demo-report.json"
    ),
    setup_seconds: Annotated[float, typer.Option("--setup-seconds", hidden=True)] = 0.0,
) -> None:
    """Do the whole job on real images: label, certify, export, train."""
    from quintile_embedded import demo as embedded

    wanted = embedded.Options(
        seed=seed, keep=keep, connect=connect, report=report, setup_seconds=setup_seconds
    )
    raise typer.Exit(embedded.run(wanted))


@app.command()
def link() -> None:
    """Print a new one-time link that signs you in to the console."""
    from quintile.cli import connecting, rendering

    with connecting.session() as session:
        who = session.run(session.client.identity())
        rendering.write_lines([session.run(session.client.accounts.login_link(who.name))])


@app.command()
def doctor() -> None:
    """Check this machine, the server and your credentials; exit code 1 when something is wrong."""
    import asyncio

    from quintile.cli import doctor as checks
    from quintile.cli import rendering

    found = [*checks.machine(), *asyncio.run(checks.server())]
    rendering.write_lines(one.line() for one in found)
    raise typer.Exit(1 if any(one.state == "bad" for one in found) else 0)


@app.command()
def version() -> None:
    """Print the release."""
    from importlib import metadata

    from quintile.cli import rendering

    rendering.write_lines([metadata.version("quintile")])


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line; the entry point of the package."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    if "--debug" in given[:1]:
        app(args=given, prog_name="quintile")
    try:
        app(args=given, prog_name="quintile")
    except (Exception, KeyboardInterrupt) as error:  # the boundary of the program
        from quintile.cli import failures

        raise SystemExit(failures.report(error)) from None


if __name__ == "__main__":
    main()
