"""The chart `quintile`, rendered: safe pods, few rights, and values that all count."""

from __future__ import annotations

import itertools
import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from quintile_operator import preflight

ROOT = Path(__file__).resolve().parents[2]
CHART = ROOT / "charts" / "quintile"
HELM = shutil.which("helm")
FORBIDDEN_VERBS = {"escalate", "bind", "impersonate", "*"}

pytestmark = [
    pytest.mark.timeout(300),
    pytest.mark.skipif(
        HELM is None and not os.environ.get("CI"), reason="helm is not on PATH; install Helm 3.18+"
    ),
]

PEER = [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "edge"}}}]
RULE = [{"to": [{"ipBlock": {"cidr": "192.0.2.7/32"}}], "ports": [{"port": 5432}]}]
TRY: dict[str, Any] = {
    "projects": [{"namespace": "team-a", "secrets": ["wandb"]}, {"namespace": "team-b"}],
    "postgresql": {"enabled": True},
    "minio": {"enabled": True},
}
OWN: dict[str, Any] = {
    "projects": [{"namespace": "team-a"}],
    "database": {"existingSecret": "db", "egress": RULE},
    "s3": {"existingSecret": "store", "endpoint": "https://s3.example.com", "egress": RULE},
    "networkPolicies": {"ingressFrom": PEER},
    "publicUrl": "https://quintile.example.com",
    "ingress": {"enabled": True, "hosts": ["quintile.example.com"]},
    "gateway": {"enabled": True, "parentRefs": [{"name": "edge"}]},
    "monitoring": {"serviceMonitor": True, "rules": True, "dashboard": True},
    "api": {"replicas": 2},
    "labeling": {"replicas": 2},
}


