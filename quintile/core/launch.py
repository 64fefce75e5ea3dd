"""What one replica runs: argv and environment of its agent. Pure.

Called by ``core.plan``. Everything the agent needs is here but the token and the state folder,
which the Executor adds.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from quintile.core import experiment, topology

AGENT_MODULE = "quintile_trainer.agent"


@dataclass(frozen=True)
class Site:
    """Where an attempt runs: the API's address for agents and the interpreter of the agents."""

    api_url: str
    python: str


def arguments(site: Site) -> tuple[str, ...]:
    """Return the argv of an agent."""
    return (site.python, "-m", AGENT_MODULE)


def program(trial: experiment.Trial) -> str:
    """Return the JSON that tells the ranks what to run; equal trials give equal bytes."""
    template = trial.spec.template
    parts = {
        "experiment": trial.spec.experiment,
        "trial": trial.metadata.name,
        "namespace": trial.metadata.namespace,
        "estimator": template.estimator.document(),
        "dataset": template.dataset.document() if template.dataset is not None else None,
        "hparams": [parameter.document() for parameter in trial.spec.hparams],
        "run": _run(trial),
        "checkpoint": template.checkpoint.document(),
        "telemetry": template.telemetry.document(),
        "failureRules": [rule.document() for rule in template.failure.rules] or None,
    }
    present = {name: value for name, value in parts.items() if value is not None}
    return json.dumps(present, sort_keys=True, separators=(",", ":"))


def _run(trial: experiment.Trial) -> dict[str, Any]:
    """Return the run block that the ranks are told: the number of workers as submitted.

    So all agents of an elastic attempt have the same program, and the global batch stays.
    """
    run = trial.spec.template.run
    if trial.spec.batch_workers is not None:
        workers = run.workers.model_copy(update={"replicas": trial.spec.batch_workers})
        run = run.model_copy(update={"workers": workers})
    return run.document()


def environment(
    trial: experiment.Trial, shape: topology.Topology, *, attempt: int, site: Site
) -> dict[str, str]:
    """Return the environment that all replicas of an attempt share.

    The user's own variables (``spec.estimator.env``) travel inside the program, not here: they are
    for the ranks and must not reach the agent.
    """
    template = trial.spec.template
    workers = template.run.workers
    return {
        **({"QUINTILE_LEAST": str(workers.least)} if workers.elastic else {}),
        "QUINTILE_API_URL": site.api_url,
        "QUINTILE_TRIAL_UID": trial.metadata.uid,
        "QUINTILE_ATTEMPT": str(attempt),
        "QUINTILE_MEMBERS": json.dumps(shape.members, sort_keys=True, separators=(",", ":")),
        "QUINTILE_MODE": shape.mode,
        "QUINTILE_MAX_IN_PLACE": str(template.failure.max_in_place_restarts),
        "QUINTILE_GRACE_S": str(template.checkpoint.grace_seconds),
        "QUINTILE_PROGRAM": program(trial),
    }


def member(role: topology.Role, *, index: int, host: str) -> dict[str, str]:
    """Return the environment that only one replica has."""
    return {
        "QUINTILE_ROLE": role.name,
        "QUINTILE_INDEX": str(index),
        "QUINTILE_PROCS": str(role.procs),
        "QUINTILE_HOST": host,
    }
