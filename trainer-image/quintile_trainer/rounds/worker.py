"""The shell around ``compute``: fetch manifest and features, upload outputs, hand in the result.

The server may die at any time: every call is idempotent and tried again until it answers or has
been away too long. An answer of 409 means that another attempt took over: this one leaves.
"""

from __future__ import annotations

import hashlib
import io
import time
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from quintile.core import errors, tasks
from quintile_trainer import failures, worker_env
from quintile_trainer.data import cache
from quintile_trainer.rounds import compute, pool, server


def run(env: worker_env.WorkerEnv) -> None:
    """Do the round that the program of this rank names.

    Raises:
        BadInput: The round's input cannot be used; the message says why.
        Broken: The platform refused, or stayed away for too long.
    """
    started_s = time.monotonic()
    labeling_round = env.program["estimator"]["labelingRound"]
    service = server.Server(env.api_url, env.token)
    path = f"/internal/labeling/{labeling_round['jobUid']}/rounds/{labeling_round['number']}"
    access = tasks.RoundAccess.model_validate(
        service.post(f"{path}/open", {"attempt": env.attempt})
    )
    files = cache.Cache(env.cache_dir)
    manifest = _manifest(files, access, labeling_round)
    try:
        outputs, outcome = _compute(env, files, access, manifest)
    except errors.InvalidSpec as error:
        raise failures.BadInput(
            f"round {manifest.number} of the labeling job cannot be computed: {error}"
        ) from error
    seconds = round(time.monotonic() - started_s, 3)
    result = _hand_in(service, access, manifest, outcome=outcome, outputs=outputs)
    result = result.model_copy(
        update={"attempt": env.attempt, "report": {**outcome.report, "seconds": seconds}}
    )
    service.post(f"{path}/result", result.model_dump(mode="json"))


def npz(arrays: Mapping[str, npt.NDArray[Any]]) -> bytes:
    """Return arrays as an uncompressed npz; equal arrays give equal bytes."""
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)  # type: ignore[arg-type]
    return buffer.getvalue()


def _manifest(
    files: cache.Cache, access: tasks.RoundAccess, labeling_round: Mapping[str, Any]
) -> tasks.RoundManifest:
    stored = files.fetch(access.manifest_url, access.manifest_sha256).read_bytes()
    manifest = tasks.RoundManifest.model_validate_json(stored)
    named = (labeling_round["jobUid"], labeling_round["number"], labeling_round["step"])
    if (manifest.job_uid, manifest.number, manifest.step) != named:
        raise failures.Broken(
            f"the manifest is of round {manifest.number} ({manifest.step}) of job "
            f"{manifest.job_uid}; expected round {named[1]} ({named[2]}) of job {named[0]}"
        )
    return manifest


def _compute(
    env: worker_env.WorkerEnv,
    files: cache.Cache,
    access: tasks.RoundAccess,
    manifest: tasks.RoundManifest,
) -> tuple[dict[str, bytes], compute.Outcome]:
    """Return the outcome, and the bytes of each output to upload by name."""
    if manifest.step == "embed":
        if env.access is None:
            raise failures.Broken("the round has no access to its dataset")
        ids, described = pool.describe(env.access, files, seed=manifest.seed)
        outcome = compute.embed(manifest, ids, described)
        return {"features": npz({"item_ids": ids, "features": described})}, outcome
    item_ids, features = _features(files, access, manifest)
    outcome = compute.STEPS[manifest.step](manifest, item_ids, features)
    named = (("predictions", outcome.predictions), ("scores", outcome.scores))
    return {name: npz(arrays) for name, arrays in named if arrays}, outcome


def _features(
    files: cache.Cache, access: tasks.RoundAccess, manifest: tasks.RoundManifest
) -> tuple[npt.NDArray[np.str_], compute.Features]:
    stored = files.fetch(access.features_url, manifest.features_sha256)
    with np.load(stored, allow_pickle=False) as arrays:
        return arrays["item_ids"], arrays["features"]


def _hand_in(
    service: server.Server,
    access: tasks.RoundAccess,
    manifest: tasks.RoundManifest,
    *,
    outcome: compute.Outcome,
    outputs: Mapping[str, bytes],
) -> tasks.RoundResult:
    """Upload the outputs; return the result that names them."""
    stored: dict[str, str] = {}
    for name, data in outputs.items():
        upload = access.uploads.get(name)
        if upload is None:
            raise failures.Broken(f"the round may not write its {name}; expected a place for it")
        service.put(upload.url, data)
        stored[f"{name}_key"] = upload.key
        stored[f"{name}_sha256"] = hashlib.sha256(data).hexdigest()
    return tasks.RoundResult(
        attempt=0,
        number=manifest.number,
        step=manifest.step,
        order=list(outcome.order),
        reasons=list(outcome.reasons),
        accepted=list(outcome.accepted),
        certificate=dict(outcome.certificate),
        model_sha256=outcome.model_sha256,
        **stored,
    )
