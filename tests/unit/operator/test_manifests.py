"""The objects of an attempt: names, restricted pods, equal plans, nothing that depends on size."""

from __future__ import annotations

import base64
import dataclasses
import json
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quintile.core import errors, experiment, meta, names, plan, runplan
from quintile_operator.manifests import attempts, pods

LABEL = re.compile(r"^[a-z]([-a-z0-9]{0,61}[a-z0-9])?$")
UID = "0f8fad5b-d9cb-469f-a165-70867728950e"
EGRESS = ({"to": [{"ipBlock": {"cidr": "10.0.0.0/8"}}]},)
SITE = pods.PodSite(image="registry.example.com/trainer:1", egress=EGRESS)
RESTRICTED = {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}}

NAMES = st.from_regex(r"^[a-z]([-a-z0-9]{0,38}[a-z0-9])?$", fullmatch=True)
UIDS = st.uuids().map(str)


def attempt(
    *, workers: int = 2, servers: int = 0, name: str = "digits-t0-abcdef", **changes: Any
) -> runplan.RunPlan:
    shape: dict[str, Any] = {"workers": {"replicas": workers}, **changes.pop("run", {})}
    if servers:
        shape |= {"mode": "ps", "ps": {"replicas": servers}}
    template = {"estimator": {"builtin": {"model": "resnet8"}}, "run": shape, **changes}
    trial = experiment.Trial(
        metadata=meta.ObjectMeta(name=name, namespace="team", uid=UID),
        spec=experiment.TrialSpec.model_validate(
            {"experiment": "digits", "experimentUid": "e", "template": template}
        ),
    )
    site = {"api_url": "http://quintile-api:8420", "python": "python", "token": "the-token"}
    draft = plan.plan_trial(trial, attempt=1, hosts={}, **site)
    return plan.plan_trial(trial, attempt=1, hosts=attempts.addresses(draft), **site)


def jobs(run: runplan.RunPlan, site: pods.PodSite = SITE) -> list[meta.Document]:
    return [found for found in attempts.documents(run, site) if found["kind"] == "Job"]


def pod(run: runplan.RunPlan, site: pods.PodSite = SITE) -> meta.Document:
    found: meta.Document = jobs(run, site)[0]["spec"]["template"]
    return found


def container(run: runplan.RunPlan, site: pods.PodSite = SITE) -> meta.Document:
    found: meta.Document = pod(run, site)["spec"]["containers"][0]
    return found


@given(name=NAMES, uid=UIDS, number=st.integers(0, 999), count=st.integers(1, 99_999), other=UIDS)
def test_every_name_fits_and_tells_owners_apart(
    name: str, uid: str, number: int, count: int, other: str
) -> None:
    trial = names.trial(name, uid=uid, number=number)
    assert len(trial) <= 63
    for part in ("worker", "ps", attempts.SERVICE, attempts.SECRET, attempts.POLICY):
        for attempt_number in (None, count):
            own = names.cluster_child(trial, uid=uid, attempt=attempt_number, part=part)
            assert LABEL.match(own), own
            assert LABEL.match(f"{own}-1023")
            assert own.endswith(names.suffix(uid))
            foreign = names.cluster_child(trial, uid=other, attempt=attempt_number, part=part)
            assert (foreign == own) == (names.suffix(other) == names.suffix(uid))


@given(workers=st.integers(1, 50), servers=st.integers(0, 8))
def test_equal_plans_give_equal_bytes_and_size_adds_no_objects(workers: int, servers: int) -> None:
    run = attempt(workers=workers, servers=servers)
    first, second = (json.dumps(attempts.documents(run, SITE)) for _ in range(2))
    assert first == second
    kinds = [found["kind"] for found in attempts.documents(run, SITE)]
    roles = ["Job"] * (2 if servers else 1)
    assert kinds == ["Secret", "NetworkPolicy", "Service", *roles]
    assert [found["spec"]["completions"] for found in jobs(run)] == [
        workers,
        *([servers] if servers else []),
    ]


