"""Options that many commands share, so that each has one name and one meaning."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer


class Output(StrEnum):
    """How an answer is written."""

    TABLE = "table"
    JSON = "json"
    YAML = "yaml"
    NAME = "name"


OutputOption = Annotated[
    Output, typer.Option("--output", "-o", help="table for people, json, yaml, or names only.")
]
ProjectOption = Annotated[
    str | None,
    typer.Option(
        "--project", "-p", help="Project; default: QUINTILE_PROJECT, else default.", metavar="NAME"
    ),
]
TimeoutOption = Annotated[
    float | None,
    typer.Option(
        "--timeout", min=0.0, help="Give up after so many seconds (exit code 124).", metavar="S"
    ),
]
