"""What a rank is told, without an agent: for tests of the parts that run inside of ranks."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def variables(
    folder: Path,
    *,
    rank: int = 0,
    world_size: int = 1,
    generation: int = 1,
    program: Mapping[str, Any] | None = None,
    resume_dir: str = "",
) -> dict[str, str]:
    """Return the environment of a rank whose state folder is ``folder``; writes ``run.json``."""
    run = {
        "program": {"estimator": {"builtin": {}}, **(program or {})},
        "plan": {"attempt": 1, "generation": generation},
        "access": None,
        "resume_dir": resume_dir,
        "state_dir": str(folder),
        "cache_dir": str(folder / "cache"),
        "trial_uid": "trial-uid",
        "mode": "single" if world_size == 1 else "ddp",
        "workers": world_size,
        "ranks_on_host": world_size,
    }
    path = folder / f"g{generation}" / "run.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(run))
    return {
        "QUINTILE_RUN": str(path),
        "QUINTILE_AGENT_PID": str(os.getpid()),
        "RANK": str(rank),
        "WORLD_SIZE": str(world_size),
        "LOCAL_RANK": str(rank),
        "LOCAL_WORLD_SIZE": str(world_size),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": "0",
    }