def test_pods_pass_restricted_field_by_field() -> None:
    spec = pod(attempt(run={"resources": {"cpu": "500m", "memory": "1Gi"}}))["spec"]
    assert spec["securityContext"] == {
        **RESTRICTED,
        "runAsUser": 65532,
        "runAsGroup": 65532,
        "fsGroup": 65532,
        "fsGroupChangePolicy": "OnRootMismatch",
    }
    assert spec["automountServiceAccountToken"] is False
    assert spec["serviceAccountName"] == "quintile-worker"
    assert spec["enableServiceLinks"] is False
    for host in ("hostNetwork", "hostPID", "hostIPC", "hostUsers", "initContainers"):
        assert host not in spec
    assert len(spec["containers"]) == 1
    assert spec["containers"][0]["securityContext"] == {
        **RESTRICTED,
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert all(set(volume) == {"name", "emptyDir"} for volume in spec["volumes"])
    assert all("sizeLimit" in volume["emptyDir"] for volume in spec["volumes"])
    mounts = {mount["mountPath"] for mount in spec["containers"][0]["volumeMounts"]}
    assert mounts == {pods.SCRATCH, "/tmp", "/dev/shm"}
    assert spec["volumes"][-1]["emptyDir"]["medium"] == "Memory"


def test_the_token_is_in_the_secret_alone() -> None:
    run = attempt()
    secret, *others = attempts.documents(run, SITE)
    assert base64.b64decode(secret["data"][pods.TOKEN]) == b"the-token"
    assert secret["immutable"] is True
    encoded = secret["data"][pods.TOKEN]
    for document in others:
        text = json.dumps(document)
        assert "the-token" not in text and encoded not in text
    given = {entry["name"]: entry for entry in container(run)["env"]}
    reference = given[pods.TOKEN]["valueFrom"]["secretKeyRef"]
    assert reference == {"name": secret["metadata"]["name"], "key": pods.TOKEN}


def test_everything_is_owned_by_the_trial() -> None:
    for document in attempts.documents(attempt(servers=1), SITE):
        (owner,) = document["metadata"]["ownerReferences"]
        assert (owner["kind"], owner["uid"], owner["controller"]) == ("Trial", UID, True)
        assert document["metadata"]["labels"]["quintile.dev/trial-uid"] == UID
        assert document["metadata"]["namespace"] == "team"


def test_a_pod_finds_its_index_and_its_name_by_itself() -> None:
    run = attempt(workers=3)
    order = [entry["name"] for entry in container(run)["env"]]
    assert order.index("QUINTILE_INDEX") < order.index("QUINTILE_HOST")
    given = {entry["name"]: entry for entry in container(run)["env"]}
    host = given["QUINTILE_HOST"]["value"]
    assert pod(run)["spec"]["subdomain"] == host.partition(".")[2]
    for replica in run.replicas:
        resolved = host.replace("$(QUINTILE_INDEX)", str(replica.index))
        assert resolved == dict(replica.env)["QUINTILE_HOST"]


def expanded(value: str, known: dict[str, str]) -> str:
    """What the kubelet makes of a value."""
    out, at = "", 0
    while at < len(value):
        if value[at] == "$" and at + 1 < len(value):
            if value[at + 1] == "$":
                out, at = out + "$", at + 2
                continue
            end = value.find(")", at)
            if value[at + 1] == "(" and end > 0 and value[at + 2 : end] in known:
                out, at = out + known[value[at + 2 : end]], end + 1
                continue
        out, at = out + value[at], at + 1
    return out


@given(st.text(alphabet="$()QUINTLE_MODab", max_size=40))
def test_values_reach_agents_as_they_are(value: str) -> None:
    assert expanded(pods.literal(value), {"QUINTILE_MODE": "x", "Q": "y"}) == value


def test_the_job_of_a_fixed_attempt_makes_every_pod_once() -> None:
    spec = jobs(attempt())[0]["spec"]
    assert spec["backoffLimitPerIndex"] == 0
    assert spec["podReplacementPolicy"] == "Failed"
    assert spec["template"]["spec"]["restartPolicy"] == "Never"
    # Together with a limit per index, an ignored end would hold the deletion of a namespace.
    assert "podFailurePolicy" not in spec


def test_the_job_of_an_elastic_attempt_makes_lost_pods_again() -> None:
    run = dataclasses.replace(attempt(), elastic=True)
    found = attempts.documents(run, SITE)
    spec = next(entry for entry in found if entry["kind"] == "Job")["spec"]
    assert "backoffLimitPerIndex" not in spec
    rules = spec["podFailurePolicy"]["rules"]
    assert {rule["action"] for rule in rules} == {"Ignore"}
    assert rules[0]["onPodConditions"] == [{"type": "DisruptionTarget", "status": "True"}]
    assert rules[1]["onExitCodes"]["values"] == [75]
    secret = found[0]
    assert secret["immutable"] is False
    assert set(secret["data"]) > {pods.TOKEN, "QUINTILE_MEMBERS", "QUINTILE_PROGRAM"}
    own = spec["template"]["spec"]["containers"][0]
    assert own["envFrom"] == [{"secretRef": {"name": secret["metadata"]["name"]}}]
    fixed = {entry["name"] for entry in own["env"]}
    assert not fixed & (set(secret["data"]) - {pods.TOKEN})
    # A resize changes numbers and the Secret, never the template.
    larger = dataclasses.replace(attempt(workers=5), elastic=True)
    other = next(entry for entry in attempts.documents(larger, SITE) if entry["kind"] == "Job")
    assert other["spec"]["template"] == spec["template"]


def test_pods_reach_each_other_and_what_the_admin_allows() -> None:
    policy = attempts.documents(attempt(), SITE)[1]["spec"]
    own = {"podSelector": {"matchLabels": {"quintile.dev/trial-uid": UID}}}
    assert policy["podSelector"] == own["podSelector"]
    assert policy["policyTypes"] == ["Ingress", "Egress"]
    assert policy["ingress"] == [{"from": [own]}]
    assert policy["egress"] == [{"to": [own]}, *EGRESS]
    closed = dataclasses.replace(SITE, network_policies=False)
    assert "NetworkPolicy" not in [f["kind"] for f in attempts.documents(attempt(), closed)]


def test_what_a_run_names_is_a_limit_and_what_it_leaves_open_is_not() -> None:
    named = container(attempt(run={"resources": {"cpu": "2", "memory": "1Gi"}}))["resources"]
    assert named["limits"] == {"cpu": "2", "memory": str(2**30)} == named["requests"]
    assert "limits" not in container(attempt())["resources"]
    gpus = container(attempt(run={"useGpu": True, "resources": {"gpu": 2}}))["resources"]
    assert gpus["limits"] == {"nvidia.com/gpu": "2"}


def test_grace_leaves_time_to_deliver() -> None:
    run = attempt(checkpoint={"graceSeconds": 45})
    assert pod(run)["spec"]["terminationGracePeriodSeconds"] == 45 + pods.GRACE_MARGIN_S


def test_what_the_admin_sets_is_in_every_pod() -> None:
    site = dataclasses.replace(
        SITE,
        node_selector={"disk": "fast"},
        tolerations=({"key": "gpu", "operator": "Exists"},),
        priority_class="low",
        pull_secrets=("registry",),
    )
    spec = pod(attempt(), site)["spec"]
    assert spec["nodeSelector"] == {"disk": "fast"}
    assert spec["tolerations"] == [{"key": "gpu", "operator": "Exists"}]
    assert spec["priorityClassName"] == "low"
    assert spec["imagePullSecrets"] == [{"name": "registry"}]
    bare = pod(attempt())["spec"]
    assert not {"nodeSelector", "tolerations", "priorityClassName", "imagePullSecrets"} & set(bare)


def test_a_runtime_says_more_about_pods_than_the_site() -> None:
    site = dataclasses.replace(SITE, node_selector={"zone": "a", "disk": "slow"})
    wanted = runplan.Pod(
        image="registry.example.com/other@sha256:1",
        node_selector=(("disk", "fast"),),
        tolerations=('{"key": "gpu", "operator": "Exists"}',),
        priority_class="high",
        gpu_resource="example.com/gpu",
        shm_bytes=5,
    )
    run = attempt(run={"useGpu": True})
    spec = pod(dataclasses.replace(run, pod=wanted), site)["spec"]
    own = spec["containers"][0]
    assert own["image"] == wanted.image
    assert own["resources"]["limits"] == {"example.com/gpu": "1"}
    assert spec["nodeSelector"] == {"zone": "a", "disk": "fast"}
    assert spec["tolerations"] == [{"key": "gpu", "operator": "Exists"}]
    assert spec["priorityClassName"] == "high"
    assert spec["volumes"][-1]["emptyDir"]["sizeLimit"] == "5"
    assert pod(run, site)["spec"]["containers"][0]["image"] == SITE.image


def test_what_an_experiment_adds_is_in_the_pod_and_changes_nothing_of_ours() -> None:
    wanted = runplan.Pod(
        labels=(("quintile.dev/trial-uid", "of-another"), ("team", "vision")),
        annotations=(("example.com/note", "a"),),
        volumes=(
            '{"name": "volume-0", "emptyDir": {}}',
            '{"name": "secret-0", "secret": {"secretName": "cloud"}}',
        ),
        mounts=('{"name": "volume-0", "mountPath": "/data/a"}',),
        pull_secrets=("own", "registry"),
        variables_from=("wandb",),
    )
    site = dataclasses.replace(SITE, pull_secrets=("registry",))
    plain = pod(attempt(), site)
    made = pod(dataclasses.replace(attempt(), pod=wanted), site)
    labels = made["metadata"]["labels"]
    assert labels == {**plain["metadata"]["labels"], "team": "vision"}
    assert labels["quintile.dev/trial-uid"] == UID
    assert made["metadata"]["annotations"] == {"example.com/note": "a"}
    spec = made["spec"]
    assert spec["imagePullSecrets"] == [{"name": "registry"}, {"name": "own"}]
    assert spec["volumes"][0]["emptyDir"] == {"sizeLimit": str(SITE.scratch_bytes)}
    assert spec["volumes"][1]["secret"] == {"secretName": "cloud"}
    own, before = spec["containers"][0], plain["spec"]["containers"][0]
    assert own["volumeMounts"] == [
        {"name": "volume-0", "mountPath": "/data/a"},
        *before["volumeMounts"],
    ]
    assert own["envFrom"] == [{"secretRef": {"name": "wandb"}}]
    for name in ("env", "securityContext", "command"):
        assert own[name] == before[name]
    for name in ("serviceAccountName", "automountServiceAccountToken", "securityContext"):
        assert spec[name] == plain["spec"][name]


def test_the_secret_of_an_elastic_attempt_has_the_last_word() -> None:
    run = dataclasses.replace(attempt(), elastic=True, pod=runplan.Pod(variables_from=("wandb",)))
    names = [entry["secretRef"]["name"] for entry in container(run)["envFrom"]]
    assert names == ["wandb", attempts.secret(run)["metadata"]["name"]]


@pytest.mark.parametrize(
    ("changes", "field"),
    [({"image": ""}, "kubernetes.worker_image"), ({"egress": ()}, "kubernetes.egress")],
)
def test_a_site_that_cannot_work_is_refused(changes: dict[str, Any], field: str) -> None:
    with pytest.raises(errors.InvalidSpec) as caught:
        dataclasses.replace(SITE, **changes).check()
    assert caught.value.field == field and caught.value.hint


def test_replicas_that_differ_are_no_pods_of_one_template() -> None:
    run = attempt()
    odd = dataclasses.replace(run.replicas[1], memory_bytes=1)
    with pytest.raises(errors.InvalidSpec, match="differs from"):
        attempts.documents(dataclasses.replace(run, replicas=(run.replicas[0], odd)), SITE)
    with pytest.raises(errors.InvalidSpec, match="expected 0"):
        attempts.documents(dataclasses.replace(run, replicas=run.replicas[1:]), SITE)
