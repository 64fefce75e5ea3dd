"""What a runtime fills in and refuses."""

from __future__ import annotations

from typing import Any

import pytest

from quintile.core import admin_kinds, errors, experiment, runtimes


def runtime(**spec: Any) -> admin_kinds.ClusterRuntime:
    wanted = {"image": "registry.example.com/trainer@sha256:" + "0" * 64, **spec}
    return admin_kinds.ClusterRuntime.model_validate(
        {"metadata": {"name": "small"}, "spec": wanted}
    )


def spec(**run: Any) -> experiment.ExperimentSpec:
    return experiment.ExperimentSpec.model_validate({"estimator": {"builtin": {}}, "run": run})


def test_defaults_hold_where_the_user_said_nothing() -> None:
    rules = runtime(defaults={"cpu": "2", "memory": "4Gi", "gpu": 1})
    filled = runtimes.apply(spec(resources={"cpu": "500m"}), rules).run.resources
    assert (filled.cpu, filled.memory, filled.gpu) == ("500m", "4Gi", 0)
    filled = runtimes.apply(spec(useGpu=True), rules).run.resources
    assert (filled.cpu, filled.memory, filled.gpu) == ("2", "4Gi", 1)
    assert runtimes.apply(spec(), runtime()) == spec()


@pytest.mark.parametrize(
    ("run", "rules", "field"),
    [
        ({"mode": "mpi"}, {"modes": ["single", "ddp"]}, "spec.run.mode"),
        (
            {"resources": {"cpu": "4"}},
            {"limits": {"cpu": "3500m"}},
            "spec.run.resources.cpu",
        ),
        (
            {"resources": {"memory": "2Gi"}},
            {"limits": {"memory": "2047Mi"}},
            "spec.run.resources.memory",
        ),
        (
            {"useGpu": True, "resources": {"gpu": 2}},
            {"limits": {"gpu": 1}},
            "spec.run.resources.gpu",
        ),
    ],
)
def test_what_it_does_not_allow_is_refused_by_field(
    run: dict[str, Any], rules: dict[str, Any], field: str
) -> None:
    with pytest.raises(errors.InvalidSpec, match="small") as caught:
        runtimes.apply(spec(**run), runtime(**rules))
    assert caught.value.field == field


def test_auto_is_judged_by_what_it_becomes() -> None:
    many = spec(workers={"replicas": 2})
    runtimes.apply(many, runtime(modes=["ddp"]))
    with pytest.raises(errors.InvalidSpec, match="mode ddp"):
        runtimes.apply(many, runtime(modes=["single"]))


def test_a_digest_tells_runtimes_apart_by_what_they_say() -> None:
    assert runtimes.digest(runtime()) == runtimes.digest(runtime())
    assert runtimes.digest(runtime()) != runtimes.digest(runtime(shmSize="1Gi"))
