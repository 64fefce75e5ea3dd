"""The refusal of an agent that speaks for an older attempt or generation."""

from __future__ import annotations

from typing import Any

from quintile.core import errors, messages


class Stale(errors.Fenced):
    """An agent is behind; the answer tells it what to do and what is current.

    ``directive`` is ``fenced`` (its attempt is over: stop for good) or ``regenerate`` (join again).
    """

    def __init__(
        self,
        message: str,
        *,
        directive: messages.Directive,
        state: messages.GenerationState,
        attempt: int,
        generation: int,
        plan: messages.GenerationPlan | None = None,
    ) -> None:
        hint = "Stop this agent." if directive == "fenced" else "Join again."
        super().__init__(message, hint=hint)
        self.members: dict[str, Any] = {
            "directive": directive,
            "state": state,
            "attempt": attempt,
            "generation": generation,
            "plan": plan.model_dump(mode="json") if plan is not None else None,
        }
