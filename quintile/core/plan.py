"""From a Trial to the printable plan of one attempt. Pure; equal inputs give an equal plan.

Called by the reconciler before ``Executor.ensure`` and by the API for a dry run.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from quintile.core import experiment, launch, names, quantities, runplan, topology


def plan_trial(
    trial: experiment.Trial,
    *,
    attempt: int,
    api_url: str,
    python: str,
    token: str,
    hosts: Mapping[str, str],
) -> runplan.RunPlan:
    """Return every replica of one attempt with argv and environment.

    Args:
        trial: The trial; its uid may be empty in a dry run.
        attempt: Number of the attempt, from 1.
        api_url: Base URL of the API as the agents reach it.
        python: Interpreter that runs the agent.
        token: Token of this attempt; goes into the plan, never into a replica's environment.
        hosts: Host by replica name (``Executor.addresses``); missing names stay empty.

    Raises:
        InvalidSpec: An option is not in this release, or a quantity cannot be read.
    """
    topology.check_elastic(trial.spec.template)
    shape = topology.resolve(trial.spec.template.run)
    site = launch.Site(api_url=api_url, python=python)
    shared = launch.environment(trial, shape, attempt=attempt, site=site)
    limits = _limits(trial.spec.template.run)
    replicas = []
    for role in shape.roles:
        for index in range(role.replicas):
            name = names.replica(trial.metadata.name, attempt=attempt, role=role.name, index=index)
            own = launch.member(role, index=index, host=hosts.get(name, ""))
            replicas.append(
                runplan.ReplicaPlan(
                    name=name,
                    role=role.name,
                    index=index,
                    argv=launch.arguments(site),
                    env=tuple(sorted({**shared, **own}.items())),
                    procs=role.procs,
                    **limits,
                )
            )
    return runplan.RunPlan(
        namespace=trial.metadata.namespace,
        trial=trial.metadata.name,
        trial_uid=trial.metadata.uid,
        attempt=attempt,
        mode=shape.mode,
        replicas=tuple(replicas),
        token=token,
        grace_s=trial.spec.template.checkpoint.grace_seconds,
        elastic=trial.spec.template.run.workers.elastic,
    )


def check(spec: experiment.ExperimentSpec) -> None:
    """Refuse a spec that can never be planned.

    Raises:
        InvalidSpec: As ``plan_trial``.
    """
    topology.check_elastic(spec)
    topology.resolve(spec.run)
    _limits(spec.run)


def printable(run: runplan.RunPlan) -> dict[str, Any]:
    """Return a plan as JSON for people: everything but the token."""
    shown = dataclasses.asdict(dataclasses.replace(run, token=""))
    del shown["token"]
    for replica in shown["replicas"]:
        replica["argv"] = list(replica["argv"])
        replica["env"] = dict(replica["env"])
    shown["replicas"] = list(shown["replicas"])
    return shown


def _limits(run: experiment.RunSpec) -> dict[str, int]:
    wanted = run.resources
    cpu = memory = 0
    if wanted.cpu is not None:
        cpu = quantities.cpu_millis(wanted.cpu, field="spec.run.resources.cpu")
    if wanted.memory is not None:
        memory = quantities.memory_bytes(wanted.memory, field="spec.run.resources.memory")
    gpus = max(1, wanted.gpu) if run.use_gpu else 0
    return {"cpu_millis": cpu, "memory_bytes": memory, "gpus": gpus}
