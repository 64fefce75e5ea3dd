"""What the ranks of a generation are told: environment and ``run.json``. Pure but for one file."""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass

from quintile_trainer import layout, spool
from quintile_trainer.agent import environment, horovod, inbox, peers, wire

OWN_PREFIXES = ("QUINTILE_", "HOROVOD_", "OMPI_", "PMIX_")
"""Ours to set: what an outer launcher left there speaks of other ranks."""
is_loopback = peers.is_loopback


@dataclass(frozen=True)
class Slot:
    """One rank of this replica."""

    rank: int
    local_rank: int


def slots(plan: wire.Json, *, role: str, index: int) -> tuple[Slot, ...]:
    """Return the ranks that a plan gives to a replica."""
    return tuple(
        Slot(int(slot["rank"]), int(slot["local_rank"]))
        for slot in plan["ranks"]
        if slot["role"] == role and slot["index"] == index
    )


def ranks_on_host(plan: wire.Json, host: str, local: int) -> int:
    """Return how many ranks share this machine's processors.

    Replicas that meet on the loopback address are all on one machine; others have their own quota.
    """
    return len(plan["ranks"]) if is_loopback(host) else local


def submitted_workers(program: wire.Json) -> int:
    """Return the number of workers that the user asked for: it fixes the global batch."""
    return int(program.get("run", {}).get("workers", {}).get("replicas", 1))


def team_secret(token: str) -> str:
    """Return what the ranks of an attempt know each other by."""
    return hmac.new(token.encode(), b"quintile parameter servers", hashlib.sha256).hexdigest()


def _interfaces(name: str) -> dict[str, str]:
    """Return what the libraries of the ranks are told of the network; a user may know better."""
    words = ("GLOO_SOCKET_IFNAME", "NCCL_SOCKET_IFNAME", "HOROVOD_GLOO_IFACE")
    return dict.fromkeys(words, name) if name else {}


def write_run(
    env: environment.AgentEnv, state: layout.StateFolder, ready: inbox.Ready
) -> layout.GenerationFolder:
    """Write ``run.json`` of a generation; return its folder."""
    generation = int(ready.plan["generation"])
    folder = state.generation(generation)
    folder.root.mkdir(parents=True, exist_ok=True)
    local = len(slots(ready.plan, role=env.role, index=env.index))
    run = {
        "program": env.program,
        "plan": ready.plan,
        "begun_s": time.time() - float(ready.plan.get("elapsed_s", 0.0)),
        "access": ready.access,
        "resume_dir": ready.resume_dir,
        "state_dir": str(state.root),
        "cache_dir": str(env.cache_dir),
        "trial_uid": env.trial_uid,
        "attempt": env.attempt,
        "mode": env.mode,
        "role": env.role,
        "index": env.index,
        "host": env.host,
        "servers": int(env.members.get(layout.SERVERS, 0)),
        "workers": submitted_workers(env.program),
        "ranks_on_host": ranks_on_host(ready.plan, env.host, local),
    }
    spool.write_atomically(folder.run_file, json.dumps(run).encode())
    return folder


def rank_env(
    base: Mapping[str, str],
    env: environment.AgentEnv,
    ready: inbox.Ready,
    slot: Slot,
    run_file: str,
) -> dict[str, str]:
    """Return the environment of one rank.

    The agent's own variables stay out, so that user code never sees the token; only the compute of
    a labeling round, which is ours, gets it. Among parameter servers the ranks of an attempt share
    a secret that is made from the token, and does not give it away.
    """
    plan = ready.plan
    local = len(slots(plan, role=env.role, index=env.index))
    kept = {name: value for name, value in base.items() if not name.startswith(OWN_PREFIXES)}
    given = {entry["name"]: entry["value"] for entry in env.program["estimator"].get("env", [])}
    own = {
        "RANK": str(slot.rank),
        "WORLD_SIZE": str(plan["world_size"]),
        "LOCAL_RANK": str(slot.local_rank),
        "LOCAL_WORLD_SIZE": str(local),
        "MASTER_ADDR": str(plan["master_host"] or "127.0.0.1"),
        "MASTER_PORT": str(plan["master_port"]),
        "PYTHONUNBUFFERED": "1",
        "QUINTILE_RUN": run_file,
        "QUINTILE_AGENT_PID": str(os.getpid()),
        "QUINTILE_HPARAMS": json.dumps(
            {entry["name"]: entry["value"] for entry in env.program.get("hparams", [])}
        ),
    }
    one_machine = is_loopback(own["MASTER_ADDR"])
    own |= horovod.variables(env.mode, env.program, plan, slot.rank, one_machine=one_machine)
    for name, value in _interfaces(env.interface).items():
        if one_machine or name not in {**kept, **given}:
            own[name] = value
    if env.mode == layout.SERVERS:
        own["QUINTILE_TEAM_SECRET"] = team_secret(env.token)
    if env.program["estimator"].get("labelingRound"):
        own["QUINTILE_API_URL"] = env.api_url
        own["QUINTILE_TOKEN"] = env.token
    return {**kept, **given, **own}
