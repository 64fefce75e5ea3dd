"""What rank 0 leaves behind: model, its description, the report, event files. Appears whole."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import torch
from safetensors import torch as safetensors

from quintile_trainer import reporter, worker_env

MODEL = "model.safetensors"
MODEL_JSON = "model.json"
REPORT = "report.json"


def publish(
    env: worker_env.WorkerEnv,
    tensors: dict[str, torch.Tensor],
    *,
    about: dict[str, Any],
    report: dict[str, Any],
) -> Path:
    """Put the artifacts where the agent takes them; return the folder."""
    final = env.folder.artifacts
    temporary = final.with_name(".artifacts")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    (temporary / MODEL).write_bytes(safetensors.save(tensors))
    described = {**about, "parameters": sum(value.numel() for value in tensors.values())}
    (temporary / MODEL_JSON).write_text(json.dumps(described, indent=1, sort_keys=True))
    (temporary / REPORT).write_text(json.dumps(report, indent=1, sort_keys=True))
    for path in reporter.event_paths(env):
        shutil.copyfile(path, temporary / path.name)
    shutil.rmtree(final, ignore_errors=True)
    temporary.replace(final)
    return final
