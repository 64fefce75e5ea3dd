"""Ranks of mode ``ps``: what a parameter server runs, and how a worker finds its servers."""

from __future__ import annotations

import json
import sys

import torch

from quintile_trainer import stopping, worker_env
from quintile_trainer.ps import mode, server, settings

LIMITS = settings.Limits(meeting_s=600.0, handshake_s=30.0)
"""A rank that fails is told by its agent; these only end what nobody would ever end."""
DEFAULT_BOUND = 4
"""How far ahead a worker may be in ssp when the spec does not say."""


def serve(env: worker_env.WorkerEnv) -> None:
    """Be one parameter server until every worker has left.

    Being asked to leave changes nothing here: the workers are asked too, and need their servers to
    save the state. Whoever waits for too long kills this process.

    Raises:
        RankFailure: See ``server.run``.
    """
    stopping.StopSignal()
    torch.set_num_threads(1)
    place = server.Place(team(env), env.index, env.host)
    counters = server.run(place, env.secret.encode())
    sys.stdout.write(f"parameter server {env.index} is done: {json.dumps(counters)}\n")


def join(env: worker_env.WorkerEnv) -> mode.ParameterServers:
    """Return the mode of a worker rank; it meets the servers later, when it begins."""
    return mode.ParameterServers(team(env), env.secret.encode(), rank=env.rank)


def team(env: worker_env.WorkerEnv) -> settings.Team:
    """Return who takes part in this generation."""
    return settings.Team(
        servers=env.servers,
        workers=env.world_size,
        generation=env.generation,
        host=env.master_host,
        port=env.master_port,
        limits=LIMITS,
    )


def consistency(env: worker_env.WorkerEnv) -> settings.Consistency:
    """Return how the spec orders pushes; absent fields have their defaults there."""
    spec = env.run_spec.get("ps", {})
    ordering = spec.get("consistency", "sync")
    bound = spec.get("staleness", DEFAULT_BOUND) if ordering == "ssp" else 0
    return settings.Consistency(ordering, int(bound))
