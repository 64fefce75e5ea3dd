"""What an Experiment may add to its pods: as much as its runtime allows, nothing without one."""

from __future__ import annotations

import json
from typing import Any

import pytest

from quintile.core import admin_kinds, errors, experiment, pod_overrides, pod_spec, runplan

ALLOWED: dict[str, Any] = {
    "labels": ["team"],
    "annotations": ["example.com/note"],
    "emptyDirs": True,
    "volumeClaims": ["images"],
    "imagePullSecrets": ["registry"],
}
WANTED: dict[str, Any] = {
    "labels": [{"name": "team", "value": "vision"}],
    "annotations": [{"name": "example.com/note", "value": "two words"}],
    "volumes": [
        {"name": "scratch", "emptyDir": {"sizeLimit": "20Gi"}},
        {"name": "images", "persistentVolumeClaim": {"claimName": "images", "readOnly": True}},
    ],
    "volumeMounts": [{"name": "images", "mountPath": "/data/images"}],
    "imagePullSecrets": [{"name": "registry"}],
}


def runtime(**spec: Any) -> admin_kinds.ClusterRuntime:
    wanted = {"image": "registry.example.com/trainer:1", **spec}
    return admin_kinds.ClusterRuntime.model_validate(
        {"metadata": {"name": "small"}, "spec": wanted}
    )


def spec(**fields: Any) -> experiment.ExperimentSpec:
    return experiment.ExperimentSpec.model_validate({"estimator": {"builtin": {}}, **fields})


def test_what_the_runtime_allows_is_added() -> None:
    wanted = spec(podOverrides=WANTED, image="registry.example.com/mine:2")
    pod_overrides.check(wanted, runtime(allowImage=True, allowOverrides=ALLOWED))
    made = pod_overrides.dress(runplan.Pod(image="registry.example.com/trainer:1"), wanted)
    assert made.image == "registry.example.com/mine:2"
    assert made.labels == (("team", "vision"),)
    assert made.annotations == (("example.com/note", "two words"),)
    assert made.pull_secrets == ("registry",)
    assert [json.loads(entry) for entry in made.volumes] == [
        {"name": "volume-0", "emptyDir": {"sizeLimit": "20Gi"}},
        {
            "name": "volume-1",
            "persistentVolumeClaim": {"claimName": "images", "readOnly": True},
        },
    ]
    assert [json.loads(entry) for entry in made.mounts] == [
        {"name": "volume-1", "mountPath": "/data/images", "readOnly": False}
    ]


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"image": "registry.example.com/mine:2"}, "spec.image"),
        *(
            ({"podOverrides": {name: WANTED[name]}}, f"spec.podOverrides.{name}")
            for name in ("labels", "annotations", "volumes", "imagePullSecrets")
        ),
    ],
)
def test_what_nothing_allows_is_refused_by_field(fields: dict[str, Any], field: str) -> None:
    for rules, words in (
        (None, "No runtime is named"),
        (runtime(), "Runtime small does not allow"),
        (runtime(allowOverrides={"labels": ["other"]}), "Runtime small does not allow"),
    ):
        with pytest.raises(errors.InvalidSpec, match=words) as caught:
            pod_overrides.check(spec(**fields), rules)
        assert caught.value.field == field
        assert caught.value.hint


def test_each_volume_claim_is_allowed_by_name() -> None:
    claim = {"name": "a", "persistentVolumeClaim": {"claimName": "theirs"}}
    rules = runtime(allowOverrides=ALLOWED)
    with pytest.raises(errors.InvalidSpec, match="theirs"):
        pod_overrides.check(spec(podOverrides={"volumes": [claim]}), rules)
    with pytest.raises(errors.InvalidSpec, match="emptyDir scratch"):
        wanted = spec(podOverrides={"volumes": WANTED["volumes"][:1]})
        pod_overrides.check(wanted, runtime(allowOverrides={**ALLOWED, "emptyDirs": False}))


def test_a_reserved_label_is_refused_even_if_a_runtime_allows_it() -> None:
    # As a runtime that is older than the rule against it.
    old = pod_spec.AllowedOverrides.model_construct(labels=["quintile.dev/trial-uid"])
    rules = runtime()
    rules = rules.model_copy(
        update={"spec": rules.spec.model_copy(update={"allow_overrides": old})}
    )
    label = {"name": "quintile.dev/trial-uid", "value": "of-another"}
    with pytest.raises(errors.InvalidSpec, match="trial-uid"):
        pod_overrides.check(spec(podOverrides={"labels": [label]}), rules)


def test_a_size_that_cannot_be_read_is_refused() -> None:
    volume = {"name": "scratch", "emptyDir": {"sizeLimit": "much"}}
    with pytest.raises(errors.InvalidSpec) as caught:
        wanted = spec(podOverrides={"volumes": [volume]})
        pod_overrides.check(wanted, runtime(allowOverrides=ALLOWED))
    assert caught.value.field.endswith("sizeLimit")


def test_secrets_are_variables_or_files() -> None:
    refs = [{"name": "wandb"}, {"name": "cloud", "mountPath": "/secrets/cloud"}]
    wanted = spec(secretRefs=refs)
    pod_overrides.check(wanted, None)
    made = pod_overrides.dress(runplan.Pod(), wanted)
    assert made.variables_from == ("wandb",)
    (volume,), (mount,) = made.volumes, made.mounts
    assert json.loads(volume) == {
        "name": "secret-0",
        "secret": {"secretName": "cloud", "defaultMode": 0o440},
    }
    assert json.loads(mount) == {
        "name": "secret-0",
        "mountPath": "/secrets/cloud",
        "readOnly": True,
    }


@pytest.mark.parametrize(
    ("name", "reserved"),
    [
        ("team", False),
        ("example.com/team", False),
        ("notkubernetes.io/team", False),
        ("example.com/kubernetes.io", False),
        ("kubernetes.io/team", True),
        ("batch.kubernetes.io/job-name", True),
        ("a.b.k8s.io/x", True),
        ("quintile.dev/trial-uid", True),
        ("job-name", True),
        ("controller-uid", True),
    ],
)
def test_names_of_ours_and_of_the_cluster_are_known(name: str, reserved: bool) -> None:
    assert pod_spec.is_reserved(name) is reserved
