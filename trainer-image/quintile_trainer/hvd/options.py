"""The rare arguments of Horovod's functions, checked in one place."""

from __future__ import annotations

from typing import TypedDict, Unpack

from quintile_trainer.hvd import requests, world

__all__ = ["Options", "Reduction", "read"]


class Options(TypedDict, total=False):
    """Arguments that most reductions take and few scripts give."""

    prescale_factor: float
    postscale_factor: float
    process_set: object


class Reduction(TypedDict):
    """How to reduce: fields of a ``Request``."""

    op: int
    prescale: float
    postscale: float


def read(op: int | None, average: bool | None, **given: Unpack[Options]) -> Reduction:
    """Return what a caller asked for; ``average`` is the old way to say ``op``.

    Raises:
        ValueError: Both are given, or something that the shim does not have.
        TypeError: An argument is unknown.
    """
    unknown = set(given) - set(Options.__annotations__)
    if unknown:
        raise TypeError(f"unexpected arguments: {', '.join(sorted(unknown))}")
    world.whole(given.get("process_set", world.global_process_set))
    if op is not None and average is not None:
        raise ValueError("The op parameter supersedes average. Please provide only one of them.")
    if op is None:
        op = requests.SUM if average is False else requests.AVERAGE
    world.check_operation(op)
    return {
        "op": op,
        "prescale": float(given.get("prescale_factor", 1.0)),
        "postscale": float(given.get("postscale_factor", 1.0)),
    }
