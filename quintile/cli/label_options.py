"""Options of ``quintile label create``."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer


class Mode(StrEnum):
    """How the error is certified."""

    CROSSFIT = "crossfit"
    STRICT = "strict"


class Uncovered(StrEnum):
    """What happens to rows without a certificate."""

    PEOPLE = "people"
    LEAVE = "leave"
    AUTO_UNCERTIFIED = "autoUncertified"


Dataset = Annotated[
    str, typer.Option("--dataset", help="What to label, as NAME:VERSION.", metavar="REF")
]
Labels = Annotated[
    str,
    typer.Option("--labels", help="Class names; default: those of the dataset.", metavar="A,B,C"),
]
Error = Annotated[float, typer.Option("--error", help="Share of rows that may be wrong.")]
Confidence = Annotated[float, typer.Option("--confidence", help="How sure that is.")]
ModeOption = Annotated[Mode, typer.Option("--mode", help="How the error is certified.")]
Random = Annotated[
    str | None,
    typer.Option("--random", help="Size of the random stratum; default: the smallest that can do."),
]
Batch = Annotated[str, typer.Option("--batch", help="Items a round: count or percentage.")]
MaxHuman = Annotated[
    str, typer.Option("--max-human", help="Decisions of people in all: count or percentage.")
]
MaxChosen = Annotated[
    str | None, typer.Option("--max-chosen", help="Chosen items at most: count or percentage.")
]
MaxRounds = Annotated[int, typer.Option("--max-rounds", min=1, max=100, help="Rounds at most.")]
UncoveredOption = Annotated[
    Uncovered, typer.Option("--uncovered", help="Rows without a certificate.")
]
Strategy = Annotated[str, typer.Option("--strategy", help="How items are chosen.")]
Overlap = Annotated[str, typer.Option("--overlap", help="Items that two people answer.")]
Lookahead = Annotated[
    int,
    typer.Option(
        "--lookahead", min=0, max=1, help="1: people go on while a round trains; 0: they wait."
    ),
]
Seed = Annotated[int, typer.Option("--seed", min=0, help="Of every draw.")]
