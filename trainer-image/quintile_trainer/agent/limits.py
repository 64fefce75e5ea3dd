"""For how long a rank may stand still, as the experiment says. Pure."""

from __future__ import annotations

from quintile_trainer.agent import wire

START_S = 1800.0
"""Where the experiment does not say how long a start may take."""


def progress_timeout_s(program: wire.Json) -> float:
    """Return how long a rank may take for a step; 0 = for ever."""
    return float(program.get("telemetry", {}).get("progressTimeoutSeconds") or 0.0)


def start_timeout_s(program: wire.Json) -> float:
    """Return how long a rank may start without a sign; 0 = for ever."""
    given = _start_given(program)
    return START_S if given is None else given


def must_tell_steps(program: wire.Json) -> bool:
    """Return whether a rank starts until its first step, and not only until its program runs.

    A script may tell no steps at all; who sets a limit on the first one says that this one does.
    """
    estimator = program["estimator"]
    by_itself = not (estimator.get("script") or estimator.get("labelingRound"))
    return by_itself or bool(_start_given(program))


def _start_given(program: wire.Json) -> float | None:
    given = program.get("telemetry", {}).get("startTimeoutSeconds")
    return None if given is None else float(given)