def helm(*arguments: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
    assert HELM, "helm is not on PATH; install Helm 3.18+"
    command = [HELM, *arguments]
    return subprocess.run(command, input=stdin, capture_output=True, text=True, check=False)


def template(values: dict[str, Any], *, release: str = "quintile") -> str:
    found = helm(
        "template", release, str(CHART), "-n", "system", "-f", "-", stdin=json.dumps(values)
    )
    assert found.returncode == 0, found.stderr
    return found.stdout


def refusal(values: dict[str, Any]) -> str:
    found = helm("template", "quintile", str(CHART), "-f", "-", stdin=json.dumps(values))
    assert found.returncode != 0, "it was accepted"
    return found.stderr


def documents(values: dict[str, Any], *, release: str = "quintile") -> list[dict[str, Any]]:
    return [one for one in yaml.safe_load_all(template(values, release=release)) if one]


def merged(base: dict[str, Any], path: str, value: Any) -> dict[str, Any]:
    """Return ``base`` with one value changed."""
    name, _, rest = path.partition(".")
    below = base.get(name, {})
    return {**base, name: merged(below, rest, value) if rest else value}


def pods(found: list[dict[str, Any]]) -> Iterator[tuple[str, dict[str, Any]]]:
    for one in found:
        if one["kind"] in ("Deployment", "StatefulSet", "Job"):
            yield f"{one['kind']} {one['metadata']['name']}", one["spec"]["template"]["spec"]
        elif one["kind"] == "Pod":
            yield f"Pod {one['metadata']['name']}", one["spec"]


@pytest.fixture(scope="module", params=["namespace", "cluster"])
def rendered(request: pytest.FixtureRequest) -> list[dict[str, Any]]:
    return documents({**TRY, "scope": request.param}) + documents({**OWN, "scope": request.param})


def test_lint() -> None:
    for chart in ("quintile", "quintile-crds"):
        found = helm("lint", "--strict", str(CHART.parent / chart))
        assert found.returncode == 0, found.stdout


def test_pods_pass_restricted(rendered: list[dict[str, Any]]) -> None:
    seen = set()
    for name, spec in pods(rendered):
        seen.add(name)
        own = spec["securityContext"]
        assert own["runAsNonRoot"] is True and own["runAsUser"] > 0, name
        assert own["seccompProfile"] == {"type": "RuntimeDefault"}, name
        for container in spec["containers"] + spec.get("initContainers", []):
            security = container["securityContext"]
            assert security["allowPrivilegeEscalation"] is False, name
            assert security["readOnlyRootFilesystem"] is True, name
            assert security["capabilities"] == {"drop": ["ALL"]}, name
            assert container["resources"]["limits"]["memory"], name
        kinds = {kind for volume in spec["volumes"] for kind in volume if kind != "name"}
        assert kinds <= {"emptyDir", "secret", "configMap"}, name
        for key in ("hostNetwork", "hostPID", "hostIPC"):
            assert not spec.get(key), name
    assert len(seen) == 7, seen


def test_only_those_that_ask_kubernetes_hold_a_token(rendered: list[dict[str, Any]]) -> None:
    mounted = {name for name, spec in pods(rendered) if spec["automountServiceAccountToken"]}
    assert mounted == {
        "Deployment quintile-api",
        "Deployment quintile-labeling",
        "Deployment quintile-operator",
        "Job quintile-keys",
    }


def test_each_service_sees_its_own_keys_alone() -> None:
    seen = {
        name: {item["key"] for volume in spec["volumes"] for item in secret_items(volume)}
        for name, spec in pods(documents(TRY))
    }
    assert seen["Deployment quintile-operator"] == {"trial.pem", "service-token"}
    assert seen["Deployment quintile-labeling"] == {"trial-public.pem", "service-token"}
    assert "trial.pem" not in seen["Deployment quintile-api"]
    assert not seen["Pod quintile-check"]


def secret_items(volume: dict[str, Any]) -> list[dict[str, Any]]:
    items: list[dict[str, Any]] = volume.get("secret", {}).get("items", [])
    return items


def test_rights_are_few(rendered: list[dict[str, Any]]) -> None:
    roles = [one for one in rendered if one["kind"] in ("Role", "ClusterRole")]
    assert roles
    for role in roles:
        for rule in role["rules"]:
            assert not FORBIDDEN_VERBS & set(rule["verbs"]), role
            assert "*" not in rule["resources"] and "*" not in rule["apiGroups"], role
            if "secrets" in rule["resources"]:
                verbs = set(rule["verbs"])
                assert not verbs & {"list", "watch", "deletecollection"}, role
                assert "get" not in verbs or rule.get("resourceNames"), role


def test_the_api_writes_no_status_and_no_trials(rendered: list[dict[str, Any]]) -> None:
    for role in rendered:
        if role["kind"] in ("Role", "ClusterRole") and "operator" not in role["metadata"]["name"]:
            for rule in role["rules"]:
                assert not any("/status" in resource for resource in rule["resources"]), role
                if "trials" in rule["resources"]:
                    assert set(rule["verbs"]) <= {"get", "list", "watch"}, role


def granted(found: list[dict[str, Any]], part: str) -> set[tuple[str, str, str]]:
    """Return (group, resource, verb) of every right of a part."""
    return {
        (group, resource, verb)
        for role in found
        if role["kind"] in ("Role", "ClusterRole")
        and f"quintile-{part}" in role["metadata"]["name"]
        for rule in role["rules"]
        for group, resource, verb in itertools.product(
            rule["apiGroups"], rule["resources"], rule["verbs"]
        )
    }


def test_the_operator_gets_what_it_checks_for(rendered: list[dict[str, Any]]) -> None:
    needed = {
        (right.group, right.resource, verb) for right in preflight.RIGHTS for verb in right.verbs
    }
    given = granted(rendered, "operator")
    assert needed <= given
    beyond = {resource for _group, resource, _verb in given - needed}
    assert beyond <= {
        "experiments/finalizers",  # owner references where that admission plug-in is on
        "labelingjobs/finalizers",
        "trials/finalizers",
        "customresourcedefinitions",  # its revision
        "secrets",  # get, of the one that a project allows
    }


def test_scope_decides_where_rights_hold() -> None:
    def bound(values: dict[str, Any]) -> set[str]:
        return {
            one["metadata"]["namespace"]
            for one in documents(values)
            if one["kind"] == "RoleBinding"
        }

    assert bound(TRY) == {"team-a", "team-b", "system"}
    assert bound({**TRY, "scope": "cluster"}) == {"team-a", "system"}  # team-a: its one Secret


def test_policies_name_every_pod(rendered: list[dict[str, Any]]) -> None:
    policies = [one for one in rendered if one["kind"] == "NetworkPolicy"]
    for policy in policies:
        assert policy["spec"]["policyTypes"] == ["Ingress", "Egress"]
    chosen = {
        policy["spec"]["podSelector"]["matchLabels"].get("app.kubernetes.io/component")
        for policy in policies
    }
    parts = {"api", "labeling", "operator", "postgresql", "minio", "keys", "check"}
    assert chosen == parts | {None}  # None: the workers of a project


def test_workers_get_a_way_out() -> None:
    for one in documents(OWN):
        if one["kind"] == "Deployment" and one["metadata"]["name"] == "quintile-operator":
            env = {e["name"]: e for e in one["spec"]["template"]["spec"]["containers"][0]["env"]}
            egress = json.loads(env["QUINTILE_KUBERNETES__EGRESS"]["value"])
            assert RULE[0] in egress and len(egress) == 3
            return
    raise AssertionError("there is no operator")


def test_names_are_short() -> None:
    release = "a-release-with-quite-a-long-name-as-people-write"
    for one in documents({**TRY, **OWN}, release=release):
        name = one["metadata"]["name"]
        assert len(name) <= 63 or one["kind"].startswith("ClusterRole"), name
        assert all(len(str(v)) <= 63 for v in one["metadata"]["labels"].values())


@pytest.mark.parametrize("release", ["other", "quintile"])
def test_nothing_is_named_twice(release: str) -> None:
    keys = [
        (one["kind"], one["metadata"].get("namespace"), one["metadata"]["name"])
        for one in documents(TRY, release=release)
    ]
    assert len(keys) == len(set(keys))


def test_images_come_from_values() -> None:
    text = template({**TRY, "imageRegistry": "registry.example.com"})
    images = re.findall(r"image: (\S+)", text)
    assert images and all(image.startswith("registry.example.com/") for image in images)
    digest = "sha256:" + "0" * 64
    text = template({**TRY, "image": {"digest": digest}})
    assert f"quintile-control@{digest}" in text


def test_no_password_is_in_what_is_rendered(rendered: list[dict[str, Any]]) -> None:
    assert not [one for one in rendered if one["kind"] == "Secret"]


def test_settings_are_those_of_the_services(rendered: list[dict[str, Any]]) -> None:
    page = (ROOT / "docs" / "reference" / "settings.md").read_text(encoding="utf-8")
    known = set(re.findall(r"`(QUINTILE_\w+)`", page))
    for name, spec in pods(rendered):
        for variable in spec["containers"][0].get("env", []):
            if variable["name"].startswith("QUINTILE_"):
                assert variable["name"] in known, f"{name}: {variable['name']}"


WRONG = [
    ({"apo": {}}, "apo"),
    ({"api": {"replica": 2}}, "replica"),
    ({"api": {"replicas": "two"}}, "/api/replicas"),
    ({"api": {"replicas": -1}}, "/api/replicas"),
    ({"scope": "galaxy"}, "/scope"),
    ({"projects": ["team-a"]}, "/projects/0"),
    ({"projects": [{"name": "team-a"}]}, "namespace"),
    ({"projects": [{"namespace": "Team_A"}]}, "/projects/0/namespace"),
    ({"image": "quintile-control:dev"}, "/image"),
    ({"image": {"digest": "sha256:short"}}, "/image/digest"),
    ({"image": {"pullPolicy": "Sometimes"}}, "/image/pullPolicy"),
    ({"s3": {"endpoint": "s3.example.com"}}, "/s3/endpoint"),
    ({"publicUrl": "https://quintile.example.com/path"}, "/publicUrl"),
    ({"logs": {"level": "loud"}}, "/logs/level"),
    ({"workers": {"scratchGiB": 0}}, "/workers/scratchGiB"),
    ({"workers": {"user": 0}}, "/workers/user"),
    ({"networkPolicies": {"enabled": "yes"}}, "/networkPolicies/enabled"),
    (
        {"networkPolicies": {"kubernetesApi": {"ports": [0]}}},
        "/networkPolicies/kubernetesApi/ports",
    ),
    ({"nameOverride": "Quintile!"}, "/nameOverride"),
    ({"monitoring": {"labels": {"a": 1}}}, "/monitoring/labels/a"),
]


@pytest.mark.parametrize(("values", "words"), WRONG, ids=[words for _values, words in WRONG])
def test_the_schema_names_what_is_wrong(values: dict[str, Any], words: str) -> None:
    assert words in refusal({**TRY, **values})


MISSING = [
    ("database.existingSecret", ""),
    ("database.egress", []),
    ("s3.existingSecret", ""),
    ("s3.endpoint", ""),
    ("s3.egress", []),
    ("ingress.hosts", []),
    ("gateway.parentRefs", []),
    ("publicUrl", ""),
    ("networkPolicies.ingressFrom", []),
]


@pytest.mark.parametrize(("path", "empty"), MISSING, ids=[path for path, _empty in MISSING])
def test_what_is_missing_is_named(path: str, empty: Any) -> None:
    assert f"{path}: " in refusal(merged(OWN, path, empty))


def leaves(tree: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in tree.items():
        if isinstance(value, dict) and value and name not in ("resources", *PAIRS):
            yield from leaves(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


PAIRS = ("namespaceLabels", "podLabels", "dashboardLabels")
CHANGED: dict[str, Any] = {
    "scope": "cluster",
    "projects": [{"namespace": "another"}],
    "publicUrl": "https://another.example.com",
    "pullPolicy": "Always",
    "digest": "sha256:" + "1" * 64,
    "level": "debug",
    "format": "text",
    "serviceType": "NodePort",
    "endpoint": "https://another.example.com",
    "cidrs": ["203.0.113.0/24"],
    "ports": [8443],
    "hosts": ["another.example.com"],
    "hostnames": ["another.example.com"],
    "resources": {"limits": {"memory": "3Gi"}},
    "tolerations": [{"key": "another"}],
    "parentRefs": [{"name": "another"}],
    "ingressFrom": [{"podSelector": {}}],
    "metricsFrom": [{"podSelector": {}}],
    "egress": [{"to": [{"ipBlock": {"cidr": "203.0.113.0/24"}}]}],
    "affinity": {"nodeAffinity": {}},
}


def another(path: str, value: Any) -> Any:
    """Return a value other than the default, of the same kind."""
    name = path.rpartition(".")[2]
    if name in CHANGED:
        return CHANGED[name]
    if isinstance(value, bool):
        return not value
    if isinstance(value, int | float):
        return value + 3
    if isinstance(value, dict):
        return {"ANOTHER": "another"}
    return ["another"] if isinstance(value, list) else "another"


def changes(base: dict[str, Any], before: str, path: str, default: Any) -> bool:
    """Return whether another value renders something else."""
    value: Any = base
    for name in path.split("."):
        value = value.get(name, {}) if isinstance(value, dict) else {}
    values = merged(base, path, another(path, default if value == {} else value))
    found = helm(
        "template", "quintile", str(CHART), "-n", "system", "-f", "-", stdin=json.dumps(values)
    )
    return found.returncode == 0 and found.stdout != before


def test_every_value_has_an_effect() -> None:
    defaults = yaml.safe_load((CHART / "values.yaml").read_text(encoding="utf-8"))
    paths = list(leaves(defaults))
    assert len(paths) > 100
    bases = [(base, template(base)) for base in (OWN, TRY)]
    idle = [
        path
        for path, default in paths
        if not any(changes(base, before, path, default) for base, before in bases)
    ]
    assert not idle, f"nothing depends on {idle}"


def test_dashboard_and_alerts_name_figures_that_exist() -> None:
    sources = (
        "operator/quintile_operator",
        "api/quintile_api",
        "labeling-service/quintile_labeling",
    )
    folders = [*(ROOT / one for one in sources), ROOT / "quintile" / "adapters"]
    code = "\n".join(
        path.read_text(encoding="utf-8") for one in folders for path in sorted(one.glob("*.py"))
    )
    found = {(one["kind"], one["metadata"]["name"]): one for one in documents(OWN)}
    dashboard = found["ConfigMap", "quintile-dashboard"]["data"]["quintile.json"]
    panels = json.loads(dashboard)["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    rules = found["PrometheusRule", "quintile"]["spec"]["groups"][0]["rules"]
    asked = [target["expr"] for panel in panels for target in panel["targets"]]
    asked += [rule["expr"] for rule in rules]
    names = {name for text in asked for name in re.findall(r"quintile_([a-z_]+)", text)}
    assert len(names) > 8
    for name in names:
        plain = re.sub(r"_(total|bucket|sum|count)$", "", name)
        short = plain.removeprefix("operator_")
        assert f'"quintile_{plain}"' in code or f'"{short}"' in code, name
