"""``quintile apply -f FILE``: makes what documents describe; the same document again is a no-op."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from quintile.cli.options import ProjectOption

app = typer.Typer()
FILE_HINT: Final = "Give a YAML or JSON file of an Experiment or a LabelingJob."


@app.command()
def apply(
    files: Annotated[
        list[Path], typer.Option("--filename", "-f", help="YAML or JSON file; - is stdin.")
    ],
    project: ProjectOption = None,
) -> None:
    """Make the Experiments and LabelingJobs of a file."""
    from quintile.cli import applying, connecting, rendering

    documents = [found for path in files for found in read(path)]
    with connecting.session(project) as session:
        for document in documents:
            kind, name, outcome = session.run(
                applying.apply(session.client, session.project, document)
            )
            rendering.write_lines([f"{kind.lower()}/{name} {outcome}"])


def read(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the documents of a file, each checked for kind and name.

    Raises:
        InvalidSpec: The file cannot be read, or a document is none of ours.
    """
    import yaml

    from quintile.cli import applying
    from quintile.core import errors

    try:
        text = sys.stdin.read() if str(path) == "-" else path.read_text(encoding="utf-8")
        found = [one for one in yaml.safe_load_all(text) if one is not None]
    except (OSError, UnicodeDecodeError, yaml.YAMLError, RecursionError) as error:
        words = " ".join(str(getattr(error, "strerror", None) or error).split())
        raise errors.InvalidSpec(
            f"{path} cannot be read: {words}.", hint=FILE_HINT, field="filename"
        ) from error
    if not found:
        raise errors.InvalidSpec(f"{path} holds no document.", hint=FILE_HINT, field="filename")
    for number, document in enumerate(found, 1):
        applying.check_head(document, where=f"{path}, document {number}")
        yield document
