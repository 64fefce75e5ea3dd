"""Going on from the best checkpoint, and code that the workers could not open."""

from __future__ import annotations

import hashlib
import io
import json
import sys
import zipfile
from typing import Any

import pytest

from quintile.core import errors, meta
from quintile_api import bundle_checks

E = "/api/v1/projects/default/experiments"
BEST = {"start": "best"}


def suspend(world: Any, trial: Any) -> None:
    trial.end("Suspended")
    key = meta.Key("Experiment", "default", "digits")
    uid = world.resources.get(key)["metadata"]["uid"]
    world.resources.patch_status(key, {"phase": "Suspended"}, uid=uid)


def train(trial: Any, accuracies: dict[int, float]) -> Any:
    first, second = trial.agents()
    first.join()
    second.join()
    first.join()
    for step, accuracy in accuracies.items():
        first.evaluated = {"eval/accuracy": accuracy} if accuracy else {}
        first.checkpoint(step)
    return first


def steps(world: Any, trial: Any) -> list[int]:
    listed = world.admin().get(f"{trial.path}/checkpoints").json()["items"]
    return [one["step"] for one in listed]


def test_the_next_attempt_begins_at_the_best_checkpoint(world: Any, trial: Any) -> None:
    train(trial, {10: 0.5, 20: 0.75, 30: 0.25, 40: 0.0})
    assert steps(world, trial) == [40, 30, 20]
    suspend(world, trial)
    admin = world.admin()
    for _ in range(2):
        answer = admin.post(f"{E}/digits/resume", json=BEST)
        assert answer.status_code == 202, answer.text
        assert steps(world, trial) == [20]
    assert admin.get(f"{E}/digits").json()["spec"].get("suspend", False) is False
    again, other = trial.agents(attempt=2, boot="b")
    again.join()
    plan = other.join()["plan"]
    assert plan["resume"]["step"] == 20
    left = {info.key for info in world.objects.list("ckpt/")}
    assert all("/step-20/" in key for key in left)
    assert left


def test_a_live_or_unevaluated_trial_has_no_best_to_go_back_to(world: Any, trial: Any) -> None:
    train(trial, {10: 0.0})
    admin = world.admin()
    answer = admin.post(f"{E}/digits/resume", json=BEST)
    assert (answer.status_code, "not suspended" in answer.json()["detail"]) == (409, True)
    suspend(world, trial)
    answer = admin.post(f"{E}/digits/resume", json=BEST)
    assert (answer.status_code, "evaluated" in answer.json()["detail"]) == (409, True)
    assert steps(world, trial) == [10]
    assert admin.post(f"{E}/digits/resume", json={"start": "worst"}).status_code == 422
    assert admin.post(f"{E}/digits/resume").status_code == 202


def test_a_damaged_best_checkpoint_costs_nothing(world: Any, trial: Any) -> None:
    train(trial, {10: 0.9, 20: 0.5})
    suspend(world, trial)
    stored = [info.key for info in world.objects.list(f"ckpt/{trial.uid}/1-1/step-10/")]
    world.objects.delete(next(key for key in stored if key.endswith(".safetensors")))
    answer = world.admin().post(f"{E}/digits/resume", json=BEST)
    assert (answer.status_code, "damaged" in answer.json()["detail"]) == (409, True)
    assert steps(world, trial) == [20, 10]


def bundle(header: Any) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("functions.pkl", b"")
        if header is not None:
            archive.writestr("header.json", json.dumps(header))
    return buffer.getvalue()


def submit(world: Any, data: bytes) -> Any:
    digest = hashlib.sha256(data).hexdigest()
    admin = world.admin()
    assert admin.put(f"/api/v1/bundles/{digest}", content=data).status_code == 201
    spec = {"estimator": {"functions": {"bundle": digest}}}
    return admin.post(E, json={"name": "mine", "spec": spec})


def test_functions_of_another_python_are_refused_at_once(world: Any) -> None:
    mine = f"{sys.version_info.major}.{sys.version_info.minor}"
    answer = submit(world, bundle({"format": 1, "python": "3.9"}))
    assert answer.status_code == 422
    assert f"Python 3.9, and the workers run {mine}" in answer.json()["detail"]
    assert submit(world, bundle({"format": 1, "python": mine})).status_code == 201


@pytest.mark.parametrize("data", [b"no zip", bundle(None), bundle([1])])
def test_what_is_no_bundle_is_refused(world: Any, data: bytes) -> None:
    answer = submit(world, data)
    assert answer.status_code == 422
    assert "not one that the SDK makes" in answer.json()["detail"]


def test_a_header_without_an_end_is_not_read() -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("header.json", b" " * (bundle_checks.HEADER_LIMIT_BYTES + 1))
    with pytest.raises(errors.InvalidSpec, match="too long"):
        bundle_checks.header_of(buffer.getvalue())
