"""What a rank was told by its agent, read once. The only reader of the environment in a rank.

Standard library only.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from quintile_trainer import layout

Json = dict[str, Any]


@dataclass(frozen=True)
class WorkerEnv:
    """One rank's place and work.

    ``program`` is the camelCase JSON of the plan, ``access`` the JSON of ``messages.DatasetAccess``
    (None without a dataset), ``workers`` the number that was submitted (it fixes the global batch),
    ``resume_dir`` a verified checkpoint or None. ``index`` counts the replicas of a ``role``,
    ``servers`` the parameter servers, and ``secret`` is what the ranks know each other by there.
    ``begun_s`` is when the run began, by the clock of this machine (0: it is not known).
    """

    rank: int
    world_size: int
    local_rank: int
    local_world_size: int
    master_host: str
    master_port: int
    mode: str
    trial_uid: str
    attempt: int
    generation: int
    workers: int
    ranks_on_host: int
    program: Json
    access: Json | None
    state: layout.StateFolder
    resume_dir: Path | None
    cache_dir: Path
    api_url: str
    token: str
    role: str = "worker"
    index: int = 0
    host: str = "127.0.0.1"
    servers: int = 0
    secret: str = ""
    begun_s: float = 0.0

    @property
    def folder(self) -> layout.GenerationFolder:
        """Return the paths of this generation."""
        return self.state.generation(self.generation)

    def manifest(self, *, step: int, epoch: int, cursor: int, metrics: Mapping[str, float]) -> Json:
        """Return ``messages.CheckpointManifest`` of a checkpoint of this rank, without files."""
        estimator = self.program["estimator"]
        blocks = [block for block in estimator.values() if isinstance(block, dict)]
        return {
            "format": 1,
            "trial_uid": self.trial_uid,
            "attempt": self.attempt,
            "generation": self.generation,
            "step": step,
            "epoch": epoch,
            "cursor": cursor,
            "world_size": self.world_size,
            "dataset_digest": self.access["digest"] if self.access else "",
            "code_sha256": next((block["bundle"] for block in blocks if "bundle" in block), ""),
            "metrics": dict(metrics),
        }

    @property
    def hparams(self) -> dict[str, str]:
        """Return the hyperparameters as they were written."""
        return {entry["name"]: entry["value"] for entry in self.program.get("hparams", [])}

    @property
    def run_spec(self) -> Json:
        """Return ``spec.run``; absent fields have their defaults there."""
        spec: Json = self.program.get("run", {})
        return spec

    @property
    def elastic(self) -> bool:
        """Return whether the number of workers may change while the run goes on."""
        return not {"min", "max"}.isdisjoint(self.run_spec.get("workers", {}))

    @property
    def checkpoint_every(self) -> int:
        """Return after how many steps state is saved."""
        return int(self.program.get("checkpoint", {}).get("everySteps", 500))

    @property
    def summary_every(self) -> int:
        """Return after how many steps metrics are reported."""
        return int(self.program.get("telemetry", {}).get("summaryEverySteps", 100))


def load(variables: Mapping[str, str] = os.environ) -> WorkerEnv:
    """Return what this rank was told.

    Raises:
        KeyError: A variable is missing: this process is no rank of an agent.
    """
    run = json.loads(Path(variables["QUINTILE_RUN"]).read_text())
    plan = run["plan"]
    return WorkerEnv(
        rank=int(variables["RANK"]),
        world_size=int(variables["WORLD_SIZE"]),
        local_rank=int(variables["LOCAL_RANK"]),
        local_world_size=int(variables["LOCAL_WORLD_SIZE"]),
        master_host=variables["MASTER_ADDR"],
        master_port=int(variables["MASTER_PORT"]),
        mode=run["mode"],
        trial_uid=run["trial_uid"],
        attempt=int(plan["attempt"]),
        generation=int(plan["generation"]),
        workers=int(run["workers"]),
        ranks_on_host=int(run["ranks_on_host"]),
        program=run["program"],
        access=run["access"],
        state=layout.StateFolder(Path(run["state_dir"])),
        resume_dir=Path(run["resume_dir"]) if run["resume_dir"] else None,
        cache_dir=Path(run["cache_dir"]),
        api_url=variables.get("QUINTILE_API_URL", ""),
        token=variables.get("QUINTILE_TOKEN", ""),
        role=run.get("role", "worker"),
        index=int(run.get("index", 0)),
        host=run.get("host", "127.0.0.1"),
        servers=int(run.get("servers", 0)),
        secret=variables.get("QUINTILE_TEAM_SECRET", ""),
        begun_s=float(run.get("begun_s", 0.0)),
    )
